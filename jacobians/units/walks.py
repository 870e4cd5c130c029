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
whole numbers stay exact.  With cycles the values are a fixed point, reached by repeating the
assignment, and the same linear systems are solved by a sparse LU factorisation.

It is the block substitution of ``maps.Substitution`` with blocks of 1x1, and a law of the tests
says so; but there an edge is a map, here it is two numbers.  ``UnitGraph.to_network`` needs a
Python object for every pair of levels that are joined and the zeros between their units: at 2,000
units and 20,000 edges 0.1 to 25 s to build, 4 to 40 times the memory, and a gradient that takes 2
to 130 times as long (``tests/benchmarks/bench_units.py``).  So the walk is one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, DomainError, Indices

# --- levels ---------------------------------------------------------------------------------------


def find_levels(A: Any) -> Indices:
    """Return the level of every unit, and 0 for those that a cycle keeps waiting for ever.

    An entry [i, j] of ``A``, zero or not, is an edge j -> i.
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


def find_cycle(A: Any, level: Indices) -> list[int]:
    """Return the units of one cycle in the order of its edges, the first one again at the end."""
    unit, walk = int(np.argmin(level)), dict[int, int]()
    while unit not in walk:  # who waits for ever waits for one who does: backwards, it comes round
        walk[unit] = len(walk)
        sources = A.indices[A.indptr[unit] : A.indptr[unit + 1]]
        unit = int(sources[level[sources] == 0][0])
    cycle = list(walk)[walk[unit] :][::-1]
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[: start + 1]]


# A level of few edges is not worth making a sparse matrix for (about 40 µs); a level of many is
# not worth the temporary array of one product per edge and column.
FEW_PRODUCTS = 2**14


@dataclass(frozen=True, eq=False)
class Levels:
    """The units sorted by level and, within a level, by kind: one run after the other.

    ``order`` lists the units, ``rank`` is the position of each in that list; run r is
    ``order[starts[r]:starts[r + 1]]``.  ``rows`` is ``A`` sorted, strictly lower triangular.
    """

    order: Indices
    rank: Indices
    starts: list[int]
    rows: Any

    @classmethod
    def of(cls, A: Any, level: Indices, kinds: Indices) -> Levels:
        """Sort the units."""
        from scipy.sparse import csr_array

        order = np.lexsort((kinds, level))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        ends = np.flatnonzero(np.diff(level[order]) | np.diff(kinds[order])) + 1
        rows = A[order]
        sources = rank[rows.indices].astype(rows.indices.dtype)
        lower = csr_array((rows.data, sources, rows.indptr), A.shape)
        return cls(order, rank, [0, *ends.tolist(), len(order)], lower)

    def solve(self, seed: Array, phi: Callable[[slice, Array], Array]) -> Array:
        """Return the ``v`` of ``v = phi(A v)``, run by run, in the order of the units.

        Parameters
        ----------
        seed : array, shape (N, ...)
            Only its shape and dtype matter.
        phi : callable
            From a run (a slice of positions) and the sums that arrive there to its values.
        """
        values = np.zeros(seed.shape, seed.dtype)
        for start, stop in pairwise(self.starts):
            run = slice(start, stop)
            values[run] = phi(run, self._arriving(run, values))
        return values[self.rank]

    def _arriving(self, run: slice, values: Array) -> Array:
        """Return the rows ``run`` of ``A v``; above level 1 every row has an edge."""
        pointers = self.rows.indptr[run.start : run.stop + 1]
        first, last = int(pointers[0]), int(pointers[-1])
        trailing = values.shape[1:]
        if first == last:
            return np.zeros((run.stop - run.start, *trailing), values.dtype)
        weights, sources = self.rows.data[first:last], self.rows.indices[first:last]
        if len(weights) * prod(trailing) <= FEW_PRODUCTS:
            products = weights.reshape(-1, *(1 for _ in trailing)) * values[sources]
            sums: Array = np.add.reduceat(products, pointers[:-1] - first, axis=0)
            return sums
        from scipy.sparse import csr_array

        block = csr_array((weights, sources, pointers - first), (len(pointers) - 1, len(values)))
        sums = block @ values.reshape(len(values), prod(trailing))
        return sums.reshape(-1, *trailing)


# --- without cycles -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Acyclic:
    """Values and linear systems by levels.  Arrays are (N, ...): units first, then the batch."""

    A: Any
    kinds: Indices
    level: Indices

    @cached_property
    def forward(self) -> Levels:
        """The order in which a unit waits for those that feed it."""
        return Levels.of(self.A, self.level, self.kinds)

    @cached_property
    def backward(self) -> Levels:
        """The order in which a unit waits for those that it feeds, all of one kind."""
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
        return z[self.forward.rank], h

    def solve(self, slopes: Array, right: Array) -> Array:
        """Return ``(I - D A)^{-1} r`` for ``r`` of shape (N, [B,] k)."""
        r, d = right[self.forward.order], slopes[self.forward.order][..., None]
        return self.forward.solve(right, lambda run, sums: r[run] + d[run] * sums)

    def solve_transposed(self, slopes: Array, cotangent: Array) -> Array:
        """Return ``delta``, with ``(I - D Aᵀ) delta = D c``."""
        c, d = cotangent[self.backward.order], slopes[self.backward.order]
        return self.backward.solve(cotangent, lambda run, sums: d[run] * (c[run] + sums))


# --- with cycles ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cyclic:
    """Values by iteration, linear systems by LU: the same questions as ``Acyclic`` answers."""

    A: Any
    kinds: Indices
    max_iterations: int

    @property
    def level(self) -> Indices:
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
            for kind, alike in enumerate(members):
                new[alike] = sigma(kind, z[alike])
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

    def solve(self, slopes: Array, right: Array, trans: str = "N") -> Array:
        """Return ``(I - D A)^{-1} r`` for ``r`` of shape (N, [B,] k), by LU in double precision."""
        from scipy.sparse import diags_array, eye_array

        solved, eps = np.empty_like(right), float(np.finfo(right.dtype).eps)
        for point in np.ndindex(slopes.shape[1:]):
            here = (slice(None), *point)
            DA = diags_array(slopes[here].astype(np.float64)) @ self.A
            lu = _factor((eye_array(len(slopes)) - DA).tocsc(), eps)
            solved[here] = lu.solve(np.ascontiguousarray(right[here], np.float64), trans=trans)
        return solved

    def solve_transposed(self, slopes: Array, cotangent: Array) -> Array:
        """Return ``delta = D g``, with ``(I - Aᵀ D) g = c``."""
        return slopes * self.solve(slopes, cotangent, "T")


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
