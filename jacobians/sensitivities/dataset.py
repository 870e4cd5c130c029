"""The points of a data set, and the Jacobian as a whole: what a record says beside statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.network import Network
from jacobians.sensitivities.accumulators import Sample, singular_values
from jacobians.sensitivities.measures import Measures, over
from jacobians.tracing import trace


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

    @property
    def has_subspace(self) -> bool:
        """Whether ``JᵀJ`` and the correlations of the inputs were kept."""
        return "JᵀJ" in self.kept

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
        points = self.sample.points
        at, close = np.zeros((2, len(points)), bool)
        if any(layer.activation.kinks or layer.kinked for layer in self.network.layers):
            seen = trace(self.network, points)
            for l, _, distance in seen.kink_distances():
                reach = self.near * np.abs(seen.preactivation(l)).max(axis=1, keepdims=True)
                at |= (distance == 0).any(axis=1)
                close |= (distance <= reach).any(axis=1)
        return {"at": int(at.sum()), "near": int((at | close).sum()), "points": len(points)}

    def unit(self, output: int, given: int) -> str:
        """Return the unit of ``dy_i/dx_j``, or nothing where none is known."""
        above = self.units.get(self.output_names[output], "")
        below = self.units.get(self.input_names[given], "")
        if not below:
            return above
        return f"{above or 1} / {f'({below})' if set(below) & set('/ ·*') else below}"

    def _once(self, key: Any, compute: Any) -> Any:
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]
