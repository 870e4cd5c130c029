"""What does the curvature of a loss say about what a network does not know?

The Hessian and the Gauss-Newton matrix in the parameters are maps: SciPy multiplies with them and
never sees their entries.  They say how steep the loss is in its steepest directions, and at the
optimum how uncertain the parameters still are.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.linalg import eigsh

import jacobians as jb

# A curve with noise of 0.1, seen on both sides of a gap.

rng = np.random.default_rng(0)
X = np.sort(np.r_[rng.uniform(-2, -0.6, 40), rng.uniform(0.6, 2, 40)])[:, None]
Y = np.sin(2 * X) + 0.1 * rng.standard_normal(X.shape)
start, loss, noise, tau = jb.Network.random([1, 12, 1], "tanh", seed=1), jb.SquaredError(), 0.1, 1.0

# The objective is the mean loss with a small penalty, the one that a normal prior of precision tau
# means: tau noise² / B.

penalty = tau * noise**2 / len(X)


def objective(theta):
    g = jb.backprop.gradients(start.with_parameters(theta), X, Y, loss)
    return g.loss + penalty * theta @ theta / 2, g.vector + penalty * theta


def hessian_times(theta, v):
    return jb.curvature(start.with_parameters(theta), X, Y, loss).hessian @ v + penalty * v


# Newton's method in a trust region, which asks for products alone; example 23 compares it with
# others.

options = {"maxiter": 3000, "disp": False}
way = {"method": "trust-ncg", "hessp": hessian_times, "tol": 1e-5, "options": options}
run = minimize(objective, start.parameters, jac=True, **way)
print(f"{run.nit} steps to {run.fun:.6f}")

# The largest eigenvalues at the optimum: a few steep directions, many flat ones.  The Hessian and
# Gauss-Newton nearly agree, because little of the residual is left.

net = start.with_parameters(run.x)
c = jb.curvature(net, X, Y, loss)
steepest = [eigsh(A.to_scipy(), 5, return_eigenvectors=False) for A in (c.hessian, c.gauss_newton)]
print("largest eigenvalues:", " ".join(f"{e:.3g}" for e in steepest[0][::-1]))
print("of Gauss-Newton:    ", " ".join(f"{e:.3g}" for e in steepest[1][::-1]))
assert np.allclose(*steepest, rtol=0.1)
assert steepest[0][0] < steepest[0][-1] / 5

# What is flat is not known.  The posterior of the parameters turns the curvature into error bars:
# wide in the gap and beyond the data, narrow where there were points.

posterior = jb.laplace(net, X, Y, loss, prior_precision=tau, noise=noise)
places = np.array([[-1.5], [0.0], [1.5], [3.0]])
bars = jb.error_bars(net, places, parameters=posterior)
for x, y, std in zip(places[:, 0], bars.value[:, 0], bars.std[:, 0], strict=True):
    print(f"at {x:4.1f}: {y:5.2f} +- {std:.2f}, the truth is {np.sin(2 * x):5.2f}")
assert min(bars.std[[1, 3]]) > 3 * max(bars.std[[0, 2]])

# A Kronecker product for every layer costs far less, and tells the same story.

cheap = jb.laplace(net, X, Y, loss, "kronecker", prior_precision=tau, noise=noise)
assert cheap.variance(places)[1] > cheap.variance(places)[2]

# How strong should the prior be?  Where the evidence for it is largest, its derivative is 0.

evidence = [posterior.with_prior(t).prior_gradient() for t in (1e-3, 1e2)]
print(f"derivative of the log evidence by log tau: {evidence[0]:.1f} at 0.001, {evidence[1]:.1f}")
assert evidence[0] > 0 > evidence[1]
