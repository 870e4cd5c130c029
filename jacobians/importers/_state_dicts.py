"""A mapping of names to weights -> Network, once somebody names the activations.

State dicts and safetensors files hold arrays ``NAME.weight`` and ``NAME.bias`` and nothing of what
happens between them.  Numbered names say their order, ``0, 2, 10`` or ``fc1, fc2``; of any others
the order is only known to whoever made the model, who says it by naming the layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from jacobians._checks import Numbers
from jacobians.activations import Activation, AnyActivation, VectorActivation
from jacobians.importers._assembly import Assembly
from jacobians.network import Network

LinearLayer: TypeAlias = tuple[Numbers, Numbers | None]
Activations: TypeAlias = Sequence[str | AnyActivation] | Mapping[str, str | AnyActivation]


def linear_layers(arrays: Mapping[str, Numbers], where: str) -> dict[str, LinearLayer]:
    """Return weight and bias of every layer, refusing whatever is not one of the two.

    Parameters
    ----------
    arrays : mapping
        ``NAME.weight`` of shape (n_out, n_in), and ``NAME.bias`` of shape (n_out,) or none.
    where : str
        What to call the mapping in errors.
    """
    if not arrays:
        raise ValueError(f"{where}: it holds no arrays.")
    layers = {layer: dot for layer, dot, role in map(_split, arrays) if role == "weight"}
    for key, array in arrays.items():
        layer, dot, role = _split(key)
        if dot and not layer:
            raise ValueError(f"{where}: {key!r:.80} names no layer before its dot; rename it.")
        if (role, array.ndim) not in (("weight", 2), ("bias", 1)):
            others = sorted(name for name in layers if name != layer)
            named = ", ".join(f"{name!r:.40}: ..." for name in others[:4])
            raise NotImplementedError(
                f"{where}: {key!r:.80} of shape {array.shape} is not the weight (n_out, n_in) or "
                "the bias (n_out,) of a linear layer. If the network does without it, leave it out "
                f"with activations={{{named}, {key!r:.80}: None}}; if not, give the module itself "
                "to from_torch, in evaluation mode."
            )
        if role == "bias" and f"{layer}{dot}weight" not in arrays:
            raise ValueError(f"{where}: {key!r:.80} is a bias without '{layer}{dot}weight'.")
    return {
        layer: (arrays[f"{layer}{dot}weight"], arrays.get(f"{layer}{dot}bias"))
        for layer, dot in layers.items()
    }


def network_of(
    layers: Mapping[str, LinearLayer], activations: Activations | None, where: str
) -> Network:
    """Chain linear layers, each with its activation: a sequence, or a mapping from names."""
    assembly, of = Assembly(where), None
    for name, sigma in _chosen(layers, activations, where):
        at = f"layer {name!r}" if name else "the layer"
        W, b = layers[name]
        of = of or assembly.input((W.shape[1],))
        of = assembly.activate(sigma, at=at, of=assembly.dense(W, b, at=at, of=of))
    assert of is not None
    return assembly.network({"output": of})


def _split(key: str) -> tuple[str, str, str]:
    return key.rpartition(".")


def _chosen(
    layers: Mapping[str, LinearLayer], activations: Activations | None, where: str
) -> Iterable[tuple[str, str | AnyActivation]]:
    """Pair layers with activations, in the order that the names or the caller give."""
    names = sorted(layers, key=_in_order)
    shown = ", ".join(f"{name!r} {_arrow(layers[name][0])}" for name in names)
    if activations is None:
        raise ValueError(
            f"{where}: a state dict holds no activations; say activations=[...], one for each "
            f"of {shown}."
        )
    if isinstance(activations, Mapping):
        if set(activations) != set(names):
            raise ValueError(
                f"{where}: activations: expected the layers {shown}, but got "
                f"{', '.join(map(repr, activations))}."
            )
        return activations.items()
    if isinstance(activations, (str, Activation, VectorActivation)):
        raise TypeError(f"{where}: activations: expected a list, but got {activations!r:.80}.")
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
    digits = [part.lstrip("0") for part in re.split(r"([0-9]+)", name)]
    return [(len(part) if k % 2 else 0, part) for k, part in enumerate(digits)]


def _arrow(W: Numbers) -> str:
    return f"({W.shape[1]} -> {W.shape[0]})"
