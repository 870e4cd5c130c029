"""Networks of single units on a directed graph: layers, skips and everything else by one formula.

Every unit adds up what arrives over its edges and applies an activation of its own::

    z = A h + B x + b        h_i = sigma_i(z_i)        D = diag(sigma_i'(z_i))

``A[i, j]`` is the weight of the edge j -> i, and ``B[i, k]`` that of the edge from input k to unit
i.  At a point ``dh = D (A dh + B dx)``, so that ``dh/dx = (I - D A)^{-1} D B`` whatever the graph
looks like.  Without directed cycles ``A`` is strictly lower triangular once the units are sorted,
the inverse always exists, and nobody needs to form it.  A layered network is the case in which
``A`` has one block of weights per layer, just below the diagonal.  With cycles the formula holds at
a fixed point ``h = sigma(A h + B x + b)``, where there is one: ``UnitGraph(..., cyclic=True)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    Indices,
    NotFiniteError,
    ShapeError,
    as_count,
    as_flag,
    as_floats,
    as_nonnegative,
    as_points,
    freeze,
    require_shape,
    underflow_is_rounding,
)
from jacobians._names import as_names, numbered
from jacobians._text import counted, shortened
from jacobians.activations import Activation, AnyActivation
from jacobians.network import Network
from jacobians.units.edges import (
    as_edges,
    as_kinds,
    beside,
    by_name,
    read_named_edges,
    require_known,
    with_weights,
)
from jacobians.units.gradients import UnitGradients
from jacobians.units.linearization import UnitLinearization
from jacobians.units.networks import read_network, write_network
from jacobians.units.text import written
from jacobians.units.walks import Acyclic, Cyclic, find_cycle, find_levels


@dataclass(frozen=True, eq=False, repr=False)
class UnitGraph(Frozen):
    """A network of N single units with m inputs.

    Parameters
    ----------
    A : array or sparse array, shape (N, N)
        ``A[i, j]`` is the weight of the edge from unit j to unit i; units may stand in any order.
        The nonzeros of a dense array are edges, and so is every stored entry of a sparse one.
    B : array or sparse array, shape (N, m)
        ``B[i, k]`` is the weight of the edge from input k to unit i.
    biases : array, shape (N,), optional
        Zero unless given.
    activations : str or Activation, or a sequence of N of them
        For all units, or unit by unit.
    unit_names, input_names : sequence of str, optional
        Otherwise u0, u1, ... and x0, x1, ...
    cyclic : bool
        Allow directed cycles: the values are then a fixed point, found by iteration.
    max_iterations : int
        How often the iteration may go round.

    Raises
    ------
    ValueError
        If the edges close a cycle without ``cyclic=True``; the message names one.
    ShapeError, NotFiniteError, TypeError
        If the parts do not fit, or an activation is vector-valued.

    Three units without activation, edges 1 -> 2 of weight 2, 1 -> 3 of 5, 2 -> 3 of 3.  Two paths
    lead from the first unit to the last, and the total derivative is their sum, ``5 + 3 * 2``:

    >>> graph = UnitGraph([[0, 0, 0], [2, 0, 0], [5, 3, 0]], [[1], [0], [0]])
    >>> graph
    UnitGraph 3 units on 3 levels, 1 input, 4 edges, float64: identity
    >>> graph([1.0])
    array([ 1.,  2., 11.])
    >>> at = graph.linearize([1.0])
    >>> at.total_derivative()
    array([[ 1.,  0.,  0.],
           [ 2.,  1.,  0.],
           [11.,  3.,  1.]])
    >>> [path.vertices for path in at.paths(0, 2)], at.path_sum(0, 2)
    ([('u0', 'u2'), ('u0', 'u1', 'u2')], 11.0)
    """

    A: Any
    B: Any
    biases: Array
    unit_names: tuple[str, ...]
    input_names: tuple[str, ...]
    cyclic: bool
    max_iterations: int
    _kinds: Indices
    _distinct: tuple[Activation, ...]
    _walk: Acyclic | Cyclic

    def __init__(
        self,
        A: Any,
        B: Any,
        biases: Any = None,
        activations: str | AnyActivation | Sequence[str | AnyActivation] = "identity",
        *,
        unit_names: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
        cyclic: bool = False,
        max_iterations: int = 1000,
    ) -> None:
        A, B = as_edges(A, "UnitGraph: A"), as_edges(B, "UnitGraph: B")
        (N, _), (_, m) = A.shape, B.shape
        if A.shape != (N, N) or N == 0:
            raise ShapeError(f"UnitGraph: A: expected a square matrix (N, N), but got {A.shape}.")
        if B.shape[0] != N:
            raise ShapeError(f"UnitGraph: B: expected a row per unit, ({N}, m), got {B.shape}.")
        b = np.zeros(N, A.dtype) if biases is None else as_floats(biases, "UnitGraph: biases")
        require_shape(b, (N,), "UnitGraph: biases", "One per unit.")
        dtype = np.result_type(A.dtype, B.dtype, b.dtype)
        kinds, distinct = as_kinds(activations, N)
        unit_names = numbered(as_names(unit_names, N, "UnitGraph: unit_names"), N, "u", 0)
        input_names = numbered(as_names(input_names, m, "UnitGraph: input_names"), m, "x", 0)
        twice = [name for name, k in Counter([*unit_names, *input_names]).items() if k > 1]
        if twice:
            raise ValueError(f"UnitGraph: two units or inputs are called {twice[0]}.")
        A, B = (with_weights(M, M.data.astype(dtype, copy=False)) for M in (A, B))
        max_iterations = as_count(max_iterations, "UnitGraph: max_iterations")
        if as_flag(cyclic, "UnitGraph: cyclic"):
            walk: Acyclic | Cyclic = Cyclic(A, kinds, max_iterations)
        else:
            walk = Acyclic(A, kinds, _levels(A, unit_names))
        b = freeze(b.astype(dtype, copy=False))
        values = (A, B, b, unit_names, input_names, bool(cyclic), max_iterations)
        for field, value in zip(fields(self), (*values, kinds, distinct, walk), strict=True):
            object.__setattr__(self, field.name, value)

    # --- made from others -------------------------------------------------------------------------

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[tuple[str, str, float]],
        inputs: Sequence[str],
        biases: Mapping[str, float] | None = None,
        activations: str | AnyActivation | Mapping[str, str | AnyActivation] = "identity",
        **options: Any,
    ) -> UnitGraph:
        """Make a graph from named edges ``(source, target, weight)``.

        The units are all names that are not inputs, in the order in which they first appear.

        Parameters
        ----------
        edges : iterable of (str, str, float)
        inputs : sequence of str
        biases : mapping from names of units to numbers, optional
            Zero where nothing is said.
        activations : str or Activation, or a mapping from names of units to them
            Identity where nothing is said.
        **options
            ``cyclic`` and ``max_iterations``, as for ``UnitGraph``.

        Raises
        ------
        ValueError
            If an edge leads into an input or is given twice, no edge leads to a unit, ``biases``
            or ``activations`` name no unit, or edges close a cycle; the message names them.

        >>> graph = UnitGraph.from_edges(
        ...     [("x1", "h1", 0.5), ("h1", "y", -2.0), ("x1", "y", 3.0)],
        ...     inputs=["x1"], biases={"h1": 0.1}, activations={"h1": "tanh"},
        ... )
        >>> print(graph)
        inputs   x1
        level 1  h1 = tanh(0.5 x1 + 0.1)
        level 2  y = -2 h1 + 3 x1
        >>> graph.linearize([-0.2]).input_jacobian()[graph.index("y")]
        array([2.])
        """
        where = "UnitGraph.from_edges"
        names, inputs, A, B = read_named_edges(edges, inputs, where)
        b = by_name(biases or {}, names, 0.0, f"{where}: biases")
        sigmas: Any = activations
        if isinstance(activations, Mapping):
            sigmas = by_name(activations, names, "identity", f"{where}: activations")
        return cls(A, B, b, sigmas, unit_names=names, input_names=inputs, **options)

    @classmethod
    def from_network(cls, net: Network) -> UnitGraph:
        """Take a network apart into its units, node after node.

        Unit i of node l stands at ``n_1 + ... + n_{l-1} + i`` and is called ``a<l>[i]``, or by the
        node's name.  Every weight of a dense layer becomes an edge, zero or not; of other layers,
        every entry of their map that is not 0.

        Raises
        ------
        TypeError
            If a layer has a vector-valued activation such as softmax, or a preactivation that is
            not affine.

        >>> from jacobians.layers import Dense
        >>> net = Network([Dense([[1, 2], [0, 4]], activation="relu"), Dense([[1, -1]])])
        >>> print(UnitGraph.from_network(net))
        inputs   x0, x1
        level 1  a1[0] = relu(x0 + 2 x1)
                 a1[1] = relu(0 x0 + 4 x1)
        level 2  a2[0] = a1[0] - a1[1]
        """
        A, B, b = read_network(net)
        sigmas: list[AnyActivation] = []
        names: list[str] = []
        for l, (layer, name) in enumerate(zip(net.layers, net.names[1:], strict=True), start=1):
            node, width = f"a{l}" if name == str(l) else name, net.widths[l]
            sigmas += [layer.activation] * width
            names += [f"{node}[{i}]" for i in range(width)]
        return cls(A, B, b, sigmas, unit_names=names, input_names=net.input_names)

    def to_network(self) -> Network:
        """Put the graph together as a network of blocks, whose output is the values of all units.

        Units of one level and activation are one dense layer; all that takes a network takes it.

        Raises
        ------
        ValueError, TooLargeError
            With cycles, without an input, or if a block is too large as a dense matrix.

        >>> graph = UnitGraph([[0, 0], [2, 0]], [[1], [3]], activations=["tanh", "identity"])
        >>> graph.to_network()
        Network 1-...-2, 5 nodes float64, 5 parameters: tanh, identity, identity, identity, identity
        """
        return write_network(self)

    # --- values -----------------------------------------------------------------------------------

    def __call__(self, x: Any) -> Array:
        """Return the values of all units, shape (N,) or (B, N), in the caller's order."""
        return self._run(as_points(x, self.B.shape[1], "UnitGraph: x", self.dtype))[1]

    def linearize(self, x: Any) -> UnitLinearization:
        """Linearize the graph at a point (m,), or at every point of a batch (B, m).

        Raises
        ------
        ShapeError, NotFiniteError
            If ``x`` does not fit, or a value leaves the range of the dtype.
        DomainError
            With cycles, if the iteration does not settle.
        """
        x = freeze(as_points(x, self.B.shape[1], "UnitGraph: x", self.dtype))
        z, h = self._run(x)
        slopes = np.empty_like(z)
        for kind, sigma in enumerate(self._distinct):
            alike = self._kinds == kind
            slopes[..., alike] = sigma.derivative(z[..., alike])
        for array in (z, h, slopes):
            array.flags.writeable = False
        return UnitLinearization(self, x, z, h, slopes)

    def _run(self, x: Array) -> tuple[Array, Array]:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            drive = self.B @ x.T + (self.biases if x.ndim == 1 else self.biases[:, None])
            z, h = self._walk.values(drive, lambda kind, z: self._distinct[kind](z))
        finite = np.isfinite(z) & np.isfinite(h)
        lost = np.flatnonzero(~finite.reshape(len(z), -1).all(axis=1))
        if lost.size:
            first = min(
                lost, key=self._walk.level.__getitem__
            )  # the others may only have heard of it
            raise NotFiniteError(
                f"UnitGraph: the value of unit {self.unit_names[first]} leaves the range of "
                f"{self.dtype}. Rescale the inputs or weights."
            )
        return np.ascontiguousarray(z.T), np.ascontiguousarray(h.T)

    @underflow_is_rounding
    def step(self, gradients: UnitGradients, rate: float) -> UnitGraph:
        """Return the graph one gradient step further: each parameter minus ``rate`` times its own.

        >>> graph = UnitGraph([[0]], [[2]])
        >>> graph.step(graph.linearize([3.0]).backprop([1.0]), rate=0.5).B.toarray()
        array([[0.5]])
        """
        if gradients.at.graph is not self:
            raise ValueError("UnitGraph.step: the gradients belong to another graph.")
        rate = as_nonnegative(rate, "UnitGraph.step: rate")
        return UnitGraph(
            with_weights(self.A, self.A.data - rate * gradients.edges.data),
            with_weights(self.B, self.B.data - rate * gradients.input_edges.data),
            self.biases - rate * gradients.biases,
            self.activations,
            unit_names=self.unit_names,
            input_names=self.input_names,
            cyclic=self.cyclic,
            max_iterations=self.max_iterations,
        )

    # --- what it is -------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The common dtype of weights and biases."""
        return self.biases.dtype

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The activation of every unit."""
        return tuple(self._distinct[kind] for kind in self._kinds)

    @property
    def levels(self) -> Indices:
        """The level of every unit: 1 if no unit feeds it, else one above the highest that does.

        Sorting by it is a topological order; the longest path has one edge less than there are
        levels.  In a layered network it is the number of the layer.
        """
        if self.cyclic:
            raise ValueError(
                "UnitGraph: a graph with cycles has no levels, and there may be infinitely many "
                "paths."
            )
        return self._walk.level.copy()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate([*self.unit_names, *self.input_names])}

    def index(self, unit: str | int) -> int:
        """Return the index of a unit in the vector of values."""
        i = self.vertex(unit, "UnitGraph.index")
        if i >= len(self.biases):
            raise ValueError(f"UnitGraph.index: {unit} is an input, not a unit.")
        return i

    def vertex(self, name: str | int, where: str = "UnitGraph.vertex") -> int:
        """Return the index of a unit, or ``N + k`` for input k, which goes by its name only."""
        if isinstance(name, str):
            require_known(name, self._numbers, where)
            return self._numbers[name]
        i = as_count(name, where, at_least=0)
        if i >= len(self.biases):
            raise ValueError(f"{where}: units go from 0 to {len(self.biases) - 1}, got {i}.")
        return i

    def downstream(self, unit: str | int) -> tuple[str, ...]:
        """Return the names of the units that a unit or an input feeds: ``Downstream(j)``."""
        fed = self.joint_edges.tocsc()[:, [self.vertex(unit, "UnitGraph.downstream")]].nonzero()[0]
        return tuple(self.unit_names[i] for i in sorted(fed))

    @cached_property
    def joint_edges(self) -> Any:
        """Return ``[A B]``: inputs as units that nothing feeds, behind the others."""
        return beside(self.A, self.B)

    def picture(self, most: int = 40) -> str:
        """Write the graph level by level, one equation per unit; only the first ``most`` units."""
        return written(self, most)

    def __str__(self) -> str:
        return self.picture()

    def __repr__(self) -> str:
        N, m = self.B.shape
        depth = int(self._walk.level.max())
        form = f"on {counted(depth, 'level')}" if depth else "with cycles"
        edges = counted(self.A.nnz + self.B.nnz, "edge")
        size = f"{counted(N, 'unit')} {form}, {counted(m, 'input')}, {edges}, {self.dtype}"
        return f"UnitGraph {size}: {', '.join(shortened([str(sigma) for sigma in self._distinct]))}"


def _levels(A: Any, names: Sequence[str]) -> Indices:
    """Return the level of every unit, or refuse a cycle, naming its units."""
    level = find_levels(A)
    if not level.all():
        cycle = " -> ".join(names[i] for i in find_cycle(A, level))
        raise ValueError(
            f"UnitGraph: the edges {cycle} close a cycle. Remove one of them, or say "
            "cyclic=True to read the values as a fixed point."
        )
    return level
