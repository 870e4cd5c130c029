"""Which two inputs act together: the mean of ``|d²y_i/dx_j dx_k|`` over a data set.

If an output is a sum of functions of one input each, all mixed second derivatives are 0; what is
not 0 says that the effect of one input depends on the value of another.  Times
``sd(x_j) sd(x_k) / sd(y_i)`` it has no unit: by how many standard deviations of the output the
effect of a usual step of one input changes with a usual step of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians import plotting
from jacobians._checks import Array, as_count, underflow_is_rounding
from jacobians._notebook import Displayed
from jacobians._tables import PointsLike
from jacobians._text import counted, table
from jacobians.factors import as_index
from jacobians.network import Network, as_network
from jacobians.planning import DEFAULT_BYTES
from jacobians.second_order import hessian
from jacobians.sensitivities.accumulators import Columns
from jacobians.sensitivities.groups import as_confidence, student_interval
from jacobians.sensitivities.measures import Measures, over
from jacobians.sensitivities.names import different_names, number_of
from jacobians.sensitivities.pieces import (
    batches_of,
    group_count,
    named_by,
    pieces_of,
    windows_of,
)


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(Displayed):
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

    def strongest(self, output: int | str = 0, count: int = 10) -> list[tuple[str, str, float]]:
        """Return the pairs of different inputs that act together most: names and strength."""
        i = number_of(output, self.output_names, "strongest: output")
        pairs = self._order(i)[:count]
        return [(*self._pair(j, k), float(self.standardised[i, j, k])) for j, k in pairs]

    def _order(self, i: int) -> list[tuple[int, int]]:
        j, k = np.triu_indices(len(self.input_names), 1)
        order = np.argsort(-np.nan_to_num(self.standardised[i, j, k]), kind="stable")
        return list(zip(j[order].tolist(), k[order].tolist(), strict=True))

    def _pair(self, j: int, k: int) -> tuple[str, str]:
        return self.input_names[j], self.input_names[k]

    def plot(self, output: int | str = 0, *, ax: Any = None) -> Any:
        """Draw the standardised interactions of all pairs for one output; return the axes."""
        i, names = number_of(output, self.output_names, "plot: output"), self.input_names
        label = "E|d²y/dx dx'| · sd(x) sd(x')/sd(y)"
        strength = np.nan_to_num(self.standardised[i])
        title = self.output_names[i]
        return plotting.heat_map(
            strength, names, names, sizes=True, ax=ax, label=label, title=title
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for i, output in enumerate(self.output_names):
            for j, k in self._order(i)[:10]:
                ends = f"{self.low[i, j, k]:.3g} to {self.high[i, j, k]:.3g}"
                rows.append([output, *self._pair(j, k), f"{self.standardised[i, j, k]:.3g}", ends])
        return ["output", "input", "with", "interaction", "interval"], rows

    def __str__(self) -> str:
        head = "Interaction = E|d2y/dx dx'| sd(x) sd(x')/sd(y)"
        return f"{self!r}\n{head}\n\n{table(*self._table(), left=3)}"

    def __repr__(self) -> str:
        m, n = len(self.output_names), len(self.input_names)
        shown = counted(m, "output"), counted(n, "input"), counted(self.points, "point")
        return "Interactions for {} of {} over {}".format(*shown)


@underflow_is_rounding
def interactions(
    net: Network,
    X: PointsLike | Iterable[PointsLike],
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
    X : array or data frame, shape (B, n), B at least 1; or iterable of such
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
    >>> answer.standardised.round(2), answer
    (array([[[0.2 , 0.34],
            [0.34, 0.59]]]), Interactions for 1 output of 2 inputs over 3 points)
    """
    net, level = as_network(net, "interactions"), as_confidence(confidence, "interactions")
    X, columns = (X, net.input_names) if net.input_names else named_by(X)
    names = different_names(columns, net.widths[0], "x", "X")
    outputs = different_names(net.output_names, net.widths[-1], "y", "outputs")
    chosen = as_index(rows, len(outputs), "interactions: rows")
    chosen = np.arange(len(outputs)) if chosen is None else chosen
    m, n = len(chosen), len(names)
    groups = group_count(m * n * n, f"{m}x{n}x{n} second derivatives", "Ask for rows=.")
    kept = Columns(groups, n + m, m * n * n)
    budget = as_count(DEFAULT_BYTES if max_bytes is None else max_bytes, "interactions: max_bytes")
    table, at_once = net.with_names(names), max(1, budget // (3 * 8 * m * n * n))

    def compute(x: Array) -> tuple[Array, Array, Array]:
        H = np.abs(hessian(net, x, rows=chosen, max_bytes=budget))
        return x, net(x)[:, chosen], H.reshape(len(x), m, n * n)

    batches = batches_of(table, X, "interactions: X")
    for piece in pieces_of(windows_of(batches, groups, budget), compute, at_once):
        kept.add(piece)
    kept.check("interactions")
    sums = Measures(kept, m, n)
    spread = sums.std[:n]
    scale = over(np.outer(spread, spread), sums.std[n:, None, None])
    mean, error = map(np.array, zip(*(_of_output(sums, i) for i in range(m)), strict=True))
    estimate, error = mean * scale, error * scale
    low, high = student_interval(estimate, error, sums.sizes, level, positive=True)
    shown = tuple(outputs[i] for i in chosen)
    return Interactions(names, shown, mean, estimate, low, high, int(sums.count))


def _of_output(sums: Measures, i: int) -> tuple[Array, Array]:
    """Return the mean, and the standard error of ``mean sd(x) sd(x')/sd(y)`` over these spreads."""
    n, first = sums.n, sums.n + sums.m + i * sums.n**2
    mean, moves = sums.moment("mean", slice(first, first + n * n))
    mean, x, y = mean.reshape(n, n), sums.log_moves[:, :n], sums.log_moves[:, n + i, None, None]
    moves += ((x[:, :, None] + x[:, None, :] - y) * (mean / 2)).reshape(moves.shape)
    return mean, np.sqrt(sums.weights @ moves**2).reshape(n, n)
