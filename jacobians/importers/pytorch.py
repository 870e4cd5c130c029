"""PyTorch modules and state dicts -> Network.

A module's computation is its ``forward``, which only ``Sequential`` lets one read: its children,
one after the other.  Everything else is imported through that, or exported to ONNX first.  Half
precision (float16, bfloat16) becomes float32, which holds the same weights exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jacobians._checks import Numbers, missing_extra
from jacobians.importers._assembly import Assembly
from jacobians.importers._checkpoints import layers_of_checkpoint
from jacobians.importers._state_dicts import Activations, network_of
from jacobians.network import Network


def from_torch(module: Any, *, activations: Activations | None = None) -> Network:
    """Import a PyTorch module, or a state dict together with its activations.

    Parameters
    ----------
    module : torch.nn.Module or mapping
        ``Sequential``, nested as deep as you like, of the modules that
        ``jacobians.importers.IMPORTABLE`` lists, in evaluation mode; or a state dict (of tensors or
        arrays) that holds nothing but ``NAME.weight`` and ``NAME.bias`` of linear layers.
    activations : sequence of str or Activation, optional
        For a state dict: one per layer, in the order of the numbers in the layers' names; or a
        mapping from layer names, in the order of the layers.

    Returns
    -------
    Network
        Its input is the flattened one if the module begins with ``Flatten``.

    Raises
    ------
    NotImplementedError
        If a module has no rule, naming the module, its place and the way out.
    ValueError
        If a module is in training mode, or its parts do not fit.
    TypeError
        If ``module`` is neither a module nor a mapping.
    ImportError
        If torch is not installed; state dicts of NumPy arrays do without.

    >>> state = {"0.weight": np.ones((3, 2)), "0.bias": np.zeros(3), "2.weight": np.ones((1, 3))}
    >>> from_torch(state, activations=["tanh", "identity"])
    Network 2-3-1 float64, 13 parameters: tanh, identity
    """
    if isinstance(module, Mapping):
        chosen = layers_of_checkpoint(module, activations, "from_torch", array_of)
        return network_of(*chosen, "from_torch")
    try:
        from torch import nn
    except ImportError as err:
        raise missing_extra("torch", "torch", "from_torch") from err
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"from_torch: expected a torch.nn.Module or a state dict, but got {module!r:.80}."
        )
    if activations is not None:
        raise TypeError("from_torch: a module has its own activations; leave activations out.")
    assembly = Assembly("from_torch")
    _import(module, assembly, "")
    return assembly.network()


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


# --- a module and its children --------------------------------------------------------------------


def _import(module: Any, assembly: Assembly, path: str) -> None:
    from torch import nn

    kind = type(module).__name__
    at = f"{path!r} ({kind})" if path else f"the {kind}"
    if getattr(nn, kind, None) is not type(module) or kind not in RULES:
        assembly.no_rule(at, f"the module {kind}", _way_out(module))
    if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
        assembly.refuse(
            at,
            "its forward is changed by a hook or from outside, which cannot be read; remove it "
            "(weight_norm and spectral_norm have functions for that).",
        )
    if kind in RANDOM_IN_TRAINING and module.training:
        assembly.refuse(
            at, "is in training mode, where its output depends on more than its input; .eval() it."
        )
    if kind == "Sequential":
        # not named_children, which leaves out a module's second appearance
        for name, child in module._modules.items():
            _import(child, assembly, f"{path}.{name}" if path else name)
        return
    RULES[kind](module, assembly, at)


def _way_out(module: Any) -> str:
    from torch import nn

    inner = [
        f".{name}" for name, child in module.named_children() if isinstance(child, nn.Sequential)
    ]
    if inner:
        return (
            f"Its forward cannot be read, but a Sequential can: {', '.join(inner)}. "
            "Or export it with torch.onnx.export and load the file."
        )
    if not type(module).__module__.startswith("torch.nn.modules."):
        return (
            "Its forward cannot be read: write it as a Sequential, name the activations of its "
            "state_dict(), or export it with torch.onnx.export and load the file."
        )
    return "jacobians.importers.IMPORTABLE lists those that have one."


# --- one rule per kind ----------------------------------------------------------------------------


def _linear(module: Any, assembly: Assembly, at: str) -> None:
    W = array_of(module.weight, f"from_torch: {at}: weight")
    b = None if module.bias is None else array_of(module.bias, f"from_torch: {at}: bias")
    assembly.dense(W, b, at=at)


def _batch_norm(module: Any, assembly: Assembly, at: str) -> None:
    if module.running_mean is None:
        assembly.refuse(
            at, "keeps no running statistics, so a point's output depends on its batch."
        )
    parts = {
        name: array_of(tensor, f"from_torch: {at}: {name}")
        for name in ("running_mean", "running_var", "weight", "bias")
        if (tensor := getattr(module, name)) is not None
    }
    dtype = np.result_type(*parts.values())
    mean, variance = (parts[f"running_{name}"].astype(np.float64) for name in ("mean", "var"))
    scale = parts.get("weight", 1.0) / np.sqrt(variance + module.eps)
    assembly.scale(scale, parts.get("bias", 0.0) - mean * scale, at=at, dtype=dtype)


def _flatten(module: Any, assembly: Assembly, at: str) -> None:
    if (module.start_dim, module.end_dim) != (1, -1):
        assembly.no_rule(at, f"start_dim={module.start_dim}, end_dim={module.end_dim}")


def _nothing(module: Any, assembly: Assembly, at: str) -> None:
    """Leave the values as they are: identities, and what is random in training only."""


def _fixed(name: str) -> Rule:
    def rule(module: Any, assembly: Assembly, at: str) -> None:
        assembly.activate(name, at=at)

    return rule


def _family(name: str, **attributes: str) -> Rule:
    """Pass attributes of the module on as parameters of an activation."""

    def rule(module: Any, assembly: Assembly, at: str) -> None:
        given = {parameter: getattr(module, key) for parameter, key in attributes.items()}
        assembly.activate(name, at=at, **given)

    return rule


def _softmax(name: str) -> Rule:
    def rule(module: Any, assembly: Assembly, at: str) -> None:
        if module.dim not in (-1, 1):
            assembly.no_rule(at, f"dim={module.dim}", "Say dim=-1, along the entries of a point.")
        assembly.activate(name, at=at)

    return rule


def _softplus(module: Any, assembly: Assembly, at: str) -> None:
    # Above its threshold torch writes x for softplus(x); from 20 on that is the same to 2e-9.
    if module.beta != 1 or module.threshold < 20:
        assembly.no_rule(
            at, f"beta={module.beta:g}, threshold={module.threshold:g}", "Only 1 and 20 have one."
        )
    assembly.activate("softplus", at=at)


def _gelu(module: Any, assembly: Assembly, at: str) -> None:
    assembly.activate("gelu" if module.approximate == "none" else "gelu_tanh", at=at)


def _prelu(module: Any, assembly: Assembly, at: str) -> None:
    slopes = array_of(module.weight, f"from_torch: {at}: weight")
    if len(set(slopes.tolist())) != 1:
        assembly.no_rule(at, "a slope for every entry", "One slope for all of them has.")
    assembly.computed_in(slopes.dtype)
    assembly.activate("leaky_relu", at=at, slope=float(slopes[0]))


def _rrelu(module: Any, assembly: Assembly, at: str) -> None:
    assembly.activate("leaky_relu", at=at, slope=(module.lower + module.upper) / 2)


Rule = Callable[[Any, Assembly, str], None]

RANDOM_IN_TRAINING = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "RReLU", "BatchNorm1d")

RULES: dict[str, Rule] = {
    "Sequential": _nothing,  # its children have rules
    "Linear": _linear,
    "BatchNorm1d": _batch_norm,
    "Flatten": _flatten,
    "Identity": _nothing,
    "Dropout": _nothing,
    "AlphaDropout": _nothing,
    "FeatureAlphaDropout": _nothing,
    "ReLU": _fixed("relu"),
    "ReLU6": _fixed("relu6"),
    "LeakyReLU": _family("leaky_relu", slope="negative_slope"),
    "PReLU": _prelu,
    "RReLU": _rrelu,
    "ELU": _family("elu", alpha="alpha"),
    "CELU": _family("celu", alpha="alpha"),
    "SELU": _fixed("selu"),
    "GELU": _gelu,
    "SiLU": _fixed("silu"),
    "Mish": _fixed("mish"),
    "Sigmoid": _fixed("sigmoid"),
    "Hardsigmoid": _fixed("hard_sigmoid"),
    "Tanh": _fixed("tanh"),
    "Hardtanh": _family("hard_tanh", low="min_val", high="max_val"),
    "Softplus": _softplus,
    "Softsign": _fixed("softsign"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
}
