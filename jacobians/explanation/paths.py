"""Integrals of the Jacobian along the segments from baselines to a point.

    contribution of x_j  =  (x_j - b_j)  integral over t from 0 to 1 of dH/dx_j (b + t (x - b)),

the integrated gradients of M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep
networks" (ICML 2017).  Each segment is cut where the network bends.  Where the network is straight
between the cuts its Jacobian is constant there, and one in the middle of each piece is the exact
integral; else the pieces are integrated by adaptive Gauss-Kronrod quadrature, all with the same
nodes, so that neither kinks nor the number of baselines cost accuracy.

For a hidden node the integrand is ``da^of/da^l`` times ``da^l/dt``: the conductance of
K. Dhamdhere, M. Sundararajan, Q. Yan, "How important is a neuron?" (ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import Array, Indices, refuse_if_too_large
from jacobians._progress import Show, silent
from jacobians._text import counted
from jacobians.activations import IDENTITY
from jacobians.engine import jacobian
from jacobians.explanation.quadrature import integrate
from jacobians.explanation.segments import bends
from jacobians.linearization import activation_map, linearize
from jacobians.maps import LinearMap, Product
from jacobians.network import Network
from jacobians.planning import Plan, plan
from jacobians.tracing import trace

CHUNK = 2**21  # entries of Jacobians at a time
SAMPLE = 200  # pieces for the estimate of rounding
UNSETTLED = 1e-3  # relative error of a quadrature that says nothing
ULPS = 4  # that an activation may be off by
LIKELY = 4.0  # so many times sqrt(n) of n roundings do not all go one way


@dataclass(frozen=True, eq=False, repr=False)
class Paths:
    """The segments from baselines (B, n) to a point (n,), and what of the network is asked.

    Attributes
    ----------
    rows : tuple of int
        Which entries of ``a^of``.
    integrated : bool
        Whether gradients are integrated, or taken at the point alone.
    tolerance : float
        Of a quadrature, relative to the integral of the largest ``|integrand|`` of the output.
    """

    net: Network
    x: Array
    baselines: Array
    of: int
    rows: tuple[int, ...]
    integrated: bool
    tolerance: float

    def __repr__(self) -> str:
        return f"Paths from {counted(len(self.baselines), 'baseline')} to a point of {self.net}"

    @cached_property
    def _cuts(self) -> list[tuple[Array, bool]]:
        if not self.integrated:  # the gradient at the end counts for all of the segment
            return [(np.array([1.0, 2.0]), True)] * len(self.baselines)
        return [bends(self.net, b, self.x, self.of) for b in self.baselines]

    @cached_property
    def pieces(self) -> tuple[Indices, Array, Array]:
        """Of every piece: its baseline, where it starts, how long it is; (K,) each."""
        cuts = [t for t, _ in self._cuts]
        which = np.repeat(np.arange(len(cuts)), [len(t) - 1 for t in cuts])
        starts = np.concatenate([t[:-1] for t in cuts])
        return which, starts, np.concatenate([np.diff(t) for t in cuts])

    @property
    def kinks(self) -> int:
        """How many kinks were found on all segments."""
        return len(self.pieces[0]) - len(self.baselines)

    @property
    def exact(self) -> bool:
        """Whether the network is straight on every piece."""
        return all(straight for _, straight in self._cuts)

    def contributions(self, l: int = 0, show: Show = silent) -> tuple[Array, Array]:
        """Return those of the entries of ``a^l``, (B, m, n_l), and how far they may be off, (m,).

        The second is the estimate of the quadrature, 0 where there is none.
        """
        m, n = len(self.rows), self.net.widths[l]
        shape = (len(self.baselines), m, n)
        way_out = "Take fewer baselines or outputs (rows=)"
        refuse_if_too_large(shape, np.dtype(np.float64), "explain", way_out)
        if self.exact:
            return self._at(0.5 if self.integrated else 0.0, l, show), np.zeros(m)
        value, before = self.values()
        moved = (value != before).any(axis=0)
        integral, error, size = integrate(lambda s: self._at(s, l, show), self.tolerance, moved)
        return integral, np.where(error <= UNSETTLED * size, error, np.inf)

    def _at(self, s: float, l: int, show: Show) -> Array:
        """Return the integrand at the share ``s`` of every piece, summed over the pieces.

        The maps in front of ``z^first`` are the same everywhere, so they are applied to the sums.
        """
        first, fixed = self._fixed if l == 0 else (0, [])
        m, n = len(self.rows), self.net.widths[first or l]
        total: Array = np.zeros((len(self.baselines), m, n))
        for points, d, which, lengths in self._points(s, m * n):
            J = jacobian(self.net, points, plan=self._plan(first or l))
            if first:
                *_, (_, _, z, _) = self.net.forward(points, first)
                D = activation_map(self.net.layers[first - 1].activation, z)
                J = D.transpose().apply(J.swapaxes(1, 2)).swapaxes(1, 2)
            if l:
                chain: Any = Product(linearize(self.net, points).between(l, 0))
                J = J * chain.apply(d[:, :, None])[:, None, :, 0]
            starts = np.flatnonzero(np.diff(which, prepend=-1))
            total[which[starts]] += np.add.reduceat(J * lengths[:, None, None], starts)
            show(len(points))
        for A in fixed:
            total = A.transpose().apply(total.swapaxes(1, 2)).swapaxes(1, 2)
        return total if l else total * (self.x - self.baselines)[:, None, :]

    @cached_property
    def _fixed(self) -> tuple[int, list[LinearMap]]:
        """Return the last ``z^l`` that is one linear map of the inputs everywhere, and its factors.

        The first of the factors is applied to the inputs last.
        """
        net, first = self.net, 0
        factors: list[LinearMap] = []
        lin = linearize(net, self.x)
        while first + 1 < self.of and net.last_reader.get(first) == first + 1:
            layer, sources = net.layers[first], net.sources[first]
            behind_a_curve = first and net.layers[first - 1].activation != IDENTITY
            if behind_a_curve or layer.kinked or not layer.piecewise_linear or len(sources) > 1:
                break
            first += 1
            factors.insert(0, lin.input_maps(first)[0])
        return (first, factors) if net.widths[first] <= net.widths[0] else (0, [])

    def _plan(self, wrt: int) -> Plan:
        if wrt not in self._plans:
            m = len(self.rows)
            size = min(len(self.pieces[0]), max(1, CHUNK // (m * self.net.widths[wrt])))
            every = self.rows == tuple(range(self.net.widths[self.of]))
            rows = None if every else list(self.rows)  # no selection at all is quicker
            self._plans[wrt] = plan(self.net, size, of=self.of, wrt=wrt, rows=rows, near=self.x)
        return self._plans[wrt]

    def _points(
        self, s: float, entries: int, chosen: Any = slice(None)
    ) -> Iterator[tuple[Array, Array, Indices, Array]]:
        """Yield for some pieces at a time: points, steps ``x - b``, baselines, lengths."""
        which, starts, lengths = (of_pieces[chosen] for of_pieces in self.pieces)
        size = max(1, CHUNK // max(entries, *self.net.widths))
        for first in range(0, len(which), size):
            part = slice(first, first + size)
            b = self.baselines[which[part]]
            d, left = self.x - b, 1 - (starts[part] + s * lengths[part])
            yield self.x - left[:, None] * d, d, which[part], lengths[part]

    @cached_property
    def _plans(self) -> dict[int, Plan]:
        return {}

    # --- values and their rounding ----------------------------------------------------------------

    def values(self) -> tuple[Array, Array]:
        """Return ``H(x)``, (m,), and ``H`` at every baseline, (B, m)."""
        seen = trace(self.net, np.vstack([self.x, self.baselines])).activation(self.of)
        return seen[0, self.rows], seen[1:, self.rows]

    def rounding(self) -> Array:
        """Estimate how far rounding may move the sum of contributions from ``H(x) - H(b)``, (m,).

        To first order: the rounding of both values, twice since the products with the Jacobians
        round the same terms, and that of the value on both sides of every kink, which is where a
        kink that is rounded away from its place shows.  The latter do not depend on each other, so
        they add up in squares; of many pieces some are looked at.
        """
        ends, K = np.vstack([self.x, self.baselines]), len(self.pieces[0])
        some = np.unique(np.linspace(0, K - 1, min(K, SAMPLE)).astype(np.intp))
        spread: Any = 0.0  # the root of the sum of squares, which may be out of range
        for points, *_ in self._points(0.5 if self.integrated else 0.0, 1, some):
            sides = 2 * _rounding(self.net, points, self.of) / len(self.baselines)
            spread = np.hypot(spread, np.hypot.reduce(sides, axis=0))
        at_x, *at_baselines = 2 * _rounding(self.net, ends, self.of)
        total = at_x + np.mean(at_baselines, axis=0) + spread * np.sqrt(K / len(some))
        allowed: Array = np.nan_to_num(total[list(self.rows)], nan=np.inf)
        return allowed


def _rounding(net: Network, points: Array, of: int) -> Array:
    """Estimate the rounding of ``a^of`` at points, (B, n_of).

    The roundings of every node go through the absolute values of all maps behind it.
    """
    lin, unit = linearize(net, points), np.finfo(np.float64).eps / 2
    off: dict[int, Array] = {0: unit * np.abs(points)}
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for l in range(1, of + 1):
            total = unit * np.abs(lin.trace.preactivations[l - 1])
            for s, A in zip(net.sources[l - 1], lin.input_maps(l), strict=True):
                entering = off[s] + _terms(A) * unit * np.abs(lin.trace.activations[s])
                total = total + _through(A, entering)
            off[l] = _through(lin.activation_map(l), total)
            if not net.layers[l - 1].activation.piecewise_linear:
                off[l] += 2 * ULPS * unit * np.abs(lin.trace.activations[l])
    return off[of]


def _terms(A: LinearMap) -> float:
    """Return how many unit roundings those of a path amount to, the contraction included.

    Of n of them no more than a few times sqrt(n) can be expected: N. J. Higham, T. Mary, "A new
    approach to probabilistic rounding error analysis" (SIAM J. Sci. Comput. 41, 2019).
    """
    contraction = 0 if A.monomial else A.flops / (2 * A.shape[0])
    count = float(np.max(A.roundings(), initial=0)) + contraction + 1
    return float(min(count, LIKELY * count**0.5))


def _through(A: LinearMap, sizes: Array) -> Array:
    """Apply the magnitude of a map to rows (B, n), in one product if it is one map for all."""
    magnitude = A.magnitude()
    if magnitude is None:
        return np.full((len(sizes), A.shape[0]), np.inf)
    if magnitude.batch:
        return magnitude.apply(sizes[..., None])[..., 0]
    return np.ascontiguousarray(magnitude.apply(np.ascontiguousarray(sizes.T)).T)
