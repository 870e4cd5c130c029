"""Plain text for everything that is printed: aligned columns, and small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jacobians._checks import Array


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Align columns: the first ``left`` to the left, the others (numbers) to the right.

    >>> print(table(["order", "flops"], [["reverse", "8,400"], ["forward", "76,800"]]))
    order     flops
    -------  ------
    reverse   8,400
    forward  76,800
    """
    widths = [max(len(row[j]) for row in [header, *rows]) for j in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if j < left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, rule, *rows]
    )


_SHADES = " ░▒▓█"


def picture(image: Array, largest: float) -> list[str]:
    """Draw a matrix of sizes in five shades, two characters to an entry.

    >>> picture(np.array([[0.0, 0.5], [0.7, 1.0]]), largest=1.0)
    ['  ▒▒', '▓▓██']
    """
    shade = np.clip(np.rint(image * (len(_SHADES) - 1) / (largest or 1.0)), 0, len(_SHADES) - 1)
    return ["".join(2 * _SHADES[int(level)] for level in row) for row in shade]


def side_by_side(titles: Sequence[str], pictures: Sequence[Sequence[str]], across: int = 5) -> str:
    """Lay pictures out in rows, each under its title."""
    lines: list[str] = []
    for start in range(0, len(pictures), across):
        row = list(zip(titles, pictures, strict=True))[start : start + across]
        width = max(len(line) for _, drawn in row for line in drawn)
        lines.append("   ".join(title.center(width) for title, _ in row).rstrip())
        for beside in zip(*(drawn for _, drawn in row), strict=True):
            lines.append("   ".join(piece.ljust(width) for piece in beside).rstrip())
        lines.append("")
    return "\n".join(lines[:-1])


def chain_picture(factors: Sequence[tuple[str, int, int, str]], largest: int = 7) -> str:
    """Draw a product of matrices to scale: full blocks, and diagonals as diagonals.

    Parameters
    ----------
    factors : sequence of (name, rows, columns, kind)
        Left to right; the kind is "dense", "diagonal", "low rank" or "identity".
    largest : int
        The longest side is drawn with so many characters.

    >>> print(chain_picture([("D", 2, 2, "diagonal"), ("W", 2, 3, "dense")]))
    dH/dx  =  D     W
    ▒▒▒       ╲·    ▒▒▒
    ▒▒▒       ·╲    ▒▒▒
    2x3       2x2   2x3
    """
    (_, m, _, _), (_, _, n, _) = factors[0], factors[-1]
    scale = min(1.0, largest / max(max(rows, columns) for _, rows, columns, _ in factors))
    shown = [("dH/dx  =", m, n, "dense"), *factors]
    drawn = [
        _block(max(1, round(rows * scale)), max(1, round(columns * scale)), kind)
        for _, rows, columns, kind in shown
    ]
    height = max(len(block) for block in drawn)
    columns = []
    for (name, rows, width, _), block in zip(shown, drawn, strict=True):
        lines = [name, *block, *[""] * (height - len(block)), f"{rows}x{width}"]
        columns.append([line.ljust(max(map(len, lines)) + 2) for line in lines])
    columns[1:] = [[line + " " for line in column] for column in columns[1:]]
    return "\n".join("".join(beside).rstrip() for beside in zip(*columns, strict=True))


def _block(rows: int, columns: int, kind: str) -> list[str]:
    if kind in ("dense", "low rank"):
        return ["▒" * columns] * rows
    mark = "╲" if kind == "diagonal" else "1"
    return ["·" * i + mark + "·" * (columns - i - 1) for i in range(rows)]


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    >>> counted(1, "point"), counted(2000, "point")
    ('1 point', '2,000 points')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(words: Sequence[str], most: int = 8) -> list[str]:
    """Leave out the middle of a long list.

    >>> shortened(["a", "b", "c", "d", "e"], most=4)
    ['a', 'b', '...', 'e']
    """
    return list(words) if len(words) <= most else [*words[: most - 2], "...", words[-1]]
