"""Memory that is used again: fresh pages for large arrays cost as much as arithmetic on them."""

from __future__ import annotations

from math import prod
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from jacobians._checks import Array

# Below this size the C library hands out memory that is warm already.
WARM_BYTES = 2**16


class Pool:
    """Arrays of one dtype that are taken, given back and taken again.

    Every array is a view of a flat one; a taken array belongs to whoever took it.  What is never
    given back is forgotten with its last user, and its number in memory may then be another's.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._free: list[Array] = []
        self._owned: WeakValueDictionary[int, Array] = WeakValueDictionary()

    def take(self, shape: tuple[int, ...]) -> Array:
        """Return an array of that shape, its entries whatever they were."""
        size = prod(shape)
        enough = [k for k, flat in enumerate(self._free) if flat.size >= size]
        if enough:
            flat = self._free.pop(min(enough, key=lambda k: self._free[k].size))
        else:
            flat = np.empty(size, self.dtype)
            self._owned[id(flat)] = flat
        return flat[:size].reshape(shape)

    def owns(self, array: Any) -> bool:
        """Tell whether an array came from here."""
        flat = getattr(array, "base", None)
        return flat is not None and self._owned.get(id(flat)) is flat

    def give(self, array: Any) -> None:
        """Take an array back, if it came from here."""
        flat: Any = getattr(array, "base", None)
        if self.owns(array) and all(flat is not free for free in self._free):
            self._free.append(flat)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays that were given back."""
        return sum(flat.nbytes for flat in self._free)


class Fresh:
    """A pool for so little that fresh memory is warm already: it keeps nothing."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def take(self, shape: tuple[int, ...]) -> Array:
        """Return a new array."""
        return np.empty(shape, self.dtype)

    def owns(self, array: Any) -> bool:
        """Return False: whoever took an array has it."""
        return False

    def give(self, array: Any) -> None:
        """Do nothing."""


# Between calls a few pools stay, each no larger than this: small batches in a loop find warm pages.
KEPT_BYTES = 2**23
_idle: list[Pool] = []


def borrow(dtype: np.dtype[Any]) -> Pool:
    """Return a pool of that dtype, from an earlier call if there is one."""
    for k, pool in enumerate(_idle):
        if pool.dtype == dtype:
            try:
                return _idle.pop(k)
            except IndexError:  # another thread was faster
                break
    return Pool(dtype)


def bring_back(pool: Pool) -> None:
    """Keep a pool for the next call, if it is not too large and there are not too many."""
    if pool.nbytes <= KEPT_BYTES and len(_idle) < 4:
        _idle.append(pool)
