"""The certificate: every identity of the notes, checked at one point of one network.

All methods read the same trace, so they differ by the rounding of their products alone, and the
theorem in ``rounding`` says by how much they may.  What must hold bit for bit has bound 0.  The
last line is outside evidence: differences of the network's values, which know no derivative.

Verdicts: *exact* (bit for bit), *proved* (within the theorem's bound), *evidence* (agrees with
differences), *nothing claimed* (a product may leave the range, a map has no rule for its rounding,
the differences do not settle), *FAILS*.  A line that is not independent for some layer says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from jacobians import backprop, explicit, witness
from jacobians._checks import (
    Array,
    NotFiniteError,
    ShapeError,
    TooLargeError,
    as_flag,
    dense_limit,
)
from jacobians._evidence import differences_by_parameters, differences_of_values
from jacobians._progress import progress_of
from jacobians._tables import PointsLike
from jacobians._verdicts import Certificate, Check
from jacobians._written_out import has_own_parameters, is_independent
from jacobians.engine import jacobian_at
from jacobians.layers import Layer
from jacobians.linearization import Linearization, linearize, parameter_maps
from jacobians.losses import SquaredError
from jacobians.maps import Diagonal, Identity, LinearMap, Matrix, multiply_out
from jacobians.maps.association import forward_order, reverse_order
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.rounding import Bound, chain_bound
from jacobians.second_order.identities import HESSIAN_IDENTITIES
from jacobians.vectorization import vec

__all__ = ["Certificate", "Check", "certify"]

EXPLICIT_BYTES = 64 * 2**20  # larger explicit matrices are not written out for a certificate
LAYERS = 12  # of so many layers the derivatives by parameters are checked, evenly spaced;
STEPS = 6000  # of fewer where the chains from them to the output would have more layers in all


@np.errstate(all="ignore")  # of what leaves the range nothing is claimed
def certify(
    net: Network, x: PointsLike, *, hessian: bool = False, progress: bool | None = None
) -> Certificate:
    """Check every identity of the notes at one point.

    Parameters
    ----------
    net : Network
    x : array or data frame, shape (n_0,)
    hessian : bool
        Check those of the Hessian too.
    progress : bool, optional
        Whether to show progress on standard error; a bar on a terminal, after a second, unless
        said.

    Returns
    -------
    Certificate
        ``certificate.holds``; printed, an aligned table.

    Raises
    ------
    ShapeError, TypeError, NotFiniteError
        If ``x`` is not a point of the network.
    NotImplementedError
        With ``hessian``, if a layer has no rule for its second differential.

    >>> certificate = certify(Network.random([4, 6, 3], seed=0), [0.1, -0.2, 0.3, 0.4])
    >>> certificate.holds, len(certificate)
    (True, 15)
    """
    lin = linearize(net, x)
    if lin.trace.batch:
        raise ShapeError(f"certify: x: expected one point, but got {lin.trace.batch[0]} of them.")
    second = HESSIAN_IDENTITIES if as_flag(hessian, "certify: hessian") else ()
    checks: list[Check] = []
    left_out: list[tuple[str, str]] = []
    identities = (*_IDENTITIES, *second)
    shown = progress_of("certify", progress, len(identities), "identities")
    with dense_limit(EXPLICIT_BYTES), shown as show:
        for identity, notes, check in identities:
            try:
                pairs = check(lin)
            except TooLargeError:
                left_out.append((identity, "its explicit matrices are too large to write out"))
                pairs = []
            if pairs:
                checks.append(_compare(identity, notes, pairs, evidence=notes == "10"))
            show(1)
    count, checked = sum(bool(layer.parameters()) for layer in net.layers), _checked(net)
    if count > checked:
        left_out.append(
            ("parameters", f"of {checked} layers of {count}, evenly spaced, these are checked")
        )
    own = dict.fromkeys(str(layer) for layer in net.layers if not is_independent(layer))
    hints = () if all(check.holds for check in checks) else tuple(_hints(lin))
    return Certificate(str(net), tuple(checks), tuple(left_out), tuple(own), hints)


def _hints(lin: Linearization) -> Iterator[str]:
    """Judge the rules of users' own layers of one input by differences of their values."""
    for l, layer in enumerate(lin.trace.network.layers, start=1):
        maps, reads = lin.input_maps(l), lin.trace.entering(l)
        if len(maps) == 1 and not is_independent(layer):
            verdict = witness.check_jacobian(layer.preactivation, maps[0].to_dense(), reads[0])
            if not verdict:
                yield f"the rule of {layer}: {verdict}"
    for l, (claim, nearest, allowed) in _by_own_parameters(lin):
        if (np.abs(claim - nearest) > allowed).any():
            layer = lin.trace.network.layers[l - 1]
            yield f"the rule of {layer} for its parameters disagrees with differences of its values"


def _by_own_parameters(lin: Linearization) -> Iterator[tuple[int, Sides]]:
    """Compare the parameter rules of users' own layers with differences of their values."""
    for l, layer in enumerate(lin.trace.network.layers, start=1):
        if has_own_parameters(layer):
            # a step leaves the range, or what the layer takes, or it takes no other parameters
            with suppress(ValueError, TypeError, ArithmeticError):
                yield l, differences_by_parameters(lin, l)


Sides: TypeAlias = tuple[Any, Any, Any]  # left side, right side, bound on their difference


def _compare(identity: str, notes: str, pairs: list[Sides], evidence: bool) -> Check:
    """Compare the two sides of every pair, entry by entry, where a bound is finite."""
    differences, bounds, ratios = [0.0], [0.0], [0.0]
    claimed = False
    for left, right, bound in pairs:
        difference = np.abs(left.astype(np.float64) - right)
        bound = np.broadcast_to(bound, difference.shape)
        said = np.isfinite(bound)
        claimed = claimed or bool(said.any()) or not said.size
        difference, bound = difference[said], bound[said]
        ratio = np.where(difference == 0, 0.0, difference / bound)
        differences.append(difference.max(initial=0.0))
        bounds.append(bound.max(initial=0.0))
        ratios.append(ratio.max(initial=0.0))
    worst = [float(np.max(values)) for values in (differences, bounds, ratios)]
    return Check(identity, notes, worst[0], worst[1], worst[2], claimed, evidence)


# --- the identities: each gives its two sides and the bound between them --------------------------


def _with_parameters(lin: Linearization) -> list[tuple[int, Layer]]:
    """Return the layers that have parameters, or some of them, evenly spaced."""
    layers = enumerate(lin.trace.network.layers, start=1)
    every = [(l, layer) for l, layer in layers if layer.parameters()]
    chosen = np.linspace(0, len(every) - 1, min(len(every), _checked(lin.trace.network)))
    return [every[i] for i in chosen.round().astype(int)]


def _checked(net: Network) -> int:
    """Return of how many layers the parameters are checked: the work stays linear in the depth."""
    return max(2, min(LAYERS, STEPS // net.depth))


def _weights(lin: Linearization) -> list[tuple[int, Array]]:
    """Return the matrices W of the layers that are nothing but ``W a + b`` on a vector."""
    widths, sources = lin.trace.network.widths, lin.trace.network.sources
    return [
        (l, layer.parameters()["W"])
        for l, layer in _with_parameters(lin)
        if is_independent(layer)
        and "W" in layer.parameters()
        and layer.parameters()["W"].shape == (widths[l], widths[sources[l - 1][0]])
    ]


def _bound(lin: Linearization, factors: list[Any]) -> Bound:
    return chain_bound(factors, lin.trace.network.dtype)


def _formed(lin: Linearization) -> int:
    """Count the roundings by which two ways of writing the layers' matrices down may differ."""
    return sum(layer.formed for layer in lin.trace.network.layers)


def _chain(lin: Linearization) -> tuple[Array, Array]:
    """Return the chain as ``explicit`` multiplies it out, and the bound on any other way."""
    key = ("chain", 0)
    if key not in lin._cache:  # eight identities need them
        bound = _bound(lin, list(lin.factors)).pair(_formed(lin))
        lin._cache[key] = explicit.input_jacobian(lin.trace), bound
    J, bound = lin._cache[key]
    return J, bound


def _diagonal_scaling(lin: Linearization) -> list[Sides]:
    pairs: list[Sides] = []
    for l, W in _weights(lin):
        slopes = lin.activation_map(l)
        if isinstance(slopes, (Diagonal, Identity)):
            D = explicit.activation_jacobian(lin.trace, l)
            pairs.append((D @ W, slopes.diagonal()[:, None] * W, 0.0))
    return pairs


def _weight_derivative(lin: Linearization) -> list[Sides]:
    pairs: list[Sides] = []
    for l, W in _weights(lin):
        a = lin.trace.entering(l)[0]
        through_vec = explicit.preactivation_weight_jacobian(lin.trace, l) @ vec(W)
        bound = _bound(lin, [Matrix(W), Matrix(a[:, None])]).pair()[:, 0]
        pairs.append((through_vec, W @ a, bound))
    return pairs


def _mixed_product(lin: Linearization) -> list[Sides]:
    pairs: list[Sides] = []
    for l, _ in _weights(lin):
        a, D = lin.trace.entering(l)[0], explicit.activation_jacobian(lin.trace, l)
        left = D @ explicit.preactivation_weight_jacobian(lin.trace, l)
        pairs.append((left, np.kron(a[None, :], D), 0.0))
    return pairs


def _to_parameter(lin: Linearization, l: int, name: str) -> list[LinearMap]:
    """Return the factors of ``dH/dvec(theta)``."""
    net = lin.trace.network
    maps = parameter_maps(net.layers[l - 1], *lin.trace.entering(l))
    return [*lin.between(net.depth, l), lin.activation_map(l), maps[name]]


def _weight_jacobian(lin: Linearization) -> list[Sides]:
    pairs: list[Sides] = []
    for l, layer in _with_parameters(lin):
        J = explicit.preactivation_jacobian(lin.trace, l)
        for name in layer.parameters():
            left = J @ explicit.preactivation_parameter_jacobian(lin.trace, l, name)
            right = lin.parameter_map(l, name).to_dense()
            # one product is rounded where an entry of aᵀ meets one of dH/dz
            bound = _bound(lin, _to_parameter(lin, l, name)).pair(_formed(lin) + 1)
            pairs.append((left, right, bound))
    return pairs


def _against_explicit(method: Callable[[Linearization], Array]) -> Callable[..., list[Sides]]:
    """Make the identity ``method == D^L W^L ... D^1 W^1``, the right side from ``explicit``."""

    def sides(lin: Linearization) -> list[Sides]:
        return [(method(lin), *_chain(lin))]

    return sides


def _reverse(lin: Linearization) -> Array:
    return multiply_out(lin.factors, reverse_order(len(lin.factors)))


def _forward(lin: Linearization) -> Array:
    return multiply_out(lin.factors, forward_order(len(lin.factors)))


def _halves(lin: Linearization) -> Array:
    def order(i: int, j: int) -> Any:
        return i if j - i == 1 else (order(i, (i + j) // 2), order((i + j) // 2, j))

    return multiply_out(lin.factors, order(0, len(lin.factors)))


def _cheapest(lin: Linearization) -> Array:
    return jacobian_at(lin.trace, plan(lin.trace.network, near=lin.trace.activation(0)))


def _jvp_columns(lin: Linearization) -> Array:
    n = lin.trace.network.widths[0]
    return np.stack([lin.jvp(e) for e in np.eye(n)], axis=1)


def _vjp_rows(lin: Linearization) -> Array:
    m = lin.trace.network.widths[-1]
    return np.stack([lin.vjp(e) for e in np.eye(m)])


def _backprop_rows(lin: Linearization) -> Array:
    return backprop.jacobian(lin.trace)


def _gradients(lin: Linearization) -> list[Sides]:
    """Compare the gradients of half the squared distance to 0, without a penalty."""
    net, x = lin.trace.network, lin.trace.activation(0)
    y = np.zeros(net.widths[-1], net.dtype)
    by_matrices = explicit.gradients(net, x, y, SquaredError())
    by_sweep = backprop.gradients(net, x, y, SquaredError(), kernels=False)
    seed = Matrix(SquaredError().cotangent(lin.trace.output, y)[None, :])
    formed = _formed(lin)
    pairs: list[Sides] = []
    for l, _ in _with_parameters(lin):
        to_z = [seed, *lin.between(net.depth, l), lin.activation_map(l)]
        delta = _bound(lin, to_z).pair(formed)[0]
        pairs.append((by_matrices.deltas[l - 1], by_sweep.deltas[l - 1], delta))
        for name, left in by_matrices.parameters[l - 1].items():
            bound = _bound(lin, [seed, *_to_parameter(lin, l, name)]).pair(formed + 1)[0]
            right = by_sweep.parameters[l - 1][name]
            sides = (vec(g.reshape(len(g), -1)) for g in (left, right))
            pairs.append((*sides, bound))
    inputs = _bound(lin, [seed, *lin.factors]).pair(formed)[0]
    return [*pairs, (by_matrices.inputs, by_sweep.inputs, inputs)]


def _dot_test(lin: Linearization) -> list[Sides]:
    """Compare ``<u, J v>`` with ``<Jᵀ u, v>`` for a fixed pair of random vectors."""
    rng = np.random.default_rng(0)
    m, n, dtype = lin.value.size, lin.trace.network.widths[0], lin.trace.network.dtype
    u, v = rng.standard_normal(m).astype(dtype), rng.standard_normal(n).astype(dtype)
    bound = _bound(lin, [Matrix(u[None, :]), *lin.factors, Matrix(v[:, None])]).pair()[0]
    return [(np.atleast_1d(u @ lin.jvp(v)), np.atleast_1d(lin.vjp(u) @ v), bound)]


def _differences(lin: Linearization) -> list[Sides]:
    """Compare with differences of the network's values, in float64."""
    try:
        exact = linearize(lin.trace.network.astype(np.float64), lin.trace.activation(0))
        J, nearest, allowed = differences_of_values(exact)
    except NotFiniteError:  # a step leaves the range, or a value does without float32's roundings
        J = lin.jacobian()
        return [(J, J, np.full(J.shape, np.inf))]
    bound = _bound(exact, list(exact.factors)).pair(_formed(exact))
    return [(J, nearest, allowed + bound), *(sides for _, sides in _by_own_parameters(exact))]


_IDENTITIES: tuple[tuple[str, str, Callable[[Linearization], list[Sides]]], ...] = (
    ("diag(d) W = d * W", "1", _diagonal_scaling),
    ("(aᵀ ⊗ I) vec(W) = W a", "2", _weight_derivative),
    ("D (aᵀ ⊗ I) = aᵀ ⊗ D", "3", _mixed_product),
    ("dH/dvec(W) = aᵀ ⊗ dH/dz", "4", _weight_jacobian),
    ("chain, outputs first", "5", _against_explicit(_reverse)),
    ("chain, inputs first", "5", _against_explicit(_forward)),
    ("chain, from the middle", "5", _against_explicit(_halves)),
    ("chain, cheapest order", "5", _against_explicit(_cheapest)),
    ("structured maps", "5", _against_explicit(lambda lin: lin.jacobian())),
    ("columns are JVPs", "6", _against_explicit(_jvp_columns)),
    ("rows are VJPs", "6", _against_explicit(_vjp_rows)),
    ("rows are backprop sweeps", "7", _against_explicit(_backprop_rows)),
    ("backprop = explicit gradients", "8", _gradients),
    ("<u, J v> = <Jᵀ u, v>", "9", _dot_test),
    ("differences of the values", "10", _differences),
)
