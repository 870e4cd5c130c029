"""Convolutions and pools in the sweep of ``backprop``: windows, entry by entry.

With ``met(s)`` the positions and the places of the grid where entry s of the window meets it::

    dC/da[c, g] += sum over o of K[o, c, s] delta[o, p]        for (p, g) in met(s)
    dC/dK[o, c, s] = sum of delta[o, p] a[c, g]               over (p, g) in met(s)

Nothing here makes patches, as the structured map does.
"""

from __future__ import annotations

from math import prod

import numpy as np

from jacobians._checks import Array
from jacobians.layers import AveragePool, Convolution, MaxPool, TransposedConvolution


def pull_convolution(layer: Convolution, delta: Array, a: Array) -> Array:
    """Return the cotangent at what came in, one entry of the kernel after the other."""
    pulled, coarse = np.zeros_like(_on_grid(layer, a)), _at_positions(layer, delta)
    for Ks, (at, where) in zip(_by_entry(layer), layer.windows.offsets, strict=True):
        pulled[where] += _times(np.swapaxes(Ks, -2, -1), coarse[at])
    return pulled.reshape(a.shape)


def pull_transposed_convolution(layer: TransposedConvolution, delta: Array, a: Array) -> Array:
    """Return the cotangent at what came in: what an entry was spread over, gathered again."""
    pulled, fine = np.zeros_like(_at_positions(layer, a)), _on_grid(layer, delta)
    for Ks, (at, where) in zip(_by_entry(layer), layer.windows.offsets, strict=True):
        pulled[at] += _times(Ks, fine[where])
    return pulled.reshape(a.shape)


def pull_max_pool(layer: MaxPool, delta: Array, a: Array) -> Array:
    """Return every cotangent at the entry that is the largest of its window."""
    images, pulled = layer.images(a), np.zeros_like(layer.images(a))
    shape = (*a.shape[:-1], layer.shape[0], *layer.windows.positions)
    largest, waiting = layer.preactivation(a).reshape(shape), delta.reshape(shape).copy()
    for at, where in layer.windows.offsets:
        taken = np.where(images[where] == largest[at], waiting[at], 0)
        pulled[where] += taken
        waiting[at] -= taken  # only the first of several gets it
    return pulled.reshape(a.shape)


def pull_average_pool(layer: AveragePool, delta: Array, a: Array) -> Array:
    """Return every cotangent in equal shares at the entries of its window."""
    pulled = np.zeros_like(layer.images(a))
    shape = (*a.shape[:-1], layer.shape[0], *layer.windows.positions)
    shares = (delta * layer.weights(a.dtype)).reshape(shape)
    for at, where in layer.windows.offsets:
        pulled[where] += shares[at]
    return pulled.reshape(a.shape)


def kernel_gradients(
    layer: Convolution | TransposedConvolution, delta: Array, a: Array
) -> dict[str, Array]:
    """Return the derivatives with respect to kernel and bias, summed over all points."""
    # dC/dK[i, j, s] = sum over points and positions of coarse[i] fine[j] where they meet
    fine, coarse = (delta, a) if layer.transposed else (a, delta)
    fine, coarse = _on_grid(layer, fine), _at_positions(layer, coarse)
    dK = [
        np.einsum("bgip,bgjp->gij", _flat(coarse[at]), _flat(fine[where]), optimize=True)
        for at, where in layer.windows.offsets
    ]
    gradients = {"K": np.stack(dK, axis=-1).reshape(layer.K.shape)}
    if layer.b is not None:
        by_channel = delta.reshape(-1, len(layer.b), delta.shape[-1] // len(layer.b))
        gradients["b"] = by_channel.sum(axis=(0, 2))
    return gradients


def _on_grid(layer: Convolution | TransposedConvolution, value: Array) -> Array:
    """Give a flat value on the finer grid its axes, (points, groups, channels, *grid)."""
    return value.reshape(-1, layer.groups, layer.K.shape[1], *layer.windows.grid)


def _at_positions(layer: Convolution | TransposedConvolution, value: Array) -> Array:
    """Give a flat value at the positions its axes, (points, groups, channels, *positions)."""
    rows = len(layer.K) // layer.groups
    return value.reshape(-1, layer.groups, rows, *layer.windows.positions)


def _by_entry(layer: Convolution | TransposedConvolution) -> Array:
    """Return the kernel entry by entry, (entries, groups, rows, channels)."""
    K = layer.K.reshape(layer.groups, len(layer.K) // layer.groups, layer.K.shape[1], -1)
    return np.moveaxis(K, -1, 0)


def _times(K: Array, value: Array) -> Array:
    """Multiply the channels of a value (points, groups, channels, ...) by a matrix per group."""
    product: Array = K @ _flat(value)
    return product.reshape(*product.shape[:-1], *value.shape[3:])


def _flat(value: Array) -> Array:
    return value.reshape(*value.shape[:3], prod(value.shape[3:]))
