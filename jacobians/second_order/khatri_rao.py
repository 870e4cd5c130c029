"""KhatriRao: rows that are Kronecker products, point by point.

The gradient of one point with respect to a weight matrix is ``vec(delta aᵀ)ᵀ = aᵀ ⊗ deltaᵀ``, so
the gradients of all points above one another are two small arrays.  Inner products of rows are
``(a_iᵀ a_j) (delta_iᵀ delta_j)``, and squares are products of squares: nothing else is formed.

Source: C. G. Khatri and C. R. Rao, Sankhya A 30 (1968); S. Liu, Linear Algebra Appl. 289 (1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.maps import LinearMap


@dataclass(frozen=True, eq=False, repr=False)
class KhatriRao(LinearMap):
    """The blocks ``a_bᵀ ⊗ D_b`` of all points b above one another, shape (B r, n m).

    Parameters
    ----------
    left : array, shape (B, n)
        The rows ``a_bᵀ``.
    right : array, shape (B, r, m)
        The matrices ``D_b``.

    >>> a, D = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[[1.0, -1.0]], [[2.0, 0.0]]])
    >>> KhatriRao(a, D).to_dense()
    array([[ 1., -1.,  2., -2.],
           [ 6.,  0.,  8.,  0.]])
    """

    left: Array
    right: Array

    @property
    def shape(self) -> tuple[int, int]:
        B, r, m = self.right.shape
        return B * r, self.left.shape[1] * m

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.right.dtype

    def apply(self, columns: Array) -> Array:
        (B, r, m), k = self.right.shape, columns.shape[1]
        mixed = self.left @ columns.reshape(-1, m * k)
        return (self.right @ mixed.reshape(B, m, k)).reshape(B * r, k)

    def apply_transposed(self, columns: Array) -> Array:
        """Return ``Aᵀ @ columns``."""
        (B, r, m), k = self.right.shape, columns.shape[1]
        mixed = np.swapaxes(self.right, 1, 2) @ columns.reshape(B, r, k)
        return (self.left.T @ mixed.reshape(B, m * k)).reshape(-1, k)

    def transpose(self) -> LinearMap:
        return Transposed(self)

    def _dense(self) -> Array:
        rows: Array = self.left[:, None, :, None] * self.right[:, :, None, :]
        return rows.reshape(self.shape)

    def gram(self, other: KhatriRao) -> Array:
        """Return ``A Bᵀ``, all inner products of rows: ``(a_bᵀ a_c) D_b D_cᵀ`` block by block."""
        (B, r, m), (C, s, _) = self.right.shape, other.right.shape
        inner: Array = self.right.reshape(B * r, m) @ other.right.reshape(C * s, m).T
        inner = inner.reshape(B, r, C, s) * (self.left @ other.left.T)[:, None, :, None]
        return inner.reshape(B * r, C * s)

    def column_squares(self) -> Array:
        """Return the sum of squares of every column."""
        squares: Array = (self.left**2).T @ (self.right**2).sum(axis=1)
        return squares.reshape(-1)

    def row_squares(self, weights: Array | None = None) -> Array:
        """Return the sums of squares of rows, (B, r), with weights (n, m) for the columns.

        Without weights these are the products ``|a_b|² |row of D_b|²``.
        """
        if weights is None:
            squares: Array = (self.left**2).sum(axis=1)[:, None] * (self.right**2).sum(axis=2)
            return squares
        return (self.right**2 @ (self.left**2 @ weights)[:, :, None])[..., 0]

    def row_products(self, weights: Array) -> Array:
        """Return the blocks ``A_b diag(w) A_bᵀ`` of all points, (B, r, r)."""
        scaled: Array = self.right * (self.left**2 @ weights)[:, None, :]
        return scaled @ np.swapaxes(self.right, 1, 2)


@dataclass(frozen=True, eq=False, repr=False)
class Transposed(LinearMap):
    """The transpose of a map that has ``apply_transposed``."""

    of: Any

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.of.shape
        return n, m

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.of.dtype  # type: ignore[no-any-return]

    def apply(self, columns: Array) -> Array:
        return self.of.apply_transposed(columns)  # type: ignore[no-any-return]

    def transpose(self) -> LinearMap:
        return self.of  # type: ignore[no-any-return]

    def _dense(self) -> Array:
        return np.array(self.of.to_dense().T)
