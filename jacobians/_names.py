"""Names of inputs, outputs and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from jacobians._checks import ShapeError, as_items

Names: TypeAlias = tuple[str, ...]


def as_names(names: Any, count: int, where: str) -> Names | None:
    """Check names: as many as there are things, or none at all."""
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(f"{where}: expected a sequence of names, but got {names!r:.80}.")
    given = tuple(map(str, as_items(names, where)))
    if len(given) != count:
        raise ShapeError(f"{where}: expected {count} names, but got {len(given)}.")
    return given


def numbered(names: Sequence[str] | None, count: int, letter: str, first: int = 1) -> Names:
    """Return the names, or a letter with a number where there are none.

    >>> numbered(None, 3, "x")
    ('x1', 'x2', 'x3')
    """
    if names is not None:
        return tuple(names)
    return tuple(f"{letter}{k}" for k in range(first, first + count))
