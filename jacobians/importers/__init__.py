"""A foreign model -> Network: exact derivatives for what people have trained elsewhere.

================== ===============================================================================
``from_sklearn``   estimators and pipelines, in the original units of inputs and targets
``from_torch``     ``Sequential`` modules; state dicts, once somebody names the activations
``from_keras``     Keras 3, any backend: Sequential models and functional chains
``from_onnx``      ``.onnx`` files and models, opsets 1 to 28, without the onnx package
================== ===============================================================================

``load`` reads ``.onnx`` and ``.safetensors`` files.  Each framework is imported inside the function
that needs it.  What has no rule is refused by name and place: nothing is guessed, and nothing is
dropped but what does nothing in inference.
"""

from collections.abc import Callable

from jacobians.importers.keras import from_keras
from jacobians.importers.keras_files import from_keras_file
from jacobians.importers.keras_operators import LAYERS as KERAS_LAYERS
from jacobians.importers.keras_operators import OPERATIONS as KERAS_OPERATIONS
from jacobians.importers.nnet_files import from_nnet
from jacobians.importers.onnx_files import from_onnx
from jacobians.importers.onnx_operators import NAMES as ONNX_OPERATORS
from jacobians.importers.pytorch import from_torch
from jacobians.importers.scikit_learn import RULES as SKLEARN_ESTIMATORS
from jacobians.importers.scikit_learn import from_sklearn
from jacobians.importers.torch_operators import RULES as TORCH_OPERATORS
from jacobians.importers.weight_files import READERS, from_weights
from jacobians.network import Network

# By the ending of a file: how it is loaded, or, of what only its own framework can read, how there.
WHOLE_MODELS: dict[str, Callable[..., Network]] = {
    ".onnx": from_onnx,
    **dict.fromkeys((".keras", ".h5", ".hdf5"), from_keras_file),
    ".nnet": from_nnet,
}
WEIGHTS_ONLY = (*READERS, ".npz")
_BY_JOBLIB = "from_sklearn(joblib.load(path)), if you trust where it comes from"
ELSEWHERE = {
    **dict.fromkeys((".joblib", ".pkl", ".pickle"), _BY_JOBLIB),
    ".skops": "from_sklearn(skops.io.load(path))",
    ".bin": "from_torch(torch.load(path, weights_only=True), activations=[...])",
    ".pt2": "from_torch(torch.export.load(path).module(), inputs=...), exported with an open batch",
    ".tflite": "convert it with tf2onnx --tflite, and load the .onnx file",
    ".pb": "convert its folder with tf2onnx --saved-model, and load the .onnx file",
}

__all__ = [
    "ELSEWHERE",
    "IMPORTABLE",
    "WEIGHTS_ONLY",
    "WHOLE_MODELS",
    "from_keras",
    "from_keras_file",
    "from_nnet",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "from_weights",
    "importable_table",
]

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
