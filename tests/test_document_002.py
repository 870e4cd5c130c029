"""Laws of the system of document 002, "CSDS 440: Assignment 5": single units on an acyclic graph.

``n_j = sum_i w_ji x_ji``, the unit's value is ``h(n_j)`` with any activation, Downstream(j) are the
units that j feeds, and the loss is binary cross-entropy.  The identities U1 to U10 that hold every
layered network and every graph of units are checked here too, against dual numbers over fractions
on whole graphs, and against a complex step where logarithms come in.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from claims import assert_equal, assert_within
from document_002_cases import Graph, columns, cost_slope, graphs, problems, stored, weights
from hypothesis import given
from hypothesis import strategies as st
from oracles import EXACT_ACTIVATIONS, Dual, dual
from tails import assert_exactly, fewer, whole_networks, whole_vectors

import jacobians as jb
from jacobians.units import UnitGraph

# --- the system -----------------------------------------------------------------------------------


@fewer
@given(graphs(), st.randoms())
def test_units_compute_what_arrives_over_their_edges(graph, random):
    """n_j = sum_i w_ji x_ji (and a bias), the value is h(n_j), in whatever order units stand.

    002-E2 to E4, M2.
    """
    order = list(range(len(graph.b)))
    random.shuffle(order)
    z, h = graph.run()
    at = graph.build(np.array(order)).linearize(graph.x)
    assert_exactly(at.preactivations, [z[i].value for i in order])
    assert_exactly(at.values, [h[i].value for i in order])


# --- the recursion --------------------------------------------------------------------------------


@fewer
@given(problems())
def test_the_downstream_recursion_with_the_direct_term(problem):
    """delta_j = h'(n_j) (c_j + sum_{k in Downstream(j)} w_kj delta_k), for any activations.

    002-E8, E14, E16 to E18, M3; U4.
    """
    graph, at, c = problem
    N = len(graph.b)
    exact = [cost_slope(graph, c, "b", j) for j in range(N)]
    g = at.backprop(c)
    assert_exactly(g.deltas, exact)
    assert_exactly(at.downstream_deltas(c), exact)
    D, A = np.diag(at.slopes), weights(graph.A)
    assert_equal((np.eye(N) - D @ A.T) @ g.deltas, D @ c)
    total = c + A.T @ g.deltas  # dC/dh
    assert_exactly(total, [cost_slope(graph, c, "h", j) for j in range(N)])
    assert_equal((np.eye(N) - A.T @ D) @ total, c)
    assert_equal(D @ total, g.deltas)
    assert_equal(c @ at.total_derivative() @ D, g.deltas)  # as a row
    z, _ = graph.run()
    for k, j in np.argwhere(~np.isnan(graph.A)):  # dn_k/dn_j over the edge alone: w_kj h'(n_j)
        sent = EXACT_ACTIVATIONS[graph.names[j]](Dual(z[j].value, Fraction(1)))
        alone = dual(float(A[k, j])) * sent
        assert Fraction(float(A[k, j] * at.slopes[j])) == alone.slope


@fewer
@given(problems())
def test_gradients_of_edges_biases_and_inputs(problem):
    """dC/dw_ji = delta_j x_ji, dC/db = delta, dC/dx = Bᵀ delta; also where w_ji is 0.

    002-E5 to E7, E15, E21, M2; U5.
    """
    graph, at, c = problem
    g = at.backprop(c)
    N, m = graph.B.shape
    for kind, M, computed, sources in (
        ("A", graph.A, g.edges, at.values),
        ("B", graph.B, g.input_edges, graph.x),
    ):
        pattern = ~np.isnan(M)
        assert not computed.toarray()[~pattern].any()
        assert computed.nnz == pattern.sum()
        for i, j in np.argwhere(pattern):
            slope = cost_slope(graph, c, kind, i, j)
            assert Fraction(computed.toarray()[i, j]) == slope
            assert Fraction(g.deltas[i] * sources[j]) == slope
    for i in range(N):  # the weight of an edge that is not there
        for j in range(i):
            assert Fraction(g.deltas[i] * at.values[j]) == cost_slope(graph, c, "A", i, j)
    assert_exactly(g.biases, [cost_slope(graph, c, "b", j) for j in range(N)])
    assert_exactly(g.inputs, [cost_slope(graph, c, "x", k) for k in range(m)])


@fewer
@given(problems())
def test_the_ratio_form_where_it_divides_by_nothing_but_numbers(problem):
    """dC/dw_ji = x_ji (h'_j sum_k (dC/dw_kj) w_kj / x_kj + direct_j), refused where x_kj = 0.

    002-E19, E20, E23.
    """
    graph, at, c = problem
    g, unit_names = at.backprop(c), at.graph.unit_names
    for i, j in np.argwhere(~np.isnan(graph.A)):  # the edge j -> i
        feeds = (~np.isnan(graph.A[:, i])).any()
        if feeds and at.values[i] == 0:
            with pytest.raises(jb.DomainError, match=unit_names[i]):
                g.ratio_form(j, i)
            assert Fraction(g.edges.toarray()[i, j]) == cost_slope(graph, c, "A", i, j)
        else:
            # one rounding for each quotient, whole numbers otherwise
            sent = np.abs(at.values[j] * at.slopes[i])
            size = np.abs(weights(graph.A)[:, i] * g.deltas).sum() + np.abs(c[i])
            assert_within(g.ratio_form(j, i), g.edges.toarray()[i, j], 8 * 2.0**-52 * sent * size)


@fewer
@given(problems())
def test_what_comes_in_balances_what_goes_out(problem):
    """sum_k w_kj dC/dw_kj = h_j (g_j - c_j) and sum_i w_ji dC/dw_ji + b_j dC/db_j = z_j delta_j.

    If h is positively homogeneous the two differ by h_j c_j.  No division.

    002-E19, M4; U6.
    """
    graph, at, c = problem
    g = at.backprop(c)
    total = c + weights(graph.A).T @ g.deltas
    assert_equal(g.outgoing(), at.values * (total - c))
    assert_equal(g.incoming(), at.preactivations * g.deltas)
    homogeneous = [name != "square" for name in graph.names]
    balanced = g.outgoing() + at.values * c
    assert_equal(g.incoming()[homogeneous], (at.values * total)[homogeneous])
    assert_equal(g.incoming()[homogeneous], balanced[homogeneous])


def test_a_tied_weight_collects_from_all_its_edges():
    """x -> a -> b with one weight w = 3 on both edges: d(w² x)/dw = 6, each edge alone has 3.

    002-E5; U5.
    """
    graph = UnitGraph.from_edges([("x", "a", 3.0), ("a", "b", 3.0)], inputs=["x"])
    g = graph.linearize([1.0]).backprop([0.0, 1.0])
    assert g.tied({("x", "a"): "w", ("a", "b"): "w"}) == {"w": 6.0}
    assert g.edges.toarray()[1, 0] == g.input_edges.toarray()[0, 0] == 3.0


# --- the matrix form ------------------------------------------------------------------------------


@fewer
@given(problems())
def test_total_derivatives_are_inverses(problem):
    """dh/dzeta = (I - DA)^-1, dz/deps = (I - AD)^-1, and D carries one into the other.  U1."""
    graph, at, _ = problem
    N, A, D = len(graph.b), weights(graph.A), np.diag(at.slopes)
    T_h, T_z = at.total_derivative(), at.total_preactivation_derivative()
    assert_exactly(T_h, columns(lambda j: graph.slopes("h", "h", j), N))
    assert_exactly(T_z, columns(lambda j: graph.slopes("z", "b", j), N))
    assert_exactly(T_h @ D, columns(lambda j: graph.slopes("h", "b", j), N))
    assert_equal((np.eye(N) - D @ A) @ T_h, np.eye(N))
    assert_equal((np.eye(N) - A @ D) @ T_z, np.eye(N))
    assert_equal(T_h @ D, D @ T_z)
    assert_equal(A @ T_h, T_z @ A)
    assert_equal(np.diag(T_h), np.ones(N))


@fewer
@given(problems())
def test_the_neumann_series_is_finite(problem):
    """(I - DA)^-1 = sum of (DA)^p up to the longest path, and (DA)^p = 0 beyond.  U2."""
    graph, at, _ = problem
    N = len(graph.b)
    DA = np.diag(at.slopes) @ weights(graph.A)
    terms = [term.toarray() for term in at.neumann_terms()]
    assert len(terms) == at.graph.levels.max() <= N
    for p, term in enumerate(terms):
        assert_equal(term, np.linalg.matrix_power(DA, p))
    assert_equal(np.linalg.matrix_power(DA, len(terms)), np.zeros((N, N)))
    assert_equal(sum(terms), at.total_derivative())


def all_paths(graph, j, i):
    """Every directed path from unit j to unit i, by depth-first search."""
    if i == j:
        return [[j]]
    before = [k for k in range(i) if not np.isnan(graph.A[i, k])]
    return [[*path, i] for k in before for path in all_paths(graph, j, k)]


@fewer
@given(problems())
def test_total_derivatives_are_sums_over_paths(problem):
    """[T_h]_ij = sum over paths of prod h'(n_v) w_vu; with slopes and weights 1 it counts them.

    002-E16; U3.
    """
    graph, at, _ = problem
    T_h, T_z = at.total_derivative(), at.total_preactivation_derivative()
    A, s = weights(graph.A), at.slopes
    for i in range(len(s)):
        for j in range(len(s)):
            paths = all_paths(graph, j, i) if j <= i else []
            of_values = sum(np.prod([s[v] * A[v, u] for u, v in pairwise(p)]) for p in paths)
            of_sums = sum(np.prod([A[v, u] * s[u] for u, v in pairwise(p)]) for p in paths)
            assert T_h[i, j] == of_values == at.path_sum(j, i)
            assert T_z[i, j] == of_sums
            assert at.path_count(j, i) == len(at.paths(j, i)) == len(paths)
    ones = Graph(
        np.where(np.isnan(graph.A), np.nan, 1.0), graph.B, graph.b, ["identity"] * len(s), graph.x
    )
    counts = ones.build().linearize(graph.x).total_derivative()
    assert_equal(counts, [[at.path_count(j, i) for j in range(len(s))] for i in range(len(s))])


@fewer
@given(problems())
def test_the_input_jacobian_is_one_solve(problem):
    """dh/dx = (I - DA)^-1 D B.  U5."""
    graph, at, _ = problem
    J = at.input_jacobian()
    assert_exactly(J, columns(lambda k: graph.slopes("h", "x", k), len(graph.x)))
    assert_equal(J, at.total_derivative() @ np.diag(at.slopes) @ weights(graph.B))


@fewer
@given(graphs())
def test_inputs_may_be_units(graph):
    """Inputs as sources: A_ext = [[0, 0], [B, A]], b_ext = (x, b); their delta is dC/dx.  U7."""
    N, m = graph.B.shape
    at, c = graph.build().linearize(graph.x), np.arange(1.0, N + 1)
    A = np.block([[np.full((m, m + N), np.nan)], [graph.B, graph.A]])
    extended = UnitGraph(
        stored(A), np.zeros((m + N, 0)), [*graph.x, *graph.b], ["identity"] * m + graph.names
    )
    seen = extended.linearize(np.zeros(0))
    assert_equal(seen.values, [*graph.x, *at.values])
    g = seen.backprop([*np.zeros(m), *c])
    assert_equal(g.deltas[:m], at.backprop(c).inputs)
    assert_equal(g.deltas[m:], at.backprop(c).deltas)
    assert_equal(seen.total_derivative()[m:, :m], at.input_jacobian())


@fewer
@given(whole_networks(), st.data())
def test_a_layered_network_is_a_graph_with_blocks(net, data):
    """[T_h]_ul = D_u W_u ... D_{l+1} W_{l+1} from the one power (DA)^{u-l}; (DA)^L = 0.

    [T_z]_ul = W_u D_{u-1} ... W_{l+1} D_l, and the last rows of (I - DA)^-1 D B are dH/dx.

    U8.
    """
    x = data.draw(whole_vectors(net.widths[0]))
    trace, at = jb.trace(net, x), UnitGraph.from_network(net).linearize(x)
    ends = np.cumsum([0, *net.widths[1:]])
    T_h, T_z = at.total_derivative(), at.total_preactivation_derivative()
    powers = [term.toarray() for term in at.neumann_terms()]
    assert len(powers) == net.depth
    for u in range(1, net.depth + 1):
        for l in range(1, u + 1):
            block = np.ix_(range(*ends[u - 1 : u + 1]), range(*ends[l - 1 : l + 1]))
            chain = jb.explicit.input_jacobian(trace, of=u, wrt=l)
            assert_equal(T_h[block], chain)
            assert_equal(powers[u - l][block], chain)
            if u > l:
                inner = jb.explicit.input_jacobian(trace, of=u - 1, wrt=l)
                D = jb.explicit.activation_jacobian(trace, l)
                assert_equal(T_z[block], net.layers[u - 1].W @ inner @ D)
    assert_equal(at.input_jacobian()[ends[-2] :], jb.explicit.input_jacobian(trace))
    y = np.zeros(net.widths[-1])
    g = at.gradients(y, jb.SquaredError(), at.graph.unit_names[ends[-2] :])
    layered = jb.backprop.gradients(net, x, y, jb.SquaredError())
    assert_equal(g.deltas, np.concatenate(layered.deltas))
    assert_equal(g.inputs, layered.inputs)
    assert g.loss == layered.loss
    for l in range(1, net.depth + 1):
        rows, columns = range(*ends[l - 1 : l + 1]), range(*ends[l - 2 : l]) if l > 1 else None
        M = g.input_edges.toarray()[rows] if l == 1 else g.edges.toarray()[np.ix_(rows, columns)]
        assert_equal(M, layered.weights[l - 1])


@pytest.mark.parametrize("seed", range(5))
def test_beyond_the_acyclic_case_the_formulas_hold_at_the_fixed_point(seed):
    """delta_i h_j is the derivative for every entry of A, cycles included.  U9."""
    rng = np.random.default_rng(seed)
    N, m = 4, 2
    A = rng.uniform(-1, 1, (N, N))
    A *= 0.5 / np.abs(A).sum(axis=1).max()  # a contraction, whatever the slopes of tanh
    B, b, x, c = (rng.standard_normal(shape) for shape in ((N, m), N, m, N))
    graph = UnitGraph(A, B, b, "tanh", cyclic=True)
    at = graph.linearize(x)
    g = at.backprop(c)

    def cost(A):
        h = np.zeros(N, complex)
        for _ in range(200):  # halves the error each time
            h = np.tanh(A @ h + B @ x + b)
        return c @ h

    # the library stops its iteration when values move no more: a few ulps of values below 1,
    # times the sizes of c and of the inverse (at most 2), on both sides
    tolerance = 200 * 2.0**-52 * np.abs(c).sum()
    for i in range(N):
        for j in range(N):
            step = np.zeros((N, N), complex)
            step[i, j] = 1e-30j
            assert_within(g.deltas[i] * at.values[j], cost(A + step).imag / 1e-30, tolerance)
            assert_within(g.edges.toarray()[i, j], g.deltas[i] * at.values[j], tolerance)


@fewer
@given(problems(), st.data())
def test_forward_and_backward_mode_are_adjoint(problem, data):
    """cᵀ dh = deltaᵀ (dA h + dB x + B dx + db) for any change of all of them.  U10."""
    graph, at, c = problem
    N, m = graph.B.shape
    dA = np.tril(np.array([data.draw(whole_vectors(N)) for _ in range(N)]), -1)
    dB = np.array([data.draw(whole_vectors(m)) for _ in range(N)])
    db, dx = data.draw(whole_vectors(N)), data.draw(whole_vectors(m))
    arriving = dA @ at.values + dB @ graph.x + weights(graph.B) @ dx + db
    dh = at.total_derivative() @ (at.slopes * arriving)
    moves = {"A": dA, "B": dB, "b": db, "x": dx}

    def tweak(kind, i, j):
        return 0 if kind == "h" else int(moves[kind][i] if j is None else moves[kind][i, j])

    assert_exactly(dh, [v.slope for v in graph.run(tweak)[1]])
    assert c @ dh == at.backprop(c).deltas @ arriving


@fewer
@given(graphs(), st.data())
def test_a_data_set_adds_up_its_points(graph, data):
    """The gradients of a mean loss are the means of the points' gradients.  001-M1; U5."""
    N, m = graph.B.shape
    X = np.stack([data.draw(whole_vectors(m)) for _ in range(2)])
    Y, outputs = np.zeros((2, N)), range(N)
    built = graph.build()
    g = built.linearize(X).gradients(Y, jb.SquaredError(), outputs)
    each = [built.linearize(x).gradients(Y[0], jb.SquaredError(), outputs) for x in X]
    assert g.loss == sum(point.loss for point in each) / 2
    assert_equal(g.edges.toarray(), sum(point.edges.toarray() for point in each) / 2)
    assert_equal(g.input_edges.toarray(), sum(point.input_edges.toarray() for point in each) / 2)
    assert_equal(g.biases, sum(point.biases for point in each) / 2)
