"""The plan of a computation: order of association, size of the pieces, memory.

Printed, it is one line; ``explain()`` is a table of the factors and of what each order would cost.
The order comes from ``maps.association``; the piece is as many points as fit the byte budget.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jacobians._checks import Array, as_count, as_layer, readable_bytes
from jacobians._text import table
from jacobians.factors import Factor, Index, as_index, factors_of
from jacobians.maps.association import Association, Operand, Order, associate, join
from jacobians.network import Network

DEFAULT_BYTES = 64 * 2**20
# Smaller pieces stay in the cache, larger ones make better products and hand the interpreter on
# less often.  The caches belong to one thread each, large products to BLAS.
PIECE_BYTES = 3 * 2**24
THREAD_PIECE_BYTES = 3 * 2**22
# A thread whose calls are shorter than this, in numbers, spends its time on waiting for its turn.
LONG_CALL = 2**15
# Threads pay from a millisecond on (waking one takes 50 µs), and while the matrices are so small
# that a core alone multiplies them well; BLAS has threads of its own for larger ones.
WORTH_A_THREAD = 1e-3
SMALL_MATRIX = 10_000
FLOPS, UNIT_SECONDS = 5e10, 6e-9  # rough speeds of products, and of sigma with its slope


def _thread_count() -> int:
    """Return how many threads the user gave to BLAS, or the number of processors."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        given = os.environ.get(name, "").split(",")[0].strip()
        if given.isdigit() and int(given):
            return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


THREADS = _thread_count()  # BLAS reads its settings once too, when it is loaded


@dataclass(frozen=True, eq=False)
class Plan:
    """How the Jacobians ``da^of/da^wrt`` of a network are computed; made by ``plan``.

    Attributes
    ----------
    factors : tuple of Factor
        Left to right.
    association : Association or None
        The order; None if there is nothing to multiply.
    piece : int
        Points at a time.
    point_bytes : int
        Temporary memory for each of them.
    threads : int
        Threads over pieces; 1 leaves threads to the BLAS library.
    allowed : int
        The most threads that anything may take.
    """

    widths: tuple[int, ...]
    of: int
    wrt: int
    factors: tuple[Factor, ...]
    association: Association | None
    piece: int
    point_bytes: int
    max_bytes: int
    threads: int
    allowed: int
    rows: Index | None
    columns: Index | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of each Jacobian."""
        m, n = self.widths[self.of], self.widths[self.wrt]
        return (
            m if self.rows is None else len(self.rows),
            n if self.columns is None else len(self.columns),
        )

    def part(self, J: Array) -> Array:
        """Take the planned rows and columns out of a whole Jacobian."""
        J = J if self.rows is None else J[..., self.rows, :]
        return J if self.columns is None else J[..., self.columns]

    def fits(self, net: Network) -> bool:
        """Tell whether the plan can be used for a network: the same factors at the same places."""
        if self.widths != net.widths:
            return False
        factors = factors_of(net, self.of, self.wrt, self.rows, self.columns)
        return [(f.name, f.operand) for f in factors] == [(f.name, f.operand) for f in self.factors]

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names, left to right."""
        return tuple(factor.name for factor in self.factors)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What the cost model knows of the factors."""
        return tuple(factor.operand for factor in self.factors)

    @property
    def flops(self) -> float:
        """Floating-point operations per point, the forward pass not counted."""
        return self.association.flops if self.association else 0.0

    @property
    def working_bytes(self) -> int:
        """Upper bound on the temporary memory, the result not counted."""
        return self.threads * self.piece * self.point_bytes

    @property
    def mode(self) -> str:
        """The order in a word: reverse, forward, or mixed."""
        if self.association is None or self.flops == self.association.reverse:
            return "reverse"
        return "forward" if self.flops == self.association.forward else "mixed"

    def __str__(self) -> str:
        m, n = self.shape
        line = f"da^{self.of}/da^{self.wrt} {m}x{n}: {self.mode} order"
        if self.mode == "mixed" and self.association and len(self.names) <= 12:
            line += f" {spell(self.association.order, self.names)}"
        line += f", {_count(self.flops)} per point"
        if self.association:
            line += f" (forward {_count(self.association.forward)}, "
            line += f"reverse {_count(self.association.reverse)})"
        points = "point" if self.piece == 1 else "points"
        line += f", pieces of {self.piece} {points}"
        if self.threads > 1:
            line += f" on {self.threads} threads"
        return f"{line}, {readable_bytes(self.working_bytes)}"

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
    rows: Any = None,
    columns: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
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
    rows, columns : slice or list of int, optional
        Only these outputs and inputs.
    max_bytes : int, optional
        Budget for temporary memory, 64 MiB unless said; the result comes on top.
    threads : int, optional
        At most this many; as many as the BLAS library was told to take, unless said
        (``OPENBLAS_NUM_THREADS``, ``OMP_NUM_THREADS``), or as there are processors.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a number is out of range, or not even one point fits the budget.

    >>> net = Network.random([784, 256, 32, 256, 784], seed=0)
    >>> print(plan(net, batch=32, threads=1))
    da^4/da^0 784x784: mixed order W4 (D3 W3) (D2 (W2 D1) W1), 65.1 Mflop per point
    (forward 341 Mflop, reverse 341 Mflop), pieces of 32 points, 22 MiB
    """
    of = net.depth if of is None else as_layer(of, "plan: of", 0, net.depth)
    wrt = as_layer(wrt, "plan: wrt", 0, of)
    batch = as_count(batch, "plan: batch", at_least=0)
    budget = as_count(DEFAULT_BYTES if max_bytes is None else max_bytes, "plan: max_bytes")
    allowed = THREADS if threads is None else as_count(threads, "plan: threads")
    chosen_rows = as_index(rows, net.widths[of], "plan: rows")
    chosen_columns = as_index(columns, net.widths[wrt], "plan: columns")
    factors = factors_of(net, of, wrt, chosen_rows, chosen_columns)
    operands = tuple(factor.operand for factor in factors)
    association = associate(operands, max(batch, 1)) if operands else None
    numbers = _numbers_on_the_way(net, of)
    if association:
        numbers += sum(A.rows * (1 + 2 * A.rank) for A in operands if A.stacked)
        numbers += _stacked_numbers(operands, association.order)
    point_bytes = net.dtype.itemsize * numbers
    if point_bytes > budget:
        raise ValueError(
            f"plan: max_bytes: one point needs {point_bytes} bytes, but the budget is {budget}."
        )
    threads = 1
    if association:
        largest = max((A.rows * A.columns for A in operands if A.kind == "dense"), default=0)
        most = min(allowed, budget // point_bytes)
        threads = threads_that_pay(net, of, batch, association.flops, largest, most)
    most = THREAD_PIECE_BYTES if threads > 1 else PIECE_BYTES
    within = min(budget // threads, max(most, point_bytes)) // point_bytes
    piece = max(1, min(-(-batch // threads), within))
    return Plan(
        widths=net.widths,
        of=of,
        wrt=wrt,
        factors=factors,
        association=association,
        piece=piece,
        point_bytes=point_bytes,
        max_bytes=budget,
        threads=threads,
        allowed=allowed,
        rows=chosen_rows,
        columns=chosen_columns,
    )


def _numbers_on_the_way(net: Network, of: int) -> int:
    """Count what a point needs on the way forward: z, a and what a formula needs in between."""
    return 8 * max(net.widths[: of + 1])


def _stacked_numbers(operands: tuple[Operand, ...], order: Order) -> int:
    """Count the most entries, one set per point, that partial products take at any one time.

    The result is not counted: it is asked for, and put where it belongs.
    """

    def visit(node: Order) -> tuple[Operand, int]:
        if isinstance(node, int):
            return operands[node], 0
        (left, first), (right, second) = visit(node[0]), visit(node[1])
        result, _ = join(left, right)
        kept = 0 if isinstance(node[0], int) else _entries(left)
        here = kept + (0 if isinstance(node[1], int) else _entries(right))
        if node is not order:
            here += _entries(result) * 2  # perhaps a scaled copy of it
        elif not left.kind == right.kind == "dense" or not left.stacked or not right.stacked:
            here += _entries(result)  # perhaps a copy, where a product cannot be put in its place
        return result, max(first, kept + second, here)

    return visit(order)[1]


def _entries(A: Operand) -> int:
    return A.rows * A.columns if A.stacked else 0


def threads_that_pay(
    net: Network, of: int, batch: int, flops: float, largest: int, allowed: int
) -> int:
    """Return how many threads pay: small matrices, long calls, and enough work for each of them.

    ``flops`` per point come on top of the way forward; ``largest`` is the size of a matrix.
    """
    if allowed < 2 or batch < 2:
        return 1
    width = sum(net.widths[: of + 1]) / (of + 1)
    if batch // allowed * width < LONG_CALL:
        return 1
    ways = [m * n for m, n in pairwise(net.widths[: of + 1])]
    units = sum(net.widths[1 : of + 1])
    seconds = batch * (flops / FLOPS + 2 * sum(ways) / FLOPS + units * UNIT_SECONDS)
    return allowed if max(largest, *ways) <= SMALL_MATRIX and seconds > WORTH_A_THREAD else 1


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
