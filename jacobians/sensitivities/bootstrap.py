"""The bootstrap in one pass: every point draws its own weights, from its own bytes.

A bootstrap replicate counts point ``b`` ``w_b`` times.  Drawing N points with replacement makes the
counts multinomial; drawing each count from a Poisson distribution of mean 1 is the same but for the
total (J. A. Hanley and B. MacGibbon, "Creating non-parametric bootstrap samples using Poisson
frequencies", 2006), and needs to know nothing of the other points.

The counts of a point are read off a hash of its entries, so they depend neither on the order of
the points nor on the shard in which one is found, and two shards merge to the replicates of the
whole.  Rows that repeat share their weights: they are drawn together, as one observation of several
copies, which makes the intervals wider.  ``ids`` gives every row a draw of its own.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, Numbers

# P(w <= k) 2^32 for k = 0, ..., 12; beyond lies less than 2^-32
_CUMULATED = np.cumsum([0.36787944117144233 / f for f in np.cumprod([1.0, *range(1, 13)])])
_THRESHOLDS = np.floor(_CUMULATED * 2**32).astype(np.uint64)


def draws(X: Array, ids: Numbers | None, replicates: int) -> tuple[NDArray[np.uint64], Array]:
    """Draw for every point a random number and the weights of all replicates.

    Parameters
    ----------
    X : array, shape (B, n)
    ids : array of whole numbers, shape (B,), optional
        Hashed in place of the entries.
    replicates : int
        ``R``.

    Returns
    -------
    keys : array of uint64, shape (B,)
        Uniform; the points with the smallest keys are a random sample.
    weights : array, shape (R + 1, B)
        Whole numbers.  The first row is 1: the plain sums.

    >>> keys, weights = draws(np.eye(3), None, replicates=4)
    >>> shuffled = draws(np.eye(3)[[2, 0, 1]], None, replicates=4)[1]
    >>> weights.shape, bool((shuffled == weights[:, [2, 0, 1]]).all())
    ((5, 3), True)
    """
    if ids is None:
        rows = np.ascontiguousarray(X, "<f8") + 0.0  # -0 is 0
    else:
        rows = np.ascontiguousarray(ids, "<i8")[:, None]
    size = 8 + 4 * replicates
    noise = b"".join(hashlib.shake_128(row.tobytes()).digest(size) for row in rows)
    table = np.frombuffer(noise, np.uint8).reshape(len(rows), size)
    keys = np.ascontiguousarray(table[:, :8]).view("<u8")[:, 0].astype(np.uint64)
    uniform = np.ascontiguousarray(table[:, 8:]).view("<u4").astype(np.uint64)
    counts = np.searchsorted(_THRESHOLDS, uniform, side="right")
    return keys, np.vstack([np.ones(len(rows)), counts.reshape(len(rows), replicates).T])


def percentile_interval(replicates: Array, confidence: float) -> tuple[Array, Array]:
    """Return the percentile interval of every column, from replicates (R, ...).

    Replicates that have no such statistic, as of a constant output, are NaN and left out.

    >>> low, high = percentile_interval(np.arange(9.0)[:, None], confidence=0.5)
    >>> float(low[0]), float(high[0])
    (2.0, 6.0)
    """
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice")  # then the interval is NaN
        low, high = np.nanquantile(replicates, [tail, 1 - tail], axis=0)
    return low, high


def as_confidence(value: Any, where: str) -> float:
    """Check a confidence level, a number between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{where}: expected a confidence between 0 and 1, but got {value!r:.80}.")
    return float(value)
