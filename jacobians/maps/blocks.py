"""Blocks: maps side by side and above one another, as ``np.block`` does it for arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_items
from jacobians.maps.base import LinearMap, common_batch, magnitudes
from jacobians.maps.elementary import as_map


@dataclass(frozen=True, eq=False, repr=False)
class Blocks(LinearMap):
    """A matrix of maps.  The derivative with respect to all parameters is one row of them.

    Parameters
    ----------
    blocks : sequence of maps, or sequence of sequences of maps
        One row of blocks, or several rows of equal length.

    Raises
    ------
    ShapeError
        If heights differ within a row or widths within a column.

    >>> J = Blocks([np.ones((2, 3)), 2 * np.eye(2)])
    >>> J
    Blocks 2x5 float64: 1 x 2 blocks
    >>> J @ np.ones(5)
    array([5., 5.])
    """

    blocks: tuple[tuple[LinearMap, ...], ...]

    composite = True

    def __init__(self, blocks: Sequence[Any]) -> None:
        rows = list(as_items(blocks, "Blocks: blocks"))
        if not rows:
            raise ValueError("Blocks: expected at least one map.")
        if not isinstance(rows[0], (list, tuple)):
            rows = [rows]
        grid = tuple(
            tuple(as_map(A, "Blocks: block") for A in as_items(row, "Blocks: blocks"))
            for row in rows
        )
        for i, row in enumerate(grid):
            if len(row) != len(grid[0]) or not row:
                raise ShapeError(f"Blocks: row {i} has {len(row)} maps, row 0 has {len(grid[0])}.")
            for j, A in enumerate(row):
                height, width = row[0].shape[0], grid[0][j].shape[1]
                if A.shape != (height, width):
                    raise ShapeError(
                        f"Blocks: block ({i}, {j}) must be {height}x{width}, but got {A}."
                    )
        object.__setattr__(self, "blocks", grid)
        common_batch(self._all(), "Blocks")

    def _all(self) -> list[LinearMap]:
        return [A for row in self.blocks for A in row]

    @property
    def shape(self) -> tuple[int, int]:
        height = sum(row[0].shape[0] for row in self.blocks)
        return height, sum(A.shape[1] for A in self.blocks[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(A.dtype for A in self._all()))

    @property
    def batch(self) -> tuple[int, ...]:
        return common_batch(self._all(), "Blocks")

    def apply(self, columns: Array) -> Array:
        ends = list(accumulate(A.shape[1] for A in self.blocks[0]))
        pieces = np.split(columns, ends[:-1], axis=-2)
        rows = []
        for row in self.blocks:
            total = row[0].apply(pieces[0])
            for A, piece in zip(row[1:], pieces[1:], strict=True):
                total = total + A.apply(piece)
            rows.append(total)
        # A row of blocks without a batch of its own follows the batch of the others.
        lead = np.broadcast_shapes(*(total.shape[:-2] for total in rows))
        rows = [np.broadcast_to(total, lead + total.shape[-2:]) for total in rows]
        return np.concatenate(rows, axis=-2)

    def transpose(self) -> Blocks:
        return Blocks([[A.T for A in column] for column in zip(*self.blocks, strict=True)])

    def _parts(self) -> list[LinearMap]:
        return self._all()

    def _dense(self) -> Array:
        dense = np.empty(self.batch + self.shape, self.dtype)
        i = 0
        for row in self.blocks:
            j = 0
            for A in row:
                height, width = A.shape
                dense[..., i : i + height, j : j + width] = A.to_dense()
                j += width
            i += row[0].shape[0]
        return dense

    def _sparse(self) -> Any:
        from scipy.sparse import block_array

        return block_array([[A.to_sparse() for A in row] for row in self.blocks], format="csr")

    @property
    def flops(self) -> float:
        additions = (len(self.blocks[0]) - 1) * self.shape[0]
        return sum(A.flops for A in self._all()) + additions

    def magnitude(self) -> Blocks | None:
        blocks = magnitudes(self._all())
        if blocks is None:
            return None
        across = len(self.blocks[0])
        return Blocks([blocks[k : k + across] for k in range(0, len(blocks), across)])

    def roundings(self) -> Any:
        K: Any = 0
        for A in self._all():
            K = np.maximum(K, A.roundings())
        return K

    def reach(self) -> float:
        return sum(A.reach() for A in self._all())

    def underflow(self) -> float:
        return sum(A.underflow() for A in self._all())

    def __repr__(self) -> str:
        return f"{super().__repr__()}: {len(self.blocks)} x {len(self.blocks[0])} blocks"
