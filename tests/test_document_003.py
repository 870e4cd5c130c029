"""Laws of the system of document 003, "ECE 542 HW2a": the weight derivative by vec and Kronecker.

The four identities are those of document 000 and are checked there for any loss; here is the second
road to ``D_W L``, through ``vec(A B C) = (Cᵀ ⊗ A) vec(B)``, and what depends on the stacking order.
"""

import numpy as np
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tails import (
    LOSSES,
    Exact,
    assert_exactly,
    fewer,
    stack_rows,
    transposed,
    whole_networks,
    whole_vectors,
)

import jacobians as jb
from jacobians.conventions import (
    as_row,
    product,
    row_derivatives,
    weight_row_by_kronecker,
)

sizes = st.integers(1, 4)


def whole(*shape):
    return hnp.arrays(np.int64, shape, elements=st.integers(-9, 9))


def stack_columns(M):
    return [M[i, j] for j in range(M.shape[1]) for i in range(M.shape[0])]


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
        for derivative in (weight_row_by_kronecker(h, D_a), product(h, D_a), rows.weights[k - 1]):
            assert_exactly(derivative, transposed(exact.gradient(k)))
