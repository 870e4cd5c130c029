"""Activations that are written out, recognised by what they compute.

Between a value x and a step that depends on x entry by entry stand sums, products and elementary
functions: ``x * sigmoid(x)`` and ``x / (1 + exp(-x))`` are both silu.  What a step gives where one
of the steps before it gives some points is a curve; where the curve has the values of a named
activation, to the last digits, the step becomes that activation.  Two formulas of so few steps that
agree at all of these points are the same; what does not agree is computed as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
_EPS = float(np.finfo(np.float32).eps)


@dataclass
class Curves:
    """What a step gives where each of some steps before it, the nearest first, gives the points."""

    bases: list[int]
    joined: list[bool]  # whether branches come together in between
    rows: Array = field(init=False)  # a curve each, computed when a formula may end


class Formulas:
    """The curves of the latest steps of a network in the making."""

    def __init__(self) -> None:
        self._curves: dict[int, Curves] = {}
        self._waiting: list[int] = []  # steps whose curves nobody has needed so far

    def recognised(
        self, steps: Sequence[Step], single: bool = False
    ) -> tuple[int, str, float] | None:
        """Tell of which step the last one is a named activation, which one, and with what sign.

        ``single`` says that the model computes in float32, so that its constants are rounded to it.
        """
        last, operation = len(steps) - 1, _operation(steps[-1])
        bases, joined = self._followed(steps[-1], operation)
        self._curves[last] = Curves([last, *bases], [False, *joined])
        self._curves.pop(last - _MOST_STEPS, None)
        self._waiting.append(last)
        # a scale of one branch is recognised already, with a sign before and behind
        if operation not in _CLOSING or not (any(joined) if operation == "scale" else bases):
            return None
        with np.errstate(all="ignore"):
            self._compute(steps)
            allowed = (4 * _EPS if single else 1e-14) * _SIZES
            near = abs(self._curves[last].rows[1:, _PROBE, None] - _EXPECTED[:, _PROBE])
            for k, form in np.argwhere(near <= allowed[:, _PROBE]):
                if operation == "scale" and not joined[k]:
                    continue
                row = self._curves[last].rows[k + 1]
                if (abs(row - _EXPECTED[form]) <= allowed[form]).all():
                    return bases[k], *_FORMS[form]
        return None

    def _followed(self, step: Step, operation: str) -> tuple[list[int], list[bool]]:
        """Return from which steps a step can be followed, and whether branches join on the way."""
        given = [self._curves[s] for s in step.sources if s in self._curves]
        if not given or len(given) < len(step.sources) or not _is_followed(step, operation):
            return [], []
        first, *others = given
        bases = [b for b in first.bases[:_MOST_CURVES] if b in self._curves]
        if not others:
            return bases, first.joined[: len(bases)]
        bases = [b for b in bases if all(b in other.bases for other in others)]
        return bases, [True] * len(bases)

    def _compute(self, steps: Sequence[Step]) -> None:
        """Compute the curves of the steps that wait, as far as they are still kept."""
        for l in filter(self._curves.__contains__, self._waiting):
            curves = self._curves[l]
            bases = [b for b in curves.bases[1:] if b in self._curves]
            del curves.bases[len(bases) + 1 :], curves.joined[len(bases) + 1 :]
            curves.rows = _POINTS[None]
            if bases:
                given = [self._curves[source] for source in steps[l].sources]
                values = [c.rows[[c.bases.index(b) for b in bases]] for c in given]
                rows = _applied(steps[l], _operation(steps[l]), values)
                curves.rows = np.concatenate([curves.rows, rows])
        self._waiting = []


def _operation(step: Step) -> str:
    """Return what a step does with every entry by itself: "" if it is not that."""
    if step.layer is not None:
        return _LAYERS.get(type(step.layer), "")
    if step.W is not None:
        return "scale" if step.W.ndim == 1 else ""
    return step.sigma.name if step.sources and isinstance(step.sigma, Activation) else ""


def _is_followed(step: Step, operation: str) -> bool:
    """Tell whether a step does the same to every entry."""
    if step.W is None or step.b is None or not operation:
        # other functions may be bent where there is no point
        return operation in _FUNCTIONS or operation in _LAYERS.values()
    # a single number that is spread takes no memory, until it is compared
    return all(part.strides == (0,) or (part == part[0]).all() for part in (step.W, step.b))


def _applied(step: Step, operation: str, values: list[Array]) -> Array:
    """Apply a step to curves."""
    if step.W is not None and step.b is not None:
        return values[0] * float(step.W[0]) + float(step.b[0])
    if operation in ("add", "multiply"):
        joined: Array = (np.add if operation == "add" else np.multiply).reduce(values)
        return joined
    return values[0] if operation == "reshape" else np.asarray(step.sigma(values[0]))
