"""Scalers of scikit-learn, and functions of single features: there, and back for targets.

Both stand before a model and, undone, behind it: the inverse of what was done to the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any, NamedTuple

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import Reader, passes, transforms


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


@transforms(*SCALERS)
def _scaler(scaler: Any, reader: Reader, of: Value, at: str) -> Value:
    (scale, shift), _ = SCALERS[type(scaler).__name__](scaler)
    ones = np.ones(scaler.n_features_in_)
    of = reader.assembly.scale(scale * ones, shift * ones, at=at, dtype=np.float64, of=of)
    if getattr(scaler, "clip", False):  # an honest part of the model: outside, nothing changes
        low, high = getattr(scaler, "feature_range", (-1.0, 1.0))
        of = reader.assembly.activate("hard_tanh", at=at, of=of, low=low, high=high)
    return of


# --- functions of single features -----------------------------------------------------------------


class Formula(NamedTuple):
    """``scale * sigma(inner * x + offset) + shift``."""

    sigma: str
    inner: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    shift: float = 0.0


FUNCTIONS: dict[str, Formula] = {  # by their names in NumPy
    "exp": Formula("exp"),
    "exp2": Formula("exp", inner=log(2)),
    "expm1": Formula("exp", shift=-1.0),
    "log": Formula("log"),
    "log1p": Formula("log", offset=1.0),
    "log2": Formula("log", scale=1 / log(2)),
    "log10": Formula("log", scale=1 / log(10)),
    "sqrt": Formula("sqrt"),
    "square": Formula("square"),
    "reciprocal": Formula("reciprocal"),
    "absolute": Formula("abs"),
    "sin": Formula("sin"),
    "cos": Formula("cos"),
    "tanh": Formula("tanh"),
    "negative": Formula("identity", inner=-1.0),
    "positive": Formula("identity"),
}


def apply_function(function: Any, role: str, reader: Reader, of: Value, at: str) -> Value:
    """Append a function of NumPy that acts entry by entry; None is the identity."""
    if function is None:
        return of
    from scipy.special import expit

    found = next((f for n, f in FUNCTIONS.items() if getattr(np, n) is function), None)
    if function is expit:
        found = Formula("sigmoid")
    if found is None:
        name = getattr(function, "__name__", repr(function))
        known = ", ".join(f"np.{n}" for n in FUNCTIONS)
        reader.no_rule(at, f"{role}={name:.60}", f"Functions with a rule are {known}.")
    assembly = reader.assembly
    if (found.inner, found.offset) != (1.0, 0.0):
        of = assembly.scale(found.inner, found.offset, at=at, of=of)
    of = assembly.activate(found.sigma, at=at, of=of)
    if (found.scale, found.shift) != (1.0, 0.0):
        of = assembly.scale(found.scale, found.shift, at=at, of=of)
    return of


@transforms("FunctionTransformer")
def _function(transformer: Any, reader: Reader, of: Value, at: str) -> Value:
    if transformer.kw_args:
        reader.no_rule(at, f"func with kw_args={transformer.kw_args!r:.60}")
    return apply_function(transformer.func, "func", reader, of, at)


# --- back -----------------------------------------------------------------------------------------


def undo(transformer: Any, reader: Reader, of: Value, at: str) -> Value:
    """Append the inverse of what was done to targets: of a scaler, a function, or several."""
    if passes(transformer):
        return of
    at = f"{at} ({type(transformer).__name__})"
    kind = reader.kind(transformer, at)
    if kind == "Pipeline":
        for name, step in reversed(transformer.steps):
            of = undo(step, reader, of, f"{at} step {name!r}")
        return of
    if kind == "FunctionTransformer" and not transformer.inv_kw_args:
        return apply_function(transformer.inverse_func, "inverse_func", reader, of, at)
    if kind not in SCALERS:
        known = ", ".join([*SCALERS, "FunctionTransformer"])
        reader.no_rule(at, kind, f"Targets can be transformed by {known}, or beforehand.")
    _, (scale, shift) = SCALERS[kind](transformer)
    return reader.assembly.scale(scale, shift, at=at, dtype=np.float64, of=of)
