"""How does "594 HW3" expand an error into paths, and what must be repaired?

The second document (001) writes activations as rows, ``z = a w + b`` with weights from source to
target, averages over a data set, and expands the error of a unit down to a sum over paths.  Its
general formula has the wrong weight layer and an index that nothing binds; repaired, it is exact.
"""

from itertools import product

import numpy as np

import jacobians as jb
from jacobians import conventions

# A network in the document's form: w^l has a row per source and a column per target.

w = [[[2, 0], [5, 1]], [[1, 2], [3, 4]], [[1, 1], [0, 1]]]
net = conventions.from_row_form(w, [[[0, 0]]] * 3, "identity")
row_form = conventions.to_row_form(net)
x, y = np.array([[1.0, 1.0]]), np.array([[9.0, 18.0]])
for l, a in enumerate(row_form.forward(x)[1]):
    print(f"a^{l} = {a}")

# The recursion: Delta^L = (a - y) f'(z), Delta^l = Delta^{l+1} (w^{l+1})^T f'(z^l).

errors = row_form.errors(x, y)
for l, error in enumerate(errors, start=1):
    print(f"Delta^{l} = {error}")
assert [e.tolist() for e in errors] == [[[31, 73]], [[11, 10]], [[1, 10]]]

# The expansion: dz^L_k/dz^l_j is a sum over all paths from unit j of layer l to unit k of layer L.
# The m-th bracket of the document must be w^{L-m+1} times f'(z^{L-m}); written with superscript l
# at its end it uses the weights of layer l itself.

paths = row_form.path_sum(x, 1)
print(f"\ndz^3/dz^1 as a sum over paths =\n{paths}")
by_matrices = (np.array(w[1]) @ np.array(w[2])).T
assert np.array_equal(paths, by_matrices)
assert np.array_equal(errors[2] @ paths, errors[0])

as_written = np.zeros((2, 2))
for k, j, i in product(range(2), repeat=3):  # the last weight taken from layer l = 1
    as_written[k, j] += w[2][i][k] * w[0][j][i]
print(f"with the weight layer as written =\n{as_written}")
assert not np.array_equal(as_written, by_matrices)

# The gradients of the mean over a data set: 1/N times the sum of a^T Delta, with the errors of the
# single samples.  It is not the product of the mean activation and the mean error.

X, Y = np.array([[1.0, 1.0], [2.0, -1.0]]), np.array([[9.0, 18.0], [0.0, 1.0]])
gradients, _ = row_form.gradients(X, Y)
g = jb.backprop.gradients(net, X, Y, jb.SquaredError())
print(f"\ndC/dw^1 over two samples =\n{gradients[0]}")
assert np.array_equal(gradients[0], g.weights[0].T)
mean_product = np.outer(X.mean(axis=0), row_form.errors(X, Y)[0].mean(axis=0))
assert not np.array_equal(mean_product, gradients[0])

# With identity activations the network is one matrix, and every error a single product.

collapsed = np.array(w[0]) @ np.array(w[1]) @ np.array(w[2])
print(f"\nw^1 w^2 w^3 =\n{collapsed}")
assert np.array_equal(row_form(X), X @ collapsed)
assert np.array_equal(jb.jacobian(net, X[0]), collapsed.T)
