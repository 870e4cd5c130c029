"""The formulas of powers, roots, logarithms and steps: sigma, sigma' and sigma''.

They come from files of others, where branches are divided, squared and compared.  Some are not
defined everywhere: outside they give NaN or infinity, which is reported by whoever asked.
Quotients are taken one after the other, since a square may leave the range and the result not.
"""

from __future__ import annotations

import numpy as np

from jacobians._checks import Array
from jacobians._sigma import cos, gaussian, gaussian_prime, in_double

_quiet = np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")


def absolute(z: Array) -> Array:
    return np.abs(z)


def absolute_prime(z: Array) -> Array:
    return np.where(z > 0, z.dtype.type(1), z.dtype.type(-1))  # at the kink the slope on the left


@_quiet
def reciprocal(z: Array) -> Array:
    return 1 / z


@_quiet
def reciprocal_prime(z: Array) -> Array:
    return -1 / z / z


@_quiet
def reciprocal_second(z: Array) -> Array:
    return 2 / z / z / z


@_quiet
def sqrt(z: Array) -> Array:
    return np.sqrt(z)


@_quiet
def sqrt_prime(z: Array) -> Array:
    return 0.5 / np.sqrt(z)


@_quiet
def sqrt_second(z: Array) -> Array:
    return -0.25 / np.sqrt(z) / z


@_quiet
@in_double
def log(z: Array) -> Array:
    return np.log(z)


@_quiet
def log_second(z: Array) -> Array:
    return -1 / z / z


@_quiet
@in_double
def power(z: Array, exponent: float) -> Array:
    return np.power(z, exponent)


@_quiet
@in_double
def power_prime(z: Array, exponent: float) -> Array:
    return _monomial(exponent, z, exponent - 1)


@_quiet
@in_double
def power_second(z: Array, exponent: float) -> Array:
    return _monomial(exponent * (exponent - 1), z, exponent - 2)


def _monomial(factor: float, z: Array, exponent: float) -> Array:
    return factor * np.power(z, exponent) if factor else np.zeros_like(z)


@in_double
def erf(z: Array) -> Array:
    from scipy.special import erf as error_function

    return error_function(z)  # type: ignore[no-any-return]


@in_double
def erf_prime(z: Array) -> Array:
    return np.asarray(2 / np.sqrt(np.pi) * gaussian(z))


@in_double
def erf_second(z: Array) -> Array:
    return np.asarray(2 / np.sqrt(np.pi) * gaussian_prime(z))


def minus_cos(z: Array) -> Array:
    return -cos(z)


def sign(z: Array) -> Array:
    return np.sign(z)


def floor(z: Array) -> Array:
    return np.floor(z)
