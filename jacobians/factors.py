"""The factors of a chain, described before any point is known, by asking the maps.

The network is linearized at one point, and what its maps say there (kind, size, operations, whether
all points share one) holds at every point.  So the description knows no kind of layer.  Identities,
diagonals, matrices, products, sums and substitutions are looked into; every other kind is a map
that is applied as it is.

Asking for some rows or columns only makes the outer factors smaller: a diagonal keeps those entries
and passes the choice on, a matrix keeps those rows or columns, and for any other kind rows of the
identity stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from jacobians._checks import Array, Indices, NotFiniteError, ShapeError, as_array
from jacobians.linearization import Linearization, linearize
from jacobians.maps import (
    Diagonal,
    Identity,
    LinearMap,
    Matrix,
    Product,
    Substitution,
    Sum,
)
from jacobians.maps.association import Operand, associate
from jacobians.network import Network
from jacobians.program import Limits

Kind: TypeAlias = Literal[
    "identity", "diagonal", "matrix", "map", "product", "sum", "graph", "blocks"
]
_KINDS: tuple[tuple[type[LinearMap], Kind], ...] = (
    *((Identity, "identity"), (Diagonal, "diagonal"), (Matrix, "matrix")),
    *((Product, "product"), (Sum, "sum"), (Substitution, "graph")),
)


class Source(NamedTuple):
    """Where the map of a factor comes from at other points: a rule, and the way into its map."""

    rule: Literal["activation", "layer"]
    node: int
    path: tuple[int, ...]  # the first number is the input of the node
    inside: tuple[Any, ...] = ()  # how the maps on the way are put together


@dataclass(frozen=True, eq=False)
class Factor:
    """What is known of a map before any point is."""

    name: str  # a label: ``D3``, ``W2``, or ``E`` for rows or columns of the identity
    kind: Kind
    shape: tuple[int, int]
    flops: float  # to apply it to a column
    value: Any = None  # an array or a map, if all points share it
    source: Source | None = None  # if every point has its own
    numbers: int = 0  # that one point's own parts hold
    bound: float = np.inf  # no row of it has absolute values that add up to more
    flat: bool = False  # whether it is a diagonal of slopes of which many may be 0
    block_count: int = 1  # of blocks of one shape along the diagonal of a map
    parts: tuple[Any, ...] = ()  # factors; of a graph, pairs (int, Factor) for each node
    rows: Indices | None = None  # the chosen ones of a matrix, or chosen entries of a diagonal
    columns: Indices | None = None
    turned: bool = False  # whether this is the transpose of what the rule gives

    @property
    def stacked(self) -> bool:
        """Whether every point has its own."""
        return self.source is not None or any(part.stacked for part in self.members())

    def members(self) -> list[Factor]:
        """Return the factors it is made of."""
        if self.kind == "graph":
            return [A for edges in self.parts for _, A in edges]
        return list(self.parts)

    def leaves(self) -> Iterator[Factor]:
        """Walk over those it is made of that are multiplied as one thing."""
        if not self.parts or self.kind == "blocks":
            yield self
            return
        for part in self.members():
            yield from part.leaves()

    @property
    def blocks(self) -> int:
        """How many blocks of one shape stand along the diagonal, with zeros beside them."""
        if self.kind in ("identity", "diagonal"):
            return self.shape[0]
        if self.kind in ("product", "sum", "blocks"):
            return gcd(*(part.blocks for part in self.parts))
        return self.block_count if self.kind == "map" else 1

    @property
    def operand(self) -> Operand:
        """What the cost model knows of it."""
        m, n = self.shape
        if self.kind in ("identity", "diagonal"):
            return Operand(m, n, self.kind, self.stacked)
        if self.kind == "matrix":
            return Operand(m, n, stacked=self.stacked)
        return Operand(m, n, "structured", self.stacked, self.flops, self._written())

    def _written(self) -> float | None:
        """Count what it costs to write it out; None if there is nothing better than to apply it."""
        m, n = self.shape
        if self.parts and self.blocks > 1:
            return self.flops * n / self.blocks
        if self.kind == "product":
            return associate([part.operand for part in self.parts]).flops
        if self.kind == "sum":
            light = sum(part.kind in ("identity", "diagonal") for part in self.parts)
            additions = (len(self.parts) - light - 1) * m * n + light * n
            return float(sum(part.operand.alone for part in self.parts) + additions)
        return self.flops * n if self.kind == "graph" else None

    def chosen(self, M: Array) -> Array:
        """Take the chosen rows and columns of matrices (..., m, n)."""
        M = M if self.rows is None else M[..., self.rows, :]
        return M if self.columns is None else M[..., self.columns]

    @property
    def T(self) -> Factor:
        """The factor of the transposed chain; what is loaded for it is transposed on the way."""
        turned: dict[str, Any] = {"shape": self.shape[::-1], "name": f"{self.name}ᵀ"}
        if self.kind == "product":
            turned["parts"] = tuple(part.T for part in reversed(self.parts))
        elif self.kind == "sum":
            turned["parts"] = tuple(part.T for part in self.parts)
        elif self.kind == "graph":
            last = len(self.parts)
            edges: list[list[tuple[int, Factor]]] = [[] for _ in range(last)]
            for l, entering in enumerate(self.parts, start=1):
                for source, A in entering:
                    edges[last - source - 1].append((last - l, A.T))
            turned["parts"] = tuple(map(tuple, edges))
        elif self.value is not None:
            turned["value"] = self.value.T
        else:
            turned["turned"] = not self.turned
        return replace(self, **turned)


def factors_of(
    net: Network,
    of: int,
    wrt: int,
    rows: Indices | None = None,
    columns: Indices | None = None,
    written_out: int = Limits.written_out,
    near: Any = None,
) -> tuple[Factor, ...]:
    """Describe the factors of ``da^of/da^wrt``, left to right, without those that are the identity.

    Maps of other kinds than matrices are written out up to a width of ``written_out``.  ``near`` is
    a point to ask the maps at, if 0 and a few others are none.

    >>> from jacobians.layers import Dense
    >>> net = Network([Dense([[1, 2], [3, 4], [5, 6]], activation="relu"), Dense([[1, 2, 3]])])
    >>> [f.name for f in factors_of(net, 2, 0)]
    ['W2', 'D1', 'W1']
    """
    with np.errstate(all="ignore"):
        lin, maps = _at_some_point(net, of, wrt, near)
        sources = dict(_sources(lin, of))
        factors: list[Factor] = []
        name = ""
        for k, A in enumerate(maps):
            if k % 2 == 0:  # D^l, then everything from there to the next D; 0 where no path leads
                name = str(sources[id(A)].node if id(A) in sources else 0)
            label = f"{'DW'[k % 2]}{name}"
            factors += _opened(_describe(A, label, sources, lin, written_out))
    if rows is not None:
        factors = _choose(factors, rows, "rows", net.widths[of], net.dtype)
    if columns is not None:
        factors = _choose(factors[::-1], columns, "columns", net.widths[wrt], net.dtype)[::-1]
    return tuple(factors)


def _at_some_point(
    net: Network, of: int, wrt: int, near: Any
) -> tuple[Linearization, Sequence[LinearMap]]:
    """Linearize at a point from which nothing leaves the range."""
    n = net.widths[0]
    rng = np.random.default_rng(0)
    several = [np.zeros(n), np.ones(n), *rng.standard_normal((8, n))]
    for x in several if near is None else [several[0], as_array(near, "plan: near")]:
        try:
            lin = linearize(net, x.astype(net.dtype)[None])
            return lin, lin.between(of, wrt)
        except NotFiniteError as err:
            failure = err
    raise failure


def _sources(lin: Linearization, of: int) -> Iterator[tuple[int, Source]]:
    """Say of every map, and of the maps inside it, which rule gives it at other points."""
    for l in range(1, of + 1):
        maps = (("activation", lin.activation_map(l)), *(("layer", A) for A in lin.input_maps(l)))
        for k, (rule, A) in enumerate(maps):
            yield from _inside(A, Source(rule, l, (max(k - 1, 0),)))  # type: ignore[arg-type]


def _inside(A: LinearMap, source: Source) -> Iterator[tuple[int, Source]]:
    yield id(A), source
    inside = (*source.inside, put_together(A))
    for k, part in enumerate(parts_of(A)):
        yield from _inside(part, source._replace(path=(*source.path, k), inside=inside))


def parts_of(A: LinearMap) -> Sequence[LinearMap]:
    """Return the maps that a map is made of, if it is of a kind that is looked into."""
    return tuple(A._parts()) if isinstance(A, (Product, Sum, Substitution)) else ()


def put_together(A: LinearMap) -> tuple[Any, ...]:
    """Say how a map is put together: its kind, its nodes, and which parts points share."""
    nodes = A.nodes if isinstance(A, Substitution) else ()
    sources = [[source for source, _ in edges] for edges in nodes]
    parts = [None if isinstance(part, Identity) else bool(part.batch) for part in parts_of(A)]
    return type(A), str(sources), *parts


def _describe(
    A: LinearMap, name: str, sources: dict[int, Source], lin: Linearization, written_out: int
) -> Factor:
    kind: Kind = next((name for of, name in _KINDS if isinstance(A, of)), "map")
    facts: dict[str, Any] = {"name": name, "shape": A.shape, "flops": A.flops}
    facts["block_count"] = A.block_count
    members: tuple[Any, ...] = tuple(
        _describe(part, f"{name}.{k}", sources, lin, written_out)
        for k, part in enumerate(parts_of(A), start=1)
    )
    if isinstance(A, Substitution):
        left = iter(members)
        members = tuple(tuple((source, next(left)) for source, _ in edges) for edges in A.nodes)
    if members or kind == "identity":
        return Factor(kind=kind, parts=members, bound=_bound_of(kind, members), **facts)
    if not A.batch:
        value = A.diagonal() if kind == "diagonal" else A.to_dense() if kind == "matrix" else A
        sums = A.magnitude()
        bound = np.inf if sums is None else float((sums @ np.ones(A.shape[1])).max())
        return Factor(kind=kind, value=value, bound=bound, **facts)
    if kind == "map" and max(A.shape) <= written_out:
        kind = "matrix"
    source, numbers = sources[id(A)], _numbers(A)
    if source.rule == "activation" and len(source.path) == 1:
        sigma = lin.trace.network.layers[source.node - 1].activation
        facts |= {"bound": sigma.slope_bound, "flat": sigma.flat}
    return Factor(kind=kind, source=source, numbers=numbers, **facts)


def _bound_of(kind: Kind, parts: tuple[Any, ...]) -> float:
    """Bound the row sums of what is made of others."""
    if kind == "sum":
        return float(sum(A.bound for A in parts))
    if kind != "graph":
        return prod(max(1.0, A.bound) for A in parts)
    through = [1.0]
    for edges in parts:
        through.append(max(1.0, sum(A.bound * through[source] for source, A in edges)))
    return max(through)


def _numbers(A: Any) -> int:
    """Count the numbers that a map of one point holds."""
    if isinstance(A, np.ndarray):
        return A.size
    if isinstance(A, tuple):
        return sum(map(_numbers, A))
    return sum(map(_numbers, vars(A).values())) if isinstance(A, LinearMap) else 0


def _opened(factor: Factor) -> list[Factor]:
    """Write a product as its factors, leaving identities out."""
    if factor.kind == "product":
        return [part for member in factor.parts for part in _opened(member)]
    return [] if factor.kind == "identity" else [factor]


def _choose(
    factors: list[Factor], index: Indices, side: Literal["rows", "columns"], n: int, dtype: Any
) -> list[Factor]:
    """Restrict the outer factors, the outermost of width n first, as far as the choice goes on."""
    k = 0
    while k < len(factors) and factors[k].kind == "diagonal":
        k += 1
    chosen = [_restricted(factor, index, side) for factor in factors[:k]]
    if k < len(factors) and factors[k].kind == "matrix":
        return [*chosen, _restricted(factors[k], index, side), *factors[k + 1 :]]
    E = (index[:, None] == np.arange(n)).astype(dtype)  # rows or columns of the identity
    E = E if side == "rows" else np.ascontiguousarray(E.T)
    return [*chosen, Factor("E", "matrix", E.shape, 2.0 * E.size, E, bound=1.0), *factors[k:]]


def _restricted(A: Factor, index: Indices, side: Literal["rows", "columns"]) -> Factor:
    """Keep some entries of a diagonal, or some rows or columns of a matrix."""
    count, value = len(index), A.value
    if A.kind == "diagonal":
        value = None if value is None else value[index]
        return replace(A, shape=(count, count), flops=float(count), value=value, rows=index)
    m, n = shape = (count, A.shape[1]) if side == "rows" else (A.shape[0], count)
    if value is not None:
        value = np.ascontiguousarray(value[index] if side == "rows" else value[:, index])
    changes: dict[str, Any] = {side: index, "flops": 2.0 * m * n, "value": value}
    return replace(A, shape=shape, **changes)


def as_index(value: Any, n: int, where: str) -> Indices | None:
    """Check a choice of rows or columns: a slice, a mask, or numbers from 0 to n - 1.

    >>> as_index([2, 0], 3, "jacobian: rows")
    array([2, 0])
    """
    if value is None:
        return None
    given: Any = np.arange(n)[value] if isinstance(value, slice) else as_array(value, where)
    if given.dtype == bool and given.shape == (n,):
        given = np.flatnonzero(given)
    if given.ndim != 1 or not len(given):
        raise ShapeError(
            f"{where}: expected a slice or a list of at least one number, but got {value!r:.80}."
        )
    if given.dtype.kind not in "iu" or not 0 <= given.min() <= given.max() < n:
        raise ValueError(
            f"{where}: expected numbers from 0 to {n - 1}, a mask or a slice, "
            f"but got {value!r:.80}."
        )
    index: Indices = given.astype(np.intp)
    return index
