"""Names of inputs and outputs, checked and looked up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jacobians._checks import as_count
from jacobians._names import Names, as_names, numbered
from jacobians._options import did_you_mean


def number_of(which: int | str, names: tuple[str, ...], where: str) -> int:
    """Return the number of a name, or check a number from 0.

    >>> number_of("b", ("a", "b"), "plot: output"), number_of(0, ("a", "b"), "plot: output")
    (1, 0)
    """
    if isinstance(which, str):
        if which not in names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            hint = did_you_mean(which, names) or "."
            raise ValueError(f"{where}: {which!r} is not one of {shown}{hint}")
        return names.index(which)
    number = as_count(which, where, at_least=0)
    if number >= len(names):
        raise ValueError(f"{where}: expected a number below {len(names)}, but got {number}.")
    return number


def different_names(names: Any, count: int, letter: str, where: str) -> Names:
    """Check names, each once, or number them from 1."""
    given = as_names(names, count, f"sensitivity: {where}")
    if given is None:
        return _numbered(count, letter)
    if len(set(given)) < count:
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"sensitivity: {where}: {twice!r} stands for two of them.")
    return given


@lru_cache
def _numbered(count: int, letter: str) -> Names:
    return numbered(None, count, letter)


def selection(
    outputs: Sequence[int], inputs: Sequence[int], widths: Sequence[int]
) -> dict[str, list[int]]:
    """Return what tells the engine which rows and columns; nothing if these are all, in order."""
    if [*outputs] == [*range(widths[-1])] and [*inputs] == [*range(widths[0])]:
        return {}
    return {"rows": [*outputs], "columns": [*inputs]}
