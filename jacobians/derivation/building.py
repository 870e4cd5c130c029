"""From rules to a document: which lines are shown, why they hold, and how each is checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians import backprop, explicit
from jacobians._checks import Array, TooLargeError
from jacobians.activations import Activation
from jacobians.derivation.checks import Check, checked, second, second_differences
from jacobians.derivation.evaluation import Evaluation, given
from jacobians.derivation.notation import Convention
from jacobians.derivation.rules import Rules, matmul, shifted, total
from jacobians.derivation.terms import (
    Apply,
    Diagonal,
    Function,
    Hadamard,
    Product,
    Rounding,
    Sum,
    Symbol,
    Term,
    Transpose,
    Value,
)
from jacobians.gradients import Gradients
from jacobians.linearization import linearize
from jacobians.losses import CrossEntropy
from jacobians.tracing import Trace
from jacobians.vectorization import vec

SHOWN = 4  # layers that are written out; of a longer chain the first, the general, the last


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
        self.L = rules.net.depth
        self.rounding = Rounding.of(rules.net.dtype)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The values of all lines."""
        if self.seen is None:
            return None
        start = given(self.rules, self.seen.activations[0], self.y)
        for l in range(1, self.L + 1):  # the bounds are those of products of the factors seen
            f = self.rules.activation(l)
            z, a = (
                x[l - 1 + i][..., None]
                for i, x in enumerate((self.seen.preactivations, self.seen.activations))
            )
            start["z", l], start["a", l] = (
                Value(x.astype(np.float64), np.zeros(x.shape)) for x in (z, a)
            )
            if isinstance(f, Activation):
                s = f.derivative(self.seen.preactivations[l - 1])[..., None].astype(np.float64)
                start["s", l] = Value(s, np.zeros_like(s))
        return Evaluation(self.rules.lines(), start, self.rounding)

    @cached_property
    def gradients(self) -> Gradients:
        """The gradients by the reverse sweep, as a second computation."""
        assert self.seen is not None
        assert self.rules.loss is not None
        x, loss, l2 = self.seen.activations[0], self.rules.loss, self.rules.l2
        return backprop.gradients(self.rules.net, x, self.y, loss, l2, kernels=False)

    def layers(self) -> list[Any]:
        """Return the layers that are shown; the letter l stands for those between."""
        if self.L <= SHOWN:
            return list(range(1, self.L + 1))
        middle = all(
            self.rules.is_dense(l) and isinstance(self.rules.activation(l), Activation)
            for l in range(2, self.L)
        )
        return (
            [1, "l", self.L] if middle and self.rules.net_is_path() else list(range(1, self.L + 1))
        )

    def line(
        self, left: Symbol, right: Term, reason: str, reference: tuple[str, Any] | None = None
    ) -> Line:
        """Make a line, evaluate it and check it."""
        general = isinstance(left.layer, str)
        if self.evaluation is None or general:
            return Line(left, right, reason, general=general)
        try:
            with np.errstate(all="ignore"):
                value = right.evaluate(self.evaluation, self.rounding)
        except (ValueError, KeyError, MemoryError):  # a factor too large to be written out
            return Line(left, right, reason)
        check = None if reference is None else checked(value, *reference)
        number = value.number
        return Line(left, right, reason, number if number.ndim == 2 else None, check, general)

    # --- sections -------------------------------------------------------------------------------

    def sections(self) -> Iterator[Section]:
        """Make all sections."""
        yield Section("Forward pass", tuple(self._forward()))
        yield Section("Slopes", tuple(self._slopes()))
        yield Section("The chain", tuple(self._chain()))
        if self.rules.loss is not None:
            yield Section("Errors", tuple(self._errors()))
            yield Section("Gradients", tuple(self._gradients()))
        else:
            yield Section("Parameters", tuple(self._parameters()))
        hessian = tuple(self._hessian())
        if hessian:
            yield Section("The Hessian", hessian)

    def _forward(self) -> Iterator[Line]:
        for l in self.layers():
            s = self.rules.symbol
            seen = self.seen if not isinstance(l, str) else None
            if self.rules.is_dense(l):
                reason = "the layer"
            else:
                reason = f"{self.rules.net.layers[l - 1]}, node {self.rules.net.names[l]}"
            z = None if seen is None else ("forward pass", seen.preactivation(l))
            yield self.line(s("z", l), self.rules.z(l), reason, z)
            named = (
                "the activation of every layer"
                if isinstance(l, str)
                else str(self.rules.activation(l))
            )
            a = None if seen is None else ("forward pass", seen.activation(l))
            yield self.line(s("a", l), self.rules.a(l), named, a)

    def _slopes(self) -> Iterator[Line]:
        for l in self.layers():
            reason = "entry by entry, so D is diagonal"
            if not isinstance(l, str) and not isinstance(self.rules.activation(l), Activation):
                reason = f"{self.rules.activation(l)} acts on the whole vector"
            D = None
            if self._one_point and not isinstance(l, str) and self._fits(l):
                D = ("explicit", explicit.activation_jacobian(self.seen, l))  # type: ignore[arg-type]
            if self.convention.units:
                slope = f"slope of {self.rules.activation(l)}"
                s = Symbol("s", l, (self.rules.width(l), 1))
                yield self.line(s, self.rules.s(l), slope)
                continue
            yield self.line(self.rules.symbol("D", l), self.rules.D(l), reason, D)

    def _fits(self, l: int) -> bool:
        return self.rules.net.widths[l] <= 512

    @property
    def _one_point(self) -> bool:
        return self.seen is not None and not self.seen.batch

    def _chain(self) -> Iterator[Line]:
        for l in self.layers():
            M = None if self.rules.is_dense(l) else self.rules.matrix(l)
            if isinstance(M, Symbol):
                yield self.line(M, M, f"{self.rules.net.layers[l - 1]} as a matrix")
        for l in self.layers():
            reason = "chain rule" if l == 1 else "chain rule, layer by layer"
            J = None
            if self._one_point and not isinstance(l, str):
                J = self._explicit_jacobian(l)
            yield self.line(self.rules.symbol("J", l), self.rules.J(l), reason, J)
        if not self.convention.units and self.rules.net_is_path():
            last, first = self.rules.width(self.L), self.rules.width(0)
            left = Symbol("Jx", None, (last, first))
            check = None
            if self.seen is not None:
                check = ("maps", linearize(self.rules.net, self.seen).jacobian())
            yield self.line(
                left, self._product(), "all of it, with H(x) the output: identity 5", check
            )

    def _explicit_jacobian(self, l: int) -> tuple[str, Array] | None:
        assert self.seen is not None
        try:
            return "explicit", explicit.input_jacobian(self.seen, of=l)
        except TooLargeError:
            return None

    def _product(self) -> Term:
        """The chain, with dots if it is long; evaluated in full either way."""
        top = self.rules.chain(self.L)
        if self.L <= SHOWN:
            return top
        assert isinstance(top, Product)
        return Shortened(top.factors, (*top.factors[:4], *top.factors[-4:]))

    def _errors(self) -> Iterator[Line]:
        s, L, rules = self.rules.symbol, self.L, self.rules
        loss = rules.loss
        assert loss is not None
        seen, y = self.seen, self.y
        c = None
        if seen is not None and not rules.is_fused():
            c = (str(loss), loss.cotangent(seen.output, y))  # type: ignore[arg-type]
        if not rules.is_fused():
            yield self.line(s("c", None), rules.c(), f"derivative of {loss}", c)
        else:
            yield Line(s("c", None), rules.c(), f"derivative of {loss}")
            yield Line(s("delta", L), rules.through(L, s("c", None)), "chain rule")
        points = rules.points or 1
        for l in reversed(self.layers()):
            delta = None
            if seen is not None and not isinstance(l, str):
                delta = ("backprop", points * self.gradients.deltas[l - 1])
            if l == L:
                reason = "chain rule, D is symmetric"
                if rules.is_fused():
                    reason = f"{loss} and {rules.activation(L)} cancel"
                    if isinstance(loss, CrossEntropy) and rules.summed:
                        reason += ", since the entries of y add up to 1"
            else:
                reason = "back through W and D, identity 7"
            yield self.line(s("delta", l), rules.delta(l), reason, delta)

    def _gradients(self) -> Iterator[Line]:
        s, rules = self.rules.symbol, self.rules
        roads = self.convention.roads
        for l in reversed(self.layers()):
            if not rules.is_dense(l):
                for name, (left, right) in rules.other_parameters(l).items():
                    g = None
                    if self.seen is not None:
                        array = self.gradients.parameters[l - 1][name]
                        g = ("backprop", vec(array.reshape(len(array), -1)))
                    yield self.line(left, right, f"chain rule on vec({name})", g)
                continue
            number = not isinstance(l, str) and self.seen is not None
            dW = ("backprop", self.gradients.weights[l - 1]) if number else None
            db = ("backprop", self.gradients.biases[l - 1]) if number else None
            if "vec" in roads and rules.points is None and (l == self.L or "outer" not in roads):
                yield Line(
                    s("z", l),
                    Sum((rules.z_by_vec(l), s("b", l))),
                    "vec(A X B) = (Bᵀ ⊗ A) vec(X), identity 2",
                )
                road = rules.dW_by_vec(l)
                if rules.l2:
                    road = Sum((road, rules.penalty(l)))
                yield self.line(
                    s("dW", l), road, "chain rule on vec(W), cut into columns again", dW
                )
            if "outer" in roads or rules.points is not None:
                reason = "only row i of W reaches z_i: an outer product, identity 8"
                if rules.points is not None:
                    reason = "mean over the points, identity 8"
                if rules.l2:
                    reason += f"; the penalty is λ/2 |W|², λ = {rules.l2:g}"
                yield self.line(s("dW", l), rules.dW(l), reason, dW)
            yield self.line(s("db", l), rules.db(l), "∂z/∂b is the identity", db)
        x = ("backprop", self.gradients.inputs) if self.seen is not None else None
        if not self.convention.units or rules.points is None:
            yield self.line(s("dx", 0), rules.of_mean(rules.cotangent(0)), "back to the input", x)

    def _parameters(self) -> Iterator[Line]:
        s, rules = self.rules.symbol, self.rules
        if self.convention.units:
            return
        for l in reversed(self.layers()):
            if not rules.is_dense(l):
                continue
            P = None
            if self._one_point and not isinstance(l, str) and self._fits(l):
                P = ("explicit", explicit.bias_jacobian(self.seen, l))  # type: ignore[arg-type]
            yield self.line(s("P", l), rules.P(l), "from the output inwards; this is ∂H/∂b too", P)
            JW = None
            small = not isinstance(l, str) and rules.width(l) * rules.width(shifted(l, -1)) <= 4096
            if self._one_point and small:
                JW = ("explicit", explicit.weight_jacobian(self.seen, l))  # type: ignore[arg-type]
            if small or isinstance(l, str):
                yield self.line(
                    s("JW", l), rules.JW(l), "the mixed product, identities 3 and 4", JW
                )

    def _hessian(self) -> Iterator[Line]:
        """Second derivatives of one output, where every activation has sigma''."""
        rules, L = self.rules, self.L
        curved = [rules.activation(l) for l in range(1, L + 1)]
        simple = all(isinstance(f, Activation) and f.sigma_second is not None for f in curved)
        dense = all(rules.is_dense(l) for l in range(1, L + 1))
        small = rules.width(L) == 1 and L <= SHOWN and rules.width(0) <= 16
        if not (simple and dense and small and rules.net_is_path()) or self.convention.units:
            return
        n, terms = rules.width(0), []
        for l in range(1, L + 1):
            f = rules.activation(l)
            assert isinstance(f, Activation)
            below = (rules.symbol("J", l - 1),) if l > 1 else ()
            Z = matmul(rules.symbol("W", l), *below)
            curved_z = Apply(Function("σ''", second(f)), (rules.symbol("z", l),))
            back = Transpose(rules.from_output(l))
            weight = Diagonal(curved_z if l == L else Hadamard(curved_z, back))
            terms.append(Product((Transpose(Z), weight, Z)))
        reference = None
        if self._one_point:
            assert self.seen is not None
            reference = ("differences of the Jacobian", second_differences(rules.net, self.seen))
        left = Symbol("HH", None, (n, n))
        line = self.line(left, total(*terms), "each layer bends once: chain rule on D^l")
        if reference is not None and line.value is not None:
            off = float(np.abs(line.value - reference[1]).max())
            size = 1 + float(np.abs(line.value).max())
            check = Check(reference[0], off, 1e-5 * size, size, evidence=True)
            line = Line(line.left, line.right, line.reason, line.value, check)
        yield line


@dataclass(frozen=True)
class Shortened(Product):
    """A long product, of which the first and last factors are shown."""

    shown: tuple[Term, ...] = ()
