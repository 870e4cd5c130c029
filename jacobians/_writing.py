"""Files that are whole or not there: written beside the old one, then put in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing; it takes the place of ``path`` only if the block ends well.

    Whatever ends it, an error or Ctrl-C, an old file is as it was and no half file is left.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(os.path.join(folder, "one.txt")) as file:
    ...         before = file.write(b"whole"), os.path.exists(os.path.join(folder, "one.txt"))
    ...     print(before, os.listdir(folder))
    (5, False) ['one.txt']
    """
    path = os.fspath(path)
    temporary = f"{path}.{os.urandom(4).hex()}.part"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
