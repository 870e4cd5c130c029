"""Gram matrices and Kronecker factors: what does not fit is refused, what is small is rounded."""

import numpy as np
import pytest
from claims import assert_equal
from curvature_cases import SQUARED

import jacobians as jb
from jacobians.second_order.factors import KroneckerFactors


@pytest.mark.parametrize(("m", "n", "name"), [(2, 9, "A"), (9, 2, "G"), (3, 3, "A"), (5, 3, "G")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kronecker_factor_that_does_not_fit_is_refused_to_the_byte(m, n, name, dtype):
    """By its own size: ``A`` of the inputs and 1, ``G`` of the outputs."""
    net = jb.Network([jb.Dense(np.ones((m, n), dtype), np.ones(m, dtype)), jb.Gather([0])])
    needed = max(n + 1, m) ** 2 * net.dtype.itemsize
    G = jb.curvature(net, np.ones((2, n), dtype), loss=SQUARED).fisher
    with jb.dense_limit(needed):
        factors = G.kronecker()[1]
    assert factors.A.shape == (n + 1, n + 1)
    assert factors.G.shape == (m, m)
    assert factors.A.dtype == factors.G.dtype == factors.map.dtype == dtype
    message = rf"{name} of layer 1: the dense form takes .*See \.diagonal"
    with jb.dense_limit(needed - 1), pytest.raises(jb.TooLargeError, match=message):
        G.kronecker()


@pytest.mark.parametrize("damping", [1e-3, 1.0, 1e3])
def test_the_inverse_of_factors_is_exact_where_they_are_diagonal(damping):
    """Negative eigenvalues are roundings of 0; products below the range are nothing."""
    alpha, gamma = np.array([4.0, 1e-200, -1e-20]), np.array([0.25, 1e-200])
    factors = KroneckerFactors(np.diag(alpha), np.diag(gamma))
    products = np.outer(np.maximum(alpha, 0), gamma)
    products[products < 1e-300] = 0
    with np.errstate(all="raise"):
        inverse = factors.inverse(damping).to_dense()
    assert_equal(inverse, np.diag(1 / (products.reshape(-1) + damping)))


@pytest.mark.parametrize("damping", [0, -1.0, np.nan, "1", None])
def test_damping_is_a_positive_number(damping):
    factors = KroneckerFactors(np.eye(2), np.eye(3))
    with pytest.raises((ValueError, TypeError), match=r"inverse: damping(:| is) "):
        factors.inverse(damping)


SMALL = 1e-170  # its square is below the range


def test_what_is_small_in_gram_matrices_is_a_rounding_and_no_flag():
    """Values are in the range, and squares of what they are made of are not."""
    net = jb.Network([jb.Dense([[SMALL, 1], [SMALL, 2]], [0, 0], "tanh"), jb.Dense(np.eye(2))])
    X = np.array([[1.0, SMALL], [-1.0, 3 * SMALL], [2.0, SMALL]])
    Y = net(X) / 2
    c = jb.curvature(net, X, Y, SQUARED)
    kernels = c.ntk(), c.ntk(X[:1])
    with np.errstate(all="raise"):
        for G in (c.gauss_newton, c.empirical_fisher):
            assert np.isfinite(G.diagonal()).all()
            assert all(np.isfinite(factors.G).all() for factors in G.kronecker().values())
        assert_equal(c.gradient_squares(), np.zeros(3))
        assert c.gradients().shape == (3, 10)
        for kernel in kernels:
            assert np.isfinite(kernel.diagonal()).all()
        for structure in ("full", "last_layer", "diagonal", "kronecker"):
            posterior = jb.laplace(net, X, Y, SQUARED, structure)
            assert np.isfinite(posterior.variance(X)).all()
            assert np.isfinite(posterior.covariance(X)).all()
