"""A call of one of PyTorch's operators, and those that move windows over images."""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._calls import Call, Rule, each
from jacobians.importers._steps import same_padding
from jacobians.layers import Convolution, Layer, TransposedConvolution

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

    def each(self, name: str, axes: int) -> tuple[Any, ...]:
        """Return a setting for every axis."""
        return each(self.arguments.get(name, 0), axes)

    def with_indices(self, result: Value) -> Any:
        """Return a result, and nothing in place of the indices that some operators give beside."""
        return (result, None) if len(self.operator._schema.returns) > 1 else result

    def require_evaluation(self, training: Any) -> None:
        """Refuse what is random, or depends on the batch, in training."""
        if training:
            self.assembly.refuse(self.at, IN_TRAINING)


def convolution(call: TorchCall) -> Value:
    """Convolve, or go the other way."""
    K, b = call.operand("weight"), call.operand("bias")
    if isinstance(K, Value) or not isinstance(call["input"], Value):
        call.no_rule("a kernel that depends on the input")
    axes = K.ndim - 2
    stride, dilation = (call.each(name, axes) for name in ("stride", "dilation"))
    padding: Any = call["padding"]
    if padding == "same":
        padding = same_padding(K.shape[2:], K.shape[2:], (1,) * axes, dilation)
    padding = (0,) * axes if padding == "valid" else each(padding, axes)
    settings = (K, b, "identity", stride, padding, dilation, call["groups"])
    if call.arguments.get("transposed", "transpose" in call.operator._schema.name):
        layer: Layer = TransposedConvolution(*settings, call.each("output_padding", axes))
    else:
        layer = Convolution(*settings)
    return call.windows(call["input"], layer)


def pool(axes: int, largest: bool) -> Rule:
    """Make the rule of a pool over so many axes."""

    def rule(call: TorchCall) -> Any:
        size = call.each("kernel_size", axes)
        stride = call.each("stride", axes) if call.arguments.get("stride") else size
        dilation = call.each("dilation", axes) if largest else (1,) * axes
        pads = tuple((p, p) for p in call.each("padding", axes))
        result = call.pool(
            call.of,
            largest,
            size,
            stride,
            pads,
            dilation,
            up=call["ceil_mode"],
            count_padding=call.arguments.get("count_include_pad", False),
            divisor=call.arguments.get("divisor_override"),
        )
        return call.with_indices(result)

    return rule


def adaptive(axes: int, largest: bool) -> Rule:
    """Make the rule of a pool to a wanted number of positions."""

    def rule(call: TorchCall) -> Any:
        wanted = call.each("output_size", axes)
        return call.with_indices(call.adaptive_pool(call.of, wanted, largest))

    return rule
