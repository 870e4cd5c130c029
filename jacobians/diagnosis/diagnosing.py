"""From somebody's result to a diagnosis."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from jacobians._checks import as_nonnegative, underflow_is_rounding
from jacobians._tables import PointsLike, as_inputs, targets_in_order
from jacobians.derivation.evaluation import given
from jacobians.derivation.notation import Convention, as_convention
from jacobians.derivation.rules import Rules
from jacobians.derivation.starts import add_up_to_1
from jacobians.derivation.terms import Rounding
from jacobians.diagnosis.case import Case
from jacobians.diagnosis.claims import read_claims
from jacobians.diagnosis.drawing import draw
from jacobians.diagnosis.record import Diagnosis
from jacobians.diagnosis.verdicts import Verdict
from jacobians.layers import Layer
from jacobians.losses import Loss, as_loss
from jacobians.network import Network, as_network


@underflow_is_rounding
def diagnose(
    mine: Any,
    net: Network,
    X: PointsLike,
    Y: Any = None,
    loss: Loss | None = None,
    l2: float = 0.0,
    convention: str | Convention = "columns",
) -> Diagnosis:
    """Say whether somebody's derivatives are right, and if not, which mistake was made.

    The mistakes are changes of the lines that ``derive`` prints, tried alone and in pairs until
    they reproduce every array within rounding.  A right result is never accused: the bound covers
    any sensible way to compute it in its precision, and errors ``dC/dz`` of each point's own loss.
    It is proved for dense networks; where a layer is not dense or a loss is your own, nothing tells
    what they round inside, and in a deep network a bound may exceed the numbers: there an estimate
    decides, and the answer says so.  At a kink any slope between those on its two sides is right.
    The time grows in proportion to the depth.

    Parameters
    ----------
    mine : mapping, Gradients, array, list or callable
        ``{"weights": [...], "biases": [...], "deltas": [...], "inputs": ..., "jacobian": ...,
        "weight_jacobians": [...]}``, or any of them, or ``{"dW1": ..., "db1": ...}``; a list of
        weight gradients, or of weights and biases in turn; one vector in the order of
        ``Network.parameters``; an input Jacobian.  A function ``mine(net, X, Y)`` that returns one
        of these is tried on other networks too, on which no two mistakes look the same.
    net : Network
    X : array or data frame, shape (n_0,) or (N, n_0)
    Y : array, optional
        Targets, as the loss takes them; not needed for Jacobians.
    loss : Loss, optional
    l2 : float
    convention : str or Convention
        That ``mine`` is laid out in: ``"000"`` for gradients in the shape of the transpose.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ShapeError, TypeError, ValueError
        If ``mine`` is nothing that can be compared with this network.
    DomainError
        If the loss has no slope at the network's outputs, as at logits without their softmax.

    >>> import jacobians as jb
    >>> net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[1, -1]])])
    >>> X, Y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[3.0], [1.0]])
    >>> g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
    >>> diagnose(g, net, X, Y, jb.SquaredError()).right
    True
    >>> d = diagnose({"weights": [3 * g.weights[0], g.weights[1]]}, net, X, Y, jb.SquaredError())
    >>> d.mistakes[0].name
    'factor 3'
    """
    return _asked(mine, net, X, Y, loss, l2, convention).diagnosis()


@underflow_is_rounding
def is_right(mine: Any, net: Network, X: Any, Y: Any, loss: Loss | None, l2: float = 0.0,
             convention: str | Convention = "columns") -> bool:  # fmt: skip
    """Say whether somebody's derivatives are right, as ``diagnose`` does, and no more."""
    return _asked(mine, net, X, Y, loss, l2, convention, probes=False).right_as() is not None


def _asked(
    mine: Any, net: Network, X: Any, Y: Any, loss: Loss | None, l2: float,
    convention: str | Convention, probes: bool = True,
) -> Verdict:  # fmt: skip
    """Read what was given; a function is run on drawn networks too."""
    net, convention = as_network(net, "diagnose"), as_convention(convention)
    X = as_inputs(X, net, "diagnose: X")
    if (loss is None) != (Y is None):
        raise ValueError("diagnose: gradients need both Y and loss; a Jacobian needs neither.")
    if loss is not None:
        output = net(X)
        Y = as_loss(loss).targets(targets_in_order(Y, net, "diagnose: Y"), output)
        if loss.fused(net.layers[-1].activation) is None:
            loss.cotangent(output, Y)  # refuses outputs that the loss has no slope at
    l2 = as_nonnegative(l2, "diagnose: l2")
    if isinstance(mine, (Layer, Network)):
        raise TypeError(
            f"diagnose: mine: expected derivatives, or a function (net, X, Y) that returns them, "
            f"but got {mine!r:.80}."
        )
    if not len(X):
        raise ValueError("diagnose: X: there are no points, so nothing can be compared.")
    rows, batch = None if Y is None else np.atleast_2d(Y), len(X) if X.ndim == 2 else None
    rules = Rules(net, loss, l2, batch or 1, add_up_to_1(rows, net.dtype))
    claims = read_claims(mine(net, X, Y) if callable(mine) else mine, rules, batch, convention)
    if loss is None and any(role not in ("J", "JW") for role, _ in claims):
        raise ValueError("diagnose: gradients need Y and loss.")
    single = net.dtype == np.float32 or any(A.dtype.itemsize < 8 for A in claims.values())
    rounding = Rounding.of(np.float32 if single else np.float64, typical=True)
    case = Case(rules, given(rules, np.atleast_2d(X), rows), rounding, claims)
    drawn, cases = draw(net, loss) if probes else [], []
    for d in drawn:
        rules = Rules(d.net, loss, l2, len(d.X), add_up_to_1(d.Y, net.dtype))
        probe = Case(rules, given(rules, d.X, d.Y), rounding)
        cases.append(probe)
        if callable(mine):
            with suppress(Exception):  # an error on another network is no evidence
                there = read_claims(mine(d.net, d.X, d.Y), rules, len(d.X), convention)
                # who gives the same again does not look at what it is given
                same = all(np.array_equal(A, there.get(key, 0)) for key, A in claims.items())
                probe.claims = None if same else there
    return Verdict(case, cases, [d.about for d in drawn])
