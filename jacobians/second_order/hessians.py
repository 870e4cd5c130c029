"""The Hessians of all outputs by an input, and their products with vectors, for a batch.

The cotangents of all outputs go back together, the matrices ``P_l = dz^l/dx`` go forward once, and
where a node is curved, ``P_lᵀ diag(c sigma'') P_l`` is added for every output.  Nodes after the
last curved one, and activations that are linear in pieces, cost nothing.  Where all points share
``P_l`` (the first layer) the products of its entries are a table, and one product serves all.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    NotFiniteError,
    ShapeError,
    as_array,
    as_count,
    as_floats,
    require_shape,
)
from jacobians._machine import require_memory
from jacobians._tables import PointsLike, as_inputs, in_order, named_as, outputs_in_order
from jacobians.activations import Activation
from jacobians.engine import value_and_jacobian
from jacobians.engine.running import quiet
from jacobians.factors import as_index
from jacobians.linearization import Linearization, activation_second, linearize
from jacobians.linearization.hessian_maps import (
    Vectors,
    carry,
    hessian_times,
    of_activation,
    of_joins,
    pulled_back,
)
from jacobians.linearization.paths import cuts_and_edges
from jacobians.network import Network, as_network
from jacobians.planning import DEFAULT_BYTES
from jacobians.second_order.compiled import at_a_point, fill_in

TABLE = 2**18  # entries up to which products of constants are made beforehand
PIECE_BYTES = 2**23  # of points at a time: more of them leave the cache


def hessian(
    net: Network,
    X: PointsLike,
    *,
    of: int | str | None = None,
    wrt: int | str = 0,
    rows: Any = None,
    max_bytes: int | None = None,
) -> Array:
    """Compute the Hessian of every output by the inputs, at one point or at each of a batch.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0)
    of, wrt : int or str
        Nodes by number or name, for the Hessians of ``a^of`` by ``a^wrt`` instead.
    rows : slice or list of int, optional
        Only these outputs, at their cost.
    max_bytes : int, optional
        Budget for temporary memory, 64 MiB unless said; the result comes on top.

    Returns
    -------
    array, shape (m, n, n) or (B, m, n, n)
        Entry ``[i, j, k]`` is ``d²y_i/dx_j dx_k``, symmetric in j and k bit for bit.

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` does not fit, or a product leaves the range of the dtype.
    TooLargeError
        If the result is larger than the memory of the machine, before anything is allocated.
    NotImplementedError
        If a layer or activation has no rule for its second differential.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[3, 1]])])
    >>> hessian(net, [1, 1])  # of 3 (x + 2y)² + y²
    array([[[ 6., 12.],
            [12., 26.]]])
    """
    if of is rows is max_bytes is None and type(wrt) is int and wrt == 0:
        answer = at_a_point(net, X)
        if answer is not None:
            return answer
    return _with_checks(net, X, of, wrt, rows, max_bytes)


def value_jacobian_hessian(
    net: Network, X: PointsLike, **chosen: Any
) -> tuple[Array, Array, Array]:
    """Compute values, Jacobians and Hessians; ``of``, ``wrt``, ``rows``, ... as in ``hessian``.

    Returns
    -------
    value : array, shape (n_of,) or (B, n_of)
        All of ``a^of``, also where ``rows`` chooses among its entries: then J and H belong to
        ``value[..., rows]``.
    jacobian : array, shape (m, n) or (B, m, n)
    hessian : array, shape (m, n, n) or (B, m, n, n)
        Of the m outputs that ``rows`` chooses, of all unless it is given.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[3, 1]])])
    >>> value, J, H = value_jacobian_hessian(net, [1, 1])
    >>> value, J, H.shape
    (array([28.]), array([[18., 38.]]), (1, 2, 2))
    """
    H = hessian(net, X, **chosen)
    return *value_and_jacobian(net, X, **chosen), H


@quiet
def hvp(net: Network, X: PointsLike, V: Any, cotangent: Any = None) -> Array:
    """Multiply the Hessian of ``cᵀ H`` with a vector at each point, never forming a matrix.

    Parameters
    ----------
    net : Network
    X, V : arrays, shape (n_0,) or (B, n_0)
    cotangent : array or data frame, shape (n_L,), or (B, n_L) for one at each point
        Columns of a table are matched by name.  May be left out if the network has one output.

    Returns
    -------
    array, shape (n_0,) or (B, n_0)

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If points, vectors or cotangents do not fit, or a product leaves the range of the dtype.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[3, 1]])])
    >>> hvp(net, [1, 1], [1, 0])
    array([ 6., 12.])
    """
    net = as_network(net, "hvp")
    points, m = as_inputs(X, net, "hvp: X"), net.widths[-1]
    given = in_order(V, named_as(X, net), "hvp: V")
    vectors = as_floats(given, "hvp: V", dtype=net.dtype)
    require_shape(vectors, points.shape, "hvp: V", "One for each point.")
    if cotangent is None and m > 1:
        raise ShapeError(f"hvp: cotangent: the network has {m} outputs; say the weight of each.")
    weights = outputs_in_order(
        np.ones(1) if cotangent is None else cotangent, net, "hvp: cotangent"
    )
    c = as_floats(weights, "hvp: cotangent", dtype=net.dtype)
    each = (*points.shape[:-1], m)
    require_shape(c, (m,) if c.ndim == 1 else each, "hvp: cotangent", "One for each output.")
    x, v = (np.atleast_2d(A) for A in (points, vectors))
    c = np.broadcast_to(c, (len(x), m))
    result = np.empty(x.shape, net.dtype)
    piece = max(1, DEFAULT_BYTES // (16 * net.dtype.itemsize * sum(net.widths)))
    for part in _slices(len(x), piece):
        lin = linearize(net, x[part])
        result[part] = hessian_times(lin, c[part], v[part], net.depth, 0)
        _require_range(result[part], "hvp")
    return result if points.ndim > 1 else result[0]


@quiet
def _with_checks(net: Network, X: Any, of: Any, wrt: Any, rows: Any, max_bytes: Any) -> Array:
    net = as_network(net, "hessian")
    of = net.depth if of is None else net.number(of, "hessian: of")
    wrt = net.number(wrt, "hessian: wrt", 0, of)
    chosen = as_index(rows, net.widths[of], "hessian: rows")
    chosen = np.arange(net.widths[of]) if chosen is None else chosen
    budget = as_count(DEFAULT_BYTES if max_bytes is None else max_bytes, "hessian: max_bytes")
    given, n = as_array(in_order(X, net, "hessian: X"), "hessian: X"), net.widths[wrt]
    shape = (len(given) if given.ndim == 2 else 1, len(chosen), n, n)
    require_memory(shape, net.dtype, "hessian", "Ask for fewer points at a time, or for rows=")
    points = as_inputs(given, net, "hessian: X")
    x, H = np.atleast_2d(points), np.empty(shape, net.dtype)
    if not fill_in(H, net, x, of, wrt, chosen, budget):
        piece, together = _pieces(net, of, wrt, len(chosen), budget)
        for part in _slices(len(x), piece):
            lin = linearize(net, x[part])
            for group in _slices(len(chosen), together):
                C = np.zeros((1, len(chosen[group]), net.widths[of]), net.dtype)
                C[0, range(C.shape[1]), chosen[group]] = 1
                H[part, group] = hessians_at(lin, C, of, wrt)
            _require_range(H[part], "hessian")
    return H if points.ndim > 1 else H[0]


def hessians_at(lin: Linearization, C: Array, of: int, wrt: int) -> Array:
    """Return the Hessians of ``cᵀ a^of`` for cotangents in rows, (b, k, n_of).

    Returns
    -------
    array, shape (b, k, n, n)
        Symmetric bit for bit.
    """
    net = lin.trace.network
    b, k, n = (lin.trace.batch or (1,))[0], C.shape[1], net.widths[wrt]
    edges = cuts_and_edges(net, of, wrt)[1]
    at = pulled_back(lin, C, edges, of)
    total = np.zeros((b, k, n, n), C.dtype)
    joins = {l for l in edges if any(of_joins(lin, l, at, edges))}
    sigmas = {l: net.layers[l - 1].activation for l in edges}
    curved = {l for l, sigma in sigmas.items() if getattr(sigma, "curved", True)}
    by: Vectors = {("a", wrt): np.eye(n, dtype=C.dtype)[None]}  # a row for every entry of a^wrt
    last = max(joins | curved, default=wrt)
    for l in sorted(node for node in edges if node <= last):
        carried = [carry(lin.input_maps(l)[j], by["a", s]) for s, j in edges[l]]
        P = by["z", l] = sum(carried[1:], carried[0])
        many = [of_joins] * (l in joins)
        if l in curved and isinstance(sigmas[l], Activation):
            z = lin.trace.preactivations[l - 1]
            second: Any = activation_second(sigmas[l], np.ones_like(z), z)
            _add_weighted(total, at["a", l] * np.atleast_2d(second.entries)[:, None], P)
        elif l in curved:
            many.append(of_activation)
        for i, terms in product(range(k), many):
            for left, S, right in terms(lin, l, at, edges, i):
                total[:, i] += by[left] @ S.apply(by[right].swapaxes(1, 2))
        by["a", l] = carry(lin.activation_map(l), by.pop(("z", l)))
        for s, _ in edges[l]:
            if net.last_reader[s] == l:
                by.pop(("a", s), None)
    total += total.swapaxes(2, 3).copy()  # the two sides of the diagonal are one sum
    total *= 0.5
    return total


def _add_weighted(total: Array, weights: Array, P: Array) -> None:
    """Add ``P_b diag(weights) P_bᵀ`` for weights (b, k, n_l) and P (b, n, n_l), or shared."""
    (b, k, n, _), width = total.shape, P.shape[-1]
    if len(P) == 1 and width * n * n <= TABLE:
        table = (P[0].T[:, :, None] * P[0].T[:, None, :]).reshape(width, n * n)
        total += (weights.reshape(-1, width) @ table).reshape(-1, k, n, n)
    else:
        scaled = (P[:, None] * weights[:, :, None]).reshape(b, k * n, width)
        total += (scaled @ P.swapaxes(1, 2)).reshape(b, k, n, n)


def _pieces(net: Network, of: int, wrt: int, m: int, budget: int) -> tuple[int, int]:
    """Return how many points and how many outputs go together within a budget."""
    widths, n = net.widths[wrt : of + 1], net.widths[wrt]
    tables = (width * n * n for width in widths[1:] if width * n * n <= TABLE)
    table = max(tables, default=0)
    most = budget // net.dtype.itemsize - table
    # of a point: values and maps, P of every node; of an output: cotangents and what they scale
    shared = 8 * sum(net.widths) + n * (sum(widths) + 2 * max(widths))
    each = 2 * sum(widths) + max(widths) * n + 4 * n * n
    if shared + each > most:
        needed = (table + shared + each) * net.dtype.itemsize
        raise ValueError(
            f"hessian: max_bytes: one point needs {needed} bytes, but the budget is {budget}."
        )
    together = min(m, (most - shared) // each)
    piece = min(most, PIECE_BYTES // net.dtype.itemsize) // (shared + together * each)
    return max(1, piece), together


def _slices(count: int, piece: int) -> list[slice]:
    return [slice(start, start + piece) for start in range(0, count, piece)]


def _require_range(result: Array, where: str) -> None:
    if not np.isfinite(result).all():
        raise NotFiniteError(
            f"{where}: a product leaves the range of {result.dtype}. "
            "Rescale the inputs or weights, or use astype(np.float64) on the network."
        )
