"""Registers and steps in the making: the forward pass of a program, and the memory it takes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from jacobians.activations import IDENTITY, Activation
from jacobians.factors import Factor, Source
from jacobians.grouping import block_numbers
from jacobians.layers import Dense
from jacobians.maps.association import Operand
from jacobians.network import Network
from jacobians.program import Limits, Memory, Op, Program, Step, keeps, overwritten

LENDING = (Op.CALL, Op.LAYER_MAPS, Op.ACTIVATION_MAP)


class Node(NamedTuple):
    """A partial product: its register, what that holds, and its value if all points share it.

    A product with a diagonal waits to be asked for, in case that a step takes it together with the
    next product.
    """

    register: int
    kind: Literal["identity", "slopes", "matrix", "stack", "factor", "scaled"]
    rows: int
    columns: int
    value: Any = None
    factor: Factor | None = None
    waiting: tuple[Any, ...] = ()  # two nodes
    flat: bool = False

    @property
    def operand(self) -> Operand:
        """How the planner sees it."""
        if self.factor is not None:
            return self.factor.operand
        kind: Any = {"slopes": "diagonal", "identity": "identity"}.get(self.kind, "dense")
        return Operand(self.rows, self.columns, kind, self.value is None)


class Emitter:
    """Collects registers and steps."""

    def __init__(
        self, net: Network, of: int, factors: tuple[Factor, ...], valued: bool, limits: Limits
    ) -> None:
        self.net, self.of, self.limits = net, of, limits
        self.registers: list[Any] = [None, None]  # the points, and vectors of a sweep
        self.sizes: list[int] = [0, 0]  # numbers of a point
        self.steps: list[Step] = []
        self.constant_bytes = 0
        self.z: dict[int, int] = {}
        self.a: dict[int, int] = {0: 0}
        self.loaded: dict[Source, int] = {}
        self.done, self.value = 0, 0 if valued and of == 0 else -1
        self.wanted: dict[int, dict[str, list[Factor]]] = {}
        for leaf in (leaf for A in factors for leaf in A.leaves()):
            if leaf.source is not None:
                rules = self.wanted.setdefault(leaf.source.node, {})
                rules.setdefault(leaf.source.rule, []).append(leaf)
        self.valued = valued
        self.values, self.preactivations = self._needed()
        self.last = max(self.values | self.preactivations | set(self.wanted), default=0)

    def _needed(self) -> tuple[set[int], set[int]]:
        """Return the nodes whose values, and whose preactivations, something reads."""
        values = {self.of} if self.valued else set()
        preactivations = set()
        for l in range(self.net.depth, 0, -1):
            rules = self.wanted.get(l, {})
            if l in values or "activation" in rules:
                preactivations.add(l)
            if l in preactivations or "layer" in rules:
                values.update(self.net.sources[l - 1])
        return values, preactivations

    # --- registers and steps ----------------------------------------------------------------------

    def constant(self, value: Any, kind: Any, rows: int, columns: int) -> Node:
        """Keep what is known now."""
        self.registers.append(value)
        self.sizes.append(0)
        return Node(len(self.registers) - 1, kind, rows, columns, value=value)

    def node(self, register: int, kind: Any, rows: int, columns: int) -> Node:
        """Name what a register holds."""
        return Node(register, kind, rows, columns)

    def emit(
        self, op: Op, args: tuple[int, ...], shape: tuple[int, ...], data: Any = None, node: int = 0
    ) -> int:
        """Add a step, and return the register of its result."""
        self.registers.append(None)
        self.sizes.append(int(np.prod([n or 1 for n in shape])))
        out = len(self.registers) - 1
        self.steps.append(Step(op, out, args, data, node, shape))
        return out

    # --- the forward pass -------------------------------------------------------------------------

    def forward(self, to: int) -> None:
        """Compute values up to a node, and load what is wanted on the way."""
        for l in range(self.done + 1, to + 1):
            self._node(l)
        self.done = max(self.done, to)

    def _node(self, l: int) -> None:
        net, wanted = self.net, self.wanted.get(l, {})
        layer, sources, n = net.layers[l - 1], net.sources[l - 1], net.widths[l]
        entering = tuple(self.a.get(s, -1) for s in sources)
        if "layer" in wanted:
            self._load(Op.LAYER_MAPS, entering, layer, wanted["layer"])
        if l not in self.preactivations:
            return
        if type(layer).preactivation is Dense.preactivation and layer.rows == 1:  # type: ignore[attr-defined]
            W = self.constant(layer.W.T, "matrix", *layer.W.T.shape)  # type: ignore[attr-defined]
            b = self.constant(layer.b, "slopes", n, n)  # type: ignore[attr-defined]
            z = self.emit(Op.AFFINE, (entering[0], W.register, b.register), (0, n), node=l)
        else:
            z = self.emit(Op.CALL, entering, (0, n), layer, l)
        sigma = layer.activation
        for leaf in wanted.get("activation", []):
            if leaf.kind == "diagonal" and isinstance(sigma, Activation):
                assert leaf.source is not None
                slopes = self.emit(Op.SLOPES, (z,), (0, n), sigma, l)
                if leaf.rows is not None:
                    slopes = self.emit(Op.LEAF, (slopes,), (0, len(leaf.rows)), leaf)
                self.loaded[leaf.source] = slopes
            else:
                self._load(Op.ACTIVATION_MAP, (z,), sigma, [leaf])
        if l in self.values:
            self.a[l] = z if sigma == IDENTITY else self.emit(Op.VALUE, (z,), (0, n), sigma, l)
        if l == self.of and self.valued:
            self.value = self.a[l]

    def _load(self, op: Op, args: tuple[int, ...], data: Any, leaves: list[Factor]) -> None:
        """Ask the rule for a map, and take the wanted parts out of it."""
        maps = self.emit(op, args, (2 * sum(leaf.numbers for leaf in leaves),), data)
        for leaf in leaves:
            m, n = leaf.shape
            shape = {"diagonal": (0, m), "matrix": (m, 0, n)}.get(leaf.kind, (0,))
            assert leaf.source is not None
            self.loaded[leaf.source] = self.emit(Op.LEAF, (maps,), shape, leaf)

    def write(self, node: Node) -> Node:
        """Form what waits to be asked for; the products say how."""
        raise NotImplementedError

    # --- memory -----------------------------------------------------------------------------------

    def finish(self, result: Node, bounded: bool) -> Program:
        """Put the result where the caller wants it, and give every register its memory."""
        result = result if result.kind in ("slopes", "matrix") else self.write(result)
        last = self.steps[-1] if self.steps else None
        if result.kind != "stack" or last is None or last.out != result.register:
            shape = (result.rows, 0, result.columns)
            self.emit(Op.WRITE, (result.register,), shape, result.kind)
        *others, last = self.steps
        steps = [*others, last._replace(slot=-2)]
        lent = {k for step in steps if step.op in LENDING for k in step.args}
        lent |= {k for step in steps if keeps(step) for k in step.args}
        until = {k: i for i, step in enumerate(steps) for k in (*step.args, step.out)}
        until[self.value] = len(steps)
        memory = Memory()
        placed = []
        for i, step in enumerate(steps):
            dying = [k for k in set(step.args) if until[k] == i and self.registers[k] is None]
            if step.slot != -2:
                over = [
                    k
                    for k in overwritten(step)
                    if k in dying and self.sizes[k] == self.sizes[step.out] and k not in lent
                ]
                step = memory.take(step, self.sizes[step.out], over, step.out not in lent)
            frees = tuple(k for k in dying if k > 1)
            for k in frees:
                memory.give(k)
            placed.append(step._replace(frees=frees))
        widest = max((self.net.widths[l] for l in range(self.last + 1)), default=0)
        # perhaps copied, where a product cannot be put in its place
        copied = max((self._copied(s) for s in placed), default=0)
        return Program(
            registers=tuple(self.registers),
            steps=tuple(placed),
            slots=tuple(memory.slots),
            point_numbers=sum(memory.slots) + memory.most + 8 * widest + copied,
            constant_bytes=self.constant_bytes,
            value=self.value,
            bounded=bounded,
        )

    def _copied(self, step: Step) -> int:
        """Count the numbers of a point that a step may copy, or needs for one row on its way."""
        if step.op in (Op.LEFT, Op.RIGHT):
            return self.sizes[step.out] + int(step.data.on_the_way) + block_numbers(step.data)
        if isinstance(step.data, Factor) and step.op == Op.WRITE:
            return block_numbers(step.data, whole=True)
        one = any(getattr(self.registers[k], "ndim", 0) == 2 for k in step.args)
        return self.sizes[step.out] if step.op == Op.PRODUCT and step.slot == -2 and one else 0
