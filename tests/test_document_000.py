"""Laws of the system of document 000, "Neural Networks - HW03": four identities for every layer.

Columns ``a^k = b^k + W^k h^{k-1}``, ``h^k = g(a^k)``, ``y = h^K``, any loss and a penalty
``lambda Omega``; derivatives are rows, ``D_W C`` is transposed.  Tags are those of
``paper_notes/map.md``; truth comes from dual numbers over fractions.
"""

from fractions import Fraction

import numpy as np
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from tails import (
    LOSSES,
    Exact,
    assert_exactly,
    fewer,
    transposed,
    whole_networks,
    whole_vectors,
)

import jacobians as jb
from jacobians import strategies as jst
from jacobians.conventions import (
    as_row,
    hadamard,
    product,
    row_derivatives,
    rows_from_gradients,
)
from jacobians.maps import Matrix
from jacobians.rounding import chain_bound


@st.composite
def problems(draw, **options):
    """A whole network, a point, a target and a loss with its exact twin."""
    net = draw(whole_networks(**options))
    x, y = draw(whole_vectors(net.widths[0])), draw(whole_vectors(net.widths[-1]))
    loss, twin = draw(st.sampled_from(LOSSES))
    return net, x, y, loss, Exact(net, x, y, twin)


def layers(net):
    return range(1, net.depth + 1)


# --- the system -----------------------------------------------------------------------------------


@fewer
@given(problems())
def test_forward_pass_is_the_double_loop(problem):
    """a^k_m = b^k_m + sum_i W^k_mi h^{k-1}_i, h^k = g(a^k), y = h^K.

    000-E4 to E6, E10, E11, E32, E34, E38, E39, E52; 003-E10, E11, E27.
    """
    net, x, _, _, exact = problem
    seen = jb.trace(net, x)
    for k in layers(net):
        W, b, h = net.layers[k - 1].W, net.layers[k - 1].b, seen.activation(k - 1)
        loop = [b[m] + sum(W[m, i] * h[i] for i in range(len(h))) for m in range(len(b))]
        columns = b + sum(h[i] * W[:, i] for i in range(len(h)))  # W = (w_1, w_2, ...)
        for a in (loop, columns, seen.preactivation(k)):
            assert_exactly(a, exact.z[k])
        assert_exactly(seen.activation(k), exact.h[k])
    assert seen.activation(net.depth) is seen.output
    assert_exactly(net(x), exact.h[-1])


@fewer
@given(problems(), st.sampled_from([0.0, 0.5, 2.0]))
def test_cost_is_loss_plus_penalty(problem, l2):
    """C = L_y(y) + lambda Omega, Omega = 1/2 sum W², and lambda = 0 leaves the loss.

    000-E2, E10.
    """
    net, x, y, loss, exact = problem
    omega = sum(Fraction(float(w)) ** 2 for layer in net.layers for w in layer.W.ravel()) / 2
    cost = exact.cost + Fraction(l2) * omega
    assert Fraction(row_derivatives(net, x, y, loss, l2).cost) == cost
    assert Fraction(jb.backprop.gradients(net, x, y, loss, l2).loss) == cost
    assert Fraction(row_derivatives(net, x, y, loss).cost) == exact.cost


# --- the four identities --------------------------------------------------------------------------


@fewer
@given(problems())
def test_derivative_at_the_last_output_is_that_of_the_loss(problem):
    """D_{h^K} C = D_y L: the cost as a function of h^K alone.  000-E1, E3, E7; 003-E1."""
    net, x, y, loss, exact = problem
    rows = row_derivatives(net, x, y, loss)
    assert rows.outputs[-1].shape == (1, net.widths[-1])
    assert_exactly(rows.outputs[-1], [exact.D_h(net.depth)])
    assert_equal(rows.outputs[-1], as_row(loss.cotangent(net(x), y)))


@fewer
@given(problems())
def test_an_activation_multiplies_by_slopes_or_by_their_diagonal(problem):
    """D_{a^k} C = D_{h^k} C * g'(a^k)ᵀ = D_{h^k} C diag(g'(a^k)), for every layer.

    000-E9, E12 to E20, E22 to E26, E43, E46, E48, E49, E56, M3; 003-E2 to E5, E7.
    """
    net, x, y, loss, exact = problem
    seen, rows = jb.trace(net, x), row_derivatives(net, x, y, loss)
    for k in layers(net):
        D_h, slopes = (
            rows.outputs[k],
            net.layers[k - 1].activation.derivative(seen.preactivation(k)),
        )
        D = jb.explicit.activation_jacobian(seen, k)
        assert_equal(D, np.diag(slopes))
        assert_equal(D, D.T)
        assert D_h.shape == as_row(slopes).shape == (1, net.widths[k])
        elementwise, matrix = hadamard(D_h, as_row(slopes)), product(D_h, D)
        for form in (
            elementwise,
            matrix,
            hadamard(as_row(slopes), D_h),
            rows.preactivations[k - 1],
        ):
            assert_exactly(form, [exact.D_a(k)])
        assert_equal(product(matrix, np.eye(net.widths[k])), matrix)


@fewer
@given(problems())
def test_the_weight_derivative_is_a_column_times_a_row(problem):
    """D_{W^k} C = h^{k-1} D_{a^k} C of shape n_{k-1} x n_k, entry (i, j) is dC/dW_ji.

    000-E27, E28, E30, E37, E40, E42, E44, E45, E47, M3; 003-E8, E14, E24.
    """
    net, x, y, loss, exact = problem
    seen, rows = jb.trace(net, x), row_derivatives(net, x, y, loss)
    for k in layers(net):
        outer = product(as_row(seen.activation(k - 1)).T, rows.preactivations[k - 1])
        assert outer.shape == (net.widths[k - 1], net.widths[k])
        for form in (outer, rows.weights[k - 1]):
            assert_exactly(form, transposed(exact.gradient(k)))


@fewer
@given(problems())
def test_the_weight_derivative_is_a_contraction_of_three_indices(problem):
    """dC/dW_ij = sum_m dC/da_m da_m/dW_ij with da_m/dW_ij = (m == i) h_j.

    000-E31, E35, E36; 003-E9.
    """
    net, x, y, loss, exact = problem
    seen, rows = jb.trace(net, x), row_derivatives(net, x, y, loss)
    for k in layers(net):
        h, n = seen.activation(k - 1), net.widths[k]
        tensor = np.zeros((n, n, len(h)))
        for i in range(n):
            tensor[i, i, :] = h
        contracted = np.einsum("m,mij->ij", rows.preactivations[k - 1][0], tensor)
        assert_exactly(contracted, exact.gradient(k))


@fewer
@given(problems())
def test_a_weight_matrix_multiplies_the_row_from_the_right(problem):
    """D_{h^{k-1}} C = D_{a^k} C W^k = D_{h^k} C diag(g'(a^k)) W^k, down to D_x C.

    000-E50, E51, E53 to E55, E57, E58, M3; 003-E25, E26, E28, E29, M2.
    """
    net, x, y, loss, exact = problem
    seen, rows = jb.trace(net, x), row_derivatives(net, x, y, loss)
    for k in layers(net):
        W, D_a = net.layers[k - 1].W, rows.preactivations[k - 1]
        D = jb.explicit.activation_jacobian(seen, k)
        assert_equal(jb.explicit.layer_jacobian(seen, k), W)
        long_way = product(product(rows.outputs[k], D), W)
        for form in (product(D_a, W), long_way, rows.outputs[k - 1]):
            assert_exactly(form, [exact.D_h(k - 1)])
    assert_equal(rows.outputs[0], as_row(jb.backprop.gradients(net, x, y, loss).inputs))


@fewer
@given(problems())
def test_the_bias_derivative_is_that_of_the_preactivation(problem):
    """D_{b^k} C = D_{a^k} C.  000-M1; 003-M1."""
    net, x, y, loss, exact = problem
    rows = row_derivatives(net, x, y, loss)
    for k in layers(net):
        assert_exactly(rows.biases[k - 1], [exact.D_b(k)])
        assert_exactly(rows.biases[k - 1], [exact.D_a(k)])


@fewer
@given(problems(), st.sampled_from([0.5, 3.0]))
def test_the_penalty_adds_to_the_weights_alone(problem, l2):
    """D_W C = h D_a C + lambda D_W Omega, with Omega = 1/2 sum W²: lambda Wᵀ.  000-E30, M2."""
    net, x, y, loss, exact = problem
    rows, free = (row_derivatives(net, x, y, loss, strength) for strength in (l2, 0.0))
    g = rows_from_gradients(jb.backprop.gradients(net, x, y, loss, l2))
    for k in layers(net):
        W = net.layers[k - 1].W
        expected = np.array(transposed(exact.gradient(k)), dtype=object) + Fraction(l2) * np.array(
            [[Fraction(float(w)) for w in row] for row in W.T], dtype=object
        )
        assert_exactly(rows.weights[k - 1], expected.tolist())
        assert_equal(g.weights[k - 1], rows.weights[k - 1])
        assert_equal(rows.biases[k - 1], free.biases[k - 1])
        assert_equal(rows.outputs[k - 1], free.outputs[k - 1])


# --- in floating point, and for every loss and activation of the library --------------------------


@fewer
@given(jst.problems(max_points=1, only_dense=True, dtypes=(np.float64, np.float32)))
def test_rows_equal_backprop_within_the_bound(problem):
    """The row road and the sweep multiply the same factors in the same order or another one.

    000-E1, E3, E9, E27, E50, E58; 003-E2.
    """
    net, X, Y, loss, l2 = problem
    x, y = (X, Y) if X.ndim == 1 else (X[0], Y[0])
    loss = type(loss)() if isinstance(loss, jb.SquaredError) else type(loss)(fuse=False)
    if net.layers[-1].activation.name == "log_softmax":
        loss = jb.SquaredError()  # cross-entropy of log-probabilities exists in its fused form only
    lin = jb.linearize(net, x)
    try:
        rows = row_derivatives(net, x, y, loss, l2)
    except jb.DomainError:  # a saturated output: D_y L does not exist
        return
    # the slopes of the trace, which the bound is about
    sweep = rows_from_gradients(jb.backprop.gradients(net, x, y, loss, l2, kernels=False))
    c = Matrix(rows.outputs[-1])
    for k in layers(net):
        factors = [c, *lin.between(net.depth, k), lin.between(k, k - 1)[0]]
        bound = chain_bound(factors, net.dtype)
        assert_within(rows.preactivations[k - 1], sweep.preactivations[k - 1], bound.pair())
        assert_within(rows.biases[k - 1], sweep.biases[k - 1], bound.pair())
        h, W = np.abs(lin.trace.activation(k - 1)).astype(float), np.abs(net.layers[k - 1].W)
        # one rounding in the outer product; the penalty and its sum round once each
        outer = h[:, None] * bound.pair(extra=3) + 2 * np.expm1(3 * bound.unit) * l2 * W.T
        assert_within(rows.weights[k - 1], sweep.weights[k - 1], outer)
        assert rows.weights[k - 1].dtype == net.dtype
    everything = chain_bound([c, *lin.factors], net.dtype).pair()
    assert_within(rows.outputs[0], sweep.outputs[0], everything)


def test_softmax_needs_its_whole_jacobian():
    """Not entry by entry: D_a C = D_h C (diag(p) - p pᵀ), and slopes alone are wrong.

    000-E18, E21, E22, M5.
    """
    z = np.log([2.0, 1.0, 1.0])  # p = (1/2, 1/4, 1/4)
    net = jb.Network([jb.Dense(np.eye(3), z, "softmax")])
    J = jb.explicit.activation_jacobian(jb.trace(net, np.zeros(3)), 1)
    exact = [[0.25, -0.125, -0.125], [-0.125, 0.1875, -0.0625], [-0.125, -0.0625, 0.1875]]
    assert_within(J, exact, 2.0**-52)  # log and exp round once or twice each
    D_h = as_row([1.0, 0.0, 0.0])
    assert_within(product(D_h, J), [[0.25, -0.125, -0.125]], 2.0**-52)
    assert_equal(hadamard(D_h, as_row(np.diag(J)))[0, 1:], [0.0, 0.0])
    rows = row_derivatives(net, np.zeros(3), np.zeros(3), jb.SquaredError())
    assert_within(rows.preactivations[0], product(rows.outputs[1], J), 2.0**-52)
    # log_softmax has J = I - 1 pᵀ, not symmetric: its rows are the outputs
    log = jb.Network([jb.Dense(np.eye(3), z, "log_softmax")])
    J = jb.explicit.activation_jacobian(jb.trace(log, np.zeros(3)), 1)
    assert_within(product(D_h, J), [[0.5, -0.25, -0.25]], 2.0**-52)
    assert_within(product(D_h, J.T), [[0.5, -0.5, -0.5]], 2.0**-52)
    rows = row_derivatives(log, np.zeros(3), np.zeros(3), jb.SquaredError())
    assert_within(rows.preactivations[0], product(rows.outputs[1], J), 2.0**-50)
