"""Certify correct networks at extreme points: ``python tests/benchmarks/extreme_certificates.py``.

Prints how many were certified, how many lines claimed something, and every network that was
condemned though it is right; the exit status is 1 if there was one.  Network k is that of the seed
(``--seed``, k).
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import extremes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    arguments = parser.parse_args()
    certified, condemned, claimed, lines = 0, 0, Counter(), Counter()
    for k in range(arguments.first, arguments.first + arguments.networks):
        certificate = extremes.judged((arguments.seed, k))
        if certificate is None:
            continue
        certified += 1
        lines.update(check.identity for check in certificate.checks)
        claimed.update(check.identity for check in certificate.checks if check.claimed)
        if not certificate.holds:
            condemned += 1
            print(f"CONDEMNED: seed ({arguments.seed}, {k})\n{certificate}", flush=True)
    print(f"{certified:,} of {arguments.networks:,} networks have values in range")
    for identity, count in lines.items():
        print(f"  {identity:32} claimed {claimed[identity]:6,} of {count:6,}")
    print(f"{condemned} condemned")
    return int(condemned > 0)


if __name__ == "__main__":
    sys.exit(main())
