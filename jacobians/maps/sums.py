"""Sum: maps added up, each kept as it is.  A residual block is ``I + D W``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_items
from jacobians.maps.base import LinearMap, common_batch, magnitudes
from jacobians.maps.elementary import as_map


@dataclass(frozen=True, eq=False, repr=False)
class Sum(LinearMap):
    """``A_1 + A_2 + ... + A_q``, kept as its terms; sums inside are opened up.

    Parameters
    ----------
    terms : sequence of maps or matrices
        All of one shape.

    Raises
    ------
    ShapeError
        If two terms differ in shape, naming both.

    >>> from jacobians.maps import Identity
    >>> Sum([Identity(2), [[0.0, 1.0], [0.0, 0.0]]]) @ [1.0, 2.0]
    array([3., 2.])
    """

    terms: tuple[LinearMap, ...]

    composite = True

    def __init__(self, terms: Sequence[Any]) -> None:
        opened = tuple(_opened(as_items(terms, "Sum: terms")))
        if not opened:
            raise ValueError("Sum: expected at least one term.")
        for A in opened[1:]:
            if A.shape != opened[0].shape:
                raise ShapeError(f"Sum: {opened[0]} and {A} differ in shape.")
        common_batch(opened, "Sum")
        object.__setattr__(self, "terms", opened)

    @property
    def shape(self) -> tuple[int, int]:
        return self.terms[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(A.dtype for A in self.terms))

    @property
    def batch(self) -> tuple[int, ...]:
        return common_batch(self.terms, "Sum")

    def apply(self, columns: Array) -> Array:
        total = self.terms[0].apply(columns)
        for A in self.terms[1:]:
            total = total + A.apply(columns)
        return total

    def transpose(self) -> Sum:
        return Sum([A.T for A in self.terms])

    def _parts(self) -> tuple[LinearMap, ...]:
        return self.terms

    def _dense(self) -> Array:
        return np.array(sum(A.to_dense() for A in self.terms))

    def _sparse(self) -> Any:
        total = self.terms[0].to_sparse()
        for A in self.terms[1:]:
            total = total + A.to_sparse()
        return total.tocsr()

    def diagonal(self) -> Array:
        return np.array(sum(A.diagonal() for A in self.terms))

    @property
    def flops(self) -> float:
        return sum(A.flops for A in self.terms) + (len(self.terms) - 1) * self.shape[0]

    @property
    def block_count(self) -> int:
        return gcd(*(A.block_count for A in self.terms))

    def block_stack(self, count: int, points: int) -> Sum:
        return Sum([A.block_stack(count, points) for A in self.terms])

    def magnitude(self) -> Sum | None:
        terms = magnitudes(self.terms)
        return None if terms is None else Sum(terms)

    def roundings(self) -> Any:
        K: Any = 0
        for A in self.terms:
            K = np.maximum(K, A.roundings())
        return K + len(self.terms) - 1

    def reach(self) -> float:
        return sum(A.reach() for A in self.terms)

    def underflow(self) -> float:
        return sum(A.underflow() for A in self.terms)

    def __repr__(self) -> str:
        shown = [A._kind() for A in self.terms]
        if len(shown) > 5:
            shown = [*shown[:2], f"... {len(shown) - 4} more ...", *shown[-2:]]
        return f"{super().__repr__()}: {' + '.join(shown)}"


LinearMap.sum_of = Sum


def _opened(terms: Sequence[Any]) -> Iterator[LinearMap]:
    for term in terms:
        A = as_map(term, "Sum: term")
        if isinstance(A, Sum):
            yield from A.terms
        else:
            yield A
