"""What does a skip connection do to the derivative of a network?

A network with a skip is no chain of layers, so its Jacobian is no chain of matrices.  It is still
one formula, `(I - D A)^{-1} D B`, and this script reads it in three ways: as a graph, where an
entry is a sum over paths; as blocks, where the skip is one term more; and as a chain again, once
the skipped values are carried through the layer in between.  Weights are small whole numbers, so
the three agree exactly.
"""

import numpy as np

import jacobians as jb

# Two inputs, three units p, two units q on top of them, and one output y that reads both.  The
# edges from p to y skip a layer.  Every unit is a relu except the output.

W1 = np.array([[1, -2], [3, 1], [-1, 2]])  # x -> p
W2 = np.array([[2, 0, 1], [-1, 1, 3]])  # p -> q
W3 = np.array([[1, -2]])  # q -> y
S = np.array([[0, 4, -1]])  # p -> y, the skip; the first p has no edge to y


def edges(W, sources, targets):
    return [(sources[j], targets[i], W[i, j]) for i, j in zip(*np.nonzero(W), strict=True)]


x, p, q, y = ["x1", "x2"], ["p1", "p2", "p3"], ["q1", "q2"], ["y"]
graph = jb.UnitGraph.from_edges(
    edges(W1, x, p) + edges(W2, p, q) + edges(W3, q, y) + edges(S, p, y),
    inputs=x,
    biases={"q2": 5.0},
    activations=dict.fromkeys(p + q, "relu"),
)
print(repr(graph))
print(graph, end="\n\n")

# As a graph.  At a point every edge has its weight and every unit its slope, 0 or 1.  How y moves
# with p2 is the sum over the paths from p2 to y: what goes through q2, and the skip.

point = np.array([3.0, 1.0])
at = graph.linearize(point)
for path in at.paths("p2", "y"):
    print(f"{' -> '.join(path.vertices):15}{path.derivative:+.0f}")
assert at.path_sum("p2", "y") == 4 - 2 * 1
print(f"x1 to y: {at.path_count('x1', 'y')} paths, with sum {at.path_sum('x1', 'y'):.0f}\n")

# As blocks.  Sorted by level, A has W2 and W3 below its diagonal, and S one step further down.  The
# total derivative (I - D A)^{-1} has what one expects of a chain of layers below its diagonal, and
# where y meets p it has the product along the chain plus the skip.

order = [graph.index(name) for name in p + q + y]
T = at.total_derivative()[np.ix_(order, order)]
D1, D2, D3 = (np.diag(at.slopes[[graph.index(name) for name in layer]]) for layer in (p, q, y))
print("(I - D A)^{-1} =\n", T.astype(int), "\n")
assert np.array_equal(T[3:5, :3], D2 @ W2)
assert np.array_equal(T[5:, 3:5], D3 @ W3)
assert np.array_equal(T[5:, :3], D3 @ (W3 @ D2 @ W2 + S))

# The three terms of its Neumann series are the paths of 0, 1 and 2 edges.  The skip shortens paths:
# it stands in the term of one edge, the way through q in that of two.

skip, chain = (term.toarray()[np.ix_(order, order)][5:, :3] for term in [*at.neumann_terms()][1:])
print("from p to y by one edge ", skip.astype(int), " and by two ", chain.astype(int))
assert np.array_equal(skip, S)
assert np.array_equal(chain, W3 @ D2 @ W2)

# As a chain.  Three more units in the second layer carry p along unchanged (a relu leaves alone
# what a relu let through), and the output reads them with the weights S.  This is an ordinary
# network with an ordinary chain of matrices, and the graph's input Jacobian is its product.

carried = jb.Network(
    [
        jb.Dense(W1, [0, 0, 0], "relu"),
        jb.Dense(np.vstack([W2, np.eye(3)]), [0, 5, 0, 0, 0], "relu"),
        jb.Dense(np.hstack([W3, S]), [0]),
    ]
)
J = jb.jacobian(carried, point)
print(f"\n{carried}: dy/dx = {J}")
assert np.array_equal(J, at.input_jacobian()[[graph.index("y")]])

# The chain pays for the skip with weights that only carry; the graph has edges where something
# happens, and its backpropagation visits each once.  Both find the same gradient of the skip.

target = np.array([0.0])
g = at.gradients(target, jb.SquaredError(), outputs=["y"])
of_chain = jb.backprop.gradients(carried, point, target, jb.SquaredError())
rows = graph.index("y"), [graph.index(name) for name in p]
print(f"weights of the chain: {sum(W.size for W in of_chain.weights)}")
print(f"edges of the graph: {g.edges.nnz + g.input_edges.nnz}")
print("gradient of the skip:", g.edges.toarray()[rows])
assert np.array_equal(g.edges.toarray()[rows][1:], of_chain.weights[2][0, 3:])
assert np.array_equal(g.inputs, of_chain.inputs)

# The library puts a graph together by itself: the units of one level that share an activation are a
# dense layer.  So all that takes a network takes the graph.

net = graph.to_network()
print(f"\nas a network of blocks: {net}")
assert np.array_equal(jb.jacobian(net, point), at.input_jacobian())
assert jb.certify(net, point).holds
