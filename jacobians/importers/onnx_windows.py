"""Convolutions and pools: what a window sees, place by place.

A convolution whose window sees everything is a matrix; others, and pools, are the library's layers
on the value with its channels first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from jacobians.importers.onnx_values import Constant, Node, Shape, Value

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Windows:
    """Windows of some size over an image of some size, axis by axis."""

    image: tuple[int, ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pairs
    count: tuple[int, ...]  # of windows

    @property
    def reached(self) -> Pairs:
        """The padding that the windows see: never less than there is, more if rounded up."""
        return tuple(
            (a, max(b, (c - 1) * s + (k - 1) * d + 1 - n - a))
            for n, k, s, d, (a, b), c in zip(
                self.image,
                self.size,
                self.stride,
                self.dilation,
                self.pads,
                self.count,
                strict=True,
            )
        )


def _windows(node: Node, image: tuple[int, ...], kernel: tuple[int, ...] | None) -> _Windows:
    """Read the attributes that windows have in common."""
    axes = len(image)
    size = node.attribute("kernel_shape", kernel or ())
    if kernel is not None and size != kernel:
        node.refuse(f"has kernel_shape {size}, but a kernel of {kernel}.")
    stride = node.attribute("strides", (1,) * axes)
    dilation = node.attribute("dilations", (1,) * axes)
    pads, auto = node.attribute("pads", (0,) * (2 * axes)), node.attribute("auto_pad", "NOTSET")
    up = node.attribute("ceil_mode", 0)
    if (
        not axes
        or any(len(part) != axes for part in (size, stride, dilation))
        or len(pads) != 2 * axes
    ):
        node.refuse(f"has windows of {size} on {axes} axes.")
    if (
        min(*size, *stride, *dilation) < 1
        or min(pads) < 0
        or max(*size, *stride, *dilation, *pads) > 2**31
    ):
        node.refuse(f"has windows of {size} by {stride}, dilated {dilation}, padded {pads}.")
    both: list[tuple[int, int]] = []
    count: list[int] = []
    for k, n in enumerate(image):
        reach = (size[k] - 1) * dilation[k] + 1
        a, b = (pads[k], pads[k + axes]) if auto == "NOTSET" else (0, 0)
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            more = max((-(-n // stride[k]) - 1) * stride[k] + reach - n, 0)
            a = more // 2 if auto == "SAME_UPPER" else more - more // 2
            b = more - a
        elif auto not in ("NOTSET", "VALID"):
            node.refuse(f"pads by {auto!r:.40}, which has no rule.")
        left = n + a + b - reach
        windows = (-(-left // stride[k]) if up else left // stride[k]) + 1
        if up and (windows - 1) * stride[k] >= n + a:
            windows -= 1  # a window must begin inside
        if left < 0 or windows < 1:
            node.refuse(f"has windows of {size} on {image}, which are too large.")
        both.append((a, b))
        count.append(windows)
    return _Windows(image, size, stride, dilation, tuple(both), tuple(count))


def _image(node: Node) -> tuple[Value, int, tuple[int, ...]]:
    """Return what is computed, its channels and the sizes of its image."""
    x = node.floats()
    if len(x.shape) < 3 or x.shape[0] != 1:
        node.refuse(
            f"takes shape {x.shape}; expected one image (1, channels, ...) per point. "
            "Export with a batch of 1 or of open size."
        )
    return x, int(x.shape[1]), tuple(int(n) for n in x.shape[2:])


# --- convolutions ---------------------------------------------------------------------------------


def _kernel(node: Node, x: Value) -> tuple[Constant, Constant | None]:
    K, b = node.needed(1), node.constant(2)
    if len(K.shape) != len(x.shape) or min(K.shape) < 1:
        node.refuse(f"has a kernel of shape {K.shape} for {x.shape}.")
    node.same_kind(x, K, *([] if b is None else [b]))
    return K, b


def _convolution(node: Node) -> Value:
    x, channels, image = _image(node)
    K, b = _kernel(node, x)
    groups = node.attribute("group", 1)
    windows = _windows(node, image, K.shape[2:])
    if groups < 1 or K.shape[1] * groups != channels or K.shape[0] % groups:
        node.refuse(f"has a kernel of shape {K.shape} in {groups} groups for {channels} channels.")
    if b is not None and b.shape != K.shape[:1]:
        node.refuse(f"has a bias of shape {b.shape} for a kernel of shape {K.shape}.")
    shape: Shape = (x.shape[0], K.shape[0], *windows.count)
    if prod(windows.count) == 1 and groups == 1 and set(windows.dilation) == {1}:
        y = _seen_whole(node, x, K, windows).reshaped(shape)
        return y if b is None else node.tape.scale(y, 1.0, _column(b, y), node.at, b.dtype)
    options = {"stride": windows.stride, "padding": windows.pads, "dilation": windows.dilation}
    return _convolved(node, "Convolution", x, K, b, shape, {**options, "groups": groups})


def _convolved(
    node: Node, kind: str, x: Value, K: Constant, b: Constant | None, shape: Shape, options: Any
) -> Value:
    from jacobians import layers

    def make() -> Any:
        return getattr(layers, kind)(K.array, None if b is None else b.array, **options)

    node.tape.source.budget.spend(2 * K.dtype.itemsize * prod(K.shape))
    return node.tape.layer(x, make, x.shape[1:], shape, node.at, K.dtype)


def _column(b: Constant, y: Value) -> Any:
    """Return one number per channel, to be spread over its image."""
    return b.array.astype(np.float64).reshape(-1, *(1,) * (len(y.shape) - 2))


def _seen_whole(node: Node, x: Value, K: Constant, windows: _Windows) -> Value:
    """One window sees the image, which is a product with the matrix of its weights there."""
    where = tuple(slice(a, a + n) for (a, _), n in zip(windows.pads, windows.image, strict=True))
    if any(
        a + n > k for (a, _), n, k in zip(windows.pads, windows.image, windows.size, strict=True)
    ):
        index = node.tape.numbers(x.shape, node.at)[
            (
                slice(None),
                slice(None),
                *(
                    slice(max(k - a, 0))
                    for (a, _), k in zip(windows.pads, windows.size, strict=True)
                ),
            )
        ]
        x = node.tape.select(x, index, index.shape, node.at)
    if K.shape[2:] == x.shape[2:]:
        W = K.reshaped((K.shape[0], prod(K.shape[1:])))
    else:
        kept = K.array[(slice(None), slice(None), *where)]
        W = Constant(kept.reshape(len(kept), -1))
    return node.tape.dense(x.reshaped((1, prod(x.shape))), W, node.at, rows=True)


def _transposed_convolution(node: Node) -> Value:
    """The transpose of a convolution, cut at its borders, with 0 where it does not reach."""
    x, channels, image = _image(node)
    K, b = _kernel(node, x)
    axes, groups = len(image), node.attribute("group", 1)
    if groups < 1 or K.shape[0] != channels or channels % groups:
        node.refuse(f"has a kernel of shape {K.shape} in {groups} groups for {channels} channels.")
    size = node.attribute("kernel_shape", K.shape[2:])
    stride = node.attribute("strides", (1,) * axes)
    dilation = node.attribute("dilations", (1,) * axes)
    extra = node.attribute("output_padding", (0,) * axes)
    pads, auto = node.attribute("pads", (0,) * (2 * axes)), node.attribute("auto_pad", "NOTSET")
    wanted = node.attribute("output_shape", ())
    parts = (size, stride, dilation, extra)
    if size != K.shape[2:] or any(len(part) != axes for part in parts) or len(pads) != 2 * axes:
        node.refuse(f"has windows of {size} on {axes} axes.")
    if min(*size, *stride, *dilation) < 1 or min(*extra, *pads) < 0 or len(wanted) not in (0, axes):
        node.refuse(f"has windows of {size} by {stride}, dilated {dilation}, padded {pads}.")
    both = []
    for k, n in enumerate(image):
        full = (n - 1) * stride[k] + (size[k] - 1) * dilation[k] + 1
        before, after, more = pads[k], pads[k + axes], extra[k]
        if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
            cut = full + more - (wanted[k] if wanted else n * stride[k])
            less, more = (cut, more) if cut >= 0 else (0, more - cut)
            before = less - less // 2 if auto == "SAME_UPPER" else less // 2
            after = less - before
        if not 0 <= more < stride[k] or before + after >= full + more:
            node.refuse(f"cuts {before} and {after} off {full}, and adds {more}.")
        both.append((before, after, more, full))
    shape = (x.shape[0], K.shape[1] * groups, *(f + m - a - b for a, b, m, f in both))
    options = {
        "stride": stride,
        "padding": tuple(part[:2] for part in both),
        "dilation": dilation,
        "output_padding": tuple(part[2] for part in both),
    }
    if b is not None and b.shape != (shape[1],):
        node.refuse(f"has a bias of shape {b.shape} for {shape[1]} channels.")
    return _convolved(node, "TransposedConvolution", x, K, b, shape, {**options, "groups": groups})


# --- pools ----------------------------------------------------------------------------------------


def _max_pool(node: Node) -> list[Any]:
    from jacobians.layers import MaxPool

    x, channels, image = _image(node)
    node.attribute("storage_order", 0)
    windows = _windows(node, image, None)
    shape: Shape = (x.shape[0], channels, *windows.count)
    pads = windows.reached  # where it is rounded up, the last window reaches further
    make = partial(MaxPool, windows.size, windows.stride, pads, windows.dilation)
    return [node.tape.layer(x, make, x.shape[1:], shape, node.at), None]


def _average_pool(node: Node) -> Value:
    from jacobians.layers import AveragePool

    x, channels, image = _image(node)
    everything = bool(node.attribute("count_include_pad", 0))
    windows = _windows(node, image, None)
    shape: Shape = (x.shape[0], channels, *windows.count)
    if set(windows.dilation) != {1} or (everything and windows.reached != windows.pads):
        node.refuse("averages windows that are dilated, or rounded up beyond the padding.")
    make = partial(AveragePool, windows.size, windows.stride, windows.reached, everything)
    return node.tape.layer(x, make, x.shape[1:], shape, node.at)


RULES: dict[str, Callable[[Node], Any]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
}
