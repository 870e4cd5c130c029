"""Is a convolution a dense layer?

It is one with a matrix of shared entries on the image, and one with a matrix of patches on the
kernel.  Both are written out here for a 3x3 kernel on a small image, with whole numbers, so that
every identity holds to the last bit.
"""

import numpy as np

import jacobians as jb

rng = np.random.default_rng(0)
c_in, c_out, height, width = 2, 3, 4, 5
K = rng.integers(-3, 4, (c_out, c_in, 3, 3))
b = rng.integers(-3, 4, c_out)
net = jb.Network([jb.Convolution(K, b, padding=1)], inputs=(c_in, height, width))
x = rng.integers(-3, 4, net.widths[0]).astype(float)
positions = height * width
print(net)

# On the image:  z = A x + b  with a matrix of bands, most of it zeros.  The library keeps
# the kernel alone; here the matrix is written out all the same, by loops and
# from the map.

lin = jb.linearize(net, x)
A = lin.input_maps(1)[0]
written = jb.explicit.layer_jacobian(lin.trace, 1)
assert np.array_equal(A.to_dense(), written)
assert np.array_equal(written @ x + np.repeat(b, positions), net(x))
filled = np.count_nonzero(written) / written.size
print(f"dz/dx: {A}, {K.size} numbers for {written.size} entries, {filled:.0%} of them not 0")

# Its transpose spreads every entry over the image again: the transposed convolution.

back = jb.Network([jb.TransposedConvolution(K, padding=1)], inputs=net.shapes[1])
assert np.array_equal(jb.jacobian(back, net(x)), written.T)

# On the kernel:  Z = K P  with one column of P for every position, the patch that the kernel sees
# there.  A dense layer has one column, a, and the derivative aᵀ ⊗ I; more columns give Pᵀ ⊗ I.

image = np.pad(x.reshape(c_in, height, width), ((0, 0), (1, 1), (1, 1)))
P = np.stack(
    [image[:, i : i + 3, j : j + 3].ravel() for i in range(height) for j in range(width)], axis=1
)
Z = K.reshape(c_out, -1) @ P
assert np.array_equal(Z, (net(x) - np.repeat(b, positions)).reshape(c_out, positions))
dZ_dK = np.kron(P.T, np.eye(c_out))
print(f"dvec(Z)/dvec(K) = Pᵀ ⊗ I: {dZ_dK.shape[0]} x {dZ_dK.shape[1]}")

# The value holds Z row by row, which is vec(Zᵀ); a commutation matrix stands between the two.

J = lin.weight_jacobian(1)
assert np.array_equal(J.to_dense(), (jb.Commutation(c_out, positions) @ dZ_dK))
print(f"dz/dvec(K): {J}")

# So the gradient of a loss is that of a dense layer too: δ Pᵀ, summed over positions.

g = jb.backprop.gradients(net, x, np.zeros(net.widths[1]), jb.SquaredError())
delta = g.deltas[0].reshape(c_out, positions)
assert np.array_equal(g.parameters[0]["K"].reshape(c_out, -1), delta @ P.T)
assert np.array_equal(g.biases[0], delta.sum(axis=1))
print("dC/dK = δ Pᵀ, exactly")
