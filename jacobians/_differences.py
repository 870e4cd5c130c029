"""Central differences along one entry, and the checks of callables: for ``witness``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, ShapeError, as_array, as_floats

Function: TypeAlias = Callable[[Array], Any]


_RATIO = 4.0
_STAGES = 12  # the smallest step is 2^-25 of the size


def differentiate_along(
    f: Function, x: Array, center: Array, j: int, scale: float, own: Array
) -> tuple[Array, ...]:
    """Return derivative, error, one-sided ones, the least change, whether they differ."""
    eps = float(np.finfo(center.dtype).eps)
    stages = _STAGES if center.dtype == np.float64 else 6
    size = 2.0 ** np.round(np.log2(scale))
    table: list[list[Array]] = []
    best: Array = np.zeros_like(center)
    error: Array = np.full(center.shape, np.inf)
    bends, noises, sides = [], [], []
    least: Array = np.full(center.shape, np.inf)
    h = size / 8
    for k in range(stages):
        above, below = x.copy(), x.copy()
        above[j] += h
        below[j] -= h
        width = float(above[j] - below[j])  # what the step really is, after rounding
        up, down = value_of(f, above, "f"), value_of(f, below, "f")
        noise = np.maximum(4 * eps * np.maximum(np.abs(up), np.abs(down)), own) / h
        right = (up - center) / float(above[j] - x[j])
        left = (center - down) / float(x[j] - below[j])
        least = np.minimum(least, np.maximum(np.abs(left), np.abs(right)))
        row: list[Array] = [(up - down) / width]
        for q in range(k):
            factor = _RATIO ** (2 * (q + 1))
            row.append(row[q] + (row[q] - table[-1][q]) / (factor - 1))
        if k:
            change = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - table[-1][-1]))
            plain = np.abs(row[0] - table[-1][0])  # without extrapolation: for straight pieces
            for estimate, spread in ((row[-1], change), (row[0], plain)):
                better = spread + noise < error
                best = np.where(better, estimate, best)
                error = np.where(better, spread + noise, error)
        table.append(row)
        bends.append(np.abs(right - left))
        noises.append(noise)
        sides.append((left, right))
        h /= _RATIO
    # A smooth function bends like h, so over two stages the one-sided slopes come sixteen times
    # closer.  At a kink each of them settles, and they keep their distance.
    apart = (bends[-1] > 0.5 * bends[-3]) & (bends[-1] > 16 * noises[-1])
    moved = np.maximum(np.abs(left - sides[-3][0]), np.abs(right - sides[-3][1]))
    kink = apart & (moved < 0.1 * bends[-1])
    before = [np.abs(now - then) for now, then in zip((left, right), sides[-2], strict=True)]
    error = np.where(kink, noises[-1] + np.maximum(*before), error)  # one side is of first order
    left, right = np.where(kink, left, best), np.where(kink, right, best)
    return best, error, left, right, least, kink.astype(float)


def as_point(x: Any, where: str) -> Array:
    """Check a point (n,), and return a copy of it."""
    x = as_floats(x, f"{where}: x")
    if x.ndim != 1 or not len(x):
        raise ShapeError(f"{where}: x: expected a point of shape (n,), but got {x.shape}.")
    point: Array = x.copy()
    return point


def value_of(f: Function, x: Array, where: str) -> Array:
    """Return ``f(x)``, checked to be a vector."""
    if not callable(f):
        raise TypeError(f"{where}: f: expected a function, but got {f!r:.80}.")
    value = as_floats(f(x), f"{where}: f(x)")
    if value.ndim != 1:
        raise ShapeError(f"{where}: f(x): expected shape (m,), but got {value.shape}.")
    return value


def as_jacobian(J: Any, value: Array, x: Array, where: str) -> Array:
    """Check a claimed Jacobian to have one row per output and one column per input."""
    J = as_array(J, f"{where}: J")
    if J.dtype.kind not in "iuf":
        raise TypeError(f"{where}: J: expected real numbers, but got dtype {J.dtype}.")
    J = J.astype(np.result_type(J.dtype, np.float32), copy=False)
    if J.shape != (len(value), len(x)):
        raise ShapeError(f"{where}: J: expected shape {(len(value), len(x))}, but got {J.shape}.")
    claim: Array = J
    return claim
