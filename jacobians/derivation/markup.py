"""Three ways to set a term: Unicode text, LaTeX, MathML."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from jacobians.derivation.terms import Shape
from jacobians.derivation.writers import Writer

_ABOVE = str.maketrans("0123456789+-−()lLnijkK", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ˡᴸⁿⁱʲᵏᴷ")
_BELOW = str.maketrans("0123456789+-ijklnp", "₀₁₂₃₄₅₆₇₈₉₊₋ᵢⱼₖₗₙₚ")


class Text(Writer):
    """Unicode on two lines: the formula, and the shapes under its factors."""

    def word(self, text: str) -> Any:
        return [(text, "")]

    sign = word

    def indexed(self, base: Any, above: str, below: str = "") -> Any:
        raised = above if "[" in above else above.translate(_ABOVE)
        return [(_text(base) + below.translate(_BELOW) + raised, "")]

    def fraction(self, above: Any, below: Any) -> Any:
        above, below = (_text(piece) for piece in (above, below))
        above, below = (f"({piece})" if " " in piece else piece for piece in (above, below))
        return [(f"{above}/{below}", "")]

    def over(self, what: str) -> Any:
        return [("Σ " if what == "points" else f"Σ_{what} ".replace("_i ", "ᵢ "), "")]

    def shaped(self, piece: Any, shape: Shape | None) -> Any:
        if not self.shapes or shape is None or self.convention.units:
            return piece
        return [(_text(piece), _lowered(short(shape)))]

    def turned(self, piece: Any, simple: bool) -> Any:
        text = _text(piece)
        return [(f"{text}ᵀ" if simple else f"({text})ᵀ", "")]

    def under(self, base: str, piece: Any, rest: str) -> Any:
        return [(f"{base}_{_text(piece)} {rest}", "")]


def _text(piece: Any) -> str:
    return "".join(text for text, _ in piece)


def _lowered(text: str) -> str:
    """Write ``n_{l-1}`` with Unicode's subscripts."""
    return re.sub(r"_\{?([l+\-0-9]+)\}?", lambda found: found[1].translate(_BELOW), text)


def short(shape: Shape) -> str:
    """Write a shape: a column by its length, all others in full."""
    return str(shape[0]) if shape[1] == 1 else f"{shape[0]}×{shape[1]}"


def two_lines(piece: Any) -> list[str]:
    """Set a piece of text: the formula, and the shapes under it."""
    above, below = "", ""
    for text, shape in piece:
        width = max(len(text), len(shape) + 1) if shape else len(text)
        above, below = above + text.ljust(width), below + shape.ljust(width)
    return [above.rstrip(), below.rstrip()] if below.strip() else [above.rstrip()]


_LATEX = {
    **{"δ": r"\delta", "Δ": r"\Delta", "σ": r"\sigma", "σ'": r"\sigma'", "σ''": r"\sigma''"},
    **{
        "∂": r"\partial ",
        "∂²": r"\partial^{2} ",
        "∇": r"\nabla",
        "λ": r"\lambda",
        "diag": r"\operatorname{diag}",
    },
    **{
        "vec": r"\operatorname{vec}",
        "1/N": r"\tfrac{1}{N}",
        "ᵀ": r"^{\top}",
        "(": r"\left(",
        ")": r"\right)",
    },
    **{
        " ⊙ ": r" \odot ",
        " ⊗ ": r" \otimes ",
        " − ": " - ",
        " · ": r" \cdot ",
        "−": "-",
        " ": r"\,",
        "⋯": r"\cdots ",
    },
}


class Latex(Writer):
    """LaTeX, for amsmath."""

    def word(self, text: str) -> str:
        if text in _LATEX:
            return _LATEX[text]
        return (
            text if len(text) == 1 or text.endswith("'") else rf"\operatorname{{{_escaped(text)}}}"
        )

    def sign(self, text: str) -> str:
        return _LATEX.get(text, text)

    def indexed(self, base: Any, above: str, below: str = "") -> str:
        above = above.replace("−", "-")
        sub, sup = f"_{{{below}}}" if below else "", f"^{{{above}}}" if above else ""
        return f"{base}{sub}{sup}"

    def fraction(self, above: Any, below: Any) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def over(self, what: str) -> str:
        what = "n" if what == "points" else what
        index, _, rest = what.partition(" ∈ ")
        where = rf" \in \mathrm{{{rest}}}" if rest else ""
        return rf"\sum_{{{index}{where}}} "

    def shaped(self, piece: Any, shape: Shape | None) -> str:
        if not self.shapes or shape is None or self.convention.units:
            return str(piece)
        under = short(shape).replace("×", r" \times ")
        return rf"\underset{{\scriptscriptstyle {under}}}{{{piece}}}"

    def turned(self, piece: Any, simple: bool) -> str:
        return rf"{{{piece}}}^{{\top}}" if simple else rf"{{\left({piece}\right)}}^{{\top}}"

    def under(self, base: str, piece: Any, rest: str) -> str:
        return rf"{_LATEX.get(base, base)}_{{{piece}}} {rest}"


def _escaped(text: str) -> str:
    """Escape a name for LaTeX, as amsmath sets it."""
    for sign, name in (("∂", r"\partial "), ("_", r"\_"), ("&", r"\&"), ("%", r"\%"), ("#", r"\#")):
        text = text.replace(sign, name)
    return text


class MathML(Writer):
    """MathML, as browsers set it."""

    def word(self, text: str) -> str:
        return f"<mi>{escape(text)}</mi>"

    def sign(self, text: str) -> str:
        if text == " ":
            return '<mspace width="0.17em"/>'
        stretch = ' stretchy="false"' if text in "()" else ""
        return f"<mo{stretch}>{escape(text.strip())}</mo>"

    def indexed(self, base: Any, above: str, below: str = "") -> str:
        up, down = (f"<mi>{escape(text)}</mi>" for text in (above, below))
        if above and below:
            return f"<msubsup><mrow>{base}</mrow>{down}{up}</msubsup>"
        if above:
            return f"<msup><mrow>{base}</mrow>{up}</msup>"
        return f"<msub><mrow>{base}</mrow>{down}</msub>" if below else str(base)

    def fraction(self, above: Any, below: Any) -> str:
        return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"

    def over(self, what: str) -> str:
        what = "n" if what == "points" else what
        return f"<munder><mo>∑</mo><mi>{escape(what)}</mi></munder>"

    def shaped(self, piece: Any, shape: Shape | None) -> str:
        if not self.shapes or shape is None or self.convention.units:
            return str(piece)
        under = f'<mtext class="shape">{_lowered(short(shape))}</mtext>'
        return f"<munder><mrow>{piece}</mrow>{under}</munder>"

    def turned(self, piece: Any, simple: bool) -> str:
        inner = piece if simple else f"<mo>(</mo>{piece}<mo>)</mo>"
        return f"<msup><mrow>{inner}</mrow><mo>⊤</mo></msup>"

    def under(self, base: str, piece: Any, rest: str) -> str:
        return f"<msub><mi>{base}</mi><mrow>{piece}</mrow></msub><mi>{escape(rest)}</mi>"
