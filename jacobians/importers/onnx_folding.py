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
from jacobians.importers.onnx_tensors import BFLOAT16, FLOAT16, Tensor, dtype_of, kind_name
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


def _entry_by_entry(node: Node, *arrays: Numbers) -> Numbers:
    if len(arrays) == 2:
        arrays = arrays[0], shapes.aligned(node, *arrays)
    shapes.spend(node, node.broadcast(*(a.shape for a in arrays)))
    with np.errstate(all="ignore"):  # what is not finite is refused where it is used
        return np.asarray(UFUNCS[node.op](*arrays))


def _constant_of_shape(node: Node, shape: Numbers, *, value: Any = None) -> Numbers:
    if value is not None and (not isinstance(value, Tensor) or prod(value.shape) != 1):
        node.refuse("has a value that is not one number.")
    number = np.zeros((), np.float32) if value is None else value.array.reshape(())
    return np.broadcast_to(number, node.integers(0, "") or ())  # which takes no memory


def _range(node: Node, start: Numbers, limit: Numbers, delta: Numbers) -> Numbers:
    if any(a.ndim for a in (start, limit, delta)) or not delta:
        node.refuse("needs three numbers, the last not 0.")
    count = max(ceil((float(limit) - float(start)) / float(delta)), 0)
    shapes.spend(node, (count,))
    return np.asarray(start + np.arange(count) * delta).astype(start.dtype)


def _cast(node: Node, x: Numbers, *, to: int = 0) -> Numbers:
    if to in (FLOAT16, BFLOAT16):
        node.refuse(f"rounds constants to {kind_name(to)}, which has no rule.")
    try:
        dtype = dtype_of(to)
    except KeyError:
        node.refuse(f"casts to {kind_name(to)}, which has no rule.")
    shapes.spend(node, x.shape)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _product(node: Node, x: Numbers) -> Numbers:
    axes, keep = node.call(axes_of, x.shape)
    return np.asarray(np.prod(x, axis=axes, keepdims=keep)).astype(x.dtype)


def axes_of(
    node: Node, shape: Shape, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tuple[tuple[int, ...], bool]:
    """Return the axes that a reduction goes along, all unless said, and if they are kept."""
    axes = node.integers(1, "axes") or (() if noop_with_empty_axes else range(len(shape)))
    return tuple(sorted({node.axis(axis, shape) for axis in axes})), bool(keepdims)


FOLDS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(UFUNCS, _entry_by_entry),
    "Concat": lambda node, *arrays: np.concatenate(
        arrays, node.call(shapes.joined_along, [array.shape for array in arrays])
    ),
    "Shape": lambda node, x: np.array(x.shape, np.int64),
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Cast": _cast,
    "ReduceProd": _product,
}


def folded(node: Node, arrays: list[Numbers]) -> list[Numbers]:
    """Compute a node whose operands are all constants."""
    x = arrays[0]
    if node.op in shapes.SHAPES:
        return [x.reshape(node.call(shapes.SHAPES[node.op], x.shape))]
    if node.op in ("Pad", "Trilu"):  # which leave entries that come from nowhere
        index = node.call(shapes.MOVES[node.op], np.arange(x.size).reshape(x.shape))
        return [np.append(x.reshape(-1), np.asarray(shapes.outside(node), x.dtype))[index]]
    if node.op in shapes.MOVES:
        moved = node.call(shapes.MOVES[node.op], x)
        return moved if isinstance(moved, list) else [moved]
    if node.op not in FOLDS:
        node.refuse("computes on constants alone; simplify the model first (constant folding).")
    try:
        result = node.call(FOLDS[node.op], *arrays)
    except ModelFormatError:
        raise
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as err:
        node.refuse(f"cannot be computed on its constants: {err!s:.80}.")
    node.looked_at = len(node.operands)  # or it would have had too many arguments
    return [result]
