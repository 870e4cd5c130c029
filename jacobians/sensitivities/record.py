"""Sensitivity: statistics that merge, and that leave as text, numbers, pictures or a page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from jacobians import reports
from jacobians._checks import ShapeError, as_count, as_items, underflow_is_rounding
from jacobians._notebook import Displayed, Table
from jacobians.certificate import Certificate
from jacobians.network import Network
from jacobians.sensitivities.exports import derivatives, to_dataframe, to_json
from jacobians.sensitivities.groups import as_confidence
from jacobians.sensitivities.page import page
from jacobians.sensitivities.pictures import Kind, draw
from jacobians.sensitivities.statistics import Statistics
from jacobians.sensitivities.text import output_table, text


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
        otherwise their random groups are those of their places in either part.

        Raises
        ------
        ValueError
            If networks, selections or what was left out differ.
        """
        if not isinstance(other, Sensitivity):
            raise TypeError(f"merge: expected a Sensitivity, but got {type(other).__name__}.")
        for what, mine, theirs in (
            ("network", _identity(self.network), _identity(other.network)),
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

        mean, mean_absolute, root_mean_square, std and importance come with ``_low`` and ``_high``,
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
        scale: Literal["original", "standard"] = "original",
        ax: Any = None,
    ) -> Any:
        """Draw a picture with matplotlib and return its axes.

        Parameters
        ----------
        kind : str
            "bars", "violins", "heat map", "saliency", "spectrum", "against input", "subspace" or
            "summary": see ``jacobians.sensitivities.pictures``.
        output : int or str
            Which output, by its place among the selected ones or by name.
        against : int or str, optional
            Which input, for "against input"; the most influential one unless said.
        scale : "original" or "standard"
            Derivatives as they are, or times sd(x)/sd(y), for bars, violins and heat map.
        ax : Axes, optional
            Where to draw; new axes unless said.
        """
        i = place_of(output, self.output_names, "plot: output")
        j = None if against is None else place_of(against, self.input_names, "plot: against")
        return draw(self, kind, i, j, ax, scale)

    def table(self, output: int | str = 0, confidence: float = 0.95, count: int = 10) -> str:
        """Return a table of one output as text: its most important inputs, the first on top."""
        level = as_confidence(confidence, "table: confidence")
        return output_table(
            self, place_of(output, self.output_names, "table: output"), level, count
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
        sizes = (many(m, "output"), many(n, "input"), many(self.count, "point"))
        return "Sensitivity of {} to {} over {}".format(*sizes)


def many(count: int, what: str) -> str:
    """Write how many there are of something.

    >>> many(1, "point"), many(2000, "point")
    ('1 point', '2,000 points')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def place_of(which: int | str, names: tuple[str, ...], where: str) -> int:
    """Return the place of a name, or check a number from 0."""
    if isinstance(which, str):
        if which not in names:
            raise ValueError(f"{where}: expected one of {', '.join(names[:8])}, but got {which!r}.")
        return names.index(which)
    place = as_count(which, where, at_least=0)
    if place >= len(names):
        raise ValueError(f"{where}: expected a number below {len(names)}, but got {place}.")
    return place


def _identity(net: Network) -> tuple[str, bytes]:
    return repr((net, net.layers)), net.parameters.tobytes()


def as_names(names: Any, width: int, letter: str, where: str) -> tuple[str, ...]:
    """Check names, or number them from 1."""
    if names is None:
        return tuple(f"{letter}{k}" for k in range(1, width + 1))
    found = tuple(map(str, as_items(names, f"sensitivity: {where}")))
    if len(found) != width:
        raise ShapeError(f"sensitivity: {where}: expected {width} names, but got {len(found)}.")
    if len(set(found)) < width:
        twice = next(name for name in found if found.count(name) > 1)
        raise ValueError(f"sensitivity: {where}: {twice!r} stands for two of them.")
    return found
