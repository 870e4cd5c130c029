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
        self.W, self.R = (node.needed(k, 3).array[d] for k in (1, 2))
        self.node, self.hidden, self.functions = node, self.R.shape[1], functions
        rows, B = _GATES[node.op] * self.hidden, node.constant(3)
        if len(self.W) != rows or len(self.R) != rows:
            node.refuse(f"has weights of shapes {self.W.shape} and {self.R.shape}.")
        biases: Any = np.zeros((2, rows), self.W.dtype) if B is None else B.array[d]
        self.Wb, self.Rb = biases.reshape(2, rows)
        P = node.constant(7) if node.op == "LSTM" else None
        self.P = None if P is None else P.array[d].reshape(3, self.hidden)
        self.linear_first = bool(node.attributes.get("linear_before_reset", 0))

    def affine(self, x: Made, W: Any, b: Any) -> Made:
        """``x W' + b``."""
        return self.node.affine(self.node.dense(x, W), 1.0, b)

    def gates(self, x: Made, h: Made, count: int, function: int | None = None) -> list[Made]:
        """``x W' + h R' + b`` for the first gates, perhaps with a function on it, one by one."""
        m = count * self.hidden
        inner = self.affine(x, self.W[:m], self.Wb[:m] + self.Rb[:m])
        z = self.node.add(inner, self.node.dense(h, self.R[:m]))
        z = z if function is None else self.node.activate(self.functions[function], z)
        return [_part(self.node, z, k, self.hidden) for k in range(count)]

    def step(self, x: Made, h: Made, c: Made | None) -> tuple[Made, Made | None]:
        """Return the state, and the cell of an LSTM, after one step."""
        if self.node.op == "RNN":
            return self.gates(x, h, 1, 0)[0], None
        return self._lstm(x, h, c) if c is not None else (self._gru(x, h), None)

    def _gru(self, x: Made, h: Made) -> Made:
        """``h' = (1 - z) n + z h``, with the reset gate on h or on ``h R' + b``."""
        node, m = self.node, 2 * self.hidden
        z, r = self.gates(x, h, 2, 0)
        inner, back = self.affine(x, self.W[m:], self.Wb[m:]), (self.R[m:], self.Rb[m:])
        if self.linear_first:
            reset = node.multiply(r, self.affine(h, *back))
        else:
            reset = self.affine(node.multiply(r, h), *back)
        n = node.activate(self.functions[1], node.add(inner, reset))
        return node.add(node.multiply(node.opposite(z), n), node.multiply(z, h))

    def _lstm(self, x: Made, h: Made, c: Made) -> tuple[Made, Made]:
        """``c' = f c + i g``, ``h' = o tanh(c')``, with peepholes from c where there are some."""
        node, (f0, f1, f2) = self.node, self.functions
        zi, zo, zf, zg = self.gates(x, h, 4)

        def gate(z: Made, seen: Made, peephole: int) -> Made:
            if self.P is not None:
                z = node.add(z, node.affine(seen, self.P[peephole]))
            return node.activate(f0, z)

        i, f, g = gate(zi, c, 0), gate(zf, c, 2), node.activate(f1, zg)
        c = node.add(node.multiply(f, c), node.multiply(i, g))
        return node.multiply(gate(zo, c, 1), node.activate(f2, c)), c


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
    runs = [_run(node, d, functions[d], rows[::way], layout) for d, way in enumerate(ways)]
    node.attributes.pop("linear_before_reset", None)
    every = [states[::way] for (states, _), way in zip(runs, ways, strict=True)]
    ends = [[states[-1] for states, _ in runs], [c for _, c in runs]][: 1 + (node.op == "LSTM")]
    at_once = node.concatenate([states[t] for t in range(steps) for states in every], 0)
    # the axis of the batch, which stands in front of the state or before all
    one, hidden, k = x.shape[batch], runs[0][0][0].shape[1], len(ways)
    end = (one, k, hidden) if layout else (k, one, hidden)
    whole = (one, steps, k, hidden) if layout else (steps, *end)
    return [at_once.reshaped(whole), *(node.concatenate(v, 0).reshaped(end) for v in ends)]


def _run(
    node: Node, d: int, functions: Sequence[str], rows: Sequence[Made], layout: int
) -> tuple[list[Made], Any]:
    """Go through the rows in one direction; return the states and the last cell."""
    cell = _Cell(node, d, functions)
    h = _initial(node, 5, d, cell.hidden, rows[0], layout)
    c = _initial(node, 6, d, cell.hidden, rows[0], layout) if node.op == "LSTM" else None
    states = []
    for x in rows:
        h, c = cell.step(x, h, c)
        states.append(h)
    return states, c


def _initial(node: Node, k: int, d: int, hidden: int, x: Made, layout: int) -> Made:
    """Return the state to begin with: what is given, or zeros."""
    given = node.operand(k)
    if isinstance(given, Value):
        return _part(node, given, d, hidden)
    start: Any = np.zeros(hidden)
    if given is not None:
        node.same_kind(node.floats(), given)
        start = node.number(given)
        start = np.take(start, d, 1 if layout else 0)
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


RULES: dict[str, Rule] = dict.fromkeys(_GATES, _recurrent)
