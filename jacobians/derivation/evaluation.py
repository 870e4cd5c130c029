"""The values of lines: what is given, and everything that follows from it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from jacobians._checks import Array, TooLargeError, dense_limit
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key, Rounding, Symbol, Term, Value
from jacobians.layers import Dense, Layer
from jacobians.linearization import layer_map, parameter_maps
from jacobians.tracing import trace

_LARGEST = 2**26  # bytes of a derivative of a layer that are written out


def given(rules: Rules, X: Array, Y: Array | None) -> dict[Key, Value]:
    """Return the values of what is given: parameters, points and targets, in float64."""
    net = rules.net.astype(np.float64)
    found: dict[Key, Value] = {}

    def exact(array: Any) -> Value:
        return Value(array, np.zeros_like(array))

    found["a", 0] = exact(np.asarray(X, np.float64)[..., None])
    if Y is not None:
        found["y", None] = exact(np.asarray(Y, np.float64)[..., None])
    for l in (None, *range(1, net.depth + 1)):
        found["1", l] = exact(np.ones((rules.width(l), 1)))
        found["ones", l] = exact(np.ones((1, rules.width(l))))
    for l, layer in enumerate(net.layers, start=1):
        if rules.is_dense(l):
            assert isinstance(layer, Dense)
            found["W", l], found["b", l] = exact(layer.W), exact(layer.b[:, None])
    others = [l for l in range(1, net.depth + 1) if not rules.is_dense(l)]
    if others:
        seen = trace(net, X)
        with dense_limit(_LARGEST):
            for l in others:
                found.update(_maps_of(net.layers[l - 1], l, seen.entering(l)))
    return found


def _maps_of(layer: Layer, l: int, reads: tuple[Array, ...]) -> dict[Key, Value]:
    """Return the derivatives of a layer that is not dense, written out unless too large."""
    maps = layer_map(layer, *reads)
    named = {
        (f"M{i or ''}", l): A for i, A in enumerate(maps if isinstance(maps, tuple) else (maps,))
    }
    if layer.parameters():
        named.update({(f"E{k}", l): A for k, A in parameter_maps(layer, *reads).items()})
    found: dict[Key, Value] = {}
    for key, A in named.items():
        with suppress(TooLargeError):
            M = A.to_dense().astype(np.float64)
            found[key] = Value(M, 64 * float(np.finfo(reads[0].dtype).eps) * np.abs(M))
    return found


class Evaluation:
    """The values of all lines, each computed when it is asked for."""

    def __init__(self, lines: dict[Key, Term], given: dict[Key, Value], rounding: Rounding) -> None:
        self.lines, self.rounding = lines, rounding
        self.known = dict(given)
        self.order: dict[str, list[Key]] = {}
        for key in lines:
            self.order.setdefault(key[0], []).append(key)

    def __call__(self, symbol: Symbol) -> Value:
        """Return the value of a symbol."""
        return self.at(symbol.key)

    def at(self, key: Key) -> Value:
        """Return the value of what has this role at this layer."""
        if key not in self.known:
            # lines of one role in their order, so that a deep chain does not nest a deep call
            for earlier in self.order[key[0]]:
                if earlier not in self.known:
                    self.known[earlier] = self.lines[earlier].evaluate(self, self.rounding)
                if earlier == key:
                    break
        return self.known[key]
