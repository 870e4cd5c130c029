"""Files of bare weights -> Network, once somebody names the activations.

A state dict has names of its own.  Those taken in ``.npz`` and ``.mat`` files, in small or capital
letters, with or without ``_`` before the number:

============================  ===============================================================
``W1, b1, W2, b2, ...``       also ``weight1, bias1`` and ``weights1, biases1``
``W, b``                      cells of MATLAB, one entry a layer; or the arrays of a single layer
``Theta1, Theta2, ...``       the bias in the first column, the weights after it
``NAME.weight, NAME.bias``    as in a state dict
============================  ===============================================================

A weight is (n_out, n_in), or (n_in, n_out) in a file where only that fits; where both would, the
file does not say which, and is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, NotFiniteError, Numbers, ShapeError
from jacobians._npz import opened, read_npz
from jacobians.importers._state_dicts import Activations, layers_of_checkpoint, network_of
from jacobians.importers.mat_files import NAME, read_mat
from jacobians.importers.safetensors_files import read_safetensors
from jacobians.importers.torch_files import read_checkpoint
from jacobians.network import Network


def from_weights(
    path: str | os.PathLike[str],
    *,
    activations: Activations | None = None,
    arrays: Mapping[str, Numbers] | None = None,
) -> Network:
    """Import the weights and biases of linear layers in a file, as ``load`` does.

    ``arrays`` is what is in the file, if it has been read already.
    """
    path = os.fspath(path)
    name, suffix = os.path.basename(path), os.path.splitext(path)[1].lower()
    kind, read = READERS.get(suffix, ("file of weights", None))
    with opened(path, kind) as (file, size):
        value: Any = arrays if arrays is not None else read(file, size) if read else read_npz(path)
        if suffix in (".mat", ".npz"):
            value = _as_state(value)
    try:
        layers, activations = layers_of_checkpoint(value, activations, name)
    except (ValueError, TypeError, NotImplementedError) as err:
        raise ModelFormatError(f"{err!s:.999}") from None
    try:
        return network_of(layers, activations, name)
    except (ShapeError, NotFiniteError) as err:  # of the file; the rest is about the activations
        raise ModelFormatError(str(err)) from None


# by the suffix: what the file is called in errors, and how it is read; None for npz
READERS: dict[str, tuple[str, Any]] = {
    ".safetensors": ("safetensors file", read_safetensors),
    **dict.fromkeys((".pt", ".pth", ".ckpt"), ("file of torch.save", read_checkpoint)),
    ".mat": (".mat file", read_mat),
}


def _as_state(arrays: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Return the arrays under the names ``1.weight``, ``1.bias``, ... of a state dict."""
    if any(name.endswith(".weight") for name in arrays):
        return dict(arrays)
    state: dict[str, Numbers] = {}
    for name, array in arrays.items():
        if named := NAME.fullmatch(name):
            for number, entry in _entries(array, named[2]).items():
                if entry.ndim > 2 or entry.dtype.kind not in "fiu":
                    raise ModelFormatError(f"{name!r}: expected numbers with two axes.")
                _put(state, named[1][0].lower(), number, entry)
    if not any(key.endswith(".weight") for key in state):
        raise ModelFormatError(
            f"expected arrays W1, b1, W2, b2, ... (or cells W and b, or Theta1, Theta2, "
            f"...), but got {', '.join(map(repr, arrays))[:200] or 'none'}. A network of this "
            "library is written by save."
        )
    return _upright(state)


def _entries(array: Numbers, number: str) -> dict[str, Numbers]:
    """Return the cells of an array of arrays, numbered from 1; or the array itself."""
    if array.dtype != object:
        return {number or "1": array}
    return {str(l): np.asarray(cell) for l, cell in enumerate(array.ravel(order="F"), start=1)}


def _put(state: dict[str, Numbers], kind: str, number: str, array: Numbers) -> None:
    if kind == "b":
        state[f"{number}.bias"] = array.reshape(-1)  # MATLAB has no vectors, only columns and rows
    elif kind == "w":
        state[f"{number}.weight"] = np.atleast_2d(array)
    else:
        state[f"{number}.weight"], state[f"{number}.bias"] = array[:, 1:], array[:, 0]


def _upright(state: dict[str, Numbers]) -> dict[str, Numbers]:
    """Turn all weights, if (n_in, n_out) is the only way in which they form a chain."""
    names = sorted((key.removesuffix(".weight") for key in state if "weight" in key), key=int)
    weights = [state[f"{name}.weight"] for name in names]
    biases = [state.get(f"{name}.bias") for name in names]
    turned = [W.T for W in weights]
    if not _chain(turned, biases):
        return state
    if _chain(weights, biases):
        raise ModelFormatError(
            f"weights of shapes {', '.join(str(W.shape) for W in weights)!s:.200} form a "
            "chain both as (n_out, n_in) and as (n_in, n_out). Give them to from_torch, under the "
            "names '1.weight', '1.bias', ..., as (n_out, n_in)."
        )
    return {**state, **{f"{name}.weight": W for name, W in zip(names, turned, strict=True)}}


def _chain(weights: list[Numbers], biases: list[Numbers | None]) -> bool:
    fits = all(W.shape[0] == b.size for W, b in zip(weights, biases, strict=True) if b is not None)
    return fits and all(first.shape[0] == then.shape[1] for first, then in pairwise(weights))
