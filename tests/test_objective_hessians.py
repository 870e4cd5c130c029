"""The Hessian of an objective: which layers of one's own it refuses, since they do not say all."""

from dataclasses import dataclass

import numpy as np
import pytest
from claims import assert_equal
from curvature_cases import SQUARED

import jacobians as jb
from jacobians.linearization import layer_map, layer_second, parameter_maps, parameter_second


@dataclass(frozen=True, eq=False)
class Powers(jb.Layer):
    """z = (p^k + q^k - r^k) a + shift entry by entry: affine in p, q and r where k is 1."""

    p: np.ndarray
    q: np.ndarray
    r: np.ndarray
    powers: np.ndarray
    shift: float = 0.0
    bare: bool = False  # whether its maps claim nothing of their rounding
    trained = ("p", "q", "r")

    def output_width(self, *widths):
        return len(self.p)

    def factor(self):
        return self.p**self.powers + self.q**self.powers - self.r**self.powers

    def preactivation(self, *values):
        return self.factor() * values[0] + self.shift


class First(Powers):
    """Only p is a parameter."""

    trained = ("p",)


class FirstTwo(Powers):
    """p and q are, and r is not."""

    trained = ("p", "q")


@dataclass(frozen=True, eq=False)
class Bare(jb.LinearMap):
    """A map without a rule for the sizes of its terms."""

    of: jb.LinearMap
    shape = property(lambda self: self.of.shape)
    dtype = property(lambda self: self.of.dtype)
    batch = property(lambda self: self.of.batch)

    def apply(self, columns):
        return self.of.apply(columns)

    def transpose(self):
        return Bare(self.of.T)

    def _dense(self):
        return self.of.to_dense()


def slopes(layer):
    """Return the derivatives of the factor by p, q and r, of those that are parameters."""
    k = layer.powers
    each = {"p": k * layer.p ** (k - 1), "q": k * layer.q ** (k - 1), "r": -k * layer.r ** (k - 1)}
    return {name: each[name] for name in layer.trained}


layer_map.register(Powers)(lambda layer, a: jb.Diagonal(layer.factor()))
layer_second.register(Powers)(lambda layer, c, a: {})


@parameter_maps.register
def _(layer: Powers, a):
    maps = {name: jb.Diagonal(slope * a) for name, slope in slopes(layer).items()}
    return {name: Bare(P) if layer.bare else P for name, P in maps.items()}


@parameter_second.register
def _(layer: Powers, c, a):
    return {(0, name): jb.Diagonal(c * slope) for name, slope in slopes(layer).items()}


def nowhere(layer, a=(1.0, -2.0, 3.0)):
    """Return what the Hessian of its objective does to no step at all: nothing, or a refusal."""
    net, a = jb.Network([layer], inputs=3), np.array([a])
    H = jb.curvature(net, a, net(a), SQUARED).hessian
    return H @ np.zeros(H.shape[0])


KINDS = pytest.mark.parametrize("kind", [First, FirstTwo, Powers])
SIZES = {
    "ordinary": [0.3, -2.0, 1.5],
    "all of one sign": [-0.3, -2.0, -1.5],
    "none": [0.0, 0.0, 0.0],
    "some": [0.0, 1.0, 0.0],
    "large": [1e60, -3e60, 2e59],
    "small": [-1e-60, 3e-60, 2e-60],
    "of every size": [1e-30, -1.0, 1e30],
}


@KINDS
@pytest.mark.parametrize("numbers", SIZES.values(), ids=list(SIZES))
def test_a_layer_that_is_affine_is_not_refused_whatever_its_numbers_are(kind, numbers):
    """Where terms cancel, where all are 0, beside a constant of either sign, at any input."""
    t, ones = np.array(numbers), np.ones(3)
    for p, q, r in ((t, t, t), (t, -t, t), (t, 2 * t, 3 * t), (t[::-1], t, 0 * t)):
        for shift in (0.0, 5.0, -1e8 * np.abs(t).max(initial=1)):
            for bare in (False, True):
                layer = kind(p, q, r, ones, shift, bare)
                for a in ((0.0, 0.0, 0.0), (1e-9, -1e9, 1.0)):
                    assert_equal(nowhere(layer, a), np.zeros(3 * len(kind.trained)))


@KINDS
@pytest.mark.parametrize("numbers", SIZES.values(), ids=list(SIZES))
def test_a_layer_that_bends_is_refused_whatever_its_numbers_are(kind, numbers):
    """Upwards or downwards, in one entry alone, by any of its parameters."""
    t, none = np.array(numbers), np.zeros(3)
    message = r"not affine in its parameters, and its rule parameter_second has no block of two"
    for k in range(3):
        powers = np.where(np.arange(3) == k, 2.0, 1.0)
        for layer in (kind(t, none, none, powers), kind(t, t / 3, none, powers, bare=True)):
            for a in ((1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)):
                with pytest.raises(NotImplementedError, match=message):
                    nowhere(layer, a)


def test_a_layer_that_bends_out_of_the_range_is_refused_without_a_flag():
    """p to the 120th is finite where it is, and infinite a step farther."""
    layer = First(np.full(3, 300.0), np.zeros(3), np.zeros(3), np.full(3, 120.0))
    with np.errstate(all="raise"), pytest.raises(NotImplementedError, match="no block of two"):
        nowhere(layer)


class Said(First):
    """Affine, and its rule says so: a block of zeros, the same at every point or not."""


@parameter_second.register
def _(layer: Said, c, a):
    zeros = jb.Diagonal(np.zeros(3) if layer.bare else 0 * c)
    return {(0, "p"): jb.Diagonal(c * layer.powers), ("p", "p"): zeros}


@pytest.mark.parametrize("shared", [False, True])
def test_a_block_of_zeros_says_that_a_layer_is_affine(shared):
    """At one point and at several; the Hessian is what the outputs say, ``diag(a²)``."""
    layer = Said(np.array([1.0, -2.0, 3.0]), np.zeros(3), np.zeros(3), np.ones(3), 0.0, shared)
    for X in (np.array([[1.0, 2.0, -3.0]]), np.array([[1.0, 2.0, -3.0], [0.0, 4.0, 1.0]])):
        net = jb.Network([layer], inputs=3)
        H = jb.curvature(net, X, np.zeros(X.shape), SQUARED).hessian
        assert_equal(H @ np.eye(3), np.diag((X**2).mean(axis=0)))


# --- what two parameters bend together ------------------------------------------------------------

T = np.random.default_rng(0).integers(-3, 4, (3, 4, 2)).astype(float)


@dataclass(frozen=True, eq=False)
class Bilinear(jb.Layer):
    """``z_i = a_i pᵀ T_i q``: what p and q bend together is no symmetric matrix, nor a square."""

    p: np.ndarray
    q: np.ndarray
    both: bool = False  # whether the rule says (p, q) and (q, p)
    trained = ("p", "q")

    def output_width(self, *widths):
        return 3

    def preactivation(self, *values):
        return values[0] * np.einsum("ijk,j,k->i", T, self.p, self.q)


@layer_map.register
def _(layer: Bilinear, a):
    return jb.Diagonal(np.einsum("ijk,j,k->i", T, layer.p, layer.q))


@parameter_maps.register
def _(layer: Bilinear, a):
    by_p, by_q = np.einsum("ijk,k->ij", T, layer.q), np.einsum("ijk,j->ik", T, layer.p)
    return {"p": jb.Matrix(a[..., None] * by_p), "q": jb.Matrix(a[..., None] * by_q)}


layer_second.register(Bilinear)(lambda layer, c, a: {})


@parameter_second.register
def _(layer: Bilinear, c, a):
    together = jb.Matrix(np.einsum("...i,ijk->...jk", c * a, T))
    by_p, by_q = (P.to_dense() for P in parameter_maps(layer, np.ones(3)).values())
    by_input = {(0, "p"): jb.Diagonal(c) @ jb.Matrix(by_p), (0, "q"): jb.Diagonal(c) @ by_q}
    return {**by_input, ("p", "q"): together, **({("q", "p"): together.T} if layer.both else {})}


@pytest.mark.parametrize("both", [False, True])
def test_a_block_of_two_parameters_stands_on_both_sides_of_the_diagonal(both):
    """``C = |z|²/2``: the mean of ``JᵀJ`` and of ``z_i a_i T_i`` off the diagonal, by hand."""
    layer = Bilinear(np.array([1.0, -2.0, 0.0, 3.0]), np.array([2.0, 1.0]), both)
    net, X = jb.Network([layer], inputs=3), np.array([[1.0, -2.0, 3.0], [0.0, 2.0, -1.0]])
    expected = np.zeros((6, 6))
    for x in X:
        z = net(x)
        J = np.hstack([P.to_dense() for P in parameter_maps(layer, x).values()])
        bend = np.einsum("i,ijk->jk", z * x, T)
        expected += J.T @ J / 2
        expected[:4, 4:] += bend / 2
        expected[4:, :4] += bend.T / 2
    H = jb.curvature(net, X, np.zeros((2, 3)), SQUARED).hessian
    V = np.arange(12.0).reshape(6, 2) % 5 - 2
    assert_equal(H @ V, expected @ V)
    assert_equal(H.to_dense(), expected)


def test_values_that_are_multiplied_bend_together_on_both_sides():
    """``Z = A B`` with A of 2 x 3 and B of 3 x 4, and both of all parameters before them.

    Symmetric, and the derivative of the gradient along a direction: differences are good to 1e-9.
    """
    rng = np.random.default_rng(5)
    nodes = {
        "a": (jb.Dense(rng.normal(size=(3, 2)), rng.normal(size=3)), "x"),
        "b": (jb.Dense(rng.normal(size=(4, 2)), rng.normal(size=4), "tanh"), "u"),
        "z": (jb.MatrixProduct(), "a", "b"),
        "turned": (jb.MatrixProduct(transpose_second=True), "z", "z"),
    }
    net = jb.Network.graph(nodes, inputs={"x": (2, 2), "u": (3, 2)})
    X, Y = rng.normal(size=(2, 10)), rng.normal(size=(2, 4))
    H = jb.curvature(net, X, Y, SQUARED).hessian @ np.eye(net.parameter_count)
    # the two sides are sums of the same terms in other orders
    assert np.abs(H - H.T).max() < 1e-12 * np.abs(H).max()
    v, h = rng.normal(size=len(H)), 1e-5
    up, down = (
        jb.backprop.gradients(net.with_parameters(net.parameters + k * h * v), X, Y, SQUARED).vector
        for k in (1, -1)
    )
    assert np.abs(H @ v - (up - down) / (2 * h)).max() < 1e-7 * np.abs(H @ v).max()
