"""The contestants: for a network and points, a callable per task that returns a NumPy array.

A peer that is not installed, or has no such task, is left out.  Compiling and tracing happen before
the clock starts; each peer gets its arrays in its own form beforehand.
"""

from __future__ import annotations

import importlib.util

import numpy as np

import jacobians as jb


def installed(name):
    return importlib.util.find_spec(name) is not None


def dense_layers(net):
    """Return the dense layers, and which of them begin and end a residual block."""
    layers = [layer for layer in net.layers if isinstance(layer, jb.Dense)]
    if net.is_path:
        return layers, ((), ())
    return layers, (range(1, len(layers) - 1, 2), range(2, len(layers) - 1, 2))


def ours(net, X, tangents, cotangents, Y):
    return {
        "jacobian": lambda: jb.jacobian(net, X),
        "jvp": lambda: jb.jvp(net, X, tangents),
        "vjp": lambda: jb.vjp(net, X, cotangents),
        "gradients": lambda: jb.backprop.gradients(net, X, Y, jb.SquaredError()).vector,
    }


def jax_peer(net, X, tangents, cotangents, Y):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    sigma = {
        "identity": lambda z: z,
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "softmax": jax.nn.softmax,
    }
    layers, back = dense_layers(net)
    names = [layer.activation.name for layer in layers]
    parameters = [(jnp.asarray(layer.W), jnp.asarray(layer.b)) for layer in layers]

    def forward(parameters, x):
        before = x
        for k, ((W, b), name) in enumerate(zip(parameters, names, strict=True)):
            before = x if k in back[0] else before
            x = sigma[name](W @ x + b)
            x = x + before if k in back[1] else x
        return x

    def batched(f, *axes):
        return jax.jit(jax.vmap(f, axes) if X.ndim == 2 else f)

    def loss(parameters, X, Y):
        output = jax.vmap(forward, (None, 0))(parameters, X)
        return 0.5 * ((output - Y) ** 2).sum(axis=1).mean()

    x, v, c = (jnp.asarray(a) for a in (X, tangents, cotangents))
    y = jnp.asarray(Y)
    reverse = batched(jax.jacrev(forward, argnums=1), None, 0)
    forward_mode = batched(jax.jacfwd(forward, argnums=1), None, 0)
    jvp = batched(lambda p, x, v: jax.jvp(lambda x: forward(p, x), (x,), (v,))[1], None, 0, 0)
    vjp = batched(lambda p, x, c: jax.vjp(lambda x: forward(p, x), x)[1](c)[0], None, 0, 0)
    gradient = jax.jit(jax.grad(loss))

    def flat(tree):
        return np.concatenate([part for W, b in tree for part in (np.asarray(W).T.ravel(), b)])

    tasks = {
        "jacobian reverse": lambda: np.asarray(reverse(parameters, x)),
        "jacobian forward": lambda: np.asarray(forward_mode(parameters, x)),
        "jvp": lambda: np.asarray(jvp(parameters, x, v)),
        "vjp": lambda: np.asarray(vjp(parameters, x, c)),
    }
    if X.ndim == 2:
        tasks["gradients"] = lambda: flat(jax.block_until_ready(gradient(parameters, x, y)))
    return tasks


def torch_peer(net, X, tangents, cotangents, Y):
    import torch
    from torch.func import jacfwd, jacrev, vmap
    from torch.func import jvp as torch_jvp
    from torch.func import vjp as torch_vjp

    sigma = {
        "identity": lambda z: z,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softmax": lambda z: torch.softmax(z, -1),
    }
    layers, back = dense_layers(net)
    names = [layer.activation.name for layer in layers]
    as_tensor = lambda a: torch.from_numpy(np.array(a))  # noqa: E731
    parameters = [(as_tensor(layer.W), as_tensor(layer.b)) for layer in layers]

    def forward(x):
        before = x
        for k, ((W, b), name) in enumerate(zip(parameters, names, strict=True)):
            before = x if k in back[0] else before
            x = sigma[name](torch.nn.functional.linear(x, W, b))
            x = x + before if k in back[1] else x
        return x

    x, v, c, y = (as_tensor(a) for a in (X, tangents, cotangents, Y))
    lift = (lambda f: vmap(f)) if X.ndim == 2 else (lambda f: f)
    reverse, forward_mode = lift(jacrev(forward)), lift(jacfwd(forward))

    def gradients():
        leaves = [t.detach().requires_grad_() for pair in parameters for t in pair]
        a = x
        for k, name in enumerate(names):
            a = sigma[name](torch.nn.functional.linear(a, leaves[2 * k], leaves[2 * k + 1]))
        (0.5 * ((a - y) ** 2).sum(dim=1).mean()).backward()
        return np.concatenate([t.grad.T.reshape(-1).numpy() for t in leaves])

    def vjp():
        a = x.detach().requires_grad_()
        forward(a).backward(c)
        return a.grad.numpy()

    tasks = {
        "jacobian reverse": lambda: reverse(x).detach().numpy(),
        "jacobian forward": lambda: forward_mode(x).detach().numpy(),
        "jvp": lambda: torch_jvp(forward, (x,), (v,))[1].numpy(),
        "vjp": vjp,
        "vjp functional": lambda: torch_vjp(forward, x)[1](c)[0].numpy(),
    }
    if X.ndim == 2:
        tasks["gradients"] = gradients
    return tasks


def neuralsens_peer(net, X, tangents, cotangents, Y):
    import pandas as pd
    from neuralsens.partial_derivatives import calculate_first_partial_derivatives_mlp

    weights, biases = [layer.W.T for layer in net.layers], [layer.b for layer in net.layers]
    names = ["identity", *(layer.activation.name for layer in net.layers)]
    frame = pd.DataFrame(X)

    def jacobian():
        *_, D, counter, _ = calculate_first_partial_derivatives_mlp(
            weights, biases, names, frame, "cpu", 0, len(names), True, False, False
        )
        return np.swapaxes(np.asarray(D[counter]), 1, 2)

    return {"jacobian": jacobian}


def autograd_peer(net, X, tangents, cotangents, Y):
    import autograd.numpy as anp
    from autograd import elementwise_grad

    sigma = {
        "identity": lambda z: z,
        "tanh": anp.tanh,
        "relu": lambda z: anp.maximum(z, 0),
        "softmax": lambda z: anp.exp(z) / anp.sum(anp.exp(z), axis=-1, keepdims=True),
    }

    def forward(x):
        for layer in net.layers:
            x = sigma[layer.activation.name](anp.dot(x, layer.W.T) + layer.b)
        return x

    # points do not meet in the network, so one sweep per output gives a row for every point
    rows = [elementwise_grad(lambda x, i=i: forward(x)[..., i]) for i in range(net.widths[-1])]
    return {"jacobian": lambda: np.stack([row(X) for row in rows], axis=-2)}


PEERS = {
    "JAX": ("jax", jax_peer),
    "PyTorch": ("torch", torch_peer),
    "autograd": ("autograd", autograd_peer),
    "NeuralSens": ("neuralsens", neuralsens_peer),
}
