"""The self-gated activations: silu, mish and the two forms of gelu.

Each is z times a gate that rises from 0 to 1, so ``sigma' = gate + z gate'`` and
``sigma'' = 2 gate' + z gate''``.  They are evaluated in float64 and rounded once.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._sigma import (
    bounded,
    decay,
    exp_minus_square,
    in_double,
    sigmoid,
    sigmoid_prime,
    sigmoid_second,
)


@in_double
def silu(z: Array) -> Array:
    return z * sigmoid(z)


@in_double
def silu_prime(z: Array) -> Array:
    e = decay(z)
    return np.where(z > 0, 1 + e + z * e, e * (1 + e + z)) / (1 + e) ** 2


@in_double
def silu_second(z: Array) -> Array:
    return 2 * sigmoid_prime(z) + z * sigmoid_second(z)


# mish is z tanh(softplus(z)) = z N / (N + 2) with N = e^z (e^z + 2).  Above zero, numerators and
# denominators are divided by e^2z, so that only the decaying exponential appears.


@in_double
def mish(z: Array) -> Array:
    return z * _mish_gate(z)


@in_double
def mish_prime(z: Array) -> Array:
    return _mish_gate(z) + z * _mish_gate_prime(z)


@in_double
def mish_second(z: Array) -> Array:
    e, denominator = decay(z), _mish_denominator(z)
    bracket = np.where(
        z > 0,
        e * e * ((2 + e) * denominator - 4 * (1 + e) ** 2),
        e * ((1 + 2 * e) * denominator - 4 * e * (1 + e) ** 2),
    )
    return 2 * _mish_gate_prime(z) + z * 4 * bracket / denominator**3


def _mish_denominator(z: Array) -> Array:
    e = decay(z)
    return np.where(z > 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e))


def _mish_gate(z: Array) -> Array:
    e = decay(z)
    return np.where(z > 0, 1 + 2 * e, e * (2 + e)) / _mish_denominator(z)


def _mish_gate_prime(z: Array) -> Array:
    e = decay(z)
    return 4 * np.where(z > 0, e * e, e) * (1 + e) / _mish_denominator(z) ** 2


# gelu is z Phi(z).  Below zero Phi(z) = erfcx(-z/√2) exp(-z²/2) / 2, where erfcx varies slowly;
# erfc itself would turn the rounding of its argument into hundreds of ulps.


@in_double
def gelu(z: Array) -> Array:
    return z * _normal_below(z)


@in_double
def gelu_prime(z: Array) -> Array:
    return _normal_below(z) + z * _normal_density(z)


@in_double
def gelu_second(z: Array) -> Array:
    result: Array = _normal_density(z) * (sqrt(2) - bounded(z)) * (sqrt(2) + bounded(z))
    return result


def _normal_below(z: Array) -> Array:
    from scipy.special import erfc, erfcx  # heavy to load, so only where they are used

    t = np.minimum(np.abs(z), 1e3) / sqrt(2)
    tail = 0.5 * np.where(t < 1, erfc(t), erfcx(t) * exp_minus_square(z, 0.5))
    result: Array = np.where(z > 0, 1 - tail, tail)
    return result


def _normal_density(z: Array) -> Array:
    density: Array = exp_minus_square(z, 0.5) / sqrt(2 * pi)
    return density


# gelu_tanh is z sigmoid(v) with v = c z + k z³: the exponent is carried in two doubles, because
# exp turns an absolute error of v into a relative one.

_C, _C_LOW = 1.5957691216057308, -9.96930880911092e-17  # 2 sqrt(2/pi)
_K, _K_LOW = 0.07135481627260025, -6.175149918155315e-19  # 2 sqrt(2/pi) 0.044715


@in_double
def gelu_tanh(z: Array) -> Array:
    e = _gelu_tanh_decay(z)
    return z * np.where(z >= 0, 1, e) / (1 + e)


@in_double
def gelu_tanh_prime(z: Array) -> Array:
    e = _gelu_tanh_decay(z)
    zv = bounded(z) * (_C + 3 * _K * bounded(z) ** 2)  # z v'
    return np.where(z > 0, 1 + e + zv * e, e * (1 + e + zv)) / (1 + e) ** 2


@in_double
def gelu_tanh_second(z: Array) -> Array:
    e, x = _gelu_tanh_decay(z), bounded(z)
    slope, curvature = _C + 3 * _K * x * x, 6 * _K * x
    bend = np.sign(x) * (e - 1) / (1 + e)  # 1 - 2 sigmoid(v)
    return e / (1 + e) ** 2 * (2 * slope + x * (curvature + slope * slope * bend))


def _gelu_tanh_decay(z: Array) -> Array:
    """Return ``exp(-|v|)``, the exponent in double-double arithmetic."""
    x = np.abs(bounded(z))
    square, square_low = _two_product(x, x)
    cubic, cubic_low = _two_product(square, _K)
    cubic_low += square_low * _K + square * _K_LOW
    factor = cubic + _C  # two-sum, the larger first: c > k z² does not hold for every z
    shift = factor - cubic
    factor_low = (cubic - (factor - shift)) + (_C - shift) + cubic_low + _C_LOW
    v, v_low = _two_product(x, factor)
    return np.exp(-v) * np.exp(-(v_low + x * factor_low))


def _two_product(a: Array, b: Array | float) -> tuple[Array, Array]:
    """Return ``a b`` as a rounded product and its exact error (Dekker, with Veltkamp's split)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(a: Any) -> tuple[Any, Any]:
    scaled = a * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - a)
    return high, a - high
