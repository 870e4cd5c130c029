"""The wire format of protocol buffers, as far as an ONNX file needs it.

A message is a sequence of fields, each a tag (its number and how it is written) and a value: a
whole number of variable length, four or eight bytes, or a length and that many bytes, which may be
a message again.  Nothing is built here: a reader walks over the bytes it was given and meets the
fields one by one, so what a file costs does not depend on how many fields it has.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from jacobians._checks import ModelFormatError, readable_bytes

Field = tuple[int, int, int]  # tag; then where the bytes begin and end, or a number and -1
Span = tuple[int, int]

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5  # how a value is written: the lowest three bits of a tag


class Budget:
    """What reading a file may cost: fields, and bytes of memory, in proportion to its size."""

    def __init__(self, size: int) -> None:
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

    def justify(self, size: int) -> None:
        """Add a file beside the model."""
        self._numbers += 16 * size


def tag(number: int, kind: int = LENGTH) -> int:
    """Return the tag of a field as it stands in the file."""
    return number << 3 | kind


def fields(data: bytes, span: Span, budget: Budget) -> Iterator[Field]:
    """Walk over the fields of the message in ``data[start:stop]``.

    Parameters
    ----------
    data : bytes
    span : (int, int)
    budget : Budget
        Every field is counted, so that a file of nothing but fields ends early.

    Yields
    ------
    (tag, start, stop)
        Of the value's bytes; for a whole number (tag, number, -1).

    Raises
    ------
    ModelFormatError
        If a field is no field or reaches beyond the message.

    >>> list(fields(bytes([8, 150, 1, 18, 2, 72, 105]), (0, 7), Budget(7)))
    [(8, 150, -1), (18, 5, 7)]
    """
    place, end = span
    count = 0
    while place < end and count < budget.fields:
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
    budget.fields -= count
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


def whole_numbers(data: bytes, field: Field, budget: Budget) -> list[int]:
    """Return the signed numbers of a field, written one by one or several together."""
    _, place, end = field
    if end < 0:
        return [signed(place)]
    budget.keep(40 * (end - place))
    numbers = []
    while place < end:
        number, place = _varint(data, place, end)
        numbers.append(signed(number))
    return numbers
