"""What the Jacobians of a data set say about inputs and outputs.

For every pair (output i, input j) the derivatives ``dy_i/dx_j`` over the points are summed up:
their mean (direction), mean absolute value (influence), root mean square and standard deviation
(how much the influence depends on where you stand).  One pass, in pieces of bounded memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_points
from jacobians._text import table
from jacobians.engine import jacobian
from jacobians.network import Network
from jacobians.planning import plan


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Statistics of ``dy_i/dx_j`` over a data set, each of shape (m, n).

    Attributes
    ----------
    mean, mean_absolute, root_mean_square, std : array, shape (m, n)
    count : int
        Number of points.
    input_names, output_names : tuple of str
    """

    mean: Array
    mean_absolute: Array
    root_mean_square: Array
    std: Array
    count: int
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def most_influential(self, output: int, count: int = 5) -> list[tuple[str, float, float]]:
        """Return (name, mean absolute derivative, mean derivative) of the first few inputs."""
        order = np.argsort(-self.mean_absolute[output], kind="stable")[:count]
        return [
            (
                self.input_names[j],
                float(self.mean_absolute[output, j]),
                float(self.mean[output, j]),
            )
            for j in order
        ]

    def to_dict(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return ``{output: {input: {statistic: value}}}`` in plain numbers."""
        statistics = ("mean", "mean_absolute", "root_mean_square", "std")
        return {
            output: {
                name: {what: float(getattr(self, what)[i, j]) for what in statistics}
                for j, name in enumerate(self.input_names)
            }
            for i, output in enumerate(self.output_names)
        }

    def __str__(self) -> str:
        ranks = ["1st", "2nd", "3rd", "4th"][: len(self.input_names)]
        rows = [
            [output]
            + [
                f"{name} {size:.2g}{'+' if mean > 0 else '-'}"
                for name, size, mean in self.most_influential(i, len(ranks))
            ]
            for i, output in enumerate(self.output_names)
        ]
        return table(["output", *ranks], rows, left=5)


def sensitivity(
    net: Network,
    X: Any,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    max_bytes: int | None = None,
) -> Sensitivity:
    """Sum up the Jacobians of a data set.

    Parameters
    ----------
    net : Network
    X : array, shape (B, n_0), B at least 1
    input_names, output_names : sequence of str, optional
        By default those of the network, else x1, x2, ... and y1, y2, ...
    max_bytes : int, optional
        Budget for the memory of a piece, Jacobians included.

    Returns
    -------
    Sensitivity

    >>> net = Network.random([3, 5, 2], seed=0)
    >>> found = sensitivity(net, np.eye(3))
    >>> found.mean.shape, found.count, found.input_names
    ((2, 3), 3, ('x1', 'x2', 'x3'))
    """
    X = as_points(X, net.widths[0], "sensitivity: X", net.dtype)
    if X.ndim != 2 or not len(X):
        raise ShapeError(f"sensitivity: X: expected points (B, n) with B > 0, but got {X.shape}.")
    m, n = net.widths[-1], net.widths[0]
    inputs = _names(input_names or net.input_names, n, "x", "input_names")
    outputs = _names(output_names or net.output_names, m, "y", "output_names")
    chosen = plan(net, len(X), max_bytes=max_bytes)
    mean, size, square = np.zeros((m, n)), np.zeros((m, n)), np.zeros((m, n))
    done = 0
    for start in range(0, len(X), chosen.piece):
        J = jacobian(net, X[start : start + chosen.piece], plan=chosen).astype(np.float64)
        # the deviations are summed about the running mean (Chan, Golub and LeVeque, 1983), since a
        # mean square minus a squared mean would cancel
        here, share = J.mean(axis=0), len(J) / (done + len(J))
        square += ((J - here) ** 2).sum(axis=0) + (here - mean) ** 2 * done * share
        mean += (here - mean) * share
        size += np.abs(J).sum(axis=0)
        done += len(J)
    variance = square / done
    rms = np.sqrt(variance + mean**2)
    return Sensitivity(mean, size / done, rms, np.sqrt(variance), done, inputs, outputs)


def _names(names: Sequence[str] | None, width: int, letter: str, where: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{letter}{k}" for k in range(1, width + 1))
    if len(names) != width:
        raise ShapeError(f"sensitivity: {where}: expected {width} names, but got {len(names)}.")
    return tuple(str(name) for name in names)
