"""ONNX convolutions and pools: the library's layers on a value with its channels first."""

from __future__ import annotations

from math import prod
from typing import Any

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers._steps import Pairs, same_padding
from jacobians.importers.onnx_values import Constant, Node, Value
from jacobians.layers import Convolution, TransposedConvolution

Sizes = tuple[int, ...]


def _image(node: Node) -> tuple[Value, int, Sizes]:
    """Return what is computed, its channels and the sizes of its image."""
    x = node.floats()
    if len(x.shape) < 3 or x.shape[0] != 1:
        node.refuse(
            f"takes shape {x.shape}; expected one image (1, channels, ...) per point. "
            "Export with a batch of 1 or of open size."
        )
    return x, int(x.shape[1]), tuple(int(n) for n in x.shape[2:])


def _windows(
    node: Node, axes: int, kernel: Sizes | None = None, extra: Sizes = ()
) -> tuple[Sizes, Sizes, Sizes, Pairs]:
    """Return size, stride, dilation and padding, as attributes say them, of sizes that fit."""
    size = node.attribute("kernel_shape", kernel or ())
    if kernel is not None and size != kernel:
        node.refuse(f"has kernel_shape {size}, but a kernel of {kernel}.")
    stride, dilation = (node.attribute(name, (1,) * axes) for name in ("strides", "dilations"))
    pads = node.attribute("pads", (0,) * (2 * axes))
    several = {len(part) for part in (size, stride, dilation, extra or stride)}
    if not axes or several != {axes} or len(pads) != 2 * axes:
        node.refuse(f"has windows of {size} on {axes} axes.")
    numbers = (*size, *stride, *dilation, *pads, *extra)
    if min(*size, *stride, *dilation) < 1 or min(numbers) < 0 or max(numbers) > 2**31:
        node.refuse(f"has windows of {size} by {stride}, dilated {dilation}, padded {pads}.")
    return size, stride, dilation, tuple(zip(pads[:axes], pads[axes:], strict=True))


def _placed(
    node: Node, image: Sizes, kernel: Sizes | None = None
) -> tuple[Sizes, Sizes, Sizes, Pairs]:
    """Return the same for windows over an image, where the padding may be automatic."""
    size, stride, dilation, pads = _windows(node, len(image), kernel)
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_padding(image, size, stride, dilation, lower=auto == "SAME_LOWER")
    elif auto == "VALID":
        pads = ((0, 0),) * len(image)
    elif auto != "NOTSET":
        node.refuse(f"pads by {auto!r:.40}, which has no rule.")
    for n, k, d, (before, after) in zip(image, size, dilation, pads, strict=True):
        if n + before + after <= (k - 1) * d:
            node.refuse(f"has windows of {size} on {image}, which are too large.")
    return size, stride, dilation, pads


def _kernel(node: Node, x: Value, axis: int, channels: int) -> tuple[Constant, Any, int]:
    """Return kernel, bias and groups; ``axis`` of the kernel counts the channels that come out."""
    K, b, groups = node.needed(1), node.constant(2), node.attribute("group", 1)
    if len(K.shape) != len(x.shape) or min(K.shape) < 1:
        node.refuse(f"has a kernel of shape {K.shape} for {x.shape}.")
    node.same_kind(x, K, *([] if b is None else [b]))
    taken = K.shape[1 - axis] * (1 if axis else groups)
    if groups < 1 or taken != channels or K.shape[0] % groups:
        node.refuse(f"has a kernel of shape {K.shape} in {groups} groups for {channels} channels.")
    if b is not None and b.shape != (K.shape[axis] * (groups if axis else 1),):
        node.refuse(f"has a bias of shape {b.shape} for a kernel of shape {K.shape}.")
    node.assembly.spend(2 * K.dtype.itemsize * prod(K.shape))
    return K, None if b is None else b.array, groups


def _convolution(node: Node) -> Made:
    x, channels, image = _image(node)
    K, b, groups = _kernel(node, x, 0, channels)
    size, stride, dilation, pads = _placed(node, image, K.shape[2:])
    where: Any = [slice(a, a + n) for (a, _), n in zip(pads, image, strict=True)]
    seen = K.array[(..., *where)]
    beside = (n + sum(p) - k for n, p, k in zip(image, pads, size, strict=True))
    alone = all(more < s for more, s in zip(beside, stride, strict=True))
    if alone and seen.shape[2:] == image and groups == max(dilation) == 1:
        y = node.dense(x.reshaped((1, x.size)), seen.reshape(len(seen), -1), b)  # it sees all
        return y.reshaped((x.shape[0], len(seen), *(1,) * len(image)))
    return node.windows(x, Convolution(K.array, b, "identity", stride, pads, dilation, groups))


def _transposed_convolution(node: Node) -> Made:
    """The transpose of a convolution, cut at its borders, with 0 where it does not reach."""
    x, channels, image = _image(node)
    K, b, groups = _kernel(node, x, 1, channels)
    axes = len(image)
    extra = node.attribute("output_padding", (0,) * axes)
    size, stride, dilation, pads = _windows(node, axes, K.shape[2:], extra)
    auto, wanted = node.attribute("auto_pad", "NOTSET"), node.attribute("output_shape", ())
    if len(wanted) not in (0, axes):
        node.refuse(f"has output_shape {wanted} on {axes} axes.")
    cuts, added = [], []
    for k, (n, (before, after), more) in enumerate(zip(image, pads, extra, strict=True)):
        full = (n - 1) * stride[k] + (size[k] - 1) * dilation[k] + 1
        if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
            cut = full + more - (wanted[k] if wanted else n * stride[k])
            less, more = (cut, more) if cut >= 0 else (0, more - cut)
            before = less - less // 2 if auto == "SAME_UPPER" else less // 2
            after = less - before
        if not 0 <= more < stride[k] or before + after >= full + more:
            node.refuse(f"cuts {before} and {after} off {full}, and adds {more}.")
        cuts.append((before, after))
        added.append(more)
    layer = TransposedConvolution(
        K.array, b, "identity", stride, tuple(cuts), dilation, groups, tuple(added)
    )
    return node.windows(x, layer)


def _pool(node: Node) -> Any:
    x, _, image = _image(node)
    largest = node.op == "MaxPool"
    if largest:
        node.attribute("storage_order", 0)
    everything = not largest and bool(node.attribute("count_include_pad", 0))
    up = bool(node.attribute("ceil_mode", 0))
    size, stride, dilation, pads = _placed(node, image)
    y = node.pool(x, largest, size, stride, pads, dilation, up=up, count_padding=everything)
    return [y, None] if largest else y


RULES: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MaxPool": _pool,
    "AveragePool": _pool,
}
