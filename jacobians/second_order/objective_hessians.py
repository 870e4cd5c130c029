"""ObjectiveHessian: the second derivative of the mean loss in the parameters.

Gauss-Newton takes the network for its tangent; the rest is what its layers bend.  With the dot for
the derivative along a direction v, the sweep back is differentiated line by line:

    delta^l  = D^lᵀ c^l            delta'^l = D^lᵀ c'^l + (d²(cᵀa)/dz²) t_z
    c^{l-1}  = W^lᵀ delta^l        c'^{l-1} = W^lᵀ delta'^l + (d²(deltaᵀz)/da²) t_a + N v
    g        = P^lᵀ delta^l        (H v)^l  = P^lᵀ delta'^l + Nᵀ t_a

with the tangents ``t`` of ``z^l`` and of what comes in, and ``N = d²(deltaᵀz) / da dvec(theta)``;
``c'`` begins as ``(d²loss/da²) t``.  Every middle is a structured map.

Source: B. A. Pearlmutter, Neural Computation 6 (1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.linearization.second_differentials import (
    activation_second,
    second_of_layer,
    second_of_parameters,
)
from jacobians.maps import LinearMap
from jacobians.second_order.grams import OverPoints
from jacobians.second_order.rows import PointRows, Root
from jacobians.second_order.sweeps import Sweeps, applied, summed


@dataclass(frozen=True, eq=False, repr=False)
class ObjectiveHessian(OverPoints):
    """``d²C/dtheta²``, symmetric, (p, p), for the mean C of a convex loss."""

    rows: PointRows
    cotangent: Root
    weight: Any

    def apply(self, columns: Array) -> Array:
        total = np.zeros(columns.shape, self.dtype)
        for points, sweeps, S in self.rows.pieces(columns.shape[1]):
            c = self.cotangent.of(sweeps.lin.trace, self.rows.Y[points]).to_dense()
            total += _product(sweeps, c, S, columns)
        total *= self.dtype.type(self.weight)
        return total

    def _dense(self) -> Array:
        dense = self.apply(np.eye(self.shape[0], dtype=self.dtype))
        return (dense + dense.T) / 2

    def block(self, l: int | str) -> ObjectiveHessian:
        """Return the block of the parameters of one layer, a map like this one."""
        return ObjectiveHessian(self.rows.block(l), self.cotangent, self.weight)


def _product(sweeps: Sweeps, c: Array, S: LinearMap, V: Array) -> Array:
    """Return the sum over points of ``H V``, for cotangents c of shape (B, m, 1)."""
    trace, t, total = sweeps.lin.trace, sweeps.tangents(V), np.zeros_like(V)
    dots: dict[int, Any] = {trace.network.depth: 0}
    if trace.network.depth in t:
        dots[trace.network.depth] = S.apply(S.T.apply(t[trace.network.depth][1]))
    for l, at_a, at_z in sweeps.deltas(c):
        layer, values = trace.network.layers[l - 1], trace.entering(l)
        sources, delta = trace.network.sources[l - 1], at_z[..., 0]
        dot, D = dots.pop(l), sweeps.activation_map(l)
        if D:
            bend = activation_second(layer.activation, at_a[..., 0], trace.preactivations[l - 1])
            dot = D.T.apply(dot) + (bend.apply(t[l][0]) if bend else 0)
        blocks = sweeps.blocks.get(l, {})
        for name, span in blocks.items():
            total[span] += summed(sweeps.maps[l][name], dot)
        pairs = second_of_layer(layer, delta, *values)
        mixed = second_of_parameters(layer, delta, *values) if blocks else {}
        for j, (s, A) in enumerate(zip(sources, sweeps.lin.input_maps(l), strict=True)):
            if s not in sweeps.moved:
                continue
            into = A.T.apply(dot)
            for (i, k), M in pairs.items():
                if j == i and sources[k] in t:
                    into = into + M.apply(t[sources[k]][1])
                if j == k != i and sources[i] in t:
                    into = into + M.T.apply(t[sources[i]][1])
            for name, span in blocks.items():
                if (j, name) in mixed:
                    into = into + applied(mixed[j, name], V[span])
                    total[span] += summed(mixed[j, name], t[s][1])
            dots[s] = dots.get(s, 0) + into
    return total
