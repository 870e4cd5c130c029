"""Terms: formulas as small objects that are printed, evaluated and transformed.

A term is an operation on other terms, all of them matrices; vectors are columns ``n x 1``.
``derive`` prints terms, ``diagnose`` replaces one in another, and both evaluate them by the same
rules: with every number goes how far any sensible computation in the given precision may be from
it.  A product of inner width k rounds k + 2 times, a function moves by its slope times what its
argument may move.  Errors are added up as bounds or, where ``typical``, as independent ones, since
bounds of a deep network exceed its numbers.  A symbol that every point of a data set has evaluates
to (B, m, n), one that all points share to (m, n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from jacobians._checks import Array

Shape: TypeAlias = tuple[Any, Any]  # numbers, or letters such as "n_l" in the general line
Key: TypeAlias = tuple[str, Any]  # role and layer: what stands on the left of a line
Self = TypeVar("Self", bound="Term")


class Value(NamedTuple):
    """Numbers of a term, and how far from them a right computation may be."""

    number: Array
    error: Array


class Rounding(NamedTuple):
    """What an operation may add: ``unit`` times its operands, and ``tiny`` where it underflows."""

    unit: float
    tiny: float
    typical: bool = False

    @classmethod
    def of(cls, dtype: Any, typical: bool = False) -> Rounding:
        """Return the rounding of float32 or float64."""
        info = np.finfo(dtype)
        return cls(float(info.eps) / 2, float(info.tiny), typical)

    def both(self, x: Array, y: Array) -> Array:
        """Add two errors up."""
        total: Array = np.hypot(x, y) if self.typical else x + y
        return total


Values: TypeAlias = Callable[["Symbol"], Value]


class Term:
    """An operation on operands, with what else it is about; equal terms are the same formula."""

    def __init__(self, *operands: Term, about: Any = None) -> None:
        self.operands, self.about = operands, about

    def combine(self, *args: Any, **kwargs: Any) -> Value:
        """Return the value for a rounding and the values of the operands."""
        raise NotImplementedError

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        """Return the value and its error, where ``values`` gives those of the symbols."""
        return self.combine(rounding, *(x.evaluate(values, rounding) for x in self.operands))

    def map(self: Self, function: Callable[[Term], Term]) -> Self:
        """Return the term with every operand replaced by ``function`` of it."""
        if not self.operands:
            return self
        new = type(self).__new__(type(self))
        new.operands, new.about = tuple(map(function, self.operands)), self.about
        return new

    def put(self, old: Term, new: Term) -> Term:
        """Return the term with ``new`` wherever ``old`` stands."""
        return new if self == old else self.map(lambda operand: operand.put(old, new))

    def __iter__(self) -> Iterator[Term]:
        """Go through the term and everything in it."""
        yield self
        for operand in self.operands:
            yield from operand

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Term)
            and type(self) is type(other)
            and self.about == other.about
            and self.operands == other.operands
        )

    def __hash__(self) -> int:
        return hash((type(self), self.operands, self.about))

    @cached_property
    def symbols(self) -> frozenset[Key]:
        """The keys of all letters in the term."""
        return frozenset[Key]().union(*(operand.symbols for operand in self.operands))


class Symbol(Term):
    """A letter: its role (W, a, delta, ...), its layer, and its shape."""

    def __init__(self, role: str, layer: Any, shape: Shape) -> None:
        super().__init__(about=(role, layer, shape))
        self.role, self.layer, self.shape = role, layer, shape

    @cached_property
    def key(self) -> Key:
        """What the symbol is looked up by."""
        return (self.role, self.layer)

    @cached_property
    def symbols(self) -> frozenset[Key]:
        """Its own key."""
        return frozenset([self.key])

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        return values(self)


class Function(NamedTuple):
    """A function of one or more values, with its name in formulas."""

    name: str
    call: Callable[..., Value]


class Apply(Term):
    """``f(x)``, or ``f(x, y)``; it is about f."""

    def combine(self, rounding: Rounding, *values: Value) -> Value:
        value: Value = self.about.call(*values, rounding)
        return value


class Times(Term):
    """``c x`` for a number c that has a name, such as ``1/N``; about both."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        c = self.about[1]
        number = c * x.number
        error = abs(c) * x.error
        return Value(number, error + 2 * rounding.unit * (np.abs(number) + error) + rounding.tiny)


class Transpose(Term):
    """``xᵀ``."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        return Value(*(np.swapaxes(part, -2, -1) for part in x))


class Sum(Term):
    """``x + y + ...``; about how often either rounds inside, in another way to compute the sum."""

    def combine(self, rounding: Rounding, *values: Value) -> Value:
        number, error = values[0]
        for x in values[1:]:
            # a sum that comes out exact in the wider format may round in the accused one
            size = np.abs(number) + np.abs(x.number) + error + x.error
            number, error = number + x.number, rounding.both(error, x.error)
            error = rounding.both(error, (1 + (self.about or 0)) * rounding.unit * size)
        return Value(number, error)


class Product(Term):
    """``A B ... x``, evaluated from the right."""

    def combine(self, rounding: Rounding, *values: Value) -> Value:
        right = values[-1]
        for left in values[-2::-1]:
            right = times(left, right, rounding)
        return right


def times(A: Value, B: Value, rounding: Rounding) -> Value:
    """Return the matrix product with its error: each factor's, and ``k + 2`` roundings."""
    left, right = np.abs(A.number), np.abs(B.number)
    k = A.number.shape[-1]
    if rounding.typical:  # rows and columns are scaled first, so that no square underflows
        a = (left + A.error).max(axis=-1, keepdims=True, initial=rounding.tiny)
        b = (right + B.error).max(axis=-2, keepdims=True, initial=rounding.tiny)
        left, A_error, right, B_error = left / a, A.error / a, right / b, B.error / b
        ku = (k**0.5 + 2) * rounding.unit
        squares = left**2 @ (B_error**2 + (ku * right) ** 2) + A_error**2 @ (right**2 + B_error**2)
        return Value(A.number @ B.number, np.sqrt(squares) * a * b + k * rounding.tiny)
    ku = (k + 2) * rounding.unit  # of the largest numbers that a right computation may have
    most = right + B.error
    error = left @ (B.error + ku * most) + A.error @ ((1 + ku) * most) + k * rounding.tiny
    return Value(A.number @ B.number, error)


class Hadamard(Term):
    """``x ⊙ y``, entry by entry."""

    def combine(self, rounding: Rounding, x: Value, y: Value) -> Value:
        left, right = np.abs(x.number), np.abs(y.number) + y.error
        error = rounding.both(left * y.error, x.error * right)
        error = error + 2 * rounding.unit * (left + x.error) * right + rounding.tiny
        return Value(x.number * y.number, error)


class Slopes(Hadamard):
    """``diag(s) x``, which is ``s ⊙ x`` in every column of x (identity 1)."""


class Quotient(Term):
    """``x / y``, entry by entry."""

    def combine(self, rounding: Rounding, x: Value, y: Value) -> Value:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            number = x.number / y.number
            distance = np.maximum(np.abs(y.number) - y.error, 0)
            error = (x.error + np.abs(number) * y.error) / distance
        error = np.where((x.number == 0) & (x.error == 0), 0, error)
        return Value(number, error + 2 * rounding.unit * (np.abs(number) + error) + rounding.tiny)


class Diagonal(Term):
    """``diag(s)``."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        return Value(*(part * np.eye(part.shape[-2]) for part in x))


class Kronecker(Term):
    """``A ⊗ B``, in brackets where it is printed."""

    def combine(self, rounding: Rounding, A: Value, B: Value) -> Value:
        a, b = (np.abs(x.number) for x in (A, B))
        most, u = b + B.error, 2 * rounding.unit
        error = _kron(a, B.error + u * most) + _kron(A.error, (1 + u) * most)
        return Value(_kron(A.number, B.number), error + rounding.tiny)


def _kron(A: Array, B: Array) -> Array:
    pairs = A[..., :, None, :, None] * B[..., None, :, None, :]
    *lead, m, p, n, q = pairs.shape
    return pairs.reshape(*lead, m * p, n * q)


class Identity(Term):
    """``I``; about its size."""

    def combine(self, rounding: Rounding) -> Value:
        return Value(np.eye(self.about), np.zeros((self.about, self.about)))


class Vec(Term):
    """``vec(A)``: the columns of A under each other."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        return Value(*(np.swapaxes(A, -2, -1).reshape(*A.shape[:-2], -1, 1) for A in x))


class Unvec(Term):
    """``vec⁻¹(x)``; about its shape."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        m, n = self.about
        return Value(*(np.swapaxes(v.reshape(*v.shape[:-2], n, m), -2, -1) for v in x))


class OverPoints(Term):
    """``sum over the points``, in any order."""

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        (each,) = self.operands
        if isinstance(each, Product) and len(each.operands) == 2:  # a sum of outer products is one
            A, B = (factor.evaluate(values, rounding) for factor in each.operands)
            if A.number.ndim == B.number.ndim == 3:
                beside = Value(*(np.concatenate(list(part), axis=1) for part in A))
                below = Value(*(np.concatenate(list(part), axis=0) for part in B))
                return times(beside, below, rounding)
        return super().evaluate(values, rounding)

    def combine(self, rounding: Rounding, x: Value) -> Value:
        if x.number.ndim == 2:
            return x
        n = len(x.number) + 1
        error = x.error + n * rounding.unit * (np.abs(x.number) + x.error)
        return Value(x.number.sum(axis=0), error.sum(axis=0))


class OnePoint(Term):
    """The value at one point of the data set; about its number, 0 or -1."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        return x if x.number.ndim == 2 else Value(*(part[self.about] for part in x))


# --- making terms ---------------------------------------------------------------------------------


def minus(x: Term, y: Term) -> Sum:
    """Return ``x - y``."""
    return Sum(x, negative(y))


def negative(x: Term) -> Times:
    """Return ``-x``."""
    return Times(x, about=("−", -1.0))


def matmul(*factors: Term) -> Term:
    """Return the product without identities, without brackets, a lone factor as it is."""
    flat: list[Term] = []
    for factor in factors:
        flat += factor.operands if isinstance(factor, Product) else (factor,)
    flat = [factor for factor in flat if not isinstance(factor, Identity)] or flat[:1]
    return flat[0] if len(flat) == 1 else Product(*flat)


def total(*terms: Term) -> Term:
    """Return the sum, a lone term as it is."""
    return terms[0] if len(terms) == 1 else Sum(*terms)
