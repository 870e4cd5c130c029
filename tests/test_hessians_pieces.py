"""Hessians and products with them, piece by piece: what a budget holds, and what is refused."""

import inspect
import re

import numpy as np
import pytest
from claims import assert_equal
from zoo import NETWORKS, dense, points

import jacobians as jb
from jacobians import _machine
from jacobians.second_order import hessians


@pytest.fixture
def plain(monkeypatch):
    """NumPy alone, without the kernel."""
    monkeypatch.setattr(hessians, "fill_in", lambda *_: False)


def least_budget(net, X, **chosen):
    with pytest.raises(ValueError, match="hessian: max_bytes: one point needs") as refused:
        jb.hessian(net, X, max_bytes=1, **chosen)
    said = str(refused.value)
    assert said.endswith("but the budget is 1.")
    return int(re.search(r"needs (\d+) bytes", said).group(1))


def numbers_of(net, of, wrt):
    """Count what is there at once: for all points, for a point, and for each of its outputs."""
    between, n = net.widths[wrt : of + 1], net.widths[wrt]
    products = [m * n * n for m in between[1:] if m * n * n <= 2**18]
    matrices = [m * n for m in between]  # dz/dx of every node, a copy, and one on its way
    point = 8 * sum(net.widths) + sum(matrices) + 2 * max(matrices)
    cotangents, scaled, results = 2 * sum(between), max(matrices), 4 * n * n
    return max(products, default=0), point, cotangents + scaled + results


COUNTED = {
    "wide": ([60, 70, 80, 3], 3, 0),
    "no table": ([100, 40, 3], 2, 0),
    "as large as a table may be": ([64, 64, 5], 2, 0),
    "a little larger": ([64, 65, 2], 2, 0),
    "a part": ([9, 4, 7, 5, 3], 3, 1),
    "a part that ends in the widest": ([9, 2, 3, 5, 30], 3, 1),
    "one layer": ([6, 4], 1, 0),
    "a node by itself": ([6, 4, 3], 1, 1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("widths", "of", "wrt"), COUNTED.values(), ids=list(COUNTED))
def test_the_least_budget_counts_what_is_there_at_once(widths, of, wrt, dtype, plain):
    """One point and one output at a time, down to the byte; a number less is refused."""
    net = dense(widths, "tanh", dtype=dtype)
    X, size = points(net, 2), net.dtype.itemsize
    least = least_budget(net, X, of=of, wrt=wrt)
    assert least == sum(numbers_of(net, of, wrt)) * size
    H = jb.hessian(net, X, of=of, wrt=wrt, max_bytes=least)
    assert H.shape == (2, widths[of], widths[wrt], widths[wrt])
    for short in (1, size):
        with pytest.raises(ValueError, match=f"needs {least} bytes, but the budget is"):
            jb.hessian(net, X, of=of, wrt=wrt, max_bytes=least - short)


@pytest.mark.parametrize("name", ["square", "norms"])
def test_as_many_outputs_go_together_as_the_budget_holds(name, plain, monkeypatch):
    """And then as many points; the answer is the same."""
    net = NETWORKS[name]
    m, X = net.widths[-1], points(net, 6)
    table, point, output = numbers_of(net, net.depth, 0)
    right, seen, compute = jb.hessian(net, X), [], hessians.hessians_at

    def watched(lin, C, of, wrt):
        seen.append((len(lin.value), C.shape[1]))
        return compute(lin, C, of, wrt)

    monkeypatch.setattr(hessians, "hessians_at", watched)
    for together, count in ((1, 1), (m - 1, 1), (m, 1), (m, 3), (m, 6)):
        each = point + together * output
        for spare in (0, output - 1 if together < m else each - 1):
            seen.clear()
            H = jb.hessian(net, X, max_bytes=8 * (table + count * each + spare))
            assert max(k for _, k in seen) == together
            assert max(b for b, _ in seen) == min(count, 6)
            assert sum(b * k for b, k in seen) == 6 * m
            # another order of the same sums: some roundings of the largest entry
            assert np.abs(H - right).max() <= 1e-13 * np.abs(right).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_result_larger_than_the_memory_of_the_machine_is_refused(dtype, monkeypatch):
    """Before anything is computed, and told its shape; to the last byte it is not."""
    net, ask = dense([3, 4, 2], "tanh", dtype=dtype), inspect.unwrap(jb.hessian)
    size = net.dtype.itemsize
    for X, chosen, shape in (
        (points(net, 1)[0], {}, (1, 2, 3, 3)),
        (points(net, 5), {}, (5, 2, 3, 3)),
        (points(net, 5), {"rows": [1], "wrt": 1}, (5, 1, 4, 4)),
    ):
        needed = int(np.prod(shape)) * size
        monkeypatch.setattr(_machine, "machine_memory", lambda needed=needed: needed)
        H = ask(net, X, **chosen, max_bytes=2**26)
        assert H.nbytes == needed
        monkeypatch.setattr(_machine, "machine_memory", lambda needed=needed: needed - 1)
        with pytest.raises(
            jb.TooLargeError, match=re.escape(f"hessian: the result of shape {shape}")
        ):
            ask(net, X, **chosen, max_bytes=2**26)


def test_products_with_vectors_that_leave_the_range_are_told():
    """At one point of several too; values and slopes are fine, the product is not."""
    W = np.full((1, 1), 1e15, np.float32)
    net = jb.Network([jb.Dense(W, activation="square"), jb.Dense(W, activation="square")])
    X = np.array([[0], [1e-20], [0]], np.float32)
    for points_, vectors in ((X[1], X[1] + 1), (X, X + 1)):
        with pytest.raises(jb.NotFiniteError, match="hvp: a product leaves the range of float32"):
            jb.hvp(net, points_, vectors, [1])
    assert_equal(jb.hvp(net, X[::2], X[::2], [1]), np.zeros((2, 1)))


def test_hessians_at_one_point_are_a_stack_of_one():
    net = dense([3, 4, 2], "tanh")
    X, C = points(net, 2), np.array([[[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]])
    several = hessians.hessians_at(jb.linearize(net, X), C, 2, 0)
    one = hessians.hessians_at(jb.linearize(net, X[0]), C, 2, 0)
    assert several.shape == (2, 3, 3, 3)
    assert one.shape == (1, 3, 3, 3)
    # another order of some sums of four terms
    assert np.abs(one[0] - several[0]).max() <= 1e-14 * np.abs(several).max()


def test_one_output_needs_no_cotangent():
    """Its weight is 1: the product with its Hessian, at a point and at several."""
    net = dense([3, 4, 1], "tanh")
    X, V = points(net, 3), points(net, 3, seed=2)
    products = np.einsum("bjk,bk->bj", jb.hessian(net, X)[:, 0], V)
    # sums of a dozen terms of this size
    assert np.abs(jb.hvp(net, X, V) - products).max() <= 1e-14 * np.abs(products).max()
    assert_equal(jb.hvp(net, X, V), jb.hvp(net, X, V, [1]))
    assert_equal(jb.hvp(net, X[0], V[0]), jb.hvp(net, X[0], V[0], [1]))
    assert jb.hvp(net, X, V).shape == (3, 3)
    assert jb.hvp(net, X[0], V[0]).shape == (3,)
    assert jb.hvp(net, X[:1], V[:1]).shape == (1, 3)


ONE, SEVERAL = np.ones(3), np.ones((4, 3))
REFUSED = [
    (ONE, SEVERAL, [1, 1], r"hvp: V: expected shape \(3,\), but got \(4, 3\)"),
    (SEVERAL, ONE, [1, 1], r"hvp: V: expected shape \(4, 3\), but got \(3,\)"),
    (SEVERAL, SEVERAL[:1], [1, 1], r"hvp: V: expected shape \(4, 3\), but got \(1, 3\)"),
    (ONE, ONE, np.ones((1, 2)), r"hvp: cotangent: expected shape \(2,\), but got \(1, 2\)"),
    (ONE, ONE, np.ones((3, 2)), r"hvp: cotangent: expected shape \(2,\), but got \(3, 2\)"),
    (ONE, ONE, [1], r"hvp: cotangent: expected shape \(2,\), but got \(1,\)"),
    (SEVERAL, SEVERAL, np.ones((1, 2)), r"hvp: cotangent: expected shape \(4, 2\), but got \(1, 2"),
    (SEVERAL, SEVERAL, np.ones((4, 1)), r"hvp: cotangent: expected shape \(4, 2\), but got \(4, 1"),
    (SEVERAL, SEVERAL, None, "hvp: cotangent: the network has 2 outputs; say the weight of each"),
]


@pytest.mark.parametrize(("X", "V", "cotangent", "message"), REFUSED)
def test_vectors_and_cotangents_that_do_not_fit_are_told_the_shapes_that_do(
    X, V, cotangent, message
):
    with pytest.raises(jb.ShapeError, match=message):
        jb.hvp(dense([3, 4, 2], "tanh"), X, V, cotangent)


@pytest.mark.parametrize("name", ["float32", "norms, float32"])
def test_hessians_of_float32_stay_in_float32(name, plain):
    """Whatever the dtype of vectors and cotangents."""
    net = NETWORKS[name]
    X, c = points(net, 2), np.ones(net.widths[-1])
    assert jb.hessian(net, X).dtype == np.float32
    assert jb.hvp(net, X, X.astype(float), c).dtype == np.float32
