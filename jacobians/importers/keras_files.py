"""``.keras`` and ``.h5`` files -> Network, through Keras, after its description has been looked at.

A saved model is a description in JSON and arrays.  Keras would import and call what the description
names; so the description is read first, and refused unless every layer in it is one of Keras's own
that compute with numbers, with Keras's own functions.  What only training needs (initializers,
regularizers, constraints) is left out, and what older versions wrote otherwise is put right.  No
array is made before the sizes that the description asks for are compared with those in the file.
"""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from math import prod
from typing import Any

from jacobians._checks import ModelFormatError, missing_extra
from jacobians._npz import LIMIT, Brief, opened, require_side_by_side
from jacobians.importers.keras import from_keras
from jacobians.importers.keras_operators import OPERATIONS
from jacobians.importers.weight_files import Activations
from jacobians.network import Network

MODELS = ("Sequential", "Functional", "Model")
_NAMES = """
    InputLayer Dense EinsumDense Activation Identity Flatten Reshape Permute RepeatVector
    ReLU LeakyReLU PReLU ELU Softmax Dropout AlphaDropout GaussianDropout GaussianNoise
    SpatialDropout1D SpatialDropout2D SpatialDropout3D Normalization Rescaling BatchNormalization
    LayerNormalization RMSNormalization GroupNormalization
    Add Subtract Multiply Average Maximum Minimum Concatenate Dot
    Attention MultiHeadAttention GroupQueryAttention
    Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
    DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
    MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    Cropping1D Cropping2D Cropping3D LSTM GRU SimpleRNN Bidirectional TimeDistributed
"""
LAYERS = tuple(_NAMES.split())
_SETTINGS = ("DTypePolicy", "Policy", "__tuple__", "__keras_tensor__", "__numpy__", "__tensor__")
_IN_TRAINING = ("_initializer", "_regularizer", "_constraint", "init", "input_dtype")


def from_keras_file(
    path: str | os.PathLike[str], activations: Activations | None = None, output: str | None = None
) -> Network:
    """Import a model that Keras saved, of this version or an older one, as ``load`` does.

    Of several outputs the one of this name; ``activations`` are refused, since it has its own.
    """
    try:
        import h5py  # noqa: F401
        import keras  # noqa: F401
    except ImportError as err:
        raise missing_extra("keras and h5py", "keras", "load") from err
    path = os.fspath(path)
    with opened(path, "model of Keras") as (file, size):
        net = _read(file, size, path, output)
    if activations is not None:
        name = os.path.basename(path)
        raise TypeError(f"load: {name} has its own activations; leave activations out.")
    return net


def _read(file: Any, size: int, path: str, output: str | None) -> Network:
    import h5py
    import keras

    config: Any = None
    weights: Any = file
    if path.endswith(".keras"):
        config, weights = _read_archive(file, size)
    elif file.read(1) == b"\x80":
        raise ModelFormatError(
            "was written by pickle or joblib: from_sklearn(joblib.load(path)), if you trust where "
            "it comes from."
        )
    with h5py.File(weights, "r") as arrays:
        held = _require_plain(arrays, size)
        if config is None and "model_config" not in arrays.attrs:
            raise ModelFormatError(
                "holds weights and no model. Build the model, call its load_weights(path) and give "
                "it to from_keras."
            )
        config = _described(arrays) if config is None else config
    described = _vetted(config)
    with keras.StatelessScope(initialize_variables=False):  # shapes, and no arrays yet
        wanted = sum(prod(weight.shape) for weight in _made(described).weights)
    if wanted > held:
        raise ModelFormatError(f"describes {wanted} weights, but the file has {held}.")
    model = _made(described)
    model.load_weights(path)
    try:
        return from_keras(model, output=output)
    except (NotImplementedError, ValueError, TypeError) as err:
        raise ModelFormatError(str(err).removeprefix("from_keras: ")) from err


def _made(described: dict[str, Any]) -> Any:
    import keras

    kind = keras.Sequential if described["class_name"] == "Sequential" else keras.Model
    return kind.from_config(copy.deepcopy(described["config"]))  # which Keras takes apart


def _read_archive(file: Any, size: int) -> tuple[Any, io.BytesIO]:
    brief: Any = Brief(file)
    with zipfile.ZipFile(brief) as archive:
        require_side_by_side(archive.infolist(), size, "save it with model.save")
        config = json.loads(archive.read("config.json"))
        brief.most = size
        return config, io.BytesIO(archive.read("model.weights.h5"))


def _described(arrays: Any) -> Any:
    config = arrays.attrs["model_config"]
    if len(config) > LIMIT:
        raise ModelFormatError(f"describes itself in {len(config)} bytes, over a limit of {LIMIT}.")
    return json.loads(config)


def _require_plain(group: Any, size: int) -> int:
    """Return how many numbers the file holds, in arrays that lie in it as they are."""
    import h5py

    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelFormatError(f"{name!r:.80} is a link, which may lead anywhere.")
        part = group[name]
        if isinstance(part, h5py.Group):
            total += _require_plain(part, size)
            continue
        if part.external or part.is_virtual or part.dtype.hasobject or part.nbytes > size:
            raise ModelFormatError(
                f"{part.name!r:.80} is not an array of numbers that lie in the file as they are."
            )
        total += part.size
    if total > size:
        raise ModelFormatError(f"claims {total} numbers, but has {size} bytes.")
    return total


def _vetted(config: Any) -> dict[str, Any]:
    """Return the description of a model, of layers that compute with numbers and of no code."""
    if not isinstance(config, dict) or config.get("class_name") not in MODELS:
        kind = config.get("class_name") if isinstance(config, dict) else config
        raise ModelFormatError(
            f"describes a {kind!r:.40}, which is code; expected a Sequential or functional model."
        )
    vetted: dict[str, Any] = _plain(config, "the model")
    return vetted


def _plain(value: Any, at: str) -> Any:
    """Return a part of the description, refusing every name that is not Keras's own."""
    if isinstance(value, list):
        return [_plain(part, at) for part in value]
    if not isinstance(value, dict):
        return value
    kind, inner = value.get("class_name"), value.get("config")
    if kind is not None:
        if isinstance(inner, dict) and "name" in inner:
            at = f"layer {inner['name']!r:.60}"
        _require_own(value, str(kind), at)
    plain = {
        key: _plain(part, at)
        for key, part in value.items()
        if not str(key).endswith(_IN_TRAINING) and key not in ("compile_config", "build_config")
    }
    if kind == "Sequential":
        plain["config"] = _with_input(plain["config"])
    elif kind == "InputLayer" and "batch_input_shape" in plain["config"]:
        plain["config"]["batch_shape"] = plain["config"].pop("batch_input_shape")
    return plain


def _with_input(config: Any) -> dict[str, Any]:
    """Let a Sequential begin with an input, where its first layer says the shape, as it used to."""
    if isinstance(config, list):  # as Keras 2.0 wrote it
        config = {"name": "sequential", "layers": config}
    shapes = [layer["config"].pop("batch_input_shape", None) for layer in config["layers"]]
    if config["layers"] and shapes[0] and config["layers"][0]["class_name"] not in MODELS:
        begin = {"name": "input_of_the_model", "batch_shape": shapes[0]}
        config["layers"].insert(0, {"class_name": "InputLayer", "config": begin})
    return dict(config)


def _require_own(value: dict[str, Any], kind: str, at: str) -> None:
    import keras

    module, registered = str(value.get("module") or "keras"), str(value.get("registered_name"))
    if kind == "function":
        name = value.get("config")
        own = isinstance(name, str) and callable(getattr(keras.activations, name, None))
    elif module.startswith("keras.src.ops."):
        own = kind in OPERATIONS
    else:
        own = kind in (*LAYERS, *MODELS, *_SETTINGS) and module.partition(".")[0] == "keras"
    if not own or ">" in registered:
        raise ModelFormatError(
            f"{at}: {kind!r:.40} of {module!r:.40} is not a layer of Keras that can be read from a "
            "file. If you trust where the file comes from, give what keras.models.load_model "
            "returns to from_keras."
        )
