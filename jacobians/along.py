"""A vector activation along one axis of a value that has several: softmax over keys, over channels.

A value of shape ``(t, d)`` is kept flat.  With the axis brought to the end it is a stack of rows,
every row goes through the activation, and the rows go back to where they came from.  The
derivative is therefore ``Pᵀ diag(D_1, ..., D_t) P`` with a permutation ``P``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import Array, Indices, ShapeError
from jacobians.activations import SOFTMAX, VectorActivation


@dataclass(frozen=True, init=False, repr=False)
class Along(VectorActivation):
    """``activation`` along ``axis`` of values of one shape, which are kept flat.

    Its ``parts`` and ``second_derivative`` are those of every row: they have an axis of rows in
    front of the axes that the activation's own have.

    Parameters
    ----------
    activation : VectorActivation
    shape : tuple of int
        The value's own shape, the batch not counted.
    axis : int

    >>> from jacobians.activations import activation
    >>> Along(activation("softmax"), (2, 2), axis=0)(np.zeros(4))
    array([0.5, 0.5, 0.5, 0.5])
    """

    activation: VectorActivation = field(default=SOFTMAX)
    shape: tuple[int, ...] = ()
    axis: int = -1

    matrix: ClassVar[Any] = None  # its structure is what it is for: see ``activation_map``

    def __init__(self, activation: VectorActivation, shape: tuple[int, ...], axis: int) -> None:
        if not -len(shape) <= axis < len(shape):
            raise ShapeError(f"{activation}: a value of shape {shape} has no axis {axis}.")
        if isinstance(activation, Along):
            activation = activation.activation
        own = {name: getattr(activation, name) for name in activation.__dataclass_fields__}
        for name, value in {**own, "activation": activation, "shape": shape, "axis": axis}.items():
            object.__setattr__(self, name, value)

    @property
    def index(self) -> Indices:
        """Where the entries of the rows, one row after the other, stand in the flat value."""
        entries = np.arange(prod(self.shape)).reshape(self.shape)
        return np.moveaxis(entries, self.axis, -1).ravel()

    def rows(self, z: Array) -> Array:
        """Return the rows of flat values (..., n), shape (..., count, length)."""
        length = self.shape[self.axis]
        return z[..., self.index].reshape(*z.shape[:-1], z.shape[-1] // length, length)

    def __call__(self, z: Any) -> Array:
        """Return the activation of flat values (..., n), flat again."""
        rows = super().__call__(z)
        result = np.empty(np.shape(z), rows.dtype)
        result[..., self.index] = rows.reshape(np.shape(z))
        return result

    def second_parts(self, z: Any, c: Any) -> tuple[Array, Array, Array]:
        """Return ``(d, U, V)`` of every row."""
        return self.activation.second_parts(self.rows(np.asarray(z)), self.rows(np.asarray(c)))

    def _evaluate(self, formula: Callable[[Array], Any], z: Any) -> Any:
        return super()._evaluate(formula, self.rows(np.asarray(z)))

    def __str__(self) -> str:
        return f"{self.activation}(axis={self.axis})"
