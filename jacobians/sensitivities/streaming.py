"""One pass over a data set, in pieces of bounded memory, on one machine or on many.

::

    batches --(collected)--> windows, sorted by group --(engine)--> pieces --> accumulators
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, overload

import numpy as np

from jacobians import distributed
from jacobians._checks import (
    Array,
    ShapeError,
    TooLargeError,
    as_array,
    as_count,
    as_flag,
    as_items,
    as_nonnegative,
    flags_end_with_it,
    readable_bytes,
)
from jacobians._progress import Show, progress_of, silent
from jacobians._tables import PointsLike, column_names
from jacobians.engine import value_and_jacobian
from jacobians.network import Network, as_network
from jacobians.planning import DEFAULT_BYTES, plan
from jacobians.points import open_points
from jacobians.sensitivities.accumulators import accumulators
from jacobians.sensitivities.comparison import Comparison, split
from jacobians.sensitivities.groups import Keys
from jacobians.sensitivities.names import different_names, number_of, selection
from jacobians.sensitivities.pieces import (
    STATE_BYTES,
    Compute,
    are_batches,
    batches_of,
    group_count,
    named_by,
    piece_size,
    pieces_of,
    windows_of,
)
from jacobians.sensitivities.record import Sensitivity

Points: TypeAlias = PointsLike | Iterable[PointsLike] | os.PathLike[str]


@overload
def sensitivity(net: Network, X: Points, *, by: None = None, **options: Any) -> Sensitivity: ...


@overload
def sensitivity(net: Network, X: Points, *, by: Any, **options: Any) -> Comparison: ...


@flags_end_with_it  # type: ignore[misc]
def sensitivity(
    net: Network,
    X: Points,
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
    >>> record = sensitivity(net, np.eye(3))
    >>> record.mean.shape, record.count, record.input_names
    ((2, 3), 3, ('x1', 'x2', 'x3'))
    >>> halves = sensitivity(net, np.eye(3)[:1]).merge(sensitivity(net, np.eye(3)[1:]))
    >>> bool(abs(halves.mean - record.mean).max() < 1e-15)
    True
    """
    net = as_network(net, "sensitivity")
    if by is not None:
        options = {
            **{"inputs": inputs, "outputs": outputs, "output_names": output_names, "units": units},
            **{"near": near, "subspace": subspace, "singular_values": singular_values},
            **{"max_bytes": max_bytes, "progress": progress},
        }
        return _by(net, X, by, ids, input_names, options)
    if isinstance(X, (str, os.PathLike)):
        X = open_points(X, net.input_names or input_names)
    if input_names is None and not net.input_names:
        X, input_names = named_by(X)
    input_names = input_names or net.input_names
    output_names = net.output_names if output_names is None else output_names
    every_input = different_names(input_names, net.widths[0], "x", "input_names")
    every_output = different_names(output_names, net.widths[-1], "y", "output_names")
    columns = _chosen(inputs, every_input, "sensitivity: inputs")
    rows = _chosen(outputs, every_output, "sensitivity: outputs")
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
    about = _units_of(units, (*every_input, *every_output))
    at_once = piece_size(m * n, budget)

    # columns of tables go by the names of the inputs
    plain = type(X) is np.ndarray and X.dtype.names is None
    table = net if plain or net.input_names else net.with_names(every_input)

    def summed(batches: Iterable[Array], first: int, ids: Keys | None, show: Show) -> Sensitivity:
        more = {"subspace": subspace, "spectra": singular_values}
        kept = accumulators(m, n, groups, count, **more)
        compute = _jacobians(net, selection(rows, columns, net.widths), budget, at_once)
        with np.errstate(under="ignore"):  # what is below 1e-308 counts as 0
            windows = windows_of(batches, groups, budget, first, ids)
            for piece in pieces_of(windows, compute, at_once):
                for accumulator in kept.values():
                    accumulator.add(piece)
                show(len(piece.keys))
        kept["columns"].check("sensitivity")
        names = tuple(map(every_input.__getitem__, columns))
        of = tuple(map(every_output.__getitem__, rows))
        return Sensitivity(net, names, of, tuple(columns), tuple(rows), about, near, kept)

    where, count = "sensitivity: X", None
    if ids is not None and (distributed.is_collection(X) or are_batches(X)):
        raise ValueError("sensitivity: ids: not with batches, whose points are numbered in order.")
    if distributed.is_collection(X):
        return distributed.reduce(
            lambda chunk, first: summed(batches_of(table, chunk, where), first, None, silent),
            Sensitivity.merge,
            X,
        )
    batches: Iterable[Array] = batches_of(table, X, where)
    if not are_batches(X):
        (points,) = batches
        batches, count = [points], len(points)
        ids = None if ids is None else _numbers(ids, count)
    with progress_of("sensitivity", progress, count) as show:
        return summed(batches, 0, ids, show)


def _jacobians(net: Network, chosen: dict[str, Any], budget: int, at_once: int) -> Compute:
    """Return what computes inputs, outputs and Jacobians; the next ones lie where these did."""
    rows, columns = (chosen.get(what, slice(None)) for what in ("rows", "columns"))
    made: list[Any] = []
    memory: list[Array] = []

    def compute(x: Array) -> tuple[Array, Array, Array]:
        large = memory and len(memory[0]) >= len(x)
        out = memory[0][: len(x)] if large else None
        if not made:  # the engine keeps the plans of whole Jacobians by itself
            one = plan(net, at_once, **chosen, max_bytes=budget, near=x[0]) if chosen else None
            made.append(one)
        y, J = value_and_jacobian(net, x, out=out, max_bytes=budget, plan=made[0])
        if not large:
            memory[:] = [J]
        return x[:, columns], y[:, rows], J

    return compute


def _by(net: Network, X: Any, by: Any, ids: Any, names: Any, options: dict[str, Any]) -> Comparison:
    """Make one record for each group of points."""
    labels, X = split(X, by, net.input_names or names)
    wanted = net.input_names or names or column_names(X)
    (points,) = batches_of(net.with_names(wanted) if wanted else net, X, "sensitivity: X")
    ids = np.arange(len(points)) if ids is None else _numbers(ids, len(points))
    each = {str(value): labels == value for value in np.unique(labels)}
    return Comparison(
        {
            name: sensitivity(net, points[of], ids=ids[of], input_names=names or wanted, **options)
            for name, of in each.items()
        },
        by if isinstance(by, str) else "",
    )


def _chosen(chosen: Any, names: tuple[str, ...], where: str) -> list[int]:
    """Return the numbers of the chosen inputs or outputs, each once."""
    if chosen is None:
        return list(range(len(names)))
    some = (chosen,) if isinstance(chosen, (str, int)) else as_items(chosen, where)
    numbers = [number_of(one, names, where) for one in some]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"{where}: expected some, each once, but got {chosen!r:.80}.")
    return numbers


def _units_of(units: Mapping[str, str] | None, names: tuple[str, ...]) -> dict[str, str]:
    if units is not None and not isinstance(units, Mapping):
        raise TypeError(f"sensitivity: units: expected a dict of names, but got {units!r:.80}.")
    for name in units or {}:
        if name not in names:
            raise ValueError(f"sensitivity: units: no input or output is called {name!r}.")
    return dict(units or {})


def _numbers(ids: Any, count: int) -> Keys:
    numbers = as_array(ids, "sensitivity: ids")
    if numbers.dtype.kind not in "iu" or numbers.shape != (count,):
        raise ShapeError(
            f"sensitivity: ids: expected {count} whole numbers, but got {numbers.dtype} of shape "
            f"{numbers.shape}."
        )
    return numbers.astype(np.int64).view(np.uint64)
