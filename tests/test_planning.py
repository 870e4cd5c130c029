"""What a plan decides: order, threads, pieces and kernel, on both sides of every limit."""

from dataclasses import fields
from itertools import pairwise, product

import numpy as np
import pytest
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import _kernels
from jacobians._machine import THREADS
from jacobians.maps.association import associate, flops, forward_order, reverse_order
from jacobians.planning import BLOCK_BYTES, DEFAULT_BYTES, FLOPS, UNIT_SECONDS
from jacobians.program import Limits

FEW = {  # of every shape of chain
    **{name: NETWORKS[name] for name in ("linear", "bottleneck", "deep", "attention", "shaping")},
    "tables": jb.Network.random([3, 64, 5], seed=0),
    "float32": NETWORKS["float32"],
    "entry by entry": jb.Network([jb.Elementwise("tanh"), jb.Scale([2.0, 3.0])]),
}
few_networks = pytest.mark.parametrize("net", FEW.values(), ids=list(FEW))
EAGER = {"long_call": 0, "thread_seconds": 0, "small_matrix": 10**9}


# --- what it is asked for -------------------------------------------------------------------------


def test_a_plan_that_is_asked_for_nothing_is_that_of_the_defaults():
    """One point, from the input to the output, 64 MiB, all threads, the kernel where it is."""
    net = FEW["linear"]  # whose cost depends on the number of points
    ask = {"of": net.depth, "wrt": 0, "rows": None, "columns": None, "max_bytes": 2**26}
    ask |= {"threads": THREADS, "limits": Limits(), "kernels": True}
    default, said = jb.plan(net), jb.plan(net, 1, **ask)
    assert str(default) == str(said)
    for name in {field.name for field in fields(said)} - {"factors", "association", "runners"}:
        assert getattr(default, name) == getattr(said, name), name
    assert default.flops == said.flops != jb.plan(net, 2).flops
    assert DEFAULT_BYTES == 2**26


def test_a_plan_keeps_what_it_was_asked_for():
    net, limits = NETWORKS["deep"], Limits(table=7)
    ask = {"of": 4, "wrt": 2, "rows": [1], "columns": [3, 0], "threads": 5, "max_bytes": 2**20}
    made = jb.plan(net, 9, **ask, limits=limits, kernels=False)
    assert (made.of, made.wrt, made.allowed, made.max_bytes) == (4, 2, 5, 2**20)
    assert (list(made.rows), list(made.columns), made.shape) == ([1], [3, 0], (1, 2))
    assert made.limits is limits
    assert made.widths == net.widths
    assert not made.kernels
    with pytest.raises(
        ValueError, match=r"plan: wrt: expected a layer number from 0 to 4, got 5\."
    ):
        jb.plan(net, of=4, wrt=5)


@pytest.mark.parametrize("of", [0, 2])
def test_a_plan_with_nothing_to_multiply_takes_no_threads_and_no_operations(of):
    made = jb.plan(NETWORKS["deep"], 10**6, of=of, wrt=of, threads=3, limits=Limits(**EAGER))
    assert made.association is None
    assert (made.flops, made.threads, made.mode, made.names) == (0, 1, "reverse", ())
    assert "reverse order, 0 flop per point, pieces" in str(made)


def test_a_plan_is_for_networks_that_agree_outside_of_its_block_too():
    """The points go through all layers, so their memory is planned with it."""
    layers = [jb.Dense(np.ones(shape), activation="tanh") for shape in ((3, 2), (4, 3), (2, 4))]
    net, X = jb.Network(layers), np.ones((2, 2))
    inside = jb.plan(net, 2, of=2, wrt=1)
    wider = jb.Network([jb.Dense(np.ones((3, 5)), activation="tanh"), *layers[1:]])
    assert inside.names == jb.plan(wider, 2, of=2, wrt=1).names
    for other in (wider, jb.Network(layers[:2]), jb.Network([*layers[:2], jb.Dense([[1.0] * 4])])):
        with pytest.raises(ValueError, match="jacobian: the plan was made for another network"):
            jb.jacobian(other, np.ones((2, other.widths[0])), plan=inside)
    twin = jb.Network([jb.Dense(2 * layer.W, activation="tanh") for layer in layers])
    assert (
        jb.jacobian(twin, X, plan=inside).tobytes() == jb.jacobian(twin, X, of=2, wrt=1).tobytes()
    )


# --- the order ------------------------------------------------------------------------------------


@few_networks
def test_the_operations_of_a_plan_are_those_of_its_order_and_batch(net):
    """At most one in a hundred above the cheapest; products that points share, once for all."""
    for batch in (0, 1, 2, 9):
        made, points_ = jb.plan(net, batch), max(batch, 1)
        count, operands = len(made.factors), made.operands
        assert made.flops == flops(operands, made.association.order, points_)
        assert made.association.forward == flops(operands, forward_order(count), points_)
        assert made.association.reverse == flops(operands, reverse_order(count), points_)
        cheapest = associate(operands, points_).flops
        assert cheapest <= made.flops <= 1.01 * cheapest


def test_a_plan_in_another_order_knows_its_cost_and_runs_it():
    """Also if the first one was used already, which is none of its business."""
    net = NETWORKS["deep"]
    made, X = jb.plan(net, 2, limits=Limits(table=0), kernels=False), points(net, 2)
    jb.jacobian(net, X, plan=made)
    count = len(made.factors)
    for order, mode in ((forward_order(count), "forward"), (reverse_order(count), "reverse")):
        other = made.in_order(order)
        assert (other.mode, other.association.order) == (mode, order)
        assert other.flops == flops(made.operands, order)
        J = jb.jacobian(net, X, plan=other)
        assert [step.op for step in other.runners[net][False].program.steps] != [
            step.op for step in made.runners[net][False].program.steps
        ]
        assert np.abs(J - jb.jacobian(net, X)).max() < 1e-12  # some roundings of numbers below 10


def test_a_plan_explains_factor_by_factor():
    net = jb.Network([jb.Dense(np.ones((5, 3)), activation="tanh"), jb.Dense(np.ones((2, 5)))])
    lines = [line.split() for line in jb.plan(net).explain().splitlines()]
    assert ["W2", "2x5", "dense", "shared"] in lines
    assert ["D1", "5x5", "diagonal", "one", "per", "point"] in lines
    assert ["W1", "5x3", "dense", "shared"] in lines


def leaves(order):
    return [order] if isinstance(order, int) else [*leaves(order[0]), *leaves(order[1])]


def without_first(order):
    """Leave the first factor of a product out."""
    if isinstance(order, int):
        return None
    rest = without_first(order[0])
    return order[1] if rest is None else (rest, order[1])


@pytest.mark.parametrize("batch", [0, 1, 4])
@pytest.mark.parametrize("sigma", ["relu", "tanh", "scale"])
def test_slopes_that_may_be_0_come_between_the_sides_of_the_last_product(sigma, batch):
    """Where both sides are products, at most one in a hundred operations more: then dead units are
    left out.  Not for other diagonals, and not below the limit."""
    moved, count = set(), max(batch, 1)
    for inner in product((2, 3, 12), repeat=3):
        made = jb.plan(with_linear_ends(sigma, inner), batch, limits=Limits(live=0))
        operands, cheapest = made.operands, associate(made.operands, count)
        expected, (left, right) = cheapest.order, cheapest.order
        first, rest = leaves(right)[0], without_first(right)
        if sigma == "relu" and isinstance(left, tuple) and isinstance(rest, tuple):
            order = (left, (first, rest))
            cost = flops(operands, order, count)
            if operands[first].kind == "diagonal" and cost <= 1.01 * cheapest.flops:
                expected = order
        assert made.association.order == expected
        assert made.flops == flops(operands, expected, count)
        moved.add(expected != cheapest.order)
    assert (True in moved) == (sigma == "relu")


def with_linear_ends(sigma, inner):
    """A network whose first two matrices and last two have nothing of the points between them."""
    linear = [jb.Dense(np.ones((m, n))) for n, m in pairwise((30, 7, *inner, 6, 30))]
    layers = []
    for l, layer in enumerate(linear):
        between = 0 < l < len(linear) - 2
        name = sigma if between and sigma != "scale" else "identity"
        layers.append(jb.Dense(layer.W, activation=name))
        if between and sigma == "scale":
            layers.append(jb.Scale(np.ones(len(layer.W))))
    return jb.Network(layers)


def test_below_the_limit_slopes_stay_where_the_cheapest_order_has_them():
    net = jb.Network.random([30, 12, 2, 12, 30], "relu", seed=0)
    dead = 30 * 2 * 30
    for live, stay in ((dead, False), (dead + 1, True)):
        made = jb.plan(net, 4, limits=Limits(live=live))
        assert (made.association.order == associate(made.operands, 4).order) == stay


# --- threads --------------------------------------------------------------------------------------


def threads_of(net, batch, limits, **ask):
    ask = {"threads": 2, "kernels": False, **ask}
    return jb.plan(net, batch, limits=Limits(**{**EAGER, "table": 0, **limits}), **ask).threads


@pytest.mark.parametrize(("of", "width"), [(2, (5 + 40 + 3) / 3), (4, (5 + 40 + 3 + 70 + 2) / 5)])
def test_threads_want_calls_of_many_numbers_unless_the_kernel_makes_them(of, width):
    """Those of the points of one thread, at the mean width of the nodes up to the end."""
    net = jb.Network.random([5, 40, 3, 70, 2], seed=0)
    numbers = 101 // 2 * width
    for long_call, threads in ((numbers * 0.999, 2), (numbers * 1.001, 1)):
        assert threads_of(net, 101, {"long_call": long_call}, of=of) == threads
        if _kernels.PROCESSORS:
            assert threads_of(net, 101, {"long_call": long_call}, of=of, kernels=True) == 2


@pytest.mark.parametrize("of", [2, 4])
@pytest.mark.parametrize("wide", [1, 300])
def test_threads_want_a_time_of_work(of, wide):
    """Of the products, of the way forward, and of the units on it."""
    net = jb.Network.random([50, 40 * wide // 30 + 10, 30, 70, 20], seed=0)
    widths = net.widths[: of + 1]
    made = jb.plan(net, 100, of=of, kernels=False, limits=Limits(table=0))
    way = 2 * sum(m * n for m, n in pairwise(widths))
    seconds = 100 * ((made.flops + way) / FLOPS + sum(widths[1:]) * UNIT_SECONDS)
    for least, threads in ((seconds * 0.9999, 2), (seconds * 1.0001, 1)):
        assert threads_of(net, 100, {"thread_seconds": least}, of=of) == threads


@pytest.mark.parametrize("of", [2, 4])
def test_threads_want_matrices_that_a_core_multiplies_well(of):
    """The largest up to the end decides, whether products meet it or only the way forward does."""
    net = jb.Network.random([50, 40, 30, 70, 20], seed=0)
    largest = max(m * n for m, n in pairwise(net.widths[: of + 1]))
    for most, threads in ((largest, 2), (largest - 1, 1)):
        for rows in (None, [0]):
            assert threads_of(net, 100, {"small_matrix": most}, of=of, rows=rows) == threads
        if _kernels.PROCESSORS:
            assert threads_of(net, 100, {"small_matrix": most}, of=of, kernels=True) == 2


def test_threads_ask_for_the_largest_factor_too():
    """Which lies between nodes that are no neighbours: ``x`` of 40, ``a`` of 1, ``y`` of 50."""
    nodes = {"a": (jb.Dense(np.ones((1, 40))), "x"), "y": (jb.Dense(np.ones((50, 40))), "x")}
    net = jb.Network.graph(nodes, inputs={"x": 40}, outputs=["a", "y"])
    assert net.widths[:3] == (40, 1, 50)
    for most, threads in ((50 * 40, 2), (50 * 40 - 1, 1)):
        assert threads_of(net, 100, {"small_matrix": most}, of="y") == threads


@pytest.mark.parametrize("kernels", [False, True])
def test_one_thread_or_one_point_stay_alone(kernels):
    net = NETWORKS["deep"]
    for allowed, batch in product((1, 2, 3), (0, 1, 2, 3, 100)):
        expected = allowed if batch > 1 else 1
        assert threads_of(net, batch, {}, threads=allowed, kernels=kernels) == expected


# --- pieces ---------------------------------------------------------------------------------------


@few_networks
@pytest.mark.parametrize("kernels", [False, True])
def test_a_piece_holds_the_points_that_its_limit_lets_in(net, kernels):
    """One limit for small matrices or threads, and another for large; a point in any case."""
    base = jb.plan(net, 1, kernels=kernels)
    largest = max([A.rows * A.columns for A in base.operands if A.kind == "dense"], default=0)
    for batch, threads, small_matrix in product((0, 7, 100), (1, 2), (largest, largest - 1)):
        for small, large in ((3, 5), (11, 2), (0.5, 40)):
            sizes = {"small_piece_bytes": small, "piece_bytes": large}
            sizes = {name: int(n * base.point_bytes) for name, n in sizes.items()}
            limits = Limits(**sizes, small_matrix=small_matrix, long_call=0, thread_seconds=0)
            made = jb.plan(net, batch, threads=threads, kernels=kernels, limits=limits)
            assert made.point_bytes == base.point_bytes
            few = small_matrix == largest or made.threads > 1
            most = max(1, int(small if few else large))
            assert made.piece == max(1, min(-(-batch // made.threads), most))


@few_networks
@pytest.mark.parametrize("kernels", [False, True])
def test_the_least_budget_that_does_is_taken_and_one_byte_less_is_refused(net, kernels):
    """A point and what is fixed, or twice the point: half of a budget is for points anyway."""
    ask = {"batch": 50, "threads": 2, "kernels": kernels, "limits": Limits(**EAGER)}
    fixed = jb.plan(net, **ask | {"kernels": False}).fixed_bytes
    point = jb.plan(net, **ask).point_bytes
    least = min(point + fixed, 2 * point - 1)
    made = jb.plan(net, max_bytes=least, **ask)
    assert (made.piece, made.threads, made.max_bytes) == (1, 1, least)
    with pytest.raises(ValueError, match="plan: max_bytes: one point needs") as refused:
        jb.plan(net, max_bytes=least - 1, **ask)
    assert str(refused.value) == (
        f"plan: max_bytes: one point needs {point} bytes, but the budget is {least - 1}; "
        "twice as much as it needs is always enough."
    )
    for many in (2, 5, 9):
        most = max(fixed + many * point, 2 * fixed)
        made = jb.plan(net, max_bytes=most, **ask)
        left = most - min(made.fixed_bytes, most // 2)
        assert made.threads == min(2, left // point)
        assert made.piece == min(-(-50 // made.threads), left // made.threads // point)


# --- the kernel -----------------------------------------------------------------------------------

with_the_kernel = pytest.mark.skipif(not _kernels.PROCESSORS, reason="the kernel is not built")


@with_the_kernel
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["tables", "bottleneck"])
def test_the_kernel_runs_what_leaves_half_of_the_budget_to_points(name, threads):
    """With all that is fixed: products made before, its weights, and a block for each thread."""
    net = FEW[name]
    made = jb.plan(net, 20, threads=threads)
    program = made.program(net, True)
    more = made.tape(net, program, True).nbytes + threads * BLOCK_BYTES
    assert made.fixed_bytes == program.constant_bytes + more
    assert made.max_bytes == DEFAULT_BYTES + more  # which come on top where nobody asked for less
    for most, kernels in ((2 * made.fixed_bytes, True), (2 * made.fixed_bytes - 1, False)):
        other = jb.plan(net, 20, threads=threads, max_bytes=most)
        assert (other.kernels, other.max_bytes) == (kernels, most)
        assert other.fixed_bytes == program.constant_bytes + more * kernels
    plain = jb.plan(net, 20, threads=threads, kernels=False)
    assert (plain.kernels, plain.max_bytes) == (False, DEFAULT_BYTES)
    assert plain.fixed_bytes == program.constant_bytes


@with_the_kernel
def test_the_kernel_leaves_large_products_of_a_point_to_blas():
    """Those of the largest matrix with the smaller side of the Jacobian."""
    net = jb.Network.random([6, 30, 20, 4], seed=0)
    for ask, work in (({}, 4 * 600), ({"rows": [0]}, 600), ({"of": 2}, 6 * 600)):
        for blas, kernels in ((work, False), (work + 1, True)):
            assert jb.plan(net, 20, limits=Limits(blas=blas), **ask).kernels == kernels
