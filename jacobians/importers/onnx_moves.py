"""ONNX operators that move, join or only look at entries, and those that do nothing, as steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers.onnx_shapes import MOVES, SHAPES, joined_along, outside
from jacobians.importers.onnx_tensors import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOATING,
    Constant,
    dtype_of,
    kind_name,
)
from jacobians.importers.onnx_values import Batch, Node, Shape, Value


def _dropout(node: Node, *, ratio: float = 0.5, is_test: int = 0) -> Any:
    training = node.constant(2)
    if (node.opset < 7 and not is_test) or (training is not None and training.array.any()):
        node.refuse("is in training mode; export the model for inference.")
    return node.value()


_NAMES = {"FLOAT": 1, "DOUBLE": 11, "FLOAT16": 10}  # as Cast named its target before opset 6


def _cast(node: Node, *, to: Any = None) -> Value:
    x, kind = node.value(), _NAMES.get(to, 0) if isinstance(to, str) else to
    node.seen.add("round_mode")
    if kind not in FLOATING:
        node.refuse(f"casts to {kind_name(kind)}; expected floating point.")
    if kind in (FLOAT16, BFLOAT16) and x.kind not in (kind, BOOL):
        node.refuse(
            f"rounds to {kind_name(kind)}, which has no derivative; export the model in float32."
        )
    node.assembly.computed_in(dtype_of(kind))
    node.kind = kind
    return x


def _shape(node: Node, *, start: int = 0, end: Any = None) -> Constant:
    return Constant(np.array([int(n) for n in node.value().shape][start:end], np.int64))


def zip_map(node: Node) -> Value:
    """A map from class labels to probabilities: the probabilities, in the order of the labels."""
    node.seen |= node.attributes.keys()
    return node.value()


def moved(node: Node) -> list[Made]:
    """Apply an operator that only moves entries, by what it does to their numbers."""
    x = node.value()
    indices = _numbers_moved(node, node.numbers(x))
    shapes = _with_batch(node, x, indices)
    pairs = zip(indices, shapes, strict=True)
    values = [node.move(x, index).reshaped(shape) for index, shape in pairs]
    if fill := outside(node):
        values[0] = node.affine(values[0], 1.0, np.where(indices[0] < 0, fill, 0.0))
    return values


def _numbers_moved(node: Node, numbers: Any) -> list[Any]:
    indices = node.call(MOVES[node.op], numbers)
    return indices if isinstance(indices, list) else [indices]


def _with_batch(node: Node, x: Value, indices: list[Any]) -> list[Shape]:
    """Find the axis of the batch in what is moved: of two points, each is moved alike."""
    shapes: list[Shape] = [index.shape for index in indices]
    axis = next((k for k, n in enumerate(x.shape) if isinstance(n, Batch)), None)
    if axis is None:
        return shapes
    one = node.numbers(x)
    try:
        pair = _numbers_moved(node, np.concatenate([one, one + x.size], axis))
    except Exception:  # sizes that hold for a batch of one alone
        return shapes
    for j, (index, two) in enumerate(zip(indices, pair, strict=True)):
        both = [index, np.where(index < 0, -1, index + x.size)]
        for k in range(index.ndim if two.ndim == index.ndim else 0):
            doubled = two.shape[k] == 2 * index.shape[k]
            if doubled and np.array_equal(two, np.concatenate(both, k)):
                shapes[j] = (*index.shape[:k], Batch(index.shape[k]), *index.shape[k + 1 :])
                break
    return shapes


def _concat(node: Node) -> Made:
    given = [operand for operand in map(node.operand, range(len(node.operands))) if operand]
    values = [v for v in given if isinstance(v, Value)]
    axis = node.call(joined_along, [operand.shape for operand in given])
    node.goes_along([axis], values[0].shape)
    y = node.concatenate([o if isinstance(o, Value) else node.number(o) for o in given], axis)
    axes = {k for v in values for k, n in enumerate(v.shape) if isinstance(n, Batch)}
    return y.reshaped([Batch(n) if k in axes else n for k, n in enumerate(y.shape)])


def _reshaped(node: Node) -> Made:
    return node.value().reshaped(node.call(SHAPES[node.op], node.value().shape))


RULES: dict[str, Rule] = {
    **dict.fromkeys(SHAPES, _reshaped),
    **dict.fromkeys(MOVES, moved),
    "Concat": _concat,
    "Shape": _shape,
    "Size": lambda node: Constant(np.array(node.value().size, np.int64)),
    "Dropout": _dropout,
    "Cast": _cast,
    "ZipMap": zip_map,
}
