"""The alphabets: Unicode text, LaTeX, MathML."""

from __future__ import annotations

import os
import re
from functools import reduce
from html import escape
from typing import Any, NamedTuple

from jacobians._checks import Array
from jacobians._writing import replacing
from jacobians.derivation.writers import Writer, cells

_ABOVE = str.maketrans("0123456789+-−()lLnijkK", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ˡᴸⁿⁱʲᵏᴷ")
_BELOW = str.maketrans("0123456789+-ijklnp", "₀₁₂₃₄₅₆₇₈₉₊₋ᵢⱼₖₗₙₚ")


def write_page(path: str | os.PathLike[str], template: str, **words: str) -> None:
    """Write a page of this folder with words of it replaced."""
    with open(os.path.join(os.path.dirname(__file__), template), encoding="utf-8") as file:
        page = reduce(lambda text, word: text.replace(word, words[word]), words, file.read())
    with replacing(path) as target:
        target.write(page.encode())


class Block(NamedTuple):
    """Rows of text that are set beside others, centred."""

    rows: tuple[str, ...]

    def __add__(self, other: Any) -> Block:
        height = max(len(self.rows), len(other.rows))
        sides = zip(self._grown(height), other._grown(height), strict=True)
        return Block(tuple(map("".join, sides)))

    def _grown(self, height: int) -> list[str]:
        blank = height - len(self.rows)
        rows = [*(blank // 2 * [""]), *self.rows, *((blank + 1) // 2 * [""])]
        return [row.ljust(self.width) for row in rows]

    @property
    def width(self) -> int:
        """The longest row."""
        return max(map(len, self.rows))


class Text(Writer):
    """Unicode: the formula, the shapes under its factors; matrices over several rows."""

    def word(self, text: str) -> Block:
        return Block((text,))

    sign = word

    def indexed(self, base: Block, above: str, below: str) -> Block:
        raised = above if "[" in above else above.translate(_ABOVE)
        return self.word(plain(base) + below.translate(_BELOW) + raised)

    def fraction(self, above: Block, below: Block) -> Block:
        both = (f"({text})" if " " in text else text for text in map(plain, (above, below)))
        return self.word("/".join(both))

    def over(self, what: str) -> Block:
        return self.word("Σ " if what == "points" else f"Σ_{what} ".replace("_i ", "ᵢ "))

    def above(self, piece: Block, shape: str) -> Block:
        shape = _lowered(shape)
        return Block((plain(piece).ljust(len(shape) + 1), shape))

    def turned(self, piece: Block, simple: bool) -> Block:
        return piece + self.word("ᵀ") if simple else self._bracketed(piece) + self.word("ᵀ")

    def operator(self, base: str, piece: Block, rest: str) -> Block:
        return self.word(f"{base}_{plain(piece)} {rest}")

    def matrix(self, M: Array) -> Block:
        rows = cells(M)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = (" ".join(map(str.rjust, row, widths)) for row in rows)
        return Block(tuple(f"[{row}]" for row in aligned))


def plain(piece: Block) -> str:
    """Return the formula of a block, without the shapes below it."""
    return piece.rows[0]


def _lowered(text: str) -> str:
    """Write ``n_{l-1}`` with Unicode's subscripts."""
    return re.sub(r"_\{?([l+\-0-9]+)\}?", lambda index: index[1].translate(_BELOW), text)


# fmt: off
_LATEX = {
    "δ": r"\delta", "Δ": r"\Delta", "σ": r"\sigma", "σ'": r"\sigma'", "σ''": r"\sigma''",
    "∂": r"\partial ", "∂²": r"\partial^{2} ", "∇": r"\nabla", "λ": r"\lambda",
    "diag": r"\operatorname{diag}", "vec": r"\operatorname{vec}", "1/N": r"\tfrac{1}{N}",
    "ᵀ": r"^{\top}", "(": r"\left(", ")": r"\right)", " ⊙ ": r" \odot ", " ⊗ ": r" \otimes ",
    " − ": " - ", " · ": r" \cdot ", "−": "-", " ": r"\,", "⋯": r"\cdots ", "⋮": r"\vdots ",
    "⋱": r"\ddots ",
}
_IN_NAMES = {"∂": r"\partial ", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#"}
# fmt: on


class Latex(Writer):
    """LaTeX, for amsmath."""

    def word(self, text: str) -> str:
        if text in _LATEX:
            return _LATEX[text]
        if len(text) == 1 or text.endswith("'"):
            return text
        if text[0] in "-0123456789":
            return _power(text)
        return rf"\operatorname{{{''.join(_IN_NAMES.get(c, c) for c in text)}}}"

    def sign(self, text: str) -> str:
        return _LATEX.get(text, text)

    def indexed(self, base: str, above: str, below: str) -> str:
        sup = f"^{{{above.replace('−', '-')}}}" if above else ""
        return base + (f"_{{{below}}}" if below else "") + sup

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def over(self, what: str) -> str:
        index, _, rest = ("n" if what == "points" else what).partition(" ∈ ")
        where = rf" \in \mathrm{{{rest}}}" if rest else ""
        return rf"\sum_{{{index}{where}}} "

    def above(self, piece: str, shape: str) -> str:
        under = shape.replace("×", r" \times ")
        return rf"\underset{{\scriptscriptstyle {under}}}{{{piece}}}"

    def turned(self, piece: str, simple: bool) -> str:
        return rf"{{{piece}}}^{{\top}}" if simple else rf"{{\left({piece}\right)}}^{{\top}}"

    def operator(self, base: str, piece: str, rest: str) -> str:
        return rf"{_LATEX.get(base, base)}_{{{piece}}} {rest}"

    def matrix(self, M: Array) -> str:
        body = r" \\ ".join(" & ".join(map(_power, row)) for row in cells(M))
        return rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"


def _power(text: str) -> str:
    if text in _LATEX:
        return _LATEX[text]
    mantissa, e, exponent = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{exponent}}}" if e else text


class MathML(Writer):
    """MathML, as browsers set it."""

    def word(self, text: str) -> str:
        return f"<mi>{escape(text)}</mi>"

    def sign(self, text: str) -> str:
        if text == " ":
            return '<mspace width="0.17em"/>'
        stretch = ' stretchy="false"' if text in "()" else ""
        return f"<mo{stretch}>{escape(text.strip())}</mo>"

    def indexed(self, base: str, above: str, below: str) -> str:
        up, down = (f"<mi>{escape(text)}</mi>" for text in (above, below))
        if above and below:
            return f"<msubsup><mrow>{base}</mrow>{down}{up}</msubsup>"
        if above:
            return f"<msup><mrow>{base}</mrow>{up}</msup>"
        return f"<msub><mrow>{base}</mrow>{down}</msub>" if below else base

    def fraction(self, above: str, below: str) -> str:
        return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"

    def over(self, what: str) -> str:
        return f"<munder><mo>∑</mo><mi>{escape('n' if what == 'points' else what)}</mi></munder>"

    def above(self, piece: str, shape: str) -> str:
        under = f'<mtext class="shape">{_lowered(shape)}</mtext>'
        return f"<munder><mrow>{piece}</mrow>{under}</munder>"

    def turned(self, piece: str, simple: bool) -> str:
        inner = piece if simple else f"<mo>(</mo>{piece}<mo>)</mo>"
        return f"<msup><mrow>{inner}</mrow><mo>⊤</mo></msup>"

    def operator(self, base: str, piece: str, rest: str) -> str:
        return f"<msub><mi>{base}</mi><mrow>{piece}</mrow></msub><mi>{escape(rest)}</mi>"

    def matrix(self, M: Array) -> str:
        rows = "".join(
            "<mtr>" + "".join(f"<mtd><mn>{c}</mn></mtd>".replace("-", "−") for c in row) + "</mtr>"
            for row in cells(M)
        )
        return f"<mrow><mo>[</mo><mtable>{rows}</mtable><mo>]</mo></mrow>"
