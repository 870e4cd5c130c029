"""PyTorch modules and state dicts -> Network.

A module is whatever its ``forward`` does.  ``torch.export`` runs that once, on a point without
values, and writes down which operators it called: classes, functions, ``view`` and slices, residual
branches, attention, parametrized weights, all in one list, which is read here operator by operator.
What depends on nothing but weights is computed by torch itself, in float64.  At last the module and
the network are evaluated at random points: the import is refused if they differ, as they do when
the points of a batch depend on each other.

Half precision (float16, bfloat16) becomes float32, which holds the same weights exactly.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from jacobians._checks import as_count, flags_end_with_it, missing_extra
from jacobians.importers import torch_modules as modules
from jacobians.importers._assembly import Assembly, Value
from jacobians.importers._calls import chosen_output, each
from jacobians.importers.torch_operators import RULES, TorchCall
from jacobians.importers.weight_files import Activations, array_of, from_state_dict
from jacobians.network import Network


@flags_end_with_it
def from_torch(
    module: Any,
    *,
    activations: Activations | None = None,
    inputs: Any = None,
    output: str | int | None = None,
) -> Network:
    """Import a PyTorch module, or a state dict together with its activations.

    Parameters
    ----------
    module : torch.nn.Module or mapping
        Any module in evaluation mode whose graph ``torch.export`` can show and whose operators have
        a rule; or a state dict (of tensors or arrays), or a checkpoint that holds one, of nothing
        but ``NAME.weight`` and ``NAME.bias`` of linear layers.
    activations : sequence of str or Activation, or mapping from layer names, optional
        For a state dict: one per layer, in the order of the numbers in the layers' names; or a
        mapping from layer names, in the order of the layers, with None for what is to be left out.
    inputs : int, tuple of int, or mapping from argument names to these, optional
        The shape of one point, without the batch: ``(1, 28, 28)``.  Needed where the first layer
        with a size of its own does not tell.
    output : str or int, optional
        Which of several outputs: its position, or its name in a dict.

    Returns
    -------
    Network
        Its points are flattened, row by row.

    Raises
    ------
    NotImplementedError
        If an operator has no rule, or the graph cannot be shown, naming the module and the way out.
    ValueError
        If a module is in training mode, its parts do not fit, or points depend on each other.
    TypeError
        If ``module`` is neither a module nor a mapping.
    ImportError
        If torch is not installed; state dicts of NumPy arrays do without.

    >>> state = {"0.weight": np.ones((3, 2)), "0.bias": np.zeros(3), "2.weight": np.ones((1, 3))}
    >>> from_torch(state, activations=["tanh", "identity"])
    Network 2-3-1 float64, 12 parameters: tanh, identity
    """
    if isinstance(module, Mapping):
        return from_state_dict(module, activations, "from_torch")
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
    return _Import(module, inputs).network(output)


class _Import:
    """One module on its way in."""

    def __init__(self, module: Any, inputs: Any) -> None:
        self.module = module
        self.kind = type(module).__name__
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        dtypes = {_dtype_of(tensor, f"from_torch: {name!r}") for name, tensor in state.items()}
        dtypes -= {None}
        self.dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
        self.tensor_dtype = next((t.dtype for t in state.values() if t.is_floating_point()), None)
        modules.refuse(module)
        self.shapes = self._shapes(inputs)
        self.assembly = Assembly("from_torch", dtype=self.dtype)

    def _shapes(self, inputs: Any) -> dict[str, tuple[int, ...]]:
        """Return the shape of a point for every argument; "" is the only, nameless one."""
        self.assumed = inputs is None
        if inputs is None:
            inputs = modules.first_size(self.module)
        if inputs is None:
            raise ValueError(
                "from_torch: nothing in the model fixes the number of inputs; say inputs=n, or "
                "inputs=(channels, height, width), the shape of one point."
            )
        named = inputs if isinstance(inputs, Mapping) else {"": inputs}
        return {
            str(name): tuple(as_count(n, "from_torch: inputs") for n in each(shape, 1))
            for name, shape in named.items()
        }

    def _given(self, points: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return tensors as positional and keyword arguments: points (B, n), cut and reshaped."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        parts = points.split(sizes, dim=1)
        tensors = {
            name: part.reshape(len(points), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        nameless = tensors.pop("", None)
        return (() if nameless is None else (nameless,)), tensors

    def _points(self, count: int) -> Any:
        """Return random points, the same ones always, as tensors that the module takes."""
        import torch

        width = sum(prod(shape) for shape in self.shapes.values())
        points = np.random.default_rng(0).standard_normal((count, width))
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        return torch.tensor(points, dtype=self.tensor_dtype or torch.float64, device=device)

    def _exported(self) -> Any:
        """Let torch write the module down, in operators with a rule as far as it can."""
        import torch

        args, kwargs = self._given(self._points(1))
        with modules.quiet(), modules.watched(self.module) as entered:
            try:
                with torch.no_grad():
                    self.module(*args, **kwargs)
            except Exception as err:  # whatever torch meets on the way, in its own words
                at, said = entered[-1] if entered else f"the {self.kind}", modules.first_line(err)
                shapes = " and ".join(str(shape) for shape in self.shapes.values())
                hint = ", as its first layer has it; say inputs= if it is another" * self.assumed
                raise ValueError(
                    f"from_torch: {at} does not take what comes from a point of shape "
                    f"{shapes}{hint}: {said}"
                ) from err
            try:
                return modules.exported(self.module, args, kwargs)
            except Exception as err:
                at, said = entered[-1] if entered else f"the {self.kind}", modules.first_line(err)
                raise NotImplementedError(
                    f"from_torch: {at}: torch.export cannot show what it does: {said} Rewrite its "
                    "forward without that, or give its state_dict() with activations."
                ) from err

    def network(self, output: str | int | None) -> Network:
        """Return the network, compared with the module."""
        program = self._exported()
        values = self._constants(program)
        inputs = iter(self.shapes.items())
        for node in program.graph.nodes:
            if node.op == "placeholder":
                if node.name not in values:
                    name, shape = next(inputs)
                    value = self.assembly.input(shape, name or "x")
                    values[node.name] = value.reshaped((1, *shape))
            elif node.op == "call_function":
                values[node.name] = self._called(node, values)
        outputs = self._outputs(program, values)
        meant = str(output) if isinstance(output, int) else output
        index = chosen_output(list(outputs), meant, "from_torch")
        name, value = list(outputs.items())[index]
        if not isinstance(value, Value):
            self.assembly.refuse(f"the {self.kind}", "gives an output that no input leads to.")
        net = self.assembly.network(value, name or "output")
        self._compare(net, index)
        return net

    def _constants(self, program: Any) -> dict[str, Any]:
        """Return parameters, buffers and constants by the names of their nodes, in float64."""
        signature = program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        names |= signature.inputs_to_lifted_tensor_constants
        values = {}
        for node, target in names.items():
            tensor = {**program.constants, **program.state_dict}[target].detach().cpu()
            array_of(tensor[:0] if tensor.ndim else tensor, f"from_torch: {target!r}")
            values[node] = tensor.double() if tensor.is_floating_point() else tensor.clone()
        return values

    def _called(self, node: Any, values: dict[str, Any]) -> Any:
        """Compute what a call gives: by torch if the input does not matter, else by a step."""
        import torch

        given, named = modules.looked_up((node.args, dict(node.kwargs)), values)
        at, target = modules.place(node, self.kind), node.target
        if target is operator.getitem:
            return given[0][given[1]]
        if not isinstance(target, torch._ops.OpOverload):
            self.assembly.no_rule(at, f"{target}", "Leave it out of forward.")
        name, schema = target._schema.name.partition("::")[2], target._schema.arguments
        if name.startswith(("_assert", "sym_")):
            return None
        constant = not any(isinstance(values[s.name], Value) for s in node.all_input_nodes)
        random = constant and torch.Tag.nondeterministic_seeded in target.tags
        if name not in RULES and (random or not constant):
            what = f"the operator {name}" + ", which is random," * random
            self.assembly.no_rule(at, what, _WAY_OUT)
        if constant:
            with torch.no_grad():
                return modules.in_double(target(*given, **named))
        named = dict(named, **dict(zip((a.name for a in schema), given)))  # noqa: B905
        arguments = {a.name: named.get(a.name, a.default_value) for a in schema}
        return RULES[name](TorchCall(self.assembly, at, target, arguments))

    def _outputs(self, program: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs by name: "" for a single one."""
        from torch.utils import _pytree

        (node,) = (node for node in program.graph.nodes if node.op == "output")
        results = node.args[0][len(node.args[0]) - program.call_spec.out_spec.num_leaves :]
        tree = _pytree.tree_unflatten(list(results), program.call_spec.out_spec)
        paths, _ = _pytree.tree_flatten_with_path(tree)
        return {
            ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path): (
                modules.looked_up(result, values)
            )
            for path, result in paths
            if result is not None
        }

    def _compare(self, net: Network, index: int) -> None:
        """Refuse the import if the module, given three points at once, computes something else."""
        import torch
        from torch.utils import _pytree

        points = self._points(3)
        a = array_of(points, "from_torch").copy()
        args, kwargs = self._given(points)
        try:
            with torch.no_grad(), modules.quiet():
                results = _pytree.tree_leaves(self.module(*args, **kwargs))
        except Exception as err:  # whatever torch meets
            raise ValueError(
                f"from_torch: the {self.kind} does not take three points at once, "
                f"along its first axis: {modules.first_line(err)}"
            ) from err
        theirs = array_of([part for part in results if part is not None][index], "from_torch")
        # sums of any length round to far less than half of the digits
        digits = np.sqrt(torch.finfo(self.tensor_dtype or torch.float64).eps)
        self.assembly.compare(net, a, theirs, f"the {self.kind}", digits)


def _dtype_of(tensor: Any, where: str) -> Any:
    """Return in what a parameter computes, if it computes, and refuse what holds no numbers."""
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        raise ValueError(f"{where} is lazy and has no shape yet; call the module on data first.")
    if tensor.is_complex():
        raise TypeError(f"{where}: expected real numbers, but got {tensor.dtype}.")
    array = array_of(tensor[:0] if tensor.ndim else tensor, where)
    return array.dtype if array.dtype.kind == "f" else None


_WAY_OUT = (
    "jacobians.importers.IMPORTABLE lists the operators that have one; leave it out of forward, or "
    "choose an output in front of it."
)
