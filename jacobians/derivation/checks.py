"""How the lines of a derivation are checked: against which other computation, how far apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians import backprop, explicit
from jacobians._checks import Array, TooLargeError, underflow_is_rounding
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Symbol, Value
from jacobians.gradients import Gradients
from jacobians.linearization import linearize
from jacobians.losses import as_loss
from jacobians.tracing import Trace
from jacobians.vectorization import vec

_EXPLICIT: dict[str, Callable[..., Array]] = {
    "D": explicit.activation_jacobian,
    "J": explicit.input_jacobian,
    "P": explicit.preactivation_jacobian,
    "JW": explicit.weight_jacobian,
}


@dataclass(frozen=True)
class Check:
    """How a line was checked: against what, how far apart, and what rounding allows.

    ``size`` is the largest number; ``evidence`` says that the bound is none, but an estimate.
    """

    against: str
    difference: float
    bound: float
    size: float
    evidence: bool = False

    @property
    def holds(self) -> bool:
        """Whether the two agree within the bound."""
        return self.difference <= self.bound

    def __str__(self) -> str:
        if not self.holds:
            return f"FAILS: off by {self.difference:.1e}, allowed {self.bound:.1e} ({self.against})"
        if self.evidence:
            return f"evidence: {self.against}, off by {self.difference:.1e}"
        if self.difference == 0:
            return f"exact ({self.against})"
        if self.bound > self.size:
            return f"evidence: {self.against}, off by {self.difference:.1e}; no bound is smaller"
        return f"within the bound, {self.difference:.1e} of {self.bound:.1e} ({self.against})"


def checked(value: Value, against: str, reference: Any) -> Check:
    """Compare a line with another computation, at the entry nearest to its bound."""
    number = value.number
    reference = np.asarray(reference, dtype=np.float64).reshape(number.shape)
    difference, bound = np.abs(number - reference), np.broadcast_to(2 * value.error, number.shape)
    over = np.where(difference == 0, 0.0, difference / np.maximum(bound, 1e-300))
    worst = np.unravel_index(int(np.argmax(over)), over.shape) if over.size else ()
    at = (float(difference[worst]), float(bound[worst])) if worst else (0.0, 0.0)
    return Check(against, *at, float(np.abs(number).max(initial=0)))


@dataclass
class References:
    """Other computations of what the lines say, at a point or a data set."""

    rules: Rules
    seen: Trace
    y: Array | None

    def check(self, left: Symbol, value: Value) -> Check | None:
        """Check a line against what else computes it, if anything does."""
        role, l = left.key
        if role == "HH":
            return self._hessian(value)
        reference = getattr(self, f"_{role}", self._gradient if role[0] == "d" else None)
        try:
            other = None if reference is None else reference(role, l)
        except TooLargeError:
            return None
        return None if other is None else checked(value, *other)

    # each returns what computes it, and the array; None where nothing else does

    def _forward(self, role: str, l: int) -> tuple[str, Any]:
        seen = self.seen
        return "forward pass", seen.activation(l) if role == "a" else seen.preactivation(l)

    _z = _a = _forward

    def _explicit(self, role: str, l: int) -> tuple[str, Any] | None:
        to: tuple[Any, ...] = {"D": (), "J": (self.rules.wrt,)}.get(role, (self.rules.top,))
        return None if self.seen.batch else ("explicit", _EXPLICIT[role](self.seen, l, *to))

    _D = _J = _P = _JW = _explicit

    def _Jx(self, role: str, l: None) -> tuple[str, Any]:
        maps = linearize(self.rules.net, self.seen)
        return "maps", maps.jacobian(of=self.rules.top, wrt=self.rules.wrt)

    def _c(self, role: str, l: None) -> tuple[str, Any] | None:
        loss: Any = self.rules.loss
        a = self.seen.output
        return None if self.rules.is_fused() else (str(loss), loss.cotangent(a, self.y))

    @cached_property
    def gradients(self) -> Gradients:
        """The gradients by the reverse sweep."""
        x, rules, loss = self.seen.activations[0], self.rules, as_loss(self.rules.loss)
        return backprop.gradients(rules.net, x, self.y, loss, rules.l2, kernels=False)

    def _gradient(self, role: str, l: int) -> tuple[str, Any] | None:
        g, points = self.gradients, self.rules.points or 1
        if role == "delta":
            return "backprop", points * g.deltas[l - 1]
        if role == "dx":
            return ("backprop", g.inputs) if l == 0 else None
        array = g.parameters[l - 1][role[1:]]
        return "backprop", array if self.rules.is_dense(l) else vec(array.reshape(len(array), -1))

    def _hessian(self, value: Value) -> Check | None:
        if self.seen.batch or self.rules.wrt:
            return None
        off = float(np.abs(value.number - second_differences(self.rules, self.seen)).max())
        size = 1 + float(np.abs(value.number).max())
        return Check("differences of the Jacobian", off, 1e-5 * size, size, evidence=True)


@underflow_is_rounding
def second_differences(rules: Rules, seen: Trace, h: float = 1e-5) -> Array:
    """Differentiate the Jacobian of one output by central differences."""
    net = rules.net.astype(np.float64)
    x = seen.activations[0].astype(np.float64)
    J = [[linearize(net, x + e).jacobian()[0] for e in (s, -s)] for s in h * np.eye(len(x))]
    return np.stack([(up - down) / (2 * h) for up, down in J])
