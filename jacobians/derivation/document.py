"""The derivation of a network as a document: text, LaTeX, a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from jacobians._checks import Array, as_floats, as_nonnegative, underflow_is_rounding
from jacobians._writing import replacing
from jacobians.derivation.building import SHOWN, Builder, Line, Section, Shortened
from jacobians.derivation.markup import Latex, MathML, Text, two_lines
from jacobians.derivation.notation import Convention, as_convention, entries, laid_out
from jacobians.derivation.numbers import (
    Block,
    LatexNumbers,
    MathMLNumbers,
    TextNumbers,
    block,
    is_small,
)
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Apply, Diagonal, Product, Quotient, Symbol, Term, Unvec
from jacobians.derivation.writers import Writer
from jacobians.losses import Loss, as_loss
from jacobians.network import Network, as_network
from jacobians.tracing import trace

WIDTH = 100


@dataclass(frozen=True, eq=False, repr=False)
class Derivation:
    """The derivation of one network; ``print`` it, or write it as LaTeX or as a page.

    Attributes
    ----------
    title : str
    convention : Convention
    sections : tuple of Section
        Each line a formula, its reason, and at a point its value and its check.
    depth : int
    """

    title: str
    convention: Convention
    sections: tuple[Section, ...]
    depth: int
    builder: Builder

    @property
    def holds(self) -> bool:
        """Whether every line that was checked holds."""
        return all(line.check.holds for line in self if line.check is not None)

    def __repr__(self) -> str:
        return f"{self.title}, {len(list(self))} lines"

    def __iter__(self) -> Iterator[Line]:
        return (line for section in self.sections for line in section.lines)

    # --- formulas -------------------------------------------------------------------------------

    def _sides(self, line: Line) -> tuple[Term, Term]:
        """Return both sides of a line in the convention."""
        right = line.right
        if self.convention.units:
            return entries(line.left, right)
        if isinstance(right, Shortened):
            dots = Symbol("⋯", None, (1, 1))
            shown = right.shown
            right = Product((*shown[: len(shown) // 2], dots, *shown[len(shown) // 2 :]))
        return laid_out(line.left, right, self.convention)

    def _values(self, symbol: Symbol) -> Array:
        evaluation = self.builder.evaluation
        assert evaluation is not None
        number = evaluation.at(symbol.key).number
        return number.T if symbol.role in self.convention.transposed else number

    def _value(self, line: Line) -> Array | None:
        if line.value is None:
            return None
        return line.value.T if line.left.role in self.convention.transposed else line.value

    def _substituted(self, line: Line, writer: type[Any]) -> Any:
        """Return the right side with numbers, where they are few and not only the result."""
        evaluation, right = self.builder.evaluation, self._sides(line)[1]
        plain = any(isinstance(p, (Quotient, Apply, Unvec)) for p in right)
        plain |= isinstance(right, (Symbol, Diagonal))  # the numbers are the result already
        if self.convention.units or line.value is None or plain or not is_small(right):
            return None
        if evaluation is None or isinstance(line.right, Shortened):
            return None
        symbols = [part for part in right if isinstance(part, Symbol)]
        if any(evaluation.at(symbol.key).number.ndim != 2 for symbol in symbols):
            return None
        if TextNumbers(self.convention, self.depth, self._values).write(right).width > WIDTH - 30:
            return None
        return writer(self.convention, self.depth, self._values).write(right)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write LaTeX to a path that ends in ``.tex``, and a page to any other."""
        if os.fspath(path).endswith(".tex"):
            self.to_latex(path)
        else:
            self.to_html(path)

    # --- text -----------------------------------------------------------------------------------

    def __str__(self) -> str:
        lines = [self.title, f"Convention {self.convention.name}: {self.convention.title}.", ""]
        for section in self.sections:
            lines += [section.title, "-" * len(section.title), ""]
            for line in section.lines:
                lines += [*self._text(line), ""]
        return "\n".join(line.rstrip() for line in lines).rstrip()

    def _text(self, line: Line) -> list[str]:
        left, right = self._sides(line)
        formula = two_lines(Text(self.convention, self.depth).line(left, right))
        reason = f"[{line.reason}]" + (f"   for l = 2..{self.depth - 1}" if line.general else "")
        shown = [f"  {text}" for text in _wrapped(formula)]
        space = WIDTH - max(map(len, shown)) - 3
        if len(reason) <= space:
            shown[0] = shown[0].ljust(WIDTH - len(reason)) + reason
        else:
            shown.append("      " + reason)
        value = self._value(line)
        if value is not None:
            result = Block(["    = "]) + block(value)
            numbers = self._substituted(line, TextNumbers)
            if numbers is not None:
                both = Block(["    = "]) + numbers + Block([" = "]) + block(value)
                result = both if both.width <= WIDTH else result
            shown += result.lines if result.width <= WIDTH else [f"    = a matrix {value.shape}"]
        if line.check is not None:
            shown.append(f"    {line.check}")
        return shown

    # --- LaTeX ----------------------------------------------------------------------------------

    def to_latex(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the derivation as a LaTeX document that needs amsmath alone; write it to a path.

        Parameters
        ----------
        path : path, optional
        """
        head = r"\documentclass{article}" + "\n" + r"\usepackage{amsmath}" + "\n"
        # shapes stand under their factors, so lines stand apart
        head += r"\setlength{\parindent}{0pt}\setlength{\textwidth}{17cm}"
        head += r"\setlength{\oddsidemargin}{-5mm}"
        parts = [head + "\n" + r"\begin{document}", rf"\section*{{{_latex(self.title)}}}"]
        parts.append(_latex(f"Convention {self.convention.name}: {self.convention.title}.") + "\n")
        writer = Latex(self.convention, self.depth)
        for section in self.sections:
            parts.append(rf"\subsection*{{{_latex(section.title)}}}")
            for line in section.lines:
                parts += self._latex_line(line, writer)
        text = "\n".join([*parts, r"\end{document}", ""])
        if path is not None:
            with replacing(path) as file:
                file.write(text.encode())
        return text

    def _latex_line(self, line: Line, writer: Writer) -> Iterator[str]:
        reason = f" for $l = 2, \\dots, {self.depth - 1}$" if line.general else ""
        yield rf"\[ {writer.line(*self._sides(line))} \]"
        value = self._value(line)
        if value is not None:
            result = LatexNumbers(self.convention, self.depth, self._values).matrix(value)
            numbers = self._substituted(line, LatexNumbers)
            yield rf"\[ = {numbers} = {result} \]" if numbers else rf"\[ = {result} \]"
        check = f"; {_latex(str(line.check))}" if line.check is not None else ""
        yield rf"{{\small {_latex(line.reason)}{reason}{check}}}" + "\n"

    # --- page -----------------------------------------------------------------------------------

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one page: MathML, no scripts, nothing loaded from elsewhere.

        Parameters
        ----------
        path : path
        """
        page = _PAGE.replace("TITLE", escape(self.title)).replace("BODY", self._repr_html_())
        with replacing(path) as file:
            file.write(page.encode())

    def _repr_html_(self) -> str:
        """Return the body of the page, for notebooks."""
        parts = [f"<h1>{escape(self.title)}</h1>"]
        about = f"Convention {self.convention.name}: {self.convention.title}."
        parts.append(f"<p>{escape(about)}</p>")
        for section in self.sections:
            parts.append(f"<section><h2>{escape(section.title)}</h2>")
            parts += [self._html_line(line) for line in section.lines]
            parts.append("</section>")
        return "\n".join(parts)

    def _html_line(self, line: Line) -> str:
        formula = MathML(self.convention, self.depth).line(*self._sides(line))
        reason = line.reason + (f" (l = 2..{self.depth - 1})" if line.general else "")
        value, numbers = self._value(line), ""
        if value is not None:
            result = MathMLNumbers(self.convention, self.depth, self._values).matrix(value)
            given = self._substituted(line, MathMLNumbers)
            body = f"{given}<mo>=</mo>{result}" if given else result
            numbers = f'<math display="block"><mo>=</mo>{body}</math>'
        check = ""
        if line.check is not None:
            kind = "holds" if line.check.holds else "fails"
            check = f'<p class="check {kind}">{escape(str(line.check))}</p>'
        return (
            f'<div class="line"><math display="block">{formula}</math>{numbers}'
            f'<p class="reason">{escape(reason)}</p>{check}</div>'
        )


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title><style>
body { font: 16px/1.5 Georgia, serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; border-bottom: 1px solid #ccc }
.line { margin: 1.2rem 0; overflow-x: auto; break-inside: avoid }
math { font-size: 1.15em } math[display=block] { width: max-content; margin: .3rem 0 .3rem 1rem }
mtable { text-align: right } .shape { font-size: .6em; color: #777 }
.reason { margin: .2rem 0 0 1rem; font-style: italic; color: #444 }
.check { margin: 0 0 0 1rem; font-size: .85rem } .holds { color: #2a6b2a } .fails { color: #b00 }
@media print { body { margin: 0; max-width: none } .line { overflow: visible } }
</style></head><body>
BODY
</body></html>
"""


def _wrapped(lines: list[str]) -> list[str]:
    """Break a formula and the shapes under it before a sign, where it is wider than the page."""
    if max(map(len, lines)) <= WIDTH - 4:
        return lines
    above, below = lines[0], (lines[1:] or [""])[0].ljust(len(lines[0]))
    cuts = [above.rfind(sign, 20, WIDTH - 4) for sign in (" + ", " − ", " = ", " ")]
    cut = next((cut for cut in cuts if cut >= 20), None)
    if cut is None:
        return lines
    rest = [("    " + part[cut + 1 :]).rstrip() for part in (above, below)]
    return [above[:cut], below[:cut].rstrip(), *_wrapped([text for text in rest if text])]


def _latex(text: str) -> str:
    """Set plain words in LaTeX, with the few signs of mathematics that reasons use."""
    signs = {
        **{"\\": r"\textbackslash{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$"},
        **{"^": r"\^{}", "|": "$|$", "λ": r"$\lambda$", "ᵀ": r"$^{\top}$", "⊗": r"$\otimes$"},
        **{
            "∂": r"$\partial$",
            "²": "$^2$",
            "σ": r"$\sigma$",
            "<": "$<$",
            ">": "$>$",
            "∇": r"$\nabla$",
        },
    }
    return "".join(signs.get(sign, sign) for sign in text)


@underflow_is_rounding
def derive(
    net: Network,
    x: Any = None,
    y: Any = None,
    loss: Loss | None = None,
    convention: str | Convention = "columns",
    l2: float = 0.0,
) -> Derivation:
    """Write the derivation of a network, line by line, every line checked.

    Forward pass, slopes, the chain and its product; with a loss the errors and the gradients, else
    the Jacobians of the parameters; the Hessian of a single output.  At a point every line has its
    numbers, and is checked against another computation of the library.  Of a chain of more than
    four layers the first, the general and the last line are shown.

    Parameters
    ----------
    net : Network
    x : array, shape (n_0,) or (N, n_0), optional
        A point, or a data set; without it the lines are formulas alone.
    y : array, optional
        Targets, as the loss takes them; with a loss and an x they are needed.
    loss : Loss, optional
    convention : str or Convention
        ``"columns"``, or that of a document, ``"000"`` to ``"004"``.
    l2 : float
        The penalty is ``l2/2`` times the sum of all squared weights.

    Returns
    -------
    Derivation

    Raises
    ------
    ValueError
        If there is no such convention, or a target is missing.

    >>> from jacobians.layers import Dense
    >>> net = Network([Dense([[1, 2], [0, 1]], activation="square"), Dense([[1, -1]])])
    >>> derivation = derive(net, [1.0, 2.0])
    >>> derivation.holds
    True
    >>> print(str(derivation).splitlines()[0])
    Derivation of a network 2-2-1: square, identity
    """
    net, convention = as_network(net, "derive"), as_convention(convention)
    l2 = as_nonnegative(l2, "derive: l2")
    seen = None if x is None else trace(net, x)
    summed = True
    if loss is not None:
        loss = as_loss(loss)
        if (y is None) != (x is None):
            raise ValueError("derive: a loss at a point needs both x and y.")
        if seen is not None:
            y = loss.targets(y, seen.output)
            summed = bool((np.abs(np.sum(y, axis=-1) - 1) < 1e-6).all())
    elif y is not None:
        raise ValueError("derive: y: a target needs a loss.")
    if y is not None:
        y = as_floats(y, "derive: y", dtype=net.dtype)
    points = seen.batch[0] if seen is not None and seen.batch else None
    rules = Rules(net, loss, l2, points, summed)
    builder = Builder(rules, convention, seen, y)
    widths = "-".join(map(str, net.widths)) if net.depth <= 2 * SHOWN else f"{net.depth} layers"
    names = [str(layer.activation) for layer in net.layers]
    named = ", ".join(names) if len(names) <= SHOWN else f"{names[0]}, ..., {names[-1]}"
    title = f"Derivation of a network {widths}: {named}"
    if points is not None:
        title += f"; mean over {points} points"
    return Derivation(title, convention, tuple(builder.sections()), net.depth, builder)
