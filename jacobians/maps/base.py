"""LinearMap: what every structured matrix can do.

A structured matrix is known by its parts and multiplies without ever being written out.  A kind
states its ``shape``, how it is applied, its transpose, its definition as a dense matrix, what it
costs, and what its roundings can do; everything else (``@``, ``+``, ``.T``, rows and columns,
``.to_scipy()``, the one-line repr) is derived here, once.

A map may stand for a stack of matrices, one per point of a batch: then ``batch`` is ``(B,)``, its
arrays carry a leading axis, and ``to_dense()`` has shape ``(B, m, n)``.  ``shape`` is always the
shape ``(m, n)`` of one matrix.

What the rounding theorem asks of a kind (``paper_notes/rounding.md``): ``magnitude()`` is the map
of the absolute values *of its computation*, so that cancellation inside stays visible;
``roundings()`` counts the roundings a path meets inside; ``reach()`` bounds the row and column sums
of everything that is computed inside; ``underflow()`` counts the smallest numbers that gradual
underflow inside can add to an entry.  A kind that states no magnitude gets an infinite bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Real
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
from jacobians._notebook import Displayed, Table

SHOWN = 12  # notebooks show the entries of matrices up to this side


class LinearMap(Frozen, Displayed, ABC):
    """A matrix known by its structure.

    Subclasses are immutable records that define ``shape``, ``dtype``, ``apply``, ``transpose`` and
    ``_dense``; ``batch`` only if they can be stacks, ``_sparse`` only where zeros dominate,
    ``flops`` and ``magnitude`` so that plans and bounds know them.
    """

    __array_ufunc__ = None  # let ``array @ map`` reach __rmatmul__
    ndim: ClassVar[int] = 2
    composite: ClassVar[bool] = False  # whether applying it computes something in between

    # What @, +, scaling and [] of maps are.  Those kinds are maps themselves, so this module cannot
    # import them: each puts itself here.
    product_of: ClassVar[Any]
    sum_of: ClassVar[Any]
    scaling_of: ClassVar[Any]
    selection_of: ClassVar[Any]

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

        Nothing is checked: ``@`` checks.
        """

    @abstractmethod
    def transpose(self) -> LinearMap:
        """Return the adjoint map."""

    @abstractmethod
    def _dense(self) -> Array:
        """Write the matrix down from its definition (never by applying the map)."""

    def _sparse(self) -> Any:
        raise TypeError(f"{self}: has no sparse form; use to_scipy() or to_dense().")

    # --- cost and rounding ----------------------------------------------------------------------

    @property
    def flops(self) -> float:
        """Floating-point operations to apply one matrix to one column."""
        m, n = self.shape
        return 2.0 * m * n

    @property
    def monomial(self) -> bool:
        """Whether every row and every column has at most one entry, as in a diagonal."""
        return False

    @property
    def block_count(self) -> int:
        """How many blocks of one shape stand along the diagonal, with zeros beside them."""
        return 1

    def block_stack(self, count: int, points: int) -> LinearMap:
        """Return ``count`` blocks along the diagonal for each point: a stack, or one for all.

        ``count`` divides ``block_count``; a map that all points share is repeated.
        """
        m, n = self.shape
        dense = np.broadcast_to(self.to_dense(), (points, m, n))
        blocks = dense.reshape(points, count, m // count, count, n // count)
        stack = np.moveaxis(np.diagonal(blocks, axis1=1, axis2=3), -1, 1)
        return self.sum_of([stack.reshape(-1, m // count, n // count)]).terms[0]  # type: ignore[no-any-return]

    def magnitude(self) -> LinearMap | None:
        """Return the map of the absolute values of the computation, in float64.

        None if the kind has no rule: then nothing is claimed of its rounding.
        """
        return None

    def roundings(self) -> Any:
        """Count the roundings that a path meets inside the map: a number, or one per point.

        The contraction with what stands beside the map is counted by the product, not here.
        """
        return 0

    def reach(self) -> float:
        """Bound the row and column sums of all that is computed inside, in absolute values.

        At least 1; the largest over a batch.
        """
        A = self.magnitude()
        if A is None:
            return np.inf
        with np.errstate(all="ignore"):  # sums that leave the range are infinite
            rows, columns = (M.apply(np.ones((M.shape[1], 1))) for M in (A, A.T))
        return float(max(1.0, rows.max(initial=0.0), columns.max(initial=0.0)))

    def underflow(self) -> float:
        """Count the smallest numbers that underflow inside can add to an entry of a product."""
        return 2.0 * (max(self.shape) + 2)

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
        self._refuse_too_large()
        return self._dense()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the dense form, as ``to_dense`` does: what ``np.asarray(map)`` means."""
        if copy is False:
            raise ValueError(f"{self}: the dense form is always a new array.")
        dense = self.to_dense()
        return dense if dtype is None else dense.astype(dtype)

    def _refuse_too_large(self) -> None:
        """Refuse a dense form that does not fit, before anything of it is written."""
        way_out = "Keep the map: @ and .to_scipy() multiply without it"
        refuse_if_too_large(self.batch + self.shape, self.dtype, self, way_out)
        for part in self._parts():
            part._refuse_too_large()

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
        """Return a ``scipy.sparse.linalg.LinearOperator``; svds, lsmr, eigsh take the map too.

        Raises
        ------
        TypeError
            If this is a stack of matrices.
        """
        self._require_single("to_scipy")
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(
            self.shape,
            dtype=self.dtype,
            matvec=self.matvec,
            rmatvec=self.rmatvec,
            matmat=self.matmat,
            rmatmat=self.rmatmat,
        )

    # the four names by which scipy.sparse.linalg.aslinearoperator knows an operator

    @underflow_is_rounding
    def matmat(self, columns: Array) -> Array:
        """Return ``A @ columns`` for columns of shape (n, k), as SciPy asks for it."""
        self._require_single("a SciPy solver")
        return self.apply(columns)

    def matvec(self, vector: Array) -> Array:
        """Return ``A @ vector``, as SciPy asks for it."""
        return self.matmat(np.asarray(vector).reshape(-1, 1)).reshape(-1)

    def rmatmat(self, columns: Array) -> Array:
        """Return ``Aᵀ @ columns``."""
        return self.T.matmat(columns)

    def rmatvec(self, vector: Array) -> Array:
        """Return ``Aᵀ @ vector``."""
        return self.T.matvec(vector)

    @underflow_is_rounding
    def diagonal(self) -> Array:
        """Return the entries ``A[i, i]``, shape ``batch + (min(m, n),)``."""
        return np.diagonal(self.to_dense(), axis1=-2, axis2=-1).copy()

    def trace(self) -> Any:
        """Return the sum of the diagonal, one number per matrix.

        Raises
        ------
        ShapeError
            If the map is not square.
        """
        if self.shape[0] != self.shape[1]:
            raise ShapeError(f"{self}: only a square map has a trace.")
        return self.diagonal().sum(axis=-1)

    @underflow_is_rounding
    def __matmul__(self, other: Any) -> Any:
        """Multiply a vector, a matrix of columns, or another map (which always gives a Product).

        A stack also takes one vector ``(n,)`` for all points, ``(B, n)`` for a vector each, and
        ``(n, k)`` or ``(B, n, k)`` for one matrix or a matrix each.
        """
        if isinstance(other, LinearMap):
            return self.product_of([self, other])
        x = as_floats(other, f"{self} @ array")
        n = self.shape[1]
        if x.shape == (n,):
            return self.apply(x[:, None])[..., 0]
        if self.batch and x.shape == (*self.batch, n):
            return self.apply(x[..., None])[..., 0]
        if x.ndim == 2 and x.shape[0] == n:
            return self.apply(x)
        if self.batch and x.ndim == 3 and x.shape[:2] == (*self.batch, n):
            return self.apply(x)
        B = ", ".join(map(str, self.batch))
        stacks = f", ({B}, {n}) or ({B}, {n}, k)" if self.batch else ""
        raise ShapeError(
            f"{self} @ array: expected shape ({n},) or ({n}, k){stacks}, but got {x.shape}."
        )

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

    def __add__(self, other: Any) -> LinearMap:
        """Add a map or a matrix of the same shape, without writing out either."""
        sum_: LinearMap = self.sum_of([self, other])
        return sum_

    __radd__ = __add__

    def __sub__(self, other: Any) -> LinearMap:
        return self + -self._of(other)

    def __rsub__(self, other: Any) -> LinearMap:
        difference: LinearMap = -self + other
        return difference

    def __neg__(self) -> LinearMap:
        return self.__mul__(-1.0)

    def __mul__(self, factor: Any) -> LinearMap:
        """Multiply by a number."""
        if isinstance(factor, bool) or not isinstance(factor, (Real, np.number)):
            return NotImplemented
        number = as_floats(factor, f"{self} * number", dtype=self.dtype)
        scale = self.scaling_of(np.full(self.shape[0], number))
        scaled: LinearMap = self.product_of([scale, self])
        return scaled

    __rmul__ = __mul__

    def __getitem__(self, index: Any) -> LinearMap:
        """Choose rows, or rows and columns, as ``Selection @ A @ Selection.T``.

        Every index is a slice, a list or a number, as for an array; a number keeps its axis.
        """
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        chosen: LinearMap = self
        if not _is_all(rows):
            chosen = self.selection_of(self._index(rows, 0), self.shape[0], self.dtype) @ chosen
        if not _is_all(columns):
            selection = self.selection_of(self._index(columns, 1), self.shape[1], self.dtype)
            chosen = chosen @ selection.T
        return chosen

    def _index(self, index: Any, axis: int) -> Any:
        try:
            return np.atleast_1d(np.arange(self.shape[axis])[index])
        except IndexError as err:
            raise IndexError(f"{self}: {'rows' if axis == 0 else 'columns'}: {err}.") from None

    def _of(self, other: Any) -> LinearMap:
        """Return a map as it is, and a matrix as one term of a sum."""
        term: LinearMap = self.sum_of([other]).terms[0]
        return term

    def _table(self) -> Table | None:
        if self.batch or max(self.shape) > SHOWN:
            return None
        rows = [[f"{entry:.4g}" for entry in row] for row in self.to_dense()]
        return [""] * self.shape[1], rows

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


def _is_all(index: Any) -> bool:
    return isinstance(index, slice) and index == slice(None)


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


def magnitudes(maps: Iterable[LinearMap]) -> list[LinearMap] | None:
    """Return the magnitudes of all maps, or None if one of them has no rule."""
    each = [A.magnitude() for A in maps]
    return None if any(A is None for A in each) else each  # type: ignore[return-value]
