"""Threads and processes: nothing of a network can be changed, so everybody may share it."""

import copy
import dataclasses
import hashlib
import inspect
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from zoo import MAPS, NETWORKS, points

import jacobians as jb

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())
every_map = pytest.mark.parametrize("A", [A for _, A, _ in MAPS], ids=[name for name, *_ in MAPS])


def members_of(thing, path="it"):
    """Yield the records and arrays that something is made of, with the way to each."""
    if isinstance(thing, np.ndarray):
        yield path, thing
    elif isinstance(thing, Mapping):
        for name, member in thing.items():
            yield from members_of(member, f"{path}[{name!r}]")
    elif isinstance(thing, tuple):
        for i, member in enumerate(thing):
            yield from members_of(member, f"{path}[{i}]")
    elif scipy.sparse.issparse(thing):
        for member in ("data", "indices", "indptr"):
            yield f"{path}.{member}", getattr(thing, member)
    elif dataclasses.is_dataclass(thing):
        yield path, thing
        for name, member in vars(thing).items():
            yield from members_of(member, f"{path}.{name}")
    else:  # a leaf that cannot be changed
        assert callable(thing) or isinstance(
            thing, (str, int, float, slice, type(None), type(...), np.dtype)
        ), path


def assert_immutable(thing):
    members = list(members_of(thing))
    assert len(members) > 1
    for _, member in members:
        if isinstance(member, np.ndarray):
            with pytest.raises(ValueError, match="WRITEABLE"):
                member.flags.writeable = True
            with pytest.raises(ValueError, match="read-only"):
                member[...] = 0
        else:
            for name in (*vars(member), "something_new"):
                with pytest.raises(AttributeError):
                    setattr(member, name, None)
                with pytest.raises(AttributeError):
                    delattr(member, name)


def copies(thing):
    """Return every kind of copy there is."""
    pickles = [pickle.loads(pickle.dumps(thing, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    return [copy.copy(thing), copy.deepcopy(thing), *pickles]


@every_network
def test_networks_cannot_be_changed_and_neither_can_their_copies(net):
    for twin in (net, *copies(net)):
        assert_immutable(twin)


@every_map
def test_maps_cannot_be_changed_and_neither_can_their_copies(A):
    for twin in (A, *copies(A)):
        assert twin.to_dense().tobytes() == A.to_dense().tobytes()
        assert repr(twin) == repr(A)
        if list(members_of(twin))[1:]:
            assert_immutable(twin)


def test_graphs_cannot_be_changed_and_neither_can_their_copies():
    graph = jb.UnitGraph.from_network(NETWORKS["tanh hidden"])
    X = points(NETWORKS["tanh hidden"], 2)
    for twin in (graph, *copies(graph)):
        assert twin.linearize(X).input_jacobian().tobytes() == (
            graph.linearize(X).input_jacobian().tobytes()
        )
        for field in (twin.A.data, twin.A.indices, twin.B.data, twin.biases):
            with pytest.raises(ValueError, match="WRITEABLE"):
                field.flags.writeable = True


def computation(net, X):
    """Compute everything that a network is asked for, as one digest of its bits."""
    lin = jb.linearize(net, X)
    y = np.zeros(net.widths[-1], net.dtype)
    g = jb.backprop.gradients(net, X[0], y, jb.SquaredError(), 0.25)
    arrays = [net(X), *jb.value_and_jacobian(net, X), *jb.jacobian_with_bound(net, X)]
    arrays += [lin.jacobian(), lin.vjp(lin.value), jb.backprop.jacobian(lin.trace), g.vector]
    arrays += [jb.explicit.input_jacobian(lin.trace.point(0)), g.inputs]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@every_network
def test_copies_give_the_same_bits(net):
    X = points(net, 3)
    expected = computation(net, X)
    assert {computation(twin, X) for twin in copies(net)} == {expected}


@every_network
def test_what_was_computed_can_be_sent(net):
    """Traces, linearizations, plans, gradients and certificates survive a pickle."""
    X = points(net, 2)
    lin, plan = jb.linearize(net, X), jb.plan(net, batch=2)
    for lin_again in copies(lin):
        assert lin_again.jacobian().tobytes() == lin.jacobian().tobytes()
        assert lin_again.trace.output.tobytes() == lin.value.tobytes()
    for plan_again in copies(plan):
        assert str(plan_again) == str(plan)
        J = jb.jacobian(net, X, plan=plan_again)
        assert J.tobytes() == jb.jacobian(net, X, plan=plan).tobytes()
    certificate = jb.certify(net, X[0])
    assert {str(twin) for twin in copies(certificate)} == {str(certificate)}


# --- threads --------------------------------------------------------------------------------------


def test_threads_that_share_networks_get_the_bits_of_one():
    """All of them start at once, on the same fresh networks, in different orders."""
    cases = [(net, points(net, 40)) for net in NETWORKS.values()]
    alone = [computation(net, X) for net, X in cases]
    shared = [(copy.deepcopy(net), X) for net, X in cases]
    start = threading.Barrier(4)

    def work(k):
        start.wait()
        order = np.random.default_rng(k).permutation(len(shared))
        digests = {i: computation(*shared[i]) for i in order}
        return [digests[i] for i in range(len(shared))]

    with ThreadPoolExecutor(4) as pool:
        assert all(digests == alone for digests in pool.map(work, range(4)))


def test_a_linearization_and_a_plan_may_be_shared_too():
    net = NETWORKS["scales and elementwise layers"]
    X = points(net, 200)
    lin, plan = jb.linearize(net, X), jb.plan(net, batch=200)
    expected = lin.jacobian().tobytes(), jb.jacobian(net, X, plan=plan).tobytes()
    fresh = jb.linearize(net, X)
    start = threading.Barrier(8)

    def work(_):
        start.wait()
        return fresh.jacobian().tobytes(), jb.jacobian(net, X, plan=plan).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(8))) == {expected}


def test_a_limit_holds_in_its_own_thread_alone():
    """``dense_limit`` in one thread does not reach another."""
    inside, done = threading.Event(), threading.Event()

    def strict():
        with jb.dense_limit(8):
            inside.set()
            assert done.wait(60)
            with pytest.raises(jb.TooLargeError):
                jb.Identity(3).to_dense()

    with ThreadPoolExecutor(1) as pool:
        verdict = pool.submit(strict)
        assert inside.wait(60)
        assert jb.Identity(3).to_dense().shape == (3, 3)
        done.set()
        verdict.result()


def test_eight_threads_save_and_load_one_file(tmp_path):
    """Readers see one network or the other, never half of one."""
    nets = [jb.Network.random([5, 40, 3], seed=seed) for seed in range(2)]
    saved = {net.parameters.tobytes() for net in nets}
    path = tmp_path / "net.npz"
    jb.save(nets[0], path)

    def work(k):
        for i in range(10):
            if k < 2:
                jb.save(nets[(i + k) % 2], path)
            elif jb.load(path).parameters.tobytes() not in saved:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert os.listdir(tmp_path) == ["net.npz"]


# --- processes ------------------------------------------------------------------------------------

PRELUDE = """
import hashlib, multiprocessing, os, signal, sys, threading
import numpy as np
import jacobians as jb

net = jb.Network.random([12, 40, 30, 5], "gelu", "softmax", seed=0)
X = np.random.default_rng(1).standard_normal((500, 12))

def digest(dtype):
    single = net.astype(dtype)
    parts = [jb.jacobian(single, X), *jb.jacobian_with_bound(single, X[:50]), single(X)]
    parts.append(jb.backprop.gradients(single, X, np.zeros(500, int), jb.CrossEntropy()).vector)
    parts.append(jb.sensitivity(single, X[:200]).mean)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
"""


def run(code, tmp_path, **environment):
    """Run a script in an interpreter of its own and return what it prints."""
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + code, encoding="utf-8")
    root = str(Path(jb.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_results_are_the_same_run_after_run(tmp_path):
    """Bit for bit, whatever the hash seed."""
    code = "print(digest(np.float32), digest(np.float64))"
    runs = [run(code, tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_get_the_bits_of_their_parent(method, tmp_path):
    """Networks, maps and plans go there by pickle, and results come back."""
    code = f"""
def in_a_process(things):
    sent, plan, A = things
    parts = [jb.jacobian(sent, X, plan=plan), A.to_dense(), sent(X)]
    return b"".join(part.tobytes() for part in parts), sent

if __name__ == "__main__":
    things = net, jb.plan(net, batch=len(X)), jb.linearize(net, X[0]).weight_jacobian(2)
    here, _ = in_a_process(things)
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        for there, back in pool.map(in_a_process, [things] * 3):
            assert there == here
            assert (back.parameters == net.parameters).all()
    print("equal")
"""
    assert run(code, tmp_path) == ["equal"]


@pytest.mark.parametrize(
    ("call", "count"),
    [
        ("jb.jacobian(slow, points, plan=jb.plan(slow, 8000, max_bytes=2**20, threads=1))", 8000),
        ("jb.jacobian(slow, points, plan=jb.plan(slow, 8000, max_bytes=2**20, threads=3))", 8000),
        ("jb.jacobian_with_bound(slow, points)[1]", 9000),
        ("jb.explicit.gradients(slow, points, points[:, :5], jb.SquaredError()).vector", 50),
    ],
    ids=["one thread", "three threads", "bounds", "explicit"],
)
def test_an_interrupt_in_a_long_batch_leaves_the_process_usable(call, count, tmp_path):
    """Ctrl-C in the middle: KeyboardInterrupt, no thread but idle ones, the same bits after."""
    code = f"""
points = np.resize(X, ({count}, 12))
calls = 0

def count_calls():
    global calls
    mine = threading.current_thread() is threading.main_thread()
    calls += mine
    if mine and calls == 4:
        os.kill(os.getpid(), signal.SIGINT)

def sigma(z):
    count_calls()
    return np.tanh(z)

def slope(z):
    count_calls()
    return 1 / np.cosh(z) ** 2

own = jb.Activation("own", sigma, slope)
layers = [jb.Dense(layer.W, layer.b, own) for layer in net.layers[:-1]]
slow = jb.Network([*layers, jb.Dense(net.layers[-1].W)])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
before = digest(np.float64)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted")
from jacobians._machine import THREADS
assert threading.active_count() <= 1 + max(2, THREADS)
assert digest(np.float64) == before
assert {call}.tobytes() == {call}.tobytes()
assert calls > 8
print("usable")
"""
    assert run(code, tmp_path) == ["interrupted", "usable"]


@pytest.mark.parametrize(
    "call",
    [
        "jb.jacobian(net, points, out=out, plan=plan)",
        "jb.jacobian(net, points, out=out, plan=jb.plan(net, 1000, threads=1, kernels=False))",
        "jb.jvp(net, points, points)",
        "jb.jacobian_with_bound(net, points[:100])",
        "jb.backprop.gradients(net, points, points[:, :5], jb.SquaredError())",
        "jb.certify(jb.Network.random([2, 3, 1], seed=0), [1.0, 2.0])",
        "jb.plan(net, 1000)",
        "jb.trace(net, points)",
        "jb.sensitivity(net, points)",
    ],
    ids=[
        *["threads", "one thread", "jvp", "bounds", "gradients", "certify"],
        *["plan", "trace", "sensitivity"],
    ],
)
def test_an_interrupt_at_any_moment_leaves_numpy_as_it_was_and_nothing_running(call, tmp_path):
    """Alarms from the first step to the last; afterwards no worker writes into ``out``."""
    code = f"""
import time
from jacobians.program import Limits

points = np.resize(X, (1000, 12))
out = np.zeros((1000, 5, 12))
limits = Limits(small_piece_bytes=2**17, thread_seconds=0.0, long_call=1)
plan = jb.plan(net, 1000, threads=3, kernels=False, limits=limits)
np.seterr(divide="raise", over="raise", under="ignore", invalid="warn")
flags = np.geterr()

def timed():
    start = time.perf_counter()
    {call}
    return time.perf_counter() - start

whole = min(timed() for _ in range(5))  # the quickest: others may be at work beside it

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
interrupts = 0
for k in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, max((k + 1) / 20 * whole, 1e-5))
        {call}
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupts += 1
        assert np.geterr() == flags, (k, np.geterr())
        before = out.copy()
        time.sleep(0.002)
        assert (out == before).all()
assert interrupts > 2, interrupts
{call}
print("usable")
"""
    assert run(code, tmp_path) == ["usable"]


def test_an_interrupt_while_others_work_is_raised_once_they_have_stopped(tmp_path):
    """In a process of its own, since the interrupt is a real one."""
    code = """
import os, signal, threading, time
from jacobians._workers import share

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
began, done = threading.Event(), []

def work(job, worker):
    if worker == 0:
        began.wait(30)  # then nothing is left to do, and this thread waits for the other
        return
    began.set()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    done.append(job)

try:
    share(work, [0, 1], 2)
except KeyboardInterrupt:
    print("interrupted", len(done))
"""
    assert run(code, tmp_path) == ["interrupted", "1"]


def test_every_function_that_computes_runs_in_a_context_of_its_own():
    """So that flags of NumPy end with the call; the others set none, or call only these."""
    functions = [name for name in jb.__all__ if inspect.isfunction(getattr(jb, name))]
    plain = {name for name in functions if not hasattr(getattr(jb, name), "__wrapped__")}
    calling = {"hessian", "jacobian", "jvp", "vjp", "value_and_jacobian", "value_jacobian_hessian"}
    assert plain <= calling | {
        *["activation", "compare", "log_odds", "save", "show_config", "unvec", "vec", "vech"]
    }
