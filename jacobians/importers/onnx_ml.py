"""Operators of ``ai.onnx.ml``: linear models and scalers, as converters of scikit-learn write them.

Their numbers stand in attributes; a classifier gives a label, which has no derivative and is left
out, and its scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians.importers._assembly import Value as Made
from jacobians.importers._calls import Rule
from jacobians.importers.onnx_moves import moved, zip_map
from jacobians.importers.onnx_products import divided_by_norm
from jacobians.importers.onnx_values import Node


def _numbers(node: Node, name: str, count: int, default: float) -> Any:
    """Return a list of numbers, one for each of ``count`` entries, or one for all of them."""
    given = node.attribute(name)
    if given is None or np.size(given) == 0:
        return np.full(1, default)
    if not isinstance(given, np.ndarray) or len(given) not in (1, count):
        node.refuse(f"has {np.size(given)} numbers as {name} for {count}.")
    return given.astype(np.float64)


def _rows(node: Node) -> Made:
    """Return what is computed, as a matrix of one row per point."""
    x = node.of
    if len(x.shape) not in (1, 2):
        node.refuse(f"takes shape {x.shape}; expected one row per point.")
    return x if len(x.shape) == 2 else x.reshaped((1, *x.shape))


def _scaler(node: Node) -> Made:
    """``(x - offset) * scale``."""
    x = _rows(node)
    offset, scale = (_numbers(node, k, x.shape[1], v) for k, v in (("offset", 0), ("scale", 1)))
    return node.affine(x, scale, -offset * scale)


def _linear(node: Node, x: Made, count: int) -> Made:
    """``x C' + b``, with the coefficients of one output after those of another."""
    C = node.attribute("coefficients")
    if not isinstance(C, np.ndarray) or count < 1 or len(C) != count * x.shape[1]:
        node.refuse(f"has {np.size(C)} coefficients for {count} times {x.shape[1]}.")
    y = node.dense(x, C.reshape(count, -1))
    return node.affine(y, 1.0, _numbers(node, "intercepts", count, 0.0))


def _regressor(node: Node, *, targets: int = 1, post_transform: str = "NONE") -> Made:
    if post_transform != "NONE":
        node.refuse("transforms its result in a way that has no rule.")
    return _linear(node, _rows(node), targets)


_TRANSFORMS = {"NONE": "identity", "SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


def _classifier(node: Node, *, multi_class: int = 0, post_transform: str = "NONE") -> list[Any]:
    """Return no label, and the scores."""
    x, names = _rows(node), [node.attribute(f"classlabels_{k}") for k in ("ints", "strings")]
    classes = max(len(name or ()) for name in names)
    if classes == 2 and np.size(node.attribute("coefficients")) == x.shape[1]:
        node.refuse("has one score for two classes, which readers of the format treat differently.")
    y = _linear(node, x, classes)
    if post_transform not in _TRANSFORMS:
        node.refuse(f"transforms its scores by {post_transform!r:.40}, which has no rule.")
    return [None, node.activate(_TRANSFORMS[post_transform], y, axis=1)]


def _normalizer(node: Node, *, norm: str = "MAX") -> Made:
    if norm not in ("L1", "L2", "MAX"):
        node.refuse(f"divides by the norm {norm!r:.40}, which has no rule.")
    return divided_by_norm(node, _rows(node), 1, norm)


def _imputer(node: Node, *, replaced_value_float: float = np.nan) -> Made:
    """At a point without missing entries, which alone can be asked for, nothing is put in."""
    node.seen.add("imputed_value_floats")
    if not np.isnan(replaced_value_float):
        node.refuse(f"replaces {replaced_value_float:g}, which a point may hold.")
    return node.of


RULES: dict[str, Rule] = {
    "Scaler": _scaler,
    "LinearRegressor": _regressor,
    "LinearClassifier": _classifier,
    "Normalizer": _normalizer,
    "ZipMap": zip_map,
    "Imputer": _imputer,
    "ArrayFeatureExtractor": moved,
}
