"""``explain``: why this prediction."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from jacobians._checks import (
    Array,
    ShapeError,
    as_items,
    as_nonnegative,
    freeze,
    underflow_is_rounding,
)
from jacobians._progress import progress_of
from jacobians._tables import PointsLike, as_inputs, column_names
from jacobians._text import counted
from jacobians.explanation.paths import Paths
from jacobians.explanation.record import Completeness, Explanation
from jacobians.network import Network, as_network
from jacobians.sensitivities.names import different_names, number_of

METHODS = ("integrated gradients", "gradient times input")


@underflow_is_rounding
def explain(
    net: Network,
    x: PointsLike,
    baseline: Any = None,
    *,
    of: int | str | None = None,
    rows: Any = None,
    method: Literal["integrated gradients", "gradient times input"] = "integrated gradients",
    tolerance: float = 1e-10,
    progress: bool | None = None,
) -> Explanation:
    """Say what each input contributed to the step from ``H(baseline)`` to ``H(x)``.

    Integrated gradients, ``(x_j - b_j) ∫ dH/dx_j (b + t (x - b)) dt``, sum to ``H(x) - H(b)``.
    Where the network is piecewise linear they are exact: every kink on the way is found in closed
    form, and between kinks the Jacobian is constant.  Else they are computed by adaptive
    Gauss-Kronrod quadrature between the kinks that are known, with an estimate of its error.
    Everything is computed in float64, with the weights as they are.

    A classifier's probabilities may be saturated: explain ``jb.log_odds(net)`` instead, whose
    contributions add up to a change of the log-odds.

    Parameters
    ----------
    net : Network
    x : array or row of a data frame, shape (n,)
        The point.
    baseline : array or data frame, shape (n,) or (B, n), optional
        What the point is compared with; zeros unless given, which the record says.  Of several, as
        of a data set, the mean is taken, with intervals (expected gradients).  Columns of tables
        are matched by name.
    of : int or str, optional
        The node that is explained; the output unless said.
    rows : int, str, slice or list of them, optional
        Which outputs, by number from 0 or by name.
    method : "integrated gradients" or "gradient times input"
        The latter is ``(x_j - b_j) dH/dx_j (x)``: one Jacobian, no sum that must come out.
    tolerance : float
        Of the quadrature, for every output relative to the integral of its largest ``|integrand|``.
    progress : bool, optional
        Whether to show progress on standard error, as ``sensitivity`` does: on a terminal unless
        said.

    Returns
    -------
    Explanation

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If points do not fit, or there are several.
    ValueError
        If there is no such output, node or method.

    >>> from jacobians.layers import Dense
    >>> net = Network([Dense([[1.0, 0.0], [1.0, -1.0]], activation="relu"), Dense([[1.0, 2.0]])])
    >>> answer = explain(net, [4.0, 1.0], [0.0, 3.0])
    >>> answer.contributions, answer.value - answer.baseline_value
    (array([[8., 2.]]), array([10.]))
    >>> answer
    Explanation of 1 output by 2 inputs: integrated gradients, exact between 1 kink
    """
    net = as_network(net, "explain").astype(np.float64)
    if method not in METHODS:
        raise ValueError(f"explain: method: expected {' or '.join(METHODS)}, but got {method!r}.")
    names = net.input_names or column_names(x) or column_names(baseline)
    input_names = different_names(names, net.widths[0], "x", "input_names")
    table = net if net.input_names else net.with_names(input_names)  # columns go by its names
    point = as_inputs(x, table, "explain: x")
    if point.ndim > 1:
        raise ShapeError(
            f"explain: x: expected one point of shape ({net.widths[0]},), but got {point.shape}; "
            "explain one row at a time, as x[0] or frame.iloc[0]."
        )
    baselines, words = _baselines(baseline, table)
    node = net.depth if of is None else net.number(of, "explain: of", 1)
    output_names = _output_names(net, node)
    chosen = _chosen(rows, output_names)
    accuracy = as_nonnegative(tolerance, "explain: tolerance")
    integrated = method == METHODS[0]
    paths = Paths(net, freeze(point), freeze(baselines), node, chosen, integrated, accuracy)
    pieces = len(paths.pieces[0]) if paths.exact else None
    with progress_of("explain", progress, pieces) as show:
        each, error = paths.contributions(show=show)
    value, at_baselines = paths.values()
    before = at_baselines.mean(axis=0)
    total = each.mean(axis=0).sum(axis=1)
    allowed = paths.rounding() + net.widths[0] * error
    check = Completeness(total, value - before, allowed)
    explained = tuple(output_names[i] for i in chosen)
    return Explanation(paths, each, error, value, before, check, input_names, explained, words)


def _baselines(given: Any, net: Network) -> tuple[Array, str]:
    """Return the baselines (B, n), and what they are in words."""
    if given is None:
        return np.zeros((1, net.widths[0])), "zeros (none was given)"
    if isinstance(given, str):
        raise TypeError(
            f"explain: baseline: expected a point or several, but got {given!r:.40}; for the point "
            "of means pass X.mean(axis=0), to average over many baselines pass X."
        )
    points = as_inputs(given, net, "explain: baseline")
    if points.ndim == 1:
        return points[None], "the given point" if points.any() else "zeros"
    if not len(points):
        raise ShapeError("explain: baseline: expected points (B, n) with B > 0, but got none.")
    return points, f"averaged over {counted(len(points), 'baseline')}"


def _output_names(net: Network, of: int) -> tuple[str, ...]:
    if of == net.depth:
        return different_names(net.output_names, net.widths[-1], "y", "output_names")
    return tuple(f"{net.names[of]}[{k}]" for k in range(net.widths[of]))


def _chosen(rows: Any, names: tuple[str, ...]) -> tuple[int, ...]:
    if rows is None or isinstance(rows, slice):
        numbers = tuple(range(len(names))[rows or slice(None)])
    else:
        each: Any = (
            [rows] if isinstance(rows, (int, np.integer, str)) else as_items(rows, "explain: rows")
        )
        numbers = tuple(number_of(one, names, "explain: rows") for one in each)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"explain: rows: expected some, each once, but got {rows!r:.80}.")
    return numbers
