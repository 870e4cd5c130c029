"""What notebooks show of an object: one small HTML table under the line that ``repr`` gives.

The tables take the colours of the page they stand on, light or dark.  Names are escaped: they come
from files and columns of anybody's making.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, TypeAlias

Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[Any]]]  # heads of the columns, rows

_MOST = 40  # rows that are shown


class Displayed:
    """Shown by notebooks as its repr with the table that ``_table`` gives, if it gives one."""

    def _table(self) -> Table | None:
        return None

    def _notes(self) -> Sequence[str]:
        """Return lines to stand below the table."""
        return ()

    def _repr_html_(self) -> str:
        shown = self._table()
        if shown is None:
            return f"<code>{escape(repr(self))}</code>"
        notes = "".join(f"<div>{escape(note)}</div>" for note in self._notes())
        return as_table(repr(self), *shown) + notes


def as_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table; what does not fit on a screen is counted in its last row.

    >>> as_table("two", ["a"], [[1], ["<"]]).count("&lt;")
    1
    """
    every = [[str(cell) for cell in row] for row in rows]
    shown = every[:_MOST]
    if len(every) > _MOST:
        shown.append([f"... {len(every) - _MOST} more"] + [""] * (len(header) - 1))
    right = [all(_is_number(row[j]) for row in every) for j in range(len(header))]
    styles = [f"padding:2px 10px;text-align:{'right' if number else 'left'}" for number in right]
    head = _row("th", header, styles)
    body = "".join(_row("td", row, styles) for row in shown)
    top = "caption-side:top;text-align:left;white-space:nowrap"
    return (
        f'<table style="border-collapse:collapse"><caption style="{top}"><code>{escape(caption)}'
        f"</code></caption><thead>{head}</thead><tbody>{body}</tbody></table>"
    )


def _row(tag: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    shown = (
        f'<{tag}{scope} style="{style}">{escape(cell)}</{tag}>'
        for cell, style in zip(cells, styles, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"


def _is_number(cell: str) -> bool:
    return not cell or cell.strip("+-").replace(",", "")[:1].isdigit() or cell == "-"
