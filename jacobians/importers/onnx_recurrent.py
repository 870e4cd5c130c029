"""RNN, GRU and LSTM, unrolled over a fixed number of steps in time.

With rows ``x_t`` and the state ``h`` each step is a dense layer on both, gates, and their products;
what ONNX keeps in one matrix stays one matrix.  The letters are those of the standard: W for what
goes in, R for what comes back, B both their biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers.onnx_values import Batch, Node, Value

_FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_NAMES = ("Tanh", "Sigmoid", "Relu", "Softsign", "Softplus")
_MOST_STEPS = 1024


class _Cell:
    """One direction of a recurrent node: its weights, and a step in time."""

    def __init__(self, node: Node, d: int, functions: Sequence[str], linear_first: bool) -> None:
        self.W, self.R = (node.needed(k, 3).array[d] for k in (1, 2))
        self.node, self.hidden, self.functions = node, self.R.shape[1], functions
        rows, B = _GATES[node.op] * self.hidden, node.constant(3)
        if len(self.W) != rows or len(self.R) != rows:
            node.refuse(f"has weights of shapes {self.W.shape} and {self.R.shape}.")
        biases: Any = np.zeros((2, rows), self.W.dtype) if B is None else B.array[d]
        self.Wb, self.Rb = biases.reshape(2, rows)
        self.linear_first = linear_first

    def affine(self, x: Made, W: Any, b: Any) -> Made:
        """``x W' + b``."""
        return self.node.affine(self.node.dense(x, W), 1.0, b)

    def gates(self, x: Made, h: Made, count: int) -> list[Made]:
        """``x W' + h R' + b`` for the first gates, one by one."""
        m = count * self.hidden
        inner = self.affine(x, self.W[:m], self.Wb[:m] + self.Rb[:m])
        z = self.node.add(inner, self.node.dense(h, self.R[:m]))
        return [_rows(self.node, z, k, self.hidden) for k in range(count)]

    def step(self, x: Made, h: Made, c: Made | None) -> tuple[Made, Made | None]:
        """Return the state, and the cell of an LSTM, after one step."""
        if self.node.op == "RNN":
            return self.node.activate(self.functions[0], self.gates(x, h, 1)[0]), None
        return self._lstm(x, h, c) if c is not None else (self._gru(x, h), None)

    def _gru(self, x: Made, h: Made) -> Made:
        """``h' = (1 - z) n + z h``, with the reset gate on h or on ``h R' + b``."""
        node, m = self.node, 2 * self.hidden
        z, r = (node.activate(self.functions[0], gate) for gate in self.gates(x, h, 2))
        inner, back = self.affine(x, self.W[m:], self.Wb[m:]), (self.R[m:], self.Rb[m:])
        if self.linear_first:
            reset = node.multiply(r, self.affine(h, *back))
        else:
            reset = self.affine(node.multiply(r, h), *back)
        n = node.activate(self.functions[1], node.add(inner, reset))
        return node.add(node.multiply(node.opposite(z), n), node.multiply(z, h))

    def _lstm(self, x: Made, h: Made, c: Made) -> tuple[Made, Made]:
        """``c' = f c + i g``, ``h' = o tanh(c')``."""
        node, (f0, f1, f2) = self.node, self.functions
        gates = zip((f0, f0, f0, f1), self.gates(x, h, 4), strict=True)
        i, o, f, g = (node.activate(function, gate) for function, gate in gates)
        c = node.add(node.multiply(f, c), node.multiply(i, g))
        return node.multiply(o, node.activate(f2, c)), c


def _rows(node: Node, x: Made, k: int, size: int) -> Made:
    """Return the k-th of the rows of some size into which a value falls."""
    return node.move(x, np.arange(k * size, (k + 1) * size)[None])


def _recurrent(
    node: Node, *, direction: str = "forward", linear_before_reset: int = 0, activations: Any = None
) -> list[Any]:
    x = node.of
    steps, batch, size = x.shape if len(x.shape) == 3 else (x.shape[0], 0, 0)
    if batch != 1 or isinstance(steps, Batch) or steps > _MOST_STEPS or node.operand(4) is not None:
        node.refuse(
            f"takes shape {x.shape} or lengths of sequences; expected one sequence per point, of "
            f"at most {_MOST_STEPS} steps. Export with a batch of 1 or of open size, and a fixed "
            "length."
        )
    ways = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}.get(direction, [])
    functions = activations or _FUNCTIONS[node.op] * len(ways)
    node.seen.add("hidden_size")
    other = node.attribute("layout", 0) or node.attribute("input_forget", 0)
    wanted = len(_FUNCTIONS[node.op]) * len(ways)
    if not ways or other or len(functions) != wanted or {*functions} - {*_NAMES}:
        node.refuse(f"runs {direction!r:.40} with {', '.join(functions):.80}, which has no rule.")
    W, R = node.needed(1, 3), node.needed(2, 3)
    if W.shape[0] != len(ways) or W.shape[2] != size or R.shape[0] != len(ways):
        node.refuse(f"has weights of shape {W.shape} for {x.shape}.")
    rows = [_rows(node, x, t, size) for t in range(steps)]
    runs, each = [], len(functions) // len(ways)
    for d, way in enumerate(ways):
        names = [name.lower() for name in functions[d * each : (d + 1) * each]]
        states, c = _run(_Cell(node, d, names, bool(linear_before_reset)), d, rows[::way])
        runs.append((states[::way], states[-1], c))
    at_once = node.concatenate([states[t] for t in range(steps) for states, _, _ in runs], 0)
    end = (len(ways), batch, R.shape[2])
    ends = [list(last) for last in zip(*(run[1:] for run in runs), strict=True)]
    ends = ends if node.op == "LSTM" else ends[:1]
    return [at_once.reshaped((steps, *end)), *(node.concatenate(v, 0).reshaped(end) for v in ends)]


def _run(cell: _Cell, d: int, rows: Sequence[Made]) -> tuple[list[Made], Any]:
    """Go through the rows in one direction; return the states and the last cell."""
    h = _initial(cell, 5, d, rows[0])
    c = _initial(cell, 6, d, rows[0]) if cell.node.op == "LSTM" else None
    states = []
    for x in rows:
        h, c = cell.step(x, h, c)
        states.append(h)
    return states, c


def _initial(cell: _Cell, k: int, d: int, x: Made) -> Made:
    """Return the state to begin with: what is given, or zeros."""
    node, given = cell.node, cell.node.operand(k)
    if isinstance(given, Value):
        return _rows(node, given, d, cell.hidden)
    start: Any = np.zeros(cell.hidden)
    if given is not None:
        start = node.number(given)[d]
        if start.size != cell.hidden:
            node.refuse(f"begins with shape {given.shape}; expected one state of {cell.hidden}.")
    return node.affine(node.move(x, np.full((1, cell.hidden), -1)), 1.0, start.reshape(1, -1))


RULES: dict[str, Rule] = dict.fromkeys(_GATES, _recurrent)
