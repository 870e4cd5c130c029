"""Laws of convolutions and pools: on whole numbers every method gives the same bits."""

from math import prod

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import assume, given
from hypothesis import strategies as st

import jacobians as jb
from jacobians import maps
from jacobians.maps import Windows

KINDS = (jb.Convolution, jb.TransposedConvolution)


def whole(rng, *shape):
    return rng.integers(-4, 5, shape).astype(float)


@st.composite
def placements(draw, pools=False):
    """Draw a grid and how windows stand over it: 1 to 3 axes, sizes of 1, strides beyond them."""
    axes = draw(st.sampled_from([1, 1, 2, 2, 3]))
    each = lambda *choices: tuple(draw(st.sampled_from(choices)) for _ in range(axes))  # noqa: E731
    size = each(1, 2, 3)
    pads = (0, 1) if pools else (0, 1, 2)
    padding = tuple((pad, pad) for pad in each(*pads))
    if pools:  # no window lies in the padding alone
        padding = tuple((min(pad, s - 1),) * 2 for (pad, _), s in zip(padding, size, strict=True))
    if draw(st.booleans()):
        padding = tuple((before, 0) for before, _ in padding)
    settings_ = {"stride": each(1, 2, 4), "padding": padding, "dilation": each(1, 1, 2)}
    return each(1, 3, 5) if axes < 3 else each(1, 3), size, settings_


@st.composite
def convolutions(draw, kinds=KINDS):
    """Draw a layer of whole numbers in a network, and three points."""
    grid, size, settings_ = draw(placements())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind, groups = draw(st.sampled_from(kinds)), draw(st.integers(1, 3))
    rows, c = draw(st.integers(1, 2)) * groups, draw(st.integers(1, 2))
    K = whole(rng, rows, c, *size)
    c_in, c_out = (groups * c, rows) if kind is jb.Convolution else (rows, groups * c)
    layer = kind(K, whole(rng, c_out), groups=groups, **settings_)
    try:
        net = jb.Network([layer], inputs=(c_in, *grid))
    except jb.ShapeError:
        assume(False)
    return net, whole(rng, 3, net.widths[0])


@st.composite
def pools(draw):
    grid, size, settings_ = draw(placements(pools=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        layer = jb.MaxPool(size, **settings_)
    else:
        del settings_["dilation"]
        layer = jb.AveragePool(size, **settings_, count_padding=draw(st.booleans()))
    try:
        net = jb.Network([layer], inputs=(draw(st.integers(1, 2)), *grid))
    except jb.ShapeError:
        assume(False)
    return net, whole(rng, 3, net.widths[0])


# --- one layer ------------------------------------------------------------------------------------


@given(convolutions())
def test_a_convolution_is_its_matrix(case):
    """z = A a + b, with A written by loops; the map agrees in both directions, for every column."""
    net, X = case
    layer, lin = net.layers[0], jb.linearize(net, X[0])
    A, written = lin.input_maps(1)[0], jb.explicit.layer_jacobian(lin.trace, 1)
    assert_equal(A.to_dense(), written)
    assert_equal(A.to_sparse().toarray(), written)
    b = np.repeat(layer.b, net.widths[1] // len(layer.b))
    assert_equal(net(X), X @ written.T + b)
    assert_equal(A @ X.T, written @ X.T)
    assert_equal(A.T.to_dense(), written.T)
    U = net(X)
    assert_equal(A.T @ U.T, written.T @ U.T)
    assert_equal(jb.backprop.jacobian(jb.trace(net, X)), np.stack([written] * 3))
    assert_equal(jb.jacobian(net, X), np.stack([written] * 3))


@given(convolutions())
def test_a_convolution_is_linear_in_its_kernel(case):
    """z = (dz/dvec K) vec K + (dz/db) b, at a point and at a batch."""
    net, X = case
    layer = net.layers[0]
    theta = net.parameters
    for x in (X[0], X):
        J = jb.linearize(net, x).parameter_jacobian()
        assert_equal(J @ theta, net(x))
        U = np.ones(net.widths[1])
        assert_equal(J.T @ U, np.swapaxes(J.to_dense(), -2, -1) @ U)
    written = jb.explicit.parameter_jacobian(jb.trace(net, X[0]))
    assert_equal(jb.linearize(net, X[0]).parameter_jacobian().to_dense(), written)
    assert_equal(net.with_parameters(2 * theta)(X), 2 * net(X))
    assert layer.K.shape == net.with_parameters(2 * theta).layers[0].K.shape


@given(convolutions())
def test_gradients_of_kernels_agree(case):
    net, X = case
    Y = np.zeros((len(X), net.widths[1]))
    swept = jb.backprop.gradients(net, X[:2], Y[:2], jb.SquaredError())
    written = jb.explicit.gradients(net, X[:2], Y[:2], jb.SquaredError())
    assert_equal(swept.vector, written.vector)
    assert_equal(swept.inputs, written.inputs)
    assert swept.parameters[0]["K"].shape == net.layers[0].K.shape


@given(convolutions(kinds=(jb.Convolution,)))
def test_the_kernel_derivative_is_that_of_a_dense_layer_with_patches_for_columns(case):
    """Z = K P, so dvec(Z) = (Pᵀ ⊗ I) dvec(K): aᵀ ⊗ I with a column for every position."""
    net, X = case
    layer = net.layers[0]
    assume(layer.groups == 1)
    c_out, positions = len(layer.K), prod(layer.windows.positions)
    a, index = X[0].reshape(layer.K.shape[1], -1), layer.windows.index
    P = np.where(index >= 0, a[:, index], 0.0).reshape(-1, positions)
    Z = (net(X[0]) - np.repeat(layer.b, positions)).reshape(c_out, positions)
    assert_equal(Z, layer.K.reshape(c_out, -1) @ P)
    dZ = jb.Commutation(c_out, positions).T @ jb.linearize(net, X[0]).weight_jacobian(1)
    assert_equal(dZ.to_dense(), np.kron(P.T, np.eye(c_out)))


@given(convolutions(kinds=(jb.Convolution,)))
def test_the_transposed_convolution_is_the_adjoint(case):
    """<K * x, y> = <x, K^T y> for layers with one kernel and no bias."""
    net, X = case
    layer = net.layers[0]
    extra = [
        (n + sum(pad) - d * (s - 1) - 1) % step
        for n, pad, d, s, step in zip(
            layer.grid, layer.padding, layer.dilation, layer.K.shape[2:], layer.stride, strict=True
        )
    ]
    back = jb.TransposedConvolution(
        layer.K,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        output_padding=extra,
    )
    other = jb.Network([back], inputs=net.shapes[1])
    assert other.shapes[1] == net.shapes[0]
    assert_equal(jb.jacobian(other, net(X[0])), jb.jacobian(net, X[0]).T)


@given(pools())
def test_a_pool_is_its_matrix(case):
    net, X = case
    for i, x in enumerate(X):
        lin = jb.linearize(net, x)
        written = jb.explicit.layer_jacobian(lin.trace, 1)
        assert_equal(lin.jacobian(), written)
        assert_equal(jb.linearize(net, X).jacobian()[i], written)
        assert_equal(jb.backprop.jacobian(lin.trace), written)
        if isinstance(net.layers[0], jb.MaxPool):
            assert_equal(net(x), written @ x)
            assert set(written.sum(axis=1)) == {1.0}  # rows of the identity
        else:
            # each term is divided or their sum, and a window's terms are small whole numbers
            np.testing.assert_allclose(net(x), written @ x, rtol=0, atol=64 * 2.0**-52)


def test_a_network_of_convolutions_and_pools_in_float32_keeps_its_dtype():
    from zoo import NETWORKS, points

    net = NETWORKS["convolutions and pools"].astype(np.float32)
    X = points(net, 4)
    assert jb.jacobian(net, X).dtype == net(X).dtype == np.float32
    assert jb.certify(net, X[0]).holds


# --- ties -----------------------------------------------------------------------------------------


def test_of_two_largest_entries_the_first_is_chosen_and_the_tie_is_a_kink():
    net = jb.Network([jb.MaxPool(2)], inputs=(1, 4))
    lin = jb.linearize(net, [3.0, 3.0, 1.0, 2.0])
    assert_equal(lin.jacobian(), [[1, 0, 0, 0], [0, 0, 0, 1]])
    (kink,) = lin.trace.kinks()
    assert (kink.layer, kink.unit, kink.at, kink.preactivation) == (1, 0, 3.0, 3.0)
    assert [kink.unit for kink in lin.trace.kinks(within=1.0)] == [0, 1]
    points = [[3.0, 3.0, 1.0, 2.0], [3.0, 2.0, 2.0, 2.0]]
    assert [(k.point, k.unit) for k in jb.trace(net, points).kinks()] == [(0, 0), (1, 1)]


def test_two_units_that_do_not_move_are_no_tie():
    """max(relu(z)) is flat where every z is negative; where one is positive it is no tie."""
    pooled = jb.Network([jb.Dense(np.eye(4), activation="relu"), jb.Reshape((1, 4)), jb.MaxPool(4)])
    direct = jb.Network([jb.Elementwise("relu"), jb.MaxPool(4)], inputs=(1, 4))
    assert jb.trace(direct, [-1.0, -2.0, -3.0, -1.0]).kinks() == ()
    assert jb.trace(direct, [-1.0, -2.0, 5.0, -1.0]).kinks() == ()
    assert [k.layer for k in jb.trace(direct, [5.0, -2.0, 5.0, -1.0]).kinks()] == [2]
    assert [k.layer for k in jb.trace(pooled, [5.0, -2.0, 5.0, -1.0]).kinks()] == [3]


def test_sensitivities_count_points_at_a_tie():
    net = jb.Network([jb.MaxPool(2)], inputs=(1, 4))
    record = jb.sensitivity(net, [[3.0, 3.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    assert record.kinks["at"] == 1


def test_padding_is_never_the_largest():
    net = jb.Network([jb.MaxPool(3, stride=1, padding=1)], inputs=(1, 3))
    assert_equal(net([-3.0, -2.0, -5.0]), [-2.0, -2.0, -2.0])


# --- size -----------------------------------------------------------------------------------------


def test_a_convolution_never_becomes_a_dense_matrix():
    """16 channels on 64x64 pixels: 6 GiB dense, half a kilobyte as a kernel."""
    A = maps.Convolution(np.ones((16, 3, 3, 3)), Windows((64, 64), (3, 3), padding=1))
    with pytest.raises(jb.TooLargeError, match="Keep the map"):
        A.to_dense()
    assert A.to_sparse().nnz == 16 * 3 * (3 * 64 - 2) ** 2
    x = np.zeros(A.shape[1])
    x[0] = 1.0
    assert (A @ x).sum() == 16 * 4  # a corner is met by four entries of the kernel
    assert A.flops == 2 * 16 * 27 * 64**2


def test_many_columns_go_through_in_pieces(monkeypatch):
    """Patches repeat every entry nine times, so they are made for a few points at a time."""
    rng = np.random.default_rng(0)
    A = maps.Convolution(whole(rng, 3, 2, 3, 3), Windows((5, 6), (3, 3), padding=1))
    X, U = whole(rng, 4, A.shape[1], 7), whole(rng, 4, A.shape[0], 7)
    for piece in (1, 4000, 40_000):
        monkeypatch.setattr("jacobians._windows.PIECE", piece)
        assert_equal(A.apply(X), A.to_dense() @ X)
        assert_equal(A.T.apply(U), A.to_dense().T @ U)


# --- PyTorch --------------------------------------------------------------------------------------


@given(convolutions())
def test_convolutions_are_those_of_pytorch(case):
    torch = pytest.importorskip("torch")
    net, X = case
    layer = net.layers[0]
    assume(all(before == after for before, after in layer.padding))
    transposed = isinstance(layer, jb.TransposedConvolution)
    f = getattr(torch.nn.functional, f"conv{'_transpose' * transposed}{len(layer.grid)}d")
    padding = [before for before, _ in layer.padding]
    K, b, x = (torch.from_numpy(np.array(A)) for A in (layer.K, layer.b, X))
    y = f(
        x.reshape(3, *net.shapes[0]),
        K,
        b,
        stride=layer.stride,
        padding=padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    assert tuple(y.shape[1:]) == net.shapes[1]
    assert_equal(net(X), y.reshape(3, -1).numpy())


@given(pools())
def test_pools_are_those_of_pytorch(case):
    torch = pytest.importorskip("torch")
    net, X = case
    layer, axes = net.layers[0], len(net.shapes[0]) - 1
    padding = [before for before, _ in layer.windows.padding]
    assume(all(b == a and 2 * b <= s for (b, a), s in zip(layer.padding, layer.size, strict=True)))
    assume(all(s <= n for s, n in zip(layer.size, net.shapes[0][1:], strict=True)))  # it insists
    X = X + np.arange(X.shape[1]) / 1024  # no ties: there PyTorch makes other choices
    x = torch.from_numpy(X).reshape(3, *net.shapes[0]).requires_grad_()
    if isinstance(layer, jb.MaxPool):
        f = getattr(torch.nn.functional, f"max_pool{axes}d")
        y = f(x, layer.size, layer.stride, padding, layer.dilation)
    else:
        f = getattr(torch.nn.functional, f"avg_pool{axes}d")
        y = f(x, layer.size, layer.stride, padding, count_include_pad=layer.count_padding)
    # a division before or after the sum, of numbers below 8
    np.testing.assert_allclose(net(X), y.detach().reshape(3, -1).numpy(), rtol=0, atol=1e-14)
    y.sum().backward()
    sums = jb.vjp(net, X, np.ones_like(net(X)))
    np.testing.assert_allclose(sums, x.grad.reshape(3, -1).numpy(), rtol=0, atol=1e-14)


def test_an_image_classifier_has_the_jacobian_that_pytorch_finds():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 6, 3, stride=2),
        torch.nn.Tanh(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(24, 5),
    ).double()
    first, _, _, second, _, _, _, last = module
    array = lambda p: p.detach().numpy()  # noqa: E731
    net = jb.Network(
        [
            jb.Convolution(array(first.weight), array(first.bias), "relu", padding=1),
            jb.MaxPool(2),
            jb.Convolution(array(second.weight), array(second.bias), "tanh", stride=2),
            jb.AveragePool(2),
            jb.Dense(array(last.weight), array(last.bias)),
        ],
        inputs=(1, 20, 18),
    )
    X = rng.normal(size=(3, 360))
    f = lambda x: module(x.reshape(1, 1, 20, 18)).reshape(-1)  # noqa: E731
    J = torch.func.vmap(torch.func.jacrev(f))(torch.from_numpy(X)).detach().numpy()
    # numbers of size 1, and sums of up to 36 terms in five layers: some hundred roundings
    assert np.abs(jb.jacobian(net, X) - J).max() < 1e-12


# --- what users get wrong -------------------------------------------------------------------------

K = np.ones((4, 2, 3, 3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jb.Convolution(np.ones((2, 2))), jb.ShapeError, "channels and 1, 2 or 3 axes"),
        (lambda: jb.Convolution(np.ones((2, 0, 3))), jb.ShapeError, "a kernel needs entries"),
        (lambda: jb.Convolution(K, groups=3), jb.ShapeError, "4 channels do not fall into 3"),
        (lambda: jb.Convolution(K, np.ones(2)), jb.ShapeError, "One bias for each channel"),
        (lambda: jb.TransposedConvolution(K, np.ones(4)), jb.ShapeError, r"expected shape \(2,\)"),
        (lambda: jb.Convolution(K, stride=0), ValueError, "stride: expected at least 1"),
        (lambda: jb.Convolution(K, stride=(1, 2, 3)), jb.ShapeError, "stride: expected 2 of them"),
        (lambda: jb.Convolution(K, padding=-1), ValueError, "padding: expected at least 0"),
        (lambda: jb.Convolution(K, padding=((1, 2, 3), 0)), jb.ShapeError, "padding: expected 2"),
        (lambda: jb.Convolution(K, dilation=1.5), TypeError, "dilation: expected a whole number"),
        (
            lambda: jb.TransposedConvolution(K, stride=2, output_padding=2),
            ValueError,
            "output_padding: expected less than the stride",
        ),
        (
            lambda: jb.Network([jb.Convolution(K)], inputs=(3, 5, 5)),
            jb.ShapeError,
            r"layer 1: Convolution 2 -> 4 3x3 identity: takes values of shape \(2, n, n\)",
        ),
        (lambda: jb.Network([jb.Convolution(K)], inputs=50), jb.ShapeError, "Reshape changes one"),
        (
            lambda: jb.Network([jb.Convolution(K)], inputs=(2, 5, 2)),
            jb.ShapeError,
            r"a window of size \(3, 3\) .* does not fit into a grid of \(5, 2\)",
        ),
        (
            lambda: jb.Network([jb.TransposedConvolution(K, padding=2)], inputs=(4, 1, 1)),
            jb.ShapeError,
            "nothing is left of a grid",
        ),
        (lambda: jb.Network([jb.MaxPool(2)], inputs=8), jb.ShapeError, r"shape \(channels, ...\)"),
        (
            lambda: jb.Network([jb.MaxPool(2, stride=1, padding=2)], inputs=(1, 4)),
            jb.ShapeError,
            "lies in the padding alone",
        ),
        (lambda: jb.Network([jb.MaxPool(9)], inputs=(1, 4)), jb.ShapeError, "does not fit into"),
        (lambda: maps.Convolution(K, Windows((5,), 3)), jb.ShapeError, "1 more axes"),
        (
            lambda: maps.Convolution(K, Windows((5, 5), 2)),
            jb.ShapeError,
            "does not fit windows of size",
        ),
    ],
)
def test_what_does_not_fit_says_where(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("kind", [jb.Convolution, jb.TransposedConvolution])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_acts_along_the_channels_of_every_position(kind, name):
    """The layer is its affine part, and then that function of each position's channels."""
    rng = np.random.default_rng(0)
    K, b = rng.normal(size=(3, 3, 2, 2)), rng.normal(size=3)
    X = rng.normal(size=(5, 3 * 4 * 3))
    alone, both = (
        jb.Network([kind(K, b, sigma)], inputs=(3, 4, 3)) for sigma in ("identity", name)
    )
    channels = np.moveaxis(alone(X).reshape(5, 3, -1), 1, -1)
    expected = np.moveaxis(jb.activation(name)(channels), -1, 1).reshape(5, -1)
    # the same formula, perhaps vectorized another way: a few units in the last place
    assert np.abs(both(X) - expected).max() <= 1e-14 * np.abs(expected).max()


@pytest.mark.parametrize("kind", [jb.Convolution, jb.TransposedConvolution])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bias_that_is_left_out_is_none(kind, dtype):
    bare = kind(np.ones((2, 3, 2, 2), dtype))
    c_in = 2 if kind.transposed else 3
    assert bare.b is None
    assert not jb.Network([bare], inputs=(c_in, 4, 4))(np.zeros(16 * c_in)).any()
