"""Pictures of matrices: a Jacobian, and images of what a class answers to.

White is zero everywhere; red is positive and blue is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array
from jacobians.plotting.style import (
    DIVERGING,
    PALE,
    SMALL,
    color_bar,
    finish,
    labels,
    name_ticks,
    new_axes,
    numbers,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heat_map(
    J: Any,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    *,
    sizes: bool = False,
    ax: Axes | None = None,
    label: str = "dy/dx",
    title: str | None = None,
) -> Axes:
    """Draw a Jacobian, or a statistic of one: outputs downwards, inputs across.

    Parameters
    ----------
    J : array, shape (m, n)
    input_names, output_names : sequence of str, optional
    sizes : bool
        Whether all entries are sizes, without a sign: then the colours start at 0.
    ax : Axes, optional
        Where to draw; new axes by default.
    label : str
        What the colours show.
    title : str, optional

    Returns
    -------
    Axes

    >>> heat_map([[1.0, -2.0, 0.0]], ["a", "b", "c"]).get_xticklabels()[1].get_text()
    'b'
    """
    J = numbers(J, 2, "heat_map: J")
    m, n = J.shape
    names = labels(input_names, n, "x", "heat_map: input_names")
    ax = new_axes(ax, *heat_map_size(m, names))
    style = {"cmap": "Reds", "vmin": 0} if sizes else {}
    image = draw_matrix(ax, J, (0, n, m, 0), **style)
    if J.size <= 80 and n <= 12:
        _write_entries(ax, J)
    name_ticks(ax, "x", names, np.arange(n) + 0.5)
    name_ticks(ax, "y", labels(output_names, m, "y", "heat_map: output_names"), np.arange(m) + 0.5)
    ax.set(xlim=(0, n), ylim=(m, 0))
    color_bar(ax, image, label)
    finish(ax, title)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def heat_map_size(m: int, names: Sequence[str]) -> tuple[float, float]:
    """Return width and height of a heat map with m rows: names that stand upright take space."""
    longest = min(24, max(len(name) for name in names))
    width = min(7.0, max(3.2, 1.6 + 0.42 * len(names)))
    upright = sum(min(24, len(name)) + 2 for name in names) * 0.07 > 0.8 * width
    return width, min(7.0, max(1.7, 0.9 + 0.32 * m)) + (0.06 * longest if upright else 0.0)


def draw_matrix(ax: Axes, M: Array, extent: tuple[float, float, float, float], **style: Any) -> Any:
    """Draw a matrix in colours centred at zero; left, right, bottom, top."""
    limit: Any = np.abs(M).max() or 1.0
    x = np.linspace(extent[0], extent[1], M.shape[1] + 1)
    y = np.linspace(extent[3], extent[2], M.shape[0] + 1)
    # every cell is a path of its own up to some thousand cells, then all are one image
    style = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "rasterized": M.size > 1500} | style
    return ax.pcolormesh(x, y, M, **style)


def _write_entries(ax: Axes, J: Array) -> None:
    dark = np.abs(J) > 0.6 * np.abs(J).max(initial=0.0)
    for (i, j), entry in np.ndenumerate(J):
        color = "white" if dark[i, j] else "black"
        text = f"{entry:.2g}".replace("-", "−")
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=SMALL - 1, color=color)


# --- images ---------------------------------------------------------------------------------------


def saliency(
    images: Any,
    names: Sequence[str] | None = None,
    *,
    columns: int = 5,
    ax: Axes | None = None,
    label: str = "dy/dx",
    title: str | None = None,
) -> Axes:
    """Draw one image per output: how it answers to every pixel, all on one scale of colours.

    Parameters
    ----------
    images : array, shape (m, height, width)
        Rows of a Jacobian, or of a statistic, in the shape of the input image.
    names : sequence of str, optional
    columns : int
        Images side by side.
    ax, label, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = saliency(np.ones((3, 8, 8)), ["zero", "one", "two"], columns=2)
    >>> [text.get_text() for text in ax.texts]
    ['zero', 'one', 'two']
    """
    images = numbers(images, 3, "saliency: images")
    count, height, width = images.shape
    names = labels(names, count, "y", "saliency: names")
    columns = min(columns, count)
    rows = -(-count // columns)
    ax = new_axes(ax, min(7.0, 0.9 + 1.1 * columns), min(8.0, 0.3 + 1.25 * rows * height / width))
    limit = np.abs(images).max() or 1.0
    gap, head = 0.12, 0.24
    drawn = None
    for k, (image, name) in enumerate(zip(images, names, strict=True)):
        left = (k % columns) * (1 + gap)
        top = -(k // columns) * (height / width + head)
        drawn = draw_matrix(
            ax, image, (left, left + 1, top - height / width, top), vmin=-limit, vmax=limit
        )
        style: Any = {"ha": "center", "va": "bottom", "fontsize": SMALL - 1, "parse_math": False}
        ax.text(left + 0.5, top + 0.03, shorten(name, 14), **style)
        edge = [left, left + 1, left + 1, left, left]
        bottom = top - height / width
        ax.plot(edge, [bottom, bottom, top, top, bottom], color=PALE, lw=0.6)
    color_bar(ax, drawn, label)
    finish(ax, title)
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_xlim(-0.05, columns * (1 + gap) - gap + 0.05)
    ax.set_ylim(-rows * (height / width + head) + head - 0.05, head)
    ax.spines[:].set_visible(False)
    return ax
