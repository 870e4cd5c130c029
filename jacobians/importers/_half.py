"""Half precision, of either kind, widened to float32."""

from __future__ import annotations

import numpy as np

from jacobians._checks import Array, ModelFormatError, Numbers


def widened(bits: Numbers, brain: bool, what: str = "it") -> Array:
    """Return numbers of 16 bits as float32, ``brain`` for bfloat16; NaN is refused before.

    >>> widened(np.array([0x3C00, 0xC000], np.uint16), brain=False).tolist()
    [1.0, -2.0]
    """
    exponent = bits.dtype.type(0x7F80 if brain else 0x7C00)
    broken = (bits & exponent) == exponent
    if broken.any():
        raise ModelFormatError(f"{what} holds NaN or infinity, first as entry {broken.argmax()}.")
    wide: Array = bits.view("<f2").astype(np.float32)
    if brain:  # the upper half of a float32
        wide = np.left_shift(bits.astype(np.uint32), 16).view(np.float32)
    return wide
