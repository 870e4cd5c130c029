"""The records of an ONNX file: its nodes, inputs and outputs, as the bytes give them.

Attributes are decoded when their node is used: a refusal costs none of them.  The numbers of the
fields are those of onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError
from jacobians.importers.onnx_tensors import Tensor, read_tensor
from jacobians.importers.onnx_wire import FOUR, LENGTH, Message, Source, Span, signed, whole_numbers


@dataclass(eq=False)
class NodeRecord:
    """A node as it stands in the file; its attributes are read when it is used."""

    number: int
    op: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[Span]

    @cached_property
    def at(self) -> str:
        """The place of the node, for errors."""
        name = f" {self.name!r:.60}" if self.name else ""
        return f"node {self.number}{name} ({self.op:.40})"


def read_node(source: Source, span: Span, number: int) -> NodeRecord:
    """Read a NodeProto."""
    source.keep(1500)
    message = Message(source, span, (1, 2, 3, 4, 5, 7))
    return NodeRecord(
        number,
        op=message.text(4),
        domain=_domain(message.text(7)),
        name=message.text(3),
        inputs=message.texts(1),
        outputs=message.texts(2),
        attributes=message.spans(5),
    )


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


# The fields that may hold the value of an attribute; by the number of its type, the one that does.
_VALUES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 22, 23)
_HELD = {1: 2, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8, 8: 9}
_DEFAULTS = {2: 0.0, 3: 0, 4: "", 7: np.zeros(0, np.float32), 8: (), 9: ()}  # are not written


def read_attribute(source: Source, span: Span, at: str) -> tuple[str, Any]:
    """Read an AttributeProto: its name, and a number, text, a tensor, an array or a tuple."""
    message = Message(source, span, (1, 20, 21, *_VALUES))
    name, kind = message.text(1, once="name"), message.number(20, once="type")
    called = f"{at} has an attribute {name!r:.60}"
    if message.fields(21):
        raise ModelFormatError(f"{at} refers to an attribute of a function, which has no rule.")
    holders = [number for number in _VALUES if message.fields(number)]
    if len(holders) > 1:
        raise ModelFormatError(f"{called} of several values.")
    held = _HELD.get(kind, holders[0] if holders else 0)  # the first versions had no type
    if holders and holders != [held]:
        raise ModelFormatError(f"{called} of another type.")
    given = message.fields(held) if held in _VALUES else []
    if held not in _HELD.values() or (held < 6 and len(given) > 1):
        raise ModelFormatError(f"{called} that has no rule.")
    if not given:
        return name, _DEFAULTS.get(held)
    return name, _value(source, message, held)


def _value(source: Source, message: Message, held: int) -> Any:
    """Return the value in the fields that hold it."""
    if held in (2, 7):
        spans = [span for key, *span in message.fields(held) if key & 7 in (FOUR, LENGTH)]
        source.keep(2 * sum(stop - start for start, stop in spans))
        packed = [source.data[start:stop] for start, stop in spans]
        array = np.frombuffer(b"".join(packed), "<f4").astype(np.float32)
        return array if held == 7 else float(array[0])
    if held in (3, 8):
        numbers = [n for field in message.fields(held) for n in whole_numbers(source, field)]
        return tuple(numbers) if held == 8 else numbers[0]
    if held in (4, 9):
        return tuple(message.texts(held)) if held == 9 else message.text(held)
    return read_tensor(source, message.span(held))


@dataclass(eq=False)
class Port:
    """An input or output of the graph: its element type and its sizes, None where left open."""

    name: str
    kind: int  # 0 is anything but a tensor
    dims: tuple[int | str | None, ...] | None


def read_port(source: Source, span: Span) -> Port:
    """Read a ValueInfoProto."""
    source.keep(400)
    message = Message(source, span, (1, 2))
    type_of = Message(source, message.span(2, once="type"), (1,))
    tensor = Message(source, type_of.span(1), (1, 2))
    dims = None
    if tensor.spans(2):
        dims = tuple(_dim(source, part) for part in Message(source, tensor.span(2), (1,)).spans(1))
    return Port(message.text(1, once="name"), tensor.number(1), dims)


def _dim(source: Source, span: Span) -> int | str | None:
    message = Message(source, span, (1, 2))
    if message.fields(1):
        return signed(message.number(1))
    return message.text(2) if message.fields(2) else None


@dataclass(eq=False)
class Model:
    """An ONNX model: versions of its operators, nodes, initializers, inputs and outputs."""

    source: Source
    opsets: dict[str, int]
    functions: set[tuple[str, str]]
    nodes: list[NodeRecord]
    initializers: dict[str, Tensor]
    inputs: list[Port]
    outputs: list[Port]
    sparse: bool


def read_model(source: Source) -> Model:
    """Read a ModelProto."""
    message = Message(source, (0, len(source.data)), (7, 8, 25))
    graphs = message.spans(7)
    if len(graphs) != 1:
        raise ModelFormatError(f"not a readable ONNX model: it holds {len(graphs)} graphs.")
    graph = Message(source, graphs[0], (1, 5, 11, 12, 15))
    initializers: dict[str, Tensor] = {}
    for span in graph.spans(5):
        tensor = read_tensor(source, span)
        if initializers.setdefault(tensor.name, tensor) is not tensor:
            raise ModelFormatError("two initializers have the same name.")
    functions = [Message(source, span, (1, 10)) for span in message.spans(25)]
    return Model(
        source,
        _opsets(source, message.spans(8)),
        {(_domain(one.text(10)), one.text(1)) for one in functions},
        [read_node(source, span, k) for k, span in enumerate(graph.spans(1), start=1)],
        initializers,
        [read_port(source, span) for span in graph.spans(11)],
        [read_port(source, span) for span in graph.spans(12)],
        bool(graph.fields(15)),
    )


def _opsets(source: Source, spans: list[Span]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for span in spans:
        message = Message(source, span, (1, 2))
        domain, version = _domain(message.text(1)), signed(message.number(2))
        if opsets.setdefault(domain, version) != version:
            raise ModelFormatError(f"its opset is {opsets[domain]} and {version}.")
    return opsets
