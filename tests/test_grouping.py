"""Neighbours made of equal blocks: joined where their product costs a row no more than they do."""

from math import gcd

import numpy as np
import pytest

from jacobians.factors import Factor
from jacobians.grouping import MOVING, block_numbers, in_blocks


def blocks(count, m, n, flops=None):
    """A map of so many blocks m x n along its diagonal."""
    flops = 2.0 * count * m * n if flops is None else flops
    return Factor("A", "map", (count * m, count * n), flops, block_count=count)


def diagonal(n):
    return Factor("D", "diagonal", (n, n), float(n))


def product(*parts):
    shape = parts[0].shape[0], parts[-1].shape[1]
    return Factor("P", "product", shape, sum(part.flops for part in parts), parts=parts)


MANY = 10**9  # rows
A, B, C, D = blocks(4, 3, 5), blocks(4, 5, 2), blocks(4, 2, 7), diagonal(20)


def joined(*parts, rows=MANY):
    """Say for every factor of a product which parts it is made of."""
    result = in_blocks(product(*parts), rows)
    assert (result.kind, result.shape) == ("product", product(*parts).shape)
    groups = []
    for part in result.parts:
        groups.append(list(part.parts) if part.kind == "blocks" else [part])
        if part.kind == "blocks":
            m, n = part.parts[0].shape[0], part.parts[-1].shape[1]
            assert part.shape == (m, n)
            assert part.blocks == gcd(*(one.blocks for one in part.parts))
            assert part.flops == 2 * m * n / part.blocks
            assert part.flops <= sum(one.flops for one in part.parts)
    assert [one for group in groups for one in group] == list(parts)
    return [len(group) for group in groups]


def test_neighbours_are_joined_while_a_row_pays_no_more_for_their_product():
    """Two and three maps, with diagonals between them; not two diagonals alone."""
    assert joined(A, B) == [2]
    assert joined(A, B, C) == [2, 1]  # 3 x 7 numbers of a block are more than 3 x 2 and 2 x 7
    assert joined(blocks(4, 9, 3), A, B) == [1, 2]  # 9 x 5 for 9 x 3 and 3 x 5
    thin = blocks(4, 3, 1)
    assert joined(A, B, blocks(4, 2, 3)) == [3]
    assert joined(A, D, B) == [3]
    assert joined(D, B) == joined(A, D) == [2]
    assert joined(D, D) == [1, 1]
    assert joined(thin, blocks(4, 1, 3)) == [1, 1]  # 9 numbers of a block, and not 3 + 3
    equal = blocks(4, 3, 2), blocks(4, 2, 6)  # 18 numbers in place of 6 + 12
    assert joined(*equal) == [2]
    assert joined(blocks(4, 3, 2), blocks(4, 2, 6, flops=95.9)) == [1, 1]
    assert joined(A, B, blocks(4, 2, 2), blocks(4, 2, 2)) == [4]


def test_only_what_has_blocks_in_common_is_joined():
    """Maps, diagonals and what was joined: four and six blocks are two of both."""
    left, right = blocks(4, 3, 3), blocks(6, 2, 2)
    assert left.shape == right.shape
    assert joined(left, right) == [1, 1]  # two blocks of 6 x 6: 144 operations for 72 and 48
    cheap = [Factor("A", "map", (12, 12), 72.0, block_count=count) for count in (4, 6)]
    assert joined(*cheap) == [2]
    assert joined(blocks(4, 3, 3, 500.0), blocks(3, 4, 4, 500.0)) == [1, 1]  # none in common
    assert joined(blocks(2, 6, 6, 500.0), blocks(4, 3, 3, 500.0)) == [2]
    for other in ("matrix", "sum", "identity"):
        parts = (blocks(12, 1, 1, 500.0),) if other == "sum" else ()
        alone = Factor("X", other, (12, 12), 500.0, parts=parts)
        for some in ((alone, left), (left, alone)):
            kinds = [part.kind for part in in_blocks(product(*some), MANY).parts]
            assert kinds == [part.kind for part in some]


def test_blocks_are_multiplied_where_enough_rows_pass():
    """A row saves operations and the moving of what is between; the product takes as many
    operations for a column of a block as the parts take for one."""
    first, second, third = blocks(4, 30, 50), blocks(4, 50, 20), blocks(4, 20, 30)
    for parts in ((first, second), (first, diagonal(200), second), (first, second, third)):
        whole = in_blocks(product(*parts), MANY).parts[0]
        between = sum(sum(part.shape) for part in parts[1:])
        each = sum(part.flops for part in parts)
        saved = each + MOVING * between - whole.flops
        rows = int(np.ceil(each * whole.shape[1] / whole.blocks / saved))
        assert rows > 1
        assert joined(*parts, rows=rows) == [len(parts)]
        assert joined(*parts, rows=rows - 1) == [1] * len(parts)


def test_blocks_are_looked_for_in_sums_and_graphs_too():
    """In the products inside; terms of a sum are no neighbours."""
    inner = product(A, B)
    total = Factor("S", "sum", inner.shape, 2 * inner.flops, parts=(inner, inner))
    for term in in_blocks(total, MANY).parts:
        assert [part.kind for part in term.parts] == ["blocks"]
    flat = Factor("S", "sum", A.shape, 2 * A.flops, parts=(A, A))
    assert in_blocks(flat, MANY).parts == (A, A)
    graph = Factor("G", "graph", inner.shape, 0.0, parts=(((0, inner),), ((0, total), (1, D))))
    ((first, (part,)),) = [(s, f.parts) for s, f in in_blocks(graph, MANY).parts[0]]
    assert (first, part.kind) == (0, "blocks")
    second, last = in_blocks(graph, MANY).parts[1]
    assert (second[0], last[0], last[1]) == (0, 1, D)
    assert second[1].parts[0].parts[0].kind == "blocks"
    assert in_blocks(A, MANY) is A
    assert in_blocks(D, MANY) is D


@pytest.mark.parametrize("parts", [(A, B), (A, D, B), (A, B, blocks(4, 2, 3))])
def test_the_numbers_of_blocks_are_those_of_a_column_on_its_way(parts):
    """Of every block, all its columns: what enters each part, and what leaves the first."""
    whole = Factor("", "blocks", product(*parts).shape, 1.0, parts=parts)
    passed = sum(part.shape[0] for part in parts) + parts[-1].shape[1]
    assert block_numbers(whole) == passed * whole.shape[1] // 4
    nested = (product(*parts[:2]), *parts[2:])
    assert block_numbers(Factor("", "blocks", whole.shape, 1.0, parts=nested)) == (
        block_numbers(whole)
    )
