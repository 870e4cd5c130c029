"""The rules of ONNX operators, by domain and name, and how a node is computed by them.

Each turns a node into steps of the assembly; attributes come with the defaults of the standard.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import ModelFormatError
from jacobians.importers import onnx_elementwise as elementwise
from jacobians.importers import onnx_ml as ml
from jacobians.importers import onnx_moves as moves
from jacobians.importers import onnx_products as products
from jacobians.importers import onnx_recurrent as recurrent
from jacobians.importers import onnx_windows as windows
from jacobians.importers._assembly import Assembly
from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers.onnx_folding import FOLDS, folded
from jacobians.importers.onnx_model import Model, NodeRecord, read_attribute
from jacobians.importers.onnx_tensors import MOST_AXES, Constant, Tensor
from jacobians.importers.onnx_values import Node, Operand, Value

RULES: dict[tuple[str, str], Rule] = {
    ("", op): rule
    for module in (moves, products, elementwise, windows, recurrent)
    for op, rule in module.RULES.items()
}
RULES.update({("ai.onnx.ml", op): rule for op, rule in ml.RULES.items()})
ON_CONSTANTS = {("", "Constant"), *(("", op) for op in FOLDS)} - RULES.keys()
NAMES = tuple(sorted({op for _, op in (*RULES, *ON_CONSTANTS)}))
OPSETS = (1, 28)  # the first and the last that the rules were written for

# what the first versions of operators carry along that says nothing of what they compute
_SAYS_NOTHING = {"consumed_inputs", "stash_type", "seed", "saturate"}

_SEVERAL_TYPES = {"Pow", "Resize", "Upsample", "Dropout", "BatchNormalization"}


def require_rules(order: list[NodeRecord], model: Model) -> None:
    """Refuse a model with an operator that has no rule, before any of its numbers is decoded."""
    opset = model.opsets.get("")
    for record in order:
        key = record.domain, record.op
        own = key in model.functions
        if own or (key not in RULES and key not in ON_CONSTANTS):
            domain = f" of {record.domain:.40}" if record.domain else ""
            reason = "is a function of the model's own" if own else "has no rule here"
            raise ModelFormatError(
                f"{record.at}: this operator{domain} {reason}; jacobians.importers.IMPORTABLE "
                "lists those that have one. Name an output before it, or leave it out of the model."
            )
        if not record.domain and (opset is None or not OPSETS[0] <= opset <= OPSETS[1]):
            raise ModelFormatError(
                f"its opset is {'not given' if opset is None else opset}; expected one from "
                f"{OPSETS[0]} to {OPSETS[1]}."
            )
        if len(record.inputs) > 10_000:
            raise ModelFormatError(f"{record.at} has more inputs than any operator.")


def apply(
    record: NodeRecord, operands: list[Operand], model: Model, assembly: Assembly, batch: int
) -> list[Operand]:
    """Apply the rule of a node, and refuse what the rule has not looked at."""
    where = assembly, record.at, record.op, record.domain
    attributes, opset = attributes_of(record, model), model.opsets.get("", OPSETS[1])
    node = Node(*where, operands, attributes, opset, len(record.outputs), batch)
    outputs = _outputs(node)
    if len(operands) > node.looked_at:
        node.refuse(f"has {len(operands)} inputs; expected at most {node.looked_at}.")
    for name in attributes:
        if name not in node.seen and name not in _SAYS_NOTHING:
            node.refuse(f"has an attribute {name!r:.60} that has no rule.")
    for value in outputs:
        if isinstance(value, Value) and batch > 1 and not node.batch_axes(value.shape):
            node.refuse("treats the points of the batch differently.")
    return outputs


def attributes_of(record: NodeRecord, model: Model) -> dict[str, Any]:
    """Read the attributes of a node."""
    attributes: dict[str, Any] = {}
    if len(record.attributes) > 100:
        raise ModelFormatError(f"{record.at} has more attributes than any operator.")
    for span in record.attributes:
        name, value = read_attribute(model.source, span, record.at)
        if name in attributes:
            raise ModelFormatError(f"{record.at} has two attributes {name!r:.60}.")
        attributes[name] = value
    return attributes


def _outputs(node: Node) -> list[Operand]:
    try:
        if node.kind:  # of what is computed
            if (node.domain, node.op) not in RULES:
                node.refuse("has a rule for constants alone, but takes what is computed.")
            if node.op not in _SEVERAL_TYPES:
                node.require_one_type()
            given = node.call(RULES[node.domain, node.op])
            return [_typed(node, one) for one in (given if isinstance(given, list) else [given])]
        if node.op == "Constant":
            return [_constant(node)]
        arrays = [o.array for o in node.operands if isinstance(o, Constant)]
        node.looked_at = 1
        if not arrays:
            node.refuse("has no inputs.")
        return [Constant(array) for array in folded(node, arrays)]
    except ModelFormatError:
        raise
    except (ValueError, TypeError, IndexError, ArithmeticError) as err:  # of layers and of shapes
        said = str(err).removeprefix(f"{node.assembly.where}: ").removeprefix(node.at)
        raise ModelFormatError(f"{node.at} {said.lstrip(': '):.300}") from err


def _typed(node: Node, given: Any) -> Operand:
    """Return what a rule gives, as numbers of the element type of the node."""
    if not isinstance(given, Made):
        return given  # type: ignore[no-any-return]
    if len(given.shape) > MOST_AXES:
        node.refuse(f"gives {len(given.shape)} axes; expected at most {MOST_AXES}.")
    return Value(given.step, given.shape, node.kind)


def _constant(node: Node) -> Constant:
    """Return the tensor, still to be decoded, or the numbers of a Constant."""
    if len(node.attributes) != 1:
        node.refuse("must have exactly one value.")
    ((name, value),) = node.attributes.items()
    node.seen.add(name)
    if name == "value" and isinstance(value, Tensor):
        return value
    dtype = {"value_float": np.float32, "value_int": np.int64}.get(name.removesuffix("s"))
    return Constant(np.array(value, dtype)) if dtype else node.refuse(f"holds a {name:.40}.")
