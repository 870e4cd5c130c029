"""How uncertain is a prediction if its inputs are uncertain?

The delta method: inputs that scatter with covariance S about x make outputs scatter with
covariance J S Jᵀ about H(x), to first order.  Here the bundled network predicts the progression of
diabetes from ten measurements, and each measurement has an error of its own.
"""

import numpy as np

import jacobians as jb
from jacobians.data import bundle

patients = bundle("diabetes")
net, X = patients.network, patients.inputs

# Suppose that every measurement is good to a tenth of how much it varies between patients, but age
# and sex are known exactly.  One error bar per patient comes out, all from one pass.

error = 0.1 * X.std(axis=0)
error[[net.input_names.index(name) for name in ("age", "sex")]] = 0.0
bars = jb.error_bars(net, X, std=error)
low, high = bars.interval(0.9)
for i in range(3):
    print(f"patient {i}: {bars.value[i, 0]:.0f}, 90 % from {low[i, 0]:.0f} to {high[i, 0]:.0f}")

# Which measurement is to blame?  Variances of independent errors add up, so each has a share.

shares = (jb.jacobian(net, X)[:, 0] * error) ** 2 / bars.covariance[:, 0]
assert np.allclose(shares.sum(axis=1), 1, rtol=1e-12)
worst = shares.mean(axis=0).argsort()[::-1][:3]
print("to blame:", ", ".join(f"{net.input_names[j]} {shares.mean(axis=0)[j]:.0%}" for j in worst))

# The honest check is to draw the errors.  The sample deviation of 4,000 draws is known to
# 1/sqrt(2 * 4000), 1.1 %; the worst of the twenty patients tried here may be 4 of those off, and a
# curved network some more.

rng = np.random.default_rng(0)
drawn = [net(x + error * rng.standard_normal((4000, 10))).std() for x in X[:20]]
off = np.abs(np.array(drawn) / bars.std[:20, 0] - 1)
print(f"drawn errors agree within {off.max():.1%}")
assert off.max() < 0.1

# Measurements whose errors go together need the whole covariance.  If an error of s1 is shared by
# s2, as when both come from one sample of blood, their effects add before they are squared.

together = np.diag(error**2)
s1, s2 = (net.input_names.index(name) for name in ("s1", "s2"))
together[s1, s2] = together[s2, s1] = error[s1] * error[s2]
joint = jb.error_bars(net, X, covariance=together)
J = jb.jacobian(net, X)[:, 0]
expected = bars.std[:, 0] ** 2 + 2 * J[:, s1] * J[:, s2] * error[s1] * error[s2]
assert np.allclose(joint.std[:, 0] ** 2, expected, rtol=1e-10)
print(
    f"sharing one sample: error bars change by up to {np.abs(joint.std / bars.std - 1).max():.2%}"
)
