"""The records of an ONNX file: its nodes, inputs and outputs, as the bytes give them.

Attributes are decoded when their node is used: a refusal costs none of them.  The numbers of the
fields are those of onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError
from jacobians.importers.onnx_tensors import Once, Source, Tensor, read_tensor
from jacobians.importers.onnx_wire import FOUR, VARINT, Span, fields, signed, tag, whole_numbers

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


# by the number of a type: its name, and the tag of the field that holds it
_ATTRIBUTES = {
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
