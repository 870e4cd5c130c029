"""Constants from constants: what exporters leave between weights and their use.

In the dtype of the constants, as the model's own runtime would; what the result takes is counted
before it is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, Numbers
from jacobians.importers import onnx_shapes as shapes
from jacobians.importers.onnx_tensors import (
    BFLOAT16,
    FLOAT16,
    MOST_AXES,
    Tensor,
    dtype_of,
    kind_name,
)
from jacobians.importers.onnx_values import Node, Shape


def _divide(a: Numbers, b: Numbers) -> Numbers:
    if a.dtype.kind == "f":
        return a / b
    quotient = np.abs(a) // np.abs(b)  # whole numbers are divided towards 0
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def _several(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda *arrays: ufunc.reduce(np.broadcast_arrays(*arrays))


_SAME_NAMES = "Abs Sqrt Exp Log Reciprocal Floor Ceil Sign Equal Greater Less"
UFUNCS: dict[str, Callable[..., Any]] = {
    **{op: getattr(np, op.lower()) for op in _SAME_NAMES.split()},
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Neg": np.negative,
    "Min": _several(np.minimum),
    "Max": _several(np.maximum),
    "Sum": _several(np.add),
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    **{op: getattr(np, f"logical_{op.lower()}") for op in ("And", "Or", "Not")},
    "Where": np.where,
}


def elementwise(node: Node, *arrays: Numbers) -> Numbers:
    """Compute entry by entry, in the dtype of the constants."""
    if node.opset < 7 and len(arrays) == 2 and node.attribute("broadcast", 0):
        axis = node.attribute("axis", None)
        if axis is not None:
            arrays = arrays[0], shapes.aligned(arrays[1], arrays[0].ndim, axis)
    shapes.spend(node, node.broadcast(*(a.shape for a in arrays)))
    with np.errstate(all="ignore"):  # what is not finite is refused where it is used
        return np.asarray(UFUNCS[node.op](*arrays))


def _constant_of_shape(node: Node, shape: Numbers) -> Numbers:
    tensor = node.attribute("value", None)
    if tensor is not None and (not isinstance(tensor, Tensor) or prod(tensor.shape) != 1):
        node.refuse("has a value that is not one number.")
    value = np.zeros((), np.float32) if tensor is None else tensor.array.reshape(())
    sizes = node.integers(0, "") or ()
    if min(sizes, default=0) < 0 or len(sizes) > MOST_AXES:
        node.refuse(f"asks for shape {sizes}.")
    return np.broadcast_to(value, sizes)  # which takes no memory


def _range(node: Node, start: Numbers, limit: Numbers, delta: Numbers) -> Numbers:
    if any(a.ndim for a in (start, limit, delta)) or not delta:
        node.refuse("needs three numbers, the last not 0.")
    count = max(ceil((float(limit) - float(start)) / float(delta)), 0)
    shapes.spend(node, (count,))
    return np.asarray(start + np.arange(count) * delta).astype(start.dtype)


def _cast(node: Node, x: Numbers) -> Numbers:
    kind = node.attribute("to", 0)
    if kind in (FLOAT16, BFLOAT16):
        node.refuse(f"rounds constants to {kind_name(kind)}, which has no rule.")
    try:
        dtype = dtype_of(kind)
    except KeyError:
        node.refuse(f"casts to {kind_name(kind)}, which has no rule.")
    shapes.spend(node, x.shape)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _reduced(function: Any) -> Callable[[Node, Numbers], Numbers]:
    def fold(node: Node, x: Numbers) -> Numbers:
        axes, keep = axes_of(node, x.shape)
        return np.asarray(function(x, axis=axes, keepdims=keep)).astype(x.dtype)

    return fold


def axes_of(node: Node, shape: Shape) -> tuple[tuple[int, ...], bool]:
    """Return the axes that a reduction goes along, all unless said, and if they are kept."""
    axes = node.integers(1, "axes")
    keep, nothing = bool(node.attribute("keepdims", 1)), node.attribute("noop_with_empty_axes", 0)
    if not axes:
        return (() if nothing else tuple(range(len(shape)))), keep
    return tuple(sorted({node.axis(axis, shape) for axis in axes})), keep


def _matmul(node: Node, a: Numbers, b: Numbers) -> Numbers:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or a.dtype.kind != "f":
        node.refuse(f"multiplies constants of shapes {a.shape} and {b.shape}, which has no rule.")
    shapes.spend(node, (len(a), b.shape[1]))
    with np.errstate(all="ignore"):
        return a @ b


FOLDS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(UFUNCS, elementwise),
    "Concat": lambda node, *arrays: np.concatenate(
        arrays, shapes.joined_along(node, [array.shape for array in arrays])
    ),
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Cast": _cast,
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "ReduceMax": _reduced(np.max),
    "MatMul": _matmul,
}


def folded(node: Node, arrays: list[Numbers]) -> list[Numbers]:
    """Compute a node whose operands are all constants."""
    if node.op in shapes.SHAPES:
        return [arrays[0].reshape(shapes.SHAPES[node.op](arrays[0].shape, node))]
    if node.op == "Pad":
        index = shapes.MOVES["Pad"](node, np.arange(arrays[0].size).reshape(arrays[0].shape))
        fill = np.asarray(shapes.padding_value(node), arrays[0].dtype)
        return [np.append(arrays[0].reshape(-1), fill)[index]]
    if node.op in shapes.MOVES:
        moved = shapes.MOVES[node.op](node, arrays[0])
        return moved if isinstance(moved, list) else [moved]
    if node.op not in FOLDS:
        node.refuse("computes on constants alone; simplify the model first (constant folding).")
    try:
        result = FOLDS[node.op](node, *arrays)
        node.looked_at = len(node.operands)  # or it would have had too many arguments
        return [result]
    except ModelFormatError:
        raise
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as err:
        node.refuse(f"cannot be computed on its constants: {err!s:.80}.")
