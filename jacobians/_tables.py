"""Tables of named columns: the points of a data frame, its columns matched by name.

A table is whatever has named columns: a pandas or polars DataFrame, a pyarrow Table, a structured
array, and, as a single point, a pandas Series whose index holds the names.  Where a network knows
the names of its inputs, the columns are taken by name, whatever their order, and a table that does
not match is refused.  A position is never taken for a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jacobians._checks import Array, ModelFormatError, ShapeError, as_floats, as_points


class HasColumns(Protocol):
    """A table: a data frame of pandas, polars or Dask, a Table of pyarrow."""

    @property
    def columns(self) -> Any:
        """Their labels, or the columns themselves."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return a column by its label."""


PointsLike: TypeAlias = ArrayLike | HasColumns  # what every function takes as points
HasInputs: TypeAlias = Any  # a network, or what else has widths, dtype and input_names


def as_inputs(value: Any, net: HasInputs, where: str) -> Array:
    """Check one point ``(n_0,)`` or a batch ``(B, n_0)`` for a network, columns matched by name.

    Parameters
    ----------
    value : array, tensor or table
        Arrays and tensors are taken by position.  The columns of a table are put into the order of
        ``net.input_names``; if the network has no names, they are taken as they stand.
    net : Network
    where : str
        Function and argument, for the errors.

    Raises
    ------
    ValueError
        If columns are missing, if there are others, or if a name stands twice, naming them.
    TypeError
        If a column does not hold numbers, naming it.
    ShapeError, NotFiniteError
        As for any array of points.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1.0, 2.0]])], input_names=["height", "width"])
    >>> table = np.array([(1.0, 2)], dtype=[("width", "f8"), ("height", "i4")])
    >>> as_inputs(table, net, "jacobian: X")
    array([[2., 1.]])
    """
    return as_points(in_order(value, net, where), net.widths[0], where, net.dtype)


def in_order(value: Any, net: HasInputs, where: str) -> Any:
    """Return the columns of a table as an array in the order of the inputs, all else as it is."""
    if type(value) is np.ndarray and value.dtype.names is None:
        return value
    names = column_names(value)
    if names is None:
        return value
    order = matched(names, net.input_names, where, "X[list(net.input_names)]")
    return take_columns(value, order, where, net.dtype)


def named_as(X: Any, net: Any) -> Any:
    """Return the network for what comes beside its points: a table too goes by their names."""
    names = None if net.input_names else column_names(X)
    return net if names is None else net.with_names(names)


def targets_in_order(value: Any, net: Any, where: str) -> Any:
    """Return targets as ``outputs_in_order`` does.

    Raises
    ------
    TypeError
        If there are words for labels, saying what numbers the outputs make of them.
    """
    _refuse_words(value, net, where)
    return outputs_in_order(value, net, where)


def outputs_in_order(value: Any, net: Any, where: str) -> Any:
    """Return the columns of a table of outputs in the order that the network has them in.

    A single column has no order, and a Series whose index does not hold the names is no point.
    """
    names, wanted = column_names(value), net.output_names
    if names is None or wanted is None or len(names) == 1:
        return value
    if not hasattr(value, "columns") and hasattr(value, "index") and set(names) != set(wanted):
        return value
    order = matched(names, wanted, where, "Y[list(net.output_names)]", role="output")
    return take_columns(value, order, where, net.dtype)


def _refuse_words(value: Any, net: Any, where: str) -> None:
    word = _first_word(value)
    outputs: Sequence[str] = net.output_names or ()
    if word is None:
        return
    one = re.fullmatch(r"P\((.*)\)", outputs[0]) if len(outputs) == 1 else None
    way_out = "Pass the number of each label, from 0 in the order of the outputs"
    if one:
        way_out = f"Pass (np.asarray(Y) == {one[1]!r})[:, None].astype(float)"
    elif word in outputs:
        way_out = "Pass [net.output_names.index(label) for label in Y]"
    named = f"; the outputs are {listed(outputs)}" if outputs else ""
    raise TypeError(
        f"{where}: expected numbers, but got words such as {word!r:.60}. {way_out}{named}."
    )


def _first_word(value: Any) -> str | None:
    """Return the first of labels that are words, (B,) or (B, 1)."""
    with suppress(Exception):  # what is no array is refused by whoever takes it
        labels = np.asarray(value)
        if isinstance(labels.flat[0], str) and labels.size == len(labels):
            return str(labels.flat[0])
    return None


def column_names(value: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a table; None for arrays and what else has no names.

    The labels 0, 1, 2, ... that pandas gives to columns without names are positions, not names.

    >>> column_names(np.zeros((2, 3))) is None
    True
    """
    labels = _labels(value)
    if labels is None:
        return None
    if all(isinstance(label, (int, np.integer)) for label in labels):
        return None if labels == list(range(len(labels))) else tuple(map(str, labels))
    return tuple(map(str, labels))


def _labels(value: Any) -> list[Any] | None:
    if isinstance(value, (np.ndarray, np.void)):
        return None if value.dtype.names is None else list(value.dtype.names)
    if hasattr(value, "__getitem__"):
        for attribute in ("column_names", "columns", "index"):  # of pyarrow, of frames, of a Series
            labels = getattr(value, attribute, None)
            if labels is not None and not callable(labels):  # as is the index of a list
                return list(labels)
    return None


def take_columns(
    table: Any, order: Sequence[int], where: str, dtype: np.dtype[Any] | None = None
) -> Array:
    """Stack the chosen columns of a table, which must hold numbers; a row of it is one point.

    >>> take_columns(np.array([(1, True)], dtype=[("a", "i8"), ("b", "?")]), [1, 0], "X")
    array([[1., 1.]])
    """
    labels = _labels(table) or []
    columns = [_column(table, labels[j], f"{where}[{str(labels[j])!r}]", dtype) for j in order]
    if not columns:
        raise ShapeError(f"{where}: expected columns of numbers, but got none.")
    return np.stack(columns, axis=-1)


def _column(table: Any, label: Any, where: str, dtype: np.dtype[Any] | None) -> Array:
    try:
        column = table[label]
        kind = getattr(getattr(column, "dtype", None), "kind", "")
        if kind in _NUMBERS and not isinstance(column.dtype, np.dtype):  # nullable, of pandas
            column = column.to_numpy(np.float64, na_value=np.nan)
        array = np.asarray(column)
    except Exception as err:  # whatever a table of another package meets
        said = next(iter(str(err).splitlines()), "")
        lazy = " .collect() it first." if hasattr(table, "collect") else ""
        raise TypeError(f"{where}: not readable as an array: {said:.200}{lazy}") from err
    if array.dtype.kind == "b":
        array = array.astype(np.float64)
    if array.dtype.kind not in _NUMBERS:
        raise TypeError(
            f"{where}: expected numbers, but got a column of dtype {array.dtype}; convert it, as "
            "with .astype(float) or pandas.get_dummies, or leave it out."
        )
    return as_floats(array, where, dtype=dtype)


_NUMBERS = ("i", "u", "f", "b")


def matched(
    names: Sequence[str],
    wanted: Sequence[str] | None,
    where: str,
    selection: str,
    beside: Sequence[str] = (),
    role: str = "input",
) -> list[int]:
    """Find the place of every wanted name among the names of columns, and name all others.

    Parameters
    ----------
    names : sequence of str
        Of the columns.
    wanted : sequence of str, optional
        Of the inputs; by default the columns are the inputs.
    where, selection : str
        For errors: the place, and how to take the right columns.
    beside : sequence of str
        Columns that may be there and are left out, such as those of targets.
    role : str
        What the wanted names are names of.

    >>> matched(["c", "a", "b"], ["a", "b", "c"], "X", "")
    [1, 2, 0]
    >>> matched(["a", "bb", "d"], ["a", "b"], "jacobian: X", "X[list(net.input_names)]")
    Traceback (most recent call last):
    ...
    ValueError: jacobian: X: the columns do not match the names of the inputs: missing 'b' (is it
    'bb'?); not an input: 'bb', 'd'. Rename or add columns.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: {listed(twice)} stands at several columns; keep one of each.")
    if wanted is None:
        return [j for j, name in enumerate(names) if name not in beside]
    place = {name: j for j, name in enumerate(names)}
    missing = [name for name in wanted if name not in place]
    expected = {*wanted, *beside}
    extra = [name for name in names if name not in expected]
    if missing or extra:
        faults = []
        if missing:
            close = get_close_matches(missing[0], extra, n=1, cutoff=0.65)
            hint = f" (is it {close[0]!r}?)" if close else ""
            faults.append(f"missing {listed(missing)}{hint}")
        if extra:
            faults.append(f"not an {role}: {listed(extra)}")
        way_out = _encoding(missing, extra, names) if missing else f"Leave them out: {selection}."
        raise ValueError(
            f"{where}: the columns do not match the names of the {role}s: {'; '.join(faults)}. "
            f"{way_out}"
        )
    return [place[name] for name in wanted]


def _encoding(missing: Sequence[str], extra: Sequence[str], names: Sequence[str]) -> str:
    """Say how missing columns are made: those of categories from a column of words."""
    encoded = all(name.startswith(tuple(f"{word}_" for word in extra)) for name in missing)
    stems = {name.rpartition("_")[0] for name in names} - {""}
    fill = "reindex(columns=net.input_names, fill_value=0)"
    if encoded:
        return f"Of columns of words, {listed(extra)}: pandas.get_dummies(X).{fill}."
    if not extra and all(name.rpartition("_")[0] in stems for name in missing):
        return f"Add columns; if they are of categories that do not occur here: X.{fill}."
    return "Rename or add columns."


DROP = "say which, beside=[...] or --drop NAME"


@dataclass(frozen=True)
class Choice:
    """Which columns of a file are the inputs; see ``points.load_points``."""

    names: Sequence[str] | None
    beside: Sequence[str]
    width: int | None = None
    spare: Sequence[str] = ()

    def of(self, head: Sequence[str], where: str) -> tuple[list[int], tuple[str, ...]]:
        """Return the numbers of the columns of the inputs, and the names of all others."""
        try:
            order = matched(head, self.names, where, DROP, self.beside)
        except ValueError as err:
            raise ModelFormatError(str(err)) from None
        if self.names is None and self.width is not None and len(order) > self.width:
            fewer = [j for j in order if head[j] not in self.spare]
            order = fewer if len(fewer) == self.width else order
        return order, tuple(name for j, name in enumerate(head) if j not in order)


def listed(names: Sequence[str], most: int = 6) -> str:
    """Write names for an error, the first few of many.

    >>> listed(["a", "b"]), listed(list("abcdefgh"), most=2)
    ("'a', 'b'", "'a', 'b' and 6 more")
    """
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
