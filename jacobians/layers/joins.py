"""Joins: layers with two or more inputs, where branches of a network meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import ClassVar

import numpy as np

from jacobians._checks import Array, Indices, ShapeError, as_count
from jacobians.layers.base import Layer, Shape


class _Join(Layer):
    arity: ClassVar[int | None] = None


class _EntryByEntry(_Join):
    """A join of values of one shape."""

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape that all inputs have."""
        if len(set(shapes)) > 1:
            kind = type(self).__name__
            raise ShapeError(f"{kind}: takes inputs of one shape, but got {_spelled(shapes)}.")
        return shapes[0]


@dataclass(frozen=True, eq=False, repr=False)
class Add(_EntryByEntry):
    """The sum of its inputs: where a residual branch comes back.

    >>> Add()(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    array([11., 22.])
    """

    piecewise_linear: ClassVar[bool] = True

    def preactivation(self, *values: Array) -> Array:
        """Return ``a + b + ...``."""
        return reduce(np.add, values)


@dataclass(frozen=True, eq=False, repr=False)
class Multiply(_EntryByEntry):
    """The product of its inputs, entry by entry: a gate.

    >>> Multiply()(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    array([10., 40.])
    """

    def preactivation(self, *values: Array) -> Array:
        """Return ``a * b * ...``."""
        return reduce(np.multiply, values)


@dataclass(frozen=True, eq=False, repr=False)
class Concatenate(_Join):
    """Its inputs one after the other along an axis, the first unless said.

    Parameters
    ----------
    axis : int or None
        None flattens them first, so that values of any shapes go together.

    >>> Concatenate().on((2,), (1,))(np.array([1.0, 2.0]), np.array([3.0]))
    array([1., 2., 3.])
    """

    axis: int | None = 0
    shapes: tuple[Shape, ...] = ()

    piecewise_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.axis is not None:
            as_count(self.axis, "Concatenate: axis", at_least=-8)

    def on(self, *shapes: Shape) -> Concatenate:
        """Return the layer for inputs of these shapes."""
        return replace(self, shapes=shapes)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the common shape with the sizes along the axis added up."""
        if self.axis is None:
            return (sum(prod(shape) for shape in shapes),)
        first = shapes[0]
        fits = all(len(shape) == len(first) for shape in shapes)
        if not fits or not -len(first) <= self.axis < len(first):
            raise ShapeError(f"Concatenate(axis={self.axis}): got {_spelled(shapes)}.")
        axis = self.axis % len(first)
        rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        if len(rest) > 1:
            raise ShapeError(
                f"Concatenate: inputs may differ along axis {axis} alone, got {_spelled(shapes)}."
            )
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def preactivation(self, *values: Array) -> Array:
        """Return the values one after the other."""
        joined = np.concatenate(values, axis=-1)
        return joined[..., self.order] if self.axis else joined

    @property
    def order(self) -> Indices:
        """Where each entry of the result stands when all inputs are written one after the other."""
        sizes = [prod(shape) for shape in self.shapes]
        starts = np.cumsum([0, *sizes[:-1]])
        blocks = [
            np.arange(start, start + size).reshape(shape)
            for start, size, shape in zip(starts, sizes, self.shapes, strict=True)
        ]
        return np.concatenate(blocks, axis=self.axis).ravel()


@dataclass(frozen=True, eq=False, repr=False)
class MatrixProduct(_Join):
    """The matrix product ``A B`` of its two inputs, or ``A Bᵀ``: attention's scores and mixtures.

    Parameters
    ----------
    transpose_second : bool

    Inputs of shapes (..., p, q) and (..., q, r), or (..., r, q) transposed, give (..., p, r); axes
    in front (heads) must agree.

    >>> product = MatrixProduct().on((1, 2), (2, 1))
    >>> product(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    array([11.])
    """

    transpose_second: bool = False
    shapes: tuple[Shape, ...] = ()

    arity: ClassVar[int | None] = 2

    def on(self, *shapes: Shape) -> MatrixProduct:
        """Return the layer for inputs of these shapes."""
        return replace(self, shapes=shapes)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return ``(..., p, r)``."""
        A, B = shapes
        if len(A) < 2 or len(A) != len(B) or A[:-2] != B[:-2] or A[-1] != self._inner(B):
            raise ShapeError(f"{self!r}: the inputs do not fit: {_spelled(shapes)}.")
        return (*A[:-1], B[-2] if self.transpose_second else B[-1])

    def _inner(self, B: Shape) -> int:
        return B[-1] if self.transpose_second else B[-2]

    def matrices(self, *values: Array) -> tuple[Array, Array]:
        """Return A and B with their axes, shapes (..., heads, p, q) and (..., heads, q, r)."""
        A, B = (
            value.reshape(*value.shape[:-1], prod(shape[:-2]), *shape[-2:])
            for value, shape in zip(values, self.shapes, strict=True)
        )
        return A, np.swapaxes(B, -2, -1) if self.transpose_second else B

    def preactivation(self, *values: Array) -> Array:
        """Return ``A B``, flat."""
        A, B = self.matrices(*values)
        Z = A @ B
        return Z.reshape(*Z.shape[:-3], prod(Z.shape[-3:]))

    def __repr__(self) -> str:
        return f"MatrixProduct{' with second transposed' if self.transpose_second else ''}"


def _spelled(shapes: tuple[Shape, ...]) -> str:
    return " and ".join(str(shape) for shape in shapes)
