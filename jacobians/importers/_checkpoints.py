"""What training scripts save -> plain names and weights, as a state dict of linear layers has them.

A checkpoint may hold its state dict beside an epoch and an optimizer; names carry what wrapped the
module (``module.``, ``_orig_mod.``); a parametrized weight lies there in the pieces from which the
module computes it.  All of that is undone here, and nothing else: an entry that is no weight of a
linear layer stays, to be refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jacobians._checks import Numbers
from jacobians.importers._state_dicts import LinearLayer, linear_layers

_USUAL = ("state_dict", "model_state_dict", "model")
_PARAMETRIZED = ".parametrizations.weight."


def layers_of_checkpoint(
    value: Any, activations: Any, where: str, array_of: Callable[[Any, str], Numbers]
) -> tuple[dict[str, LinearLayer], Any]:
    """Return the linear layers of a state dict, or of a checkpoint, and their activations.

    Parameters
    ----------
    value : mapping
    activations : mapping from layer names, or anything else
        What a mapping gives None for is left out: an entry, or everything below a name.
    where : str
        What to call it in errors.
    array_of : callable
        From an entry and its place to an array.
    """
    state = {str(key): entry for key, entry in state_dict_in(value, where).items()}
    arrays = {key: array_of(entry, f"{where}: {key!r:.80}") for key, entry in state.items()}
    arrays = _without(plain(arrays, where), activations)
    _require_layers(arrays, where)
    if isinstance(activations, Mapping):
        activations = {name: sigma for name, sigma in activations.items() if sigma is not None}
    return linear_layers(arrays, where), activations


def state_dict_in(value: Any, where: str) -> Mapping[Any, Any]:
    """Return the mapping of names to arrays that a checkpoint is, or holds.

    Raises
    ------
    ValueError
        If it holds none, or several and none has a usual name; the message lists them.
    TypeError
        If it is no mapping.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: expected a mapping from names to weights, but got {value!r:.80}")
    if not value or any(_is_array(entry) for entry in value.values()):
        return value
    inner = {key: entry for key, entry in value.items() if _holds_arrays(entry)}
    usual = [key for key in _USUAL if key in inner]
    if len(inner) == 1 or usual:
        chosen: Mapping[Any, Any] = inner[usual[0] if usual else next(iter(inner))]
        return chosen
    listed = ", ".join(f"{key!r:.40}" for key in (inner or value))
    raise ValueError(
        f"{where}: expected one mapping from names to weights, but got the entries {listed}; "
        "give one of them to from_torch, with its activations."
    )


def plain(arrays: Mapping[str, Numbers], where: str) -> dict[str, Numbers]:
    """Return the arrays under the names that the bare module has, parametrized weights computed.

    >>> state = {"module.fc.weight_g": np.ones((2, 1)), "module.fc.weight_v": 2 * np.eye(2, 3)}
    >>> plain(state, "state")
    {'fc.weight': array([[1., 0., 0.],
           [0., 1., 0.]])}
    """
    arrays = {key.replace("_orig_mod.", ""): array for key, array in arrays.items()}
    while arrays and all(key.startswith("module.") for key in arrays):
        arrays = {key.removeprefix("module."): array for key, array in arrays.items()}
    arrays = {f".{key}": array for key, array in arrays.items()}  # a module alone has no name
    for key in list(arrays):
        for suffixes, compute in _COMPUTED.items():
            layer = key.removesuffix(suffixes[0])
            pieces = [layer + suffix for suffix in suffixes]
            if layer != key and all(piece in arrays for piece in pieces):
                v, *rest = (arrays.pop(piece) for piece in pieces)
                W = compute(v.astype(np.float64), *rest).astype(v.dtype)
                arrays[f"{layer}.weight"] = W
    for key in arrays:
        if _PARAMETRIZED in key:
            raise NotImplementedError(
                f"{where}: {key[1:]!r:.80} is a piece of a parametrization, which its module can "
                "compute: give the module itself to from_torch."
            )
    return {key[1:]: array for key, array in arrays.items()}


def _without(arrays: Mapping[str, Numbers], activations: Any) -> dict[str, Numbers]:
    """Leave out what a mapping of activations gives None for: entries, or all below a name."""
    if not isinstance(activations, Mapping):
        return dict(arrays)
    dropped = {name for name, sigma in activations.items() if sigma is None}
    return {
        key: array
        for key, array in arrays.items()
        if not any(key == name or key.startswith(f"{name}.") for name in dropped)
    }


def _require_layers(arrays: Mapping[str, Numbers], where: str) -> None:
    """Refuse the first entry that is no weight or bias, saying how to leave it out."""
    layers = {key.rpartition(".")[0] for key, array in arrays.items() if _is_weight(key, array)}
    for key, array in arrays.items():
        is_bias = key.rpartition(".")[2] == "bias" and array.ndim == 1
        if _is_weight(key, array) or is_bias:
            continue
        named = ", ".join(f"{layer!r:.40}: ..." for layer in sorted(layers)[:4])
        raise NotImplementedError(
            f"{where}: {key!r:.80} of shape {array.shape} is not the weight (n_out, n_in) or "
            "the bias (n_out,) of a linear layer. If the network does without it, leave it out "
            f"with activations={{{named}, {key!r:.80}: None}}; if not, give the module itself to "
            "from_torch, in evaluation mode."
        )


def _is_weight(key: str, array: Numbers) -> bool:
    return key.rpartition(".")[2] == "weight" and array.ndim == 2


def _is_array(entry: Any) -> bool:
    return hasattr(entry, "shape") and hasattr(entry, "dtype")


def _holds_arrays(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(_is_array(inner) for inner in entry.values())


def _weight_norm(v: Numbers, g: Numbers) -> Numbers:
    """Return ``g v / ||v||``: a length for each row, each column or the whole, as g has them."""
    axes = tuple(axis for axis, size in enumerate(g.shape) if size == 1) if g.ndim else None
    norm: Numbers = np.sqrt((v**2).sum(axis=axes, keepdims=True))
    scaled: Numbers = g * v / norm
    return scaled


def _spectral_norm(W: Numbers, u: Numbers, v: Numbers) -> Numbers:
    """Return ``W / (uᵀ W v)``."""
    scaled: Numbers = W / (u @ W.reshape(len(u), -1) @ v)
    return scaled


# the endings of the pieces, the first of the shape of the weight, and how it is computed from them
_COMPUTED: dict[tuple[str, ...], Callable[..., Numbers]] = {
    (".weight_v", ".weight_g"): _weight_norm,
    (f"{_PARAMETRIZED}original1", f"{_PARAMETRIZED}original0"): _weight_norm,
    (".weight_orig", ".weight_u", ".weight_v"): _spectral_norm,
    tuple(_PARAMETRIZED + end for end in ("original", "0._u", "0._v")): _spectral_norm,
}
