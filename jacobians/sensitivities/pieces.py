"""Cut a data set: windows of points, sorted by their random groups, and pieces with derivatives.

The points of a window are sorted by their random groups (``groups``) before anything is computed,
so that the sums of a group are sums of neighbouring rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jacobians._checks import Array, ShapeError, TooLargeError, readable_bytes
from jacobians._tables import HasInputs, as_inputs, column_names
from jacobians.points import Batches
from jacobians.sensitivities.groups import Keys, Order, order_of, order_of_next

GROUPS, FEWEST = 64, 6  # of points; fewer where the sums per group would take more than
GROUPS_BYTES, STATE_BYTES = 2**26, 2**30  # the first of these, and a refusal beyond the second
WINDOW = 2**18  # points, at most, that are sorted at a time
ENTRIES = 2**18  # of the Jacobians of a piece, which stay in the cache
POINTS = 8  # of a piece, at least: the engine is slower at fewer


Compute: TypeAlias = Callable[[Array], tuple[Array, Array, Array]]


@dataclass(frozen=True, eq=False)
class Piece:
    """Some points with all that was computed at them, sorted by group."""

    points: Array  # (B, n_0): all inputs
    x: Array  # (B, n): selected ones
    y: Array  # (B, m): selected outputs
    J: Array  # (B, m, n)
    keys: Keys  # (B,)
    labels: NDArray[np.uint8]  # (B,): the group of each


def group_count(entries: int, what: str, way_out: str) -> int:
    """Return how many groups of points there are, by the number of derivatives of a point."""
    group = 2 * 8 * entries  # their sums, and those of their squares
    groups = int(min(GROUPS, max(FEWEST, GROUPS_BYTES // group)))
    if groups * group > STATE_BYTES:
        raise TooLargeError(
            f"sensitivity: the sums of {groups} groups of {what} take "
            f"{readable_bytes(groups * group)}, over the limit of {readable_bytes(STATE_BYTES)}. "
            f"{way_out}"
        )
    return groups


def piece_size(entries: int, budget: int) -> int:
    """Return how many points with so many derivatives make a piece."""
    return max(1, min(max(POINTS, ENTRIES // entries), budget // (8 * entries)))


def are_batches(X: Any) -> bool:
    """Tell batches from what is an array, or would become one."""
    if isinstance(X, np.ndarray):
        return False
    if isinstance(X, (list, tuple)):
        pairs = bool(X) and isinstance(X[0], tuple) and are_batches(X[0])
        return pairs or (bool(X) and getattr(X[0], "ndim", 0) == 2)
    if isinstance(X, (Mapping, Set)) or type(X).__module__.startswith("scipy.sparse"):
        return False
    return isinstance(X, Iterable) and not hasattr(X, "__array__") and column_names(X) is None


def named_by(X: Any) -> tuple[Any, Any]:
    """Return the points and the names of their columns, those of the first of several batches."""
    names = X.names if isinstance(X, Batches) else column_names(X)
    if names is not None or not are_batches(X):
        return X, names
    batches = iter(X)
    first = next(batches, None)
    if first is None:
        return batches, None
    names = column_names(first[0] if are_batches(first) else first)
    return chain([first], batches), names


def batches_of(net: HasInputs, X: Any, where: str) -> Iterator[Array]:
    """Go through the points, or the batches of points; of batches that are pairs, the inputs."""
    several = are_batches(X)
    for batch in X if several else (X,):
        if several and are_batches(batch):
            batch = batch[0]  # inputs, and targets that are not asked for
        points = as_inputs(batch, net, where)
        if points.ndim != 2 or not (len(points) or several):
            raise ShapeError(f"{where}: expected points (B, n) with B > 0, but got {points.shape}.")
        yield points


def windows_of(
    batches: Iterable[Array], groups: int, budget: int, first: int = 0, ids: Keys | None = None
) -> Iterator[tuple[Array, Order]]:
    """Cut large batches and collect small ones; points, and points in order, take the budget.

    The points are numbered from ``first`` on, unless they have ``ids``.
    """
    waiting: list[Array] = []
    for points in batches:
        size = max(1, min(WINDOW, budget // (32 * points.shape[1])))
        for start in range(0, len(points), size):
            waiting.append(points[start : start + size])
            if sum(map(len, waiting)) >= size:
                window = _window(waiting, groups, first, ids)
                first += len(window[0])
                waiting = []
                yield window
    if waiting:
        yield _window(waiting, groups, first, ids)


def _window(waiting: list[Array], groups: int, first: int, ids: Keys | None) -> tuple[Array, Order]:
    points = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
    if ids is None:
        return points, order_of_next(first, len(points), groups)
    return points, order_of(ids[first : first + len(points)], groups)


def pieces_of(
    windows: Iterable[tuple[Array, Order]],
    compute: Compute,
    at_once: int,
) -> Iterator[Piece]:
    """Sort every window by group, and compute so many points at a time.

    ``compute`` returns inputs (B, n), outputs (B, m) and derivatives (B, m, n) of points; these may
    lie where those of the piece before did.
    """
    for points, order in windows:
        points = points.take(order.indices, axis=0)
        for start in range(0, len(points), at_once):
            part = slice(start, start + at_once)
            some = points[part]
            yield Piece(some, *compute(some), order.keys[part], order.labels[part])
