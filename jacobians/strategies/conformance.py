"""The conformance kit: somebody's backprop, or a layer's own rule, against every law."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jacobians._checks import Array, missing_extra
from jacobians.certificate import certify
from jacobians.diagnosis import diagnose
from jacobians.diagnosis.diagnosing import is_right
from jacobians.layers import Dense, Layer
from jacobians.linearization import layer_map
from jacobians.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from jacobians.network import Network
from jacobians.strategies.drawing import matrices, networks, vectors, widths
from jacobians.witness import check_jacobian

Signature = Literal["network", "lists", "pairs", "vector"]
_ARRAYS = {"torch": ("torch", "from_numpy"), "jax": ("jax.numpy", "asarray")}


def check_backprop(
    function: Callable[..., Any],
    *,
    loss: Loss | None = None,
    l2: float = 0.0,
    hidden: Sequence[str] = ("tanh", "relu", "sigmoid"),
    last: Sequence[str] | None = None,
    depth: int = 3,
    dtype: Any = np.float64,
    signature: Signature = "network",
    arrays: str | Callable[[Array], Any] | None = None,
    convention: str = "columns",
    examples: int = 100,
) -> None:
    """Check somebody's gradients on drawn networks; a failure is shrunk and diagnosed.

    Parameters
    ----------
    function : callable
        By ``signature``: ``function(net, X, Y)``; ``"lists"``: ``function(weights, biases, X, Y)``;
        ``"pairs"``: ``function([(W, b), ...], X, Y)``, as JAX users keep parameters; ``"vector"``:
        ``function(theta, X, Y)`` with theta in the order of ``Network.parameters``, on networks of
        one size.  It returns anything that ``jb.diagnose`` reads, or such pairs.
    loss : Loss, optional
        Half the squared error unless given.
    l2 : float
    hidden, last : sequence of str
        Activations to draw from; ``last`` follows from the loss unless given.
    depth : int
        The most layers; with the signature ``"vector"`` exactly so many.
    dtype : float32 or float64
    signature : str
    arrays : str or callable, optional
        ``"torch"`` or ``"jax"``, or what makes the function's kind of array from NumPy's; results
        are turned back.  JAX computes in float32 unless told otherwise, and is judged by that.
    convention : str
        That the results are laid out in.
    examples : int

    Raises
    ------
    AssertionError
        With the smallest failing network, its data, and the diagnosis.
    """
    loss = SquaredError() if loss is None else loss
    fitting = {CrossEntropy: ("softmax",), BinaryCrossEntropy: ("sigmoid",)}
    last = fitting.get(type(loss), ("identity",)) if last is None else last
    run = _adapted(function, signature, arrays)
    smallest: list[tuple[Network, Array, Array]] = []

    @_quietly(examples)
    @given(_trainings(loss, hidden, last, depth, np.dtype(dtype), signature == "vector"))
    def gradients_are_right(case: tuple[Network, Array, Array]) -> None:
        net, X, Y = case
        if not is_right(run(net, X, Y), net, X, Y, loss, l2, convention):
            smallest[:] = [case]
            raise AssertionError

    try:
        gradients_are_right()
    except AssertionError:
        net, X, Y = smallest[0]
        # a function of a network is run on others too, which tell mistakes apart
        mine = run if signature == "network" else run(net, X, Y)
        diagnosis = diagnose(mine, net, X, Y, loss, l2, convention)
        raise AssertionError(_failure(function, net, X, Y, str(diagnosis))) from None


def _quietly(examples: int) -> settings:
    """Return the settings of a check inside a test: always the same, and no reports of its own."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def _failure(function: Any, net: Network, X: Array, Y: Array, text: str) -> str:
    name = getattr(function, "__name__", str(function))
    shown = [f"{name} is wrong on {net}:"]
    for l, (W, b) in enumerate(_parameters(net), start=1):
        shown.append(f"  W{l} = {W.tolist()}, b{l} = {b.tolist()}")
    return "\n".join([*shown, f"  X = {X.tolist()}", f"  Y = {Y.tolist()}", text])


def _parameters(net: Network) -> list[tuple[Array, Array]]:
    """Return ``(W, b)`` of every layer of a drawn network, all of which are dense."""
    return [(layer.parameters()["W"], layer.parameters()["b"]) for layer in net.layers]


@st.composite
def _trainings(
    draw: st.DrawFn, loss: Loss, hidden: Sequence[str], last: Sequence[str], depth: int,
    dtype: Any, fixed: bool,
) -> tuple[Network, Array, Array]:  # fmt: skip
    """Draw a dense network, a batch and targets that the loss takes."""
    if fixed:
        sizes, names = [3, *[4] * (depth - 1), 2], [hidden[0]] * (depth - 1) + [last[0]]
        arrays = [
            (draw(matrices(m, n, dtype, 2.0)), draw(vectors(m, dtype, 2.0)))
            for n, m in pairwise(sizes)
        ]
        net = Network([Dense(W, b, f) for (W, b), f in zip(arrays, names, strict=True)])
    else:
        size = {"max_depth": depth, "max_width": 4, "only_dense": True}
        nets = networks(hidden=hidden, last=last, dtypes=[dtype], **size)  # type: ignore[arg-type]
        several = 1 + isinstance(loss, CrossEntropy)  # which needs an output for every class
        net = draw(nets.filter(lambda net: net.widths[-1] >= several))
    N, m = draw(st.integers(1, 4)), net.widths[-1]
    X = draw(matrices(N, net.widths[0], dtype, 2.0))
    if isinstance(loss, CrossEntropy):
        labels = draw(st.lists(st.integers(0, m - 1), min_size=N, max_size=N))
        return net, X, np.eye(m, dtype=dtype)[labels]
    if isinstance(loss, BinaryCrossEntropy):
        return net, X, (draw(matrices(N, m, dtype, 1.0)) > 0).astype(dtype)
    return net, X, draw(matrices(N, m, dtype, 2.0))


def _adapted(
    function: Callable[..., Any], signature: str, arrays: str | Callable[[Array], Any] | None
) -> Callable[[Network, Array, Array], Any]:
    """Return ``run(net, X, Y)`` for a function of another signature, on other arrays."""
    if signature not in get_args(Signature):
        raise ValueError(
            f"check_backprop: signature: expected one of {', '.join(get_args(Signature))}, "
            f"got {signature!r}."
        )
    make = _maker(arrays)

    def parameters(net: Network) -> tuple[Any, ...]:
        if signature == "network":
            return (net,)
        if signature == "vector":
            return (make(net.parameters.copy()),)
        pairs = [(make(W.copy()), make(b.copy())) for W, b in _parameters(net)]
        return (pairs,) if signature == "pairs" else tuple(map(list, zip(*pairs, strict=True)))

    def run(net: Network, X: Array, Y: Array) -> Any:
        return _as_numpy(function(*parameters(net), make(X.copy()), make(Y.copy())))

    return run


def _maker(arrays: str | Callable[[Array], Any] | None) -> Callable[[Array], Any]:
    """Return what makes arrays of another library from NumPy's."""
    if arrays is None or callable(arrays):
        return arrays or (lambda array: array)
    if arrays not in _ARRAYS:
        raise ValueError(
            f"check_backprop: arrays: expected {' or '.join(_ARRAYS)} or a function, "
            f"got {arrays!r}."
        )
    module, name = _ARRAYS[arrays]
    try:
        maker: Callable[[Array], Any] = getattr(importlib.import_module(module), name)
    except ImportError as err:
        raise missing_extra(arrays, arrays, f"check_backprop(arrays={arrays!r})") from err
    return maker


def _as_numpy(result: Any) -> Any:
    """Turn a result of any array library into NumPy's; pairs and two lists into names."""
    if isinstance(result, dict):
        return {key: _as_numpy(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        arrays = [_as_numpy(part) for part in result]
        if arrays and all(isinstance(p, list) and list(map(np.ndim, p)) == [2, 1] for p in arrays):
            return [array for pair in arrays for array in pair]
        if len(arrays) == 2 and all(isinstance(part, list) for part in arrays):
            return {"weights": arrays[0], "biases": arrays[1]}
        return arrays
    if hasattr(result, "detach"):
        result = result.detach().cpu()
    return np.asarray(result) if hasattr(result, "__array__") else result


def check_jacobian_rule(
    layer: Layer | Callable[[int], Layer], *, inputs: int | None = None, examples: int = 100
) -> None:
    """Check the derivative rule of a layer of your own: every identity, and differences.

    Parameters
    ----------
    layer : Layer or callable
        A layer, or a function from a width to a layer of that many inputs.
    inputs : int, optional
        The width of a single layer that takes any.
    examples : int

    Raises
    ------
    AssertionError
        With the layer, the point, and what the rule gives instead, such as "it is the transpose of
        the derivative".

    >>> from jacobians.layers import Scale
    >>> check_jacobian_rule(Scale([2.0, 3.0]), examples=20)
    """

    @st.composite
    def layers_and_points(draw: st.DrawFn) -> tuple[Layer, Array]:
        if isinstance(layer, Layer):
            n = layer.inputs or inputs
            if n is None:
                raise ValueError("check_jacobian_rule: this layer takes any width; say inputs=n.")
            return layer, draw(vectors(n, np.float64, 2.0))
        n = draw(widths(1, 5))[0]
        return layer(n), draw(vectors(n, np.float64, 2.0))

    @_quietly(examples)
    @given(layers_and_points())
    def rule_is_right(case: tuple[Layer, Array]) -> None:
        mine, x = case
        net = Network([mine], inputs=len(x))
        A: Any = layer_map(net.layers[0], x)
        m = net.widths[-1]
        about = f"the rule of {mine} at x = {x.tolist()}"
        shape = getattr(A, "shape", type(A).__name__)
        if shape != (m, len(x)):
            hint = "; that is the transpose" if shape == (len(x), m) else ""
            raise AssertionError(f"{about}: expected a map {(m, len(x))}, but got {shape}{hint}.")
        verdict = check_jacobian(mine.preactivation, A.to_dense(), x)
        if not verdict:
            raise AssertionError(f"{about}: {verdict}")
        certificate = certify(net, x)
        if not certificate.holds:
            raise AssertionError(f"{about}:\n{certificate}")

    rule_is_right()


def check_named(name: str, **options: Any) -> None:
    """Check ``module:function``, as the command ``jacobians check`` does.

    Parameters
    ----------
    name : str
        Where to import it from: a backprop ``function(net, X, Y)``, or a layer class or layer.
    **options
        Passed on.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise ValueError(f"check: expected module:function, but got {name!r}.")
    thing: Any = importlib.import_module(module)
    for part in attribute.split("."):
        thing = getattr(thing, part)
    if isinstance(thing, Layer) or (isinstance(thing, type) and issubclass(thing, Layer)):
        check_jacobian_rule(thing, **options)
    else:
        check_backprop(thing, **options)
