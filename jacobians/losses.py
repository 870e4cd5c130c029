"""Losses: the value at the output and the cotangent ``c = dloss/da^L`` that backprop starts from.

The objective of a data set is the mean of the loss over its points plus ``l2/2`` times the sum of
all squared weights (biases are free).

Some losses belong to an activation: cross-entropy undoes the exponential of softmax, and their
product ``delta^L = p - y`` stays exact where each alone overflows or divides by zero.  ``fused``
returns that pair; with ``fuse=False`` the loss is always taken as the composition it is.

A convex loss has a second derivative ``S Sᵀ``: ``root`` is that ``S``.  A loss that is a negative
log-likelihood has a Fisher information, whose root needs no target: ``fisher_root``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jacobians._checks import (
    Array,
    DomainError,
    ShapeError,
    as_array,
    as_floats,
    underflow_is_rounding,
)
from jacobians.activations import LOG_SOFTMAX, SIGMOID, SOFTMAX, AnyActivation
from jacobians.maps import Diagonal, DiagonalPlusLowRank, Identity, LinearMap


@dataclass(frozen=True)
class Fused:
    """A loss of the preactivation ``z^L``: loss and activation taken in one step."""

    value: Callable[[Array, Array], Array]
    cotangent: Callable[[Array, Array], Array]
    root: Callable[[Array, Array], LinearMap]
    fisher_root: Callable[[Array], LinearMap]


class Loss(ABC):
    """A function of the output ``a`` and the target ``y``, one number per point.

    Subclasses define ``value`` and ``cotangent`` on arrays of shape (..., m), and ``root`` for
    what is of second order.
    """

    gaussian: ClassVar[bool] = False  # whether targets are normal about the output

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Fuse nothing in a subclass with a value or derivative of its own and no ``fused``."""
        super().__init_subclass__(**keywords)
        if "fused" not in vars(cls) and Fused.__dataclass_fields__.keys() & vars(cls).keys():
            cls.fused = Loss.fused  # type: ignore[method-assign]

    @abstractmethod
    def value(self, output: Array, target: Array) -> Array:
        """Return the loss of every point, shape (...)."""

    @abstractmethod
    def cotangent(self, output: Array, target: Array) -> Array:
        """Return ``dloss/da``, shape (..., m)."""

    def root(self, output: Array, target: Array) -> LinearMap:
        """Return ``S``, m x r, with ``d²loss/da² = S Sᵀ``; only a convex loss has one."""
        raise NotImplementedError(f"{self}: has no second derivative; define root(output, target).")

    def fisher_root(self, output: Array) -> LinearMap:
        """Return ``S`` with ``S Sᵀ`` the expectation of ``c cᵀ`` over targets drawn from ``a``."""
        raise NotImplementedError(f"{self}: has no distribution; define fisher_root(output).")

    def fused(self, activation: AnyActivation) -> Fused | None:
        """Return the loss as a function of ``z``, if there is a better form for this activation."""
        return None

    def targets(self, target: Any, output: Array) -> Array:
        """Check targets against an output and return them in its shape and dtype.

        Raises
        ------
        ShapeError
            If the shape is not that of the output: nothing is broadcast.
        """
        y = as_floats(target, f"{self}: target", dtype=output.dtype)
        if y.shape != output.shape:
            column = (*y.shape, 1) == output.shape
            raise ShapeError(
                f"{self}: target: expected the shape of the output, {output.shape}, got {y.shape}."
                f"{' Pass y[:, None]: one column for the one output.' if column else ''}"
            )
        return y

    def __str__(self) -> str:
        return type(self).__name__


def as_loss(value: Any) -> Loss:
    """Return the loss, or say which ones there are."""
    if not isinstance(value, Loss):
        raise TypeError(
            "loss: expected SquaredError(), BinaryCrossEntropy(), CrossEntropy() or a Loss of your "
            f"own, but got {value!r:.80}."
        )
    return value


@dataclass(frozen=True)
class SquaredError(Loss):
    """``|a - y|² / 2``, with cotangent ``a - y``.

    >>> SquaredError().value(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    np.float64(2.5)
    """

    gaussian: ClassVar[bool] = True

    @underflow_is_rounding
    def value(self, output: Array, target: Array) -> Array:
        """Return half the squared distance of every point."""
        residual = output - target
        result: Array = (residual * residual).sum(axis=-1) / 2
        return result

    def cotangent(self, output: Array, target: Array) -> Array:
        """Return ``a - y``."""
        return output - target

    def root(self, output: Array, target: Array) -> LinearMap:
        """Return ``I``."""
        return self.fisher_root(output)

    def fisher_root(self, output: Array) -> LinearMap:
        """Return ``I``: targets are normal about the output, with variance 1."""
        return Identity(output.shape[-1], output.dtype)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """``-y log a - (1 - y) log(1 - a)``, added up over the outputs.

    For any activation with values in (0, 1); targets lie in [0, 1].

    Parameters
    ----------
    fuse : bool
        Take sigmoid and loss in one step, so that saturation is harmless (the default).

    >>> loss = BinaryCrossEntropy()
    >>> loss.cotangent(np.array([0.25]), np.array([1.0]))
    array([-4.])
    """

    fuse: bool = True

    @underflow_is_rounding
    def value(self, output: Array, target: Array) -> Array:
        """Return the loss of every point."""
        self._require_open_interval(output)
        result: Array = -(target * np.log(output) + (1 - target) * np.log1p(-output)).sum(axis=-1)
        return result

    def cotangent(self, output: Array, target: Array) -> Array:
        """Return ``(a - y) / (a (1 - a))``."""
        self._require_open_interval(output)
        result: Array = (output - target) / (output * (1 - output))
        return result

    @underflow_is_rounding
    def root(self, output: Array, target: Array) -> LinearMap:
        """Return the root of ``y / a² + (1 - y) / (1 - a)²``, also where a squared is nothing."""
        self._require_open_interval(output)
        return Diagonal(np.hypot(np.sqrt(target) / output, np.sqrt(1 - target) / (1 - output)))

    def fisher_root(self, output: Array) -> LinearMap:
        """Return the root of ``1 / (a (1 - a))``."""
        self._require_open_interval(output)
        return Diagonal(1 / np.sqrt(output * (1 - output)))

    def fused(self, activation: AnyActivation) -> Fused | None:
        """Return ``log(1 + e^z) - y z`` and ``sigmoid(z) - y`` for the sigmoid."""
        if not self.fuse or activation != SIGMOID:
            return None
        return Fused(_logistic_loss, _logistic_cotangent, _logistic_root, _logistic_root)

    def targets(self, target: Any, output: Array) -> Array:
        """Check that targets lie in [0, 1]."""
        y = super().targets(target, output)
        _require_unit_interval(y, f"{self}: target")
        return y

    def _require_open_interval(self, output: Array) -> None:
        outside = ~((output > 0) & (output < 1))
        if outside.any():
            raise DomainError(
                f"{self}: needs outputs strictly between 0 and 1, but got {output[outside][0]}. "
                "End the network in an activation with values in (0, 1); a saturated sigmoid needs "
                "fuse=True."
            )


def _logistic_loss(z: Array, y: Array) -> Array:
    # softplus(-z) y + softplus(z) (1 - y): both terms are positive, so nothing cancels
    small = np.log1p(np.exp(-np.abs(z)))
    result: Array = (small + np.maximum(z, 0) * (1 - y) + np.maximum(-z, 0) * y).sum(axis=-1)
    return result


def _logistic_cotangent(z: Array, y: Array) -> Array:
    # sigmoid(z) (1 - y) - sigmoid(-z) y: exact where sigmoid(z) rounds to 1 and y is 1
    return SIGMOID(z) * (1 - y) - SIGMOID(-z) * y


def _logistic_root(z: Array, y: Array | None = None) -> LinearMap:
    return Diagonal(np.sqrt(SIGMOID(z) * SIGMOID(-z)))  # whatever the target


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """``-sum y_i log a_i`` for an output of class probabilities.

    Targets are class probabilities of the output's shape, or whole numbers, one label per point.
    A single output, as of a sigmoid, needs ``BinaryCrossEntropy``.

    Parameters
    ----------
    fuse : bool
        Take softmax (or log_softmax) and loss in one step, the default.

    >>> loss = CrossEntropy()
    >>> loss.targets([2, 0], np.zeros((2, 3)))
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """

    fuse: bool = True

    @underflow_is_rounding
    def value(self, output: Array, target: Array) -> Array:
        """Return the loss of every point."""
        result: Array = -(target * np.log(self._positive(output, target))).sum(axis=-1)
        return result

    @underflow_is_rounding
    def cotangent(self, output: Array, target: Array) -> Array:
        """Return ``-y / a``."""
        return -target / self._positive(output, target)

    @underflow_is_rounding
    def root(self, output: Array, target: Array) -> LinearMap:
        """Return the root of ``y / a²``."""
        return Diagonal(np.sqrt(target) / self._positive(output, target))

    def fisher_root(self, output: Array) -> LinearMap:
        """Return the root of ``1 / a``: the target is class i with probability ``a_i``."""
        return Diagonal(1 / np.sqrt(self._positive(output, np.ones_like(output))))

    def fused(self, activation: AnyActivation) -> Fused | None:
        """Return ``-sum y log softmax(z)`` and ``p sum(y) - y`` for softmax and log_softmax."""
        if not self.fuse or activation not in (SOFTMAX, LOG_SOFTMAX):
            return None
        return Fused(_softmax_loss, _softmax_cotangent, _softmax_root, _softmax_root)

    def targets(self, target: Any, output: Array) -> Array:
        """Turn labels into indicator rows, and check that targets lie in [0, 1]."""
        if output.shape[-1] == 1:
            raise ShapeError(
                f"{self}: needs an output for every class, but the network has one. For the "
                "probability of one of two classes use jb.BinaryCrossEntropy()."
            )
        given = as_array(target, f"{self}: target")
        if given.dtype.kind in "iu" and given.ndim == output.ndim - 1:
            return _indicators(given, output, f"{self}: target")
        y = super().targets(target, output)
        _require_unit_interval(y, f"{self}: target")
        return y

    def _positive(self, output: Array, target: Array) -> Array:
        """Return the outputs whose targets are positive, and 1 for the others."""
        outside = (target > 0) & ~(output > 0)
        if outside.any():
            raise DomainError(
                f"{self}: needs a positive probability where the target is positive, but got "
                f"{output[outside][0]}. End the network in softmax, and keep fuse=True."
            )
        return np.where(target > 0, output, 1)


def _indicators(labels: Any, output: Array, where: str) -> Array:
    classes = output.shape[-1]
    if labels.shape != output.shape[:-1]:
        raise ShapeError(
            f"{where}: expected one label per point, shape {output.shape[:-1]}, got {labels.shape}."
        )
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        label = labels[outside][0]
        raise DomainError(f"{where}: labels go from 0 to {classes - 1}, but got {label}.")
    indicators: Array = np.eye(classes, dtype=output.dtype)[labels]
    return indicators


def _softmax_loss(z: Array, y: Array) -> Array:
    # every -log p is positive, and no term is formed where y is 0
    result: Array = -(y * LOG_SOFTMAX(z)).sum(axis=-1)
    return result


def _softmax_cotangent(z: Array, y: Array) -> Array:
    # p_i sum(y) - y_i = p_i (sum of the other y) - y_i (sum of the other p), without cancellation
    p = SOFTMAX(z)
    return p * _sum_of_others(y) - y * _sum_of_others(p)


def _softmax_root(z: Array, y: Array | None = None) -> LinearMap:
    # (diag(s) - p sᵀ)(diag(s) - p sᵀ)ᵀ = diag(p) - p pᵀ with s = sqrt(p), since sᵀs = 1
    p = SOFTMAX(z)
    total = 1 if y is None else np.sqrt(y.sum(axis=-1, keepdims=True))
    s = np.sqrt(p)
    return DiagonalPlusLowRank(total * s, -(total * p)[..., None], s[..., None])


def _sum_of_others(p: Array) -> Array:
    """Return, at every place, the sum of all entries but that one (none of them subtracted).

    What stands before it plus what stands after it: two running sums, whose roundings, unlike those
    of a matrix product, do not depend on how many points there are.
    """
    before, after = np.zeros_like(p), np.zeros_like(p)
    np.cumsum(p[..., :-1], axis=-1, out=before[..., 1:])
    np.cumsum(p[..., :0:-1], axis=-1, out=after[..., -2::-1])
    return before + after


def _require_unit_interval(y: Array, where: str) -> None:
    outside = ~((y >= 0) & (y <= 1))
    if outside.any():
        raise DomainError(f"{where}: expected values from 0 to 1, but got {y[outside][0]}.")
