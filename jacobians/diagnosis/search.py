"""The search: which sets of mistakes reproduce somebody's arrays, the smallest first.

Arrays are gone through from the output down.  The first that is wrong must be explained by one
mistake, or two; what explains it stays, and the next wrong array asks for more only if that does
not explain it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, Numbers
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key, Rounding, Symbol, Term, Value
from jacobians.diagnosis.mistakes import Mistake

Made: TypeAlias = frozenset[Mistake]
NONE: Made = frozenset()
SAFETY = 64  # times the typical error, since errors may conspire


class CannotBeMadeError(Exception):
    """A mistake has nothing to change here, or shapes that do not fit."""


@dataclass(eq=False)
class Case:
    """A network with data, the arrays claimed for it, and the values of every line.

    ``claims`` is None where the accused function raised an error.
    """

    rules: Rules
    given: dict[Key, Value]
    rounding: Rounding
    claims: dict[Key, Numbers] | None
    _values: dict[tuple[Key, Made], Value] = field(default_factory=dict)
    _reach: dict[tuple[Key, Made], Made] = field(default_factory=dict)
    _changed: dict[tuple[Mistake, Key], Term | None] = field(default_factory=dict)
    _added: dict[Mistake, frozenset[Key]] = field(default_factory=dict)

    @cached_property
    def lines(self) -> dict[Key, Term]:
        """The right side of every line."""
        return self.rules.lines()

    @cached_property
    def above(self) -> dict[Key, frozenset[Key]]:
        """For every line, all lines that it is computed from, itself included."""
        found: dict[Key, frozenset[Key]] = {}

        def visit(key: Key) -> frozenset[Key]:
            if key not in found:
                symbols = _symbols(self.lines[key]) if key in self.lines else ()
                found[key] = frozenset({key}).union(*(visit(s) for s in symbols))
            return found[key]

        for key in self.lines:
            visit(key)
        return found

    def changed(self, mistake: Mistake, key: Key) -> Term | None:
        """Return a line as a mistake alone would write it."""
        if (mistake, key) not in self._changed:
            line = self.lines.get(key)
            new = None if line is None else mistake.rule(self.rules, key, line)
            self._changed[mistake, key] = None if new == line else new
        return self._changed[mistake, key]

    def line(self, key: Key, made: Made) -> Term:
        """Return a line with all mistakes made that concern it."""
        here = sorted((m for m in made if key in m.sites), key=lambda m: m.late)
        term = self.changed(here[0], key) if here else None
        term = self.lines[key] if term is None else term
        for mistake in here[1:]:
            term = mistake.rule(self.rules, key, term) or term
        return term

    def added(self, mistake: Mistake) -> frozenset[Key]:
        """Return all lines that the lines of a mistake are computed from."""
        if mistake not in self._added:
            terms = [self.changed(mistake, site) for site in mistake.sites]
            symbols = {key for term in terms if term is not None for key in _symbols(term)}
            self._added[mistake] = frozenset().union(*(self.above.get(s, {s}) for s in symbols))
        return self._added[mistake]

    def reaching(self, key: Key, made: Made) -> Made:
        """Return the mistakes that can change the value of a line."""
        if (key, made) not in self._reach:
            above, rest, reached = self.above.get(key, frozenset({key})), made, NONE
            while new := frozenset(m for m in rest if not above.isdisjoint(m.sites)):
                reached, rest = reached | new, rest - new
                above = above.union(*(self.added(m) for m in new)) if rest else above
            self._reach[key, made] = reached
        return self._reach[key, made]

    def value(self, key: Key, made: Made = NONE) -> Value:
        """Return the value of a line with mistakes made."""
        if key in self.given:
            return self.given[key]
        made = self.reaching(key, made)
        if (key, made) not in self._values:
            if key not in self.lines:
                raise CannotBeMadeError(key)
            line = self.line(key, made)

            def values(symbol: Symbol) -> Value:
                return self.value(symbol.key, made)

            try:
                with np.errstate(all="ignore"):
                    self._values[key, made] = line.evaluate(values, self.rounding)
            except ValueError as err:  # shapes that do not fit, or numbers that leave the range
                raise CannotBeMadeError(key) from err
        return self._values[key, made]

    def explains(self, made: Made, key: Key) -> bool:
        """Tell whether the claimed array is what these mistakes give, within rounding."""
        assert self.claims is not None
        try:
            value = self.value(key, made)
        except CannotBeMadeError:
            return False
        claim = self.claims[key]
        if key[0] in ("J", "JW") and value.number.shape == claim.shape[1:]:  # at every point
            value = Value(*(np.broadcast_to(part, claim.shape) for part in value))
        if made and not np.isfinite(value.error).all():
            return False  # what may be anything explains nothing
        return self.within(claim, value)

    def within(self, claim: Numbers, value: Value) -> bool:
        """Tell whether an array is within the error of a value."""
        if claim.shape != value.number.shape:
            return False
        return bool((excess(claim, value, self.rounding) <= 0).all())

    def can(self, mistake: Mistake) -> bool:
        """Tell whether the mistake changes any line here."""
        return any(self.changed(mistake, site) is not None for site in mistake.sites)


def excess(claim: Numbers, value: Value, rounding: Rounding) -> Array:
    """Return by how much more than its error an array differs, entry by entry."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(claim.astype(np.float64) - value.number)
        allowed = SAFETY * value.error + 2 * rounding.unit * np.abs(value.number) + rounding.tiny
        over = difference - np.where(np.isnan(allowed), np.inf, allowed)
    result: Array = np.where(np.isnan(over), np.inf, over)
    return result


def _symbols(term: Term) -> set[Key]:
    return {part.key for part in term if isinstance(part, Symbol)}


@dataclass(frozen=True)
class Explanation:
    """A set of mistakes, and which claimed arrays it does not explain."""

    made: Made
    unexplained: tuple[Key, ...]

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """Smaller is better: what is left, how many mistakes, how likely, at how many sites."""
        likelihood = sum(m.likelihood for m in self.made)
        return (
            len(self.unexplained),
            len(self.made),
            likelihood,
            -sum(len(m.sites) for m in self.made),
        )


def search(
    cases: list[Case], candidates: list[Mistake], fit: Any, breadth: int = 48
) -> list[Explanation]:
    """Return the best explanations of the first case that no other case refutes.

    Parameters
    ----------
    cases : list of Case
        The data given, then the drawn networks.
    candidates : list of Mistake
    fit : callable
        From (case, made, key) to mistakes with a constant read off the array.
    breadth : int
        How many partial explanations are kept.
    """
    case = cases[0]
    assert case.claims is not None
    candidates = [m for m in candidates if case.can(m)]
    front = [Explanation(NONE, ())]
    keys = list(case.claims)
    for i, key in enumerate(keys):
        nearby = [m for m in candidates if case.reaching(key, frozenset({m}))]
        grown: dict[tuple[Made, tuple[Key, ...]], Explanation] = {}
        for partial in front:
            for new in _extend(case, partial, key, keys[: i + 1], nearby, fit):
                grown[new.made, new.unexplained] = new
        front = sorted(grown.values(), key=lambda e: e.cost)[:breadth]
    agreed = [e for e in front if e.unexplained or all(_agrees(c, e.made) for c in cases[1:])]
    return sorted(agreed or front, key=lambda e: e.cost)


def _extend(
    case: Case, partial: Explanation, key: Key, keys: list[Key], nearby: list[Mistake], fit: Any
) -> Iterator[Explanation]:
    """Extend a partial explanation to one more array."""
    if case.explains(partial.made, key):
        yield partial
        return
    before = [k for k in keys[:-1] if k not in partial.unexplained]
    hit = False
    for new in _one_more(case, partial.made, key, nearby, fit):
        if all(case.explains(new, k) for k in before if case.reaching(k, new - partial.made)):
            hit = True
            yield Explanation(new, partial.unexplained)
    if not hit and len(partial.made) < 2:
        for pair in combinations(nearby, 2):
            new = partial.made.union(pair)
            if case.explains(new, key) and all(case.explains(new, k) for k in before):
                hit = True
                yield Explanation(new, partial.unexplained)
    if not hit:
        yield Explanation(partial.made, (*partial.unexplained, key))


def _one_more(
    case: Case, made: Made, key: Key, nearby: Iterable[Mistake], fit: Any
) -> Iterator[Made]:
    hit = False
    for mistake in nearby:
        if mistake not in made and case.explains(made | {mistake}, key):
            hit = True
            yield made | {mistake}
    if not hit:
        for mistake in fit(case, made, key):
            if case.explains(made | {mistake}, key):
                yield made | {mistake}


def _agrees(case: Case, made: Made) -> bool:
    """Tell whether the accused function does on another network what these mistakes do."""
    return all(case.explains(made, key) for key in case.claims or ())
