"""What ONNX operators work on while a model is read: constants, values, and the steps between them.

A model is read at a batch of one point.  A *constant* has numbers; a *value* has a shape and the
step that computes it.  Shapes are tuples in which the axis of the batch is a ``Batch``, so that
whatever permutes, drops or keeps axes takes it along.  Steps are few: whatever ONNX writes becomes

============== ===================================================================
``input``      a graph input
``dense``      a matrix on the last axis
``scale``      ``scale * x + shift``, entry by entry
``function``   an activation, entry by entry or along an axis
``select``     entries by number, in any order, repeated, or 0
``layer``      one of the library's layers, on a value of a given shape; ``rows``, on its rows
============== ===================================================================

and the joins ``add``, ``multiply``, ``concatenate`` and ``product`` of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

import numpy as np

from jacobians._checks import ModelFormatError, Numbers
from jacobians.importers.onnx_tensors import (
    BOOL,
    FLOATING,
    MOST_AXES,
    Source,
    Tensor,
    dtype_of,
    kind_name,
)


class Batch(int):
    """The size of an axis along which the points of a batch stand, at a batch of one."""


Shape = tuple[int, ...]


class Constant:
    """Numbers of a model: a tensor that is decoded when it is needed, or an array."""

    def __init__(self, held: Tensor | Numbers) -> None:
        self._held = held
        self.shape: Shape = held.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the numbers."""
        return self._held.dtype

    @property
    def array(self) -> Numbers:
        """The numbers."""
        array = self._held.array if isinstance(self._held, Tensor) else self._held
        return array.reshape(self.shape)

    def reshaped(self, shape: Shape) -> Constant:
        """Return the same numbers in another shape, still to be decoded."""
        constant = Constant(self._held)
        constant.shape = shape
        return constant


@dataclass(eq=False)
class Step:
    """One operation on flat vectors, in the order in which they are computed."""

    kind: str
    sources: tuple[Step, ...]
    size: int
    at: str
    data: Any = None
    dtype: np.dtype[Any] | None = None  # of the model's constants in it


@dataclass(frozen=True, eq=False)
class Value:
    """What a step gives, in a shape, as numbers of an element type."""

    step: Step
    shape: Shape
    kind: int

    def reshaped(self, shape: Shape) -> Value:
        """Return the same entries, row by row, in another shape."""
        return Value(self.step, shape, self.kind)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which it is computed here."""
        return dtype_of(self.kind)


Operand = Value | Constant | None


@dataclass
class Node:
    """An operator at work: its operands, None where left out, and its attributes."""

    op: str
    domain: str
    at: str
    operands: Sequence[Operand]
    attributes: dict[str, Any]
    opset: int
    outputs: int
    tape: Tape
    looked_at: int = 0  # operands; none may be left in the end

    def refuse(self, message: str) -> NoReturn:
        """Refuse this node, by name and place."""
        raise ModelFormatError(f"{self.at} {message}")

    # --- attributes: each is taken out when it is read, and none may be left in the end -----------

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute, which must be of the kind of its default."""
        if isinstance(default, float):
            default = float(np.float32(default))  # as the standard gives its defaults
        value = self.attributes.pop(name, default)
        kind = type(default) if default is not None else type(value)
        if type(value) is not kind:
            self.refuse(f"has an attribute {name!r:.60} of another type.")
        return value

    def integers(self, k: int, name: str) -> tuple[int, ...] | None:
        """Return integers that older versions keep as an attribute, newer ones as operand ``k``."""
        if name in self.attributes:
            given = self.attributes.pop(name)
            return given if isinstance(given, tuple) else (self.refuse(f"has no list {name}."))
        constant = self.constant(k)
        if constant is None:
            return None
        if len(constant.shape) != 1 or constant.dtype.kind != "i":
            self.refuse(f"needs a list of whole numbers as input {k + 1}.")
        if constant.shape[0] > MOST_AXES:
            self.refuse(f"has {constant.shape[0]} numbers as input {k + 1}.")
        return tuple(int(value) for value in constant.array)

    # --- operands ---------------------------------------------------------------------------------

    def operand(self, k: int) -> Operand:
        """Return operand ``k``, None if it is left out."""
        self.looked_at = max(self.looked_at, k + 1)
        return self.operands[k] if k < len(self.operands) else None

    def value(self, k: int = 0) -> Value:
        """Return operand ``k``, which must be computed."""
        operand = self.operand(k)
        if not isinstance(operand, Value):
            self.refuse(f"needs what is computed as its input {k + 1}.")
        return operand

    def floats(self, k: int = 0) -> Value:
        """Return operand ``k``, which must be computed and floating point."""
        value = self.value(k)
        if value.kind not in FLOATING:
            self.refuse(f"takes {kind_name(value.kind)}; expected floating point.")
        return value

    def constant(self, k: int) -> Constant | None:
        """Return operand ``k``, None if it is left out, refusing what is computed."""
        operand = self.operand(k)
        if isinstance(operand, Value):
            self.refuse(f"takes what is computed as input {k + 1}, where it must be a constant.")
        return operand

    def needed(self, k: int, ndim: int | None = None) -> Constant:
        """Return operand ``k``, which must be a constant of floating point."""
        constant = self.constant(k)
        if constant is None:
            self.refuse(f"needs its input {k + 1}.")
        if constant.dtype.kind != "f" or ndim not in (None, len(constant.shape)):
            self.refuse(f"takes {constant.dtype} of shape {constant.shape} as input {k + 1}.")
        return constant

    def same_kind(self, *operands: Value | Constant) -> None:
        """Refuse operands of two element types: the standard demands one."""
        dtypes = {operand.dtype for operand in operands}
        if len(dtypes) > 1:
            names = " and ".join(sorted(map(str, dtypes)))
            self.refuse(f"has operands of {names}; the standard demands one type (use Cast).")

    def axis(self, axis: int, shape: Shape, end: bool = False) -> int:
        """Count an axis from the front."""
        if not -len(shape) <= axis < len(shape) + end:
            self.refuse(f"names axis {axis} of shape {shape}.")
        return axis + len(shape) if axis < 0 else axis

    def goes_along(self, axes: Sequence[int], shape: Shape) -> None:
        """Refuse to combine entries along the axis of the batch."""
        if any(isinstance(shape[axis], Batch) for axis in axes):
            self.refuse(
                "goes along the axis of the batch, so that no point has a Jacobian of its own; "
                "export with a batch of fixed size 1 to read it at one point."
            )

    def broadcast(self, *shapes: Shape) -> Shape:
        """Return the common shape of several, which keeps the axis of the batch."""
        try:
            sizes = np.broadcast_shapes(*shapes)
        except ValueError:
            self.refuse(f"cannot combine shapes {' and '.join(map(str, shapes))}.")
        batch = {
            k - len(shape): int(n)
            for shape in shapes
            for k, n in enumerate(shape)
            if isinstance(n, Batch)
        }
        if len(batch) > 1:
            self.refuse("combines points of a batch with each other.")
        return tuple(  # an axis that is spread over more is that of the batch no longer
            Batch(n) if batch.get(k - len(sizes)) == n else int(n) for k, n in enumerate(sizes)
        )


# --- the steps ------------------------------------------------------------------------------------


@dataclass
class Tape:
    """The steps of a model in the order of computation, and what they may cost."""

    source: Source
    steps: list[Step] = field(default_factory=list)
    batch: int = 1  # of fixed size, whose points are read one by one
    dtypes: set[np.dtype[Any]] = field(default_factory=set)  # in which the model computes

    def _append(
        self,
        kind: str,
        sources: Sequence[Value],
        shape: Shape,
        at: str,
        data: Any = None,
        dtype: Any = None,
    ) -> Value:
        if len(shape) > MOST_AXES:
            raise ModelFormatError(f"{at} gives {len(shape)} axes; expected at most {MOST_AXES}.")
        if min(shape, default=1) < 1:
            raise ModelFormatError(f"{at} gives shape {shape}, which has no entries.")
        step = Step(kind, tuple(v.step for v in sources), prod(shape), at, data, dtype)
        self.steps.append(step)
        if dtype is not None:
            self.dtypes.add(np.dtype(dtype))
        return Value(step, shape, sources[0].kind)

    def input(self, name: str, shape: Shape, kind: int) -> Value:
        """Begin with a graph input."""
        step = Step("input", (), prod(shape), f"the input {name!r:.60}", name)
        self.dtypes.add(dtype_of(kind))
        self.steps.append(step)
        return Value(step, shape, kind)

    def dense(self, x: Value, W: Constant, at: str, *, rows: bool = False) -> Value:
        """Multiply the last axis by a matrix: ``x @ W``, or by its rows, ``x @ W.T``."""
        shape = (*x.shape[:-1], W.shape[0 if rows else 1])
        return self._append("dense", [x], shape, at, (W, rows), dtype=W.dtype)

    def scale(self, x: Value, scale: Any, shift: Any, at: str, dtype: Any = None) -> Value:
        """Apply ``scale * x + shift``; both in float64, and spread over the shape of x."""
        data = (np.asarray(scale, np.float64), np.asarray(shift, np.float64), x.shape)
        return self._append("scale", [x], x.shape, at, data, dtype=dtype)

    def function(
        self, x: Value, name: str, at: str, axis: int | None = None, **parameters: float
    ) -> Value:
        """Apply an activation, entry by entry or along an axis."""
        return self._append("function", [x], x.shape, at, (name, parameters, axis, x.shape))

    def join(
        self, kind: str, values: Sequence[Value], shape: Shape, at: str, data: Any = None
    ) -> Value:
        """Join values: ``add`` and ``multiply`` of one shape, ``concatenate``, ``product``."""
        return self._append(kind, values, shape, at, data)

    def select(self, x: Value, index: Numbers, shape: Shape, at: str) -> Value:
        """Gather entries by number; -1 is a zero."""
        flat = index.reshape(-1)
        if flat.size == x.step.size and (flat == np.arange(flat.size)).all():
            return x.reshaped(shape)
        return self._append("select", [x], shape, at, flat)

    def layer(
        self,
        x: Value,
        make: Callable[[], Any],
        takes: Shape,
        shape: Shape,
        at: str,
        dtype: Any = None,
    ) -> Value:
        """Apply a layer of the library to a value that is seen in the shape ``takes``."""
        return self._append("layer", [x], shape, at, (make, takes, shape), dtype=dtype)

    def rows(self, x: Value, make: Callable[[], Any], rows: Shape, at: str) -> Value:
        """Apply a layer that acts on rows alike, whatever axes they have."""
        return self._append("rows", [x], x.shape, at, (make, rows), dtype=x.dtype)

    # --- what is composed of these ----------------------------------------------------------------

    def numbers(self, shape: Shape, at: str) -> Numbers:
        """Return the numbers of the entries of a value, in its shape."""
        self.source.budget.spend(16 * prod(shape))
        return np.arange(prod(shape)).reshape(shape)

    def spread(self, x: Value, shape: Shape, at: str) -> Value:
        """Copy entries along axes as broadcasting does."""
        if tuple(x.shape) == tuple(shape) or prod(x.shape) == prod(shape):
            return x.reshaped(shape)
        self.source.budget.spend(16 * prod(shape))
        return self.select(x, np.broadcast_to(self.numbers(x.shape, at), shape), shape, at)

    def total(
        self, x: Value, axes: Sequence[int], keep: bool, at: str, weight: float = 1.0
    ) -> Value:
        """Sum over axes, times a weight: the product with a row of equal numbers."""
        others = [k for k in range(len(x.shape)) if k not in axes]
        shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keep or k not in axes)
        count = prod(x.shape[k] for k in axes)
        order = [*others, *sorted(axes)]
        if order != sorted(order):
            index = self.numbers(x.shape, at).transpose(order)
            x = self.select(x, index, tuple(x.shape[k] for k in order), at)
        x = x.reshaped((*(x.shape[: len(others)]), count))
        self.source.budget.spend(8 * count)
        row = Constant(np.full((1, count), weight, x.dtype))
        return self.dense(x, row, at, rows=True).reshaped(shape)

    def largest(self, x: Value, axes: Sequence[int], keep: bool, at: str) -> Value:
        """Return the largest entry along axes, the first of several."""
        from jacobians.layers import MaxPool

        others = [k for k in range(len(x.shape)) if k not in axes]
        shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keep or k not in axes)
        index = self.numbers(x.shape, at).transpose([*others, *sorted(axes)])
        rows, count = prod(x.shape[k] for k in others), prod(x.shape[k] for k in axes)
        x = self.select(x, index, (1, rows, count), at)
        return self.layer(x, lambda: MaxPool((1, count)), (1, rows, count), shape, at)


def as_boolean(value: Value) -> Value:
    """Return a value of zeros and ones as truth values."""
    return Value(value.step, value.shape, BOOL)
