"""From a program of the engine to a tape of the kernel: every step, or none.

A step that the kernel does not have (a layer or activation of one's own, a map of a general kind)
leaves the whole program to NumPy.  What the kernel gains is seen here: a value and its slopes are
one step; a product is scaled by the diagonal that follows while it is still in registers; units
whose slope is 0 are left out of the product that follows the scaling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians._checks import ShapeError
from jacobians._kernels import Tape
from jacobians._kernels.codes import code_of
from jacobians._kernels.values import Value
from jacobians.activations import LOG_SOFTMAX, SOFTMAX, Activation
from jacobians.layers import Add, Elementwise, Multiply, Scale
from jacobians.program import Program, Step

# Written out, the Jacobian of a softmax costs a product more than its parts; up to this width it
# is worth a program of its own.
SOFTMAX_WIDTH = 256


def tape_of(
    program: Program, dtype: Any, points: int, shape: tuple[int, int], row: int, value: int
) -> Tape | None:
    """Translate a program; None if a step of it is not the kernel's.

    Parameters
    ----------
    program : Program
    dtype : dtype
    points : int
        Width of the points, which are the first array outside.
    shape : (int, int)
        Of the result for each point, the last array outside.
    row : int
        Width of the vectors of a sweep, which are the second array; 0 if there are none.
    value : int
        Width of the value, the array before the last; 0 if it was not asked for.
    """
    translation = _Translation(program, Tape(dtype))
    tape = translation.tape
    translation.values = {0: tape.read(1, points)}
    if row:
        translation.values[1] = tape.read(1, row)
    out = tape.written(1, value) if value else None
    J = tape.written(*shape)
    try:
        translation.steps(J)
        if out is not None:
            tape.scaling(translation.value(program.value), into=out)
    except (NotOfTheKernel, ShapeError):  # a step that the kernel has in another shape only
        return None
    return tape


class NotOfTheKernel(Exception):
    """A step for which there is no operation."""


@dataclass
class _Translation:
    """Registers of the program as values of the tape."""

    program: Program
    tape: Tape
    values: dict[int, Value] = field(default_factory=dict)
    activated: dict[int, tuple[Value, Value]] = field(default_factory=dict)  # by register of z
    flat: set[int] = field(default_factory=set)  # registers of slopes of which many are 0
    zeros: dict[tuple[int, bool], Value] = field(default_factory=dict)  # slopes of columns, rows
    turned: dict[int, Any] = field(default_factory=dict)  # softmax whose map is asked for
    waiting: dict[int, Any] = field(default_factory=dict)  # products that may be scaled yet

    def value(self, register: int) -> Value:
        """Return what a register holds; constants and products are made when they are asked for."""
        if register in self.waiting:
            operands, live = self.waiting.pop(register)
            self.values[register] = self.tape.product(*operands, live=live)
        if register not in self.values:
            constant = self.program.registers[register]
            if not isinstance(constant, np.ndarray):
                raise NotOfTheKernel
            self.values[register] = self.tape.constant(constant)
        return self.values[register]

    def steps(self, J: Value) -> None:
        """Translate all steps; the last one fills J."""
        result = self._through(self.program.steps, J)
        if result is not J:
            self.tape.scaling(result, into=J)

    def _through(self, steps: tuple[Step, ...], into: Value | None) -> Value:
        for step in steps:
            translate = getattr(self, f"_{step.op.name.lower()}", None)
            if translate is None:
                raise NotOfTheKernel
            made = translate(step, into if step.slot == -2 else None)
            if made is not None:
                self.values[step.out] = made
        return self.value(steps[-1].out)

    # --- the forward pass -------------------------------------------------------------------------

    def _affine(self, step: Step, into: None) -> Value:
        a, W, b = map(self.value, step.args)
        return self.tape.product(a, W, add=b)

    def _call(self, step: Step, into: None) -> Value:
        layer, values = step.data, [self.value(k) for k in step.args]
        if type(layer) is Elementwise:
            return self._inside(values[0])
        if type(layer) is Scale:
            scale, shift = map(self.tape.constant, (layer.scale, layer.shift))
            return self.tape.scaling(values[0], scale, add=shift)
        if type(layer) in (Add, Multiply) and len(values) > 1:
            result, *others = values
            for other in others:
                if type(layer) is Add:
                    result = self.tape.scaling(result, add=other)
                else:
                    result = self.tape.scaling(result, other)
            return result
        raise NotOfTheKernel

    def _inside(self, value: Value) -> Value:
        return self.tape.scaling(value) if value in self.tape.outside else value

    def _slopes(self, step: Step, into: None) -> Value:
        if step.data.flat:
            self.flat.add(step.out)
        return self._activated(step)[1]

    def _value(self, step: Step, into: None) -> Value:
        return self._activated(step)[0]

    def _activated(self, step: Step) -> tuple[Value, Value]:
        z, sigma = step.args[0], step.data
        if z not in self.activated:
            if sigma in (SOFTMAX, LOG_SOFTMAX):
                value, log = self._inside(self.value(z)), sigma == LOG_SOFTMAX
                self.activated[z] = (self.tape.softmax(value, log=log, jacobian=False)[0],) * 2
            elif not isinstance(sigma, Activation) or code_of(sigma) is None:
                raise NotOfTheKernel
            else:
                self.activated[z] = self.tape.activation(self._inside(self.value(z)), sigma)
        return self.activated[z]

    def _activation_map(self, step: Step, into: None) -> None:
        self.turned[step.out] = step

    def _leaf(self, step: Step, into: None) -> Value:
        leaf, asked = step.data, self.turned.get(step.args[0])
        whole = leaf.rows is None is leaf.columns
        if asked is None or not whole or leaf.kind not in ("matrix", "map"):
            raise NotOfTheKernel
        z, sigma = asked.args[0], asked.data
        value = self._inside(self.value(z))
        if sigma not in (SOFTMAX, LOG_SOFTMAX) or value.columns > SOFTMAX_WIDTH:
            raise NotOfTheKernel
        log = sigma == LOG_SOFTMAX
        p, J = self.tape.softmax(value, log=log, transposed=leaf.turned)
        assert J is not None
        self.activated[z] = p, J
        return J

    # --- products ---------------------------------------------------------------------------------

    def _multiply_slopes(self, step: Step, into: Value | None) -> Value:
        d, e = sorted(map(self.value, step.args), key=self.tape.is_constant)
        return self.tape.scaling(d, e, into=into)

    def _scale_rows(self, step: Step, into: Value | None) -> Value:
        return self._scaled(step, step.args[1], step.args[0], True, into)

    def _scale_columns(self, step: Step, into: Value | None) -> Value:
        P, d = step.args
        if P in self.waiting and P in step.frees:
            (a, b), live = self.waiting.pop(P)
            self._note(step, d, False)
            return self.tape.product(a, b, live=live, scale=self.value(d), into=into)
        return self._scaled(step, P, d, False, into)

    def _scaled(self, step: Step, P: int, d: int, by_rows: bool, into: Value | None) -> Value:
        self._note(step, d, by_rows)
        return self.tape.scaling(self.value(P), self.value(d), by_rows=by_rows, into=into)

    def _note(self, step: Step, d: int, rows: bool) -> None:
        if d in self.flat:
            self.zeros[step.out, rows] = self.value(d)

    def _product(self, step: Step, into: Value | None) -> Value | None:
        P, Q = step.args
        live = self.zeros.get((P, False)) or self.zeros.get((Q, True))
        operands = self.value(P), self._inside(self.value(Q))
        if into is not None:
            return self.tape.product(*operands, live=live, into=into)
        self.waiting[step.out] = operands, live
        return None

    def _table(self, step: Step, into: Value | None) -> Value | None:
        slopes, table = map(self.value, step.args)
        if into is None and table.depth == 1:  # of a single row: a scaling may follow
            self.waiting[step.out] = (slopes, table), None
            return None
        return self.tape.product(slopes, table, into=into)

    def _live(self, step: Step, into: Value | None) -> Value:
        P, d, Q = map(self.value, step.args)
        return self.tape.product(self.tape.scaling(P, d), Q, live=d, into=into)

    def _right(self, step: Step, into: Value | None) -> Value:
        P, A = map(self.value, step.args)
        return self.tape.product(P, A, into=into)

    def _left(self, step: Step, into: Value | None) -> Value:
        Q, A = map(self.value, step.args)
        return self.tape.product(A, Q, into=into)

    def _rows(self, step: Step, into: Value | None) -> Value:
        return self._through(step.data.steps, into)

    def _add(self, step: Step, into: Value | None) -> Value:
        if step.data == "slopes":
            raise NotOfTheKernel
        P, Q = sorted(map(self.value, step.args), key=self.tape.is_constant)
        return self.tape.scaling(P, add=Q, into=into)

    def _write(self, step: Step, into: Value | None) -> Value:
        A = self.value(step.args[0])
        if step.data == "matrix" or A.rows > 1:
            return self.tape.scaling(A, into=into)
        identity = self.tape.constant(np.eye(A.columns))
        return self.tape.scaling(identity, A, into=into)
