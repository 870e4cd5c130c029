"""Laws 1 and 2: every structured map is its dense matrix; the identities of vec and Kronecker."""

import copy
import dataclasses
import math
import re
from itertools import pairwise

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from zoo import MAPS, whole

import jacobians as jb
from jacobians import strategies as jst
from jacobians.maps import Substitution, blocks_of, elementary

every_map = pytest.mark.parametrize(("A", "dense"), [m[1:] for m in MAPS], ids=[m[0] for m in MAPS])


def columns_for(A, *shape):
    """Whole numbers of a shape that A takes."""
    return whole(*A.batch, *shape)


# --- law 1, on the zoo: whole numbers, so every law is an equality --------------------------------


@every_map
def test_dense_form_is_the_definition(A, dense):
    assert_equal(A.to_dense(), dense)


@every_map
def test_shape_dtype_and_batch_are_those_of_the_dense_form(A, dense):
    assert A.batch + A.shape == dense.shape
    assert A.dtype == A.to_dense().dtype


@every_map
def test_columns_may_lie_in_memory_as_rows(A, dense):
    """One after the other, in a stack also with the points between."""
    n, B = A.shape[1], A.batch
    after = whole(*B, 5, n).swapaxes(-2, -1)
    assert_equal(A.apply(after), dense @ after)
    between = np.moveaxis(whole(5, *B, n), 0, -1)
    assert_equal(A.apply(between), dense @ between)


@every_map
def test_a_large_matrix_multiplies_as_a_small_one_does(A, dense, monkeypatch):
    """Which is cut into slabs; a bound of 0 entries makes every matrix a large one."""
    monkeypatch.setattr(elementary, "SMALL", 0)
    X = whole(2, 5, A.shape[1]).swapaxes(-2, -1) if not A.batch else columns_for(A, A.shape[1], 1)
    assert_equal(A.apply(X), dense @ X)


@every_map
def test_further_axes_in_front_of_the_points_are_columns_apart(A, dense):
    """And what has no axis for the points is for all of them."""
    columns = whole(2, *(A.batch or (3,)), A.shape[1], 4)
    for X in (columns, columns.swapaxes(-2, -1).copy().swapaxes(-2, -1), columns[:1, :1]):
        assert_equal(A.apply(X), dense @ X)
    assert_equal(A.apply(columns[0, 0]), dense @ columns[0, 0])


@every_map
def test_the_diagonal_and_the_trace_are_those_of_the_dense_form(A, dense):
    assert_equal(A.diagonal(), np.diagonal(dense, axis1=-2, axis2=-1))
    if A.shape[0] == A.shape[1]:
        assert_equal(A.trace(), np.trace(dense, axis1=-2, axis2=-1))


@every_map
def test_blocks_along_the_diagonal_are_those_of_the_dense_form(A, dense):
    """And so are blocks of several of them; a map of all points is repeated for each."""
    points, stacked = (A.batch or (1,))[0], bool(A.batch)
    assert_equal(
        jb.BlockDiagonal(jb.Matrix(blocks_of(A)), A.block_count, stacked).to_dense(), dense
    )
    for count in (d for d in range(1, A.block_count + 1) if A.block_count % d == 0):
        for times in (1,) if stacked else (1, 3):
            block = A.block_stack(count, points * times)
            shape = (points * times * count, *block.shape)
            blocks = jb.Matrix(np.broadcast_to(block.to_dense(), shape))
            repeated = jb.BlockDiagonal(blocks, count, True).to_dense()
            assert_equal(repeated, np.broadcast_to(dense, repeated.shape))


def test_blocks_along_the_diagonal_keep_their_structure():
    """All of them cost together what the map costs; also several in one, or parts of one."""
    six, U = whole(6, 4), whole(6, 4, 1)
    stacks = [jb.Diagonal(six), jb.DiagonalPlusLowRank(six, U, U), jb.Matrix(whole(6, 2, 3))]
    stacks += [jb.Kronecker(jb.Identity(2), jb.DiagonalPlusLowRank(six, U, U)), jb.Diagonal(six)]
    for blocks in stacks:
        for each, stacked in ((2, True), (3, True), (6, True), (6, False)):
            A = jb.BlockDiagonal(blocks, each, stacked)
            counts = [d for d in range(1, each + 1) if each % d == 0]
            if isinstance(blocks, jb.Diagonal):
                counts += [2 * each, 4 * each]
            for count in counts:
                assert count * A.block_stack(count, 6 // each).flops == A.flops


@given(st.data(), st.integers(1, 4))
def test_a_selection_copies_runs_of_rows_as_it_copies_rows(data, length):
    n = data.draw(st.integers(1, 5))
    runs = np.array(data.draw(st.lists(st.integers(-1, n - 1), min_size=1, max_size=6)))
    first = length * runs[:, None] + data.draw(st.integers(0, length))
    index = np.where(runs[:, None] < 0, -1, first + np.arange(length)).ravel()
    if data.draw(st.booleans()):  # and where one row breaks the runs
        index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(-1, n - 1))
    S = jb.Selection(index, length * (n + 1))
    permutation = jb.Selection(np.argsort(whole(length * n), kind="stable"), length * n)
    for A in (S, S.T, permutation, permutation.T):
        x = whole(3, A.shape[1]).T
        assert_equal(A.apply(x), A.to_dense() @ x)
        assert_equal(A @ x, A.to_dense() @ x)


def test_a_graph_leaves_out_the_nodes_that_its_end_does_not_read():
    """Also in the transposed map, where nothing leads to them; one that is read twice stays."""
    A, B, C, D = whole(2, 3), whole(4, 2), whole(5, 3), whole(4, 3)
    graph = Substitution(
        [[(0, A)], [(0, C)], [(2, whole(6, 5)), (1, whole(6, 2))], [(1, B), (0, D)]]
    )
    assert graph.nodes[-1][0][0] == 1
    assert len(graph.nodes) == 2
    assert_equal(graph.to_dense(), B @ A + D)
    assert_equal(graph.T.to_dense(), (B @ A + D).T)
    x, y = whole(3), whole(4)
    assert_equal(graph @ x, (B @ A + D) @ x)
    assert_equal(y @ graph, y @ (B @ A + D))
    alone = Substitution([[(0, C)], [(0, A)]])
    assert_equal(alone.T.to_dense(), A.T)
    with pytest.raises(jb.ShapeError, match="from node 1 to node 2 does not fit"):
        Substitution([[(0, C)], [(1, A)], [(0, A)]])  # all are looked at


def in_float32(value):
    """Return a map with all that it is made of in float32."""
    if isinstance(value, jb.LinearMap):
        twin = copy.copy(value)
        vars(twin).clear()
        for name in (f.name for f in dataclasses.fields(value)):
            object.__setattr__(twin, name, in_float32(getattr(value, name)))
        return twin
    if isinstance(value, tuple):
        return tuple(map(in_float32, value))
    if isinstance(value, np.ndarray):
        return np.float32(value) if value.dtype.kind == "f" else value
    return np.dtype(np.float32) if value in (np.dtype(float), float) else value


SINGLE = np.float32(whole(2, 3))
FLOAT32 = [jb.Blocks([SINGLE, jb.Identity(2, np.float32)]), *(in_float32(m[1]) for m in MAPS)]


@pytest.mark.parametrize("A", FLOAT32, ids=repr)
def test_a_map_of_float32_stays_one(A):
    x, y = (np.ones((*A.batch, size), np.float32) for size in (A.shape[1], A.shape[0]))
    results = [A, A.T, A.to_dense(), A.T.to_dense(), A @ x, A @ x[..., None], y @ A, A.diagonal()]
    assert {result.dtype for result in results} == {np.dtype(np.float32)}
    if not A.batch:
        assert A.to_scipy().dtype == np.float32
        if "LowRank" not in repr(A):
            assert A.to_sparse().dtype == np.float32


@every_map
def test_product_with_a_vector_is_the_dense_product(A, dense):
    """A x = dense x."""
    x = columns_for(A, A.shape[1])
    assert_equal(A @ x, (dense @ x[..., None])[..., 0])


@every_map
def test_product_with_a_matrix_is_the_dense_product(A, dense):
    """A X = dense X."""
    X = columns_for(A, A.shape[1], 3)
    assert_equal(A @ X, dense @ X)


@every_map
def test_product_from_the_left_is_the_dense_product(A, dense):
    """x A = x dense."""
    x = columns_for(A, A.shape[0])
    assert_equal(x @ A, (x[..., None, :] @ dense)[..., 0, :])


@every_map
def test_one_vector_serves_all_matrices_of_a_stack(A, dense):
    x = whole(A.shape[1])
    assert_equal(A @ x, dense @ x)


@every_map
def test_transpose_is_the_dense_transpose(A, dense):
    """(Aᵀ) dense = (dense A)ᵀ, by definition and by application."""
    assert_equal(A.T.to_dense(), np.swapaxes(dense, -2, -1))
    X = columns_for(A, A.shape[0], 2)
    assert_equal(A.T @ X, np.swapaxes(dense, -2, -1) @ X)
    assert_equal(A.T.T.to_dense(), dense)


@every_map
def test_transpose_is_the_adjoint(A, dense):
    """<u, A v> = <Aᵀ u, v>."""
    u, v = columns_for(A, A.shape[0]), columns_for(A, A.shape[1])
    assert_equal((u * (A @ v)).sum(axis=-1), ((A.T @ u) * v).sum(axis=-1))


@every_map
def test_composition_is_the_dense_product(A, dense):
    """(A B) dense = dense A dense B, and the product of maps is a Product."""
    B = whole(A.shape[1], 2)
    both = A @ jb.Matrix(B)
    assert isinstance(both, jb.Product)
    assert_equal(both.to_dense(), dense @ B)


@every_map
def test_scipy_operator_multiplies_like_the_map(A, dense):
    if A.batch:
        with pytest.raises(TypeError, match="takes one matrix, not a stack"):
            A.to_scipy()
        return
    operator = A.to_scipy()
    x, y, X = whole(A.shape[1]), whole(A.shape[0]), whole(A.shape[1], 2)
    assert operator.shape == A.shape
    assert operator.dtype == A.dtype
    assert_equal(operator @ x, dense @ x)
    assert_equal(operator.T @ y, dense.T @ y)
    assert_equal(operator @ X, dense @ X)
    Y = whole(A.shape[0], 3)
    assert_equal(operator.T @ Y, dense.T @ Y)
    assert_equal(A.rmatmat(Y), dense.T @ Y)
    assert_equal(A.rmatvec(y), dense.T @ y)


@every_map
def test_sparse_form_is_the_dense_form_or_a_refusal(A, dense):
    if A.batch or any("low rank" in name for name, B, _ in MAPS if B is A):
        with pytest.raises(TypeError, match=r"to_scipy|not a stack"):
            A.to_sparse()
    else:
        assert A.to_sparse().format == "csr"
        assert_equal(A.to_sparse().toarray(), dense)


@every_map
def test_reach_is_the_largest_sum_of_a_row_or_column_of_the_magnitude(A, dense):
    """At least 1; of whole numbers, so in the same bits."""
    M = A.magnitude().to_dense()
    largest = [M.sum(axis=axis).max(initial=1.0) for axis in (-2, -1)]
    if type(A).reach is jb.LinearMap.reach:  # the others also bound what lies inside
        assert A.reach() == max(largest)
    assert A.reach() >= max(largest)


@every_map
def test_a_monomial_map_has_at_most_one_entry_in_a_row_and_a_column(A, dense):
    entries = (dense != 0).sum(axis=-1), (dense != 0).sum(axis=-2)
    assert not A.monomial or max(count.max() for count in entries) <= 1


def test_what_scales_and_permutes_is_monomial():
    permuted = jb.Selection([2, 0, 1], 3)
    light = [jb.Identity(2), jb.Diagonal([2.0, 3.0, 5.0]), permuted]
    light += [jb.Kronecker(light[0], light[1]), jb.Product([permuted, light[1]])]
    assert [A.monomial for A in light] == [True] * 5
    assert not jb.Matrix(np.ones((2, 1))).monomial


def test_a_map_of_no_size_or_no_points_is_known_and_reaches_one():
    """An empty batch is an ordinary case."""
    for batch in ((), (0,)):
        n = 3 if batch else 0
        d, U = np.ones((*batch, n)), np.ones((*batch, n, 1))
        for A in (jb.DiagonalPlusLowRank(d, U, U), jb.Diagonal(d), jb.Matrix(U)):
            assert A.reach() == 1
            assert A.to_dense().shape == (*batch, *A.shape)


@every_map
def test_repr_is_one_line_with_kind_and_shape(A, dense):
    assert "\n" not in repr(A)
    assert f"{A.shape[0]}x{A.shape[1]}" in repr(A)
    assert type(A).__name__ in repr(A)


@every_map
def test_maps_are_immutable(A, dense):
    field = next(iter(A.__dataclass_fields__))
    with pytest.raises(AttributeError):
        setattr(A, field, None)
    for value in vars(A).values():
        assert not (isinstance(value, np.ndarray) and value.flags.writeable)


# --- law 1, on drawn maps: nested, stacked, whole -------------------------------------------------


@given(st.data(), st.sampled_from([None, 3]))
def test_drawn_maps_obey_their_dense_form(data, batch):
    A = data.draw(jst.linear_maps(batch=batch, whole=True))
    dense = A.to_dense()
    x, u = columns_for(A, A.shape[1]), columns_for(A, A.shape[0])
    assert dense.shape == A.batch + A.shape
    assert_equal(A @ x, (dense @ x[..., None])[..., 0])
    assert_equal(A.T.to_dense(), np.swapaxes(dense, -2, -1))
    assert_equal((u * (A @ x)).sum(axis=-1), ((A.T @ u) * x).sum(axis=-1))


@given(st.data())
def test_drawn_products_associate(data):
    """(A B) C = A (B C)."""
    k, l, m, n = data.draw(st.lists(st.integers(1, 5), min_size=4, max_size=4))
    maps = jst.linear_maps
    A, B, C = (data.draw(maps(i, j, depth=1, whole=True)) for i, j in ((k, l), (l, m), (m, n)))
    assert_equal(((A @ B) @ C).to_dense(), (A @ (B @ C)).to_dense())
    assert ((A @ B) @ C).factors == (A @ (B @ C)).factors


# --- law 2: vec and Kronecker, on whole numbers of pairwise different dimensions ------------------


def whole_matrices(count):
    """Draw matrices of chained shapes (n0, n1), (n1, n2), ... with pairwise different sizes."""
    sizes = st.lists(st.integers(1, 5), min_size=count + 1, max_size=count + 1, unique=True)
    return sizes.map(lambda n: [whole(i, j) for i, j in pairwise(n)])


@given(whole_matrices(3))
def test_vec_of_a_triple_product(matrices):
    """vec(A X B) = (Bᵀ ⊗ A) vec(X)."""
    A, X, B = matrices
    assert_equal(jb.Kronecker(B.T, A) @ jb.vec(X), jb.vec(A @ X @ B))


@given(whole_matrices(2), whole_matrices(2))
def test_mixed_product_of_kroneckers(first, second):
    """(A ⊗ B)(C ⊗ D) = AC ⊗ BD."""
    (A, C), (B, D) = first, second
    left = jb.Kronecker(A, B) @ jb.Kronecker(C, D)
    assert_equal(left.to_dense(), np.kron(A @ C, B @ D))


@given(st.integers(0, 6), st.integers(0, 6))
def test_unvec_undoes_vec(m, n):
    """Of a matrix without rows or columns too."""
    M = np.arange(m * n).reshape(m, n)
    assert_equal(jb.unvec(jb.vec(M), (m, n)), M)
    assert_equal(jb.vec(jb.unvec(jb.vec(M), (m, n))), jb.vec(M))


@given(st.integers(1, 6), st.integers(1, 6))
def test_vec_stacks_columns(m, n):
    """vec(M)[j m + i] = M[i, j]."""
    M = whole(m, n)
    for i in range(m):
        for j in range(n):
            assert jb.vec(M)[j * m + i] == M[i, j]


@given(st.integers(1, 5), st.integers(1, 5))
def test_commutation_transposes(m, n):
    """K_mn vec(M) = vec(Mᵀ), and K_nm = K_mnᵀ = K_mn⁻¹."""
    M, K = whole(m, n), jb.Commutation(m, n)
    assert_equal(K @ jb.vec(M), jb.vec(M.T))
    assert_equal(K.T @ (K @ jb.vec(M)), jb.vec(M))
    assert_equal(K.T.to_dense(), jb.Commutation(n, m).to_dense())


@given(st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_commutation_swaps_the_factors_of_a_kronecker_product(sizes):
    """K_pm (A ⊗ B) K_nq = B ⊗ A for A (m x n) and B (p x q)."""
    m, n, p, q = sizes
    A, B = whole(m, n), whole(p, q)
    swapped = jb.Product([jb.Commutation(p, m), jb.Kronecker(A, B), jb.Commutation(n, q)])
    assert_equal(swapped.to_dense(), np.kron(B, A))


@given(st.integers(1, 6))
def test_duplication_restores_a_symmetric_matrix(n):
    """D_n vech(S) = vec(S), L_n vec(S) = vech(S), L_n D_n = I."""
    M = whole(n, n)
    S, D, L = M + M.T, jb.Duplication(n), jb.Elimination(n)
    assert_equal(D @ jb.vech(S), jb.vec(S))
    assert_equal(L @ jb.vec(M), jb.vech(M))
    stack = whole(2, 3, n, n)
    assert_equal(jb.vech(stack), [[jb.vech(M) for M in row] for row in stack])
    assert_equal((L @ D).to_dense(), np.eye(n * (n + 1) // 2))


@given(st.integers(1, 6))
def test_duplication_and_commutation_agree_on_symmetry(n):
    """K_nn D_n = D_n: what is duplicated is symmetric."""
    D = jb.Duplication(n)
    assert_equal((jb.Commutation(n, n) @ D).to_dense(), D.to_dense())


# --- what the structure is for --------------------------------------------------------------------


def test_weight_derivative_of_width_4096_is_kilobytes_and_its_dense_form_is_refused():
    """dz/dvec(W) = aᵀ ⊗ I at width 4096: 512 GiB dense, applied without forming it."""
    n = 4096
    a = np.ones((1, n))
    A = jb.Kronecker(a, jb.Identity(n))
    assert A.shape == (n, n * n)
    with pytest.raises(jb.TooLargeError, match="512 GiB, over the limit of 1 GiB"):
        A.to_dense()
    W = np.zeros((n, n))
    W[5, 7] = 3.0
    assert_equal(np.flatnonzero(A @ jb.vec(W)), [5])


def test_dense_limit_is_a_setting_of_the_block_around():
    A = jb.Identity(100)
    with jb.dense_limit(1000), pytest.raises(jb.TooLargeError, match=r"78\.1 KiB, over the limit"):
        A.to_dense()
    assert A.to_dense().shape == (100, 100)


def test_singular_values_and_least_squares_take_a_map():
    """svds, lsmr and eigsh accept to_scipy(), and find what dense linear algebra finds."""
    from scipy.sparse.linalg import eigsh, lsmr, svds

    rng = np.random.default_rng(3)
    A = jb.Product([rng.normal(size=(9, 6)), jb.Diagonal(rng.uniform(1, 2, 6))])
    dense = A.to_dense()
    reference = np.linalg.svd(dense, compute_uv=False)
    # Iterative solvers stop at a residual of about 1e-10 of the norm; 1e-6 leaves room for them.
    largest = svds(A.to_scipy(), k=2, return_singular_vectors=False)
    assert np.abs(np.sort(largest)[::-1] - reference[:2]).max() < 1e-6 * reference[0]
    b = rng.normal(size=9)
    solution = lsmr(A.to_scipy(), b, atol=1e-12, btol=1e-12)[0]
    assert np.abs(solution - np.linalg.lstsq(dense, b)[0]).max() < 1e-6
    gram = (A.T @ A).to_scipy()
    top = eigsh(gram, k=1, return_eigenvectors=False)[0]
    assert abs(top - reference[0] ** 2) < 1e-6 * reference[0] ** 2


def test_blocks_cost_what_each_costs_and_a_sum_for_every_further_one_of_a_row():
    A = jb.Matrix(np.ones((3, 2)))
    assert jb.Blocks([[A, A, A], [A, A, A]]).flops == 6 * A.flops + 2 * 6


def test_a_stack_of_matrices_is_no_operator_for_scipy():
    stack = jb.Matrix(np.ones((4, 3, 2)))
    for call in (stack.matmat, stack.matvec, stack.T.rmatmat):
        with pytest.raises(TypeError, match="a SciPy solver takes one matrix, not a stack"):
            call(np.ones((2, 1)))


def test_what_does_not_fit_a_map_is_told_the_shapes_that_do():
    one, stack = jb.Matrix(np.ones((3, 2))), jb.Matrix(np.ones((4, 3, 2)))
    with pytest.raises(jb.ShapeError, match=r"\(4, 2\) or \(4, 2, k\)"):
        stack @ np.ones(5)
    with pytest.raises(jb.ShapeError) as caught:
        one @ np.ones(5)
    assert str(caught.value).count("(2") == 2


def test_zeros_and_powers_of_two_scale_without_rounding():
    scales = jb.Diagonal([[0.0, 1.0, -0.25], [0.0, 0.0, 0.0], [3.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert_equal(scales.roundings(), [0, 0, 1, 0])


def test_a_path_as_a_graph_meets_the_roundings_of_its_product():
    """Contractions over 3 and 4 terms, and a scaling."""
    U, W, V = (jb.Matrix(np.ones(shape)) for shape in ((5, 4), (4, 3), (3, 2)))
    d = jb.Diagonal([3.0, 5.0, 7.0])
    path = Substitution([[(0, V)], [(1, d)], [(2, W)], [(3, U)]])
    product = jb.Product([U, W, d, V])
    assert_equal(path.to_dense(), product.to_dense())
    assert path.roundings() == product.roundings() == 1 + 3 + 4


def test_a_low_rank_part_says_its_rank_in_a_stack_too():
    d, U, V = np.ones((5, 4)), np.ones((5, 4, 2)), np.ones((5, 4, 2))
    assert (
        jb.DiagonalPlusLowRank(d, U, V).rank == jb.DiagonalPlusLowRank(d[0], U[0], V[0]).rank == 2
    )


def written_on_the_way(A):
    """The shapes of all arrays that are made for the dense form of a map."""
    m, n = A.shape
    made = [(m, n)]
    if isinstance(A, jb.Product):  # from the left
        made += [(m, B.shape[1]) for B in A.factors]
    if isinstance(A, Substitution):  # node after node
        made += [(B.shape[0], n) for edges in A.nodes for _, B in edges]
    parts = A._parts()
    return [(*A.batch, *shape) for shape in made] + [
        s for B in parts for s in written_on_the_way(B)
    ]


WIDE = [  # where something on the way is larger than the map
    jb.Product([np.ones((20, 1)), np.ones((1, 100)), np.ones((100, 1)), np.ones((1, 30))]),
    jb.Product([np.ones((30, 1)), np.ones((1, 100)), np.ones((100, 1)), np.ones((1, 20))]),
    Substitution([[(0, np.ones((1, 30)))], [(1, np.ones((40, 1)))], [(2, np.ones((2, 40)))]]),
    jb.Substitution([[(0, np.ones((5, 1)))], [(1, np.ones((5, 2, 5)))]]),
]


@pytest.mark.parametrize("A", [*WIDE, *(m[1] for m in MAPS)], ids=repr)
def test_a_dense_form_is_refused_by_the_largest_array_on_its_way(A):
    """With as many bytes it is written, and with one less nothing is."""
    most = max(8 * math.prod(shape) for shape in written_on_the_way(A))
    with jb.dense_limit(most):
        A.to_dense()
    with (
        jb.dense_limit(most - 1),
        pytest.raises(jb.TooLargeError, match=f"dense_limit\\({most}\\)"),
    ):
        A.to_dense()


@pytest.mark.parametrize("k", range(3))
def test_whichever_of_several_maps_does_not_fit_is_refused(k):
    """In a sum, a row or a column of blocks; and one that is alone fits itself."""
    for wrong in (np.ones((2, 4)), np.ones((3, 3)), np.ones((3, 2))):
        maps = [np.full((2, 3), i) for i in range(3)]
        assert_equal(jb.Sum(maps[k : k + 1]).to_dense(), maps[k])
        for count in (2, 3):
            some = maps[:count]
            some[k % count] = wrong
            first, other = (jb.Matrix(M) for M in (some[0], some[max(1, k % count)]))
            said = re.escape(f"Sum: {first} and {other} differ in shape.")
            with pytest.raises(jb.ShapeError, match=said):
                jb.Sum(some)
        maps[k] = wrong
        if len(wrong) != 2:
            with pytest.raises(jb.ShapeError, match="Blocks: block"):
                jb.Blocks(maps)
        if wrong.shape[1] != 3:
            with pytest.raises(jb.ShapeError, match="Blocks: block"):
                jb.Blocks([[A] for A in maps])


def test_a_selection_selects_what_is_there():
    for index in ([0, 5], [-2, 0], [5, 0]):
        with pytest.raises(jb.ShapeError, match="numbers from 0 to 2"):
            jb.Selection(index, 3)


def test_blocks_along_the_diagonal_fill_whole_matrices():
    """So many for each point, or all in one."""
    six = jb.Matrix(whole(6, 2, 3))
    for count, stacked in ((4, True), (4, False), (3, False)):
        with pytest.raises(jb.ShapeError, match=f"{count} blocks a matrix do not fit"):
            jb.BlockDiagonal(six, count, stacked)
    with pytest.raises(jb.ShapeError):  # a matrix is no stack
        jb.BlockDiagonal(jb.Matrix(whole(2, 3)), 1, False)


def test_a_sum_is_of_terms_of_one_batch_and_adds_them_up():
    two, three = (jb.Matrix(np.ones((B, 4, 3))) for B in (2, 3))
    with pytest.raises(jb.ShapeError, match="Sum"):
        jb.Sum([two, three])
    assert jb.Sum([two, two, two]).flops == 3 * two.flops + 2 * 4
