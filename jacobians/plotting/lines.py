"""A network along a line: where it bends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array, Indices, ShapeError, as_count
from jacobians.network import Network
from jacobians.plotting.style import CYCLE, GREY, finish, labels, new_axes, numbers
from jacobians.tracing import trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Bends:
    """Indices t in [0, 1] on the line where a unit crosses a kink, rising.

    Attributes
    ----------
    t : array, shape (k,)
    layers, units : array of int, shape (k,)
        Layers from 1, units from 0.
    """

    t: Array
    layers: Indices
    units: Indices


def bends(net: Network, start: Any, stop: Any, points: int = 1001) -> Bends:
    """Find the kinks that a line crosses.

    A unit that is on different sides of a kink of its activation at two neighbours of a grid, or
    another entry of a max-pool's window, crosses it between them; halving the interval fifty times
    finds the place to the last bit.  Two crossings of one unit between two neighbours are not seen.

    Parameters
    ----------
    net : Network
    start, stop : array, shape (n_0,)
    points : int
        Of the grid.

    Returns
    -------
    Bends

    >>> from jacobians.layers import Dense
    >>> net = Network([Dense([[1.0], [2.0]], [0.0, -1.0], "relu")])
    >>> bends(net, [-1.0], [1.0]).t
    array([0.5 , 0.75])
    """
    start, stop = numbers(start, 1, "bends: start"), numbers(stop, 1, "bends: stop")
    if start.shape != stop.shape:
        raise ShapeError(f"bends: stop: expected shape {start.shape}, but got {stop.shape}.")
    grid = np.linspace(0.0, 1.0, as_count(points, "bends: points", at_least=2))
    bent = [(0.0, 0, 0)][:0]
    for l, layer in enumerate(net.layers, start=1):
        for at in (*layer.activation.kinks, *([None] if layer.kinked else [])):
            sides = _sides(net, start, stop, grid, l, at)
            where, units = np.nonzero(sides[1:] != sides[:-1])
            low, high, first = grid[where], grid[where + 1], sides[where, units]
            for _ in range(50 if len(where) else 0):
                middle = (low + high) / 2
                same = _sides(net, start, stop, middle, l, at)[range(len(where)), units] == first
                low, high = np.where(same, middle, low), np.where(same, high, middle)
            bent += [(float(t), l, int(unit)) for t, unit in zip(high, units, strict=True)]
    t, layers, units = np.array(sorted(bent)).reshape(-1, 3).T
    return Bends(t, layers.astype(np.intp), units.astype(np.intp))


def _sides(net: Network, start: Array, stop: Array, t: Array, l: int, at: float | None) -> Any:
    """Tell on which side of a kink every unit is, or which entry a pool has chosen."""
    seen = trace(net, (1 - t)[:, None] * start + t[:, None] * stop)
    if at is None:
        return net.layers[l - 1].chosen(*seen.entering(l))
    return seen.preactivation(l) > at


def kinks_along_line(
    net: Network,
    start: Any,
    stop: Any,
    *,
    output: int = 0,
    points: int = 1001,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw an output along the line from ``start`` to ``stop``, with every kink it crosses.

    Parameters
    ----------
    net : Network
    start, stop : array, shape (n_0,)
    output : int
        Which output, from 0.
    points : int
        Of the grid on which kinks are looked for.
    ax, title
        As in ``heat_map``.

    Returns
    -------
    Axes
    """
    crossings = bends(net, start, stop, points)
    names = labels(net.output_names, net.widths[-1], "y", "kinks_along_line")
    if not 0 <= output < len(names):
        raise ValueError(f"kinks_along_line: output: expected 0 to {len(names) - 1}, not {output}.")
    start, stop = np.asarray(start, float), np.asarray(stop, float)

    def along(t: Array) -> Array:
        return net((1 - t)[:, None] * start + t[:, None] * stop)[:, output]

    ax = new_axes(ax)
    grid = np.union1d(np.linspace(0.0, 1.0, points), crossings.t)
    ax.plot(grid, along(grid), color=GREY, lw=1.4, zorder=1)
    for k, l in enumerate(np.unique(crossings.layers)):
        t = crossings.t[crossings.layers == l]
        ax.plot(
            t, along(t), "osD^v<"[k % 6], color=CYCLE[k % len(CYCLE)], ms=4.5, mec="white", mew=0.5,
            label=f"layer {l}: {len(t)} kinks",
        )  # fmt: skip
    if len(crossings.t):
        ax.legend(frameon=False, fontsize=8, loc="best")
    where = "place on the line, from start (0) to end (1)"
    return finish(ax, title, where, names[output])
