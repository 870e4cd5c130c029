"""Writers that set numbers: the same walk, with matrices in place of letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.derivation.markup import Latex, MathML
from jacobians.derivation.notation import Convention, shape_of
from jacobians.derivation.terms import Diagonal, Shape, Slopes, Symbol, Term, Times, Transpose
from jacobians.derivation.writers import Writer

LARGEST = 6  # rows or columns that are set; of more, the first four, dots, and the last


def figure(x: float) -> str:
    """Write a number: whole ones in full, others to four digits.

    >>> figure(3.0), figure(0.123456), figure(-1e-12)
    ('3', '0.1235', '-1e-12')
    """
    text = f"{x:.0f}" if float(x).is_integer() and abs(x) < 1e6 else f"{x:.4g}"
    return "0" if text == "-0" else text.replace("e-0", "e-").replace("e+0", "e")


def cells(M: Array, dots: tuple[str, str, str] = ("⋯", "⋮", "⋱")) -> list[list[str]]:
    """Write the entries of a matrix; a large one as its corners, with dots between.

    >>> cells(np.arange(16.0).reshape(2, 8))
    [['0', '1', '2', '3', '⋯', '7'], ['8', '9', '10', '11', '⋯', '15']]
    """
    across, down, both = dots

    def chosen(n: int) -> list[int | None]:
        return list(range(n)) if n <= LARGEST else [0, 1, 2, 3, None, n - 1]

    def cell(i: int | None, j: int | None) -> str:
        if i is None or j is None:
            return both if i is None and j is None else down if i is None else across
        return figure(M[i, j])

    return [[cell(i, j) for j in chosen(M.shape[1])] for i in chosen(M.shape[0])]


class Block:
    """Lines of text that are set beside each other, centred."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __add__(self, other: Block) -> Block:
        height = max(len(self.lines), len(other.lines))
        left, right = self._grown(height), other._grown(height)
        return Block([a + b for a, b in zip(left, right, strict=True)])

    def _grown(self, height: int) -> list[str]:
        width = max(map(len, self.lines))
        above = (height - len(self.lines)) // 2
        blank = [" " * width]
        below = height - len(self.lines) - above
        return [*(above * blank), *(line.ljust(width) for line in self.lines), *(below * blank)]

    @property
    def width(self) -> int:
        """The longest line."""
        return max(map(len, self.lines))


def block(M: Array) -> Block:
    """Set a matrix in brackets, its columns aligned."""
    rows = cells(M)
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    return Block(
        ["[" + " ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) + "]" for row in rows]
    )


class _Numbers(Writer):
    """Sets a symbol as its matrix."""

    def __init__(
        self, convention: Convention, depth: int, values: Callable[[Symbol], Array]
    ) -> None:
        super().__init__(convention, depth, shapes=False)
        self.values = values

    def matrix(self, M: Array) -> Any:
        """Set a matrix."""
        raise NotImplementedError

    def write(self, term: Term) -> Any:
        """Set a term; a symbol, its transpose and a diagonal as matrices."""
        if isinstance(term, Symbol):
            return self.matrix(self.values(term))
        if isinstance(term, Transpose) and isinstance(term.term, Symbol):
            return self.matrix(self.values(term.term).T)
        if isinstance(term, Diagonal) and isinstance(term.term, Symbol):
            return self.matrix(np.diag(self.values(term.term).ravel()))
        if isinstance(term, Slopes):
            return self.write(Diagonal(term.slopes)) + self.sign(" ") + self.factor(term.term)
        if isinstance(term, Times) and term.name != "−":
            return self.word(figure(term.value)) + self.sign(" ") + self.factor(term.term)
        return super().write(term)


class TextNumbers(_Numbers):
    """Matrices in plain text."""

    def word(self, text: str) -> Block:
        return Block([text])

    sign = word
    matrix = staticmethod(block)

    def indexed(self, base: Any, above: str, below: str = "") -> Block:
        return Block([base.lines[0] + "⁻¹"])

    def fraction(self, above: Any, below: Any) -> Block:
        return Block([]) if not above else above + Block([" / "]) + below

    def over(self, what: str) -> Block:
        return Block(["Σ "])

    def shaped(self, piece: Any, shape: Shape | None) -> Any:
        return piece

    def turned(self, piece: Any, simple: bool) -> Any:
        return Block(["("]) + piece + Block([")ᵀ"])


class LatexNumbers(_Numbers, Latex):
    """Matrices in LaTeX."""

    def matrix(self, M: Array) -> str:
        rows = cells(M, (r"\cdots", r"\vdots", r"\ddots"))
        body = r" \\ ".join(" & ".join(_power(c) for c in row) for row in rows)
        return rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"


def _power(text: str) -> str:
    mantissa, e, exponent = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{exponent}}}" if e else text


class MathMLNumbers(_Numbers, MathML):
    """Matrices in MathML."""

    def matrix(self, M: Array) -> str:
        rows = "".join(
            "<mtr>" + "".join(f"<mtd><mn>{c}</mn></mtd>" for c in row) + "</mtr>"
            for row in cells(M)
        )
        return f"<mrow><mo>[</mo><mtable>{rows}</mtable><mo>]</mo></mrow>"


def is_small(term: Term) -> bool:
    """Tell whether every matrix in a term is small enough to be set."""
    symbols = [part for part in term if isinstance(part, Symbol)]
    shapes = [shape for part in symbols if (shape := shape_of(part)) is not None]
    return all(isinstance(n, int) and n <= LARGEST for shape in shapes for n in shape)
