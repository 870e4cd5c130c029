"""ONNX operators that act on arrays: what is computed from constants, and what only moves entries.

The same function serves both.  Applied to a constant it gives a constant; an operator that only
moves entries is applied to the *numbers* of a value's entries, and what comes out says which entry
goes where: slices, gathers, transposes, paddings and nearest neighbours are each the selection that
they make of ``0, 1, 2, ...``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, prod
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, Numbers
from jacobians.importers.onnx_model import BFLOAT16, FLOAT16, MOST_AXES, Tensor, dtype_of, kind_name
from jacobians.importers.onnx_values import Batch, Node, Shape

# --- shapes alone ---------------------------------------------------------------------------------


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
        count = prod(shape) * _times_batch(shape, target, node)
        target[target.index(-1)] = count // rest if rest > 0 else 0
    if node.tape.batch > 1 and prod(target) == prod(shape) * node.tape.batch:
        k = next((k for k, n in enumerate(target) if n % node.tape.batch == 0), 0)
        target[k] //= node.tape.batch
        open_axes.append(k)
    if min(target, default=1) < 1 or prod(target) != prod(shape):
        node.refuse(f"reshapes {shape} to {tuple(target)}, which holds another number of entries.")
    return _with_batch(shape, target, open_axes)


def _times_batch(shape: Shape, target: list[int], node: Node) -> int:
    """Tell whether a target names the fixed size of the batch itself beside its -1."""
    batch = node.tape.batch
    return batch if prod(shape) % prod(target) and batch in target else 1


def _with_batch(shape: Shape, target: list[int], open_axes: list[int]) -> Shape:
    """Mark the axis of a reshaped value along which the points of the batch now stand.

    It begins where it began: after as many entries of each point as before.
    """
    place = next((k for k, n in enumerate(shape) if isinstance(n, Batch)), None)
    if place is not None:
        before = prod(shape[:place])
        found = [k for k in range(len(target)) if prod(target[:k]) == before]
        single = [k for k in found if target[k] == shape[place]]
        for k in (single or [k for k in found if k in open_axes])[:1]:
            return tuple(Batch(n) if j == k else int(n) for j, n in enumerate(target))
    return tuple(int(n) for n in target)


def _squeeze(shape: Shape, node: Node) -> Shape:
    axes = node.integers(1, "axes")
    if not axes:  # an empty list is none, as for every reader of the standard
        return tuple(n for n in shape if n != 1 or (isinstance(n, Batch) and node.tape.batch > 1))
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


def _same(shape: Shape, node: Node) -> Shape:
    return shape


SHAPES: dict[str, Callable[[Shape, Node], Shape]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _same,
}


# --- what moves entries ---------------------------------------------------------------------------


def _spend(node: Node, shape: tuple[int, ...], item: int = 8) -> None:
    if len(shape) > MOST_AXES or min(shape, default=1) < 0:
        node.refuse(f"gives shape {shape!s:.80}.")
    node.tape.source.budget.spend(item * prod(shape))


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
    """Return places along an axis of some size, counted from its front."""
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
    _spend(node, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))
    return np.take(x, index, axis)


def _gather_elements(node: Node, x: Numbers) -> Numbers:
    axis = node.axis(node.attribute("axis", 0), x.shape)
    index = _indices(node, 1, x.shape[axis])
    if index.ndim != x.ndim or any(
        a > b for k, (a, b) in enumerate(zip(index.shape, x.shape, strict=True)) if k != axis
    ):
        node.refuse(f"gathers shape {index.shape} from {x.shape}.")
    _spend(node, index.shape)
    kept = tuple(slice(None) if k == axis else slice(n) for k, n in enumerate(index.shape))
    return np.take_along_axis(x[kept], index, axis)


def _array_feature_extractor(node: Node, x: Numbers) -> Numbers:
    index = _indices(node, 1, x.shape[-1] if x.ndim else 0)
    _spend(node, (*x.shape[:-1], index.size))
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
    _spend(node, tuple(n * r for n, r in zip(x.shape, repeats, strict=True)))
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
    _spend(node, shape)
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


def _space_to_depth(node: Node, x: Numbers) -> Numbers:
    size = node.attribute("blocksize", 0)
    if x.ndim != 4 or size < 1 or x.shape[2] % size or x.shape[3] % size:
        node.refuse(f"moves {x.shape} to depth by blocks of {size}.")
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // size, size, w // size, size).transpose(0, 3, 5, 1, 2, 4)
    return x.reshape(b, c * size**2, h // size, w // size)


def _trilu(node: Node, x: Numbers) -> Numbers:
    upper, k = node.attribute("upper", 1), node.constant(1)
    offset = int(k.array.reshape(-1)[0]) if k is not None and prod(k.shape) == 1 else 0
    if x.ndim < 2:
        node.refuse(f"takes a triangle of {x.shape}.")
    _spend(node, x.shape)
    rows, columns = np.indices(x.shape[-2:], sparse=True)
    kept = columns - rows >= offset if upper else columns - rows <= offset
    return np.where(kept, x, 0 if node.operand(0).__class__.__name__ == "Constant" else -1)


def _resize(node: Node, x: Numbers) -> Numbers:
    """Nearest neighbours: each place of the result has one place in x, axis by axis."""
    given = node.attribute
    scales, sizes = _scales(node, x)
    mode, rounding = given("mode", "nearest"), given("nearest_mode", "round_prefer_floor")
    where = given("coordinate_transformation_mode", "half_pixel")
    if node.op == "Upsample" or node.opset < 11:
        where, rounding = "asymmetric", "floor"
    if mode != "nearest":
        node.refuse(f"interpolates in mode {mode!r:.40}; only nearest has a rule.")
    for name in ("antialias", "exclude_outside", "cubic_coeff_a", "extrapolation_value"):
        given(name, None)  # which say nothing where one entry is taken as it is
    if given("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.refuse("keeps the aspect ratio, which has no rule.")
    _spend(node, tuple(sizes))
    for axis, (scale, size) in enumerate(zip(scales, sizes, strict=True)):
        if size != x.shape[axis] or scale != 1:
            places = [
                _nearest(k, scale, size, x.shape[axis], where, rounding, node) for k in range(size)
            ]
            x = np.take(x, places, axis)
    return x


def _scales(node: Node, x: Numbers) -> tuple[list[float], list[int]]:
    if node.op == "Upsample" or node.opset < 11:
        scales = node.attributes.pop("scales", None)
        scales = node.needed(1, 1).array if scales is None else scales
        axes = None
    else:
        axes = node.attributes.pop("axes", None)
        constant, sizes = node.constant(2), node.integers(3, "sizes")
        if sizes:
            axes = axes or tuple(range(x.ndim))
            full = list(x.shape)
            for axis, size in zip(axes, sizes, strict=True):
                full[node.axis(axis, x.shape)] = size
            return [b / a for a, b in zip(x.shape, full, strict=True)], full
        scales = np.ones(0) if constant is None else constant.array
    every = np.ones(x.ndim)
    if len(scales) != len(axes or x.shape) or not (np.asarray(scales) > 0).all():
        node.refuse(f"scales {x.shape} by {len(scales)} numbers.")
    every[list(axes) if axes else slice(None)] = np.asarray(scales, np.float64)
    return list(every), [floor(n * s) for n, s in zip(x.shape, every, strict=True)]


def _nearest(k: int, scale: float, size: int, n: int, where: str, rounding: str, node: Node) -> int:
    if where == "asymmetric":
        place = k / scale
    elif where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        place = (k + 0.5) / scale - 0.5
        if where == "pytorch_half_pixel" and size == 1:
            place = 0.0
        if where == "half_pixel_symmetric":
            place = n / 2 * (1 - size / (scale * n)) + (k + 0.5) / scale - 0.5
    elif where == "align_corners":
        place = k * (n - 1) / (size - 1) if size > 1 else 0.0
    else:
        node.refuse(f"finds its places by {where!r:.40}, which has no rule.")
    nearest = {
        "round_prefer_floor": ceil(place - 0.5),
        "round_prefer_ceil": floor(place + 0.5),
        "floor": floor(place),
        "ceil": ceil(place),
    }
    if rounding not in nearest:
        node.refuse(f"rounds by {rounding!r:.40}, which has no rule.")
    return min(max(nearest[rounding], 0), n - 1)


def _compress(node: Node, x: Numbers) -> Numbers:
    axis, condition = node.attribute("axis", None), node.constant(1)
    if condition is None or condition.dtype != bool or len(condition.shape) != 1:
        node.refuse("needs a list of truth values.")
    x, along = (x.reshape(-1), 0) if axis is None else (x, node.axis(axis, x.shape))
    if condition.shape[0] > x.shape[along]:
        node.refuse(f"chooses by {condition.shape[0]} truth values from {x.shape[along]}.")
    return np.compress(condition.array, x, along)


MOVES: dict[str, Callable[[Node, Numbers], Any]] = {
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _trilu,
    "Resize": _resize,
    "Upsample": _resize,
    "Compress": _compress,
}


# --- constants from constants ---------------------------------------------------------------------


def _divide(a: Numbers, b: Numbers) -> Numbers:
    if a.dtype.kind == "f":
        return a / b  # type: ignore[no-any-return]
    quotient = np.abs(a) // np.abs(b)  # whole numbers are divided towards 0
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def _where(condition: Numbers, a: Numbers, b: Numbers) -> Numbers:
    return np.where(condition, a, b)


UFUNCS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": lambda a: 1 / a,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sign": np.sign,
    "Min": lambda *a: np.minimum.reduce(np.broadcast_arrays(*a)),
    "Max": lambda *a: np.maximum.reduce(np.broadcast_arrays(*a)),
    "Sum": lambda *a: np.add.reduce(np.broadcast_arrays(*a)),
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Not": np.logical_not,
    "Where": _where,
}


def elementwise(node: Node, *arrays: Numbers) -> Numbers:
    """Compute entry by entry, in the dtype of the constants."""
    if node.opset < 7 and len(arrays) == 2 and node.attribute("broadcast", 0):
        axis = node.attribute("axis", None)
        if axis is not None:
            arrays = arrays[0], _aligned(arrays[1], arrays[0].ndim, axis)
    _spend(node, node.broadcast(*(a.shape for a in arrays)))
    with np.errstate(all="ignore"):  # what is not finite is refused where it is used
        return np.asarray(UFUNCS[node.op](*arrays))


def _aligned(b: Numbers, ndim: int, axis: int) -> Numbers:
    """Place b at an axis, as the versions before opset 7 broadcast."""
    after = max(ndim - axis % max(ndim, 1) - b.ndim, 0)
    return b.reshape(*b.shape, *(1,) * after)


def concatenated(node: Node, *arrays: Numbers) -> Numbers:
    """Join arrays along an axis."""
    axis = node.axis(node.attribute("axis", 1 if node.opset < 4 else None), arrays[0].shape)
    shapes = {(*a.shape[:axis], *a.shape[axis + 1 :]) for a in arrays}
    if len(shapes) > 1 or len({a.ndim for a in arrays}) > 1:
        node.refuse(f"joins shapes {', '.join(str(a.shape) for a in arrays)} along axis {axis}.")
    _spend(node, (sum(a.size for a in arrays),))
    return np.concatenate(arrays, axis)


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
    _spend(node, (max(ceil((float(limit) - float(start)) / float(delta)), 0),))
    return np.arange(start, limit, delta, start.dtype)


def _cast(node: Node, x: Numbers) -> Numbers:
    kind = node.attribute("to", 0)
    if kind in (FLOAT16, BFLOAT16):
        node.refuse(f"rounds constants to {kind_name(kind)}, which has no rule.")
    try:
        dtype = dtype_of(kind)
    except KeyError:
        node.refuse(f"casts to {kind_name(kind)}, which has no rule.")
    _spend(node, x.shape)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _reduce(node: Node, x: Numbers) -> Numbers:
    axes, keep = axes_of(node, x.shape)
    function = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max}[node.op]
    return np.asarray(function(x, axis=axes, keepdims=keep)).astype(x.dtype)  # type: ignore[operator]


def axes_of(node: Node, shape: Shape) -> tuple[tuple[int, ...], bool]:
    """Return the axes that a reduction goes along, all of them unless said, and if they are kept."""
    axes = node.integers(1, "axes")
    keep, nothing = bool(node.attribute("keepdims", 1)), node.attribute("noop_with_empty_axes", 0)
    if not axes:
        return (() if nothing else tuple(range(len(shape)))), keep
    return tuple(sorted({node.axis(axis, shape) for axis in axes})), keep


def _matmul(node: Node, a: Numbers, b: Numbers) -> Numbers:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or a.dtype.kind != "f":
        node.refuse(f"multiplies constants of shapes {a.shape} and {b.shape}, which has no rule.")
    _spend(node, (len(a), b.shape[1]))
    with np.errstate(all="ignore"):
        return a @ b  # type: ignore[no-any-return]


FOLDS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(UFUNCS, elementwise),
    "Concat": concatenated,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Cast": _cast,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "MatMul": _matmul,
}


def folded(node: Node, arrays: list[Numbers]) -> list[Numbers]:
    """Compute a node whose operands are all constants.

    Raises
    ------
    ModelFormatError
        If there is no rule for it, or the result would be larger than the file justifies.
    """
    if node.op in SHAPES:
        return [arrays[0].reshape(SHAPES[node.op](arrays[0].shape, node))]
    if node.op in MOVES:
        moved = MOVES[node.op]
        if node.op == "Pad":
            return [_padded_constant(node, arrays[0])]
        found = moved(node, arrays[0])
        return found if isinstance(found, list) else [found]
    if node.op not in FOLDS:
        node.refuse("computes on constants alone; simplify the model first (constant folding).")
    try:
        return [FOLDS[node.op](node, *arrays)]
    except ModelFormatError:
        raise
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as err:
        node.refuse(f"cannot be computed on its constants: {err!s:.80}.")


def _padded_constant(node: Node, x: Numbers) -> Numbers:
    index = _pad(node, np.arange(x.size).reshape(x.shape))
    flat = np.append(x.reshape(-1), np.asarray(padding_value(node), x.dtype))
    return flat[index]
