"""Time of ``sensitivity`` with intervals over that of the Jacobians, and of other libraries.

    env -u OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_sensitivity.py

For every line with a batch: the record of the data set, and the record with its importance and the
95 % intervals of importance and mean; over the time of ``value_and_jacobian`` on the same points.
Each time is the least of many repetitions, and they take turns.

NeuralSens and SALib's DGSM run on the lines that they can do: the first gives no intervals, the
second wants values of the network at a finite-difference design of the same number of points, which
are counted in.
"""

import argparse
import resource
import time

import numpy as np
from lines import LINES
from peers import installed

import jacobians as jb


def record_with_intervals(net, X):
    """What is asked of a data set: the record, the ranking, and how sure it is."""
    record = jb.sensitivity(net, X)
    return record.importance, record.interval("importance"), record.interval("mean")


def neuralsens(net, X):
    """Mean, standard deviation and mean square of the derivatives, without intervals."""
    import pandas as pd
    from neuralsens.partial_derivatives import calculate_first_partial_derivatives_mlp

    weights, biases = [layer.W.T for layer in net.layers], [layer.b for layer in net.layers]
    names = ["identity", *(layer.activation.name for layer in net.layers)]
    frame = pd.DataFrame(X)

    def run():
        *_, D, counter, _ = calculate_first_partial_derivatives_mlp(
            weights, biases, names, frame, "cpu", 0, len(names), True, False, False
        )
        J = np.asarray(D[counter])
        return J.mean(axis=0), J.std(axis=0), (J**2).mean(axis=0)

    return run


def salib(net, X):
    """Derivative-based measures with bootstrap intervals, 100 resamples as by default."""
    from SALib.analyze import dgsm
    from SALib.sample import finite_diff

    n, m = net.widths[0], net.widths[-1]
    problem = {"num_vars": n, "names": [f"x{j}" for j in range(n)], "bounds": [[-2, 2]] * n}
    design = finite_diff.sample(problem, len(X), seed=0)

    def run():
        Y = net(design)
        return [dgsm.analyze(problem, design, Y[:, i], seed=0) for i in range(m)]

    return run


def streamed(count, size=100_000):
    """Print the time and memory of a record of so many points, which are made on the way."""
    net = jb.Network.random([20, 64, 64, 1], seed=0)
    draws = (np.random.default_rng(k).normal(size=(size, 20)) for k in range(count // size))
    start = time.perf_counter()
    jb.sensitivity(net, draws).interval("importance")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"20-64-64-1, {count:,} points: {time.perf_counter() - start:.1f} s, {peak:.0f} MiB")


def best(functions, seconds, clock=time.perf_counter):
    """Return the least time of each, taking turns."""
    least = [np.inf] * len(functions)
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        for k, function in enumerate(functions):
            start = clock()
            function()
            least[k] = min(least[k], clock() - start)
        rounds += 1
    return least


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line")
    parser.add_argument("--lines", default="", help="only lines whose name contains this")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--cpu", action="store_true", help="time of the processor, not of the clock"
    )
    parser.add_argument("--points", type=int, nargs="*", help="instead: streams of so many points")
    options = parser.parse_args()
    if options.points:
        for count in options.points:
            streamed(count)
        return
    clock = time.process_time if options.cpu else time.perf_counter
    print(f"{'line':36}{'Jacobians':>12}{'record':>9}{'+ intervals':>13}  peers, over the latter")
    ratios = []
    for line in LINES:
        if not line.batch or options.lines not in line.name:
            continue
        net = jb.Network.random(line.widths, line.activation, line.output_activation, seed=0)
        X = np.random.default_rng(0).normal(size=(line.batch, net.widths[0]))
        ours = [
            lambda net=net, X=X: jb.value_and_jacobian(net, X),
            lambda net=net, X=X: jb.sensitivity(net, X),
            lambda net=net, X=X: record_with_intervals(net, X),
        ]
        jacobians, plain, record = best(ours, options.seconds, clock)
        ratios.append(record / jacobians)
        peers = []
        if not options.no_peers:
            if line.neuralsens and installed("neuralsens"):
                peers.append(("NeuralSens", best([neuralsens(net, X)], 0, clock)[0]))
            small = line.widths[0] <= 20 and line.widths[-1] <= 5 and line.batch <= 10_000
            if small and installed("SALib"):
                peers.append(("SALib", best([salib(net, X)], 0, clock)[0]))
        against = ", ".join(f"{name} {seconds / record:.1f}" for name, seconds in peers)
        print(
            f"{line.name:36}{1e3 * jacobians:9.2f} ms{plain / jacobians:9.2f}{ratios[-1]:13.2f}  "
            f"{against}",
            flush=True,
        )
    if ratios:
        print(f"largest ratio {max(ratios):.2f}")


if __name__ == "__main__":
    main()
