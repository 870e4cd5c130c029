"""What the steps of a tape speak of: values, by kind and place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError

# As in kernel.c: operations, their flags, kinds of values, roles of arrays outside.
PRODUCT, SCALING, CONGRUENCE, ACTIVATION, SOFTMAX, GROUPING, ASK = range(7)
OVER_POINTS, BY_ROWS, ADDED, LOGARITHM, TRANSPOSED = 1, 1, 1, 1, 2
NONE, OUTSIDE, WORK, CONSTANT, SUM = range(5)
READ, WRITTEN, SUMMED = range(3)
MOST = 2**31  # numbers in a matrix, a list of which is kept in 32 bits
OUTSIDE_MOST = 8


@dataclass(frozen=True, eq=False)
class Value:
    """A matrix (rows, columns) for each point, or a constant; what steps take and return."""

    kind: int
    index: int
    rows: int
    columns: int
    depth: int = 1  # of a table (rows, depth, columns)
    tight: bool = False  # rows of the workspace follow one another without padding


@dataclass
class Step:
    op: int
    flags: int
    operands: list[Value | None]  # out, a, b, live, scale, add
    reuses: bool = False  # the result may take the memory of a
    parameters: tuple[float, float] = (0.0, 0.0)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin with a line of the cache."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 64 // dtype.itemsize, dtype)
    start = -memory.ctypes.data % 64 // dtype.itemsize
    return memory[start : start + size].reshape(shape)


def shape(value: Value) -> tuple[int, int]:
    return value.rows, value.columns


def demand(condition: bool, message: str) -> None:
    if not condition:
        raise ShapeError(f"kernel: {message}")
