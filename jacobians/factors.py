"""The factors of a chain, described before any point is known: kinds, sizes, what is asked of them.

``da^of/da^wrt`` is a product of activation Jacobians ``D^l`` and layers ``W^l``.  Asking for some
rows or columns of it only makes its outer factors smaller: a diagonal keeps those entries and
passes the choice on, the first matrix keeps those rows or columns, and there the choice ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from jacobians._checks import Array, ShapeError
from jacobians.activations import IDENTITY, Activation, VectorActivation
from jacobians.layers import Dense, Elementwise, Scale
from jacobians.maps.association import Operand
from jacobians.network import Network

Index: TypeAlias = "np.ndarray[Any, np.dtype[np.intp]]"


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor of the chain.

    Attributes
    ----------
    name : str
        ``D3``, ``W2``, or ``E`` for columns of the identity.
    layer : int
    operand : Operand
        Its size after the choice of rows and columns.
    rows, columns : array of int, optional
        The chosen ones; for a diagonal ``rows`` are its chosen entries.
    """

    name: str
    layer: int
    operand: Operand
    rows: Index | None = None
    columns: Index | None = None

    def chosen(self, M: Array) -> Array:
        """Take the chosen rows and columns of a matrix, or of a stack (m, b, n)."""
        M = M if self.rows is None else M[self.rows]
        return M if self.columns is None else M[..., self.columns]


def known_value(net: Network, factor: Factor) -> Array | None:
    """Return a factor that is the same at every point: a matrix, or the vector of a diagonal.

    None if it depends on the point.

    >>> net = Network([Dense([[1, 2]], activation="relu")])
    >>> [known_value(net, factor) for factor in factors_of(net, 1, 0)]
    [None, array([[1., 2.]])]
    """
    if factor.name == "E":
        return factor.chosen(np.eye(net.widths[factor.layer], dtype=net.dtype))
    layer = net.layers[factor.layer - 1]
    if factor.name[0] == "D":
        return None
    if isinstance(layer, Dense):
        return factor.chosen(layer.W)
    if isinstance(layer, Scale):
        return layer.scale if factor.rows is None else layer.scale[factor.rows]
    return None


def factors_of(
    net: Network, of: int, wrt: int, rows: Index | None = None, columns: Index | None = None
) -> tuple[Factor, ...]:
    """Describe the factors of ``da^of/da^wrt``, left to right, without those that are the identity.

    >>> net = Network([Dense([[1, 2], [3, 4], [5, 6]], activation="relu"), Dense([[1, 2, 3]])])
    >>> [f.name for f in factors_of(net, 2, 0)]
    ['W2', 'D1', 'W1']
    """
    factors: list[Factor] = []
    for l in range(of, wrt, -1):
        layer, (n_out, n_in) = net.layers[l - 1], (net.widths[l], net.widths[l - 1])
        if layer.activation != IDENTITY:
            factors.append(Factor(f"D{l}", l, _activation_operand(layer.activation, n_out)))
        if not isinstance(layer, Elementwise):
            kind: Literal["diagonal", "dense"] = "diagonal" if isinstance(layer, Scale) else "dense"
            known = isinstance(layer, (Scale, Dense))
            factors.append(Factor(f"W{l}", l, Operand(n_out, n_in, kind, stacked=not known)))
    if rows is not None:
        factors = _choose(factors, rows, net.widths, wrt, "rows")
    if columns is not None:
        factors = _choose(factors[::-1], columns, net.widths, wrt, "columns")[::-1]
    return tuple(factors)


def _activation_operand(sigma: Any, n: int) -> Operand:
    if isinstance(sigma, Activation):
        return Operand(n, n, "diagonal")
    if isinstance(sigma, VectorActivation):
        return Operand(n, n, "low rank", sigma.parts(np.zeros(n))[1].shape[-1])
    return Operand(n, n)


def _choose(
    factors: Sequence[Factor],
    index: Index,
    widths: Sequence[int],
    wrt: int,
    side: Literal["rows", "columns"],
) -> list[Factor]:
    """Restrict the outer factors, the outermost first."""
    count, found = len(index), []
    for k, factor in enumerate(factors):
        if factor.operand.kind == "diagonal":
            small = replace(factor.operand, rows=count, columns=count)
            found.append(replace(factor, operand=small, rows=index))
            continue
        size: dict[str, Any] = {side: count}
        dense = replace(factor.operand, kind="dense", rank=0, **size)
        chosen: dict[str, Any] = {side: index}
        return [*found, replace(factor, operand=dense, **chosen), *factors[k + 1 :]]
    # nothing but diagonals: all widths are the same, and columns of the identity end the choice
    m, n = (count, widths[wrt]) if side == "rows" else (widths[wrt], count)
    chosen = {side: index}
    return [*found, Factor("E", wrt, Operand(m, n, stacked=False), **chosen)]


def as_index(value: Any, n: int, where: str) -> Index | None:
    """Check a choice of rows or columns: a slice, a mask, or numbers from 0 to n - 1.

    >>> as_index([2, 0], 3, "jacobian: rows")
    array([2, 0])
    """
    if value is None:
        return None
    numbers = value
    if not isinstance(value, slice):
        numbers = np.asarray(value, dtype=None if np.size(value) else int)
    try:
        index: Index = np.arange(n)[numbers]
    except IndexError as err:
        raise ValueError(f"{where}: expected numbers from 0 to {n - 1} ({err}).") from None
    if np.ndim(index) != 1 or not len(index):
        raise ShapeError(
            f"{where}: expected a slice or a list of at least one number, but got {value!r:.80}."
        )
    return index
