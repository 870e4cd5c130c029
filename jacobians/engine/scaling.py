"""Products whose partial results leave the range, with powers of two kept apart.

Every entry of a partial product is a number from 1/2 to 1 with an exponent of its own.  Scaling by
powers of two is exact, so the rounding bound holds as ever, in graphs as in chains.  A map is
applied to columns that are near 1; where entries of one column are so far apart that the small ones
would be lost, every sum is made at the size of its own largest term.  Slow, and only for the points
where the ordinary way gave infinity or NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jacobians._checks import Array
from jacobians.linearization import linearize
from jacobians.maps import (
    Diagonal,
    DiagonalPlusLowRank,
    LinearMap,
    Matrix,
    Product,
    Substitution,
    Sum,
)
from jacobians.network import Network

_Scaled = tuple[Array, Array]  # numbers from 1/2 to 1, or 0, and their exponents

# Of two numbers near 1 whose exponents are no lower together, the product is in the normal range.
APART = -1000


def multiply_scaled(chain: Sequence[LinearMap], columns: Array) -> Array:
    """Return the product of maps of one point times ``columns``; infinite only where it must be.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    >>> multiply_scaled(jb.linearize(net, [1e-200]).factors, np.eye(1))
    array([[1.e+100]])
    """
    X = np.frexp(columns.astype(np.float64))
    with np.errstate(over="ignore", under="ignore"):
        for A in reversed(chain):
            X = _apply(A, X)
        result: Array = np.ldexp(*X)
    return result


def product_at(
    net: Network, point: Array, of: int, wrt: int, columns: Array, turned: bool = False
) -> Array:
    """Return ``da^of/da^wrt`` at a point times columns, or its transpose times columns."""
    chain = linearize(net, point).between(of, wrt)
    factors = [A.T for A in reversed(chain)] if turned else chain
    return multiply_scaled(factors, columns).astype(net.dtype)


def _apply(A: LinearMap, X: _Scaled) -> _Scaled:
    if isinstance(A, DiagonalPlusLowRank):
        A = Sum([Diagonal(A.entries), Product([Matrix(A.left), Matrix(A.right.T)])])
    if isinstance(A, Product):
        for factor in reversed(A.factors):
            X = _apply(factor, X)
        return X
    if isinstance(A, Sum):
        return _add([_apply(term, X) for term in A.terms])
    if isinstance(A, Substitution):
        at = [X]
        for edges in A.nodes:
            at.append(_add([_apply(part, at[source]) for source, part in edges]))
        return at[-1]
    if isinstance(A, Diagonal):
        entries, sizes = np.frexp(A.entries.astype(np.float64)[:, None])
        return _again(entries * X[0], sizes + X[1])
    columns, tops, lowest = _near_one(*X)
    if not isinstance(A, Matrix):
        if lowest < APART // 2:  # half is left to the entries of the map, which nobody knows
            return _entry_by_entry(A.to_dense(), X)
        return _again(A.apply(columns), tops)
    matrix, top, low = _near_one(*(part.ravel() for part in np.frexp(A.array.astype(np.float64))))
    if lowest + low < APART:
        return _entry_by_entry(A.array, X)
    return _again(matrix.reshape(A.shape) @ columns, tops + top)


def _again(X: Array, exponents: Array) -> _Scaled:
    """Write what was computed as numbers from 1/2 to 1 once more."""
    numbers, more = np.frexp(X)
    return numbers, more + exponents


def _near_one(numbers: Array, exponents: Array) -> tuple[Array, Array, int]:
    """Bring the largest entry of every column near 1: columns, their exponents, the lowest left."""
    there = numbers != 0
    tops = exponents.max(axis=0, where=there, initial=exponents.min())
    left = exponents - tops
    return np.ldexp(numbers, left), tops, int(left.min(where=there, initial=0))


def _entry_by_entry(matrix: Array, X: _Scaled) -> _Scaled:
    """Multiply so that every sum is made at the size of its largest term."""
    entries, sizes = np.frexp(matrix.astype(np.float64))
    sums = [_near_one((entries * x).T, (sizes + e).T) for x, e in zip(X[0].T, X[1].T, strict=True)]
    return _again(
        np.stack([A.sum(axis=0) for A, *_ in sums], 1), np.stack([e for _, e, _ in sums], 1)
    )


def _add(terms: list[_Scaled]) -> _Scaled:
    numbers, exponents = (np.stack(parts) for parts in zip(*terms, strict=True))
    near, tops, _ = _near_one(numbers, exponents)
    return _again(near.sum(axis=0), tops)
