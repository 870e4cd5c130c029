"""Tensors of an ONNX file, as the bytes give them, and what reading them may cost.

Nothing that the file says of itself is believed before it has been compared with what is there.
Tensors are decoded when they are used, attributes when their node is: a refusal costs neither.
The numbers of the fields and kinds are those of onnx.proto.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NoReturn

import numpy as np

from jacobians._checks import ModelFormatError, Numbers, freeze
from jacobians.importers import onnx_wire as wire
from jacobians.importers._half import widened

# data_type: its name, the dtype of the raw bytes, the field of single numbers, the dtype here
FLOAT, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 9, 10, 11, 16
_KINDS = {
    1: ("FLOAT", "<f4", 4, "float32"),
    2: ("UINT8", "u1", 5, "uint8"),
    3: ("INT8", "i1", 5, "int8"),
    6: ("INT32", "<i4", 5, "int32"),
    7: ("INT64", "<i8", 7, "int64"),
    9: ("BOOL", "u1", 5, "bool"),
    10: ("FLOAT16", "<u2", 5, "float32"),
    11: ("DOUBLE", "<f8", 10, "float64"),
    16: ("BFLOAT16", "<u2", 5, "float32"),
}
FLOATING = (FLOAT, DOUBLE, FLOAT16, BFLOAT16)
MOST_AXES = 64  # of an array of NumPy

_RAW = 9  # the field of raw bytes
_SINGLE = {4: "<f4", 5: "varint", 7: "varint", 10: "<f8"}  # how a field of single numbers is packed


def kind_name(kind: int) -> str:
    """Return the name of an element type."""
    return _KINDS[kind][0] if kind in _KINDS else f"element type {kind}"


def dtype_of(kind: int) -> np.dtype[Any]:
    """Return the dtype in which numbers of this element type are held here."""
    return np.dtype(_KINDS[kind][3])


class Constant:
    """Numbers of a model; for a matrix, which its layer copies, ``as_it_lies`` in any memory."""

    def __init__(self, array: Any) -> None:
        self.array = self.as_it_lies = array
        self.shape, self.dtype = array.shape, array.dtype


@dataclass(eq=False)
class Tensor(Constant):
    """A constant in the file; ``array`` decodes it, once."""

    name: str
    kind: int
    shape: tuple[int, ...]
    held: list[tuple[int, int, int]]  # the fields that hold its values
    outside: dict[str, str]
    source: wire.Source

    def refuse(self, message: str) -> NoReturn:
        """Refuse this tensor, by name."""
        raise ModelFormatError(f"tensor {self.name!r:.60} {message}")

    @cached_property
    def _record(self) -> tuple[str, str, int, str]:
        if self.kind not in _KINDS:
            names = ", ".join(record[0] for record in _KINDS.values())
            self.refuse(f"holds {kind_name(self.kind)}; expected one of {names}, whole.")
        return _KINDS[self.kind]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype here; half precision is widened to float32."""
        return np.dtype(self._record[3])

    @cached_property
    def array(self) -> Numbers:
        """The values, read-only."""
        self._require_sound()
        _, dtype, number, _ = self._record
        count, item = prod(self.shape), np.dtype(dtype).itemsize
        self.source.spend(count * max(item, self.dtype.itemsize))
        if self.outside:
            flat = np.frombuffer(self._read_outside(count * item), dtype)
        elif self.held and self.held[0][0] >> 3 == number and _SINGLE[number] == "varint":
            wide = self._varints()
            flat = wide.astype(dtype)
            if (flat != wide).any():
                self.refuse("holds numbers outside the range of its kind.")
            if flat.size != count:
                self._refuse_size(flat.size * item)
        else:  # slicing copies the bytes to where no other tensor keeps them from being freed
            pieces = [self.source.data[start:stop] for _, start, stop in self.held]
            flat = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype)
        return freeze(self._in_dtype(flat)).reshape(self.shape)

    @property
    def as_it_lies(self) -> Numbers:
        """The values in the bytes of the file, if they lie there in the dtype here and as one."""
        alike = self.kind in (FLOAT, DOUBLE) and sys.byteorder == "little"
        if not alike or self.outside or len(self.held) != 1:
            return self.array
        self._require_sound()
        start, count = self.held[0][1], prod(self.shape)
        return np.frombuffer(self.source.data, self.dtype, count, start).reshape(self.shape)

    def _require_sound(self) -> None:
        _, dtype, number, _ = self._record
        if min(self.shape, default=0) < 0 or len(self.shape) > MOST_AXES:
            self.refuse(f"claims shape {self.shape!s:.80}.")
        holders = {key >> 3 for key, _, _ in self.held}
        if len(holders) + bool(self.outside) > 1:
            self.refuse("holds its values twice.")
        if holders <= {_RAW} or (holders == {number} and _SINGLE[number] != "varint"):
            held = sum(stop - start for _, start, stop in self.held)
            if not self.outside and held != prod(self.shape) * np.dtype(dtype).itemsize:
                self._refuse_size(held)
        elif holders != {number}:
            self.refuse(f"claims to be {self._record[0]}, but holds numbers of another kind.")

    def _refuse_size(self, held: int) -> NoReturn:
        self.refuse(f"claims shape {self.shape} of {self._record[0]}, but holds {held} bytes.")

    def _read_outside(self, size: int) -> bytes:
        """Read bytes of a file inside the folder of the model, and of no other."""
        if self.source.folder is None:
            self.refuse("its data is in another file; give the path of the model.")
        folder, location = os.path.realpath(self.source.folder), self.outside["location"]
        path = os.path.realpath(os.path.join(folder, location))
        inside = not os.path.isabs(location) and path.startswith(os.path.join(folder, ""))
        if not inside or not os.path.isfile(path):
            self.refuse(
                f"its data is in {location!r:.80}, which is not a file in the model's folder."
            )
        try:
            offset = int(self.outside.get("offset", 0))
            length = int(self.outside.get("length", size))
        except ValueError:
            self.refuse("has no number as offset or length of its data.")
        held = self.source.open(path)
        if length != size:
            self.refuse(f"claims shape {self.shape}, but {length} bytes of data.")
        if offset < 0 or offset + size > held:
            where = f"{offset}..{offset + size} of {location!r:.80}"
            self.refuse(f"its data is at {where}, which holds {held} bytes.")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def _varints(self) -> Numbers:
        """Decode whole numbers of variable length, all at once: bytes below 128 end one."""
        if any(stop < 0 for _, _, stop in self.held):  # one by one
            numbers = [wire.whole_numbers(self.source, field) for field in self.held]
            return np.array([number for part in numbers for number in part], np.int64)
        pieces = (self.source.data[start:stop] for _, start, stop in self.held)
        raw = np.frombuffer(b"".join(pieces), np.uint8)
        ends = np.flatnonzero(raw < 128)
        self.source.spend(24 * raw.size)
        starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.intp)[: ends.size]
        lengths = ends - starts + 1
        longest = int(lengths.max(initial=0))
        if longest > 10 or (raw.size and raw[-1] > 127):
            self.refuse("holds a number without an end.")
        values = np.zeros(ends.size, np.uint64)
        for k in range(longest):
            has = lengths > k
            seven = (raw[starts[has] + k] & np.uint64(127)).astype(np.uint64)
            values[has] |= seven << np.uint64(7 * k)
        return values.view(np.int64)

    def _in_dtype(self, flat: Numbers) -> Numbers:
        """Return the machine's own dtype; half precision becomes float32."""
        if self.kind in (FLOAT16, BFLOAT16):
            return widened(flat, self.kind == BFLOAT16, f"tensor {self.name!r:.60}")
        if self.kind == BOOL:
            if flat.size and flat.max() > 1:
                self.refuse("holds numbers outside the range of its kind.")
            return flat.astype(bool)
        return flat.astype(flat.dtype.newbyteorder("="), copy=False)


# The fields of single numbers, and of raw bytes, and how one number is written: or several, packed.
_WRITTEN = {4: wire.FOUR, 5: wire.VARINT, 7: wire.VARINT, _RAW: wire.LENGTH, 10: wire.EIGHT}


def read_tensor(source: wire.Source, span: wire.Span) -> Tensor:
    """Read what a TensorProto says of itself."""
    message = wire.Message(source, span, (1, 2, 3, 8, 13, 14, *_WRITTEN))
    if message.fields(3):
        raise ModelFormatError("a tensor in segments has no rule.")
    name, kind = message.text(8, once="name"), message.number(2, once="data_type")
    dims = [n for field in message.fields(1) for n in wire.whole_numbers(source, field)]
    held = [
        (key, start, stop)
        for number, written in _WRITTEN.items()
        for key, start, stop in message.fields(number)
        if key & 7 in (wire.LENGTH, written) and stop != start
    ]
    outside = {}
    if message.number(14) == 1:
        pairs = (wire.Message(source, part, (1, 2)) for part in message.spans(13))
        outside = {"location": "", **{pair.text(1): pair.text(2) for pair in pairs}}
    source.keep(600)
    return Tensor(name, kind, tuple(dims), held, outside, source)
