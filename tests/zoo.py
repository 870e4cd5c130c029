"""The zoo: one list of maps with dense twins, one of networks; every law meets every animal.

Dimensions are pairwise different where the kind allows it, values are not symmetric, some layers
have one unit.  A new map or layer costs one line here.
"""

import numpy as np

import jacobians as jb
from jacobians.maps import Convolution, Windows

_rng = np.random.default_rng(20260701)


def whole(*shape):
    """Whole numbers from -4 to 4 as floats: sums and products of them are exact."""
    return _rng.integers(-4, 5, shape).astype(float)


# --- maps: (name, map, its matrix written down independently) -------------------------------------

_A, _B, _C = whole(2, 3), whole(5, 4), whole(3, 7)
_d, _U, _V = whole(4), whole(4, 2), whole(4, 2)
_stack, _d_stack = whole(6, 2, 3), whole(6, 3)


def _commutation(m, n):
    K = np.zeros((m * n, m * n))
    for i in range(m):
        for j in range(n):
            K[i * n + j, j * m + i] = 1  # place of M[i, j] in vec(Mᵀ), and in vec(M)
    return K


def _duplication(n):
    pairs = [(i, j) for j in range(n) for i in range(j, n)]
    D = np.zeros((n * n, len(pairs)))
    for k, (i, j) in enumerate(pairs):
        D[j * n + i, k] = D[i * n + j, k] = 1
    return D


def _elimination(n):
    pairs = [(i, j) for j in range(n) for i in range(j, n)]
    L = np.zeros((len(pairs), n * n))
    for k, (i, j) in enumerate(pairs):
        L[k, j * n + i] = 1
    return L


def _convolution(K, grid, stride, before, dilation, groups, positions):
    """Write a convolution's matrix by index, output channel and position downwards."""
    c_out, c = K.shape[:2]
    J = np.zeros((c_out, *positions, groups * c, *grid))
    for o, *p in np.ndindex(c_out, *positions):
        for i, *s in np.ndindex(c, *K.shape[2:]):
            at = tuple(np.multiply(p, stride) - before + np.multiply(s, dilation))
            if all(0 <= a < n for a, n in zip(at, grid, strict=True)):
                J[(o, *p, o // (c_out // groups) * c + i, *at)] = K[(o, i, *s)]
    return J.reshape(c_out * int(np.prod(positions)), -1)


_pairs = _stack.reshape(2, 3, *_stack.shape[1:])
_K1, _K2, _K3 = whole(3, 2, 3), whole(4, 1, 2, 3), whole(2, 1, 2, 1, 2)
_padded = Windows((5, 4), (2, 3), (1, 2), ((0, 1), 2), (3, 1))

MAPS = [
    (
        "convolution along one axis, stride beyond the size",
        Convolution(_K1, Windows((9,), 3, stride=4)),
        _convolution(_K1, (9,), 4, 0, 1, 1, (2,)),
    ),
    (
        "convolution in groups, padded and dilated",
        Convolution(_K2, _padded, groups=2),
        _convolution(_K2, (5, 4), (1, 2), (0, 2), (3, 1), 2, (3, 3)),
    ),
    (
        "transposed convolution, three axes",
        Convolution(_K3, Windows((3, 1, 4), (2, 1, 2))).T,
        _convolution(_K3, (3, 1, 4), 1, 0, 1, 1, (2, 1, 3)).T,
    ),
    ("identity", jb.Identity(5), np.eye(5)),
    ("matrix", jb.Matrix(_A), _A),
    ("one entry", jb.Matrix([[3.0]]), np.array([[3.0]])),
    ("one row", jb.Matrix(_B[:1]), _B[:1]),
    ("one column", jb.Matrix(_B[:, :1]), _B[:, :1]),
    ("diagonal", jb.Diagonal(_d), np.diag(_d)),
    ("low rank", jb.DiagonalPlusLowRank(_d, _U, _V), np.diag(_d) + _U @ _V.T),
    ("kronecker", jb.Kronecker(_A, _B), np.kron(_A, _B)),
    ("kronecker with identity", jb.Kronecker(_A, jb.Identity(4)), np.kron(_A, np.eye(4))),
    ("identity first", jb.Kronecker(jb.Identity(2), _C), np.kron(np.eye(2), _C)),
    ("row ⊗ identity", jb.Kronecker(_A[:1], jb.Identity(3)), np.kron(_A[:1], np.eye(3))),
    ("matrix ⊗ row", jb.Kronecker(_A, _B[:1]), np.kron(_A, _B[:1])),
    ("matrix ⊗ column", jb.Kronecker(_A, _B[:, :1]), np.kron(_A, _B[:, :1])),
    ("column ⊗ matrix", jb.Kronecker(_A[:, :1], _B), np.kron(_A[:, :1], _B)),
    (
        "stack ⊗ row",
        jb.Kronecker(jb.Matrix(_stack), _B[:1]),
        np.stack([np.kron(M, _B[:1]) for M in _stack]),
    ),
    (
        "row ⊗ stack",
        jb.Kronecker(_B[:1], jb.Matrix(_stack)),
        np.stack([np.kron(_B[:1], M) for M in _stack]),
    ),
    (
        "kronecker of kroneckers",
        jb.Kronecker(jb.Kronecker(_A, jb.Identity(2)), jb.Diagonal(_d)),
        np.kron(np.kron(_A, np.eye(2)), np.diag(_d)),
    ),
    (
        "square ⊗ square",
        jb.Kronecker(_B[:3, :3], jb.Diagonal(_d)),
        np.kron(_B[:3, :3], np.diag(_d)),
    ),
    ("square, of a wide and a tall", jb.Kronecker(_A, _A.T), np.kron(_A, _A.T)),
    (
        "stack of squares ⊗ square",
        jb.Kronecker(jb.Matrix(_stack[..., 1:]), _B[:3, 1:]),
        np.stack([np.kron(M, _B[:3, 1:]) for M in _stack[..., 1:]]),
    ),
    ("commutation", jb.Commutation(2, 3), _commutation(2, 3)),
    ("commutation of a row", jb.Commutation(1, 4), np.eye(4)),
    ("duplication", jb.Duplication(3), _duplication(3)),
    ("elimination", jb.Elimination(3), _elimination(3)),
    ("selection", jb.Selection([2, 0, 0, -1], 3), np.eye(4)[[2, 0, 0, 3], :3]),
    ("transposed selection", jb.Selection([2, 0, 0, -1], 3).T, np.eye(4)[[2, 0, 0, 3], :3].T),
    ("permutation", jb.Selection([2, 0, 1], 3), np.eye(3)[[2, 0, 1]]),
    ("product", jb.Product([_A, _C]), _A @ _C),
    (
        "sum",
        jb.Matrix(_A) + _A[:, ::-1] + jb.Product([_A[:, :1], _C[:1, :3]]),
        _A + _A[:, ::-1] + _A[:, :1] @ _C[:1, :3],
    ),
    ("identity plus diagonal", jb.Identity(4) + jb.Diagonal(_d), np.eye(4) + np.diag(_d)),
    ("difference, scaled", 3 * (jb.Matrix(_B) - 2 * jb.Matrix(_B[::-1])), 3 * (_B - 2 * _B[::-1])),
    ("chosen rows and columns", jb.Matrix(_B)[[3, 0], 1:], _B[[3, 0], 1:]),
    (
        "substitution in a graph with shared nodes",
        jb.Substitution(
            [[(0, _C)], [(0, _A.T[:, :1] @ _C[:1]), (1, np.eye(3))], [(1, _A), (2, 2 * _A)]]
        ),
        _A @ _C + 2 * _A @ (_A.T[:, :1] @ _C[:1] + _C),
    ),
    (
        "product with structure",
        jb.Product([jb.Diagonal(_A[:, 0]), _A, jb.Identity(3), _C]),
        np.diag(_A[:, 0]) @ _A @ _C,
    ),
    ("product of one", jb.Product([jb.Matrix(_B)]), _B),
    ("blocks", jb.Blocks([_A, jb.Identity(2)]), np.hstack([_A, np.eye(2)])),
    ("column of blocks", jb.Blocks([[_A], [_C[:2, :3]]]), np.vstack([_A, _C[:2, :3]])),
    (
        "grid of blocks",
        jb.Blocks([[_A, jb.Identity(2)], [_C[:1, :3], _A[:1, :2]]]),
        np.block([[_A, np.eye(2)], [_C[:1, :3], _A[:1, :2]]]),
    ),
    ("stack", jb.Matrix(_stack), _stack),
    ("stack of diagonals", jb.Diagonal(_d_stack), _d_stack[:, :, None] * np.eye(3)),
    (
        "stack of low ranks",
        jb.DiagonalPlusLowRank(_d_stack, _stack[:, 0, :, None], _stack[:, 1, :, None]),
        _d_stack[:, :, None] * np.eye(3) + _stack[:, 0, :, None] * _stack[:, 1, None, :],
    ),
    (
        "stack of selections",
        jb.Selection([[2, 0], [1, 1], [0, -1]], 3),
        np.stack([np.eye(4)[rows, :3] for rows in ([2, 0], [1, 1], [0, 3])]),
    ),
    (
        "transposed stack of selections",
        jb.Selection([[2, 0], [1, 1], [0, -1]], 3).T,
        np.stack([np.eye(4)[rows, :3].T for rows in ([2, 0], [1, 1], [0, 3])]),
    ),
    (
        "blocks along the diagonal",
        jb.BlockDiagonal(jb.Matrix(_stack), 6, stacked=False),
        sum(np.kron(np.diag(np.eye(6)[i]), M) for i, M in enumerate(_stack)),
    ),
    (
        "diagonals along the diagonal, one of powers of two",
        jb.BlockDiagonal(jb.Diagonal([[1.0, 2.0], [3.0, 0.0]]), 2, stacked=False),
        np.diag([1.0, 2.0, 3.0, 0.0]),
    ),
    (
        "each block several times along the diagonal",
        jb.BlockDiagonal(jb.Kronecker(jb.Identity(2), jb.Matrix(_stack)), 3, stacked=True),
        np.stack(
            [sum(np.kron(np.diag(np.eye(6)[i]), M[i // 2]) for i in range(6)) for M in _pairs]
        ),
    ),
    (
        "product of blocks along the diagonal",
        jb.Product(
            [
                jb.Kronecker(jb.Identity(2), _A.T),
                jb.BlockDiagonal(jb.Matrix(_stack), 2, stacked=True),
                jb.Diagonal(np.arange(6.0)),
            ]
        ),
        np.stack(
            [
                (np.kron(np.diag([1, 0]), _A.T @ M) + np.kron(np.diag([0, 1]), _A.T @ N))
                @ np.diag(np.arange(6.0))
                for M, N in zip(_stack[::2], _stack[1::2], strict=True)
            ]
        ),
    ),
    (
        "stack of blocks along the diagonal",
        jb.BlockDiagonal(jb.Matrix(_stack), 2, stacked=True),
        np.stack(
            [
                np.kron(np.diag([1, 0]), M) + np.kron(np.diag([0, 1]), N)
                for M, N in zip(_stack[::2], _stack[1::2], strict=True)
            ]
        ),
    ),
    (
        "sum of a stack and a matrix",
        jb.Matrix(_stack) + _A,
        _stack + _A,
    ),
    (
        "stack in a product",
        jb.Product([jb.Matrix(_stack), jb.Diagonal(_d_stack), _C]),
        np.stack([M @ np.diag(d) @ _C for M, d in zip(_stack, _d_stack, strict=True)]),
    ),
    (
        "stack of rows ⊗ matrix",
        jb.Kronecker(_stack[:, :1], jb.Matrix(_B)),
        np.stack([np.kron(M[:1], _B) for M in _stack]),
    ),
    (
        "matrix ⊗ stack",
        jb.Kronecker(jb.Matrix(_B), jb.Matrix(_stack)),
        np.stack([np.kron(_B, M) for M in _stack]),
    ),
    (
        "stack beside a matrix",
        jb.Blocks([jb.Matrix(_stack), jb.Matrix(_A)]),
        np.stack([np.hstack([M, _A]) for M in _stack]),
    ),
    (
        "stack above a matrix",
        jb.Blocks([[jb.Matrix(_stack)], [jb.Matrix(_A)]]),
        np.stack([np.vstack([M, _A]) for M in _stack]),
    ),
]

# --- networks: every activation, every layer, every shape of chain --------------------------------


def dense(widths, activation, output_activation="identity", seed=0, dtype=np.float64):
    return jb.Network.random(widths, activation, output_activation, seed=seed, dtype=dtype)


def _mixed():
    rng = np.random.default_rng(7)
    return jb.Network(
        [
            jb.Scale(rng.normal(size=5), rng.normal(size=5)),
            jb.Dense(rng.normal(size=(3, 5)), rng.normal(size=3)),
            jb.Elementwise("sin"),
            jb.Elementwise("softmax"),
            jb.Scale(rng.normal(size=3)),
            jb.Dense(rng.normal(size=(4, 3)), rng.normal(size=4), "gelu"),
            jb.Elementwise("tanh"),
        ]
    )


def _layers(seed):
    """Draw dense layers that are easy to write: ``layer(m, n, activation)``."""
    rng = np.random.default_rng(seed)

    def layer(m, n, activation="identity"):
        return jb.Dense(rng.normal(size=(m, n)) / np.sqrt(n), rng.normal(size=m) / 4, activation)

    return rng, layer


def _residual():
    _, layer = _layers(11)
    nested = jb.Residual([layer(7, 5, "relu"), jb.Residual([layer(7, 7, "sin")]), layer(5, 7)])
    return jb.Network(
        [layer(5, 4, "tanh"), nested, jb.Residual([layer(5, 5, "silu")]), layer(2, 5)]
    )


def _parallel():
    _, layer = _layers(12)
    return jb.Network(
        [
            layer(6, 4, "tanh"),
            jb.Parallel([layer(3, 6, "sigmoid"), [], [layer(2, 6), jb.Elementwise("sin")]]),
            layer(5, 11, "softmax"),
        ]
    )


def _shared_nodes():
    """Branches that share nodes: no sum of separate products."""
    _, layer = _layers(13)
    return jb.Network.graph(
        {
            "a": (layer(5, 4, "tanh"), "x"),
            "b": (layer(6, 5, "relu"), "a"),
            "c": (jb.Concatenate(), "x", "a"),
            "d": (jb.Concatenate(), "c", "b"),
            "e": (layer(5, 15, "softplus"), "d"),
            "f": (jb.Multiply(), "e", "a", "e"),
            "y": (layer(3, 5), "f"),
        },
        inputs={"x": 4},
    )


def _several_inputs_and_outputs():
    _, layer = _layers(14)
    return jb.Network.graph(
        {
            "gate": (layer(3, 2, "sigmoid"), "control"),
            "state": (layer(3, 4, "tanh"), "image"),
            "mixed": (jb.Multiply(), "gate", "state"),
            "y": (layer(2, 3), "mixed"),
        },
        inputs={"control": 2, "image": (2, 2)},
        outputs=["y", "gate"],
    )


def _norms():
    rng, layer = _layers(15)
    return jb.Network(
        [
            layer(6, 4, "tanh"),
            jb.LayerNorm(rng.normal(size=6), rng.normal(size=6)),
            jb.Residual([layer(5, 6, "gelu"), jb.RMSNorm(rng.normal(size=5)), layer(6, 5)]),
            layer(3, 6),
        ]
    )


def attention(tokens=3, width=4, heads=1, seed=16):
    """A self-attention block on tokens of some width: scores, softmax over keys, mixtures."""
    rng, layer = _layers(seed)
    size = width // heads
    split = (jb.Reshape((tokens, heads, size)), jb.Permute((1, 0, 2)))
    joined = (jb.Permute((1, 0, 2)), jb.Reshape((tokens, width)))

    def part(name):
        first = {f"{name}0": (layer(width, width), "x"), f"{name}1": (split[0], f"{name}0")}
        return {**first, name: (split[1], f"{name}1")}

    return jb.Network.graph(
        {
            **part("q"),
            **part("k"),
            **part("v"),
            "scores": (jb.MatrixProduct(transpose_second=True), "q", "k"),
            "weights": (jb.Elementwise("softmax", axis=-1), "scores"),
            "mixed": (jb.MatrixProduct(), "weights", "v"),
            "joined0": (joined[0], "mixed"),
            "joined": (joined[1], "joined0"),
            "out": (layer(width, width), "joined"),
            "sum": (jb.Add(), "x", "out"),
            "y": (jb.LayerNorm(rng.normal(size=width), rng.normal(size=width)), "sum"),
        },
        inputs={"x": (tokens, width)},
    )


def _shaping():
    _, layer = _layers(17)
    return jb.Network(
        [
            jb.Slice(0, None, 2, axis=-1),
            jb.Pad(((0, 1), (1, 0))),
            jb.Permute((1, 0)),
            layer(5, 3, "softmax"),
            jb.Elementwise("log_softmax", axis=0),
            jb.Gather([0, 3, 3, 11, -1]),
            jb.Reshape((5, 1)),
            layer(2, 1, "tanh"),
            layer(3, 10),
        ],
        inputs=(2, 5),
    )


def _convolutions():
    rng, layer = _layers(18)
    kernel = lambda *shape: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))  # noqa: E731
    return jb.Network(
        [
            jb.Convolution(kernel(4, 1, 3, 2), rng.normal(size=4), "relu", padding=1, groups=2),
            jb.MaxPool((2, 3), stride=(2, 1)),
            jb.Convolution(kernel(3, 4, 1, 2), rng.normal(size=3), "softmax", dilation=(1, 2)),
            jb.Residual([jb.AveragePool((3, 1), stride=1, padding=((1, 1), 0))]),
            jb.TransposedConvolution(kernel(3, 2, 2, 2), [0.5, -1.0], "tanh", stride=2),
            layer(3, 48),
        ],
        inputs=(2, 5, 6),
    )


def _one_axis_and_three():
    rng, layer = _layers(19)
    return jb.Network(
        [
            jb.Convolution(rng.normal(size=(4, 2, 3)), None, "tanh", stride=2, padding=((2, 0),)),
            jb.AveragePool(2, padding=1, count_padding=False),
            jb.Reshape((1, 2, 1, 6)),
            jb.Convolution(rng.normal(size=(2, 1, 2, 1, 3)) / 2, activation="silu"),
            jb.MaxPool((1, 1, 2), stride=1),
            layer(2, 6),
        ],
        inputs=(2, 7),
    )


NETWORKS = {
    **{
        f"{name} hidden": dense([4, 6, 3], name)
        for name in jb.activations.NAMES
        if name not in ("softmax", "log_softmax", "sqrt", "log")
    },
    "softmax output": dense([5, 7, 4], "tanh", "softmax"),
    "log_softmax output": dense([5, 7, 4], "relu", "log_softmax"),
    "softmax hidden": dense([5, 7, 4], "softmax"),
    "one of everything": dense([1, 1, 1], "tanh", "sigmoid"),
    "a unit wide in the middle": dense([5, 1, 4], "sigmoid"),
    "one layer": dense([3, 2], "tanh", "softplus"),
    "linear": dense([3, 5, 2], "identity"),
    "square": dense([4, 4, 4], "tanh", "tanh"),
    "deep": dense([3, 5, 4, 6, 2, 7, 3], "silu"),
    "bottleneck": dense([9, 6, 2, 7, 8], "relu"),
    "float32": dense([6, 5, 3], "tanh", "softmax", dtype=np.float32),
    "float32, more outputs than inputs": dense([2, 5, 7], "sigmoid", dtype=np.float32),
    "scales and elementwise layers": _mixed(),
    "residual blocks, nested": _residual(),
    "parallel branches": _parallel(),
    "branches that share nodes": _shared_nodes(),
    "several inputs and outputs": _several_inputs_and_outputs(),
    "norms": _norms(),
    "norms, float32": _norms().astype(np.float32),
    "attention": attention(),
    "attention with heads": attention(4, 6, 2),
    "shaping": _shaping(),
    "convolutions and pools": _convolutions(),
    "convolutions along one axis and three": _one_axis_and_three(),
}


def points(net, count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, net.widths[0])).astype(net.dtype)
