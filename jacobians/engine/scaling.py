"""Products whose partial results leave the range, with powers of two kept apart.

Every factor and every partial product is a matrix times ``2^e``, its largest entry near ``2^480``:
two of them multiply without overflow, and what is 10^450 times smaller than the largest entry is
still there.  Scaling by powers of two is exact, so the rounding bound holds as ever.  Slow, and
only for the points where the ordinary way gave infinity or NaN.
"""

from __future__ import annotations

import numpy as np

from jacobians._checks import Array
from jacobians.linearization import linearize
from jacobians.tracing import Trace

_TARGET = 480


def multiply_scaled(trace: Trace, of: int, wrt: int) -> Array:
    """Return ``da^of/da^wrt`` at the trace of one point; infinite only where it does not fit.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    >>> multiply_scaled(jb.trace(net, [1e-200]), 3, 0)
    array([[1.e+100]])
    """
    chain = linearize(trace.network, trace).between(of, wrt)
    product, exponent = _scaled(np.eye(trace.network.widths[of]), 0)
    for F in chain:
        right, shift = _scaled(F.to_dense().astype(np.float64), 0)
        product, exponent = _scaled(product @ right, exponent + shift)
    with np.errstate(over="ignore", under="ignore"):
        result: Array = np.ldexp(product, exponent).astype(trace.network.dtype)
    return result


def _scaled(M: Array, exponent: int) -> tuple[Array, int]:
    """Move the power of two of the largest entry from a matrix to its exponent."""
    shift = int(np.frexp(np.abs(M).max())[1]) - _TARGET if M.any() else 0
    return np.ldexp(M, -shift), exponent + shift
