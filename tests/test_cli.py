"""The command line: the main job on bundled data, every command, one clear line for a mistake."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given, settings
from hypothesis import strategies as st

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
    best = jb.sensitivity(net, X).most_influential(3, 1)[0][0]
    assert re.search(rf"digit 3 +[+-]{best} ", out)
    pictures = out[out.index("digit 0", out.index("as pictures")) :]
    assert sum(pictures.count(shade) for shade in "░▒▓█") > 700
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
        values, J = jb.value_and_jacobian(net, X)
        assert_equal(file["values"], values)
        assert_equal(file["jacobians"], J)
    run(capsys, "jacobian", net_path, points_path, "-o", out_path.with_suffix(".npy"))
    assert_equal(np.load(out_path.with_suffix(".npy")), jb.jacobian(net, X))


def test_plan_draws_the_chain_and_the_plan(capsys, model):
    status, out, _ = run(capsys, "plan", model[0], "--batch", 100)
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
        (["jacobian", "{net}", "{csv}", "-o", "no/such/out.npz"], "there is no folder 'no/such'"),
        (["plan", "{net}", "--batch", "-1"], "--batch: expected at least 0, but got -1"),
        (["jacobian", "digits", "-o", "{folder}.npz"], "-o: cannot write"),
        (
            ["report", "digit"],
            "no file and no bundled network is called 'digit'; did you mean 'd",
        ),
        (["plan", "nonsense"], "is called 'nonsense'; bundled are digits, diabetes"),
        (
            ["certify", "{net}", "{csv}", "--input-names", "a,b"],
            "--input-names: expected 3 names",
        ),
        (["report", "{net}", "{wide_csv}"], "has 4 columns ('a', 'b', 'c', 'd'; see --drop), but"),
    ],
)
def test_a_mistake_gives_one_line_and_status_2(capsys, model, arguments, message):
    folder = model[0].parent
    paths = {
        "net": model[0],
        "csv": model[1],
        "wide": folder / "wide.npy",
        "nan": folder / "nan.npy",
        "empty": folder / "empty.npy",
        "text": folder / "text.npz",
        "wide_csv": folder / "wide.csv",
        "folder": folder / "folder",
    }
    (folder / "folder.npz").mkdir()
    paths["wide_csv"].write_text("a,b,c,d\n1,2,3,4\n")
    np.save(paths["wide"], np.ones((2, 4)))
    np.save(paths["nan"], np.array([[1.0, np.nan, 2.0]]))
    np.save(paths["empty"], np.ones((0, 3)))
    paths["text"].write_text("hello")
    status, _, err = run(capsys, *(argument.format(**paths) for argument in arguments))
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
    for arguments, status in ((["report", "absent.npz"], 2), (["plan"], 0)):
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
    options = ["--units", "y1=kW,height=m", "--units", "width=m/s"]
    status, out, err = run(capsys, "report", *model, "-o", path, *options, "--title", "My network")
    assert (status, err) == (0, "")
    assert f"{path}: " in out
    text = path.read_text(encoding="utf-8")
    for words in ("<h1>My network</h1>", "kW / (m/s)", "kW / m<", "SHA-256", f"-o {path}"):
        assert words in text


def test_report_prints_json_and_nothing_else(capsys, model, tmp_path):
    status, out, err = run(capsys, "report", *model, "--json", "-o", tmp_path / "r.json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == report
    net, X = jb.load(model[0]), np.arange(12.0).reshape(4, 3) / 10
    J = jb.jacobian(net, X)
    assert report["points"] == 4
    assert report["derivatives"]["y2"]["width"]["mean"] == pytest.approx(
        J[:, 1, 1].mean(),
        rel=1e-14,  # four numbers, added in another order
    )
    assert [one["name"] for one in report["inputs"]] == ["height", "width", "depth"]
    assert all(check["ratio"] <= 1 for check in report["certificate"])
    assert report["provenance"]["command"].startswith("jacobians report ")


def test_quiet_is_quiet(capsys, model, tmp_path):
    path = tmp_path / "r.html"
    assert run(capsys, "report", *model, "--quiet", "-o", path) == (0, "", "")
    assert path.exists()


def test_report_of_some_inputs_and_outputs(capsys, model):
    options = ["--outputs", "1", "--inputs", "depth,0", "--dtype", "float32", "--json"]
    options += ["--max-bytes", "64KiB", "--confidence", "0.5"]
    status, out, _ = run(capsys, "report", *model, *options)
    report = json.loads(out)
    assert status == 0
    assert {y: list(x) for y, x in report["derivatives"].items()} == {"y2": ["depth", "height"]}
    assert "float32" in report["network"]
    assert report["intervals"]["confidence"] == 0.5


def test_columns_are_taken_by_name(capsys, tmp_path):
    """A table with more columns, in another order, quoted: names say which are the inputs."""
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation="square")], input_names=["a b", "c"])
    jb.save(net, tmp_path / "net.npz")
    (tmp_path / "table.csv").write_text('target,"c","a b"\n0,2,1\n0,4,3\n')
    status, out, _ = run(capsys, "report", tmp_path / "net.npz", tmp_path / "table.csv", "--json")
    assert status == 0
    J = jb.jacobian(net, [[1.0, 2.0], [3.0, 4.0]])
    derivatives = json.loads(out)["derivatives"]["y1"]
    assert [derivatives["a b"]["mean"], derivatives["c"]["mean"]] == J.mean(axis=0)[0].tolist()


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
        (["-o", "no/such/r.html"], "there is no folder 'no/such'"),
        (["--units", "kW"], "--units: expected NAME=UNIT, but got 'kW'"),
        (["--units", "power=kW"], "no input or output is called 'power'"),
        (["--inputs", "weight"], "inputs: 'weight' is not one of age, sex"),
        (["--outputs", "7"], "outputs: expected numbers below 1, but got 7"),
        (["--max-bytes", "100"], "max_bytes: one point needs"),
        (["--confidence", "95", "--json"], "confidence between 0 and 1, but got 95"),
        (
            ["--confidence", "nan"],
            "--confidence: expected a confidence between 0 and 1",
        ),
        (
            ["--inputs", "agee"],
            "--inputs: 'agee' is not one of age, sex, bmi, bp, s1, s2",
        ),
        (["--inputs", "BMI"], "; did you mean 'bmi'?"),
        (["--inputs", "bmi,2"], "--inputs: expected each once, but got 'bmi' again"),
        (
            ["--outputs", "progres"],
            "--outputs: 'progres' is not one of progression; did you",
        ),
        (["--units", "bmj=kg"], "called 'bmj'; did you mean 'bmi'?"),
        (["--output-names", "a,b"], "--output-names: expected 1 names, but got 2"),
    ],
)
def test_a_mistake_in_an_option_is_found_before_the_work(capsys, monkeypatch, arguments, message):
    if arguments[0] != "--max-bytes":

        def worked(*_, **__):
            raise AssertionError("the work has begun")

        monkeypatch.setattr("jacobians.cli.value_and_jacobian", worked)
        monkeypatch.setattr("jacobians.cli.sensitivity", worked)
    status, _, err = run(capsys, "report", "diabetes", *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-bytes", "much"],
        ["--max-bytes", "9" * 400],
        ["--max-bytes", "²GiB"],
        ["--dtype", "float16"],
        ["--replicates", "1e3"],
    ],
)
def test_a_word_that_is_no_option_gives_one_line_and_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(["report", "diabetes", *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- names ----------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path):
    """A network that knows its names, and a place for a table."""
    net = jb.Network(
        [jb.Dense([[1.0, 2.0]], activation="square")],
        input_names=["height", "width"],
        output_names=["area"],
    )
    jb.save(net, tmp_path / "net.npz")
    return net, tmp_path / "net.npz", tmp_path / "table.csv"


@pytest.mark.parametrize("beside", ["area", "index", "id", "target", "", "label"])
def test_targets_and_indices_are_told_apart_by_name(capsys, named, beside):
    """Wherever they stand, and whatever they hold."""
    net, path, table = named
    J = jb.jacobian(net, [[1.0, 2.0], [3.0, 4.0]])
    for text in (
        f"{beside},width,height\na,2,1\nb,4,3\n",
        f"width;{beside};height\n2;7;1\n4;8;3\n",
    ):
        table.write_text(text)
        status, out, _ = run(capsys, "report", path, table, "--json")
        derivatives = json.loads(out)["derivatives"]["area"]
        assert status == 0
        assert [derivatives["height"]["mean"], derivatives["width"]["mean"]] == J.mean(axis=0)[
            0
        ].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("height,depth\n1,2\n", "missing 'width'; not an input: 'depth'. Rename or add columns"),
        (
            "height,width,depth\n1,2,3\n",
            "not an input: 'depth'. Leave them out: say .*--drop",
        ),
        ("a,b,c,d,e,f,g,h,i,j\n1,2,3\n", "line 1: the columns do not match .* and 4 more. Rename"),
        ("height,width\n1\n", "line 2: has 1 cells, but the first line names 2"),
        ("height,width\n1,tall\n", "line 2: column 'width': expected a number, but got 'tall'"),
        ("height\twidth\n1\t\n", "line 2: column 'width': .* a missing value; fill it in, or drop"),
        ("height,width\n", "holds no numbers after the names of the columns"),
    ],
)
@pytest.mark.parametrize("command", ["report", "certify"])
def test_a_table_that_does_not_match_is_refused(capsys, named, command, text, message):
    _, path, table = named
    table.write_text(text)
    status, _, err = run(capsys, command, path, table)
    assert status == 2
    assert re.search(message, err)
    assert err.count("\n") == 1


@pytest.mark.parametrize("beside", ["target", "", "area"])
def test_columns_that_are_no_inputs_are_left_out_where_the_rest_fits(capsys, named, beside):
    """Of a network without names for its inputs; it is said, and nothing else is left out."""
    net, path, table = named
    jb.save(jb.Network(net.layers, output_names=["area"]), path)
    for text in (f"{beside},width,height\na,2,1\nb,4,3\n", f"w;{beside};h\n2;7;1\n4;8;3\n"):
        table.write_text(text)
        status, _, err = run(capsys, "certify", path, table)
        assert (status, err) == (0, f"{table}: left out {beside!r}, which is no input\n")
    table.write_text("target,width\n1,2\n")  # it may be an input
    assert run(capsys, "certify", path, table)[::2] == (0, "")
    for text in (f"{beside},a,b,c\n7,1,2,3\n", f"{beside},id,a\n1,2,3\n"):
        table.write_text(text)
        status, _, err = run(capsys, "certify", path, table)
        assert status == 2
        assert "see --drop" in err


def test_other_columns_are_left_out_when_told_so(capsys, named):
    _, path, table = named
    table.write_text("town,height,width,year\nRome,1,2,2020\n")
    status, out, _ = run(capsys, "certify", path, table, "--drop", "town, year")
    assert status == 0
    assert "Certified" in out


def test_names_can_be_given(capsys, model, monkeypatch):
    """Of the outputs, and of the inputs, which then decide what a table may hold."""
    names = [
        "--output-names",
        "low, high",
        "--input-names",
        "depth,width",
        "--input-names",
        "height",
    ]
    status, out, _ = run(capsys, "report", *model, *names, "--json")
    derivatives = json.loads(out)["derivatives"]
    assert status == 0
    assert list(derivatives) == ["low", "high"]
    assert list(derivatives["low"]) == ["depth", "width", "height"]
    net, X = jb.load(model[0]), np.arange(12.0).reshape(4, 3)[:, ::-1] / 10
    means = [derivatives["high"][name]["mean"] for name in ("depth", "width", "height")]
    assert np.allclose(means, jb.jacobian(net, X)[:, 1].mean(axis=0), rtol=1e-13)  # as above


def test_points_come_from_standard_input(named):
    _, path, _ = named
    command = [sys.executable, "-m", "jacobians", "certify", str(path), "-"]
    done = subprocess.run(
        command,
        input=b"width,height\n1,2\n",
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 0
    assert b"Certified" in done.stdout


# --- every stream, every mistake ------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_output_is_written_in_any_encoding(encoding):
    """As on Windows, when it is redirected: shades and signs become letters of their own."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONIOENCODING": encoding}
    for arguments in (["report", "digits"], ["derive", "--convention", "003"], ["plan"]):
        done = subprocess.run(
            [sys.executable, "-m", "jacobians", *arguments],
            capture_output=True,
            env=environment,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode(encoding)
        assert "?" not in text
    assert ("\\" in text) == (encoding != "utf-8")


def test_progress_is_told_where_standard_error_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr("jacobians._progress.LINE_SECONDS", 0.0)
    _, _, err = run(capsys, "report", "diabetes", "--json")
    assert err.startswith("sensitivity: 142 of 142 points (100%)\ncertify: 1 of 15 identities")
    assert run(capsys, "report", "diabetes", "--quiet") == (0, "", "")


@pytest.fixture
def saturated(tmp_path):
    """A softmax of logits in the hundreds, and points: nearly all probabilities are 0 or 1."""
    rng = np.random.default_rng(0)
    W = 300 * rng.standard_normal((3, 4))
    net = jb.Network([jb.Dense(W, activation="softmax")], output_names=["cat", "dog", "eel"])
    jb.save(net, tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", rng.standard_normal((40, 4)))
    return [str(tmp_path / "net.npz"), str(tmp_path / "x.npy")], W


def test_log_odds_stand_beside_the_probabilities_of_a_saturated_classifier(
    capsys, saturated, tmp_path
):
    words, W = saturated
    assert "Saturated: at " in run(capsys, "report", *words)[1]
    page = tmp_path / "page.html"
    run(capsys, "report", *words, "--log-odds", "--quiet", "-o", page)
    out = json.loads(run(capsys, "report", *words, "--log-odds", "--json")[1])
    names = ["cat", "dog", "eel", "log-odds of cat", "log-odds of dog", "log-odds of eel"]
    assert list(out["derivatives"]) == names
    text = page.read_text()
    assert all(f"<b>{name}</b>" in text for name in names)
    against = run(capsys, "report", *words, "--against", "dog", "--outputs", "eel", "--json")[1]
    margins = json.loads(against)["derivatives"]
    assert list(margins) == ["eel", "log-odds of eel against dog"]
    means = [row["mean"] for row in margins["log-odds of eel against dog"].values()]
    assert_within(np.array(means), W[2] - W[1], 1e-10)
    for words_of, message in (
        (["--against", "dgo"], "'dgo' is not one of cat, dog, eel; did you mean 'dog'?"),
        (["--against", "cat,dog"], "expected one class"),
        (["--against", "dog", "--outputs", "1"], "'dog' is the only one of --outputs"),
    ):
        status, _, err = run(capsys, "report", *words, *words_of)
        assert (status, message in err) == (2, True)


@pytest.mark.parametrize("command", ["explain", "certify"])
def test_explain_and_certify_tell_progress_too(capsys, monkeypatch, command):
    monkeypatch.setattr("jacobians._progress.LINE_SECONDS", 0.0)
    assert re.search(rf"{command}: \d+ ?.*(points|identities)", run(capsys, command)[2])


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert re.match(r"jacobians \S.*, numpy \d.*, Python 3", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("reprot", "jacobians: no command 'reprot'; did you mean 'report'? (see jacobians --help)"),
        ("zzz", "jacobians: no command 'zzz'; report, certify, jacobian,"),
    ],
)
def test_a_command_that_is_none_is_corrected(capsys, word, message):
    with pytest.raises(SystemExit):
        main([word])
    assert capsys.readouterr().err.startswith(message)


def test_a_mistake_of_the_program_is_called_so(capsys, monkeypatch):
    def broken(*_, **__):
        raise KeyError("W")

    monkeypatch.setattr("jacobians.cli.certify", broken)
    status, _, err = run(capsys, "certify")
    assert status == 70
    assert err.startswith("jacobians certify: internal error: KeyError: 'W' (JACOBIANS_TRACEBACK=1")
    monkeypatch.setenv("JACOBIANS_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["certify"])


WORDS = st.sampled_from(
    [
        *("report", "certify", "jacobian", "plan", "diabetes", "{net}", "{csv}", "{bad}", "{odd}"),
        *("-o", "{folder}/x.html", "{folder}/x.npz", "--json", "--quiet", "--inputs", "--outputs"),
        *("bmi", "0", "-1", "--units", "bmi=kg", "=", ",", "--drop", "", "--max-bytes", "1k"),
        *("9" * 400, "--points", "--confidence", "nan", "1e999", "--replicates", "--batch"),
        *("--dtype", "float32", "--title", "--input-names", "a,b", "ä", "\udcff"),
        *("--output-names", "-", "--", "{folder}", "x.csv"),
    ]
)


@settings(max_examples=150)
@given(words=st.lists(WORDS, max_size=6), text=st.text('1,;\t\n\r"#.-eab ', max_size=30))
def test_no_words_and_no_table_give_a_traceback(words, text, tmp_path_factory):
    """One line for a mistake, and never one of the program's."""
    folder = tmp_path_factory.getbasetemp()
    jb.save(jb.Network.random([2, 2, 1], seed=0), folder / "net.npz")
    (folder / "good.csv").write_text("1,2\n3,4\n")
    (folder / "odd.csv").write_text(text, newline="")
    (folder / "bad.npz").write_bytes(b"PK\3\4" + text.encode())
    paths = {"net": folder / "net.npz", "csv": folder / "good.csv", "odd": folder / "odd.csv"}
    paths |= {"bad": folder / "bad.npz", "folder": folder}
    err, out = io.StringIO(), io.StringIO()
    with redirect_stderr(err), redirect_stdout(out), open(os.devnull) as nothing:
        before, sys.stdin = sys.stdin, nothing
        try:
            status = main([word.format(**paths) for word in words])
        except SystemExit as end:
            status = end.code
        finally:
            sys.stdin = before
    assert status in (0, 1, 2), err.getvalue()
    assert err.getvalue().count("\n") == (status == 2), err.getvalue()
