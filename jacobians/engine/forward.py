"""One layer at a time, with all checks done beforehand: values forward, vectors both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._sigma import INTO_MEMORY
from jacobians.activations import IDENTITY, Activation, AnyActivation, activation
from jacobians.engine.memory import Fresh, Pool
from jacobians.engine.products import in_slabs
from jacobians.engine.ranges import SHORT
from jacobians.layers import Dense, Elementwise, Layer, Scale

# A loop over a short row spends its time on starting, so some rows are treated together.
LONG_LOOP = 1024


class Forward:
    """One layer, with its checks done beforehand.

    The same numbers as ``layer.preactivation`` and ``layer.activation`` give, up to the order of
    summation.
    """

    def __init__(self, layer: Layer, slabs: bool) -> None:
        self._layer: Any = layer
        self._slabs = slabs
        self._preactivation = preactivation_formula(layer)
        self._formula = value_formula(layer.activation)
        self._into_memory = self._formula in INTO_MEMORY
        self._W: Any = None
        if type(layer) is Dense:
            self._W, self._b = layer.W.T, layer.b
            self._together = max(1, LONG_LOOP // len(layer.b))
            self._biases = np.tile(layer.b, self._together)
            if slabs or layer.W.size <= SHORT:
                self._W = np.ascontiguousarray(self._W)  # in slabs this is twice as fast

    def preactivation(self, a: Array, pool: Pool | Fresh | None) -> Array:
        """Return ``z`` for ``a``, (b, n)."""
        if self._W is None:
            return self._preactivation(a)
        z = self._product(a, self._W, pool)
        whole = len(z) // self._together * self._together
        rows = z[:whole].reshape(-1, len(self._biases))
        rows += self._biases
        if whole < len(z):
            z[whole:] += self._b
        return z

    def push(self, t: Array, pool: Pool | Fresh | None) -> Array:
        """Return ``W t`` for tangents at ``a``; of a layer that is the library's own."""
        if self._W is None:
            return self._scaled(t)
        return self._product(t, self._W, pool)

    def pull(self, c: Array, pool: Pool | Fresh | None) -> Array:
        """Return ``Wᵀ c`` for cotangents at ``z``; of a layer that is the library's own."""
        if self._W is None:
            return self._scaled(c)
        return self._product(c, self._layer.W, pool)

    def _scaled(self, v: Array) -> Array:
        return v * self._layer.scale if isinstance(self._layer, Scale) else v

    def _product(self, v: Array, W: Array, pool: Pool | Fresh | None) -> Array:
        result = _take((len(v), W.shape[1]), v, pool)
        if self._slabs:
            in_slabs(v, W, result)
        else:
            np.matmul(v, W, out=result)
        return result

    def activation(self, z: Array, pool: Pool | Fresh | None) -> Array:
        """Return ``sigma(z)``, where ``z`` was if that is possible."""
        if self._into_memory and self._W is not None:
            a: Array = self._formula(z, out=z)
            return a
        a = self._formula(z)
        if pool and a is not z:
            pool.give(z)
        return a


def _take(shape: tuple[int, ...], like: Array, pool: Pool | Fresh | None) -> Array:
    return pool.take(shape) if pool else np.empty(shape, like.dtype)


def preactivation_formula(layer: Layer) -> Callable[[Array], Array]:
    """Return the preactivation of a layer that is not dense."""
    if type(layer) is Scale:
        return lambda a: layer.scale * a + layer.shift
    return _same if type(layer) is Elementwise else layer.preactivation


def value_formula(sigma: AnyActivation) -> Callable[..., Array]:
    """Return sigma; without its checks if it is one of the known activations."""
    if sigma == IDENTITY:
        return _same
    return _bound(sigma.sigma, sigma) if _is_ours(sigma) else sigma


def _same(z: Array) -> Array:
    return z


def is_known(layer: Layer) -> bool:
    """Tell whether layer and activation are the library's own."""
    return type(layer) in (Dense, Scale, Elementwise) and _is_ours(layer.activation)


def slope_formula(sigma: Activation) -> Callable[..., Array]:
    """Return ``sigma'``; without its checks if it is one of the known activations."""
    return _bound(sigma.sigma_prime, sigma) if _is_ours(sigma) else sigma.derivative


def _is_ours(sigma: AnyActivation) -> bool:
    try:
        return activation(sigma.name, **dict(sigma.parameters)) == sigma
    except (TypeError, ValueError):
        return False


def _bound(formula: Callable[..., Array], sigma: AnyActivation) -> Callable[..., Array]:
    if not sigma.parameters:
        return formula
    parameters = dict(sigma.parameters)
    return lambda z: formula(z, **parameters)
