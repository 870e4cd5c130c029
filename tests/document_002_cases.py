"""The graphs of document 002, drawn and in numbers of one's own."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from oracles import EXACT_ACTIVATIONS, Dual
from tails import whole_vectors

from jacobians.units import UnitGraph

# --- graphs, in numbers of one's own --------------------------------------------------------------


@dataclass
class Graph:
    """Units in the order in which they are computed, with all values and derivatives exact."""

    A: np.ndarray  # strictly lower triangular, whole numbers; NaN where there is no edge
    B: np.ndarray
    b: np.ndarray
    names: list
    x: np.ndarray

    def run(self, tweak=lambda kind, i, j: 0):
        """Evaluate with ``eps * tweak`` added to A, B, b, x, and to every value (kind "h")."""

        def at(kind, value, i, j=None):
            return Dual(Fraction(float(value)), Fraction(tweak(kind, i, j)))

        x = [at("x", v, k) for k, v in enumerate(self.x)]
        z, h = [], []
        for i, name in enumerate(self.names):
            total = at("b", self.b[i], i)
            for kind, M, sources in (("A", self.A, h), ("B", self.B, x)):
                for j, source in enumerate(sources):
                    weight = at(kind, 0 if np.isnan(M[i, j]) else M[i, j], i, j)
                    total = total + weight * source
            z.append(total)
            h.append(EXACT_ACTIVATIONS[name](total) + at("h", 0, i))
        return z, h

    def slopes(self, of, *seed):
        """The derivatives of all z or h with respect to one number: ``slopes("h", "A", i, j)``."""
        seed = (*seed, None)[:3]
        z, h = self.run(lambda *index: int(index == seed))
        return [v.slope for v in (z if of == "z" else h)]

    def build(self, order=None):
        """The library's graph, its units standing in another order."""
        order = np.arange(len(self.b)) if order is None else order
        A, B = self.A[np.ix_(order, order)], self.B[order]
        names = [self.names[i] for i in order]
        return UnitGraph(stored(A), stored(B), self.b[order], names)


def stored(M):
    """A sparse array that keeps edges of weight 0 and leaves out what is no edge."""
    from scipy.sparse import coo_array

    rows, columns = np.nonzero(~np.isnan(M))
    return coo_array((M[rows, columns], (rows, columns)), shape=M.shape).tocsr()


@st.composite
def graphs(draw, names=("identity", "relu", "square"), most=5):
    """Whole graphs of up to 5 units and 2 inputs, skips, several outputs, at most one square."""
    N, m = draw(st.integers(1, most)), draw(st.integers(1, 2))
    edge = st.sampled_from([np.nan, np.nan, -2.0, -1.0, 0.0, 1.0, 2.0])
    A = np.full((N, N), np.nan)
    for i in range(N):
        for j in range(i):
            A[i, j] = draw(edge)
    B = np.array([[draw(edge) for _ in range(m)] for _ in range(N)])
    kinds = []
    for _ in range(N):
        left = [n for n in names if n != "square" or n not in kinds]
        kinds.append(draw(st.sampled_from(left)))
    b = draw(whole_vectors(N))
    return Graph(A, B, b, kinds, draw(whole_vectors(m)))


def weights(M):
    return np.nan_to_num(M)


def columns(slopes, n):
    return [list(row) for row in zip(*(slopes(j) for j in range(n)), strict=True)]


@st.composite
def problems(draw):
    """A graph, its linearization, and c: the partial derivatives of C = <c, h>, any units."""
    graph = draw(graphs())
    c = draw(whole_vectors(len(graph.b)))
    return graph, graph.build().linearize(graph.x), c


def cost_slope(graph, c, *seed):
    return sum(Fraction(float(w)) * s for w, s in zip(c, graph.slopes("h", *seed), strict=True))
