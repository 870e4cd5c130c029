"""Laws of the activations: accuracy, kinks, dtypes, lookup, and the check of a user's own."""

import copy
import pickle
import runpy
import sys
import warnings
from operator import attrgetter
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from activation_references import (
    CASES,
    DOMAINS,
    GOALS,
    PRECISION,
    errors,
    goal,
    mesh,
    reference,
    ulps,
    zeros,
)
from hypothesis import given
from hypothesis import strategies as st
from oracles import TEXTBOOK

import jacobians as jb
from jacobians import Activation, VectorActivation, activation
from jacobians.activations import FAMILIES, FIXED, NAMES

DTYPES = [np.float32, np.float64]
ACTIVATIONS = [activation(name, **parameters) for name, parameters in CASES]
VECTORS = [activation("softmax"), activation("log_softmax")]

TOTAL = [act for act in ACTIVATIONS if act.name not in DOMAINS]

NAME = attrgetter("__name__")
WITH_MEMORY = {
    getattr(one, role) for one in FIXED.values() for role in getattr(one, "into_memory", ())
}
every_activation = pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
every_total = pytest.mark.parametrize("act", TOTAL, ids=str)
every_vector = pytest.mark.parametrize("act", VECTORS, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def functions(act):
    return zip(GOALS, (act, act.derivative, act.second_derivative), strict=True)


def formulas(act, dtype=np.float64):
    return reference(act.name, dict(act.parameters), dtype)


def require_goals(act, z):
    z = z[DOMAINS[act.name](z)] if act.name in DOMAINS else z
    if not z.size:
        return
    for (role, function), formula in zip(functions(act), formulas(act, z.dtype.type), strict=True):
        ulps = errors(function, formula, z)
        worst = ulps.argmax()
        assert ulps[worst] <= goal(role, act.name, z.dtype.type), (role, z[worst], ulps[worst])


# --- accuracy -------------------------------------------------------------------------------------


def test_every_activation_has_a_reference():
    assert {name for name, _ in CASES} | {act.name for act in VECTORS} == set(NAMES)


@every_dtype
@every_activation
def test_every_hard_input_is_right_to_a_few_ulps(act, dtype):
    """On kinks, zeros, saturation, subnormals, the largest: |computed - true| <= goal ulps."""
    require_goals(act, mesh(act.name, dtype))


@every_activation
@given(data=st.data())
def test_every_float_is_right_to_a_few_ulps(act, data):
    """The same for floats of all exponents, as hypothesis finds them."""
    dtype = data.draw(st.sampled_from(DTYPES))
    floats = st.floats(
        width=8 * dtype().itemsize, allow_nan=False, allow_infinity=False, allow_subnormal=True
    )
    require_goals(act, np.array(data.draw(st.lists(floats, min_size=1, max_size=4)), dtype=dtype))


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "mish", "gaussian"])
def test_a_derivative_keeps_its_digits_at_its_own_zero(name):
    """sigma^(k) at the doubles around a zero r: tiny, of either sign, and still right to ulps."""
    act = activation(name)
    for order, root in zeros(name):
        z = np.float64(float(root))
        z = np.array([np.nextafter(z, -np.inf), z, np.nextafter(z, np.inf)])
        function = (act, act.derivative, act.second_derivative)[order]
        assert (np.abs(function(z)) < 1e-15).all()  # a unit of |r| < 4 times a slope below 2
        assert function(z).min() < 0 < function(z).max()
        allowed = goal(list(GOALS)[order], name, np.float64)
        assert errors(function, formulas(act)[order], z).max() <= allowed


def test_the_ruler_measures_ulps():
    """One step of nextafter is one ulp, also among the subnormals and at the end of the range."""
    for dtype in DTYPES:
        info = np.finfo(dtype)
        for true in (1.0, 1.5, info.tiny, info.smallest_subnormal, info.max):
            with np.errstate(over="ignore"):
                above = np.nextafter(dtype(true), dtype(np.inf))
            assert ulps(above, mp.mpf(float(true)), dtype) == 1
        assert ulps(dtype(np.inf), mp.mpf(2) ** 5000, dtype) == 0
        assert ulps(info.max, mp.mpf(2) ** 5000, dtype) == 0.5  # the unit doubles at the end
        # 2^-5000 of a unit that is no smaller than 2^-1074
        assert ulps(dtype(0), mp.mpf(2) ** -5000, dtype) <= mp.mpf(2) ** (1074 - 5000)
        assert ulps(dtype(1), mp.mpf(-1), dtype) > 1e6
    assert errors(lambda z: z * np.nan, lambda z: z, np.ones(2)).tolist() == [np.inf, np.inf]


@every_activation
def test_the_references_differentiate_one_another(act):
    """mpmath's numerical derivative of sigma is its sigma', and that of sigma' its sigma''."""
    sigma, sigma_prime, sigma_second = formulas(act)
    with mp.workprec(PRECISION):
        for z in map(mp.mpf, ("-7.3", "-2.1", "-0.73", "-0.11", "0.21", "1.9", "4.7")):
            for function, derivative in ((sigma, sigma_prime), (sigma_prime, sigma_second)):
                gap = abs(mp.diff(function, z) - derivative(z))
                assert gap <= mp.mpf(2) ** (-PRECISION // 4)  # the step is 2^(-PRECISION / 2)


@pytest.mark.parametrize("name", sorted(set(TEXTBOOK) & set(FIXED) - {"softmax", "log_softmax"}))
def test_sigma_prime_is_the_complex_step_of_the_textbook(name):
    """Im sigma(z + ih) / h = sigma'(z); the textbook's own rounding costs a few eps for |z| < 3."""
    z = np.linspace(-3, 3, 61)
    slope = np.imag(TEXTBOOK[name](z + 1e-30j)) / 1e-30
    # the textbook adds up numbers of size 1 that cancel down to its values: atol is theirs
    np.testing.assert_allclose(activation(name).derivative(z), slope, rtol=1e-13, atol=1e-15)


# --- kinks ----------------------------------------------------------------------------------------


def one_sided(function, kink):
    sides = np.nextafter(np.float64(kink), [-np.inf, np.inf])
    return function(sides)


@every_total
def test_kinks_are_exactly_the_jumps_of_sigma_prime(act):
    """lim sigma'(k - h) != lim sigma'(k + h) if and only if k is among the kinks."""
    candidates = {*np.arange(-64, 65) / 8, *act.kinks, *dict(act.parameters).values()}
    jumps = set()
    for kink in candidates:
        left, right = one_sided(act.derivative, kink)
        if abs(left - right) > 1e-12 * (1 + abs(left)):  # a smooth one moves by a few eps
            jumps.add(kink)
    assert jumps == set(act.kinks)


@every_activation
def test_at_a_kink_the_slope_is_0_if_a_side_is_flat_and_the_left_one_otherwise(act):
    for kink in act.kinks:
        left, right = one_sided(act.derivative, kink)
        assert act.derivative(kink) == (0 if 0 in (left, right) else left)
        low, high = one_sided(act, kink)
        assert abs(high - low) <= 1e-15  # sigma itself has no jump


@pytest.mark.parametrize("act", [activation("elu"), activation("celu"), activation("softsign")])
def test_where_sigma_prime_has_a_kink_sigma_second_is_the_left_one(act):
    left, right = one_sided(act.second_derivative, 0)
    assert left != right
    assert act.second_derivative(0) == act.second_derivative(-0.0) == left


# --- no surprises ---------------------------------------------------------------------------------


@every_dtype
@every_total
def test_the_largest_inputs_give_no_nan_and_raise_no_flag(act, dtype):
    """sigma, sigma', sigma'' at ±max are finite, unless sigma grows faster than z."""
    largest = np.finfo(dtype).max
    z = np.array([-largest, -largest / 2, largest / 2, largest], dtype=dtype)
    with np.errstate(all="raise"):
        for _, function in functions(act):
            assert not np.isnan(function(z)).any()
            if str(act) not in (
                "exp",
                "square",
                "selu",
                "leaky_relu(slope=-3)",
                "leaky_relu(slope=2.5)",
            ):
                assert np.isfinite(function(z)).all()


@every_total
def test_every_float16_passes_without_a_warning(act):
    """All 65,536 of them, computed in float32; finite ones, and those alone, give numbers."""
    z = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(z)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, function in functions(act):
            result = function(z)
            assert result.dtype == np.float32
            assert not np.isnan(result[finite]).any()
            np.testing.assert_array_equal(result, function(z.astype(np.float32)))
        assert np.isnan(act(z)[np.isnan(z)]).all()


@every_dtype
@every_total
def test_dtype_and_shape_are_kept_and_the_input_is_left_alone(act, dtype):
    grid = np.linspace(-3, 3, 24, dtype=dtype).reshape(2, 3, 4)
    grid.flags.writeable = False
    for z in (grid, grid[0, 0, 0], grid[:0], grid[0, :, ::2], grid.T, grid[..., ::-1], grid[:1]):
        z = np.asarray(z)
        before = z.copy()
        for _, function in functions(act):
            result = function(z)
            assert isinstance(result, np.ndarray)
            assert result.dtype == dtype
            assert result.shape == z.shape
            assert not np.shares_memory(result, grid)
            # the same numbers in another layout may meet another loop of NumPy: a few eps
            np.testing.assert_allclose(
                result, function(np.ascontiguousarray(z)), rtol=20 * np.finfo(dtype).eps
            )
        np.testing.assert_array_equal(z, before)


@every_total
def test_whole_numbers_and_lists_become_float64(act):
    for _, function in functions(act):
        np.testing.assert_array_equal(function([-2, 0, 3]), function(np.array([-2.0, 0.0, 3.0])))
        assert function(1).dtype == np.float64


def test_what_is_not_a_number_is_refused_by_name():
    with pytest.raises(jb.NotFiniteError, match=r"tanh: z\[1\] is nan"):
        activation("tanh")([0.0, float("nan")])
    with pytest.raises(TypeError, match="sigmoid: z: expected real numbers"):
        activation("sigmoid").derivative(np.array([1j]))
    with pytest.raises(TypeError, match="softmax: z: expected numbers, not truth values"):
        activation("softmax")([True, False])


@every_dtype
@pytest.mark.parametrize("formula", sorted(WITH_MEMORY, key=NAME), ids=NAME)
def test_a_formula_that_takes_memory_puts_the_same_bits_into_it(formula, dtype):
    for size in (7, 5000):
        z = np.random.default_rng(0).normal(0, 5, size).astype(dtype)
        z[::5] *= 200  # saturated ones too
        z[0] = 0
        before, out = z.copy(), np.full_like(z, np.nan)
        with np.errstate(over="ignore"):
            expected = formula(z)
            assert formula(z, out=out) is out
        assert out.tobytes() == expected.tobytes()
        assert z.tobytes() == before.tobytes()


# --- looking one up -------------------------------------------------------------------------------


def test_a_name_finds_its_activation_and_an_activation_itself():
    for name in NAMES:
        sigma = activation(name)
        assert sigma.name == name
        assert activation(sigma) is sigma
    assert activation("tanh") is activation("tanh")


def test_a_family_takes_parameters_and_has_defaults():
    leaky = activation("leaky_relu", slope=0.25)
    assert leaky.parameters == (("slope", 0.25),)
    assert leaky.derivative([-1.0, 2.0]).tolist() == [0.25, 1.0]
    assert activation("hard_tanh", low=-2, high=0.5)([-9.0, 0.25, 9.0]).tolist() == [-2, 0.25, 0.5]
    assert activation("elu").parameters == (("alpha", 1.0),)
    assert activation("hard_sigmoid").parameters == (("low", -3.0), ("high", 3.0))
    assert str(leaky) == "leaky_relu(slope=0.25)"
    assert str(activation("relu")) == "relu"
    assert str(activation("softmax")) == "softmax"


def test_a_parameter_decides_whether_there_is_a_kink():
    assert activation("leaky_relu", slope=1).kinks == ()
    assert activation("leaky_relu", slope=0.5).kinks == (0.0,)
    assert activation("elu", alpha=1).kinks == ()
    assert activation("elu", alpha=2).kinks == (0.0,)
    assert activation("celu", alpha=2).kinks == ()
    assert activation("hard_tanh", low=0, high=4).kinks == (0.0, 4.0)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "'tahn' is not known; there are abs, celu, cos, ", ("tahn", {})),
        (ValueError, "'tahn' is not known", ("tahn", {"alpha": 1})),
        (TypeError, "expected a name or an Activation, but got 3", (3, {})),
        (TypeError, r"expected a name or an Activation, but got \['relu'\]", (["relu"], {})),
        (TypeError, "tanh has no parameters, but got alpha", ("tanh", {"alpha": 1})),
        (TypeError, "elu has alpha, but not 'slope'", ("elu", {"slope": 1})),
        (TypeError, "hard_tanh has low, high, but not 'top'", ("hard_tanh", {"top": 1})),
        (TypeError, "elu: alpha: expected real numbers", ("elu", {"alpha": "one"})),
        (ValueError, "elu: alpha is nan", ("elu", {"alpha": float("nan")})),
        (
            ValueError,
            r"elu: alpha: expected a number, but got shape \(2,\)",
            ("elu", {"alpha": [1, 2]}),
        ),
        (ValueError, "celu: expected alpha > 0, but got 0", ("celu", {"alpha": 0})),
        (
            ValueError,
            "hard_tanh: expected low < high, but got 2.0 and 1",
            ("hard_tanh", {"low": 2}),
        ),
        (ValueError, "hard_sigmoid: expected low < high", ("hard_sigmoid", {"low": 3, "high": 3})),
    ],
)
def test_a_wrong_name_or_parameter_is_refused(error, message, arguments):
    name, parameters = arguments
    with pytest.raises(error, match=message):
        activation(name, **parameters)


def test_an_activation_that_is_made_already_takes_no_parameters():
    with pytest.raises(TypeError, match="tanh is made already and takes no parameters"):
        activation(activation("tanh"), alpha=1)


# --- equality -------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [*ACTIVATIONS, *VECTORS], ids=str)
def test_a_copy_is_equal_to_the_original(act):
    for twin in (
        pickle.loads(pickle.dumps(act)),
        copy.deepcopy(act),
        activation(act.name, **dict(act.parameters)),
    ):
        assert twin == act
        assert hash(twin) == hash(act)
        assert twin([0.5, 1.5]).tolist() == act([0.5, 1.5]).tolist()


def test_different_activations_are_not_equal():
    everything = [*ACTIVATIONS, *VECTORS]
    assert len(set(everything)) == len(everything)
    assert activation("elu", alpha=2) != activation("elu", alpha=3)


def test_having_been_checked_does_not_make_it_another():
    assert Activation("sin", np.sin, np.cos, check=True) == Activation("sin", np.sin, np.cos)


def test_an_activation_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign to field 'name'"):
        activation("tanh").name = "other"


# --- a user's own ---------------------------------------------------------------------------------


def only_real_tanh(z):
    if np.iscomplexobj(z):
        raise TypeError("real numbers only")
    return np.tanh(z)


def picky_sine(z):
    if np.iscomplexobj(z):
        raise ValueError("not here")
    return np.sin(z)


def forgetful_tanh(z):
    return np.tanh(np.array(z).astype(float))  # drops the imaginary part, with a warning


def tanh_prime(z):
    return 1 / np.cosh(z) ** 2


@pytest.mark.parametrize(
    "own",
    [
        ("cube", lambda z: z**3, lambda z: 3 * z**2, lambda z: 6 * z),
        ("constant", lambda z: 0 * z + 5, lambda z: 0 * z),
        ("abs", np.abs, np.sign, lambda z: 0 * z, (0.0,)),
        ("relu", lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0), None, (0.0,)),
        ("only real", only_real_tanh, tanh_prime),
        ("picky", picky_sine, np.cos),
        ("forgetful", forgetful_tanh, tanh_prime),
        ("steep", lambda z: np.exp(5 * z), lambda z: 5 * np.exp(5 * z)),
        (
            "with parameter",
            lambda z, k: np.sin(k * z),
            lambda z, k: k * np.cos(k * z),
            None,
            (),
            (("k", 2.0),),
        ),
    ],
    ids=lambda own: own[0],
)
def test_a_right_derivative_of_ones_own_is_accepted(own):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        act = Activation(*own, check=True)
    assert not seen
    assert act([-1.5, 2.0]).shape == act.derivative([-1.5, 2.0]).shape == (2,)


@pytest.mark.parametrize(
    ("message", "own"),
    [
        ("'mine': sigma_prime is 9 at z = 4, .* give 8", (np.square, lambda z: 2 * z + (z > 3.9))),
        (
            "sigma_second is 1 at z = -4, .* give 2",
            (np.square, lambda z: 2 * z, lambda z: 2 - 1.0 * (z < -3.9)),
        ),
        ("sigma_prime is nan at z = -4", (np.sin, lambda z: z * np.nan)),
        (
            "sigma_prime is 0 at z = 0, .* name the kinks",
            (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
        ),
        ("sigma_prime is", (only_real_tanh, np.cos)),
        ("sigma_prime is 1e-05 at z", (lambda z: 0 * z, lambda z: 0 * z + 1e-5)),
    ],
)
def test_a_wrong_derivative_of_ones_own_is_refused_and_the_point_named(message, own):
    with pytest.raises(ValueError, match=message):
        Activation("mine", *own, check=True)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="Activation 'mine': sigma_prime must be callable"):
        Activation("mine", np.sin, 3)
    with pytest.raises(TypeError, match="Activation 'mine': sigma must be callable"):
        Activation("mine", "sin", np.cos)


def test_ones_own_keeps_dtype_and_must_keep_shape():
    own = Activation("own", lambda z: z.astype(np.float64), lambda z: np.ones(7))
    assert own(np.float32([1, 2])).dtype == np.float32
    with pytest.raises(ValueError, match=r"'own': gave shape \(7,\) for shape \(2,\)"):
        own.derivative([1.0, 2.0])


@pytest.mark.parametrize(
    "own",
    [Activation("own", np.sin, np.cos), VectorActivation("own", np.sin, lambda z: (z, z, z))],
    ids=["entrywise", "vector"],
)
def test_without_a_second_derivative_there_is_none(own):
    with pytest.raises(NotImplementedError, match="'own' was made without sigma_second"):
        own.second_derivative([1.0])


# --- softmax and log_softmax ----------------------------------------------------------------------


def exact_softmax(z):
    """Return p, log p and 1 - p, all to PRECISION bits of their own size."""
    e = [mp.exp(mp.mpf(float(entry)) - mp.mpf(float(z.max()))) for entry in z]
    total = mp.fsum(e)
    p = [entry / total for entry in e]
    rest = [mp.fsum(e[:i] + e[i + 1 :]) / total for i in range(len(e))]
    log_p = [mp.log1p(-r) if r < 0.5 else mp.log(q) for q, r in zip(p, rest, strict=True)]
    return p, log_p, rest


def exact_jacobians(z):
    """Return the Jacobians of softmax and log_softmax as nested lists."""
    p, _, rest = exact_softmax(z)
    n = range(len(p))
    of_log = [[rest[j] if i == j else -p[j] for j in n] for i in n]
    return [[p[i] * of_log[i][j] for j in n] for i in n], of_log


def distances(z):
    """Return how far each entry lies below the largest; for the largest, how far the second."""
    t = z.max() - z
    t[z.argmax()] = np.sort(t)[1] if len(z) > 1 else 0
    return t


def require_relative(computed, true, allowed, dtype):
    """|computed - true| <= allowed eps |true|, up to a few of the smallest numbers."""
    info = np.finfo(dtype)
    for value, t, epsilons in zip(computed.flat, true, allowed.flat, strict=True):
        slack = 4 * mp.mpf(float(info.smallest_subnormal))
        assert abs(mp.mpf(float(value)) - t) <= float(epsilons) * float(info.eps) * abs(t) + slack


LOGITS = [
    [0.3, -1.2, 0.9],
    [1.0, 1.0],
    [0.0, -46.05],  # p = 1 - 1e-20
    [-80.0, 5.0, -3.0, 4.9],
    [700.0, -30.0, 10.0],
    [1e30, 1e30, -1e30],
    [0.0, -1e-9, -90.0, -1.0, -20.0],
    [2.5],
    [1e-40, 0.0, -1e-40],
    [0.0, -103.9, -88.0, -707.0, -744.9],
]

logits = st.lists(st.floats(-800, 800, width=32), min_size=1, max_size=6)


def require_softmax_bounds(z):
    dtype = z.dtype.type
    softmax, log_softmax = VECTORS
    t, n = distances(z).astype(float), len(z)
    with mp.workprec(PRECISION):
        p, log_p, _ = exact_softmax(z)
        require_relative(softmax(z), p, n + 8 + t, dtype)
        require_relative(log_softmax(z), log_p, n + 8 + t, dtype)
        # the diagonal has the one distance, the rest of the matrix the two that enter
        both = n + 8 + np.where(np.eye(n), t, t[:, None] + t)
        for act, J in zip(VECTORS, exact_jacobians(z), strict=True):
            d, U, V = act.parts(z)
            assert (d.dtype, U.dtype, V.dtype) == (dtype, dtype, dtype)
            for dense in (np.diag(d) + U @ V.T, act.matrix(z)):
                assert dense.dtype == dtype
                require_relative(dense, [entry for row in J for entry in row], both, dtype)


@every_dtype
@pytest.mark.parametrize("z", LOGITS, ids=str)
def test_softmax_and_its_jacobian_keep_their_digits_when_saturated(z, dtype):
    """Entry by entry relative to itself, also for p (1 - p) with p = 1 - 1e-20."""
    require_softmax_bounds(np.array(z, dtype=dtype))


@given(z=logits, dtype=st.sampled_from(DTYPES))
def test_softmax_and_its_jacobian_keep_their_digits(z, dtype):
    require_softmax_bounds(np.array(z, dtype=dtype))


def test_the_textbook_jacobian_of_softmax_does_not():
    """diag(p) - p pᵀ has lost p (1 - p) at p = 1 - 1e-20; the parts have it."""
    z = np.array([0.0, -46.05])
    p = activation("softmax")(z)
    d, U, V = activation("softmax").parts(z)
    assert (np.diag(p) - np.outer(p, p))[0, 0] == 0
    # p (1 - p) is e^z to 1e-20; an exponential and a few roundings more
    entry = (np.diag(d) + U @ V.T)[0, 0]
    assert abs(entry / np.exp(z[1]) - 1) <= 8 * np.finfo(float).eps


@every_vector
def test_the_second_derivative_of_a_vector_is_the_complex_step_of_its_jacobian(act):
    """T[i, j, k] = Im J[i, j](z + ih e_k) / h, on points where the textbook keeps its digits."""

    def jacobian(z):
        p = TEXTBOOK["softmax"](z)
        return np.diag(p) - np.outer(p, p) if act.name == "softmax" else np.eye(len(z)) - p

    for z in (np.array([0.3, -1.2, 0.9, 2.0]), np.array([0.5, 0.5]), np.array([1.5])):
        T = act.second_derivative(z)
        assert T.shape == (len(z),) * 3
        for k, direction in enumerate(np.eye(len(z))):
            step = np.imag(jacobian(z + 1e-30j * direction)) / 1e-30
            # some dozen roundings of numbers up to 1, also where they cancel
            np.testing.assert_allclose(T[:, :, k], step, rtol=1e-13, atol=1e-15)


@every_vector
def test_the_second_derivative_of_a_vector_keeps_its_digits_when_saturated(act):
    """Against the sum of the sizes of its terms, which do not cancel but where p_i = 1/2."""
    z = np.array([0.0, -46.05, -30.0])
    T, n = act.second_derivative(z), len(z)
    with mp.workprec(PRECISION):
        p, _, _ = exact_softmax(z)
        J = exact_jacobians(z)[0]
        for i, j, k in np.ndindex(n, n, n):
            terms = [J[i][k] * (i == j), -J[i][k] * p[j], -p[i] * J[j][k]]
            if act.name == "log_softmax":
                terms = [-J[j][k]]
            size = mp.fsum(map(abs, terms))
            # three factors, each with the error of its distance from the largest
            allowed = (3 * n + 24 + 2 * 46.05) * np.finfo(float).eps
            assert abs(mp.mpf(T[i, j, k]) - mp.fsum(terms)) <= allowed * size


@every_dtype
@every_vector
def test_a_batch_of_vectors_is_a_stack_of_them(act, dtype):
    Z = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(dtype)
    Z.flags.writeable = False
    assert act(Z).dtype == act.second_derivative(Z).dtype == dtype
    for i, j in np.ndindex(4, 3):
        rtol = 20 * np.finfo(dtype).eps  # NumPy may add in another order
        np.testing.assert_allclose(act(Z)[i, j], act(Z[i, j]), rtol=rtol)
        np.testing.assert_allclose(
            act.second_derivative(Z)[i, j], act.second_derivative(Z[i, j]), rtol=rtol, atol=rtol
        )
        for whole, single in zip(act.parts(Z), act.parts(Z[i, j]), strict=True):
            np.testing.assert_allclose(whole[i, j], single, rtol=rtol)
        np.testing.assert_allclose(act.matrix(Z)[i, j], act.matrix(Z[i, j]), rtol=rtol)


@every_dtype
@every_vector
def test_the_largest_vectors_raise_no_flag(act, dtype):
    largest = np.finfo(dtype).max
    with np.errstate(all="raise"):
        for z in ([largest, -largest], [-largest, -largest], [largest, 0, largest]):
            z = np.array(z, dtype=dtype)
            for result in (act(z), *act.parts(z), act.matrix(z), act.second_derivative(z)):
                assert not np.isnan(result).any()
                assert result.dtype == dtype


@every_vector
@pytest.mark.parametrize("shape", [(), (0,), (3, 0)], ids=str)
def test_a_vector_has_at_least_one_entry(act, shape):
    for function in (act, act.parts, act.matrix, act.second_derivative):
        with pytest.raises(jb.ShapeError, match=r"softmax: z: expected at least one entry"):
            function(np.zeros(shape))


@every_vector
def test_an_empty_batch_of_vectors_is_an_ordinary_case(act):
    Z = np.zeros((0, 3))
    assert act(Z).shape == (0, 3)
    assert [array.shape for array in act.parts(Z)] == [(0, 3), (0, 3, 2), (0, 3, 2)]
    assert act.matrix(Z).shape == (0, 3, 3)
    assert act.second_derivative(Z).shape == (0, 3, 3, 3)


@every_dtype
def test_the_matrix_of_ones_own_is_its_parts_written_out(dtype):
    """diag(d) + U Vᵀ, bit for bit on whole numbers."""
    U, V = np.arange(6.0).reshape(3, 2), np.array([[1.0, -2.0], [3.0, 0.0], [-1.0, 4.0]])
    parts = lambda z: (2 * z, (z[..., None] * U).astype(z.dtype), V.astype(z.dtype))  # noqa: E731
    own = VectorActivation("own", lambda z: z * z, parts)
    Z = np.array([[1, 2, -3], [0, 5, 1]], dtype)
    assert own.matrix(Z).dtype == dtype
    for z, J in zip(Z, own.matrix(Z), strict=True):
        np.testing.assert_array_equal(J, np.diag(2 * z) + (z[:, None] * U) @ V.T)
        np.testing.assert_array_equal(own.matrix(z), J)


# --- the command ----------------------------------------------------------------------------------


def run_benchmark(monkeypatch, capsys, *names):
    """Run the command and return what it printed and its exit status."""
    command = Path(__file__).parent / "benchmarks" / "activation_accuracy.py"
    monkeypatch.setattr(sys, "argv", [str(command), *names])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(command), run_name="__main__")
    return capsys.readouterr().out.splitlines(), stopped.value.code


def test_the_benchmark_prints_a_line_for_every_dtype(monkeypatch, capsys):
    printed, status = run_benchmark(monkeypatch, capsys, "relu", "square")
    assert [line.split()[:2] for line in printed[1:-1]] == [
        [name, dtype.__name__] for name in ("relu", "square") for dtype in DTYPES
    ]
    assert printed[1].split()[2:] == ["exact"] * 3
    assert printed[3].split()[2:] == ["0.50", "at", printed[3].split()[4], "exact", "exact"]
    assert (printed[-1], status) == ("all within what is promised", 0)


def test_the_benchmark_fails_when_a_promise_is_broken(monkeypatch, capsys):
    monkeypatch.setitem(GOALS, "sigma", 0.25)
    printed, status = run_benchmark(monkeypatch, capsys, "square")
    assert "(!)" in printed[1]
    assert (printed[-1], status) == ("2 beyond what is promised (!)", 1)


def test_families_and_fixed_names_do_not_overlap():
    assert not set(FAMILIES) & set(FIXED)
