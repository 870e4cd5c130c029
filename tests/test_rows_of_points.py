"""The rows that curvature is made of: how many points a budget holds, and what is kept of them."""

import numpy as np
import pytest
from claims import assert_equal
from curvature_cases import (
    SQUARED,
    before_last_activation,
    case,
    close,
    gradients_of,
    jacobians_of,
)
from zoo import NETWORKS, dense, points

import jacobians as jb

NAMES = [
    "softmax output",
    "norms",
    "attention with heads",
    "float32",
    "scales and elementwise layers",
]
some_networks = pytest.mark.parametrize("net", [NETWORKS[name] for name in NAMES], ids=NAMES)


def rows_of(net, count, max_bytes):
    """The rows ``J``, of every output by itself."""
    X, Y = case(net, count)
    return jb.curvature(net, X, Y, SQUARED, max_bytes=max_bytes).gauss_newton.rows


def explicit_parameters(net):
    """Count those of layers whose rows are no Kronecker products: norms, tokens, scales."""
    plain = [type(A) is jb.Dense and A.rows == 1 for A in net.layers]
    sizes = [sum(p.size for p in A.parameters().values()) for A in net.layers]
    return sum(size for size, one in zip(sizes, plain, strict=True) if not one)


def ways(net):
    """Yield how rows are asked for, and how many numbers a point then has at once.

    Four of every unit for each column or row, and a copy of rows that are written out.
    """
    units, m, p = sum(net.widths), net.widths[-1], net.parameter_count
    for k in (0, 1, 2, 5):
        yield lambda rows, k=k: rows.pieces(k), 4 * units * max(k, 1)
    yield lambda rows: rows.by_layer(), m * (4 * units + 2 * explicit_parameters(net))
    yield lambda rows: rows.joined(), m * (4 * units + 4 * p)


@some_networks
def test_as_many_points_go_together_as_the_budget_holds(net):
    """To the byte; at least one, and the rest of them last."""
    for ask, numbers in ways(net):
        size = numbers * net.dtype.itemsize
        for budget, count in (
            (1, 1),
            (2 * size - 1, 1),
            (2 * size, 2),
            (3 * size, 3),
            (5 * size, 5),
        ):
            cuts = [piece[0] for piece in ask(rows_of(net, 5, budget))]
            assert cuts == [slice(k, min(k + count, 5)) for k in range(0, 5, count)]
    size = 4 * sum(net.widths) * net.widths[-1] * net.dtype.itemsize  # nothing is written out
    for budget, counts in ((3 * size, [3, 2]), (3 * size - 1, [2, 2, 1])):
        pieces = rows_of(net, 5, budget).outer_products()
        assert [len(next(iter(pairs))[1]) for pairs in pieces] == counts


@some_networks
@pytest.mark.parametrize("count", [1, 4])
def test_what_was_seen_at_the_points_is_kept_where_all_of_them_fit(net, count):
    """For the next product, whatever its columns; in pieces it is seen again."""
    size = 4 * sum(net.widths) * net.dtype.itemsize
    rows = rows_of(net, count, count * size)
    seen = [next(iter(rows.pieces(1)))[1] for _ in range(2)]
    assert seen[0] is seen[1]
    if count > 1:
        rows = rows_of(net, count, count * size - 1)
        assert next(iter(rows.pieces(1)))[1] is not next(iter(rows.pieces(1)))[1]


@some_networks
def test_rows_of_points_are_their_jacobians_in_pieces_of_any_size(net):
    X, _ = case(net, 5)
    J = jacobians_of(net, X).reshape(-1, net.parameter_count)
    V = np.random.default_rng(0).normal(size=(J.shape[1], 2)).astype(net.dtype)
    U = np.random.default_rng(1).normal(size=(J.shape[0], 2)).astype(net.dtype)
    for max_bytes in (1, 2 * 8 * sum(net.widths) * net.dtype.itemsize, 2**27):
        R = rows_of(net, 5, max_bytes)
        assert R.shape == J.shape
        for made, expected in ((R.to_dense(), J), (R @ V, J @ V), (R.T @ U, J.T @ U)):
            assert made.dtype == net.dtype
            close(net, made, expected)


@pytest.mark.parametrize("widths", [[3, 4], [3, 6, 4], [3, 5, 6, 4], [3, 4, 2, 5, 4]], ids=str)
@pytest.mark.parametrize("last", ["softmax", "sigmoid", "tanh"])
def test_a_loss_meets_its_activation_at_any_depth(widths, last):
    """Gauss-Newton and Fisher before the last activation, by its slopes; gradients and evidence."""
    net = dense(widths, "tanh", last)
    X, m = points(net, 3), widths[-1]
    Y = np.eye(m)[[0, 2, 1]]
    loss = {"softmax": jb.CrossEntropy(), "sigmoid": jb.BinaryCrossEntropy()}.get(last, SQUARED)
    end = before_last_activation(net) if loss != SQUARED else net
    H = []
    for a in net(X):
        H.append({"softmax": np.diag(a) - np.outer(a, a), "sigmoid": np.diag(a - a * a)}.get(last))
    H = np.stack([np.eye(m) if A is None else A for A in H])
    J = jacobians_of(end, X)
    expected = np.einsum("bmp,bmn,bnq->pq", J, H, J) / 3
    c = jb.curvature(net, X, Y, loss, max_bytes=1)
    V, U = (np.random.default_rng(m).normal(size=(n, 2)) for n in (len(expected), 3 * m))
    for matrix in (c.gauss_newton, c.fisher):
        R = matrix.rows.to_dense()
        close(net, matrix.to_dense(), expected)
        close(net, matrix @ V, expected @ V, np.abs(expected).sum(axis=1).max())
        close(net, matrix.rows @ V, R @ V)
        close(net, matrix.rows.T @ U, R.T @ U)
    close(net, c.gradients().to_dense(), gradients_of(net, X, Y, loss))
    close(
        net,
        c.ntk().to_dense(),
        np.einsum("bmp,cnp->bmcn", *[jacobians_of(net, X)] * 2).reshape(3 * m, -1),
    )
    likelihood = jb.laplace(net, X, Y, loss).log_likelihood
    normal = np.log(2 * np.pi) / 2 * Y.size if loss == SQUARED else 0
    total = 3 * jb.backprop.gradients(net, X, Y, loss).loss
    # the same few sums in another order
    assert likelihood == pytest.approx(-total - normal, rel=1e-13)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_rows_are_kronecker_products_where_a_layer_has_one_position(tokens):
    """And sums of them over the positions, written out, where it has more."""
    rng = np.random.default_rng(tokens)
    layers = [jb.Dense(rng.normal(size=(4, 3)), rng.normal(size=4)), jb.Elementwise("tanh")]
    net = jb.Network([*layers, jb.Dense(rng.normal(size=(2, 4)))], inputs=(tokens, 3))
    rows = rows_of(net, 3, 2**27)
    J = jacobians_of(net, points(net, 3)).reshape(-1, net.parameter_count)
    close(net, rows.to_dense(), J)
    widths = {1: 4, 3: 4} if tokens == 1 else {1: 0, 3: 0}
    assert rows.lefts == widths
    for _, pieces in rows.by_layer():
        assert {l: K.left.shape for l, K in pieces} == {l: (3, n or 1) for l, n in widths.items()}


def test_rows_of_no_points_are_none():
    net = NETWORKS["norms"]
    left = jb.curvature(net, np.ones((1, 4))).ntk(np.empty((0, 4)))
    assert_equal(left.right.to_dense(), np.empty((0, net.parameter_count)))
