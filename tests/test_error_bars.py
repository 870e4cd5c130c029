"""The delta method: J S Jᵀ, against exact propagation and random draws."""

from statistics import NormalDist

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians import strategies as jst


def test_a_linear_network_is_exact():
    """Cov(A x + b) = A S Aᵀ, in whole numbers bit for bit."""
    A, L = whole(2, 3), whole(3, 3)
    net, S = jb.Network([jb.Dense(A, whole(2))]), L @ L.T
    bars = jb.error_bars(net, whole(3), covariance=S)
    assert_equal(bars.covariance, A @ S @ A.T)
    assert_equal(bars.std, np.sqrt(np.diag(A @ S @ A.T)))


@given(st.data())
def test_pieces_and_ways_to_say_it_do_not_matter(data):
    """Standard deviations are a diagonal covariance; one point is a batch of one."""
    net = data.draw(jst.exact_networks(max_depth=2))
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(3)])
    std = data.draw(st.lists(st.integers(0, 3), min_size=len(X[0]), max_size=len(X[0])))
    by_std = jb.error_bars(net, X, std=std)
    by_covariance = jb.error_bars(net, X, covariance=np.diag(np.square(std)))
    each = [jb.error_bars(net, x, std=std) for x in X]
    per_point = jb.error_bars(net, X, std=np.tile(std, (3, 1)))
    small = jb.error_bars(net, X, std=std, max_bytes=2 * jb.plan(net).point_bytes)
    for other in (by_covariance, per_point, small):
        assert_equal(other.covariance, by_std.covariance)
        assert_equal(other.value, net(X))
    assert_equal(np.stack([bars.covariance for bars in each]), by_std.covariance)
    assert_equal(by_std.covariance, np.swapaxes(by_std.covariance, 1, 2))


@pytest.mark.parametrize("name", ["softmax output", "scales and elementwise layers", "deep"])
def test_small_scatter_agrees_with_random_draws(name, rng):
    """Of a smooth network at scatter 1e-4, against the covariance of 40,000 draws.

    A sample variance of N draws has relative error sqrt(2/N) = 0.7 %; five of those are allowed,
    relative to the standard deviations of the two outputs.  What the tangent leaves out is below:
    a relative 1e-4 or so.
    """
    net, x = NETWORKS[name], points(NETWORKS[name], 1)[0]
    n = len(x)
    L = np.tril(rng.normal(size=(n, n))) * 1e-4
    bars = jb.error_bars(net, x, covariance=L @ L.T)
    drawn = np.cov(net(x + rng.standard_normal((40_000, n)) @ L.T).T)
    assert_within(drawn, bars.covariance, 5 * np.sqrt(2 / 40_000) * np.outer(bars.std, bars.std))


def test_intervals_are_those_of_the_normal_distribution():
    net = jb.Network([jb.Dense([[2.0]])])
    bars = jb.error_bars(net, [1.0], std=[0.5])
    low, high = bars.interval(0.9)
    z = NormalDist().inv_cdf(0.95)
    assert_equal((low, high), ([2.0 - z], [2.0 + z]))


def test_float32_stays_float32():
    net = jb.Network.random([3, 4, 2], seed=0, dtype=np.float32)
    bars = jb.error_bars(net, np.zeros((5, 3)), std=[1, 2, 3])
    assert bars.value.dtype == bars.covariance.dtype == bars.std.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "expected either std or covariance"),
        ({"std": [1, 1], "covariance": np.eye(2)}, ValueError, "expected either"),
        ({"std": [1, 1, 1]}, jb.ShapeError, r"std: expected shape \(2,\) or \(4, 2\)"),
        ({"std": [1, -1]}, ValueError, "at least 0"),
        ({"covariance": [[1, 2], [3, 4]]}, ValueError, "not symmetric"),
        ({"covariance": [[1, 2], [2, 1]]}, ValueError, "negative eigenvalue, -1"),
        ({"covariance": [[1e20, 0], [0, -1]]}, ValueError, "negative eigenvalue"),
        ({"covariance": [[1, 1e-9], [0, 1]]}, ValueError, "not symmetric"),
        ({"covariance": [[1e300, 1], [0, 1e-300]]}, ValueError, "not symmetric"),
        ({"covariance": [[1, 1e-20], [1e-20, 0]]}, ValueError, "negative eigenvalue"),
        ({"covariance": [[1e-300, 1e300], [1e300, 1e-300]]}, ValueError, "negative eigenvalue"),
        ({"covariance": [[0, 1e300], [1e300, 0]]}, ValueError, "negative eigenvalue"),
        ({"covariance": np.eye(3)}, jb.ShapeError, r"expected shape \(2, 2\) or \(4, 2, 2\)"),
    ],
)
def test_what_is_no_covariance_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        jb.error_bars(jb.Network.random([2, 3], seed=0), np.zeros((4, 2)), **given)


def correlated(rng, sizes, rank):
    """Return whole numbers L of some rank, and ``D L Lᵀ D`` with the powers of two D."""
    L = rng.integers(-3, 4, (len(sizes), rank)).astype(float)
    return L, np.ldexp(L @ L.T, sizes[:, None] + sizes)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([np.float32, np.float64]))
def test_a_covariance_is_one_on_every_scale(seed, rank, dtype):
    """Of any rank and units it passes; with one correlation beyond 1, or one side changed, not."""
    rng, most = np.random.default_rng(seed), 60 if dtype is np.float32 else 500
    L, S = correlated(rng, rng.integers(-most, most, 4), rank)
    net = jb.Network([jb.Dense(np.zeros((1, 4), dtype))])
    assert_equal(jb.error_bars(net, np.zeros(4), covariance=S).std, [0])
    ends = np.flatnonzero(np.abs(L).sum(axis=1))
    if len(ends) > 1:
        i, j = ends[:2]
        more = 1.01 * np.sqrt(S[i, i]) * np.sqrt(S[j, j])
        for value, message in ((more, "negative eigenvalue"), (0.99 * more, "not symmetric")):
            wrong = S.copy()
            wrong[i, j] = value
            wrong[j, i] = value if message.startswith("neg") else value * 0.9
            with pytest.raises(ValueError, match=message):
                jb.error_bars(net, np.zeros((2, 4)), covariance=np.stack([S, wrong]))


@given(st.integers(0, 2**32 - 1))
def test_outputs_and_inputs_of_all_sizes_have_their_own_deviation(seed):
    """``J S Jᵀ`` with whole J and L, rows and columns scaled by powers of two: exact."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(-400, 400, 3), rng.integers(-400, 400, 4)
    L, S = correlated(rng, columns, 4)
    A = rng.integers(-3, 4, (3, 4))
    net = jb.Network([jb.Dense(np.ldexp(A.astype(float), rows[:, None] - columns))])
    exact = np.sqrt(np.diag((A @ L) @ (A @ L).T))
    assert_equal(jb.error_bars(net, np.zeros(4), covariance=S).std, np.ldexp(exact, rows))
    sd = np.ldexp(1.0, columns)
    independent = np.sqrt((A**2).sum(axis=1))
    assert_equal(jb.error_bars(net, np.zeros(4), std=sd).std, np.ldexp(independent, rows))


def test_a_small_output_is_not_lost_beside_a_large_one():
    net = jb.Network([jb.Dense([[1.0], [1e-170]])])
    for options in ({"std": [1.0]}, {"covariance": [[1.0]]}):
        assert_within(jb.error_bars(net, [0.0], **options).std, [1, 1e-170], [0, 1e-185])
    # an input that does not scatter does not set the scale
    net = jb.Network([jb.Dense([[1.0, 1e-170]])])
    for options in ({"std": [0, 1.0]}, {"covariance": np.diag([0, 1.0])}):
        assert_within(jb.error_bars(net, [0.0, 0.0], **options).std, [1e-170], 1e-185)


def test_deviations_by_uncertain_parameters_are_not_lost_in_their_squares():
    """float32 outputs ``1e-25 (w x + b)`` at x = 1, whose data say nothing: 1e-25 sqrt(2 / 4)."""
    tiny = jb.Activation("tiny", lambda z: z * 1e-25, lambda z: np.full_like(z, 1e-25))
    net = jb.Network([jb.Dense(np.float32([[1]]), np.zeros(1, np.float32), tiny)])
    X = np.ones((3, 1), np.float32)
    for structure in ("full", "diagonal"):
        posterior = jb.laplace(net, X, net(X), jb.SquaredError(), structure, prior_precision=4.0)
        bars = jb.error_bars(net, X, parameters=posterior)
        assert bars.std.dtype == np.float32
        assert_within(bars.std, np.full((3, 1), 1e-25 * 0.5**0.5), 1e-31)


def test_no_points_have_no_error_bars():
    net = jb.Network.random([3, 2], seed=0)
    bars = jb.error_bars(net, np.zeros((0, 3)), std=np.ones(3))
    assert bars.covariance.shape == (0, 2, 2)
    assert "std up to 0" in repr(bars)


def test_confidence_is_checked():
    bars = jb.error_bars(jb.Network.random([2, 3], seed=0), np.zeros(2), std=[1, 1])
    with pytest.raises(ValueError, match="between 0 and 1, but got 95"):
        bars.interval(95)


def test_small_deviations_are_not_lost_in_their_squares():
    """float32 of sd 1e-25, whose square is no float32; float64 of sd 1e-200; and by covariance."""
    net = jb.Network([jb.Dense([[3.0, 4.0]])])
    single = jb.error_bars(net.astype(np.float32), np.zeros(2), std=[1e-25, 1e-25])
    assert_within(single.std, [5e-25], 5e-25 * 2.0**-22)
    assert_equal(single.covariance, [[0.0]])
    double = jb.error_bars(net, np.zeros(2), std=[1e-200, 1e-200])
    assert_within(double.std, [5e-200], 5e-200 * 2.0**-51)
    by_covariance = jb.error_bars(net, np.zeros((3, 2)), covariance=np.eye(2) * 2.0**-1040)
    assert_within(by_covariance.std, np.full((3, 1), 5 * 2.0**-520), 2.0**-570)
    odd = jb.error_bars(net, np.zeros(2), covariance=np.eye(2) * 2.0**-1041)
    assert_within(odd.std, [5 * 2.0**-520.5], 2.0**-570)


def test_gradual_underflow_is_rounding_whatever_numpy_is_told():
    net = jb.Network([jb.Dense([[1e-200, 1.0]])])
    with np.errstate(all="raise"):
        bars = jb.error_bars(net, np.zeros(2), std=[1e-120, 1e-300])
        assert_within(bars.std, [1e-300], 1e-315)


def test_a_covariance_out_of_range_is_refused():
    net = jb.Network([jb.Dense([[1e100, 1.0], [1.0, 1e100]])])
    for options in ({"std": [1e60, 1e60]}, {"covariance": 1e120 * np.eye(2)}):
        with pytest.raises(jb.NotFiniteError, match="covariance of the outputs leaves the range"):
            jb.error_bars(net, np.zeros(2), **options)
    with pytest.raises(jb.NotFiniteError, match="leaves the range of float32"):
        jb.error_bars(jb.Network([jb.Dense(np.float32([[1e25]]))]), np.zeros(1), std=[1.0])
