"""ObjectiveHessian: the second derivative of the mean loss in the parameters.

Gauss-Newton takes the network for its tangent; the rest is what its layers bend.  With the dot for
the derivative along a direction v, the sweep back is differentiated line by line:

    delta^l  = D^lᵀ c^l            delta'^l = D^lᵀ c'^l + (d²(cᵀa)/dz²) t_z
    c^{l-1}  = W^lᵀ delta^l        c'^{l-1} = W^lᵀ delta'^l + (d²(deltaᵀz)/da²) t_a + N v
    g        = P^lᵀ delta^l        (H v)^l  = P^lᵀ delta'^l + Nᵀ t_a + M v

with the tangents ``t`` of ``z^l`` and of what comes in, ``N = d²(deltaᵀz) / da dvec(theta)`` and
``M = d²(deltaᵀz) / dvec(theta)²``, which is 0 for the layers of this library; ``c'`` begins as
``(d²loss/da²) t``.  Every middle is a structured map.

Source: B. A. Pearlmutter, Neural Computation 6 (1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians._graph import layers_with, stacked_parameters
from jacobians.linearization.second_differentials import (
    Mixed,
    activation_second,
    parameter_second,
    second_of_layer,
    second_of_parameters,
)
from jacobians.maps import LinearMap, Matrix
from jacobians.second_order.grams import OverPoints
from jacobians.second_order.rows import Root
from jacobians.second_order.sweeps import Sweeps, applied, summed

AFFINE = 1e-12  # of the sizes of all terms: thousands of roundings


@dataclass(frozen=True, eq=False, repr=False)
class ObjectiveHessian(OverPoints):
    """``d²C/dtheta²``, symmetric, (p, p), for the mean C of a convex loss."""

    cotangent: Root

    def apply(self, columns: Array) -> Array:
        total = np.zeros(columns.shape, self.dtype)
        for points, sweeps, S in self.rows.pieces(columns.shape[1]):
            c = self.cotangent.of(sweeps.lin.trace, self.rows.Y[points]).to_dense()
            total += _product(sweeps, c, S, columns)
        total *= self.dtype.type(self.weight)
        return total

    def _dense(self) -> Array:
        dense = self.apply(np.eye(*self.shape, dtype=self.dtype))
        return (dense + dense.T) / 2

    def block(self, l: int | str) -> ObjectiveHessian:
        """Return the block of the parameters of one layer, a map like this one."""
        return ObjectiveHessian(self.rows.block(l), self.weight, self.cotangent)


def _product(sweeps: Sweeps, c: Array, S: LinearMap, V: Array) -> Array:
    """Return the sum over points of ``H V``, for cotangents c of shape (B, m, 1)."""
    trace, t, total = sweeps.lin.trace, sweeps.tangents(V), np.zeros_like(V)
    end = trace.network.depth
    dots: dict[int, Any] = {end: S.apply(S.T.apply(t[end][1]))}
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
        _require_curved(layer, values, sweeps.maps[l] if blocks else {}, mixed)
        for (one, other), M in mixed.items():
            if isinstance(one, str) and one in blocks and other in blocks:
                total[blocks[one]] += _over_points(applied(M, V[blocks[other]]), len(delta))
                if (other, one) not in mixed:
                    total[blocks[other]] += _over_points(applied(M.T, V[blocks[one]]), len(delta))
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


def _over_points(each: Array, B: int) -> Array:
    """Return the sum over points of columns (B, p, k), or of those that all points share."""
    total: Array = np.broadcast_to(each, (B, *each.shape[-2:])).sum(axis=0)
    return total


def _require_curved(layer: Any, values: Any, maps: dict[str, LinearMap], mixed: Mixed) -> None:
    """Refuse a layer that bends in its parameters and whose rule has no block of two of them.

    An affine z has no second difference: ``z(theta + h) - 2 z(theta) + z(theta - h) = 0`` within
    rounding of its terms, here with steps of half a parameter or less, in float64.
    """
    rule = parameter_second.dispatch(type(layer))
    if not maps or rule.__module__ == parameter_second.__module__:  # linear, as it says there
        return
    if any(isinstance(one, str) for one, _ in mixed):
        return
    double = np.dtype(np.float64)
    theta = stacked_parameters([layer], double)
    shares = 1 / np.sqrt(np.arange(5, len(theta) + 5))  # no two are alike
    step = np.where(theta == 0, shares, theta * shares)
    reach, ends = np.abs(theta + step), np.cumsum([P.shape[1] for P in maps.values()])
    with np.errstate(all="ignore"):
        moved = [layers_with([layer], theta + k * step, double)[0] for k in (1, 0, -1)]
        inputs = [value.astype(double) for value in values]
        up, here, down = (each.preactivation(*inputs) for each in moved)
        size = np.abs(here)  # and what is added to the terms is at most this and all of them
        for P, columns in zip(maps.values(), np.split(reach, ends[:-1]), strict=True):
            terms = P.magnitude() or Matrix(np.abs(P.to_dense()))
            size = size + applied(terms, columns[:, None])[..., 0]
        if (np.abs(up - 2 * here + down) <= AFFINE * size).all():
            return
    raise NotImplementedError(
        f"hessian: {layer} is not affine in its parameters, and its rule parameter_second has no "
        f"block of two of them. Let that of {type(layer).__name__} return them too, by "
        "(name, name): the second derivatives of the sum of cotangent * z."
    )
