"""Half precision, of either kind, widened to float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Array, ModelFormatError, Numbers


def widened(bits: Numbers, brain: bool) -> Array:
    """Return numbers of 16 bits as float32, ``brain`` for bfloat16; NaN is refused before.

    >>> widened(np.array([0x3C00, 0xC000], np.uint16), brain=False).tolist()
    [1.0, -2.0]
    """
    exponent = bits.dtype.type(0x7F80 if brain else 0x7C00)
    broken = (bits & exponent) == exponent
    if broken.any():
        raise ModelFormatError(f"holds NaN or infinity, first as entry {int(broken.argmax())}.")
    if not brain:
        wide: Any = bits.view("<f2").astype(np.float32)
        return wide  # type: ignore[no-any-return]
    halves = np.zeros((bits.size, 2), "<u2")
    halves[:, 1] = bits
    return halves.view("<f4").reshape(-1).astype(np.float32, copy=False)
