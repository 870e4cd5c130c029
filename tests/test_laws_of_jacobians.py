"""Laws 3, 4 and 6: four computations of one Jacobian, compositions, batches."""

import numpy as np
import pytest
from claims import assert_equal, assert_within, product_bound
from hypothesis import given
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.engine import jacobian_at
from jacobians.linearization import parameter_maps
from jacobians.maps import multiply_out
from jacobians.rounding import chain_bound

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())


def computations(lin, order=None):
    """Every computation of dH/dx at one trace, but for the explicit one."""
    net, trace = lin.trace.network, lin.trace
    m, n = net.widths[-1], net.widths[0]
    lead = trace.batch
    return {
        "maps": lin.jacobian(),
        "chain in a drawn order": np.broadcast_to(multiply_out(lin.factors, order), (*lead, m, n)),
        "engine": np.broadcast_to(jacobian_at(trace, jb.plan(net)), (*lead, m, n)),
        "columns of JVPs": np.stack(
            [lin.jvp(np.broadcast_to(e, (*lead, n))) for e in np.eye(n)], axis=-1
        ),
        "rows of VJPs": np.stack(
            [lin.vjp(np.broadcast_to(e, (*lead, m))) for e in np.eye(m)], axis=-2
        ),
        "backprop": jb.backprop.jacobian(trace),
    }


def orders(count):
    """Draw nested pairs: every way to put brackets into a product of so many factors."""

    def split(i, j):
        if j - i == 1:
            return st.just(i)
        return st.integers(i + 1, j - 1).flatmap(lambda s: st.tuples(split(i, s), split(s, j)))

    return split(0, count)


def formed(net):
    """Roundings in the entries of layers' matrices: ways of writing them may differ by these."""
    return sum(layer.formed for layer in net.layers)


def assert_computations_agree(net, x, order=None):
    lin = jb.linearize(net, x)
    bound = chain_bound(lin.factors, net.dtype)
    assert not np.any(bound.overflow)
    written_out = jb.explicit.input_jacobian(lin.trace)
    for J in computations(lin, order).values():
        assert J.dtype == net.dtype
        assert_within(J, written_out, bound.pair(formed(net)))


# --- law 3 ----------------------------------------------------------------------------------------


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_diagonal_times_matrix_is_row_scaling_bit_for_bit(data, m, n):
    """diag(d) W = d[:, None] * W, for all finite numbers."""
    numbers = st.floats(-1e150, 1e150)
    d = np.array(data.draw(st.lists(numbers, min_size=m, max_size=m)))
    W = np.array(data.draw(st.lists(numbers, min_size=m * n, max_size=m * n))).reshape(m, n)
    assert_equal(np.diag(d) @ W, d[:, None] * W)
    assert_equal(jb.Diagonal(d) @ W, d[:, None] * W)
    assert_equal((jb.Diagonal(d) @ jb.Matrix(W)).to_dense(), d[:, None] * W)


# --- law 4 ----------------------------------------------------------------------------------------


@every_network
def test_all_computations_agree_within_the_bound(net):
    for x in points(net, 3):
        assert_computations_agree(net, x)


@given(st.data())
def test_all_computations_agree_on_drawn_networks_in_every_order(data):
    net = data.draw(jst.networks(dtypes=(np.float64, np.float32)))
    lin = jb.linearize(net, data.draw(jst.points(net)))
    order = data.draw(orders(len(lin.factors)))
    assert_computations_agree(net, lin.trace, order)


@given(st.data())
def test_all_computations_are_equal_on_exact_networks(data):
    """Whole numbers and powers of two: not one bit may differ."""
    net = data.draw(jst.exact_networks())
    lin = jb.linearize(net, data.draw(jst.whole_points(net)))
    written_out = jb.explicit.input_jacobian(lin.trace)
    order = data.draw(orders(len(lin.factors)))
    for J in computations(lin, order).values():
        assert_equal(J, written_out)


@every_network
def test_parameter_jacobians_agree_with_the_explicit_ones(net):
    """dH/dvec(theta) = dH/dz^l dz^l/dvec(theta), for a dense layer aᵀ ⊗ dH/dz."""
    lin = jb.linearize(net, points(net, 1)[0])
    for l, layer in enumerate(net.layers, start=1):
        maps = parameter_maps(layer, *lin.trace.entering(l))
        for name in layer.parameters():
            factors = [*lin.between(net.depth, l), lin.activation_map(l), maps[name]]
            bound = chain_bound(factors, net.dtype).pair(extra=1 + formed(net))
            J = jb.explicit.preactivation_jacobian(lin.trace, l)
            written = J @ jb.explicit.preactivation_parameter_jacobian(lin.trace, l, name)
            assert_within(lin.parameter_map(l, name).to_dense(), written, bound)


@given(st.data())
def test_parameter_jacobian_is_exact_on_exact_networks(data):
    """One row of blocks, in the order of Network.parameters."""
    net = data.draw(jst.exact_networks(max_depth=3))
    lin = jb.linearize(net, data.draw(jst.whole_points(net)))
    J = lin.parameter_jacobian()
    assert J.shape == (net.widths[-1], net.parameter_count)
    assert_equal(J.to_dense(), jb.explicit.parameter_jacobian(lin.trace))
    u = np.arange(1.0, net.widths[-1] + 1)
    assert_equal(J.T @ u, u @ J.to_dense())


def test_the_input_does_not_depend_on_the_parameters():
    net = NETWORKS["one layer"]
    for X in (points(net, 1)[0], points(net, 2)):
        J = jb.linearize(net, X).parameter_jacobian(of=0)
        assert J.shape == (net.widths[0], net.parameter_count)
        assert not J.to_dense().any()


@given(st.data())
def test_weight_derivative_applied_to_the_weights_gives_the_preactivation(data):
    """(aᵀ ⊗ I) vec(W) = W a, exactly on whole numbers."""
    net = data.draw(jst.exact_networks())
    trace = jb.trace(net, data.draw(jst.whole_points(net)))
    for l, layer in enumerate(net.layers, start=1):
        K = jb.explicit.preactivation_weight_jacobian(trace, l)
        assert_equal(K @ jb.vec(layer.W) + layer.b, trace.preactivation(l))


# --- law 6 ----------------------------------------------------------------------------------------


@given(st.data())
def test_blocks_between_layers_multiply(data):
    """J(l, k) = J(l, j) J(j, k), exactly on exact networks."""
    net = data.draw(jst.exact_networks())
    lin = jb.linearize(net, data.draw(jst.whole_points(net)))
    k, j, l = sorted(data.draw(st.lists(st.integers(0, net.depth), min_size=3, max_size=3)))
    whole = lin.jacobian(of=l, wrt=k)
    assert_equal(whole, lin.jacobian(of=l, wrt=j) @ lin.jacobian(of=j, wrt=k))
    assert_equal(whole, jb.explicit.input_jacobian(lin.trace, of=l, wrt=k))
    assert_equal(whole, jb.jacobian(net, lin.trace.activation(0), of=l, wrt=k))
    assert whole.shape == (net.widths[l], net.widths[k])


@given(st.data())
def test_jacobian_of_a_composition_is_the_product(data):
    """d(G ∘ H)/dx = dG/dH dH/dx."""
    H = data.draw(jst.networks(max_depth=2, last=jst.HIDDEN, only_dense=True))
    W = data.draw(jst.matrices(3, H.widths[-1], bound=2.0))
    G = jb.Network([jb.Dense(W, activation="tanh")])
    both = jb.Network([*H.layers, *G.layers])
    x = data.draw(jst.points(H))
    lin = jb.linearize(both, x)
    # at the same a^k: another order of summation in H would be another point for G
    outer = jb.linearize(G, lin.trace.activation(H.depth)).jacobian()
    inner = jb.linearize(H, x).jacobian()
    bound = chain_bound(lin.factors, np.float64)
    assert_within(lin.jacobian(), outer @ inner, bound.pair())


@given(st.data())
def test_a_batch_is_a_stack_of_points(data):
    """At the same trace: the batch's Jacobian is the stack of the points' Jacobians."""
    net = data.draw(jst.networks())
    X = data.draw(jst.batches(net))
    lin = jb.linearize(net, X)
    J = lin.jacobian()
    assert J.shape == (len(X), net.widths[-1], net.widths[0])
    for i in range(len(X)):
        point = jb.linearize(net, lin.trace.point(i))
        bound = chain_bound(point.factors, net.dtype).pair()
        assert_within(J[i], point.jacobian(), bound)
        assert_within(jb.backprop.jacobian(lin.trace)[i], J[i], bound)


@given(st.data())
def test_a_batch_of_whole_points_is_exactly_a_stack_of_points(data):
    net = data.draw(jst.exact_networks())
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(3)])
    J = jb.jacobian(net, X)
    value, again = jb.value_and_jacobian(net, X)
    for x, y, each, same in zip(X, value, J, again, strict=True):
        assert_equal(each, jb.jacobian(net, x))
        assert_equal(same, each)
        assert_equal(y, net(x))


@every_network
def test_jvp_and_vjp_are_adjoint(net):
    """<u, J v> = <Jᵀ u, v> within K + n_0 + n_L roundings."""
    rng = np.random.default_rng(5)
    lin = jb.linearize(net, points(net, 1)[0])
    u = rng.standard_normal(net.widths[-1]).astype(net.dtype)
    v = rng.standard_normal(net.widths[0]).astype(net.dtype)
    ends = [jb.Matrix(u[None, :]), *lin.factors, jb.Matrix(v[:, None])]
    bound = chain_bound(ends, net.dtype).pair()[0, 0]
    assert_within(u @ lin.jvp(v), lin.vjp(u) @ v, bound)


def test_linear_networks_collapse_to_one_matrix():
    """With identity activations dH/dx = W^L ... W^1, whatever x is."""
    net = NETWORKS["linear"]
    product = net.layers[1].W @ net.layers[0].W
    bound = product_bound(net.layers[1].W, net.layers[0].W)
    for x in points(net, 3):
        assert_within(jb.jacobian(net, x), product, bound)


@pytest.mark.parametrize("count", [None, 3])
def test_a_jacobian_of_maps_is_refused_by_its_size(count):
    """Of all points, to the last byte; the way out is to keep the chain."""
    net = NETWORKS["square"].astype(np.float32)
    X = points(net, 3)
    lin = jb.linearize(net, X if count else X[0])
    size = 4 * (count or 1) * 4 * 4
    with jb.dense_limit(size):
        assert lin.jacobian().nbytes == size
    said = rf"Linearization.jacobian of a\^1 with respect to a\^0: .*{size} bytes.*Keep \.chain"
    with jb.dense_limit(size - 1), pytest.raises(jb.TooLargeError, match=said):
        lin.jacobian(of=1)


@every_network
def test_dtype_and_shape_are_kept(net):
    X = points(net, 4)
    m, n = net.widths[-1], net.widths[0]
    y, J = jb.value_and_jacobian(net, X)
    assert (y.dtype, J.dtype) == (net.dtype, net.dtype)
    assert (y.shape, J.shape) == ((4, m), (4, m, n))
    assert jb.jacobian(net, X[0]).shape == (m, n)
    assert jb.jacobian(net, X[:0]).shape == (0, m, n)
    assert jb.jacobian(net, X[:1]).shape == (1, m, n)
