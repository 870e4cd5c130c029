"""Terms: formulas as small objects that are printed, evaluated and transformed.

A term is a tree of symbols and operations on matrices; vectors are columns ``n x 1``.  ``derive``
prints terms, ``diagnose`` replaces one in another, and both evaluate them by the same rules: with
every number goes how far any sensible computation in the given precision may be from it, carried
from operation to operation: a product of inner width k rounds k + 2 times, a function moves by its
slope times what its argument may move.  Errors are added up as bounds or, where ``typical``, as
independent ones, since bounds of a deep network exceed its numbers.  A symbol that every point of a
data set has evaluates to (B, m, n), one that all points share to (m, n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jacobians._checks import Array

Shape: TypeAlias = tuple[Any, Any]  # numbers, or letters such as "n_l" in the general line
Key: TypeAlias = tuple[str, Any]  # role and layer: what stands on the left of a line


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
    """A formula; ``evaluate`` gives its value where ``values`` gives those of its symbols."""

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        """Return the value and its error."""
        raise NotImplementedError

    @property
    def operands(self) -> tuple[Term, ...]:
        """The terms right under this one."""
        found: list[Term] = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            found += [value] if isinstance(value, Term) else []
            found += [v for v in value if isinstance(v, Term)] if type(value) is tuple else []
        return tuple(found)

    def map(self, function: Callable[[Term], Term]) -> Term:
        """Return the term with every operand replaced by ``function`` of it."""
        changed: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Term):
                changed[field.name] = function(value)
            elif type(value) is tuple and value and isinstance(value[0], Term):
                changed[field.name] = tuple(function(v) for v in value)
        return replace(self, **changed) if changed else self  # type: ignore[type-var]

    def put(self, old: Term, new: Term) -> Term:
        """Return the term with ``new`` wherever ``old`` stands."""
        return new if self == old else self.map(lambda operand: operand.put(old, new))

    def __iter__(self) -> Iterator[Term]:
        """Go through the term and everything in it."""
        yield self
        for operand in self.operands:
            yield from operand


@dataclass(frozen=True)
class Symbol(Term):
    """A letter: its role (W, a, delta, ...), its layer, and its shape."""

    role: str
    layer: Any
    shape: Shape

    @property
    def key(self) -> Key:
        """What the symbol is looked up by."""
        return (self.role, self.layer)

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        return values(self)


@dataclass(frozen=True)
class Function:
    """A function of one or more values, with its name in formulas."""

    name: str
    call: Callable[..., Value] | None = None


@dataclass(frozen=True)
class Apply(Term):
    """``f(x)``, or ``f(x, y)``."""

    function: Function
    arguments: tuple[Term, ...]

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        assert self.function.call is not None
        found = (argument.evaluate(values, rounding) for argument in self.arguments)
        return self.function.call(*found, rounding)


@dataclass(frozen=True)
class Times(Term):
    """``c x`` for a number c that has a name, such as ``1/N``."""

    name: str
    value: float
    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        x = self.term.evaluate(values, rounding)
        number, size = self.value * x.number, abs(self.value)
        return Value(number, size * x.error + 2 * rounding.unit * np.abs(number) + rounding.tiny)


@dataclass(frozen=True)
class Transpose(Term):
    """``xᵀ``."""

    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        x = self.term.evaluate(values, rounding)
        return Value(np.swapaxes(x.number, -2, -1), np.swapaxes(x.error, -2, -1))


@dataclass(frozen=True)
class Sum(Term):
    """``x + y + ...``."""

    terms: tuple[Term, ...]

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        found = [term.evaluate(values, rounding) for term in self.terms]
        number, error = found[0]
        for x in found[1:]:
            # a sum that comes out exact in the wider format may round in the accused one
            size = np.abs(number) + np.abs(x.number)
            number, error = number + x.number, rounding.both(error, x.error)
            error = rounding.both(error, rounding.unit * size)
        return Value(number, error)


@dataclass(frozen=True)
class Product(Term):
    """``A B ... x``, evaluated from the right."""

    factors: tuple[Term, ...]

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        right = self.factors[-1].evaluate(values, rounding)
        for factor in self.factors[-2::-1]:
            right = times(factor.evaluate(values, rounding), right, rounding)
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
    ku = (k + 2) * rounding.unit
    error = left @ (B.error + ku * right) + A.error @ (right + B.error) + k * rounding.tiny
    return Value(A.number @ B.number, error)


@dataclass(frozen=True)
class Hadamard(Term):
    """``x ⊙ y``, entry by entry."""

    left: Term
    right: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        return _entries(
            self.left.evaluate(values, rounding), self.right.evaluate(values, rounding), rounding
        )


@dataclass(frozen=True)
class Slopes(Term):
    """``diag(s) x``, which is ``s ⊙ x`` in every column of x (identity 1)."""

    slopes: Term
    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        return _entries(
            self.slopes.evaluate(values, rounding), self.term.evaluate(values, rounding), rounding
        )


def _entries(x: Value, y: Value, rounding: Rounding) -> Value:
    left, right = np.abs(x.number), np.abs(y.number)
    error = rounding.both(left * y.error, x.error * (right + y.error))
    return Value(x.number * y.number, error + 2 * rounding.unit * left * right + rounding.tiny)


@dataclass(frozen=True)
class Quotient(Term):
    """``x / y``, entry by entry."""

    numerator: Term
    denominator: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        x = self.numerator.evaluate(values, rounding)
        y = self.denominator.evaluate(values, rounding)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            number = x.number / y.number
            distance = np.maximum(np.abs(y.number) - y.error, 0)
            error = (x.error + np.abs(number) * y.error) / distance
        error = np.where((x.number == 0) & (x.error == 0), 0, error)
        return Value(number, error + 2 * rounding.unit * np.abs(number) + rounding.tiny)


@dataclass(frozen=True)
class Diagonal(Term):
    """``diag(s)``."""

    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        x = self.term.evaluate(values, rounding)
        eye = np.eye(x.number.shape[-2])
        return Value(x.number * eye, x.error * eye)


@dataclass(frozen=True)
class Kronecker(Term):
    """``A ⊗ B``."""

    left: Term
    right: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        A, B = self.left.evaluate(values, rounding), self.right.evaluate(values, rounding)
        a, b = (np.abs(x.number) for x in (A, B))
        error = _kron(a, B.error + 2 * rounding.unit * b) + _kron(A.error, b + B.error)
        return Value(_kron(A.number, B.number), error + rounding.tiny)


def _kron(A: Array, B: Array) -> Array:
    pairs = A[..., :, None, :, None] * B[..., None, :, None, :]
    *lead, m, p, n, q = pairs.shape
    return pairs.reshape(*lead, m * p, n * q)


@dataclass(frozen=True)
class Identity(Term):
    """``I``, n x n."""

    n: Any

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        return Value(np.eye(self.n), np.zeros((self.n, self.n)))


@dataclass(frozen=True)
class Vec(Term):
    """``vec(A)``: the columns of A under each other."""

    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        x = self.term.evaluate(values, rounding)
        return Value(*(_columns(part) for part in x))


def _columns(A: Array) -> Array:
    return np.swapaxes(A, -2, -1).reshape(*A.shape[:-2], -1, 1)


@dataclass(frozen=True)
class Unvec(Term):
    """``vec⁻¹(x)``, of the given shape; by rows if ``rows``, which is another matrix."""

    term: Term
    shape: Shape
    rows: bool = False

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        m, n = self.shape

        def cut(x: Array) -> Array:
            lead = x.shape[:-2]
            if self.rows:
                return x.reshape(*lead, m, n)
            return np.swapaxes(x.reshape(*lead, n, m), -2, -1)

        x = self.term.evaluate(values, rounding)
        return Value(cut(x.number), cut(x.error))


@dataclass(frozen=True)
class OverPoints(Term):
    """``sum over the points``, in any order."""

    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        if isinstance(self.term, Product) and len(self.term.factors) == 2:
            A, B = (factor.evaluate(values, rounding) for factor in self.term.factors)
            if A.number.ndim == B.number.ndim == 3:
                beside = Value(*(np.concatenate(list(part), axis=1) for part in A))
                below = Value(*(np.concatenate(list(part), axis=0) for part in B))
                return times(beside, below, rounding)
        x = self.term.evaluate(values, rounding)
        if x.number.ndim == 2:
            return x
        each = x.error + (len(x.number) + 1) * rounding.unit * np.abs(x.number)
        return Value(x.number.sum(axis=0), each.sum(axis=0))


@dataclass(frozen=True)
class OnePoint(Term):
    """The value at one point of the data set, the first (0) or the last (-1)."""

    term: Term
    point: int

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        x = self.term.evaluate(values, rounding)
        return x if x.number.ndim == 2 else Value(x.number[self.point], x.error[self.point])
