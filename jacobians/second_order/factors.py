"""The block of a layer as a Kronecker product ``A ⊗ G``, and its inverse with damping.

With ``A = U diag(alpha) Uᵀ`` and ``G = V diag(gamma) Vᵀ`` the sum ``A ⊗ G + lambda I`` is diagonal
in the basis ``U ⊗ V``, with entries ``alpha_j gamma_i + lambda``: its inverse is exact, and costs
two small eigendecompositions.

Source: J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate
curvature", ICML 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jacobians._checks import Array, as_positive, underflow_is_rounding
from jacobians.maps import Diagonal, Kronecker, LinearMap, Matrix, Product


@dataclass(frozen=True, eq=False, repr=False)
class KroneckerFactors:
    """``A``, (n, n), and ``G``, (m, m), symmetric and positive semidefinite."""

    A: Array
    G: Array

    def __repr__(self) -> str:
        return f"KroneckerFactors {len(self.A)}x{len(self.A)} ⊗ {len(self.G)}x{len(self.G)}"

    @property
    def map(self) -> LinearMap:
        """``A ⊗ G``, (n m, n m)."""
        return Kronecker(Matrix(self.A), Matrix(self.G))

    @cached_property
    def eigen(self) -> tuple[Array, Array, Array]:
        """``U``, ``V`` and the products ``alpha_j gamma_i``, (n, m), in float64."""
        (alpha, U), (gamma, V) = (np.linalg.eigh(M.astype(float)) for M in (self.A, self.G))
        return U, V, np.outer(np.maximum(alpha, 0), np.maximum(gamma, 0))

    @underflow_is_rounding
    def inverse(self, damping: float) -> LinearMap:
        """Return ``(A ⊗ G + damping I)^-1``; the damping is positive."""
        U, V, products = self.eigen
        middle = 1 / (products.reshape(-1) + as_positive(damping, "inverse: damping"))
        dtype = self.G.dtype
        basis = Kronecker(Matrix(U.astype(dtype)), Matrix(V.astype(dtype)))
        return Product([basis, Diagonal(middle.astype(dtype)), basis.T])
