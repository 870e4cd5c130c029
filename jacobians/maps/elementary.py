"""The maps that are not made of other maps: Identity, Matrix, Diagonal, DiagonalPlusLowRank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import FLOATS, Array, ShapeError, as_array, as_count
from jacobians.maps.base import LinearMap, frozen_field


@dataclass(frozen=True, eq=False, repr=False)
class Identity(LinearMap):
    """The n x n identity, which costs nothing to keep or to apply.

    Parameters
    ----------
    n : int
    dtype : numpy dtype, optional
        float64 unless said.

    >>> Identity(3) @ np.array([1.0, 2.0, 3.0])
    array([1., 2., 3.])
    """

    n: int
    dtype: np.dtype[Any] = np.dtype(np.float64)  # noqa: RUF009 (a dtype is immutable)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", as_count(self.n, "Identity: n"))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.dtype not in FLOATS:
            raise TypeError(f"Identity: expected float32 or float64, but got {self.dtype}.")

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    def apply(self, columns: Array) -> Array:
        return columns.astype(np.result_type(self.dtype, columns.dtype))

    def transpose(self) -> Identity:
        return self

    def _dense(self) -> Array:
        return np.eye(self.n, dtype=self.dtype)

    def _sparse(self) -> Any:
        from scipy.sparse import eye_array

        return eye_array(self.n, dtype=self.dtype, format="csr")


@dataclass(frozen=True, eq=False, repr=False)
class Matrix(LinearMap):
    """A matrix without structure.

    Parameters
    ----------
    array : array, shape (m, n) or (B, m, n)

    >>> Matrix([[1, 2, 3], [4, 5, 6]])
    Matrix 2x3 float64
    >>> Matrix([[1, 2, 3], [4, 5, 6]]) @ [1, 0, 1]
    array([ 4., 10.])
    """

    array: Array

    def __post_init__(self) -> None:
        frozen_field(self, "array", (2, 3), "shape (m, n) or (B, m, n)")

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.array.shape[-2:]
        return m, n

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def batch(self) -> tuple[int, ...]:
        return self.array.shape[:-2]

    def apply(self, columns: Array) -> Array:
        if not self.batch and columns.ndim == 3 and columns.shape[2] == 1:
            # a vector for each point: one product of them all, not one for each
            product: Array = columns[:, :, 0] @ self.array.T
            return product[:, :, None]
        return self.array @ columns

    def transpose(self) -> Matrix:
        return Matrix(np.swapaxes(self.array, -2, -1))

    def _dense(self) -> Array:
        return self.array.copy()

    def _sparse(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array(self.array)


@dataclass(frozen=True, eq=False, repr=False)
class Diagonal(LinearMap):
    """``diag(d)``: applying it scales rows, and ``diag(d) W == d[:, None] * W`` bit for bit.

    Parameters
    ----------
    diagonal : array, shape (n,) or (B, n)

    >>> Diagonal([2.0, 3.0]) @ [10.0, 100.0]
    array([ 20., 300.])
    """

    diagonal: Array

    def __post_init__(self) -> None:
        frozen_field(self, "diagonal", (1, 2), "shape (n,) or (B, n)")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[-1]
        return n, n

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.diagonal.dtype

    @property
    def batch(self) -> tuple[int, ...]:
        return self.diagonal.shape[:-1]

    def apply(self, columns: Array) -> Array:
        return self.diagonal[..., :, None] * columns

    def transpose(self) -> Diagonal:
        return self

    def _dense(self) -> Array:
        n = self.shape[0]
        dense = np.zeros((*self.batch, n, n), self.dtype)
        dense[..., np.arange(n), np.arange(n)] = self.diagonal
        return dense

    def _sparse(self) -> Any:
        from scipy.sparse import diags_array

        return diags_array(self.diagonal, format="csr")


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalPlusLowRank(LinearMap):
    """``diag(d) + U Vᵀ`` with few columns in ``U`` and ``V``: the Jacobian of softmax is one.

    Parameters
    ----------
    diagonal : array, shape (n,) or (B, n)
    left, right : array, shape (n, r) or (B, n, r)
        The factors ``U`` and ``V``.

    Applying it to a vector costs ``O(n r)``.

    >>> p = np.array([0.5, 0.25, 0.25])
    >>> DiagonalPlusLowRank(p, -p[:, None], p[:, None]) @ [1.0, 0.0, 0.0]
    array([ 0.25 , -0.125, -0.125])
    """

    diagonal: Array
    left: Array
    right: Array

    def __post_init__(self) -> None:
        d = frozen_field(self, "diagonal", (1, 2), "shape (n,) or (B, n)")
        U = frozen_field(self, "left", (2, 3), "shape (n, r) or (B, n, r)")
        V = frozen_field(self, "right", (2, 3), "shape (n, r) or (B, n, r)")
        if U.shape != V.shape or U.shape[:-1] != d.shape:
            raise ShapeError(
                "DiagonalPlusLowRank: expected diagonal (n,), left (n, r) and right (n, r), with "
                f"the same leading axis, but got {d.shape}, {U.shape} and {V.shape}."
            )

    @property
    def rank(self) -> int:
        """Number of columns in ``U`` and ``V``."""
        return int(self.left.shape[-1])

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[-1]
        return n, n

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.diagonal, self.left, self.right)

    @property
    def batch(self) -> tuple[int, ...]:
        return self.diagonal.shape[:-1]

    def apply(self, columns: Array) -> Array:
        low_rank: Array = self.left @ (np.swapaxes(self.right, -2, -1) @ columns)
        return self.diagonal[..., :, None] * columns + low_rank

    def transpose(self) -> DiagonalPlusLowRank:
        return DiagonalPlusLowRank(self.diagonal, self.right, self.left)

    def _dense(self) -> Array:
        dense: Array = self.left @ np.swapaxes(self.right, -2, -1)
        i = np.arange(self.shape[0])
        dense[..., i, i] += self.diagonal
        return dense

    def _kind(self) -> str:
        return f"DiagonalPlusLowRank(rank {self.rank})"


def as_map(value: Any, where: str) -> LinearMap:
    """Return a LinearMap as it is, and any array as a ``Matrix``."""
    if isinstance(value, LinearMap):
        return value
    array = as_array(value, where)
    if array.ndim not in (2, 3):
        raise ShapeError(f"{where}: expected a map or a matrix, but got shape {array.shape}.")
    return Matrix(array)
