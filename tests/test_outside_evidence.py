"""Law 7: the complex step, differences and Taylor remainders, which know nothing of the library."""

import numpy as np
import pytest
from claims import assert_within
from hypothesis import given
from hypothesis import strategies as st
from oracles import is_of_textbooks, textbook
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.rounding import chain_bound

analytic = {name: net for name, net in NETWORKS.items() if is_of_textbooks(net)}


def test_most_of_the_zoo_is_analytic():
    assert len(analytic) >= 18


@pytest.mark.parametrize("net", analytic.values(), ids=analytic.keys())
def test_jacobian_is_the_complex_step_of_the_textbook_formulas(net):
    """J e_j = Im f(x + i h e_j) / h, with f written down in the tests."""
    net = net.astype(np.float64)
    for x in points(net, 3):
        lin = jb.linearize(net, x)
        step = jb.witness.complex_step(textbook(net), x)
        # Two ways to compute the same slopes differ by some ulps in every D: the textbook forms
        # lose up to a thousand where they cancel, so a thousand times the bound of the products.
        assert_within(jb.jacobian(net, x), step, 1000 * chain_bound(lin.factors, float).single())


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())
def test_differences_confirm_every_network(net):
    for x in points(net, 2):
        check = jb.witness.check_jacobian(net, jb.jacobian(net, x), x)
        assert check, check


@given(st.data())
def test_differences_confirm_piecewise_linear_networks(data):
    """Inside a linear region differences are exact but for rounding; on a kink they bracket."""
    net = data.draw(jst.networks(hidden=jst.PIECEWISE_LINEAR, last=jst.PIECEWISE_LINEAR))
    x = data.draw(jst.points(net, bound=2.0))
    trace = jb.trace(net, x)
    if trace.kinks(within=1e-6):
        return  # several kinks at once have more than two one-sided derivatives
    check = jb.witness.check_jacobian(net, jb.jacobian(net, x), x)
    assert check, check


@pytest.mark.parametrize(
    "name", ["tanh hidden", "gelu hidden", "softmax output", "deep", "mish hidden"]
)
def test_taylor_remainder_shrinks_like_the_square_of_the_step(name):
    """|f(x + h v) - f(x) - h J v| = O(h²)."""
    net = NETWORKS[name]
    x = points(net, 1)[0]
    J = jb.jacobian(net, x)
    # over the last usable steps a slope of 2 is measured to a few hundredths
    assert abs(jb.witness.taylor_slope(net, J, x) - 2) < 0.1
    assert jb.witness.taylor_slope(net, J + 0.01, x) < 1.5


@given(st.data())
def test_dot_test_confirms_jvp_against_vjp(data):
    net = data.draw(jst.networks())
    lin = jb.linearize(net, data.draw(jst.points(net)))
    shape = (net.widths[-1], net.widths[0])
    difference = jb.witness.dot_test(lin.jvp, lin.vjp, shape)
    size = np.abs(lin.jacobian()).max()
    paths = float(chain_bound(lin.factors, float).paths.max())
    # where the paths cancel, |J| says little about rounding, and the test has no other measure
    assert difference or paths > 1e3 * size


@pytest.mark.parametrize("net", analytic.values(), ids=analytic.keys())
def test_parameter_jacobian_is_the_complex_step_in_the_parameters(net):
    """dH/dtheta by a complex step in every weight and bias, in the order of Network.parameters."""
    net = net.astype(np.float64)
    x = points(net, 1)[0]
    J = jb.linearize(net, x).parameter_jacobian().to_dense()
    step = jb.witness.complex_step(textbook_of_parameters(net, x), net.parameters)
    assert_within(J, step, 1e-11 * (1 + np.abs(J).max()))  # as above: some ulps in every slope


def textbook_of_parameters(net, x):
    """The network's output as a complex function of its parameters, with formulas of its own."""

    def forward(theta):
        a, start = np.asarray(x, dtype=complex), 0
        for layer in net.layers:
            if isinstance(layer, jb.Dense):
                m, n = layer.W.shape
                W = theta[start : start + m * n].reshape(n, m).T
                b = theta[start + m * n : start + m * n + m]
                start += m * n + m
                a = W @ a + b
            elif isinstance(layer, jb.Scale):
                a = layer.scale * a + layer.shift
            a = TEXTBOOK[layer.activation.name](a)
        return a

    return forward
