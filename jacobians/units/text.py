"""A unit graph as text: level by level, one equation per unit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jacobians._text import counted, shortened
from jacobians.activations import Activation


def written(graph: Any, most: int) -> str:
    """Write the first ``most`` units of a graph."""
    names, edges = [*graph.unit_names, *graph.input_names], graph.joint_edges
    level, before = graph._walk.level, None
    text = ["inputs   " + (", ".join(shortened(graph.input_names)) or "-")]
    for i in np.argsort(level, kind="stable")[:most]:
        title = "" if level[i] == before else f"level {level[i]}" if level[i] else "cyclic"
        row = slice(*edges.indptr[i : i + 2])
        terms = zip(edges.data[row], (names[j] for j in edges.indices[row]), strict=True)
        right = _equation(terms, graph.biases[i], graph._distinct[graph._kinds[i]])
        text.append(f"{title:8} {graph.unit_names[i]} = {right}")
        before = level[i]
    if len(level) > most:
        text.append(f"{'':8} ... and {counted(len(level) - most, 'unit')} more")
    return "\n".join(text)


def _equation(terms: Iterable[tuple[float, str]], bias: float, sigma: Activation) -> str:
    """Write what a unit computes."""
    factors = {1.0: "", -1.0: "-"}
    shown = [factors.get(float(weight), f"{weight:.4g} ") + name for weight, name in terms]
    if bias or not shown:
        shown.append(f"{bias:.4g}")
    total = " + ".join(shortened(shown)).replace("+ -", "- ")
    return total if sigma.name == "identity" else f"{sigma}({total})"
