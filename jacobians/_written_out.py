"""Every layer's derivative written out as an array, by its formula: loops and ``np.kron``.

For ``explicit``.  Nothing here reads a structured map, but for layers that have nothing else.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.along import Along
from jacobians.layers import (
    Add,
    Concatenate,
    Dense,
    Elementwise,
    Layer,
    LayerNorm,
    MatrixProduct,
    Multiply,
    Rearrangement,
    RMSNorm,
    Scale,
)
from jacobians.linearization.rules import (
    activation_map,
    is_nearer,
    layer_map,
    parameter_maps,
)


def is_independent(layer: Layer) -> bool:
    """Tell whether a layer's derivative is written out by a formula of its own, not by its map."""
    return is_nearer(written, layer)


def written_layer(layer: Layer, *values: Array) -> tuple[Array, ...]:
    """Return ``dz/da`` for every value that comes in, (n_out, n_in) each."""
    rule = written if is_independent(layer) else written.registry[object]
    matrices = rule(layer, *values)
    return matrices if isinstance(matrices, tuple) else (matrices,)


def written_parameters(layer: Layer, *values: Array) -> dict[str, Array]:
    """Return ``dz/dvec(theta)`` for every parameter, by name."""
    own = is_nearer(parameters_of, layer, parameter_maps)
    return (parameters_of if own else parameters_of.registry[object])(layer, *values)


@singledispatch
def written_activation(activation: AnyActivation, z: Array) -> Array:
    """Return ``D = da/dz``, (n, n)."""
    return activation_map(activation, z).to_dense()


@written_activation.register(Activation)
def _(activation: Activation, z: Array) -> Array:
    return np.diag(activation.derivative(z))


@written_activation.register(VectorActivation)
def _(activation: VectorActivation, z: Array) -> Array:
    d, U, V = activation.parts(z)
    D: Array = np.diag(d) + U @ V.T
    return D


@written_activation.register(Along)
def _(activation: Along, z: Array) -> Array:
    # a line of entries along the axis has the Jacobian of its own, and there are no others
    D = np.zeros((len(z), len(z)), z.dtype)
    places = np.moveaxis(np.arange(len(z)).reshape(activation.shape), activation.axis, -1)
    for line in places.reshape(-1, places.shape[-1]):
        D[np.ix_(line, line)] = written_activation(activation.activation, z[line])
    return D


# --- layers ---------------------------------------------------------------------------------------


@singledispatch
def written(layer: Layer, *values: Array) -> Any:
    """Return ``dz/da``; a tuple for several values."""
    maps = layer_map(layer, *values)
    return tuple(A.to_dense() for A in (maps if isinstance(maps, tuple) else (maps,)))


@written.register(Dense)
def _(layer: Dense, a: Array) -> Array:
    return (
        layer.W.copy() if layer.rows == 1 else np.kron(np.eye(layer.rows), layer.W).astype(a.dtype)
    )


@written.register(Scale)
def _(layer: Scale, a: Array) -> Array:
    return np.diag(layer.scale)


@written.register(Elementwise)
def _(layer: Elementwise, a: Array) -> Array:
    return np.eye(len(a), dtype=a.dtype)


@written.register(Rearrangement)
def _(layer: Rearrangement, a: Array) -> Array:
    S = np.zeros((layer.index.size, len(a)), a.dtype)
    for i, j in enumerate(layer.index):
        if j >= 0:
            S[i, j] = 1
    return S


@written.register(LayerNorm)
@written.register(RMSNorm)
def _(layer: LayerNorm | RMSNorm, a: Array) -> Array:
    normal, size = layer.normalised(a)
    d = normal.shape[-1]
    J = np.zeros((len(a), len(a)), a.dtype)
    for t, (x, s) in enumerate(zip(normal, size[:, 0], strict=True)):
        inner = np.eye(d, dtype=a.dtype) - np.outer(x, x / d)
        if isinstance(layer, LayerNorm):
            inner = inner - np.full((d, d), 1 / d, a.dtype)
        row = slice(t * d, (t + 1) * d)
        J[row, row] = np.diag(layer.scale) @ (inner / s if s > 0 else 0 * inner)
    return J


@written.register(Add)
def _(layer: Add, *values: Array) -> tuple[Array, ...]:
    return tuple(np.eye(len(a), dtype=a.dtype) for a in values)


@written.register(Multiply)
def _(layer: Multiply, *values: Array) -> tuple[Array, ...]:
    matrices = []
    for i, a in enumerate(values):
        D = np.eye(len(a), dtype=a.dtype)
        for j, other in enumerate(values):
            if i != j:
                D = np.diag(other) @ D
        matrices.append(D)
    return tuple(matrices)


@written.register(Concatenate)
def _(layer: Concatenate, *values: Array) -> tuple[Array, ...]:
    # entry i of the result is entry order[i] of all inputs written one after the other
    whole = np.eye(sum(len(a) for a in values), dtype=values[0].dtype)[layer.order]
    return tuple(np.split(whole, np.cumsum([len(a) for a in values])[:-1], axis=1))


@written.register(MatrixProduct)
def _(layer: MatrixProduct, a: Array, b: Array) -> tuple[Array, ...]:
    # dZ_ij = sum over k of dA_ik B_kj + A_ik dB_kj, index by index
    A, B = layer.matrices(a, b)
    heads, p, q = A.shape
    r = B.shape[-1]
    first, second = (
        np.zeros((heads * p * r, len(a)), a.dtype),
        np.zeros((heads * p * r, len(b)), a.dtype),
    )
    for h in range(heads):
        for i in range(p):
            for j in range(r):
                z = (h * p + i) * r + j
                for k in range(q):
                    place = (h * r + j) * q + k if layer.transpose_second else (h * q + k) * r + j
                    first[z, (h * p + i) * q + k] = B[h, k, j]
                    second[z, place] = A[h, i, k]
    return first, second


# --- parameters -----------------------------------------------------------------------------------


@singledispatch
def parameters_of(layer: Layer, *values: Array) -> dict[str, Array]:
    """Return ``dz/dvec(theta)`` by name."""
    return {name: A.to_dense() for name, A in parameter_maps(layer, *values).items()}


@parameters_of.register(Dense)
def _(layer: Dense, a: Array) -> dict[str, Array]:
    I = np.eye(len(layer.W), dtype=a.dtype)
    rows = a.reshape(layer.rows, -1)
    return {"W": np.kron(rows, I), "b": np.kron(np.ones((layer.rows, 1), a.dtype), I)}


@parameters_of.register(LayerNorm)
@parameters_of.register(RMSNorm)
def _(layer: LayerNorm | RMSNorm, a: Array) -> dict[str, Array]:
    normal, _ = layer.normalised(a)
    above = {"scale": np.vstack([np.diag(x) for x in normal])}
    if isinstance(layer, LayerNorm):
        above["shift"] = np.vstack([np.eye(normal.shape[-1], dtype=a.dtype) for _ in normal])
    return above
