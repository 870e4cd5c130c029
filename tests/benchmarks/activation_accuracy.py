"""The worst error of every activation, in ulps: ``python tests/benchmarks/activation_accuracy.py``.

Exits with 1 if one is beyond what ``jacobians.activations`` promises.  Names restrict the table.
``--dense N`` multiplies the random part of the mesh by N; mpmath takes about 0.1 ms a value.
``--every-float32`` runs through all finite float32 numbers instead and compares with the float64
formulas, which the table vouches for: about ten minutes an activation.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from activation_references import CASES, GOALS, errors, goal, mesh, reference

from jacobians import activation

HEADER = f"{'activation':32}{'dtype':9}" + "".join(f"{role:<22}" for role in GOALS)


def worst_on_mesh(act, dtype, dense):
    """Return the worst error of sigma, sigma' and sigma'' against mpmath, and where."""
    z = mesh(act.name, dtype, dense)
    functions = (act, act.derivative, act.second_derivative)
    for function, formula in zip(
        functions, reference(act.name, dict(act.parameters), dtype), strict=True
    ):
        ulps = errors(function, formula, z)
        yield ulps.max(), z[ulps.argmax()]


def worst_of_every_float32(act):
    """Return the same over all finite float32 numbers, against the float64 formulas."""
    worst = [(0.0, 0.0)] * 3
    for start in range(0, 2**32, 2**22):
        z = np.arange(start, start + 2**22, dtype=np.uint32).view(np.float32)
        z = z[np.isfinite(z)]
        wide = z.astype(np.float64)
        for k, function in enumerate((act, act.derivative, act.second_derivative)):
            with np.errstate(under="ignore", over="ignore"):
                computed, true = function(z).astype(np.float64), function(wide)
                unit = np.spacing(np.abs(true).astype(np.float32))
                gap = np.abs(computed - true) / unit
            gap = np.where((computed == true) | (np.abs(true) > 3.5e38), 0, gap)
            if z.size and gap.max() > worst[k][0]:
                worst[k] = gap.max(), z[gap.argmax()]
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="activations; all of them if none is named")
    parser.add_argument("--dense", type=int, default=1, metavar="N")
    parser.add_argument("--every-float32", action="store_true")
    arguments = parser.parse_args()
    broken = 0
    print(HEADER)
    for name, parameters in CASES:
        if arguments.names and name not in arguments.names:
            continue
        act = activation(name, **parameters)
        for dtype in (np.float32,) if arguments.every_float32 else (np.float32, np.float64):
            if arguments.every_float32:
                worst = worst_of_every_float32(act)
            else:
                worst = worst_on_mesh(act, dtype, arguments.dense)
            cells = ""
            for role, (size, place) in zip(GOALS, worst, strict=True):
                kept = size <= goal(role, name, dtype)
                broken += not kept
                cell = f"{size:.2f} at {place:.6g}{'' if kept else ' (!)'}" if size else "exact"
                cells += f"{cell:22}"
            print(f"{act!s:32}{dtype.__name__:9}{cells}".rstrip(), flush=True)
    print(f"{broken} beyond what is promised (!)" if broken else "all within what is promised")
    return broken


if __name__ == "__main__":
    sys.exit(main() > 0)
