"""A small part of what the fuzzers try; ``tests/benchmarks/fuzz_*.py`` go on without end."""

import sys
from pathlib import Path

import numpy as np
import pytest
from argument_cases import CALLS, RECORDS

import jacobians as jb

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import fuzz_arguments
import fuzz_engine
import fuzz_files


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


@pytest.mark.parametrize("kind", ["npz", "members", "onnx", "safetensors"])
def test_damaged_files_are_networks_or_refused(kind, tmp_path, monkeypatch):
    if kind in ("onnx", "safetensors"):
        pytest.importorskip(kind)
    monkeypatch.chdir(tmp_path)  # where a file that breaks a promise would be kept
    trial, dice = fuzz_files.Trial(kind), fuzz_files.random.Random(7)
    good = fuzz_files.seeds(kind)
    for _ in range(60):
        trial(fuzz_files.damaged(dice.choice(good), dice))
    assert trial.count == 60


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
