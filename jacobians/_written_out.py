"""Every layer's derivative written out as an array, by its formula: loops and ``np.kron``.

For ``explicit``.  Nothing here reads a structured map, but for layers that have nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._windows import Windows
from jacobians.activations import Activation, AnyActivation, VectorActivation
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
from jacobians.linearization.rules import (
    activation_map,
    is_nearer,
    layer_map,
    parameter_maps,
)


def is_independent(layer: Layer) -> bool:
    """Tell whether a layer's derivative is written out by a formula of its own, not by its map."""
    return is_nearer(written, layer)


def has_own_parameters(layer: Layer) -> bool:
    """Tell whether a user's class has parameters: the formulas here may be of the one above it."""
    return bool(layer.parameters()) and type(layer) not in parameters_of.registry


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
    entries = np.moveaxis(np.arange(len(z)).reshape(activation.shape), activation.axis, -1)
    for line in entries.reshape(-1, entries.shape[-1]):
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
        if layer.centred:
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


@written.register(Convolution)
def _(layer: Convolution, a: Array) -> Array:
    # z[o, p] = sum over c, s of K[o, c, s] a[c, g], where window p sees entry g of the grid at s
    K = layer.K.reshape(*layer.K.shape[:2], -1)
    grid, positions = prod(layer.windows.grid), prod(layer.windows.positions)
    J = np.zeros((len(K) * positions, len(a)), a.dtype)
    for p, s, g in _meetings(layer.windows):
        for o in range(len(K)):
            for c in range(K.shape[1]):
                J[o * positions + p, _channel(layer, o, c) * grid + g] = K[o, c, s]
    return J


@written.register(TransposedConvolution)
def _(layer: TransposedConvolution, a: Array) -> Array:
    # z[o, g] = sum over i, s of K[i, o, s] a[i, p]
    K = layer.K.reshape(*layer.K.shape[:2], -1)
    grid, positions = prod(layer.windows.grid), prod(layer.windows.positions)
    J = np.zeros((layer.channels[1] * grid, len(a)), a.dtype)
    for p, s, g in _meetings(layer.windows):
        for i in range(len(K)):
            for o in range(K.shape[1]):
                J[_channel(layer, i, o) * grid + g, i * positions + p] = K[i, o, s]
    return J


@written.register(MaxPool)
def _(layer: MaxPool, a: Array) -> Array:
    J = np.zeros((layer.shape[0] * prod(layer.windows.positions), len(a)), a.dtype)
    for row, window in _pooled(layer):
        J[row, max(window, key=lambda entry: a[entry])] = 1
    return J


@written.register(AveragePool)
def _(layer: AveragePool, a: Array) -> Array:
    J = np.zeros((layer.shape[0] * prod(layer.windows.positions), len(a)), a.dtype)
    for row, window in _pooled(layer):
        J[row, window] = layer.weights(a.dtype)[row]
    return J


def _pooled(layer: MaxPool | AveragePool) -> Iterator[tuple[int, list[int]]]:
    """Yield every row of the result with the entries of the value that its window meets."""
    grid, positions = prod(layer.windows.grid), prod(layer.windows.positions)
    seen: dict[int, list[int]] = {}
    for p, _, g in _meetings(layer.windows):
        seen.setdefault(p, []).append(g)
    for c in range(layer.shape[0]):
        for p, window in seen.items():
            yield c * positions + p, [c * grid + g for g in window]


def _meetings(windows: Windows) -> Iterator[tuple[int, int, int]]:
    """Yield (position, entry of the window, entry of the grid) wherever they meet, in C order."""
    axes = list(zip(windows.stride, windows.padding, windows.dilation, strict=True))
    for p, position in enumerate(np.ndindex(*windows.positions)):
        for s, entry in enumerate(np.ndindex(*windows.size)):
            met = [
                i * step - before + e * apart
                for i, e, (step, (before, _), apart) in zip(position, entry, axes, strict=True)
            ]
            if all(0 <= g < n for g, n in zip(met, windows.grid, strict=True)):
                yield p, s, int(np.ravel_multi_index(met, windows.grid))


def _channel(layer: Convolution | TransposedConvolution, row: int, c: int) -> int:
    """Return which of all channels the c-th of a row of the kernel is: those of the row's group."""
    rows = len(layer.K) // layer.groups
    return int(row // rows * layer.K.shape[1] + c)


# --- parameters -----------------------------------------------------------------------------------


@singledispatch
def parameters_of(layer: Layer, *values: Array) -> dict[str, Array]:
    """Return ``dz/dvec(theta)`` by name."""
    return {name: A.to_dense() for name, A in parameter_maps(layer, *values).items()}


@parameters_of.register(Dense)
def _(layer: Dense, a: Array) -> dict[str, Array]:
    I = np.eye(len(layer.W), dtype=a.dtype)
    rows = a.reshape(layer.rows, -1)
    matrices = {"W": np.kron(rows, I), "b": np.kron(np.ones((layer.rows, 1), a.dtype), I)}
    return {name: matrices[name] for name in layer.parameters()}


@parameters_of.register(LayerNorm)
@parameters_of.register(RMSNorm)
def _(layer: LayerNorm | RMSNorm, a: Array) -> dict[str, Array]:
    normal, _ = layer.normalised(a)
    above = {"scale": np.vstack([np.diag(x) for x in normal])}
    if "shift" in layer.parameters():
        above["shift"] = np.vstack([np.eye(normal.shape[-1], dtype=a.dtype) for _ in normal])
    return above


@parameters_of.register(Convolution)
@parameters_of.register(TransposedConvolution)
def _(layer: Convolution | TransposedConvolution, a: Array) -> dict[str, Array]:
    (rows, c), size = layer.K.shape[:2], prod(layer.windows.size)
    grid, positions = prod(layer.windows.grid), prod(layer.windows.positions)
    forward = not layer.transposed
    each = positions if forward else grid
    channels = layer.channels[1]
    J = np.zeros((channels * each, layer.K.size), a.dtype)
    for p, s, g in _meetings(layer.windows):
        for i in range(rows):
            for j in range(c):
                coarse, fine = i * positions + p, _channel(layer, i, j) * grid + g
                z, source = (coarse, fine) if forward else (fine, coarse)
                J[z, (j * size + s) * rows + i] = a[source]  # vec stacks the columns of K
    matrices = {"K": J, "b": np.kron(np.eye(channels), np.ones((each, 1))).astype(a.dtype)}
    return {name: matrices[name] for name in layer.parameters()}
