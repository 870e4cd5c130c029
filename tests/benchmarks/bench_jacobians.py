"""Input Jacobians, JVPs, VJPs and gradients against every installed peer, in one run.

    python tests/benchmarks/bench_jacobians.py                 # all lines, both dtypes
    python tests/benchmarks/bench_jacobians.py --lines relu --dtypes float64 --rounds 5
    python tests/benchmarks/bench_jacobians.py --markdown      # the table of the README
    python tests/benchmarks/bench_jacobians.py --tasks jacobian    # alone of the four
    python tests/benchmarks/bench_jacobians.py --memory --fresh --growth

Peers: JAX (``jit`` of ``vmap`` of ``jacrev`` or ``jacfwd``, whichever is faster; compiling is not
counted), PyTorch (``torch.func``), HIPS autograd, NeuralSens; those that are not installed are left
out.  All of them run in one process, in turn, in bursts: a pause, so that worker threads of the one
before have gone to sleep, a call that is not counted, then some that are; several rounds, and the
median of all of them.  Before anything is timed, all answers must agree.

Both paths of the library run: with the compiled kernel, and in NumPy alone.  OpenBLAS chooses its
own kernel and block sizes, as it does for people: the variables that would tell it otherwise are
removed from the environment.  Lines at full load have a second process busy on each core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

REMOVED = [name for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if os.environ.pop(name, None)]

import numpy as np  # noqa: E402  (it reads them when it is loaded)

sys.path.insert(0, str(Path(__file__).parent))
from lines import LINES  # noqa: E402
from peers import PEERS, installed, ours  # noqa: E402
from processes import fresh_processes, peak_memory  # noqa: E402

import jacobians as jb  # noqa: E402

PLAIN = "in NumPy"  # the library without the kernel
TASKS = ("jacobian", "jvp", "vjp", "gradients")


def problem(line, dtype):
    """Return network, points, tangents, cotangents and targets of a line."""
    net = jb.Network.random(
        line.widths, line.activation, line.output_activation, seed=0, dtype=dtype
    )
    if (
        line.residual
    ):  # x + W' sigma(W x + b) + b', in pairs of layers between the first and the last
        first, *inner, last = net.layers
        pairs = zip(inner[::2], inner[1::2], strict=True)
        plain = [(A, jb.Dense(B.W, B.b)) for A, B in pairs]
        net = jb.Network([first, *(jb.Residual(pair) for pair in plain), last])
    rng, lead = np.random.default_rng(0), (line.batch,) if line.batch else ()
    shapes = [(*lead, width) for width in (net.widths[0],) * 2 + (net.widths[-1],) * 2]
    return net, *(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def contestants(line, given, task):
    """Return {name: callable} of everybody who can do a task."""
    calls = {"jacobians": ours(*given)[task]}
    if task == "jacobian":
        net, X, *_ = given
        plain = jb.plan(net, max(line.batch, 1), kernels=False)
        calls[PLAIN] = lambda: jb.jacobian(net, X, plan=plain)
    for name, (module, make) in PEERS.items():
        if not installed(module) or (name == "NeuralSens" and not line.neuralsens):
            continue
        if line.residual and (task != "jacobian" or name in ("autograd", "NeuralSens")):
            continue
        if name == "autograd" and (line.work > 2e9 or not line.batch):
            continue  # one sweep per output: minutes
        for key, call in make(*given).items():
            if key.split()[0] == task:
                calls[f"{name} {key[len(task) :]}".strip()] = call
    return calls


def require_agreement(calls, dtype):
    """Compare every answer with ours: up to a thousand roundings of the largest entry.

    At one point in a thousand a preactivation may lie within rounding of a kink, and on another
    side of it for another order of additions.
    """
    reference = calls["jacobians"]()
    for name, call in list(calls.items()):
        gaps = np.abs(call() - reference) / np.abs(reference).max()
        gap = np.quantile(gaps.reshape(len(gaps), -1).max(axis=1), 0.999, method="lower")
        assert gap < 1e3 * np.finfo(dtype).eps, f"{name} differs by {gap:.1e}"


def race(calls, rounds, seconds=0.15, pause=0.2):
    """Return the median time of each contestant, in milliseconds."""
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(pause)
            call()
            end, counted = time.perf_counter() + seconds, 0
            while counted < 3 or time.perf_counter() < end:
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
                counted += 1
                if counted >= 3 and times[name][-1] > seconds:
                    break
    return {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}


@contextmanager
def full_load():
    """Keep a process busy on each core."""
    code = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(code) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def matmul_peak(dtype):
    """Measure the matrix-multiplication peak, in operations per second."""
    A = np.random.default_rng(0).standard_normal((2048, 2048)).astype(dtype)
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        A @ A
        taken.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(taken)


def run(options):
    """Race all lines of all tasks, print as it goes, return the rows."""
    rows = []
    for task in options.tasks:
        for line in LINES:
            if options.lines and not any(word in line.name for word in options.lines):
                continue
            for dtype in (np.dtype(name) for name in options.dtypes):
                given = problem(line, dtype)
                calls = contestants(line, given, task)
                if len(calls) < 2:
                    continue
                require_agreement(calls, dtype)
                with full_load() if line.loaded else nullcontext():
                    times = race(calls, options.rounds)
                mine, plain = times.pop("jacobians"), times.pop(PLAIN, None)
                best = min(times, key=times.__getitem__)
                plan = jb.plan(given[0], max(line.batch, 1))
                ways = sum(m * n for m, n in zip(line.widths[1:], line.widths, strict=False))
                flops = max(line.batch, 1) * (plan.flops + 2 * ways)
                part = flops / (mine / 1e3) / options.peaks[dtype.name]
                row = {
                    "task": task,
                    "line": line.name,
                    "dtype": dtype.name,
                    "ours": mine,
                    "peak": part if task == "jacobian" else None,
                    "best": best,
                    "ratio": times[best] / mine,
                    "plain": plain,
                    "plain_ratio": plain and times[best] / plain,
                    **{
                        name.split()[0]: taken
                        for name, taken in sorted(times.items(), reverse=True)
                        if taken
                        == min(t for n, t in times.items() if n.split()[0] == name.split()[0])
                    },
                }
                rows.append(row)
                print(as_line(row), flush=True)
    return rows


def as_line(row):
    """Return one row as text."""
    others = ", ".join(f"{name} {row[name]:.3f}" for name in PEERS if name in row)
    part = f", {row['peak']:.0%} of the peak" if row["peak"] else ""
    if row["plain"]:
        part += f"; in NumPy {row['plain']:.3f} ms, {row['plain_ratio']:.2f}"
    return (
        f"{row['task']:9} {row['line']:31} {row['dtype']}  {row['ours']:9.3f} ms   "
        f"{row['ratio']:5.2f} times the best peer ({others}){part}"
    )


def as_markdown(rows):
    """Return the table of the README."""
    lines = [
        "| network, points | dtype | jacobians | JAX | PyTorch | NeuralSens | ratio to the best |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            f"{row[name]:.3g}" if name in row else "" for name in ("JAX", "PyTorch", "NeuralSens")
        ]
        task = "" if row["task"] == "jacobian" else f"{row['task']} "
        lines.append(
            f"| {task}{row['line']} | {row['dtype']} | {row['ours']:.3g} | {' | '.join(cells)} "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def summary(rows):
    """Return the geometric mean of the ratios for each task."""
    for task in TASKS:
        ratios = [row["ratio"] for row in rows if row["task"] == task]
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            yield f"{task}: geometric mean {mean:.2f} times the best peer, {len(ratios)} lines"
        ratios = [row["plain_ratio"] for row in rows if row["task"] == task and row["plain"]]
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            yield f"{task}, in NumPy: geometric mean {mean:.2f}"


def growth():
    """Print how the time grows with batch, depth and width."""
    cases = {
        "batch": [((20, 64, 64, 1), B) for B in (1000, 2000, 4000, 8000, 16000, 32000)],
        "depth": [((64,) * (L + 1), 32) for L in (5, 10, 20, 40, 80)],
        "width": [((n,) * 4, 16) for n in (32, 64, 128, 256, 512)],
    }
    for what, sizes in cases.items():
        print(f"growth with {what}:")
        for widths, B in sizes:
            net = jb.Network.random(widths, seed=0)
            X = np.random.default_rng(0).standard_normal((B, widths[0]))
            taken = race({"": lambda net=net, X=X: jb.jacobian(net, X)}, 2)[""]
            print(f"  {len(widths) - 1} layers of width {widths[1]}, {B} points: {taken:.3f} ms")


def main():
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", nargs="*", help="words that the name of a line must contain")
    parser.add_argument("--tasks", nargs="*", default=[*TASKS], choices=TASKS)
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.add_argument("--memory", action="store_true", help="peak memory, each in its process")
    parser.add_argument("--fresh", action="store_true", help="first Jacobian of a fresh process")
    parser.add_argument("--growth", action="store_true", help="growth with batch, depth and width")
    options = parser.parse_args()
    jb.show_config()
    print(f"removed from the environment: {', '.join(REMOVED) or 'nothing'}")
    options.peaks = {name: matmul_peak(np.dtype(name)) for name in options.dtypes}
    for name, peak in options.peaks.items():
        print(f"matrix multiplication, {name}: {peak / 1e9:.0f} Gflop/s")
    rows = run(options)
    print("\n".join(summary(rows)))
    if options.markdown:
        print(as_markdown(rows))
    if options.memory:
        peak_memory(options.lines)
    if options.fresh:
        fresh_processes()
    if options.growth:
        growth()


if __name__ == "__main__":
    main()
