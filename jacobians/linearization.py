"""Linearization: from a trace to a chain of structured maps.

At a point every layer is a linear map, ``da^l = D^l W^l da^{l-1}``, and the network is their
product.  This is the only room where networks and maps meet, and every layer's derivative rule
stands on this page: ``layer_map`` is ``dz^l/da^{l-1}`` and ``activation_map`` is ``da^l/dz^l``.
A layer of your own registers one rule::

    @layer_map.register
    def _(layer: MyLayer, a):
        return Matrix(...)          # dz/da at the activation a that comes in

The derivative with respect to a weight matrix needs no matrix at all: with
``J = da^L/dz^l``,  ``dH/dvec(W^l) = J (aᵀ ⊗ I) = aᵀ ⊗ J``  by the mixed product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, singledispatch
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    ShapeError,
    as_floats,
    as_layer,
    refuse_if_too_large,
    underflow_is_rounding,
)
from jacobians.activations import IDENTITY, Activation, AnyActivation, VectorActivation
from jacobians.layers import Dense, Elementwise, Layer, Scale
from jacobians.maps import (
    Blocks,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    Kronecker,
    LinearMap,
    Matrix,
    Product,
)
from jacobians.network import Network
from jacobians.tracing import Trace, trace

# --- the rules ------------------------------------------------------------------------------------


@singledispatch
def layer_map(layer: Layer, a: Array) -> LinearMap:
    """Return ``dz/da`` of a layer at the activation ``a`` that comes in, (n,) or (B, n).

    >>> layer_map(Dense([[1, 2, 3], [4, 5, 6]]), np.zeros(3))
    Matrix 2x3 float64
    """
    raise NotImplementedError(
        f"linearize: {layer} has no derivative rule; register one with "
        f"@layer_map.register for {type(layer).__name__}."
    )


@layer_map.register(Dense)
def _(layer: Dense, a: Array) -> LinearMap:
    return Matrix(layer.W)


@layer_map.register(Scale)
def _(layer: Scale, a: Array) -> LinearMap:
    return Diagonal(layer.scale)


@layer_map.register(Elementwise)
def _(layer: Elementwise, a: Array) -> LinearMap:
    return Identity(a.shape[-1], a.dtype)


@singledispatch
def activation_map(activation: AnyActivation, z: Array) -> LinearMap:
    """Return ``D = da/dz`` of an activation at the preactivation ``z``, (n,) or (B, n)."""
    raise NotImplementedError(f"linearize: activation {activation} has no derivative rule.")


@activation_map.register(Activation)
def _(activation: Activation, z: Array) -> LinearMap:
    if activation == IDENTITY:
        return Identity(z.shape[-1], z.dtype)
    return Diagonal(activation.derivative(z))


@activation_map.register(VectorActivation)
def _(activation: VectorActivation, z: Array) -> LinearMap:
    return DiagonalPlusLowRank(*activation.parts(z))


# --- the chain ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Linearization(Frozen):
    """The network's derivative at a point (or at each point of a batch), as a chain of maps."""

    trace: Trace

    @property
    def value(self) -> Array:
        """``H(x)``."""
        return self.trace.output

    @cached_property
    def factors(self) -> tuple[LinearMap, ...]:
        """``(D^L, W^L, ..., D^1, W^1)``, in the order in which they are written."""
        return self.between(self.trace.network.depth, 0)

    @cached_property
    def chain(self) -> Product:
        """The product of the factors, not multiplied out."""
        return Product(self.factors)

    def between(self, of: int, wrt: int) -> tuple[LinearMap, ...]:
        """Return the factors of ``da^of / da^wrt``, left to right (none if they are equal)."""
        factors: list[LinearMap] = []
        for l in range(of, wrt, -1):
            layer = self.trace.network.layers[l - 1]
            factors.append(activation_map(layer.activation, self.trace.preactivation(l)))
            factors.append(layer_map(layer, self.trace.activation(l - 1)))
        return tuple(factors)

    @underflow_is_rounding
    def jacobian(self, of: int | None = None, wrt: int = 0) -> Array:
        """Multiply out ``da^of / da^wrt``, by default the whole chain ``dH/dx``.

        From the side that has fewer columns to carry: forward mode if there are fewer inputs than
        outputs, reverse mode otherwise.

        Returns
        -------
        array, shape (n_of, n_wrt) or (B, n_of, n_wrt)
        """
        of, wrt = self._ends(of, wrt, "jacobian")
        widths, dtype = self.trace.network.widths, self.trace.network.dtype
        m, n = widths[of], widths[wrt]
        where = f"Linearization.jacobian of a^{of} with respect to a^{wrt}"
        refuse_if_too_large((*self.trace.batch, m, n), dtype, where, "Keep .chain, or use jvp, vjp")
        chain = Product([Identity(m, dtype), *self.between(of, wrt)])
        if n < m:
            result = chain.apply(np.eye(n, dtype=dtype))
        else:
            result = np.swapaxes(chain.T.apply(np.eye(m, dtype=dtype)), -2, -1)
        return np.broadcast_to(result, (*self.trace.batch, m, n)).copy()

    @underflow_is_rounding
    def jvp(self, tangent: Any) -> Array:
        """Push a tangent forward: ``J v``, never forming ``J``.

        Parameters
        ----------
        tangent : array, shape (n_0,) or, at a batch, (B, n_0)

        Returns
        -------
        array, shape (n_L,) or (B, n_L)
        """
        return self._apply(self.chain, tangent, "jvp: tangent")

    @underflow_is_rounding
    def vjp(self, cotangent: Any) -> Array:
        """Pull a cotangent back: ``Jᵀ u``, never forming ``J``.

        Parameters
        ----------
        cotangent : array, shape (n_L,) or, at a batch, (B, n_L)

        Returns
        -------
        array, shape (n_0,) or (B, n_0)
        """
        return self._apply(self.chain.T, cotangent, "vjp: cotangent")

    def bias_jacobian(self, l: int) -> LinearMap:
        """Return ``dH/db^l = da^L/dz^l = D^L W^L ... W^{l+1} D^l`` as a map.

        Raises
        ------
        TypeError
            If layer ``l`` has no bias.
        """
        self._dense_layer(l, "bias_jacobian")
        return self._to_preactivation(l)

    def weight_jacobian(self, l: int) -> LinearMap:
        """Return ``dH/dvec(W^l) = aᵀ ⊗ da^L/dz^l`` as a map, with ``a = a^{l-1}``.

        Kilobytes where the dense form would take ``n_L n_l n_{l-1}`` numbers.

        Raises
        ------
        TypeError
            If layer ``l`` has no weight matrix.
        """
        self._dense_layer(l, "weight_jacobian")
        a = Matrix(self.trace.activation(l - 1)[..., None, :])
        return Kronecker(a, self._to_preactivation(l))

    def parameter_jacobian(self) -> LinearMap:
        """Return the derivative with respect to ``(vec W^1, b^1, ..., vec W^L, b^L)`` as a map.

        The columns stand in the order of ``Network.parameters``.
        """
        blocks: list[LinearMap] = []
        for l, layer in enumerate(self.trace.network.layers, start=1):
            if isinstance(layer, Dense):
                blocks += [self.weight_jacobian(l), self.bias_jacobian(l)]
        if not blocks:
            raise TypeError(f"parameter_jacobian: {self.trace.network} has no parameters.")
        return Blocks(blocks)

    def _to_preactivation(self, l: int) -> LinearMap:
        depth = self.trace.network.depth
        layer = self.trace.network.layers[l - 1]
        D = activation_map(layer.activation, self.trace.preactivation(l))
        return Product([*self.between(depth, l), D])

    def _dense_layer(self, l: int, verb: str) -> None:
        net = self.trace.network
        layer = net.layers[as_layer(l, f"{verb}: l", 1, net.depth) - 1]
        if not isinstance(layer, Dense):
            raise TypeError(f"{verb}: layer {l} ({layer}) has no weight matrix.")

    def _ends(self, of: int | None, wrt: int, verb: str) -> tuple[int, int]:
        depth = self.trace.network.depth
        of = depth if of is None else as_layer(of, f"{verb}: of", 0, depth)
        return of, as_layer(wrt, f"{verb}: wrt", 0, of)

    def _apply(self, chain: LinearMap, vector: Any, where: str) -> Array:
        v = as_floats(vector, where, dtype=self.trace.network.dtype)
        expected = (*self.trace.batch, chain.shape[1])
        if v.shape != expected:
            raise ShapeError(f"{where}: expected shape {expected}, but got {v.shape}.")
        return chain.apply(v[..., None])[..., 0]

    def __repr__(self) -> str:
        where = f"{self.trace.batch[0]} points" if self.trace.batch else "one point"
        sizes = " · ".join(f"{A.shape[0]}x{A.shape[1]}" for A in self.factors)
        return f"Linearization at {where}: {sizes}"


def linearize(net: Network, X: Any) -> Linearization:
    """Linearize the network at a point, or at every point of a batch.

    Parameters
    ----------
    net : Network
    X : array, shape (n_0,) or (B, n_0), or a Trace of ``net``
        A trace is taken as it is, so that several accounts can share one.

    Returns
    -------
    Linearization

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` does not fit the network; see ``trace``.

    >>> net = Network.random([4, 3, 2], seed=0)
    >>> lin = linearize(net, [1.0, 2.0, 3.0, 4.0])
    >>> lin
    Linearization at one point: 2x2 · 2x3 · 3x3 · 3x4
    >>> lin.jacobian().shape, lin.jvp(np.ones(4)).shape, lin.vjp(np.ones(2)).shape
    ((2, 4), (2,), (4,))
    >>> lin.weight_jacobian(1)
    Kronecker 2x12 float64: (Matrix 1x4) ⊗ (Product 2x3)
    """
    if isinstance(X, Trace):
        if X.network is not net:
            raise ValueError("linearize: the trace belongs to another network.")
        return Linearization(X)
    return Linearization(trace(net, X))
