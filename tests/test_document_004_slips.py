"""Document 004: what it says otherwise; each slip gives other numbers than the truth."""

import numpy as np
import pytest
from tails import Exact, outcome

import jacobians as jb
from jacobians.conventions import LayerOne

W1, W2, W3 = (np.array(W, float) for W in ([[1], [2]], [[1, 2], [3, 4]], [[1, 1], [0, 1]]))
NET_R = jb.Network([jb.Dense(W) for W in (W1, W2, W3)])
R = Exact(NET_R, [1], [15, 1])
delta2, delta3 = (np.array(R.D_a(l), float) for l in (2, 3))
CHAIN = Exact(jb.Network([jb.Dense([[2]]), jb.Dense([[3]])]), [1], [0])
SCALAR = Exact(jb.Network([jb.Dense(W1), jb.Dense(W2), jb.Dense([[1, 1]])]), [1], [0])
TOP = Exact(jb.Network([jb.Dense([[1]]), jb.Dense([[1]], activation="square")]), [3], [8])
STEEP = Exact(jb.Network([jb.Dense([[1]]), jb.Dense([[2]], [-1], "square")]), [3], [0])
BENT = Exact(jb.Network([jb.Dense(W1, activation="square"), jb.Dense([[3, 1]])]), [1], [6])
FORK = Exact(jb.Network([jb.Dense([[1]]), jb.Dense([[1], [1]])]), [1], [0, -9])
NARROW = jb.Network([jb.Dense([[1], [1]]), jb.Dense([[1, 1]])])
FIRST = jb.Network([jb.Dense([[0, 1], [1, 0]]), jb.Dense([[1, 2]])])
AT_FIRST = jb.trace(FIRST, [0, 0])

# tag: (truth, as the document says or may be read, what the truth is, what the document gives)
WRONG = {
    "004-E2": (lambda: CHAIN.z[2], lambda: [3 * CHAIN.h[0][0]], [6], [3]),
    "004-E3": (  # n_l = 2, n_{l+1} = 3: b has the size of z
        lambda: jb.Dense(np.ones((2, 1)), np.ones(2)).b.shape,
        lambda: jb.Dense(np.ones((2, 1)), np.ones(3)).b.shape,
        [2],
        "ShapeError",
    ),
    "004-E4": (lambda: R.z[3], lambda: W2 @ np.array(R.h[2], float), [16, 11], [27, 59]),
    "004-E6": (  # x is a^[1]; a factor for layer 1 belongs to another network
        lambda: jb.jacobian(jb.Network([FIRST.layers[1]]), [0, 0]),
        lambda: jb.jacobian(FIRST, [0, 0]),
        [[1, 2]],
        [[2, 1]],
    ),
    "004-E8": (lambda: CHAIN.output_jacobian(1, "preactivation"), lambda: [[1]], [[3]], [[1]]),
    "004-E10": (  # vacuous as written; as one term with two layers the sum is lost
        lambda: SCALAR.output_jacobian(1, "preactivation")[0],
        lambda: np.diag(W2) * np.array(SCALAR.output_jacobian(2, "preactivation")[0], float),
        [4, 6],
        [1, 4],
    ),
    "004-E13": (lambda: Exact(FIRST, [2, 0], [0]).cost, lambda: 4.0**2, 8, 16),
    "004-E16": (lambda: R.D_h(2), lambda: R.D_h(3), [1, 11], [1, 10]),
    "004-E18": (lambda: R.D_a(2), lambda: R.D_h(3), [1, 11], [1, 10]),
    "004-E19": (lambda: R.D_a(2)[1], lambda: R.D_h(3)[1], 11, 10),
    "004-E21": (lambda: TOP.D_a(1), lambda: [TOP.D_a(2)[0] * 6], [6], [36]),
    "004-E22": (lambda: R.D_a(1), lambda: W2.T @ delta3, [34, 46], [31, 42]),
    "004-E23": (lambda: W2.T @ delta2, lambda: NET_R.layers[3].W.T, [34, 46], "IndexError"),
    "004-E24": (
        lambda: BENT.D_a(1),
        lambda: np.array([3.0, 1.0]) * 2 * BENT.z[1][0],
        [6, 4],
        [6, 2],
    ),
    "004-E25": (lambda: STEEP.h[2], lambda: STEEP.z[2], [25], [5]),
    "004-E26": (lambda: STEEP.output_jacobian(1, "preactivation"), lambda: [[2]], [[20]], [[2]]),
    "004-E29": (lambda: W2[:, 0], lambda: np.full(2, W2[0, 0]), [1, 3], [1, 1]),
    "004-E30": (lambda: W2[1, 0], lambda: 0, 3, 0),
    "004-E32": (lambda: FORK.gradient(1), lambda: [[FORK.D_h(2)[0]]], [[11]], [[1]]),
    "004-E36": (  # the derivative of layer 1 if layer 1 is the input
        lambda: jb.explicit.input_jacobian(
            jb.trace(FIRST, [0, 0]), of=LayerOne(jb.trace(FIRST, [0, 0])).ours(1)
        ),
        lambda: jb.explicit.input_jacobian(AT_FIRST, of=1),
        [[1, 0], [0, 1]],
        [[0, 1], [1, 0]],
    ),
    "004-E40": (lambda: W3 @ W2, lambda: W2 @ W3, [[4, 6], [3, 4]], [[1, 3], [3, 7]]),
    "004-E41": (  # the paper's 2-2-3-2 network
        lambda: LayerOne(jb.trace(jb.Network.random([2, 2, 3, 2]), [0, 0])).L,
        lambda: jb.Network.random([2, 2, 3, 2]).depth,
        4,
        3,
    ),
}


@pytest.mark.parametrize("tag", WRONG)
def test_wrong_claims_of_004_give_other_numbers(tag):
    truth, literal, shown, other = WRONG[tag]
    assert outcome(truth) == shown
    assert outcome(literal) == other
    assert shown != other


def test_other_readings_of_wrong_claims_of_004_do_not_fit():
    """E2 and E4 where the widths differ, E23 with n_L != n_{l+1}, E32 with an output too few."""
    with pytest.raises(ValueError, match="matmul"):
        W3 @ np.ones(1)
    with pytest.raises(ValueError, match="matmul"):
        W1 @ np.array(R.h[1], float)
    with pytest.raises(ValueError, match="matmul"):
        W2.T @ np.ones(4)
    with pytest.raises(IndexError):
        NARROW([1.0])[1]  # a_j^[L] for j = 2
