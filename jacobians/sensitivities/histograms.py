"""Counts of positive numbers in bins of constant relative width: quantiles in bounded memory.

A bin holds the numbers that share their exponent and the first five bits of what follows, so it is
at most 1/32 wide, relative to what is in it, and its middle is within 1/64 of each of them.  Counts
of two histograms add up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jacobians._checks import Array

BINS = 32  # in each power of two
_ZERO = -(2**20)


@dataclass(frozen=True)
class Histogram:
    """Counts per bin, only of bins that hold something.

    >>> seen = Histogram().add(np.array([1.0, 2.0, 4.0, 1000.0]))
    >>> seen.count, seen.quantile(0.5)  # a bin of width 1/16, which holds 2
    (4, 2.03125)
    """

    counts: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many numbers."""
        return sum(self.counts.values())

    def add(self, numbers: Array) -> Histogram:
        """Return the histogram with more numbers, none of them negative."""
        mantissa, exponent = np.frexp(numbers)
        bins = exponent * BINS + np.floor((2 * mantissa - 1) * BINS).astype(np.int64)
        found, counts = np.unique(np.where(numbers > 0, bins, _ZERO), return_counts=True)
        return self.merge(Histogram(dict(zip(found.tolist(), counts.tolist(), strict=True))))

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of the numbers of both."""
        keys = sorted({*self.counts, *other.counts})
        return Histogram({k: self.counts.get(k, 0) + other.counts.get(k, 0) for k in keys})

    def quantile(self, share: float) -> float:
        """Return a number within 1/64, relatively, of the quantile (the lower one, of two)."""
        wanted, below = share * (self.count - 1), 0
        for key, count in sorted(self.counts.items()):
            below += count
            if below > wanted:
                return _middle(key)
        raise ValueError("Histogram.quantile: of no numbers.")

    def edges_and_counts(self) -> tuple[Array, Array]:
        """Return the edges of all bins from the first to the last that is not empty, and counts."""
        kept = sorted(key for key in self.counts if key != _ZERO)
        bins = np.arange(kept[0], kept[-1] + 1) if kept else np.arange(0)
        edges = np.array([_edge(int(key)) for key in [*bins, bins[-1] + 1]]) if kept else bins * 1.0
        return edges, np.array([float(self.counts.get(int(key), 0)) for key in bins])


def _edge(key: int) -> float:
    exponent, place = divmod(key, BINS)
    return float(np.ldexp((1 + place / BINS) / 2, exponent))


def _middle(key: int) -> float:
    return 0.0 if key == _ZERO else (_edge(key) + _edge(key + 1)) / 2
