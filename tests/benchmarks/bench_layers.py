"""Jacobians of networks with axes of their own, against JAX and PyTorch, in one run.

    python tests/benchmarks/bench_layers.py
    python tests/benchmarks/bench_layers.py --dtypes float64 --rounds 5

An image classifier (two convolutions, two pools, two dense layers) and a transformer block.  The
peers run the same nodes, one function of theirs for each layer of ours.  Last, a user's own layer
with a structured map against the same factors as layers of the library.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bench_jacobians import race, require_agreement
from peers import installed

import jacobians as jb
from jacobians.linearization import layer_map


def classifier():
    """28 x 28 pixels, 10 classes."""
    weights = _weights()
    return jb.Network(
        [
            jb.Convolution(weights(8, 1, 3, 3), weights(8), "relu", padding=1),
            jb.MaxPool(2),
            jb.Convolution(weights(16, 8, 3, 3), weights(16), "relu", padding=1),
            jb.MaxPool(2),
            jb.Dense(weights(64, 784), weights(64), "relu"),
            jb.Dense(weights(10, 64), weights(10)),
        ],
        inputs=(1, 28, 28),
    )


def transformer(tokens=16, width=32, heads=4):
    """Attention and a small network on every token, each with a norm before and a skip around."""
    weights, size = _weights(), width // heads
    dense = lambda m, n, sigma="identity": jb.Dense(weights(m, n), weights(m), sigma)  # noqa: E731
    norm = lambda: jb.LayerNorm(1 + weights(width), weights(width))  # noqa: E731
    nodes = {"normed": (norm(), "x")}
    for name in "qkv":
        nodes[f"{name}0"] = (dense(width, width), "normed")
        nodes[f"{name}1"] = (jb.Reshape((tokens, heads, size)), f"{name}0")
        nodes[name] = (jb.Permute((1, 0, 2)), f"{name}1")
    nodes |= {
        "scores": (jb.MatrixProduct(transpose_second=True), "q", "k"),
        "weights": (jb.Elementwise("softmax", axis=-1), "scores"),
        "mixed": (jb.MatrixProduct(), "weights", "v"),
        "turned": (jb.Permute((1, 0, 2)), "mixed"),
        "joined": (jb.Reshape((tokens, width)), "turned"),
        "attention": (dense(width, width), "joined"),
        "sum": (jb.Add(), "x", "attention"),
        "y": (
            jb.Residual([norm(), dense(2 * width, width, "relu"), dense(width, 2 * width)]),
            "sum",
        ),
    }
    return jb.Network.graph(nodes, inputs={"x": (tokens, width)})


@dataclass(frozen=True, eq=False)
class Bottleneck(jb.Layer):
    """A user's layer, ``z = U V a``, whose rule gives the two factors."""

    U: np.ndarray
    V: np.ndarray

    def output_width(self, inputs):
        return len(self.U)

    def preactivation(self, a):
        return a @ self.V.T @ self.U.T


@layer_map.register
def _(layer: Bottleneck, a):
    return jb.Product([layer.U, layer.V])


def own_layers():
    """Return a network with a layer of one's own, and the same without."""
    weights = _weights()
    W, U, V, last = weights(64, 64), weights(64, 8), weights(8, 64), weights(64, 64)
    first = jb.Dense(W, activation="tanh")
    own = [first, Bottleneck(U, V), jb.Elementwise("tanh"), jb.Dense(last)]
    plain = [first, jb.Dense(V), jb.Dense(U, activation="tanh"), jb.Dense(last)]
    return jb.Network(own), jb.Network(plain)


def _weights():
    rng = np.random.default_rng(0)
    return lambda *shape: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)


LINES = [
    ("1x28x28 classifier, 64", classifier, 64),
    ("1x28x28 classifier, a point", classifier, 0),
    ("transformer block 16 x 32, 4", transformer, 4),
    ("transformer block 16 x 32, a point", transformer, 0),
]


def forward(net, array, softmax, convolve, pool, relu):
    """Return the network as a function of one flat point, in the words of a peer."""
    every = [{k: array(v) for k, v in layer.arrays().items()} for layer in net.layers]
    sigma = {"identity": lambda z: z, "relu": relu, "softmax": softmax}

    def node(layer, p, *values):
        match layer:
            case jb.Dense():
                if values[0].shape[-1] != layer.W.shape[1]:
                    values = (values[0].reshape(-1),)
                return values[0] @ p["W"].T + p["b"]
            case jb.Convolution():
                return convolve(values[0], p["K"]) + p["b"][:, None, None]
            case jb.MaxPool():
                return pool(values[0])
            case jb.LayerNorm():
                centred = values[0] - values[0].mean(-1)[..., None]
                size = ((centred**2).mean(-1) + layer.epsilon) ** 0.5
                return p["scale"] * centred / size[..., None] + p["shift"]
            case jb.Reshape():
                return values[0].reshape(layer.new_shape)
            case jb.Permute():
                a, b = (i for i, axis in enumerate(layer.axes) if i != axis)
                return values[0].swapaxes(a, b)
            case jb.MatrixProduct():
                first, second = values
                return first @ (second.swapaxes(-1, -2) if layer.transpose_second else second)
            case jb.Add():
                return values[0] + values[1]
        return values[0]

    def run(x):
        values = [x.reshape(net.shapes[0])]
        for layer, p, sources in zip(net.layers, every, net.sources, strict=True):
            z = node(layer, p, *(values[s] for s in sources))
            values.append(sigma[layer.activation.name](z))
        return values[-1].reshape(-1)

    return run


def jax_peer(net, X):
    """Return JAX's reverse mode, compiled.

    Forward mode takes 17 times as long on the classifier; on the transformer in float32 its answer
    is off by a third (jax 0.10.2 on a CPU), where reverse mode, PyTorch and ours agree.
    """
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def convolve(x, K):
        return jax.lax.conv_general_dilated(x[None], K, (1, 1), ((1, 1), (1, 1)))[0]

    def pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2), (1, 2, 2), "VALID")

    f = forward(net, jnp.asarray, jax.nn.softmax, convolve, pool, jax.nn.relu)
    x = jnp.asarray(X)
    call = jax.jit(jax.vmap(jax.jacrev(f)) if X.ndim == 2 else jax.jacrev(f))
    return {"JAX reverse": lambda: np.asarray(call(x))}


def torch_peer(net, X):
    """Return PyTorch's ``vmap`` of ``jacrev``."""
    import torch
    from torch.nn import functional

    f = forward(
        net,
        lambda a: torch.from_numpy(np.array(a)),
        lambda z: torch.softmax(z, -1),
        lambda x, K: functional.conv2d(x[None], K, padding=1)[0],
        lambda x: functional.max_pool2d(x[None], 2)[0],
        torch.relu,
    )
    reverse, x = torch.func.jacrev(f), torch.from_numpy(X)
    call = torch.func.vmap(reverse) if X.ndim == 2 else reverse
    return {"PyTorch reverse": lambda: call(x).numpy()}


def main():
    """Parse the options and race."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", nargs="*", help="words that the name of a line must contain")
    options = parser.parse_args()
    for name, make, batch in LINES:
        if options.lines and not any(word in name for word in options.lines):
            continue
        for dtype in map(np.dtype, options.dtypes):
            net = make().astype(dtype)
            lead = (batch,) if batch else ()
            X = np.random.default_rng(1).standard_normal((*lead, net.widths[0])).astype(dtype)
            contestants = {"jacobians": lambda net=net, X=X: jb.jacobian(net, X)}
            contestants |= jax_peer(net, X) if installed("jax") else {}
            contestants |= torch_peer(net, X) if installed("torch") else {}
            require_agreement(contestants, dtype)
            times = race(contestants, options.rounds)
            mine = times.pop("jacobians")
            best = min(times, key=times.__getitem__)
            others = ", ".join(f"{who} {taken:.3g}" for who, taken in times.items())
            ratio = mine / times[best]
            print(
                f"{name:35} {dtype}  {mine:8.3g} ms, {ratio:.2f} of {best} ({others})", flush=True
            )
    for batch in (1, 64, 1000) if not options.lines or "own" in options.lines else ():
        X = np.random.default_rng(1).standard_normal((batch, 64))
        calls = {
            name: lambda net=net, X=X: jb.jacobian(net, X)
            for name, net in zip(("own", "plain"), own_layers(), strict=True)
        }
        times = race(calls, options.rounds)
        ratio = times["own"] / times["plain"]
        print(
            f"a user's layer, {batch:4} points  {times['own']:8.3g} ms, {ratio:.2f} of plain layers"
        )


if __name__ == "__main__":
    main()
