"""What are the matrices of a small network, and what is their product?

A 2-3-2 network with whole-number weights is linearised at one point.  Every factor of
``dH/dx = D^2 W^2 D^1 W^1`` is printed and multiplied out, and the product is compared with what the
elementwise sweep of backpropagation gives.
"""

import numpy as np

import jacobians as jb

# The hidden layer squares its preactivations, so its slopes 2 z are easy to follow by hand; the
# output layer is linear.

W1 = [[1, 2], [0, 1], [3, -1]]
W2 = [[1, -1, 2], [2, 0, 1]]
net = jb.Network([jb.Dense(W1, [0, 1, 0], "square"), jb.Dense(W2)])
x = np.array([1.0, 2.0])
print(net)

# A trace keeps what is seen on the way: z = W a + b, then a = sigma(z).

trace = jb.trace(net, x)
for l in (1, 2):
    print(f"z{l} = {trace.preactivation(l)}, a{l} = {trace.activation(l)}")

# Each layer contributes two matrices: the slopes on a diagonal, and its weights.

D1 = jb.explicit.activation_jacobian(trace, 1)
D2 = jb.explicit.activation_jacobian(trace, 2)
for name, matrix in (("D2", D2), ("W2", W2), ("D1", D1), ("W1", W1)):
    print(f"\n{name} =\n{np.asarray(matrix, dtype=float)}")

# Multiplied out from either side, the product is the Jacobian.

from_the_left = ((D2 @ W2) @ D1) @ W1
from_the_right = D2 @ (W2 @ (D1 @ W1))
print(f"\ndH/dx = D2 W2 D1 W1 =\n{from_the_right}")

# Four computations of it: the formula, the chain of structured maps, the batched engine, and one
# backward sweep per output.  On whole numbers there is no rounding, so all of them are equal.

lin = jb.linearize(net, x)
computations = {
    "explicit": jb.explicit.input_jacobian(trace),
    "maps": lin.jacobian(),
    "engine": jb.jacobian(net, x),
    "backprop": jb.backprop.jacobian(trace),
}
assert np.array_equal(from_the_left, from_the_right)
for J in computations.values():
    assert np.array_equal(J, from_the_right)
print(f"\nequal to the last bit: {', '.join(computations)}")

# The derivative with respect to a weight matrix is a Kronecker product: dz/dvec(W) = aT (x) I.
# Written out it is mostly zeros; as a map it is the vector a and the word identity.

print(f"\ndz1/dvec(W1) =\n{jb.explicit.preactivation_weight_jacobian(trace, 1)}")
print(f"dH/dvec(W1) as a map: {lin.weight_jacobian(1)}")
assert np.array_equal(lin.weight_jacobian(1).to_dense(), jb.explicit.weight_jacobian(trace, 1))
