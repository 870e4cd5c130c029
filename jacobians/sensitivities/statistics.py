"""Statistics: the labelled numbers of a data set, computed from the sums when they are asked for.

Everything is float64, in the units of inputs and outputs: ``mean[i, j]`` is in units of ``y_i`` per
unit of ``x_j``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, Places, as_floats, require_shape, underflow_is_rounding
from jacobians.network import Network
from jacobians.sensitivities.accumulators import Sample, singular_values
from jacobians.sensitivities.groups import as_confidence, squared_error, student_interval
from jacobians.sensitivities.measures import SIGNED, STATISTICS, Measures, above, over, ranks
from jacobians.sensitivities.subspace import ActiveSubspace, active_subspace
from jacobians.tracing import trace

SLAB = 2**16  # numbers of the statistic without each group, at a time


def _named(name: str, meaning: str) -> Any:
    return property(lambda self: self.statistic(name), doc=f"{meaning}  Shape (m, n).")


@dataclass(frozen=True, eq=False, repr=False)
class Statistics:
    """Statistics of ``dy_i/dx_j`` over a data set; made by ``sensitivity``.

    Everything is float64, in the units of inputs and outputs: ``mean[i, j]`` is in units of
    ``y_i`` per unit of ``x_j``.

    Attributes
    ----------
    network : Network
    input_names, output_names : tuple of str
        Of the selected inputs and outputs; n and m of them.
    inputs, outputs : tuple of int
        Their numbers, from 0.
    units : dict of str to str
        Units by name, where they are known.
    near : float
        A point is near a kink if a preactivation is within this share of the largest of its layer.
    kept : dict of str to accumulator
        The sums themselves; see ``jacobians.sensitivities.accumulators``.
    """

    network: Network
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    units: Mapping[str, str]
    near: float
    kept: Mapping[str, Any]
    _found: dict[Any, Any] = field(default_factory=dict, init=False)

    # --- the data ---------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of points."""
        return int(self._sizes.sum())

    @property
    def groups(self) -> int:
        """Number of groups of points from which the intervals come: those that hold any."""
        return int((self._sizes > 0).sum())

    @property
    def _sizes(self) -> Array:
        sizes: Array = self.kept["sizes"].sizes
        return sizes

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs, (m, n)."""
        return len(self.output_names), len(self.input_names)

    @property
    def input_mean(self) -> Array:
        """Mean of every input, shape (n,)."""
        return self._plain.input_moments()[0].ravel()

    @property
    def input_std(self) -> Array:
        """Standard deviation of every input (divided by N), shape (n,)."""
        return np.sqrt(self._plain.input_moments()[1].ravel())

    @property
    def input_range(self) -> tuple[Array, Array]:
        """Smallest and largest value of every input, each (n,)."""
        ends, n = self.kept["range of data"], self.shape[1]
        return ends.low[:n].copy(), ends.high[:n].copy()

    @property
    def output_mean(self) -> Array:
        """Mean of every output, shape (m,)."""
        return self._plain.output_moments()[0].ravel()

    @property
    def output_std(self) -> Array:
        """Standard deviation of every output (divided by N), shape (m,)."""
        return np.sqrt(self._plain.output_moments()[1].ravel())

    @property
    def _plain(self) -> Measures:
        return Measures(self.kept, self.shape)

    @property
    def sample(self) -> Sample:
        """A random sample of the points with inputs, outputs and Jacobians, for pictures."""
        sample: Sample = self._once("sample", lambda: self.kept["sample"].sample)
        return sample

    def correlated(self, above: float = 0.8) -> list[tuple[str, str, float]]:
        """Return the pairs of inputs whose correlation in the data is larger than that, or -that.

        The strongest first.  Data hardly tell the effects of such inputs apart: a network may put
        the effect of the pair on either, or opposite slopes on both that cancel where they move
        together.  Of at most 256 inputs, unless ``subspace=True`` was said.
        """
        if not self.has_subspace:
            return []
        products = self.kept["xxᵀ"].sum
        scale = np.sqrt(np.diag(products))
        correlation = np.triu(np.nan_to_num(over(products, np.outer(scale, scale))), 1)
        pairs = np.argwhere(np.abs(correlation) > above)
        pairs = pairs[np.argsort(-np.abs(correlation[tuple(pairs.T)]), kind="stable")]
        names = self.input_names
        return [(names[i], names[j], float(correlation[i, j])) for i, j in pairs]

    # --- statistics -------------------------------------------------------------------------------

    mean = _named("mean", "``E[dy_i/dx_j]``.")
    mean_absolute = _named("mean_absolute", "``E|dy_i/dx_j|``.")
    root_mean_square = _named("root_mean_square", "``sqrt(E[(dy_i/dx_j)²])``.")
    std = _named("std", "Standard deviation of ``dy_i/dx_j`` over the points (divided by N).")
    standardised = _named("standardised", "``E[dy_i/dx_j] sd(x_j)/sd(y_i)``.")
    importance = _named(
        "importance", "``sqrt(E[(dy_i/dx_j)²]) sd(x_j)/sd(y_i)``: what ranks the inputs."
    )

    @property
    def minimum(self) -> Array:
        """Smallest derivative, shape (m, n)."""
        return np.array(self.kept["range of J"].low).reshape(self.shape)

    @property
    def maximum(self) -> Array:
        """Largest derivative, shape (m, n)."""
        return np.array(self.kept["range of J"].high).reshape(self.shape)

    @property
    def elasticity(self) -> Array:
        """``E[(x_j/y_i) dy_i/dx_j]`` over the points where ``y_i`` is not 0, shape (m, n).

        By how many per cent the output grows when the input grows by one per cent.  NaN if the
        output is 0 at all points.
        """
        total = self.kept["elasticity"].sum.reshape(self.shape)
        return over(total, (self.count - self.without_elasticity).astype(np.float64))

    @property
    def without_elasticity(self) -> NDArray[np.int64]:
        """Number of points where ``1/y_i`` leaves the range: y_i is 0 or nearly so, (m, n)."""
        undefined: NDArray[np.int64] = self.kept["elasticity"].undefined
        return undefined.reshape(self.shape).copy()

    @property
    def elasticity_at_means(self) -> Array:
        """``(E[x_j]/E[y_i]) E[dy_i/dx_j]``, NaN where an output has mean 0, shape (m, n)."""
        return over(self.mean * self.input_mean, self.output_mean[:, None])

    # --- which inputs matter most -----------------------------------------------------------------

    @property
    def basis(self) -> str:
        """What ``order``, ``rank`` and ``most_influential`` go by, in words."""
        if (self._effect() == self.root_mean_square).all():
            return "root mean square of dy/dx, since the data do not vary"
        return "importance = sqrt(E[(dy/dx)^2]) sd(x)/sd(y)"

    @property
    def order(self) -> Places:
        """The inputs of every output, the most important first, shape (m, n)."""
        return np.argsort(-self._effect(), axis=1, kind="stable")

    @property
    def rank(self) -> Places:
        """Place of each input among all, by ``importance``: 1 is the largest, shape (m, n)."""
        return ranks(self._effect()).astype(np.intp)

    def _effect(self) -> Array:
        """Importance but for sd(y), which may be 0; raw where no input that matters varies."""
        effect, raw = self.statistic("effect"), self.root_mean_square
        return np.where(effect.max(axis=1, keepdims=True) > 0, effect, raw)

    def most_influential(self, output: int, count: int = 5) -> list[tuple[str, float, float]]:
        """Return (name, importance, mean derivative) of the first few inputs."""
        sizes, means = self.importance[output], self.mean[output]
        first = self.order[output, :count]
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
        if name not in STATISTICS:
            known = ", ".join([*STATISTICS, "rank"])
            raise ValueError(f"statistic: expected one of {known}, but got {name!r:.80}.")
        return np.array(self._once(name, lambda: self._measured(name)[0]))

    @underflow_is_rounding
    def interval(self, name: str, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the ends of a confidence interval: how far off for being a sample of points.

        By the jackknife over 64 random groups of points; see ``jacobians.sensitivities.groups``.
        Of a rank: the places that the intervals of all inputs leave it.

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
        estimate = self.statistic(name)
        if name == "rank":
            return self._rank_interval(level)
        error = self._once((name, "error"), lambda: self._error(name, estimate))
        return student_interval(estimate, error, self._sizes, level, name not in SIGNED)

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

    def _error(self, name: str, estimate: Array) -> Array:
        """Return the standard error of a statistic, a few outputs or groups at a time."""
        labels, squares = np.flatnonzero(self._sizes), np.zeros(self.shape)
        if len(labels) < 2:
            return np.full(self.shape, np.nan)
        m, n = self.shape
        rows = max(1, SLAB // (len(labels) * n))
        step = max(1, SLAB // (rows * n))
        for i in range(0, m, rows):
            outputs = slice(i, i + rows)
            for start in range(0, len(labels), step):
                some = labels[start : start + step]
                deleted = self._measured(name, some, outputs)
                squares[outputs] += squared_error(
                    deleted, estimate[outputs], self._sizes[some], self.count
                )
        return np.sqrt(squares)

    def _measured(
        self, name: str, left_out: Places | None = None, outputs: slice = slice(None)
    ) -> Array:
        return STATISTICS[name](Measures(self.kept, self.shape, left_out, outputs))

    def _once(self, key: Any, compute: Any) -> Any:
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

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
        n, measures = len(self.input_names), self._plain
        given = [_per_input(value, n, what) for value, what in ((low, "low"), (high, "high"))]
        if distribution not in ("uniform", "normal"):
            raise ValueError(
                f"sobol_bound: distribution: expected 'uniform' or 'normal', not {distribution!r}."
            )
        if distribution == "uniform":
            bounds = measures.sobol_uniform(*given)
        else:
            bounds = measures.sobol_normal(_per_input(std, n, "std"))
        return np.asarray(bounds[0])

    # --- the Jacobian as a whole ------------------------------------------------------------------

    @property
    def has_subspace(self) -> bool:
        """Whether ``JᵀJ`` and the correlations of the inputs were kept."""
        return "JᵀJ" in self.kept

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
        if not self.has_subspace:
            raise ValueError("active_subspace: made with subspace=False.")
        if units not in ("original", "standard"):
            raise ValueError(
                f"active_subspace: units: expected 'original' or 'standard', not {units!r}."
            )
        scale = self.input_std if units == "standard" else np.ones(len(self.input_names))
        return active_subspace(self.kept["JᵀJ"].sum / self.count, scale, self.input_names)

    @property
    def singular_values(self) -> dict[str, Array]:
        """Mean, smallest and largest of every singular value of J, each (k,).

        Of the sample; of all points if the record was made with ``singular_values=True``.
        """
        if "singular values" in self.kept:
            kept = self.kept["singular values"]
            return {"mean": kept.sum / self.count, "minimum": kept.low, "maximum": kept.high}
        values = self._spectra
        ends = {"minimum": values.min(axis=0), "maximum": values.max(axis=0)}
        return {"mean": values.mean(axis=0), **ends}

    def norm_quantile(self, share: float) -> float:
        """Return a quantile of the norm of J over the sample, its ends as in ``singular_values``.

        The norm of J is its largest singular value: how far the outputs move at most per length
        of a small step of the inputs, a local Lipschitz constant.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"norm_quantile: share: expected 0 to 1, but got {share!r:.80}.")
        if share in (0, 1):
            return float(self.singular_values["maximum" if share else "minimum"][0])
        return float(np.quantile(self._spectra[:, 0], share))

    @property
    def _spectra(self) -> Array:
        spectra: Array = self._once("spectra", lambda: singular_values(self.sample.J))
        return spectra

    @property
    def kinks(self) -> dict[str, int]:
        """Points of the sample with a unit at a kink of its activation, and near one; of how many.

        There the derivative jumps, and its value is a choice.
        """
        counts: dict[str, int] = self._once("kinks", self._count_kinks)
        return dict(counts)

    def _count_kinks(self) -> dict[str, int]:
        points = self.sample.points
        at, close = np.zeros((2, len(points)), bool)
        if any(layer.activation.kinks for layer in self.network.layers):
            seen = trace(self.network, points)
            for layer, z in zip(self.network.layers, seen.preactivations, strict=True):
                reach = self.near * np.abs(z).max(axis=1, keepdims=True)
                for kink in layer.activation.kinks:
                    at |= (z == kink).any(axis=1)
                    close |= (np.abs(z - kink) <= reach).any(axis=1)
        return {"at": int(at.sum()), "near": int((at | close).sum()), "points": len(points)}

    def unit(self, output: int, given: int) -> str:
        """Return the unit of ``dy_i/dx_j``, or nothing where none is known."""
        above = self.units.get(self.output_names[output], "")
        below = self.units.get(self.input_names[given], "")
        if not below:
            return above
        return f"{above or 1} / {f'({below})' if set(below) & set('/ ·*') else below}"


def _per_input(value: Any, n: int, what: str) -> Array | None:
    if value is None:
        return None
    numbers = as_floats(value, f"sobol_bound: {what}")
    require_shape(numbers, (n,), f"sobol_bound: {what}", "One per input.")
    return numbers
