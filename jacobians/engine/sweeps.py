"""JVPs and VJPs of a batch: a vector goes through the network with each point, no matrix is formed.

    J v  = D^L (W^L (... D^1 (W^1 v)))        with the values, from the input to the output
    Jᵀ c = W^1ᵀ (D^1 (... W^Lᵀ (D^L c)))      after the values, once all slopes are there

In pieces that stay in the cache, on threads where they pay.  Points for which that is not certain
to stay in range, and layers of users' own, go through ``linearization``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians._checks import Array, as_floats, as_points, require_shape, underflow_is_rounding
from jacobians._sigma import INTO_MEMORY
from jacobians.activations import IDENTITY, Activation
from jacobians.engine.forward import Forward, is_known, slope_formula
from jacobians.engine.memory import WARM_BYTES, Fresh, Pool, borrow, bring_back
from jacobians.engine.point import prepare_point
from jacobians.engine.ranges import is_within, safe_radius
from jacobians.engine.workers import cut, share
from jacobians.factors import factors_of
from jacobians.linearization import linearize
from jacobians.network import Network, as_network
from jacobians.planning import THREAD_PIECE_BYTES, THREADS, threads_that_pay


@underflow_is_rounding
def jvp(net: Network, X: Any, tangents: Any) -> Array:
    """Push a tangent at each point forward: ``J v``, never forming ``J``.

    Parameters
    ----------
    net : Network
    X : array, shape (n_0,) or (B, n_0)
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
    net = as_network(net, "jvp")
    points = as_points(X, net.widths[0], "jvp: X", net.dtype)
    T = as_floats(tangents, "jvp: tangents", dtype=net.dtype)
    require_shape(T, points.shape, "jvp: tangents", "One for each point.")
    return _Run(net, points, T, net.widths[-1], forward=True).result


@underflow_is_rounding
def vjp(net: Network, X: Any, cotangents: Any) -> Array:
    """Pull a cotangent at each output back: ``Jᵀ c``, never forming ``J``.

    Parameters
    ----------
    net : Network
    X : array, shape (n_0,) or (B, n_0)
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
    net = as_network(net, "vjp")
    points = as_points(X, net.widths[0], "vjp: X", net.dtype)
    C = as_floats(cotangents, "vjp: cotangents", dtype=net.dtype)
    require_shape(C, (*points.shape[:-1], net.widths[-1]), "vjp: cotangents", "One for each point.")
    return _Run(net, points, C, net.widths[0], forward=False).result


class _Run:
    """One call: points, a vector for each, and the result."""

    def __init__(self, net: Network, X: Array, V: Array, width: int, forward: bool) -> None:
        self.net, self.forward, self.prepared = net, forward, _prepared(net)
        self.result = np.empty((*X.shape[:-1], width), net.dtype)
        if X.ndim == 1 and self._at_a_point(X, V):
            return
        self.X, self.V, self.out = (np.atleast_2d(A) for A in (X, V, self.result))
        threads, piece = _division(net, len(self.X))
        self.layers = self.prepared.layers(threads > 1)
        pieces = cut(len(self.X), piece, threads)
        if len(self.X) * max(net.widths) * net.dtype.itemsize <= WARM_BYTES:
            self._piece(slice(None), Fresh(net.dtype))
            return
        pools = [borrow(net.dtype) for _ in range(threads)]
        share(lambda where, k: self._piece(where, pools[k]), pieces, threads)
        for pool in pools:
            bring_back(pool)

    def _at_a_point(self, x: Array, v: Array) -> bool:
        point = self.prepared.point
        with np.errstate(all="ignore"):
            if point is None or not is_within(x, point.radius):
                return False
            factors = point.factors(point.row(x))
            for A in reversed(factors) if self.forward else factors:
                v = A * v if A.ndim == 1 else A.dot(v) if self.forward else v.dot(A)
            self.result[...] = v
        return bool(np.isfinite(self.result).all())

    def _piece(self, where: slice, pool: Pool | Fresh) -> None:
        x, v, out = self.X[where], self.V[where], self.out[where]
        with np.errstate(all="ignore"):
            if self.layers and is_within(x, self.prepared.radius):
                sweep = _push if self.forward else _pull
                result = sweep(self.layers, x, v, pool)
                out[...] = result
                pool.give(result)
                if np.isfinite(out).all():
                    return
        lin = linearize(self.net, x)
        out[...] = lin.jvp(v) if self.forward else lin.vjp(v)


def _push(layers: tuple[_Layer, ...], x: Array, t: Array, pool: Pool | Fresh) -> Array:
    found = _slopes(layers, x, pool)
    for layer in layers:
        pushed = layer.way.push(t, pool)
        if pushed is not t:
            pool.give(t)
        slopes = next(found)  # as soon as the preactivation is known: no layer's are kept
        t = _times(slopes, pushed, False, pool)
        pool.give(slopes)
    return t


def _pull(layers: tuple[_Layer, ...], x: Array, c: Array, pool: Pool | Fresh) -> Array:
    kept = list(_slopes(layers, x, pool))
    for layer, slopes in zip(reversed(layers), reversed(kept), strict=True):
        delta = _times(slopes, c, True, pool)
        pool.give(slopes)
        c = layer.way.pull(delta, pool)
        if c is not delta:
            pool.give(delta)
    return c


def _slopes(layers: tuple[_Layer, ...], x: Array, pool: Pool | Fresh) -> Iterator[Any]:
    """Yield the slopes of every layer, going no further with the values than slopes need them."""
    needed = max((l for l, layer in enumerate(layers, 1) if not layer.straight), default=0)
    a = x
    for l, layer in enumerate(layers, 1):
        if l > needed:
            yield None
            continue
        z = layer.way.preactivation(a, pool)
        if a is not z:
            pool.give(a)
        slopes = None if layer.straight else layer.slopes(z, pool)
        if l < needed:
            a = layer.way.activation(z, pool)
        else:
            pool.give(z)
        yield slopes


def _times(slopes: Any, v: Array, transposed: bool, pool: Pool | Fresh) -> Array:
    """Multiply by an activation's Jacobian: None for I, a vector, or ``diag(d) + U Vᵀ``."""
    if slopes is None:
        return v
    if isinstance(slopes, tuple):
        d, U, V = slopes
        if transposed:
            U, V = V, U
        along = (V * v[..., :, None]).sum(axis=-2)
        low_rank: Array = d * v + (U * along[..., None, :]).sum(axis=-1)
        return low_rank
    result: Array = np.multiply(v, slopes, out=v if pool.owns(v) else pool.take(v.shape))
    return result


# --- what is prepared for a network, and kept while it lives --------------------------------------


class _Layer:
    """A layer both ways, and how its activation Jacobian is found."""

    def __init__(self, layer: Any, slabs: bool) -> None:
        self.way = Forward(layer, slabs)
        sigma = layer.activation
        self.straight = sigma == IDENTITY
        self._formula: Any = slope_formula(sigma) if isinstance(sigma, Activation) else sigma.parts

    def slopes(self, z: Array, pool: Pool | Fresh) -> Any:
        into = {"out": pool.take(z.shape)} if self._formula in INTO_MEMORY else {}
        return self._formula(z, **into)


class _Prepared:
    """The ways through a network: for a point, and for batches on one thread or several."""

    def __init__(self, net: Network) -> None:
        self.point = prepare_point(net, net.depth, factors_of(net, net.depth, 0))
        self.radius = safe_radius(net, net.depth)
        known = all(is_known(layer) for layer in net.layers)
        self._layers = net.layers if known else ()
        self._bound: dict[bool, tuple[_Layer, ...]] = {}

    def layers(self, slabs: bool) -> tuple[_Layer, ...]:
        """Return the layers, or none if some are not the library's own."""
        if slabs not in self._bound:
            self._bound[slabs] = tuple(_Layer(layer, slabs) for layer in self._layers)
        return self._bound[slabs]


_prepared_before: WeakKeyDictionary[Network, _Prepared] = WeakKeyDictionary()


def _prepared(net: Network) -> _Prepared:
    found = _prepared_before.get(net)
    return found or _prepared_before.setdefault(net, _Prepared(net))


def _division(net: Network, batch: int) -> tuple[int, int]:
    """Return how many threads pay, and how many points they take at a time."""
    ways = sum(m * n for m, n in pairwise(net.widths))
    threads = threads_that_pay(net, net.depth, batch, 2.0 * ways, 0, THREADS)
    numbers = sum(net.widths) + 4 * max(net.widths)
    return threads, max(1, THREAD_PIECE_BYTES // (numbers * net.dtype.itemsize))
