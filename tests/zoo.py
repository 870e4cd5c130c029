"""The zoo: one list of maps with dense twins, one of networks; every law meets every animal.

Dimensions are pairwise different where the kind allows it, values are not symmetric, some layers
have one unit.  A new map or layer costs one line here.
"""

import numpy as np

import jacobians as jb

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


MAPS = [
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
    (
        "kronecker of kroneckers",
        jb.Kronecker(jb.Kronecker(_A, jb.Identity(2)), jb.Diagonal(_d)),
        np.kron(np.kron(_A, np.eye(2)), np.diag(_d)),
    ),
    ("commutation", jb.Commutation(2, 3), _commutation(2, 3)),
    ("commutation of a row", jb.Commutation(1, 4), np.eye(4)),
    ("duplication", jb.Duplication(3), _duplication(3)),
    ("elimination", jb.Elimination(3), _elimination(3)),
    ("product", jb.Product([_A, _C]), _A @ _C),
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


NETWORKS = {
    **{
        f"{name} hidden": dense([4, 6, 3], name)
        for name in jb.activations.NAMES
        if name not in ("softmax", "log_softmax")
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
}


def points(net, count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, net.widths[0])).astype(net.dtype)
