"""Tensors of an ONNX model -> arrays, believing nothing that they say about themselves.

A tensor claims a shape and holds bytes, or numbers, or the name of a file beside the model.  The
three are compared before anything is allocated, and what a model may take altogether is limited by
the size of its files: a constant of four bytes can ask to be spread over a billion entries.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, Numbers, freeze, readable_bytes

# data_type: (dtype of the raw bytes, field of single numbers); names as in TensorProto.DataType
_ENCODINGS = {
    "FLOAT": ("<f4", "float_data"),
    "DOUBLE": ("<f8", "double_data"),
    "FLOAT16": ("<u2", "int32_data"),
    "BFLOAT16": ("<u2", "int32_data"),
    "INT32": ("<i4", "int32_data"),
    "INT64": ("<i8", "int64_data"),
    "BOOL": ("?", "int32_data"),
}
_FLOATS = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float32", "BFLOAT16": "float32"}

MOST_AXES = 64  # of an array of NumPy


class Source:
    """Where a model comes from: its folder, and the memory that its files justify."""

    def __init__(self, size: int, folder: str | None) -> None:
        self.folder = None if folder is None else os.path.realpath(folder)
        self._opened: set[str] = set()
        self._left = 2**25
        self._justify(size)

    def spend(self, size: int) -> None:
        """Count what is about to be allocated."""
        self._left -= size
        if self._left < 0:
            raise ModelFormatError(
                f"asks for another {readable_bytes(size)} of memory, more than a file of its size "
                "justifies."
            )

    def _justify(self, size: int) -> None:
        self._left += 16 * size  # half precision is widened, products are computed in float64

    def read(self, location: str, offset: int, size: int) -> bytes:
        """Read bytes of a file inside the folder of the model, and of no other."""
        if self.folder is None:
            raise ModelFormatError("its data is in another file; give the path of the model.")
        path = os.path.realpath(os.path.join(self.folder, location))
        inside = not os.path.isabs(location) and path.startswith(os.path.join(self.folder, ""))
        if not inside or not os.path.isfile(path):
            raise ModelFormatError(
                f"its data is in {location!r:.80}, which is not a file in the model's folder."
            )
        held = os.path.getsize(path)
        if offset < 0 or offset + size > held:
            raise ModelFormatError(
                f"its data is at {offset}..{offset + size} of {location!r:.80}, "
                f"which holds {held} bytes."
            )
        if path not in self._opened:
            self._opened.add(path)
            self._justify(held)
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def to_array(tensor: Any, source: Source) -> Numbers:
    """Return a tensor as a read-only array; half precision is widened to float32.

    Parameters
    ----------
    tensor : onnx.TensorProto
    source : Source

    Raises
    ------
    ModelFormatError
        If its shape is not what it holds, or its kind is not one of real numbers.
    """
    from onnx import TensorProto

    known = tensor.data_type in TensorProto.DataType.values()
    kind = TensorProto.DataType.Name(tensor.data_type) if known else str(tensor.data_type)
    if kind not in _ENCODINGS or tensor.HasField("segment"):
        raise ModelFormatError(f"holds {kind}; expected one of {', '.join(_ENCODINGS)}, whole.")
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0 or len(shape) > MOST_AXES:
        raise ModelFormatError(f"claims shape {shape!s:.80}.")
    dtype, field = _ENCODINGS[kind]
    count, size = prod(shape), prod(shape) * np.dtype(dtype).itemsize
    source.spend(count * max(np.dtype(dtype).itemsize, 4))
    numbers = getattr(tensor, field)
    external = tensor.data_location == TensorProto.EXTERNAL
    if external + tensor.HasField("raw_data") + bool(numbers) > 1:
        raise ModelFormatError("holds its values twice.")
    if numbers:
        held = len(numbers) * np.dtype(dtype).itemsize
    else:
        data = _external(tensor, source, size) if external else tensor.raw_data
        held = len(data)
    if held != size:
        raise ModelFormatError(f"claims shape {shape} of {kind}, but holds {held} bytes.")
    flat = _from_numbers(numbers, dtype, field) if numbers else np.frombuffer(data, dtype)
    return freeze(_widen(flat, kind)).reshape(shape)  # so that layers need no copy of their own


def _external(tensor: Any, source: Source, size: int) -> bytes:
    said = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", size))
    except ValueError:
        raise ModelFormatError("has no number as offset or length of its data.") from None
    if length != size:
        raise ModelFormatError(f"claims shape {tuple(tensor.dims)}, but {length} bytes of data.")
    return source.read(said.get("location", ""), offset, size)


def _from_numbers(numbers: Any, dtype: str, field: str) -> Numbers:
    if field != "int32_data":
        return np.fromiter(numbers, dtype, len(numbers))
    wide = np.fromiter(numbers, np.int64, len(numbers))
    flat = wide.astype(dtype)
    if (flat != wide).any():
        raise ModelFormatError("holds numbers outside the range of its kind.")
    return flat


def _widen(flat: Numbers, kind: str) -> Numbers:
    """Return the machine's own dtype; half precision becomes float32."""
    if kind == "FLOAT16":
        return flat.view(np.float16).astype(np.float32)
    if kind == "BFLOAT16":  # the upper half of a float32
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)


def dtype_of(data_type: int, at: str) -> np.dtype[Any]:
    """Return the dtype in which floating point of this kind is computed here."""
    from onnx import TensorProto

    for name, dtype in _FLOATS.items():
        if data_type == TensorProto.DataType.Value(name):
            return np.dtype(dtype)
    raise ModelFormatError(f"{at} has element type {data_type}; expected {', '.join(_FLOATS)}.")
