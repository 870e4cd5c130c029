"""Operators of ``ai.onnx.ml``: linear models and scalers, as converters of scikit-learn write them.

Their numbers stand in attributes; a classifier gives a label, which has no derivative and is left
out, and its scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers.onnx_elementwise import above
from jacobians.importers.onnx_moves import moved, zip_map
from jacobians.importers.onnx_products import divided_by_norm
from jacobians.importers.onnx_values import Node


def _numbers(node: Node, name: str, count: int) -> Any:
    """Return a list of numbers, one for each of ``count`` entries, or one for all of them."""
    given = node.attributes.pop(name, None)
    if given is None:
        return None
    if not isinstance(given, np.ndarray) or len(given) not in (1, count):
        node.refuse(f"has {np.size(given)} numbers as {name} for {count}.")
    return given


def _rows(node: Node) -> Made:
    """Return what is computed, as a matrix of one row per point."""
    x = node.floats()
    if len(x.shape) == 1:
        return x.reshaped((1, *x.shape))
    if len(x.shape) != 2:
        node.refuse(f"takes shape {x.shape}; expected one row per point.")
    return x


def _scaler(node: Node) -> Made:
    """``(x - offset) * scale``."""
    x = _rows(node)
    offset, scale = (_numbers(node, name, x.shape[1]) for name in ("offset", "scale"))
    offset = np.zeros(1) if offset is None else offset.astype(np.float64)
    scale = np.ones(1) if scale is None else scale.astype(np.float64)
    return node.affine(x, scale, -offset * scale)


def _linear(node: Node, x: Made, count: int) -> Made:
    """``x C' + b``, with the coefficients of one output after those of another."""
    C = node.attributes.pop("coefficients", None)
    if not isinstance(C, np.ndarray) or count < 1 or len(C) != count * x.shape[1]:
        node.refuse(f"has {np.size(C)} coefficients for {count} times {x.shape[1]}.")
    y = node.dense(x, C.reshape(count, -1))
    b = _numbers(node, "intercepts", count)
    return y if b is None or not b.size else node.affine(y, 1.0, b)


def _regressor(node: Node) -> Made:
    y = _linear(node, _rows(node), node.attribute("targets", 1))
    if node.attribute("post_transform", "NONE") != "NONE":
        node.refuse("transforms its result in a way that has no rule.")
    return y


def _classifier(node: Node) -> list[Any]:
    """Return no label, and the scores; two classes may share one score s as (-s, s)."""
    x = _rows(node)
    names = [node.attributes.pop(f"classlabels_{kind}", ()) for kind in ("ints", "strings")]
    classes = max(map(len, names))
    node.attribute("multi_class", 0)
    transform = node.attribute("post_transform", "NONE")
    size = np.size(node.attributes.get("coefficients", ()))
    count = 1 if classes == 2 and size == x.shape[1] else classes
    y = _linear(node, x, count)
    if count == 1 and classes == 2:
        node.refuse("has one score for two classes, which readers of the format treat differently.")
    if transform == "SOFTMAX":
        y = node.activate("softmax", y, axis=1)
    elif transform == "LOGISTIC":
        y = node.activate("sigmoid", y)
    elif transform != "NONE":
        node.refuse(f"transforms its scores by {transform!r:.40}, which has no rule.")
    return [None, y]


def _normalizer(node: Node) -> Made:
    x, norm = _rows(node), node.attribute("norm", "MAX")
    if norm not in ("L1", "L2", "MAX"):
        node.refuse(f"divides by the norm {norm!r:.40}, which has no rule.")
    return divided_by_norm(node, x, 1, norm)


def _imputer(node: Node) -> Made:
    """At a point without missing entries, which alone can be asked for, nothing is put in."""
    x = node.floats()
    replaced = node.attributes.pop("replaced_value_float", np.nan)
    node.attributes.pop("imputed_value_floats", None)
    if not np.isnan(replaced):
        node.refuse(f"replaces {replaced:g}, which a point may hold.")
    return x


RULES: dict[str, Rule] = {
    "Scaler": _scaler,
    "LinearRegressor": _regressor,
    "LinearClassifier": _classifier,
    "Normalizer": _normalizer,
    "ZipMap": zip_map,
    "Imputer": _imputer,
    "ArrayFeatureExtractor": moved,
    "Binarizer": lambda node: above(node, node.of, node.attribute("threshold", 0.0)),
}
