"""The plan of a computation: order of association, size of the pieces, memory.

Printed, it is one line; ``explain()`` is a table of the factors and of what each order would cost.
The order comes from ``maps.association``; the piece is as many points as fit the byte budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from jacobians import _kernels
from jacobians._checks import Indices, as_count, as_flag, flags_end_with_it, readable_bytes
from jacobians._kernels.translating import tape_of
from jacobians._machine import THREADS
from jacobians._notebook import Displayed, Table
from jacobians._text import table
from jacobians.compiling import compile_jacobian
from jacobians.factors import Factor, as_index, factors_of
from jacobians.maps.association import Association, Operand, Order, associate, flops, spell
from jacobians.network import Network, as_network
from jacobians.program import Limits, Program

DEFAULT_BYTES = 64 * 2**20
BLOCK_BYTES = 2**21  # of the kernel's workspace for each thread, and its lists; see packing.py
FLOPS, UNIT_SECONDS = 5e10, 6e-9  # rough speeds of products, and of sigma with its slope


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Displayed):
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
    fixed_bytes : int
        What does not depend on the points: products made beforehand, columns of general maps.
    threads : int
        Threads over pieces; 1 leaves threads to the BLAS library.
    allowed : int
        The most threads that anything may take.
    kernels : bool
        Whether the compiled kernel runs the program.
    """

    widths: tuple[int, ...]
    of: int
    wrt: int
    factors: tuple[Factor, ...]
    association: Association | None
    piece: int
    point_bytes: int
    fixed_bytes: int
    max_bytes: int
    threads: int
    allowed: int
    rows: Indices | None
    columns: Indices | None
    limits: Limits
    kernels: bool
    # what it compiles to, for each network that it was used for
    runners: WeakKeyDictionary[Network, dict[Any, Any]]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "runners": None}  # compiled again where it is used

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {**state, "runners": WeakKeyDictionary()}.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Plan: {self}"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of each Jacobian."""
        m, n = self.widths[self.of], self.widths[self.wrt]
        return (
            m if self.rows is None else len(self.rows),
            n if self.columns is None else len(self.columns),
        )

    def fits(self, net: Network) -> bool:
        """Tell whether the plan can be used for a network: the same factors at the same places."""
        return net in self.runners or (
            self.widths == net.widths and _labels(self.factors) == _labels(self._factors(net))
        )

    def program(self, net: Network, valued: bool) -> Program:
        """Compile the plan for a network that it fits."""
        factors = self.runners.get(net, {}).get("factors") or self._factors(net)
        order = self.association.order if self.association else None
        return compile_jacobian(net, self.of, factors, order, valued, self.limits)

    def tape(self, net: Network, program: Program, valued: bool) -> _kernels.Tape | None:
        """Translate a program for the compiled kernel; None if that is not to run it."""
        if not self.kernels:
            return None
        value = net.widths[self.of] if valued else 0
        return tape_of(program, net.dtype, net.widths[0], self.shape, 0, value)

    def in_order(self, order: Order) -> Plan:
        """Return the plan with another order of association."""
        assert self.association is not None
        cost = flops(self.operands, order)
        association = replace(self.association, order=order, flops=cost)
        return replace(self, association=association, runners=WeakKeyDictionary())

    def _factors(self, net: Network) -> tuple[Factor, ...]:
        written_out = self.limits.written_out
        return factors_of(net, self.of, self.wrt, self.rows, self.columns, written_out)

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
        return self.threads * self.piece * self.point_bytes + self.fixed_bytes

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
        by = f"compiled for {_kernels.PROCESSORS[-1]}" if self.kernels else "in NumPy"
        return f"{line}, {readable_bytes(self.working_bytes)}, {by}"

    def _table(self) -> Table:
        rows = [
            [name, f"{A.rows}x{A.columns}", A.kind, "one per point" if A.stacked else "shared"]
            for name, A in zip(self.names, self.operands, strict=True)
        ]
        return ["factor", "shape", "kind", "copies"], rows

    def explain(self) -> str:
        """Return a readable table of the factors and of what each order would cost."""
        header, factors = self._table()
        text = [str(self), "", table(header, [list(row) for row in factors], left=4)]
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


@flags_end_with_it
def plan(
    net: Network,
    batch: int = 1,
    *,
    of: int | str | None = None,
    wrt: int | str = 0,
    rows: Any = None,
    columns: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
    near: Any = None,
    limits: Limits | None = None,
    kernels: bool = True,
) -> Plan:
    """Decide how the Jacobians of a batch are best computed.

    Parameters
    ----------
    net : Network
    batch : int
        Number of points; it decides the size of the pieces, and spreads the cost of products of
        shared matrices.
    of, wrt : int or str
        Nodes by number or name: ``da^of/da^wrt``, by default the output with respect to the input.
    rows, columns : slice or list of int, optional
        Only these outputs and inputs.
    max_bytes : int, optional
        Budget for temporary memory, 64 MiB unless said; the result comes on top.
    threads : int, optional
        At most this many; as many as the BLAS library was told to take, unless said
        (``OPENBLAS_NUM_THREADS``, ``OMP_NUM_THREADS``), or as there are processors.  Forking while
        OpenBLAS's own threads work can hang in the child: start processes by ``spawn``.
    near : array, shape (n_0,), optional
        A point at which the network has a value, if it has none at 0 or at a few random points.
    limits : Limits, optional
        Sizes at which one way of computing gives place to another.
    kernels : bool
        Whether the compiled kernel may run the program, where it was built and has all its steps.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a number is out of range, or not even one point fits the budget.

    >>> net = Network.random([784, 256, 32, 256, 784], seed=0)
    >>> print(plan(net, batch=32, threads=1, kernels=False))
    da^4/da^0 784x784: mixed order W4 (D3 W3) (D2 (W2 D1) W1), 65.1 Mflop per point
    (forward 341 Mflop, reverse 341 Mflop), pieces of 32 points, 16 MiB, in NumPy
    """
    net = as_network(net, "plan")
    of = net.depth if of is None else net.number(of, "plan: of")
    wrt = net.number(wrt, "plan: wrt", 0, of)
    batch = as_count(batch, "plan: batch", at_least=0)
    budget = as_count(DEFAULT_BYTES if max_bytes is None else max_bytes, "plan: max_bytes")
    allowed = THREADS if threads is None else as_count(threads, "plan: threads")
    limits, kernels = limits or Limits(), as_flag(kernels, "plan: kernels")
    chosen_rows = as_index(rows, net.widths[of], "plan: rows")
    chosen_columns = as_index(columns, net.widths[wrt], "plan: columns")
    written_out = limits.written_out
    factors = factors_of(net, of, wrt, chosen_rows, chosen_columns, written_out, near)
    operands = tuple(factor.operand for factor in factors)
    association = associate(operands, max(batch, 1)) if operands else None
    if association:
        association = _live(factors, association, max(batch, 1), limits)
    made = Plan(
        widths=net.widths,
        of=of,
        wrt=wrt,
        factors=factors,
        association=association,
        piece=1,
        point_bytes=0,
        fixed_bytes=0,
        max_bytes=budget,
        threads=1,
        allowed=allowed,
        rows=chosen_rows,
        columns=chosen_columns,
        limits=limits,
        kernels=kernels and bool(_kernels.PROCESSORS),
        runners=WeakKeyDictionary(),
    )
    made.runners[net] = {"factors": made.factors}  # of this network, and of no other
    return _in_pieces(made, net, batch)


def _in_pieces(made: Plan, net: Network, batch: int) -> Plan:
    """Choose threads and pieces, now that the program says what memory a point takes."""
    program, limits = made.program(net, valued=True), made.limits
    point_bytes = net.dtype.itemsize * program.point_numbers
    applied = min(limits.apply_bytes, net.dtype.itemsize * program.applied * max(batch, 1))
    fixed = program.constant_bytes + made.allowed * applied
    tape = made.tape(net, program, valued=True)
    more = 0 if tape is None else tape.nbytes + made.allowed * BLOCK_BYTES
    if made.max_bytes == DEFAULT_BYTES:  # nobody asked for less: packed weights come on top
        made = replace(made, max_bytes=DEFAULT_BYTES + more)
    largest = max((A.rows * A.columns for A in made.operands if A.kind == "dense"), default=0)
    fits = tape is not None and fixed + more <= made.max_bytes // 2
    made = replace(made, kernels=fits and min(made.shape) * largest < limits.blas)
    fixed += more if made.kernels else 0
    budget = made.max_bytes - min(fixed, made.max_bytes // 2)
    if point_bytes > budget:
        raise ValueError(
            f"plan: max_bytes: one point needs {point_bytes} bytes, but the budget is "
            f"{made.max_bytes}; twice as much as it needs is always enough."
        )
    threads = 1
    if made.association:
        most = min(made.allowed, budget // point_bytes)
        threads = threads_that_pay(
            net, made.of, batch, made.flops, largest, most, limits, made.kernels
        )
    small = threads > 1 or largest <= limits.small_matrix
    most = limits.small_piece_bytes if small else limits.piece_bytes
    within = min(budget // threads, max(most, point_bytes)) // point_bytes
    piece = max(1, min(-(-batch // threads), within))
    return replace(made, piece=piece, point_bytes=point_bytes, fixed_bytes=fixed, threads=threads)


def _live(
    factors: tuple[Factor, ...], best: Association, batch: int, limits: Limits
) -> Association:
    """Put slopes of which many are 0 between the two sides of the last product.

    There the dead units are left out of it, which is worth more than the few operations by which
    scaling one side or the other differ.
    """
    operands = [factor.operand for factor in factors]
    if not isinstance(best.order, tuple):
        return best
    left, right = best.order
    d, rest = _first_of(right)
    if isinstance(left, int) or isinstance(rest, int) or rest is None or not factors[d].flat:
        return best
    if operands[0].rows * operands[d].rows * operands[-1].columns < limits.live:
        return best
    order = (left, (d, rest))
    cost = flops(operands, order, batch)
    if cost > 1.01 * best.flops:
        return best
    return replace(best, order=order, flops=cost)


def _first_of(order: Order) -> tuple[int, Order]:
    """Take the first factor out of an order: return it, and the order of the others."""
    on_the_way = []
    while isinstance(order, tuple):
        on_the_way.append(order[1])
        order = order[0]
    rest = on_the_way.pop() if on_the_way else None
    while on_the_way:
        rest = (rest, on_the_way.pop())
    return order, rest


def _labels(factors: tuple[Factor, ...]) -> list[Any]:
    return [(factor.name, factor.operand) for factor in factors]


def threads_that_pay(
    net: Network,
    of: int,
    batch: int,
    flops: float,
    largest: int,
    allowed: int,
    limits: Limits,
    kernels: bool = False,
) -> int:
    """Return how many threads pay: small matrices, long calls, and enough work for each of them.

    ``flops`` per point come on top of the way forward; ``largest`` is the size of a matrix.
    """
    if allowed < 2 or batch < 2:
        return 1
    width = sum(net.widths[: of + 1]) / (of + 1)
    if batch // allowed * width < limits.long_call and not kernels:
        return 1
    ways = [m * n for m, n in pairwise(net.widths[: of + 1])]
    units = sum(net.widths[1 : of + 1])
    seconds = batch * (flops / FLOPS + 2 * sum(ways) / FLOPS + units * UNIT_SECONDS)
    small = kernels or max([largest, *ways]) <= limits.small_matrix
    return allowed if small and seconds > limits.thread_seconds else 1


def _count(number: float) -> str:
    units = iter(("", "k", "M", "G", "T", "P"))
    unit = next(units)
    while number >= 1000:
        number, unit = number / 1000, next(units)
    return f"{number:.3g} {unit}flop"
