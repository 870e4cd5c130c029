"""A program: the chain of one network as a straight line of products, ready to run at any points.

Registers hold what the products need.  Constants are there from the start; the slopes of a layer
are loaded as soon as its preactivation is known, while it is still in the cache; every step
multiplies two or three registers and puts the result into one that is used up.  Running a program
takes no decision: all of them were taken when it was compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from jacobians._checks import Array
from jacobians.engine.forward import Forward
from jacobians.engine.memory import Pool
from jacobians.engine.products import dense_parts, dense_slopes
from jacobians.engine.ranges import is_within
from jacobians.tracing import Trace

Kind: TypeAlias = Literal["matrix", "stack", "slopes", "parts"]
Kernel: TypeAlias = Callable[..., Any]
Registers: TypeAlias = list[Any]


@dataclass(frozen=True)
class Load:
    """Put what ``value(z^l, a^{l-1}, pool)`` returns into a register."""

    value: Callable[[Array, Array, Pool | None], Any]
    slot: int


@dataclass(frozen=True)
class Step:
    """Multiply some registers; those that are used up are let go, the first takes the result."""

    kernel: Kernel
    sources: tuple[int, ...]
    used_up: tuple[int, ...]
    shape: tuple[int, int, int] | tuple[int, int]  # of the result; 0 stands for the points
    in_place: bool  # the first source takes the result


@dataclass(frozen=True)
class Program:
    """What ``compiling`` makes of a plan."""

    layers: tuple[Forward, ...]
    loads: tuple[tuple[Load, ...], ...]  # per layer
    constants: tuple[Any, ...]
    steps: tuple[Step, ...]
    result: int
    kind: Kind
    radius: float  # no value on the way can overflow from points up to this size; -1 if unknown
    tame: bool  # no partial product can overflow
    known: bool  # layers and activations are the library's own, so nobody else keeps their arrays

    def forward(
        self, X: Array, pool: Pool | None = None, *, value: bool = True
    ) -> tuple[Any, Registers, bool]:
        """Evaluate the network at ``X``, (b, n).

        Parameters
        ----------
        X : array
        pool : Pool, optional
            Where memory comes from, and goes back to.
        value : bool
            Whether the value is wanted; the slopes may be known earlier.

        Returns
        -------
        value : array, shape (b, n_of), or None
        registers : list
            With the slopes of these points loaded.
        finite : bool
            False if a value on the way left the range of the dtype.
        """
        registers, finite = list(self.constants), True
        a: Any = X
        careful = not is_within(X, self.radius)
        needed = len(self.layers) if value else self.last_load
        for l, layer, loads in zip(range(1, needed + 1), self.layers, self.loads, strict=False):
            z = layer.preactivation(a, pool)
            for load in loads:
                registers[load.slot] = load.value(z, a, pool)
            if pool and a is not z:
                pool.give(a)
            if careful:
                finite = finite and bool(np.isfinite(z).all())
            if l < needed or value:
                a = layer.activation(z, pool)
                if careful:
                    finite = finite and bool(np.isfinite(a).all())
            else:
                if pool:
                    pool.give(z)
                a = None
        return a, registers, finite

    def load(self, trace: Trace) -> Registers:
        """Return the registers at the trace of a batch."""
        registers = list(self.constants)
        for l, loads in enumerate(self.loads, start=1):
            for load in loads:
                registers[load.slot] = load.value(
                    trace.preactivation(l), trace.activation(l - 1), None
                )
        return registers

    def multiply(self, registers: Registers, J: Array, pool: Pool | None = None) -> None:
        """Multiply the chain out into ``J``, (b, m, n), using the registers up."""
        *steps, last = self.steps or (None,)
        for step in steps:
            self._step(step, registers, len(J), None, pool)
        out = J.transpose(1, 0, 2)
        if last is not None and self.kind == "stack":
            self._step(last, registers, len(J), out, pool)
            return
        if last is not None:
            self._step(last, registers, len(J), None, pool)
        out[...] = as_stack(registers[self.result], self.kind)

    @cached_property
    def last_load(self) -> int:
        """The number of the last layer from which anything is loaded."""
        return max((l for l, loads in enumerate(self.loads, start=1) if loads), default=0)

    def _step(
        self, step: Step, registers: Registers, b: int, out: Array | None, pool: Pool | None
    ) -> None:
        sources = [registers[s] for s in step.sources]
        if out is None:
            if step.in_place:
                out = sources[0]
            elif pool:
                out = pool.take(tuple(n or b for n in step.shape))
        result = step.kernel(*sources, out)
        for s in step.used_up:
            if pool and registers[s] is not result:
                pool.give(registers[s])
            registers[s] = None
        registers[step.used_up[0]] = result


def as_stack(value: Any, kind: Kind) -> Array:
    """Write a result out that is not a stack yet."""
    if kind == "slopes":
        return dense_slopes(np.atleast_2d(value))
    if kind == "parts":
        return dense_parts(*value)
    stack: Array = value[:, None, :] if kind == "matrix" else value
    return stack
