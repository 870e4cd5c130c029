"""Pictures of matrices: a Jacobian, the chain that makes it, and images of what a class answers to.

White is zero everywhere; red is positive and blue is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array
from jacobians.linearization import linearize
from jacobians.maps import Diagonal, Identity, LinearMap
from jacobians.network import Network
from jacobians.plotting.style import (
    DIVERGING,
    GREY,
    NORMAL,
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
    ax: Axes | None = None,
    label: str = "dy/dx",
    title: str | None = None,
) -> Axes:
    """Draw a Jacobian, or a statistic of one: outputs downwards, inputs across.

    Parameters
    ----------
    J : array, shape (m, n)
    input_names, output_names : sequence of str, optional
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
    ax = new_axes(ax, min(7.0, max(3.2, 1.6 + 0.42 * n)), min(6.0, max(1.7, 0.9 + 0.32 * m)))
    image = _matrix(ax, J, (0, n, m, 0))
    if J.size <= 80 and n <= 12:
        _write_entries(ax, J)
    name_ticks(ax, "x", labels(input_names, n, "x", "heat_map: input_names"), np.arange(n) + 0.5)
    name_ticks(ax, "y", labels(output_names, m, "y", "heat_map: output_names"), np.arange(m) + 0.5)
    ax.set(xlim=(0, n), ylim=(m, 0))
    color_bar(ax, image, label)
    finish(ax, title)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _matrix(ax: Axes, M: Array, extent: tuple[float, float, float, float], **style: Any) -> Any:
    """Draw a matrix in colours centred at zero; left, right, bottom, top."""
    limit = np.abs(M).max(initial=0.0) or 1.0
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


# --- the chain ------------------------------------------------------------------------------------


def chain(net: Network, x: Any, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw ``J = D^L W^L ... D^1 W^1`` at a point, every factor as a block drawn to scale.

    A unit with slope 0 is a gap in its diagonal, a weight of 0 a white spot.

    Parameters
    ----------
    net : Network
    x : array, shape (n_0,)
    ax, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> ax = chain(Network.random([2, 3, 1], seed=0), [0.5, -0.5])
    >>> [text.get_text() for text in ax.texts if "×" in text.get_text()]
    ['1×2', '1×3', '3×3', '3×2']
    """
    lin = linearize(net, x)
    numbers(lin.value, 1, "chain: x")
    factors = []
    for l in range(net.depth, 0, -1):
        for letter, factor in zip("DW", lin.between(l, l - 1), strict=True):
            if not isinstance(factor, Identity):
                factors.append((f"${letter}^{{{l}}}$", factor))
    blocks: list[tuple[str, LinearMap | Array]] = [("$J$", lin.jacobian()), *factors]
    longest = max(max(block.shape) for _, block in blocks)
    sizes = [[max(side / longest, 0.04) for side in block.shape] for _, block in blocks]
    width = sum(across for _, across in sizes) + 0.16 * len(blocks) + 0.25
    ax = new_axes(ax, min(9.0, max(4.0, 1.5 * width)), 2.3)
    left = 0.0
    for (name, block), (height, across) in zip(blocks, sizes, strict=True):
        _block(ax, block, left, across, height)
        middle = left + across / 2
        edge = height / 2 + 0.06
        ax.text(middle, edge, name, ha="center", va="bottom", fontsize=NORMAL + 1)
        shape = f"{block.shape[0]}×{block.shape[1]}"
        ax.text(middle, -edge, shape, ha="center", va="top", fontsize=SMALL - 1, color=GREY)
        left += across + 0.16
        if name == "$J$":
            ax.text(left, 0.0, "=", ha="center", va="center", fontsize=NORMAL + 3)
            left += 0.2
    finish(ax, title)
    ax.set(xlim=(-0.1, left), ylim=(-0.75, 0.8), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _block(ax: Axes, block: LinearMap | Array, left: float, width: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (left, -height / 2)
    if isinstance(block, Diagonal):
        ax.add_patch(Rectangle(corner, width, height, fc="#F5F5F5", ec="none", zorder=0))
        _diagonal(ax, block.to_dense().diagonal(), left, width, height)
    else:
        M = block.to_dense() if isinstance(block, LinearMap) else block
        _matrix(ax, M, (left, left + width, -height / 2, height / 2))
    ax.add_patch(Rectangle(corner, width, height, fill=False, ec=GREY, lw=0.6))


def _diagonal(ax: Axes, slopes: Array, left: float, width: float, height: float) -> None:
    """Draw the entries that are not 0 as squares, never thinner than the eye sees."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    n = len(slopes)
    side = max(1 / n, 0.035)
    at = (np.arange(n) + 0.5) / n
    squares = [
        Rectangle(
            (left + width * (t - side / 2), height * (0.5 - t - side / 2)),
            width * side,
            height * side,
        )
        for t, slope in zip(at, slopes, strict=True)
        if slope != 0
    ]
    limit = np.abs(slopes).max(initial=0.0) or 1.0
    drawn = PatchCollection(squares, cmap=DIVERGING, array=slopes[slopes != 0], ec="none")
    drawn.set_clim(-limit, limit)
    frame = Rectangle((left, -height / 2), width, height, transform=ax.transData)
    ax.add_collection(drawn)
    drawn.set_clip_path(frame)


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
        drawn = _matrix(
            ax, image, (left, left + 1, top - height / width, top), vmin=-limit, vmax=limit
        )
        ax.text(
            left + 0.5,
            top + 0.03,
            shorten(name, 18),
            ha="center",
            va="bottom",
            fontsize=SMALL,
            parse_math=False,
        )
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
