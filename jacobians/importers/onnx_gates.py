"""Gates as exporters write them out: ``x * sigmoid(x)`` and ``x/2 * (1 + erf(x/√2))``.

ONNX had no SiLU before opset 24 and no GELU before opset 20, so these stand in files as nodes that
branch at x and meet again.  Exactly these forms are found here, and are one step of a chain then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from jacobians.importers.onnx_nodes import Chain, Node

# x is the value that branches, a number a constant, a tuple an operator with its operands.
_TWICE_PHI = [
    ("Add", ("Erf", inner), 1.0) for inner in (("Div", "x", 2**0.5), ("Mul", "x", 0.5**0.5))
]
_FORMS: list[tuple[str, Any]] = [
    ("silu", ("Mul", "x", ("Sigmoid", "x"))),
    *(("gelu", ("Mul", ("Mul", "x", phi), 0.5)) for phi in _TWICE_PHI),
    *(("gelu", ("Mul", ("Mul", "x", 0.5), phi)) for phi in _TWICE_PHI),
]


class Gate(NamedTuple):
    """Nodes read as one: their places, and what they take; all x are one value in the end."""

    places: tuple[int, ...] = ()
    x: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()  # what the constants must be


def find_gates(nodes: Sequence[Any], weights: Container[str]) -> dict[int, tuple[str, Gate]]:
    """Return the gates of a graph by the place of their last node, looking at the wiring alone."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output}
    if len(makers) < sum(len(node.output) for node in nodes):
        return {}  # a name that is made twice says nothing, and is refused where it is met

    uses = Counter(name for node in nodes for name in node.input)

    def match(form: Any, name: str) -> Gate | None:
        node = nodes[makers[name]] if name in makers else None
        if name in weights or (node is not None and node.op_type == "Constant"):
            return Gate(constants=(name,), numbers=(form,)) if isinstance(form, float) else None
        if form == "x":
            return Gate(x=(name,))
        if not isinstance(form, tuple) or node is None or node.op_type != form[0]:
            return None
        if node.attribute or node.domain not in ("", "ai.onnx"):
            return None
        either = form[0] in ("Mul", "Add")
        for operands in permutations(node.input) if either else [node.input]:
            found = [match(*pair) for pair in zip(form[1:], operands, strict=False)]
            parts = [part for part in found if part is not None]
            if len(parts) == len(node.input) == len(form) - 1:
                places, x, *rest = (sum(field, ()) for field in zip(Gate(), *parts, strict=True))
                if len(set(x)) <= 1:
                    return Gate((*places, makers[name]), x, *rest)
        return None

    gates = {}
    for i, node in enumerate(nodes):
        for activation, form in _FORMS if node.op_type == "Mul" and node.output else ():
            gate = match(form, node.output[0])
            inner = [nodes[place].output[0] for place in gate.places[:-1]] if gate else []
            if gate and max(gate.places) == i and all(uses[name] == 1 for name in inner):
                gates[i] = activation, gate
    return gates


def gate_rule(chain: Chain, node: Node) -> None:
    """Continue a chain by a gate, now that its constants are known."""
    name, numbers = node.attributes["activation"], node.attributes["numbers"]
    for constant, number in zip(node.operands[1:], numbers, strict=True):
        off = abs(chain.spread(constant, node) - number)
        if off.max() > np.finfo(constant.dtype).eps:
            node.refuse(f"would be {name} if a constant of it were {number:.8g}: no rule.")
        chain.assembly.computed_in(constant.dtype)
    chain.assembly.activate(name, at=node.at)
