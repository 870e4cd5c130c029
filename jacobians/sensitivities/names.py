"""Names of inputs and outputs, checked and looked up."""

from __future__ import annotations

from typing import Any

from jacobians._checks import ShapeError, as_count, as_items


def many(count: int, what: str) -> str:
    """Write how many there are of something.

    >>> many(1, "point"), many(2000, "point")
    ('1 point', '2,000 points')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


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


def as_names(names: Any, width: int, letter: str, where: str) -> tuple[str, ...]:
    """Check names, or number them from 1."""
    if names is None:
        return tuple([f"{letter}{k}" for k in range(1, width + 1)])
    found = tuple(map(str, as_items(names, f"sensitivity: {where}")))
    if len(found) != width:
        raise ShapeError(f"sensitivity: {where}: expected {width} names, but got {len(found)}.")
    if len(set(found)) < width:
        twice = next(name for name in found if found.count(name) > 1)
        raise ValueError(f"sensitivity: {where}: {twice!r} stands for two of them.")
    return found
