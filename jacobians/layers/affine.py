"""Dense, Scale and Elementwise: a matrix, a diagonal, the identity, each with an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import Array, ShapeError, as_count, as_floats, require_ndim, require_shape
from jacobians.activations import IDENTITY, AnyActivation, VectorActivation
from jacobians.activations import activation as as_activation
from jacobians.along import Along
from jacobians.layers.base import Layer, Shape, set_arrays, set_field


@dataclass(frozen=True, eq=False, repr=False)
class Dense(Layer):
    """``a_next = sigma(W a + b)``.

    On a value with axes of its own it acts on the last axis if that has ``n_in`` entries, row by
    row (tokens), and else on the flattened value.

    Parameters
    ----------
    W : array, shape (n_out, n_in)
        Rows are targets, columns are sources.
    b : array, shape (n_out,), optional
        A layer that is made without one has none: no parameter, and nothing is added.
    activation : str or Activation
        Identity unless said.  Softmax acts on each row.

    Raises
    ------
    ShapeError
        If ``W`` is not a matrix or ``b`` does not have one entry per row of it.

    >>> Dense([[1, 2], [3, 4], [5, 6]], [0, 0, -1], "relu")
    Dense 2 -> 3 relu
    >>> Dense([[1, 2], [3, 4], [5, 6]], [0, 0, -1], "relu")(np.array([1.0, -1.0]))
    array([0., 0., 0.])
    """

    W: Array
    b: Array | None
    activation: AnyActivation
    rows: int = 1  # of the value it acts on; 1 for a vector

    trained: ClassVar[tuple[str, ...]] = ("W", "b")
    piecewise_linear: ClassVar[bool] = True

    def __init__(
        self,
        W: Any,
        b: Any = None,
        activation: str | AnyActivation = IDENTITY,
        rows: int = 1,
    ) -> None:
        W = as_floats(W, "Dense: W")
        require_ndim(W, (2,), "Dense: W", "a matrix of shape (n_out, n_in)")
        if 0 in W.shape:
            raise ShapeError(f"Dense: W: a layer needs inputs and outputs, but got {W.shape}.")
        if b is not None:
            b = as_floats(b, "Dense: b")
            require_shape(b, W.shape[:1], "Dense: b", f"W of shape {W.shape} has one bias per row.")
        set_arrays(self, W=W, b=b)
        set_field(self, "activation", as_activation(activation))
        set_field(self, "rows", as_count(rows, "Dense: rows"))

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """Number of entries that go in."""
        return self.rows * int(self.W.shape[1])

    def on(self, *shapes: Shape) -> Dense:
        """Return the layer for a value of this shape: row by row, or flattened."""
        (shape,) = shapes
        m, n = self.W.shape
        if len(shape) == 1 or shape[-1] != n:
            return self
        bound = replace(self, rows=prod(shape[:-1]))
        if isinstance(self.activation, VectorActivation):
            set_field(bound, "activation", Along(self.activation, (*shape[:-1], m), -1))
        return bound

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return ``(..., n_out)``: only the last axis changes."""
        (shape,) = shapes
        m, n = self.W.shape
        return (*shape[:-1], m) if shape[-1] == n else (m,)

    def preactivation(self, *values: Array) -> Array:
        """Return ``W a + b``, for every row of every point of a batch."""
        (a,) = values
        if self.rows > 1:
            a = a.reshape(*a.shape[:-1], self.rows, self.W.shape[1])
        z: Array = a @ self.W.T
        if self.b is not None:
            z += self.b  # in place: a second large array costs more than the sum
        return z.reshape(*z.shape[:-2], self.rows * len(self.W)) if self.rows > 1 else z

    def __repr__(self) -> str:
        m, n = self.W.shape
        rows = f" on {self.rows} rows" if self.rows > 1 else ""
        return f"Dense {n} -> {m} {self.activation}{rows}"


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Layer):
    """``a_next = scale * a + shift``, entry by entry: standardisation, and its inverse.

    Parameters
    ----------
    scale, shift : array, shape (n,)
        ``shift`` is zero unless given.

    >>> Scale([0.5, 2.0], [1.0, 0.0])(np.array([4.0, 3.0]))
    array([3., 6.])
    """

    scale: Array
    shift: Array

    piecewise_linear: ClassVar[bool] = True

    def __init__(self, scale: Any, shift: Any = None) -> None:
        scale = as_floats(scale, "Scale: scale")
        require_ndim(scale, (1,), "Scale: scale", "one factor per entry, shape (n,)")
        if scale.size == 0:
            raise ShapeError("Scale: scale: a layer needs inputs, but got shape (0,).")
        shift = np.zeros_like(scale) if shift is None else as_floats(shift, "Scale: shift")
        require_shape(shift, scale.shape, "Scale: shift", "One per entry of scale.")
        set_arrays(self, scale=scale, shift=shift)

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """Length of ``scale``."""
        return len(self.scale)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape that comes in."""
        return shapes[0]

    def preactivation(self, *values: Array) -> Array:
        """Return ``scale * a + shift``."""
        (a,) = values
        return self.scale * a + self.shift

    def __repr__(self) -> str:
        return f"Scale {self.inputs}"


@dataclass(frozen=True, eq=False, repr=False)
class Elementwise(Layer):
    """``a_next = sigma(a)``: an activation on its own, softmax included.

    Parameters
    ----------
    activation : str or Activation
    axis : int, optional
        For softmax and log_softmax of a value with axes of its own: the axis they run along.
        The whole flattened value unless said.

    >>> Elementwise("relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    activation: AnyActivation
    axis: int | None = None

    piecewise_linear: ClassVar[bool] = True

    def __init__(self, activation: str | AnyActivation, axis: int | None = None) -> None:
        set_field(self, "activation", as_activation(activation))
        set_field(self, "axis", None if axis is None else as_count(axis, "Elementwise: axis", -8))

    def on(self, *shapes: Shape) -> Elementwise:
        """Return the layer for a value of this shape, along its axis."""
        if self.axis is None or not isinstance(self.activation, VectorActivation):
            return self
        return Elementwise(Along(self.activation, shapes[0], self.axis), self.axis)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape that comes in."""
        return shapes[0]

    def preactivation(self, *values: Array) -> Array:
        """Return ``a``."""
        return values[0]

    def __repr__(self) -> str:
        return f"Elementwise {self.activation}"
