"""Derivatives as rows: that of a column is a row, that of a matrix is laid out as its transpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from jacobians._checks import (
    Array,
    Numbers,
    as_array,
    as_count,
    as_nonnegative,
    refuse_if_too_large,
    underflow_is_rounding,
)
from jacobians.activations import Activation
from jacobians.conventions.products import as_row, from_row, hadamard, product, unvec_row
from jacobians.explicit import activation_jacobian
from jacobians.gradients import Gradients
from jacobians.losses import Loss, as_loss
from jacobians.network import Network
from jacobians.tracing import Trace, trace


@dataclass(frozen=True, eq=False, repr=False)
class RowDerivatives:
    """The derivatives of a cost C as rows, with ``a^k = W^k h^{k-1} + b^k`` and ``h^k = g(a^k)``.

    Attributes
    ----------
    cost : float
    outputs : tuple of array or None
        ``D_{h^k} C``, shape (1, n_k), for k = 0..K: ``D_x C`` first and ``D_y L`` last.  None where
        it is not known: a ``Gradients`` holds the first alone.
    preactivations : tuple of array
        ``D_{a^k} C``, shape (1, n_k), for k = 1..K.
    weights, biases : tuple of array or None
        ``D_{W^k} C``, shape (n_{k-1}, n_k), with entry (i, j) ``dC/dW^k[j, i]``; ``D_{b^k} C``.
    """

    cost: float
    outputs: tuple[Numbers | None, ...]
    preactivations: tuple[Numbers, ...]
    weights: tuple[Numbers | None, ...]
    biases: tuple[Numbers | None, ...]

    def __repr__(self) -> str:
        return f"RowDerivatives of a cost of {self.cost:.6g}: {len(self.weights)} layers"


class Penalty(NamedTuple):
    """A penalty on every weight matrix: its value, and its gradient in the shape of W."""

    value: Callable[[Numbers], float]
    gradient: Callable[[Numbers], Numbers]


@underflow_is_rounding
def row_derivatives(
    net: Network, x: Any, y: Any, loss: Loss, l2: float = 0.0, penalty: Penalty | None = None
) -> RowDerivatives:
    """Differentiate the cost in rows, by four identities for every layer.

        D_{h^K} C = D_y L                       D_{a^k} C = D_{h^k} C * g'(a^k)ᵀ
        D_{W^k} C = h^{k-1} D_{a^k} C           D_{h^{k-1}} C = D_{a^k} C W^k

    with ``*`` entry by entry (softmax is multiplied by its Jacobian), ``D_{b^k} C = D_{a^k} C``,
    and ``l2 (W^k)ᵀ`` and the transposed gradient of the penalty on top of ``D_{W^k} C``.  The loss
    is not fused with the last activation.  The cost of a data set is the mean over its points:
    its rows are stacked, (N, 1, n), with the factor 1/N in them.

    Parameters
    ----------
    net : Network
        Dense layers only.
    x, y : array, shapes (n_0,) and (n_K,), or (N, n_0) and (N, n_K)
    loss : Loss
    l2 : float
    penalty : Penalty, optional
        Besides ``l2/2`` times the squared weights.

    >>> from jacobians.layers import Dense
    >>> from jacobians.losses import SquaredError
    >>> net = Network([Dense([[1, 1], [0, 1]], [-2, 0], "square")])
    >>> rows = row_derivatives(net, [1, 2], [0, 2], SquaredError())
    >>> rows.preactivations[0], rows.weights[0]
    (array([[2., 8.]]), array([[ 2.,  8.],
           [ 4., 16.]]))
    """
    seen = trace(net, x)
    y, l2 = as_loss(loss).targets(y, seen.output), as_nonnegative(l2, "row_derivatives: l2")
    if seen.batch:
        N = as_count(seen.batch[0], "row_derivatives: points")
        each = [row_derivatives(net, seen.activation(0)[n], y[n], loss) for n in range(N)]
        rows = _mean(each)
    else:
        rows = _at_point(net, seen, y, loss)
    cost = rows.cost
    weights: list[Numbers] = []
    for k, D in enumerate(rows.weights, start=1):
        W, _ = dense_layer(net, k, "row_derivatives")
        D_W = as_array(D, "D_W") + l2 * W.T
        cost += l2 / 2 * float(np.vdot(W, W))
        if penalty is not None:
            D_W, cost = D_W + penalty.gradient(W).T, cost + float(penalty.value(W))
        weights.append(D_W)
    return replace(rows, cost=cost, weights=tuple(weights))


def _at_point(net: Network, seen: Trace, y: Array, loss: Loss) -> RowDerivatives:
    outputs, preactivations = [as_row(loss.cotangent(seen.output, y))], []
    weights: list[Numbers] = []
    for k in range(net.depth, 0, -1):
        W, _ = dense_layer(net, k, "row_derivatives")
        sigma = net.layers[k - 1].activation
        if isinstance(sigma, Activation):
            slopes = sigma.derivative(seen.preactivation(k))
            D_a = hadamard(outputs[-1], as_row(slopes))
        else:
            D_a = product(outputs[-1], activation_jacobian(seen, k))
        preactivations.append(D_a)
        weights.append(product(as_row(seen.activation(k - 1)).T, D_a))
        outputs.append(product(D_a, W))
    rows = tuple(preactivations[::-1])
    has = [dense_layer(net, k, "row_derivatives")[1] is not None for k in range(1, net.depth + 1)]
    biases = tuple(D_a.copy() if b else None for b, D_a in zip(has, rows, strict=True))
    cost = float(loss.value(seen.output, y))
    return RowDerivatives(cost, tuple(outputs[::-1]), rows, tuple(weights[::-1]), biases)


def _mean(each: list[RowDerivatives]) -> RowDerivatives:
    """Average points: parameters are shared, everything else is stacked."""

    def layers(name: str) -> tuple[Array, ...]:
        stacks = zip(*(getattr(r, name) for r in each), strict=True)
        return tuple(np.stack(rows) / len(each) for rows in stacks)

    rows, cost = layers("preactivations"), sum(r.cost for r in each) / len(each)
    weights = tuple(D.sum(axis=0) for D in layers("weights"))
    with_bias = zip(each[0].biases, rows, strict=True)
    biases = tuple(None if b is None else D.sum(axis=0) for b, D in with_bias)
    return RowDerivatives(cost, layers("outputs"), rows, weights, biases)


def rows_from_gradients(g: Gradients) -> RowDerivatives:
    """Lay gradients out as rows: vectors (n,) become ``1 x n``, matrices are transposed.

    At a batch the rows of its points are stacked, (B, 1, n).
    """
    return RowDerivatives(
        g.loss,
        (as_row(g.inputs), *(None for _ in g.deltas)),
        tuple(as_row(delta) for delta in g.deltas),
        tuple(None if W is None else W.T.copy() for W in g.weights),
        tuple(None if b is None else as_row(b) for b in g.biases),
    )


def gradients_from_rows(rows: RowDerivatives) -> Gradients:
    """Undo ``rows_from_gradients``, exactly."""
    parameters = tuple(
        ({} if W is None else {"W": W.T.copy()}) | ({} if b is None else {"b": from_row(b)})
        for W, b in zip(rows.weights, rows.biases, strict=True)
    )
    return Gradients(
        rows.cost,
        parameters,
        tuple(from_row(row) for row in rows.preactivations),
        from_row(rows.outputs[0]),
    )


@underflow_is_rounding
def weight_row_by_kronecker(h: Any, D_a: Any) -> Numbers:
    """Return ``D_W C = (vec⁻¹((h ⊗ I) (D_a C)ᵀ))ᵀ``, which is ``h D_a C`` by another road.

    Parameters
    ----------
    h, D_a : array, shapes (m, 1) and (1, n)

    Returns
    -------
    array, shape (m, n)

    >>> weight_row_by_kronecker([[1], [2]], [[2, 8]])
    array([[ 2,  8],
           [ 4, 16]])
    """
    h = as_array(h, "weight_row_by_kronecker: h")
    D_a = as_array(D_a, "weight_row_by_kronecker: D_a")
    m, n = from_row(h.T).size, from_row(D_a).size
    refuse_if_too_large((m * n, n), np.dtype(float), "h ⊗ I", "Use product(h, D_a)")
    stacked = product(np.kron(h, np.eye(n, dtype=int)), D_a.T)
    return unvec_row(stacked.T, (n, m)).T


def dense_layer(net: Network, l: int, verb: str) -> tuple[Array, Array | None]:
    """Return ``W^l`` and ``b^l``, which may be None, or say that there is no weight matrix."""
    parameters, shape = net.layers[l - 1].parameters(), (net.widths[l], net.widths[l - 1])
    W = parameters.pop("W", None)
    b = parameters.pop("b", None)
    if parameters or W is None or W.shape != shape:
        raise TypeError(f"{verb}: layer {l} ({net.layers[l - 1]}) has no weight matrix.")
    return W, b
