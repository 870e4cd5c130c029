"""The rules of ONNX operators, by domain and name.

Each turns a node into steps (``onnx_values``); attributes come with the defaults of the standard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jacobians.importers import onnx_elementwise as elementwise
from jacobians.importers import onnx_ml as ml
from jacobians.importers import onnx_moves as moves
from jacobians.importers import onnx_products as products
from jacobians.importers import onnx_recurrent as recurrent
from jacobians.importers import onnx_windows as windows
from jacobians.importers.onnx_folding import FOLDS
from jacobians.importers.onnx_values import Node

RULES: dict[tuple[str, str], Callable[[Node], Any]] = {
    ("", op): rule
    for module in (moves, products, elementwise, windows, recurrent)
    for op, rule in module.RULES.items()
}
RULES.update({("ai.onnx.ml", op): rule for op, rule in ml.RULES.items()})
ON_CONSTANTS = {("", "Constant"), *(("", op) for op in FOLDS)} - RULES.keys()
NAMES = tuple(sorted({op for _, op in (*RULES, *ON_CONSTANTS)}))
