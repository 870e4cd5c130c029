"""Looking at a PyTorch module and at its exported program: refusals, names, sizes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from jacobians.importers.torch_operators import IN_TRAINING, NO_STATISTICS, RULES


def refuse(module: Any) -> None:
    """Refuse TorchScript, hooks, which may do anything, and normalisation over the batch.

    TorchScript shows neither its hooks nor its graph; of a batch of one torch cannot even take the
    mean and variance.
    """
    from torch.jit import ScriptModule
    from torch.nn.modules import module as every
    from torch.nn.modules.batchnorm import _BatchNorm

    if isinstance(module, ScriptModule):
        raise NotImplementedError(
            "from_torch: a TorchScript program has no rule here. Give its state_dict() with "
            "activations, or the module that it was made from."
        )
    _refuse_hooks("every module", every._global_forward_hooks, every._global_forward_pre_hooks)
    for path, part in module.named_modules():
        at = spelled(path, part)
        _refuse_hooks(at, part._forward_hooks, part._forward_pre_hooks)
        if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
            reason = NO_STATISTICS if part.running_mean is None else IN_TRAINING
            raise ValueError(f"from_torch: {at} {reason}")


def _refuse_hooks(at: str, *tables: Any) -> None:
    for hook in chain(*(table.values() for table in tables)):
        owner = getattr(hook, "__module__", "")  # old weight_norm's, or checks of torch.export's
        if not owner.startswith(("torch.nn.utils.", "torch.export.")):
            raise ValueError(
                f"from_torch: {at} has a forward hook, which may change what it computes; "
                "remove it."
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch warns of, and logs before it raises, from the user's screen."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


@contextmanager
def watched(module: Any) -> Iterator[list[str]]:
    """Note which modules have been entered and not left: where it stops is where it fails."""
    entered: list[str] = []
    handles = []
    for path, part in module.named_modules():
        at = spelled(path, part)
        enter = lambda *_, at=at: entered.append(at)  # noqa: E731
        leave = lambda *_, at=at: entered.remove(at)  # noqa: E731
        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def spelled(path: str, part: Any) -> str:
    """Return the place and the kind of a module."""
    kind = type(part).__name__
    return f"{path!r} ({kind})" if path else f"the {kind}"


def first_size(module: Any) -> Any:
    """Return the shape of a point that the first layer with a size of its own demands."""
    for part in module.modules():
        kind = type(part)
        names = {base.__name__ for base in kind.__mro__}
        if "Linear" in names:
            return part.in_features
        if "BatchNorm1d" in names:
            return part.num_features
        if "LayerNorm" in names:
            return tuple(part.normalized_shape)
        if names & {"_ConvNd", "RNNBase", "_BatchNorm", "Embedding", "MultiheadAttention"}:
            return None
    return None


def exported(module: Any, args: Any, kwargs: Any) -> Any:
    """Let torch write a module down, in operators with a rule as far as it can."""
    import torch

    program = torch.export.export(module, args, kwargs, strict=False)
    decompositions = torch.export.default_decompositions()
    for _ in range(4):
        wanted = _without_rule(program)
        table = {op: decompositions[op] for op in wanted if op in decompositions}
        if not table and not any(op._schema.is_mutable for op in wanted):
            break
        program = program.run_decompositions(table)
    return program


def _without_rule(program: Any) -> list[Any]:
    """Return the operators on the inputs that have no rule here, or write into their arguments."""
    import torch

    depending = set(program.graph_signature.user_inputs)
    wanted = set()
    for node in program.graph.nodes:
        if depending.isdisjoint(source.name for source in node.all_input_nodes):
            continue
        depending.add(node.name)
        if isinstance(node.target, torch._ops.OpOverload):
            schema = node.target._schema
            if schema.is_mutable or schema.name.partition("::")[2] not in RULES:
                wanted.add(node.target)
    return sorted(wanted, key=str)


def looked_up(arguments: Any, values: dict[str, Any]) -> Any:
    """Return arguments with what nodes have computed in place of the nodes."""
    from torch.fx.node import map_arg

    return map_arg(arguments, lambda node: values[node.name])


def in_double(results: Any) -> Any:
    """Return tensors in float64 where they are floating point, as all weights are here."""
    from torch.utils import _pytree

    return _pytree.tree_map(
        lambda t: t.double() if hasattr(t, "is_floating_point") and t.is_floating_point() else t,
        results,
    )


def place(node: Any, kind: str) -> str:
    """Say in which module a call stands."""
    stack = [*(node.meta.get("nn_module_stack") or {}).values()]
    if not stack or not stack[-1][0]:
        return f"the {kind}"
    path, name = stack[-1]
    return f"{path.partition('@')[0]!r} ({str(name).rpartition('.')[2]})"


def first_line(err: Exception) -> str:
    """Return the first line of what an error says, as a sentence."""
    text = next((line for line in str(err).splitlines() if line.strip()), type(err).__name__)
    return f"{text.strip():.200}".rstrip(".") + "."
