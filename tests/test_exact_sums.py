"""Sums that do not depend on order or split, and arithmetic in twice the precision."""

import math
from fractions import Fraction

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st

from jacobians.sensitivities.exact_sums import ExactSum, two_product, two_sum, variance

wild = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
tame = st.floats(-1e6, 1e6, width=32)  # 24 bits each: nothing of them lies below the four places


def columns(values):
    return np.array(values, dtype=float)[:, None]


def total(values):
    return ExactSum.empty(1, 1).add([columns(values)], np.ones((1, len(values))))


@given(st.lists(tame.filter(lambda x: x == 0 or abs(x) > 1e-9), min_size=1))
def test_the_sum_of_tame_numbers_is_the_exact_sum_rounded(values):
    """math.fsum is the exact sum, rounded once."""
    assert total(values).value[0, 0] == math.fsum(values)


@given(st.lists(wild, min_size=1, max_size=20))
def test_the_sum_of_any_numbers_is_within_its_bound(values):
    """|sum - exact| <= N 2^-96 max|x|, and the rounding of the result."""
    exact = sum(map(Fraction, values))
    found = Fraction(float(total(values).value[0, 0]))
    allowed = len(values) * Fraction(max(map(abs, values))) / 2**96
    assert abs(found - exact) <= allowed + abs(exact) / 2**52 + Fraction(2) ** -1074


@given(st.lists(wild, min_size=1, max_size=12), st.data())
def test_any_order_and_any_split_give_the_same_bits(values, data):
    shuffled = data.draw(st.permutations(values))
    cut = data.draw(st.integers(0, len(values)))
    left, right = shuffled[:cut], shuffled[cut:]
    whole = total(values)
    for found in (
        total(left).merge(total(right)),
        total(right).merge(total(left)),
        total(left).add([columns(right)], np.ones((1, len(right)))) if right else total(shuffled),
    ):
        assert_equal(found.digits, whole.digits)
        assert_equal(found.top, whole.top)


@given(st.lists(st.tuples(wild, st.integers(0, 9)), min_size=1, max_size=12))
def test_a_weight_is_a_number_of_copies(pairs):
    values, weights = zip(*pairs, strict=True)
    weighted = ExactSum.empty(1, 1).add([columns(values)], np.array([weights], dtype=float))
    copies = [value for value, weight in pairs for _ in range(weight)]
    repeated = total([*copies, *(0 * np.array(values))])
    # a point of weight 0 still lifts the highest place, so compare the sums and not the places
    allowed = 100 * 2.0**-96 * max(map(abs, values))
    assert_within(weighted.value, repeated.value, allowed + 2**-52 * abs(repeated.value))


def test_many_columns_and_weightings_are_summed_each_for_itself(rng):
    terms, weights = rng.normal(size=(50, 3)) * [1e-200, 1.0, 1e200], rng.integers(0, 5, (4, 50))
    found = ExactSum.empty(4, 3)
    for start in range(0, 50, 7):
        rows = slice(start, start + 7)
        found = found.add([terms[rows]], weights[:, rows].astype(float))
    for r in range(4):
        for q in range(3):
            assert found.value[r, q] == math.fsum(np.repeat(terms[:, q], weights[r]))


def test_what_cancels_leaves_what_is_small():
    """1e16 + 1 - 1e16 is 1, in any order, where float64 gives 0."""
    assert total([1e16, 1.0, -1e16]).value[0, 0] == 1.0
    assert sum([1e16, 1.0, -1e16]) == 0.0


@given(wild, wild)
def test_two_sum_is_exact(a, b):
    high, low = two_sum(np.array(a), np.array(b))
    assert Fraction(float(high)) + Fraction(float(low)) == Fraction(a) + Fraction(b)


moderate = wild.filter(lambda x: x == 0 or 1e-100 < abs(x) < 1e100)


@given(moderate, moderate)
def test_two_product_is_exact(a, b):
    high, low = two_product(np.array(a), np.array(b))
    assert Fraction(float(high)) + Fraction(float(low)) == Fraction(a) * Fraction(b)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e9])
def test_variance_survives_a_large_mean(rng, offset):
    """Var = E[x²] - E[x]², where the two agree in up to 60 bits; the witness uses fractions."""
    values = offset + rng.normal(size=40)
    first, second = total(values), ExactSum.empty(1, 1)
    second = second.add(two_product(columns(values), columns(values)), np.ones((1, 40)))
    exact = [Fraction(float(v)) for v in values]
    mean = sum(exact) / 40
    wanted = float(sum((v - mean) ** 2 for v in exact) / 40)
    found = variance(first.pair(), second.pair(), np.array([40.0]))[0, 0]
    # the sums are right to 2^-96 and the products to 2^-100 of the squares; there are 40 of them
    assert_within(found, wanted, 2**-51 * wanted + 2**-90 * (offset + 4) ** 2)


def test_nothing_sums_to_zero():
    assert_equal(ExactSum.empty(2, 3).value, np.zeros((2, 3)))
    assert_equal(total([0.0, -0.0]).value, [[0.0]])
