"""The engine: the Jacobians of a batch, in pieces of bounded size, in the planned order.

Piece by piece: trace, slopes, products on plain arrays.  Weights are shared by all points; slopes
are one vector per point, so a ``D`` is only ever a scaling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, ShapeError, as_points
from jacobians.activations import Activation, VectorActivation
from jacobians.layers import Dense, Scale
from jacobians.linearization import activation_map, layer_map
from jacobians.maps.association import Order
from jacobians.network import Network
from jacobians.planning import Plan, operands_of, plan
from jacobians.tracing import Trace, trace


def jacobian(
    net: Network,
    X: Any,
    *,
    of: int | None = None,
    wrt: int = 0,
    out: Array | None = None,
    max_bytes: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """Compute the Jacobian ``dH/dx`` at one point or at every point of a batch.

    Parameters
    ----------
    net : Network
    X : array, shape (n_0,) or (B, n_0)
    of, wrt : int
        Layer numbers, for ``da^of/da^wrt`` instead.
    out : array, optional
        Where to write the result: exactly its shape and dtype.
    max_bytes : int, optional
        Budget for temporary memory, 64 MiB unless said; the result comes on top.
    plan : Plan, optional
        Made by ``plan`` for this network, to be reused; it overrules the three arguments above.

    Returns
    -------
    array, shape (m, n) or (B, m, n)
        Entry ``[i, j]`` is ``dy_i/dx_j``; never transposed, never squeezed.

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` or ``out`` does not fit.

    >>> net = Network([Dense([[1], [2]], activation="square"), Dense([[3, 1]])])
    >>> jacobian(net, [[1], [2]])  # of 3 x² + (2x)²
    array([[[14.]],
    <BLANKLINE>
           [[28.]]])
    """
    return _run(net, X, of, wrt, out, max_bytes, plan)[1]


def value_and_jacobian(
    net: Network,
    X: Any,
    *,
    of: int | None = None,
    wrt: int = 0,
    out: Array | None = None,
    max_bytes: int | None = None,
    plan: Plan | None = None,
) -> tuple[Array, Array]:
    """Compute ``a^of`` and its Jacobian in one pass; see ``jacobian``.

    Returns
    -------
    value : array, shape (m,) or (B, m)
    jacobian : array, shape (m, n) or (B, m, n)

    >>> net = Network([Dense([[1], [2]], activation="square"), Dense([[3, 1]])])
    >>> value_and_jacobian(net, [1])
    (array([7.]), array([[14.]]))
    """
    return _run(net, X, of, wrt, out, max_bytes, plan)


def _run(
    net: Network,
    X: Any,
    of: int | None,
    wrt: int,
    out: Array | None,
    max_bytes: int | None,
    chosen: Plan | None,
) -> tuple[Array, Array]:
    X = as_points(X, net.widths[0], "jacobian: X", net.dtype)
    if chosen is None:
        chosen = plan(net, len(X) if X.ndim == 2 else 1, of=of, wrt=wrt, max_bytes=max_bytes)
    else:
        _require_plan(chosen, net)
    shape = (*X.shape[:-1], net.widths[chosen.of], net.widths[chosen.wrt])
    J = np.empty(shape, net.dtype) if out is None else _require_out(out, shape, net.dtype, X)
    value = np.empty(shape[:-1], net.dtype)
    if X.ndim == 1:
        seen = trace(net, X)
        value[...] = seen.activation(chosen.of)
        J[...] = jacobian_at(seen, chosen)
    for start in range(0, len(X) if X.ndim == 2 else 0, chosen.piece):
        rows = slice(start, start + chosen.piece)
        seen = trace(net, X[rows])
        value[rows] = seen.activation(chosen.of)
        J[rows] = jacobian_at(seen, chosen)
    return value, J


# --- one piece ---------------------------------------------------------------------------------
#
# A factor or partial product: a matrix (m, n) or a stack of them, the vector of a diagonal (marked
# by its own class, since a stack of vectors looks like a matrix), or the parts of a softmax.


@dataclass(frozen=True)
class Slopes:
    """A diagonal factor: one vector for all points (n,), or one per point (B, n)."""

    d: Array


@dataclass(frozen=True)
class Parts:
    """A factor ``diag(d) + U Vᵀ``."""

    d: Array
    U: Array
    V: Array


Value: TypeAlias = Array | Slopes | Parts


def jacobian_at(trace: Trace, plan: Plan) -> Array:
    """Multiply the chain of a trace out as planned.

    Returns
    -------
    array, shape (m, n), or (B, m, n) where a factor depends on the point
    """
    if plan.association is None:
        return np.eye(plan.widths[plan.of], dtype=trace.network.dtype)
    factors = [_factor(trace, name) for name in plan.names]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _as_matrix(_multiply(factors, plan.association.order))


def _multiply(factors: list[Value], order: Order) -> Value:
    # not a function inside jacobian_at: one that calls itself would keep its piece alive in a
    # reference cycle, and the memory of a long batch would grow until the garbage is collected
    if isinstance(order, int):
        return factors[order]
    return _times(_multiply(factors, order[0]), _multiply(factors, order[1]))


def _factor(trace: Trace, name: str) -> Value:
    """Return the factor of that name, straight from layer and trace."""
    l = int(name[1:])
    layer = trace.network.layers[l - 1]
    if name[0] == "D":
        z, sigma = trace.preactivation(l), layer.activation
        if isinstance(sigma, Activation):
            return Slopes(sigma.derivative(z))
        if isinstance(sigma, VectorActivation):
            return Parts(*sigma.parts(z))
        return activation_map(sigma, z).to_dense()
    if isinstance(layer, Dense):
        return layer.W
    if isinstance(layer, Scale):
        return Slopes(layer.scale)
    return layer_map(layer, trace.activation(l - 1)).to_dense()


def _times(left: Value, right: Value) -> Value:
    if isinstance(left, Slopes):
        if isinstance(right, Slopes):
            return Slopes(left.d * right.d)
        return left.d[..., :, None] * _as_matrix(right)
    if isinstance(right, Slopes):
        return _as_matrix(left) * right.d[..., None, :]
    if isinstance(left, Parts):
        M = _as_matrix(right)
        return left.d[..., :, None] * M + left.U @ (np.swapaxes(left.V, -2, -1) @ M)
    if isinstance(right, Parts):
        return left * right.d[..., None, :] + (left @ right.U) @ np.swapaxes(right.V, -2, -1)
    if left.ndim == 3 and right.ndim == 2:
        # one large product instead of B small ones
        B, m, k = left.shape
        product: Array = (left.reshape(B * m, k) @ right).reshape(B, m, right.shape[1])
        return product
    return left @ right


def _as_matrix(value: Value) -> Array:
    if isinstance(value, Slopes):
        n = value.d.shape[-1]
        return value.d[..., :, None] * np.eye(n, dtype=value.d.dtype)
    if isinstance(value, Parts):
        low_rank: Array = value.U @ np.swapaxes(value.V, -2, -1)
        return _as_matrix(Slopes(value.d)) + low_rank
    return value


def _require_plan(plan: Plan, net: Network) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(f"jacobian: plan: expected a Plan, but got {plan!r:.80}.")
    names, operands = ((), ()) if plan.widths != net.widths else operands_of(net, plan.of, plan.wrt)
    if plan.widths != net.widths or operands != plan.operands or names != plan.names:
        raise ValueError(f"jacobian: the plan was made for another network than {net}.")


def _require_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], X: Array) -> Array:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"jacobian: out: expected an array, but got {type(out).__name__}.")
    if out.shape != shape or out.dtype != dtype:
        raise ShapeError(
            f"jacobian: out: expected shape {shape} and {dtype}, but got {out.shape}, {out.dtype}."
        )
    if not out.flags.writeable:
        raise ValueError("jacobian: out: is read-only.")
    if np.may_share_memory(out, X):
        raise ValueError("jacobian: out: overlaps X; give it memory of its own.")
    return out
