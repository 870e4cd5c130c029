"""Network: layers on a directed acyclic graph, its nodes in sorted order.

``H(x) = a^L`` with ``a^0 = x``: node ``l`` reads the values of earlier nodes, computes
``z^l = W^l a^{l-1} + b^l`` or whatever its layer says, and ``a^l = sigma^l(z^l)``.  A list of
layers is the graph of one path, in which node ``l`` is layer ``l`` and reads node ``l - 1``.  The
network only computes its values; the functions that ask more of it take it first.

Every value is kept flat, (n,) or (B, n); the axes of its own that it may have (an image, tokens)
belong to the node, and are laid out in C order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    NotFiniteError,
    ShapeError,
    as_dtype,
    as_layer,
    read_only,
)
from jacobians._graph import (
    Edges,
    activations_of,
    consecutive,
    edges_of,
    input_shape,
    layers_with,
    path_of,
    random_layers,
    require_fit,
    rows_of,
    sizes_of,
    sort_graph,
    stacked_parameters,
)
from jacobians._names import as_names
from jacobians._notebook import Displayed, Table
from jacobians._tables import PointsLike, as_inputs
from jacobians.activations import AnyActivation
from jacobians.layers import Layer, Shape


@dataclass(frozen=True, eq=False, repr=False)
class Network(Displayed):
    """A feedforward network.

    Parameters
    ----------
    layers : sequence of Layer, Residual or Parallel
        At least one; layer ``l`` of the paper is ``layers[l - 1]``.  Mixed dtypes are settled here:
        all layers take the widest one.  Blocks are expanded to the nodes they stand for.
    inputs : int or tuple of int, optional
        Number of inputs, or the shape of the input's value, such as (1, 28, 28); points are rows
        in either case.  Needed only if no layer fixes it.
    input_names, output_names : sequence of str, optional
        Labels for tables and pictures.

    Raises
    ------
    ShapeError
        If two neighbours do not fit; the message names both.
    TypeError
        If something in ``layers`` is not a layer.

    >>> from jacobians.layers import Dense
    >>> net = Network([Dense([[1, 2], [3, 4], [5, 6]], activation="tanh"), Dense([[1, 0, -1]])])
    >>> net
    Network 2-3-1 float64, 9 parameters: tanh, identity
    >>> net.widths, net.depth
    ((2, 3, 1), 2)
    >>> net([0.0, 0.0])
    array([0.])
    """

    layers: tuple[Layer, ...]
    sources: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    dtype: np.dtype[Any]
    input_names: tuple[str, ...] | None
    output_names: tuple[str, ...] | None
    inputs: Mapping[str, slice]
    outputs: Mapping[str, slice]

    def __init__(
        self,
        layers: Iterable[Any],
        *,
        inputs: int | Shape | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        self._build(path_of(layers), inputs, input_names, output_names)

    @classmethod
    def graph(
        cls,
        nodes: Mapping[str, Any],
        *,
        inputs: Mapping[str, int | Shape],
        outputs: str | Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> Network:
        """Make a network from named nodes.

        Parameters
        ----------
        nodes : mapping of str to (layer, source, source, ...)
            A layer (or Residual, Parallel) and the names of the nodes that it reads, in any order.
        inputs : mapping of str to int or shape
            The parts of the input vector, one after the other, with their sizes.
        outputs : str or sequence of str, optional
            The nodes whose values are the output, one after the other; the last node unless said.
        input_names, output_names : sequence of str, optional
            Labels of the single entries.

        Raises
        ------
        ValueError
            If a node reads one that is not there, nodes read each other in a circle, or nothing
            reads a node that is not an output.
        ShapeError
            If a node's inputs do not fit its layer.

        >>> from jacobians.layers import Add, Dense
        >>> net = Network.graph(
        ...     {"h": (Dense([[1, 2], [3, 4]], activation="relu"), "x"), "y": (Add(), "h", "x")},
        ...     inputs={"x": 2},
        ... )
        >>> net([1.0, 1.0])
        array([4., 8.])
        """
        edges, names, width, parts, ends = sort_graph(nodes, inputs, outputs)
        net = object.__new__(cls)
        net._build(edges, width, input_names, output_names)
        sizes = {name: net.widths[names.index(name)] for name in ends}
        return net._with(names=tuple(names), inputs=parts, outputs=consecutive(sizes))

    def _build(
        self,
        edges: Edges,
        inputs: int | Shape | None,
        input_names: Sequence[str] | None,
        output_names: Sequence[str] | None,
    ) -> None:
        """Settle dtypes and shapes, and bind every layer to what it reads."""
        layers = [layer for _, layer, _ in edges]
        dtypes = [layer.dtype for layer in layers if layer.dtype is not None]
        dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
        shapes = [input_shape(layers, inputs)]
        bound = []
        for name, layer, sources in edges:
            entering = [shapes[s] for s in sources]
            require_fit(layer, name, sources, entering)
            try:
                fitted = layer.astype(dtype).on(*entering)
                shapes.append(fitted.output_shape(*entering))
            except ShapeError as err:
                raise ShapeError(f"Network: layer {name}: {err}") from None
            bound.append(fitted)
        set_ = object.__setattr__
        set_(self, "layers", tuple(bound))
        set_(self, "sources", tuple(tuple(sources) for _, _, sources in edges))
        set_(self, "names", ("x", *(name for name, _, _ in edges)))
        set_(self, "shapes", tuple(shapes))
        set_(self, "dtype", dtype)
        set_(self, "inputs", consecutive({"x": self.widths[0]}))
        set_(self, "outputs", consecutive({self.names[-1]: self.widths[-1]}))
        set_(self, "input_names", as_names(input_names, self.widths[0], "Network: input_names"))
        set_(self, "output_names", as_names(output_names, self.widths[-1], "Network: output_names"))

    @classmethod
    def from_nodes(
        cls,
        layers: Sequence[Layer],
        sources: Sequence[Sequence[int]],
        names: Sequence[str],
        *,
        inputs: int | Shape,
        parts: Sequence[Mapping[str, slice]] = (),
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> Network:
        """Make a network from its sorted nodes, as ``layers``, ``sources`` and ``names`` give them.

        Parameters
        ----------
        layers, sources : sequences
            Of node 1 to L: the layer, and the numbers of the earlier nodes that it reads.
        names : sequence of str
            Of node 0 to L.
        parts : two mappings from str to slice, optional
            The named parts of the input and of the output.
        inputs, input_names, output_names
            As everywhere.
        """
        net = object.__new__(cls)
        net._build(edges_of(layers, sources, names), inputs, input_names, output_names)
        named = dict(zip(("inputs", "outputs"), map(dict, parts), strict=False))
        return net._with(names=tuple(str(name) for name in names), **named)

    @classmethod
    def random(
        cls,
        widths: Sequence[int],
        activation: str | AnyActivation = "tanh",
        output_activation: str | AnyActivation = "identity",
        seed: int | np.random.Generator | None = None,
        dtype: Any = np.float64,
    ) -> Network:
        """Make a dense network with normal weights of variance ``1/n_in`` and biases of 0.01.

        Parameters
        ----------
        widths : sequence of int
            ``(n_0, ..., n_L)``.
        activation, output_activation : str or Activation
            Of the hidden layers and of the last one.
        seed : int or Generator, optional
        dtype : float32 or float64

        >>> Network.random([4, 16, 2], seed=0)
        Network 4-16-2 float64, 114 parameters: tanh, identity
        """
        return cls(random_layers(widths, activation, output_activation, seed)).astype(dtype)

    @property
    def depth(self) -> int:
        """Number of nodes after the input, ``L``: the layers of a path."""
        return len(self.layers)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Number of entries of every node's value, ``(n_0, ..., n_L)``."""
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def is_path(self) -> bool:
        """Whether every node reads the one before it, and nothing else."""
        return all(sources == (l,) for l, sources in enumerate(self.sources))

    def number(self, node: int | str, where: str, low: int = 0, high: int | None = None) -> int:
        """Return the number of a node that is given by number or by name.

        Raises
        ------
        ValueError
            If there is no such node between ``low`` and ``high``.
        """
        high = self.depth if high is None else high
        if isinstance(node, str):
            if node not in self.names:
                shown = ", ".join(self.names[:12]) + (", ..." if self.depth > 11 else "")
                raise ValueError(f"{where}: no node is called {node!r}; there are {shown}.")
            node = self.names.index(node)
        return as_layer(node, where, low, high)

    def astype(self, dtype: Any) -> Network:
        """Return the same network in float32 or float64.

        Raises
        ------
        NotFiniteError
            If a weight does not fit.
        """
        dtype = as_dtype(dtype, "Network.astype")
        if dtype == self.dtype:
            return self
        return self._with(layers=tuple(layer.astype(dtype) for layer in self.layers), dtype=dtype)

    def with_names(
        self, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
    ) -> Network:
        """Return the network with other labels of inputs and outputs; None keeps those it has.

        >>> Network.random([2, 3, 1], seed=0).with_names(["age", "dose"]).input_names
        ('age', 'dose')
        """
        first = self.input_names if inputs is None else inputs
        last = self.output_names if outputs is None else outputs
        return self._with(
            input_names=as_names(first, self.widths[0], "with_names: inputs"),
            output_names=as_names(last, self.widths[-1], "with_names: outputs"),
        )

    # --- values -----------------------------------------------------------------------------------

    def forward(
        self, a0: Array, of: int | None = None
    ) -> Iterator[tuple[int, tuple[Array, ...], Array, Array]]:
        """Compute node after node: yield its number, what it reads, ``z^l`` and ``a^l``.

        The only forward pass.  Values are handed on read-only, and let go after their last reader.

        Parameters
        ----------
        a0 : array, shape (n_0,) or (B, n_0)
        of : int, optional
            The last node to compute.
        """
        values = {0: read_only(a0)}
        for l, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True), start=1):
            if of is not None and l > of:
                return
            entering = tuple(values[s] for s in sources)
            z = read_only(layer.preactivation(*entering))
            values[l] = a = read_only(layer.activation(z))
            yield l, entering, z, a
            for s in set(sources):
                if self.last_reader[s] == l:
                    del values[s]

    @cached_property
    def last_reader(self) -> dict[int, int]:
        """The last node that reads the value of each node."""
        return {s: l for l, sources in enumerate(self.sources, start=1) for s in sources}

    def __call__(self, X: PointsLike) -> Array:
        """Return ``H(x)`` for one point (n_0,), or for every row of a batch (B, n_0).

        Raises
        ------
        ShapeError, NotFiniteError
            If ``X`` does not fit or holds NaN, or if the output overflows.
        """
        a = as_inputs(X, self, "Network: X")
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            for _, _, _, value in self.forward(a):
                a = value
        if not np.isfinite(a).all():
            raise NotFiniteError(
                f"Network: the output leaves the range of {self.dtype}; trace(net, X) names the "
                "layer. Rescale the inputs or weights."
            )
        return a.copy()

    # --- parameters as one vector -----------------------------------------------------------------

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum(p.size for layer in self.layers for p in layer.parameters().values())

    @property
    def parameters(self) -> Array:
        """All parameters as ``(vec W^1, b^1, ..., vec W^L, b^L)``, a new vector.

        A kernel of more axes counts as the matrix of one row per output channel.
        """
        return stacked_parameters(self.layers, self.dtype)

    def with_parameters(self, parameters: Any) -> Network:
        """Return the network with other parameters, in the order of ``parameters``.

        >>> net = Network.random([2, 3, 1], seed=0)
        >>> twice = net.with_parameters(2 * net.parameters)
        >>> bool((twice.layers[0].W == 2 * net.layers[0].W).all())
        True
        """
        return self._with(layers=layers_with(self.layers, parameters, self.dtype))

    def _with(self, **changed: Any) -> Network:
        """Return the network with some fields replaced; shapes and edges stay."""
        net = object.__new__(type(self))
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in {**kept, **changed}.items():
            object.__setattr__(net, name, value)
        return net

    def _table(self) -> Table:
        return rows_of(self.names, self.layers, self.sources, self.shapes)

    def __repr__(self) -> str:
        size = f"{sizes_of(self.widths, self.is_path)} {self.dtype}"
        return f"Network {size}, {self.parameter_count:,} parameters: {activations_of(self.layers)}"


def as_network(value: Any, where: str) -> Network:
    """Return the network, or say what to put first."""
    if isinstance(value, Network):
        return value
    importers = {"sklearn": "from_sklearn", "torch": "from_torch", "keras": "from_keras"}
    bases = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    way_out = next((f" Import it: jb.{f}(...)." for m, f in importers.items() if m in bases), "")
    way_out = f" Read it: jb.load({value!r:.60})." if isinstance(value, str) else way_out
    raise TypeError(f"{where}: net: expected a Network first, but got {value!r:.80}.{way_out}")
