"""The catalogue of mistakes: each a transformation of lines of the derivation.

A mistake is a rule and the lines it is made in: one, or the same in every layer, as a loop would
make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import (
    Key,
    Kronecker,
    OnePoint,
    Product,
    Slopes,
    Sum,
    Term,
    Times,
    Transpose,
    Unvec,
    Vec,
)
from jacobians.diagnosis import ways
from jacobians.diagnosis.ways import Reshaped, Rule
from jacobians.maps import Diagonal


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
    likelihood : int
        Which of several that look the same is named first: the smaller.
    late : bool
        Made on the finished result of a line, after all others.
    """

    name: str
    sites: tuple[Key, ...]
    rule: Rule
    words: str
    likelihood: int = 1
    late: bool = False


def _through_ones(r: Rules, k: Key, x: Term, y: Term) -> Term:
    return Product(x, r.symbol("ones", k[1]), y)


# where, name, likelihood, what was done, rule
# fmt: off
_ROWS: tuple[tuple[str, str, int, str, Rule], ...] = (
    ("delta J", "slope missing", 0, "the slopes are left out",
        ways.first(Slopes, lambda r, k, t: t.operands[1])),
    ("delta J", "slope twice", 1, "the slopes are there twice",
        ways.first(Slopes, lambda r, k, t: Slopes(t.operands[0], t))),
    ("delta", "trace", 2, "the trace of D stands in place of D",
        ways.first(Slopes, lambda r, k, t: _through_ones(r, k, *t.operands[::-1]))),
    ("delta", "row sum", 3, "what comes back is summed before the slopes are applied",
        ways.first(Slopes, lambda r, k, t: _through_ones(r, k, *t.operands))),
    ("delta", "mask of the wrong array", 2, "the slopes are taken at what comes back",
        ways.first(Slopes, ways.mask)),
    ("delta", "W not transposed", 0, "W stands where its transpose should",
        ways.first(Product, ways.untransposed)),
    ("output", "applied after it cancelled", 0, "the last D is applied though it has cancelled",
        ways.applied_again),
    ("output", "left out", 1, "the last D is left out: only the loss is differentiated",
        ways.left_out),
    ("output", "loss of logits", 0,
        "the loss itself takes the softmax or sigmoid that the network lacks", ways.of_logits),
    ("output", "softmax taken diagonal", 0, "D is taken as diag(p (1 - p))", ways.diagonal),
    ("output", "softmax taken diag(p)", 2, "D is taken as diag(p)", ways.diag_p),
    ("residual", "broadcast of the targets", 1,
        "the target is averaged over the points: shapes (N,) and (N, 1)", ways.broadcast("y")),
    ("residual", "broadcast of the outputs", 1,
        "the output is averaged over the points: shapes (N, 1) and (N,)", ways.broadcast("a")),
    ("s", "σ'(a) for σ'(z)", 0, "the slope is taken at a, not at z",
        ways.swap("z", lambda r, s: r.symbol("a", s.layer))),
    ("s", "slope at the layer's input", 2, "the slope is taken at what enters the layer",
        ways.swap("z", lambda r, s: ways.at(r, "a", s.layer - 1))),
    ("s", "formula for a given z", 1, "the formula of the slope in terms of a is given z",
        ways.formula_for_a),
    ("dW lastJ JW", "transposed", 0, "the whole is transposed",
        lambda r, k, t: Transpose(t)),
    ("dW", "outer product swapped", 1, "the outer product is a deltaᵀ, not delta aᵀ",
        ways.first(Product, ways.swapped)),
    ("dW", "stacked by rows", 1, "vec stacks rows, not columns",
        lambda r, k, t: Unvec(Vec(Transpose(t)), about=r.symbol("W", k[1]).shape)),
    ("JW", "stacked by rows", 0, "vec stacks rows, not columns",
        ways.first(Kronecker, lambda r, k, t: Kronecker(*t.operands[::-1]))),
    ("dW", "z for a", 1, "the preactivation stands in place of the activation",
        ways.swap("a", lambda r, s: ways.at(r, "z", s.layer))),
    ("dW", "batch axis of a", 2, "a is reshaped where it should be transposed",
        ways.swap("a", lambda r, s: Reshaped(s))),
    ("dW", "batch axis of delta", 2, "delta is reshaped where it should be transposed",
        ways.swap("delta", lambda r, s: Reshaped(s))),
    ("dW", "penalty left out", 0, "the penalty is left out", ways.penalty(lambda r: 0)),
    ("dW", "penalty doubled", 0, "the penalty is 2 λ W", ways.penalty(lambda r: 2, "2")),
    ("dW", "penalty halved", 1, "the penalty is λ W / 2", ways.penalty(lambda r: 0.5, "1/2")),
    ("dW", "penalty divided by N", 0, "the penalty is divided by N",
        ways.penalty(lambda r: 1 / (r.points or 1), "1/N")),
    ("dW", "penalty with the wrong sign", 1, "the penalty is subtracted",
        ways.penalty(lambda r: -1, "−")),
    ("db", "penalty on biases", 0, "the biases are penalised too",
        lambda r, k, t: Sum(t, r.penalty(k[1], "b")) if r.l2 else None),
    ("both", "sum for mean", 0, "the sum over the points stands where their mean should",
        ways.mean(lambda t, x: t.operands[0])),
    ("both", "N twice", 0, "it is divided by N twice", ways.mean(lambda t, x: ways.again(t, t))),
    ("both", "only the first point", 1, "only the first point is used", ways.mean(ways.only(0))),
    ("both", "only the last point", 1, "only the last point is used", ways.mean(ways.only(-1))),
    ("both", "the first point over N", 2, "only the first point is used, and divided by N",
        ways.mean(lambda t, x: ways.again(t, OnePoint(x, about=0)))),
    ("both", "the last point over N", 2, "only the last point is used, and divided by N",
        ways.mean(lambda t, x: ways.again(t, OnePoint(x, about=-1)))),
    ("db", "bias not summed", 0, "the points are not added up", ways.mean(ways.again)),
    ("db", "bias not summed, no mean", 1, "the points are neither added up nor averaged",
        ways.mean(lambda t, x: x)),
    ("J", "W transposed", 1, "W is transposed",
        ways.swap("W", lambda r, s: Transpose(s) if s.shape[0] == s.shape[1] else None)),
    ("z", "bias left out", 4, "the bias is not added",
        lambda r, k, t: t.operands[0] if isinstance(t, Sum) else None),
    ("a", "activation left out", 4, "the activation is not applied",
        lambda r, k, t: r.symbol("z", k[1])),
)
# where, name, what was done, whose symbol is that of a neighbouring layer
_SHIFTS = (
    ("delta J", "slope of layer l{:+d}", "the slopes are those of layer l{:+d}", "s"),
    ("delta J", "W of another layer ({:+d})", "W is that of the layer {:+d} from there", "W"),
    ("dW JW", "value of the wrong layer ({:+d})", "a is that of layer l-1{:+d}", "a"),
    ("both", "delta of the wrong layer ({:+d})", "delta is that of layer l{:+d}", "delta"),
)
_FACTORS: tuple[tuple[str, Callable[[Rules], float], int], ...] = (
    ("−", lambda r: -1.0, 1),
    ("2", lambda r: 2.0, 2),
    ("1/2", lambda r: 0.5, 2),
    ("N", lambda r: float(r.points or 1), 3),
    ("1/N", lambda r: 1 / (r.points or 1), 3),
    ("n", lambda r: float(r.width(None)), 4),
    ("1/n", lambda r: 1 / r.width(None), 4),
    ("2/n", lambda r: 2 / r.width(None), 5),
)
# fmt: on


def catalogue(rules: Rules, claimed: Iterable[Key]) -> list[Mistake]:
    """Return every mistake that could be in arrays of these roles.

    Parameters
    ----------
    rules : Rules
    claimed : keys of the arrays given
    """
    claimed, rows = sorted(claimed), list(_ROWS)
    for where, name, words, role in _SHIFTS:
        for by in (1, -1, 2, -2):
            rows.append((where, name.format(by), 1, words.format(by), ways.shift(role, by)))
    sites = _sites(rules, claimed)
    mistakes = []
    for where, name, likelihood, words, rule in rows:
        for place in where.split():
            groups = sites.get(place, [])
            several = any(len(group) > 1 for group in groups)
            for group in groups:  # in every layer is likelier than in one of them
                less = likelihood + (several and len(group) == 1)
                mistakes.append(Mistake(name, tuple(group), rule, words, less))
    gradients = rules.loss is not None
    return [*mistakes, *_batch_norms(rules, gradients), *_factors(rules, claimed, gradients)]


def _sites(rules: Rules, claimed: list[Key]) -> dict[str, list[list[Key]]]:
    """Return, for every column ``where``, the groups of lines that a mistake may be made in."""
    L, roles = rules.net.depth, {role for role, _ in claimed}
    layers = list(range(1, L + 1))
    straight = [l for l in layers if rules.is_elementwise(l)]
    dense = [l for l in layers if rules.is_dense(l)]
    biased = [l for l in dense if rules.has_bias(l)]

    def each(role: str, chosen: list[int]) -> list[list[Key]]:
        every = [(role, l) for l in chosen]
        return [every] * (len(every) > 1) + [[site] for site in every]

    sites = {"s": each("s", straight)} | {role: [[(role, l)] for l in layers] for role in "za"}
    if roles & {"dW", "db", "ddelta", "dx"}:
        hidden = [l for l in straight if l < L]
        ends = L in straight and not rules.is_fused() and not rules.is_straight(L)
        sites["delta"] = each("delta", [*hidden, L]) if ends else each("delta", hidden)
        sites["delta"] += [[("delta", l) for l in hidden]] * (ends and len(hidden) > 1)
        sites["output"] = [[("delta", L)]]
        sites["residual"] = [[("delta", L) if rules.is_fused() else ("c", None)]]
        chosen = {r: ls for r, ls in (("dW", dense), ("db", biased)) if r in roles}
        own = {role: each(role, chosen.get(role, [])) for role in ("dW", "db")}
        both: list[Key] = [(role, l) for role, some in chosen.items() for l in some]
        sites |= own | {"both": [both] * (len(roles & {"dW", "db"}) > 1) + own["dW"] + own["db"]}
    if roles & {"J", "JW"}:
        sites["J"] = each("J", layers)
        sites["lastJ"] = [[("J", L)]] if "J" in roles else []
        sites["JW"] = each("JW", dense) if "JW" in roles else []
    return sites


def _factors(rules: Rules, claimed: list[Key], gradients: bool) -> Iterator[Mistake]:
    """Constant factors: in a result, in all results of a kind, in an error and all below it."""
    L = rules.net.depth
    sites: list[tuple[Key, ...]] = [(("delta", l),) for l in range(L, 0, -1)] if gradients else []
    sites += [(key,) for key in claimed]
    for role in dict.fromkeys(role for role, _ in claimed):
        group = tuple(key for key in claimed if key[0] == role)
        sites += [group] if len(group) > 1 else []
    for name, factor, likelihood in _FACTORS:
        words = "has the wrong sign" if name == "−" else f"is {name} times the truth"
        called = "sign" if name == "−" else f"factor {name}"
        for chosen in sites:
            less = likelihood + (len(chosen) == 1) + (chosen != (("delta", L),))
            yield Mistake(called, chosen, ways.scaled(name, factor), words, less, True)


def _batch_norms(rules: Rules, gradients: bool) -> Iterator[Mistake]:
    """Scales that are batch-norms in training mode, in the forward pass and on the way back."""
    words = "the values are centred and scaled over the points of the batch"
    for l, (A, *_) in enumerate(rules.maps, start=1):
        if gradients and isinstance(A, Diagonal) and (rules.points or 1) > 1:
            sites = (("z", l), *(("delta", k) for k in rules.sources(l) if k))
            for fresh in (True, False):
                for epsilon in (1e-5, 1e-3, 0.0):  # PyTorch's, Keras's, none
                    rule = ways.batch_norm(l, fresh, epsilon)
                    yield Mistake("batch-norm in training mode", sites, rule, words, 3)


# --- constants that are read off an array ---------------------------------------------------------


def constant(c: float, sites: tuple[Key, ...]) -> Mistake:
    """Return the mistake of a factor that has no name."""
    words, rule = f"is {c:.6g} times the truth", ways.scaled(f"{c:.6g}", lambda r: c)
    return Mistake(f"factor {c:.6g}", sites, rule, words, 6, True)


def penalty_of(c: float, sites: tuple[Key, ...]) -> Mistake:
    """Return the mistake of a penalty ``c W`` that the objective does not have."""

    def rule(r: Rules, k: Key, t: Term) -> Term:
        return Sum(t, Times(r.symbol("W", k[1]), about=(f"{c:.6g}", c)))

    return Mistake("another penalty", sites, rule, f"{c:.6g} W is added to what is right", 6)


def dropped(l: int, kept: Any, scale: float) -> Mistake:
    """Return the mistake of a layer in training mode, whose mask is read off the zeros."""
    name = "dropout in training mode"
    sites = (("a", l), ("delta", l), ("J", l))
    out = ", ".join(str(i) for i in np.flatnonzero(~np.asarray(kept))) if np.ndim(kept) == 1 else ""
    which = f"units {out}" if out else "other units at every point"
    words = f"{which} are dropped and the others multiplied by {scale:.4g}"
    return Mistake(name, sites, ways.dropout(l, kept, scale), words, 5)
