"""Laws of derivations and diagnoses on any network, loss and precision: right is never accused."""

import numpy as np
import pandas as pd
import pytest
from zoo import NETWORKS

import jacobians as jb
from jacobians.derivation.evaluation import Evaluation, given
from jacobians.derivation.rules import Rules
from jacobians.derivation.starts import add_up_to_1
from jacobians.derivation.terms import Rounding
from jacobians.losses import Fused

SQUARED = jb.SquaredError()
KINDS = (
    *("norms", "attention", "convolutions and pools", "convolutions along one axis and three"),
    *("branches that share nodes", "scales and elementwise layers", "residual blocks, nested"),
)


def data(net, seed=0, count=4):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(count, net.widths[0])), rng.normal(size=(count, net.widths[-1]))
    return X.astype(net.dtype), Y.astype(net.dtype)


# --- losses of somebody's own ---------------------------------------------------------------------


class Weighted(jb.Loss):
    """``-5 y log a - (1 - y) log(1 - a)``, with a form of its own for the sigmoid."""

    def value(self, a, y):
        return -(5 * y * np.log(a) + (1 - y) * np.log1p(-a)).sum(axis=-1)

    def cotangent(self, a, y):
        return -5 * y / a + (1 - y) / (1 - a)

    def fused(self, activation):
        if activation.name != "sigmoid":
            return None
        return Fused(
            lambda z, y: self.value(activation(z), y),
            lambda z, y: (1 - y) * activation(z) - 5 * y * activation(-z),
            None,
            None,
        )


class Hyperbolic(jb.Loss):
    def value(self, a, y):
        return np.cosh(a - y).sum(axis=-1)

    def cotangent(self, a, y):
        return np.sinh(a - y)


def thrice(kind):
    """Return three times a loss of the library, as a subclass with methods of its own."""

    class Thrice(kind):
        def value(self, a, y):
            return 3 * super().value(a, y)

        def cotangent(self, a, y):
            return 3 * super().cotangent(a, y)

        def fused(self, activation):
            once = super().fused(activation)
            if once is None:
                return None
            value, slope = once.value, once.cotangent
            return Fused(lambda z, y: 3 * value(z, y), lambda z, y: 3 * slope(z, y), None, None)

    return Thrice()


class Unfused(jb.BinaryCrossEntropy):
    """Three times the library's loss, in one step with nothing."""

    def value(self, a, y):
        return 3 * super().value(a, y)

    def cotangent(self, a, y):
        return 3 * super().cotangent(a, y)

    def fused(self, activation):
        return None


LOSSES = {
    "own, fused": (Weighted(), "sigmoid"),
    "own, not fused here": (Weighted(), "softmax"),
    "own": (Hyperbolic(), "tanh"),
    "squared, cotangent replaced": (thrice(jb.SquaredError), "sigmoid"),
    "binary, all replaced": (thrice(jb.BinaryCrossEntropy), "sigmoid"),
    "binary, fused replaced by nothing": (Unfused(), "sigmoid"),
    "classes, all replaced": (thrice(jb.CrossEntropy), "softmax"),
    "classes, of logarithms": (thrice(jb.CrossEntropy), "log_softmax"),
    "library, squared": (SQUARED, "sigmoid"),
    "library, binary": (jb.BinaryCrossEntropy(), "sigmoid"),
    "library, classes": (jb.CrossEntropy(), "softmax"),
    "library, classes of logarithms": (jb.CrossEntropy(), "log_softmax"),
    "library, not fused": (jb.CrossEntropy(fuse=False), "softmax"),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_what_its_own_methods_say(name, dtype):
    """Its gradients are finite differences of its value; they are right, and twice them wrong."""
    loss, last = LOSSES[name]
    net = jb.Network.random([3, 4, 3], "tanh", last, seed=1).astype(dtype)
    X = data(net, 2)[0]
    Y = np.random.default_rng(3).random((4, 3)).astype(dtype)  # rows do not add up to 1
    g = jb.backprop.gradients(net, X, Y, loss)
    derivation = jb.derive(net, X, Y, loss)
    assert derivation.holds
    (dW,) = (line.value for line in derivation if line.left.key == ("dW", 2))

    wide, h = net.astype(np.float64), 1e-6
    fused = loss.fused(net.layers[-1].activation)

    def objective(theta):
        other = wide.with_parameters(theta)
        z = jb.trace(other, X.astype(float)).preactivations[-1]
        each = fused.value(z, Y) if fused else loss.value(other(X.astype(float)), Y)
        return each.mean()

    theta = wide.parameters
    by_differences = np.array(
        [(objective(theta + e) - objective(theta - e)) / (2 * h) for e in h * np.eye(len(theta))]
    )
    off = 1e-5 if dtype == np.float32 else 1e-7  # roundings of 1e-16 over h, or of float32
    size = 1 + np.abs(by_differences).max()
    assert np.abs(g.vector - by_differences).max() <= off * size
    assert np.abs(dW - by_differences[-15:-3].reshape(4, 3).T).max() <= off * size
    assert jb.diagnose(g, net, X, Y, loss).right
    wrong = jb.diagnose({"weights": [2 * W for W in g.weights]}, net, X, Y, loss)
    assert [slip.name for slip in wrong.mistakes] == ["factor 2"]


@pytest.mark.parametrize("name", LOSSES)
def test_the_first_line_of_the_way_back_is_the_derivative_of_the_loss(name):
    """``dC/da`` by differences of what the loss is of ``a``, and ``D c`` is ``delta``."""
    loss, last = LOSSES[name]
    net = jb.Network([jb.Dense(np.random.default_rng(4).normal(size=(3, 2)), None, last)])
    x, y, h = np.array([0.3, -0.8]), np.array([0.2, 0.7, 0.4]), 1e-6
    of_logarithms = last == "log_softmax"
    if of_logarithms and not name.startswith("library"):
        return  # what somebody's own loss is of a logarithm, nothing says
    rules = Rules(net, loss, summed=add_up_to_1(y, net.dtype))
    values = Evaluation(rules, given(rules, x, y), Rounding.of(net.dtype))
    c = values.value(("c", None)).number[:, 0]
    a = net(x)

    def value(a):
        return -(y @ a) if of_logarithms else loss.value(a, y)

    by_differences = [(value(a + e) - value(a - e)) / (2 * h) for e in h * np.eye(3)]
    assert np.abs(c - by_differences).max() <= 1e-7 * (1 + np.abs(c).max())
    D = jb.explicit.activation_jacobian(jb.trace(net, x), 1)
    delta = values.value(("delta", 1)).number[:, 0]
    assert np.abs(D.T @ c - delta).max() <= 64 * np.finfo(float).eps * (1 + np.abs(c).max())


def test_what_is_printed_of_a_loss_is_what_it_is():
    log = jb.Network([jb.Dense(np.ones((3, 2)), None, "log_softmax")])
    assert "∂C/∂a¹ = −y " in str(jb.derive(log, [1.0, 2.0], 1, jb.CrossEntropy()))
    own = str(jb.derive(jb.Network.random([2, 1], "tanh", "sigmoid", seed=0), loss=Weighted()))
    assert "Weighted and sigmoid in one step" in own
    assert "δ¹ = ∂C/∂z(z¹, y )" in own
    assert "cancel" not in own


def test_a_loss_that_refuses_what_is_beyond_its_domain_accuses_nobody():
    """So near 1 that what rounding may make of ``a`` is no probability; other points tell."""
    net = jb.Network([jb.Dense([[36.0], [0.3]], None, "sigmoid")])
    X, Y = np.array([[1.0], [0.5]]), np.full((2, 2), 0.4)
    g = jb.backprop.gradients(net, X, Y, Unfused())
    assert jb.diagnose(g, net, X, Y, Unfused()).right
    wrong = g.deltas[0] * [[1.0], [1.5]]
    assert not jb.diagnose({"deltas": [wrong]}, net, X, Y, Unfused()).right


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["softmax", "log_softmax"])
@pytest.mark.parametrize("off", [0.0, 2.0**-53, 2.0**-50, 6e-8, 1e-6, 0.25])
def test_targets_that_nearly_add_up_to_1_accuse_nobody(last, off):
    """``p sum(y) - y``, however far the sum of y is from 1; ``p - y`` only within a rounding."""
    net = jb.Network([jb.Dense(np.random.default_rng(5).normal(size=(5, 3)), np.zeros(5), last)])
    X = data(net, 6)[0]
    Y = np.full((4, 5), 0.125)
    Y[:, 0] = 0.5 - off
    loss = jb.CrossEntropy()
    g = jb.backprop.gradients(net, X, Y, loss)
    assert jb.diagnose(g, net, X, Y, loss).right
    assert jb.derive(net, X, Y, loss).holds
    assert ("add up to 1" in str(jb.derive(net, X, Y, loss))) == (off < 2.0**-51)
    p = np.exp(jb.trace(net, X).preactivations[-1])
    p /= p.sum(axis=1, keepdims=True)
    simple = {"dW1": (p - Y).T @ X / 4, "db1": (p - Y).mean(axis=0)}
    assert jb.diagnose(simple, net, X, Y, loss).right == (off < 1e-15)


def test_targets_of_a_teacher_in_float32_accuse_nobody():
    net = jb.Network([jb.Dense(np.random.default_rng(7).normal(size=(5, 3)), None, "softmax")])
    X = data(net)[0]
    for seed in range(20):
        teacher = np.exp(np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32))
        Y = teacher / teacher.sum(axis=1, keepdims=True)
        for student, y in ((net, Y.astype(float)), (net.astype(np.float32), Y)):
            g = jb.backprop.gradients(student, X, y, jb.CrossEntropy())
            assert jb.derive(student, X, y, jb.CrossEntropy()).holds
            assert jb.diagnose(g, student, X, y, jb.CrossEntropy()).right


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_targets_of_many_classes_hold(dtype):
    """Sums over a thousand classes round a thousand times."""
    rng = np.random.default_rng(11)
    net = jb.Network([jb.Dense(rng.normal(size=(1000, 3)), None, "softmax")]).astype(dtype)
    X = data(net)[0]
    soft = np.exp(rng.normal(size=(4, 1000)))
    for Y in (np.eye(1000)[[1, 20, 300, 999]], soft / soft.sum(axis=1, keepdims=True)):
        assert jb.derive(net, X, Y.astype(dtype), jb.CrossEntropy()).holds
        assert jb.derive(net, X[0], Y[0].astype(dtype), jb.CrossEntropy()).holds


def test_targets_are_taken_by_name():
    net = jb.Network.random([3, 4, 2], seed=0).with_names(["a", "b", "c"], ["u", "v"])
    table = pd.DataFrame([[5.0, -1.0], [2.0, 3.0]], columns=["v", "u"])
    X, Y = np.ones((2, 3)), table[["u", "v"]].to_numpy()
    for x, named, y in ((X, table, Y), (X[0], table.iloc[0], Y[0])):
        lines = zip(jb.derive(net, x, named, SQUARED), jb.derive(net, x, y, SQUARED), strict=True)
        assert all(one.check == other.check for one, other in lines)
        assert np.array_equal(*(list(jb.derive(net, x, t, SQUARED))[-1].value for t in (named, y)))
    with pytest.raises(ValueError, match="derive: y: the columns do not match"):
        jb.derive(net, X, table.rename(columns={"u": "w"}), SQUARED)


# --- layers of every kind, in both precisions -----------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", KINDS)
def test_gradients_of_every_layer_are_read_by_parameter(name, dtype):
    """As a record, as one vector, as a list, by name: right; one entry changed: wrong."""
    net, l2 = NETWORKS[name].astype(dtype), 0.25
    X, Y = data(net)
    g = jb.backprop.gradients(net, X, Y, SQUARED, l2)
    assert jb.derive(net, X, Y, SQUARED, l2=l2).holds
    own = [(k, l, p) for l, of in enumerate(g.parameters, 1) for k, p in of.items()]
    forms = {
        "record": g,
        "vector": g.vector,
        "in turn": [p for *_, p in own],
        "numbered": {f"d{k}{l}": p for k, l, p in own},
        "by layer": {k: {l: p for name, l, p in own if name == k} for k, *_ in own},
        "lists": {"weights": list(g.weights), "biases": g.biases},
    }
    for form, mine in forms.items() if dtype == np.float64 else [("record", g)]:
        assert jb.diagnose(mine, net, X, Y, SQUARED, l2).right, form
    if dtype == np.float32:  # in a deep graph its estimate is too large to tell
        return
    wrong = g.vector.copy()
    wrong[len(wrong) // 2] += 100 * (1 + np.abs(wrong).sum())
    assert not jb.diagnose(wrong, net, X, Y, SQUARED, l2).right


def test_a_vector_is_cut_where_its_layers_are():
    """A node that reads another than the one before it, of another width."""
    rng = np.random.default_rng(8)
    layers = {
        "a": (jb.Dense(rng.normal(size=(4, 3)), None, "tanh"), "q"),
        "b": (jb.Dense(rng.normal(size=(2, 3)), None, "tanh"), "q"),
        "c": (jb.Dense(rng.normal(size=(2, 4))), "a"),
        "y": (jb.Multiply(), "b", "c"),
    }
    net = jb.Network.graph(layers, inputs={"q": 3})
    X, Y = data(net)
    g = jb.backprop.gradients(net, X, Y, SQUARED)
    assert jb.diagnose(g.vector, net, X, Y, SQUARED).right
    flat = {"dW2": g.weights[1].ravel(), "dW3": g.weights[2].ravel()}
    assert jb.diagnose(flat, net, X, Y, SQUARED).right
    wrong = g.vector.copy()
    wrong[12 + 4] += 1.0  # the first entry of W of layer 2
    found = jb.diagnose(wrong, net, X, Y, SQUARED)
    assert [k for k, right in found.arrays.items() if not right] == ["weights of layer 2"]


def test_the_penalty_counts_kernels_and_weights_of_rows_by_differences():
    rng, l2, h = np.random.default_rng(9), 0.3, 1e-6
    K = jb.Convolution(rng.normal(size=(2, 1, 2)), None, "tanh")
    rows = jb.Dense(rng.normal(size=(3, 2)), None, "tanh")
    for first, shape in ((K, (1, 4)), (rows, (2, 2))):
        net = jb.Network([first, jb.Dense(rng.normal(size=(2, 6)))], inputs=shape)
        X, Y = data(net)

        def objective(theta, net=net, X=X, Y=Y):
            other = net.with_parameters(theta)
            squares = [p**2 for A in other.layers for n, p in A.parameters().items() if n in "WK"]
            return SQUARED.value(other(X), Y).mean() + l2 / 2 * sum(map(np.sum, squares))

        derivation = jb.derive(net, X, Y, SQUARED, l2=l2)
        name = next(iter(first.parameters()))
        (line,) = (line for line in derivation if line.left.key == (f"d{name}", 1))
        for i, entry in enumerate(line.value[:, 0]):
            e = h * np.eye(len(net.parameters))[i]
            numeric = (objective(net.parameters + e) - objective(net.parameters - e)) / (2 * h)
            assert abs(entry - numeric) <= 1e-7 * (1 + abs(numeric))
        assert f"λ vec({name}¹" in str(derivation).replace(" ", " ")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_map_rounds_in_the_precision_of_its_network(dtype):
    """A norm cancels: of two entries its derivative is nearly 0, its rounding is not."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = 2 + seed % 4
        layers = [jb.LayerNorm(np.ones(n)), jb.Dense(rng.normal(size=(3, n)))]
        net = jb.Network(layers, inputs=n).astype(dtype)
        X, Y = data(net, seed)
        assert jb.derive(net, X[0]).holds
        assert jb.diagnose(jb.jacobian(net, X), net, X).right
        g = jb.backprop.gradients(net, X, Y, SQUARED)
        assert jb.diagnose(g, net, X, Y, SQUARED).right
        wrong = {"weights": [None, 1.01 * g.weights[1]]}
        assert not jb.diagnose(wrong, net, X, Y, SQUARED).right


def test_a_map_of_float32_in_a_float64_network_is_named():
    net = NETWORKS["norms"]
    X, Y = data(net)
    single = net.astype(np.float32)
    g = jb.backprop.gradients(single, X.astype(np.float32), Y.astype(np.float32), SQUARED)
    found = jb.diagnose(g.vector.astype(np.float64), net, X, Y, SQUARED)
    assert [slip.name for slip in found.mistakes] == ["float32 in the middle"]
    assert jb.diagnose(g.vector, net, X, Y, SQUARED).right  # as float32 it is what it can be


# --- what cannot be compared ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        ({"weights": {4: 0}}, "weights: layer: expected a layer number from 1 to 3, got 4"),
        ({"weights": {0: 0}}, "weights: layer: expected a layer number from 1 to 3, got 0"),
        ({"weights": {"a": 0}}, "weights: layer: no node is called 'a'"),
        ({"weights": {2: 0}}, "weights of layer 2: LayerNorm .* has none"),
        ({"weight_jacobians": {2: 0}}, "weight_jacobians of layer 2: .* has none"),
        ({"dx2": 0}, "'dx' is no name of a result"),
        ({"dscale2": np.ones(3)}, r"scale of layer 2: expected shape \(4,\), but got \(3,\)"),
    ],
)
def test_what_is_no_array_of_a_layer_is_said_to_be_none(mine, message):
    rng = np.random.default_rng(0)
    first, last = jb.Dense(rng.normal(size=(4, 3))), jb.Dense(rng.normal(size=(2, 4)))
    net = jb.Network([first, jb.LayerNorm(np.ones(4)), last])
    with pytest.raises(ValueError, match=message):
        jb.diagnose(mine, net, *data(net), SQUARED)


def test_no_points_are_said_to_be_none():
    net = jb.Network.random([3, 2], seed=0)
    X, Y = np.zeros((0, 3)), np.zeros((0, 2))
    for call in (
        lambda: jb.diagnose(np.zeros((0, 2, 3)), net, X),
        lambda: jb.diagnose({"dW1": np.zeros((2, 3))}, net, X, Y, SQUARED),
        lambda: jb.derive(net, X),
        lambda: jb.derive(net, X, Y, SQUARED),
    ):
        with pytest.raises(ValueError, match="there are no points"):
            call()
