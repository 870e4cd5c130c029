"""A call of an operator of PyTorch or Keras, and rules that only name what it takes.

A rule is a function from a call to the value that it gives.  Most of them read some arguments by
name and hand them to one of the ``Steps``; these are made by the functions at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array
from jacobians.importers._assembly import Value
from jacobians.importers._steps import Steps
from jacobians.layers import AveragePool, MaxPool


@dataclass
class Call(Steps):
    """One call of an operator, with its arguments by name, in their order.

    Subclasses say how a constant of the framework becomes an array, ``constant``.
    """

    operator: Any
    arguments: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def constant(self, given: Any) -> Array:
        """Return a constant of the framework in float64."""
        raise NotImplementedError

    @property
    def of(self) -> Value:
        """The first argument, which must be a value."""
        value = next(iter(self.arguments.values()))
        if not isinstance(value, Value):
            self.no_rule("a constant where the input is expected")
        return value

    def as_operand(self, given: Any) -> Any:
        """Return an argument as a value, an array in float64, or None."""
        return given if given is None or isinstance(given, Value) else self.constant(given)

    def operand(self, name: str) -> Any:
        """Return the argument of this name likewise; None if it is left out."""
        return self.as_operand(self.arguments.get(name))

    def compute(self, array: Any) -> Any:
        """Apply the operator itself to an array, in place of its value."""
        raise NotImplementedError

    def moved(self) -> Any:
        """Let the operator itself say where each entry goes: give it their numbers, from 1 on."""
        of = next(value for value in self.arguments.values() if isinstance(value, Value))
        result = self.compute(self.numbers(of) + 1)
        parts = result if isinstance(result, list) else [result]
        values = [self.move(of, part.astype(np.intp) - 1) for part in parts]
        return values if isinstance(result, list) else values[0]

    def adaptive_pool(self, of: Value, wanted: Sequence[int], largest: bool) -> Value:
        """Pool to a wanted number of positions."""
        pairs = [*zip(of.shape[-len(wanted) :], wanted, strict=True)]
        if any(n % m for n, m in pairs):
            self.no_rule("pooling of unequal windows")
        return self.windows(of, (MaxPool if largest else AveragePool)([n // m for n, m in pairs]))


Rule: TypeAlias = Callable[[Any], Any]


def each(setting: Any, axes: int) -> tuple[Any, ...]:
    """Return a setting once for every axis."""
    given = tuple(setting) if isinstance(setting, (tuple, list)) else (setting,)
    return given * axes if len(given) == 1 else given


def listed(axes: Any) -> list[int] | None:
    """Return axes as a list; None stands for all of them."""
    return None if axes is None else list(each(axes, 1))


def takes(compute: Callable[..., Any], names: str) -> Rule:
    """Make the rule that computes with the arguments of these names."""
    return lambda call: compute(call, *map(call.operand, names.split()))


def fixed(name: str) -> Rule:
    """Make the rule of an activation."""
    return lambda call: call.activate(name, call.of)


def family(name: str, parameter: str) -> Rule:
    """Make the rule of an activation with a parameter, an argument of the same name."""
    return lambda call: call.activate(name, call.of, **{parameter: float(call[parameter])})


def along(name: str, argument: str) -> Rule:
    """Make the rule of a function of vectors along an axis."""

    def rule(call: Call) -> Value:
        axes = each(call[argument], 1)
        if len(axes) != 1:
            call.no_rule(f"{name} along several axes")
        return call.activate(name, call.of, axis=axes[0])

    return rule


def chosen_output(names: Sequence[Any], output: str | int | None, where: str) -> int:
    """Return the position of the output that is meant: the only one, or that of this name."""
    if output is None and len(names) == 1:
        return 0
    if output in names:
        return names.index(output)
    listed = ", ".join(map(repr, names)) if names[0] != "" else "one, without a name"
    raise ValueError(f"{where}: output: expected one of {listed}, but got {output!r:.40}.")
