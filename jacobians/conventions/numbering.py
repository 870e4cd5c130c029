"""The input as layer 1, as numbers and as a view of a trace; the gradient as a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jacobians._checks import Array, ShapeError, as_count
from jacobians.conventions.rows import dense_layer
from jacobians.explicit import activation_jacobian, input_jacobian
from jacobians.tracing import Trace


def to_layer_one(l: int) -> int:
    """Return the number that layer ``l`` has where the input is layer 1: ``a^[l+1] = a^l``."""
    return as_count(l, "to_layer_one: l", at_least=0) + 1


def from_layer_one(l: int) -> int:
    """Return the number, from 0, of layer ``l`` of a text whose input is layer 1.

    >>> from_layer_one(1), to_layer_one(0)
    (0, 1)
    """
    return as_count(l, "from_layer_one: l") - 1


def widths_to_layer_one(widths: Sequence[int]) -> dict[int, int]:
    """Return our widths ``(n_0, ..., n_L)`` by their numbers there: ``{1: n_0, ...}``."""
    return {to_layer_one(l): n for l, n in enumerate(widths)}


def widths_from_layer_one(widths: Mapping[int, int]) -> tuple[int, ...]:
    """Undo ``widths_to_layer_one``; the numbers must be 1, 2, ... without a gap."""
    if sorted(widths) != list(range(1, len(widths) + 1)):
        raise ValueError(
            f"widths_from_layer_one: expected layers 1 to {len(widths)}, but got {sorted(widths)}."
        )
    return tuple(widths[l] for l in sorted(widths))


@dataclass(frozen=True, repr=False)
class LayerOne:
    """A trace whose layers are counted from the input as layer 1: ``a^[1] = x``, ``W^[2]`` first.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2]], activation="square"), jb.Dense([[3]])])
    >>> view = LayerOne(jb.trace(net, [1, 1]))
    >>> view.L, view.a(1), view.z(2), view.W(3)
    (3, array([1., 1.]), array([3.]), array([[3.]]))
    """

    trace: Trace

    def __repr__(self) -> str:
        return f"LayerOne: {self.trace}, the input as layer 1"

    @property
    def L(self) -> int:
        """The number of the last layer."""
        return to_layer_one(self.trace.network.depth)

    @property
    def n(self) -> dict[int, int]:
        """The widths, ``{1: n_1, ..., L: n_L}``."""
        return widths_to_layer_one(self.trace.network.widths)

    def a(self, l: int) -> Array:
        """``a^[l]``, for l from 1."""
        return self.trace.activation(from_layer_one(l))

    def z(self, l: int) -> Array:
        """``z^[l]``, for l from 2."""
        return self.trace.preactivation(from_layer_one(l))

    def W(self, l: int) -> Array:
        """``W^[l]``, for l from 2."""
        return dense_layer(self.trace.network, from_layer_one(l), "LayerOne.W").W

    def D(self, l: int) -> Array:
        """``D^[l] = diag(sigma'(z^[l]))``, for l from 2."""
        return activation_jacobian(self.trace, from_layer_one(l))


def gradient(trace: Trace) -> Array:
    """Return the gradient of a network with one output, a column (n_0, 1).

    >>> import jacobians as jb
    >>> gradient(jb.trace(jb.Network([jb.Dense([[1, 2]], activation="square")]), [1, 1]))
    array([[ 6.],
           [12.]])
    """
    m = trace.network.widths[-1]
    if m != 1:
        raise ShapeError(f"gradient: expected a network with one output, but this one has {m}.")
    return input_jacobian(trace).T.copy()
