"""Rows of the identity: choosing, repeating, permuting and padding entries.

A selection multiplies by gathering, ``(S x)_i = x[index_i]``, and its transpose adds up what came
from one entry.  Slices, gathers, permutations, paddings and max-pools are selections; so are the
matrices that ``vec`` brings along: the commutation matrix ``K``, and ``D`` and ``L`` for symmetric
matrices.

Source: J. R. Magnus and H. Neudecker, *Matrix Differential Calculus*, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import Array, Indices, ShapeError, as_array, as_count, freeze
from jacobians._windows import are_rows, moved
from jacobians.maps.base import LinearMap
from jacobians.maps.elementary import DOUBLE
from jacobians.vectorization import commutation_places, duplication_places, elimination_places


class _Rows(LinearMap):
    """A matrix with at most a single one in every row: ``(S x)_i = x[index_i]``, or 0."""

    dtype: np.dtype[Any]
    index: Any  # column of the one in each row, (m,) or (B, m); -1 for a row of zeros

    @property
    def batch(self) -> tuple[int, ...]:
        batch: tuple[int, ...] = self.index.shape[:-1]
        return batch

    def apply(self, columns: Array) -> Array:
        dtype = np.result_type(self.dtype, columns.dtype)
        return _for_all_points(self, columns, self._gather).astype(dtype, copy=False)

    def _gather(self, columns: Array) -> Array:
        return _gather(columns, *self._runs)

    @cached_property
    def flat(self) -> Indices:
        """The index of all points at once, into their entries one after the other."""
        flat: Indices = self.index
        if flat.ndim > 1:
            first = np.arange(len(flat))[:, None] * self.shape[1]
            flat = np.where(flat < 0, -1, flat + first).ravel()
        flat.flags.writeable = False
        return flat

    @cached_property
    def _runs(self) -> tuple[int, Indices]:
        return _in_runs(self.flat, self._entries())

    @cached_property
    def _inverse_runs(self) -> tuple[int, Indices] | None:
        """Where each entry of ``x`` went, if this is a permutation."""
        flat = self.flat
        if len(flat) != self._entries() or not self.monomial or (flat < 0).any():
            return None
        return _in_runs(np.argsort(flat), len(flat))

    def _entries(self) -> int:
        return self.shape[1] * (self.batch[0] if self.batch else 1)

    def transpose(self) -> LinearMap:
        return Scatter(self)

    def _dense(self) -> Array:
        dense = np.zeros((*self.batch, *self.shape), self.dtype)
        chosen = np.nonzero(self.index >= 0)
        dense[(*chosen, self.index[chosen])] = 1.0
        return dense

    def _sparse(self) -> Any:
        from scipy.sparse import csr_array

        rows = np.flatnonzero(self.index >= 0)
        ones = np.ones(len(rows), self.dtype)
        return csr_array((ones, (rows, self.index[rows])), shape=self.shape)

    @property
    def flops(self) -> float:
        return 0.0

    @cached_property
    def monomial(self) -> bool:
        chosen = self.flat[self.flat >= 0]
        return not chosen.size or int(np.bincount(chosen).max()) <= 1

    def magnitude(self) -> LinearMap:
        return Selection(self.index, self.shape[1])

    def underflow(self) -> float:
        return 0.0  # additions do not underflow


@dataclass(frozen=True, eq=False, repr=False)
class Selection(_Rows):
    """Rows of the identity: ``(S x)_i = x[index_i]``.

    Parameters
    ----------
    index : array of int, shape (m,) or (B, m)
        The entry of ``x`` that each entry of the product is, from 0; -1 gives a zero.
    n : int
        How many entries ``x`` has.
    dtype : numpy dtype, optional
        float64 unless said.

    >>> Selection([2, 0, 0, -1], 3) @ [10.0, 20.0, 30.0]
    array([30., 10., 10.,  0.])
    >>> Selection([2, 0, 0, -1], 3).T @ [1.0, 2.0, 3.0, 4.0]
    array([5., 0., 1.])
    """

    index: Indices
    n: int
    dtype: np.dtype[Any] = DOUBLE

    def __post_init__(self) -> None:
        n = as_count(self.n, "Selection: n")
        index = as_array(self.index, "Selection: index")
        if index.dtype.kind not in "iu" or index.ndim not in (1, 2) or 0 in index.shape[-1:]:
            raise ShapeError(
                "Selection: index: expected whole numbers of shape (m,) or (B, m), but got "
                f"{index.dtype} of shape {index.shape}."
            )
        if index.size and not (index.min() >= -1 and index.max() < n):
            raise ShapeError(
                f"Selection: index: expected numbers from 0 to {n - 1}, or -1 for a zero, "
                f"but got {index.min()} to {index.max()}."
            )
        object.__setattr__(self, "index", freeze(index.astype(np.intp, copy=False)))
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "dtype", np.dtype(self.dtype))

    @property
    def shape(self) -> tuple[int, int]:
        return self.index.shape[-1], self.n


LinearMap.selection_of = Selection


@dataclass(frozen=True, eq=False, repr=False)
class Scatter(LinearMap):
    """The transpose of a selection: entries that came from one are added up in it."""

    rows: _Rows

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.rows.shape
        return n, m

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows.dtype

    @property
    def batch(self) -> tuple[int, ...]:
        return self.rows.batch

    def apply(self, columns: Array) -> Array:
        dtype = np.result_type(self.dtype, columns.dtype)
        return _for_all_points(self, columns, self._scatter).astype(dtype, copy=False)

    def _scatter(self, columns: Array) -> Array:
        flat, size, (*outer, m, k) = self.rows.flat, self.rows._entries(), columns.shape
        if self.rows._inverse_runs is not None:
            return _gather(columns, *self.rows._inverse_runs)
        if self.rows.monomial:
            result = np.zeros((*outer, size, k), columns.dtype)
            kept = slice(None) if (flat >= 0).all() else flat >= 0
            for one, x in zip(result.reshape(-1, size, k), columns.reshape(-1, m, k), strict=True):
                if k == 1:  # without the last axis the assignment is one loop
                    one, x = one[:, 0], x[:, 0]
                one[flat[kept]] = x[kept]
            return result
        rows = moved(columns, -2, 0).reshape(m, -1)
        summed = Selection(flat, size, self.dtype)._sparse().T.tocsr() @ rows
        return moved(summed.reshape(size, *outer, k), 0, -2)

    def transpose(self) -> LinearMap:
        return self.rows

    def _dense(self) -> Array:
        return np.swapaxes(self.rows._dense(), -2, -1).copy()

    def _sparse(self) -> Any:
        return self.rows._sparse().T.tocsr()

    @property
    def flops(self) -> float:
        return 0.0 if self.rows.monomial else float(self.shape[1])

    @property
    def monomial(self) -> bool:
        return self.rows.monomial

    def magnitude(self) -> LinearMap:
        return Scatter(Selection(self.rows.index, self.shape[0]))

    def underflow(self) -> float:
        return 0.0


def _in_runs(index: Indices, n: int) -> tuple[int, Indices]:
    """Cut an index into the longest runs of neighbours: their length, and which run of x each is.

    Rows that stay together, as the last axis of a permuted array does, are copied together.
    """
    step = index[:-1] >= 0  # zeros are neighbours of zeros
    starts = np.flatnonzero(index[1:] != index[:-1] + step) + 1
    if 2 * len(starts) >= len(index):
        return 1, index
    first = index[np.append(0, starts)]
    length = int(np.gcd.reduce([n, len(index), *starts, *first[first >= 0]]))
    return length, np.where(index < 0, -1, index // length)[::length]


def _gather(columns: Array, length: int, runs: Indices) -> Array:
    """Choose runs of rows of columns (..., n, k); rows of zeros for -1."""
    *lead, n, k = columns.shape
    chosen = np.take(columns.reshape(*lead, n // length, length * k), runs, axis=-2)
    none = runs < 0
    if none.any():
        np.copyto(chosen, 0, where=none[:, None])
    return chosen.reshape(*lead, len(runs) * length, k)


def _for_all_points(A: LinearMap, columns: Array, act: Callable[[Array], Array]) -> Array:
    """Act on columns in which the entries of all points of a stack stand one after the other.

    Where the columns are contiguous, so are those that come out.
    """
    m, (n, k) = A.shape[0], columns.shape[-2:]
    lead = np.broadcast_shapes(columns.shape[:-2], A.batch)
    outer, points = (lead[:-1], lead[-1]) if A.batch else (lead, 1)
    if columns.shape[:-2] != lead:
        columns = np.broadcast_to(columns, (*lead, n, k))
    if are_rows(columns):
        rows = moved(columns, -1, 0).reshape(k, *outer, points * n, 1)
        return moved(act(rows).reshape(k, *lead, m), 0, -1)
    return act(columns.reshape(*outer, points * n, k)).reshape(*lead, m, k)


class _Fixed(_Rows):
    """A selection that its sizes determine."""

    @property
    def batch(self) -> tuple[int, ...]:
        return ()

    def __post_init__(self) -> None:
        for name in ("m", "n"):
            if hasattr(self, name):
                count = as_count(getattr(self, name), f"{type(self).__name__}: {name}")
                object.__setattr__(self, name, count)
        object.__setattr__(self, "dtype", np.dtype(self.dtype))


@dataclass(frozen=True, eq=False, repr=False)
class Commutation(_Fixed):
    """``K vec(M) = vec(Mᵀ)`` for ``M`` of shape (m, n): from stacked columns to stacked rows.

    Parameters
    ----------
    m, n : int
    dtype : numpy dtype, optional

    >>> from jacobians.vectorization import vec
    >>> Commutation(2, 3) @ vec([[1, 2, 3], [4, 5, 6]])
    array([1., 2., 3., 4., 5., 6.])
    """

    m: int
    n: int
    dtype: np.dtype[Any] = DOUBLE

    @property
    def shape(self) -> tuple[int, int]:
        return self.m * self.n, self.m * self.n

    @property
    def index(self) -> Indices:
        return commutation_places(self.m, self.n)

    def transpose(self) -> Commutation:
        return Commutation(self.n, self.m, self.dtype)  # its transpose is its inverse

    @property
    def monomial(self) -> bool:
        return True


@dataclass(frozen=True, eq=False, repr=False)
class Duplication(_Fixed):
    """``D_n vech(S) = vec(S)`` for symmetric ``S`` of shape (n, n).

    Parameters
    ----------
    n : int
    dtype : numpy dtype, optional

    >>> Duplication(2) @ [1.0, 5.0, 2.0]
    array([1., 5., 5., 2.])
    """

    n: int
    dtype: np.dtype[Any] = DOUBLE

    @property
    def shape(self) -> tuple[int, int]:
        return self.n**2, self.n * (self.n + 1) // 2

    @property
    def index(self) -> Indices:
        return duplication_places(self.n)


@dataclass(frozen=True, eq=False, repr=False)
class Elimination(_Fixed):
    """``L_n vec(M) = vech(M)`` for ``M`` of shape (n, n): the lower triangle is kept.

    Parameters
    ----------
    n : int
    dtype : numpy dtype, optional

    >>> from jacobians.vectorization import vec
    >>> Elimination(2) @ vec([[1, 9], [5, 2]])
    array([1., 5., 2.])
    """

    n: int
    dtype: np.dtype[Any] = DOUBLE

    @property
    def shape(self) -> tuple[int, int]:
        return self.n * (self.n + 1) // 2, self.n**2

    @property
    def index(self) -> Indices:
        return elimination_places(self.n)
