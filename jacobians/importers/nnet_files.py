"""``.nnet`` files -> Network: the plain text in which collision-avoidance networks are published.

After lines of text that begin with ``//`` come, separated by commas, the number of layers, of
inputs and of outputs; the sizes of all layers; a line that nobody uses; the smallest and largest
input; then a mean and a range for each input and one of each for all outputs; at last, layer by
layer, the rows of the weight matrix and the biases, one per line.  The network is

    y = range_y * (W^L relu(... relu(W^1 (clip(x) - mean) / range + b^1) ...) + b^L) + mean_y

where ``clip`` holds an input between the smallest and the largest: like every program that writes
such files evaluates them, and therefore with derivative 0 beyond these limits.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np

from jacobians._checks import ModelFormatError
from jacobians._npz import opened
from jacobians.importers._assembly import Assembly
from jacobians.importers._basics import Basics
from jacobians.network import Network

_LONGEST = 2**20  # characters in which a line may say something other than weights
_DEEPEST = 10_000  # layers: each takes hundreds of bytes, of which the file may have six


def from_nnet(path: str | os.PathLike[str]) -> Network:
    """Import a ``.nnet`` file, from the original units of the inputs to those of the outputs."""
    with opened(path, ".nnet file") as (file, size):
        return _read(_Lines(file, size), os.path.basename(path))


def _read(lines: _Lines, name: str) -> Network:
    depth, inputs, outputs = lines.numbers(3, int)[:3]
    if depth > _DEEPEST:
        raise lines.refusal(f"at most {_DEEPEST} layers, but got {depth}")
    sizes = lines.numbers(2, int)
    if len(sizes) != depth + 1 or (sizes[0], sizes[-1]) != (inputs, outputs) or min(sizes) < 1:
        raise lines.refusal(f"{depth + 1} sizes from {inputs} to {outputs}, but got {sizes!s:.80}")
    lines.text(_LONGEST)
    low, high = lines.row(inputs), lines.row(inputs)
    means, ranges = lines.row(inputs + 1), lines.row(inputs + 1)
    if not (low <= high).all() or (ranges == 0).any():
        raise lines.refusal("limits in order before it, and ranges that are not 0")
    assembly = Assembly(name, dtype=np.dtype(np.float64))
    step = Basics(assembly, "the normalisation of the inputs")
    middle, half = low + (high - low) / 2, (high - low) / 2
    scale = np.divide(1.0, half, out=np.zeros_like(half), where=half > 0)
    of = step.affine(assembly.input((inputs,)), scale, -middle * scale)  # to [-1, 1], and cut off
    of = step.affine(step.activate("hard_tanh", of), half, middle)
    of = step.affine(of, 1 / ranges[:-1], -means[:-1] / ranges[:-1])
    for l, (n, m) in enumerate(pairwise(sizes), start=1):
        step = Basics(assembly, f"layer {l}")
        W = np.array([lines.row(n) for _ in range(m)])
        of = step.dense(of, W, np.concatenate([lines.row(1) for _ in range(m)]))
        of = of if l == depth else step.activate("relu", of)
    return assembly.network(step.affine(of, ranges[-1], means[-1]))


class _Lines:
    """The lines of the file, less its comments, read one by one and never at any length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.count = file, size, 0

    def text(self, most: int) -> str:
        """Return the next line that is no comment."""
        while True:
            text = self.file.readline(most + 1).decode(errors="replace")
            self.count += 1
            if not text or len(text) > most:
                raise self.refusal("another line" if not text else f"at most {most} characters")
            if not text.startswith("//"):
                return text.strip().rstrip(",")

    def numbers(self, at_least: int, kind: Any) -> Any:
        """Read a line of numbers."""
        text = self.text(max(_LONGEST, 64 * at_least))
        try:
            numbers = [kind(number) for number in text.split(",")]
        except ValueError:
            raise self.refusal(f"numbers between commas, but got {text!r:.80}") from None
        if len(numbers) < at_least:
            raise self.refusal(f"{at_least} numbers or more, but got {len(numbers)}")
        return numbers

    def row(self, count: int) -> Any:
        """Read a line of so many finite numbers; each takes a character and a comma at least."""
        if 2 * count - 1 > self.size:
            raise self.refusal(f"{count} numbers, for which the file is too short")
        numbers = np.array(self.numbers(count, float))
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise self.refusal(f"{count} finite numbers")
        return numbers

    def refusal(self, expected: str) -> ModelFormatError:
        """Make the error, which says what stands where it should not."""
        return ModelFormatError(f"line {self.count}: expected {expected}.")
