"""Gradients of a unit graph, and the identities that tie them to each other.

    dC/dA = delta hᵀ and dC/dB = delta xᵀ on the edges       dC/db = delta       dC/dx = Bᵀ delta

Off the edges ``delta_i h_j`` is the derivative too, also for edges that would close a cycle: that
of a weight which happens to be 0.  Store the 0 in a sparse ``A`` to ask for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import Array, DomainError, underflow_is_rounding
from jacobians.units.edges import beside, targets_of


@dataclass(frozen=True, eq=False, repr=False)
class UnitGradients:
    """The derivatives of an objective C, summed over a batch; made by ``backprop``.

    Attributes
    ----------
    at : UnitLinearization
    deltas : array, shape (N,) or (B, N)
        ``delta = dC/dz``.
    direct : array, shape (N,) or (B, N)
        The part of ``delta`` that does not come through other units.
    edges, input_edges : sparse array, shape (N, N) and (N, m)
        ``dC/dA`` and ``dC/dB`` on the edges, in the pattern of ``A`` and ``B``.
    biases : array, shape (N,)
    inputs : array, shape (m,) or (B, m)
    loss : float or None
        The value of C, if it was computed.
    """

    at: Any
    deltas: Array
    direct: Array
    edges: Any
    input_edges: Any
    biases: Array
    inputs: Array
    loss: float | None = None

    def tied(self, parameters: Mapping[tuple[str, str], Hashable]) -> dict[Hashable, float]:
        """Return the gradient of weights that several edges share: the sum over those edges.

        Parameters
        ----------
        parameters : mapping from (source, target) to a parameter
            The names of the ends of an edge, and anything that tells parameters apart.

        >>> from jacobians.units import UnitGraph
        >>> graph = UnitGraph.from_edges([("x", "a", 3.0), ("a", "b", 3.0)], inputs=["x"])
        >>> g = graph.linearize([1.0]).backprop([0.0, 1.0])  # b = w² x
        >>> g.tied({("x", "a"): "w", ("a", "b"): "w"})
        {'w': 6.0}
        """
        total: dict[Hashable, float] = {}
        for edge, parameter in parameters.items():
            gradient = float(self._joint_edges.data[self._number(*edge, "tied")])
            total[parameter] = total.get(parameter, 0.0) + gradient
        return total

    @underflow_is_rounding
    def incoming(self) -> Array:
        """Return ``sum_i w_ji dC/dw_ji + b_j dC/db_j`` over the edges into every unit, (N,).

        It equals ``z_j delta_j``.  Where ``sigma_j`` is positively homogeneous (identity, relu,
        leaky_relu) that is ``h_j dC/dh_j``, so that what comes in balances what goes out:
        ``incoming() == outgoing() + h c``.
        """
        graph, E = self.at.graph, self.at.graph.joint_edges
        into = self._summed(E, self._joint_edges, targets_of(E))
        return np.asarray(graph.biases * self.biases + into, self.biases.dtype)

    @underflow_is_rounding
    def outgoing(self) -> Array:
        """Return ``sum_k w_kj dC/dw_kj`` over the edges out of every unit, shape (N,).

        It equals ``h_j (dC/dh_j - c_j)`` whatever the activation, also where ``h_j`` is 0.
        """
        A = self.at.graph.A
        return np.asarray(self._summed(A, self.edges, A.indices), self.biases.dtype)

    def _summed(self, edges: Any, gradients: Any, ends: Any) -> Any:
        """Add up weight times gradient over the edges that have the same end."""
        return np.bincount(ends, edges.data * gradients.data, len(self.biases))

    @underflow_is_rounding
    def ratio_form(self, source: str | int, target: str | int) -> float:
        """Return the gradient of the edge i -> j from the gradients of the edges that follow it.

        ``dC/dw_ji = x_ji (sigma'(z_j) sum_k (dC/dw_kj) w_kj / x_kj + direct_j)`` with ``x_ji`` what
        i sends to j, so that ``x_kj = h_j``.

        Raises
        ------
        DomainError
            If j feeds units and ``h_j`` is 0, or too small for products with it to keep their
            digits.  ``deltas`` and ``outgoing`` need no division.
        """
        at = self.at
        if at.batch:
            raise ValueError("UnitGradients.ratio_form: takes one point, not a batch.")
        self._number(source, target, "ratio_form")
        i, j = at.graph.vertex(source), at.graph.index(target)
        following = at.graph.A.indices == j
        h = at.values[j]
        if following.any() and abs(h) < np.finfo(h.dtype).tiny:
            raise DomainError(
                f"UnitGradients.ratio_form: divides by the value of unit {at.graph.unit_names[j]}, "
                f"which is {h}. deltas and edges need no division; of the ratio there remains "
                "outgoing(): sum_k w_kj dC/dw_kj = h_j (dC/dh_j - c_j)."
            )
        ratios = self.edges.data[following] * at.graph.A.data[following] / h
        sent = np.concatenate([at.values, at.x])[i]
        return float(sent * (at.slopes[j] * ratios.sum() + self.direct[j]))

    @cached_property
    def _joint_edges(self) -> Any:
        """``[dC/dA dC/dB]``, in the pattern of ``graph.joint_edges``."""
        return beside(self.edges, self.input_edges)

    def _number(self, source: str | int, target: str | int, verb: str) -> int:
        """Return which of the joint edges leads from one to the other."""
        graph = self.at.graph
        E, i, j = graph.joint_edges, graph.index(target), graph.vertex(source)
        first, last = E.indptr[i : i + 2]
        numbers = np.flatnonzero(E.indices[first:last] == j)
        if not numbers.size:
            raise ValueError(f"UnitGradients.{verb}: there is no edge {source} -> {target}.")
        return int(first + numbers[0])

    def __repr__(self) -> str:
        value = "" if self.loss is None else f" of an objective of {self.loss:.6g}"
        return f"UnitGradients{value} at {self.at.graph!r}"


PRODUCTS_AT_ONCE = 2**20  # of a batch: enough to keep NumPy busy, and never one per edge and point


def sum_of_products(edges: Any, delta: Array, values: Array) -> Array:
    """Return ``delta_i h_j`` on every edge j -> i, summed over the points of a batch."""
    left, right = (np.atleast_2d(v).T.copy() for v in (delta, values))  # points stand together
    targets, sources = targets_of(edges), edges.indices
    summed: Array = np.empty_like(edges.data)
    size = max(1, PRODUCTS_AT_ONCE // max(left.shape[1], 1))
    for start in range(0, len(summed), size):
        some = slice(start, start + size)
        summed[some] = np.einsum("eb,eb->e", left[targets[some]], right[sources[some]])
    return summed
