"""What is kept of a data set: sums per group of points, a sample, and what else is asked for.

Nothing in here grows with the number of points, and everything merges.  To keep one thing more is
one class with ``add`` and ``merge``, and one line in ``accumulators``.

Jacobians are many numbers, and reading them takes longer than adding them.  They go by in blocks
that stay in the cache while everything that is kept of them is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from jacobians._checks import Array, NotFiniteError
from jacobians.sensitivities.groups import Keys, Runs, add_runs

ENTRIES = 2**16  # of a block
SAMPLE = 500  # points
LARGEST = 2.0**480  # squares beyond it, added up, leave the range of float64
WIDE = 512  # numbers in a row for which reductions along the points are quick

Self = TypeVar("Self", bound="Accumulator")


@dataclass(frozen=True, eq=False)
class Piece:
    """Some points with all that was computed at them, sorted by group."""

    points: Array  # (B, n_0): all inputs
    data: Array  # (B, n + m): selected inputs and outputs
    J: Array  # (B, m, n)
    keys: Keys  # (B,)
    runs: Runs

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Cut the columns, inputs, outputs and entries of J, into blocks of float64 numbers."""
        B, first = self.data.shape
        entries = self.J.reshape(B, -1)
        if self.data.size + entries.size <= ENTRIES:
            yield slice(None), np.concatenate([self.data, entries], axis=1, dtype=np.float64)
            return
        yield slice(first), np.asarray(self.data, np.float64)
        step = max(1, ENTRIES // B)
        for start in range(0, entries.shape[1], step):
            block = np.asarray(entries[:, start : start + step], np.float64)
            yield slice(first + start, first + start + block.shape[1]), block


def accumulators(
    m: int, n: int, inputs: int, groups: int, *, subspace: bool, spectra: bool
) -> dict[str, Any]:
    """Return all that is kept of Jacobians (m, n)."""
    kept: dict[str, Accumulator] = {
        "columns": Columns(groups, n + m, m * n),
        "sample": Sampler(inputs),
    }
    if subspace:
        kept["JᵀJ"] = Gram(n)
    if spectra:
        kept["singular values"] = Spectra(min(m, n))
    return kept


class Accumulator:
    """What is grown by pieces, and merges with its like: field by field, as ``joins`` says."""

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


class Columns(Accumulator):
    """Of every column ``v``, an input, an output or an entry of J: sums per group, and its ends.

    Summed are ``v - s`` and its square, with ``s`` the first value that was met: what is small
    about a large mean is not lost, and shifts can be exchanged when two of them merge.
    """

    joins: ClassVar = {"sizes": np.add, "low": np.minimum, "high": np.maximum}

    def __init__(self, groups: int, data: int, entries: int) -> None:
        columns = data + entries
        self.data, self.sizes = data, np.zeros(groups)
        self.shift, self.sums = np.zeros(columns), np.zeros((groups, 2, columns))
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)

    def add(self, piece: Piece) -> None:  # noqa: D102
        fresh, first = self.sizes[piece.runs.labels] == 0, not self.sizes.any()
        for columns, block in piece.blocks():
            low, high = self.low[columns], self.high[columns]
            np.minimum(low, _reduced(np.minimum, block), out=low)
            np.maximum(high, _reduced(np.maximum, block), out=high)
            if max(-low.min(), high.max()) > LARGEST:
                self._refuse()
            if first:
                self.shift[columns] = block[0]
            terms = np.empty((len(block), 2, block.shape[1]))
            moved = terms[:, 0]
            np.subtract(block, self.shift[columns], out=moved)
            np.multiply(moved, moved, out=terms[:, 1])
            add_runs(self.sums[:, :, columns], terms, piece.runs, fresh)
        self.sizes[piece.runs.labels] += piece.runs.sizes

    def _refuse(self) -> None:
        at = int(np.maximum(-self.low, self.high).argmax())
        what = "a derivative" if at >= self.data else "an input or output"
        raise NotFiniteError(f"sensitivity: the square of {what} leaves the range.")

    def merge(self, other: Columns) -> Columns:  # noqa: D102
        merged, step = super().merge(other), other.shift - self.shift
        merged.sums = self.sums + other.sums
        first, sizes = other.sums[:, 0], other.sizes[:, None]
        merged.sums[:, 0] += sizes * step
        merged.sums[:, 1] += (2 * first + sizes * step) * step
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


class Sampler(Accumulator):
    """A random sample of the points, without replacement: those with the smallest keys."""

    def __init__(self, inputs: int) -> None:
        self.keys: Keys = np.empty(0, np.uint64)
        self.points: Array = np.empty((0, inputs))

    def add(self, piece: Piece) -> None:  # noqa: D102
        self._join(piece.keys, piece.points)

    def merge(self, other: Sampler) -> Sampler:  # noqa: D102
        merged = copy(self)
        merged._join(other.keys, other.points)
        return merged

    def _join(self, keys: Keys, points: Array) -> None:
        if len(self.keys) == SAMPLE:
            smaller = keys < self.keys[-1]
            if not smaller.any():
                return
            keys, points = keys[smaller], points[smaller]
        chosen = np.argsort(keys)[:SAMPLE]
        keys, points = keys[chosen], points[chosen]
        if len(self.keys):
            keys, points = np.append(self.keys, keys), np.concatenate([self.points, points])
            chosen = np.argsort(keys, kind="stable")[:SAMPLE]
            keys, points = keys[chosen], points[chosen]
        self.keys, self.points = keys, points


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
