"""ONNX files and models -> Network.

The graph must be one chain from one input to one output, through operators with a rule and gates
that are written out; weights and other constants hang on it.  The onnx package parses the file;
nothing that the file says of itself is believed before it has been compared with what is there, so
that every sequence of bytes gives a network or a ``ModelFormatError``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError, Numbers, missing_extra
from jacobians.importers._assembly import Assembly
from jacobians.importers.onnx_gates import find_gates, gate_rule
from jacobians.importers.onnx_nodes import COMPUTED, Chain, Node
from jacobians.importers.onnx_operators import RULES
from jacobians.importers.onnx_shapes import SHAPES, permutation
from jacobians.importers.onnx_tensors import MOST_AXES, Source, dtype_of, to_array
from jacobians.network import Network

OPSETS = (7, 28)  # the first and the last that the rules were written for


def from_onnx(path_or_model: Any) -> Network:
    """Import an ONNX model: a chain of matrix products, constants and activations.

    Parameters
    ----------
    path_or_model : str, path or onnx.ModelProto
        Weights may be in a file of their own, in the model's folder, if a path is given.

    Returns
    -------
    Network
        What the model computes for a batch of one point, flattened row by row.  SiLU and GELU are
        found where older opsets write them out.

    Raises
    ------
    ModelFormatError
        If it is not an ONNX model, is damaged, claims more than it holds, branches, or has an
        operator without a rule; the message names the node and the operator.
    OSError
        If the file cannot be opened.
    ImportError
        If onnx is not installed.

    >>> from jacobians.importers import IMPORTABLE
    >>> "Gemm" in IMPORTABLE["from_onnx"]
    True
    """
    try:
        import onnx
    except ImportError as err:
        raise missing_extra("onnx", "onnx", "from_onnx") from err
    model, folder, name = path_or_model, None, "from_onnx"
    if isinstance(path_or_model, (str, os.PathLike)):
        folder, name = os.path.split(os.fspath(path_or_model))
        with open(path_or_model, "rb") as file:
            data = file.read()
    elif not isinstance(path_or_model, onnx.ModelProto):
        raise TypeError(
            f"from_onnx: expected a path or an onnx.ModelProto, but got {path_or_model!r:.80}."
        )
    try:
        if folder is not None:
            model = onnx.ModelProto.FromString(data)
            del data
        return _network(model, Source(model.ByteSize(), folder), name)
    except ModelFormatError as err:
        raise ModelFormatError(f"{name}: {err}") from None
    except Exception as err:  # whatever a model that is not one leads to
        raise ModelFormatError(f"{name}: not a readable ONNX model: {err!s:.200}") from err


def _network(model: Any, source: Source, name: str) -> Network:
    graph, opset = model.graph, _opset(model)
    if graph.sparse_initializer or model.functions:
        raise ModelFormatError("sparse weights and functions of the model's own have no rule.")
    constants = _Constants(graph.initializer, source)
    value, chain = _input(graph, constants, source, name)
    used: dict[str, str] = {}  # what was computed on the way, and the node that took it
    source.spend(1024 * len(graph.node))
    for node, names, output in _nodes(graph, opset, constants):
        node.operands = [_operand(n, value, constants, used, node) for n in names]
        count = sum(operand is COMPUTED for operand in node.operands)
        if output in used or output == value or output in constants:
            node.refuse(f"gives {output!r:.60}, which there is already.")
        if count > 1:
            node.refuse("takes what is computed twice: the graph branches, which has no rule.")
        if count == 0:
            constants[output] = _evaluate(node, source)
            continue
        _step(chain, node)
        used[value] = node.at
        value = output
    _require_output(graph, value, chain.shape)
    return chain.assembly.network()


def _require_output(graph: Any, value: str, shape: tuple[int, ...]) -> None:
    """Compare what the graph says of its output with what the nodes have led to."""
    names = [output.name for output in graph.output]
    if names != [value]:
        raise ModelFormatError(
            f"its outputs are {', '.join(map(repr, names)) or 'none':.200}, but the chain of "
            f"nodes ends in {value!r:.60}."
        )
    given = graph.output[0].type.tensor_type
    if given.HasField("shape"):
        claimed = tuple(d.dim_value for d in given.shape.dim)  # 0 where it is left open
        if len(claimed) != len(shape) or any(
            size > 0 and size != true for size, true in zip(claimed, shape, strict=True)
        ):
            raise ModelFormatError(
                f"the output {value!r:.60} claims shape {claimed}, but is of shape {shape}."
            )


def _opset(model: Any) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not OPSETS[0] <= versions[0] <= OPSETS[1]:
        raise ModelFormatError(
            f"its opset is {', '.join(map(str, versions)) or 'not given'}; expected one from "
            f"{OPSETS[0]} to {OPSETS[1]}. onnx.version_converter may convert it."
        )
    return int(versions[0])


class _Constants:
    """Weights and what is computed from them, by name; each is decoded once, when it is used."""

    def __init__(self, initializers: Any, source: Source) -> None:
        self._waiting = {tensor.name: tensor for tensor in initializers}
        self._arrays: dict[str, Numbers] = {}
        self.source = source
        if len(self._waiting) < len(initializers):
            raise ModelFormatError("two initializers have the same name.")

    def __contains__(self, name: object) -> bool:
        return name in self._waiting or name in self._arrays

    def __getitem__(self, name: str) -> Numbers:
        if name in self._waiting:
            try:
                self._arrays[name] = to_array(self._waiting[name], self.source)
            except ModelFormatError as err:
                raise ModelFormatError(f"tensor {name!r:.60} {err}") from None
            del self._waiting[name]
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self._arrays[name] = value
        else:
            self._waiting[name] = value


def _input(graph: Any, constants: _Constants, source: Source, name: str) -> tuple[str, Chain]:
    """Return the name of the one input that is not a weight, and a chain that begins with it."""
    inputs = [entry for entry in graph.input if entry.name not in constants]
    if len(inputs) != 1:
        shown = ", ".join(repr(entry.name) for entry in inputs) or "none"
        raise ModelFormatError(f"it has the inputs {shown:.200}; expected one besides the weights.")
    given = inputs[0].type.tensor_type
    at = f"the input {inputs[0].name!r:.60}"
    dtype = dtype_of(given.elem_type, at)
    if not given.HasField("shape"):
        raise ModelFormatError(f"{at} has no shape; onnx.shape_inference or the exporter gives it.")
    shape = [d.dim_value if d.HasField("dim_value") else 0 for d in given.shape.dim]
    if len(shape) > 1 and shape[0] < 1:
        shape[0] = 1  # the batch, of open size
    if min(shape, default=1) < 1 or len(shape) > MOST_AXES:
        raise ModelFormatError(
            f"{at} has shape {tuple(shape)!s:.80}; all but the batch must be given."
        )
    assembly = Assembly(name, prod(shape))
    assembly.computed_in(dtype)
    return inputs[0].name, Chain(assembly, tuple(shape), source, dtype)


def _nodes(graph: Any, opset: int, constants: _Constants) -> Iterator[tuple[Node, list[str], str]]:
    """Yield every node with its rule checked, the names of its inputs, and that of its output."""
    from onnx import defs

    gates = find_gates(graph.node, constants)
    inner = {place for _, gate in gates.values() for place in gate.places} - gates.keys()
    for i, proto in enumerate(graph.node):
        kind = proto.op_type
        at = f"node {i + 1}{f' {proto.name!r:.60}' if proto.name else ''} ({kind:.40})"
        if i in inner:
            continue
        if i in gates:
            activation, gate = gates[i]
            given = {"activation": activation, "numbers": gate.numbers}
            node = Node(_GATE, at, [], given, opset, 1)
            yield node, [gate.x[0], *gate.constants], proto.output[0]
            continue
        if proto.domain not in ("", "ai.onnx") or kind not in (*SHAPES, *RULES, "Constant"):
            raise ModelFormatError(
                f"{at}: this operator{f' of {proto.domain:.40}' if proto.domain else ''} has no "
                "rule here; jacobians.importers.IMPORTABLE lists those that have one."
            )
        if opset > defs.onnx_opset_version():
            raise ModelFormatError(f"opset {opset} is newer than the installed onnx package.")
        try:
            schema = defs.get_schema(kind, opset, "")
        except defs.SchemaError:
            raise ModelFormatError(f"{at}: opset {opset} has no such operator.") from None
        node = Node(kind, at, [], _attributes(proto, schema, at), opset, len(proto.output))
        inputs, outputs = list(proto.input), list(proto.output)
        if not (
            schema.min_input <= len(inputs) <= schema.max_input
            and schema.min_output <= len(outputs) <= schema.max_output
        ):
            node.refuse(f"has {len(inputs)} inputs and {len(outputs)} outputs.")
        yield node, inputs, outputs[0]


def _attributes(proto: Any, schema: Any, at: str) -> dict[str, Any]:
    """Return the attributes of a node, completed by the defaults of its operator's version."""
    from onnx import helper

    found = {
        name: helper.get_attribute_value(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }
    for given in proto.attribute:
        known = schema.attributes.get(given.name)
        if known is None or int(known.type.value) != given.type or given.ref_attr_name:
            raise ModelFormatError(f"{at} has an unknown attribute {given.name!r:.60}.")
        found[given.name] = helper.get_attribute_value(given)
    return found


def _operand(name: str, value: str, constants: _Constants, used: dict[str, str], node: Node) -> Any:
    if name == value:
        return COMPUTED
    if name in used:
        node.refuse(
            f"takes {name!r:.60} after {used[name]} took it: the graph branches, which has no rule."
        )
    if not name:
        return None
    if name not in constants:
        node.refuse(f"takes {name!r:.60}, which nothing before it gives.")
    return constants[name]


def _step(chain: Chain, node: Node) -> None:
    """Let a node continue the chain."""
    if node.operands[0] is not COMPUTED and node.kind not in EITHER_SIDE:
        node.refuse("takes what is computed elsewhere than in its first input.")
    if node.kind in SHAPES:
        chain.shape = SHAPES[node.kind](chain.shape, node)
        if len(chain.shape) > MOST_AXES:
            node.refuse(f"gives {len(chain.shape)} axes; expected at most {MOST_AXES}.")
    else:
        try:
            _ALL_RULES[node.kind](chain, node)
        except ModelFormatError:
            raise
        except (ValueError, TypeError) as err:  # of layers and activations, which name the place
            raise ModelFormatError(str(err).removeprefix(f"{chain.assembly.where}: ")) from err


_GATE = "gate"  # of several nodes; an operator's own name is never in small letters
_ALL_RULES = {**RULES, _GATE: gate_rule}
EITHER_SIDE = ("Add", "Sub", "Mul", "Div", "MatMul", "Gemm")


def _evaluate(node: Node, source: Source) -> Any:
    """Compute a constant from constants: what exporters leave between weights and their use."""
    if node.kind == "Constant":
        return _constant(node)
    array = node.needed(0)
    if node.kind == "Transpose":
        return array.transpose(permutation(array.shape, node))
    if node.kind in SHAPES:
        return array.reshape(SHAPES[node.kind](array.shape, node))
    if node.kind == "Cast":
        source.spend(8 * array.size)
        with np.errstate(over="ignore"):  # refused as not finite
            return array.astype(dtype_of(node.attributes["to"], node.at))
    return node.refuse("computes on constants alone; simplify the model first (constant folding).")


def _constant(node: Node) -> Any:
    """Return the tensor, still to be decoded, or the numbers of a Constant."""
    if len(node.attributes) != 1:
        node.refuse("must have exactly one value.")
    ((name, value),) = node.attributes.items()
    if name == "value":
        return value
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    return node.refuse(f"holds a {name}, which has no rule.")
