"""What the page of a report shows: the numbers, in which order, and which pictures.

The words around them stand in ``report.html``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from jacobians import plotting, reports
from jacobians._checks import Array, Indices
from jacobians.certificate import Certificate
from jacobians.network import Network
from jacobians.planning import plan
from jacobians.sensitivities.dataset import MANY
from jacobians.sensitivities.exports import QUANTILES, derivatives, inputs, outputs
from jacobians.sensitivities.interactions import Interactions, interactions
from jacobians.sensitivities.pictures import draw, in_deviations, pixel_images, strongest
from jacobians.sensitivities.statistics import Statistics
from jacobians.sensitivities.text import saturated

Axes: TypeAlias = Any  # matplotlib's, which need not be installed
ROWS, ROWS_OF_MANY = 40, 15  # inputs in a table, of a few outputs and of many
OUTPUTS = 30  # outputs with a table
DRAWN = 4  # outputs with pictures of their own, if there are no more than these
SECONDS = 20_000  # second derivatives of a point, at most, for which interactions are shown
FACTORS, ENTRIES = 14, 200_000  # of a chain that is drawn


def page(
    record: Statistics,
    confidence: float,
    *,
    title: str,
    certificates: Sequence[Certificate],
    provenance: Mapping[str, str],
) -> str:
    """Write the page; see ``Sensitivity.to_html``."""
    reports.require()
    m, n = len(record.output_names), len(record.input_names)
    order = record.order
    numbers = derivatives(record, confidence)
    rows = ROWS if m <= DRAWN else ROWS_OF_MANY
    tables = [_table(record, i, order[i, :rows], numbers) for i in range(min(m, OUTPUTS))]
    together = _interactions(record)
    return reports.render(
        {
            "title": title,
            "network": str(record.network),
            "layers": _layers(record.network),
            "points": record.count,
            "dtype": str(record.network.dtype),
            "inputs": inputs(record),
            "outputs": outputs(record),
            "tables": tables,
            "basis": record.basis,
            "correlated": record.correlated(),
            "findings": "; ".join(f"{table['name']}: {table['finding']}" for table in tables[:6]),
            "interactions": _pairs(together),
            "sampled": len(record.sample.points),
            "saturated": saturated(record),
            "left_out": {"inputs": max(0, n - rows), "outputs": max(0, m - OUTPUTS)},
            "confidence": confidence,
            "groups": record.groups,
            "norms": _norms(record),
            "subspace": _subspace(record),
            "pictures": _pictures(record, together),
            "standard": in_deviations(record),
            "linear": bool((record.std == 0).all()),
            "kinks": {**record.kinks, "within": record.near},
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


def _table(record: Statistics, i: int, order: Indices, numbers: Any) -> dict[str, Any]:
    name = record.output_names[i]
    few = len(record.output_names) <= DRAWN
    rows = [
        {"name": record.input_names[j], "unit": record.unit(i, int(j))}
        | numbers[name][record.input_names[j]]
        for j in order
    ]
    pictures = _pictures_of(record, i) if few else {}
    strong = record.input_names[strongest(record, i)]
    unit = record.units.get(name, "")
    words = [f"{record.direction(i, int(j))} with {record.input_names[j]}" for j in order[:3]]
    widest = record.input_names[int((record.std[i] * record.input_std).argmax())]
    return {
        **{"name": name, "unit": unit, "rows": rows, "pictures": pictures, "strongest": strong},
        "finding": f"{name} {', '.join(words)}.",
        "spread": f"most of all it depends on the point for {widest}.",
    }


def _interactions(record: Statistics) -> Interactions | None:
    """Return the interactions of the sample, where they are few and there is a rule for them."""
    net, (m, n) = record.network, record.shape
    if n != net.widths[0] or n == 1 or m * n * n > SECONDS or len(record.sample.points) < 2:
        return None
    try:
        return interactions(net, record.sample.points, rows=list(record.outputs))
    except NotImplementedError:
        return None


def _pairs(together: Interactions | None) -> list[tuple[str, str, str, float]]:
    """Return the strongest pairs of inputs of every output: its name, theirs, how strong."""
    if together is None or not np.nan_to_num(together.standardised).any():
        return []
    few = 5 if len(together.output_names) == 1 else 2
    return [
        (output, *pair)
        for output in together.output_names[:12]
        for pair in together.strongest(output, few)
    ]


def _norms(record: Statistics) -> list[tuple[float, float]]:
    return [(share, record.norm_quantile(share)) for share in QUANTILES]


def _subspace(record: Statistics) -> dict[str, Any] | None:
    """Return the shares of the first active directions, and the largest weights of the first."""
    if not 1 < len(record.input_names) <= MANY:
        return None
    space = record.active_subspace("standard")
    if not space.eigenvalues[0] > 0:
        return None
    weights = space.directions[:, 0]
    largest = np.argsort(-np.abs(weights), kind="stable")[:8]
    shares = space.eigenvalues / space.eigenvalues.sum()
    return {
        "shares": shares[:2].tolist(),
        "dimension": space.dimension(0.95),
        "weights": [(record.input_names[j], float(weights[j])) for j in largest],
    }


def _largest_ratio(certificate: Certificate) -> float:
    return max((check.ratio for check in certificate), default=0.0)


# --- pictures -------------------------------------------------------------------------------------


def _pictures(record: Statistics, together: Interactions | None) -> dict[str, str]:
    m, n = len(record.output_names), len(record.input_names)
    images = pixel_images(record.input_names, record.mean)
    drawn = _chain(record)
    if images is not None and m <= OUTPUTS:
        height = 0.3 + 1.2 * -(-m // 5) * images.shape[1] / images.shape[2]
        drawn["saliency"] = _draw(_kind(record, "saliency"), 5.6, height)
    elif m > 1 and n > 1 and m * n <= 4000:
        size = plotting.matrices.heat_map_size(m, record.input_names)
        drawn["heat map"] = _draw(_kind(record, "heat map"), *size)
    if together is not None and _pairs(together) and n <= 30:
        side = min(6.0, 1.6 + 0.34 * n)
        drawn["interactions"] = _draw(lambda ax: together.plot(0, ax=ax), side + 0.7, side)
    if min(m, n) > 1:
        drawn["spectrum"] = _draw(_kind(record, "spectrum"), 4.6, 2.5)
    if record.count > 1 and _subspace(record):
        drawn["subspace"] = _draw(_kind(record, "subspace"), 4.6, 2.5)
        drawn["summary"] = _draw(_kind(record, "summary"), 4.6, 3.0)
    return drawn


def _chain(record: Statistics) -> dict[str, str]:
    """Draw the factors at a point, where all inputs are shown and the picture can be read."""
    net, sample = record.network, record.sample
    if record.inputs != tuple(range(net.widths[0])):
        return {}
    x: Array = sample.x[0]
    factors = [factor.operand for factor in plan(net, near=x).factors]
    small = len(factors) <= FACTORS and sum(A.rows * A.columns for A in factors) <= ENTRIES
    if not factors or not small:
        return {}
    return {"chain": _draw(lambda ax: plotting.chain(net, x, ax=ax), 6.5, 1.9)}


def _pictures_of(record: Statistics, i: int) -> dict[str, str]:
    size = 4.4, plotting.statistics.rows_height(len(record.input_names))  # side by side: one order
    drawn = {"bars": _draw(_kind(record, "bars", i), *size)}
    if record.count > 1:
        drawn["violins"] = _draw(_kind(record, "violins", i), *size)
        drawn["against input"] = _draw(_kind(record, "against input", i), 4.6, 2.8)
    return drawn


def _kind(record: Statistics, kind: str, i: int = 0) -> Callable[[Axes], Axes]:
    return lambda ax: draw(record, kind, i, None, None, ax)


def _draw(picture: Callable[[Axes], Axes], width: float, height: float) -> str:
    """Draw on a figure of its own, away from pyplot's, and return a data URI."""
    figure = reports.new_figure(width, height)
    picture(figure.subplots())
    return reports.data_uri(figure)
