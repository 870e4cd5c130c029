"""Laws of unit graphs: the textbook's recursion, cycles and fixed points."""

import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import coo_array, csr_array
from unit_cases import (
    HOMOGENEOUS,
    SMOOTH,
    Case,
    cotangents,
    every_derivative,
    exact_cases,
    float_cases,
    parameters,
    sparse_with,
)

import jacobians as jb
from jacobians import witness
from jacobians.units import UnitGraph

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


def with_parameters(graph, theta):
    edges, inputs, biases = np.split(theta, np.cumsum([graph.A.nnz, graph.B.nnz]))
    A, B = graph.A.copy(), graph.B.copy()
    A.data, B.data = edges.copy(), inputs.copy()
    return UnitGraph(A, B, biases, graph.activations)


@settings(max_examples=10)  # two dozen graphs each
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
    for computed, alone in (
        (g.loss, [one.loss for one in apart]),
        (g.edges.data, [one.edges.data for one in apart]),
        (g.biases, [one.biases for one in apart]),
    ):
        assert np.allclose(computed, np.mean(alone, axis=0), rtol=1e-13)  # four terms, either way
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
    for name in ("activations", "unit_names", "input_names", "cyclic", "max_iterations"):
        assert getattr(after, name) == getattr(case.graph, name)


def test_a_step_keeps_names_and_how_long_a_cycle_may_take():
    names = {"unit_names": ["u", "v"], "input_names": ["x"], "cyclic": True, "max_iterations": 70}
    graph = UnitGraph([[0, 0.125], [0.125, 0]], [[1], [0]], **names)
    after = graph.step(graph.linearize([1.0]).backprop([1.0, 0.0]), 0.5)
    kept = {name: getattr(after, name) for name in names}
    assert {k: list(v) if k.endswith("names") else v for k, v in kept.items()} == names


def test_a_step_refuses_other_graphs_and_negative_rates():
    graph, other = UnitGraph([[0]], [[2]]), UnitGraph([[0]], [[2]])
    g = graph.linearize([1.0]).backprop([1.0])
    with pytest.raises(ValueError, match="belong to another graph"):
        other.step(g, 0.1)
    with pytest.raises(ValueError, match="at least 0"):
        graph.step(g, -0.1)


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


@settings(max_examples=10)  # two dozen fixed points each
@given(contracting_cases())
def test_differences_witness_the_derivatives_at_a_fixed_point(case):
    """dh/dx = (I - D A)^{-1} D B, and delta hᵀ for every pair of units, joined or not"""
    at = case.at
    check = witness.check_jacobian(case.graph, at.input_jacobian(), case.x)
    assert check, str(check)
    c = np.arange(1.0, len(case.b) + 1)
    g = at.backprop(c)
    assert g.edges.nnz == len(c) ** 2

    dA, db = (
        0.1 * np.cos(np.arange(array.size)).reshape(array.shape) for array in (case.A, case.b)
    )

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
    for name, computed in together.items():
        alone = [one[name] for one in apart]
        if name in ("edges", "input edges", "biases"):
            alone = sum(alone, start=np.zeros_like(computed))
        # points settle at their own pace, each to 64 units in the last place of its largest value
        scale = max(1.0, np.abs(computed).max(initial=0.0))
        difference = np.abs(computed - np.reshape(alone, computed.shape))
        assert difference.max(initial=0.0) <= 1e-12 * scale


def test_named_graphs_may_have_cycles():
    """a = x + b/2, b = a/2: a = 4/3 x"""
    graph = UnitGraph.from_edges(
        [("x", "a", 1.0), ("b", "a", 0.5), ("a", "b", 0.5)], inputs=["x"], cyclic=True
    )
    assert abs(graph([3.0])[0] - 4.0) <= 64 * np.spacing(4.0)  # to which the iteration settles
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
