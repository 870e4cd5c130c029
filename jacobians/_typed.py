"""Networks whose entries are typed in: fractions, whole numbers, symbols of SymPy; exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from numbers import Rational
from typing import Any

import numpy as np

from jacobians._checks import Numbers, ShapeError, as_array, require_shape
from jacobians.activations import Activation
from jacobians.layers import Dense
from jacobians.layers.base import set_field
from jacobians.network import Network
from jacobians.tracing import Trace

_EXACT: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "identity": (lambda z: z, lambda z: Fraction(1)),
    "relu": (lambda z: max(z, Fraction(0)), lambda z: Fraction(int(z > 0))),
    "square": (lambda z: z * z, lambda z: 2 * z),
}


class TypedActivation(Activation):
    """An activation of entries of any kind, one by one."""

    def _evaluate(self, formula: Callable[[Any], Any], z: Any) -> Any:
        return np.frompyfunc(formula, 1, 1)(np.asarray(z, object))


def typed_trace(
    weights: Sequence[Any], biases: Sequence[Any] | None, activations: Any, x: Any
) -> Trace:
    """Return the trace of a network whose entries are typed in, for all functions of ``explicit``.

    Parameters
    ----------
    weights : sequence of (n_l, n_{l-1}) nested lists or arrays
        Fractions, numbers (which become fractions), symbols: anything that adds and multiplies.
    biases : sequence of (n_l,), optional
        Zeros unless given.
    activations : one for all layers, or a sequence
        ``"identity"``, ``"relu"``, ``"square"``, or a pair (sigma, sigma') of one entry.
    x : (n_0,)

    Returns
    -------
    Trace
        Its arrays hold objects; no product of ``explicit`` rounds them.

    Raises
    ------
    ShapeError
        If two neighbours do not fit.
    ValueError
        If an activation has no exact formula here.

    >>> from fractions import Fraction as F
    >>> W1, W2 = [[F(1, 3), 2]], [[F(1, 2)]]
    >>> trace = typed_trace([W1, W2], None, ["square", "identity"], [3, F(1, 2)])
    >>> from jacobians import explicit
    >>> explicit.input_jacobian(trace)
    array([[Fraction(2, 3), Fraction(4, 1)]], dtype=object)
    """
    Ws = [_entries(W, f"typed_trace: W^{l}") for l, W in enumerate(weights, start=1)]
    given = [None] * len(Ws) if biases is None else list(biases)
    sigmas = list(activations) if isinstance(activations, list) else [activations] * len(Ws)
    if not len(Ws) == len(given) == len(sigmas) or any(W.ndim != 2 for W in Ws):
        raise ShapeError(
            f"typed_trace: each of the {len(Ws)} layers needs a matrix, a bias and an activation."
        )
    shape_only = Network([Dense(np.zeros(W.shape)) for W in Ws])
    layers, a = [], [_entries(x, "typed_trace: x")]
    require_shape(a[0], shape_only.widths[:1], "typed_trace: x", "One entry per input.")
    z = []
    for l, (W, b, sigma) in enumerate(zip(Ws, given, sigmas, strict=True), start=1):
        b = _entries([0] * len(W) if b is None else b, f"typed_trace: b^{l}")
        require_shape(b, W.shape[:1], f"typed_trace: b^{l}", "One entry per row of W.")
        layers.append(_layer(W, b, sigma))
        z.append(W @ a[-1] + b)
        a.append(layers[-1].activation(z[-1]))
    net = shape_only._with(layers=tuple(layers), dtype=np.dtype(object))
    return Trace(net, tuple(z), tuple(a))


def _entries(values: Any, where: str) -> Numbers:
    array = as_array(values, where).astype(object)
    result: Numbers = np.frompyfunc(_exact, 1, 1)(array)
    return result


def _exact(entry: Any) -> Any:
    return Fraction(entry) if isinstance(entry, (Rational, float)) else entry


def _layer(W: Numbers, b: Numbers, sigma: Any) -> Dense:
    if isinstance(sigma, str) and sigma not in _EXACT:
        raise ValueError(
            f"typed_trace: activation {sigma!r} has no exact formula here; expected one of "
            f"{', '.join(_EXACT)}, or a pair (sigma, sigma') of functions of one entry."
        )
    pair = _EXACT[sigma] if isinstance(sigma, str) else sigma
    layer = Dense(np.zeros(W.shape))
    set_field(layer, "W", W)
    set_field(layer, "b", b)
    set_field(layer, "activation", TypedActivation(sigma if isinstance(sigma, str) else "σ", *pair))
    return layer
