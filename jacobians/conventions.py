"""The conventions of other derivations, as functions.

The library writes columns, weights target-by-source, gradients in the shape of their parameter, and
the input as layer 0.  Others write ``1 x n`` rows, weights source-by-target, or the input as layer
1.  This room translates, exactly and both ways, and its products refuse what NumPy would broadcast.
The dictionary is ``paper_notes/conventions.md``; stacking rows is ``Commutation(m, n) @ vec(M)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from itertools import product as all_tuples
from typing import Any

import numpy as np

from jacobians._checks import (
    Array,
    Numbers,
    ShapeError,
    as_array,
    as_count,
    as_floats,
    as_layer,
    as_nonnegative,
    as_points,
    refuse_if_too_large,
    require_ndim,
    require_shape,
    underflow_is_rounding,
)
from jacobians.activations import Activation
from jacobians.explicit import activation_jacobian
from jacobians.gradients import Gradients
from jacobians.layers import Dense
from jacobians.losses import Loss, SquaredError, as_loss
from jacobians.network import Network
from jacobians.tracing import trace
from jacobians.vectorization import unvec

# --- products that do not broadcast ---------------------------------------------------------------


@underflow_is_rounding
def hadamard(left: Any, right: Any) -> Numbers:
    """Multiply two arrays of one shape, entry by entry: a row times a column is a ``ShapeError``.

    >>> hadamard([[1, 2]], [[2, 4]])
    array([[2, 8]])
    >>> hadamard([[1, 2]], [[2], [4]])
    Traceback (most recent call last):
    ...
    jacobians.ShapeError: hadamard: expected two equal shapes, but got (1, 2) and (2, 1). ...
    """
    left, right = as_array(left, "hadamard: left"), as_array(right, "hadamard: right")
    if left.shape != right.shape:
        raise ShapeError(
            f"hadamard: expected two equal shapes, but got {left.shape} and {right.shape}. "
            "Nothing is broadcast: transpose a column, and multiply by a matrix with product."
        )
    result: Numbers = left * right
    return result


@underflow_is_rounding
def product(left: Any, right: Any) -> Numbers:
    """Multiply two matrices (a row is ``1 x n``, a column ``n x 1``); else a ``ShapeError``.

    >>> product([[2, 8]], [[1, 1], [0, 1]])
    array([[ 2, 10]])
    """
    left, right = as_array(left, "product: left"), as_array(right, "product: right")
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ShapeError(
            f"product: expected shapes (m, k) and (k, n), but got {left.shape} and {right.shape}."
        )
    result: Numbers = left @ right
    return result


def as_row(v: Any) -> Numbers:
    """Lay a vector (n,) out as ``1 x n``, or a stack (..., n) as (..., 1, n)."""
    v = as_array(v, "as_row: v")
    if v.ndim == 0:
        raise ShapeError("as_row: expected a vector, but got a number.")
    row: Numbers = v[..., None, :].copy()
    return row


def from_row(row: Any) -> Numbers:
    """Undo ``as_row``."""
    row = as_array(row, "from_row: row")
    if row.ndim < 2 or row.shape[-2] != 1:
        raise ShapeError(f"from_row: expected shape (1, n), but got {row.shape}.")
    vector: Numbers = row[..., 0, :].copy()
    return vector


# --- row derivatives ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowDerivatives:
    """The derivatives of a cost C as rows, with ``a^k = W^k h^{k-1} + b^k`` and ``h^k = g(a^k)``.

    Attributes
    ----------
    cost : float
    outputs : tuple of array or None
        ``D_{h^k} C``, shape (1, n_k), for k = 0..K: ``D_x C`` first and ``D_y L`` last.  None where
        it is not known: a ``Gradients`` holds the first alone.
    preactivations : tuple of array
        ``D_{a^k} C``, shape (1, n_k), for k = 1..K.
    weights, biases : tuple of array or None
        ``D_{W^k} C``, shape (n_{k-1}, n_k), with entry (i, j) ``dC/dW^k[j, i]``; ``D_{b^k} C``.
    """

    cost: float
    outputs: tuple[Numbers | None, ...]
    preactivations: tuple[Numbers, ...]
    weights: tuple[Numbers | None, ...]
    biases: tuple[Numbers | None, ...]


@underflow_is_rounding
def row_derivatives(net: Network, x: Any, y: Any, loss: Loss, l2: float = 0.0) -> RowDerivatives:
    """Differentiate the cost at one point in rows, by four identities for every layer.

        D_{h^K} C = D_y L                       D_{a^k} C = D_{h^k} C * g'(a^k)ᵀ
        D_{W^k} C = h^{k-1} D_{a^k} C           D_{h^{k-1}} C = D_{a^k} C W^k

    with ``*`` entry by entry (softmax is multiplied by its Jacobian), ``D_{b^k} C = D_{a^k} C``,
    and ``l2 (W^k)ᵀ`` on top of ``D_{W^k} C``.  The loss is not fused with the last activation.

    Parameters
    ----------
    net : Network
        Dense layers only.
    x, y : array, shapes (n_0,) and (n_K,)
    loss : Loss
    l2 : float

    >>> net = Network([Dense([[1, 1], [0, 1]], [-2, 0], "square")])
    >>> rows = row_derivatives(net, [1, 2], [0, 2], SquaredError())
    >>> rows.preactivations[0], rows.weights[0]
    (array([[2., 8.]]), array([[ 2.,  8.],
           [ 4., 16.]]))
    """
    seen = trace(net, x)
    if seen.batch:
        raise ShapeError(f"row_derivatives: expected one point, but got {seen.batch[0]}.")
    y, l2 = as_loss(loss).targets(y, seen.output), as_nonnegative(l2, "row_derivatives: l2")
    cost = float(loss.value(seen.output, y))
    outputs, preactivations = [as_row(loss.cotangent(seen.output, y))], []
    weights: list[Numbers] = []
    for k in range(net.depth, 0, -1):
        layer = _dense(net, k, "row_derivatives")
        if isinstance(layer.activation, Activation):
            slopes = layer.activation.derivative(seen.preactivation(k))
            D_a = hadamard(outputs[-1], as_row(slopes))
        else:
            D_a = product(outputs[-1], activation_jacobian(seen, k))
        preactivations.append(D_a)
        weights.append(product(as_row(seen.activation(k - 1)).T, D_a) + l2 * layer.W.T)
        outputs.append(product(D_a, layer.W))
        cost += l2 / 2 * float(np.vdot(layer.W, layer.W))
    rows, biases = tuple(preactivations[::-1]), tuple(D_a.copy() for D_a in preactivations[::-1])
    return RowDerivatives(cost, tuple(outputs[::-1]), rows, tuple(weights[::-1]), biases)


def rows_from_gradients(g: Gradients) -> RowDerivatives:
    """Lay gradients out as rows: vectors (n,) become ``1 x n``, matrices are transposed.

    At a batch the rows of its points are stacked, (B, 1, n).
    """
    return RowDerivatives(
        g.loss,
        (as_row(g.inputs), *(None for _ in g.deltas)),
        tuple(as_row(delta) for delta in g.deltas),
        tuple(None if W is None else W.T.copy() for W in g.weights),
        tuple(None if b is None else as_row(b) for b in g.biases),
    )


def gradients_from_rows(rows: RowDerivatives) -> Gradients:
    """Undo ``rows_from_gradients``, exactly."""
    parameters = tuple(
        {} if W is None or b is None else {"W": W.T.copy(), "b": from_row(b)}
        for W, b in zip(rows.weights, rows.biases, strict=True)
    )
    return Gradients(
        rows.cost,
        parameters,
        tuple(from_row(row) for row in rows.preactivations),
        from_row(rows.outputs[0]),
    )


@underflow_is_rounding
def weight_row_by_kronecker(h: Any, D_a: Any) -> Numbers:
    """Return ``D_W C = (vec⁻¹((h ⊗ I) (D_a C)ᵀ))ᵀ``, which is ``h D_a C`` by another road.

    Parameters
    ----------
    h, D_a : array, shapes (m, 1) and (1, n)

    Returns
    -------
    array, shape (m, n)

    >>> weight_row_by_kronecker([[1], [2]], [[2, 8]])
    array([[ 2,  8],
           [ 4, 16]])
    """
    h = as_array(h, "weight_row_by_kronecker: h")
    D_a = as_array(D_a, "weight_row_by_kronecker: D_a")
    m, n = from_row(h.T).size, from_row(D_a).size
    refuse_if_too_large((m * n, n), np.dtype(float), "h ⊗ I", "Use product(h, D_a)")
    stacked = product(np.kron(h, np.eye(n, dtype=int)), D_a.T)
    return unvec(stacked[:, 0], (n, m)).T


# --- row form -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class RowForm:
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
        loss = SquaredError() if loss is None else as_loss(loss)
        z, a = self.forward(X)
        c: Array = loss.cotangent(a[-1], loss.targets(Y, a[-1]))
        found = []
        for w, f, z_l in zip(self.weights[::-1], self.activations[::-1], z[::-1], strict=True):
            found.append(hadamard(c, f.derivative(z_l)))
            c = product(found[-1], w.T)
        return tuple(found[::-1])

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
    def path_sum(self, x: Any, l: int) -> Array:
        """Return ``dz^L/dz^l`` at one row, (n_L, n_l), as a sum over all paths.

        Entry ``[k, j]`` sums, over ``i_0 = k, i_1, ..., i_{L-l} = j`` with ``i_m`` in layer L-m,
        the product of ``w^{L-m+1}[i_m, i_{m-1}] f'(z^{L-m}[i_m])``: as many terms as paths.
        """
        L = len(self.weights)
        l = as_layer(l, "RowForm.path_sum: l", 1, L)
        rows = self.forward(x)[0]
        if len(rows[0]) != 1:
            raise ShapeError(f"RowForm.path_sum: expected one row, but got {len(rows[0])}.")
        z = [from_row(z_l) for z_l in rows]
        slopes = [f.derivative(z_l) for f, z_l in zip(self.activations, z, strict=True)]
        total = np.zeros((len(z[-1]), len(z[l - 1])), z[0].dtype)
        for path in all_tuples(*(range(len(z_l)) for z_l in z[l - 1 :][::-1])):
            term = 1.0
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
    layers = [_dense(net, l, "to_row_form") for l in range(1, net.depth + 1)]
    activations = []
    for l, layer in enumerate(layers, start=1):
        if not isinstance(layer.activation, Activation):
            raise TypeError(f"to_row_form: layer {l}: {layer.activation} acts on whole vectors.")
        activations.append(layer.activation)
    weights, biases = (layer.W.T for layer in layers), (as_row(layer.b) for layer in layers)
    return RowForm(tuple(weights), tuple(biases), tuple(activations))


def _dense(net: Network, l: int, verb: str) -> Dense:
    layer = net.layers[l - 1]
    if not isinstance(layer, Dense):
        raise TypeError(f"{verb}: layer {l} ({layer}) has no weight matrix.")
    return layer


# --- layer numbers --------------------------------------------------------------------------------


def to_layer_one(l: int) -> int:
    """Return the number that layer ``l`` has where the input is layer 1: ``a^[l+1] = a^l``."""
    return as_count(l, "to_layer_one: l", at_least=0) + 1


def from_layer_one(l: int) -> int:
    """Return the number, from 0, of layer ``l`` of a text whose input is layer 1.

    >>> from_layer_one(1), to_layer_one(0)
    (0, 1)
    """
    return as_count(l, "from_layer_one: l") - 1


def widths_to_layer_one(widths: Sequence[int]) -> dict[int, int]:
    """Return our widths ``(n_0, ..., n_L)`` by their numbers there: ``{1: n_0, ...}``."""
    return {to_layer_one(l): n for l, n in enumerate(widths)}


def widths_from_layer_one(widths: Mapping[int, int]) -> tuple[int, ...]:
    """Undo ``widths_to_layer_one``; the numbers must be 1, 2, ... without a gap."""
    if sorted(widths) != list(range(1, len(widths) + 1)):
        raise ValueError(
            f"widths_from_layer_one: expected layers 1 to {len(widths)}, but got {sorted(widths)}."
        )
    return tuple(widths[l] for l in sorted(widths))
