"""A single point: vectors and matrices in place of stacks, and as few calls of NumPy as it takes.

Up to some hundred units a call takes ten times as long as its arithmetic.  So the preactivations of
all layers stand in one row, where one call finds the slopes of all that share an activation, and
whatever can be settled beforehand is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation
from jacobians.engine.compiling import WRITTEN_OUT_WIDTH
from jacobians.engine.products import point_by_point
from jacobians.engine.program import Program, slope_formula, value_formula
from jacobians.factors import Factor, known_value
from jacobians.layers import Dense
from jacobians.maps.association import Order
from jacobians.network import Network
from jacobians.planning import Plan
from jacobians.tracing import Trace

Formula = Callable[..., Any]


@dataclass(frozen=True)
class Layered:
    """A layer on the way forward: ``z = W a + b`` (or ``W(a)``), at its place in the row."""

    W: Any
    b: Array | None
    sigma: Formula
    where: slice


@dataclass(frozen=True)
class Slopes:
    """Factors that one call finds: of which part of the row, and which part of that is whose."""

    formula: Formula
    where: slice
    factors: tuple[tuple[int, slice, Any], ...]  # factor, its part, chosen rows


@dataclass(frozen=True)
class Line:
    """What ``compile_line`` makes of a plan."""

    layers: tuple[Layered, ...]
    slopes: tuple[Slopes, ...]
    factors: tuple[Any, ...]  # None where they depend on the point
    order: tuple[int, ...]  # numbers of factors; -1 multiplies the last two
    needed: int  # layers that the slopes take
    tame: bool  # no partial product can overflow
    is_safe: Callable[[Array], bool]
    units: int
    dtype: np.dtype[Any]

    def run(self, x: Array, value: Array | None, J: Array) -> bool:
        """Fill ``a^of`` and its Jacobian in; False if ``x`` needs a closer look."""
        with np.errstate(all="ignore"):
            if not self.is_safe(x):
                return False
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
            self.multiply(Z, J[0] if J.ndim == 3 else J)
            return self.tame or bool(np.isfinite(J).all())

    def row(self, trace: Trace) -> Array:
        """Return the row of all preactivations at a trace."""
        Z = np.empty(self.units, self.dtype)
        for l, layer in enumerate(self.layers, start=1):
            Z[layer.where] = trace.preactivation(l)
        return Z

    def multiply(self, Z: Array, J: Array) -> None:
        """Multiply the chain out into ``J``, given the row of all preactivations."""
        values = list(self.factors)
        for group in self.slopes:
            found = group.formula(Z[group.where])
            for k, part, rows in group.factors:
                values[k] = found[part] if rows is None else found[part][rows]
        result = _multiply_out(values, self.order, J if J.flags.c_contiguous else None)
        if result is not J:
            J[...] = result if result.ndim == 2 else np.diag(result)


def _multiply_out(values: list[Any], order: tuple[int, ...], J: Array | None) -> Array:
    """Multiply vectors (diagonals) and matrices, the last product into ``J``."""
    done: list[tuple[Array, bool]] = []  # and whether its memory is ours
    last = len(order) - 1
    for place, k in enumerate(order):
        if k >= 0:
            done.append((values[k], False))
            continue
        (B, B_ours), (A, A_ours) = done.pop(), done.pop()
        out = J if place == last and max(A.ndim, B.ndim) == 2 else None
        if B.ndim == 1:
            result = np.multiply(A, B, out=A if out is None and A_ours else out)
        elif A.ndim == 1:
            result = np.multiply(A[:, None], B, out=B if out is None and B_ours else out)
        else:
            result = A.dot(B, out=out)
        done.append((result, True))
    return done[0][0]


def compile_line(net: Network, plan: Plan, program: Program) -> Line | None:
    """Bind a plan to the arrays of a network, for single points; None if the program does better.

    That is so where a layer is not the library's own, and where units that are dead at the point
    are worth leaving out.
    """
    live = any(
        step.kernel.__qualname__.startswith(point_by_point.__name__) for step in program.steps
    )
    wide = any(f.operand.rank and f.operand.columns > WRITTEN_OUT_WIDTH for f in plan.factors)
    if not program.known or plan.association is None or live or wide:
        return None
    layers = net.layers[: plan.of]
    places = _places(net, plan.of)
    forward = []
    for l, layer in enumerate(layers, start=1):
        W, b = (layer.W, layer.b) if type(layer) is Dense else (layer.preactivation, None)
        forward.append(Layered(W, b, value_formula(layer.activation), places[l]))
    known: list[Any] = [known_value(net, factor) for factor in plan.factors]
    with np.errstate(all="ignore"):
        order = _folded(plan.association.order, known)
    return Line(
        layers=tuple(forward),
        slopes=tuple(_slopes(net, plan, places)),
        factors=tuple(known),
        order=tuple(order),
        needed=program.last_load,
        tame=program.tame,
        is_safe=program.is_safe,
        units=sum(net.widths[1 : plan.of + 1]),
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


def _slopes(net: Network, plan: Plan, places: dict[int, slice]) -> list[Slopes]:
    """Collect the factors that one call finds."""
    alike: dict[Any, list[tuple[int, Factor]]] = {}
    for k, factor in enumerate(plan.factors):
        if factor.name[0] == "D":
            sigma = net.layers[factor.layer - 1].activation
            key = sigma if isinstance(sigma, Activation) else factor.layer
            alike.setdefault(key, []).append((k, factor))
    found = []
    for key, factors in alike.items():
        if not isinstance(key, Activation):
            ((k, factor),) = factors
            found.append(
                Slopes(_matrix_formula(net, factor), places[key], ((k, slice(None), None),))
            )
            continue
        start = min(places[factor.layer].start for _, factor in factors)
        stop = max(places[factor.layer].stop for _, factor in factors)
        parts = []
        for k, factor in factors:
            place = places[factor.layer]
            parts.append((k, slice(place.start - start, place.stop - start), factor.rows))
        found.append(Slopes(slope_formula(key), slice(start, stop), tuple(parts)))
    return found


def _matrix_formula(net: Network, factor: Factor) -> Formula:
    sigma: Any = net.layers[factor.layer - 1].activation
    return lambda z: factor.chosen(sigma.matrix(z))


def _folded(order: Order, known: list[Any]) -> list[int]:
    """Write an order as numbers, the operation last, and multiply what is known already."""
    if isinstance(order, int):
        return [order]
    left, right = (_folded(part, known) for part in order)
    if len(left) == len(right) == 1 and known[left[0]] is not None and known[right[0]] is not None:
        known[left[0]] = _multiply_out([known[left[0]], known[right[0]]], (0, 1, -1), None)
        return left
    return [*left, *right, -1]
