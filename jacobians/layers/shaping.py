"""Layers that choose, move and pad entries: their derivatives are selections.

Each states the ``index``: which entry of the flat input stands at each place of the flat output,
-1 for a zero.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import (
    Array,
    Indices,
    ShapeError,
    as_array,
    as_count,
    as_items,
    freeze,
)
from jacobians.layers.base import Layer, Shape, set_field


class Rearrangement(Layer):
    """A layer whose outputs are entries of its input, or zeros."""

    shape: Shape  # of the input it is bound to
    piecewise_linear: ClassVar[bool] = True

    @abstractmethod
    def rearrange(self, entries: Any) -> Any:
        """Rearrange an array that has the shape of the input; fill up with -1."""

    @cached_property
    def index(self) -> Indices:
        """For each entry of the flat output that of the flat input, -1 for a zero."""
        entries = np.arange(prod(self.shape)).reshape(self.shape)
        return freeze(self.rearrange(entries).ravel())

    def on(self, *shapes: Shape) -> Rearrangement:
        """Return the layer for a value of this shape."""
        return replace(self, shape=shapes[0])  # type: ignore[type-var]

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the rearranged value."""
        entries = np.arange(prod(shapes[0])).reshape(shapes[0])
        try:
            shape: Shape = self.rearrange(entries).shape
        except (ValueError, IndexError) as err:
            raise ShapeError(
                f"{self}: does not fit a value of shape {shapes[0]} ({err})."
            ) from None
        if 0 in shape:
            raise ShapeError(f"{self}: nothing is left of a value of shape {shapes[0]}.")
        return shape

    def preactivation(self, *values: Array) -> Array:
        """Return the entries in their new order."""
        z = values[0][..., self.index]
        if (self.index < 0).any():
            z[..., self.index < 0] = 0
        return z


@dataclass(frozen=True, eq=False, repr=False)
class Reshape(Rearrangement):
    """The same entries under other axes; ``Reshape((-1,))`` flattens.

    Parameters
    ----------
    new_shape : tuple of int
        One size may be -1.
    """

    new_shape: Shape
    shape: Shape = ()

    def __post_init__(self) -> None:
        sizes = tuple(
            as_count(n, "Reshape: new_shape", at_least=-1)
            for n in as_items(self.new_shape, "Reshape: new_shape")
        )
        set_field(self, "new_shape", sizes)

    def rearrange(self, entries: Any) -> Any:
        """Return the entries under other axes."""
        return entries.reshape(self.new_shape)

    def preactivation(self, *values: Array) -> Array:
        """Return the value: it is flat already."""
        return values[0]

    def __repr__(self) -> str:
        return f"Reshape to {self.new_shape}"


@dataclass(frozen=True, eq=False, repr=False)
class Permute(Rearrangement):
    """The axes in another order, as ``numpy.transpose`` does it.

    Parameters
    ----------
    axes : tuple of int
        Axis ``axes[i]`` of the value becomes axis i.
    """

    axes: tuple[int, ...]
    shape: Shape = ()

    def __post_init__(self) -> None:
        set_field(
            self,
            "axes",
            tuple(
                as_count(n, "Permute: axes", at_least=0)
                for n in as_items(self.axes, "Permute: axes")
            ),
        )

    def rearrange(self, entries: Any) -> Any:
        """Return the entries with their axes permuted."""
        return entries.transpose(self.axes)

    def __repr__(self) -> str:
        return f"Permute {self.axes}"


@dataclass(frozen=True, eq=False, repr=False)
class Slice(Rearrangement):
    """Entries ``start:stop:step`` along one axis.

    Parameters
    ----------
    start, stop : int or None
        As in a Python slice; None is the end of the axis.
    step : int
    axis : int
    """

    start: int | None
    stop: int | None
    step: int = 1
    axis: int = 0
    shape: Shape = ()

    def rearrange(self, entries: Any) -> Any:
        """Return the slice."""
        where = [slice(None)] * entries.ndim
        where[self.axis] = slice(self.start, self.stop, self.step)
        return entries[tuple(where)]

    def __repr__(self) -> str:
        start, stop = ("" if end is None else end for end in (self.start, self.stop))
        step = "" if self.step == 1 else f":{self.step}"
        return f"Slice {start}:{stop}{step} along axis {self.axis}"


@dataclass(frozen=True, eq=False, repr=False)
class Pad(Rearrangement):
    """Zeros in front of and behind the entries of every axis.

    Parameters
    ----------
    widths : sequence of (int, int)
        Before and after, for each axis of the value.
    """

    widths: tuple[tuple[int, int], ...]
    shape: Shape = ()

    def __post_init__(self) -> None:
        pairs = [as_items(pair, "Pad: widths") for pair in as_items(self.widths, "Pad: widths")]
        if any(len(pair) != 2 for pair in pairs):
            raise ShapeError(f"Pad: widths: expected pairs, but got {self.widths!r:.80}.")
        set_field(
            self, "widths", tuple(tuple(as_count(n, "Pad: widths", 0) for n in p) for p in pairs)
        )

    def rearrange(self, entries: Any) -> Any:
        """Return the entries with -1 around them."""
        if len(self.widths) != entries.ndim:
            raise ValueError(f"{len(self.widths)} pairs of widths for {entries.ndim} axes")
        return np.pad(entries, self.widths, constant_values=-1)

    def __repr__(self) -> str:
        return f"Pad {self.widths}"


@dataclass(frozen=True, eq=False, repr=False)
class Gather(Rearrangement):
    """Entries of the flattened value, by number: repeated, left out, in any order.

    Parameters
    ----------
    indices : array of int
        Entry numbers in C order, -1 for a zero; the result has the shape of this array.

    >>> Gather([2, 0]).on((3,))(np.array([1.0, 2.0, 3.0]))
    array([3., 1.])
    """

    indices: Indices
    shape: Shape = ()

    def __post_init__(self) -> None:
        indices = as_array(self.indices, "Gather: indices")
        if indices.dtype.kind not in "iu" or not indices.size:
            raise ShapeError(f"Gather: indices: expected whole numbers, but got {indices.dtype}.")
        if indices.min() < -1:
            raise ShapeError(f"Gather: indices: expected at least -1, but got {indices.min()}.")
        set_field(self, "indices", freeze(indices.astype(np.intp, copy=False)))

    def rearrange(self, entries: Any) -> Any:
        """Return the chosen entry numbers."""
        flat = np.append(entries.ravel(), -1)  # index -1 finds the zero
        if self.indices.max() >= entries.size:
            raise IndexError(f"entry {self.indices.max()} of {entries.size}")
        return flat[self.indices]

    def __repr__(self) -> str:
        return f"Gather {self.indices.size} entries"
