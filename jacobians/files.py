"""Save and load networks, as npz files.

``load`` also reads what other frameworks write, through the importers.

A network file is an ordinary npz archive: one member ``header`` with a JSON description as bytes,
and the arrays ``1.W``, ``1.b``, ``2.scale`` and so on.  Nothing in a file is ever executed, and
every size is compared with the bytes that are really there before anything is allocated.  Saving
writes beside the old file and then replaces it, so that a crash leaves one or the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from inspect import isabstract
from typing import Any

import numpy as np

from jacobians import layers
from jacobians._checks import FLOATS, Array, ModelFormatError, Numbers, flags_end_with_it
from jacobians._npz import LIMIT, read_npz, write_npz
from jacobians.activations import AnyActivation, activation
from jacobians.along import Along
from jacobians.importers import (
    ELSEWHERE,
    WEIGHTS_ONLY,
    WHOLE_MODELS,
    from_keras_file,
    from_weights,
)
from jacobians.layers import Layer
from jacobians.network import Network, as_network

_FORMAT, _VERSION = "jacobians network", 2
_KINDS = {
    name: kind
    for name, kind in vars(layers).items()
    if name in layers.__all__ and isinstance(kind, type) and not isabstract(kind)
}
_BOUND = {"shape", "shapes", "rows"}  # fields that say which values a layer is bound to


# --- networks -------------------------------------------------------------------------------------


def save(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to an npz file, replacing an old one in one step.

    Parameters
    ----------
    net : Network
        Of the layers and activations of this library; a file holds numbers and names, no code.
    path : str or path
        Ending in ``.npz``.

    Raises
    ------
    TypeError
        If a layer or an activation is not one of the library's, naming it.
    ValueError
        If the path does not end in ``.npz``.

    >>> import tempfile
    >>> net = Network.random([2, 3, 1], seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(net, f"{folder}/net.npz")
    ...     load(f"{folder}/net.npz")
    Network 2-3-1 float64, 13 parameters: tanh, identity
    """
    import json

    net = as_network(net, "save")
    path, name, suffix = _as_path(path, "save")
    if suffix != ".npz":
        raise ValueError(f"save: path: expected a name ending in .npz, but got {name!r}.")
    described, arrays = [], {}
    for l, layer in enumerate(net.layers, start=1):
        description, own = _describe(layer, l)
        described.append(description)
        arrays.update({f"{l}.{field}": array for field, array in own.items()})
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "dtype": str(net.dtype),
        "inputs": net.shapes[0],
        "input_names": net.input_names,
        "output_names": net.output_names,
        "layers": described,
        "names": net.names,
        "sources": net.sources,
        "parts": [_slices(net.inputs), _slices(net.outputs)],
    }
    write_npz(path, {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays})


@flags_end_with_it
def load(
    path: str | os.PathLike[str], *, activations: Any = None, output: str | None = None
) -> Network:
    """Read a network from a file.

    Parameters
    ----------
    path : str or path
        ``.npz``, as made by ``save``; ``.onnx``, ``.onnx.gz``, ``.keras``, ``.h5``, ``.nnet``; or
        weights and biases of linear layers in ``.safetensors``, ``.pt``, ``.pth``, ``.ckpt``,
        ``.mat``, ``.npz``.
    activations : sequence of str or Activation, or mapping from layer names, optional
        For files of weights, which hold none: one per layer, as in ``from_torch``.
    output : str, optional
        Of a model of ONNX or Keras with several outputs, the one that is wanted.

    Returns
    -------
    Network

    Raises
    ------
    ModelFormatError
        If the file is anything else, is damaged, or claims more than it holds; the message says
        what is wrong.
    OSError
        If it cannot be opened.
    ImportError
        If it takes an optional package that is not installed.
    """
    path, name, suffix = _as_path(path, "load")
    if name.endswith(".onnx.gz"):
        suffix = ".onnx"
    if output is not None and suffix not in (".onnx", ".keras", ".h5", ".hdf5"):
        raise TypeError(f"load: {name} has one output; leave output out.")
    if suffix == ".npz":
        arrays = read_npz(path)
        if "header" not in arrays:
            return from_weights(path, activations=activations, arrays=arrays)
    elif suffix in WEIGHTS_ONLY:
        return from_weights(path, activations=activations)
    if activations is not None:
        if suffix in (".h5", ".hdf5"):
            return from_keras_file(path, activations)
        raise TypeError(f"load: {name} has its own activations; leave activations out.")
    if suffix == ".npz":
        return _read_network(arrays, name)
    if suffix not in WHOLE_MODELS:
        raise ModelFormatError(f"{name}: {_way_out(suffix)}")
    chosen = {} if output is None else {"output": output}
    return WHOLE_MODELS[suffix](path, **chosen)


def _way_out(suffix: str) -> str:
    if suffix in ELSEWHERE:
        return f"a {suffix} file is loaded by what wrote it: {ELSEWHERE[suffix]}."
    listed = ", ".join([*WHOLE_MODELS, *WEIGHTS_ONLY])
    return f"networks are read from {listed}."


def _read_network(arrays: dict[str, Numbers], name: str) -> Network:
    import json

    try:
        raw = arrays.pop("header")
        if raw.dtype != np.uint8 or raw.size > LIMIT:
            raise ModelFormatError(f"{name}: header: expected up to {LIMIT} bytes of text.")
        header = json.loads(raw.tobytes().decode())
        if header["format"] != _FORMAT or header["version"] not in (1, _VERSION):
            raise ModelFormatError(
                f"{name}: format {header['format']!r}, version {header['version']!r} "
                f"is not {_FORMAT!r}, version {_VERSION}."
            )
        dtype = np.dtype(header["dtype"])
        if dtype not in FLOATS:
            raise ModelFormatError(f"{name}: expected float32 or float64, but got {dtype}.")
        for member, array in arrays.items():
            if array.dtype.newbyteorder("=") != dtype:
                raise ModelFormatError(f"{name}: {member} is {array.dtype}, expected {dtype}.")
        if header["version"] == 1:  # before networks were graphs
            depth = len(header["layers"])
            header["names"] = ["x", *(str(l) for l in range(1, depth + 1))]
            header["sources"], header["parts"] = [[l] for l in range(depth)], []
        given = [_rebuild(d, l, arrays) for l, d in enumerate(header["layers"], start=1)]
        if arrays:
            raise ModelFormatError(f"{name}: no layer uses {', '.join(sorted(arrays))}.")
        return Network.from_nodes(
            given,
            header["sources"],
            header["names"],
            inputs=_as_tuple(header["inputs"]),
            parts=[{n: slice(*ends) for n, ends in part} for part in header["parts"]],
            input_names=header["input_names"],
            output_names=header["output_names"],
        ).astype(dtype)
    except ModelFormatError:
        raise
    except Exception as err:  # whatever a header that is not ours leads to
        raise ModelFormatError(f"{name}: not a network file: {err!s:.200}") from err


def _slices(parts: Mapping[str, slice]) -> list[tuple[str, tuple[int, int]]]:
    return [(name, (part.start, part.stop)) for name, part in parts.items()]


def _as_path(path: str | os.PathLike[str], where: str) -> tuple[str, str, str]:
    """Return path, name and suffix as text (importing pathlib takes as long as this module)."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{where}: path: expected a path, but got {path!r:.80}.")
    path = os.fspath(path)
    name = os.path.basename(path)
    return path, name, os.path.splitext(name)[1]


def _describe(layer: Layer, l: int) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a layer as JSON and arrays; exact types only, since a subclass may mean more."""
    kind = type(layer)
    if _KINDS.get(kind.__name__) is not kind:
        raise TypeError(f"save: layer {l} ({layer}): only layers of the library can be saved.")
    settings: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for field in fields(layer):  # type: ignore[arg-type]
        value = getattr(layer, field.name)
        if field.name in _BOUND:  # it is bound again when the network is built
            continue
        if field.name == "activation":
            settings["activation"] = _describe_activation(value, l)
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            arrays[field.name] = value
        else:
            settings[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
    return {"kind": kind.__name__, **settings}, arrays


def _describe_activation(sigma: AnyActivation, l: int) -> dict[str, Any]:
    if isinstance(sigma, Along):  # it is bound to its axis again when the network is built
        sigma = sigma.activation
    parameters = dict(sigma.parameters)
    try:
        named = activation(sigma.name, **parameters) == sigma
    except (TypeError, ValueError):
        named = False
    if not named:
        raise TypeError(
            f"save: layer {l}: activation {sigma.name!r} is your own, and a file holds no code."
        )
    return {"name": sigma.name, "parameters": parameters}


def _rebuild(description: Mapping[str, Any], l: int, arrays: dict[str, Array]) -> Layer:
    """Make a layer from its description, taking its arrays out of ``arrays``."""
    settings = dict(description)
    name = settings.pop("kind")
    kind = _KINDS.get(name) or _KINDS.get(name.capitalize()) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"layer {l}: kind {name!r:.40} is not known")
    if "activation" in settings:
        given = settings["activation"]
        settings["activation"] = activation(given["name"], **given["parameters"])
    for field in fields(kind):
        if (member := f"{l}.{field.name}") in arrays:
            settings[field.name] = arrays.pop(member)
    layer: Layer = kind(**{key: _as_tuple(value) for key, value in settings.items()})
    for needed in (*layer.arrays(), *layer.trained):
        if needed not in settings:  # what has a default, or is none, is in the file nevertheless
            raise KeyError(f"{l}.{needed}")
    return layer


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(part) for part in value) if isinstance(value, list) else value
