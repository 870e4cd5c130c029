"""Models of scikit-learn: what regressors predict, and the probabilities of classifiers.

The output of a classifier of two classes is one number, the probability of the second class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._steps import Steps
from jacobians.importers.sklearn_reading import Reading, predicts, way_out
from jacobians.importers.sklearn_transformers import project


@predicts(
    *("ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars"),
    *("LarsCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression"),
    *("LinearSVR", "MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso"),
    *("MultiTaskLassoCV", "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV"),
    *("PassiveAggressiveRegressor", "QuantileRegressor", "Ridge", "RidgeCV", "SGDRegressor"),
    "TheilSenRegressor",
)
def linear(r: Reading) -> Value:
    """Append ``W x + b``."""
    return r.dense(r.of, *_coefficients(r.model))


def _coefficients(model: Any) -> tuple[Array, Array | None]:
    """Return W (n_out, n_in) and b (n_out,), where scikit-learn may keep a vector or a number.

    Without intercepts, for which it keeps 0.0 in one form or another, there is no b.
    """
    W = model.coef_
    W = np.atleast_2d(W.toarray() if hasattr(W, "toarray") else W)  # after sparsify()
    b = model.intercept_
    without = type(b) is float or not getattr(model, "fit_intercept", True)
    return W, None if without else np.broadcast_to(b, W.shape[:1])


@predicts("SVR", "NuSVR")
def _support_vectors(r: Reading) -> Value:
    if r.model.kernel != "linear":
        r.no_rule(f"kernel={r.model.kernel!r:.40}", way_out(r.model))
    return linear(r)


@predicts("GammaRegressor", "PoissonRegressor", "TweedieRegressor")
def _generalised(r: Reading) -> Value:
    link, power = getattr(r.model, "link", "log"), getattr(r.model, "power", 1.0)
    is_log = link == "log" or (link == "auto" and power > 0)
    return r.activate("exp" if is_log else "identity", linear(r))


predicts("PLSRegression")(
    lambda r: r.affine(project(r, r.model.coef_, r.model._x_mean), 1.0, r.model.intercept_)
)


_ACTIVATIONS = {"logistic": "sigmoid"}  # by other names here
_ACTIVATIONS |= {name: name for name in ("identity", "tanh", "relu", "softmax", "exp")}


@predicts("MLPClassifier", "MLPRegressor")
def _perceptron(r: Reading) -> Value:
    of, last = r.of, len(r.model.coefs_)
    layers = zip(r.model.coefs_, r.model.intercepts_, strict=True)
    for l, (coefs, intercepts) in enumerate(layers, start=1):
        sigma = r.model.out_activation_ if l == last else r.model.activation
        if sigma not in _ACTIVATIONS:
            r.no_rule(f"activation {sigma!r}")
        layer = Steps(r.assembly, f"{r.at} layer {l}")
        of = layer.activate(_ACTIVATIONS[sigma], layer.dense(of, coefs.T, intercepts))
    return of


@predicts("LogisticRegression", "LogisticRegressionCV")
def _logistic(r: Reading) -> Value:
    (W, b), classes = _coefficients(r.model), len(r.model.classes_)
    # Until 1.8 an argument said what to make of the scores of two classes, and of more.
    chosen = getattr(r.model, "multi_class", "auto")
    automatic = chosen in ("auto", "deprecated")
    separate = chosen == "ovr" or (automatic and r.model.solver == "liblinear")
    if classes == 2 and chosen == "multinomial":
        # the softmax of (-s, s) is the logistic function of 2 s
        W, b = 2 * W, None if b is None else 2 * b
    of = r.dense(r.of, W, b)
    return one_against_the_rest(r, of) if classes == 2 or separate else r.activate("softmax", of)


@predicts("SGDClassifier")
def _descended(r: Reading) -> Value:
    if r.model.loss != "log_loss":
        r.no_rule(f"loss={r.model.loss!r:.40}", way_out(r.model))
    return one_against_the_rest(r, linear(r))


def one_against_the_rest(r: Reading, scores: Value) -> Value:
    """Append the logistic functions of scores, divided by their sum if there are several."""
    of = r.activate("sigmoid", scores)
    return of if of.size == 1 else r.divide(of, r.dense(of, np.ones((1, of.size))))


@predicts("LinearDiscriminantAnalysis")
def _discriminant(r: Reading) -> Value:
    of = linear(r)
    return r.activate("sigmoid" if of.size == 1 else "softmax", of)


@predicts("GaussianNB")
def _gaussian(r: Reading) -> Value:
    """The softmax of ``c - |(x - mean) / deviation|² / 2``, one c, mean and deviation a class."""
    shares, means, variances = r.model.class_prior_, r.model.theta_, r.model.var_
    whiten = np.concatenate([np.diag(variance**-0.5) for variance in variances])
    squares = r.activate("square", r.dense(r.of, whiten, -(means / variances**0.5).ravel()))
    W = np.kron(np.eye(len(means)), np.full(means.shape[1], -0.5))
    b = np.log(shares) - np.log(variances).sum(axis=1) / 2
    if len(b) == 2:
        return r.activate("sigmoid", r.dense(squares, W[1:] - W[:1], b[1:] - b[:1]))
    return r.activate("softmax", r.dense(squares, W, b))
