"""Every path the engine can take: forced one by one, each within the bound, exact where it can be.

The choices of the compiler depend on sizes; here the limits are moved, so that small networks take
every one of them.
"""

import threading
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given
from hypothesis import strategies as st
from test_laws_of_jacobians import orders
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.engine import compiling, forward, jacobian_at, memory, products, sweeps
from jacobians.engine import jacobians as doors
from jacobians.engine.compiling import compile_program
from jacobians.engine.line import compile_line
from jacobians.engine.memory import Pool
from jacobians.engine.ranges import products_stay_in_range, safe_radius
from jacobians.engine.workers import share
from jacobians.linearization import activation_map
from jacobians.rounding import chain_bound

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())

# (module, limit, values that force one path or the other)
LIMITS = [
    (compiling, "TABLE_ENTRIES", (0, 10**9)),
    (compiling, "LIVE_MULTIPLICATIONS", (0, 10**9)),
    (compiling, "WRITTEN_OUT_WIDTH", (0, 10**9)),
    (forward, "SHORT", (0, 10**9)),
    (forward, "LONG_LOOP", (1, 1024)),
    (doors, "WARM_BYTES", (0, 10**9)),
    (products, "SERIAL", (1, 30, 10**9)),
    (products, "WORTH_A_COPY", (0, 10**9)),
]


@st.composite
def paths(draw):
    """Draw one value for every limit, and a number of threads."""
    limits = [(module, name, draw(st.sampled_from(values))) for module, name, values in LIMITS]
    return limits, draw(st.sampled_from([1, 2, 3]))


def on_path(limits):
    stack = ExitStack()
    for module, name, value in limits:
        stack.enter_context(patch.object(module, name, value))
    return stack


def drawn_plan(data, net, B, threads):
    """Draw a plan with any order, number of threads and size of pieces."""
    plan = jb.plan(net, B)
    plan = replace(plan, threads=threads, allowed=threads, piece=data.draw(st.integers(1, B)))
    if plan.association is None:
        return plan
    order = data.draw(orders(len(plan.names)))
    return replace(plan, association=replace(plan.association, order=order))


@given(st.data(), paths())
def test_every_path_is_within_the_bound(data, path):
    """At the trace of the explicit view, whatever order, kernel, threads and memory."""
    limits, threads = path
    hidden = ("tanh", "relu", "identity", "sigmoid", "softmax", "log_softmax", "gelu")
    net = data.draw(jst.networks(hidden=hidden))
    X = np.stack([data.draw(jst.points(net)) for _ in range(3)])
    trace = jb.trace(net, X)
    with on_path(limits):
        J = jacobian_at(trace, drawn_plan(data, net, 3, threads))
    for i in range(3):
        point = trace.point(i)
        bound = chain_bound(jb.linearize(net, point).factors, net.dtype)
        assert_within(J[i], jb.explicit.input_jacobian(point), bound.pair())


@given(st.data(), paths())
def test_every_path_is_exact_on_exact_networks(data, path):
    """Values and Jacobians, in pieces and on threads, == the explicit view, bit for bit."""
    limits, threads = path
    net = data.draw(jst.exact_networks())
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(data.draw(st.integers(1, 7)))])
    with on_path(limits):
        plan = drawn_plan(data, net, len(X), threads)
        y, J = jb.value_and_jacobian(net, X, plan=plan)
        alone = jb.jacobian(net, X, plan=plan)
    assert_equal(y, net(X))
    assert_equal(alone, J)
    for i, x in enumerate(X):
        assert_equal(J[i], jb.explicit.input_jacobian(jb.trace(net, x)))


@given(st.data(), jst.networks(hidden=("tanh", "relu", "identity", "sigmoid", "softmax", "elu")))
def test_a_line_is_within_the_bound_in_any_order(data, net):
    """A single point goes its own way: vectors, matrices, slopes of several layers at once."""
    trace = jb.trace(net, data.draw(jst.points(net)))
    plan = drawn_plan(data, net, 1, 1)
    line = compile_line(net, plan, compile_program(net, plan))
    J = jacobian_at(trace, plan)
    assert (line is None) == (plan.association is None)
    bound = chain_bound(jb.linearize(net, trace).factors, net.dtype)
    assert_within(J, jb.explicit.input_jacobian(trace), bound.pair())


@given(st.data(), jst.exact_networks())
def test_a_line_is_exact_on_exact_networks(data, net):
    """One point, alone, in a batch of one and with rows and columns chosen, bit for bit."""
    x = data.draw(jst.whole_points(net))
    expected = jb.explicit.input_jacobian(jb.trace(net, x))
    y, J = jb.value_and_jacobian(net, x, plan=drawn_plan(data, net, 1, 1))
    assert_equal(J, expected)
    assert_equal(y, net(x))
    assert_equal(jb.jacobian(net, x[None])[0], expected)
    assert_equal(jb.jacobian(net, x, rows=[0], columns=[-1]), expected[:1, -1:])
    out = np.empty(expected.shape[::-1]).astype(net.dtype).T
    assert_equal(jb.jacobian(net, x, out=out), expected)


def test_a_small_point_is_no_safe_point_where_nothing_is_known():
    """exp(1000 x) overflows from x = 0.8 on, though x is small: it is named, not returned."""
    net = jb.Network([jb.Dense([[1000.0]], activation="exp"), jb.Dense([[1.0]])])
    with pytest.raises(jb.NotFiniteError, match="of Dense 1 -> 1 exp leaves the range"):
        jb.jacobian(net, [0.8])
    with pytest.raises(jb.NotFiniteError, match="of Dense 1 -> 1 exp leaves the range"):
        jb.jacobian(net, [[0.8], [0.1]])


def kernels(net, B, **changes):
    """Name the kernels of the program of a network."""
    plan = replace(jb.plan(net, B), **changes)
    return [step.kernel.__qualname__ for step in compiling.compile_program(net, plan).steps]


def test_the_right_network_takes_each_path():
    """Without moving any limit: the networks that each kernel is there for."""
    small = jb.Network.random([3, 64, 5], seed=0)
    assert kernels(small, 128) == ["by_table"]
    assert kernels(small, 128, threads=2) == ["by_table_in_slabs"]
    deep = jb.Network.random([12, 200, 210, 10], seed=0)
    assert kernels(deep, 4).count("stack_by_matrix") == 2
    assert kernels(deep, 4, threads=2).count("stack_by_matrix_in_slabs") == 2
    bottleneck = jb.Network.random([300, 100, 20, 100, 300], "relu", seed=0)
    assert kernels(bottleneck, 4)[-1].startswith("point_by_point")
    smooth = jb.Network.random([300, 100, 20, 100, 300], "tanh", seed=0)
    assert kernels(smooth, 4)[-1] == "stack_by_stack"
    wide = jb.Network.random([16, 256, 4096], seed=0)
    assert kernels(wide, 8) == ["scale_rows", "matrix_by_stack"]
    softmax = jb.Network.random([5, 70, 80], output_activation="softmax", seed=0)
    assert "parts_by_matrix" in kernels(softmax, 4)


def test_a_linear_network_is_one_product_made_beforehand():
    net = jb.Network.random([5, 4, 3, 2], "identity", seed=0)
    assert kernels(net, 10_000) == []
    J = jb.jacobian(net, points(net, 2))
    assert_equal(J[0], J[1])


# --- rows and columns -----------------------------------------------------------------------------


@given(st.data())
def test_chosen_rows_and_columns_are_those_of_the_whole(data):
    net = data.draw(jst.exact_networks())
    x = data.draw(jst.whole_points(net))
    m, n = net.widths[-1], net.widths[0]
    rows = data.draw(st.none() | st.lists(st.integers(0, m - 1), min_size=1, max_size=m))
    columns = data.draw(st.none() | st.lists(st.integers(0, n - 1), min_size=1, max_size=n))
    whole = jb.jacobian(net, x)
    chosen = whole if rows is None else whole[rows]
    chosen = chosen if columns is None else chosen[:, columns]
    assert_equal(jb.jacobian(net, x, rows=rows, columns=columns), chosen)
    assert_equal(jb.jacobian(net, [x, x], rows=rows, columns=columns), [chosen, chosen])


@every_network
def test_chosen_rows_and_columns_are_within_the_bound(net):
    X = points(net, 3)
    trace = jb.trace(net, X)
    m, n = net.widths[-1], net.widths[0]
    bound = chain_bound(jb.linearize(net, trace).factors, net.dtype).pair()
    bound = np.broadcast_to(bound, (3, m, n))
    rows, columns = [m - 1, 0], slice(0, n, 2)
    J = jacobian_at(trace, jb.plan(net, 3, rows=rows, columns=columns))
    assert J.shape == (3, 2, len(range(0, n, 2)))
    whole = np.broadcast_to(jb.linearize(net, trace).jacobian(), (3, m, n))
    assert_within(J, whole[:, rows][:, :, columns], bound[:, rows][:, :, columns])


def test_chosen_rows_of_nothing_but_diagonals_are_rows_of_them():
    net = jb.Network([jb.Elementwise("square")], inputs=3)
    x = [1.0, 2.0, 3.0]
    assert_equal(jb.jacobian(net, x, rows=[2, 0]), [[0, 0, 6], [2, 0, 0]])
    assert_equal(jb.jacobian(net, x, rows=[2, 0], columns=[0]), [[0], [2]])
    assert_equal(jb.jacobian(net, x, of=0, rows=[1]), [[0, 1, 0]])
    assert_equal(jb.jacobian(net, [x] * 4000, of=0, columns=[1])[7], [[0], [1], [0]])


def test_chosen_rows_cost_what_they_must():
    """One output of a hundred: a hundredth of the work of reverse mode."""
    net = jb.Network.random([50, 60, 70, 100], seed=0)
    whole, one = jb.plan(net, 10), jb.plan(net, 10, rows=[3])
    assert one.association.flops < whole.association.reverse / 90
    assert "1x50" in str(one)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"rows": [2]}, r"plan: rows: expected numbers from 0 to 1"),
        ({"columns": [-4]}, r"plan: columns: expected numbers from 0 to 2"),
        ({"rows": []}, "at least one number"),
        ({"rows": 0}, "a list of at least one number, but got 0"),
        ({"columns": [[0]]}, "a list of at least one number"),
        ({"columns": ["a"]}, "expected numbers from 0 to 2"),
    ],
)
def test_a_wrong_choice_is_refused(choice, message):
    net = jb.Network.random([3, 4, 2], seed=0)
    with pytest.raises(ValueError, match=message):
        jb.jacobian(net, [1.0, 2.0, 3.0], **choice)


def test_a_result_that_is_not_contiguous_is_filled_all_the_same():
    net = jb.Network.random([4, 50, 50, 3], "relu", seed=0)
    X = points(net, 40)
    out = np.empty((40, 4, 3)).transpose(0, 2, 1)
    assert jb.jacobian(net, X, out=out) is out
    assert_equal(out, jb.jacobian(net, X))


# --- the range of the dtype -----------------------------------------------------------------------


@st.composite
def scaled_chains(draw):
    """Draw a piecewise linear network whose layers are scaled by 2^±665 or so, about 1e±200."""
    net = draw(jst.exact_networks(max_depth=5, max_width=4))
    powers = [draw(st.sampled_from([-665, -300, 0, 300, 665])) for _ in net.layers]
    layers = [
        jb.Dense(np.ldexp(layer.W, power), np.zeros(len(layer.b)), layer.activation)
        for layer, power in zip(net.layers, powers, strict=True)
    ]
    return jb.Network(layers)


@given(st.data())
def test_no_spurious_overflow(data):
    """When the true Jacobian is representable, the answer is finite, and right."""
    net = data.draw(scaled_chains())
    x = data.draw(jst.whole_points(net))
    x = np.ldexp(x, data.draw(st.sampled_from([-1000, 0])))
    try:
        trace = jb.trace(net, x)
    except jb.NotFiniteError:
        return  # the values themselves leave the range
    exact = product_of_fractions(net, trace, lambda entry: entry)
    largest = max(abs(entry) for entry in exact.ravel())
    J = jb.jacobian(net, [x])[0]
    if largest <= Fraction(np.finfo(float).max):
        assert np.isfinite(J).all()
        bound = chain_bound(jb.linearize(net, trace).factors, float)
        # within the rounding of the path sums; entries below the smallest normal number round to
        # multiples of the smallest one, as often as there are layers and terms
        P = product_of_fractions(net, trace, abs)
        for claimed, true, paths_ in zip(J.ravel(), exact.ravel(), P.ravel(), strict=True):
            room = Fraction(float(np.expm1(bound.roundings * bound.unit))) * paths_
            assert abs(Fraction(float(claimed)) - true) <= room + underflow(net, trace)


def product_of_fractions(net, trace, of_entry):
    """Return ``D^L W^L ... D^1 W^1`` in fractions, a function of every entry first."""
    product = np.array(
        [[Fraction(int(i == j)) for j in range(net.widths[0])] for i in range(net.widths[0])]
    )
    for l, layer in enumerate(net.layers, start=1):
        D = activation_map(layer.activation, trace.preactivation(l)).to_dense()
        for M in (layer.W, D):
            exact = [[of_entry(Fraction(float(v))) for v in row] for row in M]
            product = np.array(exact) @ product
    return product


def underflow(net, trace):
    """Bound what underflow of a partial product can take away: carried on by what is left."""
    tiny, gain = Fraction(2) ** -1074, Fraction(1)
    for layer in net.layers:
        norm = max(sum(abs(Fraction(float(v))) for v in row) for row in layer.W)
        gain *= max(norm * layer.W.shape[1], 1)
    return 10 * len(net.layers) * tiny * gain


def test_an_overflow_on_the_way_is_repaired():
    """1e200 · 1e200 · 1e-300: the first product overflows in reverse order, the whole does not."""
    net = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    assert jb.jacobian(net, [1e-200])[0, 0] == pytest.approx(1e100, rel=1e-15)
    assert jb.jacobian(net, [[1e-200]], columns=[0])[0, 0, 0] == pytest.approx(1e100, rel=1e-15)
    too_large = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200)])
    assert jb.jacobian(too_large, [0.0]) == np.inf


@given(st.data())
def test_what_cannot_overflow_does_not(data):
    """Inside the safe radius every value is finite; where products stay in range, so is J."""
    net = data.draw(jst.networks())
    radius = safe_radius(net, net.depth)
    assert radius == -1 or radius == float(np.finfo(net.dtype).max) ** 0.25
    x = np.full(net.widths[0], max(radius, 1.0), net.dtype)
    if radius > 0:
        assert np.isfinite(jb.trace(net, x).output).all()
    if radius > 0 and products_stay_in_range(net, net.depth, 0):
        assert np.isfinite(jb.explicit.input_jacobian(jb.trace(net, x))).all()


def test_values_out_of_range_are_named():
    net = jb.Network([jb.Dense([[1e200]]), jb.Dense([[1e200]], activation="tanh")])
    with pytest.raises(jb.NotFiniteError, match=r"z\^2 of Dense 1 -> 1 tanh leaves the range"):
        jb.jacobian(net, [[1e-200], [1.0]])


# --- memory and threads ---------------------------------------------------------------------------


def test_a_pool_gives_every_array_to_one_user_at_a_time():
    pool = Pool(np.dtype(float))
    a = pool.take((3, 4))
    b = pool.take((2, 2))
    assert not np.shares_memory(a, b)
    pool.give(a)
    pool.give(a)
    c, d = pool.take((4, 3)), pool.take((4, 3))
    assert np.shares_memory(a, c)
    assert not np.shares_memory(c, d)
    pool.give(np.ones((5, 5)))  # not from here
    assert not np.shares_memory(pool.take((5, 5)), c)


def test_a_pool_takes_no_array_that_stands_where_one_of_its_own_stood():
    """What is never given back is forgotten, and its place in memory goes to somebody else's."""
    pool = Pool(np.dtype(np.float64))
    where = id(pool.take((4,)).base)
    others = [np.empty(4) for _ in range(100)]
    assert where in {id(other) for other in others}  # Python uses the place again
    for other in others:
        pool.give(other[:2])
    assert pool.nbytes == 0


def test_a_pool_is_lent_again_to_calls_of_its_dtype_alone(monkeypatch):
    monkeypatch.setattr(memory, "_idle", [])
    single, double = (memory.borrow(np.dtype(name)) for name in ("float32", "float64"))
    single.give(single.take((9,)))
    memory.bring_back(single)
    assert memory.borrow(np.dtype(np.float64)) not in (single, double)
    assert memory.borrow(np.dtype(np.float32)) is single
    assert single.take((9,)).dtype == np.float32


def test_an_activation_of_the_users_own_keeps_its_arrays():
    """It may return views or keep what it was given; nothing of that is written over."""
    seen = []

    def reversed_twice(z):
        seen.append((z, z.copy()))
        return z[..., ::-1][..., ::-1]

    own = jb.Activation("own", reversed_twice, lambda z: np.ones_like(z))
    net = jb.Network([jb.Dense(np.eye(60), activation=own), jb.Dense(np.eye(60)[:2])])
    X = points(net, 500)
    # no pool from an earlier call, whose arrays would be taken first
    with patch.object(doors, "WARM_BYTES", 0), patch.object(memory, "_idle", []):
        y, J = jb.value_and_jacobian(net, X)
    assert_equal(y, X[:, :2])
    assert_equal(J[17], np.eye(60)[:2])
    for kept, copy in seen:
        assert_equal(kept, copy)


def test_the_same_call_gives_the_same_bits():
    net = jb.Network.random([20, 64, 64, 3], seed=0)
    X = points(net, 3000)
    plan = replace(jb.plan(net, 3000), threads=2, piece=100)
    first = jb.jacobian(net, X, plan=plan)
    for _ in range(3):
        assert_equal(jb.jacobian(net, X, plan=plan), first)


def test_a_result_whose_entries_share_a_place_is_refused():
    net = jb.Network.random([3, 4, 2], seed=0)
    shared = np.lib.stride_tricks.as_strided(np.zeros(3), (5, 2, 3), (0, 0, 8), writeable=True)
    with pytest.raises(ValueError, match="out: several entries share one place"):
        jb.jacobian(net, points(net, 5), out=shared)


def test_threads_stop_together_at_the_first_failure():
    done = []

    def work(job, worker):
        if job == 3:
            raise KeyboardInterrupt
        done.append((job, worker))

    with pytest.raises(KeyboardInterrupt):
        share(work, range(10_000), 2)
    assert len(done) < 10_000
    share(work, [0, 1, 2], 2)
    assert {worker for _, worker in done} <= {0, 1}


def test_calls_from_several_threads_do_not_wait_for_each_other():
    """Eight threads, each with a call that wants two: no deadlock, and everybody's own answer."""
    net = jb.Network.random([5, 30, 30, 2], seed=0)
    batches = [points(net, 400) + k for k in range(8)]
    plan = replace(jb.plan(net, 400), threads=2, piece=50)
    found = {}

    def call(k):
        found[k] = jb.jacobian(net, batches[k], plan=plan)

    threads = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, X in enumerate(batches):
        assert_equal(found[k], jb.jacobian(net, X, plan=plan))


def test_plans_and_programs_do_not_pile_up():
    net = jb.Network.random([3, 4, 2], seed=0)
    for B in range(1, 60):
        jb.jacobian(net, points(net, B))
        jb.jacobian(net, points(net, B), plan=jb.plan(net, B))
        jb.jvp(net, points(net, B), points(net, B))
    assert len(doors._prepared_before[net]) <= 16
    kept = (doors._prepared_before, sweeps._prepared_before)
    before = [len(found) for found in kept]
    del net
    assert [len(found) for found in kept] == [count - 1 for count in before]


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"MKL_NUM_THREADS": "nonsense", "OMP_NUM_THREADS": "5"}, 5),
    ],
)
def test_threads_are_those_that_the_user_gave_to_blas(monkeypatch, variables, threads):
    from jacobians.planning import _thread_count

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert _thread_count() >= 1
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _thread_count() == threads


def test_threads_are_the_processors_where_nobody_gave_any(monkeypatch):
    """Those that the process may use, where the system says it; all of them elsewhere."""
    from jacobians.planning import _thread_count

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    for count, threads in ((7, 7), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        assert _thread_count() == threads


def test_threads_are_taken_where_they_pay():
    small, large = (jb.Network.random([n, n, n, 1], seed=0) for n in (64, 512))
    assert jb.plan(small, 10_000, threads=2).threads == 2
    assert jb.plan(small, 10, threads=2).threads == 1  # too little work
    assert jb.plan(large, 10_000, threads=2).threads == 1  # BLAS has threads of its own
    assert jb.plan(small, 10_000, threads=1).threads == 1
