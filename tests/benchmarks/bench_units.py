"""Time and peak memory of a large unit graph, and which triangular solve suits it.

    python tests/benchmarks/bench_units.py [units] [edges]

Four shapes of the same size: in `layered` a unit is fed by the layer below, in `skipping` by any
earlier unit, in `local` by one of the hundred before it (so that there are thousands of levels),
and `chain` is the worst case for a walk by levels, one unit on each.
"""

import sys
import time
import tracemalloc

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve_triangular

import jacobians as jb
from jacobians.units import UnitGraph

INPUTS = 10


def random_edges(N, E, shape, rng):
    """Return A with about E edges, its units shuffled."""
    targets = np.sort(rng.integers(1, N, E))
    reach = {"layered": None, "skipping": targets, "local": np.minimum(targets, 100)}.get(shape)
    if shape == "chain":
        targets, sources = np.arange(1, N), np.arange(N - 1)
    elif shape == "layered":
        width = max(1, N // 20)
        targets = targets[targets >= width]
        sources = (targets // width - 1) * width + rng.integers(0, width, len(targets))
    else:
        sources = targets - 1 - (rng.random(len(targets)) * reach).astype(int)
    weights = rng.standard_normal(len(targets)) / np.sqrt(E / N)
    shuffle = rng.permutation(N)
    A = csr_array((weights, (shuffle[targets], shuffle[sources])), shape=(N, N))
    A.sum_duplicates()
    return A


def graph_of(A, rng):
    N = A.shape[0]
    B = csr_array((np.ones(N), (np.arange(N), rng.integers(0, INPUTS, N))), shape=(N, INPUTS))
    sigmas = np.array(["tanh", "softplus"])[rng.integers(0, 2, N)].tolist()
    return UnitGraph(A, B, 0.1 * rng.standard_normal(N), sigmas)


def clock(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def triangular(at, c):
    """Solve (I - D Aᵀ) delta = D c by scipy's substitution on the sorted matrix."""
    order = np.argsort(at.graph.levels, kind="stable")
    A, d = at.graph.A[order][:, order], at.slopes[order]
    M = A.T.tocsr()
    M.data = -M.data * np.repeat(d, np.diff(M.indptr))
    upper = (M + eye_array(len(d))).tocsr()
    delta = np.empty_like(c)
    delta[order] = spsolve_triangular(upper, d * c[order], lower=False, unit_diagonal=True)
    return delta


def measure(N, E, shape):
    rng = np.random.default_rng(0)
    A = random_edges(N, E, shape, rng)
    x, c = rng.standard_normal(INPUTS), rng.standard_normal(N)
    graph, made = clock(lambda: graph_of(A, rng))
    _, first = clock(lambda: graph(x))
    at, valued = clock(lambda: graph.linearize(x))
    g, pulled_first = clock(lambda: at.backprop(c))
    g, pulled = clock(lambda: at.backprop(c))
    other, solved = clock(lambda: triangular(at, c))
    gap = np.abs(g.deltas - other).max() / np.abs(g.deltas).max()
    _, batched = clock(lambda: graph.linearize(rng.standard_normal((32, INPUTS))))
    levels = int(graph.levels.max())
    print(
        f"{shape:9} {A.nnz:9,} edges {levels:7,} levels | made {made:5.2f} s | values first "
        f"{first:5.2f}, then {valued:5.2f} s | gradients first {pulled_first:5.2f}, then "
        f"{pulled:5.2f} s | spsolve_triangular {solved:5.2f} s (apart by {gap:.0e}) | "
        f"32 points {batched:5.2f} s"
    )


def blocks(N, E, shape):
    """Compare with the network of blocks: what it takes to build it, its memory, its gradient."""
    rng = np.random.default_rng(0)
    A = random_edges(N, E, shape, rng)
    graph, x, c = graph_of(A, rng), rng.standard_normal(INPUTS), rng.standard_normal(N)
    at = graph.linearize(x)
    at.backprop(c)
    _, pulled = clock(lambda: at.backprop(c))
    net, built = clock(graph.to_network)
    lin = jb.linearize(net, x)
    lin.vjp(c)
    _, swept = clock(lambda: lin.vjp(c))
    dense = sum(p.nbytes for layer in net.layers for p in layer.parameters().values())
    sparse = graph.A.data.nbytes + graph.A.indices.nbytes + graph.A.indptr.nbytes
    print(
        f"{shape:9} {N:,} units as {net.depth:,} blocks: built in {built:.2f} s, "
        f"{dense / sparse:.0f} times the memory, gradient {swept / pulled:.0f} times the time"
    )


def peak(N, E, shape):
    """Return the peak of what is allocated from edges to gradients, in bytes per edge."""
    rng = np.random.default_rng(0)
    A = random_edges(N, E, shape, rng)
    tracemalloc.start()
    at = graph_of(A, rng).linearize(rng.standard_normal(INPUTS))
    at.backprop(rng.standard_normal(N))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most, most / A.nnz


def main(N=100_000, E=1_000_000):
    print(f"{N:,} units")
    for shape in ("layered", "skipping", "local", "chain"):
        measure(N, E, shape)
    for shape in ("layered", "skipping", "local"):
        blocks(N // 100, E // 100, shape)
    for size in (N // 4, N):
        most, each = peak(size, E * size // N, "skipping")
        print(f"peak memory at {size:,} units: {most / 2**20:.0f} MiB, {each:.0f} bytes per edge")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
