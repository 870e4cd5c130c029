"""Activations that are written out, recognised by what they compute.

Between a value x and a step that depends on x entry by entry stand sums, products and elementary
functions: ``x * sigmoid(x)`` and ``x / (1 + exp(-x))`` are both silu.  What a step gives where one
of the steps before it gives some points is a curve; where the curve has the values of a named
activation, to the last digits, the step becomes that activation.  Two formulas of so few steps that
agree at all of these points are the same; what does not agree is computed as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation, activation
from jacobians.importers._folding import Step
from jacobians.layers import Add, Multiply, Reshape

# At 22 softplus is not x in float64, but it is in float32, where frameworks write it so from 20 on.
_POINTS = np.array(
    [-60, -22, -7, -3.7, -2.1, -1.3, -0.6, -0.2, 0.1, 0.45, 0.9, 1.7, 2.6, 3.9, 22, 60]
)
_NAMED = (
    *("square", "sigmoid", "softplus", "softsign", "silu", "mish", "gelu", "gelu_tanh"),
    "gaussian",
)
_FUNCTIONS = {"exp", "log", "erf", "tanh", "relu", "abs", "reciprocal", "sign", "power", *_NAMED}
_CLOSING = {"multiply", "add", "scale", "log", "exp", "reciprocal"}  # a formula ends with one
# name and sign of the activation and of its argument; log(sigmoid(x)) is -softplus(-x)
_FORMS = [*((name, 1.0) for name in _NAMED), ("softplus", -1.0)]
_EXPECTED = np.array([sign * activation(name)(sign * _POINTS) for name, sign in _FORMS])
_SIZES = 1 + abs(_EXPECTED)
_PROBE = 11  # of the points: at 1.7 no two forms agree
_MOST_CURVES, _MOST_STEPS = 8, 256  # of one step, and how long they are kept
_LAYERS = {Add: "add", Multiply: "multiply", Reshape: "reshape"}


class Curves(NamedTuple):
    """What a step gives where each of some steps before it, the nearest first, gives the points."""

    bases: list[int]
    rows: Array  # a curve each
    joined: list[bool]  # whether branches come together in between


class Formulas:
    """The curves of the latest steps of a network in the making."""

    def __init__(self) -> None:
        self._curves: dict[int, Curves] = {}

    def recognised(self, steps: Sequence[Step], single: bool) -> tuple[int, str, float] | None:
        """Tell of which step the last one is a named activation, which one, and with what sign.

        ``single`` says that the model computes in float32, so that its constants are rounded to it.
        """
        last, operation = len(steps) - 1, _operation(steps[-1])
        with np.errstate(all="ignore"):
            bases, rows, joined = self._followed(steps[-1], operation)
            kept = bases[: _MOST_CURVES - 1]
            self._curves[last] = Curves(
                [last, *kept],
                np.concatenate([_POINTS[None], rows[: len(kept)]]),
                [False, *joined[: len(kept)]],
            )
            self._curves.pop(last - _MOST_STEPS, None)
            if operation not in _CLOSING or not bases:
                return None
            tolerance = 4 * float(np.finfo(np.float32).eps) if single else 1e-14
            allowed = tolerance * _SIZES
            near = abs(rows[:, _PROBE, None] - _EXPECTED[:, _PROBE]) <= allowed[:, _PROBE]
            for k, form in np.argwhere(near):
                if operation == "scale" and not joined[k]:
                    continue  # what is recognised already, with a sign before and behind
                if (abs(rows[k] - _EXPECTED[form]) <= allowed[form]).all():
                    return bases[k], *_FORMS[form]
        return None

    def _followed(self, step: Step, operation: str) -> Curves:
        """Return the curves of a step, from those of the steps that it reads."""
        given = [self._curves.get(source, _NO_CURVES) for source in step.sources]
        if not operation or not given:
            return _NO_CURVES
        first, *others = given
        bases, values, joined = first.bases, [first.rows], first.joined
        if others:
            bases = [b for b in bases if all(b in other.bases for other in others)]
            values = [curves.rows[[curves.bases.index(b) for b in bases]] for curves in given]
            joined = [True] * len(bases)
        rows = _applied(step, operation, values) if bases else None
        return _NO_CURVES if rows is None else Curves(bases, rows, joined)


_NO_CURVES = Curves([], np.zeros((0, _POINTS.size)), [])


def _operation(step: Step) -> str:
    """Return what a step does with every entry by itself: "" if it is not that."""
    if step.layer is not None:
        return _LAYERS.get(type(step.layer), "")
    if step.W is not None:
        return "scale" if step.W.ndim == 1 else ""
    return step.sigma.name if step.sources and isinstance(step.sigma, Activation) else ""


def _applied(step: Step, operation: str, values: list[Array]) -> Array | None:
    """Apply a step to curves, if it does the same to every entry."""
    if step.W is not None and step.b is not None:
        # a single number that is spread takes no memory, until it is compared
        if any(part.strides != (0,) and (part != part[0]).any() for part in (step.W, step.b)):
            return None
        return values[0] * float(step.W[0]) + float(step.b[0])
    if operation in ("add", "multiply"):
        joined: Array = (np.add if operation == "add" else np.multiply).reduce(values)
        return joined
    if operation == "reshape":
        return values[0]
    # other functions may be bent where there is no point
    return np.asarray(step.sigma(values[0])) if operation in _FUNCTIONS else None
