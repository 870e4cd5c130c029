"""A page to play with: drag x, and see which slopes, which D and which J follow.

One file, with a small script of its own inside; it loads nothing and works offline.
"""

from __future__ import annotations

import json
import os
from html import escape
from typing import Any

import numpy as np

from jacobians._checks import as_points
from jacobians.derivation.markup import write_page
from jacobians.layers import Dense
from jacobians.losses import SquaredError
from jacobians.network import Network, as_network

LARGEST = 8  # units of a layer that a page can show
_IN_SCRIPT = {  # sigma and sigma', as the page's script writes them
    "identity": ("z", "1"),
    "relu": ("Math.max(z, 0)", "z > 0 ? 1 : 0"),
    "tanh": ("Math.tanh(z)", "1 - Math.tanh(z) ** 2"),
    "sigmoid": ("1 / (1 + Math.exp(-z))", "1 / (2 + Math.exp(z) + Math.exp(-z))"),
    "square": ("z * z", "2 * z"),
    "softplus": ("Math.log1p(Math.exp(-Math.abs(z))) + Math.max(z, 0)", "1 / (1 + Math.exp(-z))"),
}


def example() -> tuple[Network, Any, Any, SquaredError]:
    """Return a 2-3-2 network of whole numbers with a point, a target and a loss.

    >>> net, x, y, loss = example()
    >>> net(x)
    array([ 1., 11.])
    """
    net = Network(
        [
            Dense([[1, 2], [-1, 1], [3, -1]], [0, -2, 0], "relu"),
            Dense([[1, -1, -4], [2, 0, 1]]),
        ]
    )
    return net, np.array([1.0, 2.0]), np.array([0.0, 10.0]), SquaredError()


def to_interactive(net: Network, x: Any, path: str | os.PathLike[str]) -> None:
    """Write a page on which the inputs of a small dense network can be dragged.

    Parameters
    ----------
    net : Network
        Dense layers of up to eight units, with activations that the page's script knows.
    x : array, shape (n_0,)
        Where to start.
    path : path

    Raises
    ------
    ValueError
        If the network is too large, or has something that the script does not know.
    """
    net = as_network(net, "to_interactive")
    x = as_points(x, net.widths[0], "to_interactive: x", net.dtype)
    layers = []
    for l, layer in enumerate(net.layers, start=1):
        name = str(layer.activation)
        if type(layer) is not Dense or name not in _IN_SCRIPT or max(net.widths) > LARGEST:
            raise ValueError(
                f"to_interactive: layer {l} ({layer}): the page takes dense layers of up to "
                f"{LARGEST} units with one of {', '.join(_IN_SCRIPT)}."
            )
        sigma, slope = _IN_SCRIPT[name]
        b = [0.0] * len(layer.W) if layer.b is None else layer.b.tolist()
        layers.append({"W": layer.W.tolist(), "b": b, "name": name, "f": sigma, "df": slope})
    data = json.dumps({"layers": layers, "x": np.ravel(x).tolist()})
    words = {"TITLE": escape(str(net)), "/*DATA*/": f"const NET = {data};"}
    write_page(path, "interactive.html", **words)
