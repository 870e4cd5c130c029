"""Call the engine with options drawn at random, and judge it in exact arithmetic.

``python tests/benchmarks/fuzz_engine.py --seconds 180`` draws networks scaled near both ends of the
range, in float32 and float64, and calls them with every option: nodes, rows, columns, memory and
layout of ``out`` and of ``X``, budgets, plans made anew or used again, threads, limits, the kernel
on or off.  The Jacobian must be within the proved bound of the product in fractions, have the bits
of the same call on contiguous points, and leave everything else as it was.  Prints the counts and
the nearest ratio; the exit status is 1 if a promise was broken, with the seed of the call.

Whoever computes the slopes must find the same ones, or the bound would not be about rounding.  So
values are whole numbers times a power of two until one activation of any kind, after which every
slope is the same at all points.
"""

import argparse
import sys
import time
from collections import Counter
from itertools import count, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from engine_cases import EXTREMES
from exact_maps import exact_product, worst_ratio

import jacobians as jb
from jacobians.maps import Matrix
from jacobians.program import Limits
from jacobians.rounding import chain_bound
from jacobians.strategies import HIDDEN

WHOLE = ("identity", "relu", "identity", "relu", "square")
BENDS = (*HIDDEN, "exp", "softmax", "log_softmax")
LIMITS = EXTREMES | {
    "small_piece_bytes": (1, 500, 2**22),
    "long_call": (1, 2**15),
    "blas": (1, 2**29),
    "thread_seconds": (0.0, 1e-3),
}
# The kernel and NumPy compute a slope each, off by up to 4.1 ulps of two roundings each (the
# accuracy of activations), and its value passes through one preactivation at most.
SLOPE_ROUNDINGS = 18


def network(rng):
    """Draw a network: exact values, then one activation of any kind, then constant slopes."""
    dtype = np.dtype(rng.choice([np.float32, np.float64]))
    end = np.finfo(dtype).maxexp - 8
    strength = int(rng.choice([2, 8, end // 4, end]))
    widths = rng.integers(1, 6, int(rng.integers(2, 6)))
    bent, layers = int(rng.integers(0, len(widths))), []

    def matrix(m, n, whole, scale):
        W = rng.integers(-3, 4, (m, n)) if whole else rng.normal(size=(m, n))
        return np.ldexp(W.astype(dtype), scale)

    def power():
        return int(rng.integers(-strength, strength + 1))

    for l, (n, m) in enumerate(pairwise(widths)):
        # slopes of most activations say something only near 0
        scale = int(rng.integers(-3, 2)) if l == bent else power()
        W = matrix(m, n, l <= bent, scale)
        sigma = rng.choice(WHOLE if l < bent else BENDS) if l <= bent else "identity"
        # of terms of other scales a sum would be rounded in one order, and not in another
        b = np.ldexp(rng.integers(-2, 3, m).astype(dtype), scale) if l == 0 else None
        layers.append(jb.Dense(W, b, str(sigma)))
        kind = rng.integers(6)
        if kind == 0:
            layers.append(
                jb.Residual([jb.Dense(matrix(m, m, l < bent, 0 if l < bent else power()))])
            )
        elif kind == 1:
            layers.append(jb.Scale(np.ldexp(dtype.type(1), rng.integers(-3, 4, m))))
        elif kind == 2:
            layers.append(jb.Gather(rng.integers(0, m, m)))
    return jb.Network(layers)


def laid_out(rng, array):
    """Lay an array out in another way: strided, backwards, columns first, in a larger one."""
    kind = rng.integers(5)
    if kind == 0:
        return array.copy()
    if kind == 1:
        return np.asfortranarray(array)
    if kind == 2:
        return np.flip(np.flip(array).copy())
    larger = np.full([2 * n + 1 for n in array.shape], 7, array.dtype)
    inside = larger[tuple(slice(1, None, 2) for _ in array.shape)]
    inside[...] = array
    return inside if kind == 3 else inside.copy(order="F")


def choice(rng, net):
    """Draw the nodes, rows and columns of a call."""
    wrt, of = sorted(rng.choice(net.depth + 1, 2, replace=False).tolist())
    some = {"of": of, "wrt": wrt} if rng.uniform() < 0.6 else {}
    of, wrt = some.get("of", net.depth), some.get("wrt", 0)
    for name, width in (("rows", net.widths[of]), ("columns", net.widths[wrt])):
        if rng.uniform() < 0.3:
            some[name] = rng.permutation(width)[: rng.integers(1, width + 1)].tolist()
        elif rng.uniform() < 0.2:
            some[name] = slice(None, None, int(rng.integers(1, 3)))
    return some


def planned(rng, net, some, batch):
    """Make a plan with limits, threads and a kernel by the dice; None for the engine's own."""
    if rng.uniform() < 0.3:
        return None
    limits = Limits(**{k: v[rng.integers(len(v))] for k, v in LIMITS.items()})
    some = {**some, "threads": int(rng.integers(1, 4)), "kernels": bool(rng.integers(2))}
    return jb.plan(net, int(rng.choice([batch, 1, 100])), limits=limits, **some)


def judged(seed):
    """Make one call and judge it: a word for what it was, and its ratio to the bound."""
    rng = np.random.default_rng(seed)
    with np.errstate(under="ignore"):
        net = network(rng)
    batch = int(rng.choice([0, 1, 2, 3, 17]))
    X = rng.integers(-3, 4, (batch, net.widths[0])).astype(net.dtype)
    X = X[0] if batch and rng.uniform() < 0.3 else X
    some = choice(rng, net)
    try:
        lin = [jb.linearize(net, x) for x in np.atleast_2d(X)]
        plan = planned(rng, net, some, batch)  # which asks for a point with a value
    except jb.NotFiniteError:
        return "out of range", 0.0
    call = {"plan": plan} if plan is not None else some
    if plan is None and rng.uniform() < 0.3:
        call = {**some, "max_bytes": int(rng.choice([2**14, 2**17, 2**26]))}
    drawn = laid_out(rng, X)
    before = drawn.tobytes()
    verb = rng.choice([jb.jacobian, jb.value_and_jacobian])
    try:
        answer = verb(net, drawn, **call)
    except jb.NotFiniteError:
        return "out of range", 0.0  # rounded otherwise on the way
    except ValueError as err:
        if "budget" not in str(err):
            raise
        return "over the budget", 0.0
    whole = np.ascontiguousarray(X)
    J = answer if verb is jb.jacobian else answer[1]
    assert J.tobytes() == jb.jacobian(net, whole, **call).tobytes(), "the bits depend on X's layout"
    out = laid_out(rng, np.full_like(J, 5))
    around = None if out.base is None else out.base.copy()
    assert jb.jacobian(net, whole, out=out, **call) is out
    assert drawn.tobytes() == before, "X was changed"
    if around is not None:
        filled = out.copy()
        out[...] = 5
        assert (out.base == around).all(), "memory around out was changed"
        out[...] = filled
    of, wrt = some.get("of", net.depth), some.get("wrt", 0)
    names = (getattr(layer, "activation", None) for layer in net.layers)
    bent = any(sigma is not None and sigma.name not in WHOLE for sigma in names)
    worst = 0.0
    stack = (len(lin), *J.shape[-2:])
    for at, *results in zip(lin, J.reshape(stack), out.reshape(stack), strict=True):
        factors = list(at.between(of, wrt))
        if not _slopes_are_normal(factors, net.dtype):
            return "subnormal slopes", 0.0
        rows, columns = (
            np.eye(net.widths[node], dtype=net.dtype)[some.get(name, slice(None))]
            for node, name in ((of, "rows"), (wrt, "columns"))
        )
        factors = [Matrix(rows), *factors, Matrix(columns.T)]
        bound = chain_bound(factors, net.dtype).single(SLOPE_ROUNDINGS * bent)
        exact = exact_product(factors)
        worst = max(worst, *(worst_ratio(entries, exact, bound) for entries in results))
    return "judged", worst


def _slopes_are_normal(factors, dtype):
    """Tell whether every slope has all its digits: the accuracy above is one of normal numbers."""
    slopes = [np.abs(A.to_dense()) for A in factors if not isinstance(A, Matrix)]
    return all((D[D > 0] > 2**20 * np.finfo(dtype).tiny).all() for D in slopes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end, counts, nearest, broken = time.monotonic() + arguments.seconds, Counter(), 0.0, 0
    for k in count():
        if time.monotonic() > end:
            break
        try:
            verdict, ratio = judged((arguments.seed, k))
            assert ratio <= 1, f"{ratio} of the bound"
            nearest = max(nearest, ratio)
        except Exception as err:
            verdict, broken = "BROKEN", broken + 1
            print(f"BROKEN: seed ({arguments.seed}, {k}): {type(err).__name__}: {err}", flush=True)
        counts[verdict] += 1
    print(", ".join(f"{n:,} {verdict}" for verdict, n in counts.most_common()))
    print(f"{broken} broken, nearest ratio {nearest:.3f}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
