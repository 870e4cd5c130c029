"""ONNX arithmetic as steps: sums, products and comparisons of values and constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from jacobians.importers.onnx_tensors import BOOL, FLOATING, kind_name
from jacobians.importers.onnx_values import Constant, Node, Shape, Value

Rule = Callable[[Node], Any]


def numbers_of(node: Node, constant: Constant, x: Value) -> Any:
    """Return a constant beside a value, in float64; one number where all are equal."""
    if constant.dtype.kind != "f":
        node.refuse(f"has a constant of {constant.dtype}; expected floating point.")
    node.same_kind(x, constant)
    node.tape.source.budget.spend(16 * prod(constant.shape))
    array = constant.array.astype(np.float64)
    return array.reshape(()) if array.size == 1 else array


def affine(node: Node, x: Value, constant: Constant, scale: bool, c: Any) -> Value:
    """Multiply by a constant or add it, in the common shape of both."""
    x = node.tape.spread(x, node.broadcast(x.shape, constant.shape), node.at)
    data = (c, 0.0) if scale else (1.0, c)
    return node.tape.scale(x, data[0], data[1], node.at, constant.dtype)


def add(node: Node, a: Any, b: Any, sign: float = 1.0) -> Value:
    """Add two operands, of which at least one is computed; or subtract the second."""
    if isinstance(b, Constant):
        return affine(node, a, b, False, sign * numbers_of(node, b, a))
    if sign < 0:
        b = node.tape.scale(b, -1.0, 0.0, node.at)
    if isinstance(a, Constant):
        return affine(node, b, a, False, numbers_of(node, a, b))
    return joined(node, "add", [a, b])


def multiply(node: Node, a: Any, b: Any) -> Value:
    """Multiply two operands, of which at least one is computed."""
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(b, Constant):
        return affine(node, a, b, True, numbers_of(node, b, a))
    return joined(node, "multiply", [a, b])


def joined(node: Node, kind: str, values: Sequence[Value]) -> Value:
    """Join values entry by entry, each spread to their common shape."""
    node.same_kind(*values)
    shape = node.broadcast(*(v.shape for v in values))
    spread = [node.tape.spread(v, shape, node.at) for v in values]
    return node.tape.join(kind, spread, shape, node.at)


def divide(node: Node, a: Any, b: Any) -> Value:
    """Divide; by what is computed it is a product with the reciprocal."""
    if isinstance(b, Constant):
        c = numbers_of(node, b, a)
        if not np.all(c):
            node.refuse("divides by 0.")
        with np.errstate(all="ignore"):  # an overflow is refused as not finite
            return affine(node, a, b, True, 1 / c)
    return multiply(node, a, node.tape.function(b, "reciprocal", node.at))


def both(node: Node) -> tuple[Any, Any]:
    """Return the two operands of an arithmetic operator, numbers all of them."""
    a, b = node.operand(0), node.operand(1)
    if a is None or b is None:
        node.refuse("needs two operands.")
    for operand in (a, b):
        if isinstance(operand, Value) and operand.kind not in FLOATING:
            node.refuse(f"takes {kind_name(operand.kind)}; expected floating point.")
    if node.opset < 7 and node.attribute("broadcast", 0):
        axis = node.attribute("axis", None)
        if axis is not None:
            shape = (
                *b.shape,
                *(1,) * max(len(a.shape) - axis % max(len(a.shape), 1) - len(b.shape), 0),
            )
            b = b.reshaped(shape) if isinstance(b, Value) else Constant(b.array.reshape(shape))
    return a, b


def _several(kind: str) -> Rule:
    def rule(node: Node) -> Value:
        total: Any = node.operand(0)
        for k in range(1, len(node.operands)):
            more = node.operand(k)
            extremes = kind in ("max", "min")
            total = extreme(node, total, more, kind) if extremes else add(node, total, more)
        if kind == "mean":
            total = node.tape.scale(total, 1 / len(node.operands), 0.0, node.at)
        return total  # type: ignore[no-any-return]

    return rule


def extreme(node: Node, a: Any, b: Any, kind: str) -> Value:
    """Return the larger or the smaller of two operands, entry by entry."""
    tape, sign = node.tape, 1.0 if kind == "max" else -1.0
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(b, Constant):  # max(x, c) = c + relu(x - c)
        c = numbers_of(node, b, a)
        if kind == "max" and not np.any(c):
            return tape.function(a, "relu", node.at)
        above = node.tape.scale(affine(node, a, b, False, -c), sign, 0.0, node.at)
        return affine(
            node, tape.scale(tape.function(above, "relu", node.at), sign, 0.0, node.at), b, False, c
        )
    node.same_kind(a, b)
    shape = node.broadcast(a.shape, b.shape)
    pair = [tape.scale(tape.spread(v, shape, node.at), sign, 0.0, node.at) for v in (a, b)]
    stacked = tape.join("concatenate", pair, (2, *shape), node.at)
    return tape.scale(tape.largest(stacked, [0], False, node.at), sign, 0.0, node.at).reshaped(
        shape
    )


def _power(node: Node) -> Value:
    x, exponent = node.floats(0), node.constant(1)
    if exponent is None or prod(exponent.shape) != 1:
        node.refuse("has no single number as exponent.")
    p = float(exponent.array.reshape(()))
    names = {1.0: "identity", 2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
    if p in names:
        return node.tape.function(x, names[p], node.at)
    return node.tape.function(x, "power", node.at, exponent=p)


# --- truth values, as zeros and ones --------------------------------------------------------------


def _compare(sign: float, strict: bool) -> Rule:
    """``a > b`` is the step of ``a - b``, and ``a >= b`` is not ``b > a``."""

    def rule(node: Node) -> Value:
        a, b = both(node)
        flip = sign if strict else -sign
        difference = node.tape.scale(add(node, a, b, -1.0), flip, 0.0, node.at)
        steps = node.tape.function(difference, "sign", node.at)
        above = node.tape.function(steps, "relu", node.at)
        return as_truth(above if strict else opposite(node, above))

    return rule


def as_truth(value: Value) -> Value:
    """Take zeros and ones as truth values."""
    return Value(value.step, value.shape, BOOL)


def opposite(node: Node, truth: Value) -> Value:
    """Return ``1 - truth``."""
    return node.tape.scale(truth, -1.0, 1.0, node.at)


def _truth(node: Node, k: int = 0) -> Value:
    value = node.value(k)
    if value.kind != BOOL:
        node.refuse(f"takes {kind_name(value.kind)}; expected truth values.")
    return value


def _and(node: Node) -> Value:
    return as_truth(joined(node, "multiply", [_truth(node, 0), _truth(node, 1)]))


def _or(node: Node) -> Value:
    neither = [opposite(node, _truth(node, k)) for k in (0, 1)]
    return as_truth(opposite(node, joined(node, "multiply", neither)))


def _where(node: Node) -> Any:
    """``c a + (1 - c) b``: where c is constant, a scale by zeros and ones."""
    condition, a, b = (node.operand(k) for k in range(3))
    if condition is None or a is None or b is None:
        node.refuse("needs three operands.")
    operands = [part for part in (a, b) if isinstance(part, Value)]
    kind = operands[0].kind if operands else None
    if kind is not None and kind not in FLOATING:
        node.refuse(f"takes {kind_name(kind)}; expected floating point.")
    if isinstance(condition, Constant):
        if condition.dtype != bool:
            node.refuse(f"has a condition of {condition.dtype}; expected truth values.")
        node.tape.source.budget.spend(16 * prod(condition.shape))
        ones = condition.array.astype(np.float64)
        return _chosen(node, condition.shape, ones, a, b)
    truth = _truth(node)
    dtype = next((v.dtype for v in operands), None) or (
        a.dtype if isinstance(a, Constant) else None
    )
    kind = kind or {"float32": 1, "float64": 11}.get(str(dtype), 0)
    chosen = Value(truth.step, truth.shape, kind)
    return add(node, multiply(node, chosen, a), multiply(node, opposite(node, chosen), b))


def _chosen(node: Node, shape: Shape, ones: Any, a: Any, b: Any) -> Value:
    shape = node.broadcast(shape, a.shape, b.shape)
    total: Any = None
    x: Any
    for part, mask in ((a, ones), (b, 1 - ones)):
        if isinstance(part, Value):
            x = node.tape.spread(part, shape, node.at)
            x = node.tape.scale(x, mask, 0.0, node.at)
        else:
            array = part.array
            with np.errstate(invalid="ignore"):
                numbers = np.where(
                    np.broadcast_to(mask, np.broadcast_shapes(mask.shape, array.shape)) != 0,
                    array,
                    0,
                )
            x = Constant(numbers.astype(array.dtype))
        total = x if total is None else add(node, total, x)
    return total  # type: ignore[no-any-return]


RULES: dict[str, Rule] = {
    "Add": lambda node: add(node, *both(node)),
    "Sub": lambda node: add(node, *both(node), -1.0),
    "Mul": lambda node: multiply(node, *both(node)),
    "Div": lambda node: divide(node, *both(node)),
    "Neg": lambda node: node.tape.scale(node.floats(), -1.0, 0.0, node.at),
    "Sum": _several("add"),
    "Mean": _several("mean"),
    "Max": _several("max"),
    "Min": _several("min"),
    "Pow": _power,
    "Greater": _compare(1.0, True),
    "Less": _compare(-1.0, True),
    "GreaterOrEqual": _compare(1.0, False),
    "LessOrEqual": _compare(-1.0, False),
    "Not": lambda node: as_truth(opposite(node, _truth(node))),
    "And": _and,
    "Or": _or,
    "Where": _where,
}
