"""Product: the chain, a composition of maps that is multiplied out only when asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import gcd, prod
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_items, refuse_if_too_large
from jacobians.maps.base import LinearMap, common_batch, magnitudes
from jacobians.maps.elementary import Diagonal, as_map


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

    composite = True

    def __init__(self, factors: Sequence[Any]) -> None:
        opened = tuple(_opened(as_items(factors, "Product: factors")))
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

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(A.dtype for A in self.factors))

    @cached_property
    def batch(self) -> tuple[int, ...]:
        return common_batch(self.factors, "Product")

    def apply(self, columns: Array) -> Array:
        for A in reversed(self.factors):
            columns = A.apply(columns)
        return columns

    def transpose(self) -> Product:
        return Product([A.T for A in reversed(self.factors)])

    def _refuse_too_large(self) -> None:
        super()._refuse_too_large()
        widest = max(A.shape[1] for A in self.factors)  # of the partial products, from the left
        shape, way_out = (self.shape[0], widest), "Keep the map, or multiply_out in another order"
        refuse_if_too_large(self.batch + shape, self.dtype, self, way_out)

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

    @property
    def flops(self) -> float:
        return sum(A.flops for A in self.factors)

    @property
    def monomial(self) -> bool:
        return all(A.monomial for A in self.factors)

    @property
    def block_count(self) -> int:
        return gcd(*(A.block_count for A in self.factors))

    def block_stack(self, count: int, points: int) -> Product:
        return Product([A.block_stack(count, points) for A in self.factors])

    def magnitude(self) -> Product | None:
        factors = magnitudes(self.factors)
        return None if factors is None else Product(factors)

    def roundings(self) -> Any:
        """Count those of the factors, and one contraction wherever two of them meet.

        An index is contracted once in whatever order: a monomial factor scales it on the way, so
        the widths on its two sides count as one, and only its entries that are not 0 take part.
        """
        K: Any = np.asarray(0)
        width: Any = None  # of the contraction that is open to the left, None before the first
        for A in self.factors:
            K = K + A.roundings()
            if A.monomial:
                if width is not None and isinstance(A, Diagonal):
                    width = np.minimum(width, np.maximum((A.entries != 0).sum(axis=-1), 1))
                continue
            K = K + (0 if width is None else width)
            width = A.shape[1]
        return K

    def reach(self) -> float:
        return prod(float(A.reach()) for A in self.factors)

    def underflow(self) -> float:
        return sum(A.underflow() for A in self.factors) * self.reach()

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
