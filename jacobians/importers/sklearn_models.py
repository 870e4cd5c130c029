"""Models of scikit-learn: what regressors predict, and the probabilities of classifiers.

The output of a classifier of two classes is one number, the probability of the second class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_features import project
from jacobians.importers.sklearn_reading import Reader, predicts, way_out

# --- regressors -----------------------------------------------------------------------------------


@predicts(
    *("ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars"),
    *("LarsCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression"),
    *("LinearSVR", "MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso"),
    *("MultiTaskLassoCV", "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV"),
    *("PassiveAggressiveRegressor", "QuantileRegressor", "Ridge", "RidgeCV", "SGDRegressor"),
    *("TheilSenRegressor",),
)
def linear(model: Any, reader: Reader, of: Value, at: str) -> Value:
    """Append ``W x + b``."""
    W = _rows(model.coef_)
    return reader.assembly.dense(W, _intercepts(model.intercept_, W), at=at, of=of)


@predicts("SVR", "NuSVR")
def _support_vectors(model: Any, reader: Reader, of: Value, at: str) -> Value:
    if model.kernel != "linear":
        reader.no_rule(at, f"kernel={model.kernel!r:.40}", way_out(model))
    return linear(model, reader, of, at)


@predicts("GammaRegressor", "PoissonRegressor", "TweedieRegressor")
def _generalised(model: Any, reader: Reader, of: Value, at: str) -> Value:
    of = linear(model, reader, of, at)
    link, power = getattr(model, "link", "log"), getattr(model, "power", 1.0)
    is_log = link == "log" or (link == "auto" and power > 0)
    return reader.assembly.activate("exp", at=at, of=of) if is_log else of


@predicts("PLSRegression", "PLSCanonical", "CCA")
def _latent(model: Any, reader: Reader, of: Value, at: str) -> Value:
    of = project(model.coef_, model._x_mean, reader, of, at)
    return reader.assembly.scale(1.0, model.intercept_, at=at, of=of)


@predicts("DummyRegressor")
def _constant(model: Any, reader: Reader, of: Value, at: str) -> Value:
    b = np.ravel(model.constant_)
    return reader.assembly.dense(np.zeros((b.size, of.size)), b, at=at, of=of)


def _rows(coefficients: Any) -> Array:
    """Lay coefficients out as (n_out, n_in): for one target scikit-learn may keep a vector."""
    if hasattr(coefficients, "toarray"):  # after sparsify()
        coefficients = coefficients.toarray()
    return np.atleast_2d(coefficients)


def _intercepts(intercept: Any, W: Array) -> Array:
    """One per row; without intercepts scikit-learn keeps the number 0.0."""
    if type(intercept) is float:
        intercept = W.dtype.type(intercept)
    return np.broadcast_to(intercept, W.shape[:1])


# --- perceptrons ----------------------------------------------------------------------------------

_ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exp",  # of a Poisson regression
}


@predicts("MLPClassifier", "MLPRegressor")
def _perceptron(model: Any, reader: Reader, of: Value, at: str) -> Value:
    last = len(model.coefs_)
    for l, (coefs, intercepts) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        sigma = model.out_activation_ if l == last else model.activation
        if sigma not in _ACTIVATIONS:
            reader.no_rule(at, f"activation {sigma!r}")
        # theirs is source by target
        of = reader.assembly.dense(coefs.T, intercepts, at=f"{at} layer {l}", of=of)
        of = reader.assembly.activate(_ACTIVATIONS[sigma], at=at, of=of)
    return of


# --- classifiers ----------------------------------------------------------------------------------


@predicts("LogisticRegression", "LogisticRegressionCV")
def _logistic(model: Any, reader: Reader, of: Value, at: str) -> Value:
    W, classes = _rows(model.coef_), len(model.classes_)
    b = _intercepts(model.intercept_, W)
    # Until 1.8 an argument said what to make of the scores of two classes, and of more.
    chosen = getattr(model, "multi_class", "auto")
    automatic = chosen in ("auto", "deprecated")
    separate = chosen == "ovr" or (automatic and model.solver == "liblinear")
    if classes == 2 and chosen == "multinomial":
        W, b = 2 * W, 2 * b  # the softmax of (-s, s) is the logistic function of 2 s
    of = reader.assembly.dense(W, b, at=at, of=of)
    if classes > 2 and not separate:
        return reader.assembly.activate("softmax", at=at, of=of)
    return one_against_the_rest(reader, of, at)


@predicts("SGDClassifier")
def _descended(model: Any, reader: Reader, of: Value, at: str) -> Value:
    if model.loss != "log_loss":
        reader.no_rule(at, f"loss={model.loss!r:.40}", way_out(model))
    return one_against_the_rest(reader, linear(model, reader, of, at), at)


def one_against_the_rest(reader: Reader, scores: Value, at: str) -> Value:
    """Append the logistic functions of scores, divided by their sum if there are several."""
    of = reader.assembly.activate("sigmoid", at=at, of=scores)
    return normalised(reader, of, at) if of.size > 1 else of


def normalised(reader: Reader, of: Value, at: str) -> Value:
    """Append the entries divided by their sum."""
    assembly, ones = reader.assembly, np.ones((1, of.size))
    inverse = assembly.activate("reciprocal", at=at, of=assembly.dense(ones, at=at, of=of))
    return assembly.multiply(of, assembly.move([0] * of.size, at=at, of=inverse), at=at)


@predicts("LinearDiscriminantAnalysis")
def _discriminant(model: Any, reader: Reader, of: Value, at: str) -> Value:
    of = linear(model, reader, of, at)
    sigma = "sigmoid" if of.size == 1 else "softmax"
    return reader.assembly.activate(sigma, at=at, of=of)


@predicts("QuadraticDiscriminantAnalysis")
def _quadratic(model: Any, reader: Reader, of: Value, at: str) -> Value:
    variances = model.scalings_
    whiten = [(R / np.sqrt(S)).T for R, S in zip(model.rotations_, variances, strict=True)]
    constants = np.log(model.priors_) - [np.log(S).sum() / 2 for S in variances]
    return _of_distances(whiten, model.means_, constants, reader, of, at)


@predicts("GaussianNB")
def _gaussian(model: Any, reader: Reader, of: Value, at: str) -> Value:
    whiten = [np.diag(1 / np.sqrt(variance)) for variance in model.var_]
    constants = np.log(model.class_prior_) - np.log(model.var_).sum(axis=1) / 2
    return _of_distances(whiten, model.theta_, constants, reader, of, at)


def _of_distances(
    whiten: list[Array], means: Array, constants: Array, reader: Reader, of: Value, at: str
) -> Value:
    """Append the probabilities of scores ``c - |A (x - mean)|² / 2``, one A, mean, c per class."""
    assembly, W = reader.assembly, np.concatenate(whiten)
    b = -np.concatenate([A @ mean for A, mean in zip(whiten, means, strict=True)])
    of = assembly.activate("square", at=at, of=assembly.dense(W, b, at=at, of=of))
    owner = np.repeat(np.arange(len(whiten)), [len(A) for A in whiten])
    sums = -0.5 * (owner == np.arange(len(whiten))[:, None])
    return _of_scores(sums, constants, reader, of, at)


@predicts("MultinomialNB", "ComplementNB")
def _counted(model: Any, reader: Reader, of: Value, at: str) -> Value:
    prior = model.class_log_prior_
    if type(model).__name__ == "ComplementNB" and len(prior) > 1:
        prior = np.zeros_like(prior)
    return _of_scores(model.feature_log_prob_, prior, reader, of, at)


def _of_scores(W: Array, b: Array, reader: Reader, of: Value, at: str) -> Value:
    """Append the softmax of ``W x + b``; of two, the logistic function of their difference."""
    sigma = "softmax"
    if len(W) == 2:
        W, b, sigma = W[1:] - W[:1], b[1:] - b[:1], "sigmoid"
    return reader.assembly.activate(sigma, at=at, of=reader.assembly.dense(W, b, at=at, of=of))
