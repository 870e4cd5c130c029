"""The mutants themselves: every kind of change is made, and nothing else is touched."""

import runpy
from pathlib import Path
from types import ModuleType

import pytest

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


def test_sizes_that_decide_memory_and_speed_are_left_alone(runner, tmp_path):
    """The bytes of a piece, defaults of limits, what is left for an axis; not other figures."""
    source = """
class Limits:
    rows: int = 16

def f(x, limits, p):
    piece = max(1, PIECE_BYTES // (8 * len(x)))
    if len(x) >= limits.rows:
        x = x.reshape(-1, p)
    g(x[p : min(p + piece, 3)], into_memory=True)
    return max(1, piece), 64 * p
"""
    (tmp_path / "toy.py").write_text(source, encoding="utf-8")
    assert {mutant.after for mutant in runner["mutants"]("toy")} == {
        "x = x.reshape(1, p)",
        "pass",
        "g(x[p:max(p + piece, 3)], into_memory=True)",
        "g(x[p:min(p - piece, 3)], into_memory=True)",
        "g(x[p:min(p + piece, 4)], into_memory=True)",
        "return (max(1, piece), 64 / p)",
        "return (max(1, piece), 65 * p)",
    }


def test_the_tests_that_call_the_changed_function_run_and_the_nearest_first(runner):
    """And those of its class or module, if none calls it; for as long as a mutant is given."""
    notes = {
        "a::test_of_f": (3.0, ["toy: f"]),
        "a::test_of_g": (1.0, ["toy: g", "toy: A.h"]),
        "a::test_quick": (0.1, ["toy: f", "toy: g"]),
        "a::test_toy": (9.0, ["toy: f"]),
        "a::test_all_day": (80.0, ["toy: f"]),
        "a::test_others": (0.1, ["toyota: f"]),
    }
    mutant = next(iter(runner["mutants"]("toy")))
    expected = {
        "toy: f": ["a::test_toy", "a::test_quick", "a::test_of_f"],
        "toy: A": ["a::test_of_g"],
        "toy": ["a::test_toy", "a::test_quick", "a::test_of_g", "a::test_of_f"],
        "toy: never": ["a::test_toy", "a::test_quick", "a::test_of_g", "a::test_of_f"],
    }
    for mutant.where, order in expected.items():
        assert runner["chosen_tests"](mutant, notes, 60) == order
    mutant.where = "toy: f"
    for seconds, last in ((9.05, 1), (9.2, 2), (12.1, 3), (92.1, 4)):
        assert len(runner["chosen_tests"](mutant, notes, seconds)) == last


def test_the_calls_of_a_test_are_noted(runner, tmp_path):
    """Of functions inside functions and classes too, and nothing of what runs between tests."""
    source = '''
class A:
    def f(self):
        """Return g."""
        def g():
            return 2
        return g()

def h(): return 3
'''
    path = tmp_path / "noted.py"
    path.write_text(source, encoding="utf-8")
    module, calls = ModuleType("jacobians.noted"), runner["Calls"]({})
    runner["Noted"]("jacobians.noted", str(path)).exec_module(module)
    module.h()
    calls.pytest_runtest_logstart()
    assert module.A().f() == 2
    assert module.A.f.__doc__ == "Return g."
    calls.pytest_runtest_logfinish("a::test_of_f")
    module.h()
    ((seconds, called),) = calls.notes.values()
    assert called == ["noted: A.f", "noted: A.f.g"]
    assert seconds >= 0


def test_long_lines_are_shortened_to_where_they_differ(runner):
    before, after = "a" * 60 + " + " + "b" * 60, "a" * 60 + " - " + "b" * 60
    assert runner["contrast"](before, after) == (
        f"…{'a' * 29} + {'b' * 29}…",
        f"…{'a' * 29} - {'b' * 29}…",
    )


def test_the_numerical_modules_and_the_tests_to_ask_exist(runner):
    asked = runner["tests_to_ask"]()
    assert {"jacobians/maps/base.py", "tests/test_laws_of_maps.py"} <= set(asked)
    assert all((RUNNER.parents[2] / test).exists() for test in asked)
