"""The rules of layers and activations, one node at a time: maps, second differentials, parts."""

import dataclasses

import numpy as np
import pytest
from claims import assert_within
from test_figures_of_maps import parts
from zoo import NETWORKS, points

import jacobians as jb
from jacobians._written_out import written_activation, written_layer, written_parameters
from jacobians._written_seconds import written_curvature, written_second
from jacobians.along import Along
from jacobians.linearization import (
    activation_map,
    activation_second,
    layer_map,
    second_of_layer,
    second_of_parameters,
)


def _products(transposed, heads):
    """Two values of several matrices each, and the product of their entries."""
    lead = (heads,) * (heads > 1)
    nodes = {
        "a": (jb.Reshape((*lead, 2, 3)), "A"),
        "b": (jb.Reshape((*lead, *((4, 3) if transposed else (3, 4)))), "B"),
        "y": (jb.MatrixProduct(transpose_second=transposed), "a", "b"),
        "c": (jb.Reshape((*lead, 2, 4)), "C"),
        "z": (jb.Multiply(), "y", "c", "y"),
    }
    return jb.Network.graph(nodes, inputs={"A": heads * 6, "B": heads * 12, "C": heads * 8})


def _tokens():
    """Whatever acts on every row, on rows of a value with two and with three axes."""
    rng = np.random.default_rng(4)
    scale, shift = rng.normal(size=(2, 4))
    return jb.Network(
        [
            jb.LayerNorm(scale, shift),
            jb.Dense(rng.normal(size=(5, 4)), rng.normal(size=5), "softmax"),
            jb.RMSNorm(rng.normal(size=5)),
            jb.Reshape((2, 3, 5)),
            jb.Elementwise("log_softmax", axis=1),
            jb.LayerNorm(rng.normal(size=5)),
            jb.Elementwise("softmax", axis=0),
            jb.Elementwise("softmax", axis=-2),
        ],
        inputs=(6, 4),
    )


KINDS = {
    **{name: net for name, net in NETWORKS.items() if not name.endswith(" hidden")},
    **{
        f"{heads} matrix products, {transposed=}": _products(transposed, heads)
        for heads in (1, 2, 3)
        for transposed in (False, True)
    },
    "tokens": _tokens(),
}
every_network = pytest.mark.parametrize("net", KINDS.values(), ids=list(KINDS))


def rules_of(lin, l, c):
    """All maps that the rules of a node give, by what they are, with a cotangent of ones."""
    net, z = lin.trace.network, lin.trace.preactivations[l - 1]
    layer, entering = net.layers[l - 1], lin.trace.entering(l)
    ones = np.broadcast_to(c, z.shape)
    maps = {("activation",): lin.activation_map(l)}
    maps |= {("layer", k): A for k, A in enumerate(lin.input_maps(l))}
    maps |= {("own", name): lin.own_parameter_map(l, name) for name in layer.parameters()}
    maps |= {("second", *k): S for k, S in second_of_layer(layer, ones, *entering).items()}
    maps |= {("mixed", *k): S for k, S in second_of_parameters(layer, ones, *entering).items()}
    bent = activation_second(layer.activation, ones, z)
    return maps | ({} if bent is None else {("curvature",): bent})


def all_parts(A):
    """A map, what it is made of, and so on."""
    return [A, *(C for B in parts(A) for C in all_parts(B))]


def rounding_of(A):
    """Of formulas of some dozen operations, and sums along a row; a wrong one is off by more."""
    return (50 + A.shape[-1]) * np.finfo(A.dtype).eps * np.abs(A).max(initial=1.0)


@every_network
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_rules_of_a_batch_are_those_of_its_points(net, dtype):
    """In the dtype of the network, and so are all parts of every map; one point among them."""
    net = net.astype(dtype)
    for count in (1, 3):
        X = points(net, count)
        whole, each = jb.linearize(net, X), [jb.linearize(net, x) for x in X]
        for l, n in enumerate(net.widths[1:], start=1):
            c = np.linspace(-1, 2, n).astype(dtype)
            single = [rules_of(lin, l, c) for lin in each]
            for what, A in rules_of(whole, l, c).items():
                dense = np.broadcast_to(A.to_dense(), (count, *A.shape))
                assert {B.dtype for B in all_parts(A)} == {np.dtype(dtype)}, what
                assert A.batch in {(), (count,)}
                for i, maps in enumerate(single):
                    assert maps.keys() == rules_of(whole, l, c).keys()
                    assert maps[what].batch == ()
                    assert {B.dtype for B in all_parts(maps[what])} == {np.dtype(dtype)}
                    expected = maps[what].to_dense()
                    assert_within(dense[i], expected, rounding_of(expected))


@every_network
def test_the_rules_of_a_node_are_the_formulas_written_out(net):
    """Loops and ``np.kron``, which read no map; by each value that comes in and each parameter."""
    lin = jb.linearize(net, points(net, 1)[0])
    for l, layer in enumerate(net.layers, start=1):
        entering, z = lin.trace.entering(l), lin.trace.preactivations[l - 1]
        c = np.linspace(-1, 2, len(z)).astype(net.dtype)
        written = {("activation",): written_activation(layer.activation, z)}
        written |= {("layer", k): J for k, J in enumerate(written_layer(layer, *entering))}
        written |= {("own", k): J for k, J in written_parameters(layer, *entering).items()}
        written |= {("second", *k): S for k, S in written_second(layer, c, *entering).items()}
        if written_curvature(layer.activation, c, z).any():
            written["curvature",] = written_curvature(layer.activation, c, z)
        maps = rules_of(lin, l, c)
        assert {what for what in maps if what[0] != "mixed"} >= written.keys()
        for what, J in written.items():
            assert_within(maps[what].to_dense(), J, rounding_of(J))


@every_network
def test_mixed_second_differentials_are_the_maps_of_unit_parameters(net):
    """z is linear in each parameter, so its derivative by one entry is that of a layer of ones."""
    lin = jb.linearize(net, points(net, 1)[0])
    for l, layer in enumerate(net.layers, start=1):
        entering = lin.trace.entering(l)
        c = np.linspace(-1, 2, net.widths[l]).astype(net.dtype)
        blocks = second_of_parameters(layer, c, *entering)
        for name, p in layer.parameters().items():
            expected = []
            for unit in np.eye(p.size, dtype=net.dtype):
                entry = jb.unvec(unit, (len(p), p.size // len(p))).reshape(p.shape)
                changed = layer_map(layer.with_arrays({name: entry}), *entering)
                expected.append(changed.T @ c)
            if name in ("b", "shift"):  # which the derivative does not hold
                assert (0, name) not in blocks
            else:
                J = np.stack(expected, axis=-1)
                assert_within(blocks.pop((0, name)).to_dense(), J, rounding_of(J))
        assert not blocks


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("count", [(), (1,), (3,)])
def test_a_vector_activation_without_parts_has_the_same_curvature(name, count):
    """Its second derivative has three indices, and the cotangent takes the first of them."""
    known = jb.activation(name)
    plain = dataclasses.replace(known, second_parts_of=None)
    rng = np.random.default_rng(0)
    z, c = rng.normal(size=(*count, 4)), rng.normal(size=(*count, 4))
    parts, written = activation_second(known, c, z), activation_second(plain, c, z)
    assert (type(parts), type(written)) == (jb.DiagonalPlusLowRank, jb.Matrix)
    assert written.batch == parts.batch == count
    assert_within(written.to_dense(), parts.to_dense(), rounding_of(parts.to_dense()))


@pytest.mark.parametrize("rule", ["slope", "curvature"])
def test_nothing_is_moved_for_a_softmax_along_the_last_axis(rule):
    """Counted from either end; along another axis the lines are brought together and back."""
    rng = np.random.default_rng(0)
    z, c = rng.normal(size=(2, 12)), rng.normal(size=(2, 12))
    for shape in ((3, 4), (2, 3, 2), (1, 1, 12)):
        for axis in range(-len(shape), len(shape)):
            sigma = Along(jb.activation("softmax"), shape, axis)
            A = activation_map(sigma, z) if rule == "slope" else activation_second(sigma, c, z)
            last = axis in (-1, len(shape) - 1)
            assert isinstance(A, jb.Product) != last


# --- what a layer computes ------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1e-5, 0.0, 0.25])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_norm_is_its_definition(epsilon, shape, dtype):
    """Small rows, where epsilon counts, in twice as many digits; 1e-5 unless said."""
    rng = np.random.default_rng(3)
    scale, shift = (rng.uniform(0.5, 2.0, 4).astype(dtype) for _ in range(2))
    said = {} if epsilon == 1e-5 else {"epsilon": epsilon}
    a = (rng.normal(size=(5, *shape)) / 100).astype(dtype)
    exact = a.astype(np.longdouble)
    centred = exact - exact.mean(axis=-1, keepdims=True)
    for layer, rows, moved in (
        (jb.LayerNorm(scale, shift, **said), centred, shift),
        (jb.LayerNorm(scale, **said), centred, 0),
        (jb.RMSNorm(scale, **said), exact, 0),
    ):
        size = np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + np.longdouble(epsilon))
        z = scale * rows / size + moved
        computed = layer(a.reshape(5, -1))
        assert computed.dtype == dtype
        # some ten operations on each entry; of small differences from the mean, ten times as many
        assert np.abs(computed - z.reshape(5, -1)).max() <= 100 * np.finfo(dtype).eps
        with np.errstate(all="raise"):  # nothing is divided by the size of a row of zeros
            normal, none = layer.normalised(np.zeros(4, dtype))
        assert not normal.any()
        assert none == (0 if epsilon == 0 else np.sqrt(dtype(epsilon)))
