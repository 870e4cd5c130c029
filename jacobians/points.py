"""Points from files: npy, npz, csv and parquet, columns matched by name.

A csv file is read line by line: columns stand between commas, semicolons or tabs, numbers may be
quoted, lines of nothing but a comment after ``#`` are skipped, and a first line of names labels the
columns.  What is wrong is said with its line and its column, lines counted from 1.  However a file
is written, refusing it takes no more than a few times its size.
"""

from __future__ import annotations

import os
import re
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import IO, Any, NoReturn

import numpy as np

from jacobians._checks import (
    Array,
    ModelFormatError,
    NotFiniteError,
    ShapeError,
    as_floats,
    missing_extra,
)
from jacobians._npz import read_npy, read_npz
from jacobians._tables import Choice, take_columns

LINE, CELLS = 2**23, 2**19  # most characters, and most columns, of one line of text
_DELIMITERS = "\t;,"  # the first that stands in the first line; decimal commas are none


@dataclass(frozen=True, eq=False)
class Points:
    """Inputs from a file: an array (B, n) and, where the file says, the names of the columns."""

    X: Array
    names: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Batches:
    """Points of a file, arrays (B, n) one after the other; gone through once."""

    batches: Iterator[Array]
    names: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Array]:
        return self.batches


def load_points(
    path: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    *,
    beside: Sequence[str] = (),
    width: int | None = None,
    spare: Sequence[str] = (),
) -> Points:
    r"""Read points from a file.

    Parameters
    ----------
    path : str or path
        ``.csv`` (also ``.tsv`` and ``.csv.gz``, or ``-`` for standard input), ``.npy``, ``.npz``
        with one array or a member ``inputs``, or ``.parquet``.
    names : sequence of str, optional
        The inputs.  Where the file names its columns they are taken by name, in this order.
    beside : sequence of str
        Columns that may stand beside the inputs and are left out.
    width, spare : int and sequence of str, optional
        Where no names are given: how many inputs there are, and columns that are left out too if
        that gives so many, and only then.

    Returns
    -------
    Points
        ``X`` of shape (B, n), the names of its columns or None, and the names that were left out.

    Raises
    ------
    ModelFormatError
        If the file cannot be read as one of these, with line and column; or if the names of its
        columns are not those of the inputs, naming missing and other ones.
    NotFiniteError
        If a value is missing, or is no finite number.
    ImportError
        For parquet, if pandas or pyarrow is missing, naming the extra.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "points.csv")
    ...     with open(path, "w") as file:
    ...         written = file.write("width;height;target\n1;2;cat\n3;4;dog\n")
    ...     load_points(path, ["height", "width"], beside=["target"]).X
    array([[2., 1.],
           [4., 3.]])
    """
    path, name, suffix = _kind(path)
    choice = Choice(names, beside, width, spare)
    if suffix in _TABLES:
        read = _TABLES[suffix](path, name, choice, None)
        X, *more = read.batches
        points = Points(np.concatenate([X, *more]) if more else X, read.names, read.left_out)
    elif suffix == ".npy":
        points = Points(as_floats(read_npy(path), name))
    elif suffix == ".npz":
        arrays = read_npz(path)
        if len(arrays) != 1 and "inputs" not in arrays:
            raise ModelFormatError(f"{name}: has no member 'inputs' among {sorted(arrays)}.")
        inputs = arrays["inputs"] if "inputs" in arrays else next(iter(arrays.values()))
        points = Points(as_floats(inputs, name))
    else:
        raise ModelFormatError(
            f"{name}: points are read from .npy, .npz, .csv and .parquet files; save a table of "
            "another kind as one of these."
        )
    if points.X.ndim not in (1, 2):
        raise ShapeError(f"{name}: expected points (B, n), but got shape {points.X.shape}.")
    return replace(points, X=np.atleast_2d(points.X))


def open_points(
    path: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    *,
    beside: Sequence[str] = (),
    size: int = 2**16,
) -> Batches:
    """Read points from a file that may be larger than memory, so many at a time.

    Parameters
    ----------
    path, names, beside
        As in ``load_points``.  ``.csv``, ``.parquet`` and ``.npy`` are never held as a whole.
    size : int
        Points at a time, at most.

    Returns
    -------
    Batches
        To iterate over once, or to hand to ``jacobians.sensitivity``.
    """
    path, name, suffix = _kind(path)
    if suffix in _TABLES:
        return _TABLES[suffix](path, name, Choice(names, beside), size)
    if suffix == ".npy":
        try:
            X = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as err:
            raise ModelFormatError(f"{name}: not a readable npy file: {err!s:.200}") from err
        if X.ndim != 2:
            raise ShapeError(f"{name}: expected points (B, n), but got shape {X.shape}.")
        return Batches(
            as_floats(np.array(X[start : start + size]), name) for start in range(0, len(X), size)
        )
    points = load_points(path, names, beside=beside)
    return Batches(iter([points.X]), points.names)


def _kind(path: str | os.PathLike[str]) -> tuple[str, str, str]:
    """Return the path, what errors call the file, and the suffix of its kind."""
    path = os.fspath(path)
    if path == "-":
        return path, "standard input", ".csv"
    name = os.path.basename(path)
    suffix = os.path.splitext(name.removesuffix(".gz"))[1]
    return path, name, ".csv" if suffix == ".tsv" else suffix


# --- csv ------------------------------------------------------------------------------------------


def _csv_batches(path: str, name: str, choice: Choice, size: int | None) -> Batches:
    file = _text(path)
    lines = _Lines(file, name)
    with _as_text(file, name):
        order, left_out = lines.begin(choice)

    def batches() -> Iterator[Array]:
        with file, _as_text(file, name):
            yield from lines.batches(order, size)

    names = tuple(lines.head[j] for j in order) if lines.head else None
    return Batches(batches(), names, left_out)


@contextmanager
def _as_text(file: IO[str], name: str) -> Iterator[None]:
    """Say of a file that is no text that it is none, and close it."""
    import zlib

    try:
        yield
    except BaseException as err:
        file.close()
        if not isinstance(err, (UnicodeDecodeError, EOFError, zlib.error)):
            raise
        raise ModelFormatError(
            f"{name}: not a text in UTF-8: {err!s:.200}; save it as csv in UTF-8."
        ) from err


def _text(path: str) -> IO[str]:
    """Open a text; a mark of its byte order is no part of it."""
    if path == "-":
        return open(sys.stdin.fileno(), encoding="utf-8-sig", closefd=False)
    if path.endswith(".gz"):
        import gzip

        return gzip.open(path, "rt", encoding="utf-8-sig")
    return open(path, encoding="utf-8-sig")


class _Lines:
    """The lines of a csv file, each looked at before it is parsed."""

    def __init__(self, file: IO[str], name: str) -> None:
        self.file, self.name = file, name
        self.line, self.text = 0, ""  # the last line that was read, counted from 1
        self.rows = array("q")  # the line of every point
        self.delimiter, self.width = ",", 0
        self.head: list[str] = []

    def begin(self, choice: Choice) -> tuple[Sequence[int], tuple[str, ...]]:
        """Read up to the first line of cells; return the columns of inputs, and other names."""
        comment = ""
        for text in self._full_lines():
            if not text.startswith("#"):
                break
            comment = text[1:]
        else:
            self._refuse("holds no numbers between commas, semicolons or tabs.")
        unquoted = re.sub('"[^"]*"', "", text)
        self.delimiter = next((d for d in _DELIMITERS if d in unquoted), ",")
        plain = self._cells(text.partition("#")[0])
        if all(map(_is_number, plain)):
            self.width, self.text = len(plain), text
            if comment.count(self.delimiter) == len(plain) - 1:
                above = self._cells(comment)  # as numpy.savetxt writes a header
                self.head = [] if any(map(_is_number, above)) or above == [""] else above
        else:
            self.head = self._cells(text)
            self.width = len(self.head)
        if self.head:
            return choice.of(self.head, f"{self.name}: line {self.line}")
        return range(self.width), ()

    def batches(self, order: Sequence[int], size: int | None) -> Iterator[Array]:
        """Parse the lines that follow, so many at a time, or all at once."""
        rows = self._data()
        first = next(rows, None)
        if first is None:
            self._refuse("holds no numbers after the names of the columns.")
        while first is not None:
            yield self._numbers(order, chain([first], islice(rows, size and size - 1)))
            del self.rows[:]  # the lines of the next points are counted from here
            first = next(rows, None)

    def _numbers(self, order: Sequence[int], lines: Iterator[str]) -> Array:
        """Parse some lines; the columns of ``order`` must hold finite numbers."""
        try:
            X = np.loadtxt(
                lines,
                delimiter=self.delimiter,
                usecols=order,
                ndmin=2,
                comments=None,
                quotechar='"',
            )
        except ModelFormatError:
            raise
        except (ValueError, OverflowError) as err:
            self._refuse_cell(order, err)
        finite = np.isfinite(X)
        if not finite.all():
            i, j = np.argwhere(~finite)[0]
            raise NotFiniteError(
                f"{self.name}: line {self.rows[i]}, {self._column(order[j])} is {X[i, j]}. "
                "Every entry must be finite: fill in missing values, or drop the line."
            )
        return X

    def _full_lines(self) -> Iterator[str]:
        """Give the lines that hold something, and count all."""
        while text := self.file.readline(LINE):
            self.line += 1
            if len(text) == LINE:
                self._refuse(f"is longer than {LINE} characters; save the points as .npy.")
            text = text.strip("\r\n")
            if text.strip():
                yield text

    def _data(self) -> Iterator[str]:
        """Give the lines of numbers, each with as many cells as the first line."""
        for text in chain([self.text] if self.text else [], self._full_lines()):
            if "#" in text and '"' not in text:
                text = text.partition("#")[0]
                if not text.strip():
                    continue
            self.text = text
            quoted = '"' in text
            cells = len(self._cells(text)) if quoted else text.count(self.delimiter) + 1
            if cells != self.width:
                what = "names" if self.head else "has"
                self._refuse(f"has {cells} cells, but the first line {what} {self.width}.")
            self.rows.append(self.line)
            yield text

    def _cells(self, text: str) -> list[str]:
        import csv

        if text.count(self.delimiter) >= CELLS:
            self._refuse(f"has more than {CELLS} cells; save the points as .npy.")
        try:
            cells = next(csv.reader([text], delimiter=self.delimiter), [""])
        except csv.Error as err:
            self._refuse(f"not a line of cells: {err}.")
        return [cell.strip() for cell in cells]

    def _refuse_cell(self, order: Sequence[int], err: Exception) -> NoReturn:
        """Name the first cell of the last line that is no number."""
        cells = self._cells(self.text)
        for j in order:
            cell = cells[j]
            if not _is_number(cell):
                if cell.lower() in _MISSING:
                    hint = ", a missing value; fill it in, or drop the line."
                elif _is_number(cell.replace(",", ".", 1)):
                    hint = "; write decimals with a point."
                else:
                    hint = "."
                self._refuse(f"{self._column(j)}: expected a number, but got {cell!r:.60}{hint}")
        self._refuse(f"{err!s:.200}")

    def _column(self, j: int) -> str:
        return f"column {self.head[j]!r}" if self.head else f"column {j + 1}"

    def _refuse(self, message: str) -> NoReturn:
        raise ModelFormatError(f"{self.name}: line {self.line}: {message}")


_MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "?")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python takes, and nobody else


# --- parquet --------------------------------------------------------------------------------------


def _parquet_batches(path: str, name: str, choice: Choice, size: int | None) -> Batches:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as err:
        raise missing_extra("pyarrow", "pandas", name) from err
    try:
        file: Any = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as err:
        if isinstance(err, FileNotFoundError):
            raise
        raise ModelFormatError(f"{name}: not a readable parquet file: {err!s:.200}") from err
    # a frame of pandas may have been saved with its index
    present = [column for column in file.schema_arrow.names if not column.startswith("__index_")]
    order, left_out = choice.of(present, name)
    columns = [present[j] for j in order]

    def batches() -> Iterator[Array]:
        yield np.zeros((0, len(columns)))
        with file:
            try:
                for batch in file.iter_batches(batch_size=size or 2**16, columns=columns):
                    table = pyarrow.Table.from_batches([batch]).select(columns)
                    yield take_columns(table, range(len(columns)), name)
            except NotFiniteError:
                raise
            except (ValueError, TypeError, OSError) as err:  # which pyarrow's errors are
                raise ModelFormatError(f"{err!s:.300}") from None

    return Batches(batches(), tuple(columns), left_out)


_TABLES = {".csv": _csv_batches, ".parquet": _parquet_batches}
