"""LayerNorm and RMSNorm: every row of a value brought to unit size, then scaled.

    LayerNorm   x̂ = (a - mean a) / s,  s = sqrt(mean (a - mean a)² + epsilon),  z = scale x̂ + shift
    RMSNorm     x̂ = a / s,             s = sqrt(mean a² + epsilon),             z = scale x̂

A row is the last axis.  Source: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization" (2016);
B. Zhang, R. Sennrich, "Root mean square layer normalization" (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import Array, as_floats, as_nonnegative, require_ndim, require_shape
from jacobians.layers.base import Layer, Shape, require_rows, set_arrays, set_field


class _Norm(Layer):
    """What both norms share: rows of the length of ``scale``, and their sizes."""

    scale: Array
    epsilon: float
    formed = 8  # of x̂ x̂ᵀ / d, minus, over s, times scale
    trained: ClassVar[tuple[str, ...]] = ("scale",)
    centred: ClassVar[bool] = False  # whether a row's mean is taken off

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape that comes in."""
        require_rows(shapes[0], len(self.scale), self)
        return shapes[0]

    def normalised(self, a: Array) -> tuple[Array, Array]:
        """Return ``x̂`` of shape (..., rows, d) and the sizes ``s``, (..., rows, 1)."""
        d = len(self.scale)
        rows = a.reshape(*a.shape[:-1], a.shape[-1] // d, d)
        rows = rows - rows.mean(axis=-1, keepdims=True) if self.centred else rows
        # the largest entry is taken out first: its square must not leave the range
        least = np.sqrt(self.epsilon)
        largest = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), least)
        largest = np.where(largest > 0, largest, 1).astype(a.dtype)
        square = np.square(rows / largest).mean(axis=-1, keepdims=True)
        size = largest * np.sqrt(square + np.square(least / largest))
        size = size.astype(a.dtype)
        return rows / np.where(size > 0, size, 1), size

    def __repr__(self) -> str:
        return f"{type(self).__name__} {len(self.scale)}"


def _set_scale(layer: _Norm, scale: Any, epsilon: float, **more: Any) -> None:
    kind = type(layer).__name__
    scale = as_floats(scale, f"{kind}: scale")
    require_ndim(scale, (1,), f"{kind}: scale", "one factor per entry of a row, shape (d,)")
    require_shape(scale[:1], (1,), f"{kind}: scale", "A row has at least one entry.")
    for name, value in more.items():
        if value is not None:
            more[name] = as_floats(value, f"{kind}: {name}")
            require_shape(more[name], scale.shape, f"{kind}: {name}", "One per entry of scale.")
    set_arrays(layer, scale=scale, **more)
    set_field(layer, "epsilon", as_nonnegative(epsilon, f"{kind}: epsilon"))


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm(_Norm):
    """Every row minus its mean, over its standard deviation, times ``scale``, plus ``shift``.

    Parameters
    ----------
    scale : array, shape (d,)
        The last axis of the value has d entries.
    shift : array, shape (d,), optional
        A layer that is made without one has none.
    epsilon : float
        Added to the variance.

    >>> LayerNorm([1.0, 1.0], epsilon=0.0)(np.array([3.0, 5.0]))
    array([-1.,  1.])
    """

    scale: Array
    shift: Array | None
    epsilon: float

    trained: ClassVar[tuple[str, ...]] = ("scale", "shift")
    centred: ClassVar[bool] = True

    def __init__(self, scale: Any, shift: Any = None, epsilon: float = 1e-5) -> None:
        _set_scale(self, scale, epsilon, shift=shift)

    def preactivation(self, *values: Array) -> Array:
        """Return ``scale x̂ + shift``."""
        normal, _ = self.normalised(values[0])
        z = self.scale * normal
        z = z if self.shift is None else z + self.shift
        return z.reshape(values[0].shape)


@dataclass(frozen=True, eq=False, repr=False)
class RMSNorm(_Norm):
    """Every row over its root mean square, times ``scale``.

    Parameters
    ----------
    scale : array, shape (d,)
        The last axis of the value has d entries.
    epsilon : float
        Added to the mean square.

    >>> RMSNorm([1.0, 2.0], epsilon=0.0)(np.array([3.0, 3.0]))
    array([1., 2.])
    """

    scale: Array
    epsilon: float

    def __init__(self, scale: Any, epsilon: float = 1e-5) -> None:
        _set_scale(self, scale, epsilon)

    def preactivation(self, *values: Array) -> Array:
        """Return ``scale x̂``."""
        normal, _ = self.normalised(values[0])
        return (self.scale * normal).reshape(values[0].shape)
