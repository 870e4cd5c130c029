"""The command line: the main job on bundled data, every command, one clear line for a mistake."""

import os
import subprocess
import sys

import numpy as np
import pytest
from claims import assert_equal

import jacobians as jb
from jacobians.cli import main
from jacobians.data import bundle


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def model(tmp_path):
    net = jb.Network.random([3, 6, 2], seed=0)
    jb.save(net, tmp_path / "net.npz")
    np.savetxt(
        tmp_path / "points.csv",
        np.arange(12.0).reshape(4, 3) / 10,
        delimiter=",",
        header="height,width,depth",
        comments="",
    )
    return tmp_path / "net.npz", tmp_path / "points.csv"


def test_report_needs_no_arguments(capsys):
    """The main job: real images, shape, time, a table, pictures, the certificate."""
    status, out, err = run(capsys, "report")
    assert (status, err) == (0, "")
    assert "Network 64-64-32-10 float64" in out
    assert "Jacobians at 360 points: shape (360, 10, 64)" in out
    assert "ms (" in out
    net, X = bundle("digits").network, bundle("digits").inputs
    size = np.abs(jb.jacobian(net, X)).mean(axis=0)
    best = net.input_names[size[3].argmax()]
    assert f"digit 3  {best} " in out
    pictures = out[out.index("digit 0", out.index("as pictures")) :]
    assert sum(pictures.count(shade) for shade in "░▒▓█") > 800
    assert "Certified: at 3 points, 45 of 45 identities hold" in out


def test_report_of_a_regression_in_its_own_units(capsys):
    status, out, _ = run(capsys, "report", "diabetes")
    assert status == 0
    assert "progression" in out
    assert "bmi" in out
    assert "pictures" not in out


def test_report_takes_a_model_and_a_table_with_names(capsys, model):
    status, out, _ = run(capsys, "report", *model)
    assert status == 0
    assert "Jacobians at 4 points: shape (4, 2, 3)" in out
    for name in ("height", "width", "depth", "y1", "y2"):
        assert name in out


def test_certify_prints_the_worst_certificate(capsys, model):
    for arguments in (("certify",), ("certify", "diabetes", "--points", 2), ("certify", *model)):
        status, out, _ = run(capsys, *arguments)
        assert status == 0
        assert "identity" in out
        assert "Certified: at" in out
    status, out, _ = run(capsys, "certify", model[0])
    assert status == 0
    assert "random points" in out


def test_a_failing_certificate_is_a_failing_command(capsys, monkeypatch):
    right = jb.backprop.jacobian
    monkeypatch.setattr(jb.backprop, "jacobian", lambda trace: 1.001 * right(trace))
    status, out, _ = run(capsys, "certify", "diabetes")
    assert status == 1
    assert "FAILS" in out
    assert "NOT certified" in out


def test_jacobian_writes_what_the_library_computes(capsys, model):
    net_path, points_path = model
    net, X = jb.load(net_path), np.arange(12.0).reshape(4, 3) / 10
    out_path = net_path.with_name("out.npz")
    status, out, _ = run(capsys, "jacobian", net_path, points_path, "-o", out_path)
    assert status == 0
    assert "Jacobians (4, 2, 3), float64" in out
    with np.load(out_path) as file:
        assert_equal(file["inputs"], X)
        assert_equal(file["values"], net(X))
        assert_equal(file["jacobians"], jb.jacobian(net, X))
    run(capsys, "jacobian", net_path, points_path, "-o", out_path.with_suffix(".npy"))
    assert_equal(np.load(out_path.with_suffix(".npy")), jb.jacobian(net, X))


def test_explain_draws_the_chain_and_the_plan(capsys, model):
    status, out, _ = run(capsys, "explain", model[0], "--batch", 100)
    assert status == 0
    for text in ("dH/dx  =", "W2", "D1", "╲", "2x6", "reverse: outputs first", "per point"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "absent.npz"], "absent.npz"),
        (["report", "net.pkl"], "networks are read from .npz, .onnx and"),
        (["report", "{net}"], "INPUTS: a network of your own needs points"),
        (["report", "{net}", "absent.csv"], "absent.csv"),
        (["report", "{net}", "{wide}"], "has 4 columns, but Network 3-6-2"),
        (["report", "{net}", "{nan}"], "is nan"),
        (["report", "{net}", "{empty}"], "empty.npy"),
        (["report", "{text}", "{csv}"], "not a readable npz archive"),
        (["certify", "digits", "--points", "0"], "--points: expected at least 1"),
        (["jacobian", "{net}", "{csv}", "-o", "out.txt"], "ending in .npz or .npy"),
        (["jacobian", "{net}", "{csv}", "-o", "no/such/folder/out.npz"], "No such file"),
        (["explain", "{net}", "--batch", "-1"], "batch: expected at least 0"),
    ],
)
def test_a_mistake_gives_one_line_and_status_2(capsys, model, arguments, message):
    folder = model[0].parent
    places = {
        "net": model[0],
        "csv": model[1],
        "wide": folder / "wide.npy",
        "nan": folder / "nan.npy",
        "empty": folder / "empty.npy",
        "text": folder / "text.npz",
    }
    np.save(places["wide"], np.ones((2, 4)))
    np.save(places["nan"], np.array([[1.0, np.nan, 2.0]]))
    np.save(places["empty"], np.ones((0, 3)))
    places["text"].write_text("hello")
    status, _, err = run(capsys, *(argument.format(**places) for argument in arguments))
    assert status == 2
    assert err.startswith(f"jacobians {arguments[0]}: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["no-such-command"], ["jacobian", "digits"], ["certify", "--points", "many"]]
)
def test_wrong_words_give_one_line_and_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_installed_command_never_shows_a_traceback(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for arguments, status in ((["report", "absent.npz"], 2), (["explain"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "jacobians", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == status
        assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = f"{sys.executable} -m jacobians report | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.startswith("Network 64")
    assert "Error" not in done.stderr


def test_interrupting_leaves_quietly(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jacobians.cli.sensitivity", interrupted)
    assert main(["report"]) == 130
