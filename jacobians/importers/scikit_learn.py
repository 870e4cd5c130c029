"""scikit-learn estimators and pipelines -> Network, in the original units of inputs and targets.

A scaler in front is a layer like any other, and the inverse of a target scaler is one behind; so
the Jacobian of the network is that of ``predict``, or of ``predict_proba`` for a classifier.  The
output of a binary classifier is one number, the probability of the second class, ``P(class)``.
Where categories are encoded in front, the inputs are the numbers behind the encoder.
"""

from __future__ import annotations

from typing import Any

import jacobians.importers.sklearn_models  # noqa: F401  (its rules)
from jacobians._checks import flags_end_with_it, missing_extra
from jacobians.importers._assembly import Assembly
from jacobians.importers.sklearn_composites import inputs_of
from jacobians.importers.sklearn_reading import MODELS, TRANSFORMERS, Reading
from jacobians.network import Network

RULES = tuple(sorted({**MODELS, **TRANSFORMERS}))


@flags_end_with_it
def from_sklearn(estimator: Any) -> Network:
    """Import a fitted scikit-learn estimator or pipeline.

    Regressors become ``predict``, classifiers ``predict_proba``, transformers ``transform``.  Names
    of features and classes come along.  Where categories are encoded in front, the inputs are the
    numeric columns and what the encoder makes of the others, under the encoder's names.

    Parameters
    ----------
    estimator : estimator
        A multilayer perceptron, a linear or logistic model, a scaler, a projection, or a pipeline,
        mean or search of them; ``jacobians.importers.IMPORTABLE`` lists them all.

    Returns
    -------
    Network

    Raises
    ------
    NotImplementedError
        If a step has no rule, naming the step and its kind.
    ValueError
        If a step is not fitted.
    TypeError
        If ``estimator`` is not a scikit-learn estimator.
    ImportError
        If scikit-learn is not installed.

    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import numpy as np
    >>> X = np.array([[0.0, 10.0], [1.0, 30.0], [2.0, 20.0]])
    >>> net = from_sklearn(make_pipeline(StandardScaler(), LinearRegression()).fit(X, X @ [2, 3]))
    >>> net
    Network 2-2-1 float64, 3 parameters: identity, identity
    >>> import jacobians as jb
    >>> jb.jacobian(net, X[0]).round(12)
    array([[2., 3.]])
    """
    try:
        from sklearn.base import BaseEstimator
    except ImportError as err:
        raise missing_extra("scikit-learn", "sklearn", "from_sklearn") from err
    if isinstance(estimator, type) or not isinstance(estimator, BaseEstimator):
        raise TypeError(
            f"from_sklearn: expected a fitted scikit-learn estimator, but got {estimator!r:.80}."
        )
    inputs = inputs_of(estimator)
    assembly, at = Assembly("from_sklearn"), type(estimator).__name__
    of = assembly.input((inputs.width or 1,))
    value = Reading(assembly, at, estimator, of, inputs).predicted()
    if inputs.width is None:  # and yet nothing was refused
        assembly.refuse(at, "knows no number of inputs: nothing in the model fixes it.")
    net = assembly.network(value)
    return net.with_names(inputs.names, _output_names(estimator, value.size))


def _output_names(estimator: Any, width: int) -> list[str] | None:
    classes = getattr(estimator, "classes_", None) if hasattr(estimator, "predict") else None
    if classes is None or isinstance(classes, list):
        return None
    names = [label if isinstance(label, str) else f"class {label}" for label in classes]
    return [f"P({names[-1]})"] if width == 1 else [str(name) for name in names]
