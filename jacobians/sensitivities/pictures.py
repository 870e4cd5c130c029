"""Which numbers of a data set each kind of picture shows.

=================== ================================================================================
"bars"              mean derivative of one output by every input, with intervals
"violins"           how these derivatives are spread over the points
"heat map"          mean derivative of every output by every input
"saliency"          the same as images, if the names of the inputs are ``pixel row,column``
"spectrum"          singular values of the Jacobian: median and bands over the points
"against input"     the derivative at every point against an input there
"subspace"          eigenvalues of ``E[JᵀJ]``, inputs in standard deviations
"summary"           an output against the first active direction
=================== ================================================================================

Clouds, violins and the spectrum show the random sample that is kept, of at most 500 points.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from jacobians import plotting
from jacobians._checks import Array, ShapeError
from jacobians.sensitivities.statistics import Statistics

Kind: TypeAlias = Literal[
    "bars", "violins", "heat map", "saliency", "spectrum", "against input", "subspace", "summary"
]
Axes: TypeAlias = Any  # matplotlib's, which need not be installed
Draw: TypeAlias = Callable[[Statistics, int, int | None, Any, bool], Any]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw(
    record: Statistics, kind: str, output: int, against: int | None, ax: Axes, scale: str
) -> Axes:
    """Draw a picture of that kind, derivatives in "original" units or in "standard" deviations.

    Raises
    ------
    ValueError
        If there is no such kind or scale, naming all of them.
    """
    if scale not in ("original", "standard"):
        raise ValueError(f"plot: scale: expected 'original' or 'standard', but got {scale!r:.80}.")
    if kind not in KINDS:
        raise ValueError(f"plot: kind: expected one of {', '.join(KINDS)}, but got {kind!r:.80}.")
    return KINDS[kind](record, output, against, ax, scale == "standard")


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


def _bars(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    name = "standardised" if standard else "mean"
    low, high = (end[i] for end in record.interval(name))
    if not np.isfinite([low, high]).all():  # as of a single point
        low = high = None
    label = f"mean of {_derivative(record, i, standard)}"
    values, names = record.statistic(name)[i], record.input_names
    return plotting.bars(values, names, low=low, high=high, ax=ax, label=label)


def _violins(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    label = f"{_derivative(record, i, standard)} at the points"
    scale = _ratio(record)[i] if standard else 1.0
    return plotting.violins(record.sample.J[:, i] * scale, record.input_names, ax=ax, label=label)


def _heat_map(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    values = record.standardised if standard else record.mean
    label = "mean of dy/dx" + (" · sd(x)/sd(y)" if standard else "")
    return plotting.heat_map(values, record.input_names, record.output_names, ax=ax, label=label)


def _saliency(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    images = pixel_images(record.input_names, record.mean)
    if images is None:
        raise ShapeError(
            "plot: saliency: the names of the inputs do not say which pixels they are, "
            "'pixel row,column'; use jacobians.plotting.saliency with images of your own."
        )
    return plotting.saliency(images, record.output_names, ax=ax, label="mean of dy/dx")


def _spectrum(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    values = np.linalg.svd(record.sample.J, compute_uv=False)
    title = "median, middle half and middle 90 % of the points"
    return plotting.spectrum(np.quantile(values, QUANTILES, axis=0), ax=ax, title=title)


def _against_input(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    j = strongest(record, i) if j is None else j
    name, unit = record.input_names[j], record.units.get(record.input_names[j], "")
    per = record.unit(i, j)
    return plotting.against_input(
        record.sample.x[:, j],
        record.sample.J[:, i, j],
        f"{name} [{unit}]" if unit else name,
        ax=ax,
        label=f"d {record.output_names[i]} / d {name}" + (f" [{per}]" if per else ""),
    )


def _subspace(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    space = record.active_subspace("standard")
    return plotting.spectrum(space.eigenvalues, ax=ax, label="eigenvalue of E[JᵀJ]")


def _summary(record: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    space = record.active_subspace("standard")
    return plotting.summary(
        space.coordinates(record.sample.x)[:, 0],
        record.sample.y[:, i],
        ax=ax,
        label=record.output_names[i],
        x_label=f"first active variable ({space.explained[0]:.0%} of the squared derivatives)",
    )


def strongest(record: Statistics, output: int) -> int:
    """Return the input that moves an output most when the inputs change as they do in the data."""
    sizes = record.root_mean_square[output]
    effects = sizes * record.input_std
    return int((effects if effects.any() else sizes).argmax())


def _ratio(record: Statistics) -> Array:
    ratio: Array = record.input_std / record.output_std[:, None]
    return ratio


def _derivative(record: Statistics, i: int, standard: bool) -> str:
    text = f"d {record.output_names[i]} / dx"
    return f"{text} · sd(x)/sd(y)" if standard else text


KINDS: dict[str, Draw] = {
    "bars": _bars,
    "violins": _violins,
    "heat map": _heat_map,
    "saliency": _saliency,
    "spectrum": _spectrum,
    "against input": _against_input,
    "subspace": _subspace,
    "summary": _summary,
}
