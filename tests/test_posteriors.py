"""Posteriors of parameters: every structure against its definition, written out densely."""

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from claims import assert_equal, assert_within
from curvature_cases import (
    SQUARED,
    case,
    close,
    every_kind,
    every_structure,
    jacobians_of,
    spans,
)
from zoo import NETWORKS, points

import jacobians as jb
from jacobians.second_order import posteriors
from jacobians.second_order.grams import Gram


def dense_posterior(net, X, Y, loss, structure, tau, noise):
    """Return precision of the parameters as a dense matrix, and where it stands, by definition."""
    G = jb.curvature(net, X, Y, loss).gauss_newton
    N, every = len(X) / noise**2, spans(net)
    data = N * G.to_dense()
    if structure == "diagonal":
        data = np.diag(np.diag(data))
    if structure == "kronecker":
        for l, factors in G.kronecker().items():
            data[every[l], every[l]] = N * np.kron(factors.A, factors.G)
        for l, k in itertools.permutations(every, 2):
            data[every[l], every[k]] = 0
    chosen = list(every.values())[-1] if structure == "last_layer" else slice(None)
    data = data[chosen, chosen]
    return data + tau * np.eye(len(data)), chosen


@every_structure
@every_kind
def test_predictive_variance_is_the_diagonal_of_JSJt(net, structure):
    X, Y = case(net)
    other = points(net, 2, seed=3)
    precision, chosen = dense_posterior(net, X, Y, SQUARED, structure, 0.5, 0.8)
    S = np.linalg.inv(precision.astype(float))
    J = jacobians_of(net, other)[:, :, chosen].astype(float)
    expected = J @ S @ np.swapaxes(J, 1, 2)
    posterior = jb.laplace(net, X, Y, SQUARED, structure, prior_precision=0.5, noise=0.8)
    # S has entries up to 1/tau, and the condition of the precision multiplies the rounding
    reach = 2 * np.abs(J).sum(axis=2).max() ** 2
    close(net, posterior.variance(other), np.einsum("bmm->bm", expected), reach)
    close(net, posterior.covariance(other), expected, reach)
    close(net, posterior.variance(other[0]), np.diag(expected[0]), reach)


@every_structure
def test_error_bars_of_parameters_are_those_of_the_posterior(structure):
    net = NETWORKS["softmax output"]
    X, Y = points(net, 5), [0, 1, 2, 3, 0]
    posterior = jb.laplace(net, X, Y, jb.CrossEntropy(), structure, max_bytes=1)
    bars = jb.error_bars(net, X, parameters=posterior)
    assert_equal(bars.value, net(X))
    assert_equal(bars.covariance, np.swapaxes(bars.covariance, 1, 2))
    close(net, bars.std**2, posterior.variance(X))
    assert_equal(jb.error_bars(net, X[0], parameters=posterior).std.shape, (4,))
    # probabilities add up to 1 whatever the parameters: their covariances add up to 0
    close(net, bars.covariance.sum(axis=2), np.zeros((5, 4)), 1.0)


@every_structure
def test_log_marginal_likelihood_is_its_definition(structure, rng):
    """Written out with a determinant; under every prior, and its derivative by differences."""
    net = jb.Network.random([2, 4, 3], "tanh", "softmax", seed=14)
    X, Y, loss = rng.normal(size=(6, 2)), rng.integers(0, 3, 6), jb.CrossEntropy()
    posterior = jb.laplace(net, X, Y, loss, structure)
    for tau in (0.1, 1.0, 20.0):
        precision, chosen = dense_posterior(net, X, Y, loss, structure, tau, 1.0)
        theta, p = net.parameters[chosen], len(precision)
        logs = p * np.log(tau) - np.linalg.slogdet(precision)[1]
        fit = np.log(net(X)[np.arange(6), Y]).sum()
        expected = fit - tau * theta @ theta / 2 + logs / 2
        here = posterior.with_prior(tau)
        # a log-determinant is good to p eps times the condition number, here below 1e3
        assert here.log_marginal_likelihood() == pytest.approx(expected, rel=1e-11)
        # central differences: h² = 1e-10 times a third derivative, and rounding over h
        up, down = (
            posterior.with_prior(tau * np.exp(h)).log_marginal_likelihood() for h in (1e-5, -1e-5)
        )
        assert here.prior_gradient() == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-6)


def test_evidence_of_a_linear_model_is_the_density_of_its_targets(rng):
    """``y ~ N(0, noise² I + F Fᵀ / tau)``: exact, where the parameters are those of the optimum."""
    X, y, tau, noise = rng.normal(size=(8, 2)), rng.normal(size=8), 0.7, 0.3
    F = np.hstack([X, np.ones((8, 1))])
    theta = np.linalg.solve(F.T @ F / noise**2 + tau * np.eye(3), F.T @ y / noise**2)
    net = jb.Network([jb.Dense(theta[None, :2], theta[2:])])
    C = noise**2 * np.eye(8) + F @ F.T / tau
    expected = -(y @ np.linalg.solve(C, y) + np.linalg.slogdet(2 * np.pi * C)[1]) / 2
    posterior = jb.laplace(net, X, y[:, None], SQUARED, prior_precision=tau, noise=noise)
    # three parameters, and a condition number below 1e3, as above
    assert posterior.log_marginal_likelihood() == pytest.approx(expected, rel=1e-11)
    S = np.linalg.inv(F.T @ F / noise**2 + tau * np.eye(3))
    # a few eps times the condition number, of variances below 1
    assert_within(posterior.variance(X)[:, 0], np.einsum("ij,jk,ik->i", F, S, F), 1e-13)


@pytest.mark.parametrize("structure", ["full", "last_layer"])
@pytest.mark.parametrize("noise", [1.0, 0.01])
def test_the_dual_form_is_the_primal_one(structure, noise):
    """With fewer rows than parameters nothing of size p x p is made, and all answers agree."""
    net = jb.Network.random([3, 20, 40, 2], "tanh", seed=18)
    X = points(net, 20)
    dual = jb.laplace(net, X, net(X), SQUARED, structure, noise=noise)
    rows, Q, values = dual.dual
    assert Q.shape == (40, 40)
    bases = posteriors._bases(Gram(rows, noise**-2), structure)
    primal = replace(dual, bases=bases, dual=None)
    other = points(net, 7, seed=2)
    # a difference of numbers up to 1 / tau, whose sizes the largest eigenvalue multiplies
    reach = max(1.0, values.max() / 1e3)
    close(net, dual.variance(other), primal.variance(other), reach)
    close(net, dual.covariance(other), primal.covariance(other), reach)
    close(net, dual.with_prior(3.0).variance(other), primal.with_prior(3.0).variance(other), reach)
    for question in ("log_marginal_likelihood", "prior_gradient"):
        mine, theirs = (getattr(one, question)() for one in (dual, primal))
        assert mine == pytest.approx(theirs, rel=1e-9)  # condition numbers up to 1e6, as above
    small = replace(dual, max_bytes=1)
    close(net, small.variance(other), dual.variance(other), reach)
    assert dual.variance(other[0]).shape == (2,)


def test_the_dual_form_never_holds_a_matrix_of_all_parameters():
    """121,503 parameters, 30 rows: p x p numbers would take 110 GiB."""
    net = jb.Network.random([100, 300, 300, 3], "tanh", seed=19)
    X = points(net, 10)
    tracemalloc.start()
    try:
        posterior = jb.laplace(net, X, net(X), SQUARED, max_bytes=2**22)
        variance = posterior.variance(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert variance.shape == (10, 3)
    assert peak < 24 * 2**20


def test_variances_of_certain_parameters_stay_positive():
    """With a noise of 1e-9 the difference is lost in rounding; what is left has a bound below."""
    net = jb.Network.random([3, 20, 2], "tanh", seed=18)
    X = points(net, 20)
    posterior = jb.laplace(net, X, net(X), SQUARED, noise=1e-9)
    assert posterior.dual
    assert posterior.variance(X).min() > 0
    assert jb.error_bars(net, X, parameters=posterior).std.min() > 0
