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

Kind: TypeAlias = Literal[
    "identity", "diagonal", "matrix", "map", "product", "sum", "graph", "blocks"
]


class Source(NamedTuple):
    """Where the map of a factor comes from at other points: a rule, and the way into its map."""

    rule: Literal["activation", "layer"]
    node: int
    path: tuple[int, ...]  # the first number is the input of the node


@dataclass(frozen=True, eq=False)
class Factor:
    """What is known of a map before any point is.

    Attributes
    ----------
    name : str
        A label: ``D3``, ``W2``, or ``E`` for rows or columns of the identity.
    kind : str
    shape : (int, int)
    flops : float
        Operations to apply it to a column.
    value : array or map, optional
        If all points share it.
    source : Source, optional
        If every point has its own.
    numbers : int
        How many numbers one point's own parts hold.
    bound : float
        No row of it has absolute values that add up to more.
    flat : bool
        Whether it is a diagonal of slopes of which many may be 0.
    block_count : int
        How many blocks of one shape stand along the diagonal of a map.
    parts : tuple of Factor, or of tuples (int, Factor) for each node of a graph
    rows, columns : array of int, optional
        The chosen ones of a matrix; for a diagonal ``rows`` are its chosen entries.
    turned : bool
        Whether this is the transpose of what the rule gives.
    """

    name: str
    kind: Kind
    shape: tuple[int, int]
    flops: float = 0.0
    value: Any = None
    source: Source | None = None
    numbers: int = 0
    bound: float = np.inf
    flat: bool = False
    block_count: int = 1
    parts: tuple[Any, ...] = ()
    rows: Indices | None = None
    columns: Indices | None = None
    turned: bool = False

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
        """Walk over those it is made of that are not made of others."""
        if not self.parts:
            yield self
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
    def on_the_way(self) -> int:
        """Count the numbers of one row while it goes through the maps, one after the other."""
        passed = self.shape[0] + sum(part.shape[1] for part in self.leaves())
        return passed if self.parts else 2 * passed

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
            return float(sum(part.operand.alone for part in self.parts) + max(additions, 0))
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
        elif self.value is not None and self.kind != "diagonal":
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
    written_out: int = 64,
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
            source = sources.get(id(A))
            if k % 2 == 0 and source is not None:  # D^l, then everything from there to the next D
                name = str(source.node)
            elif k % 2 == 0:
                name = "0"  # no path leads there
            label = f"{'DW'[k % 2]}{name}"
            factors += _opened(_describe(A, label, sources, lin, written_out))
    if not factors and (rows is not None or columns is not None):
        return (_identity_rows(rows, columns, net.widths[wrt], net.dtype),)
    if rows is not None:
        factors = _choose(factors, rows, "rows", net.dtype)
    if columns is not None:
        factors = _choose(factors[::-1], columns, "columns", net.dtype)[::-1]
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
    for k, part in enumerate(parts_of(A)):
        yield from _inside(part, source._replace(path=(*source.path, k)))


def parts_of(A: LinearMap) -> Sequence[LinearMap]:
    """Return the maps that a map is made of, if it is of a kind that is looked into."""
    if isinstance(A, Product):
        return A.factors
    if isinstance(A, Sum):
        return A.terms
    return A._parts() if isinstance(A, Substitution) else ()


def _describe(
    A: LinearMap, name: str, sources: dict[int, Source], lin: Linearization, written_out: int
) -> Factor:
    members = tuple(
        _describe(part, f"{name}.{k}", sources, lin, written_out)
        for k, part in enumerate(parts_of(A), start=1)
    )
    bounds = [part.bound for part in members]
    facts: dict[str, Any] = {"name": name, "shape": A.shape, "flops": A.flops}
    facts["block_count"] = A.block_count
    if isinstance(A, Product):
        bound = prod(max(1.0, b) for b in bounds)
        return Factor(kind="product", parts=members, bound=bound, **facts)
    if isinstance(A, Sum):
        return Factor(kind="sum", parts=members, bound=sum(bounds), **facts)
    if isinstance(A, Substitution):
        left = iter(members)
        nodes = tuple(tuple((source, next(left)) for source, _ in edges) for edges in A.nodes)
        return Factor(kind="graph", parts=nodes, bound=_bound_of(nodes), **facts)
    if isinstance(A, Identity):
        return Factor(kind="identity", bound=1.0, **facts)
    kind: Kind = "map"
    if isinstance(A, (Diagonal, Matrix)):
        kind = "diagonal" if isinstance(A, Diagonal) else "matrix"
    if not A.batch:
        value = A.diagonal() if kind == "diagonal" else A.to_dense() if kind == "matrix" else A
        sums = A.magnitude()
        bound = float("inf")
        if sums is not None:
            bound = float(sums.apply(np.ones((A.shape[1], 1))).max(initial=0.0))
        return Factor(kind=kind, value=value, bound=bound, **facts)
    if kind == "map" and max(A.shape) <= written_out:
        kind = "matrix"
    source, numbers = sources[id(A)], _numbers(A)
    if source.rule == "activation" and len(source.path) == 1:
        sigma = lin.trace.network.layers[source.node - 1].activation
        facts |= {"bound": sigma.slope_bound, "flat": sigma.flat}
    return Factor(kind=kind, source=source, numbers=numbers, **facts)


def _bound_of(nodes: tuple[tuple[tuple[int, Factor], ...], ...]) -> float:
    through = [1.0]
    for edges in nodes:
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
    factors: list[Factor], index: Indices, side: Literal["rows", "columns"], dtype: Any
) -> list[Factor]:
    """Restrict the outer factors, the outermost first."""
    count, chosen = len(index), []
    for k, factor in enumerate(factors):
        if factor.kind == "diagonal":
            value = None if factor.value is None else factor.value[index]
            chosen.append(replace(factor, shape=(count, count), value=value, rows=index))
            continue
        if factor.kind == "matrix":
            shape = (count, factor.shape[1]) if side == "rows" else (factor.shape[0], count)
            chosen_ones: dict[str, Any] = {side: index}
            small = replace(factor, shape=shape, flops=2.0 * shape[0] * shape[1], **chosen_ones)
            if factor.value is not None:
                cut = factor.value[index] if side == "rows" else factor.value[:, index]
                small = replace(small, value=np.ascontiguousarray(cut))
            return [*chosen, small, *factors[k + 1 :]]
        break
    rest = factors[len(chosen) :]
    n = (rest[0] if rest else factors[-1]).shape[0 if side == "rows" else 1]
    E = _identity_rows(index, None, n, dtype)
    return [*chosen, E if side == "rows" else replace(E.T, name="E"), *rest]


def _identity_rows(rows: Indices | None, columns: Indices | None, n: int, dtype: Any) -> Factor:
    """Return rows and columns of the identity: a factor that chooses."""
    every = np.arange(n)
    E = (every if rows is None else rows)[:, None] == (every if columns is None else columns)
    return Factor("E", "matrix", E.shape, 2.0 * E.size, E.astype(dtype), bound=1.0)


def as_index(value: Any, n: int, where: str) -> Indices | None:
    """Check a choice of rows or columns: a slice, a mask, or numbers from 0 to n - 1.

    >>> as_index([2, 0], 3, "jacobian: rows")
    array([2, 0])
    """
    if value is None:
        return None
    if isinstance(value, slice):
        index: Indices = np.arange(n)[value]
    else:
        given = as_array(value, where)
        index = given = given if given.size else given.astype(int)
        if given.dtype == bool and given.shape == (n,):
            index = np.flatnonzero(given)
        elif given.dtype.kind not in "iu" or (
            given.size and not 0 <= given.min() <= given.max() < n
        ):
            raise ValueError(
                f"{where}: expected numbers from 0 to {n - 1}, a mask or a slice, "
                f"but got {value!r:.80}."
            )
    if index.ndim != 1 or not len(index):
        raise ShapeError(
            f"{where}: expected a slice or a list of at least one number, but got {value!r:.80}."
        )
    return index.astype(np.intp)
