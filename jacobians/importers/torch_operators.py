"""What PyTorch's operators compute, as steps of a network in the making.

``torch.export`` writes a module as a list of calls of some hundred operators, whatever classes the
module is made of; the table at the end has one rule for each that has a derivative here, and torch
itself rewrites most others in terms of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Assembly, Value
from jacobians.layers import LayerNorm, RMSNorm

NOWHERE = -(2.0**100)  # stands for -inf in front of softmax, whose exp of either is 0


@dataclass
class Call:
    """One call of an operator: its arguments by name, in float64 where they are constants."""

    assembly: Assembly
    at: str
    operator: Any
    arguments: dict[str, Any]
    traits: dict[Value, tuple[str, Value]]  # what a value was computed by, where that matters

    def __getattr__(self, name: str) -> Any:
        try:
            return self.arguments[name]
        except KeyError:
            raise AttributeError(name) from None

    def array(self, name: str, default: float | None = None) -> Any:
        """Return a constant argument as an array, or None."""
        value = self.arguments.get(name)
        if value is None:
            return default
        return np.asarray(value.numpy() if hasattr(value, "numpy") else value, np.float64)

    def no_rule(self, what: str, way_out: str = "") -> Any:
        """Refuse the call."""
        return self.assembly.no_rule(self.at, what, way_out)

    def activate(self, name: str, of: Value | None = None, **options: Any) -> Value:
        """Apply an activation to a value, the argument ``self`` unless said."""
        of = self.arguments["self"] if of is None else of
        return self.assembly.activate(name, at=self.at, of=of, **options)

    def scale(self, of: Value, scale: Any = 1.0, shift: Any = 0.0) -> Value:
        """Multiply by a constant and add one, which may be of a larger shape."""
        scale, shift = (np.asarray(part, np.float64) for part in (scale, shift))
        shape = np.broadcast_shapes(of.shape, scale.shape, shift.shape)
        hidden = shift == -inf
        if hidden.any():
            scale, shift = np.where(hidden, 0.0, scale), np.where(hidden, NOWHERE, shift)
        if shape != of.shape:
            entries = np.arange(of.size).reshape(of.shape)
            of = self.assembly.move(np.broadcast_to(entries, shape), at=self.at, of=of)
        return self.assembly.scale(scale, shift, at=self.at, of=of)


Rule = Callable[[Call], Any]


# --- entries that only move -----------------------------------------------------------------------


def _move(call: Call) -> Any:
    """Let the operator itself say where each entry goes: give it their numbers, from 1 on."""
    import torch

    (name,) = (name for name, value in call.arguments.items() if isinstance(value, Value))
    of = call.arguments[name]
    numbers = torch.arange(1.0, of.size + 1, dtype=torch.float64).reshape(of.shape)
    moved = call.operator(**{**call.arguments, name: numbers})
    if isinstance(moved, torch.Tensor):
        return _moved(call, of, moved)
    return tuple(_moved(call, of, part) for part in moved)


def _moved(call: Call, of: Value, numbers: Any) -> Value:
    return call.assembly.move(numbers.numpy().astype(np.intp) - 1, at=call.at, of=of)


def _concatenate(call: Call) -> Value:
    values = [_as_value(call, tensor) for tensor in call.tensors if _size(tensor)]
    return call.assembly.concatenate(values, call.arguments.get("dim", 0), at=call.at)


def _stack(call: Call) -> Value:
    values = [_as_value(call, tensor) for tensor in call.tensors]
    dim = call.dim % (len(values[0].shape) + 1)
    shape = values[0].shape
    values = [value.reshaped((*shape[:dim], 1, *shape[dim:])) for value in values]
    return call.assembly.concatenate(values, dim, at=call.at)


def _size(tensor: Any) -> int:
    return prod(tensor.shape)


def _as_value(call: Call, tensor: Any) -> Value:
    """Return a constant as a value: nothing of the input, and the constant added."""
    if isinstance(tensor, Value):
        return tensor
    nothing = np.full(tuple(tensor.shape), -1)
    return call.scale(call.assembly.move(nothing, at=call.at, of=Value(0, (1,))), 1.0, tensor)


def _pad(call: Call) -> Value:
    if call.arguments.get("mode", "constant") != "constant" or not call.arguments.get("value"):
        return _move(call)
    import torch

    shape = call.self.shape
    outside = torch.nn.functional.pad(torch.zeros(shape), call.pad, value=1.0).numpy()
    call.arguments["value"] = value = call.arguments["value"]
    padded = _move(Call(call.assembly, call.at, call.operator, {**call.arguments, "value": 0.0}, {}))
    return call.scale(padded, 1.0, outside * value)


# --- affine ---------------------------------------------------------------------------------------


def _linear(call: Call) -> Value:
    if not isinstance(call.input, Value) or isinstance(call.weight, Value):
        call.no_rule("a weight that depends on the input")
    return _affine(call, call.input, call.array("weight"), call.array("bias"))


def _affine(call: Call, of: Value, W: Array, b: Array | None) -> Value:
    return call.assembly.dense(np.atleast_2d(W), b, at=call.at, of=of)


def _matmul(call: Call) -> Value:
    A, B = (call.arguments[name] for name in list(call.arguments)[:2])
    if isinstance(A, Value) and isinstance(B, Value):
        if min(len(A.shape), len(B.shape)) < 2:
            call.no_rule(f"a product of shapes {A.shape} and {B.shape}")
        return call.assembly.matmul(A, B, at=call.at)
    if isinstance(A, Value):
        W = B.numpy()
        if W.ndim > 2:
            return call.assembly.matmul(A, _as_value(call, B), at=call.at)
        product = _affine(call, A, W.T, None)
        return product if W.ndim == 2 else product.reshaped(product.shape[:-1])
    if A.ndim != 2 or len(B.shape) != 2:
        if min(A.ndim, len(B.shape)) < 2:
            call.no_rule(f"a product of shapes {tuple(A.shape)} and {B.shape}")
        return call.assembly.matmul(_as_value(call, A), B, at=call.at)
    return _transposed(call, _affine(call, _transposed(call, B), A.numpy(), None))


def _transposed(call: Call, of: Value) -> Value:
    numbers = np.arange(of.size).reshape(of.shape)
    return call.assembly.move(np.swapaxes(numbers, -1, -2), at=call.at, of=of)


def _add_product(call: Call) -> Value:
    """``beta self + alpha (A B)``, which addmm and baddbmm compute."""
    names = [name for name in call.arguments if name not in ("self", "beta", "alpha")]
    product = _matmul(Call(call.assembly, call.at, None, {n: call.arguments[n] for n in names}, {}))
    product = call.scale(product, call.alpha)
    if isinstance(call.self, Value):
        return call.assembly.add(product, call.scale(call.self, call.beta), at=call.at)
    return call.scale(product, 1.0, call.beta * call.array("self")) if call.beta else product


def _batch_norm(call: Call) -> Value:
    if call.running_mean is None:
        call.assembly.refuse(
            call.at, "keeps no running statistics, so a point's output depends on its batch."
        )
    _require_evaluation(call, call.arguments.get("training"))
    axes = (-1, *[1] * (len(call.input.shape) - 2))
    parts = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (
        np.reshape(call.array(name, default), axes if call.arguments[name] is not None else ())
        for name, default in zip(parts, (0.0, 1.0, 1.0, 0.0), strict=True)
    )
    scale = weight / np.sqrt(variance + call.eps)
    return call.scale(call.input, scale, bias - mean * scale)


def _mean(call: Call) -> Value:
    return _reduced(call, average=True)


def _sum(call: Call) -> Value:
    return _reduced(call, average=False)


def _reduced(call: Call, average: bool) -> Value:
    """Sum over some axes: bring them to the end, and multiply by a row of ones."""
    of, dims, keep = call.self, call.arguments.get("dim"), call.arguments.get("keepdim", False)
    axes = sorted(d % len(of.shape) for d in (dims if dims else range(len(of.shape))))
    rest = [k for k in range(len(of.shape)) if k not in axes]
    count = prod(of.shape[k] for k in axes)
    numbers = np.arange(of.size).reshape(of.shape).transpose(*rest, *axes)
    rows = call.assembly.move(numbers.reshape(-1, count), at=call.at, of=of)
    W = np.full((1, count), 1 / count if average else 1.0)
    kept = [1 if k in axes else n for k, n in enumerate(of.shape) if keep or k not in axes]
    return _affine(call, rows, W, None).reshaped(kept)


# --- arithmetic -----------------------------------------------------------------------------------


def _add(call: Call) -> Value:
    return _sum_of(call, 1.0)


def _subtract(call: Call) -> Value:
    return _sum_of(call, -1.0)


def _sum_of(call: Call, sign: float) -> Value:
    a, b, alpha = call.self, call.other, sign * call.arguments.get("alpha", 1)
    if isinstance(a, Value) and isinstance(b, Value):
        return call.assembly.add(a, call.scale(b, alpha) if alpha != 1 else b, at=call.at)
    if isinstance(a, Value):
        shift = alpha * call.array("other")
        result = call.scale(a, 1.0, shift)
        if call.traits.get(a, ("",))[0] == "abs" and shift.ndim == 0 and shift == 1:
            call.traits[result] = ("1 + abs", call.traits[a][1])
        return result
    return call.scale(b, alpha, call.array("self"))


def _reversed_subtract(call: Call) -> Value:
    if isinstance(call.other, Value):
        call.no_rule("rsub of two values")
    return call.scale(call.self, -call.arguments.get("alpha", 1), call.array("other"))


def _multiply(call: Call) -> Value:
    a, b = call.self, call.other
    if isinstance(a, Value) and isinstance(b, Value):
        return call.activate("square", a) if a == b else call.assembly.multiply(a, b, at=call.at)
    return call.scale(a, call.array("other")) if isinstance(a, Value) else call.scale(b, call.array("self"))


def _divide(call: Call) -> Value:
    a, b = call.self, call.other
    if call.arguments.get("rounding_mode"):
        call.no_rule("division that rounds")
    if not isinstance(b, Value):
        return call.scale(a, 1 / call.array("other"))
    if call.traits.get(b) == ("1 + abs", a):
        return call.activate("softsign", a)
    inverse = call.activate("reciprocal", b)
    if isinstance(a, Value):
        return call.assembly.multiply(a, inverse, at=call.at)
    return call.scale(inverse, call.array("self"))


def _power(call: Call) -> Value:
    exponent = call.exponent
    if isinstance(exponent, Value) or not isinstance(call.self, Value):
        call.no_rule("a power with an exponent that depends on the input")
    exponent = float(exponent)
    if exponent in (1.0, 2.0, 0.5, -1.0):
        names = {1.0: "identity", 2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
        return call.activate(names[exponent])
    if exponent in (3.0, 4.0):
        square = call.activate("square")
        if exponent == 4:
            return call.activate("square", square)
        return call.assembly.multiply(square, call.self, at=call.at)
    return call.no_rule(f"the power {exponent:g}")


def _absolute(call: Call) -> Value:
    result = call.activate("leaky_relu", slope=-1.0)
    call.traits[result] = ("abs", call.self)
    return result


def _larger(call: Call) -> Value:
    """``max(a, b) = b + relu(a - b)``; both may be values, or one constant."""
    return _extreme(call, 1.0)


def _smaller(call: Call) -> Value:
    return _extreme(call, -1.0)


def _extreme(call: Call, sign: float) -> Value:
    a, b = (_as_value(call, call.arguments[name]) for name in ("self", "other"))
    difference = call.assembly.add(call.scale(a, sign), call.scale(b, -sign), at=call.at)
    return call.assembly.add(b, call.scale(call.activate("relu", difference), sign), at=call.at)


def _where(call: Call) -> Value:
    if isinstance(call.condition, Value):
        call.no_rule("a choice that depends on the input")
    return _chosen(call, call.array("condition"), call.self, call.other)


def _masked_fill(call: Call) -> Value:
    return _chosen(call, call.array("mask"), call.value, call.self)


def _chosen(call: Call, choice: Array, yes: Any, no: Any) -> Value:
    """Multiply each of two values, or constants, by where it is chosen, and add them."""
    choice = choice != 0
    shift: Any = 0.0
    values = []
    for source, chosen in ((yes, choice), (no, ~choice)):
        if isinstance(source, Value):
            values.append(call.scale(source, chosen.astype(float)))
        else:
            constant = source.numpy() if hasattr(source, "numpy") else source
            shift = np.where(chosen, constant, shift)
    if len(values) == 2:
        return call.assembly.add(*values, at=call.at)
    scale = (~choice if values and isinstance(no, Value) else choice).astype(float)
    return call.scale(no if isinstance(no, Value) else yes, scale, shift)


# --- activations ----------------------------------------------------------------------------------


def _fixed(name: str) -> Rule:
    return lambda call: call.activate(name)


def _along(name: str) -> Rule:
    return lambda call: call.activate(name, axis=call.dim)


def _clamp(call: Call) -> Value:
    low, high = (call.arguments.get(name) for name in ("min", "max"))
    if isinstance(low, Value) or isinstance(high, Value):
        call.no_rule("limits that depend on the input")
    low, high = (None if end is None or abs(end) == inf else float(end) for end in (low, high))
    if low is not None and high is not None:
        return call.activate("hard_tanh", low=low, high=high)
    if low is not None:
        return call.scale(call.activate("relu", call.scale(call.self, 1.0, -low)), 1.0, low)
    if high is not None:
        return call.scale(call.activate("relu", call.scale(call.self, -1.0, high)), -1.0, high)
    return call.self


def _hardtanh(call: Call) -> Value:
    low, high = float(call.min_val), float(call.max_val)
    if (low, high) == (0.0, 6.0):
        return call.activate("relu6")
    call.arguments.update(min=low, max=high)
    return _clamp(call)


def _leaky_relu(call: Call) -> Value:
    return call.activate("leaky_relu", slope=float(call.negative_slope))


def _rrelu(call: Call) -> Value:
    _require_evaluation(call, call.training)
    return call.activate("leaky_relu", slope=(call.lower + call.upper) / 2)


def _prelu(call: Call) -> Value:
    """``relu(x) - slope relu(-x)``, where the slopes differ."""
    slopes = call.array("weight")
    if len(np.unique(slopes)) == 1:
        return call.activate("leaky_relu", slope=float(slopes.flat[0]))
    slopes = slopes.reshape(-1, *[1] * (len(call.self.shape) - 2))
    below = call.scale(call.activate("relu", call.scale(call.self, -1.0)), -slopes)
    return call.assembly.add(call.activate("relu"), below, at=call.at)


def _elu(call: Call) -> Value:
    scale, inner = (float(call.arguments[name]) for name in ("scale", "input_scale"))
    if inner != 1:
        call.no_rule(f"elu with input_scale={inner:g}")
    result = call.activate("elu", alpha=float(call.alpha))
    return result if scale == 1 else call.scale(result, scale)


def _celu(call: Call) -> Value:
    return call.activate("celu", alpha=float(call.alpha))


def _gelu(call: Call) -> Value:
    return call.activate("gelu" if call.approximate == "none" else "gelu_tanh")


def _softplus(call: Call) -> Value:
    # Above its threshold torch writes x for softplus(x); from 20 on that is the same to 2e-9.
    beta, threshold = float(call.beta), float(call.threshold)
    if threshold < 20:
        call.no_rule(f"softplus with threshold={threshold:g}", "From threshold=20 on it has one.")
    if beta == 1:
        return call.activate("softplus")
    return call.scale(call.activate("softplus", call.scale(call.self, beta)), 1 / beta)


def _log_sigmoid(call: Call) -> Value:
    return call.scale(call.activate("softplus", call.scale(call.self, -1.0)), -1.0)


def _hard_swish(call: Call) -> Value:
    return call.assembly.multiply(call.self, call.activate("hard_sigmoid"), at=call.at)


def _soft_shrink(call: Call) -> Value:
    """``x - clip(x, -lambda, lambda)``."""
    limit = float(call.lambd)
    clipped = call.activate("hard_tanh", low=-limit, high=limit)
    return call.assembly.add(call.self, call.scale(clipped, -1.0), at=call.at)


def _threshold(call: Call) -> Value:
    if (call.threshold, call.value) != (0, 0):
        call.no_rule("threshold, which jumps,")
    return call.activate("relu")


def _gated(call: Call) -> Value:
    of, dim = call.self, call.dim % len(call.self.shape)
    halves = np.split(np.arange(of.size).reshape(of.shape), 2, axis=dim)
    first, second = (call.assembly.move(half, at=call.at, of=of) for half in halves)
    return call.assembly.multiply(first, call.activate("sigmoid", second), at=call.at)


# --- norms and attention --------------------------------------------------------------------------


def _layer_norm(call: Call) -> Value:
    d = prod(call.normalized_shape)
    W, b = (call.array(name) for name in ("weight", "bias"))
    W = np.ones(d) if W is None else W.ravel()
    norm = LayerNorm(W, None if b is None else b.ravel(), call.eps)
    return _by_rows(call, norm, call.input, d)


def _rms_norm(call: Call) -> Value:
    d = prod(call.normalized_shape)
    W = call.array("weight")
    epsilon = np.finfo(call.assembly.dtype).eps if call.eps is None else call.eps
    norm = RMSNorm(np.ones(d) if W is None else W.ravel(), float(epsilon))
    return _by_rows(call, norm, call.input, d)


def _by_rows(call: Call, norm: LayerNorm | RMSNorm, of: Value, d: int) -> Value:
    rows = of.reshaped((-1, d))
    return call.assembly.apply(norm, rows, at=call.at, shape=of.shape, rows_of=d)


def _group_norm(call: Call, groups: int | None = None) -> Value:
    of = call.input
    d = of.size // (groups or call.num_groups)
    normal = _by_rows(call, LayerNorm(np.ones(d), None, call.eps), of, d)
    axes = (-1, *[1] * (len(of.shape) - 2))
    parts = ((call.array("weight"), 1.0), (call.array("bias"), 0.0))
    W, b = (part if array is None else array.reshape(axes) for array, part in parts)
    return normal if call.weight is None and call.bias is None else call.scale(normal, W, b)


def _instance_norm(call: Call) -> Value:
    if not call.use_input_stats:
        return _batch_norm(call)
    return _group_norm(call, call.input.shape[1])


def _attention(call: Call) -> Value:
    """``softmax(Q Kᵀ / sqrt(d) + mask) V``."""
    import torch

    if call.dropout_p:
        _require_evaluation(call, True)
    Q, K, V = (_as_value(call, call.arguments[name]) for name in ("query", "key", "value"))
    if call.arguments.get("enable_gqa"):
        call.no_rule("grouped attention")
    scale = call.arguments.get("scale") or Q.shape[-1] ** -0.5
    scores = call.assembly.matmul(call.scale(Q, scale), K, at=call.at, transposed=True)
    mask = call.attn_mask
    if call.is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(mask, Value):
        scores = call.assembly.add(scores, mask, at=call.at)
    elif mask is not None:
        mask = mask.numpy()
        hidden = np.where(mask, 0.0, -inf) if mask.dtype == bool else mask
        scores = call.scale(scores, 1.0, hidden)
    return call.assembly.matmul(call.activate("softmax", scores, axis=-1), V, at=call.at)


# --- the same, or not the same --------------------------------------------------------------------


def _nothing(call: Call) -> Any:
    return call.arguments.get("self", call.arguments.get("input"))


def _dropout(call: Call) -> Any:
    _require_evaluation(call, call.train)
    return call.input


def _require_evaluation(call: Call, training: Any) -> None:
    if training:
        call.assembly.refuse(
            call.at,
            "is in training mode, where its output depends on more than its input; .eval() it.",
        )


def _cast(call: Call) -> Value:
    import torch

    dtype = call.arguments.get("dtype")
    if dtype is not None and isinstance(dtype, torch.dtype):
        wide = torch.float64 if call.assembly.dtype == np.float64 else torch.float32
        if not dtype.is_floating_point or torch.promote_types(dtype, wide) != dtype:
            call.no_rule(f"rounding to {dtype}", "Leave it out, or convert the whole module.")
    return _nothing(call)


def _detach(call: Call) -> Value:
    return call.no_rule(
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
    "mean": _mean,
    "sum": _sum,
    "add": _add,
    "sub": _subtract,
    "rsub": _reversed_subtract,
    "mul": _multiply,
    "div": _divide,
    "true_divide": _divide,
    "neg": lambda call: call.scale(call.self, -1.0),
    "square": _fixed("square"),
    "pow": _power,
    "abs": _absolute,
    "maximum": _larger,
    "minimum": _smaller,
    "where": _where,
    "masked_fill": _masked_fill,
    **{
        name: _fixed(name)
        for name in ("relu", "selu", "silu", "mish", "sigmoid", "tanh", "exp", "sin", "relu6")
    },
    **{name: _fixed(name) for name in ("sqrt", "log", "cos", "reciprocal", "erf", "log1p", "expm1")},
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
    "celu": _celu,
    "gelu": _gelu,
    "softplus": _softplus,
    "log_sigmoid": _log_sigmoid,
    "hardswish": _hard_swish,
    "softshrink": _soft_shrink,
    "threshold": _threshold,
    "glu": _gated,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"), _dropout),
    "to": _cast,
    "_to_copy": _cast,
    "type_as": _nothing,
    "detach": _detach,
}
