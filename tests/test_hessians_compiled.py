"""Hessians by the compiled kernel: what it serves, the budget it keeps, what it leaves to NumPy."""

import numpy as np
import pytest
from claims import assert_equal
from zoo import dense, points

import jacobians as jb
from jacobians._kernels import PROCESSORS
from jacobians.planning import BLOCK_BYTES
from jacobians.second_order import compiled, hessians

pytestmark = pytest.mark.skipif(not PROCESSORS, reason="the kernel was not built, or is turned off")


def filled(net, X, of=None, wrt=0, rows=None, budget=2**27):
    """Ask the kernel alone: whether it serves, and what it fills in."""
    of = net.depth if of is None else of
    rows = np.arange(net.widths[of]) if rows is None else np.array(rows)
    H = np.full((len(X), len(rows), net.widths[wrt], net.widths[wrt]), np.nan, net.dtype)
    return compiled.fill_in(H, net, X, of, wrt, rows, budget), H


def chain(kinds):
    """Draw a network of whole numbers: a scale where no activation is named, else a dense layer.

    Or, after a scale, entry by entry.  Numbers stay small: rows read two units, scales -1, 0 or 1.
    """
    rng, layers, n = np.random.default_rng(0), [], 5
    for k, sigma in enumerate(kinds):
        if sigma is None:
            layers.append(jb.Scale(np.arange(n) % 3 - 1.0, rng.integers(-1, 2, n)))
        elif k and kinds[k - 1] is None:
            layers.append(jb.Elementwise(sigma))
        else:
            W, n = np.zeros((4 + k, n)), 4 + k
            for row in W:
                row[rng.choice(len(row), 2, replace=False)] = rng.choice([-1, 1], 2)
            layers.append(jb.Dense(W, rng.integers(-1, 2, n) if k else None, sigma))
    return jb.Network(layers, inputs=5)


CHAINS = {
    "curved at once": ["square", "relu", "identity"],
    "straight at first": ["identity", "identity", None, "square", "relu"],
    "scaled at first": [None, "square", "relu", None, "identity"],
    "scaled twice": [None, "identity", "square", None, "relu", "square"],
    "scaled behind steps": ["relu", None, "relu", "square", "identity"],
    "nothing but steps": ["relu", None, "relu", "identity"],
    "squares of squares": ["square", "square", "identity", None, "square", "identity"],
}


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("kinds", CHAINS.values(), ids=list(CHAINS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_serves_every_chain_between_any_nodes(kinds, dtype, table, monkeypatch):
    """Where something is curved in between; else it has nothing to compute.  Whole numbers."""
    net = chain(kinds).astype(dtype)
    X = np.random.default_rng(1).integers(-2, 3, (3, 5)).astype(dtype)
    if not table:
        monkeypatch.setattr(compiled, "TABLE", 0)
    lin = jb.linearize(net, X)
    for wrt in range(net.depth):
        for of in range(wrt + 1, net.depth + 1):
            served, H = filled(net, X, of, wrt)
            assert served == ("square" in kinds[wrt:of])
            if served:
                c = np.arange(1, net.widths[of] + 1).astype(dtype)
                maps = lin.hessian(np.tile(c, (3, 1)), of, wrt).to_dense()
                assert_equal(np.einsum("i,bijk->bjk", c, H), maps)


@pytest.mark.parametrize("outputs", [2, 16, 17, 40])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_kernel_fills_in_within_the_budget_that_it_counts(outputs, threads, monkeypatch):
    """Workspace of every thread, the constants, and in groups of 16 what each fills in beside.

    Threads share a result that is large enough; a byte less is left to NumPy.
    """
    monkeypatch.setattr(compiled, "THREADS", threads)
    net = dense([8, 3, outputs], "tanh", "tanh")
    groups = [range(i, min(i + 16, outputs)) for i in range(0, outputs, 16)]
    programs = [compiled.program_of(net, 2, 0, np.array(group)) for group in groups]
    constants = sum(program.constant_bytes for program in programs)
    largest = max(program.point_bytes for program in programs)
    few = compiled.SHARED // (outputs * 64)  # points with which the result is not yet large
    for count, sharing in ((few, 1), (few + 1, threads)):
        X = points(net, count)
        beside = len(groups[0]) * 64 * 8 if len(groups) > 1 else 0
        least = sharing * (BLOCK_BYTES + largest + beside) + constants
        served, H = filled(net, X, budget=least)
        assert served
        assert not np.isnan(H).any()
        assert not filled(net, X, budget=least - 1)[0]


def test_in_groups_no_more_points_go_together_than_the_budget_holds(monkeypatch):
    """One thread, two groups: as many points beside as there is room for, and 128 at most."""
    monkeypatch.setattr(compiled, "THREADS", 1)
    net = dense([4, 3, 20], "tanh", "tanh")
    groups = np.arange(16), np.arange(16, 20)
    made = {len(rows): compiled.program_of(net, 2, 0, rows) for rows in groups}
    X = points(net, 300)
    least = BLOCK_BYTES + sum(program.constant_bytes for program in made.values())
    least += max(program.point_bytes for program in made.values())
    seen = []

    class Watched:
        def __init__(self, program):
            vars(self).update(program=program, point_bytes=program.point_bytes)
            self.constant_bytes = program.constant_bytes

        def run(self, x, H):
            assert len(x) == len(H)
            seen.append(len(x))
            return self.program.run(x, H)

    monkeypatch.setattr(compiled, "program_of", lambda *ask: Watched(made[len(ask[-1])]))
    expected = filled(net, X)[1]
    assert max(seen) <= 128
    for room in (1, 7, 100, 10**6):
        seen.clear()
        served, H = filled(net, X, budget=least + room * 16 * 16 * 8)
        assert served
        assert max(seen) <= min(room, 128) < 2 * max(seen)  # pieces of one size
        assert_equal(H, expected)


class Twisted(jb.Dense):
    """A dense layer whose author may have changed it."""


class Stretched(jb.Scale):
    """The same of a scale."""


class Bare(jb.Elementwise):
    """The same of a layer that acts entry by entry."""


def sine(z):
    return np.sin(z)


CURVED = jb.Dense(np.eye(3), activation="tanh")
LEFT = {
    "a class derived from Dense": [Twisted(np.eye(3), activation="tanh")],
    "a class derived from Scale": [CURVED, Stretched(np.ones(3))],
    "a class derived from Elementwise": [CURVED, Bare("tanh")],
    "an activation of vectors": [CURVED, jb.Elementwise("softmax")],
    "an activation of one's own": [CURVED, jb.Elementwise(jb.Activation("sine", sine, np.cos))],
    "no formula for its second derivative": [jb.Dense(np.eye(3), activation="gelu")],
    "tokens": [jb.Reshape((3, 1)), jb.Dense(np.ones((2, 1)), activation="tanh")],
    "a norm": [CURVED, jb.LayerNorm(np.ones(3))],
    "a residual block": [jb.Residual([CURVED])],
    "nothing curved": [jb.Dense(np.eye(3), activation="relu")],
}


@pytest.mark.parametrize("layers", LEFT.values(), ids=list(LEFT))
def test_what_the_kernel_has_no_program_for_is_left_to_numpy(layers):
    """By the classes themselves: a derived one may be another function."""
    net = jb.Network(layers, inputs=3)
    for dtype in (np.float32, np.float64):
        served, H = filled(net.astype(dtype), points(net, 2).astype(dtype))
        assert not served
        assert np.isnan(H).all()
    assert compiled.at_a_point(net, np.zeros(3)) is None


def test_no_points_are_left_to_numpy():
    net = dense([3, 4, 2], "tanh")
    assert not filled(net, np.empty((0, 3)))[0]


def test_what_was_asked_before_is_answered_by_the_kernel_alone(monkeypatch):
    """At one plain point of all inputs; everything else goes through the checks."""
    net = dense([4, 5, 3], "tanh")
    x = points(net, 1)[0]
    assert compiled.at_a_point(net, x) is None  # not asked yet
    H = jb.hessian(net, x)
    for one in (x, -x, points(net, 2)[1]):
        assert_equal(compiled.at_a_point(net, one), filled(net, one[None])[1][0])
    others = [x[None], x[:3], x.astype(np.float32), np.repeat(x, 2)[::2], x.tolist()]
    others += [np.append(x[:3], bad) for bad in (np.nan, np.inf)]
    for other in others:
        assert compiled.at_a_point(net, other) is None
    assert compiled.at_a_point("no network", x) is None

    class Asked(Exception):
        pass

    def checked(*_):
        raise Asked

    monkeypatch.setattr(hessians, "_with_checks", checked)
    assert_equal(jb.hessian(net, x), H)
    assert_equal(jb.hessian(net, x, of=None, wrt=0, rows=None, max_bytes=None), H)
    ways = [{"of": 2}, {"wrt": 1}, {"wrt": False}, {"rows": [0]}, {"max_bytes": 2**20}]
    for chosen in ways:
        with pytest.raises(Asked):
            jb.hessian(net, x, **chosen)


def test_values_that_leave_the_range_are_told_where_the_hessian_stays():
    """tanh is flat out there; of several points it may be one, in the first piece or the last."""
    net = jb.Network([jb.Dense([[1e200]], activation="tanh"), jb.Dense([[1.0]])])
    X = np.zeros((300, 1))
    assert_equal(jb.hessian(net, X), np.zeros((300, 1, 1, 1)))
    assert_equal(jb.hessian(net, X[0]), np.zeros((1, 1, 1)))
    for k in (0, 140, 299):
        X[:] = 0
        X[k] = 1e200
        served, H = filled(net, X)
        assert np.isfinite(H).all()
        assert not served
        for asked in (X, X[k]):
            with pytest.raises(jb.NotFiniteError):
                jb.hessian(net, asked)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_hessian_that_leaves_the_range_is_told_at_one_of_several_points(k):
    """Value and slope are fine in float32, the second derivative 1e9 exp(1000 x) is not."""
    W = np.full((1, 1), 1e3, np.float32)
    net = jb.Network([jb.Dense(W, activation="exp"), jb.Dense(W)])
    X = np.zeros((3, 1), np.float32)
    assert filled(net, X)[0]
    X[k] = 0.07
    assert np.isfinite(net(X)).all()
    assert np.isfinite(jb.jacobian(net, X)).all()
    served, H = filled(net, X)
    assert not served
    assert np.isfinite(H).sum() == 2
    jb.hessian(net, np.zeros(1, np.float32))
    for asked in (X, X[k]):  # at a point as it was asked before
        with pytest.raises(jb.NotFiniteError, match="hessian: a product leaves the range of float"):
            jb.hessian(net, asked)
