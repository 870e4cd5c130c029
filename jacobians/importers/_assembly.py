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

from jacobians._checks import FLOATS, Array
from jacobians.activations import IDENTITY
from jacobians.importers._folding import Step, folded, leading_to
from jacobians.importers._formulas import Formulas
from jacobians.layers import Elementwise, Shape
from jacobians.network import Network

SCALED = 32  # bytes of an entry that is scaled: both numbers, and both once more in the layer


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

    ``dtype`` is that of the network; the widest that its steps name, unless said.  ``spend`` is
    told of the bytes that a step is about to take.
    """

    def __init__(
        self, where: str, dtype: Any = None, spend: Callable[[int], None] = lambda size: None
    ) -> None:
        self.where, self.dtype, self.spend = where, dtype, spend
        self.constants: dict[int, Array] = {}  # of the model, by whatever tells them apart
        self.steps: list[Step] = []
        self.formulas = Formulas()
        self._dtypes: set[np.dtype[Any]] = set()

    def input(self, shape: Shape, name: str = "x") -> Value:
        """Begin with a value of this shape."""
        self.steps.append(Step("the model", (), shape, name=name))
        self.formulas.recognised(self.steps)
        return Value(len(self.steps) - 1, tuple(shape))

    @property
    def widest(self) -> Any:
        """The dtype of the network, as far as it has been read."""
        return self.dtype or np.result_type(*(self._dtypes or FLOATS[1:]))

    def sums_to_one(self, of: Value, axis: int) -> bool:
        """Whether a value is softmax along an axis that is all there is."""
        step = self.steps[of.step]
        return (step.sigma.name, step.axis) == ("softmax", None) and of.shape[axis] == of.size

    def computed_in(self, dtype: Any) -> None:
        """Note a dtype in which the model computes; the network takes the widest."""
        self._dtypes.add(np.dtype(dtype))

    def network(self, output: Value, name: str = "output") -> Network:
        """Return the network of everything that leads to an output of this name."""
        dtype, steps = self.widest, self.steps
        live = leading_to(steps, {output.step})
        place = folded(steps, live, [output.step], dtype)
        end, order = place[output.step], [l for l in live if place[l] == l]
        self.spend(sum(SCALED * steps[l].spread for l in order))
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
