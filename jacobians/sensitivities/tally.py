"""What is kept of a data set: sums, extremes, counts and a small random sample.

Nothing in here grows with the number of points, and everything merges: sums are exact
(``exact_sums``), extremes and counts are so by nature, and the sample holds the points with the
smallest random keys, so the sample of a whole is that of the samples of its shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, NotFiniteError
from jacobians.sensitivities.exact_sums import MOST_TERMS, ExactSum, two_product
from jacobians.sensitivities.histograms import Histogram

SAMPLE = 500  # points, fewer where their Jacobians would take more than this:
SAMPLE_BYTES = 32 * 2**20
LARGEST = 2.0**480  # squares beyond it, added up, leave the range of float64


@dataclass(frozen=True, eq=False)
class Piece:
    """Some points with all that was computed at them, in float64."""

    x: Array  # (B, n)
    y: Array  # (B, m)
    J: Array  # (B, m, n)
    keys: NDArray[np.uint64]  # (B,)
    weights: Array  # (R + 1, B)
    at_kink: int
    near_kink: int


@dataclass(frozen=True, eq=False)
class Sample:
    """A random sample of the points, without replacement: those with the smallest keys."""

    keys: NDArray[np.uint64]
    x: Array
    y: Array
    J: Array

    def merge(self, other: Sample, size: int) -> Sample:
        """Return the sample of both."""
        keys = np.concatenate([self.keys, other.keys])
        kept = np.argsort(keys, kind="stable")[:size]
        fields = ((self.x, other.x), (self.y, other.y), (self.J, other.J))
        x, y, J = (np.concatenate(both)[kept] for both in fields)
        return Sample(keys[kept], x, y, J)


@dataclass(frozen=True, eq=False)
class Tally:
    """All that is kept; made by ``empty``, grown by ``add`` and ``merge``.

    Attributes
    ----------
    count : int
        Number of points.
    totals : array, shape (R + 1,)
        Sum of the weights of each replicate; the first is ``count``.
    sums : dict of str to ExactSum
        Of ``J``, ``|J|``, ``J²``, ``x``, ``x²``, ``y``, ``y²`` with all weights; of ``x J / y``,
        ``JᵀJ`` (its upper triangle) and the singular values with weight 1.
    smallest, largest : array, shape (m, n)
        Of the derivatives.
    lowest, highest : array, shape (n,)
        Of the inputs.
    undefined : array of int, shape (m, n)
        Points without an elasticity: the output is 0 there, or so near that it leaves the range.
    norms : Histogram
        Of the largest singular value.
    singular_range : array, shape (2, k)
        Smallest and largest of each singular value.
    at_kink, near_kink : int
        Points with a unit at a kink, or near one.
    sample : Sample
    """

    count: int
    totals: Array
    sums: Mapping[str, ExactSum]
    smallest: Array
    largest: Array
    lowest: Array
    highest: Array
    undefined: NDArray[np.int64]
    norms: Histogram
    singular_range: Array
    at_kink: int
    near_kink: int
    sample: Sample

    @classmethod
    def empty(cls, m: int, n: int, replicates: int, subspace: bool, spectrum: bool) -> Tally:
        """Return the tally of no points."""
        k, triangle = min(m, n) if spectrum else 0, n * (n + 1) // 2 if subspace else 0
        columns = {"J": m * n, "|J|": m * n, "J²": m * n, "x": n, "x²": n, "y": m, "y²": m}
        plain = {"x J / y": m * n, "JᵀJ": triangle, "singular": k}
        sums = {name: ExactSum.empty(replicates + 1, q) for name, q in columns.items()}
        sums |= {name: ExactSum.empty(1, q) for name, q in plain.items()}
        none = Sample(np.zeros(0, np.uint64), *(np.zeros((0, *s)) for s in ((n,), (m,), (m, n))))
        inf = np.full((m, n), np.inf)
        ends = np.full(n, np.inf)
        return cls(
            count=0,
            totals=np.zeros(replicates + 1),
            sums=sums,
            smallest=inf,
            largest=-inf,
            lowest=ends,
            highest=-ends,
            undefined=np.zeros((m, n), np.int64),
            norms=Histogram(),
            singular_range=np.array([[np.inf], [-np.inf]]) * np.ones(k),
            at_kink=0,
            near_kink=0,
            sample=none,
        )

    def add(self, piece: Piece) -> Tally:
        """Return the tally with a piece added."""
        x, y, J = piece.x, piece.y, piece.J
        for values, what in ((J, "a derivative"), (x, "an input"), (y, "an output")):
            if np.abs(values).max(initial=0.0) > LARGEST:
                raise NotFiniteError(f"sensitivity: the square of {what} leaves the range.")
        with np.errstate(under="ignore"):  # what is below 1e-308 counts as 0
            return self._added(piece)

    def _added(self, piece: Piece) -> Tally:
        x, y, J = piece.x, piece.y, piece.J
        B, m, n = J.shape
        flat, once = J.reshape(B, m * n), np.ones((1, B))
        elasticity, undefined = _elasticity(x, y, J)
        singular = _singular_values(J) if self.singular_range.size else np.zeros((B, 0))
        weighted = {
            "J": [flat],
            "|J|": [np.abs(flat)],
            "J²": two_product(flat, flat),
            "x": [x],
            "x²": two_product(x, x),
            "y": [y],
            "y²": two_product(y, y),
        }
        plain = {"x J / y": elasticity.reshape(B, m * n), "singular": singular}
        sums = {name: self.sums[name].add(terms, piece.weights) for name, terms in weighted.items()}
        sums |= {name: self.sums[name].add([terms], once) for name, terms in plain.items()}
        sums["JᵀJ"] = _add_squares(self.sums["JᵀJ"], J)
        here = Sample(piece.keys, x, y, J)
        ends = np.stack([singular.min(axis=0), singular.max(axis=0)])
        return Tally(
            count=self.count + B,
            totals=self.totals + piece.weights.sum(axis=1),
            sums=sums,
            smallest=np.minimum(self.smallest, J.min(axis=0)),
            largest=np.maximum(self.largest, J.max(axis=0)),
            lowest=np.minimum(self.lowest, x.min(axis=0)),
            highest=np.maximum(self.highest, x.max(axis=0)),
            undefined=self.undefined + undefined,
            norms=self.norms.add(singular[:, :1].ravel()),
            singular_range=_wider(self.singular_range, ends),
            at_kink=self.at_kink + piece.at_kink,
            near_kink=self.near_kink + piece.near_kink,
            sample=self.sample.merge(here, _sample_size(m, n)),
        )

    def merge(self, other: Tally) -> Tally:
        """Return the tally of the points of both."""
        m, n = self.smallest.shape
        if self.count + other.count > MOST_TERMS:
            raise ValueError(f"merge: expected at most {MOST_TERMS:,} points in all.")
        return Tally(
            count=self.count + other.count,
            totals=self.totals + other.totals,
            sums={name: one.merge(other.sums[name]) for name, one in self.sums.items()},
            smallest=np.minimum(self.smallest, other.smallest),
            largest=np.maximum(self.largest, other.largest),
            lowest=np.minimum(self.lowest, other.lowest),
            highest=np.maximum(self.highest, other.highest),
            undefined=self.undefined + other.undefined,
            norms=self.norms.merge(other.norms),
            singular_range=_wider(self.singular_range, other.singular_range),
            at_kink=self.at_kink + other.at_kink,
            near_kink=self.near_kink + other.near_kink,
            sample=self.sample.merge(other.sample, _sample_size(m, n)),
        )


def _elasticity(x: Array, y: Array, J: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return ``x_j J_ij / y_i`` at every point, 0 where it is undefined, and how often that is."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        elasticity = x[:, None, :] * J / y[:, :, None]
    wrong = ~np.isfinite(elasticity)
    elasticity[wrong] = 0.0
    return elasticity, wrong.sum(axis=0)


def _singular_values(J: Array) -> Array:
    if min(J.shape[1:]) == 1:
        return np.asarray(np.linalg.norm(J.reshape(len(J), -1), axis=1, keepdims=True))
    return np.linalg.svd(J, compute_uv=False)


def _add_squares(sums: ExactSum, J: Array) -> ExactSum:
    """Add the upper triangles of ``JᵀJ``, a few points at a time."""
    B, m, n = J.shape
    if not sums.top.size:
        return sums
    above = np.triu(np.ones((n, n), bool))
    step = max(1, 2**22 // n**2)
    for start in range(0, B, step):
        part = J[start : start + step]
        # output by output: a matrix product would round differently in another piece
        squares = np.zeros((len(part), n, n))
        for i in range(m):
            squares += part[:, i, :, None] * part[:, i, None, :]
        sums = sums.add([squares[:, above]], np.ones((1, len(part))))
    return sums


def _wider(left: Array, right: Array) -> Array:
    return np.stack([np.minimum(left[0], right[0]), np.maximum(left[1], right[1])])


def _sample_size(m: int, n: int) -> int:
    return min(SAMPLE, max(1, SAMPLE_BYTES // (8 * m * n)))
