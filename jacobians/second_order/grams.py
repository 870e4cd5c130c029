"""Gram matrices of rows: ``w Rᵀ R`` of all parameters, ``R_1 R_2ᵀ`` of all outputs at all points.

Both are kept as the rows they are made of; their diagonals are sums of squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from jacobians._checks import Array, refuse_if_too_large, underflow_is_rounding
from jacobians.maps import LinearMap
from jacobians.second_order.factors import KroneckerFactors
from jacobians.second_order.rows import PointRows


class OverPoints(LinearMap):
    """A symmetric map of all parameters, (p, p): ``weight`` times a sum over points."""

    rows: PointRows
    weight: Any

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape[1], self.rows.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows.dtype

    def transpose(self) -> Self:
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Gram(OverPoints):
    """``w Rᵀ R``, symmetric and positive semidefinite, (p, p): Gauss-Newton or Fisher."""

    rows: PointRows
    weight: Any

    def apply(self, columns: Array) -> Array:
        product: Array = self.rows.apply_gram(columns) * self.dtype.type(self.weight)
        return product

    def _dense(self) -> Array:
        total = np.zeros(self.shape, self.dtype)
        for _, [(_, K)] in self.rows.joined():
            R = K.to_dense()
            total += R.T @ R
        total *= self.dtype.type(self.weight)
        return total

    @underflow_is_rounding
    def diagonal(self) -> Array:
        total = np.zeros(self.shape[0], self.dtype)
        for _, rows in self.rows.by_layer():
            for l, K in rows:
                total[self.rows.span(l)] += K.column_squares()
        total *= self.dtype.type(self.weight)
        return total

    def block(self, l: int | str) -> Gram:
        """Return the block of the parameters of one layer, a map like this one."""
        return Gram(self.rows.block(l), self.weight)

    @underflow_is_rounding
    def kronecker(self) -> dict[int, KroneckerFactors]:
        """Return the block of every layer that has parameters as a Kronecker product (KFAC).

        For a dense layer, ``A`` is the mean of ``(a, 1)(a, 1)ᵀ`` over the points, and ``G`` the sum
        of ``w J_lᵀ S Sᵀ J_l``, with ``J_l`` the derivative with respect to ``z^l``.  Exact at one
        point.  For any other layer ``A`` is 1 and ``G`` its block itself.
        """
        sums: dict[int, tuple[Any, Any]] = dict.fromkeys(self.rows.blocks, (0, 0))
        for _, rows in self.rows.by_layer():
            for l, K in rows:
                (A, G), flat = sums[l], K.right.reshape(-1, K.right.shape[2])
                size = (flat.shape[1], flat.shape[1])
                refuse_if_too_large(size, self.dtype, f"G of layer {l}", "See .diagonal")
                sums[l] = A + K.left.T @ K.left, G + flat.T @ flat
        B, w = len(self.rows.X), self.dtype.type(self.weight)
        return {l: KroneckerFactors(A / B, w * G) for l, (A, G) in sums.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Kernel(LinearMap):
    """``R_1 R_2ᵀ``: how a step along the gradient of one output at one point moves another."""

    left: PointRows
    right: PointRows

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.left.dtype

    def apply(self, columns: Array) -> Array:
        return self.left.apply(self.right.apply_transposed(columns))

    def transpose(self) -> Kernel:
        return Kernel(self.right, self.left)

    def _dense(self) -> Array:
        # the sum over layers of (a_iᵀ a_j + 1) * (J_i J_jᵀ), a piece of the points at a time
        dense, r, s = np.zeros(self.shape, self.dtype), self.left.root.rank, self.right.root.rank
        for i, above in self.left.by_layer():
            rows = dict(above)
            for j, beside in self.right.by_layer():
                block = dense[i.start * r : i.stop * r, j.start * s : j.stop * s]
                for l, K in beside:
                    block += rows[l].gram(K)
        return dense

    @underflow_is_rounding
    def diagonal(self) -> Array:
        if self.left is not self.right:
            return super().diagonal()
        squares = np.zeros((len(self.left.X), self.left.root.rank), self.dtype)
        for i, rows in self.left.by_layer():
            for _, K in rows:
                squares[i] += K.row_squares()
        return squares.reshape(-1)
