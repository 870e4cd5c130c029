"""Which two inputs act together: the mean of ``|d²y_i/dx_j dx_k|`` over a data set.

If an output is a sum of functions of one input each, all mixed second derivatives are 0; what is
not 0 says that the effect of one input depends on the value of another.  Times
``sd(x_j) sd(x_k) / sd(y_i)`` it has no unit: by how many standard deviations of the output the
effect of a usual step of one input changes with a usual step of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jacobians._checks import (
    Array,
    Places,
    ShapeError,
    TooLargeError,
    as_count,
    readable_bytes,
    underflow_is_rounding,
)
from jacobians._tables import as_inputs, column_names
from jacobians.factors import as_index
from jacobians.network import Network, as_network
from jacobians.planning import DEFAULT_BYTES
from jacobians.second_order import hessian
from jacobians.sensitivities.accumulators import Absolutes, GroupSizes, Moments, Piece, Range, add
from jacobians.sensitivities.groups import (
    Keys,
    Runs,
    as_confidence,
    keys_of,
    squared_error,
    student_interval,
)
from jacobians.sensitivities.measures import Measures, over
from jacobians.sensitivities.record import as_names

GROUPS, FEWEST = 64, 10  # of points; fewer where their sums would take more than
GROUPS_BYTES, MOST_BYTES = 2**26, 2**30  # the first of these, and a refusal beyond the second


class Interactions(NamedTuple):
    """How strongly pairs of inputs act together; made by ``interactions``.

    Attributes
    ----------
    input_names, output_names : tuple of str
    mean_absolute : array, shape (m, n, n)
        ``E|d²y_i/dx_j dx_k|``, in units of ``y_i`` per unit of ``x_j`` and ``x_k``.
    standardised : array, shape (m, n, n)
        The same times ``sd(x_j) sd(x_k) / sd(y_i)``; NaN where an output is constant.
    low, high : array, shape (m, n, n)
        Ends of a confidence interval of ``standardised``; NaN where there are no two groups.
    points : int
        How many there were.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    mean_absolute: Array
    standardised: Array
    low: Array
    high: Array
    points: int


@underflow_is_rounding
def interactions(
    net: Network,
    X: Any,
    *,
    rows: Any = None,
    confidence: float = 0.95,
    max_bytes: int | None = None,
) -> Interactions:
    """Sum up the Hessians of a data set in one pass, in bounded memory.

    Hessians are computed in the dtype of the network; everything after that is float64.  Intervals
    are those of ``sensitivity``: by the jackknife over 64 random groups of points.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (B, n), B at least 1; or an iterator of such
        Columns of data frames are matched by name.  Batches are gone through once.
    rows : slice or list of int, optional
        Only these outputs, at their cost.
    confidence : float
        Of the intervals.
    max_bytes : int, optional
        Budget for the Hessians at a time, 64 MiB unless said.

    Returns
    -------
    Interactions

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` does not fit the network, or a product leaves the range of the dtype.
    TooLargeError
        If the sums would take more than 1 GiB, before anything is computed.
    NotImplementedError
        If a layer or activation has no rule for its second differential.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 1]], activation="square")])  # (x1 + x2)²
    >>> answer = interactions(net, [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]])
    >>> answer.mean_absolute
    array([[[2., 2.],
            [2., 2.]]])
    >>> answer.standardised.round(2), answer.input_names
    (array([[[0.2 , 0.34],
            [0.34, 0.59]]]), ('x1', 'x2'))
    """
    net, level = as_network(net, "interactions"), as_confidence(confidence, "interactions")
    names = as_names(net.input_names or column_names(X), net.widths[0], "x", "X")
    outputs = as_names(net.output_names, net.widths[-1], "y", "outputs")
    chosen = as_index(rows, len(outputs), "interactions: rows")
    chosen = np.arange(len(outputs)) if chosen is None else chosen
    m, n = len(chosen), len(names)
    each = 8 * m * n * n
    groups = int(min(GROUPS, max(FEWEST, GROUPS_BYTES // each)))
    if groups * each > MOST_BYTES:
        raise TooLargeError(
            f"interactions: the sums of {groups} groups of {m}x{n}x{n} second derivatives take "
            f"{readable_bytes(groups * each)}, over the limit of {readable_bytes(MOST_BYTES)}. "
            "Ask for rows=."
        )
    kept: dict[str, Any] = {
        "|H|": Absolutes(groups, m * n * n),
        "range of data": Range(n + m, "data"),  # refuses what has no square
        "data": Moments(groups, n + m, "data"),
        "sizes": GroupSizes(groups),
    }
    budget = as_count(max_bytes or DEFAULT_BYTES, "interactions: max_bytes")
    batches = X if isinstance(X, Iterator) else (X,)
    for piece in _pieces(net.with_names(names), batches, groups, chosen, budget):
        add(kept, piece)
    sizes = kept["sizes"].sizes
    if not sizes.any():
        raise ShapeError("interactions: X: expected points (B, n) with B > 0, but got none.")
    whole = _OfPairs(kept, (m, n))
    estimate, error = whole.standardised()[0], _error(kept, (m, n))
    low, high = student_interval(estimate, error, sizes, level, positive=True)
    mean, shown = whole.mean_absolute()[0], tuple(outputs[i] for i in chosen)
    return Interactions(names, shown, mean, estimate, low, high, int(sizes.sum()))


def _pieces(
    net: Network, batches: Iterable[Any], groups: int, rows: Places, budget: int
) -> Iterator[Piece]:
    """Cut the batches, sort the points of a piece by group, and compute their Hessians."""
    n, count = net.widths[0], 0
    at_once = max(1, budget // (3 * 8 * len(rows) * n * n))
    for batch in batches:
        points = as_inputs(batch, net, "interactions: X")
        if points.ndim != 2:
            raise ShapeError(f"interactions: X: expected points (B, n), but got {points.shape}.")
        for start in range(0, len(points), at_once):
            some = points[start : start + at_once]
            keys: Keys = keys_of(np.arange(count, count + len(some), dtype=np.uint64))
            labels = (keys % np.uint64(groups)).astype(np.uint8)
            order = np.argsort(labels, kind="stable")
            x, keys, runs = some[order], keys[order], Runs.of(labels[order])
            H = hessian(net, x, rows=rows, max_bytes=budget).reshape(len(x), len(rows), n * n)
            y, x, H = (np.asarray(A, np.float64) for A in (net(x)[:, rows], x, H))
            yield Piece(x, x, y, H, keys, runs, first=count == 0)
            count += len(some)


class _OfPairs(Measures):
    """Statistics of pairs of inputs, (R, m, n, n)."""

    def mean_absolute(self) -> Array:
        sums: Array = self.kept["|H|"].sums
        return self._mean(sums, slice(None)).reshape(-1, sums.shape[1] // self.n**2, self.n, self.n)

    def standardised(self) -> Array:
        sd_x, sd_y = np.sqrt(self.input_moments()[1]), np.sqrt(self.output_moments()[1])
        return over(self.mean_absolute() * sd_x[..., None, :] * sd_x[..., None], sd_y[..., None])


def _error(kept: Mapping[str, Any], shape: tuple[int, int]) -> Array:
    """Return the standard error, by leaving one group out after the other."""
    sizes, estimate = kept["sizes"].sizes, _OfPairs(kept, shape).standardised()[0]
    labels = np.flatnonzero(sizes)
    if len(labels) < 2:
        return np.full_like(estimate, np.nan)
    squares = np.zeros_like(estimate)
    for g in labels:
        deleted = _OfPairs(kept, shape, np.array([g])).standardised()
        squares += squared_error(deleted, estimate, sizes[[g]], int(sizes.sum()))
    error: Array = np.sqrt(squares)
    return error
