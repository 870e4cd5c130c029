"""Every mistake at every entry point: what is refused, what is taken, and what the message says.

``ENTRY_POINTS`` are where arrays come in, each with a value that it takes; ``WRONG_KINDS`` and
``GOOD_DISGUISES`` are crossed with them.  What belongs to one entry point alone is a row of
``MISTAKES``.  Around every call the guard of ``guard.py`` holds: no floating-point flag, and no
byte of the caller's arrays changed, also where the call raises.
"""

import time
import tracemalloc

import guard
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import jacobians as jb

net = jb.Network.random([3, 5, 2], seed=0)
soft = jb.Network.random([3, 4, 2], "tanh", "softmax", seed=0)
graph = jb.UnitGraph.from_network(net)
x = np.array([1.0, -2.0, 3.0])
X = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
lin = jb.linearize(net, x)
A = jb.Matrix([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
W = np.array([[1.0, -2.0, 3.0], [0.0, 5.0, -6.0]])
Y = np.array([[1.0, 0.0], [0.0, 1.0]])
squared = jb.SquaredError()


def squares(v):
    return np.array([v @ v])


# name of the argument as the message begins, the call, a value that it takes
ENTRY_POINTS = [
    ("Dense: W", lambda v: jb.Dense(v).W, W),
    ("Dense: b", lambda v: jb.Dense(W, v).b, W[:, 0]),
    ("Scale: scale", lambda v: jb.Scale(v).scale, x),
    ("Scale: shift", lambda v: jb.Scale(x, v).shift, x),
    ("Network: X", lambda v: net(v), X),
    ("trace: X", lambda v: jb.trace(net, v).output, X),
    ("trace: X", lambda v: jb.linearize(net, v).jacobian(), X),
    ("trace: X", lambda v: [c.difference for c in jb.certify(net, v)], x),
    ("jacobian: X", lambda v: jb.jacobian(net, v), X),
    ("value_and_jacobian: X", lambda v: jb.value_and_jacobian(net, v)[1], X),
    ("jacobian_with_bound: X", lambda v: jb.jacobian_with_bound(net, v)[1], X),
    ("sensitivity: X", lambda v: jb.sensitivity(net, v).mean, X),
    ("jvp: tangent", lambda v: lin.jvp(v), x),
    ("vjp: cotangent", lambda v: lin.vjp(v), x[:2]),
    ("backprop: cotangent", lambda v: jb.backprop.vjp(lin.trace, v), x[:2]),
    ("trace: X", lambda v: jb.backprop.gradients(net, v, Y, squared).vector, X),
    ("trace: X", lambda v: jb.explicit.gradients(net, v, Y, squared).vector, X),
    ("SquaredError: target", lambda v: jb.backprop.gradients(net, X, v, squared).vector, Y),
    ("SquaredError: target", lambda v: jb.explicit.gradients(net, X, v, squared).vector, Y),
    (
        "BinaryCrossEntropy: target",
        lambda v: jb.backprop.gradients(soft, X, v, jb.BinaryCrossEntropy()).vector,
        Y,
    ),
    (
        "CrossEntropy: target",
        lambda v: jb.backprop.gradients(soft, X, v, jb.CrossEntropy()).vector,
        Y,
    ),
    ("Matrix: array", lambda v: jb.Matrix(v).to_dense(), W),
    ("Diagonal: entries", lambda v: jb.Diagonal(v).to_dense(), x),
    (
        "DiagonalPlusLowRank: left",
        lambda v: jb.DiagonalPlusLowRank(x[:2], v, W).to_dense(),
        W,
    ),
    ("Matrix 2x3 float64 @ array", lambda v: A @ v, x),
    ("array @ Matrix 2x3 float64", lambda v: A.__rmatmul__(v), W[:, :2]),
    (
        "Network.with_parameters: parameters",
        lambda v: net.with_parameters(v).parameters,
        np.arange(32.0),
    ),
    ("UnitGraph: x", lambda v: graph(v), X),
    ("UnitGraph: x", lambda v: graph.linearize(v).input_jacobian(), X),
    ("UnitGraph: biases", lambda v: jb.UnitGraph([[0, 0], [1, 0]], [[1], [0]], v).biases, x[:2]),
    ("finite_difference: x", lambda v: jb.witness.finite_difference(squares, v).jacobian, x),
    ("complex_step: x", lambda v: jb.witness.complex_step(squares, v), x),
    ("check_jacobian: x", lambda v: jb.witness.check_jacobian(squares, [[2, -4, 6]], v).holds, x),
    ("RowForm: X", lambda v: jb.conventions.to_row_form(net)(v), X),
]
IDS = [f"{name} {i}" for i, (name, _, _) in enumerate(ENTRY_POINTS)]
entry_points = pytest.mark.parametrize(("name", "entry_point", "good"), ENTRY_POINTS, ids=IDS)


def with_first(good, value):
    """Copy an array and put a value first."""
    spoilt = good.copy()
    spoilt.flat[0] = value
    return spoilt


def masked(good):
    mask = np.zeros(good.shape, bool)
    mask.flat[0] = True
    return np.ma.masked_array(good, mask)


def ragged(good):
    return [[1.0, 2.0], [3.0]] if good.ndim == 2 else [1.0, [2.0]]


def structured(good):
    return np.zeros(good.shape, [("value", float)])


WRONG_KINDS = {
    "truth values": (lambda g: g > 0, TypeError, "expected numbers, not truth values"),
    "complex": (lambda g: g + 1j, TypeError, "expected real numbers (take .real"),
    "long double": (
        lambda g: g.astype(np.longdouble),
        TypeError,
        "expected float32 or float64 (convert with .astype(np.float64))",
    ),
    "objects": (lambda g: g.astype(object), TypeError, "but got dtype object"),
    "None among numbers": (
        lambda g: with_first(g.astype(object), None).tolist(),
        TypeError,
        "but got dtype object",
    ),
    "a dictionary": (lambda g: {"W": g}, TypeError, "but got dtype object"),
    "a function": (lambda g: g.tolist, TypeError, "but got dtype object"),
    "a set": (lambda g: {1.0, 2.0}, TypeError, "but got dtype object"),
    "a number too large for a float": (lambda g: [10**400], TypeError, "but got dtype object"),
    "dates": (lambda g: g.astype(int).astype("M8[D]"), TypeError, "but got dtype datetime64"),
    "times": (lambda g: g.astype(int).astype("m8[s]"), TypeError, "but got dtype timedelta64"),
    "text": (lambda g: g.astype(str), TypeError, "but got dtype <U"),
    "bytes": (lambda g: g.astype(bytes), TypeError, "but got dtype |S"),
    "rows of different lengths": (ragged, jb.ShapeError, "rows of different lengths"),
    "a mask": (masked, TypeError, "masked entries have no value; fill or drop them first"),
    "sparse": (
        lambda g: scipy.sparse.csr_array(np.atleast_2d(g)),
        TypeError,
        "expected a dense array, but got a sparse one; use .toarray()",
    ),
    "a frame with text": (
        lambda g: pd.DataFrame({"a": ["u", "v"], "b": [1.0, 2.0], "c": [1.0, 2.0]}),
        TypeError,
        "dtype object",
    ),
    "a frame with missing values": (
        lambda g: pd.DataFrame(np.atleast_2d(g)).astype("Float64").mask(np.atleast_2d(g) == 1),
        TypeError,
        "dtype object",
    ),
    "NaN": (lambda g: with_first(g, np.nan), jb.NotFiniteError, "is nan. Every entry must be"),
    "infinity": (lambda g: with_first(g, np.inf), jb.NotFiniteError, "is inf. Every entry must"),
    "minus infinity": (lambda g: with_first(g, -np.inf), jb.NotFiniteError, "is -inf. Every"),
    "an axis too many": (lambda g: g[..., None, None], jb.ShapeError, "got"),
    "an axis too few": (lambda g: np.float64(1.0), jb.ShapeError, "got"),
}


@entry_points
@pytest.mark.parametrize("kind", WRONG_KINDS)
def test_a_wrong_kind_is_refused_at_every_entry_point(name, entry_point, good, kind):
    """The message begins with the place, and says what was demanded or what came."""
    spoil, error, message = WRONG_KINDS[kind]
    with pytest.raises(error) as caught:
        entry_point(spoil(good))
    assert str(caught.value).startswith(name)
    assert message in str(caught.value)


# --- unusual, but good ----------------------------------------------------------------------------


def in_a_file(good, folder):
    mapped = np.memmap(folder / "points.bin", good.dtype, "w+", shape=good.shape)
    mapped[...] = good
    return mapped


def with_gaps(good):
    """Lay the array out with gaps, in memory that is not aligned to its entries."""
    pair = [("entry", good.dtype), ("gap", good.dtype)]
    spread = np.zeros(2 * good.nbytes + 1, np.uint8)[1:].view(pair)["entry"].reshape(good.shape)
    spread[...] = good
    return spread


GOOD_DISGUISES = {
    "a list": lambda g, folder: g.tolist(),
    "a tuple": lambda g, folder: tuple(g.tolist()),
    "whole numbers": lambda g, folder: g.astype(int),
    "small whole numbers": lambda g, folder: g.astype(np.int8),
    "columns first": lambda g, folder: np.asfortranarray(g),
    "backwards": lambda g, folder: np.flip(np.flip(g).copy()),
    "not aligned, with gaps": lambda g, folder: with_gaps(g),
    "the other byte order": lambda g, folder: g.astype(g.dtype.newbyteorder("S")),
    "read-only": lambda g, folder: jb._checks.freeze(g),
    "a broadcast view": lambda g, folder: np.broadcast_to(g, (2, *g.shape))[1],
    "a file in memory": in_a_file,
    "a mask of nothing": lambda g, folder: np.ma.masked_array(g, False),
    "np.matrix": lambda g, folder: np.matrix(g) if g.ndim == 2 else g,
    "a frame or a series": lambda g, folder: (pd.DataFrame if g.ndim == 2 else pd.Series)(g),
    "another array-like": lambda g, folder: type("Array", (), {"__array__": lambda *_, **__: g})(),
}


@entry_points
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("disguise", GOOD_DISGUISES)
def test_unusual_but_good_values_give_what_the_plain_array_gives(
    name, entry_point, good, disguise, tmp_path
):
    assert np.array_equal(entry_point(GOOD_DISGUISES[disguise](good, tmp_path)), entry_point(good))


@pytest.mark.parametrize(("name", "entry_point", "good"), ENTRY_POINTS, ids=IDS)
def test_float16_is_taken_as_float32(name, entry_point, good):
    """Every number of ``good`` is one of float16 too."""
    half = entry_point(good.astype(np.float16))
    assert np.array_equal(half, entry_point(good.astype(np.float16).astype(np.float32)))


# --- where numbers are only moved, or multiplied --------------------------------------------------

CARRIERS = [
    ("vec: M", jb.vec, W),
    ("unvec: v", lambda v: jb.unvec(v, (3, 2)), W.ravel()),
    ("vech: S", jb.vech, W[:, :2]),
    ("hadamard: left", lambda v: jb.conventions.hadamard(v, W), W),
    ("hadamard: right", lambda v: jb.conventions.hadamard(W, v), W),
    ("product: left", lambda v: jb.conventions.product(v, W), W[:, :2]),
    ("product: right", lambda v: jb.conventions.product(W.T, v), W),
    ("as_row: v", jb.conventions.as_row, x),
    ("from_row: row", jb.conventions.from_row, W[:1]),
    (
        "weight_row_by_kronecker: h",
        lambda v: jb.conventions.weight_row_by_kronecker(v, W[:1]),
        W[:, :1],
    ),
    ("Kronecker: left", lambda v: jb.Kronecker(v, W).to_dense(), W),
    ("Kronecker: right", lambda v: jb.Kronecker(W, v).to_dense(), W),
    ("Product: factor", lambda v: jb.Product([v, W]).to_dense(), W[:, :2]),
    ("Blocks: block", lambda v: jb.Blocks([W, v]).to_dense(), W[:, :2]),
    ("check_jacobian: J", lambda v: jb.witness.check_jacobian(squares, v, x).holds, W[:1]),
]
carriers = pytest.mark.parametrize(
    ("name", "entry_point", "good"), CARRIERS, ids=[name for name, *_ in CARRIERS]
)


@carriers
@pytest.mark.parametrize("kind", ["a mask", "sparse", "rows of different lengths"])
def test_nothing_is_lost_where_numbers_are_only_moved(name, entry_point, good, kind):
    """Any dtype may pass there, but no mask is dropped, and no list of lists is an array."""
    spoil, error, message = WRONG_KINDS[kind]
    with pytest.raises(error) as caught:
        entry_point(spoil(good))
    assert str(caught.value).startswith(name)
    assert message in str(caught.value)


@carriers
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("disguise", GOOD_DISGUISES)
def test_unusual_but_good_values_are_moved_alike(name, entry_point, good, disguise, tmp_path):
    assert np.array_equal(entry_point(GOOD_DISGUISES[disguise](good, tmp_path)), entry_point(good))


# --- mistakes that belong to one entry points -----------------------------------------------------


def gradients(network, targets, loss):
    return jb.backprop.gradients(network, X, targets, loss)


binary = jb.Network.random([3, 4, 2], "tanh", "sigmoid", seed=0)
lin_batch = jb.linearize(net, X)
J = np.empty((2, 2, 3))
overlapping = np.zeros((2, 2, 3))

# call, error, what the message says at least
MISTAKES = {
    "no layers": (lambda: jb.Network([]), ValueError, "at least one layer, but got none"),
    "no inputs": (lambda: jb.Dense(np.ones((2, 0))), jb.ShapeError, "Dense: W: a layer needs inp"),
    "no outputs": (lambda: jb.Dense(np.ones((0, 2))), jb.ShapeError, "but got (0, 2)"),
    "no entries": (lambda: jb.Scale(np.ones(0)), jb.ShapeError, "Scale: scale: a layer needs"),
    "a width of 0": (lambda: jb.Network.random([3, 0, 1]), ValueError, "at least 1, but got 0"),
    "points of width 0": (lambda: net(np.ones((2, 0))), jb.ShapeError, "but got (2, 0)"),
    "a vector as W": (lambda: jb.Dense(x), jb.ShapeError, "Dense: W: expected a matrix of shape"),
    "b as a column": (
        lambda: jb.Dense(W, np.ones((2, 1))),
        jb.ShapeError,
        "Dense: b: expected shape (2,), but got (2, 1). W of shape (2, 3) has one bias per row.",
    ),
    "b too long": (lambda: jb.Dense(W, x), jb.ShapeError, "Dense: b: expected shape (2,), but got"),
    "neighbours": (
        lambda: jb.Network([jb.Dense(W), jb.Dense(np.ones((4, 5)))]),
        jb.ShapeError,
        "Network: layer 2 (Dense 5 -> 4 identity) takes 5 inputs, but layer 1 gives 2.",
    ),
    "something else for a layer": (
        lambda: jb.Network([jb.Dense(W), W]),
        TypeError,
        "Network: layer 2: expected a Layer, but got array(",
    ),
    "points too wide": (
        lambda: jb.jacobian(net, np.ones((7, 4))),
        jb.ShapeError,
        "expected one point of shape (3,) or a batch of shape (B, 3), but got (7, 4)",
    ),
    "one point too narrow": (lambda: net(x[:2]), jb.ShapeError, "but got (2,)"),
    "arguments in the other order": (
        lambda: jb.trace(X, net),
        TypeError,
        "trace: net: expected a Network first, but got array(",
    ),
    "a list of points of two widths": (
        lambda: net([[1.0, 2.0, 3.0], [1.0, 2.0]]),
        jb.ShapeError,
        "rows of different lengths",
    ),
    "targets of another width": (
        lambda: gradients(net, Y[:, :1], squared),
        jb.ShapeError,
        "expected the shape of the output, (2, 2), got (2, 1)",
    ),
    "targets that would broadcast": (
        lambda: gradients(net, 1.0, squared),
        jb.ShapeError,
        "expected the shape of the output, (2, 2), got ()",
    ),
    "a probability above 1": (
        lambda: gradients(binary, 1.5 * Y, jb.BinaryCrossEntropy()),
        jb.DomainError,
        "BinaryCrossEntropy: target: expected values from 0 to 1, but got 1.5",
    ),
    "a probability below 0": (
        lambda: gradients(soft, -Y, jb.CrossEntropy()),
        jb.DomainError,
        "CrossEntropy: target: expected values from 0 to 1, but got -1",
    ),
    "an output outside the domain": (
        lambda: gradients(net, Y, jb.BinaryCrossEntropy()),
        jb.DomainError,
        "needs outputs strictly between 0 and 1, but got",
    ),
    "a label too large": (
        lambda: gradients(soft, [0, 2], jb.CrossEntropy()),
        jb.DomainError,
        "labels go from 0 to 1, but got 2",
    ),
    "a label counted from the end": (
        lambda: gradients(soft, [0, -1], jb.CrossEntropy()),
        jb.DomainError,
        "labels go from 0 to 1, but got -1",
    ),
    "a label without sign": (
        lambda: gradients(soft, np.array([0, 255], np.uint8), jb.CrossEntropy()),
        jb.DomainError,
        "labels go from 0 to 1, but got 255",
    ),
    "labels that are not whole": (
        lambda: gradients(soft, [0.0, 1.0], jb.CrossEntropy()),
        jb.ShapeError,
        "expected the shape of the output, (2, 2), got (2,)",
    ),
    "too few labels": (
        lambda: gradients(soft, [0], jb.CrossEntropy()),
        jb.ShapeError,
        "expected one label per point, shape (2,), got (1,)",
    ),
    "a loss by name": (lambda: gradients(net, Y, "squared"), TypeError, "expected SquaredError()"),
    "gradients of no points": (
        lambda: jb.backprop.gradients(net, X[:0], Y[:0], squared),
        ValueError,
        "the mean over no points is undefined",
    ),
    "explicit gradients of no points": (
        lambda: jb.explicit.gradients(net, X[:0], Y[:0], squared),
        ValueError,
        "the mean over no points is undefined",
    ),
    "out of another shape": (lambda: jb.jacobian(net, X, out=J[:1]), jb.ShapeError, "(2, 2, 3)"),
    "out of another dtype": (
        lambda: jb.jacobian(net, X, out=J.astype(np.float32)),
        jb.ShapeError,
        "float64",
    ),
    "out read-only": (
        lambda: jb.jacobian(net, X, out=np.broadcast_to(0.0, J.shape)),
        ValueError,
        "read-only",
    ),
    "out over X": (
        lambda: jb.jacobian(net, overlapping[0], out=overlapping),
        ValueError,
        "overlaps X",
    ),
    "out as a list": (lambda: jb.jacobian(net, X, out=[]), TypeError, "expected an array"),
    "a budget below one point": (
        lambda: jb.jacobian(net, X, max_bytes=8),
        ValueError,
        "but the budget is 8",
    ),
    "a budget of nothing": (lambda: jb.plan(net, max_bytes=0), ValueError, "max_bytes"),
    "a budget of half a byte": (lambda: jb.plan(net, max_bytes=0.5), TypeError, "whole number"),
    "half a batch": (lambda: jb.plan(net, batch=2.5), TypeError, "plan: batch: expected a whole"),
    "fewer than no points": (lambda: jb.plan(net, batch=-1), ValueError, "plan: batch"),
    "the derivative of the past": (lambda: jb.jacobian(net, X, of=0, wrt=1), ValueError, "wrt: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_place_demand_and_what_came(mistake):
    call, error, message = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


VERBS = {  # name of the argument, the call, the lowest number
    "Trace.preactivation: l": (lin.trace.preactivation, 1),
    "Trace.activation: l": (lin.trace.activation, 0),
    "weight_jacobian: l": (lin.weight_jacobian, 1),
    "bias_jacobian: l": (lin.bias_jacobian, 1),
    "jacobian: of": (lambda l: lin.jacobian(of=l), 0),
    "jacobian: wrt": (lambda l: lin.jacobian(wrt=l), 0),
    "plan: of": (lambda l: jb.jacobian(net, X, of=l), 0),
    "plan: wrt": (lambda l: jb.jacobian(net, X, wrt=l), 0),
    "activation_jacobian: l": (lambda l: jb.explicit.activation_jacobian(lin.trace, l), 1),
    "layer_jacobian: l": (lambda l: jb.explicit.layer_jacobian(lin.trace, l), 1),
    "input_jacobian: of": (lambda l: jb.explicit.input_jacobian(lin.trace, l), 0),
    "input_jacobian: wrt": (lambda l: jb.explicit.input_jacobian(lin.trace, wrt=l), 0),
    "bias_jacobian : l": (lambda l: jb.explicit.bias_jacobian(lin.trace, l), 1),
    "weight_jacobian : l": (lambda l: jb.explicit.weight_jacobian(lin.trace, l), 1),
    "preactivation_weight_jacobian: l": (
        lambda l: jb.explicit.preactivation_weight_jacobian(lin.trace, l),
        1,
    ),
}


@pytest.mark.parametrize("where", VERBS)
def test_layer_numbers_are_those_of_the_paper(where):
    """From ``low`` to L = 2: nothing is counted from the end, rounded or taken for a number."""
    call, low = VERBS[where]
    for number in (low - 1, 3, -2, 10**30):
        with pytest.raises(ValueError, match=f"from {low} to 2, got {number}") as caught:
            call(number)
        assert str(caught.value).startswith(where.replace(" :", ":"))
    for number in (1.0, True, b"1", np.float64(1.0)):
        with pytest.raises(TypeError, match="expected a whole number, but got"):
            call(number)
    for number in (np.int8(2), np.uint64(2)):
        call(number)


# --- small, shared and changing -------------------------------------------------------------------


def test_an_empty_batch_is_an_ordinary_case():
    """Every verb gives arrays of length 0 with the right widths."""
    none = X[:0]
    seen = jb.linearize(net, none)
    assert net(none).shape == (0, 2)
    assert jb.jacobian(net, none).shape == (0, 2, 3)
    assert [array.shape for array in jb.value_and_jacobian(net, none)] == [(0, 2), (0, 2, 3)]
    assert [array.shape for array in jb.jacobian_with_bound(net, none)] == [(0, 2, 3)] * 2
    assert seen.jacobian().shape == jb.backprop.jacobian(seen.trace).shape == (0, 2, 3)
    assert seen.jvp(none).shape == (0, 2)
    assert seen.vjp(np.ones((0, 2))).shape == (0, 3)
    assert seen.weight_jacobian(1).to_dense().shape == (0, 2, 15)
    assert seen.parameter_jacobian().to_dense().shape == (0, 2, 32)
    assert seen.trace.kinks() == ()
    assert graph.linearize(none).input_jacobian().shape == (0, 7, 3)


def test_one_unit_everywhere_is_an_ordinary_case():
    """H(x) = tanh(2 x + 1) with its derivative 2 (1 - H²), never squeezed."""
    one = jb.Network([jb.Dense([[2.0]], [1.0], "tanh")])
    J = jb.jacobian(one, [0.5])
    assert J.shape == (1, 1)
    # three roundings either way, of numbers up to 2 (tanh² is near 1)
    assert abs(J[0, 0] - 2 * (1 - one([0.5])[0] ** 2)) < 1e-15
    assert jb.certify(one, [0.5]).holds
    assert jb.jacobian(one, [[0.5]]).shape == (1, 1, 1)


def test_two_layers_may_share_one_array():
    square = np.array([[0.5, -1.0], [2.0, 1.5]])
    shared = jb.Network([jb.Dense(square, activation="tanh"), jb.Dense(square)])
    apart = jb.Network([jb.Dense(square.copy(), activation="tanh"), jb.Dense(square.copy())])
    assert np.array_equal(jb.jacobian(shared, [0.1, 0.2]), jb.jacobian(apart, [0.1, 0.2]))
    g = jb.backprop.gradients(shared, [0.1, 0.2], [0.0, 0.0], squared)
    assert not np.array_equal(g.weights[0], g.weights[1])  # a derivative for each place
    square[...] = 7.0
    assert np.array_equal(jb.jacobian(shared, [0.1, 0.2]), jb.jacobian(apart, [0.1, 0.2]))


KEEPERS = [
    (lambda v: jb.Dense(v), W),
    (lambda v: jb.Dense(W, v), W[:, 0]),
    (lambda v: jb.Scale(v, v), x),
    (lambda v: jb.trace(net, v), X),
    (lambda v: jb.linearize(net, v), X),
    (lambda v: net.with_parameters(v), np.arange(32.0)),
    (lambda v: jb.Matrix(v), W),
    (lambda v: jb.Diagonal(v), x),
    (lambda v: jb.DiagonalPlusLowRank(v[0], v.T, v.T), np.ones((2, 2))),
    (lambda v: jb.Kronecker(v, v), W),
    (lambda v: jb.Product([v, v.T]), W),
    (lambda v: jb.Blocks([v, v]), W),
    (lambda v: jb.UnitGraph(v, v[:, :1]), np.array([[0.0, 0.0], [2.0, 0.0]])),
    (lambda v: graph.linearize(v), X),
]


@pytest.mark.parametrize("locked", [False, True], ids=["writable", "read-only for now"])
@pytest.mark.parametrize(("make", "good"), KEEPERS)
def test_what_is_made_does_not_follow_the_callers_array(make, good, locked):
    """Also where the array was read-only at the time, and its owner unlocks it later."""
    mine = good.copy()
    mine.flags.writeable = not locked
    made = make(mine)
    mine.flags.writeable = True
    before = list(arrays_of(made))
    copies = [array.copy() for array in before]
    mine[...] = 77.0
    assert copies
    assert all(np.array_equal(a, b) for a, b in zip(before, copies, strict=True))


def arrays_of(thing):
    """Yield every array that an object holds, however deep."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, (list, tuple)):
        for member in thing:
            yield from arrays_of(member)
    elif scipy.sparse.issparse(thing):
        yield from (thing.data, thing.indices, thing.indptr)
    elif type(thing).__module__.startswith("jacobians") and hasattr(thing, "__dict__"):
        for member in vars(thing).values():
            yield from arrays_of(member)


# --- what does not fit ----------------------------------------------------------------------------

wide = jb.Network(
    [
        jb.Dense(np.zeros((12_000, 300)), np.zeros(12_000)),
        jb.Dense(np.zeros((50, 12_000)), np.zeros(50)),
    ]
)
at = jb.linearize(wide, np.zeros(300))
weight, parameter = at.weight_jacobian(1), at.parameter_jacobian()
inner = jb.Product([np.ones((12_000, 1)), np.ones((1, 12_000)), np.ones((12_000, 1))])
slopes = jb.Diagonal(np.zeros(12_000))
units = jb.UnitGraph(scipy.sparse.csr_array((12_000, 12_000)), np.zeros((12_000, 1)))
lags = units.linearize([0.0])
zeros = np.zeros(50)
narrow = np.ones((2000, 1))

TOO_LARGE = {  # call, size, what to use instead
    "D": (lambda: jb.explicit.activation_jacobian(at.trace, 1), "1.07 GiB", ".factors"),
    "J": (lambda: jb.explicit.input_jacobian(at.trace), "1.07 GiB", "linearize(net, x).factors"),
    "aᵀ ⊗ I": (
        lambda: jb.explicit.preactivation_weight_jacobian(at.trace, 1),
        "322 GiB",
        "linearize(net, x).weight_jacobian(1)",
    ),
    "dH/dW": (
        lambda: jb.explicit.weight_jacobian(at.trace, 1),
        "322 GiB",
        "linearize(net, x).weight_jacobian(1)",
    ),
    "dH/db": (lambda: jb.explicit.bias_jacobian(at.trace, 1), "1.07 GiB", ".factors"),
    "dH/dtheta": (
        lambda: jb.explicit.parameter_jacobian(at.trace),
        "322 GiB",
        "linearize(net, x).weight_jacobian(1)",
    ),
    "gradients": (
        lambda: jb.explicit.gradients(wide, np.zeros(300), zeros, squared),
        "1.07 GiB",
        "linearize(net, x).factors",
    ),
    "h ⊗ I": (
        lambda: jb.conventions.weight_row_by_kronecker(narrow, narrow.T),
        "59.6 GiB",
        "Use product(h, D_a)",
    ),
    "weight map": (weight.to_dense, "1.34 GiB", "@ and .to_scipy() multiply without it"),
    "parameter map": (parameter.to_dense, "1.57 GiB", "@ and .to_scipy() multiply without it"),
    "identity": (jb.Identity(10**6).to_dense, "7.28 TiB", "@ and .to_scipy() multiply"),
    "diagonal": (slopes.to_dense, "1.07 GiB", "@ and .to_scipy() multiply"),
    "commutation": (jb.Commutation(1000, 2000).to_dense, "29.1 TiB", "@ and .to_scipy()"),
    "duplication": (jb.Duplication(1000).to_dense, "3.64 TiB", "@ and .to_scipy() multiply"),
    "transposed": (jb.Elimination(1000).T.to_dense, "3.64 TiB", "@ and .to_scipy() multiply"),
    "partial product": (inner.to_dense, "1.07 GiB", "multiply_out in another order"),
    "second partial product": (
        jb.Product([np.ones((12_000, 1)), np.ones((1, 12_000)), np.ones((12_000, 1))]).to_dense,
        "1.07 GiB",
        "multiply_out in another order",
    ),
    "part of a product": (
        jb.Product([np.ones((1, 12_000)), slopes]).to_dense,
        "1.07 GiB",
        "Diagonal 12000x12000 float64",
    ),
    "units": (lags.total_derivative, "1.07 GiB", "Use backprop, which needs no matrix"),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_does_not_fit_is_refused_at_once_and_before_anything_is_allocated(case):
    """With its size and what to use instead, in under a millisecond and 64 KiB."""
    call, size, way_out = TOO_LARGE[case]
    fastest = np.inf
    for _ in range(5):  # the machine may be busy: the fastest run shows what it takes
        start = time.perf_counter()
        with pytest.raises(jb.TooLargeError) as caught:
            call()
        fastest = min(fastest, time.perf_counter() - start)
    assert f"the dense form takes {size}, over the limit of 1 GiB" in str(caught.value)
    assert way_out in str(caught.value)
    assert fastest < 1e-3
    tracemalloc.start()
    try:
        with pytest.raises(jb.TooLargeError):
            call()
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


# --- the guard itself -----------------------------------------------------------------------------


def test_the_guard_notices_an_array_that_is_changed_also_when_the_call_raises():
    def spoil(array, fail, out=None):
        array[...] = 0.0
        if fail:
            raise ValueError("after the deed")

    for fail in (False, True):
        with pytest.raises(AssertionError, match="spoil changed an array of its caller"):
            guard.guarded(spoil)(np.ones(2), fail)
    with pytest.raises(AssertionError, match="changed"):
        guard.guarded(lambda pair: pair[0].fill(0.0))([np.ones(2)])


def test_the_guard_lets_out_be_written_and_flags_raise():
    out = np.ones(2)
    guard.guarded(lambda out: out.fill(0.0))(out=out)
    assert not out.any()
    tiny = np.array([1e-200])
    for operation, flag in ((lambda: tiny * tiny, "underflow"), (lambda: 1 / (0 * tiny), "divide")):
        with pytest.raises(FloatingPointError, match=flag):
            guard.guarded(operation)()
    assert np.geterr()["under"] == "ignore"


def test_every_function_of_the_face_is_guarded():
    for home in guard.HOMES:
        for name in getattr(home, "__all__", vars(home)):
            thing = getattr(home, name)
            ours = getattr(thing, "__module__", "").startswith("jacobians")
            if ours and not isinstance(thing, type) and callable(thing) and name[0] != "_":
                assert thing.__wrapped__, name
