"""Blocks of layers that are Kronecker products ``A ⊗ G``, and their inverses with damping.

With ``A = U diag(alpha) Uᵀ`` and ``G = V diag(gamma) Vᵀ`` the sum ``A ⊗ G + lambda I`` is diagonal
in the basis ``U ⊗ V``, with entries ``alpha_j gamma_i + lambda``: its inverse is exact, and costs
two small eigendecompositions.

Source: J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate
curvature", ICML 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from jacobians._checks import Array, as_nonnegative, underflow_is_rounding
from jacobians.maps import Diagonal, Kronecker, LinearMap, Product
from jacobians.maps.elementary import as_map


@dataclass(frozen=True, eq=False, repr=False)
class DirectSum(LinearMap):
    """Square maps along the diagonal, zeros elsewhere.

    >>> DirectSum([np.ones((2, 2)), [[3.0]]]) @ [1.0, 2.0, 1.0]
    array([3., 3., 3.])
    """

    terms: tuple[LinearMap, ...]

    composite = True

    def __init__(self, terms: Sequence[Any]) -> None:
        object.__setattr__(self, "terms", tuple(as_map(A, "DirectSum") for A in terms))

    @property
    def shape(self) -> tuple[int, int]:
        size = sum(A.shape[0] for A in self.terms)
        return size, size

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(A.dtype for A in self.terms))

    @property
    def spans(self) -> list[slice]:
        """Where the terms stand."""
        ends = list(accumulate((A.shape[0] for A in self.terms), initial=0))
        return [slice(*ends[i : i + 2]) for i in range(len(self.terms))]

    def apply(self, columns: Array) -> Array:
        parts = zip(self.terms, self.spans, strict=True)
        return np.concatenate([A.apply(columns[..., span, :]) for A, span in parts], axis=-2)

    def transpose(self) -> DirectSum:
        return DirectSum([A.T for A in self.terms])

    def _dense(self) -> Array:
        dense = np.zeros(self.shape, self.dtype)
        for A, span in zip(self.terms, self.spans, strict=True):
            dense[span, span] = A.to_dense()
        return dense

    def diagonal(self) -> Array:
        return np.concatenate([A.diagonal() for A in self.terms])


@dataclass(frozen=True, eq=False)
class KroneckerFactors:
    """The pairs ``(A, G)`` of all layers that have parameters.

    Attributes
    ----------
    layers : tuple of int
    pairs : tuple of (array, array), shapes (n, n) and (m, m)
    """

    layers: tuple[int, ...]
    pairs: tuple[tuple[Array, Array], ...]

    @property
    def map(self) -> DirectSum:
        """The blocks ``A ⊗ G`` along the diagonal, (p, p)."""
        return DirectSum([Kronecker(A, G) for A, G in self.pairs])

    def block(self, l: int) -> Kronecker:
        """Return ``A ⊗ G`` of one layer."""
        return Kronecker(*self.pairs[self.layers.index(l)])

    @cached_property
    def eigen(self) -> tuple[tuple[Array, Array, Array], ...]:
        """For every layer ``U``, ``V`` and the products ``alpha_j gamma_i``, (n, m)."""
        found = []
        for A, G in self.pairs:
            (alpha, U), (gamma, V) = np.linalg.eigh(A), np.linalg.eigh(G)
            found.append((U, V, np.outer(np.maximum(alpha, 0), np.maximum(gamma, 0))))
        return tuple(found)

    @underflow_is_rounding
    def inverse(self, damping: float) -> DirectSum:
        """Return the blocks ``(A ⊗ G + damping I)^-1`` along the diagonal, exactly.

        Raises
        ------
        ValueError
            If the damping is not positive.
        """
        if not as_nonnegative(damping, "inverse: damping"):
            raise ValueError("inverse: damping: expected a positive number: A or G may be singular.")
        blocks = []
        for U, V, products in self.eigen:
            basis = Kronecker(U, V)
            middle = Diagonal(1 / (products.reshape(-1) + products.dtype.type(damping)))
            blocks.append(Product([basis, middle, basis.T]))
        return DirectSum(blocks)
