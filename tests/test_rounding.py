"""The rounding theorem: it holds against exact fractions, it is not vacuous, and it finds bugs."""

import tracemalloc
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
from claims import assert_equal, assert_within
from exact_maps import exact_product, worst_ratio
from hypothesis import given
from hypothesis import strategies as st
from test_laws_of_jacobians import computations, orders
from zoo import MAPS, NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.maps import multiply_out
from jacobians.maps.association import forward_order, reverse_order
from jacobians.rounding import chain_bound

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())


# --- it holds -------------------------------------------------------------------------------------


@every_network
def test_every_computation_is_within_the_bound_of_the_exact_product(net):
    """|J_computed - J| <= expm1(K u) P + underflow, J in fractions."""
    lin = jb.linearize(net, points(net, 1)[0])
    exact, bound = exact_product(lin.factors), chain_bound(lin.factors, net.dtype)
    for J in [*computations(lin).values(), jb.explicit.input_jacobian(lin.trace)]:
        assert worst_ratio(J, exact, bound.single()) <= 1


@given(st.data())
def test_no_computation_violates_the_bound_on_ill_scaled_networks(data):
    """Layers scaled by 1e-8..1e8, float32 and float64, every order: 0 violations."""
    net = data.draw(jst.ill_scaled_networks())
    try:
        lin = jb.linearize(net, data.draw(jst.points(net)))
    except jb.NotFiniteError:
        return  # the values overflow: there is no Jacobian to speak of
    bound = chain_bound(lin.factors, net.dtype)
    if bound.overflow:
        return  # nothing is claimed
    with np.errstate(under="ignore"):
        written_out = jb.explicit.input_jacobian(lin.trace)
        order = data.draw(orders(len(lin.factors)))
        for J in computations(lin, order).values():
            assert_within(J, written_out, bound.pair())


@given(st.data())
def test_ill_scaled_networks_are_within_the_bound_of_the_exact_product(data):
    net = data.draw(jst.ill_scaled_networks(max_depth=4, max_width=4))
    try:
        lin = jb.linearize(net, data.draw(jst.points(net)))
    except jb.NotFiniteError:
        return
    bound = chain_bound(lin.factors, net.dtype)
    if not bound.overflow:
        order = data.draw(orders(len(lin.factors)))
        with np.errstate(under="ignore"):
            J = multiply_out(lin.factors, order)
        assert worst_ratio(J, exact_product(lin.factors), bound.single()) <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_and_deep_networks_stay_within_the_bound(dtype):
    """Widths to 256, depth to 40."""
    for widths in ([40, 256, 200, 3], [7] * 41, [256, 64, 256, 10]):
        net = jb.Network.random(widths, "tanh", "softmax", seed=2, dtype=dtype)
        assert_computations_within(net, points(net, 1)[0])


def assert_computations_within(net, x):
    lin = jb.linearize(net, x)
    bound = chain_bound(lin.factors, net.dtype).pair()
    written_out = jb.explicit.input_jacobian(lin.trace)
    for J in computations(lin).values():
        assert_within(J, written_out, bound)


def test_gradual_underflow_is_in_the_bound():
    """Partial products of 1e-150 times 1e-160: subnormal, or 0; relative rounding says nothing."""
    W = [np.full((2, 3), 1e-150), np.full((3, 4), 3e-161), np.full((4, 2), 1e100)]
    factors = [jb.Matrix(M) for M in W]
    exact, bound = exact_product(factors), chain_bound(factors, np.float64)
    ratios = {}
    with np.errstate(under="ignore"):
        for order in (((0, 1), 2), (0, (1, 2))):
            ratios[order] = worst_ratio(multiply_out(factors, order), exact, bound.single())
            relative = np.expm1(bound.roundings * bound.unit) * bound.paths
            ratios[order, "without"] = worst_ratio(multiply_out(factors, order), exact, relative)
    assert max(ratios[((0, 1), 2)], ratios[(0, (1, 2))]) <= 1
    assert ratios[((0, 1), 2), "without"] > 1  # the term is needed, not decoration


# --- it is what the note says ---------------------------------------------------------------------


def ways(magnitudes, s, n):
    """Yield the product of a chain, then of every way to replace runs of factors by ``s 1 1ᵀ``."""
    if not magnitudes:
        yield np.eye(n)
        return
    for rest in ways(magnitudes[1:], s, n):
        yield magnitudes[0] @ rest
    for end in range(1, len(magnitudes) + 1):
        for rest in ways(magnitudes[end:], s, n):
            yield s * np.ones((len(magnitudes[0]), len(rest))) @ rest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_is_the_formula_of_the_note(dtype):
    """expm1(K u) P + 2 (1 + u)^K N: K by hand, N by all ways to replace runs of factors."""
    d, U, V = np.array([2.0, -1.0, 0.5]), np.array([[1.0, -5], [2, 0], [-3, 1]]), np.eye(3)[:, :2]
    W, slopes, M = np.array([[1.0, -2, 3], [0, 4, -1]]), np.array([0.3, -3, 0.7]), np.ones((3, 4))
    M[1] = -7
    factors = [jb.Matrix(W), jb.Diagonal(slopes), jb.DiagonalPlusLowRank(d, U, V), jb.Matrix(M)]
    low_rank = np.diag(abs(d)) + abs(U) @ abs(V).T
    magnitudes = [abs(W), np.diag(abs(slopes)), low_rank, abs(M)]
    info, K = np.finfo(dtype), 1 + (3 + 3) + 3  # slopes; two contractions, rank 2 plus 1
    u = float(info.eps) / 2
    inside = 2 * (3 + 2) * (1 + 2 * 6)  # of the low rank: two terms, and the largest sums of |U|
    s = (2 * (4 + 2) + inside) * float(info.smallest_subnormal)
    P, *others = ways(magnitudes, s, 4)
    bound = chain_bound(factors, dtype)
    assert (bound.unit, int(bound.roundings), bool(bound.overflow)) == (u, K, False)
    assert (bound.paths >= P).all()
    assert_within(bound.paths, P, 1e-11 * P)  # room for the rounding of P itself
    if dtype == np.float32:  # in float64 it is a few smallest numbers, which round
        underflow = 2 * np.exp(K * u) * sum(others)
        assert_within(bound.underflow, underflow, 1e-11 * underflow)
    single = np.expm1(K * u) * bound.paths + bound.underflow
    assert_within(bound.single(), single, 1e-14 * single)
    assert_within(bound.pair(), 2 * single, 1e-14 * single)
    more = np.expm1((K + 3) * u) * bound.paths + bound.underflow
    assert_within(bound.single(extra=3), more, 1e-14 * more)
    assert_within(bound.pair(extra=3), 2 * more, 1e-14 * more)


def test_what_underflow_adds_grows_with_the_factors_on_its_left():
    """A large factor, one that brings it back, and a column in which there is nothing else."""
    factors = [np.diag([2.0**-120] * 2), np.diag([2.0**120] * 2), np.array([[1.0, 0], [1, 0]])]
    info = np.finfo(np.float32)
    s = 2 * 2 * (2 + 2) * float(info.smallest_subnormal)  # a contraction of 2, beside and inside
    _, *others = ways(factors, s, 2)
    underflow = 2 * np.exp(4 * info.eps / 2) * sum(others)
    bound = chain_bound([jb.Matrix(F) for F in factors], np.float32)
    assert int(bound.roundings) == 4
    assert_within(bound.underflow, underflow, 1e-11 * underflow)


def test_paths_are_rounded_upwards_however_unluckily_their_products_round():
    """Of 500 factors, each product loses all but half a unit in the last place of 1."""
    factors, P = [1 + 2.0**-26], 1 + 2.0**-26
    for _ in range(499):
        above = int((P - 1) * 2**52)
        factors.append(1 + int(0.499 * 2**52 / above) * 2.0**-52)
        P *= factors[-1]
    exact = prod(map(Fraction, factors))
    assert exact * (1 - 497 * Fraction(2) ** -53) > P
    bound = chain_bound([jb.Matrix([[f]]) for f in reversed(factors)], np.float64)
    assert exact <= Fraction(bound.paths.item()) <= exact * (1 + 1000 * Fraction(2) ** -53)


@pytest.mark.parametrize(("name", "A", "dense"), MAPS, ids=[name for name, *_ in MAPS])
def test_the_magnitude_of_a_map_dominates_its_entries(name, A, dense):
    """|A| >= |dense|, equal where nothing cancels inside: it is that of the computation."""
    magnitude = A.magnitude()
    assert magnitude.dtype == np.float64
    assert (magnitude.to_dense() >= np.abs(dense)).all()
    assert_equal(magnitude.T.to_dense(), A.T.magnitude().to_dense())
    if not A.composite:
        assert_equal(magnitude.to_dense(), np.abs(dense))


@pytest.mark.parametrize(("name", "A", "dense"), MAPS, ids=[name for name, *_ in MAPS])
def test_the_reach_of_a_map_bounds_its_sums(name, A, dense):
    sizes = A.magnitude().to_dense()
    assert A.reach() >= max(1, sizes.sum(axis=-1).max(), sizes.sum(axis=-2).max())


def test_cancellation_inside_a_map_still_counts():
    """W - W is 0, and its magnitude is 2 |W|."""
    W = np.array([[1.0, -2.0]])
    assert_equal((jb.Matrix(W) - W).magnitude().to_dense(), 2 * np.abs(W))


def test_a_kind_without_a_rule_gets_an_infinite_bound():
    class Bare(jb.Matrix):
        def magnitude(self):
            return None

    for factors in ([Bare([[1.0]])], [jb.Identity(1) + Bare([[2.0]]), jb.Matrix([[3.0]])]):
        bound = chain_bound(factors, np.float64)
        assert np.isinf(bound.single()).all()
        assert (bound.overflow.dtype, bound.overflow.all()) == (bool, True)


def test_no_map_made_of_a_kind_without_a_rule_has_a_magnitude():
    """On whichever side of another, or at whichever place among others, it stands."""

    class Bare(jb.Matrix):
        def magnitude(self):
            return None

        def transpose(self):
            return Bare(super().transpose().array)

    bare, known, several = Bare([[1.0]]), jb.Matrix([[2.0]]), Bare(np.ones((2, 1, 1)))
    for left, right in ((bare, known), (known, bare), (bare, bare)):
        for A in (
            jb.Product([left, right]),
            jb.maps.Sum([left, right]),
            jb.Kronecker(left, right),
            jb.Blocks([left, right]),
            jb.Blocks([[left], [right]]),
            jb.maps.Substitution([[(0, left)], [(0, right), (1, known)]]),
            jb.BlockDiagonal(several, 2, False),
        ):
            assert A.magnitude() is None, A
            assert A.reach() == np.inf
            assert chain_bound([known, A] if A.shape[0] == 1 else [A], np.float64).overflow.all()


@given(st.data())
def test_drawn_maps_are_within_the_bound_of_the_exact_product(data):
    """Kronecker products, sums, blocks, selections, nested, applied from both sides."""
    m, k, n = (data.draw(st.integers(1, 4)) for _ in range(3))
    A = data.draw(jst.linear_maps(m, k))
    B, C = data.draw(jst.linear_maps(k, n)), data.draw(jst.matrices(k, n))
    chain = jb.Product([A, jb.Sum([B, jb.Matrix(C)])])
    bound, exact = chain_bound([chain], np.float64).single(), exact_product([chain])
    for J in (chain.to_dense(), chain.apply(np.eye(n)), chain.T.apply(np.eye(m)).T):
        assert worst_ratio(J, exact, bound) <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_claimed_beyond_a_quarter_of_the_largest_number(dtype):
    """Of any partial product, whatever the order: 2^top is max / 8, 2^(top + 2) is max / 2."""
    quarter = float(np.finfo(dtype).max) / 4
    for largest, leaves in ((quarter, False), (np.nextafter(quarter, np.inf), True)):
        factors = [
            jb.Diagonal([1.0, largest]),
            jb.Diagonal([0, 2.0**-90]),
            jb.Diagonal([1, 2.0**89]),
        ]
        assert bool(chain_bound(factors, dtype).overflow) is leaves
        within = jb.Kronecker(jb.Diagonal([1.0, largest]), jb.Matrix([[1.0]]))
        assert bool(chain_bound([within, *factors[1:]], dtype).overflow) is leaves
    top = int(np.finfo(dtype).maxexp) - 3
    for powers, leaves in (
        ([top - 1, 1], False),
        ([top, 2], True),
        ([top // 2, top - top // 2, -90], False),
        ([top // 2, top - top // 2 + 2, -90], True),
        ([-90, top // 2, top - top // 2 + 2], True),
        ([-90, top, 2, -90], True),
        ([top, -90, 89, 1], False),
        ([top, -90, 90, 2], True),
    ):
        for other in ([], [0], [0, -3]):  # entries beside it that stay small
            factors = [jb.Matrix(np.diag(np.exp2([*other, power]))) for power in powers]
            bound = chain_bound(factors, dtype)
            assert bool(bound.overflow) is leaves, powers
            assert np.isinf(bound.single()).all() == leaves


def test_overflow_is_told_point_by_point():
    """Of a batch, only the points whose own partial products may leave the range."""
    slopes = jb.Diagonal([[1.0], [2.0**600], [0.0], [2.0**300]])
    factors = [jb.Matrix([[2.0**500]]), slopes, jb.Matrix([[2.0**-90]])]
    bound = chain_bound(factors, np.float64)
    assert bound.overflow.tolist() == [False, True, False, False]
    assert np.isinf(bound.single()).ravel().tolist() == [False, True, False, False]
    assert np.isinf(bound.pair()).ravel().tolist() == [False, True, False, False]
    # and of a sum, where only what it computes inside may: its terms meet all that arrives
    large = jb.Matrix([[2.0**500, 2.0**-300], [0.0, 0.0]])
    slopes = jb.Diagonal([[2.0**500, 1.0], [2.0**700, 0.0], [0.0, 2.0**700], [0.0, 0.0]])
    for A in (large, jb.Sum([large, jb.Identity(2)])):
        bound = chain_bound([A, slopes, jb.Diagonal([2.0**-90, 2.0**-90])], np.float64)
        assert bound.overflow.tolist() == [False, True, A.composite, False]


def infinite_ends():
    """Low ranks that lose infinity times 0 inside where others multiply them first, or say so."""
    for left, right in ((0.0, 1e308), (1e308, 0.0), (0.0, 1e200), (1e200, 1e200)):
        ends = np.full((2, 1), left), np.full((2, 1), right)
        yield jb.DiagonalPlusLowRank(np.ones(2), *ends)


def test_a_bound_is_never_nan_and_computed_whatever_numpy_is_told_to_raise():
    """Infinity where something may overflow, also where it meets a 0; nothing else where not."""
    ends = [jb.Matrix(c * np.eye(2)) for c in (1e-200, 1e-100, 0.01, 10.0, 1e200)]
    with np.errstate(all="raise"):
        for A in [*infinite_ends(), *ends]:
            for first, last in product(ends, repeat=2):
                for factors in ([A, first, last], [first, A, last], [first, last, A]):
                    bound = chain_bound(factors, np.float64)
                    assert not np.isnan(bound.pair()).any()
                    assert np.isinf(bound.single()).all() or not bound.overflow
        unlucky = [next(infinite_ends()), jb.Matrix(10 * np.eye(2)), jb.Matrix(0.01 * np.eye(2))]
        assert chain_bound(unlucky, np.float64).overflow
    with np.errstate(all="ignore"):
        assert np.isnan(multiply_out(unlucky, ((0, 1), 2))).any()
        assert np.isfinite(multiply_out(unlucky, (0, (1, 2)))).all()


# --- it is not vacuous ----------------------------------------------------------------------------


def _within_others():
    """A product that fits as it is multiplied from the right and not in another order, in maps."""
    numbers = 1e200, 1e200, 1e-200
    W = jb.Product([jb.Matrix([[w]]) for w in numbers])
    two = jb.Product([jb.Matrix(np.full((2, 1, 1), w)) for w in numbers])
    plain, one = jb.Matrix([[1.0, 2.0]]), jb.Matrix([[1.0]])
    return {
        "product": W,
        "sum": jb.maps.Sum([W, one]),
        "kronecker, first": jb.maps.Kronecker(W, plain),
        "kronecker, second": jb.maps.Kronecker(plain, W),
        "block diagonal": jb.maps.BlockDiagonal(two, 2, False),
        "blocks": jb.maps.Blocks([[plain, W]]),
        "substitution": jb.maps.Substitution([[(0, W)], [(0, one), (1, one)]]),
        "scaled": 2 * W,
        "transposed": W.T,
    }


@pytest.mark.parametrize("kind", _within_others())
def test_nothing_is_claimed_where_what_a_map_computes_inside_may_leave_the_range(kind):
    """Whatever it is inside of; and where its parts stay in range, something is."""
    A = _within_others()[kind]
    for chain in ([A], [A, jb.Matrix(np.eye(A.shape[1]))], [jb.Matrix(np.eye(A.shape[0])), A]):
        assert chain_bound(chain, np.float64).overflow.all()
        assert np.isinf(chain_bound(chain, np.float64).single()).all()


def test_a_map_made_of_others_is_met_by_the_largest_of_what_comes_from_its_right():
    """2^500 meets 2^700 inside, in some order, though their sum over paths is 2^500."""
    A = jb.maps.Sum([jb.Matrix([[2.0**500, 2.0**-300]]), jb.Matrix([[1.0, 1.0]])])
    for factors in ([A, jb.Diagonal([1.0, 2.0**700])], [A, jb.Diagonal([2.0**700, 1.0])]):
        assert chain_bound(factors, np.float64).overflow
        turned = [factor.T for factor in reversed(factors)]
        assert chain_bound(turned, np.float64).overflow
    assert not chain_bound([A, jb.Diagonal([1.0, 2.0**400])], np.float64).overflow
    square = jb.maps.Sum([jb.Matrix([[2.0**500, 2.0**-300], [0.0, 0.0]]), jb.Identity(2)])
    for slopes in ([1.0, 2.0**700], [2.0**700, 1.0]):
        assert chain_bound([square, jb.Diagonal(slopes)], np.float64).overflow
        assert chain_bound([jb.Diagonal(slopes), square.T], np.float64).overflow


def test_bound_is_sharp_within_a_factor_of_five():
    """Over a thousand small networks (K <= 10) the largest ratio exceeds 0.2."""
    rng = np.random.default_rng(0)
    worst, counts = [], []
    for _ in range(1000):
        widths = rng.integers(1, 4, rng.integers(2, 5))
        net = jb.Network.random(widths, "tanh", "tanh", seed=rng)
        lin = jb.linearize(net, rng.standard_normal(widths[0]))
        bound = chain_bound(lin.factors, np.float64)
        counts.append(int(bound.roundings))
        if bound.roundings <= 10:
            difference = np.abs(
                lin.jacobian() - multiply_out(lin.factors, reverse_order(len(lin.factors)))
            )
            worst.append((difference / bound.pair()).max())
    assert len(worst) > 800
    assert max(worst) > 0.2


def test_k_counts_layers_and_hidden_widths():
    """K = L + n_1 + ... + n_{L-1} where no slope is special."""
    net = NETWORKS["deep"]
    lin = jb.linearize(net, points(net, 1)[0])
    hidden = net.widths[1:-1]
    assert int(lin.chain.roundings()) == (net.depth - 1) + sum(hidden)  # identity on top


def test_k_leaves_out_dead_units_and_powers_of_two():
    """ReLU slopes are 0 or 1: they cost nothing, and dead units are not added up."""
    W = np.arange(1.0, 13.0).reshape(4, 3)
    net = jb.Network([jb.Dense(W, [-100.0, 0.5, -100.0, 0.5], "relu"), jb.Dense(np.ones((2, 4)))])
    lin = jb.linearize(net, [0.1, 0.2, 0.3])
    assert int(lin.chain.roundings()) == 2
    assert int(jb.Diagonal([0.5, 2.0, 0.0, -4.0]).roundings()) == 0
    assert int(jb.Diagonal([0.5, 3.0]).roundings()) == 1


D, M = jb.Diagonal([0.3, 0.7]), jb.Matrix([[1.0, 2.0], [3.0, 5.0]])
LONG = jb.Product([M] * 6)
FAN = [[(0, M)], [(1, M)], [(1, M)], [(1, D)], [(2, M), (3, M), (4, M)]]


@pytest.mark.parametrize(
    ("A", "count"),
    [
        (jb.Identity(2), 0),
        (jb.Selection([1, 0, 0], 2), 0),
        (jb.Selection([1, 0, 0], 2).T, 0),
        (M, 0),
        (D, 1),
        (jb.DiagonalPlusLowRank([0.3, 0.7], np.ones((2, 3)), np.ones((2, 3))), 3 + 1),
        (jb.Kronecker(M, M), 1),
        (jb.Kronecker(D, jb.Product([M, M])), 1 + 2 + 1),
        (jb.Sum([M, D, jb.Identity(2)]), 1 + 2),
        (jb.Blocks([M, D]), 1),
        (jb.BlockDiagonal(jb.Diagonal([[0.3, 0.7]] * 3), 3, stacked=False), 1),
        (jb.Product([M, M, M]), 2 + 2),
        (jb.Product([M, D, M]), 2 + 1),
        (jb.Product([M, jb.Selection([1, 0], 2), M]), 2),
        (jb.Substitution([[(0, M)], [(0, M), (1, M)]]), 2 + 1),
        (jb.Substitution(FAN), 2 + 2 + 2),
        (jb.Substitution([*FAN, [(1, M), (5, M)]]), 2 + 2 + 2 + 1 + 2),
        # forwards the longest path meets one addition, where two edges end; backwards two, where
        # three begin
        (
            jb.Substitution(
                [[(0, M)], [(1, M)], [(1, M)], [(1, M)], [(2, M), (3, M)], [(4, LONG), (5, M)]]
            ),
            2 + 2 + 5 * 2 + 2,
        ),
    ],
    ids=str,
)
def test_every_kind_counts_the_roundings_of_the_note(A, count):
    assert int(np.max(A.roundings())) == count
    if isinstance(A, jb.Substitution):  # one sweep adds where the other copies
        assert A.T.roundings() == A.roundings()


def test_only_norms_form_their_entries():
    """x̂ (a difference, a quotient), x̂ x̂ᵀ, over d, minus 1/d, minus, over s, times scale: 8."""
    formed = {kind: kind.formed for kind in vars(jb).values() if is_a_layer(kind) and kind.formed}
    assert formed == {jb.LayerNorm: 8, jb.RMSNorm: 8}


def is_a_layer(kind):
    return isinstance(kind, type) and issubclass(kind, jb.Layer)


def test_k_is_counted_per_point_of_a_batch():
    net = jb.Network([jb.Dense(np.eye(3), [0, 0, 0], "relu"), jb.Dense(np.ones((2, 3)))])
    K = jb.linearize(net, [[1, 1, 1], [1, -1, -1], [-1, -1, -1]]).chain.roundings()
    assert K.tolist() == [3, 1, 1]


# --- it finds bugs --------------------------------------------------------------------------------


@given(st.data())
def test_a_layer_that_leaks_through_float32_violates_the_bound(data):
    """The bound in float64 catches a single slope vector that was rounded to float32."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    widths = data.draw(st.lists(st.integers(1, 8), min_size=3, max_size=5, unique=True))
    net = jb.Network.random(widths, "tanh", seed=seed)
    lin = jb.linearize(net, np.random.default_rng(seed).standard_normal(widths[0]))
    factors = list(lin.factors)
    leaking = data.draw(
        st.sampled_from([k for k, A in enumerate(factors) if isinstance(A, jb.Diagonal)])
    )
    slopes = factors[leaking].entries.astype(np.float32).astype(np.float64)
    if np.array_equal(slopes, factors[leaking].entries):
        return  # 1 and 0 survive float32
    factors[leaking] = jb.Diagonal(slopes)
    bound = chain_bound(lin.factors, np.float64).pair()
    assert (np.abs(multiply_out(factors) - lin.jacobian()) > bound).any()


def test_a_transposed_square_weight_violates_the_bound():
    net = NETWORKS["square"]
    x = points(net, 1)[0]
    first, second = net.layers
    wrong = jb.Network([jb.Dense(first.W.T, first.b, first.activation), second])
    J, bound = jb.jacobian_with_bound(net, x)
    assert (np.abs(jb.jacobian(wrong, x) - J) > 2 * bound).any()


# --- the public entry points ----------------------------------------------------------------------


def test_jacobian_with_bound_covers_the_exact_product_of_every_point():
    net = NETWORKS["softmax output"]
    X = points(net, 3)
    J, bound = jb.jacobian_with_bound(net, X)
    assert J.shape == bound.shape == (3, 4, 5)
    assert bound.dtype == np.float64
    lin = jb.linearize(net, X)
    for i in range(3):
        factors = jb.linearize(net, lin.trace.point(i)).factors
        assert worst_ratio(J[i], exact_product(factors), bound[i]) <= 1
    one, its_bound = jb.jacobian_with_bound(net, X[0])
    assert one.shape == its_bound.shape == (4, 5)


def test_bound_is_infinite_where_a_partial_product_may_overflow():
    W = np.full((2, 2), 1e200)
    big = jb.Network([jb.Dense(W), jb.Dense(W), jb.Dense(W * 1e-250)])
    assert np.isinf(chain_bound(jb.linearize(big, [0.0, 0.0]).factors, np.float64).single()).all()
    left = jb.Network([jb.Dense(W * 1e-250 * 1e-200), jb.Dense(W), jb.Dense(W)])  # W3 W2 overflows
    lin = jb.linearize(left, [0.0, 0.0])
    assert np.isfinite(multiply_out(lin.factors, forward_order(6))).all()
    assert np.isinf(chain_bound(lin.factors, np.float64).single()).all()
    small = jb.Network([jb.Dense(W), jb.Dense(W * 1e-250)])
    assert np.isfinite(jb.jacobian_with_bound(small, [0.0, 0.0])[1]).all()


def test_identity_networks_have_bound_zero():
    J, bound = jb.jacobian_with_bound(jb.Network([jb.Dense([[1.5, 2.5]])]), [1.0, 1.0])
    assert J.tolist() == [[1.5, 2.5]]
    # nothing is multiplied, so only the allowance for underflow is left
    assert bound.max() < 1e-300


@pytest.mark.parametrize("widths", [[5, 40, 3], [3, 40, 5], [40, 3, 5], [3, 5, 40]], ids=str)
def test_what_a_bound_takes_is_asked_before_it_is_made(widths):
    """All entries, and three numbers for every unit of the widest layer and column of the sweep."""
    net, (m, n) = jb.Network.random(widths, "tanh", seed=0), (widths[-1], widths[0])
    sweep = 8 * 3 * 40 * min(m, n)
    for count, least, words in (
        (1, sweep, r"jacobian_with_bound: the sweep: .*\. Use jb.jacobian, or raise the limit"),
        (1000, 8 * 1000 * m * n, r"jacobian_with_bound: the .*\. Take fewer points at a time, or"),
    ):
        X = np.zeros((count, n))
        with jb.dense_limit(least):
            assert jb.jacobian_with_bound(net, X)[1].shape == (count, m, n)
        with jb.dense_limit(least - 1), pytest.raises(jb.TooLargeError, match=words):
            jb.jacobian_with_bound(net, X)


@pytest.mark.parametrize("shape", [(2, 3000), (3000, 2)])
def test_a_bound_is_swept_from_the_side_with_fewer_columns(shape):
    """Never with a square of the larger one."""
    factors = [jb.Matrix(np.ones((shape[0], 2))), jb.Matrix(np.ones((2, shape[1])))]
    tracemalloc.start()
    try:
        bound = chain_bound(factors, np.float64)
        assert tracemalloc.get_traced_memory()[1] < 8 * 3000**2 / 10
    finally:
        tracemalloc.stop()
    assert bound.paths.shape == bound.underflow.shape == shape


def test_a_network_without_a_value_elsewhere_is_asked_near_its_points():
    """``exp((1000 (x - 5))²)`` is in range near 5 alone."""
    first = jb.Dense(1000 * np.eye(2), [-5000.0, -5000.0], "square")
    net, x = jb.Network([first, jb.Dense([[1.0, 1.0]], activation="exp")]), [5.0, 5 + 2.0**-10]
    with pytest.raises(jb.NotFiniteError, match="leaves the range"):
        jb.plan(net)
    J, bound = jb.jacobian_with_bound(net, [x, x])
    assert_within(J, [jb.jacobian(net, x)] * 2, 2 * bound)
    line = next(check for check in jb.certify(net, x) if check.identity == "chain, cheapest order")
    assert line.claimed
    assert line.holds
