"""Sums, products and functions of foreign models, as steps of a network in the making.

The frameworks have hundreds of operators under as many names; they compute a few dozen things.
Each is here once, for values and constants alike: a constant is an array in float64, and whatever
two constants give is nobody's business here, since their framework has computed it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers._basics import Basics, Operand
from jacobians.layers import Add, AveragePool, MatrixProduct, MaxPool, Multiply


class Arithmetic(Basics):
    """Sums, products and functions at one place of a model."""

    # --- arithmetic -------------------------------------------------------------------------------

    def add(self, a: Operand, b: Operand, factor: float = 1.0) -> Value:
        """Return ``a + factor b``."""
        if isinstance(a, Value) and isinstance(b, Value):
            return self.apply(Add(), *self._spread(a, self.affine(b, factor)))
        return (
            self.affine(a, 1.0, factor * b) if isinstance(a, Value) else self.affine(b, factor, a)
        )

    def total(self, values: Sequence[Value]) -> Value:
        """Return the sum of values of one shape."""
        return self.apply(Add(), *values) if len(values) > 1 else values[0]

    def product(self, values: Sequence[Value]) -> Value:
        """Return the product of values of one shape, entry by entry."""
        return self.apply(Multiply(), *values) if len(values) > 1 else values[0]

    def subtract(self, a: Operand, b: Operand) -> Value:
        return self.add(a, b, -1.0)

    def multiply(self, a: Operand, b: Operand) -> Value:
        if isinstance(a, Value) and isinstance(b, Value):
            if a == b:
                return self.activate("square", a)
            return self.apply(Multiply(), *self._spread(a, b))
        return self.affine(a, b) if isinstance(a, Value) else self.affine(b, a)

    def _spread(self, *values: Value) -> list[Value]:
        shape = self.broadcast(*(value.shape for value in values))
        return [self.spread(value, shape) for value in values]

    def divide(self, a: Operand, b: Operand) -> Value:
        if isinstance(b, Value):
            return self.multiply(a, self.activate("reciprocal", b))
        with np.errstate(all="ignore"):  # what is not finite is refused
            return self.multiply(a, 1 / np.asarray(b))

    def power(self, a: Operand, exponent: Operand) -> Value:
        """Return ``a`` to a constant power."""
        if isinstance(exponent, Value) or not isinstance(a, Value) or np.size(exponent) > 1:
            self.no_rule("a power with an exponent that depends on the input")
        number = float(exponent)
        names = {1.0: "identity", 2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
        if number in names:
            return self.activate(names[number], a)
        return self.activate("power", a, exponent=number)

    def maximum(self, a: Operand, b: Operand, sign: float = 1.0) -> Value:
        """Return the larger of two, entry by entry; the smaller for the sign -1."""
        if isinstance(b, Value):
            a, b = b, a
        if not isinstance(b, Value):  # max(x, c) = c + relu(x - c)
            above = self.activate("relu", self.affine(a, sign, -sign * b))
            return self.affine(above, sign, b)
        pair = [self.affine(value, sign) for value in self._spread(a, b)]
        return self.affine(self.largest(self.stack(pair, 0), [0], False), sign)

    def minimum(self, a: Operand, b: Operand) -> Value:
        return self.maximum(a, b, -1.0)

    def opposite(self, truth: Value) -> Value:
        return self.affine(truth, -1.0, 1.0)

    def choose(self, choice: Operand, yes: Operand, no: Operand) -> Value:
        """Return ``yes`` where a constant is true, and else ``no``: each times where it counts."""
        if isinstance(choice, Value):
            self.no_rule("a choice that depends on the input")
        mask = np.asarray(choice) != 0
        if isinstance(yes, Value) and isinstance(no, Value):
            return self.add(self.affine(yes, mask), self.affine(no, ~mask))
        if isinstance(yes, Value):
            return self.affine(yes, mask, np.where(mask, 0.0, no))
        return self.affine(no, ~mask, np.where(mask, yes, 0.0))

    # --- products ---------------------------------------------------------------------------------

    def matmul(self, A: Operand, B: Operand) -> Value:
        """Return the matrix product of the last two axes, as NumPy has it."""
        if len(A.shape) == 1 or len(B.shape) == 1:  # a row, or a column, for the time being
            row, column = len(A.shape) == 1, len(B.shape) == 1
            product = self.matmul(
                seen(A, (1, *A.shape)) if row else A, seen(B, (*B.shape, 1)) if column else B
            )
            *front, m, n = product.shape
            return product.reshaped([*front, *[m] * (not row), *[n] * (not column)])
        if isinstance(A, Value) and not isinstance(B, Value) and B.ndim == 2:
            return self.dense(A, B.T)
        if not isinstance(A, Value) and A.ndim == 2 and isinstance(B, Value):
            axes = [*range(len(B.shape) - 2), len(B.shape) - 1, len(B.shape) - 2]
            return self.transposed(self.dense(self.transposed(B, axes), A), axes)
        return self._product(self.as_value(A), self.as_value(B))

    def _product(self, A: Value, B: Value, transposed: bool = False) -> Value:
        lead = self.broadcast(A.shape[:-2], B.shape[:-2])
        shape = (*lead, A.shape[-2], B.shape[-2 if transposed else -1])
        A, B = (self.spread(X, (*lead, *X.shape[-2:])) for X in (A, B))
        A, B = (X.reshaped((-1, *X.shape[-2:])[prod(lead) == 1 :]) for X in (A, B))
        return self.apply(MatrixProduct(transposed), A, B, shape=shape, shaped=True)

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

        def arranged(operand: Operand, names: str, *groups: list[str]) -> Operand:
            axes = [names.index(k) for group in groups for k in group]
            shape = [prod(sizes[k] for k in group) for group in groups[not kept :]]
            moved = self.transposed if isinstance(operand, Value) else np.transpose
            return seen(moved(operand, axes), shape)

        product = self.matmul(
            arranged(A, a, kept, rows, inner), arranged(B, b, kept, inner, columns)
        )
        given = kept + rows + columns
        product = product.reshaped([sizes[k] for k in given])
        return self.transposed(product, [given.index(k) for k in right])

    def mean(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        return self._reduced(of, axes, keep, AveragePool)

    def sum(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        mean = self.mean(of, axes, keep)
        return self.affine(mean, of.size / mean.size)

    def largest(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        """Return the largest entry along some axes, or of all."""
        return self._reduced(of, axes, keep, MaxPool)

    def smallest(self, of: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        return self.affine(self.largest(self.affine(of, -1.0), axes, keep), -1.0)

    def _reduced(self, of: Value, axes: Sequence[int] | None, keep: bool, pool: Any) -> Value:
        """Bring axes to the end as one, and pool over it."""
        rank = len(of.shape)
        along = sorted({k % rank for k in (range(rank) if axes is None else axes)})
        rest = [k for k in range(rank) if k not in along]
        count = prod(of.shape[k] for k in along)
        left = [1 if k in along else n for k, n in enumerate(of.shape) if keep or k not in along]
        if count == 1:
            return of.reshaped(left)
        rows = self.transposed(of, [*rest, *along]).reshaped((-1, count))
        return self.apply(pool(count), rows, shaped=True).reshaped(left)

    # --- activations ------------------------------------------------------------------------------

    def clamp(self, of: Value, low: float | None, high: float | None) -> Value:
        """Hold entries between limits, either of which may be missing."""
        single, most = (float(np.finfo(t).max) for t in (np.float32, self.assembly.widest))
        low = -inf if low is None or low <= -single else float(low)  # as exporters write no limit
        high = inf if high is None or high >= single else float(high)
        if (low, high) == (-inf, inf):
            return of
        if (low, high) == (0.0, inf):
            return self.activate("relu", of)
        return self.activate("hard_tanh", of, low=max(low, -most), high=min(high, most))

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

    def hard_swish(self, of: Value) -> Value:
        """Return ``a`` times the hard sigmoid of ``a``."""
        return self.multiply(of, self.activate("hard_sigmoid", of))

    def gelu(self, of: Value, approximate: bool) -> Value:
        """Return gelu, or its approximation by tanh."""
        return self.activate("gelu_tanh" if approximate else "gelu", of)

    def soft_shrink(self, of: Value, limit: float) -> Value:
        """Return ``a - clip(a, -limit, limit)``."""
        return self.add(of, self.clamp(of, -limit, limit), -1.0)


def seen(operand: Operand, shape: Sequence[int]) -> Operand:
    """Return an operand in another shape."""
    return operand.reshaped(shape) if isinstance(operand, Value) else operand.reshape(shape)
