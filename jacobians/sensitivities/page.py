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
from jacobians.sensitivities.interactions import Interactions, interactions
from jacobians.sensitivities.pictures import draw, pixel_images, strongest
from jacobians.sensitivities.statistics import Statistics

Axes: TypeAlias = Any  # matplotlib's, which need not be installed
ROWS = 40  # inputs in a table; to_dict has all of them
OUTPUTS = 30  # outputs with a table
DRAWN = 4  # outputs with pictures of their own, if there are no more than these
SECONDS = 20_000  # second derivatives of a point, at most, for which interactions are shown
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
    tables = [_table(found, i, order[i, :ROWS], numbers) for i in range(min(m, OUTPUTS))]
    together = _interactions(found)
    return reports.render(
        {
            "title": title,
            "network": str(found.network),
            "layers": _layers(found.network),
            "points": found.count,
            "dtype": str(found.network.dtype),
            "inputs": inputs(found),
            "outputs": outputs(found),
            "tables": tables,
            "basis": found.basis,
            "correlated": found.correlated(),
            "findings": "; ".join(f"{table['name']}: {table['finding']}" for table in tables[:6]),
            "interactions": _pairs(together),
            "sampled": len(found.sample.points),
            "left_out": {"inputs": max(0, n - ROWS), "outputs": max(0, m - OUTPUTS)},
            "confidence": confidence,
            "groups": found.groups,
            "norms": _norms(found),
            "subspace": _subspace(found),
            "pictures": _pictures(found, together),
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
    words = [f"{found.direction(i, int(j))} with {found.input_names[j]}" for j in order[:3]]
    widest = found.input_names[int((found.std[i] * found.input_std).argmax())]
    return {
        **{"name": name, "unit": unit, "rows": rows, "pictures": pictures, "strongest": strong},
        "finding": f"{name} {', '.join(words)}.",
        "spread": f"most of all it depends on the point for {widest}.",
    }


def _interactions(found: Statistics) -> Interactions | None:
    """Return the interactions of the sample, where they are few and there is a rule for them."""
    net, (m, n) = found.network, found.shape
    if n != net.widths[0] or n == 1 or m * n * n > SECONDS or len(found.sample.points) < 2:
        return None
    try:
        return interactions(net, found.sample.points, rows=list(found.outputs))
    except NotImplementedError:
        return None


def _pairs(found: Interactions | None) -> list[tuple[str, str, str, float]]:
    """Return the strongest pairs of inputs of every output: its name, theirs, how strong."""
    if found is None or not np.nan_to_num(found.standardised).any():
        return []
    few = 5 if len(found.output_names) == 1 else 2
    return [
        (output, *pair)
        for output in found.output_names[:12]
        for pair in found.strongest(output, few)
    ]


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


def _pictures(found: Statistics, together: Interactions | None) -> dict[str, str]:
    m, n = len(found.output_names), len(found.input_names)
    images = pixel_images(found.input_names, found.mean)
    drawn = _chain(found)
    if images is not None and m <= OUTPUTS:
        height = 0.3 + 1.2 * -(-m // 5) * images.shape[1] / images.shape[2]
        drawn["saliency"] = _draw(_kind(found, "saliency"), 5.6, height)
    elif m > 1 and n > 1 and m * n <= 4000:
        size = plotting.matrices.heat_map_size(m, found.input_names)
        drawn["heat map"] = _draw(_kind(found, "heat map"), *size)
    if together is not None and _pairs(together) and n <= 30:
        side = min(6.0, 1.6 + 0.34 * n)
        drawn["interactions"] = _draw(lambda ax: together.plot(0, ax=ax), side + 0.7, side)
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
