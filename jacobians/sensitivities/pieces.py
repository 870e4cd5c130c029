"""Cut a data set: windows of points, sorted by their random groups, and pieces of their Jacobians.

The points of a window are sorted by their random groups (``groups``) before anything is computed,
so that the sums of a group are sums of neighbouring rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jacobians._checks import Array, TooLargeError, readable_bytes
from jacobians.engine import value_and_jacobian
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.sensitivities.accumulators import ENTRIES, Piece
from jacobians.sensitivities.groups import Keys, Runs, in_order

GROUPS, FEWEST = 64, 10  # of points; fewer where the sums per group would take more than
GROUPS_BYTES, STATE_BYTES = 2**26, 2**30  # the first of these, and a refusal beyond the second
CACHE = 2**24  # bytes of the Jacobians of a call
WINDOW = 2**18  # points, at most, that are sorted at a time


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


def windows_of(batches: Iterable[tuple[Array, Keys]], budget: int) -> Iterator[tuple[Array, Keys]]:
    """Cut large batches and collect small ones; points, and points in order, take the budget."""
    waiting: list[tuple[Array, Keys]] = []
    for points, keys in batches:
        size = max(1, min(WINDOW, budget // (32 * points.shape[1])))
        for start in range(0, len(points), size):
            part = slice(start, start + size)
            waiting.append((points[part], keys[part]))
            if sum(len(keys) for _, keys in waiting) >= size:
                yield _joined(waiting)
                waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[tuple[Array, Keys]]) -> tuple[Array, Keys]:
    if len(parts) == 1:
        return parts[0]
    points, keys = zip(*parts, strict=True)
    return np.concatenate(points), np.concatenate(keys)


def pieces_of(
    net: Network,
    windows: Iterable[tuple[Array, Keys]],
    groups: int,
    selection: Mapping[str, Any],
    budget: int,
) -> Iterator[Piece]:
    """Sort every window by group, compute its Jacobians, and cut them; the next one reuses them."""
    rows, columns = selection["rows"], selection["columns"]
    m = net.widths[-1] if rows is None else len(rows)
    n = net.widths[0] if columns is None else len(columns)
    at_once = max(1, min(budget, CACHE) // (8 * m * n))
    size = max(1, ENTRIES // min(m * n, 1024))
    # the engine keeps the plans of whole Jacobians by itself
    whole = rows is None and columns is None
    chosen = None if whole else plan(net, at_once, **selection, max_bytes=budget)
    limit = {"max_bytes": budget} if whole else {}
    buffer = np.empty((0, m, n), net.dtype)
    for points, keys in windows:
        order, labels = in_order(keys, groups)
        points, keys = points[order], keys[order]
        if len(buffer) < min(at_once, len(points)):
            buffer = np.empty((min(at_once, len(points)), m, n), net.dtype)
        for begin in range(0, len(points), at_once):
            some = points[begin : begin + at_once]
            y, J = value_and_jacobian(net, some, out=buffer[: len(some)], plan=chosen, **limit)
            y = y if rows is None else y[:, rows]
            data = np.concatenate([some if columns is None else some[:, columns], y], axis=1)
            for start in range(0, len(some), size):
                part = slice(start, start + size)
                here = slice(begin + start, begin + min(start + size, len(some)))
                runs = Runs.of(labels[here])
                yield Piece(some[part], data[part], J[part], keys[here], runs)
