"""Transformers of scikit-learn that make new features: projections, choices, powers, products."""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import Reader, transforms
from jacobians.layers import RMSNorm

# --- affine maps ----------------------------------------------------------------------------------


def project(W: Any, mean: Any, reader: Reader, of: Value, at: str) -> Value:
    """Append ``W (x - mean)``; no mean is 0."""
    W = W.toarray() if hasattr(W, "toarray") else np.asarray(W)
    b = None if mean is None else -W @ np.asarray(mean)
    return reader.assembly.dense(W, b, at=at, of=of)


@transforms("PCA", "IncrementalPCA")
def _pca(pca: Any, reader: Reader, of: Value, at: str) -> Value:
    W = pca.components_
    if pca.whiten:
        scale = np.sqrt(pca.explained_variance_)
        W = W / np.maximum(scale, np.finfo(scale.dtype).eps)[:, None]
    return project(W, pca.mean_, reader, of, at)


@transforms(
    "TruncatedSVD",
    "GaussianRandomProjection",
    "SparseRandomProjection",
    "NeighborhoodComponentsAnalysis",
)
def _components(model: Any, reader: Reader, of: Value, at: str) -> Value:
    return project(model.components_, None, reader, of, at)


@transforms("FastICA")
def _ica(ica: Any, reader: Reader, of: Value, at: str) -> Value:
    return project(ica.components_, ica.mean_ if ica.whiten else None, reader, of, at)


@transforms("FactorAnalysis")
def _factors(model: Any, reader: Reader, of: Value, at: str) -> Value:
    weighted = model.components_ / model.noise_variance_
    covariance = np.eye(len(weighted)) + weighted @ model.components_.T
    return project(np.linalg.solve(covariance, weighted), model.mean_, reader, of, at)


@transforms("SparsePCA", "MiniBatchSparsePCA")
def _sparse_pca(pca: Any, reader: Reader, of: Value, at: str) -> Value:
    C = pca.components_  # the codes are those of a ridge regression
    W = np.linalg.solve(C @ C.T + pca.ridge_alpha * np.eye(len(C)), C)
    return project(W, pca.mean_, reader, of, at)


@transforms("LinearDiscriminantAnalysis")
def _discriminants(model: Any, reader: Reader, of: Value, at: str) -> Value:
    W = model.scalings_.T[: model._max_components]
    return project(W, model.xbar_ if model.solver == "svd" else None, reader, of, at)


@transforms("PLSRegression", "PLSCanonical", "CCA")
def _latent(model: Any, reader: Reader, of: Value, at: str) -> Value:
    return project(model.x_rotations_.T / model._x_std, model._x_mean, reader, of, at)


@transforms("PLSSVD")
def _latent_svd(model: Any, reader: Reader, of: Value, at: str) -> Value:
    return project(model.x_weights_.T / model._x_std, model._x_mean, reader, of, at)


@transforms("FeatureAgglomeration")
def _pooled(model: Any, reader: Reader, of: Value, at: str) -> Value:
    if model.pooling_func is not np.mean:
        reader.no_rule(at, f"pooling_func={model.pooling_func!r:.60}", "np.mean has one.")
    W = (model.labels_ == np.unique(model.labels_)[:, None]).astype(np.float64)
    return project(W / W.sum(axis=1, keepdims=True), None, reader, of, at)


@transforms("KernelCenterer")
def _centred_kernel(model: Any, reader: Reader, of: Value, at: str) -> Value:
    n = len(model.K_fit_rows_)
    W = np.eye(n) - np.full((n, n), 1 / n)
    return reader.assembly.dense(W, model.K_fit_all_ - model.K_fit_rows_, at=at, of=of)


# --- with an activation ---------------------------------------------------------------------------


@transforms("BernoulliRBM")
def _hidden_units(model: Any, reader: Reader, of: Value, at: str) -> Value:
    of = reader.assembly.dense(model.components_, model.intercept_hidden_, at=at, of=of)
    return reader.assembly.activate("sigmoid", at=at, of=of)


@transforms("RBFSampler", "SkewedChi2Sampler")
def _random_waves(model: Any, reader: Reader, of: Value, at: str) -> Value:
    assembly, W = reader.assembly, model.random_weights_.T
    if type(model).__name__ == "SkewedChi2Sampler":
        of = assembly.scale(1.0, model.skewedness, at=at, of=of)
        of = assembly.activate("log", at=at, of=of)
    of = assembly.dense(W, model.random_offset_, at=at, of=of)
    of = assembly.activate("cos", at=at, of=of)
    return assembly.scale(np.sqrt(2 / len(W)), 0.0, at=at, of=of)


@transforms("Normalizer")
def _unit_rows(model: Any, reader: Reader, of: Value, at: str) -> Value:
    if model.norm != "l2":
        reader.no_rule(at, f"norm={model.norm!r}", "The norm 'l2' has one.")
    scale = np.full(of.size, 1 / np.sqrt(of.size))
    return reader.assembly.apply(RMSNorm(scale, epsilon=0.0), of, at=at)


# --- choices and products -------------------------------------------------------------------------


@transforms(
    *("GenericUnivariateSelect", "SelectFdr", "SelectFpr", "SelectFwe", "SelectKBest"),
    *("SelectFromModel", "SelectPercentile", "SequentialFeatureSelector", "VarianceThreshold"),
    *("RFE", "RFECV"),
)
def select(model: Any, reader: Reader, of: Value, at: str) -> Value:
    """Append the choice of a feature selection."""
    chosen = model.get_support(indices=True)
    if not len(chosen):
        reader.refuse(at, "selects no feature.")
    return reader.assembly.move(chosen, at=at, of=of)


@transforms("SimpleImputer", "KNNImputer", "IterativeImputer")
def _complete(imputer: Any, reader: Reader, of: Value, at: str) -> Value:
    """At points without gaps nothing is filled in, and what says "was missing" is 0."""
    kept = [j for j in range(imputer.n_features_in_) if not _is_empty(imputer, j)]
    if imputer.add_indicator:
        kept += [-1] * len(imputer.indicator_.features_)
    return reader.assembly.move(kept, at=at, of=of)


def _is_empty(imputer: Any, feature: int) -> bool:
    """Whether a feature had no value at all when the imputer was fitted, and is left out."""
    if getattr(imputer, "keep_empty_features", False):
        return False
    if hasattr(imputer, "_valid_mask"):
        return not imputer._valid_mask[feature]
    filled = getattr(imputer, "initial_imputer_", imputer).statistics_[feature]
    return bool(filled != filled)


@transforms("PolynomialFeatures")
def _polynomial(model: Any, reader: Reader, of: Value, at: str) -> Value:
    """Every feature is a product of so many factors; those that are 1 fill it up."""
    assembly, powers = reader.assembly, model.powers_
    degree = max(1, int(powers.sum(axis=1).max()))
    factors = [np.repeat(np.arange(powers.shape[1]), row) for row in powers]
    slots = np.array([[*row, *[-1] * (degree - len(row))] for row in factors]).T
    values = []
    for slot in slots:
        value = assembly.move(slot, at=at, of=of)
        if (slot < 0).any():
            value = assembly.scale(1.0, (slot < 0).astype(np.float64), at=at, of=value)
        values.append(value)
    return assembly.multiply(*values, at=at) if degree > 1 else values[0]
