"""ONNX files and models -> Network.

The bytes are read as they are (``onnx_wire``, ``onnx_model``), without the onnx package.  From the
output that is asked for backwards, the nodes it needs are put in order, and each becomes steps of
the assembly, on constants and values (``onnx_values``, ``onnx_operators``).  What the output does
not need is never looked at.  Every sequence of bytes gives a network or a ``ModelFormatError``.
"""

from __future__ import annotations

import gzip
import io
import os
from graphlib import CycleError, TopologicalSorter
from itertools import zip_longest
from typing import Any

from jacobians._checks import ModelFormatError, flags_end_with_it
from jacobians.importers._assembly import Assembly
from jacobians.importers.onnx_model import Model, NodeRecord, Port, read_model
from jacobians.importers.onnx_operators import OPSETS as OPSETS
from jacobians.importers.onnx_operators import apply, attributes_of, require_rules
from jacobians.importers.onnx_tensors import FLOATING, MOST_AXES, dtype_of, kind_name
from jacobians.importers.onnx_values import Batch, Operand, Shape, Value
from jacobians.importers.onnx_wire import Source
from jacobians.network import Network


@flags_end_with_it
def from_onnx(path_or_model: Any, output: str | None = None) -> Network:
    """Import an ONNX model.

    Parameters
    ----------
    path_or_model : str, path or onnx.ModelProto
        A ``.onnx`` file, as it is or compressed by gzip.  Weights may be in a file of their own, in
        the model's folder, if a path is given.
    output : str, optional
        Which output is wanted, where there are several; nodes and inputs that it does not use are
        left out.

    Returns
    -------
    Network
        What the model computes for a batch of one point, flattened row by row; several inputs are
        named parts of one vector, ``net.inputs``.  A fixed batch above 1 is read as so many points
        where every point goes its own way, and else as one function of all entries.

    Raises
    ------
    ModelFormatError
        If it is not an ONNX model, is damaged, claims more than it holds, has several outputs and
        none is named, or an operator without a rule; the message names the node and the operator.
    ValueError
        If no output has the name given.
    OSError
        If the file cannot be opened.

    >>> from jacobians.importers import IMPORTABLE
    >>> "Gemm" in IMPORTABLE["from_onnx"]
    True
    """
    folder, name = None, "from_onnx"
    if isinstance(path_or_model, (str, os.PathLike)):
        folder, name = os.path.split(os.fspath(path_or_model))
        with open(path_or_model, "rb") as file:
            data = file.read()
    elif getattr(type(path_or_model), "__name__", "") == "ModelProto":
        data = path_or_model.SerializeToString()
    else:
        raise TypeError(
            f"from_onnx: expected a path or an onnx.ModelProto, but got {path_or_model!r:.80}."
        )
    if output is not None and not isinstance(output, str):
        raise TypeError(f"from_onnx: output: expected a name, but got {output!r:.80}.")
    try:
        source = Source(_unzipped(data), len(data), folder)
        del data
        return _network(read_model(source), output, name)
    except ModelFormatError as err:
        raise ModelFormatError(f"{name}: {str(err).removeprefix(f'{name}: ')}") from None
    except _OutputError as err:
        raise ValueError(f"{name}: {err}") from None
    except Exception as err:  # whatever a model that is not one leads to
        raise ModelFormatError(f"{name}: not a readable ONNX model: {err!s:.200}") from err


class _OutputError(Exception):
    """Which output is wanted is a question to the caller, not damage."""


def _unzipped(data: bytes) -> bytes:
    """Return what gzip holds, which may not be much larger; no model begins like it."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    most = 2**25 + 2 * len(data)
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        held = file.read(most + 1)
    if len(held) > most:
        raise ModelFormatError(
            f"it is compressed to less than a half, {len(data)} bytes; decompress it (gunzip)."
        )
    return held


def _network(model: Model, output: str | None, name: str) -> Network:
    end = _wanted(model, output)
    if model.sparse:
        raise ModelFormatError("sparse weights have no rule.")
    order = _sorted(model, end.name)
    used = {given for node in order for given in node.inputs} | {end.name}
    inputs = [i for i in model.inputs if i.name in used and i.name not in model.initializers]
    if not inputs:
        raise ModelFormatError(f"the output {end.name!r:.60} depends on no input: it is constant.")
    require_rules(order, model)
    batch = _fixed_batch(inputs)
    if batch > 1:
        try:
            return _read(model, order, inputs, end, name, batch)
        except ModelFormatError:
            pass  # the points do not go their own ways: one function of all entries
    return _read(model, order, inputs, end, name, 1)


def _wanted(model: Model, output: str | None) -> Port:
    """Return the output that is asked for."""
    names = [port.name for port in model.outputs]
    shown = ", ".join(map(repr, names)) or "none"
    if not names:
        raise ModelFormatError("it has no output.")
    if output is None and len(names) > 1:
        raise ModelFormatError(f"it has the outputs {shown:.400}; say output=... for one of them.")
    if output is not None and names.count(output) != 1:
        raise _OutputError(f"no output is called {output!r:.60}; there are {shown:.400}.")
    return model.outputs[0 if output is None else names.index(output)]


def _sorted(model: Model, end: str) -> list[NodeRecord]:
    """Return the nodes that an output needs, each behind those that it takes from."""
    makers: dict[str, NodeRecord] = {}
    given = {"", *(port.name for port in model.inputs), *model.initializers}
    for node in model.nodes:
        for name in filter(None, node.outputs):
            if name in makers or name in given:
                raise ModelFormatError(f"{node.at} gives {name!r:.60}, which there is already.")
            makers[name] = node
    if end not in makers and end not in given:
        raise ModelFormatError(f"nothing gives the output {end!r:.60}.")
    before: dict[NodeRecord, list[NodeRecord]] = {}
    waiting = [makers[end]] if end in makers else []
    while waiting:
        node = waiting.pop()
        if node not in before:
            for name in node.inputs:
                if name not in makers and name not in given:
                    raise ModelFormatError(f"{node.at} takes {name!r:.60}, which nothing gives.")
            before[node] = [makers[name] for name in node.inputs if name in makers]
            waiting += before[node]
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as err:
        maker, node, *_ = err.args[1]
        name = next(name for name in node.inputs if name in maker.outputs)
        raise ModelFormatError(f"{node.at} takes {name!r:.60}, which depends on it.") from None


def _fixed_batch(inputs: list[Port]) -> int:
    """Return the first size of all inputs, if they agree on one above 1 and have further axes."""
    sizes = {port.dims[0] if port.dims and len(port.dims) > 1 else 1 for port in inputs}
    (size, *more) = sizes
    return size if isinstance(size, int) and not more and size > 1 else 1


def _input_shape(port: Port, order: list[NodeRecord], model: Model, batch: int) -> Shape:
    """Return the shape of an input at a batch of one; an open first axis is that of the batch."""
    at = f"the input {port.name!r:.60}"
    if port.kind not in FLOATING:
        names = ", ".join(map(kind_name, FLOATING))
        raise ModelFormatError(f"{at} has {kind_name(port.kind)}; expected one of {names}.")
    if port.dims is None:
        raise ModelFormatError(f"{at} has no shape; onnx.shape_inference or the exporter gives it.")
    sizes: list[int] = [n if isinstance(n, int) and n > 0 else 0 for n in port.dims]
    firsts = {p.dims[0] for p in model.inputs if p.dims and len(p.dims) > 1}
    named = bool(sizes) and isinstance(port.dims[0], str) and port.dims[0] in firsts
    if sizes and (not sizes[0] or batch > 1) and (len(sizes) > 1 or named):
        sizes[0] = Batch(1)  # of one entry per point, if its name is that of the others' batch
    if len(sizes) in (1, 2) and sizes[-1:] == [0] and sizes.count(0) == 1:
        sizes[-1] = _first_width(port.name, order, model)
    if 0 in sizes or len(sizes) > MOST_AXES:
        shown = ", ".join("?" if n is None else str(n) for n in port.dims)
        raise ModelFormatError(
            f"{at} has shape ({shown:.80}); all sizes but that of the batch must be given. "
            "Export the model with them fixed."
        )
    return tuple(sizes)


def _first_width(name: str, order: list[NodeRecord], model: Model) -> int:
    """Return the width that the first weight after an input fixes, 0 if none does."""
    for node in order:
        if name not in node.inputs:
            continue
        shapes = [model.initializers[n].shape for n in node.inputs if n in model.initializers]
        weight = shapes[0] if shapes else ()
        if node.op in ("Gemm", "MatMul") and node.inputs[0] == name and len(weight) == 2:
            return weight[1 if attributes_of(node, model).get("transB") else 0]
        if node.op in ("Sub", "Add", "Mul", "Div") and weight and weight[-1] > 1:
            return weight[-1]
        if node.op == "Scaler":
            given = attributes_of(node, model)
            return max((len(given[k]) for k in ("offset", "scale") if k in given), default=0)
        if node.op in _KEEPS_WIDTH or len(node.inputs) == 1:
            name = node.outputs[0] if node.outputs else ""
    return 0


_KEEPS_WIDTH = ("Cast", "Identity", "Dropout", "Sub", "Add", "Mul", "Div", "BatchNormalization")


def _read(
    model: Model, order: list[NodeRecord], inputs: list[Port], end: Port, name: str, batch: int
) -> Network:
    """Walk through the nodes, and build the network of what comes out."""
    assembly = Assembly(name, spend=model.source.spend)
    values: dict[str, Operand] = dict(model.initializers)
    for port in inputs:
        shape = _input_shape(port, order, model, batch)
        assembly.computed_in(dtype_of(port.kind))
        point = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
        begin = assembly.input(tuple(int(n) for n in point or (1,)), port.name)
        values[port.name] = Value(begin.step, shape, port.kind)
    for record in order:
        given = [_taken(values, taken, record.at) if taken else None for taken in record.inputs]
        outputs = apply(record, given, model, assembly, batch)
        values.update(zip_longest(record.outputs, outputs[: len(record.outputs)]))
    result = _taken(values, end.name, "the output")
    if not isinstance(result, Value):
        raise ModelFormatError(f"the output {end.name!r:.60} depends on no input: it is constant.")
    _require_output(end, result, batch)
    net = assembly.network(result, end.name)
    if not net.is_path:  # whose nodes have numbers, but whose two ends have names
        return net
    parts = {"inputs": dict(zip((port.name for port in inputs), net.inputs.values(), strict=False))}
    return net._with(**parts, outputs={end.name: slice(0, net.widths[-1])})


def _taken(values: dict[str, Operand], name: str, at: str) -> Operand:
    if values.get(name) is None:
        raise ModelFormatError(
            f"{at} takes {name!r:.60}, a label or an index, which has no derivative; name another "
            "output."
        )
    return values[name]


def _require_output(port: Port, value: Value, batch: int) -> None:
    """Compare what the graph says of its output with what the nodes have led to."""
    if port.dims is None or port.kind == 0:
        return
    claimed = tuple(n if isinstance(n, int) and n > 0 else 0 for n in port.dims)
    pairs = zip(claimed, value.shape, strict=False)
    if len(claimed) != len(value.shape) or any(n not in (0, m, batch * m) for n, m in pairs):
        shape = tuple(int(n) for n in value.shape)
        raise ModelFormatError(
            f"the output {port.name!r:.60} claims shape {claimed}, but is of shape {shape}."
        )
