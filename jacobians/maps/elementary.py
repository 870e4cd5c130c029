"""The maps that are not made of other maps: Identity, Matrix, Diagonal, DiagonalPlusLowRank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from jacobians._checks import Array, ShapeError, as_array, as_count, as_dtype
from jacobians._machine import times_in_slabs
from jacobians._windows import are_rows, moved
from jacobians.maps.base import LinearMap, frozen_field

DOUBLE = np.dtype(np.float64)
Elementary = TypeVar("Elementary", "Matrix", "Diagonal")
SMALL = 10_000  # entries up to which one core multiplies a matrix well


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
        object.__setattr__(self, "dtype", as_dtype(self.dtype, "Identity"))

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    def apply(self, columns: Array) -> Array:
        return columns.astype(np.result_type(self.dtype, columns.dtype), copy=False)

    def transpose(self) -> Identity:
        return self

    def _dense(self) -> Array:
        return np.eye(self.n, dtype=self.dtype)

    def diagonal(self) -> Array:
        return np.ones(self.n, self.dtype)

    @property
    def flops(self) -> float:
        return 0.0

    @property
    def monomial(self) -> bool:
        return True

    @property
    def block_count(self) -> int:
        return self.n

    def block_stack(self, count: int, points: int) -> Identity:
        return Identity(self.n // count, self.dtype)

    def magnitude(self) -> Identity:
        return Identity(self.n)

    def underflow(self) -> float:
        return 0.0

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
        if columns.ndim > 2 and (columns.shape[-1] == 1 or are_rows(columns)):
            rows, turned = moved(columns, -1, 0), np.swapaxes(self.array, -2, -1)
            if not self.batch and rows.flags.c_contiguous:
                # every column lies in one piece: one product of them all, not one for each point
                flat, small = rows.reshape(-1, rows.shape[-1]), self.array.size <= SMALL
                product = times_in_slabs(flat, turned) if small else flat @ turned
                return moved(product.reshape(*rows.shape[:-1], len(self.array)), 0, -1)
            lead = np.broadcast_shapes(self.batch, columns.shape[:-2])
            result = None
            if lead == columns.shape[:-2]:  # its axes lie in memory as those of the columns do
                dtype = np.result_type(self.array, columns)
                shape = (*lead, self.shape[0], columns.shape[-1])
                result = np.swapaxes(np.empty_like(columns, dtype, shape=shape), -2, -1)
            product = np.matmul(np.swapaxes(columns, -2, -1), turned, out=result)
            return np.swapaxes(product, -2, -1)
        return self.array @ columns

    def transpose(self) -> Matrix:
        return unchecked(Matrix, np.swapaxes(self.array, -2, -1))

    def _dense(self) -> Array:
        return self.array.copy()

    def magnitude(self) -> Matrix:
        return Matrix(np.abs(self.array).astype(DOUBLE))

    def _sparse(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array(self.array)


@dataclass(frozen=True, eq=False, repr=False)
class Diagonal(LinearMap):
    """``diag(d)``: applying it scales rows, and ``diag(d) W == d[:, None] * W`` bit for bit.

    Parameters
    ----------
    entries : array, shape (n,) or (B, n)

    >>> Diagonal([2.0, 3.0]) @ [10.0, 100.0]
    array([ 20., 300.])
    """

    entries: Array

    def __post_init__(self) -> None:
        frozen_field(self, "entries", (1, 2), "shape (n,) or (B, n)")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.entries.shape[-1]
        return n, n

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.entries.dtype

    @property
    def batch(self) -> tuple[int, ...]:
        return self.entries.shape[:-1]

    def apply(self, columns: Array) -> Array:
        return self.entries[..., :, None] * columns

    def transpose(self) -> Diagonal:
        return self

    def _dense(self) -> Array:
        n = self.entries.shape[-1]
        dense = np.zeros((*self.batch, n, n), self.dtype)
        dense[..., np.arange(n), np.arange(n)] = self.entries
        return dense

    def _sparse(self) -> Any:
        from scipy.sparse import diags_array

        return diags_array(self.entries, format="csr")

    def diagonal(self) -> Array:
        return self.entries.copy()

    @property
    def flops(self) -> float:
        return float(self.entries.shape[-1])

    @property
    def monomial(self) -> bool:
        return True

    @property
    def block_count(self) -> int:
        return self.shape[0]

    def block_stack(self, count: int, points: int) -> Diagonal:
        entries = np.broadcast_to(self.entries, (points, self.shape[0]))
        return unchecked(Diagonal, entries.reshape(points * count, -1))

    def magnitude(self) -> Diagonal:
        return Diagonal(np.abs(self.entries).astype(DOUBLE))

    def roundings(self) -> Any:
        """Count one; none where every entry is 0 or a power of two, which multiply exactly."""
        exact = np.abs(np.frexp(np.where(self.entries != 0, self.entries, 0.5))[0]) == 0.5
        return (~exact.all(axis=-1)).astype(int)

    def underflow(self) -> float:
        return 2.0


LinearMap.scaling_of = Diagonal


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalPlusLowRank(LinearMap):
    """``diag(d) + U Vᵀ`` with few columns in ``U`` and ``V``: the Jacobian of softmax is one.

    Parameters
    ----------
    entries : array, shape (n,) or (B, n)
        The diagonal ``d``.
    left, right : array, shape (n, r) or (B, n, r)
        The factors ``U`` and ``V``.

    Applying it to a vector costs ``O(n r)``.

    >>> p = np.array([0.5, 0.25, 0.25])
    >>> DiagonalPlusLowRank(p, -p[:, None], p[:, None]) @ [1.0, 0.0, 0.0]
    array([ 0.25 , -0.125, -0.125])
    """

    entries: Array
    left: Array
    right: Array

    composite = True

    def __post_init__(self) -> None:
        d = frozen_field(self, "entries", (1, 2), "shape (n,) or (B, n)")
        U = frozen_field(self, "left", (2, 3), "shape (n, r) or (B, n, r)")
        V = frozen_field(self, "right", (2, 3), "shape (n, r) or (B, n, r)")
        if U.shape != V.shape or U.shape[:-1] != d.shape:
            raise ShapeError(
                "DiagonalPlusLowRank: expected entries (n,), left (n, r) and right (n, r), with "
                f"the same leading axis, but got {d.shape}, {U.shape} and {V.shape}."
            )

    @property
    def rank(self) -> int:
        """Number of columns in ``U`` and ``V``."""
        return int(self.left.shape[-1])

    @property
    def shape(self) -> tuple[int, int]:
        n = self.entries.shape[-1]
        return n, n

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.entries, self.left, self.right)

    @property
    def batch(self) -> tuple[int, ...]:
        return self.entries.shape[:-1]

    def apply(self, columns: Array) -> Array:
        if are_rows(columns):  # and stay so
            rows = np.swapaxes(columns, -2, -1)
            result: Array = rows * self.entries[..., None, :]
            result += (rows @ self.right) @ np.swapaxes(self.left, -2, -1)
            return np.swapaxes(result, -2, -1)
        result = self.entries[..., :, None] * columns
        result += self.left @ (np.swapaxes(self.right, -2, -1) @ columns)
        return result

    def transpose(self) -> DiagonalPlusLowRank:
        return DiagonalPlusLowRank(self.entries, self.right, self.left)

    def _dense(self) -> Array:
        dense: Array = self.left @ np.swapaxes(self.right, -2, -1)
        i = np.arange(self.shape[0])
        dense[..., i, i] += self.entries
        return dense

    def diagonal(self) -> Array:
        own: Array = self.entries + (self.left * self.right).sum(axis=-1)
        return own

    @property
    def flops(self) -> float:
        return float((4 * self.rank + 2) * self.shape[0])

    def magnitude(self) -> DiagonalPlusLowRank:
        d, U, V = (np.abs(A).astype(DOUBLE) for A in (self.entries, self.left, self.right))
        return DiagonalPlusLowRank(d, U, V)

    def roundings(self) -> int:
        # the contraction with V is the one beside the map; then r products, and one addition
        return self.rank + 1

    def _ends(self) -> tuple[float, float]:
        """Return the reach of U and of V: ``Vᵀ X`` and ``F U`` are partial products too."""
        return Matrix(self.left).reach(), Matrix(self.right).reach()

    def reach(self) -> float:
        left, right = self._ends()
        return float(np.abs(self.entries).max(initial=0.0)) + left * right

    def underflow(self) -> float:
        return super().underflow() * (1 + self.rank * max(self._ends()))

    def _kind(self) -> str:
        return f"DiagonalPlusLowRank(rank {self.rank})"


def unchecked(kind: type[Elementary], array: Array) -> Elementary:
    """Return a Matrix or Diagonal of an array that was made or checked here."""
    made = object.__new__(kind)
    object.__setattr__(made, "array" if kind is Matrix else "entries", array)
    return made


def as_map(value: Any, where: str) -> LinearMap:
    """Return a LinearMap as it is, and any array as a ``Matrix``."""
    if isinstance(value, LinearMap):
        return value
    array = as_array(value, where)
    if array.ndim not in (2, 3):
        raise ShapeError(f"{where}: expected a map or a matrix, but got shape {array.shape}.")
    return Matrix(array)
