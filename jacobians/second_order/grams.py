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


@dataclass(frozen=True, eq=False, repr=False)
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

        ``A`` is the mean of ``(a_t, 1)(a_t, 1)ᵀ`` over points and positions t, and ``G`` the sum of
        ``w delta_t delta_tᵀ``, with ``delta = J_lᵀ S`` and ``J_l`` the derivative with respect to
        ``z^l``.  A dense layer has one position, or one for every token; a convolution has one for
        every patch ``a_t``.  Exact at one point with one position; for a layer that is no such
        product (norms, groups of channels, transposed convolutions) ``A`` is 1 and ``G`` its block.
        """
        sums: dict[int, tuple[Any, Any, int]] = dict.fromkeys(self.rows.blocks, (0, 0, 0))
        for pairs in self.rows.outer_products():
            for l, a, delta in pairs:
                (A, G, count), m = sums[l], delta.shape[2]
                for name, size in (("A", a.shape[2]), ("G", m)):
                    where = f"{name} of layer {l}"
                    refuse_if_too_large((size, size), self.dtype, where, "See .diagonal")
                a, d = a.reshape(-1, a.shape[2]), np.swapaxes(delta, 2, 3).reshape(-1, m)
                sums[l] = A + a.T @ a, G + d.T @ d, count + len(a)
        w = self.dtype.type(self.weight)
        return {l: KroneckerFactors(A / count, w * G) for l, (A, G, count) in sums.items()}


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
        # the sum over layers of (a_iᵀ a_j + 1) * (J_i J_jᵀ), the 1 for a bias, piece by piece
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
