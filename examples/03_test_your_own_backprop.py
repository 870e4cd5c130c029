"""How do I property-test a backprop that I wrote myself?

Hypothesis draws networks, points and targets; the library gives the gradient to compare with.
First the test of a correct implementation, then the same test catching two classic bugs.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians import strategies as jst

# Somebody's own backprop, for dense networks and half squared error at one point.


def my_gradients(net, x, y, forget_slope=False, swap_outer=False):
    """Return the weight gradients, with a bug on request."""
    a, z = [x], []
    for layer in net.layers:
        z.append(layer.W @ a[-1] + layer.b)
        a.append(layer.activation(z[-1]))
    gradients = [None] * net.depth
    delta = (a[-1] - y) * net.layers[-1].activation.derivative(z[-1])
    for l in reversed(range(net.depth)):
        gradients[l] = np.outer(a[l], delta) if swap_outer else np.outer(delta, a[l])
        if l:
            delta = net.layers[l].W.T @ delta
            if not forget_slope:
                delta = delta * net.layers[l - 1].activation.derivative(z[l - 1])
    return gradients


# The test: five lines.  Two correct programs agree but for rounding, which is far below one part in
# a billion of the largest entry on networks as small as these.


@st.composite
def problems(draw):
    net = draw(jst.networks(only_dense=True, last=jst.HIDDEN, max_depth=3, max_width=3))
    return net, draw(jst.points(net)), draw(jst.vectors(net.widths[-1]))


def make_test(implementation):
    @settings(max_examples=100, deadline=None, derandomize=True, report_multiple_bugs=False)
    @given(problems())
    def test_gradients_agree(problem):
        net, x, y = problem
        reference = jb.backprop.gradients(net, x, y, jb.SquaredError()).weights
        for mine, right in zip(implementation(net, x, y), reference, strict=True):
            assert mine.shape == right.shape
            assert np.abs(mine - right).max() <= 1e-9 * (1 + np.abs(right).max())

    return test_gradients_agree


make_test(my_gradients)()
print("a correct backprop passes 100 drawn networks")

# Two classic bugs.  Hypothesis shrinks each failure, and the last network it tries is the smallest
# one it found: a forgotten slope needs a second layer to show, a swapped outer product does not.


def smallest_failure(**bug):
    tried = []

    def wrong(net, x, y):
        tried.append(net)
        return my_gradients(net, x, y, **bug)

    try:
        make_test(wrong)()
    except AssertionError:
        return tried[-1]
    raise SystemExit("a wrong backprop went unnoticed")


for bug, layers in (("forget_slope", 2), ("swap_outer", 1)):
    net = smallest_failure(**{bug: True})
    print(f"{bug} is caught, smallest network: {net}")
    assert layers <= net.depth <= 3

# The kit does all of it in one line, and says which mistake it was.

try:
    jst.check_backprop(
        lambda net, X, Y: [
            sum(group) / len(X)
            for group in zip(
                *(my_gradients(net, x, y, forget_slope=True) for x, y in zip(X, Y, strict=True)),
                strict=True,
            )
        ],
        examples=50,
    )
except AssertionError as failure:
    told = str(failure)
print(told[told.index("Wrong:") :])
assert "slope missing" in told

# Without any reference implementation, differences alone can judge: check_jacobian needs only the
# function.  Given the Jacobian of another network, it names the worst entry.

net, other = (jb.Network.random([3, 4, 2], seed=seed) for seed in (0, 1))
x = np.array([0.5, -1.0, 2.0])
assert jb.witness.check_jacobian(net, jb.jacobian(net, x), x)
verdict = jb.witness.check_jacobian(net, jb.jacobian(other, x), x)
print(verdict)
assert not verdict
