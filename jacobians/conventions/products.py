"""Products that refuse what NumPy would broadcast; vectors as rows."""

from __future__ import annotations

from typing import Any

from jacobians._checks import Numbers, ShapeError, as_array, underflow_is_rounding
from jacobians.vectorization import unvec


@underflow_is_rounding
def hadamard(left: Any, right: Any) -> Numbers:
    """Multiply two arrays of one shape, entry by entry: a row times a column is a ``ShapeError``.

    >>> hadamard([[1, 2]], [[2, 4]])
    array([[2, 8]])
    >>> hadamard([[1, 2]], [[2], [4]])
    Traceback (most recent call last):
    ...
    jacobians.ShapeError: hadamard: expected two equal shapes, but got (1, 2) and (2, 1). ...
    """
    left, right = as_array(left, "hadamard: left"), as_array(right, "hadamard: right")
    if left.shape != right.shape:
        raise ShapeError(
            f"hadamard: expected two equal shapes, but got {left.shape} and {right.shape}. "
            "Nothing is broadcast: transpose a column, and multiply by a matrix with product."
        )
    result: Numbers = left * right
    return result


@underflow_is_rounding
def product(left: Any, right: Any) -> Numbers:
    """Multiply two matrices (a row is ``1 x n``, a column ``n x 1``); else a ``ShapeError``.

    >>> product([[2, 8]], [[1, 1], [0, 1]])
    array([[ 2, 10]])
    """
    left, right = as_array(left, "product: left"), as_array(right, "product: right")
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ShapeError(
            f"product: expected shapes (m, k) and (k, n), but got {left.shape} and {right.shape}."
        )
    result: Numbers = left @ right
    return result


def as_row(v: Any) -> Numbers:
    """Lay a vector (n,) out as ``1 x n``, or a stack (..., n) as (..., 1, n)."""
    v = as_array(v, "as_row: v")
    if v.ndim == 0:
        raise ShapeError("as_row: expected a vector, but got a number.")
    row: Numbers = v[..., None, :].copy()
    return row


def from_row(row: Any) -> Numbers:
    """Undo ``as_row``."""
    row = as_array(row, "from_row: row")
    if row.ndim < 2 or row.shape[-2] != 1:
        raise ShapeError(f"from_row: expected shape (1, n), but got {row.shape}.")
    vector: Numbers = row[..., 0, :].copy()
    return vector


def unvec_row(row: Any, shape: tuple[int, int]) -> Numbers:
    """Cut the row ``1 x mn`` of a derivative with respect to vec(W) into a matrix (m, n).

    >>> unvec_row([[1, 2, 3, 4, 5, 6]], (2, 3))
    array([[1, 3, 5],
           [2, 4, 6]])
    """
    return unvec(from_row(row), shape)
