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

from typing import Any

import numpy as np

from jacobians._checks import ShapeError
from jacobians._kernels.codes import code_of
from jacobians._kernels.packing import PROCESSORS, Program, Record, is_built
from jacobians._kernels.values import (
    ACTIVATION,
    ADDED,
    ASK,
    CONGRUENCE,
    CONSTANT,
    GROUPING,
    LOGARITHM,
    MOST,
    OUTSIDE,
    OUTSIDE_MOST,
    OVER_POINTS,
    PRODUCT,
    READ,
    SCALING,
    SOFTMAX,
    SUM,
    TRANSPOSED,
    WORK,
    WRITTEN,
    Step,
    Value,
    demand,
    shape,
)
from jacobians.activations import AnyActivation, activation

__all__ = ["PROCESSORS", "Program", "Tape", "is_built"]


class Tape(Record):
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

    # --- what stands outside ----------------------------------------------------------------------

    def read(self, rows: int, columns: int) -> Value:
        """Declare an array (points, rows, columns) of the caller that is read."""
        return self._outside_array(rows, columns, READ)

    def written(self, rows: int, columns: int) -> Value:
        """Declare an array (points, rows, columns) of the caller that is written."""
        return self._outside_array(rows, columns, WRITTEN)

    @staticmethod
    def is_constant(value: Value) -> bool:
        """Tell whether a value is the same for all points."""
        return value.kind == CONSTANT

    def constant(self, value: Any) -> Value:
        """Declare a constant: a vector, a matrix, or a table (k, m, n)."""
        array = np.atleast_2d(np.asarray(value, self.dtype))
        if array.ndim > 3 or not 0 < array.size < MOST:
            raise ShapeError(f"kernel: constant: shape {array.shape}.")
        if array.ndim == 3 and array.shape[1] == 1:
            array = array[:, 0]
        depth = array.shape[1] if array.ndim == 3 else 1
        made = Value(CONSTANT, len(self._constants), len(array), array.shape[-1], depth)
        self._constants.append(array)
        self._made.add(made)
        return made

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
        tight: bool = False,
    ) -> Value:
        """Return ``(add + a b) diag(scale)``.

        A vector ``live`` says by its zeros where columns of a, or rows of b, are 0, so that they
        need not be read.  ``b`` may be a table (k, m, n); then ``a`` is a row, and the result is
        the sum over k of ``a_k b_k``, with its rows ``tight`` if nothing but rows is read of them.
        """
        self._require(a, b, live, scale, add)
        demand(b.kind != OUTSIDE, "product: b stands outside; copy it first.")
        m, k = shape(a)
        demand(k == b.rows and a.depth == 1, f"product: {shape(a)} times {shape(b)}.")
        n = b.columns
        if b.depth > 1:
            plain, m = a.rows == 1 and add is None is scale, b.depth
            demand(plain, "product: a table takes a row, and nothing else.")
        if live is not None:
            demand(shape(live) == (1, k), f"product: live: {shape(live)}.")
        self._check_scale(scale, False, m, n, inside=True)
        if add is not None:
            fits = add.columns == n and add.rows in (1, m) and add.kind != OUTSIDE
            demand(fits and add.depth == 1, f"product: add: {shape(add)} and ({m}, {n}).")
        out = self._new(m, n, tight) if tight else self._result(m, n, into, a, b, live, scale, add)
        self._steps.append(Step(PRODUCT, 0, [out, a, b, live, scale, add]))
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
        reuses = a.kind == WORK and not a.tight  # rows of the result begin elsewhere
        self._steps.append(Step(SCALING, int(by_rows), [out, a, None, None, scale, add], reuses))
        return out

    def congruence(
        self, a: Value, b: Value, into: Value | None = None, *, added: bool = False
    ) -> Value:
        """Return ``aᵀ diag(w) a`` for every row w of b, one below the other, symmetric to the bit.

        ``added``, it is added to what was written there.
        """
        demand(into is not None or not added, "congruence: added to what?")
        self._require(a, b)
        for value in (a, b):
            demand(value.kind != OUTSIDE and value.depth == 1, "congruence: copy it first.")
        demand(a.rows == b.columns, f"congruence: {shape(a)} and {shape(b)}.")
        out = self._result(a.columns * b.rows, a.columns, into)
        weighted = self._new(a.rows, a.columns)
        self._steps.append(Step(CONGRUENCE, ADDED * added, [out, a, b, weighted, None, None]))
        return out

    def activation(self, z: Value, sigma: str | AnyActivation) -> tuple[Value, Value]:
        """Return ``sigma(z)`` and ``sigma'(z)``, entry by entry."""
        self._require(z)
        code = code_of(activation(sigma))
        if code is None:
            raise ValueError(f"kernel: there is no activation {sigma}.")
        demand(z.kind == WORK, "activation: of what is outside; copy it first.")
        out, slopes = self._new(z.rows, z.columns), self._new(z.rows, z.columns)
        operands = [out, z, slopes, None, None, None]
        self._steps.append(Step(ACTIVATION, code[0], operands, True, code[1:]))
        return out, slopes

    def softmax(
        self, z: Value, *, log: bool = False, transposed: bool = False, jacobian: bool = True
    ) -> tuple[Value, Value | None]:
        """Return softmax of a row, or its logarithm, and the Jacobian written out, if wanted."""
        self._require(z)
        demand(z.kind == WORK and z.rows == 1, "softmax: expected a row of workspace.")
        n = z.columns
        out, J = self._new(1, n), self._new(n, n) if jacobian else None
        flags = LOGARITHM * log + TRANSPOSED * transposed
        self._steps.append(Step(SOFTMAX, flags, [out, z, J, None, None, None]))
        return out, J

    def ask(self) -> None:
        """Call back, at the points of a block, before the steps that follow."""
        self._steps.append(Step(ASK, 0, [None] * 6))

    def sum_over_points(self, a: Value, b: Value) -> slice:
        """Add ``aᵀ b`` up over all points, for rows a (or the constant 1) and b.

        Returns where the sum lies in the last array outside, which must hold numbers before; its
        rows are as long as ``padded`` says.
        """
        self._require(a, b)
        one = a.kind == CONSTANT and shape(a) == (1, 1)
        fits = a.rows == b.rows == 1 and b.kind == WORK and (one or a.kind == WORK)
        demand(fits, f"sum over points: of {shape(a)} and {shape(b)}.")
        out = Value(SUM, self._summed, a.columns, b.columns)
        self._summed += a.columns * self.padded(b.columns)
        demand(self._summed < MOST, "the sums over points take too much memory.")
        self._steps.append(Step(PRODUCT, OVER_POINTS, [out, a, b, None, None, None]))
        return slice(out.index, self._summed)

    def sum_of_groups(self, arrays: list[Value], labels: Value, groups: int) -> None:
        """Add the rows of arrays, which stand side by side, up by the label of each point.

        The last array outside is then float64, (3 + 2 groups, columns): a shift, smallest and
        largest values, and for each group the sums of values less the shift, and of their squares.
        """
        self._require(*arrays, labels)
        fits = all(a.kind == OUTSIDE and a.rows == 1 for a in arrays)
        demand(fits and shape(labels) == (1, 1), "sum of groups: expected rows and their labels.")
        total, words = sum(a.columns for a in arrays), 8 // self.dtype.itemsize
        at = self._summed
        self._summed += (3 + 2 * groups) * total * words
        for a in arrays:
            out = Value(SUM, at, 3 + 2 * groups, total)
            self._steps.append(Step(GROUPING, 0, [out, a, labels, None, None, None]))
            at += a.columns * words

    @property
    def nbytes(self) -> int:
        """What the constants take, before they are padded."""
        return sum(constant.nbytes for constant in self._constants)

    # --- checks -----------------------------------------------------------------------------------

    def _outside_array(self, rows: int, columns: int, role: int) -> Value:
        demand(len(self.outside) < OUTSIDE_MOST, "more arrays outside than it takes.")
        demand(role == READ or self.outside != [], "the first array outside is read.")
        for n in (rows, columns):
            demand(isinstance(n, int) and n > 0, f"outside: shape ({rows}, {columns}).")
        demand(rows * columns < MOST, f"outside: shape ({rows}, {columns}).")
        value = Value(OUTSIDE, len(self.outside), rows, columns)
        self.outside.append(value)
        self._roles.append(role)
        self._made.add(value)
        return value

    def _new(self, rows: int, columns: int, tight: bool = False) -> Value:
        demand(rows * self.padded(columns) < MOST, f"a matrix {rows}x{columns} is too large.")
        value = Value(WORK, len(self._values), rows, columns, tight=tight)
        self._values.append(value)
        self._made.add(value)
        return value

    def _result(self, m: int, n: int, into: Value | None, *operands: Value | None) -> Value:
        if into is None:
            return self._new(m, n)
        self._require(into)
        ours = into.kind == OUTSIDE and self._roles[into.index] == WRITTEN
        demand(ours and shape(into) == (m, n), f"into: expected ({m}, {n}), not {shape(into)}.")
        demand(into not in operands, "into: an operand.")
        return into

    def _require(self, *values: Value | None) -> None:
        """Refuse values that this tape has not made."""
        for value in values:
            if value is not None and not isinstance(value, Value):
                raise TypeError(f"kernel: expected a value of the tape, but got {value!r:.80}.")
            demand(value is None or value in self._made, "a value of another tape.")

    def _check_scale(
        self, scale: Value | None, by_rows: bool, m: int, n: int, inside: bool
    ) -> None:
        if scale is None:
            return
        length = m if by_rows else n
        demand(shape(scale) == (1, length) and scale.depth == 1, f"scale: {shape(scale)}.")
        demand(not inside or scale.kind != OUTSIDE, "scale stands outside.")
