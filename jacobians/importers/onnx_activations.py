"""ONNX activations as steps: most are one of the library's by name."""

from __future__ import annotations

from math import prod

import numpy as np

from jacobians.importers.onnx_arithmetic import Rule, joined, numbers_of
from jacobians.importers.onnx_values import Constant, Node, Value


def _fixed(name: str) -> Rule:
    return lambda node: node.tape.function(node.floats(), name, node.at)


def _family(name: str, parameter: str, default: float) -> Rule:
    def rule(node: Node) -> Value:
        alpha = node.attribute("alpha", default)
        return node.tape.function(node.floats(), name, node.at, **{parameter: alpha})

    return rule


def _softmax(name: str) -> Rule:
    def rule(node: Node) -> Value:
        x = node.floats()
        if node.opset >= 13:
            axis = node.axis(node.attribute("axis", -1), x.shape)
            node.goes_along([axis], x.shape)
            return along(node, x, name, axis)
        axis = node.axis(node.attribute("axis", 1), x.shape, end=True)
        node.goes_along(range(axis, len(x.shape)), x.shape)
        rows = x.reshaped((prod(x.shape[:axis]), prod(x.shape[axis:])))  # one vector from there on
        return along(node, rows, name, 1).reshaped(x.shape)

    return rule


def along(node: Node, x: Value, name: str, axis: int) -> Value:
    """Apply a function of vectors along an axis; the axis is left out where it is everything."""
    return node.tape.function(x, name, node.at, axis=axis)


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if not alpha > 0:
        node.refuse(f"has alpha={alpha:g}; expected a number above 0.")
    low, high = -beta / alpha, (1 - beta) / alpha
    return node.tape.function(node.floats(), "hard_sigmoid", node.at, low=low, high=high)


def _hard_swish(node: Node) -> Value:
    x = node.floats()
    gate = node.tape.function(x, "hard_sigmoid", node.at, low=-3.0, high=3.0)
    return joined(node, "multiply", [x, gate])


def _selu(node: Node) -> Value:
    # The standard gives both constants in float32, so this is what the file says, not "selu".
    early = node.opset < 6
    alpha = node.attribute("alpha", 1.6732 if early else 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.0507 if early else 1.05070102214813232421875)
    y = node.tape.function(node.floats(), "elu", node.at, alpha=float(np.float32(alpha)))
    return node.tape.scale(y, float(np.float32(gamma)), 0.0, node.at)


def _clip(node: Node) -> Value:
    x = node.floats()
    unbounded = float(np.finfo(np.float32).max)  # as older opsets and exporters write it
    ends = []
    for k, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        end = node.attribute(name, default) if node.opset < 11 else default
        constant = node.constant(k)
        if constant is not None:
            if prod(constant.shape) != 1:
                node.refuse(f"has {name} of shape {constant.shape}; expected one number.")
            node.same_kind(x, constant)
            end = float(constant.array.reshape(()))
        ends.append(end)
    low, high = ends
    if low == 0 and high >= unbounded:
        return node.tape.function(x, "relu", node.at)
    most = float(np.finfo(x.dtype).max)
    return node.tape.function(x, "hard_tanh", node.at, low=max(low, -most), high=min(high, most))


def _gelu(node: Node) -> Value:
    forms = {"none": "gelu", "tanh": "gelu_tanh"}
    given = node.attribute("approximate", "none")
    if given not in forms:
        node.refuse(f"has approximate={given!r:.40}; expected none or tanh.")
    return node.tape.function(node.floats(), forms[given], node.at)


def _swish(node: Node) -> Value:
    x, alpha = node.floats(), node.attribute("alpha", 1.0)
    if alpha == 1:
        return node.tape.function(x, "silu", node.at)
    gate = node.tape.function(node.tape.scale(x, alpha, 0.0, node.at), "sigmoid", node.at)
    return joined(node, "multiply", [x, gate])


def _prelu(node: Node) -> Value:
    """``x + (s - 1) min(x, 0)``, with a slope for every entry."""
    x, constant = node.floats(), node.needed(1)
    if node.opset < 7 and len(constant.shape) == 1 and constant.shape[0] > 1 and len(x.shape) > 2:
        constant = Constant(constant.array.reshape(-1, *(1,) * (len(x.shape) - 2)))
    slope = numbers_of(node, constant, x)
    if node.broadcast(x.shape, constant.shape) != tuple(x.shape):
        node.refuse(f"has slopes of shape {constant.shape} for shape {x.shape}.")
    if slope.size == 0:
        node.refuse("has no slopes.")
    if (slope == slope.flat[0]).all():
        return node.tape.function(x, "leaky_relu", node.at, slope=float(slope.flat[0]))
    minus = node.tape.scale(x, -1.0, 0.0, node.at)
    below = node.tape.function(minus, "relu", node.at)
    below = node.tape.scale(below, 1 - slope, 0.0, node.at, constant.dtype)
    return joined(node, "add", [x, below])


def _thresholded(node: Node) -> Value:
    x, alpha = node.floats(), node.attribute("alpha", 1.0)
    above = node.tape.function(node.tape.scale(x, 1.0, -alpha, node.at), "sign", node.at)
    return joined(node, "multiply", [x, node.tape.function(above, "relu", node.at)])


def _mirrored(node: Node, name: str) -> Value:
    minus = node.tape.scale(node.floats(), -1.0, 0.0, node.at)
    return node.tape.scale(node.tape.function(minus, name, node.at), -1.0, 0.0, node.at)


RULES: dict[str, Rule] = {
    "Relu": _fixed("relu"),
    "LeakyRelu": _family("leaky_relu", "slope", float(np.float32(0.01))),
    "PRelu": _prelu,
    "ThresholdedRelu": _thresholded,
    "Elu": _family("elu", "alpha", 1.0),
    "Celu": _family("celu", "alpha", 1.0),
    "Selu": _selu,
    "Gelu": _gelu,
    "Swish": _swish,
    "Mish": _fixed("mish"),
    "HardSwish": _hard_swish,
    "Sigmoid": _fixed("sigmoid"),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": _fixed("tanh"),
    "Clip": _clip,
    "Softplus": _fixed("softplus"),
    "Softsign": _fixed("softsign"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    **{
        op: _fixed(op.lower())
        for op in ("Exp", "Log", "Sqrt", "Abs", "Reciprocal", "Sin", "Cos", "Erf", "Sign", "Floor")
    },
    "Ceil": lambda node: _mirrored(node, "floor"),
}
