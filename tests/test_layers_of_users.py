"""Layers that users add: whatever map their rule returns, every method obeys it."""

from dataclasses import dataclass

import numpy as np
import pytest
from claims import assert_equal, assert_within
from exact_maps import exact_product, worst_ratio
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians.engine import jacobian_at
from jacobians.linearization import (
    activation_map,
    layer_map,
    layer_second,
    parameter_maps,
    parameter_second,
    second_of_parameters,
)
from jacobians.rounding import chain_bound


@dataclass(frozen=True, eq=False)
class Cancelling(jb.Layer):
    """z = a + W a where W is near -I: the derivative cancels."""

    W: np.ndarray

    def output_width(self, *widths):
        return len(self.W)

    def preactivation(self, *values):
        return values[0] + values[0] @ self.W.T


@layer_map.register
def _(layer: Cancelling, a):
    return jb.Identity(len(layer.W)) + layer.W


@dataclass(frozen=True, eq=False)
class Inner(jb.Layer):
    """z = (I ⊗ w u) a with w u near 0: a product of a row and a column, for each of two rows."""

    w: np.ndarray
    u: np.ndarray

    def output_width(self, *widths):
        return 2

    def preactivation(self, *values):
        return values[0].reshape(*values[0].shape[:-1], 2, -1) @ self.u[:, 0] * self.w[0, 0]


@layer_map.register
def _(layer: Inner, a):
    return jb.Kronecker(jb.Identity(2), jb.Product([layer.w, layer.u.T]))


class Reversed(jb.Dense):
    """A dense layer that reads its input backwards: its own rules overrule those of Dense."""

    def preactivation(self, *values):
        return super().preactivation(values[0][..., ::-1])


@layer_map.register
def _(layer: Reversed, a):
    return jb.Matrix(layer.W[:, ::-1])


@parameter_maps.register
def _(layer: Reversed, a):
    W = jb.Kronecker(jb.Matrix(a[..., None, ::-1]), jb.Identity(len(layer.W)))
    return {"W": W, "b": jb.Identity(len(layer.W))}


class Forgetful(jb.Dense):
    """The same, with the rule of Dense for its parameters."""

    def preactivation(self, *values):
        return super().preactivation(values[0][..., ::-1])


layer_map.register(Forgetful, lambda layer, a: jb.Matrix(layer.W[:, ::-1]))


@dataclass(frozen=True, eq=False)
class Bilinear(jb.Layer):
    """z = (A a) * b: two inputs, and a parameter of its own."""

    A: np.ndarray
    arity = 2
    trained = ("A",)

    def output_width(self, *widths):
        return len(self.A)

    def preactivation(self, *values):
        a, b = values
        return (a @ self.A.T) * b


@layer_map.register
def _(layer: Bilinear, a, b):
    return jb.Diagonal(b) @ jb.Matrix(layer.A), jb.Diagonal(a @ layer.A.T)


@parameter_maps.register
def _(layer: Bilinear, a, b):
    rows = jb.Kronecker(jb.Matrix(a[..., None, :]), jb.Identity(len(layer.A)))
    return {"A": jb.Diagonal(b) @ rows}


def methods(lin):
    net = lin.trace.network
    return {
        "maps": lin.jacobian(),
        "explicit": jb.explicit.input_jacobian(lin.trace),
        "backprop": jb.backprop.jacobian(lin.trace),
        "engine": jacobian_at(lin.trace, jb.plan(net)),
        "batch": jb.jacobian(net, np.stack([lin.trace.activation(0)] * 2))[0],
    }


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_rule_that_cancels_inside_is_within_its_bound(n, seed):
    """I + W with W = -I (1 + tiny): the magnitude is that of the computation."""
    rng = np.random.default_rng(seed)
    near = -np.eye(n) * (1 + 2.0**-50) + 1e-14 * rng.standard_normal((n, n))
    W = [rng.standard_normal((3, n)), rng.standard_normal((n, 2))]
    net = jb.Network([jb.Dense(W[1]), Cancelling(near), jb.Dense(W[0], None, "tanh")])
    x = rng.standard_normal(2)
    lin = jb.linearize(net, x)
    exact, bound = exact_product(lin.factors), chain_bound(lin.factors, np.float64)
    for name, J in methods(lin).items():
        assert worst_ratio(J, exact, bound.single()) <= 1, name
    assert jb.certify(net, x).holds
    certificate = jb.certify(net, x)
    assert certificate.dependent  # the certificate says whose matrix is only a map
    # each in a line, though the repr of a dataclass with an array has several
    said = [line for line in str(certificate).splitlines() if line.endswith("map, written out")]
    assert len(said) == len(certificate.dependent)
    assert all(line.startswith("not independent") for line in said)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_kronecker_product_that_cancels_inside_is_within_its_bound(n, seed):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, 1))
    w = np.ones((1, 1))
    net = jb.Network([jb.Dense(rng.standard_normal((2 * n, 3))), Inner(w, u)])
    lin = jb.linearize(net, rng.standard_normal(3))
    exact, bound = exact_product(lin.factors), chain_bound(lin.factors, np.float64)
    for name, J in methods(lin).items():
        assert worst_ratio(J, exact, bound.single()) <= 1, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_claimed_where_a_product_inside_a_map_may_overflow(dtype):
    """W U leaves the range, or Vᵀ W does, though U Vᵀ and the whole product fit."""
    large, small, side = (1e30, 1e-35, 1e20) if dtype == np.float32 else (1e200, 1e-250, 1e150)
    U, V, W = np.full((2, 1), large), np.full((2, 1), small), np.full((2, 2), side)
    inside = jb.DiagonalPlusLowRank(np.zeros(2), U, V)
    for factors in ([W, inside], [inside.T, W], [W, jb.Sum([inside, inside])]):
        assert chain_bound(factors, dtype).overflow
        assert np.abs(jb.Product(factors).to_dense()).max() < np.finfo(dtype).max / 8


@pytest.mark.parametrize(
    ("U", "V", "below", "above"),
    [(1e-200, 1e250, 1.0, 1e-200), (1e200, 1e-250, 1e150, 1.0), (1e-250, 1e200, 1e-200, 1.0)],
)
def test_partial_products_inside_a_low_rank_map_are_in_the_bound(U, V, below, above):
    """W U and V X are partial products too: their underflow and overflow are bounded or told."""
    sigma = jb.VectorActivation(
        "low rank",
        lambda z: U * V * z.sum(axis=-1, keepdims=True) * np.ones_like(z),
        lambda z: (np.zeros_like(z), np.full((*z.shape, 1), U), np.full((*z.shape, 1), V)),
    )
    layers = [jb.Dense(np.full((2, 2), below), None, sigma), jb.Dense(np.full((1, 2), above))]
    lin = jb.linearize(jb.Network(layers), [0.0, 0.0])
    exact, bound = exact_product(lin.factors), chain_bound(lin.factors, np.float64)
    with np.errstate(over="ignore"):
        for name, J in methods(lin).items():
            assert worst_ratio(J, exact, bound.single()) <= 1, name


def test_a_subclass_of_dense_with_a_map_of_its_own_is_obeyed_by_every_method():
    rng = np.random.default_rng(0)
    layer = Reversed(rng.integers(-3, 4, (2, 3)), [0, 1], "relu")
    net = jb.Network([jb.Dense(rng.integers(-3, 4, (3, 4))), layer])
    lin = jb.linearize(net, [1, 2, -1, 3])
    D = np.diag((lin.trace.preactivation(2) > 0).astype(float))
    expected = D @ layer.W[:, ::-1] @ net.layers[0].W
    for J in methods(lin).values():
        assert_equal(J, expected)
    assert jb.certify(net, [1, 2, -1, 3]).holds
    delta = D @ lin.value
    for kernels in (True, False):
        g = jb.backprop.gradients(net, [1, 2, -1, 3], [0, 0], jb.SquaredError(), kernels=kernels)
        assert_equal(g.weights[1], np.outer(delta, lin.trace.activation(1)[::-1]))


def test_a_kinked_layer_of_ones_own_may_move_wherever_its_input_does():
    """Unless it says more: every entry, if any entry of any of its inputs moves, point by point."""
    one, other = np.array([[False, True], [False, False]]), np.array([[False], [False]])
    layer = Reversed(np.ones((3, 2)), np.ones(3))
    assert_equal(layer.may_move(one), [[True], [False]])
    assert_equal(layer.may_move(one, other), [[True], [False]])
    assert_equal(layer.may_move(other, other), [[False], [False]])
    assert_equal(layer.may_move(one[0]), [True])
    assert_equal(layer.may_move(np.stack([one, one & False])), [[[True], [False]], [[False]] * 2])


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150])
def test_a_wrong_rule_for_parameters_is_told_though_all_methods_obey_it(scale):
    """It is in every method's gradients, so differences of the layer's values alone can tell."""
    rng = np.random.default_rng(1)
    arrays, x = (scale * rng.normal(size=(2, 3)), scale * rng.normal(size=2)), rng.normal(size=3)
    before, after = jb.Elementwise("tanh"), jb.Dense(rng.normal(size=(1, 2)))
    right, wrong = (
        jb.certify(jb.Network([before, kind(*arrays), after]), x) for kind in (Reversed, Forgetful)
    )
    assert right.holds
    assert not wrong.holds
    assert f"the rule of {Forgetful(*arrays)} for its parameters disagrees" in str(wrong)
    assert "for its parameters disagrees with differences" in str(wrong)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_layer_with_two_inputs_and_parameters_of_its_own_works_everywhere(m, n, seed):
    rng = np.random.default_rng(seed)
    net = jb.Network.graph(
        {
            "gate": (jb.Dense(rng.integers(-3, 4, (m, n))), "x"),
            "y": (Bilinear(rng.integers(-3, 4, (m, n)).astype(float)), "x", "gate"),
        },
        inputs={"x": n},
    )
    x = rng.integers(-3, 4, n)
    lin = jb.linearize(net, x)
    expected = jb.explicit.input_jacobian(lin.trace)
    for J in methods(lin).values():
        assert_equal(J, expected)
    P = lin.parameter_jacobian().to_dense()
    assert_equal(P, jb.explicit.parameter_jacobian(lin.trace))
    assert P.shape == (m, net.parameter_count) == (m, 2 * m * n)
    twice = net.with_parameters(net.parameters)
    assert_equal(twice(x), net(x))
    y = np.ones(m)
    swept = jb.backprop.gradients(net, x, y, jb.SquaredError())
    assert_equal(swept.vector, jb.explicit.gradients(net, x, y, jb.SquaredError()).vector)
    assert jb.certify(net, x).holds


def test_a_rule_of_the_wrong_shape_names_the_layer():
    @dataclass(frozen=True, eq=False)
    class Wrong(jb.Layer):
        def output_width(self, *widths):
            return 1

        def preactivation(self, *values):
            return values[0][..., :1]

    net = jb.Network([Wrong()], inputs=2)
    with pytest.raises(NotImplementedError, match="has no derivative rule; register one"):
        jb.linearize(net, [1.0, 2.0]).jacobian()
    layer_map.register(Wrong, lambda layer, a: jb.Identity(2))
    with pytest.raises(jb.ShapeError, match=r"rule of layer 1 \(.*Wrong.*\) should give maps"):
        jb.linearize(net, [1.0, 2.0]).jacobian()


# --- numbers at the ends of the range -------------------------------------------------------------


def test_a_dead_unit_between_two_huge_weights_contributes_nothing():
    """0 times 2^1200 is 0, in the engine and beside the bound."""
    W = 2.0**600
    net = jb.Network([jb.Dense([[W]], [-1.0], "relu"), jb.Dense([[W]])])
    J, bound = jb.jacobian_with_bound(net, [0.0])
    assert_equal(J, [[0.0]])
    assert_equal(jb.jacobian(net, [0.0]), [[0.0]])
    assert np.isfinite(bound).all()


@pytest.mark.parametrize(
    ("layers", "x"),
    [
        ([jb.Dense([[1.0]], activation="exp")], [700.0]),
        ([jb.Dense(np.array([[1e25]], np.float32))], [1.0]),
        ([jb.Dense([[3e160]]), jb.Dense([[1e-200]])], [1.0]),
        ([jb.Dense(np.ones((n, m))) for m, n in ((1, 1), (1, 3), (3, 3), (3, 1))], [2.1e-316]),
        ([jb.Dense([[1.0, -2.0]], activation="tanh")], [1e-9, 3e-7]),
        ([jb.Dense([[1e9]], activation="tanh")], [1e-9]),
    ],
)
def test_certificates_do_not_accuse_right_networks_at_the_ends_of_the_range(layers, x):
    certificate = jb.certify(jb.Network(layers), x)
    assert certificate.holds, str(certificate)


def test_nothing_is_claimed_where_a_product_may_overflow():
    net = jb.Network([jb.Dense([[1e200]]), jb.Dense([[1e200]]), jb.Dense([[1e-300]])])
    certificate = jb.certify(net, [1e-300])
    verdicts = {check.identity: check.verdict for check in certificate}
    assert verdicts["structured maps"] == "nothing claimed"
    assert certificate.holds
    assert "nothing claimed" in str(certificate)


def test_saturated_softmax_networks_are_certified():
    """A classifier that fits its data perfectly has probabilities of 1e-67."""
    rng = np.random.default_rng(3)
    for scale in (10.0, 100.0, 1000.0):
        net = jb.Network(
            [
                jb.Dense(rng.normal(size=(6, 4)), activation="tanh"),
                jb.Dense(scale * rng.normal(size=(3, 6)), activation="softmax"),
            ]
        )
        for x in rng.normal(size=(15, 4)):
            certificate = jb.certify(net, x)
            assert certificate.holds, str(certificate)


def test_a_softmax_near_tie_in_float32_is_certified():
    """One form of D takes the largest z, another the largest p: they agree which it is."""
    z = np.zeros(15, np.float32)
    z[1:14], z[-1] = -2, np.finfo(np.float32).eps / 9
    net = jb.Network([jb.Elementwise("softmax")], inputs=15).astype(np.float32)
    assert jb.certify(net, z).holds


def test_networks_with_equal_weights_stay_equal():
    """No layer remembers other numbers than it shows."""
    half = jb.Network.random([3, 4, 2], seed=0).astype(np.float32)
    again = jb.Network([jb.Dense(layer.W, layer.b, layer.activation) for layer in half.layers])
    assert_equal(half.astype(np.float64).parameters, again.astype(np.float64).parameters)
    rebuilt = half.with_parameters(half.parameters).astype(np.float64)
    assert_equal(rebuilt.parameters, half.astype(np.float64).parameters)


# --- the operators of maps ------------------------------------------------------------------------


def test_sums_differences_and_scalings_of_maps_are_maps():
    I, J = jb.Identity(2), jb.Matrix([[1.0, 2.0], [3.0, 4.0]])
    x = np.array([1.0, -1.0])
    for A, dense in (
        (I + J, np.eye(2) + J.array),
        (J - I, J.array - np.eye(2)),
        (-J, -J.array),
        (2 * J, 2 * J.array),
        (J * 0.5, J.array / 2),
        (J + np.eye(2), J.array + np.eye(2)),
        (np.eye(2) - J, np.eye(2) - J.array),
        (J[0], J.array[:1]),
        (J[[1, 0], 1], J.array[[1, 0], 1:]),
        (J[:, ::-1], J.array[:, ::-1]),
    ):
        assert isinstance(A, jb.LinearMap)
        assert_equal(A @ x[: A.shape[1]], dense @ x[: A.shape[1]])
        assert_equal(np.asarray(A), dense)
    assert_equal(J.diagonal(), [1.0, 4.0])
    assert J.trace() == 5.0
    assert J.ndim == 2


def test_what_is_no_map_is_refused_by_the_operators():
    J = jb.Matrix([[1.0, 2.0]])
    with pytest.raises(TypeError):
        J * "a"
    with pytest.raises(jb.ShapeError, match="differ in shape"):
        J + jb.Identity(2)
    with pytest.raises(jb.ShapeError, match="only a square map has a trace"):
        J.trace()
    with pytest.raises(IndexError, match="rows"):
        J[3]
    with pytest.raises(ValueError, match="always a new array"):
        np.asarray(J, copy=False)


def test_a_stack_takes_one_matrix_of_columns_for_all_points():
    stack = jb.Matrix(np.arange(12.0).reshape(3, 2, 2))
    X = np.arange(10.0).reshape(2, 5)
    assert_equal(stack @ X, stack.array @ X)


def test_scipy_takes_a_map_as_it_is():
    from scipy.sparse.linalg import aslinearoperator, svds

    A = jb.Product([np.arange(12.0).reshape(4, 3) + np.eye(4, 3), jb.Diagonal([1.0, 2.0, 3.0])])
    operator = aslinearoperator(A)
    assert_equal(operator @ np.ones(3), A @ np.ones(3))
    assert_equal(operator.T @ np.ones(4), A.T @ np.ones(4))
    largest = svds(A, k=1, return_singular_vectors=False)[0]
    # an iterative solver: good to about 1e-10 of the norm
    assert_within(largest, np.linalg.norm(A.to_dense(), 2), 1e-6 * largest)


class Partly(jb.Dense):
    """A dense layer whose rule for b is wrong in its last entry alone."""


@parameter_maps.register
def _(layer: Partly, a):
    right = parameter_maps.dispatch(jb.Dense)(layer, a)
    slopes = np.ones(len(layer.b))
    slopes[-1] = 2
    return right | {"b": jb.Diagonal(slopes)}


def test_a_rule_that_is_wrong_in_one_entry_is_told():
    layer = Partly([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]], [0.1, 0.2, 0.3])
    certificate = jb.certify(jb.Network([layer]), [0.3, 0.4])
    assert not certificate.holds
    assert f"the rule of {layer} for its parameters disagrees" in str(certificate)


class Twofold(jb.activations.VectorActivation):
    """2 z where z is positive, else z: known by its parts, and by a map that is their diagonal."""


def steps_of(z):
    return np.where(z > 0, 2.0, 1.0)


TWOFOLD = Twofold(
    "twofold",
    lambda z: steps_of(z) * z,
    lambda z: (steps_of(z), np.zeros((*z.shape, 1)), np.zeros((*z.shape, 1))),
)
activation_map.register(Twofold, lambda sigma, z: jb.Diagonal(steps_of(z)))


def test_an_activation_of_vectors_may_have_a_diagonal_map():
    rng = np.random.default_rng(3)
    W, V = (rng.integers(-3, 4, shape).astype(float) for shape in ((4, 3), (2, 4)))
    net = jb.Network([jb.Dense(W, activation=TWOFOLD), jb.Dense(V)])
    X = rng.integers(-3, 4, (5, 3)).astype(float)
    D = steps_of(X @ W.T)
    assert_equal(net(X), (D * (X @ W.T)) @ V.T)
    assert_equal(jb.jacobian(net, X), V @ (D[:, :, None] * W))
    assert_equal(jb.jacobian(net, X[0]), V @ (D[0, :, None] * W))
    for J in methods(jb.linearize(net, X[0])).values():
        assert_equal(J, V @ (D[0, :, None] * W))
    assert jb.certify(net, X[0]).holds


# --- layers that bend in their parameters ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bent(jb.Layer):
    """z = exp(w) u a: not affine in w, and not in w and u together."""

    w: np.ndarray
    u: np.ndarray
    says: str = "all"
    trained = ("w", "u")

    def output_width(self, *widths):
        return len(self.w)

    def preactivation(self, *values):
        return np.exp(self.w) * self.u * values[0]


@layer_map.register
def _(layer: Bent, a):
    return jb.Diagonal(np.exp(layer.w) * layer.u)


@parameter_maps.register
def _(layer: Bent, a):
    e = np.exp(layer.w)
    return {"w": jb.Diagonal(e * layer.u * a), "u": jb.Diagonal(e * a)}


@layer_second.register
def _(layer: Bent, c, a):
    return {}


@parameter_second.register
def _(layer: Bent, c, a):
    e = c * np.exp(layer.w)
    by_input = {(0, "w"): jb.Diagonal(e * layer.u), (0, "u"): jb.Diagonal(e)}
    own = {("w", "w"): jb.Diagonal(e * layer.u * a), ("w", "u"): jb.Diagonal(e * a)}
    turned = {("u", "w"): own["w", "u"]}
    chosen = {"all": own, "both ways": own | turned, "nothing": {}}
    return by_input | chosen[layer.says]


def bent_network(says):
    """Draw two of them between dense layers, with a parameter that is 0."""
    rng = np.random.default_rng(7)
    draw = rng.standard_normal
    first = Bent(np.array([0.3, 0.0, -0.4]), draw(3), says)
    second = Bent(0.1 * draw(4), draw(4), says)
    dense = jb.Dense(draw((3, 2)), draw(3), "tanh"), jb.Dense(draw((4, 3)), draw(4), "sigmoid")
    return jb.Network([dense[0], first, dense[1], second]), *draw((2, 5, 2)), draw((5, 4))


@pytest.mark.parametrize("says", ["all", "both ways"])
def test_the_hessian_knows_how_a_layer_bends_in_its_parameters(says):
    """By central differences of gradients, which are good to h² = 1e-10 and eps/h = 1e-11."""
    net, X, _, Y = bent_network(says)
    loss, t, h = jb.SquaredError(), net.parameters, 1e-5

    def gradient(parameters):
        return jb.backprop.gradients(net.with_parameters(parameters), X, Y, loss).vector

    steps = h * np.eye(len(t))
    differences = [(gradient(t + e) - gradient(t - e)) / (2 * h) for e in steps]
    H = jb.curvature(net, X, Y, loss).hessian
    assert_within(H.to_dense(), np.array(differences), 1e-8 * np.abs(differences).max())
    span = slice(9, 15)  # behind W and b: the first of them alone
    assert_within(H.block(2).to_dense(), np.array(differences)[span, span], 1e-8)


def test_a_layer_that_bends_and_does_not_say_how_is_refused():
    net, X, _, Y = bent_network("nothing")
    H = jb.curvature(net, X, Y, jb.SquaredError()).hessian
    with pytest.raises(NotImplementedError, match=r"Bent.*parameter_second has no block of two"):
        H @ np.ones(net.parameter_count)
    for sign in (1, -1):  # it bends upwards everywhere, or downwards
        layer = Bent(np.array([0.3, 0.1]), sign * np.ones(2), "nothing")
        alone = jb.curvature(
            jb.Network([layer], inputs=2), [[1.0, 2.0]], np.zeros((1, 2)), jb.SquaredError()
        )
        with pytest.raises(
            NotImplementedError, match=r"Bent.*parameter_second has no block of two"
        ):
            alone.hessian @ np.ones(4)
    # what does not take the second derivatives of the layer still works
    assert jb.curvature(net, X, Y, jb.SquaredError()).gauss_newton.trace() > 0


@dataclass(frozen=True, eq=False)
class Straight(jb.Layer):
    """z = A (a + b) with a constant: affine in A, whatever cancels in its rows."""

    A: np.ndarray
    b: np.ndarray
    trained = ("A",)

    def output_width(self, *widths):
        return len(self.A)

    def preactivation(self, *values):
        return (values[0] + self.b) @ self.A.T


@layer_map.register
def _(layer: Straight, a):
    return jb.Matrix(layer.A)


@parameter_maps.register
def _(layer: Straight, a):
    row = jb.Matrix((a + layer.b)[..., None, :])
    return {"A": jb.Kronecker(row, jb.Identity(len(layer.A)))}


@layer_second.register
def _(layer: Straight, c, a):
    return {}


@parameter_second.register
def _(layer: Straight, c, a):
    m, n = layer.A.shape
    swap = jb.Commutation(m, n)
    return {(0, "A"): jb.Kronecker(jb.Matrix(c[..., None, :]), jb.Identity(n)) @ swap}


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_a_layer_that_is_affine_in_its_parameters_is_never_refused(seed, dtype):
    """Rows that sum to 0 at equal inputs of any size: z is what is left of rounding."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((3, 50)) * 10.0 ** rng.integers(-6, 6, (3, 1))
    A[:, -1] = -A[:, :-1].sum(axis=1)
    net = jb.Network([Straight(A.astype(dtype), np.ones(50, dtype))], inputs=50)
    X = np.full((2, 50), 1e3, dtype)
    H = jb.curvature(net, X, np.zeros((2, 3), dtype), jb.SquaredError()).hessian
    assert np.isfinite(H @ np.ones(150, dtype)).all()


class WithMap(jb.Dense):
    """Says its own derivative by the input."""


class WithParameters(jb.Dense):
    """Says its own derivative by the parameters."""


@layer_map.register
def _(layer: WithMap, a):
    return jb.Matrix(layer.W)


@parameter_maps.register
def _(layer: WithParameters, a):
    return {}


@pytest.mark.parametrize("kind", [WithMap, WithParameters, type("Plain", (jb.Dense,), {})])
def test_a_second_derivative_is_not_that_of_a_class_whose_first_was_replaced(kind):
    """By the input or by the parameters: either one may be what it was the derivative of."""
    layer, c, a = kind(np.ones((2, 3))), np.ones((1, 2)), np.ones((1, 3))
    if kind.__name__ == "Plain":
        assert list(second_of_parameters(layer, c, a)) == [(0, "W")]
    else:
        with pytest.raises(NotImplementedError, match=r"parameter_second"):
            second_of_parameters(layer, c, a)
