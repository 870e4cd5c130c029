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

from jacobians._checks import Array, Numbers
from jacobians.importers._assembly import Value as Made
from jacobians.importers.onnx_tensors import MOST_AXES
from jacobians.importers.onnx_values import Batch, Constant, Node, Shape


def _flatten(shape: Shape, node: Node) -> Shape:
    axis = node.axis(node.attribute("axis", 1), shape, end=True)
    first, rest = prod(shape[:axis]), prod(shape[axis:])
    batch = axis and isinstance(shape[0], Batch)
    return Batch(first) if batch else first, rest


def _reshape(shape: Shape, node: Node) -> Shape:
    target = list(node.integers(1, "shape") or ())
    open_axes = [k for k, n in enumerate(target) if n < 1]
    if not node.attribute("allowzero", 0):
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


def _squeeze(shape: Shape, node: Node) -> Shape:
    axes = node.integers(1, "axes")
    if not axes:  # an empty list is none, as for every reader of the standard
        return tuple(n for n in shape if n != 1 or (isinstance(n, Batch) and node.batch > 1))
    gone = {node.axis(axis, shape) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        node.refuse(f"squeezes axes {axes} of {shape}, which are not all of size 1.")
    return tuple(n for k, n in enumerate(shape) if k not in gone)


def _unsqueeze(shape: Shape, node: Node) -> Shape:
    axes = node.integers(1, "axes") or ()
    longer = (1,) * (len(shape) + len(axes))
    new = {node.axis(axis, longer) for axis in axes}
    if len(new) != len(axes):
        node.refuse(f"names an axis twice: {axes}.")
    rest = iter(shape)
    return tuple(1 if k in new else next(rest) for k in range(len(longer)))


SHAPES: dict[str, Callable[[Shape, Node], Shape]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": lambda shape, node: shape,
}


def spend(node: Node, shape: tuple[int, ...], item: int = 8) -> None:
    """Count an array that is about to be computed."""
    if len(shape) > MOST_AXES or min(shape, default=1) < 0:
        node.refuse(f"gives shape {shape!s:.80}.")
    node.assembly.spend(item * prod(shape))


def _transpose(node: Node, x: Numbers) -> Numbers:
    perm = node.attribute("perm", tuple(range(x.ndim))[::-1])
    if sorted(perm) != list(range(x.ndim)):
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
    index = constant.array.astype(np.int64)
    if index.size and not (-size <= index.min() and index.max() < size):
        node.refuse(f"gathers entries {index.min()} to {index.max()} of {size}.")
    return np.where(index < 0, index + size, index)


def _gather(node: Node, x: Numbers) -> Numbers:
    axis = node.axis(node.attribute("axis", 0), x.shape)
    index = _indices(node, 1, x.shape[axis])
    spend(node, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))
    return np.take(x, index, axis)


def _array_feature_extractor(node: Node, x: Numbers) -> Numbers:
    index = _indices(node, 1, x.shape[-1] if x.ndim else 0)
    spend(node, (*x.shape[:-1], index.size))
    return np.take(x, index.reshape(-1), -1)


def _split(node: Node, x: Numbers) -> list[Numbers]:
    axis = node.axis(node.attribute("axis", 0), x.shape)
    sizes, count = node.integers(1, "split"), node.attribute("num_outputs", node.outputs)
    if sizes is None:
        each = -(-x.shape[axis] // max(count, 1))
        sizes = (*(each,) * (count - 1), x.shape[axis] - each * (count - 1))
    if min(sizes, default=0) < 1 or sum(sizes) != x.shape[axis] or len(sizes) != node.outputs:
        node.refuse(f"splits axis {axis} of {x.shape} into {sizes}.")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _expand(node: Node, x: Numbers) -> Numbers:
    target = node.integers(1, "shape") or ()
    try:
        shape = np.broadcast_shapes(x.shape, target)
    except ValueError:
        node.refuse(f"cannot expand {x.shape} to {target}.")
    return np.broadcast_to(x, shape)


def _tile(node: Node, x: Numbers) -> Numbers:
    repeats = node.integers(1, "repeats") or ()
    if len(repeats) != x.ndim or min(repeats, default=1) < 1:
        node.refuse(f"repeats {x.shape} by {repeats}.")
    spend(node, tuple(n * r for n, r in zip(x.shape, repeats, strict=True)))
    return np.tile(x, repeats)


def pads_of(node: Node, ndim: int) -> list[tuple[int, int]]:
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


def _pad(node: Node, x: Numbers) -> Numbers:
    both = pads_of(node, x.ndim)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    mode = modes.get(node.attribute("mode", "constant"))
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, both, strict=True))
    if mode is None or min(shape, default=1) < 1:
        node.refuse(f"pads {x.shape} by {both}.")
    spend(node, shape)
    cut = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, both, strict=True))
    grow = [(max(a, 0), max(b, 0)) for a, b in both]
    if mode == "constant":
        return np.pad(x[cut], grow, constant_values=-1)  # no entry: see ``padding_value``
    if x[cut].size == 0 or any(
        max(g) >= n and mode == "reflect" and max(g)
        for g, n in zip(grow, x[cut].shape, strict=True)
    ):
        node.refuse(f"pads {x.shape} by {both} in mode {mode}.")
    return np.pad(x[cut], grow, mode=mode)  # type: ignore[call-overload, no-any-return]


def padding_value(node: Node) -> float:
    """Return what a Pad of constant mode puts around."""
    given = node.attribute("value", 0.0) if node.opset < 11 else 0.0
    constant = node.constant(2)
    if constant is not None:
        if prod(constant.shape) != 1:
            node.refuse(f"pads with shape {constant.shape}; expected one number.")
        given = constant.array.reshape(-1)[0]
    return float(given)


def aligned(b: Any, ndim: int, axis: int) -> Any:
    """Place an operand at an axis of the other, as the versions before opset 7 broadcast."""
    shape = (*b.shape, *(1,) * max(ndim - axis % max(ndim, 1) - len(b.shape), 0))
    return b.reshaped(shape) if isinstance(b, Made) else b.reshape(shape)


def joined_along(node: Node, shapes: list[Shape]) -> int:
    """Return the axis along which a Concat joins arrays of these shapes."""
    axis = node.axis(node.attribute("axis", 1 if node.opset < 4 else None), shapes[0])
    if len({(len(shape), *shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
        node.refuse(f"joins shapes {', '.join(map(str, shapes))} along axis {axis}.")
    spend(node, (sum(map(prod, shapes)),))
    return axis


def _depth_to_space(node: Node, x: Numbers) -> Numbers:
    size, mode = node.attribute("blocksize", 0), node.attribute("mode", "DCR")
    if x.ndim != 4 or size < 1 or x.shape[1] % size**2 or mode not in ("DCR", "CRD"):
        node.refuse(f"moves the depth of {x.shape} by blocks of {size}.")
    b, c, h, w = x.shape
    c //= size**2
    if mode == "DCR":
        x = x.reshape(b, size, size, c, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(b, c, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, c, h * size, w * size)


def _trilu(node: Node, x: Numbers) -> Numbers:
    upper, k = node.attribute("upper", 1), node.constant(1)
    offset = int(k.array.reshape(-1)[0]) if k is not None and prod(k.shape) == 1 else 0
    if x.ndim < 2:
        node.refuse(f"takes a triangle of {x.shape}.")
    spend(node, x.shape)
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    kept = columns - rows >= offset if upper else columns - rows <= offset
    return np.where(kept, x, 0 if isinstance(node.operand(0), Constant) else -1)


# Where an entry k of a longer or shorter axis stands on the axis of n entries, by the name of the
# way; and how the place is rounded to a whole number.
_PLACES: dict[str, Callable[[Numbers, float, int], Numbers]] = {
    "asymmetric": lambda k, scale, n: k / scale,
    "half_pixel": lambda k, scale, n: (k + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda k, scale, n: (k + 0.5) / scale - 0.5 if len(k) > 1 else 0.0 * k,
    "half_pixel_symmetric": lambda k, scale, n: (
        n / 2 * (1 - len(k) / (scale * n)) + (k + 0.5) / scale - 0.5
    ),
    "align_corners": lambda k, scale, n: k * (n - 1) / max(len(k) - 1, 1),
}
_ROUNDINGS: dict[str, Callable[[Numbers], Numbers]] = {
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(node: Node, x: Numbers) -> Numbers:
    """Nearest neighbours: each place of the result has one place in x, axis by axis."""
    rounding = node.attribute("nearest_mode", "round_prefer_floor")
    if node.op == "Upsample" or node.opset < 11:
        rounding = "floor"
    if rounding not in _ROUNDINGS:
        node.refuse(f"rounds by {rounding!r:.40}, which has no rule.")
    for name in ("exclude_outside", "cubic_coeff_a"):
        node.attribute(name, None)  # which say nothing where one entry is taken as it is
    for axis, positions in _resized(node, x.shape).items():
        index = _ROUNDINGS[rounding](positions).clip(0, x.shape[axis] - 1)
        x = np.take(x, index.astype(np.intp), axis)
    return x


def interpolations(node: Node, shape: Shape) -> dict[int, Array]:
    """Return the matrix (n_out, n_in) by which a Resize interpolates, for each axis it changes."""
    mode, a = node.attribute("mode", "nearest"), node.attribute("cubic_coeff_a", -0.75)
    outside = not node.attribute("exclude_outside", 0)
    if mode not in ("linear", "cubic"):
        node.refuse(f"interpolates in mode {mode!r:.40}, which has no rule.")
    taps = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    node.attribute("nearest_mode", "")
    matrices = {}
    for axis, positions in _resized(node, shape).items():
        W = np.zeros((len(positions), shape[axis]))
        spend(node, W.shape)
        for tap in taps:
            index = np.floor(positions) + tap
            d = abs(positions - index)
            inner = 1 - d if mode == "linear" else ((a + 2) * d - a - 3) * d**2 + 1
            weights = np.where(d <= 1, inner, a * (((d - 5) * d + 8) * d - 4))
            weights[(index < 0) | (index >= shape[axis])] *= outside
            chosen = index.clip(0, shape[axis] - 1).astype(np.intp)
            np.add.at(W, (np.arange(len(W)), chosen), weights)
        matrices[axis] = W if outside else W / W.sum(axis=1, keepdims=True)
    return matrices


def _resized(node: Node, shape: Shape) -> dict[int, Array]:
    """Return where the entries of the result stand on every axis that changes."""
    scales, sizes = _scales(node, shape)
    where = node.attribute("coordinate_transformation_mode", "half_pixel")
    if node.op == "Upsample" or node.opset < 11:
        where = "asymmetric"
    node.attribute("mode", "nearest")
    node.attribute("extrapolation_value", 0.0)
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.refuse("keeps the aspect ratio, which has no rule.")
    if node.attribute("antialias", 0):
        node.refuse("smooths what it makes smaller (antialias), which has no rule.")
    if where not in _PLACES:
        node.refuse(f"takes its coordinates by {where!r:.40}, which has no rule.")
    spend(node, tuple(sizes))
    return {
        axis: _PLACES[where](np.arange(size), scale, n)
        for axis, (n, scale, size) in enumerate(zip(shape, scales, sizes, strict=True))
        if size != n or scale != 1
    }


def _scales(node: Node, shape: Shape) -> tuple[Numbers, list[int]]:
    """Return the factor of every axis, and its size."""
    axes: Any = None
    if node.op == "Upsample" or node.opset < 11:
        scales = node.attributes.pop("scales", None)
        scales = node.needed(1, 1).array if scales is None else scales
    else:
        axes = node.attributes.pop("axes", None)
        constant, sizes = node.constant(2), node.integers(3, "sizes")
        scales = np.ones(0) if constant is None else constant.array
        if sizes:
            full = list(shape)
            for axis, size in zip(axes or range(len(shape)), sizes, strict=True):
                full[node.axis(axis, shape)] = size
            return np.divide(full, shape), full
    every = np.ones(len(shape))
    if len(scales) != len(axes or shape) or not (np.asarray(scales) > 0).all():
        node.refuse(f"scales {shape} by {len(scales)} numbers.")
    every[list(axes) if axes else slice(None)] = np.asarray(scales, np.float64)
    return every, [floor(n * s) for n, s in zip(shape, every, strict=True)]


MOVES: dict[str, Callable[[Node, Numbers], Any]] = {
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "Trilu": _trilu,
    "Resize": _resize,
    "Upsample": _resize,
}
