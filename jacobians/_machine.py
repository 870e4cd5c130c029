"""What the machine has: memory, and the threads that the user gave to BLAS."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np

from jacobians._checks import TooLargeError, readable_bytes


@cache
def machine_memory() -> int:
    """Return the bytes of memory of this machine; a terabyte if it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**40


def require_room(shape: tuple[int, ...], dtype: np.dtype[Any], where: str, way_out: str) -> None:
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
