"""npz and npy, read with care: all that is ordinary comes back, whatever else says what it is."""

import json
import zipfile
from inspect import isabstract
from zipfile import ZipInfo

import numpy as np
import pytest
from claims import assert_equal
from test_files import GOOD, archive, header, npy
from test_hostile_files import relabelled

import jacobians as jb
from jacobians import _npz, files, layers
from jacobians.importers import WEIGHTS_ONLY, WHOLE_MODELS, weight_files

# --- arrays ---------------------------------------------------------------------------------------

ORDINARY = {
    "rows": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "a number": np.array(2.5, np.float32),
    "nothing": np.zeros((0, 3)),
    "nothing, in columns": np.zeros((3, 0, 2), order="F"),
    "whole": np.array([-1, 2], np.int16),
    "without a sign": np.array([[1], [255]], np.uint8),
    "text": np.array(["ä", "bcd"]),
}


def test_arrays_of_any_layout_size_and_kind_come_back_read_only(tmp_path):
    _npz.write_npz(str(tmp_path / "a.npz"), ORDINARY)
    again = _npz.read_npz(str(tmp_path / "a.npz"))
    assert again.keys() == ORDINARY.keys()
    for name, array in ORDINARY.items():
        np.save(tmp_path / "a.npy", array)
        for read in (again[name], _npz.read_npy(str(tmp_path / "a.npy"))):
            assert read.tolist() == array.tolist(), name
            assert (read.shape, read.dtype) == (array.shape, array.dtype)
            assert not read.flags.writeable


PAIR = np.dtype([("a", "<f8"), ("b", "<i4")])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (npy(np.array([1j])), "has dtype complex128, expected plain numbers or text."),
        (npy(np.array([True])), "has dtype bool, expected plain numbers or text."),
        (npy(np.array([b"a"])), "has dtype |S1, expected plain numbers or text."),
        (npy(np.array([0], "M8[s]")), "has dtype datetime64[s], expected plain numbers or text."),
        (npy(np.zeros(1, PAIR)), f"has dtype {PAIR}, expected plain numbers or text."),
        (
            npy(np.array([None]), allow_pickle=True),
            "has dtype object, expected plain numbers or text.",
        ),
        (npy([1.0], version=(2, 0)), "has npy format version (2, 0), expected (1, 0)."),
        (
            relabelled((2, 3), bytes(47)),
            "claims shape (2, 3), which is not what the file holds.",
        ),
        (
            relabelled((2, 3), bytes(49)),
            "claims shape (2, 3), which is not what the file holds.",
        ),
    ],
)
def test_other_arrays_are_refused_by_name(data, words, tmp_path):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(jb.ModelFormatError) as caught:
        _npz.read_npy(str(tmp_path / "a.npy"))
    assert str(caught.value) == f"a.npy: its array {words}"
    archive(tmp_path / "a.npz", [("W.npy", data)])
    with pytest.raises(jb.ModelFormatError) as caught:
        _npz.read_npz(str(tmp_path / "a.npz"))
    assert str(caught.value) == f"a.npz: W.npy {words}"


# --- sizes ----------------------------------------------------------------------------------------


def test_a_brief_file_is_read_up_to_its_limit_and_no_further(tmp_path):
    """What is asked for, or all the rest: as many bytes as are there."""
    (tmp_path / "a").write_bytes(b"0123456789")
    with open(tmp_path / "a", "rb") as file:
        brief = _npz.Brief(file)
        assert (brief.most, brief.size) == (2**20, 10)
        brief.most = 4
        assert brief.read(0) == b""
        assert brief.read(4) == b"0123"
        with pytest.raises(jb.ModelFormatError) as caught:
            brief.read()
        assert str(caught.value) == "describes itself in 6 bytes, over a limit of 1048576."
        with pytest.raises(jb.ModelFormatError, match="describes itself in 5 bytes"):
            brief.read(5)
        brief.seek(6)
        assert brief.read() == b"6789"
        assert brief.read() == b""


def member(name, size=0, stored=None, how=zipfile.ZIP_STORED):
    info = ZipInfo(name)
    info.file_size, info.compress_size = size, size if stored is None else stored
    info.compress_type = how
    return info


def test_members_may_fill_the_file_and_no_more():
    _npz.require_side_by_side([member("a.npy", 60), member("b.npy", 40)], 100)
    for members, words in (
        ([member("a.npy", 60), member("b.npy", 41)], "claims 101 bytes, but the file has 100."),
        ([member("a.npy"), member("a")], "two members have the same name."),
        ([member("a.npy", 9, 8)], "a.npy is compressed; store it."),
        ([member("a.npy", 8, 9)], "a.npy is compressed; store it."),
        ([member("a.npy", 8, 8, zipfile.ZIP_LZMA)], "a.npy is compressed; store it."),
    ):
        with pytest.raises(jb.ModelFormatError) as caught:
            _npz.require_side_by_side(members, 100, "store it")
        assert str(caught.value) == words


def test_a_network_may_describe_itself_in_a_mebibyte(tmp_path):
    raw = header()
    text = raw[raw.index(b"{", 128) :]
    for length, fits in ((2**20, True), (2**20 + 1, False)):
        members = [("header.npy", npy(np.frombuffer(text.ljust(length), np.uint8))), *GOOD[1:]]
        archive(tmp_path / "net.npz", members)
        if fits:
            assert jb.load(tmp_path / "net.npz").widths == (2, 3)
        else:
            with pytest.raises(jb.ModelFormatError, match="header: expected up to 1048576 bytes"):
                jb.load(tmp_path / "net.npz")
    for numbers in (np.frombuffer(text, np.int8), np.full(3, np.nan)):
        archive(tmp_path / "net.npz", [("header.npy", npy(numbers)), *GOOD[1:]])
        with pytest.raises(jb.ModelFormatError, match="header: expected up to 1048576 bytes of te"):
            jb.load(tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("broken"), "a.b: not a readable box: broken"),
        (ValueError("a.b: broken"), "a.b: not a readable box: broken"),
        (ValueError("x" * 999), "a.b: not a readable box: " + 200 * "x"),
        (EOFError(), "a.b: not a readable box: EOFError()"),
        (jb.ModelFormatError("is empty"), "a.b: is empty"),
        (jb.ModelFormatError("a.b: is empty"), "a.b: is empty"),
    ],
)
def test_whatever_goes_wrong_with_a_file_names_it_once(error, words, tmp_path):
    (tmp_path / "a.b").write_bytes(b"12345")
    with _npz.opened(tmp_path / "a.b", "box") as (file, size):
        assert (file.read(), size) == (b"12345", 5)
    with pytest.raises(jb.ModelFormatError) as caught, _npz.opened(tmp_path / "a.b", "box"):
        raise error
    assert str(caught.value) == words


# --- which file is read by what -------------------------------------------------------------------


def test_weights_are_read_once_and_with_their_activations(tmp_path, monkeypatch):
    W = np.array([[1.0, -2.0, 4.0], [0.5, 3.0, 0.0]])
    np.savez(tmp_path / "a.npz", W1=W, b1=np.ones(2))
    monkeypatch.setattr(weight_files, "read_npz", None)  # it is read by load
    (layer,) = jb.load(tmp_path / "a.npz", activations=["tanh"]).layers
    assert_equal(layer.W, W)
    assert str(layer.activation) == "tanh"


def test_every_suffix_goes_to_its_reader_with_what_it_takes(monkeypatch):
    """Weights with activations, models with the output that is wanted; the rest is refused."""
    taken = []
    net = jb.Network.random([2, 3], seed=0)

    def reader(path, *arguments, **options):
        taken.append((path, *arguments, options))
        return net

    monkeypatch.setattr(files, "from_weights", reader)
    monkeypatch.setattr(files, "from_keras_file", reader)
    for suffix in WHOLE_MODELS:
        monkeypatch.setitem(files.WHOLE_MODELS, suffix, reader)
    for suffix in WEIGHTS_ONLY:
        if suffix != ".npz":
            assert jb.load(f"a{suffix}", activations=["tanh"]) is net
            assert taken.pop() == (f"a{suffix}", {"activations": ["tanh"]})
            with pytest.raises(TypeError, match=rf"load: a{suffix} has one output; leave output"):
                jb.load(f"a{suffix}", output="y")
    for name in (*(f"a{suffix}" for suffix in WHOLE_MODELS), "a.onnx.gz"):
        assert jb.load(name) is net
        assert taken.pop() == (name, {})
        if name.endswith(".nnet"):
            with pytest.raises(TypeError, match=r"load: a.nnet has one output; leave output out\."):
                jb.load(name, output="y")
        else:
            assert jb.load(name, output="y") is net
            assert taken.pop() == (name, {"output": "y"})
        if name.endswith((".h5", ".hdf5")):
            assert jb.load(name, activations=["tanh"]) is net
            assert taken.pop() == (name, ["tanh"], {})
        else:
            with pytest.raises(TypeError, match=f"load: {name} has its own activations; leave act"):
                jb.load(name, activations=["tanh"])
    assert not taken


def test_only_layers_are_kinds_of_layers(tmp_path):
    """Not what else their module holds, nor what all of them have in common."""
    for name in [*vars(layers), "dense", "none"]:
        archive(tmp_path / "net.npz", [("header.npy", header(layers=[{"kind": name}]))])
        with pytest.raises(jb.ModelFormatError) as caught:
            jb.load(tmp_path / "net.npz")
        unknown = f"layer 1: kind {name!r:.40} is not known" in str(caught.value)
        known = {name, name.capitalize()}.intersection(layers.__all__)
        assert unknown is not any(is_a_kind(getattr(layers, kind)) for kind in known), name


def is_a_kind(thing):
    return isinstance(thing, type) and issubclass(thing, jb.Layer) and not isabstract(thing)


def test_members_of_no_layer_are_named(tmp_path):
    for name in ("x.W", "W", "0.W", "01.W", "1.w", "1.W.W"):
        archive(tmp_path / "net.npz", [*GOOD, (f"{name}.npy", GOOD[1][1])])
        with pytest.raises(jb.ModelFormatError) as caught:
            jb.load(tmp_path / "net.npz")
        assert str(caught.value) == f"net.npz: no layer uses {name}."


def test_a_header_says_how_it_was_written(tmp_path):
    """Version 2: the graph of the network, its names, and which are inputs and outputs."""
    net = jb.Network.random([2, 3], "tanh", seed=0, dtype=np.float32)
    jb.save(net, tmp_path / "net.npz")
    described = json.loads(np.load(tmp_path / "net.npz")["header"].tobytes())
    assert (described["format"], described["version"]) == ("jacobians network", 2)
    assert described["dtype"] == "float32"
    assert described["sources"] == [[0]]
