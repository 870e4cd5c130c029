"""The formulas of the notes, literally: ``np.diag``, ``np.kron``, loops, matrix products.

This module is for seeing.  It reads a trace and writes each derivative as the explicit matrix that
the notes write, with no structure exploited and no step skipped; a matrix that would not fit is
refused before it is allocated, with the structured map to use instead.  It shares no product with
``linearization`` or ``backprop``, so that their agreement is evidence.  Where a layer has nothing
but its map (a layer of your own), that map is written out, and ``is_independent`` says so.

All functions take the trace of one point; ``gradients`` adds up the points of a data set.  The
trace may be a ``typed_trace``, of fractions or of the symbols of SymPy: then nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    ShapeError,
    as_nonnegative,
    refuse_if_too_large,
    underflow_is_rounding,
)
from jacobians._tables import PointsLike, targets_in_order
from jacobians._typed import typed_trace as typed_trace
from jacobians._written_out import written_activation, written_layer, written_parameters
from jacobians._written_seconds import hessian as hessian
from jacobians.gradients import WEIGHTS, Gradients
from jacobians.losses import Loss, as_loss
from jacobians.network import Network, as_network
from jacobians.tracing import Trace, trace
from jacobians.vectorization import unvec


@underflow_is_rounding
def activation_jacobian(trace: Trace, l: int | str) -> Array:
    """Return ``D^l = da^l/dz^l``, written out.

    ``diag(sigma'(z))``; for softmax ``diag(p) - p pᵀ``, arranged so that ``p (1 - p)`` keeps its
    digits (see ``jacobians.activations``).

    Parameters
    ----------
    trace : Trace
        Of one point.
    l : int or str
        Number of the layer, 1 to L, or the name of a node.

    Returns
    -------
    array, shape (n_l, n_l)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 0], [0, 1]], activation="square")])
    >>> activation_jacobian(jb.trace(net, [1, 2]), 1)
    array([[2., 0.],
           [0., 4.]])
    """
    l = _number(trace, l, "activation_jacobian: l", 1)
    z = trace.preactivations[l - 1]
    _refuse((len(z), len(z)), z, f"D^{l}", "linearize(net, x).factors")
    return written_activation(trace.network.layers[l - 1].activation, z)


@underflow_is_rounding
def layer_jacobian(trace: Trace, l: int | str, k: int = 0) -> Array:
    """Return ``dz^l/da`` with respect to the k-th value that node l reads: ``W^l`` if dense.

    Returns
    -------
    array, shape (n_l, n_source)
    """
    l = _number(trace, l, "layer_jacobian: l", 1)
    for a in trace.entering(l):
        _refuse((trace.network.widths[l], len(a)), a, f"dz^{l}/da", "linearize(net, x).factors")
    return written_layer(trace.network.layers[l - 1], *trace.entering(l))[k]


@underflow_is_rounding
def input_jacobian(trace: Trace, of: int | str | None = None, wrt: int | str = 0) -> Array:
    """Return ``da^of/da^wrt = D^of W^of ... D^{wrt+1} W^{wrt+1}``, by default ``dH/dx``.

    Node by node from the input outwards, as the notes derive it; where branches meet their
    derivatives are added up.  The empty product is the identity.

    Returns
    -------
    array, shape (n_of, n_wrt)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> input_jacobian(jb.trace(net, [1]))  # d(3 x² + (2x)²)/dx at 1
    array([[14.]])
    """
    net = trace.network
    of = net.depth if of is None else _number(trace, of, "input_jacobian: of", 0)
    wrt = net.number(wrt, "input_jacobian: wrt", 0, of)
    _refuse_large_products(net, of, wrt)
    n = net.widths[wrt]
    J: dict[int, Array] = {wrt: np.eye(n, dtype=net.dtype)}
    for l in range(wrt + 1, of + 1):
        sources = net.sources[l - 1]
        if not any(s in J for s in sources):
            continue
        Z = sum(layer_jacobian(trace, l, k) @ J[s] for k, s in enumerate(sources) if s in J)
        J[l] = activation_jacobian(trace, l) @ Z
        for s in sources:
            if s != wrt and s in J and net.last_reader[s] == l:
                del J[s]
    return J.get(of, np.zeros((net.widths[of], n), net.dtype))


@underflow_is_rounding
def block_matrix(trace: Trace) -> Array:
    """Return ``M``, the derivatives of all nodes with respect to what they read, block by block.

    Strictly lower triangular, so that ``(I - M)^{-1}`` exists: its block (of, wrt) is
    ``da^of/da^wrt``, the sum over all paths.  The nodes stand in sorted order, the input first.

    Returns
    -------
    array, shape (N, N) with N the sum of all widths

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> M = block_matrix(jb.trace(net, [1])); M
    array([[0., 0., 0., 0.],
           [2., 0., 0., 0.],
           [8., 0., 0., 0.],
           [0., 3., 1., 0.]])
    >>> np.linalg.inv(np.eye(4) - M)[3, 0].round(6)
    np.float64(14.0)
    """
    net = trace.network
    _number(trace, 1, "block_matrix: l", 1)
    ends = np.cumsum([0, *net.widths])
    _refuse((int(ends[-1]), int(ends[-1])), net, "M", "linearize(net, x).factors")
    M = np.zeros((ends[-1], ends[-1]), net.dtype)
    for l, sources in enumerate(net.sources, start=1):
        D = activation_jacobian(trace, l)
        for k, s in enumerate(sources):
            M[ends[l] : ends[l + 1], ends[s] : ends[s + 1]] += D @ layer_jacobian(trace, l, k)
    return M


@underflow_is_rounding
def preactivation_jacobian(trace: Trace, l: int | str, of: int | str | None = None) -> Array:
    """Return ``da^of/dz^l = D^of W^of ... W^{l+1} D^l``; of the output unless said.

    Returns
    -------
    array, shape (n_of, n_l)
    """
    l = _number(trace, l, "preactivation_jacobian: l", 1)
    _refuse_large_products(trace.network, trace.network.depth, l - 1)
    J: Array = input_jacobian(trace, of, wrt=l) @ activation_jacobian(trace, l)
    return J


@underflow_is_rounding
def preactivation_parameter_jacobian(trace: Trace, l: int | str, name: str) -> Array:
    """Return ``dz^l/dvec(theta)`` for one parameter of layer l, all its zeros included.

    Returns
    -------
    array, shape (n_l, number of entries)
    """
    l = _number(trace, l, "preactivation_parameter_jacobian: l", 1)
    layer = trace.network.layers[l - 1]
    if name not in layer.parameters():
        raise TypeError(f"explicit: layer {l} ({layer}) has no parameter {name!r}.")
    _refuse_large_weights(trace.network, l)
    return written_parameters(layer, *trace.entering(l))[name]


@underflow_is_rounding
def bias_jacobian(trace: Trace, l: int | str, of: int | str | None = None) -> Array:
    """Return ``da^of/db^l``: for a dense layer ``da^of/dz^l = D^of W^of ... W^{l+1} D^l``.

    Returns
    -------
    array, shape (n_of, n_l)
    """
    return _of_layer(trace, l, of, ("b",), "bias_jacobian", "bias")


def preactivation_weight_jacobian(trace: Trace, l: int | str) -> Array:
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
    l = _number(trace, l, "preactivation_weight_jacobian: l", 1)
    name = _require(trace, l, WEIGHTS, "preactivation_weight_jacobian", "weight matrix")
    return preactivation_parameter_jacobian(trace, l, name)


@underflow_is_rounding
def weight_jacobian(trace: Trace, l: int | str, of: int | str | None = None) -> Array:
    """Return ``da^of/dvec(W^l) = da^of/dz^l (aᵀ ⊗ I)``; of the output unless said.

    Returns
    -------
    array, shape (n_of, n_l * n_{l-1})
    """
    return _of_layer(trace, l, of, WEIGHTS, "weight_jacobian", "weight matrix")


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
    _number(trace, 1, "parameter_jacobian: l", 1)
    _refuse_large_weights(net, *range(1, net.depth + 1))
    shape = (net.widths[-1], net.parameter_count)
    _refuse(shape, trace.output, "dH/dtheta", "linearize(net, x).parameter_jacobian()")
    blocks = []
    for l, layer in enumerate(net.layers, start=1):
        if layer.parameters():
            J = preactivation_jacobian(trace, l)
        for name in layer.parameters():
            blocks.append(J @ preactivation_parameter_jacobian(trace, l, name))
    return np.hstack(blocks)


@underflow_is_rounding
def gradients(net: Network, X: PointsLike, Y: Any, loss: Loss, l2: float = 0.0) -> Gradients:
    """Return value and gradients of the objective, by matrices and vec, point by point.

    The cotangent is a row that is multiplied by one matrix after another; the gradient of a weight
    is the row ``dC/dvec(W^l) = dC/dz^l (aᵀ ⊗ I)``, cut into columns again.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)
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
    _refuse_large_products(net, net.depth, 0)
    _refuse_large_weights(net, *range(1, net.depth + 1))
    seen = trace(net, X)
    Y = as_loss(loss).targets(targets_in_order(Y, net, "gradients: Y"), seen.output)
    l2 = as_nonnegative(l2, "explicit.gradients: l2")
    if seen.batch == (0,):
        raise ValueError("explicit.gradients: the mean over no points is undefined.")
    if not seen.batch:
        return _with_penalty(_at_point(seen, Y, loss), net, l2)
    each = [_at_point(seen.point(i), y, loss) for i, y in enumerate(Y)]
    return _with_penalty(_mean(each), net, l2)


def _at_point(trace: Trace, y: Array, loss: Loss) -> Gradients:
    """Compute the gradients of one point's loss: the cotangents are rows, and multiply matrices."""
    net, z, a = trace.network, trace.preactivations[-1], trace.output
    fused = loss.fused(net.layers[-1].activation)
    rows: list[Any] = [np.zeros(n, net.dtype) for n in net.widths]
    rows[-1] = loss.cotangent(a, y) if fused is None else None
    value = loss.value(a, y) if fused is None else fused.value(z, y)
    parameters: list[dict[str, Array]] = []
    deltas: list[Array] = []
    for l in range(net.depth, 0, -1):
        if rows[l] is None:
            delta: Array = fused.cotangent(z, y)  # type: ignore[union-attr]
        else:
            delta = rows[l] @ activation_jacobian(trace, l)
        deltas.append(delta)
        parameters.append({})
        for name, p in net.layers[l - 1].parameters().items():
            row = delta @ preactivation_parameter_jacobian(trace, l, name)
            parameters[-1][name] = unvec(row, (len(p), p.size // len(p))).reshape(p.shape)
        for k, s in enumerate(net.sources[l - 1]):
            rows[s] = rows[s] + delta @ layer_jacobian(trace, l, k)
    return Gradients(float(value), tuple(parameters[::-1]), tuple(deltas[::-1]), rows[0])


def _mean(each: list[Gradients]) -> Gradients:
    """Average the gradients of the points; what belongs to a point keeps its own row."""
    B, first = len(each), each[0]
    return Gradients(
        sum(g.loss for g in each) / B,
        tuple(
            {name: np.sum([g.parameters[l][name] for g in each], axis=0) / B for name in by_name}
            for l, by_name in enumerate(first.parameters)
        ),
        tuple(np.stack([g.deltas[l] for g in each]) / B for l in range(len(first.deltas))),
        np.stack([g.inputs for g in each]) / B,
    )


def _with_penalty(g: Gradients, net: Network, l2: float) -> Gradients:
    penalty, parameters = 0.0, []
    for layer, by_name in zip(net.layers, g.parameters, strict=True):
        weights = {n: W for n, W in layer.parameters().items() if n in WEIGHTS}
        for W in weights.values():
            M = W.reshape(len(W), -1)
            penalty += float(np.trace(M.T @ M))
        parameters.append({**by_name, **{n: by_name[n] + l2 * W for n, W in weights.items()}})
    return Gradients(g.loss + l2 / 2 * penalty, tuple(parameters), g.deltas, g.inputs)


def _number(trace: Trace, l: int | str, where: str, low: int) -> int:
    if trace.batch:
        raise ShapeError(
            f"{where.split(':')[0]}: the explicit view shows one point, but the trace holds "
            f"{trace.batch[0]}. Use trace.point(i)."
        )
    return trace.network.number(l, where, low)


def _require(trace: Trace, l: int, names: tuple[str, ...], where: str, what: str) -> str:
    """Return the name of the layer's weight or bias, or say that it has none."""
    layer = trace.network.layers[l - 1]
    name = next((name for name in names if name in layer.parameters()), None)
    if name is None:
        raise TypeError(f"{where}: layer {l} ({layer}) has no {what}.")
    return name


def _of_layer(
    trace: Trace, l: int | str, of: int | str | None, names: tuple[str, ...], where: str, what: str
) -> Array:
    """Return the derivative of a node with respect to the layer's weight or bias."""
    l = _number(trace, l, f"{where}: l", 1)
    name = _require(trace, l, names, where, what)
    if name in WEIGHTS:  # for a bias D^l is no smaller
        _refuse_large_weights(trace.network, l)
    J = preactivation_jacobian(trace, l, of)
    product: Array = J @ preactivation_parameter_jacobian(trace, l, name)
    return product


# --- what does not fit is refused before anything is written --------------------------------------


def _refuse_large_products(net: Network, of: int, wrt: int) -> None:
    """Refuse the matrices of ``da^of/da^wrt`` that do not fit, its partial products included."""
    for l in range(wrt + 1, of + 1):
        n_l = net.widths[l]
        _refuse((n_l, n_l), net, f"D^{l}", "linearize(net, x).factors")
        _refuse((n_l, net.widths[wrt]), net, f"da^{l}/da^{wrt}", "linearize(net, x).chain")


def _refuse_large_weights(net: Network, *numbers: int) -> None:
    """Refuse ``dz^l/dvec(theta)`` and ``dH/dvec(theta)`` if they do not fit."""
    for l in numbers:
        way_out = f"linearize(net, x).weight_jacobian({l})"
        for name, p in net.layers[l - 1].parameters().items():
            _refuse((net.widths[l], p.size), net, f"dz^{l}/dvec({name}^{l})", way_out)
            _refuse((net.widths[-1], p.size), net, f"dH/dvec({name}^{l})", way_out)


def _refuse(shape: tuple[int, ...], like: Any, what: str, way_out: str) -> None:
    refuse_if_too_large(shape, like.dtype, f"explicit: {what}", f"Use {way_out}")
