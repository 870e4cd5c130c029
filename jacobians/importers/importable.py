"""What can be imported, read off the rules themselves, so that no list can promise more."""

from __future__ import annotations

from jacobians.importers.keras import FUNCTIONS as KERAS_FUNCTIONS
from jacobians.importers.keras import RULES as KERAS_LAYERS
from jacobians.importers.onnx_files import NAMES as ONNX_OPERATORS
from jacobians.importers.pytorch import RULES as TORCH_MODULES
from jacobians.importers.scikit_learn import RULES as SKLEARN_ESTIMATORS

IMPORTABLE: dict[str, tuple[str, ...]] = {
    "from_sklearn": SKLEARN_ESTIMATORS,
    "from_torch": tuple(TORCH_MODULES),
    "from_keras": (*KERAS_LAYERS, *KERAS_FUNCTIONS),
    "from_onnx": ONNX_OPERATORS,
}


def importable_table() -> str:
    """Write what can be imported as a Markdown table.

    Returns
    -------
    str
        One row per function, with every class, layer, function or operator that has a rule.

    >>> print(importable_table().splitlines()[0])
    | function | imports |
    """
    rows = [(f"`{name}`", ", ".join(kinds)) for name, kinds in IMPORTABLE.items()]
    lines = [("function", "imports"), ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)
