"""Running a program: its steps one after the other, for the points of a batch piece by piece.

Points are cut into pieces that stay in the cache; each piece is evaluated and multiplied out, on
one thread or several.  The cut depends on the plan and the number of points alone, so the same call
gives the same bits.  The memory of a piece is used again by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite
from operator import attrgetter
from typing import Any

import numpy as np

from jacobians._checks import Array, with_flags
from jacobians._workers import cut, share
from jacobians.engine.kernels import Kernels, OtherStructure, is_finite
from jacobians.network import Network
from jacobians.program import Op, Program
from jacobians.tracing import Trace, trace

# Below this size the C library hands out memory that is warm already.
WARM_BYTES = 2**16

quiet = with_flags(all="ignore")


@dataclass(frozen=True, eq=False)
class Runner:
    """A program with all that is decided about its pieces; it keeps no network alive."""

    of: int
    dtype: np.dtype[Any]
    program: Program
    kernels: Kernels
    piece: int
    threads: int
    compiled: Any = None  # the same program for the kernel, if that has all its steps

    @cached_property
    def code(self) -> list[tuple[Any, ...]]:
        """The steps with the function for each."""
        return self.kernels.code(self.program.steps)

    def point(self, x: Array, J: Array, value: Array | None) -> bool:
        """Fill in J (m, n) and the value at one point; False if the program cannot."""
        if self.compiled is not None:
            finite: bool = self.compiled.run(*((x, J) if value is None else (x, value, J)))
            return finite
        return _point_in_numpy(self, x, J, value)

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
        if not len(X):
            return
        threads = self.threads if len(X) > self.piece else 1
        pieces = cut(len(X), self.piece, threads)
        slots = [self._slots(min(pieces[0].stop, len(X))) for _ in range(threads)]

        def one(piece: slice, worker: int) -> None:
            x, stack = X[piece], J[:, piece]
            a = None if value is None else value[piece]
            v = None if vectors is None else vectors[piece]
            with np.errstate(all="ignore"):  # threads begin with warnings on
                if self.compiled is None or not self._by_kernel(x, stack, a, v):
                    self._by_steps(net, x, stack, a, v, repair, slots[worker])
                if not self.program.bounded and not is_finite(stack):
                    lost = np.flatnonzero(~np.isfinite(stack).all(axis=(0, 2)))
                    if len(lost):
                        stack[:, lost] = repair(x[lost], None if v is None else v[lost])

        share(one, pieces, threads)

    def _by_steps(
        self, net: Network, x: Array, J: Array, value: Any, v: Any, repair: Any, slots: list[Array]
    ) -> None:
        try:
            a, finite = self.run(x, J, v, slots)
        except OtherStructure:
            a = trace(net, x).activations[self.of]
            J[...] = repair(x, v)
        else:
            if not finite:
                trace(net, x)  # says which layer leaves the range
        if value is not None:
            value[...] = a

    def _by_kernel(self, x: Array, J: Array, value: Array | None, v: Array | None) -> bool:
        """Let the kernel fill J and the value; False if one left the range, or J has gaps."""
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
        slots: Sequence[Array] = (),
        seen: Trace | None = None,
    ) -> tuple[Any, bool]:
        """Run the steps at some points, or at a trace that was seen there.

        Return ``a^of``, if the program has it, and whether all values on the way are in range.
        """
        registers, code = list(self.program.registers), self.code
        registers[:2] = x, None if vectors is None else vectors[None]
        if seen is not None:
            for step in filter(attrgetter("node"), self.program.steps):
                a, z = seen.activations[step.node], seen.preactivations[step.node - 1]
                registers[step.out] = a if step.op == Op.VALUE else z
            code = self.kernels.code([step for step in self.program.steps if not step.node])
        finite = self.kernels.run(code, registers, J, slots)
        return registers[self.program.value], finite

    def _slots(self, points: int) -> list[Array]:
        """Return the memory that products share."""
        sizes = [points * numbers for numbers in self.program.slots]
        if sum(sizes) * self.dtype.itemsize <= WARM_BYTES:
            return []
        return [np.empty(size, self.dtype) for size in sizes]


@quiet
def _point_in_numpy(runner: Runner, x: Array, J: Array, value: Array | None) -> bool:
    try:
        a, finite = runner.run(x[None], J[:, None])
    except OtherStructure:
        return False
    if value is not None:
        value[...] = a[0]
    return finite


def all_finite(row: Array) -> bool:
    """Tell whether all entries are finite, in one short call that raises no flag where they are."""
    try:
        return isfinite(row.dot(_zeros(row.size, row.dtype)))
    except (FloatingPointError, RuntimeWarning):  # infinity times 0, as NumPy is set to tell it
        return False


@lru_cache(maxsize=64)
def _zeros(size: int, dtype: np.dtype[Any]) -> Array:
    return np.zeros(size, dtype)
