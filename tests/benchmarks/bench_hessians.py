"""Hessians by the inputs, against JAX, PyTorch and NeuralSens, in one run.

    python tests/benchmarks/bench_hessians.py
    python tests/benchmarks/bench_hessians.py --dtypes float64 --rounds 5

Peers: ``jax.hessian`` (``jit`` of ``vmap``, forward over reverse; compiling is not counted),
``torch.func.hessian`` (``vmap``), and NeuralSens 0.0.26, which is asked on small networks only: at
hidden layers of width 100 it takes more than 20 GB for 1,000 points.  A peer that raises is named
with its error, as NeuralSens does for tanh.  Both paths of the library run, with the compiled
kernel and in NumPy alone.  Before anything is timed all answers must agree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bench_jacobians import PLAIN, race, require_agreement
from peers import installed

import jacobians as jb
from jacobians.second_order import hessians

LINES = (
    ([13, 100, 100, 1], "tanh", 1000),
    ([13, 100, 100, 1], "sigmoid", 1000),
    ([20, 64, 64, 3], "tanh", 1000),
    ([4, 16, 16, 2], "sigmoid", 100),
    ([4, 16, 16, 2], "tanh", None),
)
SMALL = {"neuralsens": 20}  # the largest width for which a peer is asked


def in_numpy(net, X):
    """Compute without the compiled kernel."""
    kept = hessians.fill_in, hessians.at_a_point
    hessians.fill_in, hessians.at_a_point = lambda *_: False, lambda *_: None
    try:
        return jb.hessian(net, X)
    finally:
        hessians.fill_in, hessians.at_a_point = kept


def forward(parameters, sigma):
    """Return the network as a function of a point, of whichever library."""

    def network(x):
        for W, b in parameters[:-1]:
            x = sigma(W @ x + b)
        W, b = parameters[-1]
        return W @ x + b

    return network


def name_of(net):
    return net.layers[0].activation.name


def jax_peer(net, X):
    import jax

    jax.config.update("jax_enable_x64", True)
    parameters = [(jax.numpy.asarray(layer.W), jax.numpy.asarray(layer.b)) for layer in net.layers]
    one = jax.hessian(forward(parameters, getattr(jax.nn, name_of(net))))
    compiled, x = jax.jit(jax.vmap(one) if X.ndim == 2 else one), jax.numpy.asarray(X)
    return lambda: np.asarray(compiled(x))


def torch_peer(net, X):
    import torch

    parameters = [
        [torch.from_numpy(np.array(A)) for A in (layer.W, layer.b)] for layer in net.layers
    ]
    one = torch.func.hessian(forward(parameters, getattr(torch, name_of(net))))
    batched, x = torch.func.vmap(one) if X.ndim == 2 else one, torch.from_numpy(X)
    return lambda: batched(x).numpy()


def neuralsens_peer(net, X):
    import pandas as pd
    from neuralsens.partial_derivatives import calculate_second_partial_derivatives_mlp

    weights, biases = [layer.W.T for layer in net.layers], [layer.b for layer in net.layers]
    names = ["identity", *(layer.activation.name for layer in net.layers)]
    frame = pd.DataFrame(X)

    def hessians():
        *_, H, last, _ = calculate_second_partial_derivatives_mlp(weights, biases, names, frame)
        return np.moveaxis(np.asarray(H[last]), 3, 1)

    return hessians


PEERS = {"jax": jax_peer, "torch": torch_peer, "neuralsens": neuralsens_peer}


def contestants(net, X):
    entrants = {"jacobians": lambda: jb.hessian(net, X), PLAIN: lambda: in_numpy(net, X)}
    for name, peer in PEERS.items():
        if installed(name) and max(net.widths) <= SMALL.get(name, max(net.widths)):
            entrants[name] = peer(net, X)
            try:
                entrants[name]()
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}"[:100])
                del entrants[name]
    return entrants


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for widths, sigma, batch in LINES:
        for dtype in map(np.dtype, options.dtypes):
            net = jb.Network.random(widths, sigma, seed=0, dtype=dtype)
            shape = (batch, widths[0]) if batch else widths[0]
            X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
            calls = contestants(net, X)
            require_agreement(calls, dtype)
            times = race(calls, options.rounds)
            ours = times["jacobians"]
            shown = [f"{name} {t:.3f} ms ({t / ours:.2f})" for name, t in times.items()]
            where = f"{batch} points" if batch else "a point"
            print(
                "-".join(map(str, widths)), sigma, where, dtype.name, *shown, sep="  ", flush=True
            )


if __name__ == "__main__":
    main()
