"""What ONNX operators work on while a model is read: constants, values, and nodes.

A model is read at a batch of one point.  A *constant* has numbers; a *value* has a shape and the
step of the assembly that computes it.  Shapes are tuples in which the axis of the batch is a
``Batch``, so that whatever permutes, drops or keeps axes takes it along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, prod
from typing import Any, NoReturn, TypeAlias

import numpy as np

from jacobians._checks import ModelFormatError
from jacobians.importers._assembly import Value as Made
from jacobians.importers._steps import Steps
from jacobians.importers.onnx_tensors import FLOATING, MOST_AXES, Constant, dtype_of, kind_name


class Batch(int):
    """The size of an axis along which the points of a batch stand, at a batch of one."""


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value(Made):
    """What is computed by a step, in a shape, as numbers of an element type."""

    kind: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which it is computed here."""
        return dtype_of(self.kind)


@lru_cache(maxsize=256)
def _common_shape(shapes: tuple[Shape, ...]) -> Shape:
    return np.broadcast_shapes(*shapes)


Operand: TypeAlias = Value | Constant | None


@dataclass
class Node(Steps):
    """An operator at work: its operands, None where left out, and its attributes.

    A rule gives what the node gives, of the element type of the first computed operand unless the
    rule sets ``kind``.
    """

    nowhere = -inf  # which is refused: nothing says that softmax comes after it

    op: str
    domain: str
    operands: Sequence[Operand]
    attributes: dict[str, Any]
    opset: int
    outputs: int
    batch: int = 1  # of fixed size, whose points are read one by one
    kind: int = 0
    looked_at: int = 0  # how many operands, and which attributes: none may be left in the end
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.kind = next((o.kind for o in self.operands if isinstance(o, Value)), 0)

    def refuse(self, message: str) -> NoReturn:
        """Refuse this node, by name and place."""
        raise ModelFormatError(f"{self.at} {message}")

    def no_rule(self, what: str, way_out: str = "") -> NoReturn:
        """Refuse what has no rule."""
        self.refuse(f"has no rule for {what}. {way_out}".rstrip())

    def call(self, rule: Callable[..., Any], *given: Any) -> Any:
        """Apply a rule, whose keywords are attributes with the defaults of the standard."""
        defaults = getattr(rule, "__kwdefaults__", None) or {}
        named = {name: self.attribute(name, default) for name, default in defaults.items()}
        return rule(self, *given, **named)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, which must be of the kind of its default."""
        self.seen.add(name)
        if isinstance(default, float):
            default = float(np.float32(default))  # as the standard gives its defaults
        value = self.attributes.get(name, default)
        if default is not None and type(value) is not type(default):
            self.refuse(f"has an attribute {name!r:.60} of another type.")
        return value

    def integers(self, k: int, name: str) -> tuple[int, ...] | None:
        """Return integers that older versions keep as an attribute, newer ones as operand ``k``."""
        if name in self.attributes:
            given = self.attribute(name)
            return given if isinstance(given, tuple) else self.refuse(f"has no list {name}.")
        constant = self.constant(k)
        if constant is None:
            return None
        if len(constant.shape) != 1 or constant.dtype.kind != "i":
            self.refuse(f"needs a list of whole numbers as input {k + 1}.")
        if constant.shape[0] > MOST_AXES:
            self.refuse(f"has {constant.shape[0]} numbers as input {k + 1}.")
        return tuple(int(value) for value in constant.array)

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

    @property
    def of(self) -> Value:
        """The first operand, which must be computed and floating point."""
        value = self.value()
        self.number(value)
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

    def number(self, operand: Value | Constant) -> Any:
        """Return a floating point operand as steps take it: a constant is an array in float64."""
        if isinstance(operand, Value):
            if operand.kind not in FLOATING:
                self.refuse(f"takes {kind_name(operand.kind)}; expected floating point.")
            return operand
        if operand.dtype.kind != "f":
            self.refuse(f"has a constant of {operand.dtype}; expected floating point.")
        self.assembly.spend(16 * prod(operand.shape))
        self.assembly.computed_in(operand.dtype)
        return operand.array.astype(np.float64)

    def require_one_type(self) -> None:
        """Refuse floating point of two types: the standard demands one of most operators."""
        floats = {o.dtype for o in self.operands if o is not None and o.dtype.kind == "f"}
        if len(floats) > 1:
            names = " and ".join(sorted(map(str, floats)))
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

    def batch_axes(self, *shapes: Shape) -> dict[int, int]:
        """Return the size of the batch by its axis, counted from the end, which must be one."""
        batch = {
            k - len(shape): int(n)
            for shape in shapes
            for k, n in enumerate(shape)
            if isinstance(n, Batch)
        }
        if len(batch) > 1:
            self.refuse("combines points of a batch with each other.")
        return batch

    def broadcast(self, *shapes: Shape) -> Shape:
        """Return the common shape of several, which keeps the axis of the batch."""
        try:
            sizes = _common_shape(shapes)
        except ValueError:
            self.refuse(f"cannot combine shapes {' and '.join(map(str, shapes))}.")
        batch = self.batch_axes(*shapes)
        return tuple(  # an axis that is spread over more is that of the batch no longer
            Batch(n) if batch.get(k - len(sizes)) == n else int(n) for k, n in enumerate(sizes)
        )
