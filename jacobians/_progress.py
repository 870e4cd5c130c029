"""How far a long computation has come, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

LINE_SECONDS = 5.0  # between two lines of progress

Show: TypeAlias = Callable[[int], Any]


def silent(_: int) -> None:
    """Show nothing."""


def progress_of(
    name: str, wanted: bool | None, total: int | None, unit: str = "points"
) -> tuple[Show, Callable[[], Any]]:
    """Return what to call after each piece and at the end; nothing happens where none is wanted."""
    stream = sys.stderr
    terminal = stream is not None and stream.isatty()
    if stream is None or not (terminal if wanted is None else wanted):
        return silent, lambda: None
    if terminal:
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            bar = tqdm(total=total, unit=f" {unit}", delay=0 if wanted else 1, file=stream)
            return bar.update, bar.close
    done, told = 0, time.monotonic()

    def show(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            share = f" of {total:,} {unit} ({done / total:.0%})" if total else f" {unit}"
            print(f"{name}: {done:,}{share}", file=stream, flush=True)

    return show, lambda: None
