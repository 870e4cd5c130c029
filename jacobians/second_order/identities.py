"""The identities of the Hessian, for the certificate: of one sum of outputs, at one point.

All methods take the same cotangents and second differentials, so they differ by the rounding of
their products alone: a sum of congruences is a map, and the rounding theorem says by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians import explicit, witness
from jacobians._checks import Array
from jacobians._evidence import scale_of_steps
from jacobians.linearization import Linearization, linearize
from jacobians.linearization.hessian_maps import hessian_times, in_rows, of_points, pulled_back
from jacobians.linearization.paths import cuts_and_edges
from jacobians.maps import Matrix
from jacobians.rounding import chain_bound
from jacobians.second_order.hessians import hessians_at

Sides = tuple[Any, Any, Any]


def _weights(lin: Linearization) -> Array:
    """Return small whole numbers, none of them 0, so that exact networks stay exact."""
    weights = np.random.default_rng(0).integers(1, 4, lin.value.size)
    return weights.astype(lin.trace.network.dtype)


def _cotangents(lin: Linearization) -> dict[Any, Array]:
    net, c = lin.trace.network, _weights(lin)
    edges = cuts_and_edges(net, net.depth, 0)[1]
    at = pulled_back(lin, in_rows(c), edges, net.depth)
    return {end: of_points(lin, rows) for end, rows in at.items()}


def _bound(lin: Linearization) -> Any:
    """Bound the distance of two computations, which may add up at every node."""
    depth = sum(len(sources) + 2 for sources in lin.trace.network.sources)
    return chain_bound([lin.hessian(_weights(lin))], lin.trace.network.dtype).pair(depth)


def _at_every_node(lin: Linearization) -> list[Sides]:
    seed, pairs = Matrix(_weights(lin)[None, :]), []
    formed = sum(layer.formed for layer in lin.trace.network.layers)
    for (kind, l), c in _cotangents(lin).items():
        factors = [seed, *lin.between(lin.trace.network.depth, l)]
        left = seed.array[0] @ explicit.input_jacobian(lin.trace, wrt=l)
        if kind == "z":
            factors.append(lin.activation_map(l))
            left = left @ explicit.activation_jacobian(lin.trace, l)
        pairs.append((left, c, chain_bound(factors, lin.trace.network.dtype).pair(formed)[0]))
    return pairs


def _explicit(lin: Linearization) -> list[Sides]:
    H = explicit.hessian(lin.trace, _weights(lin), at=_cotangents(lin))
    return [(H, lin.hessian(_weights(lin)).to_dense(), _bound(lin))]


def _symmetric(lin: Linearization) -> list[Sides]:
    H = _batched(lin)
    return [(H, H.T, 0.0)]


def _batched(lin: Linearization) -> Array:
    H: Array = hessians_at(lin, in_rows(_weights(lin)), lin.trace.network.depth, 0)[0, 0]
    return H


def _together(lin: Linearization) -> list[Sides]:
    return [(_batched(lin), lin.hessian(_weights(lin)).to_dense(), _bound(lin))]


def _columns(lin: Linearization) -> list[Sides]:
    net, c = lin.trace.network, _weights(lin)
    unit = np.eye(net.widths[0], dtype=net.dtype)
    columns = [hessian_times(lin, c, e, net.depth, 0) for e in unit]
    return [(np.stack(columns, axis=1), lin.hessian(c).to_dense(), _bound(lin))]


def _differences(lin: Linearization) -> list[Sides]:
    """Compare with differences of the gradient, in float64 and over no kink."""
    net, c = lin.trace.network.astype(np.float64), _weights(lin).astype(np.float64)
    x = lin.trace.activation(0).astype(np.float64)
    exact = linearize(net, x)
    H, gradient = exact.hessian(c).to_dense(), exact.vjp(c)
    noise = chain_bound([Matrix(c[None, :]), *exact.factors], np.float64).single()[0]
    noise = np.where(np.isfinite(noise), noise, 0.0)
    scale = scale_of_steps(exact)
    seen = witness.finite_difference(lambda p: linearize(net, p).vjp(c), x, scale, noise)
    low, high = np.minimum(seen.left, seen.right), np.maximum(seen.left, seen.right)
    allowed = witness.allowance(seen, H, gradient, x)
    # where the gradient jumps, its differences are as large as one over the step, and say nothing
    size = max(np.abs(gradient).max() / max(1.0, np.abs(x).max()), np.abs(H).max())
    allowed = np.where(allowed <= 0.01 * size, allowed, np.inf)
    return [(H, np.clip(H, low, high), allowed + _bound(exact))]


HESSIAN_IDENTITIES: tuple[tuple[str, str, Callable[[Linearization], list[Sides]]], ...] = (
    ("cotangents at every node", "11", _at_every_node),
    ("Hessian, sum of congruences", "11", _explicit),
    ("Hessian, multiplied out together", "11", _together),
    ("Hessian, symmetric", "11", _symmetric),
    ("Hessian, columns are products", "12", _columns),
    ("differences of the gradient", "10", _differences),
)
