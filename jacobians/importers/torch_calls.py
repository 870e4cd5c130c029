"""A call of one of PyTorch's operators, and those that move windows over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np

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
    """One call of an operator, with its arguments by name."""

    operator: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def operand(self, name: str) -> Any:
        """Return an argument as a value, an array in float64, or None."""
        given = self.arguments.get(name)
        if given is None or isinstance(given, Value):
            return given
        return np.asarray(given.numpy() if hasattr(given, "numpy") else given, np.float64)

    def require_evaluation(self, training: Any) -> None:
        """Refuse what is random, or depends on the batch, in training."""
        if training:
            self.assembly.refuse(
                self.at,
                "is in training mode, where its output depends on more than its input; .eval() it.",
            )


LARGEST = 2**24  # entries of a matrix that is written out to be read


Rule: TypeAlias = "Callable[[Call], Any]"


def convolution(call: Call) -> Value:
    """Convolve, or go the other way."""
    K, b = call.operand("weight"), call.operand("bias")
    if isinstance(K, Value) or not isinstance(call["input"], Value):
        call.no_rule("a kernel that depends on the input")
    axes = K.ndim - 2
    stride, padding, dilation = (
        each(call, name, axes) for name in ("stride", "padding", "dilation")
    )
    groups, packet = call["groups"], call.operator._schema.name
    if call.arguments.get("transposed", "transpose" in packet):
        more = each(call, "output_padding", axes)
        layer: Layer = TransposedConvolution(
            K, b, "identity", stride, padding, dilation, groups, more
        )
    else:
        layer = Convolution(K, b, "identity", stride, padding, dilation, groups)
    return call.windows(call["input"], layer)


def each(call: Call, name: str, axes: int) -> Any:
    """Return a setting for every axis; padding="same" is what keeps the size, a stride of 1."""
    given = call.arguments.get(name, 0)
    if given == "valid":
        return (0,) * axes
    if given == "same":
        size = call["weight"].shape[2:]
        total = [d * (k - 1) for d, k in zip(each(call, "dilation", axes), size, strict=True)]
        return tuple((n // 2, n - n // 2) for n in total)
    given = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    return given * axes if len(given) == 1 else given


def pool(axes: int, largest: bool) -> Rule:
    """Make the rule of a pool over so many axes."""

    def rule(call: Call) -> Any:
        grid = call["self"].shape[-axes:]
        size, padding = each(call, "kernel_size", axes), each(call, "padding", axes)
        stride = each(call, "stride", axes) if call.arguments.get("stride") else size
        dilation = each(call, "dilation", axes) if largest else (1,) * axes
        pads = []
        for n, k, s, p, d in zip(grid, size, stride, padding, dilation, strict=True):
            left = n + 2 * p - (k - 1) * d - 1
            more = -left % s if call["ceil_mode"] else 0
            # a last window that would begin in the padding is left out
            pads.append((p, p + more if (left + more) // s * s < n + p else p))
        if largest:
            result = call.windows(call["self"], MaxPool(size, stride, tuple(pads), dilation))
            return (result, None) if len(call.operator._schema.returns) > 1 else result
        if any(a != b for a, b in pads) or call.arguments.get("divisor_override"):
            call.no_rule("a mean over windows that are cut off, or with a divisor of its own,")
        counted = call["count_include_pad"]
        return call.windows(call["self"], AveragePool(size, stride, tuple(pads), counted))

    return rule


def adaptive(axes: int, largest: bool) -> Rule:
    """Make the rule of a pool to a wanted number of positions."""

    def rule(call: Call) -> Any:
        grid = call["self"].shape[-axes:]
        wanted = each(call, "output_size", axes)
        if any(n % m for n, m in zip(grid, wanted, strict=True)):
            return call.no_rule("pooling of unequal windows") if largest else per_channel(call)
        size = tuple(n // m for n, m in zip(grid, wanted, strict=True))
        result = call.windows(call["self"], (MaxPool if largest else AveragePool)(size))
        return (result, None) if len(call.operator._schema.returns) > 1 else result

    return rule


def per_channel(call: Call) -> Value:
    """Find the matrix of a linear operator that does the same to each channel, entry by entry."""
    import torch

    (name,) = (name for name, value in call.arguments.items() if isinstance(value, Value))
    of = call[name]
    grid = of.shape[2:]
    if prod(grid) ** 2 > LARGEST:
        call.no_rule(f"on an image of {prod(grid)} entries")
    basis = torch.eye(prod(grid), dtype=torch.float64).reshape(-1, 1, *grid)
    images = call.operator(**{**call.arguments, name: basis}).numpy()
    return call.weighted(of, images.reshape(prod(grid), -1).T, (*of.shape[:2], *images.shape[2:]))
