"""ONNX operators as steps of a chain: what each does to one point.

Attributes come with the defaults of the operator's version, so that most operators are one line.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from jacobians._checks import Array
from jacobians.importers.onnx_nodes import COMPUTED, Chain, Node
from jacobians.importers.onnx_shapes import SHAPES, axis_of
from jacobians.importers.onnx_tensors import dtype_of

# --- affine operators -----------------------------------------------------------------------------


def _gemm(chain: Chain, node: Node) -> None:
    if node.operands[0] is not COMPUTED or node.attributes["transA"]:
        node.refuse("computes on the transpose of its input; only x @ W and x @ W.T are known.")
    W, c = _weight(node, 1, (2,)), node.constant(2)
    if len(chain.shape) != 2:
        node.refuse(f"takes shape {chain.shape}; expected a matrix of one row.")
    chain.vector(node)
    W = W if node.attributes["transB"] else W.T
    chain.dense(W, node)
    chain.shape = (1, len(W))
    shift = 0.0
    if c is not None:
        if c.ndim > 2:
            node.refuse(f"adds shape {c.shape} to {chain.shape}.")
        shift = node.attributes["beta"] * chain.spread(c, node)
    chain.source.spend(16 * len(W))
    chain.assembly.scale(node.attributes["alpha"], shift, at=node.at, dtype=W.dtype)


def _matmul(chain: Chain, node: Node) -> None:
    left = node.operands[0] is not COMPUTED
    W = _weight(node, 0 if left else 1, (1, 2))
    shape = chain.shape
    if left and len(shape) > 1:  # W @ x with a column x
        if shape[-1] != 1 or shape[-2] != prod(shape):
            node.refuse(f"multiplies a matrix by shape {shape}; expected one column.")
        chain.shape = (*shape[:-2], *W.shape[:-1], 1)[: len(shape) + W.ndim - 2]
    else:
        chain.vector(node)
        chain.shape = (*shape[:-1], *(W.shape[:-1] if left else W.shape[1:]))
    chain.dense(np.atleast_2d(W if left else W.T), node)


def _weight(node: Node, k: int, ndims: tuple[int, ...]) -> Array:
    W = node.needed(k)
    if W.ndim not in ndims or W.dtype.kind != "f":
        node.refuse(f"multiplies by {W.dtype} of shape {W.shape}; expected a matrix of floats.")
    return W


def _arithmetic(chain: Chain, node: Node) -> None:
    first = node.operands[0] is not COMPUTED
    constant = node.needed(0 if first else 1)
    c = chain.spread(constant, node)
    if node.kind == "Div":
        if first:
            node.refuse("divides a constant by what is computed, which is not affine.")
        if not c.all():
            node.refuse("divides by 0.")
        with np.errstate(all="ignore"):  # an overflow is refused as not finite
            c = 1 / c
    scale, shift = {
        "Add": (1.0, c),
        "Sub": (-1.0, c) if first else (1.0, -c),
        "Mul": (c, 0.0),
        "Div": (c, 0.0),
    }[node.kind]
    chain.assembly.scale(scale, shift, at=node.at, dtype=constant.dtype)


def _negative(chain: Chain, node: Node) -> None:
    chain.source.spend(16 * prod(chain.shape))
    chain.assembly.scale(-1.0, 0.0, at=node.at, dtype=chain.dtype)


def _batch_normalization(chain: Chain, node: Node) -> None:
    given = node.attributes
    if given.get("training_mode") or node.outputs > 1 or not given.get("spatial", 1):
        node.refuse("is in training mode, or not spatial; export the model for inference.")
    parts = [node.needed(k) for k in (1, 2, 3, 4)]
    if len(chain.shape) < 2 or any(part.shape != chain.shape[1:2] for part in parts):
        node.refuse(f"normalizes shape {chain.shape} by {', '.join(str(p.shape) for p in parts)}.")
    axes = (-1, *(1,) * (len(chain.shape) - 2))
    gamma, beta, mean, variance = (chain.spread(part.reshape(axes), node) for part in parts)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + given["epsilon"])
        shift = beta - mean * scale
    chain.assembly.scale(scale, shift, at=node.at, dtype=np.result_type(*parts))


# --- activations ----------------------------------------------------------------------------------

Rule = Callable[[Chain, Node], None]


def _fixed(name: str) -> Rule:
    def rule(chain: Chain, node: Node) -> None:
        chain.assembly.activate(name, at=node.at)

    return rule


def _family(name: str, parameter: str) -> Rule:
    def rule(chain: Chain, node: Node) -> None:
        chain.assembly.activate(name, at=node.at, **{parameter: node.attributes["alpha"]})

    return rule


def _softmax(name: str) -> Rule:
    def rule(chain: Chain, node: Node) -> None:
        axis, shape = node.attributes["axis"], chain.shape
        if node.opset < 13:  # everything from the axis on is one vector
            count = prod(shape[axis_of(axis, shape, node, end=True) :])
        else:
            count = shape[axis_of(axis, shape, node)]
        if count != prod(shape):
            node.refuse(f"goes along axis {axis} of shape {shape}, which is not the whole of it.")
        chain.assembly.activate(name, at=node.at)

    return rule


def _hard_sigmoid(chain: Chain, node: Node) -> None:
    alpha, beta = node.attributes["alpha"], node.attributes["beta"]
    if not alpha > 0:
        node.refuse(f"has alpha={alpha:g}; expected a number above 0.")
    low, high = -beta / alpha, (1 - beta) / alpha
    chain.assembly.activate("hard_sigmoid", at=node.at, low=low, high=high)


def _selu(chain: Chain, node: Node) -> None:
    # The standard gives both constants in float32, so this is what the file says, not "selu".
    chain.assembly.activate("elu", at=node.at, alpha=node.attributes["alpha"])
    chain.source.spend(16 * prod(chain.shape))
    chain.assembly.scale(node.attributes["gamma"], 0.0, at=node.at, dtype=chain.dtype)


def _clip(chain: Chain, node: Node) -> None:
    least, most = float(np.finfo(chain.dtype).min), float(np.finfo(chain.dtype).max)
    unbounded = float(np.finfo(np.float32).max)  # as older opsets and exporters write it
    ends = []
    for k, name, default in ((1, "min", least), (2, "max", most)):
        end = node.attributes.get(name, node.constant(k))
        if end is not None and np.size(end) != 1:
            node.refuse(f"has {name} of shape {np.shape(end)}; expected one number.")
        ends.append(default if end is None else float(np.reshape(end, ())))
    low, high = ends
    if low == 0 and high >= unbounded:
        chain.assembly.activate("relu", at=node.at)
    else:
        chain.assembly.activate("hard_tanh", at=node.at, low=low, high=high)


def _gelu(chain: Chain, node: Node) -> None:
    forms = {b"none": "gelu", b"tanh": "gelu_tanh"}
    given = node.attributes["approximate"]
    if given not in forms:
        node.refuse(f"has approximate={given!r:.40}; expected none or tanh.")
    chain.assembly.activate(forms[given], at=node.at)


def _swish(chain: Chain, node: Node) -> None:
    if node.attributes["alpha"] != 1:
        node.refuse(f"has alpha={node.attributes['alpha']:g}; only 1, which is silu, has a rule.")
    chain.assembly.activate("silu", at=node.at)


def _prelu(chain: Chain, node: Node) -> None:
    slope = node.needed(1)
    if slope.size == 0 or (slope != slope.flat[0]).any():
        node.refuse("has a slope for every entry; only one slope for all of them has a rule.")
    chain.spread(slope, node)
    chain.assembly.computed_in(slope.dtype)
    chain.assembly.activate("leaky_relu", at=node.at, slope=float(slope.flat[0]))


# --- what does nothing in inference ---------------------------------------------------------------


def _dropout(chain: Chain, node: Node) -> None:
    training = node.constant(2)
    if training is not None and training.any():
        node.refuse("is in training mode; export the model for inference.")


def _cast(chain: Chain, node: Node) -> None:
    chain.dtype = dtype_of(node.attributes["to"], node.at)
    chain.assembly.computed_in(chain.dtype)


RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Neg": _negative,
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "Cast": _cast,
    "Relu": _fixed("relu"),
    "LeakyRelu": _family("leaky_relu", "slope"),
    "PRelu": _prelu,
    "Elu": _family("elu", "alpha"),
    "Celu": _family("celu", "alpha"),
    "Selu": _selu,
    "Gelu": _gelu,
    "Swish": _swish,
    "Mish": _fixed("mish"),
    "Sigmoid": _fixed("sigmoid"),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": _fixed("tanh"),
    "Clip": _clip,
    "Softplus": _fixed("softplus"),
    "Softsign": _fixed("softsign"),
    "Exp": _fixed("exp"),
    "Sin": _fixed("sin"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
}

NAMES = ("Constant", *SHAPES, *RULES)
