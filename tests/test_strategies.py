"""What the strategies promise: bounded, varied, exact where they say so, shrinking well."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians import strategies as jst
from jacobians.linearization import layer_map

simplest = settings(database=None, max_examples=2000, deadline=None)


@given(jst.networks(max_depth=3, max_width=5, bound=1.5))
def test_networks_are_bounded(net):
    dense = [layer for layer in net.layers if isinstance(layer, jb.Dense)]
    assert 1 <= len(dense) <= 3
    assert max(net.widths) <= 5
    assert max(np.abs(net.parameters)) <= 1.5


@given(st.data())
def test_points_and_batches_fit_their_network(data):
    net = data.draw(jst.networks(dtypes=(np.float32, np.float64)))
    x, X = data.draw(jst.points(net)), data.draw(jst.batches(net))
    assert (x.shape, x.dtype) == ((net.widths[0],), net.dtype)
    assert X.shape[1:] == (net.widths[0],)
    assert len(X) <= 4
    assert net(X).shape == (len(X), net.widths[-1])


@given(jst.exact_networks(), st.data())
def test_exact_networks_need_fewer_than_53_bits(net, data):
    """max(P) over the finest granularity stays below 2^53, so no partial result is rounded."""
    lin = jb.linearize(net, data.draw(jst.whole_points(net)))
    paths = np.eye(net.widths[0])
    for A in reversed([A.magnitude() for A in lin.factors]):
        paths = A.apply(paths)
    finest = 2.0 ** (-4 * net.depth)  # weights are multiples of 1/4, slopes of 1/4
    assert paths.max(initial=0.0) / finest < 2**53
    for z in lin.trace.preactivations:
        assert np.array_equal(z / finest, np.round(z / finest))


@given(jst.ill_scaled_networks())
def test_ill_scaled_networks_span_the_decades(net):
    for layer in net.layers:
        assert 0 < np.abs(layer.W).max() < 1e10


@given(jst.problems())
def test_problems_are_accepted_by_both_gradients(problem):
    assert np.isfinite(jb.backprop.gradients(*problem).loss)
    assert problem.loss.targets(problem.Y, problem.net(problem.X)).shape == problem.Y.shape


@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_linear_maps_have_the_shape_that_was_asked_for(data, m, n):
    A = data.draw(jst.linear_maps(m, n, batch=2))
    assert A.shape == (m, n)
    assert A.batch in ((), (2,))


def kinds_drawn(strategy, kinds_of, count):
    """Collect the names of everything that a strategy draws."""
    drawn = set()

    @settings(max_examples=count, database=None, deadline=None)
    @given(strategy)
    def collect(value):
        drawn.update(type(part).__name__ for part in kinds_of(value))

    collect()
    return drawn


def test_every_kind_of_map_is_drawn():
    kinds = {"Identity", "Matrix", "Diagonal", "DiagonalPlusLowRank", "Kronecker", "Product"}
    kinds |= {"Blocks", "Commutation", "Duplication", "Elimination", "Scatter"}
    assert kinds <= kinds_drawn(jst.linear_maps(), lambda A: [A], 700)


def test_every_loss_and_layer_is_drawn():
    kinds = {"Dense", "Scale", "Elementwise", "SquaredError", "BinaryCrossEntropy", "CrossEntropy"}
    assert kinds <= kinds_drawn(jst.problems(), lambda p: [p.loss, *p.net.layers], 200)


def test_failures_shrink_to_one_layer_of_one_unit_with_weight_zero():
    net = find(jst.networks(), lambda net: True, settings=simplest)
    assert net.widths == (1, 1)
    assert net.parameters.tolist() == [0.0, 0.0]
    assert net.layers[0].activation.name == "identity"


def test_half_of_the_widths_are_pairwise_different():
    drawn = []

    @settings(max_examples=200, database=None, deadline=None)
    @given(jst.widths())
    def collect(widths):
        drawn.append(widths)

    collect()
    different = sum(len(set(widths)) == len(widths) for widths in drawn)
    assert different > len(drawn) / 3
    assert any(len(set(widths)) < len(widths) for widths in drawn)


# --- the conformance kit --------------------------------------------------------------------------


def weights_and_biases(weights, biases, X, Y, slope=True):
    """Somebody's tanh network with an identity on top and half the squared error."""
    a = [X]
    for l, (W, b) in enumerate(zip(weights, biases, strict=True), start=1):
        z = a[-1] @ W.T + b
        a.append(np.tanh(z) if l < len(weights) else z)
    delta, dW, db = (a[-1] - Y) / len(X), [], []
    for l in range(len(weights) - 1, -1, -1):
        dW.insert(0, delta.T @ a[l])
        db.insert(0, delta.sum(axis=0))
        delta = delta @ weights[l] * (1 - a[l] ** 2 if slope else 1)
    return dW, db


SCALE = jb.Scale([2.0, -1.0])


def right(net, X, Y):
    """The library's own gradients."""
    return jb.backprop.gradients(net, X, Y, jb.SquaredError())


def test_a_right_backprop_passes():
    jst.check_backprop(weights_and_biases, signature="lists", hidden=["tanh"], examples=20)


def test_a_wrong_backprop_is_diagnosed_on_a_small_network():
    def wrong(weights, biases, X, Y):
        return weights_and_biases(weights, biases, X, Y, slope=False)

    with pytest.raises(AssertionError, match="slope missing") as caught:
        jst.check_backprop(wrong, signature="lists", hidden=["tanh"], examples=50)
    assert "wrong is wrong on Network 1-1-1" in str(caught.value)


def test_other_signatures_and_arrays_are_adapted():
    class Own:
        """Somebody's arrays."""

        def __init__(self, array):
            self.array = array

    def flat(theta, X, Y):
        net = jb.Network.random([3, 4, 2], "tanh", seed=0).with_parameters(theta.array)
        return jb.backprop.gradients(net, X.array, Y.array, jb.SquaredError()).vector

    options = {"hidden": ["tanh"], "depth": 2, "arrays": Own, "examples": 10}
    jst.check_backprop(flat, signature="vector", **options)
    with pytest.raises(ValueError, match="expected one of network, lists, pairs, vector, got 'ma"):
        jst.check_backprop(flat, signature="matrix")
    with pytest.raises(ValueError, match="expected torch or jax or a function, got 'cupy'"):
        jst.check_backprop(flat, arrays="cupy")


def test_functions_of_jax_are_checked_as_they_are():
    """Parameters as pairs, gradients by jax.grad, float32: one line."""
    jax = pytest.importorskip("jax")

    def cost(pairs, X, Y):
        a = X
        for W, b in pairs[:-1]:
            a = jax.numpy.tanh(a @ W.T + b)
        W, b = pairs[-1]
        return ((a @ W.T + b - Y) ** 2).sum() / 2 / len(X)

    options = {"signature": "pairs", "arrays": "jax", "hidden": ["tanh"], "depth": 2}
    jst.check_backprop(jax.grad(cost), examples=3, dtype=np.float32, **options)


def test_functions_of_torch_are_checked_as_they_are():
    torch = pytest.importorskip("torch")

    def mine(weights, biases, X, Y):
        parameters = [p.requires_grad_() for p in (*weights, *biases)]
        a = X
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            a = torch.relu(a @ W.T + b)
        loss = ((a @ weights[-1].T + biases[-1] - Y) ** 2).sum() / 2 / len(X)
        g = torch.autograd.grad(loss, parameters)
        return list(g[: len(weights)]), list(g[len(weights) :])

    jst.check_backprop(
        mine, signature="lists", arrays="torch", hidden=["relu"], depth=2, examples=15
    )


@dataclass(frozen=True, eq=False)
class Mix(jb.Layer):
    """z = W a, with a rule that is the transpose of it."""

    W: np.ndarray

    def output_width(self, *widths):
        return widths[0]

    def preactivation(self, *values):
        return values[0] @ self.W.T


@layer_map.register
def _(layer: Mix, a):
    return jb.Matrix(layer.W.T)


def test_a_wrong_rule_is_told_what_it_is():
    with pytest.raises(AssertionError, match="it is the transpose of the derivative"):
        jst.check_jacobian_rule(lambda n: Mix(np.arange(n * n * 1.0).reshape(n, n)), examples=20)
    jst.check_jacobian_rule(jb.Scale([2.0, 3.0]), examples=10)
    with pytest.raises(ValueError, match="say inputs=n"):
        jst.check_jacobian_rule(jb.Elementwise("tanh"))
    net = jb.Network([Mix(np.array([[1.0, 2.0], [3.0, 4.0]]))], inputs=2)
    assert "it is the transpose of the derivative" in str(jb.certify(net, [1.0, 2.0]))


def test_functions_are_found_by_name():
    jst.check_named("test_strategies:right", examples=5)
    jst.check_named("test_strategies:SCALE", examples=5)
    with pytest.raises(ValueError, match="expected module:function"):
        jst.check_named("jacobians.layers")
