"""Columns of a table: which are the inputs of the network, and what happens to each.

A ColumnTransformer does something else to every group of columns.  Where it encodes categories the
network begins behind the encoder: its inputs are the numeric columns, and one entry for every
column that the encoder makes, under the encoder's own names (``town_Rome``, as
``pandas.get_dummies`` calls it too).  A derivative by such an input says what the choice of that
category adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_composites import FITTED, side_by_side, through, weighted
from jacobians.importers.sklearn_reading import BEFOREHAND, Reading, passes, steps_of, transforms

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
