"""Reading scikit-learn estimators: one rule for one kind, and a refusal that leads somewhere.

A rule takes a fitted estimator, the reader, the value that goes in and the place in the model, and
returns the value that comes out.  A kind may have two: one for what it predicts, as the last step,
and one for what it hands on, as a step before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from jacobians.importers._assembly import Assembly, Value

Rule: TypeAlias = "Callable[[Any, Reader, Value, str], Value]"

MODELS: dict[str, Rule] = {}  # predict_proba of classifiers, predict of others
TRANSFORMERS: dict[str, Rule] = {}  # transform


def predicts(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for what estimators of these kinds predict."""
    return _register(MODELS, kinds)


def transforms(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for what estimators of these kinds hand on."""
    return _register(TRANSFORMERS, kinds)


def _register(rules: dict[str, Rule], kinds: tuple[str, ...]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        rules.update(dict.fromkeys(kinds, rule))
        return rule

    return register


class Reader:
    """Appends what estimators compute to an assembly; ``inputs`` says what its inputs are."""

    def __init__(self, assembly: Assembly, inputs: Any) -> None:
        self.assembly, self.inputs = assembly, inputs
        self.no_rule, self.refuse = assembly.no_rule, assembly.refuse

    def predict(self, estimator: Any, of: Value, at: str) -> Value:
        """Append what the last estimator gives: its prediction, or its transform if it has none."""
        kind = self.kind(estimator, at)
        rule = MODELS.get(kind) or TRANSFORMERS.get(kind)
        if rule is None:
            self.no_rule(at, kind, way_out(estimator))
        self.require_fitted(estimator, at)
        return rule(estimator, self, of, at)

    def transform(self, estimator: Any, of: Value, at: str) -> Value:
        """Append what an estimator hands on to the next."""
        if passes(estimator):
            return of
        kind = self.kind(estimator, at)
        rule = TRANSFORMERS.get(kind)
        if rule is None:
            self.no_rule(at, kind, BEFOREHAND)
        self.require_fitted(estimator, at)
        return rule(estimator, self, of, at)

    def kind(self, estimator: Any, at: str) -> str:
        """Return the name of the class, which must be one of scikit-learn's own."""
        kind = type(estimator)
        if not kind.__module__.startswith("sklearn."):
            rules = {**MODELS, **TRANSFORMERS}
            bases = [base.__name__ for base in kind.__mro__ if base.__name__ in rules]
            hint = f"It is a {bases[0]} that may compute something else. " if bases else ""
            self.no_rule(at, f"the class {kind.__name__}", f"{hint}{way_out(estimator)}")
        return kind.__name__

    def require_fitted(self, estimator: Any, at: str) -> None:
        """Refuse what has not seen data yet."""
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        if type(estimator).__name__ == "Pipeline":  # its steps are asked one by one
            return
        try:
            check_is_fitted(estimator)
        except NotFittedError:
            self.refuse(at, "is not fitted yet; call fit first.")


def passes(step: Any) -> bool:
    """Whether a step hands on what it gets."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def steps_of(pipeline: Any, at: str) -> list[tuple[Any, str]]:
    """Return the steps of a pipeline that do something, each with its place."""
    return [
        (step, f"{at} step {name!r} ({type(step).__name__})")
        for name, step in pipeline.steps
        if not passes(step)
    ]


BEFOREHAND = "Apply it to the data beforehand, and import the steps behind it."


def way_out(estimator: Any) -> str:
    """Say what can be done where an estimator has no rule."""
    methods = ("predict_proba", "decision_function", "predict", "score_samples")
    method = next((name for name in methods if hasattr(estimator, name)), None)
    if method is None:
        return BEFOREHAND if hasattr(estimator, "transform") else "It says nothing of new points."
    if method == "predict" and hasattr(estimator, "classes_"):
        return "It gives classes, and no numbers that have derivatives."
    return (
        "Take differences: jb.witness.finite_difference("
        f"lambda x: np.ravel(model.{method}(x[None])), x).jacobian"
    )
