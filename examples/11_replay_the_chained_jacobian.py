"""How does the Jacobian of a network grow, layer by layer?

The fifth document (004) defines delta twice, for the cost and for the output, and ends with the
input Jacobian as a chain, ``dH/dx = (D^L W^L) ... (D^1 W^1)``.  Both are replayed on a small
network, every matrix printed, in its numbering (the input is layer 1) and in ours (layer 0).
"""

import numpy as np

import jacobians as jb
from jacobians import conventions

net = jb.Network(
    [
        jb.Dense([[1, -1], [2, 0], [1, 1]], [0, 1, -1], "square"),
        jb.Dense([[1, 0, 2], [0, -1, 1]], [1, 0], "relu"),
        jb.Dense([[3, -2]]),
    ]
)
x, y = np.array([2.0, 1.0]), np.array([10.0])
trace = jb.trace(net, x)

# Where a^[1] = x, layers are numbered from 2 and the widths are n_1, n_2, ...: a view of the trace,
# not an off-by-one to be remembered.

view = conventions.LayerOne(trace)
print(f"widths from layer 0: {net.widths}")
print(f"widths from layer 1: {view.n}")
assert np.array_equal(view.z(2), trace.preactivation(1))

# Layer by layer: da^l/dx = D^l W^l (da^{l-1}/dx).

J = np.eye(2)
for l in (1, 2, 3):
    D, W = jb.explicit.activation_jacobian(trace, l), net.layers[l - 1].W
    J = D @ W @ J
    print(f"\nD^{l} =\n{D}\nW^{l} =\n{W}\nda^{l}/dx =\n{J}")
    assert np.array_equal(J, jb.jacobian(net, x, of=l))

# As one product it is the same matrix, and the order of the factors matters: outputs on the left.

assert np.array_equal(J, jb.explicit.input_jacobian(trace))

# H has one output, so its gradient is a column, the transpose of the Jacobian.  By deltas of the
# output (seeded with 1) it is W^1^T delta^1.

gradient = J.T
deltas = jb.backprop.deltas(trace, [1.0])
print(f"\ngrad H =\n{gradient}")
assert np.array_equal(gradient[:, 0], net.layers[0].W.T @ deltas[0])

# The deltas of the cost C = |y - H|^2 / 2 start from (a - y): plus, although the cost has y first.

g = jb.backprop.gradients(net, x, y, jb.SquaredError())
residual = trace.output - y
print(f"\na - y = {residual}, delta^3 = {g.deltas[2]}")
assert np.array_equal(g.deltas[2], residual)
for l in (2, 1):
    slope = net.layers[l - 1].activation.derivative(trace.preactivation(l))
    by_hand = (net.layers[l].W.T @ g.deltas[l]) * slope
    print(f"delta^{l} = (W^{l + 1}^T delta^{l + 1}) o sigma'(z^{l}) = {by_hand}")
    assert np.array_equal(by_hand, g.deltas[l - 1])

# The two deltas differ by the factor a - y, and the input gradient of the cost is the chain.

assert np.array_equal(g.inputs, residual @ J)
for l in (1, 2, 3):
    assert np.array_equal(g.deltas[l - 1], residual[0] * deltas[l - 1])
    a = trace.activation(l - 1)
    assert np.array_equal(g.weights[l - 1], np.outer(g.deltas[l - 1], a))
print("\nevery gradient is delta times the activation below, exactly")
