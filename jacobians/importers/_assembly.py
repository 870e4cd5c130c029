"""Networks in the making: what every importer does with the steps that it reads.

A foreign model says "multiply by this matrix, add that vector, apply tanh", step by step, and each
step reads values of earlier ones; here most of that is one ``Dense``.  Steps are folded where
nothing of the model changes but its writing, and nobody else reads what lies between::

    matrix product, then scale and shift   one Dense
    scale and shift, again and again       one Scale
    either, then an activation             one Dense, or a Scale and an Elementwise
    an activation that is written out      one Elementwise

A value has the shape that the model sees when it is given one point, with a batch axis of length 1
where it has one; a model's reshaping is free.  Constants that a float32 model does not hold itself
(``1 / standard deviation``, the product of a scale and a weight) are computed in float64, and
rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from jacobians._checks import FLOATS, Array, ShapeError, as_floats, require_shape
from jacobians.activations import IDENTITY, AnyActivation, VectorActivation, activation
from jacobians.importers._folding import Step, folded, leading_to
from jacobians.importers._formulas import Formulas
from jacobians.layers import (
    Add,
    Concatenate,
    Elementwise,
    Gather,
    Layer,
    MatrixProduct,
    Multiply,
    Reshape,
    Shape,
)
from jacobians.network import Network

_SCALED = 32  # bytes of an entry that is scaled: both numbers, and both once more in the layer


@dataclass(frozen=True)
class Value:
    """What a step gives: its number, and the shape in which the model sees it."""

    step: int
    shape: Shape

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    def reshaped(self, shape: Sequence[int]) -> Value:
        """Return the same entries under other axes; one size may be -1."""
        rest = -prod(shape)
        return Value(self.step, tuple(self.size // rest if n == -1 else n for n in shape))


class Assembly:
    """A network that grows step by step; ``at`` is the place in the model, for errors.

    Every step reads ``of`` and returns its own value.  ``dtype`` is that of the network; the widest
    that its steps name, unless said.  ``spend`` is told of the bytes that a step is about to take.
    """

    def __init__(
        self, where: str, dtype: Any = None, spend: Callable[[int], None] = lambda size: None
    ) -> None:
        self.where, self.dtype, self.spend = where, dtype, spend
        self.constants: dict[int, Array] = {}  # of the model, by whatever tells them apart
        self._steps: list[Step] = []
        self._formulas = Formulas()
        self._dtypes: set[np.dtype[Any]] = set()

    def input(self, shape: Shape, name: str = "x") -> Value:
        """Begin with a value of this shape."""
        return self._append(Step("the model", (), shape, name=name), shape)

    def dense(self, W: Any, b: Any = None, *, at: str, of: Value) -> Value:
        """Append ``W a + b``, along the last axis."""
        W = as_floats(W, f"{self.where}: {at}: weight", as_it_lies=True)  # copied in the end
        if W.ndim != 2 or 0 in W.shape:
            raise ShapeError(
                f"{self.where}: {at}: expected a weight of shape (n_out, n_in), but got {W.shape}."
            )
        if b is not None:
            b = as_floats(b, f"{self.where}: {at}: bias")
            require_shape(b, W.shape[:1], f"{self.where}: {at}: bias")
        m, n = W.shape
        if of.shape[-1:] != (n,):
            last = self._steps[of.step].at + (" gives" if self._steps[of.step].sources else " gets")
            raise ShapeError(
                f"{self.where}: {at} takes {n} inputs, but {last} {_spelled(of.shape)}."
            )
        self.computed_in(np.result_type(W, W if b is None else b))
        rows = of.size // n
        source = of.step if rows == 1 else self._shaped(of, (rows, n), rows_of=n)
        node = self._steps[source].shape
        shape = (*node[:-1], m) if node[-1] == n else (m,)
        return self._append(Step(at, (source,), shape, W, b), (*of.shape[:-1], m))

    def scale(self, scale: Any, shift: Any, *, at: str, of: Value, dtype: Any = None) -> Value:
        """Append ``scale * a + shift``, entry by entry; both are spread over the shape of ``a``.

        Both are given in float64; ``dtype`` is that of the model's own constants behind them, if
        there are any.
        """
        scale = as_floats(scale, f"{self.where}: {at}: scale", dtype=FLOATS[1])
        shift = as_floats(shift, f"{self.where}: {at}: shift", dtype=FLOATS[1])
        width = max((part.size for part in (scale, shift) if part.ndim), default=1)
        if width > 1:  # a single number is spread in the end, if it is still there
            self.spend(_SCALED * of.size)
        try:
            W, b = (_spread(part, of.shape) for part in (scale, shift))
        except ValueError:
            raise ShapeError(
                f"{self.where}: {at}: expected one scale and one shift per entry of "
                f"{_spelled(of.shape)}, but got shapes {scale.shape} and {shift.shape}."
            ) from None
        if dtype is not None:
            self.computed_in(dtype)
        return self._append(Step(at, (of.step,), self._steps[of.step].shape, W, b), of.shape)

    def activate(
        self,
        sigma: str | AnyActivation,
        *,
        at: str,
        of: Value,
        axis: int | None = None,
        **parameters: float,
    ) -> Value:
        """Append an activation; along an axis if it is softmax, or over everything."""
        try:
            sigma = activation(sigma, **parameters)
        except (ValueError, TypeError) as err:
            raise type(err)(f"{self.where}: {at}: {err}") from None
        if sigma is IDENTITY:
            return of
        source = of.step
        if isinstance(sigma, VectorActivation) and axis is not None:
            axis %= len(of.shape)
            count, inner = of.shape[axis], prod(of.shape[axis + 1 :])
            axis = None
            if of.size > count:
                shape = (of.size // count // inner, count, inner)
                axis = 1 if inner > 1 else -1
                rows = 0 if inner > 1 else count
                source = self._shaped(of, shape if inner > 1 else shape[:2], rows_of=rows)
        step = Step(at, (source,), self._steps[source].shape, sigma=sigma, axis=axis)
        return self._append(step, of.shape)

    def move(self, indices: Any, *, at: str, of: Value) -> Value:
        """Append a choice of entries, by their numbers in C order, -1 for a zero.

        The result has the shape of ``indices``: whatever the model does to a value that only moves,
        repeats or leaves out entries, it does to ``np.arange(size).reshape(shape)`` too.
        """
        indices = np.asarray(indices)
        if indices.size == 0:
            self.refuse(at, f"gives shape {indices.shape}, which has no entries.")
        if np.array_equal(indices.ravel(), np.arange(of.size)):
            return of.reshaped(indices.shape)
        step = self._steps[of.step]
        if step.indices is not None:  # a choice of a choice is one
            chosen = np.append(step.indices, -1)[indices]
            (source,) = step.sources
            before = Value(source, (prod(self._steps[source].shape),))
            return self.move(chosen, at=at, of=before)
        value = self.apply(Gather(indices.reshape(-1)), of, at=at, shape=indices.shape)
        self._steps[value.step].indices = indices.reshape(-1)
        return value

    def concatenate(self, values: Sequence[Value], axis: int, *, at: str) -> Value:
        """Append values one after the other along an axis."""
        if len(values) == 1:
            return values[0]
        axis %= len(values[0].shape)
        first = values[0].shape
        shape = (*first[:axis], sum(value.shape[axis] for value in values), *first[axis + 1 :])
        outer = prod(first[:axis])
        parts = [value.reshaped((-1,) if outer == 1 else (outer, -1)) for value in values]
        join = Concatenate(None if outer == 1 else 1)
        return self.apply(join, *parts, at=at, shape=shape, shaped=outer > 1, alike=False)

    def add(self, *values: Value, at: str) -> Value:
        """Append the sum of values of one shape."""
        return self.apply(Add(), *values, at=at) if len(values) > 1 else values[0]

    def multiply(self, *values: Value, at: str) -> Value:
        """Append the product of values of one shape, entry by entry."""
        return self.apply(Multiply(), *values, at=at) if len(values) > 1 else values[0]

    def matmul(self, A: Value, B: Value, *, at: str, transposed: bool = False) -> Value:
        """Append the matrix product of the last two axes; those in front are the same."""
        front, columns = A.shape[:-2], B.shape[-2 if transposed else -1]
        A, B = (X.reshaped((-1, *X.shape[-2:])[prod(front) == 1 :]) for X in (A, B))
        shape = (*front, A.shape[-2], columns)
        return self.apply(MatrixProduct(transposed), A, B, at=at, shape=shape, shaped=True)

    def apply(
        self,
        layer: Layer,
        *values: Value,
        at: str,
        shape: Shape | None = None,
        shaped: bool = False,
        rows_of: int = 0,
        alike: bool = True,
    ) -> Value:
        """Append any layer: one that minds the axes of its values if ``shaped``, or their rows.

        Else its values must have one shape, if they are to be ``alike``.  The result is seen under
        ``shape``, which is that of the first value unless said.
        """
        if shaped or rows_of:
            sources = tuple(self._shaped(value, value.shape, rows_of) for value in values)
        else:
            sizes = {self._steps[value.step].shape for value in values}
            flat = alike and len(sizes) > 1
            sources = tuple(
                self._shaped(value, (value.size,)) if flat else value.step for value in values
            )
        shapes = [self._steps[source].shape for source in sources]
        if layer.dtype is not None:
            self.computed_in(layer.dtype)
        try:
            given = layer.on(*shapes).output_shape(*shapes)
        except ValueError as err:
            raise type(err)(f"{self.where}: {at}: {err}") from None
        return self._append(Step(at, sources, given, layer=layer), shape or values[0].shape)

    @property
    def widest(self) -> Any:
        """The dtype of the network, as far as it has been read."""
        return self.dtype or np.result_type(*(self._dtypes or FLOATS[1:]))

    def sums_to_one(self, of: Value, axis: int) -> bool:
        """Whether a value is softmax along an axis that is all there is."""
        step = self._steps[of.step]
        return (step.sigma.name, step.axis) == ("softmax", None) and of.shape[axis] == of.size

    def computed_in(self, dtype: Any) -> None:
        """Note a dtype in which the model computes; the network takes the widest."""
        self._dtypes.add(np.dtype(dtype))

    def network(self, output: Value, name: str = "output") -> Network:
        """Return the network of everything that leads to an output of this name."""
        dtype, steps = self.widest, self._steps
        live = leading_to(steps, {output.step})
        place = folded(steps, live, [output.step], dtype)
        end, order = place[output.step], [l for l in live if place[l] == l]
        self.spend(sum(_SCALED * steps[l].spread for l in order))
        begin = [l for l, step in enumerate(steps) if not step.sources]
        shared: dict[Any, Array] = {}
        layers = {l: steps[l].made(self.where, dtype, shared) for l in order}
        sources = {l: [place[source] for source in steps[l].sources] for l in order}
        is_path = [0, *order[:-1]] == [s for l in order for s in sources[l]]
        if len(begin) == 1 and (is_path or not order):
            path = [*layers.values()] or [Elementwise(IDENTITY)]
            return Network(path, inputs=steps[0].shape).astype(dtype)
        names = {end: name, **{l: steps[l].name for l in begin}}
        numbers = (str(l) for l in range(1, len(steps) + 1) if str(l) not in names.values())
        names = {l: names.get(l) or next(numbers) for l in (*begin, *order)}
        nodes = {names[l]: (layer, *(names[s] for s in sources[l])) for l, layer in layers.items()}
        if end in begin:
            nodes[name] = (Elementwise(IDENTITY), names[end])
        inputs = {names[l]: steps[l].shape for l in begin}
        return Network.graph(nodes, inputs=inputs, outputs=[name]).astype(dtype)

    def compare(self, net: Network, points: Array, theirs: Array, at: str, digits: float) -> None:
        """Refuse the network if the model, given three points at once, computes something else."""
        a: Array = points.astype(np.float64)
        with np.errstate(all="ignore"):
            for _, _, _, value in net.astype(np.float64).forward(a):
                a = value
        if theirs.size == a.size:
            finite = np.isfinite(a)
            difference = np.abs(theirs.reshape(a.shape) - a)[finite].max(initial=0.0)
            if difference <= digits * max(1, np.abs(a[finite]).max(initial=0.0)):
                return
        self.refuse(
            at,
            "computes something else from three points at once than from one: the points of its "
            "batch, its first axis, depend on each other. Attention and recurrent layers need "
            "their points first (batch_first=True) and inputs=(steps, features).",
        )

    def no_rule(self, at: str, kind: str, way_out: str = "") -> NoReturn:
        """Refuse what cannot be imported: what it is, where it is, and the way out."""
        hint = f" {way_out}" if way_out else ""
        raise NotImplementedError(f"{self.where}: {at}: {kind} has no rule here.{hint}")

    def refuse(self, at: str, message: str) -> NoReturn:
        """Refuse what has a rule but cannot be used as it is."""
        raise ValueError(f"{self.where}: {at} {message}")

    def _shaped(self, value: Value, shape: Shape, rows_of: int = 0) -> int:
        """Return a step whose node has this shape, or at least rows of this length."""
        node = self._steps[value.step].shape
        if node == shape or node[-1] == rows_of:
            return value.step
        shape = tuple(int(n) for n in shape)
        self._append(Step("the model", (value.step,), shape, layer=Reshape(shape)), shape)
        return len(self._steps) - 1

    def _append(self, step: Step, shape: Shape) -> Value:
        """Append a step, or the activation that the last steps have written out with it."""
        self._steps.append(step)
        form = self._formulas.recognised(self._steps, single=self.widest == FLOATS[0])
        if form is None:
            return Value(len(self._steps) - 1, tuple(shape))
        base, name, sign = form
        of = Value(base, tuple(shape))
        if sign > 0:
            return self.activate(name, at=step.at, of=of)
        of = self.activate(name, at=step.at, of=self.scale(sign, 0.0, at=step.at, of=of))
        return self.scale(sign, 0.0, at=step.at, of=of)


def _spread(array: Array, shape: Shape) -> Array:
    """Return the entries of an array that is spread over a shape, one after the other."""
    ones = len(shape) - array.ndim  # axes that it has no say in
    same = array.ndim and shape[ones:] == array.shape and prod(shape[:ones]) == 1
    return (array if same else np.broadcast_to(array, shape)).reshape(-1)


def _spelled(shape: Shape) -> str:
    return str(shape[0]) if len(shape) == 1 else str(shape)
