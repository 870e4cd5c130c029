"""Curvature: the second-order matrices of an objective in its parameters, as maps.

    Hessian            d²C/dtheta², what the layers bend included
    Gauss-Newton       mean of  Jᵀ (d²loss/da²) J         J = dH/dtheta at a point
    Fisher             mean of  Jᵀ E[c cᵀ] J              targets drawn from the model
    empirical Fisher   mean of  g gᵀ                      g = Jᵀ c, the gradient of one point
    tangent kernel     J_i J_jᵀ                           NTK

The objective C is the mean of the loss over the points, and so are these.  Where a loss belongs to
the last activation, the two are taken in one step and J ends before it: Gauss-Newton is then the
Fisher matrix for softmax with cross-entropy and for the sigmoid with its own, as it is for squared
errors always.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jacobians._checks import Array, as_count, flags_end_with_it, freeze, underflow_is_rounding
from jacobians._tables import PointsLike, as_inputs, targets_in_order
from jacobians.losses import Loss, as_loss
from jacobians.maps import Blocks
from jacobians.network import Network, as_network
from jacobians.second_order.grams import Gram, Kernel
from jacobians.second_order.khatri_rao import KhatriRao
from jacobians.second_order.objective_hessians import ObjectiveHessian
from jacobians.second_order.rows import PointRows, Root, of_loss, outputs

MAX_BYTES = 2**27


@dataclass(frozen=True, eq=False, repr=False)
class Curvature:
    """The curvature of the mean loss over some points; made by ``curvature``.

    Every matrix is a map of shape (p, p), its parameters in the order of ``Network.parameters``:
    ``@``, ``diagonal()``, ``trace()``, ``to_scipy()``, and ``block(l)`` for those of one layer.
    """

    network: Network
    X: Array
    Y: Any
    loss: Loss | None
    max_bytes: int = MAX_BYTES

    def __repr__(self) -> str:
        count = self.network.parameter_count
        return f"Curvature in {count:,} parameters over {len(self.X):,} points"

    @property
    def hessian(self) -> ObjectiveHessian:
        """The second derivative ``d²C/dtheta²``, for a convex loss."""
        rows, cotangent = self._rows(self._root("root")), self._root("cotangent")
        return ObjectiveHessian(rows, 1 / len(self.X), cotangent)

    @property
    def gauss_newton(self) -> Gram:
        """The mean of ``Jᵀ (d²loss/da²) J``, for a convex loss."""
        return self._gram("root")

    @property
    def fisher(self) -> Gram:
        """The Fisher information, exact: targets drawn from the model, none needed."""
        return self._gram("fisher_root")

    @property
    def empirical_fisher(self) -> Gram:
        """The mean of ``g gᵀ`` over the gradients of single points."""
        return self._gram("cotangent")

    @underflow_is_rounding
    def gradients(self) -> Blocks:
        """Return the gradients of the loss at single points, the rows of a map (B, p).

        For a dense layer the rows are ``(aᵀ, 1) ⊗ deltaᵀ``, kept as ``a`` and ``delta``.
        """
        rows = self._rows(self._root("cotangent"))
        by_layer: dict[int, list[KhatriRao]] = {}
        for _, piece in rows.by_layer():
            for l, K in piece:
                by_layer.setdefault(l, []).append(K)
        return Blocks([_stacked(by_layer[l]) for l in sorted(by_layer)])

    @underflow_is_rounding
    def gradient_squares(self) -> Array:
        """Return the squared norm of every point's gradient, (B,).

        Of a dense layer with a bias it is ``(aᵀa + 1) deltaᵀdelta``.
        """
        rows = self._rows(self._root("cotangent"))
        return Kernel(rows, rows).diagonal()

    def ntk(self, other: Any = None) -> Kernel:
        """Return the tangent kernel ``J_i J_jᵀ``, (B m, B' m), between these points and others."""
        left = self._rows(outputs(self.network))
        if other is None:
            return Kernel(left, left)
        X = freeze(np.atleast_2d(as_inputs(other, self.network, "ntk: other")))
        return Kernel(left, PointRows(self.network, X, None, left.root, self.max_bytes))

    def _gram(self, kind: str) -> Gram:
        return Gram(self._rows(self._root(kind)), 1 / len(self.X))

    def _root(self, kind: str) -> Root:
        if self.loss is None:
            raise ValueError("curvature: loss: this matrix needs one; give loss=.")
        if self.Y is None and kind != "fisher_root":
            raise ValueError("curvature: Y: this matrix needs targets; without them, see fisher.")
        return of_loss(self.network, self.loss, kind)

    def _rows(self, root: Root) -> PointRows:
        return PointRows(self.network, self.X, self.Y, root, self.max_bytes)


def _stacked(pieces: list[KhatriRao]) -> KhatriRao:
    left, right = ([getattr(K, name) for K in pieces] for name in ("left", "right"))
    return KhatriRao(np.concatenate(left), np.concatenate(right))


@flags_end_with_it
def curvature(
    net: Network, X: PointsLike, Y: Any = None, loss: Loss | None = None, max_bytes: int = MAX_BYTES
) -> Curvature:
    """Describe the curvature of the mean loss in the parameters, by maps.

    The parameters are those of ``Network.parameters``.

    Parameters
    ----------
    net : Network
    X : array or data frame, shape (n,) or (B, n)
    Y : array, optional
        Targets, as the loss takes them; ``fisher`` and ``ntk`` need none.
    loss : Loss, optional
        ``ntk`` needs none.
    max_bytes : int, optional
        Budget for what is held at a time (128 MiB); what one point needs is held in any case.

    Returns
    -------
    Curvature

    Raises
    ------
    ShapeError, DomainError, NotFiniteError
        If points or targets do not fit the network or the loss.
    ValueError
        If there are no points or no parameters, or a matrix needs a loss or targets and has none.

    >>> import jacobians as jb
    >>> net = jb.Network.random([3, 5, 2], "tanh", "softmax", seed=0)
    >>> c = curvature(net, np.eye(3), [0, 1, 1], jb.CrossEntropy())
    >>> c.gauss_newton
    Gram 32x32 float64
    >>> (c.gauss_newton @ np.ones(32)).shape, c.ntk().shape
    ((32,), (6, 6))
    >>> bool(np.isclose(c.fisher.trace(), c.fisher.diagonal().sum()))
    True
    """
    net = as_network(net, "curvature")
    x = as_inputs(X, net, "curvature: X")
    points = freeze(np.atleast_2d(x))
    if not len(points):
        raise ValueError("curvature: X: the mean over no points is undefined.")
    if not net.parameter_count:
        raise ValueError(f"curvature: {net} has no parameters.")
    loss = None if loss is None else as_loss(loss)
    if Y is not None:
        if loss is None:
            raise ValueError("curvature: Y: targets mean nothing without a loss; give loss=.")
        like = np.zeros((*x.shape[:-1], net.widths[-1]), net.dtype)  # as the outputs are
        Y = freeze(np.atleast_2d(loss.targets(targets_in_order(Y, net, "curvature: Y"), like)))
    return Curvature(net, points, Y, loss, as_count(max_bytes, "curvature: max_bytes"))
