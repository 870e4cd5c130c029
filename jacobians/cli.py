"""The ``jacobians`` command: look at the Jacobians of a network without writing a script.

Every command runs at once on a bundled network with real data; networks come from the files that
``jacobians.load`` reads, points from ``.npy``, ``.npz``, ``.csv`` or ``.parquet``.  Results go to
standard output, progress to standard error; a mistake gives one line there and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from jacobians import data, reports
from jacobians._checks import Array, ShapeError, readable_bytes
from jacobians._npz import write_npz
from jacobians._text import chain_picture, picture, side_by_side
from jacobians._writing import replacing
from jacobians.certificate import Certificate, certify
from jacobians.engine import value_and_jacobian
from jacobians.files import load
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.points import load_points
from jacobians.sensitivities import Sensitivity, sensitivity


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    options.words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status: int = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (
        ValueError, TypeError, OSError, NotImplementedError, MemoryError, ImportError
    ) as err:  # fmt: skip
        message = " ".join(str(err).split()) or type(err).__name__
        print(f"jacobians {options.command}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jacobians", description="The Jacobian of a trained network.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    bundled = ", ".join(data.NAMES)
    model = f"a network as .npz, .onnx or .safetensors, or a bundled one: {bundled}"
    points = (
        "points as .npy, .npz, .csv (a first line of names labels the inputs) or .parquet; "
        "the held-out ones of a bundled network by default"
    )

    report = commands.add_parser("report", help="Jacobians of a data set: who influences what")
    report.add_argument("model", nargs="?", default="digits", metavar="MODEL", help=model)
    report.add_argument("inputs", nargs="?", metavar="INPUTS", help=points)
    _add_report_options(report)
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


def _add_report_options(report: argparse.ArgumentParser) -> None:
    add = report.add_argument
    add("-o", "--output", metavar="FILE", help="write a page (.html), or all numbers (.json)")
    add("--json", action="store_true", help="print all numbers as JSON, and no text")
    add("--quiet", action="store_true", help="no text and no progress")
    several = "names or numbers from 0, separated by commas; may be repeated"
    add("--inputs", dest="columns", action="append", metavar="NAMES", help=f"only these: {several}")
    add("--outputs", dest="rows", action="append", metavar="NAMES", help=f"only these: {several}")
    unit = "units of inputs and outputs, separated by commas; may be repeated"
    add("--units", action="append", default=[], metavar="NAME=UNIT", help=unit)
    add("--dtype", choices=("float32", "float64"), help="compute in this precision")
    add("--max-bytes", type=_as_bytes, metavar="SIZE", help="working memory, such as 64MiB")
    add("--replicates", type=int, default=200, metavar="R", help="of the bootstrap (200)")
    add("--confidence", type=float, default=0.95, metavar="C", help="of the intervals (0.95)")
    add("--title", metavar="TEXT", help="title of the page")


def _as_bytes(text: str) -> int:
    """Read a number of bytes: 65536, 64KiB, 1.5G.

    >>> _as_bytes("64KiB"), _as_bytes("1.5M"), _as_bytes("2kB")
    (65536, 1572864, 2000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kKMG]?)(i?)(B?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a size such as 64MiB, but got {text!r}")
    number, prefix, binary, byte = found.groups()
    base = 1000 if prefix and byte and not binary else 1024
    return int(float(number) * base ** " KMG".index(prefix.upper() or " "))


# --- the report -----------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> None:
    _require_writable(options.output)
    net, X = _model_and_points(options.model, options.inputs)
    net = net.astype(options.dtype or net.dtype)
    talks = not (options.json or options.quiet)
    if talks:
        print(f"{net}\n{_timing(net, X, options.max_bytes)}\n")
    found = sensitivity(
        net,
        X,
        inputs=_several(options.columns, net.input_names),
        outputs=_several(options.rows, net.output_names),
        units=_units(options.units),
        replicates=options.replicates,
        max_bytes=options.max_bytes,
        progress=False if options.quiet else None,
    )
    certificates = _certificates(net, X, 3)
    if talks:
        _print_report(found, certificates)
    _write_report(found, certificates, options)
    if options.output and talks:
        print(f"\n{options.output}: {readable_bytes(os.path.getsize(options.output))}")


def _timing(net: Network, X: Array, max_bytes: int | None) -> str:
    """Compute the Jacobians once, as many as fit in 256 MiB, and say how long it took."""
    m, n = net.widths[-1], net.widths[0]
    size = m * n * net.dtype.itemsize
    some = X[: max(1, 2**28 // size)]
    start = time.perf_counter()
    value_and_jacobian(net, some, max_bytes=max_bytes)
    seconds = time.perf_counter() - start
    of = "" if len(some) == len(X) else f"the first {len(some)} of them "
    return (
        f"Jacobians at {len(X)} points: shape {(len(X), m, n)}, {net.dtype}, "
        f"{readable_bytes(len(X) * size)}, {of}in {1e3 * seconds:.1f} ms "
        f"({1e6 * seconds / len(some):.0f} µs a point)"
    )


def _print_report(found: Sensitivity, certificates: list[Certificate]) -> None:
    print("Most influential inputs: mean of |dy/dx|, with the sign of the mean of dy/dx")
    print(found)
    drawn = _as_pictures(found)
    if drawn:
        print(f"\nMean |dy/dx| as pictures, darkest = largest of that output\n\n{drawn}")
    if found.tally.singular_range.size:
        least, middle, most = (found.norm_quantile(share) for share in (0, 0.5, 1))
        print(
            f"\nNorm of J, its largest singular value: {least:.3g} to {most:.3g}, "
            f"half of the points below {middle:.3g}"
        )
    kinks = found.kinks
    print(f"\nPoints at a kink: {kinks['at']}, near one: {kinks['near']}\n{_verdict(certificates)}")


def _write_report(
    found: Sensitivity, certificates: list[Certificate], options: argparse.Namespace
) -> None:
    provenance = _provenance(options)
    if options.json or str(options.output).endswith(".json"):
        checks = [vars(check) for certificate in certificates for check in certificate]
        versions = {**reports.versions(), **provenance}
        text = found.to_json(options.confidence, certificate=checks, provenance=versions)
        if options.json:
            print(text)
        if str(options.output).endswith(".json"):
            reports.write_text(options.output, text + "\n")
    if str(options.output).endswith(".html"):
        found.to_html(
            options.output,
            confidence=options.confidence,
            title=options.title or f"Sensitivity report: {os.path.basename(options.model)}",
            certificates=certificates,
            provenance=provenance,
        )


def _require_writable(path: str | None) -> None:
    """Find out before the work, not after it, that the report could not be written."""
    if path is None:
        return
    if os.path.splitext(path)[1] not in (".html", ".json"):
        raise ValueError(f"-o: expected a name ending in .html or .json, but got {path!r}.")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise FileNotFoundError(f"-o: No such folder: {os.path.dirname(path)!r}")
    if path.endswith(".html"):
        reports.require()


def _several(texts: list[str] | None, names: Sequence[str] | None) -> list[str | int] | None:
    """Read names and numbers; a text that is a name as a whole is not cut at its commas."""
    if texts is None:
        return None
    known = names or ()
    parts = [part for text in texts for part in ([text] if text in known else text.split(","))]
    words = [part if part in known else part.strip() for part in parts]
    return [int(word) if word.isdecimal() and word not in known else word for word in words]


def _units(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        for part in text.split(","):
            name, sign, unit = part.rpartition("=")
            if not sign or not name:
                raise ValueError(f"--units: expected NAME=UNIT, but got {part!r}.")
            found[name.strip()] = unit.strip()
    return found


def _provenance(options: argparse.Namespace) -> dict[str, str]:
    found = {"command": shlex.join(["jacobians", *options.words])}
    for what, path in (("model", options.model), ("data", options.inputs)):
        if path is not None and os.path.isfile(path):
            found[what] = f"{os.path.basename(path)}, SHA-256 {_digest(path)}"
    return found


def _digest(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- the other commands ---------------------------------------------------------------------------


def _certify(options: argparse.Namespace) -> int:
    if options.points < 1:
        raise ValueError(f"--points: expected at least 1, but got {options.points}.")
    net = _model(options.model)
    if options.inputs or options.model in data.NAMES:
        net, X = _model_and_points(options.model, options.inputs)
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
        with replacing(options.output) as file:
            np.save(file, J, allow_pickle=False)
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


def _model_and_points(model: str, path: str | None) -> tuple[Network, Array]:
    """Load both; columns that carry the names of the inputs are taken by name, in any order."""
    net = _model(model)
    if path is None:
        if model not in data.NAMES:
            raise ValueError(
                "INPUTS: a network of your own needs points: a .npy, .npz, .csv or .parquet file."
            )
        return net, data.bundle(model).inputs
    points, width = load_points(path), net.widths[0]
    X, names = points.X, points.names
    if names and net.input_names and set(net.input_names) <= set(names):
        X = X[:, [names.index(name) for name in net.input_names]]
    elif names and len(names) == width:
        net = Network(net.layers, inputs=width, input_names=names, output_names=net.output_names)
    if not len(X):
        raise ShapeError(f"{path}: holds no points.")
    if X.shape[1] != width:
        raise ShapeError(f"{path}: has {X.shape[1]} columns, but {net} takes {width}.")
    return net, X


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
