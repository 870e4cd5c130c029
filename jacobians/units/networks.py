"""A network as a graph of units, and a graph of units as a network of blocks.

Taken apart, every entry of a node's value is a unit, and the entries of the node's maps are its
edges: every layer with an affine preactivation comes apart, whatever its kind.  Put together, the
units of one level that share an activation are a dense layer, which reads what feeds them.  Block
substitution in the one is substitution in the other.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from jacobians._checks import Array, refuse_if_too_large
from jacobians.activations import Activation
from jacobians.layers import Concatenate, Dense, Gather, Layer
from jacobians.linearization import layer_map
from jacobians.maps import LinearMap, Matrix
from jacobians.network import Network
from jacobians.units.edges import split_edges


def read_network(net: Network) -> tuple[Any, Any, Array]:
    """Return ``A``, ``B`` and the biases of the units of a network, node after node."""
    starts = np.cumsum([0, *net.widths[1:]])
    N, zeros = int(starts[-1]), [np.zeros(n, net.dtype) for n in net.widths]
    first = [N, *starts[:-1].tolist()]  # inputs stand behind the units
    weights, targets, origins, biases = [], [], [], []
    for l, (layer, sources) in enumerate(zip(net.layers, net.sources, strict=True), start=1):
        _require_units(layer, l)
        entering = [zeros[s] for s in sources]
        biases.append(layer.preactivation(*entering))
        maps = layer_map(layer, *entering)
        for s, M in zip(sources, maps if isinstance(maps, tuple) else (maps,), strict=True):
            i, j, entries = _entries(M)
            weights.append(entries)
            targets.append(i + first[l])
            origins.append(j + first[s])
    joined = [np.concatenate(pieces) for pieces in (weights, targets, origins)]
    A, B = split_edges(joined[0], joined[1], joined[2], N, net.widths[0])
    return A.astype(net.dtype), B.astype(net.dtype), np.concatenate(biases)


def _entries(M: LinearMap) -> tuple[Any, Any, Any]:
    """Return row, column and value of what a map has: all entries of a matrix, zeros included."""
    if isinstance(M, Matrix):
        return (*np.indices(M.shape).reshape(2, -1), M.to_dense().ravel())
    entries = M.to_sparse().tocoo()
    return (*entries.coords, entries.data)


def _require_units(layer: Layer, l: int) -> None:
    where, way_out = "UnitGraph.from_network: layer", "Use linearize(net, x)"
    if not isinstance(layer.activation, Activation):
        raise TypeError(
            f"{where} {l} ({layer}): {layer.activation} mixes the preactivations of the layer, but "
            f"a unit has one of its own. Stop before it and apply it to the values, or "
            f"{way_out[0].lower()}{way_out[1:]}."
        )
    if not layer.piecewise_linear or layer.kinked:
        raise TypeError(
            f"{where} {l} ({layer}): a unit adds up what arrives, but this layer is not known to. "
            f"{way_out}; if its preactivation is affine, say piecewise_linear = True in "
            f"{type(layer).__name__}."
        )


def write_network(graph: Any) -> Network:
    """Return the network of blocks that computes the values of all units of an acyclic graph."""
    if graph.cyclic:
        raise ValueError("UnitGraph.to_network: a graph with cycles is no network.")
    walk, m = graph._walk.forward, graph.B.shape[1]
    if not m:
        raise ValueError("UnitGraph.to_network: a network has at least one input, this has none.")
    nodes: list[tuple[str, Layer, list[int]]] = []

    def add(name: str, layer: Layer, reads: list[int]) -> int:
        nodes.append((name, layer, reads))
        return len(nodes)

    def joined(name: str, reads: list[int]) -> int:
        return reads[0] if len(reads) == 1 else add(name, Concatenate(), reads)

    runs: list[tuple[int, Any]] = []  # each a node, and its units
    for start, stop in pairwise(walk.starts):
        members = walk.order[start:stop]
        into, sigma = graph.A[members].tocsc(), graph.activations[members[0]]
        blocks = [(0, graph.B[members]), *((node, into[:, earlier]) for node, earlier in runs)]
        blocks = [(node, block) for node, block in blocks if block.nnz] or blocks[:1]
        shape = (len(members), sum(block.shape[1] for _, block in blocks))
        refuse_if_too_large(shape, graph.dtype, "UnitGraph.to_network", "Keep the graph")
        name = f"level {graph.levels[members[0]]}, {sigma}"
        reads = joined(f"into {name}", [node for node, _ in blocks])
        W = np.hstack([block.toarray() for _, block in blocks])
        runs.append((add(name, Dense(W, graph.biases[members], sigma), [reads]), members))
    add("units", Gather(walk.rank), [joined("all levels", [node for node, _ in runs])])
    names, layers, sources = zip(*nodes, strict=True)
    net = Network.from_nodes(layers, sources, ["x", *names], inputs=m)
    return net.with_names(graph.input_names, graph.unit_names)
