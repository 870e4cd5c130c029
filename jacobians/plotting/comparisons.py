"""Pictures that set inputs, or records, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array, ShapeError
from jacobians.plotting.style import (
    CYCLE,
    GREY,
    PALE,
    SMALL,
    count_in,
    finish,
    labels,
    name_ticks,
    new_axes,
    numbers,
    pair,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dots(
    values: Any,
    names: Sequence[str] | None = None,
    series: Sequence[str] | None = None,
    *,
    low: Any = None,
    high: Any = None,
    count: int = 12,
    ax: Axes | None = None,
    label: str = "importance",
    title: str | None = None,
) -> Axes:
    """Draw a statistic of every input in several records: a dot each, with its interval.

    Parameters
    ----------
    values : array, shape (s, n)
        Of s records.
    names, series : sequence of str, optional
        Of the inputs and of the records.
    low, high : array, shape (s, n), optional
        Ends of confidence intervals.
    count : int
        How many inputs to show, those with the largest values; the title says how many there are.
    ax, label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = dots([[1.0, 3.0], [2.0, 0.5]], ["a", "b"], ["old", "new"])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['b', 'a']
    """
    values = numbers(values, 2, "dots: values")
    s, n = values.shape
    names, series = labels(names, n, "x", "dots: names"), labels(series, s, "", "dots: series")
    shown = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:count]
    ax = new_axes(ax, 5.2, 1.1 + (0.16 + 0.09 * s) * len(shown))
    for k in range(s):
        height = np.arange(len(shown)) + (k - (s - 1) / 2) * min(0.22, 0.7 / s)
        color = CYCLE[k % len(CYCLE)]
        if low is not None and high is not None:
            ax.hlines(height, np.asarray(low)[k, shown], np.asarray(high)[k, shown], color=color)
        name = shorten(series[k])
        ax.plot(values[k, shown], height, "osD^v<"[k % 6], color=color, ms=4.5, label=name)
    name_ticks(ax, "y", [names[j] for j in shown], most=60)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.grid(axis="y", color=PALE, lw=0.4)
    ax.legend(frameon=False, fontsize=SMALL, loc="upper left", bbox_to_anchor=(1, 1))
    return finish(ax, count_in(title, len(shown), n), label)


def curves(
    x: Any,
    values: Any,
    names: Sequence[str] | None = None,
    *,
    count: int = 6,
    ax: Axes | None = None,
    label: str = "(E|dy/dx|^alpha)^(1/alpha)",
    x_label: str = "alpha",
    title: str | None = None,
) -> Axes:
    """Draw a curve for every input, the largest with their names at the right end.

    Parameters
    ----------
    x : array, shape (k,)
    values : array, shape (k, n)
    names : sequence of str, optional
    count : int
        How many have a colour and a name; the others are thin and grey.
    ax, label, x_label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = curves([1, 2], [[1.0, 2.0], [1.5, 2.0]], ["a", "b"], count=1)
    >>> [text.get_text() for text in ax.texts]
    ['b']
    """
    x, values = numbers(x, 1, "curves: x"), numbers(values, 2, "curves: values")
    if len(x) != len(values):
        raise ShapeError(f"curves: values: expected {len(x)} rows, but got {values.shape}.")
    names = labels(names, values.shape[1], "x", "curves: names")
    order = np.argsort(-values[-1], kind="stable")
    ax = new_axes(ax, 5.0, 3.0)
    ax.plot(x, values[:, order[count:]], color=PALE, lw=0.8)
    gap = 0.055 * float(values.max() or 1.0)
    last = np.inf
    for k, j in enumerate(order[:count]):
        ax.plot(x, values[:, j], color=CYCLE[k % len(CYCLE)], lw=1.5)
        last = min(values[-1, j], last - gap)  # names below each other never touch
        style: Any = {"fontsize": SMALL, "color": CYCLE[k % len(CYCLE)], "parse_math": False}
        at = (4, 0)
        ax.annotate(
            shorten(names[j]), (x[-1], last), at, textcoords="offset points", va="center", **style
        )
    ax.set_ylim(bottom=0)
    return finish(ax, title, x_label, label)


def named_points(
    x: Any,
    y: Any,
    names: Sequence[str] | None = None,
    *,
    count: int = 12,
    ax: Axes | None = None,
    label: str = "sd of dy/dx",
    x_label: str = "mean of dy/dx",
    title: str | None = None,
) -> Axes:
    """Draw a dot with a name for every input, such as the spread of a derivative over its mean.

    On the axis of x an influence is linear; above the dashed lines, where the spread is larger
    than the mean, even its direction depends on the point.

    Parameters
    ----------
    x, y : array, shape (n,)
    names : sequence of str, optional
    count : int
        How many have a name, where there is room for it: those farthest from 0.
    ax, label, x_label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = named_points([1.0, -2.0], [0.5, 0.0], ["a", "b"])
    >>> [text.get_text() for text in ax.texts]
    ['a', 'b']
    """
    x, y = pair(x, y, "named_points")
    names = labels(names, len(x), "x", "named_points: names")
    ax = new_axes(ax, 5.0, 3.0)
    reach = float(np.abs(x).max() or 1.0)
    high = float(y.max() or reach) * 1.12
    ax.plot([-high, 0, high], [high, 0, high], "--", color=PALE, lw=0.9, zorder=0)
    ax.axvline(0.0, color=GREY, lw=0.6)
    ax.plot(x, y, "o", color=CYCLE[0], ms=4)
    ax.set(xlim=(-1.15 * reach, 1.15 * reach), ylim=(-0.05 * high, high))
    farthest = np.argsort(-np.hypot(x / reach, y / high), kind="stable")[:count]
    _write_names(ax, np.stack([x, y], axis=1)[farthest], [shorten(names[j]) for j in farthest])
    return finish(ax, title, x_label, label)


_OFFSETS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def _write_names(ax: Axes, points: Array, names: Sequence[str]) -> None:
    """Write a name beside each point, where there is room that no name before has taken."""
    scale = 72 / ax.get_figure().dpi  # type: ignore[union-attr]
    at = ax.transData.transform(points) * scale
    (left, bottom), (right, top) = ax.get_window_extent().get_points() * scale
    taken: list[tuple[float, float, float, float]] = []  # by names and dots, in points of type
    for k, name in enumerate(names):
        width, height = 0.56 * SMALL * len(name), 1.1 * SMALL
        dots = [(a - 2, b - 2, a + 2, b + 2) for a, b in np.delete(at, k, axis=0)]
        for side, up in _OFFSETS:
            a = at[k, 0] + 5 * side + (side - 1) * width / 2
            b = at[k, 1] + (0.75 if side else 1.1) * height * up - height / 2
            box = (a, b, a + width, b + height)
            inside = left <= a and box[2] <= right and bottom <= b and box[3] <= top
            if inside and not any(_overlap(box, other) for other in taken + dots):
                taken.append(box)
                ax.annotate(
                    name, points[k], (a - at[k, 0], b + height / 2 - at[k, 1]), fontsize=SMALL,
                    textcoords="offset points", va="center", parse_math=False,
                )  # fmt: skip
                break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(one[k] < other[k + 2] and other[k] < one[k + 2] for k in (0, 1))
