"""The formulas of the activations: sigma, sigma' and sigma'', accurate at every finite input.

The textbook forms of a derivative lose everything where the function saturates: ``1 - tanh(z)²``
is 0 from z = 19 on, and every method that shares it agrees on the wrong number.  So each derivative
here is a function of the preactivation, written with the one small quantity ``e = exp(-|z|)`` (or
its square), which never overflows and keeps its relative accuracy down to the smallest number.

Three functions stand together for each activation; the parameters of a family are keywords.
Kinks, names and defaults are in ``activations``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import sqrt

import numpy as np

from jacobians._checks import Array


def in_double(formula: Callable[..., Array]) -> Callable[..., Array]:
    """Evaluate in float64 and round once: for formulas whose own rounding would show in float32."""

    @wraps(formula)
    def rounded(z: Array, **parameters: float) -> Array:
        return formula(np.asarray(z, dtype=np.float64), **parameters).astype(z.dtype)

    return rounded


def decay(z: Array) -> Array:
    return np.exp(-np.abs(z))


# --- piecewise linear: at a kink the slope is the left one, 0 for those that saturate ------------


def identity(z: Array) -> Array:
    return z.copy()


def one(z: Array) -> Array:
    return np.ones_like(z)


def zero(z: Array, **_: float) -> Array:
    return np.zeros_like(z)


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def relu_prime(z: Array) -> Array:
    return (z > 0).astype(z.dtype)


def leaky_relu(z: Array, slope: float) -> Array:
    return np.where(z > 0, z, z * slope)


def leaky_relu_prime(z: Array, slope: float) -> Array:
    return np.where(z > 0, 1, slope).astype(z.dtype)


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
    return (np.clip(z, low, high) - low) / (high - low)


def ramp_prime(z: Array, low: float, high: float) -> Array:
    return clip_prime(z, low, high) / (high - low)


# --- exponential below zero, linear above --------------------------------------------------------


def elu(z: Array, alpha: float) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def elu_prime(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0))).astype(z.dtype)


def elu_second(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 0, alpha * np.exp(np.minimum(z, 0))).astype(z.dtype)


# selu is elu with the two constants that keep mean 0 and variance 1 (Klambauer et al., 2017)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def selu(z: Array) -> Array:
    return _SELU_SCALE * elu(z, _SELU_ALPHA)


def selu_prime(z: Array) -> Array:
    return _SELU_SCALE * elu_prime(z, _SELU_ALPHA)


def selu_second(z: Array) -> Array:
    return _SELU_SCALE * elu_second(z, _SELU_ALPHA)


def celu(z: Array, alpha: float) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0) / alpha))


def celu_prime(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1, np.exp(np.minimum(z, 0) / alpha)).astype(z.dtype)


def celu_second(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 0, np.exp(np.minimum(z, 0) / alpha) / alpha).astype(z.dtype)


# --- the logistic family, in e = exp(-|z|) -------------------------------------------------------


def sigmoid(z: Array) -> Array:
    e = decay(z)
    return np.where(z >= 0, 1, e) / (1 + e)


def sigmoid_prime(z: Array) -> Array:
    e = decay(z)
    return e / (1 + e) ** 2


def sigmoid_second(z: Array) -> Array:
    e = decay(z)
    return np.sign(z) * np.expm1(-np.abs(z)) * e / (1 + e) ** 3  # -tanh(z/2) sigma'


def tanh(z: Array) -> Array:
    return np.tanh(z)


def tanh_prime(z: Array) -> Array:
    e = np.exp(-2 * np.minimum(np.abs(z), 1e3))  # e^-2000 is 0 in every dtype; 2|z| may overflow
    slope: Array = 4 * e / (1 + e) ** 2
    return slope


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
    return -2 * np.sign(z) * r * r * r


# --- others --------------------------------------------------------------------------------------


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
    return exp_minus_square(z, 1.0)


@in_double
def gaussian_prime(z: Array) -> Array:
    return -2 * z * exp_minus_square(z, 1.0)


@in_double
def gaussian_second(z: Array) -> Array:
    root = sqrt(0.5)
    return 4 * (bounded(z) - root) * (bounded(z) + root) * exp_minus_square(z, 1.0)


def exp_minus_square(z: Array, factor: float) -> Array:
    """Return ``exp(-factor z²)``: z has a head with an exact square, and a rest that is small."""
    x = bounded(z)
    head = np.round(x * 65536) / 65536
    return np.exp(-factor * head * head) * np.exp(-factor * (x - head) * (x + head))


def bounded(z: Array) -> Array:
    return np.clip(z, -40, 40)  # beyond, every decaying factor is 0 and only overflow is left


def square(z: Array) -> Array:
    return z * z


def square_prime(z: Array) -> Array:
    return 2 * z


def square_second(z: Array) -> Array:
    return np.full_like(z, 2)
