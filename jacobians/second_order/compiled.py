"""Hessians by the compiled kernel: for a path of dense layers and scales with known activations.

The tape has the values, the matrices ``P_l = dz^l/dx``, and the cotangents of all outputs as rows;
every curved layer adds ``P_lᵀ diag(w) P_l`` for each output, in one step.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians._checks import Array, Indices, ShapeError
from jacobians._kernels import PROCESSORS, Program, Tape
from jacobians._kernels.codes import code_of
from jacobians._kernels.values import Value
from jacobians._machine import THREADS
from jacobians._workers import cut, share
from jacobians.activations import IDENTITY, Activation
from jacobians.engine.running import all_finite
from jacobians.layers import Dense, Elementwise, Scale
from jacobians.network import Network
from jacobians.planning import BLOCK_BYTES

TABLE = 2**18  # entries up to which products of constants are made beforehand
SHARED = 2**14  # entries of the result from which threads pay
TOGETHER = 16  # outputs in one program
PIECE = 128  # points at a time, so that threads which are held up have less left to do
_made: WeakKeyDictionary[Network, dict[Any, Program | None]] = WeakKeyDictionary()


def fill_in(
    H: Array, net: Network, x: Array, of: int, wrt: int, rows: Indices, budget: int
) -> bool:
    """Fill in the Hessians (B, m, n, n) at points (B, n_0); False if the kernel cannot."""
    groups = [slice(i, i + TOGETHER) for i in range(0, len(rows), TOGETHER)]
    programs = [program_of(net, of, wrt, rows[group]) for group in groups]
    ready = [program for program in programs if program is not None]
    if len(ready) < len(programs) or not len(x):
        return False
    threads = THREADS if H.size > SHARED else 1
    own = threads * (BLOCK_BYTES + max(program.point_bytes for program in ready))
    budget -= own + sum(program.constant_bytes for program in ready)
    apart = len(groups) > 1  # they are computed beside, and copied
    beside = threads * H[:1, groups[0]].nbytes if apart else 0
    if budget < beside:
        return False
    piece = min(PIECE, budget // beside) if apart else PIECE
    finite: list[bool] = []

    def one(part: slice, _: int) -> None:
        points = np.ascontiguousarray(x[part])
        for group, program in zip(groups, ready, strict=True):
            into = np.empty_like(H[part, group]) if apart else H[part]
            finite.append(program.run(points, into))
            if apart:
                H[part, group] = into

    share(one, cut(len(x), piece, threads), threads)
    return all(finite) and bool(np.isfinite(H).all())


def at_a_point(net: Network, x: Any) -> Array | None:
    """Answer by the kernel alone where the same was asked before: checks take longer than it."""
    try:
        program = _made[net][net.depth, 0, np.arange(net.widths[-1]).tobytes()]
    except (KeyError, TypeError):
        return None
    plain = type(x) is np.ndarray and x.flags.carray and x.dtype == net.dtype
    if program is None or not plain or x.shape != net.widths[:1] or not all_finite(x):
        return None
    H = np.empty((net.widths[-1], len(x), len(x)), net.dtype)
    return H if program.run(x, H) and all_finite(H.ravel()) else None


def program_of(net: Network, of: int, wrt: int, rows: Indices) -> Program | None:
    """Return the program that fills in one Hessian (B, n, n) for each row, from before if kept."""
    programs, key = _made.setdefault(net, {}), (of, wrt, rows.tobytes())
    if key not in programs:
        try:
            programs[key] = _tape_of(net, of, wrt, rows).pack() if PROCESSORS else None
        except (_NotOfTheKernel, ShapeError):  # what the kernel does not have, or not so large
            programs[key] = None
    return programs[key]


class _NotOfTheKernel(Exception):
    """A layer or activation for which there is no operation."""


def _tape_of(net: Network, of: int, wrt: int, rows: Indices) -> Tape:
    tape, n = Tape(net.dtype), net.widths[wrt]
    a, before = tape.read(1, net.widths[0]), None
    P: Any = np.eye(n)
    passed: list[tuple[Any, Value | None, Value | None, Any]] = []  # matrix, sigma', sigma'', P
    for l, layer in enumerate(net.layers[:of], start=1):
        if net.sources[l - 1] != (l - 1,):
            raise _NotOfTheKernel
        matrix, z = _forward(tape, layer, a)
        a, slopes, second = _activated(tape, layer.activation, z)
        if l > wrt:
            P, before = _carried(tape, matrix, before, P), slopes
            passed.append((matrix, slopes, second, P))
    if not any(second for _, _, second, _ in passed):
        raise _NotOfTheKernel  # all are 0: nothing to compute
    c = tape.constant(np.eye(net.widths[of])[rows])
    H, added = tape.written(len(rows) * n, n), False
    for matrix, slopes, second, P in reversed(passed):
        if second is not None:
            P = tape.constant(P) if isinstance(P, np.ndarray) else P
            tape.congruence(P, tape.scaling(c, second), into=H, added=added)
            added = True
        c = c if slopes is None else tape.scaling(c, slopes)
        back = tape.scaling if matrix.ndim == 1 else tape.product
        c = back(c, tape.constant(matrix))
    return tape


def _forward(tape: Tape, layer: Any, a: Value) -> tuple[Any, Value]:
    """Return ``dz/da``, a matrix or the entries of a diagonal, and z."""
    if type(layer) is Dense and layer.rows == 1:
        b = None if layer.b is None else tape.constant(layer.b)
        return layer.W, tape.product(a, tape.constant(layer.W.T), add=b)
    if type(layer) is Scale:
        shift = tape.constant(layer.shift)
        return layer.scale, tape.scaling(a, tape.constant(layer.scale), add=shift)
    if type(layer) is Elementwise:
        return np.ones(a.columns), tape.scaling(a)
    raise _NotOfTheKernel


def _activated(tape: Tape, sigma: Any, z: Value) -> tuple[Value, Value | None, Value | None]:
    """Return ``sigma(z)``, ``sigma'(z)`` and ``sigma''(z)``; None for slopes 1 and curvature 0."""

    def times(value: Value, number: float, by: Value | None = None) -> Value:
        scaled = tape.scaling(value, tape.constant(np.full(z.columns, number)))
        return scaled if by is None else tape.scaling(scaled, by)

    if sigma == IDENTITY:
        return z, None, None
    if not isinstance(sigma, Activation) or code_of(sigma) is None:
        raise _NotOfTheKernel
    a, slopes = tape.activation(z, sigma)
    if not sigma.curved:
        return a, slopes, None
    match sigma.name:
        case "tanh":
            return a, slopes, times(a, -2, slopes)
        case "sigmoid":  # -tanh(z/2) sigma', which keeps its digits near 0
            return a, slopes, times(tape.activation(times(z, 0.5), "tanh")[0], -1, slopes)
        case "softplus":
            return a, slopes, tape.activation(z, "sigmoid")[1]
        case "exp":
            return a, slopes, slopes
        case "sin":
            return a, slopes, times(a, -1)
        case "square":
            return a, slopes, tape.constant(np.full(z.columns, 2))
    raise _NotOfTheKernel


def _carried(tape: Tape, matrix: Any, slopes: Value | None, P: Any) -> Any:
    """Return ``matrix diag(slopes) P``, an array as long as nothing depends on the point."""
    constant, diagonal = isinstance(P, np.ndarray), matrix.ndim == 1
    if constant and slopes is None:
        return matrix[:, None] * P if diagonal else matrix @ P
    if constant and not diagonal and matrix.size * P.shape[1] <= TABLE:
        assert slopes is not None
        table = tape.constant(matrix.T[:, :, None] * P[:, None, :])
        return tape.product(slopes, table, tight=True)
    P = tape.constant(P) if constant else P
    P = P if slopes is None else tape.scaling(P, slopes, by_rows=True)
    if diagonal:
        return tape.scaling(P, tape.constant(matrix), by_rows=True)
    return tape.product(tape.constant(matrix), P)
