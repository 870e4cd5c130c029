"""Can the weight gradient be had without ever differentiating by a matrix?

The fourth document (003, "ECE 542 HW2a") takes the road through vec: stack the weight matrix into a
vector, differentiate by the vector with a Kronecker product, and cut the result into columns again.
Two things must be said that it leaves open: vec stacks columns, and the last transpose belongs
outside.
"""

import numpy as np

import jacobians as jb
from jacobians import conventions

W, h = np.array([[1, 1, 0], [0, 1, 2]]), np.array([[1], [2], [-1]])
D_a = np.array([[2, 8]])  # the derivative of the loss with respect to a = W h + b, a row
print(f"W =\n{W}\nvec(W) = {jb.vec(W)}")

# W h = (h^T (x) I) vec(W), with columns stacked.

K = np.kron(h.T, np.eye(2, dtype=int))
print(f"\nh^T (x) I =\n{K}")
assert np.array_equal(K @ jb.vec(W), (W @ h)[:, 0])

# With rows stacked, the same matrix gives something else; the commutation matrix translates.

by_rows = W.reshape(-1)
print(f"rows stacked instead: {K @ by_rows}, but W h = {(W @ h)[:, 0]}")
assert not np.array_equal(K @ by_rows, (W @ h)[:, 0])
assert np.array_equal(jb.Commutation(2, 3) @ jb.vec(W), by_rows)

# So da/dvec(W) = h^T (x) I, and the gradient by the vector is a row times that matrix.

grad_w = D_a @ K
print(f"\ngrad_w L = D_a L (h^T (x) I) = {grad_w}")

# vec^-1 of that row is the gradient in the shape of W.  The document asks for the transposed
# layout, so one more transpose comes last, outside.

in_shape_of_W = jb.unvec(grad_w[0], (2, 3))
D_W = in_shape_of_W.T
print(f"\nvec^-1 =\n{in_shape_of_W}\nand transposed, D_W L =\n{D_W}")
assert np.array_equal(in_shape_of_W, D_a.T @ h.T)
assert np.array_equal(D_W, h @ D_a)
assert np.array_equal(D_W, conventions.weight_row_by_kronecker(h, D_a))

# The identity behind it, with A = I, B = D_a^T and C = h^T: vec(A B C) = (C^T (x) A) vec(B).

A, B, C = np.eye(2, dtype=int), D_a.T, h.T
assert np.array_equal(jb.vec(A @ B @ C), np.kron(C.T, A) @ jb.vec(B))

# As a map the Kronecker product is never written out.  At width 4096 its dense form would take
# 512 GiB, and is refused with its size.

large = jb.Kronecker(np.ones((1, 4096)), jb.Identity(4096))
try:
    large.to_dense()
except jb.TooLargeError as refusal:
    print(f"\n{refusal}")
else:
    raise SystemExit("the dense form must be refused")
