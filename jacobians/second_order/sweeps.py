"""Two sweeps between parameters and outputs: tangents forward, cotangents back.

    t^l = D^l (W^l t^{l-1} + P^l v^l)                    J v   is t^L
    c^{l-1} = W^lᵀ delta^l,   delta^l = D^lᵀ c^l         Jᵀ u  is the sum of P^lᵀ delta^l

with ``P^l = dz^l/dvec(theta^l)``.  For a dense layer ``P v`` is ``V a`` and the sum over points of
``Pᵀ delta`` is one matrix product: a derivative of all parameters at all points is never formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.linearization import Linearization, parameter_maps
from jacobians.maps import Identity, Kronecker, LinearMap, Product
from jacobians.network import Network
from jacobians.second_order.khatri_rao import KhatriRao

Blocks = dict[int, dict[str, slice]]  # of a vector of parameters, by layer and name


def parameter_blocks(net: Network, layers: tuple[int, ...] | None = None) -> Blocks:
    """Return where the parameters of some layers (all unless said) stand in their vector."""
    blocks: Blocks = {}
    start = 0
    for l, layer in enumerate(net.layers, start=1):
        parameters = layer.parameters() if layers is None or l in layers else {}
        for name, p in parameters.items():
            blocks.setdefault(l, {})[name] = slice(start, start + p.size)
            start += p.size
    return blocks


@dataclass(frozen=True, eq=False)
class Sweeps:
    """Both sweeps at some points, for the parameters of some layers.

    They end at the output ``a^L``, or before its activation where loss and activation are fused.
    """

    lin: Linearization
    blocks: Blocks
    fused: bool = False

    @cached_property
    def maps(self) -> dict[int, dict[str, LinearMap]]:
        """The maps ``dz^l/dvec(theta)``."""
        trace = self.lin.trace
        maps = {
            l: parameter_maps(trace.network.layers[l - 1], *trace.entering(l)) for l in self.blocks
        }
        return {l: {name: maps[l][name] for name in self.blocks[l]} for l in self.blocks}

    @cached_property
    def moved(self) -> set[int]:
        """The nodes that some parameter moves."""
        moved: set[int] = set()
        for l, sources in enumerate(self.lin.trace.network.sources, start=1):
            if l in self.blocks or moved.intersection(sources):
                moved.add(l)
        return moved

    def activation_map(self, l: int) -> LinearMap | None:
        """Return ``D^l``; nothing where the sweeps end before it."""
        at_end = self.fused and l == self.lin.trace.network.depth
        return None if at_end else self.lin.activation_map(l)

    def tangents(self, V: Array) -> dict[int, tuple[Array, Array]]:
        """Return the tangents (B, n_l, k) at ``z^l`` and ``a^l`` for ``V``, (p, k)."""
        net, B = self.lin.trace.network, self.lin.trace.batch
        at: dict[int, tuple[Array, Array]] = {}
        for l in sorted(self.moved):
            t: Any = 0
            for s, A in zip(net.sources[l - 1], self.lin.input_maps(l), strict=True):
                if s in at:
                    t = t + A.apply(at[s][1])
            for name, span in self.blocks.get(l, {}).items():
                t = t + applied(self.maps[l][name], V[span])
            t, D = np.broadcast_to(t, (*B, net.widths[l], V.shape[1])), self.activation_map(l)
            at[l] = t, D.apply(t) if D else t
        return at

    def push(self, V: Array) -> Array:
        """Return ``J V`` at every point, (B, m, k)."""
        return self.tangents(V)[self.lin.trace.network.depth][1]  # which every parameter moves

    def deltas(self, U: Array) -> Iterator[tuple[int, Array, Array]]:
        """Go back from ``U``, (B, m, k): yield l and the cotangents at ``a^l`` and ``z^l``."""
        net = self.lin.trace.network
        at: dict[int, Any] = {net.depth: U}
        for l in sorted(self.moved, reverse=True):
            c = at.pop(l)
            D = self.activation_map(l)
            delta = D.T.apply(c) if D else c
            yield l, c, delta
            for s, A in zip(net.sources[l - 1], self.lin.input_maps(l), strict=True):
                if s in self.moved:
                    at[s] = at.get(s, 0) + A.T.apply(delta)

    def pull(self, U: Array) -> Array:
        """Return the sum over points of ``Jᵀ U``, (p, k), for ``U`` of shape (B, m, k)."""
        size = max(span.stop for spans in self.blocks.values() for span in spans.values())
        pulled = np.empty((size, U.shape[2]), U.dtype)
        for l, _, delta in self.deltas(U):
            for name, span in self.blocks.get(l, {}).items():
                pulled[span] = summed(self.maps[l][name], delta)
        return pulled

    def rows(self, S: Array) -> Iterator[tuple[int, KhatriRao]]:
        """Yield for every layer the rows ``Sᵀ J`` of its parameters, for ``S`` (B, m, r)."""
        for l, a, delta in self.outer_products(S):
            (B, t, n), (_, _, m, r) = a.shape, delta.shape
            right = np.swapaxes(delta, 2, 3)
            if t == 1:
                yield l, KhatriRao(a[:, 0], right[:, 0])
                continue
            written_out = a.swapaxes(1, 2) @ right.reshape(B, t, r * m)
            each = written_out.reshape(B, n, r, m).swapaxes(1, 2).reshape(B, r, n * m)
            yield l, KhatriRao(np.ones((B, 1), S.dtype), each)

    def outer_products(self, S: Array) -> Iterator[tuple[int, Array, Array]]:
        """Yield l, ``(a_t, 1)``, (B, t, n), and ``delta_t``, (B, t, m, r), of every layer.

        Its rows are the sums over positions t of ``(a_tᵀ, 1) ⊗ delta_tᵀ``; where there is no such
        product, ``a`` is 1 and ``delta`` are the rows themselves.
        """
        B, _, r = S.shape
        for l, _, delta in self.deltas(S):
            if l not in self.blocks:
                continue
            pair = self.outer(l)
            if pair is None:
                each = [P.T.apply(delta) for P in self.maps[l].values()]
                yield l, np.ones((B, 1, 1), S.dtype), np.concatenate(each, axis=1)[:, None]
                continue
            a, moves = pair
            for A in moves:
                delta = A.T.apply(delta)
            yield l, a, delta.reshape(B, a.shape[1], -1, r)

    def outer(self, l: int) -> tuple[Array, tuple[LinearMap, ...]] | None:
        """Return ``(a_t, 1)``, (B, t, n), and the maps that put the ``delta_t`` where they belong.

        The weight's map says whether there are such: ``moves (A ⊗ I)``, with a row of A for each
        position (a token, a patch).  A bias must be ``moves (1 ⊗ I)``; a vector shows whether.
        """
        first, *others = self.maps[l].values()
        *moves, last = _factors(first)
        a = _left(last)
        if a is None:
            return None
        (B, t, _), m, lefts = a.shape, first.shape[0] // a.shape[1], [a]
        probe = np.sqrt(np.arange(2, m + 2, dtype=a.dtype))[:, None]
        moved = np.tile(probe, (t, 1))
        for A in reversed(moves):
            moved = A.apply(moved)
        for P in others:
            if P.shape[1] != m or not (P.apply(probe) == moved).all():
                return None
            lefts.append(np.ones((B, t, 1), a.dtype))
        return np.concatenate(lefts, axis=2), tuple(moves)


def _factors(P: LinearMap) -> tuple[LinearMap, ...]:
    return P.factors if isinstance(P, Product) else (P,)


def _left(P: LinearMap) -> Array | None:
    """Return ``A``, (B, t, n), of a map ``A ⊗ I``."""
    if isinstance(P, Kronecker) and isinstance(P.right, Identity) and P.left.batch:
        return P.left.to_dense()
    return None


def applied(P: LinearMap, V: Array) -> Array:
    """Return ``P V`` at every point, for columns (p, k) that all points share."""
    for A in reversed(_factors(P)):
        left = _left(A)
        if left is None or V.ndim > 2:
            V = A.apply(V)
        else:  # (A ⊗ I) vec(V) = vec(V Aᵀ), for all points in one product
            B, k = len(left), V.shape[1]
            V = np.tensordot(left, V.reshape(left.shape[2], -1, k), 1).reshape(B, -1, k)
    return V


def summed(P: LinearMap, delta: Array) -> Array:
    """Return the sum over points of ``Pᵀ delta``, for ``delta`` of shape (B, n, k).

    The sum is taken as soon as no factor that is left depends on the point.
    """
    factors = _factors(P)
    last = max((i for i, A in enumerate(factors) if A.batch), default=None)
    if last is None:
        return P.T.apply(delta.sum(axis=0))
    for A in factors[:last]:
        delta = A.T.apply(delta)
    left, k = _left(factors[last]), delta.shape[2]
    if left is None:
        total: Array = factors[last].T.apply(delta).sum(axis=0)
    else:  # as above
        cotangents = delta.reshape(*left.shape[:2], -1, k)
        total = np.tensordot(left, cotangents, ((0, 1), (0, 1))).reshape(-1, k)
    for A in factors[last + 1 :]:
        total = A.T.apply(total)
    return total
