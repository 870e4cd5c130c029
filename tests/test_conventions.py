"""Conversions between conventions: exact, both ways, and nothing is broadcast on the way."""

from fractions import Fraction as F

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jacobians as jb
from jacobians import conventions
from jacobians import conventions as cv
from jacobians import strategies as jst
from jacobians.conventions import (
    RowForm,
    as_row,
    from_row,
    from_row_form,
    gradients_from_rows,
    hadamard,
    product,
    row_derivatives,
    rows_from_gradients,
    to_row_form,
    weight_row_by_kronecker,
)
from jacobians.explicit import typed_trace

sizes = st.integers(1, 5)


def whole(*shape):
    return hnp.arrays(np.int64, shape, elements=st.integers(-9, 9))


# --- products that do not broadcast ---------------------------------------------------------------


@given(st.data(), st.integers(2, 5))
def test_hadamard_refuses_what_numpy_broadcasts(data, n):
    """(1, n) * (n, 1) and (1, n) * (n, n) are n x n in NumPy and errors here, either way round.

    000-E23, E49; 003-E6.
    """
    row, other = data.draw(whole(1, n)), data.draw(whole(1, n))
    for wrong in (other.T, np.diag(other[0]), other[0], other[:, :1], other[0, 0]):
        assert np.broadcast_shapes(row.shape, wrong.shape) is not None  # NumPy would go along
        for left, right in [(row, wrong), (wrong, row)]:
            with pytest.raises(jb.ShapeError) as err:
                hadamard(left, right)
            assert str(left.shape) in str(err.value)
            assert str(right.shape) in str(err.value)


@given(st.data(), sizes)
def test_hadamard_is_entry_by_entry_and_commutes(data, n):
    """[a * b]_j = a_j b_j = [b * a]_j, and the row times diag(b) is the same row.  003-E7."""
    a, b = data.draw(whole(1, n)), data.draw(whole(1, n))
    assert_equal(hadamard(a, b), [[int(a[0, j]) * int(b[0, j]) for j in range(n)]])
    assert_equal(hadamard(a, b), hadamard(b, a))
    assert_equal(hadamard(a, b), product(a, np.diag(b[0])))


@given(st.data(), sizes, sizes, sizes, sizes)
def test_product_demands_matrices_that_fit(data, m, k, j, n):
    left, right = data.draw(whole(m, k)), data.draw(whole(j, n))
    if k == j:
        by_index = [
            [sum(int(left[r, i]) * int(right[i, c]) for i in range(k)) for c in range(n)]
            for r in range(m)
        ]
        assert_equal(product(left, right), by_index)
    else:
        with pytest.raises(jb.ShapeError, match="product"):
            product(left, right)


@pytest.mark.parametrize(
    ("left", "right"), [((3,), (3, 2)), ((1, 3), (3,)), ((2, 1, 3), (3, 2)), ((1, 3), ())]
)
def test_product_takes_no_vectors_and_no_stacks(left, right):
    with pytest.raises(jb.ShapeError, match="product"):
        product(np.ones(left), np.ones(right))


def test_products_keep_fractions():
    a = np.array([[F(1, 3), F(2)]])
    assert hadamard(a, a).tolist() == [[F(1, 9), F(4)]]
    assert product(a, a.T).tolist() == [[F(37, 9)]]


# --- layouts --------------------------------------------------------------------------------------


@given(st.data(), sizes, st.sampled_from([(), (3,), (0,)]))
def test_rows_and_vectors_convert_both_ways(data, n, lead):
    v = data.draw(whole(*lead, n))
    row = as_row(v)
    assert row.shape == (*lead, 1, n)
    assert_equal(from_row(row), v)
    assert not np.shares_memory(row, v)
    assert not np.shares_memory(from_row(row), row)


def test_a_column_or_a_number_is_not_taken_for_a_row():
    for wrong in (np.ones((3, 1)), np.ones(3), 2.0):
        with pytest.raises(jb.ShapeError, match="from_row"):
            from_row(wrong)
    with pytest.raises(jb.ShapeError, match="as_row"):
        as_row(2.0)


@given(jst.problems())
def test_gradients_and_row_derivatives_convert_both_ways(problem):
    """gradients_from_rows(rows_from_gradients(g)) is g to the last bit, at points and batches."""
    g = jb.backprop.gradients(*problem)
    rows = rows_from_gradients(g)
    again = gradients_from_rows(rows)
    assert again.loss == rows.cost == g.loss
    assert_equal(again.inputs, g.inputs)
    lead = g.inputs.shape[:-1]
    for l, layer in enumerate(problem.net.layers):
        assert_equal(again.deltas[l], g.deltas[l])
        assert rows.preactivations[l].shape == (*lead, 1, problem.net.widths[l + 1])
        if isinstance(layer, jb.Dense):
            assert rows.weights[l].shape == layer.W.shape[::-1]
            assert rows.biases[l].shape == (1, len(layer.b))
            assert_equal(rows.weights[l].T, g.weights[l])
            assert_equal(again.weights[l], g.weights[l])
            assert_equal(again.biases[l], g.biases[l])
            assert not np.shares_memory(rows.weights[l], g.weights[l])
        else:
            assert rows.weights[l] is again.weights[l] is None
            assert rows.biases[l] is again.biases[l] is None
    assert rows.outputs[1:] == (None,) * problem.net.depth


@given(st.data(), sizes, sizes)
def test_rows_are_stacked_by_the_commutation_matrix(data, m, n):
    """K vec(M) is M row by row, and Kᵀ leads back."""
    M, K = data.draw(whole(m, n)), jb.Commutation(m, n)
    by_rows = K @ jb.vec(M)
    assert by_rows.tolist() == [int(M[i, j]) for i in range(m) for j in range(n)]
    assert_equal(jb.unvec(K.T @ by_rows, (m, n)), M)


@given(st.data(), sizes, sizes)
def test_the_kronecker_road_is_the_outer_product(data, m, n):
    h, row = data.draw(whole(m, 1)), data.draw(whole(1, n))
    assert_equal(weight_row_by_kronecker(h, row), product(h, row))


@pytest.mark.parametrize(("h", "row"), [((2,), (1, 3)), ((1, 2), (1, 3)), ((2, 1), (3, 1))])
def test_the_kronecker_road_takes_a_column_and_a_row(h, row):
    with pytest.raises(jb.ShapeError):
        weight_row_by_kronecker(np.ones(h), np.ones(row))


def test_the_kronecker_road_is_refused_before_it_fills_the_memory():
    with jb.dense_limit(100), pytest.raises(jb.TooLargeError, match="product"):
        weight_row_by_kronecker(np.ones((3, 1)), np.ones((1, 3)))


def test_row_derivatives_are_those_of_dense_layers():
    net = jb.Network.random([3, 2], seed=0)
    with pytest.raises(jb.ShapeError, match="target"):
        row_derivatives(net, np.ones(3), np.ones((1, 2)), jb.SquaredError())
    scaled = jb.Network([jb.Scale([1.0, 2.0, 3.0]), *net.layers])
    with pytest.raises(TypeError, match="layer 1"):
        row_derivatives(scaled, np.ones(3), np.ones(2), jb.SquaredError())


# --- row form -------------------------------------------------------------------------------------

entrywise = jst.networks(only_dense=True, last=jst.HIDDEN, dtypes=(np.float64, np.float32))


@given(entrywise)
def test_row_form_converts_both_ways(net):
    """w^l = (W^l)ᵀ: the same numbers, the same activations, the same dtype."""
    form = to_row_form(net)
    again = from_row_form(form.weights, form.biases, form.activations)
    for l, (layer, back) in enumerate(zip(net.layers, again.layers, strict=True)):
        assert form.weights[l].shape == (net.widths[l], net.widths[l + 1])
        assert form.biases[l].shape == (1, net.widths[l + 1])
        assert_equal(form.weights[l], layer.W.T)
        assert_equal(back.W, layer.W)
        assert_equal(back.b, layer.b)
        assert back.activation == layer.activation
        assert back.dtype == form.weights[l].dtype == net.dtype


def test_one_activation_serves_all_layers_or_each_has_its_own():
    w, b = [np.ones((2, 3)), np.ones((3, 1))], [np.zeros((1, 3)), np.zeros((1, 1))]
    assert [str(layer.activation) for layer in from_row_form(w, b, "tanh").layers] == ["tanh"] * 2
    mixed = from_row_form(w, b, ["relu", "softmax"])
    assert [str(layer.activation) for layer in mixed.layers] == ["relu", "softmax"]


@pytest.mark.parametrize(
    ("weights", "biases", "activations", "message"),
    [
        ([np.ones((2, 3))], [np.zeros(3)], "tanh", r"b\^1: expected shape \(1, 3\)"),
        ([np.ones((2, 3))], [np.zeros((3, 1))], "tanh", r"b\^1: expected shape \(1, 3\)"),
        ([np.ones((2, 3))], [np.zeros((1, 2))], "tanh", r"b\^1: expected shape \(1, 3\)"),
        ([np.ones(3)], [np.zeros((1, 3))], "tanh", r"w\^1: expected a matrix"),
        ([np.ones((2, 3))], [], "tanh", "as many biases"),
        ([np.ones((2, 3))], [np.zeros((1, 3))], ["tanh", "tanh"], "as many biases"),
        ([np.ones((2, 3))] * 2, [np.zeros((1, 3))] * 2, "tanh", "layer 2"),
    ],
)
def test_row_form_refuses_what_does_not_fit(weights, biases, activations, message):
    with pytest.raises(jb.ShapeError, match=message):
        from_row_form(weights, biases, activations)


def test_row_form_needs_dense_layers_that_act_entry_by_entry():
    with pytest.raises(TypeError, match="layer 1"):
        to_row_form(jb.Network([jb.Scale([1.0, 2.0]), jb.Dense(np.ones((3, 2)))]))
    with pytest.raises(TypeError, match="softmax"):
        to_row_form(jb.Network([jb.Dense(np.ones((3, 2)), activation="softmax")]))


def test_points_are_rows():
    form = to_row_form(jb.Network.random([3, 4, 2], seed=0))
    assert isinstance(form, RowForm)
    for wrong in (np.ones(3), np.ones((3, 1)), np.ones((1, 1, 3))):
        with pytest.raises(jb.ShapeError, match="RowForm: X"):
            form(wrong)
    for wrong in ((5, 1), (5, 3), (4, 2)):
        with pytest.raises(jb.ShapeError, match="target"):
            form.errors(np.ones((5, 3)), np.ones(wrong))
    with pytest.raises(ValueError, match="at least 1"):
        form.gradients(np.ones((0, 3)), np.ones((0, 2)))
    with pytest.raises(ValueError, match="layer number from 1 to 2"):
        form.path_sum(np.ones((1, 3)), 0)
    with pytest.raises(jb.ShapeError, match="one row"):
        form.path_sum(np.ones((2, 3)), 1)


# --- layer numbers --------------------------------------------------------------------------------


@given(jst.networks(only_dense=True, max_depth=3), st.data())
def test_the_input_as_layer_one_is_a_view(net, data):
    """The input is 0 here and 1 there; widths, values and weights move along."""
    trace = jb.trace(net, data.draw(jst.points(net)))
    view = cv.LayerOne(trace)
    assert list(view.n) == list(range(1, view.L + 1))
    for l in range(1, net.depth + 2):
        assert view.ours(l) == l - 1
        assert view.n[l] == net.widths[l - 1]
        assert_equal(view.a(l), trace.activation(l - 1))
    for l in range(2, net.depth + 2):
        assert_equal(view.z(l), trace.preactivation(l - 1))
        assert_equal(view.W(l), net.layers[l - 2].W)
    with pytest.raises(ValueError, match="layer number from 1"):
        view.ours(0)
    with pytest.raises(ValueError, match="layer number from 2"):
        view.z(1)
    with pytest.raises(TypeError, match="whole number"):
        view.a(1.5)


def test_the_gradient_of_one_output_is_a_column():
    view = cv.LayerOne(jb.trace(jb.Network.random([2, 3, 1], "tanh", seed=0), [0.5, 1.0]))
    chain = view.D(3) @ view.W(3) @ view.D(2) @ view.W(2)
    assert np.allclose(view.gradient, chain.T, rtol=1e-13)  # the same product in another order
    with pytest.raises(jb.ShapeError, match="expected a network with one output"):
        _ = cv.LayerOne(jb.trace(jb.Network.random([2, 2], seed=0), [0.0, 0.0])).gradient


# --- the entry points -----------------------------------------------------------------------------


def test_no_entry_point_of_the_library_broadcasts_a_row_with_a_column():
    """Targets, tangents, cotangents, biases: a (1, n) is never taken for an (n, 1) or an (n,)."""
    n = 3
    row, column = np.ones((1, n)), np.ones((n, 1))
    net = jb.Network([jb.Dense(np.eye(n), np.zeros(n), "tanh")])
    lin = jb.linearize(net, np.ones(n))
    entry_points = [
        lambda wrong: jb.Dense(np.eye(n), wrong),
        lambda wrong: jb.Scale(np.ones(n), wrong),
        lambda wrong: lin.jvp(wrong),
        lambda wrong: lin.vjp(wrong),
        lambda wrong: jb.backprop.deltas(jb.trace(net, np.ones(n)), wrong),
        lambda wrong: jb.backprop.gradients(net, np.ones(n), wrong, jb.SquaredError()),
        lambda wrong: jb.explicit.gradients(net, np.ones(n), wrong, jb.SquaredError()),
        lambda wrong: conventions.hadamard(np.ones(n), wrong),
    ]
    for entry_point in entry_points:
        for wrong in (row, column):
            with pytest.raises(jb.ShapeError):
                entry_point(wrong)


# --- what readers of the documents miss -----------------------------------------------------------


def test_row_derivatives_of_a_data_set_are_those_of_the_mean():
    net = jb.Network.random([3, 4, 2], "tanh", seed=0)
    X, Y = np.arange(12.0).reshape(4, 3) / 10, np.ones((4, 2))
    rows = row_derivatives(net, X, Y, jb.SquaredError(), 0.5)
    g = jb.backprop.gradients(net, X, Y, jb.SquaredError(), 0.5)
    # fixed numbers of size 1: the same sums of some ten terms, in another order
    assert abs(rows.cost - g.loss) < 1e-14
    for l in range(2):
        assert np.allclose(rows.weights[l].T, g.weights[l], rtol=1e-13)
        assert np.allclose(rows.biases[l][0], g.biases[l], rtol=1e-13)
        assert np.allclose(rows.preactivations[l][:, 0], g.deltas[l], rtol=1e-13)


def test_any_penalty_adds_its_value_and_gradient():
    net = jb.Network([jb.Dense([[1.0, -2.0]])])
    ones = cv.Penalty(lambda W: np.abs(W).sum(), np.sign)
    rows = row_derivatives(net, [1.0, 1.0], [0.0], jb.SquaredError(), penalty=ones)
    assert rows.cost == 0.5 + 3
    assert_equal(rows.weights[0], [[-1 + 1], [-1 - 1]])


def test_errors_are_one_sum_over_paths_to_any_layer():
    form = to_row_form(jb.Network.random([2, 3, 2, 2], "tanh", seed=0))
    x, y = np.array([[0.5, -1.0]]), np.array([[1.0, 0.0]])
    for l, error in enumerate(form.errors(x, y), start=1):
        # up to 12 paths of up to 7 factors, added in another order; they do not cancel here
        assert np.allclose(form.error_by_paths(x, y, l), error, rtol=1e-13)
    through = form.path_sum(x, 2) @ form.path_sum(x, 1, of=2)
    assert np.allclose(through, form.path_sum(x, 1), rtol=1e-13)  # and so are these
    assert form.cost(x, y) == float(((form(x) - y) ** 2).sum() / 2)


def test_symbols_can_be_typed_in():
    """Fractions go through the products, exactly."""
    row, W = np.array([[F(1, 3), F(2, 3)]]), np.array([[F(1), F(1, 2)], [F(0), F(3)]])
    assert cv.product(row, W).tolist() == [[F(1, 3), F(13, 6)]]
    assert cv.hadamard(row, row).tolist() == [[F(1, 9), F(4, 9)]]
    assert cv.unvec_row([[F(1), F(2)]], (2, 1)).tolist() == [[F(1)], [F(2)]]


def typed():
    W = [[[F(1, 3), 2], [-1, F(1, 2)], [0, 1]], [[1, -1, F(2, 5)], [F(1, 7), 0, 3]]]
    return typed_trace(W, [[1, 0, F(1, 9)], [0, 1]], ["square", "identity"], [F(1, 2), -3])


def test_fractions_go_through_explicit_and_the_row_form_exactly():
    """Every derivative of a typed network is a central difference of its quadratic output."""
    trace = typed()
    form, x = to_row_form(trace.network), np.array([[F(1, 2), F(-3)]])
    J = jb.explicit.input_jacobian(trace)
    for e in np.eye(2, dtype=int):
        up, down = (form(x + s * e) for s in (1, -1))
        assert ((up - down)[0] / 2 == J @ e).all()
    assert all(isinstance(v, F) for v in J.ravel())
    M = jb.explicit.block_matrix(trace)
    assert (M[3 + 2 :, 2:5] @ M[2:5, :2] == J).all()
    y = np.array([[F(1), F(2)]])
    weights, biases = form.gradients(x, y)
    row = (trace.output - y[0]) @ jb.explicit.weight_jacobian(trace, 1)
    assert (weights[0] == jb.unvec(row, (3, 2)).T).all()
    assert (biases[0] == form.errors(x, y)[0]).all()
    assert (biases[0] == form.error_by_paths(x, y, 1)).all()
    assert cv.LayerOne(trace).n == {1: 2, 2: 3, 3: 2}


def test_symbols_of_sympy_go_through_explicit():
    sympy = pytest.importorskip("sympy")
    w, v, x = sympy.symbols("w v x")
    sigma = (sympy.tanh, lambda z: 1 - sympy.tanh(z) ** 2)
    trace = typed_trace([[[w], [1]], [[v, 2]]], None, [sigma, "identity"], [x])
    H = trace.output[0]
    assert sympy.simplify(jb.explicit.input_jacobian(trace)[0, 0] - sympy.diff(H, x)) == 0
    assert sympy.simplify(jb.explicit.weight_jacobian(trace, 1)[0, 0] - sympy.diff(H, w)) == 0
    assert jb.explicit.weight_jacobian(trace, 2)[0, 0] == sympy.diff(H, v)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[[1, 2]]], None, "tanh", [1, 2]), "'tanh' has no exact formula here"),
        (([[[1, 2]]], None, "relu", [1]), r"x: expected shape \(2,\)"),
        (([[[1, 2]]], [[1, 2]], "relu", [1, 2]), r"b\^1: expected shape \(1,\)"),
        (([[1, 2]], None, "relu", [1, 2]), "needs a matrix"),
        (([[[1, 2]], [[1, 2]]], None, "relu", [1, 2]), "takes 2 inputs"),
    ],
)
def test_typed_networks_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        typed_trace(*arguments)
