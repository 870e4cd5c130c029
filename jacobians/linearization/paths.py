"""The nodes and edges on the paths between two nodes of a network."""

from __future__ import annotations

from typing import TypeAlias

from jacobians.network import Network

Edges: TypeAlias = dict[int, list[tuple[int, int]]]  # into each node: (source, which of its inputs)


def cuts_and_edges(net: Network, of: int, wrt: int) -> tuple[list[int], Edges]:
    """Return the nodes that every path from ``wrt`` to ``of`` meets, and the edges on the paths.

    An edge into node l is (source, which of l's inputs).  No cuts if there is no path.
    """
    needed = {of}
    for l in range(of, wrt, -1):
        if l in needed:
            needed.update(s for s in net.sources[l - 1] if s >= wrt)
    on_path, edges = {wrt}, {}
    for l in range(wrt + 1, of + 1):
        if l in needed:
            entering = [(s, k) for k, s in enumerate(net.sources[l - 1]) if s in on_path]
            if entering:
                on_path.add(l)
                edges[l] = entering
    if of not in on_path:
        return [], edges
    reaches: dict[int, int] = {}  # the farthest node that reads each node
    for l, entering in edges.items():
        for s, _ in entering:
            reaches[s] = l
    cuts, far = [], wrt
    for l in sorted(on_path):
        if far <= l:  # no edge jumps over it
            cuts.append(l)
        far = max(far, reaches.get(l, l))
    return cuts, edges


def ancestors(edges: Edges, node: int, stop: int) -> set[int]:
    """Return the nodes after ``stop`` on paths to ``node``, the node itself included."""
    met: set[int] = set()
    ahead = [node]
    while ahead:
        l = ahead.pop()
        if l > stop and l not in met:
            met.add(l)
            ahead += [s for s, _ in edges[l]]
    return met
