"""A program: forward pass and products of one network as a flat list of steps.

A step reads some registers and fills one.  Registers hold

=========  ==================  =========================================================
value      (b, n)              z or a of b points
slopes     (b, n) or (n,)      a diagonal, one per point or the same for all
matrix     (m, n)              the same for all points: a weight matrix
stack      (m, b, n)           a matrix for each point
map        a LinearMap         any other kind
=========  ==================  =========================================================

A stack keeps its points in the middle: then ``P W`` is one large product of ``m b`` rows, ``W Q``
one of ``b n`` columns, and scaling the columns of a stack runs through memory from end to end.

How long every register is needed is known before any point is, and so is the memory of a point.
``compiling`` makes programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Limits:
    """Sizes at which one way gives place to another; each was measured."""

    # memory of the points at a time: more make better products of large matrices, and with small
    # ones, fewer stay in the cache
    piece_bytes: int = 3 * 2**24
    small_piece_bytes: int = 2**22
    # memory of the rows or columns that go through maps at a time, and how many it takes for that
    apply_bytes: int = 2**23
    rows: int = 16
    # entries up to which a table of products replaces the scaled copy of a matrix
    table: int = 32_768
    # multiplications of a point from which leaving out dead units pays
    live: int = 1_000_000
    # width up to which a map is written out, since calls cost more than their arithmetic
    written_out: int = 64
    # multiplications that OpenBLAS does on the thread that asks; more threads take slabs of it
    serial: int = 262_144
    # length of a row from which many small products into place beat a large one and a copy
    copy: int = 32
    # numbers that a call treats if a thread of its own is to pay
    long_call: int = 2**15
    # entries up to which a core alone multiplies a matrix well
    small_matrix: int = 10_000
    # multiplications of one product for one point from which BLAS is faster than the kernel
    blas: int = 2**29
    # work from which threads pay
    thread_seconds: float = 1e-3


class Op(IntEnum):
    """What a step does; ``engine.kernels`` has a function for each."""

    AFFINE = auto()  # z = W a + b                               a, Wᵀ, b
    CALL = auto()  # z = layer(values)                            values
    SLOPES = auto()  # sigma'(z)                                  z
    VALUE = auto()  # a = sigma(z)                                z
    LAYER_MAPS = auto()  # the maps of a layer                    values
    ACTIVATION_MAP = auto()  # the map of an activation           z
    LEAF = auto()  # a part of a map                              maps
    BLOCKS = auto()  # a product of maps made of blocks           maps, diagonals
    MULTIPLY_SLOPES = auto()  # diag(d) diag(e)                   d, e
    SCALE_ROWS = auto()  # diag(d) Q                              d, Q
    SCALE_COLUMNS = auto()  # P diag(d)                           P, d
    PRODUCT = auto()  # P Q                                       P, Q
    TABLE = auto()  # W diag(d) V = sum of d_k w_k v_kᵀ            d, table
    LIVE = auto()  # P diag(d) Q without the dead units           P, d, Q
    LEFT = auto()  # A Q                                          A, Q
    RIGHT = auto()  # P A                                         P, A
    ROWS = auto()  # X A or A X by steps of its own               X, what these read
    ADD = auto()  # P + Q                                         P, Q
    WRITE = auto()  # anything as a stack                         A


# Elementwise steps can put their result over these operands.
OVER = {Op.MULTIPLY_SLOPES: (0, 1), Op.SCALE_ROWS: (1,), Op.SCALE_COLUMNS: (0,), Op.ADD: (0,)}


class Step(NamedTuple):
    """One operation: registers in, one register out."""

    op: Op
    out: int
    args: tuple[int, ...]
    data: Any = None  # layer, activation, factor, kind of an operand, or the steps of ROWS
    node: int = 0  # whose z or a it makes
    shape: tuple[int, ...] = ()  # of the result; 0 stands for the points
    slot: int = -1  # the memory that takes the result; -1 is new memory
    frees: tuple[int, ...] = ()  # registers that nothing reads any more
    checked: bool = False  # whether a value out of range would show here, and nowhere later


class RowSteps(NamedTuple):
    """The steps of a product that some rows of X, or columns if ``left``, take at a time."""

    steps: tuple[Step, ...]
    numbers: int  # of a point that all of them have on their way
    left: bool


@dataclass(frozen=True, eq=False)
class Program:
    """Steps for one network; made by ``compile_jacobian`` and ``compile_sweep``."""

    registers: tuple[Any, ...]  # what they hold at the start: constants, None for the others
    steps: tuple[Step, ...]  # the last one fills the result, in memory of the caller
    slots: tuple[int, ...]  # numbers of a point in each memory that products share
    point_numbers: int  # of a point altogether: slots, new memory, and what formulas take
    constant_bytes: int  # of what was multiplied beforehand
    value: int  # the register of ``a^of``, -1 if it was not asked for
    bounded: bool  # whether no partial product can overflow

    @property
    def applied(self) -> int:
        """Count the numbers of a point that rows have on their way through maps."""
        return max((s.data.numbers for s in self.steps if s.op == Op.ROWS), default=0)
