"""PyTorch modules come in with torch's own values and autograd's Jacobians."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import IMPORTABLE, from_torch

torch = pytest.importorskip("torch")
nn = torch.nn
RNG = np.random.default_rng(8)

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "leaky_relu(slope=0.3)": nn.LeakyReLU(0.3),
    "leaky_relu(slope=-0.5)": nn.PReLU(init=-0.5).double(),
    "elu(alpha=1.5)": nn.ELU(1.5),
    "celu(alpha=0.5)": nn.CELU(0.5),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "sigmoid": nn.Sigmoid(),
    "hard_sigmoid(low=-3, high=3)": nn.Hardsigmoid(),
    "tanh": nn.Tanh(),
    "hard_tanh(low=-1, high=1)": nn.Hardtanh(),
    "hard_tanh(low=-0.5, high=2)": nn.Hardtanh(-0.5, 2.0),
    "softplus": nn.Softplus(),
    "softsign": nn.Softsign(),
    "softmax": nn.Softmax(dim=-1),
    "log_softmax": nn.LogSoftmax(dim=1),
}


def assert_same(net, module, X, derivative=1e-13):
    """Values and Jacobians of torch in float64.

    Both round the same sums of some ten terms, so 1e-13 of the largest entry is far above what
    they may differ by, and far below any wrong formula.
    """
    X = torch.tensor(X, dtype=torch.float64)
    expected = module(X).detach().numpy()
    values, J = jb.value_and_jacobian(net, X.numpy().reshape(len(X), -1))
    assert np.abs(values - expected).max() <= 1e-13 * max(1, np.abs(expected).max())
    for x, ours in zip(X, J, strict=True):
        theirs = torch.autograd.functional.jacobian(lambda x: module(x[None])[0], x)
        theirs = theirs.numpy().reshape(ours.shape)
        assert np.abs(ours - theirs).max() <= derivative * max(1, np.abs(theirs).max())


def batch_norm(width, affine=True):
    layer = nn.BatchNorm1d(width, eps=0.01, affine=affine, dtype=torch.float64)
    for tensor in (layer.running_mean, layer.weight, layer.bias):
        if tensor is not None:
            nn.init.normal_(tensor)
    nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return layer


def points(module, count=3):
    width = next(m.in_features for m in module.modules() if isinstance(m, nn.Linear))
    return np.random.default_rng(5).normal(size=(count, width))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_its_counterpart_with_its_parameters(name):
    torch.manual_seed(1)
    linear = nn.Linear(4, 3, dtype=torch.float64)
    module = nn.Sequential(linear, ACTIVATIONS[name], nn.Linear(3, 2, dtype=torch.float64)).eval()
    net = from_torch(module)
    assert [str(layer) for layer in net.layers] == [f"Dense 4 -> 3 {name}", "Dense 3 -> 2 identity"]
    # torch's derivative of Hardsigmoid is 1/6 in float32 in every dtype, off by 2^-25 of itself
    derivative = 2.0**-24 if name.startswith("hard_sigmoid") else 1e-13
    assert_same(net, module, 3 * points(module, 40), derivative)


EXACT = [module for name, module in ACTIVATIONS.items() if not name.startswith("hard_sigmoid")]


@st.composite
def modules(draw):
    """Sequences of everything that has a rule, with different widths, nested at random."""
    torch.manual_seed(draw(st.integers(0, 999)))
    widths = draw(st.lists(st.integers(1, 6), min_size=2, max_size=5))
    chain = [nn.Flatten()] if draw(st.booleans()) else []
    for inputs, outputs in pairwise(widths):
        kinds = draw(st.lists(st.integers(0, 4), max_size=3))
        chain.append(nn.Linear(inputs, outputs, bias=draw(st.booleans()), dtype=torch.float64))
        for kind in kinds:
            activation = draw(st.sampled_from(EXACT))
            chain.append(
                [activation, activation, batch_norm(outputs), nn.Dropout(0.5), nn.Identity()][kind]
            )
        if draw(st.booleans()):
            chain.append(batch_norm(outputs, affine=False))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(chain)))
        end = draw(st.integers(start, len(chain)))
        chain[start:end] = [nn.Sequential(*chain[start:end])]
    return nn.Sequential(*chain).eval()


@settings(max_examples=20)
@given(module=modules())
def test_a_sequential_is_its_children_one_after_the_other(module):
    net = from_torch(module)
    assert_same(net, module, points(module))


def test_a_module_that_stands_twice_is_applied_twice():
    linear = nn.Linear(3, 3, dtype=torch.float64)
    module = nn.Sequential(linear, nn.Tanh(), linear)
    assert from_torch(module).depth == 2
    assert_same(from_torch(module), module, points(module))


def test_images_are_flattened_row_by_row():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, dtype=torch.float64), nn.Tanh())
    X = np.random.default_rng(0).normal(size=(3, 2, 3, 2))
    assert_same(from_torch(module), module, X)


def test_a_linear_module_alone_is_a_network():
    module = nn.Linear(3, 2, dtype=torch.float64)
    assert_same(from_torch(module), module, points(module))


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float32, np.float32),
        (torch.float64, np.float64),
        (torch.float16, np.float32),  # NumPy computes nothing in half precision
        (torch.bfloat16, np.float32),
    ],
)
def test_the_dtype_is_kept_and_half_precision_widened(given, kept):
    module = nn.Sequential(nn.Linear(3, 4, dtype=given), nn.Tanh(), nn.Linear(4, 1, dtype=given))
    net = from_torch(module)
    assert net.dtype == kept
    assert np.array_equal(net.layers[0].W, module[0].weight.detach().to(torch.float64).numpy())
    assert from_torch(module.state_dict(), activations=["tanh", "identity"]).dtype == kept


def test_constants_of_a_float32_module_are_rounded_once(tmp_path):
    """1 / sqrt(variance + eps) is computed in float64: one rounding to float32 is left."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Linear(5, 4), batch_norm(4).float(), nn.Tanh(), nn.Linear(4, 2)
    ).eval()
    net = from_torch(module)
    assert net.dtype == np.float32
    module = module.double()
    X = points(module)
    expected = module(torch.tensor(X)).detach().numpy()
    # some five roundings of constants on the way, each of half an ulp
    difference = np.abs(net.astype(np.float64)(X) - expected).max()
    assert difference <= 5 * 2.0**-24 * np.abs(expected).max()
    jb.save(net, tmp_path / "net.npz")
    assert np.array_equal(jb.load(tmp_path / "net.npz")(np.ones(5)), net(np.ones(5)))


def test_the_module_is_neither_changed_nor_kept():
    module = nn.Sequential(nn.Linear(3, 2, dtype=torch.float64), nn.ReLU())
    net = from_torch(module)
    before = net(np.ones(3))
    with torch.no_grad():
        module[0].weight.zero_()
    assert np.array_equal(net(np.ones(3)), before)
    assert module.training


# --- state dicts ----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=14),
    bias=st.booleans(),
    shuffle=st.randoms(use_true_random=False),
)
def test_a_state_dict_is_in_the_order_of_its_numbers(widths, bias, shuffle):
    """Layer 10 stands behind layer 2, in whatever order the mapping has them."""
    module = nn.Sequential()
    for l, (inputs, outputs) in enumerate(pairwise(widths)):
        module.append(nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64))
        module.append(nn.Tanh() if l % 2 else nn.Sigmoid())
    names = ["tanh" if l % 2 else "sigmoid" for l in range(len(widths) - 1)]
    items = list(module.state_dict().items())
    shuffle.shuffle(items)
    net = from_torch(dict(items), activations=names)
    assert_same(net, module, points(module))


def state(*widths, names=None):
    rng = np.random.default_rng(8)
    names = names or [f"fc{l}" for l in range(1, len(widths))]
    return {
        f"{name}.{role}": rng.normal(size=(m, n) if role == "weight" else m)
        for name, n, m in zip(names, widths[:-1], widths[1:], strict=True)
        for role in ("weight", "bias")
    }


def test_numbers_are_sorted_by_their_size_however_they_are_written():
    names = ["fc1", "fc02", "fc010", "fc11"]
    shuffled = dict(reversed(state(2, 3, 4, 5, 6, names=names).items()))
    assert from_torch(shuffled, activations=["tanh"] * 4).widths == (2, 3, 4, 5, 6)


def test_arrays_and_activation_objects_will_do():
    arrays = state(3, 4, 2)
    net = from_torch(arrays, activations=[jb.activation("elu", alpha=0.5), "identity"])
    assert str(net) == "Network 3-4-2 float64, 26 parameters: elu(alpha=0.5), identity"
    bare = {"weight": np.eye(2, 3), "bias": np.ones(2)}  # of a Linear alone
    assert from_torch(bare, activations=["relu"])(np.ones(3)).tolist() == [2.0, 2.0]


def test_layers_without_numbers_are_put_in_order_by_their_names():
    arrays = state(3, 4, 4, 2, names=["input", "hidden", "output"])
    message = r"the names 'hidden', 'input', 'output' do not say in which order .* mapping"
    with pytest.raises(ValueError, match=message):
        from_torch(arrays, activations=["tanh", "relu", "identity"])
    net = from_torch(arrays, activations={"input": "tanh", "hidden": "relu", "output": "identity"})
    assert np.array_equal(net.layers[1].W, arrays["hidden.weight"])
    assert [str(layer.activation) for layer in net.layers] == ["tanh", "relu", "identity"]


@pytest.mark.parametrize(
    ("arrays", "activations", "error", "message"),
    [
        (
            state(3, 4, 2),
            None,
            ValueError,
            r"no activations; say activations=\[...\], one for each of 'fc1' \(3 -> 4\), 'fc2'",
        ),
        (state(3, 4, 2), ["tanh"], ValueError, r"expected 2, one for each of .*, but got 1"),
        (state(3, 4, 2), "tanh", TypeError, "activations: expected a list, but got 'tanh'"),
        (state(3, 4, 2), {"fc1": "tanh"}, ValueError, "expected the layers 'fc1' .* but got 'fc1'"),
        (state(3, 4, 2), ["tanh", "tahn"], ValueError, "layer 'fc2': activation: 'tahn' is not"),
        (state(3, 4, 2), ["tanh", 5], TypeError, "layer 'fc2': activation: expected a name"),
        ({}, ["tanh"], ValueError, "from_torch: it holds no arrays"),
        (
            {**state(3, 4), "fc2.weight": np.ones((2, 5))},
            ["tanh", "tanh"],
            ValueError,
            r"layer 'fc2' takes 5 inputs, but layer 'fc1' gives 4",
        ),
        ({"a.bias": np.ones(3)}, ["tanh"], ValueError, "'a.bias' is a bias without 'a.weight'"),
        (
            {**state(3, 4), "fc1.bias": np.ones(3)},
            ["tanh"],
            ValueError,
            r"layer 'fc1': bias: expected shape \(4,\), but got \(3,\)",
        ),
        (
            {**state(3, 4), "bn.weight": np.ones(4)},
            ["tanh"],
            NotImplementedError,
            r"'bn.weight' of shape \(4,\) is not the weight .*'bn.weight': None.* evaluation mode",
        ),
        (
            {**state(3, 4), "bn.running_mean": np.ones(4)},
            ["tanh"],
            NotImplementedError,
            "'bn.running_mean' of shape",
        ),
        ({"a.weight": np.ones((2, 3), int) > 0}, ["tanh"], TypeError, "not truth values"),
        ({"a.weight": np.full((2, 3), np.nan)}, ["tanh"], ValueError, r"weight\[0, 0\] is nan"),
    ],
)
def test_a_state_dict_that_does_not_chain_is_refused(arrays, activations, error, message):
    with pytest.raises(error, match=message):
        from_torch(arrays, activations=activations)


# --- graphs ---------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Branches, functions, slices, views, several outputs, arithmetic with constants."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(8, 3)
        self.register_buffer("offset", torch.tensor([0.5, -1.0, 2.0, 0.25]))

    def forward(self, x):
        y = x + torch.tanh(self.inner(x)) * nn.functional.silu(x)
        y = nn.functional.relu(y + 0.1, inplace=True) / 2 - self.offset
        z = torch.cat([y.view(x.size(0), 2, 2).transpose(1, 2).flatten(1), 1 / (1 + x.abs())], 1)
        return self.head(z), {"first": z[:, 1:6:2], "mean": z.mean(1, keepdim=True)}


class Normed(nn.Module):
    """The shapes of attention, written by hand."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(6), nn.Linear(6, 18)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        scores = torch.softmax(q @ k.transpose(-1, -2) / 6**0.5, dim=1)
        return torch.einsum("bij,bjd->bid", scores, v).sum(1) ** 2


def weight_normed():
    torch.manual_seed(4)
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return nn.Sequential(linear, nn.Tanh(), nn.utils.weight_norm(nn.Linear(3, 2)))


class Subclass(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


GRAPHS = {
    "residual": (Residual, {"output": 0}, (4,)),
    "one entry of a dict": (Residual, {"output": "1.first"}, (4,)),
    "another": (Residual, {"output": "1.mean"}, (4,)),
    "attention by hand": (Normed, {"inputs": (5, 6)}, (5, 6)),
    "weight norm, new and old": (weight_normed, {}, (4,)),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)), {}, (4,)),
    "a subclass of Sequential": (lambda: Subclass(nn.Linear(4, 3), nn.Tanh()), {}, (4,)),
    "a graph of fx": (lambda: torch.fx.symbolic_trace(Residual()), {"output": 0}, (4,)),
    "softmax before Flatten": (
        lambda: nn.Sequential(nn.Softmax(1), nn.Flatten(), nn.Linear(12, 2)),
        {"inputs": (3, 4)},
        (3, 4),
    ),
    "slopes of their own": (
        lambda: nn.Sequential(nn.Linear(4, 3), slopes(), nn.Softplus(2.0), nn.Hardswish()),
        {},
        (4,),
    ),
}


def slopes():
    prelu = nn.PReLU(3)
    nn.init.uniform_(prelu.weight)
    return prelu


def part(outputs, output):
    """Return one of several outputs, by its position or name."""
    for key in [] if output is None else str(output).split("."):
        outputs = outputs[int(key) if key.isdigit() else key]
    return outputs


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_read_with_all_its_branches(name):
    make, options, shape = GRAPHS[name]
    torch.manual_seed(2)
    module = make().double().eval()
    net = from_torch(module, **options)
    X = np.random.default_rng(3).normal(size=(4, *shape))
    # a derivative sums products over all branches, ten times as many as a value does
    assert_same(net, lambda x: part(module(x), options.get("output")).flatten(1), X, 1e-12)


def test_several_arguments_are_parts_of_one_vector():
    module = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64).eval()
    shapes = {"query": (3, 4), "key": (2, 4), "value": (2, 4)}
    net = from_torch(module, inputs=shapes, output=0)
    assert {name: part.stop - part.start for name, part in net.inputs.items()} == {
        "query": 12,
        "key": 8,
        "value": 8,
    }

    def called(x):
        query, key, value = x.split([12, 8, 8], dim=1)
        parts = (query.reshape(-1, 3, 4), key.reshape(-1, 2, 4), value.reshape(-1, 2, 4))
        return module(*parts)[0].flatten(1)

    # products of five matrices: ten times as many roundings as a value has
    assert_same(net, called, np.random.default_rng(1).normal(size=(2, 28)), 1e-12)


# --- refusals -------------------------------------------------------------------------------------


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


class Does(nn.Module):
    """A module around a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def hooked():
    linear = nn.Linear(3, 3)
    linear.register_forward_hook(lambda module, args, output: output + 1)
    return linear


def meta():
    with torch.device("meta"):
        return nn.Linear(3, 3)


BATCH = "the Sequential computes something else from three points at once than from one"
REFUSED = [
    (
        nn.Threshold(0.1, 0.0),
        NotImplementedError,
        r"'1.0' \(Threshold\): the operator le has no rule here",
    ),
    (nn.LazyLinear(2), ValueError, "'1.0.weight' is lazy and has no shape yet; call the module on"),
    (
        Deciding(),
        NotImplementedError,
        r"torch.export cannot show .* state_dict\(\) with activations",
    ),
    (hooked(), ValueError, r"'1.0' \(Linear\) has a forward hook, which may change"),
    (meta(), ValueError, r"'1.0.weight' is on the meta device and holds no values"),
    (nn.Dropout(0.1), ValueError, r"'1.0' \(Dropout\) is in training mode, .*; .eval\(\) it"),
    (nn.BatchNorm1d(3), ValueError, r"'1.0' \(BatchNorm1d\) is in training mode"),
    (
        nn.BatchNorm1d(3, track_running_stats=False).eval(),
        ValueError,
        "keeps no running statistics, so a point's output depends on its batch",
    ),
    (
        nn.BatchNorm1d(4).eval(),
        ValueError,
        r"'1.0' \(BatchNorm1d\) does not take what comes from a point of shape \(2,\), as",
    ),
    (nn.Linear(5, 2), ValueError, r"'1.0' \(Linear\) does not take .*say inputs= if it is another"),
    (nn.Softmax(dim=0), ValueError, BATCH),
    (Does(lambda x: x - x.mean(0)), ValueError, BATCH),
    (Does(lambda x: x.flatten().sum() + x), ValueError, BATCH),
    (Does(lambda x: x.reshape(3)), ValueError, "does not take three points at once"),
    (nn.Softplus(threshold=5), NotImplementedError, r"'1.0' \(Softplus\): threshold=5 has no rule"),
    (nn.Linear(3, 2, dtype=torch.complex64), TypeError, "'1.0.weight': expected real numbers"),
    (nn.Conv2d(1, 1, 2, dtype=torch.float32), ValueError, r"'1.0' \(Conv2d\) does not take"),
    (Does(lambda x: x.detach()), NotImplementedError, "detach, after which torch's derivative is"),
    (
        Does(lambda x: x.half().float()),
        NotImplementedError,
        "rounding to torch.float16 has no rule",
    ),
    (Does(lambda x: x + torch.rand(3)), NotImplementedError, "the operator rand, which is random,"),
    (Does(torch.lgamma), NotImplementedError, "the operator lgamma has no rule here"),
    (Does(lambda x: x**x), NotImplementedError, "a power with an exponent that depends on"),
    (Does(lambda x: x.round()), NotImplementedError, "the operator round has no rule here"),
    (Does(lambda x: torch.where(x > 0, x, 0)), NotImplementedError, "has no rule here"),
    (Does(lambda x: torch.ones(1, 3)), ValueError, "gives an output that no input leads to"),
    (Does(lambda x: torch.div(x, 2, rounding_mode="floor")), NotImplementedError, "that rounds"),
    (Does(lambda x: x.clamp(x / 2)), NotImplementedError, "limits that are not two numbers"),
    (Does(lambda x: x[0] @ x[0]), NotImplementedError, r"a product of shapes \(3,\) and \(3,\)"),
]


@pytest.mark.parametrize(("module", "error", "message"), REFUSED)
def test_what_cannot_be_read_is_refused_by_name_and_place(module, error, message):
    with pytest.raises(error, match=message):
        from_torch(nn.Sequential(nn.Linear(2, 3), nn.Sequential(module)))


def test_what_torch_export_wrote_is_read_with_an_open_batch(tmp_path):
    module, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double().eval(), torch.ones(2, 3).double()
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "net.pt2")
    net = from_torch(torch.export.load(tmp_path / "net.pt2").module(), inputs=3)
    # a sum of three products below 1, and tanh, which makes no error larger: four ulps of 1
    assert np.allclose(net(x), module(x).detach(), rtol=0, atol=1e-15)


def test_a_torchscript_program_is_refused_with_the_way_out():
    with pytest.warns(DeprecationWarning, match="jit"):
        program = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(NotImplementedError, match=r"Give its state_dict\(\) with activations"):
        from_torch(program, inputs=2)


def test_a_hook_on_all_modules_is_noticed():
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        with pytest.raises(ValueError, match="every module has a forward hook"):
            from_torch(nn.Linear(2, 3))
    finally:
        handle.remove()
    assert from_torch(nn.Linear(2, 3)).depth == 1


def test_several_outputs_are_listed_and_one_is_chosen():
    message = r"output: expected one of '0', '1.first', '1.mean', but got "
    for output in (None, 2, "first"):
        with pytest.raises(ValueError, match=message):
            from_torch(Residual().eval(), output=output)
    with pytest.raises(ValueError, match="expected one of one, without a name, but got 'y'"):
        from_torch(nn.Linear(2, 3), output="y")


def test_names_of_children_are_the_place():
    module = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), odd=nn.GLU()))
    with pytest.raises(ValueError, match=r"'odd' \(GLU\) does not take .*must be even"):
        from_torch(module)


def test_other_things_are_refused():
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module or a state dict, but got 5"):
        from_torch(5)
    with pytest.raises(TypeError, match="a module has its own activations; leave activations out"):
        from_torch(nn.Linear(2, 3), activations=["tanh"])
    with pytest.raises(ValueError, match="nothing in the model fixes the number of inputs; say"):
        from_torch(nn.Sequential(nn.ReLU()))
    assert from_torch(nn.Sequential(nn.ReLU()), inputs=3).widths == (3, 3)
    sparse = {"a.weight": torch.eye(3).to_sparse()}
    with pytest.raises(TypeError, match=r"'a.weight': expected a plain tensor, but got"):
        from_torch(sparse, activations=["tanh"])


def test_the_table_names_operators_of_torch():
    packets = torch.ops.aten
    assert all(hasattr(packets, name) for name in IMPORTABLE["from_torch"])


class Recurrent(nn.Module):
    """The last state of an LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1])


def test_the_steps_of_a_recurrent_module_share_its_weights():
    """In single precision, where torch begins with zeros in float32."""
    module = Recurrent().eval()
    net = from_torch(module, inputs=(7, 2))
    held = {id(array.base): array.nbytes for l in net.layers for array in l.arrays().values()}
    assert net.dtype == np.float32
    assert sum(held.values()) < 2 * sum(p.nbytes for p in module.parameters())
    assert_same(net.astype(np.float64), module.double(), RNG.normal(size=(2, 7, 2)))


@pytest.mark.parametrize("given", [{}, {"count_include_pad": False}])
@pytest.mark.parametrize("padding", [0, 1])
def test_means_of_windows_that_are_cut_off_are_torchs(given, padding):
    module = nn.AvgPool2d(2, 3, padding, ceil_mode=True, **given)
    flat = nn.Sequential(module, nn.Flatten())
    assert_same(from_torch(flat, inputs=(2, 6, 5)), flat, RNG.normal(size=(2, 2, 6, 5)))
