"""The self-gated activations: silu, gelu in its two forms, and mish.

Each is ``sigma(z) = z g(z)`` with a gate g that rises from 0 to 1, evaluated in float64 and rounded
once.  For all but mish ``g(z) + g(-z) = 1``; so, with x = -|z|, only the left half is needed:

    sigma(z) = max(z, 0) + x g(x),
    sigma'(z) = sigma'(x) below zero, 1 - sigma'(x) above,    sigma''(z) = sigma''(x).

**Zeros.**  sigma' has a zero r near -1, and sigma'' has one or two.  There the terms of the formula
cancel, and what is left is their rounding, unless the equation at the zero is subtracted first.
For silu, ``sigma' = E (1 + z + E) / (1 + E)²`` with ``E = e^z``, and since ``1 + r + e^r = 0``,

    1 + z + E  =  (z - r) + e^r (e^(z - r) - 1),

a sum of two numbers of one sign; ``z - r`` is exact to its last place when r is carried in two
doubles, and expm1 is made for the rest.  ``from_zero`` does this for every polynomial in z and E.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, pi, sqrt
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._sigma import (
    decay_factors,
    difference,
    head_of,
    in_double,
    times_exp_minus_square,
)


def from_zero(
    P: Sequence[Sequence[float]],
    root: tuple[float, float],
    exponent: Sequence[float] = (0.0, 1.0),
) -> Callable[[Array, Array], Array]:
    """Return ``h(z, E) = Σ_k P_k(z) E^k``, ``E = e^v(z)``, accurate near a zero r of it.

    ``P_k`` and the exponent ``v`` are polynomials, lowest power first; r is a double and its rest.
    Subtracting the value 0 at r, first in E and then in z, leaves with ``R = e^v(r)``

        h(z, E) = Σ_k P_k(z) (E^k - R^k)  +  Σ_k (P_k(z) - P_k(r)) R^k,

    from which ``E - R`` and ``z - r`` are divided out; the quotients are polynomials again.
    """
    r, rows = root[0], np.array(P, dtype=float)
    R = exp(polynomial(exponent, r))
    in_E = [np.trim_zeros(row, "b") for row in _quotient(R * rows, R)]
    in_z = _quotient(polynomial(rows, R), r)
    rate = _quotient(exponent, r)

    def h(z: Array, E: Array) -> Array:
        d = difference(z, root)
        growth = np.expm1(d * polynomial(rate, z))  # E / R - 1
        part_E: Array = growth * polynomial([polynomial(q, z) for q in in_E], E)
        part_z: Array = d * polynomial(in_z, z)
        return part_E + part_z

    return h


def polynomial(coefficients: Any, x: Any) -> Any:
    """Evaluate a polynomial, lowest power first."""
    *lower, value = coefficients
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value


def _quotient(coefficients: Any, r: float) -> list[Any]:
    """Divide ``p(x) - p(r)`` by ``x - r``."""
    quotient = [0.0]
    for coefficient in reversed(coefficients[1:]):
        quotient.append(coefficient + r * quotient[-1])
    return quotient[:0:-1]


def left_half(z: Array) -> tuple[Array, Array, Array]:
    """Return ``x = -|z|`` and the two factors of ``e^x``."""
    x = np.maximum(-np.abs(z), -2000)  # where e^x is 0, and what multiplies it not too large
    return x, *decay_factors(x)


def mirrored(z: Array, left: Array) -> Array:
    """Return ``sigma'(z)``, given ``sigma'(-|z|)``: the same below zero, ``1 - left`` above."""
    result: Array = np.maximum(left, np.sign(z) - left)  # left is at most 1/2
    return result


# --- silu: z sigmoid(z) ---------------------------------------------------------------------------

_silu_first = from_zero([[1, 1], [1, 0]], (-1.2784645427610737, -1.0946994183093437e-16))
_silu_second = from_zero([[2, 1], [2, -1]], (-2.3993572805154675, -1.8464872855353363e-16))


@in_double
def silu(z: Array) -> Array:
    x, e, far = left_half(z)
    return np.maximum(z, 0) + x * e / (1 + e) * far


@in_double
def silu_prime(z: Array) -> Array:
    x, e, far = left_half(z)
    return mirrored(z, e * _silu_first(x, e) / (1 + e) ** 2 * far)


@in_double
def silu_second(z: Array) -> Array:
    x, e, far = left_half(z)
    return e * _silu_second(x, e) / (1 + e) ** 3 * far


# --- gelu: z Phi(z) -------------------------------------------------------------------------------
# For x below 0, by the midpoint rule with step h for the integral of exp(-t²/2) / (x² + t²),
#
#     Phi(x) = L(x) - x T(x) exp(-x²/2),   T = h/π Σ exp(-t²/2) / (x² + t²),   L = sigmoid(2πx/h),
#
# where L is the residue of the pole at t = ix, until the pole is too far to count.  The error is
# exp(-2 (π/h)²) = 1e-18, and no term cancels another.

_STEP = 11 / 16  # the t² are exact, and the weights of the first three are nearly so
_SQUARES = [((n + 0.5) * _STEP) ** 2 for n in range(13)]
_POLE = 2 * pi / _STEP
_SQRT_2 = (1.4142135623730951, -9.667293313452913e-17)
_GELU_ROOT = (-0.7517915246935645, 1.4956759177009883e-17)


@in_double
def gelu(z: Array) -> Array:
    x = np.maximum(-np.abs(z), -40)
    tail = times_exp_minus_square(-x * x * _midpoint_sum(x), x, 1 / 2)
    return np.maximum(z, 0) + (x * _pole_part(x) + tail)


@in_double
def gelu_prime(z: Array) -> Array:
    x = np.maximum(-np.abs(z), -40)
    d = difference(x, _GELU_ROOT)
    near = np.abs(d) < 0.3
    factor = x * (1 / sqrt(2 * pi) - _midpoint_sum(x))
    series = d * polynomial(_GELU_SERIES, np.clip(d, -0.3, 0.3))
    left = times_exp_minus_square(np.where(near, series, factor), x, 1 / 2)
    return mirrored(z, left + np.where(near, 0, _pole_part(x)))


@in_double
def gelu_second(z: Array) -> Array:
    x = np.minimum(np.abs(z), 40)
    factor = difference(x, _SQRT_2) * (x + _SQRT_2[0]) / -sqrt(2 * pi)
    return times_exp_minus_square(factor, x, 1 / 2)


def _midpoint_sum(x: Array) -> Array:
    square, total, term = x * x, np.zeros_like(x), np.empty_like(x)
    for t in reversed(_SQUARES):
        np.add(square, t, out=term)
        np.divide(_STEP / pi * exp(-t / 2), term, out=term)
        total += term
    return total


def _pole_part(x: Array) -> Array:
    e = np.exp(_POLE * x)
    return np.where(x > -_POLE, e / (1 + e), 0)


def _gelu_series(terms: int = 18) -> list[float]:
    """Return the Taylor coefficients at the zero r of ``sigma'(z) exp(z²/2) / (z - r)``.

    ``M = Phi / φ`` solves ``M' = 1 + z M``, and ``sigma' = φ (M + z)``, so ``M(r) = -r``.
    """
    r = _GELU_ROOT[0]
    M = [-r, 1 - r * r]
    for n in range(1, terms):
        M.append((r * M[n] + M[n - 1]) / (n + 1))
    return [m / sqrt(2 * pi) for m in (1 + M[1], *M[2:])]


_GELU_SERIES = _gelu_series()

# --- gelu_tanh: z sigmoid(v), v = c z + k z³ ------------------------------------------------------

_C = 1.5957691216057308  # 2 sqrt(2/pi)
_K = 0.07135481627260025  # 2 sqrt(2/pi) 0.044715
# so few bits that v is exact at every multiple of 1/64 below 32, and what they leave out
_C_HEAD, _K_HEAD = round(_C * 2**37) / 2**37, round(_K * 2**25) / 2**25
_C_REST, _K_REST = (_C - _C_HEAD) - 9.96930880911092e-17, (_K - _K_HEAD) - 6.175149918155315e-19

_gelu_tanh_first = from_zero(  # 1 + z v' + E
    [[1, _C, 0, 3 * _K], [1, 0, 0, 0]],
    (-0.7524614220710163, 3.635560509207687e-17),
    exponent=[0, _C, 0, _K],
)
_gelu_tanh_second = from_zero(  # (2 v' + z v'') (1 + E) + z v'² (1 - E)
    [[2 * _C, s * _C * _C, 12 * _K, s * 6 * _C * _K, 0, s * 9 * _K * _K] for s in (1, -1)],
    (-1.4185040087908283, -8.089265124388305e-17),
    exponent=[0, _C, 0, _K],
)


@in_double
def gelu_tanh(z: Array) -> Array:
    x, e, far = _gelu_tanh_half(z)
    return np.maximum(z, 0) + x * e / (1 + e) * far


@in_double
def gelu_tanh_prime(z: Array) -> Array:
    x, e, far = _gelu_tanh_half(z)
    return mirrored(z, e * _gelu_tanh_first(x, e) / (1 + e) ** 2 * far)


@in_double
def gelu_tanh_second(z: Array) -> Array:
    x, e, far = _gelu_tanh_half(z)
    return e * _gelu_tanh_second(x, e) / (1 + e) ** 3 * far


def _gelu_tanh_half(z: Array) -> tuple[Array, Array, Array]:
    """Return ``x = -|z|`` and the two factors of ``e^v`` there."""
    x = np.maximum(-np.abs(z), -40)  # e^v is 0 from -22 on, and from -32 on v(head) is not exact
    head = head_of(x)
    square = head * head
    rest = (x - head) * (_C + _K * (x * x + x * head + square))
    rest += head * (_C_REST + _K_REST * square)
    near, far = decay_factors(head * (_C_HEAD + _K_HEAD * square))
    return x, near + near * np.expm1(rest), far


# --- mish: z tanh(softplus(z)) --------------------------------------------------------------------
# With E = e^z and D = E² + 2 E + 2 the gate is E (E + 2) / D.  Above zero, numerators and
# denominators are divided by powers of E, so that only the decaying e^-z appears.

_mish_first = from_zero(
    [[4, 4], [6, 4], [4, 0], [1, 0]], (-1.1924312145154952, -4.8484829848031044e-17)
)
_mish_second_left = from_zero(
    [[4, 2], [8, 2], [6, -3], [2, -2]], (-2.256376396360793, -1.0703174875019247e-16)
)
_mish_second_right = from_zero(  # as a function of -z
    [[2, 2], [6, 3], [8, -2], [4, -2]], (-1.4905711794854284, -7.126036715834263e-17)
)


@in_double
def mish(z: Array) -> Array:
    x, e, far = left_half(z)
    # z or x e^x, which are nearly the result far out, and what is left of it
    q, left = e * (1 + e), x * e
    right = z + x * (2 * e * e / (1 + 2 * q))
    return np.where(z > 0, right, (left - left * (q / (2 + e * (2 + e)))) * far)


@in_double
def mish_prime(z: Array) -> Array:
    x, e, far = left_half(z)
    right = 1 + e * (4 + e * (6 + 4 * e) - 4 * x * e * (1 + e))
    D = _mish_denominator(z, e)
    return np.where(z > 0, right / D**2, e * _mish_first(x, e) / D**2 * far)


@in_double
def mish_second(z: Array) -> Array:
    x, e, far = left_half(z)
    bracket = np.where(z > 0, e * _mish_second_right(x, e), far * _mish_second_left(x, e))
    return 4 * e * bracket / _mish_denominator(z, e) ** 3


def _mish_denominator(z: Array, e: Array) -> Array:
    return np.where(z > 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e))
