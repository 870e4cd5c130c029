"""Evidence for a derivative from differences of the network's values, and what it can claim.

Steps must be short against the scale on which the network bends, which the trace tells; where that
is lost in the rounding of the values, or where several units choose a side of their kinks, nothing
is claimed.
"""

from __future__ import annotations

import numpy as np

from jacobians import witness
from jacobians._checks import Array
from jacobians._graph import layers_with, stacked_parameters
from jacobians.linearization import Linearization
from jacobians.maps import Identity, LinearMap, Matrix


def differences_of_values(lin: Linearization) -> tuple[Array, Array, Array]:
    """Return the Jacobian, what differences give nearest to it, and how far apart they may be.

    At a kink the one-sided differences are two ends, and anything between them is as near.  A step
    that leaves the range raises ``NotFiniteError``.
    """
    net, x, J = lin.trace.network, lin.trace.activation(0), lin.jacobian()
    sizes = scale_of_steps(lin), _error_of_values(lin)
    seen = witness.finite_difference(net, x, *sizes, batched=True)
    allowed = witness.allowance(seen, J, lin.value, x)
    met = _kinks_met(lin)  # several chose a side each; of one, both sides must have been seen
    allowed = np.where((met > 1) | ((met == 1) & ~seen.kinks), np.inf, allowed)
    low, high = np.minimum(seen.left, seen.right), np.maximum(seen.left, seen.right)
    return J, np.clip(J, low, high), allowed


def differences_by_parameters(lin: Linearization, l: int) -> tuple[Array, Array, Array]:
    """Return the same for ``z^l`` by its layer's parameters, along two random directions."""
    layer, inputs = lin.trace.network.layers[l - 1], lin.trace.entering(l)
    theta = stacked_parameters([layer], np.dtype(np.float64))
    V = np.random.default_rng(l).standard_normal((len(theta), 2)) / np.sqrt(len(theta))
    V *= np.abs(theta).max() or 1.0

    def z(t: Array) -> Array:
        (moved,) = layers_with([layer], theta + V @ t, theta.dtype)
        return moved.preactivation(*inputs)

    maps = [lin.own_parameter_map(l, name) for name in layer.parameters()]
    ends = np.cumsum([A.shape[1] for A in maps])[:-1]
    claim = np.asarray(sum(A @ v for A, v in zip(maps, np.split(V, ends), strict=True)))
    # what may cancel in z
    terms = [*zip(lin.input_maps(l), inputs, strict=True)]
    terms += zip(maps, np.split(theta, ends), strict=True)
    size = np.abs(lin.trace.preactivations[l - 1])
    size = size + sum(_magnitude(A) @ np.abs(value) for A, value in terms)
    seen = witness.finite_difference(z, np.zeros(2), noise=8 * np.finfo(float).eps * size)
    allowed = witness.allowance(seen, claim, size, np.zeros(2))
    return claim, seen.jacobian, np.where(seen.kinks, np.inf, allowed)


def _kinks_met(lin: Linearization) -> Array:
    """Count the units at a kink that each input may move."""
    net, x = lin.trace.network, lin.trace.activation(0)
    at_kink = [np.zeros(width, bool) for width in net.widths]
    for l, _, distance in lin.trace.kink_distances():
        at_kink[l] |= distance == 0
    moves, count = [np.eye(len(x), dtype=bool)], np.zeros(len(x), int)
    for l, sources in enumerate(net.sources, start=1):
        maps = zip(lin.input_maps(l), sources, strict=True)
        dz = np.any([_reached(A, moves[source]) for A, source in maps], axis=0)
        layer = net.layers[l - 1]
        if layer.kinked:  # not the entry alone that was chosen, but those that tie with it
            dz |= layer.may_move(*(moves[source].T for source in sources)).T & at_kink[l][:, None]
        count += (dz & at_kink[l][:, None]).sum(axis=0)
        moves.append(_reached(lin.activation_map(l), dz) | (dz & at_kink[l][:, None]))
    return count


def _reached(A: LinearMap, moves: Array) -> Array:
    """Return what a map may move if something else moves."""
    reached: Array = _magnitude(A) @ moves.astype(A.dtype) > 0
    return reached


def scale_of_steps(lin: Linearization) -> Array:
    """Return how far each input may move before the network bends.

    No preactivation moves by more than 1, the scale of every activation, and none over a kink (at a
    kink both sides are looked at); a layer that is not linear has the scale of its own value.
    """
    net, x = lin.trace.network, lin.trace.activation(0)
    near = [np.full(width, np.inf) for width in net.widths]
    for l, _, distance in lin.trace.kink_distances():
        near[l] = np.minimum(near[l], np.where(distance == 0, np.inf, distance))
    moved = [np.eye(len(x))]  # da^l/dx
    fastest = 1 / np.maximum(1, np.abs(x))
    for l, (layer, sources) in enumerate(zip(net.layers, net.sources, strict=True), start=1):
        maps = zip(lin.input_maps(l), sources, strict=True)
        dz = sum(A @ moved[source] for A, source in maps)
        D = lin.activation_map(l)
        moved.append(D @ dz)
        speeds = [0 * x, *(np.abs(dz) / near[l][:, None])]
        if not isinstance(D, Identity):
            speeds += [*np.abs(dz)]
        if layer.formed:
            speeds += [*np.abs(dz) / max(1e-300, np.abs(lin.trace.preactivations[l - 1]).max())]
        if layer.kinked:  # one entry of a window overtakes another
            speeds += [2 * np.abs(moved[source]).max(axis=0) / near[l].min() for source in sources]
        fastest = np.fmax(fastest, np.fmax.reduce(speeds))
    return 1 / np.minimum(fastest, 1 / np.finfo(x.dtype).tiny)


def _error_of_values(lin: Linearization) -> Array:
    """Estimate the rounding error of ``H(x)``, with what cancels on the way or underflows."""
    net, kind = lin.trace.network, np.finfo(lin.trace.network.dtype)
    eps, smallest = float(kind.eps), float(kind.smallest_subnormal)
    errors = [np.zeros(net.widths[0])]
    for l, sources in enumerate(net.sources, start=1):
        size, error = np.abs(lin.trace.preactivations[l - 1]), np.zeros(net.widths[l])
        for source, A in zip(sources, lin.input_maps(l), strict=True):
            M = _magnitude(A)
            size = size + 2 * (M @ np.abs(lin.trace.activations[source]))
            error = error + M @ errors[source]
        terms = 1 + sum(net.widths[source] for source in sources)
        error = _magnitude(lin.activation_map(l)) @ (error + eps * size + terms * smallest)
        errors.append(error + eps * np.abs(lin.trace.activations[l]) + smallest)
    return np.where(np.isfinite(errors[-1]), errors[-1], 0.0)


def _magnitude(A: LinearMap) -> LinearMap:
    """Return the map of absolute values, written out for a map that does not know it."""
    return A.magnitude() or Matrix(np.abs(A.to_dense()))
