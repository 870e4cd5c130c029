"""The formulas of the notes, literally: ``np.diag``, ``np.kron``, matrix products.

This room is for seeing.  It reads a trace and writes each derivative as the explicit matrix that
the notes write, with no structure exploited and no step skipped; a matrix that would not fit is
refused before it is allocated, with the structured map to use instead.  It shares no product with
``linearization`` or ``backprop``, so that their agreement is evidence.

All functions take the trace of one point; ``gradients`` adds up the points of a data set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    ShapeError,
    as_layer,
    as_nonnegative,
    refuse_if_too_large,
    underflow_is_rounding,
)
from jacobians.activations import Activation, VectorActivation
from jacobians.gradients import Gradients
from jacobians.layers import Dense, Elementwise, Scale
from jacobians.linearization import activation_map, layer_map
from jacobians.losses import Loss, as_loss
from jacobians.network import Network, as_network
from jacobians.tracing import Trace, trace
from jacobians.vectorization import unvec


@underflow_is_rounding
def activation_jacobian(trace: Trace, l: int) -> Array:
    """Return ``D^l = da^l/dz^l``, written out.

    ``diag(sigma'(z))``; for softmax ``diag(p) - p pᵀ``, arranged so that ``p (1 - p)`` keeps its
    digits (see ``jacobians.activations``).

    Parameters
    ----------
    trace : Trace
        Of one point.
    l : int
        Layer number, 1 to L.

    Returns
    -------
    array, shape (n_l, n_l)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 0], [0, 1]], activation="square")])
    >>> activation_jacobian(jb.trace(net, [1, 2]), 1)
    array([[2., 0.],
           [0., 4.]])
    """
    layer = _layer(trace, l, "activation_jacobian")
    z = trace.preactivation(l)
    _refuse((len(z), len(z)), z, f"D^{l}", "linearize(net, x).factors")
    if isinstance(layer.activation, Activation):
        return np.diag(layer.activation.derivative(z))
    if isinstance(layer.activation, VectorActivation):
        d, U, V = layer.activation.parts(z)
        D: Array = np.diag(d) + U @ V.T
        return D
    return activation_map(layer.activation, z).to_dense()


def layer_jacobian(trace: Trace, l: int) -> Array:
    """Return ``dz^l/da^{l-1}``, written out: ``W^l`` for a dense layer.

    Returns
    -------
    array, shape (n_l, n_{l-1})
    """
    layer = _layer(trace, l, "layer_jacobian")
    a = trace.activation(l - 1)
    if isinstance(layer, Dense):
        return layer.W.copy()
    _refuse((trace.network.widths[l], len(a)), a, f"dz^{l}/da^{l - 1}", "linearize(net, x).factors")
    if isinstance(layer, Scale):
        return np.diag(layer.scale)
    if isinstance(layer, Elementwise):
        return np.eye(len(a), dtype=a.dtype)
    return layer_map(layer, a).to_dense()


@underflow_is_rounding
def input_jacobian(trace: Trace, of: int | None = None, wrt: int = 0) -> Array:
    """Return ``da^of/da^wrt = D^of W^of ... D^{wrt+1} W^{wrt+1}``, by default ``dH/dx``.

    Layer by layer from the input outwards, as the notes derive it; the empty product is the
    identity.

    Returns
    -------
    array, shape (n_of, n_wrt)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> input_jacobian(jb.trace(net, [1]))  # d(3 x² + (2x)²)/dx at 1
    array([[14.]])
    """
    of = trace.network.depth if of is None else _number(trace, of, "input_jacobian: of", 0)
    wrt = as_layer(wrt, "input_jacobian: wrt", 0, of)
    _require_room(trace.network, of, wrt)
    J = np.eye(trace.network.widths[wrt], dtype=trace.network.dtype)
    for l in range(wrt + 1, of + 1):
        J = activation_jacobian(trace, l) @ (layer_jacobian(trace, l) @ J)
    return J


@underflow_is_rounding
def bias_jacobian(trace: Trace, l: int) -> Array:
    """Return ``dH/db^l = dH/dz^l = D^L W^L ... W^{l+1} D^l``.

    Returns
    -------
    array, shape (n_L, n_l)
    """
    _layer(trace, l, "bias_jacobian")
    _require_room(trace.network, trace.network.depth, l - 1)
    J: Array = input_jacobian(trace, wrt=l) @ activation_jacobian(trace, l)
    return J


def preactivation_weight_jacobian(trace: Trace, l: int) -> Array:
    """Return ``dz^l/dvec(W^l) = aᵀ ⊗ I`` with ``a = a^{l-1}``, all its zeros included.

    Returns
    -------
    array, shape (n_l, n_l * n_{l-1})

    Raises
    ------
    TooLargeError
        For a layer of any size worth training; ``linearize(net, x).weight_jacobian(l)`` is the
        same matrix as a map.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2], [3, 4]])])
    >>> preactivation_weight_jacobian(jb.trace(net, [5, 6]), 1)
    array([[5., 0., 6., 0.],
           [0., 5., 0., 6.]])
    """
    layer = _dense_layer(trace, l, "preactivation_weight_jacobian")
    _require_room_for_weights(trace.network, l)
    a = trace.activation(l - 1)
    return np.kron(a[None, :], np.eye(len(layer.W), dtype=a.dtype))


@underflow_is_rounding
def weight_jacobian(trace: Trace, l: int) -> Array:
    """Return ``dH/dvec(W^l) = dH/dz^l (aᵀ ⊗ I)``.

    Returns
    -------
    array, shape (n_L, n_l * n_{l-1})
    """
    _dense_layer(trace, l, "weight_jacobian")
    _require_room_for_weights(trace.network, l)
    J: Array = bias_jacobian(trace, l) @ preactivation_weight_jacobian(trace, l)
    return J


@underflow_is_rounding
def parameter_jacobian(trace: Trace) -> Array:
    """Return the derivative with respect to ``(vec W^1, b^1, ..., vec W^L, b^L)``.

    Returns
    -------
    array, shape (n_L, number of parameters)
    """
    net = trace.network
    if not net.parameter_count:
        raise TypeError(f"parameter_jacobian: {net} has no parameters.")
    _number(trace, 1, "parameter_jacobian: l")
    _require_room_for_weights(net, *_dense_numbers(net))
    shape = (net.widths[-1], net.parameter_count)
    _refuse(shape, trace.output, "dH/dtheta", "linearize(net, x).parameter_jacobian()")
    views = (weight_jacobian, bias_jacobian)
    return np.hstack([view(trace, l) for l in _dense_numbers(net) for view in views])


@underflow_is_rounding
def gradients(net: Network, X: Any, Y: Any, loss: Loss, l2: float = 0.0) -> Gradients:
    """Return value and gradients of the objective, by matrices and vec, point by point.

    The cotangent is a row that is multiplied by one matrix after another; the gradient of a weight
    is the row ``dC/dvec(W^l) = dC/dz^l (aᵀ ⊗ I)``, cut into columns again.

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
        The same object as ``backprop.gradients`` returns.
    """
    net = as_network(net, "explicit.gradients")
    _require_room(net, net.depth, 0)
    _require_room_for_weights(net, *_dense_numbers(net))
    seen = trace(net, X)
    Y = as_loss(loss).targets(Y, seen.output)
    l2 = as_nonnegative(l2, "explicit.gradients: l2")
    if seen.batch == (0,):
        raise ValueError("explicit.gradients: the mean over no points is undefined.")
    if not seen.batch:
        return _with_penalty(_at_point(seen, Y, loss), net, l2)
    each = [_at_point(seen.point(i), y, loss) for i, y in enumerate(Y)]
    return _with_penalty(_mean(each), net, l2)


def _at_point(trace: Trace, y: Array, loss: Loss) -> Gradients:
    """Compute the gradients of one point's loss."""
    net, z, a = trace.network, trace.preactivations[-1], trace.output
    fused = loss.fused(net.layers[-1].activation)
    if fused is None:
        value = loss.value(a, y)
        row: Array = loss.cotangent(a, y) @ activation_jacobian(trace, net.depth)
    else:
        value, row = fused.value(z, y), fused.cotangent(z, y)
    weights: list[Array | None] = []
    biases: list[Array | None] = []
    deltas = []
    for l in range(net.depth, 0, -1):
        layer = net.layers[l - 1]
        deltas.append(row)
        if isinstance(layer, Dense):
            weights.append(unvec(row @ preactivation_weight_jacobian(trace, l), layer.W.shape))
            biases.append(row.copy())
        else:
            weights.append(None)
            biases.append(None)
        row = row @ layer_jacobian(trace, l)
        if l > 1:
            row = row @ activation_jacobian(trace, l - 1)
    return Gradients(
        float(value), tuple(weights[::-1]), tuple(biases[::-1]), tuple(deltas[::-1]), row
    )


def _mean(each: list[Gradients]) -> Gradients:
    """Average the gradients of the points; what belongs to a point keeps its own row."""
    B = len(each)

    def average(parts: list[Any]) -> Any:
        return None if parts[0] is None else sum(parts) / B

    by_layer = range(len(each[0].deltas))
    return Gradients(
        average([g.loss for g in each]),
        tuple(average([g.weights[l] for g in each]) for l in by_layer),
        tuple(average([g.biases[l] for g in each]) for l in by_layer),
        tuple(np.stack([g.deltas[l] for g in each]) / B for l in by_layer),
        np.stack([g.inputs for g in each]) / B,
    )


def _with_penalty(g: Gradients, net: Network, l2: float) -> Gradients:
    penalty = 0.0
    weights = list(g.weights)
    for l, layer in enumerate(net.layers):
        if isinstance(layer, Dense):
            penalty += float(np.trace(layer.W.T @ layer.W))
            weights[l] = np.add(g.weights[l], l2 * layer.W)  # type: ignore[arg-type]
    return Gradients(g.loss + l2 / 2 * penalty, tuple(weights), g.biases, g.deltas, g.inputs)


def _number(trace: Trace, l: int, where: str, low: int = 1) -> int:
    if trace.batch:
        raise ShapeError(
            f"{where.split(':')[0]}: the explicit view shows one point, but the trace holds "
            f"{trace.batch[0]}. Use trace.point(i)."
        )
    return as_layer(l, where, low, trace.network.depth)


def _layer(trace: Trace, l: int, where: str) -> Any:
    return trace.network.layers[_number(trace, l, f"{where}: l") - 1]


def _dense_layer(trace: Trace, l: int, where: str) -> Dense:
    layer = _layer(trace, l, where)
    if not isinstance(layer, Dense):
        raise TypeError(f"{where}: layer {l} ({layer}) has no weight matrix.")
    return layer


def _dense_numbers(net: Network) -> list[int]:
    return [l for l, layer in enumerate(net.layers, start=1) if isinstance(layer, Dense)]


# --- what does not fit is refused before anything is written --------------------------------------


def _require_room(net: Network, of: int, wrt: int) -> None:
    """Refuse the matrices of ``da^of/da^wrt`` that do not fit, its partial products included."""
    for l in range(wrt + 1, of + 1):
        n_l = net.widths[l]
        _refuse((n_l, n_l), net, f"D^{l}", "linearize(net, x).factors")
        _refuse((n_l, net.widths[wrt]), net, f"da^{l}/da^{wrt}", "linearize(net, x).chain")


def _require_room_for_weights(net: Network, *numbers: int) -> None:
    """Refuse ``aᵀ ⊗ I`` and ``dH/dvec(W^l)`` if they do not fit."""
    for l in numbers:
        way_out = f"linearize(net, x).weight_jacobian({l})"
        columns = net.widths[l] * net.widths[l - 1]
        _refuse((net.widths[l], columns), net, f"dz^{l}/dvec(W^{l})", way_out)
        _refuse((net.widths[-1], columns), net, f"dH/dvec(W^{l})", way_out)


def _refuse(shape: tuple[int, ...], like: Any, what: str, way_out: str) -> None:
    refuse_if_too_large(shape, like.dtype, f"explicit: {what}", f"Use {way_out}")
