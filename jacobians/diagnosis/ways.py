"""Ways to write a line wrong: rules ``(rules, key, term) -> term``.

None where there is nothing to change.  A rule gets the rules of the network at hand, so that the
same mistake can be made on any network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jacobians.activations import SIGMOID, Activation, activation
from jacobians.derivation import functions
from jacobians.derivation.rules import Rules, minus, total
from jacobians.derivation.terms import (
    Apply,
    Hadamard,
    Key,
    OnePoint,
    OverPoints,
    Product,
    Rounding,
    Slopes,
    Sum,
    Symbol,
    Term,
    Times,
    Transpose,
    Value,
    Values,
)

Rule: TypeAlias = Callable[[Rules, Key, Any], Term | None]
TANH = activation("tanh")


def first(kind: type[Term], change: Rule) -> Rule:
    """Make a rule that changes the first term of a kind."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        found = next((part for part in term if isinstance(part, kind)), None)
        new = None if found is None else change(r, k, found)
        return None if found is None or new is None else term.put(found, new)

    return rule


def swap(role: str, change: Callable[[Rules, Symbol], Term | None]) -> Rule:
    """Make a rule that puts something of the same shape in the place of a symbol."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        found = next((s for s in term if isinstance(s, Symbol) and s.role == role), None)
        new = None if found is None else change(r, found)
        if found is None or new is None or (isinstance(new, Symbol) and new.shape != found.shape):
            return None
        return term.put(found, new)

    return rule


def shift(role: str, by: int) -> Rule:
    """Make a rule that takes a symbol of another layer."""
    return swap(role, lambda r, s: at(r, role, s.layer + by))


def at(r: Rules, role: str, l: int) -> Symbol | None:
    if not (0 if role == "a" else 1) <= l <= r.net.depth or (role == "W" and not r.is_dense(l)):
        return None
    return None if role == "s" and not r.is_elementwise(l) else r.symbol(role, l)


def penalty(c: Callable[[Rules], float], name: str = "") -> Rule:
    """Make a rule for the term ``lambda W``."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        if not r.l2 or not isinstance(term, Sum):
            return None
        *rest, penalty = term.terms
        return total(*rest, *((Times(name, c(r), penalty),) if name else ()))

    return rule


def mean(change: Callable[[Times, Term], Term]) -> Rule:
    """Make a rule for the term ``1/N sum x``, from it and x; one point is its own mean."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        found = next((t for t in term if isinstance(t, Times) and t.name == "1/N"), None)
        if found is None or r.points == 1:
            return None
        inner = found.term.term if isinstance(found.term, OverPoints) else found.term
        return term.put(found, change(found, inner))

    return rule


def again(t: Times, x: Term) -> Times:
    return Times(t.name, t.value, x)


def only(point: int) -> Callable[[Times, Term], Term]:
    return lambda t, x: OnePoint(x, point)


def scaled(name: str, factor: Callable[[Rules], float]) -> Rule:
    return lambda r, k, t: None if factor(r) == 1 else Times(name, factor(r), t)


def trace(r: Rules, k: Key, t: Slopes) -> Term:
    return Product((t.term, r.symbol("ones", k[1]), t.slopes))


def row_sum(r: Rules, k: Key, t: Slopes) -> Term:
    return Product((t.slopes, r.symbol("ones", k[1]), t.term))


def mask(r: Rules, k: Key, t: Slopes) -> Term | None:
    f = r.activation(k[1])
    if not f.kinks or not isinstance(f, Activation):
        return None
    return Slopes(Apply(functions.slope(f), (t.term,)), t.term)


def untransposed(r: Rules, k: Key, t: Product) -> Term | None:
    first = t.factors[0]
    return Product((first.term, *t.factors[1:])) if isinstance(first, Transpose) else None


def swapped(r: Rules, k: Key, t: Product) -> Term:
    delta, a = t.factors[0], t.factors[-1]
    return Product((a.term if isinstance(a, Transpose) else a, Transpose(delta)))


def applied_again(r: Rules, k: Key, t: Term) -> Term | None:
    return r.through(k[1], t) if r.is_fused() or not r.is_elementwise(k[1]) else None


def left_out(r: Rules, k: Key, t: Term) -> Term | None:
    return r.symbol("c", None) if r.is_fused() or not r.is_elementwise(k[1]) else None


def diagonal(r: Rules, k: Key, t: Term) -> Term | None:
    p = r.symbol("a", k[1])
    d = Hadamard(p, minus(r.symbol("1", k[1]), p))
    return None if r.is_elementwise(k[1]) else Slopes(d, r.symbol("c", None))


def diag_p(r: Rules, k: Key, t: Term) -> Term | None:
    return None if r.is_elementwise(k[1]) else Slopes(r.symbol("a", k[1]), r.symbol("c", None))


def broadcast(role: str) -> Rule:
    averaged = swap(role, lambda r, s: r.mean(s))
    return lambda r, k, t: averaged(r, k, t) if r.width(None) == 1 and (r.points or 1) > 1 else None


def formula_for_a(r: Rules, k: Key, t: Term) -> Term | None:
    z, one = r.symbol("z", k[1]), r.symbol("1", k[1])
    if r.activation(k[1]) == TANH:
        return minus(one, Hadamard(z, z))
    return Hadamard(z, minus(one, z)) if r.activation(k[1]) == SIGMOID else None


def penalised_bias(r: Rules, k: Key, t: Term) -> Term | None:
    return Sum((t, Times("λ", r.l2, r.symbol("b", k[1])))) if r.l2 else None


@dataclass(frozen=True)
class Reshaped(Term):
    """Points and entries mixed up: an (n, N) array reshaped to (N, n) where ``.T`` was meant."""

    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        """Reshape."""
        x = self.term.evaluate(values, rounding)
        return Value(*(p if p.ndim == 2 else p[..., 0].T.reshape(p.shape) for p in x))


@dataclass(frozen=True)
class Masked(Term):
    """Entries of a column left out, the others enlarged: dropout in training mode."""

    term: Term
    kept: tuple[bool, ...]
    scale: float

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        """Multiply by the mask."""
        x = self.term.evaluate(values, rounding)
        mask = self.scale * np.array(self.kept, float)[:, None]
        return Value(x.number * mask, x.error * mask + rounding.unit * np.abs(x.number) * mask)
