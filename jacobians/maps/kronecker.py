"""Kronecker products of maps, and the permutations that vec brings along.

``(A ⊗ B) vec(X) = vec(B X Aᵀ)``: that one line is why a Kronecker product never has to be formed.
The derivative of ``z = W a`` with respect to ``vec(W)`` is ``aᵀ ⊗ I``; for a layer of width 4096
its dense form takes 512 GiB and its parts a few kilobytes.

Source: C. F. Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123 (2000);
J. R. Magnus and H. Neudecker, *Matrix Differential Calculus*, chapters 2 and 3.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, Places, as_count
from jacobians.maps.base import LinearMap, common_batch
from jacobians.maps.elementary import as_map
from jacobians.vectorization import (
    commutation_places,
    duplication_places,
    elimination_places,
    unvec,
    vec,
)


@dataclass(frozen=True, eq=False, repr=False)
class Kronecker(LinearMap):
    """``A ⊗ B``, kept as its two factors.

    Parameters
    ----------
    left, right : map or matrix, shapes (m, n) and (p, q)
        The factors ``A`` and ``B``; an ``Identity`` costs nothing.

    The shape is ``(m*p, n*q)``; applying costs one application of ``B`` to ``n`` columns and one of
    ``A`` to ``p`` columns.

    >>> from jacobians.maps import Identity
    >>> a = np.array([[1.0, 2.0]])
    >>> dz_dvecW = Kronecker(a, Identity(3))  # z = W a with W of shape (3, 2)
    >>> dz_dvecW
    Kronecker 3x6 float64: (Matrix 1x2) ⊗ (Identity 3x3)
    >>> dz_dvecW @ vec([[1, 4], [2, 5], [3, 6]])
    array([ 9., 12., 15.])
    """

    left: LinearMap
    right: LinearMap

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
        # (A ⊗ B) vec(X) = vec(B X Aᵀ), for every column at once: the columns become a leading
        # axis in front of the batch, so that each X meets the A and B of its own point.
        if self.batch and columns.ndim == 2:
            columns = np.broadcast_to(columns, self.batch + columns.shape)
        X = unvec(np.moveaxis(columns, -1, 0), (self.right.shape[1], self.left.shape[1]))
        BX = self.right.apply(X)
        BXAt = np.swapaxes(self.left.apply(np.swapaxes(BX, -2, -1)), -2, -1)
        return np.moveaxis(vec(BXAt), 0, -1)

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

    def __repr__(self) -> str:
        factors = (f"({A._kind()} {A._size()})" for A in (self.left, self.right))
        return f"{super().__repr__()}: {' ⊗ '.join(factors)}"


class _Gather(LinearMap):
    """A matrix of zeros with a single one in every row: ``(G x)_i = x[places_i]``."""

    @property
    @abstractmethod
    def places(self) -> Places:
        """Column of the one in each row."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def apply(self, columns: Array) -> Array:
        return columns[..., self.places, :]

    def transpose(self) -> LinearMap:
        return _Scatter(self)

    def _dense(self) -> Array:
        m, n = self.shape
        dense = np.zeros((m, n))
        dense[np.arange(m), self.places] = 1.0
        return dense

    def _sparse(self) -> Any:
        from scipy.sparse import csr_array

        m, n = self.shape
        return csr_array((np.ones(m), (np.arange(m), self.places)), shape=(m, n))


@dataclass(frozen=True, eq=False, repr=False)
class _Scatter(LinearMap):
    """The transpose of a gather: entries that came from one place are added up there."""

    gather: _Gather

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.gather.shape
        return n, m

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.gather.dtype

    def apply(self, columns: Array) -> Array:
        result = np.zeros((*columns.shape[:-2], self.shape[0], columns.shape[-1]), columns.dtype)
        arriving = np.moveaxis(result, -2, 0)
        np.add.at(arriving, self.gather.places, np.moveaxis(columns, -2, 0))
        return result

    def transpose(self) -> LinearMap:
        return self.gather

    def _dense(self) -> Array:
        return self.gather._dense().T

    def _sparse(self) -> Any:
        return self.gather._sparse().T.tocsr()

    def _kind(self) -> str:
        return f"{self.gather._kind()}ᵀ"


@dataclass(frozen=True, eq=False, repr=False)
class Commutation(_Gather):
    """``K vec(M) = vec(Mᵀ)`` for ``M`` of shape (m, n): from stacked columns to stacked rows.

    Parameters
    ----------
    m, n : int

    >>> Commutation(2, 3) @ vec([[1, 2, 3], [4, 5, 6]])
    array([1., 2., 3., 4., 5., 6.])
    """

    m: int
    n: int

    def __post_init__(self) -> None:
        _count_fields(self, "m", "n")

    @property
    def shape(self) -> tuple[int, int]:
        return self.m * self.n, self.m * self.n

    @property
    def places(self) -> Places:
        return commutation_places(self.m, self.n)

    def transpose(self) -> Commutation:
        return Commutation(self.n, self.m)  # a permutation: its transpose is its inverse


@dataclass(frozen=True, eq=False, repr=False)
class Duplication(_Gather):
    """``D_n vech(S) = vec(S)`` for symmetric ``S`` of shape (n, n).

    Parameters
    ----------
    n : int

    >>> Duplication(2) @ [1.0, 5.0, 2.0]
    array([1., 5., 5., 2.])
    """

    n: int

    def __post_init__(self) -> None:
        _count_fields(self, "n")

    @property
    def shape(self) -> tuple[int, int]:
        return self.n**2, self.n * (self.n + 1) // 2

    @property
    def places(self) -> Places:
        return duplication_places(self.n)


@dataclass(frozen=True, eq=False, repr=False)
class Elimination(_Gather):
    """``L_n vec(M) = vech(M)`` for ``M`` of shape (n, n): the lower triangle is kept.

    Parameters
    ----------
    n : int

    >>> Elimination(2) @ vec([[1, 9], [5, 2]])
    array([1., 5., 2.])
    """

    n: int

    def __post_init__(self) -> None:
        _count_fields(self, "n")

    @property
    def shape(self) -> tuple[int, int]:
        return self.n * (self.n + 1) // 2, self.n**2

    @property
    def places(self) -> Places:
        return elimination_places(self.n)


def _count_fields(record: LinearMap, *names: str) -> None:
    for name in names:
        count = as_count(getattr(record, name), f"{type(record).__name__}: {name}")
        object.__setattr__(record, name, count)
