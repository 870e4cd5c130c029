"""Statistics: the labelled numbers of a data set, computed from the sums when they are asked for.

Everything is float64, in the units of inputs and outputs: ``mean[i, j]`` is in units of ``y_i`` per
unit of ``x_j``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import (
    Array,
    Indices,
    as_floats,
    require_shape,
    underflow_is_rounding,
)
from jacobians._tables import column_names, matched, take_columns
from jacobians.sensitivities.dataset import DataSet
from jacobians.sensitivities.groups import as_confidence, student_interval
from jacobians.sensitivities.measures import SIGNED, STATISTICS, above, over, ranks
from jacobians.sensitivities.names import number_of
from jacobians.sensitivities.subspace import ActiveSubspace, active_subspace


def _named(name: str, meaning: str) -> Any:
    return property(lambda self: self.statistic(name), doc=f"{meaning}  Shape (m, n).")


@dataclass(frozen=True, eq=False, repr=False)
class Statistics(DataSet):
    """Statistics of ``dy_i/dx_j`` over a data set; the fields are those of ``DataSet``."""

    # --- statistics -------------------------------------------------------------------------------

    mean = _named("mean", "``E[dy_i/dx_j]``.")
    root_mean_square = _named("root_mean_square", "``sqrt(E[(dy_i/dx_j)²])``.")
    std = _named("std", "Standard deviation of ``dy_i/dx_j`` over the points (divided by N).")
    standardised = _named("standardised", "``E[dy_i/dx_j] sd(x_j)/sd(y_i)``.")
    importance = _named(
        "importance", "``sqrt(E[(dy_i/dx_j)²]) sd(x_j)/sd(y_i)``: what ranks the inputs."
    )

    def power_mean(self, alpha: float) -> Array:
        """Return ``(E|dy_i/dx_j|^alpha)^(1/alpha)`` over the sample, shape (m, n).

        The larger alpha, the more the largest derivatives count; an infinite one gives the largest
        of all points.  As a curve over alpha it says whether an input matters everywhere or in few
        places (J. Pizarroso, J. Portela, A. Muñoz, "Metric tools for sensitivity analysis with
        applications to neural networks", 2023).

        >>> import jacobians as jb
        >>> net = jb.Network([jb.Dense([[0.5]], activation="square")])
        >>> record = jb.sensitivity(net, [[2], [4]])
        >>> [float(record.power_mean(alpha)[0, 0].round(3)) for alpha in (1, 2, float("inf"))]
        [1.5, 1.581, 2.0]
        """
        sizes = np.abs(self.sample.J)
        largest = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        if not alpha > 0:
            raise ValueError(
                f"power_mean: alpha: expected a number above 0, but got {alpha!r:.80}."
            )
        if alpha == np.inf:
            return largest
        scale = np.where(largest > 0, largest, 1.0)  # powers of numbers up to 1 stay in the range
        with np.errstate(under="ignore"):
            means: Array = ((sizes / scale) ** alpha).mean(axis=0) ** (1 / alpha)
        return means * scale

    @property
    def mean_absolute(self) -> Array:
        """``E|dy_i/dx_j|`` over the sample, shape (m, n)."""
        return self.power_mean(1.0)

    @property
    def minimum(self) -> Array:
        """Smallest derivative, shape (m, n)."""
        return self._ends("low")

    @property
    def maximum(self) -> Array:
        """Largest derivative, shape (m, n)."""
        return self._ends("high")

    def _ends(self, which: str) -> Array:
        ends: Array = getattr(self.kept["columns"], which)[sum(self.shape) :]
        return ends.reshape(self.shape).copy()

    @property
    def elasticity(self) -> Array:
        """``E[(x_j/y_i) dy_i/dx_j]`` over the points of the sample where ``y_i`` is not 0, (m, n).

        By how many per cent the output grows when the input grows by one per cent.  NaN if the
        output is 0 at all of them.
        """
        seen, inverse, defined = self.sample, *self._inverse_outputs()
        total = np.einsum("bi,bij,bj->ij", inverse, seen.J, seen.x)
        return over(total, defined.sum(axis=0)[:, None].astype(np.float64))

    @property
    def without_elasticity(self) -> NDArray[np.int64]:
        """Points of the sample where ``1/y_i`` leaves the range: y_i is 0 or nearly so, (m, n)."""
        undefined = (~self._inverse_outputs()[1]).sum(axis=0, dtype=np.int64)
        return np.repeat(undefined[:, None], self.shape[1], axis=1)

    def _inverse_outputs(self) -> tuple[Array, NDArray[np.bool_]]:
        with np.errstate(divide="ignore", over="ignore"):
            inverse = 1 / self.sample.y
        defined = np.isfinite(inverse)
        return np.where(defined, inverse, 0.0), defined

    @property
    def elasticity_at_means(self) -> Array:
        """``(E[x_j]/E[y_i]) E[dy_i/dx_j]``, NaN where an output has mean 0, shape (m, n)."""
        return over(self.mean * self.input_mean, self.output_mean[:, None])

    # --- which inputs matter most -----------------------------------------------------------------

    @property
    def basis(self) -> str:
        """What ``order``, ``rank`` and ``most_influential`` go by, in words."""
        if self.statistic("effect").any():
            return "importance = sqrt(E[(dy/dx)^2]) sd(x)/sd(y)"
        outputs = "the outputs do not vary" if self.shape[0] > 1 else "the output does not vary"
        moving = "no input with an effect varies" if self.output_std.any() else outputs
        why = moving if self.input_std.any() else "the data do not vary"
        return f"root mean square of dy/dx, since {why}"

    @property
    def order(self) -> Indices:
        """The inputs of every output, the most important first, shape (m, n)."""
        return np.argsort(-self._effect(), axis=1, kind="stable")

    @property
    def rank(self) -> Indices:
        """Place of each input among all, by ``importance``: 1 is the largest, shape (m, n)."""
        return ranks(self._effect()).astype(np.intp)

    def _effect(self) -> Array:
        """Importance but for sd(y), which may be 0; raw where no input that matters varies."""
        effect, raw = self.statistic("effect"), self.root_mean_square
        return np.where(effect.max(axis=1, keepdims=True) > 0, effect, raw)

    def most_influential(self, output: int | str, count: int = 5) -> list[tuple[str, float, float]]:
        """Return (name, importance, mean derivative) of the first few inputs."""
        i = number_of(output, self.output_names, "most_influential: output")
        sizes, means, first = self.importance[i], self.mean[i], self.order[i, :count]
        return [(self.input_names[j], float(sizes[j]), float(means[j])) for j in first]

    def direction(self, output: int, given: int) -> str:
        """Say which way the output goes when the input rises: the same everywhere, or mostly."""
        low, high = self.minimum[output, given], self.maximum[output, given]
        if low == high == 0:
            return "no effect"
        word = "rises" if self.mean[output, given] > 0 else "falls"
        return word if low >= 0 or high <= 0 else f"mostly {word}"

    # --- by name, with intervals ------------------------------------------------------------------

    @underflow_is_rounding
    def statistic(self, name: str) -> Array:
        """Return a statistic by its name in ``jacobians.sensitivities.measures``, shape (m, n).

        >>> import jacobians as jb
        >>> net = jb.Network([jb.Dense([[2.0, -1.0]])])
        >>> jb.sensitivity(net, [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]).statistic("sobol_uniform")
        array([[0.34738692, 0.19540514]])
        """
        if name == "rank":
            return self.rank.astype(np.float64)
        return np.array(self._estimated(name)[0])

    def _estimated(self, name: str) -> tuple[Array, Array]:
        """Return a statistic with its standard error."""
        if name not in STATISTICS:
            names = ", ".join([*STATISTICS, "rank"])
            raise ValueError(f"statistic: expected one of {names}, but got {name!r:.80}.")
        pair: tuple[Array, Array] = self._once(name, lambda: self._measures.statistic(name))
        return pair

    @underflow_is_rounding
    def interval(self, name: str, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the ends of a confidence interval: how far off for being a sample of points.

        By the jackknife over 64 random groups of points; see ``jacobians.sensitivities.groups``.
        Of a rank: the ranks that the intervals of all inputs leave it.

        Parameters
        ----------
        name : str
            As in ``statistic``.
        confidence : float
            Between 0 and 1.

        Returns
        -------
        low, high : array, shape (m, n)
            NaN where there are no two groups.
        """
        level = as_confidence(confidence, "interval: confidence")
        if name == "rank":
            return self._rank_interval(level)
        pair = self._estimated(name)
        return student_interval(*pair, self._measures.sizes, level, name not in SIGNED)

    def _rank_interval(self, level: float) -> tuple[Array, Array]:
        raw = self._effect() == self.root_mean_square
        ends = [
            np.where(raw, by_size, by_effect)
            for by_size, by_effect in zip(
                self.interval("root_mean_square", level),
                self.interval("effect", level),
                strict=True,
            )
        ]
        # surely larger ones stand before it, and surely smaller ones behind
        return above(ends[0], ends[1]) + 1, self.shape[1] - above(-ends[1], -ends[0])

    def sobol_bound(
        self, distribution: str = "uniform", *, low: Any = None, high: Any = None, std: Any = None
    ) -> Array:
        """Bound the total Sobol indices from above, for independent inputs.

        Uniform on [a, b]: ``(b - a)²/pi² E[(dy/dx)²]/Var(y)``.  Normal: ``sd² E[(dy/dx)²]/Var(y)``.
        A bound above 1 says nothing.

        Parameters
        ----------
        distribution : "uniform" or "normal"
        low, high : array, shape (n,), optional
            Ends of the uniform distributions, those of the data unless given.
        std : array, shape (n,), optional
            Standard deviations of the normal ones, those of the data unless given.

        Returns
        -------
        array, shape (m, n)
        """
        if distribution not in ("uniform", "normal"):
            raise ValueError(
                f"sobol_bound: distribution: expected 'uniform' or 'normal', not {distribution!r}."
            )
        ends = self.input_range
        given = {"low": low, "high": high, "std": std}
        default = {"low": ends[0], "high": ends[1], "std": self.input_std}
        sizes = {
            what: default[what] if value is None else _per_input(value, self.input_names, what)
            for what, value in given.items()
        }
        width = (sizes["high"] - sizes["low"]) / np.pi
        scale = width if distribution == "uniform" else sizes["std"]
        return over(self.root_mean_square**2 * scale**2, self.output_std[:, None] ** 2)

    def active_subspace(self, units: str = "original") -> ActiveSubspace:
        """Diagonalise ``E[JᵀJ]``, summed over the selected outputs.

        Parameters
        ----------
        units : "original" or "standard"
            The inputs as they are, or in their standard deviations, which makes them comparable.

        Returns
        -------
        ActiveSubspace
        """
        if units not in ("original", "standard"):
            raise ValueError(
                f"active_subspace: units: expected 'original' or 'standard', not {units!r}."
            )
        scale = self.input_std if units == "standard" else np.ones(len(self.input_names))
        return active_subspace(self.mean_gram, scale, self.input_names)


def _per_input(value: Any, inputs: tuple[str, ...], what: str) -> Array:
    where, names = f"sobol_bound: {what}", column_names(value)
    if names is not None:
        order = matched(names, inputs, where, f"{what}[list(record.input_names)]")
        value = take_columns(value, order, where, np.dtype(np.float64))
    numbers = as_floats(value, where)
    require_shape(numbers, (len(inputs),), where, "One per input.")
    return numbers
