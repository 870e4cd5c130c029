"""The verdict on a case: is it right, up to choices, up to precision; which mistakes, where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from jacobians._checks import Numbers
from jacobians.derivation.markup import Text
from jacobians.derivation.notation import as_convention, laid_out
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key, Rounding, Times, Value
from jacobians.diagnosis.drawing import has_kinks
from jacobians.diagnosis.mistakes import Mistake, catalogue, constant, dropped, penalty_of
from jacobians.diagnosis.record import Diagnosis, Slip
from jacobians.diagnosis.search import (
    NONE,
    SAFETY,
    CannotBeMadeError,
    Case,
    Explanation,
    Made,
    excess,
    search,
)

_NAMES = {
    "dW": "weights of layer {}",
    "db": "biases of layer {}",
    "ddelta": "error of layer {}",
    "dx": "input gradient",
    "J": "Jacobian",
    "JW": "weight Jacobian of layer {}",
}
_NOTES = {
    "dW": 8,
    "db": 8,
    "ddelta": 7,
    "delta": 7,
    "c": 7,
    "dx": 7,
    "J": 5,
    "P": 5,
    "JW": 4,
    "s": 1,
    "D": 1,
}


_AT_KINKS = (
    "some units are at a kink of their activation, within rounding; the slope there is a choice, "
    "and yours is not ours"
)


class Verdict:
    """Asks, in this order: is it right, up to choices, up to precision, which mistakes, where."""

    def __init__(self, case: Case, probes: list[Case], about: list[str]) -> None:
        self.case, self.probes, self.about = case, probes, about
        assert case.claims is not None
        self.claims = case.claims
        self.heard = [probe for probe in probes if probe.claims is not None]

    @np.errstate(all="ignore")
    def verdict(self) -> Diagnosis | None:
        """Return the verdict that all is right, up to choices; None if it is not."""
        for case in (self.case, self._tolerant()):
            for made in (NONE, *self._choices()):
                if case is not None and self._is_right(case, made):
                    return self._right(case, made, *([_AT_KINKS] if case is not self.case else []))
        return None

    @np.errstate(all="ignore")
    def diagnosis(self) -> Diagnosis:
        """Return the diagnosis."""
        right = self.verdict()
        if right is not None:
            return right
        tolerant = self._tolerant()
        if self._is_right_here(self.case):  # what is wrong shows on another network alone
            return self._elsewhere()
        candidates = [
            *(m for made in self._choices() for m in made),
            *catalogue(self.case.rules, self.claims),
        ]
        found = search([self.case, *self.heard], candidates, _fit)
        best = found[0]
        if best.unexplained and tolerant is not None:
            other = search([tolerant, *self.heard], candidates, _fit)
            if len(other[0].unexplained) < len(best.unexplained):
                return self._wrong(tolerant, other, (_AT_KINKS,))
        if best.unexplained and self.case.rounding.unit < 1e-12:
            single = Case(
                self.case.rules, self.case.given, Rounding.of(np.float32, typical=True), self.claims
            )
            if self._is_right(single, NONE):
                return self._in_float32(single)
        return self._wrong(self.case, found)

    def _is_right(self, case: Case, made: Made) -> bool:
        return self._is_right_here(case, made) and all(
            p.explains(made, key) for p in self._heard_as(case) for key in p.claims or ()
        )

    def _is_right_here(self, case: Case, made: Made = NONE) -> bool:
        return all(case.explains(made, key) for key in self.claims)

    def _heard_as(self, case: Case) -> list[Case]:
        """Return the drawn networks, as tolerant of slopes at kinks as the case is."""
        if not case.rules.any_slope_at_kinks:
            return self.heard
        return [_with_any_slope(probe) for probe in self.heard]

    def _elsewhere(self) -> Diagnosis:
        """Diagnose on the drawn network that shows what is wrong."""
        assert self.case.claims is not None
        for probe, about in zip(self.probes, self.about, strict=True):
            case = _with_any_slope(probe) if has_kinks(probe.rules.net) else probe
            if probe.claims is not None and not all(case.explains(NONE, k) for k in probe.claims):
                rest = [self.case, *(p for p in self.heard if p is not probe)]
                found = Verdict(probe, rest, ["your data"] * len(rest)).diagnosis()
                note = f"on your data it is right; this is about {about}"
                return replace(found, remarks=(*found.remarks, note))
        return self._right(self.case, NONE)

    def _choices(self) -> Iterator[Made]:
        """What is no mistake: errors of each point's own loss."""
        sites = tuple(key for key in self.claims if key[0] in ("ddelta", "dx"))
        for chosen in (sites, tuple(k for k in sites if k[0] == "ddelta")):
            if chosen and (self.case.rules.points or 1) > 1:
                words = "the errors are those of each point's own loss, N times those of the mean"
                yield frozenset({Mistake("own loss", chosen, _undivided, words, -1)})

    def _tolerant(self) -> Case | None:
        """Return the case with any slope allowed at a kink."""
        if not has_kinks(self.case.rules.net):
            return None
        return _with_any_slope(self.case)

    # --- verdicts -------------------------------------------------------------------------------

    def _name(self, key: Key) -> str:
        return _NAMES[key[0]].format(key[1])

    def _worst(self, case: Case, made: Made) -> tuple[float, float]:
        """Return the difference and the bound of the entry nearest to its bound."""
        worst, ratio = (0.0, 0.0), -1.0
        for key, claim in self.claims.items():
            try:
                value = case.value(key, made)
            except CannotBeMadeError:
                continue
            if claim.shape != value.number.shape:
                continue
            difference = np.abs(claim.astype(np.float64) - value.number)
            allowed = difference - excess(claim, value, case.rounding)
            ratios = np.where(difference == 0, 0.0, difference / np.maximum(allowed, 1e-290))
            i = int(np.argmax(ratios))
            if ratios.flat[i] > ratio:
                ratio, worst = (
                    float(ratios.flat[i]),
                    (float(difference.flat[i]), float(allowed.flat[i])),
                )
        return worst

    def _right(self, case: Case, made: Made, *remarks: str) -> Diagnosis:
        difference, bound = self._worst(case, made)
        if difference > 0 and not remarks:
            remarks = (
                "the difference is rounding; a smaller tolerance would accuse a right result",
            )
        chosen = tuple(m.words for m in made)
        arrays = {self._name(key): True for key in self.claims}
        return Diagnosis(True, (), arrays, difference, bound, (), (*chosen, *remarks))

    def _in_float32(self, single: Case) -> Diagnosis:
        difference, bound = self._worst(self.case, NONE)
        slip = Slip(
            "float32 in the middle",
            "the result is right to the digits of float32, and no further",
            (("the computation", "float32", "float64"),),
        )
        arrays = {self._name(k): self.case.explains(NONE, k) for k in self.claims}
        return Diagnosis(False, (slip,), arrays, difference, bound)

    def _wrong(
        self, case: Case, found: list[Explanation], remarks: tuple[str, ...] = ()
    ) -> Diagnosis:
        best = found[0]
        choices = tuple(m for m in best.made if m.likelihood < 0)
        made = sorted(
            (m for m in best.made if m.likelihood >= 0), key=lambda m: (m.likelihood, m.name)
        )
        base = frozenset(choices)
        arrays = {self._name(k): case.explains(base, k) for k in self.claims}
        difference, bound = self._worst(case, base)
        alike = self._alike(found)
        notes = [*remarks, *(m.words for m in choices)]
        notes += [self._told(best.made, other.made, telling) for other, telling in alike[:3]]
        alternatives = tuple(tuple(self._slip(case, m) for m in other.made) for other, _ in alike)
        notes += [self._lost(case, key, best.made) for key in best.unexplained]
        slips = tuple(self._slip(case, m) for m in made)
        unexplained = tuple(self._name(key) for key in best.unexplained)
        return Diagnosis(
            False, slips, arrays, difference, bound, unexplained, tuple(notes), alternatives
        )

    def _slip(self, case: Case, mistake: Mistake) -> Slip:
        rules = replace(case.rules, points=case.rules.points if case.rules.points != 1 else None)
        lines = []
        for site in mistake.sites:
            term, new = case.lines.get(site), case.changed(mistake, site)
            if term is None or new is None:
                continue
            left = rules.symbol(*site)
            writer = Text(as_convention("columns"), rules.net.depth, shapes=False)
            right, yours = (
                "".join(t for t, _ in writer.line(*laid_out(left, x, writer.convention)))
                for x in (term, new)
            )
            notes = _NOTES.get(site[0])
            where = "".join(t for t, _ in writer.write(left))
            lines.append((where, yours, right + (f"    (identity {notes})" if notes else "")))
        return Slip(mistake.name, mistake.words, tuple(lines), mistake.sites)

    def _alike(self, found: list[Explanation]) -> list[tuple[Explanation, str]]:
        """Return what else explains the arrays with as many mistakes, and which data would tell."""
        best = found[0]
        if best.unexplained:
            return []
        others = [e for e in found[1:] if len(e.made) == len(best.made) and not e.unexplained]
        telling = [(other, self._tells_apart(best.made, other.made)) for other in others]
        return [(other, about) for other, about in telling if about is not None]

    def _told(self, best: Made, other: Made, telling: str) -> str:
        theirs = " and ".join(self._short(m) for m in other - best)
        mine = " and ".join(self._short(m) for m in best - other)
        return f"on this data {theirs} cannot be told from {mine}; {telling} would tell"

    def _short(self, mistake: Mistake) -> str:
        where = mistake.sites[0]
        layers = "" if where[1] is None else f" {where[1]}"
        several = f" to {mistake.sites[-1][1]}" if len(mistake.sites) > 1 else ""
        return f"“{mistake.name}” ({where[0]}{layers}{several})"

    def _tells_apart(self, one: Made, other: Made) -> str | None:
        """Return which drawn network gives different arrays, None if none does."""
        for probe, about in zip(self.probes, self.about, strict=True):
            for key in self.claims:
                values: list[Value | None] = []
                for made in (one, other):
                    try:
                        values.append(probe.value(key, made))
                    except CannotBeMadeError:
                        values.append(None)
                a, b = values
                if (a is None) != (b is None):
                    return about
                if a is not None and b is not None and not probe.within(a.number, b):
                    return about
        return None

    def _lost(self, case: Case, key: Key, made: Made) -> str:
        """Say where an unexplained array goes wrong first."""
        claim, name = self.claims[key], self._name(key)
        value = case.value(key, frozenset(m for m in made if m.likelihood < 0))
        if claim.shape != value.number.shape:
            shape = value.number.shape
            return f"nothing explains the {name}: its shape is {claim.shape}, not {shape}"
        over = excess(claim, value, case.rounding)
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(over)), over.shape))
        entry = ", ".join(map(str, place if claim.shape[-1] > 1 else place[:-1]))
        return (
            f"no two mistakes of the catalogue explain the {name}: its worst entry [{entry}] is "
            f"{claim[place]:.6g}, not {value.number[place]:.6g}; {int((over > 0).sum())} of "
            f"{over.size} entries are wrong"
        )


def _with_any_slope(case: Case) -> Case:
    return Case(
        replace(case.rules, any_slope_at_kinks=True), case.given, case.rounding, case.claims
    )


def _undivided(rules: Rules, key: Key, term: Any) -> Any:
    return term.term if isinstance(term, Times) else None


def _fit(case: Case, made: Made, key: Key) -> Iterator[Mistake]:
    """Read constants off an array: a factor, a penalty, the mask of a dropout."""
    assert case.claims is not None
    try:
        value = case.value(key, made)
    except CannotBeMadeError:
        return
    claim, number = case.claims[key].astype(np.float64), value.number
    if claim.shape != number.shape or not np.isfinite(claim).all():
        return
    clear = np.abs(number) > 1e3 * SAFETY * value.error
    if clear.sum() >= 2:
        i = int(np.argmax(np.abs(number)))
        c = float(claim.flat[i] / number.flat[i])
        if np.isfinite(c) and c not in (0.0, 1.0):
            yield constant(c, (key,))
            for l in range(case.rules.net.depth, (key[1] or 1) - 1, -1):
                yield constant(c, (("delta", l),))
    if key[0] == "dW":
        W = case.given["W", key[1]].number
        i = int(np.argmax(np.abs(W)))
        c = float((claim - number).flat[i] / W.flat[i]) if W.size > 1 and W.flat[i] else 0.0
        if c:
            yield penalty_of(c, (key,))
        yield from _masks(case, claim, key[1])


def _masks(case: Case, claim: Numbers, l: int) -> Iterator[Mistake]:
    """Masks of the values that enter layer l: columns of the weight gradient that are 0."""
    below = case.value(("a", l - 1)).number
    kept = tuple(bool(keep) for keep in (claim != 0).any(axis=0))
    if l > 1 and 0 < sum(kept) < len(kept) and (below != 0).any(axis=(0, 2)).all():
        share = sum(kept) / len(kept)
        for scale in dict.fromkeys((1.0, 1 / share, 2.0, 1.25, 1 / 0.9, 1 / 0.7, 4 / 3, 1 / 0.6)):
            yield dropped(l - 1, kept, scale)
