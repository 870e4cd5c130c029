"""The steps of a network in the making, and their folding: a scale into a dense layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, as_floats, freeze
from jacobians.activations import IDENTITY, AnyActivation, VectorActivation
from jacobians.layers import Dense, Elementwise, Layer, Scale, Shape


@dataclass
class Step:
    """A node to be: Dense if W is a matrix, Scale if it is a vector, a layer, or Elementwise."""

    at: str
    sources: tuple[int, ...]
    shape: Shape  # of its value, as the node has it
    W: Array | None = None
    b: Array | None = None
    sigma: AnyActivation = IDENTITY
    axis: int | None = None
    layer: Layer | None = None
    indices: Any = None  # of the entries that it chooses, if it does nothing else
    name: str = ""  # of an input

    @property
    def spread(self) -> int:
        """How many entries a single number is spread over that has taken no memory so far."""
        single = self.W is not None and self.W.ndim == 1 and self.W.strides == (0,)
        return prod(self.shape) if single else 0

    def made(self, where: str, dtype: np.dtype[Any], shared: dict[Any, Array]) -> Layer:
        """Return the layer in that dtype; several steps of one matrix have one copy of it."""
        layer = self.layer
        if layer is None:
            W: Any = self.W
            if W is None:
                return Elementwise(self.sigma, self.axis)
            if W.ndim == 2:
                key = W.__array_interface__["data"][0], W.shape, W.strides
                if key not in shared:
                    W = as_floats(W, f"{where}: {self.at}: weight", dtype=dtype, as_it_lies=True)
                    shared[key] = _alone(W)
                b = self.b
                if b is not None:
                    b = as_floats(b, f"{where}: {self.at}: bias", dtype=dtype)
                return Dense(shared[key], b, self.sigma)
            layer = Scale(W, self.b)
        for name, array in layer.arrays().items():
            as_floats(array, f"{where}: {self.at}: {NAMES.get(name, name)}", dtype=dtype)
        return layer.astype(dtype)


def _alone(W: Array) -> Array:
    """Return a matrix that cannot be written to, in memory that holds nothing else."""
    frozen = freeze(W)  # a copy, or in bytes already
    holder: Any = frozen
    while isinstance(holder, np.ndarray):
        holder = holder.base
    if frozen.flags.c_contiguous and len(holder) == W.nbytes:
        return frozen
    return np.ndarray(W.shape, W.dtype, W.tobytes())


NAMES = {"W": "weight", "b": "bias"}


def leading_to(steps: list[Step], ends: set[int]) -> list[int]:
    """Return the steps that lead to the ends, in order, without the inputs."""
    needed = set(ends)
    for l in reversed(range(len(steps))):
        if l in needed:
            needed.update(steps[l].sources)
    return [l for l in sorted(needed) if steps[l].sources]


def folded(
    steps: list[Step], live: Sequence[int], ends: Sequence[int], dtype: np.dtype[Any]
) -> list[int]:
    """Fold steps into the one they read, if nobody else reads it; return where each one is now."""
    readers = [0] * len(steps)
    for source in [*ends, *(s for l in live for s in steps[l].sources)]:
        readers[source] += 1
    place = list(range(len(steps)))
    for l in live:
        step = steps[l]
        if len(step.sources) == 1 and readers[step.sources[0]] == 1 and step.layer is None:
            target = place[step.sources[0]]
            if fold(steps[target], step, dtype):
                place[l] = target
    return place


def fold(into: Step, step: Step, dtype: np.dtype[Any]) -> bool:
    """Let an affine step do what comes after it, if nothing leaves the range."""
    if into.W is None or into.sigma is not IDENTITY:
        return False
    if step.W is None:  # an activation
        fits = into.W.ndim == 2
        if isinstance(step.sigma, VectorActivation):  # per row, as the layer applies it
            fits &= step.axis == -1 or prod(into.shape) == len(into.W)
        if fits:
            into.sigma = step.sigma
        return fits
    if step.W.ndim == 2 or step.b is None:
        return False
    scale, shift = step.W, step.b
    if into.W.ndim == 2 and scale.size > len(into.W):
        scale, shift = (part.reshape(-1, len(into.W)) for part in (scale, shift))
        if (scale != scale[0]).any() or (shift != shift[0]).any():
            return False
        scale, shift = scale[0], shift[0]
    W, b = into.W, shift
    with np.errstate(all="ignore"):
        if (scale != 1).any():
            factor = scale if W.ndim == 1 else scale[:, None]
            W = factor * W
            lost = (np.abs(W) < np.finfo(dtype).tiny) & (factor != 0) & (into.W != 0)
            if lost.any() or not np.isfinite(W).all():
                return False
        if into.b is not None:
            b = scale * into.b + shift
    if not np.isfinite(b).all():
        return False
    into.W, into.b = W, b
    return True
