"""The laws of second order: Hessians, products with vectors, mixed blocks, the certificate."""

import inspect
import re
import tracemalloc
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from claims import assert_equal
from drawn_graphs import graphs, points_of
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import is_of_textbooks, textbook
from zoo import NETWORKS, attention, dense, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians._kernels import PROCESSORS, Tape
from jacobians.linearization import activation_second, layer_map, layer_second
from jacobians.second_order import compiled, hessians, identities
from jacobians.tracing import trace

names = pytest.mark.parametrize("name", sorted(NETWORKS))


def weights_of(net, seed=3):
    return np.random.default_rng(seed).normal(size=net.widths[-1]).astype(net.dtype)


def close(left, right, dtype, factor=2000):
    """Agree to some roundings of the largest entry: sums of a few hundred terms of its size."""
    size = max(np.abs(right).max(initial=0.0), 1e-30)
    assert np.abs(left - right).max(initial=0.0) <= factor * np.finfo(dtype).eps * size


def by_maps(net, X):
    """Return all Hessians from the structured maps, point by point and output by output."""
    unit = np.eye(net.widths[-1], dtype=net.dtype)
    lins = [jb.linearize(net, x) for x in X]
    return np.stack([[lin.hessian(e).to_dense() for e in unit] for lin in lins])


# --- every way gives the same ---------------------------------------------------------------------


@names
def test_hessians_of_a_batch_are_those_of_the_maps(name):
    net = NETWORKS[name]
    X = points(net, 3)
    H = jb.hessian(net, X)
    assert H.dtype == net.dtype
    assert_equal(H, H.swapaxes(-2, -1))
    close(H, by_maps(net, X), net.dtype)
    assert_equal(jb.hessian(net, X[1]), jb.hessian(net, X[1]))
    close(jb.hessian(net, X[1]), H[1], net.dtype)


@names
def test_without_the_kernel_the_hessians_are_the_same(name, monkeypatch):
    net = NETWORKS[name]
    X = points(net, 3)
    H = jb.hessian(net, X)
    monkeypatch.setattr(hessians, "fill_in", lambda *_: False)
    plain = jb.hessian(net, X)
    assert_equal(plain, plain.swapaxes(-2, -1))
    close(plain, H, net.dtype)


@given(st.data())
def test_the_kernel_gives_the_whole_numbers_of_numpy(data):
    """Between any two nodes, for any outputs, at a point and at several: the same bits."""
    widths = data.draw(st.lists(st.integers(1, 20), min_size=2, max_size=5))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    sigma = st.sampled_from(["relu", "square", "identity"])
    layers = []
    for n, m in pairwise(widths):
        kept = rng.integers(-1, 2, (m, n)) * (rng.random((m, n)) < 2 / n)  # so that all stay small
        layers.append(jb.Dense(kept, rng.integers(-1, 2, m), data.draw(sigma)))
        if data.draw(st.booleans()):
            layers.append(jb.Scale(rng.integers(-1, 2, m), rng.integers(-1, 2, m)))
    net = jb.Network(layers).astype(data.draw(st.sampled_from([np.float32, np.float64])))
    wrt = data.draw(st.integers(0, net.depth - 1))
    of = data.draw(st.integers(wrt + 1, net.depth))
    rows = data.draw(st.none() | st.lists(st.integers(0, net.widths[of] - 1), min_size=1))
    X = rng.integers(-1, 2, (data.draw(st.sampled_from([1, 3, 150])), widths[0]))
    chosen = {"of": of, "wrt": wrt, "rows": rows}
    H = jb.hessian(net, X, **chosen)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(hessians, "fill_in", lambda *_: False)
        assert_equal(H, jb.hessian(net, X, **chosen))


@names
def test_products_with_vectors_are_products_with_the_hessian(name):
    net = NETWORKS[name]
    X, V, c = points(net, 3), points(net, 3, seed=2), weights_of(net)
    expected = np.einsum("i,bijk,bk->bj", c, jb.hessian(net, X), V)
    close(jb.hvp(net, X, V, c), expected, net.dtype)
    each = np.stack([c, 2 * c, -c])
    scales = np.array([1, 2, -1], net.dtype)[:, None]
    close(jb.hvp(net, X, V, each), scales * expected, net.dtype)
    close(jb.hvp(net, X[0], V[0], c), expected[0], net.dtype)


@names
def test_the_certificate_of_the_hessian_holds(name):
    net = NETWORKS[name]
    certificate = jb.certify(net, points(net, 1)[0], hessian=True)
    assert certificate.holds
    seen = [check.identity for check in certificate][-6:]
    assert seen == [name for name, *_ in identities.HESSIAN_IDENTITIES]


@settings(max_examples=8)  # half a second each
@given(st.data())
def test_drawn_graphs(data):
    net = data.draw(graphs())
    x = data.draw(points_of(net))
    certificate = jb.certify(net, x, hessian=True)
    assert certificate.holds, str(certificate)


def test_at_a_kink_differences_of_the_gradient_say_nothing():
    net = jb.Network(
        [jb.Dense([[1.0, -1.0], [2.0, 1.0]], activation="relu"), jb.Dense([[1.0, 3.0]])]
    )
    certificate = jb.certify(net, [1.0, 1.0], hessian=True)
    assert certificate.holds
    assert list(certificate)[-1].identity == "differences of the gradient"


WRONG = {
    "cotangents at every node": ("of_points", lambda c: c * (1 + 1e-9)),
    "Hessian, sum of congruences": ("explicit.hessian", lambda H: H + 1e-9),
    "Hessian, multiplied out together": ("hessians_at", lambda H: 1.0001 * H),
    "Hessian, symmetric": ("hessians_at", lambda H: H + np.arange(H.shape[-1]) * 2**-50),
    "Hessian, columns are products": ("hessian_times", lambda v: v[::-1]),
    "differences of the gradient": ("linearize", None),
}


@pytest.mark.parametrize("identity", WRONG)
def test_every_identity_of_the_hessian_is_missed_when_it_fails(identity, monkeypatch):
    net = NETWORKS["softmax output"]
    x, (name, spoil) = points(net, 1)[0], WRONG[identity]
    home = identities
    if "." in name:
        home, name = jb.explicit, "hessian"
    right = getattr(home, name)
    if spoil is None:  # a wrong second derivative: all ways share it, the gradient does not
        formula = jb.activation("tanh").second_derivative
        monkeypatch.setattr(
            type(jb.activation("tanh")), "second_derivative", lambda _, z: 1.01 * formula(z)
        )
    else:
        monkeypatch.setattr(home, name, lambda *args, **kw: spoil(right(*args, **kw)))
    failed = [check.identity for check in jb.certify(net, x, hessian=True) if not check.holds]
    assert identity in failed


@settings(max_examples=25)
@given(st.data())
def test_mixed_blocks_are_derivatives_of_the_gradient(data):
    """``d²(cᵀH)/dx dtheta`` against differences of the gradient by the parameter."""
    net = NETWORKS[data.draw(st.sampled_from(["norms", "attention", "shaping", "deep"]))]
    check_mixed(net, data.draw(st.integers(1, net.depth)), seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize(
    "name", ["convolutions and pools", "convolutions along one axis and three"]
)
def test_mixed_blocks_of_kernels(name):
    for l in range(1, NETWORKS[name].depth + 1):
        check_mixed(NETWORKS[name], l, seed=l)


def check_mixed(net, l, seed):
    x, c = points(net, 1, seed)[0], weights_of(net, seed)
    lin, start = jb.linearize(net, x), 0
    for k, layer in enumerate(net.layers, start=1):
        for name, value in layer.parameters().items():
            own = slice(start, start := start + value.size)
            if k == l:
                step = np.zeros(net.parameter_count)
                step[own] = np.random.default_rng(seed).normal(size=value.size)
                h = 1e-5
                ends = [net.with_parameters(net.parameters + s * h * step) for s in (1, -1)]
                up, down = (jb.vjp(end, x, c) for end in ends)
                moved = lin.mixed_hessian(c, l, name) @ step[own]
                # central differences: h² times third derivatives, and rounding over h
                assert np.abs(moved - (up - down) / (2 * h)).max() < 1e-6 * (1 + np.abs(up).max())


# --- evidence from outside ------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(n for n, net in NETWORKS.items() if is_of_textbooks(net)))
def test_against_a_complex_step_and_differences(name):
    """Gradients by a complex step in formulas of their own, differences of them along inputs."""
    net = NETWORKS[name].astype(np.float64)
    x, f, h, d = points(net, 1)[0], textbook(net), 1e-30, 1e-5
    if any(kink.at for kink in trace(net, x).kinks(within=1e-3)):
        pytest.skip("the point is at a kink")
    unit, differences = np.eye(len(x)), np.empty((net.widths[-1], len(x), len(x)))
    for j, e in enumerate(unit):
        for k, v in enumerate(unit):
            up, down = (np.imag(f(x + 1j * h * e + sign * d * v)) / h for sign in (1, -1))
            differences[:, j, k] = (up - down) / (2 * d)
    H = jb.hessian(net, x)
    # d² times fourth derivatives, and roundings over d, of derivatives of their size
    assert np.abs(H - differences).max() < 1e-7 * (1 + np.abs(differences).max())


@pytest.mark.parametrize(
    ("widths", "sigma", "out"),
    [
        ([13, 9, 8, 1], "tanh", "identity"),
        ([5, 7, 4], "sigmoid", "softmax"),
        ([4, 6, 3], "silu", "tanh"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of its own parts
def test_autograd_gives_the_same_hessians(widths, sigma, out):
    torch = pytest.importorskip("torch")
    net = dense(widths, sigma, out)
    formulas = {"identity": lambda z: z, "silu": torch.nn.functional.silu, "tanh": torch.tanh}
    formulas |= {"sigmoid": torch.sigmoid, "softmax": lambda z: torch.softmax(z, -1)}

    def forward(x):
        for layer in net.layers:
            W, b = torch.tensor(layer.W), torch.tensor(layer.b)
            x = formulas[layer.activation.name](W @ x + b)
        return x

    X = points(net, 6)
    peer = torch.vmap(torch.func.hessian(forward))(torch.tensor(X)).numpy()
    # numbers of size 1 through three layers of ten: some hundred roundings of 1e-16
    assert np.abs(jb.hessian(net, X) - peer).max() < 1e-12


def test_softmax_with_cross_entropy_has_the_hessian_of_softmax():
    """Minus log softmax at any label: the gradient is p - y, the Hessian diag(p) - p pᵀ."""
    net = jb.Network([jb.Dense(np.eye(4), activation="log_softmax")])
    z = np.array([0.3, -1.0, 2.0, 0.7])
    p, y = np.exp(net(z)), np.eye(4)[2]
    lin = jb.linearize(net, z)
    close(lin.vjp(-y), p - y, np.float64)
    close(lin.hessian(-y).to_dense(), np.diag(p) - np.outer(p, p), np.float64)


# --- exact networks -------------------------------------------------------------------------------


def second_along(net, x, v):
    """Return the second derivative along v by exact series ``c_0 + c_1 t + c_2 t²``."""
    a = [[Fraction(int(s)), Fraction(int(t)), Fraction(0)] for s, t in zip(x, v, strict=True)]
    for layer in net.layers:
        rows = zip(layer.W.tolist(), layer.b.tolist(), strict=True)
        z = []
        for row, b in rows:
            sums = [sum(Fraction(w) * s[k] for w, s in zip(row, a, strict=True)) for k in range(3)]
            z.append([sums[0] + Fraction(b), *sums[1:]])
        if layer.activation.name == "square":
            z = [[p * p, 2 * p * q, q * q + 2 * p * r] for p, q, r in z]
        elif layer.activation.name == "relu":
            z = [s if s[0] > 0 else [Fraction(0)] * 3 for s in z]
        a = z
    return [2 * s[2] for s in a]


@settings(max_examples=25)
@given(st.data())
def test_whole_networks_have_the_hessians_of_fractions(data):
    """Every way, bit for bit: the kernel, NumPy, maps, index sums, products with vectors."""
    net = data.draw(jst.exact_networks(max_depth=2, max_width=4))
    sigma = st.sampled_from(["identity", "relu", "square"])
    net = jb.Network([jb.Dense(layer.W, layer.b, data.draw(sigma)) for layer in net.layers])
    x = data.draw(jst.whole_points(net))
    n, m = net.widths[0], net.widths[-1]
    unit = np.eye(n)
    along = {(j, k): second_along(net, x, unit[j] + unit[k]) for j in range(n) for k in range(n)}
    own = [second_along(net, x, e) for e in unit]
    exact = np.array(
        [
            [
                [float(along[j, k][i] - own[j][i] - own[k][i]) / 2 for k in range(n)]
                for j in range(n)
            ]
            for i in range(m)
        ]
    )
    lin = jb.linearize(net, x)
    assert_equal(jb.hessian(net, x), exact)
    for i, c in enumerate(np.eye(m)):
        assert_equal(lin.hessian(c).to_dense(), exact[i])
        assert_equal(jb.explicit.hessian(lin.trace, c), exact[i])
        assert_equal(np.stack([jb.hvp(net, x, e, c) for e in unit], axis=1), exact[i])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hessians, "fill_in", lambda *_: False)
        assert_equal(jb.hessian(net, x[None])[0], exact)
    certificate = jb.certify(net, x, hessian=True)
    assert all(c.exact for c in certificate if c.notes in ("11", "12"))


# --- nodes, rows, pieces --------------------------------------------------------------------------


@names
def test_chosen_outputs_are_rows_of_all(name):
    net = NETWORKS[name]
    X, m = points(net, 2), net.widths[-1]
    H = jb.hessian(net, X)
    for rows in ([m - 1], [m - 1, 0], slice(0, 1), np.arange(m) == 0):
        close(jb.hessian(net, X, rows=rows), H[:, rows], net.dtype)


def test_nodes_by_name_and_number():
    net = NETWORKS["branches that share nodes"]
    X, c = points(net, 2), np.ones(5)
    lin = jb.linearize(net, X)
    H = jb.hessian(net, X, of="f", wrt="a")
    assert H.shape == (2, 5, 5, 5)
    stacked = lin.hessian(np.stack([c, c]), of="f", wrt="a")
    close(H.sum(axis=1), stacked.to_dense(), np.float64)
    explicit = [jb.explicit.hessian(jb.trace(net, x), c, of="f", wrt="a") for x in X]
    close(H.sum(axis=1), np.stack(explicit), np.float64)
    # a part of the network alone: from a to f, with x where it is
    assert_equal(jb.hessian(net, X, of="a", wrt="a"), np.zeros((2, 5, 5, 5)))
    assert_equal(jb.hessian(net, X, of="b", wrt="a"), np.zeros((2, 6, 5, 5)))  # relu


def test_a_chain_between_nodes_is_a_network_of_its_own():
    net = dense([4, 6, 5, 3], "tanh", "sigmoid")
    tail, X = jb.Network(net.layers[1:]), points(net, 4)
    inside = trace(net, X).activations[1]
    close(jb.hessian(net, X, wrt=1), jb.hessian(tail, inside), np.float64)
    head = jb.Network(net.layers[:2])
    close(jb.hessian(net, X, of=2), jb.hessian(head, X), np.float64)


def test_a_node_that_the_input_does_not_reach_has_none():
    net = NETWORKS["several inputs and outputs"]
    X = points(net, 2)
    H = jb.hessian(net, X)
    assert_equal(H[:, 2:, 2:, :], np.zeros_like(H[:, 2:, 2:, :]))  # "gate" reads "control" alone
    assert np.abs(H[:, 2:, :2, :2]).min() > 0


def test_value_jacobian_and_hessian_are_those_of_their_functions():
    net = NETWORKS["residual blocks, nested"]
    X = points(net, 3)
    value, J, H = jb.value_jacobian_hessian(net, X, rows=[1])
    assert_equal(H, jb.hessian(net, X, rows=[1]))
    assert_equal(J, jb.jacobian(net, X, rows=[1]))
    close(value, net(X), np.float64)


def test_integers_become_float64_and_no_points_give_none():
    net = dense([3, 4, 2], "tanh")
    assert_equal(jb.hessian(net, [1, 2, 3]), jb.hessian(net, np.array([1.0, 2.0, 3.0])))
    assert jb.hessian(net, np.empty((0, 3))).shape == (0, 2, 3, 3)
    assert jb.hvp(net, np.empty((0, 3)), np.empty((0, 3)), [1, 2]).shape == (0, 3)


@pytest.mark.parametrize("plain", [False, True])
def test_pieces_do_not_change_the_answer(plain, monkeypatch):
    net = attention() if plain else dense([6, 20, 20, 9], "tanh")
    X = points(net, 40)
    H = jb.hessian(net, X)
    monkeypatch.setattr(hessians, "PIECE_BYTES", 2**12)
    monkeypatch.setattr(compiled, "TOGETHER", 4)  # nine outputs in three groups
    close(jb.hessian(net, X), H, np.float64)
    close(jb.hessian(net, X, max_bytes=2**21), H, np.float64)


def test_memory_stays_within_the_budget():
    net = NETWORKS["attention with heads"]
    X = points(net, 12)
    jb.hessian(net, X[:1])
    for budget in (2**20, 2**22):
        tracemalloc.start()
        H = jb.hessian(net, X, max_bytes=budget)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - H.nbytes < 1.5 * budget  # small objects and lists are not counted


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("widths", [[60, 70, 80, 3], [100, 40, 3]], ids=["table", "no table"])
def test_the_least_budget_is_the_one_that_is_named_and_is_kept(kernel, widths, monkeypatch):
    net = jb.Network.random(widths, "tanh", seed=0)
    X = points(net, 4)
    if not kernel:
        monkeypatch.setattr(hessians, "fill_in", lambda *_: False)
    H = jb.hessian(net, X)
    with pytest.raises(ValueError, match="but the budget is 1") as refused:
        jb.hessian(net, X, max_bytes=1)
    least = int(re.search(r"needs (\d+) bytes", str(refused.value)).group(1))
    with pytest.raises(ValueError, match=f"needs {least} bytes"):
        jb.hessian(net, X, max_bytes=least - 8)
    tracemalloc.start()
    again = jb.hessian(net, X, max_bytes=least)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    close(again, H, np.float64)
    assert peak - H.nbytes < 1.5 * least  # small objects and lists are not counted
    assert least < 8 * (peak - H.nbytes)  # it counts what may be there at once, and nothing else


def test_what_was_asked_before_answers_the_same_question_alone():
    """At a point whose shape fits every node: other ends, other outputs, another network."""
    net = dense([3, 3, 3, 3], "tanh", "tanh")
    x = points(net, 1)[0]
    lin = jb.linearize(net, x)
    for _ in range(2):
        for of, wrt in ((3, 0), (3, 1), (3, 2), (2, 0), (2, 1), (1, 0)):
            H = jb.hessian(net, x, of=of, wrt=wrt) if of < 3 else jb.hessian(net, x, wrt=wrt)
            maps = np.stack([lin.hessian(e, of, wrt).to_dense() for e in np.eye(3)])
            close(H, maps, np.float64)
            close(jb.hessian(net, x, of=of, wrt=wrt, rows=[2, 0]), maps[[2, 0]], np.float64)


@pytest.mark.skipif(not PROCESSORS, reason="the kernel was not built")
@pytest.mark.parametrize("widths", [[3, 5, 2], [6, 4, 3, 2], [2, 7, 7, 1]])
@pytest.mark.parametrize("sigma", ["tanh", "sigmoid", "softplus", "sin", "exp", "square"])
def test_the_kernel_serves_every_smooth_chain(widths, sigma):
    """And what comes after its beginning, by itself, not by giving way to NumPy."""
    net = dense(widths, sigma)
    X = points(net, 3) / 4
    for wrt in range(net.depth):
        n = net.widths[wrt]
        H, rows = np.empty((3, widths[-1], n, n)), np.arange(widths[-1])
        served = compiled.fill_in(H, net, X, net.depth, wrt, rows, 2**27)
        assert served == (wrt < net.depth - 1)  # the last layer is straight: nothing to compute
        if served:
            close(H, jb.hessian(net, X, wrt=wrt), np.float64)


def test_many_outputs_go_in_groups():
    net = dense([3, 8, 40], "tanh", "tanh")
    X = points(net, 3)
    close(jb.hessian(net, X), by_maps(net, X), np.float64)
    close(jb.hessian(net, X, max_bytes=30_000), by_maps(net, X), np.float64)


# --- what the maps are ----------------------------------------------------------------------------


def test_solvers_of_scipy_take_the_map():
    from scipy.sparse.linalg import eigsh

    net = dense([30, 20, 1], "tanh")
    lin = jb.linearize(net, points(net, 1)[0])
    A = lin.hessian([1.0])
    assert isinstance(A, jb.Sum | jb.Product)
    largest = eigsh(A.to_scipy(), k=2, return_eigenvectors=False)
    true = np.linalg.eigvalsh(A.to_dense())
    close(np.sort(np.abs(largest)), np.sort(np.abs(true))[-2:], np.float64, 1e6)  # its tolerance


def test_a_hessian_of_many_inputs_is_never_formed():
    """A hundred thousand inputs: the matrices of 20 points would take more than a terabyte."""
    n = 10**5
    rng = np.random.default_rng(0)
    net = jb.Network(
        [jb.Dense(rng.normal(size=(3, n)) / n, [0.1, 0.2, 0.3], "tanh"), jb.Dense([[1, 2, 3]])]
    )
    x, v = rng.normal(size=(2, n))
    W, z = net.layers[0].W, net.layers[0].W @ x + net.layers[0].b
    curved = np.array([1, 2, 3]) * net.layers[0].activation.second_derivative(z)
    expected = W.T @ (curved * (W @ v))
    close(jb.hvp(net, x, v), expected, np.float64)
    close(jb.linearize(net, x).hessian([1.0]) @ v, expected, np.float64)
    with pytest.raises(jb.TooLargeError):
        jb.hessian(net, np.tile(x, (20, 1)))


def test_what_does_not_fit_in_memory_is_refused_before_anything_is_copied():
    """A broadcast X of two million points is no array: Hessians of 1000 inputs take terabytes."""
    net = jb.Network.random([1000, 5, 1], seed=0)
    X, ask = np.broadcast_to(np.zeros(1000), (2**21, 1000)), inspect.unwrap(jb.hessian)
    tracemalloc.start()
    with pytest.raises(jb.TooLargeError, match="hessian: the result of shape"):
        ask(net, X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.skipif(not PROCESSORS, reason="the kernel was not built, or is turned off")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "m", "n"), [(1, 1, 1), (5, 2, 9), (3, 1, 13), (40, 3, 17)])
def test_congruences_are_symmetric_and_added_up(k, m, n, dtype):
    """Exactly on whole numbers, and to the bit on others."""
    tape, rng = Tape(dtype), np.random.default_rng(k)
    A, W = (rng.integers(-4, 5, (6, *shape)).astype(dtype) for shape in ((k, n), (m, k)))
    a, w, out = tape.read(k, n), tape.read(m, k), tape.written(m * n, n)
    with pytest.raises(jb.ShapeError, match="copy it"):
        tape.congruence(a, w, out)
    a, w = tape.scaling(a), tape.scaling(w)
    for added in (False, True):
        tape.congruence(a, w, out, added=added)
    C, program = np.empty((6, m, n, n), dtype), tape.pack()
    assert program.run(A, W, C)
    assert_equal(C, 2 * np.einsum("pki,pok,pkj->poij", A, W, A))
    assert program.run(A + dtype(0.1), W / dtype(3), C)
    assert_equal(C, C.swapaxes(2, 3))
    with pytest.raises(jb.ShapeError, match="congruence"):
        tape.congruence(tape.constant(np.ones((k + 1, n))), w)
    with pytest.raises(jb.ShapeError, match="to what"):
        tape.congruence(a, w, added=True)


# --- what goes wrong ------------------------------------------------------------------------------


class Cubic(jb.Layer):
    """``a³``, with a rule for its map and none for its second differential."""

    inputs = 3

    def output_width(self, *widths):
        return widths[0]

    def preactivation(self, *values):
        return values[0] ** 3


class Bent(Cubic):
    """The same, with both."""


class OtherDense(jb.Dense):
    """A dense layer whose author changed its map: it may be linear no longer."""


for kind in (Cubic, OtherDense):
    layer_map.register(kind)(lambda layer, a: jb.Diagonal(3 * a**2))
layer_second.register(Bent)(lambda layer, c, a: {(0, 0): jb.Diagonal(6 * c * a)})


def test_a_layer_without_a_rule_says_so():
    message = "no rule for its second differential; register one with @layer_second.register"
    for layer in (Cubic(), OtherDense(np.eye(3))):
        net = jb.Network([layer])
        for ask in (
            lambda net: jb.hessian(net, np.ones(3)),
            lambda net: jb.hvp(net, np.ones(3), np.ones(3), np.ones(3)),
            lambda net: jb.linearize(net, np.ones(3)).hessian(np.ones(3)),
            lambda net: jb.certify(net, np.ones(3), hessian=True),
        ):
            with pytest.raises(NotImplementedError, match=message):
                ask(net)


def test_a_layer_of_ones_own_with_a_rule():
    net = jb.Network([jb.Dense(np.diag([1.0, 2.0, 3.0])), Bent()])
    H = jb.hessian(net, [1.0, 2.0, 3.0])
    assert_equal(H, np.stack([np.diag(6.0 * d) for d in np.diag([1.0, 4 * 4.0, 9 * 9.0])]))
    certificate = jb.certify(net, [1.0, 2.0, 3.0], hessian=True)
    assert certificate.holds
    assert certificate.dependent


def test_a_wrong_rule_is_seen():
    class Wrong(Cubic):
        pass

    layer_second.register(Wrong)(lambda layer, c, a: {(0, 0): jb.Diagonal(5 * c * a)})
    certificate = jb.certify(jb.Network([Wrong()]), [1.0, 2.0, 3.0], hessian=True)
    failed = [check.identity for check in certificate if not check.holds]
    assert failed == ["differences of the gradient"]


def test_an_activation_without_a_second_derivative_says_so():
    bare = jb.Activation("bare", np.sin, np.cos)
    net = jb.Network([jb.Dense(np.eye(2), activation=bare)])
    with pytest.raises(NotImplementedError, match="made without sigma_second"):
        jb.hessian(net, [1.0, 2.0])
    full = jb.Activation("full", np.sin, np.cos, lambda z: -np.sin(z), check=True)
    H = jb.hessian(jb.Network([jb.Dense(np.eye(2), activation=full)]), [1.0, 2.0])
    close(H[0], np.diag([-np.sin(1.0), 0]), np.float64)


def test_a_vector_activation_by_its_three_indices():
    """One without parts gets the sum over i of ``c_i d²a_i``; softmax has it from its parts."""
    softmax = jb.activation("softmax")
    bare = jb.VectorActivation("bare", softmax.sigma, softmax.parts_of, softmax.sigma_second)
    z, c = np.array([0.3, -1.0, 2.0]), np.array([1.0, -2.0, 0.5])
    S = activation_second(softmax, c, z)
    assert isinstance(S, jb.DiagonalPlusLowRank)
    close(S.to_dense(), activation_second(bare, c, z).to_dense(), np.float64)
    net = jb.Network([jb.Dense(np.eye(3), activation=bare), jb.Elementwise(bare, axis=-1)])
    assert jb.certify(net, z, hessian=True).holds


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda net: jb.hessian(net, [1.0, 2.0]), jb.ShapeError, "hessian: X: expected one point"),
        (lambda net: jb.hessian(net, [1.0, 2.0, np.nan]), jb.NotFiniteError, r"hessian: X\[2\]"),
        (lambda net: jb.hessian([net], [1.0, 2.0, 3.0]), TypeError, "hessian"),
        (lambda net: jb.hessian(net, [1, 2, 3], rows=[5]), ValueError, "hessian: rows: expected"),
        (lambda net: jb.hessian(net, [1, 2, 3], of=1, wrt=2), ValueError, "hessian: wrt"),
        (lambda net: jb.hessian(net, [1, 2, 3], wrt="z"), ValueError, "hessian: wrt"),
        (lambda net: jb.hessian(net, [1, 2, 3], max_bytes=10), ValueError, "one point needs"),
        (lambda net: jb.hessian(net, [1, 2, 3], max_bytes=1.5), TypeError, "whole number"),
        (lambda net: jb.hvp(net, [1, 2, 3], [1, 2], [1, 1]), jb.ShapeError, "hvp: V"),
        (lambda net: jb.hvp(net, [1, 2, 3], [1, 2, 3]), jb.ShapeError, "has 2 outputs"),
        (lambda net: jb.hvp(net, [1, 2, 3], [1, 2, 3], [1]), jb.ShapeError, "hvp: cotangent"),
        (
            lambda net: jb.linearize(net, [1, 2, 3]).hessian([1]),
            jb.ShapeError,
            "hessian: cotangent",
        ),
        (lambda net: jb.linearize(net, [1, 2, 3]).mixed_hessian([1, 1], 9, "W"), ValueError, "l"),
        (
            lambda net: jb.linearize(net, [1, 2, 3]).mixed_hessian([1, 1], 1, "K"),
            ValueError,
            "has W",
        ),
        (
            lambda net: jb.explicit.hessian(jb.trace(net, [[1, 2, 3]]), [1, 1]),
            jb.ShapeError,
            "explicit.hessian: trace",
        ),
    ],
)
def test_wrong_arguments(ask, error, message):
    with pytest.raises(error, match=message):
        ask(dense([3, 4, 2], "tanh"))


def test_leaving_the_range_is_told():
    """Values are fine in float32, second derivatives are not."""
    W = np.full((1, 1), 1e15, np.float32)
    net = jb.Network([jb.Dense(W, activation="square"), jb.Dense(W, activation="square")])
    with pytest.raises(jb.NotFiniteError, match="leaves the range of float32"):
        jb.hessian(net, np.full(1, 1e-20, np.float32))
    one_of_several = np.array([[0], [1e-20], [0]], np.float32)
    with pytest.raises(jb.NotFiniteError, match="leaves the range of float32"):
        jb.hessian(net, one_of_several)


def test_a_cotangent_that_is_a_table_goes_by_the_names_of_the_outputs():
    pandas = pytest.importorskip("pandas")
    net = jb.Network.random([3, 4, 2], seed=0).with_names(["a", "b", "c"], ["u", "v"])
    X = points(net, 2)
    table = pandas.DataFrame([[5.0, -1.0], [2.0, 3.0]], columns=["v", "u"])
    right = np.array([[-1.0, 5.0], [3.0, 2.0]])
    assert_equal(jb.hvp(net, X, X, table), jb.hvp(net, X, X, right))
    assert_equal(jb.hvp(net, X[0], X[0], table.iloc[0]), jb.hvp(net, X[0], X[0], right[0]))
    with pytest.raises(ValueError, match=r"hvp: cotangent.*missing 'u'"):
        jb.hvp(net, X, X, table.rename(columns={"u": "w"}))


def test_rows_choose_of_derivatives_and_not_of_the_value():
    net = jb.Network([jb.Dense([[1, 2], [0, 1]], activation="square"), jb.Dense([[3, 1], [1, 4]])])
    for rows in ([1], [1, 0]):
        value, J, H = jb.value_jacobian_hessian(net, [1, 1], rows=rows)
        assert_equal(value, net([1, 1]))
        assert_equal(J, jb.jacobian(net, [1, 1])[rows])
        assert_equal(H, jb.hessian(net, [1, 1])[rows])
        assert_equal(jb.value_and_jacobian(net, [1, 1], rows=rows)[0], value)
