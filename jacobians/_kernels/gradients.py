"""Gradients of an objective by the kernel: forward, the loss in Python, and back, block by block.

    dC/dW^l = sum over points of delta^l (a^{l-1})ᵀ        dC/db^l = sum over points of delta^l

The values of a block of points stay in the cache until their gradients have been added up.  Points
are cut into pieces that depend on neither threads nor machine, and the sums of the pieces are added
in pairs: the same bits for any number of threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from jacobians._checks import Array, ShapeError
from jacobians._kernels import PROCESSORS, Program, Tape
from jacobians._kernels.codes import code_of
from jacobians._kernels.translating import SOFTMAX_WIDTH, NotOfTheKernel
from jacobians._kernels.values import Value
from jacobians._machine import THREADS
from jacobians._workers import share
from jacobians.activations import IDENTITY, LOG_SOFTMAX, SOFTMAX, Activation
from jacobians.layers import Add, Dense, Elementwise, Scale
from jacobians.network import Network

PIECES, FEWEST, WORK = 16, 128, 3e6  # the most pieces; their fewest points and operations
SUMS_BYTES = 2**26  # memory of the sums of all pieces

Cotangent = Callable[[Array, slice], Array]


def means_over_points(
    net: Network, x: Array, cotangent: Cotangent, fused: bool
) -> tuple[Array, list[dict[str, Array]]] | None:
    """Return the outputs, and for every layer the means over all points by parameter.

    Parameters
    ----------
    net : Network
    x : array, shape (B, n_0)
    cotangent : callable
        Of outputs (b, n_L) and the slice of points they belong to.
    fused : bool
        Whether outputs and cotangents are those of ``z^L``, not ``a^L``.

    Returns
    -------
    tuple, or None if a layer is not the kernel's, or a value leaves the range
    """
    prepared = _prepared(net, fused)
    if prepared is None:
        return None
    x, (program, size, layers) = np.ascontiguousarray(x), prepared
    work = len(x) * (6.0 * size + 100 * sum(net.widths))
    most = min(PIECES, SUMS_BYTES // (size * x.itemsize), len(x) // FEWEST)
    count = max(1, min(most, int(work / WORK)))
    ends = [len(x) * k // count for k in range(count + 1)]
    output = np.empty((len(x), net.widths[-1]), net.dtype)
    sums = [np.empty(0)] * count
    finite = [False] * count
    contexts = [copy_context() for _ in range(count)]  # how NumPy tells an overflow

    def one(k: int) -> None:
        start, stop = ends[k], ends[k + 1]
        c, out = np.zeros((stop - start, output.shape[1]), net.dtype), output[start:stop]
        total = np.zeros(size, net.dtype)

        def ask(first: int, count: int) -> None:
            a = out[first : first + count]
            if np.isfinite(a).all():
                here = slice(start + first, start + first + count)
                c[first : first + count] = cotangent(a, here)

        finite[k] = program.run(x[start:stop], c, out, total, ask)
        sums[k] = total

    share(lambda k, _: contexts[k].run(one, k), range(count), THREADS)
    if not all(finite):
        return None
    while len(sums) > 1:
        pairs = zip(sums[::2], sums[1::2], strict=False)
        sums = [np.add(a, b, out=a) for a, b in pairs] + sums[len(sums) & ~1 :]
    total = np.divide(sums[0], len(x), out=sums[0])
    means = [{name: part.of(total) for name, part in by.items()} for by in layers]
    arrays = (output, *(mean for by in means for mean in by.values()))
    return (output, means) if all(np.isfinite(array).all() for array in arrays) else None


@dataclass(frozen=True)
class _Part:
    """Where the sum of a parameter lies, in rows that are padded."""

    where: slice
    columns: int
    shape: tuple[int, ...]

    def of(self, total: Array) -> Array:
        rows = total[self.where]
        return rows.reshape(-1, self.columns)[:, : self.shape[-1]].reshape(self.shape)


_Prepared = tuple[Program, int, list[dict[str, _Part]]]
_kept: WeakKeyDictionary[Network, dict[bool, _Prepared | None]] = WeakKeyDictionary()


def _prepared(net: Network, fused: bool) -> _Prepared | None:
    kept = _kept.setdefault(net, {})
    if fused not in kept:
        made: _Prepared | None = None
        if PROCESSORS and 2 * net.parameter_count * net.dtype.itemsize <= SUMS_BYTES:
            with suppress(NotOfTheKernel, ShapeError):  # what the kernel does not have
                made = _Sweep(net, fused).prepared()
        kept[fused] = made  # once it is whole: other threads may look
    return kept[fused]


class _Sweep:
    """Writes a network's forward and reverse sweep on a tape."""

    def __init__(self, net: Network, fused: bool) -> None:
        self.net, self.tape = net, Tape(net.dtype)
        tape, last = self.tape, net.depth
        x, c = tape.read(1, net.widths[0]), tape.read(1, net.widths[-1])
        out = tape.written(1, net.widths[-1])
        self.one = tape.constant(1)
        self.readers = Counter(s for sources in net.sources for s in sources)
        self.a: list[Value] = [tape.scaling(x)]
        self.slopes: list[Value | None] = [None]
        for l, layer in enumerate(net.layers, start=1):
            z = self._forward(layer, [self.a[s] for s in net.sources[l - 1]])
            same = layer.activation == IDENTITY or (fused and l == last)
            a, slopes = (z, None) if same else self._activated(layer.activation, z)
            self.a.append(a)
            self.slopes.append(slopes)
        tape.scaling(self.a[last], into=out)
        tape.ask()
        self.arriving: dict[int, Value] = {last: tape.scaling(c)}
        self.parts: list[dict[str, _Part]] = [{} for _ in net.layers]
        for l in range(last, 0, -1):
            delta = self._delta(l)
            self._back(l, net.layers[l - 1], net.sources[l - 1], delta)

    def prepared(self) -> _Prepared:
        size = max((part.where.stop for by in self.parts for part in by.values()), default=0)
        if not size:
            raise NotOfTheKernel
        return self.tape.pack(), size, self.parts

    def _forward(self, layer: Any, values: list[Value]) -> Value:
        tape, (a, *others) = self.tape, values
        if type(layer) is Dense and layer.rows == 1:
            b = None if layer.b is None else tape.constant(layer.b)
            return tape.product(a, tape.constant(layer.W.T), add=b)
        if type(layer) is Scale:
            shift = tape.constant(layer.shift)
            return tape.scaling(a, tape.constant(layer.scale), add=shift)
        if type(layer) is Elementwise:
            return a
        if type(layer) is Add:
            for other in others:
                a = tape.scaling(a, add=other)
            return a
        raise NotOfTheKernel

    def _activated(self, sigma: Any, z: Value) -> tuple[Value, Value]:
        if sigma in (SOFTMAX, LOG_SOFTMAX) and z.columns <= SOFTMAX_WIDTH:
            a, J = self.tape.softmax(z, log=sigma == LOG_SOFTMAX)
            assert J is not None
            return a, J
        if not isinstance(sigma, Activation) or code_of(sigma) is None:
            raise NotOfTheKernel
        return self.tape.activation(z, sigma)

    def _delta(self, l: int) -> Value:
        """Take the cotangent that has been collected at ``a^l`` through the activation."""
        c, slopes = self.arriving.pop(l, None), self.slopes[l]
        if c is None:  # a node that nothing reads
            raise NotOfTheKernel
        if slopes is None:
            return c
        return self.tape.scaling(c, slopes) if slopes.rows == 1 else self.tape.product(c, slopes)

    def _back(self, l: int, layer: Any, sources: tuple[int, ...], delta: Value) -> None:
        tape = self.tape
        if type(layer) is Dense:
            self._sum(l, "W", delta, self.a[sources[0]], layer.W)
            if layer.b is not None:
                self._sum(l, "b", self.one, delta, layer.b)
            source = sources[0]
            if source:
                slopes = self.slopes[source]
                alone = self.readers[source] == 1 and slopes is not None and slopes.rows == 1
                scale = slopes if alone else None
                self._collect(source, tape.product(delta, tape.constant(layer.W), scale=scale))
                self.slopes[source] = None if alone else slopes
            return
        if type(layer) is Scale:
            delta = tape.scaling(delta, tape.constant(layer.scale))
        for source in sources:
            self._collect(source, delta)

    def _collect(self, node: int, c: Value) -> None:
        if node:
            before = self.arriving.get(node)
            self.arriving[node] = c if before is None else self.tape.scaling(c, add=before)

    def _sum(self, l: int, name: str, a: Value, b: Value, parameter: Array) -> None:
        where = self.tape.sum_over_points(a, b)
        self.parts[l - 1][name] = _Part(where, self.tape.padded(b.columns), parameter.shape)
