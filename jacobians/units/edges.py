"""Edges of a unit graph: read from matrices or from names.

Edges are kept in compressed rows, one row per target.  A stored zero is an edge like any other: a
weight that happens to be 0, with a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jacobians._checks import (
    Array,
    NotFiniteError,
    Places,
    ShapeError,
    as_floats,
    as_items,
    freeze,
    require_ndim,
)
from jacobians.activations import Activation, AnyActivation, activation

Value = TypeVar("Value")


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
        entry = int(np.argmin(np.isfinite(edges.data)))
        row = int(np.searchsorted(edges.indptr, entry, side="right")) - 1
        raise NotFiniteError(
            f"{where}[{row}, {edges.indices[entry]}] is {edges.data[entry]}. "
            "Every entry must be finite."
        )
    weights = as_floats(edges.data, where)
    return csr_array((weights, edges.indices, edges.indptr), edges.shape)


def with_weights(edges: Any, weights: Array) -> Any:
    """Return the same edges with other weights, read-only."""
    from scipy.sparse import csr_array

    parts = (freeze(part) for part in (weights, edges.indices, edges.indptr))
    return csr_array(tuple(parts), edges.shape)


def targets_of(edges: Any) -> Places:
    """Return the target of every stored edge; ``edges.indices`` are the sources."""
    return np.repeat(np.arange(edges.shape[0]), np.diff(edges.indptr))


def as_kinds(
    activations: str | AnyActivation | Sequence[str | AnyActivation], units: int
) -> tuple[Places, tuple[Activation, ...]]:
    """Return the different activations, and for every unit which of them it has."""
    where = "UnitGraph: activations"
    if isinstance(activations, str) or not isinstance(activations, Iterable):
        activations = [activations] * units
    each = [activation(sigma) for sigma in as_items(activations, where)]
    if len(each) != units:
        raise ShapeError(f"{where}: expected one, or one for each of {units}, got {len(each)}.")
    distinct, kinds = dict[Activation, int](), np.zeros(units, np.intp)
    for i, sigma in enumerate(each):
        if not isinstance(sigma, Activation):
            raise TypeError(
                f"{where}: unit {i} has one preactivation, but {sigma} mixes those of a whole "
                "layer. Leave it out and apply it to the values."
            )
        kinds[i] = distinct.setdefault(sigma, len(distinct))
    return kinds, tuple(distinct)


# --- from names -----------------------------------------------------------------------------------


class Named(NamedTuple):
    """A graph read from named edges."""

    units: list[str]
    inputs: list[str]
    A: Any
    B: Any


def read_named_edges(edges: Iterable[Any], inputs: Any, where: str) -> Named:
    """Read edges ``(source, target, weight)``; units are the names that are not inputs."""
    if isinstance(inputs, str):
        raise TypeError(f"{where}: inputs: expected a list of names, but got {inputs!r}.")
    triples, inputs = [_as_triple(edge, where) for edge in edges], list(inputs)
    _require_proper(triples, inputs, where)
    ends = dict.fromkeys(chain.from_iterable(edge[:2] for edge in triples))
    units = [name for name in ends if name not in set(inputs)]
    place = {name: i for i, name in enumerate([*units, *inputs])}
    weights = as_floats([weight for *_, weight in triples], f"{where}: weights")
    targets = np.array([place[target] for _, target, _ in triples], np.intp)
    sources = np.array([place[source] for source, _, _ in triples], np.intp)
    N = len(units)
    A, B = split_edges(weights, targets, sources, N, len(inputs))
    return Named(units, inputs, A, B)


def split_edges(weights: Array, targets: Places, sources: Places, N: int, m: int) -> Any:
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


def _require_proper(edges: list[tuple[str, str, Any]], inputs: list[Any], where: str) -> None:
    """Refuse what leaves it open which unit computes what, naming it."""
    if not edges:
        raise ValueError(f"{where}: expected at least one edge, but got none.")
    sources, targets = {edge[0]: edge for edge in edges}, {edge[1]: edge for edge in edges}
    for name in inputs:
        if not isinstance(name, str):
            raise TypeError(f"{where}: inputs: expected names, but got {name!r:.80}.")
        if name in targets:
            raise ValueError(
                f"{where}: the edge {_arrow(targets[name])} leads into the input {name}, but an "
                "input gets its value from outside. Take it out of inputs, or turn the edge."
            )
    seen = set[tuple[str, str]]()
    for edge in edges:
        if edge[:2] in seen:
            raise ValueError(
                f"{where}: the edge {_arrow(edge)} is given twice. Add the weights up into one."
            )
        seen.add(edge[:2])
    dangling = [name for name in sources if name not in targets and name not in set(inputs)]
    if dangling:
        raise ValueError(
            f"{where}: no edge leads to {', '.join(shortened(dangling))} (as in "
            f"{_arrow(sources[dangling[0]])}). Name it in inputs, or say what feeds it."
        )


def _arrow(edge: tuple[str, str, Any]) -> str:
    return f"{edge[0]} -> {edge[1]}"


def by_name(given: Mapping[str, Value], units: Sequence[str], default: Value, where: str) -> Any:
    """Return a value for every unit from a mapping of names to values."""
    there = dict.fromkeys(units)
    for name in given:
        require_known(name, there, where)
    return [given.get(name, default) for name in units]


def require_known(name: Any, there: Mapping[str, Any], where: str) -> None:
    """Refuse a name that nothing has."""
    if name not in there:
        names = ", ".join(shortened(list(there)))
        raise ValueError(f"{where}: nothing is called {name!r}; there are {names}.")


# --- in messages ----------------------------------------------------------------------------------


def shortened(words: Sequence[str], most: int = 8) -> list[str]:
    """Leave out the middle of a long list."""
    return list(words) if len(words) <= most else [*words[: most - 2], "...", words[-1]]
