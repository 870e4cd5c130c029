"""Files from anywhere: nothing is executed, little is allocated, and the answer says what is wrong.

``hostile_loading.py`` loads a folder of them in an interpreter of its own, under an audit hook and
with its memory measured; ``tests/benchmarks/fuzz_files.py`` makes up files without end.
"""

import contextlib
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_files import GOOD, W, archive, header, layer, npy

import jacobians as jb
from jacobians.points import load_points

ROOT = Path(__file__).parent.parent
MIB = 2**20


def written(members, **options):
    """Return the bytes of an archive of these members."""
    buffer = io.BytesIO()
    archive(buffer, members, **options)
    return buffer.getvalue()


class Trap:
    """Unpickled, it leaves a mark."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def relabelled(shape, content=b""):
    """Return an npy stream that claims a shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


def with_sizes(data, size):
    """Let every member claim a size, in the local headers and in the directory."""
    data, start = bytearray(data), 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        struct.pack_into("<LL", data, start + 20, size, size)
        start += 1
    return bytes(data)


def overlapping(count):
    """Return an archive whose directory names one stored member many times over."""
    content = relabelled((125_000,), bytes(MIB - 48_704 + 128))
    raw = written([("0.npy", content)])
    start = raw.rfind(b"PK\x01\x02")
    entry, end = raw[start : raw.rfind(b"PK\x05\x06")], raw[raw.rfind(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"0.npy", b"%c.npy" % (65 + k)) for k in range(count))
    tail = struct.pack("<HHLLH", count, count, len(entries), start, 0)
    return raw[:start] + entries + end[:8] + tail


def crowded(count):
    """Return a directory of very many members that hold nothing."""
    entries = b"".join(
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, *[0] * 4, 0, 0, 0, 6, *[0] * 6)
        + b"%06x" % k
        for k in range(count)
    )
    return entries + struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(entries), 0, 0
    )


def leaky(slope):
    """Describe a layer whose activation has a parameter."""
    sigma = {"name": "leaky_relu", "parameters": {"slope": slope}}
    return {"kind": "dense", "activation": sigma}


deep = npy(np.frombuffer(b"[" * 100_000, np.uint8))
many = {"layers": [layer("elementwise", "relu")] * 200_000}
integers = npy(np.ones((3, 2), np.int8))
pickled = pickle.dumps(Trap())

# a file, and what the refusal says at least
HOSTILE = {
    "a pickle": (pickled, "not a readable npz archive"),
    "a pickle with the name of an array": (written([("1.W.npy", pickled), *GOOD[:1]]), "npz"),
    "a pickle inside an array": (
        written([GOOD[0], ("1.W.npy", npy(np.array([Trap()], object), allow_pickle=True))]),
        "dtype object",
    ),
    "an object array that claims to be one": (
        written([GOOD[0], ("1.W.npy", W.replace(b"'<f8'", b"'|O' ")), GOOD[2]]),
        "dtype object",
    ),
    "a shape that is arithmetic": (
        written([GOOD[0], ("1.W.npy", relabelled("(2**59,)"))]),
        "malformed",
    ),
    "a shape of exabytes": (
        written([GOOD[0], ("1.W.npy", relabelled(f"({2**59},)"))]),
        "claims shape",
    ),
    "a shape whose product runs over": (
        written([GOOD[0], ("1.W.npy", relabelled((2**32, 2**32, 2), bytes(48)))]),
        "claims shape (4294967296, 4294967296, 2)",
    ),
    "a negative shape": (
        written([GOOD[0], ("1.W.npy", relabelled((-3, -2), bytes(48)))]),
        "negative dimensions",
    ),
    "a shape of 0 times everything": (
        written([GOOD[0], ("1.W.npy", relabelled((0, 2**62))), GOOD[2]]),
        "array is too big",
    ),
    "a shape that is code": (
        written([GOOD[0], ("1.W.npy", relabelled("__import__('os').system('touch executed')"))]),
        "npz",
    ),
    "sizes of 4 GiB": (with_sizes(written(GOOD), 0xFFFFFFF0), "claims"),
    "sizes that run into the directory": (with_sizes(written(GOOD), 900), "npz"),
    "a zip bomb": (
        written([("header.npy", npy(np.zeros(10**7)))], compression=zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "a zip bomb of overlapping members": (overlapping(60), "claims"),
    "a directory without end": (crowded(400_000), "describes itself in"),
    "an absolute path": (written([*GOOD, ("/etc/passwd.npy", W)]), "no layer uses /etc/passwd"),
    "a path to the parent": (written([*GOOD, ("../../net.npy", W)]), "no layer uses ../../net"),
    "a path of another system": (written([*GOOD, ("C:\\\\a.npy", W)]), "no layer uses C:"),
    "a folder": (written([*GOOD, ("a/", b"")]), "npz"),
    "two members of one name": (written([*GOOD, GOOD[1]]), "two members have the same name"),
    "two members of one name, one with a suffix": (
        written([*GOOD, ("1.W", npy(2 * np.ones((3, 2))))]),
        "two members have the same name",
    ),
    "brackets without end": (written([("header.npy", deep), *GOOD[1:]]), "not a network file"),
    "layers without end": (written([("header.npy", header(**many))]), "header: expected up to"),
    "a header of numbers": (
        written([("header.npy", npy(np.full(200, np.nan))), *GOOD[1:]]),
        "header: expected up to",
    ),
    "an activation that is a module": (
        written([("header.npy", header(layers=[layer("dense", "os.system")])), *GOOD[1:]]),
        "'os.system' is not known",
    ),
    "a parameter that is not a number": (
        written([("header.npy", header(layers=[leaky(float("nan"))])), *GOOD[1:]]),
        "slope is nan",
    ),
    "weights of one byte": (
        written([GOOD[0], ("1.W.npy", integers), GOOD[2]]),
        "1.W is int8, expected float64",
    ),
    "weights that are text": (
        written([GOOD[0], ("1.W.npy", npy(np.array(["a"]))), GOOD[2]]),
        "1.W is <U1, expected float64",
    ),
    "nothing": (b"", "not a readable npz archive"),
    "another format": (b"\x89HDF\r\n\x1a\n" + bytes(500), "not a readable npz archive"),
    "an archive behind something else": (b"#!/bin/sh\n" + written(GOOD), ""),
}


def verdicts(folder):
    """Load everything in a folder under watch."""
    run = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests" / "hostile_loading.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    return {verdict["file"]: verdict for verdict in map(json.loads, run.stdout.splitlines())}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz") / "files"
    folder.mkdir()
    for name, (data, _) in HOSTILE.items():
        (folder / f"{name}.npz").write_bytes(data)
    parameters = ("header.npy", header(layers=[leaky(0.5)]))
    (folder / "warm_up_good.npz").write_bytes(written([parameters, *GOOD[1:]]))
    (folder / "warm_up_bad.npz").write_bytes(written(GOOD)[:-1])
    large = jb.Network.random([1000, 2000, 10], seed=0)
    jb.save(large, folder / "large.npz")
    return folder, verdicts(folder)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_with_its_reason(hostile, name):
    """No exec, no import, no open elsewhere; under a second and 64 MiB + 3 times the file."""
    _, verdicts_of = hostile
    verdict = verdicts_of[f"{name}.npz"]
    assert verdict["fine"], verdict
    assert HOSTILE[name][1] in verdict["verdict"]


def test_a_good_archive_costs_no_more_than_three_times_its_size(hostile):
    folder, verdicts_of = hostile
    verdict = verdicts_of["large.npz"]
    assert verdict["fine"], verdict
    assert verdict["size"] == (folder / "large.npz").stat().st_size > 16 * 10**6
    assert verdict["bytes"] < 3 * verdict["size"]
    assert not (folder.parent / "executed").exists()


def test_the_watch_sees_what_it_is_there_for(tmp_path):
    """A loader that unpickles, opens, imports or hoards is not fine."""
    code = """
import os, pickle, sys, json, time
import hostile_loading
watch = hostile_loading.Watch()

def spin(path):
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass

deeds = {
    "exec": lambda path: exec("1 + 1"),
    "pickle": lambda path: pickle.loads(b"cos\\nsystem\\n(S'true'\\ntR."),
    "import": lambda path: __import__("this") and None,
    "open": lambda path: open("/etc/hostname").close(),
    "hoard": lambda path: bytes(200 * 2**20) and None,
    "spin": spin,
    "fall": lambda path: 1 / 0,
    "network": lambda path: None,
}
for name, deed in deeds.items():
    hostile_loading.load = lambda path, deed=deed: deed(path) or "Network"
    print(name, hostile_loading.watched(__file__, watch)["fine"])
"""
    (tmp_path / "deeds.py").write_text(code)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "deeds.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines() if line.endswith(("True", "False"))]
    assert [name for name, fine in lines if fine == "True"] == ["network"]
    assert len(lines) == 8


# --- every byte string gives a network or a refusal -----------------------------------------------


def outcome(data, folder):
    """Load bytes as a file: a network, a refusal, or whatever else it raises."""
    path = folder / "net.npz"
    path.write_bytes(data)
    with contextlib.suppress(jb.ModelFormatError):
        return jb.load(path)


def test_every_truncation_and_every_changed_byte_is_a_network_or_refused(tmp_path):
    good = written(GOOD)
    for end in range(len(good)):
        assert outcome(good[:end], tmp_path) is None
    for k, change in enumerate(np.random.default_rng(0).integers(1, 256, len(good))):
        outcome(good[:k] + bytes([good[k] ^ change]) + good[k + 1 :], tmp_path)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = (
    scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=8), scalars)
)
fields = st.sampled_from(["format", "version", "dtype", "inputs", "input_names", "layers"])


@given(field=fields, value=json_values)
def test_lies_in_any_field_of_the_header_give_a_network_or_a_refusal(
    field, value, tmp_path_factory
):
    members = [("header.npy", header(**{field: value})), *GOOD[1:]]
    outcome(written(members), tmp_path_factory.getbasetemp())


@given(value=json_values, where=st.sampled_from(["kind", "activation", "name", "parameters"]))
def test_lies_about_a_layer_give_a_network_or_a_refusal(value, where, tmp_path_factory):
    sigma = {"name": "celu", "parameters": {}}
    described = {"kind": "dense", "activation": sigma}
    (sigma if where in sigma else described)[where] = value
    members = [("header.npy", header(layers=[described])), *GOOD[1:]]
    outcome(written(members), tmp_path_factory.getbasetemp())


@given(damage=st.data())
def test_damage_inside_members_gives_a_network_or_a_refusal(damage, tmp_path_factory):
    """The checksums are right again, so that the damage reaches the reader of arrays and JSON."""
    members = []
    for name, content in GOOD:
        raw = bytearray(content)
        for _ in range(damage.draw(st.integers(0, 2))):
            start = damage.draw(st.integers(0, len(raw) - 1))
            raw[start : start + damage.draw(st.integers(0, 3))] = damage.draw(
                st.binary(max_size=4) | st.sampled_from([b"(", b"-", b"9" * 20, b"'", b"L"])
            )
        members.append((name, bytes(raw)))
    outcome(written(members), tmp_path_factory.getbasetemp())


@given(st.binary(max_size=200) | st.text('01.-,;\n\r#" "ex', max_size=200).map(str.encode))
def test_points_of_any_bytes_are_points_or_refused(data):
    for suffix in ("npy", "npz", "csv"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"points.{suffix}"
            path.write_bytes(data)
            with contextlib.suppress(jb.ModelFormatError, jb.NotFiniteError):
                assert load_points(path).X.size


def test_points_need_one_array(tmp_path):
    (tmp_path / "none.npz").write_bytes(written([]))
    with pytest.raises(jb.ModelFormatError, match=r"has no member 'inputs' among \[\]"):
        load_points(tmp_path / "none.npz")


# --- saving is atomic -----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["in the middle of the data", "before the sync", "at the end"])
def test_a_crash_while_saving_leaves_the_old_file_or_the_new_one(moment, tmp_path):
    """The process is killed outright: nothing of it can clean up."""
    old, new = (jb.Network.random([4, 3], seed=seed) for seed in (0, 1))
    path = tmp_path / "net.npz"
    jb.save(old, path)
    code = f"""
import os, signal
import numpy as np
import jacobians as jb

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

savez, replace = np.savez, os.replace

def half(file, **arrays):
    file.write(b"PK half of an archive")
    file.flush()
    die()

def replace_and_die(source, target):
    replace(source, target)
    die()

if {moment!r} == "in the middle of the data":
    np.savez = half
elif {moment!r} == "before the sync":
    os.fsync = die
else:
    os.replace = replace_and_die
jb.save(jb.Network.random([4, 3], seed=1), {str(path)!r})
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == -signal.SIGKILL
    expected = new if moment == "at the end" else old
    assert jb.load(path).parameters.tobytes() == expected.parameters.tobytes()
    jb.save(new, path)  # what the crash left beside it is in nobody's way
    assert jb.load(path).parameters.tobytes() == new.parameters.tobytes()


# --- the other formats, whose own tests try many more lies ----------------------------------------


def test_onnx_and_safetensors_are_watched_too(tmp_path):
    """Truncated files, lying headers, and weights in files that are not theirs to name."""
    helper = pytest.importorskip("onnx").helper
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = tmp_path / "files"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(np.ones((3, 2), np.float32).tobytes())
    kind = 1  # float32
    ends = [helper.make_tensor_value_info(name, kind, [1, n]) for name, n in (("x", 2), ("y", 3))]
    gemm = helper.make_node("Gemm", ["x", "W"], ["y"], transB=1)

    def model(location=None):
        weight = helper.make_tensor("W", kind, [3, 2], np.ones(6))
        if location:
            weight.ClearField("float_data")
            weight.data_location = 1
            weight.external_data.add(key="location", value=location)
        graph = helper.make_graph([gemm], "net", ends[:1], ends[1:], [weight])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    def held(header, data=bytes(48)):
        header = json.dumps(header).encode()
        return struct.pack("<Q", len(header)) + header + data

    good, tensors = model().SerializeToString(), safetensors.save({"0.weight": np.ones((3, 2))})
    entry = {"dtype": "F64", "shape": [3, 2], "data_offsets": [0, 48]}
    refused = {
        "cut.onnx": good[:-9],
        "outside.onnx": model("../outside.bin").SerializeToString(),
        "absolute.onnx": model("/etc/passwd").SerializeToString(),
        "text.onnx": b"import os",
        "cut.safetensors": tensors[:-9],
        "long.safetensors": struct.pack("<Q", 2**60) + tensors[8:],
        "offsets.safetensors": held({"0.weight": entry | {"data_offsets": [0, 2**50]}}),
        "shape.safetensors": held({"0.weight": entry | {"shape": [2**31, 2**31]}}),
        "overlap.safetensors": held({"0.weight": entry, "0.bias": entry | {"shape": [6]}}),
        "pickle.safetensors": pickled,
    }
    for name, data in refused.items():
        (folder / name).write_bytes(data)
    for name, data in (("good.onnx", good), ("good.safetensors", tensors)):
        (folder / f"warm_up_{name}").write_bytes(data)
        (folder / f"warm_up_bad_{name}").write_bytes(data[:-1])
    verdicts_of = verdicts(folder)
    assert all(verdict["fine"] for verdict in verdicts_of.values()), verdicts_of
    for name in refused:
        assert verdicts_of[name]["verdict"].startswith("refused"), verdicts_of[name]
    for name in ("warm_up_good.onnx", "warm_up_good.safetensors"):
        assert verdicts_of[name]["verdict"].startswith("Network 2-3"), verdicts_of[name]
