"""Posteriors of parameters: every structure against its definition, written out densely."""

import itertools
import pickle
import tracemalloc
from dataclasses import replace
from fractions import Fraction

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
@pytest.mark.parametrize("count", [20, 450])
def test_few_rows_and_many_say_what_the_inverse_says(structure, noise, count):
    """Fewer rows than parameters or more of them, in pieces or at once: by the dense inverse."""
    net = jb.Network.random([3, 4, 6, 2], "tanh", seed=18)
    X = points(net, count)
    posterior = jb.laplace(net, X, net(X), SQUARED, structure, noise=noise, max_bytes=2**16)
    precision, chosen = dense_posterior(net, X, net(X), SQUARED, structure, 1.0, noise)
    other = points(net, 7, seed=2)
    J = jacobians_of(net, other)[:, :, chosen]
    expected = J @ np.linalg.inv(precision) @ np.swapaxes(J, 1, 2)
    # the inverse is good to eps times the condition number of the precision, 1e8 at most
    reach = max(1.0, np.linalg.cond(precision) / 1e3)
    close(net, posterior.covariance(other), expected, reach)
    small = replace(posterior, max_bytes=1)
    close(net, small.variance(other), posterior.variance(other))
    assert posterior.variance(other[0]).shape == (2,)


def exact_variance(rows, g, tau, noise):
    """``g (tau I + Rᵀ R / noise²)^-1 gᵀ`` by elimination in fractions."""
    R, p = [[Fraction(float(v)) for v in row] for row in rows], rows.shape[1]
    w, b = 1 / Fraction(noise) ** 2, [Fraction(float(v)) for v in g]
    A = [[w * sum(r[i] * r[j] for r in R) for j in range(p)] + [b[i]] for i in range(p)]
    for i in range(p):
        A[i][i] += Fraction(tau)
    for i in range(p):  # positive definite: no pivot is 0
        for k in range(i + 1, p):
            share = A[k][i] / A[i][i]
            A[k] = [a - share * above for a, above in zip(A[k], A[i], strict=True)]
    total = Fraction(0)  # of L D Lᵀ: the sum of squares over the pivots
    for i in range(p):
        total += A[i][p] ** 2 / A[i][i]
    return total


@pytest.mark.parametrize("count", [2, 9])
@pytest.mark.parametrize("size", [1e4, 1e7])
def test_variances_keep_their_digits_whatever_the_prior(count, size):
    """``lambda / tau`` from 1e14 to 1e21: by elimination in fractions, on rows that are exact."""
    rng = np.random.default_rng(4)
    X = rng.integers(-9, 10, (count, 4)) * size
    net = jb.Network([jb.Dense(rng.integers(-3, 4, (1, 4)), [0.0])])
    posterior = jb.laplace(net, X, net(X), SQUARED, prior_precision=2.0**-10, noise=0.5)
    other = np.vstack([X[:2], rng.integers(-9, 10, (2, 4)) * size])
    rows, asked = (np.hstack([A, np.ones((len(A), 1))]) for A in (X, other))
    expected = [float(exact_variance(rows, g, 2.0**-10, 0.5)) for g in asked]
    # a singular vector is off by eps times |R| over the gap of its value: for the bias, 1 in size
    assert_within(posterior.variance(other)[:, 0] / expected, np.ones(4), 1e-6)
    bars = jb.error_bars(net, other, parameters=posterior)
    assert_within(bars.std[:, 0] ** 2 / expected, np.ones(4), 1e-6)


def test_where_data_are_fitted_exactly_the_noise_is_the_variance():
    """At six points of 41 parameters each output is one target, whose variance is noise²."""
    net = jb.Network.random([3, 8, 1], "relu", seed=1)
    X = np.random.default_rng(0).normal(size=(6, 3)) * 1e4
    posterior = jb.laplace(net, X, net(X), SQUARED, prior_precision=1e-3, noise=0.1)
    # lambda is above 1e9, so tau = 1e-3 makes it smaller by less than 1e-8 of itself
    assert_within(posterior.variance(X)[:, 0], np.full(6, 0.01), 1e-8)


def test_a_posterior_of_few_rows_holds_no_matrix_of_all_parameters():
    """121,503 parameters, 30 rows of 28 MiB: p x p numbers would take 110 GiB."""
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
    assert peak < 3 * 28 * 2**20  # the rows, the basis, and a piece


def test_variances_of_certain_parameters_stay_positive():
    net = jb.Network.random([3, 20, 2], "tanh", seed=18)
    X = points(net, 20)
    posterior = jb.laplace(net, X, net(X), SQUARED, noise=1e-9)
    assert posterior.variance(X).min() > 0
    assert jb.error_bars(net, X, parameters=posterior).std.min() > 0


@every_structure
def test_a_pickle_and_an_empty_batch(structure):
    net = NETWORKS["softmax output"]
    X = points(net, 5)
    posterior = jb.laplace(net, X, [0, 1, 2, 3, 0], jb.CrossEntropy(), structure)
    copy = pickle.loads(pickle.dumps(posterior))
    assert_equal(copy.covariance(X), posterior.covariance(X))
    n, m = net.widths[0], net.widths[-1]
    assert posterior.variance(np.zeros((0, n))).shape == (0, m)
    bars = jb.error_bars(net, np.zeros((0, n)), parameters=posterior)
    assert bars.covariance.shape == (0, m, m)
    assert bars.std.shape == (0, m)
