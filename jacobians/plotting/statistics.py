"""Pictures of what the Jacobians of a data set say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array, Indices
from jacobians.plotting.style import (
    BLUE,
    GREY,
    PALE,
    RED,
    color_bar,
    count_in,
    finish,
    labels,
    name_ticks,
    new_axes,
    numbers,
    pair,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bars(
    values: Any,
    names: Sequence[str] | None = None,
    *,
    low: Any = None,
    high: Any = None,
    order: Any = None,
    count: int = 15,
    ax: Axes | None = None,
    label: str = "mean of dy/dx",
    title: str | None = None,
) -> Axes:
    """Draw the statistic of every input as a bar, the largest on top, with its interval.

    Parameters
    ----------
    values : array, shape (n,)
    names : sequence of str, optional
    low, high : array, shape (n,), optional
        Ends of confidence intervals.
    order : array of int, shape (n,), optional
        The inputs from top to bottom; by size unless given.
    count : int
        How many inputs to show; the title says how many there are.
    ax, label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = bars([1.0, -3.0, 2.0], ["a", "b", "c"])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['b', 'c', 'a']
    """
    values = numbers(values, 1, "bars: values")
    names = labels(names, len(values), "x", "bars: names")
    shown = _first(np.abs(values), order, count)
    ax = new_axes(ax, 5.0, rows_height(len(shown)))
    heights = np.arange(len(shown))
    colors = np.where(values[shown] < 0, BLUE, RED)
    ax.barh(heights, values[shown], color=colors, height=0.7)
    if low is not None and high is not None:
        ends = np.stack([numbers(low, 1, "bars: low"), numbers(high, 1, "bars: high")])[:, shown]
        ax.hlines(heights, *ends, color="black", lw=1.2)
    return _in_rows(ax, [names[j] for j in shown], count_in(title, len(shown), len(names)), label)


def violins(
    derivatives: Any,
    names: Sequence[str] | None = None,
    *,
    order: Any = None,
    count: int = 15,
    ax: Axes | None = None,
    label: str = "dy/dx at the points",
    title: str | None = None,
) -> Axes:
    """Draw how the derivatives are spread over the points: the widest influence on top.

    The body is a smoothed histogram, the bar the middle 90 %, the dot the median.

    Parameters
    ----------
    derivatives : array, shape (B, n)
        ``dy_i/dx_j`` at B points, for one output.
    names, order, count, ax, label, title
        As in ``bars``.

    Returns
    -------
    Axes
    """
    derivatives = numbers(derivatives, 2, "violins: derivatives")
    names = labels(names, derivatives.shape[1], "x", "violins: names")
    shown = _first(np.abs(derivatives).mean(axis=0), order, count)
    ax = new_axes(ax, 5.0, rows_height(len(shown)))
    heights = np.arange(len(shown))
    columns = [derivatives[:, j] for j in shown]
    with np.errstate(under="ignore"):  # far tails of the smoothed histogram
        bodies: Any = ax.violinplot(
            columns, heights, orientation="horizontal", widths=0.85, showextrema=False, points=200
        )["bodies"]
    for body in bodies:
        body.set(facecolor=BLUE, alpha=0.35, edgecolor=BLUE, linewidth=0.6)
    low, middle, high = np.quantile(derivatives[:, shown], [0.05, 0.5, 0.95], axis=0)
    ax.hlines(heights, low, high, color=BLUE, lw=1.6)
    ax.plot(middle, heights, "o", color="white", mec=BLUE, ms=4)
    return _in_rows(ax, [names[j] for j in shown], count_in(title, len(shown), len(names)), label)


def rows_height(count: int) -> float:
    """Return the height of a picture of so many inputs, below one another."""
    return 0.8 + 0.27 * min(count, 15)


def _in_rows(ax: Axes, names: Sequence[str], title: str | None, label: str) -> Axes:
    """Name the rows, the first on top, on both sides of a line at 0."""
    ax.axvline(0.0, color=GREY, lw=0.8, zorder=0.5)
    name_ticks(ax, "y", names, most=60)
    ax.set_ylim(len(names) - 0.4, -0.6)
    finish(ax, title, label)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=5)  # long numbers are wide
    ax.spines["left"].set_visible(False)
    return ax


def _first(sizes: Array, order: Any, count: int) -> Indices:
    """Return the first inputs of an order; the largest first unless it is given."""
    every: Indices = np.argsort(-sizes, kind="stable") if order is None else np.asarray(order)
    return every[:count]


def spectrum(
    values: Any,
    *,
    ax: Axes | None = None,
    label: str = "singular value of J",
    title: str | None = None,
) -> Axes:
    """Draw a falling sequence of singular values or eigenvalues, or quantiles of one.

    Parameters
    ----------
    values : array, shape (r,), or (k, r)
        One sequence; or k quantiles of each value, rising, drawn as nested bands with the median.
    ax, label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> spectrum([3.0, 1.0, 0.1]).get_yscale()
    'log'
    """
    values = numbers(np.atleast_2d(values), 2, "spectrum: values")
    ax = new_axes(ax, 5.0, 2.8)
    count, r = values.shape
    k, middle = np.arange(1, r + 1), values[count // 2]
    # on a logarithmic axis: what is 0 but for rounding would squeeze all others together
    positive = middle > 1e-13 * middle.max()
    lowest = values[:, positive].min(initial=middle.max())
    floor = max(lowest, 1e-13 * middle.max()) / 2
    for i in range(count // 2):
        low, high = np.maximum(values[i], floor), np.maximum(values[-1 - i], floor)
        ax.fill_between(k, low, high, color=BLUE, alpha=0.2, lw=0, where=positive)
        if r == 1:
            ax.vlines(k, low, high, color=BLUE, alpha=0.3, lw=12)
    ax.plot(k[positive], middle[positive], "o-", color=BLUE, ms=4 if r < 40 else 2, lw=1.2)
    if not positive.all():
        ax.plot(
            k[~positive], np.full(r - positive.sum(), floor), "o", color="white", mec=BLUE, ms=4
        )
        ax.plot([], [], "o", color="white", mec=BLUE, ms=4, label="0 up to rounding")
        ax.legend(frameon=False, fontsize=8, loc="best")
    if r > 1 and positive.any():
        ax.set_yscale("log")
    ax.set_xlim(0.5, r + 0.5)
    ax.set_xticks(k if r <= 20 else np.unique(np.linspace(1, r, 9).astype(int)))
    return finish(ax, title, "number, the largest first", label)


def against_input(
    x: Any,
    derivative: Any,
    name: str = "x",
    *,
    color: Any = None,
    color_name: str = "",
    ax: Axes | None = None,
    label: str = "dy/dx",
    title: str | None = None,
) -> Axes:
    """Draw a derivative at every point against an input there, with the median along it.

    A horizontal cloud is a linear influence, a slanted one a curved influence, and a cloud that
    scatters at one and the same x depends on the other inputs: an interaction.

    Parameters
    ----------
    x, derivative : array, shape (B,)
    name : str
        Of the input.
    color : array, shape (B,), optional
        Another input, which colours the points: colours in layers are an interaction.
    color_name : str
    ax, label, title
        As in ``heat_map``.

    Returns
    -------
    Axes
    """
    x, derivative = pair(x, derivative, "against_input")
    ax = new_axes(ax)
    ax.axhline(0.0, color=GREY, lw=0.8)
    if color is None:
        _cloud(ax, x, derivative)
    else:
        shades = numbers(color, 1, "against_input: color")
        low, high = np.quantile(shades, [0.02, 0.98])
        style: Any = {"cmap": "cividis", "vmin": low, "vmax": high, "linewidths": 0}
        drawn = ax.scatter(x, derivative, s=9, c=shades, rasterized=len(x) > 300, **style)
        color_bar(ax, drawn, color_name)
    ends = np.quantile(x, np.linspace(0, 1, min(13, max(2, len(x) // 20 + 1))))
    groups = np.clip(np.searchsorted(ends, x, side="right") - 1, 0, len(ends) - 2)
    if len(x) >= 40 and ends[0] < ends[-1]:
        inside = [groups == g for g in range(len(ends) - 1) if (groups == g).any()]
        middles = np.array([(np.median(x[g]), np.median(derivative[g])) for g in inside])
        ax.plot(*middles.T, color=RED, lw=1.6, label="median")
        ax.legend(frameon=False, fontsize=8, loc="best")
    return finish(ax, title, name, label)


def summary(
    coordinate: Any,
    y: Any,
    *,
    ax: Axes | None = None,
    label: str = "output",
    x_label: str = "first active variable",
    title: str | None = None,
) -> Axes:
    """Draw an output against the first active variable ``wᵀ x``, the sufficient summary plot.

    If the points lie on a curve, the output is a function of that one combination of inputs.

    Parameters
    ----------
    coordinate, y : array, shape (B,)
    ax, label, title
        As in ``heat_map``.
    x_label : str

    Returns
    -------
    Axes
    """
    coordinate, y = pair(coordinate, y, "summary")
    ax = new_axes(ax)
    _cloud(ax, coordinate, y)
    return finish(ax, title, x_label, label)


def _cloud(ax: Axes, x: Array, y: Array) -> None:
    many = len(x) > 300
    ax.plot(
        x, y, "o", color=BLUE, ms=2.5 if many else 3.5, mew=0, alpha=0.45 if many else 0.7,
        rasterized=many,
    )  # fmt: skip
    ax.grid(color=PALE, lw=0.4)
    ax.set_axisbelow(True)
