"""Every estimator of scikit-learn: imported and right, or refused with a way out that works.

Right means the values and, by central differences, the derivatives of ``predict_proba``,
``predict`` or ``transform``.  A way out is an expression in the message; it is evaluated here.
"""

import re
import warnings

import numpy as np
import pytest

import jacobians as jb
from jacobians.importers import IMPORTABLE, from_sklearn
from jacobians.importers.sklearn_composites import ENCODERS

pytest.importorskip("sklearn")

from sklearn.base import ClassifierMixin
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

RNG = np.random.default_rng(7)
X = RNG.gamma(4.0, 0.5, size=(80, 5)) * [1.0, 2.0, 0.5, 1.5, 1.0]  # positive, no symmetry
Y = X @ [1.0, -0.5, 2.0, 0.3, 0.7] + np.sin(X[:, 0]) + 3
THREE = np.array(["ape", "bee", "cat"])[np.digitize(Y, np.quantile(Y, [0.3, 0.7]))]
TWO = np.median(Y) < Y
POINTS = X[[3, 11, 40]] + 0.01 * RNG.normal(size=(3, 5))

MEMBERS = [("a", Ridge()), ("b", Ridge(10.0))]
JUDGES = [("a", LogisticRegression()), ("b", GaussianNB())]
SEARCH = {"estimator": Ridge(), "cv": 2}
ALPHAS = {"alpha": [0.1, 1.0]}
LOGISTIC = {"estimator": LogisticRegression()}
ARGUMENTS = {
    "BaggingRegressor": {"estimator": Ridge(), "max_features": 3, "n_estimators": 4},
    "BaggingClassifier": {"estimator": GaussianNB(), "max_features": 0.6, "n_estimators": 4},
    "BernoulliRBM": {"n_components": 3},
    "CalibratedClassifierCV": {"estimator": GaussianNB(), "cv": 2},
    "ClassifierChain": LOGISTIC,
    "ColumnTransformer": {
        "transformers": [("s", StandardScaler(), [4, 1]), ("p", "passthrough", [1])],
        "remainder": StandardScaler(with_std=False),
    },
    "FactorAnalysis": {"n_components": 3},
    "FastICA": {"n_components": 3},
    "FeatureAgglomeration": {"n_clusters": 2},
    "FeatureUnion": {"transformer_list": [("s", StandardScaler()), ("p", "passthrough")]},
    "FixedThresholdClassifier": LOGISTIC,
    "FrozenEstimator": {"estimator": Ridge().fit(X, Y)},
    "FunctionTransformer": {"func": np.log1p},
    "GaussianRandomProjection": {"n_components": 3},
    "GenericUnivariateSelect": {"mode": "k_best", "param": 2},
    "GridSearchCV": {**SEARCH, "param_grid": ALPHAS},
    "HalvingGridSearchCV": {**SEARCH, "param_grid": ALPHAS},
    "HalvingRandomSearchCV": {**SEARCH, "param_distributions": ALPHAS},
    "IncrementalPCA": {"n_components": 3},
    "LogisticRegressionCV": {"Cs": 2, "cv": 2},
    "MLPClassifier": {"hidden_layer_sizes": [4], "max_iter": 20},
    "MLPRegressor": {"hidden_layer_sizes": [4], "max_iter": 20},
    "MultiOutputClassifier": LOGISTIC,
    "MultiOutputRegressor": {"estimator": Ridge()},
    "NuSVR": {"kernel": "linear"},
    "OneVsOneClassifier": LOGISTIC,
    "OneVsRestClassifier": LOGISTIC,
    "OutputCodeClassifier": LOGISTIC,
    "OrthogonalMatchingPursuitCV": {"max_iter": 3},
    "PCA": {"n_components": 3, "whiten": True},
    "Pipeline": {"steps": [("s", StandardScaler()), ("p", None), ("m", Ridge())]},
    "PolynomialFeatures": {"degree": 3},
    "RANSACRegressor": {"estimator": Ridge(), "min_samples": 9},
    "RBFSampler": {"n_components": 7},
    "RFE": {"estimator": Ridge(), "n_features_to_select": 2},
    "RFECV": {**LOGISTIC, "cv": 2},
    "RandomizedSearchCV": {**SEARCH, "param_distributions": ALPHAS, "n_iter": 2},
    "RegressorChain": {"estimator": Ridge(), "order": [2, 0, 1]},
    "SGDClassifier": {"loss": "log_loss"},
    "SVR": {"kernel": "linear"},
    "SelectFdr": {"alpha": 0.9},
    "SelectFpr": {"alpha": 0.9},
    "SelectFromModel": {"estimator": Ridge()},
    "SelectFwe": {"alpha": 0.9},
    "SelectKBest": {"k": 2},
    "SelectPercentile": {"percentile": 50},
    "SelfTrainingClassifier": LOGISTIC,
    "SequentialFeatureSelector": {"estimator": Ridge(), "cv": 2},
    "SkewedChi2Sampler": {"n_components": 7},
    "SparseCoder": {"dictionary": np.eye(5)[:3]},
    "SparseRandomProjection": {"n_components": 3},
    "SpectralBiclustering": {"n_best": 2},
    "StackingClassifier": {"estimators": JUDGES, "cv": 2, "passthrough": True},
    "StackingRegressor": {"estimators": MEMBERS, "cv": 2},
    "TSNE": {"max_iter": 250},
    "TransformedTargetRegressor": {"func": np.log1p, "inverse_func": np.expm1},
    "TunedThresholdClassifierCV": {**LOGISTIC, "cv": 2},
    "VotingClassifier": {"estimators": JUDGES, "voting": "soft", "weights": [2, 1]},
    "VotingRegressor": {"estimators": MEMBERS, "weights": [1, 3]},
}
SMALL = {"n_components": 2, "n_estimators": 5, "max_iter": 50, "n_init": 1, "random_state": 0}

LABELS = ("LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer")
SEVERAL = ("CCA", "PLSCanonical", "PLSRegression", "PLSSVD", "MultiOutputRegressor")
BINARY = ("FixedThresholdClassifier", "TunedThresholdClassifierCV", "SelfTrainingClassifier")
CLASSES = ("NeighborhoodComponentsAnalysis", "RFECV", "TargetEncoder")
CLASSES += ("SelectFdr", "SelectFpr", "SelectFwe")


def targets(name, kind):
    if name.startswith("MultiTask") or name in (*SEVERAL, "RegressorChain"):
        return np.stack([Y, X[:, 0] ** 2, X[:, 1] * Y], axis=1)
    if name in ("ClassifierChain", "MultiOutputClassifier"):
        return np.stack([TWO, X[:, 0] > 2], axis=1).astype(int)
    if name in BINARY:
        return TWO.astype(int)
    return THREE if issubclass(kind, ClassifierMixin) or name in CLASSES else Y


def data_for(name):
    """Rows of numbers for whatever takes them."""
    return {
        "CountVectorizer": ["one two", "two three"] * 40,
        "TfidfVectorizer": ["one two", "two three"] * 40,
        "HashingVectorizer": ["one two", "two three"] * 40,
        "DictVectorizer": [{"a": 1.0}, {"b": 2.0}] * 40,
        "FeatureHasher": [{"a": 1.0}, {"b": 2.0}] * 40,
        "IsotonicRegression": X[:, :1],
        "KernelCenterer": X[:5] @ X[:5].T,
        "LabelBinarizer": THREE,
        "LabelEncoder": THREE,
        "MissingIndicator": np.where(X > 3, np.nan, X),
        "MultiLabelBinarizer": [{"a"}, {"b", "a"}] * 40,
        "PatchExtractor": X.reshape(8, 10, 5),
    }.get(name, X)


def fitted(name, kind):
    parameters = kind._get_param_names()
    options = {key: value for key, value in SMALL.items() if key in parameters}
    options |= ARGUMENTS.get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = [data_for(name)] if name in LABELS else [data_for(name), targets(name, kind)]
        return kind(**options).fit(*given)


def method_of(model):
    names = ("predict_proba", "predict", "transform")
    return next(getattr(model, name) for name in names if hasattr(model, name))


ESTIMATORS = dict(all_estimators())


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that spin while they wait take minutes where the cores are shared."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_imported_and_right_or_refused_with_a_way_out(name):
    model = fitted(name, ESTIMATORS[name])
    if name in IMPORTABLE["from_sklearn"] and name not in ENCODERS:
        net = from_sklearn(model)
        assert_right(net, model, POINTS[:, : net.widths[0]])
        return
    with pytest.raises(NotImplementedError, match=rf"^from_sklearn: {name}: {name}") as caught:
        from_sklearn(model)
    follow(str(caught.value), model, name)


def follow(message, model, name):
    """Do what the message says."""
    match = re.search(r"Take differences, .*: (jb\..*\.jacobian)$", message)
    if match:
        x = np.asarray(data_for(name), dtype=float)[3]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            J = eval(match[1], {"jb": jb, "np": np, "model": model, "x": x})
        assert J.shape[1] == x.size
        return
    ends = ("nothing of new points.", "import the steps behind it.", "no numbers that have deriva")
    assert any(end in message for end in ends), message


def assert_right(net, model, points):
    """Values to 1e-9, and differences of fourth order to 1e-7, of the size of the values.

    The sums are the model's own in another order, some 1e-12 of numbers up to 100 times larger.
    With steps of 1e-4 the rounding of the differences is 1e-12 / 1e-4, their truncation less.
    """
    predict, n, step = method_of(model), net.widths[0], 1e-4

    def values(points):
        value = predict(points)
        value = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
        value = value.reshape(len(points), -1)
        return value[:, -net.widths[-1] :]  # of two classes, the probability of the second

    expected = values(points)
    size = max(1.0, np.abs(expected).max())
    assert np.allclose(net(points), expected, rtol=0, atol=1e-9 * size)
    for x in points:
        weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
        moved = np.concatenate([x + k * step * np.eye(n) for k in weights])
        pieces = np.split(values(moved), 4)
        slopes = sum(w * piece for w, piece in zip(weights.values(), pieces, strict=True)).T / step
        J = jb.linearize(net, x).jacobian()
        assert np.allclose(J, slopes, rtol=0, atol=1e-7 * size)
