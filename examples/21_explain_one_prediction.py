"""Why does the network predict this much for this patient?

Integrated gradients share out the difference between two predictions, the patient's and a
baseline's, among the inputs: each gets its step times the mean slope on the way.  The shares sum to
the difference, and the library says how nearly.
"""

import numpy as np

import jacobians as jb
from jacobians.data import bundle

patients = bundle("diabetes")
net, X = patients.network, patients.inputs

# One patient against the average one.

found = jb.explain(net, X[2], X.mean(axis=0))
print(found, "\n")
assert found.completeness.holds.all()

# The average patient does not exist.  Against every one of the others the shares differ, and the
# intervals say how well their mean is known.

others = jb.explain(net, X[2], np.delete(X, 2, axis=0))
print(others, "\n")
low, high = others.interval()
s5, bmi = (net.input_names.index(name) for name in ("s5", "bmi"))
assert low[0, s5] > 0  # s5 raises this prediction, whoever it is compared with
assert low[0, bmi] < 0 < high[0, bmi]  # of bmi that cannot be said

# Which hidden units carry the difference?  All of it goes through the eight of them.

layer = next(l for l in range(1, net.depth) if net.widths[l] == 8)
shares = others.units(layer)[0]
print("hidden units:", ", ".join(f"{share:+.1f}" for share in shares))
assert np.isclose(shares.sum(), others.completeness.sum[0], rtol=1e-9)

# A network of straight pieces needs no quadrature: its kinks on the way are computed, and between
# them one Jacobian is enough.  The usual sum over 50 steps is right to a few digits.

straight = jb.Network.random([10, 64, 64, 1], "relu", seed=0)
rng = np.random.default_rng(1)
x, b = rng.normal(size=(2, 10))
exact = jb.explain(straight, x, b)
print("\n" + repr(exact))
assert exact.paths.exact
for steps in (50, 500, 5000):
    t = (np.arange(steps)[:, None] + 0.5) / steps
    summed = (jb.jacobian(straight, b + t * (x - b)) * (x - b)).mean(axis=0)
    off = np.abs(summed - exact.contributions).max() / np.abs(exact.contributions).max()
    print(f"a sum over {steps} steps is off by {off:.0e} of the largest contribution")
gap = np.abs(exact.completeness.difference).max()
print(f"the exact contributions miss H(x) - H(b) by {gap:.0e}")
assert gap < 1e-14
