"""Curvature and variances against curvlinops, BackPACK and laplace-torch, in one run.

    pip install curvlinops-for-pytorch backpack-for-pytorch laplace-torch
    python tests/benchmarks/bench_curvature.py
    python tests/benchmarks/bench_curvature.py --dtypes float64 --rounds 5

Products with the Gauss-Newton matrix of the mean loss, its diagonal, and the variances of 64
predictions under the posteriors of Laplace's method.  A product is asked for at new parameters each
time (``product``), or again at the same (``again``), as an eigensolver does.  Answers are compared
before anything is timed, and a difference is printed: laplace-torch takes the Kronecker factors of
weights and biases apart, so that its posterior is another one.  Peers that are not installed are
left out.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bench_jacobians import race
from peers import installed

import jacobians as jb

LINES = (  # widths, points, softmax
    ([64, 32, 10], 360, True),
    ([13, 100, 100, 1], 1000, False),
    ([100, 200, 200, 10], 1000, True),
    ([784, 512, 256, 10], 256, True),
)
POSTERIORS = (([13, 20, 20, 1], 500), ([10, 50, 3], 300), ([64, 100, 100, 2], 100))
STRUCTURES = {  # ours: (its hessian_structure, its subset_of_weights)
    "full": ("full", "all"),
    "last_layer": ("full", "last_layer"),
    "diagonal": ("diag", "all"),
    "kronecker": ("kron", "all"),
}


def in_torch(net):
    """Return the network up to its softmax as a torch module."""
    import torch

    parts = []
    for layer in net.layers:
        linear = torch.nn.Linear(*layer.W.shape[::-1], dtype=torch.from_numpy(layer.W + 0).dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.W + 0))
            linear.bias.copy_(torch.from_numpy(layer.b + 0))
        parts += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*parts[:-1])


def order_of_torch(net):
    """Return where every parameter of torch, row by row, stands in our vector."""
    places, start = [], 0
    for layer in net.layers:
        m, n = layer.W.shape
        places.append(start + np.arange(m * n).reshape(n, m).T.ravel())
        places.append(start + m * n + np.arange(m))
        start += m * n + m
    return np.concatenate(places)


def gauss_newton(net, X, Y, loss, v):
    """Return the contestants for products and diagonals, each as it is meant to be used."""
    import torch
    from torch import nn

    model, order = in_torch(net), order_of_torch(net)
    x = torch.from_numpy(X)
    if isinstance(loss, jb.CrossEntropy):
        y, theirs = torch.from_numpy(Y), nn.CrossEntropyLoss()
    else:  # half the sum of squares of a point, where torch takes the mean over entries
        y, theirs = torch.from_numpy(Y * np.sqrt(Y.shape[1] / 2)), nn.MSELoss()
        with torch.no_grad():
            model[-1].weight *= np.sqrt(Y.shape[1] / 2)
            model[-1].bias *= np.sqrt(Y.shape[1] / 2)
    scale = np.ones(len(v), v.dtype)  # of our derivatives by the parameters of torch's model
    if not isinstance(loss, jb.CrossEntropy):
        scale[-net.layers[-1].W.size - net.layers[-1].b.size :] = np.sqrt(Y.shape[1] / 2)
    parameters = list(model.parameters())
    u = torch.from_numpy((v * scale)[order])
    pieces = [
        p.reshape(q.shape)
        for p, q in zip(u.split([p.numel() for p in parameters]), parameters, strict=True)
    ]

    def back(product):
        result = np.empty_like(v)
        result[order] = torch.cat([p.detach().reshape(-1) for p in product]).numpy()
        return result * scale

    def ours():
        return jb.curvature(net, X, Y, loss).gauss_newton

    kept = ours()
    products = {"jacobians": lambda: ours() @ v}
    again = {"jacobians": lambda: kept @ v}
    diagonals = {"jacobians": lambda: ours().diagonal()}
    if installed("curvlinops"):
        from curvlinops import GGNLinearOperator

        def operator():
            data = [(x, y)]
            return GGNLinearOperator(model, theirs, parameters, data, check_deterministic=False)

        G = operator()
        products["curvlinops"] = lambda: back([operator() @ u])
        again["curvlinops"] = lambda: back([G @ u])
    if installed("backpack"):
        from backpack import backpack, extend
        from backpack.extensions import DiagGGNExact
        from backpack.hessianfree.ggnvp import ggn_vector_product

        def product():
            output = model(x)
            return back(ggn_vector_product(theirs(output, y), output, model, pieces))

        extended, end = extend(in_torch(net)), extend(type(theirs)())
        extended.load_state_dict(model.state_dict())

        def diagonal():
            extended.zero_grad()
            with backpack(DiagGGNExact()):
                end(extended(x), y).backward()
            return back([p.diag_ggn_exact for p in extended.parameters()]) * scale

        products["BackPACK"] = again["BackPACK"] = product
        diagonals["BackPACK"] = diagonal
    return {"product": products, "again": again, "diagonal": diagonals}


def variances(net, X, Y, Z, structure, noise=0.5, tau=2.0):
    """Return contestants for fitting a posterior and for the variances under it."""
    import torch
    from laplace import Laplace
    from laplace.curvature import BackPackGGN, CurvlinopsGGN

    torch.set_default_dtype(torch.float64)  # in which it keeps its precisions
    model = in_torch(net)
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=len(X))
    kind, subset = STRUCTURES[structure]
    z = torch.from_numpy(Z)

    def fit():
        posterior = Laplace(
            model,
            "regression",
            subset_of_weights=subset,
            hessian_structure=kind,
            sigma_noise=noise,
            prior_precision=tau,
            backend=BackPackGGN if kind == "diag" else CurvlinopsGGN,
        )
        posterior.fit(loader)
        return posterior

    def ours():
        return jb.laplace(net, X, Y, jb.SquaredError(), structure, prior_precision=tau, noise=noise)

    fitted, mine = fit(), ours()

    def theirs():
        return fitted(z, pred_type="glm")[1].diagonal(dim1=1, dim2=2).detach().numpy()

    return {
        "fit": {
            "jacobians": lambda: ours().variance(Z),
            "laplace-torch": lambda: (fit(), theirs())[1],
        },
        "variance": {"jacobians": lambda: mine.variance(Z), "laplace-torch": theirs},
    }


def agree(contestants, dtype):
    """Compare all answers with ours: rounding of sums of some thousand products."""
    reference = contestants["jacobians"]()
    for name, call in contestants.items():
        gap = np.abs(call() - reference).max() / np.abs(reference).max()
        if gap > 1e5 * np.finfo(dtype).eps:
            return f"{name} differs by {gap:.1e}"
    return ""


def show(title, contestants, dtype, rounds):
    gap = agree(contestants, dtype)
    times = race(contestants, rounds)
    ours = times["jacobians"]
    shown = [f"{name} {t:.3f} ms ({t / ours:.2f})" for name, t in times.items()]
    print(title, dtype.name, *shown, gap, sep="  ", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
    rng = np.random.default_rng(0)
    for dtype in map(np.dtype, options.dtypes):
        for widths, count, softmax in LINES:
            end = "softmax" if softmax else "identity"
            net = jb.Network.random(widths, "tanh", end, seed=0, dtype=dtype)
            X = rng.standard_normal((count, widths[0])).astype(dtype)
            Y = rng.integers(0, widths[-1], count) if softmax else net(X)
            loss = jb.CrossEntropy() if softmax else jb.SquaredError()
            v = rng.standard_normal(net.parameter_count).astype(dtype)
            for task, contestants in gauss_newton(net, X, Y, loss, v).items():
                where = f"{'-'.join(map(str, widths))}, {count} points, {task}"
                show(where, contestants, dtype, options.rounds)
    for widths, count in POSTERIORS if installed("laplace") else ():
        net = jb.Network.random(widths, "tanh", seed=0)
        X, Z = rng.standard_normal((count, widths[0])), rng.standard_normal((64, widths[0]))
        for structure in STRUCTURES:
            for task, contestants in variances(net, X, net(X), Z, structure).items():
                where = f"{'-'.join(map(str, widths))}, {count} points, {structure}, {task}"
                show(where, contestants, np.dtype(float), options.rounds)


if __name__ == "__main__":
    main()
