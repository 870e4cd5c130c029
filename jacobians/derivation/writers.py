"""One walk through a term; an alphabet sets what it meets: Unicode text, LaTeX, MathML.

Letters may be replaced by their numbers: then the same walk sets matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.derivation.notation import Convention, Entry, Letter, SumOver
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import (
    Apply,
    Diagonal,
    Hadamard,
    Identity,
    Kronecker,
    OnePoint,
    OverPoints,
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

_PLAIN = ("x", "y", "ones", "1", "H", "C", "L", "⋯")  # letters without the number of a layer
LARGEST = 6  # rows or columns that are set; of more, the first four, dots, and the last


class Writer:
    """The walk; a subclass is an alphabet.

    Parameters
    ----------
    convention : Convention
    rules : Rules
    values : callable, optional
        From a symbol to its matrix, which is set in place of the letter.
    shapes : bool
        Whether shapes stand under their factors.
    """

    def __init__(
        self,
        convention: Convention,
        rules: Rules,
        values: Callable[[Symbol], Array] | None = None,
        shapes: bool = True,
    ) -> None:
        self.convention, self.rules, self.values = convention, rules, values
        self.shapes = shapes and values is None and not convention.units

    # --- the alphabet ---------------------------------------------------------------------------

    word: Callable[[str], Any]  # a letter or a name
    sign: Callable[[str], Any]  # between two things
    indexed: Callable[[Any, str, str], Any]  # with a superscript and a subscript
    fraction: Callable[[Any, Any], Any]
    over: Callable[[str], Any]  # a sum sign with what it runs over
    above: Callable[[Any, str], Any]  # a piece with its shape below
    turned: Callable[[Any, bool], Any]  # the transpose; in brackets unless simple
    operator: Callable[[str, Any, str], Any]  # an operator with its variable: D_x C
    matrix: Callable[[Array], Any]

    # --- the walk -------------------------------------------------------------------------------

    def line(self, left: Term, right: Term) -> Any:
        """Set an equation; a name for itself once."""
        both = self.write(left), self.write(right)
        return both[0] if both[0] == both[1] else both[0] + self.sign(" = ") + both[1]

    def write(self, term: Term) -> Any:
        """Set a term; one that has no rule here as a function of what is in it."""
        match term:
            case Symbol():
                return self._symbol(term, turned=False)
            case Entry(operands=(Symbol() as symbol,)):
                return self._letter(symbol, "".join(term.about))
            case Transpose(operands=(Symbol() as symbol,)):
                return self._symbol(symbol, turned=True)
            case Transpose(operands=(inner,)):
                return self.turned(self.write(inner), isinstance(inner, Identity))
            case Product():
                return self._joined(" ", *map(self._factor, term.operands))
            case Sum():
                return self._sum(term)
            case Times(about=("−", _), operands=(x,)):
                return self.sign("−") + self._factor(x)
            case Times(about=(name, c), operands=(x,)):
                dot = " · " if isinstance(x, Times) else " "
                return self._joined(dot, self.word(name if not self.values else figure(c)), x)
            case Slopes(operands=(s, x)):
                return self._joined(" ", self.write(Diagonal(s)), x)
            case Hadamard():
                if self.convention.units:  # numbers: nothing but a product
                    return self._joined(" ", *term.operands)
                return self._joined(" ⊙ ", *map(self._of_hadamard, term.operands))
            case Quotient(operands=(x, y)):
                return self.fraction(self.write(x), self.write(y))
            case Diagonal(operands=(Symbol() as s,)) if self.values:
                return self.matrix(np.diag(self.values(s).ravel()))
            case Diagonal():
                return self._called("diag", *term.operands)
            case Kronecker(operands=(A, B)):
                return self._bracketed(self.write(A) + self.sign(" ⊗ ") + self.write(B))
            case Identity():
                return self._shaped(self.word("I"), (term.about, term.about))
            case Vec():
                return self._called("vec", *term.operands)
            case Unvec(operands=(x,)):
                return self.indexed(self.word("vec"), "−1", "") + self._bracketed(self.write(x))
            case OverPoints(operands=(x,)):
                return self.over("points") + self._factor(x)
            case OnePoint(operands=(x,)):
                point = "last point" if term.about else "first point"
                return self._joined(" ", self._factor(x), self._bracketed(self.word(point)))
            case SumOver(operands=(x,), about=(index, where)):
                return self.over(f"{index} ∈ {where}" if where else index) + self.write(x)
            case Apply():
                sigma = str(self.convention.letter("σ"))
                return self._called(term.about.name.replace("σ", sigma), *term.operands)
        return self._called(type(term).__name__.lower(), *term.operands)

    def _joined(self, between: str, *pieces: Any) -> Any:
        set_ = (self._factor(p) if isinstance(p, Term) else p for p in pieces)
        return reduce(lambda one, other: one + self.sign(between) + other, set_)

    def _bracketed(self, piece: Any) -> Any:
        return self.sign("(") + piece + self.sign(")")

    def _called(self, name: str, *operands: Term) -> Any:
        return self.word(name) + self._bracketed(self._joined(", ", *map(self.write, operands)))

    def _factor(self, term: Term) -> Any:
        piece = self.write(term)
        return self._bracketed(piece) if isinstance(term, (Sum, SumOver)) else piece

    def _of_hadamard(self, term: Term) -> Any:
        product = isinstance(term, Product)
        return self._bracketed(self.write(term)) if product else self._factor(term)

    def _sum(self, term: Sum) -> Any:
        written = self.write(term.operands[0])
        for x in term.operands[1:]:
            if isinstance(x, Times) and x.about[0] == "−":
                written = written + self.sign(" − ") + self._factor(x.operands[0])
            else:
                written = written + self.sign(" + ") + self.write(x)
        return written

    # --- letters --------------------------------------------------------------------------------

    def _shaped(self, piece: Any, shape: Shape) -> Any:
        return self.above(piece, short(shape)) if self.shapes else piece

    def _symbol(self, symbol: Symbol, turned: bool) -> Any:
        if self.values is not None:
            M = self.values(symbol)
            return self.matrix(M.T if turned else M)
        letter = self._letter(symbol)
        if symbol.role == "⋯":
            return letter
        if turned:
            letter = self.turned(letter, symbol.role in _PLAIN or symbol.key == ("a", 0))
        return self._shaped(letter, symbol.shape[::-1] if turned else symbol.shape)

    def _letter(self, symbol: Symbol, below: str = "") -> Any:
        """Set a symbol by its letter in the convention."""
        role, l, letter = symbol.role, symbol.layer, self.convention.letter(symbol.role)
        own = isinstance(letter, tuple) or not self.convention.first
        if role == "a" and l == 0 and own:
            role, letter = "x", "x"
        if isinstance(letter, str) or letter[0] == "call":
            return self._set(letter, role, l, below)
        kind, of, wrt = letter
        of_below, below = (below[:1], below[1:]) if role in ("J", "P") else ("", below)
        over = self._named(of, l if role == "J" or of == "z" else self.rules.top, of_below)
        under = self._named(wrt, self.rules.top if role == "c" else l, below)
        d = self.word("∂")
        if kind == "∂²":
            return self.fraction(self.word(kind) + over, d + under + d + under + self.word("ᵀ"))
        return self.fraction(d + over, d + under) if kind == "∂" else self.operator(kind, under, of)

    def _set(self, letter: Letter, role: str, l: Any, below: str) -> Any:
        if not isinstance(letter, str):
            return self.word(letter[1]) + self._bracketed(self._named(letter[2], l, below))
        number = "" if role in _PLAIN else self.convention.number(l)
        if role[0] == "M":
            below = role[1:]
        return self.indexed(self.word(letter), number, below)

    def _named(self, name: str, l: Any, below: str) -> Any:
        """Set a letter inside another one: x is where derivatives start, H where they end."""
        if name.startswith("vec "):
            letter = self.convention.letters.get(name[4:], name[4:])
            return self.word("vec") + self._bracketed(self._set(letter, name[4:], l, below))
        if name == "x" and self.rules.wrt:
            name, l = "a", self.rules.wrt
        if name == "H" and self.rules.top != self.rules.net.depth:
            name = "a"
        return self._set(self.convention.letter(name), name, l, below)


def short(shape: Shape) -> str:
    """Write a shape: a column by its length, all others in full."""
    return str(shape[0]) if shape[1] == 1 else f"{shape[0]}×{shape[1]}"


def figure(x: float) -> str:
    """Write a number: whole ones in full, others to four digits.

    >>> figure(3.0), figure(0.123456), figure(-1e-12)
    ('3', '0.1235', '-1e-12')
    """
    text = f"{x:.0f}" if float(x).is_integer() and abs(x) < 1e6 else f"{x:.4g}"
    return "0" if text == "-0" else text.replace("e-0", "e-").replace("e+0", "e")


def cells(M: Array, dots: str = "⋯⋮⋱") -> list[list[str]]:
    """Write the entries of a matrix; a large one as its corners, with dots between.

    >>> cells(np.arange(16.0).reshape(2, 8))
    [['0', '1', '2', '3', '⋯', '7'], ['8', '9', '10', '11', '⋯', '15']]
    """
    across, down, both = tuple(dots)

    def chosen(n: int) -> list[int | None]:
        return list(range(n)) if n <= LARGEST else [0, 1, 2, 3, None, n - 1]

    def cell(i: int | None, j: int | None) -> str:
        if i is None or j is None:
            return both if i is None and j is None else down if i is None else across
        return figure(M[i, j])

    return [[cell(i, j) for j in chosen(M.shape[1])] for i in chosen(M.shape[0])]


def is_small(term: Term) -> bool:
    """Tell whether every matrix in a term is small enough to be set."""
    sizes = [n for part in term if isinstance(part, Symbol) for n in part.shape]
    return all(isinstance(n, int) and n <= LARGEST for n in sizes)
