"""How were the two networks that come with the library trained?

With the library's own gradients, by scipy's L-BFGS, on data that scikit-learn carries: 8x8 images
of handwritten digits (ten classes) and ten measurements of diabetes patients (a regression).
Everything follows from a seed.  Run as it is, the script trains again and compares with the bundled
files; with ``--write`` it replaces them.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_diabetes, load_digits

import jacobians as jb
from jacobians import data
from jacobians.files import write_npz

# The objective is the mean loss plus l2/2 times the sum of squared weights.  The parameters of a
# network are one vector, (vec W1, b1, ..., vec WL, bL), and so is the gradient: all scipy needs.


def train(net, X, Y, loss, l2, iterations):
    def objective(theta):
        gradients = jb.backprop.gradients(net.with_parameters(theta), X, Y, loss, l2)
        return gradients.loss, gradients.vector.astype(float)

    found = minimize(
        objective, net.parameters, jac=True, method="L-BFGS-B", options={"maxiter": iterations}
    )
    return net.with_parameters(found.x)


def split(X, Y, held_out, seed):
    order = np.random.default_rng(seed).permutation(len(X))
    test, rest = order[:held_out], order[held_out:]
    return X[rest], Y[rest], X[test], Y[test]


# Digits: a scaling from 0..16 to 0..1 is part of the network, so that its Jacobians are with
# respect to the pixels as they are.


def digits():
    images = load_digits()
    X, Y, X_test, Y_test = split(images.data, images.target, held_out=360, seed=0)
    blank = jb.Network.random([64, 32, 10], "tanh", "softmax", seed=0)
    net = jb.Network(
        [jb.Scale(np.full(64, 1 / 16)), *blank.layers],
        input_names=[f"pixel {row},{column}" for row in range(8) for column in range(8)],
        output_names=[f"digit {k}" for k in range(10)],
    )
    net = train(net, X, Y, jb.CrossEntropy(), l2=1e-3, iterations=150)
    accuracy = np.mean(net(X_test).argmax(axis=1) == Y_test)
    X_test = X_test.astype(np.uint8)  # sixteen grey levels need no more
    return net, X_test, Y_test, f"accuracy on held-out images: {accuracy:.1%}"


# Diabetes: standardised inside the network, and brought back to the units of the target at its end.


def diabetes():
    patients = load_diabetes(scaled=False)
    X, y, X_test, y_test = split(patients.data, patients.target, held_out=142, seed=1)
    mean, sd = X.mean(axis=0), X.std(axis=0)
    blank = jb.Network.random([10, 8, 1], "tanh", seed=1)
    net = jb.Network(
        [
            jb.Scale(1 / sd, -mean / sd),
            *blank.layers,
            jb.Scale([y.std()], [y.mean()]),
        ],
        input_names=patients.feature_names,
        output_names=["progression"],
    )
    # the squared error is in squared units of the target, and so is the penalty
    net = train(net, X, y[:, None], jb.SquaredError(), l2=0.05 * y.var(), iterations=300)
    explained = 1 - np.mean((net(X_test)[:, 0] - y_test) ** 2) / y_test.var()
    return net, X_test, y_test[:, None], f"variance explained on held-out patients: {explained:.1%}"


for name, make in (("digits", digits), ("diabetes", diabetes)):
    net, X_test, Y_test, quality = make()
    print(f"{name}: {net}\n  {quality}")
    if "--write" in sys.argv:
        folder = Path(data.__file__).parent
        jb.save(net, folder / f"{name}.npz")
        write_npz(str(folder / f"{name}_inputs.npz"), {"inputs": X_test, "targets": Y_test})
    bundled = data.bundle(name)
    assert np.array_equal(bundled.inputs, X_test), "the held-out points follow from the seed"
    # L-BFGS amplifies last-bit differences between machines, so outputs are compared, not weights.
    gap = np.abs(bundled.network(X_test) - net(X_test)).max() / np.abs(net(X_test)).max()
    print(f"  largest relative difference from the bundled network's outputs: {gap:.1e}")
    assert gap < 0.2, "another machine may end elsewhere in the same valley, not in another one"
