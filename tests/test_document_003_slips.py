"""Document 003: what it says otherwise; each slip gives other numbers than the truth."""

import numpy as np
import pytest
from tails import (
    Exact,
    outcome,
    stack_rows,
)

import jacobians as jb
from jacobians.conventions import (
    hadamard,
    product,
    weight_row_by_kronecker,
)

P = Exact(jb.Network([jb.Dense([[1, 1], [0, 1]], [-2, 0], "square")]), [1, 2], [0, 2])
W, h_prev = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0], [2.0]])
D_h, slopes, D_a = (np.array([v], dtype=float) for v in (P.D_h(1), [2, 4], P.D_a(1)))
A, B, C = np.array([[1, 2], [3, 4]]), np.array([[0, 1], [2, 0]]), np.array([[1, 1], [0, 1]])
tensor = np.einsum("mi,j->mij", np.eye(2), h_prev[:, 0])  # da_m/dW_ij
three = np.array([[1.0], [2.0], [-2.0]])  # h of another size
G, D_W = [[2, 4], [8, 16]], [[2, 8], [4, 16]]


def cut_by_rows(stacked, shape):
    return stacked.reshape(shape)


# tag: (truth, as the document says or may be read, what the truth is, what the document gives)
WRONG = {
    "003-E4": (lambda: np.diag(slopes[0]).shape, lambda: D_h.shape, [2, 2], [1, 2]),
    "003-E6": (  # what NumPy does without the transpose
        lambda: hadamard(D_h, slopes),
        lambda: D_h * slopes.T,
        [[2, 8]],
        [[2, 4], [4, 8]],
    ),
    "003-E9": (  # three indices: not a product of matrices
        lambda: np.einsum("m,mij->ij", D_a[0], tensor),
        lambda: product(D_a, tensor),
        G,
        "ShapeError",
    ),
    "003-E12": (  # an order that the definition leaves open
        lambda: np.kron(h_prev.T, np.eye(2)) @ jb.vec(W),
        lambda: np.kron(h_prev.T, np.eye(2)) @ stack_rows(W),
        [3, 2],
        [1, 3],
    ),
    "003-E13": (
        lambda: stack_rows(A @ B @ C),
        lambda: np.kron(C.T, A) @ stack_rows(B),
        [4, 5, 8, 11],
        [2, 4, 4, 10],
    ),
    "003-E15": (
        lambda: (W @ h_prev)[:, 0],
        lambda: np.kron(h_prev.T, np.eye(2)) @ stack_rows(W),
        [3, 2],
        [1, 3],
    ),
    "003-E19": (  # six numbers are a 2 x 3 matrix, or a 3 x 2 one
        lambda: jb.unvec(np.arange(6), (2, 3)),
        lambda: jb.unvec(np.arange(6), (3, 2)),
        [[0, 2, 4], [1, 3, 5]],
        [[0, 3], [1, 4], [2, 5]],
    ),
    "003-E20": (
        lambda: product(h_prev, D_a),
        lambda: jb.unvec(product(D_a, np.kron(h_prev.T, np.eye(2)))[0], (2, 2)),
        D_W,
        G,
    ),
    "003-E21": (  # the right formula with an inverse that cuts by rows
        lambda: weight_row_by_kronecker(three, D_a),
        lambda: cut_by_rows(np.kron(three, np.eye(2)) @ D_a[0], (2, 3)).T,
        [[2, 8], [4, 16], [-4, -16]],
        [[2, 16], [8, -4], [4, -16]],
    ),
}


@pytest.mark.parametrize("tag", WRONG)
def test_wrong_claims_of_003_give_other_numbers(tag):
    truth, literal, shown, other = WRONG[tag]
    assert outcome(truth) == shown
    assert outcome(literal) == other
    assert shown != other


def test_without_the_transpose_the_shape_is_wrong():
    """n = 2, m = 3: vec⁻¹ gives 2 x 3, the derivative is 3 x 2.  003-E20."""
    row = product(D_a, np.kron(three.T, np.eye(2)))
    assert jb.unvec(row[0], (2, 3)).shape == (2, 3)
    assert weight_row_by_kronecker(three, D_a).shape == (3, 2)
