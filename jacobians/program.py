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

What is alive at the same time gets memory of its own, so that the memory of a point is known before
any point is.  ``compiling`` makes programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Limits:
    """Sizes at which one way gives place to another; each was measured.

    Attributes
    ----------
    piece_bytes, small_piece_bytes : int
        Memory of the points at a time: more make better products of large matrices, and with small
        ones, fewer stay in the cache.
    apply_bytes : int
        Memory of the rows or columns to which a map is applied at a time.
    rows : int
        How many of them it takes to go through several maps piece by piece.
    table : int
        Entries up to which a table of products replaces the scaled copy of a matrix.
    live : int
        Multiplications of a point from which leaving out dead units pays.
    written_out : int
        Width up to which a map is written out, since calls cost more than their arithmetic.
    serial : int
        Multiplications that OpenBLAS does on the thread that asks; more threads take slabs of it.
    copy : int
        Length of a row from which many small products into place beat a large one and a copy.
    long_loop : int
        Numbers of a row to which biases are added together.
    long_call : int
        Numbers that a call treats if a thread of its own is to pay.
    small_matrix : int
        Entries up to which a core alone multiplies a matrix well.
    blas : int
        Multiplications of one product for one point from which BLAS is faster than the kernel.
    thread_seconds : float
        Work from which threads pay.
    """

    piece_bytes: int = 3 * 2**24
    small_piece_bytes: int = 2**22
    apply_bytes: int = 2**23
    rows: int = 16
    table: int = 32_768
    live: int = 1_000_000
    written_out: int = 64
    serial: int = 262_144
    copy: int = 32
    long_loop: int = 1024
    long_call: int = 2**15
    small_matrix: int = 10_000
    blas: int = 2**29
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
    MULTIPLY_SLOPES = auto()  # diag(d) diag(e)                   d, e
    SCALE_ROWS = auto()  # diag(d) Q                              d, Q
    SCALE_COLUMNS = auto()  # P diag(d)                           P, d
    PRODUCT = auto()  # P Q                                       P, Q
    TABLE = auto()  # W diag(d) V = sum of d_k w_k v_kᵀ            d, table
    LIVE = auto()  # P diag(d) Q without the dead units           P, d, Q
    LEFT = auto()  # A Q                                          A, Q
    RIGHT = auto()  # P A                                         P, A
    ADD = auto()  # P + Q                                         P, Q
    WRITE = auto()  # anything as a stack                         A


# These put their result where they are told; those of the second set also over an operand.
PLACED = {op for op in Op if op >= Op.MULTIPLY_SLOPES} | {Op.AFFINE}
OVER = {Op.MULTIPLY_SLOPES: (0, 1), Op.SCALE_ROWS: (1,), Op.SCALE_COLUMNS: (0,), Op.ADD: (0, 1)}


class Step(NamedTuple):
    """One operation: registers in, one register out."""

    op: Op
    out: int
    args: tuple[int, ...]
    data: Any = None  # layer, activation, or factor
    node: int = 0  # of a forward step
    shape: tuple[int, ...] = ()  # of the result; 0 stands for the points
    slot: int = -1  # the memory that takes the result; -1 is new memory, -2 that of the caller
    frees: tuple[int, ...] = ()  # registers that nothing reads any more


@dataclass(frozen=True, eq=False)
class Program:
    """Steps for one network; made by ``compile_jacobian`` and ``compile_sweep``.

    Attributes
    ----------
    registers : tuple
        What the registers hold at the start: constants, None for the others.
    steps : tuple of Step
    slots : tuple of int
        Numbers of a point in each memory that registers share.
    point_numbers : int
        Numbers of a point altogether: slots, what has new memory, and what formulas take.
    constant_bytes : int
        Memory of what was multiplied beforehand.
    value : int
        The register of ``a^of``, -1 if it was not asked for.
    bounded : bool
        Whether no partial product can overflow.
    """

    registers: tuple[Any, ...]
    steps: tuple[Step, ...]
    slots: tuple[int, ...]
    point_numbers: int
    constant_bytes: int
    value: int
    bounded: bool

    @property
    def applied(self) -> int:
        """Count the numbers of a point that the largest application of maps has on its way."""
        sides = {Op.RIGHT: 0, Op.LEFT: 2}  # rows, or columns
        each = [s.shape[sides[s.op]] * s.data.on_the_way for s in self.steps if s.op in sides]
        return max(each, default=0)


# --- memory of registers --------------------------------------------------------------------------


def keeps(step: Step) -> bool:
    """Tell whether a user's own function sees the register, and may keep it."""
    if step.op not in (Op.SLOPES, Op.VALUE):
        return False
    formula = step.data.sigma_prime if step.op == Op.SLOPES else step.data
    module = getattr(formula, "__module__", None) or ""
    sigma = getattr(getattr(step.data, "sigma", None), "__module__", None) or module
    return not all(name.startswith("jacobians.") for name in (module, sigma))


def overwritten(step: Step) -> list[int]:
    """Return the operands over which a step can put its result."""
    if step.op == Op.VALUE and "sigma" in step.data.into_memory:
        return list(step.args)
    over = (0,) if step.data == "slopes" else OVER.get(step.op, ())
    return [step.args[k] for k in over]


def is_placed(step: Step) -> bool:
    """Tell whether a step puts its result where it is told."""
    if step.op in (Op.SLOPES, Op.VALUE):
        role = "sigma_prime" if step.op == Op.SLOPES else "sigma"
        return role in step.data.into_memory
    return step.op in PLACED


class Memory:
    """Memory for registers, shared by those that are not alive at the same time."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.free: dict[int, list[int]] = {}  # by their size, of which there are few
        self.of: dict[int, int] = {}
        self.others: dict[int, int] = {}  # registers with memory of their own, and its size
        self.now = self.most = 0

    def take(self, step: Step, size: int, over: list[int], shared: bool) -> Step:
        """Choose the slot of a result: that of an operand, or one that fits best."""
        if not is_placed(step) or not shared:
            self.others[step.out] = size
            self.now += size
            self.most = max(self.most, self.now)
            return step
        slot = next((self.of[k] for k in over if k in self.of), None)
        if slot is not None:
            for k in over:
                if self.of.get(k) == slot:
                    del self.of[k]
        elif self.free:
            enough = [n for n in self.free if n >= size]
            fitting = min(enough) if enough else max(self.free)
            slot = self.free[fitting].pop()
            if not self.free[fitting]:
                del self.free[fitting]
            self.slots[slot] = max(self.slots[slot], size)
        else:
            slot = len(self.slots)
            self.slots.append(size)
        self.of[step.out] = slot
        return step._replace(slot=slot)

    def give(self, register: int) -> None:
        """Let the memory of a register go."""
        if register in self.of:
            slot = self.of.pop(register)
            self.free.setdefault(self.slots[slot], []).append(slot)
        self.now -= self.others.pop(register, 0)
