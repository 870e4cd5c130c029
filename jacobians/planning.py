"""The plan of a computation: order of association, size of the pieces, memory.

Printed, it is one line; ``explain()`` is a table of the factors and of what each order would cost.
The order comes from ``maps.association``; the piece is as many points as fit the byte budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jacobians._checks import as_count, as_layer, readable_bytes
from jacobians._text import table
from jacobians.activations import IDENTITY, Activation, VectorActivation
from jacobians.layers import Dense, Elementwise, Scale
from jacobians.maps.association import Association, Operand, Order, associate, join
from jacobians.network import Network

DEFAULT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Plan:
    """How the Jacobians ``da^of/da^wrt`` of a network are computed; made by ``plan``."""

    widths: tuple[int, ...]
    of: int
    wrt: int
    names: tuple[str, ...]
    operands: tuple[Operand, ...]
    association: Association | None
    piece: int
    point_bytes: int
    max_bytes: int

    @property
    def flops(self) -> float:
        """Floating-point operations per point, the forward pass not counted."""
        return self.association.flops if self.association else 0.0

    @property
    def working_bytes(self) -> int:
        """Upper bound on the temporary memory, the result not counted."""
        return self.piece * self.point_bytes

    @property
    def mode(self) -> str:
        """The order in a word: reverse, forward, or mixed."""
        if self.association is None or self.flops == self.association.reverse:
            return "reverse"
        return "forward" if self.flops == self.association.forward else "mixed"

    def __str__(self) -> str:
        m, n = self.widths[self.of], self.widths[self.wrt]
        line = f"da^{self.of}/da^{self.wrt} {m}x{n}: {self.mode} order"
        if self.mode == "mixed" and self.association and len(self.names) <= 12:
            line += f" {spell(self.association.order, self.names)}"
        line += f", {_count(self.flops)} per point"
        if self.association:
            line += f" (forward {_count(self.association.forward)}, "
            line += f"reverse {_count(self.association.reverse)})"
        points = "point" if self.piece == 1 else "points"
        return f"{line}, pieces of {self.piece} {points}, {readable_bytes(self.working_bytes)}"

    def explain(self) -> str:
        """Return a readable table of the factors and of what each order would cost."""
        factors = [
            [name, f"{A.rows}x{A.columns}", A.kind, "one per point" if A.stacked else "shared"]
            for name, A in zip(self.names, self.operands, strict=True)
        ]
        text = [str(self), "", table(["factor", "shape", "kind", "copies"], factors, left=4)]
        if self.association:
            best = max(self.flops, 1.0)
            costs = (
                (f"planned ({self.mode})", self.association.flops),
                ("reverse: outputs first", self.association.reverse),
                ("forward: inputs first", self.association.forward),
            )
            rows = [[name, f"{cost:,.0f}", f"{cost / best:.2f}"] for name, cost in costs]
            text += ["", table(["order", "flops per point", "ratio"], rows)]
            text += ["", f"multiplied out as {spell(self.association.order, self.names)}"]
        text += [
            f"memory: {readable_bytes(self.point_bytes)} per point, {self.piece} at a time, "
            f"within a budget of {readable_bytes(self.max_bytes)}"
        ]
        return "\n".join(text)


def plan(
    net: Network,
    batch: int = 1,
    *,
    of: int | None = None,
    wrt: int = 0,
    max_bytes: int | None = None,
) -> Plan:
    """Decide how the Jacobians of a batch are best computed.

    Parameters
    ----------
    net : Network
    batch : int
        Number of points; it decides the size of the pieces, and spreads the cost of products of
        shared matrices.
    of, wrt : int
        Layer numbers: ``da^of/da^wrt``, by default the output with respect to the input.
    max_bytes : int, optional
        Budget for temporary memory, 64 MiB unless said; the result comes on top.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a layer number is out of range, or not even one point fits the budget.

    >>> net = Network.random([784, 256, 32, 256, 784], seed=0)
    >>> print(plan(net, batch=32))
    da^4/da^0 784x784: mixed order W4 (D3 W3) (D2 (W2 D1) W1), 65.1 Mflop per point
    (forward 341 Mflop, reverse 341 Mflop), pieces of 12 points, 63.6 MiB
    """
    of, wrt = _ends(net, of, wrt, "plan")
    batch = as_count(batch, "plan: batch", at_least=0)
    budget = as_count(DEFAULT_BYTES if max_bytes is None else max_bytes, "plan: max_bytes")
    names, operands = operands_of(net, of, wrt)
    association = _associate(operands, max(batch, 1)) if operands else None
    numbers = 2 * sum(net.widths) + sum(A.rows * (1 + 2 * A.rank) for A in operands if A.stacked)
    if association:
        numbers += _stacked_numbers(operands, association.order)
    point_bytes = net.dtype.itemsize * numbers
    if point_bytes > budget:
        raise ValueError(
            f"plan: max_bytes: one point needs {point_bytes} bytes, but the budget is {budget}."
        )
    piece = max(1, min(batch, budget // point_bytes))
    return Plan(net.widths, of, wrt, names, operands, association, piece, point_bytes, budget)


@lru_cache(maxsize=64)
def _associate(operands: tuple[Operand, ...], batch: int) -> Association:
    return associate(operands, batch)


def _ends(net: Network, of: int | None, wrt: int, verb: str) -> tuple[int, int]:
    of = net.depth if of is None else as_layer(of, f"{verb}: of", 0, net.depth)
    return of, as_layer(wrt, f"{verb}: wrt", 0, of)


def operands_of(net: Network, of: int, wrt: int) -> tuple[tuple[str, ...], tuple[Operand, ...]]:
    """Describe the factors of the chain, leaving out those that are the identity."""
    names: list[str] = []
    operands: list[Operand] = []
    for l in range(of, wrt, -1):
        layer, (n_out, n_in) = net.layers[l - 1], (net.widths[l], net.widths[l - 1])
        sigma = layer.activation
        if sigma != IDENTITY:
            names.append(f"D{l}")
            if isinstance(sigma, Activation):
                operands.append(Operand(n_out, n_out, "diagonal"))
            elif isinstance(sigma, VectorActivation):
                rank = sigma.parts(np.zeros(n_out))[1].shape[-1]
                operands.append(Operand(n_out, n_out, "low rank", rank))
            else:
                operands.append(Operand(n_out, n_out))
        if not isinstance(layer, Elementwise):
            names.append(f"W{l}")
            if isinstance(layer, Scale):
                operands.append(Operand(n_out, n_in, "diagonal", stacked=False))
            else:
                operands.append(Operand(n_out, n_in, stacked=not isinstance(layer, Dense)))
    return tuple(names), tuple(operands)


def _stacked_numbers(operands: tuple[Operand, ...], order: Order) -> int:
    """Count the entries of all partial products that exist once per point."""
    total = 0

    def visit(node: Order) -> Operand:
        nonlocal total
        if isinstance(node, int):
            return operands[node]
        result, _ = join(visit(node[0]), visit(node[1]))
        total += result.rows * result.columns if result.stacked else 0
        return result

    visit(order)
    return total


def spell(order: Order, names: tuple[str, ...]) -> str:
    """Write an order with as few brackets as it takes, reading from the left.

    >>> spell(((0, 1), (2, 3)), ("D2", "W2", "D1", "W1"))
    'D2 W2 (D1 W1)'
    """
    if isinstance(order, int):
        return names[order]
    left, right = spell(order[0], names), spell(order[1], names)
    return f"{left} {right}" if isinstance(order[1], int) else f"{left} ({right})"


def _count(number: float) -> str:
    units = iter(("", "k", "M", "G", "T", "P"))
    unit = next(units)
    while number >= 1000:
        number, unit = number / 1000, next(units)
    return f"{number:.3g} {unit}flop"
