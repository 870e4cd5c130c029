"""Scalers of scikit-learn, and functions of single features: there, and back for targets.

Both stand before a model and, undone, behind it: the inverse of what was done to the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any, NamedTuple

import numpy as np

from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import Reading, passes, transforms


class ThereAndBack(NamedTuple):
    """An affine map of every feature as (scale, shift), and its inverse."""

    forward: tuple[Any, Any]
    inverse: tuple[Any, Any]


def _centred(center: Any, scale: Any) -> ThereAndBack:
    """Return ``(x - center) / scale`` and its inverse."""
    center, scale = np.asarray(center, np.float64), np.asarray(scale, np.float64)
    return ThereAndBack((1 / scale, -center / scale), (scale, center))


SCALERS: dict[str, Callable[[Any], ThereAndBack]] = {
    "StandardScaler": lambda s: _centred(
        s.mean_ if s.with_mean else 0.0, s.scale_ if s.with_std else 1.0
    ),
    "MinMaxScaler": lambda s: ThereAndBack((s.scale_, s.min_), (1 / s.scale_, -s.min_ / s.scale_)),
    "MaxAbsScaler": lambda s: _centred(0.0, s.scale_),
    "RobustScaler": lambda s: _centred(
        s.center_ if s.with_centering else 0.0, s.scale_ if s.with_scaling else 1.0
    ),
}


@transforms(*SCALERS)
def _scaler(r: Reading) -> Value:
    (scale, shift), _ = SCALERS[r.name](r.model)
    ones = np.ones(r.model.n_features_in_)
    of = _affine(r, r.of, scale * ones, shift * ones)
    if getattr(r.model, "clip", False):  # an honest part of the model: outside, nothing changes
        low, high = getattr(r.model, "feature_range", (-1.0, 1.0))
        of = r.activate("hard_tanh", of, low=low, high=high)
    return of


def _affine(r: Reading, of: Value, scale: Any, shift: Any) -> Value:
    return r.assembly.scale(scale, shift, at=r.at, dtype=np.float64, of=of)


class Formula(NamedTuple):
    """``scale * sigma(inner * x + offset) + shift``."""

    sigma: str
    inner: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    shift: float = 0.0


FUNCTIONS: dict[str, Formula] = {  # by their names in NumPy
    **{name: Formula(name) for name in ("exp", "log", "sqrt", "square", "reciprocal")},
    **{name: Formula(name) for name in ("sin", "cos", "tanh")},
    "exp2": Formula("exp", inner=log(2)),
    "expm1": Formula("exp", shift=-1.0),
    "log1p": Formula("log", offset=1.0),
    "log2": Formula("log", scale=1 / log(2)),
    "log10": Formula("log", scale=1 / log(10)),
    "absolute": Formula("abs"),
    "negative": Formula("identity", inner=-1.0),
    "positive": Formula("identity"),
}


def apply_function(r: Reading, function: Any, role: str, of: Value) -> Value:
    """Append a function of NumPy that acts entry by entry; None is the identity."""
    if function is None:
        return of
    from scipy.special import expit

    formula = next((f for n, f in FUNCTIONS.items() if getattr(np, n) is function), None)
    if function is expit:
        formula = Formula("sigmoid")
    if formula is None:
        name = getattr(function, "__name__", repr(function))
        names = ", ".join(f"np.{n}" for n in FUNCTIONS)
        r.no_rule(f"{role}={name:.60}", f"Functions with a rule are {names}.")
    inner = r.affine(of, formula.inner, formula.offset)
    return r.affine(r.activate(formula.sigma, inner), formula.scale, formula.shift)


@transforms("FunctionTransformer")
def _function(r: Reading) -> Value:
    if r.model.kw_args:
        r.no_rule(f"func with kw_args={r.model.kw_args!r:.60}")
    return apply_function(r, r.model.func, "func", r.of)


def undo(r: Reading, transformer: Any, of: Value, label: str) -> Value:
    """Append the inverse of what was done to targets: of a scaler, a function, or several."""
    if passes(transformer):
        return of
    inner = r.inside(transformer, of, label)
    inner.require_own()
    if inner.name == "Pipeline":
        for name, step in reversed(transformer.steps):
            of = undo(inner, step, of, f"step {name!r}")
        return of
    if inner.name == "FunctionTransformer" and not transformer.inv_kw_args:
        return apply_function(inner, transformer.inverse_func, "inverse_func", of)
    if inner.name not in SCALERS:
        names = ", ".join([*SCALERS, "FunctionTransformer"])
        inner.no_rule(inner.name, f"Targets can be transformed by {names}, or beforehand.")
    return _affine(inner, of, *SCALERS[inner.name](transformer).inverse)
