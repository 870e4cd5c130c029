"""safetensors files: arrays with names.

The format is a length, a header of JSON that long, and bytes; the header gives every tensor a kind,
a shape and its place among the bytes.  It is read here as it stands, without another package, and
the header is compared with what is there: tensors lie one behind the other and fill the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any, BinaryIO

import numpy as np

from jacobians._checks import ModelFormatError, Numbers, freeze
from jacobians.importers._half import widened

_DTYPES = {"F32": "<f4", "F64": "<f8", "F16": "<u2", "BF16": "<u2"}
_BITS = {"BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F4": 4}
LONGEST_HEADER = 2**22  # of JSON, of which Python makes twenty times as much


def read_safetensors(file: BinaryIO, size: int) -> dict[str, Numbers]:
    """Return the arrays by name; one that shares the memory of another by the note that says so."""
    data = file.read()
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("its header is longer than the file")
    if length > LONGEST_HEADER:
        raise ModelFormatError(
            f"its header takes {length} bytes; expected at most {LONGEST_HEADER}. Leave out of the "
            "file what is no layer."
        )
    header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_once)
    metadata = header.pop("__metadata__", {})
    _require_filled(header, len(data) - 8 - length)
    arrays = {key: _array(tensor, data, 8 + length, key) for key, tensor in header.items()}
    for alias, key in metadata.items():  # of tensors that share their memory one was kept
        if key in arrays and alias not in arrays:
            arrays[alias] = arrays[key]
    return arrays


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key in times if times[key] > 1)
        raise ValueError(f"it holds {twice!r:.80} twice")
    return entries


def _require_filled(header: dict[str, Any], size: int) -> None:
    """Require that the tensors lie one behind the other, from the first byte to the last."""
    spans = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
    end = 0
    for begin, stop in spans:
        if begin != end or stop < begin:
            raise ValueError(f"bytes {begin} to {stop} do not follow byte {end}")
        end = stop
    if end != size:
        raise ValueError(f"its tensors take {end} bytes, but it holds {size}")


def _array(tensor: dict[str, Any], data: bytes, start: int, key: str) -> Numbers:
    kind, shape, (begin, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    bits = _BITS.get(kind) or int(kind[-2:].lstrip("IUFC"))
    if min(shape, default=0) < 0 or prod(shape) * bits != 8 * (stop - begin):
        raise ValueError(f"{key!r:.80} claims shape {shape} of {kind} in {stop - begin} bytes")
    if kind not in _DTYPES:
        raise ModelFormatError(f"{key!r:.80} is of {kind}; expected one of {', '.join(_DTYPES)}.")
    flat = np.frombuffer(data[start + begin : start + stop], _DTYPES[kind])
    if _DTYPES[kind] == "<u2":
        flat = widened(flat, kind == "BF16", f"{key!r:.80}")
    return freeze(flat).reshape(shape)
