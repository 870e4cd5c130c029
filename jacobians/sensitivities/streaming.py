"""One pass over a data set, in pieces of bounded memory, on one machine or on many.

::

    batches --(collected)--> windows, sorted by group --(engine)--> pieces --> accumulators

The points of a window are sorted by their random groups (``groups``) before anything is computed,
so that the sums of a group are sums of neighbouring rows.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, TypeAlias

import numpy as np

from jacobians import distributed
from jacobians._checks import (
    Array,
    ShapeError,
    TooLargeError,
    as_count,
    as_flag,
    as_items,
    as_nonnegative,
    readable_bytes,
)
from jacobians._tables import as_inputs, column_names
from jacobians.engine import value_and_jacobian
from jacobians.network import Network, as_network
from jacobians.planning import DEFAULT_BYTES, plan
from jacobians.points import Batches, open_points
from jacobians.sensitivities.accumulators import ENTRIES, Piece, accumulators, add
from jacobians.sensitivities.groups import Keys, Runs, keys_of
from jacobians.sensitivities.record import Sensitivity, as_names

GROUPS, FEWEST = 64, 10  # of points; fewer where the sums per group would take more than
GROUPS_BYTES, STATE_BYTES = 2**26, 2**30  # the first of these, and a refusal beyond the second
SUBSPACE_INPUTS = 256  # up to which JᵀJ is cheap
WINDOW = 2**18  # points, at most, that are sorted at a time
LINE_SECONDS = 5.0  # between two lines of progress

Show: TypeAlias = Callable[[int], Any]


def sensitivity(
    net: Network,
    X: Any,
    *,
    inputs: Sequence[int | str] | None = None,
    outputs: Sequence[int | str] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    ids: Any = None,
    near: float = 1e-6,
    subspace: bool | None = None,
    singular_values: bool = False,
    max_bytes: int | None = None,
    progress: bool | None = None,
) -> Sensitivity:
    """Sum up the Jacobians of a data set in one pass.

    Jacobians are computed in the dtype of the network; everything after that is float64.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (B, n_0), B at least 1; iterable of such; path; dask collection
        Columns of data frames are matched by name.  Batches, from a generator, a DataLoader, or
        ``pandas.read_csv(chunksize=...)``, are gone through once and never held; of a batch that is
        a tuple, as of inputs and targets, the first is taken.  A file, as in
        ``jacobians.points.open_points``, may be larger than memory.  The chunks of a dask array or
        data frame are summed up where they are, one task for each.
    inputs, outputs : sequence of int or str, optional
        Which ones, by number from 0 or by name; the other inputs count as held.
    input_names, output_names : sequence of str, optional
        Of all inputs and outputs.  By default those of the network, else those of the columns, else
        x1, x2, ... and y1, y2.
    units : dict of str to str, optional
        Units of inputs and outputs by name, for tables and pictures.
    ids : array of int, shape (B,), optional
        A number for every point, which decides its random group in place of its position: then
        records of shards merge to the intervals of the whole.
    near : float
        A point counts as near a kink if a preactivation is within this share of the largest of its
        layer.
    subspace : bool, optional
        Whether to sum up ``JᵀJ`` and the products of the inputs; by default for at most 256 inputs.
    singular_values : bool
        Whether to compute the singular values of every J, not only of those of the sample.
    max_bytes : int, optional
        Budget for the memory of a piece, 64 MiB unless said.
    progress : bool, optional
        Whether to show progress on standard error: a bar on a terminal, if tqdm is there, else a
        line every few seconds.  By default only on a terminal, after a second.

    Returns
    -------
    Sensitivity

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` does not fit the network.
    TooLargeError
        If the sums would take more than 1 GiB, before anything is computed.

    >>> net = Network.random([3, 5, 2], seed=0)
    >>> found = sensitivity(net, np.eye(3))
    >>> found.mean.shape, found.count, found.input_names
    ((2, 3), 3, ('x1', 'x2', 'x3'))
    >>> halves = sensitivity(net, np.eye(3)[:1]).merge(sensitivity(net, np.eye(3)[1:]))
    >>> bool(abs(halves.mean - found.mean).max() < 1e-15)
    True
    """
    net = as_network(net, "sensitivity")
    if isinstance(X, (str, os.PathLike)):
        X = open_points(X, net.input_names or input_names)
    if input_names is None:
        input_names = net.input_names or (X.names if isinstance(X, Batches) else column_names(X))
    output_names = net.output_names if output_names is None else output_names
    every_input = as_names(input_names, net.widths[0], "x", "input_names")
    every_output = as_names(output_names, net.widths[-1], "y", "output_names")
    columns = _chosen(inputs, every_input, "inputs")
    rows = _chosen(outputs, every_output, "outputs")
    m, n = len(rows), len(columns)
    wanted = n <= SUBSPACE_INPUTS if subspace is None else subspace
    subspace = as_flag(wanted, "sensitivity: subspace")
    singular_values = as_flag(singular_values, "sensitivity: singular_values")
    groups = _group_count(m, n, subspace)
    near = as_nonnegative(near, "sensitivity: near")
    budget = as_count(DEFAULT_BYTES if max_bytes is None else max_bytes, "sensitivity: max_bytes")
    known_units = _known_units(units, (*every_input, *every_output))
    selection = {
        "rows": None if outputs is None else rows,
        "columns": None if inputs is None else columns,
    }

    table = net if net.input_names else net.with_names(every_input)  # columns go by its names

    def summed(X: Any, ids: Any, show: Show) -> Sensitivity:
        kept = accumulators(m, n, net.widths[0], groups, subspace=subspace, spectra=singular_values)
        pieces = _pieces(net, _windows(_batches(table, X, ids), budget), groups, selection, budget)
        with np.errstate(under="ignore"):  # what is below 1e-308 counts as 0
            for piece in pieces:
                add(kept, piece)
                show(len(piece.x))
        if not kept["sizes"].sizes.any():
            raise ShapeError("sensitivity: X: expected points (B, n) with B > 0, but got none.")
        return Sensitivity(
            net,
            tuple(every_input[j] for j in columns),
            tuple(every_output[i] for i in rows),
            tuple(columns),
            tuple(rows),
            known_units,
            near,
            kept,
        )

    if distributed.is_collection(X):
        _refuse_ids(ids)
        return distributed.reduce(
            lambda part, first: summed(
                _points(table, part), np.arange(first, first + len(part)), _silent
            ),
            Sensitivity.merge,
            X,
        )
    if _is_iterable_of_batches(X):
        _refuse_ids(ids)
    else:
        X = _points(table, X)
    show, close = _progress(progress, len(X) if isinstance(X, np.ndarray) else None)
    try:
        return summed(X, ids, show)
    finally:
        close()


def _chosen(chosen: Sequence[int | str] | None, names: tuple[str, ...], where: str) -> list[int]:
    """Return the numbers of the chosen inputs or outputs, each once."""
    if chosen is None:
        return list(range(len(names)))
    if isinstance(chosen, (str, int)):
        chosen = [chosen]
    found = []
    for one in as_items(chosen, f"sensitivity: {where}"):
        if isinstance(one, str):
            if one not in names:
                known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                raise ValueError(f"sensitivity: {where}: {one!r} is not one of {known}.")
            found.append(names.index(one))
        else:
            number = as_count(one, f"sensitivity: {where}", at_least=0)
            if number >= len(names):
                raise ValueError(
                    f"sensitivity: {where}: expected numbers below {len(names)}, but got {number}."
                )
            found.append(number)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"sensitivity: {where}: expected some, each once, but got {chosen!r:.80}.")
    return found


def _known_units(units: Mapping[str, str] | None, names: tuple[str, ...]) -> dict[str, str]:
    if units is not None and not isinstance(units, Mapping):
        raise TypeError(f"sensitivity: units: expected a dict of names, but got {units!r:.80}.")
    for name in units or {}:
        if name not in names:
            raise ValueError(f"sensitivity: units: no input or output is called {name!r}.")
    return dict(units or {})


def _group_count(m: int, n: int, subspace: bool) -> int:
    """Return how many groups of points there are, by the size of the Jacobian alone."""
    group = 3 * 8 * m * n  # J, J² and |J|
    groups = int(min(GROUPS, max(FEWEST, GROUPS_BYTES // group)))
    squares = 2 * 8 * n**2 if subspace else 0
    for size, what, way_out in (
        (groups * group, f"the sums of {groups} groups", "Select"),
        (squares, "the sum of JᵀJ", "Say subspace=False, or select"),
    ):
        if size > STATE_BYTES:
            raise TooLargeError(
                f"sensitivity: {what} of a {m}x{n} Jacobian take {readable_bytes(size)}, over the "
                f"limit of {readable_bytes(STATE_BYTES)}. {way_out} inputs and outputs."
            )
    return groups


# --- points ---------------------------------------------------------------------------------------


def _is_iterable_of_batches(X: Any) -> bool:
    """Tell batches from what is an array, or would become one."""
    if isinstance(X, (list, tuple)):
        return bool(X) and getattr(X[0], "ndim", 0) == 2
    if isinstance(X, (Mapping, Set)) or type(X).__module__.startswith("scipy.sparse"):
        return False
    return isinstance(X, Iterable) and not hasattr(X, "__array__") and column_names(X) is None


def _refuse_ids(ids: Any) -> None:
    if ids is not None:
        raise ValueError("sensitivity: ids: not with batches, whose points are numbered in order.")


def _points(net: Network, X: Any) -> Array:
    """Return points (B, n_0), B at least 1."""
    points = as_inputs(X, net, "sensitivity: X")
    if points.ndim != 2 or not len(points):
        raise ShapeError(
            f"sensitivity: X: expected points (B, n) with B > 0, but got {points.shape}."
        )
    return points


def _batches(net: Network, X: Any, ids: Any) -> Iterator[tuple[Array, Keys]]:
    """Go through the batches, or the one array, with the keys of their points."""
    if isinstance(X, np.ndarray):
        yield X, keys_of(_numbers(ids, len(X)))
        return
    count = 0
    for batch in X:
        if isinstance(batch, (list, tuple)) and batch and getattr(batch[0], "ndim", 0) == 2:
            batch = batch[0]  # inputs, and targets that are not asked for
        points = as_inputs(batch, net, "sensitivity: X")
        if points.ndim != 2:
            raise ShapeError(f"sensitivity: X: expected batches (B, n), but got {points.shape}.")
        yield points, keys_of(np.arange(count, count + len(points), dtype=np.uint64))
        count += len(points)


def _numbers(ids: Any, count: int) -> Keys:
    if ids is None:
        return np.arange(count, dtype=np.uint64)
    found = np.asarray(ids)
    if found.dtype.kind not in "iu" or found.shape != (count,):
        raise ShapeError(
            f"sensitivity: ids: expected {count} whole numbers, but got {found.dtype} of shape "
            f"{found.shape}."
        )
    return found.astype(np.int64).view(np.uint64)


def _windows(batches: Iterable[tuple[Array, Keys]], budget: int) -> Iterator[tuple[Array, Keys]]:
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


# --- Jacobians ------------------------------------------------------------------------------------


def _pieces(
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
    at_once = max(1, budget // (8 * m * n))
    size = max(1, ENTRIES // min(m * n, max(n, 1024)))
    # the engine keeps the plans of whole Jacobians by itself
    whole = rows is None and columns is None
    chosen = None if whole else plan(net, at_once, **selection, max_bytes=budget)
    limit = {"max_bytes": budget} if whole else {}
    buffer, first = np.empty((0, m, n), net.dtype), True
    for points, keys in windows:
        labels = (keys % np.uint64(groups)).astype(np.uint8)
        order = np.argsort(labels, kind="stable")
        points, keys, labels = points[order], keys[order], labels[order]
        if len(buffer) < min(at_once, len(points)):
            buffer = np.empty((min(at_once, len(points)), m, n), net.dtype)
        for begin in range(0, len(points), at_once):
            some = points[begin : begin + at_once]
            y, J = value_and_jacobian(net, some, out=buffer[: len(some)], plan=chosen, **limit)
            y = y if rows is None else y[:, rows]
            x = some if columns is None else some[:, columns]
            for start in range(0, len(some), size):
                part = slice(start, start + size)
                here = slice(begin + start, begin + min(start + size, len(some)))
                yield Piece(
                    np.asarray(some[part], np.float64),
                    np.asarray(x[part], np.float64),
                    np.asarray(y[part], np.float64),
                    np.asarray(J[part], np.float64),
                    keys[here],
                    Runs.of(labels[here]),
                    first,
                )
                first = False


# --- progress -------------------------------------------------------------------------------------


def _silent(_: int) -> None:
    """Show nothing."""


def _progress(wanted: bool | None, total: int | None) -> tuple[Show, Callable[[], Any]]:
    """Return what to call after each piece and at the end; nothing happens where none is wanted."""
    stream = sys.stderr
    terminal = stream is not None and stream.isatty()
    if stream is None or not (terminal if wanted is None else wanted):
        return _silent, lambda: None
    if terminal:
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            bar = tqdm(total=total, unit=" points", delay=0 if wanted else 1, file=stream)
            return bar.update, bar.close
    done, told = 0, time.monotonic()

    def show(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            share = f" of {total:,} points ({done / total:.0%})" if total else " points"
            print(f"sensitivity: {done:,}{share}", file=stream, flush=True)

    return show, lambda: None
