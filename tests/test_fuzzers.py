"""A small part of what the fuzzers try; ``tests/benchmarks/fuzz_*.py`` go on without end."""

import copy
import os
import pickle
import random
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from argument_cases import CALLS, RECORDS

import jacobians as jb

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import fuzz_arguments
import fuzz_engine
import fuzz_files
import twisted_files


@pytest.mark.parametrize("part", range(4))
def test_the_engine_is_within_the_bound_of_exact_arithmetic_whatever_is_asked(part):
    """Nodes, rows, layouts, budgets, plans, threads, kernels, both ends of the range."""
    verdicts = [fuzz_engine.judged((7, part, k)) for k in range(15)]
    assert max(ratio for _, ratio in verdicts) <= 1
    assert sum(verdict == "judged" for verdict, _ in verdicts) > 10


def test_the_engine_fuzzer_notices_a_wrong_digit(monkeypatch):
    right = jb.jacobian

    def wrong(*arguments, **options):
        J = right(*arguments, **options)
        J *= 1 + 2**-15
        return J

    monkeypatch.setattr(jb, "jacobian", wrong)
    monkeypatch.setattr(jb, "value_and_jacobian", lambda *a, **k: (None, wrong(*a, **k)))
    ratios = [fuzz_engine.judged((7, 0, k))[1] for k in range(15)]
    assert max(ratios) > 1


@pytest.mark.parametrize("part", range(4))
def test_a_call_is_taken_or_refused_by_the_name_of_what_is_wrong(part):
    problems = [fuzz_arguments.judged((7, part, k))[1] for k in range(100)]
    assert not list(filter(None, problems))


def test_the_argument_fuzzer_calls_every_public_name():
    called = {function.__qualname__.split(".")[0] for function in CALLS}
    assert {*called, *RECORDS.split()} >= set(jb.__all__)


as_keras_warns = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def require_packages(kind):
    for package in ("torch", "h5py", "keras") if kind == "keras" else ():
        os.environ.setdefault("KERAS_BACKEND", "torch")
        pytest.importorskip(package)


@as_keras_warns
@pytest.mark.parametrize("kind", ["members", *twisted_files.WRITERS])
def test_damaged_and_twisted_files_are_networks_or_refused(kind, tmp_path, monkeypatch):
    require_packages(kind)
    monkeypatch.chdir(tmp_path)  # where a file that breaks a promise would be kept
    trial, dice = fuzz_files.Trial(kind), random.Random(7)
    good = fuzz_files.seeds(kind)
    for _ in range(30):
        trial(fuzz_files.damaged(dice.choice(good), dice))
        if kind in twisted_files.WRITERS:
            trial(twisted_files.twisted_file(kind, dice))
    assert trial.count >= 30
    assert trial.networks < trial.count


@as_keras_warns
@pytest.mark.parametrize("kind", twisted_files.WRITERS)
def test_what_the_twisted_files_are_made_of_is_read(kind, tmp_path):
    require_packages(kind)
    path = tmp_path / f"net.{kind}"
    for data in twisted_files.straight(kind):
        path.write_bytes(data)
        assert fuzz_files.load(str(path)).startswith("Network")


# --- what they were the first to see --------------------------------------------------------------


def test_a_sum_of_matrices_that_all_points_share_is_one_that_they_share():
    """A residual block behind the last activation: its product with W had too few points."""
    block = jb.Residual([jb.Dense([[3.0]])])
    net = jb.Network([jb.Dense([[2.0, 1.0]], None, "tanh"), block, jb.Dense([[5.0], [7.0]])])
    X = np.ones((2, 2))
    for kernels in (False, True):
        for rows in (None, [0]):
            plan = jb.plan(net, 100, wrt=1, rows=rows, columns=[0], kernels=kernels)
            expected = np.array([[[20.0], [28.0]]] * 2)[:, : 1 if rows else 2]
            assert (jb.jacobian(net, X, plan=plan) == expected).all()


# --- and what an attack was -----------------------------------------------------------------------

net = jb.Network.random([3, 5, 2], "tanh", seed=0)


def test_a_hard_mask_hides_nothing():
    """As the memory of the result it would keep what it masks, as points it would drop it."""
    out = np.ma.masked_array(np.zeros((2, 3)), mask=True, hard_mask=True)
    with pytest.raises(TypeError, match="out"):
        jb.jacobian(net, np.ones(3), out=out)
    with pytest.raises(TypeError, match="X: masked"):
        jb.jacobian(net, np.ma.masked_array(np.ones(3), mask=True, hard_mask=True))


def test_a_steep_hard_sigmoid_in_float32_is_a_number_or_refused():
    with pytest.raises(ValueError, match="hard_sigmoid"):
        jb.activation("hard_sigmoid", low=1.0, high=1.0)
    steep = jb.activation("hard_sigmoid", low=1.0, high=1.0 + 1e-9)
    z = np.array([-2.0, 1.0, 3.0], np.float32)
    assert np.isfinite(steep(z)).all()
    assert np.isfinite(steep.derivative(z)).all()


def test_arrays_of_an_unpickled_row_form_are_read_only():
    form = pickle.loads(pickle.dumps(jb.conventions.to_row_form(net)))
    for array in (*form.weights, *form.biases):
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_the_bound_is_refused_by_its_size_and_a_wide_row_is_not():
    with jb.dense_limit(1000), pytest.raises(jb.TooLargeError, match="jacobian_with_bound"):
        jb.jacobian_with_bound(net, np.ones((100, 3)))
    wide = jb.Network([jb.Dense(np.ones((1, 100_000)))])
    tracemalloc.start()
    try:
        J, bound = jb.jacobian_with_bound(wide, np.ones(100_000))
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert (np.abs(J - 1) <= bound).all()


def test_every_edge_of_a_call_is_an_ordinary_case():
    assert jb.jacobian(net, np.zeros((20_000, 3)), of=0, rows=[0]).shape == (20_000, 1, 3)
    none = np.empty((0, 2, 3))
    assert jb.jacobian(net, np.empty((0, 3)), out=none) is none
    with pytest.raises(ValueError, match="rows"):
        jb.jacobian(net, np.ones(3), rows=[-1])
    with pytest.raises(ValueError, match="point"):
        jb.trace(net, np.ones((2, 3))).point(99)
    with pytest.raises(ValueError, match="output"):
        jb.sensitivity(net, np.ones((2, 3))).most_influential(99)


def test_eight_threads_that_plan_at_once_do_not_disturb_each_other():
    """At the smallest switch interval, where a dictionary of plans once changed size in a loop."""
    before, alone = sys.getswitchinterval(), copy.deepcopy(net)  # whose plans are its own
    expected = {B: jb.jacobian(alone, np.ones((B, 3))).tobytes() for B in range(1, 41)}
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            calls = [(B, pool.submit(jb.jacobian, net, np.ones((B, 3)))) for B in [*expected] * 8]
            assert all(J.result().tobytes() == expected[B] for B, J in calls)
    finally:
        sys.setswitchinterval(before)
