"""The rules of a derivation: one line for every quantity of a network, each a term of others.

    z^l = W^l a^{l-1} + b^l                    a^l = sigma(z^l)              D^l = diag(sigma'(z^l))
    c = dC/da^L        delta^L = D^L c         delta^l = D^l (W^{l+1}ᵀ delta^{l+1})
    dC/dW^l = 1/N sum delta^l (a^{l-1})ᵀ + lambda W^l              dC/db^l = 1/N sum delta^l
    dC/dx = W^1ᵀ delta^1                       da^l/dx = D^l W^l da^{l-1}/dx

in columns, with the input as layer 0; a convention turns these terms into those of another text.
A layer that is not dense has ``M^l = dz^l/da^{l-1}`` in place of ``W^l``; where several layers read
one value, what comes back from them is added up.  A rule takes a number of a layer, or a letter:
``rules.delta("l")`` is the general line of a long chain.  Jacobians lead from layer ``wrt`` to
layer ``of``, which are the input and the output unless said.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from jacobians.activations import IDENTITY, SOFTMAX, Activation, AnyActivation
from jacobians.derivation import functions, starts
from jacobians.derivation.terms import (
    Apply,
    Diagonal,
    Function,
    Identity,
    Key,
    Kronecker,
    OverPoints,
    Product,
    Slopes,
    Sum,
    Symbol,
    Term,
    Times,
    Transpose,
    Unvec,
    Vec,
    matmul,
    minus,
    total,
)
from jacobians.gradients import WEIGHTS
from jacobians.layers import Dense
from jacobians.linearization import layer_map
from jacobians.losses import Loss
from jacobians.maps import Identity as IdentityMap
from jacobians.maps import LinearMap
from jacobians.network import Network


def shifted(l: Any, by: int) -> Any:
    """Return the number, or the letter, of a layer above or below: ``l``, 1 gives ``l+1``."""
    if isinstance(l, str):
        by += int(l[1:] or 0)
        return f"{l[0]}{by:+d}" if by else l[0]
    return l + by


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
    slope_at_kinks : float, optional
        Which slope a kink has: 0 for the least of those beside it, 1 for the largest, or what is
        between; None for the activation's own choice.
    of, wrt : int
        Layers that Jacobians lead to and start from; the last one where ``of`` is None.
    """

    net: Network
    loss: Loss | None = None
    l2: float = 0.0
    points: int | None = None
    summed: bool = True
    slope_at_kinks: float | None = None
    of: int | None = None
    wrt: int = 0

    # --- the network ----------------------------------------------------------------------------

    @cached_property
    def top(self) -> int:
        """The last layer of the derivation."""
        return self.net.depth if self.of is None else self.of

    @cached_property
    def maps(self) -> tuple[tuple[LinearMap, ...], ...]:
        """The derivative of every layer at 0, which tells what kind of layer it is."""
        with np.errstate(all="ignore"):
            at_0 = [
                layer_map(layer, *(np.zeros(self.net.widths[k]) for k in sources))
                for layer, sources in zip(self.net.layers, self.net.sources, strict=True)
            ]
        return tuple(A if isinstance(A, tuple) else (A,) for A in at_0)

    @cached_property
    def all_readers(self) -> dict[int, list[tuple[int, int]]]:
        """For every value, the layers on the way to the last one that read it, and as which."""
        readers: dict[int, list[tuple[int, int]]] = {k: [] for k in range(self.net.depth + 1)}
        for l in range(self.top, 0, -1):
            for i, source in enumerate(self.sources(l) if l == self.top or readers[l] else ()):
                readers[source].append((l, i))
        return {k: sorted(pairs) for k, pairs in readers.items()}

    @cached_property
    def moving(self) -> frozenset[int]:
        """The layers that move with layer ``wrt``, itself included."""
        moving = {self.wrt}
        for l, sources in enumerate(self.net.sources, start=1):
            if not moving.isdisjoint(sources):
                moving.add(l)
        return frozenset(moving)

    def width(self, l: Any) -> Any:
        """Return the width of a layer; None is the output."""
        if isinstance(l, str):
            return f"n_{{{l}}}" if len(l) > 1 else f"n_{l}"
        return self.net.widths[self.top if l is None else l]

    def sources(self, l: Any) -> tuple[Any, ...]:
        """Return the values that layer l reads."""
        return (shifted(l, -1),) if isinstance(l, str) else self.net.sources[l - 1]

    def readers(self, k: Any) -> list[tuple[Any, int]]:
        """Return the layers that read the value of layer k, and as which of their inputs."""
        return [(shifted(k, 1), 0)] if isinstance(k, str) else self.all_readers[k]

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
        """Tell whether a layer is ``W a + b``: its map is its parameter W (of a letter it is)."""
        if isinstance(l, str):
            return True
        layer, maps = self.net.layers[l - 1], self.maps[l - 1]
        own = [W for W in (getattr(A, "array", None) for A in maps) if W is not None]
        is_affine = self.has_bias(l) or type(layer).preactivation is Dense.preactivation
        return is_affine and len(maps) == len(own) == 1 and own[0] is layer.parameters().get("W")

    def has_bias(self, l: Any) -> bool:
        """Tell whether a dense layer adds a bias (of a letter it does)."""
        return isinstance(l, str) or "b" in self.net.layers[l - 1].parameters()

    def net_is_path(self) -> bool:
        """Tell whether every layer reads the one before it."""
        return all(self.sources(l) == (l - 1,) for l in range(1, self.net.depth + 1))

    def is_fused(self) -> bool:
        """Tell whether the loss cancels the slope of the last activation."""
        return self.loss is not None and self.loss.fused(self.activation(self.top)) is not None

    def symbol(self, role: str, l: Any) -> Symbol:
        """Return the letter of a role at a layer, with its shape."""
        if (role, l) not in self._symbols:
            self._symbols[role, l] = Symbol(role, l, self._shape(role, l))
        return self._symbols[role, l]

    @cached_property
    def _symbols(self) -> dict[Key, Symbol]:
        return {}

    def _shape(self, role: str, l: Any) -> tuple[Any, Any]:
        n, before = self.width(l), None if l in (None, 0) else self.width(self.sources(l)[0])
        start, last = self.width(self.wrt), self.width(self.top)
        shapes: dict[str, tuple[Any, Any]] = {
            **dict.fromkeys(("W", "dW", "M"), (n, before)),
            "D": (n, n),
            "J": (n, start),
            "Jx": (last, start),
            "P": (last, n),
            "JW": (last, f"{n}{before}" if isinstance(n, str) else n * (before or 0)),
            "ones": (1, n),
            "HH": (start, start),
        }
        return shapes.get(role, (n, 1))

    # --- the forward pass -----------------------------------------------------------------------

    def z(self, l: Any) -> Term:
        """``z = W a + b``; another layer's own function of what it reads."""
        reads = tuple(self.symbol("a", k) for k in self.sources(l))
        if self.is_dense(l):
            return self.shifted(l, Product(self.symbol("W", l), *reads))
        layer = self.net.layers[l - 1]
        call = partial(functions.layer_value, layer)
        return Apply(*reads, about=Function(type(layer).__name__, call))

    def shifted(self, l: Any, term: Term) -> Term:
        """Add the bias of a dense layer, if it has one."""
        return Sum(term, self.symbol("b", l)) if self.has_bias(l) else term

    def a(self, l: Any) -> Term:
        """``a = sigma(z)``."""
        return Apply(self.symbol("z", l), about=functions.sigma(self.activation(l)))

    def s(self, l: Any) -> Term:
        """``sigma'(z)``, where it acts entry by entry."""
        activation = self.activation(l)
        assert isinstance(activation, Activation)
        slope = functions.slope(activation, self.slope_at_kinks)
        return Apply(self.symbol("z", l), about=slope)

    def D(self, l: Any) -> Term:
        """``D = da/dz``: ``diag(sigma'(z))``; for softmax ``diag(p) - p pᵀ``."""
        activation, p = self.activation(l), self.symbol("a", l)
        if self.is_elementwise(l):
            return Diagonal(self.symbol("s", l))
        if activation == SOFTMAX:
            return minus(Diagonal(p), Product(p, Transpose(p)))
        return Apply(self.symbol("z", l), about=functions.jacobian_of(activation))

    def through(self, l: Any, term: Term, back: bool = True) -> Term:
        """``Dᵀ x``, or ``D x`` on the way forward: ``sigma'(z) ⊙ x`` where D is diagonal."""
        if self.is_elementwise(l):
            return Slopes(self.symbol("s", l), term)
        D = self.symbol("D", l)
        return matmul(Transpose(D) if back else D, term)

    def matrix(self, l: Any, source: int = 0) -> Term:
        """``dz^l/da^{l-1}``: W, another layer's M, or the identity."""
        if self.is_dense(l):
            return self.symbol("W", l)
        n = self.width(self.sources(l)[source])
        if all(isinstance(A, IdentityMap) for A in self.maps[l - 1]):
            return Identity(about=n)
        return Symbol(f"M{source or ''}", l, (self.width(l), n))

    # --- the way back ---------------------------------------------------------------------------

    def c(self, l: Any = None) -> Term:
        """``dC/da^L``."""
        assert self.loss is not None
        a, y, one = self.symbol("a", self.top), self.symbol("y", None), self.symbol("1", None)
        return starts.by_output(self.loss, self.activation(self.top), a, y, one)

    def delta(self, l: Any) -> Term:
        """``dC/dz^l``, for the loss of one point."""
        if l == self.top:
            return self.fused() if self.is_fused() else self.through(l, self.symbol("c", None))
        return self.through(l, self.cotangent(l))

    def fused(self) -> Term:
        """``delta^L = p sum(y) - y``, where loss and activation are taken in one step."""
        assert self.loss is not None
        z, a = self.symbol("z", self.top), self.symbol("a", self.top)
        y, ones, last = self.symbol("y", None), self.symbol("ones", None), self.activation(self.top)
        return starts.by_preactivation(self.loss, last, z, a, y, ones, self.summed)

    def cotangent(self, k: Any) -> Term:
        """``dC/da^k``: what comes back from every layer that reads it."""
        back = [self.pulled(l, i, self.symbol("delta", l)) for l, i in self.readers(k)]
        return total(*back) if back else self.symbol("c", None)

    def pulled(self, l: Any, source: int, delta: Term) -> Term:
        """``Wᵀ delta``."""
        matrix = self.matrix(l, source)
        return delta if isinstance(matrix, Identity) else matmul(Transpose(matrix), delta)

    def mean(self, term: Term) -> Term:
        """``1/N sum over the points``; one point is its own mean."""
        return term if self.points is None else self.of_mean(OverPoints(term))

    def of_mean(self, term: Term) -> Term:
        """Return the derivative of the mean for that of the point's own loss."""
        return term if self.points is None else Times(term, about=("1/N", 1 / self.points))

    def penalty(self, l: Any, name: str = "W") -> Term:
        """``lambda W``."""
        return Times(self.symbol(name, l), about=("λ", self.l2))

    def dW(self, l: Any) -> Term:
        """``dC/dW = delta aᵀ``, its mean, and the penalty."""
        (k,) = self.sources(l)
        return self.penalised(
            l, self.mean(Product(self.symbol("delta", l), Transpose(self.symbol("a", k))))
        )

    def penalised(self, l: Any, term: Term) -> Term:
        """Add the derivative of the penalty, if there is one."""
        return Sum(term, self.penalty(l)) if self.l2 else term

    def dW_by_vec(self, l: Any) -> Term:
        """``dC/dW = vec⁻¹((aᵀ ⊗ I)ᵀ delta)``, the same through vec and Kronecker."""
        (k,) = self.sources(l)
        wide = Kronecker(self.symbol("a", k), Identity(about=self.width(l)))
        road = Unvec(matmul(wide, self.symbol("delta", l)), about=self.symbol("W", l).shape)
        return self.penalised(l, road)

    def z_by_vec(self, l: Any) -> Term:
        """``z = (aᵀ ⊗ I) vec(W) + b``."""
        (k,) = self.sources(l)
        wide = Kronecker(Transpose(self.symbol("a", k)), Identity(about=self.width(l)))
        return self.shifted(l, Product(wide, Vec(self.symbol("W", l))))

    def db(self, l: Any) -> Term:
        """``dC/db = delta``, its mean."""
        return self.mean(self.symbol("delta", l))

    def dx(self, l: Any) -> Term:
        """``dC/dx = Wᵀ delta``."""
        return self.of_mean(self.cotangent(l))

    def other_parameters(self, l: Any) -> dict[str, tuple[Symbol, Term]]:
        """``dC/dvec(theta) = (dz/dvec theta)ᵀ delta`` for the parameters of a layer of its own."""
        lines: dict[str, tuple[Symbol, Term]] = {}
        if not self.is_dense(l):
            for name, array in self.net.layers[l - 1].parameters().items():
                E = Symbol(f"E{name}", l, (self.width(l), array.size))
                right = self.mean(Product(Transpose(E), self.symbol("delta", l)))
                if self.l2 and name in WEIGHTS:
                    W = Symbol(name, l, (len(array), array.size // len(array)))
                    right = Sum(right, Times(Vec(W), about=("λ", self.l2)))
                lines[name] = (Symbol(f"d{name}", l, (array.size, 1)), right)
        return lines

    # --- Jacobians ------------------------------------------------------------------------------

    def J(self, l: Any) -> Term:
        """``da^l/dx = D W da^{l-1}/dx``, from the input outwards."""
        steps = []
        for i, k in enumerate(self.sources(l)):
            if isinstance(k, str) or k in self.moving:
                below = () if k == self.wrt else (self.symbol("J", k),)
                steps.append(matmul(self.matrix(l, i), *below))
        return self.through(l, total(*steps), back=False)

    def Jx(self, l: Any = None) -> Term:
        """``D^L W^L ... D^1 W^1`` of a path, written out."""
        factors: list[Term] = []
        for k in range(self.top, self.wrt, -1):
            factors += [self.symbol("D", k), self.matrix(k)]
        return matmul(*factors)

    def P(self, l: Any) -> Term:
        """``da^L/dz^l = da^L/dz^{l+1} W^{l+1} D^l``, from the output inwards."""
        if l == self.top:
            return self.symbol("D", l)
        back = [matmul(self.symbol("P", m), self.matrix(m, i)) for m, i in self.readers(l)]
        return matmul(total(*back), self.symbol("D", l))

    def JW(self, l: Any) -> Term:
        """``da^L/dvec(W^l) = aᵀ ⊗ da^L/dz^l``."""
        (k,) = self.sources(l)
        return Kronecker(Transpose(self.symbol("a", k)), self.symbol("P", l))

    def from_output(self, l: int) -> Term:
        """``da^L/da^l`` of a path: what stands above layer l in the chain."""
        if l == self.top:
            return Identity(about=self.width(l))
        return matmul(self.symbol("P", l + 1), self.matrix(l + 1))

    # --- all lines of a network -----------------------------------------------------------------

    def lines(self) -> dict[Key, Term]:
        """Return the right side of every quantity that is not given, in order of computation."""
        lines: dict[Key, Term] = {}
        layers = range(1, self.top + 1)
        for l in layers:
            roles = "zasDJ" if self.is_elementwise(l) else "zaDJ"
            lines |= {(role, l): getattr(self, role)(l) for role in roles if role != "J"}
            if l in self.moving and l != self.wrt:
                lines["J", l] = self.J(l)
        for l in reversed(layers):
            if l == self.top or self.readers(l):
                lines["P", l] = self.P(l)
        if self.loss is not None:
            lines["c", None] = self.c()
            for l in reversed(layers):
                lines["delta", l] = self.delta(l)
                lines["ddelta", l] = self.of_mean(self.symbol("delta", l))
            lines["dx", self.wrt] = self.dx(self.wrt)
        for l in layers:
            if self.is_dense(l):
                own = ["JW", "dW", "db"][: 1 if self.loss is None else 2 + self.has_bias(l)]
                lines |= {(role, l): getattr(self, role)(l) for role in own}
            elif self.loss is not None:
                lines.update({left.key: term for left, term in self.other_parameters(l).values()})
        return lines
