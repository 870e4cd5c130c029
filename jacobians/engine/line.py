"""The chain at a single point, multiplied out in the order of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.engine.point import Point, prepare_point
from jacobians.engine.products import point_by_point
from jacobians.engine.program import Program
from jacobians.engine.ranges import is_within
from jacobians.maps.association import Order
from jacobians.network import Network
from jacobians.planning import Plan


@dataclass(frozen=True)
class Line:
    """What ``compile_line`` makes of a plan."""

    point: Point
    known: tuple[Any, ...]  # the factors that all points share, multiplied as far as possible
    order: tuple[int, ...]  # numbers of factors; -1 multiplies the last two
    tame: bool  # no partial product can overflow

    def run(self, x: Array, value: Array | None, J: Array) -> bool:
        """Fill ``a^of`` and its Jacobian in; False if ``x`` needs a closer look."""
        with np.errstate(all="ignore"):
            if not is_within(x, self.point.radius):
                return False
            self.multiply(self.point.row(x, value), J[0] if J.ndim == 3 else J)
            return self.tame or bool(np.isfinite(J).all())

    def multiply(self, Z: Array, J: Array) -> None:
        """Multiply the chain out into ``J``, given the row of all preactivations."""
        values = self.point.factors(Z, self.known)
        result = _multiply_out(values, self.order, J if J.flags.c_contiguous else None)
        if result is not J:
            J[...] = result if result.ndim == 2 else np.diag(result)


def _multiply_out(values: list[Any], order: tuple[int, ...], J: Array | None) -> Array:
    """Multiply vectors (diagonals) and matrices, the last product into ``J``."""
    done: list[tuple[Array, bool]] = []  # and whether its memory is ours
    last = len(order) - 1
    for place, k in enumerate(order):
        if k >= 0:
            done.append((values[k], False))
            continue
        (B, B_ours), (A, A_ours) = done.pop(), done.pop()
        out = J if place == last and max(A.ndim, B.ndim) == 2 else None
        if B.ndim == 1:
            result = np.multiply(A, B, out=A if out is None and A_ours else out)
        elif A.ndim == 1:
            result = np.multiply(A[:, None], B, out=B if out is None and B_ours else out)
        else:
            result = A.dot(B, out=out)
        done.append((result, True))
    return done[0][0]


def compile_line(net: Network, plan: Plan, program: Program) -> Line | None:
    """Bind a plan to the arrays of a network, for single points; None if the program does better.

    That is so where units that are dead at the point are worth leaving out.
    """
    kernels = [step.kernel.__qualname__ for step in program.steps]
    live = any(kernel.startswith(point_by_point.__name__) for kernel in kernels)
    point = None if live else prepare_point(net, plan.of, plan.factors)
    if point is None or plan.association is None:
        return None
    known = list(point.known)
    with np.errstate(all="ignore"):
        order = _folded(plan.association.order, known)
    return Line(point, tuple(known), tuple(order), program.tame)


def _folded(order: Order, known: list[Any]) -> list[int]:
    """Write an order as numbers, the operation last, and multiply what is known already."""
    if isinstance(order, int):
        return [order]
    left, right = (_folded(part, known) for part in order)
    if len(left) == len(right) == 1 and known[left[0]] is not None and known[right[0]] is not None:
        known[left[0]] = _multiply_out([known[left[0]], known[right[0]]], (0, 1, -1), None)
        return left
    return [*left, *right, -1]
