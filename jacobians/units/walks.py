"""How a graph of units is walked: level by level, or round and round where there are cycles.

Whatever a graph is asked, the answer solves ``v = phi(A v)`` with a ``phi`` that acts on each unit:

================ ========================== ============================
values           ``h = sigma(A h + u)``     with ``u = B x + b``
derivatives      ``v = D A v + r``          ``(I - D A) v = r``
backpropagation  ``δ = D (Aᵀ δ + c)``       ``(I - D Aᵀ) δ = D c``
================ ========================== ============================

Without directed cycles every unit waits for finitely many others.  A unit that waits for none is on
level 1, any other one level above the highest it waits for; so the units of one level know nothing
of each other and are done at once, a sum over the edges that arrive and then ``phi``.  This is
substitution in a unit triangular system: each edge is met once, and nothing is inverted, so that
whole numbers stay exact.

With cycles the values are a fixed point, reached by repeating the assignment, and the same linear
systems are solved by a sparse LU factorisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, DomainError, Places

# --- levels ---------------------------------------------------------------------------------------


def find_levels(A: Any) -> Places:
    """Return the level of every unit, and 0 for those that a cycle keeps waiting for ever.

    Parameters
    ----------
    A : csr_array, shape (N, N)
        An entry [i, j], zero or not, is an edge j -> i.
    """
    successors = A.T.tocsr()
    first, targets = successors.indptr.tolist(), successors.indices.tolist()
    waiting = np.diff(A.indptr).tolist()
    ready = [i for i, count in enumerate(waiting) if count == 0]
    level = [int(count == 0) for count in waiting]
    for j in ready:  # grows while it is read: first in, first out
        for i in targets[first[j] : first[j + 1]]:
            waiting[i] -= 1
            if waiting[i] == 0:
                level[i] = level[j] + 1  # j came last, so none that i waited for is higher
                ready.append(i)
    return np.array(level, dtype=np.intp)


def find_cycle(A: Any, level: Places) -> list[int]:
    """Return the units of one cycle in the order of its edges, the first one again at the end."""
    unit, place, walk = int(np.argmin(level)), dict[int, int](), list[int]()
    while unit not in place:  # who waits for ever waits for one who does: backwards, it comes round
        place[unit] = len(walk)
        walk.append(unit)
        sources = A.indices[A.indptr[unit] : A.indptr[unit + 1]]
        unit = int(sources[level[sources] == 0][0])
    cycle = walk[place[unit] :][::-1]
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[: start + 1]]


# A level of few edges is not worth making a sparse matrix for (about 40 µs); a level of many is
# not worth the temporary array of one product per edge and column.
FEW_PRODUCTS = 2**14


@dataclass(frozen=True, eq=False)
class Levels:
    """The rows of ``A`` sorted by level and, within a level, by kind: one run after the other.

    Attributes
    ----------
    order, place : array of int, shape (N,)
        The unit at each place, and the place of each unit.
    starts : list of int
        Run ``r`` is ``order[starts[r]:starts[r + 1]]``: units of one level and one kind.
    edge_starts, pointers, sources, weights
        The sorted rows, compressed; ``edge_starts[r]`` is the first edge into run ``r``.
    """

    order: Places
    place: Places
    starts: list[int]
    edge_starts: list[int]
    pointers: Any
    sources: Any
    weights: Array

    @classmethod
    def of(cls, A: Any, level: Places, kinds: Places) -> Levels:
        """Sort the units by level, and within a level by kind."""
        order = np.lexsort((kinds, level))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        ends = np.flatnonzero(np.diff(level[order]) | np.diff(kinds[order])) + 1
        starts = [0, *ends.tolist(), len(order)]
        sorted_rows = A[order]
        sources = place[sorted_rows.indices].astype(sorted_rows.indices.dtype)
        pointers = sorted_rows.indptr
        edge_starts = pointers[starts].tolist()
        return cls(order, place, starts, edge_starts, pointers, sources, sorted_rows.data)

    def solve(self, seed: Array, phi: Callable[[slice, Array], Array]) -> Array:
        """Return the ``v`` of ``v = phi(A v)``, run by run.

        Parameters
        ----------
        seed : array, shape (N, ...)
            Only its shape and dtype matter.
        phi : callable
            From a run (a slice of places) and the sums that arrive there to the values of the run.

        Returns
        -------
        array, shape (N, ...), in the order of the units
        """
        values = np.zeros(seed.shape, seed.dtype)
        runs = zip(pairwise(self.starts), pairwise(self.edge_starts), strict=True)
        for (start, stop), edges in runs:
            run = slice(start, stop)
            values[run] = phi(run, self._arriving(run, edges, values))
        return values[self.place]

    def _arriving(self, run: slice, edges: tuple[int, int], values: Array) -> Array:
        """Return the rows ``run`` of ``A v``; above level 1 every row has an edge."""
        first, last = edges
        trailing = values.shape[1:]
        if first == last:
            return np.zeros((run.stop - run.start, *trailing), values.dtype)
        weights, sources = self.weights[first:last], self.sources[first:last]
        if len(weights) * prod(trailing) <= FEW_PRODUCTS:
            products = weights.reshape(-1, *(1 for _ in trailing)) * values[sources]
            sums: Array = np.add.reduceat(products, self.pointers[run] - first, axis=0)
            return sums
        from scipy.sparse import csr_array

        pointers = self.pointers[run.start : run.stop + 1] - first
        block = csr_array((weights, sources, pointers), (len(pointers) - 1, len(values)))
        sums = block @ values.reshape(len(values), prod(trailing))
        return sums.reshape(-1, *trailing)


# --- without cycles -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Acyclic:
    """Values and linear systems by levels.  Arrays are (N, ...): units first, then the batch."""

    A: Any
    kinds: Places
    level: Places

    @cached_property
    def forward(self) -> Levels:
        """The order in which values are found."""
        return Levels.of(self.A, self.level, self.kinds)

    @cached_property
    def backward(self) -> Levels:
        """The order in which cotangents are found."""
        # in reverse a unit waits for its successors; all are of one kind, for the system is linear
        A_transposed = self.A.T.tocsr()
        return Levels.of(A_transposed, find_levels(A_transposed), np.zeros_like(self.kinds))

    def values(self, drive: Array, sigma: Callable[[int, Array], Array]) -> tuple[Array, Array]:
        """Return ``z`` and ``h``; ``sigma(kind, z)`` is the activation."""
        order = self.forward.order
        kinds, z = self.kinds[order].tolist(), drive[order]

        def phi(run: slice, sums: Array) -> Array:
            z[run] += sums
            return sigma(kinds[run.start], z[run])

        h = self.forward.solve(drive, phi)
        return z[self.forward.place], h

    def solver(self, slopes: Array) -> ByLevels:
        """Return what solves ``(I - D A) h = r`` for these slopes."""
        return ByLevels(self, slopes)


@dataclass(frozen=True, eq=False)
class ByLevels:
    """The two triangular systems at given slopes, shape (N,) or (N, B)."""

    graph: Acyclic
    slopes: Array

    def solve(self, right: Array) -> Array:
        """Return ``(I - D A)^{-1} r`` for ``r`` of shape (N, [B,] ...)."""
        levels = self.graph.forward
        beside = self.slopes.shape + (1,) * (right.ndim - self.slopes.ndim)
        r, d = right[levels.order], self.slopes.reshape(beside)[levels.order]
        return levels.solve(right, lambda run, sums: r[run] + d[run] * sums)

    def solve_transposed(self, cotangent: Array) -> Array:
        """Return ``delta``, with ``(I - D Aᵀ) delta = D c``."""
        levels = self.graph.backward
        c, d = cotangent[levels.order], self.slopes[levels.order]
        return levels.solve(cotangent, lambda run, sums: d[run] * (c[run] + sums))


# --- with cycles ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cyclic:
    """Values by iteration, linear systems by LU: the same questions as ``Acyclic`` answers."""

    A: Any
    kinds: Places
    max_iterations: int

    @property
    def level(self) -> Places:
        """No unit has a level: everyone may wait for everyone."""
        return np.zeros_like(self.kinds)

    def values(self, drive: Array, sigma: Callable[[int, Array], Array]) -> tuple[Array, Array]:
        """Repeat ``h <- sigma(A h + u)`` from ``h = 0`` until rounding takes over.

        A point has settled once its largest change is below 64 units in the last place of its
        largest value or preactivation (whose rounding a small value inherits), and no longer
        shrinks.
        """
        members = [np.flatnonzero(self.kinds == kind) for kind in range(int(self.kinds.max()) + 1)]
        h, last = np.zeros_like(drive), np.full(drive.shape[1:], np.inf)
        for _ in range(self.max_iterations):
            z = drive + self.A @ h
            new = np.empty_like(z)
            for kind, units in enumerate(members):
                new[units] = sigma(kind, z[units])
            change = np.abs(new - h).max(axis=0)
            size = np.maximum(np.abs(new), np.abs(z)).max(axis=0)
            h = new
            small = change <= 64 * np.finfo(h.dtype).eps * size
            if np.all(small & ((change >= last) | (change == 0))):
                return z, h
            if not np.isfinite(size).all():
                break
            last = change
        raise DomainError(
            f"UnitGraph: the values do not settle within {self.max_iterations:,} iterations; the "
            f"last one changed a value by {np.max(change):.2g}. The graph needs weights around its "
            "cycles that contract; a slow one may need a larger max_iterations."
        )

    def solver(self, slopes: Array) -> ByFactors:
        """Factor ``I - D A`` for these slopes."""
        from scipy.sparse import diags_array, eye_array

        N, points = len(slopes), slopes.reshape(len(slopes), -1).T.astype(np.float64)
        eps = float(np.finfo(slopes.dtype).eps)
        factors = [_factor((eye_array(N) - diags_array(d) @ self.A).tocsc(), eps) for d in points]
        return ByFactors(factors, slopes)


@dataclass(frozen=True, eq=False)
class ByFactors:
    """``I - D A`` factored at every point; the same questions as ``ByLevels`` answers."""

    factors: list[Any]
    slopes: Array

    def solve(self, right: Array) -> Array:
        """Return ``(I - D A)^{-1} r`` for ``r`` of shape (N, [B,] ...)."""
        return self._each(right, "N")

    def solve_transposed(self, cotangent: Array) -> Array:
        """Return ``delta = D g``, with ``(I - Aᵀ D) g = c``."""
        return self.slopes * self._each(cotangent, "T")

    def _each(self, right: Array, trans: str) -> Array:
        if self.slopes.ndim == 1:
            return self._one(self.factors[0], right, trans)
        solved = np.empty_like(right)
        for point, lu in enumerate(self.factors):
            solved[:, point] = self._one(lu, right[:, point], trans)
        return solved

    @staticmethod
    def _one(lu: Any, right: Array, trans: str) -> Array:
        solved: Array = lu.solve(np.ascontiguousarray(right, np.float64), trans=trans)
        return solved.astype(right.dtype)


def _factor(M: Any, eps: float) -> Any:
    """Factor ``M = I - D A``, or refuse when its condition number leaves no correct digit."""
    from scipy.sparse.linalg import LinearOperator, norm, onenormest, splu

    try:
        lu = splu(M)
    except RuntimeError:  # a pivot is exactly 0
        condition = np.inf
    else:
        inverse = LinearOperator(
            M.shape,
            matvec=lu.solve,
            rmatvec=lambda v: lu.solve(v, trans="T"),
            matmat=lu.solve,
            rmatmat=lambda V: lu.solve(V, trans="T"),
        )
        # one column: more would be drawn from NumPy's global random numbers
        condition = float(norm(M, 1)) * float(onenormest(inverse, t=1))
    if not condition * eps < 1:
        raise DomainError(
            f"UnitGraph: I - D A is singular to working precision: its condition number is about "
            f"{condition:.2g}, and only below {1 / eps:.2g} would a digit be right. The fixed "
            "point has no derivative here; move the point or the weights."
        )
    return lu
