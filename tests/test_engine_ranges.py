"""What cannot overflow is known: true up to the end of the range, and not said too rarely."""

import numpy as np
import pytest

import jacobians as jb
from jacobians.activations import FIXED
from jacobians.engine.ranges import is_within, products_stay_in_range, safe_radius

ACTIVATIONS = ("identity", "relu", "relu6", "tanh", "softplus", "softsign", "sin", "sigmoid")
ACTIVATIONS += ("gaussian", "gelu", "gelu_tanh", "silu", "mish", "selu")


def chain(powers, activation="identity", dtype=np.float64):
    """A network of one unit per layer, its weights 2^power."""
    weights = [np.array([[2.0**power]], dtype) for power in powers]
    return jb.Network([jb.Dense(W, activation=activation) for W in weights])


def doubling(*rows, activation="identity", b=None):
    return jb.Network([jb.Dense(rows, b, activation), jb.Dense([[1.0] * len(rows)])])


# --- partial products -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_stay_in_range_up_to_an_eighth_of_the_largest_number(dtype):
    """2^top is max / 8, and 2^(top + 2) is max / 2; whatever the factors around."""
    top = int(np.finfo(dtype).maxexp) - 3
    for powers, stay in (
        ([top], True),
        ([top + 2], False),
        ([top - 4, 4], True),
        ([top - 4, 6], False),
        ([-90, top, -90], True),  # a small factor does not make room for others: orders differ
        ([-90, top, 2], False),
        ([top, -90, 2], False),
        ([top // 2, -5, top - top // 2 + 2], False),
    ):
        net = chain(powers, dtype=dtype)
        assert products_stay_in_range(net, len(powers), 0) is stay, powers
    net = chain([top, 2, top], dtype=dtype)
    blocks = [products_stay_in_range(net, of, wrt) for wrt in range(3) for of in range(wrt + 1, 4)]
    assert blocks == [True, False, False, True, False, True]


def test_rows_are_added_up_by_size():
    """|W| is the largest sum of absolute values of a row: entries that cancel still count."""
    end, half = 2.0**1021, 2.0**1020
    for rows, stay in (
        ([[half, 0.0], [0.0, half]], True),
        ([[end, end], [0.0, 1.0]], False),
        ([[0.0, 1.0], [end, -end]], False),
        ([[end, 0.0], [-end, 0.0]], True),
    ):
        assert products_stay_in_range(jb.Network([jb.Dense(rows)]), 1, 0) is stay
    assert products_stay_in_range(jb.Network([jb.Scale([1.0, -end, 1.0])]), 1, 0)
    assert not products_stay_in_range(jb.Network([jb.Scale([1.0, -4 * end, 1.0])]), 1, 0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_counted_at_their_largest(name):
    """Never less than |sigma'| anywhere, and at most 1.2 or, where that is larger, 2."""
    sigma, layers = FIXED[name], 64
    largest = np.abs(sigma.derivative(np.linspace(-40, 40, 400_001))).max()
    room = 1021 - layers * np.log2(max(largest, 1))
    assert products_stay_in_range(chain([100, *[0] * layers], name), layers + 1, 0)
    assert not products_stay_in_range(chain([room + 2, *[0] * layers], name), layers + 1, 0)
    most = max(1.2, 2.0 * (largest > 1.2)) if largest > 1 else 1.0
    assert products_stay_in_range(
        chain([1020 - layers * np.log2(most), *[0] * (layers - 2)], name), layers - 1, 0
    )


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_slopes_of_vectors_are_counted_by_rows(name):
    """The sums of absolute values of a row of the Jacobian: 2 p (1 - p), and 2 (1 - p)."""
    most = 2 if name == "log_softmax" else 1
    net = jb.Network([jb.Dense([[2.0**1018], [0.0]], activation=name)] + [jb.Elementwise(name)])
    assert products_stay_in_range(net, 2, 0)
    net = jb.Network([jb.Dense([[2.0**1020], [0.0]], activation=name)] + [jb.Elementwise(name)])
    assert products_stay_in_range(net, 2, 0) == (most == 1)


def test_nothing_is_known_of_what_others_wrote():
    own = jb.Activation("tanh", lambda z: 1e300 * z, lambda z: 0 * z + 1e300)
    for sigma in ("exp", "square", jb.activation("leaky_relu", slope=0.5), own):
        net = jb.Network([jb.Dense([[1.0]], activation=sigma)])
        assert not products_stay_in_range(net, 1, 0)
        assert safe_radius(net, 1) == -1
        assert safe_radius(net, 0) == float(np.finfo(float).max) ** 0.25

    class Large(jb.Layer):
        def output_width(self, inputs):
            return inputs

        def preactivation(self, a):
            return 1e300 * a

    assert not products_stay_in_range(jb.Network([Large()], inputs=1), 1, 0)
    assert safe_radius(jb.Network([Large()], inputs=1), 1) == -1


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_of_a_quarter_of_the_exponents_are_safe_if_what_comes_of_them_fits(dtype):
    """From entries of size r = max^(1/4): |W| r + |b| below max / 4, layer by layer."""
    top = int(np.finfo(dtype).maxexp)
    r, quarter = float(np.finfo(dtype).max) ** 0.25, top // 4
    for powers, of, safe in (
        ([top - quarter - 4], 1, True),
        ([top - quarter], 1, False),
        ([top - quarter - 20, 14], 2, True),
        ([top - quarter - 20, 20], 2, False),
        ([top - quarter - 20, 20], 1, True),
        ([-quarter, top - 4 - 64], 2, True),
        ([top - quarter, -50], 2, False),
    ):
        assert safe_radius(chain(powers, dtype=dtype), of) == (r if safe else -1), powers


def test_offsets_and_rows_count_by_size():
    end = 2.0**1021
    for net, safe in (
        (doubling([1.0, 1.0], b=[end / 2]), True),
        (doubling([1.0, 1.0], b=[-4 * end]), False),
        (doubling([2.0**762, -(2.0**762)], [0.0, 1.0]), True),
        (doubling([0.0, 1.0], [2.0**766, -(2.0**766)]), False),
        (jb.Network([jb.Scale([1.0, -(2.0**767)])]), False),
        (jb.Network([jb.Scale([1.0, 1.0], [0.0, -4 * end])]), False),
        (jb.Network([jb.Scale([1.0, -(2.0**764)], [0.0, end / 2])]), True),
        (jb.Network([jb.Elementwise("relu")], inputs=2), True),
    ):
        assert (safe_radius(net, net.depth) > 0) is safe


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bounded_activations_start_again_and_others_do_not(name):
    """After tanh, sigmoid and their like no value is larger than 6."""
    sigma = FIXED[name]
    bounded = bool(np.abs(sigma(np.array([-1e300, 1e300]))).max() <= 6)
    assert (safe_radius(chain([700, 900], name), 2) > 0) is bounded
    assert safe_radius(chain([700, 1022], name), 2) == -1


@pytest.mark.parametrize("count", [1, 20, 10_000])
def test_a_batch_is_safe_if_no_entry_leaves_the_radius(count):
    """By the sum of squares of a few numbers, by the extremes of many; never if there is a NaN."""
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation="tanh")])
    X, r = np.zeros((count, 2)), safe_radius(net, 1)
    with np.errstate(all="ignore"):
        for value, safe in ((0.0, True), (0.9, True), (-0.9, True), (1.1, False), (-1.1, False)):
            X[-1, 1] = value * r
            assert is_within(X, r) is safe
            X[:, 0] = 1.0
        for value in (np.nan, np.inf, -np.inf):
            X[-1, 1] = value
            assert not is_within(X, r)
        assert not is_within(np.zeros((count, 2)), -1.0)  # nothing is known
