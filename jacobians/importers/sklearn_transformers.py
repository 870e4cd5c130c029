"""Transformers of scikit-learn: scalers, functions, curves, projections, choices, products.

A scaler stands before a model or, undone, behind it: the inverse of what was done to the targets.

Power transforms (x >= 0 for Box-Cox, c the exponent)::

    Box-Cox       (x^c - 1) / c                      log x at c = 0
    Yeo-Johnson   ((1 + x)^c - 1) / c                at x >= 0
                  -((1 - x)^(2 - c) - 1) / (2 - c)   at x < 0

are activations of a network's own: ``save`` refuses them, since a file holds no code.
Source: I.-K. Yeo, R. A. Johnson, "A new family of power transformations", Biometrika 87 (2000).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any, NamedTuple

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation
from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import Reading, passes, transforms
from jacobians.layers import RMSNorm

# --- scalers --------------------------------------------------------------------------------------

# by kind: center and scale of ``(x - center) / scale``
SCALERS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "StandardScaler": lambda s: (s.mean_ if s.with_mean else 0.0, s.scale_ if s.with_std else 1.0),
    "MinMaxScaler": lambda s: (-s.min_ / s.scale_, 1 / s.scale_),
    "MaxAbsScaler": lambda s: (0.0, s.scale_),
    "RobustScaler": lambda s: (
        s.center_ if s.with_centering else 0.0,
        s.scale_ if s.with_scaling else 1.0,
    ),
}


@transforms(*SCALERS)
def _scaler(r: Reading) -> Value:
    center, scale = map(np.asarray, SCALERS[r.name](r.model))
    r.assembly.computed_in(np.float64)
    of = r.affine(r.of, 1 / scale, -center / scale)
    if getattr(r.model, "clip", False):  # an honest part of the model: outside, nothing changes
        low, high = getattr(r.model, "feature_range", (-1.0, 1.0))
        of = r.activate("hard_tanh", of, low=low, high=high)
    return of


class Formula(NamedTuple):
    """``scale * sigma(inner * x + offset) + shift``."""

    sigma: str
    inner: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    shift: float = 0.0


FUNCTIONS: dict[str, Formula] = {  # by their names in NumPy
    **{name: Formula(name) for name in ("exp", "log", "sqrt", "square", "reciprocal")},
    **{name: Formula(name) for name in ("sin", "cos", "tanh")},
    "exp2": Formula("exp", inner=log(2)),
    "expm1": Formula("exp", shift=-1.0),
    "log1p": Formula("log", offset=1.0),
    "log2": Formula("log", scale=1 / log(2)),
    "log10": Formula("log", scale=1 / log(10)),
    "absolute": Formula("abs"),
    "negative": Formula("identity", inner=-1.0),
    "positive": Formula("identity"),
}


def apply_function(r: Reading, function: Any, role: str, of: Value) -> Value:
    """Append a function of NumPy that acts entry by entry; None is the identity."""
    if function is None:
        return of
    formula = next((f for n, f in FUNCTIONS.items() if getattr(np, n) is function), None)
    if formula is None:
        name = getattr(function, "__name__", repr(function))
        names = ", ".join(f"np.{n}" for n in FUNCTIONS)
        r.no_rule(f"{role}={name:.60}", f"Functions with a rule are {names}.")
    inner = r.affine(of, formula.inner, formula.offset)
    return r.affine(r.activate(formula.sigma, inner), formula.scale, formula.shift)


@transforms("FunctionTransformer")
def _function(r: Reading) -> Value:
    if r.model.kw_args:
        r.no_rule(f"func with kw_args={r.model.kw_args!r:.60}")
    return apply_function(r, r.model.func, "func", r.of)


def undo(r: Reading, transformer: Any, of: Value, label: str) -> Value:
    """Append the inverse of what was done to targets: of a scaler, a function, or several."""
    if passes(transformer):
        return of
    inner = r.inside(transformer, of, label)
    inner.require_own()
    if inner.name == "Pipeline":
        for name, step in reversed(transformer.steps):
            of = undo(inner, step, of, f"step {name!r}")
        return of
    if inner.name == "FunctionTransformer" and not transformer.inv_kw_args:
        return apply_function(inner, transformer.inverse_func, "inverse_func", of)
    if inner.name not in SCALERS:
        names = ", ".join([*SCALERS, "FunctionTransformer"])
        inner.no_rule(inner.name, f"Targets can be transformed by {names}, or beforehand.")
    center, scale = SCALERS[inner.name](transformer)
    r.assembly.computed_in(np.float64)
    return inner.affine(of, scale, center)


# --- curves ---------------------------------------------------------------------------------------


@transforms("PowerTransformer")
def _powers(r: Reading) -> Value:
    """Append one activation for every feature."""
    name = r.model.method.replace("-", "_")
    f, slope, second = (partial(_powered, order=k, mirrored=name != "box_cox") for k in range(3))
    bent = []
    for j, exponent in enumerate(r.model.lambdas_):
        given = (("exponent", float(exponent)),)
        curve = Activation(name, f, slope, second, parameters=given)
        bent.append(r.activate(curve, r.move(r.of, [j])))
    of = r.concatenate(bent, 0)
    return r.transform(r.model._scaler, of, "_scaler") if r.model.standardize else of


def _powered(z: Array, exponent: float, order: int, mirrored: bool) -> Any:
    """Return ``(u^c - 1) / c`` or a derivative by z: ``u = z``, or ``1 + |z|`` with a sign."""
    below = mirrored & (z < 0)
    c, sign = np.where(below, 2 - exponent, exponent), np.where(below, -1.0, 1.0)
    with np.errstate(all="ignore"):  # what is NaN or infinite is reported by whoever asked
        log = np.log1p(np.abs(z)) if mirrored else np.log(z)
        if order == 0:
            return sign * np.where(c == 0, log, np.expm1(c * log) / np.where(c == 0, 1, c))
        return sign ** (order + 1) * (c - 1 if order == 2 else 1) * np.exp((c - order) * log)


# --- projections, choices, products ---------------------------------------------------------------


def project(r: Reading, W: Any, mean: Any) -> Value:
    """Append ``W (x - mean)``; no mean is 0."""
    W = W.toarray() if hasattr(W, "toarray") else np.asarray(W)
    return r.dense(r.of, W, None if mean is None else -W @ np.asarray(mean))


def _pca(model: Any) -> tuple[Any, Any]:
    W = model.components_
    if model.whiten:
        scale = np.sqrt(model.explained_variance_)
        W = W / np.maximum(scale, np.finfo(scale.dtype).eps)[:, None]
    return W, model.mean_


def _discriminants(model: Any) -> tuple[Any, Any]:
    W = model.scalings_.T[: model._max_components]
    return W, model.xbar_ if model.solver == "svd" else None


# by kind: the matrix W and the mean of ``W (x - mean)``
PROJECTIONS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    **dict.fromkeys(("PCA", "IncrementalPCA"), _pca),
    **dict.fromkeys(
        ("TruncatedSVD", "GaussianRandomProjection", "SparseRandomProjection"),
        lambda model: (model.components_, None),
    ),
    "FastICA": lambda model: (model.components_, model.mean_ if model.whiten else None),
    "LinearDiscriminantAnalysis": _discriminants,
    "PLSRegression": lambda model: (model.x_rotations_.T / model._x_std, model._x_mean),
}


transforms(*PROJECTIONS)(lambda r: project(r, *PROJECTIONS[r.name](r.model)))


@transforms("Normalizer")
def _unit_rows(r: Reading) -> Value:
    if r.model.norm != "l2":
        r.no_rule(f"norm={r.model.norm!r}", "The norm 'l2' has one.")
    return r.norm(r.of, RMSNorm(np.full(r.of.size, 1 / np.sqrt(r.of.size)), epsilon=0.0))


@transforms(
    *("GenericUnivariateSelect", "SelectFdr", "SelectFpr", "SelectFwe", "SelectKBest"),
    *("SelectFromModel", "SelectPercentile", "SequentialFeatureSelector", "VarianceThreshold"),
    *("RFE", "RFECV"),
)
def select(r: Reading) -> Value:
    """Append the choice of a feature selection."""
    chosen = r.model.get_support(indices=True)
    if not len(chosen):
        r.refuse("selects no feature.")
    return r.move(r.of, chosen)


@transforms("SimpleImputer")
def _complete(r: Reading) -> Value:
    """At points without gaps nothing is filled in, and what says "was missing" is 0."""
    filled, keep = r.model.statistics_, r.model.keep_empty_features  # of no value at all: NaN
    kept = [j for j, value in enumerate(filled) if keep or value == value]
    if r.model.add_indicator:
        kept += [-1] * len(r.model.indicator_.features_)
    return r.move(r.of, kept)


@transforms("PolynomialFeatures")
def _polynomial(r: Reading) -> Value:
    """Every feature is a product of so many factors; those that are 1 fill it up."""
    powers = r.model.powers_
    degree = max(1, int(powers.sum(axis=1).max()))
    factors = [np.repeat(np.arange(powers.shape[1]), row) for row in powers]
    slots = np.array([[*row, *[-1] * (degree - len(row))] for row in factors]).T
    values = [r.affine(r.move(r.of, slot), 1.0, (slot < 0).astype(np.float64)) for slot in slots]
    return r.product(values)
