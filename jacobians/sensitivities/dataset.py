"""The points of a data set, and the Jacobian as a whole: what a record says beside statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._text import counted
from jacobians.engine import value_and_jacobian
from jacobians.network import Network
from jacobians.sensitivities.accumulators import singular_values
from jacobians.sensitivities.groups import Keys
from jacobians.sensitivities.measures import Measures
from jacobians.sensitivities.names import selection
from jacobians.tracing import trace

SAMPLE_BYTES = 16 * 2**20  # of the Jacobians of the sample; fewer points if they would take more
MANY = 256  # inputs, more of which are not compared in pairs


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """A random sample of the points, without replacement: those with the smallest keys.

    Attributes
    ----------
    keys : array of uint64, shape (S,)
    points : array, shape (S, n_0)
        All inputs.
    x, y, J : array, shape (S, n), (S, m), (S, m, n)
        The selected inputs and outputs, and their Jacobians.
    """

    keys: Keys
    points: Array
    x: Array
    y: Array
    J: Array

    def __repr__(self) -> str:
        return f"Sample of {counted(len(self.points), 'point')}, Jacobians {self.J.shape}"


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """The points of a record: their inputs and outputs, a sample of them, kinks, spectra.

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
    _computed: dict[Any, Any] = field(default_factory=dict, init=False)

    # --- the data ---------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of points."""
        return int(self._measures.count)

    @property
    def groups(self) -> int:
        """Number of groups of points from which the intervals come: those that hold any."""
        return len(self._measures.sizes)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs, (m, n)."""
        return len(self.output_names), len(self.input_names)

    @property
    def input_mean(self) -> Array:
        """Mean of every input, shape (n,)."""
        return np.array(self._measures.mean[: self.shape[1]])

    @property
    def input_std(self) -> Array:
        """Standard deviation of every input (divided by N), shape (n,)."""
        return np.array(self._measures.std[: self.shape[1]])

    @property
    def input_range(self) -> tuple[Array, Array]:
        """Smallest and largest value of every input, each (n,)."""
        ends, n = self.kept["columns"], self.shape[1]
        return ends.low[:n].copy(), ends.high[:n].copy()

    @property
    def output_mean(self) -> Array:
        """Mean of every output, shape (m,)."""
        return np.array(self._measures.mean[self.shape[1] : sum(self.shape)])

    @property
    def output_std(self) -> Array:
        """Standard deviation of every output (divided by N), shape (m,)."""
        return np.array(self._measures.std[self.shape[1] :])

    @property
    def _measures(self) -> Measures:
        measures: Measures = self._once("sums", lambda: Measures(self.kept["columns"], *self.shape))
        return measures

    @property
    def sample(self) -> Sample:
        """A random sample of the points with inputs, outputs and Jacobians.

        Of 500 points, or as many as have Jacobians of 16 MiB; in the order of their keys.
        """
        sample: Sample = self._once("sample", self._sample)
        return sample

    def _sample(self) -> Sample:
        net, (m, n) = self.network, self.shape
        keys, points = self._points
        few = max(1, SAMPLE_BYTES // (8 * m * n))
        keys, points = keys[:few], points[:few]
        some: dict[str, Any] = selection(self.outputs, self.inputs, net.widths)
        y, J = value_and_jacobian(net, points, **some)
        arrays = points, points[:, self.inputs], y[:, self.outputs], J
        return Sample(keys, *(array.astype(np.float64) for array in arrays))

    @property
    def _points(self) -> tuple[Keys, Array]:
        keys_and_points: tuple[Keys, Array] = self._once("points", self.kept["sample"].smallest)
        return keys_and_points

    def correlated(self, above: float = 0.8) -> list[tuple[str, str, float]]:
        """Return the pairs of inputs whose correlation in the sample is larger than that, or -that.

        The strongest first.  Data hardly tell the effects of such inputs apart: a network may put
        the effect of the pair on either, or opposite slopes on both that cancel where they move
        together.  Of at most 256 inputs.
        """
        if len(self.inputs) > MANY:
            return []
        x = self._points[1][:, self.inputs].astype(np.float64)
        x -= x[:1]  # a column that is constant becomes exactly 0
        x -= x.mean(axis=0)
        size = np.sqrt((x**2).sum(axis=0))
        x /= np.where(size > 0, size, np.inf)
        correlation = np.triu(x.T @ x, 1)
        pairs = np.argwhere(np.abs(correlation) > above)
        pairs = pairs[np.argsort(-np.abs(correlation[tuple(pairs.T)]), kind="stable")]
        names = self.input_names
        return [(names[i], names[j], float(correlation[i, j])) for i, j in pairs]

    # --- the Jacobian as a whole ------------------------------------------------------------------

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
        points = self._points[1]
        at, close = np.zeros((2, len(points)), bool)
        if any(layer.activation.kinks or layer.kinked for layer in self.network.layers):
            seen = trace(self.network, points)
            for l, _, distance in seen.kink_distances():
                reach = self.near * np.abs(seen.preactivation(l)).max(axis=1, keepdims=True)
                at |= (distance == 0).any(axis=1)
                close |= (distance <= reach).any(axis=1)
        return {"at": int(at.sum()), "near": int((at | close).sum()), "points": len(points)}

    @property
    def mean_gram(self) -> Array:
        """``E[JᵀJ]`` summed over the selected outputs, shape (n, n).

        Of the sample; of all points if the record was made with ``subspace=True``.
        """
        if "JᵀJ" in self.kept:
            return np.asarray(self.kept["JᵀJ"].sum / self.count)
        rows = self.sample.J.reshape(-1, self.shape[1])
        return np.asarray(rows.T @ rows / len(self.sample.J))

    def unit(self, output: int, given: int) -> str:
        """Return the unit of ``dy_i/dx_j``, or nothing where none is known."""
        above = self.units.get(self.output_names[output], "")
        below = self.units.get(self.input_names[given], "")
        if not below:
            return above
        return f"{above or 1} / {f'({below})' if set(below) & set('/ ·*') else below}"

    def _once(self, key: Any, compute: Any) -> Any:
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]
