"""Values of activations and their slopes, with what their arguments and formulas may move them.

Another right formula of a slope (``1 - a²`` for tanh) loses the digits that ours keeps, so a
smooth function may be off by some roundings of 1, not only of its value.  Where a function is a
straight line nothing is lost.  At a kink the slope is a choice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation, AnyActivation
from jacobians.derivation.terms import Function, Rounding, Value
from jacobians.linearization import activation_map

_FORMULA = 8  # roundings of 1 by which right formulas of one smooth function may differ


def _moved(f: Callable[[Any], Array], x: Any, error: Any) -> Array:
    """Return how far ``f`` goes when its argument is off by its error, to either side."""
    here, ends = f(x), (f(x + side * error) for side in (-1, 1))
    moved: Array = np.maximum(*(np.abs(end - here) for end in ends))
    return moved


def _over(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Let a function of rows take columns."""
    return lambda column: f(column[..., 0])[..., None]


def sigma(activation: AnyActivation) -> Function:
    """Return the activation as a function of a column ``z``."""
    name = "σ" if isinstance(activation, Activation) else str(activation)
    return Function(name, partial(_sigma, activation))


def _sigma(activation: AnyActivation, z: Value, rounding: Rounding) -> Value:
    f = _over(activation)
    a = f(z.number)
    if isinstance(activation, Activation):
        with np.errstate(over="ignore", invalid="ignore"):
            moved = _moved(f, *z)
    else:  # entries move together: to first order by |D| times what z may move
        moved = np.abs(_written_out(activation, z.number)) @ z.error
    size = np.abs(a) + _is_curved(activation, z.number)
    return Value(a, moved + _FORMULA * rounding.unit * size + rounding.tiny)


def slope(activation: Activation, at_kinks: float | None = None) -> Function:
    """Return ``sigma'`` as a function of a column ``z``.

    At a kink it is the activation's own choice, or ``at_kinks`` of the way from the least slope
    beside it to the largest.
    """
    return Function("σ'", partial(_slope, activation, at_kinks))


def _slope(activation: Activation, at_kinks: float | None, z: Value, rounding: Rounding) -> Value:
    s = activation.derivative(z.number)
    if at_kinks is not None:
        least, largest = slopes_beside(activation, z.number, 0.0)
        s = (1 - at_kinks) * least + at_kinks * largest
    least, largest = slopes_beside(activation, *z)
    with np.errstate(over="ignore", invalid="ignore"):  # at a kink it is a choice, not an error
        error = np.where(least < largest, 0, _moved(activation.derivative, *z))
    size = np.abs(s) + _is_curved(activation, z.number)
    return Value(s, error + _FORMULA * rounding.unit * size + rounding.tiny)


def slopes_beside(activation: Activation, z: Array, error: Any) -> tuple[Array, Array]:
    """Return the least and the largest slope beside a kink within the error, elsewhere sigma'."""
    near = sum((np.abs(z - kink) <= error for kink in activation.kinks), np.zeros(z.shape, int))
    least_step = 1e-300 + 4 * np.finfo(z.dtype).eps * np.abs(z)
    step = np.where(near > 0, np.maximum(error, least_step), 0)
    with np.errstate(over="ignore", invalid="ignore"):
        left, right = (activation.derivative(end) for end in (z - step, z + step))
    return np.minimum(left, right), np.maximum(left, right)


def _is_curved(activation: AnyActivation, z: Array) -> Any:
    if not isinstance(activation, Activation) or activation.sigma_second is None:
        return 1.0
    return (activation.second_derivative(z) != 0).astype(float)


def jacobian_of(activation: AnyActivation) -> Function:
    """Return ``D = da/dz`` written out, for activations that act on the whole vector."""
    return Function(f"∂{activation}/∂z", partial(_jacobian_of, activation))


def _jacobian_of(activation: AnyActivation, z: Value, rounding: Rounding) -> Value:
    D = _written_out(activation, z.number)
    n = D.shape[-1]
    # softmax and log_softmax: an entry of D moves by at most 2 max|dz| of itself
    moved = np.expm1(np.minimum(4 * z.error.max(axis=-2, keepdims=True), 50)) * np.abs(D)
    return Value(D, moved + (n + _FORMULA) * rounding.unit * (np.abs(D) + 1))


def _written_out(activation: AnyActivation, z: Array) -> Array:
    D = activation_map(activation, z[..., 0]).to_dense()
    return np.broadcast_to(D, (*z.shape[:-2], *D.shape[-2:]))


def cotangent(formula: Callable[..., Array], by: str) -> Function:
    """Return ``∂C/∂a`` or ``∂C/∂z`` of a loss that has no formula here, a function of it and y."""
    return Function(f"∂C/∂{by}", partial(_cotangent, formula))


def _cotangent(formula: Callable[..., Array], a: Value, y: Value, rounding: Rounding) -> Value:
    f = _over(lambda row: formula(row, y.number[..., 0]))
    c, ends = f(a.number), []
    for side in (-1, 1):
        with suppress(ValueError):  # beyond the end of its domain
            ends.append(np.abs(f(a.number + side * a.error) - c))
    moved = np.max(ends, axis=0) if ends else np.full_like(c, np.inf)
    total = moved.sum(axis=-2, keepdims=True) + 0 * moved  # an entry may depend on all of them
    return Value(c, 2 * total + 16 * rounding.unit * (np.abs(c) + 1))


def layer_value(layer: Any, *arguments: Any) -> Value:
    """Evaluate a layer; its own error is not known, so its values may be off by some roundings."""
    *reads, rounding = arguments
    z = layer.preactivation(*(x.number[..., 0] for x in reads))[..., None]

    def at(side: int) -> Array:
        ends = (x.number[..., 0] + side * x.error[..., 0] for x in reads)
        return np.asarray(layer.preactivation(*ends)[..., None])

    moved = max(float(x.error.max(initial=0)) for x in reads)
    size = max(float(np.abs(x.number).max(initial=0)) for x in reads) + np.abs(z)
    n = max(x.number.shape[-2] for x in reads)
    error = 2 * n * _moved(at, 0, 1) + moved + (n + 8) * rounding.unit * size
    return Value(z, error)
