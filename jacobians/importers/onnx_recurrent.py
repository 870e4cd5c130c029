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

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_NAMES = ("Tanh", "Sigmoid", "Relu", "Softsign", "Softplus")
_MOST_STEPS = 1024


class _Cell:
    """One direction of a recurrent node: its weights, and a step in time."""

    def __init__(self, node: Node, d: int, functions: Sequence[str]) -> None:
        W, R = (node.needed(k, 3).array[d] for k in (1, 2))
        B = node.constant(3)
        self.node, self.hidden, self.functions = node, R.shape[1], functions
        gates = _GATES[node.op]
        if W.shape[0] != gates * self.hidden or R.shape[0] != W.shape[0]:
            node.refuse(f"has weights of shapes {W.shape} and {R.shape}.")
        self.W, self.R = W, R
        biases = np.zeros((2, len(W)), W.dtype) if B is None else B.array[d].reshape(2, -1)
        if biases.shape[1] != len(W):
            node.refuse(f"has a bias of shape {B.shape if B else ()}.")
        self.Wb, self.Rb = biases
        P = node.constant(7) if node.op == "LSTM" else None
        self.P = None if P is None else P.array[d].reshape(3, self.hidden)
        self.linear_first = bool(node.attributes.get("linear_before_reset", 0))

    def affine(self, x: Made, W: Any, b: Any) -> Made:
        """``x W' + b``."""
        return self.node.affine(self.node.dense(x, W), 1.0, b)

    def activate(self, x: Made, k: int) -> Made:
        """Apply the k-th of the functions."""
        return self.node.activate(self.functions[k], x)

    def gate(self, x: Made, k: int) -> Made:
        """Return the k-th block of what all gates get."""
        return _part(self.node, x, k, self.hidden)

    def both(self, x: Made, h: Made, gates: int) -> Made:
        """``x W' + h R' + b``, for the first gates."""
        m = gates * self.hidden
        inner = self.affine(x, self.W[:m], self.Wb[:m] + self.Rb[:m])
        return self.node.add(inner, self.node.dense(h, self.R[:m]))

    def step(self, x: Made, h: Made, c: Made | None) -> tuple[Made, Made | None]:
        """Return the state, and the cell of an LSTM, after one step."""
        if self.node.op == "RNN":
            return self.activate(self.both(x, h, 1), 0), None
        return self._lstm(x, h, c) if c is not None else (self._gru(x, h), None)

    def _gru(self, x: Made, h: Made) -> Made:
        """``h' = (1 - z) n + z h``, with the reset gate on h or on ``h R' + b``."""
        node, m = self.node, 2 * self.hidden
        gates = self.activate(self.both(x, h, 2), 0)
        z, r = self.gate(gates, 0), self.gate(gates, 1)
        inner = self.affine(x, self.W[m:], self.Wb[m:])
        if self.linear_first:
            back = node.multiply(r, self.affine(h, self.R[m:], self.Rb[m:]))
        else:
            back = self.affine(node.multiply(r, h), self.R[m:], self.Rb[m:])
        n = self.activate(node.add(inner, back), 1)
        return node.add(node.multiply(node.opposite(z), n), node.multiply(z, h))

    def _lstm(self, x: Made, h: Made, c: Made) -> tuple[Made, Made]:
        """``c' = f c + i g``, ``h' = o tanh(c')``, with peepholes from c where there are some."""
        node, every = self.node, self.both(x, h, 4)

        def gate(k: int, function: int, seen: Made | None = None, peephole: int = 0) -> Made:
            z = self.gate(every, k)
            if self.P is not None and seen is not None:
                z = node.add(z, node.affine(seen, self.P[peephole]))
            return self.activate(z, function)

        i, f, g = gate(0, 0, c, 0), gate(2, 0, c, 2), gate(3, 1)
        c = node.add(node.multiply(f, c), node.multiply(i, g))
        return node.multiply(gate(1, 0, c, 1), self.activate(c, 2)), c


def _part(node: Node, x: Made, k: int, size: int) -> Made:
    """Return the k-th of the rows of some size into which a value falls."""
    return node.move(x, np.arange(k * size, (k + 1) * size)[None])


def _recurrent(node: Node) -> list[Any]:
    x, layout = node.floats(), node.attribute("layout", 0)
    if len(x.shape) != 3 or node.operand(4) is not None:
        node.refuse(f"takes shape {x.shape} or lengths of sequences, which have no rule.")
    batch, time = (0, 1) if layout else (1, 0)
    steps, size = int(x.shape[time]), int(x.shape[2])
    if x.shape[batch] != 1 or isinstance(x.shape[time], Batch) or steps > _MOST_STEPS:
        node.refuse(
            f"takes shape {x.shape}; expected one sequence per point, of at most {_MOST_STEPS} "
            "steps. Export with a batch of 1 or of open size, and a fixed length."
        )
    direction = node.attribute("direction", "forward")
    ways = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}.get(direction)
    functions = _functions(node, len(ways or ()))
    clip, coupled = node.attributes.pop("clip", None), node.attributes.pop("input_forget", 0)
    if ways is None or clip is not None or coupled:
        node.refuse(f"runs {direction!r:.40}, clips, or couples gates, which has no rule.")
    node.attributes.pop("hidden_size", None)
    W = node.needed(1, 3)
    if W.shape[0] != len(ways) or W.shape[2] != size or node.needed(2, 3).shape[0] != len(ways):
        node.refuse(f"has weights of shape {W.shape} for {x.shape}.")
    node.same_kind(x, W, node.needed(2))
    rows = [_part(node, x, t, size) for t in range(steps)]
    every, last, cells = [], [], []
    for d, way in enumerate(ways):
        states, c = _run(node, d, functions[d], rows[::way])
        every.append(states[::way])
        last.append(states[-1])
        cells.append(c)
    node.attributes.pop("linear_before_reset", None)
    return _results(node, x, batch, every, last, cells)


def _run(
    node: Node, d: int, functions: Sequence[str], rows: Sequence[Made]
) -> tuple[list[Made], Made | None]:
    """Go through the rows in one direction; return the states and the last cell."""
    cell = _Cell(node, d, functions)
    h = _initial(node, 5, d, cell.hidden, rows[0])
    c = _initial(node, 6, d, cell.hidden, rows[0]) if node.op == "LSTM" else None
    states = []
    for x in rows:
        h, c = cell.step(x, h, c)
        states.append(h)
    return states, c


def _initial(node: Node, k: int, d: int, hidden: int, x: Made) -> Made:
    """Return the state to begin with: what is given, or zeros."""
    given = node.operand(k)
    if isinstance(given, Value):
        return _part(node, given, d, hidden)
    start: Any = np.zeros(hidden)
    if given is not None:
        node.same_kind(node.floats(), given)
        start = node.number(given)
        if start.ndim == 3:
            start = start[:, d] if node.attributes.get("layout") else start[d]
        if start.size != hidden:
            node.refuse(f"begins with shape {given.shape}; expected one state of {hidden}.")
    return node.affine(node.move(x, np.full((1, hidden), -1)), 1.0, start.reshape(1, -1))


def _functions(node: Node, directions: int) -> list[list[str]]:
    """Return the activations of each direction."""
    default = _DEFAULTS[node.op]
    given = node.attribute("activations", default * directions)
    for name in ("activation_alpha", "activation_beta"):
        if np.size(node.attributes.pop(name, ())):
            node.refuse(f"has {name}, which has no rule.")
    if len(given) != len(default) * directions or not all(name in _NAMES for name in given):
        node.refuse(f"has activations {', '.join(given):.80}, which have no rule.")
    names = [name.lower() for name in given]
    return [names[k : k + len(default)] for k in range(0, len(names), len(default))]


def _results(
    node: Node, x: Value, batch: int, every: Any, last: list[Made], cells: list[Any]
) -> list[Any]:
    """Put the states together: all of them (time, direction, batch, hidden), and the last."""
    one, hidden = x.shape[batch], last[0].shape[1]
    by_time = [states[t] for t in range(len(every[0])) for states in every]
    shapes = (len(every[0]), len(every), one, hidden), (len(every), one, hidden)
    if batch == 0:
        shapes = (one, len(every[0]), len(every), hidden), (one, len(every), hidden)
    parts = [(by_time, shapes[0]), (last, shapes[1]), (cells, shapes[1])][: 2 + (node.op == "LSTM")]
    return [node.concatenate(values, 0).reshaped(shape) for values, shape in parts]


RULES: dict[str, Rule] = dict.fromkeys(_GATES, _recurrent)
