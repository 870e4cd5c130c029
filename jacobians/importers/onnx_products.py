"""ONNX matrix products, normalisations and sums along axes, as steps."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers._steps import Steps
from jacobians.importers.onnx_folding import axes_of
from jacobians.importers.onnx_values import Constant, Node, Value
from jacobians.layers import LayerNorm, RMSNorm


def _gemm(node: Node) -> Made:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turned = node.attribute("transA", 0), node.attribute("transB", 0)
    node.attribute("broadcast", 0)  # before opset 7; what does not spread is refused anyway
    a, b, c = (*_factors(node), node.operand(2))
    if len(a.shape) != 2 or len(b.shape) != 2:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}; expected two matrices.")
    a = _turned(node, a) if turned[0] else a
    b = _turned(node, b) if turned[1] else b
    y = node.affine(_product(node, a, b), alpha)
    if c is None or beta == 0:
        return y
    if len(c.shape) > 2 or np.broadcast_shapes((1, 1), c.shape, y.shape) != tuple(y.shape):
        node.refuse(f"adds shape {c.shape} to {y.shape}.")
    node.same_kind(*(o for o in node.operands if o is not None))
    return node.add(y, node.number(c), beta)


def _matmul(node: Node) -> Made:
    a, b = _factors(node)
    if not a.shape or not b.shape:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}.")
    return _product(node, a, b)


def _factors(node: Node) -> tuple[Any, Any]:
    """Return what is multiplied: values, and constants as they are, not in float64."""
    a, b = node.operand(0), node.operand(1)
    if a is None or b is None:
        node.refuse("needs two operands.")
    node.same_kind(a, b)
    for operand in (a, b):
        if isinstance(operand, Value):
            node.number(operand)
        elif 0 in operand.shape:
            node.refuse(f"multiplies by shape {operand.shape}, which has no entries.")
    return a, b


def _turned(node: Node, operand: Any) -> Any:
    constant = isinstance(operand, Constant)
    return Constant(operand.as_it_lies.T) if constant else node.transposed(operand, (1, 0))


def _product(node: Node, a: Any, b: Any) -> Made:
    """Multiply matrices along the last two axes; leading axes are broadcast."""
    inner = a.shape[-1], b.shape[max(len(b.shape) - 2, 0)]
    if inner[0] != inner[1]:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}, which do not fit.")
    node.goes_along([len(a.shape) - 1], a.shape)
    node.goes_along([max(len(b.shape) - 2, 0)], b.shape)
    node.batch_axes(a.shape, b.shape)
    y = node.matmul(*(_matrix(node, o) if isinstance(o, Constant) else o for o in (a, b)))
    ranks = len(a.shape), len(b.shape)
    longer = max(ranks) - (1 in ranks) - len(y.shape)
    return y.reshaped((*(1,) * longer, *y.shape))


def _matrix(node: Node, constant: Constant) -> Any:
    if prod(constant.shape[:-2]) > 1:
        node.refuse(f"multiplies by a stack of matrices, of shape {constant.shape}.")
    if constant.dtype.kind != "f":
        node.refuse(f"multiplies by {constant.dtype} of shape {constant.shape}.")
    node.assembly.spend(2 * constant.dtype.itemsize * prod(constant.shape))
    return constant.as_it_lies.reshape(constant.shape[-2:])


def _batch_normalization(node: Node) -> Made:
    training, spatial = node.attribute("training_mode", 0), node.attribute("spatial", 1)
    if training or not spatial or (node.opset < 7 and not node.attribute("is_test", 0)):
        node.refuse("is in training mode, or not spatial; export the model for inference.")
    node.attribute("momentum", 0.9)
    epsilon, x = node.attribute("epsilon", 1e-5), node.floats()
    parts = [node.needed(k) for k in (1, 2, 3, 4)]
    if len(x.shape) < 2 or any(part.shape != tuple(x.shape[1:2]) for part in parts):
        node.refuse(f"normalizes shape {x.shape} by {', '.join(str(p.shape) for p in parts)}.")
    weight, bias, mean, variance = (node.number(part) for part in parts)
    return node.batch_norm(x, 1, epsilon, [mean, variance, weight, bias])


def _layer_normalization(node: Node) -> Made:
    x = node.floats()
    axis, epsilon = node.axis(node.attribute("axis", -1), x.shape), node.attribute("epsilon", 1e-5)
    node.goes_along(range(axis, len(x.shape)), x.shape)
    n = prod(x.shape[axis:])
    node.assembly.spend(16 * n)
    parts: list[Any] = [np.ones(n, x.dtype), None]
    for k in (0, 1):
        if node.operand(k + 1) is not None:
            part = node.needed(k + 1)
            node.same_kind(x, part)
            if prod(part.shape) != n:
                node.refuse(f"normalizes shape {x.shape} by {part.shape}.")
            parts[k] = part.array.reshape(-1)
    if node.op == "RMSNormalization":
        return node.norm(x, RMSNorm(parts[0], epsilon))
    return node.norm(x, LayerNorm(parts[0], parts[1], epsilon))


def _group_normalization(node: Node) -> Made:
    """Each group of channels by itself; then, from opset 21 on, each channel has its own scale."""
    x = node.floats()
    instance = node.op == "InstanceNormalization"
    groups = x.shape[1] if instance else node.attribute("num_groups", 0)
    epsilon = node.attribute("epsilon", 1e-5)
    parts = [node.needed(k, 1) for k in (1, 2)]
    if len(x.shape) < 3 or groups < 1 or x.shape[1] % groups or x.shape[0] != 1:
        node.refuse(f"normalizes shape {x.shape} in {groups} groups.")
    each = 1 if parts[0].shape[0] == x.shape[1] else x.shape[1] // groups
    if any(part.shape[0] * each != x.shape[1] for part in parts):
        node.refuse(f"normalizes shape {x.shape} by {parts[0].shape} and {parts[1].shape}.")
    node.assembly.spend(16 * x.size // groups)
    scale, shift = (np.repeat(node.number(part), each) for part in parts)
    return node.group_norm(x, groups, epsilon, scale, shift)


def _reduced(compute: Callable[..., Made], before: str = "", after: str = "") -> Rule:
    def rule(node: Node) -> Made:
        axes, keep = axes_of(node, node.of.shape)
        node.goes_along(axes, node.of.shape)
        x = node.activate(before or "identity", node.of)
        return node.activate(after or "identity", compute(node, x, axes, keep))

    return rule


def _global_pool(compute: Callable[..., Made]) -> Rule:
    def rule(node: Node) -> Made:
        x = node.floats()
        if len(x.shape) < 3:
            node.refuse(f"averages shape {x.shape}; expected axes beyond the channels.")
        axes = range(2, len(x.shape))
        node.goes_along(axes, x.shape)
        return compute(node, x, axes, True)

    return rule


def divided_by_norm(node: Node, x: Made, axis: int, norm: str) -> Made:
    """Divide by the norm along an axis; a softmax has the sum 1 already."""
    node.goes_along([axis], x.shape)
    if norm == "L1" and node.assembly.sums_to_one(x, axis):
        return x
    entries = node.activate("square" if norm == "L2" else "abs", x)
    size = (node.largest if norm == "MAX" else node.sum)(entries, [axis], True)
    return node.divide(x, node.activate("sqrt", size) if norm == "L2" else size)


RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _layer_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _group_normalization,
    "GlobalAveragePool": _global_pool(Steps.mean),
    "GlobalMaxPool": _global_pool(Steps.largest),
    "ReduceSum": _reduced(Steps.sum),
    "ReduceMean": _reduced(Steps.mean),
    "ReduceL1": _reduced(Steps.sum, "abs"),
    "ReduceL2": _reduced(Steps.sum, "square", "sqrt"),
    "ReduceSumSquare": _reduced(Steps.sum, "square"),
    "ReduceMax": _reduced(Steps.largest),
    "ReduceMin": _reduced(Steps.smallest),
}
