"""What the steps of a program do: one function of NumPy for each operation.

Every function takes the step, where to put the result, and the registers it reads.  Where it may
take new memory, it is told None.

OpenBLAS keeps a product of up to ``serial`` multiplications on the thread that calls it.  So two
Python threads that cut their products into such slabs share the processor without getting into each
other's way, and without touching a setting of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from jacobians._checks import Array, read_only
from jacobians._machine import times_in_slabs
from jacobians._workers import share
from jacobians.activations import VectorActivation
from jacobians.factors import Factor, parts_of, put_together
from jacobians.linearization import activation_map, layer_map
from jacobians.maps import (
    BlockDiagonal,
    Diagonal,
    Identity,
    LinearMap,
    Matrix,
    Product,
    Sum,
    blocks_of,
)
from jacobians.maps.elementary import unchecked
from jacobians.program import Limits, Op, Step

# Up to this many numbers, calling NumPy takes longer than the arithmetic.
SHORT = 2**13
# These fill memory that is there.
FILLING = (Op.LIVE, Op.ROWS, Op.WRITE)


class OtherStructure(Exception):
    """A rule gave another kind of map than at the point where it was described."""


class Kernels:
    """The functions, for given limits and a number of threads."""

    def __init__(self, limits: Limits, threads: int, allowed: int) -> None:
        self.limits, self.slabs, self.allowed = limits, threads > 1, allowed

    def code(self, steps: Iterable[Step]) -> list[tuple[Any, ...]]:
        """Return for each step its function, and what is asked of it at every run."""
        functions = {op: getattr(self, f"_{op.name.lower()}") for op in Op}
        return [
            (functions[s.op], s, s.out, s.args, s.slot, s.op in FILLING, s.frees, s.checked)
            for s in steps
        ]

    def run(
        self, code: list[tuple[Any, ...]], registers: Any, result: Array, slots: Sequence[Array]
    ) -> bool:
        """Go through steps, the last of which fills ``result``; False if a value left the range."""
        finite, made, b = True, None, result.shape[1]
        for function, step, target, args, slot, fills, frees, checked in code:
            out = None
            if slot == -2:
                out = result
            elif slot >= 0 and (slots or fills):
                shape = [n or b for n in step.shape]
                memory = slots[slot] if slots else np.empty(prod(shape), result.dtype)
                out = memory[: prod(shape)].reshape(shape)
            made = function(step, out, *[registers[k] for k in args])
            registers[target] = made
            if checked and finite and not is_finite(made):
                finite = bool(np.isfinite(made).all())
            for k in frees:
                registers[k] = None
        if made is not result:
            result[...] = made
        return finite

    # --- the forward pass -------------------------------------------------------------------------

    def _affine(self, step: Step, out: None, a: Array, W: Array, b: Array) -> Array:
        z = self._times(a, W)
        z += b
        return z

    def _call(self, step: Step, out: None, *values: Array) -> Array:
        z: Array = step.data.preactivation(*map(read_only, values))
        return z

    def _slopes(self, step: Step, out: None, z: Array) -> Array:
        sigma: Any = step.data
        plain = "sigma_prime" in sigma.into_memory  # a formula of our own, which needs no checks
        d: Array = sigma.sigma_prime(z) if plain else sigma.derivative(read_only(z))
        return d

    def _value(self, step: Step, out: None, z: Array) -> Array:
        sigma: Any = step.data
        a: Array = sigma.sigma(z) if "sigma" in sigma.into_memory else sigma(read_only(z))
        return a

    def _layer_maps(self, step: Step, out: None, *values: Array) -> tuple[LinearMap, ...]:
        maps = layer_map(step.data, *map(read_only, values))
        return maps if isinstance(maps, tuple) else (maps,)

    def _activation_map(self, step: Step, out: None, z: Array) -> Any:
        sigma: Any = step.data
        rule = activation_map.dispatch(type(sigma))
        by_parts = rule is activation_map.dispatch(VectorActivation)  # and no rule of a subclass
        if by_parts and z.shape[-1] <= self.limits.written_out:
            return sigma.matrix(read_only(z))  # which is simpler than the parts
        return (rule(sigma, read_only(z)),)

    def _leaf(self, step: Step, out: None, maps: Any) -> Any:
        """Take the wanted part out of a map, as the array that its kind is multiplied as."""
        leaf: Factor = step.data
        if isinstance(maps, np.ndarray) and leaf.kind == "diagonal":
            return maps[:, leaf.rows]
        if isinstance(maps, np.ndarray):
            matrices = maps
        else:
            assert leaf.source is not None
            first, *path = leaf.source.path
            A = maps[first]
            for k, inside in zip(path, leaf.source.inside, strict=True):
                if put_together(A) != inside:
                    raise OtherStructure
                A = parts_of(A)[k]
            if leaf.kind == "map":
                return A.T if leaf.turned else A
            if not A.batch or (leaf.kind == "diagonal" and not isinstance(A, Diagonal)):
                raise OtherStructure
            if leaf.kind == "diagonal":
                return A.entries if leaf.rows is None else A.entries[..., leaf.rows]
            matrices = A.array if isinstance(A, Matrix) else A.to_dense()
        axes = (2, 0, 1) if leaf.turned else (1, 0, 2)
        return leaf.chosen(matrices).transpose(axes)

    # --- diagonals --------------------------------------------------------------------------------

    def _multiply_slopes(self, step: Step, out: Array | None, d: Array, e: Array) -> Array:
        return np.multiply(d, e, out=out)

    def _scale_rows(self, step: Step, out: Array | None, d: Array, Q: Array) -> Array:
        return np.multiply(_stack(Q), (d if d.ndim == 2 else d[None]).T[:, :, None], out=out)

    def _scale_columns(self, step: Step, out: Array | None, P: Array, d: Array) -> Array:
        return np.multiply(_stack(P), d, out=out)

    # --- matrices ---------------------------------------------------------------------------------

    def _product(self, step: Step, out: Array | None, P: Array, Q: Array) -> Array:
        m, k, n = len(P), len(Q), Q.shape[-1]
        if P.ndim == Q.ndim:  # a matrix for each point
            if out is None:
                out = np.empty((m, max(P.shape[1], Q.shape[1]), n), P.dtype)
            np.matmul(_points_first(P), _points_first(Q), out=_points_first(out))
            return out
        if out is not None and not out.flags.c_contiguous:
            # a large product and a copy, or many small ones into place
            if (P.shape[1] if P.ndim == 3 else n) < self.limits.copy:
                return _into(out, self._product(step, None, P, Q))
            if P.ndim == 3:
                return self._times(P, Q, out)
            np.matmul(P, _points_first(Q), out=_points_first(out))
            return out
        if P.ndim == 3:
            flat = None if out is None else out.reshape(-1, n)
            return self._times(P.reshape(-1, k), Q, flat).reshape(m, -1, n)
        flat = None if out is None else out.reshape(m, -1)
        return np.matmul(P, Q.reshape(k, -1), out=flat).reshape(m, -1, n)

    def _times(self, A: Array, W: Array, out: Array | None = None) -> Array:
        """Multiply rows by a matrix; in slabs if other threads are at work."""
        if not self.slabs:
            return np.matmul(A, W, out=out)
        return times_in_slabs(A, W, out, self.limits.serial)

    def _table(self, step: Step, out: Array | None, d: Array, table: Array) -> Array:
        k, m, n = table.shape
        if out is not None and _points_first(out).flags.c_contiguous:
            self._times(d, table.reshape(k, m * n), _points_first(out).reshape(-1, m * n))
            return out
        if not self.slabs:
            return np.matmul(d, _points_first(table), out=out)
        out = np.empty((m, len(d), n), d.dtype) if out is None else out
        for i, row in enumerate(out):
            self._times(d, table[:, i], row)
        return out

    def _live(self, step: Step, out: Array, P: Array, d: Array, Q: Array) -> Array:
        """``P_i diag(d_i) Q_i``, point by point and leaving out the units whose slope is 0.

        For large results of thin factors, as past the bottleneck of an autoencoder: there half of
        the units may be dead, and writing takes as long as computing, so that threads pay.
        """

        def one(i: int) -> None:
            live = np.flatnonzero(d[i])
            if not len(live):
                out[:, i] = 0
                return
            left, right = P[:, i, live] * d[i, live], Q[live, i]
            if self.allowed > 1:
                times_in_slabs(left, right, out[:, i], self.limits.serial)
            else:
                np.matmul(left, right, out=out[:, i])

        self._share(one, range(len(d)))
        return out

    # --- other maps -------------------------------------------------------------------------------

    def _right(self, step: Step, out: Array | None, P: Array, A: LinearMap) -> Array:
        """``P A``: the transposed map on the rows of P."""
        return _into(out, _applied(A.T, _stack(P)))

    def _left(self, step: Step, out: Array | None, Q: Array, A: LinearMap) -> Array:
        """``A Q``: the map on the columns of Q."""
        return _into(out, _applied(A, _stack(Q).transpose(2, 1, 0)).transpose(2, 1, 0))

    def _rows(self, step: Step, out: Array, X: Array, *read: Any) -> Array:
        """Go through the steps of ``X A`` or ``A X`` for some rows or columns of X at a time."""
        steps, numbers, left = step.data
        code, (register, *others) = self.code(steps), step.args
        count, b, X = out.shape[2 if left else 0], out.shape[1], _stack(X)

        def some(part: slice) -> None:
            where = (..., part) if left else part
            registers = {register: X[where], **dict(zip(others, read, strict=True))}
            self.run(code, registers, out[where], ())

        self._in_pieces(count, b * numbers // count * out.itemsize, some)
        return out

    def _blocks(self, step: Step, out: None, *held: Any) -> LinearMap:
        """Multiply maps made of blocks: their blocks, before anything large."""
        A = _composed(step.data, iter(held), held[0].dtype)
        return BlockDiagonal(unchecked(Matrix, blocks_of(A)), A.block_count, bool(A.batch))

    def _written(self, A: LinearMap, out: Array) -> None:
        """Apply a map to the identity, from its smaller side, some columns at a time."""
        B, J = (A, out.transpose(2, 1, 0)) if A.shape[1] <= A.shape[0] else (A.T, out)

        def some(part: slice) -> None:
            E = np.eye(B.shape[1], len(J[part]), -part.start, dtype=B.dtype)
            J[part] = _applied(B, E.T[:, None, :])

        self._in_pieces(len(J), 2 * out.shape[1] * sum(A.shape) * out.itemsize, some)

    def _in_pieces(self, count: int, nbytes: int, work: Callable[[slice], None]) -> None:
        """Treat some of so many rows at a time, each of which takes so much memory."""
        together = max(1, self.limits.apply_bytes // nbytes)
        self._share(work, [slice(k, k + together) for k in range(0, count, together)])

    def _share(self, work: Callable[[Any], None], jobs: Sequence[Any]) -> None:
        """Call ``work`` with every job, on as many threads as there may be."""

        def quietly(job: Any, _: int) -> None:
            with np.errstate(all="ignore"):  # threads begin with warnings on
                work(job)

        share(quietly, jobs, 1 if self.slabs else self.allowed)

    def _add(self, step: Step, out: Array | None, P: Array, Q: Array) -> Array:
        P = _stack(P)
        if step.data == "slopes":
            d = np.atleast_2d(Q)
            if out is None:
                out = np.empty((len(P), max(P.shape[1], len(d)), len(P)), P.dtype)
            if out is not P:
                out[...] = P
            _diagonals(out)[...] += d
            return out
        return np.add(P, _stack(Q), out=out)

    def _write(self, step: Step, out: Array, A: Any) -> Array:
        if step.data == "map":
            self._written(A, out)
        elif step.data in ("matrix", "stack"):
            out[...] = _stack(A)
        else:
            out[...] = 0
        if step.data == "slopes":
            _diagonals(out)[...] = A
        if step.data == "blocks":
            each = A.blocks.to_dense().reshape(-1, A.count, *A.blocks.shape)
            m, n = A.blocks.shape
            for k in range(A.count):
                block = out[k * m : (k + 1) * m, :, k * n : (k + 1) * n]
                block[...] = _points_first(each[:, k])
        return out


def _composed(A: Factor, held: Iterator[Any], dtype: Any) -> LinearMap:
    """Compose the map that a factor is, from what its parts were loaded as."""
    if A.kind == "identity":
        return Identity(A.shape[0], dtype)
    parts = [_composed(part, held, dtype) for part in A.parts]
    if parts:
        return Sum(parts) if A.kind == "sum" else Product(parts)
    B: Any = next(held)
    return unchecked(Diagonal, B) if A.kind == "diagonal" else B


def _applied(A: LinearMap, P: Array) -> Array:
    """Apply a map to every row of P (k, b, n); the rows stay where they are."""
    if A.batch:
        return A.apply(P.transpose(1, 2, 0)).transpose(2, 0, 1)
    k, b, n = P.shape
    if P.strides[0] < P.strides[2]:  # columns of something: all points are columns of one
        return A.apply(P.transpose(2, 1, 0).reshape(n, b * k)).reshape(-1, b, k).transpose(2, 1, 0)
    return A.apply(P.reshape(k * b, n).T).T.reshape(k, b, -1)


def _points_first(A: Array) -> Array:
    """Swap the first two axes: (m, b, n) and (b, m, n)."""
    return A.transpose(1, 0, 2)


def _stack(A: Array) -> Array:
    """Return a matrix as a stack for one point, which goes with any number of them."""
    return A[:, None, :] if A.ndim == 2 else A


def _diagonals(A: Array) -> Array:
    """Return the diagonals of a stack (m, b, m), as a writable view (b, m)."""
    m, b, _ = A.shape
    row, point, column = A.strides
    return np.lib.stride_tricks.as_strided(A, (b, m), (point, row + column))


def _into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def is_finite(values: Array) -> bool:
    """Tell whether all entries are finite; perhaps no, if only a sum of them is not."""
    if values.size <= SHORT and values.flags.c_contiguous:
        flat = values.ravel()  # one short call; larger ones would wake the threads of BLAS
        return isfinite(flat.dot(flat))
    return isfinite(values.sum())
