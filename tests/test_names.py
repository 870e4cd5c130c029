"""Names: every function that takes points takes tables, their columns in any order."""

from inspect import isfunction, signature

import numpy as np
import pytest
from claims import assert_equal

import jacobians as jb

pandas = pytest.importorskip("pandas")

NAMES = ("age", "bmi", "sex", "bp")
X = np.array([[50.0, 21.5, 1.0, 90.0], [33.0, 30.25, 0.0, 80.0], [71.0, 25.0, 1.0, 101.0]])
W = np.arange(12.0).reshape(3, 4) / 1000
NET = jb.Network([jb.Dense(W, activation="tanh"), jb.Dense([[1.0, -2.0, 0.5]])], input_names=NAMES)
UNNAMED = jb.Network(NET.layers)
SHUFFLED = pandas.DataFrame(X, columns=NAMES)[["bp", "age", "sex", "bmi"]]

Y, LOSS = np.zeros((3, 1)), jb.SquaredError()
DEVIATIONS = [0.1, 0.2, 0.3, 0.4]
BATCHES = {
    "net(X)": lambda net, X: net(X),
    "jacobian": jb.jacobian,
    "value_and_jacobian": lambda net, X: jb.value_and_jacobian(net, X)[1],
    "jvp": lambda net, X: jb.jvp(net, X, np.ones((3, 4)))[1],
    "vjp": lambda net, X: jb.vjp(net, X, np.ones((3, 1)))[1],
    "trace": lambda net, X: jb.trace(net, X).activation(1),
    "linearize": lambda net, X: jb.linearize(net, X).jacobian(),
    "jacobian_with_bound": lambda net, X: jb.jacobian_with_bound(net, X)[0],
    "gradients": lambda net, X: jb.backprop.gradients(net, X, Y, LOSS).weights[0],
    "explicit.gradients": lambda net, X: jb.explicit.gradients(net, X, Y, LOSS).weights[0],
    "error_bars": lambda net, X: jb.error_bars(net, X, std=DEVIATIONS).std,
    "sensitivity": lambda net, X: jb.sensitivity(net, X).mean,
    "interactions": lambda net, X: jb.interactions(net, X).mean_absolute,
    "hessian": jb.hessian,
    "value_jacobian_hessian": lambda net, X: jb.value_jacobian_hessian(net, X)[2],
    "hvp": lambda net, X: jb.hvp(net, X, np.ones((3, 4))),
    "curvature": lambda net, X: jb.curvature(net, X, Y, LOSS).gauss_newton.diagonal(),
    "laplace": lambda net, X: (
        jb.error_bars(net, NEW, parameters=jb.laplace(net, X, Y, LOSS, structure="diagonal")).std
    ),
    "tangents": lambda net, X: jb.jvp(net, VALUES, X)[1],
    "V": lambda net, X: jb.hvp(net, VALUES, X),
    "std": lambda net, X: jb.error_bars(net, VALUES, std=X).std,
    "explain": lambda net, X: jb.explain(net, _row(X), NEW[0]).contributions,
    "baseline": lambda net, X: jb.explain(net, NEW[0], X).contributions,
    "certify": lambda net, X: [line.difference for line in jb.certify(net, _row(X))],
    "derive": lambda net, X: str(jb.derive(net, _row(X), Y[0], LOSS)),
    "diagnose": lambda net, X: str(jb.diagnose(MINE, net, X, Y, LOSS)),
}
VALUES = np.array(X)
NEW = np.array([[40.0, 20.0, 1.0, 95.0]])
MINE = jb.backprop.gradients(NET, X, Y, LOSS)


def _row(X):
    """Return the second point: of a table still with its names."""
    return X.iloc[1] if hasattr(X, "iloc") else X[1]


def test_no_function_that_takes_points_is_forgotten():
    takes_points = {
        name
        for name in jb.__all__
        for function in [getattr(jb, name)]
        if isfunction(function) and {"x", "X"} & set(list(signature(function).parameters)[:3])
    }
    assert takes_points <= set(BATCHES)


every_function = pytest.mark.parametrize("function", BATCHES.values(), ids=BATCHES)


@every_function
def test_columns_are_matched_by_name(function):
    assert_equal(function(NET, SHUFFLED), function(NET, X))


@every_function
def test_without_names_in_the_network_columns_are_taken_as_they_stand(function):
    assert_equal(function(UNNAMED, SHUFFLED), function(UNNAMED, SHUFFLED.to_numpy()))


@every_function
def test_columns_that_do_not_match_are_refused_by_name(function):
    for table, message in (
        (SHUFFLED.rename(columns={"bp": "pulse"}), "missing 'bp'; not an input: 'pulse'"),
        (SHUFFLED.assign(target=1.0), "not an input: 'target'"),
    ):
        with pytest.raises(ValueError, match=message):
            function(NET, table)


def test_a_row_of_a_table_is_certified():
    row = SHUFFLED.iloc[1]
    assert all(jb.certify(NET, row))
    assert_equal(jb.jacobian(NET, row), jb.jacobian(NET, X[1]))


def test_a_record_carries_the_names_of_the_table():
    """Those of the network, in its order; those of the table, where the network has none."""
    assert jb.sensitivity(NET, SHUFFLED).input_names == NAMES
    assert jb.sensitivity(UNNAMED, SHUFFLED).input_names == tuple(SHUFFLED.columns)
    named = jb.sensitivity(UNNAMED, SHUFFLED, input_names=NAMES)
    assert named.input_names == NAMES


def test_tables_of_outputs_are_matched_by_their_names():
    """Targets and cotangents; one column has no order, and a Series of labels no names."""
    layers = [jb.Dense(W, activation="softmax")]
    net = jb.Network(layers, input_names=NAMES, output_names=["u", "v", "w"])
    table = pandas.DataFrame(np.arange(9.0).reshape(3, 3), columns=["w", "u", "v"])
    ordered, labels = table[["u", "v", "w"]].to_numpy(), pandas.Series([0, 2, 1], index=[7, 3, 5])
    for function in (
        lambda Y: jb.vjp(net, X, Y),
        lambda Y: jb.backprop.gradients(net, X, Y, LOSS).weights[0],
        lambda Y: jb.explicit.gradients(net, X, Y, LOSS).weights[0],
        lambda Y: jb.curvature(net, X, Y, LOSS).gradient_squares(),
        lambda Y: str(jb.diagnose({"weights": [W]}, net, X, Y, LOSS)),
    ):
        assert_equal(function(table), function(ordered))
        with pytest.raises(ValueError, match="names of the outputs: missing 'u'; not an output"):
            function(table.rename(columns={"u": "cost"}))
    cross = jb.CrossEntropy()
    given = jb.backprop.gradients(net, X, labels, cross).weights[0]
    assert_equal(given, jb.backprop.gradients(net, X, labels.to_numpy(), cross).weights[0])


def test_a_covariance_has_the_names_of_the_inputs_on_both_sides():
    table = SHUFFLED.cov()
    assert_equal(
        jb.error_bars(NET, X, covariance=table).std,
        jb.error_bars(NET, X, covariance=np.cov(X.T)).std,
    )
