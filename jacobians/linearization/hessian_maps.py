"""The second differential of a network: a sum of congruences, one for every curved node.

With ``dz^l = P_l dx`` and the cotangents ``c`` at all nodes,

    d²(uᵀH) = sum over l of  (P_l dx)ᵀ S_l (P_l dx),      S_l = d²(c^lᵀ a^l) / dz dz,

and the blocks of ``layer_second`` in the same way between the values that a node reads.  Vectors of
all points stand in rows here, (b, k, n): one product where a map is the same for all points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array
from jacobians.linearization.paths import Edges, cuts_and_edges
from jacobians.linearization.second_differentials import (
    activation_second,
    second_of_layer,
    second_of_parameters,
)
from jacobians.maps import Diagonal, LinearMap, Matrix, Product, Sum

End: TypeAlias = tuple[str, int]  # ("z", l) or ("a", l): the vector at which a congruence ends
Term: TypeAlias = tuple[End, LinearMap, End]
Vectors: TypeAlias = dict[End, Array]


def carry(A: LinearMap, Q: Array) -> Array:
    """Apply a map to rows (b, k, n) of b points, or to rows that all points share."""
    b, k, n = Q.shape
    if isinstance(A, Diagonal):
        return Q * A.entries[..., None, :]
    if A.batch:
        return A.apply(Q.swapaxes(1, 2)).swapaxes(1, 2)
    rows = Q.reshape(b * k, n)
    result = rows @ A.array.T if isinstance(A, Matrix) else A.apply(rows.T).T
    return result.reshape(b, k, A.shape[0])


def pulled_back(lin: Any, C: Array, edges: Edges, of: int) -> Vectors:
    """Return the cotangents (b, k, n) at every node, before and after its activation."""
    at: Vectors = {("a", of): C}
    for l in sorted(edges, reverse=True):
        at["z", l] = carry(lin.activation_map(l).T, at["a", l])
        for s, k in edges[l]:
            _add(at, ("a", s), carry(lin.input_maps(l)[k].T, at["z", l]))
    return at


def of_points(lin: Any, rows: Array, i: int = 0) -> Array:
    """Return row i of (b, k, n) as a vector (n,), or (B, n) at a batch."""
    vectors = np.broadcast_to(rows[:, i], (*(lin.trace.batch or (1,)), rows.shape[-1]))
    return np.ascontiguousarray(vectors if lin.trace.batch else vectors[0])


def in_rows(vectors: Array) -> Array:
    """Return vectors (n,) or (B, n) as rows (b, 1, n)."""
    return np.atleast_2d(vectors)[:, None, :]


def of_activation(lin: Any, l: int, at: Vectors, edges: Edges, i: int = 0) -> Iterator[Term]:
    """Yield the second differential of the activation of node l, if it has one."""
    sigma, z = lin.trace.network.layers[l - 1].activation, lin.trace.preactivations[l - 1]
    S = activation_second(sigma, of_points(lin, at["a", l], i), z)
    if S is not None:
        yield ("z", l), S, ("z", l)


def of_joins(lin: Any, l: int, at: Vectors, edges: Edges, i: int = 0) -> Iterator[Term]:
    """Yield the blocks of the second differential of layer l between the values on a path."""
    net, reads = lin.trace.network, {k: s for s, k in edges[l]}
    cotangent = of_points(lin, at["z", l], i)
    blocks = second_of_layer(net.layers[l - 1], cotangent, *lin.trace.entering(l))
    for (j, k), S in blocks.items():
        if j in reads and k in reads:
            yield ("a", reads[j]), S, ("a", reads[k])
            if j != k:
                yield ("a", reads[k]), S.T, ("a", reads[j])


def hessian_map(lin: Any, cotangent: Array, of: int, wrt: int) -> LinearMap:
    """Return the Hessian of ``cᵀ a^of`` by ``a^wrt``."""
    _, edges = cuts_and_edges(lin.trace.network, of, wrt)
    at, terms = pulled_back(lin, in_rows(cotangent), edges, of), []
    for l in sorted(edges):
        for left, S, right in (*of_joins(lin, l, at, edges), *of_activation(lin, l, at, edges)):
            terms.append(Product([*_to(lin, left, wrt, True), S, *_to(lin, right, wrt)]))
    n = lin.trace.network.widths[wrt]
    return Sum(terms) if terms else nothing(n, n, cotangent.dtype)


def mixed_map(lin: Any, cotangent: Array, node: int, name: str, of: int) -> LinearMap:
    """Return ``d²(cᵀ a^of) / dx dvec(theta)`` for one parameter of a node."""
    net, theta = lin.trace.network, lin.own_parameter_map(node, name)
    edges, after = (cuts_and_edges(net, of, start)[1] for start in (0, node))
    at, terms = pulled_back(lin, in_rows(cotangent), edges, of), []
    onward = {node, *after}

    def between(left: End, S: LinearMap, right: End) -> None:
        if right == ("z", node):
            terms.append(Product([*_to(lin, left, 0, True), S, theta]))
        elif right[1] in onward:
            factors = [*_to(lin, right, node), lin.activation_map(node), theta]
            terms.append(Product([*_to(lin, left, 0, True), S, *factors]))

    for l in sorted(set(edges) & onward):
        if l != node:
            for term in of_joins(lin, l, at, edges):
                between(*term)
        for term in of_activation(lin, l, at, edges):
            between(*term)
    if node in edges:
        reads, c = dict(map(reversed, edges[node])), of_points(lin, at["z", node])  # type: ignore
        blocks = second_of_parameters(net.layers[node - 1], c, *lin.trace.entering(node))
        for (j, own), M in blocks.items():
            if own == name and j in reads:
                terms.append(Product([*_to(lin, ("a", reads[j]), 0, True), M]))
    return Sum(terms) if terms else nothing(net.widths[0], theta.shape[1], cotangent.dtype)


def hessian_times(lin: Any, cotangent: Array, vectors: Array, of: int, wrt: int) -> Array:
    """Return ``(Hessian of cᵀ a^of) v`` for every point, (n,) or (B, n): no matrix is formed.

    Forward over reverse: the tangents ``P_l v`` go forward once, and the cotangents that ``S_l``
    makes of them go back together.
    """
    _, edges = cuts_and_edges(lin.trace.network, of, wrt)
    at = pulled_back(lin, in_rows(cotangent), edges, of)
    tangents: Vectors = {("a", wrt): in_rows(vectors)}
    for l in sorted(edges):
        for s, k in edges[l]:
            _add(tangents, ("z", l), carry(lin.input_maps(l)[k], tangents["a", s]))
        tangents["a", l] = carry(lin.activation_map(l), tangents["z", l])
    back: Vectors = {("a", wrt): np.zeros_like(tangents["a", wrt])}
    for l in sorted(edges, reverse=True):
        if ("a", l) in back:
            back["z", l] = carry(lin.activation_map(l).T, back["a", l])
        for left, S, right in (*of_activation(lin, l, at, edges), *of_joins(lin, l, at, edges)):
            _add(back, left, carry(S, tangents[right]))
        if ("z", l) in back:
            for s, k in edges[l]:
                _add(back, ("a", s), carry(lin.input_maps(l)[k].T, back["z", l]))
    return of_points(lin, back["a", wrt])


def _add(at: Vectors, end: End, term: Array) -> None:
    at[end] = at[end] + term if end in at else term


def _to(lin: Any, end: End, wrt: int, transposed: bool = False) -> list[LinearMap]:
    """Return the factors of ``dz^l/da^wrt`` or ``da^l/da^wrt``, or of the transpose."""
    kind, l = end
    factors = lin.between(l, wrt)[kind == "z" :]
    return [A.T for A in reversed(factors)] if transposed else factors


def nothing(m: int, n: int, dtype: Any) -> LinearMap:
    """Return the map of zeros, which keeps m + n of them."""
    return Product([np.zeros((m, 1), dtype), np.zeros((1, n), dtype)])
