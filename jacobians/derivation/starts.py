"""Where the way back starts: ``dC/da`` and ``dC/dz`` of a loss, at the output.

A formula stands for a method of one of the library's own losses, and for exactly that; a method of
somebody's own is a function with a name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Array
from jacobians.activations import LOG_SOFTMAX, SOFTMAX, AnyActivation
from jacobians.derivation import functions
from jacobians.derivation.terms import (
    Apply,
    Hadamard,
    Quotient,
    Sum,
    Symbol,
    Term,
    matmul,
    minus,
    negative,
)
from jacobians.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError


def has_formula(loss: Loss | None, last: AnyActivation) -> bool:
    """Tell whether what backprop starts from is a formula here, as it is without a loss."""
    if loss is None:
        return True
    name = "cotangent" if loss.fused(last) is None else "fused"
    ours = (getattr(kind, name) for kind in (SquaredError, BinaryCrossEntropy, CrossEntropy))
    return _method(loss, name) in ours


def sums_classes(loss: Loss | None) -> bool:
    """Tell whether the fused form is that of cross-entropy, ``p sum(y) - y``."""
    return loss is not None and _method(loss, "fused") is CrossEntropy.fused


def add_up_to_1(Y: Array | None, dtype: Any) -> bool:
    """Tell whether the entries of every target add up to 1, but for a rounding."""
    off = 0 if Y is None else np.abs(np.sum(Y, axis=-1, dtype=np.float64) - 1)
    return bool(np.all(off <= np.finfo(dtype).eps))


def by_output(loss: Loss, last: AnyActivation, a: Symbol, y: Symbol, one: Symbol) -> Term:
    """``dC/da``; where ``a`` is a logarithm, cross-entropy is ``-yᵀ a``."""
    logarithms = last == LOG_SOFTMAX and loss.fused(last) is not None
    formulas = {
        SquaredError.cotangent: minus(a, y),
        BinaryCrossEntropy.cotangent: Quotient(minus(a, y), Hadamard(a, minus(one, a))),
        CrossEntropy.cotangent: negative(y if logarithms else Quotient(y, a)),
    }
    own = Apply(a, y, about=functions.cotangent(loss.cotangent, "a"))
    return formulas.get(_method(loss, "cotangent"), own)


def by_preactivation(
    loss: Loss, last: AnyActivation, z: Symbol, a: Symbol, y: Symbol, ones: Symbol, summed: bool
) -> Term:
    """``dC/dz``, loss and activation in one step: ``p sum(y) - y``, or ``p - y`` where summed."""
    fused, classes = loss.fused(last), sums_classes(loss)
    if fused is not None and not has_formula(loss, last):
        return Apply(z, y, about=functions.cotangent(fused.cotangent, "z"))
    p = Apply(z, about=functions.sigma(SOFTMAX)) if last == LOG_SOFTMAX else a
    # as p times the sum of the other y, minus y times the sum of the other p, nothing cancels
    general = classes and not summed
    return Sum(
        matmul(p, ones, y) if general else p, negative(y), about=z.shape[0] if classes else None
    )


def _method(loss: Loss, name: str) -> Any:
    """Return the function that a method of a loss is."""
    return getattr(getattr(loss, name), "__func__", None)
