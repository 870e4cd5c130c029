"""Windows, interpolations, norms and attention of foreign models, as steps like the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

import numpy as np

from jacobians._checks import Array
from jacobians.importers._arithmetic import Arithmetic
from jacobians.importers._assembly import Value
from jacobians.importers._basics import Operand
from jacobians.layers import AveragePool, Layer, LayerNorm, MaxPool, RMSNorm

Sizes = Sequence[int]
Pairs = tuple[tuple[int, int], ...]  # before and after each axis


class Steps(Arithmetic):
    """All steps that importers know."""

    # --- windows ----------------------------------------------------------------------------------

    def windows(self, of: Value, layer: Layer) -> Value:
        """Apply a convolution or pool to (1, channels, ...)."""
        image = of.reshaped(of.shape[1:] if len(of.shape) > 2 and of.shape[0] == 1 else of.shape)
        try:
            shape = layer.on(image.shape).output_shape(image.shape)
        except ValueError as err:
            self.no_rule(f"{layer} on a value of shape {of.shape}", str(err))
        first = of.shape[0] if len(image.shape) < len(of.shape) else 1
        return self.apply(layer, image, shape=(first, *shape), shaped=True)

    def pool(
        self, of: Value, size: Sizes, stride: Sizes, pads: Pairs, dilation: Sizes, up: bool = False
    ) -> Value:
        """Take the largest of every window; ``up`` rounds the positions up."""
        seen = _rounded_up(of.shape[-len(size) :], size, stride, dilation, pads) if up else pads
        return self.windows(of, MaxPool(size, stride, seen, dilation))

    def average(
        self, of: Value, size: Sizes, stride: Sizes, pads: Pairs, count: bool, up: bool = False
    ) -> Value:
        """Take the mean of every window, the zeros around it counted or not."""
        ones, count = (1,) * len(size), count and any(map(any, pads))
        seen = _rounded_up(of.shape[-len(size) :], size, stride, ones, pads) if up else pads
        if count and seen != pads:
            self.no_rule("a mean that counts some of the zeros around (ceil_mode)")
        return self.windows(of, AveragePool(size, stride, seen, count))

    # --- norms and attention ----------------------------------------------------------------------

    def norm(self, of: Value, norm: LayerNorm | RMSNorm) -> Value:
        """Normalise rows, which may be several axes of the value in one."""
        d = len(norm.scale)
        rows = of.reshaped((-1, d))
        return self.apply(norm, rows, shape=of.shape, rows_of=d)

    def group_norm(
        self, of: Value, groups: int, epsilon: float, scale: Array | None, shift: Array | None
    ) -> Value:
        """Normalise groups of channels, each by itself; scale and shift are one per channel."""
        ones = np.ones(of.size // groups, self.assembly.widest)
        normal = self.norm(of, LayerNorm(ones, None, epsilon))
        return self.batch_norm(normal, 1, 0.0, (None, None, scale, shift))

    def batch_norm(
        self, of: Value, axis: int, epsilon: float, parts: Sequence[Array | None]
    ) -> Value:
        """Return ``weight (a - mean) / sqrt(variance + epsilon) + bias``, one per channel."""
        sizes = [-1 if k == axis % len(of.shape) else 1 for k in range(len(of.shape))]
        mean, variance, weight, bias = (
            default if part is None else np.reshape(part, sizes)
            for part, default in zip(parts, (0.0, 1.0, 1.0, 0.0), strict=True)
        )
        with np.errstate(all="ignore"):  # what is not finite is refused
            scale = weight / np.sqrt(variance + epsilon)
            return self.affine(of, scale, bias - mean * scale)

    def attention(
        self, Q: Operand, K: Operand, V: Operand, scale: float, mask: Operand | None = None
    ) -> Value:
        """Return ``softmax(scale Q Kᵀ + mask) V``; a mask of booleans hides where it is false."""
        Q, K, V = self.as_value(Q), self.as_value(K), self.as_value(V)
        scores = self._product(self.affine(Q, scale), K, transposed=True)
        if isinstance(mask, np.ndarray) and mask.dtype == bool:
            mask = np.where(mask, 0.0, -inf)
        if mask is not None:
            scores = self.add(scores, mask)
        return self._product(self.activate("softmax", scores, axis=-1), V)


def same_padding(
    grid: Iterable[int], size: Sizes, stride: Sizes, dilation: Sizes, lower: bool = False
) -> Pairs:
    """Return the padding that leaves every stride-th position; an odd one more is behind.

    >>> same_padding((5, 6), (2, 3), (1, 2), (1, 1))
    ((0, 1), (0, 1))
    """
    pads = []
    for n, k, s, d in zip(grid, size, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        less, more = total // 2, total - total // 2
        pads.append((more, less) if lower else (less, more))
    return tuple(pads)


def _rounded_up(
    grid: Iterable[int], size: Sizes, stride: Sizes, dilation: Sizes, pads: Pairs
) -> Pairs:
    """Return the padding with which the last window is whole, if it begins before the padding.

    >>> _rounded_up((6,), (3,), (2,), (1,), ((0, 0),))
    ((0, 1),)
    """
    reached = []
    for n, k, s, d, (before, after) in zip(grid, size, stride, dilation, pads, strict=True):
        left = n + before + after - (k - 1) * d - 1
        more = -left % s
        reached.append((before, after + more if left + more < n + before else after))
    return tuple(reached)
