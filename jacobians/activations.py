"""Activations: sigma with its first and second derivative, and the places where it has a kink.

An activation acts on the preactivation, ``a = sigma(z)``, and its derivative is a function of the
preactivation too: near saturation ``a`` no longer knows the slope.  Most act entry by entry, so
that ``da/dz = diag(sigma'(z))``; softmax and log_softmax are vector-valued, and their Jacobian is
a diagonal plus a matrix of low rank.

At a kink the derivative is a choice, made here once: **0 where one side is flat, else the slope on
the left**.  So it is 0 for relu, relu6, hard_sigmoid and hard_tanh at each of their kinks; sigma''
is the slope of sigma' on the left.  ``Trace.kinks()`` tells which units sit on one.

**Accuracy.**  For every finite z, in float32 and in float64, also where the result is subnormal,

    sigma within 3 ulps,   sigma' within 6,   sigma'' within 12

of the true value, with two exceptions: silu, mish and both gelus in float64, within 5, 9 and 12;
and sigma itself for sigmoid, softplus, elu and selu in float32, within 4, since NumPy's exp takes
2.5 of them.  float16 comes back as float32.  The parameter of a family is rounded to the dtype of z
first, except celu's; an alpha above 5 adds alpha/2 smallest numbers in elu' where exp(z) is
subnormal, and in celu where z is.  The bounds for softmax are in ``_softmax``.  The benchmark
``activation_accuracy`` prints the worst cases; most are half of this.

sqrt, log, reciprocal and power with a broken exponent are so right where they are defined, and give
NaN or infinity elsewhere; sign and floor jump, and their derivative is 0 everywhere.

``activation(name)`` looks one up by name; ``Activation(name, sigma, sigma_prime)`` makes your own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jacobians import _elementary as e
from jacobians import _gated as g
from jacobians import _sigma as f
from jacobians import _softmax as v
from jacobians._activation import Activation as Activation
from jacobians._activation import AnyActivation as AnyActivation
from jacobians._activation import Formula as Formula
from jacobians._activation import VectorActivation as VectorActivation
from jacobians._checks import as_floats, require_ndim

# --- the known ones -------------------------------------------------------------------------------


def _leaky_relu(slope: float = 0.01) -> Activation:
    return Activation(
        "leaky_relu",
        f.leaky_relu,
        f.leaky_relu_prime,
        f.zero,
        kinks=() if slope == 1 else (0.0,),
        parameters=(("slope", slope),),
        slope_bound=max(1.0, abs(slope)),
        piecewise_linear=True,
    )


def _elu(alpha: float = 1.0) -> Activation:
    return Activation(
        "elu",
        f.elu,
        f.elu_prime,
        f.elu_second,
        kinks=() if alpha == 1 else (0.0,),
        parameters=(("alpha", alpha),),
        slope_bound=max(1.0, abs(alpha)),
    )


def _celu(alpha: float = 1.0) -> Activation:
    if not alpha > 0:
        raise ValueError(f"celu: expected alpha > 0, but got {alpha}.")
    return Activation(
        "celu",
        f.celu,
        f.celu_prime,
        f.celu_second,
        parameters=(("alpha", alpha),),
        slope_bound=1.0,
    )


def _hard_sigmoid(low: float = -3.0, high: float = 3.0) -> Activation:
    _require_order("hard_sigmoid", low, high)
    return _between("hard_sigmoid", f.ramp, f.ramp_prime, low, high, 1 / (high - low), 1.0)


def _hard_tanh(low: float = -1.0, high: float = 1.0) -> Activation:
    _require_order("hard_tanh", low, high)
    return _between("hard_tanh", f.clip, f.clip_prime, low, high, 1.0, max(abs(low), abs(high)))


def _between(
    name: str, sigma: Formula, prime: Formula, low: float, high: float, slope: float, value: float
) -> Activation:
    ends = (("low", low), ("high", high))
    return Activation(
        name,
        sigma,
        prime,
        f.zero,
        (low, high),
        ends,
        slope_bound=slope,
        value_bound=value,
        flat=True,
        piecewise_linear=True,
    )


def _power(exponent: float = 2.0) -> Activation:
    given = (("exponent", exponent),)
    return Activation("power", e.power, e.power_prime, e.power_second, (), given)


def _require_order(name: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{name}: expected low < high, but got {low} and {high}.")


FAMILIES: dict[str, Callable[..., AnyActivation]] = {
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "celu": _celu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_tanh": _hard_tanh,
    "power": _power,
}

BOTH, SLOPES = ("sigma", "sigma_prime"), ("sigma_prime",)
_LINE: dict[str, Any] = {"slope_bound": 1.0}
_LINES: dict[str, Any] = {"piecewise_linear": True}
_BOUNDED: dict[str, Any] = {"slope_bound": 1.0, "value_bound": 1.0}
_GATED: dict[str, Any] = {"slope_bound": 1.2}

IDENTITY = Activation("identity", f.identity, f.one, f.zero, **_LINE, **_LINES)
SIGMOID = Activation(
    "sigmoid", f.sigmoid, f.sigmoid_prime, f.sigmoid_second, **_BOUNDED, into_memory=SLOPES
)
SOFTMAX = VectorActivation(
    "softmax",
    v.softmax,
    v.softmax_parts,
    v.softmax_second,
    v.softmax_matrix,
    v.softmax_second_parts,
    **_BOUNDED,
)
LOG_SOFTMAX = VectorActivation(
    "log_softmax",
    v.log_softmax,
    v.log_softmax_parts,
    v.log_softmax_second,
    v.log_softmax_matrix,
    v.log_softmax_second_parts,
    slope_bound=2.0,
)

LOG_ODDS = VectorActivation(
    "log_odds",
    v.log_odds,
    v.log_odds_parts,
    v.log_odds_second,
    v.log_odds_matrix,
    v.log_odds_second_parts,
)

FIXED: dict[str, AnyActivation] = {
    one.name: one
    for one in (
        IDENTITY,
        Activation(
            "relu",
            f.relu,
            f.relu_prime,
            f.zero,
            (0.0,),
            **_LINE,
            **_LINES,
            flat=True,
            into_memory=BOTH,
        ),
        Activation(
            "relu6",
            f.relu6,
            f.relu6_prime,
            f.zero,
            kinks=(0.0, 6.0),
            slope_bound=1.0,
            value_bound=6.0,
            flat=True,
            piecewise_linear=True,
        ),
        Activation("selu", f.selu, f.selu_prime, f.selu_second, kinks=(0.0,), slope_bound=2.0),
        SIGMOID,
        Activation("tanh", f.tanh, f.tanh_prime, f.tanh_second, **_BOUNDED, into_memory=BOTH),
        Activation("softplus", f.softplus, f.sigmoid, f.sigmoid_prime, **_LINE),
        Activation("softsign", f.softsign, f.softsign_prime, f.softsign_second, **_BOUNDED),
        Activation("gelu", g.gelu, g.gelu_prime, g.gelu_second, **_GATED),
        Activation("gelu_tanh", g.gelu_tanh, g.gelu_tanh_prime, g.gelu_tanh_second, **_GATED),
        Activation("silu", g.silu, g.silu_prime, g.silu_second, **_GATED),
        Activation("mish", g.mish, g.mish_prime, g.mish_second, **_GATED),
        Activation("exp", f.exp, f.exp, f.exp),
        Activation("sin", f.sin, f.cos, f.minus_sin, **_BOUNDED),
        Activation("gaussian", f.gaussian, f.gaussian_prime, f.gaussian_second, **_BOUNDED),
        Activation("square", f.square, f.square_prime, f.square_second),
        Activation("cos", f.cos, f.minus_sin, e.minus_cos),
        Activation("erf", e.erf, e.erf_prime, e.erf_second),
        Activation("abs", e.absolute, e.absolute_prime, f.zero, kinks=(0.0,), **_LINES),
        Activation("sqrt", e.sqrt, e.sqrt_prime, e.sqrt_second),
        Activation("log", e.log, e.reciprocal, e.log_second),
        Activation("reciprocal", e.reciprocal, e.reciprocal_prime, e.reciprocal_second),
        Activation("sign", e.sign, f.zero, f.zero),
        Activation("floor", e.floor, f.zero, f.zero),
        SOFTMAX,
        LOG_SOFTMAX,
    )
}

NAMES: tuple[str, ...] = (*FIXED, *FAMILIES)
FIXED[LOG_ODDS.name] = LOG_ODDS  # what jacobians.log_odds ends a classifier in, and files hold


def activation(name: str | AnyActivation, **parameters: float) -> AnyActivation:
    """Look an activation up by name; an activation object comes back as it is.

    Parameters
    ----------
    name : str or Activation
        One of identity, relu, leaky_relu(slope), relu6, elu(alpha), celu(alpha), selu,
        sigmoid, hard_sigmoid(low, high), tanh, hard_tanh(low, high), softplus, softsign,
        gelu (with the error function), gelu_tanh, silu, mish, exp, sin, cos, erf, gaussian,
        square, abs, power(exponent), sqrt, log, reciprocal, sign, floor, softmax, log_softmax.
    **parameters : float
        For the families with parameters.

    Returns
    -------
    Activation or VectorActivation

    Raises
    ------
    ValueError
        If nothing has that name, or a parameter is out of range.
    TypeError
        If the name is not a string, or the activation has no such parameter.

    >>> activation("tanh").derivative(20.0)  # 1 - tanh(20)² would be 0
    array(1.69934...e-17)
    >>> activation("leaky_relu", slope=0.25).derivative([-1.0, 0.0, 2.0])
    array([0.25, 0.25, 1.  ])
    """
    if isinstance(name, (Activation, VectorActivation)):
        if parameters:
            raise TypeError(f"activation: {name} is made already and takes no parameters.")
        return name
    if not isinstance(name, str):
        raise TypeError(f"activation: expected a name or an Activation, but got {name!r:.80}.")
    if name in FAMILIES:
        return FAMILIES[name](**_checked_parameters(name, parameters))
    if name not in FIXED:
        names = ", ".join(sorted(NAMES))
        raise ValueError(f"activation: {name!r} is not known; there are {names}.")
    if parameters:
        raise TypeError(f"activation: {name} has no parameters, but got {', '.join(parameters)}.")
    return FIXED[name]


def _checked_parameters(name: str, parameters: dict[str, float]) -> dict[str, float]:
    names = [key for key in FAMILIES[name].__annotations__ if key != "return"]
    checked = {}
    for key, value in parameters.items():
        if key not in names:
            raise TypeError(f"activation: {name} has {', '.join(names)}, but not {key!r}.")
        where = f"activation: {name}: {key}"
        number = as_floats(value, where)
        require_ndim(number, (0,), where, "a number")
        checked[key] = float(number)
    return checked
