"""KhatriRao: rows that are Kronecker products, point by point.

The gradient of one point with respect to a weight matrix is ``vec(delta aᵀ)ᵀ = aᵀ ⊗ deltaᵀ``, so
the gradients of all points above one another are two small arrays.  Everything that is asked of
them needs no more than these: inner products of rows are ``(a_iᵀ a_j) (delta_iᵀ delta_j)``, squares
are products of squares.

Source: C. G. Khatri and C. R. Rao, Sankhya A 30 (1968); S. Liu, Linear Algebra Appl. 289 (1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError
from jacobians.maps.base import LinearMap, frozen_field
from jacobians.maps.elementary import DOUBLE, Matrix


@dataclass(frozen=True, eq=False, repr=False)
class KhatriRao(LinearMap):
    """The blocks ``a_bᵀ ⊗ D_b`` above one another, a block of r rows for each point b.

    Parameters
    ----------
    left : array, shape (B, n)
        The rows ``a_bᵀ``.
    right : array, shape (B, r, m)
        The matrices ``D_b``.

    The shape is ``(B r, n m)``.

    >>> gradients = KhatriRao([[1.0, 2.0], [3.0, 4.0]], [[[1.0, -1.0]], [[2.0, 0.0]]])
    >>> gradients.to_dense()
    array([[ 1., -1.,  2., -2.],
           [ 6.,  0.,  8.,  0.]])
    >>> gradients.gram(gradients)
    array([[ 10.,  22.],
           [ 22., 100.]])
    """

    left: Array
    right: Array

    composite = True

    def __post_init__(self) -> None:
        a = frozen_field(self, "left", (2,), "shape (B, n)")
        D = frozen_field(self, "right", (3,), "shape (B, r, m)")
        if len(a) != len(D):
            raise ShapeError(f"KhatriRao: left has {len(a)} rows, right {len(D)} matrices.")

    @property
    def shape(self) -> tuple[int, int]:
        B, r, m = self.right.shape
        return B * r, self.left.shape[1] * m

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.left, self.right)

    def apply(self, columns: Array) -> Array:
        (B, _, m), (*lead, _, k) = self.right.shape, columns.shape
        mixed = self.left @ columns.reshape(*lead, -1, m * k)
        rows: Array = self.right @ mixed.reshape(*lead, B, m, k)
        return rows.reshape(*lead, -1, k)

    def apply_transposed(self, columns: Array) -> Array:
        """Return ``Aᵀ @ columns``."""
        (B, r, m), (*lead, _, k) = self.right.shape, columns.shape
        mixed = np.swapaxes(self.right, 1, 2) @ columns.reshape(*lead, B, r, k)
        rows: Array = self.left.T @ mixed.reshape(*lead, B, m * k)
        return rows.reshape(*lead, -1, k)

    def transpose(self) -> LinearMap:
        return Transposed(self)

    def _dense(self) -> Array:
        rows: Array = self.left[:, None, :, None] * self.right[:, :, None, :]
        return rows.reshape(self.shape)

    # --- what its two arrays tell -----------------------------------------------------------------

    def gram(self, other: KhatriRao) -> Array:
        """Return ``A Bᵀ``, all inner products of rows: ``(a_bᵀ a_c) D_b D_cᵀ`` block by block."""
        (B, r, m), (C, s, _) = self.right.shape, other.right.shape
        inner: Array = self.right.reshape(B * r, m) @ other.right.reshape(C * s, m).T
        inner = inner.reshape(B, r, C, s) * (self.left @ other.left.T)[:, None, :, None]
        return inner.reshape(B * r, C * s)

    def column_squares(self) -> Array:
        """Return the sum of squares of every column, ``diag(Aᵀ A)``."""
        squares: Array = (self.left**2).T @ (self.right**2).sum(axis=1)
        return squares.reshape(-1)

    def row_squares(self, weights: Array | None = None) -> Array:
        """Return the sums of squares of rows, (B, r), with weights (n, m): ``diag(A diag(w) Aᵀ)``.

        Without weights these are the products ``|a_b|² |row of D_b|²``.
        """
        return (self.right**2 @ self._mixed(weights)[:, :, None])[..., 0]  # type: ignore[no-any-return]

    def row_products(self, weights: Array | None = None) -> Array:
        """Return the blocks ``A_b diag(w) A_bᵀ`` of all points, (B, r, r)."""
        scaled: Array = self.right * self._mixed(weights)[:, None, :]
        return scaled @ np.swapaxes(self.right, 1, 2)

    def _mixed(self, weights: Array | None) -> Array:
        squares: Array = self.left**2
        if weights is None:
            return np.repeat(squares.sum(axis=1)[:, None], self.right.shape[2], axis=1)
        return squares @ weights

    # --- rounding ---------------------------------------------------------------------------------

    @property
    def flops(self) -> float:
        (B, r, m), n = self.right.shape, self.left.shape[1]
        return 2.0 * B * m * (n + r)

    def magnitude(self) -> KhatriRao:
        return KhatriRao(np.abs(self.left).astype(DOUBLE), np.abs(self.right).astype(DOUBLE))

    def roundings(self) -> int:
        return 1  # as for a Kronecker product: n + m contractions are at most n m and one more

    def reach(self) -> float:
        return Matrix(self.left).reach() * Matrix(self.right).reach()

    def underflow(self) -> float:
        A, D = Matrix(self.left), Matrix(self.right)
        return A.underflow() * D.reach() + D.underflow() * A.reach() + 4.0

    def __repr__(self) -> str:
        B, r, m = self.right.shape
        return f"{super().__repr__()}: {B} x (1x{self.left.shape[1]} ⊗ {r}x{m})"


@dataclass(frozen=True, eq=False, repr=False)
class Transposed(LinearMap):
    """The transpose of a map that knows how to apply it (``apply_transposed``)."""

    of: Any

    composite = True

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.of.shape
        return n, m

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.of.dtype
        return dtype

    def apply(self, columns: Array) -> Array:
        product: Array = self.of.apply_transposed(columns)
        return product

    def transpose(self) -> LinearMap:
        original: LinearMap = self.of
        return original

    def _dense(self) -> Array:
        return np.array(self.of._dense().T)

    @property
    def flops(self) -> float:
        return float(self.of.flops)

    def magnitude(self) -> LinearMap | None:
        found = self.of.magnitude()
        return None if found is None else found.T

    def roundings(self) -> Any:
        return self.of.roundings()

    def reach(self) -> float:
        return float(self.of.reach())

    def underflow(self) -> float:
        return float(self.of.underflow())

    def __repr__(self) -> str:
        return f"{super().__repr__()} of ({self.of!r})"
