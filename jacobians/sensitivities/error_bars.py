"""Error bars on predictions: the covariance of inputs or parameters, through the Jacobian.

The delta method: if the inputs scatter about x with covariance S, then to first order the outputs
scatter about H(x) with covariance

    J S Jᵀ,        J = dH/dx at x.

Exact for a linear network; else good as long as the Jacobian hardly changes over the scatter.

The same holds for parameters that are uncertain, with ``J = dH/dtheta`` and the covariance of their
posterior (``laplace``).

Squares of small numbers leave the range long before the numbers do, so every input and every output
is measured in a power of two of its own, which rounds nothing, and standard deviations are read off
before these are put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    NotFiniteError,
    ShapeError,
    as_floats,
    underflow_is_rounding,
)
from jacobians._tables import (
    PointsLike,
    as_inputs,
    column_names,
    in_order,
    matched,
    named_as,
)
from jacobians.engine import value_and_jacobian
from jacobians.network import Network, as_network
from jacobians.planning import plan
from jacobians.second_order.posteriors import Posterior
from jacobians.sensitivities.groups import as_confidence

EMPTY = 5000  # minus the exponent of a share of 0, below that of any number's


@dataclass(frozen=True, eq=False, repr=False)
class ErrorBars:
    """Predictions with their covariance, to first order.

    Attributes
    ----------
    value : array, shape (m,) or (B, m)
    covariance : array, shape (m, m) or (B, m, m)
    std : array, shape (m,) or (B, m)
        Standard deviation of every output, also where its square is too small for the dtype.
    """

    value: Array
    covariance: Array
    std: Array

    def __repr__(self) -> str:
        most = self.std.max(initial=0.0)
        return f"ErrorBars of predictions of shape {self.value.shape}, std up to {most:.3g}"

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return ``value - z std`` and ``value + z std``, as if the outputs were normal."""
        level = as_confidence(confidence, "ErrorBars.interval: confidence")
        reach = NormalDist().inv_cdf((1 + level) / 2) * self.std
        return self.value - reach, self.value + reach


@underflow_is_rounding
def error_bars(
    net: Network,
    X: PointsLike,
    *,
    std: Any = None,
    covariance: Any = None,
    parameters: Posterior | None = None,
    max_bytes: int | None = None,
) -> ErrorBars:
    """Push the uncertainty of inputs or parameters through the network, by the delta method.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n,) or (B, n)
    std : array, shape (n,) or (B, n), optional
        Standard deviations of independent inputs, for all points or for each.
    covariance : array, shape (n, n) or (B, n, n), optional
        In place of ``std``.
    parameters : Posterior, optional
        In place of both: the inputs are exact, the parameters of the network are not.
    max_bytes : int, optional
        Budget for temporary memory; the Jacobians of all points do not have to fit.

    Returns
    -------
    ErrorBars
        Symmetric to the last bit, with variances of at least 0, in the dtype of the network.

    Raises
    ------
    ValueError
        If none or several are given, or a covariance is not symmetric positive semidefinite.
    NotFiniteError
        If a covariance of the outputs leaves the range of the dtype.

    >>> net = Network.random([2, 3, 1], seed=0)
    >>> bars = error_bars(net, np.zeros((5, 2)), std=[0.1, 0.2])
    >>> bars.value.shape, bars.covariance.shape, bars.std.shape
    ((5, 1), (5, 1, 1), (5, 1))
    """
    net = as_network(net, "error_bars")
    x = as_inputs(X, net, "error_bars: X")
    if parameters is not None:
        return _of_parameters(net, x, parameters, std is None and covariance is None)
    points = np.atleast_2d(x)
    B, m, n = len(points), net.widths[-1], net.widths[0]
    named = named_as(X, net)
    std = in_order(std, named, "error_bars: std")
    covariance = _matched(covariance, named)
    scatter = _scatter(std, covariance, n, B, x.ndim, net.dtype)
    value, pushed = np.empty((B, m), net.dtype), np.empty((B, m, m), net.dtype)
    deviations = np.empty((B, m), net.dtype)
    chosen = plan(net, max(B, 1), max_bytes=max_bytes, near=points[0] if B else None)
    for start in range(0, B, chosen.piece):
        rows = slice(start, start + chosen.piece)
        value[rows], J = value_and_jacobian(net, points[rows], plan=chosen)
        here = scatter if len(scatter) == 1 else scatter[rows]
        covariances, deviations[rows] = _pushed(J, here)
        with np.errstate(over="ignore"):
            pushed[rows] = covariances
    if not np.isfinite(pushed).all():
        raise NotFiniteError(
            f"error_bars: a covariance of the outputs leaves the range of {net.dtype}. "
            "Measure inputs or outputs in larger units, or use astype(np.float64) on the network."
        )
    if x.ndim == 1:
        return ErrorBars(value[0], pushed[0], deviations[0])
    return ErrorBars(value, pushed, deviations)


def _of_parameters(net: Network, x: Array, posterior: Posterior, alone: bool) -> ErrorBars:
    if not isinstance(posterior, Posterior):
        raise TypeError(f"error_bars: parameters: expected a Posterior, got {posterior!r:.80}.")
    if not alone:
        raise ValueError("error_bars: expected one of std, covariance and parameters.")
    if posterior.network is not net:
        raise ValueError(
            "error_bars: parameters: is the posterior of another network. If that is a copy, as of "
            "a posterior that was pickled, pass posterior.network as net."
        )
    covariance = posterior.double_covariance(x)
    std = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return ErrorBars(net(x), covariance.astype(net.dtype), std.astype(net.dtype))


def _pushed(J: Array, scatter: Array) -> tuple[Array, Array]:
    """Return ``J S Jᵀ`` in float64, symmetric to the last bit, and the roots of its diagonal.

    In powers of two: inputs are measured in their deviations, and every output in the largest
    share that an input has in it.
    """
    J, scatter = J.astype(np.float64), scatter.astype(np.float64)
    if scatter.ndim == 2:  # of independent inputs: (J sd) (J sd)ᵀ
        sizes, inputs = np.frexp(scatter)
        left, S = J * sizes[:, None], None
    else:
        variances = np.maximum(np.einsum("bii->bi", scatter), 0)
        inputs = np.frexp(np.sqrt(variances))[1]
        left = J * (variances > 0)[:, None]
        S = np.ldexp(scatter, -(inputs[:, :, None] + inputs[:, None]))
    shares = np.where(left == 0, -EMPTY, np.frexp(left)[1] + inputs[:, None])
    rows = shares.max(axis=2, initial=-EMPTY)
    left = np.ldexp(left, inputs[:, None] - rows[:, :, None])
    product = (left if S is None else left @ S) @ np.swapaxes(left, 1, 2)
    product = (product + np.swapaxes(product, 1, 2)) / 2
    diagonal = np.einsum("bii->bi", product)
    np.maximum(diagonal, 0, out=diagonal)
    with np.errstate(over="ignore"):
        outer = np.ldexp(product, rows[:, :, None] + rows[:, None])
        return outer, np.ldexp(np.sqrt(diagonal), rows)


def _scatter(std: Any, covariance: Any, n: int, B: int, ndim: int, dtype: Any) -> Array:
    """Return standard deviations (1 or B, n), or covariances (1 or B, n, n)."""
    if (std is None) == (covariance is None):
        raise ValueError("error_bars: expected either std or covariance, or else parameters.")
    name, shape = ("std", (n,)) if covariance is None else ("covariance", (n, n))
    given = as_floats(std if covariance is None else covariance, f"error_bars: {name}", dtype=dtype)
    if given.shape != shape and (ndim == 1 or given.shape != (B, *shape)):
        also = "" if ndim == 1 else f" or {(B, *shape)}"
        raise ShapeError(
            f"error_bars: {name}: expected shape {shape}{also}, but got {given.shape}."
        )
    if name == "std" and (given < 0).any():
        raise ValueError("error_bars: std: expected standard deviations of at least 0.")
    if name == "covariance":
        _require_covariance(given)
    return given[None] if given.shape == shape else given


def _matched(covariance: Any, net: Network) -> Any:
    """Return the covariance in the order of the inputs, if its rows and columns have names."""
    where, names = "error_bars: covariance", column_names(covariance)
    if names is None:
        return covariance
    rows = [str(name) for name in getattr(covariance, "index", names)]
    order = matched(rows, net.input_names or names, where, "its rows")
    return in_order(covariance, net, where)[order]


def _require_covariance(S: Array) -> None:
    """Refuse what no covariance is, entry by entry within rounding, as a matrix of correlations.

    If ``S + E`` is positive semidefinite for some ``|E| <= slack``, so is ``S`` with the sums of
    the rows of the slack on its diagonal.
    """
    tiny = np.finfo(S.dtype).smallest_subnormal.astype(np.float64)
    S, eps = S.astype(np.float64), np.finfo(S.dtype).eps
    size = np.sqrt(np.maximum(np.einsum("...ii->...i", S), tiny))
    with np.errstate(over="ignore"):
        R = np.clip(S / size[..., None] / size[..., None, :], -1 / eps, 1 / eps)
        slack = 100 * eps + tiny / size[..., None] / size[..., None, :]
    if (np.abs(R - np.swapaxes(R, -2, -1)) > slack).any():
        raise ValueError("error_bars: covariance: is not symmetric.")
    shift = slack.sum(axis=-1)[..., None] * np.eye(S.shape[-1])
    lowest = np.linalg.eigvalsh(R + shift).min(initial=0.0)
    if lowest < 0:
        raise ValueError(
            f"error_bars: covariance: has a negative eigenvalue, {lowest:.3g} where its variances "
            "are scaled to 1."
        )
