"""Laws of the system of document 003, "ECE 542 HW2a": the weight derivative by vec and Kronecker.

The four identities are those of document 000 and are checked there for any loss; here is the second
road to ``D_W L``, through ``vec(A B C) = (Cᵀ ⊗ A) vec(B)``, and what depends on the stacking order.
"""

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tails import (
    LOSSES,
    Exact,
    assert_exactly,
    fewer,
    outcome,
    transposed,
    whole_networks,
    whole_vectors,
)

import jacobians as jb
from jacobians.conventions import (
    as_row,
    hadamard,
    product,
    row_derivatives,
    weight_row_by_kronecker,
)

sizes = st.integers(1, 4)


def whole(*shape):
    return hnp.arrays(np.int64, shape, elements=st.integers(-9, 9))


def stack_columns(M):
    return [M[i, j] for j in range(M.shape[1]) for i in range(M.shape[0])]


def stack_rows(M):
    return [M[i, j] for i in range(M.shape[0]) for j in range(M.shape[1])]


@given(st.data(), sizes, sizes, sizes, sizes)
def test_vec_of_a_triple_product_depends_on_the_order(data, p, q, r, s):
    """vec(A B C) = (Cᵀ ⊗ A) vec(B) by columns, (A ⊗ Cᵀ) vec(B) by rows.  003-E12, E13."""
    A, B, C = data.draw(whole(p, q)), data.draw(whole(q, r)), data.draw(whole(r, s))
    assert_equal(jb.vec(A @ B @ C), stack_columns(A @ B @ C))
    assert_equal(np.kron(C.T, A) @ jb.vec(B), jb.vec(A @ B @ C))
    assert_equal(jb.Kronecker(C.T, A) @ jb.vec(B), jb.vec(A @ B @ C))
    assert_equal(np.kron(A, C.T) @ stack_rows(B), stack_rows(A @ B @ C))
    assert_equal(jb.Commutation(q, r) @ jb.vec(B), stack_rows(B))


@given(st.data(), sizes, sizes)
def test_vec_has_an_inverse_once_shape_and_order_are_said(data, n, m):
    """vec⁻¹(vec(M)) = M; a column vector is its own vec.  003-E12, E19, E22."""
    M, column = data.draw(whole(n, m)), data.draw(whole(n, 1))
    assert_equal(jb.unvec(jb.vec(M), (n, m)), M)
    assert_equal(jb.vec(column), column[:, 0])
    assert_equal(jb.unvec(stack_rows(M), (m, n)).T, M)
    if n != m:
        assert jb.unvec(jb.vec(M), (m, n)).shape != M.shape  # nm alone does not tell the shape


@given(st.data(), sizes, sizes)
def test_a_product_with_a_vector_is_a_kronecker_product_with_vec(data, n, m):
    """W h = (hᵀ ⊗ I_n) vec(W), of shape n x nm; by rows it is I_n ⊗ hᵀ.  003-E11, E15, E16."""
    W, h = data.draw(whole(n, m)), data.draw(whole(m))
    net = jb.Network([jb.Dense(W)])
    K = jb.explicit.preactivation_weight_jacobian(jb.trace(net, h), 1)
    assert K.shape == (n, n * m)
    assert_equal(K, np.kron(as_row(h), np.eye(n)))
    assert_equal(K @ jb.vec(W), W @ h)
    assert_equal(np.kron(np.eye(n), as_row(h)) @ stack_rows(W), W @ h)
    for i in range(n):  # da_s/dW_ij = (s == i) h_j, entry by entry
        for j in range(m):
            assert_equal(K[:, j * n + i], np.eye(n)[i] * h[j])


@st.composite
def problems(draw):
    net = draw(whole_networks())
    x, y = draw(whole_vectors(net.widths[0])), draw(whole_vectors(net.widths[-1]))
    loss, twin = draw(st.sampled_from(LOSSES))
    return net, x, y, loss, Exact(net, x, y, twin)


@fewer
@given(problems())
def test_the_kronecker_road_leads_to_the_weight_derivative(problem):
    """D_W L = (vec⁻¹((h ⊗ I) (D_a L)ᵀ))ᵀ = h D_a L, every step on the way, for every layer.

    000-E41; 003-E8, E9, E14, E17, E18, E20, E21, E23, E24, M2, M3.
    """
    net, x, y, loss, exact = problem
    seen, rows = jb.trace(net, x), row_derivatives(net, x, y, loss)
    for k in range(1, net.depth + 1):
        n, m = net.layers[k - 1].W.shape
        h, D_a = as_row(seen.activation(k - 1)).T, rows.preactivations[k - 1]
        K = jb.explicit.preactivation_weight_jacobian(seen, k)
        row = product(D_a, K)  # D_w L, w = vec(W)
        G = np.array(exact.gradient(k), dtype=object).reshape(n, m)
        assert_exactly(row, [stack_columns(G)])
        assert_equal(K.T, np.kron(h, np.eye(n)))  # (A ⊗ B)ᵀ = Aᵀ ⊗ Bᵀ
        column = product(np.kron(h, np.eye(n)), D_a.T)
        assert_equal(column, row.T)
        assert_equal(column[:, 0], jb.vec(product(D_a.T, h.T)))
        assert_exactly(jb.unvec(column[:, 0], (n, m)), exact.gradient(k))
        assert_equal(row.reshape(m, n), product(h, D_a))  # cut by rows, no transpose is needed
        for found in (weight_row_by_kronecker(h, D_a), product(h, D_a), rows.weights[k - 1]):
            assert_exactly(found, transposed(exact.gradient(k)))


# --- what the document says otherwise -------------------------------------------------------------

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
