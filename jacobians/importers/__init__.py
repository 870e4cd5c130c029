"""A foreign model -> Network: exact derivatives for what people have trained elsewhere.

================== ===============================================================================
``from_sklearn``   estimators and pipelines, in the original units of inputs and targets
``from_torch``     ``Sequential`` modules; state dicts, once somebody names the activations
``from_keras``     Keras 3, any backend: Sequential models and functional chains
``from_onnx``      ``.onnx`` files and models, opsets 7 to 28
================== ===============================================================================

``load`` reads ``.onnx`` and ``.safetensors`` files.  Each framework is imported inside the function
that needs it.  What has no rule is refused by name and place: nothing is guessed, and nothing is
dropped but what does nothing in inference.
"""

from jacobians.importers.importable import IMPORTABLE, importable_table
from jacobians.importers.keras import from_keras
from jacobians.importers.onnx_files import from_onnx
from jacobians.importers.pytorch import from_torch
from jacobians.importers.safetensors_files import from_safetensors
from jacobians.importers.scikit_learn import from_sklearn

__all__ = [
    "IMPORTABLE",
    "from_keras",
    "from_onnx",
    "from_safetensors",
    "from_sklearn",
    "from_torch",
    "importable_table",
]
