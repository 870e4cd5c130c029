"""The one rule per kind for the second differential, beside its map.

With the cotangent c that arrives at a node, ``d²(cᵀz)`` is a quadratic form in the differentials of
the values that the layer reads, and its matrices are structured maps:

    layer_second        d²(cᵀz) / da_j da_k       none where z is linear in what comes in
    activation_second   d²(cᵀa) / dz dz           diag(c sigma''(z)) entry by entry
    parameter_second    d²(cᵀz) / da_j dvec(theta), and by two parameters where z bends in them

A layer of your own registers one rule, an empty dictionary if it is linear::

    @layer_second.register
    def _(layer: MyLayer, cotangent, a):
        return {(0, 0): Matrix(...)}      # the Hessian of cᵀz by a, (n, n) or (B, n, n)
"""

from __future__ import annotations

from functools import reduce, singledispatch
from math import prod
from typing import Any, TypeAlias

import numpy as np

from jacobians import layers
from jacobians._checks import Array
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.along import Along
from jacobians.layers import Convolution, Dense, Layer, LayerNorm, RMSNorm, TransposedConvolution
from jacobians.linearization import rules
from jacobians.linearization.rules import is_nearer, layer_map, parameter_maps
from jacobians.maps import (
    BlockDiagonal,
    Commutation,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    Kronecker,
    LinearMap,
    Matrix,
    Product,
    Selection,
)

Pairs: TypeAlias = dict[tuple[int, int], LinearMap]
Mixed: TypeAlias = dict[tuple[int | str, str], LinearMap]

# --- d²(cᵀz) / da_j da_k --------------------------------------------------------------------------


def second_of_layer(layer: Layer, cotangent: Array, *values: Array) -> Pairs:
    """Return the blocks of ``layer_second``; refuse a rule that a nearer ``layer_map`` overrules.

    >>> second_of_layer(layers.Multiply(), np.ones(2), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    {(0, 1): Diagonal 2x2 float64}
    """
    rule = layer_second if is_nearer(layer_second, layer) else layer_second.registry[object]
    blocks: Pairs = rule(layer, cotangent, *values)
    return blocks


@singledispatch
def layer_second(layer: Layer, cotangent: Array, *values: Array) -> Pairs:
    """Return the Hessian of ``cᵀz`` by the values that come in, as blocks ``{(j, k): map}``.

    Only ``j <= k``, since block (k, j) is the transpose of (j, k), and without those that are zero
    whatever the cotangent: which pairs there are depends on the layer alone.
    The cotangent is (m,) or (B, m), as the values are (n,) or (B, n).
    """
    raise NotImplementedError(
        f"hessian: {layer} has no rule for its second differential; register one with "
        f"@layer_second.register for {type(layer).__name__} (an empty dictionary if it is linear)."
    )


@layer_second.register(Dense | Convolution | TransposedConvolution | layers.Rearrangement)
@layer_second.register(layers.Scale | layers.Elementwise | layers.Add | layers.Concatenate)
@layer_second.register(layers.AveragePool | layers.MaxPool)
def _(layer: Layer, cotangent: Array, *values: Array) -> Pairs:
    return {}  # linear, or linear in pieces


@layer_second.register(layers.Multiply)
def _(layer: layers.Multiply, cotangent: Array, *values: Array) -> Pairs:
    count = range(len(values))
    pairs = [(j, k) for j in count for k in count if j < k]
    others = {(j, k): [values[i] for i in count if i not in (j, k)] for j, k in pairs}
    return {pair: Diagonal(reduce(np.multiply, rest, cotangent)) for pair, rest in others.items()}


@layer_second.register(layers.MatrixProduct)
def _(layer: layers.MatrixProduct, cotangent: Array, a: Array, b: Array) -> Pairs:
    # cᵀz = tr(Cᵀ A B), so its derivative by A is C Bᵀ, and dvec (C dBᵀ)ᵀ = (C ⊗ I) dvec B
    A, B = layer.matrices(a, b)
    *_, heads, p, q = A.shape
    r = B.shape[-1]
    C = cotangent.reshape(*cotangent.shape[:-1], heads, p, r)
    block = rules.per_head(C, Identity(q, a.dtype), heads)
    if not layer.transpose_second:  # then the value holds the rows of B, which is vec Bᵀ
        swap: LinearMap = Commutation(r, q, a.dtype)
        if heads > 1:
            swap = Kronecker(Identity(heads, a.dtype), swap)
        block = Product([block, swap])
    return {(0, 1): block}


@layer_second.register(LayerNorm | RMSNorm)
def _(layer: LayerNorm | RMSNorm, cotangent: Array, a: Array) -> Pairs:
    d, normal, h, flat = norm_parts(layer, cotangent, a)
    left, right = [h, normal], [normal, h]
    if layer.centred:  # the mean is taken off: I - 1 1ᵀ/d in the place of I
        left, right = [*left, flat], [*right, np.ones_like(flat)]
    U, V = np.stack(left, axis=-1), np.stack(right, axis=-1)
    return {(0, 0): rules.row_by_row(d, U, V, bool(a.ndim > 1))}


def norm_parts(
    layer: LayerNorm | RMSNorm, cotangent: Array, a: Array
) -> tuple[Array, Array, Array, Array]:
    """Return ``d, x̂, h, -d/n``, each (..., rows, n), of a norm's second differential.

    With the gradient G of ``cᵀz`` and ``γ = cᵀ(scale x̂)/n``, in every row and for RMSNorm

        d²(cᵀz) = diag(d) + h x̂ᵀ + x̂ hᵀ,      d = -γ/s²,   h = -G/(n s) + γ x̂/(2 n s²);

    LayerNorm has ``d (I - 1 1ᵀ/n)`` in the place of ``diag(d)``.
    """
    normal, size = layer.normalised(a)
    n = normal.shape[-1]
    over = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
    G = layer.scale * cotangent.reshape(normal.shape)
    gamma = (G * normal).mean(axis=-1, keepdims=True)
    if layer.centred:
        G = G - G.mean(axis=-1, keepdims=True)
    G = (G - gamma * normal) * over
    d = -gamma * over * over
    h = -G * over / n - d * normal / (2 * n)
    return np.broadcast_to(d, normal.shape), normal, h, np.broadcast_to(-d / n, normal.shape)


# --- d²(cᵀa) / dz dz ------------------------------------------------------------------------------


@singledispatch
def activation_second(activation: AnyActivation, cotangent: Array, z: Array) -> LinearMap | None:
    """Return the Hessian of ``cᵀ sigma(z)``, ``diag(c sigma''(z))`` if entry by entry.

    None for activations that are linear in pieces.

    >>> from jacobians.activations import activation
    >>> activation_second(activation("square"), np.ones(2), np.array([5.0, 6.0])).to_dense()
    array([[2., 0.],
           [0., 2.]])
    """
    raise NotImplementedError(
        f"hessian: activation {activation} has no rule for its second differential; register one "
        f"with @activation_second.register for {type(activation).__name__}."
    )


@activation_second.register(Activation)
def _(activation: Activation, cotangent: Array, z: Array) -> LinearMap | None:
    if not activation.curved:
        return None
    return Diagonal(cotangent * activation.second_derivative(z))


@activation_second.register(VectorActivation)
def _(activation: VectorActivation, cotangent: Array, z: Array) -> LinearMap | None:
    if activation.second_parts_of is not None:
        return DiagonalPlusLowRank(*activation.second_parts(z, cotangent))
    second = activation.second_derivative(z)
    return Matrix((cotangent[..., :, None, None] * second).sum(axis=-3))


@activation_second.register(Along)
def _(activation: Along, cotangent: Array, z: Array) -> LinearMap | None:
    rows = [activation.rows(values) for values in (cotangent, z)]
    count = rows[0].shape[-2]
    flat = (A.reshape(-1, A.shape[-1]) for A in rows)
    each = activation_second(activation.activation, *flat)
    if each is None:
        return None
    blocks = BlockDiagonal(each, count, bool(z.ndim > 1))
    if activation.axis in (-1, len(activation.shape) - 1):
        return blocks
    P = Selection(activation.index, prod(activation.shape), z.dtype)
    return Product([P.T, blocks, P])


# --- d²(cᵀz) / da_j dvec(theta) -------------------------------------------------------------------


def second_of_parameters(layer: Layer, cotangent: Array, *values: Array) -> Mixed:
    """Return the blocks of ``parameter_second``; refuse a rule that a nearer map overrules."""
    own = is_nearer(parameter_second, layer, parameter_maps) and is_nearer(parameter_second, layer)
    rule = parameter_second if own else parameter_second.registry[object]
    blocks: Mixed = rule(layer, cotangent, *values)
    return blocks


@singledispatch
def parameter_second(layer: Layer, cotangent: Array, *values: Array) -> Mixed:
    """Return the derivative of ``(dz/da_j)ᵀ c`` by ``vec(theta)``, as blocks ``{(j, name): map}``.

    Only blocks that are not zero, each (n_j, entries of theta).  Where z is not affine in the
    parameters there are blocks of two of them too, ``{(name, other): map}``, the derivative of
    ``(dz/dvec(name))ᵀ c`` by ``vec(other)``; of a pair and its reverse, which is the transpose, one
    is enough.  All layers of this library are linear in their parameters.

    For ``z = exp(w) a``, entry by entry, with the cotangent c::

        @parameter_second.register
        def _(layer: ExpScale, c, a):
            slope = c * np.exp(layer.w)
            return {(0, "w"): Diagonal(slope), ("w", "w"): Diagonal(slope * a)}
    """
    if not layer.parameters():
        return {}
    raise NotImplementedError(
        f"mixed_hessian: {layer} has no rule for its second differential by parameters; register "
        f"one with @parameter_second.register for {type(layer).__name__}."
    )


@parameter_second.register(Dense)
def _(layer: Dense, cotangent: Array, a: Array) -> Mixed:
    # the gradient by the rows A is C W, so dvec (C dW)ᵀ = (C ⊗ I) dvec Wᵀ
    m, n = layer.W.shape
    C = Matrix(cotangent.reshape(*cotangent.shape[:-1], layer.rows, m))
    swap = Commutation(m, n, a.dtype)
    return {(0, "W"): Product([Kronecker(C, Identity(n, a.dtype)), swap])}


@parameter_second.register(LayerNorm | RMSNorm)
def _(layer: LayerNorm | RMSNorm, cotangent: Array, a: Array) -> Mixed:
    # z = scale x̂ + shift: the derivative of x̂ᵀ meets c times dscale
    d = len(layer.scale)
    normal: Any = layer_map(layer.with_arrays({"scale": np.ones_like(layer.scale)}), a)
    repeat = Selection(np.tile(np.arange(d), a.shape[-1] // d), d, a.dtype)
    return {(0, "scale"): Product([normal.T, Diagonal(cotangent), repeat])}


@parameter_second.register(Convolution)
def _(layer: Convolution, cotangent: Array, a: Array) -> Mixed:
    return {(0, "K"): rules.spread_kernel(layer, cotangent)}  # the gradient by a is spread by Kᵀ


@parameter_second.register(TransposedConvolution)
def _(layer: TransposedConvolution, cotangent: Array, a: Array) -> Mixed:
    return {(0, "K"): rules.correlated_kernel(layer, cotangent)}
