"""What the rules of ONNX operators work on: a node with its operands, and the chain so far.

A model is read at a batch of one point.  What it computes is kept as a vector, row by row; its
``shape`` in the model is kept beside it, since that decides what a constant or an axis means.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from jacobians._checks import Array, ModelFormatError, Numbers
from jacobians.importers._assembly import Assembly
from jacobians.importers.onnx_tensors import Source

Shape = tuple[int, ...]


class _Computed:
    """Stands among a node's operands for what the chain has computed so far."""


COMPUTED = _Computed()


@dataclass
class Node:
    """An operator with its operands: COMPUTED, a constant, or None where one is left out."""

    kind: str
    at: str
    operands: list[Any]
    attributes: dict[str, Any]
    opset: int
    outputs: int

    def constant(self, k: int) -> Any:
        """Return operand ``k``, None if it is left out, refusing what is computed."""
        operand = self.operands[k] if k < len(self.operands) else None
        if operand is COMPUTED:
            self.refuse(f"takes what is computed as input {k + 1}, where it must be a constant.")
        return operand

    def needed(self, k: int) -> Numbers:
        """Return operand ``k``, which must be a constant."""
        operand: Numbers | None = self.constant(k)
        if operand is None:
            self.refuse(f"needs its input {k + 1}.")
        return operand

    def integers(self, k: int, name: str) -> tuple[int, ...] | None:
        """Return integers that older versions keep as an attribute, newer ones as operand ``k``."""
        if name in self.attributes:
            return tuple(self.attributes[name])
        values = self.constant(k)
        if values is None:
            return None
        if values.ndim != 1 or values.dtype.kind != "i":
            self.refuse(f"needs a list of whole numbers as input {k + 1}.")
        return tuple(int(value) for value in values)

    def refuse(self, message: str) -> NoReturn:
        """Refuse this node, by name and place."""
        raise ModelFormatError(f"{self.at} {message}")


@dataclass
class Chain:
    """What is computed so far: its layers, and the shape that the model gives it."""

    assembly: Assembly
    shape: Shape
    source: Source
    dtype: np.dtype[Any]

    def spread(self, constant: Numbers, node: Node) -> Array:
        """Return a constant as one number per entry of what is computed, by broadcasting."""
        if constant.dtype.kind != "f":
            node.refuse(f"has a constant of {constant.dtype}; expected floating point.")
        try:
            shape = np.broadcast_shapes(self.shape, constant.shape)
        except ValueError:
            node.refuse(f"cannot combine shapes {self.shape} and {constant.shape}.")
        if prod(shape) != prod(self.shape):
            node.refuse(f"would copy entries: {self.shape} with {constant.shape}.")
        self.source.spend(16 * prod(shape))
        self.shape = shape
        return np.broadcast_to(constant.astype(np.float64), shape).reshape(-1)

    def dense(self, W: Array, node: Node) -> None:
        """Multiply by a matrix of shape (n_out, n_in)."""
        self.source.spend(24 * (W.size + len(W)))  # one weight may stand in many nodes
        self.assembly.dense(W, at=node.at)

    def vector(self, node: Node) -> None:
        """Require that all entries lie along the last axis."""
        if not self.shape or self.shape[-1] != prod(self.shape):
            node.refuse(
                f"takes shape {self.shape}, which is more than one vector; flatten before it, and "
                "export with a batch of 1 or of open size."
            )
