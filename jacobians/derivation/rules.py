"""The rules of a derivation: one line for every quantity of a network, each a term of others.

    z^l = W^l a^{l-1} + b^l                    a^l = sigma(z^l)              D^l = diag(sigma'(z^l))
    c = dC/da^L        delta^L = D^L c         delta^l = D^l (W^{l+1}ᵀ delta^{l+1})
    dC/dW^l = 1/N sum delta^l (a^{l-1})ᵀ + lambda W^l              dC/db^l = 1/N sum delta^l
    dC/dx = W^1ᵀ delta^1                       da^l/dx = D^l W^l da^{l-1}/dx

in columns, with the input as layer 0; a convention turns these terms into those of another text.
A layer that is not dense has ``M^l = dz^l/da^{l-1}`` in place of ``W^l``; where several layers read
one value, what comes back from them is added up.  A rule takes a number of a layer, or a letter:
``rules.delta("l")`` is the general line of a long chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jacobians.activations import IDENTITY, LOG_SOFTMAX, SIGMOID, SOFTMAX, Activation, AnyActivation
from jacobians.derivation import functions
from jacobians.derivation.terms import (
    Apply,
    Diagonal,
    Function,
    Hadamard,
    Identity,
    Key,
    Kronecker,
    OverPoints,
    Product,
    Quotient,
    Slopes,
    Sum,
    Symbol,
    Term,
    Times,
    Transpose,
    Unvec,
    Vec,
)
from jacobians.layers import Dense
from jacobians.linearization import layer_map
from jacobians.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from jacobians.maps import Identity as IdentityMap
from jacobians.network import Network


def shifted(l: Any, by: int) -> Any:
    """Return the number, or the letter, of a layer above or below: ``l``, 1 gives ``l+1``."""
    if isinstance(l, str):
        by += int(l[1:] or 0)
        return f"{l[0]}{by:+d}" if by else l[0]
    return l + by


def minus(x: Term, y: Term) -> Sum:
    """Return ``x - y``."""
    return Sum((x, Times("−", -1.0, y)))


def matmul(*factors: Term) -> Term:
    """Return the product without identities, without brackets, a lone factor as it is."""
    flat: list[Term] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else (factor,)
    flat = [factor for factor in flat if not isinstance(factor, Identity)] or flat[:1]
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def total(*terms: Term) -> Term:
    """Return the sum, a lone term as it is."""
    return terms[0] if len(terms) == 1 else Sum(terms)


@dataclass(frozen=True)
class Rules:
    """The rules for one network, loss and penalty.

    Parameters
    ----------
    net : Network
    loss : Loss, optional
    l2 : float
    points : int, optional
        The number of points of a data set; None for one point, whose gradients are no mean.
    summed : bool
        Whether the entries of every target add up to 1, so that ``p sum(y) - y`` is ``p - y``.
    any_slope_at_kinks : bool
        Whether the error of a slope at a kink covers the slopes on both sides.
    """

    net: Network
    loss: Loss | None = None
    l2: float = 0.0
    points: int | None = None
    summed: bool = True
    any_slope_at_kinks: bool = False

    # --- letters --------------------------------------------------------------------------------

    def symbol(self, role: str, l: Any) -> Symbol:
        """Return the letter of a role at a layer, with its shape."""
        n, before = self.width(l), None if l in (None, 0) else self.width(self.sources(l)[0])
        first, last = self.width(0), self.width(self.net.depth)
        shapes: dict[str, tuple[Any, Any]] = {
            **dict.fromkeys(("W", "dW", "M"), (n, before)),
            "D": (n, n),
            "J": (n, first),
            "P": (last, n),
            "JW": (last, f"{n}{before}" if isinstance(n, str) else n * (before or 0)),
            "ones": (1, n),
        }
        return Symbol(role, l, shapes.get(role, (n, 1)))

    def width(self, l: Any) -> Any:
        """Return the width of a layer."""
        if isinstance(l, str):
            return f"n_{{{l}}}" if len(l) > 1 else f"n_{l}"
        return self.net.widths[self.net.depth if l is None else l]

    def sources(self, l: Any) -> tuple[Any, ...]:
        """Return the values that layer l reads."""
        return (shifted(l, -1),) if isinstance(l, str) else self.net.sources[l - 1]

    def readers(self, k: Any) -> list[tuple[Any, int]]:
        """Return the layers that read the value of node k, each with the place of k among its."""
        if isinstance(k, str):
            return [(shifted(k, 1), 0)]
        return [
            (l, i)
            for l in range(k + 1, self.net.depth + 1)
            for i, source in enumerate(self.sources(l))
            if source == k
        ]

    def activation(self, l: Any) -> AnyActivation:
        """Return the activation of a layer; every layer's own, where ``l`` is a letter."""
        return self.net.layers[0 if isinstance(l, str) else l - 1].activation

    def is_elementwise(self, l: Any) -> bool:
        """Tell whether the activation of a layer acts entry by entry, so that D is diagonal."""
        return isinstance(self.activation(l), Activation)

    def is_straight(self, l: Any) -> bool:
        """Tell whether a layer has no activation, so that D is the identity."""
        return self.activation(l) == IDENTITY

    def is_dense(self, l: Any) -> bool:
        """Tell whether a layer is ``W a + b`` (a letter stands for one that is)."""
        if isinstance(l, str):
            return True
        layer = self.net.layers[l - 1]
        (k, *_) = self.sources(l)
        return isinstance(layer, Dense) and layer.W.shape == (self.width(l), self.width(k))

    def net_is_path(self) -> bool:
        """Tell whether every layer reads the one before it."""
        return all(self.sources(l) == (l - 1,) for l in range(1, self.net.depth + 1))

    def is_fused(self) -> bool:
        """Tell whether the loss cancels the slope of the last activation."""
        return (
            self.loss is not None and self.loss.fused(self.activation(self.net.depth)) is not None
        )

    # --- the forward pass -----------------------------------------------------------------------

    def z(self, l: Any) -> Term:
        """``z = W a + b``; another layer's own function of what it reads."""
        reads = tuple(self.symbol("a", k) for k in self.sources(l))
        if self.is_dense(l):
            return Sum((Product((self.symbol("W", l), *reads)), self.symbol("b", l)))
        layer = self.net.layers[l - 1]
        name = type(layer).__name__
        return Apply(Function(name, partial(functions.layer_value, layer)), reads)

    def a(self, l: Any) -> Term:
        """``a = sigma(z)``."""
        return Apply(functions.sigma(self.activation(l)), (self.symbol("z", l),))

    def s(self, l: Any) -> Term:
        """``sigma'(z)``, where it acts entry by entry."""
        activation = self.activation(l)
        assert isinstance(activation, Activation)
        return Apply(functions.slope(activation, self.any_slope_at_kinks), (self.symbol("z", l),))

    def D(self, l: Any) -> Term:
        """``D = da/dz``: ``diag(sigma'(z))``; for softmax ``diag(p) - p pᵀ``."""
        activation, p = self.activation(l), self.symbol("a", l)
        if isinstance(activation, Activation):
            return Diagonal(self.symbol("s", l))
        if activation == SOFTMAX:
            return minus(Diagonal(p), Product((p, Transpose(p))))
        return Apply(functions.jacobian_of(activation), (self.symbol("z", l),))

    def through(self, l: Any, term: Term) -> Term:
        """``D x``, as ``sigma'(z) ⊙ x`` where D is diagonal."""
        if isinstance(self.activation(l), Activation):
            return Slopes(self.symbol("s", l), term)
        return matmul(Transpose(self.symbol("D", l)), term)

    def matrix(self, l: Any, source: int = 0) -> Term:
        """``dz^l/da^{l-1}``: W, another layer's M, or the identity."""
        if self.is_dense(l):
            return self.symbol("W", l)
        n = self.width(self.sources(l)[source])
        if self._is_identity(l):
            return Identity(n)
        name = "M" if source == 0 else f"M{source}"
        return Symbol(name, l, (self.width(l), n))

    def _is_identity(self, l: int) -> bool:
        layer = self.net.layers[l - 1]
        reads = [np.zeros(self.width(k)) for k in self.sources(l)]
        maps = layer_map(layer, *reads)
        return all(
            isinstance(A, IdentityMap) for A in (maps if isinstance(maps, tuple) else [maps])
        )

    # --- the way back ---------------------------------------------------------------------------

    def c(self, l: Any = None) -> Term:
        """``dC/da^L``."""
        a, y = self.symbol("a", self.net.depth), self.symbol("y", None)
        if isinstance(self.loss, SquaredError):
            return minus(a, y)
        if isinstance(self.loss, BinaryCrossEntropy):
            one = self.symbol("1", None)
            return Quotient(minus(a, y), Hadamard(a, minus(one, a)))
        if isinstance(self.loss, CrossEntropy):
            return Times("−", -1.0, Quotient(y, a))
        assert self.loss is not None
        return Apply(functions.cotangent(self.loss), (a, y))

    def delta(self, l: Any) -> Term:
        """``dC/dz^l``, for the loss of one point."""
        if l == self.net.depth:
            return self.fused() if self.is_fused() else self.through(l, self.symbol("c", None))
        return self.through(l, self.cotangent(l))

    def fused(self) -> Term:
        """``delta^L = p - y``, where loss and activation are taken in one step."""
        a, y = self.symbol("a", self.net.depth), self.symbol("y", None)
        if self.activation(self.net.depth) == LOG_SOFTMAX:
            a = Apply(functions.sigma(SOFTMAX), (self.symbol("z", self.net.depth),))  # type: ignore[assignment]
        if self.summed or self.activation(self.net.depth) == SIGMOID:
            return minus(a, y)
        return minus(matmul(a, self.symbol("ones", None), y), y)

    def cotangent(self, k: Any) -> Term:
        """``dC/da^k``: what comes back from every layer that reads it."""
        back = [
            matmul(Transpose(self.matrix(l, i)), self.symbol("delta", l))
            if not isinstance(self.matrix(l, i), Identity)
            else self.symbol("delta", l)
            for l, i in self.readers(k)
        ]
        return total(*back) if back else self.symbol("c", None)

    def mean(self, term: Term) -> Term:
        """``1/N sum over the points``; one point is its own mean."""
        return term if self.points is None else Times("1/N", 1 / self.points, OverPoints(term))

    def dW(self, l: Any) -> Term:
        """``dC/dW = delta aᵀ``, its mean, and the penalty."""
        (k,) = self.sources(l)
        outer = self.mean(Product((self.symbol("delta", l), Transpose(self.symbol("a", k)))))
        return Sum((outer, self.penalty(l))) if self.l2 else outer

    def penalty(self, l: Any) -> Term:
        """``lambda W``."""
        return Times("λ", self.l2, self.symbol("W", l))

    def other_parameters(self, l: Any) -> dict[str, tuple[Symbol, Term]]:
        """``dC/dvec(theta) = (dz/dvec theta)ᵀ delta`` for the parameters of a layer of its own."""
        found: dict[str, tuple[Symbol, Term]] = {}
        if self.is_dense(l):
            return found
        for name, array in self.net.layers[l - 1].parameters().items():
            left = Symbol(f"d{name}", l, (array.size, 1))
            E = Symbol(f"E{name}", l, (self.width(l), array.size))
            found[name] = (left, self.mean(Product((Transpose(E), self.symbol("delta", l)))))
        return found

    def dW_by_vec(self, l: Any) -> Term:
        """``dC/dW = vec⁻¹((aᵀ ⊗ I)ᵀ delta)``, the same through vec and Kronecker."""
        (k,) = self.sources(l)
        a, delta = self.symbol("a", k), self.symbol("delta", l)
        stacked = matmul(Kronecker(a, Identity(self.width(l))), delta)
        return Unvec(stacked, self.symbol("W", l).shape)

    def z_by_vec(self, l: Any) -> Term:
        """``W a = (aᵀ ⊗ I) vec(W)``."""
        (k,) = self.sources(l)
        wide = Kronecker(Transpose(self.symbol("a", k)), Identity(self.width(l)))
        return Product((wide, Vec(self.symbol("W", l))))

    def db(self, l: Any) -> Term:
        """``dC/db = delta``, its mean."""
        return self.mean(self.symbol("delta", l))

    def of_mean(self, term: Term) -> Term:
        """Return the derivative of the mean for that of the point's own loss."""
        return term if self.points is None else Times("1/N", 1 / self.points, term)

    # --- Jacobians ------------------------------------------------------------------------------

    def J(self, l: Any) -> Term:
        """``da^l/dx = D W da^{l-1}/dx``, from the input outwards."""
        steps = []
        for i, k in enumerate(self.sources(l)):
            below = (self.symbol("J", k),) if k != 0 else ()
            steps.append(matmul(self.matrix(l, i), *below))
        step = total(*steps)
        if isinstance(self.activation(l), Activation):
            return Slopes(self.symbol("s", l), step)
        return matmul(self.symbol("D", l), step)

    def chain(self, top: int, bottom: int = 0) -> Term:
        """``D^L W^L ... D^1 W^1`` of a path, written out."""
        factors: list[Term] = []
        for l in range(top, bottom, -1):
            factors += [self.symbol("D", l), self.matrix(l)]
        return matmul(*factors)

    def P(self, l: Any) -> Term:
        """``da^L/dz^l = da^L/dz^{l+1} W^{l+1} D^l``, from the output inwards."""
        if l == self.net.depth:
            return self.symbol("D", l)
        back = [matmul(self.symbol("P", m), self.matrix(m, i)) for m, i in self.readers(l)]
        return matmul(total(*back), self.symbol("D", l))

    def JW(self, l: Any) -> Term:
        """``da^L/dvec(W^l) = aᵀ ⊗ da^L/dz^l``."""
        (k,) = self.sources(l)
        return Kronecker(Transpose(self.symbol("a", k)), self.symbol("P", l))

    def from_output(self, l: int) -> Term:
        """``da^L/da^l`` of a path: what stands above layer l in the chain."""
        if l == self.net.depth:
            return Identity(self.width(l))
        return matmul(self.symbol("P", l + 1), self.matrix(l + 1))

    # --- all lines of a network -----------------------------------------------------------------

    def lines(self) -> dict[Key, Term]:
        """Return the right side of every quantity that is not given, in order of computation."""
        L = self.net.depth
        found: dict[Key, Term] = {}
        layers = range(1, L + 1)
        for l in layers:
            found["z", l], found["a", l] = self.z(l), self.a(l)
            if isinstance(self.activation(l), Activation):
                found["s", l] = self.s(l)
            found["D", l], found["J", l] = self.D(l), self.J(l)
        for l in reversed(layers):
            found["P", l] = self.P(l)
        if self.loss is not None:
            found["c", None] = self.c()
            for l in reversed(layers):
                found["delta", l] = self.delta(l)
                found["ddelta", l] = self.of_mean(self.symbol("delta", l))
            found["dx", 0] = self.of_mean(self.cotangent(0))
        for l in layers:
            if self.loss is not None:
                found.update({left.key: term for left, term in self.other_parameters(l).values()})
            if self.is_dense(l):
                found["JW", l] = self.JW(l)
                if self.loss is not None:
                    found["dW", l], found["db", l] = self.dW(l), self.db(l)
        return found
