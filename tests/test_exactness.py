"""Exact networks against dual numbers over fractions, which share no code with the library."""

from fractions import Fraction

import numpy as np
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from oracles import Dual, as_fractions, dual, exact_forward, exact_input_jacobian

import jacobians as jb
from jacobians import strategies as jst

_activations = st.sampled_from(["identity", "relu", "square"])


@st.composite
def squaring_networks(draw):
    """Networks of at most two layers with square activations too: all numbers stay below 2^53."""
    net = draw(jst.exact_networks(max_depth=2, max_width=4))
    layers = [jb.Dense(layer.W, layer.b, draw(_activations)) for layer in net.layers]
    return jb.Network(layers)


@given(st.data())
def test_values_and_jacobians_equal_the_dual_numbers(data):
    net = data.draw(jst.exact_networks() | squaring_networks())
    x = data.draw(jst.whole_points(net))
    exact = exact_input_jacobian(net, x)
    J = jb.jacobian(net, x)
    assert [[Fraction(entry) for entry in row] for row in J.tolist()] == exact
    value = exact_forward(as_fractions(net), [Fraction(int(v)) for v in x])
    assert [Fraction(v) for v in net(x).tolist()] == [v.value for v in value]


@given(st.data())
def test_weight_gradients_equal_the_dual_numbers(data):
    """Half squared error: dC/dW[i, j] by one dual run per weight, == backprop == explicit."""
    net = data.draw(jst.exact_networks(max_depth=2, max_width=3) | squaring_networks())
    x = data.draw(jst.whole_points(net, 2))
    y = np.arange(1.0, net.widths[-1] + 1)
    g = jb.backprop.gradients(net, x, y, jb.SquaredError())
    for l in range(net.depth):
        assert [[Fraction(v) for v in row] for row in g.weights[l].tolist()] == (
            weight_gradient(net, x, y, l)
        )
    again = jb.explicit.gradients(net, x, y, jb.SquaredError())
    assert_equal(g.vector, again.vector)
    assert g.loss == again.loss


def weight_gradient(net, x, y, l):
    layers, (rows, columns) = as_fractions(net), net.layers[l].W.shape
    return [[_slope(layers, x, y, l, i, j) for j in range(columns)] for i in range(rows)]


def _slope(layers, x, y, l, i, j):
    W, b, name, parameters = layers[l]
    seeded = [
        [Dual(w, Fraction((r, c) == (i, j))) for c, w in enumerate(row)] for r, row in enumerate(W)
    ]
    layers = [*layers[:l], (seeded, b, name, parameters), *layers[l + 1 :]]
    output = exact_forward(layers, [Fraction(int(v)) for v in x])
    residuals = [a - Fraction(int(t)) for a, t in zip(output, y, strict=True)]
    loss = sum((r * r for r in residuals), start=dual(0))
    return loss.slope / 2


@given(st.data())
def test_linear_networks_equal_exact_central_differences(data):
    """Half squared error of a linear network is quadratic in x: a central step of 1 is exact."""
    net = data.draw(jst.exact_networks(max_depth=3, max_width=4))
    net = jb.Network([jb.Dense(layer.W, layer.b) for layer in net.layers])
    x = data.draw(jst.whole_points(net))
    y = np.zeros(net.widths[-1])
    g = jb.backprop.gradients(net, x, y, jb.SquaredError())
    for j in range(len(x)):
        e = np.eye(len(x))[j]
        up, down = (0.5 * (net(p) ** 2).sum() for p in (x + e, x - e))
        assert (up - down) / 2 == g.inputs[j]


@given(st.data())
def test_permuting_hidden_units_changes_nothing(data):
    net = data.draw(jst.exact_networks(max_depth=2))
    if net.depth < 2:
        return
    x = data.draw(jst.whole_points(net))
    order = np.array(data.draw(st.permutations(range(net.widths[1]))))
    first, second = net.layers
    permuted = jb.Network(
        [
            jb.Dense(first.W[order], first.b[order], first.activation),
            jb.Dense(second.W[:, order], second.b, second.activation),
        ]
    )
    assert_equal(jb.jacobian(permuted, x), jb.jacobian(net, x))


@given(st.data(), st.integers(-8, 8))
def test_scaling_a_linear_layer_by_a_power_of_two_scales_the_jacobian(data, k):
    net = data.draw(jst.exact_networks())
    x = data.draw(jst.whole_points(net))
    last = net.layers[-1]
    plain = jb.Network([*net.layers[:-1], jb.Dense(last.W, last.b)])
    scaled = jb.Network([*net.layers[:-1], jb.Dense(last.W * 2.0**k, last.b)])
    assert_equal(jb.jacobian(scaled, x), 2.0**k * jb.jacobian(plain, x))
