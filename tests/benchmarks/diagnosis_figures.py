"""Two figures of ``jb.diagnose``: false accusations, and mistakes that are named first.

    python tests/benchmarks/diagnosis_figures.py                # 10,000 right, 2,000 + 500 wrong
    python tests/benchmarks/diagnosis_figures.py --right 1000 --single 300 --pairs 100
    python tests/benchmarks/diagnosis_figures.py --print 10    # ten diagnoses as users see them

The right implementations share no code with the library: rows or columns, einsum or a loop over
points, slopes from a or from z, fused or not, float32 or float64; at kinks (whole numbers and relu)
and in saturation.  The wrong ones make a mistake of the catalogue, given as a function that is also
run on the networks that ``diagnose`` draws, or as arrays alone.
"""

import argparse
import collections
import sys
import time

import numpy as np

import jacobians as jb
from jacobians.derivation.evaluation import given
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Rounding, Value
from jacobians.diagnosis import diagnose
from jacobians.diagnosis.case import SAFETY, CannotBeMadeError, Case, within
from jacobians.diagnosis.drawing import draw
from jacobians.diagnosis.mistakes import catalogue

HIDDEN = ("tanh", "sigmoid", "relu", "leaky_relu", "identity", "softplus", "square")


def problem(rng, hidden=HIDDEN, deepest=3):
    """Draw (net, X, Y, loss, l2): half of the networks have pairwise different widths."""
    L = int(rng.integers(1, deepest + 1))
    widths = list(rng.integers(1, 6, L + 1))
    if rng.random() < 0.5:
        widths = list(rng.permutation(6)[: L + 1] + 1)
    kind = rng.choice(["squared", "binary", "classes"])
    last = {
        "squared": str(rng.choice(["identity", "tanh", "sigmoid"])),
        "binary": "sigmoid",
        "classes": "softmax",
    }[kind]
    if kind == "classes":
        widths[-1] = max(widths[-1], 2)
    loss = {
        "squared": jb.SquaredError,
        "binary": jb.BinaryCrossEntropy,
        "classes": jb.CrossEntropy,
    }[kind]()
    whole, scale = rng.random() < 0.3, rng.choice([0.3, 1.0, 1.0, 6.0])
    layers = []
    name = str(rng.choice(hidden))
    for l in range(L):
        shape = (widths[l + 1], widths[l])
        W = (
            rng.integers(-2, 3, shape).astype(float)
            if whole
            else scale * rng.standard_normal(shape)
        )
        b = rng.integers(-2, 3, shape[0]).astype(float) if whole else rng.standard_normal(shape[0])
        layers.append(jb.Dense(W, b, last if l == L - 1 else name))
    dtype = np.float32 if rng.random() < 0.4 else np.float64
    net = jb.Network(layers).astype(dtype)
    N = int(rng.integers(1, 7))
    X = rng.integers(-2, 3, (N, widths[0])) if whole else rng.standard_normal((N, widths[0]))
    n = widths[-1]
    Y = {
        "squared": rng.standard_normal((N, n)),
        "binary": rng.integers(0, 2, (N, n)),
        "classes": np.eye(n)[rng.integers(0, n, N)],
    }[kind]
    return net, X.astype(dtype), Y.astype(dtype), loss, float(rng.choice([0.0, 0.25]))


# --- right implementations ------------------------------------------------------------------------


def sigma(name, z):
    if name == "softmax":
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    return {
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu": lambda z: np.where(z > 0, z, z.dtype.type(0.01) * z),
        "identity": lambda z: z,
        "softplus": lambda z: np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0),
        "square": lambda z: z * z,
    }[name](z)


def slope(name, z, a, rng):
    at = z >= 0 if rng.random() < 0.5 else z > 0  # the slope at a kink is a choice
    one = z.dtype.type(1)
    return {
        "tanh": lambda: one - a * a if rng.random() < 0.5 else one / np.cosh(z) ** 2,
        "sigmoid": lambda: a * (one - a),
        "relu": lambda: at.astype(z.dtype),
        "leaky_relu": lambda: np.where(at, one, z.dtype.type(0.01)),
        "identity": lambda: np.ones_like(z),
        "softplus": lambda: one / (one + np.exp(-z)),
        "square": lambda: 2 * z,
    }[name]()


def right(net, X, Y, loss, l2, rng):
    """Differentiate somebody's way."""
    names = [str(layer.activation).split("(")[0] for layer in net.layers]
    z, a = [], [X]
    for layer, name in zip(net.layers, names, strict=True):
        z.append(
            np.einsum("bi,ji->bj", a[-1], layer.W) + layer.b
            if rng.random() < 0.5
            else a[-1] @ layer.W.T + layer.b
        )
        a.append(sigma(name, z[-1]))
    N = X.dtype.type(len(X))
    if isinstance(loss, jb.SquaredError):
        delta = (a[-1] - Y) * slope(names[-1], z[-1], a[-1], rng)
    else:
        delta = a[-1] - Y
    own = rng.random() < 0.3
    each, weights, biases = rng.random() < 0.5, [], []
    deltas = []
    for l in range(net.depth - 1, -1, -1):
        W = net.layers[l].W
        deltas.append(delta if own else delta / N)
        if each:
            G = (
                sum((np.outer(d, x) for d, x in zip(delta, a[l], strict=True)), np.zeros_like(W))
                / N
            )
        else:
            G = (delta / N).T @ a[l]
        weights.append(G + X.dtype.type(l2) * W)
        biases.append(delta.mean(axis=0))
        delta = delta @ W
        if l:
            delta = delta * slope(names[l - 1], z[l - 1], a[l], rng)
    result = {"weights": weights[::-1], "biases": biases[::-1]}
    if rng.random() < 0.5:
        result["deltas"] = deltas[::-1]
    if rng.random() < 0.3:
        result["inputs"] = delta if own else delta / N
        if own != ("deltas" in result and own):
            del result["inputs"]
    return result


def false_accusations(count, seed=0):
    """Return how many right implementations were called wrong, and how many were tried."""
    accused, tried = [], 0
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        case = problem(rng)
        with np.errstate(all="ignore"):
            mine = right(*case, rng)
        if not all(np.isfinite(A).all() for group in mine.values() for A in group):
            continue  # somebody's exp left the range: no result to judge
        tried += 1
        d = diagnose(mine, *case)
        if not d.right:
            accused.append((i, case[0], str(case[3]), d))
    return accused, tried


# --- wrong implementations ------------------------------------------------------------------------

KEYS = ("dW", "db")


def keys_of(net, rng):
    L = range(1, net.depth + 1)
    if rng.random() < 0.15:
        return [("J", net.depth)] + [("JW", l) for l in L]
    return [(role, l) for l in L for role in ("dW", "db")] + (
        [("ddelta", l) for l in L] if rng.random() < 0.3 else []
    )


def planted(made, keys, loss, l2):
    """Return a function that differentiates with mistakes."""

    def mine(net, X, Y):
        values = values_of(made, keys, net, X, Y, loss, l2)
        names = {
            "dW": "weights",
            "db": "biases",
            "ddelta": "deltas",
            "J": "jacobian",
            "JW": "weight_jacobians",
        }
        result = {}
        for (role, l), value in values.items():
            number = value.astype(net.dtype)
            if role in ("db", "ddelta") and number.shape[-1] == 1:
                number = number[..., 0]
            if role == "J":
                result["jacobian"] = number
            else:
                result.setdefault(names[role], {})[l] = number
        return result

    return mine


def values_of(made, keys, net, X, Y, loss, l2):
    case = case_of(net, X, Y, loss, l2)
    return {key: case.value(key, made).number for key in keys}


def case_of(net, X, Y, loss, l2):
    summed = bool((np.abs(Y.sum(axis=-1) - 1) < 1e-6).all())
    rules = Rules(net, loss, l2, len(X), summed)
    return Case(rules, given(rules, X, Y), Rounding.of(net.dtype, typical=True))


def changes(made, keys, case):
    """Tell whether each of the mistakes, and all of them, change a result clearly.

    Not: by less than rounding, by the slope at a kink, in saturation where a formula loses all
    digits, or one row (1, n) for a vector (n,).
    """

    def moved(one, other):
        for key in keys:
            a, b = case.value(key, one), case.value(key, other)
            if not np.isfinite(b.error).all():
                return False
            if key[0] in ("J", "JW") and b.number.shape == a.number.shape[1:]:  # at every point
                b = Value(*(np.broadcast_to(x, a.number.shape) for x in b))
            if a.number.size != b.number.size:
                return True
            if a.number.shape != b.number.shape and key[0] != "db":
                return True
            gap = np.abs(a.number.ravel() - b.number.ravel())
            error = 4 * SAFETY * (a.error.ravel() + b.error.ravel())
            reached = None if one else case.at_any_slope(key)
            if reached is not None:
                error += (reached.error + np.abs(reached.number - a.number)).ravel()
            if (gap > error + 1e-6 * np.abs(a.number.ravel())).any():
                return True
        return False

    return moved(frozenset(), made) and (
        len(made) == 1 or all(moved(made - {m}, made) for m in made)
    )


def same(one, other, keys, problems):
    """Tell whether two sets of mistakes give the same arrays on all of these problems."""
    for net, X, Y, loss, l2 in problems:
        case = case_of(net, X, Y, loss, l2)
        for key in keys:
            a, b = case.value_or_none(key, one), case.estimate(key, other)
            if (a is None) != (b is None):
                return False
            if a is not None and not within(a.number, b):
                return False
    return True


def named(count, how_many, seed=1, arrays=False, printed=None):
    """Return how often the planted mistakes were named first, of how many, and the failures.

    Diagnoses are added to the list ``printed``.
    """
    hits, tried, failures, aliases, told = collections.Counter(), collections.Counter(), [], 0, 0
    i = 0
    while sum(tried.values()) < count:
        i += 1
        rng = np.random.default_rng((seed, how_many, i))
        net, X, Y, loss, l2 = problem(rng)
        keys = keys_of(net, rng)
        case = case_of(net, X, Y, loss, l2)
        every = [m for m in catalogue(case.rules, keys) if case.can(m)]
        names = list(dict.fromkeys(m.name for m in every))
        chosen = []
        for name in rng.choice(names, min(how_many, len(names)), replace=False):
            chosen.append(rng.choice([m for m in every if m.name == name]))
        made = frozenset(chosen)
        try:
            if len(made) < how_many or not changes(made, keys, case):
                continue
            function = planted(made, keys, loss, l2)
            result = function(net, X, Y)
        except CannotBeMadeError:
            continue
        if not all(
            np.isfinite(A).all()
            for g in result.values()
            for A in (g.values() if isinstance(g, dict) else [g])
        ):
            continue
        label = " + ".join(sorted(m.name for m in made)) if how_many == 1 else "pairs"
        tried[label] += 1
        d = diagnose(result if arrays else function, net, X, Y, loss, l2)
        if printed is not None:
            printed.append(d)
        got = {(s.name, s.sites) for s in d.mistakes}
        meant = {(m.name, m.sites) for m in made}
        hit = got == meant
        # arrays alone: one of several, no mistake but a choice, or a constant for two factors
        several = any({(s.name, s.sites) for s in other} == meant for other in d.alternatives)
        fewer = not d.unexplained and len(got) < len(meant)
        if arrays and not hit and (several or fewer):
            hit, told = True, told + 1
        if not hit:  # another name of the same thing: nothing tells the two apart on any network
            others_named = frozenset(m for m in every if (m.name, m.sites) in got)
            others = [(o.net, o.X, o.Y, loss, l2) for o in draw(net, loss, seed=9)]
            hit = len(others_named) == len(got) > 0 and same(
                made, others_named, keys, [(net, X, Y, loss, l2), *others]
            )
            aliases += hit
        hits[label] += hit
        if not hit:
            failures.append((i, sorted(meant), sorted(got), d, net, len(X), str(loss)))
    return hits, tried, failures, aliases, told


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--right", type=int, default=10_000)
    parser.add_argument("--single", type=int, default=2_000)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--show", type=int, default=0, help="how many failures to print")
    parser.add_argument("--print", type=int, default=0, help="so many diagnoses, and no figures")
    options = parser.parse_args()
    if options.print:
        printed = []
        named(options.print, 1, seed=3, printed=printed)
        print(*printed, sep="\n\n")
        return 0
    start = time.time()
    accused, tried = false_accusations(options.right)
    print(f"right implementations accused: {len(accused)} of {tried} ({time.time() - start:.0f} s)")
    for i, net, loss, d in accused[: options.show]:
        print(i, net, loss, d, sep="\n")
    for how_many, count in ((1, options.single), (2, options.pairs)):
        for arrays in (False, True):
            start = time.time()
            hits, tried, failures, aliases, told = named(count, how_many, arrays=arrays)
            total, right = sum(tried.values()), sum(hits.values())
            kind = "arrays alone" if arrays else "functions"
            what = "single mistakes" if how_many == 1 else "pairs"
            print(
                f"{what}, {kind}: {right} of {total} named first, {right / max(total, 1):.1%} "
                f"({aliases} by another name of the same thing, {told} as one of several that this "
                f"data cannot tell apart; {time.time() - start:.0f} s)"
            )
            for name in tried if how_many == 1 and options.show else ():
                if hits[name] < tried[name]:
                    print(f"    {name}: {hits[name]} of {tried[name]}")
            for failure in failures[: options.show]:
                print(
                    "   ", *failure[:3], failure[4], f"N = {failure[5]}", failure[6], sep="\n      "
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
