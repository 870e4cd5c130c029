"""A case: a network with data, somebody's arrays for it, and what mistakes make of every line.

Whether an array is right is decided by a bound where one says something: it is proved for sums and
products of dense networks, see ``Case.provable``; and else by an estimate, ``SAFETY`` times the
typical error.  At kinks it is also right within what other slopes there would give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from jacobians._checks import Array, Numbers
from jacobians.activations import Activation
from jacobians.derivation.evaluation import NONE, Changes, Evaluation, exact
from jacobians.derivation.functions import slopes_beside
from jacobians.derivation.starts import has_formula
from jacobians.derivation.terms import Key, Rounding, Term, Value
from jacobians.diagnosis.mistakes import Mistake

Made: TypeAlias = Changes  # a set of mistakes
SAFETY = 64  # times the typical error, since errors may conspire
SHARP = 2.0**-10  # of the largest entry: a bound below that tells every mistake from rounding


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
    _read: dict[Mistake, int] = field(default_factory=dict, init=False)
    _explained: dict[tuple[Key, Made], bool] = field(default_factory=dict, init=False)

    # --- lines with mistakes in them --------------------------------------------------------------

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
            for symbol in line.symbols:
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
        bit, term = self.bits[key], self.lines[key]
        here = [m for m in made if bit & self.own(m)]
        if here:
            here.sort(key=lambda m: (m.late, m.name))  # the same in every set of them
            term = self.changed(here[0], key) or term
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
        if mistake not in self._read:
            read = 0
            for term in (self.changed(mistake, site) for site in mistake.sites):
                for symbol in () if term is None else term.symbols:
                    read |= self.above.get(symbol, 0)
            self._read[mistake] = read
        return self._read[mistake]

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
            self._reach[key, made] = made if reached == made else reached
        return self._reach[key, made]

    def can(self, mistake: Mistake) -> bool:
        """Tell whether the mistake changes any line here."""
        return any(self.changed(mistake, site) is not None for site in mistake.sites)

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

    # --- what is within rounding ------------------------------------------------------------------

    @cached_property
    def proving(self) -> Case:
        """The same case with errors that are bounds, not typical."""
        case = Case(self.rules, self.given, self.rounding._replace(typical=False), self.claims)
        case.lines, case.bits, case.above = self.lines, self.bits, self.above
        case._changed, case._own, case._read = self._changed, self._own, self._read
        case._reach = self._reach
        return case

    @cached_property
    def provable(self) -> bool:
        """Whether errors of this network can be bounded.

        Not if a layer is not dense or a loss is somebody's own, whose rounding inside is not
        visible from its values; and not if a preactivation may move so far that a curve bends more
        than it rounds, which is where the square of its error exceeds a rounding.
        """
        layers = range(1, self.rules.net.depth + 1)
        ours = has_formula(self.rules.loss, self.rules.activation(self.rules.top))
        return ours and all(self.rules.is_dense(l) and self._is_steady(l) for l in layers)

    def _is_steady(self, l: int) -> bool:
        activation, error = self.rules.activation(l), self.proving.value(("z", l)).error
        straight = isinstance(activation, Activation) and activation.piecewise_linear
        return straight or bool((error**2 <= self.rounding.unit).all())

    def estimate(self, key: Key, made: Made = NONE) -> Value | None:
        """Return the value with the difference that is allowed by the typical error."""
        return self._allowing(self.value_or_none(key, made), SAFETY, key)

    def bound(self, key: Key, made: Made = NONE) -> Value | None:
        """Return the value with the proved bound, None where there is none that says something."""
        value = self.proving.value_or_none(key, made) if self.provable else None
        value = self._allowing(value, 2, key)  # ours is rounded too
        if value is None:
            return None
        size, most = (float(np.abs(x).max(initial=0)) for x in value)
        return value if most <= max(SHARP * size, self.rounding.tiny / SHARP) else None

    def standard(self, key: Key, made: Made = NONE) -> tuple[Value | None, str]:
        """Return the value with the difference that is allowed, and by what.

        Another slope at a kink is allowed where nothing else is wrong.
        """
        bound, claim = self.bound(key, made), (self.claims or {}).get(key)
        value, by = (self.estimate(key, made), "estimate") if bound is None else (bound, "bound")
        if value is None or claim is None or is_wrong(made) or within(claim, value):
            return value, by
        other = self.at_any_slope(key, made)
        if other is None:
            return value, by
        return other if within(claim, other) else value, "kinks"

    # --- kinks ------------------------------------------------------------------------------------

    @cached_property
    def slopes_at_kinks(self) -> dict[Key, tuple[Array, Array]]:
        """The least and the largest slopes of layers that have units at a kink.

        Of a max-pool whose entries tie: the least and the largest entries of its map.
        """
        beside: dict[Key, tuple[Array, Array]] = {}
        for l, layer in enumerate(self.rules.net.layers, start=1):
            f = self.rules.activation(l)
            if isinstance(f, Activation) and f.kinks:
                beside["s", l] = slopes_beside(f, *self.value(("z", l)))
            if layer.kinked and ("M", l) in self.fixed:
                beside["M", l] = self._entries_beside(l)
        return {key: ends for key, ends in beside.items() if (ends[0] < ends[1]).any()}

    def _entries_beside(self, l: int) -> tuple[Array, Array]:
        """Return the map of a max-pool with 0, and with 1, wherever an entry ties for the most."""
        (source,), layer = self.rules.sources(l), self.rules.net.layers[l - 1]
        a, z, M = (self.value(key) for key in (("a", source), ("z", l), ("M", l)))
        in_window = layer.may_move(np.eye(M.number.shape[-1])).T
        apart = np.abs(np.swapaxes(a.number, -1, -2) - z.number)
        ties = in_window & (apart <= np.swapaxes(a.error, -1, -2) + z.error)
        ties &= ties.sum(axis=-1, keepdims=True) > 1
        return np.where(ties, 0.0, M.number), np.where(ties, 1.0, M.number)

    @property
    def kinks(self) -> int:
        """How many units are at a kink, over all points."""
        return sum(int((least < largest).sum()) for least, largest in self.slopes_at_kinks.values())

    @cached_property
    def _at_any_slope(self) -> tuple[Case, Case]:
        """The case with any slope at kinks and no rounding, and with the steepest and rounding."""
        forward = {key: self.value(key) for key in self.lines if key[0] in ("z", "a", "s")}
        numbers = {key: exact(x.number) for key, x in (self.fixed | forward).items()}
        steepest = dict(self.fixed)
        for key, (least, largest) in self.slopes_at_kinks.items():
            numbers[key] = Value((least + largest) / 2, (largest - least) / 2)
            s = np.where(-least > largest, least, largest)
            steepest[key] = Value(s, self.value(key).error + 8 * self.rounding.unit * np.abs(s))
        return self._beside(numbers, Rounding(0.0, 0.0)), self._beside(steepest, self.rounding)

    def _beside(self, fixed: dict[Key, Value], rounding: Rounding) -> Case:
        """Return the case with other values, whose errors are what they are."""
        case = Case(self.rules, fixed, rounding, self.claims)
        case.fixed = fixed
        return case

    def at_any_slope(self, key: Key, made: Made = NONE) -> Value | None:
        """Return the value with what slopes at kinks and rounding allow; None if no kink matters.

        An entry is linear in the slopes of one layer, so that the interval is what they reach; of
        kinks in several layers it contains that.
        """
        if not self.kinks:
            return None
        unrounded, steepest = self._at_any_slope
        reached, rounded = unrounded.value_or_none(key, made), steepest.estimate(key, made)
        reached = self._allowing(reached, 1, key) if reached and reached.error.any() else None
        if reached is None or rounded is None:
            return None
        return Value(reached.number, reached.error + rounded.error)

    def _allowing(self, value: Value | None, times: float, key: Key) -> Value | None:
        if value is None:
            return None
        unit, tiny = self.rounding.unit, self.rounding.tiny
        with np.errstate(all="ignore"):
            allowed = times * value.error + 2 * unit * np.abs(value.number) + tiny
        value, claim = Value(value.number, allowed), (self.claims or {}).get(key)
        if key[0] in ("J", "JW") and claim is not None and value.number.shape == claim.shape[1:]:
            return Value(*(np.broadcast_to(part, claim.shape) for part in value))  # at every point
        return value

    def explains(self, made: Made, key: Key) -> bool:
        """Tell whether the claimed array is what these mistakes give, within rounding."""
        here = (key, self.reaching(key, made))
        if here not in self._explained:
            self._explained[here] = self._is_explained(*here)
        return self._explained[here]

    def _is_explained(self, key: Key, made: Made) -> bool:
        assert self.claims is not None
        claim = self.claims[key]
        if is_wrong(made):  # of mistakes both must hold, the quicker first
            value = self.estimate(key, made)
            if value is None or not np.isfinite(value.error).all() or not within(claim, value):
                return False  # what may be anything explains nothing
            right, _ = self.standard(key)
            if right is not None and within(value.number, right) and not within(claim, right):
                return False  # nor does what cancels
        value, _ = self.standard(key, made)
        return value is not None and within(claim, value)


def is_wrong(made: Made) -> bool:
    """Tell whether any of these is a mistake, not a choice."""
    return any(m.likelihood >= 0 for m in made)


def within(claim: Numbers, value: Value) -> bool:
    """Tell whether an array is as near to a value as is allowed."""
    return claim.shape == value.number.shape and bool((excess(claim, value) <= 0).all())


def excess(claim: Numbers, value: Value) -> Array:
    """Return by how much more than is allowed an array differs, entry by entry."""
    with np.errstate(invalid="ignore"):
        over = np.abs(claim - value.number) - value.error
    over = np.where(np.isnan(value.error), -np.inf, over)
    result: Array = np.where(np.isnan(over), np.inf, over)
    return result
