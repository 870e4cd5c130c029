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
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, Indices

Keys: TypeAlias = NDArray[np.uint64]
BLOCK, LEAST = 2**16, 1024  # numbers of a block of columns; of so many columns, at least


def keys_of(numbers: Keys) -> Keys:
    """Hash whole numbers to uniform ones of 64 bits (the finaliser of splitmix64).

    >>> keys_of(np.arange(2, dtype=np.uint64))
    array([16294208416658607535,  7960286522194355700], dtype=uint64)
    """
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Order:
    """What sorts points by their random group, with the key and the group of each, sorted."""

    indices: Indices
    keys: Keys
    labels: NDArray[np.uint8]


def order_of(numbers: Keys, groups: int) -> Order:
    """Sort points that have these numbers by their random group."""
    keys = keys_of(numbers)
    labels = (keys % np.uint64(groups)).astype(np.uint8)
    indices = np.argsort(labels, kind="stable")
    return Order(indices, keys[indices], labels[indices])


@lru_cache(maxsize=2)
def order_of_next(first: int, count: int, groups: int) -> Order:
    """Sort points that are numbered as they come; the next data set as long has the same order."""
    return order_of(np.arange(first, first + count, dtype=np.uint64), groups)


@np.errstate(over="ignore", invalid="ignore")  # which is refused in the end
def add_in_numpy(arrays: tuple[Array, ...], labels: NDArray[np.int8], state: Array) -> None:
    """Add rows to the sums of their groups: less a shift, and squared; and take them into the ends.

    Parameters
    ----------
    arrays : tuple of array, each (B, n_k)
        Side by side; rows of a group come together.
    labels : array of int8, shape (B,)
        The group of each row.
    state : array, shape (3 + 2 G, n)
        The shift, smallest and largest values, and for each group sums, and sums of squares.

    >>> state = np.array([[0, np.inf, -np.inf, 0, 0, 0, 0, 0, 0]]).T
    >>> add_in_numpy((np.array([[1.0], [2.0], [4.0]]),), np.array([0, 0, 2], np.int8), state)
    >>> state.T
    array([[ 0.,  1.,  4.,  3.,  5.,  0.,  0.,  4., 16.]])
    """
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    present = 3 + 2 * labels[starts].astype(np.intp)
    step, first = max(LEAST, BLOCK // len(labels)), 0
    for array in arrays:
        for start in range(0, array.shape[1], step):
            block = array[:, start : start + step].astype(np.float64)
            columns = slice(first + start, first + start + block.shape[1])
            shift, low, high = state[:3, columns]
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
            block -= shift
            state[present, columns] += np.add.reduceat(block, starts, axis=0)
            block *= block
            state[present + 1, columns] += np.add.reduceat(block, starts, axis=0)
        first += array.shape[1]


def student_interval(
    estimate: Array, error: Array, sizes: Array, confidence: float, positive: bool
) -> tuple[Array, Array]:
    """Return the ends of an interval from a standard error; NaN if there is only one group.

    >>> low, high = student_interval(np.array(1.0), np.array(0.1), np.ones(64), 0.95, False)
    >>> float(low.round(3)), float(high.round(3))
    (0.8, 1.2)
    """
    freedom = float(sizes.sum()) ** 2 / float(sizes @ sizes) - 1
    reach = np.asarray(error * _quantile(freedom, confidence))
    if not positive:
        return estimate - reach, np.add(estimate, reach, out=reach)
    with np.errstate(over="ignore"):  # of two or three points
        np.divide(reach, estimate, out=reach, where=estimate > 0)
        factor = np.exp(reach, out=reach)
        return estimate / factor, np.multiply(estimate, factor, out=factor)


@lru_cache
def _quantile(freedom: float, confidence: float) -> float:
    """Return how many standard errors reach to the end of an interval of Student."""
    from scipy.special import stdtrit  # importing it takes as long as all of this library

    return float(stdtrit(freedom, (1 + confidence) / 2)) if freedom > 0 else np.nan


def as_confidence(value: Any, where: str) -> float:
    """Check a confidence level, a number between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{where}: expected a confidence between 0 and 1, but got {value!r:.80}.")
    return float(value)
