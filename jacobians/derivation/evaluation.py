"""The values of lines: what is given, and everything that follows from it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, TooLargeError, dense_limit
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key, Rounding, Symbol, Term, Value
from jacobians.gradients import WEIGHTS
from jacobians.linearization import layer_map, parameter_maps
from jacobians.maps import LinearMap
from jacobians.tracing import Trace, trace

_LARGEST = 2**26  # bytes of a derivative of a layer that are written out
Changes: TypeAlias = frozenset[Any]
NONE: Changes = frozenset()


def exact(array: Any) -> Value:
    """Return numbers that are right as they are."""
    number = np.asarray(array, np.float64)
    return Value(number, np.zeros_like(number))


def given(rules: Rules, X: Array, Y: Array | None, seen: Trace | None = None) -> dict[Key, Value]:
    """Return the values of what is given: parameters, points and targets, in float64.

    Errors are in roundings of the precision that a result is judged in: 0, but for the derivatives
    of layers that are not dense, which are taken at the values ``seen``.
    """
    net = rules.net.astype(np.float64)
    values: dict[Key, Value] = {("a", 0): exact(np.asarray(X)[..., None])}
    if Y is not None:
        values["y", None] = exact(np.asarray(Y)[..., None])
    for l in (None, *range(1, net.depth + 1)):
        values["1", l] = exact(np.ones((rules.width(l), 1)))
        values["ones", l] = exact(np.ones((1, rules.width(l))))
    for l, layer in enumerate(net.layers, start=1):
        for name, p in layer.arrays().items():
            if name in (*WEIGHTS, "b", "shift"):
                values[name, l] = exact(p.reshape(len(p), -1))
    others = [l for l in range(1, net.depth + 1) if not rules.is_dense(l)]
    if others:
        seen = seen or trace(net, X)
        with dense_limit(_LARGEST):
            for l in others:
                reads = tuple(a.astype(np.float64) for a in seen.entering(l))
                values |= _maps_of(net.layers[l - 1], l, reads)
    return values


def _maps_of(layer: Any, l: int, reads: tuple[Array, ...]) -> dict[Key, Value]:
    """Return the derivatives of a layer that is not dense, written out if they fit."""
    maps = layer_map(layer, *reads)
    named = {f"M{i or ''}": A for i, A in enumerate(maps if isinstance(maps, tuple) else (maps,))}
    if layer.parameters():
        named |= {f"E{name}": A for name, A in parameter_maps(layer, *reads).items()}
    values: dict[Key, Value] = {}
    for name, A in named.items():
        with suppress(TooLargeError):
            values[name, l] = Value(A.to_dense().astype(np.float64), _error_of(A))
    return values


def _error_of(A: LinearMap) -> Array:
    """Return how many roundings may be in a map that is written out, with what cancels in it."""
    magnitude = A.magnitude()
    size = np.abs(A.to_dense()) if magnitude is None else magnitude.to_dense()
    roundings = np.asarray(A.roundings() + 64.0)[..., None, None]
    return np.asarray(2 * roundings * size, np.float64)


@dataclass(eq=False)
class Evaluation:
    """The values of all lines, each computed when it is asked for, and with changes made in them.

    A subclass says what changes there are; here there are none.
    """

    rules: Rules
    given: dict[Key, Value]
    rounding: Rounding
    _values: dict[tuple[Key, Changes], Value] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        unit = self.rounding.unit
        self.fixed = {key: Value(x.number, unit * x.error) for key, x in self.given.items()}

    @cached_property
    def lines(self) -> dict[Key, Term]:
        """The right side of every line."""
        return self.rules.lines()

    def reaching(self, key: Key, made: Changes) -> Changes:
        """Return the changes that can change the value of a line."""
        return made

    def line(self, key: Key, made: Changes) -> Term:
        """Return the right side of a line with changes made."""
        return self.lines[key]

    def __call__(self, symbol: Symbol) -> Value:
        """Return the value of a symbol."""
        return self.value(symbol.key)

    def value(self, key: Key, made: Changes = NONE) -> Value:
        """Return the value of what has this role at this layer.

        What it is computed from comes first, from a list and not by recursion: networks are deep.
        """
        with np.errstate(all="ignore"):
            self._evaluate(key, made)
        return self._at(key, made)

    def _at(self, key: Key, made: Changes) -> Value:
        return self.fixed[key] if key in self.fixed else self._values[key, self.reaching(key, made)]

    def _evaluate(self, key: Key, made: Changes) -> None:
        waiting = [key]
        while waiting:
            at = waiting[-1]
            if self._has(at, made):
                waiting.pop()
                continue
            reached = self.reaching(at, made)
            term = self.line(at, reached)
            missing = [s for s in term.symbols if not self._has(s, reached)]
            if missing:
                waiting += missing
                continue
            self._values[at, reached] = self._evaluated(term, reached)

    def _has(self, key: Key, made: Changes) -> bool:
        return key in self.given or (key, self.reaching(key, made)) in self._values

    def _evaluated(self, term: Term, made: Changes) -> Value:
        return term.evaluate(lambda symbol: self._at(symbol.key, made), self.rounding)
