"""The identities of the Hessian: differences say nothing at kinks, and elsewhere what is wrong."""

import numpy as np
import pytest

import jacobians as jb
from jacobians.second_order import identities


def sides(net, x):
    """Return the last identity of a network at a point: both sides and what is allowed."""
    return identities._differences(jb.linearize(net, x))[0]


def missed(net, x):
    left, right, allowed = sides(net, x)
    return bool((np.abs(left - right) > allowed).any())


SIZES = pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])


@SIZES
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("weight", [1e-3, 1.0, 1e3])
def test_at_a_kink_differences_say_nothing_whatever_the_sizes(size, sign, weight):
    """One input is small, one is not."""
    kinked = jb.Dense(weight * np.array([[1.0, -1.0], [2.0, 1.0]]), activation="relu")
    for x in ([1.0, 1.0], [1.0, 1.0 + 1e-13], [0.0, 0.0]):
        for last in ([[1.0, 3.0]], [[-1.0, -2.7]], [[0.0, 1.0]]):
            net = jb.Network([kinked, jb.Dense(last)])
            assert not missed(net, sign * size * np.array(x))
    turned = jb.Dense([[0.0, 1.0, -1.0]], activation="abs")
    assert not missed(jb.Network([turned]), sign * np.array([1e-6, size, size]))
    assert not missed(jb.Network([turned]), sign * np.array([1e6, size, size]))


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-9])
def test_a_step_of_the_differences_goes_over_no_kink(distance):
    """Jumps of the gradient that are in proportion to the steps would look like a slope of it."""
    kinked = jb.Dense([[1.0, -1.0], [2.0, 1.0]], activation="relu")
    for last in ([[1.0, 3.0]], [[1.0, 4.0]], [[4.0, 1.0]]):
        net = jb.Network([kinked, jb.Dense(last)])
        for x in ([1.0, 1.0], [1.0, 2.0], [-1.0, 1.0]):
            assert not missed(net, distance * np.array(x))


@SIZES
@pytest.mark.parametrize("factor", [0.0, 0.9, -1.0])
def test_a_wrong_second_derivative_is_told_whatever_the_sizes(size, factor, monkeypatch):
    """Where the slope is nothing and where it is not, of either sign, in one entry alone."""
    square, slope = jb.Dense(np.eye(2), activation="square"), jb.Dense(np.eye(2), activation="tanh")
    cases = [
        (jb.Network([square, jb.Dense([[size, size]])]), [0.0, 0.0]),
        (jb.Network([square, jb.Dense([[-size, -size]])]), [0.0, 0.0]),
        (jb.Network([square, jb.Dense([[-size, 0.0]])]), [0.3, 0.2]),
        (jb.Network([slope, jb.Dense([[size, size]])]), [-0.5, -0.4]),
        (jb.Network([slope, jb.Dense([[-size, -size]])]), [0.5, 0.4]),
        (jb.Network([slope, jb.Dense([[-size, 0.0]])]), [0.5, 0.4]),
        (jb.Network([slope, jb.Dense([[0.0, size]])]), [0.5, 0.4]),
    ]
    for net, x in cases:
        assert not missed(net, np.array(x))
    formula = jb.Activation.second_derivative
    wrong = lambda sigma, z: factor * formula(sigma, z)  # noqa: E731
    monkeypatch.setattr(jb.Activation, "second_derivative", wrong)
    for net, x in cases:
        if factor or np.any(x):  # where nothing is left, nothing says how large it was
            assert missed(net, np.array(x))
