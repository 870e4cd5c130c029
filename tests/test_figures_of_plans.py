"""What a plan says in numbers: the memory of its steps, counted again from what they fill."""

from itertools import product
from math import prod

import numpy as np
import pytest
from zoo import NETWORKS, points, whole

import jacobians as jb
from jacobians import _kernels
from jacobians.activations import IDENTITY
from jacobians.compiling import compile_sweep
from jacobians.engine.kernels import FILLING, Kernels
from jacobians.engine.running import Runner
from jacobians.factors import factors_of
from jacobians.linearization import activation_map, layer_map
from jacobians.maps import LinearMap
from jacobians.maps.association import forward_order, reverse_order
from jacobians.planning import BLOCK_BYTES, DEFAULT_BYTES
from jacobians.program import Limits, Op


def _tokens():
    """Blocks along the diagonal that are written, and that rows pass."""
    dense = [jb.Dense(whole(m, n), whole(m), "relu") for m, n in ((6, 8), (8, 6))]
    turn = [jb.Permute((1, 0)), jb.Reshape((16, 8))]
    return jb.Network([jb.Residual([*dense, *turn]), jb.Residual(dense)], inputs=(16, 8))


def _rectangular_tokens():
    layers = [jb.Dense(whole(m, n), whole(m)) for m, n in ((6, 8), (12, 6), (12, 8))]
    nodes = {
        "a": (jb.Dense(layers[0].W, layers[0].b, "relu"), "x"),
        "b": (layers[1], "a"),
        "c": (layers[2], "x"),
        "y": (jb.Add(), "b", "c"),
    }
    return jb.Network.graph(nodes, inputs={"x": (4, 8)})


def _wide():
    """Structured maps that are not written out, whole and with chosen rows of them."""
    rng = np.random.default_rng(2)
    first, last = (jb.Dense(rng.normal(size=shape) / 8) for shape in ((70, 70), (60, 70)))
    softmax = jb.Elementwise("softmax")
    return jb.Network([softmax, first, jb.Residual([first, softmax]), last])


CASES = {  # activations of their own differ in nothing that is counted
    **{k: net for k, net in NETWORKS.items() if not k.endswith(" hidden")},
    "tanh hidden": NETWORKS["tanh hidden"],
    "relu hidden": NETWORKS["relu hidden"],
    "tokens": _tokens(),
    "rectangular tokens": _rectangular_tokens(),
    "wide softmax": _wide(),
    "slopes beside slopes": jb.Network(
        [jb.Dense(whole(4, 3), whole(4), "tanh"), jb.Elementwise("sigmoid")]
    ),
}
every_network = pytest.mark.parametrize("net", CASES.values(), ids=list(CASES))
SMALL = Limits(rows=1, table=0, live=0, written_out=1)  # which takes other steps


def programs(net):
    for limits in (Limits(), SMALL):
        yield jb.plan(net, 3, limits=limits, kernels=False).program(net, True)


def all_programs(net):
    """Of the Jacobian, with and without the value, of a block inside, of JVPs and VJPs.

    With each, the sizes of what it is given beside the points: a vector for each of them.
    """
    depth = net.depth
    for limits in (Limits(), SMALL):
        for of, wrt in {(depth, 0), (depth - 1, depth // 2), (depth // 2, depth // 2)}:
            made = jb.plan(net, 3, of=of, wrt=wrt, limits=limits, kernels=False)
            for valued in (True, False):
                yield made.program(net, valued), of if valued else None, {}
        factors = factors_of(net, depth, 0, written_out=limits.written_out)
        for forward, width in ((True, net.widths[0]), (False, net.widths[-1])):
            yield compile_sweep(net, factors, forward, limits), None, {1: width}


def numbers_of(value):
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, LinearMap):
        value = tuple(vars(value).values())
    return sum(map(numbers_of, value)) if isinstance(value, tuple) else 0


def counted(step, points=1):
    return prod(n or points for n in step.shape)


@every_network
def test_the_memory_of_a_point_is_what_the_steps_fill_at_once(net):
    """Slots as large as what goes in, the most that has memory of its own, space of formulas."""
    for program, _, given in all_programs(net):
        slots, others = memory_of(program.steps, program.registers, given)
        nodes = [0, *(step.node for step in program.steps)]
        nodes += [net.layers.index(s.data) + 1 for s in program.steps if s.op == Op.LAYER_MAPS]
        widest = max(net.widths[: max(nodes) + 1])
        assert program.slots == slots
        assert program.point_numbers == sum(slots) + others + 7 * widest


def memory_of(steps, registers, outside=()):
    """Return the sizes of the slots, and what else is there at most, with the copies of a step."""
    slots, own, most, alive = {}, {}, 0, {}
    for step in steps:
        dying = {k for k in step.args if k in step.frees}
        if step.slot >= 0:
            slots[step.slot] = max(slots.get(step.slot, 0), counted(step))
            assert alive.get(step.slot) in {None, *dying}  # nobody else's
            alive[step.slot] = step.out
        elif step.slot == -1:
            own[step.out] = counted(step)
            most = max(most, sum(own.values()))
        for k in step.frees:
            own.pop(k, None)
            alive = {slot: register for slot, register in alive.items() if register != k}
    sizes = {**dict(outside), **{step.out: counted(step) for step in steps}}
    copied = max(copied_by(step, registers, sizes) for step in steps)
    return tuple(slots[k] for k in range(len(slots))), most + copied


def numbered(program):
    """Walk over all steps, those of rows too, each with what is there before it."""
    there = {k for k, A in enumerate(program.registers) if A is not None} | {0, 1}
    for step in program.steps:
        yield step, there
        inside = set(there)
        for inner in step.data.steps if step.op == Op.ROWS else ():
            yield inner, inside
            inside.add(inner.out)
        there.add(step.out)


@every_network
def test_nothing_is_made_in_vain_or_read_before_it_is_there(net):
    """A program makes what its later steps read, once for every node, and lets it go then."""
    for program, of, given in all_programs(net):
        for step, there in numbered(program):
            assert there.issuperset(step.args)
            assert 1 not in step.args or given
            made_of_nodes = step.op in (Op.AFFINE, Op.CALL, Op.VALUE)
            assert (step.node > 0) == made_of_nodes
            assert step.op != Op.BLOCKS or step.data.blocks > 1
        of_nodes = [(step.op == Op.VALUE, step.node) for step in program.steps if step.node]
        assert len(set(of_nodes)) == len(of_nodes)
        if of is None:
            assert program.value == -1
        elif of == 0:
            assert program.value == 0
        else:
            (value,) = (step for step in program.steps if step.out == program.value)
            assert value.node == of
            assert value.op == Op.VALUE or net.layers[of - 1].activation == IDENTITY
        require_all_is_read_and_let_go(program.steps, program.value)
        for step in program.steps:
            if step.op == Op.ROWS:
                require_all_is_read_and_let_go(step.data.steps)
                assert min(inner.op for inner in step.data.steps) >= Op.MULTIPLY_SLOPES
                inside = {inner.out for inner in step.data.steps}
                read = {k for inner in step.data.steps for k in inner.args} - inside
                assert step.args == (step.args[0], *sorted(read - {step.args[0]}))


def require_all_is_read_and_let_go(steps, kept=-1):
    last = {k: i for i, step in enumerate(steps) for k in step.args}
    made = {step.out for step in steps}
    assert made - set(last) - {kept} <= {steps[-1].out}
    for i, step in enumerate(steps):
        assert set(step.frees) == {k for k in step.args if last[k] == i and k in made} - {kept}


@every_network
def test_values_are_looked_at_where_nothing_after_them_would_show_it(net):
    """A value that is bounded never, one of a bounded slope with what comes next, if anything."""
    for program, of, _ in all_programs(net):
        for step in program.steps:
            unbounded = False
            if step.op == Op.VALUE:
                steep = step.data.slope_bound == np.inf or step.node == of
                unbounded = step.data.value_bound == np.inf and steep
            assert step.checked == (step.op in (Op.AFFINE, Op.CALL) or unbounded)


IN_PLACE = {  # which operands the result of a step may be put over: those of its own shape
    Op.MULTIPLY_SLOPES: (0, 1),
    Op.SCALE_ROWS: (1,),
    Op.SCALE_COLUMNS: (0,),
    Op.ADD: (0,),  # never what all points share, unless a diagonal is added to it
}


@every_network
def test_products_take_the_memory_that_fits_best(net):
    """Over an operand that nobody reads any more, else what is free: the least that is large
    enough, else the largest; and new memory only where none is free."""
    for program, *_ in all_programs(net):
        for some in (program.steps, *(s.data.steps for s in program.steps if s.op == Op.ROWS)):
            require_the_best_memory(some)
        for step in program.steps:
            if step.op == Op.ADD and step.data != "slopes":
                assert program.registers[step.args[0]] is None


def require_the_best_memory(steps):
    sizes, holds, slot_of = [], {}, {}
    for step in steps:
        size = counted(step)
        over = {step.args[k] for k in IN_PLACE.get(step.op, ()) if step.args[k] in step.frees}
        over = {slot_of[k][0] for k in over if k in slot_of and slot_of[k][1] == size}
        free = {k for k in range(len(sizes)) if k not in holds}
        if step is steps[-1]:
            assert step.slot == -2
        elif step.op < Op.MULTIPLY_SLOPES:
            assert step.slot == -1
        elif over:
            assert step.slot in over
        elif free:
            fitting = [sizes[k] for k in free if sizes[k] >= size]
            best = min(fitting) if fitting else max(sizes[k] for k in free)
            assert step.slot in free
            assert sizes[step.slot] == best
        else:
            assert step.slot == len(sizes)
            sizes.append(size)
        for k in step.frees:
            if k in slot_of:
                del holds[slot_of[k][0]]
        if step.slot >= 0:
            sizes[step.slot] = max(sizes[step.slot], size)
            holds[step.slot] = step.out
            slot_of[step.out] = step.slot, size


def copied_by(step, registers, sizes):
    """Numbers that a step takes beside its result: one row on its way, copies for a map."""
    if step.op in (Op.LEFT, Op.RIGHT):
        return 2 * counted(step) + sizes.get(step.args[0], 0)
    if step.op == Op.ROWS:
        rows, passing = step.shape[2 if step.data.left else 0], passing_rows(step, registers, sizes)
        return counted(step) + passing // rows
    shared = [getattr(registers[k], "ndim", None) for k in step.args]
    return counted(step) if step.op == Op.PRODUCT and step.slot == -2 and 2 in shared else 0


def passing_rows(step, registers, sizes):
    """All that rows have on their way: where they come from, what the steps take, the result."""
    slots, others = memory_of(step.data.steps, registers, sizes)
    return sum(slots) + others + size_of(step.args[0], registers, sizes) + counted(step)


def size_of(k, registers, sizes):
    return sizes[k] if k in sizes else registers[k].size


@every_network
def test_every_step_fills_the_numbers_that_were_counted(net):
    """At five points, in NumPy, told where to or not; and the Jacobian is that of the maps."""
    X, eps = points(net, 5), np.finfo(net.dtype).eps
    lin = jb.linearize(net, X)
    expected = np.broadcast_to(lin.jacobian(), (5, net.widths[-1], net.widths[0]))
    for program, limits in zip(programs(net), (Limits(), SMALL), strict=True):
        runner = Runner(net.depth, net.dtype, program, Kernels(limits, 1, 1), 5, 1)

        def watched(kernel):
            def run(step, out, *args):
                if step.op in (Op.LAYER_MAPS, Op.ACTIVATION_MAP, Op.LEAF, Op.BLOCKS):
                    return kernel(step, out, *args)
                memory = np.full([n or 5 for n in step.shape], np.nan, net.dtype)
                new = kernel(step, memory if step.op in FILLING else None, *args)
                result = kernel(step, out, *args)
                assert result.size == counted(step, 5), step
                if step.data != "matrix":  # what all points share may stay one for all
                    assert new.shape == result.shape, step
                assert np.abs(new - result).max(initial=0) <= 1e4 * eps * np.abs(new).max(initial=0)
                return result

            return run

        vars(runner)["code"] = [(watched(kernel), *rest) for kernel, *rest in runner.code]
        J = np.empty((net.widths[-1], 5, net.widths[0]), net.dtype)
        runner.run(X, J)
        # two orders of some products of small networks; a wrong one is off by the whole
        difference = np.abs(J.transpose(1, 0, 2) - expected).max()
        assert difference <= 1e4 * eps * np.abs(expected).max()


@every_network
def test_a_leaf_holds_the_numbers_of_its_map_at_one_point(net):
    """And what a rule returns counts twice: it makes them of something."""
    lin = jb.linearize(net, points(net, 1))
    for program in programs(net):
        read = {}
        for step in program.steps:
            if step.op == Op.LEAF and step.data.source and step.data.source.path:
                read.setdefault(step.args[0], []).append(step.data)
        for step in program.steps:
            if step.op in (Op.LAYER_MAPS, Op.ACTIVATION_MAP):
                assert counted(step) == max(1, 2 * sum(A.numbers for A in read[step.out]))
        for step in program.steps:
            if step.op == Op.LEAF:
                m, n = step.data.shape
                each = {"diagonal": m, "matrix": m * n}.get(step.data.kind, 1)
                assert counted(step) == each
                assert counted(step, 5) == 5 * each
        for A in (A for leaves in read.values() for A in leaves):
            first, *path = A.source.path
            l = A.source.node
            layer = net.layers[l - 1]
            if A.source.rule == "layer":
                maps = layer_map(layer, *lin.trace.entering(l)[:])
                maps = maps if isinstance(maps, tuple) else (maps,)
            else:
                maps = (activation_map(layer.activation, lin.trace.preactivations[l - 1]),)
            if not path:
                assert A.numbers == numbers_of(maps[first])


@every_network
@pytest.mark.parametrize("kernels", [False, True])
def test_the_bytes_of_a_plan_are_those_of_its_program(net, kernels):
    """Of one point; and beside the points: products made before, rows on their way, the kernel."""
    for batch, limits in product((0, 1, 7), (Limits(), SMALL)):
        made = jb.plan(net, batch, threads=2, kernels=kernels, limits=limits)
        program, size = made.program(net, True), net.dtype.itemsize
        sizes = {step.out: counted(step) for step in program.steps}
        rows = (step for step in program.steps if step.op == Op.ROWS)
        passing = max((passing_rows(step, program.registers, sizes) for step in rows), default=0)
        fixed = program.constant_bytes + 2 * min(2**23, size * max(1, batch) * passing)
        more = 0
        if made.kernels:
            more = made.tape(net, program, True).nbytes + 2 * BLOCK_BYTES
        assert made.kernels <= (kernels and bool(_kernels.PROCESSORS))
        assert made.point_bytes == size * program.point_numbers
        assert made.fixed_bytes == fixed + more
        assert made.max_bytes == DEFAULT_BYTES + more
        points_at_once = made.threads * made.piece
        assert made.working_bytes == points_at_once * made.point_bytes + made.fixed_bytes


@every_network
@pytest.mark.parametrize("kernels", [False, True])
def test_a_plan_keeps_within_its_budget(net, kernels):
    """Down to twice what a point needs, with as many threads as have a point each."""
    eager = Limits(long_call=0, thread_seconds=0, small_matrix=10**9)
    ask = {"batch": 10**6, "threads": 3, "kernels": kernels, "limits": eager}
    point = jb.plan(net, **ask).point_bytes
    assert point > 0
    with pytest.raises(ValueError, match=f"one point needs {point} bytes, but the budget is"):
        jb.plan(net, max_bytes=point - 1, **ask)
    few = jb.plan(net, **ask | {"batch": 7})
    assert 1 <= few.piece <= -(-7 // few.threads)  # no thread waits for others
    for most in (2 * point, 3 * point, 5 * point, 50 * point):
        made = jb.plan(net, max_bytes=most, **ask)
        left = most - min(made.fixed_bytes, most // 2)
        assert made.threads == (max(1, min(3, left // point)) if made.association else 1)
        assert 1 <= made.piece <= left // (made.threads * point)


@every_network
def test_constants_are_counted_that_are_made_beforehand(net):
    """Products of what all points share, tables, and what is written out; not the weights."""
    for program in programs(net):
        leaves = [leaf for A in jb.plan(net).factors for leaf in A.leaves()]
        given = [leaf.value for leaf in leaves if isinstance(leaf.value, np.ndarray)]
        given += [A for layer in net.layers for A in layer.parameters().values()]
        made = [
            A
            for A in program.registers
            if isinstance(A, np.ndarray)
            and not any(np.may_share_memory(A, B) or np.array_equal(A, B) for B in given)
            and not (A.ndim == 1 and (A == 1).all())  # the identity
        ]
        assert program.constant_bytes == sum(A.nbytes for A in made)


@pytest.mark.parametrize(("sigma", "slopes"), [("tanh", 9), ("softmax", 81)])
@pytest.mark.parametrize("order", [forward_order, reverse_order])
def test_a_further_equal_layer_takes_the_memory_of_its_slopes_alone(sigma, slopes, order):
    """The forward pass is done before the products, which need two matrices in turn."""
    programs = []
    for depth in (4, 12):
        net = jb.Network.random([9] * (depth + 1), sigma, sigma, seed=0)
        made = jb.plan(net, 3, kernels=False)
        programs.append(made.in_order(order(len(made.factors))).program(net, True))
    short, long = (program.point_numbers for program in programs)
    assert long - short == 8 * slopes
    assert sum(programs[0].slots) == 2 * 81
