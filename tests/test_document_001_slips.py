"""Document 001: what it says otherwise; each slip gives other numbers than the truth."""

import numpy as np
import pytest
from claims import assert_equal
from tails import Exact, outcome

import jacobians as jb
from jacobians.conventions import from_row_form, product, to_row_form

w1, w2, w3 = (np.array(w, float) for w in ([[2, 0], [5, 1]], [[1, 2], [3, 4]], [[1, 1], [0, 1]]))
zero = np.zeros((1, 2))
NET_Q = from_row_form([w1, w2, w3], [zero] * 3, "identity")
Q = Exact(NET_Q, [1, 1], [9, 18])
a1, a2, a3 = (np.array(v, float) for v in Q.h[1:])
D1, D2, D3 = (np.array(Q.D_a(l), float) for l in (1, 2, 3))
paths = np.array(Q.last_preactivation_jacobian(1), float)  # dz^3/dz^1
FOUR = Exact(from_row_form([w1, w2, w3, w1], [zero] * 4, "identity"), [1, 1], [159, 28])
SQUARE = Exact(jb.Network([jb.Dense(np.eye(2), activation="square")]), [1, 2], [0, 3])
slopes = np.diag([2.0, 4.0])  # da/dz of the squares at z = (1, 2)
ONE = to_row_form(jb.Network([jb.Dense([[1.0]])]))
TWO_POINTS = np.array([[1.0], [2.0]]), np.zeros((2, 1))

# tag: (truth, as the document says or may be read, what the truth is, what the document gives)
WRONG = {
    "001-E1": (lambda: a2[0], lambda: (a1 @ w2)[1], 10, 18),
    "001-E2": (  # the weights of layer j for unit j
        lambda: a1 @ w2,
        lambda: [a1 @ w[:, j] for j, w in enumerate((w1, w2))],
        [10, 18],
        [19, 18],
    ),
    "001-E4": (  # a half in C(x) and a half in front; N = 1, a - y = 4
        lambda: Exact(jb.Network([jb.Dense([[1]])]), [4], [0]).cost,
        lambda: 1 / 2 * (1 / 2 * 4.0**2),
        8,
        4,
    ),
    "001-E6": (  # of the mean cost, and of each point's own
        lambda: jb.backprop.gradients(
            from_row_form(ONE.weights, ONE.biases, "identity"), *TWO_POINTS, jb.SquaredError()
        ).deltas[0],
        lambda: ONE.errors(*TWO_POINTS)[0],
        [[0.5], [1]],
        [[1], [2]],
    ),
    "001-E7": (lambda: D3, lambda: Q.D_h(1), [1, 10], [31, 73]),
    "001-E8": (lambda: D1, lambda: [D2[j] * w2[j].sum() for j in range(2)], [31, 73], [33, 70]),
    "001-E9": (
        lambda: ONE.gradients(*TWO_POINTS)[0][0],
        lambda: TWO_POINTS[0].T @ ONE.errors(*TWO_POINTS)[0],
        [[2.5]],
        [[5]],
    ),
    "001-E10": (lambda: Q.D_b(3)[0], lambda: Q.D_a(3)[1], 1, 10),
    "001-E13": (lambda: SQUARE.D_a(1)[1], lambda: SQUARE.D_h(1)[1] * slopes[1, 0], 4, 0),
    "001-E17": (lambda: D1, lambda: D1[0] * paths[0], [31, 73], [31, 93]),
    "001-E19": (
        lambda: Q.z[3],
        lambda: [sum(a2[k] * w3[i, k] for i in range(2)) for k in range(2)],
        [10, 28],
        [10, 36],
    ),
    "001-E20": (  # the left side knows nothing of k
        lambda: paths,
        lambda: [[paths[j, j] for j in range(2)] for k in range(2)],
        [[1, 3], [3, 7]],
        [[1, 7], [1, 7]],
    ),
    "001-E22": (  # the unbound index set to 1
        lambda: paths,
        lambda: [[sum(w3[i, k] for i in range(2)) * w1[j, 0] for j in range(2)] for k in range(2)],
        [[1, 3], [3, 7]],
        [[2, 5], [4, 10]],
    ),
    "001-E23": (  # the index repaired, the weights still those of layer l
        lambda: paths,
        lambda: [[sum(w3[i, k] * w1[j, i] for i in range(2)) for j in range(2)] for k in range(2)],
        [[1, 3], [3, 7]],
        [[2, 5], [2, 6]],
    ),
    "001-E24": (lambda: paths, lambda: paths.sum(axis=1), [[1, 3], [3, 7]], [4, 10]),
    "001-E25": (  # the form on display is a Jacobian, not an error
        lambda: D1,
        lambda: paths,
        [31, 73],
        [[1, 3], [3, 7]],
    ),
    "001-E29": (lambda: D2, lambda: D3 @ w3.T @ w2.T, [11, 10], [31, 73]),
    "001-E30": (lambda: D1, lambda: [sum(D2) * w2[j, 0] for j in range(2)], [31, 73], [21, 63]),
    "001-E31": (lambda: D1, lambda: [sum(D2) * w2[j, 1] for j in range(2)], [31, 73], [42, 84]),
    "001-E33": (  # the superscript L-1 fits the two cases that were checked, not the third
        lambda: [FOUR.D_a(2), FOUR.D_a(1)],
        lambda: [np.array(FOUR.D_a(l + 1), float) @ w3.T for l in (2, 1)],
        [[7, 5], [17, 41]],
        [[7, 5], [12, 5]],
    ),
    "001-E34": (
        lambda: SQUARE.gradient(1)[1][0],
        lambda: SQUARE.D_h(1)[1] * slopes[1, 0] * SQUARE.h[0][0],
        4,
        0,
    ),
    "001-E35": (lambda: (a1 @ w2)[0], lambda: a1[0] * w2[0, 0], 10, 7),
    "001-E38": (lambda: (a1 @ w2)[1], lambda: a1[0] * w2[0, 1], 18, 14),
    "001-E42": (lambda: D3, lambda: Q.cost / a3, [1, 10], [5.05, 50.5 / 28]),
    "001-E43": (lambda: D1, lambda: D2 @ w2, [31, 73], [41, 62]),
}


@pytest.mark.parametrize("tag", WRONG)
def test_wrong_claims_of_001_give_other_numbers(tag):
    truth, literal, shown, other = WRONG[tag]
    assert outcome(truth) == shown
    assert outcome(literal) == other
    assert shown != other


def test_other_readings_of_wrong_claims_of_001_are_wrong_too():
    """E17 with Delta^L and no sum, E22 with the unbound index 2, E43 where w is not square."""
    assert_equal(D3[0] * paths[0], [1, 3])
    assert_equal(np.outer(w3.sum(axis=0), w1[:, 1]), [[0, 1], [0, 2]])
    with pytest.raises(jb.ShapeError):
        product(np.ones((1, 3)), np.ones((2, 3)))  # Delta^{l+1} w^{l+1} for n_l = 2, n_{l+1} = 3
