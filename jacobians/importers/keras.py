"""Keras 3 models -> Network, whatever the backend.

A model is what its ``call`` does with a point: given a symbol in place of numbers it leaves the
layers it applied, and the ``call`` of each layer leaves operations.  So graphs with branches,
models in models, subclasses and ``keras.ops`` are all read in the same way, down to a table of
operations.  At last model and network are evaluated at random points, and refused if they differ.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from graphlib import TopologicalSorter
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import as_count, flags_end_with_it, missing_extra
from jacobians.importers._assembly import Assembly, Value
from jacobians.importers._calls import chosen_output, each, fixed
from jacobians.importers._steps import Steps
from jacobians.importers.keras_operators import LAYERS, OPERATIONS, KerasCall
from jacobians.network import Network


@flags_end_with_it
def from_keras(model: Any, *, inputs: Any = None, output: str | int | None = None) -> Network:
    """Import a Keras 3 model.

    Parameters
    ----------
    model : keras.Model
        In which every operation has a rule; ``jacobians.importers.IMPORTABLE`` lists them.
    inputs : int or tuple of int, optional
        The shape of one point, where the model does not say it itself.
    output : str or int, optional
        Which of several outputs, by position or name.

    Returns
    -------
    Network
        What the model computes in inference, ``training=False``.  Its points are flattened, row by
        row, channels where the model has them.  What a model computes in half precision, the
        network computes in float32, without its roundings.

    Raises
    ------
    NotImplementedError
        If an operation has no rule, naming the layer.
    ValueError
        If the model is not built yet, or a layer is called with ``training=True``.
    TypeError
        If ``model`` is not a Keras model.
    ImportError
        If keras is not installed.

    >>> from jacobians.importers import IMPORTABLE
    >>> "BatchNorm" in IMPORTABLE["from_keras"]
    True
    """
    try:
        import keras
    except ImportError as err:
        raise missing_extra("keras", "keras", "from_keras") from err
    if not isinstance(model, keras.Model):
        raise TypeError(f"from_keras: expected a keras model, but got {model!r:.80}.")
    with _restored(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Keras thinks of symbols for one point
        return _Import(model, inputs).network(output)


@contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Forget the calls that layers note down while they are given symbols."""
    layers = list(model._flatten_layers())
    before = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
    try:
        yield
    finally:
        for layer, (inbound, outbound) in zip(layers, before, strict=True):
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]


class _Import:
    """One model on its way in."""

    def __init__(self, model: Any, inputs: Any) -> None:
        import keras

        self.model, self.kind = model, type(model).__name__
        wide = {str(weight.dtype) for weight in model.weights if "float" in str(weight.dtype)}
        wide = wide or {keras.config.floatx()}
        self.dtype = np.dtype(np.float64 if "float64" in wide else np.float32)
        self.assembly = Assembly("from_keras", dtype=self.dtype)
        self.symbols = self._symbols(inputs)

    def _symbols(self, inputs: Any) -> Any:
        """Return symbols for one point, in the structure that the model takes."""
        import keras

        at = self.kind
        if inputs is not None:
            sizes = (as_count(n, "from_keras: inputs") for n in each(inputs, 1))
            return keras.KerasTensor((1, *sizes), str(self.dtype))
        given = getattr(self.model, "inputs", None)
        if not given:
            self.assembly.refuse(
                at,
                "is not built yet; call it on data, or begin with keras.Input. If it is a class of "
                "your own, say inputs=, the shape of one point.",
            )
        given = getattr(self.model, "_inputs_struct", given[0])
        for tensor in keras.tree.flatten(given):
            if any(size is None for size in tensor.shape[1:]):
                self.assembly.refuse(
                    at, f"leaves a size of its input open: {tensor.shape}; say inputs=."
                )
            if not str(tensor.dtype).startswith(("float", "bfloat")):
                self.assembly.no_rule(at, f"an input of {tensor.dtype}", "Numbers are float.")
        return keras.tree.map_structure(
            lambda t: keras.KerasTensor((1, *t.shape[1:]), str(self.dtype), name=t.name), given
        )

    def network(self, output: str | int | None) -> Network:
        """Return the network, compared with the model."""
        import keras

        symbols = keras.tree.flatten(self.symbols)
        names = ["x"] if len(symbols) == 1 else [symbol.name for symbol in symbols]
        values = [
            self.assembly.input(tuple(s.shape[1:]) or (1,), name).reshaped(s.shape)
            for s, name in zip(symbols, names, strict=True)
        ]
        given = keras.tree.pack_sequence_as(self.symbols, values)
        results = keras.tree.flatten(self._apply(self.model, (given,), {}))
        named = getattr(self.model, "output_names", None) if len(results) > 1 else None
        names = list(named or range(len(results)))
        meant = names[output] if isinstance(output, int) and 0 <= output < len(names) else output
        index = chosen_output(names, meant, "from_keras")
        if not isinstance(results[index], Value):
            self.assembly.refuse(self.kind, "gives an output that no input leads to.")
        name = str(output) if isinstance(output, str) else f"output{index or ''}"
        net = self.assembly.network(results[index], name)
        self._compare(net, index)
        return net

    def _apply(
        self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inside: str = ""
    ) -> Any:
        """Apply an operation or layer to values: by its rule, or by what its ``call`` leaves."""
        import keras

        at = inside or _place(operation)
        if kwargs.pop("training", None):
            self.assembly.refuse(at, "is called with training=True; leave it out.")
        is_layer = isinstance(operation, keras.layers.Layer)
        at = _place(operation) if is_layer else at
        kind = type(operation).__name__
        rule = (LAYERS if is_layer else OPERATIONS).get(kind)
        own = is_layer and getattr(keras.layers, kind, None) is not type(operation)
        if rule is not None and not own:
            arguments = inspect.signature(operation.call).bind(*args, **kwargs).arguments
            return rule(KerasCall(self.assembly, at, operation, dict(arguments)))
        if not is_layer:
            hint = "jacobians.importers.IMPORTABLE lists the operations that have one."
            self.assembly.no_rule(at, f"the operation {kind}", hint)
        if getattr(operation, "quantization_mode", None) is not None:
            self.assembly.no_rule(at, f"quantization {operation.quantization_mode!r}")
        if isinstance(operation, keras.layers.RNN):
            return self._unrolled(operation, args, kwargs, at)
        return self._expanded(operation, args, kwargs, at)

    def _unrolled(self, layer: Any, args: Any, kwargs: Any, at: str) -> Any:
        """Apply a recurrent layer step by step, from a state of zeros."""
        import keras

        given = layer.state_size
        sizes = given if isinstance(given, (list, tuple)) else [given]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            self.assembly.no_rule(at, type(layer).__name__)
        if len(args) > 1 or any(value is not None for value in kwargs.values()) or layer.stateful:
            self.assembly.no_rule(at, "a state or mask that is given", "Begin with zeros.")
        steps = Steps(self.assembly, at)
        (x,) = args
        count = x.shape[1]
        states: Any = [keras.ops.zeros((1, size), dtype=str(self.dtype)) for size in sizes]
        outputs = []
        for t in reversed(range(count)) if layer.go_backwards else range(count):
            now = steps.move(x, steps.numbers(x)[:, t])
            output, states = self._expanded(layer.cell, (now, states), {}, at)
            outputs.append(output)
        if layer.return_sequences:
            rows = [output.reshaped((1, 1, *output.shape[1:])) for output in outputs]
            output = steps.concatenate(rows, 1)
        return [output, *states] if layer.return_state else output

    def _expanded(self, layer: Any, args: Any, kwargs: Any, at: str) -> Any:
        """Call a layer on symbols, and apply what it leaves to the values they stand for."""
        import keras

        values: dict[int, Any] = {}
        kept = []

        def symbol(part: Any) -> Any:
            if not isinstance(part, Value):
                return part
            tensor = keras.KerasTensor(part.shape, str(self.dtype))
            kept.append(tensor)  # its id must stay its own
            values[id(tensor)] = part
            return tensor

        last = _AFTERWARDS.get(getattr(getattr(layer, "activation", None), "__name__", ""))
        if last is not None:
            layer = copy.copy(layer)
            layer.__dict__["activation"] = keras.activations.linear
        if getattr(layer, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": False}
        args, kwargs = keras.tree.map_structure(symbol, (list(args), kwargs))
        try:
            results = layer.call(*args, **kwargs)
        except (NotImplementedError, ValueError, TypeError, AttributeError, RuntimeError) as err:
            if str(err).startswith("from_keras"):
                raise
            reason = next(iter(str(err).strip().splitlines()), repr(err))
            self.assembly.no_rule(
                at, type(layer).__name__, f"Its call takes no symbols: {reason:.120}"
            )
        inside = "" if isinstance(layer, keras.Model) else at
        for node in _in_order(results, values):
            filled = keras.tree.map_structure(
                lambda part: values.get(id(part), part),
                (list(node.arguments.args), dict(node.arguments.kwargs)),
            )
            given = self._apply(node.operation, tuple(filled[0]), filled[1], inside)
            for tensor, value in zip(node.output_tensors, keras.tree.flatten(given), strict=True):
                values[id(tensor)] = value
        results = keras.tree.map_structure(lambda part: values.get(id(part), part), results)
        if last is None:
            return results
        return last(KerasCall(self.assembly, at, layer, {"x": results}))

    def _compare(self, net: Network, index: int) -> None:
        """Refuse the import if the model, given three points at once, computes something else."""
        import keras

        symbols = keras.tree.flatten(self.symbols)
        points = np.random.default_rng(0).standard_normal((3, net.widths[0]))
        sizes = np.cumsum([prod(s.shape) for s in symbols])[:-1]
        parts = [
            part.reshape(3, *s.shape[1:]).astype(self.dtype)
            for part, s in zip(np.split(points, sizes, axis=1), symbols, strict=True)
        ]
        results = self.model(keras.tree.pack_sequence_as(self.symbols, parts), training=False)
        result = keras.ops.cast(keras.tree.flatten(results)[index], str(self.dtype))
        theirs = np.asarray(keras.ops.convert_to_numpy(result), np.float64)
        half = any("16" in str(layer.compute_dtype) for layer in self.model._flatten_layers())
        self.assembly.compare(
            net, points.astype(self.dtype), theirs, self.kind, 2**-5 if half else 2**-11
        )


def _place(operation: Any) -> str:
    return f"layer {operation.name!r} ({type(operation).__name__})"


def _in_order(results: Any, values: Mapping[int, Any]) -> list[Any]:
    """Return the nodes that lead to the results, each after those it reads."""
    import keras

    before: dict[Any, list[Any]] = {}
    waiting = _nodes(keras.tree.flatten(results), values)
    while waiting:
        node = waiting.pop()
        if node not in before:
            before[node] = _nodes(node.input_tensors, values)
            waiting += before[node]
    return list(TopologicalSorter(before).static_order())


def _nodes(tensors: Iterable[Any], values: Mapping[int, Any]) -> list[Any]:
    """Return the nodes that give tensors whose values are not known yet."""
    histories = [getattr(t, "_keras_history", None) for t in tensors if id(t) not in values]
    return [h.operation._inbound_nodes[h.node_index] for h in histories if h is not None]


# Functions that take no symbols; as the activation of a layer they come last.
_AFTERWARDS = {
    "mish": fixed("mish"),
    **dict.fromkeys(("hard_silu", "hard_swish"), OPERATIONS["HardSilu"]),
}
