"""Diagnoses: right results are never accused, mistakes are named, whatever form they come in."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import jacobians as jb
from jacobians import strategies as jst
from jacobians.derivation.evaluation import Evaluation

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import diagnosis_figures as figures

RNG = np.random.default_rng(0)
NET = jb.Network.random([4, 5, 3, 2], "tanh", seed=1)
X, Y = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 2))
LOSS = jb.SquaredError()
G = jb.backprop.gradients(NET, X, Y, LOSS, l2=0.1)


def diagnose(mine, **options):
    return jb.diagnose(mine, NET, X, Y, LOSS, **{"l2": 0.1, **options})


def test_right_implementations_are_not_accused():
    accused, tried = figures.false_accusations(60)
    assert tried > 50
    assert not accused, accused[0]


@settings(max_examples=40, deadline=None)
@given(jst.problems(max_depth=3, max_width=4))
def test_the_library_is_right(problem):
    assert jb.diagnose(jb.backprop.gradients(*problem), *problem).right


def test_mistakes_are_named_first():
    hits, tried, failures, *_ = figures.named(15, 1)
    assert sum(hits.values()) == sum(tried.values()), failures


def test_pairs_are_named():
    hits, _, failures, *_ = figures.named(4, 2)
    assert hits["pairs"] == 4, failures


def test_a_mistake_of_the_size_of_rounding_in_saturation_is_named():
    """What is allowed doubles with a factor of 2 and is then more than what the factor changes."""
    net, X, Y, loss, l2 = figures.problem(np.random.default_rng((7, 1, 91)))
    sites = tuple(("db", l) for l in (1, 2, 3))
    every = figures.catalogue(figures.case_of(net, X, Y, loss, l2).rules, sites)
    (twice,) = (m for m in every if (m.name, m.sites) == ("factor 2", sites))
    mine = figures.planted(frozenset([twice]), sites, loss, l2)
    (slip,) = jb.diagnose(mine(net, X, Y), net, X, Y, loss, l2).mistakes
    assert (slip.name, slip.sites) == ("factor 2", sites)


def test_the_public_case_of_the_course_exercise():
    """relu, relu, sigmoid; dW2 times 2 and db1 with 4/m; "difference 0.17", reason unknown."""
    net = jb.Network(
        [
            jb.Dense(RNG.standard_normal((5, 4)), RNG.standard_normal(5), "relu"),
            jb.Dense(RNG.standard_normal((3, 5)), RNG.standard_normal(3), "relu"),
            jb.Dense(RNG.standard_normal((1, 3)), RNG.standard_normal(1), "sigmoid"),
        ]
    )
    X, Y = RNG.standard_normal((3, 4)), np.array([[1.0], [1.0], [0.0]])
    m, A, Z = 3, [X.T], []
    for layer in net.layers:  # columns are points, as in the exercise
        Z.append(layer.W @ A[-1] + layer.b[:, None])
        A.append(layer.activation(Z[-1]))
    dZ3 = A[3] - Y.T
    dZ2 = (net.layers[2].W.T @ dZ3) * (A[2] > 0)
    dZ1 = (net.layers[1].W.T @ dZ2) * (A[1] > 0)
    mine = {
        "dW3": dZ3 @ A[2].T / m, "db3": dZ3.sum(axis=1, keepdims=True) / m,
        "dW2": dZ2 @ A[1].T / m * 2, "db2": dZ2.sum(axis=1, keepdims=True) / m,
        "dW1": dZ1 @ A[0].T / m, "db1": 4 / m * dZ1.sum(axis=1, keepdims=True),
    }  # fmt: skip
    diagnosis = jb.diagnose(mine, net, X, Y, jb.BinaryCrossEntropy())
    named = {(slip.name, slip.sites) for slip in diagnosis.mistakes}
    assert named == {("factor 2", (("dW", 2),)), ("factor 4", (("db", 1),))}
    assert [name for name, right in diagnosis.arrays.items() if not right] == [
        "weights of layer 2", "biases of layer 1",
    ]  # fmt: skip
    assert "2 times the truth" in str(diagnosis)


W, B = list(G.weights), list(G.biases)
AS_GIVEN = {
    "record": G,
    "lists": {"weights": W, "biases": B, "deltas": list(G.deltas), "inputs": G.inputs},
    "numbered": {"dW1": W[0], "db1": B[0][:, None], "W2": W[1], "b3": B[2]},
    "weights alone": W,
    "in turn": [W[0], B[0], W[1], B[1], W[2], B[2]],
    "one vector": G.vector,
    "errors of each point": {"weights": W, "deltas": [6 * d for d in G.deltas]},
    "a function": lambda net, X, Y: jb.backprop.gradients(net, X, Y, LOSS, l2=0.1),
    "a function of its own network": lambda net, X, Y: W,
}


@pytest.mark.parametrize("form", AS_GIVEN)
def test_right_in_every_form(form):
    assert diagnose(AS_GIVEN[form]).right


def test_right_in_the_layout_of_a_document():
    assert diagnose({"weights": [A.T for A in W]}, convention="001").right
    assert diagnose({"weights": [A.T for A in W]}).mistakes[0].name == "transposed"


def test_rounding_is_told_from_float32_in_the_middle():
    def rounded(group):
        return [A.astype(np.float32).astype(np.float64) for A in group]

    net = NET.astype(np.float32)
    single = jb.backprop.gradients(net, X.astype(np.float32), Y.astype(np.float32), LOSS, l2=0.1)
    diagnosis = diagnose({"weights": rounded(single.weights), "biases": rounded(single.biases)})
    assert [slip.name for slip in diagnosis.mistakes] == ["float32 in the middle"]
    # two ulps, which the bound allows for
    noisy = [A * (1 + 4e-16) for A in W]
    assert diagnose(noisy).right
    assert "rounding" in str(diagnose(noisy))


def dropped(masks):
    """Gradients of NET with the values of its hidden layers multiplied by masks."""
    a = [X]
    for layer, mask in zip(NET.layers, (*masks, 1.0), strict=True):
        a.append(layer(a[-1]) * mask)
    delta, mine = (a[-1] - Y) / 6, {}
    for l in (3, 2, 1):
        mine[f"dW{l}"], mine[f"delta{l}"] = delta.T @ a[l - 1], delta
        if l > 1:
            slopes = 1 - np.tanh(a[l - 2] @ NET.layers[l - 2].W.T + NET.layers[l - 2].b) ** 2
            delta = delta @ NET.layers[l - 1].W * masks[l - 2] * slopes
    return mine


@pytest.mark.parametrize("kept", [[1, 0, 1, 1, 0], RNG.random((6, 5)) < 0.5], ids=["one", "each"])
def test_dropout_is_read_off_the_zeros(kept):
    """One mask for all points shows in the weight gradients, one for each point in the errors."""
    mine = dropped([2.0 * np.array(kept), 1.0])
    diagnosis = diagnose(mine, l2=0.0)
    assert [slip.name for slip in diagnosis.mistakes] == ["dropout in training mode"]
    assert ("units 1, 4" if np.ndim(kept) == 1 else "other units at every point") in str(diagnosis)
    assert "multiplied by 2" in str(diagnosis)


def normalised(z, gamma, beta, epsilon=1e-5):
    """A batch-norm in training mode: its values, and what leads a cotangent back."""
    spread = np.sqrt(z.var(axis=0) + epsilon)
    normal = (z - z.mean(axis=0)) / spread

    def back(d):
        return gamma / spread * (d - d.mean(axis=0) - normal * (normal * d).mean(axis=0))

    return gamma * normal + beta, back


def in_training_mode(first, second, gamma, beta):
    """Gradients of dense, batch-norm, dense, the batch-norm left in training mode."""
    z = X @ first.W.T + first.b
    a, back = normalised(z, gamma, beta)
    delta = (a @ second.W.T + second.b - Y) / 6
    below = back(delta @ second.W)
    weights = {1: below.T @ X, 3: delta.T @ a}
    return {"weights": weights, "biases": {1: below.sum(axis=0), 3: delta.sum(axis=0)}}


@pytest.mark.parametrize("new", [True, False], ids=["new", "without parameters"])
def test_batch_norm_in_training_mode_is_named(new):
    """Its values and its way back go over the points; the bias below it has gradient 0."""
    gamma, beta = (np.array([2.0, 0.5, -1.0]), np.ones(3)) if new else (np.ones(3), np.zeros(3))
    scale = gamma / np.sqrt(1 + 1e-5) if new else np.array([3.0, 2.0, 0.25])
    first, second = (jb.Dense(RNG.standard_normal(n), np.zeros(n[0])) for n in ((3, 4), (2, 3)))
    net = jb.Network([first, jb.Scale(scale, beta if new else np.ones(3)), second])
    mine = in_training_mode(first, second, gamma, beta)
    diagnosis = jb.diagnose(mine, net, X, Y, LOSS)
    assert [slip.name for slip in diagnosis.mistakes] == ["batch-norm in training mode"], diagnosis
    assert jb.diagnose(jb.backprop.gradients(net, X, Y, LOSS), net, X, Y, LOSS).right


def test_a_trained_batch_norm_in_training_mode_is_known_by_its_bias():
    """What it was trained to is lost in the Scale; the gradient of 0 below it is left."""
    first, second = (jb.Dense(RNG.standard_normal(n), np.zeros(n[0])) for n in ((3, 4), (2, 3)))
    net = jb.Network([first, jb.Scale([1.0, 2.0, 3.0], np.ones(3)), second])
    mine = in_training_mode(first, second, np.array([0.3, 0.7, 1.9]), np.zeros(3))
    diagnosis = jb.diagnose(mine, net, X, Y, LOSS)
    assert diagnosis.mistakes[0].name == "batch-norm in training mode"
    assert "biases of layer 1" not in diagnosis.unexplained


def test_every_verdict_says_what_it_rests_on():
    """The same bits, a bound that proves something, or an estimate where no bound does."""
    whole = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="relu"), jb.Dense([[1, -1]])])
    g = jb.backprop.gradients(whole, [1.0, 2.0], [1.0], LOSS)
    exact = jb.diagnose(g, whole, [1.0, 2.0], [1.0], LOSS)
    assert (exact.evidence, exact.difference) == ("exact", 0.0)
    near = diagnose([A * (1 + 2**-51) for A in W])
    assert near.evidence == "bound"
    assert "within the bound" in str(near)
    # a thousand ulps, far beyond any bound of two layers
    far = diagnose([A * (1 + 2e-13) for A in W])
    assert (far.right, far.evidence) == (False, "bound")
    assert [slip.name for slip in far.mistakes] == ["digits lost"]
    assert "right to 13 digits" in str(far)
    net = jb.Network.random([3] * 50, seed=0).astype(np.float32)  # |W| |W| ... grows
    x, y = X[:, :3].astype(np.float32), X[:, 1:].astype(np.float32)
    deep = jb.diagnose(jb.backprop.gradients(net, x, y, LOSS), net, x, y, LOSS)
    assert (deep.right, deep.evidence) == (True, "estimate")
    assert "no proof" in str(deep)


ROLES = {
    "weights": lambda net: {"weights": [1.0001 * A for A in G.weights]},
    "biases": lambda net: {"biases": [1.0001 * A for A in G.biases]},
    "deltas": lambda net: {"deltas": [1.0001 * A for A in G.deltas]},
    "inputs": lambda net: {"inputs": 1.0001 * G.inputs},
    "jacobian": lambda net: {"jacobian": 1.0001 * jb.jacobian(net, X)},
    "weight_jacobians": lambda net: {"weight_jacobians": {
        l: 1.0001 * np.array([jb.explicit.weight_jacobian(jb.trace(net, x), l) for x in X])
        for l in (1, 2, 3)}},
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_arrays_of_dense_networks_are_decided_by_the_bound(role):
    """Both ways: what is right, and what is off by a ten thousandth, and what only looks right."""
    wrong = ROLES[role](NET)
    right = {
        name: {l: A / 1.0001 for l, A in arrays.items()} if isinstance(arrays, dict)
        else arrays / 1.0001 if isinstance(arrays, np.ndarray) else [A / 1.0001 for A in arrays]
        for name, arrays in wrong.items()
    }  # fmt: skip
    for mine, verdict in ((wrong, False), (right, True)):
        diagnosis = diagnose(mine)
        assert (diagnosis.right, diagnosis.evidence) == (verdict, "bound"), diagnosis


def test_layers_that_are_not_dense_are_judged_by_an_estimate():
    net = jb.Network([jb.Dense(RNG.standard_normal((4, 4))), jb.Scale(np.arange(4) + 1.0)])
    g = jb.backprop.gradients(net, X, X, LOSS)
    # an ulp: what no estimate takes for a mistake
    diagnosis = jb.diagnose([g.weights[0] * (1 + 2e-16)], net, X, X, LOSS)
    assert diagnosis.evidence in ("exact", "estimate")


def test_a_network_of_a_thousand_layers_is_no_problem():
    net = jb.Network([jb.Dense(np.eye(2) + RNG.standard_normal((2, 2)) / 100) for _ in range(1000)])
    x, y = np.ones((2, 2)), np.zeros((2, 2))
    g = jb.backprop.gradients(net, x, y, LOSS)
    assert jb.diagnose(g, net, x, y, LOSS).right
    assert jb.derive(net, x[0], y[0], LOSS).holds


def deep(L, wrong):
    """A deep network, and its weight gradients with some that are changed."""
    rng = np.random.default_rng(L)
    net = jb.Network(
        [jb.Dense(np.eye(3) + rng.standard_normal((3, 3)) / 100, activation="tanh")] * L
    )
    x, y = rng.standard_normal((2, 2, 3))
    weights = list(jb.backprop.gradients(net, x, y, LOSS).weights)
    for l, change in wrong.items():
        weights[l - 1] = change(weights[l - 1])
    return {"weights": weights}, net, x, y, LOSS


def spoiled(A):
    return A + np.abs(A).max() * np.arange(9.0).reshape(3, 3) ** 0.5


@pytest.mark.parametrize("l", [1, 50, 100])
def test_a_single_mistake_at_any_depth_is_named(l):
    diagnosis = jb.diagnose(*deep(100, {l: np.transpose}))
    assert [(slip.name, slip.sites) for slip in diagnosis.mistakes] == [
        ("transposed", (("dW", l),))
    ]
    assert [name for name, right in diagnosis.arrays.items() if not right] == [
        f"weights of layer {l}"
    ]
    assert diagnosis.evidence == "bound"


@pytest.mark.parametrize("l", [1, 50, 100])
def test_without_an_explanation_the_wrong_layer_is_named_at_any_depth(l):
    diagnosis = jb.diagnose(*deep(100, {l: spoiled}))
    assert (diagnosis.mistakes, diagnosis.unexplained) == ((), (f"weights of layer {l}",))


def test_the_search_is_linear_in_the_depth(monkeypatch):
    """Twice the layers are at most twice the lines that are computed, whatever is wrong."""
    computed, evaluated = [], Evaluation._evaluated
    monkeypatch.setattr(
        Evaluation, "_evaluated", lambda *args: computed.append(1) or evaluated(*args)
    )
    for wrong in ({20: spoiled}, dict.fromkeys(range(1, 41), spoiled)):
        counts = []
        for L in (40, 80):
            computed.clear()
            jb.diagnose(*deep(L, {l * L // 40: change for l, change in wrong.items()}))
            counts.append(len(computed))
        assert counts[1] <= 2.1 * counts[0]


def test_slips_in_single_layers_of_a_deep_network_are_named():
    net = jb.Network([jb.Dense(np.eye(2) + RNG.standard_normal((2, 2)) / 100) for _ in range(40)])
    x, y = np.ones((2, 2)), np.zeros((2, 2))
    wrong = list(jb.backprop.gradients(net, x, y, LOSS).weights)
    wrong[38], wrong[11] = 3 * wrong[38], wrong[11].T
    diagnosis = jb.diagnose({"weights": wrong}, net, x, y, LOSS)
    assert {slip.sites for slip in diagnosis.mistakes} == {(("dW", 39),), (("dW", 12),)}


def test_kinks_are_a_choice():
    net = jb.Network(
        [jb.Dense([[1.0, -1.0], [1.0, 1.0]], activation="relu"), jb.Dense([[1.0, 2.0]])]
    )
    x, y = np.array([[1.0, 1.0]]), np.array([[0.0]])
    delta = np.array([4.0]) * np.array([[1.0], [2.0]])  # slope 1 at the kink, ours is 0
    diagnosis = jb.diagnose({"dW1": delta @ x}, net, x, y, LOSS)
    assert diagnosis.right
    assert "kink" in diagnosis.remarks[0]


def test_what_looks_the_same_is_told_with_the_data_that_would_tell():
    x, y = X[:1], Y[:1]
    g = jb.backprop.gradients(NET, x, y, LOSS)
    diagnosis = jb.diagnose({"weights": [2 * A for A in g.weights]}, NET, x, y, LOSS)
    assert diagnosis.mistakes[0].name == "factor 2"
    assert diagnosis.alternatives  # two outputs: n times the truth
    assert any("would tell" in remark for remark in diagnosis.remarks)


def test_where_nothing_explains_it_the_worst_entry_is_named():
    wrong = [A.copy() for A in W]
    wrong[1][2, 0] += 3.0
    diagnosis = diagnose(wrong)
    assert diagnosis.unexplained == ("weights of layer 2",)
    assert diagnosis.arrays["weights of layer 3"]
    assert "worst entry [2, 0]" in str(diagnosis)


def test_jacobians_need_no_loss():
    J = jb.jacobian(NET, X[0])
    assert jb.diagnose(J, NET, X[0]).right
    assert jb.diagnose(J.T, NET, X[0]).mistakes[0].name == "transposed"
    assert jb.diagnose({"jacobian": -J}, NET, X[0]).mistakes[0].name == "sign"


def test_graphs_are_diagnosed():
    net = jb.Network(
        [jb.Dense(RNG.standard_normal((3, 2)), activation="tanh"),
         jb.Residual([jb.Dense(RNG.standard_normal((3, 3)), activation="tanh")]),
         jb.Dense(RNG.standard_normal((2, 3)))]
    )  # fmt: skip
    x, y = RNG.standard_normal((4, 2)), RNG.standard_normal((4, 2))
    g = jb.backprop.gradients(net, x, y, LOSS)
    assert jb.diagnose(g, net, x, y, LOSS).right
    mine = {"weights": {1: g.weights[0], 2: g.weights[1].T}}
    assert jb.diagnose(mine, net, x, y, LOSS).mistakes[0].name == "transposed"


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        ({}, "there is nothing in it"),
        ({"foo": W}, "'foo' is no name of a result"),
        ({"dW7": W[0]}, "layer: expected a layer number from 1 to 3, got 7"),
        ({"weights": W[:1]}, "expected a list of 3 arrays"),
        ({"dW1": "a"}, "expected real numbers"),
        ({"db1": np.ones(9)}, r"expected shape \(5,\), but got \(9,\)"),
        ({"deltas": [np.ones(9)] * 3}, "expected one row of 5 for every point"),
        ({"dW1": np.ones((1, 2, 3))}, "expected a matrix"),
        (np.ones(7), "neither a Jacobian"),
    ],
)
def test_what_cannot_be_compared_is_refused(mine, message):
    with pytest.raises((ValueError, TypeError), match=message):
        diagnose(mine)


def test_missing_targets_are_refused():
    with pytest.raises(ValueError, match="need both Y and loss"):
        jb.diagnose(W, NET, X, Y)
    with pytest.raises(ValueError, match="gradients need Y and loss"):
        jb.diagnose({"weights": W}, NET, X)
