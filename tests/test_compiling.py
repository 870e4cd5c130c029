"""Compiling: which step a product becomes, on both sides of every limit."""

import numpy as np
import pytest
from claims import assert_equal
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians.compiling import table_of
from jacobians.maps.association import forward_order, reverse_order
from jacobians.program import Limits, Op

FLAT = [name for name in jb.activations.NAMES if jb.activation(name).flat]


def program_of(net, order=None, valued=False, **limits):
    made = jb.plan(net, 3, limits=Limits(**limits), kernels=False)
    made = made if order is None else made.in_order(order(len(made.factors)))
    return made.program(net, valued)


@pytest.mark.parametrize("order", [forward_order, reverse_order])
def test_a_table_replaces_two_steps_up_to_its_number_of_entries(order):
    """Of the two matrices around slopes, which all points share, whichever is scaled first."""
    net, entries = jb.Network.random([3, 7, 5], seed=0), 3 * 7 * 5
    steps = program_of(net, order, table=entries).steps
    assert [step.op for step in steps if step.op >= Op.MULTIPLY_SLOPES] == [Op.TABLE]
    steps = program_of(net, order, table=entries - 1).steps
    assert Op.TABLE not in {step.op for step in steps}
    whole_net = jb.Network.random([3, 7, 6, 5], seed=0)  # the third matrix meets a stack
    steps = [step.op for step in program_of(whole_net, order, table=10**9).steps]
    assert steps.count(Op.TABLE) == 1


@pytest.mark.parametrize("scaled", ["left", "right"])
def test_dead_units_are_left_out_from_a_number_of_multiplications_on(scaled):
    """Of slopes between two sides that no points share, whichever would be scaled by them."""
    net = jb.Network.random([6, 8, 7, 9, 5], "relu", seed=0)  # W4 D3 W3, D2, W2 D1 W1
    X, left, right = points(net, 3), reverse_order(3), shifted(reverse_order(3), 4)
    order = ((left, 3), right) if scaled == "left" else (left, (3, right))
    size = 5 * 7 * 6
    for live, leaves_out in ((size, True), (size + 1, False)):
        made = jb.plan(net, 3, limits=Limits(live=live, table=0), kernels=False).in_order(order)
        assert (made.program(net, False).steps[-1].op == Op.LIVE) == leaves_out
        J = jb.jacobian(net, X, plan=made)
        assert np.abs(J - jb.linearize(net, X).jacobian()).max() < 1e-13  # numbers below 1


def shifted(order, by):
    return order + by if isinstance(order, int) else tuple(shifted(part, by) for part in order)


@pytest.mark.parametrize("net", NETWORKS.values(), ids=list(NETWORKS))
def test_units_are_left_out_only_where_many_slopes_are_0(net):
    """Those of an activation, between stacks: not what all points share, and no product of them."""
    for order in (None, forward_order, reverse_order):
        if order is not None and jb.plan(net).association is None:
            continue
        steps = program_of(net, order, live=0, table=0).steps
        by_register = {step.out: step for step in steps}
        for step in steps:
            if step.op == Op.LIVE:
                slopes = by_register[step.args[1]]
                assert slopes.op == Op.SLOPES
                assert slopes.data.flat


@pytest.mark.parametrize("between", ["tanh", "scale", "two diagonals"])
def test_a_diagonal_without_dead_units_is_scaled_with_between_two_stacks(between):
    """Exact in whole numbers: a square and a cube on either side, so that neither is shared."""
    square = jb.Elementwise("square")
    middle = {
        "tanh": [jb.Elementwise("tanh")],
        "scale": [jb.Scale(whole(4) + 5)],
        "two diagonals": [jb.Elementwise("relu"), jb.Scale(whole(4) + 5)],
    }[between]
    layers = [jb.Dense(whole(6, 3)), square, jb.Dense(whole(4, 6)), *middle]
    net = jb.Network([*layers, jb.Dense(whole(6, 4)), square, jb.Dense(whole(3, 6))])
    limits = Limits(live=0, table=0)
    made = jb.plan(net, 3, limits=limits, kernels=False)
    inner = len(middle)
    first = reverse_order(3)  # W D W
    rest = shifted(reverse_order(3), 3 + inner)
    diagonals = shifted(reverse_order(inner), 3)
    made = made.in_order((first, (diagonals, rest)))
    assert Op.LIVE not in {step.op for step in made.program(net, False).steps}
    X = np.array([[1.0, -2.0, 3.0], [0.0, 2.0, -1.0]])
    J, expected = jb.jacobian(net, X, plan=made), jb.linearize(net, X).jacobian()
    if between == "tanh":
        assert np.abs(J - expected).max() <= 1e-12 * np.abs(expected).max()  # sums reordered
    else:
        assert_equal(J, expected)


def tokens(count):
    dense = [jb.Dense(whole(m, n), whole(m), "relu") for m, n in ((6, 8), (5, 6))]
    return jb.Network([jb.Reshape((count, 8)), *dense], inputs=8 * count)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_many_rows_go_through_maps_some_at_a_time(count):
    """From the limit on, counted on the side on which they pass."""
    net = jb.Network(
        [jb.Dense(whole(8 * count, 7)), *tokens(count).layers, jb.Dense(whole(3, 5 * count))]
    )
    for order, passing in ((forward_order, 7), (reverse_order, 3)):
        for rows, in_pieces in ((passing, True), (passing + 1, False)):
            steps = program_of(net, order, rows=rows, written_out=1, table=0).steps
            assert (Op.ROWS in {step.op for step in steps}) == (in_pieces and count > 1), (
                passing,
                rows,
            )


def test_products_that_may_reach_a_quarter_of_the_largest_number_are_looked_at():
    """By what their factors are bounded by; factors below 1 make no room for others."""
    for dtype in (np.float32, np.float64):
        quarter = np.finfo(dtype).max / 4
        below = np.nextafter(quarter, dtype(0))
        for W, bounded in ((quarter, False), (below, True)):
            for layers in ([[W]], [[W], [0.5]], [[0.5], [W]], [[1.0], [W], [1.0]]):
                net = jb.Network([jb.Dense(np.array([w], dtype)[None]) for (w,) in layers])
                assert program_of(net).bounded == bounded


def test_a_table_stays_between_the_ends_of_the_range_to_the_last_bit():
    """From the smallest normal number to below 2^-20 of the largest: every entry that is not 0."""
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        least, most = info.smallest_normal, info.max / dtype(2**20)
        ones = np.ones((1, 2), dtype)
        for good in (least, np.nextafter(most, dtype(0))):
            for bad in (np.nextafter(least, dtype(0)), most, dtype(np.inf)):
                for sign in (1, -1):
                    for W, is_made in (([good, 1], True), ([bad, 1], False), ([1, bad], False)):
                        W = np.array(W, dtype)[:, None] * dtype(sign)
                        for left, right in ((W, ones), (ones.T, W.T)):
                            table = table_of(left, right)
                            assert (table is not None) == is_made
                            if is_made:
                                assert_equal(table, (left[:, 0, None] * right)[None])
    zero = np.array([[0.0, 1.0], [2.0, 0.0]])
    for left, right in ((zero, zero), (zero, 3 * zero), (zero, np.ones((2, 2)))):
        table = table_of(left, right)
        assert_equal(table, np.einsum("ik,kj->kij", left, right))


def test_a_jacobian_that_nothing_changes_is_made_beforehand():
    """Ones on the diagonal, in the network's dtype."""
    for dtype in (np.float32, np.float64):
        net = jb.Network.random([4, 3], seed=0).astype(dtype)
        for of in (0, 1):
            made = jb.plan(net, of=of, wrt=of)
            (write,) = (s for s in made.program(net, False).steps if s.op == Op.WRITE)
            ones = made.program(net, False).registers[write.args[0]]
            assert_equal(ones, np.ones(net.widths[of], dtype))
            assert ones.dtype == dtype


@pytest.mark.parametrize("power", [600, -600])
@pytest.mark.parametrize("between", ["identity", "tanh", "log"])
def test_planning_raises_no_flag(power, between):
    """Where products made beforehand leave the range, sums of a row, or the values at zeros."""
    W = np.full((2, 2), 2.0**power)
    net = jb.Network([jb.Dense(W, activation=between), jb.Dense(W)])
    largest = jb.Network([jb.Dense(np.full((2, 2), 2.0**1023))])
    with np.errstate(all="raise"):
        assert jb.plan(largest).names == ("W1",)
        for ask in ({}, {"kernels": False}, {"limits": Limits(table=0)}):
            assert jb.plan(net, 3, near=[1.0, 1.0], **ask).flops > 0
        for verb in (jb.jvp, jb.vjp):
            assert_equal(verb(net, np.ones((3, 2)), np.zeros((3, 2))), np.zeros((3, 2)))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_acts_on_tokens_is_written_block_by_block_where_many_rows_would_pass(count):
    """From two tokens on, and as many rows as the smaller side has."""
    layers = [jb.Dense(whole(m, n), whole(m), "relu") for m, n in ((6, 8), (12, 6), (12, 8))]
    nodes = {"a": (layers[0], "x"), "b": (layers[1], "a"), "c": (layers[2], "x")}
    net = jb.Network.graph({**nodes, "y": (jb.Add(), "b", "c")}, inputs={"x": (count, 8)})
    X = np.round(3 * points(net, 2))
    for rows, many in ((8 * count, True), (8 * count + 1, False)):
        made = jb.plan(net, 2, limits=Limits(rows=rows, written_out=1), kernels=False)
        steps = made.program(net, False).steps
        in_blocks = any(step.op == Op.WRITE and step.data == "blocks" for step in steps)
        assert in_blocks == (many and count > 1)
        assert_equal(jb.jacobian(net, X, plan=made), jb.linearize(net, X).chain.to_dense())
