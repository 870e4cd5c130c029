"""What the steps of a program do: one function of NumPy for each operation.

Every function takes the step, where to put the result (or None), and the registers it reads.

OpenBLAS keeps a product of up to ``serial`` multiplications on the thread that calls it.  So two
Python threads that cut their products into such slabs share the processor without getting into each
other's way, and without touching a setting of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians._checks import Array, read_only
from jacobians._workers import share
from jacobians.factors import Factor, parts_of
from jacobians.linearization import activation_map, layer_map
from jacobians.maps import Diagonal, DiagonalPlusLowRank, LinearMap, Matrix
from jacobians.program import Limits, Op, Step


class OtherStructure(Exception):
    """A rule gave another kind of map than at the point where it was described."""


class Kernels:
    """The functions, for given limits and a number of threads."""

    def __init__(self, limits: Limits, threads: int, allowed: int) -> None:
        self.limits, self.slabs, self.allowed = limits, threads > 1, allowed
        self.table: list[Callable[..., Any]] = [
            getattr(self, f"_{op.name.lower()}")
            for op in Op  # in the order of their numbers
        ]
        self.table.insert(0, lambda *_: None)

    # --- the forward pass -------------------------------------------------------------------------

    def _affine(self, step: Step, out: Array | None, a: Array, W: Array, b: Array) -> Array:
        z = self._times(a, W, out)
        # a loop over a short row spends its time on starting, so some rows are treated together
        together = min(self.limits.long_loop // len(b), len(z))
        if together < 2 or not z.flags.c_contiguous:
            z += b
            return z
        whole = len(z) // together * together
        rows = z[:whole].reshape(-1, together * len(b))
        rows += np.tile(b, together)
        z[whole:] += b
        return z

    def _call(self, step: Step, out: None, *values: Array) -> Array:
        z: Array = step.data.preactivation(*map(read_only, values))
        return z

    def _slopes(self, step: Step, out: Array | None, z: Array) -> Array:
        sigma: Any = step.data
        if "sigma_prime" in sigma.into_memory:
            return sigma.sigma_prime(z, out=out)  # type: ignore[no-any-return]
        return sigma.derivative(read_only(z))  # type: ignore[no-any-return]

    def _value(self, step: Step, out: Array | None, z: Array) -> Array:
        sigma: Any = step.data
        if "sigma" in sigma.into_memory:
            return sigma.sigma(z, out=out)  # type: ignore[no-any-return]
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
        if P.ndim == Q.ndim:  # a matrix for each point
            if out is None:
                out = np.empty((P.shape[0], *Q.shape[1:]), P.dtype)
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

    def _times(self, A: Array, W: Array, out: Array | None) -> Array:
        """Multiply rows by a matrix; in slabs if other threads are at work."""
        if not self.slabs:
            return np.matmul(A, W, out=out)
        *lead, rows, k = A.shape
        n = W.shape[1]
        if out is None:
            out = np.empty((*lead, rows, n), A.dtype)
        slab = max(1, self.limits.serial // (k * n))
        whole = rows // slab * slab
        if whole:
            left = A[..., :whole, :].reshape(*lead, -1, slab, k)
            np.matmul(left, W, out=out[..., :whole, :].reshape(*lead, -1, slab, n))
        if whole < rows:
            np.matmul(A[..., whole:, :], W, out=out[..., whole:, :])
        return out

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

    def _right(self, step: Step, out: Array | None, P: Array, A: LinearMap) -> Array:
        """``P A``: the transposed map on the rows of P, some at a time."""
        if isinstance(A, DiagonalPlusLowRank) and A.batch:
            return _by_low_rank(P, A, out)
        turned = A.T
        parts = self._columns(
            len(P), P[0].size + turned.shape[0] * P[0].size // A.shape[0], P.itemsize
        )
        if len(parts) == 1:
            return _through(turned, P)
        done = [_through(turned, P[part]) for part in parts]
        return np.concatenate(done, out=out)

    def _left(self, step: Step, out: Array | None, A: LinearMap, Q: Array) -> Array:
        """``A Q``: the map on the columns of Q, some at a time."""
        m, n = A.shape
        if not A.batch and Q.ndim == 3:  # all points are columns of one
            flat = Q.reshape(n, -1)
            result = np.empty((m, flat.shape[1]), Q.dtype)
            for part in self._columns(flat.shape[1], m + n, Q.itemsize):
                result[:, part] = A.apply(flat[:, part])
            return _into(out, result.reshape(m, *Q.shape[1:]))
        b = A.batch[0] if A.batch else Q.shape[1]
        columns = Q if Q.ndim == 2 else Q.transpose(1, 0, 2)
        if out is None:
            out = np.empty((m, b, Q.shape[-1]), Q.dtype)
        for part in self._columns(Q.shape[-1], b * (m + n), Q.itemsize):
            out[:, :, part] = A.apply(columns[..., part]).transpose(1, 0, 2)
        return out

    def _written(self, A: LinearMap, out: Array | None) -> Array:
        """Apply a map to the identity, from its smaller side, some columns at a time."""
        (m, n), b = A.shape, A.batch[0] if A.batch else 1
        if out is None:
            out = np.empty((m, b, n), A.dtype)
        target = out
        if m < n:
            A, target, n = A.T, out.transpose(2, 1, 0), m
        for part in self._columns(n, b * sum(A.shape), A.dtype.itemsize):
            width = len(range(n)[part])
            E = np.zeros((n, width), A.dtype)
            E[range(n)[part], range(width)] = 1
            columns = A.apply(E)
            target[:, :, part] = columns.transpose(1, 0, 2) if A.batch else columns[:, None, :]
        return out

    def _columns(self, count: int, numbers: int, itemsize: int) -> list[slice]:
        together = max(1, self.limits.apply_bytes // (2 * numbers * itemsize))
        return [slice(k, k + together) for k in range(0, count, together)]

    def _add(self, step: Step, out: Array | None, P: Array, Q: Array) -> Array:
        if step.data == "slopes":
            if out is None:
                out = P.copy()
            elif out is not P:
                out[...] = P
            _diagonals(out)[...] += np.atleast_2d(Q)
            return out
        return np.add(P, Q[:, None, :] if Q.ndim == 2 else Q, out=out)

    def _write(self, step: Step, out: Array | None, A: Any) -> Array:
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


def _through(A: LinearMap, P: Array) -> Array:
    """Apply a map to every row of P; the rows stay where they are, for maps that keep layouts."""
    if P.ndim == 2:
        rows = A.apply(P.T)
        return rows.transpose(2, 0, 1) if A.batch else rows.T[:, None, :]
    if A.batch:
        return A.apply(P.transpose(1, 2, 0)).transpose(2, 0, 1)
    m, b, k = P.shape
    return A.apply(P.reshape(m * b, k).T).T.reshape(m, b, A.shape[0])


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


def _by_low_rank(P: Array, A: DiagonalPlusLowRank, out: Array | None) -> Array:
    """``P (diag(d) + U Vᵀ)``."""
    rows = P.transpose(1, 0, 2) if P.ndim == 3 else P
    result = rows * A.entries[:, None, :]
    result += (rows @ A.left) @ np.swapaxes(A.right, 1, 2)
    return _into(out, result.transpose(1, 0, 2))
