"""Names of inputs and outputs, checked and looked up."""

from __future__ import annotations

from typing import Any

from jacobians._checks import as_count
from jacobians._names import Names, as_names, numbered


def place_of(which: int | str, names: tuple[str, ...], where: str) -> int:
    """Return the place of a name, or check a number from 0."""
    if isinstance(which, str):
        if which not in names:
            raise ValueError(f"{where}: expected one of {', '.join(names[:8])}, but got {which!r}.")
        return names.index(which)
    place = as_count(which, where, at_least=0)
    if place >= len(names):
        raise ValueError(f"{where}: expected a number below {len(names)}, but got {place}.")
    return place


def different_names(names: Any, count: int, letter: str, where: str) -> Names:
    """Check names, each once, or number them from 1."""
    where = f"sensitivity: {where}"
    given = numbered(as_names(names, count, where), count, letter)
    if len(set(given)) < count:
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"{where}: {twice!r} stands for two of them.")
    return given
