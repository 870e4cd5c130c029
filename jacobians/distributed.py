"""Work on the chunks of a dask collection: one task a chunk, results merged as a tree.

A chunk is computed where it is; only what comes out of it travels.  Tasks depend on nothing but
their chunk, so that one whose worker dies is computed again by Dask, and none is ever lost or
counted twice.  Which cluster does the work, and how progress is shown, is Dask's own business
(``dask.distributed.Client``, ``ProgressBar``, the dashboard).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from jacobians._checks import ShapeError, missing_extra

Result = TypeVar("Result")


def is_collection(X: Any) -> bool:
    """Tell whether something is a dask array or data frame, without importing dask.

    >>> is_collection(np.eye(2))
    False
    """
    return hasattr(X, "__dask_graph__")


def reduce(
    function: Callable[[Any, int], Result], merge: Callable[[Result, Result], Result], X: Any
) -> Result:
    """Compute ``function(chunk, number of its first row)`` for every chunk, and merge the results.

    Parameters
    ----------
    function : callable
        Of a NumPy array or pandas DataFrame of at least one row, and the number of its first row.
    merge : callable
        Of two results, of neighbouring chunks.
    X : dask array, shape (B, n), or dask data frame
        Chunks of columns are joined; what is not known of the number of rows is computed first.
    """
    try:
        from dask.delayed import delayed
    except ImportError as err:
        raise missing_extra("dask", "dask", "A dask collection") from err
    chunks, lengths = _chunks(X)
    first = np.concatenate([[0], np.cumsum(lengths)])
    of_chunk, of_two = delayed(function), delayed(merge)
    records = [
        of_chunk(chunk, int(start))
        for chunk, start, length in zip(chunks, first[:-1], lengths, strict=True)
        if length
    ]
    if not records:
        raise ShapeError("expected points (B, n) with B > 0, but got none.")
    while len(records) > 1:
        pairs = [of_two(*records[k : k + 2]) for k in range(0, len(records) - 1, 2)]
        records = pairs + records[2 * len(pairs) :]
    result: Result = records[0].compute()
    return result


def map_chunks(
    function: Callable[[Any], Any], X: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Any:
    """Return the dask array (B, ...) of what a function makes of every chunk of points (B, n)."""
    rows = _rows(X)
    sizes = [(size,) for size in shape]
    added = list(range(1, 1 + len(shape)))
    meta = np.array([], dtype)  # of which dask reads kind and dtype; it knows the axes
    return rows.map_blocks(
        function, chunks=(rows.chunks[0], *sizes), drop_axis=1, new_axis=added, meta=meta
    )


def _chunks(X: Any) -> tuple[list[Any], list[int]]:
    """Return the delayed chunks of rows, and how long each is."""
    if hasattr(X, "to_bag"):  # a data frame
        return X.to_delayed(), [int(length) for length in X.map_partitions(len).compute()]
    rows = _rows(X)
    if any(np.isnan(length) for length in rows.chunks[0]):
        rows = rows.compute_chunk_sizes()
    return list(rows.to_delayed().ravel()), [int(length) for length in rows.chunks[0]]


def _rows(X: Any) -> Any:
    """Join chunks of columns, so that every chunk holds whole points."""
    if getattr(X, "ndim", None) != 2 or not hasattr(X, "rechunk"):
        raise ShapeError(
            f"expected a dask array of points (B, n), but got {X!r:.80}. Of a data frame, take "
            "to_dask_array(lengths=True)."
        )
    return X.rechunk({1: -1})
