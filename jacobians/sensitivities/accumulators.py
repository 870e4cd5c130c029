"""What is kept of a data set: one accumulator for each thing that is asked, with add and merge.

Nothing in here grows with the number of points, and everything merges.  To keep one thing more is
one class and one line in ``accumulators``: second derivatives, say the mean of ``|d²y/dx_j dx_k|``,
would be a field of ``Piece`` and the accumulator that reads it.

Jacobians are many numbers.  What is asked entry by entry is therefore added in blocks of a few
outputs, which stay in the cache while all accumulators see them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from jacobians._checks import Array, NotFiniteError
from jacobians.sensitivities.groups import Keys, Runs, add_runs

ENTRIES = 2**16  # of the Jacobians of a block
SAMPLE = 500  # points, fewer where their Jacobians would take more than this:
SAMPLE_BYTES = 16 * 2**20
LARGEST = 2.0**480  # squares beyond it, added up, leave the range of float64
WIDE = 512  # numbers in a row for which reductions along the points are quick

Self = TypeVar("Self", bound="Accumulator")


@dataclass(frozen=True, eq=False)
class Piece:
    """Some points with all that was computed at them, in float64, sorted by group."""

    points: Array  # (B, n_0): all inputs
    x: Array  # (B, n): the selected ones
    y: Array  # (B, k): the outputs of the block, all m of them in a whole piece
    J: Array  # (B, k, n)
    keys: Keys  # (B,)
    runs: Runs
    first: bool = False  # of all
    columns: slice = field(default_factory=lambda: slice(None))  # of all m n entries

    @property
    def entries(self) -> Array:
        """The Jacobians as rows, (B, k n)."""
        return self.J.reshape(len(self.J), -1)

    @property
    def data(self) -> Array:
        """Inputs and outputs, (B, n + m)."""
        return np.concatenate([self.x, self.y], axis=1)

    def blocks(self) -> Iterator[Piece]:
        """Cut it into blocks of outputs."""
        B, m, n = self.J.shape
        step = max(1, ENTRIES // (B * n))
        for i in range(0, m, step):
            rows, columns = slice(i, i + step), slice(i * n, min(i + step, m) * n)
            yield replace(self, y=self.y[:, rows], J=self.J[:, rows], columns=columns)


def accumulators(
    m: int, n: int, inputs: int, groups: int, *, subspace: bool, spectra: bool
) -> dict[str, Any]:
    """Return all that is kept of Jacobians (m, n): the place for one thing more."""
    kept: dict[str, Accumulator] = {
        "J": Moments(groups, m * n, "entries"),
        "|J|": Absolutes(groups, m * n),
        "range of J": Range(m * n, "entries"),
        "elasticity": Elasticity(m * n),
        "data": Moments(groups, n + m, "data"),
        "range of data": Range(n + m, "data"),
        "sample": Sampler(m, n, inputs),
        "sizes": GroupSizes(groups),
    }
    if subspace:
        kept |= {"JᵀJ": Gram(n), "xxᵀ": Products(n)}
    if spectra:
        kept["singular values"] = Spectra(min(m, n))
    return kept


def add(kept: Mapping[str, Accumulator], piece: Piece) -> None:
    """Hand a piece to all accumulators, block by block to those that look at single entries."""
    for block in piece.blocks():
        for accumulator in kept.values():
            if accumulator.of == "entries":
                accumulator.add(block)
    for accumulator in kept.values():
        if accumulator.of != "entries":
            accumulator.add(piece)


class Accumulator:
    """What is grown by pieces, and merges with its like: field by field, as ``joins`` says."""

    of = "piece"  # or the "entries" of the Jacobians, or the "data"
    joins: ClassVar[dict[str, np.ufunc]] = {}

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        raise NotImplementedError

    def merge(self: Self, other: Self) -> Self:
        """Return what is kept of the points of both."""
        merged = copy(self)
        for name, join in self.joins.items():
            setattr(merged, name, join(getattr(self, name), getattr(other, name)))
        return merged


# --- statistics with intervals: sums per group ----------------------------------------------------


class GroupSizes(Accumulator):
    """The number of points in each group, (G,)."""

    joins: ClassVar = {"sizes": np.add}

    def __init__(self, groups: int) -> None:
        self.sizes = np.zeros(groups)

    def add(self, piece: Piece) -> None:  # noqa: D102
        self.sizes[piece.runs.labels] += piece.runs.sizes


class Moments(Accumulator):
    """Sums of every column ``v`` and of its square, per group.

    Both of ``v - s``, with ``s`` the first value that was met: what is small about a large mean is
    not lost, and shifts can be exchanged when two of them merge.
    """

    joins: ClassVar = {"sizes": np.add}

    def __init__(self, groups: int, columns: int, of: str) -> None:
        self.of = of
        self.shift, self.sizes = np.zeros(columns), np.zeros((groups, 1))
        self.first, self.second = np.zeros((groups, columns)), np.zeros((groups, columns))

    def add(self, piece: Piece) -> None:  # noqa: D102
        values, runs, columns = getattr(piece, self.of), piece.runs, piece.columns
        if piece.first:
            self.shift[columns] = values[0]
        moved = values - self.shift[columns]
        add_runs(self.first, moved, runs, columns)
        moved *= moved
        add_runs(self.second, moved, runs, columns)
        if not columns.start:  # once for all blocks
            self.sizes[runs.labels, 0] += runs.sizes

    def merge(self, other: Moments) -> Moments:  # noqa: D102
        merged, step = super().merge(other), other.shift - self.shift
        merged.first = self.first + other.first + other.sizes * step
        merged.second = self.second + other.second
        merged.second += (2 * other.first + other.sizes * step) * step
        return merged


class Absolutes(Accumulator):
    """The sums of ``|J|``, per group."""

    of = "entries"
    joins: ClassVar = {"sums": np.add}

    def __init__(self, groups: int, columns: int) -> None:
        self.sums = np.zeros((groups, columns))

    def add(self, piece: Piece) -> None:  # noqa: D102
        add_runs(self.sums, np.abs(piece.entries), piece.runs, piece.columns)


# --- statistics of all points ---------------------------------------------------------------------


class Range(Accumulator):
    """The smallest and the largest value of every column."""

    joins: ClassVar = {"low": np.minimum, "high": np.maximum}

    def __init__(self, columns: int, of: str) -> None:
        self.of, self.low, self.high = of, np.empty(columns), np.empty(columns)

    def add(self, piece: Piece) -> None:  # noqa: D102
        values, columns = getattr(piece, self.of), piece.columns
        low, high = self.low[columns], self.high[columns]
        least, most = _reduced(np.minimum, values), _reduced(np.maximum, values)
        if max(-least.min(), most.max()) > LARGEST:
            what = "a derivative" if self.of == "entries" else "an input or output"
            raise NotFiniteError(f"sensitivity: the square of {what} leaves the range.")
        low[:] = least if piece.first else np.minimum(low, least)
        high[:] = most if piece.first else np.maximum(high, most)


def _reduced(extreme: np.ufunc, values: Array) -> Array:
    """Reduce along the points; several short rows at a time are quicker than one."""
    B, q = values.shape
    together = min(B, WIDE // q)
    if together < 2:
        return np.asarray(extreme.reduce(values, axis=0))
    even = B - B % together
    wide = extreme.reduce(values[:even].reshape(-1, together * q), axis=0).reshape(together, q)
    reduced: Array = extreme.reduce(np.concatenate([wide, values[even:]]), axis=0)
    return reduced


class Elasticity(Accumulator):
    """The sum of ``x_j/y_i dy_i/dx_j`` over the points where ``1/y_i`` exists."""

    of = "entries"
    joins: ClassVar = {"sum": np.add, "undefined": np.add}

    def __init__(self, columns: int) -> None:
        self.sum, self.undefined = np.zeros(columns), np.zeros(columns, np.int64)

    def add(self, piece: Piece) -> None:  # noqa: D102
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            inverse = 1 / piece.y
            wrong = ~np.isfinite(inverse)
            if wrong.any():
                inverse[wrong] = 0.0
                missing = np.repeat(wrong.sum(axis=0), piece.x.shape[1])
                self.undefined[piece.columns] += missing
            ratios = (inverse[:, :, None] * piece.x[:, None, :]).reshape(len(inverse), -1)
            self.sum[piece.columns] += np.einsum("bq,bq->q", piece.entries, ratios)


class Gram(Accumulator):
    """The sum of ``JᵀJ``, in one symmetric product for all points and outputs of a piece."""

    joins: ClassVar = {"sum": np.add}

    def __init__(self, n: int) -> None:
        self.sum = np.zeros((n, n))

    def add(self, piece: Piece) -> None:  # noqa: D102
        rows = piece.J.reshape(-1, piece.J.shape[2])
        self.sum += rows.T @ rows


class Products(Accumulator):
    """The sum of ``(x - mean) (x - mean)ᵀ``: which inputs go together in the data."""

    def __init__(self, n: int) -> None:
        self.count, self.mean, self.sum = 0, np.zeros(n), np.zeros((n, n))

    def add(self, piece: Piece) -> None:  # noqa: D102
        here = Products(len(self.mean))
        here.count, here.mean = len(piece.x), piece.x.sum(axis=0) / len(piece.x)
        moved = piece.x - here.mean
        here.sum = moved.T @ moved
        vars(self).update(vars(self.merge(here)))

    def merge(self, other: Products) -> Products:  # noqa: D102
        merged, step = copy(self), other.mean - self.mean
        merged.count = self.count + other.count
        share = other.count / merged.count
        merged.sum = self.sum + other.sum + np.outer(step, step) * (self.count * share)
        merged.mean = self.mean + step * share
        return merged


class Spectra(Accumulator):
    """Sum, smallest and largest of every singular value of J."""

    joins: ClassVar = {"sum": np.add, "low": np.minimum, "high": np.maximum}

    def __init__(self, count: int) -> None:
        self.sum, self.low = np.zeros(count), np.full(count, np.inf)
        self.high = np.zeros(count)

    def add(self, piece: Piece) -> None:  # noqa: D102
        values = singular_values(piece.J)
        self.sum = self.sum + values.sum(axis=0)
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))


def singular_values(J: Array) -> Array:
    """Return the singular values of every Jacobian, (B, min(m, n)), the largest first."""
    if min(J.shape[1:]) == 1:
        return np.asarray(np.linalg.norm(J.reshape(len(J), -1), axis=1, keepdims=True))
    return np.linalg.svd(J, compute_uv=False)


@dataclass(frozen=True, eq=False)
class Sample:
    """A random sample of the points, without replacement: those with the smallest keys.

    Attributes
    ----------
    keys : array of uint64, shape (S,)
    points : array, shape (S, n_0)
        All inputs.
    x, y, J : array, shape (S, n), (S, m), (S, m, n)
        The selected inputs and outputs, and their Jacobians.
    """

    keys: Keys
    points: Array
    x: Array
    y: Array
    J: Array


class Sampler(Accumulator):
    """The points with the smallest keys, each at a place of its own, in no order."""

    def __init__(self, m: int, n: int, inputs: int) -> None:
        self.size, self.count = min(SAMPLE, max(1, SAMPLE_BYTES // (8 * m * n))), 0
        shapes = {"keys": (), "points": (inputs,), "x": (n,), "y": (m,), "J": (m, n)}
        self.arrays: dict[str, Any] = {
            name: np.empty((self.size, *shape), np.uint64 if name == "keys" else np.float64)
            for name, shape in shapes.items()
        }

    def add(self, piece: Piece) -> None:  # noqa: D102
        self._join(piece)

    def merge(self, other: Sampler) -> Sampler:  # noqa: D102
        merged = deepcopy(self)
        merged._join(other.sample)
        return merged

    def _join(self, other: Piece | Sample) -> None:
        free = self.size - self.count
        if len(other.keys) <= free:  # all of them
            chosen: Any = slice(None)
            places: Any = slice(self.count, self.count + len(other.keys))
            self.count += len(other.keys)
        else:
            mine = self.arrays["keys"][: self.count]
            chosen = np.arange(len(other.keys))
            if not free:
                chosen = np.flatnonzero(other.keys < mine.max())
            order = np.argsort(np.concatenate([mine, other.keys[chosen]]), kind="stable")
            kept, gone = order[: self.size], order[self.size :]
            chosen = chosen[kept[kept >= self.count] - self.count]
            places = np.append(gone[gone < self.count], np.arange(self.count, self.size))
            self.count = self.size
        for name, array in self.arrays.items():
            array[places] = getattr(other, name)[chosen]

    @property
    def sample(self) -> Sample:
        """The sample in the order of its keys."""
        order = np.argsort(self.arrays["keys"][: self.count], kind="stable")
        return Sample(**{name: array[order] for name, array in self.arrays.items()})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the places that are free."""
        used = {name: array[: self.count].copy() for name, array in self.arrays.items()}
        return {**vars(self), "arrays": used}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Allocate what was left out."""
        vars(self).update(state)
        for name, used in state["arrays"].items():
            self.arrays[name] = np.empty((self.size, *used.shape[1:]), used.dtype)
            self.arrays[name][: self.count] = used
