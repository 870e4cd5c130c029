"""From rules to a document: which lines are shown, and why they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import Activation
from jacobians.derivation.checks import Check, References
from jacobians.derivation.evaluation import Evaluation, exact, given
from jacobians.derivation.notation import Convention
from jacobians.derivation.rules import Rules
from jacobians.derivation.starts import has_formula, sums_classes
from jacobians.derivation.terms import (
    Apply,
    Diagonal,
    Function,
    Hadamard,
    Product,
    Rounding,
    Symbol,
    Term,
    Transpose,
    Value,
    matmul,
    total,
)
from jacobians.tracing import Trace

SHOWN = 4  # layers that are written out; of a longer chain the first, the general, the last
_LARGEST = 2**20  # numbers in a line that are computed


@dataclass(frozen=True, eq=False)
class Line:
    """One line: ``left = right``, the reason, its value and its check where there is a point."""

    left: Symbol
    right: Term
    reason: str
    value: Array | None = None
    check: Check | None = None
    general: bool = False  # holds for every layer that is not shown


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and its lines."""

    title: str
    lines: tuple[Line, ...]


class Builder:
    """Makes the sections of a derivation for one network, at a point or without one."""

    def __init__(
        self, rules: Rules, convention: Convention, seen: Trace | None, y: Array | None
    ) -> None:
        self.rules, self.convention, self.seen, self.y = rules, convention, seen, y
        self.references = None if seen is None else References(rules, seen, y)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The values of all lines: the bounds are those of products of the factors seen."""
        if self.seen is None:
            return None
        start = given(self.rules, self.seen.activations[0], self.y, self.seen)
        for l in range(1, self.rules.top + 1):
            f, z = self.rules.activation(l), self.seen.preactivations[l - 1]
            columns = {"z": z, "a": self.seen.activations[l]}
            if isinstance(f, Activation):
                columns["s"] = f.derivative(z)
            start |= {(role, l): exact(x[..., None]) for role, x in columns.items()}
        return Evaluation(self.rules, start, Rounding.of(self.rules.net.dtype))

    @cached_property
    def shown(self) -> list[Any]:
        """The layers that are written out; the letter l stands for those between."""
        rules, first, last = self.rules, self.rules.wrt + 1, self.rules.top
        alike = all(rules.is_dense(l) and rules.is_elementwise(l) for l in range(first + 1, last))
        if last - first < SHOWN or not alike or not rules.net_is_path():
            return list(range(first, last + 1))
        return [first, "l", last]

    @property
    def short(self) -> bool:
        """Whether every layer is written out."""
        return self.rules.top - self.rules.wrt <= SHOWN

    def line(self, left: Symbol, right: Term, reason: str) -> Line:
        """Make a line, evaluate it and check it."""
        line = Line(left, right, reason, general=isinstance(left.layer, str))
        if self.evaluation is None or self.references is None or line.general:
            return line
        if prod(left.shape) * (self.rules.points or 1) > _LARGEST:
            return line
        try:
            with np.errstate(all="ignore"):
                value = right.evaluate(self.evaluation, self.evaluation.rounding)
        except (ValueError, KeyError, MemoryError):  # a factor too large to be written out
            return line
        number = value.number if value.number.ndim == 2 else None
        return replace(line, value=number, check=self.references.check(left, value))

    def rule(self, role: str, l: Any, reason: str) -> Line:
        """Make the line of a quantity that the rules have a line for."""
        return self.line(self.rules.symbol(role, l), getattr(self.rules, role)(l), reason)

    # --- sections -------------------------------------------------------------------------------

    def sections(self) -> Iterator[Section]:
        """Make all sections that have lines."""
        sections = {"Forward pass": self._forward, "Slopes": self._slopes, "The chain": self._chain}
        if self.rules.loss is not None:
            sections |= {"Errors": self._errors, "Gradients": self._gradients}
        else:
            sections |= {"Parameters": self._parameters}
        for title, lines in {**sections, "The Hessian": self._hessian}.items():
            if made := tuple(lines()):
                yield Section(title, made)

    def _forward(self) -> Iterator[Line]:
        rules = self.rules
        for l in self.shown:
            about = "the layer"
            if not rules.is_dense(l):
                about = f"{rules.net.layers[l - 1]}, node {rules.net.names[l]}"
            yield self.rule("z", l, about)
            every = isinstance(l, str)
            named = "the activation of every layer" if every else str(rules.activation(l))
            yield self.rule("a", l, named)

    def _slopes(self) -> Iterator[Line]:
        for l in self.shown:
            f = self.rules.activation(l)
            if self.convention.units and self.rules.is_elementwise(l):
                yield self.rule("s", l, f"slope of {f}")
            elif self.rules.is_elementwise(l):
                yield self.rule("D", l, "entry by entry, so D is diagonal")
            else:
                yield self.rule("D", l, f"{f} acts on the whole vector")

    def _chain(self) -> Iterator[Line]:
        rules = self.rules
        for l in self.shown:
            M = rules.matrix(l)
            if isinstance(M, Symbol) and not rules.is_dense(l):
                yield self.line(M, M, f"{rules.net.layers[l - 1]} as a matrix")
        for l in self.shown:
            if isinstance(l, str) or l in rules.moving:
                first = l == rules.wrt + 1
                yield self.rule("J", l, "chain rule" if first else "chain rule, layer by layer")
        if not self.convention.units and rules.net_is_path():
            H = "" if rules.top < rules.net.depth else ", with H(x) the output"
            line = self.rule("Jx", None, f"all of it{H}: identity 5")
            yield line if self.short else replace(line, right=Shortened(*line.right.operands))

    def _errors(self) -> Iterator[Line]:
        rules, loss, L = self.rules, self.rules.loss, self.rules.top
        last = "chain rule" + ", D is symmetric" * rules.is_elementwise(L)
        if rules.is_fused() and not has_formula(loss, rules.activation(L)):
            last = f"{loss} and {rules.activation(L)} in one step"
        elif rules.is_fused():
            c = rules.symbol("c", None)
            yield Line(c, rules.c(), f"derivative of {loss}")
            yield Line(rules.symbol("delta", L), rules.through(L, c), "chain rule")
            last = f"{loss} and {rules.activation(L)} cancel"
            if sums_classes(loss) and rules.summed:
                last += ", since the entries of y add up to 1"
        else:
            yield self.rule("c", None, f"derivative of {loss}")
        for l in filter(self._is_read, reversed(self.shown)):
            yield self.rule("delta", l, last if l == L else "back through W and D, identity 7")

    def _is_read(self, l: Any) -> bool:
        """Tell whether the output depends on a layer; on every layer, where ``l`` is a letter."""
        return isinstance(l, str) or l == self.rules.top or bool(self.rules.readers(l))

    def _gradients(self) -> Iterator[Line]:
        rules, roads = self.rules, self.convention.roads
        outer = "only row i of W reaches z_i: an outer product, identity 8"
        outer = "mean over the points, identity 8" if rules.points is not None else outer
        penalty = f"; the penalty is λ/2 |W|², λ = {rules.l2:g}" if rules.l2 else ""
        for l in reversed(self.shown):
            if not rules.is_dense(l):
                for name, (left, right) in rules.other_parameters(l).items():
                    yield self.line(left, right, f"chain rule on vec({name})")
                continue
            whole = rules.points is None
            if "vec" in roads and whole and (l == rules.top or "outer" not in roads):
                z, dW = rules.symbol("z", l), rules.symbol("dW", l)
                yield Line(z, rules.z_by_vec(l), "vec(A X B) = (Bᵀ ⊗ A) vec(X), identity 2")
                road = "chain rule on vec(W), cut into columns again"
                yield self.line(dW, rules.dW_by_vec(l), road)
            if "outer" in roads or not whole:
                yield self.rule("dW", l, outer + penalty)
            if rules.has_bias(l):
                yield self.rule("db", l, "∂z/∂b is the identity")
        if not self.convention.units or rules.points is None:
            start = "the input" if not rules.wrt else f"layer {rules.wrt}"
            yield self.rule("dx", rules.wrt, f"back to {start}")

    def _parameters(self) -> Iterator[Line]:
        if self.convention.units:
            return
        for l in filter(self._is_read, reversed(self.shown)):
            if self.rules.is_dense(l):
                yield self.rule("P", l, "from the output inwards; by b it is the same")
                yield self.rule("JW", l, "the mixed product, identities 3 and 4")

    def _hessian(self) -> Iterator[Line]:
        """Second derivatives of one output, where every activation has sigma''."""
        rules, layers = self.rules, range(self.rules.wrt + 1, self.rules.top + 1)
        curved = [rules.activation(l) for l in layers]
        simple = all(isinstance(f, Activation) and f.sigma_second is not None for f in curved)
        whole = rules.top == rules.net.depth and not self.convention.units and self.short
        if not (whole and simple and rules.width(None) == 1 and rules.width(rules.wrt) <= 16):
            return
        if not (rules.net_is_path() and all(map(rules.is_dense, layers))):
            return
        terms = []
        for l, f in zip(layers, curved, strict=True):
            below = (rules.symbol("J", l - 1),) if l - 1 > rules.wrt else ()
            Z = matmul(rules.symbol("W", l), *below)
            bent = Apply(rules.symbol("z", l), about=Function("σ''", _second(f)))
            back = Transpose(rules.from_output(l))
            weight = Diagonal(bent if l == rules.top else Hadamard(bent, back))
            terms.append(Product(Transpose(Z), weight, Z))
        reason = "each layer bends once: chain rule on D^l"
        yield self.line(rules.symbol("HH", None), total(*terms), reason)


class Shortened(Product):
    """A long product, of which the first and last factors are shown."""

    def shown(self) -> Product:
        """Return what is shown, with dots between."""
        return Product(*self.operands[:4], Symbol("⋯", None, (1, 1)), *self.operands[-4:])


def _second(activation: Any) -> Any:
    """Return ``sigma''`` as a function of a column ``z``."""

    def call(z: Value, rounding: Rounding) -> Value:
        s = activation.second_derivative(z.number)
        return Value(s, 16 * rounding.unit * (1 + np.abs(s)))

    return call
