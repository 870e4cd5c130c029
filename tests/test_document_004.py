"""Laws of the system of document 004, the untitled notes "HW 3/1", and of the lemma it rests on.

Columns ``z^l = W^l a^{l-1} + b^l``, ``a^l = sigma(z^l)``, ``H(x) = a^L``; delta is the derivative
with respect to ``z^l``, of H or of the cost ``|y - H(x)|²/2``; ``dH/dx`` is a product of matrices.
The document counts its layers from the input as 1 and elsewhere from the input as 0.
"""

from fractions import Fraction

import numpy as np
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from tails import Exact, assert_exactly, fewer, transposed, whole_networks, whole_vectors

import jacobians as jb
from jacobians import strategies as jst
from jacobians.conventions import LayerOne, as_row, hadamard
from jacobians.maps import Matrix
from jacobians.rounding import chain_bound


@st.composite
def problems(draw, scalar=False, **options):
    net = draw(whole_networks(**options))
    if scalar:  # one output: keep the first unit of the last layer
        last = net.layers[-1]
        net = jb.Network([*net.layers[:-1], jb.Dense(last.W[:1], last.b[:1], last.activation)])
    x, y = draw(whole_vectors(net.widths[0])), draw(whole_vectors(net.widths[-1]))
    return net, x, y, Exact(net, x, y), jb.trace(net, x)


def slopes(trace, l):
    return trace.network.layers[l - 1].activation.derivative(trace.preactivation(l))


def gradients(net, x, y):
    return jb.backprop.gradients(net, x, y, jb.SquaredError())


# --- the system, in both numberings ---------------------------------------------------------------


@fewer
@given(problems())
def test_forward_pass_in_both_numberings(problem):
    """a^[1] = x, a^[l] = sigma(W^[l] a^[l-1] + b^[l]) for l = 2..L+1 are our layers 1..L.

    004-E1 to E6, E12, E28.
    """
    net, x, _, exact, trace = problem
    view = LayerOne(trace)
    widths = view.n
    assert_equal(view.a(1), x)
    for number in range(2, view.L + 1):
        l = view.ours(number)
        layer, below = net.layers[l - 1], view.a(number - 1)
        assert layer.W.shape == (widths[number], widths[number - 1])
        assert layer.b.shape == trace.preactivation(l).shape == (widths[number],)
        loop = [
            sum(layer.W[j, k] * below[k] for k in range(len(below))) + layer.b[j]
            for j in range(len(layer.b))
        ]
        assert_exactly(loop, exact.z[l])
        assert_exactly(trace.preactivation(l), exact.z[l])
        assert_exactly(trace.activation(l), exact.h[l])
    assert jb.jacobian(net, x).shape == (widths[max(widths)], widths[1])


def test_half_the_squared_error_of_one_point_is_no_mean():
    """C = |y - H|²/2: 6 for residuals (2, 2, 2), where the mean of the squares is 4.  004-E13."""
    residual = np.full(3, 2.0)
    assert jb.SquaredError().value(residual, np.zeros(3)) == 6
    assert (residual**2).mean() == 4


# --- delta ----------------------------------------------------------------------------------------


@fewer
@given(problems())
def test_delta_at_the_output_has_the_sign_of_the_error(problem):
    """delta^L = sigma'(z^L) * (a^L - y) = -sigma'(z^L) * (y - a^L).  004-E14 to E19; HH-1."""
    net, x, y, exact, trace = problem
    c = jb.SquaredError().cotangent(trace.output, y)
    assert_equal(c, -(y - trace.output))
    assert_exactly(c, exact.D_h(net.depth))
    assert_exactly(hadamard(slopes(trace, net.depth), trace.output - y), exact.D_a(net.depth))
    assert_exactly(gradients(net, x, y).deltas[-1], exact.D_a(net.depth))


@fewer
@given(problems(min_depth=2))
def test_delta_goes_back_through_the_transposed_weights(problem):
    """delta^l = sigma'(z^l) * (W^{l+1})ᵀ delta^{l+1}, delta_j = dC/da_j sigma'(z_j).

    004-E10, E17, E20 to E24; HH-2.
    """
    net, x, y, exact, trace = problem
    deltas = gradients(net, x, y).deltas
    for l in range(1, net.depth):
        pulled = net.layers[l].W.T @ deltas[l]
        assert_exactly(pulled, exact.D_h(l))
        assert_equal(deltas[l - 1], hadamard(slopes(trace, l), pulled))
        assert_exactly(deltas[l - 1], exact.D_a(l))


@fewer
@given(problems(min_depth=2))
def test_neighbouring_preactivations_are_linked_by_weights_and_slopes(problem):
    """dz^{l+1}/dz^l = W^{l+1} D^l and da^{l+1}/dz^l = D^{l+1} W^{l+1} D^l.  004-E25, E26, E29."""
    net, _, _, exact, trace = problem
    l = net.depth - 1
    D = [jb.explicit.activation_jacobian(trace, k) for k in (l, l + 1)]
    W = jb.explicit.layer_jacobian(trace, l + 1)
    assert_equal(W, net.layers[l].W)
    assert_exactly(W @ D[0], exact.last_preactivation_jacobian(l))
    assert_exactly(D[1] @ W @ D[0], exact.output_jacobian(l, at="preactivation"))


@fewer
@given(problems(scalar=True))
def test_delta_of_a_scalar_output(problem):
    """delta^L = sigma'(z^L), delta^l = sigma'(z^l) * (W^{l+1})ᵀ delta^{l+1}; of C: (a - y) delta.

    004-E7 to E10, E14, M1.
    """
    net, x, y, exact, trace = problem
    lin, of_C = jb.linearize(net, trace), gradients(net, x, y).deltas
    delta = slopes(trace, net.depth)
    for l in range(net.depth, 0, -1):
        if l < net.depth:
            delta = hadamard(slopes(trace, l), net.layers[l].W.T @ delta)
        for of_H in (as_row(delta), lin.bias_jacobian(l).to_dense(), explicit_delta(trace, l)):
            assert_exactly(of_H, exact.output_jacobian(l, at="preactivation"))
        assert_equal(of_C[l - 1], (trace.output - y) * delta)


def explicit_delta(trace, l):
    return jb.explicit.bias_jacobian(trace, l)


@fewer
@given(problems())
def test_delta_of_a_vector_output_is_a_matrix(problem):
    """dH/dz^l of shape n_L x n_l; (a - y)ᵀ times it is delta of the cost.  004-M1, M3."""
    net, x, y, exact, trace = problem
    for l, delta in enumerate(gradients(net, x, y).deltas, start=1):
        block = jb.linearize(net, trace).bias_jacobian(l).to_dense()
        assert block.shape == (net.widths[-1], net.widths[l])
        assert_exactly(block, exact.output_jacobian(l, at="preactivation"))
        assert_equal((trace.output - y) @ block, delta)


# --- gradients ------------------------------------------------------------------------------------


@fewer
@given(problems())
def test_parameter_gradients(problem):
    """dC/db^l = delta^l, dC/dW^l = delta^l (a^{l-1})ᵀ.  004-E27, E33; HH-3, 4."""
    net, x, y, exact, trace = problem
    g = gradients(net, x, y)
    for l in range(1, net.depth + 1):
        assert_exactly(g.biases[l - 1], exact.D_b(l))
        assert_equal(g.biases[l - 1], g.deltas[l - 1])
        assert_exactly(g.weights[l - 1], exact.gradient(l))
        assert_equal(g.weights[l - 1], np.outer(g.deltas[l - 1], trace.activation(l - 1)))


@fewer
@given(problems())
def test_weight_gradients_through_the_outputs(problem):
    """dC/dw_jk = sum over outputs s of dC/da_s da_s/dw_jk; dz_s/dw_jk = (s == j) a_k.

    004-E29 to E32.
    """
    net, _, y, exact, trace = problem
    for l in range(1, net.depth + 1):
        n, a = net.widths[l], trace.activation(l - 1)
        to_outputs = jb.explicit.weight_jacobian(trace, l)
        row = (trace.output - y) @ to_outputs
        assert_exactly(jb.unvec(row, (n, len(a))), exact.gradient(l))
        own = jb.explicit.preactivation_weight_jacobian(trace, l)
        for j in range(n):
            for k in range(len(a)):
                expected = np.zeros(n)
                expected[j] = a[k]  # the same for every j
                assert_equal(own[:, k * n + j], expected)


@fewer
@given(problems())
def test_the_input_gradient_of_the_cost_is_the_jacobian_transposed(problem):
    """dC/dx = (dH/dx)ᵀ (a - y).  004-M2."""
    net, x, y, exact, trace = problem
    J = jb.explicit.input_jacobian(trace)
    assert_equal(gradients(net, x, y).inputs, J.T @ (trace.output - y))
    assert_exactly(gradients(net, x, y).inputs, exact.D_h(0))


# --- the input Jacobian ---------------------------------------------------------------------------


@fewer
@given(problems())
def test_the_jacobian_is_built_layer_by_layer_and_as_one_product(problem):
    """J_0 = I, J_l = D^l W^l J_{l-1}, and J_L = (D^L W^L) ... (D^1 W^1).  004-E34 to E40."""
    net, x, _, exact, trace = problem
    lin, J = jb.linearize(net, trace), np.eye(net.widths[0])
    for l in range(1, net.depth + 1):
        D, W = np.diag(slopes(trace, l)), net.layers[l - 1].W
        assert_equal(jb.explicit.activation_jacobian(trace, l), D)
        assert_equal(jb.explicit.layer_jacobian(trace, l), W)
        J = D @ W @ J
        assert_equal(jb.explicit.input_jacobian(trace, of=l), J)
        assert_equal(lin.jacobian(of=l), J)
        assert_equal(jb.Product(lin.between(l, 0)).to_dense(), J)
    assert_exactly(J, exact.output_jacobian(0))
    for product in (lin.chain.to_dense(), lin.jacobian(), jb.jacobian(net, x)):
        assert_equal(product, J)


@fewer
@given(problems(scalar=True))
def test_the_gradient_of_a_scalar_network_is_a_column(problem):
    """grad H = (dH/dx)ᵀ = (W^1)ᵀ delta^1, of shape n_0 x 1.  004-E11, E40."""
    net, _, _, exact, trace = problem
    column = jb.explicit.input_jacobian(trace).T
    assert column.shape == (net.widths[0], 1)
    assert_exactly(column, transposed(exact.output_jacobian(0)))
    delta = jb.linearize(net, trace).bias_jacobian(1).to_dense().T
    assert_equal(column, net.layers[0].W.T @ delta)
    assert_equal(column[:, 0], jb.linearize(net, trace).vjp([1.0]))


@fewer
@given(problems())
def test_with_the_input_as_layer_one_the_product_stops_at_two(problem):
    """Numbered from 1: J_[1] = I and dH/dx = D_[L] W_[L] ... D_[2] W_[2].  004-E6, E36, E40."""
    net, _, _, exact, trace = problem
    view = LayerOne(trace)
    J = np.eye(view.n[1])
    for number in range(2, view.L + 1):
        l = view.ours(number)
        J = np.diag(slopes(trace, l)) @ net.layers[l - 1].W @ J
    assert_exactly(J, exact.output_jacobian(0))


@fewer
@given(problems(hidden=("identity",)))
def test_half_the_squared_error_is_quadratic_in_every_preactivation(problem):
    """Identity activations: moving one bias by 1 up and down gives delta exactly.  004-E27."""
    net, x, y, exact, _ = problem
    for l in range(1, net.depth + 1):
        for j in range(net.widths[l]):
            costs = []
            for step in (1.0, -1.0):
                layer = net.layers[l - 1]
                moved = jb.Dense(layer.W, layer.b + step * np.eye(len(layer.b))[j])
                out = jb.Network([*net.layers[: l - 1], moved, *net.layers[l:]])(x)
                costs.append(((out - y) ** 2).sum() / 2)
            assert Fraction((costs[0] - costs[1]) / 2) == exact.D_a(l)[j]


# --- the lemma of Higham and Higham, in floats ----------------------------------------------------


@fewer
@given(jst.networks(only_dense=True, last=jst.HIDDEN, dtypes=(np.float64, np.float32)), st.data())
def test_the_lemma_holds_within_the_bound(net, data):
    """delta^[L] = sigma' * (a - y), delta^[l] = sigma' * Wᵀ delta, dC/db = delta, dC/dw = delta aᵀ.

    004-E19, E24, E27, E33; HH-1, 2, 3, 4.
    """
    x = data.draw(jst.points(net, 2.0))
    y = data.draw(jst.vectors(net.widths[-1], net.dtype))
    trace = jb.trace(net, x)
    lin = jb.linearize(net, trace)
    # by the slopes of the trace, which the bound is about
    g = jb.backprop.gradients(net, x, y, jb.SquaredError(), kernels=False)
    c = trace.output - y
    view = LayerOne(trace)
    for number in range(view.L, 1, -1):
        l = view.ours(number)
        if l == net.depth:
            delta = slopes(trace, l) * c
        else:
            delta = slopes(trace, l) * (net.layers[l].W.T @ delta)
        factors = [Matrix(as_row(c)), *lin.between(net.depth, l), lin.between(l, l - 1)[0]]
        bound = chain_bound(factors, net.dtype)
        assert_within(as_row(g.deltas[l - 1]), as_row(delta), bound.pair())
        assert_equal(g.biases[l - 1], g.deltas[l - 1])
        a = trace.activation(l - 1)
        # one product, then the penalty of 0 times W is added
        assert_equal(g.weights[l - 1], np.outer(g.deltas[l - 1], a))


def test_the_network_of_the_paper_has_four_layers_there_and_three_here():
    """2-2-3-2: 23 parameters, W^[2], W^[3], W^[4] there.  004-E41."""
    net = jb.Network.random([2, 2, 3, 2], "sigmoid", "sigmoid", seed=0)
    assert net.parameter_count == 23
    view = LayerOne(jb.trace(net, [0.0, 0.0]))
    assert view.n == {1: 2, 2: 2, 3: 3, 4: 2}
    assert [view.W(l).shape for l in (2, 3, 4)] == [(2, 2), (3, 2), (2, 3)]
