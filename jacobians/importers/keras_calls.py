"""A call of a Keras layer or operation, and those that move windows over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._steps import Steps
from jacobians.layers import (
    AveragePool,
    Convolution,
    Layer,
    MaxPool,
    TransposedConvolution,
)


@dataclass
class Call(Steps):
    """One call of an operation or layer: its attributes and what it is given."""

    operation: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operation, name)

    @property
    def of(self) -> Value:
        """The first argument, which must be a value."""
        value = self.args[0]
        if not isinstance(value, Value):
            self.no_rule("a constant where the input is expected")
        return value

    def given(self, names: str) -> list[Any]:
        """Return the arguments of these names as values, arrays in float64, or None."""
        found = dict(zip(names.split(), self.args, strict=False)) | self.kwargs
        return [operand(found.get(name)) for name in names.split()]


def operand(argument: Any) -> Any:
    """Return an argument as the value or the constant that it stands for."""
    if argument is None or isinstance(argument, Value):
        return argument
    return constant(argument)


def constant(value: Any) -> Array:
    """Copy a variable or constant of any backend to NumPy, in float64."""
    import keras

    array = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")))
    exact = keras.ops.convert_to_tensor(value)
    if keras.backend.standardize_dtype(exact.dtype) == "float64":
        array = np.asarray(keras.ops.convert_to_numpy(exact))
    return array.astype(np.float64)


def images(call: Call, layer: Callable[[Value], Layer]) -> Value:
    """Apply a layer to channels first, wherever the operation has them."""
    of = call.of
    rank = len(of.shape)
    first = call.data_format == "channels_first"
    to_first = [0, rank - 1, *range(1, rank - 1)]
    of = of if first else call.transposed(of, to_first)
    result = call.windows(of, layer(of))
    return result if first else call.transposed(result, np.argsort(to_first).tolist())


def each(setting: Any, axes: int) -> tuple[int, ...]:
    """Return a setting once for every axis."""
    return tuple(setting) if isinstance(setting, (tuple, list)) else (setting,) * axes


def padding_of(mode: str, grid: Any, size: Any, stride: Any, dilation: Any) -> Any:
    """Return the zeros before and after each axis: "same" leaves every stride-th position."""
    if mode == "valid":
        return 0
    pads = []
    for n, k, s, d in zip(grid, size, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def convolve(call: Call, kernel: Array, groups: int | None, strides: Any) -> Value:
    """Convolve with a kernel (*size, c_in / groups, c_out)."""
    axes = kernel.ndim - 2
    K = kernel.transpose(axes + 1, axes, *range(axes))
    stride, dilation = each(strides, axes), each(call.dilation_rate, axes)

    def layer(of: Value) -> Layer:
        padding = padding_of(call.padding, of.shape[2:], K.shape[2:], stride, dilation)
        count = of.shape[1] // K.shape[1] if groups is None else groups
        return Convolution(K, None, "identity", stride, padding, dilation, count)

    return images(call, layer)


def convolution(call: Call) -> Value:
    """Convolve, as ``Conv1D`` to ``Conv3D`` do."""
    return convolve(call, call.given("inputs kernel")[1], None, call.strides)


def depthwise_convolution(call: Call) -> Value:
    """Convolve every channel with kernels of its own."""
    kernel = call.given("inputs kernel")[1]
    *size, channels, multiplier = kernel.shape
    return convolve(call, kernel.reshape(*size, 1, channels * multiplier), channels, call.strides)


def separable_convolution(call: Call) -> Value:
    """Convolve every channel, then mix the channels."""
    _, depthwise, pointwise = call.given("inputs depthwise_kernel pointwise_kernel")
    *size, channels, multiplier = depthwise.shape
    kernel = depthwise.reshape(*size, 1, channels * multiplier)
    between = convolve(call, kernel, channels, call.strides)
    after = Call(call.assembly, call.at, call.operation, (between,))
    return convolve(after, pointwise, None, 1)


def transposed_convolution(call: Call) -> Value:
    """Spread a kernel over a finer grid."""
    kernel = call.given("inputs kernel")[1]
    axes = kernel.ndim - 2
    K = kernel.transpose(axes + 1, axes, *range(axes))
    stride, dilation = each(call.strides, axes), each(call.dilation_rate, axes)
    if call.output_padding is not None:
        call.no_rule("a transposed convolution with an output_padding of its own")
    pads, more = [], []
    for k, s, d in zip(K.shape[2:], stride, dilation, strict=True):
        total = (k - 1) * d + 1 - s
        more.append(max(-total, 0))
        cut = max(total, 0) if call.padding == "same" else 0
        pads.append((cut // 2, cut - cut // 2))
    layer = TransposedConvolution(
        K, None, "identity", stride, tuple(pads), dilation, 1, tuple(more)
    )
    return images(call, lambda _: layer)


def pool(call: Call) -> Value:
    """Take the largest or the mean of every window."""
    axes = len(call.of.shape) - 2
    size = each(call.pool_size, axes)
    stride = size if call.strides is None else each(call.strides, axes)

    def layer(of: Value) -> Layer:
        padding = padding_of(call.padding, of.shape[2:], size, stride, (1,) * axes)
        if type(call.operation).__name__ == "MaxPool":
            return MaxPool(size, stride, padding)
        return AveragePool(size, stride, padding, count_padding=False)

    return images(call, layer)


def adaptive(call: Call) -> Value:
    """Pool to a wanted number of positions."""
    axes = len(call.of.shape) - 2
    wanted = each(call.output_size, axes)

    def layer(of: Value) -> Layer:
        if any(n % m for n, m in zip(of.shape[2:], wanted, strict=True)):
            call.no_rule("pooling of unequal windows")
        size = tuple(n // m for n, m in zip(of.shape[2:], wanted, strict=True))
        largest = type(call.operation).__name__ == "AdaptiveMaxPool"
        return MaxPool(size) if largest else AveragePool(size)

    return images(call, layer)
