"""Judging the derivative that a user states of an activation of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias
from warnings import catch_warnings, simplefilter

import numpy as np

from jacobians._checks import Array

Formula: TypeAlias = Callable[..., Array]

_NOT_COMPLEX = (TypeError, ValueError, np.exceptions.ComplexWarning)


def require_derivative(act: Any, function: Formula, claimed: Formula, role: str) -> None:
    """Refuse a derivative that neither a complex step nor differences confirm."""
    z = np.linspace(-4.0, 4.0, 41)
    z = z[[all(abs(point - kink) > 0.05 for kink in act.kinks) for point in z]]
    parameters = dict(act.parameters)
    slope = np.asarray(claimed(z, **parameters), dtype=float)
    witnesses = [_difference(lambda x: function(x, **parameters), z)]
    with np.errstate(all="ignore"), catch_warnings(), suppress(*_NOT_COMPLEX):
        # where sigma is not written for complex numbers, the differences decide alone
        simplefilter("error", np.exceptions.ComplexWarning)
        witnesses.append(np.imag(function(z + 1e-30j, **parameters)) / 1e-30)
    # The differences are good to about 1e-9 of the function's size, and a wrong formula is not
    # wrong in the ninth digit; one confirmation is enough, since abs() defeats the complex step.
    allowed = 1e-6 * (1 + np.abs(slope) + np.abs(function(z, **parameters)))
    gap = np.min([np.abs(slope - witness) for witness in witnesses], axis=0)
    if not (gap <= allowed).all():
        worst = int(np.argmax(np.where(np.isnan(gap), np.inf, gap / allowed)))
        raise ValueError(
            f"Activation {act.name!r}: {role} is {slope[worst]:g} at z = {z[worst]:g}, but "
            f"differences give {witnesses[0][worst]:g}. Correct it, or name the kinks."
        )


def _difference(function: Formula, z: Array, h: float = 1e-3) -> Array:
    """Differentiate by central differences of fourth order."""
    near = np.asarray(function(z + h)) - function(z - h)
    far = np.asarray(function(z + 2 * h)) - function(z - 2 * h)
    result: Array = (8 * near - far) / (12 * h)
    return result
