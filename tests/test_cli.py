"""The command line: the main job on bundled data, every command, one clear line for a mistake."""

import json
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
    J = jb.jacobian(net, X)
    j = (np.sqrt((J[:, 3] ** 2).mean(axis=0)) * X.std(axis=0)).argmax()
    sign = "+" if J[:, 3, j].mean() > 0 else "-"
    assert f"digit 3  {sign}{net.input_names[j]} " in out
    assert "Inputs by importance" in out
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
        (["report", "net.pkl"], "loaded by what wrote it: from_sklearn"),
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
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jacobians.cli.sensitivity", interrupted)
    assert main(["report"]) == 130


@pytest.mark.parametrize("suffix", [".html", ".json", ".npy", ".npz"])
def test_interrupting_leaves_no_half_file(monkeypatch, tmp_path, suffix):
    """Ctrl-C in the middle of writing: an old file is as it was, and nothing lies beside it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / f"result{suffix}"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", interrupted)
    command = "report" if suffix in (".html", ".json") else "jacobian"
    assert main([command, "diabetes", "-o", str(path)]) == 130
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


# --- the report as a page and as numbers ----------------------------------------------------------


def test_report_writes_a_page(capsys, model, tmp_path):
    path = tmp_path / "report.html"
    units = ["--units", "y1=kW,height=m", "--units", "width=m/s"]
    status, out, err = run(capsys, "report", *model, "-o", path, *units, "--title", "My network")
    assert (status, err) == (0, "")
    assert f"{path}: " in out
    text = path.read_text(encoding="utf-8")
    for words in ("<h1>My network</h1>", "kW / (m/s)", "kW / m<", "SHA-256", f"-o {path}"):
        assert words in text


def test_report_prints_json_and_nothing_else(capsys, model, tmp_path):
    status, out, err = run(capsys, "report", *model, "--json", "-o", tmp_path / "r.json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == found
    net, X = jb.load(model[0]), np.arange(12.0).reshape(4, 3) / 10
    J = jb.jacobian(net, X)
    assert found["points"] == 4
    assert found["derivatives"]["y2"]["width"]["mean"] == pytest.approx(
        J[:, 1, 1].mean(), rel=1e-14
    )
    assert [one["name"] for one in found["inputs"]] == ["height", "width", "depth"]
    assert all(check["ratio"] <= 1 for check in found["certificate"])
    assert found["provenance"]["command"].startswith("jacobians report ")


def test_quiet_is_quiet(capsys, model, tmp_path):
    path = tmp_path / "r.html"
    assert run(capsys, "report", *model, "--quiet", "-o", path) == (0, "", "")
    assert path.exists()


def test_report_of_some_inputs_and_outputs(capsys, model):
    options = ["--outputs", "1", "--inputs", "depth,0", "--dtype", "float32", "--json"]
    options += ["--max-bytes", "64KiB", "--confidence", "0.5"]
    status, out, _ = run(capsys, "report", *model, *options)
    found = json.loads(out)
    assert status == 0
    assert {y: list(x) for y, x in found["derivatives"].items()} == {"y2": ["depth", "height"]}
    assert "float32" in found["network"]
    assert found["intervals"]["confidence"] == 0.5


def test_columns_are_taken_by_name(capsys, tmp_path):
    """A table with more columns, in another order, quoted: names say which are the inputs."""
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation="square")], input_names=["a b", "c"])
    jb.save(net, tmp_path / "net.npz")
    (tmp_path / "table.csv").write_text('target,"c","a b"\n0,2,1\n0,4,3\n')
    status, out, _ = run(capsys, "report", tmp_path / "net.npz", tmp_path / "table.csv", "--json")
    assert status == 0
    J = jb.jacobian(net, [[1.0, 2.0], [3.0, 4.0]])
    found = json.loads(out)["derivatives"]["y1"]
    assert [found["a b"]["mean"], found["c"]["mean"]] == J.mean(axis=0)[0].tolist()


def test_report_runs_without_any_extra(tmp_path):
    """With numpy and scipy alone: text and JSON; a page says what to install, before any work."""
    code = (
        "import sys\n"
        "for name in ('matplotlib', 'jinja2', 'pandas', 'tqdm', 'sklearn', 'hypothesis'):\n"
        "    sys.modules[name] = None\n"
        "from jacobians.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for arguments, status, message in (
        (["report"], 0, ""),
        (["report", "diabetes", "--json"], 0, ""),
        (["report", "-o", str(tmp_path / "r.html")], 2, 'pip install "jacobians[report]"'),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            check=False,
        )
        assert done.returncode == status
        assert message in done.stderr
        assert done.stderr.count("\n") == (1 if status else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "r.pdf"], "-o: expected a name ending in .html or .json, but got 'r.pdf'"),
        (["-o", "no/such/r.html"], "-o: No such folder: 'no/such'"),
        (["--units", "kW"], "--units: expected NAME=UNIT, but got 'kW'"),
        (["--units", "power=kW"], "no input or output is called 'power'"),
        (["--inputs", "weight"], "inputs: 'weight' is not one of age, sex"),
        (["--outputs", "7"], "outputs: expected numbers below 1, but got 7"),
        (["--max-bytes", "100"], "max_bytes: one point needs"),
        (["--confidence", "95", "--json"], "confidence between 0 and 1, but got 95"),
    ],
)
def test_a_mistake_in_an_option_gives_one_line_and_status_2(capsys, arguments, message):
    status, _, err = run(capsys, "report", "diabetes", *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--max-bytes", "much"], ["--dtype", "float16"]])
def test_a_word_that_is_no_option_gives_one_line_and_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(["report", "diabetes", *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
