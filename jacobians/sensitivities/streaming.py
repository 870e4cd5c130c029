"""One pass over a data set, in pieces of bounded memory, on one machine or on many.

::

    batches --(collected)--> windows, sorted by group --(engine)--> pieces --> accumulators
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, overload

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
from jacobians.network import Network, as_network
from jacobians.planning import DEFAULT_BYTES
from jacobians.points import Batches, open_points
from jacobians.sensitivities.accumulators import accumulators
from jacobians.sensitivities.comparison import Comparison, split
from jacobians.sensitivities.groups import Keys, keys_of
from jacobians.sensitivities.names import different_names
from jacobians.sensitivities.pieces import STATE_BYTES, group_count, pieces_of, windows_of
from jacobians.sensitivities.progress import Show, progress_of, silent
from jacobians.sensitivities.record import Sensitivity


@overload
def sensitivity(net: Network, X: Any, *, by: None = None, **options: Any) -> Sensitivity: ...


@overload
def sensitivity(net: Network, X: Any, *, by: Any, **options: Any) -> Comparison: ...


def sensitivity(  # type: ignore[misc]
    net: Network,
    X: Any,
    *,
    by: Any = None,
    inputs: Sequence[int | str] | None = None,
    outputs: Sequence[int | str] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    ids: Any = None,
    near: float = 1e-6,
    subspace: bool = False,
    singular_values: bool = False,
    max_bytes: int | None = None,
    progress: bool | None = None,
) -> Sensitivity | Comparison:
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
    by : str or array, shape (B,), optional
        A column, or labels: one record for each of its values.
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
    subspace, singular_values : bool
        Whether to sum up ``JᵀJ``, and the singular values of J, over all points; else active
        subspace and spectrum are those of a random sample of 500.
    max_bytes : int, optional
        Budget for the memory of a piece, 64 MiB unless said.
    progress : bool, optional
        Whether to show progress on standard error: a bar on a terminal, if tqdm is there, else a
        line every few seconds.  By default only on a terminal, after a second.

    Returns
    -------
    Sensitivity
        A ``Comparison``, which is a dictionary of them, if ``by`` was given.

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
    if by is not None:
        options: dict[str, Any] = {
            **{"inputs": inputs, "outputs": outputs, "output_names": output_names, "units": units},
            **{"near": near, "subspace": subspace, "singular_values": singular_values},
            **{"max_bytes": max_bytes, "progress": progress},
        }
        labels, X = split(X, by, net.input_names or input_names)
        names = net.input_names or input_names or column_names(X)
        points = _points(net.with_names(names) if names else net, X)
        ids = _numbers(ids, len(points)).view(np.int64)
        each = {str(value): labels == value for value in np.unique(labels)}
        records = {
            name: sensitivity(net, points[of], ids=ids[of], input_names=names, by=None, **options)
            for name, of in each.items()
        }
        return Comparison(records)
    if isinstance(X, (str, os.PathLike)):
        X = open_points(X, net.input_names or input_names)
    if input_names is None:
        input_names = net.input_names or (X.names if isinstance(X, Batches) else column_names(X))
    output_names = net.output_names if output_names is None else output_names
    every_input = different_names(input_names, net.widths[0], "x", "input_names")
    every_output = different_names(output_names, net.widths[-1], "y", "output_names")
    columns = _chosen(inputs, every_input, "inputs")
    rows = _chosen(outputs, every_output, "outputs")
    m, n = len(rows), len(columns)
    subspace = as_flag(subspace, "sensitivity: subspace")
    singular_values = as_flag(singular_values, "sensitivity: singular_values")
    way_out = "Select inputs and outputs."
    groups = group_count(m * n, f"a {m}x{n} Jacobian", way_out)
    if subspace and 8 * n * n > STATE_BYTES:
        raise TooLargeError(
            f"sensitivity: the sum of JᵀJ takes {readable_bytes(8 * n * n)}, over the limit of "
            f"{readable_bytes(STATE_BYTES)}. Say subspace=False, or select inputs."
        )
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
        windows = windows_of(_batches(table, X, ids), budget)
        with np.errstate(under="ignore"):  # what is below 1e-308 counts as 0
            for piece in pieces_of(net, windows, groups, selection, budget):
                for accumulator in kept.values():
                    accumulator.add(piece)
                show(len(piece.keys))
        if not kept["columns"].sizes.any():
            raise ShapeError("sensitivity: X: expected points (B, n) with B > 0, but got none.")
        return Sensitivity(
            net,
            tuple([every_input[j] for j in columns]),
            tuple([every_output[i] for i in rows]),
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
                _points(table, part), np.arange(first, first + len(part)), silent
            ),
            Sensitivity.merge,
            X,
        )
    if _is_iterable_of_batches(X):
        _refuse_ids(ids)
    else:
        X = _points(table, X)
    show, close = progress_of(progress, len(X) if isinstance(X, np.ndarray) else None)
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
