"""``jacobians explain``: why this prediction, for one point of a table."""

from __future__ import annotations

import argparse
import csv
import io
import os
from dataclasses import replace
from typing import Any

from jacobians import reports
from jacobians._checks import readable_bytes
from jacobians._cli_inputs import (
    add_log_odds,
    model_and_points,
    points_for,
    progress,
    require_at_least,
    with_log_odds,
)
from jacobians._options import Parser, chosen, require_writable
from jacobians._text import counted
from jacobians.explanation import Explanation, explain
from jacobians.explanation.writing import rows
from jacobians.network import Network
from jacobians.sensitivities.names import different_names


def add_options(command: Parser) -> None:
    """Add what explain takes besides model and points."""
    add = command.add_argument
    add("--point", type=int, default=1, metavar="N", help="which of the points, from 1 (1)")
    against = "zeros, mean (the point of means), or a file of baselines to average over (mean)"
    add("--baseline", default="mean", metavar="zeros|mean|FILE", help=against)
    several = "names or numbers from 0, separated by commas; may be repeated"
    add("--outputs", dest="rows", action="append", metavar="NAMES", help=f"only these: {several}")
    add_log_odds(command, "in place of its probabilities")
    add("-o", "--output", metavar="FILE", help="write a page (.html), or all numbers (.csv)")


def run(options: argparse.Namespace) -> None:
    """Explain a point, print it, and write it where asked."""
    require_writable(options.output, (".html", ".csv"))
    page = str(options.output).endswith(".html")
    if page:
        reports.require()
    require_at_least(1, options.point, "--point")
    net, X = model_and_points(options)
    if options.point > len(X):
        raise ValueError(f"--point: expected at most {len(X)}, but got {options.point}.")
    outputs = different_names(net.output_names, net.widths[-1], "y", "output_names")
    picked = chosen(options.rows, outputs, "--outputs")
    baseline, words = _baseline(options, net, X)
    net, picked = with_log_odds(net, options, picked, beside=False)
    told: Any = {"rows": picked, "progress": progress()}
    explanation = replace(explain(net, X[options.point - 1], baseline, **told), baseline_is=words)
    source = os.path.basename(options.inputs or options.model)
    print(f"{net}\nPoint {options.point} of {len(X)} of {source}\n\n{explanation}")
    if page:
        explanation.save_html(
            options.output, f"Why this prediction: point {options.point} of {source}"
        )
    elif options.output:
        reports.write_text(options.output, _csv(explanation))
    if options.output:
        print(f"\n{options.output}: {readable_bytes(os.path.getsize(options.output))}")


def _baseline(options: argparse.Namespace, net: Network, X: Any) -> tuple[Any, str]:
    name = options.baseline
    if name == "zeros":
        return 0 * X[0], "zeros"
    if name == "mean":
        if len(X) == 1:
            raise ValueError("--baseline: the mean of a single point is the point; say zeros.")
        return X.mean(axis=0), f"the point of means, of {len(X)} points"
    if not (os.path.splitext(name)[1] or os.path.exists(name)):
        raise ValueError(f"--baseline: expected zeros, mean or a file, got {name!r}.")
    given = points_for(net, name, options).X
    source = f"of {os.path.basename(name)}"
    averaged = f"averaged over {counted(len(given), 'baseline')}, the points {source}"
    return given, averaged if len(given) > 1 else f"the point {source}"


def _csv(explanation: Explanation) -> str:
    contributions, text = rows(explanation), io.StringIO()
    writer = csv.DictWriter(text, list(contributions[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(contributions)
    return text.getvalue()
