"""What can be imported, read off the rules themselves, so that no list can promise more."""

from __future__ import annotations

from jacobians.importers.keras_operators import LAYERS as KERAS_LAYERS
from jacobians.importers.keras_operators import OPERATIONS as KERAS_OPERATIONS
from jacobians.importers.onnx_operators import NAMES as ONNX_OPERATORS
from jacobians.importers.scikit_learn import RULES as SKLEARN_ESTIMATORS
from jacobians.importers.torch_operators import RULES as TORCH_OPERATORS

IMPORTABLE: dict[str, tuple[str, ...]] = {
    "from_sklearn": SKLEARN_ESTIMATORS,
    "from_torch": tuple(TORCH_OPERATORS),
    "from_keras": (*KERAS_LAYERS, *KERAS_OPERATIONS),
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
