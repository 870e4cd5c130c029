"""Log-odds of a classifier: values, derivatives and names, and what saturation hides."""

import itertools
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians.activations import LOG_ODDS

NET = jb.Network.random([3, 5, 4], "tanh", "softmax", seed=0).with_names(outputs=list("abcd"))
X = np.random.default_rng(0).normal(size=(6, 3))
# of another function than the library's, by the same name
HALF = jb.Activation("sigmoid", lambda z: 0.5 + 0 * z, lambda z: 0 * z)


def test_values_are_the_log_odds_of_the_probabilities():
    p = NET(X)
    assert_within(jb.log_odds(NET)(X), np.log(p / (1 - p)), 1e-13)
    margins = np.log(p[:, [0, 1, 3]] / p[:, [2]])
    for against in (2, "c"):
        assert_within(jb.log_odds(NET, against)(X), margins, 1e-13)


def test_derivatives_follow_from_those_of_the_probabilities():
    """d log p/(1-p) = dp / (p (1-p)), where that does not cancel."""
    p, J = NET(X), jb.jacobian(NET, X)
    odds = jb.jacobian(jb.log_odds(NET), X)
    assert_within(odds, J / (p * (1 - p))[:, :, None], 1e-12)
    margins = jb.jacobian(jb.log_odds(NET, "a"), X)
    ratio = J / p[:, :, None]
    assert_within(margins, (ratio - ratio[:, :1])[:, 1:], 1e-12)


@given(st.lists(st.floats(-800, 800), min_size=2, max_size=6))
def test_every_row_of_its_derivative_is_one_less_the_softmax_of_the_others(z):
    """Entries from -1 to 1, rows that sum to 0, however saturated; parts say the same."""
    z = np.array(z)
    matrix = LOG_ODDS.matrix(z)
    assert_equal(np.diag(matrix), np.ones(len(z)))
    assert (matrix[~np.eye(len(z), dtype=bool)] <= 0).all()
    assert_within(matrix.sum(axis=1), np.zeros(len(z)), 2.0**-50)
    d, U, V = LOG_ODDS.parts(z)
    assert_equal(d[:, None] * np.eye(len(z)) + U @ V.T, matrix)
    assert np.isfinite(LOG_ODDS(z)).all()


def test_a_saturated_softmax_says_nothing_and_its_log_odds_do():
    """At z = (1800, 0, -900) the probabilities are 1, 0, 0 and so are their derivatives."""
    W = np.array([[2.0], [0.0], [-1.0]])
    net = jb.Network([jb.Dense(W, activation="softmax")])
    assert_equal(jb.jacobian(net, [900.0]), np.zeros((3, 1)))
    # of the first, the others are y2 but for e^-900; of the others, y1
    assert_equal(jb.jacobian(jb.log_odds(net), [900.0]), [[2.0], [-2.0], [-3.0]])
    assert jb.log_odds(net)([900.0])[0] == float(Fraction(1800))
    record = jb.sensitivity(jb.log_odds(net), [[900.0], [901.0]])
    assert_equal(record.mean, [[2.0], [-2.0], [-3.0]])


def test_log_softmax_and_sigmoid_are_known_too():
    first, last = NET.layers
    logs = jb.Network([first, jb.Dense(last.W, last.b, "log_softmax")])
    assert_within(jb.log_odds(logs)(X), jb.log_odds(NET)(X), 1e-13)
    single = jb.Network.random([3, 1], output_activation="sigmoid", seed=0)
    p = single(X)
    assert_within(jb.log_odds(single)(X), np.log(p / (1 - p)), 1e-13)


@given(
    st.lists(st.floats(-60, 60), min_size=2, max_size=5), st.integers(0, 2**32 - 1), st.booleans()
)
def test_its_second_derivative_is_that_of_minus_log_sum_exp_of_the_others(z, seed, whole):
    """Entry by entry in mpmath with 80 digits, to a relative error: nothing cancels."""
    z = np.array(z)
    n, c = len(z), np.random.default_rng(seed).uniform(0.5, 2, len(z))
    with mpmath.workdps(80):
        e = [mpmath.exp(mpmath.mpf(float(one))) for one in z]
        exact = np.zeros((n, n, n))
        for k, i, j in itertools.product(range(n), repeat=3):
            if k in (i, j):
                continue
            total = mpmath.fsum(e[m] for m in range(n) if m != k)
            rest = total - e[i] if i == j else -e[j]
            exact[k, i, j] = -e[i] * rest / total**2
    # n + 8 + t_i + t_j roundings as for softmax, with t up to 120; a tenth of 1e-12 of each entry
    assert_within(LOG_ODDS.second_derivative(z), exact, 1e-13 * np.abs(exact) + 1e-300)
    d, U, V = LOG_ODDS.second_parts(z, c)
    size = np.diag(np.abs(d)) + np.abs(U) @ np.abs(V).T
    expected = np.tensordot(c, exact, 1)
    assert_within(np.diag(d) + U @ V.T, expected, 1e-13 * size + 1e-300)


def test_hessians_interactions_and_certificates_of_log_odds():
    """By central differences of Jacobians, good to h² = 1e-10 and eps/h = 1e-11."""
    for net in (jb.log_odds(NET), jb.log_odds(NET, "b")):
        H, h = jb.hessian(net, X), 1e-5
        steps = h * np.eye(3)
        slopes = [(jb.jacobian(net, X + e) - jb.jacobian(net, X - e)) / (2 * h) for e in steps]
        assert_within(H, np.stack(slopes, axis=-1), 1e-8)
        c = np.array([2.0, -1.0, 0.5, 3.0][: net.widths[-1]])
        along = jb.hvp(net, X, np.tile([1.0, -2.0, 0.5], (6, 1)), c)
        assert_within(along, np.einsum("k,bkij,j->bi", c, H, [1.0, -2.0, 0.5]), 1e-12)
        assert jb.certify(net, X[0], hessian=True).holds
        assert jb.interactions(net, X).points == len(X)


@pytest.mark.parametrize("against", [None, 1])
def test_a_saved_network_of_log_odds_is_the_same(tmp_path, against):
    net = jb.log_odds(NET, against)
    jb.save(net, tmp_path / "odds.npz")
    again = jb.load(tmp_path / "odds.npz")
    assert again.output_names == net.output_names
    assert again.layers[-1].activation == net.layers[-1].activation
    assert_equal(again(X), net(X))
    assert_equal(jb.hessian(pickle.loads(pickle.dumps(net)), X), jb.hessian(net, X))


@pytest.mark.parametrize("against", [None, "c"])
def test_probabilities_may_stay_beside_their_log_odds(against, tmp_path):
    """The same numbers one below the other; one network that is certified and saved."""
    both, alone = jb.log_odds(NET, against, beside=True), jb.log_odds(NET, against)
    assert both.output_names == (*NET.output_names, *alone.output_names)
    assert_equal(both(X), np.hstack([NET(X), alone(X)]))
    J = jb.jacobian(both, X)
    assert_within(J, np.hstack([jb.jacobian(NET, X), jb.jacobian(alone, X)]), 1e-14)
    assert jb.certify(both, X[0]).holds
    jb.save(both, tmp_path / "both.npz")
    assert_equal(jb.load(tmp_path / "both.npz")(X), both(X))
    single = jb.Network([jb.Dense([[1.0, 2.0]], activation="sigmoid")])
    assert jb.log_odds(single, beside=True).output_names == ("y1", "log-odds of y1")


def test_names_say_what_is_compared():
    assert jb.log_odds(NET).output_names[0] == "log-odds of a"
    assert jb.log_odds(NET, 3).output_names == tuple(f"log-odds of {k} against d" for k in "abc")
    assert jb.log_odds(NET.with_names(["u", "v", "w"])).input_names == ("u", "v", "w")


def test_a_certificate_holds_and_dtypes_stay():
    assert jb.certify(jb.log_odds(NET), X[0]).holds
    assert jb.certify(jb.log_odds(NET, 1), X[0]).holds
    single = jb.log_odds(NET.astype(np.float32))
    assert jb.jacobian(single, X).dtype == np.float32
    assert jb.log_odds(NET.astype(np.float32), 0)(X).dtype == np.float32


@pytest.mark.parametrize(
    ("net", "against", "message"),
    [
        (jb.Network.random([2, 3], seed=0), None, "gives no probabilities: expected softmax"),
        (NET, "z", "'z' is not one of a, b, c, d"),
        (NET, 4, "expected a number below 4, but got 4"),
        (jb.Network.random([2, 3], "tanh", "sigmoid", seed=0), 1, "no classes of one choice"),
        (jb.Network.random([2, 1], "tanh", "softmax", seed=0), None, "softmax of one class"),
        (jb.Network([jb.Dense([[1.0]], activation=HALF)]), None, "gives no probabilities"),
    ],
)
def test_what_has_no_log_odds_is_refused(net, against, message):
    with pytest.raises(ValueError, match=message):
        jb.log_odds(net, against)
