"""Sensitivity: statistics that merge, and that leave as text, numbers, pictures or a page."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from jacobians import reports
from jacobians._checks import underflow_is_rounding
from jacobians._notebook import Displayed, Table
from jacobians._text import counted
from jacobians.certificate import Certificate
from jacobians.sensitivities.exports import derivatives, to_dataframe, to_json
from jacobians.sensitivities.groups import as_confidence
from jacobians.sensitivities.names import number_of
from jacobians.sensitivities.page import page
from jacobians.sensitivities.pictures import Kind, draw
from jacobians.sensitivities.statistics import Statistics
from jacobians.sensitivities.text import output_table, text

FEW = 16  # points at which networks are compared


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Statistics, Displayed):
    """Statistics of ``dy_i/dx_j`` over a data set; made by ``sensitivity``.

    The numbers are described in ``Statistics``: ``importance``, ``mean``, ``mean_absolute``,
    ``root_mean_square``, ``std``, ``interval(name)``, ``sobol_bound()``, ``active_subspace()`` and
    more.  Inputs are ranked by ``importance`` everywhere.
    """

    @underflow_is_rounding
    def merge(self, other: Sensitivity) -> Sensitivity:
        """Return the record of the points of both, which must be the same question.

        It agrees with the record of one pass over all points to about 1e-13 of the sizes of their
        terms, in any order; intervals and sample too, if the points came with ``ids``, since
        otherwise their random groups are those of their positions in either.

        Raises
        ------
        ValueError
            If networks, selections or what was left out differ.
        """
        if not isinstance(other, Sensitivity):
            raise TypeError(f"merge: expected a Sensitivity, but got {type(other).__name__}.")
        for what, mine, theirs in (
            ("network", True, _same_network(self, other)),
            ("inputs", (self.inputs, self.input_names), (other.inputs, other.input_names)),
            ("outputs", (self.outputs, self.output_names), (other.outputs, other.output_names)),
            ("near", self.near, other.near),
            ("subspace and singular_values", set(self.kept), set(other.kept)),
        ):
            if mine != theirs:
                raise ValueError(f"merge: the two records differ in {what}.")
        kept = {what: mine.merge(other.kept[what]) for what, mine in self.kept.items()}
        return replace(self, kept=kept)

    # --- out --------------------------------------------------------------------------------------

    def to_dict(self, confidence: float = 0.95) -> dict[str, dict[str, dict[str, float]]]:
        """Return ``{output: {input: {statistic: value}}}`` in plain numbers.

        mean, root_mean_square, std and importance come with ``_low`` and ``_high``,
        the ends of their intervals.
        """
        return derivatives(self, confidence)

    def to_json(self, confidence: float = 0.95, **about: Any) -> str:
        """Return everything as JSON (RFC 8259: what is not a number is null).

        Parameters
        ----------
        confidence : float
            Of the intervals.
        **about
            Further members, of plain dictionaries, lists, text and numbers.
        """
        return to_json(self, confidence, about)

    def to_dataframe(self, confidence: float = 0.95) -> Any:
        """Return a pandas DataFrame: one row per output and input, one column per statistic."""
        return to_dataframe(self, confidence)

    def to_html(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        confidence: float = 0.95,
        title: str = "Sensitivity report",
        certificates: Sequence[Certificate] = (),
        provenance: Mapping[str, str] | None = None,
    ) -> str:
        """Return one self-contained page: no scripts, no connections, pictures included.

        Parameters
        ----------
        path : str or path, optional
            Also write it there, in one step: a half-written file is never seen.
        confidence : float
            Of the intervals.
        title : str
        certificates : sequence of Certificate
            From ``certify``, at some of the points.
        provenance : dict of str, optional
            Rows for the section on how to reproduce it: command, files, date.

        Raises
        ------
        ImportError
            If jinja2 or matplotlib is missing, naming the extra.
        """
        text = page(
            self,
            as_confidence(confidence, "to_html: confidence"),
            title=title,
            certificates=certificates,
            provenance=provenance or {},
        )
        if path is not None:
            reports.write_text(path, text)
        return text

    def plot(
        self,
        kind: Kind = "bars",
        output: int | str = 0,
        against: int | str | None = None,
        *,
        color: int | str | None = None,
        scale: Literal["original", "standard"] | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw a picture with matplotlib and return its axes.

        Parameters
        ----------
        kind : str
            "bars", "violins", "heat map", "saliency", "spectrum", "against input", "mean and
            spread", "alpha curves", "subspace" or "summary": see
            ``jacobians.sensitivities.pictures``.
        output : int or str
            Which output, by its place among the selected ones or by name.
        against : int or str, optional
            Which input, for "against input"; the most influential one unless said.
        color : int or str, optional
            Which input colours the points there; the one that goes along most with the derivative
            unless said.
        scale : "original" or "standard", optional
            Derivatives as they are, or times sd(x)/sd(y), so that inputs of different units can be
            compared: the latter, unless an output does not vary.
        ax : Axes, optional
            Where to draw; new axes unless said.
        """
        i = number_of(output, self.output_names, "plot: output")
        j, k = (
            None if one is None else number_of(one, self.input_names, f"plot: {what}")
            for one, what in ((against, "against"), (color, "color"))
        )
        return draw(self, kind, i, j, k, ax, scale)

    def table(self, output: int | str = 0, confidence: float = 0.95, count: int = 10) -> str:
        """Return a table of one output as text: its most important inputs, the first on top."""
        level = as_confidence(confidence, "table: confidence")
        return output_table(
            self, number_of(output, self.output_names, "table: output"), level, count
        )

    def _table(self) -> Table:
        """Return the importance of every input for every output, the most important first."""
        shown = np.argsort(-self.importance.max(axis=0), kind="stable")
        rows = [
            [self.input_names[j], *(f"{size:.3g}" for size in self.importance[:, j])] for j in shown
        ]
        return [f"input, by {self.basis}", *self.output_names], rows

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        m, n = self.shape
        sizes = (counted(m, "output"), counted(n, "input"), counted(self.count, "point"))
        return "Sensitivity of {} to {} over {}".format(*sizes)


def _same_network(one: Sensitivity, other: Sensitivity) -> bool:
    """Compare layers, parameters, and values at points of both: not all that a layer is it shows.

    Indices, constants and functions of a user make a difference to values alone.
    """
    nets = one.network, other.network
    if nets[0] is nets[1]:
        return True
    if len({(repr((net, net.layers)), net.parameters.tobytes()) for net in nets}) > 1:
        return False
    points = np.concatenate([record._points[1][:FEW] for record in (one, other)])
    with np.errstate(all="ignore"):
        mine, theirs = (deque(net.forward(points), maxlen=1)[0][-1] for net in nets)
    near = float(np.finfo(mine.dtype).eps) ** 0.5  # beyond rounding
    return np.allclose(mine, theirs, near, near * float(np.abs(mine).max()), equal_nan=True)
