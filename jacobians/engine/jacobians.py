"""The engine: the Jacobians of a batch, in pieces of bounded size, in the planned order.

Points are cut into pieces that stay in the cache; each piece is evaluated and multiplied out by the
program of the plan, on one thread or several.  The cut depends on the plan and the number of points
alone, so the same call gives the same bits.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians._checks import Array, ShapeError, as_points
from jacobians.along import Along
from jacobians.engine.compiling import compile_program
from jacobians.engine.line import Line, compile_line
from jacobians.engine.memory import WARM_BYTES, Pool, borrow, bring_back
from jacobians.engine.program import Program
from jacobians.engine.scaling import multiply_scaled
from jacobians.engine.workers import cut, share
from jacobians.layers import Dense, Elementwise, Scale
from jacobians.linearization import linearize
from jacobians.maps import multiply_out
from jacobians.network import Network
from jacobians.planning import Plan, plan
from jacobians.tracing import Trace, trace


def jacobian(
    net: Network,
    X: Any,
    *,
    of: int | None = None,
    wrt: int = 0,
    rows: Any = None,
    columns: Any = None,
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
    rows, columns : slice or list of int, optional
        Only these outputs and inputs, at their cost.
    out : array, optional
        Where to write the result: exactly its shape and dtype.
    max_bytes : int, optional
        Budget for temporary memory, 64 MiB unless said; the result comes on top.
    plan : Plan, optional
        Made by ``plan`` for this network, to be reused; it overrules the choices above.

    Returns
    -------
    array, shape (m, n) or (B, m, n)
        Entry ``[i, j]`` is ``dy_i/dx_j``; never transposed, never squeezed.

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` or ``out`` does not fit.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> jacobian(net, [[1], [2]])  # of 3 x² + (2x)²
    array([[[14.]],
    <BLANKLINE>
           [[28.]]])
    """
    return _run(net, X, (of, wrt, rows, columns, max_bytes), out, plan, False)[1]


def value_and_jacobian(
    net: Network,
    X: Any,
    *,
    of: int | None = None,
    wrt: int = 0,
    rows: Any = None,
    columns: Any = None,
    out: Array | None = None,
    max_bytes: int | None = None,
    plan: Plan | None = None,
) -> tuple[Array, Array]:
    """Compute ``a^of`` and its Jacobian in one pass; see ``jacobian``.

    Returns
    -------
    value : array, shape (m,) or (B, m)
    jacobian : array, shape (m, n) or (B, m, n)

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> value_and_jacobian(net, [1])
    (array([7.]), array([[14.]]))
    """
    value, J = _run(net, X, (of, wrt, rows, columns, max_bytes), out, plan, True)
    assert value is not None
    return value, J


def jacobian_at(trace: Trace, plan: Plan) -> Array:
    """Multiply the chain of a trace out as planned, on the calling thread.

    Returns
    -------
    array, shape (m, n) or (B, m, n)
    """
    if not _is_simple(trace.network):
        return multiply_out(linearize(trace.network, trace).factors)
    _, program, line = _prepared(trace.network, 1, _ANYTHING, plan)
    J = np.empty((*trace.batch, *plan.shape), trace.network.dtype)
    with np.errstate(all="ignore"):
        if line is not None and not trace.batch:
            line.multiply(line.point.row_of(trace), J)
        elif J.size:
            seen = trace if trace.batch else trace.stacked()
            program.multiply(program.load(seen), J if trace.batch else J[None])
    return J


_Choice = tuple[int | None, int, Any, Any, int | None]  # of, wrt, rows, columns, max_bytes
_ANYTHING: _Choice = (None, 0, None, None, None)


def _run(
    net: Network, X: Any, choice: _Choice, out: Array | None, chosen: Plan | None, valued: bool
) -> tuple[Array | None, Array]:
    if not _is_plain_point(X, net):
        X = as_points(X, net.widths[0], "jacobian: X", net.dtype)
    batch = X.shape[:-1]
    if not _is_simple(net):
        return _by_maps(net, X, choice, out, valued)
    chosen, program, line = _prepared(net, prod(batch), choice, chosen)
    shape = (*batch, *chosen.shape)
    J = np.empty(shape, net.dtype) if out is None else _require_out(out, shape, net.dtype, X)
    value = np.empty((*batch, net.widths[chosen.of]), net.dtype) if valued else None
    if line is None or batch not in ((), (1,)) or not line.run(X.ravel(), value, J):
        _Batch(net, chosen, program, X, value, J).run()
    return value, J


def _is_simple(net: Network) -> bool:
    return net.is_path and all(
        isinstance(layer, (Dense, Scale, Elementwise))
        and not isinstance(layer.activation, Along)
        and getattr(layer, "rows", 1) == 1
        for layer in net.layers
    )


def _by_maps(
    net: Network, X: Array, choice: _Choice, out: Array | None, valued: bool
) -> tuple[Array | None, Array]:
    of, wrt, rows, columns, _ = choice
    end = net.depth if of is None else net.number(of, "jacobian: of")
    lin = linearize(net, X)
    J = lin.jacobian(end, wrt)
    J = J if rows is None else J[..., np.arange(J.shape[-2])[rows], :]
    J = J if columns is None else J[..., np.arange(J.shape[-1])[columns]]
    if out is not None:
        _require_out(out, J.shape, net.dtype, X)[...] = J
        J = out
    return lin.trace.activations[end].copy() if valued else None, J


def _is_plain_point(X: Any, net: Network) -> bool:
    """Tell whether the door would change nothing, its look for NaN apart, which comes later."""
    return type(X) is np.ndarray and X.shape == net.widths[:1] and X.dtype == net.dtype


class _Batch:
    """A batch in the making: pieces are evaluated and multiplied out, each where it belongs."""

    def __init__(
        self, net: Network, chosen: Plan, program: Program, X: Array, value: Array | None, J: Array
    ) -> None:
        self.net, self.plan, self.program, self.X = net, chosen, program, X
        self.points, self.Js, self.values = X, J, value
        if X.ndim == 1:
            self.points, self.Js = X[None], J[None]
            self.values = None if value is None else value[None]

    def run(self) -> None:
        """Go through all pieces."""
        B, threads = len(self.points), self.plan.threads
        if B == 1:
            self.piece(slice(None), None)
            return
        pieces = cut(B, self.plan.piece, threads)
        size = pieces[0].stop if pieces else 0
        pooled = self.program.known and size * self.plan.point_bytes > WARM_BYTES
        pools = [borrow(self.net.dtype) if pooled else None for _ in range(threads)]
        share(lambda where, k: self.piece(where, pools[k]), pieces, threads)
        for pool in filter(None, pools):
            bring_back(pool)

    def piece(self, where: slice, pool: Pool | None) -> None:
        """Evaluate and multiply out a few points."""
        x, J, program = self.points[where], self.Js[where], self.program
        with np.errstate(all="ignore"):
            value, registers, finite = program.forward(x, pool, value=self.values is not None)
            if not finite:
                as_points(self.X, x.shape[1], "jacobian: X", x.dtype)
                trace(self.net, x)  # says which layer leaves the range
            if self.values is not None:
                self.values[where] = value
            if pool:
                pool.give(value)
            program.multiply(registers, J, pool)
            if not program.tame and not np.isfinite(J).all():
                self.rescue(x, J)

    def rescue(self, x: Array, J: Array) -> None:
        """Redo the points at which a partial product left the range."""
        for i in np.flatnonzero(~np.isfinite(J).all(axis=(1, 2))):
            whole = multiply_scaled(trace(self.net, x[i]), self.plan.of, self.plan.wrt)
            J[i] = self.plan.part(whole)


# --- plans and programs of a network, kept while it lives -----------------------------------------

_KEPT = 16  # for each network; then the oldest make room
_Prepared = tuple[Plan, Program, Line | None]
_prepared_before: WeakKeyDictionary[Network, dict[Hashable, _Prepared]] = WeakKeyDictionary()


def _prepared(net: Network, B: int, choice: _Choice, chosen: Plan | None) -> _Prepared:
    """Return the plan and what it compiles to, from before if there was the same call before."""
    before = _prepared_before.get(net)
    if before is None:
        before = _prepared_before.setdefault(net, {})
    of, wrt, rows, columns, max_bytes = choice
    batch = 1 << (B - 1).bit_length() if B else 0  # a few plans for all sizes of batch
    key: Hashable = chosen
    if chosen is None:
        key = (batch, of, wrt, max_bytes)
        if rows is not None or columns is not None:  # lists, as often as not, which have no hash
            key = None
    found = before.get(key)
    if found is None:
        if chosen is None:
            chosen = plan(
                net, batch, of=of, wrt=wrt, rows=rows, columns=columns, max_bytes=max_bytes
            )
        found = _compiled(net, chosen)
        if key is not None:
            while len(before) >= _KEPT:
                before.pop(next(iter(before)), None)
            before[key] = found
    return found


def _compiled(net: Network, chosen: Any) -> _Prepared:
    if not isinstance(chosen, Plan):
        raise TypeError(f"jacobian: plan: expected a Plan, but got {chosen!r:.80}.")
    if not chosen.fits(net):
        raise ValueError(f"jacobian: the plan was made for another network than {net}.")
    program = compile_program(net, chosen)
    return chosen, program, compile_line(net, chosen, program) if chosen.piece == 1 else None


def _require_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], X: Array) -> Array:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"jacobian: out: expected an array, but got {type(out).__name__}.")
    if out.shape != shape or out.dtype != dtype:
        raise ShapeError(
            f"jacobian: out: expected shape {shape} and {dtype}, but got {out.shape}, {out.dtype}."
        )
    if not out.flags.writeable:
        raise ValueError("jacobian: out: is read-only.")
    if any(step == 0 and n > 1 for n, step in zip(out.shape, out.strides, strict=True)):
        raise ValueError("jacobian: out: several entries share one place; give each its own.")
    if np.may_share_memory(out, X):
        raise ValueError("jacobian: out: overlaps X; give it memory of its own.")
    return out
