"""From the record of a tape to a program of the kernel.

Every value gets its memory, that of values which are not needed any more is used again, and
constants are copied in the form the kernel reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._kernels.values import (
    ASK,
    BY_ROWS,
    CONGRUENCE,
    CONSTANT,
    GROUPING,
    MOST,
    OUTSIDE,
    OVER_POINTS,
    PRODUCT,
    SUM,
    SUMMED,
    WORK,
    Step,
    Value,
    aligned,
    demand,
    shape,
)

try:
    _kernel: Any = import_module("jacobians._kernels._kernel")
    _COUNT = _kernel.PROCESSORS
except (ImportError, AttributeError):  # built without a compiler, or long ago
    _kernel, _COUNT = None, 0

BLOCK_BYTES = 2**20  # workspace of the points that go through the steps together
FEWEST = 96  # of these, where there are sums over points: each is read and written
_BYTES, _PANEL = (16, 32, 64), (2, 2, 4)  # of a vector; vectors in a row of packed constants
PROCESSORS: tuple[str, ...] = ()
if _kernel is not None and os.environ.get("JACOBIANS_KERNELS", "") != "0":
    PROCESSORS = ("baseline", "avx2", "avx512")[:_COUNT]
"""The kinds of processor that this one is, the best last; empty without the kernel."""


def is_built() -> bool:
    """Tell whether the kernel was compiled, turned off or not."""
    return _kernel is not None


@dataclass(frozen=True, eq=False)
class Program:
    """A packed tape.

    Attributes
    ----------
    point_bytes : int
        Workspace for each point of a block.
    constant_bytes : int
        What the packed constants take.
    """

    _head: bytes
    _kept: list[Array]  # whose addresses are in the program
    point_bytes: int
    constant_bytes: int

    def __reduce__(self) -> Any:
        raise TypeError("a packed program holds addresses: it is for this process alone.")

    def run(self, *outside: Any) -> bool:
        """Run over all points; return whether all values that met an activation were finite.

        Arrays are contiguous, in the order of their declaration, then the sums over points; last,
        if the tape asks, what is called with the first point and the number of points of a block.
        """
        finite: bool = _kernel.run(self._head, *outside)
        return finite


@dataclass
class Record:
    """What a tape has written down so far."""

    dtype: Any
    processor: str | None = None
    _values: list[Value] = field(default_factory=list)
    _steps: list[Step] = field(default_factory=list)
    outside: list[Value] = field(default_factory=list)
    _roles: list[int] = field(default_factory=list)
    _constants: list[Array] = field(default_factory=list)
    _made: set[Value] = field(default_factory=set)
    _summed: int = 0  # numbers in sums over points

    def __post_init__(self) -> None:
        self.dtype = np.dtype(self.dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"kernel: expected float32 or float64, but got {self.dtype}.")
        if not PROCESSORS:
            raise ValueError("kernel: it was not built, or is turned off by JACOBIANS_KERNELS=0.")
        name = PROCESSORS[-1] if self.processor is None else self.processor
        if name not in PROCESSORS:
            raise ValueError(f"kernel: processor: {name!r} is not one of {', '.join(PROCESSORS)}.")
        self._number = PROCESSORS.index(name)
        self._lanes = _BYTES[self._number] // self.dtype.itemsize
        self._panel = _PANEL[self._number]

    def padded(self, n: int) -> int:
        """Return the length of a row in the workspace: whole vectors.

        It is one line of the cache more where rows would compete for the same few lines of it.
        """
        lanes, size = self._lanes, self.dtype.itemsize
        length: int = -(-n // lanes) * lanes
        return length if length * size % 2048 else length + 64 // size

    def _width(self, value: Value) -> int:
        """Return the numbers from one row to the next."""
        return value.columns if value.kind == OUTSIDE or value.tight else self.padded(value.columns)

    # --- packing ----------------------------------------------------------------------------------

    def pack(self) -> Program:
        """Give every value its memory, constants their form, and hand the whole to the kernel."""
        demand(bool(self._steps), "a tape without steps.")
        offsets, numbers = self._offsets()
        steps = np.zeros((len(self._steps), 34), np.int64)
        kept: list[Any] = []
        pairs = zip(steps, self._steps, strict=True)
        inner = max(self._write(*pair, offsets, kept) for pair in pairs)
        constant_bytes = sum(constant.nbytes for constant in kept)
        outside = zip(self.outside, self._roles, strict=True)
        sizes = [(v.rows * v.columns, role) for v, role in outside]
        each = np.array(sizes + [(self._summed, SUMMED)] * (self._summed > 0), np.int64)
        asks = any(step.op == ASK for step in self._steps)
        kept += [each, steps]
        size, operations = self.dtype.itemsize, steps[:, 9].view(np.float64).sum()
        block = max(1, BLOCK_BYTES // (numbers + 1) // size)
        block = max(block - (block % 6 if block > 6 else 0), FEWEST if asks else 1)
        head = np.array([size, self._number, inner, numbers, block, len(each), asks, len(steps)])
        addresses = np.array([each.ctypes.data, steps.ctypes.data])
        packed = b"".join(x.tobytes() for x in (head, operations, addresses))
        return Program(packed, kept, numbers * size, constant_bytes)

    def _offsets(self) -> tuple[list[int], int]:
        """Return where each value lies in the memory of a point, and how much there is of it."""
        first: dict[int, int] = {}
        last = [-1] * len(self._values)
        for k, step in enumerate(self._steps):
            for value in filter(None, step.operands):
                if value.kind == WORK:
                    first.setdefault(value.index, k)
                    last[value.index] = k
        free: list[tuple[int, int]] = []  # size, offset
        offsets, sizes, top = [0] * len(last), [0] * len(last), 0
        for k, step in enumerate(self._steps):
            here = {v.index: v for v in step.operands if v is not None and v.kind == WORK}
            made = [v for i, v in here.items() if first[i] == k]
            used = {i for i in here if first[i] < k}
            over = [i for i in used if last[i] == k]
            a = step.operands[1]
            early = [i for i in over if step.reuses and a is not None and i == a.index]
            free += [(sizes[i], offsets[i]) for i in early]
            for value in made:
                size = -(-value.rows * self._width(value) // 16) * 16
                fitting = [memory for memory in free if memory[0] >= size]
                if fitting:
                    free.remove(min(fitting))
                    sizes[value.index], offsets[value.index] = min(fitting)
                else:
                    sizes[value.index], offsets[value.index] = size, top
                    top += size
            free += [(sizes[i], offsets[i]) for i in over if i not in early]
            ended = [v.index for v in made if last[v.index] == k]
            free += [(sizes[i], offsets[i]) for i in ended]
        demand(top < MOST, "the values of a point take too much memory.")
        return offsets, top

    def _write(self, row: Any, step: Step, offsets: list[int], kept: list[Any]) -> int:
        """Write a step as the kernel reads it, see ``kernel.c``; return its inner size, or 0."""
        out, a, b = step.operands[:3]
        if step.op == ASK:
            row[0] = step.op
            return 1
        assert out is not None
        assert a is not None
        m, k, n = out.rows, 1, out.columns
        columns = self._width(out)
        table = b is not None and b.depth > 1
        if table:  # a product with one long row
            m, n, columns = 1, m * columns, m * columns
        if step.op == PRODUCT and step.flags != OVER_POINTS:
            k = a.columns
        if step.op == GROUPING:
            m, k, n = (out.rows - 3) // 2, out.columns, a.columns
        operations = 2.0 * m * k * n if step.op == PRODUCT else 20.0 * m * n
        if step.op == CONGRUENCE:
            assert b is not None
            operations, (m, k, n) = 1.0 * m * n * a.rows, (b.rows, *shape(a))
        packed = step.op == PRODUCT and b is not None and b.kind == CONSTANT
        row[:7] = step.op, step.flags, packed, m, k, n, columns
        row[7:10].view(np.float64)[:] = *step.parameters, operations
        for i, value in enumerate(step.operands):
            if value is None:
                continue
            width = self._width(value)
            index, point, step_to = value.index, value.rows * width, width
            if value.kind == WORK:
                index = offsets[value.index]
            if value.kind == SUM:
                point = 0
            if value.kind == CONSTANT:
                kept.append(
                    self._packed(value, columns) if i == 2 and packed else self._rows(value)
                )
                index, point = kept[-1].ctypes.data, 0
            if i == 4:
                step_to = int(step.flags & BY_ROWS)
            if i == 5 and value.rows == 1 < out.rows:
                step_to = 0
            row[10 + 4 * i : 14 + 4 * i] = value.kind, index, point, step_to
        return 0 if step.op == GROUPING else k

    def _rows(self, value: Value) -> Array:
        """Return a constant with its rows padded to whole vectors."""
        given = self._constants[value.index]
        rows = aligned((value.rows, self.padded(value.columns)), self.dtype)
        rows[:, : value.columns] = given
        return rows

    def _packed(self, value: Value, columns: int) -> Array:
        """Return a constant in panels of some columns, each (k, panel); a table's rows padded."""
        given, k = self._constants[value.index], value.rows
        if value.depth > 1:
            table = np.zeros((k, value.depth, columns // value.depth), self.dtype)
            table[..., : value.columns] = given
            given = table.reshape(k, -1)
        panel = self._panel * self._lanes
        panels = -(-given.shape[1] // panel)
        padded = np.zeros((k, panels * panel), self.dtype)
        padded[:, : given.shape[1]] = given
        packed = aligned((panels, k, panel), self.dtype)
        packed[...] = padded.reshape(k, panels, panel).swapaxes(0, 1)
        return packed
