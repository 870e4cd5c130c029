"""Convolutions: one kernel at every position of a grid, cross-correlated as everywhere.

    z[o, p] = b[o] + sum over c, s of K[o, c, s] a[c, p stride - before + s dilation]

A value has channels in front of one, two or three axes, (c_in, *grid), and is kept flat.  The
transposed convolution is the transpose of that matrix, with a bias of its own.

Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning" (2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from jacobians._checks import Array, ShapeError, as_count, as_floats, require_ndim, require_shape
from jacobians._windows import Windows, correlate, counts, pairs, spread
from jacobians.activations import IDENTITY, AnyActivation, VectorActivation
from jacobians.activations import activation as as_activation
from jacobians.along import Along
from jacobians.layers.base import Layer, Shape, set_arrays, set_field


class _Convolving(Layer):
    """What both directions share: a kernel, a bias for each channel, and where windows stand."""

    K: Array
    b: Array | None
    activation: AnyActivation | Along
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    grid: Shape  # of the value it is bound to, channels left out

    trained: ClassVar[tuple[str, ...]] = ("K", "b")
    transposed: ClassVar[bool] = False
    piecewise_linear: ClassVar[bool] = True

    @property
    def channels(self) -> tuple[int, int]:
        """Channels that go in, and that come out."""
        raise NotImplementedError

    @property
    def windows(self) -> Windows:
        """Where the kernel stands."""
        raise NotImplementedError

    def _positions(self) -> Shape:
        """Return the grid of what comes out."""
        raise NotImplementedError

    def on(self, *shapes: Shape) -> _Convolving:
        """Return the layer for a value of this shape; softmax then acts along the channels."""
        bound = replace(self, grid=shapes[0][1:])  # type: ignore[type-var]
        if isinstance(self.activation, VectorActivation):
            set_field(bound, "activation", Along(self.activation, bound.output_shape(*shapes), 0))
        return bound

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return ``(c_out, *grid)``."""
        (shape,) = shapes
        c_in, c_out = self.channels
        if len(shape) != self.K.ndim - 1 or shape[0] != c_in:
            axes = ", ".join(["n"] * (self.K.ndim - 2))
            raise ShapeError(
                f"{self}: takes values of shape ({c_in}, {axes}), but got {shape}. "
                "Network(..., inputs=shape) gives the input a shape, Reshape changes one."
            )
        try:
            return (c_out, *replace(self, grid=shape[1:])._positions())  # type: ignore[type-var]
        except ShapeError as err:
            raise ShapeError(f"{self}: {err}") from None

    def _shifted(self, z: Array) -> Array:
        """Add the bias of every channel, in place."""
        if self.b is not None:
            by_channel = z.reshape(*z.shape[:-1], len(self.b), z.shape[-1] // len(self.b))
            by_channel += self.b[:, None]
        return z

    def __repr__(self) -> str:
        c_in, c_out = self.channels
        size = "x".join(map(str, self.K.shape[2:]))
        return f"{type(self).__name__} {c_in} -> {c_out} {size} {self.activation}"


def _set_kernel(layer: _Convolving, K: Any, b: Any, axis: int, **settings: Any) -> None:
    """Check and set what both directions have; ``axis`` of K counts the channels that come out."""
    kind = type(layer).__name__
    K = as_floats(K, f"{kind}: K")
    demand = "channels, channels and 1, 2 or 3 axes"
    require_ndim(K, (3, 4, 5), f"{kind}: K", demand)
    if 0 in K.shape:
        raise ShapeError(f"{kind}: K: a kernel needs entries, but got shape {K.shape}.")
    groups = as_count(settings["groups"], f"{kind}: groups")
    if len(K) % groups:
        raise ShapeError(f"{kind}: K: {len(K)} channels do not fall into {groups} groups.")
    c_out = K.shape[axis] * (groups if axis else 1)
    if b is not None:
        b = as_floats(b, f"{kind}: b")
        require_shape(b, (c_out,), f"{kind}: b", "One bias for each channel that comes out.")
    set_arrays(layer, K=K, b=b)
    axes = K.ndim - 2
    for name in ("stride", "dilation"):
        settings[name] = counts(settings[name], axes, f"{kind}: {name}")
    settings["padding"] = pairs(settings["padding"], axes, f"{kind}: padding")
    for name, value in settings.items():
        set_field(layer, name, value)
    set_field(layer, "activation", as_activation(settings["activation"]))


@dataclass(frozen=True, eq=False, repr=False)
class Convolution(_Convolving):
    """``a_next = sigma(K * a + b)``, the cross-correlation with a kernel.

    Parameters
    ----------
    K : array, shape (c_out, c_in / groups, *size)
        Of 1, 2 or 3 axes.
    b : array, shape (c_out,), optional
        A layer that is made without one has none.
    activation : str or Activation
        Identity unless said.  Softmax acts along the channels.
    stride, dilation : int or sequence of int
        One number for all axes, or one for each.
    padding : int or sequence
        Zeros around the grid: one number, or for each axis a number or a pair (before, after).
    groups : int
        Group g of the channels that come out sees group g of those that go in.

    Raises
    ------
    ShapeError
        If kernel, bias and groups do not fit each other, or the value.

    >>> import numpy as np
    >>> layer = Convolution([[[1.0, 10.0]]], stride=2, padding=1).on((1, 4))
    >>> layer.output_shape((1, 4)), layer(np.array([1.0, 2.0, 3.0, 4.0]))
    ((1, 3), array([10., 32.,  4.]))
    """

    K: Array
    b: Array | None
    activation: AnyActivation | Along
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    grid: Shape = ()

    def __init__(
        self,
        K: Any,
        b: Any = None,
        activation: str | AnyActivation | Along = IDENTITY,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        grid: Shape = (),
    ) -> None:
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        _set_kernel(self, K, b, 0, activation=activation, grid=grid, **settings)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels that go in, and that come out."""
        return self.groups * self.K.shape[1], len(self.K)

    @cached_property
    def windows(self) -> Windows:
        """Where the kernel stands over what goes in."""
        return Windows(self.grid, self.K.shape[2:], self.stride, self.padding, self.dilation)

    def _positions(self) -> Shape:
        return self.windows.positions

    def preactivation(self, *values: Array) -> Array:
        """Return ``K * a + b``."""
        z = correlate(self.K, self.windows, self.groups, values[0][..., None])
        return self._shifted(z[..., 0])


@dataclass(frozen=True, eq=False, repr=False)
class TransposedConvolution(_Convolving):
    """``a_next = sigma(K^T a + b)``: every entry spreads the kernel over a finer grid.

    Parameters
    ----------
    K : array, shape (c_in, c_out / groups, *size)
        The kernel of the convolution that goes the other way.
    b, activation, stride, padding, dilation, groups
        As in ``Convolution``; padding is cut off what comes out.
    output_padding : int or sequence of int
        Rows and columns more at the end, fewer than the stride.

    >>> import numpy as np
    >>> layer = TransposedConvolution([[[1.0, 10.0]]], stride=2).on((1, 2))
    >>> layer(np.array([1.0, 2.0]))
    array([ 1., 10.,  2., 20.])
    """

    K: Array
    b: Array | None
    activation: AnyActivation | Along
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    output_padding: Any = 0
    grid: Shape = ()

    transposed: ClassVar[bool] = True

    def __init__(
        self,
        K: Any,
        b: Any = None,
        activation: str | AnyActivation | Along = IDENTITY,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        output_padding: Any = 0,
        grid: Shape = (),
    ) -> None:
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        _set_kernel(self, K, b, 1, activation=activation, grid=grid, **settings)
        where = "TransposedConvolution: output_padding"
        set_field(self, "output_padding", counts(output_padding, self.K.ndim - 2, where, 0))
        if any(n >= s for n, s in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(f"{where}: expected less than the stride, but got {output_padding}.")

    @property
    def channels(self) -> tuple[int, int]:
        """Channels that go in, and that come out."""
        return len(self.K), self.groups * self.K.shape[1]

    def _positions(self) -> Shape:
        return self.windows.grid

    @cached_property
    def windows(self) -> Windows:
        """Where the kernel stands over what comes out; the positions are what goes in."""
        size, axes = self.K.shape[2:], range(self.K.ndim - 2)
        finer = tuple(
            (self.grid[i] - 1) * self.stride[i]
            + self.dilation[i] * (size[i] - 1)
            + 1
            + self.output_padding[i]
            - sum(self.padding[i])
            for i in axes
        )
        if min(finer) < 1:
            raise ShapeError(f"nothing is left of a grid of {self.grid} by this padding.")
        return Windows(finer, size, self.stride, self.padding, self.dilation)

    def preactivation(self, *values: Array) -> Array:
        """Return ``K^T a + b``."""
        z = spread(self.K, self.windows, self.groups, values[0][..., None])
        return self._shifted(z[..., 0])
