"""Network: an immutable sequence of layers.

``H(x) = a^L`` with ``a^0 = x``, ``z^l = W^l a^{l-1} + b^l``, ``a^l = sigma^l(z^l)``.  The network
knows how to compute its values and nothing of what is asked of it: verbs are functions that take
the network first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from jacobians._checks import (
    FLOATS,
    Array,
    NotFiniteError,
    ShapeError,
    as_count,
    as_floats,
    as_points,
    require_shape,
)
from jacobians.activations import AnyActivation
from jacobians.layers import Dense, Layer
from jacobians.vectorization import unvec, vec


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A feedforward network.

    Parameters
    ----------
    layers : sequence of Layer
        At least one; layer ``l`` of the paper is ``layers[l - 1]``.  Mixed dtypes are settled here:
        all layers take the widest one.
    inputs : int, optional
        Number of inputs; needed only if no layer fixes it.
    input_names, output_names : sequence of str, optional
        Labels for tables and pictures.

    Raises
    ------
    ShapeError
        If two neighbours do not fit; the message names both.
    TypeError
        If something in ``layers`` is not a layer.

    >>> net = Network([Dense([[1, 2], [3, 4], [5, 6]], activation="tanh"), Dense([[1, 0, -1]])])
    >>> net
    Network 2-3-1 float64, 13 parameters: tanh, identity
    >>> net.widths, net.depth
    ((2, 3, 1), 2)
    >>> net([0.0, 0.0])
    array([0.])
    """

    layers: tuple[Layer, ...]
    widths: tuple[int, ...]
    dtype: np.dtype[Any]
    input_names: tuple[str, ...] | None
    output_names: tuple[str, ...] | None

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        inputs: int | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        layers = _as_layers(layers)
        dtypes = [layer.dtype for layer in layers if layer.dtype is not None]
        dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
        layers = tuple(layer.astype(dtype) for layer in layers)
        widths = _widths(layers, inputs)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "dtype", dtype)
        for field, names, width in (
            ("input_names", input_names, widths[0]),
            ("output_names", output_names, widths[-1]),
        ):
            object.__setattr__(self, field, _as_names(names, width, f"Network: {field}"))

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
        widths = [as_count(width, "Network.random: widths") for width in widths]
        if len(widths) < 2:
            raise ValueError(f"Network.random: widths: expected at least two, but got {widths}.")
        rng = np.random.default_rng(seed)
        layers = []
        for l, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            W = rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)
            b = 0.1 * rng.standard_normal(outputs)
            sigma = output_activation if l == len(widths) - 1 else activation
            layers.append(Dense(W, b, sigma))
        return cls(layers).astype(dtype)

    @property
    def depth(self) -> int:
        """Number of layers, ``L``."""
        return len(self.layers)

    def astype(self, dtype: Any) -> Network:
        """Return the same network in float32 or float64.

        Raises
        ------
        NotFiniteError
            If a weight does not fit.
        """
        dtype = np.dtype(dtype)
        if dtype not in FLOATS:
            raise TypeError(f"Network.astype: expected float32 or float64, but got {dtype}.")
        if dtype == self.dtype:
            return self
        return self._with_layers([layer.astype(dtype) for layer in self.layers], dtype)

    def __call__(self, X: Any) -> Array:
        """Return ``H(x)`` for one point (n_0,), or for every row of a batch (B, n_0).

        Raises
        ------
        ShapeError, NotFiniteError
            If ``X`` does not fit or holds NaN, or if the output overflows.
        """
        a = as_points(X, self.widths[0], "Network: X", self.dtype)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for layer in self.layers:
                a = layer(a)
        if not np.isfinite(a).all():
            raise NotFiniteError(
                f"Network: the output leaves the range of {self.dtype}; trace(net, X) names the "
                "layer. Rescale the inputs or weights."
            )
        return a

    # --- parameters as one vector -----------------------------------------------------------------

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum(layer.W.size + layer.b.size for layer in self.layers if isinstance(layer, Dense))

    @property
    def parameters(self) -> Array:
        """All weights and biases as ``(vec W^1, b^1, ..., vec W^L, b^L)``, a new vector."""
        dense = [layer for layer in self.layers if isinstance(layer, Dense)]
        parts = [part for layer in dense for part in (vec(layer.W), layer.b)]
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)

    def with_parameters(self, parameters: Any) -> Network:
        """Return the network with other weights and biases, in the order of ``parameters``.

        >>> net = Network.random([2, 3, 1], seed=0)
        >>> twice = net.with_parameters(2 * net.parameters)
        >>> bool((twice.layers[0].W == 2 * net.layers[0].W).all())
        True
        """
        where = "Network.with_parameters: parameters"
        theta = as_floats(parameters, where, dtype=self.dtype)
        require_shape(theta, self.parameters.shape, where)
        layers: list[Layer] = []
        start = 0
        for layer in self.layers:
            if isinstance(layer, Dense):
                middle = start + layer.W.size
                end = middle + layer.b.size
                W = unvec(theta[start:middle], layer.W.shape)
                layers.append(Dense(W, theta[middle:end], layer.activation))
                start = end
            else:
                layers.append(layer)
        return self._with_layers(layers, self.dtype)

    def _with_layers(self, layers: Sequence[Layer], dtype: np.dtype[Any]) -> Network:
        network = Network(
            layers,
            inputs=self.widths[0],
            input_names=self.input_names,
            output_names=self.output_names,
        )
        object.__setattr__(network, "dtype", dtype)  # also where no layer holds an array
        return network

    def __repr__(self) -> str:
        shown = [str(layer.activation) for layer in self.layers]
        if len(shown) > 6:
            shown = [*shown[:3], "...", shown[-1]]
        widths = [str(width) for width in self.widths]
        if len(widths) > 10:
            widths = [*widths[:4], "...", *widths[-2:]]
        size = f"{'-'.join(widths)} {self.dtype}, {self.parameter_count:,} parameters"
        return f"Network {size}: {', '.join(shown)}"


def as_network(value: Any, where: str) -> Network:
    """Return the network, or say that verbs take it first."""
    if not isinstance(value, Network):
        raise TypeError(f"{where}: net: expected a Network first, but got {value!r:.80}.")
    return value


def _as_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    try:
        found = tuple(layers)
    except TypeError:
        raise TypeError(f"Network: layers: expected layers, but got {layers!r}.") from None
    if not found:
        raise ValueError("Network: layers: expected at least one layer, but got none.")
    for l, layer in enumerate(found, start=1):
        if not isinstance(layer, Layer):
            raise TypeError(f"Network: layer {l}: expected a Layer, but got {layer!r:.80}.")
    return found


def _widths(layers: Sequence[Layer], inputs: int | None) -> tuple[int, ...]:
    if inputs is None:
        # layers in front of the first one that insists on a width must go along with it
        inputs = next((layer.inputs for layer in layers if layer.inputs is not None), None)
    if inputs is None:
        raise ShapeError("Network: no layer fixes the number of inputs; say inputs=n.")
    widths = [as_count(inputs, "Network: inputs")]
    for l, layer in enumerate(layers, start=1):
        if layer.inputs not in (None, widths[-1]):
            source = f"layer {l - 1} gives" if l > 1 else "the network gets"
            raise ShapeError(
                f"Network: layer {l} ({layer}) takes {layer.inputs} inputs, "
                f"but {source} {widths[-1]}."
            )
        widths.append(layer.output_width(widths[-1]))
    return tuple(widths)


def _as_names(names: Sequence[str] | None, width: int, where: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    found = tuple(str(name) for name in names)
    if len(found) != width:
        raise ShapeError(f"{where}: expected {width} names, but got {len(found)}.")
    return found
