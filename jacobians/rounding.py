"""The rounding theorem: how far two computations of one Jacobian may differ.

Let ``J = F_1 F_2 ... F_q`` exactly, for given floating-point factors, u the unit roundoff and

    P = |F_1| |F_2| ... |F_q|                (the sum over paths of absolute values)
    K = the number of roundings a path can meet.

Then, without overflow, for **every** order of association, every order of summation, with or
without fused multiply-add, on any number of threads,

    |J_computed - J|         <=  expm1(K u) P + underflow           entry by entry,
    |J_computed - J_other|   <=  twice that.

Every kind of map states what it adds: ``magnitude()`` is the map of absolute values of its
computation, never of its dense form, so that P shows cancellation inside; ``roundings()`` counts
what a path meets inside; the inner width is added wherever two maps meet, since an index is
contracted once, in whatever order.  A slope that is 0 or a power of two costs nothing, and a width
counts only the units whose slope is not 0: adding zeros is exact.  A kind that states no magnitude
gets an infinite bound.

Underflow adds at most ``s`` smallest numbers to an entry of any partial product ``F_i ... F_j``,
which the exact factors outside carry to the result: ``2 (n + 2)`` in a contraction, and what
``underflow()`` of a map says for its inside.  All ways to multiply out are covered by letting every
run of factors be replaced by ``s`` times the matrix of ones; one sweep adds them all up.  Source:
``paper_notes/rounding.md``, with the proof and its hypotheses.

The bound is about rounding: about the product of the computed ``D`` and ``W``, not about the error
of ``D`` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.maps import LinearMap, Product


@dataclass(frozen=True, eq=False)
class Bound:
    """A proved bound on the rounding error of a product, entry by entry.

    Attributes
    ----------
    paths : array, shape (m, n) or (B, m, n)
        The sum over paths ``P``, rounded upwards.
    underflow : array of the same shape
    roundings : array, shape () or (B,)
        ``K``.
    unit : float
        The unit roundoff u of the computation.
    overflow : array of bool, shape () or (B,)
        True where a partial product may leave the range: nothing is claimed there.
    """

    paths: Array
    underflow: Array
    roundings: Any
    unit: float
    overflow: Any

    def single(self, extra: int = 0) -> Array:
        """Bound the distance of one computation from the exact product.

        Parameters
        ----------
        extra : int
            Further roundings that a path meets.
        """
        K = (np.asarray(self.roundings) + extra)[..., None, None]
        with np.errstate(all="ignore"):
            bound: Array = np.expm1(K * self.unit) * self.paths + self.underflow
        # nothing is claimed where a product may overflow, or of a kind without a rule
        return np.where(np.asarray(self.overflow)[..., None, None], np.inf, bound)

    def pair(self, extra: int = 0) -> Array:
        """Bound the distance of two computations from each other."""
        return 2 * self.single(extra)

    def transposed(self) -> Bound:
        """Return the bound of the transposed product: the same paths, walked the other way."""
        P, N = (np.swapaxes(A, -2, -1) for A in (self.paths, self.underflow))
        return replace(self, paths=P, underflow=N)


def chain_bound(factors: Sequence[LinearMap], dtype: Any) -> Bound:
    """Bound the rounding error of a product of factors computed in ``dtype``, in any order.

    Parameters
    ----------
    factors : sequence of maps
        Left to right.
    dtype : float32 or float64

    Returns
    -------
    Bound

    >>> from jacobians.maps import Diagonal
    >>> factors = [np.ones((2, 5)), Diagonal([0.3, 0.0, 0.0, 0.7, 0.0]), np.ones((5, 3))]
    >>> int(chain_bound(factors, np.float64).roundings)  # 1 + two live units
    3
    """
    product = Product(factors)
    with np.errstate(all="ignore"):  # of what leaves the range nothing is claimed
        if product.shape[0] < product.shape[1]:  # sweep over the side with fewer columns
            return _swept(product.transpose(), dtype).transposed()
        return _swept(product, dtype)


def _swept(product: Product, dtype: Any) -> Bound:
    info = np.finfo(dtype)
    u, K = float(info.eps) / 2, product.roundings()
    magnitude = product.magnitude()
    n = product.shape[1]
    if magnitude is None:
        nothing = np.full((*product.batch, *product.shape), np.inf)
        return Bound(nothing, nothing, K, u, np.ones(product.batch, dtype=bool))
    # Several roundings of a subnormal can meet in one entry: the products of a contraction, and
    # what a structured map computes inside.
    width = max(max(A.shape) for A in product.factors)
    inside = max(A.underflow() for A in product.factors)
    s = (2 * (width + 2) + inside) * float(info.smallest_subnormal)
    P: Array = np.eye(n)
    N: Array = np.zeros((n, n))
    through: Array = np.zeros((1, n))
    for A in reversed(magnitude.factors):
        through = through + (P + N).sum(axis=-2, keepdims=True)
        N = A.apply(N) + s * through
        P = A.apply(P)
    # P was rounded itself, K times and a few more here and in ``single``, in double precision
    P = P * np.exp((K + 8) * 2.0**-53)[..., None, None]
    N = 2 * N * np.exp(K * u)[..., None, None]
    shape = (*product.batch, *product.shape)
    P, N = np.broadcast_to(P, shape), np.broadcast_to(N, shape)
    overflow = _may_overflow(magnitude.factors, float(info.max) / 4)
    return Bound(P, N, K, u, np.broadcast_to(overflow, product.batch))


def _may_overflow(magnitudes: Sequence[LinearMap], limit: float) -> Any:
    """Tell where a partial product of some order could exceed ``limit``, by its row sums."""
    # the product of all reaches is the quick answer for ordinary networks
    reaches = [A.reach() for A in magnitudes]
    if prod(reaches) <= limit:
        return np.asarray(False)
    # Else go from the right with the largest row sums over all starts: max(1, .) begins anew.
    # What a structured map computes inside is within its reach, whatever comes from the right.
    # NaN, of infinity times 0 inside one, is not within the limit.
    within: Any = np.asarray(True)
    through: Any = np.ones(magnitudes[-1].shape[1])[:, None]
    largest = np.finfo(np.float64).max
    for A, reach in zip(reversed(magnitudes), reversed(reaches), strict=True):
        if A.composite:
            within = within & (reach * through.max(axis=(-2, -1)) <= limit)
        through = np.minimum(A.apply(through), largest)
        within = within & (through.max(axis=(-2, -1)) <= limit)
        through = np.maximum(through, min(reach, largest) if A.composite else 1.0)
    return ~within
