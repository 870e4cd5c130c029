"""Every kind of factor beside every other: matrices, stacks, slopes, low ranks; on either side."""

from dataclasses import dataclass

import numpy as np
import pytest
from claims import assert_equal, assert_within
from test_engine import all_orders
from zoo import points, whole

import jacobians as jb
from jacobians.compiling import table_of
from jacobians.engine import jacobian_at
from jacobians.factors import factors_of
from jacobians.linearization import layer_map
from jacobians.maps.association import Operand, join
from jacobians.program import Limits, Op
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
    limits = Limits(written_out=widest)
    whole = jb.linearize(net, trace).jacobian()
    plan, alone = (jb.plan(net, B, limits=limits) for B in (4, 1))
    for order in all_orders(0, len(plan.names)):
        assert_within(jacobian_at(trace, plan.in_order(order)), whole, bound)
        for i in range(2):
            J = jacobian_at(trace.point(i), alone.in_order(order))
            assert_within(J, whole[i], bound[i])


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


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_acts_on_each_token_alone_is_multiplied_block_by_block(count, kernels):
    """Whole numbers, so exactly what the maps give: written out, and on the way of other rows."""
    dense = [jb.Dense(whole(m, n), whole(m), "relu") for m, n in ((6, 8), (8, 6))]
    turn = [jb.Permute((1, 0)), jb.Reshape((16, 8))]
    net = jb.Network([jb.Residual([*dense, *turn]), jb.Residual(dense)], inputs=(16, 8))
    steps = jb.plan(net, max(count, 1)).program(net, False).steps
    blocks = {step.out: step.data.blocks for step in steps if step.op == Op.BLOCKS}
    assert [blocks.get(step.args[0]) for step in steps if step.op == Op.WRITE] == [16]
    (rows,) = (step for step in steps if step.op == Op.ROWS)
    assert [blocks[k] for k in rows.args if k in blocks] == [16]
    X = np.round(3 * points(net, max(count, 1)))
    X = X if count else X[0]
    plan = jb.plan(net, max(count, 1), kernels=kernels)
    assert_equal(jb.jacobian(net, X, plan=plan), jb.linearize(net, X).chain.to_dense())


def test_a_table_of_products_stays_far_from_the_ends_of_the_range():
    """Of either sign; zeros are no small numbers."""
    one, zero, large = np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), 2.0**1000)
    for sign in (1, -1):
        assert_equal(table_of(sign * large, one), (sign * large)[None])
        assert_equal(table_of(sign * large, zero), zero[None])
        assert table_of(sign * large, 2.0**20 * one) is None
        assert table_of(sign * large, 2.0**4 * one) is None  # 2^20 below the largest number
        assert table_of(sign / large, 2.0**-22 * one) is not None
        assert table_of(sign / large, 2.0**-23 * one) is None  # the smallest normal is 2^-1022


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


@dataclass(frozen=True, eq=False)
class Doubling(jb.Layer):
    """z = 2 a, of which the engine knows nothing but a rule."""

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return 2 * a


@layer_map.register
def _(layer: Doubling, a):
    return jb.Matrix(np.broadcast_to(2 * np.eye(a.shape[-1]), (*a.shape, a.shape[-1])))


def test_the_cost_of_a_product_is_counted_for_one_point_unless_said():
    """2 · 2 · 3 · 4 for two shared matrices, and a quarter of that for each of four points."""
    left, right = Operand(2, 3, stacked=False), Operand(3, 4, stacked=False)
    assert join(left, right)[1] == 48
    assert join(left, right, 4)[1] == 12


def test_what_all_points_share_has_the_dtype_of_the_network():
    """Also the columns of the identity that end a choice among diagonals."""
    net = jb.Network([jb.Scale([2.0, 3.0]), jb.Elementwise("tanh")]).astype(np.float32)
    factors = factors_of(net, 2, 0, columns=np.array([1]))
    value_of = {factor.name: factor.value for factor in factors}
    assert {name for name, value in value_of.items() if value is None} == {"D2"}
    assert {value.dtype for value in value_of.values() if value is not None} == {
        np.dtype(np.float32)
    }


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
        ("D3", Operand(5, 5, "dense", stacked=True)),
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


def test_wide_structured_factors_are_described_by_what_they_cost():
    net = jb.Network([jb.Elementwise("softmax")], inputs=70)
    assert described(net) == [("D1", Operand(70, 70, "structured", own=700.0))]
    rows = described(net, rows=[1])
    assert rows == [("E", Operand(1, 70, stacked=False)), *described(net)]
    assert jb.plan(net, rows=[1]).flops == 700


def _with_wide_softmax(rng, kind):
    def dense(m, n, sigma="identity"):
        return jb.Dense(rng.normal(size=(m, n)) / n, rng.normal(size=m), sigma)

    n = 70  # wider than what is written out, and square around it, so that shapes do not tell
    blocks = {
        "in the middle": [dense(n, n, "softmax"), dense(n, n)],
        "at the end": [dense(n, n, "tanh"), dense(n, n, "softmax")],
        "twice": [dense(n, n, "softmax"), dense(n, n, "log_softmax")],
        "in a branch": [jb.Residual([dense(n, n, "softmax"), dense(n, n)]), dense(n, n)],
        "in two branches": [
            jb.Residual([dense(n, n, "softmax")]),
            jb.Residual([dense(n, n, "tanh"), dense(n, n, "log_softmax")]),
        ],
        "to fewer": [dense(n, n, "softmax"), dense(3, n)],
        "from fewer": [dense(n, 2, "softmax"), dense(n, n)],
    }
    return jb.Network(blocks[kind])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        *["in the middle", "at the end", "twice", "in a branch", "in two branches"],
        *["to fewer", "from fewer"],
    ],
)
def test_a_wide_softmax_stands_where_it_stands(rng, kind, kernels):
    """From both sides, between all nodes, as Jacobian, JVP and VJP; NumPy and the kernel."""
    net = _with_wide_softmax(rng, kind)
    X = rng.normal(size=(3, net.widths[0]))
    lin = jb.linearize(net, X)
    for of in range(1, net.depth + 1):
        for wrt in range(of):
            plan = jb.plan(net, 3, of=of, wrt=wrt, kernels=kernels)
            J, expected = jb.jacobian(net, X, plan=plan), lin.jacobian(of=of, wrt=wrt)
            # slopes of softmax are off by a few roundings each, a matrix on the wrong side by all
            assert np.abs(J - expected).max() <= 1e-9 * np.abs(expected).max()
    v, c = rng.normal(size=X.shape), rng.normal(size=(3, net.widths[-1]))
    for mine, expected in (
        (jb.jvp(net, X, v), lin.jvp(v)),
        (jb.vjp(net, X, c), lin.vjp(c)),
    ):
        assert np.abs(mine - expected).max() <= 1e-9 * np.abs(expected).max()


@dataclass(frozen=True, eq=False)
class Bent(jb.Layer):
    """A user's layer, ``z = W a + a²/2``: a matrix of all points, and a diagonal of each."""

    W: np.ndarray

    def output_width(self, inputs):
        return len(self.W)

    def preactivation(self, a):
        return a @ self.W.T + a * a / 2


@layer_map.register
def _(layer: Bent, a):
    return jb.Sum([layer.W, jb.Diagonal(a)])


@pytest.mark.parametrize("count", [0, 1, 3, 3000])
def test_a_matrix_of_all_points_and_a_diagonal_of_each_are_added(count):
    """In whole numbers, alone and between other layers, at a point and in pieces."""
    bent, before, after = Bent(whole(3, 3)), jb.Dense(whole(3, 2)), jb.Dense(whole(2, 3))
    for layers in ([bent], [bent, after], [before, bent]):
        net = jb.Network(layers, inputs=2 if layers[0] is before else 3)
        X = np.round(3 * points(net, max(count, 1)))
        X = X if count else X[0]
        assert_equal(jb.jacobian(net, X), jb.linearize(net, X).chain.to_dense())
