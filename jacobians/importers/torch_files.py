"""``.pt``, ``.pth`` and ``.ckpt`` files, read without torch and without running anything.

``torch.save`` writes a pickle, a program for a small stack machine, with the numbers of the tensors
beside it.  That machine is given nothing here but dictionaries and the two functions that torch
rebuilds tensors with, as records; any other name in the file is refused before it is looked up.
Only then are the tensors cut out of the numbers, each within what the file holds.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from jacobians._checks import ModelFormatError, Numbers
from jacobians._npz import Brief, require_side_by_side

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_OLD_MAGIC = 0x1950A86A20F9469CFC6C


def read_checkpoint(file: BinaryIO, size: int) -> Any:
    """Return what ``torch.save`` wrote, with arrays in place of tensors."""
    archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    value, numbers = (_read_archive if archive else _read_old)(file, size)
    return _with_arrays(value, numbers, size, "it")


def _with_arrays(value: Any, numbers: Mapping[str, Numbers], size: int, at: str) -> Any:
    if isinstance(value, _Tensor):
        return _array(value, numbers, size, at)
    if not isinstance(value, dict):
        return value
    return {key: _with_arrays(v, numbers, size, f"{key!r:.80}") for key, v in value.items()}


class _Storage(NamedTuple):
    """Numbers in a row, somewhere in the file."""

    key: str
    dtype: str


class _Tensor(NamedTuple):
    """A tensor that is still to be cut out of its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _array(tensor: _Tensor, numbers: Mapping[str, Numbers], size: int, at: str) -> Numbers:
    """Cut a tensor out of its storage, if it lies within it."""
    storage, offset, shape, strides = tensor
    flat = numbers[storage.key]
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    within = min((offset, *shape, *strides)) >= 0 and (0 in shape or last < len(flat))
    # a view can show one number of the file a million times
    if not within or prod(shape) * np.dtype(_DTYPES[storage.dtype]).itemsize > size:
        raise ModelFormatError(f"{at} claims shape {shape!s:.80}, more than the file holds.")
    steps = [step * flat.itemsize for step in strides]
    array: Numbers = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
    return array


def _read_archive(file: BinaryIO, size: int) -> tuple[Any, dict[str, Numbers]]:
    brief: Any = Brief(file)
    with zipfile.ZipFile(brief) as archive:
        names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            raise ModelFormatError(
                "holds a TorchScript program, which is code. If you trust where it comes from, "
                "give torch.jit.load(path).state_dict() to from_torch, with activations."
            )
        require_side_by_side(archive.infolist(), size, "write it with torch.save")
        described = next((name for name in names if name.endswith("data.pkl")), None)
        if described is None:
            raise ModelFormatError("not a file of torch.save: it has no data.pkl.")
        reader = _Unpickler(io.BytesIO(archive.read(described)))
        value = reader.load()
        brief.most = size
        folder = described.removesuffix("data.pkl")
        return value, {
            key: _numbers(archive.read(f"{folder}data/{key}"), storage.dtype)
            for key, storage in reader.storages.items()
        }


def _read_old(file: BinaryIO, size: int) -> tuple[Any, dict[str, Numbers]]:
    """Read the format of before 2020: pickles one after the other, then the numbers."""
    if _Unpickler(file).load() != _OLD_MAGIC:
        raise ModelFormatError("not a file of torch.save.")
    for _ in ("version", "machine"):
        _Unpickler(file).load()
    reader = _Unpickler(file)
    value, keys = reader.load(), _Unpickler(file).load()
    numbers = {}
    for key in keys:
        dtype = reader.storages[key].dtype
        claimed = int.from_bytes(file.read(8), "little") * np.dtype(_DTYPES[dtype]).itemsize
        if claimed > size:
            raise ModelFormatError(f"claims {claimed} bytes, but the file has {size}.")
        numbers[key] = _numbers(file.read(claimed), dtype)
    return value, numbers


def _numbers(data: bytes, dtype: str) -> Numbers:
    """Return the numbers of a storage; half precision is widened here, once for all its views."""
    flat = np.frombuffer(data, _DTYPES[dtype])
    if dtype == "BFloat16Storage":  # the upper half of a float32
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(np.float32) if dtype == "HalfStorage" else flat


class _Unpickler(pickle._Unpickler):
    """The stack machine, in Python (the one in C allocates what a file says), with no names."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a state dict needs."""
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) not in _NAMES:
            raise ModelFormatError(
                f"holds {module:.40}.{name:.40}, which is code and not only weights. Save "
                "module.state_dict(); or, if you trust where the file comes from, give what "
                "torch.load returns to from_torch."
            )
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """Return which numbers are meant."""
        kind, dtype, key = pid[:3]
        if kind != "storage" or dtype not in _DTYPES:
            raise ModelFormatError(f"holds {dtype!r:.40}, expected numbers.")
        return self.storages.setdefault(str(key), _Storage(str(key), dtype))

    def _forget(self) -> None:
        self.stack.pop()  # type: ignore[attr-defined] # attributes of an OrderedDict: the versions of the modules

    dispatch[pickle.BUILD[0]] = _forget


def _rebuild(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(map(int, shape)), tuple(map(int, strides)))


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}
