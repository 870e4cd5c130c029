"""What a certificate says: its figures and words, counted again, and how much it looks at."""

from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from claims import assert_equal, assert_within

import jacobians as jb
from jacobians import _evidence, backprop, witness
from jacobians import certificate as module
from jacobians._checks import refuse_if_too_large
from jacobians.linearization import layer_map
from jacobians.rounding import chain_bound

NAN, INF = np.nan, np.inf

# --- two sides and a bound ------------------------------------------------------------------------

FIGURES = {
    "equal": ([([1.0, -3.0], [1.0, -3.0], 0.0)], (0, 0, 0, True)),
    "of two signs": ([([-1.5], [1.0], [5.0])], (2.5, 5, 0.5, True)),
    "the largest of each": ([([3.0, 0.0], [1.0, 1.0], [4.0, 1.0])], (2, 4, 1, True)),
    "unequal, and nothing allowed": ([([1.0], [1.25], 0.0)], (0.25, 0, INF, True)),
    "one without a bound": ([([9.0, 1.0], [0.0, 0.5], [INF, 2.0])], (0.5, 2, 0.25, True)),
    "all without a bound": ([([9.0], [0.0], [INF])], (0, 0, 0, False)),
    "a bound that is none": ([([9.0], [0.0], [NAN])], (0, 0, 0, False)),
    "nothing": ([([], [], 0.0)], (0, 0, 0, True)),
    "the first claims": ([([1.0], [0.0], [4.0]), ([9.0], [0.0], [INF])], (1, 4, 0.25, True)),
    "the second claims": ([([9.0], [0.0], [INF]), ([1.0], [0.0], [4.0])], (1, 4, 0.25, True)),
    "the largest of all": ([([1.0], [0.0], [4.0]), ([0.5], [0.0], [0.5])], (1, 4, 1, True)),
    "in double precision": (
        [(np.float32([0.5]), np.array([0.5 + 2.0**-40]), [2.0**-39])],
        (2.0**-40, 2.0**-39, 0.5, True),
    ),
    "out of range": ([([1e308], [-1.0], [1e-9])], (1e308, 1e-9, INF, True)),
    "not a number": ([([NAN], [0.0], [1.0])], (NAN, 1, NAN, True)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_a_check_are_the_largest_of_what_is_claimed(name):
    pairs, (difference, bound, ratio, claimed) = FIGURES[name]
    pairs = [(np.asarray(left), np.asarray(right), allowed) for left, right, allowed in pairs]
    with np.errstate(all="ignore"):
        check = module._compare("name", "7", pairs, True)
    found, expected = [check.difference, check.bound, check.ratio], [difference, bound, ratio]
    assert np.array_equal(found, expected, equal_nan=True)
    assert (check.identity, check.notes, check.evidence) == ("name", "7", True)
    assert check.claimed is claimed
    assert check.holds is (not claimed or ratio <= 1)


# --- what is looked at ----------------------------------------------------------------------------

ONE = np.ones(1)
EQUAL, UNEQUAL = [(ONE, ONE, 0.0)], [(ONE, 2 * ONE, 0.5)]


def certified(monkeypatch, net, *identities, **options):
    """Certify by other identities."""
    monkeypatch.setattr(module, "_IDENTITIES", identities)
    return jb.certify(net, np.full(net.widths[0], 0.5), **options)


def layers(count):
    return jb.Network([jb.Dense([[0.5]], [0.1])] * count)


def test_explicit_matrices_of_64_mebibytes_are_written_and_no_larger_ones(monkeypatch):
    def takes(size):
        def check(lin):
            refuse_if_too_large((size,), np.dtype(np.uint8), "it", "Leave it out")
            return EQUAL

        return check

    identities = ("fits", "1", takes(2**26)), ("does not", "2", takes(2**26 + 1))
    certificate = certified(monkeypatch, layers(1), *identities, ("empty", "3", lambda lin: []))
    assert [check.identity for check in certificate] == ["fits"]
    reason = "its explicit matrices are too large to write out"
    assert certificate.left_out == (("does not", reason),)
    assert f"not checked: does not ({reason})" in str(certificate)


@pytest.mark.parametrize("wanted", [None, True])
def test_progress_is_shown_for_every_identity(monkeypatch, wanted):
    asked, steps = [], []

    @contextmanager
    def progress_of(*arguments):
        asked.append(arguments)
        yield steps.append

    def too_large(lin):
        raise jb.TooLargeError("it is")

    monkeypatch.setattr(module, "progress_of", progress_of)
    identities = [(f"{k}", "1", lambda lin: EQUAL) for k in range(3)]
    certified(monkeypatch, layers(1), *identities, ("4", "1", too_large), progress=wanted)
    assert asked == [("certify", wanted, 4, "identities")]
    assert steps == [1, 1, 1, 1]


def test_only_differences_are_evidence():
    certificate = jb.certify(jb.Network.random([3, 4, 2], "tanh", seed=0), [0.1, 0.2, 0.3])
    verdicts = [check.verdict for check in certificate]
    assert verdicts[-1] == "evidence"
    assert set(verdicts[:-1]) <= {"exact", "proved"}
    assert {"exact", "proved"} <= set(verdicts)


def test_an_identity_may_leave_the_range_and_then_claims_nothing(monkeypatch):
    def wild(lin):
        large = np.full(1, 1e308)
        return [(10 * large, 10 * large, INF), (large, large - 1e300, INF * (0 * large))]

    (check,) = certified(monkeypatch, layers(1), ("wild", "1", wild))
    assert check.verdict == "nothing claimed"


@pytest.mark.parametrize(
    ("depth", "count"),
    [(1, 12), (2, 12), (500, 12), (501, 11), (600, 10), (2000, 3), (3000, 2), (10**6, 2)],
)
def test_the_parameters_of_twelve_layers_are_checked_and_of_fewer_in_a_deep_network(depth, count):
    assert module._checked(SimpleNamespace(depth=depth)) == count


def test_which_layers_are_checked_is_said_if_not_all_are(monkeypatch):
    assert certified(monkeypatch, layers(12)).left_out == ()
    words = "of 12 layers of 13, evenly spaced, these are checked"
    assert certified(monkeypatch, layers(13)).left_out == (("parameters", words),)
    for depth in (12, 13, 40):
        lin = jb.linearize(layers(depth), [0.3])
        chosen = [l for l, _ in module._with_parameters(lin)]
        gaps = set(np.diff(chosen).tolist())
        assert (len(chosen), chosen[0], chosen[-1]) == (12, 1, depth)
        assert max(gaps) - min(gaps) <= 1


def test_matrices_are_those_of_dense_layers_on_a_vector():
    """Wherever they read; not those that act on every row, of a convolution or of a user."""
    shapes = {"a": (4, 3), "b": (5, 3), "c": (2, 4), "d": (2, 5)}
    dense = {name: jb.Dense(np.ones(shape)) for name, shape in shapes.items()}
    read = dict(zip("abcd", "xxab", strict=True))
    nodes = {name: (layer, read[name]) for name, layer in dense.items()}
    net = jb.Network.graph({**nodes, "sum": (jb.Add(), "c", "d")}, inputs={"x": 3})
    found = module._weights(jb.linearize(net, np.ones(3)))
    assert [l for l, _ in found] == [1, 2, 3, 4]
    assert [W.shape for _, W in found] == list(shapes.values())
    rows = jb.Network([jb.Dense(np.ones((4, 3))), jb.Reshape((-1,)), Own(2)], inputs=(2, 3))
    assert module._weights(jb.linearize(rows, np.ones(6))) == []


@pytest.mark.parametrize("count", range(1, 10))
def test_the_middle_is_the_middle_of_every_part(monkeypatch, count):
    taken = []
    monkeypatch.setattr(module, "multiply_out", lambda factors, order: taken.append(order))
    module._halves(SimpleNamespace(factors=[None] * count))

    def leaves(order):
        if isinstance(order, int):
            return [order]
        left, right = map(leaves, order)
        assert 0 <= len(right) - len(left) <= 1
        return left + right

    assert leaves(*taken) == list(range(count))


# --- layers of users ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Own(jb.Layer):
    """Keep the first ``n`` entries of what comes in first."""

    n: int

    def output_width(self, *widths):
        return self.n

    def preactivation(self, *values):
        return values[0][..., : self.n]


class OwnOfTwo(Own):
    """The same, and read another input that does not matter."""

    arity = 2


@layer_map.register
def _(layer: Own, a):
    return jb.Matrix(np.eye(layer.n, len(a)))


@layer_map.register
def _(layer: OwnOfTwo, a, other):
    return jb.Matrix(np.eye(layer.n, len(a))), jb.Matrix(np.zeros((layer.n, len(other))))


def with_own_layers():
    nodes = {
        "first": (jb.Dense(np.eye(3)), "x"),
        "one": (Own(2), "first"),
        "again": (Own(2), "first"),
        "two": (OwnOfTwo(2), "one", "again"),
        "last": (jb.Dense(np.ones((1, 2))), "two"),
    }
    return jb.Network.graph(nodes, inputs={"x": 3})


def test_layers_that_are_not_independent_are_named_once(monkeypatch):
    net = with_own_layers()
    certificate = certified(monkeypatch, net)
    assert certificate.dependent == (str(Own(2)), str(OwnOfTwo(2)))
    assert certified(monkeypatch, layers(2)).dependent == ()


def test_rules_of_users_for_one_input_are_judged_only_where_an_identity_fails(monkeypatch):
    net, asked, by_parameters = with_own_layers(), [], []

    class No:
        def __bool__(self):
            return not asked[-1][1].size

        def __str__(self):
            return "it is not"

    def check_jacobian(f, J, x):
        asked.append((f(x), J, x))
        return No()

    monkeypatch.setattr(witness, "check_jacobian", check_jacobian)
    monkeypatch.setattr(module, "_by_own_parameters", lambda lin: by_parameters)
    good, bad = ("good", "1", lambda lin: EQUAL), ("bad", "1", lambda lin: UNEQUAL)
    assert certified(monkeypatch, net, good).hints == ()
    assert not asked
    certificate = certified(monkeypatch, net, good, bad)
    assert certificate.hints == (f"the rule of {Own(2)}: it is not",) * 2
    for value, J, x in asked:
        assert_equal(J, np.eye(2, 3))
        assert_equal(value, x[:2])
    for claim, nearest, allowed, told in (
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], False),
        ([1.0, -1.0], [2.0, -2.0], [1.0, 1.0], False),
        ([1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], True),
        ([-1.0, 0.0], [1.0, 0.0], [1.0, 1.0], True),
        ([9.0, 0.0], [0.0, 0.0], [INF, 1.0], False),
    ):
        by_parameters[:] = [(1, tuple(map(np.array, (claim, nearest, allowed))))]
        words = f"the rule of {net.layers[0]} for its parameters disagrees with differences of its"
        hints = certified(monkeypatch, net, bad).hints[2:]
        assert hints == ((f"{words} values",) if told else ())


class OwnDense(jb.Dense):
    """A class of a user with parameters."""


def test_parameters_of_users_are_compared_with_differences_layer_by_layer():
    W = np.array([[1.0, -2.0], [0.5, 3.0]])
    net = jb.Network([jb.Elementwise("tanh"), OwnDense(W, [0.1, 0.2]), jb.Dense(W), OwnDense(W)])
    sides = dict(module._by_own_parameters(jb.linearize(net, [0.3, 0.4])))
    assert sides.keys() == {2, 4}
    for claim, nearest, allowed in sides.values():
        assert_within(claim, nearest, allowed)


# --- the bounds, counted again --------------------------------------------------------------------


@pytest.fixture(scope="module")
def normed():
    """Two dense layers around a norm, whose entries are formed by 8 roundings."""
    rng = np.random.default_rng(0)
    first = jb.Dense(rng.standard_normal((4, 3)), rng.standard_normal(4), "tanh")
    norm = jb.LayerNorm(rng.standard_normal(4), rng.standard_normal(4))
    net = jb.Network([first, norm, jb.Dense(rng.standard_normal((2, 4)), np.ones(2))])
    return jb.linearize(net, [0.3, -0.2, 0.7])


def theorem(factors, extra):
    return chain_bound(factors, np.float64).pair(extra)


def test_bounds_count_what_the_ways_form_and_multiply_differently(normed):
    """Entries of a norm: 8 roundings; an entry of aᵀ that meets one of dH/dz: one more."""
    lin, named = normed, [(l, name) for l in (1, 2, 3) for name in lin_parameters(normed, l)]
    pairs = module._weight_jacobian(lin)
    assert len(pairs) == len(named)
    for (_, right, bound), (l, name) in zip(pairs, named, strict=True):
        assert_equal(right, lin.parameter_map(l, name).to_dense())
        assert_equal(bound, theorem(module._to_parameter(lin, l, name), 9))
    W, a = lin.trace.network.layers[0].W, lin.trace.activation(0)
    _, value, bound = module._weight_derivative(lin)[0]
    assert_equal(value, W @ a)
    assert_equal(bound, theorem([jb.Matrix(W), jb.Matrix(a[:, None])], 0)[:, 0])
    for bit_for_bit in (module._diagonal_scaling, module._mixed_product):
        pairs = bit_for_bit(lin)
        assert len(pairs) == 2
        for left, right, bound in pairs:
            assert_equal(left, right)
            assert bound == 0
    assert_equal(module._chain(lin)[1], theorem(lin.factors, 8))
    ((left, right, bound),) = module._dot_test(lin)
    assert_within(left, right, bound)
    assert bound.shape == (1,)
    allowed = _evidence.differences_of_values(lin)[2]
    assert_equal(module._differences(lin)[0][2], allowed + theorem(lin.factors, 8))


def lin_parameters(lin, l):
    return lin.trace.network.layers[l - 1].parameters()


def test_gradients_are_compared_by_layer_and_parameter_each_with_its_bound(monkeypatch, normed):
    """Of half the squared distance to 0, by the sweep of NumPy; its cotangent is the output."""
    lin, options, right = normed, [], backprop.gradients

    def gradients(*arguments, **keywords):
        options.append(keywords)
        return right(*arguments, **keywords)

    monkeypatch.setattr(backprop, "gradients", gradients)
    pairs = module._gradients(lin)
    assert options == [{"kernels": False}]
    seed, expected = jb.Matrix(lin.value[None, :]), []
    for l in (1, 2, 3):
        delta = [seed, *lin.between(3, l), lin.activation_map(l)]
        expected.append(theorem(delta, 8)[0])
        for name in lin_parameters(lin, l):
            expected.append(theorem([seed, *module._to_parameter(lin, l, name)], 9)[0])
    expected.append(theorem([seed, *lin.factors], 8)[0])
    assert len(pairs) == len(expected) == 3 + 6 + 1
    for (left, found, bound), allowed in zip(pairs, expected, strict=True):
        assert_equal(bound, allowed)
        assert_within(left, found, bound)
        assert np.abs(left).min() > bound.max()
    assert_within(pairs[-1][0], lin.vjp(lin.value), pairs[-1][2])
