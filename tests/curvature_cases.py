"""Networks, ends and dense definitions that the laws of curvature and of posteriors share."""

import numpy as np
import pytest
from claims import assert_within
from zoo import NETWORKS, points

import jacobians as jb

SQUARED = jb.SquaredError()
# an end for every way in which a loss may meet the last activation
ENDS = {
    "squared error": ("tanh", SQUARED),
    "softmax in one step": ("softmax", jb.CrossEntropy()),
    "softmax, then cross-entropy": ("softmax", jb.CrossEntropy(fuse=False)),
    "log_softmax": ("log_softmax", jb.CrossEntropy()),
    "sigmoid in one step": ("sigmoid", jb.BinaryCrossEntropy()),
    "sigmoid, then binary cross-entropy": ("sigmoid", jb.BinaryCrossEntropy(fuse=False)),
}
KINDS = [
    *["tanh hidden", "linear", "one of everything", "softmax output", "softmax hidden"],
    *["scales and elementwise layers", "residual blocks, nested", "branches that share nodes"],
    *["norms", "attention with heads", "shaping", "convolutions and pools", "float32"],
    *["convolutions along one axis and three", "several inputs and outputs", "norms, float32"],
]
every_end = pytest.mark.parametrize(("last", "loss"), ENDS.values(), ids=ENDS)
every_kind = pytest.mark.parametrize("net", [NETWORKS[name] for name in KINDS], ids=KINDS)
every_structure = pytest.mark.parametrize(
    "structure", ["full", "last_layer", "diagonal", "kronecker"]
)


def close(net, left, right, scale=None):
    """Relative to the largest entry: sums of a few thousand products round by less than this."""
    scale = np.abs(right).max(initial=0.0) if scale is None else scale
    assert_within(left, right, 2000 * np.finfo(net.dtype).eps * max(scale, 1e-30))


def case(net, count=3):
    """Points and targets of a network."""
    Y = np.random.default_rng(5).normal(size=(count, net.widths[-1])).astype(net.dtype)
    return points(net, count), Y


def targets(loss, m, count, rng):
    """Draw targets that fit a loss: probabilities, or any numbers."""
    if isinstance(loss, jb.SquaredError):
        return rng.normal(size=(count, m))
    Y = rng.uniform(0.1, 0.9, size=(count, m))
    return Y / Y.sum(axis=1, keepdims=True) if isinstance(loss, jb.CrossEntropy) else Y


def jacobians_of(net, X):
    """Return ``dH/dtheta`` at every point, (B, m, p), each written out by its maps."""
    with np.errstate(under="ignore"):
        return np.stack([jb.linearize(net, x).parameter_jacobian().to_dense() for x in X])


def gradients_of(net, X, Y, loss):
    """Return the gradient of every point, by backprop."""
    each = zip(X, Y, strict=True)
    return np.stack([jb.backprop.gradients(net, x, y, loss).vector for x, y in each])


def before_last_activation(net):
    return jb.Network([*net.layers[:-1], jb.Dense(net.layers[-1].W, net.layers[-1].b)])


def spans(net):
    """Return where the parameters of each layer stand."""
    ends = np.cumsum([0] + [sum(p.size for p in f.parameters().values()) for f in net.layers])
    return {l: slice(ends[l - 1], ends[l]) for l, f in enumerate(net.layers, 1) if f.parameters()}
