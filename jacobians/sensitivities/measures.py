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
ONE = np.ones((1, 1))
SIGNED = ("mean", "standardised")  # all others are positive: their logarithm has an interval


class Measures:
    """The statistics of a data set of ``n`` inputs and ``m`` outputs.

    Attributes
    ----------
    sizes : array, shape (R,)
        Of the groups that hold points.
    weights : array, shape (R,)
        What the squares of moves add up with to squared standard errors.
    mean, std : array, shape (n + m,)
        Of the inputs and outputs.
    log_moves : array, shape (R, n + m)
        The moves of the logarithms of their variances.
    """

    def __init__(self, kept: Columns, m: int, n: int) -> None:
        self.kept, self.m, self.n = kept, m, n
        self.sizes = kept.sizes[: kept.count]
        self.count = float(self.sizes.sum())
        alone = len(self.sizes) == 1  # which leaves nothing if it is left out
        self.weights = np.full(1, np.nan) if alone else 1 / (self.count * (self.count - self.sizes))
        variance, moves = self.moment("variance", slice(n + m))
        self.std = np.sqrt(variance)
        self.log_moves = np.divide(moves, variance, out=moves, where=variance > 0)

    @cached_property
    def mean(self) -> Array:  # noqa: D102
        return self.moment("mean", slice(self.n + self.m))[0]

    def moment(self, name: str, columns: slice) -> tuple[Array, Array]:
        """Return the mean, the mean square or the variance of columns, and its moves, (R, columns).

        These are ``N - n_g`` times how far it moves if a group is left out.
        """
        kept, sizes = self.kept, self.sizes[:, None]
        sums = kept.sums[: len(sizes), : 1 if name == "mean" else 2, columns]
        totals = np.add.reduce(sums, axis=0)
        totals /= self.count
        first, shift = totals[0], kept.shift[columns]
        if name == "mean":
            moves = sizes * first
            moves -= sums[:, 0]
            return first + shift, moves
        # E[v²] = E[(v - s)²] + 2s E[v - s] + s², and the variance is the same with -E[v - s] for s
        base = shift if name == "square" else -first
        twice = 2 * base
        moment = totals[1] + twice * first
        moves = sizes * moment
        moves -= sums[:, 1]
        moves -= sums[:, 0] * twice
        moment += base * base
        np.maximum(moment, 0.0, out=moment)
        if name == "variance":
            moment *= kept.low[columns] < kept.high[columns]
        return moment, moves

    def statistic(self, name: str) -> tuple[Array, Array]:
        """Return a statistic and its standard error, (m, n), NaN where there are no two groups."""
        (what, power, k, l), m, n, R = STATISTICS[name], self.m, self.n, len(self.sizes)
        value, error = np.empty((2, m, n))
        x, y = k * self.log_moves[:, None, :n], l * self.log_moves[:, n:, None]
        scale, step = self._scale(name), max(1, SLAB // (R * n))
        for i in range(0, m, step):
            rows = slice(i, min(i + step, m))
            moment, moves = self.moment(what, slice(m + n + i * n, m + n + rows.stop * n))
            moment, moves = moment.reshape(-1, n), moves.reshape(R, -1, n)
            if k or l:
                spread = x - y[:, rows]
                spread *= moment if power == 1 / 2 else moment / 2
                moves += spread
            moves *= moves
            errors = np.sqrt(self.weights @ moves.reshape(R, -1)).reshape(-1, n)
            if power == 1 / 2:
                moment = np.sqrt(moment)
                np.divide(errors, 2 * moment, out=errors, where=moment > 0)
            here = scale[rows] if len(scale) == m else scale
            np.multiply(moment, here, out=value[rows])
            np.multiply(errors, here, out=error[rows])
        return value, error

    def _scale(self, name: str) -> Array:
        """Return the factor of a statistic that holds spreads of inputs and outputs."""
        (_, _, k, l), n, scale = STATISTICS[name], self.n, ONE
        if name == "sobol_uniform":
            scale = ((self.kept.high[:n] - self.kept.low[:n]) / np.pi)[None] ** 2
        if k:
            scale = self.std[None, :n] ** k
        return over(scale, self.std[n:, None] ** l) if l else scale


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
