"""What users call of the engine: Jacobians and values, at one point or for a batch."""

from __future__ import annotations

from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians import distributed
from jacobians._checks import Array, ShapeError, as_array
from jacobians._machine import require_memory
from jacobians._tables import PointsLike, as_inputs, in_order
from jacobians.engine.kernels import Kernels
from jacobians.engine.running import Runner, all_finite, quiet
from jacobians.engine.scaling import product_at
from jacobians.network import Network, as_network
from jacobians.planning import Plan, plan
from jacobians.tracing import Trace


def jacobian(
    net: Network,
    X: PointsLike,
    *,
    of: int | str | None = None,
    wrt: int | str = 0,
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
    X : array or data frame, shape (n_0,) or (B, n_0); of a dask array (B, n_0) comes a dask array
    of, wrt : int or str
        Nodes by number or name, for ``da^of/da^wrt`` instead.
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
    TooLargeError
        If the result is larger than the memory of the machine, before anything is allocated.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> jacobian(net, [[1], [2]])  # of 3 x² + (2x)²
    array([[[14.]],
    <BLANKLINE>
           [[28.]]])
    """
    choice = (of, wrt, rows, columns, max_bytes)
    if distributed.is_collection(X):
        if out is not None or plan is not None:
            raise TypeError("jacobian: out and plan belong to arrays; leave them out with dask.")
        shape = _planned(net, 1, choice, None, "jacobian").shape

        def chunk(x: Array) -> Array:
            return _run("jacobian", net, x, choice, None, None, False)[1]

        lazy: Array = distributed.map_chunks(chunk, X, shape, net.dtype)
        return lazy
    return _run("jacobian", net, X, choice, out, plan, False)[1]


def value_and_jacobian(
    net: Network,
    X: PointsLike,
    *,
    of: int | str | None = None,
    wrt: int | str = 0,
    rows: Any = None,
    columns: Any = None,
    out: Array | None = None,
    max_bytes: int | None = None,
    plan: Plan | None = None,
) -> tuple[Array, Array]:
    """Compute ``a^of`` and its Jacobian in one pass; see ``jacobian``.

    Returns
    -------
    value : array, shape (n_of,) or (B, n_of)
        All of ``a^of``, also where ``rows`` chooses among its entries: then the Jacobian belongs to
        ``value[..., rows]``.
    jacobian : array, shape (m, n) or (B, m, n)
        Of the m entries that ``rows`` chooses, of all unless it is given.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> value_and_jacobian(net, [1])
    (array([7.]), array([[14.]]))
    """
    choice = (of, wrt, rows, columns, max_bytes)
    value, J = _run("value_and_jacobian", net, X, choice, out, plan, True)
    assert value is not None
    return value, J


@quiet
def jacobian_at(trace: Trace, plan: Plan) -> Array:
    """Multiply the chain of a trace out as planned, on the calling thread.

    Returns
    -------
    array, shape (m, n) or (B, m, n)
    """
    seen = trace if trace.batch else trace.stacked()
    J = np.empty((*seen.batch, *plan.shape), trace.network.dtype)
    runner = _runner(trace.network, plan, False)
    if J.size:
        runner.run(seen.activations[0], J.transpose(1, 0, 2), seen=seen)
    return J if trace.batch else J[0]


_Choice = tuple[Any, Any, Any, Any, int | None]  # of, wrt, rows, columns, max_bytes


def _is_usual(choice: _Choice) -> bool:
    of, wrt, rows, columns, max_bytes = choice
    return of is rows is columns is max_bytes is None and type(wrt) is int and wrt == 0


def _run(
    where: str, net: Network, X: PointsLike, choice: _Choice, out: Any, chosen: Any, valued: bool
) -> tuple[Array | None, Array]:
    quick = _at_a_point(net, X, valued) if out is None is chosen and _is_usual(choice) else None
    return quick or _with_checks(where, net, X, choice, out, chosen, valued)


def _at_a_point(net: Network, X: Any, valued: bool) -> tuple[Array | None, Array] | None:
    """Answer by the program alone, if a point asks what was asked before, and all is in range.

    The checks of the arguments take longer than a small network.
    """
    try:
        runner, m, n, shape = _points[net][valued]
    except (KeyError, TypeError):
        return None
    plain = type(X) is np.ndarray and X.flags.c_contiguous and X.flags.aligned
    if not plain or X.shape != shape or X.dtype != runner.dtype or not all_finite(X):
        return None
    J, value = np.empty((m, n), runner.dtype), np.empty(m, runner.dtype) if valued else None
    if not runner.point(X, J, value):
        return None
    return None if value is not None and not all_finite(value) else (value, J)


@quiet
def _with_checks(
    where: str, net: Network, X: PointsLike, choice: _Choice, out: Any, chosen: Any, valued: bool
) -> tuple[Array | None, Array]:
    net = as_network(net, where)
    given = as_array(in_order(X, net, f"{where}: X"), f"{where}: X")
    lead = (len(given),) if given.ndim == 2 else ()
    usual = chosen is None and not lead and _is_usual(choice)
    batch, near = len(given) if lead else 1, _one_of(given, net)
    chosen = _planned(net, batch, choice, chosen, where, near)
    shape = (*lead, *chosen.shape)
    if out is None:
        way_out = (
            "Ask for fewer points at a time, for rows= or columns=, or give out= an array that "
            "lies in a file (numpy.memmap)"
        )
        require_memory(shape, net.dtype, where, way_out)
    points = as_inputs(given, net, f"{where}: X")
    J = np.empty(shape, net.dtype) if out is None else _require_out(out, shape, net.dtype, given)
    value = np.empty((*lead, net.widths[chosen.of]), net.dtype) if valued else None
    rows, columns = (slice(None) if c is None else c for c in (chosen.rows, chosen.columns))

    def repair(x: Array, _: Any) -> Array:
        ends, E = (chosen.of, chosen.wrt), np.eye(net.widths[chosen.wrt])[:, columns]
        return np.stack([product_at(net, point, *ends, E)[rows] for point in x], axis=1)

    runner = _runner(net, chosen, valued)
    x, a, stack = points, value, J
    if not lead:
        x, a, stack = points[None], None if value is None else value[None], J[None]
    runner.batch(net, x, stack.transpose(1, 0, 2), a, repair)
    if usual and runner.program.bounded:
        _points[net] = {**_points.get(net, {}), valued: (runner, *chosen.shape, points.shape)}
    return value, J


def _one_of(given: Array, net: Network) -> Array | None:
    """Return a point at which the maps can be asked; None if the checks will refuse it."""
    x = given[0] if given.ndim == 2 and len(given) else given
    fits = x.shape == net.widths[:1] and x.dtype.kind in "iuf" and np.isfinite(x).all()
    return x if fits else None


# --- plans and programs of a network, kept while it lives -----------------------------------------

_KEPT = 16  # for each network; then the oldest go
_points: WeakKeyDictionary[Network, dict[bool, tuple[Runner, int, int, Any]]] = WeakKeyDictionary()
_plans: WeakKeyDictionary[Network, dict[str, Plan]] = WeakKeyDictionary()


def _planned(
    net: Network, B: int, choice: _Choice, chosen: Any, where: str, near: Any = None
) -> Plan:
    """Return the plan, from before if there was the same call before."""
    if chosen is not None:
        if not isinstance(chosen, Plan):
            raise TypeError(f"{where}: plan: expected a Plan, but got {chosen!r:.80}.")
        if not chosen.fits(net):
            raise ValueError(f"{where}: the plan was made for another network than {net}.")
        return chosen
    of, wrt, rows, columns, max_bytes = choice
    batch = 1 << (B - 1).bit_length() if B else 0  # a few plans for all sizes of batch
    key = repr((batch, of, wrt, max_bytes))  # 1, 1.0 and True are one key, and lists have no hash
    kept = _plans.get(net, {})
    usual = rows is None and columns is None
    if usual and key in kept:
        return kept[key]
    chosen_nodes = {"of": of, "wrt": wrt, "rows": rows, "columns": columns}
    made = plan(net, batch, **chosen_nodes, max_bytes=max_bytes, near=near)
    if usual:  # a new dictionary: other threads may be reading the old one
        _plans[net] = {**dict(list(kept.items())[1 - _KEPT :]), key: made}
    return made


def _runner(net: Network, chosen: Plan, valued: bool) -> Runner:
    """Return the program of a plan for a network, with what is kept between calls."""
    runners = chosen.runners.get(net)
    if runners is None:
        runners = chosen.runners.setdefault(net, {})
    if valued not in runners:
        program = chosen.program(net, valued)
        tape = chosen.tape(net, program, valued)
        kernels = Kernels(chosen.limits, chosen.threads, chosen.allowed)
        packed = None if tape is None else tape.pack()
        runners[valued] = Runner(
            chosen.of, net.dtype, program, kernels, chosen.piece, chosen.threads, packed
        )
    runner: Runner = runners[valued]
    return runner


def _require_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], X: Any) -> Array:
    where = "jacobian: out"
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{where}: expected an array, but got {type(out).__name__}.")
    if out.shape != shape or out.dtype != dtype:
        raise ShapeError(
            f"{where}: expected shape {shape} and {dtype}, but got {out.shape}, {out.dtype}."
        )
    if not out.flags.writeable:
        raise ValueError(f"{where}: is read-only.")
    if _overlaps_itself(out):
        raise ValueError(f"{where}: several entries share one place; give each its own.")
    if np.may_share_memory(out, X):
        raise ValueError(f"{where}: overlaps X; give it memory of its own.")
    return out


def _overlaps_itself(out: Array) -> bool:
    """Tell whether two entries may share memory: no axis steps over all that the smaller ones span.

    What lies inside one another without sharing an entry is refused with the rest.
    """
    axes = sorted((abs(step), n) for n, step in zip(out.shape, out.strides, strict=True) if n > 1)
    spans = accumulate((step * (n - 1) for step, n in axes), initial=out.itemsize)
    return bool(out.size) and any(step < span for (step, _), span in zip(axes, spans, strict=False))
