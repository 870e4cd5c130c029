"""What PyTorch's operators compute, as steps of a network in the making.

``torch.export`` writes a module as a list of calls of some hundred operators, whatever classes the
module is made of; the table at the end has one rule for each that has a derivative here, and torch
itself rewrites most others in terms of these.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._calls import Call, Rule, along, each, family, fixed, listed, takes
from jacobians.importers._steps import Steps, same_padding
from jacobians.layers import Convolution, Layer, LayerNorm, RMSNorm, TransposedConvolution

IN_TRAINING = "is in training mode, where its output depends on more than its input; .eval() it."
NO_STATISTICS = "keeps no running statistics, so a point's output depends on its batch."


class TorchCall(Call):
    """One call of an operator, with its arguments by name."""

    def constant(self, given: Any) -> Array:
        """Return a tensor or number in float64."""
        return np.asarray(given.numpy() if hasattr(given, "numpy") else given, np.float64)

    def compute(self, array: Any) -> Any:
        """Apply the operator itself to an array, in place of its value."""
        import torch

        name = next(name for name, value in self.arguments.items() if isinstance(value, Value))
        result = self.operator(**{**self.arguments, name: torch.from_numpy(array).double()})
        several = not isinstance(result, torch.Tensor)
        return [part.numpy() for part in result] if several else result.numpy()

    @property
    def axes(self) -> int:
        """How many axes an operator of images works on, which its name says: ``max_pool2d``."""
        return int(next(letter for letter in self.operator._schema.name if letter.isdigit()))

    def with_indices(self, result: Value) -> Any:
        """Return a result, and nothing in place of the indices that some operators give beside."""
        return (result, None) if len(self.operator._schema.returns) > 1 else result

    def require_evaluation(self, training: Any) -> None:
        """Refuse what is random, or depends on the batch, in training."""
        if training:
            self.assembly.refuse(self.at, IN_TRAINING)


def _convolution(call: TorchCall) -> Value:
    """Convolve, or go the other way."""
    K, b = call.operand("weight"), call.operand("bias")
    if isinstance(K, Value) or not isinstance(call["input"], Value):
        call.no_rule("a kernel that depends on the input")
    axes = K.ndim - 2
    stride, dilation = each(call["stride"], axes), each(call["dilation"], axes)
    padding: Any = call["padding"]
    if padding == "same":
        padding = same_padding(K.shape[2:], K.shape[2:], (1,) * axes, dilation)
    padding = (0,) * axes if padding == "valid" else each(padding, axes)
    settings = (K, b, "identity", stride, padding, dilation, call["groups"])
    if call.arguments.get("transposed", "transpose" in call.operator._schema.name):
        layer: Layer = TransposedConvolution(*settings, each(call["output_padding"], axes))
    else:
        layer = Convolution(*settings)
    return call.windows(call["input"], layer)


def _pool(call: TorchCall) -> Any:
    axes, up = call.axes, call["ceil_mode"]
    size = each(call["kernel_size"], axes)
    stride = each(call.arguments.get("stride") or size, axes)
    pads = tuple((p, p) for p in each(call["padding"], axes))
    if "dilation" in call.arguments:
        result = call.pool(call.of, size, stride, pads, each(call["dilation"], axes), up)
        return call.with_indices(result)
    if call.arguments.get("divisor_override"):
        call.no_rule("a mean with a divisor of its own")
    return call.average(call.of, size, stride, pads, call["count_include_pad"], up)


def _adaptive(call: TorchCall) -> Any:
    wanted, largest = each(call["output_size"], call.axes), "max" in call.operator._schema.name
    return call.with_indices(call.adaptive_pool(call.of, wanted, largest))


def _concatenate(call: TorchCall) -> Value:
    parts = [call.as_operand(part) for part in call["tensors"] if prod(part.shape)]
    return call.concatenate(parts, call.arguments.get("dim", 0))


def _pad(call: TorchCall) -> Any:
    fill = call.arguments.get("value")
    if call.arguments.get("mode", "constant") != "constant" or not fill:
        return call.moved()
    import torch

    outside = torch.nn.functional.pad(torch.zeros(call.of.shape), call["pad"], value=1.0)
    call.arguments["value"] = 0.0
    return call.affine(call.moved(), 1.0, outside.numpy() * float(fill))


def _linear(call: TorchCall) -> Value:
    if isinstance(call["weight"], Value):
        call.no_rule("a weight that depends on the input")
    return call.dense(call.of, call.operand("weight"), call.operand("bias"))


def _matmul(call: TorchCall) -> Value:
    a, b = map(call.operand, list(call.arguments)[:2])
    if isinstance(b, Value) and min(len(a.shape), len(b.shape)) < 2:
        call.no_rule(f"a product of shapes {a.shape} and {b.shape}")
    return call.matmul(a, b)


def _add_product(call: TorchCall) -> Value:
    """``beta self + alpha (A B)``, which addmm and baddbmm compute."""
    names = [name for name in call.arguments if name not in ("self", "beta", "alpha")]
    product = call.affine(call.matmul(*map(call.operand, names)), call["alpha"])
    return call.add(product, call.operand("self"), call["beta"]) if call["beta"] else product


def _sum(call: TorchCall) -> Value:
    a, b = call.operand("self"), call.operand("other")
    factor = call.arguments.get("alpha", 1)
    if call.operator._schema.name == "aten::rsub":
        a, b = b, a
    return call.add(a, b, factor if call.operator._schema.name == "aten::add" else -factor)


def _divide(call: TorchCall) -> Value:
    if call.arguments.get("rounding_mode"):
        call.no_rule("division that rounds")
    return call.divide(call.operand("self"), call.operand("other"))


def _reduced(compute: Callable[..., Value]) -> Rule:
    def rule(call: TorchCall) -> Any:
        axes = listed(call.arguments.get("dim")) or None
        keep = call.arguments.get("keepdim", False)
        return call.with_indices(compute(call, call.of, axes, keep))

    return rule


def _norm(call: TorchCall) -> Value:
    if float(call["ord"]) != 2:
        call.no_rule(f"the norm of order {call['ord']:g}")
    square = call.activate("square", call.of)
    return call.activate("sqrt", call.sum(square, listed(call["dim"]), call["keepdim"]))


def _clamp(call: TorchCall) -> Value:
    low, high = (call.operand(name) for name in ("min", "max"))
    if any(isinstance(end, Value) or (end is not None and end.size > 1) for end in (low, high)):
        call.no_rule("limits that are not two numbers")
    return call.clamp(call.of, low, high)


def _hardtanh(call: TorchCall) -> Value:
    low, high = float(call["min_val"]), float(call["max_val"])
    if (low, high) == (0.0, 6.0):
        return call.activate("relu6", call.of)
    return call.clamp(call.of, low, high)


def _prelu(call: TorchCall) -> Value:
    axes = (-1, *[1] * (len(call.of.shape) - 2))
    return call.leaky(call.of, call.operand("weight").reshape(axes))


def _elu(call: TorchCall) -> Value:
    if call["input_scale"] != 1:
        call.no_rule(f"elu with input_scale={call['input_scale']:g}")
    return call.affine(call.activate("elu", call.of, alpha=float(call["alpha"])), call["scale"])


def _softplus(call: TorchCall) -> Value:
    # Above its threshold torch writes x for softplus(x); from 20 on that is the same to 2e-9.
    if call["threshold"] < 20:
        call.no_rule(f"threshold={call['threshold']:g}", "From threshold=20 on it has one.")
    return call.softplus(call.of, float(call["beta"]))


def _batch_norm(call: TorchCall) -> Value:
    if call["running_mean"] is None:
        call.assembly.refuse(call.at, NO_STATISTICS)
    call.require_evaluation(call.arguments.get("training"))
    names = ("running_mean", "running_var", "weight", "bias")
    return call.batch_norm(call["input"], 1, call["eps"], [call.operand(name) for name in names])


def _layer_norm(call: TorchCall) -> Value:
    b = call.operand("bias")
    norm = LayerNorm(_scale(call), None if b is None else b.ravel(), call["eps"])
    return call.norm(call.of, norm)


def _rms_norm(call: TorchCall) -> Value:
    epsilon = np.finfo(call.assembly.dtype).eps if call["eps"] is None else call["eps"]
    return call.norm(call.of, RMSNorm(_scale(call), float(epsilon)))


def _scale(call: TorchCall) -> Any:
    W = call.operand("weight")
    return np.ones(prod(call["normalized_shape"])) if W is None else W.ravel()


def _group_norm(call: TorchCall) -> Value:
    groups = call.arguments.get("num_groups", call.of.shape[1])
    return call.group_norm(
        call.of, groups, call["eps"], call.operand("weight"), call.operand("bias")
    )


def _attention(call: TorchCall) -> Value:
    call.require_evaluation(call["dropout_p"])
    if call.arguments.get("enable_gqa"):
        call.no_rule("attention in groups")
    Q, K, V = map(call.operand, ("query", "key", "value"))
    mask: Any = call["attn_mask"]
    if call["is_causal"]:
        mask = np.tri(Q.shape[-2], K.shape[-2], dtype=bool)
    elif mask is not None and not isinstance(mask, Value):
        mask = mask.numpy()
    return call.attention(Q, K, V, call.arguments.get("scale") or Q.shape[-1] ** -0.5, mask)


def _dropout(call: TorchCall) -> Any:
    call.require_evaluation(call["train"])
    return call.of


def _cast(call: TorchCall) -> Any:
    import torch

    dtype = call.arguments.get("dtype")
    if isinstance(dtype, torch.dtype):
        wide = torch.float64 if call.assembly.dtype == np.float64 else torch.float32
        if not dtype.is_floating_point or torch.promote_types(dtype, wide) != dtype:
            call.no_rule(f"rounding to {dtype}", "Leave it out, or convert the whole module.")
    return call.of


def _detach(call: TorchCall) -> Value:
    call.no_rule(
        "detach, after which torch's derivative is no longer that of the value,", "Leave it out."
    )


MOVES = (
    "alias as_strided channel_shuffle chunk clone constant_pad_nd contiguous diagonal expand "
    "expand_as flatten flip fliplr flipud gather im2col index index_select lift_fresh movedim "
    "narrow numpy_T permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d "
    "reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d "
    "replication_pad3d reshape roll rot90 select slice split split_with_sizes squeeze swapaxes t "
    "take tensor_split tile transpose tril triu unbind unflatten unfold unsqueeze "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d view view_as _unsafe_view "
    "_reshape_alias moveaxis mT adjoint matrix_H hsplit vsplit dsplit"
)

_POOLS = "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d"
_POOLS += " max_pool2d_with_indices max_pool3d_with_indices"
_ADAPTIVE = "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d"
_ADAPTIVE += " _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"
_SAME_NAMES = "relu relu6 selu silu mish sigmoid tanh exp log sin cos square sqrt reciprocal"
_maximum, _largest = takes(Steps.maximum, "self other"), _reduced(Steps.largest)

RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES.split(), TorchCall.moved),
    **dict.fromkeys(("cat", "concat"), _concatenate),
    "stack": lambda call: call.stack(list(map(call.as_operand, call["tensors"])), call["dim"]),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _add_product),
    "mean": _reduced(Steps.mean),
    "sum": _reduced(Steps.sum),
    "amax": _largest,
    "linalg_vector_norm": _norm,
    "max": lambda call: (_maximum if "other" in call.arguments else _largest)(call),
    "convolution": _convolution,
    **dict.fromkeys((f"conv{n}d" for n in (1, 2, 3)), _convolution),
    **dict.fromkeys((f"conv_transpose{n}d" for n in (1, 2, 3)), _convolution),
    **dict.fromkeys(_POOLS.split(), _pool),
    **dict.fromkeys(_ADAPTIVE.split(), _adaptive),
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    "mul": takes(Steps.multiply, "self other"),
    **dict.fromkeys(("div", "true_divide"), _divide),
    "neg": lambda call: call.affine(call.of, -1.0),
    "pow": takes(Steps.power, "self exponent"),
    "maximum": _maximum,
    "minimum": takes(Steps.minimum, "self other"),
    "where": takes(Steps.choose, "condition self other"),
    "masked_fill": takes(Steps.choose, "mask value self"),
    **{name: fixed(name) for name in (*_SAME_NAMES.split(), "erf", "abs", "sign", "floor")},
    "hardsigmoid": fixed("hard_sigmoid"),
    **dict.fromkeys(("softmax", "_softmax"), along("softmax", "dim")),
    **dict.fromkeys(("log_softmax", "_log_softmax"), along("log_softmax", "dim")),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _clamp),
    "hardtanh": _hardtanh,
    "leaky_relu": takes(Steps.leaky, "self negative_slope"),
    **dict.fromkeys(("prelu", "_prelu_kernel"), _prelu),
    "elu": _elu,
    "celu": family("celu", "alpha"),
    "gelu": lambda call: call.gelu(call.of, call["approximate"] != "none"),
    "softplus": _softplus,
    "log_sigmoid": lambda call: call.softplus(call.of, -1.0),
    "softshrink": lambda call: call.soft_shrink(call.of, float(call["lambd"])),
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": lambda call: (_batch_norm(call),),
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": lambda call: (_group_norm if call["use_input_stats"] else _batch_norm)(call),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"), _dropout
    ),
    **dict.fromkeys(("to", "_to_copy"), _cast),
    "type_as": lambda call: call.of,
    "detach": _detach,
}
