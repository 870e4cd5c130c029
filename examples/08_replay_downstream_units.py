"""Why does the gradient of a weight depend only on the units downstream of it?

The third document (002) works unit by unit: ``n_j = sum_i w_ji x_ji``, any activation h, binary
cross-entropy at the output, and a recursion over ``Downstream(j)``.  It ends with a ratio of
gradients and weights that divides by an activation, and breaks where that is 0.
"""

import numpy as np

import jacobians as jb

# Two inputs, two hidden units, one output; the first input also feeds the output directly.

edges = [
    ("x1", "h1", 0.5), ("x2", "h1", -1.0), ("x2", "h2", 2.0),
    ("h1", "y", 3.0), ("h2", "y", -2.0), ("x1", "y", 0.25),
]  # fmt: skip
graph = jb.UnitGraph.from_edges(
    edges, inputs=["x1", "x2"], activations={"h1": "tanh", "h2": "softplus", "y": "sigmoid"}
)
print(graph)
x, label = np.array([2.0, 0.5]), 1.0
at = graph.linearize(x)
for name, value in zip(graph.unit_names, at.values, strict=True):
    print(f"h({name}) = {value:.4f}")

# At the output, cross-entropy and sigmoid give delta = h - y; below, each unit adds up what comes
# back from its successors: delta_j = h'(n_j) * sum over k in Downstream(j) of w_kj delta_k.

g = at.gradients([label], jb.BinaryCrossEntropy(), outputs=["y"])
place = {name: k for k, name in enumerate(graph.unit_names)}
delta_y = at.values[place["y"]] - label
weights = {edge[:2]: edge[2] for edge in edges}
for unit in ("h1", "h2"):
    j = place[unit]
    by_hand = at.slopes[j] * weights[unit, "y"] * delta_y
    print(f"delta({unit}) = {g.deltas[j]:+.6f}, by hand {by_hand:+.6f}")
    assert abs(g.deltas[j] - by_hand) <= 4 * np.finfo(float).eps * abs(by_hand)  # few roundings

# The weight gradient is delta_j times what came in on that edge.

dense = g.input_edges.toarray()
print(f"dL/dw(x2 -> h2) = {dense[place['h2'], 1]:+.6f}")
assert dense[place["h2"], 1] == g.deltas[place["h2"]] * x[1]

# The document's last form expresses the gradient of an edge by the gradients of the edges after it,
# dL/dw_kj times w_kj / x_kj, and agrees, as long as x_kj is not 0.

ratio = g.ratio_form("x2", "h2")
assert abs(ratio - dense[place["h2"], 1]) <= 8 * np.finfo(float).eps * abs(ratio)

# With x = (1, 1/2) the tanh unit has n = 0, sends 0, and the ratio is 0/0; the gradient is not 0.
# The identity that needs no division: sum_k w_kj dL/dw_kj = h_j dL/dh_j.

at_zero = graph.linearize([1.0, 0.5])
g0 = at_zero.gradients([label], jb.BinaryCrossEntropy(), outputs=["y"])
h1 = place["h1"]
print(f"\nat x = (1, 1/2): h(h1) = {at_zero.values[h1]}, delta(h1) = {g0.deltas[h1]:+.4f}")
assert at_zero.values[h1] == 0
assert g0.deltas[h1] != 0
try:
    g0.ratio_form("x1", "h1")
except jb.DomainError as refusal:
    print(f"refused: {refusal}")
else:
    raise SystemExit("the ratio form must refuse to divide by 0")
assert g0.outgoing()[h1] == 0.0

# A gradient is not an update: a step goes against it, and then the loss falls.

after = graph.step(g, rate=0.1).linearize(x)
loss = after.gradients([label], jb.BinaryCrossEntropy(), outputs=["y"]).loss
print(f"\nloss {g.loss:.4f} -> {loss:.4f} after one step of size 0.1")
assert loss < g.loss
