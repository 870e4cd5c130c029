"""Log-odds of a classifier: what to differentiate where probabilities are saturated.

A probability near 0 or 1 hardly moves whatever the inputs do: its derivatives are as small as the
probability, 1e-67 say, and compare nothing.  Its log-odds go on moving.  For ``p = softmax(z)``::

    log p_k/(1 - p_k)  =  z_k - log sum_{j != k} exp(z_j),
    d/dz               =  1 at k, and -p_j/(1 - p_k) = -softmax of the others at j != k,

computed from ``z`` without ever forming ``1 - p_k``; for a logistic unit they are ``z`` itself.
Against one class in place of all others they are the margin, ``log p_k/p_c = z_k - z_c``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from jacobians._checks import as_flag
from jacobians._names import numbered
from jacobians.activations import (
    IDENTITY,
    LOG_ODDS,
    LOG_SOFTMAX,
    SIGMOID,
    SOFTMAX,
    AnyActivation,
)
from jacobians.layers import Concatenate, Dense, Layer
from jacobians.network import Network, as_network
from jacobians.sensitivities.names import number_of

# by their functions: one of your own may have the name of another
PROBABILITIES = {one.sigma: one for one in (SOFTMAX, LOG_SOFTMAX, SIGMOID)}


def log_odds(net: Network, against: int | str | None = None, *, beside: bool = False) -> Network:
    """Return the network that gives log-odds where a classifier gives probabilities.

    Parameters
    ----------
    net : Network
        Its last activation is softmax, log_softmax or sigmoid.
    against : int or str, optional
        A class, by number from 0 or by name: the outputs are the margins of all other classes
        against it.  By default every class is compared with all others together.
    beside : bool
        Whether the probabilities stay: then they are the first outputs, and log-odds the others.

    Returns
    -------
    Network
        Of natural logarithms; with ``against`` it has one output less.

    Raises
    ------
    ValueError
        If the outputs of the network are no probabilities.

    >>> W = np.array([[2.0], [0.0], [-1.0]])
    >>> net = Network([Dense(W, activation="softmax")], output_names=["cat", "dog", "eel"])
    >>> log_odds(net, against="dog").output_names
    ('log-odds of cat against dog', 'log-odds of eel against dog')
    >>> import jacobians as jb
    >>> jb.jacobian(net, [900.0])[0], jb.jacobian(log_odds(net), [900.0])[0]
    (array([0.]), array([2.]))
    """
    net, beside = as_network(net, "log_odds"), as_flag(beside, "log_odds: beside")
    last, names = net.layers[-1], list(numbered(net.output_names, net.widths[-1], "y"))
    kind = PROBABILITIES.get(last.activation.sigma)
    if kind is None or net.shapes[-1] != (net.widths[-1],):
        raise ValueError(
            f"log_odds: the last layer ({last!r}) gives no probabilities: expected softmax, "
            "log_softmax or sigmoid. Append jacobians.Elementwise('softmax') if it gives logits."
        )
    if kind == SIGMOID:
        if against is not None:
            raise ValueError("log_odds: against: outputs of sigmoid are no classes of one choice.")
        return _ending(net, beside, [f"log-odds of {k}" for k in names], _with(last, IDENTITY))
    if len(names) < 2:
        raise ValueError("log_odds: softmax of one class is always 1.")
    if against is None:
        compared = _with(last, LOG_ODDS)
        return _ending(net, beside, [f"log-odds of {name}" for name in names], compared)
    c = number_of(against, tuple(names), "log_odds: against")
    others = [k for k in range(len(names)) if k != c]
    margins = np.eye(len(names), dtype=net.dtype)[others]
    margins[:, c] = -1.0
    shown = [f"log-odds of {names[k]} against {names[c]}" for k in others]
    return _ending(net, beside, shown, _with(last, IDENTITY), Dense(margins))


def _with(layer: Any, sigma: AnyActivation) -> Layer:
    changed: Layer = replace(layer, activation=sigma)
    return changed


def _ending(net: Network, beside: bool, names: list[str], last: Layer, *more: Layer) -> Network:
    """Return the network with another last layer and what reads it, or with these beside its own.

    The names are those of the new outputs.
    """
    layers, sources, nodes = list(net.layers), list(net.sources), list(net.names)
    if not beside:
        layers.pop(), sources.pop(), nodes.pop()

    def add(layer: Layer, read: tuple[int, ...], name: str) -> None:
        layers.append(layer)
        sources.append(read)
        nodes.append(name if name not in nodes else f"{name} {len(nodes)}")

    add(last, net.sources[-1], "log-odds" if beside else net.names[-1])
    for layer in more:
        add(layer, (len(layers),), "margins")
    if beside:
        add(Concatenate(), (net.depth, len(layers)), "probabilities and log-odds")
        names = [*numbered(net.output_names, net.widths[-1], "y"), *names]
    return Network.from_nodes(
        layers,
        sources,
        nodes,
        inputs=net.shapes[0],
        parts=(net.inputs, {nodes[-1]: slice(0, len(names))}),
        input_names=net.input_names,
        output_names=names,
    )
