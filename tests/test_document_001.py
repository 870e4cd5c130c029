"""Laws of the system of document 001, "594 HW3": rows, a data set, errors as sums over paths.

``z^l = a^{l-1} w^l + b^l`` with ``w`` source-by-target, ``a^l = f(z^l)``, ``a^0 = x``; the cost is
``1/(2N) sum |a^L - y|²`` over a data set and ``Delta^l = dC/dz^l`` belongs to one point.
"""

from fractions import Fraction
from itertools import product as all_tuples

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import EXACT_ACTIVATIONS, Dual
from tails import Exact, assert_exactly, fewer, transposed, whole_networks, whole_vectors

import jacobians as jb
from jacobians import strategies as jst
from jacobians.conventions import as_row, from_row_form, product, to_row_form
from jacobians.maps import Matrix
from jacobians.rounding import chain_bound


@st.composite
def problems(draw, **options):
    """A whole network in both forms, N points as rows with targets, and each point exactly."""
    net = draw(whole_networks(**options))
    N = draw(st.sampled_from([1, 2, 4]))  # so that dividing by N is exact
    X = np.stack([draw(whole_vectors(net.widths[0])) for _ in range(N)])
    Y = np.stack([draw(whole_vectors(net.widths[-1])) for _ in range(N)])
    exact = [Exact(net, x, y) for x, y in zip(X, Y, strict=True)]
    return net, to_row_form(net), X, Y, exact


def mean(several):
    return (sum(np.array(one, dtype=object) for one in several) / Fraction(len(several))).tolist()


linear = {"hidden": ("identity",)}


# --- the system -----------------------------------------------------------------------------------


@fewer
@given(problems())
def test_row_form_computes_the_double_loop(problem):
    """z_j = sum_k a_k w_kj + b_j with w = Wᵀ, a_j = f(z_j), a^0 = x.

    001-E1 to E3, E5, E18, E19, M2.
    """
    net, form, X, _, exact = problem
    z, a = form.forward(X)
    assert_equal(a[0], X)
    for l, (w, b) in enumerate(zip(form.weights, form.biases, strict=True), start=1):
        assert w.shape == (net.widths[l - 1], net.widths[l])
        for n in range(len(X)):
            loop = [
                sum(a[l - 1][n, k] * w[k, j] for k in range(len(w))) + b[0, j]
                for j in range(w.shape[1])
            ]
            for computed in (loop, z[l - 1][n]):
                assert_exactly(computed, exact[n].z[l])
            assert_exactly(a[l][n], exact[n].h[l])
    assert_equal(form(X), net(X))


@fewer
@given(problems())
def test_cost_is_half_the_mean_of_the_squared_distance(problem):
    """1/(2N) sum |a - y|² = mean of (1/2 |a - y|²).  001-E4, E14."""
    net, form, X, Y, exact = problem
    squares = [sum((p - t) ** 2 for p, t in zip(e.h[-1], e.y, strict=True)) for e in exact]
    cost = sum(squares) / Fraction(2 * len(X))
    assert Fraction(jb.backprop.gradients(net, X, Y, jb.SquaredError()).loss) == cost
    assert Fraction(((form(X) - Y) ** 2).sum() / (2 * len(X))) == cost
    assert sum(e.cost for e in exact) / len(X) == cost


@pytest.mark.parametrize("name", ["identity", "relu", "square"])
def test_slopes_are_the_derivatives_of_the_activations(name):
    """da_j/dz_j = f'(z_j); 1 for f(z) = z.  001-E12, E40; 004-E15."""
    z = np.array([-3.0, -1.0, 0.0, 2.0, 5.0])
    exact = [EXACT_ACTIVATIONS[name](Dual(Fraction(v), Fraction(1))).slope for v in z]
    assert_exactly(jb.activation(name).derivative(z), exact)
    if name == "identity":
        assert_equal(jb.activation(name).derivative(z), np.ones(5))


# --- errors ---------------------------------------------------------------------------------------


@fewer
@given(problems())
def test_errors_are_the_derivatives_of_each_point_s_own_loss(problem):
    """Delta^L = (a^L - y) * f'(z^L), Delta^l = (Delta^{l+1} (w^{l+1})ᵀ) * f'(z^l).

    001-E6 to E8, E11, E13, E26 to E33.
    """
    net, form, X, Y, exact = problem
    errors = form.errors(X, Y)
    z, a = form.forward(X)
    slopes = [f.derivative(z_l) for f, z_l in zip(form.activations, z, strict=True)]
    for n, point in enumerate(exact):
        assert_exactly(errors[-1][n], (a[-1][n] - Y[n]) * slopes[-1][n])
        for l in range(1, net.depth + 1):
            assert_exactly(errors[l - 1][n], point.D_a(l))
        for l in range(1, net.depth):
            w = form.weights[l]
            loop = [
                sum(errors[l][n, i] * w[j, i] for i in range(w.shape[1])) * slopes[l - 1][n, j]
                for j in range(len(w))
            ]
            assert_exactly(errors[l - 1][n], loop)
            assert_equal(errors[l - 1][n], (w @ errors[l][n]) * slopes[l - 1][n])  # as columns


@fewer
@given(problems())
def test_errors_of_the_mean_cost_carry_one_over_n(problem):
    """d(mean cost)/dz^l(x_n) = Delta^l(x_n) / N.  001-E6."""
    net, form, X, Y, _ = problem
    g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
    for of_the_mean, own in zip(g.deltas, form.errors(X, Y), strict=True):
        assert_equal(of_the_mean, own / len(X))


@fewer
@given(problems())
def test_errors_are_the_output_s_errors_times_a_jacobian(problem):
    """Delta^l = (a - y) da^L/dz^l = ((a - y) * f'(z^L)) dz^L/dz^l = Delta^L dz^L/dz^l.

    001-E14 to E17; 004-E20, E21.
    """
    net, form, X, Y, exact = problem
    errors = form.errors(X, Y)
    for n, (x, point) in enumerate(zip(X, exact, strict=True)):
        residual, trace = as_row(form(X)[n] - Y[n]), jb.trace(net, x)
        for l in range(1, net.depth + 1):
            to_output = jb.explicit.bias_jacobian(trace, l)  # da^L/dz^l
            assert_exactly(to_output, point.output_jacobian(l, at="preactivation"))
            assert_equal(product(residual, to_output)[0], errors[l - 1][n])
            to_last = form.path_sum(x[None], l)
            assert_equal(product(as_row(errors[-1][n]), to_last)[0], errors[l - 1][n])


# --- sums over paths ------------------------------------------------------------------------------


@fewer
@given(problems(min_depth=2))
def test_the_jacobian_between_preactivations_is_a_sum_over_paths(problem):
    """dz^L_k/dz^l_j: sum over i_1 .. i_{L-l-1} of prod w^{L-m+1}[i_m, i_{m-1}] f'(z^{L-m}[i_m]).

    The last index of a path is j itself, i_{L-l} = j, and is not summed.

    001-E20 to E24.
    """
    net, form, X, _, exact = problem
    x, point, L = X[:1], exact[0], net.depth
    trace = jb.trace(net, X[0])
    z, _ = form.forward(x)
    slopes = [f.derivative(z_l) for f, z_l in zip(form.activations, z, strict=True)]
    for l in range(1, L + 1):
        by_paths = form.path_sum(x, l)
        assert_exactly(by_paths, point.last_preactivation_jacobian(l))
        if l == L:
            assert_equal(by_paths, np.eye(net.widths[L]))
            continue
        chain = net.layers[-1].W @ jb.explicit.input_jacobian(trace, of=L - 1, wrt=l)
        assert_equal(by_paths, chain @ jb.explicit.activation_jacobian(trace, l))
        one_step = np.zeros_like(by_paths)  # the expansion of the last step alone
        inner = inner_jacobian(trace, l)
        for k, j, i in all_tuples(*map(range, (*by_paths.shape, net.widths[L - 1]))):
            one_step[k, j] += slopes[L - 2][0, i] * form.weights[L - 1][i, k] * inner[i, j]
        assert_equal(one_step, by_paths)


def inner_jacobian(trace, l):
    """dz^{L-1}/dz^l as a product of matrices."""
    net = trace.network
    if l == net.depth - 1:
        return np.eye(net.widths[l])
    to_a = jb.explicit.input_jacobian(trace, of=net.depth - 2, wrt=l)
    return net.layers[-2].W @ to_a @ jb.explicit.activation_jacobian(trace, l)


@fewer
@given(problems(min_depth=2))
def test_errors_are_sums_over_paths(problem):
    """Delta^l_j = sum_k (a_k - y_k) f'(z^L_k) sum over paths from j to k.  001-E25, M3."""
    net, form, X, Y, exact = problem
    z, a = form.forward(X[:1])
    slopes = [f.derivative(z_l[0]) for f, z_l in zip(form.activations, z, strict=True)]
    for l in range(1, net.depth + 1):
        for j in range(net.widths[l]):
            total = 0.0
            for path in all_tuples(*(range(net.widths[m]) for m in range(l + 1, net.depth + 1))):
                units = (j, *path)
                term = a[-1][0, units[-1]] - Y[0, units[-1]]
                for step, unit in enumerate(units):
                    term *= slopes[l - 1 + step][unit]
                    term *= form.weights[l - 1 + step][units[step - 1], unit] if step else 1
                total += term
            assert Fraction(total) == exact[0].D_a(l)[j]


# --- gradients ------------------------------------------------------------------------------------


@fewer
@given(problems())
def test_gradients_are_means_of_outer_products(problem):
    """dC/dw = 1/N sum aᵀ Delta in the shape of w, dC/db = 1/N sum Delta.

    001-E9, E10, E34 to E39, M1.
    """
    net, form, X, Y, exact = problem
    weights, biases = form.gradients(X, Y)
    g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
    errors, (_, a) = form.errors(X, Y), form.forward(X)
    for l in range(1, net.depth + 1):
        assert weights[l - 1].shape == form.weights[l - 1].shape
        assert_exactly(weights[l - 1], mean([transposed(e.gradient(l)) for e in exact]))
        assert_exactly(biases[l - 1], mean([[e.D_b(l)] for e in exact]))
        outer = sum(np.outer(a[l - 1][n], errors[l - 1][n]) for n in range(len(X))) / len(X)
        assert_equal(weights[l - 1], outer)
        assert_equal(weights[l - 1], g.weights[l - 1].T)
        assert_equal(biases[l - 1], as_row(g.biases[l - 1]))


@fewer
@given(
    jst.networks(only_dense=True, last=jst.HIDDEN, dtypes=(np.float64, np.float32)),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_row_form_equals_backprop_within_the_bound(net, N, seed):
    """In floats, at the same preactivations: within the bound of the chain.

    001-E7 to E9, E32, E36.
    """
    rng = np.random.default_rng(seed)
    X, Y = (rng.standard_normal((N, n)).astype(net.dtype) for n in (net.widths[0], net.widths[-1]))
    form = to_row_form(net)
    z, a = form.forward(X)
    errors = form.errors(X, Y)
    for n in range(N):
        # a trace of the rows' own preactivations, so that both computations have the same slopes
        trace = jb.tracing.Trace(net, tuple(v[n] for v in z), tuple(v[n] for v in a))
        lin, c = jb.linearize(net, trace), a[-1][n] - Y[n]
        sweep = jb.backprop.deltas(trace, c)
        for l in range(1, net.depth + 1):
            factors = [as_row(c), *lin.between(net.depth, l), lin.between(l, l - 1)[0]]
            bound = chain_bound([Matrix(factors[0]), *factors[1:]], net.dtype).pair()
            assert_within(as_row(errors[l - 1][n]), as_row(sweep[l - 1]), bound)
    for l, gradient in enumerate(form.gradients(X, Y)[0]):
        each = sum(np.outer(a[l][n], errors[l][n]).astype(float) for n in range(N)) / N
        size = sum(np.abs(np.outer(a[l][n], errors[l][n])).astype(float) for n in range(N)) / N
        # each of N terms meets a product, at most N sums and a division, on either side
        info = np.finfo(net.dtype)
        assert_within(gradient, each, 2 * (N + 2) * (info.eps * size + info.tiny))
        assert gradient.dtype == net.dtype


def test_softmax_is_not_entry_by_entry():
    """With softmax at the end every da_k/dz_j contributes, not one term alone.  001-E11."""
    net = jb.Network([jb.Dense(np.eye(3), np.log([2.0, 1.0, 1.0]), "softmax")])
    c = np.array([1.0, 0.0, 0.0])
    D = jb.explicit.activation_jacobian(jb.trace(net, np.zeros(3)), 1)
    assert_within(c @ D, [0.25, -0.125, -0.125], 2.0**-52)  # log and exp round once or twice each
    assert_equal((c * np.diag(D))[1:], [0, 0])
    with pytest.raises(TypeError, match="softmax"):
        to_row_form(net)


# --- linear networks ------------------------------------------------------------------------------


@fewer
@given(problems(**linear))
def test_linear_networks_drop_the_slopes(problem):
    """f' = 1: Delta^L = a - y, Delta^l = Delta^{l+1} wᵀ, the gradients keep their form.

    001-E41 to E46.
    """
    net, form, X, Y, exact = problem
    errors, (_, a) = form.errors(X, Y), form.forward(X)
    assert_equal(errors[-1], a[-1] - Y)
    for l in range(1, net.depth):
        assert_equal(errors[l - 1], errors[l] @ form.weights[l].T)
        assert_exactly(errors[l - 1][0], exact[0].D_a(l))
    weights, biases = form.gradients(X, Y)
    for l in range(net.depth):
        assert_equal(weights[l], a[l].T @ errors[l] / len(X))
        assert_equal(biases[l][0], errors[l].sum(axis=0) / len(X))


@fewer
@given(problems(**linear))
def test_linear_networks_collapse_to_one_product(problem):
    """a^L = x w^1 ... w^L + biases, Delta^l = (a^L - y)(w^{l+1} ... w^L)ᵀ, J = (w^1 ... w^L)ᵀ.

    001-M4.
    """
    net, form, X, Y, _ = problem
    errors = form.errors(X, Y)
    for l in range(net.depth + 1):
        above = np.eye(net.widths[l])
        for w in form.weights[l:]:
            above = product(above, w)
        if l:
            assert_equal(errors[l - 1], (form(X) - Y) @ above.T)
        for x in X:
            assert_equal(jb.explicit.input_jacobian(jb.trace(net, x), wrt=l), above.T)
    at_zero = form(np.zeros((1, net.widths[0])))
    one = from_row_form([jb.explicit.input_jacobian(jb.trace(net, X[0])).T], [at_zero], "identity")
    assert_equal(one(X), form(X))


@fewer
@given(problems(**linear), st.data())
def test_quadratic_costs_have_exact_central_differences(problem, data):
    """A step of 1 in any weight, bias or input: (C(+1) - C(-1)) / 2 is dC.  001-E45, E46, M5."""
    net, _, X, Y, _ = problem

    def cost(network, points):
        return jb.backprop.gradients(network, points, Y, jb.SquaredError()).loss

    g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
    k = data.draw(st.integers(0, net.parameter_count - 1))
    step = np.eye(net.parameter_count)[k]
    up, down = (cost(net.with_parameters(net.parameters + s * step), X) for s in (1, -1))
    assert (up - down) / 2 == g.vector[k]
    e = np.zeros_like(X)
    e[data.draw(st.integers(0, len(X) - 1)), data.draw(st.integers(0, X.shape[1] - 1))] = 1
    assert (cost(net, X + e) - cost(net, X - e)) / 2 == (g.inputs * e).sum()


@fewer
@given(st.data())
def test_relu_networks_have_exact_central_differences_inside_a_region(data):
    """If +1 and -1 switch the same units on, a ReLU network is linear in between.  001-M5."""
    net = data.draw(whole_networks(hidden=("relu", "identity")))
    x, y = data.draw(whole_vectors(net.widths[0])), data.draw(whole_vectors(net.widths[-1]))
    g = jb.backprop.gradients(net, x, y, jb.SquaredError())
    for e in np.eye(len(x)):
        below, here, above = (
            [(z > 0).tolist() for z in jb.trace(net, x + s * e).preactivations] for s in (-1, 0, 1)
        )
        if below == here == above:
            up, down = (0.5 * ((net(x + s * e) - y) ** 2).sum() for s in (1, -1))
            assert (up - down) / 2 == g.inputs @ e


@given(hnp.arrays(np.int64, (4, 2), elements=st.integers(-5, 5)))
def test_the_mean_of_products_is_not_the_product_of_means(X):
    """1/N sum aᵀ Delta and (mean a)ᵀ (mean Delta) agree only if nothing varies.  001-M1."""
    net = jb.Network([jb.Dense([[1.0, 1.0]])])
    Y = np.zeros((4, 1))
    form = to_row_form(net)
    (weights,), _ = form.gradients(X, Y)
    (errors,), a = form.errors(X, Y), X.astype(float)
    of_means = np.outer(a.mean(axis=0), errors.mean(axis=0))
    covariance = (a - a.mean(axis=0)).T @ (errors - errors.mean(axis=0)) / 4
    assert_equal(weights, of_means + covariance)
