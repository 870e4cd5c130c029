"""How far windows reach beyond a grid, in the ways that frameworks have of saying it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Sizes = Sequence[int]
Pairs = tuple[tuple[int, int], ...]  # before and after each axis


def same_padding(
    grid: Iterable[int], size: Sizes, stride: Sizes, dilation: Sizes, lower: bool = False
) -> Pairs:
    """Return the padding that leaves every stride-th position; an odd one more is behind.

    >>> same_padding((5, 6), (2, 3), (1, 2), (1, 1))
    ((0, 1), (0, 1))
    """
    pads = []
    for n, k, s, d in zip(grid, size, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        less, more = total // 2, total - total // 2
        pads.append((more, less) if lower else (less, more))
    return tuple(pads)


def rounded_up(
    grid: Iterable[int], size: Sizes, stride: Sizes, dilation: Sizes, pads: Pairs
) -> Pairs:
    """Return the padding with which the last window is whole, if it begins before the padding.

    >>> rounded_up((6,), (3,), (2,), (1,), ((0, 0),)), rounded_up((3,), (1,), (4,), (1,), ((0, 1),))
    (((0, 1),), ((0, 1),))
    """
    reached = []
    for n, k, s, d, (before, after) in zip(grid, size, stride, dilation, pads, strict=True):
        left = n + before + after - (k - 1) * d - 1
        more = -left % s
        reached.append((before, after + more if left + more < n + before else after))
    return tuple(reached)
