"""A single point: the factors of the chain as vectors and matrices, in few calls of NumPy.

Up to some hundred units a call takes ten times as long as its arithmetic.  So the preactivations of
all layers stand in one row, where one call finds the slopes of all that share an activation, and
whatever can be settled beforehand is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation
from jacobians.engine.forward import (
    is_known,
    preactivation_formula,
    slope_formula,
    value_formula,
)
from jacobians.engine.ranges import safe_radius
from jacobians.factors import Factor, known_value
from jacobians.layers import Dense
from jacobians.network import Network
from jacobians.tracing import Trace

Formula = Callable[..., Any]

# Up to this width, diag(d) + U Vᵀ written out and one large product beat many thin ones.
WRITTEN_OUT_WIDTH = 64


@dataclass(frozen=True)
class Placed:
    """A layer: ``z = W a + b`` (or ``W(a)``), at its place in the row."""

    W: Any
    b: Array | None
    sigma: Formula
    where: slice


@dataclass(frozen=True)
class Slopes:
    """Factors that one call finds: of which part of the row, and which part of that is whose."""

    formula: Formula
    where: slice
    factors: tuple[tuple[int, slice, Any], ...]  # factor, its part, chosen entries


@dataclass(frozen=True)
class Point:
    """What ``prepare_point`` makes of a network and the factors of a chain."""

    layers: tuple[Placed, ...]
    slopes: tuple[Slopes, ...]
    known: tuple[Any, ...]  # the factors that all points share; None for the others
    needed: int  # layers that the slopes take
    radius: float  # no value can overflow from points up to this size; -1 if unknown
    units: int
    dtype: np.dtype[Any]

    def row(self, x: Array, value: Array | None = None) -> Array:
        """Return the row of all preactivations, and fill ``a^of`` in if it is asked for."""
        Z, a = np.empty(self.units, self.dtype), x
        for layer in self.layers[: None if value is not None else self.needed]:
            z = Z[layer.where]
            if layer.b is None:
                z[...] = layer.W(a)
            else:
                np.add(layer.W.dot(a, out=z), layer.b, out=z)
            a = layer.sigma(z)
        if value is not None:
            value[...] = a
        return Z

    def row_of(self, trace: Trace) -> Array:
        """Return the row of all preactivations at a trace."""
        Z = np.empty(self.units, self.dtype)
        for l, layer in enumerate(self.layers, start=1):
            Z[layer.where] = trace.preactivation(l)
        return Z

    def factors(self, Z: Array, known: Sequence[Any] | None = None) -> list[Any]:
        """Return the factors, left to right: vectors for diagonals, and matrices."""
        values = list(self.known if known is None else known)
        for group in self.slopes:
            found = group.formula(Z[group.where])
            for k, part, chosen in group.factors:
                values[k] = found[part] if chosen is None else found[part][chosen]
        return values


def prepare_point(net: Network, of: int, factors: Sequence[Factor]) -> Point | None:
    """Bind a chain to the arrays of a network; None if a layer is not the library's own.

    None too for a softmax so wide that its Jacobian is better not written out.
    """
    layers = net.layers[:of]
    wide = any(f.operand.rank and f.operand.columns > WRITTEN_OUT_WIDTH for f in factors)
    if wide or not all(is_known(layer) for layer in layers):
        return None
    places = _places(net, of)
    placed = []
    for l, layer in enumerate(layers, start=1):
        W: Any = layer.W if isinstance(layer, Dense) else preactivation_formula(layer)
        b = layer.b if isinstance(layer, Dense) else None
        placed.append(Placed(W, b, value_formula(layer.activation), places[l]))
    return Point(
        layers=tuple(placed),
        slopes=tuple(_slopes(net, factors, places)),
        known=tuple(known_value(net, factor) for factor in factors),
        needed=max((f.layer for f in factors if f.name[0] == "D"), default=0),
        radius=safe_radius(net, of),
        units=sum(net.widths[1 : of + 1]),
        dtype=net.dtype,
    )


def _places(net: Network, of: int) -> dict[int, slice]:
    """Give every layer its part of the row, layers with the same activation side by side."""
    names = [layer.activation.name for layer in net.layers[:of]]
    places, start = {}, 0
    for l in sorted(range(1, of + 1), key=lambda l: names.index(names[l - 1])):
        places[l] = slice(start, start + net.widths[l])
        start += net.widths[l]
    return places


def _slopes(net: Network, factors: Sequence[Factor], places: dict[int, slice]) -> list[Slopes]:
    """Collect the factors that one call finds."""
    alike: dict[Any, list[tuple[int, Factor]]] = {}
    for k, factor in enumerate(factors):
        if factor.name[0] == "D":
            sigma = net.layers[factor.layer - 1].activation
            key = sigma if isinstance(sigma, Activation) else factor.layer
            alike.setdefault(key, []).append((k, factor))
    found = []
    for key, group in alike.items():
        if not isinstance(key, Activation):
            ((k, factor),) = group
            found.append(
                Slopes(_matrix_formula(net, factor), places[key], ((k, slice(None), None),))
            )
            continue
        start = min(places[factor.layer].start for _, factor in group)
        stop = max(places[factor.layer].stop for _, factor in group)
        parts = []
        for k, factor in group:
            place = places[factor.layer]
            parts.append((k, slice(place.start - start, place.stop - start), factor.rows))
        found.append(Slopes(slope_formula(key), slice(start, stop), tuple(parts)))
    return found


def _matrix_formula(net: Network, factor: Factor) -> Formula:
    sigma: Any = net.layers[factor.layer - 1].activation
    return lambda z: factor.chosen(sigma.matrix(z))
