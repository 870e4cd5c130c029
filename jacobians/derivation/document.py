"""The derivation of a network as a document: text, LaTeX, a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from html import escape
from typing import Any

from jacobians._checks import Array, as_floats, as_nonnegative, underflow_is_rounding
from jacobians._tables import targets_in_order
from jacobians._writing import replacing
from jacobians.derivation.building import SHOWN, Builder, Line, Section, Shortened
from jacobians.derivation.markup import Block, Latex, MathML, Text, write_page
from jacobians.derivation.notation import Convention, as_convention, entries, laid_out
from jacobians.derivation.rules import Rules
from jacobians.derivation.starts import add_up_to_1
from jacobians.derivation.terms import Apply, Diagonal, Quotient, Symbol, Term, Unvec
from jacobians.derivation.writers import Writer, is_small
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
    """

    title: str
    convention: Convention
    sections: tuple[Section, ...]
    builder: Builder

    @property
    def holds(self) -> bool:
        """Whether every line that was checked holds."""
        return all(line.check.holds for line in self if line.check is not None)

    def __repr__(self) -> str:
        return f"{self.title}, {len(list(self))} lines"

    def __iter__(self) -> Iterator[Line]:
        return (line for section in self.sections for line in section.lines)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write LaTeX to a path that ends in ``.tex``, and a page to any other."""
        (self.to_latex if os.fspath(path).endswith(".tex") else self.to_html)(path)

    # --- formulas -------------------------------------------------------------------------------

    @property
    def _about(self) -> str:
        return f"Convention {self.convention.name}: {self.convention.title}."

    def _reason(self, line: Line) -> str:
        rules = self.builder.rules
        return line.reason + (f" for l = {rules.wrt + 2}..{rules.top - 1}" if line.general else "")

    def _sides(self, line: Line) -> tuple[Term, Term]:
        """Return both sides of a line in the convention."""
        if self.convention.units:
            return entries(line.left, line.right)
        right = line.right.shown() if isinstance(line.right, Shortened) else line.right
        return laid_out(line.left, right, self.convention)

    def _formula(self, line: Line, alphabet: type[Writer]) -> Any:
        return alphabet(self.convention, self.builder.rules).line(*self._sides(line))

    def _numbers(self, line: Line, alphabet: type[Writer]) -> list[Any]:
        """Return the right side with numbers, where they are few, and the result, if there is."""
        if line.value is None:
            return []
        writer = alphabet(self.convention, self.builder.rules, self._values)
        turned = line.left.role in self.convention.transposed
        result = writer.matrix(line.value.T if turned else line.value)
        return [writer.write(self._sides(line)[1]), result] if self._is_few(line) else [result]

    def _values(self, symbol: Symbol) -> Array:
        assert self.builder.evaluation is not None
        number = self.builder.evaluation(symbol).number
        return number.T if symbol.role in self.convention.transposed else number

    def _is_few(self, line: Line) -> bool:
        """Tell whether the right side is worth setting in numbers: not only the result again."""
        right, evaluation = self._sides(line)[1], self.builder.evaluation
        plain = isinstance(right, (Symbol, Diagonal))
        plain |= any(isinstance(part, (Quotient, Apply, Unvec)) for part in right)
        if self.convention.units or plain or evaluation is None or not is_small(right):
            return False
        symbols = [part for part in right if isinstance(part, Symbol)]
        if any(s.role == "⋯" or evaluation(s).number.ndim != 2 for s in symbols):
            return False
        text = Text(self.convention, self.builder.rules, self._values).write(right)
        return bool(text.width <= WIDTH - 30)

    # --- text -----------------------------------------------------------------------------------

    def __str__(self) -> str:
        lines = [self.title, self._about, ""]
        for section in self.sections:
            lines += [section.title, "-" * len(section.title), ""]
            for line in section.lines:
                lines += [*self._text(line), ""]
        return "\n".join(line.rstrip() for line in lines).rstrip()

    def _text(self, line: Line) -> list[str]:
        reason = f"[{self._reason(line)}]"
        shown = [f"  {row}" for row in _wrapped([*self._formula(line, Text).rows])]
        if len(reason) <= WIDTH - max(map(len, shown)) - 3:
            shown[0] = shown[0].ljust(WIDTH - len(reason)) + reason
        else:
            shown.append("      " + reason)
        if numbers := self._numbers(line, Text):
            chains = [reduce(lambda x, y: x + Block((" = ",)) + y, numbers), numbers[-1]]
            lines = [Block(("    = ",)) + chain for chain in chains]
            fitting = [x.rows for x in lines if x.width <= WIDTH]
            shown += fitting[0] if fitting else ["    = a matrix too wide to be shown"]
        return shown if line.check is None else [*shown, f"    {line.check}"]

    # --- LaTeX ----------------------------------------------------------------------------------

    def to_latex(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the derivation as a LaTeX document that needs amsmath alone; write it to a path.

        Parameters
        ----------
        path : path, optional
        """
        parts = [_PREAMBLE, rf"\section*{{{_latex(self.title)}}}", _latex(self._about) + "\n"]
        for section in self.sections:
            parts.append(rf"\subsection*{{{_latex(section.title)}}}")
            parts += map(self._latex_line, section.lines)
        text = "\n".join([*parts, r"\end{document}", ""])
        if path is not None:
            with replacing(path) as file:
                file.write(text.encode())
        return text

    def _latex_line(self, line: Line) -> str:
        equal = "".join(f" = {x}" for x in self._numbers(line, Latex))
        equal = equal and rf"\[{equal} \]" + "\n"
        words = self._reason(line) + (f"; {line.check}" if line.check is not None else "")
        return rf"\[ {self._formula(line, Latex)} \]" + f"\n{equal}{{\\small {_latex(words)}}}\n"

    # --- page -----------------------------------------------------------------------------------

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one page: MathML, no scripts, nothing loaded from elsewhere.

        Parameters
        ----------
        path : path
        """
        write_page(path, "page.html", TITLE=escape(self.title), BODY=self._repr_html_())

    def _repr_html_(self) -> str:
        """Return the body of the page, for notebooks."""
        parts = [f"<h1>{escape(self.title)}</h1>", f"<p>{escape(self._about)}</p>"]
        for section in self.sections:
            lines = map(self._html_line, section.lines)
            parts += [f"<section><h2>{escape(section.title)}</h2>", *lines, "</section>"]
        return "\n".join(parts)

    def _html_line(self, line: Line) -> str:
        equal = "".join(f"<mo>=</mo>{x}" for x in self._numbers(line, MathML))
        equal = equal and f'<math display="block">{equal}</math>'
        check = ""
        if line.check is not None:
            kind = "holds" if line.check.holds else "fails"
            check = f'<p class="check {kind}">{escape(str(line.check))}</p>'
        return (
            f'<div class="line"><math display="block">{self._formula(line, MathML)}</math>{equal}'
            f'<p class="reason">{escape(self._reason(line))}</p>{check}</div>'
        )


def _wrapped(rows: list[str]) -> list[str]:
    """Break a formula and the shapes under it before a sign, where it is wider than the page."""
    rows = [row for row in rows if row.strip()]
    if max(map(len, rows)) <= WIDTH - 4:
        return rows
    above, below = rows[0], (rows[1:] or [""])[0].ljust(len(rows[0]))
    cuts = [above.rfind(sign, 20, WIDTH - 4) for sign in (" + ", " − ", " = ", " ")]
    cut = next((cut for cut in cuts if cut >= 20), None)
    if cut is None:
        return rows
    rest = [("    " + part[cut + 1 :]).rstrip() for part in (above, below)]
    return [above[:cut], below[:cut].rstrip(), *_wrapped(rest)]


_PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath}
\setlength{\parindent}{0pt}\setlength{\textwidth}{17cm}\setlength{\oddsidemargin}{-5mm}
\begin{document}"""
# fmt: off
_IN_WORDS = {
    "\\": r"\textbackslash{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "^": r"\^{}", "|": "$|$", "λ": r"$\lambda$", "ᵀ": r"$^{\top}$", "⊗": r"$\otimes$",
    "∂": r"$\partial$", "²": "$^2$", "σ": r"$\sigma$", "<": "$<$", ">": "$>$", "∇": r"$\nabla$",
}
# fmt: on


def _latex(text: str) -> str:
    """Set plain words in LaTeX, with the few signs of mathematics that reasons use."""
    return "".join(_IN_WORDS.get(sign, sign) for sign in text)


@underflow_is_rounding
def derive(
    net: Network,
    x: Any = None,
    y: Any = None,
    loss: Loss | None = None,
    convention: str | Convention = "columns",
    l2: float = 0.0,
    of: int | str | None = None,
    wrt: int | str = 0,
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
    of, wrt : int or str
        Number or name of the layer that is differentiated, and of that by which: ``da^of/da^wrt``.
        The output and the input unless said; with a loss, the way back ends at ``wrt``.

    Returns
    -------
    Derivation

    Raises
    ------
    ValueError
        If there is no such convention or layer, a target is missing, or a loss meets an ``of``.

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
    top = net.depth if of is None else net.number(of, "derive: of", 1)
    wrt = net.number(wrt, "derive: wrt", 0, top - 1)
    seen = None if x is None else trace(net, x)
    if loss is not None:
        loss = as_loss(loss)
        if (y is None) != (x is None):
            raise ValueError("derive: a loss at a point needs both x and y.")
        if top != net.depth:
            raise ValueError(
                "derive: of: a loss is a function of the output; leave one of them out."
            )
        if seen is not None:
            y = loss.targets(targets_in_order(y, net, "derive: y"), seen.output)
    elif y is not None:
        raise ValueError("derive: y: a target needs a loss.")
    if y is not None:
        y = as_floats(y, "derive: y", dtype=net.dtype)
    points = seen.batch[0] if seen is not None and seen.batch else None
    if points == 0:
        raise ValueError("derive: x: there are no points; leave x out for formulas alone.")
    rules = Rules(net, loss, l2, points, add_up_to_1(y, net.dtype), of=top, wrt=wrt)
    builder = Builder(rules, convention, seen, y)
    return Derivation(_title(rules), convention, tuple(builder.sections()), builder)


def _title(rules: Rules) -> str:
    net = rules.net
    widths = "-".join(map(str, net.widths)) if net.depth <= 2 * SHOWN else f"{net.depth} layers"
    names = [str(layer.activation) for layer in net.layers]
    named = ", ".join(names) if len(names) <= SHOWN else f"{names[0]}, ..., {names[-1]}"
    ends = rules.top != net.depth or rules.wrt
    between = f"; layer {rules.top} by layer {rules.wrt}" if ends else ""
    mean = f"; mean over {rules.points} points" if rules.points is not None else ""
    return f"Derivation of a network {widths}: {named}{between}{mean}"
