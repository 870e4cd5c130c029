"""The mutants themselves: every kind of change is made, and nothing else is touched."""

import runpy
from pathlib import Path

import pytest

import jacobians as jb

RUNNER = Path(__file__).parent / "benchmarks" / "mutants.py"
SOURCE = '''
"""Not 1 + 1."""
import numpy as np
SIZE = 3

@underflow_is_rounding
def f(x: int = 0, *, y: float | None = None) -> float:
    """Return 2 * x."""
    if x < 2 and not y:
        raise ValueError(f"f: got {x + 1}")
    z = np.minimum(x - 1.0, abs(y), out=x) @ x.T
    check(z)
    return np.where(z, -x, y) if z is None else [v for v in z if v > 0]

def __repr__(self):
    return "1" + "2"
'''
CHANGED = {
    "SIZE = 4",
    "def f(x: int=0, *, y: float ¦ None=None) -> float:",
    "@underflow_is_rounding def f(x: int=1, *, y: float ¦ None=None) -> float:",
    "if not (x < 2 and (not y)):",
    "if x < 2 or not y:",
    "if x <= 2 and (not y):",
    "if x < 3 and (not y):",
    "if x < 2 and y:",
    "z = x.T @ np.minimum(x - 1.0, abs(y), out=x)",
    "z = np.maximum(x - 1.0, abs(y), out=x) @ x.T",
    "z = np.minimum(x + 1.0, abs(y), out=x) @ x.T",
    "z = np.minimum(x - 1.001, abs(y), out=x) @ x.T",
    "z = np.minimum(x - 1.0, y, out=x) @ x.T",
    "z = np.minimum(x - 1.0, abs(y), out=x) @ x",
    "pass",
    "return np.where(z, -x, y) if z is not None else [v for v in z if v > 0]",
    "return np.where(z, y, -x) if z is None else [v for v in z if v > 0]",
    "return np.where(z, x, y) if z is None else [v for v in z if v > 0]",
    "return np.where(z, -x, y) if z is None else [v for v in z if not v > 0]",
    "return np.where(z, -x, y) if z is None else [v for v in z if v >= 0]",
    "return np.where(z, -x, y) if z is None else [v for v in z if v > 1]",
}


@pytest.fixture
def runner(tmp_path):
    (tmp_path / "toy.py").write_text(SOURCE, encoding="utf-8")
    names = runpy.run_path(str(RUNNER))
    names["mutants"].__globals__["PACKAGE"] = tmp_path
    return names


def test_every_kind_of_change_is_made_and_text_is_left_alone(runner):
    made = runner["mutants"]("toy")
    assert sorted(mutant.after for mutant in made) == sorted(CHANGED)
    assert {mutant.where for mutant in made} == {"toy", "toy: f"}


def test_a_mutant_differs_from_the_module_in_one_place(runner):
    """And making one leaves the others as they were."""
    made = runner["mutants"]("toy")
    sources = [mutant.source() for mutant in made]
    assert len(set(sources)) == len(made)
    assert [mutant.source() for mutant in made] == sources


def test_a_sample_follows_its_seed(runner):
    made, sampled = runner["mutants"]("toy"), runner["sampled"]
    assert len(sampled(made, 8, 0)) == 8
    assert sampled(made, 8, 0) == sampled(made, 8, 0) != sampled(made, 8, 1)
    assert sampled(made, 1000, 0) == made


def test_the_tests_that_call_the_changed_function_run_and_the_nearest_first(runner):
    notes = {
        "a::test_of_f": (3.0, ["toy: f"]),
        "a::test_of_g": (1.0, ["toy: g"]),
        "a::test_quick": (0.1, ["toy: f", "toy: g"]),
        "a::test_toy": (9.0, ["toy: f"]),
    }
    inside, outside = (
        next(m for m in runner["mutants"]("toy") if m.where == where) for where in ("toy: f", "toy")
    )
    order = ["a::test_toy", "a::test_quick", "a::test_of_f"]
    assert runner["chosen_tests"](inside, notes) == order
    assert set(runner["chosen_tests"](outside, notes)) == set(notes)


def test_the_calls_of_a_test_are_noted(runner):
    """And nothing of what runs between tests."""
    calls = runner["Calls"]({})
    calls.pytest_runtest_logstart.__func__.__globals__["PACKAGE"] = Path(jb.__file__).parent
    calls.pytest_runtest_logstart()
    jb.vec([[1.0]])
    calls.pytest_runtest_logfinish("a::test_of_vec")
    jb.vech([[1.0]])
    ((_, called),) = calls.notes.values()
    assert "vectorization: vec" in called
    assert "vectorization: vech" not in called


def test_long_lines_are_shortened_to_where_they_differ(runner):
    before, after = "a" * 60 + " + " + "b" * 60, "a" * 60 + " - " + "b" * 60
    assert runner["contrast"](before, after) == (
        f"…{'a' * 29} + {'b' * 29}…",
        f"…{'a' * 29} - {'b' * 29}…",
    )


def test_every_module_has_its_tests(runner):
    for module, tests in runner["MODULES"].items():
        assert (RUNNER.parents[2] / "jacobians" / f"{module}.py").exists()
        assert all((RUNNER.parents[2] / test).exists() for test in tests)
