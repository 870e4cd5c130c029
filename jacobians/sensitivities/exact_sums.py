"""Sums that do not depend on the order of their terms, bit for bit.

Every term is cut into whole numbers of 32 bits, at places that are the same for all terms::

    x  =  d_0 2^(32 (t-1))  +  d_1 2^(32 (t-2))  +  d_2 ...  +  d_3 ...,      |d_k| < 2^32

and every place is added up on its own.  Sums of whole numbers below 2^53 are exact in float64, in
any order and through any matrix product, so that a weighted sum of a piece is one product with BLAS
and still exact; between pieces the places are int64.  Addition of sums is therefore associative and
commutative, and a sum over shards is the sum over all terms, whatever the split.

Four places are kept, counted from the largest term that has been met: at least 96 bits below it.
What lies below is cut off, the same way in every order, since a place that is among the four
highest at the end has been so all along.  With M the largest absolute term of a column,

    |sum - exact sum|  <=  (sum of |weights|) 2^-96 M,

and what is read off in float64 is that sum, rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array

WIDTH = 32  # bits of a place
PLACES = 4
MOST_WEIGHT = 2**19  # of one piece: 2^19 2^33 < 2^53, the sums of whole numbers stay exact
MOST_TERMS = 2**29  # in all: 2^29 2^33 < 2^63
NOTHING = -40  # the place of no term at all: below 2^(32 * -40) there is no float64

Whole: TypeAlias = NDArray[np.int64]
Pair: TypeAlias = tuple[Array, Array]  # the unevaluated sum of a float64 and a much smaller one


@dataclass(frozen=True, eq=False)
class ExactSum:
    """Weighted sums of the columns of all terms met so far; made by ``empty``, grown by ``add``.

    Attributes
    ----------
    digits : array of int64, shape (4, R, q)
        The places, for each of R weightings and q columns.
    top : array of int64, shape (q,)
        All terms of a column are below ``2^(32 top)``.

    >>> tenths = ExactSum.empty(1, 1).add([np.full((10, 1), 0.1)], np.ones((1, 10)))
    >>> float(tenths.value[0, 0]), 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1
    (1.0, 0.9999999999999999)
    """

    digits: Whole
    top: Whole

    @classmethod
    def empty(cls, weightings: int, columns: int) -> ExactSum:
        """Return the sums over no terms."""
        digits = np.zeros((PLACES, weightings, columns), np.int64)
        return cls(digits, np.full(columns, NOTHING, np.int64))

    def add(self, terms: Sequence[Array], weights: Array) -> ExactSum:
        """Return the sums with a piece added.

        Parameters
        ----------
        terms : sequence of at most two float64 arrays, shape (B, q)
            Their sum is added; the first one is everywhere the largest.
        weights : array of whole numbers in float64, shape (R, B)
        """
        largest = np.abs(terms[0]).max(axis=0, initial=0.0)
        exponent = np.frexp(largest)[1].astype(np.int64)
        top = np.where(largest > 0, -(-exponent // WIDTH), NOTHING)
        grown = self._raised(np.maximum(self.top, top))
        digits, scale = grown.digits, (-WIDTH * (grown.top - 1)).astype(np.int32)
        rest = [np.ldexp(term, scale) for term in terms]
        for k in range(PLACES):
            whole = [np.trunc(part) for part in rest]
            digits[k] += (weights @ sum(whole[1:], whole[0])).astype(np.int64)
            rest = [(part - cut) * 2.0**WIDTH for part, cut in zip(rest, whole, strict=True)]
        return grown

    def merge(self, other: ExactSum) -> ExactSum:
        """Return the sums over the terms of both."""
        top = np.maximum(self.top, other.top)
        mine, theirs = self._raised(top), other._raised(top)
        return ExactSum(mine.digits + theirs.digits, top)

    def _raised(self, top: Whole) -> ExactSum:
        """Return a copy whose highest place is ``top``, without the places that fall off."""
        digits, steps = self.digits.copy(), top - self.top
        for step in np.unique(steps[steps > 0]):
            columns, gone = steps == step, min(int(step), PLACES)
            kept = self.digits[: PLACES - gone, :, columns]
            digits[gone:, :, columns] = kept
            digits[:gone, :, columns] = 0
        return ExactSum(digits, top)

    @property
    def value(self) -> Array:
        """The sums in float64, shape (R, q)."""
        return self.pair()[0]

    def pair(self, weightings: Any = slice(None)) -> Pair:
        """Return the sums of some weightings in twice the precision, two arrays (R, q)."""
        digits = self.digits[:, weightings]
        # carry, so that every place lies between -2^31 and 2^31, and converts exactly
        places = [np.zeros_like(digits[0])] * (PLACES + 1)
        carry = np.zeros_like(digits[0])
        for k in reversed(range(PLACES)):
            here = digits[k] + carry
            carry = (here + 2 ** (WIDTH - 1)) >> WIDTH
            places[k + 1] = here - (carry << WIDTH)
        places[0] = carry
        high, low = np.zeros(carry.shape), np.zeros(carry.shape)
        for k, place in enumerate(places):
            high, error = two_sum(high, place * 2.0 ** (WIDTH * (1 - k)))
            low = low + error
        high, low = two_sum(high, low)
        scale = (WIDTH * (self.top - 1)).astype(np.int32)
        return np.ldexp(high, scale), np.ldexp(low, scale)


# --- twice the precision (T. J. Dekker, "A floating-point technique for extending the available
# precision", Numerische Mathematik 18, 1971) ------------------------------------------------------


def two_sum(a: Array, b: Array) -> Pair:
    """Return ``a + b`` rounded, and what the rounding left over: together exact.

    >>> two_sum(np.array(1e16), np.array(1.0))
    (np.float64(1e+16), np.float64(1.0))
    """
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def two_product(a: Array, b: Array) -> Pair:
    """Return ``a * b`` rounded, and what the rounding left over: together exact.

    As long as no partial product leaves the range of float64.

    >>> two_product(np.array(134217729.0), np.array(134217729.0))
    (np.float64(1.801439877791744e+16), np.float64(1.0))
    """
    product = a * b
    a1, a2 = _halves(a)
    b1, b2 = _halves(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _halves(a: Array) -> Pair:
    shifted = 134217729.0 * a  # 2^27 + 1
    high = shifted - (shifted - a)
    return high, a - high


def variance(first: Pair, second: Pair, count: Array) -> Array:
    """Return ``S_2/N - (S_1/N)²`` from the sums of the values and of their squares.

    In twice the precision, so that what cancels leaves 2^-96 or so of the largest square.

    >>> two = np.array(2.0); zero = np.array(0.0)
    >>> variance((two + 2, zero), (two + 8, zero), two)  # of 1 and 3
    np.float64(1.0)
    """
    # N S_2 - S_1²: both to a relative 2^-100
    left, left_low = two_product(second[0], count)
    right, right_low = two_product(first[0], first[0])
    left_low = left_low + second[1] * count
    right_low = right_low + 2 * first[0] * first[1]
    high, low = two_sum(left, -right)
    difference = high + (low + (left_low - right_low))
    spread: Array = np.maximum(difference, 0.0) / count**2
    return spread
