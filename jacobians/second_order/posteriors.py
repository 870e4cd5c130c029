"""Laplace: how uncertain trained parameters are, and what that says about predictions.

About its optimum a regularised loss is a parabola, so the posterior of the parameters is normal to
second order.  With the Gauss-Newton matrix for the second derivative,

    covariance  S = (Lambda + tau I)^-1,    Lambda = sum over points of Jᵀ (d²loss/da²) J / noise²
    variance of the outputs at x:           diag(J S Jᵀ),  J = dH/dtheta at x
    log marginal likelihood:                log p(Y) - tau |theta|²/2 + (1/2) log(tau^p |S|)

``Lambda`` is taken as a whole, of the last layer alone, by its diagonal, or layer by layer as a
Kronecker product.  In each case it is diagonal in a basis ``U ⊗ V`` of every block, where the prior
adds ``tau`` to its entries: for a dense layer the variance is the sum over (j, i) of
``(Uᵀ a)_j² (J_l V)_i² / (lambda_ji + tau)``, and no derivative of all parameters is formed.

With fewer rows than parameters, ``Lambda = w Rᵀ R`` has few eigenvalues that are not 0, and ``V``
has as many columns, from ``sqrt(w) R = Q diag(sqrt(lambda)) Vᵀ``.  What of J no datum sees has the
prior's variance: with ``J' = J - J V Vᵀ``, a sum of squares in which nothing cancels,

    J S Jᵀ  =  J V diag(1 / (lambda + tau)) Vᵀ Jᵀ + J' J'ᵀ / tau.

Source: D. J. C. MacKay, Neural Computation 4 (1992); E. Daxberger et al., "Laplace redux", NeurIPS
2021, whose definitions these are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jacobians._checks import Array, as_positive, refuse_if_too_large, underflow_is_rounding
from jacobians._tables import PointsLike, as_inputs
from jacobians.losses import Loss
from jacobians.network import Network
from jacobians.second_order.grams import Gram
from jacobians.second_order.khatri_rao import KhatriRao
from jacobians.second_order.records import MAX_BYTES, curvature
from jacobians.second_order.rows import PointRows, outputs

STRUCTURES = ("full", "last_layer", "diagonal", "kronecker")
# U, V (or None) and the n m lambdas of the block of each layer; of all together as of a layer 0
Bases = dict[int, tuple[Any, Any, Array]]


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """The normal distribution of the parameters about their trained values; made by ``laplace``.

    Attributes
    ----------
    structure : str
    prior_precision : float
        ``tau``: the prior of every parameter is normal about 0 with variance ``1 / tau``.
    noise : float
        Standard deviation of the targets about the outputs, for squared errors; else 1.
    """

    network: Network
    structure: str
    prior_precision: float
    noise: float
    log_likelihood: float
    layers: tuple[int, ...]
    bases: Bases
    max_bytes: int

    @underflow_is_rounding
    def variance(self, X: PointsLike) -> Array:
        """Return the variances of the outputs, ``diag(J S Jᵀ)``, shape (m,) or (B, m).

        The noise of a target is not in it.
        """
        return self._of_points(X, KhatriRao.row_squares, 1).astype(self.network.dtype)

    @underflow_is_rounding
    def covariance(self, X: PointsLike) -> Array:
        """Return the covariances of the outputs at every point, shape (m, m) or (B, m, m)."""
        return self.double_covariance(X).astype(self.network.dtype)

    def double_covariance(self, X: PointsLike) -> Array:
        """Return the covariances in float64, whatever the network is in."""
        return self._of_points(X, _symmetric_products, 2)

    def _of_points(self, X: PointsLike, form: Any, axes: int) -> Array:
        x = as_inputs(X, self.network, "Posterior: X")
        points, m = np.atleast_2d(x), self.network.widths[-1]
        shape = (len(points),) + (m,) * axes
        refuse_if_too_large(shape, np.dtype(float), "Posterior", "Ask for .variance")
        # in float64, as the bases are: what the data do not see is divided by tau alone
        net = self.network.astype(np.float64)
        total, tau = np.zeros(shape), self.prior_precision
        rows = PointRows(net, points.astype(float), None, outputs(net), self.max_bytes, self.layers)
        for here, pieces in rows.joined() if 0 in self.bases else rows.by_layer():
            for l, K in pieces:
                *basis, values = self.bases[l]
                turned = _turned(K, *basis)
                total[here] += form(turned, 1 / (values.reshape(turned.left.shape[1], -1) + tau))
                V = basis[1]
                if l == 0 and V.shape[1] < len(V):
                    unseen = K.right - turned.right @ V.T
                    total[here] += form(KhatriRao(K.left, unseen), np.full((1, len(V)), 1 / tau))
        return total if x.ndim > 1 else total[0]

    def log_marginal_likelihood(self) -> float:
        """Return the logarithm of the evidence, by Laplace's method.

        ``log p(Y | theta) - tau |theta|²/2 + (p log tau - log det(Lambda + tau I)) / 2``
        """
        tau, values = self.prior_precision, self._values()
        logs = -np.log1p(values / tau).sum()
        return float(self.log_likelihood - tau * self._square() / 2 + logs / 2)

    def prior_gradient(self) -> float:
        """Return the derivative of the log marginal likelihood with respect to ``log tau``."""
        tau, values = self.prior_precision, self._values()
        return float((-tau * self._square() + (values / (values + tau)).sum()) / 2)

    def with_prior(self, prior_precision: float) -> Posterior:
        """Return the posterior under another prior; nothing is computed again."""
        return replace(self, prior_precision=as_positive(prior_precision, "with_prior"))

    def _values(self) -> Array:
        return np.concatenate([values.reshape(-1) for _, _, values in self.bases.values()])

    def _square(self) -> float:
        """Return ``|theta|²`` of the parameters that have a posterior."""
        of_layers = [self.network.layers[l - 1].parameters().values() for l in self.layers]
        return float(sum((p.astype(np.float64) ** 2).sum() for ps in of_layers for p in ps))

    def __repr__(self) -> str:
        return f"Posterior({self.structure}) of {self.network}"


@underflow_is_rounding
def laplace(
    net: Network,
    X: PointsLike,
    Y: Any,
    loss: Loss,
    structure: str = "full",
    prior_precision: float = 1.0,
    noise: float = 1.0,
    max_bytes: int = MAX_BYTES,
) -> Posterior:
    """Return the posterior of trained parameters, normal about them (Laplace's method).

    Parameters
    ----------
    net : Network
        Trained: the gradient of the objective is taken to be zero.
    X, Y : array, shapes (B, n) and as the loss takes targets
        The data that it was trained on; likelihoods are sums over all points.
    loss : Loss
        A negative log-likelihood.
    structure : {"full", "last_layer", "diagonal", "kronecker"}
        How much of the Gauss-Newton matrix is kept.
    prior_precision : float
        Of every parameter: the penalty is ``prior_precision/2`` times their squares.
    noise : float
        Standard deviation of the targets, for squared errors.
    max_bytes : int, optional
        Budget for what is held at a time, beside the posterior itself.

    Returns
    -------
    Posterior

    Raises
    ------
    ValueError
        For another structure, or a precision or noise that is not positive.
    TooLargeError
        If the posterior of this structure does not fit.

    >>> import jacobians as jb
    >>> net, x = jb.Network([jb.Dense([[2.0]], [0.0])]), np.array([[-1.0], [1.0]])
    >>> posterior = laplace(net, x, 2 * x, jb.SquaredError(), prior_precision=2.0)
    >>> posterior.variance([3.0])     # of w x + b, with the precision 2 + 2 for each
    array([2.5])
    """
    if not isinstance(structure, str) or structure not in STRUCTURES:
        raise ValueError(f"laplace: structure: expected one of {STRUCTURES}, got {structure!r}.")
    tau, noise = (
        as_positive(number, f"laplace: {name}")
        for number, name in ((prior_precision, "prior_precision"), (noise, "noise"))
    )
    c = curvature(net, X, Y, loss, max_bytes)
    if noise != 1 and not loss.gaussian:
        raise ValueError(f"laplace: noise: {loss} has none; leave it out.")
    layers = tuple(l for l, layer in enumerate(net.layers, start=1) if layer.parameters())
    layers = layers[-1:] if structure == "last_layer" else layers
    rows = replace(c.gauss_newton.rows, layers=layers)
    return Posterior(
        net,
        structure,
        tau,
        noise,
        _log_likelihood(rows, loss, noise),
        layers,
        _bases(Gram(rows, noise**-2), structure),
        max_bytes,
    )


def _bases(precision: Gram, structure: str) -> Bases:
    """Return for each block the basis ``U ⊗ V`` in which the precision is diagonal, and it."""
    if structure == "kronecker":
        return {l: factors.eigen for l, factors in precision.kronecker().items()}
    if structure == "diagonal":
        entries, rows = precision.diagonal().astype(np.float64), precision.rows
        return {l: (None, None, entries[rows.span(l)]) for l in rows.blocks}
    return {0: _of_all_parameters(precision)}


def _of_all_parameters(precision: Gram) -> tuple[None, Array, Array]:
    """Return V and lambda, from the singular values of R: squares would lose the small ones.

    In float64.  Of many rows a triangle with the same ``Rᵀ R`` is kept.
    """
    rows, (count, p) = precision.rows, precision.rows.shape
    way_out = "Keep less of it (structure=)"
    refuse_if_too_large((min(count, p), p), np.dtype(float), "laplace", way_out)
    exact = replace(rows, network=rows.network.astype(np.float64))
    R = np.empty((0, p))
    for _, [(_, K)] in exact.joined():
        R = np.concatenate([R, K.to_dense()])
        if len(R) > 2 * p:
            R = np.asarray(np.linalg.qr(R, mode="r"))
    _, sizes, transposed = np.linalg.svd(R, full_matrices=False)
    return None, transposed.T, precision.weight * sizes[None] ** 2


def _turned(rows: KhatriRao, U: Array | None, V: Array | None) -> KhatriRao:
    """Return the rows in the basis ``U ⊗ V``."""
    a, D = rows.left, rows.right
    if U is not None and len(U) > a.shape[1]:  # sums over positions, which are no products
        D = U.T @ D.reshape(*D.shape[:2], len(U), -1)
        D = (D if V is None else D @ V).reshape(rows.right.shape)
        return KhatriRao(a, D)
    return KhatriRao(a if U is None else a @ U, D if V is None else D @ V)


def _symmetric_products(rows: KhatriRao, weights: Array) -> Array:
    products = rows.row_products(weights)
    return (products + np.swapaxes(products, 1, 2)) / 2


def _log_likelihood(rows: PointRows, loss: Loss, noise: float) -> float:
    fused, total = loss.fused(rows.network.layers[-1].activation), 0.0
    for points, sweeps, _ in rows.pieces(1):
        trace, Y = sweeps.lin.trace, rows.Y[points]
        z, a = trace.preactivations[-1], trace.output
        total += float((fused.value(z, Y) if fused else loss.value(a, Y)).sum(dtype=np.float64))
    normaliser = np.log(noise * np.sqrt(2 * np.pi)) * rows.Y.size if loss.gaussian else 0.0
    return float(-total / noise**2 - normaliser)
