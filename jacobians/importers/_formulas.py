"""Activations that exporters write out, recognised by what they compute.

Between a value x and a node that depends on x entry by entry stand sums, products and elementary
functions.  Multiplied out, what the node computes is a polynomial in x and in functions of such
polynomials: a normal form, the same however it was written.  ``x * sigmoid(x)`` and
``x / (1 + exp(-x))`` are one; each activation has its own, from the formulas below, and a step that
computes it becomes that activation of x.  What is not recognised is computed as it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from heapq import heappop, heappush
from math import pi, sqrt
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation
from jacobians.importers._folding import Step
from jacobians.layers import Add, Multiply, Reshape

Factor = tuple[str, "Formula | None"]  # a function with its argument; x is ("x", None)
Term = tuple[str, float, tuple[Factor, ...]]  # how it is written, its coefficient, its factors

_MOST_TERMS, _MOST_STEPS = 32, 16


class Formula:
    """A polynomial in x and in functions of polynomials, multiplied out and sorted."""

    def __init__(self, terms: dict[str, tuple[float, tuple[Factor, ...]]]) -> None:
        kept = [(key, c, factors) for key, (c, factors) in terms.items() if c]
        self.terms: tuple[Term, ...] = tuple(sorted(kept, key=lambda term: term[0]))
        if len(self.terms) > _MOST_TERMS:
            raise _TooLongError
        self.text = " + ".join(f"{c:.5g} {key}" for key, c, _ in self.terms)

    def __add__(self, other: Any) -> Formula:
        terms = {key: (c, factors) for key, c, factors in self.terms}
        for key, c, factors in as_formula(other).terms:
            terms[key] = (terms.get(key, (0.0, ()))[0] + c, factors)
        return Formula(terms)

    def __mul__(self, other: Any) -> Formula:
        terms: dict[str, tuple[float, tuple[Factor, ...]]] = {}
        for _, c, left in self.terms:
            for _, d, right in as_formula(other).terms:
                factors = tuple(sorted(left + right, key=_written))
                key = "*".join(map(_written, factors))
                terms[key] = (terms.get(key, (0.0, ()))[0] + c * d, factors)
        return Formula(terms)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Formula:
        return self * -1.0

    def __sub__(self, other: Any) -> Formula:
        return self + -as_formula(other)

    def __rsub__(self, other: Any) -> Formula:
        return as_formula(other) + -self

    def agrees(self, other: Formula, tolerance: float) -> bool:
        """Compare all coefficients of two formulas that are written alike."""
        return len(self.terms) == len(other.terms) and all(
            key == other_key
            and abs(c - d) <= tolerance * abs(d)
            and all(
                f is None or g is None or f.agrees(g, tolerance)
                for (_, f), (_, g) in zip(factors, others, strict=True)
            )
            for (key, c, factors), (other_key, d, others) in zip(
                self.terms, other.terms, strict=True
            )
        )


class _TooLongError(Exception):
    """A formula has too many terms to be that of an activation."""


def _written(factor: Factor) -> str:
    name, argument = factor
    return name if argument is None else f"{name}({argument.text})"


def as_formula(value: Any) -> Formula:
    """Return a number as a formula."""
    return value if isinstance(value, Formula) else Formula({"": (float(value), ())})


X = Formula({"x": (1.0, (("x", None),))})


def _call(name: str, x: Formula) -> Formula:
    return Formula({f"{name}({x.text})": (1.0, ((name, x),))})


def _function(name: str) -> Callable[[Formula], Formula]:
    return lambda x: _call(name, x)


exp, log, erf, tanh = map(_function, ("exp", "log", "erf", "tanh"))
relu, absolute, reciprocal = map(_function, ("relu", "abs", "reciprocal"))


def sigmoid(x: Formula) -> Formula:
    """``1 / (1 + exp(-x))``."""
    return reciprocal(1 + exp(-x))


def softplus(x: Formula) -> Formula:
    """``log(1 + exp(x))``."""
    return log(1 + exp(x))


def above(x: Formula, bound: float) -> Formula:
    """1 where x is above a bound, 0 elsewhere."""
    return relu(_call("sign", x - bound))


def _gelu_tanh(x: Formula) -> Formula:
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * (x * x * x))))


# what an activation is in elementary functions, so that one of it may stand in another
DEFINITIONS: dict[str, Callable[[Formula], Formula]] = {
    "identity": lambda x: x,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "softsign": lambda x: x * reciprocal(1 + absolute(x)),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * tanh(softplus(x)),
    "gelu": lambda x: 0.5 * x * (1 + erf(sqrt(0.5) * x)),
    "gelu_tanh": _gelu_tanh,
    "square": lambda x: x * x,
    "gaussian": lambda x: exp(-(x * x)),
}
_MORE: list[tuple[str, float, Callable[[Formula], Formula]]] = [
    # other ways to write one; the sign is that of both x and the result
    ("softplus", 1.0, lambda x: relu(x) + log(1 + exp(-absolute(x)))),
    ("softplus", -1.0, lambda x: log(sigmoid(x))),  # log(sigmoid(x)) = -softplus(-x)
    ("softplus", -1.0, lambda x: -relu(-x) - log(1 + exp(-absolute(x)))),
]
FORMS: list[tuple[str, float, Formula]] = [
    *((name, 1.0, formula(X)) for name, formula in DEFINITIONS.items() if name != "identity"),
    *((name, sign, formula(X)) for name, sign, formula in _MORE),
]
# From 20 on softplus is x to the last bit of float32, and frameworks write it so.
THRESHOLD = above(X, 20.0) * X + softplus(X) - above(X, 20.0) * softplus(X)
_ELEMENTARY = ("exp", "log", "erf", "tanh", "relu", "abs", "reciprocal", "sign")


def _functions(formula: Formula) -> Counter[str]:
    """Count the functions in a formula, each with its argument once."""
    found: dict[str, str] = {}
    waiting = [formula]
    while waiting:
        for _, _, factors in waiting.pop().terms:
            for name, argument in factors:
                if argument is not None:
                    found[_written((name, argument))] = name
                    waiting.append(argument)
    return Counter(found.values())


# A node is looked at closely only if as many functions stand behind it as in a formula.
_INSIDE = {name: _functions(formula(X)) for name, formula in DEFINITIONS.items()}
_INSIDE["power"] = Counter()  # of whole exponents
_COUNTS = [_functions(form) for _, _, form in [*FORMS, ("", 0.0, THRESHOLD)]]


def recognised(steps: Sequence[Step], single: bool) -> tuple[int, str, float] | None:
    """Tell of which step the last one is a known activation, which one, and with what sign.

    Parameters
    ----------
    steps : sequence of Step
    single : bool
        Whether the model computes in float32, so that its constants are rounded to that.
    """
    if _operation(steps[-1]) not in ("multiply", "add", "scale", "log", "exp", "reciprocal"):
        return None
    for base, inner in _bases(steps):
        found = _activation_of(steps, base, inner, single)
        if found is not None:
            return base, *found
    return None


_LAYERS = {Add: "add", Multiply: "multiply", Reshape: "reshape"}
_NO_FUNCTIONS = ("", "scale", *_LAYERS.values())


def _operation(step: Step) -> str:
    """Return what a step does with every entry by itself: "" if it is not that."""
    if step.layer is not None:
        return _LAYERS.get(type(step.layer), "")
    if step.W is not None:
        return "scale" if step.W.ndim == 1 else ""
    return step.sigma.name if step.sources and isinstance(step.sigma, Activation) else ""


def _bases(steps: Sequence[Step]) -> Iterator[tuple[int, list[int]]]:
    """Yield the steps through which everything goes that the last depends on, the nearest first."""
    base = len(steps) - 1
    waiting: list[int] = []  # a heap, the last step first
    inner, met = [base], {base}
    functions: Counter[str] = Counter()
    complete = True  # without a function it may be a square
    while True:
        operation = _operation(steps[base])
        if operation not in _NO_FUNCTIONS:
            functions += _INSIDE.get(operation, Counter([operation]))
            complete, possible = _compared(frozenset(functions.items()))
            if not possible:
                return
        for source in steps[base].sources:
            if source not in met:
                met.add(source)
                heappush(waiting, -source)
        base = -heappop(waiting)
        if not waiting and complete:
            yield base, inner
        if not _operation(steps[base]) or len(inner) == _MOST_STEPS:
            return
        inner.append(base)


@cache
def _compared(functions: frozenset[tuple[str, int]]) -> tuple[bool, bool]:
    """Tell whether some formula has just these functions, and whether one has at least these."""
    counted = Counter(dict(functions))
    return counted in _COUNTS, any(counted <= count for count in _COUNTS)


def _activation_of(
    steps: Sequence[Step], base: int, inner: list[int], single: bool
) -> tuple[str, float] | None:
    operations = {_operation(steps[one]) for one in inner}
    if _operation(steps[-1]) == "scale" and not operations & {"multiply", "add"}:
        return None  # what is recognised already, with a sign before and behind
    formulas = {base: X}
    try:
        for one in reversed(inner):
            formulas[one] = _formula(steps[one], [formulas[k] for k in steps[one].sources])
    except (_TooLongError, ValueError, OverflowError):
        return None
    tolerance = 4 * float(np.finfo(np.float32 if single else np.float64).eps)
    forms = [*FORMS, ("softplus", 1.0, THRESHOLD)] if single else FORMS
    return next((f[:2] for f in forms if formulas[inner[0]].agrees(f[2], tolerance)), None)


def _formula(step: Step, sources: list[Formula]) -> Formula:
    name, (total, *rest) = _operation(step), sources
    if name == "scale":
        return total * _number(step.W) + _number(step.b)
    for source in rest:
        total = total + source if name == "add" else total * source
    if name in ("add", "multiply", "reshape"):
        return total
    if name in DEFINITIONS:
        return DEFINITIONS[name](total)
    if name == "power" and dict(step.sigma.parameters)["exponent"] == 3:
        return total * total * total
    if name not in _ELEMENTARY:
        raise ValueError(f"{name} stands in no formula")
    return _call(name, total)


def _number(entries: Array | None) -> float:
    assert entries is not None
    if (entries != entries[0]).any():
        raise ValueError("another number for every entry")
    return float(entries[0])
