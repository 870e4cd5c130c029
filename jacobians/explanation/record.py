"""Explanation: what each input contributed to a prediction, and whether that is all of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians import plotting, reports
from jacobians._checks import Array, underflow_is_rounding
from jacobians._text import counted, table
from jacobians.explanation.paths import Paths
from jacobians.explanation.writing import cells, fragment, page, rows, text
from jacobians.sensitivities.exports import frame_of
from jacobians.sensitivities.groups import as_confidence, student_interval
from jacobians.sensitivities.names import number_of


@dataclass(frozen=True, eq=False, repr=False)
class Completeness:
    """Whether the contributions sum to ``H(x) - H(baseline)``; each (m,).

    Attributes
    ----------
    sum, expected : array
        The sum of the contributions, and the difference of the values.
    allowed : array
        How far apart rounding, and the quadrature if there was one, may leave them: an estimate to
        first order, not a proof.
    """

    sum: Array
    expected: Array
    allowed: Array

    def __repr__(self) -> str:
        worst = np.abs(self.difference).max(initial=0)
        verdict = "holds" if self.holds.all() else "does not hold"
        return f"Completeness {verdict}: off by {worst:.1e}"

    @property
    def difference(self) -> Array:
        """What remains unexplained."""
        return self.expected - self.sum

    @property
    def holds(self) -> Any:
        """Whether the difference is within what is allowed, if that is known."""
        return (np.abs(self.difference) <= self.allowed) & np.isfinite(self.allowed)


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Why a network predicts what it predicts at a point; made by ``explain``.

    Attributes
    ----------
    paths : Paths
        The network, the point, the baselines, and where the network bends between them.
    each : array, shape (B, m, n)
        The contributions from each of B baselines.
    error : array, shape (m,)
        How far the quadrature may be off in a contribution, by its estimate; 0 where it is exact.
    value, baseline_value : array, shape (m,)
        ``H(x)``, and ``H`` at the baseline, or its mean over several.
    completeness : Completeness
    input_names, output_names : tuple of str
    baseline_is : str
        What the baseline is, in words.
    """

    paths: Paths
    each: Array
    error: Array
    value: Array
    baseline_value: Array
    completeness: Completeness
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    baseline_is: str

    @cached_property
    def contributions(self) -> Array:
        """Contributions of the inputs, (m, n): the mean over the baselines."""
        mean: Array = self.each.mean(axis=0)
        return mean

    @property
    def point(self) -> Array:
        """The point that is explained, (n,)."""
        return self.paths.x

    @property
    def baseline(self) -> Array:
        """The baseline, (n,), or several of them, (B, n)."""
        given = self.paths.baselines
        return given[0] if len(given) == 1 else given

    @property
    def method(self) -> str:
        """How the contributions were computed."""
        if not self.paths.integrated:
            return "gradient times input"
        way = "exact" if self.paths.exact else "quadrature"
        return f"integrated gradients, {way}"

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the ends of Student's interval of each mean over the baselines, (m, n) both.

        The baselines count as a sample of all that could have been taken; NaN if there is one.
        """
        level = as_confidence(confidence, "Explanation.interval: confidence")
        B = len(self.each)
        spread = self.each.std(axis=0, ddof=1) if B > 1 else np.full(self.each.shape[1:], np.nan)
        return student_interval(self.contributions, spread / np.sqrt(B), np.ones(B), level, False)

    @underflow_is_rounding
    def units(self, l: int | str) -> Array:
        """Return the contributions of the entries of a node's value, (m, n_l), l=0 the inputs.

        The integral of ``da^of/da^l`` times ``da^l/dt`` along the way (the conductance of a unit),
        by the same method.  They sum to what the inputs' do if every path goes through the node.

        Raises
        ------
        ValueError
            If there is no such node before the one that is explained.
        """
        number = self.paths.net.number(l, "Explanation.units: l", 0, self.paths.of)
        mean: Array = self.paths.contributions(number)[0].mean(axis=0)
        return mean

    # --- out --------------------------------------------------------------------------------------

    def to_frame(self, confidence: float = 0.95) -> Any:
        """Return a pandas DataFrame: one row per output and input."""
        return frame_of(rows(self, as_confidence(confidence, "to_frame: confidence")), "to_frame")

    def table(self, output: int | str = 0, confidence: float = 0.95, count: int = 10) -> str:
        """Return a table of one output as text, the largest contributions on top."""
        level = as_confidence(confidence, "table: confidence")
        i = number_of(output, self.output_names, "table: output")
        return table(*cells(self, i, level, count))

    def plot(self, output: int | str = 0, *, count: int = 10, ax: Any = None) -> Any:
        """Draw the contributions to one output as a waterfall and return its axes.

        Parameters
        ----------
        output : int or str
            By its place among those explained, or by name.
        count : int
            How many inputs get a step of their own.
        ax : Axes, optional
        """
        i = number_of(output, self.output_names, "plot: output")
        names = [f"{a} = {v:.4g}" for a, v in zip(self.input_names, self.point, strict=True)]
        ends: Any = {"start": float(self.baseline_value[i]), "stop": float(self.value[i])}
        look: Any = {"count": count, "ax": ax, "label": self.output_names[i]}
        return plotting.waterfall(self.contributions[i], names, **ends, **look)

    def save_html(self, path: str | os.PathLike[str], title: str = "Why this prediction") -> None:
        """Write one self-contained page with tables and pictures: no scripts, no connections.

        Raises
        ------
        ImportError
            If jinja2 or matplotlib is missing, naming the extra.
        """
        reports.write_text(path, page(self, title))

    def _repr_html_(self) -> str:
        return fragment(self)

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        m, n = self.contributions.shape
        kinks = f" between {counted(self.paths.kinks, 'kink')}" if self.paths.kinks else ""
        what = f"{counted(m, 'output')} by {counted(n, 'input')}"
        return f"Explanation of {what}: {self.method}{kinks}"
