"""What the strategies promise: bounded, varied, exact where they say so, shrinking well."""

import numpy as np
from hypothesis import find, given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians import strategies as jst

simplest = settings(database=None, max_examples=2000, deadline=None)


@given(jst.networks(max_depth=3, max_width=5, bound=1.5))
def test_networks_are_bounded(net):
    dense = [layer for layer in net.layers if isinstance(layer, jb.Dense)]
    assert 1 <= len(dense) <= 3
    assert max(net.widths) <= 5
    assert max(np.abs(net.parameters)) <= 1.5


@given(st.data())
def test_points_and_batches_fit_their_network(data):
    net = data.draw(jst.networks(dtypes=(np.float32, np.float64)))
    x, X = data.draw(jst.points(net)), data.draw(jst.batches(net))
    assert (x.shape, x.dtype) == ((net.widths[0],), net.dtype)
    assert X.shape[1:] == (net.widths[0],)
    assert len(X) <= 4
    assert net(X).shape == (len(X), net.widths[-1])


@given(jst.exact_networks(), st.data())
def test_exact_networks_need_fewer_than_53_bits(net, data):
    """max(P) over the finest granularity stays below 2^53, so no partial result is rounded."""
    lin = jb.linearize(net, data.draw(jst.whole_points(net)))
    paths = np.eye(net.widths[0])
    for A in reversed([A.magnitude() for A in lin.factors]):
        paths = A.apply(paths)
    finest = 2.0 ** (-4 * net.depth)  # weights are multiples of 1/4, slopes of 1/4
    assert paths.max(initial=0.0) / finest < 2**53
    for z in lin.trace.preactivations:
        assert np.array_equal(z / finest, np.round(z / finest))


@given(jst.ill_scaled_networks())
def test_ill_scaled_networks_span_the_decades(net):
    for layer in net.layers:
        assert 0 < np.abs(layer.W).max() < 1e10


@given(jst.problems())
def test_problems_are_accepted_by_both_gradients(problem):
    assert np.isfinite(jb.backprop.gradients(*problem).loss)
    assert problem.loss.targets(problem.Y, problem.net(problem.X)).shape == problem.Y.shape


@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_linear_maps_have_the_shape_that_was_asked_for(data, m, n):
    A = data.draw(jst.linear_maps(m, n, batch=2))
    assert A.shape == (m, n)
    assert A.batch in ((), (2,))


def kinds_drawn(strategy, kinds_of, count):
    """Collect the names of everything that a strategy draws."""
    drawn = set()

    @settings(max_examples=count, database=None, deadline=None)
    @given(strategy)
    def collect(value):
        drawn.update(type(part).__name__ for part in kinds_of(value))

    collect()
    return drawn


def test_every_kind_of_map_is_drawn():
    kinds = {"Identity", "Matrix", "Diagonal", "DiagonalPlusLowRank", "Kronecker", "Product"}
    kinds |= {"Blocks", "Commutation", "Duplication", "Elimination", "Scatter"}
    assert kinds <= kinds_drawn(jst.linear_maps(), lambda A: [A], 1000)


def test_every_loss_and_layer_is_drawn():
    kinds = {"Dense", "Scale", "Elementwise", "SquaredError", "BinaryCrossEntropy", "CrossEntropy"}
    assert kinds <= kinds_drawn(jst.problems(), lambda p: [p.loss, *p.net.layers], 200)


def test_failures_shrink_to_one_layer_of_one_unit_with_weight_zero():
    net = find(jst.networks(), lambda net: True, settings=simplest)
    assert net.widths == (1, 1)
    assert net.parameters.tolist() == [0.0, 0.0]
    assert net.layers[0].activation.name == "identity"


def test_half_of_the_widths_are_pairwise_different():
    drawn = []

    @settings(max_examples=200, database=None, deadline=None)
    @given(jst.widths())
    def collect(widths):
        drawn.append(widths)

    collect()
    different = sum(len(set(widths)) == len(widths) for widths in drawn)
    assert different > len(drawn) / 3
    assert any(len(set(widths)) < len(widths) for widths in drawn)
