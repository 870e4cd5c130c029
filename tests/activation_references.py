"""The activations and their derivatives at high precision, and the inputs that are hard for them.

The formulas are the textbook's, in mpmath at ``PRECISION`` bits: enough that their cancellation,
which is what the library's own formulas avoid, leaves the result right to far more than a double.
At a kink each derivative is the one on the left.
"""

from functools import cache
from itertools import product

import mpmath as mp
import numpy as np

PRECISION = 320  # a double next to a zero r lies 2^-110 from it at the closest
GOALS = {"sigma": 3, "sigma'": 6, "sigma''": 12}  # ulps


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def sigmoid_1(z):
    return 1 / (2 * mp.cosh(z / 2)) ** 2


def sigmoid_2(z):
    return -mp.tanh(z / 2) * sigmoid_1(z)


def sigmoid_3(z):
    return sigmoid_1(z) * (mp.tanh(z / 2) ** 2 - 2 * sigmoid_1(z))


def tanh_1(z):
    return mp.sech(z) ** 2


def tanh_2(z):
    return -2 * mp.tanh(z) * tanh_1(z)


def normal(z):
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)


def gated(gate, gate_1, gate_2):
    """Return z g(z) and its derivatives."""
    return (
        lambda z: z * gate(z),
        lambda z: gate(z) + z * gate_1(z),
        lambda z: 2 * gate_1(z) + z * gate_2(z),
    )


def _mish_gates():
    def softplus(z):
        return mp.log1p(mp.exp(z))

    return (
        lambda z: mp.tanh(softplus(z)),
        lambda z: tanh_1(softplus(z)) * sigmoid(z),
        lambda z: tanh_2(softplus(z)) * sigmoid(z) ** 2 + tanh_1(softplus(z)) * sigmoid_1(z),
    )


def _gelu_tanh_gates():
    # (1 + tanh(w)) / 2 = sigmoid(2 w)
    def v(z):
        return 2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3)

    def v_1(z):
        return 2 * mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * z**2)

    def v_2(z):
        return 2 * mp.sqrt(2 / mp.pi) * 6 * mp.mpf("0.044715") * z

    return (
        lambda z: sigmoid(v(z)),
        lambda z: sigmoid_1(v(z)) * v_1(z),
        lambda z: sigmoid_2(v(z)) * v_1(z) ** 2 + sigmoid_1(v(z)) * v_2(z),
    )


def pieces(below, above, kink=0):
    """Return the triple that is ``below`` up to and including the kink and ``above`` after it."""
    return tuple(
        (lambda z, low=low, high=high: low(z) if z <= kink else high(z))
        for low, high in zip(below, above, strict=True)
    )


def line(slope, intercept=0):
    return (lambda z: slope * z + intercept, lambda z: mp.mpf(slope), lambda z: mp.mpf(0))


def exponential(scale, width):
    """Return ``scale (exp(z / width) - 1)`` and its derivatives."""
    return (
        lambda z: scale * mp.expm1(z / width),
        lambda z: scale / width * mp.exp(z / width),
        lambda z: scale / width**2 * mp.exp(z / width),
    )


def leaky_relu(slope):
    return pieces(line(slope), line(1))


def elu(alpha):
    return pieces(exponential(alpha, 1), line(1))


def celu(alpha):
    return pieces(exponential(alpha, alpha), line(1))


def hard_sigmoid(low, high):
    ramp = line(1 / (high - low), -low / (high - low))
    return pieces(pieces(line(0), ramp, low), line(0, 1), _before(high))


def hard_tanh(low, high):
    return pieces(pieces(line(0, low), line(1), low), line(0, high), _before(high))
