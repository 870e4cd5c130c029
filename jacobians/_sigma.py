"""The formulas of the activations: sigma, sigma' and sigma'', accurate at every finite input.

The textbook forms of a derivative lose everything where the function saturates: ``1 - tanh(z)²``
is 0 from z = 19 on, and every method that shares it agrees on the wrong number.  So each derivative
here is a function of the preactivation, written with the one small quantity ``e = exp(-|z|)`` (or
its square), which never overflows and keeps its relative accuracy down to the smallest number.

Three functions stand together for each activation; the parameters of a family are keywords.
Kinks, names, defaults and the accuracy that is promised are in ``activations``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from math import frexp, ldexp
from typing import Any

import numpy as np

from jacobians._checks import Array


def in_double(formula: Callable[..., Array]) -> Callable[..., Array]:
    """Evaluate in float64 and round once: for formulas whose own rounding would show in float32."""

    @wraps(formula)
    def rounded(z: Array, **parameters: float) -> Array:
        return formula(z.astype(np.float64, copy=False), **parameters).astype(z.dtype, copy=False)

    return rounded


@cache
def number(value: float, dtype: np.dtype[Any]) -> Array:
    """Return a number as an array: NumPy takes longer to convert one than to add it."""
    return np.full((), value, dtype)


def decay(z: Array) -> Array:
    return np.exp(-np.abs(z))


# --- piecewise linear -----------------------------------------------------------------------------


def identity(z: Array) -> Array:
    return z.copy()


def one(z: Array) -> Array:
    return np.ones_like(z)


def zero(z: Array, **_: float) -> Array:
    return np.zeros_like(z)


# The formulas of the commonest activations can also write into given memory: ``out``, which for
# sigma may be z itself.


def relu(z: Array, out: Array | None = None) -> Array:
    return np.maximum(z, number(0, z.dtype), out=out)


def relu_prime(z: Array, out: Array | None = None) -> Array:
    out = np.empty_like(z) if out is None else out
    return np.greater(z, number(0, z.dtype), out=out, casting="unsafe")


def leaky_relu(z: Array, slope: float) -> Array:
    return np.maximum(z, 0) + slope * np.minimum(z, 0)


def leaky_relu_prime(z: Array, slope: float) -> Array:
    return np.where(z > 0, z.dtype.type(1), z.dtype.type(slope))


def clip(z: Array, low: float, high: float) -> Array:
    return np.clip(z, low, high)


def clip_prime(z: Array, low: float, high: float) -> Array:
    return ((z > low) & (z < high)).astype(z.dtype)


def relu6(z: Array) -> Array:
    return clip(z, 0, 6)


def relu6_prime(z: Array) -> Array:
    return clip_prime(z, 0, 6)


def ramp(z: Array, low: float, high: float) -> Array:
    # (z - low) is exact near low, where the textbook's z/6 + 1/2 cancels.
    start, end = _ends(z.dtype.type, low, high)
    share: Array = (np.clip(z, start, end) - start) / (end - start)
    return share


def ramp_prime(z: Array, low: float, high: float) -> Array:
    start, end = _ends(z.dtype.type, low, high)
    slope: Array = clip_prime(z, low, high) / (end - start)
    return slope


def _ends(dtype: Any, low: float, high: float) -> tuple[Any, Any]:
    """Round the ends of a ramp; two that fall on one number are a step apart."""
    start = dtype(low)
    return start, max(dtype(high), np.nextafter(start, dtype(np.inf)))


# --- exponential below zero, linear above ---------------------------------------------------------


def elu(z: Array, alpha: float) -> Array:
    return np.maximum(z, 0) + alpha * np.expm1(np.minimum(z, 0))


def elu_prime(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0))).astype(z.dtype, copy=False)


def elu_second(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 0, alpha * np.exp(np.minimum(z, 0))).astype(z.dtype, copy=False)


# selu is elu with the two constants that keep mean 0 and variance 1 (Klambauer et al., 2017)
_SELU_SCALE, _SELU_SLOPE = 1.0507009873554805, 1.7580993408473768  # scale, scale times alpha


def selu(z: Array) -> Array:
    return _SELU_SCALE * np.maximum(z, 0) + _SELU_SLOPE * np.expm1(np.minimum(z, 0))


def selu_prime(z: Array) -> Array:
    below = _SELU_SLOPE * np.exp(np.minimum(z, 0))
    return np.where(z > 0, _SELU_SCALE, below).astype(z.dtype, copy=False)


def selu_second(z: Array) -> Array:
    return elu_second(z, _SELU_SLOPE)


# celu divides z by alpha, and exp would turn the rounding of the quotient into 400 ulps.


@in_double
def celu(z: Array, alpha: float) -> Array:
    return np.maximum(z, 0) + alpha * np.expm1(np.minimum(z, 0) / alpha)


@in_double
def celu_prime(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1, times_exp_quotient(1, z, alpha))


@in_double
def celu_second(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 0, times_exp_quotient(1 / alpha, z, alpha))


# --- the logistic family, in e = exp(-|z|) --------------------------------------------------------
#
# The two slopes that people use most are written with cosh, in half as many passes over memory:
# sigmoid' = 1 / (2 (1 + cosh z)), tanh' = 2 / (1 + cosh 2z).  Where cosh is out of range they come
# out as 0, and as e or 4 e² once more.


def all_nonzero(slopes: Array) -> bool:
    few = slopes.size < 1024  # counting takes one short call, and is slow on many
    return bool(np.count_nonzero(slopes) == slopes.size if few else slopes.min() != 0)


def with_tail(slopes: Array, factor: int, z: Array) -> Array:
    far = slopes == 0
    slopes[far] = factor * factor * np.exp(-factor * np.abs(z[far]))
    return slopes


def sigmoid(z: Array) -> Array:
    e = decay(z)
    return np.maximum(z >= 0, e) / (1 + e)


def sigmoid_prime(z: Array, out: Array | None = None) -> Array:
    out = np.empty_like(z) if out is None else out
    np.cosh(z, out=out)
    np.add(out, number(1, z.dtype), out=out)
    np.divide(number(0.5, z.dtype), out, out=out)
    return out if all_nonzero(out) else with_tail(out, 1, z)


def sigmoid_second(z: Array) -> Array:
    e = decay(z)
    return np.sign(z) * np.expm1(-np.abs(z)) * e / (1 + e) ** 3  # -tanh(z/2) sigma'


def tanh(z: Array, out: Array | None = None) -> Array:
    return np.tanh(z, out=out)


def tanh_prime(z: Array, out: Array | None = None) -> Array:
    out = np.empty_like(z) if out is None else out
    np.add(z, z, out=out)
    np.cosh(out, out=out)
    np.add(out, number(1, z.dtype), out=out)
    np.divide(number(2, z.dtype), out, out=out)
    return out if all_nonzero(out) else with_tail(out, 2, z)


def tanh_second(z: Array) -> Array:
    return -2 * np.tanh(z) * tanh_prime(z)


def softplus(z: Array) -> Array:
    result: Array = np.maximum(z, 0) + np.log1p(decay(z))
    return result


def softsign(z: Array) -> Array:
    result: Array = z / (1 + np.abs(z))
    return result


def softsign_prime(z: Array) -> Array:
    r = 1 / (1 + np.abs(z))
    return r * r  # not 1 / (1 + |z|)², which overflows below


def softsign_second(z: Array) -> Array:
    r = 1 / (1 + np.abs(z))
    return np.copysign(2 * r * r * r, 0 - z)  # 0 - z and not -z: at the kink the left one, 2


# --- others ---------------------------------------------------------------------------------------


def exp(z: Array) -> Array:
    return np.exp(z)


def sin(z: Array) -> Array:
    return np.sin(z)


def cos(z: Array) -> Array:
    return np.cos(z)


def minus_sin(z: Array) -> Array:
    return -np.sin(z)


@in_double
def gaussian(z: Array) -> Array:
    return times_exp_minus_square(1, z, 1)


@in_double
def gaussian_prime(z: Array) -> Array:
    return times_exp_minus_square(-2 * bounded(z), z, 1)


@in_double
def gaussian_second(z: Array) -> Array:
    x, root = np.abs(bounded(z)), (0.7071067811865476, -4.833646656726457e-17)  # sqrt(1/2)
    return times_exp_minus_square(4 * difference(x, root) * (x + root[0]), x, 1)


def square(z: Array) -> Array:
    return z * z


def square_prime(z: Array) -> Array:
    return 2 * z


def square_second(z: Array) -> Array:
    return np.full_like(z, 2)


# --- tools: exponentials to the last place, and differences from a zero ---------------------------
#
# exp turns an absolute error of its exponent into a relative one of the result: 745 with its last
# bit wrong is a result with 400 ulps wrong.  So an exponent v(x) that is not x itself is taken at a
# *head* near x, with so few bits that v(head) is exact, plus the small rest v(x) - v(head).


def head_of(x: Array) -> Array:
    return np.round(64 * x) / 64


def decay_factors(exponent: Array) -> tuple[Array, Array]:
    """Return two factors of ``e^exponent``: the first stays normal, the second is mostly 1.

    Formulas multiply by the second at the end, where a subnormal result is rounded once.
    """
    if exponent.min(initial=0) > -690:
        return np.exp(exponent), np.ones(())
    return np.exp(np.maximum(exponent, -690)), np.exp(np.minimum(exponent + 690, 0))


def times_exp(a: Array | float, head: Array, rest: Array) -> Array:
    """Return ``a e^(head + rest)`` for exponents below 0."""
    near, far = decay_factors(head)
    return a * (near + near * np.expm1(rest)) * far


def times_exp_minus_square(a: Array | float, z: Array, factor: float) -> Array:
    """Return ``a exp(-factor z²)`` for a factor of 1 or 1/2."""
    x = bounded(z)
    head = head_of(x)
    return times_exp(a, -factor * head * head, -factor * (x - head) * (x + head))


def times_exp_quotient(a: float, z: Array, width: float) -> Array:
    """Return ``a exp(z / width)`` for z below 0, and a above."""
    x = np.maximum(np.minimum(z, 0), -2000 * width)
    head = head_of(x / width)
    mantissa, power = frexp(width)
    high = ldexp(round(ldexp(mantissa, 26)), power - 26)  # head * high is exact
    return times_exp(a, head, ((x - head * high) - head * (width - high)) / width)


def bounded(z: Array) -> Array:
    return np.clip(z, -2000, 2000)  # beyond, every decaying factor is 0 and only overflow is left


def difference(z: Array, root: tuple[float, float]) -> Array:
    """Return ``z - root``, to the last place also where they nearly agree; root is in two parts."""
    return (z - root[0]) - root[1]
