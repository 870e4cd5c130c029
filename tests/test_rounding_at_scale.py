"""The rounding promise at scale; ``--hypothesis-profile=large`` judges 10,000 networks of each.

``long`` judges 200,000, and ``tests/benchmarks/rounding_at_scale.py`` prints the figures.
"""

import numpy as np
import scale
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb

seeds = st.integers(0, 2**64 - 1)


@given(seeds)
def test_no_computation_of_an_ill_scaled_network_violates_its_bound(seed):
    """Layers scaled by 1e-8 to 1e8, up to 256 wide and 40 deep, float32 and float64, any order."""
    rng = np.random.default_rng(seed)
    verdict = scale.judge(*scale.ill_scaled(rng), rng)
    assert verdict.ratio <= 1, verdict


@given(seeds)
def test_all_computations_of_an_exact_network_are_bit_for_bit_equal(seed):
    rng = np.random.default_rng(seed)
    assert scale.judge_exact(*scale.exact(rng), rng).ratio == 0


@given(seeds)
def test_a_jacobian_that_fits_is_finite_and_near(seed):
    """Layers scaled by up to 1e±200: the engine finds an order, or scales by powers of two."""
    rng = np.random.default_rng(seed)
    verdict = scale.judge_range(*scale.extreme(rng), rng)
    assert verdict.ratio <= 1, verdict


def test_most_networks_are_judged_and_the_large_ones_are_among_them():
    rng = np.random.default_rng(0)
    drawn = [scale.ill_scaled(rng) for _ in range(300)]
    assert max(max(net.widths) for net, _ in drawn) > 200
    assert max(net.depth for net, _ in drawn) > 30
    assert {net.dtype for net, _ in drawn} == {np.dtype(np.float32), np.dtype(np.float64)}
    verdicts = [scale.judge(net, x, rng) for net, x in drawn if max(net.widths) < 30]
    assert sum(verdict.nothing is None for verdict in verdicts) > len(verdicts) / 2
    assert max(verdict.ratio for verdict in verdicts) > 0.2  # the bound is not a formality
    verdicts = [scale.judge_exact(*scale.exact(rng), rng) for _ in range(60)]
    assert sum(verdict.nothing is None for verdict in verdicts) > len(verdicts) / 2
    verdicts = [scale.judge_range(*scale.extreme(rng), rng) for _ in range(100)]
    assert sum(verdict.nothing is None for verdict in verdicts) > len(verdicts) / 2
    assert sum(verdict.worst.startswith("1 of 2") for verdict in verdicts) > 10


def test_the_judge_finds_an_overflow_and_a_wrong_answer(monkeypatch):
    rng, x = np.random.default_rng(0), np.array([1e-300])
    net = jb.Network([jb.Dense([[w]]) for w in (1e200, 1e200, 1e-300)])
    verdict, right = scale.judge_range(net, x, rng), jb.jacobian(net, x)
    assert verdict.ratio <= 1
    assert verdict.worst == "1 of 2 plain orders overflow"
    for wrong in (np.inf, np.nan, right * (1 + 2**-20)):
        monkeypatch.setattr(jb, "jacobian", lambda net, x, J=wrong: np.full((*np.shape(x), 1), J))
        assert not scale.judge_range(net, x, rng).ratio <= 1


def test_the_judge_finds_a_leak_through_float32_and_a_single_wrong_bit(monkeypatch):
    rng = np.random.default_rng(0)
    net = jb.Network.random([5, 7, 3], "tanh", seed=0)
    x = rng.standard_normal(5)
    assert scale.judge(net, x, rng).ratio <= 1
    right = scale.computations

    def leaking(lin, rng):
        for name, rows, columns, J in right(lin, rng):
            yield name, rows, columns, J.astype(np.float32) if name == "maps" else J

    monkeypatch.setattr(scale, "computations", leaking)
    verdict = scale.judge(net, x, rng)
    assert verdict.ratio > 1
    assert verdict.worst == "maps"
    whole = jb.Network([jb.Dense([[1, 2], [3, 4]], activation="relu"), jb.Dense([[1, -2]])])

    def off_by_a_bit(lin, rng):
        for name, rows, columns, J in right(lin, rng):
            yield name, rows, columns, np.nextafter(J, np.inf) if name == "JVPs" else J

    assert scale.judge_exact(whole, np.ones(2), rng).ratio == 0
    monkeypatch.setattr(scale, "computations", off_by_a_bit)
    assert scale.judge_exact(whole, np.ones(2), rng).worst == "JVPs"
