"""The network's derivative at a point, composed of its layers' maps.

Between two nodes that cut the graph (every path goes through them) the derivative is one factor: a
single map, or, where branches split and meet again, the sum of their products; branches that share
nodes are kept as a ``Substitution``.  Paths are never multiplied out one by one, so a network of 30
residual blocks costs 30 blocks.

The derivative with respect to a weight matrix needs no matrix at all: with ``J = da^L/dz^l``,
``dH/dvec(W^l) = J (aᵀ ⊗ I) = aᵀ ⊗ J``  by the mixed product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    ShapeError,
    as_floats,
    flags_end_with_it,
    refuse_if_too_large,
    require_shape,
    underflow_is_rounding,
)
from jacobians._tables import PointsLike, in_order, outputs_in_order
from jacobians.linearization.hessian_maps import hessian_map, mixed_map, nothing
from jacobians.linearization.paths import Edges, ancestors, cuts_and_edges
from jacobians.linearization.rules import activation_map, layer_map, parameter_maps
from jacobians.maps import Blocks, Identity, Kronecker, LinearMap, Product, Substitution, Sum
from jacobians.network import Network
from jacobians.tracing import Trace, trace


@dataclass(frozen=True, eq=False, repr=False)
class Linearization(Frozen):
    """The network's derivative at a point (or at each point of a batch), as a chain of maps."""

    trace: Trace

    @property
    def value(self) -> Array:
        """``H(x)``."""
        return self.trace.output

    @cached_property
    def factors(self) -> tuple[LinearMap, ...]:
        """``(D^L, W^L, ..., D^1, W^1)``, in the order in which they are written."""
        return self.between(self.trace.network.depth, 0)

    @cached_property
    def chain(self) -> Product:
        """The product of the factors, not multiplied out."""
        return Product(self.factors)

    # --- maps of one node -------------------------------------------------------------------------

    @underflow_is_rounding
    def activation_map(self, l: int) -> LinearMap:
        """Return ``D^l = da^l/dz^l``."""
        cache = self._cache
        if ("D", l) not in cache:
            sigma = self.trace.network.layers[l - 1].activation
            cache["D", l] = activation_map(sigma, self.trace.preactivations[l - 1])
        return cache["D", l]  # type: ignore[no-any-return]

    @underflow_is_rounding
    def input_maps(self, l: int) -> tuple[LinearMap, ...]:
        """Return ``dz^l/da`` for every value that node ``l`` reads."""
        cache = self._cache
        if ("W", l) not in cache:
            net = self.trace.network
            maps = layer_map(net.layers[l - 1], *self.trace.entering(l))
            maps = maps if isinstance(maps, tuple) else (maps,)
            _require_shapes(maps, net, l)
            cache["W", l] = maps
        return cache["W", l]  # type: ignore[no-any-return]

    @cached_property
    def _cache(self) -> dict[tuple[str, int], Any]:
        return {}

    # --- maps between nodes -----------------------------------------------------------------------

    def between(self, of: int | str, wrt: int | str) -> tuple[LinearMap, ...]:
        """Return the factors of ``da^of / da^wrt``, left to right (none if they are equal)."""
        of, wrt = self._ends(of, wrt, "between")
        cuts, edges = cuts_and_edges(self.trace.network, of, wrt)
        if not cuts:
            return (nothing(self._width(of), self._width(wrt), self.trace.network.dtype),)
        factors: list[LinearMap] = []
        for u, v in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
            factors += [self.activation_map(v), self._segment(u, v, edges)]
        return tuple(factors)

    def _segment(self, u: int, v: int, edges: Edges) -> LinearMap:
        """Return ``dz^v / da^u`` between neighbouring cuts."""
        entering = [(source, self.input_maps(v)[k]) for source, k in edges[v]]
        branches = [ancestors(edges, source, u) for source, _ in entering]
        if sum(map(len, branches)) == len(set().union(*branches)):
            terms = [_product([A, *self.between(source, u)]) for source, A in entering]
            return terms[0] if len(terms) == 1 else Sum(terms)
        return self._substitution(u, v, edges, sorted(set().union(*branches)))

    def _substitution(self, u: int, v: int, edges: Edges, inside: Sequence[int]) -> Substitution:
        """Return ``dz^v / da^u`` for branches that share nodes: one node for z, one for a."""
        number, nodes = {u: 0}, []
        for l in inside:
            nodes.append([(number[s], self.input_maps(l)[k]) for s, k in edges[l]])
            if not isinstance(self.activation_map(l), Identity):
                nodes.append([(len(nodes), self.activation_map(l))])
            number[l] = len(nodes)
        nodes.append([(number[s], self.input_maps(v)[k]) for s, k in edges[v]])
        return Substitution(nodes)

    @underflow_is_rounding
    def jacobian(self, of: int | str | None = None, wrt: int | str = 0) -> Array:
        """Multiply out ``da^of / da^wrt``, by default the whole chain ``dH/dx``.

        From the side that has fewer columns to carry: forward mode if there are fewer inputs than
        outputs, reverse mode otherwise.

        Returns
        -------
        array, shape (n_of, n_wrt) or (B, n_of, n_wrt)
        """
        of, wrt = self._ends(of, wrt, "jacobian")
        m, n, dtype = self._width(of), self._width(wrt), self.trace.network.dtype
        where = f"Linearization.jacobian of a^{of} with respect to a^{wrt}"
        refuse_if_too_large((*self.trace.batch, m, n), dtype, where, "Keep .chain, or use jvp, vjp")
        chain = Product([Identity(m, dtype), *self.between(of, wrt)])
        if n < m:
            result = chain.apply(np.eye(n, dtype=dtype))
        else:
            result = np.swapaxes(chain.T.apply(np.eye(m, dtype=dtype)), -2, -1)
        return np.broadcast_to(result, (*self.trace.batch, m, n)).copy()

    @underflow_is_rounding
    def jvp(self, tangent: Any) -> Array:
        """Push a tangent forward: ``J v``, never forming ``J``.

        Parameters
        ----------
        tangent : array or data frame, shape (n_0,) or, at a batch, (B, n_0)
            Columns of a table are matched with those of the points, by name.

        Returns
        -------
        array, shape (n_L,) or (B, n_L)
        """
        net, names = self.trace.network, self.trace.input_names
        v = in_order(tangent, net if names is None else net.with_names(names), "jvp: tangent")
        return self._apply(self.chain, v, "jvp: tangent")

    @underflow_is_rounding
    def vjp(self, cotangent: Any) -> Array:
        """Pull a cotangent back: ``Jᵀ u``, never forming ``J``.

        Parameters
        ----------
        cotangent : array, shape (n_L,) or, at a batch, (B, n_L)

        Returns
        -------
        array, shape (n_0,) or (B, n_0)
        """
        u = outputs_in_order(cotangent, self.trace.network, "vjp: cotangent")
        return self._apply(self.chain.T, u, "vjp: cotangent")

    # --- maps of parameters -----------------------------------------------------------------------

    def preactivation_jacobian(self, l: int | str, of: int | str | None = None) -> LinearMap:
        """Return ``da^of/dz^l = D^of W^of ... W^{l+1} D^l`` as a map; the output's unless said."""
        net = self.trace.network
        l = net.number(l, "preactivation_jacobian: l", 1)
        of, _ = self._ends(of, l, "preactivation_jacobian")
        return _product([*self.between(of, l), self.activation_map(l)])

    def bias_jacobian(self, l: int | str, of: int | str | None = None) -> LinearMap:
        """Return ``da^of/db^l`` as a map; the output's unless said.

        Raises
        ------
        TypeError
            If layer ``l`` has no bias.
        """
        return self._of_layer(l, of, ("b",), "bias_jacobian", "bias")

    def weight_jacobian(self, l: int | str, of: int | str | None = None) -> LinearMap:
        """Return ``da^of/dvec(W^l) = aᵀ ⊗ da^of/dz^l`` as a map; the output's unless said.

        Kilobytes where the dense form would take ``n_L n_l n_{l-1}`` numbers.

        Raises
        ------
        TypeError
            If layer ``l`` has no weight matrix.
        """
        return self._of_layer(l, of, ("W", "K"), "weight_jacobian", "weight matrix")

    def parameter_jacobian(self, of: int | str | None = None) -> LinearMap:
        """Return the derivative with respect to ``(vec W^1, b^1, ..., vec W^L, b^L)`` as a map.

        The columns stand in the order of ``Network.parameters``.
        """
        net = self.trace.network
        end = self._end(of, "parameter_jacobian")
        blocks: list[LinearMap] = []
        for l, layer in enumerate(net.layers, start=1):
            for name, p in layer.parameters().items():
                zero = nothing(self._width(end), p.size, net.dtype) if l > end else None
                blocks.append(zero or self.parameter_map(l, name, end))
        if not blocks:
            raise TypeError(f"parameter_jacobian: {net} has no parameters.")
        return Blocks(blocks)

    def _of_layer(
        self, l: int | str, of: int | str | None, names: tuple[str, ...], where: str, what: str
    ) -> LinearMap:
        net = self.trace.network
        l = net.number(l, f"{where}: l", 1)
        layer = net.layers[l - 1]
        name = next((name for name in names if name in layer.parameters()), None)
        if name is None:
            raise TypeError(f"{where}: layer {l} ({layer}) has no {what}.")
        return self.parameter_map(l, name, of)

    @underflow_is_rounding
    def parameter_map(self, l: int | str, name: str, of: int | str | None = None) -> LinearMap:
        """Return ``da^of/dvec(theta)`` for one parameter of layer l; the output's unless said."""
        net = self.trace.network
        l = net.number(l, "parameter_map: l", 1)
        J, P = self.preactivation_jacobian(l, of), self.own_parameter_map(l, name)
        if isinstance(P, Identity):
            return J
        if isinstance(P, Kronecker) and P.left.shape[0] == 1 and isinstance(P.right, Identity):
            return Kronecker(P.left, J)  # J (aᵀ ⊗ I) = aᵀ ⊗ J
        return Product([J, P])

    def own_parameter_map(self, l: int, name: str) -> LinearMap:
        """Return ``dz^l/dvec(theta)`` for one parameter of layer l."""
        layer = self.trace.network.layers[l - 1]
        maps = parameter_maps(layer, *self.trace.entering(l))
        if name not in maps:
            raise ValueError(f"parameter_map: {layer} has {', '.join(maps) or 'none'}.")
        return maps[name]

    # --- second order -----------------------------------------------------------------------------

    @underflow_is_rounding
    def hessian(self, cotangent: Any, of: int | str | None = None, wrt: int | str = 0) -> LinearMap:
        """Return the Hessian of ``cᵀ a^of`` by ``a^wrt`` as a map: a ``Sum`` of congruences.

        ``P_lᵀ S_l P_l`` for every node with a second differential ``S_l``, where ``P_l`` is
        ``dz^l/da^wrt``; nothing is multiplied out.

        Parameters
        ----------
        cotangent : array, shape (n_of,) or, at a batch, (B, n_of)

        Returns
        -------
        LinearMap, shape (n_wrt, n_wrt)

        Raises
        ------
        NotImplementedError
            If a layer or activation has no rule for its second differential.

        >>> import jacobians as jb
        >>> net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[3, 1]])])
        >>> linearize(net, [1.0, 1.0]).hessian([1.0]).to_dense()  # of 3 (x + 2y)² + y²
        array([[ 6., 12.],
               [12., 26.]])
        """
        of, wrt = self._ends(of, wrt, "hessian")
        return hessian_map(self, self._cotangent(cotangent, of, "hessian: cotangent"), of, wrt)

    @underflow_is_rounding
    def mixed_hessian(
        self, cotangent: Any, l: int | str, name: str, of: int | str | None = None
    ) -> LinearMap:
        """Return ``d²(cᵀ a^of) / dx dvec(theta)`` for one parameter of layer l, as a map.

        Returns
        -------
        LinearMap, shape (n_0, number of entries)
        """
        end = self._end(of, "mixed_hessian")
        c = self._cotangent(cotangent, end, "mixed_hessian: cotangent")
        l = self.trace.network.number(l, "mixed_hessian: l", 1, end)
        return mixed_map(self, c, l, name, end)

    def _cotangent(self, vector: Any, of: int, where: str) -> Array:
        net = self.trace.network
        given = outputs_in_order(vector, net, where) if of == net.depth else vector
        c = as_floats(given, where, dtype=net.dtype)
        require_shape(c, (*self.trace.batch, self._width(of)), where)
        return c

    # --- small things -----------------------------------------------------------------------------

    def _width(self, l: int) -> int:
        return self.trace.network.widths[l]

    def _ends(self, of: int | str | None, wrt: int | str, verb: str) -> tuple[int, int]:
        end = self._end(of, verb)
        return end, self.trace.network.number(wrt, f"{verb}: wrt", 0, end)

    def _end(self, of: int | str | None, verb: str) -> int:
        net = self.trace.network
        return net.depth if of is None else net.number(of, f"{verb}: of")

    def _apply(self, chain: LinearMap, vector: Any, where: str) -> Array:
        v = as_floats(vector, where, dtype=self.trace.network.dtype)
        expected = (*self.trace.batch, chain.shape[1])
        if v.shape != expected:
            raise ShapeError(f"{where}: expected shape {expected}, but got {v.shape}.")
        return np.array(chain.apply(v[..., None])[..., 0])

    def __repr__(self) -> str:
        where = f"{self.trace.batch[0]} points" if self.trace.batch else "one point"
        return f"Linearization at {where}: {repr(self.chain).partition(': ')[2]}"


@flags_end_with_it
def linearize(net: Network, X: PointsLike | Trace) -> Linearization:
    """Linearize the network at a point, or at every point of a batch.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n_0,) or (B, n_0), or a Trace of ``net``
        A trace is taken as it is, so that several methods can share one.

    Returns
    -------
    Linearization

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``X`` does not fit the network; see ``trace``.

    >>> net = Network.random([4, 3, 2], seed=0)
    >>> lin = linearize(net, [1.0, 2.0, 3.0, 4.0])
    >>> lin
    Linearization at one point: 2x2 · 2x3 · 3x3 · 3x4
    >>> lin.jacobian().shape, lin.jvp(np.ones(4)).shape, lin.vjp(np.ones(2)).shape
    ((2, 4), (2,), (4,))
    >>> lin.weight_jacobian(1)
    Kronecker 2x12 float64: (Matrix 1x4) ⊗ (Product 2x3)
    """
    if isinstance(X, Trace):
        if X.network is not net:
            raise ValueError("linearize: the trace belongs to another network.")
        return Linearization(X)
    return Linearization(trace(net, X))


def _product(factors: Sequence[LinearMap]) -> LinearMap:
    """Compose maps, leaving out identities."""
    kept = [A for A in factors if not isinstance(A, Identity)] or [factors[0]]
    return kept[0] if len(kept) == 1 else Product(kept)


def _require_shapes(maps: tuple[LinearMap, ...], net: Network, l: int) -> None:
    """Refuse a rule that gives other maps than the node needs."""
    expected = [(net.widths[l], net.widths[s]) for s in net.sources[l - 1]]
    if [A.shape for A in maps] != expected:
        raise ShapeError(
            f"linearize: the rule of layer {net.names[l]} ({net.layers[l - 1]}) should give maps "
            f"of shapes {expected}, but gave {[str(A) for A in maps]}."
        )
