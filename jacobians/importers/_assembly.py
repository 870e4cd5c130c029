"""Layers in the making: what every importer does with the steps that it reads.

A foreign model says "multiply by this matrix, add that vector, apply tanh"; here that is one
``Dense``.  Steps are folded where nothing of the model changes but its writing::

    matrix product, then scale and shift   one Dense
    scale and shift, again and again       one Scale
    either, then an activation             one Dense, or a Scale and an Elementwise

Constants that a float32 model does not hold itself (``1 / standard deviation``, the product of a
scale and a weight) are computed in float64, and the layer remembers them: ``astype(np.float64)`` of
what was imported is the model in float64, to the last rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from jacobians._checks import FLOATS, Array, ShapeError, as_floats, require_shape
from jacobians.activations import IDENTITY, AnyActivation, activation
from jacobians.layers import Dense, Elementwise, Layer, Scale
from jacobians.network import Network


@dataclass
class _Draft:
    """A layer to be: a Dense if W is a matrix, a Scale if it is a vector, else Elementwise."""

    at: str
    W: Array | None
    b: Array | None
    sigma: AnyActivation = IDENTITY

    def layer(self, where: str, dtype: np.dtype[Any]) -> Layer:
        if self.W is None:
            return Elementwise(self.sigma)
        for part, name in ((self.W, "weight"), (self.b, "bias")):
            if part is not None:
                as_floats(part, f"{where}: {self.at}: {name}", dtype=dtype)
        layer = Dense(self.W, self.b, self.sigma) if self.W.ndim == 2 else Scale(self.W, self.b)
        return layer.astype(dtype)


class Assembly:
    """A chain of layers that grows step by step; ``at`` is the place in the model, for errors."""

    def __init__(self, where: str, width: int | None = None) -> None:
        self.where = where
        self.width = width  # of what has been computed so far, if anything fixed it
        self._inputs = width
        self._drafts: list[_Draft] = []
        self._dtypes: set[np.dtype[Any]] = set()

    # --- steps ------------------------------------------------------------------------------------

    def dense(self, W: Any, b: Any = None, *, at: str) -> None:
        """Append ``W a + b``."""
        W = as_floats(W, f"{self.where}: {at}: weight")
        if W.ndim != 2 or 0 in W.shape:
            raise ShapeError(
                f"{self.where}: {at}: expected a weight of shape (n_out, n_in), but got {W.shape}."
            )
        if b is not None:
            b = as_floats(b, f"{self.where}: {at}: bias")
            require_shape(b, W.shape[:1], f"{self.where}: {at}: bias")
        self._fit(W.shape[1], at)
        self.computed_in(np.result_type(W, W if b is None else b))
        self._append(_Draft(at, W, b), W.shape[0])

    def scale(self, scale: Any, shift: Any, *, at: str, dtype: Any) -> None:
        """Append ``scale * a + shift``, entry by entry; either may be one number for all.

        Both are given in float64; ``dtype`` is that of the model's own constants behind them.
        """
        scale = as_floats(scale, f"{self.where}: {at}: scale", dtype=FLOATS[1])
        shift = as_floats(shift, f"{self.where}: {at}: shift", dtype=FLOATS[1])
        width = max((part.size for part in (scale, shift) if part.ndim), default=self.width or 1)
        for part in (scale, shift):
            if part.shape not in ((), (width,)):
                raise ShapeError(
                    f"{self.where}: {at}: expected one scale and one shift per entry, but got "
                    f"shapes {scale.shape} and {shift.shape}."
                )
        self._fit(width, at)
        self.computed_in(dtype)
        scale, shift = (np.broadcast_to(part, (width,)) for part in (scale, shift))
        last = self._drafts[-1] if self._drafts else None
        if last is None or not self._folded(last, scale, shift):
            self._append(_Draft(at, scale, shift), width)

    def _folded(self, last: _Draft, scale: Array, shift: Array) -> bool:
        """Fold a scale into the step before it, if that is affine and nothing leaves the range."""
        if last.W is None or last.sigma is not IDENTITY:
            return False
        W, b = last.W, shift
        smallest = np.finfo(np.result_type(*self._dtypes)).tiny
        with np.errstate(all="ignore"):
            if (scale != 1).any():
                factor = scale if W.ndim == 1 else scale[:, None]
                W = factor * W
                lost = (np.abs(W) < smallest) & (factor != 0) & (last.W != 0)
                if lost.any() or not np.isfinite(W).all():
                    return False
            if last.b is not None:
                b = scale * last.b + shift
        if not np.isfinite(b).all():
            return False
        last.W, last.b = W, b
        return True

    def activate(self, sigma: str | AnyActivation, *, at: str, **parameters: float) -> None:
        """Apply an activation to everything so far."""
        try:
            sigma = activation(sigma, **parameters)
        except (ValueError, TypeError) as err:
            raise type(err)(f"{self.where}: {at}: {err}") from None
        last = self._drafts[-1] if self._drafts else None
        if sigma is IDENTITY:
            return
        if last is not None and last.W is not None and last.W.ndim == 2 and last.sigma is IDENTITY:
            last.sigma = sigma
        else:
            self._append(_Draft(at, None, None, sigma), self.width)

    def computed_in(self, dtype: Any) -> None:
        """Note a dtype in which the model computes; the network takes the widest."""
        self._dtypes.add(np.dtype(dtype))

    # --- the end ----------------------------------------------------------------------------------

    def network(
        self,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> Network:
        """Return the network, in the widest dtype of the model."""
        if self._inputs is None:
            raise ValueError(
                f"{self.where}: nothing in the model fixes the number of inputs; "
                "it needs a layer with weights."
            )
        dtype = np.result_type(*self._dtypes) if self._dtypes else FLOATS[1]
        drafts = self._drafts or [_Draft("the model", None, None)]
        return Network(
            [draft.layer(self.where, dtype) for draft in drafts],
            inputs=self._inputs,
            input_names=input_names,
            output_names=output_names,
        ).astype(dtype)

    # --- refusals ---------------------------------------------------------------------------------

    def no_rule(self, at: str, kind: str, way_out: str = "") -> NoReturn:
        """Refuse what cannot be imported: what it is, where it is, and the way out."""
        hint = f" {way_out}" if way_out else ""
        raise NotImplementedError(f"{self.where}: {at}: {kind} has no rule here.{hint}")

    def refuse(self, at: str, message: str) -> NoReturn:
        """Refuse what has a rule but cannot be used as it is."""
        raise ValueError(f"{self.where}: {at} {message}")

    def _fit(self, inputs: int, at: str) -> None:
        if self.width not in (None, inputs):
            last = self._drafts[-1].at + " gives" if self._drafts else "the model gets"
            raise ShapeError(f"{self.where}: {at} takes {inputs} inputs, but {last} {self.width}.")
        if self._inputs is None:
            self._inputs = inputs

    def _append(self, draft: _Draft, width: int | None) -> None:
        self._drafts.append(draft)
        self.width = width
