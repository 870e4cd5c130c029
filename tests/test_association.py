"""Laws of the order in which factors are multiplied: its cost, the cheapest one, the product."""

from functools import reduce
from itertools import pairwise, product

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians.maps import association, multiply_out
from jacobians.maps.association import Operand, associate, flops, fold, join, operand

LIGHT = ("diagonal", "identity")


def bracketings(i, j):
    """Yield every order of the factors i to j - 1."""
    if j - i == 1:
        yield i
    for s in range(i + 1, j):
        for left in bracketings(i, s):
            yield from ((left, right) for right in bracketings(s, j))


@st.composite
def operands(draw):
    """A chain of up to five factors, no two light ones beside each other."""
    widths = draw(st.lists(st.integers(1, 9), min_size=3, max_size=6, unique=True))
    chain, rows = [], widths[0]
    for columns in widths[1:]:
        if draw(st.booleans()):
            chain.append(Operand(rows, rows, draw(st.sampled_from(LIGHT)), draw(st.booleans())))
        own = draw(st.sampled_from([None, 3.0, 40.0]))
        kind = "dense" if own is None else "structured"
        chain.append(Operand(rows, columns, kind, draw(st.booleans()), own))
        rows = columns
    return chain[:5]


@given(operands(), st.sampled_from([1, 4]))
def test_the_cheapest_order_is_the_least_of_all_bracketings(chain, batch):
    """Enumerated; light factors beside each other are left out: together they are light again."""
    every = [flops(chain, order, batch) for order in bracketings(0, len(chain))]
    best = associate(chain, batch)
    assert best.flops == flops(chain, best.order, batch)
    assert best.flops <= min(every) * (1 + 1e-12)  # sums of a few floats in two orders


@pytest.mark.parametrize("batch", [1, 3])
def test_the_cheapest_order_is_the_least_whatever_points_share(batch):
    """Every chain of four matrices of two sizes, and every choice of those that points share."""
    orders = list(bracketings(0, 4))
    for widths in product((2, 7), repeat=5):
        for stacked in product((True, False), repeat=4):
            chain = [
                Operand(*size, stacked=s) for size, s in zip(pairwise(widths), stacked, strict=True)
            ]
            costs = [flops(chain, order, batch) for order in orders]
            best = associate(chain, batch)
            assert best.flops <= min(costs) * (1 + 1e-12)  # sums of a few floats
            assert best.reverse == flops(chain, (((0, 1), 2), 3), batch)
            assert best.forward == flops(chain, (0, (1, (2, 3))), batch)


@pytest.mark.parametrize("k", range(4))
def test_the_cheapest_order_is_the_least_with_one_factor_of_another_kind(k):
    """At every place: one that scales, or one that costs little or much to apply."""
    orders = list(bracketings(0, 4))
    for widths in product((2, 7), repeat=5):
        m, n = widths[k : k + 2]
        others = [Operand(m, n, "structured", own=own) for own in (1.0, 500.0)]
        for other in [*others, *([Operand(m, m, "diagonal")] if m == n else [])]:
            chain = [Operand(*size) for size in pairwise(widths)]
            chain[k] = other
            least = min(flops(chain, order) for order in orders)
            assert associate(chain).flops <= least * (1 + 1e-12)  # sums of a few floats


def test_one_factor_costs_what_it_takes_to_write_it_out():
    for A in (Operand(3, 5), Operand(3, 3, "diagonal"), Operand(3, 5, "structured", own=7.0)):
        best = associate([A])
        assert best.order == 0
        assert best.flops == best.forward == best.reverse == (7.0 * 3 if A.own else 0.0)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_long_chain_is_multiplied_out_from_its_least_width(k, monkeypatch):
    """Every factor then meets a product of this width; in order, and each of them once."""
    monkeypatch.setattr(association, "LONG_CHAIN", 4)
    widths = [9, 8, 7, 6, 5, 9]
    widths[k] = 2
    chain = [Operand(m, n) for m, n in pairwise(widths)]
    best = associate(chain)
    before = sum(m * n for m, n in pairwise(widths[:k]))
    after = sum(m * n for m, n in pairwise(widths[k + 1 :]))
    assert best.flops == 2 * 2 * (before + after + 9 * 9)
    names = fold(best.order, lambda i: [i], lambda left, right: left + right)
    assert names == list(range(5))
    rng = np.random.default_rng(0)
    matrices = [whole(rng, m, n) for m, n in pairwise(widths)]
    assert_equal(
        multiply_out(list(map(jb.Matrix, matrices)), best.order), reduce(np.matmul, matrices)
    )


def test_a_product_costs_what_its_definition_says():
    """Operations of one point: of (m, k) by (k, n), with what all points share spread over them."""
    A, B = Operand(2, 3, stacked=False), Operand(3, 5, stacked=False)
    D, E = (Operand(3, 3, "diagonal", stacked=False) for _ in range(2))
    S = Operand(3, 5, "structured", stacked=False, own=7.0)
    identity = Operand(3, 3, "identity", stacked=False)
    costs = {
        "two matrices": (A, B, 2 * 2 * 3 * 5),
        "by columns": (A, D, 2 * 3),
        "by rows": (D, B, 3 * 5),
        "two diagonals": (D, E, 3),
        "the identity on the right": (A, identity, 0),
        "the identity on the left": (identity, B, 0),
        "a map on the rows of a matrix": (A, S, 7 * 2),
        "a map by rows": (D, S, 7 * 3 + 3 * 5),
    }
    for name, (left, right, cost) in costs.items():
        assert join(left, right)[1] == cost, name
        assert join(left, right, 4)[1] == cost / 4, name
    each = Operand(2, 3)  # unless said, one for each point
    assert join(each, B)[1] == join(each, B, 4)[1] == 60
    assert [join(left, B)[0].stacked for left in (each, A)] == [True, False]
    assert join(D, E)[0] == Operand(3, 3, "diagonal", stacked=False)
    assert join(D, Operand(3, 3, "diagonal"))[0] == Operand(3, 3, "diagonal", stacked=True)


def test_sizes_beyond_the_integers_of_the_machine_are_counted():
    """Products of widths that no int64 holds: 3 x n, n x n, n x n and n x 2 from the right."""
    n = 2**40
    chain = [Operand(3, n), Operand(n, n), Operand(n, n), Operand(n, 2)]
    best = associate(chain)
    assert best.order == (0, (1, (2, 3)))
    assert best.flops == 2 * (2.0 * n * n * 2) + 2.0 * 3 * n * 2


def whole(rng, *shape):
    return rng.integers(-2, 3, shape).astype(float)


def some_map(rng, kind, m, n, batch):
    """Draw a map of whole numbers (m, n), one for each of ``batch`` points or one for all."""
    if kind == "matrix":
        return jb.Matrix(whole(rng, *batch, m, n))
    if kind == "diagonal":
        return jb.Diagonal(whole(rng, *batch, n))
    if kind == "low rank":
        return jb.DiagonalPlusLowRank(
            *(whole(rng, *batch, *rest) for rest in ((n,), (n, 2), (n, 2)))
        )
    if kind == "sum":
        return jb.Matrix(whole(rng, *batch, m, n)) + jb.Matrix(whole(rng, m, n))
    return jb.Identity(n)


SQUARE = ("diagonal", "low rank", "identity")
ANY = ("matrix", "sum")


@pytest.mark.parametrize("batch", [(), (2,), (5,)])
@given(st.integers(0, 2**32), st.lists(st.sampled_from(SQUARE + ANY), min_size=2, max_size=4))
def test_every_order_multiplies_the_matrices(batch, seed, kinds):
    """Bit for bit, of whole numbers; maps for all points and for each stand beside each other."""
    rng = np.random.default_rng(seed)
    factors, rows = [], 3
    for kind in kinds:
        columns = rows if kind in SQUARE else int(rng.integers(1, 6))
        own = batch if rng.integers(2) else ()
        factors.append(some_map(rng, kind, rows, columns, own))
        rows = columns
    product = reduce(np.matmul, [A.to_dense() for A in factors])
    for order in (None, *bracketings(0, len(factors))):
        J = multiply_out(factors, order)
        assert np.array_equal(np.broadcast_to(J, product.shape), product), order


@pytest.mark.parametrize("batch", [(), (4,)])
def test_a_map_is_described_by_what_it_is(batch):
    """Its size and kind, what a column costs, and whether points share it."""
    rng, stacked = np.random.default_rng(0), bool(batch)
    maps = {kind: some_map(rng, kind, 3, 3, batch) for kind in SQUARE + ANY}
    assert {kind: operand(A) for kind, A in maps.items()} == {
        "matrix": Operand(3, 3, "dense", stacked),
        "diagonal": Operand(3, 3, "diagonal", stacked),
        "identity": Operand(3, 3, "identity", False),
        "low rank": Operand(3, 3, "structured", stacked, maps["low rank"].flops),
        "sum": Operand(3, 3, "structured", stacked, maps["sum"].flops),
    }
    assert {kind: operand(A).single for kind, A in maps.items()} == {
        kind: A.flops for kind, A in maps.items()
    }
