"""Running a program: its steps one after the other, for the points of a batch piece by piece.

Points are cut into pieces that stay in the cache; each piece is evaluated and multiplied out, on
one thread or several.  The cut depends on the plan and the number of points alone, so the same call
gives the same bits.  The memory of a piece is used again by the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import isfinite, prod
from typing import Any

import numpy as np

from jacobians._checks import Array, with_flags
from jacobians._workers import cut, share
from jacobians.engine.kernels import Kernels, OtherStructure
from jacobians.network import Network
from jacobians.program import Op, Program, Step
from jacobians.tracing import Trace, trace

# Below the first size the C library hands out memory that is warm already; up to the second one the
# memory of a piece is kept for the next call.
WARM_BYTES, KEPT_BYTES = 2**16, 2**23
# Up to this many numbers, calling NumPy takes longer than the arithmetic.
SHORT = 2**13

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
    idle: deque[list[Array]] = field(default_factory=deque)

    @cached_property
    def code(self) -> list[tuple[Any, ...]]:
        """The steps with the function for each, and whether its result is to be looked at."""
        return [
            (
                self.kernels.table[step.op],
                step,
                step.out,
                step.args,
                step.slot,
                step.frees,
                _may_overflow(step),
            )
            for step in self.program.steps
        ]

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
        if len(X) <= self.piece:
            self._piece(net, X, J, value, repair, vectors, self._slots(len(X)))
            return

        def one(where: slice, k: int) -> None:
            v = None if vectors is None else vectors[where]
            a = None if value is None else value[where]
            with np.errstate(all="ignore"):  # threads begin with warnings on
                self._piece(net, X[where], J[:, where], a, repair, v, slots[k])

        pieces = cut(len(X), self.piece, self.threads)
        slots = [self._slots(pieces[0].stop) for _ in range(self.threads)]
        share(one, pieces, self.threads)
        for slot in slots:
            if len(self.idle) < self.threads and sum(flat.nbytes for flat in slot) <= KEPT_BYTES:
                self.idle.append(slot)

    def _piece(
        self,
        net: Network,
        x: Array,
        J: Array,
        value: Array | None,
        repair: Callable[[Array, Any], Array],
        v: Array | None,
        slots: list[Array] | None,
    ) -> None:
        try:
            if self.compiled is not None and self._by_kernel(x, J, value, v):
                a, finite = value, True
            else:
                a, finite = self.run(x, J, v, slots)
        except OtherStructure:
            a, finite = trace(net, x).activations[self.of], True
            J[...] = repair(x, v)
        if not finite:
            trace(net, x)  # says which layer leaves the range
        if value is not None:
            value[...] = a
        if not self.program.bounded and not _is_finite(J):
            lost = np.flatnonzero(~np.isfinite(J).all(axis=(0, 2)))
            if len(lost):
                J[:, lost] = repair(x[lost], None if v is None else v[lost])

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
        slots: list[Array] | None = None,
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
        registers, b, finite = list(self.program.registers), len(x), True
        registers[0] = x
        registers[1] = None if vectors is None else vectors[None]
        for kernel, step, target, args, slot, frees, look in self.code:
            if seen is not None and step.node and step.op != Op.SLOPES:
                values = seen.activations if step.op == Op.VALUE else (None, *seen.preactivations)
                registers[target] = values[step.node]
                continue
            out = None
            if slot == -2:
                out = J
            elif slot >= 0 and slots:
                shape = [n or b for n in step.shape]
                out = slots[slot][: prod(shape)].reshape(shape)
            if len(args) == 2:
                result = kernel(step, out, registers[args[0]], registers[args[1]])
            else:
                result = kernel(step, out, *[registers[k] for k in args])
            registers[target] = result
            if look and finite and not _is_finite(result):
                finite = bool(np.isfinite(result).all())
            for k in frees:
                registers[k] = None
        if result is not J:
            J[...] = result
        return registers[self.program.value], finite

    def _slots(self, points: int) -> list[Array]:
        """Return the memory that registers share, from an earlier call if there is some."""
        sizes = [points * numbers for numbers in self.program.slots]
        itemsize = self.dtype.itemsize
        if sum(sizes) * itemsize <= WARM_BYTES:
            return []
        try:
            slots = self.idle.pop()
        except IndexError:
            slots = []
        if [flat.size for flat in slots] >= sizes:
            return slots
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


def _may_overflow(step: Step) -> bool:
    """Tell whether a value leaves the range without a next one that does so too."""
    if step.op == Op.VALUE:
        return bool(min(step.data.slope_bound, step.data.value_bound) == np.inf)
    return step.op in (Op.AFFINE, Op.CALL)


def _is_finite(values: Array) -> bool:
    """Tell whether all entries are finite; perhaps no, if only a sum of them is not."""
    if values.size <= SHORT and values.flags.c_contiguous:
        flat = values.ravel()  # one short call; larger ones would wake the threads of BLAS
        return isfinite(flat.dot(flat))
    return isfinite(values.sum())


def all_finite(row: Array) -> bool:
    """Tell whether all entries are finite, in one short call that raises no flag where they are."""
    try:
        return isfinite(row.dot(_zeros(row.size, row.dtype)))
    except (FloatingPointError, RuntimeWarning):  # infinity times 0, as NumPy is set to tell it
        return False


@lru_cache(maxsize=64)
def _zeros(size: int, dtype: np.dtype[Any]) -> Array:
    return np.zeros(size, dtype)
