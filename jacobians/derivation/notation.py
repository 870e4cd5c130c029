"""Conventions as data: letters, numbers of layers, what is laid out as its transpose.

The rules know columns only.  A convention says which of our quantities another text writes
transposed; ``laid_out`` turns a line into that text's by ``(A B)ᵀ = Bᵀ Aᵀ`` alone, and ``entries``
into sums over single units.  Nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from jacobians.derivation.terms import (
    Apply,
    Diagonal,
    Hadamard,
    Identity,
    Product,
    Quotient,
    Shape,
    Slopes,
    Sum,
    Symbol,
    Term,
    Times,
    Transpose,
    Unvec,
    Vec,
)

Letter: TypeAlias = str | tuple[str, ...]  # ("∂", "C", "W") is dC/dW, ("call", "σ'", "z") sigma'(z)

_OURS: dict[str, Letter] = {
    **{role: role for role in ("W", "b", "z", "a", "x", "y", "D", "M", "J", "H")},
    "ones": "1",
    "1": "1",
    "delta": "δ",
    "s": ("call", "σ'", "z"),
    "q": ("call", "σ''", "z"),
    "c": ("∂", "C", "a"),
    "ddelta": ("∂", "C", "z"),
    "dW": ("∂", "C", "W"),
    "db": ("∂", "C", "b"),
    "dx": ("∂", "C", "x"),
    "J": ("∂", "a", "x"),
    "P": ("∂", "H", "z"),
    "JW": ("∂", "H", "vec W"),
    "Jb": ("∂", "H", "b"),
    "Jx": ("∂", "H", "x"),
    "Z": ("∂", "z", "x"),
    "g": ("∂", "H", "a"),
    "HH": ("∂²", "H", "x"),
}


@dataclass(frozen=True)
class Convention:
    """How a text writes what the rules say in columns.

    Attributes
    ----------
    name, title : str
    letters : mapping
        From our role to its letter; roles that are not there keep ours.
    transposed : frozenset of str
        Roles that the text writes as the transpose of ours.
    superscript : str
        How the number of a layer is written: ``"{}"``, ``"({})"``, ``"[{}]"`` or nothing.
    first : int
        The number of the input.
    slopes : str
        ``"matrix"`` for ``D x``, ``"entries"`` for ``sigma'(z) ⊙ x``.
    roads : tuple of str
        Roads to the weight gradient: ``"outer"``, ``"vec"``.
    units : bool
        Single units, with sums over what is downstream, in place of matrices.
    """

    name: str
    title: str
    letters: Mapping[str, Letter] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()
    superscript: str = "{}"
    first: int = 0
    slopes: str = "matrix"
    roads: tuple[str, ...] = ("outer", "vec")
    units: bool = False

    def letter(self, role: str) -> Letter:
        """Return the letter of a role."""
        return self.letters.get(role, _OURS.get(role, role))

    def number(self, l: Any) -> str:
        """Return the number of our layer l, or its letter, as the text writes it."""
        if self.units or l is None or not self.superscript:
            return ""
        if isinstance(l, str):
            return self.superscript.format(l)
        return self.superscript.format(l + self.first)


_COTANGENTS = frozenset({"c", "delta", "ddelta", "dW", "db", "dx"})
_ROWS: dict[str, Letter] = {
    "z": "a",
    "a": "h",
    "s": ("call", "g'", "z"),
    "σ": "g",
}


def _row_letters(sign: str, cost: str) -> dict[str, Letter]:
    wrt = {"c": "a", "delta": "z", "ddelta": "z", "dW": "W", "db": "b", "dx": "x"}
    return {**_ROWS, **{role: (sign, cost, of) for role, of in wrt.items()}}


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        "columns": Convention("columns", "columns, weights target by source, the input as layer 0"),
        "000": Convention(
            "000",
            "row derivatives; that of W is laid out as its transpose",
            _row_letters("D", "C"),
            _COTANGENTS,
            "({})",
            slopes="entries",
            roads=("outer",),
        ),
        "001": Convention(
            "001",
            "row vectors: z = a w + b, weights source by target",
            {
                "W": "w",
                "delta": "Δ",
                "s": ("call", "f'", "z"),
                "σ": "f",
            },
            _COTANGENTS | {"W", "b", "z", "a", "s", "y", "1", "ones", "J", "Jx", "P"},
            slopes="entries",
            roads=("outer",),
        ),
        "002": Convention(
            "002",
            "single units: sums over what is downstream",
            {
                "W": "w",
                "z": "n",
                "a": ("call", "h", "z"),
                "s": ("call", "h'", "z"),
                "σ": "h",
                "c": ("∂", "L", "a"),
                "delta": ("∂", "L", "z"),
                "ddelta": ("∂", "L", "z"),
                "dW": ("∂", "L", "W"),
                "db": ("∂", "L", "b"),
                "dx": ("∂", "L", "x"),
            },
            slopes="entries",
            roads=("outer",),
            units=True,
        ),
        "003": Convention(
            "003",
            "row gradients, the weight gradient through vec and Kronecker",
            _row_letters("∇", "L"),
            _COTANGENTS,
            "({})",
            slopes="entries",
            roads=("vec",),
        ),
        "004": Convention(
            "004",
            "columns, the input as layer 1",
            {},
            frozenset(),
            "[{}]",
            first=1,
            slopes="entries",
            roads=("outer",),
        ),
    }
)


def as_convention(value: str | Convention) -> Convention:
    """Look a convention up by name, or take one of your own."""
    if isinstance(value, Convention):
        return value
    if value not in CONVENTIONS:
        raise ValueError(
            f"convention: expected one of {', '.join(CONVENTIONS)} or a Convention, got {value!r}."
        )
    return CONVENTIONS[value]


# --- layouts --------------------------------------------------------------------------------------


def transposed(shape: Shape) -> Shape:
    """Return ``(n, m)`` for ``(m, n)``."""
    return (shape[1], shape[0])


def laid_out(left: Symbol, right: Term, convention: Convention) -> tuple[Term, Term]:
    """Return both sides of a line as a convention lays them out."""
    turn = left.role in convention.transposed
    return _their(left, convention), _laid(right, turn, convention)


def _their(symbol: Symbol, convention: Convention) -> Symbol:
    if symbol.role not in convention.transposed:
        return symbol
    return Symbol(symbol.role, symbol.layer, transposed(symbol.shape))


def _laid(term: Term, turn: bool, convention: Convention) -> Term:
    """Return a term, or its transpose, with all transposes pushed down to symbols."""

    def laid(part: Term, turned: bool = turn) -> Term:
        return _laid(part, turned, convention)

    if isinstance(term, Symbol):
        turn ^= term.role in convention.transposed
        return Transpose(_their(term, convention)) if turn else _their(term, convention)
    if isinstance(term, Transpose):
        return laid(term.term, not turn)
    if isinstance(term, Product):
        factors = tuple(laid(factor) for factor in term.factors)
        return Product(factors[::-1] if turn else factors)
    if isinstance(term, Slopes):
        slopes, rest = laid(term.slopes), laid(term.term)
        if convention.slopes == "entries" and _is_vector(term.term):
            # a column keeps the slopes in front, a row behind, as the texts write them
            return Hadamard(rest, slopes) if turn else Hadamard(slopes, rest)
        s = term.slopes
        D: Term = Diagonal(laid(s, False))
        if isinstance(s, Symbol) and s.role == "s":
            D = Symbol("D", s.layer, (s.shape[0], s.shape[0]))
        return Product((rest, D) if turn else (D, *_factors(rest)))
    if isinstance(term, (Diagonal, Identity)):
        return term.map(lambda part: laid(part, False))
    if isinstance(term, (Vec, Unvec)):
        inner = term.map(lambda part: laid(part, False))
        return Transpose(inner) if turn else inner
    return term.map(laid)


def _factors(term: Term) -> tuple[Term, ...]:
    return term.factors if isinstance(term, Product) else (term,)


def shape_of(term: Term) -> Shape | None:
    """Return the shape of a term, where it is easy to tell."""
    if isinstance(term, Symbol):
        return term.shape
    if isinstance(term, Transpose):
        inner = shape_of(term.term)
        return None if inner is None else transposed(inner)
    if isinstance(term, Product):
        first, last = shape_of(term.factors[0]), shape_of(term.factors[-1])
        return None if first is None or last is None else (first[0], last[1])
    if isinstance(term, Identity):
        return (term.n, term.n)
    if isinstance(term, Unvec):
        return term.shape
    inner_terms = term.operands
    return shape_of(inner_terms[-1]) if inner_terms else None


def _is_vector(term: Term) -> bool:
    shape = shape_of(term)
    return shape is not None and 1 in shape


# --- single units ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry(Term):
    """One entry of a symbol, by the letters of its units."""

    symbol: Symbol
    indices: tuple[str, ...]


@dataclass(frozen=True)
class SumOver(Term):
    """``sum over an index``, with what it runs over."""

    index: str
    over: str
    term: Term


def entries(left: Symbol, right: Term) -> tuple[Term, Term]:
    """Return both sides of a line for single units: j here, i among its sources, k downstream.

    The inputs of a Jacobian are p.
    """
    i = "" if left.shape[1] == 1 else "i" if left.role in ("W", "dW") else "p"
    return _entry(left, "j", i, left), _entry(right, "j", i, left)


def _entry(term: Term, row: str, column: str, left: Symbol) -> Term:
    def entry(part: Term) -> Term:
        return _entry(part, row, column, left)

    if isinstance(term, Symbol):
        return Entry(term, tuple(index for index in (row, column) if index))
    if isinstance(term, Transpose):
        return _entry(term.term, column, row, left)
    if isinstance(term, Product):
        first, rest = term.factors[0], term.factors[1:]
        if not rest:
            return entry(first)
        inner = shape_of(first)
        one = inner is not None and inner[1] == 1
        below = any(s.layer == left.layer for s in first if isinstance(s, Symbol))
        k = "" if one else "i" if below else "k"
        product = Hadamard(_entry(first, row, k, left), _entry(Product(rest), k, column, left))
        return product if one else SumOver(k, "" if below else "Downstream(j)", product)
    if isinstance(term, Slopes):
        return Hadamard(_entry(term.slopes, row, "", left), entry(term.term))
    if isinstance(term, Diagonal):
        return _entry(term.term, row, "", left)
    if isinstance(term, (Sum, Times, Hadamard, Quotient, Apply)):
        return term.map(entry)
    return term.map(entry)
