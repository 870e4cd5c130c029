"""From what users write to sorted edges: lists of layers, blocks inside them, named nodes.

An edge list holds a name, a layer and the numbers of the nodes it reads for node 1, 2, ..., L; the
input is node 0, and every node reads smaller numbers.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, pairwise
from math import prod
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, ShapeError, as_count, as_floats, as_items, require_shape
from jacobians._machine import require_memory
from jacobians._notebook import Table
from jacobians.activations import AnyActivation
from jacobians.layers import Add, Concatenate, Dense, Gather, Layer, Shape
from jacobians.vectorization import unvec, vec

Edges: TypeAlias = list[tuple[str, Layer, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Residual:
    """A branch that is added to what goes into it: ``a + branch(a)``.

    Parameters
    ----------
    layers : sequence of layers
        The branch; what comes out must have the shape of what goes in.
    """

    layers: Sequence[Any]


@dataclass(frozen=True, eq=False)
class Parallel:
    """Branches that read the same value and are joined.

    Parameters
    ----------
    branches : sequence of layers or of sequences of layers
        An empty sequence hands the value on as it is.
    join : Layer, optional
        ``Concatenate()`` unless said.
    """

    branches: Sequence[Any]
    join: Layer | None = None


def path_of(layers: Iterable[Any]) -> Edges:
    """Expand a list of layers and blocks; every node is named by its number."""
    try:
        given = list(layers)
    except TypeError:
        raise TypeError(f"Network: layers: expected layers, but got {layers!r}.") from None
    if not given:
        raise ValueError("Network: layers: expected at least one layer, but got none.")
    edges: Edges = []
    _append(edges, given, 0, None)
    return edges


def _append(edges: Edges, layers: Any, source: int, prefix: str | None) -> int:
    """Append the nodes of a list of layers, and return the number of the last one."""
    for layer in layers if isinstance(layers, (list, tuple)) else [layers]:
        source = expand(edges, layer, (source,), prefix)
    return source


def expand(edges: Edges, layer: Any, sources: tuple[int, ...], prefix: str | None) -> int:
    """Append the nodes that a layer or block stands for, and return the number of the last one."""
    if isinstance(layer, (Residual, Parallel)) and len(sources) > 1:
        raise ShapeError(
            f"Network: {prefix}: a {type(layer).__name__} takes 1 input, but reads {len(sources)}."
        )
    if isinstance(layer, Residual):
        end = _append(edges, layer.layers, sources[0], prefix)
        layer, sources = Add(), (sources[0], end)
    elif isinstance(layer, Parallel):
        ends = tuple(_append(edges, branch, sources[0], prefix) for branch in layer.branches)
        layer, sources = layer.join or Concatenate(), ends
    l = len(edges) + 1
    if not isinstance(layer, Layer):
        raise TypeError(f"Network: layer {l}: expected a Layer, but got {layer!r:.80}.")
    edges.append((str(l) if prefix is None else f"{prefix}.{l}", layer, sources))
    return l


def sort_graph(
    nodes: Mapping[str, Any],
    inputs: Mapping[str, int | Shape],
    outputs: str | Sequence[str] | None,
) -> tuple[Edges, list[str], Shape, dict[str, slice], list[str]]:
    """Sort named nodes: edges, names of all nodes, the input's shape and parts, output names."""
    if not isinstance(nodes, Mapping) or not nodes or not isinstance(inputs, Mapping) or not inputs:
        raise TypeError("Network.graph: nodes and inputs: expected mappings from names.")
    _require_words([*nodes, *inputs], "Network.graph: nodes and inputs")
    described = {name: _node(name, node, nodes, inputs) for name, node in nodes.items()}
    ends = [outputs] if isinstance(outputs, str) else outputs
    ends = [list(nodes)[-1]] if ends is None else list(as_items(ends, "Network.graph: outputs"))
    _require_words(ends, "Network.graph: outputs")
    _require_known(ends, nodes, described)
    try:
        order = list(TopologicalSorter({n: d[1] for n, d in described.items()}).static_order())
    except CycleError as err:
        circle = " <- ".join(err.args[1])
        raise ValueError(f"Network.graph: nodes read each other: {circle}.") from None

    edges: Edges = []
    numbers, shape, parts = _input_nodes(edges, inputs)
    for name in order:
        if name not in described:
            continue
        layer, sources = described[name]
        number = expand(edges, layer, tuple(numbers[s] for s in sources), name)
        edges[number - 1] = (name, *edges[number - 1][1:])
        numbers[name] = number
    if len(ends) > 1:  # one vector comes out; a single output is the last node, all lead to it
        name = _unused("outputs", ends, described)
        edges.append((name, Concatenate(None), tuple(numbers[end] for end in ends)))
    names = [next(iter(parts)) if len(parts) == 1 else _unused("x", parts, {**described, **parts})]
    names += [name for name, _, _ in edges]
    _require_words(names, "Network.graph: nodes (those inside a block are block.1, block.2, ...)")
    return edges, names, shape, parts, ends


def _require_words(names: Sequence[Any], where: str) -> None:
    """Check that all are strings, each once."""
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{where}: expected names, but got {name!r:.80}.")
        if name in seen:
            raise ValueError(f"{where}: {name!r} stands there twice. Choose another name.")
        seen.add(name)


def _unused(name: str, members: Iterable[str], used: Container[str]) -> str:
    """Return the name of a vector of several, or if it is in use a list of what it holds."""
    return f"({', '.join(members)})" if name in used else name


def _node(
    name: str, node: Any, nodes: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    if not isinstance(node, (tuple, list)) or len(node) < 2:
        raise TypeError(
            f"Network.graph: node {name!r}: expected (layer, source, ...), got {node!r:.80}."
        )
    layer, *sources = node
    for source in sources:
        if source not in nodes and source not in inputs:
            raise ValueError(f"Network.graph: node {name!r} reads {source!r}, which is not there.")
    return layer, tuple(sources)


def _require_known(
    ends: Sequence[str], nodes: Mapping[str, Any], described: Mapping[str, tuple[Any, Any]]
) -> None:
    for end in ends:
        if end not in nodes:
            raise ValueError(f"Network.graph: outputs: no node is called {end!r}.")
    read = {source for _, sources in described.values() for source in sources}
    idle = [name for name in nodes if name not in read and name not in ends]
    if idle:
        raise ValueError(
            f"Network.graph: nothing reads {', '.join(map(repr, idle))}; "
            "name it among the outputs, or leave it out."
        )


def _input_nodes(
    edges: Edges, inputs: Mapping[str, int | Shape]
) -> tuple[dict[str, int], Shape, dict[str, slice]]:
    """Return the node of every input: the vector itself, or a part of it that a node takes out."""
    shapes = {
        name: tuple(as_count(n, f"Network.graph: inputs: {name}") for n in size)
        if isinstance(size, tuple)
        else (as_count(size, f"Network.graph: inputs: {name}"),)
        for name, size in inputs.items()
    }
    parts = consecutive({name: prod(shape) for name, shape in shapes.items()})
    if len(shapes) == 1:
        (name,) = shapes
        return {name: 0}, shapes[name], parts
    numbers: dict[str, int] = {}
    for name, shape in shapes.items():
        part = np.arange(parts[name].start, parts[name].stop).reshape(shape)
        edges.append((name, Gather(part), (0,)))
        numbers[name] = len(edges)
    return numbers, (parts[name].stop,), parts


def consecutive(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Return the part that each name takes of one vector, one after the other."""
    ends = accumulate(sizes.values())
    return {n: slice(end - size, end) for (n, size), end in zip(sizes.items(), ends, strict=True)}


def edges_of(
    layers: Sequence[Layer], sources: Sequence[Sequence[int]], names: Sequence[str]
) -> Edges:
    """Check nodes that are sorted already, and return their edges."""
    if not len(layers) == len(sources) == len(names) - 1 or len(set(names)) != len(names):
        raise ValueError("Network.from_nodes: a layer, its sources and a name for every node.")
    for l, entering in enumerate(sources, start=1):
        if not entering or not all(isinstance(s, int) and 0 <= s < l for s in entering):
            raise ValueError(f"Network.from_nodes: node {l} reads {entering!r:.80}.")
    return [(n, y, tuple(s)) for n, y, s in zip(names[1:], layers, sources, strict=True)]


def random_layers(
    widths: Sequence[int],
    activation: str | AnyActivation,
    output_activation: str | AnyActivation,
    seed: int | np.random.Generator | None,
) -> list[Layer]:
    """Draw dense layers with normal weights of variance ``1/n_in`` and biases of 0.01."""
    where = "Network.random: widths"
    widths = [as_count(width, where) for width in as_items(widths, where)]
    if len(widths) < 2:
        raise ValueError(f"Network.random: widths: expected at least two, but got {widths}.")
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as err:
        raise type(err)(f"Network.random: seed: {err}") from None
    for inputs, outputs in pairwise(widths):
        require_memory((outputs, inputs), np.dtype(float), where, "Take fewer")
    layers: list[Layer] = []
    for l, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        W = rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        b = 0.1 * rng.standard_normal(outputs)
        layers.append(Dense(W, b, output_activation if l == len(widths) - 1 else activation))
    return layers


# --- what a network checks of its nodes -----------------------------------------------------------


def input_shape(layers: Sequence[Layer], inputs: int | Shape | None) -> Shape:
    """Return the shape of the input: as it was given, or as the first layer that insists says."""
    if inputs is None:
        # layers in front of the first one that insists on a width must go along with it
        inputs = next((layer.inputs for layer in layers if layer.inputs is not None), None)
    if inputs is None:
        raise ShapeError("Network: no layer fixes the number of inputs; say inputs=n.")
    sizes = inputs if isinstance(inputs, tuple) else (inputs,)
    return tuple(as_count(n, "Network: inputs") for n in sizes)


def require_fit(layer: Layer, name: str, sources: Sequence[int], shapes: Sequence[Shape]) -> None:
    """Refuse a layer that reads too few or too many values, or one of the wrong width."""
    arity = layer.arity
    if len(sources) != arity if arity is not None else len(sources) < 2:
        demand = "two or more inputs" if arity is None else f"{arity} input{'s' * (arity > 1)}"
        raise ShapeError(
            f"Network: layer {name} ({layer}) takes {demand}, but reads {len(sources)}."
        )
    width = prod(shapes[0])
    per_row = len(shapes[0]) > 1 and shapes[0][-1] == layer.inputs
    if layer.inputs not in (None, width) and not per_row:
        source = f"layer {sources[0]} gives" if sources[0] else "the network gets"
        raise ShapeError(
            f"Network: layer {name} ({layer}) takes {layer.inputs} inputs, but {source} {width}."
        )


# --- parameters as one vector ---------------------------------------------------------------------


def stacked_parameters(layers: Sequence[Layer], dtype: np.dtype[Any]) -> Array:
    """Return vec of every parameter, one below the other."""
    every = [p for layer in layers for p in layer.parameters().values()]
    stacked = [vec(p.reshape(len(p), -1)) for p in every]
    return np.concatenate(stacked) if stacked else np.zeros(0, dtype)


def layers_with(
    layers: Sequence[Layer], parameters: Any, dtype: np.dtype[Any]
) -> tuple[Layer, ...]:
    """Return the layers with the parameters of such a vector."""
    where = "Network.with_parameters: parameters"
    theta = as_floats(parameters, where, dtype=dtype)
    count = sum(p.size for layer in layers for p in layer.parameters().values())
    require_shape(theta, (count,), where, "In the order of net.parameters.")
    changed, start = [], 0
    for layer in layers:
        arrays = {}
        for name, p in layer.parameters().items():
            matrix = unvec(theta[start : start + p.size], (len(p), p.size // len(p)))
            arrays[name] = matrix.reshape(p.shape)
            start += p.size
        changed.append(layer.with_arrays(arrays))
    return tuple(changed)


# --- how a network is shown -----------------------------------------------------------------------


def sizes_of(widths: Sequence[int], is_path: bool) -> str:
    """Return the widths in one short line."""
    if not is_path:
        return f"{widths[0]}-...-{widths[-1]}, {len(widths) - 1} nodes"
    shown = [str(width) for width in widths]
    return "-".join([*shown[:4], "...", *shown[-2:]] if len(shown) > 10 else shown)


def activations_of(layers: Sequence[Layer]) -> str:
    """Return the activations in one short line."""
    shown = [str(layer.activation) for layer in layers]
    return ", ".join([*shown[:3], "...", shown[-1]] if len(shown) > 6 else shown)


def rows_of(
    names: Sequence[str],
    layers: Sequence[Layer],
    sources: Sequence[Sequence[int]],
    shapes: Sequence[Shape],
) -> Table:
    """Return a row for every node: its name, layer, what it reads, its shape and parameters."""
    rows = [[names[0], "input", "", "x".join(map(str, shapes[0])), ""]]
    for name, layer, reads, shape in zip(names[1:], layers, sources, shapes[1:], strict=True):
        count = sum(p.size for p in layer.parameters().values())
        reading = ", ".join(names[s] for s in reads)
        rows.append([name, str(layer), reading, "x".join(map(str, shape)), f"{count:,}"])
    return ["node", "layer", "reads", "shape", "parameters"], rows
