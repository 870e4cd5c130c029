"""Statistics as functions of the sums, for the data set and for every bootstrap replicate alike.

With E the mean over the points, and for output i and input j:

====================== ============================================================================
``mean``               ``E[dy_i/dx_j]``: the direction
``mean_absolute``      ``E|dy_i/dx_j|``: the influence
``root_mean_square``   ``sqrt(E[(dy_i/dx_j)²])``
``std``                how much the derivative depends on where you stand
``standardised``       ``mean sd(x_j)/sd(y_i)``: in standard deviations, so that inputs compare
``importance``         ``root_mean_square sd(x_j)/sd(y_i)``: the same, with no cancelling
``rank``               place of the input among all, 1 for the largest ``mean_absolute``
``sobol_uniform``      ``(b_j - a_j)²/pi² E[(dy_i/dx_j)²] / Var(y_i)``
``sobol_normal``       ``sd(x_j)² E[(dy_i/dx_j)²] / Var(y_i)``
====================== ============================================================================

The last two bound from above the total Sobol index of an input: the share of the variance of the
output that is left, on average, once all other inputs are known.  They hold for independent inputs,
uniform on ``[a_j, b_j]`` or normal, of which the data are a sample (I. M. Sobol' and S. Kucherenko,
"Derivative based global sensitivity measures and their link with global sensitivity indices",
Mathematics and Computers in Simulation 79, 2009; M. Lamboni, B. Iooss, A.-L. Popelin and F. Gamboa,
in volume 87, 2013).  ``E[(dy_i/dx_j)²]`` is the derivative-based global sensitivity measure itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.sensitivities.exact_sums import variance
from jacobians.sensitivities.tally import Tally


@dataclass(frozen=True, eq=False)
class Moments:
    """The means of a tally under some of its weightings; every array is (R, ...)."""

    tally: Tally
    weightings: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs, (m, n)."""
        m, n = self.tally.smallest.shape
        return m, n

    def _derivatives(self, flat: Array) -> Array:
        return flat.reshape(len(flat), *self.shape)

    def mean_of(self, name: str) -> Array:
        """Return the means of one quantity, (R, q)."""
        total = self.tally.totals[self.weightings, None]
        mean: Array = self.tally.sums[name].pair(self.weightings)[0] / total
        return mean

    def variance_of(self, name: str) -> Array:
        """Return the variances of one quantity, (R, q)."""
        first = self.tally.sums[name].pair(self.weightings)
        second = self.tally.sums[name + "²"].pair(self.weightings)
        return variance(first, second, self.tally.totals[self.weightings, None])

    def mean(self) -> Array:
        """Return ``E[J]``."""
        return self._derivatives(self.mean_of("J"))

    def mean_absolute(self) -> Array:
        """Return ``E|J|``."""
        return self._derivatives(self.mean_of("|J|"))

    def mean_square(self) -> Array:
        """Return ``E[J²]``."""
        return self._derivatives(self.mean_of("J²"))

    def root_mean_square(self) -> Array:
        """Return ``sqrt(E[J²])``."""
        return np.sqrt(self.mean_square())

    def std(self) -> Array:
        """Return the standard deviation of J; 0 where it is constant."""
        spread = np.sqrt(self._derivatives(self.variance_of("J")))
        return np.where(self.tally.smallest == self.tally.largest, 0.0, spread)

    def ratio(self) -> Array:
        """Return ``sd(x_j)/sd(y_i)``; NaN where an output is constant."""
        inputs, outputs = (np.sqrt(self.variance_of(name)) for name in ("x", "y"))
        return _over(inputs[:, None, :], outputs[:, :, None])

    def standardised(self) -> Array:
        """Return ``E[J] sd(x)/sd(y)``."""
        return self.mean() * self.ratio()

    def importance(self) -> Array:
        """Return ``sqrt(E[J²]) sd(x)/sd(y)``."""
        return self.root_mean_square() * self.ratio()

    def rank(self) -> Array:
        """Return the place of every input among those of its output; ties share the better one."""
        return ranks(self.mean_absolute())

    def sobol_uniform(self, low: Array | None = None, high: Array | None = None) -> Array:
        """Return the bound for uniform inputs, by default on the range of the data."""
        low = self.tally.lowest if low is None else low
        high = self.tally.highest if high is None else high
        return self._sobol(((high - low) / np.pi) ** 2)

    def sobol_normal(self, std: Array | None = None) -> Array:
        """Return the bound for normal inputs, by default with the variances of the data."""
        return self._sobol(self.variance_of("x")[:, None, :] if std is None else std**2)

    def _sobol(self, factor: Array) -> Array:
        return _over(factor * self.mean_square(), self.variance_of("y")[:, :, None])


STATISTICS: dict[str, Callable[[Moments], Array]] = {
    "mean": Moments.mean,
    "mean_absolute": Moments.mean_absolute,
    "root_mean_square": Moments.root_mean_square,
    "std": Moments.std,
    "standardised": Moments.standardised,
    "importance": Moments.importance,
    "rank": Moments.rank,
    "sobol_uniform": Moments.sobol_uniform,
    "sobol_normal": Moments.sobol_normal,
}


def ranks(sizes: Array) -> Array:
    """Return 1 for the largest entry along the last axis, 2 for the next; ties share a rank.

    >>> ranks(np.array([0.5, 3.0, 0.5, 1.0]))
    array([3., 1., 3., 2.])
    """
    ordered = np.sort(-sizes, axis=-1)
    places = np.empty(sizes.shape)
    for place in np.ndindex(sizes.shape[:-1]):
        places[place] = np.searchsorted(ordered[place], -sizes[place], side="left") + 1
    return places


def elasticity(tally: Tally) -> Array:
    """Return the mean of ``(x_j/y_i) dy_i/dx_j`` over the points that have one.

    By how many per cent the output grows when the input grows by one per cent.  NaN if the output
    is 0 at all points.
    """
    total = tally.sums["x J / y"].value[0].reshape(tally.smallest.shape)
    return _over(total, (tally.count - tally.undefined).astype(np.float64))


def elasticity_at_means(tally: Tally) -> Array:
    """Return ``(E[x_j]/E[y_i]) E[dy_i/dx_j]``, NaN where an output has mean 0."""
    moments = Moments(tally, slice(0, 1))
    x, y = moments.mean_of("x"), moments.mean_of("y")
    at_means: Array = _over(moments.mean() * x[:, None, :], y[:, :, None])[0]
    return at_means


def _over(numerator: Array, denominator: Array) -> Array:
    """Divide; what is divided by 0 is NaN, since it says nothing."""
    safe = np.where(denominator == 0, np.nan, denominator)
    return np.asarray(numerator / safe)
