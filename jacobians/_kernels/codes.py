"""The activations that the kernel knows, by their codes."""

from __future__ import annotations

from jacobians.activations import Activation, AnyActivation, activation

_LEAKY, _CLIP, _RAMP, _ELU = range(4)
_OTHERS = (
    "sigmoid tanh softplus softsign exp square celu gaussian erf silu gelu gelu_tanh mish sin cos "
    "abs sqrt log reciprocal power sign floor"
)
CODES = {name: code for code, name in enumerate(_OTHERS.split(), start=4)}


def code_of(sigma: AnyActivation) -> tuple[int, float, float] | None:
    """Return an activation's code and parameters; None if the kernel does not have it.

    >>> code_of(activation("hard_tanh"))
    (1, -1.0, 1.0)
    """
    given = dict(sigma.parameters)
    if not isinstance(sigma, Activation) or activation_or_none(sigma.name, given) != sigma:
        return None
    match sigma.name:
        case "relu":
            return _LEAKY, 0.0, 0.0
        case "leaky_relu":
            return _LEAKY, given["slope"], 0.0
        case "relu6":
            return _CLIP, 0.0, 6.0
        case "hard_tanh":
            return _CLIP, given["low"], given["high"]
        case "hard_sigmoid":
            return _RAMP, given["low"], given["high"]
        case "elu":
            return _ELU, 1.0, given["alpha"]
        case "selu":
            return _ELU, 1.0507009873554805, 1.7580993408473768
        case "celu":  # its quotient by a width is for sizes that people use
            width = given["alpha"]
            return (CODES["celu"], width, 0.0) if 1e-30 < width < 1e30 else None
        case "power":
            return CODES["power"], given["exponent"], 0.0
        case name:
            return (CODES[name], 0.0, 0.0) if name in CODES else None


def activation_or_none(name: str, parameters: dict[str, float]) -> AnyActivation | None:
    """Look an activation of the library up; None if it has none of that name and parameters."""
    try:
        return activation(name, **parameters)
    except (TypeError, ValueError):
        return None
