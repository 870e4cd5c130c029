"""How far a long computation has come, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

LINE_SECONDS = 5.0  # between two lines of progress

Show: TypeAlias = Callable[[int], Any]


def silent(_: int) -> None:
    """Show nothing."""


@contextmanager
def progress_of(
    name: str, wanted: bool | None, total: int | None, unit: str = "points"
) -> Iterator[Show]:
    """Yield what to call after each piece; it does nothing where no progress is wanted."""
    stream = sys.stderr
    terminal = stream is not None and stream.isatty()
    if stream is None or not (terminal if wanted is None else wanted):
        yield silent
        return
    if terminal:
        try:
            from tqdm import tqdm
        except ImportError:  # lines will do
            pass
        else:
            with tqdm(total=total, unit=f" {unit}", delay=0 if wanted else 1, file=stream) as bar:
                yield bar.update
            return
    done, told = 0, time.monotonic()

    def show(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            share = f" of {total:,} {unit} ({done / total:.0%})" if total else f" {unit}"
            print(f"{name}: {done:,}{share}", file=stream, flush=True)

    yield show
