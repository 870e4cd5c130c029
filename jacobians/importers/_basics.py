"""The few steps of which all others are made: layers, affine maps, activations, moved entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np

from jacobians._checks import FLOATS, Array, ShapeError, as_floats, require_shape
from jacobians.activations import IDENTITY, AnyActivation, VectorActivation, activation
from jacobians.importers._assembly import SCALED, Assembly, Value
from jacobians.importers._folding import Step
from jacobians.layers import Concatenate, Gather, Layer, Reshape, Shape

Operand: TypeAlias = Any  # a value, or a constant in float64


@dataclass
class Basics:
    """Steps at one place of a model, ``at``."""

    nowhere: ClassVar[float] = -(2.0**100)  # for -inf before softmax, whose exp of either is 0
    assembly: Assembly
    at: str

    @property
    def where(self) -> str:
        """The model and the place in it, for errors."""
        return f"{self.assembly.where}: {self.at}"

    def refuse(self, message: str) -> NoReturn:
        """Refuse what has a rule but cannot be used as it is."""
        self.assembly.refuse(self.at, message)

    def no_rule(self, what: str, way_out: str = "") -> NoReturn:
        """Refuse what has no rule."""
        self.assembly.no_rule(self.at, what, way_out)

    # --- steps ------------------------------------------------------------------------------------

    def apply(
        self,
        layer: Layer,
        *values: Value,
        shape: Sequence[int] | None = None,
        shaped: bool = False,
        rows_of: int = 0,
        alike: bool = True,
    ) -> Value:
        """Append any layer: one that minds the axes of its values if ``shaped``, or their rows.

        Else its values must have one shape, if they are to be ``alike``.  The result is seen under
        ``shape``, which is that of the first value unless said.
        """
        steps = self.assembly.steps
        flat = alike and len({steps[value.step].shape for value in values}) > 1
        sources = [value.step for value in values]
        if shaped or rows_of:
            sources = [self._shaped(value, value.shape, rows_of) for value in values]
        elif flat:
            sources = [self._shaped(value, (value.size,)) for value in values]
        shapes = [steps[source].shape for source in sources]
        if layer.dtype is not None:
            self.assembly.computed_in(layer.dtype)
        try:
            given = layer.on(*shapes).output_shape(*shapes)
        except ValueError as err:
            raise type(err)(f"{self.where}: {err}") from None
        seen_as = values[0].shape if shape is None else shape
        return self._append(Step(self.at, tuple(sources), given, layer=layer), seen_as)

    def _shaped(self, value: Value, shape: Shape, rows_of: int = 0) -> int:
        """Return a step whose node has this shape, or at least rows of this length."""
        node = self.assembly.steps[value.step].shape
        if node == shape or node[-1] == rows_of:
            return value.step
        shape = tuple(int(n) for n in shape)
        self._append(Step("the model", (value.step,), shape, layer=Reshape(shape)), shape)
        return len(self.assembly.steps) - 1

    def _append(self, step: Step, shape: Sequence[int]) -> Value:
        """Append a step, or the activation that the last steps have written out with it."""
        assembly = self.assembly
        assembly.steps.append(step)
        form = assembly.formulas.recognised(assembly.steps, assembly.widest == FLOATS[0])
        if form is None:
            return Value(len(assembly.steps) - 1, tuple(shape))
        base, name, sign = form
        return self.affine(self.activate(name, self.affine(Value(base, tuple(shape)), sign)), sign)

    def dense(self, of: Value, W: Any, b: Any = None) -> Value:
        """Return ``W a + b`` along the last axis."""
        W = as_floats(np.atleast_2d(W), f"{self.where}: weight", as_it_lies=True)  # copied later
        if W.ndim != 2 or 0 in W.shape:
            raise ShapeError(
                f"{self.where}: expected a weight of shape (n_out, n_in), but got {W.shape}."
            )
        if b is not None:
            b = as_floats(b, f"{self.where}: bias")
            require_shape(b, W.shape[:1], f"{self.where}: bias")
        m, n = W.shape
        before = self.assembly.steps[of.step]
        if of.shape[-1:] != (n,):
            last = before.at + (" gives" if before.sources else " gets")
            given = of.shape[0] if len(of.shape) == 1 else of.shape
            raise ShapeError(f"{self.where} takes {n} inputs, but {last} {given}.")
        self.assembly.computed_in(np.result_type(W, W if b is None else b))
        rows = of.size // n
        source = of.step if rows == 1 else self._shaped(of, (rows, n), rows_of=n)
        node = self.assembly.steps[source].shape
        shape = (*node[:-1], m) if node[-1] == n else (m,)
        return self._append(Step(self.at, (source,), shape, W, b), (*of.shape[:-1], m))

    def affine(self, of: Value, scale: Any = 1.0, shift: Any = 0.0) -> Value:
        """Multiply by a constant and add one, either of which may have more axes than the value."""
        scale, shift = (np.asarray(given, np.float64) for given in (scale, shift))
        if scale.ndim or shift.ndim:
            of = self.spread(of, self.broadcast(of.shape, scale.shape, shift.shape))
        hidden = shift == -inf
        if hidden.any():
            scale, shift = np.where(hidden, 0.0, scale), np.where(hidden, self.nowhere, shift)
        if not shift.any() and (scale == 1).all():
            return of
        scale = as_floats(scale, f"{self.where}: scale", dtype=FLOATS[1])
        shift = as_floats(shift, f"{self.where}: shift", dtype=FLOATS[1])
        if max(scale.size * scale.ndim, shift.size * shift.ndim) > 1:
            self.assembly.spend(SCALED * of.size)  # a single number is spread in the end
        W, b = (_spread(given, of.shape) for given in (scale, shift))
        shape = self.assembly.steps[of.step].shape
        return self._append(Step(self.at, (of.step,), shape, W, b), of.shape)

    def activate(
        self, sigma: str | AnyActivation, of: Value, axis: int | None = None, **parameters: float
    ) -> Value:
        """Append an activation; along an axis if it is softmax, or over everything."""
        try:
            sigma = activation(sigma, **parameters)
        except (ValueError, TypeError) as err:
            raise type(err)(f"{self.where}: {err}") from None
        if sigma is IDENTITY:
            return of
        source = of.step
        if isinstance(sigma, VectorActivation) and axis is not None:
            axis %= len(of.shape)
            count, inner = of.shape[axis], prod(of.shape[axis + 1 :])
            axis = None
            if of.size > count:
                axis = 1 if inner > 1 else -1
                rows = (of.size // count // inner, count, inner)
                source = self._shaped(of, rows if inner > 1 else rows[:2], count * (inner == 1))
        shape = self.assembly.steps[source].shape
        return self._append(Step(self.at, (source,), shape, sigma=sigma, axis=axis), of.shape)

    # --- moving entries ---------------------------------------------------------------------------

    def as_value(self, operand: Operand) -> Value:
        """Return a value; a constant becomes nothing of the input, with the constant added."""
        if isinstance(operand, Value):
            return operand
        constant = np.asarray(operand, np.float64)
        nothing = self.move(Value(0, (1,)), np.full(constant.shape, -1))
        return self.affine(nothing, 1.0, constant)

    def numbers(self, of: Value) -> Any:
        """Return the number of every entry, in the shape of the value."""
        self.assembly.spend(16 * of.size)
        return np.arange(of.size).reshape(of.shape)

    def move(self, of: Value, indices: Any) -> Value:
        """Choose entries by their numbers in C order, -1 for a zero.

        The result has the shape of ``indices``: whatever the model does to a value that only moves,
        repeats or leaves out entries, it does to ``numbers`` too.
        """
        indices = np.asarray(indices)
        if indices.size == 0:
            self.refuse(f"gives shape {indices.shape}, which has no entries.")
        if np.array_equal(indices.ravel(), np.arange(of.size)):
            return of.reshaped(indices.shape)
        step = self.assembly.steps[of.step]
        if step.indices is not None:  # a choice of a choice is one
            (source,) = step.sources
            before = Value(source, (prod(self.assembly.steps[source].shape),))
            return self.move(before, np.append(step.indices, -1)[indices])
        value = self.apply(Gather(indices.reshape(-1)), of, shape=indices.shape)
        self.assembly.steps[value.step].indices = indices.reshape(-1)
        return value

    def transposed(self, of: Value, axes: Sequence[int]) -> Value:
        """Reorder the axes."""
        moved = self.move(of, self.numbers(of).transpose(axes))
        return moved.reshaped([of.shape[k] for k in axes])

    def broadcast(self, *shapes: Shape) -> Shape:
        """Return the common shape of several."""
        return np.broadcast_shapes(*shapes)

    def spread(self, of: Value, shape: Sequence[int]) -> Value:
        """Repeat entries along new axes, and along those of length 1."""
        if of.size == prod(shape):
            return of.reshaped(shape)
        self.assembly.spend(16 * prod(shape))
        return self.move(of, np.broadcast_to(self.numbers(of), shape)).reshaped(shape)

    def concatenate(self, operands: Sequence[Operand], axis: int) -> Value:
        """Put one after the other along an axis."""
        values = [self.as_value(operand) for operand in operands]
        if len(values) == 1:
            return values[0]
        first, axis = values[0].shape, axis % len(values[0].shape)
        shape = (*first[:axis], sum(value.shape[axis] for value in values), *first[axis + 1 :])
        outer = prod(first[:axis])
        flat = [value.reshaped((-1,) if outer == 1 else (outer, -1)) for value in values]
        join = Concatenate(None if outer == 1 else 1)
        return self.apply(join, *flat, shape=shape, shaped=outer > 1, alike=False)

    def stack(self, operands: Sequence[Operand], axis: int) -> Value:
        """Put one after the other along a new axis."""
        parts = [self.as_value(operand) for operand in operands]
        axis %= len(parts[0].shape) + 1
        shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
        return self.concatenate([part.reshaped(shape) for part in parts], axis)


def _spread(array: Array, shape: Shape) -> Array:
    """Return the entries of an array that is spread over a shape, one after the other."""
    ones = len(shape) - array.ndim  # axes that it has no say in
    same = array.ndim and shape[ones:] == array.shape and prod(shape[:ones]) == 1
    return (array if same else np.broadcast_to(array, shape)).reshape(-1)
