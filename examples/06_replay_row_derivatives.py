"""What does "Neural Networks - HW03" derive, and does every line of it hold?

The first document (000) differentiates the cost of one layer, ``C = L_y(yhat) + lambda Omega``, in
rows: every derivative of a scalar is ``1 x n``.  Its four identities are replayed here on a small
network with whole numbers, every matrix printed, and its one wrong turn is shown to be wrong.
"""

import numpy as np

import jacobians as jb
from jacobians import conventions

# The system: a = b + W h, h = g(a), with g the square, and half the squared error as the loss.

W, b = np.array([[1.0, 1.0], [0.0, 1.0], [2.0, -1.0]]), np.array([-2.0, 0.0, 1.0])
h_before, y = np.array([1.0, 2.0]), np.array([0.0, 2.0, 0.0])
net = jb.Network([jb.Dense(W, b, "square")])
trace = jb.trace(net, h_before)
rows = conventions.row_derivatives(net, h_before, y, jb.SquaredError())
print(f"a = {trace.preactivation(1)}, h = g(a) = {trace.output}")

# 1. The derivative with respect to the last output is that of the loss: yhat - y, as a row.

D_h = rows.outputs[-1]
print(f"\nD_h C = D_yhat L = {D_h}")
assert np.array_equal(D_h, [trace.output - y])

# 2. Through the activation: entry by entry with the slopes laid out as a row, or as a matrix
# product with their diagonal.  A column of slopes would have been broadcast to a matrix by NumPy;
# the library's product of two rows refuses it.

slopes = net.layers[0].activation.derivative(trace.preactivation(1))
D_a = conventions.hadamard(D_h, conventions.as_row(slopes))
print(f"\ng'(a) = {slopes}\nD_a C = D_h C * g'(a)^T = {D_a}")
assert np.array_equal(D_a, D_h @ jb.explicit.activation_jacobian(trace, 1))
try:
    conventions.hadamard(D_h, slopes[:, None])
except jb.ShapeError as refusal:
    print(f"refused: {refusal}")
else:
    raise SystemExit("a row times a column must not be broadcast")

# 3. The weight derivative is an outer product, column times row, stored transposed: its entry
# (i, j) is dC/dW_ji.  In this order and no other: the document's last line has the row in front,
# which for a square layer is a number and here does not even exist.

D_W = h_before[:, None] @ D_a
print(f"\nD_W C = h D_a C =\n{D_W}")
assert np.array_equal(D_W, rows.weights[0])
g = jb.backprop.gradients(net, h_before, y, jb.SquaredError())
assert np.array_equal(D_W, g.weights[0].T)
try:
    D_a @ h_before[:, None]
except ValueError as refusal:
    print(f"the reversed product (1x3)(2x1) fails: {refusal}")
else:
    raise SystemExit("the reversed product must fail")

# With the penalty lambda * sum(W^2) / 2, and only there, lambda W^T is added.

penalised = conventions.row_derivatives(net, h_before, y, jb.SquaredError(), l2=3.0)
assert np.array_equal(penalised.weights[0], D_W + 3.0 * W.T)

# 4. To the layer below: row times W.

D_before = D_a @ W
print(f"\nD_h- C = D_a C W = {D_before}")
assert np.array_equal(D_before, rows.outputs[0])
assert np.array_equal(D_before[0], g.inputs)
