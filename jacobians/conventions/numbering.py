"""The input as layer 1: a view of a trace, and not numbers to be shifted by hand."""

from __future__ import annotations

from dataclasses import dataclass

from jacobians._checks import Array, ShapeError, as_layer
from jacobians.conventions.rows import dense_layer
from jacobians.explicit import activation_jacobian, input_jacobian
from jacobians.tracing import Trace


@dataclass(frozen=True, repr=False)
class LayerOne:
    """A trace whose layers are counted from the input as layer 1: ``a^[1] = x``, ``W^[2]`` first.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2]], activation="square"), jb.Dense([[3]])])
    >>> view = LayerOne(jb.trace(net, [1, 1]))
    >>> view.L, view.n, view.a(1), view.z(2), view.W(3)
    (3, {1: 2, 2: 1, 3: 1}, array([1., 1.]), array([3.]), array([[3.]]))
    >>> view.gradient
    array([[18.],
           [36.]])
    """

    trace: Trace

    def __repr__(self) -> str:
        return f"LayerOne: {self.trace}, the input as layer 1"

    @property
    def L(self) -> int:
        """The number of the last layer."""
        return self.trace.network.depth + 1

    @property
    def n(self) -> dict[int, int]:
        """The widths, ``{1: n_1, ..., L: n_L}``."""
        return dict(enumerate(self.trace.network.widths, start=1))

    def ours(self, l: int, lowest: int = 1) -> int:
        """Return the number, from 0, that layer ``l`` has everywhere else in the library."""
        return as_layer(l, "LayerOne: l", lowest, self.L) - 1

    def a(self, l: int) -> Array:
        """``a^[l]``, for l from 1."""
        return self.trace.activation(self.ours(l))

    def z(self, l: int) -> Array:
        """``z^[l]``, for l from 2."""
        return self.trace.preactivation(self.ours(l, 2))

    def W(self, l: int) -> Array:
        """``W^[l]``, for l from 2."""
        return dense_layer(self.trace.network, self.ours(l, 2), "LayerOne.W")[0]

    def D(self, l: int) -> Array:
        """``D^[l] = diag(sigma'(z^[l]))``, for l from 2."""
        return activation_jacobian(self.trace, self.ours(l, 2))

    @property
    def gradient(self) -> Array:
        """The gradient of a network with one output, a column (n_1, 1)."""
        m = self.trace.network.widths[-1]
        if m != 1:
            raise ShapeError(f"gradient: expected a network with one output, but this one has {m}.")
        return input_jacobian(self.trace).T.copy()
