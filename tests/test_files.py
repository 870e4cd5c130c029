"""Save and load: what comes back is what went in; what is not a network says what is wrong."""

import contextlib
import io
import json
import os
import warnings
import zipfile

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import data

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())


@every_network
def test_a_saved_network_comes_back_bit_for_bit(net, tmp_path):
    path = tmp_path / "net.npz"
    jb.save(net, path)
    again = jb.load(path)
    assert repr(again) == repr(net)
    assert_equal(again.parameters, net.parameters)
    X = points(net, 2)
    assert_equal(jb.jacobian(again, X), jb.jacobian(net, X))
    assert [a.activation for a in again.layers] == [a.activation for a in net.layers]


def test_names_parameters_and_widths_come_back(tmp_path):
    net = jb.Network(
        [jb.Elementwise(jb.activation("celu", alpha=0.5))],
        inputs=2,
        input_names=["ä", "b"],
        output_names=["x", "y"],
    ).astype(np.float32)
    jb.save(net, tmp_path / "net.npz")
    again = jb.load(str(tmp_path / "net.npz"))
    assert (again.input_names, again.output_names) == (("ä", "b"), ("x", "y"))
    assert again.layers[0].activation == jb.activation("celu", alpha=0.5)
    assert (again.widths, again.dtype) == ((2, 2), np.float32)


def test_saving_replaces_in_one_step_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    first, second = (jb.Network.random([2, 3], seed=s) for s in (0, 1))
    jb.save(first, path)
    jb.save(second, path)
    assert_equal(jb.load(path).parameters, second.parameters)

    def crash(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(OSError, match="disk full"):
        jb.save(first, path)
    assert os.listdir(tmp_path) == ["net.npz"]
    assert_equal(jb.load(path).parameters, second.parameters)


def test_what_holds_code_is_not_saved(tmp_path):
    own = jb.Activation("cube", lambda z: z**3, lambda z: 3 * z**2)
    with pytest.raises(TypeError, match="layer 1: activation 'cube' is your own"):
        jb.save(jb.Network([jb.Dense([[1.0]], activation=own)]), tmp_path / "net.npz")
    impostor = jb.Activation("tanh", lambda z: z, lambda z: z)
    with pytest.raises(TypeError, match="'tanh' is your own"):
        jb.save(jb.Network([jb.Dense([[1.0]], activation=impostor)]), tmp_path / "net.npz")
    with pytest.raises(ValueError, match=r"ending in .npz, but got 'net.pkl'"):
        jb.save(NETWORKS["linear"], tmp_path / "net.pkl")
    assert not list(tmp_path.iterdir())


# --- files that are not what they claim -----------------------------------------------------------


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names, which are the point
        for name, content in members:
            file.writestr(name, content)


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **options)
    return buffer.getvalue()


def layer(kind, name):
    return {"kind": kind, "activation": {"name": name, "parameters": {}}}


def header(**changes):
    description = {
        "format": "jacobians network",
        "version": 1,
        "dtype": "float64",
        "inputs": 2,
        "input_names": None,
        "output_names": None,
        "layers": [layer("dense", "tanh")],
    }
    description.update(changes)
    return npy(np.frombuffer(json.dumps(description).encode(), np.uint8))


W, b = npy(np.ones((3, 2))), npy(np.ones(3))
GOOD = [("header.npy", header()), ("1.W.npy", W), ("1.b.npy", b)]


def test_the_good_archive_loads(tmp_path):
    archive(tmp_path / "net.npz", GOOD)
    assert repr(jb.load(tmp_path / "net.npz")) == "Network 2-3 float64, 9 parameters: tanh"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "expected arrays W1, b1"),
        ([*GOOD, ("1.W.npy", W)], "two members have the same name"),
        ([*GOOD, ("2.W.npy", W)], "no layer uses 2.W"),
        (GOOD[:2], "not a network file: '1.b'"),
        ([GOOD[0], ("1.W.npy", npy(np.ones((3, 5)))), GOOD[2]], "takes 5 inputs"),
        ([GOOD[0], ("1.W.npy", npy(np.full((3, 2), np.nan))), GOOD[2]], "is nan"),
        ([GOOD[0], ("1.W.npy", W[:-8]), GOOD[2]], "which is not what the file holds"),
        (
            [GOOD[0], ("1.W.npy", W.replace(b"(3, 2)", b"(9, 9)")), GOOD[2]],
            r"claims shape \(9, 9\)",
        ),
        (
            [GOOD[0], ("1.W.npy", W.replace(b"(3, 2)", b"(-3,-2)")), GOOD[2]],
            "not a readable|claims",
        ),
        (
            [GOOD[0], ("1.W.npy", npy(np.array([{}, 1], object), allow_pickle=True)), GOOD[2]],
            "dtype object, expected plain numbers",
        ),
        ([GOOD[0], ("1.W.npy", b"not an array"), GOOD[2]], "not a readable npz archive"),
        ([("header.npy", npy(np.frombuffer(b"{", np.uint8))), *GOOD[1:]], "not a network file"),
        ([("header.npy", npy(np.frombuffer(b"[]", np.uint8))), *GOOD[1:]], "not a network file"),
        ([("header.npy", header(version=3)), *GOOD[1:]], "version 3 is not"),
        ([("header.npy", header(format="x")), *GOOD[1:]], "format 'x'"),
        ([("header.npy", header(layers=[])), *GOOD[1:]], "no layer uses 1.W, 1.b"),
        ([("header.npy", header(layers=[{"kind": "conv"}])), *GOOD[1:]], "not a network file"),
        (
            [
                ("header.npy", header(layers=[layer("x", "tanh")])),
                *GOOD[1:],
            ],
            "layer 1: kind 'x' is not known",
        ),
        (
            [
                (
                    "header.npy",
                    header(layers=[layer("dense", "os.system")]),
                ),
                *GOOD[1:],
            ],
            "'os.system' is not known",
        ),
        ([("header.npy", header(dtype="object")), *GOOD[1:]], "expected float32 or float64"),
        (
            [("header.npy", header(inputs=10**12)), *GOOD[1:]],
            "takes 2 inputs, but the network gets",
        ),
    ],
)
def test_what_is_not_a_network_says_what_is_wrong(tmp_path, members, message):
    path = tmp_path / "net.npz"
    archive(path, members)
    with pytest.raises(jb.ModelFormatError, match=message) as caught:
        jb.load(path)
    assert str(caught.value).startswith("net.npz: ")


def test_compressed_members_are_refused_before_they_grow(tmp_path):
    """A zip bomb is a small file that claims a large member."""
    path = tmp_path / "net.npz"
    archive(path, [("header.npy", npy(np.zeros(10**6)))], zipfile.ZIP_DEFLATED)
    with pytest.raises(jb.ModelFormatError, match="is compressed"):
        jb.load(path)


def test_other_files_are_refused(tmp_path):
    for name, content in (("net.npz", b""), ("cut.npz", b"PK\x03\x04"), ("text.npz", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(jb.ModelFormatError, match="not a readable npz archive"):
            jb.load(tmp_path / name)
    with pytest.raises(jb.ModelFormatError, match=r"a .pkl file is loaded by what wrote it"):
        jb.load(tmp_path / "net.pkl")
    jb.save(jb.Network.random([2, 3]), tmp_path / "net.npz")
    with pytest.raises(TypeError, match=r"net.npz has its own activations; leave activations out"):
        jb.load(tmp_path / "net.npz", activations=["tanh"])
    with pytest.raises(FileNotFoundError):
        jb.load(tmp_path / "absent.npz")


@given(damage=st.data())
def test_any_damage_gives_a_network_or_a_format_error(damage, tmp_path_factory):
    """Bytes changed, inserted or cut anywhere: nothing else is ever raised."""
    folder = tmp_path_factory.getbasetemp()
    archive(folder / "net.npz", GOOD)
    raw = bytearray((folder / "net.npz").read_bytes())
    for _ in range(damage.draw(st.integers(1, 3))):
        start = damage.draw(st.integers(0, len(raw) - 1))
        action = damage.draw(st.sampled_from(["change", "cut", "insert"]))
        if action == "change":
            raw[start] = damage.draw(st.integers(0, 255))
        elif action == "cut":
            del raw[start : start + damage.draw(st.integers(1, 50))]
        else:
            raw[start:start] = damage.draw(st.binary(min_size=1, max_size=8))
    (folder / "net.npz").write_bytes(raw)
    with contextlib.suppress(jb.ModelFormatError):
        jb.load(folder / "net.npz")


# --- the bundled ones -----------------------------------------------------------------------------


def test_bundled_networks_are_trained_and_their_data_is_real():
    digits = data.bundle("digits")
    assert digits.inputs.shape == (360, 64)
    accuracy = (digits.network(digits.inputs).argmax(axis=1) == digits.targets).mean()
    assert accuracy == 353 / 360
    diabetes = data.bundle("diabetes")
    assert diabetes.inputs.shape == (142, 10)
    residual = diabetes.network(diabetes.inputs) - diabetes.targets
    assert 1 - residual.var() / diabetes.targets.var() > 0.5
    assert diabetes.network.input_names[2] == "bmi"
    with pytest.raises(ValueError, match="expected one of digits, diabetes"):
        data.bundle("cats")


def test_inputs_and_outputs_keep_their_names_and_places(tmp_path):
    net = NETWORKS["several inputs and outputs"]
    jb.save(net, tmp_path / "net.npz")
    again = jb.load(tmp_path / "net.npz")
    assert again.inputs == net.inputs
    assert len(again.inputs) > 1
    assert again.outputs == net.outputs
    assert again.names == net.names
    assert again.sources == net.sources
    assert again.shapes == net.shapes
