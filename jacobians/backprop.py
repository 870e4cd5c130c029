"""Backpropagation: one reverse sweep, elementwise, no matrix formed.

    delta^L = sigma'(z^L) * c
    delta^l = sigma'(z^l) * (W^{l+1}ᵀ delta^{l+1})
    dC/dW^l = delta^l (a^{l-1})ᵀ        dC/db^l = delta^l        dC/dx = W^1ᵀ delta^1

with ``*`` entry by entry and ``c = dC/da^L``.  At a batch every line holds for all points at once.
A layer of your own may register its sweep with ``pull_back``; without one, the transpose of its
``layer_map`` is applied.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    as_floats,
    as_nonnegative,
    require_shape,
    underflow_is_rounding,
)
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.gradients import Gradients
from jacobians.layers import Dense, Elementwise, Layer, Scale
from jacobians.linearization import layer_map
from jacobians.losses import Loss, as_loss
from jacobians.network import Network
from jacobians.tracing import Trace, trace


@singledispatch
def pull_back(layer: Layer, a: Array, delta: Array) -> Array:
    """Return the cotangent at ``a^{l-1}`` for the cotangent ``delta`` at ``z^l``."""
    pulled: Array = layer_map(layer, a).T.apply(delta[..., None])[..., 0]
    return pulled


@pull_back.register(Dense)
def _(layer: Dense, a: Array, delta: Array) -> Array:
    cotangent: Array = delta @ layer.W
    return cotangent


@pull_back.register(Scale)
def _(layer: Scale, a: Array, delta: Array) -> Array:
    return delta * layer.scale


@pull_back.register(Elementwise)
def _(layer: Elementwise, a: Array, delta: Array) -> Array:
    return delta


@singledispatch
def pull_back_activation(activation: AnyActivation, z: Array, cotangent: Array) -> Array:
    """Return the cotangent at ``z`` for the cotangent at ``a = sigma(z)``."""
    raise NotImplementedError(f"backprop: activation {activation} has no rule.")


@pull_back_activation.register(Activation)
def _(activation: Activation, z: Array, cotangent: Array) -> Array:
    return cotangent * activation.derivative(z)


@pull_back_activation.register(VectorActivation)
def _(activation: VectorActivation, z: Array, cotangent: Array) -> Array:
    d, U, V = activation.parts(z)
    along_U = (U * cotangent[..., :, None]).sum(axis=-2)  # Uᵀ c
    delta: Array = d * cotangent + (V * along_U[..., None, :]).sum(axis=-1)
    return delta


@underflow_is_rounding
def deltas(trace: Trace, cotangent: Array) -> tuple[Array, ...]:
    """Return ``delta^1 .. delta^L`` for a cotangent at the output ``a^L``.

    Parameters
    ----------
    trace : Trace
    cotangent : array, shape (n_L,) or, at a batch, (B, n_L)

    Returns
    -------
    tuple of arrays, shapes (n_l,) or (B, n_l)
    """
    c = as_floats(cotangent, "backprop: cotangent", dtype=trace.network.dtype)
    require_shape(c, trace.output.shape, "backprop: cotangent", "That is the output's shape.")
    last = trace.network.layers[-1].activation
    return _sweep(trace, pull_back_activation(last, trace.preactivations[-1], c))


def _sweep(trace: Trace, delta: Array) -> tuple[Array, ...]:
    """Go down from ``delta^L`` to ``delta^1``."""
    layers, found = trace.network.layers, [delta]
    for l in range(trace.network.depth, 1, -1):
        c = pull_back(layers[l - 1], trace.activation(l - 1), found[-1])
        found.append(pull_back_activation(layers[l - 2].activation, trace.preactivation(l - 1), c))
    return tuple(found[::-1])


@underflow_is_rounding
def vjp(trace: Trace, cotangent: Array) -> Array:
    """Return ``Jᵀ c``, the derivative of ``<c, H(x)>`` with respect to x.

    Returns
    -------
    array, shape (n_0,) or (B, n_0)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> vjp(jb.trace(net, [1]), [1])
    array([14.])
    """
    first = deltas(trace, cotangent)[0]
    return pull_back(trace.network.layers[0], trace.activation(0), first)


@underflow_is_rounding
def jacobian(trace: Trace) -> Array:
    """Return ``dH/dx`` row by row: one sweep seeded with each row of the identity.

    Returns
    -------
    array, shape (n_L, n_0) or (B, n_L, n_0)
    """
    seeds = np.eye(trace.output.shape[-1], dtype=trace.output.dtype)
    rows = [vjp(trace, np.broadcast_to(seed, trace.output.shape)) for seed in seeds]
    return np.stack(rows, axis=-2)


@underflow_is_rounding
def gradients(net: Network, X: Any, Y: Any, loss: Loss, l2: float = 0.0) -> Gradients:
    """Return value and gradients of the objective, by one sweep over all points.

    Parameters
    ----------
    net : Network
    X : array, shape (n_0,) or (B, n_0)
    Y : array
        Targets, as the loss takes them.
    loss : Loss
    l2 : float
        The penalty is ``l2/2`` times the sum of all squared weights.

    Returns
    -------
    Gradients

    Raises
    ------
    ShapeError, DomainError, NotFiniteError
        If points or targets do not fit the network or the loss.
    ValueError
        If there are no points, or ``l2`` is negative.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[2.0]])])
    >>> g = gradients(net, [[1.0], [2.0]], [[0.0], [0.0]], jb.SquaredError())
    >>> g.loss, g.weights[0]
    (5.0, array([[5.]]))
    """
    seen = trace(net, X)
    Y = as_loss(loss).targets(Y, seen.output)
    l2 = as_nonnegative(l2, "backprop.gradients: l2")
    if seen.batch == (0,):
        raise ValueError("backprop.gradients: the mean over no points is undefined.")
    B = seen.batch[0] if seen.batch else 1
    values, delta = _loss_and_delta(seen, Y, loss)
    found = _sweep(seen, delta / B)
    weights: list[Array | None] = []
    biases: list[Array | None] = []
    objective = float(values.mean())
    for l, (layer, delta) in enumerate(zip(net.layers, found, strict=True), start=1):
        if isinstance(layer, Dense):
            each = delta.reshape(B, -1)
            outer = each.T @ seen.activation(l - 1).reshape(B, -1)
            weights.append(outer + l2 * layer.W)
            biases.append(each.sum(axis=0))
            objective += l2 / 2 * float(np.vdot(layer.W, layer.W))
        else:
            weights.append(None)
            biases.append(None)
    inputs = pull_back(net.layers[0], seen.activation(0), found[0])
    return Gradients(objective, tuple(weights), tuple(biases), found, inputs)


def _loss_and_delta(trace: Trace, Y: Array, loss: Loss) -> tuple[Array, Array]:
    """Return the loss of every point and ``delta^L``, fused where loss and activation allow it."""
    last, z = trace.network.layers[-1].activation, trace.preactivations[-1]
    fused = loss.fused(last)
    if fused is not None:
        return fused.value(z, Y), fused.cotangent(z, Y)
    c = loss.cotangent(trace.output, Y)
    return loss.value(trace.output, Y), pull_back_activation(last, z, c)
