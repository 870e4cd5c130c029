"""An explanation as rows, as text for a terminal, as a page.

The text is ASCII, whatever the terminal can show.  Outputs come in their order if there are few,
else those that moved most; inputs with the largest contributions first.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from jacobians import plotting, reports
from jacobians._checks import Places
from jacobians._text import table
from jacobians.sensitivities.record import many

OUTPUTS, INPUTS, LISTED = 4, 10, 40  # with a table of their own; in a text; on a page


def rows(found: Any, confidence: float = 0.95) -> list[dict[str, Any]]:
    """Return one dictionary for each output and input, in their order."""
    low, high = found.interval(confidence)
    baseline = found.paths.baselines.mean(axis=0)
    return [
        {
            "output": output,
            "input": given,
            "value": float(found.point[j]),
            "baseline": float(baseline[j]),
            "contribution": float(found.contributions[i, j]),
            "low": float(low[i, j]),
            "high": float(high[i, j]),
        }
        for i, output in enumerate(found.output_names)
        for j, given in enumerate(found.input_names)
    ]


def shown(found: Any) -> Places:
    """Return the numbers of the outputs that get a table: all of a few, else those that moved."""
    moved = np.argsort(-np.abs(found.value - found.baseline_value), kind="stable")[:OUTPUTS]
    return np.sort(moved) if len(found.value) <= OUTPUTS else moved


def text(found: Any) -> str:
    """Return heading, a table for each output, and what the sums agree with."""
    lines = [repr(found), f"Baseline: {found.baseline_is}"]
    for i in shown(found):
        lines += ["", headline(found, i), output_table(found, int(i)), completeness(found, i)]
    left = len(found.value) - OUTPUTS
    return "\n".join([*lines, *(["", f"... and {many(left, 'output')} more"] * (left > 0))])


def headline(found: Any, i: int) -> str:
    """Say where an output went from the baseline."""
    start, end = found.baseline_value[i], found.value[i]
    return f"{found.output_names[i]}: {start:.6g} at the baseline, {end:.6g} at the point"


def completeness(found: Any, i: int) -> str:
    """Say whether the contributions of an output sum to what is to be explained."""
    check, claim = found.completeness, "H(x) - H(baseline)"
    gap = f"{abs(check.difference[i]):.1e}"
    source = "quadrature and rounding" if found.error[i] else "rounding"
    allowed = f"{source} may leave {check.allowed[i]:.1e} (estimated)"
    if check.holds[i]:
        return f"Complete: the sum is {claim} within {gap}; {allowed}"
    why = f"{allowed}: a value jumps on the way, or the quadrature did not settle"
    if not found.paths.integrated:
        why = "the gradient at the point says nothing of the way there"
    return f"Not complete: the sum misses {claim} by {gap}; {why}"


def output_table(found: Any, i: int, confidence: float = 0.95, count: int = INPUTS) -> str:
    """Return the table of one output, the largest contributions on top, the others in one line."""
    order, given = _order(found, i), rows(found, confidence)
    several = len(found.paths.baselines) > 1
    header = ["input", "value", "baseline", "contribution", f"{100 * confidence:g} % interval"]
    lines = []
    for j in order[:count]:
        row = given[i * len(order) + j]
        ends = f"{row['low']:+.3g} to {row['high']:+.3g}"
        numbers = [f"{row['value']:.4g}", f"{row['baseline']:.4g}", f"{row['contribution']:+.4g}"]
        lines.append([row["input"], *numbers, ends])
    rest = order[count:]
    if len(rest):
        other = f"{found.contributions[i, rest].sum():+.4g}"
        lines.append([many(len(rest), "other"), "", "", other, ""])
    lines.append(["sum", "", "", f"{found.completeness.sum[i]:+.4g}", ""])
    width = len(header) if several else -1
    return table(header[:width], [line[:width] for line in lines])


def _order(found: Any, i: int) -> Places:
    order: Places = np.argsort(-np.abs(found.contributions[i]), kind="stable")
    return order


# --- pages ----------------------------------------------------------------------------------------


def fragment(found: Any, pictures: bool = False) -> str:
    """Return the body of a page: a table with bars for each output, and pictures if asked."""
    about = f"{found!r}. Baseline: {found.baseline_is}."
    parts = [f"<p>{_escaped(about)}</p>"]
    for i in shown(found):
        parts.append(f"<h2>{_escaped(headline(found, i))}</h2>")
        if pictures:
            figure = reports.new_figure(6.2, 1.1 + 0.3 * min(len(found.input_names), INPUTS + 1))
            found.plot(int(i), ax=figure.subplots())
            alt = f"Waterfall, largest step {found.input_names[_order(found, i)[0]]}."
            uri = reports.data_uri(figure)
            parts.append(f'<figure><img src="{uri}" alt="{_escaped(alt)}"></figure>')
        parts += [_html_table(found, int(i)), f"<p>{_escaped(completeness(found, i))}.</p>"]
    left = len(found.value) - OUTPUTS
    if left > 0:
        parts.append(f"<p>… and {many(left, 'output')} more, see <code>to_frame()</code>.</p>")
    return "\n".join(parts)


def page(found: Any, title: str) -> str:
    """Return a page of its own: no scripts, no connections."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{_escaped(title)}</title>\n{reports.style()}</head>\n<body>\n<main>\n"
        f"<h1>{_escaped(title)}</h1>\n{fragment(found, pictures=True)}\n</main>\n</body></html>\n"
    )


def _html_table(found: Any, i: int) -> str:
    order, given = _order(found, i), rows(found)
    largest = np.abs(found.contributions[i]).max(initial=0.0) or 1.0
    several = len(found.paths.baselines) > 1
    heads = ["input", "value", "baseline", "contribution", *["95 % interval"] * several]
    lines = ["".join(f'<th scope="col">{head}</th>' for head in heads) + "<th></th>"]
    for j in order[:LISTED]:
        row = given[i * len(order) + j]
        cells = [reports.number(row[key], 4) for key in ("value", "baseline")]
        cells.append(_signed(row["contribution"]))
        if several:
            cells.append(f"{reports.number(row['low'])} to {reports.number(row['high'])}")
        data = "".join(f"<td>{cell}</td>" for cell in cells)
        bar = _bar(row["contribution"] / largest)
        lines.append(f'<th scope="row">{_escaped(row["input"])}</th>{data}{bar}')
    rest = order[LISTED:]
    for name, value in (
        *[(many(len(rest), "other"), found.contributions[i, rest].sum())] * (len(rest) > 0),
        ("sum", found.completeness.sum[i]),
    ):
        blank = "<td></td>" * several
        lines.append(f"<th>{name}</th><td></td><td></td><td>{_signed(value)}</td>{blank}<td></td>")
    body = "\n".join(f"<tr>{line}</tr>" for line in lines[1:])
    return (
        f'<div class="scroll"><table><thead><tr>{lines[0]}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _bar(share: float) -> str:
    """Draw a share from -1 to 1 as a bar that starts in the middle of its cell."""
    color = plotting.RAISES if share > 0 else plotting.LOWERS
    left = 50 * (1 + min(share, 0.0))
    place = f"margin-left:{left:.1f}%;width:{50 * abs(share):.1f}%"
    return f'<td style="width:9rem"><div style="{place};height:.7em;background:{color}"></div></td>'


def _signed(value: float) -> str:
    return "+" * (value > 0) + reports.number(value, 4)


def _escaped(name: str) -> str:
    return escape(reports.visible(name))
