"""ONNX operators that act entry by entry, as steps: arithmetic, truth values and activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule, fixed
from jacobians.importers._steps import Steps
from jacobians.importers.onnx_shapes import aligned
from jacobians.importers.onnx_tensors import BOOL, DOUBLE, FLOAT, Constant, kind_name
from jacobians.importers.onnx_values import Node, Value


def both(node: Node) -> tuple[Any, Any]:
    """Return the two operands of an arithmetic operator, as steps take them."""
    a, b = node.operand(0), node.operand(1)
    if a is None or b is None:
        node.refuse("needs two operands.")
    given = node.number(a), aligned(node, a, node.number(b))
    node.broadcast(*(operand.shape for operand in given))
    return given


def _two(compute: Callable[[Node, Any, Any], Made]) -> Rule:
    return lambda node: compute(node, *both(node))


def _divide(node: Node, a: Any, b: Any) -> Made:
    if not isinstance(b, Made) and not np.all(b):
        node.refuse("divides by 0.")
    return node.divide(a, b)


def _several(compute: Callable[[Node, Any, Any], Made]) -> Rule:
    def rule(node: Node) -> Made:
        given = [o for o in map(node.operand, range(len(node.operands))) if o is not None]
        node.broadcast(*(operand.shape for operand in given))
        given.sort(key=lambda operand: isinstance(operand, Constant))  # the order does not matter
        total = reduce(lambda a, b: compute(node, a, b), map(node.number, given))
        return node.affine(total, 1 / len(given)) if node.op == "Mean" else total

    return rule


def _power(node: Node) -> Made:
    x, exponent = node.of, node.constant(1)
    if exponent is None or prod(exponent.shape) != 1:
        node.refuse("has no single number as exponent.")
    return node.power(x, exponent.array.reshape(()))


def _compare(sign: float, strict: bool) -> Rule:
    """``a > b`` is the step of ``a - b``, and ``a >= b`` is not ``b > a``."""

    def rule(node: Node) -> Made:
        difference = node.affine(node.subtract(*both(node)), sign if strict else -sign)
        node.kind = BOOL
        above = node.activate("relu", node.activate("sign", difference))
        return above if strict else node.opposite(above)

    return rule


def _truth(node: Node) -> Value:
    value = node.value()
    if value.kind != BOOL:
        node.refuse(f"takes {kind_name(value.kind)}; expected truth values.")
    return value


def _where(node: Node) -> Made:
    """``c a + (1 - c) b``: where c is constant, a scale by zeros and ones."""
    condition, *branches = (node.operand(k) for k in range(3))
    if condition is None or None in branches:
        node.refuse("needs three operands.")
    a, b = (node.number(branch) for branch in branches if branch is not None)
    node.broadcast(condition.shape, a.shape, b.shape)
    if isinstance(condition, Constant):
        if condition.dtype != bool:
            node.refuse(f"has a condition of {condition.dtype}; expected truth values.")
        node.assembly.spend(16 * prod(condition.shape))
        return node.choose(condition.array, a, b)
    truth = _truth(node)
    wide = any(branch.dtype == np.float64 for branch in branches if branch is not None)
    node.kind = DOUBLE if wide else FLOAT
    return node.add(node.multiply(truth, a), node.multiply(node.opposite(truth), b))


def _softmax(name: str) -> Rule:
    def rule(node: Node, *, axis: Any = None) -> Made:
        x, late = node.of, node.opset >= 13
        axis = node.axis((-1 if late else 1) if axis is None else axis, x.shape, end=not late)
        node.goes_along([axis] if late else range(axis, len(x.shape)), x.shape)
        # one vector from the axis on, in the first versions
        rows = x if late else x.reshaped((prod(x.shape[:axis]), prod(x.shape[axis:])))
        return node.activate(name, rows, axis=axis if late else 1).reshaped(x.shape)

    return rule


def _hard_sigmoid(node: Node, *, alpha: float = 0.2, beta: float = 0.5) -> Made:
    if not alpha > 0:
        node.refuse(f"has alpha={alpha:g}; expected a number above 0.")
    return node.activate("hard_sigmoid", node.of, low=-beta / alpha, high=(1 - beta) / alpha)


def _selu(node: Node) -> Made:
    # The standard gives both constants in float32, so this is what the file says, not "selu".
    early = node.opset < 6
    alpha = node.attribute("alpha", 1.6732 if early else 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.0507 if early else 1.05070102214813232421875)
    return node.affine(node.activate("elu", node.of, alpha=alpha), gamma)


def _clip(node: Node) -> Made:
    x, ends = node.of, []
    for k, name in ((1, "min"), (2, "max")):
        end = node.attribute(name) if node.opset < 11 else None
        constant = node.constant(k)
        if constant is not None:
            if prod(constant.shape) != 1:
                node.refuse(f"has {name} of shape {constant.shape}; expected one number.")
            end = float(constant.array.reshape(()))
        ends.append(end)
    return node.clamp(x, *ends)


def _gelu(node: Node, *, approximate: str = "none") -> Made:
    if approximate not in ("none", "tanh"):
        node.refuse(f"has approximate={approximate!r:.40}; expected none or tanh.")
    return node.gelu(node.of, approximate == "tanh")


def _swish(node: Node, *, alpha: float = 1.0) -> Made:
    return node.multiply(node.of, node.activate("sigmoid", node.affine(node.of, alpha)))


def _prelu(node: Node) -> Made:
    x, constant = node.of, node.needed(1)
    slopes: Any = node.number(constant)
    if node.opset < 7 and slopes.ndim == 1 and slopes.size > 1 and len(x.shape) > 2:
        slopes = slopes.reshape(-1, *(1,) * (len(x.shape) - 2))
    if not slopes.size or node.broadcast(x.shape, slopes.shape) != tuple(x.shape):
        node.refuse(f"has slopes of shape {constant.shape} for shape {x.shape}.")
    return node.leaky(x, slopes)


def _elu(node: Node, *, alpha: float = 1.0) -> Made:
    return node.activate(node.op.lower(), node.of, alpha=alpha)


def _leaky(node: Node, *, alpha: float = 0.01) -> Made:
    return node.activate("leaky_relu", node.of, slope=alpha)


def _ceil(node: Node) -> Made:
    return node.affine(node.activate("floor", node.affine(node.of, -1.0)), -1.0)


_SAME_NAMES = "Relu Mish Sigmoid Tanh Softplus Softsign Exp Log Sqrt Abs Reciprocal Sin Cos Erf"

RULES: dict[str, Rule] = {
    "Add": _two(Steps.add),
    "Sub": _two(Steps.subtract),
    "Mul": _two(Steps.multiply),
    "Div": _two(_divide),
    "Neg": lambda node: node.affine(node.of, -1.0),
    **dict.fromkeys(("Sum", "Mean"), _several(Steps.add)),
    "Max": _several(Steps.maximum),
    "Min": _several(Steps.minimum),
    "Pow": _power,
    "Greater": _compare(1.0, True),
    "Less": _compare(-1.0, True),
    "GreaterOrEqual": _compare(1.0, False),
    "LessOrEqual": _compare(-1.0, False),
    "Not": lambda node: node.opposite(_truth(node)),
    "Where": _where,
    **{op: fixed(op.lower()) for op in (*_SAME_NAMES.split(), "Sign", "Floor")},
    "Ceil": _ceil,
    "LeakyRelu": _leaky,
    "PRelu": _prelu,
    **dict.fromkeys(("Elu", "Celu"), _elu),
    "Selu": _selu,
    "Gelu": _gelu,
    "Swish": _swish,
    "HardSwish": lambda node: node.hard_swish(node.of),
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
}
