"""Networks whose nodes branch and join, drawn at random: for the laws of graphs.

Every node reads earlier nodes, and what nothing reads goes into the output, so that branches split,
share nodes, meet again and nest without anybody having thought of the picture.
"""

import numpy as np
from hypothesis import strategies as st

import jacobians as jb
from jacobians import strategies as jst

PIECEWISE = ("identity", "relu", "identity")  # slopes 0 and 1: whole numbers stay whole


@st.composite
def graphs(draw, max_nodes=7, exact=False, dtypes=(np.float64,), decades=0):
    """Draw graphs of dense layers, convolutions, joins, ...; whole numbers if ``exact``."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    widths = {"x": draw(st.integers(1, 4))}
    nodes, read = {}, set()
    for k in range(draw(st.integers(1, max_nodes))):
        name = f"n{k}"
        layer, sources, width = _node(draw, rng, widths, exact, decades)
        nodes[name], widths[name] = (layer, *sources), width
        read.update(sources)
    ends = [name for name in nodes if name not in read]
    return jb.Network.graph(nodes, inputs={"x": widths["x"]}, outputs=ends).astype(dtype)


def _node(draw, rng, widths, exact, decades):
    names = list(widths)
    first = draw(st.sampled_from(names))
    n = widths[first]
    alike = [name for name in names if widths[name] == n]
    kinds = ["dense", "residual", "concatenate", "gather", "dense", "windows"]
    kinds += ["add", "multiply"] if len(alike) > 1 else []
    kinds += [] if exact else ["layer norm", "softmax", "scale"]
    kind = draw(st.sampled_from(kinds))
    if kind == "residual":
        inside = draw(st.integers(1, 3))
        block = jb.Residual(
            [_dense(draw, rng, inside, n, exact), _dense(draw, rng, n, inside, exact)]
        )
        return block, [first], n
    if kind == "windows":
        return _windows(draw, rng, n, exact), [first], n
    if kind == "concatenate":
        second = draw(st.sampled_from(names))
        return jb.Concatenate(), [first, second], n + widths[second]
    if kind == "gather":
        indices = rng.integers(-1, n, draw(st.integers(1, 4)))
        return jb.Gather(indices), [first], len(indices)
    if kind in ("add", "multiply"):
        join = jb.Add() if kind == "add" else jb.Multiply()
        if kind == "add" or not exact:
            return join, [first, draw(st.sampled_from(alike))], n
    if kind == "layer norm":
        return jb.LayerNorm(rng.normal(size=n), rng.normal(size=n)), [first], n
    if kind == "softmax":
        return jb.Elementwise("softmax"), [first], n
    if kind == "scale":
        return (
            jb.Scale(rng.normal(size=n) * 10.0 ** rng.integers(-decades, decades + 1)),
            [first],
            n,
        )
    m = draw(st.integers(1, 4))
    return _dense(draw, rng, m, n, exact, decades), [first], m


def _windows(draw, rng, n, exact):
    """Draw convolutions and a pool along a vector, as a residual block."""
    kernel = (lambda *s: rng.integers(-2, 3, s)) if exact else (lambda *s: rng.normal(size=s))
    channels, size = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3]))
    around = {"padding": size // 2, "dilation": 1}
    pool = draw(st.sampled_from([jb.MaxPool(3, 1, 1), jb.AveragePool(2, 1, ((1, 0),))]))
    back = draw(st.sampled_from([jb.Convolution, jb.TransposedConvolution]))
    shape = (1, channels, size) if back is jb.Convolution else (channels, 1, size)
    inside = [
        jb.Reshape((1, n)),
        jb.Convolution(kernel(channels, 1, size), None, "relu", **around),
        pool,
        back(kernel(*shape), kernel(1), **around),
        jb.Reshape((n,)),
    ]
    return jb.Residual(inside)


def _dense(draw, rng, m, n, exact, decades=0):
    if exact:
        sigma = draw(st.sampled_from(PIECEWISE))
        return jb.Dense(rng.integers(-2, 3, (m, n)), rng.integers(-2, 3, m), sigma)
    sigma = draw(st.sampled_from(jst.HIDDEN))
    W = rng.normal(size=(m, n)) * 10.0 ** rng.integers(-decades, decades + 1)
    return jb.Dense(W, rng.normal(size=m), sigma)


def points_of(net, exact=False):
    """Draw a point of a network."""
    if exact:
        return st.integers(0, 2**32 - 1).map(
            lambda seed: (
                np.random.default_rng(seed).integers(-3, 4, net.widths[0]).astype(net.dtype)
            )
        )
    return jst.points(net)
