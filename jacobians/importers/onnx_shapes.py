"""ONNX operators that leave the entries and their order as they are, and change the shape alone.

They act on what is computed and on constants alike.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from jacobians.importers.onnx_nodes import Node, Shape


def _flatten(shape: Shape, node: Node) -> Shape:
    axis = axis_of(node.attributes["axis"], shape, node, end=True)
    return prod(shape[:axis]), prod(shape[axis:])


def _reshape(shape: Shape, node: Node) -> Shape:
    target = list(node.integers(1, "shape") or ())
    if not node.attributes.get("allowzero"):
        target = [shape[k] if n == 0 and k < len(shape) else n for k, n in enumerate(target)]
    if target.count(-1) == 1:
        known = -prod(target)
        target[target.index(-1)] = prod(shape) // known if known > 0 else 0
    if min(target, default=1) < 1 or prod(target) != prod(shape):
        node.refuse(f"reshapes {shape} to {tuple(target)}, which holds another number of entries.")
    return tuple(target)


def _squeeze(shape: Shape, node: Node) -> Shape:
    axes = node.integers(1, "axes")
    if axes is None:
        return tuple(size for size in shape if size != 1)
    gone = {axis_of(axis, shape, node) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        node.refuse(f"squeezes axes {axes} of {shape}, which are not all of size 1.")
    return tuple(size for k, size in enumerate(shape) if k not in gone)


def _unsqueeze(shape: Shape, node: Node) -> Shape:
    axes = node.integers(1, "axes") or ()
    longer = (1,) * (len(shape) + len(axes))
    places = {axis_of(axis, longer, node) for axis in axes}
    if len(places) != len(axes):
        node.refuse(f"names an axis twice: {axes}.")
    rest = iter(shape)
    return tuple(1 if k in places else next(rest) for k in range(len(longer)))


def _transpose(shape: Shape, node: Node) -> Shape:
    perm = permutation(shape, node)
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved != sorted(moved):
        node.refuse(f"transposes {shape} by {perm}, which reorders entries; only constants may.")
    return tuple(shape[axis] for axis in perm)


def permutation(shape: Shape, node: Node) -> Shape:
    """Return the axes of a Transpose; without ``perm`` it reverses them."""
    perm = tuple(node.attributes.get("perm", range(len(shape))[::-1]))
    if sorted(perm) != list(range(len(shape))):
        node.refuse(f"permutes by {perm}, which are not the axes of {shape}.")
    return perm


def axis_of(axis: int, shape: Shape, node: Node, end: bool = False) -> int:
    """Count an axis from the front; negative ones came with opset 11."""
    low = -len(shape) if node.opset >= 11 else 0
    if not low <= axis < len(shape) + end:
        node.refuse(f"names axis {axis} of shape {shape}.")
    return axis + len(shape) if axis < 0 else axis


def _same(shape: Shape, node: Node) -> Shape:
    return shape


SHAPES: dict[str, Callable[[Shape, Node], Shape]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Identity": _same,
}
