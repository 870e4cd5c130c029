"""From a plan to a program: which product where, and what is known before any point is.

Factors that all points share are multiplied now; the order of the plan decides the rest.  The
choices between equal products are made here too, each with its measured reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import jacobians.engine.products as products
from jacobians._checks import Array
from jacobians._sigma import INTO_MEMORY
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.engine.forward import Forward, is_known, slope_formula
from jacobians.engine.memory import Pool
from jacobians.engine.point import WRITTEN_OUT_WIDTH
from jacobians.engine.program import (
    Kernel,
    Kind,
    Load,
    Program,
    Step,
    as_stack,
)
from jacobians.engine.ranges import products_stay_in_range, safe_radius
from jacobians.factors import Factor, Index, known_value
from jacobians.linearization import activation_map, layer_map
from jacobians.maps.association import Order
from jacobians.maps.base import LinearMap
from jacobians.network import Network
from jacobians.planning import Plan

# A table replaces the scaled copy of a matrix for every point by one product; up to this many
# entries it stays in the second-level cache.
TABLE_ENTRIES = 32_768
# Gathering the live units costs some ten microseconds a point; from a product of this many
# multiplications on, the half that is saved is more.
LIVE_MULTIPLICATIONS = 1_000_000

_FLAT = ("relu", "relu6", "hard_tanh", "hard_sigmoid")  # slopes that are 0 on half a line or more


@dataclass(frozen=True)
class _Node:
    """A factor or partial product: the register it will be in, and its value if that is known."""

    slot: int
    kind: Kind
    rows: int
    columns: int
    known: Any = None
    flat: bool = False  # slopes of which many are exactly 0
    made: bool = False  # by a step, so that its memory is ours


def compile_program(net: Network, plan: Plan) -> Program:
    """Bind a plan to the arrays of a network."""
    with np.errstate(all="ignore"):  # the engine looks at the result, where that is needed
        compiler = _Compiler(net, plan)
        if plan.association is None:
            result = compiler.constant(np.eye(plan.shape[0], dtype=net.dtype), "matrix")
        else:
            result = compiler.visit(plan.association.order)
    return Program(
        layers=tuple(Forward(layer, compiler.slabs) for layer in net.layers[: plan.of]),
        loads=tuple(tuple(loads) for loads in compiler.loads),
        constants=tuple(compiler.constants),
        steps=tuple(compiler.steps),
        result=result.slot,
        kind=result.kind,
        radius=safe_radius(net, plan.of),
        known=all(is_known(layer) for layer in net.layers[: plan.of]),
        tame=products_stay_in_range(net, plan.of, plan.wrt),
    )


class _Compiler:
    """Collects registers, loads and steps while it walks through the order of the plan."""

    def __init__(self, net: Network, plan: Plan) -> None:
        self.slabs, self.threads = plan.threads > 1, plan.allowed
        self.constants: list[Any] = []
        self.loads: list[list[Load]] = [[] for _ in range(plan.of)]
        self.steps: list[Step] = []
        self.leaves = [self._leaf(net, factor) for factor in plan.factors]

    def constant(self, value: Array, kind: Kind) -> _Node:
        """Keep a value that is known now."""
        self.constants.append(value)
        m, n = value.shape[0], value.shape[-1]
        return _Node(len(self.constants) - 1, kind, m, n, value)

    def visit(self, order: Order) -> _Node:
        """Multiply a run of factors in the order of the plan."""
        if isinstance(order, int):
            return self.leaves[order]
        a, b = order
        if isinstance(a, tuple) and isinstance(b, tuple):
            b = _first_alone(b)  # diag(d) (X Y) = (diag(d) X) Y, and so d meets what is left of it
        if self._is_slopes(b, 0):
            left, d, right = self.visit(a), self.leaves[b[0]], self.visit(b[1])
            return self._through(left, d, right) or self._meet(left, self._meet(d, right))
        if self._is_slopes(a, 1):
            left, d, right = self.visit(a[0]), self.leaves[a[1]], self.visit(b)
            return self._through(left, d, right) or self._meet(self._meet(left, d), right)
        return self._meet(self.visit(a), self.visit(b))

    # --- the factors ------------------------------------------------------------------------------

    def _leaf(self, net: Network, factor: Factor) -> _Node:
        known = known_value(net, factor)
        if known is not None:
            return self.constant(known, "matrix" if known.ndim == 2 else "slopes")
        layer = net.layers[factor.layer - 1]
        if factor.name[0] == "D":
            return self._activation_leaf(layer.activation, factor)
        return self._loaded(
            lambda z, a, pool: factor.chosen(_stack(layer_map(layer, a), a)), "stack", factor
        )

    def _activation_leaf(self, sigma: AnyActivation, factor: Factor) -> _Node:
        if isinstance(sigma, Activation):
            formula = slope_formula(sigma)
            load = _load_slopes(formula, factor.rows)
            return self._loaded(load, "slopes", factor, flat=sigma.name in _FLAT)
        if factor.operand.kind == "low rank" and factor.operand.columns > WRITTEN_OUT_WIDTH:
            return self._loaded(lambda z, a, pool: sigma.parts(z), "parts", factor)
        return self._loaded(
            lambda z, a, pool: factor.chosen(_activation_stack(sigma, z)), "stack", factor
        )

    def _loaded(
        self,
        value: Callable[[Array, Array, Any], Any],
        kind: Kind,
        factor: Factor,
        flat: bool = False,
    ) -> _Node:
        self.constants.append(None)
        slot = len(self.constants) - 1
        self.loads[factor.layer - 1].append(Load(value, slot))
        return _Node(slot, kind, factor.operand.rows, factor.operand.columns, None, flat)

    def _is_slopes(self, order: Order, place: int) -> bool:
        """Tell whether a pair of orders has slopes, one vector per point, at a place."""
        if not isinstance(order, tuple) or not isinstance(order[place], int):
            return False
        leaf = self.leaves[order[place]]
        return leaf.kind == "slopes" and leaf.known is None

    # --- the products -----------------------------------------------------------------------------

    def _through(self, left: _Node, d: _Node, right: _Node) -> _Node | None:
        """Multiply ``left diag(d) right`` in one step, where that beats two."""
        kinds, size = (left.kind, right.kind), left.rows * d.rows * right.columns
        if kinds == ("matrix", "matrix") and size <= TABLE_ENTRIES:
            table = self.constant(products.table_of(left.known, right.known), "matrix")
            kernel = products.by_table_in_slabs if self.slabs else products.by_table
            return self._step(kernel, (d, table), "stack", left.rows, right.columns)
        if kinds == ("stack", "stack") and d.flat and size >= LIVE_MULTIPLICATIONS:
            sources = (left, d, right)
            kernel = products.point_by_point(self.threads)
            return self._step(kernel, sources, "stack", left.rows, right.columns)
        return None

    def _meet(self, left: _Node, right: _Node) -> _Node:
        """Multiply two nodes: now if both are known, else by a step."""
        if left.kind == "parts" and right.kind in ("slopes", "parts"):
            left = self._written_out(left)
        if right.kind == "parts" and left.kind == "slopes":
            right = self._written_out(right)
        diagonal = left.kind == right.kind == "slopes"
        kernel = self._kernel(left.kind, right.kind)
        if left.known is not None and right.known is not None:
            known = kernel(left.known, right.known, None)
            return self.constant(known, "slopes" if diagonal else "matrix")
        kind: Kind = "slopes" if diagonal else "stack"
        return self._step(kernel, (left, right), kind, left.rows, right.columns)

    def _kernel(self, left: Kind, right: Kind) -> Kernel:
        if left == right == "slopes":
            return products.multiply_slopes
        if left == "slopes":
            return products.scale_rows
        if right == "slopes":
            return products.scale_columns
        if left == "parts":
            return products.parts_by_matrix
        if right == "parts":
            return products.matrix_by_parts
        if left == right == "matrix":
            return products.matrix_by_matrix
        if left == right == "stack":
            return products.stack_by_stack
        if left == "matrix":
            return products.matrix_by_stack
        return products.stack_by_matrix_in_slabs if self.slabs else products.stack_by_matrix

    def _step(
        self, kernel: Kernel, sources: tuple[_Node, ...], kind: Kind, rows: int, columns: int
    ) -> _Node:
        used_up = tuple(node.slot for node in sources if node.known is None)
        shape = (rows, 0, columns) if kind == "stack" else (0, rows)
        in_place = kernel is products.scale_columns and sources[0].made
        slots = tuple(node.slot for node in sources)
        self.steps.append(Step(kernel, slots, used_up, shape, in_place))
        return _Node(used_up[0], kind, rows, columns, made=True)

    def _written_out(self, node: _Node) -> _Node:
        def write_out(value: Any, out: Array | None) -> Array:
            return as_stack(value, node.kind)

        return self._step(write_out, (node,), "stack", node.rows, node.columns)


def _first_alone(order: Order) -> Order:
    """Write the product of a run as its first factor times the rest."""
    a, b = order
    if isinstance(a, int):
        return order
    first, rest = _first_alone(a)
    return first, (rest, b)


def _load_slopes(formula: Callable[..., Array], rows: Index | None) -> Callable[..., Array]:
    """Return the load that puts slopes into a register."""
    if rows is not None:
        return lambda z, a, pool: formula(z)[:, rows]
    if formula not in INTO_MEMORY:
        return lambda z, a, pool: formula(z)

    def load(z: Array, a: Array, pool: Pool | None) -> Array:
        return formula(z) if pool is None else formula(z, out=pool.take(z.shape))

    return load


def _activation_stack(sigma: AnyActivation, z: Array) -> Array:
    if isinstance(sigma, VectorActivation):
        return sigma.matrix(z).transpose(1, 0, 2)
    return _stack(activation_map(sigma, z), z)


def _stack(A: LinearMap, z: Array) -> Array:
    """Write a map of a user's own layer out, one matrix per point."""
    stacked = np.broadcast_to(A.to_dense(), (*z.shape[:-1], *A.shape))
    return stacked.transpose(1, 0, 2)
