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
from typing import Any, TypeAlias

import numpy as np

from jacobians import plotting
from jacobians._checks import Array, ShapeError
from jacobians.sensitivities.statistics import Statistics

Axes: TypeAlias = Any  # matplotlib's, which need not be installed
Draw: TypeAlias = Callable[[Statistics, int, int | None, Any, bool], Any]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw(
    found: Statistics, kind: str, output: int, given: int | None, ax: Axes, units: str
) -> Axes:
    """Draw a picture of that kind, derivatives in "original" units or in "standard" deviations.

    Raises
    ------
    ValueError
        If there is no such kind or unit, naming all of them.
    """
    if units not in ("original", "standard"):
        raise ValueError(f"plot: units: expected 'original' or 'standard', but got {units!r:.80}.")
    if kind not in KINDS:
        raise ValueError(f"plot: kind: expected one of {', '.join(KINDS)}, but got {kind!r:.80}.")
    return KINDS[kind](found, output, given, ax, units == "standard")


def pixel_images(names: tuple[str, ...], values: Array) -> Array | None:
    """Arrange values (m, n) as images if the names of the inputs say ``pixel row,column``.

    >>> pixel_images(("pixel 0,0", "pixel 1,1"), np.array([[1.0, 2.0]]))
    array([[[1., 0.],
            [0., 2.]]])
    """
    found = [re.fullmatch(r"pixel (\d{1,4}),(\d{1,4})", name) for name in names]
    if not all(found):
        return None
    rows, columns = np.array([[int(p[1]), int(p[2])] for p in found if p]).T
    if (rows.max() + 1) * (columns.max() + 1) > 64 * len(names):  # not an image after all
        return None
    images = np.zeros((len(values), rows.max() + 1, columns.max() + 1))
    images[:, rows, columns] = values
    return images


# --- the kinds ------------------------------------------------------------------------------------


def _bars(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    name = "standardised" if standard else "mean"
    low, high = (end[i] for end in found.interval(name))
    if not np.isfinite([low, high]).all():  # as of a single point
        low = high = None
    label = f"mean of {_derivative(found, i, standard)}"
    values, names = found.statistic(name)[i], found.input_names
    return plotting.bars(values, names, low=low, high=high, ax=ax, label=label)


def _violins(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    label = f"{_derivative(found, i, standard)} at the points"
    scale = _ratio(found)[i] if standard else 1.0
    return plotting.violins(found.sample.J[:, i] * scale, found.input_names, ax=ax, label=label)


def _heat_map(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    values = found.standardised if standard else found.mean
    label = "mean of dy/dx" + (" · sd(x)/sd(y)" if standard else "")
    return plotting.heat_map(values, found.input_names, found.output_names, ax=ax, label=label)


def _saliency(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    images = pixel_images(found.input_names, found.mean)
    if images is None:
        raise ShapeError(
            "plot: saliency: the names of the inputs do not say which pixels they are, "
            "'pixel row,column'; use jacobians.plotting.saliency with images of your own."
        )
    return plotting.saliency(images, found.output_names, ax=ax, label="mean of dy/dx")


def _spectrum(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    values = np.linalg.svd(found.sample.J, compute_uv=False)
    title = "median, middle half and middle 90 % of the points"
    return plotting.spectrum(np.quantile(values, QUANTILES, axis=0), ax=ax, title=title)


def _against_input(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    j = strongest(found, i) if j is None else j
    name, unit = found.input_names[j], found.units.get(found.input_names[j], "")
    per = found.unit(i, j)
    return plotting.against_input(
        found.sample.x[:, j],
        found.sample.J[:, i, j],
        f"{name} [{unit}]" if unit else name,
        ax=ax,
        label=f"d {found.output_names[i]} / d {name}" + (f" [{per}]" if per else ""),
    )


def _subspace(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    space = found.active_subspace("standard")
    return plotting.spectrum(space.eigenvalues, ax=ax, label="eigenvalue of E[JᵀJ]")


def _summary(found: Statistics, i: int, j: int | None, ax: Axes, standard: bool) -> Axes:
    space = found.active_subspace("standard")
    return plotting.summary(
        space.coordinates(found.sample.x)[:, 0],
        found.sample.y[:, i],
        ax=ax,
        label=found.output_names[i],
        x_label=f"first active variable ({space.explained[0]:.0%} of the squared derivatives)",
    )


def strongest(found: Statistics, output: int) -> int:
    """Return the input that moves an output most when the inputs change as they do in the data."""
    sizes = found.root_mean_square[output]
    effects = sizes * found.input_std
    return int((effects if effects.any() else sizes).argmax())


def _ratio(found: Statistics) -> Array:
    ratio: Array = found.input_std / found.output_std[:, None]
    return ratio


def _derivative(found: Statistics, i: int, standard: bool) -> str:
    text = f"d {found.output_names[i]} / dx"
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
