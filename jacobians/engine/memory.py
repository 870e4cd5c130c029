"""Memory that is used again: fresh pages for large arrays cost as much as arithmetic on them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Array

# Below this size the C library hands out memory that is warm already.
WARM_BYTES = 2**16


class Pool:
    """Arrays of one dtype that are taken, given back and taken again.

    Every array is a view of a flat one; a taken array belongs to whoever took it.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._free: list[Array] = []
        self._owned: set[int] = set()

    def take(self, shape: tuple[int, ...]) -> Array:
        """Return an array of that shape, its entries whatever they were."""
        size = prod(shape)
        enough = [k for k, flat in enumerate(self._free) if flat.size >= size]
        if enough:
            flat = self._free.pop(min(enough, key=lambda k: self._free[k].size))
        else:
            flat = np.empty(size, self._dtype)
            self._owned.add(id(flat))
        return flat[:size].reshape(shape)

    def give(self, array: Any) -> None:
        """Take an array back, if it came from here."""
        flat = getattr(array, "base", None)
        if flat is not None and id(flat) in self._owned:
            self._free.append(flat)
