"""Running a program: its steps one after the other, for the points of a batch piece by piece.

Points are cut into pieces that stay in the cache; each piece is evaluated and multiplied out, on one
thread or several.  The cut depends on the plan and the number of points alone, so the same call
gives the same bits.  The memory of a piece is used again by the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, TypeVar, cast

import numpy as np

from jacobians._checks import Array
from jacobians.engine.kernels import Kernels, OtherStructure
from jacobians.engine.workers import cut, share
from jacobians.network import Network
from jacobians.program import FORWARD, Limits, Op, Program
from jacobians.tracing import Trace, trace

# Below the first size the C library hands out memory that is warm already; up to the second one the
# memory of a piece is kept for the next call.
WARM_BYTES, KEPT_BYTES = 2**16, 2**23

F = TypeVar("F", bound=Callable[..., Any])


def quiet(function: F) -> F:
    """Run a function with NumPy's warnings off, in a context of its own.

    Setting them back could be interrupted; a context ends with its call, whatever happens.
    """

    @wraps(function)
    def run(*args: Any, **keywords: Any) -> Any:
        return copy_context().run(_without_warnings, function, args, keywords)

    return cast(F, run)


def _without_warnings(function: Any, args: Any, keywords: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*args, **keywords)


@dataclass(frozen=True, eq=False)
class Runner:
    """A program with all that is decided about its pieces; it keeps no network alive."""

    of: int
    dtype: np.dtype[Any]
    program: Program
    limits: Limits
    piece: int
    threads: int
    allowed: int
    compiled: Any = None  # the same program for the kernel, if that has all its steps
    idle: deque[list[Array]] = field(default_factory=deque)

    @cached_property
    def kernels(self) -> list[Callable[..., Any]]:
        """The function for each operation."""
        return Kernels(self.limits, self.threads, self.allowed).table

    def batch(
        self,
        net: Network,
        X: Array,
        J: Array,
        value: Array | None,
        repair: Callable[[Array, Any], Array],
        vectors: Array | None = None,
    ) -> None:
        """Fill J (m, B, n), and the values (B, m), for all points.

        ``repair(points, vectors)`` computes the result where the steps cannot: where a partial
        product left the range, or a rule gives another kind of map than before.
        """

        def one(where: slice, k: int) -> None:
            v = None if vectors is None else vectors[where]
            a = None if value is None else value[where]
            self._piece(net, X[where], J[:, where], a, repair, v, rooms[k])

        pieces = cut(len(X), self.piece, self.threads)
        rooms = [self._rooms(pieces[0].stop) if pieces else [] for _ in range(self.threads)]
        share(one, pieces, self.threads)
        for room in rooms:
            if len(self.idle) < self.threads and sum(flat.nbytes for flat in room) <= KEPT_BYTES:
                self.idle.append(room)

    def _piece(
        self,
        net: Network,
        x: Array,
        J: Array,
        value: Array | None,
        repair: Callable[[Array, Any], Array],
        v: Array | None,
        rooms: list[Array] | None,
    ) -> None:
        with np.errstate(all="ignore"):  # threads begin with warnings on
            try:
                if self.compiled is not None and self._by_kernel(x, J, value, v):
                    a, finite = value, True
                else:
                    a, finite = self.run(x, J, v, rooms)
            except OtherStructure:
                a, finite = trace(net, x).activations[self.of], True
                J[...] = repair(x, v)
            if not finite:
                trace(net, x)  # says which layer leaves the range
            if value is not None:
                value[...] = a
            if not self.program.tame:
                lost = np.flatnonzero(~np.isfinite(J).all(axis=(0, 2)))
                if len(lost):
                    J[:, lost] = repair(x[lost], None if v is None else v[lost])

    def _by_kernel(self, x: Array, J: Array, value: Array | None, v: Array | None) -> bool:
        """Let the kernel fill J and the value; False if a value left the range, or J is in pieces."""
        target = J.transpose(1, 0, 2)
        outside = [np.ascontiguousarray(A) for A in (x, v) if A is not None]
        outside += [target] if value is None else [value, target]
        if not all(A.flags.c_contiguous and A.flags.aligned for A in outside):
            return False
        finite: bool = self.compiled.run(*outside)
        return finite and (value is None or bool(np.isfinite(value).all()))

    def run(
        self,
        x: Array,
        J: Array,
        vectors: Array | None = None,
        rooms: list[Array] | None = None,
        seen: Trace | None = None,
    ) -> tuple[Any, bool]:
        """Run the steps at some points, or at a trace that was seen there.

        Returns
        -------
        value : array
            ``a^of`` if the program has it.
        finite : bool
            False if a value on the way left the range of the dtype.
        """
        registers, kernels, b, finite = list(self.program.registers), self.kernels, len(x), True
        registers[0] = x
        registers[1] = None if vectors is None else vectors[None]
        for step in self.program.steps:
            op, target, args, _, _, shape, room, frees = step
            if seen is not None and step.node and op != Op.SLOPES:
                seen_of = seen.activations if op == Op.VALUE else (None, *seen.preactivations)
                registers[target] = seen_of[step.node]
                continue
            out = None
            if room == -2:
                out = J
            elif room >= 0 and rooms:
                size = 1
                for n in shape:
                    size *= n or b
                out = rooms[room][:size].reshape([n or b for n in shape])
            result = kernels[op](step, out, *[registers[k] for k in args])
            registers[target] = result
            if op in FORWARD and seen is None and not np.isfinite(result.sum()):
                finite = finite and bool(np.isfinite(result).all())
            for k in frees:
                registers[k] = None
        if room == -2 and result is not J:
            J[...] = result
        return registers[self.program.value], finite

    def _rooms(self, points: int) -> list[Array]:
        """Return the memory that registers share, from an earlier call if there is some."""
        sizes = [points * numbers for numbers in self.program.rooms]
        itemsize = self.dtype.itemsize
        if sum(sizes) * itemsize <= WARM_BYTES:
            return []
        try:
            rooms = self.idle.pop()
        except IndexError:
            rooms = []
        if [flat.size for flat in rooms] >= sizes:
            return rooms
        return [np.empty(size, self.dtype) for size in sizes]
