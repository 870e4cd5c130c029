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
from jacobians._sigma import INTO_MEMORY
from jacobians.activations import IDENTITY, Activation, AnyActivation, activation
from jacobians.engine.memory import Pool
from jacobians.engine.products import dense_parts, dense_slopes, in_slabs
from jacobians.layers import Dense, Elementwise, Layer, Scale
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
        careful = not self.is_safe(X)
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

    def is_safe(self, X: Array) -> bool:
        """Tell whether nothing can overflow on the way from ``X``; never so if it has a NaN."""
        if X.size > SHORT:
            return bool(-self.radius <= X.min() and X.max() <= self.radius)
        x = X.ravel()  # one call in place of two; larger ones would wake the threads of BLAS
        return bool(x.dot(x) <= self.radius * abs(self.radius))

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


# --- the way forward ------------------------------------------------------------------------------


# A loop over a short row spends its time on starting, so some rows are treated together.
LONG_LOOP = 1024
# Up to this many numbers, calling NumPy takes longer than the arithmetic.
SHORT = 2**13


class Forward:
    """One layer on the way forward, with its checks done beforehand.

    The same numbers as ``layer.preactivation`` and ``layer.activation`` give, up to the order of
    summation.
    """

    def __init__(self, layer: Layer, slabs: bool) -> None:
        self._layer, self._slabs = layer, slabs
        self._formula = value_formula(layer.activation)
        self._into_memory = self._formula in INTO_MEMORY
        self._W: Any = None
        if type(layer) is Dense:
            self._W, self._b = layer.W.T, layer.b
            self._together = max(1, LONG_LOOP // len(layer.b))
            self._biases = np.tile(layer.b, self._together)
            if slabs or layer.W.size <= SHORT:
                self._W = np.ascontiguousarray(self._W)  # in slabs this is twice as fast

    def preactivation(self, a: Array, pool: Pool | None) -> Array:
        """Return ``z`` for ``a``, (b, n)."""
        if self._W is None:
            return self._layer.preactivation(a)
        z = _take((len(a), len(self._b)), a, pool)
        if self._slabs:
            in_slabs(a, self._W, z)
        else:
            np.matmul(a, self._W, out=z)
        whole = len(z) // self._together * self._together
        rows = z[:whole].reshape(-1, len(self._biases))
        rows += self._biases
        if whole < len(z):
            z[whole:] += self._b
        return z

    def activation(self, z: Array, pool: Pool | None) -> Array:
        """Return ``sigma(z)``, where ``z`` was if that is possible."""
        if self._into_memory and self._W is not None:
            a: Array = self._formula(z, out=z)
            return a
        a = self._formula(z)
        if pool and a is not z:
            pool.give(z)
        return a


def _take(shape: tuple[int, ...], like: Array, pool: Pool | None) -> Array:
    return pool.take(shape) if pool else np.empty(shape, like.dtype)


def value_formula(sigma: AnyActivation) -> Callable[..., Array]:
    """Return sigma; without its checks if it is one of the known activations."""
    if sigma == IDENTITY:
        return _same
    return _bound(sigma.sigma, sigma) if _is_ours(sigma) else sigma


def _same(z: Array) -> Array:
    return z


def is_known(layer: Layer) -> bool:
    """Tell whether layer and activation are the library's own."""
    return type(layer) in (Dense, Scale, Elementwise) and _is_ours(layer.activation)


def slope_formula(sigma: Activation) -> Callable[..., Array]:
    """Return ``sigma'``; without its checks if it is one of the known activations."""
    return _bound(sigma.sigma_prime, sigma) if _is_ours(sigma) else sigma.derivative


def _is_ours(sigma: AnyActivation) -> bool:
    try:
        return activation(sigma.name, **dict(sigma.parameters)) == sigma
    except (TypeError, ValueError):
        return False


def _bound(formula: Callable[..., Array], sigma: AnyActivation) -> Callable[..., Array]:
    if not sigma.parameters:
        return formula
    parameters = dict(sigma.parameters)
    return lambda z: formula(z, **parameters)
