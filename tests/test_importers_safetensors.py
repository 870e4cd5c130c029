"""safetensors files are networks once the activations are named; damaged ones are refused."""

import json
import struct
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb

pytest.importorskip("safetensors")

from safetensors.numpy import save, save_file

RNG = np.random.default_rng(4)


def state(*widths, dtype=np.float64, name="fc{}"):
    return {
        f"{name.format(l)}.{role}": RNG.normal(size=shape).astype(dtype)
        for l, (n, m) in enumerate(pairwise(widths), start=1)
        for role, shape in (("weight", (m, n)), ("bias", (m,)))
    }


def written(path, header, data=b""):
    """Write a file by hand: the length of the header, the header, the bytes of the arrays."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@settings(max_examples=20)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=14),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_layers_are_chained_in_the_order_of_their_numbers(widths, dtype, tmp_path_factory):
    """a^l = tanh(W^l a^{l-1} + b^l); the file sorts fc10 before fc2."""
    path = tmp_path_factory.getbasetemp() / "net.safetensors"
    arrays = state(*widths, dtype=dtype)
    save_file(arrays, path)
    depth = len(widths) - 1
    net = jb.load(path, activations=["tanh"] * depth)
    assert (net.dtype, net.widths) == (dtype, tuple(widths))
    for l, layer in enumerate(net.layers, start=1):
        assert str(layer.activation) == "tanh"
        assert np.array_equal(layer.W, arrays[f"fc{l}.weight"])
        assert np.array_equal(layer.b, arrays[f"fc{l}.bias"])


def test_half_precision_is_widened_to_float32(tmp_path):
    W = np.array([[1.5, -2.0, 0.25]])
    save_file({"weight": W.astype(np.float16)}, tmp_path / "net.safetensors")
    net = jb.load(tmp_path / "net.safetensors", activations=["relu"])
    assert (net.dtype, net.layers[0].W.tolist()) == (np.float32, W.tolist())
    brains = (W.astype("<f4").view("<u4") >> 16).astype("<u2")
    header = {"weight": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [0, 6]}}
    path = written(tmp_path / "net.safetensors", header, brains.tobytes())
    net = jb.load(path, activations=["relu"])
    assert (net.dtype, net.layers[0].W.tolist()) == (np.float32, W.tolist())


def test_a_file_of_torch_is_the_module(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_module

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    save_module(module.state_dict(), tmp_path / "net.safetensors")
    net = jb.load(tmp_path / "net.safetensors", activations=["tanh", "identity"])
    x = np.ones(4)
    theirs = torch.autograd.functional.jacobian(module.double(), torch.tensor(x)).numpy()
    # sums of four and three products of order 1, rounded in another order
    assert np.allclose(jb.jacobian(net.astype(np.float64), x), theirs, rtol=0, atol=1e-15)


def test_the_activations_must_be_named(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(state(3, 4, 2), path)
    message = r"^net.safetensors: a state dict holds no activations; say .* 'fc1' \(3 -> 4\), 'fc2'"
    with pytest.raises(ValueError, match=message) as caught:
        jb.load(path)
    assert not isinstance(caught.value, jb.ModelFormatError)  # nothing is wrong with the file
    with pytest.raises(ValueError, match=r"expected 2, one for each of .*, but got 1"):
        jb.load(path, activations=["tanh"])
    with pytest.raises(TypeError, match="layer 'fc2': activation: expected a name"):
        jb.load(path, activations=["tanh", 3])
    with pytest.raises(FileNotFoundError):
        jb.load(tmp_path / "absent.safetensors", activations=["tanh"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "net.safetensors: it holds no arrays"),
        ({"conv.weight": np.ones((2, 3, 3))}, r"'conv.weight' of shape \(2, 3, 3\) is not the wei"),
        ({"fc.bias": np.ones(3)}, "'fc.bias' is a bias without 'fc.weight'"),
        ({"": np.ones(3)}, "'' of shape"),
        ({".weight": np.ones((2, 3))}, "'.weight' names no layer before its dot; rename it"),
        ({"weight": np.ones((2, 3)), ".bias": np.ones(2)}, "'.bias' names no layer before its dot"),
        ({"weight": np.ones((2, 3)), ".weight": np.ones((2, 3))}, "'.weight' names no layer"),
        ({"fc.weight": np.ones((2, 3), int)}, "'fc.weight' is of I64; expected one of F32, F64"),
        ({"fc.weight": np.ones((0, 3))}, r"expected a weight of shape \(n_out, n_in\)"),
        ({"fc.weight": np.full((2, 3), np.nan)}, r"layer 'fc': weight\[0, 0\] is nan"),
        ({"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(3)}, r"expected shape \(2,\), but got"),
        ({"a1.weight": np.ones((2, 3)), "a²1.weight": np.ones((2, 2))}, "in which order"),
        ({**state(3, 4), "fc2.weight": np.ones((2, 5))}, "layer 'fc2' takes 5 inputs, but layer"),
    ],
)
def test_a_file_of_anything_else_is_refused(arrays, message, tmp_path):
    save_file(arrays, tmp_path / "net.safetensors")
    count = sum(name.endswith("weight") for name in arrays)
    # in which order layers without numbers stand is a question to the caller, not damage
    error = ValueError if "order" in message else jb.ModelFormatError
    with pytest.raises(error, match=message):
        jb.load(tmp_path / "net.safetensors", activations=["tanh"] * count)


F64 = {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"weight": {**F64, "shape": [2, 4]}}, bytes(48)),
        ({"weight": {**F64, "shape": [2**40, 2**40]}}, bytes(48)),
        ({"weight": {**F64, "data_offsets": [0, 2**60], "shape": [2**57]}}, bytes(48)),
        ({"weight": {**F64, "data_offsets": [48, 0]}}, bytes(48)),
        ({"weight": {**F64, "data_offsets": [8, 56]}}, bytes(56)),
        ({"weight": F64}, bytes(47)),
        ({"weight": F64}, bytes(49)),
        ({"weight": F64, "bias": {**F64, "shape": [6]}}, bytes(48)),
        ({"weight": {**F64, "shape": [-2, -3]}}, bytes(48)),
        ({"weight": {**F64, "dtype": "F65"}}, bytes(48)),
        ({"weight": 5}, bytes(48)),
        ([], b""),
        (b'{"weight": ', b""),
        (b"\xff\xfe", b""),
        (b'{"a":' * 50_000, b""),
    ],
)
def test_a_header_that_lies_is_refused(header, data, tmp_path):
    path = written(tmp_path / "net.safetensors", header, data)
    with pytest.raises(jb.ModelFormatError, match=r"^net.safetensors: not a readable safetensors"):
        jb.load(path, activations=["tanh"])


def test_a_key_that_stands_twice_is_refused(tmp_path):
    header = b'{"weight": %s, "weight": %s}' % ((json.dumps(F64).encode(),) * 2)
    path = written(tmp_path / "net.safetensors", header, bytes(48))
    with pytest.raises(jb.ModelFormatError, match="it holds 'weight' twice"):
        jb.load(path, activations=["tanh"])


def test_the_key_that_stands_twice_is_told_in_linear_time(tmp_path):
    """Four times as many keys take four times as long, and not sixteen times."""

    def seconds(count):
        keys = [*range(count), count - 1]
        header = ("{" + ",".join(f'"{k}":0' for k in keys) + "}").encode()
        path = written(tmp_path / "net.safetensors", header)
        times = []
        for _ in range(3):
            start = time.process_time()
            with pytest.raises(jb.ModelFormatError, match=f"it holds '{count - 1}' twice"):
                jb.load(path, activations=["tanh"])
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(16_000) < 10 * seconds(4_000)


def test_a_tensor_that_shares_its_memory_is_found_by_the_note(tmp_path):
    """save_model leaves one of two tied weights out, and says so in the metadata."""
    W = RNG.normal(size=(3, 3))
    metadata = {"fc2.weight": "fc1.weight", "format": "pt"}
    save_file({"fc1.weight": W}, tmp_path / "net.safetensors", metadata)
    net = jb.load(tmp_path / "net.safetensors", activations=["tanh", "relu"])
    assert [layer.W.tolist() for layer in net.layers] == [W.tolist()] * 2


def peak_of(path):
    tracemalloc.start()
    try:
        with pytest.raises(jb.ModelFormatError):
            jb.load(path, activations=["tanh"])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_refusal_costs_little_more_than_the_file(tmp_path):
    """Headers of nothing but empty tensors, and half precision that is none."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"{k}": empty for k in range(100_000)}).encode()
    assert len(header) > 2**22
    path = written(tmp_path / "net.safetensors", header)
    assert peak_of(path) < 2 * len(header)
    nan = {"weight": {"dtype": "BF16", "shape": [1, 2**20], "data_offsets": [0, 2**21]}}
    path = written(tmp_path / "net.safetensors", nan, b"\xc0\x7f" * 2**20)
    assert peak_of(path) < 4 * 2**21


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 2**63), b"\xff" * 100])
def test_a_header_longer_than_the_file_is_refused(content, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(jb.ModelFormatError, match="not a readable safetensors file"):
        jb.load(path, activations=["tanh"])


@settings(max_examples=300)
@given(damage=st.data())
def test_any_damage_gives_a_network_or_a_format_error(damage, tmp_path_factory):
    """Bytes changed, inserted or cut anywhere."""
    data = bytearray(save(state(3, 4, 2)))
    for _ in range(damage.draw(st.integers(1, 3))):
        first = damage.draw(st.integers(0, len(data) - 1))
        kind = damage.draw(st.sampled_from(["change", "insert", "cut"]))
        if kind == "change":
            data[first] = damage.draw(st.integers(0, 255) | st.sampled_from(b'0123456789"{}[],:'))
        elif kind == "insert":
            data[first:first] = damage.draw(st.binary(max_size=4))
        else:
            del data[first : first + damage.draw(st.integers(1, 40))]
        if not data:
            break
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert isinstance(jb.load(path, activations=["tanh", "identity"]), jb.Network)
    except ValueError as err:
        # damage that leaves names which are others asks for other activations
        if not isinstance(err, jb.ModelFormatError) and "activations" not in str(err):
            raise
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**20
