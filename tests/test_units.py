"""Laws of unit graphs: values, total derivatives, paths, backpropagation, names, fixed points."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import EXACT_ACTIVATIONS, Dual, dual
from scipy.sparse import coo_array, csr_array, eye_array, issparse
from scipy.sparse.linalg import spsolve_triangular

import jacobians as jb
from jacobians import strategies as jst
from jacobians import witness
from jacobians.rounding import chain_bound
from jacobians.units import UnitGraph, gradients, linearization, walks
from jacobians.units.edges import LayerEdges, layer_edges

EXACT = [
    jb.activation("identity"),
    jb.activation("identity"),
    jb.activation("relu"),
    jb.activation("relu"),
    jb.activation("leaky_relu", slope=0.5),
    jb.activation("square"),
]
HOMOGENEOUS = EXACT[:5]
SMOOTH = [jb.activation(name) for name in jst.SMOOTH]


# --- cases ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A graph with what it was made from, written out, and a point."""

    graph: UnitGraph
    A: np.ndarray
    B: np.ndarray
    b: np.ndarray
    sigmas: list
    x: np.ndarray

    @cached_property
    def at(self):
        return self.graph.linearize(self.x)


def sparse_with(values, mask):
    """Stored entries where the mask is true, zeros among them."""
    return coo_array((values[mask], np.nonzero(mask)), shape=mask.shape)


@st.composite
def shapes(draw, max_units=6, max_inputs=3):
    """Masks of an acyclic graph, its units in any order, and how it is handed over."""
    N, m = draw(st.integers(1, max_units)), draw(st.integers(0, max_inputs))
    order = np.array(draw(st.permutations(range(N))))
    sorted_edges = np.tril(draw(hnp.arrays(bool, (N, N))), -1)
    E = np.zeros((N, N), dtype=bool)
    E[np.ix_(order, order)] = sorted_edges
    return E, draw(hnp.arrays(bool, (N, m))), draw(st.booleans())


def case_of(shape, A, B, b, sigmas, x):
    E, E_B, sparse = shape
    A, B = A * E, B * E_B
    handed = (sparse_with(A, E), sparse_with(B, E_B)) if sparse else (A, B)
    return Case(UnitGraph(*handed, b, sigmas), A, B, b, sigmas, x)


@st.composite
def exact_cases(draw, sigmas=EXACT):
    """Whole numbers on which every road is exact: nothing comes near 53 bits."""
    shape = draw(shapes())
    N, m = shape[1].shape
    A, B, b, x = (
        draw(hnp.arrays(np.int64, size, elements=st.integers(-3, 3))).astype(float)
        for size in ((N, N), (N, m), (N,), (m,))
    )
    case = case_of(shape, A, B, b, [draw(st.sampled_from(sigmas)) for _ in range(N)], x)
    assume(np.abs(case.graph(x)).max() < 2**13)
    assume(absolute_paths(case.at).max() < 2**13)
    return case


@st.composite
def float_cases(draw, sigmas=SMOOTH, max_units=8, scale=1.0):
    """Full mantissas: simple numbers would round too rarely."""
    shape = draw(shapes(max_units))
    N, m = shape[1].shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    A, B, b, x = (scale * rng.standard_normal(size) for size in ((N, N), (N, m), N, m))
    return case_of(shape, A, B, b, [sigmas[k] for k in rng.integers(0, len(sigmas), N)], x)


def cotangents(case):
    whole = st.integers(-3, 3)
    return hnp.arrays(np.int64, (len(case.b),), elements=whole).map(lambda c: c.astype(float))


# --- oracles --------------------------------------------------------------------------------------


def exact(case, bump=()):
    """Return all z and h as dual numbers, by recursion; ``bump = (what, place)`` is the seed."""

    def given(array, what):
        return {
            place: Dual(Fraction(float(entry)), Fraction(int(bump == (what, place))))
            for place, entry in np.ndenumerate(array)
        }

    A, B, b, x = (given(getattr(case, name), name) for name in "ABbx")
    N, m = case.B.shape
    z, h = {}, {}

    def visit(i):
        if i not in h:
            fed = [j for j in range(N) if case.A[i, j] or bump == ("A", (i, j))]
            z[i] = sum((A[i, j] * visit(j) for j in fed), start=b[i,])
            z[i] = sum((B[i, k] * x[k,] for k in range(m)), start=z[i])
            z[i] = z[i] + Dual(Fraction(0), Fraction(int(bump == ("z", (i,)))))
            sigma = case.sigmas[i]
            h[i] = dual(EXACT_ACTIVATIONS[sigma.name](z[i], **dict(sigma.parameters)))
            h[i] = h[i] + Dual(Fraction(0), Fraction(int(bump == ("h", (i,)))))
        return h[i]

    for i in range(N):
        visit(i)
    return [z[i] for i in range(N)], [h[i] for i in range(N)]


def slopes(numbers):
    return [number.slope for number in numbers]


def fractions(array):
    return [Fraction(float(entry)) for entry in np.ravel(array)]


def absolute_paths(at):
    """Return ``(I - |D| |A|)^{-1}``: the sums over paths of absolute values."""
    N = at.slopes.shape[-1]
    M = np.abs(at.slopes)[:, None] * np.abs(at.graph.A.toarray())
    total, term = np.eye(N), np.eye(N)
    for _ in range(N):
        term = M @ term
        total = total + term
    return total


def rounding(at, extra=0):
    """Return the factor by which a sum over paths may be off, relative to absolute values.

    However a path is added up, at each of its units it meets at most one rounding for the weight,
    one for the slope, one for a seed and one for every other edge that arrives there (or leaves,
    going backwards), so (1 + u)^K with K = (edges on the path + 1) (degree + 3).
    """
    A = at.graph.A.toarray() != 0
    degree = max(A.sum(axis=0).max(), A.sum(axis=1).max())
    K = int(at.graph.levels.max()) * (int(degree) + 3) + extra
    return np.expm1(K * 2.0**-53)


def substituted(at, right):
    """Solve ``(I - D A) v = r`` by scipy's substitution on the sorted matrix."""
    order = np.argsort(at.graph.levels, kind="stable")
    M = np.eye(len(order)) - at.slopes[:, None] * at.graph.A.toarray()
    lower = csr_array(M[np.ix_(order, order)])
    solved = np.empty_like(right)
    solved[order] = spsolve_triangular(lower, right[order], lower=True, unit_diagonal=True)
    return solved


def every_derivative(at, c):
    """Return all that is to be known at a point, by name."""
    g = at.backprop(c)
    return {
        "values": at.values,
        "total": at.total_derivative(),
        "of preactivations": at.total_preactivation_derivative(),
        "inputs": at.input_jacobian(),
        "deltas": g.deltas,
        "edges": g.edges.toarray(),
        "input edges": g.input_edges.toarray(),
        "biases": g.biases,
        "cotangent of inputs": g.inputs,
    }


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

    def gradient(what, place):
        moved = slopes(exact(case, (what, place))[1])
        return sum(Fraction(float(w)) * s for w, s in zip(c, moved, strict=True))

    for name, found in (("A", g.edges), ("B", g.input_edges)):
        for i, j, value in zip(found.tocoo().row, found.tocoo().col, found.data, strict=True):
            assert gradient(name, (i, j)) == Fraction(float(value))
    for name, found in (("b", g.biases), ("x", g.inputs), ("z", g.deltas)):
        assert fractions(found) == [gradient(name, place) for place in np.ndindex(found.shape)]


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
    for name, found in together.items():
        alone = [one[name] for one in apart]
        if name in summed:
            assert np.array_equal(found, sum(alone, start=np.zeros_like(found))), name
        else:
            assert found.shape[0] == B
            assert np.array_equal(found, np.reshape(alone, found.shape))


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
    at, N = case.at, len(case.b)
    T, P = at.total_derivative(), absolute_paths(at) * (1 + 2.0**-40)
    assert (np.abs(T - substituted(at, np.eye(N))) <= 2 * rounding(at) * P).all()
    series = sum(term.toarray() for term in at.neumann_terms())
    assert (np.abs(T - series) <= 2 * rounding(at, extra=N) * P).all()
    end = int(np.argmax(at.graph.levels))
    paths = np.array([at.path_sum(j, end) for j in range(N)])
    most = max(at.path_count(j, end) for j in range(N))
    assert (np.abs(T - paths)[end] <= 2 * rounding(at, extra=most) * P[end]).all()
    rows = np.array([at.backprop(row).deltas for row in np.eye(N)])
    assert (np.abs(rows - T * at.slopes) <= 2 * rounding(at, extra=1) * P * abs(at.slopes)).all()
    assert rounding(at, extra=max(most, N)) < 1e-12  # the bound says something
    by_hand = np.array([at.downstream_deltas(row) for row in np.eye(N)])
    assert (np.abs(rows - by_hand) <= 2 * rounding(at, extra=1) * P * abs(at.slopes)).all()


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
            places = [names.index(name) for name in path.vertices]
            assert (places[0], places[-1]) == (0, i)
            along = [at.slopes[b] * case.A[b, a] for a, b in pairwise(places)]
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


# --- the textbook's recursion and its identities --------------------------------------------------


def test_an_output_that_feeds_another_unit_has_a_direct_term():
    """C = u0 + u1 with u1 = 2 u0: dC/du0 = 1 + 2; the recursion without c_j would give 2."""
    at = UnitGraph([[0, 0], [2, 0]], [[1], [0]]).linearize([5.0])
    g = at.backprop([1.0, 1.0])
    assert g.deltas.tolist() == at.downstream_deltas([1.0, 1.0]).tolist() == [3, 1]
    assert g.direct.tolist() == [1, 1]


@given(st.data(), exact_cases())
def test_products_with_gradients_need_no_division(data, case):
    """sum_k w_kj dC/dw_kj = h_j (g_j - c_j) and sum_i w_ji dC/dw_ji + b_j dC/db_j = z_j delta_j"""
    c = data.draw(cotangents(case))
    at, g = case.at, case.at.backprop(c)
    total = c @ at.total_derivative()
    assert np.array_equal(g.outgoing(), at.values * (total - c))
    assert np.array_equal(g.incoming(), at.preactivations * g.deltas)
    assert np.array_equal(g.deltas, at.slopes * total)


@given(st.data(), exact_cases(HOMOGENEOUS))
def test_homogeneous_units_balance_what_comes_in_and_what_goes_out(data, case):
    """sigma(t z) = t sigma(z) for t > 0: incoming = outgoing + h c"""
    c = data.draw(cotangents(case))
    g = case.at.backprop(c)
    assert np.array_equal(g.incoming(), g.outgoing() + case.at.values * c)


def test_other_units_do_not_balance():
    g = UnitGraph([[0, 0], [1, 0]], [[3], [0]], None, ["square", "identity"]).linearize([1.0])
    g = g.backprop([0.0, 1.0])
    assert g.incoming().tolist() == [18, 9]
    assert g.outgoing().tolist() == [9, 0]


@given(st.data(), exact_cases())
def test_the_ratio_form_is_the_gradient_where_it_is_defined(data, case):
    """dC/dw_ji = x_ji (sigma'(z_j) sum_k (dC/dw_kj) w_kj / h_j + direct_j), refused at h_j = 0"""
    g = case.at.backprop(data.draw(cotangents(case)))
    feeds = np.diff(case.graph.A.tocsc().indptr) > 0
    names = [*case.graph.unit_names, *case.graph.input_names]
    both = coo_array(np.hstack([g.edges.toarray(), g.input_edges.toarray()])).toarray()
    for i, j in zip(*np.nonzero(np.hstack([case.A, case.B])), strict=True):
        if feeds[i] and case.at.values[i] == 0:
            with pytest.raises(jb.DomainError, match=f"value of unit u{i}, which is 0"):
                g.ratio_form(names[j], names[i])
        else:
            assert g.ratio_form(names[j], names[i]) == both[i, j]


def test_the_ratio_form_refuses_where_the_gradient_lives_on():
    """tanh at 0: h_j = 0, dC/dw_kj = 0, and yet dC/dw_ji = -3 x_ji w_kj / ... is not."""
    graph = UnitGraph.from_edges(
        [("x", "h", 0.0), ("h", "y", 3.0)], inputs=["x"], activations={"h": "tanh"}
    )
    g = graph.linearize([2.0]).backprop([0.0, -0.5])
    assert g.input_edges.toarray()[0, 0] == -3.0
    assert g.outgoing()[0] == 0.0  # the identity without division holds, and says nothing more
    with pytest.raises(jb.DomainError, match=r"value of unit h, which is 0.0.*outgoing\(\)"):
        g.ratio_form("x", "h")
    tiny = graph.linearize([2.0]).graph
    tiny = UnitGraph(tiny.A, tiny.B, [5e-324, 0.0], tiny.activations).linearize([2.0])
    assert tiny.backprop([0.0, -0.1]).edges.data.tolist() == [0.0]  # the product underflows
    with pytest.raises(jb.DomainError, match="5e-324"):
        tiny.backprop([0.0, -0.1]).ratio_form("x0", "u0")


# Activations with values in (0, 1) that are not the logistic function.
BETWEEN = [
    jb.activation("sigmoid"),
    jb.Activation("half tanh", lambda z: (1 + np.tanh(z)) / 2, lambda z: 0.5 / np.cosh(z) ** 2),
    jb.Activation("quarter sine", lambda z: (2 + np.sin(z)) / 4, lambda z: np.cos(z) / 4),
]


def parameters(graph):
    return np.concatenate([graph.A.data, graph.B.data, graph.biases])


def with_parameters(graph, theta):
    edges, inputs, biases = np.split(theta, np.cumsum([graph.A.nnz, graph.B.nnz]))
    A, B = graph.A.copy(), graph.B.copy()
    A.data, B.data = edges.copy(), inputs.copy()
    return UnitGraph(A, B, biases, graph.activations)


@settings(max_examples=50)  # two dozen graphs each
@given(st.data(), float_cases([*BETWEEN, jb.activation("tanh")], scale=0.4), st.booleans())
def test_cross_entropy_at_any_output_into_the_unit_interval(data, case, several):
    """C = sum over outputs of -y log h - (1 - y) log(1 - h); outputs may feed other units."""
    inside = [i for i, sigma in enumerate(case.sigmas) if sigma.name != "tanh"]
    assume(inside)
    outputs = data.draw(st.permutations(inside))[: len(inside) if several else 1]
    y = data.draw(hnp.arrays(float, len(outputs), elements=st.floats(0, 1)))
    loss = jb.BinaryCrossEntropy()
    g = case.at.gradients(y, loss, outputs)
    h = case.at.values[outputs]
    value = -(y * np.log(h) + (1 - y) * np.log(1 - h)).sum()
    near = np.minimum(h, 1 - h).min()  # 1 - h, its log and its inverse are good to u / (1 - h)
    assert abs(g.loss - value) <= 8 * len(h) * 2.0**-53 * (1 / near + value)
    c = np.zeros(len(case.b))
    c[outputs] = (1 - y) / (1 - h) - y / h
    assert np.abs(g.direct - case.at.slopes * c).max() <= 16 * 2.0**-53 / near

    theta = parameters(case.graph)
    direction = np.cos(np.arange(len(theta)))

    def C(t):
        graph = with_parameters(case.graph, theta + t * direction)
        return [graph.linearize(case.x).gradients(y, loss, outputs).loss]

    slope = np.concatenate([g.edges.data, g.input_edges.data, g.biases]) @ direction
    check = witness.check_jacobian(C, [[slope]], [0.0])
    assert check, str(check)


def test_sigmoid_and_cross_entropy_stay_exact_in_saturation():
    """delta = h - y; sigmoid(40) is 1 in floating point, and dC/dh would be 0/0."""
    at = UnitGraph([[0]], [[40]], None, "sigmoid").linearize([1.0])
    assert at.values[0] == 1.0
    delta = at.gradients([1.0], jb.BinaryCrossEntropy(), [0]).deltas[0]
    assert abs(delta * (1 + np.exp(40)) + 1) < 1e-15  # a few roundings
    assert at.gradients([0.0], jb.BinaryCrossEntropy(), [0]).deltas[0] == 1.0
    with pytest.raises(jb.DomainError, match="strictly between 0 and 1"):
        at.gradients([1.0], jb.BinaryCrossEntropy(fuse=False), [0])
    with pytest.raises(jb.DomainError, match="strictly between 0 and 1"):
        UnitGraph([[0]], [[2]]).linearize([1.0]).gradients([0.0], jb.BinaryCrossEntropy(), [0])


def test_a_fused_loss_at_an_output_that_feeds_another_pulls_back_through_both(rng):
    """The cotangent at z joins what comes through the units that the output feeds."""
    A = [[0, 0, 0], [1.5, 0, 0], [-0.5, 2.0, 0]]
    graph = UnitGraph(A, rng.standard_normal((3, 2)), rng.standard_normal(3), "sigmoid")
    at = graph.linearize(rng.standard_normal(2))
    y = [0.25, 0.5]
    g = at.gradients(y, jb.BinaryCrossEntropy(), ["u0", "u2"])
    apart = at.gradients(y, jb.BinaryCrossEntropy(fuse=False), ["u0", "u2"])
    # the same sum with (h - y) / (h (1 - h)) multiplied by h (1 - h): some roundings of order 1
    assert np.allclose(g.deltas, apart.deltas, rtol=1e-13, atol=1e-15)
    assert np.allclose(g.edges.toarray(), apart.edges.toarray(), rtol=1e-13, atol=1e-15)


def test_the_objective_of_a_batch_is_the_mean(rng):
    graph = UnitGraph([[0, 0], [2, 0]], rng.standard_normal((2, 3)), None, "tanh")
    X, Y = rng.standard_normal((4, 3)), rng.standard_normal((4, 1))
    g = graph.linearize(X).gradients(Y, jb.SquaredError(), [1])
    apart = [
        graph.linearize(x).gradients(y, jb.SquaredError(), [1]) for x, y in zip(X, Y, strict=True)
    ]
    for found, alone in (
        (g.loss, [one.loss for one in apart]),
        (g.edges.data, [one.edges.data for one in apart]),
        (g.biases, [one.biases for one in apart]),
    ):
        assert np.allclose(found, np.mean(alone, axis=0), rtol=1e-13)  # four terms, either way
    with pytest.raises(ValueError, match="the mean over no points"):
        graph.linearize(X[:0]).gradients(Y[:0], jb.SquaredError(), [1])


def test_a_step_against_the_gradient_lowers_the_loss():
    """w = 0, x = 1, y = 1: 0.6931 becomes 0.4741, and 0.9741 the other way."""
    graph = UnitGraph([[0]], csr_array(([0.0], ([0], [0]))), None, "sigmoid")

    def at(graph):
        return graph.linearize([1.0]).gradients([1.0], jb.BinaryCrossEntropy(), [0])

    g = at(graph)
    assert round(g.loss, 4) == 0.6931
    down = graph.step(g, 1.0)
    assert (down.B.toarray(), down.biases) == ([[0.5]], [0.5])
    assert at(down).loss < g.loss < at(UnitGraph([[0]], [[-0.5]], [-0.5], "sigmoid")).loss
    only_weight = UnitGraph([[0]], [[0.5]], None, "sigmoid")
    assert round(at(only_weight).loss, 4) == 0.4741


@given(st.data(), exact_cases())
def test_a_step_moves_every_parameter_and_no_structure(data, case):
    g = case.at.backprop(data.draw(cotangents(case)))
    after = case.graph.step(g, 0.5)
    for name, gradient in (("A", g.edges), ("B", g.input_edges)):
        before, now = getattr(case.graph, name), getattr(after, name)
        assert np.array_equal(now.indices, before.indices)
        assert np.array_equal(now.data, before.data - 0.5 * gradient.data)
    assert np.array_equal(after.biases, case.b - 0.5 * g.biases)
    assert after.activations == case.graph.activations


def test_a_step_refuses_other_graphs_and_negative_rates():
    graph, other = UnitGraph([[0]], [[2]]), UnitGraph([[0]], [[2]])
    g = graph.linearize([1.0]).backprop([1.0])
    with pytest.raises(ValueError, match="belong to another graph"):
        other.step(g, 0.1)
    with pytest.raises(ValueError, match="at least 0"):
        graph.step(g, -0.1)


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


# --- layered networks -----------------------------------------------------------------------------


def blocks(net):
    ends = np.cumsum([0, *net.widths[1:]])
    return {l: slice(*ends[l - 1 : l + 1]) for l in range(1, net.depth + 1)}


@given(st.data(), jst.exact_networks())
def test_blocks_of_a_layered_network_are_the_chains_products(data, net):
    """Block (u, l) of (I - D A)^{-1} is D^u W^u ... D^{l+1} W^{l+1}, exactly."""
    x = data.draw(jst.whole_points(net))
    graph, lin = UnitGraph.from_network(net), jb.linearize(net, x)
    at, block = graph.linearize(x), blocks(net)
    T, J = at.total_derivative(), at.input_jacobian()
    for u in block:
        assert np.array_equal(at.values[block[u]], lin.trace.activation(u))
        assert np.array_equal(at.preactivations[block[u]], lin.trace.preactivation(u))
        assert (graph.levels[block[u]] == u).all()
        assert np.array_equal(J[block[u]], lin.jacobian(of=u, wrt=0))
        for l in range(1, u + 1):
            assert np.array_equal(T[block[u], block[l]], lin.jacobian(of=u, wrt=l))
        for l in range(u + 1, net.depth + 1):
            assert not T[block[u], block[l]].any()


@given(st.data(), jst.exact_networks())
def test_gradients_of_a_layered_network_are_backprops(data, net):
    """dC/dW^l, zeros of W^l included, delta^l and dC/dx, for half the squared error"""
    x, y = data.draw(jst.whole_points(net)), np.zeros(net.widths[-1])
    block = blocks(net)
    at = UnitGraph.from_network(net).linearize(x)
    g = at.gradients(y, jb.SquaredError(), range(block[net.depth].start, block[net.depth].stop))
    expected = jb.backprop.gradients(net, x, y, jb.SquaredError())
    assert g.loss == expected.loss
    assert np.array_equal(g.inputs, expected.inputs)
    for l, W in enumerate(expected.weights, start=1):
        found = g.edges[block[l]][:, block[l - 1]] if l > 1 else g.input_edges[block[1]]
        assert found.nnz == W.size
        assert np.array_equal(found.toarray(), W)
        assert np.array_equal(g.deltas[block[l]], expected.deltas[l - 1])
        assert np.array_equal(g.biases[block[l]], expected.biases[l - 1])


@given(st.data(), jst.networks(last=jst.HIDDEN, dtypes=(np.float64, np.float32)))
def test_blocks_agree_with_the_chain_at_the_same_slopes_within_its_bound(data, net):
    """Scale and Elementwise layers too; D is the graph's, so that only the products differ."""
    x = data.draw(jst.points(net, bound=2.0))
    graph, block = UnitGraph.from_network(net), blocks(net)
    at = graph.linearize(x)
    T = at.total_derivative()
    assert T.dtype == net.dtype
    factors = []
    maps = jb.linearize(net, x).factors[1::2]  # W^L, ..., W^1 without the D between them
    for u in range(net.depth, 1, -1):
        factors += [jb.Diagonal(at.slopes[block[u]]), maps[net.depth - u]]
        chain = jb.Product([jb.Identity(net.widths[-1], net.dtype), *factors]).to_dense()
        found = T[block[net.depth], block[u - 1]]
        assert (np.abs(found - chain) <= chain_bound(factors, net.dtype).pair()).all()


def test_units_cannot_mix_a_whole_layer():
    net = jb.Network([jb.Dense([[1, 2], [3, 4]], activation="softmax")])
    with pytest.raises(TypeError, match=r"layer 1 \(Dense 2 -> 2 softmax\): softmax mixes"):
        UnitGraph.from_network(net)
    with pytest.raises(TypeError, match="unit 0 has one preactivation, but log_softmax"):
        UnitGraph([[0]], [[1]], None, "log_softmax")


class Reversal(jb.Layer):
    """A layer of one's own: ``z = a[::-1]``."""

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return a[..., ::-1]


class Rotation(Reversal):
    def preactivation(self, a):
        return np.roll(a, 1, axis=-1)


def test_a_layer_of_ones_own_needs_a_rule():
    net = jb.Network([jb.Dense([[1, 2], [3, 4], [5, 6]]), Rotation()])
    with pytest.raises(NotImplementedError, match="register for Rotation"):
        UnitGraph.from_network(net)

    @layer_edges.register
    def _(layer: Rotation, width: int) -> LayerEdges:
        i = np.arange(width)
        return LayerEdges(np.ones(width), i, (i - 1) % width, np.zeros(width))

    assert UnitGraph.from_network(net)([1.0, 0.0]).tolist() == [1, 3, 5, 5, 1, 3]


# --- graphs by name -------------------------------------------------------------------------------

SKIP = {
    "edges": [("x1", "h1", 0.5), ("h1", "y", -2.0), ("x2", "y", 3.0), ("x1", "h2", 1.0),
              ("h2", "h1", -1.0), ("h2", "y", 0.25)],
    "inputs": ["x1", "x2"],
}  # fmt: skip


def test_named_units_stand_in_the_order_of_their_first_appearance():
    graph = UnitGraph.from_edges(**SKIP, biases={"h1": 0.1}, activations={"h1": "tanh"})
    assert graph.unit_names == ("h1", "y", "h2")
    assert graph.input_names == ("x1", "x2")
    assert graph.levels.tolist() == [2, 3, 1]
    assert [graph.index(name) for name in ("h1", "y", "h2", 2)] == [0, 1, 2, 2]
    h1 = np.tanh(0.5 * 2.0 - 1.0 * 2.0 + 0.1)
    values = graph([2.0, -1.0])
    assert values[2] == 2.0
    assert abs(values[0] - h1) < 1e-15  # a few roundings of numbers near 1
    assert abs(values[1] - (-2 * h1 - 3.0 + 0.25 * 2.0)) < 1e-14
    assert graph.activations[0] == jb.activation("tanh")


def test_edges_and_inputs_may_come_from_generators():
    graph = UnitGraph.from_edges(iter(SKIP["edges"]), (name for name in SKIP["inputs"]))
    assert graph.input_names == ("x1", "x2")
    assert np.array_equal(graph([2.0, -1.0]), UnitGraph.from_edges(**SKIP)([2.0, -1.0]))


def test_a_graph_prints_as_equations_level_by_level():
    graph = UnitGraph.from_edges(**SKIP, biases={"h1": 0.1}, activations={"h1": "tanh"})
    assert str(graph) == graph.picture()
    assert str(graph).splitlines() == [
        "inputs   x1, x2",
        "level 1  h2 = x1",
        "level 2  h1 = tanh(-h2 + 0.5 x1 + 0.1)",
        "level 3  y = -2 h1 + 0.25 h2 + 3 x2",
    ]
    assert repr(graph) == (
        "UnitGraph 3 units on 3 levels, 2 inputs, 6 edges, float64: tanh, identity"
    )
    assert repr(graph.linearize([0.0, 0.0])) == (
        "UnitLinearization at one point of UnitGraph 3 units on 3 levels, 2 inputs, 6 edges, "
        "float64: tanh, identity"
    )
    g = graph.linearize([0.0, 0.0]).gradients([1.0], jb.SquaredError(), ["y"])
    assert repr(g).startswith("UnitGradients of an objective of 0.719")


def test_a_large_graph_prints_its_beginning():
    N = 1000
    graph = UnitGraph(np.eye(N, k=-1), np.ones((N, 30)))
    lines = str(graph).splitlines()
    assert len(lines) == 42
    assert lines[-1].endswith("... and 960 units more")
    assert lines[0] == "inputs   x0, x1, x2, x3, x4, x5, ..., x29"
    assert max(map(len, lines)) < 80
    lonely = UnitGraph([[0]], np.zeros((1, 0)), [2.0], "exp")
    assert str(lonely) == "inputs   -\nlevel 1  u0 = exp(2)"
    assert lonely(np.zeros(0)).tolist() == [np.exp(2.0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": [("x1", "a", 1), ("a", "b", 1), ("b", "a", 1)]}, "the edges a -> b -> a close"),
        ({"edges": [("x1", "a", 1), ("a", "a", 1)]}, "the edges a -> a close a cycle"),
        (
            {"edges": [("c", "d", 1), ("d", "b", 1), ("b", "c", 1), ("d", "y", 1), ("x1", "b", 1)]},
            "the edges c -> d -> b -> c close a cycle. Remove one of them, or say cyclic=True",
        ),
        (
            {"edges": [("x1", "y", 1), ("h", "y", 1), ("k", "y", 1)]},
            r"no edge leads to h, k \(as in h -> y\). Name it in inputs, or say what feeds it",
        ),
        ({"edges": [("x1", "h", 1), ("h", "x2", 1)]}, "the edge h -> x2 leads into the input x2"),
        ({"edges": [("x1", "y", 1), ("x1", "y", 2)]}, "the edge x1 -> y is given twice. Add"),
        ({"edges": []}, "expected at least one edge"),
        ({"biases": {"q": 1.0}}, "biases: nothing is called 'q'; there are h1, y, h2"),
        ({"biases": {"x1": 1.0}}, "biases: nothing is called 'x1'"),
        ({"activations": {"q": "tanh"}}, "activations: nothing is called 'q'"),
        ({"activations": {"y": "tangent"}}, "'tangent' is not known"),
        ({"inputs": ["x1", "x2", "x1"]}, "two units or inputs are called x1"),
        ({"edges": [("x1", "y", float("nan"))]}, "weights.* is nan"),
    ],
)
def test_named_graphs_refuse_what_is_not_one(changes, message):
    with pytest.raises(ValueError, match=message):
        UnitGraph.from_edges(**{**SKIP, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": [("x1", "y")]}, r"a triple \(source, target, weight\), but got \('x1', 'y'\)"),
        ({"edges": [(0, "y", 1.0)]}, "the ends of an edge are names"),
        ({"inputs": "x1"}, "expected a list of names, but got 'x1'"),
        ({"inputs": ["x1", 2]}, "inputs: expected names, but got 2"),
        ({"edges": [("x1", "y", "heavy")]}, "expected real numbers"),
    ],
)
def test_named_graphs_refuse_other_kinds(changes, message):
    with pytest.raises(TypeError, match=message):
        UnitGraph.from_edges(**{**SKIP, **changes})


def test_places_are_refused_by_name_and_number():
    graph = UnitGraph.from_edges(**SKIP)
    at = graph.linearize([1.0, 1.0])
    with pytest.raises(ValueError, match="x1 is an input, not a unit"):
        graph.index("x1")
    with pytest.raises(ValueError, match="nothing is called 'z'; there are h1, y, h2, x1, x2"):
        at.paths("z", "y")
    with pytest.raises(ValueError, match="units go from 0 to 2, got 3"):
        at.path_sum(0, 3)
    with pytest.raises(ValueError, match="expected different outputs"):
        at.gradients([1.0, 1.0], jb.SquaredError(), ["y", "y"])


# --- the entry points -----------------------------------------------------------------------------


def test_stored_zeros_of_a_sparse_matrix_are_edges_and_zeros_of_a_dense_one_are_not():
    """The gradient of a weight that happens to be 0 is delta_i h_j."""
    A, B = sparse_with(np.zeros((2, 2)), np.tri(2, k=-1, dtype=bool)), [[2.0], [1.0]]
    c = [0.0, 3.0]
    kept = UnitGraph(A, B).linearize([1.0]).backprop(c)
    assert (kept.edges.nnz, kept.edges.toarray()[1, 0]) == (1, 6.0)
    dropped = UnitGraph(A.toarray(), B).linearize([1.0]).backprop(c)
    assert issparse(dropped.edges)
    assert dropped.edges.nnz == 0
    loop = sparse_with(np.zeros((2, 2)), np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="the edges u0 -> u0 close a cycle"):
        UnitGraph(loop, B)


def test_a_graph_neither_changes_nor_keeps_the_callers_arrays():
    A = csr_array(([0.5, 1.5], [0, 0], [0, 0, 2]), shape=(2, 2))  # one edge in two entries
    B, b, x = np.array([[1.0], [0.0]]), np.array([0.0, 1.0]), np.array([3.0])
    graph = UnitGraph(A, B, b)
    at = graph.linearize(x)
    assert (A.nnz, graph.A.nnz) == (2, 1)
    A.data[:] = B[:] = b[:] = x[:] = 9.0
    assert at.values.tolist() == graph([3.0]).tolist() == [3.0, 7.0]
    assert at.x.tolist() == [3.0]
    for kept in (graph.A.data, graph.B.indices, graph.biases, at.values, at.slopes):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1


@given(float_cases())
def test_single_precision_stays_single(case):
    narrow = (part.astype(np.float32) for part in (case.A, case.B, case.b))
    at = UnitGraph(*narrow, case.sigmas).linearize(case.x)
    found = every_derivative(at, np.ones(len(case.b)))
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    mixed = UnitGraph(case.A.astype(np.float32), case.B, case.b.astype(np.float32), case.sigmas)
    assert mixed.dtype == mixed(case.x).dtype == np.float64


def test_whole_numbers_become_double_precision():
    assert UnitGraph(csr_array(np.array([[0, 0], [2, 0]])), np.eye(2, dtype=int)).dtype == float


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0, 1]], [[1]]), jb.ShapeError, r"A: expected a square matrix .* got \(1, 2\)"),
        (([0.0], [[1]]), jb.ShapeError, "A: expected a matrix"),
        ((np.zeros((0, 0)), np.zeros((0, 1))), jb.ShapeError, "A: expected a square matrix"),
        (([[0]], [[1], [2]]), jb.ShapeError, r"B: expected a row per unit, \(1, m\), got \(2, 1\)"),
        (([[0]], [[1]], [1.0, 2.0]), jb.ShapeError, r"biases: expected shape \(1,\)"),
        (([[0]], [[1]], None, ["tanh", "relu"]), jb.ShapeError, "one for each of 1, got 2"),
        (([[0]], [[np.inf]]), jb.NotFiniteError, r"B\[0, 0\] is inf"),
        ((csr_array([[0, 0], [np.nan, 0]]), np.eye(2)), jb.NotFiniteError, r"A\[1, 0\] is nan"),
        ((csr_array([[0j]]), [[1]]), TypeError, "A: expected real numbers"),
        (([[0]], [[1]], None, "tangent"), ValueError, "'tangent' is not known"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        UnitGraph(*arguments)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(jb.ShapeError, match="unit_names: expected 1 names, but got 2"):
        UnitGraph([[0]], [[1]], unit_names=["a", "b"])
    with pytest.raises(ValueError, match="two units or inputs are called a"):
        UnitGraph([[0]], [[1]], unit_names=["a"], input_names=["a"])


def test_points_and_cotangents_that_do_not_fit_are_refused():
    graph = UnitGraph([[0, 0], [2, 0]], [[1], [0]])
    with pytest.raises(jb.ShapeError, match=r"x: expected one point of shape \(1,\)"):
        graph([1.0, 2.0])
    with pytest.raises(jb.NotFiniteError, match="x"):
        graph.linearize([np.nan])
    at, batch = graph.linearize([1.0]), graph.linearize([[1.0], [2.0]])
    for verb in (at.backprop, at.downstream_deltas):
        with pytest.raises(jb.ShapeError, match=r"cotangent: expected shape \(2,\)"):
            verb([1.0])
    with pytest.raises(jb.ShapeError, match=r"cotangent: expected shape \(2, 2\)"):
        batch.backprop([1.0, 1.0])
    for question in (batch.neumann_terms, lambda: batch.downstream_deltas(np.ones((2, 2)))):
        with pytest.raises(ValueError, match="takes one point, not a batch"):
            question()
    with pytest.raises(ValueError, match="takes one point, not a batch"):
        batch.backprop(np.ones((2, 2))).ratio_form("x0", "u0")


def test_an_overflow_names_the_unit_where_it_began():
    graph = UnitGraph.from_edges(
        [("x", "y", 1.0), ("h", "y", 1.0), ("k", "h", 1e10), ("x", "k", 1e300)], inputs=["x"]
    )
    assert graph.unit_names == ("y", "h", "k")  # y only hears of it
    with pytest.raises(jb.NotFiniteError, match="the value of unit h leaves the range of float64"):
        graph([1.0])
    assert graph([1e-9])[0] == 1e301 + 1e-9


def test_dense_forms_are_refused_before_they_are_made():
    N = 100_000
    at = UnitGraph(csr_array((N, N)), csr_array((N, 2000)), np.ones(N)).linearize(np.ones(2000))
    for form, size in (
        (at.total_derivative, "74.5 GiB"),
        (at.total_preactivation_derivative, "74.5 GiB"),
        (at.input_jacobian, "1.49 GiB"),
    ):
        with pytest.raises(jb.TooLargeError, match=f"{size}, over the limit .* Use backprop"):
            form()
    assert at.backprop(np.ones(N)).deltas.tolist() == [1.0] * N


# --- with cycles ----------------------------------------------------------------------------------


@st.composite
def contracting_cases(draw, sigmas=SMOOTH):
    """Any edges at all, with row sums small enough that every iteration contracts by half."""
    N, m = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    A = rng.standard_normal((N, N)) * (rng.random((N, N)) < 0.6)
    A *= 0.4 / max(np.abs(A).sum(axis=1).max(), 0.4)  # no slope here exceeds 1.25
    B, b, x = rng.standard_normal((N, m)), rng.standard_normal(N), rng.standard_normal(m)
    chosen = [sigmas[k] for k in rng.integers(0, len(sigmas), N)]
    whole = sparse_with(A, np.ones((N, N), dtype=bool))  # absent edges are weights of 0
    return Case(UnitGraph(whole, B, b, chosen, cyclic=True), A, B, b, chosen, x)


@given(contracting_cases())
def test_values_with_cycles_are_a_fixed_point(case):
    """h = sigma(A h + B x + b), to a few units in the last place of the largest value"""
    h = case.at.values
    z = case.A @ h + case.B @ case.x + case.b
    again = np.array([sigma(z_i) for sigma, z_i in zip(case.sigmas, z, strict=True)])
    assert np.abs(again - h).max() <= 64 * 2.0**-52 * np.abs(h).max()
    assert np.array_equal(case.graph(case.x), h)


def test_an_iteration_whose_steps_grow_now_and_then_goes_on():
    """a = 1 - 4 b, b = 1 + a / 10: steps shrink to a tenth and grow fourfold in turn."""
    a, b = UnitGraph([[0.0, -4.0], [0.1, 0.0]], np.eye(2), cyclic=True)([1.0, 1.0])
    # the last step is below 64 units in the last place of 3, and what follows adds up to 10 of it
    assert abs(a + 3 / 1.4) < 1e-12
    assert abs(b - 1.1 / 1.4) < 1e-12


@settings(max_examples=20)  # two dozen fixed points each
@given(contracting_cases())
def test_differences_witness_the_derivatives_at_a_fixed_point(case):
    """dh/dx = (I - D A)^{-1} D B, and delta hᵀ for every pair of units, joined or not"""
    at = case.at
    check = witness.check_jacobian(case.graph, at.input_jacobian(), case.x)
    assert check, str(check)
    c = np.arange(1.0, len(case.b) + 1)
    g = at.backprop(c)
    assert g.edges.nnz == len(c) ** 2

    dA, db = (0.1 * np.cos(np.arange(part.size)).reshape(part.shape) for part in (case.A, case.b))

    def C(t):
        graph = UnitGraph(case.A + t * dA, case.B, case.b + t * db, case.sigmas, cyclic=True)
        return [c @ graph(case.x)]

    slope = (g.edges.toarray() * dA).sum() + g.biases @ db
    check = witness.check_jacobian(C, [[slope]], [0.0])
    assert check, str(check)


@given(contracting_cases())
def test_the_total_derivative_at_a_fixed_point_is_the_inverse(case):
    """(I - D A) T = I, and the Neumann series, now infinite, converges to T."""
    at, N = case.at, len(case.b)
    T = at.total_derivative()
    # |D A| is at most 1/2 by rows: elimination does not grow, and the inverse stays below 2
    small = 64 * N * 2.0**-53
    assert np.abs((np.eye(N) - at.slopes[:, None] * case.A) @ T - np.eye(N)).max() < small
    series = sum(term.toarray() for term in islice(at.neumann_terms(), 60))
    assert np.abs(series - T).max() < 1e-14  # 2^-60 is left out
    T_z = at.total_preactivation_derivative()
    assert np.abs((np.eye(N) - case.A * at.slopes) @ T_z - np.eye(N)).max() < small


@given(st.data(), exact_cases())
def test_an_acyclic_graph_is_the_same_through_the_cyclic_entry_point(data, case):
    """Values exactly; derivatives up to the rounding of Gaussian elimination.

    With M = I - D A and partial pivoting, |L| <= 1 and |U| <= 2^(N-1) max |M|, and the computed
    solution of M X = R is off by at most 3 N u |M^{-1}| |L| |U| |X| to first order; 4 for 3 covers
    the rest (Higham, Accuracy and Stability of Numerical Algorithms, theorem 9.4).
    """
    c = data.draw(cotangents(case))
    at, N = case.at, len(case.b)
    cyclic = UnitGraph(case.graph.A, case.graph.B, case.b, case.sigmas, cyclic=True)
    other = cyclic.linearize(case.x)
    assert np.array_equal(other.values, at.values)
    T = at.total_derivative()
    M = np.eye(N) - at.slopes[:, None] * case.A
    LU = np.full((N, N), N * 2.0 ** (N - 1) * np.abs(M).max())
    allowed = 4 * N * 2.0**-53 * np.abs(T) @ LU @ np.abs(T)
    assert (np.abs(other.total_derivative() - T) <= allowed).all()
    apart = np.abs(other.backprop(c).deltas - at.backprop(c).deltas)
    assert (apart <= np.abs(at.slopes) * (np.abs(c) @ allowed)).all()


@given(contracting_cases(), st.integers(0, 3))
def test_a_batch_of_fixed_points_is_a_stack_of_them(case, B):
    X = np.outer(np.arange(B) + 0.5, case.x)
    C = np.outer(np.arange(B) - 1.0, np.ones(len(case.b)))
    together = every_derivative(case.graph.linearize(X), C)
    apart = [every_derivative(case.graph.linearize(x), c) for x, c in zip(X, C, strict=True)]
    for name, found in together.items():
        alone = [one[name] for one in apart]
        if name in ("edges", "input edges", "biases"):
            alone = sum(alone, start=np.zeros_like(found))
        # points settle at their own pace, each to 64 units in the last place of its largest value
        scale = max(1.0, np.abs(found).max(initial=0.0))
        assert np.abs(found - np.reshape(alone, found.shape)).max(initial=0.0) <= 1e-12 * scale


def test_named_graphs_may_have_cycles():
    """a = x + b/2, b = a/2: a = 4/3 x"""
    graph = UnitGraph.from_edges(
        [("x", "a", 1.0), ("b", "a", 0.5), ("a", "b", 0.5)], inputs=["x"], cyclic=True
    )
    assert abs(graph([3.0])[0] - 4.0) < 1e-14
    assert graph.linearize([3.0]).input_jacobian()[:, 0].tolist() == [4 / 3, 2 / 3]
    assert repr(graph).startswith("UnitGraph 2 units with cycles, 1 input, 3 edges")
    assert str(graph) == "inputs   x\ncyclic   a = 0.5 b + x\n         b = 0.5 a"
    after = graph.step(graph.linearize([3.0]).backprop([0.0, 1.0]), 0.0)
    assert np.array_equal(after([3.0]), graph([3.0]))
    for question in (lambda: graph.levels, lambda: graph.linearize([1.0]).paths("x", "a")):
        with pytest.raises(ValueError, match="cycle"):
            question()


def test_values_up_to_the_end_of_the_range_are_values():
    """z = h = 1.5e308 are numbers, though their sum is not."""
    graph = UnitGraph([[0.0]], [[1.5]])
    assert graph([1e308]).tolist() == [1.5e308]
    with pytest.raises(jb.NotFiniteError, match="the value of unit u0 leaves the range"):
        graph([1.7e308])


def test_a_value_near_0_settles_as_far_as_its_preactivation_is_rounded():
    """h = sin(pi + w h + few ulps): h is smaller than the rounding of z, and turns in circles."""
    for w in (0.9, -0.97):
        for ulps in range(-8, 9):
            bias = np.pi + ulps * np.spacing(np.pi)
            h = UnitGraph([[w]], [[0.0]], [bias], "sin", cyclic=True)([0.0])
            assert abs(h[0]) <= 64 * np.spacing(np.pi)


def test_an_iteration_that_does_not_settle_is_refused():
    loop = [[0.0, 1.0], [1.0, 0.0]]
    growing = UnitGraph(2.0 * np.array(loop), np.eye(2), cyclic=True)
    with pytest.raises(jb.DomainError, match="do not settle within 1,000 iterations"):
        growing([1.0, 1.0])
    turning = UnitGraph([[-1.0]], [[1.0]], cyclic=True)  # 0, 1, 0, 1, ...
    with pytest.raises(jb.DomainError, match="the last one changed a value by 1"):
        turning.linearize([1.0])
    slow = UnitGraph([[0.99]], [[1.0]], cyclic=True, max_iterations=100)
    with pytest.raises(jb.DomainError, match=r"within 100 iterations.*a larger max_iterations"):
        slow([1.0])
    patient = UnitGraph([[0.99]], [[1.0]], cyclic=True, max_iterations=10_000)
    assert abs(patient([1.0])[0] - 100) < 1e-9  # 64 units in the last place, over 1 - 0.99
    with pytest.raises(ValueError, match="max_iterations: expected at least 1"):
        UnitGraph([[0.5]], [[1.0]], cyclic=True, max_iterations=0)


@pytest.mark.parametrize("gap", [0.0, 1e-17])
def test_a_singular_fixed_point_is_refused(gap):
    """a = b, b = a: every a is a fixed point, and I - D A has a null vector."""
    graph = UnitGraph([[0.0, 1.0], [1.0 - gap, 0.0]], np.eye(2), cyclic=True)
    at = graph.linearize([0.0, 0.0])
    assert at.values.tolist() == [0.0, 0.0]
    for question in (at.total_derivative, at.input_jacobian, lambda: at.backprop([1.0, 0.0])):
        with pytest.raises(jb.DomainError, match="I - D A is singular to working precision"):
            question()


def test_nearly_singular_is_judged_by_the_condition_number():
    """cond(I - A) = 4 / gap for A = [[0, 1], [1 - gap, 0]]: refused from 1 / eps on."""

    def at(gap, dtype):
        A = np.array([[0, 1], [1 - gap, 0]], dtype)
        return UnitGraph(A, np.eye(2, dtype=dtype), cyclic=True).linearize(np.zeros(2))

    for dtype in (np.float64, np.float32):
        eps = float(np.finfo(dtype).eps)
        assert at(8 * eps, dtype).total_derivative()[0, 0] == 1 / (8 * eps)
        threshold = re.escape(f"only below {1 / eps:.2g} would a digit be right")
        with pytest.raises(jb.DomainError, match=threshold):
            at(2 * eps, dtype).total_derivative()


def test_the_global_random_numbers_are_left_alone():
    """scipy's estimator of norms draws from them if it is asked for more than one column."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 30)) / 60
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    UnitGraph(A, np.eye(30), None, "tanh", cyclic=True).linearize(np.ones(30)).total_derivative()
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
