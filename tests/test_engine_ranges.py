"""What cannot overflow is known: true up to the end of the range, and not said too rarely."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians.activations import FIXED
from jacobians.engine import jacobian_at
from jacobians.factors import factors_of
from jacobians.linearization import layer_map
from jacobians.program import Limits
from jacobians.rounding import chain_bound

ACTIVATIONS = ("identity", "relu", "relu6", "tanh", "softplus", "softsign", "sin", "sigmoid")
ACTIVATIONS += ("gaussian", "gelu", "gelu_tanh", "silu", "mish", "selu")


def chain(powers, activation="identity", dtype=np.float64):
    """A network of one unit per layer, its weights 2^power."""
    weights = [np.array([[2.0**power]], dtype) for power in powers]
    return jb.Network([jb.Dense(W, activation=activation) for W in weights])


def products_stay_in_range(net, of, wrt):
    """What the program says of its products."""
    return jb.plan(net, of=of, wrt=wrt).program(net, False).bounded


# Of the slope, or of the rows of the Jacobian, and of the value: the supremum, or the next round
# number above it.  The others claim nothing.
BOUNDS = {
    **dict.fromkeys(["identity", "relu", "softplus", "leaky_relu", "elu", "celu"], (1, np.inf)),
    **dict.fromkeys(["sigmoid", "tanh", "softsign", "sin", "gaussian", "softmax"], (1, 1)),
    **dict.fromkeys(["gelu", "gelu_tanh", "silu", "mish"], (1.2, np.inf)),
    "relu6": (1, 6),
    "selu": (2, np.inf),
    "log_softmax": (2, np.inf),
    "hard_sigmoid": (1 / 6, 1),
    "hard_tanh": (1, 1),
}


@pytest.mark.parametrize("name", [*jb.activations.NAMES, "log_odds"])
def test_what_an_activation_claims_holds_and_is_no_more(name):
    sigma = jb.activation(name)
    slope, value = BOUNDS.get(name, (np.inf, np.inf))
    assert (sigma.slope_bound, sigma.value_bound) == (slope, value)
    z = np.linspace(-30, 30, 6_001)
    if isinstance(sigma, jb.activations.VectorActivation):
        z = np.random.default_rng(0).uniform(-30, 30, (500, 4))
        seen = np.abs(sigma.matrix(z)).sum(axis=-1).max()
    else:
        with np.errstate(all="ignore"):
            seen = np.nanmax(np.abs(sigma.derivative(z[z > 0] if name in ("sqrt", "log") else z)))
    assert seen <= slope * (1 + 1e-15)  # the sums of a row are rounded
    assert slope == np.inf or name in ("sigmoid", "softmax") or seen > 0.8 * slope
    if value < np.inf:
        assert np.abs(sigma(z)).max() <= value


def test_parameters_move_what_an_activation_claims():
    for name, parameters, slope, value in (
        ("leaky_relu", {"slope": -3.0}, 3, np.inf),
        ("elu", {"alpha": 2.5}, 2.5, np.inf),
        ("elu", {"alpha": -2.5}, 2.5, np.inf),
        ("celu", {"alpha": 2.5}, 1, np.inf),
        ("hard_sigmoid", {"low": -1.0, "high": 3.0}, 0.25, 1),
        ("hard_tanh", {"low": -5.0, "high": 2.0}, 1, 5),
    ):
        sigma = jb.activation(name, **parameters)
        assert (sigma.slope_bound, sigma.value_bound) == (slope, value)


@pytest.mark.parametrize("name", [n for n in jb.activations.NAMES if "softmax" not in n])
def test_flat_is_what_has_slope_zero_on_one_side_and_not_everywhere(name):
    """Of it many units may be dead, which then are left out of products."""
    sigma, z = jb.activation(name), np.array([-10.0, 0.5, 10.0])
    with np.errstate(all="ignore"):  # of sqrt and log
        dead = sigma.derivative(z) == 0
    assert sigma.flat == (dead.any() and not dead.all())


# --- partial products -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_stay_in_range_up_to_an_eighth_of_the_largest_number(dtype):
    """2^top is max / 8, and 2^(top + 2) is max / 2; whatever the factors around."""
    top = int(np.finfo(dtype).maxexp) - 3
    for powers, stay in (
        ([top], True),
        ([top + 2], False),
        ([top - 4, 4], True),
        ([top - 4, 6], False),
        ([-90, top, -90], True),  # a small factor does not make room for others: orders differ
        ([-90, top, 2], False),
        ([top, -90, 2], False),
        ([top // 2, -5, top - top // 2 + 2], False),
    ):
        net = chain(powers, dtype=dtype)
        assert products_stay_in_range(net, len(powers), 0) is stay, powers
    net = chain([top, 2, top], dtype=dtype)
    blocks = [products_stay_in_range(net, of, wrt) for wrt in range(3) for of in range(wrt + 1, 4)]
    assert blocks == [True, False, False, True, False, True]


def test_rows_are_added_up_by_size():
    """|W| is the largest sum of absolute values of a row: entries that cancel still count."""
    end, half = 2.0**1021, 2.0**1020
    for rows, stay in (
        ([[half, 0.0], [0.0, half]], True),
        ([[end, end], [0.0, 1.0]], False),
        ([[0.0, 1.0], [end, -end]], False),
        ([[end, 0.0], [-end, 0.0]], True),
    ):
        assert products_stay_in_range(jb.Network([jb.Dense(rows)]), 1, 0) is stay
    assert products_stay_in_range(jb.Network([jb.Scale([1.0, -end, 1.0])]), 1, 0)
    assert not products_stay_in_range(jb.Network([jb.Scale([1.0, -4 * end, 1.0])]), 1, 0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_counted_at_their_largest(name):
    """Never less than |sigma'| anywhere, and at most 1.2 or, where that is larger, 2."""
    sigma, layers = FIXED[name], 64
    largest = np.abs(sigma.derivative(np.linspace(-40, 40, 400_001))).max()
    room = 1021 - layers * np.log2(max(largest, 1))
    assert products_stay_in_range(chain([100, *[0] * layers], name), layers + 1, 0)
    assert not products_stay_in_range(chain([room + 2, *[0] * layers], name), layers + 1, 0)
    most = max(1.2, 2.0 * (largest > 1.2)) if largest > 1 else 1.0
    assert products_stay_in_range(
        chain([1020 - layers * np.log2(most), *[0] * (layers - 2)], name), layers - 1, 0
    )


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_slopes_of_vectors_are_counted_by_rows(name):
    """The sums of absolute values of a row of the Jacobian: 2 p (1 - p), and 2 (1 - p)."""
    most = 2 if name == "log_softmax" else 1
    net = jb.Network([jb.Dense([[2.0**1018], [0.0]], activation=name)] + [jb.Elementwise(name)])
    assert products_stay_in_range(net, 2, 0)
    net = jb.Network([jb.Dense([[2.0**1020], [0.0]], activation=name)] + [jb.Elementwise(name)])
    assert products_stay_in_range(net, 2, 0) == (most == 1)


def test_nothing_is_known_of_what_others_wrote():
    own = jb.Activation("tanh", lambda z: 1e300 * z, lambda z: 0 * z + 1e300)
    for sigma in ("exp", "square", own):
        net = jb.Network([jb.Dense([[1.0]], activation=sigma)])
        assert not products_stay_in_range(net, 1, 0)

    class Large(jb.Layer):
        def output_width(self, inputs):
            return inputs

        def preactivation(self, a):
            return 1e300 * a

    @layer_map.register
    def _(layer: Large, a):
        return jb.Diagonal(np.full(a.shape, 1e300))

    assert not products_stay_in_range(jb.Network([Large()], inputs=1), 1, 0)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    ("name", "z"),
    [("leaky_relu", [1.0, -1e308]), ("selu", [1.75e308, 1.0]), ("elu", [-800.0, 1e308])],
)
def test_a_value_that_leaves_the_range_at_the_end_is_named(name, z, kernels):
    """Of slopes above 1, where the preactivation stays in range and nothing comes after it."""
    sigma = jb.activation(name, slope=3.0) if name == "leaky_relu" else jb.activation(name)
    net = jb.Network([jb.Dense(np.eye(2), activation=sigma)])
    for X in (np.array(z), np.array([[1.0, 2.0], z, [0.5, 1.0]])):
        plan = jb.plan(net, len(X), kernels=kernels)
        if name == "elu":  # of slope 1
            assert np.isfinite(jb.value_and_jacobian(net, X, plan=plan)[0]).all()
            continue
        for ask in ({}, {"plan": plan}, {}):
            with pytest.raises(jb.NotFiniteError, match=f"of Dense 2 -> 2 {name}.* leaves the ra"):
                jb.value_and_jacobian(net, X, **ask)
        assert np.isfinite(jb.jacobian(net, X, plan=plan)).all()  # its slopes are in range


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_stay_within_what_is_said_of_them(name):
    sigma = FIXED[name]
    assert np.abs(sigma(np.linspace(-1000, 1000, 10_001))).max() <= sigma.value_bound


# --- both ends of the range -----------------------------------------------------------------------


@st.composite
def ill_scaled(draw):
    """Draw a network of small layers scaled by powers of two from end to end of the range."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    end = int(np.finfo(dtype).maxexp) - 8
    widths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    layers = []
    for n, m in itertools.pairwise(widths):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        powers = rng.integers(-end, end + 1, (m, n)) if draw(st.booleans()) else 0
        power = draw(st.integers(-end, end))
        W = np.ldexp(rng.choice([-1.5, 0, 1, 1.25], (m, n)), np.clip(powers + power, -end, end))
        name = draw(st.sampled_from(["exp", "tanh", "relu", "identity", "square", "sigmoid"]))
        b = rng.choice([0.0, 3.0, -30.0, 60.0], m)
        layers.append(jb.Dense(W.astype(dtype), b.astype(dtype), name))
    return jb.Network(layers)


@given(ill_scaled(), st.sampled_from([0, 10**9]), st.sampled_from([-40, 0, 3]))
def test_ill_scaled_networks_are_within_the_bound_of_exact_fractions(net, table, power):
    """Every path of the engine, near both ends of the range, against the product in fractions."""
    x = np.ldexp(np.ones(net.widths[0], net.dtype), power)
    try:
        trace = jb.trace(net, x)
        lin = jb.linearize(net, trace)
        factors = lin.factors
    except jb.NotFiniteError:
        return
    exact = np.array([[Fraction(int(i == j)) for j in range(len(x))] for i in range(len(x))])
    for A in reversed(factors):
        exact = np.array([[Fraction(float(v)) for v in row] for row in A.to_dense()]) @ exact
    bound = chain_bound(factors, net.dtype).single()
    J = jacobian_at(trace, jb.plan(net, limits=Limits(table=table)))
    for computed, true, allowed in zip(J.ravel(), exact.ravel(), bound.ravel(), strict=True):
        if np.isfinite(allowed):
            assert np.isfinite(computed)
            assert abs(Fraction(float(computed)) - true) <= Fraction(float(allowed))


def test_a_table_is_made_only_where_its_products_stay_in_range():
    """1e-200 · e^575 · 1e-200: without the slope in between nothing would be left."""
    net = jb.Network([jb.Dense([[1e-200]], [575.0], "exp"), jb.Dense([[1e-200]])])
    for X in ([0.0], [[0.0]]):
        # e^575 is given to four digits here
        assert_within(jb.jacobian(net, X).ravel(), [5.240e-151], 1e-154)


def test_a_vector_that_leaves_the_range_on_the_way_comes_back():
    """J v = 1e100 where W v = 1e400 on the way; forward and back, also through a sum."""
    chain = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    branches = jb.Network([jb.Residual(list(chain.layers))])
    for net in (chain, branches):
        for X in ([1e-200], [[1e-200]]):
            # four decimals and three operations are rounded, each by 1.2e-16 of itself at most
            for verb in (jb.jvp, jb.vjp):
                assert verb(net, X, np.ones_like(X)).ravel()[0] == pytest.approx(1e100, rel=1e-15)
            assert jb.jacobian(net, X).ravel()[0] == pytest.approx(1e100, rel=1e-15)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sums_of_the_largest_weights_come_back_whatever_their_sign(sign):
    """1e308 (1 + 1) leaves the range before 1e-300 brings it back: of weights of either sign."""
    W = np.full((1, 2), sign * 1e308)
    for layers in (
        [jb.Dense([[1e-300]]), jb.Dense(W), jb.Dense([[1.0], [1.0]])],
        [jb.Dense([[1e-300]]), jb.Dense([[1.0, 1.0]]), jb.Scale(W[0]), jb.Dense([[1.0], [1.0]])],
    ):
        net = jb.Network(layers[::-1])
        for X in ([1e-9], [[1e-9]]):
            # three decimals and three operations are rounded, each by 1.2e-16 of itself at most
            assert jb.jacobian(net, X).ravel()[0] == pytest.approx(sign * 2e8, rel=1e-15)


GRAPHS = {name: net for name, net in NETWORKS.items() if not net.is_path}


@pytest.mark.parametrize("net", GRAPHS.values(), ids=GRAPHS)
def test_the_bounds_of_factors_hold_for_their_product(net):
    """No row of J has absolute values that add up to more than the product of the bounds."""
    bound = np.prod([max(1.0, factor.bound) for factor in factors_of(net, net.depth, 0)])
    for J in jb.jacobian(net, 3 * points(net, 5)):
        assert np.abs(J).sum(axis=1).max(initial=0) <= bound * (1 + 1e-5)  # J itself is rounded


def test_the_bound_of_a_graph_is_that_of_all_its_paths():
    """Of whole numbers of one sign nothing cancels: the bound is the Jacobian itself."""
    two, five, three, seven = (jb.Dense([[w]], activation="relu") for w in (2.0, 5.0, 3.0, 7.0))
    nodes = {
        "a": (two, "x"),
        "b": (five, "x"),
        "c": (jb.Add(), "a", "b"),
        "d": (three, "a"),
        "e": (jb.Add(), "d", "c"),
        "f": (seven, "b"),
        "y": (jb.Add(), "e", "f"),
    }
    net = jb.Network.graph(nodes, inputs={"x": 1})
    (factor,) = factors_of(net, net.depth, 0)
    assert factor.kind == "graph"
    assert factor.bound == 2 + 5 + 3 * 2 + 7 * 5
    assert_equal(jb.jacobian(net, [1.0]), [[factor.bound]])


def test_bounded_networks_need_no_look_at_their_results():
    """Of slopes up to 1 and finite weights, in a block too; exp has no bound."""
    for sigma, is_bounded in (("tanh", True), ("exp", False)):
        block = jb.Residual([jb.Dense(np.eye(3), activation=sigma), jb.Dense(2 * np.eye(3))])
        net = jb.Network([block, jb.Dense(np.ones((2, 3)))])
        assert jb.plan(net).program(net, False).bounded == is_bounded


def test_the_network_is_asked_at_ones_if_it_has_no_value_at_zeros():
    """``exp((1000 (x - 1))²)`` is in range near 1 alone."""
    first = jb.Dense(1000 * np.eye(2), [-1000.0, -1000.0], "square")
    net = jb.Network([first, jb.Dense([[1.0, 1.0]], activation="exp")])
    assert jb.plan(net).flops > 0
