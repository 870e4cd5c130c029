"""A layer that is made without a bias has none: everything else is as with a bias of zeros."""

from dataclasses import replace

import numpy as np
import pytest
from claims import assert_equal

import jacobians as jb
from jacobians import conventions

rng = np.random.default_rng(7)


def whole(*shape):
    return rng.integers(-2, 3, shape).astype(float)


LAST = jb.Dense(whole(2, 6), [1.0, -1.0])
# name: a layer without a bias, the name of what it lacks, and the shape of the value it takes
LAYERS = {
    "dense": (jb.Dense(whole(6, 4), activation="relu"), "b", (4,)),
    "dense on rows": (jb.Dense(whole(2, 4), activation="square"), "b", (3, 4)),
    "convolution": (jb.Convolution(whole(3, 2, 2), activation="relu"), "b", (2, 3)),
    "transposed convolution": (jb.TransposedConvolution(whole(2, 3, 1)), "b", (2, 2)),
    "layer norm": (jb.LayerNorm(whole(3)), "shift", (2, 3)),
}


def cases():
    for name, (layer, lacking, shape) in LAYERS.items():
        net = jb.Network([layer, LAST], inputs=shape)
        size = {"b": net.shapes[1][-1] if "dense" in name else net.shapes[1][0]}.get(lacking, 3)
        with_zeros = replace(layer, **{lacking: np.zeros(size)})
        yield pytest.param(net, jb.Network([with_zeros, LAST], inputs=shape), lacking, id=name)


every_layer = pytest.mark.parametrize(("net", "twin", "lacking"), list(cases()))


@every_layer
def test_a_layer_without_a_bias_is_one_with_zeros_that_are_no_parameters(net, twin, lacking):
    X, Y = whole(5, net.widths[0]), whole(5, 2)
    assert_equal(net(X), twin(X))
    assert_equal(jb.jacobian(net, X), jb.jacobian(twin, X))
    assert getattr(net.layers[0], lacking) is None
    assert lacking not in net.layers[0].parameters()
    count = getattr(twin.layers[0], lacking).size
    assert net.parameter_count == twin.parameter_count - count == len(net.parameters)

    g, other = (jb.backprop.gradients(n, X, Y, jb.SquaredError(), l2=0.5) for n in (net, twin))
    assert g.loss == other.loss
    assert list(g.parameters[0]) == [name for name in other.parameters[0] if name != lacking]
    for name, array in g.parameters[0].items():
        assert_equal(array, other.parameters[0][name])
    assert_equal(g.inputs, other.inputs)
    assert g.biases[0] is None
    assert len(g.vector) == net.parameter_count
    by_matrices = jb.explicit.gradients(net, X, Y, jb.SquaredError(), l2=0.5)
    assert list(by_matrices.parameters[0]) == list(g.parameters[0])


@every_layer
def test_curvature_counts_what_is_trained(net, twin, lacking):
    X = whole(3, net.widths[0])
    J = jb.explicit.parameter_jacobian(jb.trace(net, X[0]))
    assert J.shape == (2, net.parameter_count)
    assert_equal(jb.linearize(net, X[0]).parameter_jacobian().to_dense(), J)
    K = jb.curvature(net, X[:1]).ntk().to_dense()
    bound = 1e3 * np.finfo(float).eps * np.abs(J) @ np.abs(J.T)  # sums of fewer than 1,000 products
    assert (np.abs(K - J @ J.T) <= bound).all()


@every_layer
def test_it_stays_without(net, twin, lacking, tmp_path):
    """Through files, other parameters and other dtypes."""
    jb.save(net, tmp_path / "net.npz")
    again = jb.load(tmp_path / "net.npz")
    other = again.with_parameters(2 * net.parameters).astype(np.float32)
    for one in (again, other):
        assert getattr(one.layers[0], lacking) is None
        assert one.parameter_count == net.parameter_count
    assert_equal(again.parameters, net.parameters)


@every_layer
def test_it_is_certified_derived_and_diagnosed(net, twin, lacking):
    X, Y = whole(4, net.widths[0]) / 4 + 0.1, whole(4, 2)
    assert jb.certify(net, X[0], hessian=True).holds
    derivation = jb.derive(net, X, Y, jb.SquaredError())
    assert derivation.holds
    assert ("∂C/∂b¹" in str(derivation)) is False
    g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
    assert jb.diagnose(g, net, X, Y, jb.SquaredError()).right
    loss = jb.SquaredError()
    with pytest.raises(ValueError, match="has none"):
        jb.diagnose({"biases": [np.zeros(1), g.biases[1]]}, net, X, Y, loss)
    alone = jb.Network([net.layers[0]], inputs=net.shapes[0])
    for name in ("biases", "db"):
        with pytest.raises(ValueError, match=f"{name}: no layer of the network has any"):
            jb.diagnose({name: [np.zeros(1)]}, alone, X, alone(X), loss)
    nothing = {
        "biases": [None],
        "weights": list(jb.backprop.gradients(alone, X, alone(X), loss).weights),
    }
    if lacking == "b":
        assert jb.diagnose(nothing, alone, X, alone(X), loss).right
        for wrong in (
            {"weights": []},
            {"foo": [None]},
            nothing | {"biases": []},
            nothing | {"biases": np.ones((2, 2))},
            nothing | {"db1": 1.0},
        ):
            with pytest.raises(ValueError, match="diagnose: mine: "):
                jb.diagnose(wrong, alone, X, alone(X), loss)


def test_rows_of_a_network_without_biases():
    """In rows, too: no derivative by a bias that is not there, and zeros where one is asked for."""
    net = jb.Network([jb.Dense(whole(3, 2), activation="square"), jb.Dense(whole(1, 3), [2.0])])
    X, Y = whole(4, 2), whole(4, 1)
    g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
    for rows in (
        conventions.row_derivatives(net, X, Y, jb.SquaredError()),
        conventions.rows_from_gradients(g),
    ):
        assert rows.biases[0] is None
        assert_equal(rows.biases[1], g.biases[1][None])
        assert list(conventions.gradients_from_rows(rows).parameters[0]) == ["W"]
    form = conventions.to_row_form(net)
    assert_equal(form.biases[0], np.zeros((1, 3)))


def test_what_is_fitted_without_intercepts_has_none():
    linear_model = pytest.importorskip("sklearn.linear_model")
    X = whole(20, 3) + np.eye(20, 3)
    for fitted, count in (
        (linear_model.Ridge(fit_intercept=False).fit(X, X @ np.ones((3, 2))), 6),
        (linear_model.Ridge().fit(X, X @ np.ones((3, 2))), 8),
        (linear_model.LogisticRegression(fit_intercept=False).fit(X, X[:, 0] > 0), 3),
    ):
        net = jb.from_sklearn(fitted)
        assert net.layers[0].parameters().keys() <= {"W", "b"}
        assert sum(p.size for p in net.layers[0].parameters().values()) == count


def test_what_is_imported_without_a_bias_has_none():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layers = [nn.Conv1d(1, 2, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3, bias=False)]
    module = nn.Sequential(*layers, nn.Linear(3, 2)).double().eval()
    net = jb.from_torch(module, inputs=(1, 4))
    assert net.parameter_count == sum(p.numel() for p in module.parameters())
    assert (
        jb.from_torch({"0.weight": np.ones((2, 3))}, activations=["identity"]).parameter_count == 6
    )
