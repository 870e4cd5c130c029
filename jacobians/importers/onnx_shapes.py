"""ONNX operators that act on arrays: what is computed from constants, and what only moves entries.

The same function serves both.  Applied to a constant it gives a constant; an operator that only
moves entries is applied to the *numbers* of a value's entries, and what comes out says which entry
goes where: slices, gathers, transposes, paddings and nearest neighbours are each the selection that
they make of ``0, 1, 2, ...``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor, prod
from typing import Any

import numpy as np

from jacobians._checks import Numbers
from jacobians.importers._arithmetic import seen
from jacobians.importers.onnx_tensors import MOST_AXES
from jacobians.importers.onnx_values import Batch, Node, Shape


def _flatten(node: Node, shape: Shape, *, axis: int = 1) -> Shape:
    axis = node.axis(axis, shape, end=True)
    first, rest = prod(shape[:axis]), prod(shape[axis:])
    return (Batch(first) if axis and isinstance(shape[0], Batch) else first), rest


def _reshape(node: Node, shape: Shape, *, allowzero: int = 0) -> Shape:
    target = list(node.integers(1, "shape") or ())
    open_axes = [k for k, n in enumerate(target) if n < 1]
    if not allowzero:
        target = [shape[k] if n == 0 and k < len(shape) else n for k, n in enumerate(target)]
    if target.count(-1) == 1:
        rest = -prod(target)
        fixed = prod(shape) % prod(target) and node.batch in target  # it names the batch itself
        count = prod(shape) * (node.batch if fixed else 1)
        target[target.index(-1)] = count // rest if rest > 0 else 0
    if node.batch > 1 and prod(target) == prod(shape) * node.batch:
        k = next((k for k, n in enumerate(target) if n % node.batch == 0), 0)
        target[k] //= node.batch
        open_axes.append(k)
    if min(target, default=1) < 1 or prod(target) != prod(shape):
        node.refuse(f"reshapes {shape} to {tuple(target)}, which holds another number of entries.")
    return _with_batch(shape, target, open_axes)


def _with_batch(shape: Shape, target: list[int], open_axes: list[int]) -> Shape:
    """Mark the axis of a reshaped value along which the points of the batch now stand.

    It begins where it began: after as many entries of each point as before.
    """
    place = next((k for k, n in enumerate(shape) if isinstance(n, Batch)), None)
    if place is not None:
        before = prod(shape[:place])
        candidates = [k for k in range(len(target)) if prod(target[:k]) == before]
        single = [k for k in candidates if target[k] == shape[place]]
        for k in (single or [k for k in candidates if k in open_axes])[:1]:
            return tuple(Batch(n) if j == k else int(n) for j, n in enumerate(target))
    return tuple(int(n) for n in target)


def _squeeze(node: Node, shape: Shape) -> Shape:
    axes = node.integers(1, "axes")
    if not axes:  # an empty list is none, as for every reader of the standard
        return tuple(n for n in shape if n != 1 or (isinstance(n, Batch) and node.batch > 1))
    gone = {node.axis(axis, shape) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        node.refuse(f"squeezes axes {axes} of {shape}, which are not all of size 1.")
    return tuple(n for k, n in enumerate(shape) if k not in gone)


def _unsqueeze(node: Node, shape: Shape) -> Shape:
    axes = node.integers(1, "axes") or ()
    longer = (1,) * (len(shape) + len(axes))
    new = {node.axis(axis, longer) for axis in axes}
    if len(new) != len(axes):
        node.refuse(f"names an axis twice: {axes}.")
    rest = iter(shape)
    return tuple(1 if k in new else next(rest) for k in range(len(longer)))


SHAPES: dict[str, Callable[..., Shape]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": lambda node, shape: shape,
}


def spend(node: Node, shape: tuple[int, ...], item: int = 8) -> None:
    """Count an array that is about to be computed."""
    if len(shape) > MOST_AXES or min(shape, default=1) < 0:
        node.refuse(f"gives shape {shape!s:.80}.")
    node.assembly.spend(item * prod(shape))


def _transpose(node: Node, x: Numbers, *, perm: Any = None) -> Numbers:
    if perm is not None and sorted(perm) != list(range(x.ndim)):
        node.refuse(f"permutes by {perm}, which are not the axes of {x.shape}.")
    return x.transpose(perm)


def _slice(node: Node, x: Numbers) -> Numbers:
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    axes, steps = node.integers(3, "axes"), node.integers(4, "steps")
    if starts is None or ends is None:
        node.refuse("needs starts and ends.")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        node.refuse(f"slices by {starts}, {ends}, {axes}, {steps}.")
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[node.axis(axis, x.shape)] = slice(start, end, step)
    return x[tuple(where)]


def _indices(node: Node, k: int, size: int) -> Numbers:
    """Return positions along an axis of some size, counted from its front."""
    constant = node.constant(k)
    if constant is None or constant.dtype.kind != "i":
        node.refuse(f"needs whole numbers as input {k + 1}.")
    index: Numbers = constant.array.astype(np.int64)
    if index.size and not (-size <= index.min() and index.max() < size):
        node.refuse(f"gathers entries {index.min()} to {index.max()} of {size}.")
    return np.where(index < 0, index + size, index)


def _gather(node: Node, x: Numbers, *, axis: int = 0) -> Numbers:
    axis = node.axis(axis, x.shape)
    index = _indices(node, 1, x.shape[axis])
    spend(node, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))
    return np.take(x, index, axis)


def _array_feature_extractor(node: Node, x: Numbers) -> Numbers:
    index = _indices(node, 1, x.shape[-1] if x.ndim else 0)
    spend(node, (*x.shape[:-1], index.size))
    return np.take(x, index.reshape(-1), -1)


def _split(node: Node, x: Numbers, *, axis: int = 0, num_outputs: int = 0) -> list[Numbers]:
    axis, count = node.axis(axis, x.shape), num_outputs or node.outputs
    sizes = node.integers(1, "split")
    if sizes is None:
        each = -(-x.shape[axis] // max(count, 1))
        sizes = (*(each,) * (count - 1), x.shape[axis] - each * (count - 1))
    if min(sizes, default=0) < 1 or sum(sizes) != x.shape[axis] or len(sizes) != node.outputs:
        node.refuse(f"splits axis {axis} of {x.shape} into {sizes}.")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _expand(node: Node, x: Numbers) -> Numbers:
    return np.broadcast_to(x, node.broadcast(x.shape, node.integers(1, "shape") or ()))


def _tile(node: Node, x: Numbers) -> Numbers:
    repeats = node.integers(1, "repeats") or ()
    if len(repeats) != x.ndim or min(repeats, default=1) < 1:
        node.refuse(f"repeats {x.shape} by {repeats}.")
    spend(node, tuple(n * r for n, r in zip(x.shape, repeats, strict=True)))
    return np.tile(x, repeats)


def _pads_of(node: Node, ndim: int) -> list[tuple[int, int]]:
    """Return how much is added before and after each axis."""
    pads = node.integers(1, "paddings" if "paddings" in node.attributes else "pads") or ()
    axes = node.integers(3, "axes") if node.opset >= 18 else None
    axes = tuple(range(ndim)) if axes is None else axes
    if len(pads) != 2 * len(axes):
        node.refuse(f"pads {ndim} axes by {pads}.")
    both = [(0, 0)] * ndim
    for k, axis in enumerate(axes):
        both[node.axis(axis, (1,) * ndim)] = (pads[k], pads[k + len(axes)])
    return both


def _pad(node: Node, x: Numbers, *, mode: str = "constant") -> Numbers:
    both = _pads_of(node, x.ndim)
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, both, strict=True))
    cut = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, both, strict=True))
    kept, grow = x[cut], [(max(a, 0), max(b, 0)) for a, b in both]
    bounced = mode == "reflect" and any(
        max(g) >= max(n, 1) for g, n in zip(grow, kept.shape, strict=True)
    )
    sound = min(shape, default=1) > 0 and (mode == "constant" or kept.size)
    if mode not in ("constant", "reflect", "edge", "wrap") or not sound or bounced:
        node.refuse(f"pads {x.shape} by {both} in mode {mode:.40}.")
    spend(node, shape)
    outside = {"constant_values": -1} if mode == "constant" else {}  # no entry: see ``outside``
    return np.pad(kept, grow, mode=mode, **outside)  # type: ignore[call-overload, no-any-return]


def outside(node: Node) -> float:
    """Return what stands where an operator has moved no entry: what a Pad puts around, or 0."""
    if node.op != "Pad":
        return 0.0
    given = node.attribute("value", 0.0) if node.opset < 11 else 0.0
    constant = node.constant(2)
    if constant is not None:
        if prod(constant.shape) != 1:
            node.refuse(f"pads with shape {constant.shape}; expected one number.")
        given = constant.array.reshape(-1)[0]
    return float(given)


def aligned(node: Node, a: Any, b: Any) -> Any:
    """Place b at an axis of a, as the versions before opset 7 broadcast."""
    if node.opset >= 7 or not node.attribute("broadcast", 0):
        return b
    axis, ndim = node.attribute("axis"), len(a.shape)
    behind = 0 if axis is None else ndim - axis % max(ndim, 1) - len(b.shape)
    return seen(b, (*b.shape, *(1,) * max(behind, 0)))


def joined_along(node: Node, shapes: list[Shape], *, axis: Any = None) -> int:
    """Return the axis along which a Concat joins arrays of these shapes."""
    along: int = node.axis(1 if axis is None and node.opset < 4 else axis, shapes[0])
    if len({(len(shape), *shape[:along], *shape[along + 1 :]) for shape in shapes}) > 1:
        node.refuse(f"joins shapes {', '.join(map(str, shapes))} along axis {along}.")
    spend(node, (sum(map(prod, shapes)),))
    return along


def _trilu(node: Node, x: Numbers, *, upper: int = 1) -> Numbers:
    k = node.constant(1)
    offset = int(k.array.reshape(-1)[0]) if k is not None and prod(k.shape) == 1 else 0
    if x.ndim < 2:
        node.refuse(f"takes a triangle of {x.shape}.")
    spend(node, x.shape)
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    return np.where(columns - rows >= offset if upper else columns - rows <= offset, x, -1)


# where an entry k of a longer or shorter axis stands on the axis of n entries
_POSITIONS: dict[str, Callable[[Numbers, float, int], Numbers]] = {
    "asymmetric": lambda k, scale, n: k / scale,
    "half_pixel": lambda k, scale, n: (k + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda k, scale, n: (k + 0.5) / scale - 0.5 if len(k) > 1 else 0.0 * k,
    "align_corners": lambda k, scale, n: k * (n - 1) / max(len(k) - 1, 1),
}
_ROUNDINGS: dict[str, Callable[[Numbers], Numbers]] = {
    "round_prefer_floor": lambda position: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position: np.floor(position + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(
    node: Node,
    x: Numbers,
    *,
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    coordinate_transformation_mode: str = "half_pixel",
    keep_aspect_ratio_policy: str = "stretch",
) -> Numbers:
    """Nearest neighbours: each entry of the result is one of x, axis by axis."""
    rounding, where = nearest_mode, coordinate_transformation_mode
    if _early(node):
        rounding, where = "floor", "asymmetric"
    factors, sizes = _scales(node, x.shape)
    stretched = keep_aspect_ratio_policy == "stretch"
    if mode != "nearest" or rounding not in _ROUNDINGS or where not in _POSITIONS or not stretched:
        node.refuse(f"resizes by {mode:.40}, {rounding:.40} and {where:.40}, which has no rule.")
    # which say nothing where entries are taken as they are
    node.seen |= {"cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias"}
    spend(node, tuple(sizes))
    for axis, (n, factor, size) in enumerate(zip(x.shape, factors, sizes, strict=True)):
        if size != n or factor != 1:
            index = _ROUNDINGS[rounding](_POSITIONS[where](np.arange(size), factor, n))
            x = np.take(x, index.clip(0, n - 1).astype(np.intp), axis)
    return x


def _early(node: Node) -> bool:
    """Whether a Resize only repeats entries, as the first versions did."""
    return node.op == "Upsample" or node.opset < 11


def _scales(node: Node, shape: Shape) -> tuple[Numbers, list[int]]:
    """Return the factor of every axis, and its size."""
    axes = node.attribute("axes") or range(len(shape))
    scales, sizes = node.attribute("scales"), node.integers(3, "sizes")
    if scales is None:
        constant = node.constant(1 if _early(node) else 2)
        scales = np.ones(0) if constant is None else constant.array
    factors, full = np.ones(len(shape)), list(shape)
    if len(sizes or scales) != len(axes) or not (np.asarray(sizes or scales) > 0).all():
        node.refuse(f"scales {shape} by {len(sizes or scales)} numbers.")
    for k, axis in enumerate(axes):
        n = shape[node.axis(axis, shape)]
        factors[axis] = sizes[k] / n if sizes else scales[k]
        full[axis] = sizes[k] if sizes else floor(n * factors[axis])
    return factors, full


MOVES: dict[str, Callable[..., Any]] = {
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Trilu": _trilu,
    "Resize": _resize,
    "Upsample": _resize,
}
