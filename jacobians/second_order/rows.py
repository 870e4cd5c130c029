"""PointRows: the derivatives of all outputs at all points with respect to all parameters.

    R  =  the blocks  S_bᵀ dH/dtheta at x_b,  r rows for each point b, above one another

``S_b`` says which combinations of the outputs count.  With ``S Sᵀ = d²loss/da²`` the Gauss-Newton
matrix is the sum ``Rᵀ R``, with the root of the Fisher information it is the Fisher matrix, with
the cotangent ``c = dloss/da`` the rows are the gradients of single points, and with ``S = I`` the
kernel of the tangents (NTK) is ``R Rᵀ``.

R itself is never formed: products go through the network, so many points at a time as fit in a
budget of bytes, and rows come as Khatri-Rao products, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.linearization import linearize
from jacobians.losses import Loss
from jacobians.maps import Identity, LinearMap, Matrix
from jacobians.network import Network
from jacobians.second_order.khatri_rao import KhatriRao, Transposed
from jacobians.second_order.sweeps import Blocks, Sweeps, parameter_blocks
from jacobians.tracing import Trace


@dataclass(frozen=True, eq=False)
class Root:
    """``S``, m x r, at every point: which combinations of the outputs count."""

    rank: int
    rule: Any = None  # of the outputs, and targets if it takes them; every output by itself if none
    takes_targets: bool = False
    fused: bool = False  # whether the outputs are taken before the last activation

    def of(self, trace: Trace, Y: Any) -> LinearMap:
        """Return S at a trace, and the targets of its points."""
        if self.rule is None:
            return Identity(self.rank, trace.network.dtype)
        at = trace.preactivations[-1] if self.fused else trace.output
        S = self.rule(at, Y) if self.takes_targets else self.rule(at)
        return S if isinstance(S, LinearMap) else Matrix(S[:, :, None])


def outputs(net: Network) -> Root:
    """Return ``S = I``: every output by itself."""
    return Root(net.widths[-1])


def of_loss(net: Network, loss: Loss, kind: str) -> Root:
    """Return the ``root`` or ``fisher_root`` of a loss, or its ``cotangent`` as a column.

    Taken before the last activation where loss and activation are fused.
    """
    fused = loss.fused(net.layers[-1].activation)
    rank = 1 if kind == "cotangent" else net.widths[-1]
    return Root(rank, getattr(fused or loss, kind), kind != "fisher_root", fused is not None)


@dataclass(frozen=True, eq=False, repr=False)
class PointRows(LinearMap):
    """The map ``R``, shape (B r, p); its rows are ordered by point, its columns by parameter."""

    network: Network
    X: Array
    Y: Any
    root: Root
    max_bytes: int
    layers: tuple[int, ...] | None = None  # whose parameters are the columns; all unless said

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.X) * self.root.rank, self.span(max(self.blocks)).stop

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.network.dtype

    @cached_property
    def blocks(self) -> Blocks:
        """Where the parameters of each layer stand."""
        return parameter_blocks(self.network, self.layers)

    def block(self, l: int | str) -> PointRows:
        """Return the columns of the parameters of one layer."""
        l = self.network.number(l, "block: l", 1)
        if l not in parameter_blocks(self.network, (l,)):
            raise ValueError(f"block: layer {l} ({self.network.layers[l - 1]}) has no parameters.")
        return replace(self, layers=(l,))

    def span(self, l: int) -> slice:
        """Return where the columns of layer l are."""
        spans = list(self.blocks[l].values())
        return slice(spans[0].start, spans[-1].stop)

    def apply(self, columns: Array) -> Array:
        k = columns.shape[1]
        pieces = (S.T.apply(sweeps.push(columns)) for _, sweeps, S in self.pieces(k))
        return np.concatenate([columns[:0], *(piece.reshape(-1, k) for piece in pieces)])

    def apply_transposed(self, columns: Array) -> Array:
        """Return ``Rᵀ @ columns``, a sum over points."""
        k, total = columns.shape[1], np.zeros((self.shape[1], columns.shape[1]), self.dtype)
        each = columns.reshape(len(self.X), self.root.rank, k)
        for points, sweeps, S in self.pieces(k):
            total += sweeps.pull(S.apply(each[points]))
        return total

    def apply_gram(self, columns: Array) -> Array:
        """Return ``Rᵀ R @ columns``, both sweeps for a piece of the points after the other."""
        total = np.zeros((self.shape[1], columns.shape[1]), self.dtype)
        for _, sweeps, S in self.pieces(columns.shape[1]):
            total += sweeps.pull(S.apply(S.T.apply(sweeps.push(columns))))
        return total

    def transpose(self) -> LinearMap:
        return Transposed(self)

    def _dense(self) -> Array:
        none = np.empty((0, self.shape[1]), self.dtype)  # of no points
        return np.concatenate([none, *(K.to_dense() for _, [(_, K)] in self.joined())])

    def pieces(self, columns: int) -> Iterator[tuple[slice, Sweeps, LinearMap]]:
        """Cut the points so that sweeps of so many columns fit into the budget.

        Where all fit, what was seen at the points is kept for the next product.
        """
        return self._cut(4 * sum(self.network.widths) * max(columns, 1))

    def by_layer(self) -> Iterator[tuple[slice, Iterable[tuple[int, KhatriRao]]]]:
        """Yield, for a piece of the points after the other, the rows of every layer."""
        spans = [self.span(l) for l, width in self.lefts.items() if not width]
        explicit = sum(span.stop - span.start for span in spans)
        yield from self._rows(explicit)

    def joined(self) -> Iterator[tuple[slice, Iterable[tuple[int, KhatriRao]]]]:
        """Yield the same of all layers side by side, written out, as if of a layer 0."""
        for points, rows in self._rows(2 * self.shape[1]):
            by_layer = dict(rows)
            R = np.concatenate([by_layer[l].to_dense() for l in sorted(by_layer)], axis=1)
            ones = np.ones((points.stop - points.start, 1), self.dtype)
            yield points, [(0, KhatriRao(ones, R.reshape(len(ones), self.root.rank, -1)))]

    def outer_products(self) -> Iterator[Iterable[tuple[int, Array, Array]]]:
        """Yield, for a piece of the points after the other, the products that rows are made of."""
        for _, sweeps, S in self._root_pieces(0):
            yield sweeps.outer_products(S)

    def _rows(self, explicit: int) -> Iterator[tuple[slice, Iterable[tuple[int, KhatriRao]]]]:
        for points, sweeps, S in self._root_pieces(explicit):
            yield points, sweeps.rows(S)

    def _root_pieces(self, explicit: int) -> Iterator[tuple[slice, Sweeps, Array]]:
        r, m = self.root.rank, self.network.widths[-1]
        for points, sweeps, S in self._cut(r * (4 * sum(self.network.widths) + 2 * explicit)):
            yield points, sweeps, np.broadcast_to(S.to_dense(), (points.stop - points.start, m, r))

    @cached_property
    def lefts(self) -> dict[int, int]:
        """For every layer the width of ``(a, 1)``; 0 where rows are no Kronecker products."""
        sweeps, widths = self._at(slice(0, 1))[1], dict.fromkeys(self.blocks, 0)
        for l in self.blocks:
            if (pair := sweeps.outer(l)) and pair[0].shape[1] == 1:
                widths[l] = pair[0].shape[2]
        return widths

    def _cut(self, numbers: int) -> Iterator[tuple[slice, Sweeps, LinearMap]]:
        B = len(self.X)
        count = max(1, self.max_bytes // (numbers * self.dtype.itemsize))
        if 0 < B <= count:
            yield self._all
            return
        for start in range(0, B, count):
            yield self._at(slice(start, min(start + count, B)))

    @cached_property
    def _all(self) -> tuple[slice, Sweeps, LinearMap]:
        return self._at(slice(0, len(self.X)))

    def _at(self, points: slice) -> tuple[slice, Sweeps, LinearMap]:
        lin = linearize(self.network, self.X[points])
        S = self.root.of(lin.trace, None if self.Y is None else self.Y[points])
        return points, Sweeps(lin, self.blocks, self.root.fused), S
