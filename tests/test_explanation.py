"""Why this prediction: contributions that are exact where they can be, and sum to what they must.

Witnesses: a walk from kink to kink in fractions, and the published definition of integrated
gradients, a sum over nodes of the segment (midpoints or Gauss-Legendre, as Captum takes them).
"""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from claims import assert_equal, assert_within
from drawn_graphs import graphs, points_of
from exact_maps import fractions
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians.explanation import paths, quadrature, segments

JUMPS = ("sign hidden", "floor hidden")  # not continuous, so no integral of slopes is complete
POLES = ("reciprocal hidden",)  # the integral does not exist

# --- witnesses ------------------------------------------------------------------------------------

PIECES = {  # places of the kinks, and the slopes between them
    "identity": ((), (1,)),
    "relu": ((0,), (0, 1)),
    "abs": ((0,), (-1, 1)),
    "relu6": ((0, 6), (0, 1, 0)),
    "hard_tanh": ((-1, 1), (0, 1, 0)),
}


def piece(name, z):
    """Return slope and value of an activation of whole kinks at a fraction."""
    kinks, slopes = PIECES[name]
    slope = slopes[sum(z > kink for kink in kinks)]
    value = {"relu6": min(max(z, 0), 6), "hard_tanh": min(max(z, -1), 1), "abs": abs(z)}
    return slope, value.get(name, z * slope)


def walked(layers, start, stop):
    """Walk from kink to kink in fractions and add up what every input contributes."""
    start, step = fractions(start), fractions(stop) - fractions(start)
    t, total = Fraction(0), 0
    while t < 1:
        end = Fraction(1)
        tiny = Fraction(1, 10**40)  # shorter than any piece of these small whole numbers
        a, slope_a, J = start + (t + tiny) * step, step, fractions(np.eye(len(step)))
        for W, b, name in layers:
            W = fractions(W)
            z, slope_z = W @ a + fractions(b), W @ slope_a
            for value, slope in zip(z, slope_z, strict=True):
                ahead = [t + tiny + (k - value) / slope for k in PIECES[name][0] if slope]
                end = min([end, *(kink for kink in ahead if kink > t + tiny)])
            slopes, a = np.array([piece(name, value) for value in z], dtype=object).T
            slope_a, J = slopes * slope_z, slopes[:, None] * (W @ J)
        total = total + (end - t) * J * step
        t = end
    return total


def riemann(net, start, stop, count):
    """The published definition at ``count`` midpoints, and the range of the integrand."""
    t = (np.arange(count) + 0.5) / count
    J = jb.jacobian(net, start + t[:, None] * (stop - start)) * (stop - start)
    return J.mean(axis=0), np.ptp(J, axis=0)


def gauss_legendre(net, start, stop, count):
    nodes, weights = np.polynomial.legendre.leggauss(count)
    J = jb.jacobian(net, start + (nodes[:, None] + 1) / 2 * (stop - start))
    return np.einsum("k,kij->ij", weights / 2, J) * (stop - start)


@st.composite
def whole_networks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    widths = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    layers = [
        (
            rng.integers(-3, 4, (m, n)),
            rng.integers(-3, 4, m),
            draw(st.sampled_from(sorted(PIECES))),
        )
        for n, m in pairwise(widths)
    ]
    return layers, *rng.integers(-3, 4, (2, widths[0]))


# --- exact ----------------------------------------------------------------------------------------


@given(whole_networks())
def test_whole_networks_give_what_a_walk_in_fractions_gives(case):
    layers, start, stop = case
    net = jb.Network([jb.Dense(*layer) for layer in layers])
    explanation = jb.explain(net, stop, start)
    assert explanation.method == "integrated gradients, exact"
    exact = walked(layers, start, stop)
    # a kink is off by a few roundings of its place, each piece by as many of a value below 1e5
    tolerance = (
        1e-15 * (explanation.paths.kinks + 4) * 1e3 + 1e-13 * np.abs(exact.astype(float)).max()
    )
    assert_within(explanation.contributions, exact.astype(float), tolerance)


def test_kinks_at_halves_and_quarters_lose_not_a_bit():
    """``relu(4 t - 1) + relu(2 t - 1)``: kinks at 1/4 and 1/2, slopes 0, 4, 6."""
    net = jb.Network([jb.Dense([[4, 0], [0, 2]], [-1, -1], "relu"), jb.Dense([[1, 1]])])
    explanation = jb.explain(net, [1, 1], [0, 0])
    assert_equal(explanation.contributions, [[3, 1]])
    assert_equal(explanation.paths.pieces[1], [0, 0.25, 0.5])
    assert_equal(explanation.completeness.difference, [0])


@pytest.mark.parametrize(
    ("start", "stop", "exact"),
    [
        ([0, 0], [2, 1], [2, -1]),  # leaves a kink: slopes of the side it goes to
        ([2, 1], [0, 0], [-2, 1]),
        ([0, 0], [1, 2], [0, 0]),  # into the flat side
        ([0, 0], [1, 1], [0, 0]),  # along the kink: a choice, which sums to 0 all the same
        ([-1, 0], [1, 0], [1, 0]),
        ([3, 1], [3, 1], [0, 0]),
    ],
)
def test_a_kink_at_an_end_of_the_way(start, stop, exact):
    net = jb.Network([jb.Dense([[1, -1]], activation="relu")])
    explanation = jb.explain(net, stop, start)
    assert_equal(explanation.contributions, [exact])
    assert explanation.completeness.holds.all()


@settings(max_examples=50)
@given(st.data())
def test_graphs_with_pools_and_branches_agree_with_the_definition(data):
    """Cells of a sum over midpoints are right except where a kink lies: by the range, at most."""
    net = data.draw(graphs(exact=True))
    start, stop = data.draw(points_of(net, exact=True)), data.draw(points_of(net, exact=True))
    explanation = jb.explain(net, stop, start)
    assert explanation.completeness.holds.all()
    if explanation.paths.exact:  # a product of branches is not straight
        count = 4000
        sums, spread = riemann(net, start, stop, count)
        size = np.abs(sums).max(initial=1)
        # twice the kinks: one may lie on the border of two cells; and 1e-12 for the rounding
        allowed = 2 * explanation.paths.kinks * spread / count + 1e-12 * size
        assert_within(explanation.contributions, sums, allowed)


def test_every_line_that_overtakes_in_a_window_is_seen():
    """The top of eight lines in a window, by their pairwise meetings in fractions."""
    rng = np.random.default_rng(5)
    pool = jb.MaxPool(3, 1, 1).on((2, 8))
    starts, stops = rng.integers(-9, 10, (2, 5, 16)).astype(float)
    rows, shares = pool.bends(starts, stops)
    for k in range(len(starts)):
        kinks = sorted(shares[rows == k])
        assert all(0 <= u < 1 for u in kinks)
        ends = np.unique([0, *kinks, 1])
        middle = starts[k] + ((ends[1:] + ends[:-1]) / 2)[:, None] * (stops[k] - starts[k])
        inside = starts[k] + np.linspace(0, 1, 999)[:, None] * (stops[k] - starts[k])
        pieces = np.searchsorted(ends, np.linspace(0, 1, 999)[1:-1]) - 1
        # on every piece the entry that is on top in its middle is on top throughout
        chosen = np.take_along_axis(inside[1:-1], pool.chosen(middle)[pieces], axis=1)
        # values below 10 on a line, where two of them may meet to rounding
        assert_within(chosen, pool.preactivation(inside[1:-1]), 1e-13)
        assert len(np.unique(pool.chosen(middle), axis=0)) > 1


def test_convolutions_pools_and_residual_blocks_are_exact(monkeypatch):
    monkeypatch.setattr(segments, "PIECE", 16)
    rng = np.random.default_rng(2)
    kernel = lambda *shape: rng.normal(size=shape)  # noqa: E731
    block = jb.Residual([jb.Convolution(kernel(3, 3, 3), None, "relu6", padding=1)])
    net = jb.Network(
        [
            jb.Convolution(kernel(3, 1, 4), kernel(3), "leaky_relu"),
            block,
            jb.MaxPool(3, stride=2),
            jb.AveragePool(2, stride=1),
            jb.Dense(kernel(2, 9)),
        ],
        inputs=(1, 12),
    )
    start, stop = rng.normal(size=(2, 12))
    explanation = jb.explain(net, stop, start)
    assert explanation.method == "integrated gradients, exact"
    assert explanation.paths.kinks > 20
    sums, spread = riemann(net, start, stop, 20000)
    assert_within(explanation.contributions, sums, 2 * explanation.paths.kinks * spread / 20000)
    assert explanation.completeness.holds.all()
    assert (
        explanation.completeness.allowed.max() < 1e-11
    )  # a bound that allows everything says nothing


def test_very_many_kinks_in_little_memory(monkeypatch):
    net = jb.Network.random([3, 400, 300, 2], "relu", seed=1)
    start, stop = -np.ones(3), np.ones(3)
    explanation = jb.explain(net, stop, start)
    assert explanation.paths.kinks > 250
    assert explanation.completeness.holds.all()
    grid = jb.plotting.bends(net, start, stop, 101).t
    shares = explanation.paths.pieces[1]
    # a kink lies at a quotient of two sums of up to 400 terms of size 1
    assert all(np.abs(shares - t).min() < 1e-12 for t in grid)
    monkeypatch.setattr(segments, "LIMIT", 2**14)
    monkeypatch.setattr(paths, "CHUNK", 2**14)
    halved = jb.explain(net, stop, start)
    assert halved.paths.kinks > explanation.paths.kinks  # some halves end where nothing bends
    # the same integrals over other pieces: some hundred roundings of numbers of size 1
    assert_within(halved.contributions, explanation.contributions, 1e-13)


# --- what activations and layers say of themselves ------------------------------------------------


@pytest.mark.parametrize("name", jb.activations.NAMES)
def test_an_activation_is_straight_between_its_kinks_if_it_says_so(name):
    sigma = jb.activation(name)
    ends = [-9.0, *sigma.kinks, 9.0]
    bent = False
    for low, high in pairwise(ends):
        z = np.linspace(low, high, 1001)
        chord = np.interp(z, [low, high], sigma(np.array([low, high])))
        # fractions of a line are rounded, values up to 9; NaN, as of log, is not straight either
        bent |= not (np.abs(sigma(z) - chord) <= 1e-14).all()
    assert sigma.piecewise_linear is not bent


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_layer_has_one_map_everywhere_if_it_says_so(name):
    net = NETWORKS[name]
    here, there = (jb.linearize(net, x) for x in points(net, 2))
    for l, layer in enumerate(net.layers, start=1):
        maps = zip(here.input_maps(l), there.input_maps(l), strict=True)
        same = all(np.array_equal(A.to_dense(), B.to_dense()) for A, B in maps)
        assert same is (layer.piecewise_linear and not layer.kinked)


# --- by quadrature --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {*JUMPS, *POLES}))
def test_completeness_over_the_zoo(name):
    net = NETWORKS[name]
    x, *baselines = points(net, 3)
    explanation = jb.explain(net, x, baselines, tolerance=1e-7)
    assert explanation.completeness.holds.all()
    assert_equal(explanation.completeness.sum, explanation.contributions.sum(axis=1))
    assert_equal(explanation.completeness.expected, explanation.value - explanation.baseline_value)
    # an estimate that allowed everything would hold too
    assert explanation.completeness.allowed.max() < 1e-6 * max(
        1, np.abs(explanation.contributions).max()
    )
    node = net.depth // 2
    if all(s >= node for sources in net.sources[node:] for s in sources):  # it cuts the graph
        sums = explanation.units(node).sum(axis=1)
        assert_within(sums, explanation.completeness.sum, 2 * explanation.completeness.allowed)
    assert_within(explanation.units(0), explanation.contributions, 0)


@pytest.mark.parametrize("name", JUMPS)
def test_what_is_not_complete_says_so(name):
    net = NETWORKS[name]
    x, baseline = points(net, 2)
    explanation = jb.explain(net, x, baseline, tolerance=1e-6)
    assert not explanation.completeness.holds.all()
    assert "Not complete: the sum misses H(x) - H(baseline) by" in str(explanation)


@pytest.mark.parametrize("name", ["tanh hidden", "gelu hidden", "attention", "norms"])
def test_smooth_networks_agree_with_gauss_legendre(name):
    net = NETWORKS[name]
    x, baseline = points(net, 2)
    explanation = jb.explain(net, x, baseline)
    assert explanation.method == "integrated gradients, quadrature"
    # 400 nodes are enough for all digits of a smooth function of this length
    assert_within(explanation.contributions, gauss_legendre(net, baseline, x, 400), 1e-9)


def test_kinks_before_and_behind_a_curve_cost_no_accuracy():
    """relu, tanh, relu, softmax: the second kinks are read off a grid; pieces are smooth."""
    rng = np.random.default_rng(3)
    dense = lambda m, n, name: jb.Dense(rng.normal(size=(m, n)), rng.normal(size=m), name)  # noqa: E731
    layers = [dense(9, 4, "relu"), dense(7, 9, "tanh"), dense(8, 7, "relu"), dense(3, 8, "softmax")]
    net = jb.Network(layers)
    start, stop = rng.normal(size=(2, 4))
    explanation = jb.explain(net, stop, start)
    cuts = [*explanation.paths.pieces[1], 1.0]
    ends = start + np.array(cuts)[:, None] * (stop - start)
    pieces = [gauss_legendre(net, a, b, 40) for a, b in pairwise(ends)]
    # 40 nodes on each smooth piece are enough for all digits, kinks are off by their rounding
    assert_within(explanation.contributions, sum(pieces), 1e-10)
    sides = np.sign(
        jb.trace(net, start + np.linspace(0, 1, 9)[:, None] * (stop - start)).preactivation(3)
    )
    assert (sides[0] != sides[-1]).any()  # the second relu has kinks on the way
    assert explanation.error.max() < 1e-9  # an estimate that allows everything says nothing


# --- laws -----------------------------------------------------------------------------------------


def test_contributions_are_linear_in_the_outputs():
    net = jb.Network.random([4, 8, 3], "relu", seed=2)
    M = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    mixed = jb.Network([*net.layers, jb.Dense(M)])
    x, baseline = points(net, 2)
    alone = jb.explain(net, x, baseline).contributions
    # some dozen roundings of numbers below 10
    assert_within(jb.explain(mixed, x, baseline).contributions, M @ alone, 1e-13)


@pytest.mark.parametrize("sigma", ["relu", "tanh"])
def test_an_input_that_is_not_read_or_does_not_move_contributes_nothing(sigma):
    W = np.random.default_rng(0).normal(size=(6, 4))
    W[:, 1] = 0
    net = jb.Network([jb.Dense(W, activation=sigma), jb.Dense(np.ones((1, 6)))])
    explanation = jb.explain(net, [1.0, 5.0, 2.0, -1.0], [0.5, -3.0, 2.0, 1.0])
    assert_equal(explanation.contributions[:, 1:3], [[0, 0]])
    assert np.abs(explanation.contributions[:, [0, 3]]).min() > 1e-3


@pytest.mark.parametrize("sigma", ["relu", "silu"])
def test_several_baselines_are_the_mean_with_students_interval(sigma):
    from scipy import stats

    net = jb.Network.random([4, 9, 2], sigma, seed=3)
    x, *baselines = points(net, 8)
    explanation = jb.explain(net, x, np.array(baselines))
    each = np.array([jb.explain(net, x, b).contributions for b in baselines])
    # one grid for all of them or one for each, both within the tolerance of the quadrature
    assert_within(explanation.each, each, 1e-9)
    assert_equal(explanation.contributions, explanation.each.mean(axis=0))
    # the mean of seven numbers of size 1
    assert_within(explanation.baseline_value, net(np.array(baselines)).mean(axis=0), 1e-14)
    low, high = explanation.interval(0.9)
    expected = stats.t.interval(
        0.9, 6, explanation.contributions, stats.sem(explanation.each, axis=0)
    )
    # a root of seven squares and a quantile, both good to some eps
    assert_within([low, high], expected, 1e-12)
    assert np.isnan(jb.explain(net, x, baselines[0]).interval()).all()
    assert explanation.baseline_is == "averaged over 7 baselines"
    assert "95 % interval" in str(explanation)


def test_other_packages_definitions_by_other_packages_gradients():
    """Captum's sum over 50 Gauss-Legendre nodes, SHAP's mean over baselines and places on the way.

    Both in PyTorch's automatic differentiation, which shares nothing with the Jacobians here; of a
    smooth network 50 nodes integrate to rounding.  SHAP draws the places at random; their
    expectation is the integral, taken with the same nodes.
    """
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 2)
    ).double()
    net, rng = jb.from_torch(module), np.random.default_rng(0)
    x, baselines = rng.normal(size=4), rng.normal(size=(3, 4))
    nodes, weights = np.polynomial.legendre.leggauss(50)

    def captum(b):
        total = np.zeros((2, 4))
        for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            at = torch.tensor(b + t * (x - b))
            total += weight * torch.autograd.functional.jacobian(module, at).numpy()
        return total * (x - b)

    mine = jb.explain(net, x, baselines[0]).contributions
    assert_within(mine, captum(baselines[0]), 1e-12)
    shap = np.mean([captum(b) for b in baselines], axis=0)
    assert_within(jb.explain(net, x, baselines).contributions, shap, 1e-12)


def test_gradient_times_input():
    net = jb.Network.random([4, 9, 2], "relu", seed=3)
    x, *baselines = points(net, 4)
    explanation = jb.explain(net, x, baselines, method="gradient times input")
    J = jb.jacobian(net, x)
    # the mean is taken before the product or after it
    assert_within(explanation.contributions, J * (x - np.mean(baselines, axis=0)), 1e-14)
    slopes = jb.jacobian(net, x, wrt=1) * (jb.jacobian(net, x, of=1) @ (x - baselines).T).mean(1)
    assert_within(explanation.units(1), slopes, 1e-14)
    assert not explanation.completeness.holds.all()
    assert "the gradient at the point says nothing of the way there" in str(explanation)
    at_kink = jb.Network([jb.Dense([[1.0]], [-0.1], "relu")])  # flat at 0.1, not above it
    assert_equal(jb.explain(at_kink, [0.1], [-0.2], method="gradient times input").each, [[[0]]])
    linear = jb.Network.random([4, 9, 2], "identity", seed=3)
    assert jb.explain(linear, x, method="gradient times input").completeness.holds.all()


def test_units_are_the_integral_of_what_flows_through_them():
    net = jb.Network.random([3, 6, 2], "relu", seed=4).with_names(outputs=["up", "down"])
    x, baseline = points(net, 2)
    explanation = jb.explain(net, x, baseline)
    t = (np.arange(20000) + 0.5) / 20000
    way = baseline + t[:, None] * (x - baseline)
    speed = jb.jacobian(net, way, of=1) @ (x - baseline)
    flow = jb.jacobian(net, way, wrt=1) * speed[:, None]
    allowed = 2 * (explanation.paths.kinks + 1) * np.ptp(flow, axis=0) / 20000 + 1e-12
    assert_within(explanation.units(1), flow.mean(axis=0), allowed)
    hidden = jb.explain(net, x, baseline, of=1, rows=[4, 0])
    # two kernels may add up four products in another order
    assert_within(hidden.value, jb.trace(net, x).activation(1)[[4, 0]], 1e-15)
    assert hidden.output_names == (f"{net.names[1]}[4]", f"{net.names[1]}[0]")
    one = jb.explain(net, x, baseline, rows="down")
    assert_within(one.contributions, explanation.contributions[1:], 1e-15)
    assert jb.explain(net, x, baseline, rows=slice(1, 2)).output_names == ("down",)


def test_float32_weights_are_explained_in_float64():
    net = jb.Network.random([4, 9, 2], "relu", seed=3, dtype=np.float32)
    x, baseline = points(net, 2)
    explanation = jb.explain(net, x, baseline)
    assert explanation.contributions.dtype == np.float64
    # the network computes in single precision: some dozen roundings of 6e-8
    assert_within(explanation.value, net(x), 1e-5)
    assert explanation.completeness.holds.all()


def test_a_layer_of_a_user_is_integrated_by_quadrature():
    twice = jb.Activation("twice", lambda z: 2 * z, lambda z: 2 + 0 * z)
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation=twice)])
    explanation = jb.explain(net, [1.0, 1.0])
    assert explanation.method == "integrated gradients, quadrature"
    # the weights of the nodes add up to 1 to rounding
    assert_within(explanation.contributions, [[2, 4]], 1e-14)


def test_log_odds_of_a_saturated_classifier():
    net = jb.Network([jb.Dense([[300.0], [0.0], [-1.0]], activation="softmax")])
    explanation = jb.explain(jb.log_odds(net), [3.0], [1.0])
    # log-odds of the first class are 300 x - log(1 + exp(-x))
    exact = 600 - np.log1p(np.exp(-3.0)) + np.log1p(np.exp(-1.0))
    # a few hundred roundings of numbers of size 600, and the quadrature's tolerance
    assert_within(explanation.contributions[0], [exact], 1e-9)
    assert explanation.completeness.holds.all()


# --- the edges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1, 2, 3],), {}, jb.ShapeError, "explain: x: expected one point of shape"),
        (([[1, 2]],), {}, jb.ShapeError, r"expected one point of shape \(2,\).*x\[0\]"),
        (([1, np.nan],), {}, jb.NotFiniteError, r"explain: x\[1\] is nan"),
        (([1, 2], [1, 2, 3]), {}, jb.ShapeError, "explain: baseline: expected"),
        (([1, 2], np.ones((0, 2))), {}, jb.ShapeError, "baseline: expected points .* got none"),
        (([1, 2],), {"rows": [0, 7]}, ValueError, "rows: expected a number below 3, but got 7"),
        (([1, 2],), {"rows": "y9"}, ValueError, "rows: 'y9' is not one of y1, y2, y3"),
        (([1, 2],), {"rows": []}, ValueError, "rows: expected some, each once"),
        (([1, 2],), {"rows": [1, "y2"]}, ValueError, "rows: expected some, each once"),
        (([1, 2],), {"of": 0}, ValueError, "explain: of: expected a layer number from 1 to 2"),
        (([1, 2],), {"method": "shap"}, ValueError, "method: expected integrated gradients or"),
        (([1, 2],), {"tolerance": -1}, ValueError, "explain: tolerance: expected a number of at"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, error, message):
    net = jb.Network.random([2, 4, 3], "relu", seed=0)
    with pytest.raises(error, match=message):
        jb.explain(net, *arguments, **options)


def test_what_is_no_network_no_node_and_too_large_is_refused():
    net = jb.Network.random([2, 4, 3], "relu", seed=0)
    with pytest.raises(TypeError, match="explain: net: expected a Network first"):
        jb.explain([1, 2], net)
    explanation = jb.explain(net, [1, 2])
    with pytest.raises(ValueError, match="units: l: expected a layer number from 0 to 2"):
        explanation.units(3)
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        explanation.interval(95)
    with pytest.raises(ValueError, match="plot: output"):
        explanation.plot("y9")
    with jb.dense_limit(100), pytest.raises(jb.TooLargeError, match="Take fewer baselines"):
        jb.explain(net, [1, 2], np.ones((9, 2)))


# --- quadrature -----------------------------------------------------------------------------------


def logistic(t):
    return 1 / (1 + math.exp(-t)) if t > 0 else math.exp(t) / (1 + math.exp(t))


@pytest.mark.parametrize("slope", [30, 200, 2e3, 1e5, 1e6])
@pytest.mark.parametrize("at", [0.05, 0.25, 0.3, 0.5, 0.9])
def test_a_saturated_classifier_is_explained_wherever_it_turns(slope, at):
    """``sigmoid(slope (t - at))`` of one input: its contribution is the change of the value.

    Beside it an output that turns slowly, and one too small to be seen beside either.
    """
    sigmoid = jb.Dense([[slope], [1.0], [0.5]], [-slope * at, 0, 0], "sigmoid")
    net = jb.Network([sigmoid, jb.Scale([1.0, 1.0, 1e-150])])
    answer = jb.explain(net, [1.0], [0.0])
    changes = [logistic(slope * (1 - at)) - logistic(-slope * at), logistic(1) - 0.5]
    expected = np.array([*changes, (logistic(0.5) - 0.5) * 1e-150])
    # the tolerance of the quadrature, and one rounding of slope * at in the place of the turn
    assert_within(answer.contributions[:, 0] / expected, np.ones(3), 1e-9)
    assert answer.completeness.holds.all()
    assert (answer.error <= 1e-9 * np.abs(expected)).all()


def test_an_integral_that_diverges_spoils_no_other_output():
    """``1/z`` through its pole at t = 2/5 has no integral; tanh beside it has its own error."""
    layers = {
        "p": (jb.Dense([[1.0]], [-0.4], "reciprocal"), "x"),
        "q": (jb.Dense([[3.0]], [-1.0], "tanh"), "x"),
        "y": (jb.Concatenate(), "p", "q"),
    }
    net = jb.Network.graph(layers, inputs={"x": 1}, outputs=["y"])
    answer = jb.explain(net, [1.0], [0.0])
    assert_equal(np.isfinite(answer.error), [False, True])
    assert_equal(answer.completeness.holds, [False, True])
    assert_within(answer.contributions[1], [math.tanh(2) + math.tanh(1)], 1e-9)


def test_points_beyond_the_root_of_the_range_overflow_nowhere():
    for start, layer in ((1.0, jb.Dense([[1, 2]], [0], "relu")), (0.0, jb.Dense([[1, 2]]))):
        with np.errstate(all="raise"):
            answer = jb.explain(jb.Network([layer]), [1e200, 1e200], [0.0, start])
        assert_within(answer.contributions[0] / 1e200, [1, 2], 1e-15)
        assert answer.completeness.holds.all()


def test_quadrature_is_exact_for_polynomials_and_its_error_covers_the_rest():
    for degree in range(23):  # what 15 nodes of Kronrod integrate exactly
        integral, _, size = quadrature.integrate(lambda s, k=degree: np.full((1, 1, 1), s**k), 1)
        assert_within([integral[0, 0, 0], size[0]], np.full(2, 1 / (degree + 1)), 1e-15)
    cases = {  # with the integral from 0 to 1, and how far off it may be without being told
        "root": (lambda s: s**0.5, 2 / 3),
        "peak": (
            lambda s: 1 / (1 + ((s - 0.3) * 1e4) ** 2),
            (math.atan(7e3) + math.atan(3e3)) / 1e4,
        ),
        "waves": (lambda s: math.sin(40 * s), (1 - math.cos(40)) / 40),
    }
    for tolerance in (1e-4, 1e-8, 1e-11):
        for function, exact in cases.values():
            answer, error, size = quadrature.integrate(
                lambda s, f=function: np.full((1, 1, 1), f(s)), tolerance
            )
            assert error[0] <= 20 * tolerance * size[0]
            assert_within(answer[0, 0], [exact], error[0] + 1e-14)
