"""One pass over a data set, in pieces of bounded memory.

Each piece is handed to the engine, and traced once more if the network has kinks.  What is kept is
the tally, which does not grow with the number of points.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    ShapeError,
    TooLargeError,
    as_count,
    as_nonnegative,
    as_points,
    missing_extra,
    readable_bytes,
)
from jacobians.engine import value_and_jacobian
from jacobians.network import Network
from jacobians.planning import Plan, plan
from jacobians.sensitivities.bootstrap import draws
from jacobians.sensitivities.exact_sums import PLACES
from jacobians.sensitivities.record import Sensitivity, as_names
from jacobians.sensitivities.tally import Piece, Tally
from jacobians.tracing import trace

STATE_BYTES = 2**30  # what the sums may take
SUBSPACE_INPUTS, SINGULAR_VALUES = 256, 128  # up to which they are cheap
MOST_POINTS = 2**18  # of one piece; see exact_sums


def sensitivity(
    net: Network,
    X: Any,
    *,
    inputs: Sequence[int | str] | None = None,
    outputs: Sequence[int | str] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    replicates: int = 200,
    ids: Any = None,
    near: float = 1e-6,
    subspace: bool | None = None,
    singular_values: bool | None = None,
    max_bytes: int | None = None,
    progress: bool | None = None,
) -> Sensitivity:
    """Sum up the Jacobians of a data set in one pass.

    Jacobians are computed in the dtype of the network; everything after that is float64.

    Parameters
    ----------
    net : Network
    X : array, shape (B, n_0), B at least 1; or an iterator over such arrays
        An iterator, over batches read from a disk say, is gone through once and never held.
    inputs, outputs : sequence of int or str, optional
        Which ones, by number from 0 or by name; the other inputs count as held.
    input_names, output_names : sequence of str, optional
        Of all inputs and outputs.  By default those of the network, else x1, x2, ... and y1, y2.
    units : dict of str to str, optional
        Units of inputs and outputs by name, for tables and pictures.
    replicates : int
        Bootstrap replicates for the intervals; 0 for none.
    ids : array of int, shape (B,), optional
        A number for every point, which then decides its draws in place of its entries: say it if
        rows repeat (see ``jacobians.sensitivities.bootstrap``).
    near : float
        A point counts as near a kink if a preactivation is within this share of the largest of its
        layer.
    subspace : bool, optional
        Whether to sum up ``JᵀJ``; by default for at most 256 inputs, since it takes a multiple of
        the time of everything else for more.
    singular_values : bool, optional
        Whether to compute the singular values of every J; by default if there are at most 128.
    max_bytes : int, optional
        Budget for the memory of a piece, 64 MiB unless said.
    progress : bool, optional
        Whether to show a bar on standard error.  By default only on a terminal, if tqdm is there,
        after a second.

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
    input_names = net.input_names if input_names is None else input_names
    output_names = net.output_names if output_names is None else output_names
    every_input = as_names(input_names, net.widths[0], "x", "input_names")
    every_output = as_names(output_names, net.widths[-1], "y", "output_names")
    columns = _chosen(inputs, every_input, "inputs")
    rows = _chosen(outputs, every_output, "outputs")
    if subspace is None:
        subspace = len(columns) <= SUBSPACE_INPUTS
    if singular_values is None:
        singular_values = min(len(rows), len(columns)) <= SINGULAR_VALUES
    R = as_count(replicates, "sensitivity: replicates", at_least=0)
    _refuse_large_sums(len(rows), len(columns), R, subspace)
    chosen = plan(
        net,
        MOST_POINTS,
        rows=None if outputs is None else rows,
        columns=None if inputs is None else columns,
        max_bytes=max_bytes,
    )
    near = as_nonnegative(near, "sensitivity: near")
    tally = Tally.empty(len(rows), len(columns), R, subspace, singular_values)
    size = _piece_size(chosen, len(rows) * len(columns), R)
    if isinstance(X, Iterator):
        total = None
        if ids is not None:
            raise ValueError("sensitivity: ids: not with an iterator of batches.")
    else:
        X = as_points(X, net.widths[0], "sensitivity: X", net.dtype)
        if X.ndim != 2 or not len(X):
            raise ShapeError(
                f"sensitivity: X: expected points (B, n) with B > 0, but got {X.shape}."
            )
        total, ids = len(X), _as_ids(ids, len(X))
    show, close = _progress(progress, total)
    try:
        for x, labels in _pieces(net, X, ids, size):
            y, J = value_and_jacobian(net, x, plan=chosen)
            keys, weights = draws(x, labels, R)
            piece = Piece(
                x[:, columns].astype(np.float64),
                y[:, rows].astype(np.float64),
                J.astype(np.float64),
                keys,
                weights,
                *_kinks(net, x, near),
            )
            tally = tally.add(piece)
            show(len(x))
    finally:
        close()
    if not tally.count:
        raise ShapeError("sensitivity: X: expected points (B, n) with B > 0, but got none.")
    return Sensitivity(
        net,
        tuple(every_input[j] for j in columns),
        tuple(every_output[i] for i in rows),
        tuple(columns),
        tuple(rows),
        _known_units(units, (*every_input, *every_output)),
        near,
        tally,
    )


def _chosen(chosen: Sequence[int | str] | None, names: tuple[str, ...], where: str) -> list[int]:
    """Return the numbers of the chosen inputs or outputs, each once."""
    if chosen is None:
        return list(range(len(names)))
    if isinstance(chosen, (str, int)):
        chosen = [chosen]
    found = []
    for one in chosen:
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
    for name in units or {}:
        if name not in names:
            raise ValueError(f"sensitivity: units: no input or output is called {name!r}.")
    return dict(units or {})


def _refuse_large_sums(m: int, n: int, replicates: int, subspace: bool) -> None:
    bootstrap = 3 * PLACES * 8 * (replicates + 1) * m * n
    squares = PLACES * 4 * n * (n + 1) if subspace else 0
    for size, what, way_out in (
        (bootstrap, f"the sums of {replicates} replicates", "Ask for fewer replicates, or select"),
        (squares, "the sum of JᵀJ", "Say subspace=False, or select"),
    ):
        if size > STATE_BYTES:
            raise TooLargeError(
                f"sensitivity: {what} of a {m}x{n} Jacobian take {readable_bytes(size)}, over the "
                f"limit of {readable_bytes(STATE_BYTES)}. {way_out} inputs and outputs."
            )


def _piece_size(chosen: Plan, entries: int, replicates: int) -> int:
    """Return how many points at a time: trace and products, then some twenty arrays like J."""
    point = chosen.point_bytes + 160 * entries + 32 * replicates
    return max(1, min(chosen.piece, chosen.max_bytes // point, MOST_POINTS))


def _pieces(net: Network, X: Any, ids: Any, size: int) -> Iterator[tuple[Array, Array | None]]:
    """Go through the points a few at a time, with their ids."""
    for batch in X if isinstance(X, Iterator) else [X]:
        points = as_points(batch, net.widths[0], "sensitivity: X", net.dtype)
        if points.ndim != 2:
            raise ShapeError(f"sensitivity: X: expected batches (B, n), but got {points.shape}.")
        for start in range(0, len(points), size):
            rows = slice(start, start + size)
            yield points[rows], None if ids is None else ids[rows]


def _as_ids(ids: Any, count: int) -> Any:
    if ids is None:
        return None
    found = np.asarray(ids)
    if found.dtype.kind not in "iu" or found.shape != (count,):
        raise ShapeError(
            f"sensitivity: ids: expected {count} whole numbers, but got {found.dtype} of shape "
            f"{found.shape}."
        )
    return found


def _kinks(net: Network, x: Array, near: float) -> tuple[int, int]:
    """Count the points with a preactivation at a kink, and within a share of the largest."""
    at, close = np.zeros(len(x), bool), np.zeros(len(x), bool)
    if any(layer.activation.kinks or layer.kinked for layer in net.layers):
        seen = trace(net, x)
        for l, _, distance in seen.kink_distances():
            reach = near * np.abs(seen.preactivation(l)).max(axis=1, keepdims=True)
            at |= (distance == 0).any(axis=1)
            close |= (distance <= reach).any(axis=1)
    return int(at.sum()), int((at | close).sum())


def _progress(
    show: bool | None, total: int | None
) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """Return what to call after each piece and at the end; nothing happens where none is wanted."""
    if show or (show is None and sys.stderr is not None and sys.stderr.isatty()):
        try:
            from tqdm import tqdm
        except ImportError as err:
            if show:
                raise missing_extra("tqdm", "progress", "progress=True") from err
        else:
            bar = tqdm(total=total, unit=" points", delay=0 if show else 1, file=sys.stderr)
            return bar.update, bar.close
    return lambda _: None, lambda: None
