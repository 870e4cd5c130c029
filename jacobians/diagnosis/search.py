"""The search: which sets of mistakes reproduce somebody's arrays, the smallest first.

Arrays are gone through from the output down.  The first that is wrong must be explained by one
mistake, or two; what explains it stays, and the next wrong array asks for more only if that does
not explain it too.  Mistakes are tried in the order of their distance from the array, so many at
most that a network of any depth is searched in time proportional to its depth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from typing import NamedTuple, TypeAlias

from jacobians.derivation.evaluation import NONE
from jacobians.derivation.terms import Key
from jacobians.diagnosis.case import Case, Made
from jacobians.diagnosis.mistakes import Mistake


class Limits(NamedTuple):
    """How many mistakes near an array are tried alone, and in pairs; explanations that are kept."""

    alone: int
    paired: int
    kept: int


OF_FEW, OF_MANY, MANY = Limits(400, 200, 48), Limits(200, 50, 8), 30  # arrays
OPEN = 2  # arrays that nothing explains; then only mistakes in the lines of arrays themselves
Fit: TypeAlias = Callable[[Case, Made, Key], Iterable[Mistake]]


def no_constants(case: Case, made: Made, key: Key) -> tuple[Mistake, ...]:
    """Read no constant off an array: one that fits a network may fit no other."""
    return ()


@dataclass(frozen=True)
class Explanation:
    """A set of mistakes, and which claimed arrays it does not explain."""

    made: Made
    unexplained: tuple[Key, ...] = ()

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """Smaller is better: what is left, how many mistakes, how likely, at how many sites."""
        likelihood = sum(m.likelihood for m in self.made)
        sites = sum(len(m.sites) for m in self.made)
        return (len(self.unexplained), len(self.made), likelihood, -sites)


def search(cases: list[Case], candidates: list[Mistake], fit: Fit) -> list[Explanation]:
    """Return the best explanations of the first case that no other case refutes.

    Parameters
    ----------
    cases : list of Case
        The data given, then the drawn networks.
    candidates : list of Mistake
    fit : callable
        From (case, made, key) to mistakes with a constant read off the array.
    """
    case, *others = cases
    searching = Search(case, candidates)
    explanations: list[Explanation] = []
    for most, fitting in ((1, fit), (2, no_constants), (2, fit), (None, fit), (None, no_constants)):
        explanations = searching.explanations(most, fitting)
        agreed = [e for e in explanations if e.unexplained or agree(others, e.made)]
        if agreed:
            return sorted(agreed, key=lambda e: e.cost)
    return sorted(explanations, key=lambda e: e.cost)


def agree(cases: list[Case], made: Made) -> bool:
    """Tell whether the claims of all these cases are what these mistakes give."""
    return all(case.explains(made, key) for case in cases for key in case.claims or ())


class Search:
    """The arrays of one case, and the mistakes that may be in them."""

    def __init__(self, case: Case, candidates: list[Mistake]) -> None:
        self.case, self.keys, self.explains = case, list(case.claims or ()), case.explains
        self.limits = OF_MANY if len(self.keys) > MANY else OF_FEW
        self.at: dict[Key, list[Mistake]] = {}
        for mistake in candidates:
            for site in mistake.sites:
                self.at.setdefault(site, []).append(mistake)
        self._near: dict[Key, list[Mistake]] = {}

    # --- which mistakes are tried -----------------------------------------------------------------

    @cached_property
    def right(self) -> int:
        """All lines that a right array is computed from."""
        right = 0
        for key in self.keys:
            right |= self.case.above[key] if self.case.explains(NONE, key) else 0
        return right

    def near(self, key: Key) -> list[Mistake]:
        """Return the mistakes that can change an array, the nearest first."""
        if key not in self._near:
            most = self.limits.alone
            near = list(islice(self._walk(key, 0), most + 1))
            if len(near) > most:
                near = list(islice(self._walk(key, self.right), most))
            self._near[key] = near
        return self._near[key]

    def _walk(self, key: Key, avoided: int) -> Iterator[Mistake]:
        """Go from an array to the lines that it is computed from, and so on."""
        case, waiting, seen, given = self.case, deque([key]), {key}, set[Mistake]()
        while waiting:
            at = waiting.popleft()
            for mistake in self.at.get(at, ()):
                if mistake not in given and not avoided & case.own(mistake) and case.can(mistake):
                    yield mistake
                given.add(mistake)
            reads = case.lines[at].symbols - seen if at in case.lines else ()
            for symbol in sorted(reads, key=str):
                if not avoided & case.bits.get(symbol, 0):
                    seen.add(symbol)
                    waiting.append(symbol)

    def _own(self, key: Key) -> list[Mistake]:
        return [m for m in self.at.get(key, ()) if m.sites == (key,) and self.case.can(m)]

    # --- which of them explain the arrays ---------------------------------------------------------

    def explanations(self, most: int | None, fit: Fit) -> list[Explanation]:
        """Return what explains all arrays by so many mistakes; None: as many of them as can be."""
        if most is None:
            return self._as_far_as_possible(fit)
        return [Explanation(made) for made in dict.fromkeys(self._complete(NONE, most, fit))]

    def _complete(self, made: Made, more: int, fit: Fit) -> Iterator[Made]:
        """Yield sets of at most so many more mistakes that explain all arrays."""
        i = next((i for i, key in enumerate(self.keys) if not self.explains(made, key)), None)
        if i is None:
            yield made
        elif more:
            before, key = self.keys[:i], self.keys[i]
            extended = list(self._extended(made, before, key, self.near(key), fit))
            if not extended and more > 1:
                extended = list(self._pairs(made, before, key))
            for new in extended:
                yield from self._complete(new, more - len(new - made), fit)

    def _as_far_as_possible(self, fit: Fit) -> list[Explanation]:
        front, many = [Explanation(NONE)], self.limits is OF_MANY
        for i, key in enumerate(self.keys):
            explaining = [e for e in front if self.explains(e.made, key)]
            grown = dict.fromkeys(explaining)
            for partial in front:
                if partial in grown:
                    continue
                new = [] if many and explaining else list(self._grown(partial, i, fit))
                left = Explanation(partial.made, (*partial.unexplained, key))
                grown |= dict.fromkeys(new or [left])
            front = sorted(grown, key=lambda e: e.cost)[: self.limits.kept]
        return front

    def _grown(self, partial: Explanation, i: int, fit: Fit) -> Iterator[Explanation]:
        """Extend a partial explanation to the i-th array, which it does not explain."""
        key, unexplained, left = self.keys[i], partial.unexplained, set(partial.unexplained)
        before = [k for k in self.keys[:i] if k not in left]
        near = self.near(key) if len(unexplained) < OPEN else self._own(key)
        extended = list(self._extended(partial.made, before, key, near, fit))
        if not extended and not unexplained and len(partial.made) == 1:
            extended = list(self._pairs(partial.made, before, key))
        yield from (Explanation(new, unexplained) for new in extended)

    def _extended(
        self, made: Made, before: list[Key], key: Key, near: list[Mistake], fit: Fit
    ) -> Iterator[Made]:
        """Yield sets of one more mistake that explain an array and those before it."""
        more = [made | {mistake} for mistake in near if mistake not in made]
        explaining = [new for new in more if self.explains(new, key)]
        if not explaining:
            fitted = [made | {mistake} for mistake in fit(self.case, made, key)]
            explaining = [new for new in fitted if self.explains(new, key)]
        yield from (new for new in explaining if all(self.explains(new, k) for k in before))

    def _pairs(self, made: Made, before: list[Key], key: Key) -> Iterator[Made]:
        near = [m for m in self.near(key) if self._keeps_right(m)]
        for pair in combinations(near[: self.limits.paired], 2):
            new = made.union(pair)
            if self.explains(new, key) and all(self.explains(new, k) for k in before):
                yield new

    def _keeps_right(self, mistake: Mistake) -> bool:
        """Tell whether a mistake alone leaves every right array as it is."""
        made = frozenset([mistake])
        return not self.right & self.case.own(mistake) or all(
            self.explains(made, key) for key in self.keys if self.explains(NONE, key)
        )
