"""What is known of the factors before any point is: their size, cost, blocks, bounds and names."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from claims import assert_equal
from test_figures_of_plans import CASES
from zoo import points

import jacobians as jb
from jacobians.activations import Activation
from jacobians.factors import Factor, as_index, factors_of, parts_of
from jacobians.linearization import layer_map
from jacobians.maps import Product
from jacobians.maps.association import operand

every_network = pytest.mark.parametrize("net", CASES.values(), ids=list(CASES))


def opened(A):
    """Write a map as factors, identities left out."""
    if isinstance(A, Product):
        return [part for factor in A.factors for part in opened(factor)]
    return [] if isinstance(A, jb.Identity) else [A]


def blocks_between(net):
    depth = net.depth
    return {(depth, 0), (depth, depth // 2), (depth // 2, 0), (depth - 1, depth // 2)}


@every_network
def test_factors_are_described_as_the_maps_that_they_stand_for(net):
    """Size, kind, cost of a column, blocks, one for all points or one for each, and the parts."""
    lin = jb.linearize(net, points(net, 2))
    for of, wrt in blocks_between(net):
        maps = [part for A in lin.between(of, wrt) for part in opened(A)]
        factors = factors_of(net, of, wrt, written_out=0)
        for factor, A in zip(factors, maps, strict=True):
            require_description(factor, A)


def require_description(factor, A):
    described = operand(A)
    assert replace(factor.operand, written=None) == replace(described, own=factor.operand.own)
    assert factor.flops == A.flops
    if described.kind == "structured":
        assert factor.operand.own == A.flops
    assert factor.blocks == A.block_count
    dense = np.atleast_3d(A.to_dense().T).T  # (points, m, n)
    for diagonal in range(factor.blocks):
        m, n = (size // factor.blocks for size in factor.shape)
        beside = dense[:, diagonal * m : (diagonal + 1) * m].copy()
        beside[..., diagonal * n : (diagonal + 1) * n] = 0
        assert not beside.any()
    for part, B in zip(factor.members(), parts_of(A), strict=True):
        require_description(part, B)


@every_network
def test_no_row_of_a_factor_adds_up_to_more_than_its_bound(net):
    """By absolute values, at points near and far; shared ones reach it."""
    lin = jb.linearize(net, 3 * points(net, 5))
    maps = [part for A in lin.factors for part in opened(A)]
    for factor, A in zip(factors_of(net, net.depth, 0, written_out=0), maps, strict=True):
        sums = np.abs(A.to_dense()).sum(axis=-1)
        assert sums.max() <= factor.bound * (1 + 1e-5)  # of float32, rounded
        if factor.value is not None and np.isfinite(factor.bound):
            assert sums.max() == pytest.approx(factor.bound, rel=1e-6)  # of float32


def relu(*rows):
    return jb.Dense(np.array(rows), activation="relu")


def test_bounds_are_those_of_the_rules():
    """A sum adds them, a product multiplies them, and what is below 1 makes no room for others."""
    small, half = relu([0.25, -0.5], [0.25, 0.25]), relu([0.5])
    factors = {factor.name: factor for factor in factors_of(jb.Network([small]), 1, 0)}
    assert factors["W1"].bound == 0.75
    assert factors["D1"].bound == 1
    (block,) = factors_of(jb.Network([jb.Residual([small, small])]), 3, 0)
    assert (block.kind, block.bound) == ("sum", 1 + 1)
    nodes = {
        "a": (half, "x"),
        "b": (jb.Add(), "x", "a"),
        "c": (half, "b"),
        "d": (jb.Add(), "a", "c"),
        "y": (jb.Add(), "d", "b"),
    }
    (graph,) = factors_of(jb.Network.graph(nodes, inputs={"x": 1}), 5, 0)
    # a: 1, for 0.5; b: 1 + 1; c: half of 2; d: 1 + 1; y: 2 + 2
    assert (graph.kind, graph.bound) == ("graph", 4)
    last = relu([0.5, 0.5])
    (chosen, E) = factors_of(jb.Network([jb.Elementwise("tanh")], inputs=3), 1, 0, np.array([2]))
    assert (chosen.bound, E.bound) == (1, 1)
    assert [f.bound for f in factors_of(jb.Network([small, last]), 2, 0)] == [1, 1, 1, 0.75]


@dataclass(frozen=True, eq=False)
class TwoSteps(jb.Layer):
    """z = a |a|, whose rule says it as a product of two diagonals, of each point its own."""

    activation: Activation

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return a * np.abs(a)


@layer_map.register
def _(layer: TwoSteps, a):
    return jb.Product([jb.Diagonal(2 * np.ones(a.shape)), jb.Diagonal(np.abs(a))])


def test_an_activation_bounds_its_own_slopes_alone():
    """Nothing is known of what a layer's own rule gives, nor of the parts of a product."""
    net = jb.Network([TwoSteps(jb.activation(name)) for name in ("tanh", "relu")], inputs=3)
    bounds = {factor.name: (factor.bound, factor.flat) for factor in factors_of(net, 2, 0)}
    assert bounds == {
        **{"D2": (1, True), "W2.1": (np.inf, False), "W2.2": (np.inf, False)},
        **{"D1": (1, False), "W1.1": (np.inf, False), "W1.2": (np.inf, False)},
    }


def test_factors_are_named_by_node_and_by_place_in_a_product():
    names = [factor.name for factor in factors_of(CASES["shaping"], 9, 0)]
    softmax_of_columns = ["D5.1", "D5.2", "D5.3"]
    assert names == ["W9", "D8", "W8", "W6", *softmax_of_columns, "D4", "W4", "W3", "W2", "W1"]
    net = CASES["several inputs and outputs"]
    names = [factor.name for factor in factors_of(net, net.number("image", ""), 1)]
    assert names == ["D0.1", "D0.2"]  # where no path leads: zeros through one unit


@pytest.mark.parametrize("layer", [jb.MaxPool(2), jb.Elementwise("softmax")], ids=str)
def test_maps_are_written_out_up_to_a_width(layer):
    """The larger of the two that they have."""
    net = jb.Network([layer], inputs=(2, 6))
    most = max(net.widths)
    assert factors_of(net, 1, 0, written_out=most)[-1].kind == "matrix"
    assert factors_of(net, 1, 0, written_out=most - 1)[-1].kind == "map"
    assert net.widths[1] < most or isinstance(layer, jb.Elementwise)


def test_what_it_takes_to_write_a_factor_out():
    """Blocks of it, its parts in their cheapest order, terms and additions, or column by column."""

    def made(kind, shape, flops, **more):
        return Factor("A", kind, shape, flops, **more)

    def cost(*of, **more):
        return made(*of, **more).operand.alone

    six, two = made("map", (6, 6), 60.0, block_count=2), made("map", (6, 4), 40.0, block_count=2)
    diagonal, one = made("diagonal", (6, 6), 6.0), made("identity", (6, 6), 0.0)
    wide = made("matrix", (3, 5), 30.0)
    assert cost("map", (6, 4), 40.0, block_count=2) == 40 * 4  # from the smaller side
    assert cost("map", (4, 6), 40.0) == 40 * 4
    assert cost("product", (6, 4), 100.0, parts=(six, two)) == 100 * 4 / 2
    assert cost("sum", (6, 6), 66.0, parts=(six, diagonal)) == 66 * 6 / 2
    plain = replace(six, block_count=1)
    assert cost("product", (6, 4), 100.0, parts=(plain, two)) == 40 * 4 + 60 * 4
    assert cost("sum", (6, 6), 66.0, parts=(plain, diagonal)) == 60 * 6 + 6
    assert cost("sum", (3, 5), 75.0, parts=(wide, wide)) == 15
    assert cost("sum", (3, 5), 105.0, parts=(wide, wide, wide)) == 2 * 15
    assert cost("sum", (6, 6), 6.0, parts=(one, diagonal)) == 6 * 6 / 6  # blocks of one entry
    assert cost("graph", (3, 5), 70.0, parts=(((0, wide), (0, wide)),)) == 70 * 5
    assert cost("matrix", (3, 5), 30.0) == cost("diagonal", (6, 6), 6.0) == 0


@pytest.mark.parametrize("name", ["tanh hidden", "slopes beside slopes", "wide softmax", "linear"])
def test_chosen_rows_and_columns_cost_what_is_left_of_them(name):
    """Two operations for each entry of a matrix, one for each of a diagonal."""
    net = CASES[name]
    for rows, columns in (([1], None), (None, [0, 1]), ([0, 1], [1])):
        chosen = [None if index is None else np.array(index) for index in (rows, columns)]
        factors = factors_of(net, net.depth, 0, *chosen)
        assert factors[0].shape[0] == (net.widths[-1] if rows is None else len(rows))
        assert factors[-1].shape[1] == (net.widths[0] if columns is None else len(columns))
        for factor in factors:
            m, n = factor.shape
            if factor.kind in ("matrix", "diagonal"):
                assert factor.flops == (2 * m * n if factor.kind == "matrix" else n)


@pytest.mark.parametrize("center", [0.0, 1.0])
def test_the_maps_are_asked_at_zeros_and_ones_before_other_points(center):
    """``exp((1000 (x - c))²)`` is in range near c alone; and another point may be given."""
    first = jb.Dense(1000 * np.eye(2), np.full(2, -1000 * center), "square")
    net = jb.Network([first, jb.Dense([[1.0, 1.0]], activation="exp")])
    assert [factor.name for factor in factors_of(net, 2, 0)] == ["D2", "W2", "D1", "W1"]
    elsewhere = jb.Network([jb.Dense(first.W, first.b + 7000, "square"), net.layers[1]])
    if center:
        with pytest.raises(jb.NotFiniteError, match="of Dense 2 -> 1 exp leaves the range"):
            factors_of(elsewhere, 2, 0)
        near = [-6.0, -6.0]
        assert len(factors_of(elsewhere, 2, 0, near=near)) == 4


REFUSED = [
    ([3], "expected numbers from 0 to 2, a mask or a slice, but got [3]."),
    ([-1], "expected numbers from 0 to 2, a mask or a slice, but got [-1]."),
    ([0, 1.0], "expected numbers from 0 to 2, a mask or a slice, but got [0, 1.0]."),
    ([True, False], "expected numbers from 0 to 2, a mask or a slice, but got [True, False]."),
    ([0, 3], "expected numbers from 0 to 2, a mask or a slice, but got [0, 3]."),
    ([-1, 2], "expected numbers from 0 to 2, a mask or a slice, but got [-1, 2]."),
    (1, "expected a slice or a list of at least one number, but got 1."),
    ([], "expected a slice or a list of at least one number, but got []."),
    ([[0]], "expected a slice or a list of at least one number, but got [[0]]."),
    ([False] * 3, "expected a slice or a list of at least one number, but got [False, False, Fa"),
    (slice(0, 0), "expected a slice or a list of at least one number, but got slice(0, 0, None)."),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=str)
def test_a_choice_that_is_none_is_refused_in_these_words(value, message):
    with pytest.raises(ValueError, match="here: rows") as refused:
        as_index(value, 3, "here: rows")
    assert str(refused.value).startswith(f"here: rows: {message}")


@pytest.mark.parametrize(
    ("value", "index"),
    [
        ([0], [0]),
        ([2], [2]),
        ([2, 1, 0], [2, 1, 0]),
        ([1, 1, 0, 2, 2], [1, 1, 0, 2, 2]),
        (np.array([2, 0], np.uint8), [2, 0]),
        ([True, False, True], [0, 2]),
        ([True, True, True], [0, 1, 2]),
        (slice(None, None, -2), [2, 0]),
        (range(1, 3), [1, 2]),
    ],
    ids=str,
)
def test_a_choice_is_a_slice_a_mask_or_numbers_in_any_order(value, index):
    chosen = as_index(value, 3, "here: rows")
    assert_equal(chosen, index)
    assert chosen.dtype == np.intp
    assert as_index(None, 3, "here: rows") is None
