"""How the lines of a derivation are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, underflow_is_rounding
from jacobians.activations import Activation
from jacobians.derivation.terms import Rounding, Value
from jacobians.linearization import linearize
from jacobians.tracing import Trace


@dataclass(frozen=True)
class Check:
    """How a line was checked: against what, how far apart, and what rounding allows."""

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
    difference = np.abs(number - reference)
    over = np.where(difference == 0, 0.0, difference / np.maximum(value.error, 1e-300))
    worst = int(np.argmax(over)) if over.size else 0
    bound = 2 * float(np.broadcast_to(value.error, number.shape).flat[worst])
    return Check(
        against, float(difference.flat[worst]), bound, float(np.abs(number).max(initial=0))
    )


def second(activation: Activation) -> Any:
    """Return ``sigma''`` as a function of a column ``z``."""

    def call(z: Value, rounding: Rounding) -> Value:
        s = activation.second_derivative(z.number)
        return Value(s, 16 * rounding.unit * (1 + np.abs(s)))

    return call


@underflow_is_rounding
def second_differences(net: Any, seen: Trace, h: float = 1e-5) -> Array:
    """Differentiate the Jacobian of one output by central differences."""
    net = net.astype(np.float64)
    x = seen.activations[0].astype(np.float64)
    steps = h * np.eye(len(x))
    J = [
        (linearize(net, x + e).jacobian() - linearize(net, x - e).jacobian())[0] / (2 * h)
        for e in steps
    ]
    return np.stack(J)
