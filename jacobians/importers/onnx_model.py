"""The records of an ONNX file: its tensors, nodes, inputs and outputs, as the bytes give them.

Nothing that the file says of itself is believed before it has been compared with what is there.
Tensors are decoded when they are used, attributes when their node is: a refusal costs neither.
The numbers of the fields and kinds are those of onnx.proto.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, Numbers, freeze
from jacobians.importers._half import widened
from jacobians.importers.onnx_wire import (
    EIGHT,
    FOUR,
    VARINT,
    Budget,
    Span,
    fields,
    signed,
    tag,
    whole_numbers,
)

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


class Source:
    """The bytes of a model, what reading them may cost, and the folder of its other files."""

    def __init__(self, data: bytes, size: int, folder: str | None) -> None:
        self.data = data
        self.budget = Budget(size)
        self._folder = None if folder is None else os.path.realpath(folder)
        self._opened: set[str] = set()

    def text(self, start: int, stop: int) -> str:
        """Return a name, which is kept."""
        self.budget.keep(80 + stop - start)
        return self.data[start:stop].decode()

    def read(self, location: str, offset: int, size: int) -> bytes:
        """Read bytes of a file inside the folder of the model, and of no other."""
        if self._folder is None:
            raise ModelFormatError("its data is in another file; give the path of the model.")
        path = os.path.realpath(os.path.join(self._folder, location))
        inside = not os.path.isabs(location) and path.startswith(os.path.join(self._folder, ""))
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
            self.budget.justify(held)
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


# --- tensors --------------------------------------------------------------------------------------


@dataclass(eq=False)
class Tensor:
    """A constant of known shape; ``array`` decodes it, once."""

    name: str
    kind: int
    shape: tuple[int, ...]
    held: list[tuple[int, int, int]]  # the fields that hold its values
    outside: dict[str, str]
    source: Source
    _array: Numbers | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype here; half precision is widened to float32."""
        return dtype_of(self.kind)

    @property
    def array(self) -> Numbers:
        """The values, read-only."""
        if self._array is None:
            try:
                self._array = self._decoded()
            except ModelFormatError as err:
                raise ModelFormatError(f"tensor {self.name!r:.60} {err}") from None
        return self._array

    def require_sound(self) -> None:
        """Compare what it claims with what it holds, before anything is decoded."""
        try:
            self._require_sound()
        except ModelFormatError as err:
            raise ModelFormatError(f"tensor {self.name!r:.60} {err}") from None

    def _require_sound(self) -> None:
        name, dtype, number, _ = _known(self.kind)
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
        name, dtype, number, _ = _known(self.kind)
        count, item = prod(self.shape), np.dtype(dtype).itemsize
        self.source.budget.spend(count * max(item, self.dtype.itemsize))
        data, flat = self.source.data, None
        if self.outside:
            flat = np.frombuffer(_outside(self, count * item), dtype)
        elif self.held and self.held[0][0] >> 3 == number and _SINGLE[number] == "varint":
            flat = _narrowed(_varints(self), dtype)
            if flat.size != count:
                raise ModelFormatError(
                    f"claims shape {self.shape} of {name}, but holds {flat.size * item} bytes."
                )
        else:  # slicing copies the bytes to where no other tensor keeps them from being freed
            pieces = [data[start:stop] for _, start, stop in self.held]
            flat = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype)
        return freeze(_widened(flat, self.kind)).reshape(self.shape)


def _known(kind: int) -> tuple[str, str, int, str]:
    if kind not in _KINDS:
        names = ", ".join(known[0] for known in _KINDS.values())
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
        numbers = [whole_numbers(data, f, tensor.source.budget) for f in tensor.held]
        return np.array(sum(numbers, []), np.int64)
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


def _narrowed(wide: Numbers, dtype: str) -> Numbers:
    flat = wide.astype(dtype)
    if (flat != wide).any():
        raise ModelFormatError("holds numbers outside the range of its kind.")
    return flat


def _widened(flat: Numbers, kind: int) -> Numbers:
    """Return the machine's own dtype; half precision becomes float32."""
    if kind in (FLOAT16, BFLOAT16):
        return widened(flat, kind == BFLOAT16)
    if kind == BOOL:
        if flat.size and flat.max() > 1:
            raise ModelFormatError("holds numbers outside the range of its kind.")
        return flat.astype(bool)
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)


_HOLDERS = {tag(n) for n in (4, 5, 7, 9, 10)} | {tag(5, VARINT), tag(7, VARINT)}
_HOLDERS |= {tag(4, FOUR), tag(10, EIGHT)}


def read_tensor(source: Source, span: Span) -> Tensor:
    """Read what a TensorProto says of itself."""
    dims: list[int] = []
    once = Once("a tensor")
    held, outside = [], {}
    external = False
    for key, start, stop in fields(source.data, span, source.budget):
        if key in (tag(1), tag(1, VARINT)):
            dims += whole_numbers(source.data, (key, start, stop), source.budget)
        elif key == tag(2, VARINT):
            once.set("data_type", start)
        elif key == tag(8):
            once.set("name", source.text(start, stop))
        elif key in _HOLDERS and stop != start:
            source.budget.keep(100)
            held.append((key, start, stop))
        elif key == tag(3):
            raise ModelFormatError("a tensor in segments has no rule.")
        elif key == tag(13):
            name, value = read_pair(source, (start, stop))
            outside[name] = value
        elif key == tag(14, VARINT):
            external = start == 1
    source.budget.keep(600)
    if external:
        outside.setdefault("location", "")
    kind = once.get("data_type", 0)
    return Tensor(
        once.get("name", ""), kind, tuple(dims), held, outside if external else {}, source
    )


class Once:
    """Fields that a message may hold once: of two, readers of other files take one or the other."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._found: dict[str, Any] = {}

    def set(self, name: str, value: Any) -> None:
        """Note a field, refusing its second."""
        if name in self._found:
            raise ModelFormatError(f"{self._what} has two fields {name}.")
        self._found[name] = value

    def get(self, name: str, default: Any) -> Any:
        """Return the field, or the default."""
        return self._found.get(name, default)


def read_pair(source: Source, span: Span) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    pair = {1: "", 2: ""}
    for key, start, stop in fields(source.data, span, source.budget):
        if key in (tag(1), tag(2)):
            pair[key >> 3] = source.text(start, stop)
    return pair[1], pair[2]


# --- nodes ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class NodeRecord:
    """A node as it stands in the file; its attributes are read when it is used."""

    number: int
    op: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[Span] = field(default_factory=list)

    @property
    def at(self) -> str:
        """The place of the node, for errors."""
        name = f" {self.name!r:.60}" if self.name else ""
        return f"node {self.number}{name} ({self.op:.40})"


def read_node(source: Source, span: Span, number: int) -> NodeRecord:
    """Read a NodeProto."""
    node = NodeRecord(number)
    source.budget.keep(500)
    for key, start, stop in fields(source.data, span, source.budget):
        if key == tag(1):
            node.inputs.append(source.text(start, stop))
        elif key == tag(2):
            node.outputs.append(source.text(start, stop))
        elif key == tag(3):
            node.name = source.text(start, stop)
        elif key == tag(4):
            node.op = source.text(start, stop)
        elif key == tag(5):
            source.budget.keep(150)
            node.attributes.append((start, stop))
        elif key == tag(7):
            node.domain = source.text(start, stop)
    if node.domain == "ai.onnx":
        node.domain = ""
    return node


_ATTRIBUTES = {  # type: name, tag of the field that holds it
    1: ("FLOAT", tag(2, FOUR)),
    2: ("INT", tag(3, VARINT)),
    3: ("STRING", tag(4)),
    4: ("TENSOR", tag(5)),
    6: ("FLOATS", tag(7)),
    7: ("INTS", tag(8)),
    8: ("STRINGS", tag(9)),
}


def read_attribute(source: Source, span: Span, at: str) -> tuple[str, Any]:
    """Read an AttributeProto: its name, and a number, text, a tensor, an array or a tuple."""
    once = Once(f"{at} in an attribute")
    values: dict[int, list[Any]] = {}
    for key, start, stop in fields(source.data, span, source.budget):
        number = key >> 3
        if key == tag(1):
            once.set("name", source.text(start, stop))
        elif key == tag(20, VARINT):
            once.set("type", start)
        elif key == tag(21):
            raise ModelFormatError(f"{at} refers to an attribute of a function, which has no rule.")
        elif number in (2, 7) and key != tag(7, VARINT):
            source.budget.keep(40 + 2 * (stop - start))
            values.setdefault(number, []).append(np.frombuffer(source.data[start:stop], "<f4"))
        elif number in (3, 8) and key & 7 in (VARINT, 2):
            source.budget.keep(80)
            values.setdefault(number, []).append(
                whole_numbers(source.data, (key, start, stop), source.budget)
            )
        elif key in (tag(4), tag(9)):
            values.setdefault(number, []).append(source.text(start, stop))
        elif key == tag(5):
            values.setdefault(number, []).append(read_tensor(source, (start, stop)))
        elif number in (6, 10, 11, 14, 15, 22, 23):
            values.setdefault(number, []).append(None)
    name = once.get("name", "")
    if len(values) > 1:
        raise ModelFormatError(f"{at} has an attribute {name!r:.60} of several values.")
    kind = once.get("type", 0)
    if kind in _ATTRIBUTES:
        held = _ATTRIBUTES[kind][1] >> 3
        found = values.get(held, [])
        if values and held not in values:
            raise ModelFormatError(f"{at} has an attribute {name!r:.60} of another type.")
    else:  # the first versions of the format had no type
        held, found = next(iter(values.items()), (0, []))
    return name, _value(held, found, at, name)


def _value(held: int, values: list[Any], at: str, name: str) -> Any:
    if held == 7:
        return np.concatenate([np.zeros(0, "<f4"), *values]).astype(np.float32)
    if held == 8:
        return tuple(number for part in values for number in part)
    if held == 9:
        return tuple(values)
    if held not in (2, 3, 4, 5) or len(values) > 1:
        raise ModelFormatError(f"{at} has an attribute {name!r:.60} that has no rule.")
    if not values:  # a default of the format, which is not written
        return {2: 0.0, 3: 0, 4: ""}.get(held)
    if held == 2:
        return float(values[0][0])
    return values[0][0] if held == 3 else values[0]


# --- the graph ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Port:
    """An input or output of the graph: its element type and its sizes, None where left open."""

    name: str
    kind: int
    dims: tuple[int | str | None, ...] | None


def read_port(source: Source, span: Span) -> Port:
    """Read a ValueInfoProto; kind 0 is anything but a tensor."""
    once = Once("an input or output")
    for key, start, stop in fields(source.data, span, source.budget):
        if key == tag(1):
            once.set("name", source.text(start, stop))
        elif key == tag(2):
            once.set("type", (start, stop))
    kind, dims = 0, None
    tensor = _only(source, once.get("type", (0, 0)), 1)
    for key, start, stop in fields(source.data, tensor or (0, 0), source.budget):
        if key == tag(1, VARINT):
            kind = start
        elif key == tag(2):
            dims = tuple(
                _dim(source, (a, b))
                for k, a, b in fields(source.data, (start, stop), source.budget)
                if k == tag(1)
            )
    source.budget.keep(400 + 60 * len(dims or ()))
    return Port(once.get("name", ""), kind, dims)


def _dim(source: Source, span: Span) -> int | str | None:
    source.budget.keep(40)
    for key, start, stop in fields(source.data, span, source.budget):
        if key == tag(1, VARINT):
            return signed(start)
        if key == tag(2):
            return source.text(start, stop)
    return None


def _only(source: Source, span: Span, number: int) -> Span | None:
    """Return where the message in a field is, if it is there."""
    found = None
    for key, start, stop in fields(source.data, span, source.budget):
        if key == tag(number):
            found = (start, stop)
    return found


@dataclass(eq=False)
class Model:
    """An ONNX model: versions of its operators, nodes, initializers, inputs and outputs."""

    source: Source
    opsets: dict[str, int] = field(default_factory=dict)
    functions: set[tuple[str, str]] = field(default_factory=set)
    nodes: list[NodeRecord] = field(default_factory=list)
    initializers: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    sparse: bool = False


def read_model(source: Source) -> Model:
    """Read a ModelProto."""
    model, graphs = Model(source), []
    for key, start, stop in fields(source.data, (0, len(source.data)), source.budget):
        if key == tag(7):
            graphs.append((start, stop))
        elif key == tag(8):
            _read_opset(model, (start, stop))
        elif key == tag(25):
            _read_function(model, (start, stop))
    if len(graphs) != 1:
        raise ModelFormatError(f"not a readable ONNX model: it holds {len(graphs)} graphs.")
    for key, start, stop in fields(source.data, graphs[0], source.budget):
        span = (start, stop)
        if key == tag(1):
            model.nodes.append(read_node(source, span, len(model.nodes) + 1))
        elif key == tag(5):
            tensor = read_tensor(source, span)
            if tensor.name in model.initializers:
                raise ModelFormatError("two initializers have the same name.")
            model.initializers[tensor.name] = tensor
        elif key == tag(11):
            model.inputs.append(read_port(source, span))
        elif key == tag(12):
            model.outputs.append(read_port(source, span))
        elif key == tag(15):
            model.sparse = True
    return model


def _read_opset(model: Model, span: Span) -> None:
    domain, version = "", 0
    for key, start, stop in fields(model.source.data, span, model.source.budget):
        if key == tag(1):
            domain = model.source.text(start, stop)
        elif key == tag(2, VARINT):
            version = signed(start)
    domain = "" if domain == "ai.onnx" else domain
    if model.opsets.setdefault(domain, version) != version:
        raise ModelFormatError(f"its opset is {model.opsets[domain]} and {version}.")


def _read_function(model: Model, span: Span) -> None:
    name = domain = ""
    for key, start, stop in fields(model.source.data, span, model.source.budget):
        if key == tag(1):
            name = model.source.text(start, stop)
        elif key == tag(10):
            domain = model.source.text(start, stop)
    model.functions.add(("" if domain == "ai.onnx" else domain, name))
