"""Kronecker products of maps.

``(A ⊗ B) vec(X) = vec(B X Aᵀ)``: that one line is why a Kronecker product never has to be formed.
The derivative of ``z = W a`` with respect to ``vec(W)`` is ``aᵀ ⊗ I``; for a layer of width 4096
its dense form takes 512 GiB and its parts a few kilobytes.

Source: C. F. Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123 (2000);
J. R. Magnus and H. Neudecker, *Matrix Differential Calculus*, chapters 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._windows import are_rows, merged, moved
from jacobians.maps.base import LinearMap, common_batch
from jacobians.maps.elementary import Identity, Matrix, as_map, unchecked


@dataclass(frozen=True, eq=False, repr=False)
class Kronecker(LinearMap):
    """``A ⊗ B``, kept as its two factors.

    Parameters
    ----------
    left, right : map or matrix, shapes (m, n) and (p, q)
        The factors ``A`` and ``B``; an ``Identity`` costs nothing.

    The shape is ``(m*p, n*q)``; applying costs one application of ``B`` to ``n`` columns and one of
    ``A`` to ``p`` columns.

    >>> from jacobians import Identity, vec
    >>> a = np.array([[1.0, 2.0]])
    >>> dz_dvecW = Kronecker(a, Identity(3))  # z = W a with W of shape (3, 2)
    >>> dz_dvecW
    Kronecker 3x6 float64: (Matrix 1x2) ⊗ (Identity 3x3)
    >>> dz_dvecW @ vec([[1, 4], [2, 5], [3, 6]])
    array([ 9., 12., 15.])
    """

    left: LinearMap
    right: LinearMap

    composite = True

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            object.__setattr__(self, name, as_map(getattr(self, name), f"Kronecker: {name}"))
        common_batch((self.left, self.right), "Kronecker")

    @property
    def shape(self) -> tuple[int, int]:
        (m, n), (p, q) = self.left.shape, self.right.shape
        return m * p, n * q

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.left.dtype, self.right.dtype)

    @property
    def batch(self) -> tuple[int, ...]:
        return common_batch((self.left, self.right), "Kronecker")

    def apply(self, columns: Array) -> Array:
        # (A ⊗ B) = (A ⊗ I)(I ⊗ B): entry (j, l) of a column meets B along l, then A along j.
        # Splitting an axis copies nothing; j stands in front of the batch while B is at work, so
        # that every point meets its own.
        n, (p, q) = self.left.shape[1], self.right.shape
        columns = columns[None] if columns.ndim == 2 and self.batch else columns
        V = columns.reshape(*columns.shape[:-2], n, q, columns.shape[-1])
        if self.right.batch:
            V = moved(self.right.apply(moved(V, -3, 0)), 0, -3)
        elif not isinstance(self.right, Identity):
            V = self.right.apply(V)
        if isinstance(self.left, Identity):
            return merged(V)
        if p == 1:
            return self.left.apply(V[..., 0, :])
        if are_rows(V):  # A meets the columns of X, row by row
            return merged(moved(self.left.apply(moved(V, -1, 0)), 0, -1))
        AV = self.left.apply(V.reshape(*V.shape[:-2], p * V.shape[-1]))
        return merged(AV.reshape(*AV.shape[:-1], p, V.shape[-1]))

    def transpose(self) -> Kronecker:
        return Kronecker(self.left.T, self.right.T)

    def _parts(self) -> tuple[LinearMap, ...]:
        return self.left, self.right

    def _dense(self) -> Array:
        A, B = self.left.to_dense(), self.right.to_dense()
        blocks = A[..., :, None, :, None] * B[..., None, :, None, :]  # [i, k, j, l] = A_ij B_kl
        return blocks.reshape(*self.batch, *self.shape)

    def _sparse(self) -> Any:
        from scipy.sparse import kron

        return kron(self.left.to_sparse(), self.right.to_sparse(), format="csr")

    @property
    def flops(self) -> float:
        # R on the columns of X, then L on the rows of what comes out
        return self.left.shape[1] * self.right.flops + self.right.shape[0] * self.left.flops

    @property
    def monomial(self) -> bool:
        return self.left.monomial and self.right.monomial

    @property
    def block_count(self) -> int:
        return self.left.n if isinstance(self.left, Identity) else 1

    def block_stack(self, count: int, points: int) -> LinearMap:
        if not isinstance(self.left, Identity):
            return super().block_stack(count, points)
        n = self.left.n // count
        block = self.right if n == 1 else Kronecker(Identity(n, self.left.dtype), self.right)
        if block.batch:
            return unchecked(Matrix, np.repeat(block.to_dense(), count, axis=0))
        return block

    def magnitude(self) -> Kronecker | None:
        left, right = self.left.magnitude(), self.right.magnitude()
        return None if left is None or right is None else Kronecker(left, right)

    def roundings(self) -> Any:
        """Count those of both factors, and one for the product of an entry of each.

        Applied one after the other, they contract q and then n indices; that is at most one
        rounding more than the contraction of q n that the product beside it counts.
        """
        return self.left.roundings() + self.right.roundings() + 1

    def diagonal(self) -> Array:
        if self.left.shape[0] != self.left.shape[1] or self.right.shape[0] != self.right.shape[1]:
            return super().diagonal()
        own: Array = self.left.diagonal()[..., :, None] * self.right.diagonal()[..., None, :]
        return own.reshape(*self.batch, -1)

    def reach(self) -> float:
        return self.left.reach() * self.right.reach()

    def underflow(self) -> float:
        left, right = self.left, self.right
        return left.underflow() * right.reach() + right.underflow() * left.reach() + 4.0

    def __repr__(self) -> str:
        factors = (f"({A._kind()} {A._size()})" for A in (self.left, self.right))
        return f"{super().__repr__()}: {' ⊗ '.join(factors)}"
