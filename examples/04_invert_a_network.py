"""Which input made the network say this?  An inverse problem with exact derivatives.

A network is a forward model; given its output, find the input by nonlinear least squares.  With the
exact Jacobian ``scipy.optimize.least_squares`` evaluates the network once per step; with finite
differences it needs one more evaluation for every unknown.  Where the data are noisy, the exact
Hessian makes the last steps quick, and says how well the unknowns are determined.
"""

import numpy as np
from scipy.optimize import least_squares, minimize

import jacobians as jb

# A forward model from 12 unknowns to 30 observations, and a true input to recover.

net = jb.Network.random([12, 40, 30], activation="tanh", seed=3)
rng = np.random.default_rng(3)
truth = 0.5 * rng.standard_normal(12)
observed = net(truth)
print(net)

# Count every evaluation of the network at a point.  The Jacobian comes together with the value, by
# matrix products, and is counted apart.

counts = {"values": 0, "jacobians": 0}


def residual(x):
    counts["values"] += 1
    return net(x) - observed


def exact(x):
    counts["jacobians"] += 1
    return jb.jacobian(net, x)


def solve(jac):
    counts.update(values=0, jacobians=0)
    found = least_squares(residual, np.zeros(12), jac=jac, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return found, dict(counts)


with_jacobian, exact_counts = solve(exact)
with_differences, difference_counts = solve("2-point")

for name, found, used in (
    ("exact Jacobian", with_jacobian, exact_counts),
    ("finite differences", with_differences, difference_counts),
):
    error = np.abs(found.x - truth).max()
    print(f"{name:>18}: {used['values']} values, {used['jacobians']} Jacobians, error {error:.0e}")

# The exact Jacobian recovers the input to rounding and needs a fraction of the evaluations.

assert np.abs(with_jacobian.x - truth).max() < 1e-12
assert exact_counts["values"] * 5 < difference_counts["values"]

# What does the data determine?  The singular values of the Jacobian at the solution: each unknown
# direction is seen with that gain, and noise in the observations is divided by it.

gains = np.linalg.svd(jb.jacobian(net, truth), compute_uv=False)
print(f"gains of the 12 directions: {gains[0]:.2f} ... {gains[-1]:.3f}")
print(f"noise of 1% in the observations costs up to {0.01 / gains[-1]:.2f} in the worst direction")
assert gains[-1] > 0

# With noise in the data no input explains them exactly, and a residual r is left.  Least squares
# leaves out what r makes of the second derivatives, and creeps to the end; Newton's method has it
# all:  the Hessian of |r|²/2 is JᵀJ + sum of r_i d²H_i/dx dx, a product with two sweeps.

noise = 0.3
noisy = observed + noise * rng.standard_normal(30)


def objective(x):
    r = net(x) - noisy
    return r @ r / 2, jb.vjp(net, x, r)


def hessian_times(x, v):
    return jb.vjp(net, x, jb.jvp(net, x, v)) + jb.hvp(net, x, v, net(x) - noisy)


tight = {"jac": lambda x: jb.jacobian(net, x), "gtol": 1e-8, "xtol": 1e-15, "ftol": 1e-15}
gauss_newton = least_squares(lambda x: net(x) - noisy, np.zeros(12), **tight)
way = {"jac": True, "hessp": hessian_times, "method": "trust-ncg", "tol": 1e-8}
newton = minimize(objective, np.zeros(12), **way)
print(f"noisy data: least squares {gauss_newton.nfev} steps, Newton {newton.nit}")
assert np.abs(newton.x - gauss_newton.x).max() < 1e-5
assert 2 * newton.nit < gauss_newton.nfev

# The Hessian at the solution is positive definite, so that this is a minimum, and noise² times its
# inverse is the covariance of the unknowns.

H = np.stack([hessian_times(newton.x, e) for e in np.eye(12)])
std = noise * np.sqrt(np.diag(np.linalg.inv(H)))
off = np.abs(newton.x - truth) / std
print(f"error bars from {std.min():.2f} to {std.max():.2f}; the truth is within {off.max():.1f}")
assert np.linalg.eigvalsh(H).min() > 0
assert off.max() < 4
