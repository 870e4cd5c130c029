"""Does curvature make training take fewer steps?  Newton and Gauss-Newton against gradients.

A gradient says which way is down, the Hessian how far to go.  SciPy's Newton methods ask for
products of the Hessian with vectors alone (``hessp``), so that no matrix of all parameters is ever
made.  The two networks that come with the library begin again from random parameters and are
trained on the points that come with them.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import minimize

import jacobians as jb
from jacobians.data import bundle

# The Hessian of the objective may be indefinite on the way, which a trust region (trust-ncg) can
# use.  Gauss-Newton never is, so that Newton-CG runs to the end of its inner steps.

WAYS = {
    "gradients alone (CG)": ("CG", None, 100),
    "gradients alone (L-BFGS)": ("L-BFGS-B", None, 100),
    "Newton (trust-ncg)": ("trust-ncg", "hessian", 30),
    "Gauss-Newton (Newton-CG)": ("Newton-CG", "gauss_newton", 30),
}


def train(start, X, Y, loss, penalty, way):
    """Return the objective after every step."""
    method, matrix, most = way

    def objective(theta):
        g = jb.backprop.gradients(start.with_parameters(theta), X, Y, loss)
        return g.loss + penalty * theta @ theta / 2, g.vector + penalty * theta

    @lru_cache(1)  # many products are asked for at the same parameters
    def curvature(numbers):
        net = start.with_parameters(np.frombuffer(numbers))
        return getattr(jb.curvature(net, X, Y, loss), matrix)

    def times(theta, v):
        return curvature(theta.tobytes()) @ v + penalty * v

    values = []
    minimize(
        objective,
        start.parameters,
        jac=True,
        hessp=times if matrix else None,
        method=method,
        tol=1e-6,
        options={"maxiter": most},
        callback=lambda theta: values.append(objective(theta)[0]),
    )
    return np.array(values)


# How many steps until the objective is close to the lowest that any of the four has seen?  Steps
# are not time: one of Newton has some ten products inside, each as dear as a gradient.


def steps_of(name, widths, loss, penalty, within):
    bundled = bundle(name)
    start = bundled.network.with_parameters(jb.Network.random(widths, "tanh", seed=1).parameters)
    print(f"{name}: {start.parameter_count:,} parameters, {len(bundled.inputs)} points")
    data = start, bundled.inputs, bundled.targets, loss, penalty
    values = {key: train(*data, way) for key, way in WAYS.items()}
    goal = (1 + within) * min(each.min() for each in values.values())
    steps = [1 + int((each > goal).sum()) for each in values.values()]  # values only fall
    for key, count in zip(values, steps, strict=True):
        print(f"  {key:25} {count} steps" if count <= len(values[key]) else f"  {key:25} never")
    return steps


variance = bundle("diabetes").targets.var()
for steps in (
    steps_of("diabetes", [10, 8, 1], jb.SquaredError(), 0.05 * variance, within=0.001),
    steps_of("digits", [64, 32, 10], jb.CrossEntropy(), 1e-3, within=0.1),
):
    by_cg, by_lbfgs, by_newton, by_gauss_newton = steps
    assert max(by_newton, by_gauss_newton) < min(by_cg, by_lbfgs)
