"""Tracing: what is seen on the way, at a point or at every point of a batch.

``trace(net, X)`` runs the network once and keeps every ``z^l`` and ``a^l``.  All methods read the
same trace, so they differ by the rounding of their products alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, Frozen, NotFiniteError, as_count, flags_end_with_it, freeze
from jacobians._notebook import Displayed, Table
from jacobians._tables import PointsLike, as_inputs, column_names
from jacobians.activations import IDENTITY, Activation
from jacobians.network import Network, as_network


@dataclass(frozen=True)
class Kink:
    """A unit at a kink of its activation or a tie of its max-pool: the derivative is a choice."""

    layer: int
    unit: int
    at: float
    preactivation: float
    point: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Frozen, Displayed):
    """Preactivations and activations of every node, read-only; made by ``trace``."""

    network: Network
    preactivations: tuple[Array, ...]
    activations: tuple[Array, ...]
    input_names: tuple[str, ...] | None = None  # of a table's columns, if the network has none

    @property
    def batch(self) -> tuple[int, ...]:
        """``()`` at one point, ``(B,)`` at a batch."""
        return self.activations[0].shape[:-1]

    @property
    def output(self) -> Array:
        """``H(x) = a^L``."""
        return self.activations[-1]

    def preactivation(self, l: int | str) -> Array:
        """Return ``z^l``, for ``l`` from 1 to L, or the name of a node."""
        return self.preactivations[self.network.number(l, "Trace.preactivation: l", 1) - 1]

    def activation(self, l: int | str) -> Array:
        """Return ``a^l``, for ``l`` from 0 (the input) to L (the output), or the name of a node."""
        return self.activations[self.network.number(l, "Trace.activation: l")]

    def entering(self, l: int) -> tuple[Array, ...]:
        """Return the values that node ``l`` reads."""
        return tuple(self.activations[s] for s in self.network.sources[l - 1])

    def point(self, i: int) -> Trace:
        """Return the trace of one point of a batch, the same numbers to the last bit."""
        if not self.batch:
            raise ValueError("Trace.point: this is the trace of one point already.")
        i = as_count(i, "Trace.point: i", at_least=0)
        if i >= self.batch[0]:
            raise ValueError(f"Trace.point: i: the trace holds {self.batch[0]} points, got {i}.")
        z = tuple(z[i] for z in self.preactivations)
        return Trace(self.network, z, tuple(a[i] for a in self.activations), self.input_names)

    def stacked(self) -> Trace:
        """Return the trace of one point as the trace of a batch of one, the same numbers."""
        if self.batch:
            raise ValueError("Trace.stacked: this is the trace of a batch already.")
        z = tuple(z[None] for z in self.preactivations)
        return Trace(self.network, z, tuple(a[None] for a in self.activations), self.input_names)

    def kinks(self, within: float = 0.0) -> tuple[Kink, ...]:
        """Return the units whose preactivation is at a kink, or ``within`` a distance of one.

        >>> from jacobians.layers import Dense
        >>> net = Network([Dense([[1, -1], [2, 1]], activation="relu")])
        >>> trace(net, [1.0, 1.0]).kinks()
        (Kink(layer=1, unit=0, at=0.0, preactivation=0.0, point=None),)
        """
        near = []
        for l, kink_at, distance in self.kink_distances():
            z = self.preactivations[l - 1]
            at = np.broadcast_to(kink_at, z.shape)
            for *point, unit in np.argwhere(distance <= within):
                where, i = (*point, unit), int(point[0]) if point else None
                near.append(Kink(l, int(unit), float(at[where]), float(z[where]), i))
        return tuple(near)

    def kink_distances(self) -> Iterator[tuple[int, Any, Array]]:
        """Yield for every kink of a node: its number, where kinks are, how far every unit is away.

        Two entries that tie in a max-pool are a kink, unless neither of them moves.
        """
        for l, (layer, z) in enumerate(
            zip(self.network.layers, self.preactivations, strict=True), start=1
        ):
            for at in layer.activation.kinks:
                yield l, at, np.abs(z - at)
            if layer.kinked:
                live = tuple(self._live(s) for s in self.network.sources[l - 1])
                distance = layer.kink_distance(*self.entering(l), live=live)
                yield l, z - distance, distance

    def _live(self, l: int) -> Any:
        """Tell which entries of ``a^l`` have a slope that is not 0."""
        sigma = self.network.layers[l - 1].activation if l else IDENTITY
        if not isinstance(sigma, Activation) or sigma == IDENTITY:
            return True
        slopes: Array = sigma.derivative(self.preactivations[l - 1])
        return slopes != 0

    def _table(self) -> Table:
        def ends(values: Array) -> str:
            return f"{values.min():.4g} to {values.max():.4g}" if values.size else ""

        net = self.network
        rows = [[net.names[0], "input", "", ends(self.activations[0])]]
        for l, (layer, z) in enumerate(zip(net.layers, self.preactivations, strict=True), start=1):
            rows.append([net.names[l], str(layer), ends(z), ends(self.activations[l])])
        return ["node", "layer", "preactivations", "values"], rows

    def __repr__(self) -> str:
        where = f"{self.batch[0]} points" if self.batch else "one point"
        return f"Trace at {where} of {self.network}"


@flags_end_with_it
def trace(net: Network, X: PointsLike) -> Trace:
    """Run the network and keep what is seen on the way.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)
        One point, or a batch of points.

    Returns
    -------
    Trace

    Raises
    ------
    ShapeError, TypeError
        If ``X`` does not fit the network.
    NotFiniteError
        If ``X`` holds NaN or infinity, or a value on the way leaves the range of the dtype; the
        message names the layer.

    >>> from jacobians.layers import Dense
    >>> net = Network([Dense([[1, 2], [3, 4], [5, 6]], activation="relu"), Dense([[1, 0, -1]])])
    >>> seen = trace(net, [1.0, -1.0])
    >>> seen.preactivation(1), seen.activation(1), seen.output
    (array([-1., -1., -1.]), array([0., 0., 0.]), array([0.]))
    """
    net = as_network(net, "trace")
    x = freeze(as_inputs(X, net, "trace: X"))
    preactivations, activations = [], [x]
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        for l, _, z, a in net.forward(x):
            _require_in_range(z, f"z^{l}", net.layers[l - 1])
            _require_in_range(a, f"a^{l}", net.layers[l - 1])
            preactivations.append(freeze(z))
            same = net.layers[l - 1].activation == IDENTITY
            activations.append(preactivations[-1] if same else freeze(a))
    names = None if net.input_names else column_names(X)
    return Trace(net, tuple(preactivations), tuple(activations), names)


def _require_in_range(values: Array, name: str, layer: object) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        *_, unit = np.argwhere(~finite)[0]
        raise NotFiniteError(
            f"trace: {name} of {layer} leaves the range of {values.dtype} at unit {unit}. "
            "Rescale the inputs or weights, or use astype(np.float64) on the network."
        )
