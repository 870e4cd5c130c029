"""Somebody's arrays, brought to the layout of the lines they claim to be.

Roles: ``dW``, ``db``, ``ddelta`` (errors), ``dx``, ``J`` (input Jacobian), ``JW`` (the Jacobian of
the output with respect to vec of a weight matrix).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jacobians._checks import Array, Numbers, ShapeError, as_array
from jacobians.derivation.notation import Convention
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key
from jacobians.gradients import Gradients
from jacobians.vectorization import unvec

_ROLES = {
    **{"weights": "dW", "dW": "dW", "W": "dW"},
    **{"biases": "db", "db": "db", "b": "db"},
    **{"deltas": "ddelta", "delta": "ddelta", "dZ": "ddelta"},
    **{"inputs": "dx", "dx": "dx", "jacobian": "J", "J": "J", "weight_jacobians": "JW"},
}
_ORDER = ["ddelta", "dW", "db", "dx", "J", "JW"]


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
        if name not in _ROLES:
            raise ValueError(
                f"diagnose: mine: {name!r} is no name of a result. Expected one of "
                f"{', '.join(_ROLES)}, with a layer number after it if it stands alone."
            )
        role = _ROLES[name]
        where = f"diagnose: mine: {name}" + (f" of layer {l}" if l else "")
        array = as_array(array, where)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{where}: expected real numbers, but got dtype {array.dtype}.")
        if role in ("dW", "db", "JW") and not rules.is_dense(l):
            layer = rules.net.layers[l - 1]
            raise ValueError(f"{where}: layer {l} ({layer}) has no weight matrix.")
        array = _laid_out(array, role, l, rules, batch, where)
        if role in ("dW", "J", "JW") and role in convention.transposed:
            array = np.swapaxes(array, -2, -1)
        claims[role, rules.net.depth if role == "J" else l] = array
    if not claims:
        raise ValueError("diagnose: mine: there is nothing in it.")
    return dict(sorted(claims.items(), key=lambda item: (-item[0][1], _ORDER.index(item[0][0]))))


def _named(mine: Any, rules: Rules) -> Iterable[tuple[str, int, Any]]:
    """Go through what was given as (name, layer, array)."""
    net, L = rules.net, rules.net.depth
    dense = [l for l in range(1, L + 1) if rules.is_dense(l)]
    if isinstance(mine, Gradients):
        mine = {k: getattr(mine, k) for k in ("weights", "biases", "deltas", "inputs")}
    if isinstance(mine, Mapping):
        return [item for name, value in mine.items() for item in _of_name(name, value, dense, L)]
    if isinstance(mine, (list, tuple)) and not (mine and np.ndim(mine[0]) == 0):
        vectors = (np.ndim(b) < 2 or 1 in np.shape(b) for b in mine[1::2])
        if len(mine) == 2 * len(dense) and all(vectors):  # as PyTorch lists parameters
            return _named({"weights": mine[::2], "biases": mine[1::2]}, rules)
        if len(mine) in (L, len(dense)):
            return _listed("weights", mine, dense, L)
    array, m, n = as_array(mine, "diagnose: mine"), net.widths[-1], net.widths[0]
    row = array.ndim == 1 and 1 in (m, n) and array.size == m * n
    if array.shape[-2:] in ((m, n), (n, m)) or row:
        return [("jacobian", 0, array)]
    if array.ndim == 1 and array.size == net.parameter_count:
        return _cut(array, net.widths, dense)
    raise ShapeError(
        f"diagnose: mine: an array of shape {array.shape} is neither a Jacobian ({m}, {n}) nor a "
        f"gradient of {net.parameter_count} numbers; give a dict such as "
        '{"weights": [...], "biases": [...]}.'
    )


def _of_name(name: Any, value: Any, dense: list[int], L: int) -> list[tuple[str, int, Any]]:
    numbered = re.fullmatch(r"(dW|db|W|b|delta|dZ)[\[_^]?(\d+)\]?", str(name))
    if numbered:
        l = int(numbered[2])
        if not 1 <= l <= L:
            raise ValueError(f"diagnose: mine: {name!r}: the layers are 1 to {L}.")
        return [(numbered[1], l, value)]
    if name in ("inputs", "dx", "jacobian", "J"):
        return [(name, 0, value)]
    if isinstance(value, Mapping):
        return [(str(name), int(l), array) for l, array in value.items()]
    return _listed(str(name), value, dense, L)


def _listed(name: str, values: Any, dense: list[int], L: int) -> list[tuple[str, int, Any]]:
    if not isinstance(values, (list, tuple)) or len(values) not in (L, len(dense)):
        raise ShapeError(
            f"diagnose: mine: {name}: expected a list of {L} arrays, one for every layer."
        )
    layers = range(1, L + 1) if len(values) == L else dense
    return [(name, l, v) for l, v in zip(layers, values, strict=True) if v is not None]


def _cut(vector: Array, widths: Any, dense: list[int]) -> Iterable[tuple[str, int, Any]]:
    """Cut one vector of all gradients, in the order of ``Network.parameters``."""
    start = 0
    for l in dense:
        m, n = widths[l], widths[l - 1]
        yield "weights", l, unvec(vector[start : start + m * n], (m, n))
        yield "biases", l, vector[start + m * n : start + m * n + m]
        start += m * n + m


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
    if role == "dW" and array.ndim == 1 and array.size == n * rules.net.widths[l - 1]:
        array = array.reshape(n, -1)
    if array.ndim != (2 if role == "dW" else 3):
        raise ShapeError(f"{where}: expected a matrix, but got shape {array.shape}.")
    return array
