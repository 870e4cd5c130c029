"""A unit graph as text: level by level, one equation per unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jacobians._text import counted
from jacobians.activations import Activation
from jacobians.units.edges import shortened


def written(graph: Any, most: int) -> str:
    """Write the first ``most`` units of a graph."""
    level = graph._walk.level
    text = ["inputs   " + (", ".join(shortened(graph.input_names)) or "-")]
    last = None
    for i in np.argsort(level, kind="stable")[:most]:
        title = "" if level[i] == last else f"level {level[i]}" if level[i] else "cyclic"
        terms = edges_into(i, graph.A, graph.unit_names)
        terms += edges_into(i, graph.B, graph.input_names)
        right = equation(terms, graph.biases[i], graph._distinct[graph._kinds[i]])
        text.append(f"{title:8} {graph.unit_names[i]} = {right}")
        last = level[i]
    if len(level) > most:
        text.append(f"{'':8} ... and {counted(len(level) - most, 'unit')} more")
    return "\n".join(text)


def edges_into(i: int, edges: Any, names: Sequence[str]) -> list[tuple[float, str]]:
    """Return the weights of the edges into unit i with the names of their sources."""
    row = slice(edges.indptr[i], edges.indptr[i + 1])
    pairs = zip(edges.data[row], edges.indices[row], strict=True)
    return [(float(weight), names[source]) for weight, source in pairs]


def equation(terms: Iterable[tuple[float, str]], bias: float, sigma: Activation) -> str:
    """Write what a unit computes."""
    shown = [_product(weight, name) for weight, name in terms]
    if bias or not shown:
        shown.append(f"{bias:.4g}")
    total = " + ".join(shortened(shown)).replace("+ -", "- ")
    return total if sigma.name == "identity" else f"{sigma}({total})"


def _product(weight: float, name: str) -> str:
    if abs(weight) == 1:
        return name if weight > 0 else f"-{name}"
    return f"{weight:.4g} {name}"
