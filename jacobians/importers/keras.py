"""Keras 3 models -> Network, whatever the backend.

A Sequential model, or a functional one in which every layer has one layer before it, in inference
mode.  Layers before ``Flatten`` may see images: what comes in is the flattened image, row by row
and channels last, as Flatten writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array, missing_extra
from jacobians.importers._assembly import Assembly
from jacobians.importers.pytorch import array_of
from jacobians.network import Network


def from_keras(model: Any) -> Network:
    """Import a Keras 3 model.

    Parameters
    ----------
    model : keras.Sequential or functional keras.Model
        One chain of the layers that ``jacobians.importers.IMPORTABLE`` lists; models may be nested.

    Returns
    -------
    Network
        What the model computes in inference, ``training=False``.

    Raises
    ------
    NotImplementedError
        If a layer has no rule, or the model branches, naming the layer.
    ValueError
        If the model is not built yet, or a layer is called with ``training=True``.
    TypeError
        If ``model`` is not a Keras model.
    ImportError
        If keras is not installed.

    >>> from jacobians.importers import IMPORTABLE
    >>> "BatchNormalization" in IMPORTABLE["from_keras"]
    True
    """
    try:
        import keras
    except ImportError as err:
        raise missing_extra("keras", "keras", "from_keras") from err
    if not isinstance(model, keras.Model):
        raise TypeError(f"from_keras: expected a keras model, but got {model!r:.80}.")
    assembly = Assembly("from_keras")
    at = type(model).__name__
    layers = list(_layers_of(model, assembly, at))
    shape = model.input_shape[1:]
    if any(size is None for size in shape):
        assembly.refuse(at, f"leaves a size of its input open: {model.input_shape}.")
    chain = _Chain(Assembly("from_keras", prod(shape)), shape)
    for layer in layers:
        RULES[type(layer).__name__](layer, chain, _place(layer))
    return chain.assembly.network()


# --- which layers, in which order -----------------------------------------------------------------


def _layers_of(model: Any, assembly: Assembly, at: str) -> Iterator[Any]:
    """Yield the layers of a model, and of the models in it, refusing those without a rule."""
    import keras

    if type(model) is keras.Sequential:
        if not model.built or not model.layers:
            assembly.refuse(at, "is not built yet; call it on data, or begin with keras.Input.")
        layers = model.layers
    elif type(model) is _functional():
        layers = _chain_of(model, assembly, at)
    else:
        assembly.no_rule(
            at,
            f"the class {type(model).__name__}, whose call cannot be read,",
            "Write it as a Sequential or functional model.",
        )
    for layer in layers:
        if isinstance(layer, keras.Model):
            yield from _layers_of(layer, assembly, _place(layer))
        else:
            _require_rule(layer, assembly)
            yield layer


def _require_rule(layer: Any, assembly: Assembly) -> None:
    import keras

    kind = type(layer).__name__
    if getattr(keras.layers, kind, None) is not type(layer) or kind not in RULES:
        hint = "jacobians.importers.IMPORTABLE lists the layers that have one."
        assembly.no_rule(_place(layer), kind, hint)


def _place(layer: Any) -> str:
    return f"layer {layer.name!r} ({type(layer).__name__})"


def _functional() -> Any:
    """Return the class of functional models, which has no public name."""
    import keras

    point = keras.Input((1,))
    return type(keras.Model(point, point))


def _chain_of(model: Any, assembly: Assembly, at: str) -> list[Any]:
    """Walk back from the output: every layer must have exactly one layer before it."""
    import keras

    if len(model.inputs) != 1 or len(model.outputs) != 1:
        assembly.no_rule(
            at, f"a model of {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    layers: list[Any] = []
    tensor = model.outputs[0]
    while tensor is not model.inputs[0]:
        layer, index, _ = tensor._keras_history
        node = layer._inbound_nodes[index]
        if len(node.input_tensors) != 1:
            assembly.no_rule(
                _place(layer), f"a layer of {len(node.input_tensors)} inputs", "Only a chain has."
            )
        if not isinstance(layer, keras.Model):
            _require_rule(layer, assembly)
        said = [*node.arguments.args[1:], *node.arguments.kwargs.values()]
        if any(value is not None and value is not False for value in said):
            assembly.refuse(
                _place(layer), "is called with an argument, such as training=True; leave it out."
            )
        layers.append(layer)
        tensor = node.input_tensors[0]
    return layers[::-1]


class _Chain:
    """The layers so far, and the shape of one point as the model sees it."""

    def __init__(self, assembly: Assembly, shape: tuple[int, ...]) -> None:
        self.assembly = assembly
        self.shape = shape

    def spread(self, constant: Any, axis: int | None = None) -> Array:
        """Return a constant with an entry for every entry of a point, along one axis or all."""
        array = _array(constant).astype(np.float64)
        if axis is not None:
            array = array.reshape([-1 if k == axis else 1 for k in range(1, len(self.shape) + 1)])
        if array.ndim > len(self.shape):  # the batch axis is there too, of length 1
            array = array.reshape(array.shape[array.ndim - len(self.shape) :])
        return np.broadcast_to(array, self.shape).reshape(-1)

    def activate(self, name: str, at: str, **parameters: float) -> None:
        """Apply an activation; the vector-valued ones need a point that is a vector."""
        if name.endswith("softmax") and len(self.shape) != 1:
            self.assembly.no_rule(
                at, f"{name} along one axis of {self.shape}", "Flatten before it."
            )
        self.assembly.activate(name, at=at, **parameters)


def _array(value: Any) -> Array:
    """Copy a variable or constant of any backend to NumPy."""
    import keras

    return array_of(keras.ops.convert_to_tensor(value), "from_keras")


def _dtype(layer: Any) -> Any:
    name = layer.variable_dtype
    return name if name in ("float32", "float64") else "float32"


# --- one rule per layer ---------------------------------------------------------------------------


def _dense(layer: Any, chain: _Chain, at: str) -> None:
    if len(chain.shape) != 1:
        chain.assembly.no_rule(
            at, f"a product along the last axis of {chain.shape}", "Flatten before it."
        )
    quantized = getattr(layer, "quantization_mode", None)
    if quantized is not None:
        chain.assembly.no_rule(at, f"quantization {quantized!r}")
    b = None if layer.bias is None else _array(layer.bias)
    chain.assembly.dense(_array(layer.kernel).T, b, at=at)  # theirs is source by target
    chain.shape = (layer.units,)
    _named(layer, chain, at)


def _named(layer: Any, chain: _Chain, at: str) -> None:
    """Apply ``layer.activation``, if it is one of Keras's own functions."""
    import keras

    for name, (ours, parameters) in FUNCTIONS.items():
        if layer.activation is getattr(keras.activations, name, None):
            chain.activate(ours, at, **parameters)
            return
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    chain.assembly.no_rule(at, f"the activation {name!r}")


def _relu(layer: Any, chain: _Chain, at: str) -> None:
    slope, top, threshold = layer.negative_slope, layer.max_value, layer.threshold
    if threshold == 0 and top is None:
        if slope:
            chain.activate("leaky_relu", at, slope=slope)
        else:
            chain.activate("relu", at)
    elif threshold == 0 and slope == 0 and top > 0:
        chain.activate("hard_tanh", at, low=0.0, high=top)
    else:
        chain.assembly.no_rule(
            at, f"negative_slope={slope:g}, max_value={top}, threshold={threshold:g} together"
        )


def _leaky_relu(layer: Any, chain: _Chain, at: str) -> None:
    chain.activate("leaky_relu", at, slope=layer.negative_slope)


def _prelu(layer: Any, chain: _Chain, at: str) -> None:
    slopes = _array(layer.alpha)
    if len(np.unique(slopes)) != 1:
        chain.assembly.no_rule(at, "a slope for every entry", "One slope for all of them has.")
    chain.activate("leaky_relu", at, slope=float(slopes.flat[0]))


def _elu(layer: Any, chain: _Chain, at: str) -> None:
    chain.activate("elu", at, alpha=layer.alpha)


def _softmax(layer: Any, chain: _Chain, at: str) -> None:
    if layer.axis not in (-1, 1, [-1], (-1,), [1], (1,)):
        chain.assembly.no_rule(at, f"axis={layer.axis}")
    chain.activate("softmax", at)


def _normalization(layer: Any, chain: _Chain, at: str) -> None:
    import keras

    if layer.mean is None:
        chain.assembly.refuse(at, "has neither been adapted to data nor built.")
    mean = chain.spread(layer.mean)
    deviation = np.maximum(np.sqrt(chain.spread(layer.variance)), keras.config.epsilon())
    scale = deviation if layer.invert else 1 / deviation
    shift = mean if layer.invert else -mean / deviation
    chain.assembly.scale(scale, shift, at=at, dtype=_dtype(layer))


def _rescaling(layer: Any, chain: _Chain, at: str) -> None:
    import keras

    if np.ndim(layer.scale) and keras.config.image_data_format() == "channels_first":
        chain.assembly.no_rule(at, "a scale per channel with channels first")
    scale, offset = chain.spread(layer.scale), chain.spread(layer.offset)
    chain.assembly.scale(scale, offset, at=at, dtype=_dtype(layer))


def _batch_normalization(layer: Any, chain: _Chain, at: str) -> None:
    axis = layer.axis % (len(chain.shape) + 1)
    mean, variance = (
        chain.spread(part, axis) for part in (layer.moving_mean, layer.moving_variance)
    )
    gamma = chain.spread(layer.gamma, axis) if layer.scale else 1.0
    beta = chain.spread(layer.beta, axis) if layer.center else 0.0
    scale = gamma / np.sqrt(variance + layer.epsilon)
    chain.assembly.scale(scale, beta - mean * scale, at=at, dtype=_dtype(layer))


def _flatten(layer: Any, chain: _Chain, at: str) -> None:
    if layer.data_format == "channels_first" and len(chain.shape) > 1:
        chain.assembly.no_rule(at, "Flatten with channels first, which reorders the entries,")
    chain.shape = (prod(chain.shape),)


def _nothing(layer: Any, chain: _Chain, at: str) -> None:
    """Leave the values as they are: identities, and what is random in training only."""


Rule = Callable[[Any, _Chain, str], None]

RULES: dict[str, Rule] = {
    "InputLayer": _nothing,
    "Dense": _dense,
    "Activation": _named,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "BatchNormalization": _batch_normalization,
    "Flatten": _flatten,
    "Identity": _nothing,
    "Dropout": _nothing,
    "AlphaDropout": _nothing,
    "GaussianDropout": _nothing,
    "GaussianNoise": _nothing,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "ELU": _elu,
    "Softmax": _softmax,
}

# Keras's own functions of one argument, with the defaults they have there.
FUNCTIONS: dict[str, tuple[str, dict[str, float]]] = {
    "linear": ("identity", {}),
    "relu": ("relu", {}),
    "relu6": ("relu6", {}),
    "leaky_relu": ("leaky_relu", {"slope": 0.2}),
    "elu": ("elu", {}),
    "celu": ("celu", {}),
    "selu": ("selu", {}),
    "gelu": ("gelu", {}),
    "silu": ("silu", {}),
    "mish": ("mish", {}),
    "sigmoid": ("sigmoid", {}),
    "hard_sigmoid": ("hard_sigmoid", {}),
    "tanh": ("tanh", {}),
    "hard_tanh": ("hard_tanh", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "exponential": ("exp", {}),
    "softmax": ("softmax", {}),
    "log_softmax": ("log_softmax", {}),
}
