"""Products whose partial results leave the range, with powers of two kept apart.

Every partial product is a matrix whose columns are near 1, and an exponent for each of them; every
matrix and diagonal is brought near 1 too before it is multiplied.  Scaling by powers of two is
exact, so the rounding bound holds as ever, in graphs as in chains.  Slow, and only for the points
where the ordinary way gave infinity or NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

_Scaled = tuple[Array, Any]  # columns, and their exponents


def multiply_scaled(chain: Sequence[LinearMap], columns: Array) -> Array:
    """Return the product of maps of one point times ``columns``; infinite only where it must be.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    >>> multiply_scaled(jb.linearize(net, [1e-200]).factors, np.eye(1))
    array([[1.e+100]])
    """
    X = _normal(columns.astype(np.float64), np.zeros(columns.shape[1], int))
    for A in reversed(chain):
        X = _apply(A, X)
    with np.errstate(over="ignore", under="ignore"):
        result: Array = np.ldexp(*X)
    return result


def product_at(
    net: Network, point: Array, of: int, wrt: int, columns: Array, turned: bool = False
) -> Array:
    """Return ``da^of/da^wrt`` at a point times columns, or its transpose times columns."""
    chain = linearize(net, point).between(of, wrt)
    factors = [A.T for A in reversed(chain)] if turned else chain
    return multiply_scaled(factors, columns).astype(net.dtype)


def _normal(X: Array, exponents: Any) -> _Scaled:
    """Bring the largest entry of every column near 1."""
    shift = np.frexp(np.abs(X).max(axis=0, initial=0.0))[1]
    return np.ldexp(X, -shift), exponents + shift


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
    columns, exponents = X
    if isinstance(A, (Matrix, Diagonal)):
        entries = (A.array if isinstance(A, Matrix) else A.entries).astype(np.float64)
        shift = int(np.frexp(np.abs(entries).max(initial=0.0))[1])
        entries = np.ldexp(entries, -shift)
        product = entries @ columns if isinstance(A, Matrix) else entries[:, None] * columns
        return _normal(product, exponents + shift)
    return _normal(A.apply(columns), exponents)


def _add(terms: list[_Scaled]) -> _Scaled:
    exponents = np.max([e for _, e in terms], axis=0)
    return _normal(np.sum([np.ldexp(X, e - exponents) for X, e in terms], axis=0), exponents)
