"""Outside evidence about a derivative, from callables only.

A witness must not know the accused: nothing here knows networks, layers or maps.  ``f`` is any
function from a point (n,) to a value (m,); the Jacobian ``J`` has shape (m, n).

======================== =========================================================================
``finite_difference``    central differences, the step chosen per entry, with an error estimate
``complex_step``         no subtraction, so no step to choose; ``f`` must take complex numbers
``taylor_slope``         the remainder of ``f(x) + h J v`` shrinks like ``h²`` if J is right
``dot_test``             ``<u, A v> = <Aᵀ u, v>`` for a pair of callables
``check_jacobian``       a verdict on J that names the worst entry and knows about kinks
======================== =========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, ShapeError, as_count, as_floats, underflow_is_rounding
from jacobians._differences import Function, as_jacobian, as_point, differentiate, value_of


@dataclass(frozen=True, eq=False, repr=False)
class Differences:
    """What differences say about a Jacobian.

    Attributes
    ----------
    jacobian : array, shape (m, n)
        Central differences, extrapolated.
    error : array, shape (m, n)
        Estimated error of each entry.
    left, right : array, shape (m, n)
        One-sided derivatives; equal to ``jacobian`` except at a kink.
    least : array, shape (m, n)
        By how much ``f`` changes per length of a step, at the step where that is least.
    kinks : array of bool, shape (m, n)
        Where the one-sided derivatives differ.
    """

    jacobian: Array
    error: Array
    left: Array
    right: Array
    least: Array
    kinks: Any

    def __repr__(self) -> str:
        m, n = self.jacobian.shape
        return f"Differences for a Jacobian {m}x{n}, error up to {self.error.max(initial=0):.1e}"


@underflow_is_rounding
def finite_difference(
    f: Function, x: Any, size: Any = None, noise: Any = None, *, batched: bool = False
) -> Differences:
    """Differentiate by central differences, with steps chosen entry by entry.

    The step goes down by factors of 4 from 1/8 of ``size``; Richardson extrapolation
    removes the truncation error, and each entry takes the stage whose estimated error (the change
    from stage to stage, plus the rounding of ``f`` over the step) is least.  So a smooth function
    is differentiated with large steps, and a piecewise linear one inside its piece.

    Parameters
    ----------
    f : callable
        From (n,) to (m,).
    x : array, shape (n,)
    size : array, shape (n,), optional
        The scale on which ``f`` changes along each entry; ``max(1, |x_j|)`` unless given.
    noise : array, shape (m,), optional
        The error of ``f`` itself; a few units of the last place of its values unless given, which
        is too little where large numbers cancel inside.
    batched : bool
        Whether ``f`` also takes points (B, n) to (B, m), as a network does: a few calls are enough.

    Returns
    -------
    Differences

    >>> differences = finite_difference(lambda x: np.array([x[0] * np.sin(x[1])]), [2.0, 0.5])
    >>> bool(np.abs(differences.jacobian - [[np.sin(0.5), 2 * np.cos(0.5)]]).max() < 1e-11)
    True
    """
    x = as_point(x, "finite_difference")
    center = value_of(f, x, "finite_difference")
    scale = np.maximum(1.0, np.abs(x)) if size is None else as_floats(size, "size")
    if scale.shape != x.shape or not (scale > 0).all():
        raise ShapeError(
            f"finite_difference: size: expected {len(x)} positive numbers, but got {size!r:.80}."
        )
    own = np.zeros_like(center) if noise is None else as_floats(noise, "finite_difference: noise")

    def values(points: Array) -> Array:
        if not batched:
            return np.stack([value_of(f, point.copy(), "f") for point in points])
        answer = as_floats(f(points), "finite_difference: f(points)")
        if answer.shape != (len(points), len(center)):
            wanted = (len(points), len(center))
            raise ShapeError(f"finite_difference: f: expected {wanted}, but got {answer.shape}.")
        return answer

    return Differences(*differentiate(values, x, center, scale, own))


@underflow_is_rounding
def complex_step(f: Function, x: Any, step: float = 1e-30) -> Array:
    """Differentiate with ``Im f(x + i h e_j) / h``, exact up to rounding.

    Parameters
    ----------
    f : callable
        From complex (n,) to complex (m,); analytic, so no ``abs``, ``max`` or comparison.
    x : array, shape (n,)
    step : float

    Returns
    -------
    array, shape (m, n)

    Raises
    ------
    TypeError
        If ``f`` does not take or does not return complex numbers.

    Source: W. Squire and G. Trapp, SIAM Review 40 (1998).

    >>> complex_step(lambda x: np.array([np.exp(x[0]) * x[1]]), [0.0, 3.0])
    array([[3., 1.]])
    """
    x = as_point(x, "complex_step")
    columns = []
    for j in range(len(x)):
        z = x.astype(complex)
        z[j] += 1j * step
        try:
            value = np.asarray(f(z))
        except TypeError as err:
            raise TypeError(f"complex_step: f does not take complex numbers ({err}).") from err
        if value.dtype.kind != "c":
            raise TypeError("complex_step: f returned real numbers, so the imaginary step is lost.")
        columns.append(value.imag / step)
    return np.stack(columns, axis=-1)


@underflow_is_rounding
def taylor_slope(f: Function, J: Any, x: Any, direction: Any = None, seed: int = 0) -> float:
    """Return the order at which ``|f(x + h v) - f(x) - h J v|`` shrinks as h does.

    2 if J is right, 1 if it is wrong, infinity if the remainder is nothing but rounding (f is
    linear along v).

    Parameters
    ----------
    f : callable
        From (n,) to (m,).
    J : array, shape (m, n)
    x : array, shape (n,)
    direction : array, shape (n,), optional
        Random unless given.
    seed : int

    >>> f = lambda x: np.array([x[0] ** 2 + x[1]])
    >>> round(taylor_slope(f, [[2.0, 1.0]], [1.0, 1.0]))
    2
    >>> round(taylor_slope(f, [[2.1, 1.0]], [1.0, 1.0]))
    1
    """
    x = as_point(x, "taylor_slope")
    center = value_of(f, x, "taylor_slope")
    J = as_jacobian(J, center, x, "taylor_slope")
    if direction is None:
        direction = np.random.default_rng(seed).standard_normal(len(x))
    v = as_floats(direction, "taylor_slope: direction")
    if v.shape != x.shape:
        raise ShapeError(f"taylor_slope: direction: expected {x.shape}, but got {v.shape}.")
    Jv = J @ v
    floor = 64 * np.finfo(center.dtype).eps * (np.abs(center).max() + np.abs(Jv).max())
    steps = 2.0 ** -np.arange(4, 20)
    remainders = [np.abs(value_of(f, x + h * v, "f") - center - h * Jv).max() for h in steps]
    # the tail of the list is rounding; the slope is read just before it
    last = int(np.argmin([*(r > floor for r in remainders), False])) - 1
    if last < 1:
        return float("inf")
    first = max(0, last - 2)
    return float(np.log2(remainders[first] / remainders[last]) / (last - first))


@dataclass(frozen=True)
class DotTest:
    """The verdict of ``dot_test``."""

    holds: bool
    difference: float
    bound: float

    def __bool__(self) -> bool:
        return self.holds


@underflow_is_rounding
def dot_test(
    forward: Function, adjoint: Function, shape: tuple[int, int], trials: int = 5, seed: int = 0
) -> DotTest:
    """Test that ``adjoint`` is the transpose of ``forward``: ``<u, A v> = <Aᵀ u, v>``.

    Parameters
    ----------
    forward, adjoint : callable
        ``v -> A v`` from (n,) to (m,), and ``u -> Aᵀ u`` back.
    shape : (m, n)
    trials, seed : int
        Number of random pairs (u, v).

    Returns
    -------
    DotTest
        True or false as a condition; ``difference`` and ``bound`` are those of the worst pair.

    >>> A = np.arange(6.0).reshape(2, 3)
    >>> bool(dot_test(lambda v: A @ v, lambda u: A.T @ u, (2, 3)))
    True
    >>> bool(dot_test(lambda v: A @ v, lambda u: -A.T @ u, (2, 3)))
    False
    """
    m, n = (as_count(size, "dot_test: shape") for size in shape)
    rng = np.random.default_rng(seed)
    worst = DotTest(True, 0.0, 0.0)
    for _ in range(as_count(trials, "dot_test: trials")):
        u, v = rng.standard_normal(m), rng.standard_normal(n)
        Av = value_of(forward, v, "dot_test: forward")
        Atu = value_of(adjoint, u, "dot_test: adjoint")
        if Av.shape != (m,) or Atu.shape != (n,):
            raise ShapeError(
                f"dot_test: expected results ({m},) and ({n},), got {Av.shape} and {Atu.shape}."
            )
        difference = abs(float(u @ Av) - float(Atu @ v))
        coarser = np.finfo(min(Av.dtype, Atu.dtype))
        # What cancels inside A is unknown here, so its size is judged by |A v| and |Aᵀ u|, and
        # the two sums of n + m products are given a hundredfold margin.  Below the smallest normal
        # number nothing is decided: there a rounding is no longer relative.
        size = np.abs(u) @ np.abs(Av) + np.abs(Atu) @ np.abs(v)
        bound = float(100 * (m + n) * (coarser.eps * size + coarser.tiny))
        holds = difference <= bound
        if not holds or difference * worst.bound >= worst.difference * bound:
            worst = DotTest(holds and worst.holds, difference, bound)
    return worst


def allowance(differences: Differences, J: Array, value: Array, x: Array) -> Array:
    """Return how far each entry of a claim may be from differences; infinity if they do not settle.

    A hundred times their estimated error (what cancels inside ``f`` is unknown, so an estimate can
    be too small), and the rounding of the claim.  They settle if that is below one part in a
    hundred of the size of the derivative.

    Parameters
    ----------
    differences : Differences
    J : array, shape (m, n)
        The claim.
    value : array, shape (m,)
        ``f(x)``.
    x : array, shape (n,)
    """
    # The size of a derivative, also where all of them are 0: f per unit of x.
    size = float(np.abs(value).max() / max(1.0, np.abs(x).max()))
    size = max(size, float(np.abs(differences.jacobian).max()))
    size = max(size, float(differences.least.max()))  # x² at 0, where f and derivatives are 0
    eps = max(float(np.finfo(value.dtype).eps), float(np.finfo(J.dtype).eps))
    # The claim was rounded too: on its way it met numbers as large as the largest entry.
    allowed = 100 * differences.error + 100 * eps * size
    settled = allowed <= 0.01 * np.maximum(size, np.abs(J))
    return np.where(settled, allowed, np.inf)


@dataclass(frozen=True, repr=False)
class JacobianCheck:
    """The verdict of ``check_jacobian``; true or false as a condition, printable as a sentence."""

    holds: bool
    worst: tuple[int, int]
    claimed: float
    witnessed: float
    difference: float
    allowed: float
    kinks: int
    hint: str = ""

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        i, j = self.worst
        verdict = "holds" if self.holds else "FAILS"
        hint = f"; {self.hint}" if self.hint else ""
        kinks = f"; {self.kinks} entries at a kink" if self.kinks else ""
        return (
            f"Jacobian {verdict}: worst entry [{i}, {j}] is {self.claimed:.10g}, differences give "
            f"{self.witnessed:.10g} (off by {self.difference:.2g}, "
            f"allowed {self.allowed:.2g}{hint}){kinks}"
        )


@underflow_is_rounding
def check_jacobian(f: Function, J: Any, x: Any) -> JacobianCheck:
    """Check a Jacobian against differences, entry by entry.

    An entry passes if it is within a hundred times the estimated error of the differences (what
    cancels inside ``f`` is unknown, so an estimate can be too small).  At a kink it
    passes if it lies between the one-sided derivatives.  Where the differences do not settle to
    one part in a hundred, nothing passes: an undecided check is not a confirmation.

    Parameters
    ----------
    f : callable
        From (n,) to (m,).
    J : array, shape (m, n)
        The claim.
    x : array, shape (n,)

    Returns
    -------
    JacobianCheck

    Raises
    ------
    ShapeError
        If ``J`` does not have shape (m, n).

    >>> f = lambda x: np.array([x[0] * x[1], np.abs(x[0])])
    >>> bool(check_jacobian(f, [[3.0, 2.0], [1.0, 0.0]], [2.0, 3.0]))
    True
    >>> print(check_jacobian(f, [[3.0, 2.0], [1.0, 0.1]], [2.0, 3.0]))
    Jacobian FAILS: worst entry [1, 1] is 0.1, differences give 0 (off by 0.1, allowed ...)
    """
    x = as_point(x, "check_jacobian")
    center = value_of(f, x, "check_jacobian")
    claim = as_jacobian(J, center, x, "check_jacobian")
    differences = finite_difference(f, x)
    low, high = np.sort([differences.left, differences.right], axis=0)
    allowed = allowance(differences, claim, center, x)
    difference = np.maximum(np.maximum(low - claim, claim - high), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(difference == 0, 0.0, difference / allowed)
    ratio = np.where(np.isfinite(allowed) & np.isfinite(claim), ratio, np.inf)
    i, j = (int(k) for k in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    return JacobianCheck(
        holds=bool((ratio <= 1).all()),
        worst=(i, j),
        claimed=float(claim[i, j]),
        witnessed=float(differences.jacobian[i, j]),
        difference=float(difference[i, j]),
        allowed=float(allowed[i, j]),
        kinks=int(differences.kinks.sum()),
        hint="" if (ratio <= 1).all() else _hint(claim, differences.jacobian, allowed),
    )


def _hint(claim: Array, J: Array, allowed: Array) -> str:
    """Say which simple slip leads from the derivative to the claim, if one does."""
    if not np.isfinite(allowed).all():
        return "differences do not settle there: f jumps, or is rough; ask at another point"
    i = int(np.argmax(np.abs(J)))
    c = float(claim.flat[i] / J.flat[i]) if J.flat[i] else 0.0
    slips = [(f"it is {c:.6g} times the derivative", c * J, c)] if J.size > 1 and c else []
    if 1 < len(J) == J.shape[1]:
        slips.insert(0, ("it is the transpose of the derivative", J.T, 1.0))
        slips.append(("it is the diagonal of the derivative alone", np.diag(np.diag(J)), 1.0))
    for words, slip, factor in slips:
        if (np.abs(claim - slip) <= max(1.0, abs(factor)) * allowed.max()).all():
            return words
    return "jb.diagnose knows the mistakes of networks"
