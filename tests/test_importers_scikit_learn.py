"""scikit-learn models come in as what they predict, in the original units of inputs and targets."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import from_sklearn
from jacobians.importers.sklearn_transformers import FUNCTIONS, SCALERS

pytest.importorskip("sklearn")

from sklearn import linear_model, preprocessing
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, KernelPCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectFwe, f_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OutputCodeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVR, LinearSVC
from sklearn.tree import DecisionTreeRegressor

JUDGES = [("a", LogisticRegression()), ("b", GaussianNB())]
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
    check = jb.witness.check_jacobian(lambda x: np.ravel(predict(x[None])), J, points[0])
    assert check.holds, check


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


@pytest.mark.parametrize("power", [0.0, 1.5])
@pytest.mark.parametrize("link", ["auto", "log", "identity"])
def test_a_tweedie_regression_is_its_link(power, link):
    """d exp(w x + b) / dx = exp(w x + b) w where the link is a logarithm."""
    Z = (X - CENTER) / SPREAD
    model = fitted(linear_model.TweedieRegressor(power=power, link=link), Z, 50 + Y[:, 1])
    net = from_sklearn(model)
    assert_same(net, model.predict, Z[:5])
    assert (str(net.layers[-1].activation) == "exp") == (
        link == "log" or (link == "auto" and power > 0)
    )


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
    assert net.output_names == ("class 0", "class 1", "class 2")
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
    assert net.output_names == ("P(class True)",)
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
    # exp(2 s) has the roundings of s times 2 |s|, below 20, and some ten of its own
    assert np.allclose(values, np.exp(s) / (np.exp(s) + np.exp(-s)), rtol=1e-13, atol=0)
    several = LogisticRegression().fit(Z, LABELS)
    several.multi_class = "ovr"
    scores = 1 / (1 + np.exp(-several.decision_function(Z[:5])))
    expected = scores / scores.sum(axis=1, keepdims=True)
    # the same, of s alone
    assert np.allclose(from_sklearn(several)(Z[:5]), expected, rtol=1e-13, atol=0)
    several.multi_class, several.solver = "auto", "liblinear"
    assert np.allclose(from_sklearn(several)(Z[:5]), expected, rtol=1e-13, atol=0)


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


# --- features, functions, targets -----------------------------------------------------------------


@pytest.mark.parametrize(
    "transformer",
    [
        PowerTransformer(),
        PowerTransformer(standardize=False),
        PolynomialFeatures(2, interaction_only=True, include_bias=False),
        FeatureUnion(
            [("a", PCA(2)), ("no", "drop"), ("b", "passthrough")], transformer_weights={"a": 3.0}
        ),
    ],
)
def test_features_are_made_as_scikit_learn_makes_them(transformer):
    Z = (X - CENTER) / SPREAD
    model = transformer.fit(Z)
    assert_same(from_sklearn(model), model.transform, Z[:5] + 1e-3)


def test_yeo_johnson_is_smooth_at_zero_and_box_cox_takes_what_is_positive():
    """At 0 both sides have the slope 1; at exponents 0 and 2 the powers are logarithms."""
    power = PowerTransformer(standardize=False).fit((X - CENTER) / SPREAD)
    for exponents in ([0.0, 2.0, 1.0, 0.3], [-1.5, 0.5, 2.5, 3.0]):
        power.lambdas_ = np.array(exponents)
        net = from_sklearn(power)
        assert np.array_equal(jb.linearize(net, np.zeros(4)).jacobian(), np.eye(4))
        assert_same(net, power.transform, RNG.normal(size=(5, 4)))
    box = PowerTransformer(method="box-cox").fit(np.exp((X - CENTER) / SPREAD))
    box.lambdas_ = np.array([0.0, 1.0, -0.5, 2.0])
    assert_same(from_sklearn(box), box.transform, 2 + RNG.random((5, 4)))


POSITIVE = 1.5 + RNG.random((60, 3))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy_are_recognised(name):
    model = make_pipeline(FunctionTransformer(getattr(np, name)), StandardScaler()).fit(POSITIVE)
    assert_same(from_sklearn(model), model.transform, POSITIVE[:4])


def test_targets_may_be_transformed_by_functions():
    positive = np.abs(Y[:, 1])
    targets = make_pipeline(
        FunctionTransformer(np.sqrt, np.square, check_inverse=False), MinMaxScaler()
    )
    for model in (
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
        TransformedTargetRegressor(Ridge(), transformer=targets),
    ):
        model = make_pipeline(StandardScaler(), model).fit(X, positive)
        assert_same(from_sklearn(model), model.predict)


@pytest.mark.filterwarnings("ignore:Skipping features")
def test_imputers_leave_out_empty_columns_and_say_that_nothing_is_missing():
    gaps = X.copy()
    gaps[::3, 1], gaps[:, 2] = np.nan, np.nan
    model = make_pipeline(SimpleImputer(add_indicator=True), LinearRegression()).fit(gaps, Y)
    net = from_sklearn(model)
    assert_same(net, model.predict, X[:5])
    assert not jb.linearize(net, X[0]).jacobian()[:, 2].any()


# --- columns --------------------------------------------------------------------------------------


def houses():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["rooms", "floor", "noise", "area"])
    frame["town"] = np.array(["Rome", "Oslo", "Lima"])[np.arange(60) % 3]
    frame["lift"] = np.where(np.arange(60) % 4 == 0, "yes", "no")
    return frame


@pytest.mark.parametrize(
    "encoder", [OneHotEncoder(), OneHotEncoder(drop="first"), OrdinalEncoder()]
)
def test_categories_are_inputs_behind_their_encoder(encoder):
    """The numeric columns are inputs, and what the encoder makes, under its names."""
    frame = houses()
    pre = ColumnTransformer(
        [
            (
                "words",
                make_pipeline(SimpleImputer(strategy="most_frequent"), encoder),
                ["lift", "town"],
            ),
            ("numbers", StandardScaler(), ["area", "rooms"]),
            ("as it is", "passthrough", ["rooms"]),
        ],
        transformer_weights={"numbers": 2.0},
        sparse_threshold=0,
    )
    tanh = MLPRegressor(hidden_layer_sizes=[5], activation="tanh", max_iter=5, random_state=0)
    model = TransformedTargetRegressor(make_pipeline(pre, tanh), transformer=StandardScaler())
    model = fitted(model, frame, Y[:, 0])
    net = from_sklearn(model)
    made = pre.fit(frame).named_transformers_["words"].get_feature_names_out(["lift", "town"])
    assert net.input_names == ("rooms", "area", *made)
    encoded = np.asarray(pre.transform(frame))[:, : len(made)]
    points = np.column_stack([frame[["rooms", "area"]], encoded])
    values = model.predict(frame)
    # sums of some ten products and a tanh, in another order
    assert np.abs(net(points)[:, 0] - values).max() <= 1e-13 * np.abs(values).max()
    J = jb.linearize(net, points[3]).jacobian()
    check = jb.witness.check_jacobian(net, J, points[3])
    assert check.holds, check

    def predicted(x):
        row = frame.iloc[[3]].assign(rooms=x[0], area=x[1])
        return model.predict(row)

    outside = jb.witness.finite_difference(predicted, points[3, :2])
    # the error of the differences is an estimate, of which ten are allowed
    assert (np.abs(J[:, :2] - outside.jacobian) <= 10 * outside.error).all()


def test_dummies_of_pandas_are_the_inputs_by_name():
    """``pandas.get_dummies`` calls them as the encoder does, whatever the order."""
    pandas = pytest.importorskip("pandas")
    from jacobians._tables import as_inputs

    frame = houses()
    pre = ColumnTransformer([("w", OneHotEncoder(), ["town"]), ("n", "passthrough", ["area"])])
    model = make_pipeline(pre, Ridge()).fit(frame, Y[:, 0])
    net = from_sklearn(model)
    assert net.input_names == ("area", "town_Lima", "town_Oslo", "town_Rome")
    dummies = pandas.get_dummies(frame[["town", "area"]])
    values = net(as_inputs(dummies, net, "net: X"))
    # sums of a few products of the size of the largest prediction, in another order
    expected = model.predict(frame)
    assert np.abs(values[:, 0] - expected).max() <= 1e-13 * np.abs(expected).max()


def test_an_encoder_may_stand_alone_in_front():
    words = houses()[["town", "lift"]]
    model = make_pipeline(OneHotEncoder(), Ridge()).fit(words, Y[:, 0])
    net = from_sklearn(model)
    assert net.input_names[:3] == ("town_Lima", "town_Oslo", "town_Rome")
    encoded = model[0].transform(words).toarray()
    # as above
    expected = model.predict(words)
    assert np.abs(net(encoded)[:, 0] - expected).max() <= 1e-13 * np.abs(expected).max()
    unnamed = make_pipeline(OneHotEncoder(), Ridge()).fit(words.to_numpy(), Y[:, 0])
    assert from_sklearn(unnamed).input_names[0] == "x0_Lima"


# --- refusals -------------------------------------------------------------------------------------


class Doubled(LinearRegression):
    def predict(self, X):
        return 2 * super().predict(X)


DIFFERENCES = (
    r"Take differences, .*: jb.witness.finite_difference\(lambda x: np.ravel\(model.predict"
)
OTHERS = [
    (
        make_pipeline(StandardScaler(), KernelPCA(2), Ridge()),
        r"Pipeline step 'kernelpca' \(KernelPCA\): KernelPCA has no rule here. Apply it to the "
        "data beforehand, and import the steps behind it",
    ),
    (
        make_pipeline(FunctionTransformer(np.cbrt), Ridge()),
        r"step 'functiontransformer' .*: func=cbrt has no rule here. Functions with a rule are",
    ),
    (
        make_pipeline(FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 1}), Ridge()),
        "func with kw_args=",
    ),
    (
        GridSearchCV(DecisionTreeRegressor(), {"max_depth": [1, 2]}, cv=2),
        r"GridSearchCV best_estimator_ \(DecisionTreeRegressor\): Decision.* Take diff",
    ),
    (
        TransformedTargetRegressor(Ridge(), func=np.cbrt, inverse_func=lambda y: y**3),
        "TransformedTargetRegressor: inverse_func=<lambda> has no rule here. Functions with a rule",
    ),
    (
        TransformedTargetRegressor(Ridge(), transformer=PowerTransformer()),
        r"transformer \(PowerTransformer\): PowerTransformer has no rule here. Targets can be",
    ),
    (
        Doubled(),
        "the class Doubled has no rule here. It is a LinearRegression that may compute something "
        rf"else. {DIFFERENCES}",
    ),
    (
        MLPRegressor(hidden_layer_sizes=[2], activation="tanh", max_iter=2),
        "MLPRegressor: activation 'swish' has no rule here",
    ),
    (SVR(), rf"SVR: kernel='rbf' has no rule here. {DIFFERENCES}"),
    (make_pipeline(Normalizer("l1"), Ridge()), "norm='l1' has no rule here. The norm 'l2' has one"),
    (make_pipeline(KBinsDiscretizer(3), Ridge()), "KBinsDiscretizer has no rule here. Apply it to"),
    (
        make_pipeline(StandardScaler(), OrdinalEncoder(), Ridge()),
        "OrdinalEncoder behind other steps, or alone, has no rule here. Apply it to the data",
    ),
]


@pytest.mark.parametrize(("model", "message"), OTHERS)
def test_what_has_no_rule_is_refused_by_name_and_place(model, message):
    model = fitted(model, Y=Y[:, 0])
    if isinstance(model, MLPRegressor):
        model.activation = "swish"
    with pytest.raises(NotImplementedError, match=message):
        from_sklearn(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            VotingClassifier(JUDGES, voting="hard"),
            "voting='hard' has no rule here. With voting='so",
        ),
        (
            SGDClassifier(),
            r"loss='hinge' has no rule here. Take .*np.ravel\(model.decision_function\(x\[None\]\)",
        ),
        (CalibratedClassifierCV(LogisticRegression(), cv=2), "Take .* np.ravel.model.predict_prob"),
        (
            StackingClassifier([("a", LinearSVC())], cv=2),
            r"estimators_\[0\] \(LinearSVC\): a decision_function has no rule here. Take",
        ),
        (
            OutputCodeClassifier(LogisticRegression()),
            "OutputCodeClassifier has no rule here. It gives classes, and no numbers",
        ),
        (
            BaggingClassifier(
                LinearDiscriminantAnalysis(), n_estimators=9, max_samples=4, random_state=0
            ),
            "a member that saw some of the classes only has no rule here. Take differences",
        ),
    ],
)
def test_classifiers_without_probabilities_are_refused(model, message):
    with pytest.raises(NotImplementedError, match=message):
        from_sklearn(fitted(model, (X - CENTER) / SPREAD, LABELS))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, cv=2, refit=False),
            "GridSearchCV has no best_estimator_: it was made with refit=False",
        ),
        (make_pipeline(SelectFwe(f_regression, alpha=1e-300)), r"\(SelectFwe\) selects no feature"),
        (ColumnTransformer([("a", "drop", [0, 1])]), "ColumnTransformer hands on no columns"),
    ],
)
def test_what_has_a_rule_but_nothing_to_compute_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        from_sklearn(fitted(model, Y=RNG.normal(size=60)))


@pytest.mark.parametrize(
    ("model", "where"),
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
def test_what_is_not_fitted_is_refused(model, where):
    with pytest.raises(ValueError, match=rf"from_sklearn: {where} is not fitted yet; call fit"):
        from_sklearn(model)


@pytest.mark.parametrize("thing", [5, "model", None, LinearRegression, {"a": 1}])
def test_what_is_no_estimator_is_refused(thing):
    with pytest.raises(TypeError, match="expected a fitted scikit-learn estimator, but got"):
        from_sklearn(thing)


def test_a_pipeline_of_nothing_has_no_inputs():
    with pytest.raises(
        ValueError, match="knows no number of inputs: nothing in the model fixes it"
    ):
        from_sklearn(Pipeline([("a", "passthrough")]))
