"""How many evaluations does it take to fit ten points in the plane with 23 parameters?

The example of C. F. Higham and D. J. Higham, "Deep Learning: An Introduction for Applied
Mathematicians", SIAM Review 61 (2019): two classes of five points, a 2-2-3-2 sigmoid network, half
squared error, stochastic gradient steps of 0.05.  The same problem is then solved as least squares
with the exact Jacobian with respect to the parameters, and with finite differences.
"""

import sys

import numpy as np
from scipy.optimize import least_squares

import jacobians as jb

x1 = [0.1, 0.3, 0.1, 0.6, 0.4, 0.6, 0.5, 0.9, 0.4, 0.7]
x2 = [0.1, 0.4, 0.5, 0.9, 0.2, 0.3, 0.6, 0.2, 0.4, 0.6]
X = np.column_stack([x1, x2])
Y = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 5)
loss = jb.SquaredError()

rng = np.random.default_rng(5)
start = jb.Network(
    [
        jb.Dense(0.5 * rng.standard_normal((m, n)), 0.5 * rng.standard_normal(m), "sigmoid")
        for n, m in ((2, 2), (2, 3), (3, 2))
    ]
)
print(start)
assert start.parameter_count == 23


def cost(net):
    return jb.backprop.gradients(net, X, Y, loss).loss


# Stochastic gradient, as the paper programs it: one point at a time, drawn at random, and the four
# equations of its lemma; sigma' = a (1 - a) for the sigmoid.


def point_gradients(W, b, x, y):
    a = [x]
    for l in range(3):
        a.append(1 / (1 + np.exp(-(W[l] @ a[l] + b[l]))))
    delta = [None, None, (a[3] - y) * a[3] * (1 - a[3])]
    for l in (1, 0):
        delta[l] = (W[l + 1].T @ delta[l + 1]) * a[l + 1] * (1 - a[l + 1])
    return [np.outer(delta[l], a[l]) for l in range(3)], delta


W, b = [layer.W.copy() for layer in start.layers], [layer.b.copy() for layer in start.layers]
g = jb.backprop.gradients(start, X[0], Y[0], loss)
dW, db = point_gradients(W, b, X[0], Y[0])
for mine, theirs in zip([*dW, *db], [*g.weights, *g.biases], strict=True):
    assert np.abs(mine - theirs).max() < 1e-15  # a few roundings of numbers below 1

# The paper takes a million steps of 0.05.  Give a number on the command line to take as many: after
# 1,000,000 the cost is 0.00003.

steps, reached = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, {}
print(f"cost at the start: {cost(start):.4f}")
for step in range(1, steps + 1):
    k = rng.integers(10)
    dW, db = point_gradients(W, b, X[k], Y[k])
    for l in range(3):
        W[l] -= 0.05 * dW[l]
        b[l] -= 0.05 * db[l]
    if step in (1000, 10_000, 100_000, 1_000_000) or step == steps:
        net = jb.Network([jb.Dense(W[l], b[l], "sigmoid") for l in range(3)])
        reached[step] = cost(net)
        print(f"after {step:>7,} stochastic gradient steps: {reached[step]:.5f}")
assert reached[steps] < cost(start) / (50 if steps >= 100_000 else 1)

# As least squares: 20 residuals, 23 unknowns.  The Jacobian of the residuals is dH/dtheta at every
# point, a row of Kronecker products and chains; its columns are in the order of net.parameters.

counts = {"values": 0, "Jacobians": 0}


def residuals(theta):
    counts["values"] += 1
    return (start.with_parameters(theta)(X) - Y).ravel()


def jacobian(theta):
    counts["Jacobians"] += 1
    J = jb.linearize(start.with_parameters(theta), X).parameter_jacobian()
    return J.to_dense().reshape(20, 23)


fits = {}
for name, jac in (("exact Jacobian", jacobian), ("finite differences", "2-point")):
    counts.update(values=0, Jacobians=0)
    found = least_squares(residuals, start.parameters, jac=jac, max_nfev=200)
    fits[name] = start.with_parameters(found.x)
    used = f"{counts['values']} values, {counts['Jacobians']} Jacobians"
    print(f"least squares, {name}: cost {cost(fits[name]):.1e}, {used}")
    if jac is jacobian:
        exact_values = counts["values"]
assert cost(fits["exact Jacobian"]) < 1e-6 < reached[steps]
assert counts["values"] > 10 * exact_values

# The decision regions: where the first output is larger, the network says A.

fitted = fits["exact Jacobian"]
grid = np.linspace(0, 1, 41)
plane = np.stack(np.meshgrid(grid, grid[::-2]), axis=-1)
p = fitted(plane.reshape(-1, 2)).reshape(*plane.shape[:2], 2)
picture = np.where(p[..., 0] > p[..., 1], "░", " ")
for (u, v), label in zip(X, "AAAAABBBBB", strict=True):
    picture[round(20 * (1 - v)), round(40 * u)] = label
print("\n" + "\n".join("".join(row) for row in picture))
assert (fitted(X).argmax(axis=1) == Y.argmax(axis=1)).all()
