"""Maps of graphs: block substitution, and a stack of maps along the diagonal.

In a directed graph of linear maps let ``M`` hold the map of every edge, block by block; sorted, it
is strictly lower triangular, and ``(I - M)^{-1}`` holds the sums over all paths.  Substitution
multiplies with its last block row and first block column in one sweep over the edges: a path is
never followed one by one.  A chain is the graph of one path, and its product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import (
    Array,
    ShapeError,
    as_count,
    as_flag,
    as_items,
    refuse_if_too_large,
)
from jacobians._windows import merged
from jacobians.maps.base import LinearMap, common_batch
from jacobians.maps.elementary import as_map

Nodes: TypeAlias = tuple[tuple[tuple[int, LinearMap], ...], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Substitution(LinearMap):
    """The derivative of a graph's last node with respect to its first: ``(I - M)^{-1}``, one block.

    Parameters
    ----------
    nodes : sequence of sequences of (int, map)
        For node 1, 2, ...: the edges that enter it, each the number of the node it comes from,
        which is smaller, and its map.  Node 0 is where ``x`` goes in, the last one comes out;
        those that it does not read, in one step or in several, are left out.

    Raises
    ------
    ShapeError
        If an edge does not fit between its two nodes.

    A diamond, ``x -> A x, B x -> A x + 2 B x``:

    >>> A, B, I = np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]]), np.eye(1)
    >>> Substitution([[(0, A)], [(0, B)], [(1, I), (2, 2 * I)]]) @ [1.0, 1.0]
    array([9.])
    """

    nodes: Nodes

    composite = True

    def __init__(self, nodes: Sequence[Sequence[tuple[int, Any]]]) -> None:
        built = tuple(
            tuple(_edge(edge) for edge in as_items(edges, "Substitution: nodes"))
            for edges in as_items(nodes, "Substitution: nodes")
        )
        if not built or not all(built):
            raise ValueError("Substitution: expected at least one edge into every node.")
        widths = [built[0][0][1].shape[1]]
        for l, edges in enumerate(built, start=1):
            widths.append(edges[0][1].shape[0])
            for source, A in edges:
                if not 0 <= source < l or A.shape != (widths[l], widths[source]):
                    raise ShapeError(
                        f"Substitution: the edge from node {source} to node {l} does not fit: {A}."
                    )
        object.__setattr__(self, "nodes", built)
        common_batch(self._parts(), "Substitution")
        object.__setattr__(self, "nodes", _read_by_the_last(built))

    def _parts(self) -> list[LinearMap]:
        return [A for edges in self.nodes for _, A in edges]

    def _refuse_too_large(self) -> None:
        super()._refuse_too_large()
        widest = max(A.shape[0] for A in self._parts())  # the paths into a node are added up there
        shape = (*self.batch, widest, self.shape[1])
        refuse_if_too_large(shape, self.dtype, self, "Keep the map: @ multiplies without it")

    @property
    def shape(self) -> tuple[int, int]:
        return self.nodes[-1][0][1].shape[0], self.nodes[0][0][1].shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(A.dtype for A in self._parts()))

    @property
    def batch(self) -> tuple[int, ...]:
        return common_batch(self._parts(), "Substitution")

    def apply(self, columns: Array) -> Array:
        last_use = {source: l for l, edges in enumerate(self.nodes, 1) for source, _ in edges}
        values: dict[int, Array] = {0: columns}
        for l, edges in enumerate(self.nodes, start=1):
            total: Any = None
            for source, A in edges:
                term = A.apply(values[source])
                total = term if total is None else total + term
            values[l] = total
            for source, _ in edges:
                if last_use[source] == l:
                    values.pop(source, None)
        return values[len(self.nodes)]

    def transpose(self) -> Substitution:
        last = len(self.nodes)
        edges: list[list[tuple[int, LinearMap]]] = [[] for _ in range(last)]
        for l, entering in enumerate(self.nodes, start=1):
            for source, A in entering:
                edges[last - source - 1].append((last - l, A.T))
        return Substitution(edges)

    def _dense(self) -> Array:
        values: list[Any] = [np.eye(self.shape[1], dtype=self.dtype)]
        for edges in self.nodes:
            values.append(sum(A.to_dense() @ values[source] for source, A in edges))
        return np.array(np.broadcast_to(values[-1], (*self.batch, *self.shape)))

    def _sparse(self) -> Any:
        from scipy.sparse import eye_array

        values: list[Any] = [eye_array(self.shape[1], dtype=self.dtype)]
        for edges in self.nodes:
            values.append(sum(A.to_sparse() @ values[source] for source, A in edges))
        return values[-1].tocsr()

    @property
    def flops(self) -> float:
        additions = sum((len(edges) - 1) * edges[0][1].shape[0] for edges in self.nodes)
        return sum(A.flops for A in self._parts()) + additions

    def magnitude(self) -> Substitution | None:
        nodes = []
        for edges in self.nodes:
            entering = [(source, A.magnitude()) for source, A in edges]
            if any(A is None for _, A in entering):
                return None
            nodes.append(entering)
        return Substitution(nodes)

    def roundings(self) -> Any:
        """Count along the path that meets most: its maps, contractions and additions.

        Forwards a node adds up what enters it, backwards what leaves it; the larger count holds for
        both.
        """
        return np.maximum(self._met(), self.transpose()._met())

    def _met(self) -> Any:
        met: list[Any] = [0]  # by what goes in, on the way to each node
        width: list[int] = [0]  # of the contraction that is open there, 0 at the entry
        for edges in self.nodes:
            counts = []
            for source, A in edges:
                contraction = 0 if A.monomial else width[source]
                counts.append(met[source] + A.roundings() + contraction)
            most: Any = counts[0]
            for count in counts[1:]:
                most = np.maximum(most, count)
            met.append(most + len(edges) - 1)
            width.append(edges[0][1].shape[0])
        return met[-1]

    def reach(self) -> float:
        # every map's is at least 1, so that paths from end to end reach as far as any part of them
        through = [1.0]
        for edges in self.nodes:
            through.append(sum(A.reach() * through[source] for source, A in edges))
        return through[-1]

    def underflow(self) -> float:
        return sum(A.underflow() for A in self._parts()) * self.reach()

    def __repr__(self) -> str:
        return f"{super().__repr__()}: {len(self._parts())} edges into {len(self.nodes)} nodes"


def _read_by_the_last(nodes: Nodes) -> Nodes:
    """Leave out the nodes that the last one does not read, in one step or in several."""
    read = {0, len(nodes)}
    for l in range(len(nodes), 0, -1):
        if l in read:
            read.update(source for source, _ in nodes[l - 1])
    number = {l: k for k, l in enumerate(sorted(read))}
    kept = (nodes[l - 1] for l in sorted(read - {0}))
    return tuple(tuple((number[source], A) for source, A in edges) for edges in kept)


def _edge(edge: Any) -> tuple[int, LinearMap]:
    """Check one edge of a node: where it comes from, and its map."""
    items = as_items(edge, "Substitution: nodes")
    if len(items) != 2:
        raise ShapeError(
            f"Substitution: nodes: expected pairs (source, map), but got {edge!r:.80}."
        )
    return as_count(items[0], "Substitution: nodes", 0), as_map(items[1], "Substitution: edge")


@dataclass(frozen=True, eq=False, repr=False)
class BlockDiagonal(LinearMap):
    """A stack of matrices along the diagonal: every row of a value has its own.

    Parameters
    ----------
    blocks : map with a batch of (B * count,)
        The blocks of all points, point by point.
    count : int
        Blocks in one matrix.
    stacked : bool
        Whether this is one matrix (False, and the batch of ``blocks`` is ``(count,)``) or one per
        point.

    >>> from jacobians.maps import Diagonal
    >>> BlockDiagonal(Diagonal([[1.0, 2.0], [3.0, 4.0]]), 2, stacked=False)
    BlockDiagonal 4x4 float64: 2 x (Diagonal 2x2)
    """

    blocks: LinearMap
    count: int
    stacked: bool

    composite = True

    def __post_init__(self) -> None:
        as_count(self.count, "BlockDiagonal: count")
        as_flag(self.stacked, "BlockDiagonal: stacked")
        if not isinstance(self.blocks, LinearMap):
            raise TypeError(f"BlockDiagonal: blocks: expected a map, but got {self.blocks!r:.80}.")
        size = self.blocks.batch[0] if self.blocks.batch else 0
        if size % self.count or (not self.stacked and size != self.count):
            raise ShapeError(
                f"BlockDiagonal: {self.count} blocks a matrix do not fit {self.blocks}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.blocks.shape
        return self.count * m, self.count * n

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.blocks.dtype

    @property
    def batch(self) -> tuple[int, ...]:
        return (self.blocks.batch[0] // self.count,) if self.stacked else ()

    def apply(self, columns: Array) -> Array:
        *lead, n, k = columns.shape
        if self.batch:
            lead = [*lead[:-1], self.batch[0]] if len(lead) else [self.batch[0]]
            if columns.shape[:-2] != tuple(lead):
                columns = np.broadcast_to(columns, (*lead, n, k))
        # the point and its block become the batch of the stack; other leading axes stay in front
        front = lead[: -1 if self.stacked else None]
        rows = columns.reshape(*front, self.blocks.batch[0], self.blocks.shape[1], k)
        blocks = self.blocks.apply(rows)
        return merged(blocks.reshape(*lead, self.count, self.blocks.shape[0], k))

    def transpose(self) -> BlockDiagonal:
        return BlockDiagonal(self.blocks.T, self.count, self.stacked)

    def _dense(self) -> Array:
        m, n = self.blocks.shape
        each = self.blocks.to_dense().reshape(-1, self.count, m, n)
        dense = np.zeros((len(each), *self.shape), self.dtype)
        for i in range(self.count):
            dense[:, i * m : (i + 1) * m, i * n : (i + 1) * n] = each[:, i]
        return dense if self.stacked else dense[0]

    def _sparse(self) -> Any:
        from scipy.sparse import block_diag

        return block_diag(list(self.blocks.to_dense()), format="csr")

    def diagonal(self) -> Array:
        m, n = self.blocks.shape
        if m != n:
            return super().diagonal()
        return self.blocks.diagonal().reshape(*self.batch, self.count * m)

    @property
    def flops(self) -> float:
        return self.count * self.blocks.flops

    @property
    def monomial(self) -> bool:
        return self.blocks.monomial

    @property
    def block_count(self) -> int:
        return self.count * self.blocks.block_count

    def block_stack(self, count: int, points: int) -> LinearMap:
        if self.stacked or points == 1:
            if self.count % count == 0:
                several = self.count // count
                return BlockDiagonal(self.blocks, several, True) if several > 1 else self.blocks
            if count % self.count == 0:
                return self.blocks.block_stack(count // self.count, points * self.count)
        return super().block_stack(count, points)

    def magnitude(self) -> BlockDiagonal | None:
        blocks = self.blocks.magnitude()
        return None if blocks is None else BlockDiagonal(blocks, self.count, self.stacked)

    def roundings(self) -> Any:
        return np.max(self.blocks.roundings())

    def reach(self) -> float:
        return self.blocks.reach()

    def underflow(self) -> float:
        return self.blocks.underflow()

    def __repr__(self) -> str:
        return f"{super().__repr__()}: {self.count} x ({self.blocks._kind()} {self._block_size()})"

    def _block_size(self) -> str:
        m, n = self.blocks.shape
        return f"{m}x{n}"
