"""The search: which sets of mistakes reproduce somebody's arrays, the smallest first.

Arrays are gone through from the output down.  The first that is wrong must be explained by one
mistake, or two; what explains it stays, and the next wrong array asks for more only if that does
not explain it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import Array, Numbers
from jacobians.derivation.evaluation import NONE, Changes, Evaluation
from jacobians.derivation.terms import Key, Rounding, Term, Value
from jacobians.diagnosis.mistakes import Mistake

Made: TypeAlias = Changes  # a set of mistakes
SAFETY = 64  # times the typical error, since errors may conspire
MANY = 400  # mistakes; of more, only those are tried that touch no array that is right
MANY_ARRAYS = 30


class CannotBeMadeError(Exception):
    """A mistake has nothing to change here, or shapes that do not fit."""


@dataclass(eq=False)
class Case(Evaluation):
    """A network with data, the arrays claimed for it, and the values of every line.

    ``claims`` is None where the accused function raised an error.
    """

    claims: dict[Key, Numbers] | None = None
    _reach: dict[tuple[Key, Made], Made] = field(default_factory=dict, init=False)
    _changed: dict[tuple[Mistake, Key], Term | None] = field(default_factory=dict, init=False)
    _own: dict[Mistake, int] = field(default_factory=dict, init=False)

    @cached_property
    def bits(self) -> dict[Key, int]:
        """A bit for every line, so that sets of lines are whole numbers."""
        return {key: 1 << i for i, key in enumerate(self.lines)}

    @cached_property
    def above(self) -> dict[Key, int]:
        """For every line, all lines that it is computed from, itself included."""
        above: dict[Key, int] = {}
        for key, line in self.lines.items():
            above[key] = self.bits[key]
            for symbol in line.symbols():
                above[key] |= above.get(symbol, 0)
        return above

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

    def own(self, mistake: Mistake) -> int:
        """Return the lines that a mistake is made in."""
        if mistake not in self._own:
            self._own[mistake] = sum({self.bits.get(site, 0) for site in mistake.sites})
        return self._own[mistake]

    def read(self, mistake: Mistake) -> int:
        """Return all lines that the lines of a mistake are then computed from."""
        read = 0
        for term in (self.changed(mistake, site) for site in mistake.sites):
            for symbol in () if term is None else term.symbols():
                read |= self.above.get(symbol, 0)
        return read

    def reaching(self, key: Key, made: Made) -> Made:
        """Return the mistakes that can change the value of a line."""
        if not made:
            return made
        if (key, made) not in self._reach:
            above, rest, reached = self.above.get(key, 0), made, NONE
            while new := frozenset(m for m in rest if above & self.own(m)):
                reached, rest = reached | new, rest - new
                for mistake in new if rest else ():
                    above |= self.read(mistake)
            self._reach[key, made] = reached
        return self._reach[key, made]

    def value(self, key: Key, made: Made = NONE) -> Value:
        """Return the value of a line with mistakes made."""
        try:
            return super().value(key, made)
        except (ValueError, KeyError) as err:  # shapes that do not fit, or nothing to change
            raise CannotBeMadeError(key) from err

    def value_or_none(self, key: Key, made: Made) -> Value | None:
        """Return the value, or None where the mistakes cannot be made."""
        try:
            return self.value(key, made)
        except CannotBeMadeError:
            return None

    def explains(self, made: Made, key: Key) -> bool:
        """Tell whether the claimed array is what these mistakes give, within rounding."""
        assert self.claims is not None
        value, claim = self.value_or_none(key, made), self.claims[key]
        if value is None or (made and not np.isfinite(value.error).all()):
            return False  # what may be anything explains nothing
        if key[0] in ("J", "JW") and value.number.shape == claim.shape[1:]:  # at every point
            value = Value(*(np.broadcast_to(part, claim.shape) for part in value))
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
        times = SAFETY if rounding.typical else 2  # a bound holds for both, an estimate for none
        allowed = times * value.error + 2 * rounding.unit * np.abs(value.number) + rounding.tiny
        over = difference - np.where(np.isnan(allowed), np.inf, allowed)
    result: Array = np.where(np.isnan(over), np.inf, over)
    return result


@dataclass(frozen=True)
class Explanation:
    """A set of mistakes, and which claimed arrays it does not explain."""

    made: Made
    unexplained: tuple[Key, ...]

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """Smaller is better: what is left, how many mistakes, how likely, at how many sites."""
        likelihood = sum(m.likelihood for m in self.made)
        sites = sum(len(m.sites) for m in self.made)
        return (len(self.unexplained), len(self.made), likelihood, -sites)


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
        How many partial explanations are kept; a sixth where there are many arrays.
    """
    case = cases[0]
    front, keys = [Explanation(NONE, ())], list(case.claims or ())
    deep = len(keys) > MANY_ARRAYS
    for i, key in enumerate(keys):
        explaining = [e for e in front if case.explains(e.made, key)]
        others = [e for e in front if e not in explaining]
        grown = {(e.made, e.unexplained): e for e in explaining}
        nearby: list[Mistake] | None = None
        for partial in others:
            if deep and explaining:  # what explains it goes on; the others leave it open
                extended = [Explanation(partial.made, (*partial.unexplained, key))]
            else:
                nearby = _nearby(case, keys[: i + 1], candidates) if nearby is None else nearby
                extended = list(_extend(case, partial, keys[: i + 1], nearby, fit))
            grown |= {(new.made, new.unexplained): new for new in extended}
        front = sorted(grown.values(), key=lambda e: e.cost)[: breadth // 6 if deep else breadth]
    if deep:
        front = sorted([_closed(case, front[0], candidates), *front], key=lambda e: e.cost)
    agreed = [e for e in front if e.unexplained or all(_agrees(c, e.made) for c in cases[1:])]
    if not agreed and fit is not _nothing:  # a constant that fits this network fits no other
        return search(cases, candidates, _nothing, breadth)
    return sorted(agreed or front, key=lambda e: e.cost)


def _nothing(*_: Any) -> tuple[Mistake, ...]:
    return ()


def _closed(case: Case, best: Explanation, candidates: list[Mistake]) -> Explanation:
    """Explain what was left open by slips in single arrays."""
    made, unexplained = best.made, list[Key]()
    for key in best.unexplained:
        here = (made | {m} for m in candidates if m.sites == (key,) and case.can(m))
        closing = next((new for new in here if case.explains(new, key)), None)
        made, unexplained = (closing, unexplained) if closing else (made, [*unexplained, key])
    return Explanation(made, tuple(unexplained))


def _nearby(case: Case, keys: list[Key], candidates: list[Mistake]) -> list[Mistake]:
    """Return the mistakes that can change the last array; if many, no array before it."""
    *before, key = keys
    nearby = [m for m in candidates if case.above[key] & case.own(m)]
    if len(nearby) > MANY:
        right = 0
        for k in before:
            right |= case.above[k] if case.explains(NONE, k) else 0
        nearby = [m for m in nearby if not right & case.own(m)]
    return [m for m in nearby if case.can(m)]


def _extend(
    case: Case, partial: Explanation, keys: list[Key], nearby: list[Mistake], fit: Any
) -> Iterator[Explanation]:
    """Extend a partial explanation to the last array, which it does not explain."""
    *before, key = keys
    before = [k for k in before if k not in partial.unexplained]
    made, hit = partial.made, False
    for new in _one_more(case, made, key, nearby, fit):
        if all(case.explains(new, k) for k in before if case.reaching(k, new - made)):
            hit = True
            yield Explanation(new, partial.unexplained)
    if not hit and len(made) < 2 and len(nearby) <= MANY:
        for pair in combinations(nearby, 2):
            new = made.union(pair)
            if case.explains(new, key) and all(case.explains(new, k) for k in before):
                hit = True
                yield Explanation(new, partial.unexplained)
    if not hit:
        yield Explanation(made, (*partial.unexplained, key))


def _one_more(case: Case, made: Made, key: Key, nearby: list[Mistake], fit: Any) -> Iterator[Made]:
    more = (made | {mistake} for mistake in nearby if mistake not in made)
    explaining = [new for new in more if case.explains(new, key)]
    yield from explaining
    if not explaining:
        fitted = (made | {mistake} for mistake in fit(case, made, key))
        yield from (new for new in fitted if case.explains(new, key))


def _agrees(case: Case, made: Made) -> bool:
    """Tell whether the accused function does on another network what these mistakes do."""
    return all(case.explains(made, key) for key in case.claims or ())
