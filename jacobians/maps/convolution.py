"""Convolution: a matrix of shared entries, known by its kernel.

Row ``(o, p)`` holds ``K[o, :, s]`` at the entries of the grid that the window at position p meets,
and zeros elsewhere: of the matrix of a 3x3 kernel on 28x28 pixels one entry in 87 is not zero.  It
is applied as a product of the kernel with patches, and its transpose, the transposed convolution,
adds the patches up again.

Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning" (2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_count
from jacobians._windows import Windows, correlate, spread
from jacobians.maps.base import LinearMap, frozen_field
from jacobians.maps.elementary import DOUBLE


@dataclass(frozen=True, eq=False, repr=False)
class Convolution(LinearMap):
    """The cross-correlation with a kernel, on values (c_in, *grid) that are kept flat.

    Parameters
    ----------
    kernel : array, shape (c_out, c_in / groups, *size)
    windows : Windows
        Where the kernel stands: grid, stride, padding, dilation.
    groups : int
        The channels fall into so many groups, each with kernels of its own.

    The shape is (c_out * positions, c_in * grid); the kernel is the same for all points.

    >>> A = Convolution([[[1.0, 10.0]]], Windows((3,), (2,)))
    >>> A.to_dense()
    array([[ 1., 10.,  0.],
           [ 0.,  1., 10.]])
    >>> A.T @ [1.0, 1.0]
    array([ 1., 11., 10.])
    """

    kernel: Array
    windows: Windows
    groups: int = 1

    def __post_init__(self) -> None:
        axes = len(self.windows.grid)
        frozen_field(self, "kernel", (axes + 2,), f"(c_out, c_in / groups) and {axes} more axes")
        object.__setattr__(self, "groups", as_count(self.groups, "Convolution: groups"))
        if self.kernel.shape[2:] != self.windows.size or len(self.kernel) % self.groups:
            raise ShapeError(
                f"Convolution: a kernel of shape {self.kernel.shape} does not fit windows of size "
                f"{self.windows.size} in {self.groups} groups."
            )

    @property
    def shape(self) -> tuple[int, int]:
        c_out, c = self.kernel.shape[:2]
        return c_out * prod(self.windows.positions), self.groups * c * prod(self.windows.grid)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.kernel.dtype

    def apply(self, columns: Array) -> Array:
        return correlate(self.kernel, self.windows, self.groups, columns)

    def transpose(self) -> TransposedConvolution:
        return TransposedConvolution(self)

    def _entries(self) -> tuple[Array, tuple[Any, Any]]:
        """Return all entries that are not zero by structure, with their rows and columns."""
        s, p = np.nonzero(self.windows.index >= 0)
        c_out, c = self.kernel.shape[:2]
        o = np.arange(c_out)[:, None, None]
        channel = np.arange(c)[:, None] + o // (c_out // self.groups) * c
        rows = o * prod(self.windows.positions) + p
        columns = channel * prod(self.windows.grid) + self.windows.index[s, p]
        values = self.kernel.reshape(c_out, c, -1)[:, :, s]
        return values.ravel(), (np.broadcast_to(rows, values.shape).ravel(), columns.ravel())

    def _dense(self) -> Array:
        dense = np.zeros(self.shape, self.dtype)
        values, at = self._entries()
        dense[at] = values
        return dense

    def _sparse(self) -> Any:
        from scipy.sparse import csr_array

        values, at = self._entries()
        return csr_array((values, at), shape=self.shape)

    @property
    def flops(self) -> float:
        return 2.0 * self.kernel.size * prod(self.windows.positions)

    def magnitude(self) -> Convolution:
        return Convolution(np.abs(self.kernel).astype(DOUBLE), self.windows, self.groups)


@dataclass(frozen=True, eq=False, repr=False)
class TransposedConvolution(LinearMap):
    """The transpose of a convolution: every entry spreads the kernel over the grid.

    Parameters
    ----------
    convolution : Convolution
    """

    convolution: Convolution

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.convolution.shape
        return n, m

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.convolution.dtype

    def apply(self, columns: Array) -> Array:
        A = self.convolution
        return spread(A.kernel, A.windows, A.groups, columns)

    def transpose(self) -> Convolution:
        return self.convolution

    def _dense(self) -> Array:
        return self.convolution._dense().T.copy()

    def _sparse(self) -> Any:
        return self.convolution._sparse().T.tocsr()

    @property
    def flops(self) -> float:
        return self.convolution.flops

    def magnitude(self) -> TransposedConvolution:
        return TransposedConvolution(self.convolution.magnitude())
