"""JVPs and VJPs of a batch: a vector goes through the network with each point, no matrix is formed.

    J v  = D^L (W^L (... D^1 (W^1 v)))        with the values, from the input to the output
    Jᵀ c = W^1ᵀ (D^1 (... W^Lᵀ (D^L c)))      after the values, once all slopes are there

The program of a Jacobian with a single row for each point.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians._checks import Array, as_floats, require_shape
from jacobians._kernels import PROCESSORS
from jacobians._kernels.translating import tape_of
from jacobians._machine import THREADS
from jacobians._tables import PointsLike, as_inputs, in_order, named_as, outputs_in_order
from jacobians.compiling import compile_sweep
from jacobians.engine.kernels import Kernels
from jacobians.engine.running import Runner, quiet
from jacobians.engine.scaling import product_at
from jacobians.factors import factors_of
from jacobians.network import Network, as_network
from jacobians.planning import threads_that_pay
from jacobians.program import Limits


def jvp(net: Network, X: PointsLike, tangents: Any) -> Array:
    """Push a tangent at each point forward: ``J v``, never forming ``J``.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)
    tangents : array of the same shape

    Returns
    -------
    array, shape (n_L,) or (B, n_L)

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If points or tangents do not fit.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> jvp(net, [[1], [2]], [[1], [10]])  # of 3 x² + (2x)²
    array([[ 14.],
           [280.]])
    """
    return _sweep(net, X, tangents, "jvp: tangents", forward=True)


def vjp(net: Network, X: PointsLike, cotangents: Any) -> Array:
    """Pull a cotangent at each output back: ``Jᵀ c``, never forming ``J``.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)
    cotangents : array, shape (n_L,) or (B, n_L)

    Returns
    -------
    array, shape (n_0,) or (B, n_0)

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If points or cotangents do not fit.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1], [2]], activation="square"), jb.Dense([[3, 1]])])
    >>> vjp(net, [[1], [2]], [[1], [10]])
    array([[ 14.],
           [280.]])
    """
    return _sweep(net, X, cotangents, "vjp: cotangents", forward=False)


def _sweep(net: Network, X: PointsLike, vectors: Any, where: str, forward: bool) -> Array:
    verb = where.partition(":")[0]
    net = as_network(net, verb)
    points = as_inputs(X, net, f"{verb}: X")
    named = named_as(X, net)  # tangents lie beside the points, cotangents beside the outputs
    given = in_order(vectors, named, where) if forward else outputs_in_order(vectors, net, where)
    V = as_floats(given, where, dtype=net.dtype)
    entering, leaving = _ends(net, forward)
    require_shape(V, (*points.shape[:-1], entering), where, "One for each point.")
    result = np.empty((*points.shape[:-1], leaving), net.dtype)
    _fill(net, points, V, result, forward)
    if not np.isfinite(result).all():  # tell it the way NumPy is set to tell it
        np.square(np.finfo(result.dtype).max)
    return result


@quiet
def _fill(net: Network, points: Array, vectors: Array, result: Array, forward: bool) -> None:
    X, V, out = (A if A.ndim == 2 else A[None] for A in (points, vectors, result))

    def repair(x: Array, v: Any) -> Array:
        ends = net.depth, 0
        pairs = zip(x, v, strict=True)
        return np.stack([product_at(net, p, *ends, u[:, None], not forward).T for p, u in pairs], 1)

    _runner(net, X, forward).batch(net, X, out[None], None, repair, V)


def _ends(net: Network, forward: bool) -> tuple[int, int]:
    """Return the widths of a vector and of what becomes of it."""
    ends = net.widths[0], net.widths[-1]
    return ends if forward else ends[::-1]


LIMITS = Limits()

# --- what is prepared for a network, and kept while it lives --------------------------------------

_prepared: WeakKeyDictionary[Network, dict[tuple[bool, int], Runner]] = WeakKeyDictionary()


def _runner(net: Network, X: Array, forward: bool) -> Runner:
    key = (forward, 1 << (len(X) - 1).bit_length() if len(X) else 0)
    kept = _prepared.get(net, {})
    if key in kept:
        return kept[key]
    limits, size = LIMITS, net.dtype.itemsize
    near = X[0] if len(X) else None
    factors = factors_of(net, net.depth, 0, written_out=limits.written_out, near=near)
    program = compile_sweep(net, factors, forward, limits)
    entering, leaving = _ends(net, forward)
    tape = None
    if PROCESSORS:
        tape = tape_of(program, net.dtype, net.widths[0], (1, leaving), entering, 0)
    work = sum(factor.flops for factor in factors)
    threads = threads_that_pay(net, net.depth, key[1], work, 0, THREADS, limits, tape is not None)
    piece = max(1, limits.small_piece_bytes // (program.point_numbers * size))
    packed = None if tape is None else tape.pack()
    kernels = Kernels(limits, threads, THREADS)
    runner = Runner(net.depth, net.dtype, program, kernels, piece, threads, packed)
    _prepared[net] = {**kept, key: runner}
    return runner
