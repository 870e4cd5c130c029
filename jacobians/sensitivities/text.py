"""A record as plain text: what matters most to every output, on a terminal.

ASCII throughout, whatever the terminal can show.
"""

from __future__ import annotations

import numpy as np

from jacobians._tables import listed
from jacobians._text import table
from jacobians.sensitivities.statistics import Statistics

TABLES, INPUTS = 4, 10  # so many outputs get a table of so many inputs; more get a line each
PAIRS = 5  # of correlated inputs
FLAT = 1e-3  # a probability is saturated if it is nearer to 0 or 1


def text(record: Statistics, confidence: float = 0.95) -> str:
    """Return heading, the most important inputs of every output, and what to be careful about."""
    m, n = record.shape
    lines = [f"{record!r}", f"Inputs by {record.basis}", ""]
    if m <= TABLES:
        for i, name in enumerate(record.output_names):
            unit = record.units.get(name)
            lines += [f"{name} [{unit}]" if unit else name, output_table(record, i, confidence), ""]
        if n > INPUTS:
            lines += [f"... and {n - INPUTS} inputs more", ""]
    else:
        lines += [_overview(record), ""]
    return "\n".join([*lines, *_cautions(record)])


def output_table(
    record: Statistics, output: int, confidence: float = 0.95, count: int = INPUTS
) -> str:
    """Return the table of one output: importance, direction, raw derivative with its interval."""
    low, high = record.interval("mean", confidence)
    importance, mean = record.importance[output], record.mean[output]
    header = ["input", "importance", "output", "mean dy/dx", f"{100 * confidence:g} % interval"]
    rows = []
    for j in record.order[output, :count]:
        ends = f"{_signed(low[output, j])} to {_signed(high[output, j])}"
        size = "-" if np.isnan(importance[j]) else f"{importance[j]:.3g}"  # of a constant output
        row = [record.input_names[j], size, record.direction(output, int(j))]
        rows.append([*row, _signed(mean[j]), ends, record.unit(output, int(j))])
    if any(row[-1] for row in rows):
        header.append("unit")
    else:
        rows = [row[:-1] for row in rows]
    return table(header, rows)


def _overview(record: Statistics) -> str:
    """Return one line an output: the sign of the mean derivative, the input, its importance."""
    ordinals = ["1st", "2nd", "3rd", "4th"][: record.shape[1]]
    importance, mean = record.importance, record.mean
    rows = [
        [output]
        + [
            f"{'+' if mean[i, j] > 0 else '-'}{record.input_names[j]} {importance[i, j]:.2g}"
            for j in record.order[i, : len(ordinals)]
        ]
        for i, output in enumerate(record.output_names)
    ]
    return table(["output", *ordinals], rows, left=5)


def _cautions(record: Statistics) -> list[str]:
    least, middle, most = (record.norm_quantile(share) for share in (0, 0.5, 1))
    kinks, of_some = record.kinks, ""
    if kinks["points"] < record.count:
        of_some = f" (of a random sample of {kinks['points']} points)"
    lines = [
        f"Norm of J, its largest singular value: {least:.3g} to {most:.3g}, "
        f"half of the points below {middle:.3g}{of_some}",
        f"Points at a kink: {kinks['at']}, near one: {kinks['near']}{of_some}",
    ]
    constant = [n for n, sd in zip(record.output_names, record.output_std, strict=True) if not sd]
    if constant:
        lines.append(f"Constant over the points, so without importance: output {listed(constant)}")
    flat, sampled = saturated(record), len(record.sample.y)
    if flat > sampled / 2:
        lines.append(
            f"Saturated: at {flat} of {sampled} points all probabilities are within {FLAT:g} of 0 "
            "or 1, where they hardly move. Log-odds do: jacobians.log_odds(net), or --log-odds"
        )
    pairs = record.correlated()
    if pairs:
        named = ", ".join(f"{a} and {b} (r = {r:+.2f})" for a, b, r in pairs[:PAIRS])
        more = f" and {len(pairs) - PAIRS} pairs more" if len(pairs) > PAIRS else ""
        lines.append(
            f"Strongly correlated inputs: {named}{more}. Such data hardly tell their effects "
            "apart: opposite slopes of a pair with r > 0, or equal ones with r < 0, largely cancel."
        )
    return lines


def saturated(record: Statistics) -> int:
    """Count the points of the sample whose outputs are probabilities, all of them near 0 or 1."""
    if record.network.layers[-1].activation.name not in ("softmax", "sigmoid"):
        return 0
    y = record.sample.y
    return int((np.minimum(y, 1 - y) < FLAT).all(axis=1).sum())


def _signed(value: float) -> str:
    return f"{value:+.3g}"
