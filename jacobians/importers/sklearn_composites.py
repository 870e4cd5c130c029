"""Estimators of scikit-learn made of others: pipelines, searches, means, chains, stacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_features import select
from jacobians.importers.sklearn_models import normalised
from jacobians.importers.sklearn_reading import (
    Reader,
    predicts,
    steps_of,
    transforms,
    way_out,
)
from jacobians.importers.sklearn_scalers import apply_function, undo

# --- one after the other --------------------------------------------------------------------------


@predicts("Pipeline")
def _pipeline(pipeline: Any, reader: Reader, of: Value, at: str) -> Value:
    steps = steps_of(pipeline, at)
    for i, (step, place) in enumerate(steps):
        last = i == len(steps) - 1
        of = (reader.predict if last else reader.transform)(step, of, place)
    return of


@transforms("Pipeline")
def _transforming_pipeline(pipeline: Any, reader: Reader, of: Value, at: str) -> Value:
    for step, place in steps_of(pipeline, at):
        of = reader.transform(step, of, place)
    return of


@predicts("TransformedTargetRegressor")
def _transformed_target(model: Any, reader: Reader, of: Value, at: str) -> Value:
    inner = model.regressor_
    of = reader.predict(inner, of, f"{at} regressor ({type(inner).__name__})")
    if model.func is not None or model.inverse_func is not None:
        return apply_function(model.inverse_func, "inverse_func", reader, of, at)
    if model.transformer is None:
        return of
    return undo(model.transformer_, reader, of, f"{at} transformer")


# --- one in the place of another ------------------------------------------------------------------

FITTED = {  # where the estimator that was fitted is kept
    **dict.fromkeys(("GridSearchCV", "RandomizedSearchCV"), "best_estimator_"),
    **dict.fromkeys(("HalvingGridSearchCV", "HalvingRandomSearchCV"), "best_estimator_"),
    "FrozenEstimator": "estimator",
    **dict.fromkeys(("RANSACRegressor", "SelfTrainingClassifier"), "estimator_"),
    **dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), "estimator_"),
}


@predicts(*FITTED)
def _fitted(model: Any, reader: Reader, of: Value, at: str) -> Value:
    inner, place = _kept(model, reader, at)
    return reader.predict(inner, of, place)


@transforms("FrozenEstimator", "GridSearchCV", "RandomizedSearchCV")
def _fitted_transformer(model: Any, reader: Reader, of: Value, at: str) -> Value:
    inner, place = _kept(model, reader, at)
    return reader.transform(inner, of, place)


def _kept(model: Any, reader: Reader, at: str) -> tuple[Any, str]:
    name = FITTED[type(model).__name__]
    if not hasattr(model, name):
        reader.refuse(at, f"has no {name}: it was made with refit=False.")
    inner = getattr(model, name)
    return inner, f"{at} {name} ({type(inner).__name__})"


@predicts("RFE", "RFECV")
def _selected(model: Any, reader: Reader, of: Value, at: str) -> Value:
    inner = model.estimator_
    return reader.predict(inner, select(model, reader, of, at), f"{at} ({type(inner).__name__})")


# --- side by side ---------------------------------------------------------------------------------


@transforms("FeatureUnion")
def _union(model: Any, reader: Reader, of: Value, at: str) -> Value:
    weights = model.transformer_weights or {}
    parts = []
    for name, transformer in model.transformer_list:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        place = f"{at} {name!r} ({type(transformer).__name__})"
        part = reader.transform(transformer, of, place)
        parts.append(weighted(part, weights.get(name), reader, place))
    return side_by_side(parts, reader, at)


def weighted(part: Value, weight: Any, reader: Reader, at: str) -> Value:
    """Append a multiple, if there is a weight."""
    return part if weight is None else reader.assembly.scale(float(weight), 0.0, at=at, of=part)


def side_by_side(parts: Sequence[Value], reader: Reader, at: str) -> Value:
    """Append values one after the other."""
    if not parts:
        reader.refuse(at, "hands on no columns.")
    return reader.assembly.concatenate(parts, 0, at=at) if len(parts) > 1 else parts[0]


def _mean(values: Sequence[Value], weights: Any, reader: Reader, at: str) -> Value:
    """Append the weighted mean of values."""
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    parts = [
        weighted(value, share, reader, at)
        for value, share in zip(values, shares, strict=True)
        if share
    ]
    return reader.assembly.add(*parts, at=at) if len(parts) > 1 else parts[0]


@predicts("VotingRegressor")
def _vote(model: Any, reader: Reader, of: Value, at: str) -> Value:
    values = [reader.predict(one, of, place) for one, place in _members(model, at)]
    return _mean(values, model._weights_not_none, reader, at)


@predicts("VotingClassifier")
def _soft_vote(model: Any, reader: Reader, of: Value, at: str) -> Value:
    if model.voting != "soft":
        reader.no_rule(at, f"voting={model.voting!r}", "With voting='soft' it has probabilities.")
    return _vote(model, reader, of, at)


@predicts("BaggingRegressor", "BaggingClassifier")
def _bag(model: Any, reader: Reader, of: Value, at: str) -> Value:
    values = []
    classes = getattr(model, "n_classes_", None)
    for k, (one, chosen) in enumerate(
        zip(model.estimators_, model.estimators_features_, strict=True)
    ):
        place = f"{at} estimators_[{k}] ({type(one).__name__})"
        part = reader.assembly.move(chosen, at=place, of=of)
        part = reader.predict(one, part, place)
        if classes is not None and len(one.classes_) != classes:
            reader.no_rule(place, "a member that saw some of the classes only", way_out(model))
        values.append(part)
    return _mean(values, None, reader, at)


@predicts("MultiOutputRegressor")
def _several_targets(model: Any, reader: Reader, of: Value, at: str) -> Value:
    parts = [reader.predict(one, of, place) for one, place in _members(model, at)]
    return side_by_side(parts, reader, at)


@predicts("OneVsRestClassifier")
def _one_of_several(model: Any, reader: Reader, of: Value, at: str) -> Value:
    parts = [reader.predict(one, of, place) for one, place in _members(model, at)]
    of = side_by_side(parts, reader, at)
    return of if len(parts) == 1 or model.multilabel_ else normalised(reader, of, at)


@predicts("RegressorChain")
def _chain(model: Any, reader: Reader, of: Value, at: str) -> Value:
    known, found = of, []
    for one, place in _members(model, at):
        found.append(reader.predict(one, known, place))
        known = side_by_side([known, found[-1]], reader, at)
    order = np.argsort(model.order_)
    return side_by_side([found[k] for k in order], reader, at)


@predicts("StackingRegressor", "StackingClassifier")
def _stack(model: Any, reader: Reader, of: Value, at: str) -> Value:
    final, methods = model.final_estimator_, model.stack_method_
    parts = []
    for (one, place), method in zip(_members(model, at), methods, strict=True):
        if method == "decision_function":
            reader.no_rule(place, "a decision_function", way_out(model))
        parts.append(reader.predict(one, of, place))
    stacked = side_by_side([*parts, *([of] if model.passthrough else [])], reader, at)
    return reader.predict(final, stacked, f"{at} final_estimator_ ({type(final).__name__})")


def _members(model: Any, at: str) -> list[tuple[Any, str]]:
    return [
        (one, f"{at} estimators_[{k}] ({type(one).__name__})")
        for k, one in enumerate(model.estimators_)
    ]
