"""The activations and their derivatives in mpmath, and the inputs that are hard for them.

The formulas are the textbook's, at ``PRECISION`` bits: enough that their cancellation, which the
library's formulas avoid, still leaves far more than a double.  At a kink of sigma the derivative is
0 where one side is flat and the slope on the left elsewhere; at a kink of sigma', sigma'' is the
slope on the left.
"""

from functools import cache

import mpmath as mp
import numpy as np

PRECISION = 224  # a double lies at least 2^-110 from a zero of sigma' or sigma''
GOALS = {"sigma": 3, "sigma'": 6, "sigma''": 12}  # ulps
_GATED = ("silu", "gelu", "gelu_tanh", "mish")
_WIDER = {
    ("sigma", np.float32): (("sigmoid", "softplus", "elu", "selu"), 4),
    ("sigma", np.float64): (_GATED, 5),
    ("sigma'", np.float64): (_GATED, 9),
}
CASES = [
    ("identity", {}),
    ("relu", {}),
    ("relu6", {}),
    ("leaky_relu", {"slope": 0.01}),
    ("leaky_relu", {"slope": -3.0}),
    ("leaky_relu", {"slope": 2.5}),
    ("elu", {"alpha": 1.0}),
    ("elu", {"alpha": 0.3}),
    ("celu", {"alpha": 1.0}),
    ("celu", {"alpha": 0.3}),
    ("celu", {"alpha": 3.7}),
    ("selu", {}),
    ("sigmoid", {}),
    ("hard_sigmoid", {"low": -3.0, "high": 3.0}),
    ("hard_sigmoid", {"low": 0.1, "high": 0.7}),
    ("tanh", {}),
    ("hard_tanh", {"low": -1.0, "high": 1.0}),
    ("hard_tanh", {"low": -0.1, "high": 2.3}),
    ("softplus", {}),
    ("softsign", {}),
    ("gelu", {}),
    ("gelu_tanh", {}),
    ("silu", {}),
    ("mish", {}),
    ("exp", {}),
    ("sin", {}),
    ("gaussian", {}),
    ("square", {}),
    ("cos", {}),
    ("erf", {}),
    ("abs", {}),
    ("sqrt", {}),
    ("log", {}),
    ("reciprocal", {}),
    ("power", {"exponent": 3.0}),
    ("power", {"exponent": -1.5}),
    ("sign", {}),
    ("floor", {}),
]
# where a function is defined, if that is not everywhere
DOMAINS = {
    "sqrt": lambda z: z > 0,
    "log": lambda z: z > 0,
    "reciprocal": lambda z: z != 0,
    "power": lambda z: z > 0,
}


def reference(name, parameters, dtype):
    """Return (sigma, sigma', sigma'') of an mpf; parameters but celu's are rounded to dtype."""
    entry = _REFERENCES[name]
    if isinstance(entry, tuple):
        return entry
    kept = np.float64 if name == "celu" else dtype
    with mp.workprec(PRECISION):
        return entry(**{key: mp.mpf(float(kept(value))) for key, value in parameters.items()})


def goal(role, name, dtype):
    """Return the ulps that ``activations`` promises."""
    names, wider = _WIDER.get((role, dtype), ((), None))
    return wider if name in names else GOALS[role]


# --- pieces of lines and exponentials -------------------------------------------------------------


def _left_and_right(left, right):
    return tuple(
        lambda z, low=low, high=high: low(z) if z <= 0 else high(z)
        for low, high in zip(left, right, strict=True)
    )


def _line(slope):
    return (lambda z: slope * z, lambda z: slope, lambda z: 0)


def _exponential(height, width):
    return (
        lambda z: height * mp.expm1(z / width),
        lambda z: height / width * mp.exp(z / width),
        lambda z: height / width**2 * mp.exp(z / width),
    )


def _clip(low, high, slope=1, shift=0):
    return (
        lambda z: slope * (min(max(z, low), high) - shift),
        lambda z: slope if low < z < high else 0,
        lambda z: 0,
    )


def _selu():
    scale = mp.mpf("1.0507009873554804934193349852946")
    alpha = mp.mpf("1.6732632423543772848170429916717")
    return _left_and_right(_exponential(scale * alpha, 1), _line(scale))


# --- smooth ones ----------------------------------------------------------------------------------


def _logistic(z):
    return 1 / (1 + mp.exp(-z))


def _logistic_1(z):
    return 1 / (2 * mp.cosh(z / 2)) ** 2


def _logistic_2(z):
    return -mp.tanh(z / 2) * _logistic_1(z)


def _softplus(z):
    return mp.log1p(mp.exp(z))


def _tanh_1(z):
    return 1 / mp.cosh(z) ** 2


def _tanh_2(z):
    return -2 * mp.tanh(z) / mp.cosh(z) ** 2


def _normal(z):
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)


def _normal_below(z):
    # mp.erfc of a huge number fails, and beyond 1e3 the rest is below 1e-200000
    return mp.erfc(-min(max(z, -1000), 1000) / mp.sqrt(2)) / 2


def _gated(gate, gate_1, gate_2):
    return (
        lambda z: z * gate(z),
        lambda z: gate(z) + z * gate_1(z),
        lambda z: 2 * gate_1(z) + z * gate_2(z),
    )


def _gelu_tanh():
    c, k = 2 * mp.sqrt(2 / mp.pi), 2 * mp.sqrt(2 / mp.pi) * mp.mpf("0.044715")

    def v(z):  # (1 + tanh(v / 2)) / 2 = logistic(v)
        return c * z + k * z**3

    def v_1(z):
        return c + 3 * k * z**2

    return _gated(
        lambda z: _logistic(v(z)),
        lambda z: _logistic_1(v(z)) * v_1(z),
        lambda z: _logistic_2(v(z)) * v_1(z) ** 2 + _logistic_1(v(z)) * 6 * k * z,
    )


with mp.workprec(PRECISION):
    _REFERENCES = {
        "identity": _line(1),
        "relu": _left_and_right(_line(0), _line(1)),
        "relu6": _clip(0, 6),
        "leaky_relu": lambda slope: _left_and_right(_line(slope), _line(1)),
        "elu": lambda alpha: _left_and_right(_exponential(alpha, 1), _line(1)),
        "celu": lambda alpha: _left_and_right(_exponential(alpha, alpha), _line(1)),
        "selu": _selu(),
        "sigmoid": (_logistic, _logistic_1, _logistic_2),
        "hard_sigmoid": lambda low, high: _clip(low, high, 1 / (high - low), low),
        "tanh": (mp.tanh, _tanh_1, _tanh_2),
        "hard_tanh": _clip,
        "softplus": (_softplus, _logistic, _logistic_1),
        "softsign": (
            lambda z: z / (1 + abs(z)),
            lambda z: 1 / (1 + abs(z)) ** 2,
            lambda z: (2 if z <= 0 else -2) / (1 + abs(z)) ** 3,
        ),
        "gelu": _gated(_normal_below, _normal, lambda z: -z * _normal(z)),
        "gelu_tanh": _gelu_tanh(),
        "silu": _gated(_logistic, _logistic_1, _logistic_2),
        "mish": _gated(
            lambda z: mp.tanh(_softplus(z)),
            lambda z: _tanh_1(_softplus(z)) * _logistic(z),
            lambda z: (
                _tanh_2(_softplus(z)) * _logistic(z) ** 2 + _tanh_1(_softplus(z)) * _logistic_1(z)
            ),
        ),
        "exp": (mp.exp, mp.exp, mp.exp),
        "sin": (mp.sin, mp.cos, lambda z: -mp.sin(z)),
        "gaussian": (
            lambda z: mp.exp(-z * z),
            lambda z: -2 * z * mp.exp(-z * z),
            lambda z: (4 * z * z - 2) * mp.exp(-z * z),
        ),
        "square": (lambda z: z * z, lambda z: 2 * z, lambda z: 2),
        "cos": (mp.cos, lambda z: -mp.sin(z), lambda z: -mp.cos(z)),
        "erf": (
            lambda z: mp.erf(min(max(z, -1000), 1000)),
            lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-z * z),
            lambda z: -4 * z / mp.sqrt(mp.pi) * mp.exp(-z * z),
        ),
        "abs": _left_and_right(_line(-1), _line(1)),
        "sqrt": (
            mp.sqrt,
            lambda z: 1 / (2 * mp.sqrt(z)),
            lambda z: -1 / (4 * z * mp.sqrt(z)),
        ),
        "log": (mp.log, lambda z: 1 / z, lambda z: -1 / z**2),
        "reciprocal": (lambda z: 1 / z, lambda z: -1 / z**2, lambda z: 2 / z**3),
        "power": lambda exponent: (
            lambda z: z**exponent,
            lambda z: exponent * z ** (exponent - 1),
            lambda z: exponent * (exponent - 1) * z ** (exponent - 2),
        ),
        "sign": (mp.sign, lambda z: 0, lambda z: 0),
        "floor": (mp.floor, lambda z: 0, lambda z: 0),
    }

# Where sigma' (first) and sigma'' (rest) vanish, roughly.
_ZEROS = {
    "gelu": (-0.75, -1.4, 1.4),
    "gelu_tanh": (-0.75, -1.4, 1.4),
    "silu": (-1.3, -2.4, 2.4),
    "mish": (-1.2, -2.25, 1.5),
    "gaussian": (0, -0.7, 0.7),
}


@cache
def zeros(name):
    """Return the zeros of sigma' and sigma'', as (order of the derivative, mpf)."""
    with mp.workprec(2 * PRECISION):
        guesses = _ZEROS.get(name, ())
        return [
            (1 if k == 0 else 2, mp.findroot(_REFERENCES[name][1 if k == 0 else 2], guess))
            for k, guess in enumerate(guesses)
            if guess
        ]


# --- ulps -----------------------------------------------------------------------------------------


def ulps(computed, true, dtype):
    """Return ``|computed - true|`` in units of the last place of the true value.

    Below the smallest normal number the unit is the smallest subnormal; everything beyond the
    largest finite number counts as the power of two there, so that overflow is right exactly when
    the true value rounds to infinity (or differs from it by as many ulps as allowed).
    """
    info = np.finfo(dtype)
    end = mp.ldexp(1, info.maxexp)
    true = min(max(mp.mpf(true), -end), end)
    computed = min(max(mp.mpf(float(computed)), -end), end)
    exponent = max(mp.mag(true) - 1, info.minexp) if true else info.minexp
    return float(mp.ldexp(abs(computed - true), info.nmant - exponent))


def errors(function, formula, z):
    """Return the error of ``function(z)`` in ulps at every entry of an array, NaN counting inf."""
    with mp.workprec(PRECISION):
        values = function(z)
        off = [
            ulps(value, formula(mp.mpf(float(entry))), z.dtype.type)
            for value, entry in zip(values, z, strict=True)
        ]
    return np.where(np.isnan(values), np.inf, off)


# --- hard inputs ----------------------------------------------------------------------------------


def mesh(name, dtype, dense=1):
    """Return finite inputs: kinks, zeros, powers of two, subnormals, saturation, the largest."""
    info, count = np.finfo(dtype), 12 * dense
    powers = np.ldexp(1.0, np.arange(info.minexp - info.nmant, info.maxexp))
    log_normal, log_zero = -np.log(float(info.tiny)), -np.log(float(info.smallest_subnormal))
    # e^-t meets eps, the subnormals, and 0, and e^t overflows, at these t; t may be 2 z, z², z²/2
    ends = np.array([-np.log(info.eps), log_normal, log_zero, np.log(float(info.max))])
    rng = np.random.default_rng(len(name))
    faint = rng.uniform(log_normal, 1.1 * log_zero, count)
    special = [
        *(0.0, 0.1, 0.7, 1.0, 2.3, 3.0, 6.0, float(info.max)),
        *powers[::29],
        *powers[(powers > 1e-8) & (powers < 2e3)],
        *(f(t) for t in ends for f in (abs, lambda t: t / 2, np.sqrt, lambda t: np.sqrt(2 * t))),
    ]
    roots = [abs(float(root)) for _, root in zeros(name)]
    near = [
        root * (1 + s * 2.0**-k) for root in roots for k in range(2, info.nmant) for s in (1, -1)
    ]
    random = np.concatenate(
        [
            rng.uniform(0, 4, 4 * count),
            rng.uniform(0, log_zero, 2 * count),
            *(faint, faint / 2, np.sqrt(faint), np.sqrt(2 * faint)),
            np.exp(rng.uniform(-log_zero, np.log(float(info.max)), 2 * count)),
        ]
    )
    special = np.array([*special, *roots]).astype(dtype)
    with np.errstate(over="ignore"):  # beyond the largest
        z = [special, np.nextafter(special, -dtype(np.inf)), np.nextafter(special, dtype(np.inf))]
    z = np.concatenate([*z, np.array(near).astype(dtype), random.astype(dtype)])
    z = np.unique(np.concatenate([z, -z]))
    z = z[np.isfinite(z)]
    return z[DOMAINS[name](z)] if name in DOMAINS else z
