"""Unit graphs for the laws, drawn and exact, and oracles that know no graph."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import EXACT_ACTIVATIONS, Dual, dual
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import spsolve_triangular

import jacobians as jb
from jacobians import strategies as jst
from jacobians.units import UnitGraph

EXACT = [
    jb.activation("identity"),
    jb.activation("identity"),
    jb.activation("relu"),
    jb.activation("relu"),
    jb.activation("leaky_relu", slope=0.5),
    jb.activation("square"),
]
HOMOGENEOUS = EXACT[:5]
SMOOTH = [jb.activation(name) for name in jst.SMOOTH]


# --- cases ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A graph with what it was made from, written out, and a point."""

    graph: UnitGraph
    A: np.ndarray
    B: np.ndarray
    b: np.ndarray
    sigmas: list
    x: np.ndarray

    @cached_property
    def at(self):
        return self.graph.linearize(self.x)


def sparse_with(values, mask):
    """Stored entries where the mask is true, zeros among them."""
    return coo_array((values[mask], np.nonzero(mask)), shape=mask.shape)


@st.composite
def shapes(draw, max_units=6, max_inputs=3):
    """Masks of an acyclic graph, its units in any order, and how it is handed over."""
    N, m = draw(st.integers(1, max_units)), draw(st.integers(0, max_inputs))
    order = np.array(draw(st.permutations(range(N))))
    sorted_edges = np.tril(draw(hnp.arrays(bool, (N, N))), -1)
    E = np.zeros((N, N), dtype=bool)
    E[np.ix_(order, order)] = sorted_edges
    return E, draw(hnp.arrays(bool, (N, m))), draw(st.booleans())


def case_of(shape, A, B, b, sigmas, x):
    E, E_B, sparse = shape
    A, B = A * E, B * E_B
    handed = (sparse_with(A, E), sparse_with(B, E_B)) if sparse else (A, B)
    return Case(UnitGraph(*handed, b, sigmas), A, B, b, sigmas, x)


@st.composite
def exact_cases(draw, sigmas=EXACT):
    """Whole numbers on which every road is exact: nothing comes near 53 bits."""
    shape = draw(shapes())
    N, m = shape[1].shape
    A, B, b, x = (
        draw(hnp.arrays(np.int64, size, elements=st.integers(-3, 3))).astype(float)
        for size in ((N, N), (N, m), (N,), (m,))
    )
    case = case_of(shape, A, B, b, [draw(st.sampled_from(sigmas)) for _ in range(N)], x)
    assume(np.abs(case.graph(x)).max() < 2**13)
    assume(as_blocks(case.at).magnitude().to_dense().max() < 2**13)
    return case


@st.composite
def float_cases(draw, sigmas=SMOOTH, max_units=8, scale=1.0):
    """Full mantissas: simple numbers would round too rarely."""
    shape = draw(shapes(max_units))
    N, m = shape[1].shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    A, B, b, x = (scale * rng.standard_normal(size) for size in ((N, N), (N, m), N, m))
    return case_of(shape, A, B, b, [sigmas[k] for k in rng.integers(0, len(sigmas), N)], x)


def cotangents(case):
    whole = st.integers(-3, 3)
    return hnp.arrays(np.int64, (len(case.b),), elements=whole).map(lambda c: c.astype(float))


# --- oracles --------------------------------------------------------------------------------------


def exact(case, bump=()):
    """Return all z and h as dual numbers, by recursion; ``bump = (what, place)`` is the seed."""

    def given(array, what):
        return {
            index: Dual(Fraction(float(entry)), Fraction(int(bump == (what, index))))
            for index, entry in np.ndenumerate(array)
        }

    A, B, b, x = (given(getattr(case, name), name) for name in "ABbx")
    N, m = case.B.shape
    z, h = {}, {}

    def visit(i):
        if i not in h:
            fed = [j for j in range(N) if case.A[i, j] or bump == ("A", (i, j))]
            z[i] = sum((A[i, j] * visit(j) for j in fed), start=b[i,])
            z[i] = sum((B[i, k] * x[k,] for k in range(m)), start=z[i])
            z[i] = z[i] + Dual(Fraction(0), Fraction(int(bump == ("z", (i,)))))
            sigma = case.sigmas[i]
            h[i] = dual(EXACT_ACTIVATIONS[sigma.name](z[i], **dict(sigma.parameters)))
            h[i] = h[i] + Dual(Fraction(0), Fraction(int(bump == ("h", (i,)))))
        return h[i]

    for i in range(N):
        visit(i)
    return [z[i] for i in range(N)], [h[i] for i in range(N)]


def slopes(numbers):
    return [number.slope for number in numbers]


def fractions(array):
    return [Fraction(float(entry)) for entry in np.ravel(array)]


def as_blocks(at):
    """Return the network graph with blocks of 1x1 that says the same: ``(I - D A)^{-1}`` as a map.

    Node 0 moves all values; every unit has a node for z, if it is fed, and one for h; the last
    node gathers the values.  So the exact oracle and the rounding theorem of the maps hold here.
    """
    A, N = at.graph.A, at.slopes.shape[-1]
    nodes, node_of = [], {}
    for i in np.argsort(at.graph.levels, kind="stable").tolist():
        row = slice(*A.indptr[i : i + 2])
        enters = [(0, jb.Selection([i], N))]
        if A.indices[row].size:
            fed = zip(A.indices[row].tolist(), A.data[row], strict=True)
            nodes.append([(node_of[j], [[weight]]) for j, weight in fed])
            enters.append((len(nodes), jb.Diagonal([at.slopes[i]])))
        nodes.append(enters)
        node_of[i] = len(nodes)
    nodes.append([(node_of[i], jb.Selection([i], N).T) for i in range(N)])
    return jb.Substitution(nodes)


def substituted(at, right):
    """Solve ``(I - D A) v = r`` by scipy's substitution on the sorted matrix."""
    order = np.argsort(at.graph.levels, kind="stable")
    M = np.eye(len(order)) - at.slopes[:, None] * at.graph.A.toarray()
    lower = csr_array(M[np.ix_(order, order)])
    solved = np.empty_like(right)
    solved[order] = spsolve_triangular(lower, right[order], lower=True, unit_diagonal=True)
    return solved


def every_derivative(at, c):
    """Return all that is to be known at a point, by name."""
    g = at.backprop(c)
    return {
        "values": at.values,
        "total": at.total_derivative(),
        "of preactivations": at.total_preactivation_derivative(),
        "inputs": at.input_jacobian(),
        "deltas": g.deltas,
        "edges": g.edges.toarray(),
        "input edges": g.input_edges.toarray(),
        "biases": g.biases,
        "cotangent of inputs": g.inputs,
    }


def parameters(graph):
    return np.concatenate([graph.A.data, graph.B.data, graph.biases])
