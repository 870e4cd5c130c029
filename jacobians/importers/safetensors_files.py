"""safetensors files -> Network, once somebody names the activations.

The format holds named arrays and nothing else; the safetensors package checks its header against
the length of the file.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, NotFiniteError, Numbers, ShapeError, missing_extra
from jacobians.importers._state_dicts import Activations, linear_layers, network_of
from jacobians.network import Network

_DTYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": "<u2"}


def from_safetensors(
    path: str | os.PathLike[str], *, activations: Activations | None = None
) -> Network:
    """Import the linear layers of a safetensors file.

    Parameters
    ----------
    path : str or path
        A file of nothing but ``NAME.weight`` and ``NAME.bias`` of linear layers.
    activations : sequence of str or Activation, or mapping from layer names
        As in ``from_torch``.

    Returns
    -------
    Network

    Raises
    ------
    ModelFormatError
        If it is not such a file.
    ValueError, TypeError
        If the activations are missing or do not match the layers, naming them.
    OSError
        If it cannot be opened.
    ImportError
        If safetensors is not installed.
    """
    try:
        import safetensors
    except ImportError as err:
        raise missing_extra("safetensors", "safetensors", "load") from err
    name = os.path.basename(os.fspath(path))
    with open(path, "rb") as file:
        data = file.read()
    try:
        deserialize: Any = safetensors.deserialize
        arrays = {key: _array(tensor, key) for key, tensor in deserialize(data)}
    except ModelFormatError as err:
        raise ModelFormatError(f"{name}: {err}") from None
    except Exception as err:  # whatever the package meets in a damaged file
        raise ModelFormatError(f"{name}: not a readable safetensors file: {err!s:.200}") from err
    try:
        layers = linear_layers(arrays, name)
    except (ValueError, NotImplementedError) as err:
        raise ModelFormatError(str(err)) from None
    try:
        return network_of(layers, activations, name)
    except (ShapeError, NotFiniteError) as err:  # of the file; the rest is about the activations
        raise ModelFormatError(str(err)) from None


def _array(tensor: dict[str, Any], key: str) -> Numbers:
    kind = tensor["dtype"]
    if kind not in _DTYPES:
        raise ModelFormatError(f"{key!r:.80} is of {kind}; expected one of {', '.join(_DTYPES)}.")
    flat = np.frombuffer(tensor["data"], _DTYPES[kind])
    if kind == "BF16":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    array: Numbers = flat.astype(np.float32) if kind == "F16" else flat
    return array.reshape(tensor["shape"])
