"""A call of a Keras layer or operation, and those that move windows over images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._calls import Call, each
from jacobians.importers._windows import same_padding
from jacobians.layers import AveragePool, Convolution, Layer, MaxPool, TransposedConvolution


class KerasCall(Call):
    """One call of an operation or layer: what it is given, and what it was made with."""

    def __getitem__(self, name: str) -> Any:
        if name in self.arguments:
            return self.arguments[name]
        return getattr(self.operator, name)

    def constant(self, given: Any) -> Array:
        """Copy a variable or constant of any backend to NumPy, in float64."""
        import keras

        array = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(given, "float32")))
        exact = keras.ops.convert_to_tensor(given)
        if keras.backend.standardize_dtype(exact.dtype) == "float64":
            array = np.asarray(keras.ops.convert_to_numpy(exact))
        return array.astype(np.float64)

    def attribute(self, name: str) -> Any:
        """Return an attribute of the layer as an array in float64, or None."""
        return self.as_operand(getattr(self.operator, name))

    def images(self, of: Value, layer: Callable[[Value], Layer]) -> Value:
        """Apply a layer to channels first, wherever the operation has them."""
        if self["data_format"] == "channels_first":
            return self.windows(of, layer(of))
        rank = len(of.shape)
        to_first = [0, rank - 1, *range(1, rank - 1)]
        of = self.transposed(of, to_first)
        return self.transposed(self.windows(of, layer(of)), np.argsort(to_first).tolist())

    def padding(self, of: Value, size: Any, stride: Any, dilation: Any) -> Any:
        """Return the padding of an image: "same" leaves every stride-th position."""
        valid = self["padding"] == "valid"
        return 0 if valid else same_padding(of.shape[2:], size, stride, dilation)


def _convolve(call: KerasCall, of: Value, kernel: Array, groups: int | None, strides: Any) -> Value:
    """Convolve with a kernel (*size, c_in / groups, c_out)."""
    K, axes = _channels_first(kernel), kernel.ndim - 2
    stride, dilation = each(strides, axes), each(call["dilation_rate"], axes)

    def layer(of: Value) -> Layer:
        padding = call.padding(of, K.shape[2:], stride, dilation)
        count = of.shape[1] // K.shape[1] if groups is None else groups
        return Convolution(K, None, "identity", stride, padding, dilation, count)

    return call.images(of, layer)


def _channels_first(kernel: Array) -> Array:
    axes = kernel.ndim - 2
    return kernel.transpose(axes + 1, axes, *range(axes))


def convolution(call: KerasCall) -> Value:
    """Convolve, as ``Conv1D`` to ``Conv3D`` do."""
    return _convolve(call, call.of, call.operand("kernel"), None, call["strides"])


def depthwise_convolution(call: KerasCall, name: str = "kernel") -> Value:
    """Convolve every channel with kernels of its own."""
    *size, channels, multiplier = call.operand(name).shape
    kernel = call.operand(name).reshape(*size, 1, channels * multiplier)
    return _convolve(call, call.of, kernel, channels, call["strides"])


def separable_convolution(call: KerasCall) -> Value:
    """Convolve every channel, then mix the channels."""
    between = depthwise_convolution(call, "depthwise_kernel")
    return _convolve(call, between, call.operand("pointwise_kernel"), None, 1)


def transposed_convolution(call: KerasCall) -> Value:
    """Spread a kernel over a finer grid."""
    K = _channels_first(call.operand("kernel"))
    axes = K.ndim - 2
    stride, dilation = each(call["strides"], axes), each(call["dilation_rate"], axes)
    if call["output_padding"] is not None:
        call.no_rule("a transposed convolution with an output_padding of its own")
    pads, more = [], []
    for k, s, d in zip(K.shape[2:], stride, dilation, strict=True):
        total = (k - 1) * d + 1 - s
        more.append(max(-total, 0))
        cut = max(total, 0) if call["padding"] == "same" else 0
        pads.append((cut // 2, cut - cut // 2))
    layer = TransposedConvolution(
        K, None, "identity", stride, tuple(pads), dilation, 1, tuple(more)
    )
    return call.images(call.of, lambda _: layer)


def pool(call: KerasCall) -> Value:
    """Take the largest or the mean of every window."""
    axes = len(call.of.shape) - 2
    size = each(call["pool_size"], axes)
    stride = size if call["strides"] is None else each(call["strides"], axes)

    def layer(of: Value) -> Layer:
        padding = call.padding(of, size, stride, (1,) * axes)
        if type(call.operator).__name__ == "MaxPool":
            return MaxPool(size, stride, padding)
        return AveragePool(size, stride, padding, count_padding=False)

    return call.images(call.of, layer)


def adaptive(call: KerasCall) -> Value:
    """Pool to a wanted number of positions."""
    wanted = each(call["output_size"], len(call.of.shape) - 2)
    largest = type(call.operator).__name__ == "AdaptiveMaxPool"

    def layer(of: Value) -> Layer:
        pool = call.adaptive_pool(of, wanted, largest)
        return pool or call.no_rule("pooling of unequal windows")

    return call.images(call.of, layer)
