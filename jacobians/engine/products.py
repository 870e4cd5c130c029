"""Products of plain arrays, one function for each pair of kinds that can meet in a chain.

=========  ==================  =========================================================
kind       array               factor or partial product
=========  ==================  =========================================================
matrix     (m, n)              the same for all points: a weight matrix
stack      (m, b, n)           one for each of b points
slopes     (b, n) or (n,)      a diagonal, one per point or the same for all
parts      d, U, V             ``diag(d) + U Vᵀ`` for each point
=========  ==================  =========================================================

A stack keeps its points in the middle: then ``P W`` is one large product of ``m b`` rows, ``W Q``
one of ``b n`` columns, and scaling the columns of a stack runs through memory from end to end.

Every function takes the left factor, the right factor and where to put the result, or None.

OpenBLAS keeps a product of up to ``SERIAL`` multiplications on the thread that calls it.  So two
Python threads that cut their products into such slabs share the processor without getting into each
other's way, and without touching a setting of the user's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jacobians._checks import Array
from jacobians.engine.workers import share

SERIAL = 262_144
# A product whose result is not contiguous can be made point by point or row by row, each a small
# product of its own; below this size of those, one large product and a copy take less time.
WORTH_A_COPY = 32


def scale_rows(d: Array, M: Array, out: Array | None) -> Array:
    """``diag(d) M``."""
    if d.ndim == 2:
        return np.multiply(M if M.ndim == 3 else M[:, None, :], d.T[:, :, None], out=out)
    return np.multiply(M, d[:, None] if M.ndim == 2 else d[:, None, None], out=out)


def scale_columns(M: Array, d: Array, out: Array | None) -> Array:
    """``M diag(d)``."""
    return np.multiply(M[:, None, :] if d.ndim == 2 == M.ndim else M, d, out=out)


def multiply_slopes(d: Array, e: Array, out: Array | None) -> Array:
    """``diag(d) diag(e)``, as a vector."""
    return np.multiply(d, e, out=out)


def matrix_by_matrix(W: Array, V: Array, out: Array | None) -> Array:
    """``W V``, the same for all points."""
    return np.matmul(W, V, out=out)


def stack_by_matrix(P: Array, W: Array, out: Array | None) -> Array:
    """``P_i W`` for every point."""
    m, b, k = P.shape
    if out is not None and not out.flags.c_contiguous:
        if b >= WORTH_A_COPY:
            return np.matmul(P, W, out=out)
        out[...] = stack_by_matrix(P, W, None)
        return out
    flat = None if out is None else out.reshape(m * b, -1)
    return np.matmul(P.reshape(m * b, k), W, out=flat).reshape(m, b, -1)


def stack_by_matrix_in_slabs(P: Array, W: Array, out: Array | None) -> Array:
    """``P_i W`` for every point, on the calling thread alone."""
    m, b, k = P.shape
    if out is None:
        out = np.empty((m, b, W.shape[1]), P.dtype)
    if out.flags.c_contiguous:
        in_slabs(P.reshape(m * b, k), W, out.reshape(m * b, -1))
    else:
        in_slabs(P, W, out)
    return out


def in_slabs(A: Array, W: Array, out: Array) -> None:
    """Multiply the rows of ``A`` by ``W``, as many at once as stay on the calling thread."""
    *lead, rows, k = A.shape
    n = W.shape[1]
    slab = max(1, SERIAL // (k * n))
    whole = rows // slab * slab
    if whole:
        left = A[..., :whole, :].reshape(*lead, -1, slab, k)
        np.matmul(left, W, out=out[..., :whole, :].reshape(*lead, -1, slab, n))
    if whole < rows:
        np.matmul(A[..., whole:, :], W, out=out[..., whole:, :])


def matrix_by_stack(W: Array, Q: Array, out: Array | None) -> Array:
    """``W Q_i`` for every point."""
    k, b, n = Q.shape
    if out is not None and not out.flags.c_contiguous:
        if n >= WORTH_A_COPY:
            np.matmul(W, _points_first(Q), out=_points_first(out))
        else:
            out[...] = matrix_by_stack(W, Q, None)
        return out
    flat = None if out is None else out.reshape(-1, b * n)
    return np.matmul(W, Q.reshape(k, b * n), out=flat).reshape(-1, b, n)


def stack_by_stack(P: Array, Q: Array, out: Array | None) -> Array:
    """``P_i Q_i`` for every point."""
    if out is None:
        out = np.empty((P.shape[0], *Q.shape[1:]), P.dtype)
    np.matmul(_points_first(P), _points_first(Q), out=_points_first(out))
    return out


def point_by_point(threads: int) -> Callable[..., Array]:
    """Return ``P_i diag(d_i) Q_i``, point by point and leaving out the units whose slope is 0.

    For large results of thin factors, as past the bottleneck of an autoencoder: there half of the
    units may be dead, and writing the result takes as long as computing it, so that threads pay.
    """

    def multiply(P: Array, d: Array, Q: Array, out: Array | None) -> Array:
        if out is None:
            out = np.empty((P.shape[0], *Q.shape[1:]), P.dtype)

        def one(i: int, _: int) -> None:
            with np.errstate(all="ignore"):
                live = np.flatnonzero(d[i])
                if not len(live):
                    out[:, i] = 0
                    return
                left = P[:, i, live] * d[i, live]
                if threads > 1:
                    in_slabs(left, Q[live, i], out[:, i])
                else:
                    np.matmul(left, Q[live, i], out=out[:, i])

        share(one, range(len(d)), threads)
        return out

    return multiply


def by_table(d: Array, table: Array, out: Array | None) -> Array:
    """``W diag(d_i) V = sum_k d_ik w_k v_kᵀ`` from the table (k, m, n) of all ``w_k v_kᵀ``.

    Linear in d: one product, and no scaled copy of W for every point.
    """
    k, m, n = table.shape
    if out is not None and not out.flags.c_contiguous:
        J = _points_first(out)
        if J.flags.c_contiguous:
            np.matmul(d, table.reshape(k, m * n), out=J.reshape(-1, m * n))
            return out
    return np.matmul(d, _points_first(table), out=out)


def by_table_in_slabs(d: Array, table: Array, out: Array | None) -> Array:
    """``by_table``, on the calling thread alone."""
    _, m, n = table.shape
    if out is None:
        out = np.empty((m, len(d), n), d.dtype)
    for i, row in enumerate(out):
        in_slabs(d, table[:, i], row)
    return out


def table_of(W: Array, V: Array) -> Array:
    """Return the Khatri-Rao table ``T[k, i, j] = W[i, k] V[k, j]``, (k, m, n)."""
    table: Array = W.T[:, :, None] * V[:, None, :]
    return table


# --- a diagonal plus a low rank -------------------------------------------------------------------


def parts_by_matrix(parts: tuple[Array, Array, Array], M: Array, out: Array | None) -> Array:
    """``(diag(d) + U Vᵀ) M``."""
    d, U, V = parts
    M = _points_first(M) if M.ndim == 3 else M
    result = d[:, :, None] * M + U @ (np.swapaxes(V, 1, 2) @ M)
    return _into(out, _points_first(result))


def matrix_by_parts(M: Array, parts: tuple[Array, Array, Array], out: Array | None) -> Array:
    """``M (diag(d) + U Vᵀ)``."""
    d, U, V = parts
    M = _points_first(M) if M.ndim == 3 else M
    result = M * d[:, None, :] + (M @ U) @ np.swapaxes(V, 1, 2)
    return _into(out, _points_first(result))


def dense_parts(d: Array, U: Array, V: Array) -> Array:
    """``diag(d) + U Vᵀ``, written out."""
    result = dense_slopes(d)
    for r in range(U.shape[-1]):  # the rank is 2, and a matrix product that thin is slow
        result += U[:, :, r].T[:, :, None] * V[:, :, r]
    return result


def dense_slopes(d: Array) -> Array:
    """``diag(d)``, written out."""
    n = d.shape[-1]
    result = np.zeros((n, len(d), n), d.dtype)
    result[range(n), :, range(n)] = d.T
    return result


def _points_first(A: Array) -> Array:
    """Swap the first two axes: (m, b, n) and (b, m, n)."""
    return A.transpose(1, 0, 2)


def _into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out
