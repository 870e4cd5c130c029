"""The gradients of an objective, as one record that every road to them returns.

Each has the shape of the parameter it belongs to: ``weights[l - 1][i, j]`` is the derivative with
respect to ``W^l[i, j]``.  Everything is the derivative of the *objective*, the mean over the data
set: at a batch of B points ``deltas`` and ``inputs`` therefore carry the factor ``1/B`` already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jacobians._checks import Array
from jacobians.vectorization import vec


@dataclass(frozen=True, eq=False)
class Gradients:
    """Value and derivatives of an objective C.

    Attributes
    ----------
    loss : float
        The objective: mean loss plus penalty.
    weights, biases : tuple of array or None
        ``dC/dW^l`` and ``dC/db^l`` for l = 1..L; None for a layer without parameters.
    deltas : tuple of array
        ``dC/dz^l`` for l = 1..L, shape (n_l,) or (B, n_l).
    inputs : array
        ``dC/dx``, shape (n_0,) or (B, n_0).
    """

    loss: float
    weights: tuple[Array | None, ...]
    biases: tuple[Array | None, ...]
    deltas: tuple[Array, ...]
    inputs: Array

    @property
    def vector(self) -> Array:
        """The gradient in the order of ``Network.parameters``: (vec W^1, b^1, ..., b^L)."""
        parts: list[Array] = []
        for W, b in zip(self.weights, self.biases, strict=True):
            if W is not None and b is not None:
                parts += [vec(W), b]
        return np.concatenate(parts) if parts else np.zeros(0, self.inputs.dtype)

    def __repr__(self) -> str:
        shapes = ", ".join("-" if W is None else "x".join(map(str, W.shape)) for W in self.weights)
        return f"Gradients of an objective of {self.loss:.6g}; weights {shapes}"
