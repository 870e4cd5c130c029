"""Statistics as functions of the sums, for all points and without each group alike.

With E the mean over the points, and for output i and input j:

====================== ============================================================================
``mean``               ``E[dy_i/dx_j]``: the direction
``mean_absolute``      ``E|dy_i/dx_j|``: the typical size of the raw derivative, in its unit
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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import Array, Places
from jacobians.sensitivities.accumulators import Moments

SIGNED = ("mean", "standardised")  # all others are positive: their logarithm has an interval


class Measures:
    """The statistics of a data set, or of what is left of it without each of R groups.

    Every array is (1, m, n), or (R, m, n), or of some of the outputs.
    """

    def __init__(
        self,
        kept: Mapping[str, Any],
        shape: tuple[int, int],
        left_out: Places | None = None,
        outputs: slice = slice(None),
    ) -> None:
        m, self.n = shape
        self.kept, self.left_out = kept, left_out
        first, last, _ = outputs.indices(m)
        self.entries = slice(first * self.n, last * self.n)
        self.inputs, self.outputs = slice(0, self.n), slice(self.n + first, self.n + last)
        self._sizes = kept["sizes"].sizes

    def _mean(self, sums: Array, columns: slice) -> Array:
        """Return the means of some columns, (R, columns)."""
        total, N = sums[np.flatnonzero(self._sizes), columns].sum(axis=0), self._sizes.sum()
        if self.left_out is None:
            return np.asarray(total / N)[None]
        deleted: Array = total - sums[self.left_out, columns]
        deleted /= N - self._sizes[self.left_out, None]
        return deleted

    def _moments(self, name: str, columns: slice) -> tuple[Array, Array]:
        """Return means and variances of some columns, (R, columns)."""
        moments: Moments = self.kept[name]
        mean = self._mean(moments.first, columns)
        variance = self._mean(moments.second, columns)
        variance -= mean**2
        mean += moments.shift[columns]
        return mean, np.maximum(variance, 0.0, out=variance)

    @cached_property
    def _derivative(self) -> tuple[Array, Array]:
        mean, variance = self._moments("J", self.entries)
        return mean.reshape(len(mean), -1, self.n), variance.reshape(len(mean), -1, self.n)

    def input_moments(self) -> tuple[Array, Array]:
        """Return ``E[x]`` and ``Var(x)``, (R, 1, n)."""
        mean, variance = self._moments("data", self.inputs)
        return mean[:, None, :], variance[:, None, :]

    def output_moments(self) -> tuple[Array, Array]:
        """Return ``E[y]`` and ``Var(y)``, (R, m, 1)."""
        mean, variance = self._moments("data", self.outputs)
        return mean[:, :, None], variance[:, :, None]

    def mean(self) -> Array:
        """Return ``E[J]``."""
        return self._derivative[0]

    def mean_absolute(self) -> Array:
        """Return ``E|J|``."""
        sizes = self._mean(self.kept["|J|"].sums, self.entries)
        return sizes.reshape(len(sizes), -1, self.n)

    def mean_square(self) -> Array:
        """Return ``E[J²]``: nothing cancels."""
        mean, variance = self._derivative
        return mean**2 + variance

    def root_mean_square(self) -> Array:
        """Return ``sqrt(E[J²])``."""
        return np.sqrt(self.mean_square())

    def std(self) -> Array:
        """Return the standard deviation of J; 0 where it is constant."""
        ends = self.kept["range of J"]
        varies = (ends.low < ends.high)[self.entries].reshape(-1, self.n)
        return np.where(varies, np.sqrt(self._derivative[1]), 0.0)

    def standardised(self) -> Array:
        """Return ``E[J] sd(x)/sd(y)``."""
        ratio = over(np.sqrt(self.input_moments()[1]), np.sqrt(self.output_moments()[1]))
        return self.mean() * ratio

    def effect(self) -> Array:
        """Return ``sqrt(E[J²]) sd(x)``."""
        return self.root_mean_square() * np.sqrt(self.input_moments()[1])

    def importance(self) -> Array:
        """Return ``sqrt(E[J²]) sd(x)/sd(y)``; NaN where an output is constant."""
        return over(self.effect(), np.sqrt(self.output_moments()[1]))

    def sobol_uniform(self, low: Array | None = None, high: Array | None = None) -> Array:
        """Return the bound for uniform inputs, by default on the range of the data."""
        ends = self.kept["range of data"]
        high = ends.high[self.inputs] if high is None else high
        width = high - (ends.low[self.inputs] if low is None else low)
        return over((width / np.pi) ** 2 * self.mean_square(), self.output_moments()[1])

    def sobol_normal(self, std: Array | None = None) -> Array:
        """Return the bound for normal inputs, by default with the variances of the data."""
        variance = self.input_moments()[1] if std is None else std**2
        return over(variance * self.mean_square(), self.output_moments()[1])


STATISTICS: dict[str, Callable[[Measures], Array]] = {
    "mean": Measures.mean,
    "mean_absolute": Measures.mean_absolute,
    "root_mean_square": Measures.root_mean_square,
    "std": Measures.std,
    "standardised": Measures.standardised,
    "importance": Measures.importance,
    "effect": Measures.effect,
    "sobol_uniform": Measures.sobol_uniform,
    "sobol_normal": Measures.sobol_normal,
}


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
    for place in np.ndindex(sizes.shape[:-1]):
        smaller = np.searchsorted(np.sort(sizes[place]), ends[place], side="right")
        counts[place] = sizes.shape[-1] - smaller
    return counts


def over(numerator: Array, denominator: Array) -> Array:
    """Divide; what is divided by 0 is NaN, since it says nothing."""
    safe = np.where(denominator == 0, np.nan, denominator)
    return np.asarray(numerator / safe)
