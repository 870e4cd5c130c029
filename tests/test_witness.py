"""The witnesses, on functions whose derivatives are known, and with wrong answers."""

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians.witness import (
    check_jacobian,
    complex_step,
    dot_test,
    finite_difference,
    taylor_slope,
)

FUNCTIONS = {
    "polynomial": (
        lambda x: np.array([x[0] ** 3 * x[1], x[1] - x[0]]),
        lambda x: np.array([[3 * x[0] ** 2 * x[1], x[0] ** 3], [-1.0, 1.0]]),
    ),
    "transcendental": (
        lambda x: np.array([np.exp(x[0]) * np.sin(x[1]), x[0] * x[1] * np.cos(x[0])]),
        lambda x: np.array(
            [
                [np.exp(x[0]) * np.sin(x[1]), np.exp(x[0]) * np.cos(x[1])],
                [x[1] * (np.cos(x[0]) - x[0] * np.sin(x[0])), x[0] * np.cos(x[0])],
            ]
        ),
    ),
    "linear": (
        lambda x: np.array([2 * x[0] - x[1], 5 * x[1], x[0]]),
        lambda x: np.array([[2.0, -1.0], [0.0, 5.0], [1.0, 0.0]]),
    ),
    "constant": (lambda x: np.array([5.0 + 0 * x[0]]), lambda x: np.zeros((1, 2))),
    "zero": (lambda x: np.array([0 * x[0]]), lambda x: np.zeros((1, 2))),
    "badly scaled": (
        lambda x: np.array([1e8 * x[0], 1e-8 * np.sin(x[1])]),
        lambda x: np.array([[1e8, 0.0], [0.0, 1e-8 * np.cos(x[1])]]),
    ),
}
every_function = pytest.mark.parametrize(
    ("f", "derivative"), FUNCTIONS.values(), ids=FUNCTIONS.keys()
)
POINTS = [
    np.array([0.7, -1.3]),
    np.array([0.0, 0.0]),
    np.array([12.5, 3.0]),
    np.array([-1e-3, 40.0]),
]


@every_function
def test_differences_are_within_ten_times_their_own_error_estimate(f, derivative):
    for x in POINTS:
        differences = finite_difference(f, x)
        error = np.abs(differences.jacobian - derivative(x))
        assert (error <= 10 * differences.error + 1e-300).all()
        size = max(np.abs(derivative(x)).max(), np.abs(f(x)).max(), 1e-300)
        # an estimate that is never sharp would allow all
        assert differences.error.max() <= 1e-7 * size
        assert not differences.kinks.any()


@every_function
def test_complex_step_is_exact_to_rounding(f, derivative):
    for x in POINTS:
        expected = derivative(x)
        # a few operations, each rounded
        assert np.abs(complex_step(f, x) - expected).max() <= 1e-14 * np.abs(expected).max()


@every_function
def test_right_jacobians_are_confirmed_and_wrong_ones_refused(f, derivative):
    for x in POINTS:
        J = derivative(x)
        assert check_jacobian(f, J, x), check_jacobian(f, J, x)
        size = max(1.0, np.abs(J).max(), np.abs(f(x)).max())
        wrongs = [J + 1e-4 * size, J + 1e-4 * size * np.eye(*J.shape), np.full_like(J, np.nan)]
        if J.any():
            wrongs += [-J, 1.01 * J, J[::-1] if (J[::-1] != J).any() else -J]
        for wrong in wrongs:
            assert not check_jacobian(f, wrong, x)


def test_the_worst_entry_is_named():
    f, derivative = FUNCTIONS["polynomial"]
    x = POINTS[0]
    J = derivative(x)
    J[1, 0] += 0.5
    check = check_jacobian(f, J, x)
    assert check.worst == (1, 0)
    assert abs(check.difference - 0.5) <= check.allowed
    assert str(check).startswith("Jacobian FAILS: worst entry [1, 0] is -0.5, differences give -1")


# --- kinks ----------------------------------------------------------------------------------------


def relu(x):
    return np.maximum(x, 0.0)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_on_a_kink_every_slope_between_the_one_sided_ones_is_right(slope):
    assert check_jacobian(relu, [[slope]], [0.0])
    assert check_jacobian(relu, [[slope]], [0.0]).kinks == 1


@pytest.mark.parametrize("slope", [-0.1, 1.1, 2.0])
def test_on_a_kink_a_slope_outside_is_wrong(slope):
    assert not check_jacobian(relu, [[slope]], [0.0])


@given(st.floats(-6.5, -0.5).map(lambda e: 10.0**e), st.sampled_from([-1.0, 1.0]))
def test_near_a_kink_only_the_slope_of_this_side_is_right(distance, side):
    """Steps shrink until they stay on one side."""
    x = [side * distance]
    assert check_jacobian(relu, [[float(side > 0)]], x)
    assert not check_jacobian(relu, [[0.5]], x)
    assert not check_jacobian(relu, [[float(side < 0)]], x)


def test_curvature_is_not_taken_for_a_kink():
    """|f''| = 200 over the step sizes used is still a smooth function."""
    f = lambda x: np.array([100 * x[0] ** 2, np.tanh(50 * x[0])])  # noqa: E731
    differences = finite_difference(f, [0.01])
    assert not differences.kinks.any()


# --- float32, and functions that do not settle ----------------------------------------------------


def test_single_precision_functions_are_checked_with_their_own_precision():
    net = jb.Network.random([3, 5, 2], seed=0, dtype=np.float32)
    x = np.array([0.3, -0.2, 0.8], np.float32)
    assert check_jacobian(net, jb.jacobian(net, x), x)
    assert not check_jacobian(net, 1.1 * jb.jacobian(net, x), x)


def test_what_does_not_settle_is_not_confirmed():
    """Noise in every digit: differences say nothing, so nothing passes."""
    rng = np.random.default_rng(0)
    noise = lambda x: rng.standard_normal(1)  # noqa: E731
    check = check_jacobian(noise, [[0.0]], [0.0])
    assert not check
    assert "do not settle" in check.hint


@pytest.mark.parametrize("power", [2, 3, 5])
@pytest.mark.parametrize("near", [0.0, 1e-30])
def test_where_a_function_and_its_derivatives_vanish_0_is_right_and_a_billionth_is_not(power, near):
    f = lambda x: np.array([x[0] ** power, -(x[1] ** power)])  # noqa: E731
    assert check_jacobian(f, np.zeros((2, 2)), [near, near])
    check = check_jacobian(f, np.full((2, 2), 1e-9), [near, near])
    assert not check
    assert "transpose" not in check.hint


# --- Taylor and dot test --------------------------------------------------------------------------


def test_taylor_slope_tells_right_from_wrong():
    f, derivative = FUNCTIONS["transcendental"]
    x = POINTS[0]
    assert abs(taylor_slope(f, derivative(x), x) - 2) < 0.05
    assert abs(taylor_slope(f, 1.001 * derivative(x), x) - 1) < 0.5
    assert taylor_slope(*[FUNCTIONS["linear"][0], FUNCTIONS["linear"][1](x)], x) == np.inf


def test_the_worst_entry_is_the_one_that_is_off_though_all_hold():
    f = lambda x: np.array([0 * x[0], np.sin(x[0])])  # noqa: E731
    check = check_jacobian(f, [[0.0], [np.cos(0.5) * (1 + 1e-12)]], [0.5])
    assert check.holds
    assert check.worst == (1, 0)


def test_what_is_just_beyond_the_allowance_fails_with_a_hint():
    f = lambda x: 3 * x  # noqa: E731
    allowed = check_jacobian(f, [[3.0]], [1.0]).allowed
    check = check_jacobian(f, [[3.0 + 1.5 * allowed]], [1.0])
    assert not check.holds
    assert check.hint


def test_taylor_slope_does_not_depend_on_the_unit_of_the_values():
    """Rounding is judged beside the values: a power of two changes no bit."""
    f, derivative = FUNCTIONS["linear"]
    bent = lambda x: f(x) + 1e-7 * x @ x  # noqa: E731
    x = np.array([0.3, -0.7])
    J = derivative(x) + 2e-7 * x
    slope = taylor_slope(bent, J, x)
    assert abs(slope - 2) < 0.5
    for unit in (2.0**-30, 2.0**30):
        assert taylor_slope(lambda x, unit=unit: unit * bent(x), unit * J, x) == slope


def test_taylor_slope_is_read_off_two_steps_if_there_are_no_more():
    """The third remainder lies below the rounding: 5e-11 / 64² < 2.8e-14."""
    f = lambda x: x + 5e-11 * (x - 1) ** 2  # noqa: E731
    assert round(taylor_slope(f, [[1.0]], [1.0], [1.0])) == 2


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 100))
def test_dot_test_accepts_the_transpose_and_nothing_else(m, n, seed):
    A = np.random.default_rng(seed).standard_normal((m, n))
    assert dot_test(lambda v: A @ v, lambda u: A.T @ u, (m, n))
    wrong = A.copy()
    wrong[-1, 0] += 1e-6
    assert not dot_test(lambda v: A @ v, lambda u: wrong.T @ u, (m, n))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: finite_difference(relu, [[1.0]]), jb.ShapeError, r"point of shape \(n,\)"),
        (lambda: finite_difference(lambda x: 1.0, [1.0]), jb.ShapeError, r"f\(x\): expected shape"),
        (lambda: finite_difference(lambda x: x * np.nan, [1.0]), jb.NotFiniteError, "nan"),
        (lambda: complex_step(np.abs, [1.0]), TypeError, "imaginary step is lost"),
        (lambda: complex_step(np.floor, [1.0]), TypeError, "does not take complex"),
        (
            lambda: check_jacobian(relu, [[1.0, 0.0]], [1.0]),
            jb.ShapeError,
            r"expected shape \(1, 1\)",
        ),
        (lambda: check_jacobian(relu, [["a"]], [1.0]), TypeError, "expected real numbers"),
        (lambda: taylor_slope(relu, [[1.0]], [1.0], [1.0, 2.0]), jb.ShapeError, "direction"),
        (lambda: dot_test(relu, relu, (2, 3)), jb.ShapeError, r"results \(2,\) and \(3,\)"),
        (lambda: dot_test(relu, relu, (0, 3)), ValueError, "at least 1"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_differences_in_one_call_are_those_of_one_entry_at_a_time():
    """Of a function of rows, exact in both; its shape is checked."""
    W = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, 4.0]])
    x = np.array([1.0, 0.0, -2.0])

    def f(points):
        return np.maximum(points @ W.T, 0.0)

    one, many = (jb.witness.finite_difference(f, x, batched=batched) for batched in (False, True))
    for name in ("jacobian", "error", "left", "right", "kinks"):
        assert_equal(getattr(one, name), getattr(many, name))
    # the first row is at its kink: on one side 0, on the other W; the second is 0 around x
    steepest = np.maximum(np.abs(many.left), np.abs(many.right))
    assert_equal(steepest, [np.abs(W[0]), np.zeros(3)])
    with pytest.raises(jb.ShapeError, match=r"f: expected \(3, 2\), but got \(2, 3\)"):
        jb.witness.finite_difference(lambda p: f(p).T if p.ndim > 1 else f(p), x, batched=True)
