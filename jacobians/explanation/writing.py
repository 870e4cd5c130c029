"""An explanation as rows, as text for a terminal, as a page.

The text is ASCII, whatever the terminal can show.  Outputs come in their order if there are few,
else those that moved most; inputs with the largest contributions first.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from jacobians import reports
from jacobians._checks import Indices
from jacobians._text import counted, table

OUTPUTS, INPUTS, LISTED = 4, 10, 18  # with a table of their own; in a text; on a page


def rows(explanation: Any, confidence: float = 0.95) -> list[dict[str, Any]]:
    """Return one dictionary for each output and input, in their order."""
    low, high = explanation.interval(confidence)
    baseline = explanation.paths.baselines.mean(axis=0)
    return [
        {
            "output": output,
            "input": given,
            "value": float(explanation.point[j]),
            "baseline": float(baseline[j]),
            "contribution": float(explanation.contributions[i, j]),
            "low": float(low[i, j]),
            "high": float(high[i, j]),
        }
        for i, output in enumerate(explanation.output_names)
        for j, given in enumerate(explanation.input_names)
    ]


def shown(explanation: Any) -> list[int]:
    """Return the numbers of the outputs that get a table: all of a few, else those that moved."""
    moved = np.argsort(
        -np.abs(explanation.value - explanation.baseline_value), kind="stable"
    ).tolist()
    return sorted(moved) if len(moved) <= OUTPUTS else moved[:OUTPUTS]


def text(explanation: Any) -> str:
    """Return heading, a table for each output, and what the sums agree with."""
    lines = [repr(explanation), f"Baseline: {explanation.baseline_is}"]
    for i in shown(explanation):
        numbers = table(*cells(explanation, i, 0.95, INPUTS))
        lines += ["", headline(explanation, i), numbers, completeness(explanation, i)]
    return "\n".join(lines + [f"\n{words}" for words in _left_out(explanation)])


def _left_out(explanation: Any) -> list[str]:
    left = len(explanation.value) - OUTPUTS
    return [f"... and {counted(left, 'output')} more"] if left > 0 else []


def headline(explanation: Any, i: int) -> str:
    """Say where an output went from the baseline."""
    start, end = explanation.baseline_value[i], explanation.value[i]
    where = "on average over the baselines" if _several(explanation) else "at the baseline"
    return f"{explanation.output_names[i]}: {start:.6g} {where}, {end:.6g} at the point"


def _several(explanation: Any) -> bool:
    return len(explanation.paths.baselines) > 1


def completeness(explanation: Any, i: int) -> str:
    """Say whether the contributions of an output sum to what is to be explained."""
    mean, check = "mean " * _several(explanation), explanation.completeness
    claim = f"H(x) - {mean}H(baseline)"
    gap = f"{abs(check.difference[i]):.1e}"
    source = "quadrature and rounding" if explanation.error[i] else "rounding"
    allowed = f"{source} may leave {check.allowed[i]:.1e} (estimated)"
    if check.holds[i]:
        return f"Complete: the sum is {claim} within {gap}; {allowed}"
    why = f"{allowed}: a value jumps on the way, or the quadrature did not settle"
    if not explanation.paths.integrated:
        why = "the gradient at the point says nothing of the way there"
    return f"Not complete: the sum misses {claim} by {gap}; {why}"


def cells(
    explanation: Any, i: int, confidence: float, count: int
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of one output: the largest contributions, the others, their sum."""
    order = _order(explanation, i)
    several = _several(explanation)
    given = rows(explanation, confidence)[i * len(order) :]
    header = ["input", "value", "baseline", "contribution"]
    body = []
    for j in order[:count]:
        row = given[j]
        ends = [f"{row['low']:+.3g} to {row['high']:+.3g}"] * several
        numbers = [f"{row['value']:.4g}", f"{row['baseline']:.4g}", f"{row['contribution']:+.4g}"]
        body.append([row["input"], *numbers, *ends])
    rest, blank = order[count:], [""] * several
    if len(rest):
        other = f"{explanation.contributions[i, rest].sum():+.4g}"
        body.append([counted(len(rest), "other"), "", "", other, *blank])
    body.append(["sum", "", "", f"{explanation.completeness.sum[i]:+.4g}", *blank])
    return header + [f"{100 * confidence:g} % interval"] * several, body


def _order(explanation: Any, i: int) -> Indices:
    order: Indices = np.argsort(-np.abs(explanation.contributions[i]), kind="stable")
    return order


# --- pages ----------------------------------------------------------------------------------------


def fragment(explanation: Any, pictures: bool = False) -> str:
    """Return the body of a page: a table with bars for each output, and pictures if asked."""
    about = f"{explanation!r}. Baseline: {explanation.baseline_is}."
    html = [f"<p>{_escaped(about)}</p>"]
    for i in shown(explanation):
        html.append(f"<h2>{_escaped(headline(explanation, i))}</h2>")
        if pictures:
            figure = reports.new_figure(
                6.2, 1.1 + 0.3 * min(len(explanation.input_names), INPUTS + 1)
            )
            explanation.plot(i, ax=figure.subplots())
            j = _order(explanation, i)[0]
            step = f"{explanation.input_names[j]}, {explanation.contributions[i, j]:+.3g}"
            alt = f"Waterfall of {explanation.output_names[i]}: the largest step is {step}."
            uri = reports.data_uri(figure)
            html.append(f'<figure><img src="{uri}" alt="{_escaped(alt)}"></figure>')
        header, numbers = cells(explanation, i, 0.95, LISTED)
        body = "\n".join(_row(row, 'th scope="row"', "td") for row in numbers)
        head = _row(header, *['th scope="col"'] * 2)
        caption = "<caption>What each input contributed, the largest first.</caption>"
        table = f"<table>{caption}<thead>{head}</thead>\n<tbody>{body}</tbody></table>"
        region = f'role="region" aria-label="{_escaped(explanation.output_names[i])}" tabindex="0"'
        html.append(f'<div class="scroll" {region}>{table}</div>')
        html.append(f"<p>{_escaped(completeness(explanation, i))}.</p>")
    return "\n".join([*html, *(f"<p>{words}</p>" for words in _left_out(explanation))])


def page(explanation: Any, title: str) -> str:
    """Return a page of its own: no scripts, no connections."""
    body = fragment(explanation, pictures=True)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{_escaped(title)}</title>\n{reports.style()}</head>\n<body>\n<main>\n"
        f"<h1>{_escaped(title)}</h1>\n{body}\n</main>\n</body></html>\n"
    )


def _row(cells: list[str], first: str, other: str) -> str:
    tags = [first, *[other] * (len(cells) - 1)]
    text = (f"<{t}>{_escaped(c)}</{t.split()[0]}>" for t, c in zip(tags, cells, strict=True))
    return f"<tr>{''.join(text)}</tr>"


def _escaped(name: str) -> str:
    return escape(reports.visible(name)) if name else ""
