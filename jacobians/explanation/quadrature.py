"""Adaptive Gauss-Kronrod quadrature of many outputs at once, each with an error of its own.

On an interval the 7 nodes of Gauss and the 15 of Kronrod among which they are give two answers,
and their distance, with the experience of R. Piessens et al., "QUADPACK" (1983), the error.  An
interval is halved as long as that is too large for some output, compared with the integral of its
absolute values as far as it is seen: a peak that no node of the first intervals meets at its top is
approached, and an output that is large says nothing about one that is small.  That is why it is not
``scipy.integrate.quad_vec``, which has one error for all outputs, and none where it meets no peak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians._checks import Array

INTERVALS = 200  # at most
SHARE = 16  # of the tolerance, for one interval
SHORTEST = 1e-12

_HALF = np.array(  # nodes and weights of Kronrod; every second node is one of Gauss
    [
        [0.991455371120812639206854697526329, 0.022935322010529224963732008058970],
        [0.949107912342758524526189684047851, 0.063092092629978553290700663189204],
        [0.864864423359769072789712788640926, 0.104790010322250183839876322541518],
        [0.741531185599394439863864773280788, 0.140653259715525918745189590510238],
        [0.586087235467691130294144691693013, 0.169004726639267902826583426598550],
        [0.405845151377397166906606412076961, 0.190350578064785409913256402421014],
        [0.207784955007898467600689403773245, 0.204432940075298892414161999234649],
        [0.0, 0.209482141084727828012999174891714],
    ]
).T
NODES, KRONROD = np.concatenate([_HALF * [[-1], [1]], _HALF[:, -2::-1]], axis=1)
GAUSS = np.zeros(15)
GAUSS[1::2] = np.polynomial.legendre.leggauss(7)[1]


def integrate(
    f: Callable[[float], Array], tolerance: float, moved: Any = False
) -> tuple[Array, Array, Array]:
    """Integrate ``f(s)``, (B, m, n), from 0 to 1.

    Returns the integral, the largest error of each output, (m,), infinity where it is not known,
    and of each output the integral of its largest ``|f|``, to which the tolerance is relative.
    Where an output has ``moved``, its integrand is looked for until it is not 0.

    >>> integral, error, size = integrate(lambda s: np.array([[[s**3, -s]]]), 1e-10)
    >>> integral.round(12), bool(error[0] < 1e-10)
    (array([[[ 0.25, -0.5 ]]]), True)
    """
    total: Array = np.zeros(())
    error = size = total
    intervals, count = [(0.0, 1.0)], 0
    with np.errstate(over="ignore", invalid="ignore"):
        while intervals:
            count += len(intervals)
            answers = [_on(f, *ends) for ends in intervals]
            so_far = size + np.sum([each for *_, each in answers], axis=0)
            halves = []
            for (start, stop), (integral, off, each) in zip(intervals, answers, strict=True):
                small = off <= tolerance / SHARE * so_far
                settled = (small & ((so_far > 0) | np.logical_not(moved))).all()
                if settled or stop - start < SHORTEST or count + 2 * len(intervals) > INTERVALS:
                    total, error, size = total + integral, error + off, size + each
                else:
                    middle = (start + stop) / 2
                    halves += [(start, middle), (middle, stop)]
            intervals = halves
    return total, np.nan_to_num(error, nan=np.inf), size


def _on(f: Callable[[float], Array], start: float, stop: float) -> tuple[Array, Array, Array]:
    """Return the integral on an interval, the error of each output, and that of its ``|f|``."""
    half, middle = (stop - start) / 2, (stop + start) / 2
    values = np.array([f(middle + half * node) for node in NODES])
    integral, coarse = (half * np.tensordot(weights, values, 1) for weights in (KRONROD, GAUSS))
    apart = values - integral / (stop - start)
    size, spread = (half * np.tensordot(KRONROD, np.abs(A), 1).max((0, 2)) for A in (values, apart))
    distance = np.abs(integral - coarse).max((0, 2))
    share = np.minimum(1, 200 * distance / np.where(spread > 0, spread, 1))
    return integral, np.where(spread > 0, spread * share**1.5, distance), size
