"""``.mat`` files: arrays with names that say weight or bias, and nothing else of what they hold."""

from __future__ import annotations

import re
import struct
import zlib
from typing import BinaryIO

import numpy as np

from jacobians._checks import ModelFormatError, Numbers

NAME = re.compile(r"(w|b|weight|bias|weights|biases|theta)_?([0-9]*)", re.IGNORECASE)
_SMALL, _RATIO = 2**24, 8  # bytes that numbers may take when unpacked, and times the file's size


def read_mat(file: BinaryIO, size: int) -> dict[str, Numbers]:
    """Read the arrays with names that are taken; of the others only the names."""
    from scipy.io import loadmat, whosmat

    _require_size(file, size)
    file.seek(0)
    names = [variable for variable, _, _ in whosmat(file)]
    taken = [variable for variable in names if NAME.fullmatch(variable)]
    file.seek(0)
    arrays = loadmat(file, variable_names=taken) if taken else {}
    return {variable: np.asarray(arrays.get(variable, 0)) for variable in names}


def _require_size(file: BinaryIO, size: int) -> None:
    """Refuse a file that unpacks to far more than it is: it may be compressed, piece by piece."""
    head = file.read(128)
    if b"MATLAB 7.3" in head or head.startswith(b"\x89HDF"):
        raise ModelFormatError("is of MATLAB's version 7.3; write it with save(..., '-v7').")
    order = {b"IM": "<", b"MI": ">"}.get(head[126:])
    if order is None:
        raise ModelFormatError("not a readable .mat file: it does not begin like one.")
    left = _SMALL + _RATIO * size
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
                raise ModelFormatError(f"unpacks to more than {_RATIO} times its size.")
        file.seek(end)
