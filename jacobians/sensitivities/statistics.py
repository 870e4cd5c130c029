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

from jacobians._checks import Array, as_floats, require_shape
from jacobians.network import Network
from jacobians.sensitivities.bootstrap import as_confidence, percentile_interval
from jacobians.sensitivities.measures import STATISTICS, Moments, elasticity, elasticity_at_means
from jacobians.sensitivities.subspace import ActiveSubspace, active_subspace
from jacobians.sensitivities.tally import Sample, Tally


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
    tally : Tally
        The sums themselves.
    """

    network: Network
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    units: Mapping[str, str]
    near: float
    tally: Tally
    _found: dict[tuple[str, bool], Array] = field(default_factory=dict, init=False)

    # --- the data ---------------------------------------------------------------------------------

    @property
    def input_mean(self) -> Array:
        """Mean of every input, shape (n,)."""
        return np.array(self._plain.mean_of("x")[0])

    @property
    def input_std(self) -> Array:
        """Standard deviation of every input (divided by N), shape (n,)."""
        return np.array(np.sqrt(self._plain.variance_of("x")[0]))

    @property
    def input_range(self) -> tuple[Array, Array]:
        """Smallest and largest value of every input, each (n,)."""
        return self.tally.lowest.copy(), self.tally.highest.copy()

    @property
    def output_mean(self) -> Array:
        """Mean of every output, shape (m,)."""
        return np.array(self._plain.mean_of("y")[0])

    @property
    def output_std(self) -> Array:
        """Standard deviation of every output (divided by N), shape (m,)."""
        return np.array(np.sqrt(self._plain.variance_of("y")[0]))

    @property
    def _plain(self) -> Moments:
        return Moments(self.tally, slice(0, 1))

    # --- statistics -------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of points."""
        return self.tally.count

    @property
    def replicates(self) -> int:
        """Number of bootstrap replicates."""
        return len(self.tally.totals) - 1

    @property
    def mean(self) -> Array:
        """``E[dy_i/dx_j]``, shape (m, n)."""
        return self.statistic("mean")

    @property
    def mean_absolute(self) -> Array:
        """``E|dy_i/dx_j|``, shape (m, n)."""
        return self.statistic("mean_absolute")

    @property
    def root_mean_square(self) -> Array:
        """``sqrt(E[(dy_i/dx_j)²])``, shape (m, n)."""
        return self.statistic("root_mean_square")

    @property
    def std(self) -> Array:
        """Standard deviation of ``dy_i/dx_j`` over the points (divided by N), shape (m, n)."""
        return self.statistic("std")

    @property
    def minimum(self) -> Array:
        """Smallest derivative, shape (m, n)."""
        return self.tally.smallest.copy()

    @property
    def maximum(self) -> Array:
        """Largest derivative, shape (m, n)."""
        return self.tally.largest.copy()

    @property
    def standardised(self) -> Array:
        """``mean`` in standard deviations, ``E[dy_i/dx_j] sd(x_j)/sd(y_i)``, shape (m, n)."""
        return self.statistic("standardised")

    @property
    def elasticity(self) -> Array:
        """``E[(x_j/y_i) dy_i/dx_j]`` over the points where ``y_i`` is not 0, shape (m, n)."""
        return elasticity(self.tally)

    @property
    def without_elasticity(self) -> NDArray[np.int64]:
        """Number of points where ``x_j/y_i`` leaves the range, since ``y_i`` is 0 or nearly so."""
        return self.tally.undefined.copy()

    @property
    def elasticity_at_means(self) -> Array:
        """``(E[x_j]/E[y_i]) E[dy_i/dx_j]``, shape (m, n)."""
        return elasticity_at_means(self.tally)

    @property
    def rank(self) -> Array:
        """Place of each input among all, by ``mean_absolute``: 1 is the largest, shape (m, n)."""
        return self.statistic("rank").astype(np.int64)

    def statistic(self, name: str) -> Array:
        """Return a statistic by its name in ``jacobians.sensitivities.measures``, shape (m, n).

        >>> import jacobians as jb
        >>> net = jb.Network([jb.Dense([[2.0, -1.0]])])
        >>> jb.sensitivity(net, [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]).statistic("sobol_uniform")
        array([[0.34738692, 0.19540514]])
        """
        return np.array(self._computed(name, replicates=False)[0])

    def interval(self, name: str, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the bootstrap percentile interval of a statistic.

        Parameters
        ----------
        name : str
            As in ``statistic``.
        confidence : float
            Between 0 and 1.

        Returns
        -------
        low, high : array, shape (m, n)

        Raises
        ------
        ValueError
            If the record was made without replicates.
        """
        level = as_confidence(confidence, "interval: confidence")
        if not self.replicates:
            raise ValueError("interval: made with replicates=0; ask sensitivity for 200 or so.")
        values = self._computed(name, replicates=True)
        # of few points, a replicate may draw none
        return percentile_interval(values[self.tally.totals[1:] > 0], level)

    def _computed(self, name: str, replicates: bool) -> Array:
        if name not in STATISTICS:
            known = ", ".join(STATISTICS)
            raise ValueError(f"statistic: expected one of {known}, but got {name!r:.80}.")
        if (name, replicates) not in self._found:
            weightings = slice(1, None) if replicates else slice(0, 1)
            # a replicate may have drawn no point, and squares of what is tiny count as 0
            with np.errstate(invalid="ignore", divide="ignore", under="ignore"):
                found = STATISTICS[name](Moments(self.tally, weightings))
            self._found[name, replicates] = found
        return self._found[name, replicates]

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
        n, moments = len(self.input_names), self._plain
        given = [_per_input(value, n, what) for value, what in ((low, "low"), (high, "high"))]
        if distribution not in ("uniform", "normal"):
            raise ValueError(
                f"sobol_bound: distribution: expected 'uniform' or 'normal', not {distribution!r}."
            )
        if distribution == "uniform":
            bounds = moments.sobol_uniform(*given)
        else:
            bounds = moments.sobol_normal(_per_input(std, n, "std"))
        return np.asarray(bounds[0])

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
        n = len(self.input_names)
        if not self.tally.sums["JᵀJ"].top.size:
            raise ValueError("active_subspace: made with subspace=False.")
        if units not in ("original", "standard"):
            raise ValueError(
                f"active_subspace: units: expected 'original' or 'standard', not {units!r}."
            )
        C = np.zeros((n, n))
        rows, columns = np.triu_indices(n)
        C[rows, columns] = C[columns, rows] = self.tally.sums["JᵀJ"].value[0] / self.count
        scale = self.input_std if units == "standard" else np.ones(n)
        return active_subspace(C, scale, self.input_names)

    @property
    def singular_values(self) -> dict[str, Array]:
        """Mean, smallest and largest of every singular value of J over the points, each (k,)."""
        low, high = self.tally.singular_range
        mean = self.tally.sums["singular"].value[0] / self.count
        return {"mean": mean, "minimum": low.copy(), "maximum": high.copy()}

    def norm_quantile(self, share: float) -> float:
        """Return a quantile over the points of the norm of J, to 1/64 of its value.

        The norm of J is its largest singular value: how far the outputs move at most per length
        of a small step of the inputs, a local Lipschitz constant.  0 and 1 give the exact ends.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"norm_quantile: share: expected 0 to 1, but got {share!r:.80}.")
        low, high = self.tally.singular_range
        if not low.size:
            raise ValueError("norm_quantile: made with singular_values=False.")
        if share in (0, 1):
            return float(low[0] if share == 0 else high[0])
        return float(np.clip(self.tally.norms.quantile(share), low[0], high[0]))

    @property
    def kinks(self) -> dict[str, int]:
        """Number of points with a unit at a kink of its activation, and near one."""
        return {"at": self.tally.at_kink, "near": self.tally.near_kink}

    @property
    def sample(self) -> Sample:
        """A random sample of the points with inputs, outputs and Jacobians, for pictures."""
        return self.tally.sample

    def most_influential(self, output: int, count: int = 5) -> list[tuple[str, float, float]]:
        """Return (name, mean absolute derivative, mean derivative) of the first few inputs."""
        sizes, means = self.mean_absolute[output], self.mean[output]
        order = np.argsort(-sizes, kind="stable")[:count]
        return [(self.input_names[j], float(sizes[j]), float(means[j])) for j in order]

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
