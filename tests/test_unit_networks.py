"""Laws of unit graphs: layered networks, names, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_graphs import graphs, points_of
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse import csr_array, issparse
from unit_cases import (
    cotangents,
    every_derivative,
    exact_cases,
    float_cases,
    sparse_with,
)

import jacobians as jb
from jacobians import strategies as jst
from jacobians.linearization import layer_map
from jacobians.rounding import chain_bound
from jacobians.units import UnitGraph

# --- layered networks -----------------------------------------------------------------------------


def blocks(net):
    ends = np.cumsum([0, *net.widths[1:]])
    return {l: slice(*ends[l - 1 : l + 1]) for l in range(1, net.depth + 1)}


@given(st.data(), jst.exact_networks())
def test_blocks_of_a_layered_network_are_the_chains_products(data, net):
    """Block (u, l) of (I - D A)^{-1} is D^u W^u ... D^{l+1} W^{l+1}, exactly."""
    x = data.draw(jst.whole_points(net))
    graph, lin = UnitGraph.from_network(net), jb.linearize(net, x)
    at, block = graph.linearize(x), blocks(net)
    T, J = at.total_derivative(), at.input_jacobian()
    for u in block:
        assert np.array_equal(at.values[block[u]], lin.trace.activation(u))
        assert np.array_equal(at.preactivations[block[u]], lin.trace.preactivation(u))
        assert (graph.levels[block[u]] == u).all()
        assert np.array_equal(J[block[u]], lin.jacobian(of=u, wrt=0))
        for l in range(1, u + 1):
            assert np.array_equal(T[block[u], block[l]], lin.jacobian(of=u, wrt=l))
        for l in range(u + 1, net.depth + 1):
            assert not T[block[u], block[l]].any()


@given(st.data(), jst.exact_networks())
def test_gradients_of_a_layered_network_are_backprops(data, net):
    """dC/dW^l, zeros of W^l included, delta^l and dC/dx, for half the squared error"""
    x, y = data.draw(jst.whole_points(net)), np.zeros(net.widths[-1])
    block = blocks(net)
    at = UnitGraph.from_network(net).linearize(x)
    g = at.gradients(y, jb.SquaredError(), range(block[net.depth].start, block[net.depth].stop))
    expected = jb.backprop.gradients(net, x, y, jb.SquaredError())
    assert g.loss == expected.loss
    assert np.array_equal(g.inputs, expected.inputs)
    for l, W in enumerate(expected.weights, start=1):
        computed = g.edges[block[l]][:, block[l - 1]] if l > 1 else g.input_edges[block[1]]
        assert computed.nnz == W.size
        assert np.array_equal(computed.toarray(), W)
        assert np.array_equal(g.deltas[block[l]], expected.deltas[l - 1])
        assert np.array_equal(g.biases[block[l]], expected.biases[l - 1])


@given(st.data(), jst.networks(last=jst.HIDDEN, dtypes=(np.float64, np.float32)))
def test_blocks_agree_with_the_chain_at_the_same_slopes_within_its_bound(data, net):
    """Scale and Elementwise layers too; D is the graph's, so that only the products differ."""
    x = data.draw(jst.points(net, bound=2.0))
    graph, block = UnitGraph.from_network(net), blocks(net)
    at = graph.linearize(x)
    T = at.total_derivative()
    assert T.dtype == net.dtype
    factors = []
    maps = jb.linearize(net, x).factors[1::2]  # W^L, ..., W^1 without the D between them
    for u in range(net.depth, 1, -1):
        factors += [jb.Diagonal(at.slopes[block[u]]), maps[net.depth - u]]
        chain = jb.Product([jb.Identity(net.widths[-1], net.dtype), *factors]).to_dense()
        computed = T[block[net.depth], block[u - 1]]
        assert (np.abs(computed - chain) <= chain_bound(factors, net.dtype).pair()).all()


def test_units_cannot_mix_a_whole_layer():
    net = jb.Network([jb.Dense([[1, 2], [3, 4]], activation="softmax")])
    with pytest.raises(TypeError, match=r"layer 1 \(Dense 2 -> 2 softmax\): softmax mixes"):
        UnitGraph.from_network(net)
    with pytest.raises(TypeError, match="unit 0 has one preactivation, but log_softmax"):
        UnitGraph([[0]], [[1]], None, "log_softmax")


class Rotation(jb.Layer):
    """A layer of one's own: ``z`` is ``a``, its entries moved on by one."""

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return np.roll(a, 1, axis=-1)


class KnownRotation(Rotation):
    piecewise_linear = True


@layer_map.register(Rotation)
def _(layer, a):
    return jb.Selection(np.roll(np.arange(a.shape[-1]), 1), a.shape[-1])


def test_a_layer_of_ones_own_comes_apart_if_it_says_that_it_is_affine():
    first = jb.Dense([[1, 2], [3, 4], [5, 6]])
    with pytest.raises(TypeError, match="say piecewise_linear = True in Rotation"):
        UnitGraph.from_network(jb.Network([first, Rotation()]))
    graph = UnitGraph.from_network(jb.Network([first, KnownRotation()]))
    assert graph([1.0, 0.0]).tolist() == [1, 3, 5, 5, 1, 3]


@given(st.data(), graphs(exact=True))
def test_graphs_of_layers_come_apart_too(data, net):
    """Branches, joins, convolutions and shaping: every node's entries, exactly."""
    x = data.draw(points_of(net, exact=True))
    lin = jb.linearize(net, x)
    if not all(layer.piecewise_linear and not layer.kinked for layer in net.layers):
        with pytest.raises(TypeError, match="adds up what arrives"):
            UnitGraph.from_network(net)
        return
    at, block = UnitGraph.from_network(net).linearize(x), blocks(net)
    J = at.input_jacobian()
    for l in block:
        assert np.array_equal(at.values[block[l]], lin.trace.activation(l))
        assert np.array_equal(J[block[l]], lin.jacobian(of=l))


# --- networks of blocks ---------------------------------------------------------------------------


@given(st.data(), exact_cases())
def test_a_graph_is_its_network_of_blocks(data, case):
    """Values, Jacobian and gradients, exactly; the certificate and the bound come with it."""
    assume(case.x.size)
    net, c = case.graph.to_network(), data.draw(cotangents(case))
    assert np.array_equal(net(case.x), case.at.values)
    assert np.array_equal(jb.jacobian(net, case.x), case.at.input_jacobian())
    assert np.array_equal(jb.vjp(net, case.x, c), case.at.backprop(c).inputs)
    assert jb.certify(net, case.x).holds
    again = UnitGraph.from_network(net)(case.x)
    assert np.array_equal(again[-len(case.b) :], case.at.values)


@given(float_cases())
def test_a_graph_is_its_network_within_the_bound(case):
    """At the same slopes: z is rounded differently where its terms are added in another order."""
    assume(case.x.size)
    net = case.graph.to_network()
    J, bound = jb.jacobian_with_bound(net, case.x)
    lin = jb.linearize(net, case.x)
    dense = [l for l, layer in enumerate(net.layers, start=1) if layer.parameters()]
    slopes = np.concatenate([lin.activation_map(l).diagonal() for l in dense])
    at = replace(case.at, slopes=net.layers[-1].preactivation(slopes))
    assert (np.abs(J - at.input_jacobian()) <= 2 * bound).all()


def test_no_network_of_blocks_has_cycles_or_no_input():
    with pytest.raises(ValueError, match="to_network: a graph with cycles"):
        UnitGraph([[0.5]], [[1]], cyclic=True).to_network()
    with pytest.raises(ValueError, match="at least one input"):
        UnitGraph([[0]], np.zeros((1, 0))).to_network()


# --- graphs by name -------------------------------------------------------------------------------

SKIP = {
    "edges": [("x1", "h1", 0.5), ("h1", "y", -2.0), ("x2", "y", 3.0), ("x1", "h2", 1.0),
              ("h2", "h1", -1.0), ("h2", "y", 0.25)],
    "inputs": ["x1", "x2"],
}  # fmt: skip


def test_named_units_stand_in_the_order_of_their_first_appearance():
    graph = UnitGraph.from_edges(**SKIP, biases={"h1": 0.1}, activations={"h1": "tanh"})
    assert graph.unit_names == ("h1", "y", "h2")
    assert graph.input_names == ("x1", "x2")
    assert graph.levels.tolist() == [2, 3, 1]
    assert [graph.index(name) for name in ("h1", "y", "h2", 2)] == [0, 1, 2, 2]
    h1 = np.tanh(0.5 * 2.0 - 1.0 * 2.0 + 0.1)
    values = graph([2.0, -1.0])
    assert values[2] == 2.0
    assert abs(values[0] - h1) < 1e-15  # a few roundings of numbers near 1
    assert abs(values[1] - (-2 * h1 - 3.0 + 0.25 * 2.0)) < 1e-14  # of numbers below 8
    assert graph.activations[0] == jb.activation("tanh")


def test_edges_and_inputs_may_come_from_generators():
    graph = UnitGraph.from_edges(iter(SKIP["edges"]), (name for name in SKIP["inputs"]))
    assert graph.input_names == ("x1", "x2")
    assert np.array_equal(graph([2.0, -1.0]), UnitGraph.from_edges(**SKIP)([2.0, -1.0]))


def test_a_graph_prints_as_equations_level_by_level():
    graph = UnitGraph.from_edges(**SKIP, biases={"h1": 0.1}, activations={"h1": "tanh"})
    assert str(graph) == graph.picture()
    count = len(graph.unit_names)
    assert graph.picture(count) == graph.picture(count + 1)
    assert graph.picture(count - 1).endswith("... and 1 unit more")
    assert str(graph).splitlines() == [
        "inputs   x1, x2",
        "level 1  h2 = x1",
        "level 2  h1 = tanh(-h2 + 0.5 x1 + 0.1)",
        "level 3  y = -2 h1 + 0.25 h2 + 3 x2",
    ]
    assert repr(graph) == (
        "UnitGraph 3 units on 3 levels, 2 inputs, 6 edges, float64: tanh, identity"
    )
    assert repr(graph.linearize([0.0, 0.0])) == (
        "UnitLinearization at one point of UnitGraph 3 units on 3 levels, 2 inputs, 6 edges, "
        "float64: tanh, identity"
    )
    g = graph.linearize([0.0, 0.0]).gradients([1.0], jb.SquaredError(), ["y"])
    assert repr(g).startswith("UnitGradients of an objective of 0.719")


def test_a_large_graph_prints_its_beginning():
    N = 1000
    graph = UnitGraph(np.eye(N, k=-1), np.ones((N, 30)))
    lines = str(graph).splitlines()
    assert len(lines) == 42
    assert lines[-1].endswith("... and 960 units more")
    assert lines[0] == "inputs   x0, x1, x2, x3, x4, x5, ..., x29"
    assert max(map(len, lines)) < 80
    lonely = UnitGraph([[0]], np.zeros((1, 0)), [2.0], "exp")
    assert str(lonely) == "inputs   -\nlevel 1  u0 = exp(2)"
    assert lonely(np.zeros(0)).tolist() == [np.exp(2.0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": [("x1", "a", 1), ("a", "b", 1), ("b", "a", 1)]}, "the edges a -> b -> a close"),
        ({"edges": [("x1", "a", 1), ("a", "a", 1)]}, "the edges a -> a close a cycle"),
        (
            {"edges": [("c", "d", 1), ("d", "b", 1), ("b", "c", 1), ("d", "y", 1), ("x1", "b", 1)]},
            "the edges c -> d -> b -> c close a cycle. Remove one of them, or say cyclic=True",
        ),
        (
            {"edges": [("x1", "y", 1), ("h", "y", 1), ("k", "y", 1)]},
            r"no edge leads to h, k \(as in h -> y\). Name it in inputs, or say what feeds it",
        ),
        ({"edges": [("x1", "h", 1), ("h", "x2", 1)]}, "the edge h -> x2 leads into the input x2"),
        ({"edges": [("x1", "y", 1), ("x1", "y", 2)]}, "the edge x1 -> y is given twice. Add"),
        ({"edges": []}, "expected at least one edge"),
        ({"biases": {"q": 1.0}}, "biases: nothing is called 'q'; there are h1, y, h2"),
        ({"biases": {"x1": 1.0}}, "biases: nothing is called 'x1'"),
        ({"activations": {"q": "tanh"}}, "activations: nothing is called 'q'"),
        ({"activations": {"y": "tangent"}}, "'tangent' is not known"),
        ({"inputs": ["x1", "x2", "x1"]}, "two units or inputs are called x1"),
        ({"edges": [("x1", "y", float("nan"))]}, "weights.* is nan"),
    ],
)
def test_named_graphs_refuse_what_is_not_one(changes, message):
    with pytest.raises(ValueError, match=message):
        UnitGraph.from_edges(**{**SKIP, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": [("x1", "y")]}, r"a triple \(source, target, weight\), but got \('x1', 'y'\)"),
        ({"edges": [(0, "y", 1.0)]}, "the ends of an edge are names"),
        ({"inputs": "x1"}, "expected a list of names, but got 'x1'"),
        ({"inputs": ["x1", 2]}, "inputs: expected names, but got 2"),
        ({"edges": [("x1", "y", "heavy")]}, "expected real numbers"),
    ],
)
def test_named_graphs_refuse_other_kinds(changes, message):
    with pytest.raises(TypeError, match=message):
        UnitGraph.from_edges(**{**SKIP, **changes})


def test_places_are_refused_by_name_and_number():
    graph = UnitGraph.from_edges(**SKIP)
    at = graph.linearize([1.0, 1.0])
    with pytest.raises(ValueError, match="x1 is an input, not a unit"):
        graph.index("x1")
    with pytest.raises(ValueError, match="nothing is called 'z'; there are h1, y, h2, x1, x2"):
        at.paths("z", "y")
    with pytest.raises(ValueError, match="units go from 0 to 2, got 3"):
        at.path_sum(0, 3)
    with pytest.raises(ValueError, match="expected different outputs"):
        at.gradients([1.0, 1.0], jb.SquaredError(), ["y", "y"])


# --- the entry points -----------------------------------------------------------------------------


def test_stored_zeros_of_a_sparse_matrix_are_edges_and_zeros_of_a_dense_one_are_not():
    """The gradient of a weight that happens to be 0 is delta_i h_j."""
    A, B = sparse_with(np.zeros((2, 2)), np.tri(2, k=-1, dtype=bool)), [[2.0], [1.0]]
    c = [0.0, 3.0]
    kept = UnitGraph(A, B).linearize([1.0]).backprop(c)
    assert (kept.edges.nnz, kept.edges.toarray()[1, 0]) == (1, 6.0)
    dropped = UnitGraph(A.toarray(), B).linearize([1.0]).backprop(c)
    assert issparse(dropped.edges)
    assert dropped.edges.nnz == 0
    loop = sparse_with(np.zeros((2, 2)), np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="the edges u0 -> u0 close a cycle"):
        UnitGraph(loop, B)


def test_a_graph_neither_changes_nor_keeps_the_callers_arrays():
    A = csr_array(([0.5, 1.5], [0, 0], [0, 0, 2]), shape=(2, 2))  # one edge in two entries
    B, b, x = np.array([[1.0], [0.0]]), np.array([0.0, 1.0]), np.array([3.0])
    graph = UnitGraph(A, B, b)
    at = graph.linearize(x)
    assert (A.nnz, graph.A.nnz) == (2, 1)
    A.data[:] = B[:] = b[:] = x[:] = 9.0
    assert at.values.tolist() == graph([3.0]).tolist() == [3.0, 7.0]
    assert at.x.tolist() == [3.0]
    for kept in (graph.A.data, graph.B.indices, graph.biases, at.values, at.slopes):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1


@given(float_cases())
def test_single_precision_stays_single(case):
    narrow = (one.astype(np.float32) for one in (case.A, case.B, case.b))
    at = UnitGraph(*narrow, case.sigmas).linearize(case.x)
    computed = every_derivative(at, np.ones(len(case.b)))
    assert {array.dtype for array in computed.values()} == {np.dtype(np.float32)}
    mixed = UnitGraph(case.A.astype(np.float32), case.B, case.b.astype(np.float32), case.sigmas)
    assert mixed.dtype == mixed(case.x).dtype == np.float64


def test_whole_numbers_become_double_precision():
    assert UnitGraph(csr_array(np.array([[0, 0], [2, 0]])), np.eye(2, dtype=int)).dtype == float


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0, 1]], [[1]]), jb.ShapeError, r"A: expected a square matrix .* got \(1, 2\)"),
        (([0.0], [[1]]), jb.ShapeError, "A: expected a matrix"),
        ((np.zeros((0, 0)), np.zeros((0, 1))), jb.ShapeError, "A: expected a square matrix"),
        (([[0]], [[1], [2]]), jb.ShapeError, r"B: expected a row per unit, \(1, m\), got \(2, 1\)"),
        (([[0]], [[1]], [1.0, 2.0]), jb.ShapeError, r"biases: expected shape \(1,\)"),
        (([[0]], [[1]], None, ["tanh", "relu"]), jb.ShapeError, "one for each of 1, got 2"),
        (([[0]], [[np.inf]]), jb.NotFiniteError, r"B\[0, 0\] is inf"),
        ((csr_array([[0, 0], [np.nan, 0]]), np.eye(2)), jb.NotFiniteError, r"A\[1, 0\] is nan"),
        ((csr_array([[0j]]), [[1]]), TypeError, "A: expected real numbers"),
        (([[0]], [[1]], None, "tangent"), ValueError, "'tangent' is not known"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        UnitGraph(*arguments)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(jb.ShapeError, match="unit_names: expected 1 names, but got 2"):
        UnitGraph([[0]], [[1]], unit_names=["a", "b"])
    with pytest.raises(ValueError, match="two units or inputs are called a"):
        UnitGraph([[0]], [[1]], unit_names=["a"], input_names=["a"])


def test_points_and_cotangents_that_do_not_fit_are_refused():
    graph = UnitGraph([[0, 0], [2, 0]], [[1], [0]])
    with pytest.raises(jb.ShapeError, match=r"x: expected one point of shape \(1,\)"):
        graph([1.0, 2.0])
    with pytest.raises(jb.NotFiniteError, match="x"):
        graph.linearize([np.nan])
    at, batch = graph.linearize([1.0]), graph.linearize([[1.0], [2.0]])
    for verb in (at.backprop, at.downstream_deltas):
        with pytest.raises(jb.ShapeError, match=r"cotangent: expected shape \(2,\)"):
            verb([1.0])
    with pytest.raises(jb.ShapeError, match=r"cotangent: expected shape \(2, 2\)"):
        batch.backprop([1.0, 1.0])
    for question in (batch.neumann_terms, lambda: batch.downstream_deltas(np.ones((2, 2)))):
        with pytest.raises(ValueError, match="takes one point, not a batch"):
            question()
    with pytest.raises(ValueError, match="takes one point, not a batch"):
        batch.backprop(np.ones((2, 2))).ratio_form("x0", "u0")


def test_an_overflow_names_the_unit_where_it_began():
    graph = UnitGraph.from_edges(
        [("x", "y", 1.0), ("h", "y", 1.0), ("k", "h", 1e10), ("x", "k", 1e300)], inputs=["x"]
    )
    assert graph.unit_names == ("y", "h", "k")  # y only hears of it
    with pytest.raises(jb.NotFiniteError, match="the value of unit h leaves the range of float64"):
        graph([1.0])
    assert graph([1e-9])[0] == 1e301 + 1e-9


def test_dense_forms_are_refused_before_they_are_made():
    N = 100_000
    at = UnitGraph(csr_array((N, N)), csr_array((N, 2000)), np.ones(N)).linearize(np.ones(2000))
    for form, size in (
        (at.total_derivative, "74.5 GiB"),
        (at.total_preactivation_derivative, "74.5 GiB"),
        (at.input_jacobian, "1.49 GiB"),
    ):
        with pytest.raises(jb.TooLargeError, match=f"{size}, over the limit .* Use backprop"):
            form()
    assert at.backprop(np.ones(N)).deltas.tolist() == [1.0] * N


def test_a_value_may_leave_the_range_behind_a_finite_preactivation():
    """e^800 is none, and 800 is a number."""
    graph = UnitGraph.from_edges([("x", "u", 800.0)], inputs=["x"], activations={"u": "exp"})
    with pytest.raises(jb.NotFiniteError, match="the value of unit u leaves the range"):
        graph([1.0])
    assert graph([0.0]) == [1.0]
