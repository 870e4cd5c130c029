"""JVPs and VJPs of a batch: equal to products with the explicit Jacobian, on every path."""

from contextlib import contextmanager
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import assume, given
from hypothesis import strategies as st
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians import strategies as jst
from jacobians.engine import running, sweeps
from jacobians.program import Limits
from jacobians.rounding import chain_bound

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())


@st.composite
def divisions(draw):
    """Draw threads, sizes of pieces and slabs, kept memory or new."""
    limits = Limits(
        serial=draw(st.sampled_from([1, 30, 10**9])),
        written_out=draw(st.sampled_from([0, 64])),
        small_piece_bytes=draw(st.sampled_from([1, 1000, 10**7])),
        long_call=0,
        thread_seconds=draw(st.sampled_from([0.0, 10.0])),
    )
    return limits, draw(st.integers(1, 3)), draw(st.sampled_from([0, 10**9]))


@contextmanager
def divided(division):
    limits, threads, warm = division
    with (
        patch.object(sweeps, "LIMITS", limits),
        patch.object(sweeps, "THREADS", threads),
        patch.object(sweeps, "_prepared", WeakKeyDictionary()),
        patch.object(running, "WARM_BYTES", warm),
    ):
        yield


def whole_vectors(data, B, n):
    rows = st.lists(st.integers(-3, 3), min_size=n, max_size=n)
    return np.array(data.draw(st.lists(rows, min_size=B, max_size=B)), float)


@given(st.data(), divisions())
def test_jvps_and_vjps_are_exact_on_exact_networks(data, division):
    """J v and Jᵀ c == the explicit J times them, bit for bit; a batch and each point alone."""
    net = data.draw(jst.exact_networks())
    B = data.draw(st.integers(1, 7))
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(B)])
    T, C = (whole_vectors(data, B, n).astype(net.dtype) for n in (net.widths[0], net.widths[-1]))
    J = np.stack([jb.explicit.input_jacobian(jb.trace(net, x)) for x in X])
    with divided(division):
        pushed, pulled = jb.jvp(net, X, T), jb.vjp(net, X, C)
    assert_equal(pushed, (J @ T[:, :, None])[:, :, 0])
    assert_equal(pulled, (C[:, None, :] @ J)[:, 0])
    for x, t, c, u, v in zip(X, T, C, pushed, pulled, strict=True):
        assert_equal(jb.jvp(net, x, t), u)
        assert_equal(jb.vjp(net, x, c), v)


@given(st.data(), divisions())
def test_jvps_and_vjps_are_within_the_bound(data, division):
    """Away from kinks the slopes of relu are those of any trace, so only products round."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    widths = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=6))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    net = jb.Network.random(widths, "relu", seed=rng, dtype=dtype)
    X = rng.standard_normal((3, widths[0])).astype(dtype)
    traces = [jb.trace(net, x) for x in X]
    assume(not any(trace.kinks(within=1e-5) for trace in traces))
    T = rng.standard_normal(X.shape).astype(net.dtype)
    C = rng.standard_normal((3, net.widths[-1])).astype(net.dtype)
    with divided(division):
        pushed, pulled = jb.jvp(net, X, T), jb.vjp(net, X, C)
    for i, trace in enumerate(traces):
        factors, J = jb.linearize(net, trace).factors, jb.explicit.input_jacobian(trace)
        t, c = T[i][:, None], C[i][None, :]
        bound = chain_bound([*factors, jb.Matrix(t)], net.dtype)
        assert_within(pushed[i][:, None], J @ t, bound.pair())
        bound = chain_bound([jb.Matrix(c), *factors], net.dtype)
        assert_within(pulled[i][None, :], c @ J, bound.pair())


@given(st.data(), divisions())
def test_however_a_batch_is_divided_each_point_gets_its_own_vector(data, division):
    """Also with layers that are not dense, whose arrays are nobody's pool's; twice, from one pool.

    A slope is as wrong as its preactivation, by some 50 roundings here; what a mixed-up array
    changes is of the size of the result.  Below the least normal number underflow rounds too.
    """
    eps, least = np.finfo(float).eps, np.finfo(float).tiny
    smooth = ("tanh", "sigmoid", "identity", "softmax", "log_softmax")
    net = data.draw(jst.networks(hidden=smooth, last=smooth))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    X, T = rng.standard_normal((2, 5, net.widths[0]))
    C = rng.standard_normal((5, net.widths[-1]))
    lin = jb.linearize(net, X)
    expected = lin.jvp(T), lin.vjp(C)
    for _ in range(2):
        with divided(division):
            products = jb.jvp(net, X, T), jb.vjp(net, X, C)
        for i in range(5):
            J = [np.abs(A.to_dense()) for A in jb.linearize(net, X[i]).factors]
            for got, want, paths in (
                (products[0][i], expected[0][i], np.linalg.multi_dot([*J, np.abs(T[i])[:, None]])),
                (products[1][i], expected[1][i], np.linalg.multi_dot([np.abs(C[i])[None, :], *J])),
            ):
                assert np.all(np.abs(got - want) <= 1e3 * eps * paths.ravel() + least)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [None, 1, 3])
def test_a_product_that_fits_is_found_whatever_the_size_of_the_vector(dtype, count):
    """Products of the matrices stay in the range; with the vector they leave it on the way."""
    large = dtype(2.0) ** (90 if dtype == np.float32 else 700)
    layers = [jb.Dense(np.array([[w]], dtype)) for w in (large, 1 / large, 2)]
    for net in (jb.Network(layers), jb.Network([jb.Scale(layer.W[0]) for layer in layers])):
        shape = (1,) if count is None else (count, 1)
        X, V = np.zeros(shape, dtype), np.full(shape, large)
        assert_equal(jb.jvp(net, X, V), 2 * V)
        turned = jb.Network(net.layers[1::-1] + net.layers[2:])
        assert_equal(jb.vjp(turned, X, V), 2 * V)


@every_network
def test_the_dot_test_holds_in_every_network_of_the_zoo(net):
    """<c, J v> == <Jᵀ c, v>, both within the bound of the product of all factors with c and v."""
    for x in points(net, 3):
        rng = np.random.default_rng(0)
        v = rng.standard_normal(net.widths[0]).astype(net.dtype)
        c = rng.standard_normal(net.widths[-1]).astype(net.dtype)
        for X, V, C in ((x, v, c), (x[None], v[None], c[None])):
            pushed, pulled = jb.jvp(net, X, V), jb.vjp(net, X, C)
            factors = jb.linearize(net, x).factors
            chain = [jb.Matrix(c[None, :]), *factors, jb.Matrix(v[:, None])]
            allowed = chain_bound(chain, net.dtype).pair()[0, 0]
            # slopes here are at values that may differ in their last bits from those of the trace
            gap = abs(float(np.vdot(C, pushed)) - float(np.vdot(pulled, V)))
            assert gap <= 1.01 * allowed


@every_network
def test_they_agree_with_the_maps_at_the_values_of_the_network(net):
    """The same as linearize(net, X).jvp and .vjp, to the rounding of values and products."""
    X = points(net, 5)
    rng = np.random.default_rng(1)
    T = rng.standard_normal(X.shape).astype(net.dtype)
    C = rng.standard_normal((len(X), net.widths[-1])).astype(net.dtype)
    lin, eps = jb.linearize(net, X), np.finfo(net.dtype).eps
    for computed, expected in ((jb.jvp(net, X, T), lin.jvp(T)), (jb.vjp(net, X, C), lin.vjp(C))):
        # a thousand roundings: what a wrong factor changes is a thousand times more
        assert np.abs(computed - expected).max() <= 1e3 * eps * max(1, np.abs(expected).max())


def test_tangents_that_leave_the_range_on_the_way_and_come_back():
    """1e-200 · 1e200 · 1e200: the maps say so too, and values in range are never spoilt."""
    net = jb.Network([jb.Dense([[1e200]]), jb.Dense([[1e-200]]), jb.Dense([[2.0]])])
    assert_equal(jb.jvp(net, [[0.0], [1.0]], [[1e100], [3.0]]).ravel(), [2e100, 6.0])


@pytest.mark.parametrize("small", [0, 1])
def test_a_vector_that_leaves_the_range_for_good_is_told_as_numpy_tells_it(small):
    """Also where the other point's stays; here, as around every call of a test, flags raise."""
    net = jb.Network([jb.Dense([[10.0]], activation="tanh"), jb.Dense([[10.0]])])
    V = np.full((2, 1), 1e308)
    V[small] = 1.0
    for verb in (jb.jvp, jb.vjp):
        with pytest.raises(FloatingPointError, match="overflow"):
            verb(net, np.zeros((2, 1)), V)


def test_values_that_leave_the_range_are_named():
    net = jb.Network([jb.Dense([[1000.0]], activation="exp"), jb.Dense([[1.0]])])
    for X in ([0.8], [[0.8]]):
        with pytest.raises(jb.NotFiniteError, match="of Dense 1 -> 1 exp leaves the range"):
            jb.jvp(net, X, np.ones_like(X))
        with pytest.raises(jb.NotFiniteError, match="of Dense 1 -> 1 exp leaves the range"):
            jb.vjp(net, X, np.ones_like(X))


@pytest.mark.parametrize(
    ("verb", "vector", "message"),
    [
        ("jvp", [[1.0, 2.0]], r"jvp: tangents: expected shape \(1, 3\), but got \(1, 2\)"),
        ("vjp", [[1.0, 2.0, 3.0]], r"vjp: cotangents: expected shape \(1, 2\), but got \(1, 3\)"),
        ("jvp", [[1.0, np.nan, 2.0]], r"jvp: tangents\[0, 1\] is nan"),
        ("vjp", [["a", "b"]], "vjp: cotangents: expected"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(verb, vector, message):
    net = jb.Network.random([3, 4, 2], seed=0)
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(jb, verb)(net, np.zeros((1, 3)), vector)


def test_no_points_give_no_vectors():
    net = jb.Network.random([3, 4, 2], seed=0)
    assert jb.jvp(net, np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 2)
    assert jb.vjp(net, np.zeros((0, 3)), np.zeros((0, 2))).shape == (0, 3)


def test_a_layer_of_the_users_own_goes_through_its_map():
    """Its rule is layer_map; nothing else is known of it."""
    from dataclasses import dataclass

    from jacobians.linearization import layer_map

    @dataclass(frozen=True, eq=False)
    class Doubling(jb.Layer):
        def output_width(self, inputs):
            return 2 * inputs

        def preactivation(self, a):
            return np.concatenate([a, 3 * a], axis=-1)

    @layer_map.register
    def _(layer: Doubling, a):
        n = a.shape[-1]
        return jb.Matrix(np.concatenate([np.eye(n), 3 * np.eye(n)]))

    net = jb.Network([Doubling()], inputs=2)
    assert_equal(jb.jvp(net, [[0.0, 0.0]], [[1.0, 2.0]]), [[1.0, 2.0, 3.0, 6.0]])
    assert_equal(jb.vjp(net, [0.0, 0.0], [1.0, 0.0, 0.0, 1.0]), [1.0, 3.0])


def test_the_callers_vectors_are_left_alone():
    """Also where there is nothing to multiply, and in pools."""
    for net in (jb.Network([jb.Elementwise("identity")], inputs=5000), NETWORKS["deep"]):
        X = np.ones((3, net.widths[0]), net.dtype)
        V = np.full_like(X, 2)
        C = np.full((3, net.widths[-1]), 2, net.dtype)
        result = jb.jvp(net, X, V)
        jb.vjp(net, X, C)
        assert (V == 2).all()
        assert (C == 2).all()
        assert not np.shares_memory(result, V)


def test_repaired_vectors_pass_all_layers_in_their_order():
    """Three layers of different widths; on the way 2^1100, in the end 2^200 times whole numbers."""
    A, B, C = whole(4, 3), whole(2, 4), whole(5, 2)
    J = 2.0**200 * (C @ B @ A)
    tangents, cotangents = whole(6, 3), whole(6, 5)
    points = np.zeros((6, 3))
    for first, second, third in ((600, 500, -900), (-900, 600, 500)):
        scaled = [2.0**k * W for k, W in ((first, A), (second, B), (third, C))]
        net = jb.Network([jb.Dense(W) for W in scaled])
        assert_equal(jb.jvp(net, points, tangents), tangents @ J.T)
        assert_equal(jb.vjp(net, points, cotangents), cotangents @ J)
