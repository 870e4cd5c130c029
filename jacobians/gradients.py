"""The gradients of an objective, as one record that every method of computing them returns.

Each has the shape of the parameter it belongs to: ``weights[l - 1][i, j]`` is the derivative with
respect to ``W^l[i, j]``.  Everything is the derivative of the *objective*, the mean over the data
set: at a batch of B points ``deltas`` and ``inputs`` therefore carry the factor ``1/B`` already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.vectorization import vec

WEIGHTS = ("W", "K")  # the parameters that a penalty counts: weight matrices and kernels


@dataclass(frozen=True, eq=False)
class Gradients:
    """Value and derivatives of an objective C.

    Attributes
    ----------
    loss : float
        The objective: mean loss plus penalty.
    parameters : tuple of mapping from str to array
        For l = 1..L the derivatives with respect to the parameters of layer l, by name.
    deltas : tuple of array
        ``dC/dz^l`` for l = 1..L, shape (n_l,) or (B, n_l).
    inputs : array
        ``dC/dx``, shape (n_0,) or (B, n_0).

    Deltas and inputs belong to single points; of a batch they are computed when they are asked for.
    """

    loss: float
    parameters: tuple[Mapping[str, Array], ...]
    deltas: tuple[Array, ...]
    inputs: Array

    @classmethod
    def of_parameters(
        cls,
        loss: float,
        parameters: tuple[Mapping[str, Array], ...],
        others: Callable[[], tuple[tuple[Array, ...], Array]],
    ) -> Gradients:
        """Return a record whose deltas and inputs are what ``others()`` returns, once asked for."""
        record = cls.__new__(cls)
        vars(record).update(loss=loss, parameters=parameters, _others=others)
        return record

    def __getattr__(self, name: str) -> Any:
        if name not in ("deltas", "inputs") or "_others" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        deltas, inputs = self._others()
        vars(self).update(deltas=deltas, inputs=inputs)
        return vars(self)[name]

    @property
    def weights(self) -> tuple[Array | None, ...]:
        """``dC/dW^l`` for l = 1..L (of a convolution, ``dC/dK``); None for a layer without one."""
        return tuple(next((p[n] for n in WEIGHTS if n in p), None) for p in self.parameters)

    @property
    def biases(self) -> tuple[Array | None, ...]:
        """``dC/db^l`` for l = 1..L; None for a layer without bias."""
        return tuple(p.get("b") for p in self.parameters)

    @property
    def vector(self) -> Array:
        """The gradient in the order of ``Network.parameters``: (vec W^1, b^1, ..., b^L)."""
        every = [array for by_name in self.parameters for array in by_name.values()]
        stacked = [vec(array.reshape(len(array), -1)) for array in every]
        return np.concatenate(stacked) if stacked else np.zeros(0, self.inputs.dtype)

    def __repr__(self) -> str:
        shapes = ", ".join("-" if W is None else "x".join(map(str, W.shape)) for W in self.weights)
        return f"Gradients of an objective of {self.loss:.6g}; weights {shapes}"
