"""What the commands read: a model, its points, the numbers among the options."""

from __future__ import annotations

import argparse
import os
import sys

from jacobians import data
from jacobians._checks import Array, ShapeError
from jacobians._options import did_you_mean, split_names
from jacobians._tables import listed
from jacobians.files import load
from jacobians.network import Network
from jacobians.points import Points, load_points

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


def require_at_least(low: int, given: int, option: str) -> None:
    if given < low:
        raise ValueError(f"{option}: expected at least {low}, but got {given}.")
