"""Second differentials written out as arrays, index by index, and the Hessian they add up to.

For ``explicit``.  As there, nothing reads a structured map, but for layers of your own.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from jacobians._checks import Array, refuse_if_too_large, require_shape, underflow_is_rounding
from jacobians._written_out import written_activation, written_layer
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.along import Along
from jacobians.layers import Layer, LayerNorm, MatrixProduct, Multiply, RMSNorm
from jacobians.linearization.rules import is_nearer
from jacobians.linearization.second_differentials import norm_parts, second_of_layer
from jacobians.tracing import Trace


@underflow_is_rounding
def hessian(
    trace: Trace, cotangent: Any, of: int | str | None = None, wrt: int | str = 0, at: Any = None
) -> Array:
    """Return the Hessian of ``cᵀ a^of`` by ``a^wrt``: ``P_lᵀ S_l P_l``, summed over the nodes.

    ``P_l = dz^l/da^wrt`` is multiplied out from the input, the cotangents from the output.

    Parameters
    ----------
    trace : Trace
        Of one point.
    cotangent : array, shape (n_of,)
    of, wrt : int or str
    at : dict, optional
        Cotangents ``{("a", l): ..., ("z", l): ...}`` to be taken as they are.

    Returns
    -------
    array, shape (n_wrt, n_wrt)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[3, 1]])])
    >>> hessian(jb.trace(net, [1, 1]), np.ones(1))  # of 3 (x + 2y)² + y²
    array([[ 6., 12.],
           [12., 26.]])
    """
    net = trace.network
    of = net.depth if of is None else net.number(of, "explicit.hessian: of")
    wrt = net.number(wrt, "explicit.hessian: wrt", 0, of)
    require_shape(trace.activations[0], net.widths[:1], "explicit.hessian: trace", "Of one point.")
    widest = max(net.widths[wrt : of + 1])
    refuse_if_too_large((widest, widest), net.dtype, "explicit.hessian: S", "Use lin.hessian")
    c: Any = np.asarray(cotangent, net.dtype)
    require_shape(c, (net.widths[of],), "explicit.hessian: cotangent")
    zero = [np.zeros((n, net.widths[wrt]), net.dtype) for n in net.widths]
    A, P, D = {**dict(enumerate(zero)), wrt: np.eye(net.widths[wrt], dtype=net.dtype)}, {}, {}
    W = {l: written_layer(net.layers[l - 1], *trace.entering(l)) for l in range(wrt + 1, of + 1)}
    for l in W:
        P[l] = sum(W[l][k] @ A[s] for k, s in enumerate(net.sources[l - 1]))
        D[l] = written_activation(net.layers[l - 1].activation, trace.preactivations[l - 1])
        A[l] = D[l] @ P[l]
    back, H = [np.zeros(n, net.dtype) for n in net.widths], zero[wrt].copy()
    back[of] = c
    for l in reversed(W):
        layer, values, sources = net.layers[l - 1], trace.entering(l), net.sources[l - 1]
        at_a = back[l] if at is None else at.get(("a", l), back[l])
        at_z = at_a @ D[l] if at is None else at.get(("z", l), 0 * back[l])
        H += P[l].T @ written_curvature(layer.activation, at_a, trace.preactivations[l - 1]) @ P[l]
        own = is_nearer(written_second, layer)
        blocks = (written_second if own else written_second.registry[object])(layer, at_z, *values)
        for (j, k), S in blocks.items():
            term = A[sources[j]].T @ S @ A[sources[k]]
            H += term if j == k else term + term.T
        for k, s in enumerate(sources):
            back[s] = back[s] + at_z @ W[l][k]
    return H


@singledispatch
def written_curvature(activation: AnyActivation, c: Array, z: Array) -> Array:
    """Return the Hessian of ``cᵀ sigma(z)``: the sum over i of ``c_i d²a_i/dz dz``."""
    second = activation.second_derivative(z)
    return np.array(sum(c[i] * second[i] for i in range(len(c))))


@written_curvature.register(Activation)
def _(activation: Activation, c: Array, z: Array) -> Array:
    return np.diag(c * activation.second_derivative(z))


@written_curvature.register(VectorActivation)
def _(activation: VectorActivation, c: Array, z: Array) -> Array:
    if activation.second_parts_of is None:
        return written_curvature.registry[object](activation, c, z)
    d, U, V = activation.second_parts(z, c)
    S: Array = np.diag(d) + U @ V.T
    return S


@written_curvature.register(Along)
def _(activation: Along, c: Array, z: Array) -> Array:
    S = np.zeros((len(z), len(z)), z.dtype)
    entries = np.moveaxis(np.arange(len(z)).reshape(activation.shape), activation.axis, -1)
    for line in entries.reshape(-1, entries.shape[-1]):
        S[np.ix_(line, line)] = written_curvature(activation.activation, c[line], z[line])
    return S


@singledispatch
def written_second(layer: Layer, c: Array, *values: Array) -> dict[tuple[int, int], Array]:
    """Return the blocks of the Hessian of ``cᵀz`` by the values that come in."""
    blocks = second_of_layer(layer, c, *values)
    return {pair: S.to_dense() for pair, S in blocks.items()}


@written_second.register(Multiply)
def _(layer: Multiply, c: Array, *values: Array) -> dict[tuple[int, int], Array]:
    blocks = {}
    for j in range(len(values)):
        for k in range(j + 1, len(values)):
            blocks[j, k] = np.diag(c)
            for i, a in enumerate(values):
                blocks[j, k] = blocks[j, k] if i in (j, k) else np.diag(a) @ blocks[j, k]
    return blocks


@written_second.register(MatrixProduct)
def _(layer: MatrixProduct, c: Array, a: Array, b: Array) -> dict[tuple[int, int], Array]:
    # d²(sum of C_ij A_ik B_kj) / dA_ik dB_kj = C_ij
    heads, p, q = layer.matrices(a, b)[0].shape
    C, S = c.reshape(heads, p, -1), np.zeros((len(a), len(b)), a.dtype)
    r = C.shape[-1]
    for h, i, k, j in np.ndindex(heads, p, q, r):
        place = (h * r + j) * q + k if layer.transpose_second else (h * q + k) * r + j
        S[(h * p + i) * q + k, place] = C[h, i, j]
    return {(0, 1): S}


@written_second.register(LayerNorm)
@written_second.register(RMSNorm)
def _(layer: LayerNorm | RMSNorm, c: Array, a: Array) -> dict[tuple[int, int], Array]:
    S = np.zeros((len(a), len(a)), a.dtype)
    for t, (d, x, h, flat) in enumerate(zip(*norm_parts(layer, c, a), strict=True)):
        row = slice(t * len(d), (t + 1) * len(d))
        S[row, row] = np.diag(d) + np.outer(h, x) + np.outer(x, h)
        if layer.centred:
            S[row, row] += flat
    return {(0, 0): S}
