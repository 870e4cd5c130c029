"""ONNX operators as steps: what each does to the values of one point.

Most operators are one line: an activation, a scale, a join.  Those with windows, with steps in time
and of ``ai.onnx.ml`` have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from jacobians.importers.onnx_arrays import MOVES, SHAPES, axes_of, concatenated, padding_value
from jacobians.importers.onnx_model import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOATING,
    dtype_of,
    kind_name,
)
from jacobians.importers.onnx_values import Batch, Constant, Node, Shape, Value

Rule = Callable[[Node], Any]


# --- entry by entry -------------------------------------------------------------------------------


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
    return node.tape.scale(x, *data, node.at, constant.dtype)


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


# --- matrix products ------------------------------------------------------------------------------


def _gemm(node: Node) -> Value:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turned = node.attribute("transA", 0), node.attribute("transB", 0)
    node.attribute("broadcast", 0)  # before opset 7; what does not spread is refused anyway
    a, b, c = both(node) + (node.operand(2),)
    if len(a.shape) != 2 or len(b.shape) != 2:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}; expected two matrices.")
    if isinstance(a, Value) and turned[0] and not (isinstance(b, Constant) and a.shape[0] == 1):
        a = _transposed(node, a)
        turned = 0, turned[1]
    y = _product(node, a, b, bool(turned[0]), bool(turned[1]))
    if alpha != 1:
        y = node.tape.scale(y, alpha, 0.0, node.at)
    if c is None or beta == 0:
        return y
    if len(c.shape) > 2 or np.broadcast_shapes((1, 1), c.shape, y.shape) != tuple(y.shape):
        node.refuse(f"adds shape {c.shape} to {y.shape}.")
    if isinstance(c, Constant):
        return affine(node, y, c, False, beta * numbers_of(node, c, y))
    return add(node, y, node.tape.scale(c, beta, 0.0, node.at) if beta != 1 else c)


def _matmul(node: Node) -> Value:
    a, b = both(node)
    shapes = a.shape, b.shape
    if not all(shapes):
        node.refuse(f"multiplies shapes {shapes[0]} and {shapes[1]}.")
    y = _product(node, _at_least_2d(a, 0), _at_least_2d(b, -1), False, False)
    gone = {len(y.shape) - 2: len(shapes[0]) == 1, len(y.shape) - 1: len(shapes[1]) == 1}
    return y.reshaped(tuple(n for k, n in enumerate(y.shape) if not gone.get(k)))


def _at_least_2d(operand: Any, axis: int) -> Any:
    if len(operand.shape) > 1:
        return operand
    shape = (1, *operand.shape) if axis == 0 else (*operand.shape, 1)
    if isinstance(operand, Value):
        return operand.reshaped(shape)
    return Constant(operand.array.reshape(shape))


def _product(node: Node, a: Any, b: Any, turn_a: bool, turn_b: bool) -> Value:
    """Multiply matrices along the last two axes; leading axes are broadcast."""
    node.same_kind(a, b)
    for operand in (a, b):
        if isinstance(operand, Constant) and operand.dtype.kind != "f":
            node.refuse(f"multiplies by {operand.dtype} of shape {operand.shape}.")
    inner = a.shape[-2 if turn_a else -1], b.shape[-1 if turn_b else -2]
    if inner[0] != inner[1]:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}, which do not fit.")
    if isinstance(a, Value) and isinstance(b, Constant) and prod(b.shape[:-2]) == 1:
        node.goes_along([len(a.shape) - 1], a.shape)
        if len(b.shape) > 2:
            shape = (*(1,) * (len(b.shape) - len(a.shape)), *a.shape)
            a, b = a.reshaped(shape), Constant(b.array.reshape(b.shape[-2:]))
        return node.tape.dense(a, b, node.at, rows=turn_b)
    if isinstance(a, Constant) and isinstance(b, Value) and len(a.shape) == 2:
        # W @ x is the product of the rows of x.T, turned back
        node.goes_along([len(b.shape) - (1 if turn_b else 2)], b.shape)
        x = b if turn_b else _transposed(node, b)
        return _transposed(node, node.tape.dense(x, a, node.at, rows=not turn_a))
    if isinstance(a, Constant) or isinstance(b, Constant):
        node.refuse(f"multiplies by a stack of matrices, {a.shape} and {b.shape}.")
    return _matrix_product(node, a, b, turn_b)


def _transposed(node: Node, x: Value) -> Value:
    shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
    if 1 in shape[-2:]:
        return x.reshaped(shape)
    index = np.swapaxes(node.tape.numbers(x.shape, node.at), -1, -2)
    return node.tape.select(x, index, shape, node.at)


def _matrix_product(node: Node, a: Value, b: Value, turn_b: bool) -> Value:
    node.goes_along([len(a.shape) - 1], a.shape)
    node.goes_along([len(b.shape) - (1 if turn_b else 2)], b.shape)
    lead = node.broadcast(a.shape[:-2], b.shape[:-2])
    a = node.tape.spread(a, (*lead, *a.shape[-2:]), node.at)
    b = node.tape.spread(b, (*lead, *b.shape[-2:]), node.at)
    columns = b.shape[-2 if turn_b else -1]
    batch = {k for v in (a, b) for k, n in enumerate(v.shape) if isinstance(n, Batch)}
    if len(batch) > 1:
        node.refuse("combines points of a batch with each other.")
    shape = (*lead, a.shape[-2], columns)
    return node.tape.join("product", [a, b], shape, node.at, (a.shape, b.shape, turn_b))


# --- normalisation and sums -----------------------------------------------------------------------


def _batch_normalization(node: Node) -> Value:
    training = node.attribute("training_mode", 0)
    if (
        training
        or not node.attribute("spatial", 1)
        or (node.opset < 7 and not node.attribute("is_test", 0))
    ):
        node.refuse("is in training mode, or not spatial; export the model for inference.")
    node.attribute("momentum", 0.9)
    epsilon, x = node.attribute("epsilon", 1e-5), node.floats()
    parts = [node.needed(k) for k in (1, 2, 3, 4)]
    if len(x.shape) < 2 or any(part.shape != tuple(x.shape[1:2]) for part in parts):
        node.refuse(f"normalizes shape {x.shape} by {', '.join(str(p.shape) for p in parts)}.")
    spread = (-1, *(1,) * (len(x.shape) - 2))
    gamma, beta, mean, variance = (part.array.astype(np.float64).reshape(spread) for part in parts)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        shift = beta - mean * scale
    return node.tape.scale(x, scale, shift, node.at, np.result_type(*(p.dtype for p in parts)))


def normalized(
    node: Node, x: Value, shape: Shape, scale: Any, shift: Any, epsilon: float, root: bool = False
) -> Value:
    """Normalize the last axis of a value that is seen in some shape."""
    from jacobians.layers import LayerNorm, RMSNorm

    n, dtype = shape[-1], x.dtype
    node.tape.source.budget.spend(16 * n)
    scale = np.ones(n, dtype) if scale is None else scale
    make = (
        partial(RMSNorm, scale, epsilon=epsilon)
        if root
        else partial(LayerNorm, scale, shift, epsilon=epsilon)
    )
    return node.tape.rows(x, make, shape, node.at)


def _layer_normalization(node: Node) -> Value:
    x = node.floats()
    axis, epsilon = node.axis(node.attribute("axis", -1), x.shape), node.attribute("epsilon", 1e-5)
    node.attribute("stash_type", 1)
    node.goes_along(range(axis, len(x.shape)), x.shape)
    n = prod(x.shape[axis:])
    parts = [None if node.operand(k) is None else node.needed(k) for k in (1, 2)]
    flat = []
    for part in parts:
        if part is not None and prod(part.shape) != n:
            node.refuse(f"normalizes shape {x.shape} by {part.shape}.")
        if part is not None:
            node.same_kind(x, part)
        flat.append(None if part is None else part.array.reshape(-1))
    return normalized(
        node, x, (prod(x.shape[:axis]), n), flat[0], flat[1], epsilon, node.op == "RMSNormalization"
    )


def _group_normalization(node: Node) -> Value:
    """Each group of channels by itself; then, from opset 21 on, each channel has its own scale."""
    x = node.floats()
    instance = node.op == "InstanceNormalization"
    groups = x.shape[1] if instance else node.attribute("num_groups", 0)
    epsilon = node.attribute("epsilon", 1e-5)
    node.attribute("stash_type", 1)
    scale, shift = node.needed(1, 1), node.needed(2, 1)
    if len(x.shape) < 3 or groups < 1 or x.shape[1] % groups or x.shape[0] != 1:
        node.refuse(f"normalizes shape {x.shape} in {groups} groups.")
    each = 1 if len(scale.array) == x.shape[1] else x.shape[1] // groups
    y = normalized(node, x, (groups, prod(x.shape[1:]) // groups), None, None, epsilon)
    spread = (-1, *(1,) * (len(x.shape) - 2))
    parts = [
        np.repeat(part.array.astype(np.float64), each).reshape(spread) for part in (scale, shift)
    ]
    if any(len(part) != x.shape[1] for part in parts):
        node.refuse(f"normalizes shape {x.shape} by {scale.shape} and {shift.shape}.")
    return node.tape.scale(y, *parts, node.at, scale.dtype)


def _reduced(
    before: str | None, after: str | None, mean: bool = False, extreme: float = 0.0
) -> Rule:
    def rule(node: Node) -> Value:
        x, tape = node.floats(), node.tape
        axes, keep = axes_of(node, x.shape)
        node.goes_along(axes, x.shape)
        if before is not None:
            x = tape.function(x, before, node.at)
        count = prod(x.shape[k] for k in axes)
        if extreme:
            y = tape.largest(tape.scale(x, extreme, 0.0, node.at), axes, keep, node.at)
            return tape.scale(y, extreme, 0.0, node.at)
        y = tape.total(x, axes, keep, node.at, 1 / count if mean else 1.0)
        return y if after is None else tape.function(y, after, node.at)

    return rule


def _global_average(node: Node) -> Value:
    x = node.floats()
    if len(x.shape) < 3:
        node.refuse(f"averages shape {x.shape}; expected axes beyond the channels.")
    axes = range(2, len(x.shape))
    node.goes_along(axes, x.shape)
    if node.op == "GlobalMaxPool":
        return node.tape.largest(x, axes, True, node.at)
    return node.tape.total(x, axes, True, node.at, 1 / prod(x.shape[2:]))


def _lp_normalization(node: Node) -> Value:
    x, axis, p = node.floats(), node.attribute("axis", -1), node.attribute("p", 2)
    axis = axis + len(x.shape) if axis < 0 else axis
    if p not in (1, 2) or not 0 <= axis < len(x.shape):
        node.refuse(f"normalizes shape {x.shape} along axis {axis} with p={p}.")
    return divided_by_norm(node, x, axis, f"L{p}")


def divided_by_norm(node: Node, x: Value, axis: int, norm: str) -> Value:
    """Divide by the norm along an axis; a softmax has the sum 1 already."""
    tape = node.tape
    node.goes_along([axis], x.shape)
    if norm == "L1" and x.step.kind == "function" and x.step.data[0] == "softmax":
        if x.step.data[2] == axis and x.step.data[3] == x.shape:
            return x
    if norm == "MAX":
        size = tape.largest(tape.function(x, "abs", node.at), [axis], True, node.at)
    else:
        entries = tape.function(x, "abs" if norm == "L1" else "square", node.at)
        size = tape.total(entries, [axis], True, node.at)
        size = size if norm == "L1" else tape.function(size, "sqrt", node.at)
    return joined(node, "multiply", [x, tape.function(size, "reciprocal", node.at)])


# --- activations ----------------------------------------------------------------------------------


def _fixed(name: str) -> Rule:
    return lambda node: node.tape.function(node.floats(), name, node.at)


def _family(name: str, parameter: str, default: float) -> Rule:
    def rule(node: Node) -> Value:
        alpha = node.attribute("alpha", default)
        return node.tape.function(node.floats(), name, node.at, **{parameter: alpha})

    return rule


def _softmax(name: str) -> Rule:
    def rule(node: Node) -> Value:
        x = node.floats()
        if node.opset >= 13:
            axis = node.axis(node.attribute("axis", -1), x.shape)
            node.goes_along([axis], x.shape)
            return along(node, x, name, axis)
        axis = node.axis(node.attribute("axis", 1), x.shape, end=True)
        node.goes_along(range(axis, len(x.shape)), x.shape)
        rows = x.reshaped((prod(x.shape[:axis]), prod(x.shape[axis:])))  # one vector from there on
        return along(node, rows, name, 1).reshaped(x.shape)

    return rule


def along(node: Node, x: Value, name: str, axis: int) -> Value:
    """Apply a function of vectors along an axis; the axis is left out where it is everything."""
    return node.tape.function(x, name, node.at, axis=axis)


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if not alpha > 0:
        node.refuse(f"has alpha={alpha:g}; expected a number above 0.")
    low, high = -beta / alpha, (1 - beta) / alpha
    return node.tape.function(node.floats(), "hard_sigmoid", node.at, low=low, high=high)


def _hard_swish(node: Node) -> Value:
    x = node.floats()
    gate = node.tape.function(x, "hard_sigmoid", node.at, low=-3.0, high=3.0)
    return joined(node, "multiply", [x, gate])


def _selu(node: Node) -> Value:
    # The standard gives both constants in float32, so this is what the file says, not "selu".
    early = node.opset < 6
    alpha = node.attribute("alpha", 1.6732 if early else 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.0507 if early else 1.05070102214813232421875)
    y = node.tape.function(node.floats(), "elu", node.at, alpha=float(np.float32(alpha)))
    return node.tape.scale(y, float(np.float32(gamma)), 0.0, node.at)


def _clip(node: Node) -> Value:
    x = node.floats()
    unbounded = float(np.finfo(np.float32).max)  # as older opsets and exporters write it
    ends = []
    for k, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        end = node.attribute(name, default) if node.opset < 11 else default
        constant = node.constant(k)
        if constant is not None:
            if prod(constant.shape) != 1:
                node.refuse(f"has {name} of shape {constant.shape}; expected one number.")
            node.same_kind(x, constant)
            end = float(constant.array.reshape(()))
        ends.append(end)
    low, high = ends
    if low == 0 and high >= unbounded:
        return node.tape.function(x, "relu", node.at)
    most = float(np.finfo(x.dtype).max)
    return node.tape.function(x, "hard_tanh", node.at, low=max(low, -most), high=min(high, most))


def _gelu(node: Node) -> Value:
    forms = {"none": "gelu", "tanh": "gelu_tanh"}
    given = node.attribute("approximate", "none")
    if given not in forms:
        node.refuse(f"has approximate={given!r:.40}; expected none or tanh.")
    return node.tape.function(node.floats(), forms[given], node.at)


def _swish(node: Node) -> Value:
    x, alpha = node.floats(), node.attribute("alpha", 1.0)
    if alpha == 1:
        return node.tape.function(x, "silu", node.at)
    gate = node.tape.function(node.tape.scale(x, alpha, 0.0, node.at), "sigmoid", node.at)
    return joined(node, "multiply", [x, gate])


def _prelu(node: Node) -> Value:
    """``x + (s - 1) min(x, 0)``, with a slope for every entry."""
    x, constant = node.floats(), node.needed(1)
    if node.opset < 7 and len(constant.shape) == 1 and constant.shape[0] > 1 and len(x.shape) > 2:
        constant = Constant(constant.array.reshape(-1, *(1,) * (len(x.shape) - 2)))
    slope = numbers_of(node, constant, x)
    if node.broadcast(x.shape, constant.shape) != tuple(x.shape):
        node.refuse(f"has slopes of shape {constant.shape} for shape {x.shape}.")
    if slope.size == 0:
        node.refuse("has no slopes.")
    if (slope == slope.flat[0]).all():
        return node.tape.function(x, "leaky_relu", node.at, slope=float(slope.flat[0]))
    minus = node.tape.scale(x, -1.0, 0.0, node.at)
    below = node.tape.function(minus, "relu", node.at)
    below = node.tape.scale(below, 1 - slope, 0.0, node.at, constant.dtype)
    return joined(node, "add", [x, below])


def _thresholded(node: Node) -> Value:
    x, alpha = node.floats(), node.attribute("alpha", 1.0)
    above = node.tape.function(node.tape.scale(x, 1.0, -alpha, node.at), "sign", node.at)
    return joined(node, "multiply", [x, node.tape.function(above, "relu", node.at)])


# --- what does nothing in inference, and what only looks ------------------------------------------


def _dropout(node: Node) -> Any:
    training = node.constant(2)
    early = node.opset < 7 and not node.attribute("is_test", 0)
    node.attribute("ratio", 0.5), node.attribute("seed", 0)
    if early or (training is not None and training.array.any()):
        node.refuse("is in training mode; export the model for inference.")
    return node.value()


_NAMES = {"FLOAT": 1, "DOUBLE": 11, "FLOAT16": 10}  # as Cast named its target before opset 6


def _cast(node: Node) -> Value:
    x, given = node.value(), node.attributes.pop("to", 0)
    node.attribute("saturate", 1), node.attribute("round_mode", "up")
    kind = _NAMES.get(given, 0) if isinstance(given, str) else given
    if kind not in FLOATING:
        node.refuse(f"casts to {kind_name(kind)}; expected floating point.")
    if kind in (FLOAT16, BFLOAT16) and x.kind not in (kind, BOOL):
        node.refuse(
            f"rounds to {kind_name(kind)}, which has no derivative; export the model in float32."
        )
    node.tape.dtypes.add(dtype_of(kind))
    return Value(x.step, x.shape, kind)


def _shape(node: Node) -> Constant:
    shape = node.value().shape
    start, end = node.attribute("start", 0), node.attribute("end", len(shape))
    return Constant(np.array([int(n) for n in shape][slice(start, end)], np.int64))


def _size(node: Node) -> Constant:
    return Constant(np.array(prod(node.value().shape), np.int64))


def _zip_map(node: Node) -> Value:
    """A map from class labels to probabilities: the probabilities, in the order of the labels."""
    node.attributes.clear()
    return node.value()


# --- moving and joining entries -------------------------------------------------------------------


def moved(node: Node) -> list[Value]:
    """Apply an operator that only moves entries, by what it does to their numbers."""
    x = node.value()
    numbers = node.tape.numbers(x.shape, node.at)
    twice, again = _twice(node, x.shape), dict(node.attributes)
    found = MOVES[node.op](node, numbers)
    found = found if isinstance(found, list) else [found]
    shapes = [index.shape for index in found]
    if twice is not None:
        shapes = _moved_batch(node, twice, again, found)
    values = [
        node.tape.select(x, index, shape, node.at)
        for index, shape in zip(found, shapes, strict=True)
    ]
    if (
        node.op == "Pad"
        and (value := padding_value(node))
        and node.attributes.pop("mode", "constant") == "constant"
    ):
        around = np.where(found[0] < 0, value, 0.0)
        values[0] = node.tape.scale(values[0], 1.0, around, node.at, x.dtype)
    return values


def _twice(node: Node, shape: Shape) -> Any:
    """Return the numbers of the entries of two points, if there is an axis of the batch."""
    place = next((k for k, n in enumerate(shape) if isinstance(n, Batch)), None)
    if place is None:
        return None
    one = node.tape.numbers(shape, node.at)
    return np.concatenate([one, one + prod(shape)], place)


def _moved_batch(
    node: Node, twice: Any, attributes: dict[str, Any], found: list[Any]
) -> list[Shape]:
    """Find the axis of the batch in what is moved: with two points there, each is moved alike."""
    left, node.attributes = node.attributes, attributes
    shapes: list[Shape] = [index.shape for index in found]
    try:
        pair = MOVES[node.op](node, twice)
    except Exception:  # sizes that hold for a batch of one alone
        return shapes
    finally:
        node.attributes = left
    count = twice.size // 2
    for j, (index, two) in enumerate(
        zip(found, pair if isinstance(pair, list) else [pair], strict=True)
    ):
        for k in range(index.ndim if two.ndim == index.ndim else 0):
            second = np.where(index < 0, -1, index + count)
            if two.shape[k] == 2 * index.shape[k] and np.array_equal(
                two, np.concatenate([index, second], k)
            ):
                shapes[j] = tuple(Batch(n) if i == k else n for i, n in enumerate(index.shape))
                break
    return shapes


def _concat(node: Node) -> Value:
    """Join along an axis; constants are put where the selection leaves zeros."""
    given = [operand for operand in node.operands if operand is not None]
    values = [v for v in given if isinstance(v, Value)]
    node.same_kind(*given)
    begin, numbers = 0, []
    for operand in given:
        if isinstance(operand, Value):
            index = node.tape.numbers(operand.shape, node.at) + begin
            begin += index.size
        else:
            index = np.full(operand.shape, -1)
        numbers.append(index)
    axis = node.axis(node.attributes.get("axis", 1), given[0].shape)
    node.goes_along([axis], values[0].shape)
    found = concatenated(node, *numbers)
    shape = _with_batch_of(values, found.shape)
    flat = values[0]
    if len(values) > 1:
        flat = node.tape.join("concatenate", values, (begin,), node.at)
    y = node.tape.select(flat, found, shape, node.at)
    if len(values) == len(given):
        return y
    parts = [
        np.zeros(operand.shape) if isinstance(operand, Value) else operand.array
        for operand in given
    ]
    return node.tape.scale(y, 1.0, np.concatenate(parts, axis), node.at, values[0].dtype)


def _with_batch_of(values: Sequence[Value], shape: Shape) -> Shape:
    places = {k for v in values for k, n in enumerate(v.shape) if isinstance(n, Batch)}
    return tuple(Batch(n) if k in places else n for k, n in enumerate(shape))


def shaped(node: Node) -> Value:
    """Give a value another shape."""
    x = node.value()
    return x.reshaped(SHAPES[node.op](x.shape, node))


RULES: dict[str, Rule] = {
    **dict.fromkeys(SHAPES, shaped),
    **dict.fromkeys(MOVES, moved),
    "Concat": _concat,
    "Shape": _shape,
    "Size": _size,
    "Dropout": _dropout,
    "Cast": _cast,
    "ZipMap": _zip_map,
    "Gemm": _gemm,
    "MatMul": _matmul,
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
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _layer_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _group_normalization,
    "LpNormalization": _lp_normalization,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_average,
    "ReduceSum": _reduced(None, None),
    "ReduceMean": _reduced(None, None, mean=True),
    "ReduceL1": _reduced("abs", None),
    "ReduceL2": _reduced("square", "sqrt"),
    "ReduceSumSquare": _reduced("square", None),
    "ReduceMax": _reduced(None, None, extreme=1.0),
    "ReduceMin": _reduced(None, None, extreme=-1.0),
    "Relu": _fixed("relu"),
    "LeakyRelu": _family("leaky_relu", "slope", float(np.float32(0.01))),
    "PRelu": _prelu,
    "ThresholdedRelu": _thresholded,
    "Elu": _family("elu", "alpha", 1.0),
    "Celu": _family("celu", "alpha", 1.0),
    "Selu": _selu,
    "Gelu": _gelu,
    "Swish": _swish,
    "Mish": _fixed("mish"),
    "HardSwish": _hard_swish,
    "Sigmoid": _fixed("sigmoid"),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": _fixed("tanh"),
    "Clip": _clip,
    "Softplus": _fixed("softplus"),
    "Softsign": _fixed("softsign"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    **{
        op: _fixed(op.lower())
        for op in ("Exp", "Log", "Sqrt", "Abs", "Reciprocal", "Sin", "Cos", "Erf", "Sign", "Floor")
    },
    "Ceil": lambda node: _mirrored(node, "floor"),
}


def _mirrored(node: Node, name: str) -> Value:
    minus = node.tape.scale(node.floats(), -1.0, 0.0, node.at)
    return node.tape.scale(node.tape.function(minus, name, node.at), -1.0, 0.0, node.at)
