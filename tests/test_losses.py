"""Losses by themselves: values and derivatives by their formulas, and what each of them refuses."""

import math

import numpy as np
import pytest
from claims import assert_equal

import jacobians as jb
from jacobians.losses import Loss, _sum_of_others

SQUARED, BINARY, CROSS = jb.SquaredError(), jb.BinaryCrossEntropy(), jb.CrossEntropy()
LOSSES = {"squared": SQUARED, "binary": BINARY, "cross": CROSS}
every_loss = pytest.mark.parametrize("name", LOSSES)
SHAPES = [(4,), (3, 4), (1, 4), (2, 3, 4)]


def value_of(name, a, y):
    """Return the loss of one output, and its first and second derivative by it, in Python."""
    if name == "squared":
        return (a - y) ** 2 / 2, a - y, 1
    if name == "binary":
        value = -y * math.log(a) - (1 - y) * math.log(1 - a)
        return value, -y / a + (1 - y) / (1 - a), y / a**2 + (1 - y) / (1 - a) ** 2
    return -y * math.log(a), -y / a, y / a**2


def outputs_and_targets(shape, dtype=np.float64):
    rng = np.random.default_rng(sum(shape))
    Y = rng.choice([0, 0.25, 0.5, 1], shape)
    return rng.choice([0.125, 0.25, 0.5, 0.75], shape).astype(dtype), Y.astype(dtype)


@every_loss
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_of_every_point_is_its_formula_added_up(name, shape, dtype):
    """And its cotangent; the root of its second derivative, and of the Fisher information."""
    loss, eps = LOSSES[name], np.finfo(dtype).eps
    a, y = outputs_and_targets(shape, dtype)
    each = np.array([value_of(name, *pair) for pair in zip(a.flat, y.flat, strict=True)])
    value, first, second = (part.reshape(shape) for part in each.T)
    found = loss.value(a, y)
    assert found.shape == shape[:-1]
    assert found.dtype == loss.cotangent(a, y).dtype == dtype
    # a few roundings of numbers up to 64
    assert np.abs(found - value.sum(axis=-1)).max() <= 256 * eps
    assert np.abs(loss.cotangent(a, y) - first).max() <= 64 * eps
    if len(shape) < 3:
        for S, expected in (
            (loss.root(a, y), second),
            (
                loss.fisher_root(a),
                {"squared": 1 + 0 * a, "cross": 1 / a}.get(name, 1 / (a - a * a)),
            ),
        ):
            assert S.dtype == dtype
            assert S.shape == (4, 4)
            diagonal = np.broadcast_to(S.diagonal(), shape)
            assert np.abs(diagonal**2 - expected).max() <= 512 * eps


FUSED = [(BINARY, "sigmoid"), (CROSS, "softmax"), (CROSS, "log_softmax")]


@pytest.mark.parametrize(("loss", "sigma"), FUSED, ids=[sigma for _, sigma in FUSED])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_fused_loss_is_that_of_the_activation_of_every_point(loss, sigma, shape):
    """Value and slope, by the loss that is not fused where nothing saturates; the root too."""
    rng = np.random.default_rng(1)
    z, Y = rng.normal(size=shape), outputs_and_targets(shape)[1]
    sigma = jb.activation(sigma)
    fused, a = loss.fused(sigma), sigma(z)
    p = np.exp(a) if sigma.name == "log_softmax" else a
    apart = type(loss)(fuse=False)
    assert apart.fused(sigma) is None
    assert loss.fused(jb.activation("tanh")) is None
    assert fused.value(z, Y).shape == shape[:-1]
    # here and below: some roundings of numbers near 1
    assert np.abs(fused.value(z, Y) - apart.value(p, Y)).max() < 1e-14
    if loss == BINARY:
        expected = p - Y
        second = [np.diag(q * (1 - q)) for q in p.reshape(-1, 4)]
        fisher = second
    else:
        total = Y.sum(axis=-1, keepdims=True)
        expected = p * total - Y
        fisher = [np.diag(q) - np.outer(q, q) for q in p.reshape(-1, 4)]
        second = [t * M for t, M in zip(total.flat, fisher, strict=True)]
    assert np.abs(fused.cotangent(z, Y) - expected).max() < 1e-14
    if len(shape) < 3:
        for S, matrices in ((fused.root(z, Y), second), (fused.fisher_root(z), fisher)):
            roots = S.to_dense().reshape(-1, 4, 4)
            assert np.abs(roots @ roots.swapaxes(1, 2) - matrices).max() < 1e-14


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_losses_do_not_mind_saturation(dtype):
    """At ±800 a sigmoid is 0 or 1, and the loss is nothing or |z|."""
    z, y = np.array([[800, -800], [800, -800]], dtype), np.array([[1, 0], [0, 1]], dtype)
    with np.errstate(all="raise", under="ignore"):
        fused = BINARY.fused(jb.activation("sigmoid"))
        assert_equal(fused.cotangent(z, y) + 0, np.array([[0, 0], [1, -1]], dtype))
        assert_equal(fused.value(z, y), np.array([0, 1600], dtype))

        fused = CROSS.fused(jb.activation("softmax"))
        assert_equal(fused.value(z, y), np.array([0, 1600], dtype))
        assert_equal(fused.cotangent(z, y), np.array([[0, 0], [1, -1]], dtype))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (2, 3, 5), (3, 2), (3, 1)], ids=str)
def test_the_sum_of_the_others_leaves_out_one_entry(shape):
    p = np.random.default_rng(0).integers(-9, 10, shape).astype(float)
    others = [np.delete(p, i, axis=-1).sum(axis=-1) for i in range(shape[-1])]
    assert_equal(_sum_of_others(p), np.stack(others, axis=-1))


# --- what is refused ------------------------------------------------------------------------------

INSIDE = "needs outputs strictly between 0 and 1, but got"
POSITIVE = "needs a positive probability where the target is positive, but got"


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, 1.5])
def test_outputs_that_are_no_probabilities_are_refused_by_everything_that_divides_by_them(bad):
    """One of several is enough, and it is named; the numbers next to the ends are fine."""
    a, y = np.array([[0.5, 0.25], [bad, 0.5]]), np.array([[0.0, 1.0], [0.5, 1.0]])
    plain, classes = jb.BinaryCrossEntropy(fuse=False), jb.CrossEntropy(fuse=False)
    for ask in (plain.value, plain.cotangent, plain.root, lambda a, y: plain.fisher_root(a)):
        with pytest.raises(jb.DomainError, match=f"BinaryCrossEntropy.*: {INSIDE} {bad}"):
            ask(a, y)
        ends = np.array([np.nextafter(0, 1), np.nextafter(1, 0)])
        with np.errstate(over="ignore"):  # 1 / a
            ask(ends, ends)
    for ask in (
        classes.value,
        classes.cotangent,
        classes.root,
        lambda a, y: classes.fisher_root(a),
    ):
        if bad <= 0:
            with pytest.raises(jb.DomainError, match=f"CrossEntropy.*: {POSITIVE} {bad}"):
                ask(a, y)
        else:
            ask(a, y)  # a loss of one's own activation may be anything positive


@pytest.mark.parametrize("bad", [0.0, -0.5])
def test_where_the_target_is_0_cross_entropy_does_not_look(bad):
    a, y = np.array([bad, 0.5]), np.array([0.0, 1.0])
    assert CROSS.value(a, y) == math.log(2)
    assert_equal(CROSS.cotangent(a, y) + 0, np.array([0.0, -2.0]))
    assert_equal(CROSS.root(a, y).to_dense(), np.diag([0.0, 2.0]))


@pytest.mark.parametrize("loss", [BINARY, CROSS], ids=str)
def test_targets_lie_in_the_unit_interval(loss):
    output = np.zeros((2, 3))
    for y in ([[0, 1, 0.5], [1, 1, 0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]):
        assert_equal(loss.targets(y, output), np.array(y, float))
    for bad in (-1e-300, np.nextafter(1, 2), 2, -1):
        y = [[0.0, 1.0, 0.5], [1.0, bad, 3.0]]
        with pytest.raises(
            jb.DomainError, match=f"target: expected values from 0 to 1, but got {bad}"
        ):
            loss.targets(y, output)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 3)], ids=str)
def test_targets_have_the_shape_and_the_dtype_of_the_output(name, dtype, shape):
    loss, output = LOSSES[name], np.zeros(shape, dtype)
    for given in (np.ones(shape), np.ones(shape, int), np.ones(shape, np.float32).tolist()):
        y = loss.targets(given, output)
        assert y.dtype == dtype
        assert_equal(y, np.ones(shape))
    for other in ((*shape, 1), (*shape[:-1], 2), shape[:-1], (2, *shape)):
        message = rf"expected the shape of the output, \({', '.join(map(str, shape))},?\), got"
        with pytest.raises(jb.ShapeError, match=message) as refused:
            loss.targets(np.full(other, 0.5), output)
        assert "one column" not in str(refused.value)


@pytest.mark.parametrize("loss", [SQUARED, BINARY], ids=str)
def test_targets_of_one_output_are_a_column(loss):
    for n, output in ((4, np.zeros((4, 1))), (1, np.zeros((1, 1)))):
        assert_equal(loss.targets(np.ones((n, 1)), output), np.ones((n, 1)))
        with pytest.raises(
            jb.ShapeError, match=r"Pass y\[:, None\]: one column for the one output"
        ):
            loss.targets(np.ones(n), output)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint8])
def test_labels_are_classes_from_0_on(dtype, kind):
    """One for each point, the first and the last class too; a wrong one is named."""
    output = np.zeros((4, 3), dtype)
    labels = np.array([2, 0, 1, 0], kind)
    assert CROSS.targets(labels, output).dtype == dtype
    assert_equal(CROSS.targets(labels, output), np.eye(3)[[2, 0, 1, 0]])
    assert_equal(CROSS.targets(kind(1), output[0]), np.eye(3)[1])
    assert_equal(CROSS.targets([1], output[:1]), np.eye(3)[[1]])
    for wrong in (3, 4, *([-1, -3] if kind != np.uint8 else [])):
        with pytest.raises(jb.DomainError, match=f"target: labels go from 0 to 2, but got {wrong}"):
            CROSS.targets(np.array([0, 2, wrong, 1], kind), output)
    for count in (3, 5, 1):
        message = rf"expected one label per point, shape \(4,\), got \({count},\)"
        with pytest.raises(jb.ShapeError, match=message):
            CROSS.targets(np.zeros(count, kind), output)


@pytest.mark.parametrize("shape", [(1,), (4, 1), (1, 1)], ids=str)
def test_cross_entropy_needs_an_output_for_every_class(shape):
    for y in (np.ones(shape), np.zeros(shape[:-1], int)):
        with pytest.raises(
            jb.ShapeError, match="needs an output for every class, but the network has"
        ):
            CROSS.targets(y, np.zeros(shape))
    assert CROSS.targets(np.zeros((1, 2)), np.zeros((1, 2))).shape == (1, 2)


# --- the range ------------------------------------------------------------------------------------


def test_what_is_small_is_a_rounding_and_no_flag():
    """Residuals whose squares are nothing, targets and outputs at the lower end of the range."""
    tiny, half = np.full(2, 5e-324), np.full(2, 0.3)
    small, large = np.full(2, 1e-200), np.full(2, 1e200)
    plain, classes = jb.BinaryCrossEntropy(fuse=False), jb.CrossEntropy(fuse=False)
    with np.errstate(all="raise"):
        assert SQUARED.value(small, 0 * small) == 0
        assert_equal(SQUARED.cotangent(3 * tiny, tiny), 2 * tiny)
        assert plain.value(small, tiny) < 1e-199
        assert plain.value(half, tiny) > 0.7
        assert_equal(plain.cotangent(small, 0 * small), np.ones(2))
        assert_equal(plain.fisher_root(small).diagonal(), 1 / np.sqrt(small))
        assert classes.value(half, tiny) < 1e-322
        assert_equal(classes.cotangent(half + 1, tiny), -tiny)
        assert classes.root(large, small).diagonal().max() < 1e-299
        assert_equal(classes.fisher_root(large).diagonal(), 1 / np.sqrt(large))


def test_the_root_of_binary_cross_entropy_where_the_square_of_the_output_is_nothing():
    """For y = 0 it is 1 / (1 - a), for y = 1 it is 1 / a, whatever a squared is."""
    plain = jb.BinaryCrossEntropy(fuse=False)
    for dtype, small in ((np.float64, 1e-200), (np.float32, 1e-25)):
        a = np.full((2, 1), small, dtype)
        with np.errstate(all="raise"):
            S = plain.root(a, np.array([[0], [1]], dtype)).to_dense()
        assert_equal(S[:, 0, 0], np.array([1, 1 / a[1, 0]], dtype))


# --- losses of one's own --------------------------------------------------------------------------


class Told:
    """A base that wants a keyword of every subclass."""

    def __init_subclass__(cls, told, **keywords):
        super().__init_subclass__(**keywords)
        cls.told = told


def test_a_subclass_is_fused_until_it_changes_value_or_derivative():
    sigmoid = jb.activation("sigmoid")

    class Named(jb.BinaryCrossEntropy):
        """The same under another name."""

    assert Named().fused(sigmoid) is not None
    assert str(Named()) == "Named"
    for name in ("value", "cotangent", "root", "fisher_root"):
        Changed = type("Changed", (jb.BinaryCrossEntropy,), {name: getattr(BINARY, name)})
        assert Changed().fused(sigmoid) is None
        said = {name: getattr(BINARY, name), "fused": jb.BinaryCrossEntropy.fused}
        assert type("Said", (jb.BinaryCrossEntropy,), said)().fused(sigmoid) is not None


def test_keywords_of_a_subclass_reach_its_other_bases():
    class Noted(jb.SquaredError, Told, told="this"):
        pass

    assert Noted.told == "this"


def test_a_loss_is_gaussian_only_where_it_says_so():
    class Plain(Loss):
        def value(self, output, target):
            return output[..., 0] - target[..., 0]

        def cotangent(self, output, target):
            return np.ones_like(output)

    assert not Plain().gaussian
    assert SQUARED.gaussian
    assert Plain().fused(jb.activation("sigmoid")) is None
    for ask, word in (
        (lambda: Plain().root(1, 1), "root"),
        (lambda: Plain().fisher_root(1), "fisher"),
    ):
        with pytest.raises(NotImplementedError, match=f"Plain: .*define {word}"):
            ask()
    with pytest.raises(TypeError, match=r"loss: expected SquaredError\(\).*but got 'mse'"):
        jb.losses.as_loss("mse")
