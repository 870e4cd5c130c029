"""Networks in rows: ``z = a w + b``, weights source by target, the points of a data set as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from itertools import product as all_tuples
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    Frozen,
    ShapeError,
    as_array,
    as_count,
    as_floats,
    as_layer,
    as_points,
    require_ndim,
    require_shape,
    underflow_is_rounding,
)
from jacobians.activations import Activation
from jacobians.conventions.products import as_row, from_row, hadamard, product
from jacobians.conventions.rows import dense_layer
from jacobians.layers import Dense
from jacobians.losses import Loss, SquaredError, as_loss
from jacobians.network import Network, as_network


@dataclass(frozen=True, eq=False, repr=False)
class RowForm(Frozen):
    """A network in rows: ``z^l = a^{l-1} w^l + b^l``, ``a^l = f(z^l)``, ``a^0 = x``.

    Its methods take the ``N`` points of a data set as rows (N, n_0).  The cost is the mean of the
    loss; with half the squared error ``1/(2N) sum |a^L - y|²``.  Made by ``to_row_form``.

    Attributes
    ----------
    weights, biases : tuple of array, shapes (n_{l-1}, n_l) and (1, n_l)
        ``w[k, j]`` leads from source k to target j.
    activations : tuple of Activation
        Entry by entry.

    >>> net = from_row_form([[[1, 2, 0], [3, 4, 1]], [[1], [0], [2]]], [[[0, 0, 1]], [[5]]], "relu")
    >>> to_row_form(net)([[1, -1]])
    array([[5.]])
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activations: tuple[Activation, ...]

    @underflow_is_rounding
    def forward(self, X: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return ``(z^1, ..., z^L)`` and ``(a^0, ..., a^L)``, one row per point."""
        x = as_array(X, "RowForm: X")
        if self.weights[0].dtype != object:  # entries that were typed in stay as they are
            x = as_points(X, len(self.weights[0]), "RowForm: X", self.weights[0].dtype)
        require_ndim(x, (2,), "RowForm: X", "one row per point, shape (N, n_0)")
        z, a = [], [x]
        for w, b, f in zip(self.weights, self.biases, self.activations, strict=True):
            z.append(product(a[-1], w) + b)
            a.append(f(z[-1]))
        return tuple(z), tuple(a)

    def __call__(self, X: Any) -> Array:
        """Return ``a^L``, one row per point."""
        return self.forward(X)[1][-1]

    @underflow_is_rounding
    def errors(self, X: Any, Y: Any, loss: Loss | None = None) -> tuple[Array, ...]:
        """Return ``Delta^1 .. Delta^L``, each (N, n_l): row n belongs to the loss of point n alone.

        Delta^L = dC/da^L * f'(z^L)         Delta^l = (Delta^{l+1} (w^{l+1})ᵀ) * f'(z^l)
        """
        z, a = self.forward(X)
        c: Any
        if a[-1].dtype == object:  # entries that were typed in: half the squared error alone
            c = a[-1] - as_array(Y, "RowForm: Y")
        else:
            loss = SquaredError() if loss is None else as_loss(loss)
            c = loss.cotangent(a[-1], loss.targets(Y, a[-1]))
        errors: list[Any] = []
        for w, f, z_l in zip(self.weights[::-1], self.activations[::-1], z[::-1], strict=True):
            errors.append(hadamard(c, f.derivative(z_l)))
            c = product(errors[-1], w.T)
        return tuple(errors[::-1])

    @underflow_is_rounding
    def gradients(
        self, X: Any, Y: Any, loss: Loss | None = None
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return ``dC/dw^l = 1/N sum aᵀ Delta`` in the shape of ``w^l``, and ``dC/db^l``."""
        errors, (_, a) = self.errors(X, Y, loss), self.forward(X)
        N = as_count(len(a[0]), "RowForm.gradients: points")
        weights = tuple(product(a_l.T, e) / N for a_l, e in zip(a, errors, strict=False))
        return weights, tuple(e.sum(axis=0, keepdims=True) / N for e in errors)

    @underflow_is_rounding
    def cost(self, X: Any, Y: Any, loss: Loss | None = None) -> float:
        """Return the mean of the loss; ``1/(2N) sum |a^L - y|²``, equation (3), unless given.

        >>> net = from_row_form([[[2.0]]], [[[0.0]]], "identity")
        >>> to_row_form(net).cost([[1], [2]], [[0], [0]])
        5.0
        """
        loss = SquaredError() if loss is None else as_loss(loss)
        a = self(X)
        as_count(len(a), "RowForm.cost: points")
        return float(loss.value(a, loss.targets(Y, a)).mean())

    @underflow_is_rounding
    def error_by_paths(self, x: Any, y: Any, l: int, loss: Loss | None = None) -> Array:
        """Return ``Delta^l`` of one row as one sum over the paths from layer l to the outputs.

        Delta^l_j = sum over k and the paths from j to k of  Delta^L_k  times the path
        """
        return product(self.errors(x, y, loss)[-1], self.path_sum(x, l))

    @underflow_is_rounding
    def path_sum(self, x: Any, l: int, of: int | None = None) -> Array:
        """Return ``dz^of/dz^l`` at one row, (n_of, n_l), as a sum over all paths; of is L.

        Entry ``[k, j]`` sums, over ``i_0 = k, i_1, ..., i_{L-l} = j`` with ``i_m`` in layer L-m,
        the product of ``w^{L-m+1}[i_m, i_{m-1}] f'(z^{L-m}[i_m])``: as many terms as paths.
        """
        L = len(self.weights)
        L = L if of is None else as_layer(of, "RowForm.path_sum: of", 1, L)
        l = as_layer(l, "RowForm.path_sum: l", 1, L)
        rows = self.forward(x)[0]
        if len(rows[0]) != 1:
            raise ShapeError(f"RowForm.path_sum: expected one row, but got {len(rows[0])}.")
        z = [from_row(z_l) for z_l in rows[:L]]
        slopes = [f.derivative(z_l) for f, z_l in zip(self.activations, z, strict=False)]
        total = np.zeros((len(z[-1]), len(z[l - 1])), z[0].dtype)
        for path in all_tuples(*(range(len(z_l)) for z_l in z[l - 1 :][::-1])):
            term: Any = 1
            for m, (before, unit) in enumerate(pairwise(path), start=1):
                term *= self.weights[L - m][unit, before] * slopes[L - m - 1][unit]
            total[path[0], path[-1]] += term
        return total


def from_row_form(weights: Sequence[Any], biases: Sequence[Any], activations: Any) -> Network:
    """Build a network from ``w^l`` of shape (n_{l-1}, n_l) and ``b^l`` of shape (1, n_l).

    ``activations`` is one for all layers, or a sequence with one per layer.
    """
    if not isinstance(activations, (list, tuple)):
        activations = [activations] * len(weights)
    if not len(weights) == len(biases) == len(activations):
        raise ShapeError(
            f"from_row_form: expected as many biases and activations as the {len(weights)} "
            f"weights, but got {len(biases)} and {len(activations)}."
        )
    layers = []
    for l, (w, b, f) in enumerate(zip(weights, biases, activations, strict=True), start=1):
        w, b = as_floats(w, f"from_row_form: w^{l}"), as_floats(b, f"from_row_form: b^{l}")
        require_ndim(w, (2,), f"from_row_form: w^{l}", "a matrix of shape (sources, targets)")
        require_shape(b, (1, w.shape[1]), f"from_row_form: b^{l}", "One row, an entry per target.")
        layers.append(Dense(w.T, from_row(b), f))
    return Network(layers)


def to_row_form(net: Network) -> RowForm:
    """Write a network of dense layers in rows; ``from_row_form`` undoes it exactly."""
    net = as_network(net, "to_row_form")
    weights, biases, activations = [], [], []
    for l, layer in enumerate(net.layers, start=1):
        W, b = dense_layer(net, l, "to_row_form")
        if not isinstance(layer.activation, Activation):
            raise TypeError(f"to_row_form: layer {l}: {layer.activation} acts on whole vectors.")
        weights.append(W.T)
        biases.append(as_row(np.zeros(len(W), W.dtype) if b is None else b))
        activations.append(layer.activation)
    return RowForm(tuple(weights), tuple(biases), tuple(activations))
