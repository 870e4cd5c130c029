"""The order in which a product is best multiplied out.

A matrix product is associative, its cost is not: for ``D³W³ D²W² D¹W¹`` with few outputs it pays
to start at the left (reverse mode), with few inputs at the right (forward mode), and past a
bottleneck to start in the middle.  The best order of all is found by dynamic programming over the
chain: the cheapest way to multiply factors ``i..j`` splits somewhere into two cheapest ways.

An order is a nested pair of factor numbers, counted from the left: ``((0, 1), 2)`` means
``(A_0 A_1) A_2``.  A diagonal costs one multiplication per entry it scales, so the search places it
on the smaller neighbour; factors shared by the batch are multiplied once, not once per point.

Source: T. H. Cormen et al., *Introduction to Algorithms*, section on matrix-chain multiplication;
A. Griewank and A. Walther, *Evaluating Derivatives*, chapter 10 (Jacobian accumulation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from jacobians._checks import Array, underflow_is_rounding
from jacobians.maps.base import LinearMap
from jacobians.maps.elementary import Diagonal, Identity, Matrix
from jacobians.maps.product import Product
from jacobians.maps.sums import Sum

Order: TypeAlias = Any  # int | tuple[Order, Order]; mypy has no recursive aliases under this form
T = TypeVar("T")

# Above this many factors the search over all orders gives way to one through the least width.
LONG_CHAIN = 256


def fold(order: Order, leaf: Callable[[int], T], pair: Callable[[T, T], T]) -> T:
    """Work an order out from its factors; without recursion, since orders are as deep as networks.

    >>> fold(((0, 1), 2), str, lambda left, right: f"({left} {right})")
    '((0 1) 2)'
    """
    ahead: list[Any] = [order]
    done: list[T] = []
    while ahead:
        node = ahead.pop()
        if node is None:  # both sides are done
            right = done.pop()
            done.append(pair(done.pop(), right))
        elif isinstance(node, tuple):
            ahead += [None, node[1], node[0]]
        else:
            done.append(leaf(node))
    return done[0]


@dataclass(frozen=True)
class Operand:
    """What the cost model knows of a factor.

    Attributes
    ----------
    rows, columns : int
    kind : str
        A structured factor is applied; the others multiply in their own ways.
    stacked : bool
        One per point of the batch, not one for all.
    own : float, optional
        What it costs to apply a structured factor to one column.
    written : float, optional
        What it costs to write a structured factor out; applied to an identity unless said.
    """

    rows: int
    columns: int
    kind: Literal["dense", "diagonal", "structured", "identity"] = "dense"
    stacked: bool = True
    own: float | None = None
    written: float | None = None

    @property
    def single(self) -> float:
        """Operations on one column, or on one row from the left.

        >>> Operand(30, 30).single, Operand(30, 30, "diagonal").single
        (1800.0, 30.0)
        """
        if self.own is not None:
            return self.own
        return float(_EACH.get(self.kind, 2 * self.columns) * self.rows)

    @property
    def alone(self) -> float:
        """Operations to write it out as a matrix."""
        if self.kind != "structured":
            return 0.0
        if self.written is not None:
            return self.written
        return self.single * min(self.rows, self.columns)


_EACH = {"identity": 0, "diagonal": 1}


def operand(A: LinearMap) -> Operand:
    """Describe a map to the cost model: it says itself what a column costs.

    >>> from jacobians.maps import Kronecker
    >>> operand(Kronecker(np.ones((2, 3)), Identity(4)))
    Operand(rows=8, columns=12, kind='structured', stacked=False, own=48.0, written=None)
    """
    stacked = bool(A.batch)
    if isinstance(A, Identity):
        return Operand(*A.shape, kind="identity", stacked=False)
    if isinstance(A, Diagonal):
        return Operand(*A.shape, kind="diagonal", stacked=stacked)
    if isinstance(A, Matrix):
        return Operand(*A.shape, stacked=stacked)
    return Operand(*A.shape, kind="structured", stacked=stacked, own=A.flops)


def join(left: Operand, right: Operand, batch: int = 1) -> tuple[Operand, float]:
    """Describe ``left @ right`` and count its floating-point operations per point.

    Of two structured factors the one is written out and the other applied to it.

    >>> join(Operand(2, 3), Operand(3, 4))[1], join(Operand(3, 3, "diagonal"), Operand(3, 4))[1]
    (48.0, 12.0)
    """
    if left.kind == "identity":
        return right, 0.0
    if right.kind == "identity":
        return left, 0.0
    rows, columns = left.rows, right.columns
    stacked = left.stacked or right.stacked
    share = 1.0 if stacked else 1.0 / batch
    if left.kind == right.kind == "diagonal":
        return Operand(rows, columns, "diagonal", stacked=stacked), share * rows
    return Operand(rows, columns, stacked=stacked), share * min(ways(left, right).values())


def ways(left: Operand, right: Operand) -> dict[str, float]:
    """Count the operations of every way to multiply two factors that are not both diagonal.

    The left one is applied to the right one, which is written out first; or the other way round; or
    both are written out.  A diagonal is always applied.  Of two that cost the same the first is
    better: rows are contiguous.

    >>> ways(Operand(5, 9), Operand(9, 9, "structured", own=20.0))
    {'right': 100.0, 'both': 990.0}
    """
    costs = {}
    if right.kind in ("diagonal", "structured") and left.kind != "diagonal":
        costs["right"] = left.alone + right.single * left.rows
    if left.kind in ("diagonal", "structured"):
        costs["left"] = right.alone + left.single * right.columns
    if "diagonal" not in (left.kind, right.kind):
        costs["both"] = left.alone + right.alone + 2.0 * left.rows * left.columns * right.columns
    return costs


def flops(operands: Sequence[Operand], order: Order, batch: int = 1) -> float:
    """Count the operations per point of one order.

    >>> chain = [Operand(2, 30), Operand(30, 30), Operand(30, 40)]
    >>> flops(chain, ((0, 1), 2)), flops(chain, (0, (1, 2)))
    (8400.0, 76800.0)
    """
    total = 0.0

    def meet(left: Operand, right: Operand) -> Operand:
        nonlocal total
        result, joint = join(left, right, batch)
        total += joint
        return result

    result = fold(order, operands.__getitem__, meet)
    return total + result.alone


def reverse_order(count: int) -> Order:
    """From the outputs inwards, as backprop does.

    >>> reverse_order(3)
    ((0, 1), 2)
    """
    order: Order = 0
    for k in range(1, count):
        order = (order, k)
    return order


def forward_order(count: int) -> Order:
    """From the inputs outwards, as forward mode does.

    >>> forward_order(3)
    (0, (1, 2))
    """
    order: Order = count - 1
    for k in range(count - 2, -1, -1):
        order = (k, order)
    return order


@dataclass(frozen=True, eq=False)
class Association:
    """A chosen order and what it costs beside the two ordinary ones (operations per point)."""

    order: Order = field(repr=False)  # as deep as a network
    flops: float
    forward: float
    reverse: float


def associate(operands: Sequence[Operand], batch: int = 1) -> Association:
    """Find the cheapest order for a chain of factors.

    Parameters
    ----------
    operands : sequence of Operand
        Left to right, at least one.
    batch : int
        Number of points over which the cost of a shared product is spread.

    Returns
    -------
    Association

    A bottleneck in the middle is multiplied out from the middle:

    >>> best = associate([Operand(50, 50), Operand(50, 3), Operand(3, 50), Operand(50, 50)])
    >>> best.order, best.flops < min(best.forward, best.reverse)
    (((0, 1), (2, 3)), True)
    """
    count = len(operands)
    search = _search if count <= LONG_CHAIN else _through_the_narrowest
    # The ordinary orders are in the comparison, so a tie goes to the one people know.
    orders = (reverse_order(count), forward_order(count), search(operands, batch))
    costs = [flops(operands, order, batch) for order in orders]
    best = costs.index(min(costs))
    return Association(orders[best], costs[best], forward=costs[1], reverse=costs[0])


def _through_the_narrowest(operands: Sequence[Operand], batch: int) -> Order:
    """Multiply out from the least width to both ends, in linear time.

    What is left of it forward, what is right of it in reverse: every factor then meets a partial
    product that has this width.
    """
    widths = [A.columns for A in operands[:-1]]
    s = widths.index(min(widths)) + 1
    right: Order = s
    for k in range(s + 1, len(operands)):
        right = (right, k)
    return forward_order(s), right


def _search(operands: Sequence[Operand], batch: int) -> Order:
    """Dynamic programming: the cheapest way to multiply ``i..j`` splits at some ``s``.

    All runs of one length at a time: the first index of an array is ``i``, the second the split.
    """
    count = len(operands)
    rows = np.array([A.rows for A in operands], dtype=float)
    columns = np.array([A.columns for A in operands], dtype=float)
    stacked_before = np.concatenate([[0], np.cumsum([A.stacked for A in operands])])
    # what it costs to multiply one column, or one row, by a single factor
    single = np.array([A.single for A in operands])
    alone = np.array([A.alone for A in operands])
    cost = np.zeros((count, count))
    split = np.zeros((count, count))
    for i, (left, right) in enumerate(pairwise(operands)):
        cost[i, i + 1], split[i, i + 1] = join(left, right, batch)[1], i
    for length in range(2, count):
        first: Any = np.arange(count - length)
        i, j = first[:, None], first[:, None] + length
        s = i + np.arange(length)
        joint = 2 * rows[i] * columns[s] * columns[j]
        # a run of two or more factors counts as dense; a single one, at either end, is itself
        joint[:, :1] = np.minimum(joint[:, :1] + alone[i], single[i] * columns[j])
        joint[:, -1:] = np.minimum(joint[:, -1:] + alone[j], single[j] * rows[i])
        shared = stacked_before[j + 1] == stacked_before[i]
        total = cost[i, s] + cost[s + 1, j] + np.where(shared, joint / batch, joint)
        best = total.argmin(axis=1)
        split[first, first + length] = first + best
        cost[first, first + length] = total[first, best]

    return _bracketed(split)


def _bracketed(split: Any) -> Order:
    """Read the order off the best splits."""
    runs: list[Any] = [(0, len(split) - 1)]
    done: list[Order] = []
    while runs:
        run = runs.pop()
        if run is None:
            right = done.pop()
            done.append((done.pop(), right))
        elif run[0] == run[1]:
            done.append(run[0])
        else:
            s = int(split[run])
            runs += [None, (s + 1, run[1]), (run[0], s)]
    return done[0]


@underflow_is_rounding
def multiply_out(factors: Sequence[LinearMap], order: Order | None = None) -> Array:
    """Multiply a chain out to a dense matrix in the given order (by default the cheapest).

    Parameters
    ----------
    factors : sequence of maps
        Left to right; Identities are free.
    order : nested pairs of int, optional

    Returns
    -------
    array, shape (m, n) or (B, m, n)

    >>> from jacobians.maps import Matrix
    >>> multiply_out([Diagonal([2.0, 3.0]), Matrix([[1.0], [1.0]])])
    array([[2.],
           [3.]])
    """
    if order is None:
        batch = next((A.batch[0] for A in factors if A.batch), 1)
        order = associate([operand(A) for A in factors], max(batch, 1)).order

    result = fold(order, lambda k: factors[k], _times)
    return result.to_dense() if isinstance(result, LinearMap) else result


def blocks_of(A: LinearMap) -> Array:
    """Multiply out the equal blocks along the diagonal of a map, (points * count, m, n).

    >>> from jacobians.maps import Kronecker
    >>> blocks_of(Kronecker(Identity(3), [[1.0, 2.0]]) @ Diagonal(np.arange(6.0)))[2]
    array([[ 4., 10.]])
    """
    points = A.batch[0] if A.batch else 1
    dense = np.ascontiguousarray(_written(A.block_stack(A.block_count, points)))
    count = points * A.block_count
    return dense if dense.ndim == 3 else np.broadcast_to(dense, (count, *dense.shape))


def _written(A: LinearMap) -> Array:
    if isinstance(A, Product):
        return multiply_out(A.factors)
    if isinstance(A, Sum):
        return np.asarray(sum(map(_written, A.terms)))
    return A.to_dense()


def _times(left: Any, right: Any) -> Any:
    """Multiply two factors or partial results, scaling where one of them is diagonal."""
    if isinstance(left, Identity):
        return right
    if isinstance(right, Identity):
        return left
    if isinstance(left, Diagonal) and isinstance(right, Diagonal):
        return Diagonal(left.entries * right.entries)
    if isinstance(right, Matrix):
        right = right.array
    if isinstance(left, Matrix):
        left = left.array
    if isinstance(right, LinearMap):
        if isinstance(left, LinearMap):
            if left.flops * right.shape[1] > right.flops * left.shape[0]:
                return _times(left.to_dense(), right)
            return left.apply(right.to_dense())
        return np.swapaxes(right.T.apply(np.swapaxes(left, -2, -1)), -2, -1)
    return left.apply(right) if isinstance(left, LinearMap) else left @ right


def spell(order: Order, names: tuple[str, ...]) -> str:
    """Write an order with as few brackets as it takes, reading from the left.

    >>> spell(((0, 1), (2, 3)), ("D2", "W2", "D1", "W1"))
    'D2 W2 (D1 W1)'
    """
    text, _ = fold(
        order,
        lambda k: (names[k], True),
        lambda left, right: (
            f"{left[0]} {right[0]}" if right[1] else f"{left[0]} ({right[0]})",
            False,
        ),
    )
    return text
