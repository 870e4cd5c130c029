"""Backprop: every layer of the zoo swept back, at a point and at several; what is kept of them."""

import numpy as np
import pytest
from claims import assert_equal, assert_within
from curvature_cases import KINDS, SQUARED
from zoo import NETWORKS, dense, points

import jacobians as jb
from jacobians import backprop, layers

# all kinds of layers, and joins of more than two values
names = pytest.mark.parametrize("name", [*KINDS, "parallel branches", "deep", "log_softmax output"])


def close(net, left, right):
    """Agree to some roundings of the largest entry: sums of a few hundred terms of its size."""
    size = max(np.abs(right).max(initial=0.0), 1e-30)
    assert_within(left, right, 2000 * np.finfo(net.dtype).eps * size)


def vector_of(net, parameters):
    """Stack gradients as the parameters are stacked: columns of matrices below one another."""
    pairs = zip(net.layers, parameters, strict=True)
    each = [by[name] for layer, by in pairs for name in layer.parameters()]
    return np.concatenate([A.reshape(len(A), -1).T.reshape(-1) for A in each] or [np.zeros(0)])


@names
def test_sweeps_are_products_with_the_maps(name):
    """The Jacobian, cotangents at every node and input: of one point as of several."""
    net = NETWORKS[name]
    X = points(net, 3)
    c = np.random.default_rng(2).normal(size=(3, net.widths[-1])).astype(net.dtype)
    batch = jb.trace(net, X)
    J, vjp, deltas = backprop.jacobian(batch), backprop.vjp(batch, c), backprop.deltas(batch, c)
    for k, x in enumerate(X):
        lin = jb.linearize(net, x)
        close(net, J[k], lin.jacobian())
        close(net, vjp[k], c[k] @ lin.jacobian())
        for l, delta in enumerate(deltas, start=1):
            close(net, delta[k], c[k] @ lin.preactivation_jacobian(l).to_dense())
    one = jb.trace(net, X[0])
    close(net, backprop.jacobian(one), J[0])
    close(net, backprop.vjp(one, c[0]), vjp[0])
    for alone, among in zip(backprop.deltas(one, c[0]), deltas, strict=True):
        close(net, alone, among[0])


@names
def test_gradients_are_means_over_the_points_in_pieces_of_any_size(name, monkeypatch):
    """Of ``Jᵀ (a - y)`` with the matrices of all parameters, and the penalty on top."""
    net = NETWORKS[name]
    X = points(net, 3)
    Y = np.random.default_rng(3).normal(size=(3, net.widths[-1])).astype(net.dtype)
    each = [jb.linearize(net, x).parameter_jacobian().to_dense() for x in X]
    expected = np.mean([(net(x) - y) @ J for x, y, J in zip(X, Y, each, strict=True)], axis=0)
    losses = [float(((net(x) - y) ** 2).sum()) / 2 for x, y in zip(X, Y, strict=True)]
    weights = [
        {n: p if n in ("W", "K") else 0 * p for n, p in layer.parameters().items()}
        for layer in net.layers
    ]
    theta = vector_of(net, weights)
    for piece in (1, 2**20):
        monkeypatch.setattr(backprop, "PIECE_BYTES", piece)
        for l2 in (0.0, 0.5):
            g = backprop.gradients(net, X, Y, SQUARED, l2, kernels=False)
            found = vector_of(net, g.parameters)
            assert found.dtype == net.dtype
            close(net, found, expected + l2 * theta)
            # losses of float32, added up in another order
            assert g.loss == pytest.approx(np.mean(losses) + l2 / 2 * theta @ theta, rel=1e-5)
            close(net, vector_of(net, backprop.gradients(net, X, Y, SQUARED, l2).parameters), found)
    one, alone = (backprop.gradients(net, x, y, SQUARED) for x, y in ((X[0], Y[0]), (X[:1], Y[:1])))
    close(net, one.inputs, alone.inputs[0])
    for delta, among in zip(one.deltas, alone.deltas, strict=True):
        close(net, delta, among[0])


@names
def test_no_matrix_is_formed_for_a_layer_of_the_library(name, monkeypatch):
    """Every layer has a sweep of its own; those with a kernel or weights have their gradients."""
    net = NETWORKS[name]
    X = points(net, 2)
    g = backprop.gradients(net, X, net(X), SQUARED, kernels=False)
    rule = backprop.parameter_maps

    def refused(layer, *values):
        raise AssertionError(f"{layer} by its map")

    def of_others(layer, *values):
        plain = layers.Dense | layers.Convolution | layers.TransposedConvolution
        return refused(layer) if isinstance(layer, plain) else rule(layer, *values)

    vars(of_others).update(vars(rule))  # where it is registered, and for what
    monkeypatch.setattr(backprop, "layer_map", refused)
    monkeypatch.setattr(backprop, "parameter_maps", of_others)
    again = backprop.gradients(net, X, net(X), SQUARED, kernels=False)
    assert_equal(vector_of(net, again.parameters), vector_of(net, g.parameters))
    assert_equal(again.inputs, g.inputs)


def test_a_row_of_a_norm_that_is_all_zeros_has_no_slope():
    """Without epsilon nothing is divided by 0; the other row has its own, however small it is."""
    for kind in (jb.LayerNorm, jb.RMSNorm):
        net = jb.Network([kind([2.0, -1.0, 3.0], epsilon=0.0)], inputs=(2, 3))
        for X in (np.array([0, 0, 0, 0.1, 0.2, -0.4]), np.array([[0, 0, 0, 0.1, 0.2, -0.4]] * 2)):
            with np.errstate(all="raise"):
                J = backprop.jacobian(jb.trace(net, X))
            assert_equal(J[..., :3, :], np.zeros_like(J[..., :3, :]))
            close(net, J, jb.linearize(net, X).jacobian())
            assert np.abs(J[..., 3:, 3:]).min() > 1e-3


def test_an_input_that_nothing_reads_has_no_slope():
    net = jb.Network.graph({"y": (jb.Dense([[1.0, 2.0]]), "x")}, inputs={"unread": 3, "x": 2})
    for X in (np.ones(5), np.ones((4, 5))):
        trace = jb.trace(net, X)
        assert_equal(backprop.vjp(trace, np.ones(trace.output.shape)), X * [0, 0, 0, 1, 2])
        assert_equal(backprop.deltas(trace, np.ones(trace.output.shape))[-1], trace.output * 0 + 1)


# --- what comes in --------------------------------------------------------------------------------


class Tagged(np.ndarray):
    """An array of somebody's own class, which shares its memory with a plain one."""


@pytest.mark.parametrize("shape", [(3,), (4, 3)], ids=str)
def test_what_is_asked_for_later_is_of_the_points_as_they_were(shape):
    """Whoever owns the memory: arrays, views of larger ones, points that were converted."""
    net = dense([3, 5, 2], "tanh")
    targets = (*shape[:-1], 2)

    def arrays(of):
        plain = np.random.default_rng(len(of)).normal(size=of)
        yield plain.copy(), plain
        yield np.stack([plain, plain])[1], plain
        yield plain.copy().view(Tagged), plain
        yield plain.astype(np.float32), plain.astype(np.float32)

    for X, x in arrays(shape):
        for Y, y in arrays(targets):
            right = backprop.gradients(net, x.copy(), y.copy(), SQUARED)
            right = right.inputs, *right.deltas
            g = backprop.gradients(net, X, Y, SQUARED)
            kept = X.copy(), Y.copy()
            X[...], Y[...] = 7.0, 8.0
            for one, other in zip((g.inputs, *g.deltas), right, strict=True):
                assert_equal(one, other)
            X[...], Y[...] = kept


@pytest.mark.parametrize(
    "bad", [-1.0, -1, np.nan, np.inf, "0.1", None, [0.0], np.zeros(1), np.float64(-0.5)], ids=str
)
def test_a_penalty_is_a_number_from_0_on(bad):
    net, x, y = dense([3, 2], "tanh"), np.ones((2, 3)), np.ones((2, 2))
    with pytest.raises((ValueError, TypeError), match=r"^backprop\.gradients: l2(:| is) "):
        backprop.gradients(net, x, y, SQUARED, bad)


def test_a_penalty_may_be_any_kind_of_number():
    net, x, y = dense([3, 2], "tanh"), np.ones((2, 3)), np.ones((2, 2))
    for l2 in (0, 1, 2):
        expected = backprop.gradients(net, x, y, SQUARED, float(l2))
        for number in (l2, np.float64(l2), np.float32(l2), np.int64(l2)):
            g = backprop.gradients(net, x, y, SQUARED, number)
            assert g.loss == expected.loss
            assert_equal(g.vector, expected.vector)


@pytest.mark.parametrize("ask", [backprop.vjp, backprop.deltas])
def test_a_cotangent_has_the_shape_of_the_output(ask):
    net = dense([3, 4, 2], "tanh")
    for X, shape in ((np.ones(3), (2,)), (np.ones((5, 3)), (5, 2))):
        trace = jb.trace(net, X)
        for other in ((2,), (5, 2), (3,), (1, 2), (5, 1), ()):
            if other != shape:
                with pytest.raises(
                    jb.ShapeError, match=r"cotangent: expected .*the output's shape"
                ):
                    ask(trace, np.ones(other))


def test_the_kernel_sweeps_unless_it_is_told_not_to(monkeypatch):
    if not jb._kernels.PROCESSORS:
        pytest.skip("the kernel was not built, or is turned off")
    net, X, Y = dense([3, 4, 2], "tanh"), np.ones((2, 3)), np.ones((2, 2))

    class Swept(Exception):
        pass

    def swept(*_):
        raise Swept

    monkeypatch.setattr(backprop, "_by_sweeps", swept)
    backprop.gradients(net, X, Y, SQUARED)
    with pytest.raises(Swept):
        backprop.gradients(net, X, Y, SQUARED, kernels=False)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_layer_acts_on_every_row_whatever_their_number(rows):
    """Dense layers and norms of rows: swept back as one point and as several."""
    rng = np.random.default_rng(rows)
    layers_of_rows = [
        jb.Dense(rng.normal(size=(4, 3)), rng.normal(size=4), "tanh"),
        jb.LayerNorm(rng.normal(size=4)),
        jb.Dense(rng.normal(size=(2, 4))),
        jb.RMSNorm(rng.normal(size=2)),
    ]
    net = jb.Network(layers_of_rows, inputs=(rows, 3))
    X = points(net, 3)
    J = backprop.jacobian(jb.trace(net, X))
    for k, x in enumerate(X):
        close(net, J[k], jb.linearize(net, x).jacobian())
        close(net, backprop.jacobian(jb.trace(net, x)), J[k])
