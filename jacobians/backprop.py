"""Backpropagation: one reverse sweep, elementwise, no matrix formed.

    delta^L = sigma'(z^L) * c
    delta^l = sigma'(z^l) * (W^{l+1}ᵀ delta^{l+1})
    dC/dW^l = delta^l (a^{l-1})ᵀ        dC/db^l = delta^l        dC/dx = W^1ᵀ delta^1

with ``*`` entry by entry and ``c = dC/da^L``.  At a batch every line holds for all points at once.
A value that several nodes read collects the sum of their cotangents.  A layer of your own may
register its sweep with ``pull_back``; without one, the transpose of its ``layer_map`` is applied.
"""

from __future__ import annotations

from functools import partial, singledispatch
from typing import Any

import numpy as np

from jacobians import _windowed_sweeps as windowed
from jacobians._checks import (
    Array,
    as_floats,
    as_nonnegative,
    require_shape,
    underflow_is_rounding,
)
from jacobians._kernels.gradients import means_over_points
from jacobians._tables import PointsLike, as_inputs, outputs_in_order, targets_in_order
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.along import Along
from jacobians.gradients import WEIGHTS, Gradients
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
from jacobians.linearization.rules import is_nearer, layer_map, parameter_maps
from jacobians.losses import Loss, as_loss
from jacobians.network import Network, as_network
from jacobians.tracing import Trace, trace
from jacobians.vectorization import unvec

PIECE_BYTES = 2**20  # of the values of the points at a time

# --- one layer ------------------------------------------------------------------------------------


@singledispatch
def pull_back(layer: Layer, delta: Array, *values: Array) -> Any:
    """Return the cotangent at the value that came in, for the cotangent ``delta`` at ``z^l``.

    One array for a layer with one input, a tuple for several.
    """
    maps = layer_map(layer, *values)
    each = maps if isinstance(maps, tuple) else (maps,)
    return tuple(A.T.apply(delta[..., None])[..., 0] for A in each)


@pull_back.register(Dense)
def _(layer: Dense, delta: Array, a: Array) -> Array:
    return (_rows(delta, layer.rows) @ layer.W).reshape(a.shape)


pull_back.register(Scale, lambda layer, delta, a: delta * layer.scale)
pull_back.register(Elementwise, lambda layer, delta, a: delta)
pull_back.register(Add, lambda layer, delta, *values: (delta,) * len(values))


@pull_back.register(Multiply)
def _(layer: Multiply, delta: Array, *values: Array) -> tuple[Array, ...]:
    others = (values[:i] + values[i + 1 :] for i in range(len(values)))
    return tuple(delta * layer.preactivation(*rest) for rest in others)


@pull_back.register(Concatenate)
def _(layer: Concatenate, delta: Array, *values: Array) -> tuple[Array, ...]:
    in_order = np.empty_like(delta)
    in_order[..., layer.order] = delta
    ends = np.cumsum([a.shape[-1] for a in values])
    return tuple(np.split(in_order, ends[:-1], axis=-1))


@pull_back.register(MatrixProduct)
def _(layer: MatrixProduct, delta: Array, a: Array, b: Array) -> tuple[Array, ...]:
    # dA = dZ Bᵀ and dB = Aᵀ dZ
    A, B = layer.matrices(a, b)
    dZ = delta.reshape(*A.shape[:-1], B.shape[-1])
    dA, dB = dZ @ np.swapaxes(B, -2, -1), np.swapaxes(A, -2, -1) @ dZ
    if layer.transpose_second:
        dB = np.swapaxes(dB, -2, -1)
    return dA.reshape(a.shape), dB.reshape(b.shape)


@pull_back.register(LayerNorm)
@pull_back.register(RMSNorm)
def _(layer: LayerNorm | RMSNorm, delta: Array, a: Array) -> Array:
    # (g - mean(g) - x̂ mean(x̂ g)) / s with g = scale * delta; RMSNorm has no mean(g)
    normal, size = layer.normalised(a)
    g = layer.scale * _rows(delta, normal.shape[-2], keep=True)
    along = normal * (normal * g).mean(axis=-1, keepdims=True)
    centre = g.mean(axis=-1, keepdims=True) if layer.centred else 0
    pulled: Array = np.divide(g - centre - along, size, out=np.zeros_like(g), where=size > 0)
    return pulled.reshape(a.shape)


@pull_back.register(Rearrangement)
def _(layer: Rearrangement, delta: Array, a: Array) -> Array:
    pulled = np.zeros(a.shape, delta.dtype)
    kept = layer.index >= 0
    np.add.at(pulled.T, layer.index[kept], delta.T[kept])
    return pulled


pull_back.register(Convolution, windowed.pull_convolution)
pull_back.register(TransposedConvolution, windowed.pull_transposed_convolution)
pull_back.register(MaxPool, windowed.pull_max_pool)
pull_back.register(AveragePool, windowed.pull_average_pool)


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


@pull_back_activation.register(Along)
def _(activation: Along, z: Array, cotangent: Array) -> Array:
    z, c = activation.rows(z), activation.rows(cotangent)
    rows = pull_back_activation(activation.activation, z, c)
    delta = np.empty_like(cotangent)
    delta[..., activation.index] = rows.reshape(cotangent.shape)
    return delta


@singledispatch
def parameter_gradients(layer: Layer, delta: Array, *values: Array) -> dict[str, Array]:
    """Return the derivatives with respect to a layer's parameters, summed over all points."""
    maps, gradients = parameter_maps(layer, *values), {}
    for name, p in layer.parameters().items():
        each = maps[name].T.apply(delta[..., None])[..., 0].reshape(-1, p.size)
        gradients[name] = unvec(each.sum(axis=0), (len(p), p.size // len(p))).reshape(p.shape)
    return gradients


@parameter_gradients.register(Dense)
def _(layer: Dense, delta: Array, a: Array) -> dict[str, Array]:
    m, n = layer.W.shape
    each = delta.reshape(-1, m)
    gradients: dict[str, Array] = {"W": each.T @ a.reshape(-1, n)}
    if layer.b is not None:
        gradients["b"] = each.sum(axis=0)
    return gradients


parameter_gradients.register(Convolution, windowed.kernel_gradients)
parameter_gradients.register(TransposedConvolution, windowed.kernel_gradients)


def _rows(value: Array, rows: int, keep: bool = False) -> Array:
    """Give a flat value its rows, (..., rows, d); a single one only where asked for."""
    if rows == 1 and not keep:
        return value
    return value.reshape(*value.shape[:-1], rows, value.shape[-1] // rows)


def _pull(layer: Layer, delta: Array, values: tuple[Array, ...]) -> tuple[Array, ...]:
    """Pull back by the layer's own sweep, or by its map where that is the nearer rule."""
    own = pull_back if is_nearer(pull_back, layer) else pull_back.registry[object]
    pulled = own(layer, delta, *values)
    return pulled if isinstance(pulled, tuple) else (pulled,)


# --- the sweep ------------------------------------------------------------------------------------


def _sweep(
    trace: Trace, cotangent: Array | None, delta: Array | None = None
) -> tuple[tuple[Array, ...], Array]:
    """Go from the output to the input; return ``delta^1 .. delta^L`` and the cotangent at x.

    The last delta is given where loss and activation are fused.
    """
    net = trace.network
    collected: list[Any] = [None] * net.depth + [cotangent]
    deltas: list[Any] = [None] * net.depth
    for l in range(net.depth, 0, -1):
        layer = net.layers[l - 1]
        if delta is None or l < net.depth:
            c, z = collected[l], trace.preactivations[l - 1]
            if c is None:  # an input that nothing reads
                c = np.zeros_like(z)
            delta = pull_back_activation(layer.activation, z, c)
        deltas[l - 1], collected[l] = delta, None
        pulled = _pull(layer, delta, trace.entering(l))
        for source, c in zip(net.sources[l - 1], pulled, strict=True):
            collected[source] = c if collected[source] is None else collected[source] + c
    return tuple(deltas), collected[0]


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
    return _sweep(trace, _as_cotangent(trace, cotangent))[0]


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
    return _sweep(trace, _as_cotangent(trace, cotangent))[1]


def _as_cotangent(trace: Trace, cotangent: Array) -> Array:
    given = outputs_in_order(cotangent, trace.network, "backprop: cotangent")
    c = as_floats(given, "backprop: cotangent", dtype=trace.network.dtype)
    require_shape(c, trace.output.shape, "backprop: cotangent", "That is the output's shape.")
    return c


@underflow_is_rounding
def jacobian(trace: Trace) -> Array:
    """Return ``dH/dx`` row by row: one sweep seeded with each row of the identity.

    Returns
    -------
    array, shape (n_L, n_0) or (B, n_L, n_0)
    """
    seeds = np.eye(trace.output.shape[-1])
    rows = [vjp(trace, np.broadcast_to(seed, trace.output.shape)) for seed in seeds]
    return np.stack(rows, axis=-2)


@underflow_is_rounding
def gradients(
    net: Network, X: PointsLike, Y: Any, loss: Loss, l2: float = 0.0, *, kernels: bool = True
) -> Gradients:
    """Return value and gradients of the objective, by one sweep over the points, piece by piece.

    The compiled kernel sweeps, where it was built and has all layers of the network; a certificate
    asks for the sweep that is written here.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)
    Y : array
        Targets, as the loss takes them.
    loss : Loss
    l2 : float
        The penalty is ``l2/2`` times the sum of all squared weights.
    kernels : bool
        Whether the compiled kernel may sweep.

    Returns
    -------
    Gradients
        Its ``deltas`` and ``inputs`` are computed when they are asked for.

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
    net = as_network(net, "backprop.gradients")
    x = as_inputs(X, net, "trace: X")
    Y = targets_in_order(Y, net, "gradients: Y")
    y = as_loss(loss).targets(Y, np.empty((*x.shape[:-1], net.widths[-1]), net.dtype))
    if type(l2) is not float or l2 != 0:
        l2 = as_nonnegative(l2, "backprop.gradients: l2")
    if not len(x):
        raise ValueError("backprop.gradients: the mean over no points is undefined.")
    points = (x, y) if x.ndim == 2 else (x[None], y[None])
    swept = _by_kernel(net, *points, loss) if kernels else None
    values, parameters = swept or _by_sweeps(net, *points, loss)
    objective = float(np.add.reduce(values)) / len(values)
    for layer, by_name in zip(net.layers, parameters, strict=True) if l2 else ():
        for name in WEIGHTS:
            if name in by_name:
                W = layer.parameters()[name]
                by_name[name] = by_name[name] + l2 * W
                objective += l2 / 2 * float(np.vdot(W, W))
    # what is asked for later is of the points as they are now
    x, y = (A if A.base is None and A is not B else A.copy() for A, B in ((x, X), (y, Y)))
    others = partial(point_gradients, net, x, y, loss)
    return Gradients.of_parameters(objective, tuple(parameters), others)


@underflow_is_rounding
def point_gradients(
    net: Network, X: Array, Y: Array, loss: Loss
) -> tuple[tuple[Array, ...], Array]:
    """Return ``dC/dz^l`` for all l, and ``dC/dx``; points and targets have been checked."""
    seen = trace(net, X)
    delta = _loss_and_delta(seen, Y, loss)[1]
    return _sweep(seen, None, delta / (len(X) if seen.batch else 1))


_Swept = tuple[Array, list[dict[str, Array]]]  # losses, and for each layer means over all points


def _by_sweeps(net: Network, x: Array, y: Array, loss: Loss) -> _Swept:
    """Sweep over some points after the other, whose values stay in the cache."""
    size = max(1, PIECE_BYTES // (4 * sum(net.widths) * net.dtype.itemsize))
    values, sums = np.empty(len(x), net.dtype), list[dict[str, Array]]()
    for start in range(0, len(x), size):
        here = slice(start, start + size)
        seen = trace(net, x[here])
        values[here], last = _loss_and_delta(seen, y[here], loss)
        each = zip(net.layers, _sweep(seen, None, last)[0], strict=True)
        more = [_gradients_of(A, delta, seen.entering(l)) for l, (A, delta) in enumerate(each, 1)]
        for total, by_name in zip(sums, more, strict=False):
            for name in total:
                total[name] = total[name] + by_name[name]
        sums = sums or more
    return values, [{name: total / len(x) for name, total in by.items()} for by in sums]


def _by_kernel(net: Network, x: Array, y: Array, loss: Loss) -> _Swept | None:
    """Let the kernel sweep, and compute losses and their cotangents here; None if it cannot."""
    fused = loss.fused(net.layers[-1].activation)
    of: Any = fused or loss
    swept = means_over_points(net, x, lambda a, i: of.cotangent(a, y[i]), fused is not None)
    return None if swept is None else (of.value(swept[0], y), swept[1])


def _gradients_of(layer: Layer, delta: Array, values: tuple[Array, ...]) -> dict[str, Array]:
    if not layer.parameters():
        return {}
    own = parameter_gradients if is_nearer(parameter_gradients, layer, parameter_maps) else None
    return (own or parameter_gradients.registry[object])(layer, delta, *values)


def _loss_and_delta(trace: Trace, Y: Array, loss: Loss) -> tuple[Array, Array]:
    """Return the loss of every point and ``delta^L``, fused where loss and activation allow it."""
    last, z = trace.network.layers[-1].activation, trace.preactivations[-1]
    fused = loss.fused(last)
    if fused is not None:
        return fused.value(z, Y), fused.cotangent(z, Y)
    c = loss.cotangent(trace.output, Y)
    return loss.value(trace.output, Y), pull_back_activation(last, z, c)
