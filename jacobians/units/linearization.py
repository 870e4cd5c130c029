"""A unit graph at a point: total derivatives, sums over paths, and backpropagation as one solve.

With ``D = diag(sigma'(z))`` at the point, perturbing a unit's value by ``zeta`` and its
preactivation by ``eps`` gives ``dh = D (A dh + eps) + zeta``.  Hence

    dh/dzeta = (I - D A)^{-1} = I + D A + (D A)² + ...        dz/deps = (I - A D)^{-1}
    dh/dx    = (I - D A)^{-1} D B                             dh/deps = (I - D A)^{-1} D

Entry [i, j] of the p-th term of the series is the sum, over the paths of p edges from j to i, of
the product of weights and slopes met on the way.  An objective C that reads the values h, with
explicit partial derivatives ``c = dC/dh`` and total ones ``g``, gives

    g = c + Aᵀ delta        delta = D g        so        (I - D Aᵀ) delta = D c

a triangular system: ``delta_j = sigma'(z_j) (c_j + sum_k A_kj delta_k)``, summed over the units k
that j feeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    as_floats,
    refuse_if_too_large,
    require_shape,
    underflow_is_rounding,
)
from jacobians.losses import Loss, as_loss
from jacobians.units.edges import targets_of, with_weights
from jacobians.units.gradients import UnitGradients, sum_of_products

MOST_PATHS = 1_000_000


class Path(NamedTuple):
    """A directed path: the names along it, and the product of its weights and slopes."""

    vertices: tuple[str, ...]
    derivative: Any


@dataclass(frozen=True, eq=False, repr=False)
class UnitLinearization(Frozen):
    """A ``UnitGraph`` at a point or a batch, made by ``graph.linearize``; read-only.

    Attributes
    ----------
    graph : UnitGraph
    x : array, shape (m,) or (B, m)
    preactivations, values, slopes : array, shape (N,) or (B, N)
        ``z``, ``h`` and ``sigma'(z)`` of every unit.
    """

    graph: Any
    x: Array
    preactivations: Array
    values: Array
    slopes: Array

    @property
    def batch(self) -> tuple[int, ...]:
        """``()`` at one point, ``(B,)`` at a batch."""
        return self.values.shape[:-1]

    # --- total derivatives ------------------------------------------------------------------------

    @underflow_is_rounding
    def total_derivative(self) -> Array:
        """Return ``(I - D A)^{-1}``: the derivative of every value with respect to every value.

        Returns
        -------
        array, shape (N, N) or (B, N, N)

        Raises
        ------
        TooLargeError
            If it would exceed the limit; ``backprop`` needs no matrix.
        DomainError
            With cycles, if ``I - D A`` is singular to working precision.
        """
        return self._solve("total_derivative", scaled=False)

    @underflow_is_rounding
    def total_preactivation_derivative(self) -> Array:
        """Return ``(I - A D)^{-1} = I + A (I - D A)^{-1} D``, the same for preactivations.

        Returns
        -------
        array, shape (N, N) or (B, N, N)
        """
        S = self._solve("total_preactivation_derivative")
        points = S.reshape(-1, *S.shape[-2:])
        products = np.reshape([self.graph.A @ point for point in points], S.shape)
        T_z: Array = np.eye(len(self.graph.biases), dtype=S.dtype) + products.astype(S.dtype)
        return T_z

    @underflow_is_rounding
    def input_jacobian(self) -> Array:
        """Return ``dh/dx = (I - D A)^{-1} D B``, for all units.

        Returns
        -------
        array, shape (N, m) or (B, N, m)

        Raises
        ------
        TooLargeError
            If it would exceed the limit; a row of it is ``backprop(...).inputs``.
        """
        return self._solve("input_jacobian", self.graph.B)

    def neumann_terms(self) -> Iterator[Any]:
        """Return ``(D A)^p`` for p = 0, 1, ... as sparse arrays, up to the longest path.

        Their sum is the total derivative.  With cycles they never end.

        >>> from jacobians.units import UnitGraph
        >>> at = UnitGraph([[0, 0, 0], [2, 0, 0], [5, 3, 0]], [[1], [0], [0]]).linearize([1.0])
        >>> [term.toarray()[2].tolist() for term in at.neumann_terms()]
        [[0.0, 0.0, 1.0], [5.0, 3.0, 0.0], [6.0, 0.0, 0.0]]
        """
        self._require_point("neumann_terms")
        from scipy.sparse import eye_array

        A = self.graph.A
        DA = with_weights(A, self.slopes[targets_of(A)] * A.data)
        longest = self.graph._walk.level.max()
        steps = repeat(DA, longest - 1) if longest else repeat(DA)
        first = eye_array(len(self.graph.biases), dtype=A.dtype, format="csr")
        return accumulate(steps, lambda term, DA: DA @ term, initial=first)

    # --- paths ------------------------------------------------------------------------------------

    def paths(self, source: str | int, target: str | int) -> list[Path]:
        """Return the directed paths from a unit or input to a unit, each with its product.

        Parameters
        ----------
        source, target : str or int
            A name, or the index of a unit.

        Raises
        ------
        ValueError
            If there are more than a million, or infinitely many because of a cycle.
        """
        start, end = self.graph.vertex(source), self.graph.vertex(target)
        reached = self._path_counts(start)
        if reached[end] > MOST_PATHS:
            raise ValueError(
                f"UnitLinearization.paths: {reached[end]:,} paths lead from {source} to {target}; "
                "total_derivative and backprop add them up without listing them."
            )
        names, edges = [*self.graph.unit_names, *self.graph.input_names], self.graph.joint_edges
        listed = []
        # backwards from the target, through what the source reaches: no step leads nowhere
        one = np.ones(self.batch, self.values.dtype)
        stack: list[tuple[tuple[int, ...], Any]] = [((end,), one)] if reached[end] else []
        while stack:
            route, product = stack.pop()
            if route[0] == start:
                derivative = product if self.batch else float(product)
                listed.append(Path(tuple(names[v] for v in route), derivative))
                continue
            row = slice(*edges.indptr[route[0] : route[0] + 2])
            slope = self.slopes[..., route[0]]
            for j, weight in zip(edges.indices[row].tolist(), edges.data[row], strict=True):
                if reached[j]:
                    stack.append(((j, *route), product * (slope * weight)))
        return listed[::-1]

    @underflow_is_rounding
    def path_sum(self, source: str | int, target: str | int) -> Any:
        """Return the derivative of a unit with respect to a unit or input, as the sum over paths.

        Returns
        -------
        float, or array of shape (B,)
        """
        zero = np.zeros(self.batch, self.values.dtype)
        total = sum((path.derivative for path in self.paths(source, target)), start=zero)
        return total if self.batch else float(total)

    def path_count(self, source: str | int, target: str | int) -> int:
        """Return the number of directed paths, without listing them.

        It is the total derivative where all slopes and weights are 1, in whole numbers of any size.
        """
        end: int = self.graph.vertex(target)
        return self._path_counts(self.graph.vertex(source))[end]

    def _path_counts(self, start: int) -> list[int]:
        """Count the paths from a vertex to every other."""
        edges = self.graph.joint_edges
        first, sources = edges.indptr.tolist(), edges.indices.tolist()
        counts: list[int] = [int(v == start) for v in range(edges.shape[1])]
        for i in np.argsort(self.graph.levels, kind="stable").tolist():
            if i != start:
                counts[i] = sum(counts[j] for j in sources[first[i] : first[i + 1]])
        return counts

    # --- backpropagation --------------------------------------------------------------------------

    @underflow_is_rounding
    def backprop(self, cotangent: Any) -> UnitGradients:
        """Solve ``(I - D Aᵀ) delta = D c`` and read off all gradients.

        Parameters
        ----------
        cotangent : array, shape (N,) or (B, N)
            ``c = dC/dh``, the explicit partial derivatives: at the outputs, also those that feed
            other units, and 0 elsewhere.

        Returns
        -------
        UnitGradients

        >>> from jacobians.units import UnitGraph
        >>> graph = UnitGraph([[0, 0], [2, 0]], [[1], [0]])  # x -> u0 -> u1, and C = u0 + u1
        >>> g = graph.linearize([5.0]).backprop([1.0, 1.0])
        >>> g.deltas, g.edges.toarray()[1], g.inputs
        (array([3., 1.]), array([5., 0.]), array([3.]))
        """
        c = self._cotangent(cotangent, "backprop")
        return self._pull_back(c, np.zeros_like(c), None)

    @underflow_is_rounding
    def gradients(self, targets: Any, loss: Loss, outputs: Sequence[str | int]) -> UnitGradients:
        """Return value and gradients of a loss at some units; at a batch, of its mean.

        Parameters
        ----------
        targets : array, shape (k,) or (B, k)
        loss : Loss
            Such as ``BinaryCrossEntropy()``, for outputs of any activation with values in (0, 1).
        outputs : sequence of k names or indices
            They may feed other units.

        Returns
        -------
        UnitGradients

        Raises
        ------
        ShapeError, DomainError
            If targets or outputs do not suit the loss.
        """
        where = "UnitLinearization.gradients"
        ends = [self.graph.index(unit) for unit in outputs]
        if not ends or len(set(ends)) < len(ends):
            raise ValueError(f"{where}: expected different outputs, but got {list(outputs)}.")
        if self.batch == (0,):
            raise ValueError(f"{where}: the mean over no points is undefined.")
        h, z = self.values[..., ends], self.preactivations[..., ends]
        y = as_loss(loss).targets(targets, h)
        sigmas = {self.graph.activations[i] for i in ends}
        fused = loss.fused(sigmas.pop()) if len(sigmas) == 1 else None
        at_values, at_preactivations = np.zeros_like(self.values), np.zeros_like(self.values)
        if fused is None:
            value = loss.value(h, y)
            at_values[..., ends] = loss.cotangent(h, y) / value.size
        else:  # dC/dz without dC/dh, which saturation makes infinite
            value = fused.value(z, y)
            at_preactivations[..., ends] = fused.cotangent(z, y) / value.size
        return self._pull_back(at_values, at_preactivations, float(value.mean()))

    @underflow_is_rounding
    def downstream_deltas(self, cotangent: Any) -> Array:
        """Return the deltas by the textbook's recursion, in plain loops, for comparison.

        ``delta_j = sigma'(z_j) (c_j + sum_{k in Downstream(j)} w_kj delta_k)``, from the last unit
        to the first, with ``Downstream(j)`` the units that j feeds.

        Parameters
        ----------
        cotangent : array, shape (N,)

        Returns
        -------
        array, shape (N,)
        """
        self._require_point("downstream_deltas")
        c = self._cotangent(cotangent, "downstream_deltas")
        downstream = self.graph.A.T.tocsr()
        deltas = np.zeros_like(c)
        for j in np.argsort(self.graph.levels)[::-1]:
            total = c[j]
            for edge in range(downstream.indptr[j], downstream.indptr[j + 1]):
                total += downstream.data[edge] * deltas[downstream.indices[edge]]
            deltas[j] = self.slopes[j] * total
        return deltas

    def _pull_back(self, c: Array, e: Array, loss: float | None) -> UnitGradients:
        """Solve ``delta = D (c + Aᵀ delta) + e``, with cotangents at values and preactivations."""
        A, B, walk = self.graph.A, self.graph.B, self.graph._walk
        arriving = np.ascontiguousarray(c.T) + A.T @ e.T
        delta = walk.solve_transposed(np.ascontiguousarray(self.slopes.T), arriving).T + e
        return UnitGradients(
            at=self,
            deltas=np.ascontiguousarray(delta),
            direct=self.slopes * c + e,
            edges=with_weights(A, sum_of_products(A, delta, self.values)),
            input_edges=with_weights(B, sum_of_products(B, delta, self.x)),
            biases=delta.sum(axis=0) if self.batch else delta.copy(),
            inputs=np.ascontiguousarray((B.T @ delta.T).T),
            loss=loss,
        )

    # --- plumbing ---------------------------------------------------------------------------------

    def _solve(self, verb: str, right: Any = None, *, scaled: bool = True) -> Array:
        """Return ``(I - D A)^{-1} D R`` for a sparse R, the identity if none; D only if scaled."""
        N, dtype = self.values.shape[-1], self.values.dtype
        shape = (*self.batch, N, N if right is None else right.shape[1])
        way_out = "Use backprop, which needs no matrix"
        refuse_if_too_large(shape, dtype, f"UnitLinearization.{verb}", way_out)
        R = np.eye(N, dtype=dtype) if right is None else right.toarray()
        R = self.slopes[..., None] * R if scaled else np.broadcast_to(R, shape)
        units_first = np.ascontiguousarray(np.moveaxis(R, -2, 0))
        solved = self.graph._walk.solve(np.ascontiguousarray(self.slopes.T), units_first)
        return np.ascontiguousarray(np.moveaxis(solved, 0, -2))

    def _cotangent(self, cotangent: Any, verb: str) -> Array:
        where = f"UnitLinearization.{verb}: cotangent"
        c = as_floats(cotangent, where, dtype=self.values.dtype)
        require_shape(c, self.values.shape, where, "That is the shape of the values.")
        return c

    def _require_point(self, verb: str) -> None:
        if self.batch:
            raise ValueError(f"UnitLinearization.{verb}: takes one point, not a batch.")

    def __repr__(self) -> str:
        where = f"{self.batch[0]} points" if self.batch else "one point"
        return f"UnitLinearization at {where} of {self.graph!r}"
