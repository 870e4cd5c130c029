"""``.mat`` files: arrays with names that say weight or bias, and nothing else of what they hold.

After 128 bytes of header come elements: a kind, a length and as many bytes, padded to eight.  A
matrix is an element of elements, which are its class, its sizes, its name and its numbers, or the
matrices in its cells; a compressed element is another element once it is unpacked.

Source: MathWorks, MAT-File Format, level 5.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from math import prod
from typing import Any, BinaryIO

import numpy as np

from jacobians._checks import ModelFormatError, Numbers

NAME = re.compile(r"(w|b|weight|bias|weights|biases|theta)_?([0-9]*)", re.IGNORECASE)
_SMALL, _RATIO = 2**24, 8  # bytes that numbers may take when unpacked, and times the file's size
_MATRIX, _COMPRESSED, _MOST_CELLS = 14, 15, 2**12
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_DTYPES |= {12: "i8", 13: "u8"}
_CELLS, _NUMBERS, _OPAQUE, _COMPLEX = 1, range(6, 16), 17, 0x800  # classes, and a flag
_NOTHING = np.asarray("")  # what is neither numbers nor cells of numbers

Elements = Iterator[tuple[int, memoryview]]


def read_mat(file: BinaryIO, size: int) -> dict[str, Numbers]:
    """Read the arrays with names that are taken; of the others only the names."""
    data = memoryview(file.read())
    head = bytes(data[:128])
    if b"MATLAB 7.3" in head or head.startswith(b"\x89HDF"):
        raise ModelFormatError("is of MATLAB's version 7.3; write it with save(..., '-v7').")
    order = {b"IM": "<", b"MI": ">"}.get(head[126:])
    if order is None:
        raise ModelFormatError("not a readable .mat file: it does not begin like one.")
    arrays: dict[str, Numbers] = {}
    for content in _matrices(data[128:], order, _SMALL + _RATIO * size):
        number, sizes, name, elements = _described(content, order)
        if name in arrays:
            raise ModelFormatError(f"holds {name!r:.60} twice.")
        taken = NAME.fullmatch(name) is not None
        arrays[name] = _held(number, sizes, elements, order) if taken else _NOTHING
    return arrays


def _matrices(data: memoryview, order: str, most: int) -> Iterator[memoryview]:
    """Yield the content of every matrix, unpacked where it is compressed, up to a size."""
    for kind, content in _elements(data, order):
        if kind == _COMPRESSED:
            size = _unpacked_size(content, most)
            most -= size
            unpacked = zlib.decompress(content, bufsize=size + 1)
            kind, content = _next(_elements(memoryview(unpacked), order))
        if kind == _MATRIX:
            yield content


def _unpacked_size(content: memoryview, most: int) -> int:
    """Return to how many bytes something unpacks, in little memory, refusing more than a limit."""
    size, unpacker = 0, zlib.decompressobj()
    for begin in range(0, len(content), 2**14):
        packed: Any = content[begin : begin + 2**14]
        while packed:
            size += len(unpacker.decompress(packed, 2**20))
            packed = unpacker.unconsumed_tail
            if size > most:
                raise ModelFormatError(f"unpacks to more than {_RATIO} times its size.")
    return size


def _elements(data: memoryview, order: str) -> Elements:
    """Yield the elements that stand one after the other, each with its kind."""
    place = 0
    while place < len(data):
        kind, count = struct.unpack_from(f"{order}II", data, place)
        begin = place + 8
        if kind >> 16:  # of up to four bytes, which stand where the length would
            kind, count, begin = kind & 0xFFFF, min(kind >> 16, 4), place + 4
        end = begin + count
        if end > len(data):
            raise ModelFormatError("not a readable .mat file: it ends inside an element.")
        yield kind, data[begin:end]
        place = end if kind == _COMPRESSED else end + -(end - place) % 8


def _next(elements: Elements) -> tuple[int, memoryview]:
    for element in elements:
        return element
    raise ModelFormatError("not a readable .mat file: an element is missing.")


def _described(content: memoryview, order: str) -> tuple[int, bytes, str, Elements]:
    """Return the class and flags of a matrix, its sizes, its name and the elements that follow."""
    elements = _elements(content, order)
    number = struct.unpack_from(f"{order}I", _next(elements)[1])[0]
    sizes = b"" if number & 255 == _OPAQUE else bytes(_next(elements)[1])
    return number, sizes, bytes(_next(elements)[1]).decode(), elements


def _held(number: int, sizes: bytes, elements: Elements, order: str) -> Numbers:
    """Return the numbers of a matrix, or its cells, as an array of arrays."""
    if number & 255 == _CELLS:
        cells = []
        for _, content in islice(elements, _MOST_CELLS):
            kind, inner, _, more = _described(content, order)
            cells.append(_NOTHING if kind & 255 == _CELLS else _held(kind, inner, more, order))
        held: Numbers = np.empty(len(cells), object)
        for k, cell in enumerate(cells):
            held[k] = cell
    elif number & 255 in _NUMBERS and not number & _COMPLEX:
        kind, content = _next(elements)
        if kind not in _DTYPES:
            raise ModelFormatError(f"holds numbers of kind {kind}, which there is not.")
        held = np.frombuffer(content, order + _DTYPES[kind])
    else:
        return _NOTHING
    shape = np.frombuffer(sizes, f"{order}i4").tolist()
    if min(shape, default=0) < 0 or prod(shape) != held.size:
        raise ModelFormatError(f"claims shape {shape!s:.80}, but holds {held.size} entries.")
    return held.reshape(shape, order="F")
