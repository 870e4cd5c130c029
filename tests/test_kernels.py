"""The compiled kernel: activations, tapes against NumPy, bits, and what it leaves to NumPy.

Without the kernel, only what is said of it is tested.
"""

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from activation_references import CASES, GOALS, errors, goal, mesh, reference
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians import _kernels
from jacobians._checks import NotFiniteError, ShapeError
from jacobians._kernels import PROCESSORS, Tape, code_of, packing

DTYPES = (np.float32, np.float64)
built = pytest.mark.skipif(not PROCESSORS, reason="the kernel was not built, or is turned off")


def activated(sigma, z, processor=None):
    """Return sigma and sigma' of a row of numbers, by the kernel."""
    tape = Tape(z.dtype, processor)
    x = tape.read(1, len(z))
    outside = [tape.written(1, len(z)) for _ in range(2)]
    for made, into in zip(tape.activation(tape.scaling(x), sigma), outside, strict=True):
        tape.scaling(made, into=into)
    results = [np.empty_like(z), np.empty_like(z)]
    tape.pack().run(z, *results)
    return results


# --- activations ----------------------------------------------------------------------------------


@built
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "parameters"),
    [(n, p) for n, p in CASES if n != "identity" and code_of(jb.activation(n, **p)) is not None],
    ids=str,
)
def test_every_hard_input_is_right_to_a_few_ulps(name, parameters, dtype):
    """On kinks, zeros, saturation, subnormals, the largest: |computed - true| <= goal ulps."""
    sigma, z = jb.activation(name, **parameters), mesh(name, dtype)
    formulas = reference(name, dict(sigma.parameters), dtype)
    for processor in PROCESSORS:
        computed = activated(sigma, z, processor)
        for role, values, formula in zip(GOALS, computed, formulas, strict=False):
            ulps = errors(lambda _, values=values: values, formula, z)
            worst = ulps.argmax()
            assert ulps[worst] <= goal(role, name, dtype), (processor, role, z[worst])


@built
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("transposed", [False, True])
def test_softmax_and_its_jacobian(name, transposed):
    sigma, z = jb.activation(name), np.array([[1.0, 800.0, 799.0, -30.0, 2.0]])
    tape = Tape(z.dtype)
    x, p, J = tape.read(1, 5), tape.written(1, 5), tape.written(5, 5)
    made = tape.softmax(tape.scaling(x), log=name != "softmax", transposed=transposed)
    for value, into in zip(made, (p, J), strict=True):
        tape.scaling(value, into=into)
    results = np.empty(5), np.empty((5, 5))
    assert tape.pack().run(z, *results)
    # exponentials good to a few units each, and sums of five
    np.testing.assert_allclose(results[0], sigma(z[0]), rtol=1e-13)
    expected = sigma.matrix(z[0])
    np.testing.assert_allclose(results[1], expected.T if transposed else expected, rtol=1e-13)


# --- tapes, drawn at random, against NumPy --------------------------------------------------------


class Twin:
    """A tape beside the same steps in NumPy, in float64, with the size of what was added up."""

    def __init__(self, data, dtype, points, processor):
        self.data, self.points, self.tape = data, points, Tape(dtype, processor)
        self.rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        self.values, self.arrays = [], []
        for _ in range(data.draw(st.integers(1, 3))):
            shape = data.draw(st.sampled_from([(1, 1), (1, 7), (3, 5), (7, 13), (1, 40)]))
            self.arrays.append(self.numbers((points, *shape)))
            self.values.append((self.tape.read(*shape), self.arrays[-1].astype(float)))

    def numbers(self, shape):
        """Return integers, of which products and sums are exact, some of them 0."""
        return self.rng.integers(-2, 3, shape).astype(self.tape.dtype)

    def constant(self, *shape):
        """Declare a constant."""
        array = self.numbers(shape)
        return self.tape.constant(array), np.atleast_2d(array.astype(float))

    def pick(self, fits=lambda value: True):
        """Return one of the values so far that fits, or None."""
        fitting = [pair for pair in self.values if fits(pair[0])]
        return self.data.draw(st.sampled_from(fitting)) if fitting else None

    def step(self):
        """Add one step that fits what is there."""
        a, A = self.pick()
        n = self.data.draw(st.sampled_from([1, 2, 9, 16, 33, 70]))
        kinds = ["product", "table", "scaling", "relu", "congruence"]
        kind = self.data.draw(st.sampled_from(kinds))
        if kind == "table" and a.rows == 1:
            table, T = self.constant(a.columns, 3, n)
            tight = self.data.draw(st.booleans())
            made = self.tape.product(a, table, tight=tight), np.einsum("bok,kmn->bmn", A, T)
        elif kind == "scaling":
            by_rows = self.data.draw(st.booleans())
            length = a.rows if by_rows else a.columns
            column = self.pick(lambda v: (v.rows, v.columns) == (1, length))
            d, D = column or self.constant(length)
            D = np.swapaxes(D, -1, -2) if by_rows else D
            made = self.tape.scaling(a, d, by_rows=by_rows, add=a), A + A * D
        elif kind == "congruence":
            a, w = self.tape.scaling(a), self.pick(lambda v: v.columns == a.rows)
            w, W = (self.tape.scaling(w[0]), w[1]) if w else self.constant(2, a.rows)
            made = (
                self.tape.congruence(a, w),
                np.einsum("bki,bok,bkj->boij", A, W + 0 * A[:, :1, :1], A),
            )
            made = made[0], made[1].reshape(self.points, -1, A.shape[-1])
        elif kind == "relu":
            inside = self.tape.scaling(a)
            value, slopes = self.tape.activation(inside, "relu")
            self.values.append((slopes, (A > 0).astype(float)))
            made = value, np.maximum(A, 0)
        else:
            made = self.product(a, A, n)
        if np.abs(made[1]).max(initial=0) < 2**20:  # beyond, float32 would round
            self.values.append(made)

    def product(self, a, A, n):
        """Multiply, with all that a product can do besides."""
        inside = self.pick(lambda v: v.rows == a.columns and v not in self.tape.outside)
        b, B = inside or self.constant(a.columns, n)
        options = {}
        S = 1.0
        live = self.pick(lambda v: (v.rows, v.columns) == (1, a.columns))
        if live:
            options["live"], D = live
            a, A = self.tape.scaling(a, live[0]), A * D
        scale = self.pick(lambda v: (v.rows, v.columns) == (1, b.columns))
        if scale and scale[0] not in self.tape.outside:
            options["scale"], S = scale
        bias, C = self.constant(b.columns)
        return self.tape.product(a, b, add=bias, **options), (C + A @ B) * S

    def run(self, cut):
        """Return the last value by the kernel, in pieces of some points, and by NumPy."""
        last, expected = self.values[-1]
        into = self.tape.written(last.rows, last.columns)
        self.tape.scaling(last, into=into)
        out = np.empty((self.points, last.rows, last.columns), self.tape.dtype)
        program = self.tape.pack()
        for start in range(0, self.points, cut):
            where = slice(start, start + cut)
            assert program.run(*(array[where] for array in self.arrays), out[where])
        return out, np.broadcast_to(expected, out.shape)


@built
@given(data=st.data())
def test_a_tape_gives_what_numpy_gives(data):
    """Exactly, as the numbers are small integers; on every processor, in any pieces."""
    points = data.draw(st.sampled_from([1, 2, 7, 30]))
    processor = data.draw(st.sampled_from(PROCESSORS))
    twin = Twin(data, data.draw(st.sampled_from(DTYPES)), points, processor)
    for _ in range(data.draw(st.integers(1, 6))):
        twin.step()
    computed, expected = twin.run(data.draw(st.integers(1, points)))
    np.testing.assert_array_equal(computed, expected)


@built
@pytest.mark.parametrize("n", [5, 14, 70])
def test_tight_rows_are_scaled_into_padded_ones(n):
    """The result does not lie over its operand, whose rows begin elsewhere."""
    tape, rng = Tape(np.float32), np.random.default_rng(n)
    D, T, S = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((4, 6), (6, 5, n), 5))
    rows = tape.product(tape.read(1, 6), tape.constant(T), tight=True)
    tape.scaling(tape.scaling(rows, tape.constant(S), by_rows=True), into=tape.written(5, n))
    out = np.empty((4, 5, n), np.float32)
    assert tape.pack().run(D, out)
    np.testing.assert_array_equal(out, np.einsum("bk,kmn->bmn", D, T) * S[:, None])


# --- programs of the engine -----------------------------------------------------------------------

NAMES = ("relu", "tanh", "gelu", "elu", "softmax", "square")


@st.composite
def networks(draw):
    """Draw a network that the kernel takes whole."""
    widths = draw(st.lists(st.sampled_from([1, 2, 5, 17, 40]), min_size=2, max_size=5))
    name, last = draw(st.sampled_from(NAMES)), draw(st.sampled_from(["identity", *NAMES]))
    dtype = draw(st.sampled_from(DTYPES))
    return jb.Network.random(widths, name, last, seed=draw(st.integers(0, 99)), dtype=dtype)


@built
@given(net=networks(), data=st.data())
def test_the_kernel_is_within_the_bound_and_its_bits_are_those_of_any_cut(net, data):
    """|J - J'| <= the bounds of both, and J[i] does not depend on the points beside it."""
    points = data.draw(st.integers(1, 20))
    X = np.random.default_rng(points).standard_normal((points, net.widths[0])).astype(net.dtype)
    planned = jb.plan(net, points)
    assert planned.kernels
    value, J = jb.value_and_jacobian(net, X, plan=planned)
    with_numpy = jb.value_and_jacobian(net, X, plan=jb.plan(net, points, kernels=False))
    _, bound = jb.jacobian_with_bound(net, X)
    D = 64 * np.finfo(net.dtype).eps * (1 + np.abs(J).max(initial=0))  # D itself differs
    assert (np.abs(J - with_numpy[1]) <= 2 * bound + net.depth * D).all()
    # activations differ by a few units of the last place, and every layer passes them on
    allowed = 1e4 * np.finfo(net.dtype).eps * (1 + np.abs(value).max(initial=0))
    np.testing.assert_allclose(value, with_numpy[0], rtol=0, atol=allowed)
    for i in range(points):
        alone = jb.value_and_jacobian(net, X[i])
        assert alone[0].tobytes() == value[i].tobytes()
        assert alone[1].tobytes() == J[i].tobytes()
    two = jb.jacobian(net, X, plan=jb.plan(net, points, threads=2))
    assert two.tobytes() == J.tobytes()


@built
@given(net=networks())
def test_sweeps_are_products_with_the_jacobian(net):
    rng = np.random.default_rng(0)
    X, V = rng.standard_normal((2, 7, net.widths[0]))
    C = rng.standard_normal((7, net.widths[-1]))
    J, dtype = jb.jacobian(net, X).astype(float), net.dtype
    # slopes of another loop differ by a few units of the last place, and every layer passes them on
    allowed = 1e4 * np.finfo(dtype).eps * (1 + np.abs(J).max())
    pushed, pulled = np.einsum("bmn,bn->bm", J, V), np.einsum("bmn,bm->bn", J, C)
    np.testing.assert_allclose(jb.jvp(net, X, V), pushed, atol=allowed, rtol=0)
    np.testing.assert_allclose(jb.vjp(net, X, C), pulled, atol=allowed, rtol=0)


LOSSES = {"sigmoid": jb.BinaryCrossEntropy(), "softmax": jb.CrossEntropy()}


@st.composite
def training_problems(draw):
    """Draw a problem of which the kernel takes all, with branches or without."""
    net = draw(networks())
    last = draw(st.sampled_from(["identity", "tanh", "sigmoid", "softmax", "log_softmax"]))
    first = jb.Dense(net.layers[0].W, net.layers[0].b, net.layers[0].activation)
    n = len(first.b)
    block = [jb.Dense(np.eye(n)[::-1], activation="tanh"), jb.Dense(np.full((n, n), 0.1))]
    scale = jb.Scale(np.linspace(-1, 1, n), np.ones(n))
    layers = [first, jb.Residual(block), scale, jb.Elementwise("tanh"), jb.Dense(np.ones((3, n)))]
    layers[-1] = jb.Dense(np.arange(3.0 * n).reshape(3, n) % 5 / n, activation=last)
    net = jb.Network(layers).astype(net.dtype) if draw(st.booleans()) else net
    B = draw(st.sampled_from([1, 2, 7, 300]))
    rng = np.random.default_rng(B)
    X, Y = rng.standard_normal((B, net.widths[0])), rng.random((B, net.widths[-1]))
    return net, X.astype(net.dtype), Y.astype(net.dtype)


@contextmanager
def cut_in(pieces, threads):
    """Cut the points of gradients into so many pieces."""
    with (
        patch.object(_kernels.gradients, "PIECES", pieces),
        patch.object(_kernels.gradients, "FEWEST", 1),
        patch.object(_kernels.gradients, "WORK", 1),
        patch.object(_kernels.gradients, "THREADS", threads),
    ):
        yield


@built
@given(problem=training_problems(), pieces=st.integers(1, 5))
def test_gradients_are_those_of_the_plain_sweep_with_the_bits_of_any_number_of_threads(
    problem, pieces
):
    net, X, Y = problem
    loss = LOSSES.get(net.layers[-1].activation.name, jb.SquaredError())
    swept = []
    for threads in (1, 2, 3):
        with cut_in(pieces, threads):
            swept.append(jb.backprop.gradients(net, X, Y, loss, 0.5))
    assert _kernels.gradients._kept[net]  # the kernel has all of it
    plain = jb.backprop.gradients(net, X, Y, loss, 0.5, kernels=False)
    for g in swept:
        assert g.vector.tobytes() == swept[0].vector.tobytes()
    assert [[*p] for p in swept[0].parameters] == [[*p] for p in plain.parameters]
    # values differ in their last digits, and slopes with them
    allowed = 1e4 * np.finfo(net.dtype).eps
    np.testing.assert_allclose(swept[0].loss, plain.loss, rtol=allowed, atol=allowed)
    scale = 1 + np.abs(plain.vector).max()
    np.testing.assert_allclose(swept[0].vector, plain.vector, rtol=0, atol=allowed * scale)


@built
def test_gradients_out_of_range_and_errors_of_a_loss_are_told_as_without_the_kernel():
    net = jb.Network([jb.Dense([[1e200]], activation="square"), jb.Dense([[1.0]])])
    with pytest.raises(NotFiniteError, match=r"a\^1 of Dense"):
        jb.backprop.gradients(net, [[1.0]], [[0.0]], jb.SquaredError())
    one = jb.Network([jb.Dense([[1.0]], activation="sigmoid")])
    with pytest.raises(jb.DomainError, match="strictly between 0 and 1"):
        jb.backprop.gradients(one, [[1.0], [800.0]], [[0.0], [0.0]], jb.BinaryCrossEntropy(False))


@built
def test_a_certificate_never_asks_the_kernel_for_its_gradients():
    """Its computations are independent: the sweep in NumPy is one of them."""
    net = jb.Network.random([3, 4, 2], "tanh", seed=0)
    with patch.object(jb.backprop, "means_over_points", side_effect=AssertionError):
        assert jb.certify(net, [0.5, -1.0, 2.0]).holds
        with pytest.raises(AssertionError):
            jb.backprop.gradients(net, [1.0, 2.0, 3.0], [0.0, 0.0], jb.SquaredError())


def test_what_belongs_to_points_is_of_the_points_as_they_were():
    net = jb.Network.random([3, 4, 2], "tanh", seed=0)
    X, Y = np.ones((5, 3)), np.zeros((5, 2))
    g, same = (jb.backprop.gradients(net, X, Y, jb.SquaredError()) for _ in range(2))
    before = same.inputs
    X[:], Y[:] = 7, 8
    assert g.inputs.tobytes() == before.tobytes()
    assert pickle.loads(pickle.dumps(g)).deltas[1].shape == (5, 2)


@built
def test_a_network_with_a_layer_of_ones_own_goes_to_numpy():
    own = jb.Activation("cube", lambda z: z**3, lambda z: 3 * z**2)
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation=own)])
    planned = jb.plan(net)
    assert not planned.kernels
    assert str(planned).endswith("in NumPy")
    assert jb.jacobian(net, [1.0, 1.0], plan=planned).tolist() == [[27.0, 54.0]]


@built
def test_str_of_a_plan_says_which_path_runs():
    net = jb.Network.random([3, 2], seed=0)
    assert str(jb.plan(net)).endswith(f"compiled for {PROCESSORS[-1]}")
    assert str(jb.plan(net, kernels=False)).endswith("in NumPy")


@built
def test_a_value_out_of_range_is_told_as_without_the_kernel():
    net = jb.Network(
        [jb.Dense([[1e200]], activation="square"), jb.Dense([[1.0]], activation="tanh")]
    )
    for x in ([1.0], [[1.0], [0.0]]):
        with pytest.raises(NotFiniteError, match=r"a\^1 of Dense"):
            jb.jacobian(net, x)
    jb.jacobian(net, [0.0])
    with pytest.raises(NotFiniteError, match=r"a\^1 of Dense"):  # asked before: no checks
        jb.jacobian(net, [1.0])
    with pytest.raises(NotFiniteError, match="is nan"):
        jb.jacobian(net, np.array([np.nan]))


@built
def test_a_partial_product_out_of_range_is_computed_again():
    """1e200 * 1e200 * 1e-300 is 1e100."""
    net = jb.Network([jb.Dense([[w]], activation="relu") for w in (1e200, 1e200, 1e-300)])
    assert jb.plan(net).kernels
    # four decimals and two products are rounded, each by 1.2e-16 of itself at most
    assert jb.jacobian(net, [1e-250]).item() == pytest.approx(1e100, rel=1e-15)


@built
def test_an_interrupt_ends_a_long_call():
    def interrupt(*_):
        raise KeyboardInterrupt

    net = jb.Network.random([300] * 40, "tanh", seed=0)
    X = np.ones((500, 300))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        started = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            jb.jacobian(net, X)
        assert time.perf_counter() - started < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- what the tape refuses ------------------------------------------------------------------------


def made_by(refused):
    """Return a call on a small tape."""

    def call():
        tape = Tape(np.float64)
        x, W = tape.read(2, 3), tape.constant(np.ones((3, 4)))
        return refused(tape, x, W)

    return call


@built
@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda t, x, W: t.product(W, x), "b stands outside"),
        (lambda t, x, W: t.product(x, t.scaling(x)), r"\(2, 3\) times \(2, 3\)"),
        (lambda t, x, W: t.product(x, W, live=x), r"live: \(2, 3\)"),
        (lambda t, x, W: t.product(x, W, scale=t.read(1, 4)), "scale stands outside"),
        (lambda t, x, W: t.product(x, W, scale=t.constant([1, 2])), r"scale: \(1, 2\)"),
        (lambda t, x, W: t.product(x, W, add=t.constant([1, 2])), r"add: \(1, 2\)"),
        (lambda t, x, W: t.product(x, t.constant(np.ones((3, 2, 2)))), "a table takes a row"),
        (lambda t, x, W: t.product(x, W, into=t.written(1, 4)), r"expected \(2, 4\)"),
        (lambda t, x, W: t.product(x, W, into=x), r"expected \(2, 4\)"),
        (lambda t, x, W: t.product(x, Tape(np.float64).constant(np.ones((3, 5)))), "another tape"),
        (lambda t, x, W: t.product(Tape(np.float64).read(2, 3), W), "another tape"),
        (lambda t, x, W: t.scaling(x, add=W), "scaling: add"),
        (lambda t, x, W: t.scaling(x, t.constant([1, 2])), r"scale: \(1, 2\)"),
        (lambda t, x, W: t.activation(x, "tanh"), "outside; copy it first"),
        (lambda t, x, W: t.softmax(t.scaling(x)), "expected a row"),
        (lambda t, x, W: t.read(0, 3), r"shape \(0, 3\)"),
        (lambda t, x, W: t.read(2**20, 2**20), "outside: shape"),
        (lambda t, x, W: [t.read(1, 1) for _ in range(9)], "more arrays outside"),
        (lambda t, x, W: t.constant(np.ones((1, 1, 1, 1))), r"constant: shape \(1, 1, 1, 1\)"),
        (lambda t, x, W: t.constant(np.ones((0, 2))), r"constant: shape \(0, 2\)"),
        (lambda t, x, W: Tape(np.float64).written(1, 1), "the first array outside is read"),
        (lambda t, x, W: t.pack(), "without steps"),
        (lambda t, x, W: t.sum_over_points(t.read(1, 3), t.scaling(t.read(1, 3))), "sum over"),
        (lambda t, x, W: t.sum_of_groups([t.read(2, 3)], t.read(1, 1), 2), "sum of groups"),
        (lambda t, x, W: t.sum_of_groups([t.read(1, 3)], t.read(1, 2), 2), "sum of groups"),
    ],
)
def test_a_tape_refuses_what_does_not_fit(refused, message):
    with pytest.raises(ShapeError, match=message):
        made_by(refused)()


@built
def test_a_tape_refuses_other_kinds():
    with pytest.raises(TypeError, match="expected float32 or float64, but got int64"):
        Tape(np.int64)
    with pytest.raises(ValueError, match="'mmx' is not one of baseline"):
        Tape(np.float64, "mmx")
    with pytest.raises(TypeError, match="expected a value of the tape, but got 3"):
        Tape(np.float64).scaling(3)
    own = jb.Activation("own", np.sin, np.cos)
    tape = Tape(np.float64)
    with pytest.raises(ValueError, match="there is no activation own"):
        tape.activation(tape.scaling(tape.read(1, 1)), own)


@built
@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [np.ones(3)],
        [np.ones(6), np.ones(5)],
        [np.ones(7), np.ones(6)],
        [np.ones((4, 3))[::2], np.ones(6)],
        [np.ones(6), np.ones(6), np.ones(6)],
        [np.frombuffer(bytes(49), np.uint8)[1:].view(np.float64), np.ones(6)],
        ["text", np.ones(6)],
        [np.ones(6), np.broadcast_to(1.0, 6)],
    ],
)
def test_a_program_refuses_arrays_that_do_not_fit(arrays):
    tape = Tape(np.float64)
    x = tape.read(1, 3)
    tape.scaling(x, into=tape.written(1, 3))
    with pytest.raises((ValueError, TypeError, BufferError)):
        tape.pack().run(*arrays)


@built
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 255, 256, 257, 511, 512])
def test_what_memory_held_before_is_not_taken_for_a_value(n, dtype):
    """Memory comes as it was left; rows are padded, those of 256 numbers by a line of the cache."""
    for processor in PROCESSORS:
        tape = Tape(dtype, processor)
        z = tape.product(tape.read(1, 3), tape.constant(np.ones((3, n), dtype)))
        tape.scaling(tape.activation(z, "tanh")[0], into=tape.written(1, n))
        program = tape.pack()
        for points in (1, 7, 50):
            left = [np.full(size, np.nan) for size in (1000, 5000, 20_000, 60_000)]
            del left  # and NaN is in the memory that comes next
            assert program.run(np.ones((points, 1, 3), dtype), np.empty((points, 1, n), dtype))


@built
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 3, 16, 1030])
def test_a_group_that_is_none_is_refused(dtype, columns):
    """Nothing outside of the sums and rows is touched: the sanitizers look on."""
    tape = Tape(dtype)
    tape.sum_of_groups([tape.read(1, columns)], tape.read(1, 1), 2)
    program, state, rows = tape.pack(), np.zeros((7, columns)), np.ones((4, columns), dtype)
    assert program.run(rows, np.array([0, 0, 1, 1], dtype), state)
    assert (state[3:] == 2).all()
    for label in (-1, 2, 1e9, np.nan, np.inf):
        assert not program.run(rows, np.array([0, 0, 1, label], dtype), state)
    for wrong in (np.zeros((6, columns)), np.zeros((8, columns)), state.astype(np.float32)):
        with pytest.raises(ValueError, match="of another size"):
            program.run(rows, np.zeros(4, dtype), wrong)


@built
def test_a_packed_program_stays_in_its_process():
    """It holds addresses: neither copied nor pickled, and nothing else is run as one."""
    tape = Tape(np.float64)
    tape.scaling(tape.read(1, 3), into=tape.written(1, 3))
    program = tape.pack()
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds addresses"):
            leave(program)
    run = packing._kernel.run
    for arguments in ((), (b"",), (b"1" * 7, np.ones(3)), ("text",), (np.ones(11),)):
        with pytest.raises((TypeError, ValueError)):
            run(*arguments)


# --- on or off ------------------------------------------------------------------------------------


def test_show_config_says_what_runs(capsys):
    jb.show_config()
    said = capsys.readouterr().out
    assert f"jacobians {jb.__version__}" in said
    assert (PROCESSORS[-1] if PROCESSORS else "NumPy") in said


def test_an_environment_variable_turns_it_off():
    code = "import jacobians as jb; jb.show_config(); print(jb.plan(jb.Network.random([2, 2])))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JACOBIANS_KERNELS": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = "turned off by JACOBIANS_KERNELS=0" if _kernels.is_built() else "none, NumPy alone"
    assert said in run.stdout
    assert run.stdout.strip().endswith("in NumPy")


@built
def test_large_products_are_left_to_blas():
    large, usual = (jb.Network.random(w, seed=0) for w in ((1024,) * 4, (784, 512, 256, 10)))
    assert not jb.plan(large, 4).kernels
    assert jb.plan(usual, 4).kernels
