"""What cannot overflow, known beforehand: so that the loops need not look.

With ``|W|`` the largest sum of absolute values of a row and s a bound on ``|sigma'|``, a layer
turns entries of size r into entries of at most ``|sigma(0)| + s (|W| r + |b|)``, and a partial
product of the chain has entries of at most the product of all ``|W^l| s^l`` that exceed 1.
Where such a bound leaves the range, or no bound is known, the engine looks at the numbers instead.
"""

from __future__ import annotations

import numpy as np

from jacobians._checks import Array
from jacobians.activations import FIXED, AnyActivation
from jacobians.layers import Dense, Elementwise, Layer, Scale
from jacobians.network import Network

# Bounds on |sigma'| (for softmax and log_softmax on the sums of the rows), rounded up.
_SLOPES = {
    **dict.fromkeys(("identity", "relu", "relu6", "tanh", "softplus", "softsign", "sin"), 1.0),
    **dict.fromkeys(("sigmoid", "gaussian", "softmax", "hard_tanh"), 1.0),
    **dict.fromkeys(("gelu", "gelu_tanh", "silu", "mish"), 1.2),
    **dict.fromkeys(("selu", "log_softmax"), 2.0),
}
# Activations whose values are at most 6 in size.
_BOUNDED = {"tanh", "sigmoid", "softsign", "sin", "gaussian", "softmax", "hard_tanh", "relu6"}
_LARGEST_VALUE = 6.0


def safe_radius(net: Network, of: int) -> float:
    """Return a size of inputs from which no value up to ``a^of`` can overflow; -1 if none is known.

    >>> safe_radius(Network([Dense([[1.0, -2.0]], activation="exp")]), 1)
    -1.0
    """
    largest = float(np.finfo(net.dtype).max)  # a float of Python, which compares with any size
    radius = size = largest**0.25
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in net.layers[:of]:
            gain, offset = _gain(layer)
            size = gain * size + offset
            if not size < largest / 4:
                return -1.0
            if layer.activation.name in _BOUNDED and _slope(layer.activation) < np.inf:
                size = min(size, _LARGEST_VALUE)
            # log_softmax adds at most log n, and sigma(0) is at most log 2
            size = _slope(layer.activation) * size + 64
    return radius if size < largest / 4 else -1.0


# Up to this many numbers, calling NumPy takes longer than the arithmetic.
SHORT = 2**13


def is_within(X: Array, radius: float) -> bool:
    """Tell whether all entries are at most that size; never so if one is NaN, or radius is -1.

    >>> is_within(np.array([3.0, -4.0]), 5.0), is_within(np.array([np.nan]), 5.0)
    (True, False)
    """
    if X.size > SHORT:
        return bool(-radius <= X.min() and X.max() <= radius)
    x = X.ravel()  # one call in place of two; larger ones would wake the threads of BLAS
    return bool(x.dot(x) <= radius * abs(radius))


def products_stay_in_range(net: Network, of: int, wrt: int) -> bool:
    """Tell whether no partial product of ``da^of/da^wrt`` can overflow, whatever the point.

    >>> products_stay_in_range(Network([Dense([[1e200]]), Dense([[1e200]])]), 2, 0)
    False
    """
    size = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in net.layers[wrt:of]:
            size *= max(1.0, _gain(layer)[0]) * max(1.0, _slope(layer.activation))
    return bool(size < float(np.finfo(net.dtype).max) / 4)


def _gain(layer: Layer) -> tuple[float, float]:
    """Return the largest absolute row sum and the largest absolute offset of a layer."""
    if isinstance(layer, Dense):
        sums = np.abs(layer.W).sum(axis=1, dtype=np.float64)
        return float(sums.max()), float(np.abs(layer.b).max())
    if isinstance(layer, Scale):
        return float(np.abs(layer.scale).max()), float(np.abs(layer.shift).max())
    return (1.0, 0.0) if isinstance(layer, Elementwise) else (np.inf, np.inf)


def _slope(sigma: AnyActivation) -> float:
    """Bound ``|sigma'|``; infinity if nothing is known."""
    return _SLOPES.get(sigma.name, np.inf) if FIXED.get(sigma.name) == sigma else np.inf
