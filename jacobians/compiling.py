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
from jacobians.grouping import in_blocks
from jacobians.maps.association import Order, associate, fold, reverse_order, ways
from jacobians.network import Network
from jacobians.program import Limits, Op, Program

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
    shape: tuple[int, int],
    valued: bool,
    limits: Limits,
) -> Program:
    """Compile ``a^of`` and the product of the factors in the given order."""
    with np.errstate(all="ignore"):
        compiler = _Compiler(net, of, factors, valued, limits)
        compiler.forward(compiler.last)
        if order is None:
            result = compiler.constant(np.ones(shape[0], net.dtype), "slopes", *shape)
        else:
            result = fold(order, lambda k: compiler.leaf(factors[k]), compiler.multiply)
        return compiler.finish(result, _is_bounded(factors, net))


def compile_sweep(
    net: Network, factors: tuple[Factor, ...], forward: bool, limits: Limits
) -> Program:
    """Compile ``J v`` or ``Jᵀ c``: one row for each point, in register 1, through all factors.

    Forward, a layer's slopes are used as soon as they are there, so that none are kept.
    """
    with np.errstate(all="ignore"):
        chain = tuple(A.T for A in reversed(factors)) if forward else factors
        compiler = _Compiler(net, net.depth, chain, False, limits)
        if not forward:
            compiler.forward(compiler.last)
        width = net.widths[0 if forward else -1]
        row = compiler.node(1, "stack", 1, width)
        for A in chain:
            row = compiler.apply_right(row, A)
        return compiler.finish(row, _is_bounded(factors, net))


def _is_bounded(factors: Iterable[Factor], net: Network) -> bool:
    bound = 1.0
    for A in factors:
        bound *= max(1.0, A.bound)
    return bool(bound < float(np.finfo(net.dtype).max) / 4)


class _Compiler(Emitter):
    """Emit the products of a plan, after the values and maps that they take."""

    # --- products ---------------------------------------------------------------------------------

    def leaf(self, A: Factor) -> Node:
        """Return the node of a factor."""
        m, n = A.shape
        if A.kind == "identity":
            return Node(-1, "identity", m, n)
        if A.kind not in ("diagonal", "matrix"):
            return Node(-1, "factor", m, n, factor=A)
        if A.value is not None:
            return self.constant(A.value, "slopes" if A.kind == "diagonal" else "matrix", m, n)
        kind: Any = "slopes" if A.kind == "diagonal" else "stack"
        return Node(self._register(A), kind, m, n, flat=A.flat)

    def _register(self, A: Factor) -> int:
        if A.value is not None:
            return self.constant(A.value, "factor", *A.shape).register
        assert A.source is not None
        self.forward(A.source.node)
        return self.loaded[A.source]

    def multiply(self, left: Node, right: Node) -> Node:
        """Multiply two nodes: now if both are known, else by a step."""
        if left.kind == "identity" or right.kind == "identity":
            return right if left.kind == "identity" else left
        if left.kind == right.kind == "slopes":
            return self._step(Op.MULTIPLY_SLOPES, left, right, "slopes")
        costs = ways(left.operand, right.operand)
        way = min(costs, key=costs.__getitem__)
        if way == "left" and left.kind == "slopes":
            return self._scaled(left, self.write(right))
        if way == "right" and right.kind == "slopes":
            return self._scaled(self.write(left), right)
        if way == "left":
            return self.apply_left(left.factor, self.write(right))
        if way == "right":
            return self.apply_right(self.write(left), right.factor)
        return self._through(left, right) or self._step(
            Op.PRODUCT, self.write(left), self.write(right)
        )

    def _scaled(self, left: Node, right: Node) -> Node:
        if left.value is not None and right.value is not None:
            op = Op.SCALE_ROWS if left.kind == "slopes" else Op.SCALE_COLUMNS
            return self._step(op, left, right)
        return Node(-1, "scaled", left.rows, right.columns, waiting=(left, right))

    def _through(self, left: Node, right: Node) -> Node | None:
        """Multiply ``P diag(d) Q`` in one step, where that beats two."""
        if left.waiting and left.waiting[1].kind == "slopes":
            (P, d), Q = left.waiting, right
        elif right.waiting and right.waiting[0].kind == "slopes":
            P, (d, Q) = left, right.waiting
        else:
            return None
        size = P.rows * d.rows * Q.columns
        if P.kind == Q.kind == "matrix" and d.value is None and size <= self.limits.table:
            table = table_of(P.value, Q.value)
            if table is None:
                return None
            self.constant_bytes += table.nbytes
            node = self.constant(table, "matrix", P.rows, Q.columns)
            return self._step(Op.TABLE, d, node._replace(value=None), data=(P, Q))
        if P.kind == Q.kind == "stack" and d.flat and size >= self.limits.live:
            out = self.emit(Op.LIVE, (P.register, d.register, Q.register), (P.rows, 0, Q.columns))
            return Node(out, "stack", P.rows, Q.columns)
        return None

    def _step(self, op: Op, left: Node, right: Node, kind: Any = "stack", data: Any = None) -> Node:
        rows, columns = left.rows, right.columns
        if left.value is not None and right.value is not None:
            product = _MULTIPLIED[op](left.value, right.value)
            self.constant_bytes += product.nbytes
            return self.constant(product, "slopes" if kind == "slopes" else "matrix", rows, columns)
        rows = right.rows if op == Op.TABLE else rows
        shape = (0, rows) if kind == "slopes" else (rows, 0, columns)
        out = self.emit(op, (left.register, right.register), shape, data)
        return Node(out, kind, rows, columns)

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
        if node.kind == "identity":
            node = self.constant(np.ones(node.rows, self.net.dtype), "slopes", *node[2:4])
        shape = (node.rows, 0, node.columns)
        return Node(self.emit(Op.WRITE, (node.register,), shape), "stack", *node[2:4])

    def _written(self, A: Any) -> Node:
        m, n = A.shape
        if A.stacked and A.blocks > 1 and self._goes_whole(A, min(m, n)):
            return Node(self.emit(Op.WRITE, self._held(A), (m, 0, n), A), "stack", m, n)
        if A.kind == "product":
            order = associate([part.operand for part in A.parts]).order
            rest = replace(A, shape=(A.parts[0].shape[1], n), parts=A.parts[1:])
            if order == reverse_order(len(A.parts)) and self._goes_whole(rest, m):
                return self.apply_right(self.write(self.leaf(A.parts[0])), rest)
            return self.write(fold(order, lambda k: self.leaf(A.parts[k]), self.multiply))
        if A.kind == "sum":  # diagonals come last: they are added where they stand
            light = [part.kind in ("identity", "diagonal") for part in A.parts]
            order = sorted(range(len(light)), key=light.__getitem__)
            return self.add([self.leaf(A.parts[k]) for k in order])
        if A.kind == "graph":
            return self.write(self.apply_left(A, Node(-1, "identity", n, n)))
        if A.value is not None:
            return self._kept(A.value.to_dense())
        out = self.emit(Op.WRITE, (self._register(A),), (m, 0, n))
        return Node(out, "stack", m, n)

    def _kept(self, matrix: Array) -> Node:
        self.constant_bytes += matrix.nbytes
        return self.constant(matrix, "matrix", *matrix.shape)

    def add(self, nodes: list[Node]) -> Node:
        """Add nodes up, diagonals last."""
        total = self.write(nodes[0]) if len(nodes) > 1 else nodes[0]
        for node in nodes[1:]:
            if node.kind == "identity":
                node = self.constant(np.ones(node.rows, self.net.dtype), "slopes", *node[2:4])
            elif node.kind != "slopes":
                node = self.write(node)
            if total.value is not None and node.value is not None:
                more = np.diag(node.value) if node.kind == "slopes" else node.value
                total = self._kept(total.value + more)
                continue
            if total.value is not None and node.kind == "slopes":
                total = self._stacked(total)
            elif total.value is not None:
                total, node = node, total
            out = self.emit(
                Op.ADD, (total.register, node.register), (total.rows, 0, total.columns), node.kind
            )
            total = Node(out, "stack", total.rows, total.columns)
        return total

    def _stacked(self, node: Node) -> Node:
        out = self.emit(Op.WRITE, (node.register,), (node.rows, 0, node.columns), "matrix")
        return Node(out, "stack", node.rows, node.columns)

    def apply_right(self, P: Node, A: Any) -> Node:
        """Return ``P A``."""
        if self._goes_whole(A, P.rows):
            return self._whole(Op.RIGHT, self.write(P), A)
        if A.kind == "product":
            for part in A.parts:
                P = self.apply_right(P, part)
            return P
        if A.kind == "sum":
            P = self.write(P)
            return self._joined([self.apply_right(P, part) for part in A.parts])
        if A.kind == "graph":
            arriving: dict[int, list[Node]] = {len(A.parts): [P]}
            for l in range(len(A.parts), 0, -1):
                total = self._joined(arriving.pop(l))
                for source, part in A.parts[l - 1]:
                    arriving.setdefault(source, []).append(self.apply_right(total, part))
            return self._joined(arriving[0])
        if A.kind == "map":
            P = self.write(P)
            if P.value is not None and A.value is not None:
                return self._kept(np.ascontiguousarray(A.value.T.apply(P.value.T).T))
            return self._whole(Op.RIGHT, P, A)
        return self.multiply(P, self.leaf(A))

    def apply_left(self, A: Any, Q: Node) -> Node:
        """Return ``A Q``."""
        if Q.kind != "identity" and self._goes_whole(A, Q.columns):
            return self._whole(Op.LEFT, self.write(Q), A)
        if A.kind == "product":
            for part in reversed(A.parts):
                Q = self.apply_left(part, Q)
            return Q
        if A.kind == "sum":
            Q = Q if Q.kind == "identity" else self.write(Q)
            return self._joined([self.apply_left(part, Q) for part in A.parts])
        if A.kind == "graph":
            at = [Q]
            for edges in A.parts:
                at.append(self._joined([self.apply_left(part, at[s]) for s, part in edges]))
            return at[-1]
        if A.kind == "map" and Q.kind != "identity":
            Q = self.write(Q)
            if Q.value is not None and A.value is not None:
                return self._kept(A.value.apply(Q.value))
            return self._whole(Op.LEFT, Q, A)
        return self.multiply(self.leaf(A), Q)

    def _goes_whole(self, A: Any, rows: int) -> bool:
        """Tell whether rows pass all maps of a factor in one step, some after the others.

        A few of them stay in the cache all the way, where all of them would leave it at every map.
        """
        kinds = {part.kind for part in A.leaves()} if A.parts else ()
        return "map" in kinds and rows >= self.limits.rows

    def _whole(self, op: Op, X: Node, A: Any) -> Node:
        """Apply a factor from one side, with the maps it is made of."""
        A = in_blocks(A, X.rows if op == Op.RIGHT else X.columns)
        rows, columns = (X.rows, A.shape[1]) if op == Op.RIGHT else (A.shape[0], X.columns)
        out = self.emit(op, (X.register, *self._held(A)), (rows, 0, columns), A)
        return Node(out, "stack", rows, columns)

    def _held(self, A: Any) -> tuple[int, ...]:
        """Return the registers of the maps that a factor is made of."""
        return tuple(
            self._register(part) if part.kind == "map" else max(self.leaf(part).register, 0)
            for part in A.leaves()
        )

    def _joined(self, nodes: list[Node]) -> Node:
        """Add up what comes from several branches."""
        if len(nodes) > 1:
            light = [node.kind in ("identity", "slopes") for node in nodes]
            return self.add([nodes[k] for k in sorted(range(len(nodes)), key=light.__getitem__)])
        return nodes[0] if nodes[0].kind != "scaled" else self.write(nodes[0])


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
