"""Activations that are written out, recognised by what they compute.

Between a value x and a step that depends on x entry by entry stand sums, products and elementary
functions: ``x * sigmoid(x)`` and ``x / (1 + exp(-x))`` are both silu.  The function that they
compute is evaluated at some points, and a step that gives the values of a known activation there,
to the last digits, becomes that activation of x.  Two formulas of so few steps that agree at all of
these points are the same; what does not agree is computed as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation, activation
from jacobians.importers._folding import Step
from jacobians.layers import Add, Multiply, Reshape

# At 22 softplus is not x in float64, but it is in float32, where frameworks write it so from 20 on.
_POINTS = np.array(
    [-60, -22, -7, -3.7, -2.1, -1.3, -0.6, -0.2, 0.1, 0.45, 0.9, 1.7, 2.6, 3.9, 22, 60]
)
_KNOWN = "square sigmoid softplus softsign silu mish gelu gelu_tanh gaussian"
_ELEMENTARY = "exp log erf tanh relu abs reciprocal sign power"
_FUNCTIONS = {*_KNOWN.split(), *_ELEMENTARY.split()}
# name and sign of the activation and of its argument; log(sigmoid(x)) is -softplus(-x)
_FORMS = [*((name, 1.0) for name in _KNOWN.split()), ("softplus", -1.0)]
_EXPECTED = [sign * activation(name)(sign * _POINTS) for name, sign in _FORMS]
_MOST_STEPS = 16
_LAYERS = {Add: "add", Multiply: "multiply", Reshape: "reshape"}


def recognised(steps: Sequence[Step], single: bool) -> tuple[int, str, float] | None:
    """Tell of which step the last one is a known activation, which one, and with what sign.

    Parameters
    ----------
    steps : sequence of Step
    single : bool
        Whether the model computes in float32, so that its constants are rounded to that.
    """
    last = _operation(steps[-1])
    if last not in ("multiply", "add", "scale", "log", "exp", "reciprocal"):
        return None
    tolerance = 4 * float(np.finfo(np.float32).eps) if single else 1e-14
    for base, inner in _bases(steps):
        joins = {"multiply", "add"} & {_operation(steps[one]) for one in inner}
        if last == "scale" and not joins:
            continue  # what is recognised already, with a sign before and behind
        with np.errstate(all="ignore"):
            found = _values(steps, base, inner)
        if found is None:
            continue
        for form, expected in zip(_FORMS, _EXPECTED, strict=True):
            if (abs(found - expected) <= tolerance * (1 + abs(expected))).all():
                return base, *form
    return None


def _operation(step: Step) -> str:
    """Return what a step does with every entry by itself: "" if it is not that."""
    if step.layer is not None:
        return _LAYERS.get(type(step.layer), "")
    if step.W is not None:
        return "scale" if step.W.ndim == 1 else ""
    return step.sigma.name if step.sources and isinstance(step.sigma, Activation) else ""


def _bases(steps: Sequence[Step]) -> Iterator[tuple[int, list[int]]]:
    """Yield the steps through which everything goes that the last depends on, the nearest first."""
    base = len(steps) - 1
    waiting: list[int] = []  # a heap, the last step first
    inner, met = [base], {base}
    while True:
        for source in steps[base].sources:
            if source not in met:
                met.add(source)
                heappush(waiting, -source)
        base = -heappop(waiting)
        if not waiting:
            yield base, inner
        if not _operation(steps[base]) or len(inner) == _MOST_STEPS:
            return
        inner.append(base)


def _values(steps: Sequence[Step], base: int, inner: list[int]) -> Array | None:
    """Return what the last step gives where the base gives the points, if it is one function."""
    values = {base: _POINTS}
    for one in reversed(inner):
        step, sources = steps[one], [values[source] for source in steps[one].sources]
        operation = _operation(step)
        if step.W is not None and step.b is not None:
            if (step.W[0] != step.W).any() or (step.b != step.b[0]).any():
                return None  # another number for every entry
            values[one] = sources[0] * float(step.W[0]) + float(step.b[0])
        elif operation in ("add", "multiply"):
            join = np.add if operation == "add" else np.multiply
            values[one] = join.reduce(sources)
        elif operation == "reshape":
            values[one] = sources[0]
        elif operation in _FUNCTIONS:  # others may be bent where there is no point
            values[one] = np.asarray(step.sigma(sources[0]))
        else:
            return None
    return values[inner[0]]
