"""Registers and steps in the making: the forward pass of a program, and the memory it takes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from jacobians.activations import IDENTITY, Activation
from jacobians.factors import Factor, Source
from jacobians.layers import Dense
from jacobians.maps.association import Operand
from jacobians.network import Network
from jacobians.program import OVER, Limits, Op, Program, Step


class Node(NamedTuple):
    """A partial product: its register, what that holds, and its value if all points share it.

    A product with a diagonal waits to be asked for, in case that a step takes it together with the
    next product.
    """

    register: Any  # None if it is in none
    kind: Literal["identity", "slopes", "matrix", "stack", "factor", "scaled"]
    rows: int
    columns: int
    value: Any = None
    factor: Factor | None = None
    waiting: tuple[Any, ...] = ()  # two nodes
    flat: bool = False

    @property
    def operand(self) -> Operand:
        """What it is to the one that it is multiplied by."""
        if self.factor is not None:
            return self.factor.operand
        return Operand(self.rows, self.columns, "diagonal" if self.kind == "slopes" else "dense")


class Emitter:
    """Collects registers and steps."""

    def __init__(
        self, net: Network, of: int, factors: tuple[Factor, ...], valued: bool, limits: Limits
    ) -> None:
        self.net, self.of, self.limits = net, of, limits
        self.registers: list[Any] = [None, None]  # the points, and vectors of a sweep
        self.sizes: dict[int, int] = {}  # numbers of a point, by register
        self.steps: list[Step] = []
        self.constant_bytes = 0
        self.a: dict[int, int] = {0: 0}
        self.loaded: dict[Source | Factor, int] = {}
        self.done, self.value = 0, 0 if valued and of == 0 else -1
        self.wanted: dict[tuple[str, int], list[Factor]] = {}
        for leaf in (leaf for A in factors for leaf in A.leaves()):
            if leaf.source is not None:
                self.wanted.setdefault(leaf.source[:2], []).append(leaf)
        self.valued = valued
        self.values, self.preactivations = self._needed()
        asked = {node for _, node in self.wanted}
        self.last = max(self.preactivations | asked, default=0)

    def _needed(self) -> tuple[set[int], set[int]]:
        """Return the nodes whose values, and whose preactivations, something reads."""
        values = {self.of} if self.valued else set()
        preactivations = set()
        for l in range(self.net.depth, 0, -1):
            if l in values or ("activation", l) in self.wanted:
                preactivations.add(l)
            if l in preactivations or ("layer", l) in self.wanted:
                values.update(self.net.sources[l - 1])
        return values, preactivations

    # --- registers and steps ----------------------------------------------------------------------

    def constant(self, value: Any, made: bool = False) -> Node:
        """Keep what is known now, perhaps because it was ``made`` beforehand."""
        self.registers.append(value)
        self.constant_bytes += value.nbytes if made else 0
        kind: Any = "slopes" if len(value.shape) == 1 else "matrix"
        rows, columns = value.shape[0], value.shape[-1]
        return Node(len(self.registers) - 1, kind, rows, columns, value=value)

    def stack(
        self, op: Op, args: tuple[int, ...], rows: int, columns: int, data: Any = None
    ) -> Node:
        """Add a step that makes a matrix for each point."""
        return Node(self.emit(op, args, (rows, 0, columns), data), "stack", rows, columns)

    def emit(
        self, op: Op, args: tuple[int, ...], shape: tuple[int, ...], data: Any = None, node: int = 0
    ) -> int:
        """Add a step, and return the register of its result."""
        self.registers.append(None)
        out = len(self.registers) - 1
        self.sizes[out] = int(np.prod([n or 1 for n in shape]))
        checked = op in (Op.AFFINE, Op.CALL)
        if op == Op.VALUE:  # of a bounded slope, what comes next leaves the range too
            checked = data.value_bound == np.inf and (data.slope_bound == np.inf or node == self.of)
        self.steps.append(Step(op, out, args, data, node, shape, checked=checked))
        return out

    # --- the forward pass -------------------------------------------------------------------------

    def forward(self, to: int) -> None:
        """Compute values up to a node, and load what is wanted on the way."""
        for l in range(self.done + 1, to + 1):
            self._node(l)
        self.done = max(self.done, to)

    def _node(self, l: int) -> None:
        layer, n = self.net.layers[l - 1], self.net.widths[l]
        if l not in self.preactivations and ("layer", l) not in self.wanted:
            return
        entering = tuple(self.a[s] for s in self.net.sources[l - 1])
        if ("layer", l) in self.wanted:
            self._load(Op.LAYER_MAPS, entering, layer, self.wanted["layer", l])
        if l not in self.preactivations:
            return
        if type(layer).preactivation is Dense.preactivation and layer.rows == 1:  # type: ignore[attr-defined]
            W, b = self.constant(layer.W.T), layer.b  # type: ignore[attr-defined]
            made = b is None
            shift = self.constant(np.zeros(n, self.net.dtype) if made else b, made)
            z = self.emit(Op.AFFINE, (entering[0], W.register, shift.register), (0, n), node=l)
        else:
            z = self.emit(Op.CALL, entering, (0, n), layer, l)
        sigma = layer.activation
        for leaf in self.wanted.get(("activation", l), []):
            if leaf.kind == "diagonal" and isinstance(sigma, Activation):
                assert leaf.source is not None
                slopes = self.emit(Op.SLOPES, (z,), (0, n), sigma)
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

    # --- memory -----------------------------------------------------------------------------------

    def finish(self, result: Node, bounded: bool) -> Program:
        """Put the result where the caller wants it, and say where every register ends."""
        steps, slots, others = self.ending_with(result)
        widest = max(self.net.widths[l] for l in range(self.last + 1))
        return Program(
            registers=tuple(self.registers),
            steps=steps,
            slots=slots,
            # a formula takes eight arrays, the one it returns among them
            point_numbers=sum(slots) + others + 7 * widest,
            constant_bytes=self.constant_bytes,
            value=self.value,
            bounded=bounded,
        )

    def ending_with(self, result: Node) -> tuple[tuple[Step, ...], tuple[int, ...], int]:
        """Return the steps with their memory, its sizes, and what else a point takes at most.

        Products are put into memory of which there are a few pieces, each used again when nothing
        reads the product any more.  All else is new, since formulas and maps of others may keep it.
        """
        if result.kind != "stack" or not self.steps or self.steps[-1].out != result.register:
            self.stack(Op.WRITE, (result.register,), result.rows, result.columns, result.kind)
        until = {k: i for i, step in enumerate(self.steps) for k in step.args}
        until[self.value] = len(self.steps)
        made = {step.out for step in self.steps}
        slots: list[int] = []
        free: list[int] = []
        slot_of: dict[int, int] = {self.steps[-1].out: -2}
        steps, now, most, copied = [], 0, 0, 0
        for i, step in enumerate(self.steps):
            size = self.sizes[step.out]
            ended = {k for k in step.args if until[k] == i and k in made}
            over = {step.args[k] for k in OVER.get(step.op, ())} & ended & set(slot_of)
            over = {k for k in over if self.sizes[k] == size}
            if step.out in slot_of:
                over = set()  # the memory of the caller
            elif step.op < Op.MULTIPLY_SLOPES:
                now += size
            elif over:
                slot_of[step.out] = slot_of[over.pop()]
            elif free:
                slot = min(free, key=lambda k: (slots[k] < size, abs(slots[k] - size)))
                free.remove(slot)
                slot_of[step.out], slots[slot] = slot, max(slots[slot], size)
            else:
                slot_of[step.out] = len(slots)
                slots.append(size)
            most, copied = max(most, now), max(copied, self._copied(step))
            for k in ended:
                if k not in slot_of:
                    now -= self.sizes[k]
                elif slot_of[k] != slot_of.get(step.out):
                    free.append(slot_of[k])
            steps.append(step._replace(slot=slot_of.get(step.out, -1), frees=tuple(ended)))
        return tuple(steps), tuple(slots), most + copied

    def _copied(self, step: Step) -> int:
        """Count the numbers of a point that a step may copy, or needs for one row on its way."""
        size = self.sizes[step.out]
        if step.op in (Op.LEFT, Op.RIGHT):
            return 2 * size + self.sizes.get(step.args[0], 0)  # 0 of what all points share
        if step.op == Op.ROWS:
            return size + int(step.data.numbers // step.shape[2 if step.data.left else 0])
        one = any(getattr(self.registers[k], "ndim", 0) == 2 for k in step.args)
        last = step is self.steps[-1]  # into the result, where a product of all points may not fit
        return size if step.op == Op.PRODUCT and last and one else 0
