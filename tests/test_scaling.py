"""Products with powers of two kept apart: exact on whole numbers, however far they are scaled."""

from fractions import Fraction

import numpy as np
import pytest
from claims import assert_equal
from zoo import whole

import jacobians as jb
from jacobians.engine import scaling
from jacobians.engine.scaling import multiply_scaled, product_at

A, B, C, d = -whole(4, 3) - 5, whole(3, 5), whole(5, 4), whole(4)
U, V = whole(4, 2), whole(4, 2)


def scaled_by(power):
    """Return maps of every kind times 2^power, each with its matrix of whole numbers before."""
    s = 2.0**power
    root = 2.0 ** (power // 2)
    return [
        (jb.Matrix(s * A), A),
        (jb.Matrix(-s * np.abs(A)), -np.abs(A)),
        (jb.Diagonal(s * d), np.diag(d)),
        (jb.DiagonalPlusLowRank(s * d, root * U, root * V), np.diag(d) + U @ V.T),
        (jb.Kronecker(s * A[:2], jb.Identity(2)), np.kron(A[:2], np.eye(2))),
        (jb.Product([root * A, root * B]), A @ B),
        (jb.Sum([s * C, jb.Product([root * C, root * np.diag(d)])]), C + C * d),
        (
            jb.Substitution([[(0, root * B)], [(0, s * A @ B), (1, root * A)], [(2, np.diag(d))]]),
            np.diag(d) @ (A @ B + A @ B),
        ),
    ]


KINDS = [repr(A) for A, _ in scaled_by(0)]


@pytest.mark.parametrize("k", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize(
    "powers", [(900, 100, -1000), (-900, -100, 1000), (600, -1000, 400), (-400, 1000, -600)]
)
def test_scaled_whole_numbers_are_multiplied_exactly(k, powers):
    """Any kind between two matrices; columns of their own size each, and no flag on the way."""
    between, M = scaled_by(powers[1])[k]
    m, n = M.shape
    left, right = whole(3, m), whole(n, 2)
    sizes = np.array([500, -500, 0, 300])
    columns = np.ldexp(whole(2, 4) - 5, sizes)
    chain = [jb.Matrix(2.0 ** powers[2] * left), between, jb.Matrix(2.0 ** powers[0] * right)]
    with np.errstate(all="raise"):
        product = multiply_scaled(chain, columns)
    assert_equal(product, left @ M @ right @ columns)
    assert_equal(multiply_scaled([], columns), columns)


def test_what_leaves_the_range_for_good_is_infinite_or_0_in_silence():
    with np.errstate(all="raise"):
        for power, end in ((1000, np.inf), (-1000, 0.0)):
            chain = [jb.Matrix([[2.0**power]]), jb.Diagonal([2.0**power])]
            assert_equal(multiply_scaled(chain, np.ones((1, 1))), [[end]])
            assert_equal(multiply_scaled(chain, -np.ones((1, 1))), [[-end]])


def test_terms_of_a_sum_are_added_at_the_size_of_the_largest():
    """Column by column: in the first the one term is larger, in the second the other."""
    first, second = np.diag([2.0**600, 2.0**-600]), np.diag([2.0**550, 2.0**-550])
    for terms in ([first, second], [second, first]):
        chain = [jb.Sum([jb.Matrix(A) for A in terms]), jb.Matrix(2.0**500 * np.eye(2))]
        back = [jb.Matrix(2.0**-900 * np.eye(2)), *chain]
        assert_equal(multiply_scaled(back, np.eye(2)), np.diag(2.0**-400 * np.diag(sum(terms))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_product_at_a_point_is_that_of_the_block_either_way(dtype):
    """Between two nodes, times columns; transposed, of other widths; in the network's dtype."""
    Ws = [W.astype(dtype) for W in (whole(3, 2), whole(5, 3), whole(4, 5))]
    net = jb.Network([jb.Dense(W) for W in Ws])
    for of, wrt, J in ((3, 0, Ws[2] @ Ws[1] @ Ws[0]), (2, 0, Ws[1] @ Ws[0]), (3, 1, Ws[2] @ Ws[1])):
        for turned, M in ((False, J), (True, J.T)):
            columns = whole(M.shape[1], 2)
            product = product_at(net, np.zeros(2, dtype), of, wrt, columns, turned)
            assert_equal(product, (M @ columns).astype(dtype))
            assert product.dtype == dtype
        assert_equal(product_at(net, np.zeros(2, dtype), of, wrt, np.eye(J.shape[1])), J)


def monomials(sizes):
    """Maps of every kind that only scale, by whole numbers times 2^size, and change places."""
    entries = np.ldexp([3.0, -5.0, 7.0, 1.0], sizes)
    turn, swap = np.eye(4)[[2, 0, 3, 1]], jb.Selection([2, 0, 3, 1], 4)
    none = np.zeros((4, 1))
    return [
        (jb.Matrix(np.diag(entries)), np.diag(entries)),
        (jb.Matrix(np.diag(entries) @ turn), np.diag(entries) @ turn),
        (jb.Diagonal(entries), np.diag(entries)),
        (jb.DiagonalPlusLowRank(entries, none, none), np.diag(entries)),
        (jb.Product([np.diag(entries), swap]), np.diag(entries) @ turn),
        (jb.Sum([jb.Diagonal(entries), jb.Diagonal(2 * entries)]), 3 * np.diag(entries)),
        (jb.Substitution([[(0, swap)], [(1, jb.Diagonal(entries))]]), np.diag(entries) @ turn),
        (
            jb.Kronecker(np.diag(entries[::2]), jb.Identity(2)),
            np.kron(np.diag(entries[::2]), np.eye(2)),
        ),
    ]


@pytest.mark.parametrize("k", range(len(monomials([0] * 4))))
@pytest.mark.parametrize("apart", [0, 240, 260, 499, 501, 510])
def test_no_entry_is_lost_beside_larger_ones_of_its_column(k, apart):
    """Up to 2^2000 apart on the way, and back in the end; seen 0 for 1 beside 2^200."""
    sizes = np.array([apart, -apart, 0, apart])
    between, M = monomials(-sizes if k % 2 else sizes)[k]
    columns, first = whole(4, 3) + 5, np.ldexp(1.0, 2 * sizes)
    way = in_fractions(M) * in_fractions(first)
    lengths = [
        abs(entry.numerator).bit_length() - entry.denominator.bit_length()
        for entry in way.sum(axis=1)
    ]
    last = np.ldexp(1.0, -np.clip(lengths, -1000, 1000))
    whole_way = in_fractions(last)[:, None] * way
    chain = [jb.Diagonal(last), jb.Identity(4), between, jb.Matrix(np.diag(first))]
    for maps, exact in ((chain, whole_way), ([A.T for A in chain[::-1]], whole_way.T)):
        passed = (exact @ in_fractions(columns)).astype(float)
        assert np.isfinite(passed).all()
        assert (passed != 0).all()
        assert_equal(multiply_scaled(maps, columns), passed)


def in_fractions(A):
    return np.vectorize(Fraction, otypes=[object])(A)


def test_an_entry_that_comes_back_into_the_range_is_there_beside_a_large_one():
    """In a Jacobian, whose first product leaves the range."""
    layers = [[[2.0**1000], [2.0**-200]], np.diag([2.0**200] * 2), np.diag([2.0**-1000, 1.0])]
    net = jb.Network([jb.Dense(W) for W in layers])
    for x in ([0.0], [[0.0]]):
        assert_equal(np.ravel(jb.jacobian(net, x)), [2.0**200, 1.0])
        assert_equal(np.ravel(jb.jvp(net, x, np.ones_like(x))), [2.0**200, 1.0])


def test_maps_are_applied_as_they_are_where_nothing_would_be_lost(monkeypatch):
    """Only entries of a column that are far apart are multiplied one by one."""
    monkeypatch.setattr(scaling, "_entry_by_entry", None)
    for power in (0, 900, -900):
        for between, M in scaled_by(power):
            columns = np.ldexp(whole(M.shape[1], 3), [500, 0, -500])
            back = jb.Diagonal(np.full(len(M), 2.0**-power))
            assert_equal(multiply_scaled([back, between], columns), M @ columns)
    far = [jb.Matrix(np.eye(2)), jb.Diagonal([2.0**600, 2.0**-600])]
    with pytest.raises(TypeError, match="not callable"):
        multiply_scaled(far, np.ones((2, 1)))
