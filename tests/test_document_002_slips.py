"""Document 002: binary cross-entropy, and what the document says otherwise."""

from fractions import Fraction

import numpy as np
import pytest
from claims import assert_equal, assert_within
from document_002_cases import stored
from hypothesis import given
from hypothesis import strategies as st
from tails import outcome

import jacobians as jb
from jacobians.units import UnitGraph

# --- binary cross-entropy -------------------------------------------------------------------------

INTO_UNIT_INTERVAL = {
    "sigmoid": (jb.activation("sigmoid"), lambda z: 1 / (1 + np.exp(-z))),
    "(1 + tanh) / 2": (
        jb.Activation(
            "halved tanh", lambda z: (1 + np.tanh(z)) / 2, lambda z: (1 - np.tanh(z) ** 2) / 2
        ),
        lambda z: (1 + np.tanh(z)) / 2,
    ),
    "(2 + sin) / 4": (
        jb.Activation("quartered sin", lambda z: (2 + np.sin(z)) / 4, lambda z: np.cos(z) / 4),
        lambda z: (2 + np.sin(z)) / 4,
    ),
}


@pytest.mark.parametrize("name", INTO_UNIT_INTERVAL)
@pytest.mark.parametrize("seed", range(4))
def test_cross_entropy_of_any_activation_into_the_unit_interval(name, seed):
    """Two hidden layers, a skip, an output that feeds another output: all edges, complex step.

    002-E5, E7 to E9, E12, E18, E22, E24, M3.
    """
    sigma, formula = INTO_UNIT_INTERVAL[name]
    rng = np.random.default_rng(seed)
    ends = [
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 2),
        (4, 1),
        (4, 2),
        (4, 3),
    ]  # units 3 and 4 are read
    A, B, b = np.zeros((5, 5)), np.zeros((5, 2)), rng.uniform(-1, 1, 5)
    for i, j in ends:
        A[i, j] = rng.uniform(-1, 1)
    B[0], B[3, 1] = rng.uniform(-1, 1, 2), rng.uniform(-1, 1)
    x, y = rng.uniform(-1, 1, 2), np.array([1.0, 0.25])
    hidden = ["tanh", "sin", "softplus"]
    graph = UnitGraph(A, B, b, [*hidden, sigma, sigma])
    g = graph.linearize(x).gradients(y, jb.BinaryCrossEntropy(), [3, 4])
    formulas = [np.tanh, np.sin, lambda z: np.log(1 + np.exp(z)), formula, formula]

    def loss(A, B):
        h = np.zeros(5, complex)
        for i, f in enumerate(formulas):
            h[i] = f(A[i] @ h + B[i] @ x + b[i])
        o = h[3:]
        return -(y * np.log(o) + (1 - y) * np.log(1 - o)).sum()

    # some hundred roundings of numbers below 10; outputs stay within [0.01, 0.99]
    tolerance = 1e-12
    assert_within(g.loss, loss(A, B).real, tolerance)
    for M, gradient, own in ((A, g.edges, 0), (B, g.input_edges, 1)):
        for i, j in np.argwhere(M):
            step = np.zeros_like(M, complex)
            step[i, j] = 1e-30j
            moved = (A + step, B) if own == 0 else (A, B + step)
            assert_within(gradient.toarray()[i, j], loss(*moved).imag / 1e-30, tolerance)


@given(st.fractions(Fraction(1, 99), Fraction(98, 99)), st.fractions(0, 1))
def test_the_derivative_of_the_cross_entropy(h, y):
    """-y/h + (1-y)/(1-h) = (1-y)/(1-h) - y/h = (h-y)/(h(1-h)), in fractions.  002-E10 to E12."""
    assert -y / h + (1 - y) / (1 - h) == (1 - y) / (1 - h) - y / h == (h - y) / (h * (1 - h))


@given(st.integers(1, 63), st.integers(0, 64))
def test_the_cotangent_of_the_library_is_that_derivative(k, t):
    """c = (h - y) / (h (1 - h)) at dyadic numbers, up to the rounding of one quotient.  002-E10."""
    h, y = Fraction(k, 64), Fraction(t, 64)
    c = jb.BinaryCrossEntropy().cotangent(np.array([float(h)]), np.array([float(y)]))
    exact = (h - y) / (h * (1 - h))
    assert abs(Fraction(float(c[0])) - exact) <= abs(exact) * Fraction(1, 2**53)


@given(st.floats(-30, 30), st.sampled_from([0.0, 0.25, 1.0]))
def test_sigmoid_with_cross_entropy_leaves_the_difference(z, y):
    """delta = h - y, exact where h saturates too; h' = h (1 - h) for the logistic alone.

    002-E1, E12, M1.
    """
    graph = UnitGraph([[0]], [[1]], activations="sigmoid")
    at = graph.linearize([z])
    h = at.values[0]
    delta = at.gradients([y], jb.BinaryCrossEntropy(), [0]).deltas[0]
    assert_within(delta, h - y, 2.0**-52)  # h, 1 - h and two products round
    # h is within 3 ulps and 1 - h keeps only the digits that h has left
    assert_within(at.slopes[0], h * (1 - h), 8 * 2.0**-53)


def test_saturated_outputs_need_the_fused_form():
    """sigmoid(40) is 1 in floats: for y = 1 the plain form divides 0 by 0.  002-E12, M1."""
    graph = UnitGraph([[0]], [[1]], activations="sigmoid")
    at = graph.linearize([40.0])
    assert at.values[0] == 1
    delta = at.gradients([1.0], jb.BinaryCrossEntropy(), [0]).deltas[0]
    assert abs(delta * (1 + np.exp(40)) + 1) < 1e-15  # -1 / (1 + e^40), to a few roundings
    with pytest.raises(jb.DomainError, match="fuse"):
        at.gradients([1.0], jb.BinaryCrossEntropy(fuse=False), [0])


@pytest.mark.parametrize("seed", range(5))
def test_a_small_step_against_the_gradient_lowers_the_loss(seed):
    """w - eta dL/dw lowers L, w + eta dL/dw raises it.  002-E13."""
    rng = np.random.default_rng(seed)
    graph = UnitGraph([[0, 0], [1.5, 0]], rng.standard_normal((2, 2)), activations="sigmoid")
    x = rng.standard_normal(2)

    def gradients(graph):
        return graph.linearize(x).gradients([1.0], jb.BinaryCrossEntropy(), [1])

    g = gradients(graph)
    down = graph.step(g, rate=0.01)
    assert_equal(down.A.data, graph.A.data - 0.01 * g.edges.data)
    up = UnitGraph(
        2 * graph.A - down.A, 2 * graph.B - down.B, 2 * graph.biases - down.biases, "sigmoid"
    )
    assert gradients(down).loss < g.loss < gradients(up).loss


# --- what the document says otherwise -------------------------------------------------------------

SKIP = UnitGraph([[0, 0, 0], [2, 0, 0], [5, 3, 0]], [[1], [0], [0]]).linearize([1.0])
CHAIN = UnitGraph([[0, 0, 0], [2, 0, 0], [0, 3, 0]], [[1], [0], [0]]).linearize([1.0])
READ_TWICE = UnitGraph([[0, 0], [2, 0]], [[1], [0]]).linearize([1.0])
ZERO_EDGE = stored(np.array([[0.0], [np.nan]]))  # x -> unit 0, of weight 0
AT_ZERO = UnitGraph([[0, 0], [3, 0]], ZERO_EDGE, activations=["tanh", "sigmoid"]).linearize([2.0])
DEEP = UnitGraph([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[1], [0], [0]], activations="sigmoid")
DEEP = DEEP.linearize([1.0])
DIRECT = UnitGraph([[0]], stored(np.array([[0.0]])), activations="sigmoid").linearize([2.0])
LINE = UnitGraph([[0, 0], [0.5, 0]], [[1], [0]]).linearize([1.0])  # h_k = 1/2 inside (0, 1)
BCE = jb.BinaryCrossEntropy()


def loss_after(weight):
    """L for x = 1, y = 1 and a sigmoid unit: log(1 + e^-w)."""
    return round(float(np.log1p(np.exp(-weight))), 4)


def plugged_in(at, y, sign=-1.0):
    """h'(n_j) x_ji sum_k ((1-y)/(1-h_k) + sign y/h_k) h'(n_k) x_kj w_kj / x_kj, first edge."""
    h, s = at.values, at.slopes
    w, x_kj = float(at.graph.A.toarray()[1, 0]), float(h[0])
    factor = (1 - y) / (1 - h[1]) + sign * y / h[1]
    return s[0] * at.x[0] * factor * s[1] * x_kj * w / x_kj


# tag: (truth, as the document says or may be read, what the truth is, what the document gives)
WRONG = {
    "002-E1": (  # h (1 - h) for the identity at 2
        lambda: jb.activation("identity").derivative([2.0]),
        lambda: [2.0 * (1 - 2.0)],
        [1],
        [-2],
    ),
    "002-E2": (  # the activation of an example, instead of the output unit's preactivation
        lambda: UnitGraph([[0]], [[1, 1]], activations="square")([1.0, 2.0]),
        lambda: jb.activation("square")([1.0, 2.0]),
        [9],
        [1, 4],
    ),
    "002-E4": (  # Downstream(j) as all that j reaches, instead of what it feeds
        lambda: CHAIN.backprop([0, 0, 1]).deltas[0],
        lambda: CHAIN.backprop([0, 0, 1]).deltas[1:] @ CHAIN.total_derivative()[1:, 0],
        6,
        12,
    ),
    "002-E5": (  # one weight on two edges in series
        lambda: (
            UnitGraph([[0, 0], [3, 0]], [[3], [0]])
            .linearize([1.0])
            .backprop([0, 1])
            .tied({("u0", "u1"): 0, ("x0", "u0"): 0})[0]
        ),
        lambda: (
            UnitGraph([[0, 0], [3, 0]], [[3], [0]])
            .linearize([1.0])
            .backprop([0, 1])
            .edges.toarray()[1, 0]
        ),
        6,
        3,
    ),
    "002-E6": (  # d(w x)/dw at w = 0, and the quotient w x / w
        lambda: DIRECT.x[0],
        lambda: 0.0 * float(DIRECT.x[0]) / 0.0,
        2,
        "ZeroDivisionError",
    ),
    "002-E9": (  # a loss of h = 2 at y = 0, where its derivative formula gives a number
        lambda: (1 - 0.0) / (1 - 2.0) - 0.0 / 2.0,
        lambda: BCE.value(np.array([2.0]), np.array([0.0])),
        -1,
        "DomainError",
    ),
    "002-E13": (lambda: loss_after(0.5), lambda: loss_after(-0.5), 0.4741, 0.9741),
    "002-E14": (  # an output that feeds another output
        lambda: READ_TWICE.backprop([1, 1]).deltas[0],
        lambda: READ_TWICE.backprop([0, 1]).deltas[0],
        3,
        2,
    ),
    "002-E15": (
        lambda: AT_ZERO.x[0],
        lambda: 0.0 * float(AT_ZERO.x[0]) / 0.0,
        2,
        "ZeroDivisionError",
    ),
    "002-E16": (  # total derivatives inside the sum count the path 1 -> 2 -> 3 twice
        lambda: SKIP.backprop([0, 0, 1]).deltas[0],
        lambda: SKIP.backprop([0, 0, 1]).deltas[1:] @ SKIP.total_derivative()[1:, 0],
        11,
        17,
    ),
    "002-E17": (  # one term for n_k
        lambda: UnitGraph([[0]], [[2, 4]])([1.0, 3.0]),
        lambda: [2 * 1.0],
        [14],
        [2],
    ),
    "002-E19": (  # x_kj = tanh(0) = 0
        lambda: AT_ZERO.gradients([1.0], BCE, [1]).input_edges.toarray()[0, 0],
        lambda: AT_ZERO.gradients([1.0], BCE, [1]).ratio_form("x0", 0),
        -3,
        "DomainError",
    ),
    "002-E20": (
        lambda: AT_ZERO.gradients([1.0], BCE, [1]).input_edges.toarray()[0, 0],
        lambda: 1.0 * 2.0 * (-0.5 * 0.0) * 3.0 / float(AT_ZERO.values[0]),
        -3,
        "ZeroDivisionError",
    ),
    "002-E21": (  # a direct edge from input to output has no Downstream to sum over
        lambda: DIRECT.gradients([1.0], BCE, [0]).input_edges.toarray()[0, 0],
        lambda: 0.25 * 2.0 * sum([]),
        -1,
        0,
    ),
    "002-E22": (
        lambda: LINE.gradients([1.0], jb.BinaryCrossEntropy(fuse=False), [1]).input_edges.toarray()[
            0, 0
        ],
        lambda: plugged_in(LINE, 1.0, sign=1.0),
        -1,
        1,
    ),
    "002-E23": (
        lambda: AT_ZERO.graph.A.toarray()[1, 0],
        lambda: float(AT_ZERO.values[0]) * 3.0 / float(AT_ZERO.values[0]),
        3,
        "ZeroDivisionError",
    ),
    "002-E24": (  # the loss plugged in at a hidden unit
        lambda: round(DEEP.gradients([1.0], BCE, [2]).input_edges.toarray()[0, 0], 6),
        lambda: round(plugged_in(DEEP, 1.0), 6),
        -0.01455,
        -0.063891,
    ),
}


@pytest.mark.parametrize("tag", WRONG)
def test_wrong_claims_of_002_give_other_numbers(tag):
    truth, literal, shown, other = WRONG[tag]
    assert outcome(truth) == shown
    assert outcome(literal) == other
    assert shown != other


def test_the_plugged_in_formula_holds_for_one_hidden_layer():
    """With the sign repaired, and only where all of Downstream are outputs.  002-E22, E24."""
    at = UnitGraph([[0, 0], [1.5, 0]], [[0.5], [0]], activations="sigmoid").linearize([2.0])
    exact = at.gradients([0.25], BCE, [1]).input_edges.toarray()[0, 0]
    assert_within(plugged_in(at, 0.25), exact, 32 * 2.0**-53)  # twenty roundings of numbers below 2


def test_a_tiny_value_spoils_the_ratio_too():
    """At x_kj = 5e-324 the product dL/dw_kj is 0 and w_kj / x_kj infinite.  002-E19, E20."""
    tiny = 5e-324
    dL_dw = -0.5 * tiny
    assert dL_dw == 0
    assert dL_dw * 3.0 / tiny == 0  # the truth is -1.5
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(np.float64(dL_dw) * (np.float64(3.0) / np.float64(tiny)))


def test_the_preactivation_is_the_whole_sum():
    """n_j = 1 * 2 + 3 * 4 = 14, of which the document writes the first term.  002-E6, E15."""
    at = UnitGraph([[0]], [[1, 3]]).linearize([2.0, 4.0])
    assert at.preactivations[0] == 14
    assert at.graph.B.toarray()[0, 0] * at.x[0] == 2
    assert at.backprop([1.0]).input_edges.toarray()[0, 0] == 2


def test_activations_other_than_the_logistic_have_other_slopes():
    """tanh at 1: 0.420 against h (1 - h) = 0.182.  002-E1."""
    h = np.tanh(1.0)
    assert round(float(jb.activation("tanh").derivative([1.0])[0]), 3) == 0.420
    assert round(float(h * (1 - h)), 3) == 0.182
