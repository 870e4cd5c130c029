"""From the steps of a model to a network: a graph of named nodes, or a chain where it is one.

Steps that the output does not need are left out.  Affine steps are folded into the ones before them
as everywhere (see ``_assembly``), and activations taken in by the matrix product before them; values
are given a shape where a layer asks for one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from jacobians.activations import IDENTITY, VectorActivation, activation
from jacobians.importers._assembly import Draft
from jacobians.importers.onnx_formulas import recognise
from jacobians.importers.onnx_values import Shape, Step, Tape, Value
from jacobians.layers import (
    Add,
    Concatenate,
    Elementwise,
    Gather,
    Layer,
    MatrixProduct,
    Multiply,
    Reshape,
)
from jacobians.network import Network


@dataclass(eq=False)
class _Sketch:
    """A node to be: an affine draft, or a layer, and the sketches or input that it reads."""

    at: str
    sources: tuple[Any, ...]
    draft: Draft | None = None
    layer: Layer | None = None
    finish: Callable[[Layer], Layer] | None = None  # from the matrix of a kernel to its layer
    rows: int = 1  # before the axis on which a matrix acts, and the places behind it
    places: int = 1
    takes: tuple[Shape | None, ...] = ()
    shape: Shape = ()
    name: str = ""


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
    dtype = np.result_type(*tape.dtypes)  # the widest in which the model computes
    ends = [value.step for value in outputs.values()]
    recognise(_needed(tape.steps, ends))
    steps = _needed([*_inserted(tape.steps)], ends)
    builder = _Builder(tape, where, dtype, Counter(s for step in steps for s in step.sources), ends)
    builder.wish(steps)
    for step in steps:
        builder.append(step)
    return builder.network(inputs, dict(zip(outputs, ends, strict=True)))


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
    waiting = list(ends)
    while waiting:
        for source in waiting.pop().sources:
            if source not in needed:
                needed.add(source)
                waiting.append(source)
    return [step for step in steps if step in needed]


@dataclass(eq=False)
class _Builder:
    tape: Tape
    where: str
    dtype: Any
    uses: Counter[Step]
    ends: list[Step]
    sketches: list[_Sketch] = field(default_factory=list)
    of: dict[Step, Any] = field(default_factory=dict)  # sketch, or step of an input
    wishes: dict[Step, Shape] = field(default_factory=dict)
    reshaped: dict[tuple[Any, Shape], _Sketch] = field(default_factory=dict)

    def wish(self, steps: list[Step]) -> None:
        """Note the shape in which each value is taken first, so that it can be given so."""
        for step in reversed(steps):
            for source, shape in zip(step.sources, _taken(step), strict=True):
                wish = shape or (
                    self.wishes.get(step) if step.kind in ("scale", "function", "add", "multiply") else None
                )
                if wish is not None and prod(wish) == source.size:
                    self.wishes[source] = wish

    def append(self, step: Step) -> None:
        """Turn a step into a sketch, or into a part of the one before it."""
        if step.kind == "input":
            self.of[step] = step
            return
        sources = tuple(self.of[source] for source in step.sources)
        before = sources[0]
        if self.uses[step.sources[0]] > 1 or step.sources[0] in self.ends:
            before = None  # what others read must stay as it is
        draft = before.draft if isinstance(before, _Sketch) else None
        if step.kind == "function" and step.data[0] == "identity":
            self.of[step] = sources[0]
            return
        if step.kind == "function" and draft is not None and self._activated(step, before):
            self.of[step] = before
            return
        if step.kind == "scale":
            scale, shift = self._affine(step)
            if (scale == 1).all() and not shift.any():
                self.of[step] = sources[0]
                return
            if draft is not None and self._folded(before, scale, shift):
                self.of[step] = before
                return
            sketch = _Sketch(step.at, sources, Draft(step.at, scale, shift))
        else:
            sketch = self._sketch(step, sources)
        self.sketches.append(sketch)
        self.of[step] = sketch

    def _affine(self, step: Step) -> tuple[Any, Any]:
        scale, shift, shape = step.data
        self.tape.source.budget.spend(32 * step.size)
        return tuple(np.broadcast_to(part, shape).reshape(-1) for part in (scale, shift))  # type: ignore[return-value]

    def _folded(self, before: _Sketch, scale: Any, shift: Any) -> bool:
        """Fold in what is the same for each of several rows, and at each place of a kernel."""
        shape = (before.rows, -1, before.places)
        parts = [part.reshape(shape) for part in (scale, shift)]
        if any((part != part[:1, :, :1]).any() for part in parts):
            return False
        scale, shift = (part[0, :, 0] for part in parts)
        return before.draft is not None and before.draft.fold(scale, shift, self.dtype)

    def _activated(self, step: Step, before: _Sketch) -> bool:
        """Take an activation into the product before it, if that has none."""
        draft = before.draft
        if draft is None or draft.W is None or draft.W.ndim != 2 or draft.sigma is not IDENTITY:
            return False
        name, parameters, axis, shape = step.data
        sigma = activation(name, **parameters)
        if isinstance(sigma, VectorActivation):
            if axis is None or before.finish or (shape[axis], prod(shape[axis + 1 :])) != (len(draft.W), 1):
                return False
        draft.sigma = sigma
        return True

    def _sketch(self, step: Step, sources: tuple[Any, ...]) -> _Sketch:
        takes = _taken(step)
        if step.kind == "dense":
            weight, by_rows = step.data
            self.tape.source.budget.spend(2 * weight.dtype.itemsize * prod(weight.shape))
            W = weight.array if by_rows else weight.array.T
            rows = step.sources[0].size // W.shape[1]
            return _Sketch(step.at, sources, Draft(step.at, np.ascontiguousarray(W), None), rows=rows, takes=takes)
        if step.kind == "function":
            name, parameters, axis, shape = step.data
            sigma = activation(name, **parameters)
            if isinstance(sigma, VectorActivation) and takes[0] is not None:
                return _Sketch(step.at, sources, layer=Elementwise(sigma, axis=1), takes=takes)
            return _Sketch(step.at, sources, layer=Elementwise(sigma))
        if step.kind == "select":
            index = step.data.reshape(self.wishes.get(step, (-1,)))
            return _Sketch(step.at, sources, layer=Gather(index), takes=takes)
        if step.kind == "convolve":
            return _kernel_sketch(step, sources)
        if step.kind == "layer":
            return _Sketch(step.at, sources, layer=step.data[0](), takes=takes)
        if step.kind == "product":
            return _Sketch(step.at, sources, layer=MatrixProduct(step.data[2]), takes=takes)
        if step.kind == "concatenate":
            return _Sketch(step.at, sources, layer=Concatenate(None), takes=takes)
        shape = self.wishes.get(step, (step.size,))
        return _Sketch(
            step.at, sources, layer=Add() if step.kind == "add" else Multiply(), takes=(shape,) * len(sources)
        )

    # --- the end ----------------------------------------------------------------------------------

    def network(self, inputs: Mapping[str, Step], outputs: Mapping[str, Step]) -> Network:
        """Settle shapes and names, and build the network."""
        shapes: dict[Any, Shape] = {
            step: self.wishes.get(step, (step.size,)) for step in inputs.values()
        }
        placed: list[_Sketch] = []
        for sketch in self.sketches:
            held = [shapes[source] for source in sketch.sources]
            wanted = sketch.takes or (None,) * len(held)
            if _fits(sketch, held):
                wanted = (None,) * len(held)
            sketch.sources = tuple(
                self._given(placed, shapes, source, shape)
                for source, shape in zip(sketch.sources, wanted, strict=True)
            )
            if sketch.draft is not None:
                sketch.layer = sketch.draft.layer(self.where, self.dtype)
                if sketch.finish is not None:
                    sketch.layer = sketch.finish(sketch.layer)
            entering = tuple(shapes[source] for source in sketch.sources)
            assert sketch.layer is not None
            shapes[sketch] = sketch.layer.on(*entering).output_shape(*entering)
            placed.append(sketch)
        if not placed or not all(isinstance(self.of[end], _Sketch) for end in outputs.values()):
            for end in outputs.values():
                if not isinstance(self.of[end], _Sketch):
                    same = _Sketch("the model", (self.of[end],), layer=Elementwise("identity"))
                    placed.append(same)
                    self.of[end] = same
        return self._connected(placed, inputs, outputs, shapes)

    def _given(self, placed: list[_Sketch], shapes: dict[Any, Shape], source: Any, shape: Shape | None) -> Any:
        """Return a source in the shape that is asked for."""
        held = shapes[source]
        if shape is None or held == shape:
            return source
        if (source, shape) not in self.reshaped:
            sketch = _Sketch("the model", (source,), layer=Reshape(shape))
            shapes[sketch] = shape
            placed.append(sketch)
            self.reshaped[source, shape] = sketch
        return self.reshaped[source, shape]

    def _connected(
        self,
        placed: list[_Sketch],
        inputs: Mapping[str, Step],
        outputs: Mapping[str, Step],
        shapes: dict[Any, Shape],
    ) -> Network:
        names: dict[Any, str] = {step: name for name, step in inputs.items()}
        taken = set(names.values())
        for name, end in outputs.items():
            if name not in taken and self.of[end] not in names:
                names[self.of[end]] = name
                taken.add(name)
        for k, sketch in enumerate(placed, start=1):
            if sketch not in names:
                name = next(n for n in (str(k), *(f"{k}.{j}" for j in range(len(taken) + 1))) if n not in taken)
                names[sketch] = name
                taken.add(name)
        nodes = {names[s]: (s.layer, *(names[source] for source in s.sources)) for s in placed}
        return Network.graph(
            nodes,
            inputs={name: shapes[step] for name, step in inputs.items()},
            outputs=[names[self.of[end]] for end in outputs.values()],
        ).astype(self.dtype)


def _kernel_sketch(step: Step, sources: tuple[Any, ...]) -> _Sketch:
    """Draft a convolution as the matrix of its kernel, one row per channel that comes out."""
    from jacobians import layers

    kind, K, b, _, options = step.data
    groups, transposed = options["groups"], kind == "TransposedConvolution"
    kernel = K.array
    if transposed:  # (groups, in, out, ...) to (groups, out, in, ...)
        kernel = kernel.reshape(groups, -1, *K.shape[1:]).swapaxes(1, 2)
    grouped = kernel.shape

    def finish(dense: Any) -> Layer:
        W = dense.W.reshape(grouped)
        if transposed:
            W = W.swapaxes(1, 2).reshape(K.shape)
        layer: Layer = getattr(layers, kind)(W, dense.b, dense.activation, **options)
        if dense._exact is not None:
            object.__setattr__(layer, "_exact", finish(dense._exact))
        return layer

    channels = K.shape[1] * groups if transposed else K.shape[0]
    matrix = np.ascontiguousarray(kernel.reshape(channels, -1))
    draft = Draft(step.at, matrix, None if b is None else b.array)
    places = step.size // channels
    return _Sketch(step.at, sources, draft, finish=finish, places=places, takes=_taken(step))


def _fits(sketch: _Sketch, held: list[Shape]) -> bool:
    """Tell whether a layer does with the shapes that are there what it does with those asked for."""
    if isinstance(sketch.layer, (Add, Multiply)):
        return len(set(held)) == 1
    if sketch.finish is None and sketch.draft is not None and np.ndim(sketch.draft.W) == 2:
        assert sketch.draft.W is not None
        (shape,), width = held, sketch.draft.W.shape[1]  # rows of its width, or one flat vector
        return (shape[-1] == width) == (sketch.rows > 1) or shape == (width,)
    return False


def _taken(step: Step) -> tuple[Shape | None, ...]:
    """Return the shapes in which a step takes its sources, where it matters."""
    if step.kind == "dense":
        weight, by_rows = step.data
        width = weight.shape[1 if by_rows else 0]
        rows = step.sources[0].size // width
        return ((width,) if rows == 1 else (rows, width),)
    if step.kind == "function":
        name, parameters, axis, shape = step.data
        if axis is None or shape[axis] == step.size:
            return (None,)
        before, after = prod(shape[:axis]), prod(shape[axis + 1 :])
        return ((before, int(shape[axis]), *((after,) if after > 1 else ())),)
    if step.kind in ("layer", "convolve"):
        shape = step.data[1 if step.kind == "layer" else 3]
        return (tuple(int(n) for n in shape),)
    if step.kind == "product":
        found = []
        for shape in step.data[:2]:
            lead = prod(shape[:-2])
            found.append((*((lead,) if lead > 1 else ()), int(shape[-2]), int(shape[-1])))
        return tuple(found)
    return (None,) * len(step.sources)
