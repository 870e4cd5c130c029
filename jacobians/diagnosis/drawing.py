"""Networks drawn to tell mistakes apart: whole quarters, pairwise different or equal widths.

On them two mistakes that look the same on somebody's data give different numbers, if they differ
at all; a function is run on them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.derivation.rules import Rules
from jacobians.layers import Dense
from jacobians.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from jacobians.network import Network


@dataclass(frozen=True, eq=False)
class Drawn:
    """A network with data, and what is special about it."""

    net: Network
    X: Array
    Y: Array | None
    about: str


def draw(net: Network, loss: Loss | None, seed: int = 0) -> list[Drawn]:
    """Draw networks of the same depth, activations and kind of loss.

    Where a layer is not dense, or a loss is somebody's own, the network stays and only the points
    are new.
    """
    rng = np.random.default_rng(seed)
    if not (loss is None or isinstance(loss, (SquaredError, BinaryCrossEntropy, CrossEntropy))):
        return []
    drawn = [_with_points(net, loss, rng, 3, "other points, three of them")]
    L, last, rules = net.depth, net.widths[-1], Rules(net)
    if all(map(rules.is_dense, range(1, L + 1))):
        n = min(L, 6) + 2  # neighbours differ, and in deep networks nothing grows
        different = [3 + (2 * l) % n + (l * 2 % (2 * n) >= n) for l in range(L + 1)]
        widths = (*different[:-1], last if last == 1 else different[-1])
        square = (*[3] * L, last if last == 1 else 3)
        for sizes, about in ((widths, "layers of different widths"), (square, "square layers")):
            other = _network(net, sizes, rng)
            drawn.append(_with_points(other, loss, rng, 5, f"a network with {about}"))
    return drawn


def _network(net: Network, widths: Any, rng: np.random.Generator) -> Network:
    layers = []
    for l, layer in enumerate(net.layers, start=1):
        shape = (widths[l], widths[l - 1])
        W = rng.choice([-3, -2, -1, 1, 2, 3], shape) / 4
        b = rng.choice([-3, -1, 1, 3], shape[0]) / 8
        layers.append(Dense(W, b, layer.activation))
    return Network(layers).astype(net.dtype)


def _with_points(
    net: Network, loss: Loss | None, rng: np.random.Generator, N: int, about: str
) -> Drawn:
    X = (rng.choice([-5, -3, -2, -1, 1, 2, 3, 5], (N, net.widths[0])) / 4).astype(net.dtype)
    n = net.widths[-1]
    Y: Array | None = None
    if isinstance(loss, SquaredError):
        Y = rng.integers(-3, 4, (N, n)) / 2
    elif isinstance(loss, BinaryCrossEntropy):
        Y = rng.integers(0, 2, (N, n)).astype(float)
    elif isinstance(loss, CrossEntropy):
        Y = np.eye(n)[rng.integers(0, n, N)]
    return Drawn(net, X, None if Y is None else Y.astype(net.dtype), about)
