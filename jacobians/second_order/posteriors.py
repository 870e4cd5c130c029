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

With fewer rows than parameters, ``Lambda = w Rᵀ R`` has few eigenvalues that are not 0, those of
the tangent kernel ``w R Rᵀ = Q diag(lambda) Qᵀ`` (dual form), and by Woodbury's identity

    J S Jᵀ  =  (J Jᵀ - T diag(1 / (lambda + tau)) Tᵀ) / tau,      T = sqrt(w) J Rᵀ Q.

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
from jacobians.second_order.grams import Gram, Kernel
from jacobians.second_order.khatri_rao import KhatriRao
from jacobians.second_order.records import MAX_BYTES, curvature
from jacobians.second_order.rows import PointRows, outputs

STRUCTURES = ("full", "last_layer", "diagonal", "kronecker")
# U, V (or None) and lambda, (n, m), of the block of each layer; of all together as of a layer 0
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
    dual: tuple[PointRows, Array, Array] | None = None  # R, sqrt(w) Q and lambda, in float64

    @underflow_is_rounding
    def variance(self, X: PointsLike) -> Array:
        """Return the variances of the outputs, ``diag(J S Jᵀ)``, shape (m,) or (B, m).

        The noise of a target is not in it.
        """
        return self._of_points(X, KhatriRao.row_squares, 1)

    @underflow_is_rounding
    def covariance(self, X: PointsLike) -> Array:
        """Return the covariances of the outputs at every point, shape (m, m) or (B, m, m)."""
        return self._of_points(X, _symmetric_products, 2)

    def _of_points(self, X: PointsLike, form: Any, axes: int) -> Array:
        x = as_inputs(X, self.network, "Posterior: X")
        points, m = np.atleast_2d(x), self.network.widths[-1]
        shape = (len(points),) + (m,) * axes
        refuse_if_too_large(shape, self.network.dtype, "Posterior", "Ask for .variance")
        net = self.network if self.dual is None else self.dual[0].network
        total = np.zeros(shape, net.dtype)
        points = points.astype(net.dtype, copy=False)
        rows = PointRows(net, points, None, outputs(net), self.max_bytes, self.layers)
        for here, pieces in rows.joined() if 0 in self.bases else rows.by_layer():
            for l, K in pieces:
                *basis, values = self.bases[l]
                weights = 1 / (values.reshape(K.left.shape[1], -1) + self.prior_precision)
                total[here] += form(_turned(K, *basis), weights)
        if self.dual:
            variances = total if axes == 1 else np.einsum("bii->bi", total)  # a view
            share = self.prior_precision / (self.prior_precision + self.dual[2].max())
            least = variances * share  # S is at least I / (tau + the largest eigenvalue)
            total -= self._told(rows, form)
            np.maximum(variances, least, out=variances)
        total = total.astype(self.network.dtype)
        return total if x.ndim > 1 else total[0]

    def _told(self, rows: PointRows, form: Any) -> Array:
        """Return by how much the data lower what the prior alone would say."""
        assert self.dual
        R, Q, values = self.dual
        step = max(1, self.max_bytes // (2 * 8 * rows.root.rank * len(Q)))
        ones, weights = np.ones((step, 1)), 1 / (values + self.prior_precision)
        lowered = []
        for start in range(0, len(rows.X), step):
            some = replace(rows, X=rows.X[start : start + step])
            T = (Kernel(some, R).to_dense() @ Q).reshape(len(some.X), rows.root.rank, -1)
            lowered.append(form(KhatriRao(ones[: len(T)], T), weights[None]))
        total: Array = np.concatenate(lowered) / self.prior_precision
        return total

    def log_marginal_likelihood(self) -> float:
        """Return the logarithm of the evidence, by Laplace's method.

        ``log p(Y | theta) - tau |theta|²/2 + (p log tau - log det(Lambda + tau I)) / 2``
        """
        tau, values = self.prior_precision, self._values()
        logs = len(values) * np.log(tau) - np.log(values + tau).sum()
        return float(self.log_likelihood - tau * self._square() / 2 + logs / 2)

    def prior_gradient(self) -> float:
        """Return the derivative of the log marginal likelihood with respect to ``log tau``."""
        tau, values = self.prior_precision, self._values()
        return float((-tau * self._square() + (values / (values + tau)).sum()) / 2)

    def with_prior(self, prior_precision: float) -> Posterior:
        """Return the posterior under another prior; nothing is computed again."""
        return replace(self, prior_precision=as_positive(prior_precision, "with_prior"))

    def _values(self) -> Array:
        of_dual = [] if self.dual is None else [self.dual[2]]
        values = [values.reshape(-1) for _, _, values in self.bases.values()]
        return np.concatenate([*values, *of_dual])

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
    >>> net, x = jb.Network([jb.Dense([[2.0]])]), np.array([[-1.0], [1.0]])
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
    dual = structure in ("full", "last_layer") and rows.shape[0] < rows.shape[1]
    return Posterior(
        net,
        structure,
        tau,
        noise,
        _log_likelihood(rows, loss, noise),
        layers,
        _no_bases(rows) if dual else _bases(Gram(rows, noise**-2), structure),
        max_bytes,
        _dual(rows, noise) if dual else None,
    )


def _bases(precision: Gram, structure: str) -> Bases:
    """Return for each block the basis ``U ⊗ V`` in which the precision is diagonal, and it."""
    if structure == "kronecker":
        return {l: factors.eigen for l, factors in precision.kronecker().items()}
    if structure == "diagonal":
        entries, rows = precision.diagonal().astype(np.float64), precision.rows
        blocks = {l: entries[rows.span(l)].reshape(n or 1, -1) for l, n in rows.lefts.items()}
        return {l: (None, None, block) for l, block in blocks.items()}
    values, V = np.linalg.eigh(precision.to_dense().astype(np.float64))
    return {0: (None, V, np.maximum(values, 0)[None])}


def _no_bases(rows: PointRows) -> Bases:
    """Return eigenvalues 0 for every block: what the prior says without any data."""
    sizes = {l: rows.span(l) for l in rows.blocks}
    return {l: (None, None, np.zeros(span.stop - span.start)) for l, span in sizes.items()}


def _dual(rows: PointRows, noise: float) -> tuple[PointRows, Array, Array]:
    """Return R, ``Q / noise`` and the eigenvalues of ``R Rᵀ / noise²``.

    In float64, since a variance is what is left of a difference: it is good to about 1e-16 times
    the largest eigenvalue over tau.
    """
    R = replace(rows, network=rows.network.astype(np.float64), X=rows.X.astype(np.float64))
    values, Q = np.linalg.eigh(Kernel(R, R).to_dense())
    return R, Q / noise, np.maximum(values, 0) / noise**2


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
