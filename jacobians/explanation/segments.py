"""Where a network bends on the way from one point to another, in closed form.

Along ``x(t) = x_0 + t (x_1 - x_0)`` the value of a node is piecewise linear in t if its layer and
activation are, and so is what it reads.  Going from node to node, the places between which all of
them are straight are collected: between two places a preactivation is ``z + u dz``, which meets the
kink ``c`` of its activation at ``u = (c - z)/dz``, and a max-pool says itself where an entry
overtakes another.  Values at new places are read off the straight lines.

Source: M. Sotoudeh, A. V. Thakur, "Computing linear restrictions of neural networks" (NeurIPS
2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jacobians import plotting
from jacobians._checks import Array, Indices
from jacobians.network import Network

LIMIT = 2**22  # entries of all values at all places; a segment with more is halved
FEW = 64  # places that are never too many
GRID, SAME = 65, 1e-12  # places that are looked at; kinks so near to each other are one
PIECE = 2**18  # entries of the segments that a pool is asked about at a time


def bends(net: Network, start: Array, stop: Array, of: int) -> tuple[Array, bool]:
    """Return the places ``0 = t_0 < ... < t_k = 1`` where nodes up to ``of`` bend.

    And whether ``a^of`` is straight between them.  Where it is not, the kinks of nodes that read
    curved values are looked for on a grid, and two crossings between neighbours of it missed.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1.0], [2.0]], [0.0, -1.0], "relu")])
    >>> bends(net, np.array([-1.0]), np.array([1.0]), 1)
    (array([0.  , 0.5 , 0.75, 1.  ]), True)
    """
    needed = {of}
    for l in range(of, 0, -1):
        needed |= set(net.sources[l - 1]) if l in needed else set()
    nodes = sorted(needed - {0})
    t, reached = _between(net, start, stop, nodes, 0.0, 1.0)
    behind = [net.layers[l - 1] for l in nodes if l not in reached]
    if any(layer.kinked or layer.activation.kinks for layer in behind):
        t = np.union1d(t, plotting.bends(net, start, stop, GRID).t)
        t = t[(np.diff(t, prepend=-1.0) > SAME) | (t == 1)]
    return t, of in reached and net.layers[of - 1].activation.piecewise_linear


def _between(
    net: Network, start: Array, stop: Array, nodes: Sequence[int], low: float, high: float
) -> tuple[Array, set[int]]:
    """Return the places from ``low`` to ``high``, and the nodes whose ``z`` is straight."""
    t, reached = np.array([low, high]), set()
    values: dict[int, Array] = {0: start + t[:, None] * (stop - start)}
    for l in nodes:
        layer, sources = net.layers[l - 1], net.sources[l - 1]
        if not layer.piecewise_linear or any(s not in values for s in sources):
            continue
        if layer.kinked:
            t, values = _with(t, values, *_overtakings(layer, values[sources[0]]))
        reached.add(l)
        values[l] = layer.preactivation(*(values[s] for s in sources))
        rows, shares = _crossings(values[l], layer.activation.kinks)
        count, middle = len(t) + len(rows), (low + high) / 2
        width = sum(value.shape[1] for value in values.values())
        if count > max(FEW, LIMIT // width) and low < middle < high:
            first, reached = _between(net, start, stop, nodes, low, middle)
            second, _ = _between(net, start, stop, nodes, middle, high)
            return np.concatenate([first, second[1:]]), reached
        t, values = _with(t, values, rows, shares)
        z = values.pop(l)
        if layer.activation.piecewise_linear:
            values[l] = layer.activation(z)
        values = {s: value for s, value in values.items() if net.last_reader.get(s, l + 1) > l}
    return t, reached


def _overtakings(layer: object, value: Array) -> tuple[Indices, Array]:
    """Ask a layer that is kinked where it bends, for some segments at a time."""
    step = max(1, PIECE // value.shape[1])
    kinks_at = []
    for first in range(0, len(value) - 1, step):
        part = value[first : first + step + 1]
        rows, shares = layer.bends(part[:-1], part[1:])  # type: ignore[attr-defined]
        kinks_at.append((rows + first, shares))
    return np.concatenate([rows for rows, _ in kinks_at]), np.concatenate([u for _, u in kinks_at])


def _crossings(z: Array, kinks: Sequence[float]) -> tuple[Indices, Array]:
    """Return segment and share of the segment wherever a unit crosses a kink inside one."""
    kinks_at = [(np.zeros(0, np.intp), np.zeros(0))]
    for kink in kinks:
        above = z - kink
        rows, units = np.nonzero(np.sign(above[:-1]) * np.sign(above[1:]) < 0)
        before, after = above[rows, units], above[rows + 1, units]
        kinks_at.append((rows, before / (before - after)))
    return np.concatenate([rows for rows, _ in kinks_at]), np.concatenate([u for _, u in kinks_at])


def _with(
    t: Array, values: dict[int, Array], rows: Indices, shares: Array
) -> tuple[Array, dict[int, Array]]:
    """Add places inside segments, each once, and the values there."""
    new = t[rows] + shares * (t[rows + 1] - t[rows])
    inside = np.flatnonzero((t[rows] < new) & (new < t[rows + 1]))
    new, first = np.unique(new[inside], return_index=True)
    rows, u = rows[inside][first], shares[inside][first][:, None]
    return np.insert(t, rows + 1, new), {
        s: np.insert(v, rows + 1, v[rows] + u * (v[rows + 1] - v[rows]), axis=0)
        for s, v in values.items()
    }
