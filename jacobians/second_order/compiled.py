"""Hessians by the compiled kernel: for a path of dense layers and scales with known activations.

The tape has the values, the cotangents of every output as rows, and the matrices ``P_l`` with a row
for every unit.  ``P_lᵀ diag(w) P_l`` is a product turned; where P is constant (up to the first
slopes), the products of its entries are a table.
"""

from __future__ import annotations

from math import isfinite
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians._checks import Array, Places, ShapeError
from jacobians._kernels import PROCESSORS, Program, Tape
from jacobians._kernels.codes import code_of
from jacobians._kernels.values import Value
from jacobians._machine import THREADS
from jacobians.activations import Activation
from jacobians.engine.workers import cut, share
from jacobians.layers import Dense, Elementwise, Scale
from jacobians.network import Network
from jacobians.planning import BLOCK_BYTES

TABLE = 2**18  # entries up to which products of constants are made beforehand
PIECE, SHARED = 256, 2**14  # points at a time; entries of the result from which threads pay
OUTPUTS = 7  # arrays that a program takes beside the points
_made: WeakKeyDictionary[Network, dict[Any, Program | None]] = WeakKeyDictionary()


def fill_in(H: Array, net: Network, x: Array, of: int, wrt: int, rows: Places, budget: int) -> bool:
    """Fill in the Hessians (B, m, n, n) at points (B, n_0); False if the kernel cannot."""
    groups = [slice(i, i + OUTPUTS) for i in range(0, len(rows), OUTPUTS)]
    programs = [program_of(net, of, wrt, rows[group]) for group in groups]
    ready = [program for program in programs if program is not None]
    if len(ready) < len(programs) or not len(x):
        return False
    n, size, threads = H.shape[-1], net.dtype.itemsize, THREADS if H.size > SHARED else 1
    own = threads * (BLOCK_BYTES + max(program.point_bytes for program in ready))
    budget -= own + sum(program.constant_bytes for program in ready)
    piece = min(budget // (threads * OUTPUTS * n * n * size), PIECE)
    if piece < 1:
        return False
    finite: list[bool] = []

    def one(part: slice, _: int) -> None:
        points = np.ascontiguousarray(x[part])
        with np.errstate(all="ignore"):  # threads begin with warnings on
            for group, program in zip(groups, ready, strict=True):
                parts = [np.empty((len(points), n, n), H.dtype) for _ in rows[group]]
                finite.append(program.run(points, *parts))
                for whole, A in zip(H[part, group].swapaxes(0, 1), parts, strict=True):
                    np.add(A, A.swapaxes(1, 2), out=whole)  # both sides of the diagonal: one sum

    share(one, cut(len(x), piece, threads), threads)
    H *= 0.5
    return all(finite) and bool(np.isfinite(H).all())


def at_a_point(net: Network, x: Any) -> Array | None:
    """Answer by the kernel alone where the same was asked before: checks take longer than it."""
    try:
        program = _made[net][net.depth, 0, np.arange(net.widths[-1]).tobytes()]
    except (KeyError, TypeError):
        return None
    plain = type(x) is np.ndarray and x.flags.carray and x.dtype == net.dtype
    if program is None or not plain or x.shape != net.widths[:1] or not isfinite(x.dot(x)):
        return None
    A = np.empty((net.widths[-1], len(x), len(x)), net.dtype)
    finite = program.run(x, *A)
    A = (A + A.swapaxes(1, 2)) * A.dtype.type(0.5)
    return A if finite and isfinite(A.sum()) else None


def program_of(net: Network, of: int, wrt: int, rows: Places) -> Program | None:
    """Return the program that fills in one Hessian (B, n, n) for each row, from before if kept."""
    known, key = _made.setdefault(net, {}), (of, wrt, rows.tobytes())
    if key not in known:
        try:
            known[key] = _tape_of(net, of, wrt, rows).pack() if PROCESSORS else None
        except (_NotOfTheKernel, ShapeError):  # what the kernel does not have, or not so large
            known[key] = None
    return known[key]


class _NotOfTheKernel(Exception):
    """A layer or activation for which there is no operation."""


def _tape_of(net: Network, of: int, wrt: int, rows: Places) -> Tape:
    tape, n = Tape(net.dtype), net.widths[wrt]
    a: Value = tape.read(1, net.widths[0])
    P, before = np.eye(n, dtype=net.dtype), None
    passed: list[tuple[Any, Value | None, Value | None, Any]] = []  # matrix, sigma', sigma'', P
    for l, layer in enumerate(net.layers[:of], start=1):
        matrix, z = _forward(tape, layer, a, net.sources[l - 1] == (l - 1,))
        a, slopes, second = _activated(tape, layer.activation, z)
        if l > wrt:
            P, before = _carried(tape, matrix, before, P), slopes
            passed.append((matrix, slopes, second, P))
    if not any(second for _, _, second, _ in passed):
        raise _NotOfTheKernel  # all are 0: nothing to compute
    for row in rows:
        _of_output(tape, passed, np.eye(net.widths[of], dtype=net.dtype)[[row]], tape.written(n, n))
    return tape


def _forward(tape: Tape, layer: Any, a: Value, on_a_path: bool) -> tuple[Any, Value]:
    """Return ``dz/da``, a matrix or the entries of a diagonal, and z."""
    if on_a_path and type(layer) is Dense and layer.rows == 1:
        z = tape.product(a, tape.constant(layer.W.T), add=tape.constant(layer.b))
        return layer.W, z
    if on_a_path and type(layer) is Scale:
        shift = tape.constant(layer.shift)
        return layer.scale, tape.scaling(a, tape.constant(layer.scale), add=shift)
    if on_a_path and type(layer) is Elementwise:
        return np.ones(a.columns, tape.dtype), tape.scaling(a)
    raise _NotOfTheKernel


def _activated(tape: Tape, sigma: Any, z: Value) -> tuple[Value, Value | None, Value | None]:
    """Return ``sigma(z)``, ``sigma'(z)`` and ``sigma''(z)``; None for slopes 1 and curvature 0."""
    if not isinstance(sigma, Activation):
        raise _NotOfTheKernel
    if sigma.name == "identity" and sigma.piecewise_linear:
        return z, None, None
    if code_of(sigma) is None:
        raise _NotOfTheKernel
    a, slopes = tape.activation(z, sigma)
    if sigma.piecewise_linear:
        return a, slopes, None

    def row(number: float) -> Value:
        return tape.constant(np.full(z.columns, number))

    match sigma.name:
        case "tanh":
            return a, slopes, tape.scaling(tape.scaling(a, slopes), row(-2))
        case "sigmoid":  # -tanh(z/2) sigma', which keeps its digits near 0
            half, _ = tape.activation(tape.scaling(z, row(0.5)), "tanh")
            return a, slopes, tape.scaling(tape.scaling(half, slopes), row(-1))
        case "softplus":
            return a, slopes, tape.activation(z, "sigmoid")[1]
        case "exp":
            return a, slopes, slopes
        case "sin":
            return a, slopes, tape.scaling(a, row(-1))
        case "square":
            return a, slopes, row(2)
    raise _NotOfTheKernel


def _carried(tape: Tape, matrix: Any, slopes: Value | None, P: Any) -> Any:
    """Return ``matrix diag(slopes) P``."""
    if slopes is None:
        return _times(tape, matrix, P)
    if isinstance(P, np.ndarray) and matrix.ndim == 2 and matrix.size * P.shape[1] <= TABLE:
        return tape.product(slopes, tape.constant(matrix.T[:, :, None] * P[:, None, :]))
    return _times(tape, matrix, tape.scaling(_value(tape, P), slopes, by_rows=True))


def _of_output(tape: Tape, passed: list[Any], c: Any, out: Value) -> None:
    """Go back from one output and add up its congruences."""
    terms: list[tuple[Value, Any]] = []
    for matrix, slopes, second, P in reversed(passed):
        if second is not None:
            terms.append((_scaled(tape, c, second), P))
        c = c if slopes is None else _scaled(tape, c, slopes)
        if matrix is not passed[0][0]:
            c = _times(tape, c, matrix) if matrix.ndim == 2 else _scaled(tape, c, matrix)
    total: Value | None = None
    for k, (w, P) in enumerate(reversed(terms)):  # constant matrices come first
        into = out if k == len(terms) - 1 else None
        if isinstance(P, np.ndarray) and total is None and P.size * P.shape[1] <= TABLE:
            total = tape.product(w, tape.constant(P[:, :, None] * P[:, None, :]), into=into)
            continue
        P = _value(tape, P)
        weighted = tape.scaling(P, w, by_rows=True)
        total = tape.product(P, weighted, turned=True, add=total, into=into)


def _value(tape: Tape, A: Any) -> Value:
    return tape.constant(A) if isinstance(A, np.ndarray) else A


def _scaled(tape: Tape, a: Any, d: Any) -> Any:
    """Multiply a row by another one."""
    if isinstance(a, np.ndarray) and isinstance(d, np.ndarray):
        return a * d
    first, scale = (d, a) if isinstance(a, np.ndarray) else (a, d)
    return tape.scaling(_value(tape, first), _value(tape, scale))


def _times(tape: Tape, A: Any, B: Any) -> Any:
    """Multiply a constant matrix, or the entries of a diagonal, by a matrix; or a row by one."""
    if isinstance(A, np.ndarray) and isinstance(B, np.ndarray):
        return A[:, None] * B if A.ndim == 1 else A @ B
    if isinstance(A, np.ndarray) and A.ndim == 1:
        return tape.scaling(B, tape.constant(A), by_rows=True)
    return tape.product(_value(tape, A), _value(tape, B))
