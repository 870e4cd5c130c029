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
    left: tuple[int, ...]  # the chain is left times right; numbers of factors, -1 multiplies two
    right: tuple[int, ...]  # empty if there is nothing to multiply
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
        A = _multiply_out(values, self.left)
        B = _multiply_out(values, self.right) if self.right else None
        if A.ndim == 1 and (B is None or B.ndim == 1):
            J[...] = np.diag(A if B is None else A * B)
        elif B is None or not J.flags.c_contiguous:
            J[...] = A if B is None else _times(A, B)
        elif A.ndim == B.ndim:
            A.dot(B, J)
        else:
            np.multiply(A if B.ndim == 1 else A[:, None], B, J)


def _multiply_out(values: list[Any], order: tuple[int, ...]) -> Array:
    if order[2::2] == (-1,) * (len(order) // 2):  # from left to right, as mostly
        P: Array = values[order[0]]
        for step, k in enumerate(order[1::2]):
            if step and values[k].ndim == 1:
                P *= values[k]  # our own by now
            else:
                P = _times(P, values[k])
        return P
    done: list[Any] = []
    for k in order:
        if k >= 0:
            done.append(values[k])
        else:
            right = done.pop()
            done[-1] = _times(done[-1], right)
    result: Array = done[0]
    return result


def _times(A: Array, B: Array) -> Array:
    """Multiply two factors; a vector is a diagonal."""
    product: Array
    if B.ndim == 1:
        product = A * B
        return product
    product = A.dot(B) if A.ndim == 2 else A[:, None] * B
    return product


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
    left, right = (order, []) if len(order) == 1 else _halves(order)
    return Line(point, tuple(known), tuple(left), tuple(right), program.tame)


def _folded(order: Order, known: list[Any]) -> list[int]:
    """Write an order as numbers, the operation last, and multiply what is known already."""
    if isinstance(order, int):
        return [order]
    left, right = (_folded(part, known) for part in order)
    if len(left) == len(right) == 1 and known[left[0]] is not None and known[right[0]] is not None:
        known[left[0]] = _times(known[left[0]], known[right[0]])
        return left
    return [*left, *right, -1]


def _halves(order: list[int]) -> tuple[list[int], list[int]]:
    """Split an order at its last product."""
    open_, k = 1, len(order) - 1
    while open_:  # walk back over the right operand
        k -= 1
        open_ += 1 if order[k] < 0 else -1
    return order[:k], order[k:-1]
