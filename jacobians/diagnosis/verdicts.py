"""The verdict on a case: is it right, up to choices, up to precision; which mistakes, where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from jacobians.derivation.evaluation import NONE
from jacobians.derivation.markup import Text, plain
from jacobians.derivation.notation import as_convention, laid_out
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key, Rounding, Times
from jacobians.diagnosis.case import SAFETY, Case, Made, excess, within
from jacobians.diagnosis.mistakes import Mistake, catalogue, constant, dropped, penalty_of
from jacobians.diagnosis.record import Diagnosis, Slip
from jacobians.diagnosis.search import Explanation, agree, search

_NAMES = {
    **dict.fromkeys(("dW", "dK"), "weights of layer {}"),
    "db": "biases of layer {}",
    "ddelta": "error of layer {}",
    "dx": "input gradient",
    "J": "Jacobian",
    "JW": "weight Jacobian of layer {}",
}
_IDENTITIES = {
    **{"dW": 8, "db": 8, "ddelta": 7, "delta": 7, "c": 7, "dx": 7},
    **{"J": 5, "P": 5, "JW": 4, "s": 1, "D": 1},
}
_AT_KINKS = (
    "some units are at a kink of their activation, or tie in a max-pool, within rounding; the "
    "slope there is a choice, and yours is not ours"
)
_ROUNDING = "the difference is rounding; a smaller tolerance would accuse a right result"
_SCALES = (1.0, 2.0, 4 / 3, 1.25, *(1 / keep for keep in (0.9, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1)))


def name_of(key: Key) -> str:
    """Return what a claimed array is called."""
    return _NAMES.get(key[0], f"{key[0][1:]} of layer {{}}").format(key[1])


class Verdict:
    """Asks, in this order: is it right, up to choices, up to precision, which mistakes, where."""

    def __init__(self, case: Case, probes: list[Case], about: list[str]) -> None:
        self.case, self.probes, self.about = case, probes, about
        assert case.claims is not None
        self.claims = case.claims
        self.heard = [case, *(probe for probe in probes if probe.claims is not None)]
        self.choices = list(self._choices())

    @np.errstate(all="ignore")
    def right_as(self) -> Made | None:
        """Return as what all is right, up to choices; None if it is not."""
        return next((made for made in (NONE, *self.choices) if agree(self.heard, made)), None)

    @np.errstate(all="ignore")
    def diagnosis(self) -> Diagnosis:
        """Return the diagnosis."""
        if (right := self.right_as()) is not None:
            return self._right(right)
        if agree([self.case], NONE):  # what is wrong shows on another network alone
            return self._elsewhere()
        candidates = [m for made in self.choices for m in made]
        candidates += [*catalogue(self.case.rules, self.claims), *_dropouts(self.case)]
        case, explanations = self.case, search(self.heard, candidates, _fit)
        for others in self._with_other_slopes():
            if not explanations[0].unexplained:
                break
            again = search(others, candidates, _fit)
            if len(again[0].unexplained) < len(explanations[0].unexplained):
                case, explanations = others[0], again
        if explanations[0].unexplained and self.case.rounding.unit < 1e-12:
            single = replace(self.case, rounding=Rounding.of(np.float32, typical=True))
            if agree([single, *self.heard[1:]], NONE):
                return self._imprecise()
        return self._wrong(case, explanations)

    def _with_other_slopes(self) -> Iterator[list[Case]]:
        """Yield the cases with one slope at all kinks, as an implementation would choose it."""
        for share in (1.0, 0.5, 0.0) if any(case.kinks for case in self.heard) else ():
            yield [replace(c, rules=replace(c.rules, slope_at_kinks=share)) for c in self.heard]

    def _elsewhere(self) -> Diagnosis:
        """Diagnose on the drawn network that shows what is wrong."""
        for probe, about in zip(self.probes, self.about, strict=True):
            if not agree([probe], NONE):
                rest = [case for case in self.heard if case is not probe]
                there = Verdict(probe, rest, ["your data"] * len(rest)).diagnosis()
                note = f"on your data it is right; this is about {about}"
                return replace(there, remarks=(*there.remarks, note))
        return self._right(NONE)

    def _choices(self) -> Iterator[Made]:
        """What is no mistake: errors of each point's own loss."""
        sites = tuple(key for key in self.claims if key[0] in ("ddelta", "dx"))

        def undivided(rules: Rules, key: Key, term: Any) -> Any:
            return term.operands[0] if isinstance(term, Times) else None

        for chosen in (sites, tuple(k for k in sites if k[0] == "ddelta")):
            if chosen and (self.case.rules.points or 1) > 1:
                words = "the errors are those of each point's own loss, N times those of the mean"
                yield frozenset({Mistake("own loss", chosen, undivided, words, -1)})

    # --- verdicts -------------------------------------------------------------------------------

    def _worst(self, case: Case, made: Made) -> tuple[float, float]:
        """Return difference and allowance where the one is largest against the other."""
        worst, ratio = (0.0, 0.0), -1.0
        for key, claim in self.claims.items():
            value, _ = case.standard(key, made)
            if value is None or claim.shape != value.number.shape:
                continue
            number = case.value(key, made).number  # at kinks the interval is not around it
            difference = np.abs(claim - number)
            allowed = value.error + np.abs(value.number - number)
            ratios = np.where(difference == 0, 0.0, difference / np.maximum(allowed, 1e-290))
            i = int(np.argmax(ratios))
            if ratios.flat[i] > ratio:
                ratio = float(ratios.flat[i])
                worst = (float(difference.flat[i]), float(allowed.flat[i]))
        return worst

    def _evidence(self, case: Case, made: Made) -> str:
        """Return what the verdict on the arrays rests on: the weakest of all."""
        return max(case.standard(key, made)[1] for key in self.claims)

    def _digits(self, key: Key) -> float:
        """Return to how many digits of its largest entry an array is right."""
        number, claim = self.case.value(key).number, self.claims[key]
        off = float(np.abs(claim - number).max(initial=0))
        return float(-np.log10(max(off / max(float(np.abs(number).max()), 1e-300), 1e-17)))

    def _right(self, made: Made) -> Diagnosis:
        difference, bound = self._worst(self.case, made)
        evidence = "exact" if difference == 0 else self._evidence(self.case, made)
        kinks = self.case.kinks if evidence == "kinks" else 0
        arrays = {name_of(key): True for key in self.claims}
        notes = [m.words for m in made]
        notes += [_AT_KINKS if kinks else _ROUNDING] * (difference > 0)
        return Diagnosis(True, (), arrays, difference, bound, evidence, (), tuple(notes), (), kinks)

    def _imprecise(self) -> Diagnosis:
        digits = min(map(self._digits, self.claims))
        name, yours = "float32 in the middle", "float32"
        words = "the result is right to the digits of float32, and no further"
        if digits > 9:  # float32 has 7
            name, yours = "digits lost", "a formula that loses digits, or rounded numbers"
            words = f"the result is right to {digits:.0f} digits; float64 leaves more"
        slip = Slip(name, words, (("the computation", yours, "float64"),))
        arrays = {name_of(k): self.case.explains(NONE, k) for k in self.claims}
        evidence = self._evidence(self.case, NONE)
        return Diagnosis(False, (slip,), arrays, *self._worst(self.case, NONE), evidence)

    def _wrong(self, case: Case, explanations: list[Explanation]) -> Diagnosis:
        best = explanations[0]
        choices = frozenset(m for m in best.made if m.likelihood < 0)
        made = sorted(best.made - choices, key=lambda m: (m.likelihood, m.name))
        alike = list(self._alike(explanations))
        notes = [_AT_KINKS] * (case is not self.case) + [m.words for m in choices]
        notes += [self._told(best.made, other.made, telling) for other, telling in alike[:3]]
        notes += [self._lost(case, key, choices) for key in best.unexplained]
        return Diagnosis(
            False,
            tuple(_slip(case, m) for m in made),
            {name_of(k): case.explains(choices, k) for k in self.claims},
            *self._worst(case, choices),
            self._evidence(case, choices),
            unexplained=tuple(name_of(key) for key in best.unexplained),
            remarks=tuple(notes),
            alternatives=tuple(tuple(_slip(case, m) for m in e.made) for e, _ in alike),
        )

    def _alike(self, explanations: list[Explanation]) -> Iterator[tuple[Explanation, str]]:
        """Yield what else explains the arrays with as many mistakes, and which data would tell."""
        best, *others = explanations
        for other in () if best.unexplained else others:
            if len(other.made) == len(best.made) and not other.unexplained:
                telling = self._tells_apart(best.made, other.made)
                if telling is not None:
                    yield other, telling

    def _told(self, best: Made, other: Made, telling: str) -> str:
        theirs, mine = (" and ".join(map(_short, made)) for made in (other - best, best - other))
        return f"on this data {theirs} cannot be told from {mine}; {telling} would tell"

    def _tells_apart(self, one: Made, other: Made) -> str | None:
        """Return which drawn network gives different arrays, None if none does."""
        for probe, about in zip(self.probes, self.about, strict=True):
            for key in self.claims:
                if not probe.reaching(key, one | other):
                    continue
                a, b = probe.value_or_none(key, one), probe.estimate(key, other)
                if (a is None) != (b is None):
                    return about
                if a is not None and b is not None and not within(a.number, b):
                    return about
        return None

    def _lost(self, case: Case, key: Key, choices: Made) -> str:
        """Say where an unexplained array goes wrong first."""
        claim, name, (value, _) = self.claims[key], name_of(key), case.standard(key, choices)
        assert value is not None
        if claim.shape != value.number.shape:
            shape = value.number.shape
            return f"nothing explains the {name}: its shape is {claim.shape}, not {shape}"
        over = excess(claim, value)
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(over)), over.shape))
        entry = ", ".join(map(str, at if claim.shape[-1] > 1 else at[:-1]))
        return (
            f"no two mistakes of the catalogue explain the {name}: its worst entry [{entry}] is "
            f"{claim[at]:.6g}, not {value.number[at]:.6g}; {int((over > 0).sum())} of "
            f"{over.size} entries are wrong"
        )


def _slip(case: Case, mistake: Mistake) -> Slip:
    """Describe a mistake by the lines it is made in, yours and the right ones."""
    points = case.rules.points if case.rules.points != 1 else None
    rules, columns = replace(case.rules, points=points), as_convention("columns")
    writer, lines = Text(columns, rules, shapes=False), []
    for site in mistake.sites:
        term, new = case.lines.get(site), case.changed(mistake, site)
        if term is None or new is None:
            continue
        left = rules.symbol(*site)
        right, yours = (plain(writer.line(*laid_out(left, x, columns))) for x in (term, new))
        number = _IDENTITIES.get(site[0])
        right += f"    (identity {number})" if number else ""
        lines.append((plain(writer.write(left)), yours, right))
    return Slip(mistake.name, mistake.words, tuple(lines), mistake.sites)


def _short(mistake: Mistake) -> str:
    role, l = mistake.sites[0]
    several = f" to {mistake.sites[-1][1]}" if len(mistake.sites) > 1 else ""
    return f"“{mistake.name}” ({role}{'' if l is None else f' {l}'}{several})"


# --- constants that are read off an array ---------------------------------------------------------


def _fit(case: Case, made: Made, key: Key) -> Iterator[Mistake]:
    """Read a constant off an array: a factor, a penalty."""
    assert case.claims is not None
    claim, value = case.claims[key].astype(np.float64), case.value_or_none(key, made)
    if value is None or claim.shape != value.number.shape or not np.isfinite(claim).all():
        return
    number = value.number
    if (np.abs(number) > 1e3 * SAFETY * value.error).sum() >= 2:
        i = int(np.argmax(np.abs(number)))
        c = float(claim.flat[i] / number.flat[i])
        if np.isfinite(c) and c and abs(c - 1) > 1e-5:
            yield constant(c, (key,))
            for l in range(min(case.rules.net.depth, key[1] + 5), max(key[1], 1) - 1, -1):
                yield constant(c, (("delta", l),))
    if key[0] == "dW" and case.rules.is_dense(key[1]):
        W = case.given["W", key[1]].number
        i = int(np.argmax(np.abs(W)))
        c = float((claim - number).flat[i] / W.flat[i]) if W.size > 1 and W.flat[i] else 0.0
        if abs(c) * np.abs(W).max() > 1e4 * case.rounding.unit * np.abs(number).max():
            yield penalty_of(c, (key,))


def _dropouts(case: Case) -> Iterator[Mistake]:
    """Read masks of hidden layers off the zeros of weight gradients and errors."""
    for (role, l), claim in (case.claims or {}).items():
        if role == "dW":  # columns are units of the layer below
            yield from _masks(case, l - 1, (claim != 0).any(axis=0))
        if role == "ddelta":  # each point may have dropped units of its own
            kept = claim[..., 0] != 0
            yield from _masks(case, l, kept[0] if (kept == kept[0]).all() else kept)


def _masks(case: Case, l: int, kept: Any) -> Iterator[Mistake]:
    if not 0 < l < case.rules.net.depth or kept.all() or not kept.any():
        return
    alive = (case.value(("a", l)).number != 0).any(axis=0)
    if kept.shape[-1] == len(alive) and alive.all():
        mask = tuple(map(tuple, kept.tolist())) if kept.ndim == 2 else tuple(kept.tolist())
        for scale in dict.fromkeys((1 / float(kept.mean()), *_SCALES)):
            yield dropped(l, mask, scale)
