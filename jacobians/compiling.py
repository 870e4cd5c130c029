"""Compiling: from factors and an order of association to a program.

Compiling follows the order of a plan, and nothing else; products of what all points share are done
now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.emitting import Emitter, Node
from jacobians.factors import Factor
from jacobians.grouping import block_numbers, in_blocks
from jacobians.maps.association import Order, associate, fold, reverse_order, ways
from jacobians.network import Network
from jacobians.program import Limits, Op, Program, RowSteps

_MULTIPLIED: dict[Op, Any] = {
    Op.MULTIPLY_SLOPES: np.multiply,
    Op.SCALE_ROWS: lambda d, Q: d[:, None] * Q,
    Op.SCALE_COLUMNS: np.multiply,
    Op.PRODUCT: np.matmul,
}


def compile_jacobian(
    net: Network,
    of: int,
    factors: tuple[Factor, ...],
    order: Order | None,
    valued: bool,
    limits: Limits,
) -> Program:
    """Compile ``a^of`` and the product of the factors in the given order."""
    with np.errstate(all="ignore"):
        compiler = _Compiler(net, of, factors, valued, limits)
        compiler.forward(compiler.last)
        if order is None:
            result = compiler.constant(np.ones(net.widths[of], net.dtype))
        else:
            result = fold(order, lambda k: compiler.leaf(factors[k]), compiler.multiply)
        return compiler.finish(compiler.write(result), _is_bounded(factors, net))


def compile_sweep(
    net: Network, factors: tuple[Factor, ...], forward: bool, limits: Limits
) -> Program:
    """Compile ``J v`` or ``Jᵀ c``: one row for each point, in register 1, through all factors.

    Forward, a layer's slopes are used as soon as they are there, so that none are kept.
    """
    chain = tuple(A.T for A in reversed(factors)) if forward else factors
    compiler = _Compiler(net, net.depth, chain, False, limits)
    if not forward:
        compiler.forward(compiler.last)
    width = net.widths[0 if forward else -1]
    compiler.sizes[1] = width  # which a map may copy
    row = Node(1, "stack", 1, width)
    for A in chain:
        row = compiler.apply(A, row, False)
    return compiler.finish(compiler.write(row), False)  # vectors may be of any size


def _is_bounded(factors: Iterable[Factor], net: Network) -> bool:
    bound = 1.0
    for A in factors:
        bound *= max(1.0, A.bound)
    return bool(bound < float(np.finfo(net.dtype).max) / 4)


class _Compiler(Emitter):
    """Emit the products of a plan, after the values and maps that they take."""

    in_rows = False  # whether the steps are those of some rows at a time

    def leaf(self, A: Factor) -> Node:
        """Return the node of a factor."""
        m, n = A.shape
        if A.kind == "identity":
            return Node(None, "identity", m, n)
        if A.kind not in ("diagonal", "matrix"):
            return Node(None, "factor", m, n, factor=A)
        if A.value is not None:
            return self.constant(A.value)
        kind: Any = "slopes" if A.kind == "diagonal" else "stack"
        return Node(self._register(A), kind, m, n, flat=A.flat)

    def _register(self, A: Factor) -> int:
        if A.value is not None:
            known: int = self.constant(A.value).register
            return known
        if A.source is not None:
            self.forward(A.source.node)
        elif A not in self.loaded:
            leaves = (leaf for part in A.parts for leaf in part.leaves())
            args = tuple(self._register(leaf) for leaf in leaves if leaf.kind != "identity")
            self.loaded[A] = self.emit(Op.BLOCKS, args, (block_numbers(A),), A)
        return self.loaded[A.source or A]

    # --- products of two --------------------------------------------------------------------------

    def multiply(self, left: Node, right: Node) -> Node:
        """Multiply two nodes: now if both are known, else by a step."""
        if left.kind == "identity" or right.kind == "identity":
            return right if left.kind == "identity" else left
        if left.kind == right.kind == "slopes":
            return self._step(Op.MULTIPLY_SLOPES, left, right)
        costs = ways(left.operand, right.operand)
        way = min(costs, key=costs.__getitem__)
        if way == "both":
            return self._through(left, right) or self._step(
                Op.PRODUCT, self.write(left), self.write(right)
            )
        A, X = (left, right) if way == "left" else (right, left)
        X = self.write(X)
        if A.kind != "slopes":
            return self.apply(A.factor, X, way == "left")
        left, right = (A, X) if way == "left" else (X, A)
        waiting = Node(None, "scaled", left.rows, right.columns, waiting=(left, right))
        return waiting if A.value is None or X.value is None else self.write(waiting)

    def _through(self, left: Node, right: Node) -> Node | None:
        """Multiply ``P diag(d) Q`` in one step, where that beats two."""
        if left.waiting and left.waiting[1].kind == "slopes":
            (P, d), Q = left.waiting, right
        elif right.waiting and right.waiting[0].kind == "slopes":
            P, (d, Q) = left, right.waiting
        else:
            return None
        size = P.rows * d.rows * Q.columns
        if P.kind == Q.kind == "matrix" and size <= self.limits.table:
            table = table_of(P.value, Q.value)
            if table is None:
                return None
            args = d.register, self.constant(table, made=True).register
            return self.stack(Op.TABLE, args, P.rows, Q.columns)
        if P.kind == Q.kind == "stack" and d.flat and size >= self.limits.live:
            return self.stack(Op.LIVE, (P.register, d.register, Q.register), P.rows, Q.columns)
        return None

    def _step(self, op: Op, left: Node, right: Node) -> Node:
        if left.value is not None and right.value is not None:
            return self.constant(_MULTIPLIED[op](left.value, right.value), made=True)
        args, rows = (left.register, right.register), left.rows
        if op == Op.MULTIPLY_SLOPES:
            return Node(self.emit(op, args, (0, rows)), "slopes", rows, rows)
        return self.stack(op, args, rows, right.columns)

    def write(self, node: Node) -> Node:
        """Return a node as a matrix or a stack."""
        if node.kind in ("matrix", "stack"):
            return node
        if node.kind == "scaled":
            left, right = node.waiting
            op = Op.SCALE_ROWS if left.kind == "slopes" else Op.SCALE_COLUMNS
            return self._step(op, left, right)
        if node.kind == "factor":
            return self._written(node.factor)
        node = self._slopes(node)
        return self.stack(Op.WRITE, (node.register,), node.rows, node.columns, "slopes")

    def _slopes(self, node: Node) -> Node:
        """Return an identity as a diagonal."""
        if node.kind == "identity":
            return self.constant(np.ones(node.rows, self.net.dtype))
        return node

    def _written(self, A: Any) -> Node:
        m, n = A.shape
        if A.stacked and A.blocks > 1 and self._goes_in_rows(A, min(m, n)):
            blocks = self._register(replace(A, kind="blocks", parts=(A,)))
            return self.stack(Op.WRITE, (blocks,), m, n, "blocks")
        if A.kind == "product":
            order = associate([part.operand for part in A.parts]).order
            rest = replace(A, shape=(A.parts[0].shape[1], n), parts=A.parts[1:])
            if order == reverse_order(len(A.parts)) and self._goes_in_rows(rest, m):
                return self.apply(rest, self.write(self.leaf(A.parts[0])), False)
            return self.write(fold(order, lambda k: self.leaf(A.parts[k]), self.multiply))
        if A.kind == "sum":
            return self._joined([self.leaf(part) for part in A.parts])
        if A.kind == "graph":
            return self.write(self.apply(A, Node(None, "identity", n, n), True))
        if A.value is not None:
            return self.constant(A.value.to_dense(), made=True)
        return self.stack(Op.WRITE, (self._register(A),), m, n, "map")

    def _joined(self, nodes: list[Node]) -> Node:
        """Add nodes up; diagonals come last, since they are added where they stand."""
        total, *others = sorted(nodes, key=lambda node: node.kind in ("identity", "slopes"))
        total = self.write(total) if others or total.kind == "scaled" else total
        for node in others:
            light = node.kind in ("identity", "slopes")
            node = self._slopes(node) if light else self.write(node)
            if total.value is not None and node.value is not None:
                more = np.diag(node.value) if light else node.value
                total = self.constant(total.value + more, made=True)
                continue
            if total.value is not None and not light:
                total, node = node, total
            args = total.register, node.register
            total = self.stack(Op.ADD, args, total.rows, total.columns, node.kind)
        return total

    # --- factors made of others -------------------------------------------------------------------

    def apply(self, A: Any, X: Node, left: bool) -> Node:
        """Return ``A X`` if ``left``, else ``X A``."""
        if A.kind == "map" and A.value is not None and X.kind == "matrix":
            product = A.value.apply(X.value) if left else A.value.T.apply(X.value.T).T
            return self.constant(np.ascontiguousarray(product), made=True)
        if X.kind != "identity" and self._goes_in_rows(A, X.columns if left else X.rows):
            return self._in_rows(A, self.write(X), left)
        if A.kind == "product":
            for part in reversed(A.parts) if left else A.parts:
                X = self.apply(part, X, left)
            return X
        if A.kind == "sum":
            X = X if X.kind == "identity" else self.write(X)
            return self._joined([self.apply(part, X, left) for part in A.parts])
        if A.kind == "graph":
            return self._along(A, X, left)
        if A.kind not in ("map", "blocks") or X.kind == "identity":
            return self.multiply(self.leaf(A), X) if left else self.multiply(X, self.leaf(A))
        args = self.write(X).register, self._register(A)
        if left:
            return self.stack(Op.LEFT, args, A.shape[0], X.columns)
        return self.stack(Op.RIGHT, args, X.rows, A.shape[1])

    def _along(self, A: Any, X: Node, left: bool) -> Node:
        """Pass the edges of a graph, from its first node to its last if ``left``, else back."""
        edges = [(s, l, part) for l, entering in enumerate(A.parts, 1) for s, part in entering]
        arriving: dict[int, list[Node]] = {0 if left else len(A.parts): [X]}
        for s, l, part in edges if left else edges[::-1]:
            start, stop = (s, l) if left else (l, s)
            arriving[start] = [self._joined(arriving[start])]
            arriving.setdefault(stop, []).append(self.apply(part, arriving[start][0], left))
        return self._joined(arriving[len(A.parts) if left else 0])

    def _goes_in_rows(self, A: Factor, rows: int) -> bool:
        """Tell whether many rows go through a map of a general kind, alone or with others."""
        maps = any(part.kind == "map" for part in A.leaves())
        return maps and rows >= self.limits.rows and not self.in_rows

    def _in_rows(self, A: Factor, X: Node, left: bool) -> Node:
        """Return ``A X`` or ``X A`` by the same steps, for some columns or rows of X at a time.

        A few of them stay in the cache all the way, where all of them would leave it at every map.
        """
        A = in_blocks(A, X.columns if left else X.rows)
        for leaf in A.leaves():  # loaded once for all rows
            if leaf.value is None and leaf.kind != "identity":
                self._register(leaf)
        outside, self.steps, self.in_rows = self.steps, [], True
        row = Node(X.register, "stack", X.rows, X.columns)
        steps, slots, others = self.ending_with(self.write(self.apply(A, row, left)))
        self.steps, self.in_rows = outside, False
        made = {step.out for step in steps} | {X.register}
        read = sorted({k for step in steps for k in step.args} - made)
        m, n = (A.shape[0], X.columns) if left else (X.rows, A.shape[1])
        numbers = sum(slots) + others + X.rows * X.columns + m * n
        data = RowSteps(steps, numbers, left)
        return self.stack(Op.ROWS, (X.register, *read), m, n, data)


def table_of(W: Array, V: Array) -> Array | None:
    """Return the table ``T[k, i, j] = W[i, k] V[k, j]``, (k, m, n); None if it leaves the range.

    ``W diag(d) V`` is linear in d, and this is its matrix: one product, and no scaled copy of W for
    every point.  But d does not come in between, where it may be what keeps a product in range.
    """
    table: Array = W.T[:, :, None] * V[:, None, :]
    zeros = (W.T[:, :, None] == 0) | (V[:, None, :] == 0)
    info = np.finfo(table.dtype)
    small = np.abs(table) < info.smallest_normal
    if (small & ~zeros).any() or not (np.abs(table) < info.max / 2**20).all():
        return None
    return table
