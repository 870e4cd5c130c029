"""Records side by side: groups of points, or networks on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jacobians import plotting
from jacobians._checks import Array, ShapeError
from jacobians._notebook import Displayed, Table
from jacobians._tables import column_names
from jacobians._text import counted, shortened, table
from jacobians.sensitivities.groups import as_confidence
from jacobians.sensitivities.measures import over
from jacobians.sensitivities.names import number_of
from jacobians.sensitivities.record import Sensitivity

HEADING = "Importance = sqrt(E[(dy/dx)^2]) sd(x)/sd(y), sd over the points of all records"
RAW = ("mean", "root_mean_square")  # of the derivatives: what decides whether records differ


class Comparison(dict[str, Sensitivity], Displayed):
    """Records by name, of the same inputs and outputs; made by ``compare`` or ``by=``.

    Each is an entry of the dictionary.  Importance is in standard deviations of the points of all
    records together, so that the same derivatives have the same importance in every record.
    Records differ in an input where the intervals of its mean derivative, or of its root mean
    square, do not overlap.
    """

    def __init__(self, records: Mapping[str, Sensitivity], by: str = "") -> None:
        super().__init__(records)
        self.by = by
        if not records:
            raise ValueError("compare: expected records, but got none.")
        for name, record in records.items():
            if not isinstance(record, Sensitivity):
                raise TypeError(
                    f"compare: {name}: expected a record, but got {record!r:.80}. Make one: "
                    "jb.sensitivity(net, X)."
                )
        first, *others = records.values()
        for name, other in zip(list(records)[1:], others, strict=True):
            for what in ("input_names", "output_names"):
                if getattr(other, what) != getattr(first, what):
                    raise ValueError(f"compare: {name!r} and the first record differ in {what}.")
        self.input_names, self.output_names = first.input_names, first.output_names

    def _spread(self, which: str) -> Array:
        """Return the standard deviations of inputs or outputs over the points of all records."""
        counts = np.array([[record.count] for record in self.values()], np.float64)
        means, spreads = (
            np.array([getattr(record, f"{which}_{what}") for record in self.values()])
            for what in ("mean", "std")
        )
        weights = counts / counts.sum()
        between = (weights * (means - (weights * means).sum(axis=0)) ** 2).sum(axis=0)
        same = (means == means[0]).all(axis=0)  # exactly 0 where nothing differs
        spread: Array = np.sqrt((weights * spreads**2).sum(axis=0) + np.where(same, 0.0, between))
        return spread

    def _compared(self, i: int, level: float) -> tuple[Array, Array, Array]:
        """Return importance and the ends of its interval, (records, n) each."""
        scale = over(self._spread("input"), self._spread("output")[i])
        ends = [record.interval("root_mean_square", level) for record in self.values()]
        low, high = (np.array([end[k][i] for end in ends]) * scale for k in (0, 1))
        sizes = np.array([record.root_mean_square[i] for record in self.values()])
        return sizes * scale, low, high

    def _differ(self, i: int, level: float) -> Any:
        """Whether intervals of the derivatives do not overlap, (n,)."""
        ends = [[record.interval(name, level) for record in self.values()] for name in RAW]
        low, high = (np.array([[end[k][i] for end in each] for each in ends]) for k in (0, 1))
        rounding = 1e-12 * np.abs(low).max(axis=1)  # of means over different points
        return (low.max(axis=1) > high.min(axis=1) + rounding).any(axis=0)

    def table(self, output: int | str = 0, confidence: float = 0.95, count: int = 10) -> str:
        """Return importance in every record as text, and which derivatives differ.

        The inputs that matter most in any of the records come first.
        """
        return table(*self._rows(output, as_confidence(confidence, "table: confidence"), count))

    def _rows(
        self, output: int | str, level: float, count: int
    ) -> tuple[list[str], list[list[str]]]:
        i = number_of(output, self.output_names, "compare: output")
        (sizes, low, high), differ = self._compared(i, level), self._differ(i, level)
        constant = np.array([record.input_std == 0 for record in self.values()])
        rows = []
        for j in np.argsort(-np.nan_to_num(sizes).max(axis=0), kind="stable")[:count]:
            columns = (array[:, j] for array in (constant, sizes, low, high))
            cells = [
                "constant here" if still else f"{size:.3g} ({a:.3g} to {b:.3g})"
                for still, size, a, b in zip(*columns, strict=True)
            ]
            rows.append([self.input_names[j], *cells, "differ" if differ[j] else ""])
        return ["input", *self, f"dy/dx, {100 * level:g} %"], rows

    def plot(
        self, output: int | str = 0, *, confidence: float = 0.95, count: int = 12, ax: Any = None
    ) -> Any:
        """Draw importance in every record for one output, with intervals; return the axes."""
        level = as_confidence(confidence, "plot: confidence")
        i = number_of(output, self.output_names, "plot: output")
        sizes, low, high = (np.nan_to_num(A) for A in self._compared(i, level))
        return plotting.dots(
            sizes, self.input_names, list(self), low=low, high=high, count=count, ax=ax,
            title=self.output_names[i],
        )  # fmt: skip

    def _table(self) -> Table:
        (_, *header), rows = self._rows(0, 0.95, 40)
        return [f"input, for {self.output_names[0]}", *header], rows

    def _notes(self) -> Sequence[str]:
        rest = ", ".join(shortened(self.output_names[1:]))
        return [HEADING, *([f".table(output) and .plot(output) show {rest}"] if rest else [])]

    def __str__(self) -> str:
        left = len(self.output_names) - 4
        pieces = [f"{self!r}\n{HEADING}\ndiffer: intervals of dy/dx do not overlap"]
        pieces += [f"{name}\n{self.table(name)}" for name in self.output_names[:4]]
        return "\n\n".join(pieces + [f"... and {counted(left, 'output')} more"] * (left > 0))

    def __repr__(self) -> str:
        noun = "" if self.by else " points"
        counts = ", ".join(f"{name} ({each.count:,}{noun})" for name, each in self.items())
        return f"Comparison {f'by {self.by}:' if self.by else 'of'} {counts}"


def split(X: Any, by: Any, wanted: Sequence[str] | None) -> tuple[Any, Any]:
    """Return what tells the groups apart, one for each point, and the points without it.

    A column is left out of the points unless it is an input.
    """
    if isinstance(by, np.ma.MaskedArray):
        raise TypeError("sensitivity: by: expected labels, but got a masked array.")
    if not isinstance(by, str):
        labels = np.asarray(by)
    else:
        names, inputs = column_names(X), list(wanted or ())
        if names is None and by in inputs and np.ndim(X) == 2:  # an array goes by the inputs
            labels = np.asarray(X)[:, inputs.index(by)]
        elif names is None or by not in names:
            raise ValueError(f"sensitivity: by: X has no column {by!r:.80}.")
        else:
            labels = np.asarray(X[by])
            X = X if by in inputs else X[[name for name in names if name != by]]
    if labels.shape != (len(X),):
        raise ShapeError(
            f"sensitivity: by: expected a label for each of {len(X)} points, "
            f"but got {labels.shape}."
        )
    missing = int(sum(label is None or label != label for label in labels.tolist()))
    if missing:
        raise ValueError(
            f"sensitivity: by: {missing} of {len(X)} points have no label, None or NaN. "
            "Leave them out, or give them a label of their own."
        )
    return labels, X


def compare(**records: Sensitivity) -> Comparison:
    """Set records side by side: networks on the same data, or data sets of one network.

    Parameters
    ----------
    **records : Sensitivity
        By the name that tables and pictures show; all of the same inputs and outputs.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If their inputs or outputs have different names.

    >>> import jacobians as jb
    >>> X = [[0.0, 1.0], [1.0, 3.0], [2.0, 0.0]]
    >>> records = [jb.sensitivity(jb.Network([jb.Dense([w])]), X) for w in ([1, 2], [2, 1])]
    >>> compare(old=records[0], new=records[1])
    Comparison of old (3 points), new (3 points)
    """
    return Comparison(records)
