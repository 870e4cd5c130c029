"""The rounding theorem: how far two computations of one Jacobian may differ.

Let ``J = F_1 F_2 ... F_q`` exactly, for given floating-point factors, u the unit roundoff and

    P = |F_1| |F_2| ... |F_q|                (the sum over paths of absolute values)
    K = the number of roundings a path can meet.

Then, without overflow, for **every** order of association, every order of summation, with or
without fused multiply-add, on any number of threads,

    |J_computed - J|         <=  expm1(K u) P + underflow           entry by entry,
    |J_computed - J_other|   <=  twice that.

K counts one rounding for a diagonal, ``r + 1`` for a diagonal plus rank r, and the inner width
wherever two matrices meet: an index is contracted once, in whatever order, and there a path meets
one multiplication and the additions.  A slope that is 0 or a power of two costs nothing, and a
width counts only the units whose slope is not 0: adding zeros is exact.

Underflow adds at most ``s = 2 (n + 2)`` smallest numbers to an entry of any partial product
``F_i ... F_j``, which the exact factors outside carry to the result.  All ways to multiply out are
covered by letting every run of factors be replaced by ``s`` times the matrix of ones; one sweep
adds them all up.  Source: ``paper_notes/rounding.md``, with the proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from jacobians._checks import Array, as_points
from jacobians.linearization import linearize
from jacobians.maps import (
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    LinearMap,
    Matrix,
    Product,
)
from jacobians.network import Network, as_network


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
        with np.errstate(over="ignore", under="ignore"):
            bound: Array = np.expm1(K * self.unit) * self.paths + self.underflow
        return np.where(np.asarray(self.overflow)[..., None, None], np.inf, bound)

    def pair(self, extra: int = 0) -> Array:
        """Bound the distance of two computations from each other."""
        return 2 * self.single(extra)


# --- what a factor contributes --------------------------------------------------------------------


@singledispatch
def absolute(A: LinearMap) -> LinearMap:
    """Return the map of absolute values, in float64.  Kinds without a rule are written out."""
    return Matrix(np.abs(A.to_dense()).astype(np.float64))


@absolute.register(Matrix)
def _(A: Matrix) -> LinearMap:
    return Matrix(np.abs(A.array).astype(np.float64))


@absolute.register(Diagonal)
def _(A: Diagonal) -> LinearMap:
    return Diagonal(np.abs(A.entries).astype(np.float64))


@absolute.register(DiagonalPlusLowRank)
def _(A: DiagonalPlusLowRank) -> LinearMap:
    parts = (np.abs(part).astype(np.float64) for part in (A.entries, A.left, A.right))
    return DiagonalPlusLowRank(*parts)


@absolute.register(Identity)
def _(A: Identity) -> LinearMap:
    return Identity(A.n)


@singledispatch
def own_roundings(A: LinearMap) -> int:
    """Count the roundings that go into one entry of a factor, however it is formed."""
    return sum(A.shape)


@own_roundings.register(Matrix)
def _(A: Matrix) -> int:
    return 0


@own_roundings.register(DiagonalPlusLowRank)
def _(A: DiagonalPlusLowRank) -> int:
    return A.rank + 1


def count_roundings(factors: Sequence[LinearMap]) -> Any:
    """Return ``K`` for a chain of factors: a number, or one per point.

    >>> W2, W1 = Matrix(np.ones((2, 5))), Matrix(np.ones((5, 3)))
    >>> int(count_roundings([W2, Diagonal([0.3, 0.0, 0.0, 0.7, 0.0]), W1]))  # 1 + two live units
    3
    """
    K: Any = np.asarray(0)
    width: Any = None  # of the contraction that is open to the left, None before the first matrix
    for A in factors:
        if isinstance(A, Identity):
            continue
        if isinstance(A, Diagonal):
            live = A.entries != 0
            exact = np.abs(np.frexp(np.where(live, A.entries, 0.5))[0]) == 0.5
            K = K + ~exact.all(axis=-1)
            if width is not None:
                width = np.minimum(width, np.maximum(live.sum(axis=-1), 1))
            continue
        K = K + own_roundings(A) + (0 if width is None else width)
        width = A.shape[1]
    return K


# --- the bound of a chain -------------------------------------------------------------------------


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
    """
    opened = Product(factors).factors
    info = np.finfo(dtype)
    unit = float(info.eps) / 2
    K = count_roundings(opened)
    magnitudes = [absolute(A) for A in opened]
    # Several roundings of a subnormal can meet in one entry: the products of a contraction, and
    # for low rank those of the inner one, magnified by U.
    width = max(max(A.shape) for A in opened)
    s = 2 * (width + 2) * float(info.smallest_subnormal) * max(_gain(A) for A in magnitudes)
    n = opened[-1].shape[1]
    P: Array = np.eye(n)
    N: Array = np.zeros((n, n))
    through: Array = np.zeros((1, n))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for A in reversed(magnitudes):
            through = through + (P + N).sum(axis=-2, keepdims=True)
            N = A.apply(N) + s * through
            P = A.apply(P)
        depth = sum(A.shape[1] for A in opened)
        P = P * np.exp(1.01 * depth * 2.0**-53) * (1 + 2.0**-40)  # P was rounded itself
        N = 2 * N * np.exp(K * unit)[..., None, None]
    overflow = _may_overflow(magnitudes, float(info.max) / 4)
    P, N = np.broadcast_arrays(P, N)
    return Bound(P, N, K, unit, overflow | ~np.isfinite(P).all(axis=(-2, -1)))


def _gain(A: LinearMap) -> float:
    if isinstance(A, DiagonalPlusLowRank):
        return (A.rank + 1) * max(1.0, float(A.left.max(initial=0.0)))
    return 1.0


def _may_overflow(magnitudes: Sequence[LinearMap], limit: float) -> Any:
    """Tell where a partial product of some order could exceed ``limit``, by its row sums."""
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        sums = [A.apply(np.ones((A.shape[1], 1))).max(axis=(-2, -1)) for A in magnitudes]
        # the product of the largest row sums is the quick answer for all ordinary networks
        quick = sum(np.maximum(np.log2(total), 0) for total in sums) > np.log2(limit)
        if not np.any(quick):
            return np.zeros(np.shape(quick), dtype=bool)
        worst: Any = np.asarray(0.0)
        for j in range(len(magnitudes), 0, -1):
            through = np.ones((magnitudes[j - 1].shape[1], 1))
            for A in reversed(magnitudes[:j]):
                through = np.minimum(A.apply(through), np.finfo(np.float64).max)
                worst = np.maximum(worst, through.max(axis=(-2, -1)))
    return worst > limit


def jacobian_with_bound(net: Network, X: Any) -> tuple[Array, Array]:
    """Return the Jacobian and a proved bound on its rounding error, entry by entry.

    Parameters
    ----------
    net : Network
    X : array, shape (n_0,) or (B, n_0)

    Returns
    -------
    J : array, shape (m, n) or (B, m, n)
    bound : array of float64, same shape
        ``|J - exact product of the same D and W| <= bound``; infinite where a partial product may
        overflow.

    >>> J, bound = jacobian_with_bound(Network.random([3, 5, 2], seed=0), [0.1, 0.2, 0.3])
    >>> bool((bound < 1e-14).all())
    True
    """
    net = as_network(net, "jacobian_with_bound")
    X = as_points(X, net.widths[0], "jacobian_with_bound: X", net.dtype)
    if X.ndim == 1:
        lin = linearize(net, X)
        return lin.jacobian(), chain_bound(lin.factors, net.dtype).single()
    shape = (len(X), net.widths[-1], net.widths[0])
    J, bound = np.empty(shape, net.dtype), np.empty(shape)
    piece = max(1, 2**22 // max(sum(net.widths) * net.widths[0], 1))
    for start in range(0, len(X), piece):
        rows = slice(start, start + piece)
        lin = linearize(net, X[rows])
        J[rows] = lin.jacobian()
        bound[rows] = chain_bound(lin.factors, net.dtype).single()
    return J, bound
