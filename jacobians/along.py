"""A vector activation along one axis of a value that has several: softmax over keys, over channels.

A value of shape ``(t, d)`` is kept flat.  With the axis brought to the end it is a stack of rows,
every row goes through the activation, and the rows go back to where they came from.  The
derivative is therefore ``Pᵀ diag(D_1, ..., D_t) P`` with a permutation ``P``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, Places, ShapeError
from jacobians.activations import VectorActivation


@dataclass(frozen=True)
class Along:
    """``activation`` along ``axis`` of values of one shape, which are kept flat.

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

    activation: VectorActivation
    shape: tuple[int, ...]
    axis: int

    flat = False
    into_memory = ()
    kinks = ()

    def __post_init__(self) -> None:
        if not -len(self.shape) <= self.axis < len(self.shape):
            raise ShapeError(
                f"{self.activation}: a value of shape {self.shape} has no axis {self.axis}."
            )

    @property
    def name(self) -> str:
        """The activation's name."""
        return self.activation.name

    @property
    def parameters(self) -> tuple[tuple[str, float], ...]:
        """The activation's parameters."""
        return self.activation.parameters

    @property
    def slope_bound(self) -> float:
        """The activation's bound on the row sums of its derivative."""
        return self.activation.slope_bound

    @property
    def value_bound(self) -> float:
        """The activation's bound on its values."""
        return self.activation.value_bound

    @property
    def index(self) -> Places:
        """Where the entries of the rows, one row after the other, stand in the flat value."""
        places = np.arange(prod(self.shape)).reshape(self.shape)
        return np.moveaxis(places, self.axis, -1).ravel()

    def rows(self, z: Array) -> Array:
        """Return the rows of flat values (..., n), shape (..., count, length)."""
        return z[..., self.index].reshape(*z.shape[:-1], -1, self.shape[self.axis])

    def __call__(self, z: Any) -> Array:
        """Return the activation of flat values (..., n), flat again."""
        rows = self.activation(self.rows(np.asarray(z)))
        result = np.empty(np.shape(z), rows.dtype)
        result[..., self.index] = rows.reshape(*np.shape(z)[:-1], -1)
        return result

    def second_derivative(self, z: Any) -> Array:
        """Return that of every row, shape (..., count, length, length, length)."""
        return self.activation.second_derivative(self.rows(np.asarray(z)))

    def __str__(self) -> str:
        return f"{self.activation}(axis={self.axis})"
