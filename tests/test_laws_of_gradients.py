"""Law 5: one gradient by sweeps, by matrices and vec, by sums over indices, by sums over paths."""

from itertools import pairwise, product

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians import strategies as jst
from jacobians.linearization import layer_map
from jacobians.maps import Matrix
from jacobians.rounding import chain_bound


def cotangent_and_factors(lin, Y, loss):
    """The row that backprop starts from, and the factors it still meets above layer l."""
    net = lin.trace.network
    fused = loss.fused(net.layers[-1].activation)
    if fused is not None:
        return fused.cotangent(lin.trace.preactivations[-1], Y), True
    return loss.cotangent(lin.value, Y), False


def gradient_bounds(net, trace, Y, loss, l2):
    """Bound |explicit - backprop| for every delta, weight and input gradient of one point."""
    lin = jb.linearize(net, trace)
    row, fused = cotangent_and_factors(lin, Y, loss)
    seed, depth = Matrix(row[None, :]), net.depth
    deltas, weights = [], []
    for l, layer in enumerate(net.layers, start=1):
        above = [*lin.between(depth, l), lin.between(l, l - 1)[0]]
        bound = chain_bound([seed, *(above[1:] if fused else above)], net.dtype)
        deltas.append(bound)
        if isinstance(layer, jb.Dense):
            a = np.abs(trace.activation(l - 1)).astype(float)
            # one rounding in the outer product; the penalty and its sum round once each
            penalty = 2 * np.expm1(3 * bound.unit) * l2 * np.abs(layer.W)
            weights.append(np.outer(bound.pair(extra=3)[0], a) + penalty)
        else:
            weights.append(None)
    inputs = chain_bound([seed, *(lin.factors[1:] if fused else lin.factors)], net.dtype)
    return [bound.pair()[0] for bound in deltas], weights, inputs.pair()[0]


@given(jst.problems(dtypes=(np.float64, np.float32)))
def test_explicit_gradients_equal_backprop_at_one_point(problem):
    net, X, Y, loss, l2 = problem
    if X.ndim == 2:
        X, Y = X[0], Y[0]
    trace = jb.trace(net, X)
    deltas, weights, inputs = gradient_bounds(net, trace, Y, loss, l2)
    by_matrices = jb.explicit.gradients(net, X, Y, loss, l2)
    by_sweep = jb.backprop.gradients(net, X, Y, loss, l2, kernels=False)
    assert_within(by_matrices.inputs, by_sweep.inputs, inputs)
    for l in range(net.depth):
        assert_within(by_matrices.deltas[l], by_sweep.deltas[l], deltas[l])
        if weights[l] is not None:
            assert_within(by_matrices.weights[l], by_sweep.weights[l], weights[l])
            assert_within(by_matrices.biases[l], by_sweep.biases[l], deltas[l])
            assert by_sweep.weights[l].shape == net.layers[l].W.shape
            assert by_sweep.weights[l].dtype == by_matrices.weights[l].dtype == net.dtype


@given(jst.problems())
def test_explicit_gradients_equal_backprop_over_a_batch(problem):
    """The mean over the points: their bounds add up, and so do B more roundings."""
    net, X, Y, loss, l2 = problem
    X, Y = np.atleast_2d(X), np.atleast_2d(Y)
    B = len(X)
    trace = jb.trace(net, X)
    by_matrices = jb.explicit.gradients(net, X, Y, loss, l2)
    by_sweep = jb.backprop.gradients(net, X, Y, loss, l2, kernels=False)
    each = [gradient_bounds(net, trace.point(i), Y[i], loss, l2) for i in range(B)]
    for l, layer in enumerate(net.layers):
        if isinstance(layer, jb.Dense):
            # the mean of B numbers of this size, plus division and sum: B + 2 roundings of each
            size = sum(
                np.outer(np.abs(by_sweep.deltas[l][i]), np.abs(trace.activation(l)[i]))
                for i in range(B)
            )
            mean = 2 * np.expm1((B + 4) * 2.0**-53) * (size + l2 * np.abs(layer.W)) * 2
            bound = sum(weights[l] for _, weights, _ in each) / B * 2 + mean + 1e-300
            assert_within(by_matrices.weights[l], by_sweep.weights[l], bound)
        deltas = np.stack([deltas[l] for deltas, _, _ in each]) / B
        rounding = 4 * 2.0**-53 * np.abs(by_sweep.deltas[l])  # each is divided by B once
        assert_within(by_matrices.deltas[l], by_sweep.deltas[l], 2 * deltas + rounding + 1e-300)


def exact_problem(data):
    """An exact network, a few whole points and targets: everything is a whole number of 2^-k."""
    net = data.draw(jst.exact_networks(max_depth=3, max_width=4))
    B = data.draw(st.sampled_from([1, 2, 4]))  # so that dividing by B is exact
    X = np.stack([data.draw(jst.whole_points(net, 2)) for _ in range(B)])
    Y = np.arange(B * net.widths[-1], dtype=float).reshape(B, -1) % 3 - 1
    return net, X, Y


@given(st.data(), st.sampled_from([0.0, 0.5]), st.booleans())
def test_all_roads_to_the_gradient_are_equal_on_exact_networks(data, l2, kernels):
    net, X, Y = exact_problem(data)
    by_matrices = jb.explicit.gradients(net, X, Y, jb.SquaredError(), l2)
    by_sweep = jb.backprop.gradients(net, X, Y, jb.SquaredError(), l2, kernels=kernels)
    by_indices = gradients_by_indices(net, X, Y, l2)
    assert by_matrices.loss == by_sweep.loss
    assert_equal(by_matrices.inputs, by_sweep.inputs)
    for l in range(net.depth):
        assert_equal(by_matrices.deltas[l], by_sweep.deltas[l])
        assert_equal(by_matrices.weights[l], by_sweep.weights[l])
        assert_equal(by_matrices.biases[l], by_sweep.biases[l])
        assert_equal(by_indices[0][l], by_sweep.weights[l])
        assert_equal(by_indices[1][l], by_sweep.biases[l])
    assert_equal(by_matrices.vector, by_sweep.vector)


def gradients_by_indices(net, X, Y, l2):
    """Sums over indices, the error of unit j as a sum over all paths from j to the outputs."""
    weights = [np.zeros_like(layer.W) for layer in net.layers]
    biases = [np.zeros_like(layer.b) for layer in net.layers]
    for x, y in zip(X, Y, strict=True):
        trace = jb.trace(net, x)
        slopes = [
            layer.activation.derivative(z)
            for layer, z in zip(net.layers, trace.preactivations, strict=True)
        ]
        for l in range(1, net.depth + 1):
            for j in range(net.widths[l]):
                error = error_by_paths(net, trace.output - y, slopes, l, j)
                biases[l - 1][j] += error
                for k in range(net.widths[l - 1]):
                    weights[l - 1][j, k] += error * trace.activation(l - 1)[k]
    W = [G / len(X) + l2 * layer.W for G, layer in zip(weights, net.layers, strict=True)]
    return W, [g / len(X) for g in biases]


def error_by_paths(net, residual, slopes, l, j):
    """delta^l_j: the sum over paths j = v_l, v_{l+1}, ..., v_L of slopes times weights."""
    total = 0.0
    for path in product(*(range(net.widths[m]) for m in range(l + 1, net.depth + 1))):
        units = (j, *path)
        term = residual[units[-1]]
        for step, unit in enumerate(units):
            term = term * slopes[l - 1 + step][unit]
            if step:
                term = term * net.layers[l - 1 + step].W[unit, units[step - 1]]
        total += term
    return total


@given(jst.problems())
def test_loss_is_the_mean_over_the_points_plus_the_penalty(problem):
    """C = mean of the losses + l2/2 sum |W|²; a penalty changes nothing but loss and weights."""
    net, X, Y, loss, _ = problem
    free, bound_ = (jb.backprop.gradients(net, X, Y, loss, l2) for l2 in (0.0, 2.0))
    squares = sum(float((layer.W**2).sum()) for layer in net.layers if isinstance(layer, jb.Dense))
    size = abs(free.loss) + squares
    assert abs(bound_.loss - free.loss - squares) <= 64 * 2.0**-53 * size + 1e-300  # ~40 terms
    assert_equal(free.inputs, bound_.inputs)
    for l, layer in enumerate(net.layers):
        if isinstance(layer, jb.Dense):
            assert_equal(bound_.weights[l], free.weights[l] + 2.0 * layer.W)
            assert_equal(bound_.biases[l], free.biases[l])


@given(jst.problems())
def test_fused_and_unfused_losses_have_the_same_value_and_gradient(problem):
    """Where nothing saturates, delta^L = D c either way."""
    net, X, Y, loss, _ = problem
    last, trace = net.layers[-1].activation, jb.trace(net, X)
    if not isinstance(loss, jb.SquaredError):
        fused = type(loss)(fuse=True).fused(last)
        plain = type(loss)(fuse=False)
        z, a = trace.preactivations[-1], trace.output
        if last.name == "log_softmax" or np.abs(z).max() > 8:
            return  # out of the plain form's domain, or saturated
        # |z| <= 8 keeps probabilities above 1e-8, so the plain form loses at most 8 digits
        D = jb.backprop.pull_back_activation(last, z, plain.cotangent(a, Y))
        assert_within(fused.cotangent(z, Y), D, 1e-7 * (1 + np.abs(D)))
        assert_within(fused.value(z, Y), plain.value(a, Y), 1e-7 * (1 + plain.value(a, Y)))


@pytest.mark.parametrize(("kind", "last"), [(jb.BinaryCrossEntropy, "sigmoid"),
                                            (jb.CrossEntropy, "softmax")])  # fmt: skip
def test_a_cotangent_of_ones_own_counts_where_the_library_would_fuse(kind, last, rng):
    """Half of it is half the gradient, in every way to compute one; a fused one counts again."""

    class Half(kind):
        def cotangent(self, output, target):
            return super().cotangent(output, target) / 2

    class Again(Half):
        fused = kind.fused

    net = jb.Network.random([4, 5, 3], "tanh", last, seed=0)
    X, Y = rng.standard_normal((6, 4)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    whole = jb.backprop.gradients(net, X, Y, kind(fuse=False))
    for module in (jb.backprop, jb.explicit):
        for own, share in ((Half(), 0.5), (Again(), 1.0)):
            mine = module.gradients(net, X[0], Y[0], own)
            right = jb.backprop.gradients(net, X[0], Y[0], kind(fuse=False))
            assert_within(mine.inputs, share * right.inputs, 1e-14)
    assert_within(jb.backprop.gradients(net, X, Y, Half()).vector, whole.vector / 2, 1e-14)


def test_gradients_of_one_point_are_those_of_a_batch_of_one():
    net = jb.Network.random([3, 4, 2], seed=1)
    x, y = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0])
    one = jb.backprop.gradients(net, x, y, jb.SquaredError())
    batch = jb.backprop.gradients(net, x[None], y[None], jb.SquaredError())
    assert one.inputs.shape == (3,)
    assert [d.shape for d in one.deltas] == [(4,), (2,)]
    assert one.weights[0].shape == (4, 3)
    # the two go through different matrix kernels, so their preactivations differ in the last bit
    assert_within(one.vector, batch.vector, 1e-14 * np.abs(batch.vector).max())


def test_gradient_vector_is_in_the_order_of_the_parameters():
    """A step along the vector changes the loss by the product, for every single parameter."""
    net = jb.Network([jb.Dense([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jb.Dense([[1.0, -1.0, 2.0]])])
    x, y = np.array([1.0, -1.0]), np.array([3.0])
    g = jb.backprop.gradients(net, x, y, jb.SquaredError())
    # identity activations: the loss is a quadratic in each parameter, so a central step is exact
    for k, slope in enumerate(g.vector):
        step = np.zeros(net.parameter_count)
        step[k] = 1.0
        up, down = (
            jb.backprop.gradients(net.with_parameters(theta), x, y, jb.SquaredError()).loss
            for theta in (net.parameters + step, net.parameters - step)
        )
        assert (up - down) / 2 == slope


@pytest.mark.parametrize("gradients", [jb.explicit.gradients, jb.backprop.gradients])
def test_no_points_have_no_mean(gradients):
    net = jb.Network.random([3, 2], seed=0)
    with pytest.raises(ValueError, match="mean over no points"):
        gradients(net, np.zeros((0, 3)), np.zeros((0, 2)), jb.SquaredError())


# --- layers of the user's own ---------------------------------------------------------------------


class Mixing(jb.Layer):
    """z = M a, for a matrix that is the class's own."""

    M = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [2.0, 0.0, 4.0], [-1.0, 1.0, 1.0]])

    def output_width(self, inputs):
        return len(self.M)

    def preactivation(self, a):
        return a @ self.M.T


@layer_map.register
def _(layer: Mixing, a):
    return Matrix(layer.M)


@given(st.data())
def test_a_layer_known_by_its_map_alone_is_differentiated_like_any_other(data):
    """Exactly as the dense layer of the same matrix, by matrices and by sweeps, at every place."""
    own = data.draw(st.integers(0, 2))
    widths = [2, 2, 2, 2]
    widths[own], widths[own + 1] = 3, 4
    entries = st.integers(-3, 3).map(float)
    layers = []
    for n, m in pairwise(widths):
        W = data.draw(st.lists(entries, min_size=m * n, max_size=m * n))
        layers.append(jb.Dense(np.reshape(W, (m, n)), activation="relu"))
    twin = [*layers]
    layers[own], twin[own] = Mixing(), jb.Dense(Mixing.M)
    net, twin = jb.Network(layers, inputs=widths[0]), jb.Network(twin)
    X = np.arange(2.0 * widths[0]).reshape(2, -1) % 5 - 2
    Y = np.ones((2, widths[-1]))
    for gradients in (jb.explicit.gradients, jb.backprop.gradients):
        for points, targets in ((X, Y), (X[0], Y[0])):
            g = gradients(net, points, targets, jb.SquaredError())
            expected = jb.backprop.gradients(twin, points, targets, jb.SquaredError())
            assert g.weights[own] is None
            assert g.biases[own] is None
            assert_equal(g.inputs, expected.inputs)
            for l in range(3):
                assert_equal(g.deltas[l], expected.deltas[l])
                if l != own:
                    assert_equal(g.weights[l], expected.weights[l])
    assert_equal(jb.explicit.input_jacobian(jb.trace(net, X[0])), jb.jacobian(twin, X[0]))
    assert_equal(jb.jacobian(net, X), jb.jacobian(twin, X))


def test_sweeps_stay_in_the_dtype_of_the_network():
    """Whatever the dtype of the cotangent."""
    net = jb.Network.random([3, 5, 4, 2], seed=0, dtype=np.float32)
    for X in (np.ones(3), np.ones((2, 3))):
        trace = jb.trace(net, X)
        cotangent = np.ones(trace.output.shape)
        arrays = [*jb.backprop.deltas(trace, cotangent), jb.backprop.vjp(trace, cotangent)]
        lin = jb.linearize(net, trace)
        arrays += [jb.backprop.jacobian(trace), lin.vjp(cotangent), lin.jvp(X)]
        assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
