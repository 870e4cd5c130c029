"""Layer: what one step of a network states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from jacobians._checks import Array, Frozen, Indices, ShapeError, as_floats, freeze
from jacobians.activations import IDENTITY, AnyActivation

Shape: TypeAlias = tuple[int, ...]
Self = TypeVar("Self", bound="Layer")


class Layer(Frozen, ABC):
    """One step of a network: a preactivation, then an activation.

    Subclasses are immutable records (frozen dataclasses) with an ``activation`` (identity unless
    they set one).  They define ``preactivation`` and what comes out: ``output_width`` where a value
    is just a vector, ``output_shape`` where it has axes of its own.  Arrays among their fields are
    collected by themselves; ``trained`` names those that are parameters, where they are not None.
    """

    activation: AnyActivation = IDENTITY
    inputs: int | None = None  # the width it insists on; None goes along with any
    arity: ClassVar[int | None] = 1  # how many inputs; None for two or more
    trained: ClassVar[tuple[str, ...]] = ()  # the fields that are parameters
    kinked: ClassVar[bool] = False  # whether z has kinks: then kink_distance is defined
    piecewise_linear: ClassVar[bool] = False  # whether z is; if it is kinked, bends is defined
    formed: int = 0  # roundings in the entries of its matrix, where they are computed

    def output_width(self, *widths: int) -> int:
        """Return how many entries come out when so many go in."""
        raise NotImplementedError(f"{type(self).__name__}: define output_width or output_shape.")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the value that comes out; a vector, unless a layer says otherwise."""
        return (self.output_width(*(prod(shape) for shape in shapes)),)

    def on(self: Self, *shapes: Shape) -> Self:
        """Return the layer as it acts on inputs of these shapes; itself, if they do not matter."""
        return self

    @abstractmethod
    def preactivation(self, *values: Array) -> Array:
        """Return ``z`` of shape (..., n_out) for values of shape (..., n_in), all of them flat."""

    def kink_distance(self, *values: Array, live: tuple[Any, ...]) -> Array:
        """Return how far each entry of ``z`` is from a kink of its own, (..., n_out).

        ``live`` tells of each value which entries move at all when the input does.
        """
        raise NotImplementedError(f"{type(self).__name__}: define kink_distance.")

    def may_move(self, *moving: Array) -> Any:
        """Tell which entries of a kinked ``z`` may move if these entries of its inputs do."""
        return np.any([m.any(axis=-1, keepdims=True) for m in moving], axis=0)

    def chosen(self, a: Array) -> Indices:
        """Return on which piece each entry of a kinked ``z`` is, (..., n_out)."""
        raise NotImplementedError(f"{type(self).__name__}: define chosen.")

    def bends(self, starts: Array, stops: Array) -> tuple[Indices, Array]:
        """Return where ``z`` bends as its input goes straight from each start to each stop.

        The numbers of the segments, and what share of the segment lies before, (k,) both.
        """
        raise NotImplementedError(f"{type(self).__name__}: define bends.")

    def __call__(self, *values: Array) -> Array:
        """Return ``sigma(z)``."""
        return self.activation(self.preactivation(*values))

    # --- arrays and parameters --------------------------------------------------------------------

    def arrays(self) -> dict[str, Array]:
        """Return the fields that are arrays of floats, by name."""
        values = {name: getattr(self, name) for name in _field_names(type(self))}
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }

    def parameters(self) -> dict[str, Array]:
        """Return the parameters by name: weights, biases, scales."""
        values = {name: getattr(self, name) for name in self.trained}
        return {name: value for name, value in values.items() if value is not None}

    def with_arrays(self: Self, arrays: Mapping[str, Array]) -> Self:
        """Return the layer with other arrays in some of its fields."""
        return replace(self, **arrays) if arrays else self  # type: ignore[type-var]

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of its arrays, or None if it has none."""
        arrays = self.arrays()
        return np.result_type(*arrays.values()) if arrays else None

    def astype(self: Self, dtype: np.dtype[Any]) -> Self:
        """Return the layer with its arrays in another dtype."""
        if self.dtype is None or self.dtype == dtype:
            return self
        kind = type(self).__name__
        return self.with_arrays(
            {
                name: as_floats(array, f"{kind}: {name}", dtype=dtype)
                for name, array in self.arrays().items()
            }
        )

    def __repr__(self) -> str:
        sigma = "" if self.activation == IDENTITY else f" {self.activation}"
        return f"{type(self).__name__}{sigma}"


@lru_cache(maxsize=256)
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()


def set_arrays(layer: Layer, **arrays: Array | None) -> None:
    """Set fields to frozen arrays of their common dtype, or None, while a record is made."""
    dtype = np.result_type(*(array for array in arrays.values() if array is not None))
    for name, array in arrays.items():
        value = None if array is None else freeze(array.astype(dtype, copy=False))
        object.__setattr__(layer, name, value)


def set_field(layer: Layer, name: str, value: Any) -> None:
    """Set a field of a record that is being made."""
    object.__setattr__(layer, name, value)


def require_rows(shape: Shape, width: int, layer: Layer) -> None:
    """Refuse a value that does not have rows of this width along its last axis."""
    if shape[-1] != width:
        raise ShapeError(
            f"{layer}: takes rows of {width} entries, but the value has shape {shape}."
        )
