"""Estimators of scikit-learn made of others: pipelines, searches, means, stacks, columns.

A ColumnTransformer does something else to every group of columns.  Where it encodes categories the
network begins behind the encoder: its inputs are the numeric columns, and one entry for every
column that the encoder makes, under the encoder's own names (``town_Rome``, as
``pandas.get_dummies`` calls it too).  A derivative by such an input says what the choice of that
category adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import (
    BEFOREHAND,
    Reading,
    passes,
    predicts,
    steps_of,
    transforms,
    way_out,
)
from jacobians.importers.sklearn_transformers import apply_function, select, undo


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
    return r.total(parts)


def _members(r: Reading) -> list[tuple[Any, str]]:
    return [(one, f"estimators_[{k}]") for k, one in enumerate(r.model.estimators_)]


def _predictions(r: Reading) -> list[Value]:
    return [r.predict(one, r.of, label) for one, label in _members(r)]


@predicts("VotingRegressor", "VotingClassifier")
def _vote(r: Reading) -> Value:
    if getattr(r.model, "voting", "soft") != "soft":
        r.no_rule(f"voting={r.model.voting!r}", "With voting='soft' it has probabilities.")
    return _mean(r, _predictions(r), r.model._weights_not_none)


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


@predicts("StackingRegressor", "StackingClassifier")
def _stack(r: Reading) -> Value:
    for (one, label), method in zip(_members(r), r.model.stack_method_, strict=True):
        if method == "decision_function":
            r.inside(one, r.of, label).no_rule("a decision_function", way_out(r.model))
    stacked = side_by_side(r, [*_predictions(r), *([r.of] if r.model.passthrough else [])])
    return r.predict(r.model.final_estimator_, stacked, "final_estimator_")


# --- columns --------------------------------------------------------------------------------------

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")


@dataclass(frozen=True)
class Inputs:
    """The inputs of the network, from the columns of the data.

    ``numbers`` says where a column stands among the inputs, ``encoded`` where the entries of an
    encoder do, by its id; both hold for the step ``first`` alone, which sees the data itself.
    """

    width: int | None
    names: list[str] | None
    first: Any = None
    numbers: dict[int, int] = field(default_factory=dict)
    encoded: dict[int, list[int]] = field(default_factory=dict)


def inputs_of(estimator: Any) -> Inputs:
    """Find out what the inputs are: the features, or what an encoder in front makes of them."""
    first = _first(estimator)
    width = getattr(first, "n_features_in_", None)
    names = getattr(first, "feature_names_in_", None)
    names = None if names is None else [str(name) for name in names]
    if type(first).__name__ in ENCODERS and first is not estimator:
        groups = [(first, list(range(width or 0)))]
        kept: list[int] = []
    elif type(first).__name__ == "ColumnTransformer" and hasattr(first, "transformers_"):
        parted = [(encoder_of(t), columns, t) for _, t, columns in branches(first)]
        groups = [(encoder, columns) for encoder, columns, _ in parted if encoder is not None]
        kept = sorted({j for encoder, columns, _ in parted if encoder is None for j in columns})
    else:
        groups = []
    if not groups:
        return Inputs(width, names)
    called = names or [f"x{j}" for j in range(width or 0)]
    inputs, encoded = [called[j] for j in kept], {}
    for encoder, columns in groups:
        given = [called[j] for j in columns]
        whole = len(given) == encoder.n_features_in_
        made = encoder.get_feature_names_out(given if whole else None)
        encoded[id(encoder)] = list(range(len(inputs), len(inputs) + len(made)))
        inputs += [str(name) for name in made]
    numbers = {j: place for place, j in enumerate(kept)}
    return Inputs(len(inputs), inputs, first, numbers, encoded)


def _first(estimator: Any) -> Any:
    """Return the step that sees the data itself."""
    kind = type(estimator).__name__
    inner = None
    if kind == "Pipeline":
        inner = next((step for _, step in estimator.steps if not passes(step)), None)
    elif kind == "TransformedTargetRegressor":
        inner = getattr(estimator, "regressor_", None)
    elif kind in FITTED:
        inner = getattr(estimator, FITTED[kind], None)
    return estimator if inner is None else _first(inner)


def branches(model: Any) -> list[tuple[str, Any, list[int]]]:
    """Return name, transformer and column numbers of what a ColumnTransformer does not drop."""
    columns_of = model._transformer_to_input_indices
    return [
        (name, transformer, list(columns_of[name]))
        for name, transformer, _ in model.transformers_
        if not (isinstance(transformer, str) and transformer == "drop") and len(columns_of[name])
    ]


def encoder_of(transformer: Any) -> Any:
    """Return the encoder of a branch, behind nothing but steps that fill gaps; else None."""
    pipeline = type(transformer).__name__ == "Pipeline"
    steps = [step for step, _ in steps_of(transformer)] if pipeline else [transformer]
    for step in steps:
        if type(step).__name__ in ENCODERS:
            return step
        if type(step).__name__ != "SimpleImputer":
            return None
    return None


@transforms("ColumnTransformer")
def _columns(r: Reading) -> Value:
    weights = r.model.transformer_weights or {}
    parts = []
    for name, transformer, columns in branches(r.model):
        encoder = encoder_of(transformer)
        if encoder is None:
            first = r.model is r.inputs.first
            chosen = [r.inputs.numbers[j] for j in columns] if first else columns
            part = r.transform(transformer, r.move(r.of, chosen), repr(name))
        else:  # what comes before it fills gaps, where there are none
            steps = [(encoder, "")] if transformer is encoder else steps_of(transformer)
            begin = next(i for i, (step, _) in enumerate(steps) if step is encoder)
            part = through(r.inside(transformer, r.of, repr(name)), r.of, steps[begin:])
        parts.append(weighted(r, part, weights.get(name)))
    return side_by_side(r, parts)


@transforms(*ENCODERS)
def _encoded(r: Reading) -> Value:
    where = r.inputs.encoded.get(id(r.model))
    if where is None:
        r.no_rule(f"{r.name} behind other steps, or alone,", BEFOREHAND)
    return r.move(r.of, where)
