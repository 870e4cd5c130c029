"""Laws of unit graphs: what they are called, how they are numbered, and where their limits lie."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import jacobians as jb
from jacobians.units import UnitGraph


def diamond(**options):
    """x -> a -> b, c -> d, and b -> c; every weight is different."""
    edges = [("x", "a", 2.0), ("a", "b", 3.0), ("a", "c", 5.0), ("b", "c", 7.0), ("c", "d", 11.0)]
    return UnitGraph.from_edges([*edges, ("b", "d", 13.0)], inputs=["x"], **options)


def edge_gradients(at, g):
    """The gradient of every edge by the names of its ends."""
    names = [*at.graph.unit_names, *at.graph.input_names]
    both = g.edges.toarray(), g.input_edges.toarray()
    return {
        (names[j], names[i]): np.hstack(both)[i, j]
        for i, j in np.argwhere(at.graph.joint_edges.toarray())
    }


# --- edges by name --------------------------------------------------------------------------------


def test_downstream_are_the_units_that_one_feeds_by_name():
    graph = diamond()
    fed = {name: graph.downstream(name) for name in "xabcd"}
    assert fed == {"x": ("a",), "a": ("b", "c"), "b": ("c", "d"), "c": ("d",), "d": ()}
    assert graph.downstream(1) == ("c", "d")


def test_every_edge_is_found_by_the_names_of_its_ends():
    """Its gradient alone, by ties of one edge each and by the ratio form; no other is there."""
    at = diamond().linearize([0.5])
    g = at.backprop([0.0, 0.0, 0.0, 1.0])
    expected = edge_gradients(at, g)
    assert len(expected) == len(set(expected.values())) == 6
    assert g.tied({edge: edge for edge in expected}) == expected
    for source, target in expected:
        # a quotient and a product: two roundings
        assert g.ratio_form(source, target) == pytest.approx(expected[source, target], rel=1e-15)
    for source, target in (("a", "d"), ("x", "d"), ("d", "c"), ("d", "d")):
        words = f"there is no edge {source} -> {target}."
        for verb, ask in (
            ("tied", lambda edge: g.tied({edge: 0})),
            ("ratio_form", lambda edge: g.ratio_form(*edge)),
        ):
            with pytest.raises(ValueError) as caught:  # noqa: PT011
                ask((source, target))
            assert str(caught.value) == f"UnitGradients.{verb}: {words}"


def test_the_ratio_form_divides_by_the_smallest_normal_number_and_by_nothing_below():
    tiny = np.finfo(np.float64).tiny
    for value in (tiny, np.nextafter(tiny, 0), -tiny):
        graph = UnitGraph.from_edges([("x", "h", 1.0), ("h", "y", 2.0**60)], inputs=["x"])
        g = graph.linearize([value]).backprop([0.0, 2.0**60])
        if abs(value) < tiny:
            with pytest.raises(jb.DomainError, match="divides by the value of unit h, which is 2"):
                g.ratio_form("x", "h")
        else:
            assert g.ratio_form("x", "h") == value * 2.0**120


@pytest.mark.parametrize("inputs", [False, True])
def test_the_first_stored_entry_that_is_not_finite_is_named(inputs):
    """Not a finite one before it, nor a second one behind it."""
    entries = [1.0, 2.0, -np.inf, 3.0, np.nan]
    wrong = csr_array((entries, ([0, 1, 1, 2, 2], [0, 0, 2, 1, 2])), (3, 3))
    parts = (np.zeros((3, 3)), wrong) if inputs else (wrong, np.zeros((3, 1)))
    with pytest.raises(jb.NotFiniteError) as caught:
        UnitGraph(*parts)
    where = f"UnitGraph: {'B' if inputs else 'A'}[1, 2]"
    assert str(caught.value) == f"{where} is -inf. Every entry must be finite."


# --- units of a network ---------------------------------------------------------------------------


def test_units_of_a_network_are_called_by_their_nodes():
    first, second = jb.Dense(np.ones((2, 2)), activation="tanh"), jb.Dense(np.ones((1, 2)))
    net = jb.Network.graph({"hidden": (first, "x"), "top": (second, "hidden")}, inputs={"x": 2})
    graph = UnitGraph.from_network(net.with_names(["p", "q"], None))
    assert graph.unit_names == ("hidden[0]", "hidden[1]", "top[0]")
    assert graph.input_names == ("p", "q")
    unnamed = UnitGraph.from_network(jb.Network([first, second]))
    assert unnamed.unit_names == ("a1[0]", "a1[1]", "a2[0]")
    assert unnamed.input_names == ("x0", "x1")


# --- cycles, paths and series ---------------------------------------------------------------------


def test_a_cycle_beside_units_without_one_is_refused():
    """Whether they feed it, hear of it, or know nothing of it."""
    loop = [("a", "b", 1.0), ("b", "a", 1.0)]
    for others in ([("x", "a", 1.0)], [("x", "y", 1.0)], [("x", "y", 1.0), ("a", "z", 1.0)]):
        with pytest.raises(ValueError, match="the edges a -> b -> a close a cycle"):
            UnitGraph.from_edges([*others, *loop], inputs=["x"])
        graph = UnitGraph.from_edges([*others, *loop], inputs=["x"], cyclic=True)
        assert graph.cyclic


def test_a_million_paths_are_listed_and_one_more_is_not():
    """A ladder of two ways in every step, left for y where a power of two is in the number."""

    def ladder(count):
        edges = [("x", "u0", 1.0)]
        for k in range(count.bit_length() - 1):
            ways = (f"u{k}", f"v{k}"), (f"v{k}", f"u{k + 1}"), (f"u{k}", f"u{k + 1}")
            edges += [(*way, 1.0) for way in ways]
        edges += [(f"u{k}", "y", 1.0) for k in range(count.bit_length()) if count >> k & 1]
        return UnitGraph.from_edges(edges, inputs=["x"]).linearize([1.0])

    assert ladder(10).path_sum("x", "y") == len(ladder(10).paths("x", "y")) == 10
    assert ladder(10**6).path_count("x", "y") == 10**6
    with pytest.raises(ValueError, match="1,000,001 paths lead from x to y; total_derivative and"):
        ladder(10**6 + 1).paths("x", "y")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_terms_of_the_series_are_of_one_kind(dtype):
    graph = diamond()
    A, B = graph.A.toarray().astype(dtype), graph.B.toarray().astype(dtype)
    terms = list(UnitGraph(A, B).linearize([1.0]).neumann_terms())
    assert len(terms) == 4  # paths of 0, 1, 2 and 3 edges
    assert {(term.dtype, term.format, term.shape) for term in terms} == {(A.dtype, "csr", (4, 4))}
    cyclic = diamond(cyclic=True).linearize([1.0]).neumann_terms()
    for term in terms:
        assert np.array_equal(next(cyclic).toarray(), term.toarray())
    assert not next(cyclic).nnz


def test_paths_of_one_point_are_numbers_and_of_a_batch_arrays():
    products = {"abd": 3.0 * 13, "acd": 5.0 * 11, "abcd": 3.0 * 7 * 11}
    for x, kind in (([1.0], float), ([[1.0], [2.0]], np.ndarray), (np.zeros((0, 1)), np.ndarray)):
        at = diamond().linearize(x)
        found = {"".join(path.vertices): path.derivative for path in at.paths("a", "d")}
        assert found.keys() == products.keys()
        found["sum"] = at.path_sum("a", "d")
        for name, product in {**products, "sum": sum(products.values())}.items():
            assert type(found[name]) is kind
            assert np.array_equal(found[name], np.full(at.batch, product))


def test_opposite_overflows_are_told_by_the_unit_where_they_began():
    """Their sum is no number, and nothing is raised of it but the first of them."""
    edges = [("x", "a", 1e300), ("x", "b", -1e300), ("a", "c", 1e10), ("b", "d", 1e10)]
    both = [("c", "e", 1.0), ("d", "e", 1.0)]
    graph = UnitGraph.from_edges([*edges, *both], inputs=["x"])
    with pytest.raises(jb.NotFiniteError, match="the value of unit c leaves the range of float64"):
        graph([1.0])
