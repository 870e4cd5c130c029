"""Random groups of points, their sums, and the intervals that follow from them.

Every point falls into one of G groups at random: by a hash of its number, so that neither the order
of a data set nor rows that repeat have a say.  Only sums per group are kept.  To leave group g out
is a subtraction, and how far a statistic ``T`` moves then says how well it is known (the
delete-a-group jackknife)::

    se²  =  sum over g of (1 - n_g/N) (T_(g) - T)²,        n_g points in group g, N in all.

Every statistic is a function of means; how far these move is exact, and how far the statistic
follows is taken to first order.  For a mean the expectation of this is the variance of the mean,
whatever the sizes of the groups.  The interval is that of Student with
``N²/(sum of n_g²) - 1`` degrees of freedom, 63 for many points in 64 groups; for statistics that
are positive it is taken of the logarithm.  It needs one pass, no replicates, and merges over
shards.  (P. S. Kott, "The delete-a-group jackknife", Journal of Official Statistics 17, 2001;
J. Shao and D. Tu, *The Jackknife and Bootstrap*, 1995.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, Places

Keys: TypeAlias = NDArray[np.uint64]
SHORT = 64  # columns up to which ufuncs are quick along rows of groups
CALL = 512  # numbers that take as long as a call for each run


def keys_of(numbers: Keys) -> Keys:
    """Hash whole numbers to uniform ones of 64 bits (the finaliser of splitmix64).

    >>> keys_of(np.arange(2, dtype=np.uint64))
    array([16294208416658607535,  7960286522194355700], dtype=uint64)
    """
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def in_order(keys: Keys, groups: int) -> tuple[Places, NDArray[np.uint8]]:
    """Return the order that sorts points by their random group, and the group of each, sorted."""
    labels = (keys % np.uint64(groups)).astype(np.uint8)
    order = np.argsort(labels, kind="stable")
    return order, labels[order]


@dataclass(frozen=True, eq=False)
class Runs:
    """Points in the order of their groups: where each run of one group starts, and which it is."""

    starts: Places
    stops: Places
    labels: Places

    @classmethod
    def of(cls, labels: NDArray[Any]) -> Runs:
        """Find the runs of labels that are sorted, at least one."""
        changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        starts = np.concatenate([[0], changes])
        return cls(starts, np.concatenate([changes, [len(labels)]]), labels[starts])

    @property
    def sizes(self) -> Places:
        """How many points each run has."""
        return self.stops - self.starts

    @cached_property
    def spans(self) -> list[tuple[int, int, int]]:
        """Start, stop and label of each run, as plain numbers."""
        return list(
            zip(self.starts.tolist(), self.stops.tolist(), self.labels.tolist(), strict=True)
        )


def add_runs(sums: Array, rows: Array, runs: Runs, fresh: NDArray[np.bool_]) -> None:
    """Add each run of rows (B, ...) to the sums of its group, (G, ...), in place.

    What is added is itself a sum of many neighbours, so that a sum takes few steps, and is off by
    the rounding of these.  ``fresh`` groups are at 0, and written without being read.

    >>> sums = np.zeros((4, 1))
    >>> runs = Runs.of(np.array([0, 0, 2]))
    >>> add_runs(sums, np.array([[1.0], [2.0], [4.0]]), runs, sums[runs.labels, 0] == 0)
    >>> sums.ravel()
    array([3., 0., 4., 0.])
    """
    flat = rows.reshape(len(rows), -1)
    if flat.shape[1] <= SHORT or flat.size < CALL * len(runs.starts):
        added = np.add.reduceat(flat, runs.starts, axis=0)
        sums[runs.labels] += added.reshape(-1, *rows.shape[1:])
        return
    for (start, stop, label), new in zip(runs.spans, fresh.tolist(), strict=True):
        if new:
            np.add.reduce(rows[start:stop], axis=0, out=sums[label])
        else:
            sums[label] += np.add.reduce(rows[start:stop], axis=0)


def total(sums: Array, groups: Places) -> Array:
    """Add up the sums of some groups; others are not touched."""
    if sums[0].size <= SHORT * SHORT:
        return np.asarray(sums[groups].sum(axis=0))
    added: Array = sums[groups[0]].copy()
    for group in groups[1:]:
        added += sums[group]
    return added


def student_interval(
    estimate: Array, error: Array, sizes: Array, confidence: float, positive: bool
) -> tuple[Array, Array]:
    """Return the ends of an interval from a standard error; NaN if there is only one group.

    >>> low, high = student_interval(np.array(1.0), np.array(0.1), np.ones(64), 0.95, False)
    >>> float(low.round(3)), float(high.round(3))
    (0.8, 1.2)
    """
    from scipy.special import stdtrit  # importing it takes as long as all of this library

    freedom = sizes.sum() ** 2 / (sizes**2).sum() - 1
    reach = error * (stdtrit(freedom, (1 + confidence) / 2) if freedom > 0 else np.nan)
    if not positive:
        return estimate - reach, estimate + reach
    with np.errstate(over="ignore"):  # of two or three points
        factor = np.exp(reach / np.where(estimate > 0, estimate, np.inf))
        return estimate / factor, estimate * factor


def as_confidence(value: Any, where: str) -> float:
    """Check a confidence level, a number between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{where}: expected a confidence between 0 and 1, but got {value!r:.80}.")
    return float(value)
