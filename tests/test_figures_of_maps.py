"""What a map says of itself in numbers: operations, roundings, reach, blocks; in one more way."""

from functools import reduce
from itertools import pairwise
from math import gcd, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo import MAPS

import jacobians as jb
from jacobians import strategies as jst
from jacobians.maps import Convolution, Substitution
from jacobians.maps.convolution import TransposedConvolution
from jacobians.maps.selection import Scatter, _Rows


def operations(A):
    """Two for each product and sum of a contraction, one where a diagonal or a sum stands alone."""
    m, n = A.shape
    if isinstance(A, (jb.Identity, _Rows)):
        return 0
    if isinstance(A, Scatter):  # of several entries into one, every one is added
        return 0 if (np.add.reduce(A.to_dense() != 0, axis=-1) <= 1).all() else n
    if isinstance(A, jb.Diagonal):
        return n
    if isinstance(A, jb.DiagonalPlusLowRank):
        r = A.left.shape[-1]
        return 2 * n * r + 2 * n * r + n + n
    if isinstance(A, TransposedConvolution):
        return operations(A.convolution)
    if isinstance(A, Convolution):  # every kernel, at every position
        return 2 * A.kernel.size * prod(A.windows.positions)
    if isinstance(A, jb.Kronecker):  # (I ⊗ B), then (A ⊗ I)
        left, right = A.left, A.right
        return left.shape[1] * operations(right) + right.shape[0] * operations(left)
    if isinstance(A, jb.BlockDiagonal):
        return A.count * operations(A.blocks)
    own, sums = sum(map(operations, parts(A))), 0
    if isinstance(A, jb.Sum):
        sums = (len(A.terms) - 1) * m
    if isinstance(A, jb.Blocks):
        sums = sum((len(row) - 1) * row[0].shape[0] for row in A.blocks)
    if isinstance(A, Substitution):
        sums = sum((len(edges) - 1) * edges[0][1].shape[0] for edges in A.nodes)
    return own + sums if parts(A) else 2 * m * n


def parts(A):
    """The maps that one is made of."""
    for name in ("factors", "terms"):
        if hasattr(A, name):
            return list(getattr(A, name))
    if isinstance(A, jb.Kronecker):
        return [A.left, A.right]
    if isinstance(A, jb.Blocks):
        return [B for row in A.blocks for B in row]
    if isinstance(A, Substitution):
        return [B for edges in A.nodes for _, B in edges]
    return [A.blocks] if isinstance(A, jb.BlockDiagonal) else []


def largest_sum(M):
    return max(1.0, *(np.abs(M).sum(axis=axis).max(initial=0) for axis in (-2, -1)))


def reach(A):
    """The note: row and column sums of everything computed inside."""
    inside = [reach(B) for B in parts(A)]
    if isinstance(A, (jb.Product, jb.Kronecker)):
        return prod(inside)
    if isinstance(A, (jb.Sum, jb.Blocks)):
        return sum(inside)
    if isinstance(A, jb.BlockDiagonal):
        return inside[0]
    if isinstance(A, Substitution):
        return max(along_paths(A), along_paths(A.T))
    if isinstance(A, jb.DiagonalPlusLowRank):
        low_rank = largest_sum(A.left) * largest_sum(A.right)
        return np.abs(A.entries).max(initial=0) + low_rank
    return largest_sum(A.to_dense())


def along_paths(A):
    """The most that paths into a node, begun anywhere, bring; and that a map on them brings."""
    brought = [1.0]
    for edges in A.nodes:
        brought.append(max(1.0, sum(reach(B) * brought[source] for source, B in edges)))
    return max(brought + [reach(B) for B in parts(A)])


def lost(A):
    """The note: 2 (n + 2) of one contraction of width n, times the reach of what it passes."""
    one = 2 * (max(A.shape) + 2)
    if isinstance(A, (jb.Identity, _Rows, Scatter)):
        return 0  # they copy, or add
    if isinstance(A, jb.Diagonal):
        return 2
    if isinstance(A, jb.DiagonalPlusLowRank):
        return one * (1 + A.left.shape[-1] * max(largest_sum(A.left), largest_sum(A.right)))
    if isinstance(A, jb.Kronecker):
        return lost(A.left) * reach(A.right) + lost(A.right) * reach(A.left) + 4
    inside = sum(map(lost, parts(A)))
    if isinstance(A, (jb.Product, Substitution)):
        return inside * reach(A)
    return inside if parts(A) else one


def met(A):
    """The table of the note: the most roundings that a path meets inside, point by point."""
    if isinstance(A, jb.Diagonal):
        mantissas = np.abs(np.frexp(A.entries)[0])  # 1/2 of a power of two
        return 1 - np.isin(mantissas, [0, 0.5]).all(axis=-1)
    if isinstance(A, jb.DiagonalPlusLowRank):
        return A.left.shape[-1] + 1
    if isinstance(A, Substitution):
        return np.maximum(met_on_paths(A), met_on_paths(A.T))
    inside = [met(B) for B in parts(A)]
    if isinstance(A, jb.Kronecker):
        return sum(inside) + 1
    if isinstance(A, jb.Product):
        return sum(inside) + contracted(A.factors)
    more = len(A.terms) - 1 if isinstance(A, jb.Sum) else 0
    most = reduce(np.maximum, inside, 0)
    return (np.max(most) if isinstance(A, jb.BlockDiagonal) else most) + more


def contracted(factors):
    """One width for every two factors that meet, whatever scales or permutes between them."""
    heavy = [k for k, A in enumerate(factors) if not is_monomial(A)]
    total = 0
    for k, after in pairwise(heavy):
        width = factors[k].shape[1]
        for A in factors[k + 1 : after]:
            if isinstance(A, jb.Diagonal):
                width = np.minimum(width, np.maximum(1, np.count_nonzero(A.entries, axis=-1)))
        total = total + width
    return total


def met_on_paths(A):
    """Enumerate the paths of a graph."""

    def before(node):
        if node == 0:
            return [0]
        edges = A.nodes[node - 1]
        widths = {s: A.nodes[s - 1][0][1].shape[0] if s else 0 for s, _ in edges}
        return [
            so_far + met(B) + (0 if is_monomial(B) else widths[s]) + len(edges) - 1
            for s, B in edges
            for so_far in before(s)
        ]

    return reduce(np.maximum, before(len(A.nodes)))


def blocks_of_one_shape(A):
    """How many stand along the diagonal: as the structure says, not as the entries happen to."""
    if isinstance(A, (jb.Identity, jb.Diagonal)):
        return A.shape[0]
    if isinstance(A, (jb.Product, jb.Sum)):
        return reduce(gcd, map(blocks_of_one_shape, parts(A)))
    if isinstance(A, jb.BlockDiagonal):
        return A.count * blocks_of_one_shape(A.blocks)
    return A.left.shape[0] if isinstance(getattr(A, "left", None), jb.Identity) else 1


def is_monomial(A):
    """Diagonals, permutations and selections without repetition, and what they make."""
    if isinstance(A, (jb.Identity, jb.Diagonal)):
        return True
    if isinstance(A, (_Rows, Scatter)):
        dense = A.to_dense()
        return all((dense.sum(axis=axis) <= 1).all() for axis in (-2, -1))
    makes = (jb.Product, jb.Kronecker, jb.BlockDiagonal)
    return isinstance(A, makes) and all(map(is_monomial, parts(A)))


def assert_figures(A):
    for B in (A, A.T):
        assert B.flops == operations(B)
        assert B.reach() == pytest.approx(reach(B), rel=1e-12)  # sums and products in two orders
        assert B.underflow() == pytest.approx(lost(B), rel=1e-12)
        assert np.all(B.roundings() == met(B))
        assert B.block_count == blocks_of_one_shape(B)
        assert B.monomial == is_monomial(B)
        # what is made of others computes something in between, and so does U (Vᵀ x)
        assert B.composite == (bool(parts(B)) or isinstance(B, jb.DiagonalPlusLowRank))


@pytest.mark.parametrize("A", [m[1] for m in MAPS], ids=[m[0] for m in MAPS])
def test_the_figures_of_a_map_are_those_of_the_definitions(A):
    assert_figures(A)


@given(st.data(), st.sampled_from([None, 3]))
def test_the_figures_of_drawn_maps_are_those_of_the_definitions(data, batch):
    assert_figures(data.draw(jst.linear_maps(batch=batch, whole=True)))


@pytest.mark.parametrize("k", range(3))
def test_the_roundings_of_a_graph_are_those_of_its_longest_path(k):
    """Whichever of three edges into the last node it takes; added up forwards and backwards.

    Forwards three edges enter the last node, backwards two leave the first, on the wide way.
    """
    widths = [30 if i == k else 2 for i in range(3)]
    first = [np.ones((width, 3)) for width in widths]
    last = [np.ones((2, width)) for width in widths]
    branches = [[(0, A)] for A in first]
    A = Substitution([*branches, [(i + 1, B) for i, B in enumerate(last)]])
    assert A.roundings() == 30 + 2
    assert_figures(A)
    wide, narrow = (np.ones((30, 3)), np.ones((2, 30))), (np.ones((2, 3)), np.ones((2, 2)))
    uneven = Substitution(
        [
            [(0, wide[0])],
            [(0, narrow[0])],
            [(2, narrow[1])],
            [(1, wide[1]), (2, narrow[1]), (3, narrow[1])],
        ]
    )
    assert uneven.roundings() == uneven.T.roundings() == 30 + 2
    assert_figures(uneven)
