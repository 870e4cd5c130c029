"""Bad input: every message has a test; nothing is changed, kept or broadcast on the way."""

import hashlib

import numpy as np
import pytest
import scipy.sparse
from zoo import NETWORKS, points

import jacobians as jb
from jacobians.maps import Substitution, Sum

net = jb.Network.random([3, 5, 2], seed=0)
good = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def refuse(error, message):
    return pytest.raises(error, match=message)


def certify_at_a_point(x):
    return jb.certify(net, x)


entry_points = pytest.mark.parametrize(
    ("name", "entry_point"),
    [
        ("Network", lambda X: net(X)),
        ("jacobian", lambda X: jb.jacobian(net, X)),
        ("value_and_jacobian", lambda X: jb.value_and_jacobian(net, X)),
        ("trace", lambda X: jb.trace(net, X)),
        ("trace", lambda X: jb.linearize(net, X)),
        ("jacobian_with_bound", lambda X: jb.jacobian_with_bound(net, X)),
        ("sensitivity", lambda X: jb.sensitivity(net, X)),
        ("trace", certify_at_a_point),
    ],
)


@entry_points
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((2, 4)), jb.ShapeError, r"shape \(3,\) or a batch of shape \(B, 3\), but got"),
        (np.zeros((2, 3, 1)), jb.ShapeError, r"but got \(2, 3, 1\)"),
        (np.float64(1.0), jb.ShapeError, r"but got \(\)"),
        ([[1.0, 2.0], [3.0]], jb.ShapeError, "rows of different lengths"),
        ([1.0, np.nan, 3.0], jb.NotFiniteError, r"X\[1\] is nan. Every entry must be finite"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0, -np.inf]], jb.NotFiniteError, r"X\[1, 2\] is -inf"),
        ([True, False, True], TypeError, "not truth values"),
        (np.ones(3, complex), TypeError, "expected real numbers"),
        (np.ones(3, np.longdouble), TypeError, r"convert with .astype\(np.float64\)"),
        (["a", "b", "c"], TypeError, "expected real numbers, but got dtype <U1"),
        (np.array([1, None, 3], dtype=object), TypeError, "dtype object"),
        (np.array(["2020-01-01"] * 3, "M8[D]"), TypeError, "expected real numbers"),
        (scipy.sparse.eye_array(3), TypeError, r"got a sparse one; use .toarray\(\)"),
        (np.ma.masked_array(np.ones(3), [0, 1, 0]), TypeError, "masked entries have no value"),
    ],
)
def test_bad_points_are_refused_everywhere(name, entry_point, value, error, message):
    with refuse(error, message) as caught:
        entry_point(value)
    assert str(caught.value).startswith(f"{name}: X")


@entry_points
def test_unusual_but_good_points_are_taken(name, entry_point):
    """Lists, integers, F-order, negative strides, read-only, broadcast views, memory maps."""
    locked = good.copy()
    locked.flags.writeable = False
    for value in (
        good.tolist(),
        good.astype(int),
        good.astype(np.float16),
        np.asfortranarray(good),
        good[::-1][::-1],
        np.broadcast_to(good[:1], (2, 3)),
        locked,
        np.ma.masked_array(good, False),
    ):
        entry_point(value[0] if entry_point is certify_at_a_point else value)


@pytest.mark.parametrize("case", ["jacobian", "gradients", "certify", "trace", "failing"])
def test_arrays_of_the_caller_are_never_changed(case):
    X, Y = good.copy(), np.ones((2, 2))
    before = [hashlib.sha256(a.tobytes()).hexdigest() for a in (X, Y)]
    if case == "jacobian":
        jb.jacobian(net, X)
    elif case == "gradients":
        jb.backprop.gradients(net, X, Y, jb.SquaredError(), 0.5)
        jb.explicit.gradients(net, X, Y, jb.SquaredError(), 0.5)
    elif case == "certify":
        jb.certify(net, X[0])
    elif case == "trace":
        jb.trace(net, X).kinks()
    else:
        with pytest.raises(jb.ShapeError):
            jb.backprop.gradients(net, X, Y[:1], jb.SquaredError())
    assert [hashlib.sha256(a.tobytes()).hexdigest() for a in (X, Y)] == before
    assert X.flags.writeable


def test_arrays_of_the_caller_are_never_kept():
    W, b, x = np.ones((2, 3)), np.zeros(2), np.ones(3)
    layer = jb.Dense(W, b, "tanh")
    own = jb.Network([layer, jb.Scale(b + 1, b)])
    seen, A = jb.trace(own, x), jb.Matrix(W)
    before = own(np.ones(3)), seen.activation(0).copy(), A.to_dense()
    W[...], b[...], x[...] = 7.0, 7.0, 7.0
    after = own(np.ones(3)), seen.activation(0), A.to_dense()
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old, new)


def test_what_is_handed_out_is_read_only_or_new():
    seen = jb.trace(net, good)
    for array in (*seen.preactivations, *seen.activations, net.layers[0].W, net.layers[0].b):
        with refuse(ValueError, "read-only"):
            array[...] = 0
    J = jb.jacobian(net, good)
    J[...] = 0
    assert not np.array_equal(jb.jacobian(net, good), J)


@pytest.mark.parametrize("layer", [net.layers[0], net])
def test_layers_and_networks_are_immutable(layer):
    with pytest.raises(AttributeError):
        layer.dtype = np.float32


# --- layers and networks --------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [[-1], [0, -1], [-1, 0], [2], [0, 2], [1.0], [[0]], [], [True]])
@pytest.mark.parametrize("name", ["rows", "columns"])
def test_what_is_no_row_or_column_is_refused(chosen, name):
    """Negative numbers too, wherever in the list they stand: they are not counted from the end."""
    other = jb.Network.random([2, 3, 2], "tanh", seed=0)
    verbs = [jb.jacobian, jb.value_and_jacobian] + [jb.hessian] * (name == "rows")
    for verb in verbs:
        for x in ([0.1, 0.2], [[0.1, 0.2]]):
            with pytest.raises(ValueError, match=rf": {name}: expected "):
                verb(other, x, **{name: chosen})


ARRAYS = {
    jb.Dense: {"W": np.ones((2, 3)), "b": np.ones(2)},
    jb.Convolution: {"K": np.ones((4, 1, 2)), "b": np.ones(4)},
    jb.TransposedConvolution: {"K": np.ones((2, 3, 2)), "b": np.ones(3)},
    jb.Scale: {"scale": np.ones(3), "shift": np.ones(3)},
    jb.LayerNorm: {"scale": np.ones(3), "shift": np.ones(3)},
    jb.RMSNorm: {"scale": np.ones(3)},
}
SPOILT = {
    "a number": (lambda a: a.ravel()[0], jb.ShapeError),
    "an axis more": (
        lambda a: a[..., None] if a.ndim < 3 else a[..., None, None, None],
        jb.ShapeError,
    ),
    "nothing": (lambda a: a[:0], jb.ShapeError),
    "not a number": (
        lambda a: np.where(np.arange(a.size).reshape(a.shape), a, np.nan),
        jb.NotFiniteError,
    ),
    "text": (lambda a: a.astype(str), TypeError),
    "complex": (lambda a: a + 1j, TypeError),
}
EACH = [(kind, name) for kind, arrays in ARRAYS.items() for name in arrays]


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize(("kind", "name"), EACH, ids=lambda v: getattr(v, "__name__", v))
def test_every_array_of_a_layer_is_looked_at(kind, name, spoilt):
    """And the error says which one it is."""
    spoil, error = SPOILT[spoilt]
    wrong = ARRAYS[kind] | {name: spoil(ARRAYS[kind][name])}
    with pytest.raises(error, match=rf"^{kind.__name__}: {name}(: |\[)"):
        kind(**wrong)


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, name in EACH if name in ("b", "shift")]
)
def test_what_is_added_has_an_entry_for_every_entry(kind, name, change):
    good = ARRAYS[kind][name]
    wrong = np.ones(len(good) + change)
    with pytest.raises(
        jb.ShapeError, match=rf"^{kind.__name__}: {name}: expected shape \({len(good)},\)"
    ):
        kind(**ARRAYS[kind] | {name: wrong})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jb.Dense(np.ones(3)), jb.ShapeError, r"Dense: W: expected a matrix"),
        (lambda: jb.Dense(np.ones((0, 3))), jb.ShapeError, r"needs inputs and outputs"),
        (
            lambda: jb.Dense(np.ones((2, 3)), np.ones((2, 1))),
            jb.ShapeError,
            r"\(2,\), but got \(2, 1\)",
        ),
        (lambda: jb.Dense([[np.inf]]), jb.NotFiniteError, r"Dense: W\[0, 0\] is inf"),
        (lambda: jb.Dense([[1.0]], [np.nan]), jb.NotFiniteError, r"Dense: b\[0\] is nan"),
        (
            lambda: jb.Dense([[1.0]], activation="tahn"),
            ValueError,
            "'tahn' is not known; there are",
        ),
        (lambda: jb.Scale([[1.0]]), jb.ShapeError, "one factor per entry"),
        (lambda: jb.Scale([]), jb.ShapeError, "needs inputs"),
        (
            lambda: jb.Scale([1.0, 2.0], [1.0]),
            jb.ShapeError,
            r"Scale: shift: expected shape \(2,\)",
        ),
        (lambda: jb.Network([]), ValueError, "at least one layer"),
        (lambda: jb.Network(3), TypeError, "expected layers, but got 3"),
        (lambda: jb.Network(["tanh"]), TypeError, "layer 1: expected a Layer, but got 'tanh'"),
        (
            lambda: jb.Network([jb.Dense(np.ones((4, 2))), jb.Dense(np.ones((3, 5)))]),
            jb.ShapeError,
            r"layer 2 \(Dense 5 -> 3 identity\) takes 5 inputs, but layer 1 gives 4",
        ),
        (
            lambda: jb.Network([jb.Dense(np.ones((4, 2)))], inputs=3),
            jb.ShapeError,
            r"layer 1 .* takes 2 inputs, but the network gets 3",
        ),
        (lambda: jb.Network([jb.Elementwise("relu")]), jb.ShapeError, "say inputs=n"),
        (
            lambda: jb.Network([jb.Dense(np.ones((2, 2)))], input_names=["a"]),
            jb.ShapeError,
            "input_names: expected 2 names, but got 1",
        ),
        (lambda: jb.Network.random([3]), ValueError, "at least two"),
        (lambda: jb.Network.random([3, 0, 1]), ValueError, "at least 1, but got 0"),
        (lambda: jb.Network.random([3, 2.5]), TypeError, "whole number, but got 2.5"),
        (lambda: net.astype(int), TypeError, "expected float32 or float64"),
        (lambda: net.with_parameters(np.ones(3)), jb.ShapeError, "with_parameters"),
        (
            lambda: jb.Network([jb.Dense([[1e300]])]).astype(np.float32),
            jb.NotFiniteError,
            r"W\[0, 0\] is 1e\+300, which does not fit in float32",
        ),
    ],
)
def test_bad_layers_and_networks_are_refused(make, error, message):
    with refuse(error, message):
        make()


def test_values_out_of_range_name_the_layer():
    growing = jb.Network([jb.Dense([[1e3]], activation="exp"), jb.Dense([[1.0]])])
    with refuse(
        jb.NotFiniteError, r"a\^1 of Dense 1 -> 1 exp leaves the range of float64 at unit 0"
    ):
        jb.trace(growing, [1.0])
    with refuse(jb.NotFiniteError, "output leaves the range of float64"):
        growing([1.0])
    with refuse(jb.NotFiniteError, r"X\[0\] is 1e\+300, which does not fit in float32"):
        jb.jacobian(growing.astype(np.float32), [1e300])


def test_two_layers_may_share_one_array():
    W = np.array([[0.5, -1.0], [2.0, 1.5]])
    shared = jb.Network([jb.Dense(W, activation="tanh"), jb.Dense(W)])
    assert np.array_equal(shared.layers[0].W, shared.layers[1].W)
    assert jb.certify(shared, [0.1, 0.2]).holds


# --- layer numbers, traces, linearizations --------------------------------------------------------

lin = jb.linearize(net, good[0])
batch = jb.linearize(net, good)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lin.trace.activation(3), ValueError, "from 0 to 2, got 3"),
        (lambda: lin.trace.activation(-1), ValueError, "from 0 to 2, got -1"),
        (lambda: lin.trace.preactivation(0), ValueError, "from 1 to 2, got 0"),
        (lambda: lin.trace.activation(1.0), TypeError, "whole number, but got 1.0"),
        (lambda: lin.trace.activation(True), TypeError, "whole number, but got True"),
        (lambda: lin.trace.point(0), ValueError, "trace of one point already"),
        (lambda: lin.jacobian(of=1, wrt=2), ValueError, "wrt: expected a layer number from 0 to 1"),
        (lambda: lin.jvp(np.ones(2)), jb.ShapeError, r"jvp: tangent: expected shape \(3,\)"),
        (lambda: lin.vjp(np.ones((2, 1))), jb.ShapeError, r"vjp: cotangent: expected shape \(2,\)"),
        (lambda: batch.jvp(np.ones(3)), jb.ShapeError, r"expected shape \(2, 3\)"),
        (lambda: lin.weight_jacobian(3), ValueError, "weight_jacobian: l: expected a layer number"),
        (lambda: jb.linearize(NETWORKS["linear"], lin.trace), ValueError, "another network"),
        (
            lambda: jb.explicit.input_jacobian(batch.trace),
            jb.ShapeError,
            r"explicit view shows one point, but the trace holds 2. Use trace.point\(i\)",
        ),
        (lambda: jb.explicit.activation_jacobian(lin.trace, 0), ValueError, "from 1 to 2, got 0"),
        (lambda: jb.certify(net, good), jb.ShapeError, "expected one point, but got 2"),
        (
            lambda: jb.jacobian(net, good, of=3),
            ValueError,
            "of: expected a layer number from 0 to 2",
        ),
    ],
)
def test_bad_requests_are_refused(call, error, message):
    with refuse(error, message):
        call()


def test_layers_without_a_weight_matrix_say_so():
    mixed = NETWORKS["scales and elementwise layers"]
    seen = jb.linearize(mixed, points(mixed, 1)[0])
    with refuse(TypeError, r"layer 1 \(Scale 5\) has no weight matrix"):
        seen.weight_jacobian(1)
    with refuse(TypeError, r"layer 3 \(Elementwise sin\) has no weight matrix"):
        jb.explicit.preactivation_weight_jacobian(seen.trace, 3)
    bare = jb.linearize(jb.Network([jb.Scale([2.0])]), [1.0])
    for view in (bare.parameter_jacobian, lambda: jb.explicit.parameter_jacobian(bare.trace)):
        with refuse(TypeError, "has no parameters"):
            view()


def test_explicit_matrices_that_do_not_fit_are_refused_with_their_size():
    wide = jb.Network([jb.Dense(np.zeros((2000, 3000)), activation="tanh")])
    seen = jb.trace(wide, np.zeros(3000))
    with refuse(
        jb.TooLargeError, r"dz\^1/dvec\(W\^1\): the dense form takes 89.4 GiB.*weight_jacobian"
    ):
        jb.explicit.preactivation_weight_jacobian(seen, 1)
    with jb.dense_limit(10**6), refuse(jb.TooLargeError, r"D\^1: the dense form takes 30.5 MiB"):
        jb.explicit.activation_jacobian(seen, 1)
    with jb.dense_limit(10**6), refuse(jb.TooLargeError, "Keep .chain"):
        jb.linearize(wide, seen).jacobian()


def test_a_partial_product_larger_than_its_factors_is_refused():
    """From 300 to 1 to 200 is 200 x 300, and no factor or slope is."""
    net = jb.Network.random([300, 1, 200, 2], seed=0)
    seen = jb.trace(net, np.zeros(300))
    with jb.dense_limit(8 * (200 * 300 - 1)), refuse(jb.TooLargeError, r"da\^2/da\^0"):
        jb.explicit.input_jacobian(seen)
    with jb.dense_limit(8 * 300 * 300):  # and the identity that it begins with
        assert jb.explicit.input_jacobian(seen).shape == (2, 300)


GROWING = jb.trace(jb.Network.random([2, 3, 4, 9], "tanh", seed=0), [0.1, 0.2])
OF_ITS_OWN_SIZE = {  # of all matrices that are written for it the result is the largest
    "activation_jacobian": lambda: jb.explicit.activation_jacobian(GROWING, 3),
    "layer_jacobian": lambda: jb.explicit.layer_jacobian(GROWING, 2),
    "block_matrix": lambda: jb.explicit.block_matrix(GROWING),
    "preactivation_jacobian": lambda: jb.explicit.preactivation_jacobian(GROWING, 3),
    "preactivation_weight_jacobian": lambda: jb.explicit.preactivation_weight_jacobian(GROWING, 3),
    "preactivation_parameter_jacobian": lambda: jb.explicit.preactivation_parameter_jacobian(
        GROWING, 3, "W"
    ),
    "weight_jacobian": lambda: jb.explicit.weight_jacobian(GROWING, 2),
    "weight_jacobian of the last": lambda: jb.explicit.weight_jacobian(GROWING, 3),
    "parameter_jacobian": lambda: jb.explicit.parameter_jacobian(GROWING),
}


@pytest.mark.parametrize("name", OF_ITS_OWN_SIZE)
def test_an_explicit_matrix_that_fits_to_the_last_byte_is_written_and_no_larger_one(name):
    write = OF_ITS_OWN_SIZE[name]
    size = write().nbytes
    with jb.dense_limit(size):
        assert write().nbytes == size
    with jb.dense_limit(size - 1), refuse(jb.TooLargeError, "explicit: "):
        write()


@pytest.mark.parametrize(("widths", "size"), [([2, 3, 9], 9 * 27), ([9, 3, 2], 3 * 27)])
def test_explicit_gradients_are_refused_by_the_largest_matrix_of_a_weight(widths, size):
    """dz^2/dvec(W^2) of the last layer, or dz^1/dvec(W^1) of the first."""
    net = jb.Network.random(widths, "tanh", seed=0)
    ask = (net, np.full(widths[0], 0.1), np.zeros(widths[-1]), jb.SquaredError())
    with jb.dense_limit(8 * size):
        jb.explicit.gradients(*ask)
    with jb.dense_limit(8 * size - 1), refuse(jb.TooLargeError, r"explicit: d[zH]"):
        jb.explicit.gradients(*ask)


@pytest.mark.parametrize("l", [1, 2, 3])
def test_an_explicit_matrix_of_any_layer_is_refused_before_others_are_written(l):
    """Wherever the wide layer is: D^l, da^l/da^0, and what belongs to its weights."""
    widths = [2, 3, 4, 5]
    widths[l] = 400
    net = jb.Network.random(widths, seed=0)
    seen = jb.trace(net, [0.1, 0.2])
    fits = [k for k in (1, 2, 3) if l not in (k, k - 1)]
    with jb.dense_limit(50 * 400 * 8):
        with refuse(jb.TooLargeError, rf"explicit: D\^{l}: the dense form takes 1.22 MiB"):
            jb.explicit.input_jacobian(seen)
        with refuse(jb.TooLargeError, rf"explicit: D\^{l}"):
            jb.explicit.gradients(net, [0.1, 0.2], seen.output, jb.SquaredError())
        with refuse(jb.TooLargeError, rf"dz\^{l}/dvec\(W\^{l}\)"):
            jb.explicit.weight_jacobian(seen, l)
        with refuse(jb.TooLargeError, rf"dz\^{l}/dvec\(W\^{l}\)"):
            jb.explicit.parameter_jacobian(seen)
        for k in fits:
            jb.explicit.preactivation_weight_jacobian(seen, k)
        assert jb.explicit.input_jacobian(seen, of=l - 1).shape == (widths[l - 1], 2)
    with jb.dense_limit(400 * 399 * 8), refuse(jb.TooLargeError, rf"explicit: D\^{l}"):
        jb.explicit.activation_jacobian(seen, l)


# --- maps -----------------------------------------------------------------------------------------

A = jb.Matrix(np.ones((2, 3)))
stack = jb.Matrix(np.ones((4, 2, 3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: A @ np.ones(2),
            jb.ShapeError,
            r"expected shape \(3,\) or \(3, k\), but got \(2,\)",
        ),
        (lambda: A @ np.ones((3, 2, 2)), jb.ShapeError, "but got"),
        (lambda: stack @ np.ones((5, 3)), jb.ShapeError, r"\(3, k\), \(4, 3\) or \(4, 3, k\)"),
        (lambda: np.ones(3) @ A, jb.ShapeError, r"expected shape \(2,\) or"),
        (lambda: np.ones((2, 3)) @ A, jb.ShapeError, r"expected shape \(2,\) or \(k, 2\)"),
        (lambda: A @ ["a"] * 3, TypeError, "expected real numbers"),
        (lambda: jb.Matrix([1.0, 2.0]), jb.ShapeError, r"shape \(m, n\) or \(B, m, n\)"),
        (lambda: jb.Diagonal(np.ones((2, 2, 2))), jb.ShapeError, r"shape \(n,\) or \(B, n\)"),
        (
            lambda: jb.DiagonalPlusLowRank(np.ones(3), np.ones((3, 2)), np.ones((3, 1))),
            jb.ShapeError,
            r"got \(3,\), \(3, 2\) and \(3, 1\)",
        ),
        (lambda: jb.Identity(0), ValueError, "at least 1"),
        (lambda: jb.Identity(2, int), TypeError, "expected float32 or float64"),
        (lambda: jb.Commutation(2, -1), ValueError, "Commutation: n: expected at least 1"),
        (lambda: jb.Product([]), ValueError, "at least one factor"),
        (lambda: jb.Product([A, A]), jb.ShapeError, "takes 3 entries, but the factor to its right"),
        (lambda: jb.Product([A, np.ones(3)]), jb.ShapeError, "expected a map or a matrix"),
        (
            lambda: jb.Product([stack, np.ones((5, 3, 2))]),
            jb.ShapeError,
            "same length, but got 4 and 5",
        ),
        (lambda: jb.Kronecker(stack, np.ones((5, 3, 2))), jb.ShapeError, "same length"),
        (lambda: jb.Blocks([stack, np.ones((5, 2, 3))]), jb.ShapeError, "same length"),
        (lambda: jb.Blocks([[stack], [np.ones((5, 2, 3))]]), jb.ShapeError, "same length"),
        (lambda: Sum([stack, np.ones((5, 2, 3))]), jb.ShapeError, "same length"),
        (
            lambda: Substitution([[(0, stack)], [(1, np.ones((5, 3, 2)))]]),
            jb.ShapeError,
            "same length",
        ),
        (lambda: jb.BlockDiagonal(stack, 2, "yes"), TypeError, "BlockDiagonal: stacked"),
        (lambda: jb.BlockDiagonal(stack, 0, True), ValueError, "BlockDiagonal: count"),
        (lambda: Substitution([]), ValueError, "at least one edge into every node"),
        (lambda: Substitution([[(0, A)], []]), ValueError, "at least one edge into every node"),
        (lambda: Substitution([[(1, A)]]), jb.ShapeError, "from node 1 to node 1 does not fit"),
        (
            lambda: Substitution([[(0, np.eye(2)), (1, np.eye(2))]]),
            jb.ShapeError,
            "from node 1 to node 1 does not fit",
        ),
        (lambda: Substitution([[(-1, A)]]), ValueError, "expected at least 0, but got -1"),
        (
            lambda: Substitution([[(0, A)], [(1, A)]]),
            jb.ShapeError,
            "from node 1 to node 2 does not fit",
        ),
        (lambda: jb.Blocks([]), ValueError, "at least one map"),
        (lambda: jb.Blocks([[A, A], [A]]), jb.ShapeError, "row 1 has 1 maps, row 0 has 2"),
        (lambda: jb.Blocks([A, np.ones((3, 3))]), jb.ShapeError, r"block \(0, 1\) must be 2x3"),
        (lambda: stack.to_sparse(), TypeError, "not a stack"),
        (lambda: jb.vec([1, 2]), jb.ShapeError, "vec: expected a matrix"),
        (lambda: jb.unvec([1, 2, 3], (2, 2)), jb.ShapeError, "a 2x2 matrix has 4 entries"),
        (lambda: jb.vech([[1, 2, 3]]), jb.ShapeError, "expected a square matrix"),
        (lambda: jb.dense_limit(0).__enter__(), ValueError, "at least 1"),
    ],
)
def test_bad_maps_and_products_are_refused(call, error, message):
    with refuse(error, message):
        call()


# --- losses and gradients -------------------------------------------------------------------------

sigmoid = jb.Network.random([3, 4, 2], "tanh", "sigmoid", seed=0)
softmax = jb.Network.random([3, 4, 2], "tanh", "softmax", seed=0)


@pytest.mark.parametrize("gradients", [jb.backprop.gradients, jb.explicit.gradients])
@pytest.mark.parametrize(
    ("network", "Y", "loss", "error", "message"),
    [
        (net, np.ones((2, 1)), jb.SquaredError(), jb.ShapeError, r"shape of the output, \(2, 2\)"),
        (net, np.ones(2), jb.SquaredError(), jb.ShapeError, "target: expected the shape"),
        (
            net,
            [[1, np.nan], [0, 0]],
            jb.SquaredError(),
            jb.NotFiniteError,
            r"target\[0, 1\] is nan",
        ),
        (net, np.ones((2, 2)), "squared", TypeError, r"expected SquaredError\(\)"),
        (net, np.ones((2, 2)), jb.BinaryCrossEntropy(), jb.DomainError, "strictly between 0 and 1"),
        *(
            (
                jb.Network([jb.Dense(np.zeros((1, 3)), [value])]),
                np.ones((2, 1)),
                jb.BinaryCrossEntropy(),
                jb.DomainError,
                f"strictly between 0 and 1, but got {value}",
            )
            for value in (0.0, 1.0, -0.5, 1.5)
        ),
        (
            sigmoid,
            2 * np.ones((2, 2)),
            jb.BinaryCrossEntropy(),
            jb.DomainError,
            "from 0 to 1, but got 2",
        ),
        (softmax, [0, 2], jb.CrossEntropy(), jb.DomainError, "labels go from 0 to 1, but got 2"),
        (softmax, [-1, 0], jb.CrossEntropy(), jb.DomainError, "labels go from 0 to 1, but got -1"),
        (softmax, [0, 1, 1], jb.CrossEntropy(), jb.ShapeError, "one label per point"),
        (net, [[1.0, 0.0]] * 2, jb.CrossEntropy(), jb.DomainError, "positive probability"),
    ],
)
def test_bad_targets_and_losses_are_refused(gradients, network, Y, loss, error, message):
    with refuse(error, message):
        gradients(network, good, Y, loss)


@pytest.mark.parametrize("gradients", [jb.backprop.gradients, jb.explicit.gradients])
@pytest.mark.parametrize("l2", [-1.0, np.nan, [1.0], "1"])
def test_bad_penalties_are_refused(gradients, l2):
    with refuse((ValueError, TypeError), "l2"):
        gradients(net, good, np.ones((2, 2)), jb.SquaredError(), l2)


def test_saturated_sigmoid_is_harmless_when_fused_and_refused_when_not():
    """sigmoid(800) rounds to 1; the fused pair still knows the loss and the slope."""
    one = jb.Network([jb.Dense([[1.0]], activation="sigmoid")])
    right = jb.backprop.gradients(one, [800.0], [1.0], jb.BinaryCrossEntropy())
    wrong = jb.backprop.gradients(one, [800.0], [0.0], jb.BinaryCrossEntropy())
    assert (right.loss, right.inputs[0]) == (0.0, 0.0)
    assert (wrong.loss, wrong.inputs[0]) == (800.0, 1.0)
    nearly = jb.backprop.gradients(one, [40.0], [1.0], jb.BinaryCrossEntropy())
    # a few roundings; sigmoid(40) - 1 would be 0
    assert abs(nearly.deltas[0][0] / -np.exp(-40.0) - 1) < 1e-14
    with refuse(jb.DomainError, "a saturated sigmoid needs fuse=True"):
        jb.backprop.gradients(one, [800.0], [1.0], jb.BinaryCrossEntropy(fuse=False))


def test_saturated_softmax_keeps_its_digits_when_fused():
    """p = 1 - e^-50: the gradient is e^-50, where p - 1 would be 0."""
    two = jb.Network([jb.Dense([[50.0], [0.0]], activation="softmax")])
    g = jb.backprop.gradients(two, [1.0], [1.0, 0.0], jb.CrossEntropy())
    assert abs(g.loss / np.exp(-50.0) - 1) < 1e-14  # a few ulps
    assert abs(g.deltas[0][0] / -np.exp(-50.0) - 1) < 1e-14  # and here
