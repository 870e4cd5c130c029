"""The vector-valued activations, in which every entry of z enters every entry of a.

The Jacobian of softmax is ``diag(p) - p pᵀ``, and its largest diagonal entry ``p (1 - p)`` cancels
when p is close to 1.  Let k be the place of the largest entry and q = p without it: since the p add
up to 1, with s = sum of q,

    diag(p) - p pᵀ  =  diag(q + p_k s e_k) - q pᵀ - p_k e_k qᵀ,

in which nothing cancels: a diagonal plus a matrix of rank two.  The same for log_softmax, whose
Jacobian is ``I - 1 pᵀ``.

**Accuracy.**  Let ``t_i = max z - z_i``; for the largest entry itself, the t of the second largest.
Then ``p_i``, ``log p_i`` and the diagonals of both Jacobians have a relative error of at most
``n + 8 + t_i`` times the eps of the dtype, and the entries [i, j] ``n + 8 + t_i + t_j``: n from the
sum, and t because the difference is rounded before exp sees it.  How close p is to 0 or 1 does not
enter.
"""

from __future__ import annotations

import numpy as np

from jacobians._checks import Array


def softmax(z: Array) -> Array:
    e: Array = np.exp(z - z.max(axis=-1, keepdims=True))
    p: Array = e / e.sum(axis=-1, keepdims=True)
    return p


def softmax_parts(z: Array) -> tuple[Array, Array, Array]:
    p, q, top, p_top = _leave_out_top(z)
    s = q.sum(axis=-1, keepdims=True)
    return q + p_top * s * top, np.stack([-q, top], axis=-1), np.stack([p, -p_top * q], axis=-1)


def softmax_matrix(z: Array) -> Array:
    p = softmax(z)
    J = -p[..., :, None] * p[..., None, :]
    _diagonal(J)[...] = p * _others(p, z)
    return J


def softmax_second(z: Array) -> Array:
    # d J_ij / d z_k with J = diag(p) - p pᵀ and dp = J dz
    p, J = softmax(z), _dense(*softmax_parts(z))
    eye = np.eye(z.shape[-1], dtype=z.dtype)
    return (
        eye[:, :, None] * J[..., :, None, :]
        - J[..., :, None, :] * p[..., None, :, None]
        - p[..., :, None, None] * J[..., None, :, :]
    )


def softmax_second_parts(z: Array, c: Array) -> tuple[Array, Array, Array]:
    # d²(cᵀp) = diag(w) - w pᵀ - p wᵀ  with w = J c, in which the parts of J keep the digits
    p, w = softmax(z), _times(*softmax_parts(z), c)
    return w, np.stack([-w, -p], axis=-1), np.stack([p, w], axis=-1)


def log_softmax(z: Array) -> Array:
    _, q, _, p_top = _leave_out_top(z)
    shifted = z - z.max(axis=-1, keepdims=True)
    # log(sum of e) with the largest term 1 left out of the sum: exact near 0
    result: Array = shifted - np.log1p(q.sum(axis=-1, keepdims=True) / p_top)
    return result


def log_softmax_parts(z: Array) -> tuple[Array, Array, Array]:
    p, q, top, _ = _leave_out_top(z)
    s = q.sum(axis=-1, keepdims=True)
    rest = 1 - top
    return rest + s * top, np.stack([-rest, -top], axis=-1), np.stack([p, q], axis=-1)


def log_softmax_matrix(z: Array) -> Array:
    p = softmax(z)
    J = np.empty((*z.shape, z.shape[-1]), z.dtype)
    np.negative(p[..., None, :], out=J)
    _diagonal(J)[...] = _others(p, z)
    return J


def log_softmax_second(z: Array) -> Array:
    J = _dense(*softmax_parts(z))
    return np.broadcast_to(-J[..., None, :, :], (*z.shape, *z.shape[-1:] * 2)).copy()


def log_softmax_second_parts(z: Array, c: Array) -> tuple[Array, Array, Array]:
    # every log p_i has the same second derivative, that of -log(sum of e^z): minus softmax's J
    d, U, V = softmax_parts(z)
    total = -c.sum(axis=-1, keepdims=True)
    return total * d, total[..., None] * U, V


# --- log-odds of softmax: log p_k/(1 - p_k) = z_k - log sum_{j != k} exp(z_j) ---------------------


def log_odds(z: Array) -> Array:
    others = _without_own(z)
    largest = others.max(axis=-1, keepdims=True)
    odds: Array = z - (largest[..., 0] + np.log(np.exp(others - largest).sum(axis=-1)))
    return odds


def log_odds_matrix(z: Array) -> Array:
    matrix: Array = np.eye(z.shape[-1], dtype=z.dtype) - softmax(_without_own(z))
    return matrix


def log_odds_parts(z: Array) -> tuple[Array, Array, Array]:
    # 0 and the matrix: diag(1/(1 - p)) (I - 1 pᵀ) would cancel where p_k is near 1
    eye = np.eye(z.shape[-1], dtype=z.dtype)
    return np.zeros_like(z), log_odds_matrix(z), np.broadcast_to(eye, (*z.shape, z.shape[-1]))


def log_odds_second(z: Array) -> Array:
    return -softmax_matrix(_without_own(z))


def log_odds_second_parts(z: Array, c: Array) -> tuple[Array, Array, Array]:
    # minus the sum over k of c_k times the Jacobian of the softmax of the others, rank 2 for each
    d, U, V = softmax_parts(_without_own(z))
    columns = (*z.shape, 2 * z.shape[-1])
    U = np.swapaxes(-c[..., None, None] * U, -3, -2).reshape(columns)
    return -(c[..., None] * d).sum(axis=-2), U, np.swapaxes(V, -3, -2).reshape(columns)


def _without_own(z: Array) -> Array:
    """Return z once for every class k, (..., n, n), with minus infinity in the place of k."""
    eye = np.eye(z.shape[-1], dtype=bool)
    return np.where(eye, z.dtype.type(-np.inf), z[..., None, :])


def _times(d: Array, U: Array, V: Array, c: Array) -> Array:
    product: Array = d * c + (U @ (np.swapaxes(V, -1, -2) @ c[..., None]))[..., 0]
    return product


def _dense(d: Array, U: Array, V: Array) -> Array:
    J: Array = np.eye(d.shape[-1], dtype=d.dtype) * d[..., None] + U @ np.swapaxes(V, -1, -2)
    return J


def _diagonal(J: Array) -> Array:
    """Return the diagonals of contiguous matrices, as a view."""
    n = J.shape[-1]
    return J.reshape(*J.shape[:-2], n * n)[..., :: n + 1]


def _others(p: Array, z: Array) -> Array:
    """Return ``1 - p_i``, for the largest z as the sum of the others."""
    flat = p.reshape(-1, p.shape[-1])
    at = range(len(flat)), z.reshape(flat.shape).argmax(axis=-1)
    rest = flat.copy()
    rest[at] = 0
    others = 1 - flat
    others[at] = rest.sum(axis=-1)
    return others.reshape(p.shape)


def _leave_out_top(z: Array) -> tuple[Array, Array, Array, Array]:
    """Return p, p without its largest entry, that entry's indicator, and that entry."""
    p = softmax(z)
    top = np.zeros_like(z)
    np.put_along_axis(top, z.argmax(axis=-1)[..., None], 1, axis=-1)
    p_top = np.take_along_axis(p, z.argmax(axis=-1)[..., None], axis=-1)
    return p, p * (1 - top), top, p_top
