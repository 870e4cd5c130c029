"""What users hand to the engine, and numbers at the ends of the range."""

import inspect
import tracemalloc
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from zoo import points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.engine.running import all_finite
from jacobians.linearization import activation_map, layer_map
from jacobians.rounding import chain_bound

# --- the entry points -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_no_infinity_and_no_nan_passes_the_entry_point(wrong):
    """At a point of the right dtype, in a batch, and where the values are not even needed."""
    linear = jb.Network([jb.Dense([[1.0, 2.0]])])
    tanh = jb.Network.random([2, 3, 4, 2], "tanh", seed=0)
    x = np.array([wrong, 1.0])
    for net in (linear, tanh):
        for X in (x, x[None], np.stack([x[::-1], x])):
            for call in (
                lambda X, net=net: jb.jacobian(net, X),
                lambda X, net=net: jb.jacobian(net, X, of=1, wrt=1),
                lambda X, net=net: jb.value_and_jacobian(net, X, of=0),
                lambda X, net=net: jb.jvp(net, X, np.ones(X.shape)),
                lambda X, net=net: jb.vjp(net, X, np.ones((*X.shape[:-1], net.widths[-1]))),
            ):
                with pytest.raises(jb.NotFiniteError, match="Every entry must be finite"):
                    call(X)


def test_the_answer_does_not_depend_on_how_points_lie_in_memory():
    net = jb.Network.random([20, 30, 5], "tanh", seed=0)
    X = points(net, 60)
    expected = jb.jacobian(net, X)
    spaced = np.zeros((120, 40))
    spaced[::2, ::2] = X
    for same in (np.asfortranarray(X), spaced[::2, ::2], X[::-1].copy()[::-1], X.tolist()):
        assert_equal(jb.jacobian(net, same), expected)
        assert_equal(jb.jvp(net, same, X), jb.jvp(net, X, X))


def test_what_does_not_fit_in_memory_is_refused_before_anything_is_copied():
    """1000-5-1000 at 20,000 points are 149 GiB; a broadcast X of a million points is no array."""
    net = jb.Network.random([1000, 5, 1000], seed=0)
    X = np.broadcast_to(np.zeros(1000), (2**21, 1000))
    jacobian = inspect.unwrap(jb.jacobian)  # without the guard, which copies what it watches
    tracemalloc.start()
    with pytest.raises(jb.TooLargeError, match=r"takes .*iB, but this machine has .* rows="):
        jacobian(net, X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    with pytest.raises(jb.TooLargeError, match="value_and_jacobian: the result of shape"):
        inspect.unwrap(jb.value_and_jacobian)(net, X)


@pytest.mark.parametrize("verb", ["jacobian", "value_and_jacobian", "plan", "jvp", "vjp"])
def test_what_is_no_network_is_named(verb):
    with pytest.raises(TypeError, match=f"{verb}: net: expected a Network first, but got 'a'"):
        getattr(jb, verb)("a", *([[1.0]] * (2 if verb in ("jvp", "vjp") else 1)))


def test_numbers_of_nodes_are_whole_numbers_whatever_was_asked_before():
    """1, 1.0 and True are equal, and only one of them is the number of a node."""
    net = jb.Network.random([2, 3, 1], seed=0)
    jb.jacobian(net, [1.0, 2.0], of=1)
    for wrong in (1.0, True):
        with pytest.raises(TypeError, match="expected a whole number"):
            jb.jacobian(net, [1.0, 2.0], of=wrong)
    for wrong in ((1, 0), "fast", 3):
        with pytest.raises(TypeError, match="plan: expected a Plan"):
            jb.jacobian(net, [1.0, 2.0], plan=wrong)


def test_a_user_cannot_write_where_points_and_values_are():
    """Layers and activations that work in place are told so, and harm nobody."""

    @dataclass(frozen=True, eq=False)
    class InPlace(jb.Layer):
        def output_width(self, inputs):
            return inputs

        def preactivation(self, a):
            a *= 2
            return a

    layer_map.register(InPlace, lambda layer, a: jb.Diagonal(np.full(a.shape, 2.0)))

    def in_place(z):
        z *= 2
        return z

    own = jb.Activation("own", in_place, lambda z: np.full_like(z, 2))
    X = np.ones((3, 2))
    for net in (
        jb.Network([InPlace()], inputs=2),
        jb.Network([jb.Dense(np.eye(2), activation=own), jb.Dense(np.eye(2))]),
    ):
        with pytest.raises(ValueError, match="read-only"):
            jb.value_and_jacobian(net, X)
    assert_equal(X, np.ones((3, 2)))


def test_an_empty_batch_gives_an_empty_stack():
    net = jb.Network.random([3, 4, 2], seed=0)
    out = np.empty((0, 2, 3))
    assert jb.jacobian(net, np.zeros((0, 3))).shape == (0, 2, 3)
    assert jb.jacobian(net, np.zeros((0, 3)), out=out) is out
    assert jb.jacobian(net, np.zeros((20_000, 3)), of=0, rows=[0]).shape == (20_000, 1, 3)


def test_a_plan_serves_the_call_it_is_given_to_and_no_later_one():
    """A point that is asked again goes to the program of its own plan."""
    net, x = jb.Network.random([3, 64, 2], seed=0), np.array([0.3, -1.0, 0.7])
    first = jb.jacobian(net, x)
    for plan in (jb.plan(net, 1, kernels=False), jb.plan(net, 1, max_bytes=2**22)):
        planned = jb.jacobian(net, x, plan=plan)
        assert jb.jacobian(net, x).tobytes() == first.tobytes()
        assert jb.jacobian(net, x, plan=plan).tobytes() == planned.tobytes()


@pytest.mark.parametrize("kernels", [True, False])
def test_the_value_of_the_input_is_the_input(kernels):
    """``of=0``, with rows and columns of its Jacobian, which is the identity."""
    net, X = jb.Network.random([3, 5, 2], seed=0), np.arange(12.0).reshape(4, 3)
    for B in (4, 1):
        choice = {"of": 0, "rows": [0, 2], "columns": [2, 1]}
        plan = jb.plan(net, B, **choice, kernels=kernels)
        value, J = jb.value_and_jacobian(net, X[:B], **choice, plan=plan)
        assert np.array_equal(value, X[:B])
        assert np.array_equal(J, [[[0, 0], [1, 0]]] * B)


def test_one_row_of_a_wide_layer_costs_one_row():
    """A row of a wide softmax or tanh: nothing as large as the whole is made on the way."""
    for name in ("softmax", "tanh"):
        net = jb.Network([jb.Elementwise(name)], inputs=4000)
        x = points(net, 1)
        plan = jb.plan(net, 1, rows=[0])
        tracemalloc.start()
        J = jb.jacobian(net, x, rows=[0])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert J.shape == (1, 1, 4000)
        assert peak <= plan.working_bytes + 2**20
        assert plan.working_bytes < 3 * 2**21


# --- the range of the dtype -----------------------------------------------------------------------


@st.composite
def scaled_chains(draw):
    """Draw a piecewise linear network whose layers are scaled by 2^±665 or so, about 1e±200."""
    net = draw(jst.exact_networks(max_depth=5, max_width=4))
    powers = [draw(st.sampled_from([-665, -300, 0, 300, 665])) for _ in net.layers]
    layers = [
        jb.Dense(np.ldexp(layer.W, power), np.zeros(len(layer.b)), layer.activation)
        for layer, power in zip(net.layers, powers, strict=True)
    ]
    return jb.Network(layers)


@given(st.data())
def test_no_spurious_overflow(data):
    """When the true Jacobian is representable, the answer is finite, and right."""
    net = data.draw(scaled_chains())
    x = data.draw(jst.whole_points(net))
    x = np.ldexp(x, data.draw(st.sampled_from([-1000, 0])))
    try:
        trace = jb.trace(net, x)
    except jb.NotFiniteError:
        return  # the values themselves leave the range
    exact = product_of_fractions(net, trace, lambda entry: entry)
    largest = max(abs(entry) for entry in exact.ravel())
    J = jb.jacobian(net, [x])[0]
    if largest <= Fraction(np.finfo(float).max):
        assert np.isfinite(J).all()
        bound = chain_bound(jb.linearize(net, trace).factors, float)
        # within the rounding of the path sums; entries below the smallest normal number round to
        # multiples of the smallest one, as often as there are layers and terms
        P = product_of_fractions(net, trace, abs)
        for claimed, true, paths_ in zip(J.ravel(), exact.ravel(), P.ravel(), strict=True):
            room = Fraction(float(np.expm1(bound.roundings * bound.unit))) * paths_
            assert abs(Fraction(float(claimed)) - true) <= room + underflow(net, trace)


def product_of_fractions(net, trace, of_entry):
    """Return ``D^L W^L ... D^1 W^1`` in fractions, a function of every entry first."""
    product = np.array(
        [[Fraction(int(i == j)) for j in range(net.widths[0])] for i in range(net.widths[0])]
    )
    for l, layer in enumerate(net.layers, start=1):
        D = activation_map(layer.activation, trace.preactivation(l)).to_dense()
        for M in (layer.W, D):
            exact = [[of_entry(Fraction(float(v))) for v in row] for row in M]
            product = np.array(exact) @ product
    return product


def underflow(net, trace):
    """Bound what underflow of a partial product can take away: carried on by what is left."""
    tiny, gain = Fraction(2) ** -1074, Fraction(1)
    for layer in net.layers:
        norm = max(sum(abs(Fraction(float(v))) for v in row) for row in layer.W)
        gain *= max(norm * layer.W.shape[1], 1)
    return 10 * len(net.layers) * tiny * gain


def test_an_overflow_on_the_way_is_repaired():
    """1e200 · 1e200 · 1e-300: the first product overflows in reverse order, the whole does not."""
    net = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    # four decimals and two products are rounded, each by 1.2e-16 of itself at most
    assert jb.jacobian(net, [1e-200])[0, 0] == pytest.approx(1e100, rel=1e-15)
    assert jb.jacobian(net, [[1e-200]], columns=[0])[0, 0, 0] == pytest.approx(1e100, rel=1e-15)
    too_large = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200)])
    assert jb.jacobian(too_large, [0.0]) == np.inf


def test_values_out_of_range_are_named():
    net = jb.Network([jb.Dense([[1e200]]), jb.Dense([[1e200]], activation="tanh")])
    with pytest.raises(jb.NotFiniteError, match=r"z\^2 of Dense 1 -> 1 tanh leaves the range"):
        jb.jacobian(net, [[1e-200], [1.0]])


def test_what_was_asked_before_answers_the_same_question_alone():
    """At a point that fits every node: other ends and outputs, into memory of one's own."""
    net = jb.Network.random([3, 3, 3, 3], "tanh", seed=0)
    x = np.array([0.3, -0.2, 0.1])
    lin = jb.linearize(net, x)
    bound = 1e3 * np.finfo(float).eps  # products of three matrices of entries below 2
    for _ in range(3):
        assert_within(jb.jacobian(net, x), lin.jacobian(), bound)
        value, J = jb.value_and_jacobian(net, x)
        assert_within(value, net(x), bound)
        assert_within(J, lin.jacobian(), bound)
        for of, wrt in ((3, 1), (3, 2), (2, 0), (2, 1), (1, 0), (3, 3)):
            expected = lin.jacobian(of, wrt)
            assert_within(jb.jacobian(net, x, of=of, wrt=wrt), expected, bound)
            assert_within(jb.jacobian(net, x, of=net.names[of], wrt=wrt), expected, bound)
            value, J = jb.value_and_jacobian(net, x, of=of, wrt=wrt)
            assert_within(value, lin.trace.activation(of), bound)
            assert_within(J, expected, bound)
        assert_within(jb.jacobian(net, x, wrt=2), lin.jacobian(3, 2), bound)
        assert_within(jb.jacobian(net, x, of=1), lin.jacobian(1, 0), bound)
        assert_within(jb.jacobian(net, x, rows=[2]), lin.jacobian()[[2]], bound)
        assert_within(jb.jacobian(net, x, columns=[1, 0]), lin.jacobian()[:, [1, 0]], bound)
        out = np.full((3, 3), np.nan)
        assert jb.jacobian(net, x, out=out) is out
        assert_within(out, lin.jacobian(), bound)
        again = jb.Network(net.layers[:2])
        assert_within(jb.jacobian(again, x), lin.jacobian(2, 0), bound)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_the_same_point_in_another_dtype_is_the_same_point(dtype):
    """Also where the question was asked before, and the program alone answers it."""
    net = jb.Network.random([3, 5, 2], "tanh", seed=0)
    x = np.array([1.0, -2.0, 3.0])
    J = [jb.jacobian(net, x) for _ in range(2)][1]
    assert_equal(jb.jacobian(net, x.astype(dtype)), J)
    assert_equal(jb.jacobian(net, x), J)


@pytest.mark.parametrize("ask", [jb.jacobian, jb.value_and_jacobian, jb.hessian])
@pytest.mark.parametrize("size", [5e-324, 1e-200, 1e200])
def test_a_point_that_was_asked_before_raises_no_flag(ask, size):
    """The square of what is looked at would underflow, or leave the range; here flags raise."""
    net = jb.Network.random([3, 5, 2], seed=0)
    with np.errstate(all="raise"):
        for _ in range(3):
            ask(net, np.full(3, size))
        for bad in (np.inf, -np.inf, np.nan):
            with pytest.raises(jb.NotFiniteError):
                ask(net, np.array([1.0, bad, -bad]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["ignore", "raise"])
def test_the_quick_look_for_numbers_that_are_not_finite(dtype, mode):
    """However NumPy is told to treat infinity times 0."""
    with np.errstate(all=mode):
        assert all_finite(np.array([1.0, -2.0, 0.0, np.finfo(dtype).max], dtype))
        for wrong in (np.inf, -np.inf, np.nan):
            for at in range(3):
                row = np.ones(3, dtype)
                row[at] = wrong
                assert not all_finite(row)
