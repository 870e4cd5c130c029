"""Diagnoses at kinks and of logits: what other slopes reach is right, what they do not is wrong."""

from itertools import pairwise

import numpy as np
import pytest

import jacobians as jb
from jacobians.diagnosis.diagnosing import is_right

LOSS = jb.SquaredError()
SIDES = {"relu": (0.0, 1.0), "leaky_relu": (0.01, 1.0), "abs": (-1.0, 1.0)}


def at_kinks(name, hidden, seed=0, zeros=2):
    """A network without biases, and points of which some are 0: all their hidden units are 0."""
    rng = np.random.default_rng(seed)
    widths = (3, *[4] * hidden, 2)
    net = jb.Network(
        [
            jb.Dense(rng.standard_normal((m, n)), np.zeros(m), name if l < hidden else "identity")
            for l, (n, m) in enumerate(pairwise(widths))
        ]
    )
    X, Y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    X[:zeros] = 0
    return net, X, Y


def by_hand(net, X, Y, sides, shares):
    """Gradients with slopes at kinks that are these shares of the way between the two sides."""
    least, largest = sides
    Z, A = [], [X]
    for layer in net.layers:
        Z.append(A[-1] @ layer.W.T)
        A.append(
            np.where(Z[-1] > 0, largest, least) * Z[-1] if layer is not net.layers[-1] else Z[-1]
        )
    delta, mine = (A[-1] - Y) / len(X), {}
    for l in range(net.depth, 0, -1):
        mine[f"dW{l}"], mine[f"db{l}"] = delta.T @ A[l - 1], delta.sum(axis=0)
        if l > 1:
            z, between = Z[l - 2], least + shares[l - 2] * (largest - least)
            slopes = np.where(z > 0, largest, np.where(z < 0, least, between))
            delta = delta @ net.layers[l - 1].W * slopes
    return mine


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_any_slopes_at_kinks_are_right(name, hidden):
    """Each unit at each point may have a slope of its own."""
    net, X, Y = at_kinks(name, hidden)
    rng = np.random.default_rng(1)
    for shares in (
        np.zeros(4),
        np.ones(4),
        rng.random((hidden, 5, 4)),
        rng.random((hidden, 5, 4)) < 0.5,
    ):
        mine = by_hand(net, X, Y, SIDES[name], np.broadcast_to(shares, (hidden, 5, 4)))
        assert jb.diagnose(mine, net, X, Y, LOSS).right


@pytest.mark.parametrize("name", SIDES)
def test_slopes_in_one_layer_allow_the_interval_that_they_reach_and_no_more(name):
    """The ends of every entry of db1 are right, one part in a million beyond them is wrong."""
    net, X, Y = at_kinks(name, 1)
    zero, one = (by_hand(net, X, Y, SIDES[name], np.full((1, 5, 4), t)) for t in (0.0, 1.0))
    steps = np.array([by_hand(net, X, Y, SIDES[name], np.eye(20)[i].reshape(1, 5, 4))["db1"]
                      for i in range(8)]) - zero["db1"]  # fmt: skip
    assert np.allclose(zero["db1"] + steps.sum(axis=0), one["db1"])
    for sign in (1, -1):
        end = zero["db1"] + np.maximum(sign * steps, 0).sum(axis=0) * sign
        assert is_right({"db1": end}, net, X, Y, LOSS)
        for i in range(4):
            beyond = end + sign * 1e-6 * np.abs(steps).sum(axis=0) * (np.arange(4) == i)
            assert not is_right({"db1": beyond}, net, X, Y, LOSS)


@pytest.mark.parametrize("factor", [2, 3, -1, 0])
def test_one_point_at_kinks_excuses_no_wrong_gradient(factor):
    rng = np.random.default_rng(0)
    net = jb.Network(
        [jb.Dense(rng.standard_normal((8, 4)), np.zeros(8), "relu"),
         jb.Dense(rng.standard_normal((3, 8)), np.zeros(3), "softmax")]
    )  # fmt: skip
    X, y = rng.standard_normal((32, 4)), rng.integers(0, 3, 32)
    X[0] = 0
    g = jb.backprop.gradients(net, X, y, jb.CrossEntropy())
    mine = {"weights": list(g.weights), "biases": [factor * g.biases[0], g.biases[1]]}
    record = jb.diagnose(mine, net, X, y, jb.CrossEntropy())
    assert [name for name, right in record.arrays.items() if not right] == ["biases of layer 1"]


def test_what_another_slope_gives_is_not_called_rounding():
    net, X, Y = at_kinks("relu", 1)
    record = jb.diagnose(by_hand(net, X, Y, (0, 1), np.ones((1, 5, 4))), net, X, Y, LOSS)
    assert (record.right, record.evidence, record.kinks) == (True, "kinks", 8)
    (first, *_) = str(record).split("\n")
    assert first.endswith("within what another slope at a kink would give (8 units at a kink).")
    ours = jb.diagnose(jb.backprop.gradients(net, X, Y, LOSS), net, X, Y, LOSS)
    assert (ours.right, ours.kinks) == (True, 0)
    assert "rounding allows" in str(ours)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_mistake_is_named_whichever_slope_all_kinks_have(share):
    net, X, Y = at_kinks("relu", 1)
    mine = by_hand(net, X, Y, (0, 1), np.full((1, 5, 4), share))
    mine |= {"dW1": 2 * mine["dW1"], "db1": 2 * mine["db1"]}
    record = jb.diagnose(mine, net, X, Y, LOSS)
    assert [slip.name for slip in record.mistakes] == ["factor 2"]
    assert not record.unexplained


@pytest.mark.parametrize(
    ("name", "zeros"), [("relu", 0), ("relu", 1), ("leaky_relu", 0), ("tanh", 0)]
)
@pytest.mark.parametrize("noise", [False, True])
def test_no_mistake_is_invented(name, zeros, noise):
    """Units that are off have a = 0, where sigma'(a) is at a kink: that explains nothing."""
    net, X, Y = at_kinks(name, 1, zeros=zeros)
    weights = [W.copy() for W in jb.backprop.gradients(net, X, Y, LOSS).weights]
    if noise:
        weights[0] += np.random.default_rng(3).standard_normal((4, 3))
    else:
        weights[0][2, 1] *= 1.01
    record = jb.diagnose({"weights": weights}, net, X, Y, LOSS)
    assert (record.mistakes, record.unexplained) == ((), ("weights of layer 1",))


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_logits_are_refused_or_named(last):
    """A loss of probabilities has no slope at a logit below 0; above, the diagnosis says it."""
    loss = jb.CrossEntropy() if last == "softmax" else jb.BinaryCrossEntropy()
    for sign in (-1, 1):
        W, X = sign * np.array([[1.0, 2.0], [1.0, 0.5]]) / 8, np.array([[1.0, 2.0], [0.5, 1.0]])
        logits, net = jb.Network([jb.Dense(W)]), jb.Network([jb.Dense(W, activation=last)])
        mine = jb.backprop.gradients(net, X, np.eye(2), loss)
        if sign > 0:
            (slip,) = jb.diagnose(mine, logits, X, np.eye(2), loss).mistakes
            assert slip.name == "loss of logits"
            assert "the network lacks" in slip.words
            continue
        with pytest.raises(jb.DomainError) as ours:
            jb.backprop.gradients(logits, X, np.eye(2), loss)
        with pytest.raises(jb.DomainError) as theirs:
            jb.diagnose(mine, logits, X, np.eye(2), loss)
        assert str(theirs.value) == str(ours.value)
        assert f"{loss}: needs" in str(ours.value)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_any_share_of_a_tie_in_a_max_pool_is_right_and_more_is_wrong(share):
    """Two equal rows of weights tie in a window, always; what goes back may be parted at will."""
    rng = np.random.default_rng(0)
    W1, W2, x, y = (rng.standard_normal(shape) for shape in ((4, 3), (2, 2), 3, 2))
    W1[1] = W1[0]
    pool = [jb.Reshape((1, 4)), jb.MaxPool(2)]
    net = jb.Network([jb.Dense(W1), *pool, jb.Dense(W2)])
    a = W1 @ x
    back = W2.T @ (W2 @ [a[0], a[2:].max()] - y)

    def dW1(first, second, other):
        delta = np.array([first * back[0], second * back[0], 0.0, 0.0])
        delta[2 + a[2:].argmax()] = other * back[1]
        return {"dW1": np.outer(delta, x)}

    assert is_right(dW1(share, 1 - share, 1.0), net, x, y, LOSS)
    assert not is_right(dW1(1.5, -0.5, 1.0), net, x, y, LOSS)
    assert not is_right(dW1(share, 1 - share, 1.1), net, x, y, LOSS)  # no tie there
