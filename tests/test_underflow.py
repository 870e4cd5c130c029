"""Gradual underflow is rounding: no function warns of it or raises, whatever NumPy is told to do.

Numbers of 1e-170 stand at every entry point, so that products of two of them leave the range below.
"""

import numpy as np
import pytest

import jacobians as jb
from jacobians.conventions import (
    hadamard,
    product,
    row_derivatives,
    to_row_form,
    weight_row_by_kronecker,
)
from jacobians.maps import multiply_out
from jacobians.witness import (
    check_jacobian,
    complex_step,
    dot_test,
    finite_difference,
    taylor_slope,
)

E = 1e-170
W = [E * np.array(M) for M in ([[1.0, -2], [3, 0.7], [0.3, 5]], [[1.1, 3, -0.3], [2, 0.9, 1]])]
NET = jb.Network([jb.Dense(W[0], [0.5, -0.4, 0.1], "tanh"), jb.Dense(W[1], activation="tanh")])
DEEP = jb.Network([*NET.layers, jb.Dense(W[0], activation="tanh"), jb.Dense(W[1])])
SATURATED = jb.Network([jb.Dense([[0.0], [-400.0], [-500.0]], activation="softmax")])
X, Y = np.array([1.0, -2.0]), np.array([0.3, 0.7])
BATCH, TARGETS = np.array([X, 2 * X]), np.array([Y, Y])
TRACE, SOFT = jb.trace(NET, X), jb.trace(SATURATED, [1.0])
FLAT = jb.trace(jb.Network([jb.Dense(W[0], [-400] * 3, "sigmoid"), jb.Dense(W[1])]), X)
LIN, STACK = jb.linearize(NET, X), jb.linearize(NET, BATCH)
SQUARED, BINARY, CROSS = jb.SquaredError(), jb.BinaryCrossEntropy(), jb.CrossEntropy()
SMALL = np.array([E, -0.3 * E])
MATRIX, KRONECKER = jb.Matrix(W[0]), jb.Kronecker(W[0], jb.Diagonal(SMALL))
ROWS, SPREAD = to_row_form(NET), 1e-140 * np.array([[1.1, 2.3], [0.7, 0.3], [0.11, 0.9]])
UNITS = jb.UnitGraph(
    [[0, 0, 0], [1.1 * E, 0, 0], [0.3, 1.3 * E, 0]], [[E], [0.7 * E], [0]], activations="tanh"
)
KINDS = jb.Network.graph(  # kinds of layers whose maps are computed from the values
    {
        "norm": (jb.LayerNorm(SMALL, SMALL), "x"),
        "rms": (jb.RMSNorm(SMALL, epsilon=1e-300), "x"),
        "square": (jb.Multiply(), "x", "x"),
        "image": (jb.Reshape((1, 2)), "x"),
        "outer": (jb.MatrixProduct(transpose_second=True), "image", "image"),
        "slid": (jb.Convolution([[[E, 0.3 * E]]]), "image"),
        "soft": (jb.Dense(W[0], [0, -400, -500], "log_softmax"), "square"),
    },
    inputs={"x": 2},
    outputs=["norm", "rms", "outer", "slid", "soft"],
)
ALL_KINDS = jb.trace(KINDS, SMALL)
AT = UNITS.linearize([0.9])
SWEPT = AT.backprop([0, 0, E])


ENTRY_POINTS = {
    "jacobian": lambda: jb.jacobian(NET, X),
    "jacobian of a batch": lambda: jb.jacobian(NET, BATCH),
    "value_and_jacobian": lambda: jb.value_and_jacobian(NET, BATCH),
    "jvp of a batch": lambda: jb.jvp(NET, BATCH, np.array([SMALL, SMALL])),
    "vjp of a batch": lambda: jb.vjp(NET, BATCH, np.array([Y, E * Y])),
    "jacobian_with_bound": lambda: jb.jacobian_with_bound(NET, BATCH),
    "certify": lambda: jb.certify(NET, X).checks,
    "sensitivity": lambda: jb.sensitivity(NET, BATCH).mean,
    "linearize": lambda: LIN.jacobian(),
    "linearize a batch": lambda: STACK.jacobian(),
    "factors of all kinds": lambda: jb.linearize(KINDS, ALL_KINDS).factors,
    "factors of all kinds, a batch": lambda: jb.linearize(KINDS, [SMALL, 2 * SMALL]).factors,
    "parameter_jacobian of all kinds": lambda: (
        jb.linearize(KINDS, ALL_KINDS).parameter_jacobian().to_dense()
    ),
    "jacobian of all kinds": lambda: jb.jacobian(KINDS, SMALL),
    "value of all kinds": lambda: KINDS(SMALL),
    "gradients of all kinds": lambda: jb.backprop.gradients(KINDS, SMALL, np.ones(9), SQUARED),
    "explicit of all kinds": lambda: jb.explicit.input_jacobian(ALL_KINDS),
    "certify all kinds": lambda: jb.certify(KINDS, SMALL).checks,
    "input_maps": lambda: jb.linearize(KINDS, ALL_KINDS).input_maps(1),
    "parameter_map": lambda: jb.linearize(KINDS, ALL_KINDS).parameter_map("norm", "scale") @ SMALL,
    "preactivation_jacobian": lambda: LIN.preactivation_jacobian(1) @ np.full(3, E),
    "hessian": lambda: jb.hessian(NET, SMALL),
    "hessian of all kinds": lambda: jb.hessian(KINDS, SMALL, rows=[0, 3, 6]),
    "hessian as a map": lambda: LIN.hessian(E * Y).to_dense(),
    "mixed hessian as a map": lambda: LIN.mixed_hessian(E * Y, 1, "W").to_dense(),
    "hvp": lambda: jb.hvp(NET, X, SMALL, Y),
    "curvature": lambda: jb.curvature(NET, BATCH, TARGETS, SQUARED).gauss_newton.to_dense(),
    "ntk": lambda: jb.curvature(NET, BATCH).ntk().to_dense(),
    "laplace": lambda: jb.laplace(NET, BATCH, TARGETS, SQUARED, "diagonal").variance(BATCH),
    "covariance": lambda: jb.laplace(NET, BATCH, TARGETS, SQUARED, "full").covariance(BATCH),
    "error_bars": lambda: jb.error_bars(NET, BATCH, std=np.abs(SMALL)).std,
    "interactions": lambda: jb.interactions(NET, np.vstack([BATCH, -BATCH])).standardised,
    "explain": lambda: jb.explain(NET, SMALL, -SMALL).contributions,
    "diagonal of a product": lambda: (jb.Diagonal(SMALL) @ jb.Diagonal(SMALL)).diagonal(),
    "jvp": lambda: LIN.jvp(SMALL),
    "vjp": lambda: LIN.vjp(SMALL),
    "weight_jacobian": lambda: LIN.weight_jacobian(1).to_dense(),
    "map @ vector": lambda: MATRIX @ SMALL,
    "vector @ map": lambda: np.array([E, E, E]) @ MATRIX,
    "matrix @ map": lambda: np.full((2, 3), E) @ MATRIX,
    "map to dense": lambda: KRONECKER.to_dense(),
    "product to dense": lambda: (jb.Matrix(W[1]) @ MATRIX).to_dense(),
    "map to sparse": lambda: KRONECKER.to_sparse(),
    "map to scipy": lambda: MATRIX.to_scipy() @ SMALL,
    "map to scipy, transposed": lambda: MATRIX.to_scipy().T @ np.full(3, E),
    "multiply_out": lambda: multiply_out([jb.Matrix(W[1]), MATRIX]),
    "explicit.activation_jacobian": lambda: jb.explicit.activation_jacobian(SOFT, 1),
    "explicit.input_jacobian": lambda: jb.explicit.input_jacobian(TRACE),
    "explicit.layer_jacobian": lambda: [
        jb.explicit.layer_jacobian(ALL_KINDS, name) for name in ("norm", "rms", "outer", "slid")
    ],
    "explicit.block_matrix": lambda: jb.explicit.block_matrix(TRACE),
    "explicit.preactivation_jacobian": lambda: jb.explicit.preactivation_jacobian(TRACE, 1),
    "explicit.preactivation_parameter_jacobian": lambda: (
        jb.explicit.preactivation_parameter_jacobian(ALL_KINDS, "norm", "scale")
    ),
    "explicit.bias_jacobian": lambda: jb.explicit.bias_jacobian(FLAT, 1),
    "explicit.weight_jacobian": lambda: jb.explicit.weight_jacobian(jb.trace(NET, SMALL), 1),
    "explicit.parameter_jacobian": lambda: jb.explicit.parameter_jacobian(jb.trace(NET, SMALL)),
    "explicit.gradients": lambda: jb.explicit.gradients(NET, X, Y, SQUARED, 0.1),
    "backprop.deltas": lambda: jb.backprop.deltas(jb.trace(DEEP, X), SMALL),
    "backprop.vjp": lambda: jb.backprop.vjp(TRACE, Y),
    "backprop.jacobian": lambda: jb.backprop.jacobian(TRACE),
    "backprop.gradients": lambda: jb.backprop.gradients(NET, BATCH, TARGETS, SQUARED, 0.1),
    "SquaredError.value": lambda: SQUARED.value(SMALL, 0 * SMALL),
    "BinaryCrossEntropy.value": lambda: BINARY.value(np.array([1 - 1e-16]), np.array([1e-300])),
    "CrossEntropy.value": lambda: CROSS.value(np.array([1 - 1e-16]), np.array([1e-300])),
    "CrossEntropy.cotangent": lambda: CROSS.cotangent(np.array([0.7]), np.array([1e-310])),
    "units: values": lambda: UNITS([1.0]),
    "units: linearize": lambda: UNITS.linearize([1.0]).slopes,
    "total_derivative": lambda: AT.total_derivative(),
    "total_preactivation_derivative": lambda: AT.total_preactivation_derivative(),
    "input_jacobian": lambda: AT.input_jacobian(),
    "path_sum": lambda: AT.path_sum(0, 2),
    "units: backprop": lambda: AT.backprop([E, E, E]),
    "units: gradients": lambda: AT.gradients([E], SQUARED, [2]),
    "downstream_deltas": lambda: AT.downstream_deltas([E, E, E]),
    "incoming": lambda: SWEPT.incoming(),
    "outgoing": lambda: AT.backprop([1, 1, 1]).outgoing(),
    "ratio_form": lambda: AT.backprop([E, E, E]).ratio_form(0, 1),
    "step": lambda: UNITS.step(SWEPT, 0.1 * E),
    "hadamard": lambda: hadamard(SMALL, SMALL),
    "product": lambda: product(W[1], W[0]),
    "row_derivatives": lambda: row_derivatives(NET, X, Y, SQUARED, 0.1 * E),
    "weight_row_by_kronecker": lambda: weight_row_by_kronecker(SMALL[:, None], SMALL[None, :]),
    "RowForm.forward": lambda: ROWS.forward(SMALL[None, :]),
    "RowForm.errors": lambda: ROWS.errors(X[None, :], E * Y[None, :]),
    "RowForm.gradients": lambda: ROWS.gradients(SPREAD, np.ones((3, 2))),
    "RowForm.path_sum": lambda: to_row_form(DEEP).path_sum(X[None, :], 1),
    "complex_step": lambda: complex_step(lambda z: np.array([1e-300j]), X, step=1e20),
    "finite_difference": lambda: vars(finite_difference(lambda x: 1.1 * E * x * x, SMALL)),
    "taylor_slope": lambda: taylor_slope(lambda x: E * x, E * np.eye(2), X, SMALL),
    "dot_test": lambda: dot_test(lambda v: 1e-308 * v, lambda u: 1e-308 * u, (2, 2)),
    "check_jacobian": lambda: vars(check_jacobian(lambda x: 1e-300 * x, 1e-300 * np.eye(2), X)),
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS.values(), ids=ENTRY_POINTS.keys())
def test_an_entry_point_does_not_mind_underflow(entry_point):
    """Nor does it change what it gives: the same bits as where flags are ignored."""
    with np.errstate(all="raise"):
        strict = entry_point()
    with np.errstate(all="ignore"):
        lenient = entry_point()
    assert repr(strict) == repr(lenient)


def test_plain_numpy_does():
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="underflow"):
        SMALL * SMALL
