"""The plan and the engine: the cheapest order, pieces that fit, every path within the bound."""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from test_laws_of_jacobians import orders
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.engine import jacobian_at
from jacobians.factors import Factor
from jacobians.maps import multiply_out
from jacobians.maps.association import (
    Operand,
    associate,
    flops,
    forward_order,
    operand,
    reverse_order,
    spell,
)
from jacobians.rounding import chain_bound

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())


def all_orders(i, j):
    """Every way to put brackets into factors i..j-1."""
    if j - i == 1:
        yield i
    for s in range(i + 1, j):
        yield from itertools.product(all_orders(i, s), all_orders(s, j))


# --- the order ------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), min_size=2, max_size=7), st.data(), st.integers(1, 9))
def test_planned_order_is_the_cheapest_of_all(sizes, data, batch):
    """Dynamic programming against the enumeration of every order, some factors shared."""
    chain = [
        Operand(m, n, stacked=data.draw(st.sampled_from([False, False, True])))
        for m, n in itertools.pairwise(sizes)
    ]
    association = associate(chain, batch)
    best = min(flops(chain, order, batch) for order in all_orders(0, len(chain)))
    assert association.flops == pytest.approx(
        best, rel=1e-12
    )  # sums of the same terms in another order
    assert association.flops == flops(chain, association.order, batch)
    assert association.flops <= min(association.forward, association.reverse)


@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=4),
    st.sampled_from(["diagonal", "structured"]),
)
def test_planned_order_is_the_cheapest_with_structured_factors(sizes, kind):
    """A run of two or more factors counts as dense in the search, so diagonals may not pair up."""
    chain = []
    for m, n in itertools.pairwise(sizes):
        own = 10.0 * m if kind == "structured" else None
        chain += [Operand(m, m, kind, own=own), Operand(m, n)]
    association = associate(chain)
    best = min(flops(chain, order) for order in all_orders(0, len(chain)))
    assert association.flops == pytest.approx(best, rel=1e-12)  # in another order, as above


def test_bottleneck_is_multiplied_out_from_the_middle():
    """784-256-32-256-784: five times fewer operations than forward or reverse."""
    plan = jb.plan(jb.Network.random([784, 256, 32, 256, 784], seed=0), batch=32)
    assert plan.mode == "mixed"
    assert 5 < plan.association.reverse / plan.flops < 6


def test_few_outputs_go_reverse_and_few_inputs_forward():
    assert jb.plan(jb.Network.random([50, 40, 30, 1], seed=0)).mode == "reverse"
    assert jb.plan(jb.Network.random([1, 30, 40, 50], seed=0)).mode == "forward"


def test_orders_have_their_names():
    assert reverse_order(4) == (((0, 1), 2), 3)
    assert forward_order(4) == (0, (1, (2, 3)))
    assert reverse_order(1) == forward_order(1) == 0


def test_cost_model_knows_every_kind():
    """A map says itself what a column costs, and is written out by applying it."""
    d, U = np.ones(6), np.ones((6, 2))
    assert operand(jb.Diagonal(d)) == Operand(6, 6, "diagonal", stacked=False)
    low_rank = operand(jb.DiagonalPlusLowRank(d, U, U))
    assert low_rank == Operand(6, 6, "structured", stacked=False, own=60.0)
    assert low_rank.alone == 6 * 60
    assert operand(jb.Identity(6)).kind == "identity"
    kronecker = operand(jb.Kronecker(np.ones((2, 3)), np.ones((5, 4))))
    assert (kronecker.rows, kronecker.columns, kronecker.kind) == (10, 12, "structured")
    assert kronecker.single == 3 * 2 * 5 * 4 + 5 * 2 * 2 * 3  # R X, then (R X) Lᵀ
    assert kronecker.alone == 10 * kronecker.single  # from the smaller side
    assert operand(jb.Matrix(np.ones((3, 2, 4)))) == Operand(2, 4, "dense", stacked=True)
    dense = Operand(6, 10)
    assert flops([operand(jb.Diagonal(d)), dense], (0, 1)) == 60
    assert flops([low_rank, dense], (0, 1)) == 10 * 60
    assert flops([low_rank, low_rank], (0, 1)) == 6 * 60 + 6 * 60
    assert flops([low_rank], 0) == 6 * 60
    assert flops([operand(jb.Identity(6)), dense], (0, 1)) == 0
    assert flops([dense, operand(jb.Identity(10))], (0, 1)) == 0


def test_a_sum_costs_its_terms_and_what_adds_them_up():
    """m n additions for every matrix but the first, n for what lies on the diagonal alone."""
    matrix, one, product = (
        Factor("A", "matrix", (4, 4), 32.0),
        Factor("A", "identity", (4, 4), 0.0),
        Factor(
            "A",
            "product",
            (4, 4),
            48.0,
            parts=(Factor("A", "matrix", (4, 3), 24.0), Factor("A", "matrix", (3, 4), 24.0)),
        ),
    )
    for terms, cost in (
        ([matrix, matrix], 16),
        ([matrix, matrix, matrix], 32),
        ([one, matrix], 4),
        ([one, matrix, matrix, one], 16 + 2 * 4),
        ([one, product], 4 + 2 * 4 * 3 * 4),
        ([product, product], 16 + 2 * (2 * 4 * 3 * 4)),
    ):
        assert Factor("A", "sum", (4, 4), 0.0, parts=tuple(terms)).operand.alone == cost


@given(st.lists(st.integers(1, 40), min_size=2, max_size=9))
def test_long_chains_go_through_their_narrowest_place(sizes):
    """In linear time; as good as the search where every factor is wider than that place."""
    from jacobians.maps.association import _through_the_narrowest

    chain = [Operand(m, n) for m, n in itertools.pairwise([40, *sizes, 40])]
    order = _through_the_narrowest(chain, 1)
    narrowest = min(A.columns for A in chain[:-1])
    through = sum(A.single for A in chain) * narrowest
    assert flops(chain, order) <= through + 2 * 40 * narrowest * 40


def test_orders_as_deep_as_long_chains_are_followed():
    chain = [Operand(3, 3) for _ in range(20_000)]
    association = associate(chain)
    assert association.flops == 19_999 * 54
    assert "19999" in spell(association.order, [str(k) for k in range(20_000)])


def test_products_of_shared_factors_are_paid_once_for_the_batch():
    shared, stacked = Operand(4, 5, stacked=False), Operand(5, 6, stacked=True)
    assert flops([shared, Operand(5, 6, stacked=False)], (0, 1), batch=10) == 2 * 4 * 5 * 6 / 10
    assert flops([shared, stacked], (0, 1), batch=10) == 2 * 4 * 5 * 6


def test_plan_is_one_line_and_explains_itself():
    plan = jb.plan(NETWORKS["bottleneck"], batch=100)
    assert "\n" not in str(plan)
    for word in ("da^4/da^0 8x9", "order", "flop per point", "pieces of 100 points"):
        assert word in str(plan)
    for word in (
        "factor",
        "W1",
        "D3",
        "diagonal",
        "one per point",
        "reverse: outputs first",
        "memory",
    ):
        assert word in plan.explain()


# --- the memory -----------------------------------------------------------------------------------


@every_network
def test_every_size_of_piece_gives_the_stack(net):
    """At any piece size the values are those of the whole, up to other matrix kernels."""
    X = points(net, 7)
    whole = jb.jacobian(net, X)
    assert jb.plan(net, 7).piece == 7
    for pieces in (1, 2, 3):
        whole_plan = jb.plan(net, 7)
        budget = whole_plan.fixed_bytes + pieces * whole_plan.point_bytes
        plan = jb.plan(net, 7, max_bytes=max(budget, 2 * whole_plan.fixed_bytes))
        if whole_plan.fixed_bytes > pieces * whole_plan.point_bytes:
            continue  # what is made beforehand takes more than the points
        assert plan.piece == pieces
        cut = jb.jacobian(net, X, plan=plan)
        # a piece of another length meets other kernels, so the slopes differ in the last bits:
        # compared on the scale of the path sums, with room for those
        lin = jb.linearize(net, X)
        scale = chain_bound(lin.factors, net.dtype).single().max(axis=(-2, -1), keepdims=True)
        assert_within(cut, whole, 100 * scale)


@given(st.data(), st.integers(1, 3))
def test_pieces_of_exact_networks_are_exactly_the_whole(data, pieces):
    net = data.draw(jst.exact_networks())
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(5)])
    plan = jb.plan(net, 5)
    budget = plan.fixed_bytes + max(pieces * plan.point_bytes, plan.fixed_bytes)
    assert_equal(jb.jacobian(net, X, max_bytes=budget), jb.jacobian(net, X))


def test_working_memory_is_bounded_whatever_the_batch():
    """20,000 points with a budget of 2 MiB: nothing beside the result exceeds it."""
    net = jb.Network.random([20, 64, 64, 1], seed=0)
    X = np.random.default_rng(0).standard_normal((20_000, 20))
    out = np.empty((20_000, 1, 20))
    budget = 2 * 2**20
    tracemalloc.start()
    jb.jacobian(net, X, out=out, max_bytes=budget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    values = 20_000 * 8  # the values of the network come along
    checked = 20_000 * 20  # one byte per input, for the finiteness of X
    assert peak <= budget + values + checked + 2**18


def test_budget_too_small_for_a_point_is_refused():
    net = NETWORKS["bottleneck"]
    with pytest.raises(ValueError, match=r"one point needs \d+ bytes, but the budget is 10"):
        jb.jacobian(net, points(net, 2), max_bytes=10)


# --- the arguments --------------------------------------------------------------------------------


def test_result_goes_where_it_is_told():
    net = NETWORKS["tanh hidden"]
    X = points(net, 5)
    out = np.full((5, 3, 4), np.nan)
    assert jb.jacobian(net, X, out=out) is out
    assert_equal(out, jb.jacobian(net, X))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((5, 3, 3)), jb.ShapeError, r"expected shape \(5, 3, 4\) and float64, but got"),
        (np.empty((5, 3, 4), np.float32), jb.ShapeError, "float32"),
        ([0.0], TypeError, "expected an array, but got list"),
        (np.broadcast_to(0.0, (5, 3, 4)), ValueError, "read-only"),
    ],
)
def test_bad_out_is_refused(out, error, message):
    net = NETWORKS["tanh hidden"]
    with pytest.raises(error, match=message):
        jb.jacobian(net, points(net, 5), out=out)


def test_out_that_overlaps_the_input_is_refused():
    net = jb.Network.random([4, 4], seed=0)
    memory = np.zeros((4, 4, 4))
    with pytest.raises(ValueError, match="overlaps X"):
        jb.jacobian(net, memory[0], out=memory)


def test_plan_is_reusable_and_knows_its_network():
    net = NETWORKS["tanh hidden"]
    plan = jb.plan(net, batch=3)
    for X in (points(net, 3), points(net, 10)[3:6]):
        assert_equal(jb.jacobian(net, X, plan=plan), jb.jacobian(net, X))
    # the same factors, with other numbers in them: of other weights, and of another activation
    for other in (net.with_parameters(2 * net.parameters), NETWORKS["relu hidden"]):
        X = points(other, 2)
        for again in (plan, pickle.loads(pickle.dumps(plan))):
            for _ in range(2):  # compiled, and kept
                both = jb.value_and_jacobian(other, X, plan=again)
                for mine, right in zip(both, jb.value_and_jacobian(other, X), strict=True):
                    assert_equal(mine, right)
                assert_equal(jb.jacobian(other, X, plan=again), both[1])
        assert_equal(jb.jacobian(net, X, plan=plan), jb.jacobian(net, X))
    for wrong in (NETWORKS["bottleneck"], NETWORKS["identity hidden"]):
        with pytest.raises(ValueError, match="made for another network"):
            jb.jacobian(wrong, points(wrong, 2), plan=plan)
    with pytest.raises(TypeError, match="expected a Plan, but got 'fast'"):
        jb.jacobian(net, points(net, 2), plan="fast")


@given(st.data())
def test_every_order_the_engine_can_take_is_within_the_bound(data):
    """Plans with drawn orders, on a batch and at a point, at the trace of the explicit view."""
    net = data.draw(jst.networks(hidden=("tanh", "relu", "identity", "softmax", "log_softmax")))
    x = data.draw(jst.points(net))
    plan = jb.plan(net)
    if plan.association is None:
        return
    order = data.draw(orders(len(plan.names)))
    forced = plan.in_order(order)
    trace = jb.trace(net, x)
    bound = chain_bound(jb.linearize(net, trace).factors, net.dtype)
    assert_within(jacobian_at(trace, forced), jb.explicit.input_jacobian(trace), bound.pair())
    batch = jb.trace(net, np.stack([x, x]))
    J = np.broadcast_to(jacobian_at(batch, forced), (2, net.widths[-1], net.widths[0]))
    for i in range(2):
        point = batch.point(i)
        bound = chain_bound(jb.linearize(net, point).factors, net.dtype)
        assert_within(J[i], jb.explicit.input_jacobian(point), bound.pair())


@every_network
def test_multiply_out_takes_the_cheapest_order_by_itself(net):
    lin = jb.linearize(net, points(net, 2))
    bound = chain_bound(lin.factors, net.dtype).pair()
    J = lin.jacobian()
    assert_within(np.broadcast_to(multiply_out(lin.factors), J.shape), J, bound)


# --- layers of the user's own ---------------------------------------------------------------------


def test_a_layer_with_one_registered_rule_works_everywhere():
    from jacobians.linearization import layer_map

    class Doubling(jb.Layer):
        """z = 2 a + a reversed."""

        def output_width(self, inputs):
            return inputs

        def preactivation(self, a):
            return 2 * a + a[..., ::-1]

        def __repr__(self):
            return "Doubling"

    net = jb.Network([Doubling(), jb.Dense([[1.0, -2.0, 3.0]], activation="tanh")])
    with pytest.raises(NotImplementedError, match=r"Doubling has no derivative rule; register one"):
        jb.jacobian(net, [0.1, 0.2, 0.3])

    @layer_map.register
    def _(layer: Doubling, a):
        n = a.shape[-1]
        return jb.Matrix(2 * np.eye(n) + np.eye(n)[::-1])

    assert jb.certify(net, [0.1, 0.2, 0.3]).holds
    X = points(net, 4)
    g = jb.backprop.gradients(net, X, np.zeros((4, 1)), jb.SquaredError())
    again = jb.explicit.gradients(net, X, np.zeros((4, 1)), jb.SquaredError())
    assert_within(g.inputs, again.inputs, 1e-14)  # a handful of roundings of numbers below 30
    assert g.weights[0] is None
    with pytest.raises(TypeError, match="only layers of the library can be saved"):
        jb.save(net, "never.npz")
