"""What all pictures share: axes, colours, labels that cannot be mistaken for formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_floats, missing_extra
from jacobians._names import as_names, numbered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by colour-blind readers; blue is negative, red is positive in
# the diverging map, which is ColorBrewer's and safe for them too.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
BLUE, RED, GREEN, ORANGE, PURPLE, SKY = CYCLE
GREY, PALE = "#595959", "#D9D9D9"
DIVERGING = "RdBu_r"
SMALL, NORMAL = 8.0, 9.0  # points; the pictures are made to be shown at 5 inches


def new_axes(ax: Axes | None, width: float = 5.0, height: float = 3.2) -> Axes:
    """Return the axes to draw on: the caller's, or new ones.

    Raises
    ------
    ImportError
        If matplotlib is not installed, naming the extra that brings it.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise missing_extra("matplotlib", "plot", "jacobians.plotting") from None
    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def finish(ax: Axes, title: str | None, x: str = "", y: str = "") -> Axes:
    """Write title and labels, small and plain, and take away the frame's upper half."""
    if title:
        ax.set_title(title, fontsize=NORMAL, parse_math=False)
    ax.set_xlabel(shorten(x, 72), fontsize=SMALL, parse_math=False)
    ax.set_ylabel(shorten(y, 42), fontsize=SMALL, parse_math=False)
    ax.tick_params(which="both", labelsize=SMALL)
    ax.tick_params(length=2.5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def count_in(title: str | None, shown: int, total: int) -> str | None:
    """Add to a title how many of all are shown, unless these are all."""
    note = f"the {shown} largest of {total}" if shown < total else ""
    return ": ".join(filter(None, (title, note))) or None


def shorten(name: str, length: int = 24) -> str:
    """Keep labels on one short line, with both ends, since long names often differ at the end.

    >>> shorten("mean temperature of station 12", 16)
    'mean tem…tion 12'
    """
    name = "".join(c if c.isprintable() else "�" for c in " ".join(name.split()))
    head = length // 2
    return name if len(name) <= length else f"{name[:head]}…{name[len(name) - length + head + 1 :]}"


def name_ticks(ax: Axes, axis: str, names: Sequence[str], at: Any = None, most: int = 24) -> None:
    """Label the ticks of an axis with names: all of them, or as many as fit."""
    ticks = np.arange(len(names)) if at is None else np.asarray(at)
    step = max(1, -(-len(names) // most))
    shown = [shorten(name) for name in names[::step]]
    # a dollar sign in the name of a column is no formula
    kwargs: dict[str, Any] = {"parse_math": False, "fontsize": SMALL}
    if axis == "y":
        ax.set_yticks(ticks[::step], shown, **kwargs)
    else:
        # side by side only where they do not touch: about 0.07 inches to a letter
        letters = sum(len(name) + 2 for name in shown)
        if letters * 0.07 > ax.get_figure().get_figwidth() * 0.8:  # type: ignore[union-attr]
            kwargs |= {"rotation": 90 if len(shown) > 12 else 40}
            kwargs |= {} if len(shown) > 12 else {"ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(ticks[::step], shown, **kwargs)


def color_bar(ax: Axes, image: Any, label: str) -> None:
    """Put a thin colour bar beside the axes."""
    bar = ax.get_figure().colorbar(image, ax=ax, fraction=0.05, pad=0.02)  # type: ignore[union-attr]
    bar.set_label(shorten(label, 42), fontsize=SMALL, parse_math=False)
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.outline.set_visible(False)


def numbers(value: Any, ndim: int, where: str) -> Array:
    """Check an array with so many axes."""
    array = as_floats(value, where, dtype=np.dtype(np.float64))
    if array.ndim != ndim or not array.size:
        raise ShapeError(f"{where}: expected {ndim} axes, but got shape {array.shape}.")
    return array


def pair(x: Any, y: Any, where: str) -> tuple[Array, Array]:
    """Check two arrays of as many numbers."""
    x, y = numbers(x, 1, f"{where}: x"), numbers(y, 1, f"{where}: y")
    if len(x) != len(y):
        raise ShapeError(f"{where}: expected as many x as y, but got {len(x)} and {len(y)}.")
    return x, y


def labels(names: Sequence[str] | None, width: int, letter: str, where: str) -> list[str]:
    """Return names, or letters with numbers."""
    return list(numbered(as_names(names, width, where), width, letter))
