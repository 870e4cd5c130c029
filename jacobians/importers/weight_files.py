"""``.npz`` and ``.mat`` files of bare weights -> Network, once somebody names the activations.

The names that are taken, in small or capital letters, with or without ``_`` before the number:

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
import re
import struct
import zlib
from collections.abc import Mapping
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from jacobians._checks import ModelFormatError, Numbers
from jacobians._npz import read_npz
from jacobians.importers._state_dicts import Activations, network_of_file
from jacobians.network import Network

_NAME = re.compile(r"(w|b|weight|bias|weights|biases|theta)_?([0-9]*)", re.IGNORECASE)
_SMALL, _RATIO = 2**24, 8  # bytes that numbers may take when unpacked, and times the file's size


def from_weights(
    path: str | os.PathLike[str],
    *,
    activations: Activations | None = None,
    arrays: Mapping[str, Numbers] | None = None,
) -> Network:
    """Import the weights and biases in an ``.npz`` or ``.mat`` file.

    Parameters
    ----------
    path : str or path
    activations : sequence of str or Activation, or mapping from layer names
        As in ``from_torch``; the layers of numbered arrays are called ``"1"``, ``"2"``, ...
    arrays : mapping, optional
        What is in the file, if it has been read already.

    Returns
    -------
    Network

    Raises
    ------
    ModelFormatError
        If it holds other names, is damaged, or claims more than it holds.
    ValueError, TypeError
        If the activations are missing or do not match the layers, naming them.
    OSError
        If it cannot be opened.
    """
    path = os.fspath(path)
    name = os.path.basename(path)
    if arrays is None:
        arrays = (_read_mat if path.endswith(".mat") else read_npz)(path)
    return network_of_file(_as_state(arrays, name), activations, name)


def _as_state(arrays: Mapping[str, Numbers], where: str) -> dict[str, Numbers]:
    """Return the arrays under the names ``1.weight``, ``1.bias``, ... of a state dict."""
    if any(name.endswith(".weight") for name in arrays):
        return dict(arrays)
    state: dict[str, Numbers] = {}
    for name, array in arrays.items():
        if named := _NAME.fullmatch(name):
            for number, entry in _entries(array, named[2]).items():
                if entry.ndim > 2 or entry.dtype.kind not in "fiu":
                    raise ModelFormatError(f"{where}: {name!r}: expected numbers with two axes.")
                _put(state, named[1][0].lower(), number, entry)
    if not any(key.endswith(".weight") for key in state):
        raise ModelFormatError(
            f"{where}: expected arrays W1, b1, W2, b2, ... (or cells W and b, or Theta1, Theta2, "
            f"...), but got {', '.join(map(repr, arrays))[:200] or 'none'}. A network of this "
            "library is written by save."
        )
    return _upright(state, where)


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


def _upright(state: dict[str, Numbers], where: str) -> dict[str, Numbers]:
    """Turn all weights, if (n_in, n_out) is the only way in which they form a chain."""
    names = sorted((key.removesuffix(".weight") for key in state if "weight" in key), key=int)
    weights = [state[f"{name}.weight"] for name in names]
    biases = [state.get(f"{name}.bias") for name in names]
    turned = [W.T for W in weights]
    if not _chain(turned, biases):
        return state
    if _chain(weights, biases):
        raise ModelFormatError(
            f"{where}: weights of shapes {', '.join(str(W.shape) for W in weights)!s:.200} form a "
            "chain both as (n_out, n_in) and as (n_in, n_out). Give them to from_torch, under the "
            "names '1.weight', '1.bias', ..., as (n_out, n_in)."
        )
    return {**state, **{f"{name}.weight": W for name, W in zip(names, turned, strict=True)}}


def _chain(weights: list[Numbers], biases: list[Numbers | None]) -> bool:
    fits = all(W.shape[0] == b.size for W, b in zip(weights, biases, strict=True) if b is not None)
    return fits and all(first.shape[0] == then.shape[1] for first, then in pairwise(weights))


def _read_mat(path: str) -> dict[str, Numbers]:
    """Read the arrays with names that are taken; nothing else is even looked at."""
    from scipy.io import loadmat, whosmat

    name = os.path.basename(path)
    with open(path, "rb") as file:
        try:
            _require_size(file, name)
            file.seek(0)
            names = [variable for variable, _, _ in whosmat(file)]
            taken = [variable for variable in names if _NAME.fullmatch(variable)]
            file.seek(0)
            found = loadmat(file, variable_names=taken) if taken else {}
        except ModelFormatError:
            raise
        except Exception as err:  # whatever scipy meets in a damaged file
            raise ModelFormatError(f"{name}: not a readable .mat file: {err!s:.200}") from err
    return {variable: np.asarray(found.get(variable, 0)) for variable in names}


def _require_size(file: BinaryIO, name: str) -> None:
    """Refuse a file that unpacks to far more than it is: it may be compressed, piece by piece."""
    head = file.read(128)
    if b"MATLAB 7.3" in head or head.startswith(b"\x89HDF"):
        raise ModelFormatError(
            f"{name}: is of MATLAB's version 7.3; write it with save(..., '-v7')."
        )
    order = {b"IM": "<", b"MI": ">"}.get(head[126:])
    if order is None:
        raise ModelFormatError(f"{name}: not a readable .mat file: it does not begin like one.")
    left = _SMALL + _RATIO * os.fstat(file.fileno()).st_size
    while len(tag := file.read(8)) == 8:
        kind, count = struct.unpack(f"{order}II", tag)
        end = file.tell() + count
        if kind == 15:  # compressed
            unpacker = zlib.decompressobj()
            while file.tell() < end and (packed := file.read(min(2**14, end - file.tell()))):
                while packed and left >= 0:
                    left -= len(unpacker.decompress(packed, 2**20))
                    packed = unpacker.unconsumed_tail
            if left < 0:
                raise ModelFormatError(f"{name}: unpacks to more than {_RATIO} times its size.")
        file.seek(end)
