"""Tensors of an ONNX file, as the bytes give them, and what reading them may cost.

Nothing that the file says of itself is believed before it has been compared with what is there.
Tensors are decoded when they are used, attributes when their node is: a refusal costs neither.
The numbers of the fields and kinds are those of onnx.proto.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import prod
from typing import Any

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

_SINGLE = {4: "<f4", 5: "varint", 7: "varint", 10: "<f8"}  # how a field of single numbers is packed


def kind_name(kind: int) -> str:
    """Return the name of an element type."""
    return _KINDS[kind][0] if kind in _KINDS else f"element type {kind}"


def dtype_of(kind: int) -> np.dtype[Any]:
    """Return the dtype in which numbers of this element type are held here."""
    return np.dtype(_KINDS[kind][3])


@dataclass(eq=False)
class Tensor:
    """A constant of record shape; ``array`` decodes it, once."""

    name: str
    kind: int
    shape: tuple[int, ...]
    held: list[tuple[int, int, int]]  # the fields that hold its values
    outside: dict[str, str]
    source: wire.Source
    _array: Numbers | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype here; half precision is widened to float32."""
        try:
            return np.dtype(_record(self.kind)[3])
        except ModelFormatError as err:
            raise ModelFormatError(f"tensor {self.name!r:.60} {err}") from None

    @property
    def array(self) -> Numbers:
        """The values, read-only."""
        if self._array is None:
            try:
                self._array = self._decoded()
            except ModelFormatError as err:
                raise ModelFormatError(f"tensor {self.name!r:.60} {err}") from None
        return self._array

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
        name, dtype, number, _ = _record(self.kind)
        if min(self.shape, default=0) < 0 or len(self.shape) > MOST_AXES:
            raise ModelFormatError(f"claims shape {self.shape!s:.80}.")
        holders = {key >> 3 for key, _, _ in self.held}
        if len(holders) + bool(self.outside) > 1:
            raise ModelFormatError("holds its values twice.")
        size = prod(self.shape) * np.dtype(dtype).itemsize
        packed = _SINGLE[number] != "varint"
        if self.outside or holders <= {9} or (packed and holders == {number}):
            held = size if self.outside else sum(stop - start for _, start, stop in self.held)
            if held != size:
                raise ModelFormatError(
                    f"claims shape {self.shape} of {name}, but holds {held} bytes."
                )
        elif holders != {number}:
            raise ModelFormatError(f"claims to be {name}, but holds numbers of another kind.")

    def _decoded(self) -> Numbers:
        self._require_sound()
        name, dtype, number, _ = _record(self.kind)
        count, item = prod(self.shape), np.dtype(dtype).itemsize
        self.source.budget.spend(count * max(item, self.dtype.itemsize))
        data, flat = self.source.data, None
        if self.outside:
            flat = np.frombuffer(_outside(self, count * item), dtype)
        elif self.held and self.held[0][0] >> 3 == number and _SINGLE[number] == "varint":
            wide = _varints(self)
            flat = wide.astype(dtype)
            if (flat != wide).any():
                raise ModelFormatError("holds numbers outside the range of its kind.")
            if flat.size != count:
                raise ModelFormatError(
                    f"claims shape {self.shape} of {name}, but holds {flat.size * item} bytes."
                )
        else:  # slicing copies the bytes to where no other tensor keeps them from being freed
            pieces = [data[start:stop] for _, start, stop in self.held]
            flat = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype)
        return freeze(_widened(flat, self.kind)).reshape(self.shape)


def _record(kind: int) -> tuple[str, str, int, str]:
    if kind not in _KINDS:
        names = ", ".join(record[0] for record in _KINDS.values())
        raise ModelFormatError(f"holds {kind_name(kind)}; expected one of {names}, whole.")
    return _KINDS[kind]


def _outside(tensor: Tensor, size: int) -> bytes:
    said = tensor.outside
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", size))
    except ValueError:
        raise ModelFormatError("has no number as offset or length of its data.") from None
    if length != size:
        raise ModelFormatError(f"claims shape {tensor.shape}, but {length} bytes of data.")
    return tensor.source.read(said.get("location", ""), offset, size)


def _varints(tensor: Tensor) -> Numbers:
    """Decode whole numbers of variable length, all at once: bytes below 128 end one."""
    data = tensor.source.data
    if any(stop < 0 for _, _, stop in tensor.held):  # one by one
        numbers = [wire.whole_numbers(tensor.source, f) for f in tensor.held]
        return np.array([number for part in numbers for number in part], np.int64)
    raw = np.frombuffer(b"".join(data[start:stop] for _, start, stop in tensor.held), np.uint8)
    ends = np.flatnonzero(raw < 128)
    tensor.source.budget.spend(24 * raw.size)
    if raw.size and (not ends.size or ends[-1] != raw.size - 1):
        raise ModelFormatError("holds a number without an end.")
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.intp)[: ends.size]
    lengths = ends - starts + 1
    if lengths.size and lengths.max() > 10:
        raise ModelFormatError("holds a number without an end.")
    values = np.zeros(ends.size, np.uint64)
    for k in range(int(lengths.max(initial=0))):
        has = lengths > k
        values[has] |= (raw[starts[has] + k] & np.uint64(127)).astype(np.uint64) << np.uint64(7 * k)
    return values.view(np.int64)


def _widened(flat: Numbers, kind: int) -> Numbers:
    """Return the machine's own dtype; half precision becomes float32."""
    if kind in (FLOAT16, BFLOAT16):
        return widened(flat, kind == BFLOAT16)
    if kind == BOOL:
        if flat.size and flat.max() > 1:
            raise ModelFormatError("holds numbers outside the range of its kind.")
        return flat.astype(bool)
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)


# The fields of single numbers, and of raw bytes, and how one number is written: or several, packed.
_WRITTEN = {4: wire.FOUR, 5: wire.VARINT, 7: wire.VARINT, 9: wire.LENGTH, 10: wire.EIGHT}


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
    source.budget.keep(600)
    return Tensor(name, kind, tuple(dims), held, outside, source)
