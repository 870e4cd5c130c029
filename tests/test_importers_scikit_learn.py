"""scikit-learn models come in as what they predict, in the original units of inputs and targets."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import IMPORTABLE, from_sklearn
from jacobians.importers.scikit_learn import LINEAR, LOG_LINEAR, SCALERS

pytest.importorskip("sklearn")

from sklearn import linear_model, preprocessing, svm
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

RNG = np.random.default_rng(20)
CENTER, SPREAD = np.array([3.0, -50.0, 0.01, 700.0]), np.array([1.0, 20.0, 0.002, 90.0])
X = CENTER + SPREAD * RNG.normal(size=(60, 4))  # features in four different units
Y = np.stack([X @ [2.0, -0.1, 500.0, 0.01], 40 * np.sin(X[:, 0]), 0.001 * X[:, 1]], axis=1)
LABELS = np.array(["ape", "bee", "cat"])[np.argsort(np.argsort(Y[:, 1])) // 20]


def fitted(model, X=X, Y=Y[:, 1]):
    """A few steps of training are enough: the weights need not be good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return model.fit(X, Y)


def assert_same(net, predict, points=X[:5]):
    """Same values; the Jacobian is what differences of the model's own prediction say.

    The two evaluations of the same sums differ by roundings, some 1e-15 of the numbers they meet;
    scaled features are sums of numbers up to 100 times larger than themselves.
    """
    values = net(points)
    expected = np.asarray(predict(points)).reshape(values.shape)
    size = np.abs(expected).max(axis=0)
    assert (np.abs(values - expected) <= 1e-12 * size).all()
    J = jb.jacobian(net, points[0])
    found = jb.witness.check_jacobian(lambda x: np.ravel(predict(x[None])), J, points[0])
    assert found.holds, found


# --- regressors -----------------------------------------------------------------------------------

scalers = st.sampled_from(
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        StandardScaler(with_mean=False, with_std=False),
        MinMaxScaler(),
        MinMaxScaler(feature_range=(-2, 5)),
        MaxAbsScaler(),
        RobustScaler(),
        RobustScaler(with_centering=False, quantile_range=(10, 80)),
        RobustScaler(with_scaling=False),
    ]
)
steps = st.lists(scalers | st.just("passthrough"), max_size=3)


@settings(max_examples=25)
@given(
    steps=steps,
    target=st.none() | scalers,
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    activation=st.sampled_from(["identity", "logistic", "tanh", "relu"]),
    outputs=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_regression_pipeline_is_its_prediction_in_original_units(
    steps, target, hidden, activation, outputs, seed
):
    """d predict / dX, whatever stands before and behind the perceptron."""
    network = MLPRegressor(
        hidden_layer_sizes=hidden, activation=activation, max_iter=3, random_state=seed
    )
    model = make_pipeline(*(s if s == "passthrough" else clone(s) for s in steps), network)
    if target is not None:
        model = TransformedTargetRegressor(model, transformer=clone(target))
    model = fitted(model, Y=Y[:, 0] if outputs == 1 else Y[:, :outputs])
    net = from_sklearn(model)
    assert net.widths[0] == 4
    assert net.widths[-1] == outputs
    assert (net.input_names, net.output_names) == (None, None)
    assert_same(net, model.predict, X[seed % 50 :][:5])


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_are_their_coefficients(name):
    """The Jacobian of a linear model is ``coef_``, everywhere."""
    home = svm if name == "LinearSVR" else linear_model
    multi = name.startswith("MultiTask")
    options = {"cv": 2} if name.endswith("CV") else {}
    model = fitted(
        getattr(home, name)(**options), (X - CENTER) / SPREAD, Y[:, :2] if multi else Y[:, 1]
    )
    net = from_sklearn(model)
    assert_same(net, model.predict)
    assert np.array_equal(jb.jacobian(net, X[0]), np.atleast_2d(model.coef_))


@pytest.mark.parametrize("name", LOG_LINEAR)
def test_log_linear_models_are_exponentials(name):
    """d exp(w x + b) / dx = exp(w x + b) w."""
    model = fitted(getattr(linear_model, name)(), (X - CENTER) / SPREAD, 1 + np.abs(Y[:, 1]))
    net = from_sklearn(model)
    assert_same(net, model.predict, (X[:5] - CENTER) / SPREAD)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_linear_regression_of_one_or_more_targets(outputs, intercept):
    model = LinearRegression(fit_intercept=intercept).fit(X, Y[:, :outputs])
    assert_same(from_sklearn(model), model.predict)


def test_a_poisson_perceptron_ends_in_exp():
    if "loss" not in MLPRegressor().get_params():
        return  # before scikit-learn 1.7 there was no other loss, so there is nothing to import
    model = fitted(
        MLPRegressor(hidden_layer_sizes=[5], loss="poisson", max_iter=5, random_state=0),
        Y=np.abs(Y[:, 0]),
    )
    net = from_sklearn(make_pipeline(model))
    assert str(net.layers[-1].activation) == "exp"


def test_a_float32_perceptron_stays_float32():
    model = fitted(
        MLPRegressor(hidden_layer_sizes=[5], max_iter=5, random_state=0), X.astype(np.float32)
    )
    net = from_sklearn(model)
    assert net.dtype == np.float32
    assert_same(net.astype(np.float64), lambda X: model.predict(X.astype(np.float64)))


# --- classifiers ----------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=2),
    activation=st.sampled_from(["identity", "logistic", "tanh", "relu"]),
    seed=st.integers(0, 99),
)
def test_classifiers_are_their_probabilities(hidden, activation, seed):
    """Softmax over several classes, one logistic for two, independent logistics for labels."""
    make = MLPClassifier(hidden, activation=activation, max_iter=3, random_state=seed)
    scaler = StandardScaler()

    several = fitted(make_pipeline(scaler, make), Y=LABELS)
    net = from_sklearn(several)
    assert net.output_names == ("ape", "bee", "cat")
    assert_same(net, several.predict_proba)

    two = fitted(make_pipeline(scaler, make), Y=np.where(LABELS == "bee", "yes", "no"))
    net = from_sklearn(two)
    assert net.output_names == ("P(yes)",)
    assert_same(net, lambda X: two.predict_proba(X)[:, 1:])

    labels = (np.median(Y, axis=0) < Y).astype(int)
    multilabel = fitted(make_pipeline(scaler, make), Y=labels)
    net = from_sklearn(multilabel)
    assert net.output_names == ("0", "1", "2")
    assert str(net.layers[-1].activation) == "sigmoid"
    assert_same(net, multilabel.predict_proba)


@pytest.mark.parametrize("kind", [LogisticRegression, linear_model.LogisticRegressionCV])
def test_logistic_regression_is_predict_proba(kind):
    options = {} if kind is LogisticRegression else {"cv": 2, "Cs": 1, "max_iter": 20}
    model = fitted(make_pipeline(StandardScaler(), kind(**options)), Y=LABELS)
    net = from_sklearn(model)
    assert net.output_names == ("ape", "bee", "cat")
    assert_same(net, model.predict_proba)
    model = fitted(make_pipeline(StandardScaler(), kind(**options)), Y=LABELS == "ape")
    net = from_sklearn(model)
    assert net.output_names == ("P(True)",)
    assert_same(net, lambda X: model.predict_proba(X)[:, 1:])


def test_logistic_regression_with_sparse_coefficients():
    Z = StandardScaler().fit_transform(X)
    model = LogisticRegression(l1_ratio=1.0, solver="saga", tol=0.1).fit(Z, LABELS).sparsify()
    assert_same(from_sklearn(model), model.predict_proba, Z[:5])


def test_what_older_versions_made_of_two_and_more_classes():
    """``multi_class`` until 1.8: two classes as softmax(-s, s) = logistic(2 s), or one against the
    rest, whose probabilities are divided by their sum."""
    Z = StandardScaler().fit_transform(X)
    two = LogisticRegression().fit(Z, LABELS == "ape")
    two.multi_class = "multinomial"
    s = two.decision_function(Z[:5])
    values = from_sklearn(two)(Z[:5])[:, 0]
    assert np.allclose(values, np.exp(s) / (np.exp(s) + np.exp(-s)), rtol=1e-13)  # roundings
    several = LogisticRegression().fit(Z, LABELS)
    several.multi_class = "ovr"
    with pytest.raises(NotImplementedError, match=r"LogisticRegression: one-vs-rest, .*lbfgs"):
        from_sklearn(several)
    several.multi_class, several.solver = "auto", "liblinear"
    with pytest.raises(NotImplementedError, match="one-vs-rest"):
        from_sklearn(several)


# --- scalers, names, steps ------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", [MinMaxScaler(clip=True), MinMaxScaler((-1, 3), clip=True)])
def test_a_clipping_scaler_does_not_move_outside_its_range(scaler):
    model = make_pipeline(scaler, Ridge()).fit(X, Y)
    net = from_sklearn(model)
    outside = X[:4] + 10 * SPREAD * np.array([[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, -1], [0] * 4])
    assert_same(net, model.predict, outside)
    assert (jb.jacobian(net, outside[0])[:, 1] == 0).all()


def test_a_clipping_max_abs_scaler_clips_at_one():
    """Since 1.8 it has the argument; the attribute is what counts."""
    scaler = MaxAbsScaler().fit(X)
    scaler.clip = True
    net = from_sklearn(scaler)
    assert np.array_equal(net(100 * X[:3]), np.sign(X[:3]))


def test_a_scaler_alone_is_its_transform():
    for kind in SCALERS:
        scaler = getattr(preprocessing, kind)().fit(X)
        assert_same(from_sklearn(scaler), scaler.transform)


def test_target_scalers_may_be_a_pipeline():
    targets = make_pipeline(MinMaxScaler((1, 2)), "passthrough", RobustScaler())
    model = TransformedTargetRegressor(LinearRegression(), transformer=targets).fit(X, Y)
    assert_same(from_sklearn(model), model.predict)
    model = TransformedTargetRegressor(LinearRegression()).fit(X, Y[:, 0])
    assert_same(from_sklearn(model), model.predict)


def test_nested_pipelines_and_passthrough():
    inner = Pipeline([("a", StandardScaler()), ("off", "passthrough"), ("b", MinMaxScaler())])
    model = Pipeline([("pre", inner), ("none", None), ("net", LinearRegression())])
    model = model.fit(X, Y)
    net = from_sklearn(model)
    assert net.depth == 2  # two scalers in a row are one
    assert_same(net, model.predict)


def named(estimator, names):
    """Fit on an array, and set the names that fitting on a data frame would have set."""
    estimator = fitted(estimator)
    first = estimator
    while hasattr(first, "steps") or hasattr(first, "regressor_"):
        first = first.steps[0][1] if hasattr(first, "steps") else first.regressor_
    first.feature_names_in_ = np.array(names, dtype=object)
    return estimator


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        make_pipeline(StandardScaler(), LinearRegression()),
        make_pipeline(make_pipeline(StandardScaler()), LinearRegression()),
        TransformedTargetRegressor(
            make_pipeline(StandardScaler(), LinearRegression()), transformer=StandardScaler()
        ),
    ],
    ids=["alone", "pipeline", "nested", "target"],
)
def test_feature_names_become_input_names(model):
    names = ("height", "width", "ä", "mass")
    assert from_sklearn(named(clone(model), names)).input_names == names


# --- refusals -------------------------------------------------------------------------------------


class Doubled(LinearRegression):
    def predict(self, X):
        return 2 * super().predict(X)


OTHERS = [
    (
        make_pipeline(StandardScaler(), PCA(2), Ridge()),
        NotImplementedError,
        r"Pipeline step 'pca' \(PCA\): PCA has no rule here. Apply it to the data beforehand",
    ),
    (
        make_pipeline(FunctionTransformer(np.tanh), Ridge()),
        NotImplementedError,
        r"step 'functiontransformer' \(FunctionTransformer\)",
    ),
    (
        GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, cv=2),
        NotImplementedError,
        r"GridSearchCV: GridSearchCV has no rule here. Give its .best_estimator_",
    ),
    (
        TransformedTargetRegressor(Ridge(), func=np.cbrt, inverse_func=lambda y: y**3),
        NotImplementedError,
        r"TransformedTargetRegressor: func=cbrt has no rule here. Transform the targets with",
    ),
    (
        TransformedTargetRegressor(Ridge(), transformer=FunctionTransformer(validate=True)),
        NotImplementedError,
        r"transformer \(FunctionTransformer\): FunctionTransformer has no rule here. Targets can",
    ),
    (
        Doubled(),
        NotImplementedError,
        r"the class Doubled has no rule here. It is a LinearRegression that may compute something",
    ),
    (
        MLPRegressor(hidden_layer_sizes=[2], activation="tanh", max_iter=2),
        NotImplementedError,
        "MLPRegressor: activation 'swish' has no rule here",
    ),
]


@pytest.mark.parametrize(("model", "error", "message"), OTHERS)
def test_what_has_no_rule_is_refused_by_name_and_place(model, error, message):
    model = fitted(model, Y=Y[:, 0])
    if isinstance(model, MLPRegressor):
        model.activation = "swish"
    with pytest.raises(error, match=message):
        from_sklearn(model)


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (MLPRegressor(), "MLPRegressor"),
        (
            make_pipeline(StandardScaler(), Ridge()),
            r"Pipeline step 'standardscaler' \(StandardScaler\)",
        ),
        (make_pipeline(StandardScaler().fit(X), Ridge()), r"Pipeline step 'ridge' \(Ridge\)"),
        (TransformedTargetRegressor(Ridge()), "TransformedTargetRegressor"),
    ],
)
def test_what_is_not_fitted_is_refused(model, place):
    with pytest.raises(ValueError, match=rf"from_sklearn: {place} is not fitted yet; call fit"):
        from_sklearn(model)


@pytest.mark.parametrize("thing", [5, "model", None, LinearRegression, {"a": 1}])
def test_what_is_no_estimator_is_refused(thing):
    with pytest.raises(TypeError, match="expected a fitted scikit-learn estimator, but got"):
        from_sklearn(thing)


def test_a_pipeline_of_nothing_has_no_inputs():
    with pytest.raises(ValueError, match="nothing in the model fixes the number of inputs"):
        from_sklearn(Pipeline([("a", "passthrough")]))


def test_the_table_names_classes_of_scikit_learn():
    import sklearn

    homes = [linear_model, preprocessing, svm]
    homes += [sklearn.neural_network, sklearn.pipeline, sklearn.compose]
    assert all(any(hasattr(home, name) for home in homes) for name in IMPORTABLE["from_sklearn"])
