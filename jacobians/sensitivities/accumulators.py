"""What is kept of a data set: one accumulator for each thing that is asked, with add and merge.

Nothing in here grows with the number of points, and everything merges.  To keep one thing more is
one class with ``add(piece)`` and ``merge(other)``, and one line in ``accumulators``.

Jacobians are many numbers.  What is asked entry by entry is therefore added in blocks of a few
outputs, which stay in the cache while all accumulators see them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from jacobians._checks import Array, NotFiniteError
from jacobians.sensitivities.groups import GroupSums, Keys, Runs

ENTRIES = 2**16  # of the Jacobians of a block
SAMPLE = 500  # points, fewer where their Jacobians would take more than this:
SAMPLE_BYTES = 16 * 2**20
LARGEST = 2.0**480  # squares beyond it, added up, leave the range of float64
WIDE = 512  # numbers in a row for which reductions along the points are quick

_Any = TypeVar("_Any", bound="Accumulator")


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


class Accumulator(Protocol):
    """What is grown by pieces, or by their blocks, and merges with its like."""

    blockwise: bool

    def add(self, piece: Piece) -> None:
        """Take some points in."""

    def merge(self: _Any, other: _Any) -> _Any:
        """Return that of the points of both."""


def accumulators(
    m: int, n: int, inputs: int, groups: int, *, subspace: bool, spectra: bool
) -> dict[str, Any]:
    """Return all that is kept of the Jacobians (m, n) of a network: the place for one thing more.

    Second derivatives, say the mean of ``|d²y/dx_j dx_k|``, would be a field of ``Piece`` and a
    line here.
    """
    kept: dict[str, Accumulator] = {
        "J": Moments(groups, m * n, "entries", blockwise=True),
        "|J|": Absolutes(groups, m * n),
        "range of J": Range(m * n, "entries", blockwise=True),
        "elasticity": Elasticity(m, n),
        "data": Moments(groups, n + m, "data", blockwise=False),
        "range of data": Range(n + m, "data", blockwise=False),
        "sample": Sampler(m, n, inputs),
    }
    if subspace:
        kept |= {"JᵀJ": Gram(n), "xxᵀ": Products(n)}
    if spectra:
        kept["singular values"] = Spectra()
    kept["sizes"] = GroupSizes(groups)
    return kept


def add(kept: Mapping[str, Accumulator], piece: Piece) -> None:
    """Hand a piece to all accumulators."""
    for block in piece.blocks():
        for accumulator in kept.values():
            if accumulator.blockwise:
                accumulator.add(block)
    for accumulator in kept.values():
        if not accumulator.blockwise:
            accumulator.add(piece)


# --- statistics with intervals: sums per group ----------------------------------------------------


class GroupSizes:
    """The number of points in each group, (G,)."""

    blockwise = False

    def __init__(self, groups: int) -> None:
        self.sizes = np.zeros(groups)

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        self.sizes[piece.runs.labels] += piece.runs.sizes

    def merge(self, other: GroupSizes) -> GroupSizes:
        """Return the sizes in both."""
        merged = deepcopy(self)
        merged.sizes += other.sizes
        return merged


class Moments:
    """Sums of every column ``v`` and of its square, per group.

    Both of ``v - s``, with ``s`` the first value that was met: what is small about a large mean is
    not lost, and shifts can be exchanged when two of them merge.
    """

    def __init__(self, groups: int, columns: int, of: str, *, blockwise: bool) -> None:
        self.of, self.blockwise = of, blockwise
        self.shift, self.sizes = np.zeros(columns), np.zeros(groups)
        self.first, self.second = GroupSums(groups, columns), GroupSums(groups, columns)

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        values, columns = getattr(piece, self.of), piece.columns
        if piece.first:
            self.shift[columns] = values[0]
        moved = values - self.shift[columns]
        self.first.add(moved, piece.runs, columns)
        moved *= moved
        self.second.add(moved, piece.runs, columns)
        if columns.start in (None, 0):  # once for all blocks
            self.sizes[piece.runs.labels] += piece.runs.sizes

    def merge(self, other: Moments) -> Moments:
        """Return the sums of both, about the shift of this one."""
        merged, step, n = deepcopy(self), other.shift - self.shift, other.sizes[:, None]
        first, second = other.first.value, other.second.value
        merged.sizes += other.sizes
        merged.first.value += first + n * step
        merged.second.value += second + (2 * first + n * step) * step
        return merged


class Absolutes:
    """The sums of ``|J|``, per group."""

    blockwise = True

    def __init__(self, groups: int, columns: int) -> None:
        self.sums = GroupSums(groups, columns)

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        self.sums.add(np.abs(piece.entries), piece.runs, piece.columns)

    def merge(self, other: Absolutes) -> Absolutes:
        """Return the sums of both."""
        merged = deepcopy(self)
        merged.sums.value += other.sums.value
        return merged


# --- statistics of all points ---------------------------------------------------------------------


class Range:
    """The smallest and the largest value of every column."""

    def __init__(self, columns: int, of: str, *, blockwise: bool) -> None:
        self.of, self.blockwise = of, blockwise
        self.low, self.high = np.empty(columns), np.empty(columns)

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        values, low, high = (
            getattr(piece, self.of),
            self.low[piece.columns],
            self.high[piece.columns],
        )
        least, most = _reduced(np.minimum, values), _reduced(np.maximum, values)
        if max(-least.min(), most.max()) > LARGEST:
            what = "a derivative" if self.of == "entries" else "an input or output"
            raise NotFiniteError(f"sensitivity: the square of {what} leaves the range.")
        if piece.first:
            low[:], high[:] = least, most
        else:
            np.minimum(low, least, out=low)
            np.maximum(high, most, out=high)

    def merge(self, other: Range) -> Range:
        """Return the range of both."""
        merged = deepcopy(self)
        merged.low, merged.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return merged


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


class Elasticity:
    """The sum of ``x_j/y_i dy_i/dx_j`` over the points where ``1/y_i`` exists."""

    blockwise = True

    def __init__(self, m: int, n: int) -> None:
        self.sum, self.undefined = np.zeros(m * n), np.zeros(m * n, np.int64)

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        n = piece.x.shape[1]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            inverse = 1 / piece.y
            wrong = ~np.isfinite(inverse)
            if wrong.any():
                inverse[wrong] = 0.0
                self.undefined[piece.columns] += np.repeat(wrong.sum(axis=0), n)
            ratios = (inverse[:, :, None] * piece.x[:, None, :]).reshape(len(inverse), -1)
            self.sum[piece.columns] += np.einsum("bq,bq->q", piece.entries, ratios)

    def merge(self, other: Elasticity) -> Elasticity:
        """Return the sums of both."""
        merged = deepcopy(self)
        merged.sum += other.sum
        merged.undefined += other.undefined
        return merged


class Gram:
    """The sum of ``JᵀJ``, in one symmetric product for all points and outputs of a piece."""

    blockwise = False

    def __init__(self, n: int) -> None:
        self.sum = np.zeros((n, n))

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        rows = piece.J.reshape(-1, piece.J.shape[2])
        self.sum += rows.T @ rows

    def merge(self, other: Gram) -> Gram:
        """Return the sum of both."""
        merged = deepcopy(self)
        merged.sum += other.sum
        return merged


class Products:
    """The sum of ``(x - mean) (x - mean)ᵀ``: which inputs go together in the data."""

    blockwise = False

    def __init__(self, n: int) -> None:
        self.count, self.mean, self.sum = 0, np.zeros(n), np.zeros((n, n))

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        mean = piece.x.mean(axis=0)
        moved = piece.x - mean
        self._join(len(moved), mean, moved.T @ moved)

    def merge(self, other: Products) -> Products:
        """Return the sum of both."""
        merged = deepcopy(self)
        merged._join(other.count, other.mean, other.sum)
        return merged

    def _join(self, count: int, mean: Array, products: Array) -> None:
        step, total = mean - self.mean, self.count + count
        self.sum += products + np.outer(step, step) * (self.count * count / max(total, 1))
        self.mean = self.mean + step * (count / max(total, 1))
        self.count = total


class Spectra:
    """Sum, smallest and largest of every singular value of J."""

    blockwise = False

    def __init__(self) -> None:
        self.count = 0
        self.sum, self.low, self.high = 0.0, np.inf, -np.inf

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        values = singular_values(piece.J)
        self._join(len(values), values.sum(axis=0), values.min(axis=0), values.max(axis=0))

    def merge(self, other: Spectra) -> Spectra:
        """Return that of both."""
        merged = deepcopy(self)
        merged._join(other.count, other.sum, other.low, other.high)
        return merged

    def _join(self, count: int, total: Any, low: Any, high: Any) -> None:
        self.count += count
        self.sum = self.sum + total
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)


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


class Sampler:
    """The points with the smallest keys, each at a place of its own, in no order."""

    blockwise = False

    def __init__(self, m: int, n: int, inputs: int) -> None:
        self.size, self.count = min(SAMPLE, max(1, SAMPLE_BYTES // (8 * m * n))), 0
        shapes = {"keys": (), "points": (inputs,), "x": (n,), "y": (m,), "J": (m, n)}
        self.arrays: dict[str, Any] = {
            name: np.empty((self.size, *shape), np.uint64 if name == "keys" else np.float64)
            for name, shape in shapes.items()
        }

    def add(self, piece: Piece) -> None:
        """Take some points in."""
        self._join(piece)

    def merge(self, other: Sampler) -> Sampler:
        """Return the sample of both."""
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
        """Make room again."""
        vars(self).update(state)
        for name, used in state["arrays"].items():
            self.arrays[name] = np.empty((self.size, *used.shape[1:]), used.dtype)
            self.arrays[name][: self.count] = used
