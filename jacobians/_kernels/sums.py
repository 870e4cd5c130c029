"""Sums of rows by group in the kernel: one pass over values that are still in the cache."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array
from jacobians._kernels import Program, Tape


def add_groups(arrays: tuple[Array, ...], labels: NDArray[np.int8], state: Array) -> None:
    """Do as ``jacobians.sensitivities.groups.add_in_numpy``, for arrays of one dtype.

    Raises
    ------
    IndexError
        If a label is not that of a group; rows before it have been added.
    """
    widths, dtype = tuple(array.shape[1] for array in arrays), arrays[0].dtype
    program = _program(widths, dtype, (len(state) - 3) // 2)
    rows = [np.ascontiguousarray(array) for array in arrays]
    if not program.run(*rows, labels.astype(dtype), state):
        raise IndexError("add_groups: a label is that of no group.")


@lru_cache(maxsize=64)
def _program(widths: tuple[int, ...], dtype: np.dtype[Any], groups: int) -> Program:
    tape = Tape(dtype)
    arrays = [tape.read(1, width) for width in widths]
    tape.sum_of_groups(arrays, tape.read(1, 1), groups)
    return tape.pack()
