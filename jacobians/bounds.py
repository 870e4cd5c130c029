"""The Jacobian of a data set beside a proved bound on its rounding error."""

from __future__ import annotations

import numpy as np

from jacobians._checks import Array, flags_end_with_it, refuse_if_too_large
from jacobians._tables import PointsLike, as_inputs
from jacobians.engine import jacobian_at
from jacobians.linearization import linearize
from jacobians.network import Network, as_network
from jacobians.planning import plan
from jacobians.rounding import chain_bound

PIECE_BYTES = 2**25  # of the sweep for the bound, which keeps three columns sets of doubles


@flags_end_with_it
def jacobian_with_bound(net: Network, X: PointsLike) -> tuple[Array, Array]:
    """Return the Jacobian and a proved bound on its rounding error, entry by entry.

    The bound is about rounding: about the product of the computed ``D`` and ``W``, not about the
    error of ``D`` itself.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)

    Returns
    -------
    J : array, shape (m, n) or (B, m, n)
    bound : array of float64, same shape
        ``|J - exact product of the same D and W| <= bound``; infinite where a partial product may
        overflow, or a layer's map has no rule for its rounding.

    Raises
    ------
    TooLargeError
        If the Jacobian, or what the bound of one point needs, exceeds ``dense_limit``.

    >>> J, bound = jacobian_with_bound(Network.random([3, 5, 2], seed=0), [0.1, 0.2, 0.3])
    >>> bool((bound < 1e-14).all())
    True
    """
    net = as_network(net, "jacobian_with_bound")
    X = as_inputs(X, net, "jacobian_with_bound: X")
    points = np.atleast_2d(X)
    m, n = net.widths[-1], net.widths[0]
    double, way_out = np.dtype(np.float64), "Take fewer points at a time"
    refuse_if_too_large((len(points), m, n), double, "jacobian_with_bound", way_out)
    swept = 3 * max(net.widths) * min(m, n)
    refuse_if_too_large((swept,), double, "jacobian_with_bound: the sweep", "Use jb.jacobian")
    J, bound = np.empty((len(points), m, n), net.dtype), np.empty((len(points), m, n))
    planned = plan(net, near=points[0] if len(points) else None)
    piece = max(1, PIECE_BYTES // (8 * swept))
    for start in range(0, len(points), piece):
        rows = slice(start, start + piece)
        lin = linearize(net, points[rows])
        J[rows] = jacobian_at(lin.trace, planned)
        bound[rows] = chain_bound(lin.factors, net.dtype).single()
    return (J, bound) if X.ndim > 1 else (J[0], bound[0])
