"""Curvature and posteriors of parameters: every map against its definition, written out densely."""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from claims import assert_equal, assert_within
from curvature_cases import (
    ENDS,
    KINDS,
    SQUARED,
    before_last_activation,
    case,
    close,
    every_end,
    every_kind,
    gradients_of,
    jacobians_of,
    spans,
    targets,
)
from drawn_graphs import graphs, points_of
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians.second_order.khatri_rao import KhatriRao

# --- Khatri-Rao products --------------------------------------------------------------------------


def test_rows_of_a_khatri_rao_product_are_kronecker_products():
    """All that is read off the two arrays equals what the written-out matrix says, exactly."""
    K = KhatriRao(whole(4, 3), whole(4, 2, 5))
    L = KhatriRao(whole(2, 3), whole(2, 7, 5))
    w = np.abs(whole(3, 5))
    dense, other = (
        np.concatenate([np.kron(a, D) for a, D in zip(M.left, M.right, strict=True)])
        for M in (K, L)
    )
    assert_equal(K.to_dense(), dense)
    V, U = whole(15, 2), whole(8, 3)
    assert_equal(K @ V, dense @ V)
    assert_equal(K.T @ U, dense.T @ U)
    assert_equal(K.T.to_dense(), dense.T)
    assert K.T.T is K
    assert_equal(K.gram(L), dense @ other.T)
    assert_equal(K.column_squares(), (dense**2).sum(axis=0))
    assert_equal(K.row_squares().reshape(-1), (dense**2).sum(axis=1))
    weighted = dense * w.reshape(-1) @ dense.T
    assert_equal(K.row_squares(w).reshape(-1), np.diag(weighted))
    products = K.row_products(w)
    for b in range(4):
        assert_equal(products[b], weighted[2 * b : 2 * b + 2, 2 * b : 2 * b + 2])


# --- Gauss-Newton and Fisher ----------------------------------------------------------------------


@every_kind
def test_gauss_newton_is_the_mean_of_JtJ(net):
    """By its products, its dense form, its diagonal and its blocks, in pieces of the points too."""
    X, Y = case(net)
    J = jacobians_of(net, X)
    expected = np.einsum("bmp,bmq->pq", J, J) / len(X)
    V = np.random.default_rng(1).normal(size=(len(expected), 3)).astype(net.dtype)
    for max_bytes in (2**27, 1):
        G = jb.curvature(net, X, Y, SQUARED, max_bytes=max_bytes).gauss_newton
        close(net, G.to_dense(), expected)
        close(net, G @ V, expected @ V)
        close(net, G.T @ V[:, 0], expected @ V[:, 0])
        close(net, G.diagonal(), np.diag(expected))
        close(net, G.trace(), np.trace(expected))
        close(net, G.to_scipy() @ V[:, 1], expected @ V[:, 1])
        for l, span in spans(net).items():
            close(net, G.block(l).to_dense(), expected[span, span], np.abs(expected).max())
            close(net, G.block(l) @ V[span], expected[span, span] @ V[span], np.abs(expected).max())
    assert G.dtype == (G @ V).dtype == G.diagonal().dtype == net.dtype


@every_end
def test_gauss_newton_is_JtHJ(last, loss, rng):
    """With H by differences of the loss's cotangent (error about 1e-9); none is negative."""
    net = jb.Network.random([3, 5, 4], "tanh", last, seed=3)
    X, Y = rng.normal(size=(4, 3)), targets(loss, 4, 4, rng)
    fused = loss.fused(net.layers[-1].activation)
    end = before_last_activation(net) if fused else net
    a, cotangent = end(X), (fused or loss).cotangent
    expected, h = 0, 1e-6
    for b, J in enumerate(jacobians_of(end, X)):
        steps = h * np.eye(4)
        H = [(cotangent(a[b] + s, Y[b]) - cotangent(a[b] - s, Y[b])) / (2 * h) for s in steps]
        expected = expected + J.T @ np.array(H) @ J / len(X)
    G = jb.curvature(net, X, Y, loss).gauss_newton.to_dense()
    assert_within(G, expected, 1e-7 * np.abs(expected).max())
    # eigenvalues of 0 come out as the rounding of the largest
    assert np.linalg.eigvalsh(G).min() > -1e-12 * np.abs(G).max()


@every_end
def test_fisher_is_the_expectation_over_targets_drawn_from_the_model(last, loss, rng):
    """The sum over all targets of their probability times ``g gᵀ``; g by backprop.

    A normal target needs its second moments alone: those of steps by one in each output.
    """
    net = jb.Network.random([3, 5, 3], "tanh", last, seed=4)
    X, m = rng.normal(size=(2, 3)), 3
    expected = 0
    for x in X:
        a = net(x)
        if isinstance(loss, jb.SquaredError):
            drawn = [(1, a + e) for e in np.eye(m)]
        elif isinstance(loss, jb.CrossEntropy):
            p = np.exp(a) if last == "log_softmax" else a
            drawn = [(p[k], np.eye(m)[k]) for k in range(m)]
        else:
            every = map(np.array, itertools.product([0.0, 1.0], repeat=m))
            drawn = [(np.prod(np.where(y == 1, a, 1 - a)), y) for y in every]
        for probability, y in drawn:
            g = jb.backprop.gradients(net, x, y, loss).vector
            expected = expected + probability * np.outer(g, g) / len(X)
    fisher = jb.curvature(net, X, loss=loss).fisher
    close(net, fisher.to_dense(), expected)
    close(net, fisher @ np.ones(len(expected)), expected.sum(axis=1), np.abs(expected).sum())


@pytest.mark.parametrize("end", ["squared error", "softmax in one step", "sigmoid in one step"])
def test_gauss_newton_is_the_fisher_matrix_where_loss_and_activation_belong_together(end, rng):
    last, loss = ENDS[end]
    net = jb.Network.random([3, 6, 4], "relu", last, seed=5)
    X, Y = rng.normal(size=(5, 3)), targets(loss, 4, 5, rng)
    c = jb.curvature(net, X, Y, loss)
    close(net, c.gauss_newton.to_dense(), c.fisher.to_dense())


def test_soft_targets_that_do_not_add_up_to_one_scale_gauss_newton(rng):
    net = jb.Network.random([3, 4], output_activation="softmax", seed=6)
    X, y = rng.normal(size=(1, 3)), np.array([[0.5, 0.25, 0.0, 0.0]])
    c = jb.curvature(net, X, y, jb.CrossEntropy())
    close(net, c.gauss_newton.to_dense(), 0.75 * c.fisher.to_dense())


@every_kind
def test_gradients_of_single_points_are_those_of_backprop(net):
    """And their squared norms, and the empirical Fisher matrix that they make."""
    X, Y = case(net)
    g = gradients_of(net, X, Y, SQUARED)
    c = jb.curvature(net, X, Y, SQUARED, max_bytes=1)
    rows = c.gradients()
    close(net, rows.to_dense(), g)
    close(net, rows @ np.ones(g.shape[1], net.dtype), g.sum(axis=1), np.abs(g).sum())
    close(net, rows.T @ np.ones(len(X), net.dtype), g.sum(axis=0))
    close(net, c.gradient_squares(), (g.astype(float) ** 2).sum(axis=1))
    close(net, c.empirical_fisher.to_dense(), g.T @ g / len(X))
    close(net, c.empirical_fisher.diagonal(), (g**2).sum(axis=0) / len(X))


# --- the tangent kernel ---------------------------------------------------------------------------


@every_kind
def test_tangent_kernel_is_JJt(net):
    X, other = points(net, 3), points(net, 2, seed=2)
    J, K = (jacobians_of(net, Z).reshape(-1, net.parameter_count) for Z in (X, other))
    for max_bytes in (2**27, 1):
        c = jb.curvature(net, X, max_bytes=max_bytes)
        own, between = c.ntk(), c.ntk(other)
        close(net, own.to_dense(), J @ J.T)
        close(net, own @ np.eye(len(J), dtype=net.dtype), J @ J.T)
        close(net, own.diagonal(), np.diag(J @ J.T))
        close(net, between.to_dense(), J @ K.T)
        close(net, between.T.to_dense(), K @ J.T)
        close(net, between @ np.eye(len(K), dtype=net.dtype), J @ K.T)
        close(net, between.diagonal(), np.diag(J @ K.T), np.abs(J @ K.T).max())


def test_tangent_kernel_of_dense_layers_is_their_formula(rng):
    """The sum over layers of ``(a_iᵀ a_j + 1) J_i J_jᵀ``, in whole numbers bit for bit."""
    W, V, X = whole(4, 3), whole(2, 4), whole(2, 3)
    net = jb.Network([jb.Dense(W, whole(4)), jb.Dense(V, np.zeros(2))])
    hidden = X @ W.T + net.layers[0].b
    expected = np.kron(X @ X.T + 1, V @ V.T) + np.kron(hidden @ hidden.T + 1, np.eye(2))
    assert_equal(jb.curvature(net, X).ntk().to_dense(), expected)


# --- Kronecker factors ----------------------------------------------------------------------------


def positions_of(net, l, x):
    """Return ``(a_t, 1)``, (t, n), and ``delta_t``, (outputs, t, m), of a layer with positions.

    The a_t are what weights that are 1 in one entry and else 0 make of the values that come in.
    """
    lin, layer = jb.linearize(net, x), net.layers[l - 1]
    images = isinstance(layer, jb.Convolution)
    name, W = ("K", layer.K) if images else ("W", layer.W)
    deltas = lin.preactivation_jacobian(l).to_dense()
    deltas = deltas.reshape(len(deltas), *((len(W), -1) if images else (-1, len(W))))
    columns = []
    for entry in np.ndindex(W[0].shape):
        unit = np.zeros_like(W)
        unit[(0, *entry)] = 1
        alone = layer.with_arrays({name: unit, "b": np.zeros_like(layer.b)})
        z = alone.preactivation(*lin.trace.entering(l)).reshape(deltas.shape[1:])
        columns.append(z[0] if images else z[:, 0])
    a = np.stack([*columns, np.ones_like(columns[0])], axis=1)
    return a, np.moveaxis(deltas, 1, 2) if images else deltas


def has_positions(layer):
    images = isinstance(layer, jb.Convolution) and layer.groups == 1
    return images or (isinstance(layer, jb.Dense) and layer.rows > 1)


@every_kind
def test_kronecker_factors_are_exact_at_one_point_with_one_position(net):
    X, Y = case(net, 1)
    G = jb.curvature(net, X[0], Y[0], SQUARED).gauss_newton
    dense, factors = G.to_dense(), G.kronecker()
    for l, span in spans(net).items():
        if not has_positions(net.layers[l - 1]):
            close(net, factors[l].map.to_dense(), dense[span, span], np.abs(dense).max())


@pytest.mark.parametrize(
    "name", ["attention with heads", "shaping", "convolutions and pools", "norms"]
)
def test_kronecker_factors_of_tokens_and_patches(name):
    """``A`` is the mean over points and positions, ``G`` the sum over positions and outputs."""
    net = NETWORKS[name]
    X, Y = case(net)
    factors = jb.curvature(net, X, Y, SQUARED, max_bytes=1).gauss_newton.kronecker()
    chosen = [l for l, layer in enumerate(net.layers, 1) if has_positions(layer)]
    for l in chosen:
        pairs = [positions_of(net, l, x) for x in X]
        a, deltas = (np.stack(each) for each in zip(*pairs, strict=True))
        close(net, factors[l].A, np.einsum("bti,btj->ij", a, a) / (len(X) * a.shape[1]))
        close(net, factors[l].G, np.einsum("bkti,bktj->ij", deltas, deltas) / len(X))
    assert chosen or name == "norms"


def test_a_convolution_of_one_patch_is_a_dense_layer(rng):
    """Factors, variances and evidence, where the kernel is as large as the image."""
    K, b = rng.normal(size=(4, 2, 3, 3)), rng.normal(size=4)
    X, Y = rng.normal(size=(5, 18)), rng.normal(size=(5, 4))
    image = jb.Network([jb.Convolution(K, b, "tanh")], inputs=(2, 3, 3))
    dense = jb.Network([jb.Dense(K.reshape(4, 18), b, "tanh")])
    one, other = (jb.laplace(net, X, Y, SQUARED, "kronecker") for net in (image, dense))
    close(image, one.variance(X), other.variance(X))
    mine, theirs = (posterior.log_marginal_likelihood() for posterior in (one, other))
    assert mine == pytest.approx(theirs, rel=1e-11)  # as for its definition, below


def test_the_factors_of_a_large_convolution_are_small(rng):
    """A kernel of 36,928 parameters: its block has 10.9 GB, the factors 2.7 MB."""
    layers = [jb.Convolution(rng.normal(size=(64, 64, 3, 3)) / 24, padding=1), jb.AveragePool(6)]
    net = jb.Network(layers, inputs=(64, 6, 6))
    X = rng.normal(size=(4, 64 * 36))
    posterior = jb.laplace(net, X, net(X), SQUARED, "kronecker", max_bytes=2**24)
    assert sum(A.nbytes for A in posterior.bases[1]) < 2**23
    assert posterior.variance(X[:1]).shape == (1, 64)


def test_kronecker_factors_are_means_over_points(rng):
    """``A`` of ``(a, 1)(a, 1)ᵀ``, ``G`` of ``J_lᵀ H J_l``, each by itself."""
    net = jb.Network.random([3, 5, 4], "tanh", "softmax", seed=8)
    X, Y = rng.normal(size=(6, 3)), rng.integers(0, 4, 6)
    factors = jb.curvature(net, X, Y, jb.CrossEntropy(), max_bytes=1).gauss_newton.kronecker()
    A, G = 0, 0
    for x in X:
        lin = jb.linearize(before_last_activation(net), x)
        J, p = lin.preactivation_jacobian(1).to_dense(), net(x)
        A = A + np.outer([*x, 1], [*x, 1]) / 6
        G = G + J.T @ (np.diag(p) - np.outer(p, p)) @ J / 6
    close(net, factors[1].A, A)
    close(net, factors[1].G, G)


def test_the_last_layer_of_a_regression_is_a_kronecker_product(rng):
    """Its ``G`` is the identity at every point, so that nothing is lost by a mean."""
    net = jb.Network.random([3, 5, 2], "tanh", seed=9)
    G = jb.curvature(net, rng.normal(size=(7, 3)), np.zeros((7, 2)), SQUARED).gauss_newton
    close(net, G.kronecker()[2].map.to_dense(), G.block(2).to_dense())


@every_kind
def test_inverse_of_kronecker_factors_undoes_them(net):
    X, Y = case(net)
    for factors in jb.curvature(net, X, Y, SQUARED).gauss_newton.kronecker().values():
        dense = factors.map.to_dense()
        damping = 0.1 * max(1.0, np.abs(dense).max())  # so that the condition is that of a few
        damped = dense + np.eye(len(dense), dtype=net.dtype) * net.dtype.type(damping)
        inverse = factors.inverse(damping)
        close(net, inverse @ damped, np.eye(len(dense)))
        assert inverse.dtype == net.dtype


# --- the Hessian ----------------------------------------------------------------------------------


def differences_of_the_gradient(net, X, Y, loss, step=1e-5):
    theta, columns = net.parameters, []
    for e in step * np.eye(len(theta)):
        up, down = (
            jb.backprop.gradients(net.with_parameters(t), X, Y, loss).vector
            for t in (theta + e, theta - e)
        )
        columns.append((up - down) / (2 * step))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("name", [n for n in KINDS if NETWORKS[n].dtype == np.float64])
def test_hessian_is_the_derivative_of_the_gradient(name):
    """Central differences of step 1e-5 are good to about 1e-9 of the largest entry."""
    net = NETWORKS[name]
    X, Y = case(net, 2)
    H = jb.curvature(net, X, Y, SQUARED, max_bytes=1).hessian
    expected = differences_of_the_gradient(net, X, Y, SQUARED)
    dense = H.to_dense()
    assert_within(dense, expected, 1e-7 * np.abs(expected).max())
    assert_equal(dense, dense.T)
    V = np.random.default_rng(1).normal(size=(len(dense), 2))
    close(net, H @ V, dense @ V, np.abs(dense).sum(axis=1).max())
    close(net, H.diagonal(), np.diag(dense), np.abs(dense).max())
    for l, span in spans(net).items():
        close(net, H.block(l).to_dense(), dense[span, span], np.abs(dense).max())


@every_end
def test_hessian_of_every_end_is_the_derivative_of_the_gradient(last, loss, rng):
    net = jb.Network.random([3, 5, 4], "gelu", last, seed=10)
    X, Y = rng.normal(size=(4, 3)), targets(loss, 4, 4, rng)
    expected = differences_of_the_gradient(net, X, Y, loss)
    H = jb.curvature(net, X, Y, loss).hessian.to_dense()
    # differences good to 1e-9 of the largest entry, as above
    assert_within(H, expected, 1e-7 * np.abs(expected).max())


def test_hessian_is_gauss_newton_where_nothing_is_left_over():
    """At a perfect fit the cotangent is 0, and what layers bend does not count: bit for bit."""
    net = NETWORKS["norms"]
    X, V = points(net, 3), np.eye(net.parameter_count)[:, :4]
    c = jb.curvature(net, X, jb.trace(net, X).output, SQUARED)
    assert_equal(c.hessian @ V, c.gauss_newton @ V)


def test_hessian_of_a_product_of_two_numbers():
    """``C = (v w x - y)²/2``: with x = 2, y = 1, w = 3, v = 5 all entries by hand.

    Parameters are (w, b, v, c); u = w x + b = 6, residual r = v u + c - y = 29.
    """
    net = jb.Network([jb.Dense([[3.0]], [0.0]), jb.Dense([[5.0]], [0.0])])
    x, u, v, r = 2, 6, 5, 29
    J = np.array([v * x, v, u, 1])
    bend = np.zeros((4, 4))
    bend[0, 2] = bend[2, 0] = x  # d²(v u)/dw dv
    bend[1, 2] = bend[2, 1] = 1
    H = jb.curvature(net, [2.0], [1.0], SQUARED).hessian
    assert_equal(H.to_dense(), np.outer(J, J) + r * bend)


@settings(max_examples=25)
@given(st.data())
def test_curvature_of_drawn_graphs(data):
    """Gauss-Newton by its definition; the Hessian symmetric, and a quadratic form's derivative."""
    net = data.draw(graphs(max_nodes=5))
    X = np.stack([data.draw(points_of(net)) for _ in range(2)])
    if not net.parameter_count:
        return
    Y = np.ones((2, net.widths[-1]))
    c = jb.curvature(net, X, Y, SQUARED)
    J = jacobians_of(net, X)
    expected = np.einsum("bmp,bmq->pq", J, J) / 2
    # the largest product of absolute values that meet inside bounds what rounding can do
    scale = np.abs(expected).max() + 1
    close(net, c.gauss_newton.to_dense(), expected, 1e3 * scale)
    H = c.hessian @ np.eye(len(expected))
    close(net, H, H.T, 1e3 * (np.abs(H).max() + scale))


def torch_case(kind):
    """Return a network and the same as a function of its parameters in torch."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(11)
    if kind == "dense":
        net = jb.Network.random([3, 4, 2], "tanh", seed=12)

        def value(W, b, V, c, x):
            return torch.tanh(x @ W.T + b) @ V.T + c

    else:
        K, V = rng.normal(size=(2, 1, 3)), rng.normal(size=(2, 8))
        layers = [jb.Convolution(K, np.zeros(2), "silu"), jb.Dense(V, np.zeros(2))]
        net = jb.Network(layers, inputs=(1, 6))

        def value(K, b, V, c, x):
            z = torch.nn.functional.conv1d(x.reshape(-1, 1, 6), K, b)
            return torch.nn.functional.silu(z).reshape(-1, 8) @ V.T + c

    return torch, net, value


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_hessian_is_that_of_torch(kind):
    torch, net, value = torch_case(kind)
    X, Y = case(net, 3)
    shapes = [p.shape for layer in net.layers for p in layer.parameters().values()]

    def objective(theta):
        start, arrays = 0, []
        for m, *rest in shapes:  # vec stacks columns, of kernels those of one row per channel
            n = int(np.prod(rest, dtype=int))
            arrays.append(theta[start : start + m * n].reshape(n, m).T.reshape(m, *rest))
            start += m * n
        residual = value(*arrays, torch.tensor(X)) - torch.tensor(Y)
        return (residual**2).sum() / 2 / len(X)

    expected = torch.autograd.functional.hessian(objective, torch.tensor(net.parameters)).numpy()
    close(net, jb.curvature(net, X, Y, SQUARED).hessian.to_dense(), expected)


# --- memory and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["diagonal", "kronecker"])
def test_no_derivative_of_all_parameters_is_formed(structure):
    """80,800 parameters, 300 outputs, 8 points: J would take 1.5 GB; one point's, 190 MB."""
    net = jb.Network.random([100, 200, 300], "tanh", seed=15)
    X = np.random.default_rng(16).normal(size=(8, 100))
    tracemalloc.start()
    try:
        posterior = jb.laplace(net, X, net(X), SQUARED, structure, max_bytes=2**22)
        variance = posterior.variance(X)
        c = jb.curvature(net, X, net(X), SQUARED, max_bytes=2**22)
        c.gauss_newton @ np.ones(net.parameter_count)
        c.gauss_newton.diagonal()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert variance.shape == (8, 300)
    assert peak < 32 * 2**20


NET = jb.Network.random([3, 4, 2], "tanh", seed=17)
HERE, FIT = np.ones((2, 3)), np.ones((2, 2))
POSTERIOR = jb.laplace(NET, HERE, FIT, SQUARED)


class Absolute(jb.Loss):
    def value(self, output, target):
        return np.abs(output - target).sum(axis=-1)

    def cotangent(self, output, target):
        return np.sign(output - target)


LABELS = jb.Network.random([3, 2], output_activation="softmax", seed=0)


def at_hand(*given, **named):
    return jb.curvature(NET, HERE, *given, **named)


def posterior(**named):
    return jb.laplace(NET, HERE, FIT, SQUARED, **named)


def bars(net=NET, **named):
    return jb.error_bars(net, HERE, **named)


EMPTY = jb.Network([jb.Elementwise("sin")], inputs=(3,))
ERRORS = [
    (lambda: jb.curvature(NET, np.ones((0, 3))), ValueError, "mean over no points"),
    (lambda: jb.curvature(EMPTY, HERE), ValueError, "has no parameters"),
    (lambda: jb.curvature(None, HERE), TypeError, "curvature"),
    (lambda: at_hand().fisher, ValueError, "give loss="),
    (lambda: at_hand(FIT, "mse"), TypeError, "SquaredError"),
    (lambda: at_hand(FIT), ValueError, "without a loss"),
    (lambda: at_hand(FIT, SQUARED, max_bytes=0), ValueError, "max_bytes: expected at least 1"),
    (lambda: at_hand(loss=SQUARED).hessian, ValueError, "needs targets"),
    (lambda: at_hand(FIT[:1], SQUARED), jb.ShapeError, "expected the shape of the output"),
    (lambda: at_hand(FIT, Absolute()).gauss_newton.trace(), NotImplementedError, r"root\(output, "),
    (
        lambda: at_hand(FIT, Absolute()).fisher.trace(),
        NotImplementedError,
        r"fisher_root\(output\)",
    ),
    (lambda: at_hand(loss=SQUARED).fisher @ np.ones(3), jb.ShapeError, r"expected shape \(26,\)"),
    (lambda: at_hand(loss=SQUARED).fisher.block(3), ValueError, "from 1 to 2"),
    (lambda: at_hand().ntk(np.ones(4)), jb.ShapeError, "ntk: other"),
    (lambda: at_hand(loss=SQUARED).fisher.kronecker()[1].inverse(0), ValueError, "a positive"),
    (lambda: posterior(structure="low rank"), ValueError, "expected one of .*kronecker"),
    (lambda: posterior(prior_precision=0), ValueError, "prior_precision: expected a positive"),
    (lambda: jb.laplace(LABELS, HERE, [0, 1], jb.CrossEntropy(), noise=2), ValueError, "has none"),
    (lambda: jb.laplace(NET, HERE, None, SQUARED), ValueError, "needs targets"),
    (lambda: bars(LABELS, parameters=POSTERIOR), ValueError, "another network"),
    (lambda: bars(parameters=0.1), TypeError, "expected a Posterior"),
    (lambda: bars(std=np.ones(3), parameters=POSTERIOR), ValueError, "expected one of"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_what_does_not_fit_is_refused_with_a_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_callers_arrays_are_copied():
    X, Y = HERE.copy(), FIT.copy()
    hessian, kernel = jb.curvature(NET, X, Y, SQUARED).hessian, jb.curvature(NET, X).ntk(X)
    expected = hessian.to_dense(), kernel.to_dense()
    X[:], Y[:] = 7.0, 8.0
    assert_equal(hessian.to_dense(), expected[0])
    assert_equal(kernel.to_dense(), expected[1])


def test_a_block_that_does_not_fit_is_refused():
    net = jb.Network([jb.Dense(np.ones((2, 9)))])
    G = jb.curvature(net, np.ones((1, 9)), loss=SQUARED).fisher
    with jb.dense_limit(500), pytest.raises(jb.TooLargeError, match=r"A of layer 1.*diagonal"):
        G.kronecker()


def test_a_layer_without_parameters_has_no_block():
    net = jb.Network([jb.Elementwise("sin"), jb.Dense([[1.0, 2.0]])], inputs=(2,))
    with pytest.raises(ValueError, match=r"block: layer 1 .* has no parameters"):
        jb.curvature(net, [1.0, 2.0], loss=SQUARED).fisher.block(1)


@pytest.mark.parametrize("loss", [jb.CrossEntropy(), jb.SquaredError()])
def test_curvature_and_its_maps_are_the_same_from_a_pickle(loss):
    """Also after a product, for which what was seen at the points was kept."""
    net = NETWORKS["softmax output"]
    X = points(net, 5)
    c = jb.curvature(net, X, net(X), loss)
    v = np.ones(net.parameter_count)
    for name in ("hessian", "gauss_newton", "fisher", "empirical_fisher"):
        mine = getattr(c, name)
        product = mine @ v
        assert_equal(pickle.loads(pickle.dumps(mine)) @ v, product)
        assert_equal(getattr(pickle.loads(pickle.dumps(c)), name) @ v, product)
    kernel = c.ntk(X[:2])
    assert_equal(pickle.loads(pickle.dumps(kernel)).to_dense(), kernel.to_dense())
    assert_equal(pickle.loads(pickle.dumps(c.gradients())).to_dense(), c.gradients().to_dense())


@pytest.mark.parametrize("name", ["softmax output", "norms", "convolutions and pools"])
def test_the_kernel_with_no_points_has_no_columns(name):
    net = NETWORKS[name]
    X, m = points(net, 3), net.widths[-1]
    kernel = jb.curvature(net, X).ntk(X[:0])
    assert kernel.to_dense().shape == (3 * m, 0)
    assert kernel.T.to_dense().shape == (0, 3 * m)
    assert_equal(kernel @ np.zeros((0, 2)), np.zeros((3 * m, 2)))
    assert (kernel.T @ np.ones((3 * m, 2))).shape == (0, 2)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_the_fisher_root_of_class_probabilities_is_that_of_the_cotangents(p):
    """F Fᵀ is the mean of c cᵀ over targets drawn with the probabilities of the output."""
    yes_or_no, classes = jb.BinaryCrossEntropy(fuse=False), jb.CrossEntropy(fuse=False)
    a = np.array([[p, 0.25]])
    root = yes_or_no.fisher_root(a).to_dense()[0]
    draws = [(y, np.prod(np.where(y, a[0], 1 - a[0]))) for y in np.ndindex(2, 2)]
    cs = [(yes_or_no.cotangent(a, np.array([y], float))[0], chance) for y, chance in draws]
    mean = sum(chance * np.outer(c, c) for c, chance in cs)
    assert np.abs(root @ root.T - mean).max() < 1e-13  # a few roundings of numbers up to 12
    a = np.array([[p, 1 - p]])
    root = classes.fisher_root(a).to_dense()[0]
    cs = [classes.cotangent(a, y[None])[0] for y in np.eye(2)]
    mean = sum(chance * np.outer(c, c) for c, chance in zip(cs, a[0], strict=True))
    assert np.abs(root @ root.T - mean).max() < 1e-13
