"""What is kept of a data set: sums per group of points, a sample, and what else is asked for.

Nothing in here grows with the number of points, and everything merges.  To keep one thing more is
one class with ``add`` and ``merge``, and one line in ``accumulators``.
"""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, NotFiniteError, ShapeError
from jacobians._kernels import PROCESSORS
from jacobians._kernels.sums import add_groups
from jacobians.sensitivities.groups import Keys, add_in_numpy
from jacobians.sensitivities.pieces import Piece

SAMPLE = 500  # points
LARGEST = 2.0**480  # squares beyond it, added up, leave the range of float64

Self = TypeVar("Self", bound="Accumulator")
_add_groups = add_groups if PROCESSORS else add_in_numpy


def accumulators(
    m: int, n: int, groups: int, count: int | None, *, subspace: bool, spectra: bool
) -> dict[str, Any]:
    """Return all that is kept of the Jacobians (m, n) of so many points, if that is known."""
    columns = Columns(groups, n + m, m * n, count)
    kept: dict[str, Accumulator] = {"columns": columns, "sample": Sampler()}
    if subspace:
        kept["JᵀJ"] = Gram(n)
    if spectra:
        kept["singular values"] = Spectra(min(m, n))
    return kept


class Accumulator:
    """What is grown by pieces, and merges with its like: field by field, as ``joins`` says."""

    joins: ClassVar[dict[str, Any]] = {}

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        raise NotImplementedError

    def merge(self: Self, other: Self) -> Self:
        """Return what is kept of the points of both."""
        merged = copy(self)
        for name, join in self.joins.items():
            setattr(merged, name, join(getattr(self, name), getattr(other, name)))
        return merged


class Columns(Accumulator):
    """Of every column ``v``, an input, an output or an entry of J: sums per group, and its ends.

    Summed are ``v - s`` and its square, with ``s`` the first value that was met: what is small
    about a large mean is not lost, and shifts can be exchanged when two of them merge.  The sums of
    groups stand in the order in which these came, and there is memory for as many as may come.
    """

    def __init__(self, groups: int, data: int, entries: int, count: int | None = None) -> None:
        self.data, self.count = data, 0  # columns before the entries; groups that hold points
        self.row = np.full(groups, -1, np.int8)  # of the sums of each group
        rows = groups if count is None else min(groups, count)
        self._reserve(rows, data + entries)
        self.low[:], self.high[:] = np.inf, -np.inf

    def _reserve(self, rows: int, columns: int) -> None:
        self.sizes, self._state = np.zeros(rows), np.zeros((3 + 2 * rows, columns))

    shift = property(lambda self: self._state[0], doc="What is subtracted, shape (columns,).")
    low = property(lambda self: self._state[1], doc="Smallest values, shape (columns,).")
    high = property(lambda self: self._state[2], doc="Largest values, shape (columns,).")

    @property
    def sums(self) -> Array:
        """Sums and sums of squares of groups, shape (groups, 2, columns)."""
        return self._state[3:].reshape(len(self.sizes), 2, -1)

    def _count(self, sizes: NDArray[Any]) -> None:
        """Count points by label; new groups get the rows behind the others."""
        labels = sizes.nonzero()[0]
        new = labels[self.row[labels] < 0]
        self.row[new] = np.arange(self.count, self.count + len(new))
        self.count += len(new)
        self.sizes[self.row[labels]] += sizes[labels]

    def add(self, piece: Piece) -> None:  # noqa: D102
        arrays = piece.x, piece.y, piece.J.reshape(len(piece.J), -1)
        if not self.count:
            np.concatenate([array[0] for array in arrays], out=self.shift)
        self._count(np.bincount(piece.labels))
        _add_groups(arrays, self.row[piece.labels], self._state)

    def check(self, where: str) -> None:
        """Refuse no points, and what is too large for its square."""
        if not self.count:
            raise ShapeError(f"{where}: X: expected points (B, n) with B > 0, but got none.")
        if -np.minimum.reduce(self.low) > LARGEST or np.maximum.reduce(self.high) > LARGEST:
            at = int(np.maximum(-self.low, self.high).argmax())
            what = "a derivative" if at >= self.data else "an input or output"
            raise NotFiniteError(f"{where}: the square of {what} leaves the range.")

    def merge(self, other: Columns) -> Columns:  # noqa: D102
        merged, step = copy(self), other.shift - self.shift
        merged._reserve(min(len(self.row), self.count + other.count), len(step))
        merged.row, used = self.row.copy(), 3 + 2 * self.count
        merged.sizes[: self.count] = self.sizes[: self.count]
        merged._state[:used] = self._state[:used]
        np.minimum(self.low, other.low, out=merged.low)
        np.maximum(self.high, other.high, out=merged.high)
        labels = (other.row >= 0).nonzero()[0]
        others = other.row[labels]
        (first, second), sizes = other.sums[others].swapaxes(0, 1), other.sizes[others]
        merged._count(np.bincount(labels, sizes))
        rows, moved = merged.row[labels], sizes[:, None] * step
        merged.sums[rows, 0] += first + moved
        merged.sums[rows, 1] += second + (2 * first + moved) * step
        return merged


class Sampler(Accumulator):
    """A random sample of the points, without replacement: those with the smallest keys."""

    joins: ClassVar = {"taken": lambda mine, theirs: _smallest([*mine, *theirs])}

    def __init__(self) -> None:
        self.taken: list[tuple[Keys, Array]] = []

    def add(self, piece: Piece) -> None:  # noqa: D102
        self.taken += _smallest([(piece.keys, piece.points)])
        if len(self.taken) > 2:
            self.taken = _smallest(self.taken)

    def smallest(self) -> tuple[Keys, Array]:
        """Return the sample in the order of its keys: keys (S,) and points (S, n_0)."""
        ((keys, points),) = _smallest(self.taken)
        order = np.argsort(keys, kind="stable")
        return keys[order], points[order]


def _smallest(taken: list[tuple[Keys, Array]]) -> list[tuple[Keys, Array]]:
    """Keep the points with the smallest keys."""
    keys, points = taken[0] if len(taken) == 1 else map(np.concatenate, zip(*taken, strict=True))
    if len(keys) <= SAMPLE:
        return [(keys, points.copy())]
    chosen = np.argpartition(keys, SAMPLE)[:SAMPLE]
    return [(keys.take(chosen), points.take(chosen, axis=0))]


class Gram(Accumulator):
    """The sum of ``JᵀJ``, in one symmetric product for all points and outputs of a piece."""

    joins: ClassVar = {"sum": np.add}

    def __init__(self, n: int) -> None:
        self.sum = np.zeros((n, n))

    def add(self, piece: Piece) -> None:  # noqa: D102
        rows = piece.J.reshape(-1, piece.J.shape[2]).astype(np.float64, copy=False)
        self.sum += rows.T @ rows


class Spectra(Accumulator):
    """Sum, smallest and largest of every singular value of J."""

    joins: ClassVar = {"sum": np.add, "low": np.minimum, "high": np.maximum}

    def __init__(self, count: int) -> None:
        self.sum, self.low = np.zeros(count), np.full(count, np.inf)
        self.high = np.zeros(count)

    def add(self, piece: Piece) -> None:  # noqa: D102
        values = singular_values(piece.J.astype(np.float64, copy=False))
        self.sum = self.sum + values.sum(axis=0)
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))


def singular_values(J: Array) -> Array:
    """Return the singular values of every Jacobian, (B, min(m, n)), the largest first."""
    if min(J.shape[1:]) == 1:
        return np.asarray(np.linalg.norm(J.reshape(len(J), -1), axis=1, keepdims=True))
    return np.linalg.svd(J, compute_uv=False)
