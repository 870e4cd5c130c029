"""The wire format of protocol buffers, as far as an ONNX file needs it.

A message is a sequence of fields, each a tag (its number and how it is written) and a value: a
whole number of variable length, four or eight bytes, or a length and that many bytes, which may be
a message again.  A reader walks over the bytes it was given and meets the fields one by one;
``Message`` keeps those that are wanted, and counts them, so that a file of nothing but fields ends
early.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from jacobians._checks import ModelFormatError, readable_bytes

Field = tuple[int, int, int]  # tag; then where the bytes begin and end, or a number and -1
Span = tuple[int, int]

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5  # how a value is written: the lowest three bits of a tag


class Source:
    """The bytes of a model, what reading them may still cost, and the folder of its other files.

    Both costs, fields and bytes of memory, are in proportion to the size of the file.
    """

    def __init__(self, data: bytes, size: int, folder: str | None) -> None:
        self.data, self.folder = data, folder
        self.opened: set[str] = set()
        self.fields = 2**18 + size // 16
        self._records = 2**25 + size  # for names, nodes and shapes
        self._numbers = 2**25 + 16 * size  # half precision is widened, products are in float64

    def keep(self, size: int) -> None:
        """Count a record that is about to be kept."""
        self._records -= size
        if self._records < 0:
            raise ModelFormatError("it consists of more pieces than a file of its size justifies.")

    def spend(self, size: int) -> None:
        """Count numbers that are about to be allocated."""
        self._numbers -= size
        if self._numbers < 0:
            raise ModelFormatError(
                f"asks for another {readable_bytes(size)} of memory, more than a file of its size "
                "justifies."
            )

    def open(self, path: str) -> int:
        """Return the size of a file beside the model, which counts with it."""
        size = os.path.getsize(path)
        if path not in self.opened:
            self.opened.add(path)
            self._numbers += 16 * size
        return size

    def text(self, start: int, stop: int) -> str:
        """Return a name, which is kept."""
        self.keep(80 + stop - start)
        return self.data[start:stop].decode()


def fields(source: Source, span: Span) -> Iterator[Field]:
    """Walk over the fields of a message: (tag, start, stop), of a whole number (tag, number, -1).

    Every field is counted, so that a file of nothing but fields ends early.

    >>> list(fields(Source(bytes([8, 150, 1, 18, 2, 72, 105]), 7, None), (0, 7)))
    [(8, 150, -1), (18, 5, 7)]
    """
    data, (place, end), count = source.data, span, 0
    while place < end and count < source.fields:
        key = data[place]
        place += 1
        if key > 127:
            key, place = _varint(data, place - 1, end)
        kind = key & 7
        count += kind in (VARINT, LENGTH)  # which may take two bytes; others take five at least
        if kind == LENGTH:
            size = data[place] if place < end else 0
            place += 1
            if size > 127:
                size, place = _varint(data, place - 1, end)
            stop = place + size
            if stop > end:
                raise ModelFormatError("not a readable ONNX model: it ends inside a field.")
            yield key, place, stop
            place = stop
        elif kind == VARINT:
            number, place = _varint(data, place, end)
            yield key, number, -1
        elif kind in (FOUR, EIGHT):
            stop = place + (4 if kind == FOUR else 8)
            yield key, place, stop
            place = stop
        else:
            raise ModelFormatError("not a readable ONNX model: a field of no kind.")
        if key < 8 or place > end:
            raise ModelFormatError("not a readable ONNX model: a field that is none.")
    source.fields -= count
    if place < end:
        raise ModelFormatError("it consists of more pieces than a file of its size justifies.")


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Read a whole number, seven bits a byte, the lowest first; return it and where it ends."""
    number = shift = 0
    for last in range(place, min(place + 10, end)):
        byte = data[last]
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFF_FFFF_FFFF_FFFF, last + 1
        shift += 7
    raise ModelFormatError("not a readable ONNX model: a number without an end.")


def signed(number: int) -> int:
    """Return a number of 64 bits as the two's complement that it is."""
    return number - 2**64 if number >= 2**63 else number


def whole_numbers(source: Source, field: Field) -> list[int]:
    """Return the signed numbers of a field, written one by one or several together."""
    _, place, end = field
    if end < 0:
        return [signed(place)]
    source.keep(40 * (end - place))
    numbers = []
    while place < end:
        number, place = _varint(source.data, place, end)
        numbers.append(signed(number))
    return numbers


class Message:
    """The fields of a message that somebody wants to know.

    Where ``once`` says what a field is, there may be one of it: of two, readers of other files take
    one or the other.
    """

    def __init__(self, source: Source, span: Span, wanted: Sequence[int]) -> None:
        self._source = source
        self._fields: dict[int, list[Field]] = {number: [] for number in wanted}
        for field in fields(source, span):
            if field[0] >> 3 in self._fields:
                source.keep(100)
                self._fields[field[0] >> 3].append(field)

    def fields(self, number: int) -> list[Field]:
        """Return all fields of a number."""
        return self._fields[number]

    def spans(self, number: int) -> list[Span]:
        """Return where the bytes of fields stand."""
        return [
            (start, stop)
            for key, start, stop in self._fields[number]
            if key == number << 3 | LENGTH
        ]

    def span(self, number: int, once: str = "") -> Span:
        """Return where the bytes of the last such field stand: of nothing if there is none."""
        return self._only(self.spans(number), once) or (0, 0)

    def texts(self, number: int) -> list[str]:
        """Return the texts in fields."""
        return [self._source.text(*span) for span in self.spans(number)]

    def text(self, number: int, once: str = "") -> str:
        """Return the text in the last such field, "" if there is none."""
        return self._source.text(*self.span(number, once)) if self._fields[number] else ""

    def number(self, number: int, once: str = "") -> int:
        """Return the whole number in the last such field, 0 if there is none."""
        held = [n for key, n, _ in self._fields[number] if key == number << 3 | VARINT]
        return self._only(held, once) or 0

    def _only(self, held: list[Any], once: str) -> Any:
        if once and len(held) > 1:
            raise ModelFormatError(f"a part of it has two fields {once}.")
        return held[-1] if held else None
