"""Where does a transformer block make one token depend on another?

A block of two residual branches on four tokens: self-attention, and a small network on every token.
Its derivative is a matrix of 4 x 4 blocks, one for each token that comes out and each that goes in.
Attention is the only place that fills it; a causal mask empties the half above the diagonal.
"""

import numpy as np

import jacobians as jb

tokens, width, heads, hidden = 4, 6, 2, 8
size = width // heads
rng = np.random.default_rng(0)


def dense(m, n, activation="identity"):
    return jb.Dense(rng.normal(size=(m, n)) / np.sqrt(n), rng.normal(size=m) / 4, activation)


def norm():
    return jb.LayerNorm(rng.normal(1, 0.1, width), rng.normal(0, 0.1, width))


# Queries, keys and values are dense layers on every token; a head sees its part of their columns.
# Scores are scaled, and masked where asked for: a shift of -1e4 leaves a weight of exactly 0.


def block(causal):
    def heads_of(name):
        return {
            f"{name}_of_token": (dense(width, width), "normed"),
            f"{name}_parts": (jb.Reshape((tokens, heads, size)), f"{name}_of_token"),
            name: (jb.Permute((1, 0, 2)), f"{name}_parts"),
        }

    mask = -1e4 * np.triu(np.ones((tokens, tokens)), 1) if causal else np.zeros((tokens, tokens))
    every = np.tile(mask.ravel(), heads)
    nodes = {
        "normed": (norm(), "x"),
        **heads_of("query"),
        **heads_of("key"),
        **heads_of("value"),
        "products": (jb.MatrixProduct(transpose_second=True), "query", "key"),
        "scores": (jb.Scale(np.full(every.size, size**-0.5), every), "products"),
        "weights": (jb.Elementwise("softmax", axis=-1), "scores"),
        "mixed": (jb.MatrixProduct(), "weights", "value"),
        "tokens_first": (jb.Permute((1, 0, 2)), "mixed"),
        "joined": (jb.Reshape((tokens, width)), "tokens_first"),
        "attention": (dense(width, width), "joined"),
        "middle": (jb.Add(), "x", "attention"),
        "y": (jb.Residual([norm(), dense(hidden, width, "gelu"), dense(width, hidden)]), "middle"),
    }
    return jb.Network.graph(nodes, inputs={"x": (tokens, width)})


def blocks(J):
    return np.linalg.norm(J.reshape(tokens, width, tokens, width), axis=(1, 3))


x = rng.normal(size=tokens * width)
for causal in (False, True):
    net = block(causal)
    J = jb.jacobian(net, x)
    print(f"{'causal' if causal else 'every'} token sees:\n{blocks(J).round(2)}\n")
    upper = np.triu(np.ones((tokens, tokens), bool), 1)
    assert (blocks(J)[upper] == 0).all() if causal else (blocks(J) > 0).all()
    assert jb.certify(net, x).holds  # explicit, maps, backprop and engine agree within the bound

# The branch of every token on its own is a block diagonal: da^y/da^middle.  So the whole derivative
# is that times attention's, in which the identity is the skip connection.

lin = jb.linearize(net, x)
of_token = lin.jacobian(of="y", wrt="middle")
assert (blocks(of_token)[~np.eye(tokens, dtype=bool)] == 0).all()
print("the factors:", ", ".join(str(A) for A in lin.factors if not isinstance(A, jb.Identity)))

# The mixture of values is  Z = P V,  so  dvec(Zᵀ) = (I ⊗ Vᵀ) dvec(Pᵀ) + (P ⊗ I) dvec(Vᵀ).  On whole
# numbers, without softmax, the identity holds to the last bit, and so does everything above it.

P, V = rng.integers(-3, 4, (tokens, tokens)), rng.integers(-3, 4, (tokens, width))
mixture = jb.Network.graph(
    {"Z": (jb.MatrixProduct(), "P", "V")}, inputs={"P": P.shape, "V": V.shape}
)
J = jb.jacobian(mixture, np.concatenate([P.ravel(), V.ravel()]))
assert np.array_equal(J, np.hstack([np.kron(np.eye(tokens), V.T), np.kron(P, np.eye(width))]))
print(f"dZ/d(P, V) = (I ⊗ Vᵀ, P ⊗ I), exactly: {J.shape[0]} x {J.shape[1]}")
