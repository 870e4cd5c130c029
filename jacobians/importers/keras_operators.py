"""What Keras's operations compute, as steps of a network in the making.

A layer's ``call``, given a symbol in place of numbers, leaves a graph of these operations, and so
does a function of ``keras.ops``: a table of operations reads both, whatever the backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._calls import Call, Rule, along, each, family, fixed, listed, takes
from jacobians.importers._steps import Steps, same_padding
from jacobians.layers import Convolution, LayerNorm, RMSNorm, TransposedConvolution


class KerasCall(Call):
    """One call of an operation or layer: what it is given, and what it was made with."""

    def __getitem__(self, name: str) -> Any:
        if name in self.arguments:
            return self.arguments[name]
        return getattr(self.operator, name)

    def constant(self, given: Any) -> Array:
        """Copy a variable or constant of any backend to NumPy, in float64; a variable once."""
        import keras

        if isinstance(given, keras.Variable):
            seen = self.assembly.constants
            if id(given) not in seen:
                seen[id(given)] = self.constant(given.value)
            return seen[id(given)]
        array = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(given, "float32")))
        exact = keras.ops.convert_to_tensor(given)
        if keras.backend.standardize_dtype(exact.dtype) == "float64":
            array = np.asarray(keras.ops.convert_to_numpy(exact))
        return array.astype(np.float64)

    def compute(self, array: Any) -> Any:
        """Apply the operation itself to an array, in place of its first argument."""
        import keras

        whole = array.dtype.kind == "i"  # numbers of entries, which float32 would round
        given = keras.ops.convert_to_tensor(array.astype(np.int32) if whole else array)
        result = self.operator.call(**{**self.arguments, next(iter(self.arguments)): given})
        to_numpy = keras.ops.convert_to_numpy
        several = isinstance(result, (list, tuple))
        return [to_numpy(part) for part in result] if several else to_numpy(result)

    def attribute(self, name: str) -> Any:
        """Return an attribute of the layer as an array in float64, or None."""
        return self.as_operand(getattr(self.operator, name))

    def channels_first(self, of: Value, compute: Callable[[Value], Value]) -> Value:
        """Compute with channels first, wherever the operation has them."""
        if self["data_format"] == "channels_first":
            return compute(of)
        rank = len(of.shape)
        to_first = [0, rank - 1, *range(1, rank - 1)]
        result = compute(self.transposed(of, to_first))
        return self.transposed(result, np.argsort(to_first).tolist())

    def padding(self, of: Value, size: Any, stride: Any, dilation: Any) -> Any:
        """Return the padding of an image: "same" leaves every stride-th position."""
        if self["padding"] == "valid":
            return ((0, 0),) * len(size)
        return same_padding(of.shape[2:], size, stride, dilation)


def _convolve(
    call: KerasCall, of: Value, kernel: Array, groups: int = 0, strides: Any = 1
) -> Value:
    """Convolve with a kernel (*size, c_in / groups, c_out)."""
    K, axes = _channels_first(kernel), kernel.ndim - 2
    stride, dilation = each(strides, axes), each(call["dilation_rate"], axes)

    def convolved(of: Value) -> Value:
        padding = call.padding(of, K.shape[2:], stride, dilation)
        count = groups or of.shape[1] // K.shape[1]
        layer = Convolution(K, None, "identity", stride, padding, dilation, count)
        return call.windows(of, layer)

    return call.channels_first(of, convolved)


def _channels_first(kernel: Array) -> Array:
    axes = kernel.ndim - 2
    return kernel.transpose(axes + 1, axes, *range(axes))


def _convolution(call: KerasCall) -> Value:
    return _convolve(call, call.of, call.operand("kernel"), 0, call["strides"])


def _depthwise(call: KerasCall, name: str = "kernel") -> Value:
    """Convolve every channel with kernels of its own."""
    *size, channels, multiplier = call.operand(name).shape
    kernel = call.operand(name).reshape(*size, 1, channels * multiplier)
    return _convolve(call, call.of, kernel, channels, call["strides"])


def _separable(call: KerasCall) -> Value:
    """Convolve every channel, then mix the channels."""
    return _convolve(call, _depthwise(call, "depthwise_kernel"), call.operand("pointwise_kernel"))


def _transposed(call: KerasCall) -> Value:
    """Spread a kernel over a finer grid."""
    K = _channels_first(call.operand("kernel"))
    axes = K.ndim - 2
    stride, dilation = each(call["strides"], axes), each(call["dilation_rate"], axes)
    if call["output_padding"] is not None:
        call.no_rule("a transposed convolution with an output_padding of its own")
    total = [(k - 1) * d + 1 - s for k, s, d in zip(K.shape[2:], stride, dilation, strict=True)]
    cuts = [max(n, 0) if call["padding"] == "same" else 0 for n in total]
    pads, more = tuple((n // 2, n - n // 2) for n in cuts), tuple(max(-n, 0) for n in total)
    layer = TransposedConvolution(K, None, "identity", stride, pads, dilation, 1, more)
    return call.channels_first(call.of, lambda of: call.windows(of, layer))


def _pool(call: KerasCall) -> Value:
    axes = len(call.of.shape) - 2
    size, ones = each(call["pool_size"], axes), (1,) * axes
    stride = size if call["strides"] is None else each(call["strides"], axes)

    def pooled(of: Value) -> Value:
        pads = call.padding(of, size, stride, ones)
        if type(call.operator).__name__ == "MaxPool":
            return call.pool(of, size, stride, pads, ones)
        return call.average(of, size, stride, pads, False)

    return call.channels_first(call.of, pooled)


def _adaptive(call: KerasCall) -> Value:
    wanted = each(call["output_size"], len(call.of.shape) - 2)
    largest = type(call.operator).__name__ == "AdaptiveMaxPool"
    return call.channels_first(call.of, lambda of: call.adaptive_pool(of, wanted, largest))


def _resize(call: KerasCall) -> Any:
    if call["interpolation"] != "nearest":
        call.no_rule(f"interpolation={call['interpolation']!r}", "Nearest neighbours have one.")
    return call.moved()


def _pad(call: KerasCall) -> Any:
    fill = call.operand("constant_values")
    if fill is not None and fill.any():
        call.no_rule(f"padding with {fill:g}", "Padding with zeros has one.")
    return replace(call, arguments={"x": call.of}).moved()


def _joined(compute: Callable[..., Value], argument: str) -> Rule:
    return lambda call: compute(call, [call.as_operand(p) for p in call[argument]], call["axis"])


def _reduced(compute: Callable[..., Value]) -> Rule:
    return lambda call: compute(call, call.of, listed(call["axis"]), call["keepdims"])


def _einsum(call: KerasCall) -> Value:
    operands = call["operands"]
    if len(operands) != 2:
        call.no_rule(f"einsum of {len(operands)} operands")
    return call.einsum(call["subscripts"], *map(call.as_operand, operands))


def _relu(call: KerasCall) -> Value:
    slope, top, threshold = (call[k] for k in ("negative_slope", "max_value", "threshold"))
    if threshold or (slope and top is not None):
        call.no_rule(f"negative_slope={slope:g}, max_value={top}, threshold={threshold:g} together")
    if top is not None:
        return call.clamp(call.of, 0.0, top)
    return call.leaky(call.of, slope) if slope else call.activate("relu", call.of)


def _batch_norm(call: KerasCall) -> Value:
    given = map(call.operand, ("mean", "variance", "scale", "offset"))
    return call.batch_norm(call.of, call["axis"], call["epsilon"], [*given])


def _batch_norm_layer(call: KerasCall) -> Value:
    given = map(call.attribute, ("moving_mean", "moving_variance", "gamma", "beta"))
    return call.batch_norm(call.of, call["axis"], call["epsilon"], [*given])


def _layer_norm(call: KerasCall) -> Value:
    kind = RMSNorm if call["rms_scaling"] else LayerNorm
    return _norm(call, call.of, kind, call.operand("gamma"), call.operand("beta"))


def _norm(call: KerasCall, x: Value, kind: Any, scale: Array | None, shift: Array | None) -> Value:
    """Normalise along some axes, which are brought to the end for it."""
    rank = len(x.shape)
    along = sorted(k % rank for k in listed(call["axis"]) or ())
    order = [*(k for k in range(rank) if k not in along), *along]
    ones = np.ones(prod(x.shape[k] for k in along))
    epsilon = 1e-3 if call["epsilon"] is None else call["epsilon"]
    normal = call.norm(call.transposed(x, order), kind(ones, epsilon=epsilon))
    normal = call.transposed(normal, np.argsort(order).tolist())
    sizes = [n if k in along else 1 for k, n in enumerate(x.shape)]
    given = ((scale, 1.0), (shift, 0.0))
    return call.affine(
        normal, *(default if part is None else part.reshape(sizes) for part, default in given)
    )


def _moments(call: KerasCall) -> tuple[Value, Value]:
    """Return mean and variance along some axes."""
    axes = listed(call["axes"])
    centred = call.subtract(call.of, call.mean(call.of, axes, True))
    mean = call.mean(call.of, axes, call["keepdims"])
    return mean, call.mean(call.activate("square", centred), axes, call["keepdims"])


def _attention(call: KerasCall) -> Value:
    """Attention on (1, tokens, heads, d): heads come before tokens, and go back behind them."""
    Q, K, V, mask, scale = map(call.operand, ("query", "key", "value", "mask", "scale"))
    bias, cap = call.operand("bias"), call["attn_logits_soft_cap"]
    if bias is not None or isinstance(mask, Value) or cap:
        call.no_rule("attention with a bias, a soft cap, or a mask that depends on the input")
    Q, K, V = (call.transposed(call.as_value(part), (0, 2, 1, 3)) for part in (Q, K, V))
    chosen = None if mask is None else mask != 0
    if call["is_causal"]:
        causal = np.tri(Q.shape[-2], K.shape[-2], dtype=bool)
        chosen = causal if chosen is None else chosen & causal
    factor = Q.shape[-1] ** -0.5 if scale is None else float(scale)
    return call.transposed(call.attention(Q, K, V, factor, chosen), (0, 2, 1, 3))


def _normalization(call: KerasCall) -> Value:
    import keras

    mean, variance = call.attribute("mean"), call.attribute("variance")
    if mean is None:
        call.assembly.refuse(call.at, "has neither been adapted to data nor built.")
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if call["invert"]:
        return call.affine(call.of, deviation, mean)
    return call.affine(call.of, 1 / deviation, -mean / deviation)


def _rescaling(call: KerasCall) -> Value:
    import keras

    scale = call.attribute("scale")
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        call.no_rule("a scale per channel with channels first")
    return call.affine(call.of, scale, call.attribute("offset"))


def _cast(call: KerasCall) -> Value:
    dtype = str(call["dtype"])
    wide = call.assembly.dtype == np.float64
    if "float" not in dtype:
        hint = "They have no derivative; begin behind it: keras.Model(layer.output, model.output)."
        call.no_rule(f"whole numbers ({dtype})", hint)
    if wide and dtype == "float32":
        call.no_rule(f"rounding to {dtype}", "Leave it out, or build the model in one dtype.")
    return call.of


MOVES = (
    "BroadcastTo DepthToSpace ExpandDims Flip GetItem Moveaxis Permute Ravel Repeat "
    "Reshape Roll Rot90 SpaceToDepth Split Squeeze Swapaxes Take TakeAlongAxis Tile Transpose Tril "
    "Triu Unstack Diagonal"
)
_SAME_NAMES = "relu relu6 selu silu sigmoid softplus softsign tanh erf"
_SAME_NAMES += " exp sin cos square sqrt log log1p expm1 reciprocal"

LAYERS: dict[str, Rule] = {  # whose call takes no symbols, or not always
    "BatchNormalization": _batch_norm_layer,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
}

OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(MOVES.split(), KerasCall.moved),
    "Pad": _pad,
    "Resize": _resize,
    "Concatenate": _joined(Steps.concatenate, "xs"),
    "Stack": _joined(Steps.stack, "x"),
    "Add": takes(Steps.add, "x1 x2"),
    "Subtract": takes(Steps.subtract, "x1 x2"),
    "Multiply": takes(Steps.multiply, "x1 x2"),
    **dict.fromkeys(("Divide", "TrueDivide"), takes(Steps.divide, "x1 x2")),
    "Power": takes(Steps.power, "x1 x2"),
    "Maximum": takes(Steps.maximum, "x1 x2"),
    "Minimum": takes(Steps.minimum, "x1 x2"),
    "Matmul": takes(Steps.matmul, "x1 x2"),
    "Einsum": _einsum,
    "Where": takes(Steps.choose, "condition x1 x2"),
    "Mean": _reduced(Steps.mean),
    "Sum": _reduced(Steps.sum),
    "Max": _reduced(Steps.largest),
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "DepthwiseConv": _depthwise,
    "SeparableConv": _separable,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("AdaptiveAveragePool", "AdaptiveMaxPool"), _adaptive),
    "Negative": lambda call: call.affine(call.of, -1.0),
    **dict.fromkeys(("Absolute", "Abs"), fixed("abs")),
    "Clip": lambda call: call.clamp(call.of, call["x_min"], call["x_max"]),
    "ReLU": _relu,
    "LeakyRelu": lambda call: call.leaky(call.of, call["negative_slope"]),
    "Elu": family("elu", "alpha"),
    "Celu": family("celu", "alpha"),
    "Gelu": lambda call: call.gelu(call.of, call["approximate"]),
    "HardSigmoid": fixed("hard_sigmoid"),
    "HardSilu": lambda call: call.hard_swish(call.of),
    "HardTanh": fixed("hard_tanh"),
    "LogSigmoid": lambda call: call.softplus(call.of, -1.0),
    "SoftShrink": lambda call: call.soft_shrink(call.of, float(call["threshold"])),
    "TanhShrink": lambda call: call.subtract(call.of, call.activate("tanh", call.of)),
    "Softmax": along("softmax", "axis"),
    "LogSoftmax": along("log_softmax", "axis"),
    **{name.capitalize(): fixed(name) for name in _SAME_NAMES.split()},
    "BatchNorm": _batch_norm,
    "LayerNorm": _layer_norm,
    "RMSNorm": lambda call: _norm(call, call.of, RMSNorm, call.operand("scale"), None),
    "Moments": _moments,
    "Rsqrt": lambda call: call.power(call.of, np.array(-0.5)),
    "DotProductAttention": _attention,
    "Cast": _cast,
    **dict.fromkeys(("ConvertToTensor", "Identity"), lambda call: call.of),
}
