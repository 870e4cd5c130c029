"""Which numbers of a data set each kind of picture shows.

=================== ================================================================================
"bars"              importance of every input for one output, to the side of its mean derivative
"violins"           how these derivatives are spread over the points
"heat map"          mean derivative of every output by every input
"saliency"          the same as images, if the names of the inputs are ``pixel row,column``
"spectrum"          singular values of the Jacobian: median and bands over the points
"against input"     the derivative at every point against an input, coloured by another one
"mean and spread"   standard deviation of the derivative over its mean, for every input
"alpha curves"      power means ``(E|dy/dx|^alpha)^(1/alpha)`` over alpha, for every input
"subspace"          eigenvalues of ``E[JᵀJ]``, inputs in standard deviations
"summary"           an output against the first active direction
=================== ================================================================================

Clouds, violins and the spectrum show the random sample that is kept, of at most 500 points.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from jacobians import plotting
from jacobians._checks import Array, ShapeError
from jacobians.sensitivities.statistics import Statistics

Kind: TypeAlias = Literal[
    "bars", "violins", "heat map", "saliency", "spectrum", "against input", "mean and spread",
    "alpha curves", "subspace", "summary",
]  # fmt: skip
Axes: TypeAlias = Any  # matplotlib's, which need not be installed
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ALPHAS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True)
class Question:
    """What of a record is drawn: an output, an input and one for the colour, where, how."""

    record: Statistics
    i: int
    j: int | None
    color: int | None
    ax: Axes
    standard: bool

    @property
    def ratio(self) -> Array:
        """What derivatives of the output are multiplied with, (n,)."""
        record = self.record
        ones = np.ones(len(record.input_names))
        return record.input_std / record.output_std[self.i] if self.standard else ones

    @property
    def derivative(self) -> str:
        """The name of the derivatives of the output."""
        text = f"d {self.record.output_names[self.i]} / dx"
        return f"{text} · sd(x)/sd(y)" if self.standard else text


def draw(
    record: Statistics,
    kind: str,
    output: int,
    against: int | None,
    color: int | None,
    ax: Axes,
    scale: str | None = None,
) -> Axes:
    """Draw a picture of that kind, derivatives in "original" units or in "standard" deviations.

    The latter where there are some, unless said.

    Raises
    ------
    ValueError
        If there is no such kind or scale, naming all of them.
    """
    if scale is None:
        scale = "standard" if in_deviations(record) else "original"
    if scale not in ("original", "standard"):
        raise ValueError(f"plot: scale: expected 'original' or 'standard', but got {scale!r:.80}.")
    if kind not in KINDS:
        raise ValueError(f"plot: kind: expected one of {', '.join(KINDS)}, but got {kind!r:.80}.")
    return KINDS[kind](Question(record, output, against, color, ax, scale == "standard"))


def in_deviations(record: Statistics) -> bool:
    """Tell whether derivatives can be compared in standard deviations."""
    return bool(record.output_std.all() and record.input_std.any())


def pixel_images(names: tuple[str, ...], values: Array) -> Array | None:
    """Arrange values (m, n) as images if the names of the inputs say ``pixel row,column``.

    >>> pixel_images(("pixel 0,0", "pixel 1,1"), np.array([[1.0, 2.0]]))
    array([[[1., 0.],
            [0., 2.]]])
    """
    matches = [re.fullmatch(r"pixel (\d{1,4}),(\d{1,4})", name) for name in names]
    if not all(matches):
        return None
    rows, columns = np.array([[int(p[1]), int(p[2])] for p in matches if p]).T
    if (rows.max() + 1) * (columns.max() + 1) > 64 * len(names):  # not an image after all
        return None
    images = np.zeros((len(values), rows.max() + 1, columns.max() + 1))
    images[:, rows, columns] = values
    return images


# --- the kinds ------------------------------------------------------------------------------------


def _bars(q: Question) -> Axes:
    record, name, shown = q.record, "importance", "importance"
    if not np.isfinite(record.importance[q.i]).all():  # of an output that does not vary
        name, shown = "root_mean_square", "root mean square of dy/dx"
    sign = np.where(record.mean[q.i] < 0, -1.0, 1.0)
    low, high = (end[q.i] * sign for end in record.interval(name))
    finite = np.isfinite([low, high]).all()  # not of a single point
    ends: dict[str, Any] = {"low": low, "high": high} if finite else {}
    label = f"{shown} for {record.output_names[q.i]}, signed as the mean derivative"
    values, order = record.statistic(name)[q.i] * sign, record.order[q.i]
    return plotting.bars(values, record.input_names, order=order, **ends, ax=q.ax, label=label)


def _violins(q: Question) -> Axes:
    J, label = q.record.sample.J[:, q.i] * q.ratio, f"{q.derivative} at the points"
    order, names = q.record.order[q.i], q.record.input_names
    return plotting.violins(J, names, order=order, ax=q.ax, label=label)


def _heat_map(q: Question) -> Axes:
    record = q.record
    values = record.standardised if q.standard else record.mean
    label = "mean of dy/dx" + (" · sd(x)/sd(y)" if q.standard else "")
    return plotting.heat_map(values, record.input_names, record.output_names, ax=q.ax, label=label)


def _saliency(q: Question) -> Axes:
    record, label = q.record, "mean of dy/dx" + (" / sd(y)" if q.standard else "")
    scale = record.output_std[:, None] if q.standard else 1.0  # pixels have one unit, outputs not
    images = pixel_images(record.input_names, record.mean / scale)
    if images is None:
        raise ShapeError(
            "plot: saliency: the names of the inputs do not say which pixels they are, "
            "'pixel row,column'; use jacobians.plotting.saliency with images of your own."
        )
    return plotting.saliency(images, record.output_names, ax=q.ax, label=label)


def _spectrum(q: Question) -> Axes:
    values = np.linalg.svd(q.record.sample.J, compute_uv=False)
    title = "median, middle half and middle 90 % of the points"
    return plotting.spectrum(np.quantile(values, QUANTILES, axis=0), ax=q.ax, title=title)


def _against_input(q: Question) -> Axes:
    record, sample = q.record, q.record.sample
    j = strongest(record, q.i) if q.j is None else q.j
    k = partner(record, q.i, j) if q.color is None else q.color
    per = record.unit(q.i, j)
    shown: dict[str, Any] = {}
    if k is not None:
        shown = {"color": sample.x[:, k], "color_name": _with_unit(record, k)}
    label = f"d {record.output_names[q.i]} / d {record.input_names[j]}"
    label += f" [{per}]" if per else ""
    x, derivative = sample.x[:, j], sample.J[:, q.i, j]
    name = _with_unit(record, j)
    return plotting.against_input(x, derivative, name, ax=q.ax, label=label, **shown)


def _mean_and_spread(q: Question) -> Axes:
    record = q.record
    mean, std = record.mean[q.i] * q.ratio, record.std[q.i] * q.ratio
    labels = f"sd of {q.derivative}", f"mean of {q.derivative}"
    look: dict[str, Any] = {"label": labels[0], "x_label": labels[1], "ax": q.ax}
    return plotting.named_points(mean, std, record.input_names, **look)


def _alpha_curves(q: Question) -> Axes:
    values = [q.record.power_mean(alpha)[q.i] * q.ratio for alpha in ALPHAS]
    label = f"power mean of {q.derivative}"
    return plotting.curves(ALPHAS, values, q.record.input_names, ax=q.ax, label=label)


def _subspace(q: Question) -> Axes:
    space = q.record.active_subspace("standard")
    return plotting.spectrum(space.eigenvalues, ax=q.ax, label="eigenvalue of E[JᵀJ]")


def _summary(q: Question) -> Axes:
    space, sample = q.record.active_subspace("standard"), q.record.sample
    coordinate, y = space.coordinates(sample.x)[:, 0], sample.y[:, q.i]
    x_label = f"first active variable ({space.explained[0]:.0%} of the squared derivatives)"
    name = q.record.output_names[q.i]
    return plotting.summary(coordinate, y, ax=q.ax, label=name, x_label=x_label)


def strongest(record: Statistics, output: int) -> int:
    """Return the input that moves an output most when the inputs change as they do in the data."""
    return int(record.order[output, 0])


def partner(record: Statistics, output: int, given: int) -> int | None:
    """Return the input that goes along most with a derivative by another one; None if none does."""
    J, x = record.sample.J[:, output, given], record.sample.x
    with np.errstate(invalid="ignore", divide="ignore"):
        moved, J = x - x.mean(axis=0), J - J.mean()
        together = np.abs(J @ moved) / np.sqrt((moved**2).sum(axis=0) * (J @ J))
    together[given] = 0.0
    together = np.nan_to_num(together)
    return int(together.argmax()) if together.any() else None


def _with_unit(record: Statistics, j: int) -> str:
    name = record.input_names[j]
    return f"{name} [{record.units[name]}]" if name in record.units else name


KINDS: dict[str, Callable[[Question], Axes]] = {
    "bars": _bars,
    "violins": _violins,
    "heat map": _heat_map,
    "saliency": _saliency,
    "spectrum": _spectrum,
    "against input": _against_input,
    "mean and spread": _mean_and_spread,
    "alpha curves": _alpha_curves,
    "subspace": _subspace,
    "summary": _summary,
}
