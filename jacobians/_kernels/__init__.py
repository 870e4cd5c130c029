"""The compiled kernel, where it was built: products and activations for blocks of points.

A tape is written step by step, each naming the values it needs and returning the value it makes, a
matrix for each point; then it is packed: shapes are checked here, memory of values that are not
needed any more is used again, constants are copied in the form the kernel reads.  What comes out
runs over any number of points, on the thread that calls it, without the interpreter.

    z = W a + b       tape.product(a, tape.constant(W.T), add=tape.constant(b))
    a, d = σ(z), σ'(z)    tape.activation(z, "tanh")
    P diag(d) W       tape.product(P, tape.constant(W), live=d), P times diag(d) already

The arithmetic is in ``kernel.h``, the format of a program in ``kernel.c``.  Every entry has the
same bits for any number of points and wherever they are cut.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError
from jacobians._kernels.codes import code_of
from jacobians._kernels.values import Step, Value, aligned, demand, shape
from jacobians.activations import AnyActivation, activation

try:
    from jacobians._kernels import _kernel  # type: ignore[attr-defined]

    _COUNT = _kernel.PROCESSORS
except (ImportError, AttributeError):  # built without a compiler, or long ago
    _kernel, _COUNT = None, 0

_BYTES, _PANEL = (16, 32, 64), (2, 2, 4)  # of a vector; vectors in a row of packed constants
PROCESSORS: tuple[str, ...] = ()
if _kernel is not None and os.environ.get("JACOBIANS_KERNELS", "") != "0":
    PROCESSORS = ("baseline", "avx2", "avx512")[:_COUNT]
"""The kinds of processor that this one is, the best last; empty without the kernel."""

_PRODUCT, _SCALING, _ACTIVATION, _SOFTMAX = range(4)
_TURNED, _BY_ROWS, _LOGARITHM, _TRANSPOSED = 1, 1, 1, 2
_NONE, _OUTSIDE, _WORK, _CONSTANT = range(4)
_READ, _WRITTEN = range(2)
_MOST = 2**31  # numbers in a matrix, a list of which is kept in 32 bits
_OUTSIDE_MOST = 8


def is_built() -> bool:
    """Tell whether the kernel was compiled, turned off or not."""
    return _kernel is not None


@dataclass
class Tape:
    """A program in the making.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    processor : str, optional
        One of ``PROCESSORS``; the best, unless said.

    Raises
    ------
    ShapeError, ValueError, TypeError
        From every method, if shapes do not fit or a value is of another tape.
    """

    dtype: Any
    processor: str | None = None
    _values: list[Value] = field(default_factory=list)
    _steps: list[Step] = field(default_factory=list)
    outside: list[Value] = field(default_factory=list)
    _roles: list[int] = field(default_factory=list)
    _constants: list[Array] = field(default_factory=list)

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

    # --- what stands outside ----------------------------------------------------------------------

    def read(self, rows: int, columns: int) -> Value:
        """Declare an array (points, rows, columns) of the caller that is read."""
        return self._outside_array(rows, columns, _READ)

    def written(self, rows: int, columns: int) -> Value:
        """Declare an array (points, rows, columns) of the caller that is written."""
        return self._outside_array(rows, columns, _WRITTEN)

    @staticmethod
    def is_constant(value: Value) -> bool:
        """Tell whether a value is the same for all points."""
        return value.kind == _CONSTANT

    def constant(self, value: Any) -> Value:
        """Declare a constant: a vector, a matrix, or a table (k, m, n)."""
        array = np.atleast_2d(np.asarray(value, self.dtype))
        if array.ndim > 3 or not 0 < array.size < _MOST:
            raise ShapeError(f"kernel: constant: shape {array.shape}.")
        if array.ndim == 3 and array.shape[1] == 1:
            array = array[:, 0]
        self._constants.append(array)
        depth = array.shape[1] if array.ndim == 3 else 1
        return Value(_CONSTANT, len(self._constants) - 1, len(array), array.shape[-1], depth)

    # --- steps ------------------------------------------------------------------------------------

    def product(
        self,
        a: Value,
        b: Value,
        *,
        live: Value | None = None,
        scale: Value | None = None,
        add: Value | None = None,
        into: Value | None = None,
        turned: bool = False,
    ) -> Value:
        """Return ``(add + a b) diag(scale)``; turned, with the transpose of a and b made here.

        A vector ``live`` says by its zeros where columns of a, or rows of b, are 0, so that they
        need not be read.  ``b`` may be a table (k, m, n); then ``a`` is a row, and the result is
        the sum over k of ``a_k b_k``.
        """
        self._require(a, b, live, scale, add)
        demand(b.kind != _OUTSIDE, "product: b stands outside; copy it first.")
        m, k = shape(a)[::-1] if turned else shape(a)
        fits = k == b.rows and a.depth == 1 and (not turned or b.kind == _WORK)
        demand(fits, f"product: {shape(a)} times {shape(b)}.")
        n = b.columns
        if b.depth > 1:
            plain, m = a.rows == 1 and add is None is scale, b.depth
            demand(plain, "product: a table takes a row, and nothing else.")
        if live is not None:
            demand(shape(live) == (1, k), f"product: live: {shape(live)}.")
        self._check_scale(scale, False, m, n, inside=True)
        if add is not None:
            fits = add.columns == n and add.rows in (1, m) and add.kind != _OUTSIDE
            demand(fits and add.depth == 1, f"product: add: {shape(add)} and ({m}, {n}).")
        out = self._result(m, n, into, a, b, live, scale, add)
        self._steps.append(Step(_PRODUCT, int(turned), [out, a, b, live, scale, add]))
        return out

    def scaling(
        self,
        a: Value,
        scale: Value | None = None,
        *,
        by_rows: bool = False,
        add: Value | None = None,
        into: Value | None = None,
    ) -> Value:
        """Return ``add + a diag(scale)``, or ``add + diag(scale) a`` by rows; or a copy."""
        self._require(a, scale, add)
        m, n = a.rows, a.columns
        demand(a.depth == 1, "scaling: of a table.")
        self._check_scale(scale, by_rows, m, n, inside=False)
        if add is not None:
            demand(add.columns == n and add.rows in (1, m) and add.depth == 1, "scaling: add.")
        out = self._result(m, n, into, scale, a, add)
        reuses = a.kind == _WORK
        self._steps.append(
            Step(_SCALING, int(by_rows), [out, a, None, None, scale, add], 1, reuses)
        )
        return out

    def activation(self, z: Value, sigma: str | AnyActivation) -> tuple[Value, Value]:
        """Return ``sigma(z)`` and ``sigma'(z)``, entry by entry."""
        self._require(z)
        code = code_of(activation(sigma))
        if code is None:
            raise ValueError(f"kernel: there is no activation {sigma}.")
        demand(z.kind == _WORK, "activation: of what is outside; copy it first.")
        out, slopes = self._new(z.rows, z.columns), self._new(z.rows, z.columns)
        operands = [out, z, slopes, None, None, None]
        self._steps.append(Step(_ACTIVATION, code[0], operands, 2, True, code[1:]))
        return out, slopes

    def softmax(
        self, z: Value, *, log: bool = False, transposed: bool = False, jacobian: bool = True
    ) -> tuple[Value, Value | None]:
        """Return softmax of a row, or its logarithm, and the Jacobian written out, if wanted."""
        self._require(z)
        demand(z.kind == _WORK and z.rows == 1, "softmax: expected a row of workspace.")
        n = z.columns
        out, J = self._new(1, n), self._new(n, n) if jacobian else None
        flags = _LOGARITHM * log + _TRANSPOSED * transposed
        self._steps.append(Step(_SOFTMAX, flags, [out, z, J, None, None, None], 2))
        return out, J

    @property
    def nbytes(self) -> int:
        """What the constants take, before they are padded."""
        return sum(constant.nbytes for constant in self._constants)

    # --- checks -----------------------------------------------------------------------------------

    def _outside_array(self, rows: int, columns: int, role: int) -> Value:
        demand(len(self.outside) < _OUTSIDE_MOST, "more arrays outside than it takes.")
        demand(role == _READ or self.outside != [], "the first array outside is read.")
        for n in (rows, columns):
            demand(isinstance(n, int) and n > 0, f"outside: shape ({rows}, {columns}).")
        demand(rows * columns < _MOST, f"outside: shape ({rows}, {columns}).")
        value = Value(_OUTSIDE, len(self.outside), rows, columns)
        self.outside.append(value)
        self._roles.append(role)
        return value

    def _new(self, rows: int, columns: int) -> Value:
        demand(rows * self._padded(columns) < _MOST, f"a matrix {rows}x{columns} is too large.")
        self._values.append(Value(_WORK, len(self._values), rows, columns))
        return self._values[-1]

    def _result(self, m: int, n: int, into: Value | None, *operands: Value | None) -> Value:
        if into is None:
            return self._new(m, n)
        self._require(into)
        ours = into.kind == _OUTSIDE and self._roles[into.index] == _WRITTEN
        demand(ours and shape(into) == (m, n), f"into: expected ({m}, {n}), not {shape(into)}.")
        demand(into not in operands, "into: an operand.")
        return into

    def _require(self, *values: Value | None) -> None:
        """Refuse values that this tape has not made."""
        homes: dict[int, Sequence[Any]]
        homes = {_OUTSIDE: self.outside, _WORK: self._values}
        for value in values:
            if value is None:
                continue
            if not isinstance(value, Value):
                raise TypeError(f"kernel: expected a value of the tape, but got {value!r:.80}.")
            if value.kind == _CONSTANT:
                mine = self._is_constant(value)
            else:
                home = homes[value.kind]
                mine = value.index < len(home) and home[value.index] is value
            demand(mine, "a value of another tape.")

    def _is_constant(self, value: Value) -> bool:
        if value.index >= len(self._constants):
            return False
        shape: tuple[int, ...] = self._constants[value.index].shape
        depth = shape[1] if len(shape) == 3 else 1
        return (shape[0], shape[-1], depth) == (value.rows, value.columns, value.depth)

    def _check_scale(
        self, scale: Value | None, by_rows: bool, m: int, n: int, inside: bool
    ) -> None:
        if scale is None:
            return
        length = m if by_rows else n
        demand(shape(scale) == (1, length) and scale.depth == 1, f"scale: {shape(scale)}.")
        demand(not inside or scale.kind != _OUTSIDE, "scale stands outside.")

    def _padded(self, n: int) -> int:
        lanes: int = self._lanes
        return -(-n // lanes) * lanes

    # --- packing ----------------------------------------------------------------------------------

    def pack(self) -> Program:
        """Give every value its place, constants their form, and hand the whole to the kernel."""
        demand(bool(self._steps), "a tape without steps.")
        offsets, numbers = self._places()
        steps = np.zeros((len(self._steps), 34), np.int64)
        kept: list[Any] = []
        inner = max(self._write(*pair, kept) for pair in zip(steps, self._steps, strict=True))
        constant_bytes = sum(constant.nbytes for constant in kept)
        places = zip(self.outside, self._roles, strict=True)
        each = np.array([(v.rows * v.columns, role) for v, role in places], np.int64)
        kept += [each, np.array([*offsets, 0], np.int64), steps]
        size, addresses = self.dtype.itemsize, [array.ctypes.data for array in kept[-3:]]
        head = [size, self._number, inner, numbers, len(each), len(steps), *addresses]
        program = _kernel.Program(np.array(head, np.int64), kept)
        return Program(program, numbers * size, constant_bytes)

    def _places(self) -> tuple[list[int], int]:
        """Return where each value lies in the memory of a point, and how much there is of it."""
        last = [-1] * len(self._values)
        for k, step in enumerate(self._steps):
            for value in filter(None, step.operands):
                if value.kind == _WORK:
                    last[value.index] = k
        free: list[tuple[int, int]] = []  # size, offset
        offsets, sizes, top = [0] * len(last), [0] * len(last), 0
        for k, step in enumerate(self._steps):
            results = [step.operands[0], step.operands[2]][: step.results]
            made = [v for v in results if v is not None and v.kind == _WORK]
            used = {v.index for v in step.operands if v is not None and v.kind == _WORK}
            used -= {v.index for v in made}
            over = [i for i in used if last[i] == k]
            a = step.operands[1]
            early = [i for i in over if step.reuses and a is not None and i == a.index]
            free += [(sizes[i], offsets[i]) for i in early]
            for value in made:
                size = -(-value.rows * self._padded(value.columns) // 16) * 16
                fitting = [place for place in free if place[0] >= size]
                if fitting:
                    free.remove(min(fitting))
                    sizes[value.index], offsets[value.index] = min(fitting)
                else:
                    sizes[value.index], offsets[value.index] = size, top
                    top += size
            free += [(sizes[i], offsets[i]) for i in over if i not in early]
            ended = [v.index for v in made if last[v.index] == k]
            free += [(sizes[i], offsets[i]) for i in ended]
        demand(top < _MOST, "the values of a point take too much memory.")
        return offsets, top

    def _write(self, row: Any, step: Step, kept: list[Any]) -> int:
        """Write a step as the kernel reads it, see ``kernel.c``; return its inner dimension."""
        out, a, b = step.operands[:3]
        assert out is not None
        assert a is not None
        m, k, n = out.rows, 1, out.columns
        columns = n if out.kind == _OUTSIDE else self._padded(n)
        table = b is not None and b.depth > 1
        if table:  # a product with one long row
            m, n, columns = 1, m * columns, m * columns
        if step.op == _PRODUCT:
            k = a.rows if step.flags & _TURNED else a.columns
        operations = 2.0 * m * k * n if step.op == _PRODUCT else 20.0 * m * n
        packed = step.op == _PRODUCT and b is not None and b.kind == _CONSTANT
        row[:7] = step.op, step.flags, packed, m, k, n, columns
        row[7:10].view(np.float64)[:] = *step.parameters, operations
        for place, value in enumerate(step.operands):
            if value is None:
                continue
            width = value.columns if value.kind == _OUTSIDE else self._padded(value.columns)
            index, point, line = value.index, value.rows * width, width
            if value.kind == _CONSTANT:
                kept.append(self._packed(value, columns) if place == 2 else self._rows(value))
                index, point = kept[-1].ctypes.data, 0
            if place == 4:
                line = int(step.flags & _BY_ROWS)
            if place == 5 and value.rows == 1 < out.rows:
                line = 0
            row[10 + 4 * place : 14 + 4 * place] = value.kind, index, point, line
        return k

    def _rows(self, value: Value) -> Array:
        """Return a constant with its rows padded to whole vectors."""
        given = self._constants[value.index]
        rows = aligned((value.rows, self._padded(value.columns)), self.dtype)
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

    _program: Any
    point_bytes: int
    constant_bytes: int

    def run(self, *outside: Array) -> bool:
        """Run over all points; return whether all values that met an activation were finite.

        Arrays are contiguous, in the order of their declaration.
        """
        finite: bool = self._program.run(*outside)
        return finite
