"""Every kind of factor beside every other: matrices, stacks, slopes, low ranks; on either side."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from claims import assert_equal, assert_within
from test_engine import all_orders
from zoo import points

import jacobians as jb
from jacobians.engine import compiling, jacobian_at, products
from jacobians.factors import factors_of, known_value
from jacobians.maps.association import Operand, join
from jacobians.rounding import chain_bound


@pytest.mark.parametrize("widest", [0, 10**9])
def test_diagonals_and_low_ranks_meet_in_every_order(widest):
    """Slopes, parts and matrices beside one another, on either side, written out or not.

    In a batch, and at a single point.
    """
    layers = [jb.Elementwise(name) for name in ("tanh", "softmax", "log_softmax", "sin", "softmax")]
    layers.insert(3, jb.Scale([2.0, -0.5, 3.0], [1.0, 0.0, -1.0]))
    net = jb.Network([*layers, jb.Dense([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])], inputs=3)
    assert len(jb.plan(net).names) == 7
    trace = jb.trace(net, points(net, 4))
    bound = chain_bound(jb.linearize(net, trace).factors, net.dtype).pair()
    whole, plan, alone = jb.linearize(net, trace).jacobian(), jb.plan(net, 4), jb.plan(net, 1)
    with patch.object(compiling, "WRITTEN_OUT_WIDTH", widest):
        for order in all_orders(0, len(plan.names)):
            drawn = replace(plan, association=replace(plan.association, order=order))
            assert_within(jacobian_at(trace, drawn), whole, bound)
            drawn = replace(alone, association=replace(alone.association, order=order))
            for i in range(2):
                assert_within(jacobian_at(trace.point(i), drawn), whole[i], bound[i])


def test_a_chain_of_nothing_but_diagonals_is_a_diagonal():
    """At a point and in batches large and small, exactly."""
    ramp, scale = jb.Elementwise("hard_tanh"), jb.Scale([2.0, -1.0, 4.0])
    for layers in (
        [ramp],
        [jb.Elementwise("relu"), ramp],
        [scale, jb.Elementwise("square")],
        [jb.Elementwise("relu"), scale, ramp, scale],
    ):
        net = jb.Network(layers, inputs=3)
        for count in (1, 4, 4000):
            X = (np.arange(3.0 * count).reshape(count, 3) % 11 - 4) / 8
            J = jb.jacobian(net, X)
            for i in {0, count // 2, count - 1}:
                expected = jb.explicit.input_jacobian(jb.trace(net, X[i]))
                assert_equal(J[i], expected)
                assert_equal(jb.jacobian(net, X[i]), expected)
                assert_equal(jb.value_and_jacobian(net, X[i])[1], expected)


def test_one_entry_out_of_range_is_enough_for_a_closer_look():
    """1e200 · 1e200 · 1e-300 in one corner, ordinary numbers in the other."""
    layers = [np.diag([w, 1.0]) for w in (1e-300, 1e200, 1e200)]
    net = jb.Network([jb.Dense(W, activation="tanh") for W in layers])
    expected = np.diag([1e100, 1.0])
    for J in (jb.jacobian(net, [0.0, 0.0]), *jb.jacobian(net, np.zeros((3, 2)))):
        assert_within(J, expected, 1e-14 * expected)  # some roundings of each product


# --- what a plan knows of the factors -------------------------------------------------------------


def described(net, **choice):
    return [(factor.name, factor.operand) for factor in jb.plan(net, **choice).factors]


class Doubling(jb.Layer):
    """z = 2 a, of which the engine knows nothing but a rule."""

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return 2 * a


def test_the_cost_of_a_product_is_counted_for_one_point_unless_said():
    """2 · 2 · 3 · 4 for two shared matrices, and a quarter of that for each of four points."""
    left, right = Operand(2, 3, stacked=False), Operand(3, 4, stacked=False)
    assert join(left, right)[1] == 48
    assert join(left, right, 4)[1] == 12


def test_what_all_points_share_has_the_dtype_of_the_network():
    """Also the columns of the identity that end a choice among diagonals."""
    net = jb.Network([jb.Scale([2.0, 3.0]), jb.Elementwise("tanh")]).astype(np.float32)
    factors = factors_of(net, 2, 0, columns=np.array([1]))
    known = {factor.name: known_value(net, factor) for factor in factors}
    assert {name for name, value in known.items() if value is None} == {"D2"}
    assert {value.dtype for value in known.values() if value is not None} == {np.dtype(np.float32)}


def test_factors_are_described_by_size_kind_rank_and_whether_points_share_them():
    net = jb.Network(
        [
            jb.Scale([2.0, 3.0, 4.0]),
            jb.Dense(np.ones((5, 3)), activation="tanh"),
            jb.Elementwise("softmax"),
            jb.Dense(np.ones((2, 5))),
            Doubling(),
        ]
    )
    above = [
        ("W5", Operand(2, 2, "dense", stacked=True)),
        ("W4", Operand(2, 5, "dense", stacked=False)),
        ("D3", Operand(5, 5, "low rank", rank=2, stacked=True)),
        ("D2", Operand(5, 5, "diagonal", stacked=True)),
    ]
    assert described(net) == [
        *above,
        ("W2", Operand(5, 3, "dense", stacked=False)),
        ("W1", Operand(3, 3, "diagonal", stacked=False)),
    ]
    assert described(net, columns=[2, 0]) == [
        *above,
        ("W2", Operand(5, 2, "dense", stacked=False)),
        ("W1", Operand(2, 2, "diagonal", stacked=False)),
    ]
    assert described(net, of=3, wrt=2, rows=[1]) == [("D3", Operand(1, 5, "dense", stacked=True))]
    assert described(net, of=2, rows=[4]) == [
        ("D2", Operand(1, 1, "diagonal", stacked=True)),
        ("W2", Operand(1, 3, "dense", stacked=False)),
        ("W1", Operand(3, 3, "diagonal", stacked=False)),
    ]
    assert described(net, of=1, rows=[1]) == [
        ("W1", Operand(1, 1, "diagonal", stacked=False)),
        ("E", Operand(1, 3, "dense", stacked=False)),
    ]
    assert described(net, of=1, columns=[1, 2]) == [
        ("E", Operand(3, 2, "dense", stacked=False)),
        ("W1", Operand(2, 2, "diagonal", stacked=False)),
    ]


# --- one product at a time ------------------------------------------------------------------------

POINTS, K, R = 3, 4, 2  # points, the inner width, the rank
_rng = np.random.default_rng(20260702)


def whole(*shape):
    return _rng.integers(-4, 5, shape).astype(float)


VALUES = {
    "matrix W": whole(2, K),
    "matrix V": whole(K, 5),
    "stack P": whole(2, POINTS, K),
    "stack Q": whole(K, POINTS, 5),
    "slopes d": whole(POINTS, K) * (whole(POINTS, K) > -2),
    "slopes e": whole(POINTS, K),
    "slopes of all": whole(K),
    "parts": (whole(POINTS, K), whole(POINTS, K, R), whole(POINTS, K, R)),
}
VALUES["slopes d"][1] = 0  # a point at which every unit is dead


def at_point(name, i):
    """Write the value of a point out, by the definition of its kind."""
    value, kind = VALUES[name], name.split()[0]
    if kind == "parts":
        d, U, V = (part[i] for part in value)
        return np.diag(d) + U @ V.T
    if kind == "slopes":
        return np.diag(value[i] if value.ndim == 2 else value)
    return value[:, i] if kind == "stack" else value


def by_table(kernel):
    return lambda W, d, V, out: kernel(d, products.table_of(W, V), out)


PRODUCTS = [
    (products.scale_rows, "slopes d", "matrix V"),
    (products.scale_rows, "slopes d", "stack Q"),
    (products.scale_rows, "slopes of all", "stack Q"),
    (products.scale_columns, "matrix W", "slopes d"),
    (products.scale_columns, "stack P", "slopes d"),
    (products.scale_columns, "stack P", "slopes of all"),
    (products.stack_by_matrix, "stack P", "matrix V"),
    (products.stack_by_matrix_in_slabs, "stack P", "matrix V"),
    (products.matrix_by_stack, "matrix W", "stack Q"),
    (products.stack_by_stack, "stack P", "stack Q"),
    (products.point_by_point(1), "stack P", "slopes d", "stack Q"),
    (products.point_by_point(2), "stack P", "slopes d", "stack Q"),
    (by_table(products.by_table), "matrix W", "slopes d", "matrix V"),
    (by_table(products.by_table_in_slabs), "matrix W", "slopes d", "matrix V"),
    (products.parts_by_matrix, "parts", "matrix V"),
    (products.parts_by_matrix, "parts", "stack Q"),
    (products.matrix_by_parts, "matrix W", "parts"),
    (products.matrix_by_parts, "stack P", "parts"),
]
MEMORY = {  # for a result of shape (m, points, n)
    "its own": lambda m, n: None,
    "contiguous": lambda m, n: np.full((m, POINTS, n), np.nan),
    "points first": lambda m, n: np.full((POINTS, m, n), np.nan).transpose(1, 0, 2),
    "columns first": lambda m, n: np.full((n, POINTS, m), np.nan).transpose(2, 1, 0),
    "with gaps": lambda m, n: np.full((2 * m, POINTS, 3 * n), np.nan)[::2, :, ::3],
}


@pytest.mark.parametrize("memory", MEMORY.values(), ids=MEMORY.keys())
@pytest.mark.parametrize("limits", [(1, 0), (1, 99), (45, 0), (45, 99), (2**18, 32)], ids=str)
def test_every_product_is_that_of_the_matrices_of_every_point(memory, limits):
    """Bit for bit on whole numbers, whatever the sizes of slabs and the memory of the result."""
    serial, worth_a_copy = limits
    for kernel, *names in PRODUCTS:
        matrices = [[at_point(name, i) for name in names] for i in range(POINTS)]
        expected = np.stack([np.linalg.multi_dot(each) for each in matrices], axis=1)
        out = memory(expected.shape[0], expected.shape[2])
        with (
            patch.object(products, "SERIAL", serial),
            patch.object(products, "WORTH_A_COPY", worth_a_copy),
        ):
            result = kernel(*(VALUES[name] for name in names), out)
        assert_equal(result, expected)
        if out is not None:
            assert_equal(out, expected)
            assert np.shares_memory(result, out)


def test_what_all_points_share_is_multiplied_once():
    W, V, e = VALUES["matrix W"], VALUES["matrix V"], VALUES["slopes of all"]
    assert_equal(products.matrix_by_matrix(W, V, None), W @ V)
    assert_equal(products.scale_rows(e, V, None), np.diag(e) @ V)
    assert_equal(products.scale_columns(W, e, None), W @ np.diag(e))
    assert_equal(products.multiply_slopes(e, e, None), e * e)
    assert_equal(products.table_of(W, V), [np.outer(W[:, k], V[k]) for k in range(K)])


def test_slopes_and_parts_are_written_out_by_their_definition():
    d, e = VALUES["slopes d"], VALUES["slopes e"]
    product = products.multiply_slopes(d, e, None)
    for i in range(POINTS):
        assert_equal(products.dense_slopes(product)[:, i], np.diag(d[i] * e[i]))
        assert_equal(products.dense_parts(*VALUES["parts"])[:, i], at_point("parts", i))
