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
from jacobians.importers.onnx_tensors import Constant
from jacobians.importers.onnx_values import Node, Value
from jacobians.layers import LayerNorm, RMSNorm


def _gemm(
    node: Node, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Made:
    node.seen.add("broadcast")  # before opset 7; what does not spread is refused anyway
    a, b, c = (*_factors(node), node.operand(2))
    if len(a.shape) != 2 or len(b.shape) != 2:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}; expected two matrices.")
    a, b = _turned(node, a) if transA else a, _turned(node, b) if transB else b
    y = node.affine(_product(node, a, b), alpha)
    if c is None or beta == 0:
        return y
    if len(c.shape) > 2 or node.broadcast(c.shape, y.shape) != tuple(y.shape):
        node.refuse(f"adds shape {c.shape} to {y.shape}.")
    return node.add(y, node.number(c), beta)


def _factors(node: Node) -> tuple[Any, Any]:
    """Return what is multiplied: values, and constants as they are, not in float64."""
    a, b = node.operand(0), node.operand(1)
    if a is None or b is None or 0 in (*a.shape, *b.shape) or not (a.shape and b.shape):
        node.refuse("needs two operands, and none which has no entries or no axes.")
    for operand in (a, b):
        if isinstance(operand, Value):
            node.number(operand)
    return a, b


def _turned(node: Node, operand: Any) -> Any:
    constant = isinstance(operand, Constant)
    return Constant(operand.as_it_lies.T) if constant else node.transposed(operand, (1, 0))


def _product(node: Node, a: Any, b: Any) -> Made:
    """Multiply matrices along the last two axes; leading axes are broadcast."""
    rows = max(len(b.shape) - 2, 0)
    if a.shape[-1] != b.shape[rows]:
        node.refuse(f"multiplies shapes {a.shape} and {b.shape}, which do not fit.")
    node.goes_along([-1], a.shape)
    node.goes_along([rows], b.shape)
    node.batch_axes(a.shape, b.shape)
    y = node.matmul(*(_matrix(node, o) if isinstance(o, Constant) else o for o in (a, b)))
    ranks = len(a.shape), len(b.shape)
    longer = max(ranks) - (1 in ranks) - len(y.shape)
    return y.reshaped((*(1,) * longer, *y.shape))


def _matrix(node: Node, constant: Constant) -> Any:
    if prod(constant.shape[:-2]) > 1 or constant.dtype.kind != "f":
        node.refuse(f"multiplies by {constant.dtype} of shape {constant.shape}, not one matrix.")
    node.assembly.spend(2 * constant.dtype.itemsize * prod(constant.shape))
    return constant.as_it_lies.reshape(constant.shape[-2:])


def _batch_normalization(
    node: Node, *, epsilon: float = 1e-5, training_mode: int = 0, spatial: int = 1, is_test: int = 0
) -> Made:
    if training_mode or not spatial or (node.opset < 7 and not is_test):
        node.refuse("is in training mode, or not spatial; export the model for inference.")
    node.seen.add("momentum")
    x, given = node.of, [node.needed(k) for k in (1, 2, 3, 4)]
    if len(x.shape) < 2 or any(one.shape != tuple(x.shape[1:2]) for one in given):
        node.refuse(f"normalizes shape {x.shape} by {', '.join(str(one.shape) for one in given)}.")
    weight, bias, mean, variance = map(node.number, given)
    return node.batch_norm(x, 1, epsilon, [mean, variance, weight, bias])


def _layer_normalization(node: Node, *, axis: int = -1, epsilon: float = 1e-5) -> Made:
    x = node.of
    along = range(node.axis(axis, x.shape), len(x.shape))
    node.goes_along(along, x.shape)
    n = prod(x.shape[k] for k in along)
    node.assembly.spend(16 * n)
    scale, shift = (None if node.operand(k) is None else node.needed(k) for k in (1, 2))
    for given in filter(None, (scale, shift)):
        if prod(given.shape) != n:
            node.refuse(f"normalizes shape {x.shape} by {given.shape}.")
    ones: Any = np.ones(n, x.dtype) if scale is None else scale.array.reshape(-1)
    if node.op == "RMSNormalization":
        return node.norm(x, RMSNorm(ones, epsilon))
    return node.norm(x, LayerNorm(ones, None if shift is None else shift.array.ravel(), epsilon))


def _group_normalization(node: Node, *, num_groups: int = 0, epsilon: float = 1e-5) -> Made:
    """Each group of channels by itself; then, from opset 21 on, each channel has its own scale."""
    x, (scale, shift) = node.of, (node.needed(k, 1) for k in (1, 2))
    groups = x.shape[1] if node.op == "InstanceNormalization" else num_groups
    if len(x.shape) < 3 or groups < 1 or x.shape[1] % groups or x.shape[0] != 1:
        node.refuse(f"normalizes shape {x.shape} in {groups} groups.")
    each = 1 if scale.shape[0] == x.shape[1] else x.shape[1] // groups
    if {scale.shape[0] * each, shift.shape[0] * each} != {x.shape[1]}:
        node.refuse(f"normalizes shape {x.shape} by {scale.shape} and {shift.shape}.")
    node.assembly.spend(16 * x.size // groups)
    per_channel = (np.repeat(node.number(given), each) for given in (scale, shift))
    return node.group_norm(x, groups, epsilon, *per_channel)


def _reduced(compute: Callable[..., Made], before: str = "", after: str = "") -> Rule:
    def rule(node: Node) -> Made:
        axes, keep = node.call(axes_of, node.of.shape)
        node.goes_along(axes, node.of.shape)
        x = node.activate(before or "identity", node.of)
        return node.activate(after or "identity", compute(node, x, axes, keep))

    return rule


def _global_pool(compute: Callable[..., Made]) -> Rule:
    def rule(node: Node) -> Made:
        axes = range(2, len(node.of.shape))
        node.goes_along(axes, node.of.shape)
        return compute(node, node.of, axes, True)

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
    "MatMul": lambda node: _product(node, *_factors(node)),
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_normalization),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), _group_normalization),
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
