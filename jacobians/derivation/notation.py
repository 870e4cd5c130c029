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
    Diagonal,
    Hadamard,
    Identity,
    Product,
    Shape,
    Slopes,
    Symbol,
    Term,
    Transpose,
    Unvec,
    Vec,
    matmul,
)

Letter: TypeAlias = str | tuple[str, ...]  # ("∂", "C", "W") is dC/dW, ("call", "σ'", "z") sigma'(z)

_OURS: dict[str, Letter] = {
    **{role: role for role in ("W", "b", "z", "a", "x", "y", "D", "M", "1", "σ", "C")},
    **{"ones": "1", "H": "H", "delta": "δ"},
    **{"s": ("call", "σ'", "z")},
    **{"c": ("∂", "C", "a"), "ddelta": ("∂", "C", "z"), "dx": ("∂", "C", "x")},
    **{"dW": ("∂", "C", "W"), "db": ("∂", "C", "b")},
    **{"J": ("∂", "a", "x"), "Jx": ("∂", "H", "x"), "P": ("∂", "H", "z")},
    **{"JW": ("∂", "H", "vec W"), "HH": ("∂²", "H", "x")},
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
        """Return the letter of a role; derivatives by other parameters are named after those."""
        own = self.letters.get(role, _OURS.get(role))
        if own is None and role[0] in "Ed":
            return ("∂", "z" if role[0] == "E" else str(self.letter("C")), f"vec {role[1:]}")
        return own or ("M" if role[0] == "M" else role)

    def number(self, l: Any) -> str:
        """Return the number of our layer l, or its letter, as the text writes it."""
        if self.units or l is None or not self.superscript:
            return ""
        if isinstance(l, str):
            return self.superscript.format(l)
        return self.superscript.format(l + self.first)


_WRT = {"c": "a", "delta": "z", "ddelta": "z", "dW": "W", "db": "b", "dx": "x"}
_COTANGENTS = frozenset(_WRT)


def _letters(sigma: str, style: tuple[str, str] | None = None, **own: Letter) -> dict[str, Letter]:
    """Return letters around a function's, with cotangents ``∂C/∂a`` or ``D_a C`` in one style."""
    letters: dict[str, Letter] = {"σ": sigma, "s": ("call", f"{sigma}'", "z")}
    if style:
        letters |= {"C": style[1], **{role: (*style, wrt) for role, wrt in _WRT.items()}}
    return letters | own


_ENTRIES: dict[str, Any] = {"slopes": "entries", "roads": ("outer",)}
_ROWS = {"W", "b", "z", "a", "s", "y", "1", "ones", "J", "Jx", "P"}
# fmt: off
_LIST = (
    Convention("columns", "columns, weights target by source, the input as layer 0"),
    Convention("000", "row derivatives; that of W is laid out as its transpose",
        _letters("g", ("D", "C"), z="a", a="h"), _COTANGENTS, "({})", **_ENTRIES),
    Convention("001", "row vectors: z = a w + b, weights source by target",
        _letters("f", W="w", delta="Δ"), _COTANGENTS | _ROWS, **_ENTRIES),
    Convention("002", "single units: sums over what is downstream",
        _letters("h", ("∂", "L"), W="w", z="n", a=("call", "h", "z")), units=True, **_ENTRIES),
    Convention("003", "row gradients, the weight gradient through vec and Kronecker",
        _letters("g", ("∇", "L"), z="a", a="h"), _COTANGENTS, "({})", slopes="entries",
        roads=("vec",)),
    Convention("004", "columns, the input as layer 1", superscript="[{}]", first=1, **_ENTRIES),
)
# fmt: on
CONVENTIONS: Mapping[str, Convention] = MappingProxyType({c.name: c for c in _LIST})


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


def laid_out(left: Symbol, right: Term, convention: Convention) -> tuple[Term, Term]:
    """Return both sides of a line as a convention lays them out."""
    turn = left.role in convention.transposed
    return _theirs(left, convention), _laid(right, turn, convention)


def _theirs(symbol: Symbol, convention: Convention) -> Symbol:
    """Return a symbol in the shape that it has in the convention."""
    turned = symbol.role in convention.transposed
    return Symbol(symbol.role, symbol.layer, symbol.shape[::-1] if turned else symbol.shape)


def _laid(term: Term, turn: bool, convention: Convention) -> Term:
    """Return a term, or its transpose, with all transposes pushed down to symbols."""

    def laid(part: Term, turned: bool = turn) -> Term:
        return _laid(part, turned, convention)

    match term:
        case Symbol():
            theirs = _theirs(term, convention)
            return Transpose(theirs) if turn ^ (term.role in convention.transposed) else theirs
        case Transpose():
            return laid(term.operands[0], not turn)
        case Slopes():
            return _slopes(term, turn, convention)
        case Product():
            factors = tuple(laid(factor) for factor in term.operands)
            return Product(*(factors[::-1] if turn else factors))
        case Diagonal() | Identity():
            return term.map(lambda part: laid(part, False))
        case Vec() | Unvec():
            inner = term.map(lambda part: laid(part, False))
            return Transpose(inner) if turn else inner
    return term.map(laid)


def _slopes(term: Slopes, turn: bool, convention: Convention) -> Term:
    """Lay ``s ⊙ x`` out: entry by entry where x is a vector and the text does so, or as ``D x``."""
    s, x = term.operands
    rest = _laid(x, turn, convention)
    shape = shape_of(x)
    if convention.slopes == "entries" and shape is not None and 1 in shape:
        # a column keeps the slopes in front, a row behind, as the texts write them
        slopes = _laid(s, turn, convention)
        return Hadamard(rest, slopes) if turn else Hadamard(slopes, rest)
    D: Term = Diagonal(_laid(s, False, convention))
    if isinstance(s, Symbol) and s.role == "s":
        D = Symbol("D", s.layer, (s.shape[0], s.shape[0]))
    return Product(rest, D) if turn else matmul(D, rest)


def shape_of(term: Term) -> Shape | None:
    """Return the shape of a term, where it is easy to tell."""
    match term:
        case Symbol():
            return term.shape
        case Unvec():
            return term.about  # type: ignore[no-any-return]
        case Identity():
            return (term.about, term.about)
        case Transpose():
            inner = shape_of(term.operands[0])
            return None if inner is None else inner[::-1]
        case Product():
            first, last = shape_of(term.operands[0]), shape_of(term.operands[-1])
            return None if first is None or last is None else (first[0], last[1])
    return shape_of(term.operands[-1]) if term.operands else None


# --- single units ---------------------------------------------------------------------------------


class Entry(Term):
    """One entry of a symbol; about the letters of its units."""


class SumOver(Term):
    """``sum over an index``; about the index and what it runs over."""


def entries(left: Symbol, right: Term) -> tuple[Term, Term]:
    """Return both sides of a line for single units: j here, i among its sources, k downstream.

    The inputs of a Jacobian are p.
    """
    i = "" if left.shape[1] == 1 else "i" if left.role in ("W", "dW") else "p"
    return _entry(left, "j", i, left), _entry(right, "j", i, left)


def _entry(term: Term, row: str, column: str, left: Symbol) -> Term:
    def entry(part: Term) -> Term:
        return _entry(part, row, column, left)

    match term:
        case Symbol():
            return Entry(term, about=tuple(index for index in (row, column) if index))
        case Transpose():
            return _entry(term.operands[0], column, row, left)
        case Diagonal():
            s = _entry(term.operands[0], row, "", left)
            same = Entry(Symbol("I", None, (1, 1)), about=(row, column))
            return Hadamard(s, same) if column else s
        case Slopes():
            s, x = term.operands
            return Hadamard(_entry(s, row, "", left), entry(x))
        case Product(operands=(only,)):
            return entry(only)
        case Product(operands=(first, *rest)):
            inner = shape_of(first)
            one = inner is not None and inner[1] == 1
            below = any(s.layer == left.layer for s in first if isinstance(s, Symbol))
            k = "" if one else next(k for k in ("i" if below else "k", "m") if k != row)
            product = Hadamard(_entry(first, row, k, left), _entry(Product(*rest), k, column, left))
            return product if one else SumOver(product, about=(k, "" if below else "Downstream(j)"))
    return term.map(entry)
