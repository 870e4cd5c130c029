"""Reading scikit-learn estimators: one rule for one kind, and a refusal that leads somewhere.

A rule takes a fitted estimator, at its place in the model and with the value that goes in, and
returns the value that comes out.  A kind may have two: one for what it predicts, as the last step,
and one for what it hands on, as a step before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from jacobians.importers._assembly import Value
from jacobians.importers._steps import Steps

Rule: TypeAlias = "Callable[[Reading], Value]"

MODELS: dict[str, Rule] = {}  # predict_proba of classifiers, predict of others
TRANSFORMERS: dict[str, Rule] = {}  # transform


def _register(rules: dict[str, Rule], *kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for estimators of these kinds."""

    def register(rule: Rule) -> Rule:
        rules.update(dict.fromkeys(kinds, rule))
        return rule

    return register


predicts, transforms = partial(_register, MODELS), partial(_register, TRANSFORMERS)


@dataclass
class Reading(Steps):
    """A fitted estimator, the value ``of`` that goes in, and what the inputs of the network are."""

    model: Any
    of: Value
    inputs: Any

    @property
    def name(self) -> str:
        """The kind of the estimator."""
        return type(self.model).__name__

    def inside(self, model: Any, of: Value, label: str) -> Reading:
        """Return the reading of an estimator inside this one, where the label says."""
        at = f"{self.at} {label} ({type(model).__name__})"
        return Reading(self.assembly, at, model, of, self.inputs)

    def predict(self, model: Any, of: Value, label: str) -> Value:
        """Append what the last estimator gives: its prediction, or its transform if it has none."""
        return self.inside(model, of, label).predicted()

    def transform(self, model: Any, of: Value, label: str) -> Value:
        """Append what an estimator hands on to the next."""
        if passes(model):
            return of
        return self.inside(model, of, label)._applied(TRANSFORMERS, BEFOREHAND)

    def predicted(self) -> Value:
        """Append what this estimator gives as the last."""
        return self._applied({**TRANSFORMERS, **MODELS}, way_out(self.model))

    def _applied(self, rules: dict[str, Rule], hint: str) -> Value:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        self.require_own()
        if self.name not in rules:
            self.no_rule(self.name, hint)
        try:
            if self.name != "Pipeline":  # whose steps are asked one by one
                check_is_fitted(self.model)
        except NotFittedError:
            self.refuse("is not fitted yet; call fit first.")
        return rules[self.name](self)

    def require_own(self) -> None:
        """Refuse a class that is not one of scikit-learn's own."""
        kind = type(self.model)
        if not kind.__module__.startswith("sklearn."):
            rules = {**MODELS, **TRANSFORMERS}
            bases = [base.__name__ for base in kind.__mro__ if base.__name__ in rules]
            hint = f"It is a {bases[0]} that may compute something else. " if bases else ""
            self.no_rule(f"the class {kind.__name__}", f"{hint}{way_out(self.model)}")


def passes(step: Any) -> bool:
    """Whether a step hands on what it gets."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def steps_of(pipeline: Any) -> list[tuple[Any, str]]:
    """Return the steps of a pipeline that do something, each with its label."""
    return [(step, f"step {name!r}") for name, step in pipeline.steps if not passes(step)]


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
        "Take differences, which are 0 where its outputs jump: jb.witness.finite_difference("
        f"lambda x: np.ravel(model.{method}(x[None])), x).jacobian"
    )
