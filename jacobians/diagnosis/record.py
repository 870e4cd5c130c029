"""A diagnosis as a record that prints itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jacobians._text import counted
from jacobians.derivation.terms import Key

EVIDENCE = {
    "exact": "equal to the last bit",
    "bound": "what is right is within the bound that the lines carry, what is wrong is not: proved "
    "for sums and products; of activations it takes that a formula is right to 8 roundings of 1",
    "estimate": "no proof, as no bound says anything here: what is right is within 64 times the "
    "typical rounding error",
    "kinks": "no proof, as the slope at a kink is a choice: what is right is within what slopes "
    "between those on its two sides give, and 64 times the typical rounding error",
}


@dataclass(frozen=True, repr=False)
class Slip:
    """One mistake in somebody's result.

    Attributes
    ----------
    name : str
        Its name in the catalogue.
    words : str
    lines : tuple of (str, str, str)
        For every line it is made in, where, how it is written, and how it should be.
    sites : tuple of (role, layer)
        The same lines, as the rules call them.
    """

    name: str
    words: str
    lines: tuple[tuple[str, str, str], ...]
    sites: tuple[Key, ...] = ()

    def __str__(self) -> str:
        where = self.lines[0][0] if len(self.lines) == 1 else f"{len(self.lines)} lines"
        shown = [f"{self.name}, in {where}: {self.words}"]
        for _, yours, right in self.lines[:2]:
            shown += [f"    yours  {yours}", f"    right  {right}"]
        if len(self.lines) > 2:
            shown.append(f"    and so in {len(self.lines) - 2} more lines")
        return "\n".join(shown)

    __repr__ = __str__


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What is right and wrong in somebody's derivatives; ``print`` it.

    Attributes
    ----------
    right : bool
        Every array is what the derivation gives, within rounding.
    mistakes : tuple of Slip
        The smallest set that reproduces the arrays, as far as there is one.
    arrays : dict
        By name of the array, whether it is right.
    difference, bound : float
        Of the array entry that comes closest to, or goes furthest over, what is allowed.
    evidence : str
        What the verdict on the arrays rests on: ``"exact"``, ``"bound"`` if all are decided by a
        proved bound, an ``"estimate"`` of rounding, or ``"kinks"`` if one takes other slopes there.
    unexplained : tuple of str
        Arrays that no set of mistakes reproduces.
    remarks : tuple of str
        Choices that are no mistakes, what else looks the same, and which data would tell.
    alternatives : tuple of tuples of Slip
        Other sets of as many mistakes that give the same arrays on this data.
    kinks : int
        Of a result that is right by other slopes at kinks, how many units are at one.
    """

    right: bool
    mistakes: tuple[Slip, ...]
    arrays: dict[str, bool]
    difference: float
    bound: float
    evidence: str = "estimate"
    unexplained: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    alternatives: tuple[tuple[Slip, ...], ...] = ()
    kinks: int = 0

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return str(self).partition("\n")[0]

    def __str__(self) -> str:
        if self.right:
            allowed = f"and rounding allows {self.bound:.1e} there"
            if self.kinks:
                at = counted(self.kinks, "unit")
                allowed = f"within what another slope at a kink would give ({at} at a kink)"
            shown = [
                f"Right: {counted(len(self.arrays), 'array')} as the derivation gives; the largest "
                f"difference is {self.difference:.1e}, {allowed}."
            ]
        else:
            shown = [f"Wrong: {in_runs(k for k, right in self.arrays.items() if not right)}."]
            if fine := [name for name, right in self.arrays.items() if right]:
                shown.append(f"Right: {in_runs(fine)}.")
            shown += [f"{i}. {slip}" for i, slip in enumerate(self.mistakes, start=1)]
        notes = [f"Note: {remark}" for remark in self.remarks]
        return "\n".join([*shown, f"Evidence: {EVIDENCE[self.evidence]}.", *notes])


def in_runs(names: Iterable[str]) -> str:
    """List names; those of layers that follow one another are one.

    >>> in_runs(["biases of layer 3", "biases of layer 2", "biases of layer 1", "input Jacobian"])
    'biases of layers 1 to 3, input Jacobian'
    """
    numbers: dict[str, set[int]] = {}
    for name in names:
        what, _, last = name.rpartition(" ")
        here = numbers.setdefault(what if last.isdigit() else name, set())
        here |= {int(last)} if last.isdigit() else set()
    written = []
    for what, layers in numbers.items():
        starts = sorted(l for l in layers if l - 1 not in layers)
        ends = sorted(l for l in layers if l + 1 not in layers)
        for start, end in zip(starts, ends, strict=True):
            run = [f"{what} {l}" for l in range(start, end + 1)]
            written += [f"{what}s {start} to {end}"] if len(run) > 2 else run
        written += [] if layers else [what]
    return ", ".join(written)
