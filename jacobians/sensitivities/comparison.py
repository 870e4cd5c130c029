"""Records side by side: groups of points, or networks on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jacobians import plotting
from jacobians._checks import ShapeError
from jacobians._notebook import Displayed, Table
from jacobians._tables import column_names
from jacobians._text import counted, table
from jacobians.sensitivities.groups import as_confidence
from jacobians.sensitivities.names import number_of
from jacobians.sensitivities.record import Sensitivity

NAME = "importance"  # what is compared


class Comparison(dict[str, Sensitivity], Displayed):
    """Records by name, of the same inputs and outputs; made by ``compare`` or ``by=``.

    Each is an entry of the dictionary.  Importance is in standard deviations of the points of each
    record.
    """

    def __init__(self, records: Mapping[str, Sensitivity]) -> None:
        super().__init__(records)
        if not records:
            raise ValueError("compare: expected records, but got none.")
        first, *others = records.values()
        for name, other in zip(list(records)[1:], others, strict=True):
            for what in ("input_names", "output_names"):
                if getattr(other, what) != getattr(first, what):
                    raise ValueError(f"compare: {name!r} and the first record differ in {what}.")
        self.input_names, self.output_names = first.input_names, first.output_names

    def _compared(self, output: int | str, level: float) -> tuple[Any, Any, Any]:
        """Return importance and the ends of its interval, (records, n) each."""
        i = number_of(output, self.output_names, "compare: output")
        ends = [record.interval(NAME, level) for record in self.values()]
        low, high = (np.array([end[k][i] for end in ends]) for k in (0, 1))
        return np.array([record.importance[i] for record in self.values()]), low, high

    def table(self, output: int | str = 0, confidence: float = 0.95, count: int = 10) -> str:
        """Return importance in every record as text, and which intervals do not overlap.

        The inputs that matter most in any of the records come first.
        """
        return table(*self._rows(output, as_confidence(confidence, "table: confidence"), count))

    def _rows(
        self, output: int | str, level: float, count: int
    ) -> tuple[list[str], list[list[str]]]:
        sizes, low, high = self._compared(output, level)
        rows = []
        for j in np.argsort(-np.nan_to_num(sizes).max(axis=0), kind="stable")[:count]:
            cells = [
                f"{size:.3g} ({a:.3g} to {b:.3g})"
                for size, a, b in zip(sizes[:, j], low[:, j], high[:, j], strict=True)
            ]
            apart = low[:, j].max() > high[:, j].min()
            rows.append([self.input_names[j], *cells, "differ" if apart else ""])
        return ["input", *self, f"{100 * level:g} % intervals"], rows

    def plot(
        self, output: int | str = 0, *, confidence: float = 0.95, count: int = 12, ax: Any = None
    ) -> Any:
        """Draw importance in every record, with intervals, and return the axes."""
        level = as_confidence(confidence, "plot: confidence")
        sizes, low, high = (np.nan_to_num(A) for A in self._compared(output, level))
        names, series = self.input_names, list(self)
        return plotting.dots(sizes, names, series, low=low, high=high, count=count, ax=ax)

    def _table(self) -> Table:
        return self._rows(0, 0.95, 40)

    def __str__(self) -> str:
        first = next(iter(self.values()))
        pieces = [f"{self!r}\nImportance, {first.basis.partition(' = ')[2]}"]
        pieces += [f"{name}\n{self.table(name)}" for name in self.output_names[:4]]
        return "\n\n".join(pieces)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name} ({counted(each.count, 'point')})" for name, each in self.items()
        )
        return f"Comparison of {counts}"


def split(X: Any, by: Any, wanted: Sequence[str] | None) -> tuple[Any, Any]:
    """Return what tells the groups apart, one for each point, and the points without it.

    A column is left out of the points unless it is an input.
    """
    if not isinstance(by, str):
        labels = np.asarray(by)
    else:
        names = column_names(X)
        if names is None or by not in names:
            raise ValueError(f"sensitivity: by: X has no column {by!r:.80}.")
        labels = np.asarray(X[by])
        if by not in (wanted or ()):
            X = X[[name for name in names if name != by]]
    if labels.shape != (len(X),):
        raise ShapeError(
            f"sensitivity: by: expected a label for each of {len(X)} points, "
            f"but got {labels.shape}."
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
