"""Files of other programs: .nnet, .mat, .npz, .pt, .keras and .h5 are read, and nothing is run."""

import contextlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import ELSEWHERE

RNG = np.random.default_rng(12)
MIB = 2**20


def weights(*widths):
    return [(RNG.normal(size=(m, n)), RNG.normal(size=m)) for n, m in pairwise(widths)]


def value(layers, x, sigma=np.tanh):
    """Return what the layers compute: sigma between them."""
    for l, (W, b) in enumerate(layers, start=1):
        x = W @ x + b
        x = sigma(x) if l < len(layers) else x
    return x


TWO = ["tanh", "identity"]

# --- .nnet ----------------------------------------------------------------------------------------


def nnet(layers, low, high, means, ranges):
    """Write the format down, line by line."""
    row = lambda numbers: ",".join(repr(float(n)) for n in numbers) + ",\n"  # noqa: E731
    sizes = [layers[0][0].shape[1], *(len(b) for _, b in layers)]
    text = f"// a comment\n{len(layers)},{sizes[0]},{sizes[-1]},{max(sizes)},\n"
    text += ",".join(map(str, sizes)) + ",\n0,\n"
    text += row(low) + row(high) + row(means) + row(ranges)
    for W, b in layers:
        text += "".join(map(row, W)) + "".join(row([entry]) for entry in b)
    return text


LIMITS = ([-1.0, 0.0, 5.0], [1.0, 2.0, 5.0])
NORMAL = ([0.1, 0.2, 0.3, 0.4], [2.0, 3.0, 4.0, 5.0])


@pytest.mark.parametrize("x", [[0.5, 1.0, 5.0], [3.0, -1.0, 7.0]])
def test_a_nnet_file_is_its_network_between_two_normalisations(tmp_path, x):
    """Inside the limits of the inputs and beyond them, where they are cut off."""
    layers = weights(3, 5, 4, 2)
    path = tmp_path / "a.nnet"
    path.write_text(nnet(layers, *LIMITS, *NORMAL))
    net = jb.load(path)
    means, ranges = map(np.array, NORMAL)
    inner = (np.clip(x, *LIMITS) - means[:-1]) / ranges[:-1]
    expected = value(layers, inner, lambda z: np.maximum(z, 0)) * ranges[-1] + means[-1]
    # the normalisations are folded into the weights, which rounds them: some of 2 to 5 once more
    assert np.allclose(net(x), expected, rtol=1e-14, atol=1e-13)
    held = (np.array(x) <= LIMITS[0]) | (np.array(x) >= LIMITS[1])
    assert not jb.jacobian(net, x)[:, held].any()


GOOD = nnet(weights(3, 5, 2), *LIMITS, *NORMAL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected another line"),
        ("// only\n", "line 2: expected another line"),
        ("hello\n", "line 1: expected numbers between commas, but got 'hello'"),
        ("2,3\n", "line 1: expected 3 numbers or more, but got 2"),
        (GOOD.replace("3,5,2,\n", "3,5,4,\n"), "line 3: expected 3 sizes from 3 to 2, but got"),
        (GOOD.replace("2,3,2,5", "9,3,2,5"), "expected 10 sizes from 3 to 2"),
        (GOOD[: len(GOOD) // 2], "expected"),
        (GOOD.replace("-1.0,0.0,5.0", "-1.0,0.0"), "line 5: expected 3 numbers or more, but got 2"),
        (GOOD.replace("-1.0,0.0,5.0", "9.0,0.0,5.0"), "limits in order .*and ranges that are not"),
        (GOOD.replace("2.0,3.0,4.0,5.0", "2.0,0.0,4.0,5.0"), "ranges that are not 0"),
        (GOOD.replace("-1.0,0.0,5.0", "-inf,0.0,5.0"), "line 5: expected 3 finite numbers"),
        ("1,99999999,1,1\n99999999,1\n0\n", "99999999 numbers, for which the file is too short"),
        ("20000,1,1,1\n", "line 1: expected at most 10000 layers, but got 20000"),
        ("1" * (2 * MIB), f"line 1: expected at most {MIB} characters"),
    ],
)
def test_a_damaged_nnet_file_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "a.nnet"
    path.write_text(text)
    with pytest.raises(jb.ModelFormatError, match=rf"^a.nnet: .*{message}"):
        jb.load(path)


# --- .npz and .mat --------------------------------------------------------------------------------


def named(layers, weight="W{}", bias="b{}"):
    pairs = [((weight.format(l), W), (bias.format(l), b)) for l, (W, b) in enumerate(layers, 1)]
    return dict(entry for pair in pairs for entry in pair)


def cells(arrays):
    made = np.empty((1, len(arrays)), object)
    for k, array in enumerate(arrays):
        made[0, k] = array
    return made


LAYERS = weights(3, 4, 2)
NPZ = {
    "numbered": named(LAYERS),
    "small letters": named(LAYERS, "w_{}", "b_{}"),
    "spelled out": named(LAYERS, "weights{}", "biases{}"),
    "sources first": named([(W.T, b) for W, b in LAYERS]),
    "a state dict": named(LAYERS, "fc{}.weight", "fc{}.bias"),
    "bias in the first column": {
        f"Theta{l}": np.column_stack([b, W]) for l, (W, b) in enumerate(LAYERS, 1)
    },
}


@pytest.mark.parametrize("name", NPZ)
def test_bare_weights_are_taken_by_their_names(tmp_path, name):
    np.savez(tmp_path / "a.npz", **NPZ[name])
    net = jb.load(tmp_path / "a.npz", activations=TWO)
    x = RNG.normal(size=3)
    # sums of three and four products of order 1, rounded in another order
    assert np.allclose(net(x), value(LAYERS, x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["numbered", "cells", "bias in the first column"])
def test_matlab_files_hold_them_too(tmp_path, name, compressed):
    scipy_io = pytest.importorskip("scipy.io")
    if name == "cells":
        arrays = {"W": cells([W for W, _ in LAYERS]), "b": cells([b for _, b in LAYERS])}
    else:
        arrays = NPZ[name]
    arrays = {**arrays, "about": "a network", "settings": {"W1": 3}}
    scipy_io.savemat(tmp_path / "a.mat", arrays, do_compression=compressed)
    net = jb.load(tmp_path / "a.mat", activations=TWO)
    x = RNG.normal(size=3)
    # sums of three and four products of order 1, rounded in another order
    assert np.allclose(net(x), value(LAYERS, x), rtol=0, atol=1e-14)


SQUARE = weights(3, 3, 3)


@pytest.mark.parametrize(
    ("arrays", "activations", "error", "message"),
    [
        (named(LAYERS), None, ValueError, r"activations=\[...\], one for each of '1' \(3 -> 4\)"),
        ({"x": np.ones(3)}, TWO, jb.ModelFormatError, r"expected arrays W1, b1, .* but got 'x'"),
        (named(SQUARE), TWO, jb.ModelFormatError, r"both as \(n_out, n_in\) and as \(n_in"),
        ({"W1": np.ones((2, 3)), "b1": np.ones(5)}, ["relu"], jb.ModelFormatError, "layer '1'"),
        (
            {"b1": np.ones(5), "W2": np.ones((1, 5)), "b2": [1]},
            ["relu"],
            jb.ModelFormatError,
            "without",
        ),
        ({"W1": np.ones((2, 3, 4))}, ["relu"], jb.ModelFormatError, "expected numbers with two"),
        (
            {"W1": np.full((2, 3), np.nan), "b1": [1, 2]},
            ["relu"],
            jb.ModelFormatError,
            r"weight\[0, 0\] is nan",
        ),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, activations, error, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(error, match=message):
        jb.load(tmp_path / "a.npz", activations=activations)


def mat_header():
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


NUMBERS = struct.pack("<II6d", 9, 48, *range(6))


def matrix(name=b"W1", sizes=(3, 2), numbers=NUMBERS):
    """Write a matrix; SciPy's reader falls over one that has no numbers."""
    content = struct.pack("<8I", 6, 8, 6, 0, 5, 8, *sizes) + struct.pack("<HH4s", 1, 2, name)
    return struct.pack("<II", 14, len(content + numbers)) + content + numbers


def test_a_matlab_file_that_is_none_or_unpacks_without_end_is_refused(tmp_path):
    packed = zlib.compress(bytes(200 * MIB), 9)
    bomb = mat_header() + struct.pack("<II", 15, len(packed)) + packed
    for content, message in (
        (b"hello", "does not begin like one"),
        (b"MATLAB 7.3 MAT-file".ljust(512), r"version 7.3; write it with save\(..., '-v7'\)"),
        (mat_header() + b"\x0e\0\0\0\xff\0\0\0garbage", "not a readable .mat file"),
        (mat_header() + matrix(numbers=b""), "an element is missing"),
        (mat_header() + matrix(numbers=struct.pack("<II", 14, 0)), "numbers of kind 14"),
        (mat_header() + matrix(sizes=(2**31 - 1, 2**31 - 1)), "claims shape .* holds 6 entries"),
        (mat_header() + 2 * matrix(), "holds 'W1' twice"),
        (bomb, "unpacks to more than 8 times its size"),
    ):
        path = tmp_path / "a.mat"
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(jb.ModelFormatError, match=f"^a.mat: .*{message}"):
            jb.load(path, activations=TWO)
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB + 3 * len(content)
        tracemalloc.stop()
    bias = matrix(b"b1", (3, 1), struct.pack("<II3d", 9, 24, 1, 1, 1))
    path.write_bytes(mat_header() + matrix() + bias)
    assert jb.load(path, activations=["relu"]).layers[0].W.tolist() == [[0, 3], [1, 4], [2, 5]]


# --- .pt ------------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it leaves a mark."""

    def __reduce__(self):
        return os.system, ("touch executed",)


class Bomb:
    """Unpickled, it fills the memory."""

    def __reduce__(self):
        return bytearray, (2**31,)


def checkpoints():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    inner = nn.Linear(4, 2)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.utils.parametrizations.weight_norm(inner))
    state = module.double().state_dict()
    optimizer = torch.optim.Adam(module.parameters()).state_dict()
    return (
        torch,
        module,
        {
            "bare": state,
            "nested": {"epoch": 3, "state_dict": state, "optimizer": optimizer},
            "the only one": {"epoch": torch.tensor(3), "weights": state},
            "in parallel": {f"module.{key}": tensor for key, tensor in state.items()},
            "compiled": {"model": {f"_orig_mod.{key}": tensor for key, tensor in state.items()}},
        },
    )


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_of_torch_is_its_module(tmp_path, old):
    torch, module, states = checkpoints()
    x = RNG.normal(size=3)
    expected = module(torch.tensor(x)).detach().numpy()
    for state in states.values():
        torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
        net = jb.load(tmp_path / "a.pt", activations=TWO)
        # sums of a few products of order 1, rounded in another order
        assert np.allclose(net(x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes_of_torch_are_read_as_they_are(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    linear = torch.nn.Linear(3, 2, dtype=getattr(torch, dtype))
    torch.save(linear.state_dict(), tmp_path / "a.pth")
    net = jb.load(tmp_path / "a.pth", activations=["relu"])
    assert net.dtype == np.float32
    assert np.array_equal(net.layers[0].W, linear.weight.detach().float().numpy())


def test_spectral_norm_is_folded(tmp_path):
    torch = pytest.importorskip("torch")
    linear = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 2)).double().eval()
    torch.save(linear.state_dict(), tmp_path / "a.pt")
    x = RNG.normal(size=3)
    expected = linear(torch.tensor(x)).detach().numpy()
    net = jb.load(tmp_path / "a.pt", activations=["identity"])
    # sums of a few products of order 1, rounded in another order
    assert np.allclose(net(x), expected, rtol=0, atol=1e-14)


def test_what_is_no_layer_is_left_out_by_name(tmp_path):
    torch, _, states = checkpoints()
    state = {**states["bare"], "log_std": torch.zeros(2), "critic.0.weight": torch.ones(1, 3)}
    torch.save(state, tmp_path / "a.pt")
    message = r"'log_std' of shape \(2,\) is not the weight .*leave it out .*'log_std': None\}"
    with pytest.raises(jb.ModelFormatError, match=message):
        jb.load(tmp_path / "a.pt", activations=TWO)
    left = {"0": "tanh", "2": "identity", "log_std": None, "critic": None}
    net = jb.load(tmp_path / "a.pt", activations=left)
    assert net.widths == (3, 4, 2)


def test_a_view_of_a_few_numbers_is_not_blown_up(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.ones(1).expand(2**15, 2**15)}, tmp_path / "a.pt")
    with pytest.raises(jb.ModelFormatError, match=r"claims shape \(32768, 32768\), more than"):
        jb.load(tmp_path / "a.pt", activations=["relu"])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_what_would_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch, _, states = checkpoints()
    buffers = {}
    for name, thing in (
        ("trap", {"a.weight": Trap()}),
        ("bomb", {"a.weight": Bomb()}),
        ("module", torch.nn.Linear(2, 3)),
        ("two", {"actor": states["bare"], "critic": states["bare"]}),
        ("number", {"a.weight": torch.ones(2, 3), "a.bias": 5}),
    ):
        buffers[name] = io.BytesIO()
        torch.save(thing, buffers[name])
    torch.jit.script(torch.nn.Linear(2, 3)).save("script.pt")
    for content, message in (
        (pickle.dumps(Trap()), "posix.system, which is code and not only weights"),
        (buffers["trap"].getvalue(), "posix.system, which is code"),
        (buffers["bomb"].getvalue(), "bytearray, which is code"),
        (
            buffers["module"].getvalue(),
            "torch.nn.modules.linear.Linear, which is code .*torch.load",
        ),
        (buffers["two"].getvalue(), "got the entries 'actor', 'critic'; give one of them"),
        (buffers["number"].getvalue(), r"'a.bias' of shape \(\) is not the weight"),
        ((tmp_path / "script.pt").read_bytes(), "a TorchScript program, which is code"),
        (b"hello", "not a readable file of torch.save"),
        (buffers["number"].getvalue()[:-100], "not a readable file of torch.save"),
    ):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(jb.ModelFormatError, match=f"^a.pt: .*{message}"):
            jb.load(tmp_path / "a.pt", activations=["relu"])
    assert not (tmp_path / "executed").exists()


@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_damaged_checkpoint_is_loaded_or_refused(tmp_path_factory, position, byte):
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}, buffer)
    data = bytearray(buffer.getvalue())
    data[position % len(data)] = byte
    path = tmp_path_factory.mktemp("damaged") / "a.pt"
    path.write_bytes(data)
    with contextlib.suppress(jb.ModelFormatError):
        jb.load(path, activations=["relu"])


# --- .keras and .h5 -------------------------------------------------------------------------------


@pytest.fixture
def keras():
    import importlib.util

    if importlib.util.find_spec("torch"):
        os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("h5py")
    return pytest.importorskip("keras")


def described(path, config):
    """Write another description into an .h5 file."""
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)


def images(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((5, 4, 2)),
            layers.Conv2D(3, 2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, layers.LeakyReLU(0.1)),
            layers.Dense(2, "mish"),
        ]
    )


def branches(keras):
    x = keras.Input((4,))
    h = keras.layers.Dense(3, "tanh")(x)
    return keras.Model(x, keras.layers.Concatenate()([h, keras.layers.Dense(2)(h)]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [images, branches])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_of_keras_is_loaded_from_its_file(keras, tmp_path, make, suffix):
    model = make(keras)
    model.save(tmp_path / f"a.{suffix}")
    net = jb.load(tmp_path / f"a.{suffix}")
    X = RNG.normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(model(X)))
    # sums of some ten products of order 1 in float32, whose ulps are 1e-7, in another order
    assert np.allclose(net(X.reshape(2, -1)), expected, rtol=0, atol=3e-6)


OLD = [
    {
        "class_name": "Dense",
        "config": {
            "name": "first",
            "batch_input_shape": [None, 4],
            "units": 3,
            "activation": "tanh",
            "kernel_initializer": {"class_name": "VarianceScaling", "config": {"mode": "fan_avg"}},
        },
    },
    {"class_name": "Dense", "config": {"name": "second", "units": 2}},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", [OLD, {"name": "old", "layers": OLD}])
def test_the_shape_of_the_input_as_it_used_to_be_written(keras, tmp_path, config):
    layers = [keras.layers.Dense(3, "tanh", name="first"), keras.layers.Dense(2, name="second")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.save(tmp_path / "a.h5")
    described(tmp_path / "a.h5", {"class_name": "Sequential", "config": config})
    X = RNG.normal(size=(2, 4)).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(model(X)))
    # sums of four and three products of order 1 in float32, whose ulps are 1e-7
    assert np.allclose(jb.load(tmp_path / "a.h5")(X), expected, rtol=0, atol=3e-6)


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def layer(kind, **config):
    return {"class_name": kind, "config": {"name": "odd", **config}}


HUGE = layer("Dense", batch_input_shape=[None, 400_000], units=3_000_000)
CODE = {"class_name": "function", "config": "system", "module": "os", "registered_name": None}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (sequential(HUGE), r"describes \d+ weights, but the file has 23"),
        (sequential(layer("Lambda", function="x")), "layer 'odd': 'Lambda' of 'keras' is not a"),
        (sequential({**layer("Dense"), "module": "os.path"}), "'Dense' of 'os.path' is not a"),
        (sequential({**layer("Dense"), "registered_name": "mine>Dense"}), "is not a layer"),
        (sequential(layer("Dense", units=2, activation=CODE)), "'function' of 'os' is not a"),
        (sequential(layer("TFSMLayer", filepath="/")), "'TFSMLayer' of 'keras' is not a layer"),
        ({"class_name": "Mine", "config": {}}, "describes a 'Mine', which is code"),
        ([], r"describes a \[\], which is code"),
    ],
)
def test_a_description_of_anything_else_is_refused(keras, tmp_path, config, message):
    layers = [keras.layers.Dense(3, "tanh", name="first"), keras.layers.Dense(2, name="second")]
    keras.Sequential([keras.Input((4,)), *layers]).save(tmp_path / "a.h5")
    described(tmp_path / "a.h5", config)
    with pytest.raises(jb.ModelFormatError, match=f"^a.h5: .*{message}"):
        jb.load(tmp_path / "a.h5")


@pytest.mark.filterwarnings("ignore")
def test_links_and_arrays_elsewhere_are_refused(keras, tmp_path):
    import h5py

    for name, write in (
        ("a link", lambda f: f.__setitem__("a", h5py.ExternalLink("other.h5", "/"))),
        ("a link", lambda f: f.__setitem__("a", h5py.SoftLink("/b"))),
        ("outside", lambda f: f.create_dataset("a", (3,), "f4", external="other.bin")),
        ("packed", lambda f: f.create_dataset("a", (2**24,), "f4", compression="gzip")),
    ):
        branches(keras).save(tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            write(file)
        with pytest.raises(jb.ModelFormatError, match=r"may lead anywhere|lie in the file as they"):
            jb.load(tmp_path / "a.h5")
        assert name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_of_several_outputs_of_keras_one_is_chosen(keras, tmp_path, suffix):
    x = keras.Input((3,))
    heads = [keras.layers.Dense(n, name=name)(x) for n, name in ((2, "policy"), (1, "value"))]
    path = tmp_path / f"net{suffix}"
    keras.Model(x, heads).save(path)
    assert jb.load(path, output="value").widths[-1] == 1
    with pytest.raises(jb.ModelFormatError, match="expected one of 'policy', 'value'"):
        jb.load(path)


@pytest.mark.filterwarnings("ignore")
def test_weights_without_a_model_and_no_files_of_keras_are_refused(keras, tmp_path):
    branches(keras).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(jb.ModelFormatError, match=r"holds weights and no model\. Build"):
        jb.load(tmp_path / "a.weights.h5")
    branches(keras).save(tmp_path / "whole.h5")
    with pytest.raises(TypeError, match=r"whole\.h5 has its own activations; leave activations"):
        jb.load(tmp_path / "whole.h5", activations=TWO)
    for name, content, message in (
        ("a.h5", b"hello", "not a readable model of Keras"),
        ("a.h5", pickle.dumps({}), r"was written by pickle or joblib: from_sklearn\(joblib"),
        ("a.keras", b"hello", "not a readable model of Keras"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(jb.ModelFormatError, match=f"^{name}: {message}"):
            jb.load(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * 1000)
    with pytest.raises(jb.ModelFormatError, match=r"is compressed; save it with model\.save"):
        jb.load(tmp_path / "a.keras")


# --- other files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ELSEWHERE)
def test_a_file_of_another_program_says_how_to_get_there(suffix):
    with pytest.raises(jb.ModelFormatError, match=rf"a {suffix} file is loaded by what wrote it"):
        jb.load(f"net{suffix}")


def test_a_whole_model_has_its_own_activations(tmp_path):
    for name in ("a.nnet", "a.keras"):
        with pytest.raises(TypeError, match=f"{name} has its own activations; leave activations"):
            jb.load(tmp_path / name, activations=TWO)
