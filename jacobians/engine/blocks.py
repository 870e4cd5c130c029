"""Maps made of equal blocks along the diagonal: the blocks are multiplied before anything large.

What acts on every token alone is such a map, and so is a product of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.factors import Factor
from jacobians.maps import (
    BlockDiagonal,
    Diagonal,
    Identity,
    LinearMap,
    Matrix,
    Product,
    Sum,
    blocks_of,
)
from jacobians.maps.elementary import unchecked


def multiply_blocks(A: Factor, held: dict[int, Any], left: bool) -> None:
    """Multiply those factors inside A that are products of blocks, and add them to ``held``."""
    if A.kind == "blocks":
        whole = _as_map(A, held, left, None)
        stack = unchecked(Matrix, blocks_of(whole))
        held[id(A)] = BlockDiagonal(stack, whole.block_count, bool(whole.batch))
        return
    for part in A.members():
        multiply_blocks(part, held, left)


def write_blocks(A: Factor, out: Array | None, held: Sequence[Any]) -> Array:
    """Write a factor that is made of blocks: their products, and zeros beside them."""
    whole = _as_map(A, dict(zip(map(id, A.leaves()), held, strict=True)), True, held[0].dtype)
    blocks, count = blocks_of(whole), whole.block_count
    *_, m, n = blocks.shape
    if out is None:
        out = np.empty((A.shape[0], len(blocks) // count, A.shape[1]), blocks.dtype)
    out[...] = 0
    for k in range(count):
        out[k * m : (k + 1) * m, :, k * n : (k + 1) * n] = blocks[k::count].transpose(1, 0, 2)
    return out


def _as_map(A: Factor, held: dict[int, Any], left: bool, dtype: Any) -> LinearMap:
    """Compose the map that a factor is, from what is held of its parts; else its transpose."""
    parts = [_as_map(part, held, left, dtype) for part in A.parts]
    if A.kind == "sum":
        return Sum(parts)
    if parts:
        return Product(parts if left else parts[::-1])
    if A.kind == "identity":
        return Identity(A.shape[0], dtype)
    B = held[id(A)]
    return unchecked(Diagonal, B) if A.kind == "diagonal" else B
