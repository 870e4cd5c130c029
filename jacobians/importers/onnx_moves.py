"""ONNX operators that move, join or only look at entries, and those that do nothing, as steps."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from jacobians.importers.onnx_arithmetic import Rule
from jacobians.importers.onnx_folding import concatenated
from jacobians.importers.onnx_shapes import MOVES, SHAPES, padding_value
from jacobians.importers.onnx_tensors import BFLOAT16, BOOL, FLOAT16, FLOATING, dtype_of, kind_name
from jacobians.importers.onnx_values import Batch, Constant, Node, Shape, Value

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
    given = [operand for operand in map(node.operand, range(len(node.operands))) if operand]
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
}
