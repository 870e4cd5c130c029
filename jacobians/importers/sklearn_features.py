"""Transformers of scikit-learn that make new features: projections, choices, powers, products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import Reading, transforms
from jacobians.layers import RMSNorm


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


def _components(model: Any) -> tuple[Any, Any]:
    return model.components_, None


# By kind: the matrix W and the mean of ``W (x - mean)``.
PROJECTIONS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    **dict.fromkeys(("PCA", "IncrementalPCA"), _pca),
    **dict.fromkeys(("TruncatedSVD",), _components),
    **dict.fromkeys(("GaussianRandomProjection", "SparseRandomProjection"), _components),
    "FastICA": lambda model: (model.components_, model.mean_ if model.whiten else None),
    "LinearDiscriminantAnalysis": _discriminants,
    **dict.fromkeys(
        ("PLSRegression", "PLSCanonical", "CCA"),
        lambda model: (model.x_rotations_.T / model._x_std, model._x_mean),
    ),
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


@transforms("SimpleImputer", "KNNImputer", "IterativeImputer")
def _complete(r: Reading) -> Value:
    """At points without gaps nothing is filled in, and what says "was missing" is 0."""
    kept = [j for j in range(r.model.n_features_in_) if not _is_empty(r.model, j)]
    if r.model.add_indicator:
        kept += [-1] * len(r.model.indicator_.features_)
    return r.move(r.of, kept)


def _is_empty(imputer: Any, feature: int) -> bool:
    """Whether a feature had no value at all when the imputer was fitted, and is left out."""
    if getattr(imputer, "keep_empty_features", False):
        return False
    if hasattr(imputer, "_valid_mask"):
        return not imputer._valid_mask[feature]
    filled = getattr(imputer, "initial_imputer_", imputer).statistics_[feature]
    return bool(filled != filled)


@transforms("PolynomialFeatures")
def _polynomial(r: Reading) -> Value:
    """Every feature is a product of so many factors; those that are 1 fill it up."""
    powers = r.model.powers_
    degree = max(1, int(powers.sum(axis=1).max()))
    factors = [np.repeat(np.arange(powers.shape[1]), row) for row in powers]
    slots = np.array([[*row, *[-1] * (degree - len(row))] for row in factors]).T
    values = [r.affine(r.move(r.of, slot), 1.0, (slot < 0).astype(np.float64)) for slot in slots]
    return r.assembly.multiply(*values, at=r.at)
