"""The catalogue of mistakes: each a transformation of lines of the derivation.

A mistake is a rule ``(rules, key, term) -> term``, or None where it has nothing to change, and the
lines it is made in: one, or the same in every layer, as a loop would make it.  The rule gets the
rules of the network at hand, so the same mistake can be made on any network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from jacobians.activations import IDENTITY, SIGMOID, Activation
from jacobians.activations import activation as named
from jacobians.derivation import functions
from jacobians.derivation.rules import Rules, minus, total
from jacobians.derivation.terms import (
    Apply,
    Hadamard,
    Key,
    Kronecker,
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
    Unvec,
    Value,
    Values,
    Vec,
)

TANH = named("tanh")

Rule: TypeAlias = Callable[[Rules, Key, Term], Term | None]


@dataclass(frozen=True, eq=False)
class Mistake:
    """A mistake and the lines it is made in.

    Attributes
    ----------
    name : str
        Its name in the catalogue.
    sites : tuple of (role, layer)
        The lines it changes.
    rule : callable
    words : str
        What was done, for a reader.
    late : bool
        Made on the finished result of a line, after all others.
    likelihood : int
        Which of several that look the same is named first: the smaller.
    """

    name: str
    sites: tuple[Key, ...]
    rule: Rule
    words: str
    late: bool = False
    likelihood: int = 1

    def change(self, rules: Rules, key: Key, term: Term) -> Term | None:
        """Return the line as the mistake writes it; None if it cannot be made here."""
        return self.rule(rules, key, term)


# --- rewriting ------------------------------------------------------------------------------------


def _slopes(change: Callable[[Rules, Key, Slopes], Term | None]) -> Rule:
    """Make a rule for the factor ``D^l`` of a line."""

    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        found = next((part for part in term if isinstance(part, Slopes)), None)
        new = None if found is None else change(rules, key, found)
        return None if found is None or new is None else term.put(found, new)

    return rule


def _swap(change: Callable[[Rules, Key, Symbol], Symbol | Term | None], role: str) -> Rule:
    """Make a rule that puts something of the same shape in the place of a symbol."""

    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        found = next((s for s in term if isinstance(s, Symbol) and s.role == role), None)
        new = None if found is None else change(rules, key, found)
        if found is None or new is None or (isinstance(new, Symbol) and new.shape != found.shape):
            return None
        return term.put(found, new)

    return rule


def _part(kind: type[Term], change: Callable[[Rules, Term], Term]) -> Rule:
    """Make a rule for the first term of a kind."""

    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        found = next((part for part in term if isinstance(part, kind)), None)
        return None if found is None else term.put(found, change(rules, found))

    return rule


def _whole(change: Callable[[Rules, Key, Term], Term | None]) -> Rule:
    return change


def _layer(rules: Rules, role: str, l: int) -> Symbol | None:
    low = {"a": 0, "W": 1, "s": 1, "z": 1, "delta": 1}[role]
    if not low <= l <= rules.net.depth or (role == "W" and not rules.is_dense(l)):
        return None
    if role == "s" and not isinstance(rules.activation(l), Activation):
        return None
    return rules.symbol(role, l)


def _shift(role: str, by: int) -> Rule:
    return _swap(lambda rules, key, s: _layer(rules, role, s.layer + by), role)


def _penalty(factor: Callable[[Rules], tuple[str, float]]) -> Rule:
    """Make a rule for the term ``lambda W``."""

    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        if not rules.l2 or not isinstance(term, Sum):
            return None
        name, c = factor(rules)
        *rest, penalty = term.terms
        return total(*rest, *((Times(name, c, penalty),) if c else ()))

    return rule


def _mean(change: Callable[[Rules, Times], Term]) -> Rule:
    """Make a rule for the term ``1/N sum``."""

    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        found = next((t for t in term if isinstance(t, Times) and t.name == "1/N"), None)
        if found is None or rules.points == 1:  # one point is its own mean
            return None
        return term.put(found, change(rules, found))

    return rule


def _scaled(factor: Callable[[Rules], tuple[str, float]]) -> Rule:
    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        name, c = factor(rules)
        return None if c == 1 else Times(name, c, term)

    return rule


@dataclass(frozen=True)
class Reshaped(Term):
    """Points and entries mixed up: an (n, N) array reshaped to (N, n) where ``.T`` was meant."""

    term: Term

    def evaluate(self, values: Values, rounding: Rounding) -> Value:
        """Reshape."""
        x = self.term.evaluate(values, rounding)

        def mix(part: np.ndarray) -> np.ndarray:
            return part if part.ndim == 2 else part[..., 0].T.reshape(part.shape)

        return Value(mix(x.number), mix(x.error))


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


# --- the catalogue --------------------------------------------------------------------------------

_FACTORS: tuple[tuple[str, Callable[[Rules], tuple[str, float]], str, int], ...] = (
    ("sign", lambda r: ("−", -1.0), "has the wrong sign", 1),
    ("factor 2", lambda r: ("2", 2.0), "is 2 times the truth", 2),
    ("factor 1/2", lambda r: ("1/2", 0.5), "is half the truth", 2),
    ("factor N", lambda r: ("N", float(r.points or 1)), "is N times the truth", 3),
    ("factor 1/N", lambda r: ("1/N", 1.0 / (r.points or 1)), "is 1/N of the truth", 3),
    ("factor n", lambda r: ("n", float(r.width(None))), "is n times the truth, n outputs", 4),
    ("factor 1/n", lambda r: ("1/n", 1.0 / r.width(None)), "is 1/n of the truth, n outputs", 4),
    ("factor 2/n", lambda r: ("2/n", 2.0 / r.width(None)), "is 2/n of the truth, n outputs", 5),
)


def _of_delta() -> Iterator[tuple[str, Rule, str, int]]:
    """Mistakes in the line of an error, ``delta^l = D^l (W^{l+1}ᵀ delta^{l+1})``."""
    yield "slope missing", _slopes(lambda r, k, t: t.term), "the slopes are left out", 0
    yield (
        "slope twice",
        _slopes(lambda r, k, t: Slopes(t.slopes, t)),
        "the slopes are there twice",
        1,
    )
    for by in (1, -1, 2, -2):
        words = f"the slopes are those {abs(by)} layer{'s' * (abs(by) > 1)} {'above' if by > 0 else 'below'}"
        yield f"slope of another layer ({by:+d})", _shift("s", by), words, 1
    yield "trace", _slopes(_trace), "the trace of D stands in place of D", 2
    yield "row sum", _slopes(_row_sum), "what comes back is summed before the slopes are applied", 3
    yield "mask of the wrong array", _slopes(_mask), "the slopes are taken at what comes back", 2
    yield (
        "W not transposed",
        _part(Product, _untransposed),
        "W stands where its transpose should",
        0,
    )
    for by in (1, -1, 2, -2):
        words = (
            f"W is that of {abs(by)} layer{'s' * (abs(by) > 1)} {'above' if by > 0 else 'below'}"
        )
        yield f"W of another layer ({by:+d})", _shift("W", by), words, 1


def _trace(rules: Rules, key: Key, term: Slopes) -> Term:
    return Product((term.term, rules.symbol("ones", key[1]), term.slopes))


def _row_sum(rules: Rules, key: Key, term: Slopes) -> Term:
    return Product((term.slopes, rules.symbol("ones", key[1]), term.term))


def _mask(rules: Rules, key: Key, term: Slopes) -> Term | None:
    activation = rules.activation(key[1])
    if not activation.kinks or not isinstance(activation, Activation):
        return None
    return Slopes(Apply(functions.slope(activation), (term.term,)), term.term)


def _untransposed(rules: Rules, term: Term) -> Term:
    assert isinstance(term, Product)
    first = term.factors[0]
    return Product((first.term if isinstance(first, Transpose) else first, *term.factors[1:]))


def _at_the_output(rules: Rules) -> Iterator[tuple[str, Rule, str, int]]:
    """Mistakes where the loss meets the last activation."""
    L = rules.net.depth
    softmax = not isinstance(rules.activation(L), Activation)
    if rules.is_fused():
        words = "the last activation's derivative is applied though it has cancelled"
        yield "applied after it cancelled", lambda r, k, t: r.through(L, t), words, 0
        words = "the last activation's derivative is left out: only the loss is differentiated"
        yield "left out", lambda r, k, t: r.symbol("c", None), words, 1
    elif softmax:
        words = "the last activation's derivative is left out: only the loss is differentiated"
        yield "left out", lambda r, k, t: r.symbol("c", None), words, 1
        yield "applied twice", lambda r, k, t: r.through(L, t), "D is there twice", 1
    if softmax:
        words = "D is taken as diagonal, p (1 - p), without its other entries"
        yield (
            "softmax taken diagonal",
            lambda r, k, t: Slopes(_diagonal(r), r.symbol("c", None)),
            words,
            0,
        )
        words = "D is taken as diag(p)"
        yield (
            "softmax taken diag(p)",
            lambda r, k, t: Slopes(r.symbol("a", L), r.symbol("c", None)),
            words,
            2,
        )


def _broadcasts(rules: Rules) -> Iterator[tuple[str, Rule, str, int]]:
    """Mistakes of shapes (N,) and (N, 1) between one output and its target."""
    if rules.width(None) == 1 and (rules.points or 1) > 1:
        for role, name in (("y", "target"), ("a", "output")):
            words = f"the {name} is averaged over the points: shapes (N,) and (N, 1) broadcast"
            rule = _swap(lambda r, k, s: r.mean(s), role)
            yield f"broadcast of the {name}s", rule, words, 1


def _diagonal(rules: Rules) -> Term:
    p, L = rules.symbol("a", rules.net.depth), rules.net.depth
    return Hadamard(p, minus(rules.symbol("1", L), p))


def _of_slopes(rules: Rules, l: int) -> Iterator[tuple[str, Rule, str, int]]:
    """Mistakes in ``sigma'(z^l)`` itself."""
    activation = rules.activation(l)
    yield (
        "σ'(a) for σ'(z)",
        _swap(lambda r, k, s: r.symbol("a", s.layer), "z"),
        "the slope is taken at a, not at z",
        0,
    )
    rule = _swap(lambda r, k, s: _layer(r, "a", s.layer - 1), "z")
    yield "slope at the layer's input", rule, "the slope is taken at what enters the layer", 2
    if activation in (SIGMOID, TANH):
        words = "the formula of the slope in terms of a is given z"
        yield "formula for a given z", _formula_for_a, words, 1


def _formula_for_a(rules: Rules, key: Key, term: Term) -> Term:
    z, one = rules.symbol("z", key[1]), rules.symbol("1", key[1])
    if rules.activation(key[1]) == TANH:
        return minus(one, Hadamard(z, z))
    return Hadamard(z, minus(one, z))


def _of_weights() -> Iterator[tuple[str, Rule, str, int]]:
    """Mistakes in ``1/N sum delta aᵀ + lambda W``."""
    yield "transposed", lambda r, k, t: Transpose(t), "the whole is transposed", 0
    yield (
        "outer product swapped",
        _part(Product, _swapped),
        "the outer product is a deltaᵀ, not delta aᵀ",
        1,
    )
    yield "stacked by rows", _by_rows, "vec stacks rows, not columns", 1
    for by in (1, -1, 2, -2):
        words = (
            f"a is that of {abs(by)} layer{'s' * (abs(by) > 1)} too {'high' if by > 0 else 'low'}"
        )
        yield f"value of the wrong layer ({by:+d})", _shift("a", by), words, 1
        words = f"delta is that of {abs(by)} layer{'s' * (abs(by) > 1)} too {'high' if by > 0 else 'low'}"
        yield f"delta of the wrong layer ({by:+d})", _shift("delta", by), words, 1
    rule = _swap(lambda r, k, s: _layer(r, "z", s.layer) if s.layer else None, "a")
    yield "z for a", rule, "the preactivation stands in place of the activation", 1
    yield "batch axis of a", _points_mixed("a"), "a is reshaped where it should be transposed", 2
    yield (
        "batch axis of delta",
        _points_mixed("delta"),
        "delta is reshaped where it should be transposed",
        2,
    )
    yield "penalty left out", _penalty(lambda r: ("0", 0.0)), "the penalty is left out", 0
    yield (
        "penalty doubled",
        _penalty(lambda r: ("2", 2.0)),
        "the penalty is 2 lambda W, not lambda W",
        0,
    )
    yield "penalty halved", _penalty(lambda r: ("1/2", 0.5)), "the penalty is lambda W / 2", 1
    yield (
        "penalty divided by N",
        _penalty(lambda r: ("1/N", 1 / (r.points or 1))),
        "the penalty is divided by N",
        0,
    )
    yield (
        "penalty with the wrong sign",
        _penalty(lambda r: ("−", -1.0)),
        "the penalty is subtracted",
        1,
    )


def _swapped(rules: Rules, term: Term) -> Term:
    assert isinstance(term, Product)
    delta, a = term.factors[0], term.factors[-1]
    return Product((a.term if isinstance(a, Transpose) else a, Transpose(delta)))


def _by_rows(rules: Rules, key: Key, term: Term) -> Term:
    return Unvec(Vec(Transpose(term)), rules.symbol("W", key[1]).shape)


def _points_mixed(role: str) -> Rule:
    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        return _swap(lambda r, k, s: Reshaped(s), role)(rules, key, term) if rules.points else None

    return rule


def _of_biases() -> Iterator[tuple[str, Rule, str, int]]:
    yield "penalty on biases", _penalised_bias, "the biases are penalised too", 0
    yield (
        "bias not summed",
        _mean(lambda r, t: Times(t.name, t.value, _inner(t))),
        "the points are not added up",
        0,
    )
    yield (
        "bias not summed, no mean",
        _mean(lambda r, t: _inner(t)),
        "the points are neither added up nor averaged",
        1,
    )
    yield "delta of the wrong layer (+1)", _shift("delta", 1), "delta is that of the layer above", 2
    yield (
        "delta of the wrong layer (-1)",
        _shift("delta", -1),
        "delta is that of the layer below",
        2,
    )


def _penalised_bias(rules: Rules, key: Key, term: Term) -> Term | None:
    return Sum((term, Times("λ", rules.l2, rules.symbol("b", key[1])))) if rules.l2 else None


def _inner(term: Times) -> Term:
    return term.term.term if isinstance(term.term, OverPoints) else term.term


def _of_means() -> Iterator[tuple[str, Rule, str, int]]:
    yield (
        "sum for mean",
        _mean(lambda r, t: t.term),
        "the sum over the points stands where their mean should",
        0,
    )
    yield "N twice", _mean(lambda r, t: Times(t.name, t.value, t)), "it is divided by N twice", 0
    for point, name in ((0, "first"), (-1, "last")):
        rule = _mean(lambda r, t, p=point: OnePoint(_inner(t), p))  # type: ignore[misc]
        yield f"only the {name} point", rule, f"only the {name} point is used", 1
        rule = _mean(lambda r, t, p=point: Times(t.name, t.value, OnePoint(_inner(t), p)))  # type: ignore[misc]
        yield (
            f"only the {name} point, over N",
            rule,
            f"only the {name} point is used, and divided by N",
            2,
        )


def _of_jacobians() -> Iterator[tuple[str, Rule, str, int]]:
    yield "slope missing", _slopes(lambda r, k, t: t.term), "the slopes are left out", 0
    yield (
        "slope twice",
        _slopes(lambda r, k, t: Slopes(t.slopes, t)),
        "the slopes are there twice",
        1,
    )
    for by in (1, -1):
        words = f"the slopes are those of the layer {'above' if by > 0 else 'below'}"
        yield f"slope of another layer ({by:+d})", _shift("s", by), words, 1
        words = f"W is that of the layer {'above' if by > 0 else 'below'}"
        yield f"W of another layer ({by:+d})", _shift("W", by), words, 1
    yield (
        "W transposed",
        _swap(lambda r, k, s: Transpose(s) if s.shape[0] == s.shape[1] else None, "W"),
        "W is transposed",
        1,
    )


def catalogue(rules: Rules, claimed: Iterable[Key]) -> list[Mistake]:
    """Return every mistake that could be in arrays of these roles.

    Parameters
    ----------
    rules : Rules
    claimed : keys of the arrays given
    """
    claimed = sorted(claimed)
    L, roles = rules.net.depth, {role for role, _ in claimed}
    dense = [l for l in range(1, L + 1) if rules.is_dense(l)]
    elementwise = [l for l in range(1, L + 1) if isinstance(rules.activation(l), Activation)]
    found: list[Mistake] = []

    def add(
        rows: Iterable[tuple[str, Rule, str, int]], role: str, layers: list[int], late: bool = False
    ) -> None:
        for name, rule, words, likelihood in rows:
            if len(layers) > 1:
                sites = tuple((role, l) for l in layers)
                found.append(Mistake(name, sites, rule, words, late, likelihood))
            found.extend(
                Mistake(name, ((role, l),), rule, words, late, likelihood + 1) for l in layers
            )

    gradients = bool(roles & {"dW", "db", "ddelta", "dx"})
    for l in elementwise:
        add(_of_slopes(rules, l), "s", [l])
    if len(elementwise) > 1:
        add(((n, r, w, p) for n, r, w, p in _of_slopes(rules, elementwise[0])), "s", elementwise)
    if gradients:
        hidden = [l for l in range(1, L) if l in elementwise]
        straight = rules.activation(L) == IDENTITY  # whose slopes are 1
        last = [L] if L in elementwise and not straight and not rules.is_fused() else []
        add(_of_delta(), "delta", [*hidden, *last])
        if last and len(hidden) > 1:
            add(_of_delta(), "delta", hidden)
        add(_at_the_output(rules), "delta", [L])
        place = ("delta", L) if rules.is_fused() else ("c", None)
        found.extend(Mistake(n, (place,), r, w, False, p) for n, r, w, p in _broadcasts(rules))
        add(_of_weights(), "dW", [l for l in dense if "dW" in roles])
        add(_of_biases(), "db", [l for l in dense if "db" in roles])
        both = [(role, l) for l in dense for role in ("dW", "db") if role in roles]
        for name, rule, words, likelihood in _of_means():
            if len(both) > 1:
                found.append(Mistake(name, tuple(both), rule, words, False, likelihood))
            for role in ("dW", "db"):
                add([(name, rule, words, likelihood + 1)], role, dense if role in roles else [])
    if roles & {"J", "JW"}:
        add(_of_jacobians(), "J", list(range(1, L + 1)))
        if "J" in roles:
            found.append(
                Mistake(
                    "transposed",
                    (("J", L),),
                    lambda r, k, t: Transpose(t),
                    "the whole is transposed",
                    True,
                    0,
                )
            )
        if "JW" in roles:
            rows = [
                (
                    "stacked by rows",
                    _part(Kronecker, lambda r, t: Kronecker(t.right, t.left)),
                    "vec stacks rows, not columns",
                    0,
                ),  # type: ignore[attr-defined]
                ("transposed", lambda r, k, t: Transpose(t), "the whole is transposed", 1),
                *(
                    (
                        f"value of the wrong layer ({by:+d})",
                        _shift("a", by),
                        "a is of the wrong layer",
                        1,
                    )
                    for by in (1, -1)
                ),
            ]
            add(rows, "JW", dense)
    found += list(_factors(rules, claimed, gradients))
    found += [m for l in range(1, L + 1) for m in _forward(rules, l)]
    return found


def _factors(rules: Rules, claimed: list[Key], gradients: bool) -> Iterator[Mistake]:
    """Constant factors: in a result, in all results of a kind, in an error and all below it."""
    L = rules.net.depth
    deltas = [("delta", l) for l in range(1, L + 1)] if gradients else []
    groups = [
        tuple(k for k in claimed if k[0] == role) for role in dict.fromkeys(r for r, _ in claimed)
    ]
    for name, factor, words, likelihood in _FACTORS:
        for key in (*reversed(deltas), *claimed):
            yield Mistake(
                name, (key,), _scaled(factor), words, True, likelihood + 2 * (key != ("delta", L))
            )
        for sites in groups:
            if len(sites) > 1:
                yield Mistake(name, sites, _scaled(factor), words, True, likelihood + 1)


def _forward(rules: Rules, l: int) -> Iterator[Mistake]:
    """Mistakes on the way forward, which every derivative inherits."""
    yield Mistake("bias left out", (("z", l),), _without_bias, "the bias is not added", False, 4)
    rule: Rule = lambda r, k, t: r.symbol("z", l)
    yield Mistake(
        "activation left out", (("a", l),), rule, "the activation is not applied", False, 4
    )


def _without_bias(rules: Rules, key: Key, term: Term) -> Term | None:
    return term.terms[0] if isinstance(term, Sum) else None


def constant(c: float, sites: tuple[Key, ...]) -> Mistake:
    """Return the mistake of a factor that has no name."""
    name = f"{c:.6g}"
    return Mistake(
        f"factor {name}",
        sites,
        lambda r, k, t: Times(name, c, t),
        f"is {name} times the truth",
        True,
        6,
    )


def penalty_of(c: float, sites: tuple[Key, ...]) -> Mistake:
    """Return the mistake of a penalty ``c W`` that the objective does not have."""

    def rule(rules: Rules, key: Key, term: Term) -> Term:
        return Sum((term, Times(f"{c:.6g}", c, rules.symbol("W", key[1]))))

    return Mistake("another penalty", sites, rule, f"{c:.6g} W is added to what is right", False, 6)


def dropped(l: int, kept: tuple[bool, ...], scale: float) -> Mistake:
    """Return the mistake of a layer in training mode, whose mask is read off the zeros."""

    def rule(rules: Rules, key: Key, term: Term) -> Term | None:
        return Masked(term, kept, scale) if len(kept) == rules.width(l) else None

    out = [str(i) for i, keep in enumerate(kept) if not keep]
    words = f"units {', '.join(out)} are dropped and the others multiplied by {scale:.4g}"
    return Mistake("dropout in training mode", (("a", l),), rule, words, False, 5)
