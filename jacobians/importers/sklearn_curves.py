"""Transformers of scikit-learn that bend every feature along a curve of its own.

Power transforms (x >= 0 for Box-Cox, c the exponent)::

    Box-Cox       (x^c - 1) / c                      log x at c = 0
    Yeo-Johnson   ((1 + x)^c - 1) / c                at x >= 0
                  -((1 - x)^(2 - c) - 1) / (2 - c)   at x < 0

and piecewise linear ones through quantiles, whose slopes jump at every quantile.  These are
activations of a network's own: ``save`` refuses them, since a file holds no code.
Source: I.-K. Yeo, R. A. Johnson, "A new family of power transformations", Biometrika 87 (2000).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation
from jacobians.importers._assembly import Value
from jacobians.importers.sklearn_reading import Reading, transforms


@transforms("PowerTransformer")
def _powers(r: Reading) -> Value:
    name = r.model.method.replace("-", "_")
    f, slope, second = _FORMULAS[name]
    curves = [
        Activation(name, f, slope, second, parameters=(("exponent", float(exponent)),))
        for exponent in r.model.lambdas_
    ]
    of = _bend(r, curves)
    return r.transform(r.model._scaler, of, "_scaler") if r.model.standardize else of


@transforms("QuantileTransformer")
def _quantiles(r: Reading) -> Value:
    curves = []
    for knots in r.model.quantiles_.T:
        line = partial(_between, knots=knots, heights=r.model.references_)
        slope = partial(_slope, knots=knots, heights=r.model.references_)
        if r.model.output_distribution == "normal":
            line, slope = partial(_as_normal, line), partial(_normal_slope, line, slope)
        kinks = tuple(np.unique(knots))
        normal = r.model.output_distribution == "normal"
        straight = not normal and len(kinks) == len(knots)
        curves.append(Activation("quantile", line, slope, kinks=kinks, piecewise_linear=straight))
    return _bend(r, curves)


def _bend(r: Reading, curves: list[Activation]) -> Value:
    """Append one activation for every feature."""
    parts = [
        r.assembly.activate(curve, at=r.at, of=r.move(r.of, [j])) for j, curve in enumerate(curves)
    ]
    return r.concatenate(parts, 0)


def _powered(z: Array, exponent: float, order: int, mirrored: bool) -> Any:
    """Return ``(u^c - 1) / c`` or a derivative by z: ``u = z``, or ``1 + |z|`` with a sign."""
    below = mirrored & (z < 0)
    c, sign = np.where(below, 2 - exponent, exponent), np.where(below, -1.0, 1.0)
    with np.errstate(all="ignore"):  # what is NaN or infinite is reported by whoever asked
        log = np.log1p(np.abs(z)) if mirrored else np.log(z)
        if order == 0:
            return sign * np.where(c == 0, log, np.expm1(c * log) / np.where(c == 0, 1, c))
        return sign ** (order + 1) * (c - 1 if order == 2 else 1) * np.exp((c - order) * log)


_FORMULAS: dict[str, Any] = {  # value, slope and second derivative
    name: tuple(partial(_powered, order=k, mirrored=mirrored) for k in range(3))
    for name, mirrored in (("box_cox", False), ("yeo_johnson", True))
}


def _between(z: Array, knots: Array, heights: Array) -> Array:
    """Interpolate; where a knot repeats, take the mean of its lowest and highest height."""
    up = np.interp(z, knots, heights)
    down = np.interp(-z, -knots[::-1], -heights[::-1])
    return (up - down) / 2


def _slope(z: Array, knots: Array, heights: Array) -> Array:
    """Return the slope of the piece; at a knot 0 at an end, else that on the left."""
    piece = np.searchsorted(knots, z, side="left")
    inside = (piece > 0) & (piece < len(knots)) & (z < knots[-1])
    piece = np.clip(piece, 1, len(knots) - 1)
    rise, run = np.diff(heights)[piece - 1], np.diff(knots)[piece - 1]
    return np.where(inside & (run > 0), rise / np.where(run > 0, run, 1), 0.0)


_THRESHOLD = 1e-7  # probabilities closer to 0 or 1 are cut off before the normal distribution


def _as_normal(line: Any, z: Array) -> Any:
    from scipy.special import ndtri

    least = ndtri(_THRESHOLD - np.spacing(1))
    return np.clip(ndtri(line(z)), least, -least)


def _normal_slope(line: Any, slope: Any, z: Array) -> Any:
    # x = ndtri(u): dx/du = 1 / density(x); cut off it does not move
    x, least = _as_normal(line, z), _as_normal(line, line.keywords["knots"][:1])[0]
    moves = (x > least) & (x < -least)
    return np.where(moves, slope(z) * np.sqrt(2 * np.pi) * np.exp(x * x / 2), 0.0)
