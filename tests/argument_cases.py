"""For every public name the good values of its arguments, and values that are wrong for most."""

import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse

import jacobians as jb

rng = np.random.default_rng(0)
net = jb.Network.random([3, 5, 2], seed=0).with_names(["a", "b", "c"], ["u", "v"])
soft = jb.Network.random([3, 4, 2], "tanh", "softmax", seed=0)
image = jb.Network([jb.Convolution(rng.normal(size=(2, 1, 2))), jb.MaxPool(2)], inputs=(1, 5))
x, X = rng.normal(size=3), rng.normal(size=(4, 3))
y, Y, W = rng.normal(size=2), rng.normal(size=(4, 2)), rng.normal(size=(2, 3))
lin, batch = jb.linearize(net, x), jb.linearize(net, X)
graph = jb.UnitGraph.from_network(net)
fit = jb.laplace(net, X, Y, jb.SquaredError())
folder = Path(tempfile.mkdtemp())
jb.save(net, folder / "net.npz")
squared, nets, points = jb.SquaredError(), [net, soft], [x, X, X.tolist(), X.astype(np.float32)]
SIZES, NODES, ANY = [1, 2, 3], {"of": [None, 2, 1], "wrt": [0]}, [0, 1.5, 1, 2.0]
PICKED = {"rows": [None, [0], slice(1)], "max_bytes": [None, 2**20]}
AFFINE = {"b": [None, y], "activation": ["tanh", "identity", jb.activation("elu", alpha=2.0)]}
KERNEL = {"K": [rng.normal(size=(2, 2, 3))], **AFFINE, "stride": [1, 2], "padding": [0, 1]}
KERNEL |= {"dilation": [1, 2], "groups": [1, 2]}
POOL = {"size": [2, (2, 3)], "stride": [None, 1], "padding": [0, 1]}
MAPS = [W, jb.Matrix(W)]


def limited(max_bytes):
    with jb.dense_limit(max_bytes):
        return jb.Identity(2).shape


ARRAYS = {"net": nets, "X": points}
CALLS = {  # the good values of every argument
    jb.activation: {"name": ["tanh", "softmax", jb.activation("relu")]},
    jb.AveragePool: {**POOL, "count_padding": [True, False]},
    jb.MaxPool: {**POOL, "dilation": [1, 2]},
    jb.Concatenate: {"axis": [0, 1, None]},
    jb.Convolution: KERNEL,
    jb.TransposedConvolution: {**KERNEL, "output_padding": [0]},
    jb.Dense: {"W": [W, W.astype(np.float32), W.tolist()], **AFFINE},
    jb.Elementwise: {"activation": ["relu", "softmax"]},
    jb.Gather: {"indices": [[0, 2], [-1]]},
    jb.LayerNorm: {"scale": [x], "shift": [None, x], "epsilon": [1e-5, 1]},
    jb.RMSNorm: {"scale": [x], "epsilon": [1e-5, 1]},
    jb.Scale: {"scale": [x, x.astype(np.float32)], "shift": [None, x]},
    jb.MatrixProduct: {"transpose_second": [True, False]},
    jb.Pad: {"widths": [((1, 0),), ((0, 1), (2, 0))]},
    jb.Permute: {"axes": [(1, 0), (0,)]},
    jb.Reshape: {"new_shape": [(3,), (1, 3)]},
    jb.Slice: {"start": [None, 0, 1], "stop": [None, 3], "step": [1, 2], "axis": [0, -1]},
    jb.Residual: {"layers": [[jb.Dense(np.eye(3))]]},
    jb.Parallel: {"branches": [[[jb.Dense(W)], [jb.Dense(W)]]], "join": [None, jb.Add()]},
    jb.Network: {
        "layers": [net.layers, [jb.Dense(W)]],
        "inputs": [None, 3],
        "input_names": [None, ["a", "b", "c"]],
        "output_names": [None, ["u", "v"]],
    },
    jb.Network.random: {"widths": [[3, 2], (1, 4, 2)], "activation": ["tanh"], "seed": [0, 1]},
    net.with_names: {"inputs": [["a", "b", "c"]], "outputs": [None, ["u", "v"]]},
    net.with_parameters: {"parameters": [net.parameters]},
    net.astype: {"dtype": [np.float32, "float64"]},
    net.__call__: {"X": points},
    jb.load: {"path": [folder / "net.npz"], "activations": [None]},
    jb.save: {"net": nets, "path": [folder / "other.npz"]},
    jb.BinaryCrossEntropy: {"fuse": [True, False]},
    jb.CrossEntropy: {"fuse": [True, False]},
    jb.hessian: ARRAYS | NODES | PICKED,
    jb.value_jacobian_hessian: ARRAYS | NODES | PICKED,
    jb.hvp: {"net": nets, "X": [X], "V": [X], "cotangent": [None, Y]},
    jb.jacobian: ARRAYS | NODES | PICKED | {"columns": [None, [2, 0]], "out": [None]},
    jb.value_and_jacobian: ARRAYS | NODES | PICKED | {"columns": [None, [2, 0]], "out": [None]},
    jb.jvp: {"net": nets, "X": [X], "tangents": [X]},
    jb.vjp: {"net": nets, "X": [X], "cotangents": [Y]},
    jb.linearize: ARRAYS,
    jb.trace: ARRAYS,
    jb.plan: {
        "net": nets,
        "batch": [0, 1, 9],
        **NODES,
        **PICKED,
        "threads": [None, 1, 2],
        "near": [None, x],
        "kernels": [True, False],
    },
    jb.jacobian_with_bound: ARRAYS,
    jb.certify: {"net": nets, "x": [x], "hessian": [True, False]},
    lin.jvp: {"tangent": [x]},
    lin.vjp: {"cotangent": [y]},
    lin.jacobian: NODES,
    lin.between: {"of": [2, 1], "wrt": [0]},
    lin.weight_jacobian: {"l": [1, 2]},
    lin.bias_jacobian: {"l": [1, 2]},
    lin.hessian: {"cotangent": [y]},
    batch.trace.point: {"i": [0, 3]},
    batch.trace.activation: {"l": [0, 1, 2]},
    jb.BlockDiagonal: {"blocks": [jb.Matrix(W)], "count": SIZES, "stacked": [False]},
    jb.Blocks: {"blocks": [[[W, W]], [W, W]]},
    jb.Commutation: {"m": SIZES, "n": SIZES},
    jb.Diagonal: {"entries": [x, X]},
    jb.DiagonalPlusLowRank: {"entries": [y], "left": [W], "right": [W]},
    jb.Duplication: {"n": SIZES},
    jb.Elimination: {"n": SIZES},
    jb.Identity: {"n": SIZES, "dtype": [np.dtype(float), np.dtype(np.float32)]},
    jb.Kronecker: {"left": MAPS, "right": MAPS},
    jb.Matrix: {"array": [W]},
    jb.Product: {"factors": [[W, W.T]]},
    jb.Selection: {"index": [np.array([0, 2])], "n": [3, 4]},
    jb.Substitution: {"nodes": [[[(0, W)]], [[(0, W)], [(1, W.T)]]]},
    jb.Sum: {"terms": [[W, W]]},
    jb.Matrix(W).__matmul__: {"other": [x, W.T]},
    limited: {"max_bytes": [1, 2**40]},
    jb.unvec: {"v": [np.arange(6.0)], "shape": [(2, 3), (3, 2)]},
    jb.vec: {"M": [W]},
    jb.vech: {"S": [np.eye(3)]},
    jb.derive: {
        "net": [net],
        "x": [None, x],
        "y": [None, y],
        "loss": [None, squared],
        "l2": [0, 1],
    },
    jb.diagnose: {
        "mine": [{"weights": [np.ones((5, 3)), np.ones((2, 5))]}],
        "net": [net],
        "X": [x],
        "Y": [y],
        "loss": [squared],
        "l2": [0.0],
    },
    jb.UnitGraph: {
        "A": [[[0, 0], [1.0, 0]]],
        "B": [[[1.0], [0.0]]],
        "biases": [None, y],
        "activations": ["tanh", ["relu", "identity"]],
        "unit_names": [None, ["h", "k"]],
        "input_names": [None, ["in"]],
        "cyclic": [False],
        "max_iterations": [1000],
    },
    graph.linearize: {"x": points},
    jb.curvature: {"net": nets, "X": [X], "Y": [Y], "loss": [squared], "max_bytes": [2**27]},
    jb.laplace: {
        **{"net": [net], "X": [X], "Y": [Y], "loss": [squared], "structure": ["full", "diagonal"]},
        **{"prior_precision": [1.0, 2], "noise": [1.0], "max_bytes": [2**27]},
    },
    jb.error_bars: {"net": nets, "X": [X], "std": [x**2, 0.1], "max_bytes": [None, 2**24]},
    jb.explain: {
        "net": nets,
        "x": [x],
        "baseline": [None, 0 * x],
        "of": [None, 2],
        "rows": [None, [0]],
    },
    jb.log_odds: {"net": [soft], "against": [None, 0, 1]},
    jb.sensitivity: {
        **{"net": [net], "X": [X], "inputs": [None, [0, 2], ["a"]], "outputs": [None, ["v"]]},
        **{"units": [None, {"a": "m"}], "near": [1e-6, 0.1], "subspace": [False, True]},
        **{"singular_values": [True, False], "max_bytes": [None, 2**24]},
    },
    jb.interactions: {
        **{"net": [net], "X": [X], "rows": [None, [1]], "confidence": [0.5, 0.95]},
        **{"max_bytes": [None, 2**24]},
    },
    jb.backprop.gradients: {"net": nets, "X": [X], "Y": [Y], "loss": [squared], "l2": [0.0, 1]},
    jb.explicit.gradients: {"net": nets, "X": [X], "Y": [Y], "loss": [squared], "l2": [0.0, 1]},
    jb.conventions.hadamard: {"left": [W], "right": [W]},
    jb.conventions.product: {"left": [W], "right": [W.T]},
    jb.conventions.to_row_form: {"net": [net]},
    jb.conventions.row_derivatives: {"net": [net], "x": [x], "y": [y], "loss": [squared]},
    jb.witness.finite_difference: {"f": [net], "x": [x]},
    jb.witness.check_jacobian: {"f": [net], "J": [jb.jacobian(net, x)], "x": [x]},
}
# What the library makes for its users, and what it only prints, or loads from other libraries.
RECORDS = (
    "Activation Add ActiveSubspace Certificate Comparison Curvature Interactions compare "
    " Derivation Diagnosis ErrorBars Layer "
    "Explanation Gradients Linearization LinearMap Loss Multiply Plan Posterior Sensitivity Trace "
    "SquaredError VectorActivation backprop conventions explicit plotting witness show_config "
    "dense_limit from_keras from_onnx from_sklearn from_torch DomainError ModelFormatError "
    "NotFiniteError ShapeError TooLargeError"
)
WRONG = [None, True, -1, 0, 7, 2**31, 2**70, 1.5, np.nan, np.inf, 1j, "", "nobody", b"1", (), []]
WRONG += [{}, {1, 2}, object(), len, slice(3), [1, "a"], [[1.0], [2.0, 3.0]], (2**40, 9)]
WRONG += [np.zeros(0), np.zeros((2, 0)), np.full(3, np.nan), np.full((4, 3), np.inf), np.float64(3)]
WRONG += [np.ones((2, 2, 2, 2)), np.ones(3, complex), np.ones(3, bool), np.array(["a"] * 3)]
WRONG += [np.ones(3, object), np.ma.masked_array(np.ones(3), [0, 1, 0]), scipy.sparse.eye_array(3)]
WRONG += [np.longdouble(2), np.ones(3, "M8[D]"), -np.ones(3), 1e308 * np.ones((4, 3)), net, squared]
WRONG += [jb.Identity(3), jb.Dense(W), lin, 5e-324 * np.ones(3), [-9], [0.5], range(3), "softmax"]
