"""ONNX matrix products, normalisations and sums along axes, as steps."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

from jacobians.importers.onnx_arithmetic import Rule, add, affine, both, joined, numbers_of
from jacobians.importers.onnx_folding import axes_of
from jacobians.importers.onnx_values import Batch, Constant, Node, Shape, Value

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
    return node.tape.scale(y, parts[0], parts[1], node.at, scale.dtype)


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
    softmax = x.step.kind == "function" and x.step.data[0] == "softmax"
    if norm == "L1" and softmax and x.step.data[2:] == (axis, x.shape):
        return x
    if norm == "MAX":
        size = tape.largest(tape.function(x, "abs", node.at), [axis], True, node.at)
    else:
        entries = tape.function(x, "abs" if norm == "L1" else "square", node.at)
        size = tape.total(entries, [axis], True, node.at)
        size = size if norm == "L1" else tape.function(size, "sqrt", node.at)
    return joined(node, "multiply", [x, tape.function(size, "reciprocal", node.at)])


RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
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
}
