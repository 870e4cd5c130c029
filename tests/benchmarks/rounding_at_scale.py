"""Judge networks by the thousand: ``python tests/benchmarks/rounding_at_scale.py``.

Prints how many computations of how many Jacobians were within the proved bound, how near the worst
one came; with ``--exact``, how many networks of whole numbers had unequal bits; with ``--range``,
how many Jacobians that fit were infinite, or too far off, for layers scaled by up to 1e±200.
Network k is that of the seed (``--seed``, k). The exit status is 1 if there was a violation.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import scale


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(kind=(scale.ill_scaled, scale.judge))
    for option, kind, meaning in (
        ("--exact", (scale.exact, scale.judge_exact), "bit for bit, on whole numbers"),
        ("--range", (scale.extreme, scale.judge_range), "no overflow but that of the Jacobian"),
    ):
        parser.add_argument(option, dest="kind", action="store_const", const=kind, help=meaning)
    arguments = parser.parse_args()
    draw, judge = arguments.kind
    nothing, judged, violations, widest, deepest = Counter(), [], 0, 0, 0
    for k in range(arguments.networks):
        rng = np.random.default_rng([arguments.seed, k])
        net, x = draw(rng)
        verdict = judge(net, x, rng)
        if verdict.nothing:
            nothing[verdict.nothing] += 1
            continue
        judged.append(verdict)
        widest, deepest = max(widest, *net.widths), max(deepest, net.depth)
        if not verdict.ratio <= 1:
            violations += 1
            print(f"VIOLATION: seed [{arguments.seed}, {k}], {net}: {verdict}", flush=True)
    count = sum(verdict.count for verdict in judged)
    print(f"{len(judged):,} networks, {count:,} computations: {violations} violations")
    print(f"up to {widest} wide and {deepest} deep; nothing claimed:", dict(nothing) or "never")
    if judge is scale.judge_range:
        print("the answers are finite where", dict(Counter(v.worst for v in judged)))
    if judge is scale.judge:
        for low, high in ((1, 10), (11, 50), (51, 200), (201, 10**6)):
            ratios = [v.ratio for v in judged if low <= v.roundings <= high]
            if ratios:
                middle, most = np.percentile(ratios, [50, 95])
                line = f"K {low:3}..{high:<7} median {middle:.3f}, 95 % {most:.3f}"
                print(f"{line}, max {max(ratios):.3f}")
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
