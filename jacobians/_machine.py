"""What the machine has: memory, the threads that the user gave to BLAS, and products on one."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np

from jacobians._checks import Array, TooLargeError, readable_bytes

SERIAL = 262_144  # multiplications that OpenBLAS does on the thread that asks


@cache
def machine_memory() -> int:
    """Return the bytes of memory of this machine; a terabyte if it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**40


def require_memory(shape: tuple[int, ...], dtype: np.dtype[Any], where: str, way_out: str) -> None:
    """Refuse a result that is larger than the memory of this machine, before it is allocated."""
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size > machine_memory():
        raise TooLargeError(
            f"{where}: the result of shape {shape} takes {readable_bytes(size)}, but this machine "
            f"has {readable_bytes(machine_memory())}. {way_out}."
        )


def thread_count() -> int:
    """Return how many threads the user gave to BLAS, or the number of processors."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        given = os.environ.get(name, "").split(",")[0].strip()
        if given.isdigit() and int(given):
            return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


THREADS = thread_count()  # BLAS reads its settings once too, when it is loaded


def times_in_slabs(A: Array, W: Array, out: Array | None = None, most: int = SERIAL) -> Array:
    """Return ``A W`` for rows (..., rows, k), in slabs that stay on the calling thread.

    Small matrices gain nothing from the threads of BLAS, which get into the way of others at work.
    """
    *lead, rows, k = A.shape
    n = W.shape[1]
    if out is None:
        out = np.empty((*lead, rows, n), np.result_type(A, W))
    slab = max(1, most // (k * n))
    whole = rows // slab * slab
    if whole:
        left = A[..., :whole, :].reshape(*lead, -1, slab, k)
        np.matmul(left, W, out=out[..., :whole, :].reshape(*lead, -1, slab, n))
    if whole < rows:
        np.matmul(A[..., whole:, :], W, out=out[..., whole:, :])
    return out
