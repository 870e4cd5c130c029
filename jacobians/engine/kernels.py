"""What the steps of a program do: one function of NumPy for each operation.

Every function takes the step, where to put the result (or None), and the registers it reads.

OpenBLAS keeps a product of up to ``serial`` multiplications on the thread that calls it.  So two
Python threads that cut their products into such slabs share the processor without getting into each
other's way, and without touching a setting of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from jacobians._checks import Array, read_only
from jacobians._machine import times_in_slabs
from jacobians._workers import share
from jacobians.engine.blocks import multiply_blocks, write_blocks
from jacobians.factors import Factor, parts_of
from jacobians.linearization import activation_map, layer_map
from jacobians.maps import Diagonal, LinearMap, Matrix
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
        if d.ndim == 2:
            return np.multiply(Q if Q.ndim == 3 else Q[:, None, :], d.T[:, :, None], out=out)
        return np.multiply(Q, d[:, None, None], out=out)

    def _scale_columns(self, step: Step, out: Array | None, P: Array, d: Array) -> Array:
        return np.multiply(P[:, None, :] if P.ndim == 2 else P, d, out=out)

    # --- matrices ---------------------------------------------------------------------------------

    def _product(self, step: Step, out: Array | None, P: Array, Q: Array) -> Array:
        return self._multiplied(P, Q, out)

    def _multiplied(self, P: Array, Q: Array, out: Array | None) -> Array:
        if P.ndim == Q.ndim:  # a matrix for each point
            if out is None:
                out = np.empty((P.shape[0], max(P.shape[1], Q.shape[1]), Q.shape[2]), P.dtype)
            np.matmul(_points_first(P), _points_first(Q), out=_points_first(out))
            return out
        return self._stack_by_matrix(P, Q, out) if P.ndim == 3 else self._matrix_by_stack(P, Q, out)

    def _stack_by_matrix(self, P: Array, W: Array, out: Array | None) -> Array:
        m, b, k = P.shape
        if out is not None and not out.flags.c_contiguous:
            if b >= self.limits.copy:
                return self._times(P, W, out)
            out[...] = self._stack_by_matrix(P, W, None)
            return out
        flat = None if out is None else out.reshape(m * b, -1)
        return self._times(P.reshape(m * b, k), W, flat).reshape(m, b, -1)

    def _matrix_by_stack(self, W: Array, Q: Array, out: Array | None) -> Array:
        k, b, n = Q.shape
        if out is not None and not out.flags.c_contiguous:
            if n >= self.limits.copy:
                np.matmul(W, _points_first(Q), out=_points_first(out))
            else:
                out[...] = self._matrix_by_stack(W, Q, None)
            return out
        flat = None if out is None else out.reshape(-1, b * n)
        return np.matmul(W, Q.reshape(k, b * n), out=flat).reshape(-1, b, n)

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

        def one(i: int, _: int) -> None:
            with np.errstate(all="ignore"):
                live = np.flatnonzero(d[i])
                if not len(live):
                    J[:, i] = 0
                    return
                left = P[:, i, live] * d[i, live]
                if self.allowed > 1:
                    alone._times(left, Q[live, i], J[:, i])
                else:
                    np.matmul(left, Q[live, i], out=J[:, i])

        alone = self if self.slabs else Kernels(self.limits, self.allowed, self.allowed)
        share(one, range(len(d)), self.allowed)
        return J

    # --- other maps -------------------------------------------------------------------------------

    def _right(self, step: Step, out: Array | None, P: Array, *held: Any) -> Array:
        """``P A``: the transposed map on the rows of P."""
        turned = [A.T if isinstance(A, LinearMap) else A for A in held]
        P = P[:, None, :] if P.ndim == 2 else P
        return self._passed(step.data, P, turned, out, False)

    def _left(self, step: Step, out: Array | None, Q: Array, *held: Any) -> Array:
        """``A Q``: the map on the columns of Q, which are the rows of its transpose."""
        turned = [
            A.T if part.kind == "matrix" else A
            for part, A in zip(step.data.leaves(), held, strict=True)
        ]
        columns = (Q[:, None, :] if Q.ndim == 2 else Q).transpose(2, 1, 0)
        target = None if out is None else out.transpose(2, 1, 0)
        rows = self._passed(step.data, columns, turned, target, True)
        return rows.transpose(2, 1, 0) if out is None else out

    def _passed(
        self, A: Factor, rows: Array, held: list[Any], out: Array | None, left: bool
    ) -> Array:
        """Send rows (k, b, m) through a factor, some at a time."""
        parts = list(A.leaves())
        at = dict(zip(map(id, parts), held, strict=True))
        own = [B for part, B in zip(parts, held, strict=True) if part.source is not None]
        multiply_blocks(A, at, left)
        b = max([rows.shape[1], *map(_points, own)])
        numbers = b * A.on_the_way
        if self._together(numbers, rows.itemsize) >= len(rows):
            return _into(out, self._through(A, rows, at, left))
        if out is None:
            out = np.empty((len(rows), b, A.shape[0 if left else 1]), rows.dtype)
        self._in_pieces(len(rows), numbers, out, lambda i: self._through(A, rows[i], at, left))
        return out

    def _through(self, A: Factor, P: Array, at: dict[int, Any], left: bool) -> Array:
        """``P A``, or ``P Aᵀ`` if ``left``, for rows P and what the parts of A hold."""
        if A.kind == "product":
            for part in A.parts[::-1] if left else A.parts:
                P = self._through(part, P, at, left)
            return P
        if A.kind == "sum":
            return _total([self._through(part, P, at, left) for part in A.parts])
        if A.kind == "graph":
            return self._along(A, P, at, left)
        B = at[id(A)]
        if A.kind == "identity":
            return P
        if A.kind == "diagonal":
            scaled: Array = P * B
            return scaled
        return _applied(B, P) if isinstance(B, LinearMap) else self._multiplied(P, B, None)

    def _along(self, A: Factor, P: Array, at: dict[int, Any], left: bool) -> Array:
        """Pass the edges of a graph, from its first node to its last if ``left``, else back."""
        last = len(A.parts)
        arriving: dict[int, list[Array]] = {0 if left else last: [P]}
        edges = [(s, l, part) for l, entering in enumerate(A.parts, 1) for s, part in entering]
        for s, l, part in edges if left else edges[::-1]:
            start, stop = (s, l) if left else (l, s)
            if len(arriving[start]) > 1:
                arriving[start] = [_total(arriving[start])]
            arriving.setdefault(stop, []).append(self._through(part, arriving[start][0], at, left))
        return _total(arriving[last if left else 0])

    def _written(self, A: LinearMap, out: Array | None) -> Array:
        """Apply a map to the identity, from its smaller side, some columns at a time."""
        (m, n), b = A.shape, A.batch[0] if A.batch else 1
        if out is None:
            out = np.empty((m, b, n), A.dtype)
        target = out
        if m < n:
            A, target, n = A.T, out.transpose(2, 1, 0), m

        def columns_of(part: slice) -> Array:
            width = len(range(n)[part])
            E = np.zeros((n, width), A.dtype)
            E[range(n)[part], range(width)] = 1
            columns = A.apply(E)
            return columns.transpose(2, 0, 1) if A.batch else columns.T[:, None, :]

        self._in_pieces(n, 2 * b * sum(A.shape), target.transpose(2, 1, 0), columns_of)
        return out

    def _in_pieces(
        self, count: int, numbers: int, out: Array, rows: Callable[[slice], Array]
    ) -> None:
        """Fill ``out`` some rows at a time, on as many threads as there may be."""
        together = self._together(numbers, out.itemsize)

        def one(part: slice, _: int) -> None:
            with np.errstate(all="ignore"):
                out[part] = rows(part)

        pieces = [slice(k, k + together) for k in range(0, count, together)]
        share(one, pieces, 1 if self.slabs else self.allowed)

    def _together(self, numbers: int, itemsize: int) -> int:
        return max(1, self.limits.apply_bytes // (numbers * itemsize))

    def _add(self, step: Step, out: Array | None, P: Array, Q: Array) -> Array:
        if step.data == "slopes":
            if out is None:
                out = P.copy()
            elif out is not P:
                out[...] = P
            _diagonals(out)[...] += np.atleast_2d(Q)
            return out
        return np.add(P, Q[:, None, :] if Q.ndim == 2 else Q, out=out)

    def _write(self, step: Step, out: Array | None, A: Any, *others: Any) -> Array:
        if isinstance(step.data, Factor):
            return write_blocks(step.data, out, (A, *others))
        if isinstance(A, LinearMap):
            return self._written(A, out)
        if step.data in ("matrix", "stack"):
            return _into(out, A[:, None, :] if A.ndim == 2 else A)
        d = np.atleast_2d(A)
        if out is None:
            out = np.empty((d.shape[1], *d.shape), d.dtype)
        out[...] = 0
        _diagonals(out)[...] = d
        return out


def _applied(A: LinearMap, P: Array) -> Array:
    """Apply a map to every row of P (k, b, n); the rows stay where they are."""
    if A.batch:
        return A.apply(P.transpose(1, 2, 0)).transpose(2, 0, 1)
    k, b, n = P.shape
    if P.strides[0] < P.strides[2]:  # columns of something: all points are columns of one
        return A.apply(P.transpose(2, 1, 0).reshape(n, b * k)).reshape(-1, b, k).transpose(2, 1, 0)
    return A.apply(P.reshape(k * b, n).T).T.reshape(k, b, -1)


def _points(B: Any) -> int:
    """Return for how many points a map, or what a factor holds of it, was loaded."""
    count: int = (B.batch or (1,))[0] if isinstance(B, LinearMap) else B.shape[-2]
    return count


def _total(terms: list[Array]) -> Array:
    total = terms[0]
    for k, term in enumerate(terms[1:]):
        total = np.add(total, term, out=total if k else None)
    return total


def _part(A: LinearMap, k: int) -> LinearMap:
    parts = parts_of(A)
    if k >= len(parts):
        raise OtherStructure
    return parts[k]


def _points_first(A: Array) -> Array:
    """Swap the first two axes: (m, b, n) and (b, m, n)."""
    return A.transpose(1, 0, 2)


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
