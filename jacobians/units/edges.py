"""Edges of a unit graph: read from matrices or from names.

Edges are kept in compressed rows, one row per target.  A stored zero is an edge like any other: a
weight that happens to be 0, with a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    Indices,
    NotFiniteError,
    ShapeError,
    as_floats,
    as_items,
    freeze,
    require_ndim,
)
from jacobians._text import shortened
from jacobians.activations import Activation, AnyActivation, activation

# --- from matrices --------------------------------------------------------------------------------


def as_edges(value: Any, where: str) -> Any:
    """Read a dense array (nonzeros are edges) or a sparse one (stored entries are) as a new CSR."""
    from scipy.sparse import csr_array, issparse

    if not issparse(value):
        dense = as_floats(value, where)
        require_ndim(dense, (2,), where, "a matrix")
        return csr_array(dense)
    if value.ndim != 2:
        raise ShapeError(f"{where}: expected a matrix, but got shape {value.shape}.")
    edges = csr_array(value, copy=True)
    edges.sum_duplicates()  # and sorts the entries of every row
    if edges.dtype.kind == "f" and not np.isfinite(edges.data).all():
        k = int(np.argmin(np.isfinite(edges.data)))
        entry = f"{where}[{targets_of(edges)[k]}, {edges.indices[k]}]"
        raise NotFiniteError(f"{entry} is {edges.data[k]}. Every entry must be finite.")
    weights = as_floats(edges.data, where)
    return csr_array((weights, edges.indices, edges.indptr), edges.shape)


def with_weights(edges: Any, weights: Array) -> Any:
    """Return the same edges with other weights, read-only."""
    from scipy.sparse import csr_array

    arrays = tuple(freeze(array) for array in (weights, edges.indices, edges.indptr))
    return csr_array(arrays, edges.shape)


def beside(left: Any, right: Any) -> Any:
    """Return ``[L R]``: two matrices of edges into the same units."""
    from scipy.sparse import hstack

    return hstack([left, right], format="csr")


def targets_of(edges: Any) -> Indices:
    """Return the target of every stored edge; ``edges.indices`` are the sources."""
    return np.repeat(np.arange(edges.shape[0]), np.diff(edges.indptr))


def as_kinds(
    activations: str | AnyActivation | Sequence[str | AnyActivation], N: int
) -> tuple[Indices, tuple[Activation, ...]]:
    """Return for each of N units which of the different activations it has, and these."""
    where = "UnitGraph: activations"
    if isinstance(activations, str) or not isinstance(activations, Iterable):
        activations = [activations] * N
    each = [activation(sigma) for sigma in as_items(activations, where)]
    if len(each) != N:
        raise ShapeError(f"{where}: expected one, or one for each of {N}, got {len(each)}.")
    distinct, kinds = dict[Activation, int](), list[int]()
    for i, sigma in enumerate(each):
        if not isinstance(sigma, Activation):
            raise TypeError(
                f"{where}: unit {i} has one preactivation, but {sigma} mixes those of a whole "
                "layer. Leave it out and apply it to the values."
            )
        kinds.append(distinct.setdefault(sigma, len(distinct)))
    return np.array(kinds, np.intp), tuple(distinct)


# --- from names -----------------------------------------------------------------------------------


def read_named_edges(
    edges: Iterable[Any], inputs: Any, where: str
) -> tuple[list[str], list[str], Any, Any]:
    """Return the names of units and inputs, and A and B, from edges (source, target, weight)."""
    if isinstance(inputs, str):
        raise TypeError(f"{where}: inputs: expected a list of names, but got {inputs!r}.")
    inputs = list(inputs)
    weights: dict[tuple[str, str], Any] = {}
    for edge in edges:
        source, target, weight = _as_triple(edge, where)
        if (source, target) in weights:
            raise ValueError(
                f"{where}: the edge {source} -> {target} is given twice. Add the weights up into "
                "one."
            )
        weights[source, target] = weight
    _require_proper(list(weights), inputs, where)
    outside = set(inputs)
    names = [name for name in dict.fromkeys(chain.from_iterable(weights)) if name not in outside]
    number = {name: i for i, name in enumerate([*names, *inputs])}
    ends = np.array([(number[target], number[source]) for source, target in weights], np.intp)
    values = as_floats(list(weights.values()), f"{where}: weights")
    A, B = split_edges(values, ends[:, 0], ends[:, 1], len(names), len(inputs))
    return names, inputs, A, B


def split_edges(weights: Array, targets: Indices, sources: Indices, N: int, m: int) -> Any:
    """Return ``A`` and ``B``; sources from N on are inputs."""
    from scipy.sparse import csr_array

    inner = sources < N
    A = csr_array((weights[inner], (targets[inner], sources[inner])), (N, N))
    outer = (targets[~inner], sources[~inner] - N)
    return A, csr_array((weights[~inner], outer), (N, m))


def _as_triple(edge: Any, where: str) -> tuple[str, str, Any]:
    try:
        source, target, weight = edge
    except (TypeError, ValueError):
        raise TypeError(
            f"{where}: an edge is a triple (source, target, weight), but got {edge!r:.80}."
        ) from None
    if not (isinstance(source, str) and isinstance(target, str)):
        raise TypeError(f"{where}: the ends of an edge are names, but got {edge!r:.80}.")
    return source, target, weight


def _require_proper(edges: list[tuple[str, str]], inputs: list[Any], where: str) -> None:
    """Refuse what leaves it open which unit computes what, naming it."""
    if not edges:
        raise ValueError(f"{where}: expected at least one edge, but got none.")
    into = {target: f"{source} -> {target}" for source, target in edges}
    out_of = {source: f"{source} -> {target}" for source, target in edges}
    for name in inputs:
        if not isinstance(name, str):
            raise TypeError(f"{where}: inputs: expected names, but got {name!r:.80}.")
        if name in into:
            raise ValueError(
                f"{where}: the edge {into[name]} leads into the input {name}, but an "
                "input gets its value from outside. Take it out of inputs, or turn the edge."
            )
    dangling = [name for name in out_of if name not in into and name not in set(inputs)]
    if dangling:
        raise ValueError(
            f"{where}: no edge leads to {', '.join(shortened(dangling))} (as in "
            f"{out_of[dangling[0]]}). Name it in inputs, or say what feeds it."
        )


def by_name(given: Mapping[str, Any], names: Sequence[str], default: Any, where: str) -> list[Any]:
    """Return a value for every name from a mapping of some of them."""
    there = dict.fromkeys(names)
    for name in given:
        require_known(name, there, where)
    return [given.get(name, default) for name in names]


def require_known(name: Any, names: Mapping[str, Any], where: str) -> None:
    """Refuse a name that nothing has."""
    if name not in names:
        there = ", ".join(shortened(list(names)))
        raise ValueError(f"{where}: nothing is called {name!r}; there are {there}.")
