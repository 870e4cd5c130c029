"""From somebody's result to a diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacobians._checks import Numbers, as_nonnegative, underflow_is_rounding
from jacobians._tables import as_inputs
from jacobians.derivation.evaluation import given
from jacobians.derivation.notation import Convention, as_convention
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key, Rounding
from jacobians.diagnosis.claims import read_claims
from jacobians.diagnosis.drawing import draw
from jacobians.diagnosis.record import Diagnosis
from jacobians.diagnosis.search import (
    Case,
)
from jacobians.diagnosis.verdicts import Verdict
from jacobians.losses import Loss, as_loss
from jacobians.network import Network, as_network


@underflow_is_rounding
def diagnose(
    mine: Any,
    net: Network,
    X: Any,
    Y: Any = None,
    loss: Loss | None = None,
    l2: float = 0.0,
    convention: str | Convention = "columns",
) -> Diagnosis:
    """Say whether somebody's derivatives are right, and if not, which mistake was made.

    The mistakes are changes of the lines that ``derive`` prints, tried alone and in pairs until
    they reproduce every array within rounding.  A right result is never accused: the bound covers
    any sensible way to compute it in its precision, the choice of a slope at a kink, and errors
    ``dC/dz`` of each point's own loss.

    Parameters
    ----------
    mine : mapping, Gradients, array, list or callable
        ``{"weights": [...], "biases": [...], "deltas": [...], "inputs": ..., "jacobian": ...,
        "weight_jacobians": [...]}``, or any of them, or ``{"dW1": ..., "db1": ...}``; a list of
        weight gradients, or of weights and biases in turn; one vector in the order of
        ``Network.parameters``; an input Jacobian.  A function ``mine(net, X, Y)`` that returns one
        of these is tried on other networks too, on which no two mistakes look the same.
    net : Network
    X : array, shape (n_0,) or (N, n_0)
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
    return _doctor(mine, net, X, Y, loss, l2, convention).diagnosis()


def is_right(mine: Any, net: Network, X: Any, Y: Any, loss: Loss | None, l2: float = 0.0,
             convention: str | Convention = "columns") -> bool:  # fmt: skip
    """Say whether somebody's derivatives are right, as ``diagnose`` does, and no more."""
    return _doctor(mine, net, X, Y, loss, l2, convention, probes=False).verdict() is not None


def _doctor(
    mine: Any, net: Network, X: Any, Y: Any, loss: Loss | None, l2: float,
    convention: str | Convention, probes: bool = True,
) -> Verdict:  # fmt: skip
    net, convention = as_network(net, "diagnose"), as_convention(convention)
    X = as_inputs(X, net, "diagnose: X")
    if (loss is None) != (Y is None):
        raise ValueError("diagnose: gradients need both Y and loss; a Jacobian needs neither.")
    if loss is not None:
        Y = as_loss(loss).targets(Y, net(X))
    l2 = as_nonnegative(l2, "diagnose: l2")
    function = mine if callable(mine) else None
    result = function(net, X, Y) if function is not None else mine
    batch = len(X) if X.ndim == 2 else None
    case = _case(result, net, np.atleast_2d(X), _rows(Y), loss, l2, batch, convention)
    drawn = draw(net, loss, Y) if probes else []
    cases = [_probe(d.net, d.X, d.Y, loss, l2, case.rounding) for d in drawn]
    if function is not None:
        for probe, d in zip(cases, drawn, strict=True):
            _run(function, probe, d, convention)
            if case.claims is not None and _same(case.claims, probe.claims):
                probe.claims = None  # it does not look at what it is given
    return Verdict(case, cases, [d.about for d in drawn])


def _rows(Y: Any) -> Any:
    return None if Y is None else np.atleast_2d(Y)


def _probe(net: Network, X: Any, Y: Any, loss: Loss | None, l2: float, rounding: Rounding) -> Case:
    summed = Y is None or bool((np.abs(Y.sum(axis=-1) - 1) < 1e-6).all())
    rules = Rules(net, loss, l2, len(X), summed)
    return Case(rules, given(rules, X, Y), rounding, None)


def _case(
    mine: Any, net: Network, X: Any, Y: Any, loss: Loss | None, l2: float, batch: int | None,
    convention: Convention,
) -> Case:  # fmt: skip
    case = _probe(net, X, Y, loss, l2, Rounding.of(np.float64, typical=True))
    case.claims = {
        key: _ours(array, key, convention)
        for key, array in read_claims(mine, case.rules, batch).items()
    }
    if loss is None and any(key[0] in ("dW", "db", "ddelta", "dx") for key in case.claims):
        raise ValueError("diagnose: gradients need Y and loss.")
    single = any(array.dtype.itemsize < 8 for array in case.claims.values())
    case.rounding = Rounding.of(
        np.float32 if single or net.dtype == np.float32 else np.float64, typical=True
    )
    return case


def _ours(array: Numbers, key: Key, convention: Convention) -> Numbers:
    """Turn an array from the layout of a convention into ours."""
    matrix = key[0] in ("dW", "J", "JW") and key[0] in convention.transposed
    return np.swapaxes(array, -2, -1) if matrix else array


def _same(one: dict[Key, Numbers], other: dict[Key, Numbers] | None) -> bool:
    return other is not None and all(np.array_equal(one[k], other.get(k, 0)) for k in one)


def _run(function: Callable[..., Any], probe: Case, d: Any, convention: Convention) -> None:
    """Try somebody's function on a drawn network; an error there is no evidence."""
    try:
        claims = read_claims(function(d.net, d.X, d.Y), probe.rules, len(d.X))
    except Exception:
        return
    probe.claims = {key: _ours(array, key, convention) for key, array in claims.items()}
