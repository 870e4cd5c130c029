"""What the commands read: a model, its points, the numbers among the options."""

from __future__ import annotations

import argparse
import os
import sys

from jacobians import data
from jacobians._checks import Array, ShapeError
from jacobians._names import numbered
from jacobians._options import Parser, chosen, did_you_mean, split_names
from jacobians._tables import listed
from jacobians.files import load
from jacobians.network import Network
from jacobians.points import Points, load_points
from jacobians.sensitivities import log_odds

# Columns that often stand beside the inputs; left out where the network knows its inputs by name,
# or has as many as remain.
BESIDE = ("", "Unnamed: 0", "index", "id", "target", "label", "class")


def model(options: argparse.Namespace) -> Network:
    name = options.model
    if name in data.NAMES:
        net = data.bundle(name).network
    elif os.path.splitext(name)[1] or os.path.exists(name):
        net = load(name)
    else:
        raise FileNotFoundError(
            f"MODEL: no file and no bundled network is called {name!r}"
            f"{did_you_mean(name, data.NAMES) or '; bundled are ' + ', '.join(data.NAMES)}"
        )
    given = {}
    for what, width in (("input", net.widths[0]), ("output", net.widths[-1])):
        names = split_names(vars(options).get(f"{what}_names"))
        if names and len(names) != width:
            raise ValueError(f"--{what}-names: expected {width} names, but got {len(names)}.")
        given[f"{what}s"] = names
    return net.with_names(**given)


def model_and_points(options: argparse.Namespace) -> tuple[Network, Array]:
    """Load both; where a table and the network have names, its columns are taken by name."""
    net, path = model(options), options.inputs
    if path is None:
        if options.model not in data.NAMES:
            raise ValueError(
                "INPUTS: a network of your own needs points: a .npy, .npz, .csv or .parquet file."
            )
        return net, data.bundle(options.model).inputs
    points = points_for(net, path, options)
    return net if net.input_names else net.with_names(points.names), points.X


def points_for(net: Network, path: str, options: argparse.Namespace) -> Points:
    """Load the points of a file, and refuse what does not fit the network."""
    dropped, width = split_names(options.drop) or [], net.widths[0]
    spare = [*BESIDE, *(net.output_names or ())]
    beside = [*dropped, *(spare if net.input_names else ())]
    points = load_points(path, net.input_names, beside=beside, width=width, spare=spare)
    X, unsaid = points.X, [name for name in points.left_out if name not in dropped]
    if unsaid and not net.input_names and not vars(options).get("quiet"):
        print(f"{path}: left out {listed(unsaid)}, which is no input", file=sys.stderr)
    if not len(X):
        raise ShapeError(f"{path}: holds no points.")
    if X.shape[1] != width:
        names = f" ({listed(points.names)}; see --drop)" if points.names else ""
        raise ShapeError(f"{path}: has {X.shape[1]} columns{names}, but {net} takes {width}.")
    return points


def add_log_odds(command: Parser, how: str) -> None:
    """Add what ``with_log_odds`` reads."""
    command.add_argument("--log-odds", action="store_true", help=f"of a classifier, {how}")
    against = "log-odds against this class in place of all others together; implies --log-odds"
    command.add_argument("--against", metavar="CLASS", help=against)


def with_log_odds(
    net: Network, options: argparse.Namespace, picked: list[int] | None, beside: bool
) -> tuple[Network, list[int] | None]:
    """Return the network of log-odds if they are asked for, and its outputs of the picked ones."""
    if not options.log_odds and options.against is None:
        return net, picked
    names = numbered(net.output_names, net.widths[-1], "y")
    against = None
    if options.against is not None:
        numbers = chosen([options.against], names, "--against") or []
        if len(numbers) != 1:
            raise ValueError(f"--against: expected one class, but got {options.against!r:.60}.")
        against = numbers[0]
    changed, first = log_odds(net, against, beside=beside), len(names) if beside else 0
    if picked is None:
        return changed, None
    odds = [first + k - (against is not None and k > against) for k in picked if k != against]
    if not odds:
        raise ValueError(f"--against: {options.against!r:.60} is the only one of --outputs.")
    return changed, [*picked, *odds] if beside else odds


def require_at_least(low: int, given: int, option: str) -> None:
    if given < low:
        raise ValueError(f"{option}: expected at least {low}, but got {given}.")


def progress(quiet: bool = False) -> bool | None:
    """On a terminal as the library thinks best; in a file or pipe a line every few seconds."""
    if quiet or sys.stderr is None:
        return False
    return None if sys.stderr.isatty() else True
