"""The one rule per kind of layer: the structured map of its derivative.

``layer_map`` is ``dz/da`` with respect to every input, ``activation_map`` is ``D = da/dz``, and
``parameter_maps`` is ``dz/dvec(theta)`` for every parameter.  Cost, memory, both directions of a
product, rounding bounds and gradients all follow from these maps.  A layer of your own registers
one rule::

    @layer_map.register
    def _(layer: MyLayer, a):
        return Matrix(...)          # dz/da at the value a that comes in, (n,) or (B, n)

with two inputs, ``(layer, a, b)`` and a tuple of two maps; with parameters, one more rule for
``parameter_maps``, a dictionary by their names.

=================== =================================================================

Dense               ``W``, or ``I ⊗ W`` on several rows;      ``Aᵀ ⊗ I`` for its weights
Scale, Elementwise  ``diag(scale)``, ``I``
LayerNorm, RMSNorm  a diagonal plus rank 2 or 1 in every row
Add, Multiply       ``I``; ``diag`` of the other inputs
Convolution         itself;  ``K (Pᵀ ⊗ I)`` for its kernel, with the matrix P of patches
MaxPool             a selection; AveragePool a convolution
MatrixProduct       ``I ⊗ Bᵀ`` and ``A ⊗ I``
shaping layers      selections
=================== =================================================================

"""

from __future__ import annotations

from functools import singledispatch
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import IDENTITY, Activation, AnyActivation, VectorActivation
from jacobians.along import Along
from jacobians.layers import (
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Dense,
    Elementwise,
    Layer,
    LayerNorm,
    MatrixProduct,
    MaxPool,
    Multiply,
    Rearrangement,
    RMSNorm,
    Scale,
    TransposedConvolution,
)
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
from jacobians.maps import Convolution as ConvolutionMap

# --- dz/da, for every input -----------------------------------------------------------------------


@singledispatch
def layer_map(layer: Layer, *values: Array) -> LinearMap | tuple[LinearMap, ...]:
    """Return ``dz/da`` of a layer at the values that come in, each (n,) or (B, n).

    One map for a layer with one input, a tuple of maps for several.

    >>> layer_map(Dense([[1, 2, 3], [4, 5, 6]]), np.zeros(3))
    Matrix 2x3 float64
    """
    raise NotImplementedError(
        f"linearize: {layer} has no derivative rule; register one with "
        f"@layer_map.register for {type(layer).__name__}."
    )


@layer_map.register(Dense)
def _(layer: Dense, a: Array) -> LinearMap:
    W = Matrix(layer.W)
    return W if layer.rows == 1 else Kronecker(Identity(layer.rows, a.dtype), W)


@layer_map.register(Scale)
def _(layer: Scale, a: Array) -> LinearMap:
    return Diagonal(layer.scale)


@layer_map.register(Elementwise)
def _(layer: Elementwise, a: Array) -> LinearMap:
    return Identity(a.shape[-1], a.dtype)


@layer_map.register(Rearrangement)
def _(layer: Rearrangement, a: Array) -> LinearMap:
    if np.array_equal(layer.index, np.arange(a.shape[-1])):  # a new shape, and nothing else
        return Identity(a.shape[-1], a.dtype)
    return Selection(layer.index, a.shape[-1], a.dtype)


@layer_map.register(LayerNorm)
def _(layer: LayerNorm, a: Array) -> LinearMap:
    # d x̂ = (I - 1 1ᵀ/d - x̂ x̂ᵀ/d) da / s
    normal, size = layer.normalised(a)
    d = _over(layer.scale, size)
    ones = np.full_like(normal, 1 / normal.shape[-1])
    left = np.stack([-d, -d * normal], axis=-1)
    right = np.stack([ones, normal / normal.shape[-1]], axis=-1)
    return row_by_row(d, left, right, bool(a.ndim > 1))


@layer_map.register(RMSNorm)
def _(layer: RMSNorm, a: Array) -> LinearMap:
    # d x̂ = (I - x̂ x̂ᵀ/d) da / s
    normal, size = layer.normalised(a)
    d = _over(layer.scale, size)
    left, right = (-d * normal)[..., None], (normal / normal.shape[-1])[..., None]
    return row_by_row(d, left, right, bool(a.ndim > 1))


@layer_map.register(Convolution)
def _(layer: Convolution, a: Array) -> LinearMap:
    return ConvolutionMap(layer.K, layer.windows, layer.groups)


@layer_map.register(TransposedConvolution)
def _(layer: TransposedConvolution, a: Array) -> LinearMap:
    return ConvolutionMap(layer.K, layer.windows, layer.groups).T


@layer_map.register(MaxPool)
def _(layer: MaxPool, a: Array) -> LinearMap:
    return Selection(layer.chosen(a), a.shape[-1], a.dtype)


@layer_map.register(AveragePool)
def _(layer: AveragePool, a: Array) -> LinearMap:
    channels, windows = layer.shape[0], layer.windows
    sums = ConvolutionMap(np.ones((channels, 1, *windows.size), a.dtype), windows, channels)
    return Product([Diagonal(layer.weights(a.dtype)), sums])


def _over(scale: Array, size: Array) -> Array:
    """Return scale / size; at a row of zeros without an epsilon the derivative is a choice: 0."""
    return np.divide(
        scale, size, out=np.zeros(size.shape[:-1] + scale.shape, size.dtype), where=size > 0
    )


def row_by_row(d: Array, U: Array, V: Array, stacked: bool) -> LinearMap:
    """Return the diagonals plus low rank of all rows, (..., rows, d): one block for each."""
    count = d.shape[-2]
    if count == 1:
        return DiagonalPlusLowRank(d[..., 0, :], U[..., 0, :, :], V[..., 0, :, :])
    flat = (A.reshape(-1, *A.shape[d.ndim - 1 :]) for A in (d, U, V))
    return BlockDiagonal(DiagonalPlusLowRank(*flat), count, stacked)


@layer_map.register(Add)
def _(layer: Add, *values: Array) -> tuple[LinearMap, ...]:
    return tuple(Identity(a.shape[-1], a.dtype) for a in values)


@layer_map.register(Multiply)
def _(layer: Multiply, *values: Array) -> tuple[LinearMap, ...]:
    others = [values[:i] + values[i + 1 :] for i in range(len(values))]
    return tuple(Diagonal(layer.preactivation(*rest)) for rest in others)


@layer_map.register(Concatenate)
def _(layer: Concatenate, *values: Array) -> tuple[LinearMap, ...]:
    ends = np.cumsum([0, *(a.shape[-1] for a in values)])
    index = np.argsort(layer.order)  # of every entry of the inputs in the result
    n, dtype = int(ends[-1]), values[0].dtype
    return tuple(Selection(index[start:end], n, dtype).T for start, end in pairwise(ends))


@layer_map.register(MatrixProduct)
def _(layer: MatrixProduct, a: Array, b: Array) -> tuple[LinearMap, ...]:
    # rows are stacked here, so Z = A B gives dvec Zᵀ = (I ⊗ Bᵀ) dvec Aᵀ and (A ⊗ I) dvec Bᵀ
    A, B = layer.matrices(a, b)
    *_, heads, p, q = A.shape
    r = B.shape[-1]
    first = per_head(Identity(p, a.dtype), np.swapaxes(B, -2, -1), heads)
    second = per_head(A, Identity(r, a.dtype), heads)
    if layer.transpose_second:
        swap: LinearMap = Commutation(q, r, a.dtype)
        if heads > 1:
            swap = Kronecker(Identity(heads, a.dtype), swap)
        second = Product([second, swap])
    return first, second


def per_head(left: Any, right: Any, heads: int) -> LinearMap:
    """Return ``left ⊗ right`` where one is a stack (..., heads, m, n), a block for each head."""

    def flat(A: Any) -> Any:
        return A if isinstance(A, LinearMap) else Matrix(A.reshape(-1, *A.shape[-2:]))

    stack = left if isinstance(right, LinearMap) else right
    if heads == 1:
        one = stack[..., 0, :, :]
        return Kronecker(left, one) if stack is right else Kronecker(one, right)
    return BlockDiagonal(Kronecker(flat(left), flat(right)), heads, stack.ndim > 3)


# --- da/dz ----------------------------------------------------------------------------------------


@singledispatch
def activation_map(activation: AnyActivation, z: Array) -> LinearMap:
    """Return ``D = da/dz`` of an activation at the preactivation ``z``, (n,) or (B, n)."""
    raise NotImplementedError(f"linearize: activation {activation} has no derivative rule.")


@activation_map.register(Activation)
def _(activation: Activation, z: Array) -> LinearMap:
    if activation == IDENTITY:
        return Identity(z.shape[-1], z.dtype)
    return Diagonal(activation.derivative(z))


@activation_map.register(VectorActivation)
def _(activation: VectorActivation, z: Array) -> LinearMap:
    return DiagonalPlusLowRank(*activation.parts(z))


@activation_map.register(Along)
def _(activation: Along, z: Array) -> LinearMap:
    rows = row_by_row(*activation.parts(z), bool(z.ndim > 1))
    if activation.axis in (-1, len(activation.shape) - 1):
        return rows
    P = Selection(activation.index, prod(activation.shape), z.dtype)
    return Product([P.T, rows, P])


# --- dz/dvec(theta), for every parameter ----------------------------------------------------------


@singledispatch
def parameter_maps(layer: Layer, *values: Array) -> dict[str, LinearMap]:
    """Return ``dz/dvec(theta)`` for every parameter of a layer, by name.

    >>> parameter_maps(Dense([[1, 2, 3], [4, 5, 6]]), np.ones(3))["W"]
    Kronecker 2x6 float64: (Matrix 1x3) ⊗ (Identity 2x2)
    """
    if layer.parameters():
        raise NotImplementedError(
            f"linearize: {layer} has no rule for its parameters; register one with "
            f"@parameter_maps.register for {type(layer).__name__}."
        )
    return {}


@parameter_maps.register(Dense)
def _(layer: Dense, a: Array) -> dict[str, LinearMap]:
    # one row of A for each row of the value: z_t = W a_t + b gives (A ⊗ I) dvec W and (1 ⊗ I) db
    m, n = layer.W.shape
    A = Matrix(a.reshape(*a.shape[:-1], layer.rows, n))
    one = Identity(m, a.dtype)
    maps: dict[str, LinearMap] = {"W": Kronecker(A, one)}
    if layer.b is not None:
        each = Matrix(np.ones((layer.rows, 1), a.dtype))
        maps["b"] = one if layer.rows == 1 else Kronecker(each, one)
    return maps


@parameter_maps.register(LayerNorm)
@parameter_maps.register(RMSNorm)
def _(layer: LayerNorm | RMSNorm, a: Array) -> dict[str, LinearMap]:
    # z = scale x̂ in every row: the diagonals of all rows above one another
    normal, _ = layer.normalised(a)
    count, d = normal.shape[-2:]
    repeat = Selection(np.tile(np.arange(d), count), d, a.dtype)
    entries = Diagonal(normal.reshape(*a.shape[:-1], count * d))
    maps: dict[str, LinearMap] = {"scale": entries if count == 1 else Product([entries, repeat])}
    if "shift" in layer.parameters():
        maps["shift"] = Identity(d, a.dtype) if count == 1 else repeat
    return maps


@parameter_maps.register(Convolution)
def _(layer: Convolution, a: Array) -> dict[str, LinearMap]:
    return {"K": correlated_kernel(layer, a), **_bias_of_channels(layer, a)}


@parameter_maps.register(TransposedConvolution)
def _(layer: TransposedConvolution, a: Array) -> dict[str, LinearMap]:
    return {"K": spread_kernel(layer, a), **_bias_of_channels(layer, a)}


def correlated_kernel(layer: Any, a: Array) -> LinearMap:
    """Return the derivative by vec(K) of the kernel at every position of the grid of ``a``."""
    # Z = K P with the patches P, a column for each position, so dvec Z = (Pᵀ ⊗ I) dvec K: the dense
    # layer's identity with more columns than one.  The value holds the rows of Z, which is vec Zᵀ.
    groups, windows = layer.groups, layer.windows
    rows, positions = len(layer.K) // groups, prod(windows.positions)
    values = a.reshape(*a.shape[:-1], groups, layer.K.shape[1], *windows.grid, 1)
    P = windows.patches(values).reshape(*a.shape[:-1], groups, layer.K[0].size, positions)
    by_group = Kronecker(_each(P, groups).T, Identity(rows, a.dtype))
    K = Product([Commutation(rows, positions, a.dtype), by_group])
    return _group_by_group(K, layer, a)


def spread_kernel(layer: Any, a: Array) -> LinearMap:
    """Return the derivative by vec(K) of what the entries of ``a`` spread over the grid."""
    # the patches Kᵀ A are added up at their places: dvec (Kᵀ A)ᵀ = (I ⊗ Aᵀ) dvec K
    groups, index, size = layer.groups, layer.windows.index, prod(layer.windows.grid)
    positions, channels = prod(layer.windows.positions), groups * layer.K.shape[1]
    A = a.reshape(*a.shape[:-1], groups, len(layer.K) // groups, positions)
    K = Kronecker(Identity(layer.K[0].size, a.dtype), _each(A, groups).T)
    channel = np.arange(channels)[:, None, None] * size
    columns = np.where(index >= 0, index + channel, -1).ravel()
    added = Selection(columns, channels * size, a.dtype).T
    return Product([added, _group_by_group(K, layer, a)])


def _each(A: Array, groups: int) -> Matrix:
    """Return the matrices (..., groups, m, n) of all groups as a stack; of one group as it is."""
    return Matrix(A[..., 0, :, :] if groups == 1 else A.reshape(-1, *A.shape[-2:]))


def _group_by_group(each: LinearMap, layer: Any, a: Array) -> LinearMap:
    """Return the map of vec(K) in which each group of rows of K has its own."""
    if layer.groups == 1:
        return each
    entries = np.arange(layer.K.size).reshape(layer.K[0].size, layer.groups, -1)
    order = np.moveaxis(entries, 1, 0).ravel()  # in vec(K) the rows of all groups alternate
    blocks = BlockDiagonal(each, layer.groups, bool(a.ndim > 1))
    return Product([blocks, Selection(order, layer.K.size, a.dtype)])


def _bias_of_channels(layer: Any, a: Array) -> dict[str, LinearMap]:
    """Return the map of the bias, if there is one, that all entries of its channel share."""
    if layer.b is None:
        return {}
    windows, channels = layer.windows, len(layer.b)
    entries = prod(windows.grid if layer.transposed else windows.positions)
    return {"b": Selection(np.repeat(np.arange(channels), entries), channels, a.dtype)}


def is_nearer(rule: Any, layer: Layer, map_rule: Any = layer_map) -> bool:
    """Tell whether ``rule`` stands at least as near to the layer's class as its map does.

    A subclass that registers a map of its own must be obeyed by every method, also by those that
    have a faster way for the class it comes from.
    """
    order = type(layer).__mro__
    ranks = [
        next((i for i, kind in enumerate(order) if kind in rules.registry), len(order))
        for rules in (rule, map_rule)
    ]
    return ranks[0] <= ranks[1] and order[ranks[0]] is not object
