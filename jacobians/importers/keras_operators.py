"""What Keras's operations compute, as steps of a network in the making.

A layer's ``call``, given a symbol in place of numbers, leaves a graph of these operations, and so
does a function of ``keras.ops``: a table of operations reads both, whatever the backend.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._steps import Steps
from jacobians.importers.keras_calls import (
    Call,
    adaptive,
    constant,
    convolution,
    depthwise_convolution,
    operand,
    pool,
    separable_convolution,
    transposed_convolution,
)
from jacobians.layers import (
    LayerNorm,
    RMSNorm,
)

Rule = Callable[[Call], Any]


# --- entries that only move -----------------------------------------------------------------------


def _move(call: Call) -> Any:
    """Let the operation itself say where each entry goes: give it their numbers, from 1 on."""
    import keras

    numbers = keras.ops.convert_to_tensor((call.numbers(call.of) + 1).astype(np.int32))
    moved = call.operation.call(numbers, *call.args[1:], **call.kwargs)
    parts = moved if isinstance(moved, (list, tuple)) else [moved]
    values = [
        call.move(call.of, np.asarray(keras.ops.convert_to_numpy(part)).astype(np.intp) - 1)
        for part in parts
    ]
    return values if isinstance(moved, (list, tuple)) else values[0]


def _pad(call: Call) -> Any:
    fill = call.given("x constant_values")[1]
    if fill is not None and fill.any():
        call.no_rule(f"padding with {fill:g}", "Padding with zeros has one.")
    return _move(Call(call.assembly, call.at, call.operation, call.args[:1]))


def _concatenate(call: Call) -> Value:
    return call.concatenate([operand(part) for part in call.args[0]], call.axis)


def _stack(call: Call) -> Value:
    parts = [call.as_value(operand(part)) for part in call.args[0]]
    axis = call.axis % (len(parts[0].shape) + 1)
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    return call.concatenate([part.reshaped(shape) for part in parts], axis)


# --- arithmetic -----------------------------------------------------------------------------------


def _two(compute: Callable[[Call, Any, Any], Value]) -> Rule:
    return lambda call: compute(call, *call.given("x1 x2"))


def _where(call: Call) -> Value:
    choice, yes, no = call.given("condition x1 x2")
    if isinstance(choice, Value):
        call.no_rule("a choice that depends on the input")
    return call.choose(choice, yes, no)


def _reduced(compute: Callable[..., Value]) -> Rule:
    def rule(call: Call) -> Value:
        axis = call.axis
        axes = axis if axis is None or isinstance(axis, (tuple, list)) else [axis]
        return compute(call, call.of, axes, call.keepdims)

    return rule


def _einsum(call: Call) -> Value:
    if len(call.args) != 2:
        call.no_rule(f"einsum of {len(call.args)} operands")
    return call.einsum(call.subscripts, *(operand(value) for value in call.args))


# --- windows --------------------------------------------------------------------------------------


# --- activations ----------------------------------------------------------------------------------


def _fixed(name: str) -> Rule:
    return lambda call: call.activate(name, call.of)


def _along(name: str) -> Rule:
    def rule(call: Call) -> Value:
        axes = call.axis if isinstance(call.axis, (tuple, list)) else [call.axis]
        if len(axes) != 1:
            call.no_rule(f"{name} along several axes")
        return call.activate(name, call.of, axis=axes[0])

    return rule


def _relu(call: Call) -> Value:
    slope, top, threshold = call.negative_slope, call.max_value, call.threshold
    if threshold or (slope and top is not None):
        call.no_rule(f"negative_slope={slope:g}, max_value={top}, threshold={threshold:g} together")
    if top is not None:
        return call.clamp(call.of, 0.0, top)
    return call.leaky(call.of, slope) if slope else call.activate("relu", call.of)


def _gelu(call: Call) -> Value:
    return call.activate("gelu_tanh" if call.approximate else "gelu", call.of)


def _hard_swish(call: Call) -> Value:
    return call.multiply(call.of, call.activate("hard_sigmoid", call.of))


# --- norms and attention --------------------------------------------------------------------------


def _batch_norm(call: Call) -> Value:
    x, mean, variance, offset, scale = call.given("x mean variance offset scale")
    return call.batch_norm(x, call.axis, call.epsilon, (mean, variance, scale, offset))


def _layer_norm(call: Call) -> Value:
    x, scale, shift = call.given("x gamma beta")
    return _norm(call, x, RMSNorm if call.rms_scaling else LayerNorm, scale, shift)


def _rms_norm(call: Call) -> Value:
    x, scale = call.given("x scale")
    return _norm(call, x, RMSNorm, scale, None)


def _norm(call: Call, x: Value, kind: Any, scale: Array | None, shift: Array | None) -> Value:
    """Normalise along some axes, which are brought to the end for it."""
    axes = call.axis if isinstance(call.axis, (tuple, list)) else [call.axis]
    rank = len(x.shape)
    along = sorted(k % rank for k in axes)
    order = [*(k for k in range(rank) if k not in along), *along]
    ones = np.ones(prod(x.shape[k] for k in along))
    epsilon = 1e-3 if call.epsilon is None else call.epsilon
    normal = call.norm(call.transposed(x, order), kind(ones, epsilon=epsilon))
    normal = call.transposed(normal, np.argsort(order).tolist())
    sizes = [n if k in along else 1 for k, n in enumerate(x.shape)]
    given = ((scale, 1.0), (shift, 0.0))
    return call.affine(
        normal, *(default if part is None else part.reshape(sizes) for part, default in given)
    )


def _moments(call: Call) -> tuple[Value, Value]:
    """Return mean and variance along some axes."""
    axes = call.axes if isinstance(call.axes, (tuple, list)) else [call.axes]
    mean = call.mean(call.of, axes, True)
    variance = call.mean(call.activate("square", call.add(call.of, mean, -1.0)), axes, True)
    if call.keepdims:
        return mean, variance
    along = {axis % len(call.of.shape) for axis in axes}
    rest = [n for k, n in enumerate(call.of.shape) if k not in along]
    return mean.reshaped(rest), variance.reshaped(rest)


def _unit(call: Call) -> Value:
    """Divide by the Euclidean norm along some axes, which counts as epsilon at least."""
    import keras

    if call.order != 2:
        call.no_rule(f"the norm of order {call.order}")
    axes = call.axis if isinstance(call.axis, (tuple, list)) else [call.axis]
    square = call.sum(call.activate("square", call.of), axes, True)
    least = keras.config.epsilon() if call.epsilon is None else call.epsilon
    return call.multiply(call.of, call.clamp(call.power(square, np.array(-0.5)), None, 1 / least))


def _attention(call: Call) -> Value:
    """Attention on (1, tokens, heads, d): heads come before tokens, and go back behind them."""
    Q, K, V, bias, mask, scale = call.given("query key value bias mask scale")
    if bias is not None or isinstance(mask, Value) or call.attn_logits_soft_cap:
        call.no_rule("attention with a bias, a soft cap, or a mask that depends on the input")
    Q, K, V = (call.transposed(call.as_value(part), (0, 2, 1, 3)) for part in (Q, K, V))
    chosen = None if mask is None else mask != 0
    if call.is_causal:
        causal = np.tri(Q.shape[-2], K.shape[-2], dtype=bool)
        chosen = causal if chosen is None else chosen & causal
    factor = Q.shape[-1] ** -0.5 if scale is None else float(scale)
    return call.transposed(call.attention(Q, K, V, factor, chosen), (0, 2, 1, 3))


# --- layers that compute with their backend, and not with operations ------------------------------


def _normalization(call: Call) -> Value:
    import keras

    layer = call.operation
    if layer.mean is None:
        call.assembly.refuse(call.at, "has neither been adapted to data nor built.")
    mean = constant(layer.mean)
    deviation = np.maximum(np.sqrt(constant(layer.variance)), keras.config.epsilon())
    if layer.invert:
        return call.affine(call.of, deviation, mean)
    return call.affine(call.of, 1 / deviation, -mean / deviation)


def _batch_normalization(call: Call) -> Value:
    layer = call.operation
    given = (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
    parts = [None if part is None else constant(part) for part in given]
    return call.batch_norm(call.of, layer.axis, layer.epsilon, parts)


def _rescaling(call: Call) -> Value:
    import keras

    scale, offset = constant(call.scale), constant(call.offset)
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        call.no_rule("a scale per channel with channels first")
    return call.affine(call.of, scale, offset)


# --- the same, or not the same --------------------------------------------------------------------


def _cast(call: Call) -> Value:
    dtype = str(call.dtype)
    wide = call.assembly.dtype == np.float64
    if "float" not in dtype or (wide and dtype == "float32"):
        call.no_rule(f"rounding to {dtype}", "Leave it out, or build the model in one dtype.")
    return call.of


MOVES = (
    "BroadcastTo DepthToSpace ExpandDims Flip GetItem Moveaxis Permute Ravel Repeat "
    "Reshape Roll Rot90 SpaceToDepth Split Squeeze Swapaxes Take TakeAlongAxis Tile Transpose Tril "
    "Triu Unstack Diagonal"
)

LAYERS: dict[str, Rule] = {
    "BatchNormalization": _batch_normalization,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
}

OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(MOVES.split(), _move),
    "Pad": _pad,
    "Concatenate": _concatenate,
    "Stack": _stack,
    "Add": _two(Steps.add),
    "Subtract": _two(lambda call, a, b: call.add(a, b, -1.0)),
    "Multiply": _two(Steps.multiply),
    "Divide": _two(Steps.divide),
    "TrueDivide": _two(Steps.divide),
    "Power": _two(Steps.power),
    "Maximum": _two(lambda call, a, b: call.extreme(a, b, 1.0)),
    "Minimum": _two(lambda call, a, b: call.extreme(a, b, -1.0)),
    "Matmul": _two(Steps.matmul),
    "Einsum": _einsum,
    "Where": _where,
    "Mean": _reduced(Steps.mean),
    "Sum": _reduced(Steps.sum),
    "Max": _reduced(Steps.largest),
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "DepthwiseConv": depthwise_convolution,
    "SeparableConv": separable_convolution,
    "MaxPool": pool,
    "AveragePool": pool,
    "AdaptiveAveragePool": adaptive,
    "AdaptiveMaxPool": adaptive,
    "Negative": lambda call: call.affine(call.of, -1.0),
    "Absolute": _fixed("abs"),
    "Abs": _fixed("abs"),
    "Clip": lambda call: call.clamp(call.of, call.x_min, call.x_max),
    "ReLU": _relu,
    "Relu": _fixed("relu"),
    "Relu6": _fixed("relu6"),
    "LeakyRelu": lambda call: call.leaky(call.of, call.negative_slope),
    "Elu": lambda call: call.activate("elu", call.of, alpha=float(call.alpha)),
    "Celu": lambda call: call.activate("celu", call.of, alpha=float(call.alpha)),
    "Selu": _fixed("selu"),
    "Gelu": _gelu,
    "Silu": _fixed("silu"),
    "Sigmoid": _fixed("sigmoid"),
    "HardSigmoid": _fixed("hard_sigmoid"),
    "HardSilu": _hard_swish,
    "HardTanh": _fixed("hard_tanh"),
    "LogSigmoid": lambda call: call.softplus(call.of, -1.0),
    "SoftShrink": lambda call: call.soft_shrink(call.of, float(call.threshold)),
    "TanhShrink": lambda call: call.add(call.of, call.activate("tanh", call.of), -1.0),
    "Glu": lambda call: call.gated(call.of, call.axis),
    "Softplus": _fixed("softplus"),
    "Softsign": _fixed("softsign"),
    "Softmax": _along("softmax"),
    "LogSoftmax": _along("log_softmax"),
    **{
        name.capitalize(): _fixed(name)
        for name in [
            "tanh",
            "exp",
            "sin",
            "cos",
            "square",
            "sqrt",
            "log",
            "log1p",
            "expm1",
            "reciprocal",
            "erf",
        ]
    },
    "BatchNorm": _batch_norm,
    "LayerNorm": _layer_norm,
    "RMSNorm": _rms_norm,
    "Moments": _moments,
    "Normalize": _unit,
    "Rsqrt": lambda call: call.power(call.of, np.array(-0.5)),
    "DotProductAttention": _attention,
    "Cast": _cast,
    "ConvertToTensor": lambda call: call.of,
    "Identity": lambda call: call.of,
}
