"""A waterfall: the way from one value to another, one step for each contribution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import as_count
from jacobians.plotting.style import (
    BLUE,
    GREY,
    PALE,
    RED,
    SMALL,
    finish,
    labels,
    name_ticks,
    new_axes,
    numbers,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def waterfall(
    values: Any,
    names: Sequence[str] | None = None,
    *,
    start: float = 0.0,
    stop: float | None = None,
    count: int = 10,
    ax: Axes | None = None,
    label: str = "output",
    title: str | None = None,
) -> Axes:
    """Draw contributions as steps from ``start`` to where they lead, the largest on top.

    An arrow to the right, red, raises the value; one to the left, blue, lowers it.

    Parameters
    ----------
    values : array, shape (n,)
    names : sequence of str, optional
    start : float
        The value before all of them.
    stop : float, optional
        The value after all of them; their sum unless given.
    count : int
        How many get a step of their own; the others are one step.
    ax, label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = waterfall([1.0, -3.0, 0.5, 0.25], ["a", "b", "c", "d"], count=2)
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['b', 'a', '2 others']
    """
    values = numbers(values, 1, "waterfall: values")
    names = labels(names, len(values), "x", "waterfall: names")
    count = as_count(count, "waterfall: count")
    order = np.argsort(-np.abs(values), kind="stable")
    # one input more takes no more room than a line for "1 other"
    count = len(values) if len(values) == count + 1 else count
    steps, shown = list(values[order[:count]]), [names[j] for j in order[:count]]
    if len(values) > count:
        steps.append(values[order[count:]].sum())
        shown.append(f"{len(values) - count} others")
    ends = start + np.cumsum([0.0, *steps])
    last = float(ends[-1]) if stop is None else stop
    width = float(np.ptp(ends)) or 1.0
    ax = new_axes(ax, 6.2, 1.1 + 0.3 * len(steps))
    for k, (a, b) in enumerate(pairwise(ends)):
        _step(ax, k, a, b, width)
        ax.plot([b, b], [k, min(k + 1, len(steps) - 0.5)], color=GREY, lw=0.7, zorder=1)
    for value, height, text in ((start, -0.8, "baseline"), (last, len(steps) - 0.2, "point")):
        ax.plot([value, value], [-0.5, len(steps) - 0.5], color=PALE, lw=0.9, zorder=0)
        words = f"{text}: {value:.4g}"
        ax.text(value, height, words, ha="center", va="center", fontsize=SMALL, color=GREY)
    name_ticks(ax, "y", shown, most=60)
    margin = _margin(ax, shown, [f"{step:+.3g}" for step in steps]) * width
    ax.set_xlim(ends.min() - margin, ends.max() + margin)
    ax.set_ylim(len(steps) + 0.1, -1.1)
    finish(ax, title, label)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=5)
    ax.spines["left"].set_visible(False)
    return ax


def _margin(ax: Axes, names: Sequence[str], sizes: Sequence[str]) -> float:
    """Return the room at either side that the sizes need beside the steps, as a share of these."""
    letter = 0.6 * SMALL / 72  # inches, about
    name, size = (max(len(shorten(text)) for text in texts) for texts in (names, sizes))
    figure: Any = ax.get_figure()
    across: float = figure.get_figwidth() * ax.get_position().width / 0.775 - letter * name - 0.3
    margin = letter * size + 0.1
    return margin / max(across - 2 * margin, 1.0)


def _step(ax: Axes, k: int, start: float, stop: float, width: float) -> None:
    """Draw one step as an arrow, its size beside its head."""
    from matplotlib.patches import Polygon

    sign = 1.0 if stop >= start else -1.0
    head = stop - sign * min(abs(stop - start), 0.02 * width)
    half = 0.33
    corners = [(start, k - half), (head, k - half), (stop, k), (head, k + half), (start, k + half)]
    ax.add_patch(Polygon(corners, fc=RED if sign > 0 else BLUE, ec="none", zorder=2))
    ax.annotate(
        f"{stop - start:+.3g}", (stop, k), (4 * sign, 0), textcoords="offset points",
        ha="left" if sign > 0 else "right", va="center", fontsize=SMALL,
    )  # fmt: skip
