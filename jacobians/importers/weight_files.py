"""Weights by name -> Network, once somebody names the activations.

State dicts and safetensors files hold arrays ``NAME.weight`` and ``NAME.bias`` and nothing of what
happens between them.  Numbered names say their order, ``0, 2, 10`` or ``fc1, fc2``; of any others
the order is known to whoever made the model, who says it by naming the layers.  Beside these there
are, in ``.npz`` and ``.mat`` files, in small or capital letters, with or without ``_`` before the
number:

============================  ===============================================================
``W1, b1, W2, b2, ...``       also ``weight1, bias1`` and ``weights1, biases1``
``W, b``                      cells of MATLAB, one entry a layer; or the arrays of a single layer
``Theta1, Theta2, ...``       the bias in the first column, the weights after it
============================  ===============================================================

A weight is (n_out, n_in), or (n_in, n_out) in such a file where only that fits; where both would,
the file does not say which, and is refused.

What training scripts save may hold the state dict beside an epoch and an optimizer; names carry
what wrapped the module (``module.``, ``_orig_mod.``); a parametrized weight lies there in the
pieces from which the module computes it.  All of that is undone here, and nothing else: an entry
that is no weight of a linear layer stays, to be refused by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from jacobians._checks import ModelFormatError, NotFiniteError, Numbers, ShapeError
from jacobians._npz import opened, read_npz
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.importers._assembly import Assembly
from jacobians.importers._basics import Basics
from jacobians.importers.mat_files import NAME, read_mat
from jacobians.importers.safetensors_files import read_safetensors
from jacobians.importers.torch_files import read_checkpoint
from jacobians.network import Network

LinearLayer: TypeAlias = tuple[Numbers, Numbers | None]
Activations: TypeAlias = Sequence[str | AnyActivation] | Mapping[str, str | AnyActivation]


# --- files ----------------------------------------------------------------------------------------


def from_weights(
    path: str | os.PathLike[str],
    *,
    activations: Activations | None = None,
    arrays: Mapping[str, Numbers] | None = None,
) -> Network:
    """Import the weights and biases of linear layers in a file, as ``load`` does.

    ``arrays`` is what is in the file, if it has been read already.
    """
    path = os.fspath(path)
    name, suffix = os.path.basename(path), os.path.splitext(path)[1].lower()
    kind, read = READERS.get(suffix, ("file of weights", None))
    with opened(path, kind) as (file, size):
        value: Any = arrays if arrays is not None else read(file, size) if read else read_npz(path)
        if suffix in (".mat", ".npz"):
            value = _as_state(value)
    try:
        layers, activations = layers_of_checkpoint(value, activations, name)
    except (ValueError, TypeError, NotImplementedError) as err:
        raise ModelFormatError(f"{err!s:.999}") from None
    try:
        return network_of(layers, activations, name)
    except (ShapeError, NotFiniteError) as err:  # of the file; the rest is about the activations
        raise ModelFormatError(str(err)) from None


# by the suffix: what the file is called in errors, and how it is read; None for npz
READERS: dict[str, tuple[str, Any]] = {
    ".safetensors": ("safetensors file", read_safetensors),
    **dict.fromkeys((".pt", ".pth", ".ckpt"), ("file of torch.save", read_checkpoint)),
    ".mat": (".mat file", read_mat),
}


def _as_state(arrays: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Return the arrays under the names ``1.weight``, ``1.bias``, ... of a state dict."""
    if any(name.endswith(".weight") for name in arrays):
        return dict(arrays)
    state: dict[str, Numbers] = {}
    for name, array in arrays.items():
        if named := NAME.fullmatch(name):
            for number, entry in _entries(array, named[2]).items():
                if entry.ndim > 2 or entry.dtype.kind not in "fiu":
                    raise ModelFormatError(f"{name!r}: expected numbers with two axes.")
                _put(state, named[1][0].lower(), number, entry)
    if not any(key.endswith(".weight") for key in state):
        raise ModelFormatError(
            f"expected arrays W1, b1, W2, b2, ... (or cells W and b, or Theta1, Theta2, "
            f"...), but got {', '.join(map(repr, arrays))[:200] or 'none'}. A network of this "
            "library is written by save."
        )
    return _upright(state)


def _entries(array: Numbers, number: str) -> dict[str, Numbers]:
    """Return the cells of an array of arrays, numbered from 1; or the array itself."""
    if array.dtype != object:
        return {number or "1": array}
    return {str(l): np.asarray(cell) for l, cell in enumerate(array.ravel(order="F"), start=1)}


def _put(state: dict[str, Numbers], kind: str, number: str, array: Numbers) -> None:
    if kind == "b":
        state[f"{number}.bias"] = array.reshape(-1)  # MATLAB has no vectors, only columns and rows
    elif kind == "w":
        state[f"{number}.weight"] = np.atleast_2d(array)
    else:
        state[f"{number}.weight"], state[f"{number}.bias"] = array[:, 1:], array[:, 0]


def _upright(state: dict[str, Numbers]) -> dict[str, Numbers]:
    """Turn all weights, if (n_in, n_out) is the only way in which they form a chain."""
    names = sorted((key.removesuffix(".weight") for key in state if "weight" in key), key=int)
    weights = [state[f"{name}.weight"] for name in names]
    biases = [state.get(f"{name}.bias") for name in names]
    turned = [W.T for W in weights]
    if not _chain(turned, biases):
        return state
    if _chain(weights, biases):
        raise ModelFormatError(
            f"weights of shapes {', '.join(str(W.shape) for W in weights)!s:.200} form a "
            "chain both as (n_out, n_in) and as (n_in, n_out). Give them to from_torch, under the "
            "names '1.weight', '1.bias', ..., as (n_out, n_in)."
        )
    return {**state, **{f"{name}.weight": W for name, W in zip(names, turned, strict=True)}}


def _chain(weights: list[Numbers], biases: list[Numbers | None]) -> bool:
    fits = all(W.shape[0] == b.size for W, b in zip(weights, biases, strict=True) if b is not None)
    return fits and all(first.shape[0] == then.shape[1] for first, then in pairwise(weights))


# --- state dicts ----------------------------------------------------------------------------------


def from_state_dict(value: Any, activations: Any, where: str) -> Network:
    """Chain the linear layers of a state dict, or of a checkpoint that holds one."""
    return network_of(*layers_of_checkpoint(value, activations, where), where)


def layers_of_checkpoint(
    value: Any, activations: Any, where: str
) -> tuple[dict[str, LinearLayer], Any]:
    """Return linear layers, and their activations: what has None for one is left out."""
    state = {str(key): entry for key, entry in state_dict_in(value, where).items()}
    arrays = {key: array_of(entry, f"{where}: {key!r:.80}") for key, entry in state.items()}
    arrays = plain(arrays, where)
    if isinstance(activations, Mapping):
        dropped = tuple(f"{name}." for name, sigma in activations.items() if sigma is None)
        activations = {name: sigma for name, sigma in activations.items() if sigma is not None}
        arrays = {key: A for key, A in arrays.items() if not f"{key}.".startswith(dropped)}
    return _linear_layers(arrays, where), activations


def _linear_layers(arrays: Mapping[str, Numbers], where: str) -> dict[str, LinearLayer]:
    """Return weight and bias of every layer, refusing whatever is not one of the two."""
    if not arrays:
        raise ValueError(f"{where}: it holds no arrays.")
    layers: dict[str, LinearLayer] = {}
    for key, array in arrays.items():
        layer, dot, role = key.rpartition(".")
        if dot and not layer:
            raise ValueError(f"{where}: {key!r:.80} names no layer before its dot; rename it.")
        if (role, array.ndim) not in (("weight", 2), ("bias", 1)):
            others = sorted({k.removesuffix(".weight") for k in arrays if k.endswith(".weight")})
            left = [f"{name!r:.40}: ..." for name in others if name != layer]
            raise NotImplementedError(
                f"{where}: {key!r:.80} of shape {array.shape} is not the weight (n_out, n_in) or "
                "the bias (n_out,) of a linear layer. If the network does without it, leave it out "
                f"with activations={{{', '.join([*left[:4], f'{key!r:.80}: None'])}}}; if not, "
                "give the module itself to from_torch, in evaluation mode."
            )
        if f"{layer}{dot}weight" not in arrays:
            raise ValueError(f"{where}: {key!r:.80} is a bias without '{layer}{dot}weight'.")
        layers[layer] = arrays[f"{layer}{dot}weight"], arrays.get(f"{layer}{dot}bias")
    return layers


def network_of(
    layers: Mapping[str, LinearLayer], activations: Activations | None, where: str
) -> Network:
    """Chain linear layers, each with its activation: a sequence, or a mapping from names."""
    assembly, of = Assembly(where), None
    for name, sigma in _chosen(layers, activations, where):
        step = Basics(assembly, f"layer {name!r}" if name else "the layer")
        W, b = layers[name]
        of = step.activate(sigma, step.dense(of or assembly.input((W.shape[1],)), W, b))
    assert of is not None
    return assembly.network(of)


def _chosen(
    layers: Mapping[str, LinearLayer], activations: Activations | None, where: str
) -> Iterable[tuple[str, str | AnyActivation]]:
    """Pair layers with activations, in the order that the names or the caller give."""
    names = sorted(layers, key=_in_order)
    shapes = [layers[name][0].shape for name in names]
    pairs = zip(names, shapes, strict=True)
    shown = ", ".join(f"{name!r} ({n} -> {m})" for name, (m, n) in pairs)
    if activations is None:
        raise ValueError(
            f"{where}: a state dict holds no activations; say activations=[...], one for each "
            f"of {shown}."
        )
    if isinstance(activations, (str, Activation, VectorActivation)):
        raise TypeError(f"{where}: activations: expected a list, but got {activations!r:.80}.")
    if isinstance(activations, Mapping):
        if set(activations) == set(names):
            return activations.items()
        given = ", ".join(map(repr, activations))
        raise ValueError(f"{where}: activations: expected the layers {shown}, but got {given}.")
    if len({re.sub(r"[0-9]+", "0", name) for name in names}) > 1:
        raise ValueError(
            f"{where}: the names {', '.join(map(repr, names))} do not say in which order the "
            "layers stand; give activations as a mapping in that order: "
            f"{{{names[0]!r}: 'tanh', ...}}."
        )
    if len(activations) != len(names):
        raise ValueError(
            f"{where}: activations: expected {len(names)}, one for each of {shown}, "
            f"but got {len(activations)}."
        )
    return zip(names, activations, strict=True)


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sort ``fc2`` before ``fc10``: text as text, numbers by their size."""
    pieces = [piece.lstrip("0") for piece in re.split(r"([0-9]+)", name)]
    return [(len(piece) if k % 2 else 0, piece) for k, piece in enumerate(pieces)]


def array_of(tensor: Any, where: str) -> Numbers:
    """Copy a tensor to NumPy; half precision is widened, since NumPy computes nothing in it."""
    if hasattr(tensor, "detach"):
        if tensor.is_meta:
            raise ValueError(f"{where} is on the meta device and holds no values; load them first.")
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and tensor.element_size() == 2:
            tensor = tensor.float()
        try:
            tensor = tensor.numpy()
        except (TypeError, RuntimeError) as err:  # sparse, quantized, or of a dtype NumPy lacks
            raise TypeError(f"{where}: expected a plain tensor, but got {tensor.dtype}.") from err
    array: Numbers = np.asarray(tensor)
    half = array.dtype.itemsize == 2 and array.dtype.kind not in "iu"
    return array.astype(np.float32) if half else array


def state_dict_in(value: Any, where: str) -> Mapping[Any, Any]:
    """Return the mapping of names to arrays that a checkpoint is, or holds."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: expected a mapping from names to weights, but got {value!r:.80}")
    inner = {
        key: entry
        for key, entry in value.items()
        if isinstance(entry, Mapping) and any(map(_is_array, entry.values()))
    }
    if not value or (not inner and any(map(_is_array, value.values()))):
        return value
    usual = [key for key in ("state_dict", "model_state_dict", "model") if key in inner]
    if len(inner) == 1 or usual:
        chosen: Mapping[Any, Any] = inner[usual[0] if usual else next(iter(inner))]
        return chosen
    listed = ", ".join(f"{key!r:.40}" for key in (inner or value))
    raise ValueError(
        f"{where}: expected one mapping from names to weights, but got the entries {listed}; "
        "give one of them to from_torch, with its activations."
    )


def _is_array(entry: Any) -> bool:
    return hasattr(entry, "shape") and hasattr(entry, "dtype")


_PARAMETRIZED = ".parametrizations.weight."


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


def _weight_norm(v: Numbers, g: Numbers) -> Any:
    """Return ``g v / ||v||``: a length for each row, each column or the whole, as g has them."""
    axes = tuple(axis for axis, size in enumerate(g.shape) if size == 1) if g.ndim else None
    norm: Numbers = np.sqrt((v**2).sum(axis=axes, keepdims=True))
    return g * v / norm


def _spectral_norm(W: Numbers, u: Numbers, v: Numbers) -> Any:
    """Return ``W / (uᵀ W v)``."""
    return W / (u @ W.reshape(len(u), -1) @ v)


# the endings of the pieces, the first of the shape of the weight, and how it is computed from them
_COMPUTED: dict[tuple[str, ...], Callable[..., Numbers]] = {
    (".weight_v", ".weight_g"): _weight_norm,
    (f"{_PARAMETRIZED}original1", f"{_PARAMETRIZED}original0"): _weight_norm,
    (".weight_orig", ".weight_u", ".weight_v"): _spectral_norm,
    tuple(_PARAMETRIZED + end for end in ("original", "0._u", "0._v")): _spectral_norm,
}
