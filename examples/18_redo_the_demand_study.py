"""What does a network know about electricity demand, and do two packages agree on it?

The demonstration of the package NeuralSens: daily demand from a working-day index and the
temperature (J. Pizarroso, J. Portela and A. Muñoz, "NeuralSens: Sensitivity Analysis of Neural
Networks", Journal of Statistical Software 102, 2022).  Its data come with it; where it is not
installed, the same study runs on made-up days of the same kind, and nothing is compared.
"""

import os
import warnings
from importlib.util import find_spec

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import jacobians as jb

warnings.simplefilter("ignore", ConvergenceWarning)

# Demand in hundreds, temperature in tens of degrees, as in the demonstration.


def made_up_days(count=1980):
    rng = np.random.default_rng(0)
    day = np.arange(count)
    temperature = 15 - 10 * np.cos(2 * np.pi * day / 365) + 3 * rng.standard_normal(count)
    working = np.where(day % 7 < 5, 0.97, 0.8) + 0.02 * rng.standard_normal(count)
    comfort = 0.006 * (temperature - 18) ** 2
    return working, temperature / 10, 6.5 * working + comfort + 0.1 * rng.standard_normal(count)


found = find_spec("neuralsens")
if found:
    path = os.path.join(os.path.dirname(found.origin), "data", "daily_demand_tr.csv")
    table = np.genfromtxt(path, delimiter=";", skip_header=1, usecols=(1, 2, 3))
    demand, working, temperature = table[:, 0] / 100, table[:, 1], table[:, 2] / 10
else:
    working, temperature, demand = made_up_days()
X = np.column_stack([working, temperature])
print(f"{len(X)} {'measured' if found else 'made-up'} days")

# 40 logistic units.  The weights go over by themselves, without lists of matrices.

model = MLPRegressor(
    hidden_layer_sizes=[40],
    activation="logistic",
    alpha=0.005,
    solver="lbfgs",
    max_iter=400,
    random_state=150,
).fit(X, demand)
net = jb.from_sklearn(model)
report = jb.sensitivity(
    net,
    X,
    input_names=["working day", "temperature"],
    output_names=["demand"],
    units={"temperature": "10 °C"},
)
for j, name in enumerate(report.input_names):
    low, high = (end[0, j] for end in report.interval("mean"))
    print(
        f"{name:12} mean {report.mean[0, j]:6.3f} [{low:.3f}, {high:.3f}], std "
        f"{report.std[0, j]:.3f}, root mean square {report.root_mean_square[0, j]:.3f}"
    )

# What it means: working days need more, always.  Temperature has no single direction: cold days
# need more when it gets colder, hot days when it gets hotter, so its mean says next to nothing and
# its spread everything.  The derivative against the temperature itself shows where it turns.

J = jb.jacobian(net, X)[:, 0]
cold, hot = (
    (temperature < np.quantile(temperature, 0.1)),
    (temperature > np.quantile(temperature, 0.9)),
)
print(
    f"per 10 °C: {J[cold, 1].mean():.2f} on the coldest days, {J[hot, 1].mean():.2f} on the hottest"
)
assert report.mean[0, 0] > 0
assert J[cold, 1].mean() < 0 < J[hot, 1].mean()
assert report.std[0, 1] > abs(report.mean[0, 1])

# The other package, from lists of weights.  Its three figures are mean, standard deviation and root
# mean square; both packages compute in float64, so they may differ by rounding, and no more.

if found:
    import pandas
    from neuralsens.partial_derivatives import jacobian_mlp

    names = ["identity", "logistic", "identity"]
    frames = pandas.DataFrame(X, columns=["WD", "TEMP"]), pandas.DataFrame({"DEM": demand})
    theirs = jacobian_mlp(model.coefs_, model.intercepts_, names, *frames).sens[0]
    mine = np.stack([report.mean[0], report.std[0], report.root_mean_square[0]], axis=1)
    off = np.abs(theirs.to_numpy(float)[:, :3] / mine - 1).max()
    print(f"NeuralSens agrees to a relative {off:.1e}")
    assert off < 1e-10
