"""What the steps of a program do: one function of NumPy for each operation.

Every function takes the step, where to put the result (or None), and the registers it reads.

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
from jacobians.factors import Factor, parts_of
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
from jacobians.program import Limits, Step

# Up to this many numbers, calling NumPy takes longer than the arithmetic.
SHORT = 2**13


class OtherStructure(Exception):
    """A rule gave another kind of map than at the point where it was described."""


class Kernels:
    """The functions, for given limits and a number of threads."""

    def __init__(self, limits: Limits, threads: int, allowed: int) -> None:
        self.limits, self.slabs, self.allowed = limits, threads > 1, allowed

    def code(self, steps: Iterable[Step]) -> list[tuple[Any, ...]]:
        """Return for each step its function, and what is asked of it at every run."""
        return [
            (getattr(self, f"_{s.op.name.lower()}"), s, s.out, s.args, s.slot, s.frees, s.checked)
            for s in steps
        ]

    def run(
        self, code: list[tuple[Any, ...]], registers: Any, result: Array, slots: Sequence[Array]
    ) -> bool:
        """Go through steps, the last of which fills ``result``; False if a value left the range."""
        finite, made, b = True, None, len(registers[0])
        for kernel, step, target, args, slot, frees, checked in code:
            out = None
            if slot == -2:
                out = result
            elif slot >= 0 and slots:
                shape = [n or b for n in step.shape]
                out = slots[slot][: prod(shape)].reshape(shape)
            made = kernel(step, out, *[registers[k] for k in args])
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
        if "sigma_prime" in sigma.into_memory:  # a plain formula
            return sigma.sigma_prime(z)  # type: ignore[no-any-return]
        return sigma.derivative(read_only(z))  # type: ignore[no-any-return]

    def _value(self, step: Step, out: None, z: Array) -> Array:
        sigma: Any = step.data
        if "sigma" in sigma.into_memory:
            return sigma.sigma(z)  # type: ignore[no-any-return]
        return sigma(read_only(z))  # type: ignore[no-any-return]

    def _layer_maps(self, step: Step, out: None, *values: Array) -> tuple[LinearMap, ...]:
        maps = layer_map(step.data, *map(read_only, values))
        return maps if isinstance(maps, tuple) else (maps,)

    def _activation_map(self, step: Step, out: None, z: Array) -> Any:
        matrix = getattr(step.data, "matrix", None)  # where writing out is simpler than the parts
        if matrix is not None and z.shape[-1] <= self.limits.written_out:
            return matrix(read_only(z))
        return (activation_map(step.data, read_only(z)),)

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
            for k in path:
                A = _part(A, k)
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
        if self.slabs:
            if out is None:
                out = np.empty((m, len(d), n), d.dtype)
            for i, row in enumerate(out):
                self._times(d, table[:, i], row)
            return out
        if out is not None and not out.flags.c_contiguous:
            J = _points_first(out)
            if J.flags.c_contiguous:
                np.matmul(d, table.reshape(k, m * n), out=J.reshape(-1, m * n))
                return out
        return np.matmul(d, _points_first(table), out=out)

    def _live(self, step: Step, out: Array | None, P: Array, d: Array, Q: Array) -> Array:
        """``P_i diag(d_i) Q_i``, point by point and leaving out the units whose slope is 0.

        For large results of thin factors, as past the bottleneck of an autoencoder: there half of
        the units may be dead, and writing takes as long as computing, so that threads pay.
        """
        J = np.empty((P.shape[0], *Q.shape[1:]), P.dtype) if out is None else out

        def one(i: int) -> None:
            live = np.flatnonzero(d[i])
            left, right = P[:, i, live] * d[i, live], Q[live, i]
            if self.allowed > 1:
                times_in_slabs(left, right, J[:, i], self.limits.serial)
            else:
                np.matmul(left, right, out=J[:, i])

        self._share(one, range(len(d)))
        return J

    # --- other maps -------------------------------------------------------------------------------

    def _right(self, step: Step, out: Array | None, P: Array, A: LinearMap) -> Array:
        """``P A``: the transposed map on the rows of P."""
        return _into(out, _applied(A.T, _stack(P)))

    def _left(self, step: Step, out: Array | None, Q: Array, A: LinearMap) -> Array:
        """``A Q``: the map on the columns of Q."""
        return _into(out, _applied(A, _stack(Q).transpose(2, 1, 0)).transpose(2, 1, 0))

    def _rows(self, step: Step, out: Array | None, points: Array, X: Array, *read: Any) -> Array:
        """Go through the steps of ``X A`` or ``A X`` for some rows or columns of X at a time."""
        steps, numbers, left = step.data
        code, (_, register, *others) = self.code(steps), step.args
        if out is None:
            out = np.empty([n or len(points) for n in step.shape], X.dtype)
        count, X, J = out.shape[2 if left else 0], _stack(X), out

        def some(part: slice) -> None:
            where = (..., part) if left else part
            registers = {0: points, register: X[where], **dict(zip(others, read, strict=True))}
            self.run(code, registers, J[where], ())

        self._in_pieces(count, len(points) * numbers // count * X.itemsize, some)
        return out

    def _blocks(self, step: Step, out: None, *held: Any) -> LinearMap:
        """Multiply maps made of blocks: their blocks, before anything large."""
        A = _composed(step.data, iter(held), held[0].dtype)
        return BlockDiagonal(unchecked(Matrix, blocks_of(A)), A.block_count, bool(A.batch))

    def _written(self, A: LinearMap, out: Array | None) -> Array:
        """Apply a map to the identity, from its smaller side, some columns at a time."""
        (m, n), b = A.shape, A.batch[0] if A.batch else 1
        if out is None:
            out = np.empty((m, b, n), A.dtype)
        B, target = (A, out.transpose(2, 1, 0)) if n <= m else (A.T, out)

        def columns(part: slice) -> None:
            E = np.eye(B.shape[1], len(target[part]), -part.start, dtype=B.dtype)
            target[part] = _applied(B, E.T[:, None, :])

        self._in_pieces(len(target), 2 * b * (m + n) * out.itemsize, columns)
        return out

    def _blocks_written(self, A: BlockDiagonal, out: Array | None) -> Array:
        blocks, count = A.blocks.to_dense(), A.count
        *_, m, n = blocks.shape
        if out is None:
            out = np.empty((A.shape[0], len(blocks) // count, A.shape[1]), A.dtype)
        out[...] = 0
        for k in range(count):
            out[k * m : (k + 1) * m, :, k * n : (k + 1) * n] = blocks[k::count].transpose(1, 0, 2)
        return out

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
        if step.data == "slopes":
            if out is None:
                out = P.copy()
            elif out is not P:
                out[...] = P
            _diagonals(out)[...] += np.atleast_2d(Q)
            return out
        return np.add(P, _stack(Q), out=out)

    def _write(self, step: Step, out: Array | None, A: Any) -> Array:
        if step.data == "map":
            return self._written(A, out)
        if step.data in ("matrix", "stack"):
            return _into(out, _stack(A))
        if step.data == "blocks":
            return self._blocks_written(A, out)
        d = np.atleast_2d(A)
        if out is None:
            out = np.empty((d.shape[1], *d.shape), d.dtype)
        out[...] = 0
        _diagonals(out)[...] = d
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


def _part(A: LinearMap, k: int) -> LinearMap:
    parts = parts_of(A)
    if k >= len(parts):
        raise OtherStructure
    return parts[k]


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
