"""The statistics over a data set are those of the Jacobians, whatever the pieces."""

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst


@pytest.mark.parametrize("name", ["tanh hidden", "softmax output", "float32", "bottleneck"])
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_statistics_are_those_of_the_stack(name, pieces):
    net = NETWORKS[name]
    X = points(net, 50)
    budget = pieces * jb.plan(net, 50).point_bytes
    report = jb.sensitivity(net, X, max_bytes=budget)
    J = jb.jacobian(net, X).astype(float)
    # pieces meet other matrix kernels, so slopes differ in their last bits; then 50 sums
    allowed = 200 * np.finfo(net.dtype).eps * np.abs(J).max()
    assert_within(report.mean, J.mean(axis=0), allowed)
    assert_within(report.mean_absolute, np.abs(J).mean(axis=0), allowed)
    assert_within(report.root_mean_square, np.sqrt((J**2).mean(axis=0)), allowed)
    assert_within(report.std, J.std(axis=0), 10 * allowed)
    assert report.count == 50


@given(st.data())
def test_one_point_has_no_spread(data):
    net = data.draw(jst.exact_networks())
    x = data.draw(jst.whole_points(net))
    report = jb.sensitivity(net, x[None])
    assert_equal(report.mean, jb.jacobian(net, x))
    assert_equal(report.mean_absolute, np.abs(report.mean))
    assert_equal(report.std, np.zeros_like(report.mean))


def test_a_constant_derivative_has_no_spread_however_large():
    """The deviations are summed about the mean: 1e8 leaves no trace in the standard deviation."""
    net = jb.Network([jb.Dense([[1e8, 1.0]])])
    report = jb.sensitivity(net, np.random.default_rng(0).normal(size=(1000, 2)), max_bytes=5000)
    assert_equal(report.std, [[0.0, 0.0]])


def test_names_ranks_and_plain_numbers():
    net = jb.Network([jb.Dense([[1.0, -5.0, 3.0]])], input_names=["a", "b", "c"])
    report = jb.sensitivity(net, np.ones((2, 3)), output_names=["out"])
    assert report.most_influential(0, 2) == [("b", 5.0, -5.0), ("c", 3.0, 3.0)]
    assert report.to_dict()["out"]["b"] == {
        "mean": -5.0,
        "mean_absolute": 5.0,
        "root_mean_square": 5.0,
        "std": 0.0,
    }
    assert str(report).splitlines()[2].split() == ["out", "b", "5-", "c", "3+", "a", "1+"]
    assert jb.sensitivity(net, np.ones((1, 3)), input_names=list("xyz")).input_names == (
        "x",
        "y",
        "z",
    )


@pytest.mark.parametrize(
    ("X", "names", "message"),
    [
        (np.ones((0, 3)), None, r"B > 0, but got \(0, 3\)"),
        (np.ones(3), None, r"expected points \(B, n\)"),
        (np.ones((2, 3)), ["a"], "input_names: expected 3 names, but got 1"),
    ],
)
def test_bad_data_sets_are_refused(X, names, message):
    with pytest.raises(jb.ShapeError, match=message):
        jb.sensitivity(jb.Network.random([3, 2], seed=0), X, input_names=names)
