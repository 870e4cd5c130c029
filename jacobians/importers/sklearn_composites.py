"""Estimators of scikit-learn made of others: pipelines, searches, means, chains, stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_features import select
from jacobians.importers.sklearn_models import normalised
from jacobians.importers.sklearn_reading import Reading, predicts, steps_of, transforms, way_out
from jacobians.importers.sklearn_scalers import apply_function, undo


@predicts("Pipeline")
def _pipeline(r: Reading) -> Value:
    steps = steps_of(r.model)
    of = through(r, r.of, steps[:-1])
    return r.predict(steps[-1][0], of, steps[-1][1]) if steps else of


def through(r: Reading, of: Value, steps: Sequence[tuple[Any, str]]) -> Value:
    """Append what steps hand on, one to the next."""
    for step, label in steps:
        of = r.transform(step, of, label)
    return of


transforms("Pipeline")(lambda r: through(r, r.of, steps_of(r.model)))


@predicts("TransformedTargetRegressor")
def _transformed_target(r: Reading) -> Value:
    model, inner = r.model, r.model.regressor_
    of = r.predict(inner, r.of, "regressor")
    if model.func is not None or model.inverse_func is not None:
        return apply_function(r, model.inverse_func, "inverse_func", of)
    return of if model.transformer is None else undo(r, model.transformer_, of, "transformer")


FITTED = {  # where the estimator that was fitted is kept
    **dict.fromkeys(("GridSearchCV", "RandomizedSearchCV"), "best_estimator_"),
    **dict.fromkeys(("HalvingGridSearchCV", "HalvingRandomSearchCV"), "best_estimator_"),
    "FrozenEstimator": "estimator",
    **dict.fromkeys(("RANSACRegressor", "SelfTrainingClassifier"), "estimator_"),
    **dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), "estimator_"),
}


def _fitted(r: Reading, use: Callable[[Any, Value, str], Value]) -> Value:
    name = FITTED[r.name]
    if not hasattr(r.model, name):
        r.refuse(f"has no {name}: it was made with refit=False.")
    return use(getattr(r.model, name), r.of, name)


predicts(*FITTED)(lambda r: _fitted(r, r.predict))
transforms("FrozenEstimator", "GridSearchCV", "RandomizedSearchCV")(
    lambda r: _fitted(r, r.transform)
)


@predicts("RFE", "RFECV")
def _selected(r: Reading) -> Value:
    return r.predict(r.model.estimator_, select(r), "estimator_")


@transforms("FeatureUnion")
def _union(r: Reading) -> Value:
    weights = r.model.transformer_weights or {}
    parts = [
        weighted(r, r.transform(part, r.of, repr(name)), weights.get(name))
        for name, part in r.model.transformer_list
        if not (isinstance(part, str) and part == "drop")
    ]
    return side_by_side(r, parts)


def weighted(r: Reading, part: Value, weight: Any) -> Value:
    """Append a multiple, if there is a weight."""
    return part if weight is None else r.affine(part, float(weight))


def side_by_side(r: Reading, parts: Sequence[Value]) -> Value:
    """Append values one after the other."""
    if not parts:
        r.refuse("hands on no columns.")
    return r.concatenate(parts, 0)


def _mean(r: Reading, values: Sequence[Value], weights: Any = None) -> Value:
    """Append the weighted mean of values."""
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    parts = [r.affine(v, share) for v, share in zip(values, shares, strict=True) if share]
    return r.assembly.add(*parts, at=r.at)


def _members(r: Reading) -> list[tuple[Any, str]]:
    return [(one, f"estimators_[{k}]") for k, one in enumerate(r.model.estimators_)]


def _predictions(r: Reading) -> list[Value]:
    return [r.predict(one, r.of, label) for one, label in _members(r)]


@predicts("VotingRegressor")
def _vote(r: Reading) -> Value:
    return _mean(r, _predictions(r), r.model._weights_not_none)


@predicts("VotingClassifier")
def _soft_vote(r: Reading) -> Value:
    if r.model.voting != "soft":
        r.no_rule(f"voting={r.model.voting!r}", "With voting='soft' it has probabilities.")
    return _vote(r)


@predicts("BaggingRegressor", "BaggingClassifier")
def _bag(r: Reading) -> Value:
    values, classes = [], getattr(r.model, "n_classes_", None)
    for (one, label), chosen in zip(_members(r), r.model.estimators_features_, strict=True):
        values.append(r.predict(one, r.move(r.of, chosen), label))
        if classes is not None and len(one.classes_) != classes:
            what = "a member that saw some of the classes only"
            r.inside(one, r.of, label).no_rule(what, way_out(r.model))
    return _mean(r, values)


predicts("MultiOutputRegressor")(lambda r: side_by_side(r, _predictions(r)))


@predicts("OneVsRestClassifier")
def _one_of_several(r: Reading) -> Value:
    parts = _predictions(r)
    of = side_by_side(r, parts)
    return of if len(parts) == 1 or r.model.multilabel_ else normalised(r, of)


@predicts("RegressorChain")
def _chain(r: Reading) -> Value:
    seen, predictions = r.of, []
    for one, label in _members(r):
        predictions.append(r.predict(one, seen, label))
        seen = side_by_side(r, [seen, predictions[-1]])
    return side_by_side(r, [predictions[k] for k in np.argsort(r.model.order_)])


@predicts("StackingRegressor", "StackingClassifier")
def _stack(r: Reading) -> Value:
    for (one, label), method in zip(_members(r), r.model.stack_method_, strict=True):
        if method == "decision_function":
            r.inside(one, r.of, label).no_rule("a decision_function", way_out(r.model))
    stacked = side_by_side(r, [*_predictions(r), *([r.of] if r.model.passthrough else [])])
    return r.predict(r.model.final_estimator_, stacked, "final_estimator_")
