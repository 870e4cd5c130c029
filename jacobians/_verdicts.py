"""A certificate as a record: identities with difference, bound and verdict, and how it prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jacobians._notebook import Displayed, Table
from jacobians._text import table


@dataclass(frozen=True)
class Check:
    """One identity: the largest difference between its two sides, and what was allowed.

    Attributes
    ----------
    identity : str
    notes : str
        Where it stands in ``paper_notes/identities.md``.
    difference, bound : float
        Largest over all entries of which something is claimed.
    ratio : float
        The largest ratio of an entry's difference to its own bound; NaN counts as a violation.
    claimed : bool
        Whether anything is claimed of any entry.
    evidence : bool
        Whether the bound is an estimate (of differences), not proved.
    """

    identity: str
    notes: str
    difference: float
    bound: float
    ratio: float
    claimed: bool = True
    evidence: bool = False

    @property
    def exact(self) -> bool:
        """Whether both sides are equal bit for bit."""
        return self.claimed and self.difference == 0

    @property
    def holds(self) -> bool:
        """Whether every entry of which something is claimed is within its bound."""
        return not self.claimed or self.ratio <= 1

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        if not self.claimed:
            return "nothing claimed"
        if not self.holds:
            return "FAILS"
        return "evidence" if self.evidence else "exact" if self.exact else "proved"


@dataclass(frozen=True, repr=False)
class Certificate(Displayed):
    """The identities at a point, each with difference, bound and verdict; ``print`` shows them.

    Attributes
    ----------
    network : str
    checks : tuple of Check
    left_out : tuple of (str, str)
        What was not checked here, and why.
    dependent : tuple of str
        Layers of which the explicit matrix is their map written out, so that "explicit" is no
        independent computation.
    hints : tuple of str
        What is wrong with the rule of such a layer, where an identity fails.
    """

    network: str
    checks: tuple[Check, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    dependent: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no identity that was checked fails."""
        return all(check.holds for check in self.checks)

    def __bool__(self) -> bool:
        return self.holds

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def __repr__(self) -> str:
        judged = [c for c in self.checks if c.claimed]
        held, exact = (sum(getattr(c, what) for c in judged) for what in ("holds", "exact"))
        sentence = f"{held} of {len(judged)} identities hold, {exact} of them bit for bit"
        if len(judged) < len(self.checks):
            sentence += f"; nothing is claimed of {len(self.checks) - len(judged)}"
        return f"Certificate of {self.network}: {sentence}"

    def _table(self) -> Table:
        rows = []
        for c in self.checks:
            figures = [f"{c.difference:.1e}", f"{c.bound:.1e}", f"{c.ratio:.3f}"]
            rows.append([c.identity, c.notes, *(figures if c.claimed else ["-"] * 3), c.verdict])
        return ["identity", "notes", "difference", "bound", "ratio", "verdict"], rows

    def _notes(self) -> list[str]:
        lines = [f"not checked: {identity} ({reason})" for identity, reason in self.left_out]
        lines += [
            f"not independent: the explicit matrix of {shown:.60} is its map, written out"
            for shown in (" ".join(layer.split()) for layer in self.dependent)  # in one line
        ]
        lines += self.hints
        return [*lines, "The bounds are about rounding: about products of the computed D and W."]

    def __str__(self) -> str:
        header, rows = self._table()
        *notes, last = self._notes()
        held = repr(self).rpartition(": ")[2] + "."
        shown = table(header, [list(row) for row in rows], left=2)
        return "\n".join([self.network, "", shown, "", *notes, held, last])
