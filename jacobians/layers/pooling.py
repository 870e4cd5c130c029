"""Pools: the largest entry, or the mean, of every window of a channel.

Windows stand next to each other unless a stride is said.  Where two entries of a window are the
largest, a max-pool has a kink: its derivative there is a choice, the first of them in C order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import Array, Indices, Numbers, ShapeError
from jacobians._windows import Windows
from jacobians.layers.base import Layer, Shape


class _Pool(Layer):
    """What both pools share: windows over every channel of a value (c, *grid)."""

    size: Any
    stride: Any
    padding: Any
    dilation: Any = 1
    shape: Shape  # of the value it is bound to
    piecewise_linear: ClassVar[bool] = True

    @cached_property
    def windows(self) -> Windows:
        """Where the windows stand."""
        stride = self.size if self.stride is None else self.stride
        return Windows(self.shape[1:], self.size, stride, self.padding, self.dilation)

    def on(self, *shapes: Shape) -> _Pool:
        """Return the layer for a value of this shape."""
        return replace(self, shape=shapes[0])  # type: ignore[type-var]

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return ``(c, *positions)``."""
        (shape,) = shapes
        if len(shape) < 2:
            raise ShapeError(
                f"{self}: takes values of shape (channels, ...), but got {shape}. "
                "Network(..., inputs=shape) gives the input a shape, Reshape changes one."
            )
        try:
            windows = self.on(shape).windows
        except ShapeError as err:
            raise ShapeError(f"{self}: {err}") from None
        if (windows.index < 0).all(axis=0).any():
            raise ShapeError(f"{self}: a window over {shape} lies in the padding alone.")
        return (shape[0], *windows.positions)

    def images(self, a: Array) -> Array:
        """Return flat values (..., n) with their axes, (..., c, *grid)."""
        return a.reshape(*a.shape[:-1], *self.shape)

    def _flat(self, pooled: Numbers) -> Any:
        lead = pooled.shape[: pooled.ndim - len(self.shape)]
        return pooled.reshape(*lead, prod(pooled.shape[len(lead) :]))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.size)) if isinstance(self.size, tuple) else self.size
        return f"{type(self).__name__} {size}"


@dataclass(frozen=True, eq=False, repr=False)
class MaxPool(_Pool):
    """The largest entry of every window of a channel; padding never is the largest.

    Parameters
    ----------
    size : int or tuple of int
        One number for all axes, or one for each.
    stride : int or tuple of int, optional
        The size unless said.
    padding : int or tuple
        One number, or for each axis a number or a pair (before, after).
    dilation : int or tuple of int

    >>> MaxPool(2).on((1, 4))(np.array([1.0, 3.0, 2.0, 2.0]))
    array([3., 2.])
    """

    size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    shape: Shape = ()

    kinked: ClassVar[bool] = True

    def preactivation(self, *values: Array) -> Array:
        """Return the largest entries."""
        z: Array = self._flat(self._largest(self.images(values[0])))
        return z

    def _largest(self, images: Array) -> Array:
        lead = images.shape[: images.ndim - len(self.shape) + 1]
        best = np.full((*lead, *self.windows.positions), -np.inf, images.dtype)
        for at, where in self.windows.offsets:
            np.maximum(best[at], images[where], out=best[at])
        return best

    def chosen(self, a: Array) -> Indices:
        """Return which entry of a flat value is the largest of each window, the first if several.

        Returns
        -------
        array of int, shape (..., n_out)
        """
        images = self.images(a)
        largest = self._largest(images)
        entries = np.arange(prod(self.shape)).reshape(self.shape)
        chosen = np.empty(largest.shape, np.intp)
        for at, where in reversed(self.windows.offsets):  # the first one is written last
            same = images[where] == largest[at]
            np.copyto(chosen[at], entries[where], where=same)
        flat: Indices = self._flat(chosen)
        return flat

    def may_move(self, *moving: Array) -> Any:
        """Tell which windows hold an entry that moves."""
        return self.preactivation(*(m.astype(float) for m in moving)) > 0

    def kink_distance(self, *values: Array, live: tuple[Any, ...]) -> Array:
        """Return how much larger the largest entry is than any that could take its place."""
        images = self.images(values[0])
        alive = self.images(np.broadcast_to(live[0], values[0].shape))
        lead = images.shape[: images.ndim - len(self.shape) + 1]
        shape = (*lead, *self.windows.positions)
        first, second, moving = (np.full(shape, -np.inf, images.dtype) for _ in range(3))
        for at, where in self.windows.offsets:
            entry = images[where]
            second[at] = np.maximum(second[at], np.minimum(first[at], entry))
            first[at] = np.maximum(first[at], entry)
            moving[at] = np.maximum(moving[at], np.where(alive[where], entry, -np.inf))
        # two entries that do not move stay where they are, whichever is chosen
        distance: Array = self._flat(first - np.minimum(second, moving))
        return distance

    def bends(self, starts: Array, stops: Array) -> tuple[Indices, Array]:
        """Return where an entry overtakes the largest one: where lines of a window meet on top."""
        index = self.windows.index
        channels = (
            np.moveaxis(a.reshape(len(a), self.shape[0], -1), 0, 2) for a in (starts, stops)
        )
        lines = [np.where(index[..., None] < 0, -np.inf, a[:, index]) for a in channels]
        first = lines[0]  # of every channel, entry of the window, window and segment
        slope = np.where(index[..., None] < 0, 0.0, lines[1] - np.where(first == -np.inf, 0, first))
        top = first == first.max(axis=1, keepdims=True)
        on_top = np.where(top, slope, -np.inf).argmax(axis=1, keepdims=True)
        rows, shares = [np.zeros(0, np.intp)], [np.zeros(0)]
        while True:  # what overtakes is steeper each time, so there is an end
            height, rise = (np.take_along_axis(a, on_top, axis=1) for a in (first, slope))
            steeper = slope > rise
            meet = np.where(steeper, height - first, np.inf) / np.where(steeper, slope - rise, 1)
            share = meet.min(axis=1, keepdims=True)
            if not (share < 1).any():
                return np.concatenate(rows), np.concatenate(shares)
            *_, segment = np.nonzero(share < 1)
            rows, shares = [*rows, segment], [*shares, share[share < 1]]
            next_one = np.where(meet == share, slope, -np.inf).argmax(axis=1, keepdims=True)
            on_top = np.where(share < 1, next_one, on_top)


@dataclass(frozen=True, eq=False, repr=False)
class AveragePool(_Pool):
    """The mean of every window of a channel.

    Parameters
    ----------
    size, stride, padding
        As in ``MaxPool``.
    count_padding : bool
        Whether the zeros of the padding count as entries.

    >>> AveragePool(2).on((1, 4))(np.array([1.0, 3.0, 2.0, 2.0]))
    array([2., 2.])
    """

    size: Any
    stride: Any = None
    padding: Any = 0
    count_padding: bool = True
    shape: Shape = ()

    def weights(self, dtype: Any) -> Array:
        """Return one over the entries of every window, (n_out,)."""
        seen = (self.windows.index >= 0).sum(axis=0)
        entries = np.full_like(seen, len(self.windows.index)) if self.count_padding else seen
        return np.tile(1 / entries.astype(dtype), self.shape[0])

    def preactivation(self, *values: Array) -> Array:
        """Return the means."""
        images = self.images(values[0])
        lead = images.shape[: images.ndim - len(self.shape) + 1]
        total = np.zeros((*lead, *self.windows.positions), images.dtype)
        for at, where in self.windows.offsets:
            total[at] += images[where]
        means: Array = self._flat(total) * self.weights(images.dtype)
        return means
