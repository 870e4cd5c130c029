"""Windows: where a kernel or a pool stands over the grid of a value, and what it sees there.

Along every axis, at position p, entry s of the window meets entry
``p stride - before + s dilation`` of the grid, or padding outside of it.  With the patches that are
seen side by side, one column for each position, a convolution is a matrix product; its transpose
moves the patches back and adds up what overlaps.

Values carry channels in front of the grid and columns behind it: (..., channels * grid, k).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, Frozen, Indices, ShapeError, as_count, freeze

# Patches repeat every entry as often as windows meet it, so they are made for some points at a
# time: this many entries stay in the cache.
PIECE = 2**18


@dataclass(frozen=True)
class Windows(Frozen):
    """A window of ``size`` at every position over a grid.

    Parameters
    ----------
    grid : tuple of int
        The axes of a value behind its channels.
    size, stride, dilation : int or tuple of int
        One number for all axes, or one for each.
    padding : int or tuple
        Zeros around the grid: one number, or for each axis a number or a pair (before, after).

    Raises
    ------
    ShapeError
        If the number of axes differs, or no window fits.

    >>> Windows((7, 5), (3, 2), stride=2, padding=((0, 1), 0)).positions
    (3, 2)
    """

    grid: tuple[int, ...]
    size: Any
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1

    def __post_init__(self) -> None:
        axes = len(self.grid)
        for name in ("size", "stride", "dilation"):
            object.__setattr__(self, name, counts(getattr(self, name), axes, name))
        object.__setattr__(self, "padding", pairs(self.padding, axes, "padding"))
        if min(self.positions, default=1) < 1:
            raise ShapeError(
                f"a window of size {self.size} (dilation {self.dilation}) does not fit into a grid "
                f"of {self.grid} with padding {self.padding}."
            )

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """How many positions the window has along each axis."""
        axes = zip(self.grid, self.size, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + sum(pad) - d * (s - 1) - 1) // step + 1 for n, s, step, pad, d in axes)

    @cached_property
    def offsets(self) -> tuple[tuple[Any, Any], ...]:
        """For each entry of the window: the positions at which it meets the grid, and where there.

        Both are indices into the last axes of an array.
        """
        return tuple(
            ((..., *(at for at, _ in axes)), (..., *(where for _, where in axes)))
            for entry in product(*map(range, self.size))
            for axes in [[self._meets(axis, s) for axis, s in enumerate(entry)]]
        )

    def _meets(self, axis: int, s: int) -> tuple[slice, slice]:
        step, shift = self.stride[axis], s * self.dilation[axis] - self.padding[axis][0]
        low = max(0, -(shift // step))
        high = min(self.positions[axis], (self.grid[axis] - 1 - shift) // step + 1)
        count = max(0, high - low)
        start = low * step + shift if count else 0
        return slice(low, low + count), slice(start, start + max(0, (count - 1) * step + 1), step)

    @cached_property
    def index(self) -> Indices:
        """The entry of the flat grid that each entry of the window meets, (entries, positions).

        -1 in the padding.
        """
        entries = np.arange(prod(self.grid)).reshape(self.grid)
        index = np.full((prod(self.size), *self.positions), -1, np.intp)
        for s, (seen, where) in enumerate(self.offsets):
            index[s][seen] = entries[where]
        return freeze(index.reshape(len(index), -1))

    def patches(self, values: Array) -> Array:
        """Return what every window sees: from (..., *grid, k) to (..., entries, *positions, k)."""
        *lead, k = values.shape[: -1 - len(self.grid)] + values.shape[-1:]
        padded = any(any(pair) for pair in self.padding)
        make = np.zeros if padded else np.empty
        seen = make((*lead, len(self.offsets), *self.positions, k), values.dtype)
        for entry, (at, where) in zip(self._by_entry(seen), self.offsets, strict=True):
            entry[(*at, slice(None))] = values[(*where, slice(None))]
        return seen

    def add_up(self, patches: Array, total: Array) -> None:
        """Add to ``total``, (..., *grid, k), what came from each entry: ``patches`` transposed."""
        for entry, (at, where) in zip(self._by_entry(patches), self.offsets, strict=True):
            total[(*where, slice(None))] += entry[(*at, slice(None))]

    def _by_entry(self, patches: Array) -> Array:
        return np.moveaxis(patches, -2 - len(self.grid), 0)


def counts(value: Any, axes: int, where: str, at_least: int = 1) -> tuple[int, ...]:
    """Return a whole number for each axis, from one for all of them or one for each."""
    return tuple(as_count(n, where, at_least) for n in _per_axis(value, axes, where))


def pairs(value: Any, axes: int, where: str) -> tuple[tuple[int, int], ...]:
    """Return (before, after) for each axis, from a number for all, or numbers or pairs for each."""
    return tuple(
        (before, after)
        for before, after in (counts(pair, 2, where, 0) for pair in _per_axis(value, axes, where))
    )


def _per_axis(value: Any, axes: int, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        return (value,) * axes
    if len(value) != axes:
        raise ShapeError(f"{where}: expected {axes} of them, but got {value}.")
    return tuple(value)


def correlate(kernel: Array, windows: Windows, groups: int, columns: Array) -> Array:
    """Return the cross-correlation of every column with a kernel.

    Parameters
    ----------
    kernel : array, shape (c_out, c_in / groups, *size)
    windows : Windows
    groups : int
    columns : array, shape (..., c_in * grid, k)

    Returns
    -------
    array, shape (..., c_out * positions, k)
    """
    if are_rows(columns):  # each column is contiguous: they are treated as points, and stay so
        rows = correlate(kernel, windows, groups, np.swapaxes(columns, -2, -1)[..., None])
        return np.swapaxes(rows[..., 0], -2, -1)
    *lead, _, k = columns.shape
    c_out, P = len(kernel), prod(windows.positions)
    K = kernel.reshape(groups, c_out // groups, -1)
    values = columns.reshape(-1, groups * kernel.shape[1], *windows.grid, k)
    result = np.empty((len(values), c_out, P, k), np.result_type(kernel, columns))
    for points, some in _pieces(len(values), k, kernel[0].size * groups * P):
        seen = windows.patches(values[points, ..., some])
        z = K @ seen.reshape(len(seen), groups, K.shape[2], -1)
        result[points, ..., some] = z.reshape(len(seen), c_out, P, -1)
    return result.reshape(*lead, c_out * P, k)


def spread(kernel: Array, windows: Windows, groups: int, columns: Array) -> Array:
    """Return the transpose of ``correlate``, the transposed convolution of every column.

    Parameters
    ----------
    kernel, windows, groups
        As there.
    columns : array, shape (..., c_out * positions, k)

    Returns
    -------
    array, shape (..., c_in * grid, k)
    """
    if are_rows(columns):  # each column is contiguous: they are treated as points, and stay so
        rows = spread(kernel, windows, groups, np.swapaxes(columns, -2, -1)[..., None])
        return np.swapaxes(rows[..., 0], -2, -1)
    *lead, _, k = columns.shape
    (c_out, c), P = kernel.shape[:2], prod(windows.positions)
    Kt = np.swapaxes(kernel.reshape(groups, c_out // groups, -1), 1, 2)
    deltas = columns.reshape(-1, groups, c_out // groups, P, k)
    shape = (len(deltas), groups * c, *windows.grid, k)
    result = np.zeros(shape, np.result_type(kernel, columns))
    for points, some in _pieces(len(deltas), k, kernel[0].size * groups * P):
        delta = deltas[points, ..., some]
        count, K = delta.shape[0], delta.shape[-1]
        seen = Kt @ delta.reshape(count, groups, c_out // groups, -1)
        seen = seen.reshape(count, groups * c, len(windows.offsets), *windows.positions, K)
        windows.add_up(seen, result[points, ..., some])
    return result.reshape(*lead, groups * c * prod(windows.grid), k)


def are_rows(columns: Array) -> bool:
    """Tell whether columns (..., n, k) lie in memory as rows: each of them contiguous."""
    return columns.shape[-1] > 1 and columns.strides[-1] > columns.strides[-2]


def moved(A: Array, axis: int, to: int) -> Array:
    """Do what ``np.moveaxis`` does, in a tenth of its time."""
    order = list(range(A.ndim))
    order.insert(to % A.ndim, order.pop(axis))
    return A.transpose(order)


def merged(columns: Array) -> Array:
    """Merge the two axes before the last, (..., p, q, k) to (..., p * q, k); rows stay rows."""
    *lead, p, q, k = columns.shape
    if are_rows(columns) and columns.strides[-3] != q * columns.strides[-2]:
        return moved(moved(columns, -1, 0).reshape(k, *lead, p * q), 0, -1)
    return columns.reshape(*lead, p * q, k)


def _pieces(points: int, columns: int, entries: int) -> Iterator[tuple[slice, slice]]:
    """Cut points, and columns if they are many, so that the patches of a piece stay small."""
    width = max(1, min(columns, PIECE // entries))
    count = max(1, PIECE // (entries * width)) if width == columns else 1
    for i in range(0, points, count):
        for j in range(0, columns, width):
            yield slice(i, i + count), slice(j, j + width)
