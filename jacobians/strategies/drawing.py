"""Hypothesis strategies: networks, points, problems, maps, small and bounded.

Everything is small, bounded and shrinks towards one layer of one unit with weights 0, so that a
failure is reported on the simplest network that shows it.  Dimensions of a network are pairwise
different half of the time: equal sizes and symmetric values hide transposes.

>>> from hypothesis import given, settings
>>> import jacobians as jb
>>> from jacobians import strategies as jst
>>> @settings(max_examples=20)
... @given(jst.problems())
... def test_my_loss_is_the_library_s(problem):
...     g = jb.backprop.gradients(*problem)
...     assert g.loss >= 0
>>> test_my_loss_is_the_library_s()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from jacobians._checks import Array, DomainError, Numbers, missing_extra
from jacobians.activations import NAMES, AnyActivation, activation
from jacobians.layers import Dense, Elementwise, Layer, Scale
from jacobians.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from jacobians.maps import (
    Blocks,
    Commutation,
    Diagonal,
    DiagonalPlusLowRank,
    Duplication,
    Elimination,
    Identity,
    Kronecker,
    LinearMap,
    Matrix,
    Product,
)
from jacobians.network import Network

try:
    from hypothesis import reject
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as err:
    raise missing_extra("hypothesis", "strategies", "jacobians.strategies") from err

# Not drawn: exp doubles its exponent with every layer and square its size, so that both leave the
# range soon; some are not defined everywhere, and steps have no derivative to speak of.
_LEFT_OUT = {
    *("exp", "square", "softmax", "log_softmax"),
    *("sqrt", "log", "reciprocal", "power", "sign", "floor"),
}
HIDDEN = tuple(name for name in NAMES if name not in _LEFT_OUT)
SMOOTH = ("identity", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu", "mish", "sin")
PIECEWISE_LINEAR = ("identity", "relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid")


def entries(dtype: Any = np.float64, bound: float = 4.0) -> st.SearchStrategy[float]:
    """Draw finite numbers between ``-bound`` and ``bound``, simple ones and tiny ones included."""
    width = 32 if np.dtype(dtype) == np.float32 else 64
    return st.floats(-bound, bound, width=width)  # type: ignore[arg-type]


def vectors(size: int, dtype: Any = np.float64, bound: float = 4.0) -> st.SearchStrategy[Numbers]:
    """Draw vectors of shape (size,)."""
    return hnp.arrays(np.dtype(dtype), (size,), elements=entries(dtype, bound))


def matrices(
    rows: int, columns: int, dtype: Any = np.float64, bound: float = 4.0
) -> st.SearchStrategy[Numbers]:
    """Draw matrices of shape (rows, columns)."""
    return hnp.arrays(np.dtype(dtype), (rows, columns), elements=entries(dtype, bound))


def widths(max_depth: int = 4, max_width: int = 6) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw ``(n_0, ..., n_L)`` with L from 1 to ``max_depth``; half of them pairwise different."""
    sizes = st.integers(1, max_width)
    most = max_depth + 1
    different = st.lists(sizes, min_size=2, max_size=min(most, max_width), unique=True)
    return (st.lists(sizes, min_size=2, max_size=most) | different).map(tuple)


def activations(names: Sequence[str] = NAMES) -> st.SearchStrategy[AnyActivation]:
    """Draw activations by name, with their default parameters; the first is the simplest."""
    return st.sampled_from(list(names)).map(activation)


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    max_depth: int = 4,
    max_width: int = 6,
    hidden: Sequence[str] = HIDDEN,
    last: Sequence[str] = (*HIDDEN, "softmax", "log_softmax"),
    dtypes: Sequence[Any] = (np.float64,),
    bound: float = 2.0,
    only_dense: bool = False,
) -> Network:
    """Draw networks.

    Parameters
    ----------
    max_depth, max_width : int
        Up to that many dense layers, of up to that many units.
    hidden, last : sequence of str
        Names of the activations to draw from.
    dtypes : sequence of dtype
    bound : float
        Largest absolute value of a weight or bias.
    only_dense : bool
        Leave out ``Scale`` and ``Elementwise`` layers.
    """
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    sizes = draw(widths(max_depth, max_width))
    layers: list[Layer] = []
    if not only_dense and draw(st.booleans()):
        scale, shift = (draw(vectors(sizes[0], dtype, bound)) for _ in range(2))
        layers.append(Scale(scale, shift))
    for l, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        W, b = draw(matrices(n_out, n_in, dtype, bound)), draw(vectors(n_out, dtype, bound))
        sigma = draw(activations(last if l == len(sizes) - 1 else hidden))
        if not only_dense and draw(st.integers(0, 5)) == 5:
            layers += [Dense(W, b), Elementwise(sigma)]
        else:
            layers.append(Dense(W, b, sigma))
    return Network(layers)


@st.composite
def ill_scaled_networks(
    draw: st.DrawFn,
    *,
    max_depth: int = 6,
    max_width: int = 8,
    hidden: Sequence[str] = HIDDEN,
    dtypes: Sequence[Any] = (np.float64, np.float32),
    decades: int = 8,
) -> Network:
    """Draw networks whose layers are scaled by anything from ``10^-decades`` to ``10^decades``.

    Weights come from a drawn seed, with full mantissas: simple numbers would round too rarely.
    """
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    sizes = draw(widths(max_depth, max_width))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for n_in, n_out in pairwise(sizes):
        scale = 10.0 ** draw(st.integers(-decades, decades))
        W = (scale * rng.standard_normal((n_out, n_in))).astype(dtype)
        b = (scale * rng.standard_normal(n_out)).astype(dtype)
        layers.append(Dense(W, b, draw(activations(hidden))))
    return Network(layers)


_EXACT = [
    *map(activation, ("identity", "relu")),
    activation("leaky_relu", slope=0.25),
    activation("hard_tanh", low=-4.0, high=4.0),
]


@st.composite
def exact_networks(
    draw: st.DrawFn,
    *,
    max_depth: int = 4,
    max_width: int = 5,
    dtypes: Sequence[Any] = (np.float64,),
) -> Network:
    """Draw networks on which every order of every product is exact, so that ``==`` must hold.

    Weights are whole numbers from -3 to 3 times a power of two, slopes are 0, 1 or 1/4.  With the
    default sizes nothing needs more than 40 bits; in float32, ask for ``max_depth=2``.
    """
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    sizes = draw(widths(max_depth, max_width))
    whole = st.integers(-3, 3)
    layers = []
    for n_in, n_out in pairwise(sizes):
        power = 2.0 ** draw(st.integers(-2, 2))
        W = draw(hnp.arrays(np.int64, (n_out, n_in), elements=whole)) * power
        b = draw(hnp.arrays(np.int64, (n_out,), elements=whole)) * power
        sigma = draw(st.sampled_from(_EXACT))
        layers.append(Dense(W.astype(dtype), b.astype(dtype), sigma))
    return Network(layers)


def points(net: Network, bound: float = 4.0) -> st.SearchStrategy[Array]:
    """Draw inputs of a network, shape (n_0,)."""
    return vectors(net.widths[0], net.dtype, bound)


def whole_points(net: Network, bound: int = 4) -> st.SearchStrategy[Array]:
    """Draw inputs that are whole numbers, for exact networks."""
    elements = st.integers(-bound, bound)
    return hnp.arrays(np.int64, (net.widths[0],), elements=elements).map(
        lambda x: x.astype(net.dtype)
    )


@st.composite
def batches(draw: st.DrawFn, net: Network, max_points: int = 4, bound: float = 4.0) -> Array:
    """Draw batches of inputs, shape (B, n_0) with B from 0 to ``max_points``."""
    shape = (draw(st.integers(0, max_points)), net.widths[0])
    return draw(hnp.arrays(net.dtype, shape, elements=entries(net.dtype, bound)))


class Problem(NamedTuple):
    """A training problem, in the order of the arguments of ``backprop.gradients``."""

    net: Network
    X: Array
    Y: Array
    loss: Loss
    l2: float


def losses() -> st.SearchStrategy[Loss]:
    """Draw losses, fused with their activation or not."""
    fused = (st.booleans().map(kind) for kind in (BinaryCrossEntropy, CrossEntropy))
    return st.one_of(st.just(SquaredError()), *fused)


@st.composite
def problems(draw: st.DrawFn, /, *, max_points: int = 4, **shape: Any) -> Problem:
    """Draw a network, a batch, targets that the loss accepts, a loss and a penalty.

    Parameters
    ----------
    max_points : int
        Batches hold 1 to that many points; one time in four there is a single point, not a batch.
    **shape
        Passed to ``networks``, but for the last activation, which follows from the loss.
    """
    loss = draw(losses())
    last: Sequence[str] = HIDDEN
    if isinstance(loss, BinaryCrossEntropy):
        last = ("sigmoid",)
    elif isinstance(loss, CrossEntropy):
        last = ("softmax", "log_softmax") if loss.fuse else ("softmax",)
    several = 1 + isinstance(loss, CrossEntropy)  # which needs an output for every class
    net = draw(networks(last=last, **shape).filter(lambda net: net.widths[-1] >= several))
    lead = draw(st.sampled_from([(), *[(B,) for B in range(1, max_points + 1)]]))
    X = draw(hnp.arrays(net.dtype, (*lead, net.widths[0]), elements=entries(net.dtype, 2.0)))
    targets = entries(net.dtype, 4.0)
    if not isinstance(loss, SquaredError):
        targets = st.floats(0, 1, width=32)
    Y = draw(hnp.arrays(net.dtype, (*lead, net.widths[-1]), elements=targets))
    try:
        loss.cotangent(net(X), Y)
    except DomainError:  # a saturated output, met by a loss that is not fused
        reject()
    return Problem(net, X, Y, loss, draw(st.sampled_from([0.0, 0.25, 1.0])))


@st.composite
def linear_maps(
    draw: st.DrawFn,
    rows: int | None = None,
    columns: int | None = None,
    *,
    batch: int | None = None,
    max_size: int = 4,
    depth: int = 2,
    whole: bool = False,
) -> LinearMap:
    """Draw structured maps of every kind, nested up to ``depth``.

    Parameters
    ----------
    rows, columns : int, optional
        Drawn up to ``max_size`` unless given.
    batch : int, optional
        Leaves may then be stacks of that length.
    max_size, depth : int
    whole : bool
        Whole numbers only, on which products are exact.
    """
    m = draw(st.integers(1, max_size)) if rows is None else rows
    n = draw(st.integers(1, max_size)) if columns is None else columns
    lead = (batch,) if batch is not None and draw(st.booleans()) else ()

    def array(*shape: int) -> Numbers:
        if whole:
            ints = hnp.arrays(np.int64, (*lead, *shape), elements=st.integers(-3, 3))
            return draw(ints).astype(np.float64)
        return draw(hnp.arrays(np.float64, (*lead, *shape), elements=entries(bound=2.0)))

    def inner(rows: int, columns: int) -> LinearMap:
        return draw(linear_maps(rows, columns, batch=batch, depth=depth - 1, whole=whole))

    def divisor(size: int) -> int:
        return draw(st.sampled_from([k for k in range(1, size + 1) if size % k == 0]))

    def low_rank() -> LinearMap:
        r = draw(st.integers(1, 2))
        return DiagonalPlusLowRank(array(n), array(n, r), array(n, r))

    def product() -> LinearMap:
        k = draw(st.integers(1, max_size))
        return Product([inner(m, k), inner(k, n)])

    def kronecker() -> LinearMap:
        p, q = divisor(m), divisor(n)
        return Kronecker(inner(m // p, n // q), inner(p, q))

    def blocks() -> LinearMap:
        i, j = draw(st.integers(1, m - 1)), draw(st.integers(1, n - 1))
        return Blocks([[inner(i, j), inner(i, n - j)], [inner(m - i, j), inner(m - i, n - j)]])

    kinds: list[Callable[[], LinearMap]] = [lambda: Matrix(array(m, n))]
    if m == n:
        kinds += [lambda: Identity(n), lambda: Diagonal(array(n)), low_rank]
        kinds += [lambda: Commutation(k := divisor(n), n // k)] if m > 1 else []
    if triangles := _triangles(m, n):
        kinds.append(lambda: draw(st.sampled_from(triangles)))
    if depth > 0:
        kinds += [product, lambda: inner(n, m).T, kronecker]
        kinds += [blocks] if m > 1 and n > 1 else []
    return draw(st.sampled_from(kinds))()


def _triangles(m: int, n: int) -> list[LinearMap]:
    """Return the duplication and elimination maps of this shape, and their transposes."""
    maps = [kind(k) for k in range(1, max(m, n) + 1) for kind in (Duplication, Elimination)]
    return [A for B in maps for A in (B, B.T) if A.shape == (m, n)]
