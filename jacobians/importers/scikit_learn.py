"""scikit-learn estimators and pipelines -> Network, in the original units of inputs and targets.

A scaler in front is a layer like any other, and the inverse of a target scaler is one behind; so
the Jacobian of the network is that of ``predict``, or of ``predict_proba`` for a classifier.  The
output of a binary classifier is one number, the probability of the second class, ``P(class)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jacobians._checks import Array, missing_extra
from jacobians.importers._assembly import Assembly
from jacobians.network import Network


def from_sklearn(estimator: Any) -> Network:
    """Import a fitted scikit-learn estimator or pipeline.

    Regressors become ``predict``, classifiers ``predict_proba``, scalers ``transform``.  Names of
    features and classes come along.

    Parameters
    ----------
    estimator : estimator
        A multilayer perceptron, a linear or logistic model, a scaler, a TransformedTargetRegressor
        with a scaler, or a Pipeline of them; ``jacobians.importers.IMPORTABLE`` lists them all.

    Returns
    -------
    Network

    Raises
    ------
    NotImplementedError
        If a step has no rule, naming the step and its kind.
    ValueError
        If a step is not fitted.
    TypeError
        If ``estimator`` is not a scikit-learn estimator.
    ImportError
        If scikit-learn is not installed.

    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X = np.array([[0.0, 10.0], [1.0, 30.0], [2.0, 20.0]])
    >>> net = from_sklearn(make_pipeline(StandardScaler(), LinearRegression()).fit(X, X @ [2, 3]))
    >>> net
    Network 2-2-1 float64, 3 parameters: identity, identity
    >>> import jacobians as jb
    >>> jb.jacobian(net, X[0]).round(12)
    array([[2., 3.]])
    """
    try:
        from sklearn.base import BaseEstimator
    except ImportError as err:
        raise missing_extra("scikit-learn", "sklearn", "from_sklearn") from err
    if isinstance(estimator, type) or not isinstance(estimator, BaseEstimator):
        raise TypeError(
            f"from_sklearn: expected a fitted scikit-learn estimator, but got {estimator!r:.80}."
        )
    assembly = Assembly("from_sklearn")
    output_names = _import(estimator, assembly, type(estimator).__name__)
    return assembly.network(_input_names(estimator), output_names)


Names = list[str] | None


def _import(estimator: Any, assembly: Assembly, at: str) -> Names:
    """Append what one estimator computes, and return the names of its outputs if it has any."""
    rule = RULES.get(_kind(estimator, assembly, at))
    if rule is None:
        assembly.no_rule(at, type(estimator).__name__, _way_out(estimator))
    if type(estimator).__name__ not in ("Pipeline", "TransformedTargetRegressor"):
        _require_fitted(estimator, assembly, at)
    return rule(estimator, assembly, at)


def _kind(estimator: Any, assembly: Assembly, at: str) -> str:
    kind = type(estimator)
    if not kind.__module__.startswith("sklearn."):
        known = [base.__name__ for base in kind.__mro__ if base.__name__ in RULES]
        hint = f"It is a {known[0]} that may compute something else." if known else ""
        assembly.no_rule(at, f"the class {kind.__name__}", hint)
    return kind.__name__


def _way_out(estimator: Any) -> str:
    for inner in ("best_estimator_", "estimator_", "estimators_"):
        if hasattr(estimator, inner):
            return f"Give its .{inner} (or one of them) instead."
    return "Apply it to the data beforehand, or see jacobians.importers.IMPORTABLE."


def _require_fitted(estimator: Any, assembly: Assembly, at: str) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        assembly.refuse(at, "is not fitted yet; call fit first.")


def _input_names(estimator: Any) -> Names:
    """Find the names of the features: all steps keep their number and order."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
    inner = [step for _, step in getattr(estimator, "steps", ())]
    for step in [*inner, getattr(estimator, "regressor_", None)]:
        found = None if _passes(step) else _input_names(step)
        if found is not None:
            return found
    return None


# --- steps made of steps --------------------------------------------------------------------------


def _passes(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def _pipeline(pipeline: Any, assembly: Assembly, at: str) -> Names:
    names = None
    for name, step in pipeline.steps:
        if not _passes(step):
            names = _import(step, assembly, f"{at} step {name!r} ({type(step).__name__})")
    return names


def _transformed_target(model: Any, assembly: Assembly, at: str) -> Names:
    for role in ("func", "inverse_func"):
        function = getattr(model, role)
        if function is not None:
            name = getattr(function, "__name__", repr(function))
            assembly.no_rule(
                at, f"{role}={name}", "Transform the targets with a scaler, or beforehand."
            )
    if not hasattr(model, "regressor_"):
        assembly.refuse(at, "is not fitted yet; call fit first.")
    _import(model.regressor_, assembly, f"{at} regressor ({type(model.regressor_).__name__})")
    if model.transformer is not None:
        _undo(model.transformer_, assembly, f"{at} transformer")
    return None


def _undo(transformer: Any, assembly: Assembly, at: str) -> None:
    """Append the inverse of a scaler, or of a pipeline of them."""
    if _passes(transformer):
        return
    at = f"{at} ({type(transformer).__name__})"
    kind = _kind(transformer, assembly, at)
    if kind == "Pipeline":
        for name, step in reversed(transformer.steps):
            _undo(step, assembly, f"{at} step {name!r}")
    elif kind in SCALERS:
        _, inverse = SCALERS[kind](transformer)
        assembly.scale(*inverse, at=at, dtype=np.float64)
    else:
        assembly.no_rule(at, kind, f"Targets can be transformed by {', '.join(SCALERS)}.")


# --- scalers: (scale, shift) there, and back ------------------------------------------------------


class ThereAndBack(NamedTuple):
    """An affine map of every feature as (scale, shift), and its inverse."""

    forward: tuple[Any, Any]
    inverse: tuple[Any, Any]


def _centred(center: Any, scale: Any) -> ThereAndBack:
    """Return ``(x - center) / scale`` and its inverse; None stands for 0 and 1."""
    center = 0.0 if center is None else np.asarray(center, dtype=np.float64)
    scale = 1.0 if scale is None else np.asarray(scale, dtype=np.float64)
    return ThereAndBack((1 / scale, -center / scale), (scale, center))


def _standard(scaler: Any) -> ThereAndBack:
    return _centred(
        scaler.mean_ if scaler.with_mean else None, scaler.scale_ if scaler.with_std else None
    )


def _min_max(scaler: Any) -> ThereAndBack:
    scale, shift = scaler.scale_, scaler.min_
    return ThereAndBack((scale, shift), (1 / scale, -shift / scale))


def _max_abs(scaler: Any) -> ThereAndBack:
    return _centred(None, scaler.scale_)


def _robust(scaler: Any) -> ThereAndBack:
    return _centred(
        scaler.center_ if scaler.with_centering else None,
        scaler.scale_ if scaler.with_scaling else None,
    )


SCALERS: dict[str, Callable[[Any], ThereAndBack]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
}


def _scaler(scaler: Any, assembly: Assembly, at: str) -> Names:
    (scale, shift), _ = SCALERS[type(scaler).__name__](scaler)
    ones = np.ones(scaler.n_features_in_)
    assembly.scale(scale * ones, shift * ones, at=at, dtype=np.float64)
    if getattr(scaler, "clip", False):  # an honest part of the model: outside, nothing changes
        low, high = getattr(scaler, "feature_range", (-1.0, 1.0))
        assembly.activate("hard_tanh", at=at, low=low, high=high)
    return None


# --- models ---------------------------------------------------------------------------------------

_ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exp",  # of a Poisson regression
}


def _perceptron(model: Any, assembly: Assembly, at: str) -> Names:
    last = len(model.coefs_)
    for l, (coefs, intercepts) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        sigma = model.out_activation_ if l == last else model.activation
        if sigma not in _ACTIVATIONS:
            assembly.no_rule(at, f"activation {sigma!r}")
        assembly.dense(coefs.T, intercepts, at=f"{at} layer {l}")  # theirs is source by target
        assembly.activate(_ACTIVATIONS[sigma], at=at)
    if not hasattr(model, "classes_"):
        return None
    return _class_names(model.classes_, one_output=assembly.width == 1)


def _class_names(classes: Any, one_output: bool) -> list[str]:
    return [f"P({classes[-1]})"] if one_output else [str(name) for name in classes]


def _linear(model: Any, assembly: Assembly, at: str) -> Names:
    W = _rows(model.coef_)
    assembly.dense(W, _intercepts(model.intercept_, W), at=at)
    return None


def _log_linear(model: Any, assembly: Assembly, at: str) -> Names:
    _linear(model, assembly, at)
    assembly.activate("exp", at=at)
    return None


def _logistic(model: Any, assembly: Assembly, at: str) -> Names:
    W, classes = _rows(model.coef_), model.classes_
    b = _intercepts(model.intercept_, W)
    # Until 1.8 an argument said what to make of the scores of two classes, and of more.
    chosen = getattr(model, "multi_class", "auto")
    automatic = chosen in ("auto", "deprecated")
    separate = chosen == "ovr" or (automatic and model.solver == "liblinear")
    if len(classes) > 2 and separate:
        assembly.no_rule(
            at,
            "one-vs-rest, whose probabilities are divided by their sum,",
            "Fit with solver='lbfgs' for the multinomial model.",
        )
    if len(classes) == 2 and chosen == "multinomial":
        W, b = 2 * W, 2 * b  # the softmax of (-s, s) is the logistic function of 2 s
    assembly.dense(W, b, at=at)
    assembly.activate("sigmoid" if len(classes) == 2 else "softmax", at=at)
    return _class_names(classes, one_output=len(classes) == 2)


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


LINEAR = (
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LassoLarsCV",
    "LassoLarsIC",
    "Lars",
    "LarsCV",
    "ElasticNet",
    "ElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV",
    "BayesianRidge",
    "ARDRegression",
    "HuberRegressor",
    "TheilSenRegressor",
    "QuantileRegressor",
    "SGDRegressor",
    "LinearSVR",
)
LOG_LINEAR = ("PoissonRegressor", "GammaRegressor")

Rule = Callable[[Any, Assembly, str], Names]

RULES: dict[str, Rule] = {
    "Pipeline": _pipeline,
    "TransformedTargetRegressor": _transformed_target,
    **dict.fromkeys(SCALERS, _scaler),
    "MLPRegressor": _perceptron,
    "MLPClassifier": _perceptron,
    "LogisticRegression": _logistic,
    "LogisticRegressionCV": _logistic,
    **dict.fromkeys(LINEAR, _linear),
    **dict.fromkeys(LOG_LINEAR, _log_linear),
}
