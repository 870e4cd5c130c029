"""Laws of unit graphs: values, total derivatives, paths, exact and within the bound."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from exact_maps import exact_dense, worst_ratio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve_triangular
from unit_cases import (
    as_blocks,
    cotangents,
    every_derivative,
    exact,
    exact_cases,
    float_cases,
    fractions,
    slopes,
    substituted,
)

import jacobians as jb
from jacobians import witness
from jacobians.rounding import chain_bound
from jacobians.units import UnitGraph, gradients, linearization, walks

# --- exact laws -----------------------------------------------------------------------------------


@given(exact_cases())
def test_values_follow_from_the_recursion_in_the_callers_order(case):
    """h_i = sigma_i(sum_j A_ij h_j + sum_k B_ik x_k + b_i)"""
    z, h = exact(case)
    assert fractions(case.at.values) == [number.value for number in h]
    assert fractions(case.at.preactivations) == [number.value for number in z]
    assert np.array_equal(case.graph(case.x), case.at.values)


@given(exact_cases())
def test_total_derivatives_are_those_of_dual_numbers(case):
    """Column j of (I - D A)^{-1}, of (I - A D)^{-1} and of D (I - A D)^{-1}: bump h_j, z_j."""
    T, T_z = case.at.total_derivative(), case.at.total_preactivation_derivative()
    for j in range(len(case.b)):
        z, h = exact(case, ("z", (j,)))
        assert fractions(T[:, j]) == slopes(exact(case, ("h", (j,)))[1])
        assert fractions(T_z[:, j]) == slopes(z)
        assert fractions(case.at.slopes * T_z[:, j]) == slopes(h)


@given(exact_cases())
def test_input_jacobian_is_that_of_dual_numbers(case):
    """dh/dx = (I - D A)^{-1} D B"""
    J = case.at.input_jacobian()
    assert J.shape == case.B.shape
    for k in range(len(case.x)):
        assert fractions(J[:, k]) == slopes(exact(case, ("x", (k,)))[1])
    T = case.at.total_derivative()
    assert np.array_equal(J, T @ (case.at.slopes[:, None] * case.B))


@given(st.data(), exact_cases())
def test_gradients_on_edges_biases_and_inputs_are_those_of_dual_numbers(data, case):
    """dC/dA = delta hᵀ on the edges, dC/dB = delta xᵀ, dC/db = delta, dC/dx = Bᵀ delta; C = cᵀ h"""
    c = data.draw(cotangents(case))
    g = case.at.backprop(c)

    def gradient(what, index):
        moved = slopes(exact(case, (what, index))[1])
        return sum(Fraction(float(w)) * s for w, s in zip(c, moved, strict=True))

    for name, edges in (("A", g.edges.tocoo()), ("B", g.input_edges.tocoo())):
        for *ends, value in zip(*edges.coords, edges.data, strict=True):
            assert gradient(name, tuple(ends)) == Fraction(float(value))
    for name, computed in (("b", g.biases), ("x", g.inputs), ("z", g.deltas)):
        expected = [gradient(name, index) for index in np.ndindex(computed.shape)]
        assert fractions(computed) == expected


@given(st.data(), exact_cases())
def test_all_roads_to_the_total_derivative_agree_exactly(data, case):
    """levels = triangular substitution = Neumann series = sums over paths = rows by backprop"""
    at, N = case.at, len(case.b)
    T = at.total_derivative()
    assert np.array_equal(T, substituted(at, np.eye(N)))
    assert np.array_equal(T, sum(term.toarray() for term in at.neumann_terms()))
    assert np.array_equal(T, [[at.path_sum(j, i) for j in range(N)] for i in range(N)])
    rows = [at.backprop(row).deltas for row in np.eye(N)]
    assert np.array_equal(rows, T * at.slopes)
    assert np.array_equal(rows, [at.downstream_deltas(row) for row in np.eye(N)])
    J = at.input_jacobian()
    names = case.graph.input_names
    assert np.array_equal(
        J, np.reshape([[at.path_sum(name, i) for name in names] for i in range(N)], J.shape)
    )


@given(st.data(), exact_cases())
def test_a_graph_is_the_network_graph_with_blocks_of_1x1(data, case):
    """Substitution in the one is block substitution in the other, forwards and backwards."""
    c, S = data.draw(cotangents(case)), as_blocks(case.at)
    assert np.array_equal(case.at.total_derivative(), S.to_dense())
    assert np.array_equal(case.at.backprop(c).deltas, (S.T @ c) * case.at.slopes)


@given(exact_cases())
def test_the_two_total_derivatives_are_tied(case):
    """(I - D A)^{-1} D = D (I - A D)^{-1} and A (I - D A)^{-1} = (I - A D)^{-1} A"""
    T, T_z, d = case.at.total_derivative(), case.at.total_preactivation_derivative(), case.at.slopes
    assert np.array_equal(T * d, d[:, None] * T_z)
    assert np.array_equal(case.A @ T, T_z @ case.A)


@given(exact_cases())
def test_the_neumann_series_ends_at_the_longest_path(case):
    """(D A)^p has its edges on paths of p edges: none beyond the longest."""
    terms = [term.toarray() for term in case.at.neumann_terms()]
    DA = case.at.slopes[:, None] * case.A
    edges = csr_array(case.graph.A).copy()
    edges.data = np.ones_like(edges.data)
    power = np.linalg.matrix_power(edges.toarray(), len(terms) - 1)
    assert power.any()
    assert not (edges @ power).any()
    assert all(np.array_equal(DA @ before, after) for before, after in pairwise(terms))


@given(st.data(), exact_cases())
def test_a_batch_is_a_stack_of_points(data, case):
    N, m = case.B.shape
    B = data.draw(st.integers(0, 3))
    X = data.draw(hnp.arrays(np.int64, (B, m), elements=st.integers(-2, 2))).astype(float)
    C = data.draw(hnp.arrays(np.int64, (B, N), elements=st.integers(-3, 3))).astype(float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "PRODUCTS_AT_ONCE", data.draw(st.sampled_from([1, 2**20])))
        together = every_derivative(case.graph.linearize(X), C)
    apart = [every_derivative(case.graph.linearize(x), c) for x, c in zip(X, C, strict=True)]
    summed = ("edges", "input edges", "biases")  # the others have a row for each point
    for name, computed in together.items():
        alone = [one[name] for one in apart]
        if name in summed:
            assert np.array_equal(computed, sum(alone, start=np.zeros_like(computed))), name
        else:
            assert computed.shape[0] == B
            assert np.array_equal(computed, np.reshape(alone, computed.shape))


@given(st.data(), exact_cases())
def test_path_sums_of_a_batch_are_those_of_its_points(data, case):
    X = np.stack([case.x, case.x + 1, -case.x])
    end = data.draw(st.integers(0, len(case.b) - 1))
    together = case.graph.linearize(X).path_sum(0, end)
    assert together.tolist() == [case.graph.linearize(x).path_sum(0, end) for x in X]


@given(st.data(), exact_cases())
def test_levels_of_many_and_of_few_edges_go_the_same_way(data, case):
    """Few products are summed in NumPy, many in a sparse matrix product."""
    c = data.draw(cotangents(case))
    few = every_derivative(case.at, c)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "FEW_PRODUCTS", 0)
        many = every_derivative(case.at, c)
    assert all(np.array_equal(few[name], many[name]) for name in few)


@given(exact_cases(), st.randoms())
def test_renaming_units_permutes_everything(case, random):
    """The graph of (P A Pᵀ, P B, P b) has the values P h."""
    p = list(range(len(case.b)))
    random.shuffle(p)
    shuffled = UnitGraph(case.A[np.ix_(p, p)], case.B[p], case.b[p], [case.sigmas[i] for i in p])
    assert np.array_equal(shuffled(case.x), case.graph(case.x)[p])
    T = shuffled.linearize(case.x).total_derivative()
    assert np.array_equal(T, case.at.total_derivative()[np.ix_(p, p)])


@given(exact_cases([jb.activation("identity")]))
def test_quadratic_objectives_agree_with_central_differences_exactly(case):
    """C = sum of squares of linear units: (C(x + e) - C(x - e)) / 2 is its derivative."""

    def C(x):
        return (case.graph(x) ** 2).sum()

    steps = np.eye(len(case.x))
    g = case.at.backprop(2 * case.at.values)
    assert g.inputs.tolist() == [(C(case.x + e) - C(case.x - e)) / 2 for e in steps]


# --- within the rounding bound --------------------------------------------------------------------


@given(float_cases())
def test_all_roads_agree_within_the_rounding_bound(case):
    """Each is some order of the same products and sums, so the theorem of the maps bounds it."""
    at, N = case.at, len(case.b)
    T, S = at.total_derivative(), as_blocks(at)
    bound = chain_bound([S], T.dtype)
    assert worst_ratio(T, exact_dense(S), bound.single()) <= 1
    assert (np.abs(T - substituted(at, np.eye(N))) <= bound.pair()).all()
    series = sum(term.toarray() for term in at.neumann_terms())
    assert (np.abs(T - series) <= bound.pair(N)).all()  # N more sums on the way
    end = int(np.argmax(at.graph.levels))
    paths = np.array([at.path_sum(j, end) for j in range(N)])
    most = max(at.path_count(j, end) for j in range(N))
    assert (np.abs(T - paths)[end] <= bound.pair(most)[end]).all()
    rows = np.array([at.backprop(row).deltas for row in np.eye(N)])
    # one more product of each, with the slope, which may underflow
    allowed = bound.pair(1) * abs(at.slopes) + 2.0**-1074
    assert (np.abs(rows - T * at.slopes) <= allowed).all()
    by_hand = np.array([at.downstream_deltas(row) for row in np.eye(N)])
    assert (np.abs(rows - by_hand) <= allowed).all()


@given(float_cases())
def test_differences_witness_the_input_jacobian(case):
    assume(len(case.x))
    check = witness.check_jacobian(case.graph, case.at.input_jacobian(), case.x)
    assert check, str(check)


def test_a_large_graph_is_solved_as_by_scipys_substitution(rng):
    """20,000 units, 200,000 edges, shuffled: both roads, within the bound of the residual."""
    N, E = 20_000, 200_000
    targets = rng.integers(1, N, E)
    sources = (rng.random(E) * targets).astype(int)
    shuffle = rng.permutation(N)
    A = csr_array((rng.standard_normal(E) / 5, (shuffle[targets], shuffle[sources])), shape=(N, N))
    at = UnitGraph(A, rng.standard_normal((N, 3)), None, "tanh").linearize(rng.standard_normal(3))
    c = rng.standard_normal(N)
    order = np.argsort(at.graph.levels, kind="stable")
    scaled = at.graph.A.T.tocsr()
    scaled.data = scaled.data * np.repeat(at.slopes, np.diff(scaled.indptr))
    M = (eye_array(N) - scaled).tocsr()
    upper = M[order][:, order]
    other = np.empty(N)
    other[order] = spsolve_triangular(
        upper, (at.slopes * c)[order], lower=False, unit_diagonal=True
    )
    # both satisfy (I - D Aᵀ) delta = D c row by row up to degree + 3 roundings of its terms
    degree = np.diff(M.indptr).max()
    for delta in (at.backprop(c).deltas, other):
        terms = abs(M) @ abs(delta) + abs(at.slopes * c)
        assert (np.abs(M @ delta - at.slopes * c) <= 2.01 * (degree + 3) * 2.0**-53 * terms).all()


# --- paths ----------------------------------------------------------------------------------------


def paths_by_search(A, j, i):
    """Count the directed paths from j to i, one after the other."""
    return 1 if i == j else sum(paths_by_search(A, j, k) for k in np.flatnonzero(A[i]))


@given(exact_cases())
def test_with_slopes_and_weights_1_the_total_derivative_counts_paths(case):
    """[(I - E)^{-1}]_ij is the number of directed paths j -> i."""
    E = (case.A != 0).astype(float)
    N = len(E)
    at = UnitGraph(E, np.ones((N, 1))).linearize([1.0])
    counts = [[paths_by_search(E, j, i) for j in range(N)] for i in range(N)]
    assert at.total_derivative().tolist() == counts
    assert [[at.path_count(j, i) for j in range(N)] for i in range(N)] == counts
    assert [[len(at.paths(j, i)) for j in range(N)] for i in range(N)] == counts


@given(exact_cases())
def test_paths_follow_edges_and_carry_their_product(case):
    at = case.at
    names = case.graph.unit_names
    for i in range(len(names)):
        for path in at.paths(0, i):
            indices = [names.index(name) for name in path.vertices]
            assert (indices[0], indices[-1]) == (0, i)
            along = [at.slopes[b] * case.A[b, a] for a, b in pairwise(indices)]
            assert path.derivative == np.prod(along)
        assert len(set(at.paths(0, i))) == at.path_count(0, i)


def test_as_many_paths_as_are_allowed_are_listed_and_one_more_is_not(monkeypatch):
    """Five paths from x: through each of four units, and directly."""
    edges = [("x", f"u{k}", 1.0) for k in range(4)] + [(f"u{k}", "y", 2.0) for k in range(4)]
    at = UnitGraph.from_edges([*edges, ("x", "y", 3.0)], inputs=["x"]).linearize([1.0])
    monkeypatch.setattr(linearization, "MOST_PATHS", 5)
    assert len(at.paths("x", "y")) == at.path_count("x", "y") == 5
    monkeypatch.setattr(linearization, "MOST_PATHS", 4)
    with pytest.raises(ValueError, match="5 paths lead from x to y"):
        at.paths("x", "y")


def test_paths_are_counted_exactly_and_not_listed_when_there_are_too_many():
    """A ladder of 100 steps with two ways each has 2^100 paths."""
    edges = [("x", "u0", 1.0)]
    for k in range(100):
        edges += [(f"u{k}", f"v{k}", 1.0), (f"u{k}", f"u{k + 1}", 1.0), (f"v{k}", f"u{k + 1}", 1.0)]
    at = UnitGraph.from_edges(edges, inputs=["x"]).linearize([1.0])
    assert at.path_count("u0", "u100") == 2**100
    assert at.path_count("x", "u100") == 2**100
    assert at.values[at.graph.index("u100")] == 2.0**100
    with pytest.raises(ValueError, match="1,267,650,600,228,229,401,496,703,205,376 paths lead"):
        at.paths("u0", "u100")


def test_the_hand_example():
    """Two paths, 5 and 3 * 2; with total partials inside the Downstream sum it would be 17."""
    graph = UnitGraph([[0, 0, 0], [2, 0, 0], [5, 3, 0]], [[1], [0], [0]])
    at = graph.linearize([1.0])
    T = at.total_derivative()
    assert T.tolist() == [[1, 0, 0], [2, 1, 0], [11, 3, 1]]
    assert [path.derivative for path in at.paths(0, 2)] == [5, 6]
    deltas = at.backprop([0.0, 0.0, 1.0]).deltas
    assert deltas[0] == sum(deltas[k] * graph.A.toarray()[k, 0] for k in (1, 2)) == 11
    assert sum(deltas[k] * T[k, 0] for k in (1, 2)) == 17


# --- tied weights ---------------------------------------------------------------------------------


@settings(max_examples=50)  # two dozen graphs each
@given(st.data(), float_cases())
def test_the_gradient_of_a_tied_weight_is_the_sum_over_its_edges(data, case):
    """C(theta) with every tied edge moved by the same amount"""
    names = [*case.graph.unit_names, *case.graph.input_names]
    both = np.hstack([case.graph.A.toarray() != 0, case.graph.B.toarray() != 0])
    edges = [(names[j], names[i]) for i, j in np.argwhere(both)]
    assume(edges)
    ties = {edge: data.draw(st.sampled_from("pq")) for edge in edges}
    g = case.at.backprop(np.ones(len(case.b)))
    parameters = sorted(set(ties.values()))

    def C(theta):
        moved = np.hstack([case.A, case.B])
        for (source, target), name in ties.items():
            moved[names.index(target), names.index(source)] += theta[parameters.index(name)]
        N = len(case.b)
        return [UnitGraph(moved[:, :N], moved[:, N:], case.b, case.sigmas)(case.x).sum()]

    tied = g.tied(ties)
    check = witness.check_jacobian(C, [[tied[name] for name in parameters]], np.zeros(len(tied)))
    assert check, str(check)


def test_a_weight_in_series_with_itself():
    """y = w (w x): dy/dw = 2 w x = 6 at w = 3, x = 1, of which each edge has 3."""
    graph = UnitGraph.from_edges([("x", "a", 3.0), ("a", "b", 3.0)], inputs=["x"])
    g = graph.linearize([1.0]).backprop([0.0, 1.0])
    assert g.tied({("x", "a"): "w", ("a", "b"): "w"}) == {"w": 6.0}
    assert g.tied({("x", "a"): 1, ("a", "b"): 2}) == {1: 3.0, 2: 3.0}
    with pytest.raises(ValueError, match="there is no edge x -> b"):
        g.tied({("x", "b"): "w"})
