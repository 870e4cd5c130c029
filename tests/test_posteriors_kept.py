"""What posteriors keep: rows and bases in float64, triangles of many rows, no more than fits."""

import math

import numpy as np
import pytest
from claims import assert_equal
from curvature_cases import SQUARED, every_structure
from zoo import NETWORKS, dense, points

import jacobians as jb


@pytest.mark.parametrize("structure", ["full", "last_layer"])
@pytest.mark.parametrize("count", [3, 40])
def test_rows_and_bases_of_float32_are_those_of_the_same_numbers_in_float64(structure, count):
    """Bit for bit: what the data do not see is divided by the prior alone."""
    net = dense([3, 5, 2], "tanh", dtype=np.float32)
    X = points(net, count)
    Y = net(X) + np.float32(0.5)
    twin = net.astype(np.float64)
    single, double = (jb.laplace(one, X, Y, SQUARED, structure) for one in (net, twin))
    for mine, theirs in zip(single.bases[0][1:], double.bases[0][1:], strict=True):
        assert mine.dtype == np.float64
        assert_equal(mine, theirs)
    assert_equal(single.double_covariance(X), double.double_covariance(X))
    assert_equal(single.double_covariance(X[0]), double.double_covariance(X[0]))
    assert single.variance(X).dtype == single.covariance(X).dtype == np.float32
    assert_equal(single.variance(X), double.variance(X).astype(np.float32))


@pytest.mark.parametrize("max_bytes", [1, 2**27])
@pytest.mark.parametrize("count", [2, 5, 30, 90])
def test_no_more_than_twice_as_many_rows_as_parameters_are_kept(count, max_bytes, monkeypatch):
    """26 of them, two rows a point; as many columns as rows, and no more than parameters."""
    net, seen = dense([3, 4, 2], "tanh"), []
    X = points(net, count)
    decompose = np.linalg.svd

    def watched(R, **chosen):
        seen.append(len(R))
        return decompose(R, **chosen)

    monkeypatch.setattr(np.linalg, "svd", watched)
    posterior = jb.laplace(net, X, net(X), SQUARED, max_bytes=max_bytes)
    assert seen[0] <= 2 * 26
    assert seen[0] == 2 * count or 2 * count > 2 * 26
    _, V, values = posterior.bases[0]
    assert V.shape == (26, min(2 * count, 26))
    assert values.size == V.shape[1]
    G = count * jb.curvature(net, X, net(X), SQUARED).gauss_newton.to_dense()
    # what an eigendecomposition of 26 rows may lose
    assert np.abs((V * values) @ V.T - G).max() < 1e-13 * np.abs(G).max()


@pytest.mark.parametrize("count", [2, 40])
def test_a_posterior_of_all_parameters_is_refused_where_its_basis_does_not_fit(count):
    """As many rows as there are, or as parameters, in float64: to the byte."""
    for dtype in (np.float32, np.float64):
        net = dense([3, 4, 2], "tanh", dtype=dtype)
        X = points(net, count)
        needed = min(2 * count, 26) * 26 * 8
        with jb.dense_limit(max(needed, 8 * count * 26 * 2)):  # what R itself takes
            jb.laplace(net, X, net(X), SQUARED)
        message = r"laplace: the dense form takes .*Keep less of it \(structure=\)"
        with jb.dense_limit(needed - 1), pytest.raises(jb.TooLargeError, match=message):
            jb.laplace(net, X, net(X), SQUARED)
        with jb.dense_limit(needed - 1):
            jb.laplace(net, X, net(X), SQUARED, "diagonal")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_covariances_that_do_not_fit_are_refused_to_the_byte(dtype):
    """They are computed in float64."""
    net = dense([3, 4, 5], "tanh", dtype=dtype)
    X = points(net, 6)
    posterior = jb.laplace(net, X, net(X), SQUARED, "diagonal")
    for ask, needed in ((posterior.variance, 6 * 5 * 8), (posterior.covariance, 6 * 25 * 8)):
        with jb.dense_limit(needed):
            ask(X)
        message = r"Posterior: the dense form takes .*Ask for \.variance"
        with jb.dense_limit(needed - 1), pytest.raises(jb.TooLargeError, match=message):
            ask(X)


def test_likelihoods_of_float32_are_added_up_in_float64():
    net = dense([3, 4, 2], "tanh", dtype=np.float32)
    X = points(net, 3000)
    Y = net(X) + np.float32(1.7)
    losses = SQUARED.value(net(X), Y)
    noise = 0.5
    expected = -math.fsum(losses) / noise**2 - Y.size * math.log(noise * math.sqrt(2 * math.pi))
    for max_bytes in (2**16, 2**27):
        posterior = jb.laplace(net, X, Y, SQUARED, "diagonal", noise=noise, max_bytes=max_bytes)
        # losses of a point differ by a rounding of float32 with how many points go together
        assert posterior.log_likelihood == pytest.approx(expected, rel=3e-8)


@every_structure
@pytest.mark.parametrize("name", ["norms", "shaping", "scales and elementwise layers"])
def test_values_of_every_block_are_as_many_as_its_parameters(name, structure):
    """Those of no datum among them are 0: the evidence counts every parameter once."""
    net = NETWORKS[name]
    X = points(net, 4)
    posterior = jb.laplace(net, X, net(X), SQUARED, structure)
    chosen = [A for A in net.layers if A.parameters()]
    chosen = chosen[-1:] if structure == "last_layer" else chosen
    p = sum(P.size for A in chosen for P in A.parameters().values())
    sizes = [np.size(values) for *_, values in posterior.bases.values()]
    rows = 4 * net.widths[-1]
    assert sum(sizes) == (min(p, rows) if structure in ("full", "last_layer") else p)
    assert all(np.min(values) >= 0 for *_, values in posterior.bases.values())


REFUSED = [
    ({"structure": "low rank"}, r"structure: expected one of \('full', .*got 'low rank'"),
    ({"structure": None}, r"structure: expected one of \('full', .*got None"),
    ({"structure": ["full"]}, r"structure: expected one of \('full', .*got \['full'\]"),
    ({"prior_precision": 0}, r"laplace: prior_precision: expected a"),
    ({"prior_precision": -1.0}, r"laplace: prior_precision: expected a"),
    ({"noise": 0}, r"laplace: noise: expected a positive"),
    ({"max_bytes": 0}, r"max_bytes: expected at least 1"),
]


@pytest.mark.parametrize(("chosen", "message"), REFUSED)
def test_what_no_posterior_has_is_refused(chosen, message):
    net = dense([3, 2], "tanh")
    X = points(net, 2)
    with pytest.raises(ValueError, match=message):
        jb.laplace(net, X, net(X), SQUARED, **chosen)
    with pytest.raises(ValueError, match="with_prior: expected a positive"):
        jb.laplace(net, X, net(X), SQUARED).with_prior(0)


@pytest.mark.parametrize("noise", [0.5, 2.0, 1.001])
def test_only_a_normal_target_has_a_noise(noise):
    net = dense([3, 2], "tanh", "softmax")
    X = points(net, 2)
    with pytest.raises(ValueError, match="laplace: noise: CrossEntropy has none; leave it out"):
        jb.laplace(net, X, [0, 1], jb.CrossEntropy(), noise=noise)
    assert jb.laplace(net, X, [0, 1], jb.CrossEntropy(), noise=1).noise == 1
