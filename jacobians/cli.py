"""The ``jacobians`` command: look at the Jacobians of a network without writing a script.

Every command runs at once on a bundled network with real data; networks come from the files that
``jacobians.load`` reads, points from ``.npy``, ``.npz``, ``.csv`` or ``.parquet``.  Results go to
standard output, progress to standard error; a mistake gives one line there and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jacobians import _cli_explain, data, reports
from jacobians._checks import Array, readable_bytes
from jacobians._cli_inputs import (
    add_log_odds,
    model,
    model_and_points,
    progress,
    require_at_least,
    with_log_odds,
)
from jacobians._names import numbered
from jacobians._npz import write_npz
from jacobians._options import (
    Parser,
    as_bytes,
    chosen,
    print_anywhere,
    require_writable,
    units,
)
from jacobians._text import chain_picture, picture, side_by_side
from jacobians._writing import replacing
from jacobians.certificate import Certificate, certify
from jacobians.derivation import CONVENTIONS, derive, example, to_interactive
from jacobians.engine import value_and_jacobian
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.sensitivities import Sensitivity, sensitivity
from jacobians.sensitivities.groups import as_confidence
from jacobians.sensitivities.pictures import pixel_images


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    print_anywhere()
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
    except Exception as err:  # a mistake of ours; a traceback would help nobody who cannot mend it
        if os.environ.get("JACOBIANS_TRACEBACK"):
            raise
        message = " ".join(f"{type(err).__name__}: {err!s:.200}".split())
        print(
            f"jacobians {options.command}: internal error: {message} "
            "(JACOBIANS_TRACEBACK=1 shows where; please report it)",
            file=sys.stderr,
        )
        return 70


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="jacobians", description="The Jacobian of a trained network.")
    versions = {**reports.versions(), "jacobians": sys.modules["jacobians"].__version__}
    version = ", ".join(f"{name} {number}" for name, number in versions.items())
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> Parser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    report = command("report", _report, "Jacobians of a data set: who influences what")
    _add_model_and_points(report)
    _add_report_options(report)
    check = command("certify", _certify, "check every identity of the notes at a few points")
    _add_model_and_points(check)
    check.add_argument("--points", type=int, default=3, metavar="N", help="how many (3)")
    compute = command("jacobian", _jacobian, "write values and Jacobians to a file")
    _add_model_and_points(compute, default=False)
    compute.add_argument("-o", "--output", required=True, metavar="FILE", help=".npz or .npy")
    planned = command("plan", _plan, "the chain, its shapes, the plan and its savings")
    _add_model(planned)
    planned.add_argument("--batch", type=int, default=1, metavar="B", help="for B points (1)")
    write = command("derive", _derive, "the derivation of a network, every line checked")
    _add_model_and_points(write)
    write.set_defaults(model=None)
    add = write.add_argument
    how: Any = {"default": "columns", "choices": tuple(CONVENTIONS), "metavar": "NAME"}
    add("--convention", **how, help="columns, or that of a document: 000 to 004")
    add("-o", "--output", metavar="FILE", help="a page (.html) or LaTeX (.tex)")
    add("--interactive", action="store_true", help="a page on which the inputs can be dragged")
    why = command("explain", _cli_explain.run, "why this prediction: what each input contributed")
    _add_model_and_points(why)
    _cli_explain.add_options(why)
    own = command("check", _check, "check a backprop or a layer's rule of your own")
    own.add_argument("name", metavar="MODULE:NAME", help="function(net, X, Y), or a Layer")
    own.add_argument("--examples", type=int, default=100, metavar="N", help="networks drawn (100)")
    return parser


def _add_model(command: argparse.ArgumentParser, default: bool = True) -> None:
    bundled = ", ".join(data.NAMES)
    model = f"a network file that jacobians.load reads, or a bundled one: {bundled}"
    optional: dict[str, str] = {"nargs": "?", "default": "digits"} if default else {}
    command.add_argument("model", metavar="MODEL", help=model, **optional)  # type: ignore[arg-type]


def _add_model_and_points(command: argparse.ArgumentParser, default: bool = True) -> None:
    _add_model(command, default)
    points = (
        "points as .csv, .npy, .npz or .parquet, or - for a csv from standard input; a first line "
        "of names is matched with those of the network; the held-out points of a bundled network "
        "by default"
    )
    command.add_argument("inputs", nargs="?", metavar="INPUTS", help=points)
    add, several = command.add_argument, "separated by commas; may be repeated"
    drop = f"columns of INPUTS that are no inputs, {several}"
    add("--drop", action="append", default=[], metavar="NAMES", help=drop)
    for what in ("input", "output"):
        names = f"names of all {what}s, {several}"
        add(f"--{what}-names", action="append", metavar="NAMES", help=names)


def _add_report_options(report: Parser) -> None:
    add = report.add_argument
    add("-o", "--output", metavar="FILE", help="write a page (.html), or all numbers (.json)")
    add("--json", action="store_true", help="print all numbers as JSON, and no text")
    add("--quiet", action="store_true", help="no text and no progress")
    several = "names or numbers from 0, separated by commas; may be repeated"
    add("--inputs", dest="columns", action="append", metavar="NAMES", help=f"only these: {several}")
    add("--outputs", dest="rows", action="append", metavar="NAMES", help=f"only these: {several}")
    unit = "units of inputs and outputs, separated by commas; may be repeated"
    add("--units", action="append", default=[], metavar="NAME=UNIT", help=unit)
    add_log_odds(report, "beside its probabilities")
    add("--dtype", choices=("float32", "float64"), help="compute in this precision")
    add("--max-bytes", type=as_bytes, metavar="SIZE", help="working memory, such as 64MiB")
    add("--confidence", type=float, default=0.95, metavar="C", help="of the intervals (0.95)")
    add("--title", metavar="TEXT", help="title of the page")


# --- the report -----------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> None:
    require_writable(options.output, (".html", ".json"))
    if str(options.output).endswith(".html"):
        reports.require()
    as_confidence(options.confidence, "--confidence")
    net, X = model_and_points(options)
    net = net.astype(options.dtype or net.dtype)
    inputs = numbered(net.input_names, net.widths[0], "x")
    outputs = numbered(net.output_names, net.widths[-1], "y")
    columns = chosen(options.columns, inputs, "--inputs")
    rows = chosen(options.rows, outputs, "--outputs")
    net, rows = with_log_odds(net, options, rows, beside=True)
    outputs = numbered(net.output_names, net.widths[-1], "y")
    named = units(options.units, (*inputs, *outputs))
    talks = not (options.json or options.quiet)
    if talks:
        print(f"{net}\n{_timing(net, X, options.max_bytes)}\n")
    work: Any = {"max_bytes": options.max_bytes, "progress": progress(options.quiet)}
    record = sensitivity(net, X, inputs=columns, outputs=rows, units=named, **work)
    certificates = _certificates(net, X, 3, options.quiet)
    if talks:
        _print_report(record, certificates)
    _write_report(record, certificates, options)
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


def _print_report(record: Sensitivity, certificates: list[Certificate]) -> None:
    print(record)
    drawn = _as_pictures(record)
    if drawn:
        print(f"\nImportance as pictures, darkest = largest of that output\n\n{drawn}")
    print(f"\n{_verdict(certificates)}")


def _write_report(
    record: Sensitivity, certificates: list[Certificate], options: argparse.Namespace
) -> None:
    provenance = _provenance(options)
    if options.json or str(options.output).endswith(".json"):
        checks = [vars(check) for certificate in certificates for check in certificate]
        versions = {**reports.versions(), **provenance}
        text = record.to_json(options.confidence, certificate=checks, provenance=versions)
        if options.json:
            print(text)
        if str(options.output).endswith(".json"):
            reports.write_text(options.output, text + "\n")
    if str(options.output).endswith(".html"):
        title = options.title or f"Sensitivity report: {os.path.basename(options.model)}"
        about: Any = {"title": title, "certificates": certificates, "provenance": provenance}
        record.to_html(options.output, confidence=options.confidence, **about)


def _provenance(options: argparse.Namespace) -> dict[str, str]:
    rows = {"command": shlex.join(["jacobians", *options.words])}
    for what, path in (("model", options.model), ("data", options.inputs)):
        if path is not None and os.path.isfile(path):
            rows[what] = f"{os.path.basename(path)}, SHA-256 {_digest(path)}"
    return rows


def _digest(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- the other commands ---------------------------------------------------------------------------


def _certify(options: argparse.Namespace) -> int:
    require_at_least(1, options.points, "--points")
    if options.inputs or options.model in data.NAMES:
        net, X = model_and_points(options)
    else:
        net = model(options)
        X = np.random.default_rng(0).standard_normal((options.points, net.widths[0]))
        print("no INPUTS given: certified at normally distributed random points\n")
    certificates = _certificates(net, X, options.points)
    worst = max(certificates, key=lambda c: max(check.ratio for check in c))
    print(f"The point with the largest ratio of {len(certificates)}:\n\n{worst}\n")
    print(_verdict(certificates))
    return 0 if all(certificates) else 1


def _jacobian(options: argparse.Namespace) -> None:
    require_writable(options.output, (".npz", ".npy"))
    net, X = model_and_points(options)
    value, J = value_and_jacobian(net, X)
    if options.output.endswith(".npy"):
        with replacing(options.output) as file:
            np.save(file, J, allow_pickle=False)
    else:
        write_npz(options.output, {"inputs": X, "values": value, "jacobians": J})
    print(f"{options.output}: Jacobians {J.shape}, {J.dtype}, {readable_bytes(J.nbytes)}")


def _plan(options: argparse.Namespace) -> None:
    require_at_least(0, options.batch, "--batch")
    net = model(options)
    best = plan(net, options.batch)
    factors = [
        (name, A.rows, A.columns, A.kind) for name, A in zip(best.names, best.operands, strict=True)
    ]
    print(f"{net}\n")
    if factors:
        print(f"{chain_picture(factors)}\n")
    print(best.explain())


def _derive(options: argparse.Namespace) -> int:
    if options.output:
        require_writable(options.output, (".html", ".tex"))
    if options.model is None:
        net, x, y, loss = example()
    else:
        net, X = model_and_points(options)
        x, y, loss = X[0], None, None
    if options.interactive:
        to_interactive(net, x, options.output or "derivation.html")
        return 0
    derivation = derive(net, x, y, loss, options.convention)
    if options.output:
        derivation.write(options.output)
    else:
        print(derivation)
    return 0 if derivation.holds else 1


def _check(options: argparse.Namespace) -> int:
    from jacobians.strategies import check_named  # needs hypothesis, an extra

    require_at_least(1, options.examples, "--examples")
    sys.path.insert(0, "")  # the module of the current folder, as python -m finds it
    try:
        check_named(options.name, examples=options.examples)
    except AssertionError as failure:
        print(failure)
        return 1
    print(f"{options.name} passes on {options.examples} drawn cases")
    return 0


# --- what they share ------------------------------------------------------------------------------


def _certificates(net: Network, X: Array, count: int, quiet: bool = False) -> list[Certificate]:
    chosen = np.unique(np.linspace(0, len(X) - 1, min(count, len(X))).astype(int))
    return [certify(net, X[i], progress=progress(quiet)) for i in chosen]


def _verdict(certificates: list[Certificate]) -> str:
    checks = [check for certificate in certificates for check in certificate if check.claimed]
    worst = max((check.ratio for check in checks), default=0.0)
    held = sum(check.holds for check in checks)
    exact = sum(check.exact for check in checks)
    verdict = "Certified" if held == len(checks) else "NOT certified"
    return (
        f"{verdict}: at {len(certificates)} points, {held} of {len(checks)} identities hold within "
        f"their proved bounds, {exact} of them bit for bit; largest ratio {worst:.2f}"
    )


def _as_pictures(record: Sensitivity) -> str:
    """Draw the sensitivities of every output if the names say that the inputs are pixels."""
    images = pixel_images(record.input_names, np.nan_to_num(record.importance))
    if images is None:
        return ""
    return side_by_side(record.output_names, [picture(each, float(each.max())) for each in images])
