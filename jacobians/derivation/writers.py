"""Writers: one walk through a term, three ways to set it: Unicode text, LaTeX, MathML.

A piece of text is a list of (characters, what stands under them), so that shapes stand under their
factors; LaTeX and MathML are strings.  Pieces of one writer are joined by ``+``.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import Any

from jacobians.derivation.notation import (
    Convention,
    Entry,
    Letter,
    SumOver,
    transposed,
)
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

_PLAIN = ("x", "y", "ones", "1", "H", "⋯")  # letters without the number of a layer
_LOOSE = (Sum, SumOver)  # in brackets inside a product


class Writer:
    """The walk; a subclass sets letters, indices, fractions and signs."""

    def __init__(self, convention: Convention, depth: int, shapes: bool = True) -> None:
        self.convention, self.depth, self.shapes = convention, depth, shapes

    # --- what a subclass says -------------------------------------------------------------------

    def word(self, text: str) -> Any:
        """Set a letter or a name."""
        raise NotImplementedError

    def sign(self, text: str) -> Any:
        """Set a sign between two things."""
        raise NotImplementedError

    def indexed(self, base: Any, above: str, below: str = "") -> Any:
        """Set a superscript and a subscript."""
        raise NotImplementedError

    def fraction(self, above: Any, below: Any) -> Any:
        """Set a fraction."""
        raise NotImplementedError

    def over(self, what: str) -> Any:
        """Set a sum sign with what it runs over."""
        raise NotImplementedError

    def shaped(self, piece: Any, shape: Shape | None) -> Any:
        """Set the shape of a factor under it."""
        raise NotImplementedError

    def turned(self, piece: Any, simple: bool) -> Any:
        """Set a transpose."""
        raise NotImplementedError

    def under(self, base: str, piece: Any, rest: str) -> Any:
        """Set an operator with its variable below: ``D_x C``."""
        raise NotImplementedError

    # --- the walk -------------------------------------------------------------------------------

    def bracketed(self, piece: Any) -> Any:
        """Set brackets."""
        return self.sign("(") + piece + self.sign(")")

    def line(self, left: Term, right: Term) -> Any:
        """Set an equation."""
        if self.write(left) == self.write(right):  # a name for itself
            return self.write(left)
        return self.write(left) + self.sign(" = ") + self.write(right)

    def letter(self, symbol: Symbol, indices: tuple[str, ...] = ()) -> Any:
        """Set a symbol by its letter in the convention."""
        role = symbol.role
        if role not in _PLAIN and role[0] in "ME" and self.convention.letter(role) == role:
            return self._of_layer(role, symbol)
        if role[0] == "d" and self.convention.letter(role) == role:  # of another parameter
            above = self.word("∂") + self._named(
                "C" if "C" in str(self.convention.letter("dW")) else "L", None, ""
            )
            theta = self.indexed(self.word(role[1:]), self.convention.number(symbol.layer))
            return self.fraction(above, self.word("∂") + self.word("vec") + self.bracketed(theta))
        if role == "a" and symbol.layer in (0, "0"):
            role = (
                "x"
                if isinstance(self.convention.letter("a"), tuple) or self.convention.first == 0
                else "a"
            )
        return self._set(self.convention.letter(role), role, symbol.layer, "".join(indices))

    def _of_layer(self, role: str, symbol: Symbol) -> Any:
        """Set the derivative of a layer of its own, by its value (M) or a parameter (E)."""
        number = self.convention.number(symbol.layer)
        if role[0] == "M":
            return self.indexed(self.word("M"), number, role[1:])
        theta = self.indexed(self.word(role[1:]), number)
        z = self._named("z", symbol.layer, "")
        return self.fraction(
            self.word("∂") + z, self.word("∂") + self.word("vec") + self.bracketed(theta)
        )

    def _set(self, letter: Letter, role: str, layer: Any, below: str) -> Any:
        if isinstance(letter, str):
            return self.indexed(
                self.word(letter), "" if role in _PLAIN else self.convention.number(layer), below
            )
        kind, *names = letter
        if kind == "call":
            inner = self._named(names[1], layer, below)
            return self.word(names[0]) + self.bracketed(inner)
        wrt_layer = layer if names[1] != "x" else None
        if kind in ("∂", "∂²"):
            of_below, below = (below[:1], below[1:]) if role in ("J", "P", "Z") else ("", below)
            of = self._named(names[0], layer if role in ("J", "Z") else self.depth, of_below)
            wrt = self._named(names[1], self.depth if role == "c" else wrt_layer, below)
            if kind == "∂²":
                return self.fraction(
                    self.word("∂²") + of,
                    self.word("∂") + wrt + self.word("∂") + wrt + self.word("ᵀ"),
                )
            return self.fraction(self.word("∂") + of, self.word("∂") + wrt)
        wrt = self._named(names[1], self.depth if role == "c" else wrt_layer, below)
        return self.under(kind, wrt, names[0])

    def _named(self, role: str, layer: Any, below: str) -> Any:
        if role in ("C", "L"):
            return self.word(role)
        if role == "vec W":
            return self.word("vec") + self.bracketed(self._named("W", layer, below))
        return self._set(self.convention.letter(role), role, layer, below)

    def factor(self, term: Term) -> Any:
        """Set a term as a factor of a product."""
        piece = self.write(term)
        return self.bracketed(piece) if isinstance(term, _LOOSE) else piece

    @singledispatchmethod
    def write(self, term: Term) -> Any:
        """Set a term; one that has no rule here as a function of what is in it."""
        pieces = [self.write(operand) for operand in term.operands]
        called = self.word(type(term).__name__.lower())
        return called + self.bracketed(_join(pieces, self.sign(", ")))

    @write.register
    def _(self, term: Symbol) -> Any:
        return self.shaped(self.letter(term), None if term.role == "⋯" else term.shape)

    @write.register
    def _(self, term: Entry) -> Any:
        return self.letter(term.symbol, term.indices)

    @write.register
    def _(self, term: Transpose) -> Any:
        inner = term.term
        if isinstance(inner, Symbol):
            simple = inner.role in _PLAIN or (inner.role, inner.layer) == ("a", 0)
            return self.shaped(self.turned(self.letter(inner), simple), transposed(inner.shape))
        return self.turned(self.write(inner), isinstance(inner, Identity))

    @write.register
    def _(self, term: Product) -> Any:
        pieces = [self.factor(factor) for factor in term.factors]
        return _join(pieces, self.sign(" "))

    @write.register
    def _(self, term: Sum) -> Any:
        written = self.write(term.terms[0])
        for part in term.terms[1:]:
            if isinstance(part, Times) and part.name == "−":
                written = written + self.sign(" − ") + self.factor(part.term)
            else:
                written = written + self.sign(" + ") + self.write(part)
        return written

    @write.register
    def _(self, term: Times) -> Any:
        if term.name == "−":
            return self.sign("−") + self.factor(term.term)
        dot = " · " if isinstance(term.term, Times) else " "
        return self.word(term.name) + self.sign(dot) + self.factor(term.term)

    @write.register
    def _(self, term: Hadamard) -> Any:
        if self.convention.units:  # numbers: nothing but a product
            return self.factor(term.left) + self.sign(" ") + self.factor(term.right)
        pieces = [
            self.bracketed(self.write(part)) if isinstance(part, Product) else self.factor(part)
            for part in (term.left, term.right)
        ]
        return _join(pieces, self.sign(" ⊙ "))

    @write.register
    def _(self, term: Slopes) -> Any:
        return self.write(Diagonal(term.slopes)) + self.sign(" ") + self.factor(term.term)

    @write.register
    def _(self, term: Quotient) -> Any:
        return self.fraction(self.write(term.numerator), self.write(term.denominator))

    @write.register
    def _(self, term: Diagonal) -> Any:
        return self.word("diag") + self.bracketed(self.write(term.term))

    @write.register
    def _(self, term: Apply) -> Any:
        name = {"σ": str(self.convention.letter("σ")), "σ'": str(self.convention.letter("σ")) + "'"}
        pieces = [self.write(argument) for argument in term.arguments]
        called = self.word(name.get(term.function.name, term.function.name))
        return called + self.bracketed(_join(pieces, self.sign(", ")))

    @write.register
    def _(self, term: Kronecker) -> Any:
        piece = self.write(term.left) + self.sign(" ⊗ ") + self.write(term.right)
        return self.bracketed(piece)

    @write.register
    def _(self, term: Identity) -> Any:
        return self.shaped(self.word("I"), (term.n, term.n))

    @write.register
    def _(self, term: Vec) -> Any:
        return self.word("vec") + self.bracketed(self.write(term.term))

    @write.register
    def _(self, term: Unvec) -> Any:
        return self.indexed(self.word("vec"), "−1") + self.bracketed(self.write(term.term))

    @write.register
    def _(self, term: OverPoints) -> Any:
        return self.over("points") + self.factor(term.term)

    @write.register
    def _(self, term: OnePoint) -> Any:
        point = "first point" if term.point == 0 else "last point"
        return self.factor(term.term) + self.sign(" ") + self.bracketed(self.word(point))

    @write.register
    def _(self, term: SumOver) -> Any:
        return self.over(f"{term.index} ∈ {term.over}" if term.over else term.index) + self.write(
            term.term
        )


def _join(pieces: list[Any], between: Any) -> Any:
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = joined + between + piece
    return joined
