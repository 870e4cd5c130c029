"""A record as dictionaries, JSON and a data frame.

Every number comes with the names of its input and output, and the statistics of ``INTERVALS`` with
the ends of their confidence intervals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Array, missing_extra
from jacobians.sensitivities.dataset import MANY
from jacobians.sensitivities.measures import STATISTICS

INTERVALS = ("mean", "root_mean_square", "std", "importance")  # shown with their intervals
OTHERS = (
    *("mean_absolute", "minimum", "maximum"),
    *("elasticity", "elasticity_at_means", "without_elasticity"),
)
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def derivatives(record: Any, confidence: float) -> dict[str, dict[str, dict[str, float]]]:
    """Return ``{output: {input: {statistic: value}}}``."""
    columns: dict[str, Array] = {}
    for name in (*STATISTICS, "rank"):
        columns[name] = record.statistic(name)
        if name.startswith("sobol"):  # a bound above 1 says nothing
            columns[name][columns[name] > 1] = np.nan
        if name in INTERVALS:
            columns[f"{name}_low"], columns[f"{name}_high"] = record.interval(name, confidence)
    for name in OTHERS:
        columns[name] = getattr(record, name)
    return {
        output: {
            given: {what: float(values[i, j]) for what, values in columns.items()}
            for j, given in enumerate(record.input_names)
        }
        for i, output in enumerate(record.output_names)
    }


def summary(record: Any, confidence: float) -> dict[str, Any]:
    """Return everything as plain dictionaries, lists and numbers; what is not a number is None."""
    summed: dict[str, Any] = {
        "network": str(record.network),
        "points": record.count,
        "inputs": inputs(record),
        "outputs": outputs(record),
        "ranked_by": record.basis,
        "intervals": {
            "method": "delete-a-group jackknife",
            "groups": record.groups,
            "confidence": confidence,
        },
        "derivatives": derivatives(record, confidence),
        "kinks": {**record.kinks, "near_means_within": record.near},
        "correlated_inputs": record.correlated(),
        "singular_values": {k: v.tolist() for k, v in record.singular_values.items()},
        "norm_quantiles": {str(q): record.norm_quantile(q) for q in QUANTILES},
    }
    if record.shape[1] <= MANY:
        space = record.active_subspace()
        summed["active_subspace"] = {
            "eigenvalues": space.eigenvalues.tolist(),
            "first_directions": space.directions[:, :3].T.tolist(),
        }
    cleaned: dict[str, Any] = _plain(summed)
    return cleaned


def inputs(record: Any) -> list[dict[str, Any]]:
    """Return name, unit, mean, standard deviation, smallest and largest value of every input."""
    columns = (record.input_mean, record.input_std, *record.input_range)
    names = ("mean", "std", "minimum", "maximum")
    return _labelled(record, record.input_names, dict(zip(names, columns, strict=True)))


def outputs(record: Any) -> list[dict[str, Any]]:
    """Return name, unit, mean and standard deviation of every output."""
    columns = {"mean": record.output_mean, "std": record.output_std}
    return _labelled(record, record.output_names, columns)


def _labelled(record: Any, names: Any, columns: dict[str, Array]) -> list[dict[str, Any]]:
    return [
        {"name": name, "unit": record.units.get(name, "")}
        | {what: float(values[k]) for what, values in columns.items()}
        for k, name in enumerate(names)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def to_json(record: Any, confidence: float, about: dict[str, Any]) -> str:
    """Return the summary, and what else is to be said, as JSON."""
    import json

    summed = {**summary(record, confidence), **_plain(about)}
    return json.dumps(summed, indent=1, ensure_ascii=False, allow_nan=False)


def to_dataframe(record: Any, confidence: float) -> Any:
    """Return one row per output and input, one column per statistic."""
    return frame_of(
        [
            {"output": output, "input": given, **values}
            for output, of_inputs in derivatives(record, confidence).items()
            for given, values in of_inputs.items()
        ],
        "to_dataframe",
    )


def frame_of(rows: list[dict[str, Any]], where: str) -> Any:
    """Return rows as a pandas DataFrame."""
    try:
        import pandas
    except ImportError as err:
        raise missing_extra("pandas", "pandas", where) from err
    return pandas.DataFrame(rows)
