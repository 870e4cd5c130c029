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
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Key
from jacobians.gradients import Gradients
from jacobians.vectorization import unvec

_ROLES = {
    "weights": "dW",
    "biases": "db",
    "deltas": "ddelta",
    "inputs": "dx",
    "jacobian": "J",
    "weight_jacobians": "JW",
    "dW": "dW",
    "db": "db",
    "W": "dW",
    "b": "db",
    "delta": "ddelta",
    "dZ": "ddelta",
    "dx": "dx",
    "J": "J",
}


def read_claims(mine: Any, rules: Rules, batch: int | None) -> dict[Key, Numbers]:
    """Return the claimed arrays by role and layer, each in the layout of its line.

    Parameters
    ----------
    mine : Gradients, mapping, sequence or array
        See ``diagnose``.
    rules : Rules
    batch : int, optional
        Number of points; None for one point.
    """
    found: dict[Key, Numbers] = {}
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
        key = (role, rules.net.depth if role == "J" else l)
        if role in ("dW", "db", "JW") and not rules.is_dense(l):
            raise ValueError(
                f"{where}: layer {l} ({rules.net.layers[l - 1]}) has no weight matrix."
            )
        found[key] = _laid_out(array, role, l, rules, batch, where)
    if not found:
        raise ValueError("diagnose: mine: there is nothing in it.")
    order = ["ddelta", "dW", "db", "dx", "J", "JW"]
    return dict(sorted(found.items(), key=lambda item: (-item[0][1], order.index(item[0][0]))))


def _named(mine: Any, rules: Rules) -> Iterable[tuple[str, int, Any]]:
    """Go through what was given as (name, layer, array)."""
    L = rules.net.depth
    if isinstance(mine, Gradients):
        mine = {k: getattr(mine, k) for k in ("weights", "biases", "deltas", "inputs")}
    if isinstance(mine, Mapping):
        for name, value in mine.items():
            numbered = re.fullmatch(r"(dW|db|W|b|delta|dZ)[\[_^]?(\d+)\]?", str(name))
            if numbered:
                l = int(numbered[2])
                if not 1 <= l <= L:
                    raise ValueError(f"diagnose: mine: {name!r}: the layers are 1 to {L}.")
                yield numbered[1], l, value
            elif name in ("inputs", "dx", "jacobian", "J"):
                yield name, 0, value
            elif isinstance(value, Mapping):
                yield from ((str(name), int(l), array) for l, array in value.items())
            else:
                yield from _listed(str(name), value, rules)
        return
    if isinstance(mine, (list, tuple)) and not (mine and np.ndim(mine[0]) == 0):
        dense = [l for l in range(1, L + 1) if rules.is_dense(l)]
        if len(mine) == 2 * len(dense) and all(
            np.ndim(b) < 2 or 1 in np.shape(b) for b in mine[1::2]
        ):
            mine = {"weights": mine[::2], "biases": mine[1::2]}  # as PyTorch lists parameters
            yield from _named(mine, rules)
            return
        if len(mine) in (L, len(dense)):
            yield from _listed("weights", mine, rules)
            return
    array = as_array(mine, "diagnose: mine")
    m, n = rules.net.widths[-1], rules.net.widths[0]
    if array.shape[-2:] in ((m, n), (n, m)) or (
        array.ndim == 1 and 1 in (m, n) and array.size == m * n
    ):
        yield "jacobian", 0, array
        return
    if array.ndim == 1 and array.size == rules.net.parameter_count:
        yield from _cut(array, rules)
        return
    raise ShapeError(
        f"diagnose: mine: an array of shape {array.shape} is neither a Jacobian ({m}, {n}) nor a "
        f"gradient of {rules.net.parameter_count} numbers; give a dict such as "
        '{"weights": [...], "biases": [...]}.'
    )


def _listed(name: str, values: Any, rules: Rules) -> Iterable[tuple[str, int, Any]]:
    layers = list(range(1, rules.net.depth + 1))
    dense = [l for l in layers if rules.is_dense(l)]
    if not isinstance(values, (list, tuple)) or len(values) not in (len(layers), len(dense)):
        raise ShapeError(
            f"diagnose: mine: {name}: expected a list of {len(layers)} arrays, one for every layer."
        )
    chosen = layers if len(values) == len(layers) else dense
    return [(name, l, v) for l, v in zip(chosen, values, strict=True) if v is not None]


def _cut(vector: Array, rules: Rules) -> Iterable[tuple[str, int, Any]]:
    """Cut one vector of all gradients, in the order of ``Network.parameters``."""
    start = 0
    for l in range(1, rules.net.depth + 1):
        if rules.is_dense(l):
            m, n = rules.net.widths[l], rules.net.widths[l - 1]
            yield "weights", l, unvec(vector[start : start + m * n], (m, n))
            yield "biases", l, vector[start + m * n : start + m * n + m]
            start += m * n + m


def _laid_out(
    array: Numbers, role: str, l: int, rules: Rules, batch: int | None, where: str
) -> Numbers:
    """Bring an array to (m, n), or (B, m, n) where every point has its own."""
    n = rules.net.widths[l]
    if role == "db":
        if array.size == n:
            return array.reshape(n, 1)
        if array.ndim == 2 and array.shape in ((batch, n), (n, batch)):
            return (array if array.shape == (batch, n) else array.T)[..., None]
        raise ShapeError(f"{where}: expected shape ({n},), but got {array.shape}.")
    if role in ("ddelta", "dx"):
        if array.size == n and (batch or 1) == 1:
            return array.reshape(1, n, 1)
        if batch is not None and array.shape in ((batch, n), (n, batch)):
            return (array if array.shape == (batch, n) else array.T)[..., None]
        raise ShapeError(
            f"{where}: expected one row of {n} for every point, but got {array.shape}."
        )
    if role in ("J", "JW") and array.ndim == 1 and 1 in (rules.net.widths[-1], rules.net.widths[0]):
        array = array.reshape(rules.net.widths[-1], -1)
    if role in ("J", "JW") and array.ndim == 2:
        array = np.broadcast_to(array, (batch or 1, *array.shape))
    if role == "dW" and array.ndim == 1 and array.size == n * rules.net.widths[l - 1]:
        array = array.reshape(n, -1)
    if array.ndim != (2 if role == "dW" else 3):
        raise ShapeError(f"{where}: expected a matrix, but got shape {array.shape}.")
    return array
