"""Layers: what a network is made of.  Values only, forward only.

Every layer computes a preactivation from what comes in and applies its activation to it::

    z = preactivation(a)        a_next = sigma(z)

=================================== ========================================
``Dense(W, b, activation)``         ``z = W a + b``
``Scale(scale, shift)``             ``z = scale * a + shift``, entry by entry
``Elementwise(activation)``         ``z = a``
=================================== ========================================

How a layer is differentiated is not its business: those rules stand together in ``linearization``
and ``backprop``.  A layer of your own is a subclass of ``Layer`` and one registered rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    ShapeError,
    as_floats,
    freeze,
    require_ndim,
    require_shape,
)
from jacobians.activations import IDENTITY, AnyActivation, activation

Self = TypeVar("Self", bound="Layer")


class Layer(Frozen, ABC):
    """One step of a network: a preactivation, then an activation.

    Subclasses are immutable records with an ``activation`` (identity unless they set one), and
    define ``output_width`` and ``preactivation``; those that hold arrays also ``dtype`` and
    ``astype``.
    """

    activation: AnyActivation = IDENTITY
    inputs: int | None = None  # the width it insists on; None goes along with any
    _exact: ClassVar[Any] = None  # the float64 layer it was rounded from, where that is known

    @abstractmethod
    def output_width(self, inputs: int) -> int:
        """Return how many entries come out when ``inputs`` go in."""

    @abstractmethod
    def preactivation(self, a: Array) -> Array:
        """Return ``z`` of shape (..., n_out) for ``a`` of shape (..., n_in)."""

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of its arrays, or None if it has none."""
        return None

    def astype(self: Self, dtype: np.dtype[Any]) -> Self:
        """Return the layer with its arrays in another dtype."""
        return self

    def rounded(self: Self, dtype: np.dtype[Any]) -> Self:
        """Return ``astype(dtype)`` that remembers: ``astype`` of it to float64 gives this layer."""
        layer = self.astype(dtype)
        if layer is not self:
            object.__setattr__(layer, "_exact", self)
        return layer

    def __call__(self, a: Array) -> Array:
        """Return ``sigma(z)``."""
        return self.activation(self.preactivation(a))


@dataclass(frozen=True, eq=False, repr=False)
class Dense(Layer):
    """``a_next = sigma(W a + b)``.

    Parameters
    ----------
    W : array, shape (n_out, n_in)
        Rows are targets, columns are sources.
    b : array, shape (n_out,), optional
        Zero unless given.
    activation : str or Activation
        Identity unless said.

    Raises
    ------
    ShapeError
        If ``W`` is not a matrix or ``b`` does not have one entry per row of it.

    >>> Dense([[1, 2], [3, 4], [5, 6]], [0, 0, -1], "relu")
    Dense 2 -> 3 relu
    >>> Dense([[1, 2], [3, 4], [5, 6]], [0, 0, -1], "relu")(np.array([1.0, -1.0]))
    array([0., 0., 0.])
    """

    W: Array
    b: Array
    activation: AnyActivation

    def __init__(self, W: Any, b: Any = None, activation: str | AnyActivation = IDENTITY) -> None:
        W = as_floats(W, "Dense: W")
        require_ndim(W, (2,), "Dense: W", "a matrix of shape (n_out, n_in)")
        if 0 in W.shape:
            raise ShapeError(f"Dense: W: a layer needs inputs and outputs, but got {W.shape}.")
        b = np.zeros(W.shape[0], W.dtype) if b is None else as_floats(b, "Dense: b")
        require_shape(b, W.shape[:1], "Dense: b", f"W of shape {W.shape} has one bias per row.")
        dtype = np.result_type(W, b)
        object.__setattr__(self, "W", freeze(W.astype(dtype, copy=False)))
        object.__setattr__(self, "b", freeze(b.astype(dtype, copy=False)))
        object.__setattr__(self, "activation", _activation(activation))

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """Number of columns of ``W``."""
        return int(self.W.shape[1])

    def output_width(self, inputs: int) -> int:
        """Return the number of rows of ``W``."""
        return int(self.W.shape[0])

    def preactivation(self, a: Array) -> Array:
        """Return ``W a + b``, for every point of a batch."""
        z: Array = a @ self.W.T
        z += self.b  # in place: a second large array costs more than the sum
        return z

    @property
    def dtype(self) -> np.dtype[Any]:
        """The common dtype of ``W`` and ``b``."""
        return self.W.dtype

    def astype(self, dtype: np.dtype[Any]) -> Dense:
        """Return the layer with ``W`` and ``b`` in another dtype."""
        if dtype == self.dtype:
            return self
        if self._exact is not None and dtype == self._exact.dtype:
            return cast(Dense, self._exact)
        W = as_floats(self.W, "Dense: W", dtype=dtype)
        return Dense(W, as_floats(self.b, "Dense: b", dtype=dtype), self.activation)

    def __repr__(self) -> str:
        m, n = self.W.shape
        return f"Dense {n} -> {m} {self.activation}"


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Layer):
    """``a_next = scale * a + shift``, entry by entry: standardisation, and its inverse.

    Parameters
    ----------
    scale, shift : array, shape (n,)
        ``shift`` is zero unless given.

    >>> Scale([0.5, 2.0], [1.0, 0.0])(np.array([4.0, 3.0]))
    array([3., 6.])
    """

    scale: Array
    shift: Array

    def __init__(self, scale: Any, shift: Any = None) -> None:
        scale = as_floats(scale, "Scale: scale")
        require_ndim(scale, (1,), "Scale: scale", "one factor per entry, shape (n,)")
        if scale.size == 0:
            raise ShapeError("Scale: scale: a layer needs inputs, but got shape (0,).")
        shift = np.zeros_like(scale) if shift is None else as_floats(shift, "Scale: shift")
        require_shape(shift, scale.shape, "Scale: shift", "One per entry of scale.")
        dtype = np.result_type(scale, shift)
        object.__setattr__(self, "scale", freeze(scale.astype(dtype, copy=False)))
        object.__setattr__(self, "shift", freeze(shift.astype(dtype, copy=False)))

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """Length of ``scale``."""
        return len(self.scale)

    def output_width(self, inputs: int) -> int:
        """Return the length of ``scale``."""
        return inputs

    def preactivation(self, a: Array) -> Array:
        """Return ``scale * a + shift``."""
        return self.scale * a + self.shift

    @property
    def dtype(self) -> np.dtype[Any]:
        """The common dtype of ``scale`` and ``shift``."""
        return self.scale.dtype

    def astype(self, dtype: np.dtype[Any]) -> Scale:
        """Return the layer with its arrays in another dtype."""
        if dtype == self.dtype:
            return self
        if self._exact is not None and dtype == self._exact.dtype:
            return cast(Scale, self._exact)
        scale = as_floats(self.scale, "Scale: scale", dtype=dtype)
        return Scale(scale, as_floats(self.shift, "Scale: shift", dtype=dtype))

    def __repr__(self) -> str:
        return f"Scale {self.inputs}"


@dataclass(frozen=True, eq=False, repr=False)
class Elementwise(Layer):
    """``a_next = sigma(a)``: an activation on its own, softmax included.

    Parameters
    ----------
    activation : str or Activation

    >>> Elementwise("relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    activation: AnyActivation

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", _activation(self.activation))

    def output_width(self, inputs: int) -> int:
        """Return ``inputs``."""
        return inputs

    def preactivation(self, a: Array) -> Array:
        """Return ``a``."""
        return a

    def __repr__(self) -> str:
        return f"Elementwise {self.activation}"


_activation = activation  # the records above have a field of the same name
