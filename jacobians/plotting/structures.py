"""Pictures of structured maps: the chain of a network, one map, and tokens that see each other.

Entries are drawn in colour, red positive and blue negative; behind the zeros of a map lies the
texture of its kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import Array, ShapeError, TooLargeError
from jacobians._tables import PointsLike
from jacobians.linearization import linearize
from jacobians.maps import Diagonal, Identity, LinearMap
from jacobians.network import Network
from jacobians.plotting.matrices import draw_matrix, heat_map
from jacobians.plotting.style import DIVERGING, GREY, NORMAL, PALE, SMALL, finish, new_axes, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def chain(net: Network, x: PointsLike, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw ``J = D^L W^L ... D^1 W^1`` at a point, every factor as a block drawn to scale.

    A unit with slope 0 is a gap in its diagonal, a weight of 0 a white spot.  The zeros of maps
    with a structure show the texture of their kind.  In a graph the blocks are the factors between
    the nodes that every path goes through.

    Parameters
    ----------
    net : Network
    x : array or data frame, shape (n_0,)
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
    factors, letters = [], "DW" if net.is_path else "DF"
    for k, factor in enumerate(lin.factors):
        if not isinstance(factor, Identity):
            l = (len(lin.factors) - k + 1) // 2
            factors.append((f"${letters[k % 2]}^{{{l}}}$", factor))
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
        extent = (left, left + width, -height / 2, height / 2)
        if isinstance(block, LinearMap):
            _map(ax, block, extent)
        else:
            draw_matrix(ax, block, extent)
    ax.add_patch(Rectangle(corner, width, height, fill=False, ec=GREY, lw=0.6))


TEXTURES = {
    "Selection": "....",
    "Scatter": "....",
    "Convolution": "////",
    "TransposedConvolution": "////",
    "BlockDiagonal": "\\\\\\\\",
    "Kronecker": "oo",
    "Sum": "++",
    "Product": "--",
    "Substitution": "xx",
}


def map_picture(A: LinearMap, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw a structured map: its entries in colour, the texture of its kind behind the zeros.

    A map of many rows or columns shows the largest entry of every spot; one whose dense form is
    too large shows its texture alone.

    Parameters
    ----------
    A : map
        A single matrix, not a stack.
    ax, title
        As in ``heat_map``.

    Returns
    -------
    Axes

    >>> from jacobians.maps import Convolution, Windows
    >>> A = Convolution([[[1.0, -2.0]]], Windows((4,), 2))
    >>> map_picture(A).get_title()
    'Convolution 3x4'
    """
    if A.batch:
        raise ShapeError(f"map_picture: A: expected a single matrix, but got {A}.")
    m, n = A.shape
    tallest = max(m, n)
    ax = new_axes(ax, max(1.5, 4.5 * n / tallest), max(1.2, 4.5 * m / tallest))
    _map(ax, A, (0, n, m, 0))
    finish(ax, f"{type(A).__name__} {m}x{n}" if title is None else title)
    ax.set(xlim=(0, n), ylim=(m, 0), aspect="equal", xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(visible=True, color=GREY)
    return ax


def token_blocks(
    J: Any, tokens: int | tuple[int, int], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Draw how strongly every token that comes out depends on every token that goes in.

    Parameters
    ----------
    J : array, shape (m, n)
        The Jacobian between two values of several rows, or images with channels: any value whose
        first axis is cut into blocks.
    tokens : int or (int, int)
        Rows of the value that comes out and of the one that goes in.
    ax, title
        As in ``heat_map``.

    Returns
    -------
    Axes
        A heat map of the Frobenius norms of the blocks: zero, and white, where a token sees
        nothing of another one.

    >>> ax = token_blocks(np.eye(6), 3)
    >>> [text.get_text() for text in ax.texts[:2]]
    ['1.4', '0']
    """
    J = numbers(J, 2, "token_blocks: J")
    rows, columns = (tokens, tokens) if isinstance(tokens, int) else tokens
    if min(rows, columns) < 1 or J.shape[0] % rows or J.shape[1] % columns:
        raise ShapeError(
            f"token_blocks: tokens: a Jacobian of shape {J.shape} is not made of "
            f"{rows} x {columns} blocks."
        )
    blocks = J.reshape(rows, J.shape[0] // rows, columns, -1)
    norms = np.linalg.norm(blocks, axis=(1, 3))
    names = [
        [f"{letter}{k}" for k in range(1, n + 1)] for letter, n in (("x", columns), ("y", rows))
    ]
    return heat_map(norms, *names, sizes=True, ax=ax, label="norm of the block", title=title)


SPOTS = 256  # along each side of a picture


def _map(ax: Axes, A: LinearMap, extent: tuple[float, float, float, float]) -> None:
    from matplotlib.patches import Rectangle

    left, right, bottom, top = extent
    texture = TEXTURES.get(type(A).__name__)
    size = (left, bottom), right - left, top - bottom
    ax.add_patch(Rectangle(*size, fc="white", ec=PALE, lw=0, hatch=texture, zorder=0))
    try:
        M = _largest_entries(A.to_dense())
    except TooLargeError:
        return
    draw_matrix(ax, np.ma.masked_equal(M, 0.0) if texture else M, extent)


def _largest_entries(M: Array) -> Array:
    """Return the entry largest in absolute value of every spot of a large matrix."""
    high = low = M
    for axis, size in enumerate(M.shape):
        starts = np.unique(np.linspace(0, size, min(size, SPOTS), endpoint=False).astype(int))
        high = np.maximum.reduceat(high, starts, axis=axis)
        low = np.minimum.reduceat(low, starts, axis=axis)
    return np.where(high >= -low, high, low)


def _diagonal(ax: Axes, slopes: Array, left: float, width: float, height: float) -> None:
    """Draw the entries that are not 0 as squares, never thinner than the eye sees."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    n = len(slopes)
    side = max(1 / n, 0.035)
    corners = (np.arange(n)[slopes != 0] + 0.5) / n - side / 2
    size = width * side, height * side
    squares = [Rectangle((left + width * t, height * (0.5 - side - t)), *size) for t in corners]
    limit = np.abs(slopes).max(initial=0.0) or 1.0
    drawn = PatchCollection(squares, cmap=DIVERGING, array=slopes[slopes != 0], ec="none")
    drawn.set_clim(-limit, limit)
    frame = Rectangle((left, -height / 2), width, height, transform=ax.transData)
    ax.add_collection(drawn)
    drawn.set_clip_path(frame)
