"""From the steps of a model to a network, by the same assembly as every other importer's.

Steps that the output does not need are left out, and activations that are written out recognised;
then every step is handed on, each on its value in the shape in which it takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from jacobians.importers._assembly import Assembly
from jacobians.importers._assembly import Value as Made
from jacobians.importers.onnx_formulas import recognise
from jacobians.importers.onnx_values import Step, Tape, Value
from jacobians.network import Network


def network_of(
    tape: Tape, inputs: Mapping[str, Step], outputs: Mapping[str, Value], where: str
) -> Network:
    """Build the network whose outputs are some values of the tape.

    Parameters
    ----------
    tape : Tape
    inputs : mapping of str to Step
        The parts of the input vector, in their order.
    outputs : mapping of str to Value
    where : str
        What the model is called in errors.
    """
    ends = [value.step for value in outputs.values()]
    recognise(_needed(tape.steps, ends))
    assembly = Assembly(where, dtype=np.result_type(*tape.dtypes))
    shapes = _taken_in(tape.steps)
    made: dict[Step, Made] = {
        step: assembly.input(shapes.get(step, (step.size,)), name) for name, step in inputs.items()
    }
    for step in _needed(_inserted(tape.steps), ends):
        if step.kind != "input":
            made[step] = _append(assembly, tape, step, [made[source] for source in step.sources])
    net = assembly.network(
        outputs={name: made[value.step] for name, value in outputs.items()},
    )
    if net.is_path:  # whose nodes have numbers, but whose two ends have names
        parts = {"inputs": dict(zip(inputs, net.inputs.values(), strict=False))}
        return net._with(**parts, outputs=dict(zip(outputs, net.outputs.values(), strict=True)))
    return net


def _append(assembly: Assembly, tape: Tape, step: Step, sources: list[Made]) -> Made:
    """Hand a step on to the assembly; return its value."""
    of, at, data = sources[0], step.at, step.data
    if step.kind == "dense":
        weight, by_rows = data
        tape.source.budget.spend(2 * weight.dtype.itemsize * prod(weight.shape))
        W = weight.array if by_rows else weight.array.T
        return assembly.dense(W, at=at, of=of.reshaped((-1, W.shape[1])))
    if step.kind == "scale":
        scale, shift, shape = data
        if scale.size == shift.size == 1 and scale == 1 and shift == 0:
            return of
        tape.source.budget.spend(32 * step.size)
        return assembly.scale(scale, shift, at=at, of=of.reshaped(shape))
    if step.kind == "function":
        name, parameters, axis, shape = data
        return assembly.activate(name, at=at, of=of.reshaped(shape), axis=axis, **parameters)
    if step.kind == "select":
        return assembly.move(data, at=at, of=of)
    if step.kind == "add":
        return assembly.add(*(source.reshaped((-1,)) for source in sources), at=at)
    if step.kind == "multiply":
        return assembly.multiply(*(source.reshaped((-1,)) for source in sources), at=at)
    if step.kind == "concatenate":
        return assembly.concatenate([source.reshaped((-1,)) for source in sources], 0, at=at)
    if step.kind == "product":
        A, B = (source.reshaped(shape) for source, shape in zip(sources, data, strict=False))
        return assembly.matmul(A, B, at=at, transposed=data[2])
    if step.kind == "rows":
        make, shape = data
        return assembly.apply(make(), of.reshaped(shape), at=at, rows_of=shape[-1])
    make, takes, gives = data
    taken = of.reshaped([int(n) for n in takes])
    return assembly.apply(make(), taken, at=at, shape=gives, shaped=True)


def _taken_in(steps: list[Step]) -> dict[Step, tuple[int, ...]]:
    """Return the shape in which the first layer that minds its axes takes what a step gives."""
    shapes: dict[Step, tuple[int, ...]] = {}
    for step in reversed(steps):
        if step.kind == "layer" and prod(step.data[1]) == step.sources[0].size:
            shapes[step.sources[0]] = tuple(int(n) for n in step.data[1])
        elif step.kind in ("scale", "function") and step in shapes:
            shapes[step.sources[0]] = shapes[step]
    return shapes


def _inserted(steps: list[Step]) -> list[Step]:
    """Return the steps with those between them that a recognised formula has put there."""
    met: dict[Step, None] = {}
    for step in steps:
        between, source = [step], step
        while len(source.sources) == 1 and source.sources[0] not in met:
            source = source.sources[0]
            between.append(source)
        met.update(dict.fromkeys(reversed(between)))
    return list(met)


def _needed(steps: list[Step], ends: list[Step]) -> list[Step]:
    """Return the steps that lead to an end, in their order."""
    needed = set(ends)
    waiting: list[Any] = list(ends)
    while waiting:
        for source in waiting.pop().sources:
            if source not in needed:
                needed.add(source)
                waiting.append(source)
    return [step for step in steps if step in needed]
