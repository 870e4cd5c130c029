"""LinearMap: what every structured matrix can do.

A structured matrix is known by its parts and multiplies without ever being written out.  A kind
states four things: its ``shape``, how it is applied, its transpose, and its definition as a dense
matrix.  Everything else (``@``, ``.T``, ``.to_scipy()``, the one-line repr) is derived here, once.

A map may stand for a stack of matrices, one per point of a batch: then ``batch`` is ``(B,)``, its
parts carry a leading axis, and ``to_dense()`` has shape ``(B, m, n)``.  ``shape`` is always the
shape ``(m, n)`` of one matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    ShapeError,
    as_floats,
    freeze,
    refuse_if_too_large,
    underflow_is_rounding,
)


class LinearMap(Frozen, ABC):
    """A matrix known by its structure.

    Subclasses are immutable records that define ``shape``, ``dtype``, ``apply``, ``transpose`` and
    ``_dense``; ``batch`` only if they can be stacks, ``_sparse`` only where zeros dominate.
    """

    __array_ufunc__ = None  # let ``array @ map`` reach __rmatmul__

    # What @ of two maps is.  The room above, product, puts its class here: a Product is a map, so
    # this room cannot import it.
    product_of: ClassVar[Any]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns of one matrix."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the dense form."""

    @property
    def batch(self) -> tuple[int, ...]:
        """``()`` for one matrix, ``(B,)`` for a stack of them."""
        return ()

    @abstractmethod
    def apply(self, columns: Array) -> Array:
        """Multiply every column of ``columns``, shape (..., n, k), and return (..., m, k).

        No questions asked: ``@`` is the door that checks.
        """

    @abstractmethod
    def transpose(self) -> LinearMap:
        """Return the adjoint map."""

    @abstractmethod
    def _dense(self) -> Array:
        """Write the matrix down from its definition (never by applying the map)."""

    def _sparse(self) -> Any:
        raise TypeError(f"{self}: has no sparse form; use to_scipy() or to_dense().")

    # --- derived once ---------------------------------------------------------------------------

    @property
    def T(self) -> LinearMap:
        """The transposed map."""
        return self.transpose()

    @underflow_is_rounding
    def to_dense(self) -> Array:
        """Return the dense matrix, shape ``batch + (m, n)``.

        Raises
        ------
        TooLargeError
            If it would exceed the limit (1 GiB, or what ``dense_limit`` says), before allocating.
        """
        self._require_room()
        return self._dense()

    def _require_room(self) -> None:
        """Refuse a dense form that does not fit, before anything of it is written."""
        way_out = "Keep the map: @ and .to_scipy() multiply without it"
        refuse_if_too_large(self.batch + self.shape, self.dtype, str(self), way_out)
        for part in self._parts():
            part._require_room()

    def _parts(self) -> Iterable[LinearMap]:
        """Return the maps that are written out on the way to the dense form."""
        return ()

    @underflow_is_rounding
    def to_sparse(self) -> Any:
        """Return a ``scipy.sparse`` array (CSR), for the kinds in which zeros dominate.

        Raises
        ------
        TypeError
            If this kind is dense by nature, or a stack.
        """
        self._require_single("to_sparse")
        return self._sparse()

    def to_scipy(self) -> Any:
        """Return a ``scipy.sparse.linalg.LinearOperator``: svds, lsmr, eigsh and friends take it.

        Raises
        ------
        TypeError
            If this is a stack of matrices.
        """
        self._require_single("to_scipy")
        from scipy.sparse.linalg import LinearOperator

        apply = underflow_is_rounding(self.apply)
        adjoint = underflow_is_rounding(self.T.apply)
        return LinearOperator(
            self.shape,
            dtype=self.dtype,
            matvec=lambda v: apply(v.reshape(-1, 1)).reshape(-1),
            rmatvec=lambda v: adjoint(v.reshape(-1, 1)).reshape(-1),
            matmat=apply,
            rmatmat=adjoint,
        )

    @underflow_is_rounding
    def __matmul__(self, other: Any) -> Any:
        """Multiply a vector, a matrix of columns, or another map (which always gives a Product).

        A stack also takes one vector ``(n,)`` for all points, ``(B, n)`` for a vector each, and
        ``(B, n, k)`` for a matrix each.
        """
        if isinstance(other, LinearMap):
            return self.product_of([self, other])
        x = as_floats(other, f"{self} @ array")
        n = self.shape[1]
        if x.shape == (n,):
            return self.apply(x[:, None])[..., 0]
        if not self.batch and x.ndim == 2 and x.shape[0] == n:
            return self.apply(x)
        if self.batch and x.shape == (*self.batch, n):
            return self.apply(x[..., None])[..., 0]
        if self.batch and x.ndim == 3 and x.shape[:2] == (*self.batch, n):
            return self.apply(x)
        B = ", ".join(map(str, self.batch))
        choices = f"({B}, {n}) or ({B}, {n}, k)" if self.batch else f"({n}, k)"
        raise ShapeError(f"{self} @ array: expected shape ({n},) or {choices}, but got {x.shape}.")

    @underflow_is_rounding
    def __rmatmul__(self, other: Any) -> Array:
        """Multiply from the left: ``x @ A`` is ``(Aᵀ xᵀ)ᵀ``."""
        x = as_floats(other, f"array @ {self}")
        if x.ndim == 1 or self.batch:
            result: Array = self.T @ x
            return result
        if x.ndim != 2 or x.shape[1] != self.shape[0]:
            m = self.shape[0]
            raise ShapeError(f"array @ {self}: expected shape ({m},) or (k, {m}), got {x.shape}.")
        return self.T.apply(x.T).T

    def __repr__(self) -> str:
        return f"{self._kind()} {self._size()} {self.dtype}"

    def _kind(self) -> str:
        return type(self).__name__

    def _size(self) -> str:
        m, n = self.shape
        stack = f"{self.batch[0]} x " if self.batch else ""
        return f"{stack}{m}x{n}"

    def _require_single(self, verb: str) -> None:
        if self.batch:
            raise TypeError(
                f"{self}: {verb} takes one matrix, not a stack. Linearize at a single point."
            )


def frozen_field(record: LinearMap, name: str, ndims: tuple[int, ...], demand: str) -> Array:
    """Check an array field of a map and replace it by a frozen copy."""
    where = f"{type(record).__name__}: {name}"
    array = as_floats(getattr(record, name), where)
    if array.ndim not in ndims:
        raise ShapeError(f"{where}: expected {demand}, but got shape {array.shape}.")
    array = freeze(array)
    object.__setattr__(record, name, array)
    return array


def common_batch(maps: Iterable[LinearMap], where: str) -> tuple[int, ...]:
    """Return the batch that all stacked maps share; maps that are not stacks go with any."""
    batches = {A.batch for A in maps} - {()}
    if len(batches) > 1:
        sizes = " and ".join(str(batch[0]) for batch in sorted(batches))
        raise ShapeError(f"{where}: all stacks must have the same length, but got {sizes}.")
    return batches.pop() if batches else ()
