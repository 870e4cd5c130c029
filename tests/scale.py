"""Networks by seed, ill-scaled, exact or near the ends of the range, and a judge for each kind.

The judge multiplies the chain of a trace out in longer arithmetic: float64 for float32, and the
long double of the machine, with 11 more bits and 15 more exponents, for float64.  That reference
obeys the same theorem with a smaller unit, so a computation that strays from it by more than both
bounds together violates the promise.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

import jacobians as jb
from jacobians.engine import jacobian_at
from jacobians.maps import Product, multiply_out
from jacobians.maps.association import forward_order, reverse_order
from jacobians.rounding import chain_bound
from jacobians.strategies import HIDDEN

WIDEST, DEEPEST = 256, 40
PLAIN = (reverse_order, forward_order)
LONGER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


def sizes(rng):
    """Draw widths, log-uniform from 1 to 256, and a depth of up to 40; both only at times large."""
    depth = int(np.exp(rng.uniform(0, np.log(DEEPEST + 1))))
    widest = min(WIDEST, max(4, int(2000 / depth)))
    return np.exp(rng.uniform(0, np.log(widest + 1), depth + 1)).astype(int)


def ill_scaled(rng):
    """Draw a network whose layers are scaled by 1e-8 to 1e8 (or by 1), and a point."""
    dtype, widths, layers = rng.choice([np.float32, np.float64]), sizes(rng), []
    wild = rng.uniform() < 0.7
    for inputs, outputs in pairwise(widths):
        scale = 10.0 ** rng.uniform(-8, 8) if wild else 1 / np.sqrt(inputs)
        W = scale * rng.standard_normal((outputs, inputs))
        b = scale * rng.standard_normal(outputs)
        layers.append(jb.Dense(W.astype(dtype), b.astype(dtype), str(rng.choice(HIDDEN))))
    return jb.Network(layers), rng.standard_normal(widths[0]).astype(dtype)


def exact(rng):
    """Draw a network of small whole numbers times powers of two, slopes 0, 1 and 1/4."""
    dtype, widths, layers = rng.choice([np.float32, np.float64]), sizes(rng)[:5], []
    if len(widths) < 2:
        widths = np.append(widths, 3)
    for inputs, outputs in pairwise(widths):
        power = 2.0 ** rng.integers(-8, 9)
        W, b = (rng.integers(-2, 3, shape) for shape in ((outputs, inputs), outputs))
        W = W * (rng.uniform(size=W.shape) < min(1.0, 4 / inputs))  # sums of few terms
        sigma = jb.activation("leaky_relu", slope=0.25) if rng.uniform() < 0.3 else "relu"
        sigma = "identity" if rng.uniform() < 0.3 else sigma
        layers.append(jb.Dense((power * W).astype(dtype), (power * b).astype(dtype), sigma))
    return jb.Network(layers), rng.integers(-2, 3, widths[0]).astype(dtype)


def extreme(rng):
    """Draw a network whose layers are scaled by 1e±200 or 1e±100, and a point."""
    depth = int(rng.integers(2, 13))
    widths, powers = rng.integers(1, 9, depth + 1), rng.choice([-200, -100, 100, 200], depth)
    powers[depth // 2 :] = -powers[: depth - depth // 2]  # so that the Jacobian itself often fits
    rng.shuffle(powers)
    layers = []
    for inputs, outputs, power in zip(widths, widths[1:], powers, strict=False):
        W = 10.0**power * rng.standard_normal((outputs, inputs))
        sigma = jb.activation("leaky_relu", slope=0.25) if rng.uniform() < 0.5 else "identity"
        layers.append(jb.Dense(W, activation=sigma))
    return jb.Network(layers), 10.0 ** rng.choice([-300, -200, 0]) * rng.standard_normal(widths[0])


def random_order(count, rng):
    """Put brackets somewhere: any order of association."""

    def split(i, j):
        if j - i == 1:
            return i
        s = int(rng.integers(i + 1, j))
        return split(i, s), split(s, j)

    return split(0, count)


def computations(lin, rng):
    """Yield computations of the Jacobian as (name, rows, columns, entries)."""
    net, factors = lin.trace.network, lin.factors
    count, (m, n) = len(factors), (net.widths[-1], net.widths[0])
    every = slice(None)
    for name, order in (
        ("outputs first", reverse_order(count)),
        ("inputs first", forward_order(count)),
        ("cheapest order", None),
        ("some order", random_order(count, rng)),
        ("some order", random_order(count, rng)),
    ):
        yield name, every, every, multiply_out(factors, order)
    yield "maps", every, every, lin.jacobian()
    yield "matrices", every, every, jb.explicit.input_jacobian(lin.trace)
    yield "engine", every, every, jacobian_at(lin.trace, jb.plan(net))  # at the same trace
    some_rows = rng.permutation(m)[:5]
    basis = np.eye(m, dtype=net.dtype)[some_rows]
    yield "backprop", some_rows, every, np.stack([jb.backprop.vjp(lin.trace, e) for e in basis])
    yield "VJPs", some_rows, every, np.stack([lin.vjp(e) for e in basis])
    some_columns = rng.permutation(n)[:5]
    basis = np.eye(n, dtype=net.dtype)[some_columns]
    yield "JVPs", every, some_columns, np.stack([lin.jvp(e) for e in basis], axis=1)


class Verdict(NamedTuple):
    """What a network gave: why nothing was claimed, or the worst ratio to the bound."""

    nothing: str | None
    roundings: int = 0
    ratio: float = 0.0
    worst: str = ""
    count: int = 0


def judge(net, x, rng):
    """Compare every computation of the Jacobian at a point with longer arithmetic."""
    try:
        lin = jb.linearize(net, x)
    except jb.NotFiniteError:
        return Verdict("the values overflow")
    bound = chain_bound(lin.factors, net.dtype)
    if bound.overflow:
        return Verdict("a partial product may overflow")
    longer = LONGER[net.dtype]
    of_reference = np.expm1(float(bound.roundings) * float(np.finfo(longer).eps)) * bound.paths
    allowed = bound.single() + of_reference
    reference = multiplied(lin.factors, longer)
    largest_ratio, worst, count = 0.0, "", 0
    for name, rows, columns, J in computations(lin, rng):
        gap = np.abs(J - reference[rows][:, columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(gap == 0, 0.0, gap / allowed[rows][:, columns])
        largest = float(np.max(ratio, initial=0.0))
        if not largest <= largest_ratio:  # NaN is a violation too
            largest_ratio, worst = largest, name
        count += 1
    return Verdict(None, int(bound.roundings), largest_ratio, worst, count)


def multiplied(factors, dtype):
    """Multiply a chain in another dtype, inputs first."""
    result = None
    for A in reversed(Product(factors).factors):
        if isinstance(A, jb.Identity):
            continue
        if isinstance(A, jb.Diagonal):
            d = A.entries.astype(dtype)
            result = np.diag(d) if result is None else d[:, None] * result
        else:
            M = A.to_dense().astype(dtype)
            result = M if result is None else M @ result
    return np.eye(factors[-1].shape[1], dtype=dtype) if result is None else result


def judge_exact(net, x, rng):
    """Compare every computation bit for bit with whole numbers of Python, which cannot round."""
    lin = jb.linearize(net, x)
    grain = [smallest_power(A.to_dense()) for A in lin.factors]
    paths = np.eye(net.widths[0])
    for A in reversed(lin.factors):
        paths = A.magnitude().apply(paths)
    bits = np.log2(max(paths.max(initial=0.0), 1e-300)) - sum(grain)
    values = max(np.abs(z).max() for z in (*lin.trace.preactivations, x))
    if bits >= np.finfo(net.dtype).nmant or values >= 2.0**20:
        return Verdict("it would need more bits")
    result = np.eye(net.widths[0], dtype=int).astype(object)
    for A, power in zip(reversed(lin.factors), reversed(grain), strict=True):
        result = (A.to_dense() * 2.0**-power).astype(int).astype(object) @ result
    true = np.ldexp(result.astype(float), sum(grain))
    count = 0
    for name, rows, columns, J in computations(lin, rng):
        count += 1
        if not np.array_equal(J, true[rows][:, columns]):
            return Verdict(None, 0, np.inf, name, count)
    return Verdict(None, 0, 0.0, "", count)


def judge_range(net, x, rng):
    """Require a finite Jacobian wherever the true one fits, as near to it as the theorem says.

    The reference has the exponents of the long double: no partial product leaves those.
    """
    try:
        lin = jb.linearize(net, x)
    except jb.NotFiniteError:
        return Verdict("the values overflow")
    info, count = np.finfo(net.dtype), len(lin.factors)
    true = multiplied(lin.factors, np.longdouble)
    if np.abs(true).max() > info.max * (1 - 2**10 * info.eps):
        return Verdict("the Jacobian does not fit")
    sizes = [A.magnitude() for A in lin.factors]
    roundings = float(chain_bound(lin.factors, net.dtype).roundings)
    allowed = np.expm1(roundings * float(info.eps)) * multiplied(sizes, np.longdouble)
    gains = [max(1, A.to_dense().astype(np.longdouble).sum()) for A in sizes]
    allowed += 10 * count * np.prod(gains) * info.smallest_subnormal  # carried on by what is left
    with np.errstate(over="ignore", invalid="ignore"):
        plain = [multiply_out(lin.factors, order(count)) for order in PLAIN]
        computed = np.stack([jb.jacobian(net, x), jb.jacobian(net, [x])[0]])
        ratio = np.where(computed == true, 0, np.abs(computed - true) / allowed)
    overflows = sum(not np.isfinite(J).all() for J in plain)
    return Verdict(None, 0, float(np.max(ratio)), f"{overflows} of 2 plain orders overflow", 2)


def smallest_power(M):
    """Return the largest k such that all entries are whole multiples of 2^k."""
    k = 40
    while not np.array_equal(M * 2.0**-k, np.round(M * 2.0**-k)):
        k -= 1
    return k if M.any() else 0
