"""Ways to write a line wrong: rules ``(rules, key, term) -> term``.

None where there is nothing to change.  A rule gets the rules of the network at hand, so that the
same mistake can be made on any network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jacobians.activations import SIGMOID, SOFTMAX, Activation, activation
from jacobians.derivation import functions
from jacobians.derivation.rules import Rules
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
    minus,
    total,
)
from jacobians.losses import BinaryCrossEntropy, CrossEntropy

Rule: TypeAlias = Callable[[Rules, Key, Any], Term | None]
TANH = activation("tanh")


def first(kind: type[Term], change: Rule) -> Rule:
    """Make a rule that changes the first term of a kind."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        old = next((part for part in term if isinstance(part, kind)), None)
        new = None if old is None else change(r, k, old)
        return None if old is None or new is None else term.put(old, new)

    return rule


def swap(role: str, change: Callable[[Rules, Symbol], Term | None]) -> Rule:
    """Make a rule that puts something of the same shape in the place of a symbol."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        old = next((s for s in term if isinstance(s, Symbol) and s.role == role), None)
        new = None if old is None else change(r, old)
        if old is None or new is None or (isinstance(new, Symbol) and new.shape != old.shape):
            return None
        return term.put(old, new)

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
        *rest, old = term.operands
        return total(*rest, *((Times(old, about=(name, c(r))),) if name else ()))

    return rule


def mean(change: Callable[[Times, Term], Term]) -> Rule:
    """Make a rule for the term ``1/N sum x``, from it and x; one point is its own mean."""

    def rule(r: Rules, k: Key, term: Term) -> Term | None:
        old = next((t for t in term if isinstance(t, Times) and t.about[0] == "1/N"), None)
        if old is None or r.points == 1:
            return None
        (x,) = old.operands
        (x,) = x.operands if isinstance(x, OverPoints) else (x,)
        return term.put(old, change(old, x))

    return rule


def again(t: Times, x: Term) -> Times:
    return Times(x, about=t.about)


def only(point: int) -> Callable[[Times, Term], Term]:
    return lambda t, x: OnePoint(x, about=point)


def scaled(name: str, factor: Callable[[Rules], float]) -> Rule:
    return lambda r, k, t: None if factor(r) == 1 else Times(t, about=(name, factor(r)))


def mask(r: Rules, k: Key, t: Slopes) -> Term | None:
    f, x = r.activation(k[1]), t.operands[1]
    if not f.kinks or not isinstance(f, Activation):
        return None
    return Slopes(Apply(x, about=functions.slope(f, r.slope_at_kinks)), x)


def untransposed(r: Rules, k: Key, t: Product) -> Term | None:
    W, *rest = t.operands
    return Product(*W.operands, *rest) if isinstance(W, Transpose) else None


def swapped(r: Rules, k: Key, t: Product) -> Term:
    delta, a = t.operands[0], t.operands[-1]
    return Product(*(a.operands if isinstance(a, Transpose) else (a,)), Transpose(delta))


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


def of_logits(r: Rules, k: Key, t: Term) -> Term | None:
    if not isinstance(r.loss, (CrossEntropy, BinaryCrossEntropy)) or not r.is_straight(k[1]):
        return None
    inside = functions.sigma(SOFTMAX if isinstance(r.loss, CrossEntropy) else SIGMOID)
    return minus(Apply(r.symbol("z", k[1]), about=inside), r.symbol("y", None))


def broadcast(role: str) -> Rule:
    averaged = swap(role, lambda r, s: r.mean(s))
    return lambda r, k, t: averaged(r, k, t) if r.width(None) == 1 and (r.points or 1) > 1 else None


def formula_for_a(r: Rules, k: Key, t: Term) -> Term | None:
    z, one = r.symbol("z", k[1]), r.symbol("1", k[1])
    if r.activation(k[1]) == TANH:
        return minus(one, Hadamard(z, z))
    return Hadamard(z, minus(one, z)) if r.activation(k[1]) == SIGMOID else None


# --- layers in training mode ----------------------------------------------------------------------


class Reshaped(Term):
    """Points and entries mixed up: an (n, N) array reshaped to (N, n) where ``.T`` was meant."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        return Value(*(p if p.ndim == 2 else p[..., 0].T.reshape(p.shape) for p in x))


class Dropped(Term):
    """Entries of a column left out, the others enlarged: about which are kept, and the factor."""

    def combine(self, rounding: Rounding, x: Value) -> Value:
        kept, scale = self.about
        mask = scale * np.array(kept, float)[..., None]
        number = x.number * mask
        return Value(number, x.error * mask + rounding.unit * np.abs(number))


def dropout(l: int, kept: tuple[Any, ...], scale: float) -> Rule:
    """Make a rule for a layer in training mode: its value and what comes back through it."""
    shape, about = np.shape(kept), (kept, scale)

    def through(r: Rules, k: Key, t: Slopes) -> Term:
        s, x = t.operands
        return Slopes(s, Dropped(x, about=about))

    def rule(r: Rules, k: Key, t: Any) -> Term | None:
        if shape[-1] != r.width(l) or (len(shape) == 2 and shape[0] != r.points):
            return None
        return Dropped(t, about=about) if k[0] == "a" else first(Slopes, through)(r, k, t)

    return rule


class Standardised(Term):
    """``gamma (x - mean) / sqrt(var + eps)`` over the points of the batch; about gamma and eps.

    With a second operand, what comes back through that: ``delta`` at ``x``.
    """

    def combine(self, rounding: Rounding, x: Value, delta: Value | None = None) -> Value:
        gamma, epsilon = np.array(self.about[0])[:, None], self.about[1]
        if x.number.ndim == 2:
            raise ValueError("one point has no spread")
        centred = x.number - x.number.mean(axis=0)
        spread = np.sqrt((centred**2).mean(axis=0) + epsilon)
        normal = centred / spread
        moved = x.error.max(axis=0) + 8 * rounding.unit * np.abs(x.number).max(axis=0)
        moved = moved * (1 + np.abs(normal)) / spread
        if delta is None:
            return Value(gamma * normal, np.abs(gamma) * (3 * moved + 8 * rounding.unit))
        d, size = delta.number, np.abs(delta.number).max(axis=0)
        number = gamma / spread * (d - d.mean(axis=0) - normal * (normal * d).mean(axis=0))
        error = 3 * delta.error.max(axis=0) + size * (6 * moved + 16 * rounding.unit)
        return Value(number, np.abs(gamma / spread) * (1 + normal**2) * error)


def batch_norm(l: int, fresh: bool, epsilon: float) -> Rule:
    """Make a rule for a batch-norm, here a Scale, that takes the mean and spread of the batch.

    What it was trained to is known where it is new (mean 0 and variance 1), or has no parameters.
    """

    def rule(r: Rules, k: Key, t: Any) -> Term | None:
        arrays = r.net.layers[l - 1].arrays()
        if (r.points or 1) < 2 or set(arrays) != {"scale", "shift"} or len(r.sources(l)) != 1:
            return None
        (source,) = r.sources(l)
        gamma = arrays["scale"] * (1 + epsilon) ** 0.5 if fresh else np.ones_like(arrays["scale"])
        x, about = r.symbol("a", source), (tuple(gamma.tolist()), epsilon)
        delta, shift = r.symbol("delta", l), Symbol("shift", l, (len(gamma), 1))
        if k == ("z", l):
            normal = Standardised(x, about=about)
            return Sum(normal, shift) if fresh else normal
        changed: Term = t.put(r.pulled(l, 0, delta), Standardised(x, delta, about=about))
        return changed

    return rule
