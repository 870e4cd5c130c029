"""The records: an activation entry by entry, and one in which every entry enters every other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import FLOATS, Array, ShapeError, as_floats
from jacobians._sigma import zero
from jacobians._user_derivatives import require_derivative

Formula: TypeAlias = Callable[..., Array]


@dataclass(frozen=True, repr=False)
class Activation:
    """A function applied to every entry, with its derivatives.

    Parameters
    ----------
    name : str
    sigma, sigma_prime : callable
        From an array of preactivations to an array of the same shape.
    sigma_second : callable, optional
        The second derivative, for curvature.
    kinks : tuple of float
        Where ``sigma_prime`` jumps.
    parameters : tuple of (str, float)
        Passed to the callables as keywords.
    slope_bound, value_bound : float
        No ``|sigma'|`` and no ``|sigma|`` is larger; infinity if nothing is known.
    flat : bool
        Whether the slope is 0 on half a line or more.
    piecewise_linear : bool
        Whether sigma is continuous, and a straight line between neighbouring kinks.
    into_memory : tuple of str
        Which of the callables take ``out=``, where sigma may be given ``z`` itself.
    check : bool
        Compare the derivatives with a complex step (or with differences, if sigma does not take
        complex numbers) at 41 points from -4 to 4 away from kinks, now.

    Raises
    ------
    ValueError
        With ``check=True``, if a derivative is wrong; the message names the point.

    >>> cube = Activation("cube", lambda z: z**3, lambda z: 3 * z**2, check=True)
    >>> cube.derivative(np.array([2.0]))
    array([12.])
    """

    name: str
    sigma: Formula
    sigma_prime: Formula
    sigma_second: Formula | None = None
    kinks: tuple[float, ...] = ()
    parameters: tuple[tuple[str, float], ...] = ()
    slope_bound: float = field(default=np.inf, compare=False, repr=False)
    value_bound: float = field(default=np.inf, compare=False, repr=False)
    flat: bool = field(default=False, compare=False, repr=False)
    piecewise_linear: bool = field(default=False, compare=False, repr=False)
    into_memory: tuple[str, ...] = field(default=(), compare=False, repr=False)
    check: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for role in ("sigma", "sigma_prime"):
            if not callable(getattr(self, role)):
                raise TypeError(f"Activation {self.name!r}: {role} must be callable.")
        if self.check:
            require_derivative(self, self.sigma, self.sigma_prime, "sigma_prime")
            if self.sigma_second is not None:
                require_derivative(self, self.sigma_prime, self.sigma_second, "sigma_second")

    def __call__(self, z: Any) -> Array:
        """Return ``sigma(z)``, in the dtype of ``z``."""
        return self._evaluate(self.sigma, z)

    def derivative(self, z: Any) -> Array:
        """Return ``sigma'(z)``; at a kink, 0 where one side is flat, else the slope on the left."""
        return self._evaluate(self.sigma_prime, z)

    @property
    def curved(self) -> bool:
        """Whether sigma'' is anything but 0."""
        return self.sigma_second is not zero

    def second_derivative(self, z: Any) -> Array:
        """Return ``sigma''(z)``.

        Raises
        ------
        NotImplementedError
            If the activation was made without one.
        """
        if self.sigma_second is None:
            raise NotImplementedError(f"Activation {self.name!r} was made without sigma_second.")
        return self._evaluate(self.sigma_second, z)

    def _evaluate(self, formula: Formula, z: Any) -> Array:
        z = as_preactivation(z, self.name)
        with quiet():
            result = np.asarray(formula(z, **dict(self.parameters)), dtype=z.dtype)
        if result.shape != z.shape:
            raise ValueError(
                f"Activation {self.name!r}: gave shape {result.shape} for shape {z.shape}."
            )
        return result

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self}"

    def __str__(self) -> str:
        given = ", ".join(f"{key}={value:g}" for key, value in self.parameters)
        return f"{self.name}({given})" if given else self.name


@dataclass(frozen=True, repr=False)
class VectorActivation:
    """A function in which every entry of ``z`` enters every entry of ``a``, such as softmax.

    Parameters
    ----------
    name : str
    sigma : callable
        From ``z`` of shape (..., n) to ``a`` of the same shape.
    parts_of : callable
        From ``z`` to ``(d, U, V)`` of shapes (..., n), (..., n, r), (..., n, r) with
        ``da/dz = diag(d) + U Vᵀ``.
    sigma_second : callable, optional
        From ``z`` to the array (..., n, n, n) of ``d² a_i / dz_j dz_k``.
    matrix_of : callable, optional
        From ``z`` to ``da/dz`` written out, (..., n, n), where that is simpler than the parts.
    second_parts_of : callable, optional
        From ``z`` and a cotangent ``c`` of one shape to ``(d, U, V)``, so that the Hessian of
        ``cᵀ a`` is ``diag(d) + U Vᵀ``, where it has such a structure.
    slope_bound, value_bound : float
        No row of ``|da/dz|`` adds up to more, no ``|sigma|`` is larger; infinity if unknown.

    >>> from jacobians.activations import activation
    >>> d, U, V = activation("softmax").parts(np.log([0.5, 0.25, 0.25]))
    >>> np.diag(d) + U @ V.T
    array([[ 0.25  , -0.125 , -0.125 ],
           [-0.125 ,  0.1875, -0.0625],
           [-0.125 , -0.0625,  0.1875]])
    """

    name: str
    sigma: Formula
    parts_of: Callable[[Array], tuple[Array, Array, Array]]
    sigma_second: Formula | None = None
    matrix_of: Formula | None = None
    second_parts_of: Callable[[Array, Array], tuple[Array, Array, Array]] | None = None
    slope_bound: float = field(default=np.inf, compare=False, repr=False)
    value_bound: float = field(default=np.inf, compare=False, repr=False)

    flat = False
    piecewise_linear = False
    into_memory = ()
    kinks = ()
    parameters = ()

    def __call__(self, z: Any) -> Array:
        """Return ``sigma(z)``, in the dtype of ``z``."""
        result: Array = self._evaluate(self.sigma, z)
        return result

    def parts(self, z: Any) -> tuple[Array, Array, Array]:
        """Return ``(d, U, V)`` with ``da/dz = diag(d) + U Vᵀ``."""
        d, U, V = self._evaluate(self.parts_of, z)
        return d, U, V

    def matrix(self, z: Any) -> Array:
        """Return ``da/dz`` written out, (..., n, n)."""
        if self.matrix_of is not None:
            written_out: Array = self._evaluate(self.matrix_of, z)
            return written_out
        d, U, V = self.parts(z)
        return d[..., None] * np.eye(d.shape[-1], dtype=d.dtype) + U @ np.swapaxes(V, -2, -1)

    def second_parts(self, z: Any, c: Any) -> tuple[Array, Array, Array]:
        """Return ``(d, U, V)``: the Hessian of ``cᵀ a`` is ``diag(d) + U Vᵀ``."""
        assert self.second_parts_of is not None
        formula = self.second_parts_of
        d, U, V = self._evaluate(lambda z: formula(z, as_preactivation(c, self.name)), z)
        return d, U, V

    def second_derivative(self, z: Any) -> Array:
        """Return ``d² a_i / dz_j dz_k``, shape (..., n, n, n)."""
        if self.sigma_second is None:
            raise NotImplementedError(f"Activation {self.name!r} was made without sigma_second.")
        result: Array = self._evaluate(self.sigma_second, z)
        return result

    def _evaluate(self, formula: Callable[[Array], Any], z: Any) -> Any:
        z = as_preactivation(z, self.name)
        if z.ndim == 0 or z.shape[-1] == 0:
            raise ShapeError(
                f"{self.name}: z: expected at least one entry along the last axis, "
                f"but got shape {z.shape}."
            )
        with quiet():
            return formula(z)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self}"

    def __str__(self) -> str:
        return self.name


AnyActivation: TypeAlias = Activation | VectorActivation


def as_preactivation(z: Any, name: str) -> Array:
    if isinstance(z, np.ndarray) and z.dtype in (*FLOATS, np.float16):
        # overflow on the way here is the business of whoever computed z
        return z.astype(np.float32) if z.dtype == np.float16 else z
    return as_floats(z, f"{name}: z")


def quiet() -> np.errstate:
    # Underflow to 0 is the right answer; overflow and NaN are reported by whoever asked.
    return np.errstate(under="ignore", over="ignore", invalid="ignore")
