"""Central differences, and the checks of callables: for ``witness``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, Indices, ShapeError, as_array, as_floats

Function: TypeAlias = Callable[[Array], Any]


_RATIO = 4.0
_STAGES = 12  # the smallest step is 2^-25 of the size
_ENTRIES = 2**18  # of points, or of values, at a time


def differentiate(
    f: Function, x: Array, center: Array, scale: Array, own: Array
) -> tuple[Any, ...]:
    """Return derivative, error, one-sided ones, the least change, and whether they differ, (m, n).

    ``f`` takes points (B, n) to values (B, m); as many entries of ``x`` are moved at a time as fit.
    """
    at_once = max(1, _ENTRIES // max(len(x), len(center)))
    some = np.split(np.arange(len(x)), range(at_once, len(x), at_once))
    pieces = [_by_entries(f, x, center, j, scale[j], own) for j in some]
    return tuple(np.concatenate(piece).T for piece in zip(*pieces, strict=True))


def _by_entries(
    f: Function, x: Array, center: Array, j: Indices, scale: Array, own: Array
) -> tuple[Any, ...]:
    """Differentiate by some entries: every result has a row for each of them."""
    eps = float(np.finfo(center.dtype).eps)
    stages = _STAGES if center.dtype == np.float64 else 6
    each, points = np.arange(len(j)), np.tile(x, (len(j), 1))

    def moved_to(places: Array) -> tuple[Array, Array]:
        points[each, j] = places
        return f(points), points[each, j]

    h = 2.0 ** np.round(np.log2(scale)) / 8
    before: list[Array] = []
    best: Array = np.zeros((len(j), len(center)), center.dtype)
    error: Array = np.full(best.shape, np.inf)
    bends, noises, sides = [], [], []
    least: Array = np.full(best.shape, np.inf)
    for k in range(stages):
        up, above = moved_to(x[j] + h)
        down, below = moved_to(x[j] - h)
        steps = np.array([above - below, above - x[j], x[j] - below], center.dtype)[..., None]
        whole, ahead, behind = np.where(steps == 0, np.nan, steps)  # as they are after rounding
        noise = np.maximum(4 * eps * np.maximum(np.abs(up), np.abs(down)), own) / h[:, None]
        right, left = (up - center) / ahead, (center - down) / behind
        least = np.minimum(least, np.maximum(np.abs(left), np.abs(right)))
        row: list[Array] = [(up - down) / whole]
        for q in range(k):
            factor = _RATIO ** (2 * (q + 1))
            row.append(row[q] + (row[q] - before[q]) / (factor - 1))
        if k:
            change = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - before[-1]))
            plain = np.abs(row[0] - before[0])  # without extrapolation: for straight pieces
            for estimate, spread in ((row[-1], change), (row[0], plain)):
                better = spread + noise < error
                best = np.where(better, estimate, best)
                error = np.where(better, spread + noise, error)
        before = row
        bends.append(np.abs(right - left))
        noises.append(noise)
        sides.append((left, right))
        h = h / _RATIO
    # A smooth function bends like h, so over two stages the one-sided slopes come sixteen times
    # closer.  At a kink each of them settles, and they keep their distance.
    apart = (bends[-1] > 0.5 * bends[-3]) & (bends[-1] > 16 * noises[-1])
    moved = np.maximum(np.abs(left - sides[-3][0]), np.abs(right - sides[-3][1]))
    kink = apart & (moved < 0.1 * bends[-1])
    last = [np.abs(now - then) for now, then in zip((left, right), sides[-2], strict=True)]
    error = np.where(kink, noises[-1] + np.maximum(*last), error)  # one side is of first order
    ends = (np.where(kink, end, best) for end in (left, right))
    return best, error, *ends, least, kink


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
