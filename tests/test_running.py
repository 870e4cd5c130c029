"""Running a program: where a step writes, how many rows go at a time, and what is asked again."""

import warnings
from dataclasses import dataclass, replace
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from claims import assert_equal
from test_figures_of_plans import CASES, SMALL, counted, passing_rows
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians import _kernels
from jacobians.engine import jacobian_at, kernels, running, sweeps
from jacobians.engine import jacobians as entry_points
from jacobians.engine.kernels import FILLING, Kernels, is_finite
from jacobians.engine.running import Runner
from jacobians.linearization import layer_map
from jacobians.maps.association import forward_order
from jacobians.program import Limits, Op

every_network = pytest.mark.parametrize("net", CASES.values(), ids=list(CASES))
B = 5


# --- memory ---------------------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("warm", [0, 10**9])
def test_every_step_writes_into_the_memory_that_was_planned_for_it(net, warm):
    """The result into the caller's, products into slots; of small ones only what must fill any."""
    X = points(net, B)
    program = jb.plan(net, B, limits=SMALL, kernels=False).program(net, True)
    runner = Runner(net.depth, net.dtype, program, Kernels(SMALL, 1, 1), B, 1)
    J = np.empty((net.widths[-1], B, net.widths[0]), net.dtype)
    with patch.object(running, "WARM_BYTES", warm):
        slots = runner._slots(B)
    assert [len(slot) for slot in slots] == ([] if warm else [B * n for n in program.slots])
    steps = {step.out: step for step in program.steps}

    def watched(kernel):
        def run(step, out, *args):
            if step.out in steps:
                if step.slot == -2:
                    assert out is J
                elif step.slot >= 0 and (slots or step.op in FILLING):
                    assert out.shape == tuple(n or B for n in step.shape)
                    assert out.dtype == net.dtype
                    assert all(
                        np.may_share_memory(out, slot) == (k == step.slot)
                        for k, slot in enumerate(slots)
                    )
                else:
                    assert out is None
            return kernel(step, out, *args)

        return run

    vars(runner)["code"] = [(watched(kernel), *rest) for kernel, *rest in runner.code]
    value, finite = runner.run(X, J, None, slots)
    assert finite
    assert value.shape == (B, net.widths[-1])


@pytest.mark.parametrize("name", ["tokens", "wide softmax", "shaping"])
def test_as_many_rows_go_at_a_time_as_their_memory_lets_in(name):
    """Rows on their way through maps, and columns of an identity with what becomes of them."""
    net = CASES[name]
    limits = Limits(rows=1, table=0, written_out=1, apply_bytes=2**14)
    program = jb.plan(net, B, limits=limits, kernels=False).program(net, False)
    sizes = {step.out: counted(step) for step in program.steps}
    size, cut = net.dtype.itemsize, []

    def noted(work, jobs, threads):
        cut.append((jobs, threads))
        for job in jobs:
            work(job, 0)

    J = np.empty((net.widths[-1], B, net.widths[0]), net.dtype)
    runner = Runner(net.depth, net.dtype, program, Kernels(limits, 1, 3), B, 1)
    with patch.object(kernels, "share", noted):
        runner.run(points(net, B), J)
    expected = []
    for step in program.steps:
        m, n = step.shape[0], step.shape[-1]
        if step.op == Op.ROWS:
            count = n if step.data.left else m
            nbytes = B * passing_rows(step, program.registers, sizes) // count * size
        elif step.op == Op.WRITE and step.data == "map":
            count, nbytes = min(m, n), 2 * B * (m + n) * size
        else:
            continue
        together = max(1, 2**14 // nbytes)
        expected.append([slice(k, k + together) for k in range(0, count, together)])
    assert [jobs for jobs, _ in cut] == expected
    assert expected
    assert {threads for _, threads in cut} == {3}


def test_rows_are_shared_by_the_threads_that_pieces_leave_alone():
    """Where pieces have threads of their own, each piece keeps to one."""
    for threads, allowed, taken in ((1, 1, 1), (1, 3, 3), (2, 3, 1), (3, 3, 1)):
        with patch.object(kernels, "share") as share:
            Kernels(Limits(), threads, allowed)._share(print, [0, 1])
        assert share.call_args.args[1:] == ([0, 1], taken)
        assert Kernels(Limits(), threads, allowed).slabs == (threads > 1)


def test_a_batch_that_fits_into_a_piece_stays_on_one_thread():
    """A larger one goes to all of them, in pieces of one size; and memory for the largest piece."""
    net = NETWORKS["deep"]
    plan = replace(jb.plan(net, 9, kernels=False), piece=4, threads=2, runners=WeakKeyDictionary())
    for count, pieces, threads in (
        (1, 1, 1),
        (3, 1, 1),
        (4, 1, 1),
        (5, 2, 2),
        (8, 2, 2),
        (9, 3, 2),
    ):
        X, longest = points(net, count), []
        with (
            patch.object(running, "share", wraps=running.share) as share,
            patch.object(running, "WARM_BYTES", 0),
            patch.object(Runner, "_slots", lambda self, n, seen=longest: seen.append(n) or []),
        ):
            J = jb.jacobian(net, X, plan=plan)
        _, jobs, taken = share.call_args.args
        assert (len(jobs), taken) == (pieces, threads)
        assert longest == [-(-count // pieces)] * threads
        assert np.abs(J - jb.linearize(net, X).jacobian()).max() <= 1e-13  # of numbers near 1


@pytest.mark.parametrize("left", [False, True])
def test_maps_are_applied_in_the_dtype_of_the_network(left):
    softmax = jb.Elementwise("softmax")
    layers = [softmax, jb.Dense(whole(80, 70))] if left else [jb.Dense(whole(70, 80)), softmax]
    net = jb.Network(layers, inputs=70 if left else 80).astype(np.float32)
    seen = []
    applied = kernels._applied
    with patch.object(kernels, "_applied", lambda A, P: seen.append(P.dtype) or applied(A, P)):
        for limits in (Limits(rows=1), Limits(rows=10**9), Limits(written_out=0, table=0)):
            for of, wrt in ((2, 0), (2 - left, 1 - left)):
                plan = jb.plan(net, 2, of=of, wrt=wrt, limits=limits, kernels=False)
                jb.jacobian(net, points(net, 2), plan=plan)
    assert set(seen) == {np.dtype(np.float32)}


@pytest.mark.parametrize("count", [1, 9000])
def test_one_entry_that_is_not_finite_is_seen_among_many(count):
    for dtype in (np.float32, np.float64):
        good = np.ones((count, 3), dtype)
        for values in (good, good[::2], good.T):
            assert is_finite(values)
        for wrong in (np.inf, -np.inf, np.nan):
            for i in (0, count - 1):
                bad = good.copy()
                bad[i, 1] = wrong
                assert not is_finite(bad)
                assert not is_finite(bad.T)


# --- rules that say something else at other points ------------------------------------------------

_half = jb.Diagonal([0.5] * 3)


def _matrix(d):
    return d[..., None] * np.eye(3)


SAID = {
    "diagonal": lambda d: jb.Diagonal(d),
    "matrix": lambda d: jb.Matrix(_matrix(d)),
    "product of two": lambda d: jb.Product([jb.Diagonal(d / 2), jb.Diagonal(0 * d + 2)]),
    "product of three": lambda d: jb.Product([jb.Diagonal(A) for A in (d, d, d / 4)]),
    "sum": lambda d: jb.Sum([jb.Diagonal(d / 4), jb.Matrix(_matrix(3 * d / 4))]),
    "sum of three": lambda d: jb.Sum([jb.Diagonal(A) for A in (d / 4, d / 4, d / 2)]),
    "sum with an identity": lambda d: jb.Sum([jb.Identity(3), jb.Diagonal(d / 2)]),
    "sum with what is shared": lambda d: jb.Sum([jb.Diagonal([0.5] * 3), jb.Diagonal(3 * d / 4)]),
    "graph": lambda d: jb.Substitution(
        [[(0, jb.Diagonal(d))], [(0, jb.Diagonal(d / 2)), (1, _half)]]
    ),
    "another graph": lambda d: jb.Substitution([[(0, jb.Diagonal(d))], [(1, _half), (1, _half)]]),
    "low rank": lambda d: jb.DiagonalPlusLowRank(d, 0 * d[..., None], 0 * d[..., None]),
    "shared": lambda d: jb.Diagonal(np.full(d.shape[-1], 2.0)),
    "shared matrix": lambda d: jb.Matrix(2 * np.eye(d.shape[-1])),
}


@dataclass(frozen=True, eq=False)
class Moody(jb.Layer):
    """z = 2 a, said in one way at points that begin with 0, and in another elsewhere."""

    first: str
    later: str

    def output_width(self, inputs):
        return inputs

    def preactivation(self, a):
        return 2 * a


@layer_map.register
def _(layer: Moody, a):
    kind = layer.first if (a[..., 0] == 0).all() else layer.later
    return SAID[kind](np.full(a.shape, 2.0))


@pytest.mark.parametrize("later", SAID)
@pytest.mark.parametrize(
    "first", ["diagonal", "matrix", "product of two", "sum", "sum with an identity", "graph"]
)
def test_a_rule_may_say_the_same_in_any_kind_of_map(first, later):
    """As a Jacobian, JVP and VJP, at points and in batches, whatever it said at zeros."""
    W = whole(2, 3)
    for written_out in (0, 64):
        net = jb.Network([Moody(first, later), jb.Dense(W)], inputs=3)
        limits = Limits(written_out=written_out)
        for X in ([1.0, 2.0, 3.0], [[1.0, 0.0, 3.0]] * 2):
            lead = np.shape(X)[:-1]
            value, J = jb.value_and_jacobian(net, X, plan=jb.plan(net, 2, limits=limits))
            assert_equal(J, np.broadcast_to(2 * W, (*lead, 2, 3)))
            assert_equal(value, 2 * np.array(X) @ W.T)
            with patch.object(sweeps, "LIMITS", limits):
                assert_equal(
                    jb.jvp(net, X, np.ones_like(X)), np.broadcast_to(2 * W.sum(1), (*lead, 2))
                )
                C = np.ones((*lead, 2))
                assert_equal(jb.vjp(net, X, C), np.broadcast_to(2 * W.sum(0), (*lead, 3)))
            sweeps._prepared.pop(net, None)


# --- what leaves the range ------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("rows", "columns"), [(None, None), ([4, 0], None), (None, [2, 1]), ([1], [0])]
)
def test_jacobians_of_lost_points_are_made_again_and_the_others_left(
    kernels, threads, rows, columns
):
    """Of several points, each in its own place, with the chosen rows and columns; in silence."""
    W = [2.0**600 * whole(4, 3), 2.0**600 * whole(2, 4), 2.0**-1000 * whole(5, 2)]
    slopes = jb.Dense(W[0], activation="exp")  # 1 at 0, and 2^600 e^-z elsewhere
    net = jb.Network([slopes, jb.Dense(W[1]), jb.Dense(W[2])])
    X = np.zeros((7, 3))
    X[[2, 5]] = 2.0**-600 * whole(2, 3) / 64
    eager = Limits(long_call=0, thread_seconds=0, table=0, small_matrix=10**9)
    ask = {"rows": rows, "columns": columns}
    plan = jb.plan(net, 7, **ask, threads=threads, limits=eager, kernels=kernels)
    plan = plan.in_order(forward_order(len(plan.names)))  # which begins with 2^1200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        J = jb.jacobian(net, X, plan=plan)
    lin = jb.linearize(net, X)
    for x, mine, D in zip(X, J, lin.activation_map(1).entries, strict=True):
        # the scales are powers of two, so they may be left out of a product in range
        W3, W2, W1 = W[2] * 2.0**1000, W[1] / 2.0**600, W[0] / 2.0**600
        exact = 2.0**200 * (W3 @ W2 @ (D[:, None] * W1))
        exact = exact[slice(None) if rows is None else rows]
        exact = exact[:, slice(None) if columns is None else columns]
        scale = np.abs(exact).max()
        assert np.abs(mine - exact).max() <= 1e-14 * scale  # some roundings
        assert_equal(jb.jacobian(net, x, **ask).shape, mine.shape)


# --- one question again ---------------------------------------------------------------------------

ASKED = {
    "in the kernel": jb.Network.random([3, 5, 2], "tanh", seed=0),
    "float32": jb.Network.random([3, 5, 2], "tanh", seed=0).astype(np.float32),
    "in NumPy": jb.Network(
        [jb.Residual([jb.Dense(whole(3, 3) / 8, activation="tanh")]), jb.Dense(whole(2, 3))]
    ),
}


@pytest.mark.parametrize("ask", [jb.jacobian, jb.value_and_jacobian])
@pytest.mark.parametrize("net", ASKED.values(), ids=list(ASKED))
def test_a_point_that_was_asked_before_is_answered_by_the_program_alone(net, ask):
    """Not what lies otherwise in memory, has another dtype, or is not asked for in the same way."""
    x = np.array([0.3, -0.2, 0.7], net.dtype)
    expected = ask(net, x)
    spread = np.zeros(6, net.dtype)
    spread[::2] = x
    moved = np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(net.dtype)
    assert not moved.flags.aligned
    others = (x.tolist(), spread[::2], moved, x.astype(net.dtype.newbyteorder()), x[None])
    with patch.object(entry_points, "_with_checks", return_value=("checked", "checked")):
        for _ in range(2):
            for mine, first in zip(ask(net, x), expected, strict=True):
                assert_equal(mine, first)
            for mine in others:
                assert "checked" in ask(net, mine)
            for choice in (
                {"of": 1},
                {"of": "output"},
                {"wrt": 1},
                {"wrt": "x"},
                {"max_bytes": 10**6},
            ):
                assert "checked" in ask(net, x, **choice)
            for choice in ({"rows": [0]}, {"columns": [0]}, {"out": expected}, {"plan": 3}):
                assert "checked" in ask(net, x, **choice)
    for mine in others[:-1]:
        for again, first in zip(ask(net, mine), expected, strict=True):
            assert_equal(again, first)


def test_an_overflow_on_the_way_is_repaired_however_often_it_is_asked():
    net = jb.Network([jb.Dense([[w]]) for w in (2.0**600, 2.0**600, 2.0**-900)])
    for _ in range(3):
        assert_equal(jb.jacobian(net, np.array([0.0])), [[2.0**300]])
        assert_equal(jb.value_and_jacobian(net, np.array([0.0]))[1], [[2.0**300]])


def test_values_are_made_only_for_those_who_ask():
    """Of the last layer, at a point and in a batch, and at a trace; nothing is asked twice."""
    calls = []

    def noted(z):
        calls.append(len(z))
        return np.tanh(z)

    own = jb.Activation("own", noted, lambda z: 1 - np.tanh(z) ** 2)
    net = jb.Network(
        [jb.Dense(whole(4, 3) / 8, activation="tanh"), jb.Dense(whole(2, 4), None, own)]
    )
    X = points(net, 3)
    trace = jb.trace(net, X)
    plan = jb.plan(net, 3)
    for make, made in (
        (lambda: jb.jacobian(net, X, plan=plan), 0),
        (lambda: jacobian_at(trace, plan), 0),
        (lambda: jacobian_at(trace.point(0), plan), 0),
        (lambda: jb.value_and_jacobian(net, X, plan=plan), 1),
    ):
        calls.clear()
        make()
        assert len(calls) == made
    fresh = jb.plan(net, 3)
    jacobian_at(trace, fresh)
    assert set(fresh.runners[net]) == {"factors", False}


def test_plans_are_kept_for_powers_of_two_points():
    """A batch is planned like the next larger one of them; JVPs and VJPs too."""
    net = jb.Network.random([3, 4, 2], seed=0)
    usual = (None, 0, None, None, None)
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 9, 17):
        planned = 0 if count == 0 else 2 ** int(np.ceil(np.log2(count)))
        made = entry_points._planned(net, count, usual, None, "here")
        assert made.piece == max(1, planned)
        assert entry_points._planned(net, max(planned, 1) if count else 0, usual, None, "") is made
        for forward in (True, False):
            runner = sweeps._runner(net, np.zeros((count, 3)), forward)
            assert sweeps._prepared[net][forward, planned] is runner
    assert {key for _, key in sweeps._prepared[net]} == {0, 1, 2, 4, 8, 16, 32}


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("written_out", [0, 64])
def test_vectors_go_through_the_kernel_and_on_threads_where_they_may(forward, written_out):
    limits = Limits(long_call=0, thread_seconds=0, small_matrix=0, written_out=written_out)
    softmax = jb.Network.random([4, 6, 3], "tanh", "softmax", seed=0)
    for net, in_kernel in ((NETWORKS["tanh hidden"], True), (softmax, written_out > 0)):
        with (
            patch.object(sweeps, "LIMITS", limits),
            patch.object(sweeps, "THREADS", 3),
            patch.object(sweeps, "_prepared", WeakKeyDictionary()),
        ):
            runner = sweeps._runner(net, points(net, 4), forward)
            with patch.object(sweeps, "PROCESSORS", ()):
                sweeps._prepared.clear()
                plain = sweeps._runner(net, points(net, 4), forward)
        assert plain.compiled is None
        assert plain.threads == 1  # large matrices are left to BLAS
        if _kernels.PROCESSORS and in_kernel:
            assert runner.compiled is not None
            assert runner.threads == 3
        ops = {step.op for step in runner.program.steps}
        assert (not ops.isdisjoint({Op.LEFT, Op.RIGHT})) == (net is softmax and not written_out)


# --- memory of the caller -------------------------------------------------------------------------


def strided(shape, strides, dtype=np.float64):
    """An array of any strides, in memory that is long enough on either side."""
    memory = np.zeros(4000)
    return np.lib.stride_tricks.as_strided(memory[2000:], shape, strides, writeable=True)


@pytest.mark.parametrize(
    ("count", "strides", "is_taken"),
    [
        (5, (48, 24, 8), True),
        (5, (8, 40, 80), True),
        (5, (-48, 24, -8), True),
        (5, (96, 40, 8), True),
        (5, (48, 24, 0), False),
        (5, (0, 24, 8), False),
        (5, (48, 0, 8), False),
        (5, (40, 24, 8), False),
        (5, (48, 16, 8), False),
        (5, (-40, 24, 8), False),
        (2, (0, 24, 8), False),
        (2, (48, 24, 8), True),
        (1, (0, 24, 8), True),
        (1, (-8, 24, 8), True),
        (0, (0, 0, 0), True),
        (0, (48, 24, 8), True),
    ],
)
def test_a_result_is_written_where_every_entry_has_a_place_of_its_own(count, strides, is_taken):
    """Of two rows and three columns, with room between or none, forwards or back."""
    net = jb.Network.random([3, 4, 2], "tanh", seed=0)
    X, out = points(net, count), strided((count, 2, 3), strides)
    if is_taken:
        assert jb.jacobian(net, X, out=out) is out
        assert np.abs(out - jb.jacobian(net, X)).max(initial=0) <= 1e-15  # in NumPy, of numbers < 1
        return
    with pytest.raises(
        ValueError, match="jacobian: out: several entries share one place; give each"
    ):
        jb.jacobian(net, X, out=out)


def test_one_row_and_one_column_may_be_anywhere():
    net = jb.Network.random([1, 4, 1], "tanh", seed=0)
    for strides in ((8, 0, 0), (-8, 5, 3), (16, 8, 8)):
        X, out = points(net, 4), strided((4, 1, 1), strides)
        # in NumPy where memory has gaps: roundings of numbers below 1
        assert np.abs(jb.jacobian(net, X, out=out) - jb.jacobian(net, X)).max() <= 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_and_results_need_not_be_aligned(dtype):
    net = jb.Network.random([3, 4, 2], "tanh", seed=0).astype(dtype)
    X, size = points(net, 5), np.dtype(dtype).itemsize
    expected = jb.jacobian(net, X)

    def moved(shape):
        memory = np.zeros(np.prod(shape) * size + 1, np.uint8)
        A = memory[1:].view(dtype).reshape(shape)
        assert not A.flags.aligned
        return A

    given, out = moved(X.shape), moved(expected.shape)
    given[...] = X
    assert_equal(jb.jacobian(net, given), expected)
    assert np.abs(jb.jacobian(net, X, out=out) - expected).max() <= 8 * np.finfo(dtype).eps
    assert_equal(jb.jacobian(net, given, out=moved(expected.shape)), out)
