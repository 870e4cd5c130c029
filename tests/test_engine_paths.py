"""Every path of the engine computes the same: orders, tables, slabs, pools, threads."""

import threading
import tracemalloc
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from claims import assert_equal, assert_within
from engine_cases import EXTREMES, drawn_plan, every_network, operations, paths
from hypothesis import given
from hypothesis import strategies as st
from zoo import points

import jacobians as jb
from jacobians import strategies as jst
from jacobians._workers import share
from jacobians.engine import jacobian_at, kernels, running, sweeps
from jacobians.engine import jacobians as entry_points
from jacobians.linearization import layer_map
from jacobians.program import Limits, Op
from jacobians.rounding import chain_bound


@given(st.data(), paths())
def test_every_path_is_within_the_bound(data, path):
    """At the trace of the explicit view, whatever order, kernel, threads and memory."""
    limits, threads, warm = path
    hidden = ("tanh", "relu", "identity", "sigmoid", "softmax", "log_softmax", "gelu")
    net = data.draw(jst.networks(hidden=hidden))
    X = np.stack([data.draw(jst.points(net)) for _ in range(3)])
    trace = jb.trace(net, X)
    with patch.object(running, "WARM_BYTES", warm):
        J = jacobian_at(trace, drawn_plan(data, net, 3, limits, threads))
    for i in range(3):
        point = trace.point(i)
        bound = chain_bound(jb.linearize(net, point).factors, net.dtype)
        assert_within(J[i], jb.explicit.input_jacobian(point), bound.pair())


@pytest.mark.parametrize("extreme", [0, -1])
@every_network
def test_every_network_takes_every_path_within_the_bound(net, extreme):
    """All limits at one end: graphs and maps of every kind, between any two nodes."""
    limits = Limits(**{name: values[extreme] for name, values in EXTREMES.items()})
    trace = jb.trace(net, points(net, 3))
    lin = jb.linearize(net, trace)
    for of, wrt in {(net.depth, 0), (net.depth, 1), (net.depth - 1, 0)}:
        if of <= wrt:
            continue
        plan = jb.plan(net, 3, of=of, wrt=wrt, limits=limits)
        bound = chain_bound(lin.between(of, wrt), net.dtype).pair()
        assert_within(jacobian_at(trace, plan), lin.jacobian(of, wrt), bound)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_point_at_which_all_units_are_dead_has_the_jacobian_0(threads):
    """Between two sides that points do not share, where dead units are left out of the product."""
    net = jb.Network.random([30, 20, 8, 20, 30], activation="relu", seed=0)
    dead = jb.Dense(net.layers[1].W, net.layers[1].b - 1e6, "relu")
    net = jb.Network([net.layers[0], dead, *net.layers[2:]])
    limits = Limits(live=0, table=0)
    plan = jb.plan(net, 5, threads=threads, limits=limits, kernels=False)
    assert any(step.op == Op.LIVE for step in plan.program(net, False).steps)
    assert_equal(jb.jacobian(net, points(net, 5), plan=plan), np.zeros((5, 30, 30)))


@given(st.data(), paths())
def test_every_path_is_exact_on_exact_networks(data, path):
    """Values and Jacobians, in pieces and on threads, == the explicit view, bit for bit."""
    limits, threads, warm = path
    net = data.draw(jst.exact_networks())
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(data.draw(st.integers(1, 7)))])
    with patch.object(running, "WARM_BYTES", warm):
        plan = drawn_plan(data, net, len(X), limits, threads)
        y, J = jb.value_and_jacobian(net, X, plan=plan)
        alone = jb.jacobian(net, X, plan=plan)
    assert_equal(y, net(X))
    assert_equal(alone, J)
    for i, x in enumerate(X):
        assert_equal(J[i], jb.explicit.input_jacobian(jb.trace(net, x)))


@given(st.data(), jst.exact_networks())
def test_a_point_is_exact_on_exact_networks(data, net):
    """One point, alone, in a batch of one and with rows and columns chosen, bit for bit."""
    x = data.draw(jst.whole_points(net))
    expected = jb.explicit.input_jacobian(jb.trace(net, x))
    y, J = jb.value_and_jacobian(net, x, plan=drawn_plan(data, net, 1))
    assert_equal(J, expected)
    assert_equal(y, net(x))
    assert_equal(jb.jacobian(net, x[None])[0], expected)
    last = net.widths[0] - 1
    assert_equal(jb.jacobian(net, x, rows=[0], columns=[last]), expected[:1, -1:])
    out = np.empty(expected.shape[::-1]).astype(net.dtype).T
    assert_equal(jb.jacobian(net, x, out=out), expected)


def test_the_right_network_takes_each_path():
    """Without moving any limit: the networks that each kernel is there for."""
    assert operations(jb.Network.random([3, 64, 5], seed=0), 128) == ["TABLE"]
    deep = operations(jb.Network.random([12, 200, 210, 10], seed=0), 4)
    assert deep == ["SCALE_COLUMNS", "PRODUCT", "SCALE_COLUMNS", "PRODUCT"]
    bottleneck = jb.Network.random([300, 100, 20, 100, 300], "relu", seed=0)
    assert operations(bottleneck, 4)[-1] == "LIVE"
    smooth = jb.Network.random([300, 100, 20, 100, 300], "tanh", seed=0)
    assert operations(smooth, 4)[-1] == "PRODUCT"
    wide = jb.Network.random([16, 256, 4096], seed=0)
    assert operations(wide, 8) == ["SCALE_ROWS", "PRODUCT"]
    softmax = jb.Network.random([5, 70, 80], output_activation="softmax", seed=0)
    assert "LEFT" in operations(softmax, 4) or "RIGHT" in operations(softmax, 4)


def test_a_linear_network_is_one_product_made_beforehand():
    net = jb.Network.random([5, 4, 3, 2], "identity", seed=0)
    assert operations(net, 10_000) == ["WRITE"]
    J = jb.jacobian(net, points(net, 2))
    assert_equal(J[0], J[1])


# --- the plan is what happens ---------------------------------------------------------------------


def counted(net, X, plan):
    """Run a plan and count the operations of its products, at the shapes that are multiplied."""
    counts = []

    def size(A):
        return A.shape if A.ndim == 2 else (A.shape[0], A.shape[2])

    def count(name, operations):
        original = getattr(kernels.Kernels, name)

        def counting(self, step, out, left, right):
            counts.append(operations(left, right))
            return original(self, step, out, left, right)

        return patch.object(kernels.Kernels, name, counting)

    with (
        count("_product", lambda P, Q: 2 * size(P)[0] * size(P)[1] * size(Q)[1]),
        count("_scale_rows", lambda d, Q: np.prod(size(Q))),
        count("_scale_columns", lambda P, d: np.prod(size(P))),
    ):
        jb.jacobian(net, X, plan=replace(plan, runners=WeakKeyDictionary()))
    return sum(counts)


@given(st.data())
def test_what_is_executed_is_what_was_planned(data):
    """The operations of every order, counted at the shapes that are multiplied."""
    widths = data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=6))
    net = jb.Network.random(widths, "tanh", seed=0)
    limits = Limits(table=0, live=10**9)
    plan = drawn_plan(data, net, 1, limits)
    executed = counted(net, points(net, 1), plan)
    assert executed <= plan.flops * (1 + 1e-12)
    if all(A.stacked for A in plan.operands[::2]):  # nothing was multiplied beforehand
        # sums of the same terms in another order
        assert executed == pytest.approx(plan.flops, rel=1e-12)


def test_both_sides_of_an_order_may_be_products():
    """400-400-400-3-10: seen 1,218 MiB and 5 s where the plan said 48 MiB, since it was not run."""
    net = jb.Network.random([200, 200, 200, 3, 10], "tanh", seed=0)
    X = points(net, 64)
    plan = jb.plan(net, 64)
    assert counted(net, X, plan) <= plan.flops
    tracemalloc.start()
    jb.jacobian(net, X, plan=plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.working_bytes + 64 * 10 * 200 * 8 + 2**18


@every_network
def test_memory_is_within_plan_and_budget(net):
    """Whatever the kind of layer; beside the result and the point itself."""
    B = 400
    X = points(net, B)
    out = np.empty((B, net.widths[-1], net.widths[0]), net.dtype)
    plan = jb.plan(net, B, max_bytes=2**19, threads=1)
    jb.jacobian(net, X[:2], out=out[:2], plan=plan)
    tracemalloc.start()
    jb.jacobian(net, X, out=out, plan=plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.piece * plan.point_bytes <= 2**19
    assert peak <= plan.working_bytes + X.size + out.size + 2**17


@dataclass(frozen=True, eq=False)
class Wide(jb.Layer):
    """z = A (w (u a)) for each point: a map with structure, of a user's own."""

    n: int
    kind: str

    def output_width(self, inputs):
        return self.n

    def preactivation(self, a):
        return a + (1 + a[..., :1]) * a.sum(axis=-1, keepdims=True)


@layer_map.register
def _(layer: Wide, a):
    # z = a + s(a) with s = (1 + a_0) sum(a): I + 1 g^T
    g = np.broadcast_to(1 + a[..., :1], a.shape).copy()
    g[..., 0] += a.sum(axis=-1)
    ones = np.ones((*a.shape, 1))
    if layer.kind == "low rank":
        return jb.DiagonalPlusLowRank(np.ones(a.shape), ones, g[..., None])
    if layer.kind == "sum":
        return jb.Identity(layer.n) + jb.Product([jb.Matrix(ones), jb.Matrix(g[..., None, :])])
    if layer.kind == "kronecker":
        return jb.Kronecker(jb.Matrix(np.ones(a.shape[:-1] + (1, 1))), jb.Identity(layer.n)) + (
            jb.Product([jb.Matrix(ones), jb.Matrix(g[..., None, :])])
        )
    return jb.Matrix(np.eye(layer.n) + ones @ g[..., None, :])


@pytest.mark.parametrize("kind", ["low rank", "sum", "kronecker", "matrix"])
def test_a_users_layer_keeps_its_structure(kind):
    """Within the bound, for every kind of map; no matrix for a point where there is structure."""
    n = 96
    net = jb.Network([Wide(n, kind), jb.Dense(np.ones((2, n)) / n, activation="tanh")], inputs=n)
    X = points(net, 50) / n
    trace = jb.trace(net, X)
    bound = chain_bound(jb.linearize(net, trace).factors, float).pair()
    assert_within(jacobian_at(trace, jb.plan(net, 50)), jb.linearize(net, trace).jacobian(), bound)
    plan = jb.plan(net, 50)
    tracemalloc.start()
    jb.jacobian(net, X, plan=plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.working_bytes + 50 * 2 * n * 8 + 2**18
    if kind != "matrix":
        assert plan.flops < 2 * 2 * n * n  # less than a dense matrix would take
        assert peak < 50 * n * n * 8


@dataclass(frozen=True, eq=False)
class Fickle(jb.Layer):
    """A layer whose rule gives maps of different kinds."""

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return a * np.abs(a)


@layer_map.register
def _(layer: Fickle, a):
    slopes = 2 * np.abs(a)
    if len(a) > 1:
        return jb.Product([jb.Diagonal(slopes), jb.Diagonal(np.ones(a.shape))])
    return jb.Diagonal(slopes)


def test_a_rule_may_give_other_kinds_at_other_points():
    net = jb.Network([Fickle(), jb.Dense([[1.0, 2.0]])], inputs=2)
    X = np.array([[1.0, 2.0], [3.0, -4.0], [0.0, 1.0]])
    y, J = jb.value_and_jacobian(net, X)
    assert_equal(J, [[[2, 8]], [[6, 16]], [[0, 4]]])
    assert_equal(y, net(X))


@dataclass(frozen=True, eq=False)
class Doubled(jb.Dense):
    """A dense layer that says something else of itself."""

    def __init__(self, W):
        super().__init__(W)

    def preactivation(self, a):
        return 2 * super().preactivation(a)


@layer_map.register
def _(layer: Doubled, a):
    return jb.Matrix(2 * layer.W)


def test_a_subclass_with_a_rule_of_its_own_is_obeyed():
    net = jb.Network([Doubled([[1.0, 2.0]])])
    for X in ([1.0, 1.0], [[1.0, 1.0]]):
        y, J = jb.value_and_jacobian(net, X)
        assert_equal(y.ravel(), [6.0])
        assert_equal(J.reshape(1, 2), [[2.0, 4.0]])
        assert_equal(jb.vjp(net, X, np.ones_like(y)).ravel(), [2.0, 4.0])


def test_thousands_of_layers_are_no_deeper_than_others():
    """In linear time, and without recursion."""
    W = np.array([[0.6, -0.8], [0.8, 0.6]])  # a rotation
    net = jb.Network([jb.Dense(W) for _ in range(1200)])
    X = points(net, 2)
    J = jb.jacobian(net, X, of=1199)
    # every layer adds two products and a sum of numbers up to 1; 0.6² + 0.8² is 1 to as many
    assert np.abs(J @ J.transpose(0, 2, 1) - np.eye(2)).max() < 1200 * 16 * 2.0**-53
    assert np.abs(jb.jvp(net, X, X)).max() > 0
    plan = jb.plan(net, 2)
    assert "W1200" in str(plan.explain())
    assert repr(plan)


# --- memory and threads ---------------------------------------------------------------------------


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
    with patch.object(running, "WARM_BYTES", 0):
        y, J = jb.value_and_jacobian(net, X)
    assert_equal(y, X[:, :2])
    assert_equal(J[17], np.eye(60)[:2])
    for kept, copy in seen:
        assert_equal(kept, copy)


def test_the_same_call_gives_the_same_bits():
    net = jb.Network.random([20, 64, 64, 3], seed=0)
    X = points(net, 3000)
    plan = replace(jb.plan(net, 3000), threads=2, piece=100, runners=WeakKeyDictionary())
    first = jb.jacobian(net, X, plan=plan)
    for _ in range(3):
        assert_equal(jb.jacobian(net, X, plan=plan), first)


def test_a_result_whose_entries_share_a_place_is_refused():
    net = jb.Network.random([3, 4, 2], seed=0)
    for strides in ((0, 0, 8), (48, 16, 8), (48, 8, 24), (8, 48, 8)):
        shared = np.lib.stride_tricks.as_strided(np.zeros(99), (5, 2, 3), strides, writeable=True)
        with pytest.raises(ValueError, match="out: several entries share one place"):
            jb.jacobian(net, points(net, 5), out=shared)
    with pytest.raises(TypeError, match="out: expected an array, but got MaskedArray"):
        jb.jacobian(net, points(net, 5), out=np.ma.masked_all((5, 2, 3)))


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
    plan = replace(jb.plan(net, 400), threads=2, piece=50, runners=WeakKeyDictionary())
    results = {}

    def call(k):
        results[k] = jb.jacobian(net, batches[k], plan=plan)

    threads = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, X in enumerate(batches):
        assert_equal(results[k], jb.jacobian(net, X, plan=plan))


def test_plans_and_programs_do_not_pile_up():
    net = jb.Network.random([3, 4, 2], seed=0)
    for B in range(1, 60):
        jb.jacobian(net, points(net, B))
        jb.jacobian(net, points(net, B), plan=jb.plan(net, B))
        jb.jvp(net, points(net, B), points(net, B))
    assert len(entry_points._plans[net]) <= 16
    kept = (entry_points._plans, sweeps._prepared)
    before = [len(plans) for plans in kept]
    del net
    assert [len(plans) for plans in kept] == [count - 1 for count in before]


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"MKL_NUM_THREADS": "nonsense", "OMP_NUM_THREADS": "5"}, 5),
    ],
)
def test_threads_are_those_that_the_user_gave_to_blas(monkeypatch, variables, threads):
    from jacobians._machine import thread_count as _thread_count

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert _thread_count() >= 1
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _thread_count() == threads


def test_threads_are_the_processors_where_nobody_gave_any(monkeypatch):
    """Those that the process may use, where the system says it; all of them elsewhere."""
    from jacobians._machine import thread_count as _thread_count

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    for count, threads in ((7, 7), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        assert _thread_count() == threads


def test_threads_are_taken_where_they_pay():
    small, large = (jb.Network.random([n, n, n, 1], seed=0) for n in (64, 512))
    plan = partial(jb.plan, kernels=False)  # the kernel has no threads of its own, BLAS has
    assert plan(small, 10_000, threads=2).threads == 2
    assert plan(small, 10, threads=2).threads == 1  # too little work
    assert plan(large, 10_000, threads=2).threads == 1
    assert plan(small, 10_000, threads=1).threads == 1


def test_a_network_without_a_value_at_0_is_asked_where_it_has_one():
    """log(x - 2) has neither a value nor a derivative at 0, 1 or a few random points."""
    log = jb.Activation("my log", np.log, lambda z: 1 / z)
    net = jb.Network([jb.Dense([[1.0]], [-5.0], log)])
    assert_equal(jb.jacobian(net, [7.0]), [[0.5]])
    assert_equal(jb.jacobian(net, [[7.0], [9.0]]), [[[0.5]], [[0.25]]])
    assert_equal(jb.vjp(net, [9.0], [2.0]), [0.5])
    assert jb.plan(net, near=[7.0]).flops == 1
    with pytest.raises(jb.NotFiniteError, match="my log leaves the range"):
        jb.plan(net)


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
        ({"columns": [-1]}, r"plan: columns: expected numbers from 0 to 2"),
        ({"columns": [1.0]}, r"plan: columns: expected numbers from 0 to 2"),
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
