"""What the operators of foreign models compute, as steps of a network in the making.

The frameworks have hundreds of operators under as many names; they compute a few dozen things.
Each is here once, for values and constants alike: a constant is an array in float64, and whatever
two constants give is nobody's business here, since their framework has computed it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any, NoReturn, TypeAlias

import numpy as np

from jacobians._checks import Array
from jacobians.activations import NAMES
from jacobians.importers._assembly import Assembly, Value
from jacobians.layers import AveragePool, Layer, LayerNorm, MaxPool, RMSNorm

Operand: TypeAlias = Value | Array
_MOST_TERMS = 16  # bicubic interpolation has as many
NOWHERE = -(2.0**100)  # stands for -inf in front of softmax, whose exp of either is 0


@dataclass
class Steps:
    """Steps at one place of a model.

    Parameters
    ----------
    assembly : Assembly
    at : str
        The place, for errors.
    traits : dict
        What a value is, where a later step can use it: ``("1 + abs", a)``.
    """

    assembly: Assembly
    at: str
    traits: dict[Value, tuple[str, Value]] = field(default_factory=dict)

    def no_rule(self, what: str, way_out: str = "") -> NoReturn:
        """Refuse what has no rule."""
        self.assembly.no_rule(self.at, what, way_out)

    # --- moving entries ---------------------------------------------------------------------------

    def value(self, operand: Any) -> Value:
        """Return a value; a constant becomes nothing of the input, with the constant added."""
        if isinstance(operand, Value):
            return operand
        constant = np.asarray(operand, np.float64)
        nothing = np.full(constant.shape, -1)
        return self.affine(
            self.assembly.move(nothing, at=self.at, of=Value(0, (1,))), 1.0, constant
        )

    def numbers(self, of: Value) -> Any:
        """Return the number of every entry, in the shape of the value."""
        return np.arange(of.size).reshape(of.shape)

    def move(self, of: Value, numbers: Any) -> Value:
        """Choose entries by their numbers."""
        return self.assembly.move(numbers, at=self.at, of=of)

    def transposed(self, of: Value, axes: Sequence[int]) -> Value:
        """Reorder the axes."""
        return self.move(of, self.numbers(of).transpose(axes))

    def spread(self, of: Value, shape: Sequence[int]) -> Value:
        """Repeat entries along new axes, and along those of length 1."""
        if of.size == prod(shape):
            return of.reshaped(shape)
        return self.move(of, np.broadcast_to(self.numbers(of), shape))

    def concatenate(self, operands: Sequence[Operand], axis: int) -> Value:
        """Put one after the other along an axis."""
        return self.assembly.concatenate([self.value(o) for o in operands], axis, at=self.at)

    # --- arithmetic -------------------------------------------------------------------------------

    def affine(self, of: Value, scale: Any = 1.0, shift: Any = 0.0) -> Value:
        """Multiply by a constant and add one, either of which may have more axes than the value."""
        scale, shift = (np.asarray(part, np.float64) for part in (scale, shift))
        of = self.spread(of, np.broadcast_shapes(of.shape, scale.shape, shift.shape))
        hidden = shift == -inf
        if hidden.any():
            scale, shift = np.where(hidden, 0.0, scale), np.where(hidden, NOWHERE, shift)
        if not shift.any() and (scale == 1).all():
            return of
        return self.assembly.scale(scale, shift, at=self.at, of=of)

    def add(self, a: Operand, b: Operand, factor: float = 1.0) -> Value:
        """Return ``a + factor b``."""
        if isinstance(a, Value) and isinstance(b, Value):
            return self.assembly.add(a, self.affine(b, factor), at=self.at)
        if isinstance(b, Value):
            return self.affine(b, factor, a)
        assert isinstance(a, Value)
        result = self.affine(a, 1.0, factor * b)
        if self.traits.get(a, ("",))[0] == "abs" and np.ndim(b) == 0 and factor * b == 1:
            self.traits[result] = ("1 + abs", self.traits[a][1])
        return result

    def multiply(self, a: Operand, b: Operand) -> Value:
        """Return ``a b``, entry by entry."""
        if isinstance(a, Value) and isinstance(b, Value):
            same = a == b
            return self.activate("square", a) if same else self.assembly.multiply(a, b, at=self.at)
        return self.affine(a, b) if isinstance(a, Value) else self.affine(b, a)  # type: ignore[arg-type]

    def divide(self, a: Operand, b: Operand) -> Value:
        """Return ``a / b``; ``a / (1 + |a|)`` is softsign."""
        if not isinstance(b, Value):
            return self.affine(a, 1 / np.asarray(b))  # type: ignore[arg-type]
        if self.traits.get(b) == ("1 + abs", a):
            return self.activate("softsign", self.traits[b][1])
        return self.multiply(a, self.activate("reciprocal", b))

    def power(self, a: Operand, exponent: Operand) -> Value:
        """Return ``a`` to a constant power."""
        if isinstance(exponent, Value) or not isinstance(a, Value) or np.size(exponent) > 1:
            self.no_rule("a power with an exponent that depends on the input")
        number = float(exponent)
        names = {1.0: "identity", 2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
        if number in names:
            return self.activate(names[number], a)
        return self.activate("power", a, exponent=number)

    def absolute(self, a: Value) -> Value:
        """Return ``|a|``, a leaky relu of slope -1."""
        result = self.activate("leaky_relu", a, slope=-1.0)
        self.traits[result] = ("abs", a)
        return result

    def extreme(self, a: Operand, b: Operand, sign: float) -> Value:
        """Return the larger of two for sign 1, ``b + relu(a - b)``, and the smaller for -1."""
        a, b = self.value(a), self.value(b)
        difference = self.add(self.affine(a, sign), b, -sign)
        return self.add(b, self.activate("relu", difference), sign)

    def choose(self, choice: Any, yes: Operand, no: Operand) -> Value:
        """Return ``yes`` where a constant is true, and else ``no``: each times where it counts."""
        choice = np.asarray(choice) != 0
        masks = ((yes, choice), (no, ~choice))
        values = [self.affine(o, mask.astype(float)) for o, mask in masks if isinstance(o, Value)]
        if len(values) == 2:
            return self.add(values[0], values[1])
        constant, mask = next((o, mask) for o, mask in masks if not isinstance(o, Value))
        (value,) = (o for o, _ in masks if isinstance(o, Value))
        return self.affine(value, (~mask).astype(float), np.where(mask, constant, 0.0))

    # --- products ---------------------------------------------------------------------------------

    def dense(self, of: Value, W: Array, b: Array | None = None) -> Value:
        """Return ``W a + b`` along the last axis."""
        return self.assembly.dense(np.atleast_2d(W), b, at=self.at, of=of)

    def matmul(self, A: Operand, B: Operand) -> Value:
        """Return the matrix product of the last two axes, as NumPy has it."""
        if isinstance(A, Value) and not isinstance(B, Value) and B.ndim <= 2:
            product = self.dense(A, B.T)
            return product if B.ndim == 2 else product.reshaped(product.shape[:-1])
        if min(len(A.shape), len(B.shape)) < 2:
            self.no_rule(f"a product of shapes {tuple(A.shape)} and {tuple(B.shape)}")
        if not isinstance(A, Value) and A.ndim == 2 and isinstance(B, Value):
            axes = [*range(len(B.shape) - 2), len(B.shape) - 1, len(B.shape) - 2]
            return self.transposed(self.dense(self.transposed(B, axes), A), axes)
        return self.assembly.matmul(self.value(A), self.value(B), at=self.at)

    def einsum(self, subscripts: str, A: Operand, B: Operand) -> Value:
        """Return a product of two, with axes named: common ones are kept, or summed over."""
        left, right = subscripts.replace(" ", "").split("->")
        a, b = left.split(",")
        if "." in left or len(set(a)) < len(a) or len(set(b)) < len(b):
            self.no_rule(f"einsum {subscripts}")
        sizes = dict(zip(a + b, (*A.shape, *B.shape), strict=True))
        kept = [k for k in right if k in a and k in b]
        rows, columns = [k for k in right if k not in b], [k for k in right if k not in a]
        inner = [k for k in a if k in b and k not in right]
        if len(inner) + len(kept) + len(rows) < len(a) or len(kept + columns + inner) < len(b):
            self.no_rule(f"einsum {subscripts}")

        def arranged(
            operand: Operand, names: str, order: list[str], groups: list[list[str]]
        ) -> Operand:
            axes = [names.index(k) for k in order]
            shape = [prod(sizes[k] for k in group) for group in groups]
            if isinstance(operand, Value):
                return self.transposed(operand, axes).reshaped(shape)
            return operand.transpose(axes).reshape(shape)

        first = arranged(A, a, kept + rows + inner, [kept, rows, inner])
        second = arranged(B, b, kept + inner + columns, [kept, inner, columns])
        if not kept:
            shapes = (first.shape[1:], second.shape[1:])
            first, second = (
                o.reshaped(s) if isinstance(o, Value) else o.reshape(s)
                for o, s in zip((first, second), shapes, strict=True)
            )
        given = kept + rows + columns
        product = self.matmul(first, second).reshaped([sizes[k] for k in given])
        return self.transposed(product, [given.index(k) for k in right])

    def mean(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        """Average over some axes, or all."""
        return self._reduced(of, axes, keep, AveragePool)

    def sum(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        """Sum over some axes, or all."""
        mean = self.mean(of, axes, keep)
        return self.affine(mean, of.size / mean.size)

    def largest(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        """Return the largest entry along some axes, or of all."""
        return self._reduced(of, axes, keep, MaxPool)

    def _reduced(self, of: Value, axes: Sequence[int] | None, keep: bool, pool: Any) -> Value:
        rows, count, shape = self._rows(of, axes, keep)
        if count == 1:
            return of.reshaped(shape)
        pooled = self.assembly.apply(pool(count), rows, at=self.at, shaped=True)
        return pooled.reshaped(shape)

    def _rows(
        self, of: Value, axes: Sequence[int] | None, keep: bool
    ) -> tuple[Value, int, list[int]]:
        """Bring axes to the end as one; return the rows, their length, and what is left."""
        rank = len(of.shape)
        along = sorted({k % rank for k in (range(rank) if axes is None else axes)})
        rest = [k for k in range(rank) if k not in along]
        count = prod(of.shape[k] for k in along)
        rows = self.transposed(of, [*rest, *along]).reshaped((-1, count))
        left = [1 if k in along else n for k, n in enumerate(of.shape) if keep or k not in along]
        return rows, count, left

    def bilinear(self, a: Value, b: Value, W: Array, bias: Array | None) -> Value:
        """Return ``aᵀ W_k b + bias_k`` for every k."""
        if a.size != W.shape[1] or b.size != W.shape[2]:
            self.no_rule("a bilinear form on several rows")
        k, n, m = W.shape
        product = self.dense(a.reshaped((n,)), W.transpose(0, 2, 1).reshape(k * m, n))
        weighted = self.multiply(product.reshaped((k, m)), self.spread(b.reshaped((m,)), (k, m)))
        total = self.sum(weighted, [1], False)
        return (total if bias is None else self.affine(total, 1.0, bias)).reshaped((1, k))

    def weighted(self, of: Value, W: Array, shape: Sequence[int]) -> Value:
        """Apply a matrix with few entries per row to every channel: weighted choices, added up."""
        channels = of.size // W.shape[1]
        terms = int((W != 0).sum(axis=1).max())
        if terms > _MOST_TERMS:
            self.no_rule(f"a mean of {terms} entries that are not one window")
        order = np.argsort(W == 0, axis=1, kind="stable")[:, :terms]
        weights = np.take_along_axis(W, order, axis=1)
        starts = W.shape[1] * np.arange(channels)[:, None]
        values = [
            self.affine(self.move(of, starts + order[:, k]), weights[:, k]) for k in range(terms)
        ]
        return (
            self.assembly.add(*values, at=self.at).reshaped(shape)
            if terms > 1
            else (values[0].reshaped(shape))
        )

    # --- windows ----------------------------------------------------------------------------------

    def windows(self, of: Value, layer: Layer) -> Value:
        """Apply a convolution or pool to (1, channels, ...)."""
        image = of.reshaped(of.shape[1:] if len(of.shape) > 2 and of.shape[0] == 1 else of.shape)
        try:
            shape = layer.on(image.shape).output_shape(image.shape)
        except ValueError as err:
            self.no_rule(f"{layer} on a value of shape {of.shape}", str(err))
        return self.assembly.apply(layer, image, at=self.at, shape=(1, *shape), shaped=True)

    # --- activations ------------------------------------------------------------------------------

    def activate(self, name: str, of: Value, axis: int | None = None, **parameters: float) -> Value:
        """Apply an activation."""
        if name not in NAMES:
            self.no_rule(name)
        return self.assembly.activate(name, at=self.at, of=of, axis=axis, **parameters)

    def clamp(self, of: Value, low: float | None, high: float | None) -> Value:
        """Hold entries between limits, either of which may be missing."""
        most = float(np.finfo(np.float32).max)  # no limit: exact, where sums would round
        low = -most if low is None else max(float(low), -most)
        high = most if high is None else min(float(high), most)
        if (low, high) == (-most, most):
            return of
        if (low, high) == (0.0, most):
            return self.activate("relu", of)
        return self.activate("hard_tanh", of, low=low, high=high)

    def leaky(self, of: Value, slopes: Any) -> Value:
        """Return ``relu(a) - slope relu(-a)``; one slope for all is an activation of its own."""
        slopes = np.asarray(slopes, np.float64)
        if len(np.unique(slopes)) == 1:
            return self.activate("leaky_relu", of, slope=float(slopes.flat[0]))
        below = self.affine(self.activate("relu", self.affine(of, -1.0)), -slopes)
        return self.add(self.activate("relu", of), below)

    def softplus(self, of: Value, beta: float = 1.0) -> Value:
        """Return ``log(1 + exp(beta a)) / beta``."""
        return self.affine(self.activate("softplus", self.affine(of, beta)), 1 / beta)

    def soft_shrink(self, of: Value, limit: float) -> Value:
        """Return ``a - clip(a, -limit, limit)``."""
        return self.add(of, self.clamp(of, -limit, limit), -1.0)

    def gated(self, of: Value, axis: int) -> Value:
        """Return the first half times the sigmoid of the second."""
        halves = np.split(self.numbers(of), 2, axis=axis)
        first, second = (self.move(of, half) for half in halves)
        return self.multiply(first, self.activate("sigmoid", second))

    # --- norms and attention ----------------------------------------------------------------------

    def norm(self, of: Value, norm: LayerNorm | RMSNorm) -> Value:
        """Normalise rows, which may be several axes of the value in one."""
        d = len(norm.scale)
        rows = of.reshaped((-1, d))
        return self.assembly.apply(norm, rows, at=self.at, shape=of.shape, rows_of=d)

    def batch_norm(
        self, of: Value, axis: int, epsilon: float, parts: Sequence[Array | None]
    ) -> Value:
        """Return ``weight (a - mean) / sqrt(variance + epsilon) + bias``, one per channel."""
        sizes = [-1 if k == axis % len(of.shape) else 1 for k in range(len(of.shape))]
        mean, variance, weight, bias = (
            default if part is None else np.reshape(part, sizes)
            for part, default in zip(parts, (0.0, 1.0, 1.0, 0.0), strict=True)
        )
        scale = weight / np.sqrt(variance + epsilon)
        return self.affine(of, scale, bias - mean * scale)

    def attention(
        self, Q: Operand, K: Operand, V: Operand, scale: float, mask: Operand | None = None
    ) -> Value:
        """Return ``softmax(scale Q Kᵀ + mask) V``; a mask of truth values hides what is false."""
        Q, K, V = self.value(Q), self.value(K), self.value(V)
        scores = self.assembly.matmul(self.affine(Q, scale), K, at=self.at, transposed=True)
        if isinstance(mask, np.ndarray) and mask.dtype == bool:
            mask = np.where(mask, 0.0, -inf)
        if mask is not None:
            scores = self.add(scores, mask)
        return self.assembly.matmul(self.activate("softmax", scores, axis=-1), V, at=self.at)
