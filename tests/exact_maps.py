"""Structured maps in fractions: what their parts say exactly, with no rounding at all."""

from fractions import Fraction
from functools import reduce

import numpy as np

import jacobians as jb
from jacobians.maps import Product


def fractions(array):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, dtype=float))


def exact_dense(A):
    """Write one map out in fractions, kind by kind."""
    if isinstance(A, jb.DiagonalPlusLowRank):
        M = fractions(A.left) @ fractions(A.right).T
        M[np.diag_indices(len(M))] += fractions(A.entries)
        return M
    if isinstance(A, Product):
        return reduce(np.matmul, [exact_dense(F) for F in A.factors])
    if isinstance(A, jb.Sum):
        return reduce(np.add, [exact_dense(F) for F in A.terms])
    if isinstance(A, jb.Kronecker):
        left, right = exact_dense(A.left), exact_dense(A.right)
        blocks = left[:, None, :, None] * right[None, :, None, :]
        return blocks.reshape(A.shape)
    if isinstance(A, jb.Blocks):
        return np.block([[exact_dense(F) for F in row] for row in A.blocks])
    if isinstance(A, jb.Substitution):
        values = [fractions(np.eye(A.shape[1]))]
        for edges in A.nodes:
            values.append(reduce(np.add, [exact_dense(F) @ values[s] for s, F in edges]))
        return values[-1]
    if isinstance(A, jb.BlockDiagonal) and isinstance(A.blocks, jb.DiagonalPlusLowRank):
        stacks = zip(A.blocks.entries, A.blocks.left, A.blocks.right, strict=True)
        result, n = fractions(np.zeros(A.shape)), A.blocks.shape[0]
        for i, (d, U, V) in enumerate(stacks):
            block = slice(i * n, (i + 1) * n)
            result[block, block] = exact_dense(jb.DiagonalPlusLowRank(d, U, V))
        return result
    return fractions(A.to_dense())  # what has no inside: entries as they are


def exact_product(factors):
    """Multiply given floating-point factors in fractions."""
    return exact_dense(Product(factors))


def worst_ratio(J, exact, bound):
    """The largest |J - exact| / bound; NaN and anything above a zero bound are infinite."""
    worst = 0.0
    for entry, true, allowed in zip(J.ravel(), exact.ravel(), bound.ravel(), strict=True):
        if not np.isfinite(allowed):
            continue  # nothing is claimed
        if not np.isfinite(entry):
            return np.inf
        difference = abs(Fraction(float(entry)) - true)
        if difference:
            worst = max(worst, float(difference / Fraction(float(allowed))) if allowed else np.inf)
    return worst
