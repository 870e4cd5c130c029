"""Product: the chain, a composition of maps that is multiplied out only when asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, refuse_if_too_large
from jacobians.maps.base import LinearMap, common_batch
from jacobians.maps.elementary import as_map


@dataclass(frozen=True, eq=False, repr=False)
class Product(LinearMap):
    """``A_1 A_2 ... A_q``, kept as its factors; products inside are opened up.

    Parameters
    ----------
    factors : sequence of maps or matrices
        In the order in which they are written; the last one acts first.

    Raises
    ------
    ShapeError
        If neighbours do not fit, naming both.

    >>> chain = Product([np.ones((2, 3)), np.ones((3, 4))])
    >>> chain
    Product 2x4 float64: 2x3 · 3x4
    >>> chain @ np.ones(4)
    array([12., 12.])
    """

    factors: tuple[LinearMap, ...]

    def __init__(self, factors: Sequence[Any]) -> None:
        opened = tuple(_opened(factors))
        if not opened:
            raise ValueError("Product: expected at least one factor; the empty one is Identity.")
        for left, right in pairwise(opened):
            if left.shape[1] != right.shape[0]:
                raise ShapeError(
                    f"Product: {left} takes {left.shape[1]} entries, "
                    f"but the factor to its right, {right}, gives {right.shape[0]}."
                )
        common_batch(opened, "Product")
        object.__setattr__(self, "factors", opened)

    @property
    def shape(self) -> tuple[int, int]:
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(A.dtype for A in self.factors))

    @property
    def batch(self) -> tuple[int, ...]:
        return common_batch(self.factors, "Product")

    def apply(self, columns: Array) -> Array:
        for A in reversed(self.factors):
            columns = A.apply(columns)
        return columns

    def transpose(self) -> Product:
        return Product([A.T for A in reversed(self.factors)])

    def _require_room(self) -> None:
        super()._require_room()
        m, way_out = self.shape[0], "Keep the map, or multiply_out in another order"
        for A in self.factors[:-1]:
            shape = (*self.batch, m, A.shape[1])
            refuse_if_too_large(shape, self.dtype, f"{self}: partial product", way_out)

    def _parts(self) -> tuple[LinearMap, ...]:
        return self.factors

    def _dense(self) -> Array:
        dense = self.factors[0].to_dense()
        for A in self.factors[1:]:
            dense = dense @ A.to_dense()
        return dense

    def _sparse(self) -> Any:
        sparse = self.factors[0].to_sparse()
        for A in self.factors[1:]:
            sparse = sparse @ A.to_sparse()
        return sparse

    def __repr__(self) -> str:
        shown = [A._size() for A in self.factors]
        if len(shown) > 8:
            shown = [*shown[:3], f"... {len(shown) - 6} more ...", *shown[-3:]]
        return f"{super().__repr__()}: {' · '.join(shown)}"


LinearMap.product_of = Product


def _opened(factors: Sequence[Any]) -> Iterator[LinearMap]:
    """Walk over the factors, opening products inside (the matrix product is associative)."""
    for factor in factors:
        A = as_map(factor, "Product: factor")
        if isinstance(A, Product):
            yield from A.factors
        else:
            yield A
