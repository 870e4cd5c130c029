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

from jacobians.importers._assembly import Value
from jacobians.importers._steps import Steps
from jacobians.importers.torch_calls import Call, Rule, adaptive, convolution, per_channel, pool
from jacobians.layers import (
    LayerNorm,
    RMSNorm,
)

# --- entries that only move -----------------------------------------------------------------------


def _move(call: Call) -> Any:
    """Let the operator itself say where each entry goes: give it their numbers, from 1 on."""
    import torch

    (name,) = (name for name, value in call.arguments.items() if isinstance(value, Value))
    of = call[name]
    numbers = torch.from_numpy(call.numbers(of) + 1.0)
    moved = call.operator(**{**call.arguments, name: numbers})
    if isinstance(moved, torch.Tensor):
        return call.move(of, moved.numpy().astype(np.intp) - 1)
    return tuple(call.move(of, part.numpy().astype(np.intp) - 1) for part in moved)


def _concatenate(call: Call) -> Value:
    parts = [part for part in call["tensors"] if prod(part.shape)]
    return call.concatenate(parts, call.arguments.get("dim", 0))


def _stack(call: Call) -> Value:
    dim = call["dim"] % (len(call["tensors"][0].shape) + 1)
    parts = [call.as_value(part) for part in call["tensors"]]
    shape = (*parts[0].shape[:dim], 1, *parts[0].shape[dim:])
    return call.concatenate([part.reshaped(shape) for part in parts], dim)


def _pad(call: Call) -> Value:
    fill = call.arguments.get("value")
    if call.arguments.get("mode", "constant") != "constant" or not fill:
        return _move(call)  # type: ignore[no-any-return]
    import torch

    outside = torch.nn.functional.pad(torch.zeros(call["self"].shape), call["pad"], value=1.0)
    call.arguments["value"] = 0.0
    return call.affine(_move(call), 1.0, outside.numpy() * float(fill))


# --- arithmetic -----------------------------------------------------------------------------------


def _linear(call: Call) -> Value:
    if not isinstance(call["input"], Value) or isinstance(call["weight"], Value):
        call.no_rule("a weight that depends on the input")
    return call.dense(call["input"], call.operand("weight"), call.operand("bias"))


def _matmul(call: Call) -> Value:
    return call.matmul(*(call.operand(name) for name in list(call.arguments)[:2]))


def _add_product(call: Call) -> Value:
    """``beta self + alpha (A B)``, which addmm and baddbmm compute."""
    names = [name for name in call.arguments if name not in ("self", "beta", "alpha")]
    product = call.affine(call.matmul(*(call.operand(name) for name in names)), call["alpha"])
    return call.add(product, call.operand("self"), call["beta"]) if call["beta"] else product


def _add(call: Call) -> Value:
    return call.add(call.operand("self"), call.operand("other"), call.arguments.get("alpha", 1))


def _subtract(call: Call) -> Value:
    return call.add(call.operand("self"), call.operand("other"), -call.arguments.get("alpha", 1))


def _reversed_subtract(call: Call) -> Value:
    return call.add(call.operand("other"), call.operand("self"), -call.arguments.get("alpha", 1))


def _divide(call: Call) -> Value:
    if call.arguments.get("rounding_mode"):
        call.no_rule("division that rounds")
    return call.divide(call.operand("self"), call.operand("other"))


def _where(call: Call) -> Value:
    if isinstance(call["condition"], Value):
        call.no_rule("a choice that depends on the input")
    return call.choose(call.operand("condition"), call.operand("self"), call.operand("other"))


def _masked_fill(call: Call) -> Value:
    return call.choose(call.operand("mask"), call.operand("value"), call.operand("self"))


def _reduced(compute: Callable[..., Value]) -> Rule:
    def rule(call: Call) -> Any:
        dim = call.arguments.get("dim")
        axes = [dim] if isinstance(dim, int) else (dim or None)
        result = compute(call, call["self"], axes, call.arguments.get("keepdim", False))
        several = len(call.operator._schema.returns) > 1
        return (result, None) if several else result

    return rule


def _norm(call: Call) -> Value:
    order, axes = float(call["ord"]), call.arguments.get("dim")
    of, keep = call["self"], call.arguments.get("keepdim", False)
    if order == 1:
        return call.sum(call.activate("abs", of), axes, keep)
    if order != 2:
        call.no_rule(f"the norm of order {order:g}")
    return call.activate("sqrt", call.sum(call.activate("square", of), axes, keep))


# --- windows --------------------------------------------------------------------------------------


# --- activations ----------------------------------------------------------------------------------


def _fixed(name: str) -> Rule:
    return lambda call: call.activate(name, call["self"])


def _along(name: str) -> Rule:
    return lambda call: call.activate(name, call["self"], axis=call["dim"])


def _clamp(call: Call) -> Value:
    low, high = (call.operand(name) for name in ("min", "max"))
    if any(isinstance(end, Value) or (end is not None and end.size > 1) for end in (low, high)):
        call.no_rule("limits that are not two numbers")
    return call.clamp(call["self"], low, high)


def _hardtanh(call: Call) -> Value:
    low, high = float(call["min_val"]), float(call["max_val"])
    if (low, high) == (0.0, 6.0):
        return call.activate("relu6", call["self"])
    return call.clamp(call["self"], low, high)


def _leaky_relu(call: Call) -> Value:
    return call.leaky(call["self"], call["negative_slope"])


def _rrelu(call: Call) -> Value:
    call.require_evaluation(call["training"])
    return call.leaky(call["self"], (call["lower"] + call["upper"]) / 2)


def _prelu(call: Call) -> Value:
    axes = (-1, *[1] * (len(call["self"].shape) - 2))
    return call.leaky(call["self"], call.operand("weight").reshape(axes))


def _elu(call: Call) -> Value:
    if call["input_scale"] != 1:
        call.no_rule(f"elu with input_scale={call['input_scale']:g}")
    return call.affine(
        call.activate("elu", call["self"], alpha=float(call["alpha"])), call["scale"]
    )


def _gelu(call: Call) -> Value:
    return call.activate("gelu" if call["approximate"] == "none" else "gelu_tanh", call["self"])


def _softplus(call: Call) -> Value:
    # Above its threshold torch writes x for softplus(x); from 20 on that is the same to 2e-9.
    if call["threshold"] < 20:
        call.no_rule(f"threshold={call['threshold']:g}", "From threshold=20 on it has one.")
    return call.softplus(call["self"], float(call["beta"]))


def _threshold(call: Call) -> Value:
    if (call["threshold"], call["value"]) != (0, 0):
        call.no_rule("a threshold, where it jumps,")
    return call.activate("relu", call["self"])


def _hard_swish(call: Call) -> Value:
    return call.multiply(call["self"], call.activate("hard_sigmoid", call["self"]))


# --- norms and attention --------------------------------------------------------------------------


def _batch_norm(call: Call) -> Value:
    if call["running_mean"] is None:
        call.assembly.refuse(
            call.at, "keeps no running statistics, so a point's output depends on its batch."
        )
    call.require_evaluation(call.arguments.get("training"))
    names = ("running_mean", "running_var", "weight", "bias")
    return call.batch_norm(call["input"], 1, call["eps"], [call.operand(name) for name in names])


def _layer_norm(call: Call) -> Value:
    d = prod(call["normalized_shape"])
    W, b = call.operand("weight"), call.operand("bias")
    W = np.ones(d) if W is None else W.ravel()
    return call.norm(call["input"], LayerNorm(W, None if b is None else b.ravel(), call["eps"]))


def _rms_norm(call: Call) -> Value:
    W = call.operand("weight")
    W = np.ones(prod(call["normalized_shape"])) if W is None else W.ravel()
    epsilon = np.finfo(call.assembly.dtype).eps if call["eps"] is None else call["eps"]
    return call.norm(call["input"], RMSNorm(W, float(epsilon)))


def _group_norm(call: Call, groups: int | None = None) -> Value:
    of = call["input"]
    rows = np.ones(of.size // (groups or call["num_groups"]))
    normal = call.norm(of, LayerNorm(rows, None, call["eps"]))
    parts = (None, None, call.operand("weight"), call.operand("bias"))
    return call.batch_norm(normal, 1, 0.0, parts)


def _instance_norm(call: Call) -> Value:
    return (
        _group_norm(call, call["input"].shape[1]) if call["use_input_stats"] else _batch_norm(call)
    )


def _attention(call: Call) -> Value:
    call.require_evaluation(call["dropout_p"])
    if call.arguments.get("enable_gqa"):
        call.no_rule("attention in groups")
    Q, K, V = (call.operand(name) for name in ("query", "key", "value"))
    mask: Any = call["attn_mask"]
    if call["is_causal"]:
        mask = np.tri(Q.shape[-2], K.shape[-2], dtype=bool)
    elif mask is not None and not isinstance(mask, Value):
        mask = mask.numpy()
    return call.attention(Q, K, V, call.arguments.get("scale") or Q.shape[-1] ** -0.5, mask)


# --- the same, or not the same --------------------------------------------------------------------


def _nothing(call: Call) -> Any:
    return call.arguments.get("self", call.arguments.get("input"))


def _dropout(call: Call) -> Any:
    call.require_evaluation(call["train"])
    return call["input"]


def _cast(call: Call) -> Any:
    import torch

    dtype = call.arguments.get("dtype")
    if isinstance(dtype, torch.dtype):
        wide = torch.float64 if call.assembly.dtype == np.float64 else torch.float32
        if not dtype.is_floating_point or torch.promote_types(dtype, wide) != dtype:
            call.no_rule(f"rounding to {dtype}", "Leave it out, or convert the whole module.")
    return _nothing(call)


def _detach(call: Call) -> Value:
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

RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES.split(), _move),
    "cat": _concatenate,
    "concat": _concatenate,
    "stack": _stack,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _add_product),
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": lambda call: (_batch_norm(call),),
    "mean": _reduced(Steps.mean),
    "sum": _reduced(Steps.sum),
    "amax": _reduced(Steps.largest),
    "max": _reduced(Steps.largest),
    "linalg_vector_norm": _norm,
    "bilinear": lambda call: call.bilinear(
        call["input1"], call["input2"], call.operand("weight"), call.operand("bias")
    ),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), convolution),
    **{f"avg_pool{n}d": pool(n, largest=False) for n in (1, 2, 3)},
    **{f"max_pool{n}d": pool(n, largest=True) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": pool(n, largest=True) for n in (2, 3)},
    **{f"adaptive_avg_pool{n}d": adaptive(n, largest=False) for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": adaptive(n, largest=False) for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": adaptive(n, largest=True) for n in (1, 2, 3)},
    **{
        f"upsample_{kind}": per_channel
        for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
    },
    "add": _add,
    "sub": _subtract,
    "rsub": _reversed_subtract,
    "mul": lambda call: call.multiply(call.operand("self"), call.operand("other")),
    "div": _divide,
    "true_divide": _divide,
    "neg": lambda call: call.affine(call["self"], -1.0),
    "square": _fixed("square"),
    "pow": lambda call: call.power(call.operand("self"), call.operand("exponent")),
    "maximum": lambda call: call.extreme(call.operand("self"), call.operand("other"), 1.0),
    "minimum": lambda call: call.extreme(call.operand("self"), call.operand("other"), -1.0),
    "where": _where,
    "masked_fill": _masked_fill,
    **{
        name: _fixed(name)
        for name in ("relu", "selu", "silu", "mish", "sigmoid", "tanh", "exp", "sin", "relu6")
    },
    **{name: _fixed(name) for name in ("sqrt", "log", "cos", "reciprocal", "erf", "sign", "floor")},
    "hardsigmoid": _fixed("hard_sigmoid"),
    "softmax": _along("softmax"),
    "_softmax": _along("softmax"),
    "log_softmax": _along("log_softmax"),
    "_log_softmax": _along("log_softmax"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "rrelu": _rrelu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "elu": _elu,
    "celu": lambda call: call.activate("celu", call["self"], alpha=float(call["alpha"])),
    "gelu": _gelu,
    "softplus": _softplus,
    "log_sigmoid": lambda call: call.softplus(call["self"], -1.0),
    "hardswish": _hard_swish,
    "softshrink": lambda call: call.soft_shrink(call["self"], float(call["lambd"])),
    "threshold": _threshold,
    "glu": lambda call: call.gated(call["self"], call["dim"]),
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"), _dropout
    ),
    "to": _cast,
    "_to_copy": _cast,
    "type_as": _nothing,
    "detach": _detach,
}
