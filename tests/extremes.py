"""Correct networks at extreme points: saturated, dead, tied, tiny, huge; none may be condemned."""

from itertools import pairwise

import numpy as np

import jacobians as jb
from jacobians.strategies import HIDDEN

LAST = (*HIDDEN, "softmax", "log_softmax", "exp", "identity")
POWERS = (0, 0, 0, -3, 2, 8, -9, 30, -30, -160, 150)


def _dense(rng, m, n, sigma, dtype):
    power = int(rng.choice(POWERS)) if dtype == np.float64 else int(rng.choice(POWERS[:-2])) // 2
    W = rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) < rng.choice([0.3, 1.0]))
    if rng.uniform() < 0.2:
        W = np.round(W)  # ties and kinks
    b = rng.normal(size=m) * 10.0 ** int(rng.choice([0, 0, 2, -6])) * (rng.uniform() < 0.7)
    return jb.Dense((W * 10.0**power).astype(dtype), b.astype(dtype), sigma)


def network(rng):
    """Draw a network of up to five layers, some of them residual or normalising, and a point."""
    dtype = np.dtype(rng.choice([np.float32, np.float64]))
    widths = [int(n) for n in rng.integers(1, 7, int(rng.integers(2, 6)))]
    layers = []
    for l, (n, m) in enumerate(pairwise(widths), start=1):
        sigma = str(rng.choice(LAST if l == len(widths) - 1 else HIDDEN))
        layers.append(_dense(rng, m, n, sigma, dtype))
        if rng.uniform() < 0.2:
            layers.append(jb.Residual([_dense(rng, m, m, str(rng.choice(HIDDEN)), dtype)]))
        if rng.uniform() < 0.1:
            layers.append(jb.LayerNorm(rng.normal(size=m).astype(dtype)))
    x = rng.normal(size=widths[0]) * 10.0 ** int(rng.choice([0, 0, -6, -9, 3, 6, -300, -38]))
    if rng.uniform() < 0.2:
        x = np.round(x)
    with np.errstate(under="ignore"):
        return jb.Network(layers), x.astype(dtype)


def judged(seed):
    """Certify one; return None where its values leave the range, else the certificate."""
    net, x = network(np.random.default_rng(seed))
    try:
        jb.trace(net, x)  # selu(-inf) is finite, but -inf is no number to differentiate at
    except jb.NotFiniteError:
        return None
    return jb.certify(net, x)
