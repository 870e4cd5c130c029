"""Layers, networks and traces: values, widths, dtypes, names, kinks, parameters."""

import copy
import pickle
from contextlib import suppress

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())


@given(st.data())
def test_values_are_sums_over_indices(data):
    """z_i = sum_j W_ij a_j + b_i, exactly on exact networks."""
    net = data.draw(jst.exact_networks())
    a = x = data.draw(jst.whole_points(net))
    for layer in net.layers:
        z = [sum(w * v for w, v in zip(row, a, strict=True)) for row in layer.W] + layer.b
        a = layer.activation(np.asarray(z))
    assert_equal(net(x), a)


@every_network
def test_a_batch_of_values_is_a_stack(net):
    X = points(net, 3)
    Y = net(X)
    assert Y.shape == (3, net.widths[-1])
    assert Y.dtype == net.dtype
    for x, y in zip(X, Y, strict=True):
        # another matrix kernel: some ulps of numbers of order one, more of them in float32
        assert_within(net(x), y, 1e3 * np.finfo(net.dtype).eps * (1 + np.abs(y)))
    assert net(X[:0]).shape == (0, net.widths[-1])


@every_network
def test_trace_holds_every_step(net):
    X = points(net, 2)
    trace = jb.trace(net, X)
    assert_equal(trace.activation(0), X)
    assert_equal(trace.output, net(X))
    for l, layer in enumerate(net.layers, start=1):
        assert_equal(trace.preactivation(l), layer.preactivation(*trace.entering(l)))
        assert_equal(trace.activation(l), layer.activation(trace.preactivation(l)))
    assert trace.batch == (2,)
    assert_equal(trace.point(1).output, trace.output[1])


@pytest.mark.parametrize(("depth", "rest"), [(11, ""), (12, ", ...")])
def test_an_unknown_node_is_told_the_names_of_twelve(depth, rest):
    net = jb.Network([jb.Elementwise("tanh")] * depth, inputs=2)
    shown = ", ".join(net.names[:12])
    with pytest.raises(ValueError, match="no node is called") as refused:
        net.number("unheard of", "here")
    assert str(refused.value) == (f"here: no node is called 'unheard of'; there are {shown}{rest}.")


@pytest.mark.parametrize("name", ["log", "reciprocal", "exp", "square", "sqrt"])
@pytest.mark.parametrize("x", [0.0, -1.0, 1e300, 1e-300])
def test_a_value_that_is_none_is_told_and_nothing_else_is_raised(name, x):
    """Division by zero, overflow, invalid operations, and what is none to the next layer."""
    net = jb.Network([jb.Dense([[x]]), jb.Elementwise(name)])
    with np.errstate(all="ignore"):
        exists = bool(np.isfinite(jb.activation(name)(np.array([x]))).all())
    with np.errstate(all="raise"):
        if exists:
            assert np.isfinite(jb.trace(net, [1.0]).output).all()
            assert np.isfinite(net([1.0])).all()
        else:
            with pytest.raises(jb.NotFiniteError, match=f"{name} leaves the range of float64"):
                jb.trace(net, [1.0])
            for verb in (jb.jacobian, jb.Network.__call__):
                with suppress(jb.NotFiniteError):  # nothing else
                    verb(net, [1.0])


def test_a_path_reads_one_input_and_gives_its_last_layer():
    net = jb.Network.random([3, 5, 2], seed=0)
    assert net.inputs == {"x": slice(0, 3)}
    assert net.names[0] == "x"
    assert net.widths == (3, 5, 2)
    assert net.shapes == ((3,), (5,), (2,))
    assert net.outputs == {net.names[-1]: slice(0, 2)}
    assert net.sources == ((0,), (1,))
    assert net.is_path
    assert not jb.Network([jb.Elementwise("tanh"), jb.Residual([jb.Scale([2.0])])]).is_path


def test_mixed_dtypes_are_settled_at_construction():
    first = jb.Dense(np.ones((2, 3), np.float32))
    assert first.dtype == np.float32
    for layer in (first, jb.Elementwise("tanh")):
        assert layer.astype(np.dtype(np.float32)) is layer
    assert jb.Network([first]).dtype == np.float32
    both = jb.Network([first, jb.Scale([1.0, 2.0])])
    assert both.dtype == np.float64
    assert {layer.dtype for layer in both.layers} == {np.dtype(np.float64)}
    assert jb.Network([jb.Dense(np.ones((2, 3), int))]).dtype == np.float64
    assert jb.Network([jb.Dense(np.ones((2, 3), np.float16))]).dtype == np.float32


@every_network
def test_float32_goes_in_and_comes_out(net):
    single = net.astype(np.float32)
    X = points(single, 2)
    assert single.dtype == X.dtype == np.float32
    J, bound = jb.jacobian_with_bound(single, X)
    assert (J.dtype, bound.dtype) == (np.float32, np.float64)
    assert jb.linearize(single, X).chain.dtype == np.float32
    assert single.astype(np.float64).dtype == np.float64
    assert single.astype("float32") is single
    # float64 points are taken into the network's dtype, not the other way round
    assert jb.jacobian(single, X.astype(np.float64)).dtype == np.float32


def test_elementwise_layers_take_the_width_that_comes():
    net = jb.Network([jb.Elementwise("relu"), jb.Dense(np.ones((2, 3))), jb.Elementwise("tanh")])
    assert net.widths == (3, 3, 2, 2)
    assert jb.Network([jb.Elementwise("relu")], inputs=4).widths == (4, 4)


def test_names_travel_with_the_network():
    net = jb.Network([jb.Dense(np.ones((1, 2)))], input_names=["a", "b"], output_names=["c"])
    for other in (net.astype(np.float32), net.with_parameters(net.parameters)):
        assert (other.input_names, other.output_names) == (("a", "b"), ("c",))


def test_names_are_given_anew_one_side_or_both():
    """What is not given is kept; as many as there are entries."""
    net = jb.Network.random([2, 4, 3], seed=0).with_names(["a", "b"], ["p", "q", "r"])
    for changed, names in (
        ({}, (("a", "b"), ("p", "q", "r"))),
        ({"inputs": ["c", "d"]}, (("c", "d"), ("p", "q", "r"))),
        ({"outputs": ["s", "t", "u"]}, (("a", "b"), ("s", "t", "u"))),
    ):
        other = net.with_names(**changed)
        assert (other.input_names, other.output_names) == names
        assert_equal(other.parameters, net.parameters)
    for wrong in ({"inputs": ["c", "d", "e"]}, {"outputs": ["s", "t"]}):
        with pytest.raises(jb.ShapeError, match=f"with_names: {next(iter(wrong))}"):
            net.with_names(**wrong)


def test_values_are_new_arrays_that_may_be_written():
    net = NETWORKS["linear"]
    X = points(net, 2)
    for x in (X, X[0], X[:0]):
        value = net(x)
        before = value.copy()
        value += 1
        assert_equal(net(x), before)


def test_sums_that_leave_the_range_on_the_way_are_told_and_nothing_else_is_raised():
    net = jb.Network([jb.Dense([[1e300, -1e300]]), jb.Dense([[1e300]])])
    with np.errstate(all="raise"):
        for verb in (jb.Network.__call__, jb.trace):
            for x in ([1.0, 2.0], [1e300, 1e300], [[0.0, 0.0], [1e300, -1e300]]):
                with pytest.raises(jb.NotFiniteError, match="leaves the range of float64"):
                    verb(net, x)


def test_a_preactivation_out_of_range_is_told_though_its_activation_is_in_range():
    """And with it the node, the layer and the unit; one of several units, of one of two points."""
    net = jb.Network([jb.Dense([[1.0], [1e300]], activation="tanh"), jb.Dense([[1.0, 1.0]])])
    for x in ([1e300], [[0.0], [1e300]]):
        said = r"trace: z\^1 of Dense 1 -> 2 tanh leaves the range of float64 at unit 1"
        with pytest.raises(jb.NotFiniteError, match=said):
            jb.trace(net, x)


def test_what_a_layer_reads_moves_all_of_it_point_by_point():
    first, second = np.zeros((3, 4), bool), np.zeros((3, 2), bool)
    first[0, 2] = second[2, 1] = True
    assert_equal(jb.Add().may_move(first, second), [[True], [False], [True]])


@given(jst.networks())
def test_parameters_go_out_and_come_back(net):
    theta = net.parameters
    assert theta.shape == (net.parameter_count,)
    again = net.with_parameters(theta)
    assert_equal(again.parameters, theta)
    assert again.widths == net.widths
    doubled = net.with_parameters(2 * theta)
    for old, new in zip(net.layers, doubled.layers, strict=True):
        if isinstance(old, jb.Dense):
            assert_equal(new.W, 2 * old.W)
            assert_equal(new.b, 2 * old.b)


def test_parameters_stand_in_the_documented_order():
    """(vec W^1, b^1, ..., vec W^L, b^L), columns stacked."""
    net = jb.Network([jb.Scale([1.0, 1.0]), jb.Dense([[1, 2], [3, 4], [5, 6]], [7, 8, 9])])
    assert net.parameters.tolist() == [1, 3, 5, 2, 4, 6, 7, 8, 9]


def test_random_networks_follow_their_seed():
    one, same, other = (jb.Network.random([3, 4, 2], seed=s) for s in (1, 1, 2))
    assert_equal(one.parameters, same.parameters)
    assert not np.array_equal(one.parameters, other.parameters)
    assert [str(layer.activation) for layer in one.layers] == ["tanh", "identity"]


def test_random_networks_are_the_draws_of_their_seed():
    """W^l = N / sqrt(n), b^l = N / 10, drawn in this order: a seed means the same for ever."""
    net, rng = jb.Network.random([3, 5, 2], seed=7), np.random.default_rng(7)
    for layer in net.layers:
        m, n = layer.W.shape
        assert_equal(layer.W, rng.standard_normal((m, n)) / np.sqrt(n))
        assert_equal(layer.b, 0.1 * rng.standard_normal(m))


def test_a_network_without_weights_has_no_parameters():
    net = jb.Network([jb.Scale([1.0, 2.0]), jb.Elementwise("tanh")])
    assert (net.parameter_count, net.parameters.shape) == (0, (0,))
    assert net.with_parameters([]).widths == net.widths


@every_network
def test_copies_and_pickles_compute_the_same(net):
    X = points(net, 2)
    for twin in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_equal(jb.jacobian(twin, X), jb.jacobian(net, X))
        assert repr(twin) == repr(net)


# --- kinks ----------------------------------------------------------------------------------------


def test_kinks_name_layer_unit_and_point():
    net = jb.Network(
        [jb.Dense([[1, -1], [2, 1]], [0, 0], "relu"), jb.Dense([[1, 1]], [3], "relu6")]
    )
    trace = jb.trace(net, [[1, 1], [0, 0], [1, 2]])
    listed = [(k.point, k.layer, k.unit, k.at, k.preactivation) for k in trace.kinks()]
    assert listed == [
        (0, 1, 0, 0.0, 0.0),
        (1, 1, 0, 0.0, 0.0),
        (1, 1, 1, 0.0, 0.0),
        (0, 2, 0, 6.0, 6.0),
    ]
    assert jb.trace(net, [1.0, 2.0]).kinks() == ()
    near = jb.trace(net, [1.0, 1.25]).kinks(within=0.25)
    assert [(k.point, k.layer, k.unit, k.preactivation) for k in near] == [
        (None, 1, 0, -0.25),
        (None, 2, 0, 6.25),
    ]


def test_the_kink_of_a_max_pool_is_where_its_second_largest_entry_is():
    net = jb.Network([jb.MaxPool(2)], inputs=(1, 6))
    trace = jb.trace(net, [5.0, 3.0, 1.0, 1.5, 2.0, 2.0])
    assert [(k.unit, k.at, k.preactivation) for k in trace.kinks()] == [(2, 2.0, 2.0)]
    near = [(k.unit, k.at, k.preactivation) for k in trace.kinks(within=0.5)]
    assert near == [(1, 1.0, 1.5), (2, 2.0, 2.0)]


def test_a_trace_has_the_points_that_it_holds_and_tells_their_range():
    net = jb.Network([jb.Dense([[1.0, -1.0]], activation="relu"), jb.Dense([[5.0]])])
    trace = jb.trace(net, [[1.0, 2.0], [3.0, 1.0]])
    assert_equal(trace.point(1).stacked().output, trace.output[1:])
    for i in (2, 3):
        with pytest.raises(ValueError, match=f"the trace holds 2 points, got {i}"):
            trace.point(i)
    for call, words in ((trace.stacked, "a batch"), (lambda: trace.point(0).point(0), "one point")):
        with pytest.raises(ValueError, match=f"the trace of {words} already"):
            call()
    heads, rows = trace._table()
    assert [row[:2] for row in rows] == [
        [net.names[0], "input"],
        [net.names[1], "Dense 2 -> 1 relu"],
        [net.names[2], "Dense 1 -> 1 identity"],
    ]
    assert [row[2:] for row in rows] == [["", "1 to 3"], ["-1 to 2", "0 to 2"], ["0 to 10"] * 2]
    assert len(heads) == 4
    _, rows = jb.trace(net, np.zeros((0, 2)))._table()
    assert {words for row in rows for words in row[2:]} == {""}


def test_smooth_networks_have_no_kinks():
    net = NETWORKS["gelu hidden"]
    assert jb.trace(net, np.zeros(4)).kinks(within=10.0) == ()


# --- how things look ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (NETWORKS["softmax output"], "Network 5-7-4 float64, 74 parameters: tanh, softmax"),
        (jb.Dense(np.ones((2, 3)), activation="relu"), "Dense 3 -> 2 relu"),
        (jb.Scale([1.0, 2.0]), "Scale 2"),
        (
            jb.Elementwise(jb.activation("leaky_relu", slope=0.2)),
            "Elementwise leaky_relu(slope=0.2)",
        ),
        (jb.trace(NETWORKS["linear"], np.zeros((7, 3))), "Trace at 7 points of Network 3-5-2"),
        (jb.linearize(NETWORKS["linear"], np.zeros(3)), "Linearization at one point: 2x2 · 2x5"),
        (jb.Network.random([3] * 20, seed=0), "Network 3-3-3-3-...-3-3 float64, 228 parameters"),
    ],
)
def test_repr_is_one_line_with_kind_and_shape(thing, text):
    assert repr(thing).startswith(text)
    assert "\n" not in repr(thing)
