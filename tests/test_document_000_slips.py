"""Document 000: what it says otherwise; each slip gives other numbers than the truth."""

import numpy as np
import pytest
from hypothesis import given
from tails import (
    Exact,
    outcome,
    transposed,
    whole_vectors,
)

import jacobians as jb
from jacobians.conventions import (
    as_row,
    hadamard,
    product,
)

NET_P = jb.Network([jb.Dense([[1, 1], [0, 1]], [-2, 0], "square")])
P = Exact(NET_P, [1, 2], [0, 2])
h_prev, a, h = (np.array(v, dtype=float) for v in (P.h[0], P.z[1], P.h[1]))
W, y = NET_P.layers[0].W, np.array([0.0, 2.0])
slopes, D_h, D_a = (np.array(v, dtype=float) for v in ([2, 4], P.D_h(1), P.D_a(1)))
J = np.diag(slopes)
TWO = jb.Network([jb.Dense([[1]], [0]), jb.Dense([[2]], [0])])
tensor = np.einsum("mi,j->mij", np.eye(2), h_prev)  # da_m/dW_ij


def through(W, g=np.square):
    """The loss of Net P as a function of its weights, with g for the activation."""
    residual = g(W @ h_prev + np.array([-2.0, 0.0])) - y
    return residual @ residual / 2


def differences(f, M):
    """dC/dW of a polynomial of degree 4 in every entry: five points are exact."""
    G = np.empty_like(M)
    for index in np.ndindex(M.shape):
        E = np.zeros_like(M)
        E[index] = 1
        G[index] = (8 * (f(M + E) - f(M - E)) - (f(M + 2 * E) - f(M - 2 * E))) / 12
    return G


G = [[2, 4], [8, 16]]
D_W = [[2, 8], [4, 16]]

# tag: (truth, as the document says, what the truth is, what the document gives)
WRONG = {
    "000-E6": (
        lambda: Exact(TWO, [1], [0]).D_h(1),
        lambda: Exact(TWO, [1], [0]).D_h(2),
        [4],
        [2],
    ),
    "000-E7": (  # without the fact y = h^k the chain of equalities fails
        lambda: Exact(TWO, [1], [0]).D_h(1),
        lambda: Exact(TWO, [1], [0]).D_h(2),
        [4],
        [2],
    ),
    "000-E8": (  # C takes parameters, the loss gives a number
        lambda: NET_P.with_parameters(NET_P.parameters)(h_prev),
        lambda: NET_P.with_parameters([float(P.cost)])(h_prev),
        [1, 4],
        "ShapeError",
    ),
    "000-E14": (lambda: product(as_row(D_h), J), lambda: D_h @ slopes, [[2, 8]], 10),
    "000-E16": (lambda: P.D_a(1)[0], lambda: sum(D_h[j] * J[:, 0] for j in range(2)), 2, [6, 0]),
    "000-E17": (lambda: P.D_a(1)[0], lambda: D_h[1] * sum(J[1, i] for i in range(2)), 2, 8),
    "000-E18": (lambda: J[:, 0], lambda: np.zeros(2), [2, 0], [0, 0]),
    "000-E19": (lambda: P.D_a(1), lambda: [D_h[1] * np.trace(J)] * 2, [2, 8], [12, 12]),
    "000-E20": (lambda: J[0, 0], lambda: h[0], 2, 1),
    "000-E21": (  # g(a) = (a_1, a_1 + a_2) is not per entry and shows the layout
        lambda: D_h @ np.array([[1, 0], [1, 1]]),
        lambda: D_h @ np.array([[1, 0], [1, 1]]).T,
        [3, 2],
        [1, 3],
    ),
    "000-E23": (
        lambda: hadamard(as_row(D_h), as_row(slopes)),
        lambda: as_row(D_h) * J,
        [[2, 8]],
        [[2, 0], [0, 8]],
    ),
    "000-E24": (lambda: np.diag(J), lambda: h, [2, 4], [1, 4]),
    "000-E25": (lambda: P.D_a(1)[0], lambda: slopes @ D_h, 2, 10),
    "000-E26": (lambda: P.D_a(1)[0], lambda: D_h * slopes, 2, [2, 8]),
    "000-E29": (
        lambda: transposed(P.gradient(1)),
        lambda: P.gradient(1),
        D_W,
        G,
    ),
    "000-E33": (lambda: as_row(a).T.shape, lambda: as_row(a).shape, [2, 1], [1, 2]),
    "000-E34": (
        lambda: W @ h_prev + NET_P.layers[0].b,
        lambda: W.T @ h_prev + NET_P.layers[0].b,
        [1, 2],
        [-1, 3],
    ),
    "000-E35": (lambda: P.gradient(1), lambda: np.zeros((2, 2)), G, [[0, 0], [0, 0]]),
    "000-E36": (
        lambda: P.gradient(1),
        lambda: np.full((2, 2), D_a.sum() * h_prev.sum()),
        G,
        [[30, 30], [30, 30]],
    ),
    "000-E40": (  # the loss applied to -(W h + b), activation and all its slopes gone
        lambda: differences(through, W),
        lambda: differences(lambda M: through(M, np.negative), W),
        G,
        [[1, 2], [4, 8]],
    ),
    "000-E41": (  # D_W of a vector has three indices: no product of matrices
        lambda: np.einsum("m,mij->ij", D_h @ J, tensor),
        lambda: product(product(as_row(D_h), J), tensor),
        G,
        "ShapeError",
    ),
    "000-E42": (lambda: transposed(P.gradient(1)), lambda: D_h @ J @ h_prev, D_W, 18),
    "000-E44": (
        lambda: transposed(P.gradient(1)),
        lambda: product(product(as_row(D_h), J), as_row(h_prev).T),
        D_W,
        [[18]],
    ),
    "000-E45": (
        lambda: transposed(P.gradient(1)),
        lambda: product(hadamard(as_row(D_h), as_row(slopes)), as_row(h_prev).T),
        D_W,
        [[18]],
    ),
    "000-E47": (
        lambda: product(as_row(h_prev).T, as_row(D_a)),
        lambda: product(as_row(D_a), as_row(h_prev).T),
        D_W,
        [[18]],
    ),
    "000-E48": (
        lambda: hadamard(as_row(D_h), as_row(slopes)),
        lambda: hadamard(as_row(D_h), as_row(slopes)).sum(),
        [[2, 8]],
        10,
    ),
    "000-E49": (lambda: as_row(slopes), lambda: np.diag(h), [[2, 4]], [[1, 0], [0, 4]]),
    "000-E57": (
        lambda: product(hadamard(as_row(D_h), as_row(slopes)), W),
        lambda: hadamard(as_row(D_h), product(as_row(slopes), W)),
        [[2, 10]],
        [[2, 12]],
    ),
}


@pytest.mark.parametrize("tag", WRONG)
def test_wrong_claims_of_000_give_other_numbers(tag):
    truth, literal, shown, other = WRONG[tag]
    assert outcome(truth) == shown
    assert outcome(literal) == other
    assert shown != other


def test_wrong_orders_of_000_do_not_even_fit():
    """With n_k = 3 and n_{k-1} = 2 a row times slopes times the column h does not exist.

    000-E42, E44, E45, E47.
    """
    h, d, J = np.ones((2, 1)), np.ones((1, 3)), np.eye(3)
    with pytest.raises(jb.ShapeError):
        product(d, h)
    with pytest.raises(jb.ShapeError):
        product(product(d, J), h)
    with pytest.raises(jb.ShapeError):
        product(d, product(J, h))
    assert product(h, d).shape == (2, 3)


def test_the_trace_is_what_the_wrong_order_gives():
    """d h is the trace of h d.  000-E42, E47."""
    assert np.trace(product(as_row(h_prev).T, as_row(D_a))) == D_a @ h_prev == 18


@given(whole_vectors(3), whole_vectors(3))
def test_a_weight_derivative_is_symmetric_only_for_parallel_vectors(h, d):
    """h dᵀ = d hᵀ exactly if all 2 x 2 minors of (h, d) vanish.  000-E29."""
    outer = product(as_row(h).T, as_row(d))
    minors = [h[i] * d[j] - h[j] * d[i] for i in range(3) for j in range(3)]
    assert np.array_equal(outer, outer.T) == (not any(minors))
