"""What the page of a report shows: the numbers, in which order, and which pictures.

The words around them stand in ``report.html``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from jacobians import plotting, reports
from jacobians._checks import Array, Places
from jacobians.certificate import Certificate
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.sensitivities.dataset import MANY
from jacobians.sensitivities.exports import QUANTILES, derivatives, inputs, outputs
from jacobians.sensitivities.pictures import draw, pixel_images, strongest
from jacobians.sensitivities.statistics import Statistics

Axes: TypeAlias = Any  # matplotlib's, which need not be installed
ROWS = 40  # inputs in a table; to_dict has all of them
OUTPUTS = 30  # outputs with a table
DRAWN = 4  # outputs with pictures of their own, if there are no more than these
FACTORS, ENTRIES = 14, 200_000  # of a chain that is drawn


def page(
    found: Statistics,
    confidence: float,
    *,
    title: str,
    certificates: Sequence[Certificate],
    provenance: Mapping[str, str],
) -> str:
    """Write the page; see ``Sensitivity.to_html``."""
    reports.require()
    m, n = len(found.output_names), len(found.input_names)
    order = found.order
    numbers = derivatives(found, confidence)
    return reports.render(
        {
            "title": title,
            "network": str(found.network),
            "layers": _layers(found.network),
            "points": found.count,
            "dtype": str(found.network.dtype),
            "inputs": inputs(found),
            "outputs": outputs(found),
            "tables": [_table(found, i, order[i, :ROWS], numbers) for i in range(min(m, OUTPUTS))],
            "left_out": {"inputs": max(0, n - ROWS), "outputs": max(0, m - OUTPUTS)},
            "confidence": confidence,
            "groups": found.groups,
            "norms": _norms(found),
            "subspace": _subspace(found),
            "pictures": _pictures(found),
            "standard": _units(found) == "standard",
            "linear": bool((found.std == 0).all()),
            "kinks": {**found.kinks, "within": found.near},
            "certificates": certificates,
            "worst": max(certificates, key=_largest_ratio, default=None),
        },
        provenance,
    )


def _layers(net: Network) -> list[dict[str, Any]]:
    return [
        {
            "number": l,
            "kind": type(layer).__name__,
            "inputs": sum(net.widths[s] for s in net.sources[l - 1]),
            "outputs": net.widths[l],
            "activation": str(layer.activation),
            "parameters": sum(p.size for p in layer.parameters().values()),
        }
        for l, layer in enumerate(net.layers, start=1)
    ]


def _table(found: Statistics, i: int, order: Places, numbers: Any) -> dict[str, Any]:
    name = found.output_names[i]
    few = len(found.output_names) <= DRAWN
    rows = [
        {"name": found.input_names[j], "unit": found.unit(i, int(j))}
        | numbers[name][found.input_names[j]]
        for j in order
    ]
    pictures = _pictures_of(found, i) if few else {}
    strong = found.input_names[strongest(found, i)]
    unit = found.units.get(name, "")
    return {"name": name, "unit": unit, "rows": rows, "pictures": pictures, "strongest": strong}


def _norms(found: Statistics) -> list[tuple[float, float]]:
    return [(share, found.norm_quantile(share)) for share in QUANTILES]


def _subspace(found: Statistics) -> dict[str, Any] | None:
    """Return the shares of the first active directions, and the largest weights of the first."""
    if not 1 < len(found.input_names) <= MANY:
        return None
    space = found.active_subspace("standard")
    if not space.eigenvalues[0] > 0:
        return None
    weights = space.directions[:, 0]
    largest = np.argsort(-np.abs(weights), kind="stable")[:8]
    shares = space.eigenvalues / space.eigenvalues.sum()
    return {
        "shares": shares[:2].tolist(),
        "dimension": space.dimension(0.95),
        "weights": [(found.input_names[j], float(weights[j])) for j in largest],
    }


def _largest_ratio(certificate: Certificate) -> float:
    return max((check.ratio for check in certificate), default=0.0)


# --- pictures -------------------------------------------------------------------------------------


def _pictures(found: Statistics) -> dict[str, str]:
    m, n = len(found.output_names), len(found.input_names)
    images = pixel_images(found.input_names, found.mean)
    drawn = _chain(found)
    if images is not None and m <= OUTPUTS:
        height = 0.3 + 1.2 * -(-m // 5) * images.shape[1] / images.shape[2]
        drawn["saliency"] = _draw(_kind(found, "saliency"), 5.6, height)
    elif m > 1 and n > 1 and m * n <= 4000:
        width, height = min(6.0, 2.2 + 0.42 * n), min(7.0, 1.1 + 0.3 * m)
        drawn["heat map"] = _draw(_kind(found, "heat map"), width, height)
    if min(m, n) > 1:
        drawn["spectrum"] = _draw(_kind(found, "spectrum"), 4.6, 2.5)
    if found.count > 1 and _subspace(found):
        drawn["subspace"] = _draw(_kind(found, "subspace"), 4.6, 2.5)
        drawn["summary"] = _draw(_kind(found, "summary"), 4.6, 3.0)
    return drawn


def _chain(found: Statistics) -> dict[str, str]:
    """Draw the factors at a point, where all inputs are shown and the picture can be read."""
    net, sample = found.network, found.sample
    factors = [factor.operand for factor in plan(net).factors]
    small = len(factors) <= FACTORS and sum(A.rows * A.columns for A in factors) <= ENTRIES
    if not factors or not small or found.inputs != tuple(range(net.widths[0])):
        return {}
    x: Array = sample.x[0]
    return {"chain": _draw(lambda ax: plotting.chain(net, x, ax=ax), 6.5, 1.9)}


def _pictures_of(found: Statistics, i: int) -> dict[str, str]:
    n = len(found.input_names)
    drawn = {"bars": _draw(_kind(found, "bars", i), 4.8, 0.8 + 0.23 * min(n, 15))}
    if found.count > 1:
        drawn["violins"] = _draw(_kind(found, "violins", i), 4.8, 0.8 + 0.34 * min(n, 10))
        drawn["against input"] = _draw(_kind(found, "against input", i), 4.6, 2.8)
    return drawn


def _kind(found: Statistics, kind: str, i: int = 0) -> Callable[[Axes], Axes]:
    return lambda ax: draw(found, kind, i, None, None, ax, _units(found))


def _units(found: Statistics) -> str:
    """Compare inputs in standard deviations where there are some, and no image is meant."""
    varies = found.output_std.all() and found.input_std.any()
    pixels = pixel_images(found.input_names, found.mean) is not None
    return "standard" if varies and not pixels else "original"


def _draw(picture: Callable[[Axes], Axes], width: float, height: float) -> str:
    """Draw on a figure of its own, away from pyplot's, and return a data URI."""
    figure = reports.new_figure(width, height)
    picture(figure.subplots())
    return reports.data_uri(figure)
