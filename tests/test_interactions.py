"""Interactions: means of absolute second derivatives, what scales them, their intervals."""

import tracemalloc

import numpy as np
import pytest
from claims import assert_equal, assert_within
from zoo import NETWORKS, points

import jacobians as jb
from jacobians.sensitivities.groups import keys_of, student_interval

pandas = pytest.importorskip("pandas")
names = pytest.mark.parametrize("name", sorted(NETWORKS))


def close(left, right, factor=1e-13):
    """Agree to the rounding of a mean of a few hundred float64 numbers."""
    assert_within(left, right, factor * np.abs(right).max(initial=0.0))


@names
def test_interactions_are_means_of_absolute_hessians(name):
    net = NETWORKS[name]
    X = points(net, 7)
    answer = jb.interactions(net, X)
    H = np.abs(jb.hessian(net, X).astype(float)).mean(axis=0)
    # Hessians of pieces in another order may round otherwise, in the dtype of the network
    close(answer.mean_absolute, H, 2000 * np.finfo(net.dtype).eps)
    assert answer.mean_absolute.dtype == answer.standardised.dtype == np.float64
    assert answer.points == 7
    sd_x, sd_y = X.astype(float).std(axis=0), net(X).astype(float).std(axis=0)
    if sd_y.min() > 1e-6 * np.abs(net(X)).max():
        wanted = answer.mean_absolute * np.outer(sd_x, sd_x) / sd_y[:, None, None]
        close(answer.standardised, wanted, 1e-6 if net.dtype == np.float32 else 1e-9)


def test_a_sum_of_functions_of_one_input_each_has_no_interactions():
    """And in whole numbers ``3 x² + (y + z)²`` has exactly those of y with z."""
    W, V = [[1, 0, 0], [0, 1, 1]], [[3, 1]]
    net = jb.Network([jb.Dense(W, activation="square"), jb.Dense(V)])
    answer = jb.interactions(net, points(net, 9))
    assert_equal(answer.mean_absolute[0], [[6.0, 0, 0], [0, 2, 2], [0, 2, 2]])
    low, high = answer.low[0, 0, 1:], answer.high[0, 0, 1:]
    assert_equal(np.r_[low, high], np.zeros(4))


def test_intervals_leave_one_group_out_after_the_other():
    """To first order, where a group is 1/64 of the points: within some per cent of the width."""
    net, count = NETWORKS["tanh hidden"], 1500
    X = points(net, count)
    answer = jb.interactions(net, X, confidence=0.9)
    labels, squares = keys_of(np.arange(count, dtype=np.uint64)) % np.uint64(64), 0.0
    sizes = np.unique(labels, return_counts=True)[1]
    for label, size in zip(np.unique(labels), sizes, strict=True):
        deleted = jb.interactions(net, X[labels != label]).standardised
        squares = squares + (1 - size / count) * (deleted - answer.standardised) ** 2
    low, high = student_interval(answer.standardised, np.sqrt(squares), sizes, 0.9, True)
    for mine, theirs in zip((answer.low, answer.high), (low, high), strict=True):
        assert (np.abs(mine - theirs) <= 0.05 * (high - low)).all()
    assert (answer.low <= answer.standardised).all()
    assert (answer.standardised <= answer.high).all()


def test_interactions_are_shown_by_name_the_strongest_first():
    """Of y = 10 a b + b c the first pair is a and b, and no input is paired with itself."""
    W = [[1, 1, 0], [1, -1, 0], [0, 1, 1], [0, 1, -1]]
    net = jb.Network([jb.Dense(W, activation="square"), jb.Dense([[10, -10, 1, -1]])])
    net = net.with_names(inputs=["a", "b", "c"], outputs=["out"])
    answer = jb.interactions(net, np.random.default_rng(0).normal(size=(200, 3)))
    assert [pair[:2] for pair in answer.strongest("out", 2)] == [("a", "b"), ("b", "c")]
    lines = str(answer).splitlines()
    assert lines[0] == "Interactions for 1 output of 3 inputs over 200 points"
    assert lines[5].split()[:3] == ["out", "a", "b"]
    assert str(answer).isascii()
    assert "<td" in answer._repr_html_()
    ax = answer.plot("out")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]


def test_pieces_batches_and_tables_are_one_data_set():
    net = NETWORKS["softmax output"].with_names(inputs=list("abcde"))
    X = points(net, 60)
    whole = jb.interactions(net, X)
    frame = pandas.DataFrame(X, columns=net.input_names)
    for other in (
        jb.interactions(net, X, max_bytes=5000),
        jb.interactions(net, iter([X[:7], X[7:8], X[8:]])),
        jb.interactions(net, frame[list(net.input_names)[::-1]]),
    ):
        assert other.input_names == whole.input_names == net.input_names
        for what in ("mean_absolute", "standardised", "low", "high"):
            close(getattr(other, what), getattr(whole, what), 1e-12)
    chosen = jb.interactions(net, X, rows=[1])
    close(chosen.standardised, whole.standardised[[1]], 1e-12)
    close(chosen.high, whole.high[[1]], 1e-12)
    assert chosen.output_names == (whole.output_names[1],)


def test_memory_does_not_grow_with_the_points():
    net = jb.Network.random([10, 12, 3], "tanh", seed=0)
    piece, peaks = points(net, 500), []
    jb.interactions(net, piece, max_bytes=2**18)
    for count in (4, 16):
        tracemalloc.start()
        jb.interactions(net, (piece for _ in range(count)), max_bytes=2**18)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    # the sums of 64 groups, what is made of them, and the budget with the Hessians of a piece
    assert peaks[1] < 3 * 8 * 64 * 300 + 4 * 2**20


def test_what_interactions_refuse():
    net = jb.Network.random([3, 4, 2], "tanh", seed=0)
    with pytest.raises(jb.ShapeError, match=r"expected points \(B, n\) with B > 0"):
        jb.interactions(net, np.empty((0, 3)))
    with pytest.raises(jb.ShapeError, match=r"expected points \(B, n\) with B > 0, but got \(3,\)"):
        jb.interactions(net, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        jb.interactions(net, np.eye(3), confidence=95)
    with pytest.raises(ValueError, match="rows: expected numbers from 0 to 1"):
        jb.interactions(net, np.eye(3), rows=[2])
    wide = jb.Network.random([3000, 2, 2], "tanh", seed=0)
    with pytest.raises(jb.TooLargeError, match="6 groups of 2x3000x3000"):
        jb.interactions(wide, np.zeros((1, 3000)))
    with pytest.raises(
        jb.NotFiniteError, match="the square of an input or output leaves the range"
    ):
        jb.interactions(net, 1e300 * np.eye(3))
