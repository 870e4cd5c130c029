"""ONNX convolutions and pools: the library's layers on a value with its channels first."""

from __future__ import annotations

from math import prod
from typing import Any

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers._steps import Pairs, same_padding
from jacobians.importers.onnx_values import Node, Value
from jacobians.layers import Convolution, TransposedConvolution

Sizes = tuple[int, ...]


def _image(node: Node) -> tuple[Value, Sizes]:
    """Return what is computed, and the sizes of its image."""
    x = node.of
    if len(x.shape) < 3 or x.shape[0] != 1:
        node.refuse(
            f"takes shape {x.shape}; expected one image (1, channels, ...) per point. "
            "Export with a batch of 1 or of open size."
        )
    return x, tuple(int(n) for n in x.shape[2:])


def _kernel(node: Node) -> tuple[Any, Any]:
    """Return kernel and bias."""
    K, b = node.needed(1), node.constant(2)
    node.assembly.spend(2 * K.dtype.itemsize * prod(K.shape))
    return K.array, None if b is None else b.array


def _windows(
    node: Node,
    image: Sizes,
    kernel: Sizes | None = None,
    *,
    kernel_shape: Any = None,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    auto_pad: str = "NOTSET",
) -> tuple[Sizes, Sizes, Pairs, Sizes]:
    """Return size, stride, padding and dilation of windows over an image."""
    axes, size = len(image), kernel_shape or kernel or ()
    stride, dilation = strides or (1,) * axes, dilations or (1,) * axes
    pads = pads or (0,) * (2 * axes)
    wrong = {len(size), len(stride), len(dilation), len(pads) / 2} != {axes}
    if wrong or size != (kernel or size) or max((*stride, *dilation, *pads)) > 2**31:
        node.refuse(f"has windows of {size} on {axes} axes.")
    both: Pairs = tuple(zip(pads[:axes], pads[axes:], strict=True))
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        both = same_padding(image, size, stride, dilation, lower=auto_pad == "SAME_LOWER")
    elif auto_pad not in ("NOTSET", "VALID"):
        node.refuse(f"pads by {auto_pad!r:.40}, which has no rule.")
    return size, stride, both, dilation


def _convolution(node: Node, *, group: int = 1) -> Made:
    (x, image), (K, b) = _image(node), _kernel(node)
    size, stride, pads, dilation = node.call(_windows, image, K.shape[2:])
    layer = Convolution(K, b, "identity", stride, pads, dilation, group)
    where: Any = [slice(a, a + n) for (a, _), n in zip(pads, image, strict=True)]
    seen = K[(..., *where)]
    beside = (n + sum(p) - k for n, p, k in zip(image, pads, size, strict=True))
    alone = all(0 <= more < s for more, s in zip(beside, stride, strict=True))
    if alone and seen.shape[1:] == x.shape[1:] and group == max(dilation) == 1:
        y = node.dense(x.reshaped((1, x.size)), seen.reshape(len(seen), -1), b)  # it sees all
        return y.reshaped((x.shape[0], len(seen), *(1,) * len(image)))
    return node.windows(x, layer)


def _transposed_convolution(
    node: Node, *, group: int = 1, output_padding: Any = None, output_shape: Any = None
) -> Made:
    """The transpose of a convolution, cut at its borders, with 0 where it does not reach."""
    (x, image), (K, b) = _image(node), _kernel(node)
    size, stride, pads, dilation = node.call(_windows, image, K.shape[2:])
    if {len(given or image) for given in (output_padding, output_shape)} != {len(image)}:
        node.refuse(f"has output_padding {output_padding} and output_shape {output_shape}.")
    auto, cuts, added = node.attribute("auto_pad", "NOTSET"), [], []
    pads = pads if auto == "NOTSET" else ((0, 0),) * len(image)
    for k, n in enumerate(image):
        (before, after), more = pads[k], (output_padding or (0,) * len(image))[k]
        full = (n - 1) * stride[k] + (size[k] - 1) * dilation[k] + 1
        if output_shape or auto in ("SAME_UPPER", "SAME_LOWER"):
            cut = full + more - (output_shape[k] if output_shape else n * stride[k])
            less, more = (cut, more) if cut >= 0 else (0, more - cut)
            before = less - less // 2 if auto == "SAME_UPPER" else less // 2
            after = less - before
        cuts.append((before, after))
        added.append(more)
    settings = (stride, tuple(cuts), dilation, group, tuple(added))
    return node.windows(x, TransposedConvolution(K, b, "identity", *settings))


def _largest(node: Node, *, ceil_mode: int = 0, storage_order: int = 0) -> Any:
    x, image = _image(node)
    size, stride, pads, dilation = node.call(_windows, image)
    return [node.pool(x, size, stride, pads, dilation, bool(ceil_mode)), None]


def _average(node: Node, *, ceil_mode: int = 0, count_include_pad: int = 0) -> Made:
    x, image = _image(node)
    size, stride, pads, dilation = node.call(_windows, image)
    if max(dilation) > 1:
        node.refuse("averages dilated windows, which has no rule.")
    return node.average(x, size, stride, pads, bool(count_include_pad), bool(ceil_mode))


RULES: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MaxPool": _largest,
    "AveragePool": _average,
}
