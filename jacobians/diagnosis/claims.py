"""Somebody's arrays, brought to the layout of the lines they claim to be.

Roles: ``dW``, ``db``, ``ddelta`` (errors), ``dx``, ``J`` (input Jacobian), ``JW`` (the Jacobian of
the output with respect to vec of a weight matrix).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import Numbers, ShapeError, as_array
from jacobians.derivation.notation import Convention
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key
from jacobians.gradients import WEIGHTS, Gradients
from jacobians.vectorization import unvec, vec

_ROLES = {
    **{"deltas": "ddelta", "delta": "ddelta", "dZ": "ddelta"},
    **{"inputs": "dx", "dx": "dx", "jacobian": "J", "J": "J", "weight_jacobians": "JW"},
}
_PARAMETERS = {"weights": WEIGHTS, "dW": WEIGHTS, "W": WEIGHTS, "biases": ("b",)}
_ORDER = {role: i for i, role in enumerate(("ddelta", "dW", "db", "dx", "J", "JW"))}


def read_claims(
    mine: Any, rules: Rules, batch: int | None, convention: Convention
) -> dict[Key, Numbers]:
    """Return the claimed arrays by role and layer, each in the layout of its line.

    Parameters
    ----------
    mine : Gradients, mapping, sequence or array
        See ``diagnose``.
    rules : Rules
    batch : int, optional
        Number of points; None for one point.
    convention : Convention
        That matrices are laid out in.
    """
    claims: dict[Key, Numbers] = {}
    for name, l, array in _named(mine, rules):
        where = f"diagnose: mine: {name}" + (f" of layer {l}" if l else "")
        role, array = _role(name, l, rules), as_array(array, where)
        if role is None:
            raise ValueError(f"{where}: {rules.net.layers[l - 1]} has none.")
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{where}: expected real numbers, but got dtype {array.dtype}.")
        turned = role in ("dW", "J", "JW") and role in convention.transposed
        if l and role[1:] in rules.net.layers[l - 1].parameters() and not rules.is_dense(l):
            array, p = array.T if turned else array, rules.net.layers[l - 1].parameters()[role[1:]]
            if array.size != p.size or array.shape not in (p.shape, (p.size,), (p.size, 1)):
                raise ShapeError(f"{where}: expected shape {p.shape}, but got {array.shape}.")
            claims[role, l] = vec(array.reshape(len(p), -1))[:, None]
            continue
        array = _laid_out(array, role, l, rules, batch, where)
        key = (role, rules.net.depth if role == "J" else l)
        claims[key] = np.swapaxes(array, -2, -1) if turned else array
    if not claims:
        raise ValueError("diagnose: mine: there is nothing in it.")
    return dict(sorted(claims.items(), key=lambda item: (-item[0][1], _ORDER.get(item[0][0], 2))))


def _role(name: str, l: int, rules: Rules) -> str | None:
    """Return the role of a result by its name, None where the layer has none such."""
    role = _ROLES.get(name)
    if role is not None:
        return role if role != "JW" or rules.is_dense(l) else None
    own, wanted = rules.net.layers[l - 1].parameters(), _PARAMETERS.get(name, (name, name[1:]))
    return next((f"d{parameter}" for parameter in wanted if parameter in own), None)


def _named(mine: Any, rules: Rules) -> Iterable[tuple[str, int, Any]]:
    """Go through what was given as (name, layer, array)."""
    net, L = rules.net, rules.net.depth
    own = [(f"d{k}", l, p) for l, A in enumerate(net.layers, 1) for k, p in A.parameters().items()]
    if isinstance(mine, Gradients):
        deltas = [("deltas", l, delta) for l, delta in enumerate(mine.deltas, 1)]
        of = (p for by_name in mine.parameters for p in by_name.values())
        return [*_in_turn(own, of), *deltas, ("inputs", 0, mine.inputs)]
    if isinstance(mine, Mapping):
        return [item for name, value in mine.items() for item in _of_name(name, value, rules)]
    if isinstance(mine, (list, tuple)) and not (mine and np.ndim(mine[0]) == 0):
        pairs = zip(own, mine, strict=False)
        rows = (np.ndim(A) < 2 or 1 in np.shape(A) for (*_, p), A in pairs if p.ndim == 1)
        if len(mine) == len(own) and all(rows):  # as PyTorch lists parameters
            return _in_turn(own, mine)
        if len(mine) in (L, len(_layers_with("weights", rules))):
            return _listed("weights", mine, rules)
    array, m, n = as_array(mine, "diagnose: mine"), net.widths[-1], net.widths[0]
    row = array.ndim == 1 and 1 in (m, n) and array.size == m * n
    if array.shape[-2:] in ((m, n), (n, m)) or row:
        return [("jacobian", 0, array)]
    if array.ndim == 1 and array.size == net.parameter_count:  # in the order of net.parameters
        pieces = np.split(array, np.cumsum([p.size for *_, p in own])[:-1])
        every = zip(pieces, (p for *_, p in own), strict=False)
        return _in_turn(
            own, (unvec(v, (len(p), v.size // len(p))).reshape(p.shape) for v, p in every)
        )
    raise ShapeError(
        f"diagnose: mine: an array of shape {array.shape} is neither a Jacobian ({m}, {n}) nor a "
        f"gradient of {net.parameter_count} numbers; give a dict such as "
        '{"weights": [...], "biases": [...]}.'
    )


def _in_turn(own: Iterable[Any], arrays: Iterable[Any]) -> list[tuple[str, int, Any]]:
    return [(k, l, A) for (k, l, _), A in zip(own, arrays, strict=True) if A is not None]


def _of_name(key: Any, value: Any, rules: Rules) -> list[tuple[str, int, Any]]:
    numbered = re.fullmatch(r"(\D+?)[\[_^]?(\d+)\]?", str(key))
    name, at = (numbered[1], int(numbered[2])) if numbered else (str(key), None)
    if at is None and _ROLES.get(name) in ("dx", "J"):
        return [(name, 0, value)]
    if name in (*_PARAMETERS, "db") and not _layers_with(name, rules):
        every = value if isinstance(value, (list, tuple)) else ()
        if len(every) == rules.net.depth and all(array is None for array in every):
            return []  # as the biases of gradients are where no layer has any
        raise ValueError(f"diagnose: mine: {name}: no layer of the network has any; leave it out.")
    if not _layers_with(name, rules) or _ROLES.get(name) in ("dx", "J"):
        raise ValueError(
            f"diagnose: mine: {name!r} is no name of a result. Expected one of "
            f"{', '.join((*_ROLES, *_PARAMETERS))}, or a parameter, with a layer number after it "
            "if it stands alone."
        )
    if at is not None or isinstance(value, Mapping):
        of, where = value if at is None else {at: value}, f"diagnose: mine: {name}: layer"
        return [(name, rules.net.number(l, where, 1), array) for l, array in of.items()]
    return _listed(name, value, rules)


def _listed(name: str, values: Any, rules: Rules) -> list[tuple[str, int, Any]]:
    every, layers = list(range(1, rules.net.depth + 1)), _layers_with(name, rules)
    if not isinstance(values, (list, tuple)) or len(values) not in (len(every), len(layers)):
        raise ShapeError(
            f"diagnose: mine: {name}: expected a list of {len(every)} arrays, one for every layer."
        )
    layers = every if len(values) == len(every) else layers
    return [(name, l, v) for l, v in zip(layers, values, strict=True) if v is not None]


def _layers_with(name: str, rules: Rules) -> list[int]:
    return [l for l in range(1, rules.net.depth + 1) if _role(name, l, rules) is not None]


def _laid_out(
    array: Numbers, role: str, l: int, rules: Rules, batch: int | None, where: str
) -> Numbers:
    """Bring an array to (m, n), or (B, m, n) where every point has its own."""
    n, m = rules.net.widths[l], rules.net.widths[-1]
    if role == "db" and array.size == n:
        return array.reshape(n, 1)
    if role in ("ddelta", "dx") and array.size == n and (batch or 1) == 1:
        return array.reshape(1, n, 1)
    if role in ("db", "ddelta", "dx"):
        if batch is not None and array.shape in ((batch, n), (n, batch)):
            return (array if array.shape == (batch, n) else array.T)[..., None]
        wanted = f"shape ({n},)" if role == "db" else f"one row of {n} for every point"
        raise ShapeError(f"{where}: expected {wanted}, but got {array.shape}.")
    if role in ("J", "JW") and array.ndim == 1 and 1 in (m, rules.net.widths[0]):
        array = array.reshape(m, -1)
    if role in ("J", "JW") and array.ndim == 2:
        array = np.broadcast_to(array, (batch or 1, *array.shape))
    if role == "dW" and array.ndim == 1 and array.size == prod(rules.symbol("W", l).shape):
        array = array.reshape(n, -1)
    if array.ndim != (2 if role == "dW" else 3):
        raise ShapeError(f"{where}: expected a matrix, but got shape {array.shape}.")
    return array
