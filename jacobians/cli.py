"""The ``jacobians`` command: look at the Jacobians of a network without writing a script.

Every command runs at once on a bundled network with real data; networks come from ``.npz`` files
written by ``jacobians.save``, points from ``.npy``, ``.npz`` or ``.csv``.  Results go to standard
output; a mistake gives one line on standard error and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from jacobians import data
from jacobians._checks import Array, ShapeError, readable_bytes
from jacobians._text import chain_picture, picture, side_by_side
from jacobians.certificate import Certificate, certify
from jacobians.engine import value_and_jacobian
from jacobians.files import load, load_points, write_npz
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.sensitivities import Sensitivity, sensitivity


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, NotImplementedError, MemoryError) as err:
        message = " ".join(str(err).split()) or type(err).__name__
        print(f"jacobians {options.command}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jacobians", description="The Jacobian of a trained network.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    model = "a network saved as .npz, or a bundled one: " + ", ".join(data.NAMES)
    points = "points as .npy, .npz or .csv; the held-out ones of a bundled network by default"

    report = commands.add_parser("report", help="Jacobians of a data set: who influences what")
    report.add_argument("model", nargs="?", default="digits", metavar="MODEL", help=model)
    report.add_argument("inputs", nargs="?", metavar="INPUTS", help=points)
    report.set_defaults(run=_report)

    check = commands.add_parser("certify", help="check every identity of the notes at a few points")
    check.add_argument("model", nargs="?", default="digits", metavar="MODEL", help=model)
    check.add_argument("inputs", nargs="?", metavar="INPUTS", help=points)
    check.add_argument("--points", type=int, default=3, metavar="N", help="how many (3)")
    check.set_defaults(run=_certify)

    compute = commands.add_parser("jacobian", help="write values and Jacobians to a file")
    compute.add_argument("model", metavar="MODEL", help=model)
    compute.add_argument("inputs", nargs="?", metavar="INPUTS", help=points)
    compute.add_argument("-o", "--output", required=True, metavar="FILE", help=".npz or .npy")
    compute.set_defaults(run=_jacobian)

    explain = commands.add_parser("explain", help="the chain, its shapes, the plan and its savings")
    explain.add_argument("model", nargs="?", default="digits", metavar="MODEL", help=model)
    explain.add_argument("--batch", type=int, default=1, metavar="B", help="plan for B points (1)")
    explain.set_defaults(run=_explain)
    return parser


# --- the commands ---------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> None:
    net, X = _model_and_points(options.model, options.inputs)
    print(net)
    start = time.perf_counter()
    _, J = value_and_jacobian(net, X)
    seconds = time.perf_counter() - start
    print(
        f"Jacobians at {len(X)} points: shape {J.shape}, {J.dtype}, {readable_bytes(J.nbytes)}, "
        f"in {1e3 * seconds:.1f} ms ({1e6 * seconds / max(len(X), 1):.0f} µs a point)\n"
    )
    found = sensitivity(net, X)
    print("Most influential inputs: mean of |dy/dx|, with the sign of the mean of dy/dx")
    print(found)
    drawn = _as_pictures(found)
    if drawn:
        print(f"\nMean |dy/dx| as pictures, darkest = largest of that output\n\n{drawn}")
    print(f"\n{_verdict(_certificates(net, X, 3))}")


def _certify(options: argparse.Namespace) -> int:
    if options.points < 1:
        raise ValueError(f"--points: expected at least 1, but got {options.points}.")
    net = _model(options.model)
    if options.inputs or options.model in data.NAMES:
        X = _points(net, options.model, options.inputs)
    else:
        X = np.random.default_rng(0).standard_normal((options.points, net.widths[0]))
        print("no INPUTS given: certified at normally distributed random points\n")
    certificates = _certificates(net, X, options.points)
    worst = max(certificates, key=lambda c: max(line.ratio for line in c))
    print(f"The point with the largest ratio of {len(certificates)}:\n\n{worst}\n")
    print(_verdict(certificates))
    return 0 if all(certificates) else 1


def _jacobian(options: argparse.Namespace) -> None:
    suffix = os.path.splitext(options.output)[1]
    if suffix not in (".npz", ".npy"):
        raise ValueError(f"-o: expected a name ending in .npz or .npy, but got {options.output!r}.")
    net, X = _model_and_points(options.model, options.inputs)
    value, J = value_and_jacobian(net, X)
    if suffix == ".npy":
        np.save(options.output, J, allow_pickle=False)
    else:
        write_npz(options.output, {"inputs": X, "values": value, "jacobians": J})
    print(f"{options.output}: Jacobians {J.shape}, {J.dtype}, {readable_bytes(J.nbytes)}")


def _explain(options: argparse.Namespace) -> None:
    net = _model(options.model)
    chosen = plan(net, options.batch)
    factors = [
        (name, A.rows, A.columns, A.kind)
        for name, A in zip(chosen.names, chosen.operands, strict=True)
    ]
    print(f"{net}\n")
    if factors:
        print(f"{chain_picture(factors)}\n")
    print(chosen.explain())


# --- what they share ------------------------------------------------------------------------------


def _model(name: str) -> Network:
    return data.bundle(name).network if name in data.NAMES else load(name)


def _points(net: Network, model: str, path: str | None) -> Array:
    if path is not None:
        X = load_points(path).X
        if not len(X):
            raise ShapeError(f"{path}: holds no points.")
        if X.shape[1] != net.widths[0]:
            raise ShapeError(f"{path}: has {X.shape[1]} columns, but {net} takes {net.widths[0]}.")
        return X
    if model not in data.NAMES:
        raise ValueError("INPUTS: a network of your own needs points: a .npy, .npz or .csv file.")
    return data.bundle(model).inputs


def _model_and_points(model: str, path: str | None) -> tuple[Network, Array]:
    net = _model(model)
    if path is not None and path.endswith(".csv"):
        names = load_points(path).names
        if names is not None and len(names) == net.widths[0]:
            net = Network(
                net.layers,
                inputs=net.widths[0],
                input_names=names,
                output_names=net.output_names,
            )
    return net, _points(net, model, path)


def _certificates(net: Network, X: Array, count: int) -> list[Certificate]:
    chosen = np.unique(np.linspace(0, len(X) - 1, min(count, len(X))).astype(int))
    return [certify(net, X[i]) for i in chosen]


def _verdict(certificates: list[Certificate]) -> str:
    lines = [line for certificate in certificates for line in certificate]
    worst = max((line.ratio for line in lines), default=0.0)
    held = sum(line.holds for line in lines)
    exact = sum(line.exact for line in lines)
    verdict = "Certified" if held == len(lines) else "NOT certified"
    return (
        f"{verdict}: at {len(certificates)} points, {held} of {len(lines)} identities hold within "
        f"their proved bounds, {exact} of them bit for bit; largest ratio {worst:.2f}"
    )


def _as_pictures(found: Sensitivity) -> str:
    """Draw the sensitivities of every output if the names say that the inputs are pixels."""
    places = [re.fullmatch(r"pixel (\d+),(\d+)", name) for name in found.input_names]
    if not all(places):
        return ""
    rows, columns = np.array([[int(p[1]), int(p[2])] for p in places if p]).T
    drawn = []
    for sizes in found.mean_absolute:
        image = np.zeros((rows.max() + 1, columns.max() + 1))
        image[rows, columns] = sizes
        drawn.append(picture(image, float(image.max())))
    return side_by_side(found.output_names, drawn)
