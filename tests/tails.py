"""Exact derivatives at any place inside a network: restart it there on dual numbers.

The cost as a function of one layer's output alone is the rest of the network, its tail.  Everything
here is made of fractions and shares no code with the library but the numbers that it is given.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import EXACT_ACTIVATIONS, Dual, as_fractions, dual, exact_forward

import jacobians as jb
from jacobians import strategies as jst

# A case here runs a network once per parameter, in Python; a third of the profile's cases will do.
fewer = settings(max_examples=max(10, settings.default.max_examples // 3))

# --- small networks of whole numbers, on which float64 is exact -----------------------------------


@st.composite
def whole_networks(draw, hidden=("identity", "relu", "square"), min_depth=1):
    """Weights from -2 to 2, up to 3 layers of up to 3 units, at most one of them squaring.

    Below the last of three layers a square keeps every cubic cost and its derivatives under 2^53.
    """
    widths = draw(jst.widths(3, 3).filter(lambda w: len(w) > min_depth))
    depth, layers, squares = len(widths) - 1, [], 0
    for l in range(depth):
        names = [n for n in hidden if n != "square" or not (squares or l == 2)]
        name = draw(st.sampled_from(names))
        squares += name == "square"
        W = draw(hnp.arrays(np.int64, (widths[l + 1], widths[l]), elements=st.integers(-2, 2)))
        b = draw(hnp.arrays(np.int64, (widths[l + 1],), elements=st.integers(-2, 2)))
        layers.append(jb.Dense(W, b, name))
    return jb.Network(layers)


def whole_vectors(n, bound=2):
    return hnp.arrays(np.int64, (n,), elements=st.integers(-bound, bound)).map(
        lambda v: v.astype(float)
    )


def stack_rows(M):
    return [M[i, j] for i in range(M.shape[0]) for j in range(M.shape[1])]


# --- losses, each twice: for the library, and for dual numbers ------------------------------------


@dataclass(frozen=True)
class CubicError(jb.Loss):
    """The sum of ``(a - y)³``: not symmetric, so that a sign is seen."""

    def value(self, output, target):
        return ((output - target) ** 3).sum(axis=-1)

    def cotangent(self, output, target):
        return 3 * (output - target) ** 2


@dataclass(frozen=True)
class Coupled(jb.Loss):
    """``(sum a)(sum y a)``: every output meets every other."""

    def value(self, output, target):
        return output.sum(axis=-1) * (target * output).sum(axis=-1)

    def cotangent(self, output, target):
        ya, a = (v.sum(axis=-1, keepdims=True) for v in (target * output, output))
        return ya + target * a


def total(terms):
    return sum(terms, start=dual(0))


def half_squared(a, y):
    return total((p - t) * (p - t) for p, t in zip(a, y, strict=True)) * Fraction(1, 2)


def cubic(a, y):
    return total((p - t) * (p - t) * (p - t) for p, t in zip(a, y, strict=True))


def coupled(a, y):
    return total(a) * total(p * t for p, t in zip(a, y, strict=True))


LOSSES = [(jb.SquaredError(), half_squared), (CubicError(), cubic), (Coupled(), coupled)]


# --- the derivatives ------------------------------------------------------------------------------


def fractions(values):
    return [Fraction(float(v)) for v in values]


def seeded(values, j):
    return [Dual(v, Fraction(int(i == j))) for i, v in enumerate(values)]


def activate(layer, z):
    _, _, name, parameters = layer
    return [EXACT_ACTIVATIONS[name](dual(v), **parameters) for v in z]


class Exact:
    """All values and derivatives of a network at one point, as nested lists of fractions."""

    def __init__(self, net, x, y=None, loss=half_squared):
        self.layers = as_fractions(net)
        self.depth, self.y = net.depth, None if y is None else fractions(y)
        self.loss = loss
        self.h, self.z = [fractions(x)], [None]
        for W, b, name, parameters in self.layers:
            linear = (W, b, "identity", {})
            z = [v.value for v in exact_forward([linear], self.h[-1])]
            self.z.append(z)
            self.h.append([v.value for v in activate((W, b, name, parameters), z)])
        self.cost = None if y is None else self.loss(self.h[-1], self.y).value

    def from_output(self, k, h):
        """Run on from ``h^k``."""
        return exact_forward(self.layers[k:], h)

    def from_preactivation(self, k, z):
        """Run on from ``z^k``."""
        return self.from_output(k, activate(self.layers[k - 1], z))

    def with_weight(self, k, i, j):
        """Run on from ``h^{k-1}`` with ``W^k[i][j]`` seeded, and ``b^k[i]`` if j is None."""
        W, b, name, parameters = self.layers[k - 1]
        W = [seeded(row, j) if r == i and j is not None else row for r, row in enumerate(W)]
        b = seeded(b, i) if j is None else b
        return exact_forward([(W, b, name, parameters), *self.layers[k:]], self.h[k - 1])

    def slope_of_cost(self, a):
        return self.loss(a, self.y).slope

    def D_h(self, k):
        runs = [self.from_output(k, seeded(self.h[k], j)) for j in range(len(self.h[k]))]
        return [self.slope_of_cost(run) for run in runs]

    def D_a(self, k):
        runs = [self.from_preactivation(k, seeded(self.z[k], j)) for j in range(len(self.z[k]))]
        return [self.slope_of_cost(run) for run in runs]

    def D_b(self, k):
        rows = range(len(self.z[k]))
        return [self.slope_of_cost(self.with_weight(k, i, None)) for i in rows]

    def gradient(self, k):
        """``dC/dW^k[i][j]``, in the shape of ``W^k``."""
        rows, columns = range(len(self.z[k])), range(len(self.h[k - 1]))
        run = partial(self.with_weight, k)
        return [[self.slope_of_cost(run(i, j)) for j in columns] for i in rows]

    def output_jacobian(self, k, at="output"):
        """``da^L/dh^k``, or ``da^L/dz^k`` with ``at="preactivation"``."""
        values = self.h[k] if at == "output" else self.z[k]
        run = self.from_output if at == "output" else self.from_preactivation
        columns = [[v.slope for v in run(k, seeded(values, j))] for j in range(len(values))]
        return transposed(columns)

    def last_preactivation_jacobian(self, k):
        """``dz^L/dz^k``: the tail with the last activation taken off."""
        n = len(self.z[k])
        if k == self.depth:
            return [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
        W, b, _, _ = self.layers[-1]
        columns = []
        for j in range(len(self.z[k])):
            h = activate(self.layers[k - 1], seeded(self.z[k], j))
            tail = [*self.layers[k:-1], (W, b, "identity", {})]
            columns.append([v.slope for v in exact_forward(tail, h)])
        return transposed(columns)


def transposed(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def assert_exactly(array, expected):
    """Every entry of a float array is the fraction it should be."""
    array = np.asarray(array)
    assert array.shape == np.shape(expected), f"{array.shape} and {np.shape(expected)}"
    entries = [Fraction(v) for v in array.ravel().tolist()]
    wanted = list(np.array(expected, dtype=object).ravel())
    assert entries == wanted, f"{entries} and {wanted}"


# --- what a formula gives, taken literally --------------------------------------------------------


def outcome(compute):
    """Return what comes out, as lists of numbers, or the name of the error."""
    try:
        result = compute()
    except (ValueError, ZeroDivisionError, IndexError) as err:
        return type(err).__name__
    return np.asarray(result, dtype=float).tolist()
