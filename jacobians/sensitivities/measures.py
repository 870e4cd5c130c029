"""Statistics as functions of the sums, with their standard errors.

With E the mean over the points, and for output i and input j:

====================== ============================================================================
``mean``               ``E[dy_i/dx_j]``: the direction
``root_mean_square``   ``sqrt(E[(dy_i/dx_j)²])``
``std``                how much the derivative depends on where you stand
``standardised``       ``mean sd(x_j)/sd(y_i)``: in standard deviations, so that inputs compare
``importance``         ``root_mean_square sd(x_j)/sd(y_i)``: the same, with no cancelling
``effect``             ``root_mean_square sd(x_j)``: the same in the unit of the output
``sobol_uniform``      ``(b_j - a_j)²/pi² E[(dy_i/dx_j)²] / Var(y_i)``
``sobol_normal``       ``sd(x_j)² E[(dy_i/dx_j)²] / Var(y_i)``
====================== ============================================================================

**Importance** is what ranks inputs, everywhere: a raw derivative depends on the units of its input,
so raw derivatives of different inputs do not compare.

The last two bound from above the total Sobol index of an input: the share of the variance of the
output that is left, on average, once all other inputs are known.  They hold for independent inputs,
uniform on ``[a_j, b_j]`` or normal, of which the data are a sample (I. M. Sobol' and S. Kucherenko,
"Derivative based global sensitivity measures and their link with global sensitivity indices",
Mathematics and Computers in Simulation 79, 2009; M. Lamboni, B. Iooss, A.-L. Popelin and F. Gamboa,
in volume 87, 2013).  ``E[(dy_i/dx_j)²]`` is the derivative-based global sensitivity measure itself.

Each is ``T = b^p sd(x)^k / sd(y)^l`` with ``b`` a mean, so if a group is left out it moves by
``p T/b db + T (k/2 dVar(x)/Var(x) - l/2 dVar(y)/Var(y))``, to first order.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from jacobians._checks import Array
from jacobians.sensitivities.accumulators import Columns

SLAB = 2**16  # numbers of the moves of a statistic, at a time
STATISTICS = {  # what of the derivative, its power, those of sd(x) and of 1/sd(y)
    "mean": ("mean", 1, 0, 0),
    "root_mean_square": ("square", 1 / 2, 0, 0),
    "std": ("variance", 1 / 2, 0, 0),
    "standardised": ("mean", 1, 1, 1),
    "importance": ("square", 1 / 2, 1, 1),
    "effect": ("square", 1 / 2, 1, 0),
    "sobol_uniform": ("square", 1, 0, 2),
    "sobol_normal": ("square", 1, 2, 2),
}
SIGNED = ("mean", "standardised")  # all others are positive: their logarithm has an interval


class Measures:
    """The statistics of a data set of ``n`` inputs and ``m`` outputs."""

    def __init__(self, kept: Columns, m: int, n: int) -> None:
        self.kept, self.m, self.n = kept, m, n
        groups = kept.sizes.nonzero()[0]
        some = len(groups) < len(kept.sizes)
        self.sums = kept.sums[groups] if some else kept.sums
        self.sizes = kept.sizes[groups]
        self.count = float(self.sizes.sum())
        totals = np.add.reduce(self.sums, axis=0)
        totals /= self.count
        self.first, self.second = totals
        self.mean = self.first + kept.shift
        self.variance = np.multiply(self.first, self.first)
        np.subtract(self.second, self.variance, out=self.variance)
        np.maximum(self.variance, 0.0, out=self.variance)
        self.variance *= kept.low < kept.high
        self.std = np.sqrt(self.variance[: n + m])

    def _base(self, name: str) -> Array:
        """Return a mean of the derivative, (m, n)."""
        J = slice(self.n + self.m, None)
        mean, variance = self.mean[J], self.variance[J]
        means: Array = {"mean": mean, "variance": variance, "square": mean**2 + variance}[name]
        return means.reshape(self.m, self.n)

    def _scale(self, name: str) -> Array:
        """Return the factor of a statistic that holds spreads of inputs and outputs."""
        (_, _, k, l), n, scale = STATISTICS[name], self.n, np.ones((1, 1))
        if name == "sobol_uniform":
            scale = ((self.kept.high[:n] - self.kept.low[:n]) / np.pi)[None] ** 2
        if k:
            scale = self.std[None, :n] ** k
        return over(scale, self.std[n:, None] ** l) if l else scale

    def value(self, name: str) -> Array:
        """Return a statistic, (m, n)."""
        base, power, *_ = STATISTICS[name]
        mean = self._base(base)
        return (mean if power == 1 else np.sqrt(mean)) * self._scale(name)

    def error(self, name: str, value: Array) -> Array:
        """Return the standard error of a statistic, (m, n); NaN where there are no two groups."""
        (base, power, k, l), m, n, R = STATISTICS[name], self.m, self.n, len(self.sizes)
        if R < 2:
            return np.full((m, n), np.nan)
        mean = self._base(base)
        slope = self._scale(name) if power == 1 else value / np.where(mean > 0, 2 * mean, np.inf)
        squares, step = np.empty((m, n)), max(1, SLAB // (R * n))
        for i in range(0, m, step):
            rows = slice(i, min(i + step, m))
            moves = self.moves(base, slice(m + n + i * n, m + n + rows.stop * n))
            if k or l:
                x, y = self.log_variances[:, None, :n], self.log_variances[:, n:, None][:, rows]
                spread = k * x - l * y
                spread *= mean[rows] / (2 * power)
                moves += spread.reshape(R, -1)
            moves *= moves
            squares[rows] = (self.weights @ moves).reshape(-1, n)
        np.sqrt(squares, out=squares)
        squares *= np.abs(slope)
        return squares

    def moves(self, name: str, columns: slice) -> Array:
        """Return ``N - n_g`` times the move of a mean if a group is left out, (R, columns)."""
        first = self.first[columns]
        sums, squares = self.sums[:, 0, columns], self.sums[:, 1, columns]
        if name == "mean":
            return np.asarray(self.sizes[:, None] * first - sums)
        about = 2 * (self.kept.shift[columns] if name == "square" else -first)
        moves: Array = self.sizes[:, None] * (self.second[columns] + about * first)
        moves -= squares
        moves -= sums * about
        return moves

    @cached_property
    def weights(self) -> Array:
        """What the squares of ``moves`` add up with to squared standard errors, (R,)."""
        return np.asarray(1 / (self.count * (self.count - self.sizes)))

    @cached_property
    def log_variances(self) -> Array:
        """The moves of the logarithms of the variances of inputs and outputs, (R, n + m)."""
        columns = slice(self.n + self.m)
        variance = self.variance[columns]
        return self.moves("variance", columns) / np.where(variance > 0, variance, np.inf)


def ranks(sizes: Array) -> Array:
    """Return 1 for the largest entry along the last axis, 2 for the next; ties share a rank.

    >>> ranks(np.array([0.5, 3.0, 0.5, 1.0]))
    array([3., 1., 3., 2.])
    """
    return above(sizes, sizes) + 1.0


def above(sizes: Array, ends: Array) -> Array:
    """Count, along the last axis, how many sizes are larger than each of the ends.

    >>> above(np.array([0.5, 3.0, 1.0]), np.array([0.75, 9.0]))
    array([2., 0.])
    """
    counts = np.empty(ends.shape)
    for row in np.ndindex(sizes.shape[:-1]):
        smaller = np.searchsorted(np.sort(sizes[row]), ends[row], side="right")
        counts[row] = sizes.shape[-1] - smaller
    return counts


def over(numerator: Array, denominator: Array) -> Array:
    """Divide; what is divided by 0 is NaN, since it says nothing."""
    return np.asarray(numerator / np.where(denominator == 0, np.nan, denominator))
