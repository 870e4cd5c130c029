"""Laws of the system of document 000, "Neural Networks - HW03": four identities for every layer.

Columns ``a^k = b^k + W^k h^{k-1}``, ``h^k = g(a^k)``, ``y = h^K``, any loss and a penalty
``lambda Omega``; derivatives are rows, ``D_W C`` is transposed.  Tags are those of
``paper_notes/map.md``; truth comes from dual numbers over fractions.
"""

from fractions import Fraction

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from tails import (
    LOSSES,
    Exact,
    assert_exactly,
    fewer,
    outcome,
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
        for found in (
            elementwise,
            matrix,
            hadamard(as_row(slopes), D_h),
            rows.preactivations[k - 1],
        ):
            assert_exactly(found, [exact.D_a(k)])
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
        for found in (outer, rows.weights[k - 1]):
            assert_exactly(found, transposed(exact.gradient(k)))


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
        for found in (product(D_a, W), long_way, rows.outputs[k - 1]):
            assert_exactly(found, [exact.D_h(k - 1)])
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
    sweep = rows_from_gradients(jb.backprop.gradients(net, x, y, loss, l2))
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


# --- what the document says otherwise -------------------------------------------------------------

NET_P = jb.Network([jb.Dense([[1, 1], [0, 1]], [-2, 0], "square")])
P = Exact(NET_P, [1, 2], [0, 2])
h_prev, a, h = (np.array(v, dtype=float) for v in (P.h[0], P.z[1], P.h[1]))
W, y = NET_P.layers[0].W, np.array([0.0, 2.0])
slopes, D_h, D_a = (np.array(v, dtype=float) for v in ([2, 4], P.D_h(1), P.D_a(1)))
J = np.diag(slopes)
TWO = jb.Network([jb.Dense([[1]]), jb.Dense([[2]])])
tensor = np.einsum("mi,j->mij", np.eye(2), h_prev)  # da_m/dW_ij


def through(W, g=np.square):
    """The loss of Net P as a function of its weights, with g for the activation."""
    residual = g(W @ h_prev + np.array([-2.0, 0.0])) - y
    return residual @ residual / 2


def differences(f, M):
    """dC/dW of a polynomial of degree 4 in every entry: five points are exact."""
    G = np.empty_like(M)
    for place in np.ndindex(M.shape):
        E = np.zeros_like(M)
        E[place] = 1
        G[place] = (8 * (f(M + E) - f(M - E)) - (f(M + 2 * E) - f(M - 2 * E))) / 12
    return G


G = [[2, 4], [8, 16]]
D_W = [[2, 8], [4, 16]]

# tag: (truth, as the document says, what the truth is, what the document gives)
WRONG = {
    "000-E6": (
        lambda: Exact(TWO, [1], [0]).D_h(1),
        lambda: Exact(TWO, [1], [0]).D_h(2),
        [4],
        [2],
    ),
    "000-E7": (  # without the fact y = h^k the chain of equalities fails
        lambda: Exact(TWO, [1], [0]).D_h(1),
        lambda: Exact(TWO, [1], [0]).D_h(2),
        [4],
        [2],
    ),
    "000-E8": (  # C takes parameters, the loss gives a number
        lambda: NET_P.with_parameters(NET_P.parameters)(h_prev),
        lambda: NET_P.with_parameters([float(P.cost)])(h_prev),
        [1, 4],
        "ShapeError",
    ),
    "000-E14": (lambda: product(as_row(D_h), J), lambda: D_h @ slopes, [[2, 8]], 10),
    "000-E16": (lambda: P.D_a(1)[0], lambda: sum(D_h[j] * J[:, 0] for j in range(2)), 2, [6, 0]),
    "000-E17": (lambda: P.D_a(1)[0], lambda: D_h[1] * sum(J[1, i] for i in range(2)), 2, 8),
    "000-E18": (lambda: J[:, 0], lambda: np.zeros(2), [2, 0], [0, 0]),
    "000-E19": (lambda: P.D_a(1), lambda: [D_h[1] * np.trace(J)] * 2, [2, 8], [12, 12]),
    "000-E20": (lambda: J[0, 0], lambda: h[0], 2, 1),
    "000-E21": (  # g(a) = (a_1, a_1 + a_2) is not per entry and shows the layout
        lambda: D_h @ np.array([[1, 0], [1, 1]]),
        lambda: D_h @ np.array([[1, 0], [1, 1]]).T,
        [3, 2],
        [1, 3],
    ),
    "000-E23": (
        lambda: hadamard(as_row(D_h), as_row(slopes)),
        lambda: as_row(D_h) * J,
        [[2, 8]],
        [[2, 0], [0, 8]],
    ),
    "000-E24": (lambda: np.diag(J), lambda: h, [2, 4], [1, 4]),
    "000-E25": (lambda: P.D_a(1)[0], lambda: slopes @ D_h, 2, 10),
    "000-E26": (lambda: P.D_a(1)[0], lambda: D_h * slopes, 2, [2, 8]),
    "000-E29": (
        lambda: transposed(P.gradient(1)),
        lambda: P.gradient(1),
        D_W,
        G,
    ),
    "000-E33": (lambda: as_row(a).T.shape, lambda: as_row(a).shape, [2, 1], [1, 2]),
    "000-E34": (
        lambda: W @ h_prev + NET_P.layers[0].b,
        lambda: W.T @ h_prev + NET_P.layers[0].b,
        [1, 2],
        [-1, 3],
    ),
    "000-E35": (lambda: P.gradient(1), lambda: np.zeros((2, 2)), G, [[0, 0], [0, 0]]),
    "000-E36": (
        lambda: P.gradient(1),
        lambda: np.full((2, 2), D_a.sum() * h_prev.sum()),
        G,
        [[30, 30], [30, 30]],
    ),
    "000-E40": (  # the loss applied to -(W h + b), activation and all its slopes gone
        lambda: differences(through, W),
        lambda: differences(lambda M: through(M, np.negative), W),
        G,
        [[1, 2], [4, 8]],
    ),
    "000-E41": (  # D_W of a vector has three indices: no product of matrices
        lambda: np.einsum("m,mij->ij", D_h @ J, tensor),
        lambda: product(product(as_row(D_h), J), tensor),
        G,
        "ShapeError",
    ),
    "000-E42": (lambda: transposed(P.gradient(1)), lambda: D_h @ J @ h_prev, D_W, 18),
    "000-E44": (
        lambda: transposed(P.gradient(1)),
        lambda: product(product(as_row(D_h), J), as_row(h_prev).T),
        D_W,
        [[18]],
    ),
    "000-E45": (
        lambda: transposed(P.gradient(1)),
        lambda: product(hadamard(as_row(D_h), as_row(slopes)), as_row(h_prev).T),
        D_W,
        [[18]],
    ),
    "000-E47": (
        lambda: product(as_row(h_prev).T, as_row(D_a)),
        lambda: product(as_row(D_a), as_row(h_prev).T),
        D_W,
        [[18]],
    ),
    "000-E48": (
        lambda: hadamard(as_row(D_h), as_row(slopes)),
        lambda: hadamard(as_row(D_h), as_row(slopes)).sum(),
        [[2, 8]],
        10,
    ),
    "000-E49": (lambda: as_row(slopes), lambda: np.diag(h), [[2, 4]], [[1, 0], [0, 4]]),
    "000-E57": (
        lambda: product(hadamard(as_row(D_h), as_row(slopes)), W),
        lambda: hadamard(as_row(D_h), product(as_row(slopes), W)),
        [[2, 10]],
        [[2, 12]],
    ),
}


@pytest.mark.parametrize("tag", WRONG)
def test_wrong_claims_of_000_give_other_numbers(tag):
    truth, literal, shown, other = WRONG[tag]
    assert outcome(truth) == shown
    assert outcome(literal) == other
    assert shown != other


def test_wrong_orders_of_000_do_not_even_fit():
    """With n_k = 3 and n_{k-1} = 2 a row times slopes times the column h does not exist.

    000-E42, E44, E45, E47.
    """
    h, d, J = np.ones((2, 1)), np.ones((1, 3)), np.eye(3)
    with pytest.raises(jb.ShapeError):
        product(d, h)
    with pytest.raises(jb.ShapeError):
        product(product(d, J), h)
    with pytest.raises(jb.ShapeError):
        product(d, product(J, h))
    assert product(h, d).shape == (2, 3)


def test_the_trace_is_what_the_wrong_order_gives():
    """d h is the trace of h d.  000-E42, E47."""
    assert np.trace(product(as_row(h_prev).T, as_row(D_a))) == D_a @ h_prev == 18


@given(whole_vectors(3), whole_vectors(3))
def test_a_weight_derivative_is_symmetric_only_for_parallel_vectors(h, d):
    """h dᵀ = d hᵀ exactly if all 2 x 2 minors of (h, d) vanish.  000-E29."""
    outer = product(as_row(h).T, as_row(d))
    minors = [h[i] * d[j] - h[j] * d[i] for i in range(3) for j in range(3)]
    assert np.array_equal(outer, outer.T) == (not any(minors))
