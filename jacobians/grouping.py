"""Neighbours in a chain that are made of equal blocks along the diagonal, joined to one factor.

The small blocks are multiplied first, and every row then passes one map in place of several.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from jacobians.factors import Factor

MOVING = 8  # operations in the time in which a number is read and written


def in_blocks(A: Factor, rows: int) -> Factor:
    """Join neighbours inside a factor through which so many rows go, where that pays."""
    if A.kind == "graph":
        nodes = tuple(tuple((s, in_blocks(B, rows)) for s, B in edges) for edges in A.parts)
        return replace(A, parts=nodes)
    if A.kind not in ("product", "sum"):
        return A
    parts: list[Factor] = []
    for part in (in_blocks(part, rows) for part in A.parts):
        joined = _joined(parts[-1], part) if parts and A.kind == "product" else None
        parts[len(parts) - (joined is not None) :] = [joined or part]
    opened = [
        part.parts if part.kind == "blocks" and not _pays(part, rows) else (part,) for part in parts
    ]
    return replace(A, parts=sum(opened, ()))


def block_numbers(A: Factor) -> int:
    """Count the numbers of a point in a product of blocks, while they are multiplied."""
    passed = A.shape[0] + sum(leaf.shape[1] for part in A.parts for leaf in part.leaves())
    return int(A.shape[1] * passed // A.blocks)


def _joined(left: Factor, right: Factor) -> Factor | None:
    """Join two factors made of blocks, if their product does no more to a row than they do."""
    count = gcd(left.blocks, right.blocks)
    if count == 1 or not {left.kind, right.kind} <= {"map", "diagonal", "blocks"}:
        return None
    m, n = left.shape[0], right.shape[1]
    flops = 2.0 * m * n / count
    if left.kind == right.kind == "diagonal" or flops > left.flops + right.flops:
        return None
    parts = [part for A in (left, right) for part in (A.parts or (A,))]
    return Factor("", "blocks", (m, n), flops, parts=tuple(parts))


def _pays(A: Factor, rows: int) -> bool:
    """Tell whether the rows save what it takes to multiply the blocks."""
    each = sum(part.flops for part in A.parts)
    moved = MOVING * sum(sum(part.shape) for part in A.parts[1:])
    return bool(rows * (each + moved - A.flops) >= each * A.shape[1] / A.blocks)
