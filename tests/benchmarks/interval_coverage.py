"""How often 95 % intervals hold the truth, over simulated data sets of several shapes.

    python tests/benchmarks/interval_coverage.py --sets 2000

The truth is the statistic of a population of 400,000 points; a data set is a sample of it.  Of
every statistic with an interval the share of intervals that hold the truth is printed, averaged
over outputs and inputs; 2,000 data sets know it to about 0.005 where entries are few.
"""

import argparse

import numpy as np

import jacobians as jb

STATISTICS = ("mean", "root_mean_square", "std", "standardised", "importance")
POPULATION = 400_000


def normal(rng, count, n):
    return rng.normal(size=(count, n))


def skewed(rng, count, n):
    return rng.exponential(size=(count, n)) - 1


def binary(rng, count, n):
    """Three inputs of 0 and 1: at most eight different rows, all of them many times."""
    return (rng.random((count, n)) < [0.5, 0.3, 0.7]).astype(float)


def half_repeated(rng, count, n):
    """Half of the points are one of twenty, the others are their own."""
    few = np.random.default_rng(5).normal(size=(20, n))
    return np.where(
        rng.random((count, 1)) < 0.5, few[rng.integers(0, 20, count)], normal(rng, count, n)
    )


def ordered(rng, count, n):
    """Sorted by the first input, as files often are."""
    X = normal(rng, count, n)
    return X[np.argsort(X[:, 0])]


SHAPES = {  # widths, activation, points, distribution
    "3-8-2 tanh, 200 normal points": ((3, 8, 2), "tanh", 200, normal),
    "3-8-2 tanh, 2,000 normal points": ((3, 8, 2), "tanh", 2000, normal),
    "2-6-1 relu, 500 skewed points": ((2, 6, 1), "relu", 500, skewed),
    "3-8-1 tanh, 1,000 points of three binary inputs": ((3, 8, 1), "tanh", 1000, binary),
    "3-8-1 tanh, 400 points, half of them repeated": ((3, 8, 1), "tanh", 400, half_repeated),
    "4-10-10-2 sigmoid, 300 points in order": ((4, 10, 10, 2), "sigmoid", 300, ordered),
}


def coverage(shape, sets, seed=0, statistics=STATISTICS):
    """Return the share of intervals that hold the truth, for each statistic."""
    widths, activation, count, draw = SHAPES[shape]
    net, rng = jb.Network.random(widths, activation, seed=2), np.random.default_rng(seed)
    population = jb.sensitivity(net, draw(rng, POPULATION, widths[0]))
    truth = {name: population.statistic(name) for name in statistics}
    held = {name: np.zeros(population.shape) for name in statistics}
    for _ in range(sets):
        record = jb.sensitivity(net, draw(rng, count, widths[0]))
        for name in statistics:
            low, high = record.interval(name)
            held[name] += (low <= truth[name]) & (truth[name] <= high)
    return {name: held[name].mean() / sets for name in statistics}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=2000)
    options = parser.parse_args()
    print(f"{'':50}" + "".join(f"{name[:12]:>14}" for name in STATISTICS))
    outside = 0
    for shape in SHAPES:
        shares = coverage(shape, options.sets)
        outside += sum(not 0.93 <= share <= 0.97 for share in shares.values())
        print(f"{shape:50}" + "".join(f"{share:14.4f}" for share in shares.values()), flush=True)
    print(f"{outside} of {len(SHAPES) * len(STATISTICS)} outside 0.93 to 0.97")


if __name__ == "__main__":
    main()
