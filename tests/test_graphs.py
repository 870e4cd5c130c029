"""Laws of networks whose branches split and meet, and of what users write to make them."""

from time import perf_counter

import numpy as np
import pytest
from claims import assert_equal, assert_within
from drawn_graphs import graphs, points_of
from hypothesis import assume, given
from hypothesis import strategies as st
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians.engine import jacobian_at
from jacobians.program import Limits
from jacobians.rounding import chain_bound

GRAPHS = {name: net for name, net in NETWORKS.items() if not net.is_path}
every_graph = pytest.mark.parametrize("net", GRAPHS.values(), ids=GRAPHS.keys())


def formed(net):
    return sum(layer.formed for layer in net.layers)


# --- all methods agree ----------------------------------------------------------------------------


def plans(net, B=1):
    """The engine's own plan; and those in which maps are applied as maps, however narrow they are.

    Rows pass the maps of a branch one after the other, or all of them one map after the other.
    """
    small = {"row by row": Limits(rows=1, written_out=0, apply_bytes=1)}
    small["map by map"] = Limits(rows=10**9, written_out=0)
    return {"as planned": jb.plan(net, B)} | {
        name: jb.plan(net, B, limits=limits) for name, limits in small.items()
    }


def methods(lin):
    """Every method of computing dH/dx at one trace, but for the explicit one."""
    net = lin.trace.network
    return {
        "maps": lin.jacobian(),
        "maps, transposed": lin.chain.T.to_dense().T,
        "dense factors": lin.chain.to_dense(),
        **{f"engine, {name}": jacobian_at(lin.trace, plan) for name, plan in plans(net).items()},
        "columns of JVPs": np.stack([lin.jvp(e) for e in np.eye(net.widths[0])], axis=-1),
        "backprop": jb.backprop.jacobian(lin.trace),
    }


@given(st.data())
def test_all_methods_agree_on_drawn_graphs(data):
    """Explicit = maps in both directions = engine = backprop, within the proved bound."""
    net = data.draw(graphs(dtypes=(np.float64, np.float32), decades=4))
    try:
        lin = jb.linearize(net, data.draw(points_of(net)))
    except jb.NotFiniteError:
        assume(False)
    bound = chain_bound(lin.factors, net.dtype)
    assume(not np.any(bound.overflow))
    written_out = jb.explicit.input_jacobian(lin.trace)
    for J in methods(lin).values():
        assert_within(J, written_out, bound.pair(formed(net)))


@given(st.data())
def test_all_methods_are_equal_on_exact_graphs(data):
    """Whole numbers: not one bit may differ."""
    net = data.draw(graphs(exact=True))
    lin = jb.linearize(net, data.draw(points_of(net, exact=True)))
    written_out = jb.explicit.input_jacobian(lin.trace)
    for J in methods(lin).values():
        assert_equal(J, written_out)
    if net.parameter_count:
        J = lin.parameter_jacobian().to_dense()
        assert_equal(J, jb.explicit.parameter_jacobian(lin.trace))


@given(st.data())
def test_gradients_of_graphs_agree_exactly(data):
    net = data.draw(graphs(exact=True))
    assume(net.parameter_count)
    x = data.draw(points_of(net, exact=True))
    y = np.zeros(net.widths[-1])
    swept = jb.backprop.gradients(net, x, y, jb.SquaredError())
    written = jb.explicit.gradients(net, x, y, jb.SquaredError())
    assert_equal(swept.vector, written.vector)
    assert_equal(swept.inputs, written.inputs)


@given(st.data())
def test_blocks_between_any_two_nodes_are_those_of_the_block_matrix(data):
    """(I - M)^{-1} holds da^of/da^wrt: M is strictly lower triangular, its powers end at 0."""
    net = data.draw(graphs(max_nodes=5, exact=True))
    lin = jb.linearize(net, data.draw(points_of(net, exact=True)))
    M = jb.explicit.block_matrix(lin.trace)
    inverse, power = np.eye(len(M)), np.eye(len(M))
    for _ in range(net.depth):
        power = power @ M
        inverse += power
    ends = np.cumsum([0, *net.widths])
    of = data.draw(st.integers(0, net.depth))
    wrt = data.draw(st.integers(0, of))
    block = inverse[ends[of] : ends[of + 1], ends[wrt] : ends[wrt + 1]]
    assert_equal(lin.jacobian(of, wrt), block)
    assert_equal(jb.explicit.input_jacobian(lin.trace, of, wrt), block)
    assert_equal(jb.jacobian(net, lin.trace.activation(0), of=of, wrt=wrt), block)


@every_graph
def test_certificates_hold(net):
    for x in points(net, 2):
        certificate = jb.certify(net, x)
        assert certificate.holds, str(certificate)
        assert not certificate.dependent


@every_graph
def test_a_batch_of_a_graph_is_a_stack_of_points(net):
    X = points(net, 3)
    lin = jb.linearize(net, X)
    stacks = [lin.jacobian(), *(jacobian_at(lin.trace, plan) for plan in plans(net, 3).values())]
    for i in range(len(X)):
        point = jb.linearize(net, lin.trace.point(i))
        bound = chain_bound(point.factors, net.dtype).pair(formed(net))
        for J in stacks:
            assert_within(J[i], point.jacobian(), bound)


# --- what a graph is ------------------------------------------------------------------------------


@given(st.data())
def test_a_path_written_as_a_graph_gives_the_bits_of_the_chain(data):
    net = data.draw(jb.strategies.networks())
    x = data.draw(jb.strategies.points(net))
    names = ["x", *(f"n{l}" for l in range(1, net.depth + 1))]
    nodes = {names[l]: (net.layers[l - 1], names[l - 1]) for l in range(1, net.depth + 1)}
    same = jb.Network.graph(nodes, inputs={"x": net.widths[0]})
    assert same.is_path
    assert_equal(same(x), net(x))
    assert_equal(jb.jacobian(same, x), jb.jacobian(net, x))
    assert_equal(jb.linearize(same, x).jacobian(), jb.linearize(net, x).jacobian())


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_linear_residual_block_is_the_dense_layer_identity_plus_w(n, hidden, seed):
    """a + W₂ W₁ a = (I + W₂ W₁) a, exactly on whole numbers."""
    rng = np.random.default_rng(seed)
    W1, W2 = rng.integers(-3, 4, (hidden, n)), rng.integers(-3, 4, (n, hidden))
    block = jb.Network([jb.Residual([jb.Dense(W1), jb.Dense(W2)])], inputs=n)
    x = rng.integers(-3, 4, n)
    assert_equal(jb.jacobian(block, x), np.eye(n) + W2 @ W1)
    assert_equal(block(x), (np.eye(n) + W2 @ W1) @ x)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_parallel_branches_concatenated_are_rows_above_one_another(n, p, q, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.integers(-3, 4, (p, n)), rng.integers(-3, 4, (q, n))
    net = jb.Network([jb.Parallel([jb.Dense(A), [jb.Dense(B)], []])], inputs=n)
    assert_equal(jb.jacobian(net, np.ones(n)), np.vstack([A, B, np.eye(n)]))


def test_thirty_residual_blocks_cost_thirty_blocks():
    """2^30 paths, never followed one by one: operations grow with the number of blocks."""
    rng = np.random.default_rng(0)

    def net(blocks):
        layer = jb.Dense(rng.integers(-1, 2, (3, 3)), activation="relu")
        return jb.Network([jb.Residual([layer]) for _ in range(blocks)])

    cost = [jb.linearize(net(k), np.ones(3)).chain.flops for k in (15, 30)]
    assert cost[1] == 2 * cost[0]
    assert jb.jacobian(net(30), np.ones(3)).shape == (3, 3)


def test_branches_are_a_sum_and_those_that_share_nodes_a_graph():
    """A sum follows each branch; where they share a node, it would be followed once for each."""
    W = jb.Dense(whole(2, 2), activation="tanh")
    nodes = {"a": (W, "x"), "b": (W, "a")}
    apart = nodes | {"c": (W, "a"), "y": (jb.Add(), "b", "c")}
    shared = nodes | {"y": (jb.Add(), "b", "a", "x")}
    chains = [
        jb.linearize(jb.Network.graph(some, inputs={"x": 2}), [1.0, 2.0]).factors
        for some in (apart, shared)
    ]
    kinds = [[type(A) for A in chain] for chain in chains]
    assert kinds == [
        [jb.Identity, jb.Sum, jb.Diagonal, jb.Matrix],
        [jb.Identity, jb.Substitution],
    ]


def test_diamonds_that_share_nodes_cost_their_edges():
    """Each node reads the two before it, so paths grow like Fibonacci numbers; edges do not."""
    W = jb.Dense(np.array([[0.5]]))

    def net(depth):
        nodes = {"n0": (W, "x"), "n1": (W, "n0")}
        for k in range(2, depth):
            nodes[f"n{k}"] = (jb.Add(), f"n{k - 1}", f"n{k - 2}")
        return jb.Network.graph(nodes, inputs={"x": 1})

    deep = jb.linearize(net(300), [1.0])
    assert deep.chain.flops < 2 * jb.linearize(net(150), [1.0]).chain.flops + 10
    start = perf_counter()
    J = deep.jacobian()[0, 0]
    assert perf_counter() - start < 60  # of 10^62 paths none is followed: milliseconds
    assert J > 1e61


def test_several_inputs_are_named_parts_of_one_vector():
    net = NETWORKS["several inputs and outputs"]
    assert net.inputs == {"control": slice(0, 2), "image": slice(2, 6)}
    assert net.outputs == {"y": slice(0, 2), "gate": slice(2, 5)}
    x = points(net, 1)[0]
    J = jb.jacobian(net, x)
    assert_equal(J[net.outputs["gate"], net.inputs["image"]], np.zeros((3, 4)))
    assert_equal(jb.linearize(net, x).jacobian(of="gate"), J[2:])
    assert jb.jacobian(net, x, of="mixed", wrt="image").shape == (3, 4)
    assert net.shapes[net.number("image", "")] == (2, 2)


def test_of_and_wrt_take_names_and_numbers():
    net = NETWORKS["branches that share nodes"]
    lin = jb.linearize(net, points(net, 1)[0])
    assert_equal(lin.jacobian("e", "a"), lin.jacobian(net.number("e", ""), net.number("a", "")))
    assert_equal(lin.trace.activation("b"), lin.trace.activation(net.number("b", "")))
    with pytest.raises(ValueError, match="no node is called 'z'; there are x, a"):
        lin.jacobian("z")


# --- what users get wrong -------------------------------------------------------------------------

D = jb.Dense(np.eye(2))


@pytest.mark.parametrize(
    ("nodes", "error", "message"),
    [
        ({"a": (D, "b")}, ValueError, "node 'a' reads 'b', which is not there"),
        ({"a": (D, "b"), "b": (D, "a")}, ValueError, "read each other: "),
        ({"a": (D, "x"), "b": (D, "x")}, ValueError, "nothing reads 'a'"),
        ({"x": (D, "x")}, ValueError, "'x' stands there twice"),
        ({"a": D}, TypeError, r"node 'a': expected \(layer, source, ...\)"),
        ({"a": ("D", "x")}, TypeError, "layer 1: expected a Layer"),
        ({}, TypeError, "expected mappings"),
        ({"a": (jb.Add(), "x")}, jb.ShapeError, "takes two or more inputs, but reads 1"),
        ({"a": (D, "x", "x")}, jb.ShapeError, "takes 1 input, but reads 2"),
        (
            {"a": (jb.Dense(np.ones((3, 2))), "x"), "b": (jb.Add(), "a", "x")},
            jb.ShapeError,
            r"layer b: Add: takes inputs of one shape, but got \(3,\) and \(2,\)",
        ),
        (
            {"a": (jb.Dense(np.ones((1, 3))), "x")},
            jb.ShapeError,
            r"layer a \(Dense 3 -> 1 identity\) takes 3 inputs, but the network gets 2",
        ),
        ({"a": (jb.LayerNorm(np.ones(3)), "x")}, jb.ShapeError, "takes rows of 3 entries"),
        ({"a": (jb.Gather([5]), "x")}, jb.ShapeError, "does not fit a value of shape"),
        ({"a": (jb.Concatenate(axis=1), "x", "x")}, jb.ShapeError, "Concatenate"),
        (
            {
                "a": (jb.Reshape((1, 2)), "x"),
                "b": (jb.Concatenate(axis=0), "a", "a", "x"),
            },
            jb.ShapeError,
            r"Concatenate\(axis=0\): got",
        ),
        (
            {
                "a": (jb.Reshape((1, 2)), "x"),
                "c": (jb.Reshape((2, 1)), "x"),
                "b": (jb.Concatenate(axis=0), "a", "c"),
            },
            jb.ShapeError,
            "may differ along axis 0 alone",
        ),
        ({"a": (jb.MatrixProduct(), "x", "x")}, jb.ShapeError, "inputs do not fit"),
        ({"a": (jb.Elementwise("softmax", axis=1), "x")}, jb.ShapeError, "has no axis 1"),
    ],
)
def test_a_graph_that_does_not_fit_says_where(nodes, error, message):
    with pytest.raises(error, match=message):
        jb.Network.graph(nodes, inputs={"x": 2})


@pytest.mark.parametrize("indices", [[], np.zeros((0, 2), int), [0.0, 1.0], [True, False], [[-2]]])
def test_entries_are_gathered_by_whole_numbers(indices):
    with pytest.raises(jb.ShapeError, match="Gather: indices: expected"):
        jb.Gather(indices)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_every_row_of_a_norm_adds_to_the_derivative_by_its_scale_and_shift(rows):
    """dz/dscale is diag(x̂) of each row, one above the other, and dz/dshift the identity of each."""
    d = 4
    a = np.random.default_rng(0).normal(size=(rows, d))
    norm = jb.LayerNorm(np.arange(1.0, d + 1), np.arange(d) / 4)
    net = jb.Network([norm], inputs=(rows, d))
    J = jb.linearize(net, a.ravel()).parameter_jacobian().to_dense()
    plain = jb.Network([jb.LayerNorm(np.ones(d), np.zeros(d))], inputs=(rows, d))
    normal = plain(a.ravel()).reshape(rows, d)
    scales, shifts = np.vstack([np.diag(row) for row in normal]), np.tile(np.eye(d), (rows, 1))
    expected = np.hstack([scales, shifts])
    assert np.abs(J - expected).max() < 1e-14  # of the same formula


@pytest.mark.parametrize("axis", [None, *range(-3, 3)])
def test_values_are_concatenated_along_the_axis_that_is_named(axis):
    """Three of them, of different sizes along it and alike along the others; None flattens them."""
    shapes = [[2, 3, 4] for _ in range(3)]
    for size, shape in zip((1, 2, 5), shapes, strict=True):
        shape[0 if axis is None else axis] = size
    values = [whole(2, *shape) for shape in shapes]
    expected = np.concatenate([v.reshape(2, -1) for v in values], axis=-1)
    if axis is not None:
        expected = np.concatenate(values, axis=axis + 1 if axis >= 0 else axis)
    inputs = {name: tuple(shape) for name, shape in zip("abc", shapes, strict=True)}
    sizes = {name: int(np.prod(shape)) for name, shape in inputs.items()}
    nodes = {f"{name}0": (jb.Reshape(shape), name) for name, shape in inputs.items()}
    net = jb.Network.graph(nodes | {"y": (jb.Concatenate(axis), "a0", "b0", "c0")}, inputs=sizes)
    assert net.shapes[-1] == expected.shape[1:]
    assert_equal(net(np.hstack([v.reshape(2, -1) for v in values])), expected.reshape(2, -1))


@pytest.mark.parametrize("kind", [jb.Concatenate, lambda axis: jb.Elementwise("softmax", axis)])
def test_an_axis_is_a_whole_number_from_minus_8(kind):
    for axis in (-8, 0, 7):
        assert kind(axis).axis == axis
    with pytest.raises(ValueError, match="axis: expected at least -8, but got -9"):
        kind(-9)
    with pytest.raises(TypeError, match=r"axis: expected a whole number, but got 0\.5"):
        kind(0.5)


@pytest.mark.parametrize("wrt", ["a", "b"])
def test_what_does_not_depend_on_a_node_is_a_constant_in_its_hessian(wrt):
    """Of (a b)² by one factor, entry by entry: twice the square of the other."""
    nodes = {
        "a": (jb.Dense(whole(3, 2)), "x"),
        "b": (jb.Dense(whole(3, 2)), "x"),
        "c": (jb.Multiply(), "a", "b"),
        "y": (jb.Elementwise("square"), "c"),
    }
    net = jb.Network.graph(nodes, inputs={"x": 2})
    for X in (whole(2), whole(4, 2)):
        lin = jb.linearize(net, X)
        u, other = np.ones_like(lin.value), lin.trace.activation("b" if wrt == "a" else "a")
        H = lin.hessian(u, wrt=wrt).to_dense()
        assert_equal(H, (2 * other**2)[..., None] * np.eye(3))


def test_a_rearrangement_is_that_of_numpy_with_zeros_where_nothing_comes():
    x = whole(2, 3, 4) + 5  # no zero among them
    cases = {
        jb.Pad(((1, 2), (0, 3), (1, 0))): lambda v: np.pad(v, ((1, 2), (0, 3), (1, 0))),
        jb.Gather([[23, -1], [0, 0]]): lambda v: np.append(v, 0)[[[23, -1], [0, 0]]],
        jb.Permute((2, 0, 1)): lambda v: v.transpose(2, 0, 1),
        jb.Slice(1, None, 2, axis=2): lambda v: v[:, :, 1::2],
        jb.Reshape((-1, 6)): lambda v: v.reshape(4, 6),
    }
    for layer, rearranged in cases.items():
        net = jb.Network([layer], inputs=x.shape)
        assert net.shapes[1] == rearranged(x).shape
        assert_equal(net(x.ravel()), rearranged(x).ravel())
        assert_equal(net([x.ravel(), 2 * x.ravel()])[1], 2 * rearranged(x).ravel())


@pytest.mark.parametrize("lead", [(), (2,), (3, 2)])
def test_matrices_of_any_number_of_axes_are_multiplied(lead):
    """One product, or one for each of several matrices."""
    A, B = whole(*lead, 4, 3), whole(*lead, 3, 5)
    parts = {"A": A.size, "B": B.size}
    nodes = {
        "a": (jb.Reshape(A.shape), "A"),
        "b": (jb.Reshape(B.shape), "B"),
        "y": (jb.MatrixProduct(), "a", "b"),
        "t": (jb.Reshape((*lead, 5, 3)), "B"),
        "z": (jb.MatrixProduct(transpose_second=True), "a", "t"),
    }
    net = jb.Network.graph(nodes, inputs=parts, outputs=["y", "z"])
    assert [net.shapes[net.names.index(name)] for name in "yz"] == [(*lead, 4, 5)] * 2
    value = net(np.concatenate([A.ravel(), B.ravel()]))
    other = A @ np.swapaxes(B.reshape(*lead, 5, 3), -2, -1)
    assert_equal(value, np.concatenate([(A @ B).ravel(), other.ravel()]))


@pytest.mark.parametrize("kind", [jb.LayerNorm, jb.RMSNorm])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (2, 3, 4)])
def test_a_norm_acts_on_every_row(kind, shape):
    """Whatever axes the value has; and a row of zeros stays one, also without epsilon."""
    norm = kind(np.array([1.0, 2.0, -3.0, 0.5]), epsilon=0.0)
    net, one = jb.Network([norm], inputs=shape), jb.Network([norm], inputs=4)
    x = points(net, 1)[0]
    x[:4] = 0
    rows = [one(row) for row in x.reshape(-1, 4)]
    assert_equal(net(x), np.concatenate(rows))
    assert_equal(rows[0], np.zeros(4))
    if len(rows) > 1:
        J = jb.jacobian(one, x[4:8])
        several = jb.jacobian(net, np.stack([x[::-1].copy(), x]))[1]
        with np.errstate(all="raise"):  # the second derivative of a row of zeros is left at 0
            assert not jb.hessian(net, x)[:4].any()
            seen = jb.trace(net, x)
            for written in (
                jb.jacobian(net, x),
                jb.explicit.input_jacobian(seen),
                jb.backprop.jacobian(seen),
                jb.linearize(net, seen).jacobian(),
            ):
                assert not written[:4].any()  # and so is the first
        for computed in (jb.jacobian(net, x), several):
            assert_within(computed[4:8, 4:8], J, 1e-14 * np.abs(J).max())  # one formula


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_softmax_of_a_dense_layer_acts_on_every_row(name):
    """The layer is its affine part, and then that function of each row, whatever axes it has."""
    rng = np.random.default_rng(0)
    W, b, X = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=(5, 24))
    alone, both = (
        jb.Network([jb.Dense(W, b, sigma)], inputs=(2, 3, 4)) for sigma in ("identity", name)
    )
    expected = jb.activation(name)(alone(X).reshape(5, 2, 3, 3)).reshape(5, -1)
    # the same formula, perhaps vectorized another way: a few units in the last place
    assert np.abs(both(X) - expected).max() <= 1e-14 * np.abs(expected).max()


def test_outputs_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="outputs: no node is called 'z'"):
        jb.Network.graph({"a": (D, "x")}, inputs={"x": 2}, outputs="z")


def test_something_else_as_a_network_is_refused_with_the_way_in():
    from sklearn.linear_model import LinearRegression

    for call in (jb.jacobian, jb.value_and_jacobian, jb.sensitivity, jb.linearize, jb.certify):
        with pytest.raises(TypeError, match=r"expected a Network first, but got 'a'.*jb\.load"):
            call("a", np.ones(2))
        with pytest.raises(TypeError, match=r"Import it: jb\.from_sklearn"):
            call(LinearRegression(), np.ones(2))


@pytest.mark.parametrize("kind", [jb.LayerNorm, jb.RMSNorm])
@pytest.mark.parametrize("power", [-900, 0, 900])
def test_a_norm_does_not_mind_the_size_of_its_row(kind, power):
    """Without epsilon ``2^k a`` has the value of ``a``, also where squares leave the range."""
    net = jb.Network([kind(np.array([1.0, 2.0, 3.0, 4.0]), epsilon=0.0)], inputs=4)
    a = np.array([1.0, -2.0, 4.0, 5.0])
    assert_equal(net(a * 2.0**power), net(a))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_norm_takes_a_row_whose_largest_entry_is_all_of_it(sign):
    """The others squared would leave the range; the root mean square of four is half of it."""
    net = jb.Network([jb.RMSNorm(np.ones(4), epsilon=0.0)], inputs=4)
    a = sign * np.array([-(2.0**-100), 2.0**900, 2.0**-50, 2.0**-900])
    assert_equal(net(a), a / 2.0**899)
    assert_equal(net(np.stack([a, a[::-1]]))[1], net(a)[::-1])


def test_a_softmax_of_tokens_is_along_their_last_axis():
    """However many axes there are before it."""
    W = np.arange(12.0).reshape(3, 4) / 10
    net = jb.Network.graph({"y": (jb.Dense(W, activation="softmax"), "x")}, inputs={"x": (2, 5, 4)})
    x = points(net, 1)[0]
    one = jb.Network([jb.Dense(W, activation="softmax")])
    by_token = np.concatenate([one(token) for token in x.reshape(10, 4)])
    assert_within(net(x), by_token, 4 * np.finfo(float).eps)  # a sum of three, and a division


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (3, 4), (2, 1, 4), (1, 1, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_acts_on_every_row(shape, bias):
    """However many there are, one and two among them."""
    layer = jb.Dense(whole(3, 4), whole(3) if bias else None, "square")
    net, one = jb.Network([layer], inputs=shape), jb.Network([layer])
    X = whole(5, net.widths[0])
    rows = X.reshape(-1, 4)
    assert net.shapes[1] == (*shape[:-1], 3)
    assert_equal(net(X), one(rows).reshape(5, -1))
    J, each = jb.jacobian(net, X), jb.jacobian(one, rows).reshape(5, -1, 3, 4)
    count = each.shape[1]
    blocks = np.zeros((5, count, 3, count, 4))
    blocks[:, range(count), :, range(count)] = each.swapaxes(0, 1)
    assert_equal(J, blocks.reshape(J.shape))
    assert_equal(jb.explicit.input_jacobian(jb.trace(net, X[0])), J[0])


@pytest.mark.parametrize("axis", range(-3, 3))
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_softmax_is_along_the_axis_that_is_named(name, axis):
    """Counted from the front or from the end; what lies on another line does not move it."""
    shape = (2, 3, 4)
    net = jb.Network([jb.Elementwise(name, axis=axis)], inputs=shape)
    x, one = points(net, 1)[0], jb.Network([jb.Elementwise(name)], inputs=shape[axis])
    numbers = np.moveaxis(np.arange(24).reshape(shape), axis, -1).reshape(-1, shape[axis])
    value, J = np.zeros(24), np.zeros((24, 24))
    for line in numbers:
        value[line], J[np.ix_(line, line)] = jb.value_and_jacobian(one, x[line])
    bound = 16 * np.finfo(float).eps  # entries below 4 are sums of four exponentials, divided
    assert_within(net(x), value, bound)
    H = np.zeros((24, 24, 24))
    for line in numbers:
        H[np.ix_(line, line, line)] = jb.hessian(one, x[line])
    assert_within(jb.hessian(net, x), H, bound)
    for computed in (
        jb.jacobian(net, x),
        jb.jacobian(net, x[None])[0],
        jb.linearize(net, x).jacobian(),
        jb.explicit.input_jacobian(jb.trace(net, x)),
        np.stack([jb.vjp(net, x, e) for e in np.eye(24)]),
    ):
        assert_within(computed, J, bound)


# --- names that could be taken for another --------------------------------------------------------


@pytest.mark.parametrize("names", [("x", "u"), ("a", "x"), ("p", "q")])
def test_the_whole_input_never_has_the_name_of_a_part_or_a_node(names, tmp_path):
    """Every name means one node, also of the file that is written and read again."""
    W = jb.Dense(whole(2, 5), activation="square")
    nodes = {"all": (jb.Concatenate(), *names), "outputs": (W, "all"), "z": (D, "outputs")}
    sizes = dict(zip(names, (3, 2), strict=True))
    net = jb.Network.graph(nodes, inputs=sizes, outputs=["z", "outputs"])
    x = whole(5)
    J = jb.jacobian(net, x)
    assert len(set(net.names)) == len(net.names)
    for name in names:
        assert_equal(jb.jacobian(net, x, wrt=name), J[:, net.inputs[name]])
    for name in ("z", "outputs"):
        assert_equal(jb.jacobian(net, x, of=name), J[net.outputs[name]])
    jb.save(net, tmp_path / "net.npz")
    loaded = jb.load(tmp_path / "net.npz")
    assert loaded.names == net.names
    assert_equal(jb.jacobian(loaded, x), J)


@pytest.mark.parametrize(
    ("nodes", "outputs", "error", "message"),
    [
        ({"a": (D, "x")}, ["a", "a"], ValueError, "outputs: 'a' stands there twice"),
        ({"a": (D, "x")}, 1, TypeError, "outputs: expected"),
        ({1: (D, "x")}, None, TypeError, "expected names, but got 1"),
        (
            {"h": (jb.Residual([D]), "x"), "h.1": (D, "h")},
            None,
            ValueError,
            "'h.1' stands there twice",
        ),
        ({"a": (jb.Residual([D]), "x", "x")}, None, jb.ShapeError, "a: a Residual takes 1 input"),
        ({"a": (jb.Parallel([D, D]), "x", "x")}, None, jb.ShapeError, "a: a Parallel takes 1 inp"),
    ],
)
def test_names_that_mean_two_nodes_and_sources_that_would_be_lost_are_refused(
    nodes, outputs, error, message
):
    with pytest.raises(error, match=message):
        jb.Network.graph(nodes, inputs={"x": 2}, outputs=outputs)


def test_an_input_that_nothing_reads_has_derivatives_of_zero():
    """In every method, bit for bit; the certificate holds."""
    net = jb.Network.graph(
        {"y": (jb.Dense(whole(2, 3), activation="square"), "a")}, inputs={"a": 3, "idle": 2}
    )
    x, loss = whole(5), jb.SquaredError()
    J = jb.jacobian(net, x)
    assert_equal(J[:, net.inputs["idle"]], np.zeros((2, 2)))
    assert_equal(jb.backprop.jacobian(jb.trace(net, x)), J)
    assert_equal(jb.explicit.input_jacobian(jb.trace(net, x)), J)
    swept = jb.backprop.gradients(net, x, np.zeros(2), loss)
    assert_equal(swept.inputs, jb.explicit.gradients(net, x, np.zeros(2), loss).inputs)
    assert jb.certify(net, x).holds
    assert jb.derive(net, x, np.zeros(2), loss).holds
